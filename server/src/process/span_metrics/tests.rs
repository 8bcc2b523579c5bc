use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use trine_tracestore::{ResourceView, SpanReader, StoredSpans};

use super::*;
use crate::process::requests::{START_MS, attribute, failed, of, request, shown, span, text};

/// A processor by itself.
struct Alone {
    metrics: SpanMetrics,
    room: Room,
    resource: Option<OfResource>,
    left_out: u64,
}

impl SpanReader for Alone {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        self.resource = Some(self.metrics.of_resource(&resource.attributes()));
    }

    fn span(&mut self, span: &SpanView<'_, '_>) {
        let arrival = Arrival {
            resource: self.resource.as_ref().unwrap(),
            span,
            now_ms: START_MS,
        };
        self.left_out += u64::from(!self.metrics.count(&arrival, &mut self.room));
    }
}

fn schema() -> Schema {
    Schema {
        counters: &[],
        histograms: &[],
        bounds: Vec::new(),
        form: crate::config::generator::HistogramForm::Classic,
        native_schema: 3,
        native_buckets_max: 100,
        facts: false,
    }
}

/// The series of `spans` with settings in the form of the file, and how many spans were left out.
fn series(settings: &str, spans: &StoredSpans) -> (BTreeMap<String, f64>, u64) {
    let mut generator: Generator =
        serde_json::from_value(serde_json::json!({ "processors": ["span-metrics"] })).unwrap();
    if !settings.is_empty() {
        generator.processor.span_metrics = serde_saphyr::from_str(settings).unwrap();
    }
    let mut alone = Alone {
        metrics: SpanMetrics::new(&generator, &schema()).unwrap(),
        room: Room::default(),
        resource: None,
        left_out: 0,
    };
    spans.read(&mut alone).unwrap();
    let mut found = BTreeMap::new();
    let round = Round {
        idle_before_ms: 0,
        trace_label: "trace_id",
    };
    alone.metrics.tell(round, &mut alone.room, &mut |_, told| {
        let (labels, value) = shown(&told);
        assert_eq!(found.insert(labels.to_string(), value), None);
    });
    (found, alone.left_out)
}

/// The labels of the series of calls, without those that are always there, and their values.
fn calls(settings: &str, spans: &StoredSpans) -> Vec<(String, f64)> {
    let found = series(settings, spans).0.into_iter();
    let calls = found.filter(|(labels, _)| labels.contains("traces_spanmetrics_calls_total"));
    let short = |labels: String| {
        labels
            .replace(r#"__name__="traces_spanmetrics_calls_total""#, "")
            .replace(r#", service="a", span_kind="SPAN_KIND_SERVER", span_name="span 1", status_code="STATUS_CODE_UNSET""#, "")
    };
    calls
        .map(|(labels, value)| (short(labels), value))
        .collect()
}

fn with(attributes: Vec<KeyValue>, span: Span) -> Span {
    Span { attributes, ..span }
}

#[test]
fn spans_are_counted_by_service_name_kind_and_status() {
    let server = span(2, (1, 0), 3);
    let bytes = prost::Message::encoded_len(&server) as f64;
    let spans = request(vec![
        of(
            "a",
            vec![
                server.clone(),
                span(2, (1, 0), 5),
                failed(span(3, (2, 1), 20_000)),
            ],
        ),
        of("b", vec![server.clone()]),
        (Vec::new(), vec![span(9, (3, 1), 1)]),
    ]);
    let (found, left_out) = series("", &spans);
    assert_eq!(left_out, 0);
    let of_a = r#"service="a", span_kind="SPAN_KIND_SERVER", span_name="span 1", status_code="STATUS_CODE_UNSET"}"#;
    let value = |name: &str, rest: &str| {
        found
            .get(&format!("{{__name__=\"{name}\", {rest}"))
            .copied()
    };
    assert_eq!(value("traces_spanmetrics_calls_total", of_a), Some(2.0));
    assert_eq!(
        value("traces_spanmetrics_size_total", of_a),
        Some(2.0 * bytes)
    );
    assert_eq!(value("traces_spanmetrics_latency_count", of_a), Some(2.0));
    assert_eq!(value("traces_spanmetrics_latency_sum", of_a), Some(0.008));
    for (le, count) in [
        ("0.002", 0.0),
        ("0.004", 1.0),
        ("0.008", 2.0),
        ("16.384", 2.0),
        ("+Inf", 2.0),
    ] {
        let rest = format!("le=\"{le}\", {of_a}");
        assert_eq!(
            value("traces_spanmetrics_latency_bucket", &rest),
            Some(count),
            "{le}"
        );
    }
    let failed = r#"service="a", span_kind="SPAN_KIND_CLIENT", span_name="span 2", status_code="STATUS_CODE_ERROR"}"#;
    assert_eq!(value("traces_spanmetrics_calls_total", failed), Some(1.0));
    let last = format!("le=\"16.384\", {failed}");
    assert_eq!(value("traces_spanmetrics_latency_bucket", &last), Some(0.0));
    let nobody = r#"span_kind="9", span_name="span 3", status_code="STATUS_CODE_UNSET"}"#;
    assert_eq!(value("traces_spanmetrics_calls_total", nobody), Some(1.0));
    // Two rows of `a`, one of `b`, one of nobody.
    assert_eq!(found.len(), 4 * (2 + 2 + 15));
    let one = found
        .keys()
        .filter(|labels| labels.contains(r#"service="b""#));
    assert_eq!(one.count(), 2 + 2 + 15);
}

#[test]
fn attributes_become_labels() {
    let resource = vec![
        text("service.name", "a"),
        text("service.namespace", "shop"),
        text("service.instance.id", "i-1"),
        text("region", "eu"),
        text("both", "of the resource"),
    ];
    let attributes = vec![
        text("http.route", "/x"),
        attribute("n", Value::IntValue(7)),
        attribute("f", Value::DoubleValue(0.5)),
        attribute("t", Value::BoolValue(true)),
        text("both", "of the span"),
        text("status_code", "own"),
        text("http.route", "/second"),
        text("long", &"x".repeat(5000)),
    ];
    let spans = request(vec![(resource, vec![with(attributes, span(2, (1, 0), 1))])]);
    let long = "x".repeat(2048);
    for (settings, expect) in [
        (
            "dimensions: [http.route, region, missing]",
            r#"{, http_route="/x", region="eu"}"#,
        ),
        ("dimensions: [n, f, t]", r#"{, f="0.5", n="7"}"#),
        ("dimensions: [both]", r#"{, both="of the resource"}"#),
        (
            "dimensions: [http.route, http_route]",
            r#"{, http_route="/x"}"#,
        ),
        ("dimensions: [long]", &format!("{{, long=\"{long}\"}}")),
        (
            "dimension_mappings: [{name: a.b, source_labels: [region, none, n], join: /}]",
            r#"{, a_b="eu/7"}"#,
        ),
        (
            "dimension_mappings: [{name: b, source_labels: [region, n]}]",
            r#"{, b="eu7"}"#,
        ),
        (
            "dimension_mappings: [{name: b, source_labels: [none]}]",
            "{}",
        ),
        (
            "enable_target_info: true",
            r#"{, instance="i-1", job="shop/a"}"#,
        ),
        (
            "{enable_target_info: true, enable_instance_label: false}",
            r#"{, job="shop/a"}"#,
        ),
    ] {
        let found = calls(settings, &spans);
        // Labels are sorted, so that some stand behind those that are left out here.
        let expect = expect.to_owned();
        let found: Vec<_> = found
            .into_iter()
            .map(|(labels, n)| (labels.replace(r#", t="true""#, ""), n))
            .collect();
        assert_eq!(found, [(expect, 1.0)], "{settings}");
    }
    let (found, _) = series("dimensions: [status_code]", &spans);
    assert!(
        found
            .keys()
            .all(|labels| labels.contains(r#"__status_code="own""#))
    );
    let none = "intrinsic_dimensions: {service: false, span_name: false, span_kind: false, \
                status_code: false, status_message: true}";
    let (found, _) = series(none, &spans);
    assert!(
        found.contains_key(r#"{__name__="traces_spanmetrics_calls_total"}"#),
        "{found:?}"
    );
}

#[test]
fn resources_are_facts() {
    let resource = |extra: Vec<KeyValue>| {
        let own = [text("service.name", "a"), text("service.instance.id", "i")];
        own.into_iter().chain(extra).collect::<Vec<_>>()
    };
    let spans = request(vec![
        (
            resource(vec![
                text("k8s.pod", "p"),
                text("sdk.version", "1"),
                text("job", "own"),
            ]),
            vec![span(2, (1, 0), 1)],
        ),
        // Nothing to tell, and nobody to tell it of.
        (resource(Vec::new()), vec![span(2, (2, 0), 1)]),
        (vec![text("k8s.pod", "q")], vec![span(2, (3, 0), 1)]),
    ]);
    let facts = |settings: &str| {
        let found = series(settings, &spans).0.into_iter();
        let found = found.filter(|(labels, _)| labels.contains("traces_target_info"));
        found.collect::<Vec<_>>()
    };
    let on = "{enable_target_info: true, target_info_excluded_dimensions: [sdk.version]}";
    assert_eq!(
        facts(on),
        [(
            r#"{__job="own", __name__="traces_target_info", instance="i", job="a", k8s_pod="p"}"#
                .to_owned(),
            1.0
        )]
    );
    assert_eq!(facts("enable_target_info: false"), []);
}

#[test]
fn filter_policies_say_what_counts() {
    let resource = vec![text("service.name", "a"), text("region", "eu-1")];
    let spans = request(vec![(
        resource,
        vec![
            with(
                vec![text("tier", "gold"), attribute("n", Value::IntValue(3))],
                span(2, (1, 0), 1),
            ),
            with(vec![text("tier", "dev-1")], failed(span(1, (2, 0), 1))),
            span(3, (3, 0), 1),
        ],
    )]);
    let policy = |what: &str, kind: &str, pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(key, value)| format!("{{key: {key}, value: {value}}}"));
        let pairs = pairs.collect::<Vec<_>>().join(", ");
        format!("{{{what}: {{match_type: {kind}, attributes: [{pairs}]}}}}")
    };
    let server = policy("include", "strict", &[("kind", "SPAN_KIND_SERVER")]);
    for (policies, left) in [
        (vec![server.clone()], vec![1]),
        (
            vec![policy(
                "include",
                "strict",
                &[("status", "STATUS_CODE_ERROR")],
            )],
            vec![2],
        ),
        (
            vec![policy("include", "strict", &[("name", "span 3")])],
            vec![3],
        ),
        (
            vec![policy(
                "include",
                "strict",
                &[("span.tier", "gold"), ("span.n", "3")],
            )],
            vec![1],
        ),
        (
            vec![policy(
                "include",
                "strict",
                &[("span.tier", "gold"), ("span.n", "4")],
            )],
            vec![],
        ),
        (
            vec![policy("include", "regex", &[("span.tier", "dev-.*")])],
            vec![2],
        ),
        (
            vec![policy("include", "regex", &[("resource.region", "eu-.*")])],
            vec![1, 2, 3],
        ),
        (
            vec![policy("include", "strict", &[("span.region", "eu-1")])],
            vec![],
        ),
        (
            vec![policy("exclude", "regex", &[("span.tier", ".*")])],
            vec![3],
        ),
        (
            vec![
                server.clone(),
                policy("exclude", "strict", &[("span.tier", "gold")]),
            ],
            vec![],
        ),
        (
            vec![
                server.clone(),
                policy("include_any", "strict", &[("name", "span 3")]),
            ],
            vec![1, 3],
        ),
        (
            vec![policy("include_any", "strict", &[("name", "span 3")])],
            vec![3],
        ),
    ] {
        let settings = format!("filter_policies: [{}]", policies.join(", "));
        let (found, left_out) = series(&settings, &spans);
        let is_left = |n: &i32| {
            let name = format!("span_name=\"span {n}\"");
            found.keys().any(|labels| labels.contains(&name))
        };
        let found_names: Vec<i32> = (1..=3).filter(is_left).collect();
        assert_eq!(found_names, left, "{settings}");
        assert_eq!(left_out, 3 - left.len() as u64, "{settings}");
    }
}

#[test]
fn a_span_that_stands_for_several_counts_for_them() {
    let quarter = with(
        vec![attribute("ratio", Value::DoubleValue(0.25))],
        span(2, (1, 0), 1),
    );
    let half = Span {
        trace_state: "ot=th:8".to_owned(),
        ..quarter.clone()
    };
    let spans = request(vec![of("a", vec![quarter, half])]);
    let total = |settings: &str| {
        let (found, _) = series(settings, &spans);
        let of = |name: &str| {
            let found = found.iter().filter(|(labels, _)| labels.contains(name));
            found.map(|(_, value)| value).sum::<f64>()
        };
        (of("calls_total"), of("latency_count"))
    };
    assert_eq!(total(""), (2.0, 2.0));
    assert_eq!(total("span_multiplier_key: ratio"), (8.0, 8.0));
    let both = "{span_multiplier_key: ratio, enable_tracestate_span_multiplier: true}";
    assert_eq!(total(both), (6.0, 6.0));
}
