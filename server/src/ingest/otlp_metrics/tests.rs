//! Each kind of metric, what it becomes and what is refused by name.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data,
    number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::labels::ATTRIBUTES_MAX;
use super::{Translated, native, translate};
use crate::config::{Limits, OtlpMetrics};
use crate::ingest::metric_labels::Rules;
use crate::ingest::otlp_names::Strategy;
use crate::ingest::recorder::Recorder;
use crate::proto::otlp_metrics::{ExponentialPoint, HistogramPoint};
use crate::proto::wire::WireError;

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue {
        value: Some(Value::StringValue(value.into())),
    });
    KeyValue {
        key: key.into(),
        value,
        ..KeyValue::default()
    }
}

fn number(ms: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: ms * 1_000_000,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// A request of metrics under one resource.
fn request(
    resource: &[(&str, &str)],
    metrics: Vec<(&str, &str, Data)>,
) -> ExportMetricsServiceRequest {
    let metrics = metrics
        .into_iter()
        .map(|(name, unit, data)| Metric {
            name: name.into(),
            unit: unit.into(),
            data: Some(data),
            ..Metric::default()
        })
        .collect();
    let attributes = resource
        .iter()
        .map(|(key, value)| attribute(key, value))
        .collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// The rows and what was refused of a request's bytes.
fn run_bytes(
    request: &[u8],
    settings: &OtlpMetrics,
) -> Result<(Vec<String>, Translated), WireError> {
    let limits = Limits {
        metric_label_value_bytes_max: 200,
        ..Limits::default()
    };
    let mut recorder = Recorder::default();
    let mut round = || {
        let translated = translate(request, settings, &Rules::of(&limits), &mut recorder)?;
        let lines = std::mem::take(&mut recorder.lines);
        let known = lines
            .iter()
            .filter(|line| line.starts_with("known "))
            .count();
        let lines = lines.iter().map(|line| line.trim_start_matches("known "));
        Ok((
            lines.map(str::to_owned).collect::<Vec<_>>(),
            translated,
            known,
        ))
    };
    let (lines, translated, known) = round()?;
    assert!(translated.rejections.count() <= translated.points);
    // The same once more, with all series known but those that need not be.
    let (again, translated_again, known_again) = round()?;
    assert_eq!((&again, &translated_again), (&lines, &translated));
    let new = |line: &&String| line.starts_with('{') && !line.contains("target_info");
    assert_eq!(known_again, lines.iter().filter(new).count());
    assert!(known <= known_again);
    Ok((lines, translated))
}

/// The rows and the refusals of a request.
fn run(
    request: &ExportMetricsServiceRequest,
    settings: &OtlpMetrics,
) -> (Vec<String>, u64, String) {
    let (lines, translated) = run_bytes(&request.encode_to_vec(), settings).unwrap();
    let rejections = translated.rejections;
    (lines, rejections.count(), rejections.text("; "))
}

/// A point as a native histogram.
fn native_of(point: &ExponentialHistogramDataPoint) -> Result<trine_tsdb::Histogram, String> {
    let bytes = point.encode_to_vec();
    let mut read = ExponentialPoint::default();
    read.read(&bytes).unwrap();
    native::exponential(&read, false)
}

/// The rows, without metadata, and the refusals of metrics under one resource.
fn check(resource: &[(&str, &str)], metrics: Vec<(&str, &str, Data)>, expect: &[&str], told: &str) {
    let (mut lines, _, text) = run(&request(resource, metrics), &OtlpMetrics::default());
    lines.retain(|line| line.starts_with('{'));
    assert_eq!(lines, expect);
    assert_eq!(text, told);
}

fn gauge(points: Vec<NumberDataPoint>) -> Data {
    let data_points = points;
    Data::Gauge(Gauge { data_points })
}

fn sum(points: Vec<NumberDataPoint>, is_monotonic: bool) -> Data {
    Data::Sum(Sum {
        data_points: points,
        aggregation_temporality: 2,
        is_monotonic,
    })
}

fn exponential(points: Vec<ExponentialHistogramDataPoint>) -> Data {
    Data::ExponentialHistogram(ExponentialHistogram {
        data_points: points,
        aggregation_temporality: 2,
    })
}

fn explicit(points: Vec<HistogramDataPoint>) -> Data {
    Data::Histogram(Histogram {
        data_points: points,
        aggregation_temporality: 2,
    })
}

#[test]
fn gauges_sums_and_the_resource() {
    let mut point = number(1500, 2.0);
    point.attributes = vec![
        attribute("http.route", "/"),
        attribute("b.x", "2"),
        attribute("b-x", "1"),
    ];
    check(
        &[
            ("service.name", "shop"),
            ("service.namespace", "eu"),
            ("service.instance.id", "i1"),
            ("host.name", "h"),
        ],
        vec![
            (
                "queue.size",
                "1",
                Data::Gauge(Gauge {
                    data_points: vec![point],
                }),
            ),
            (
                "requests",
                "{request}",
                Data::Sum(Sum {
                    data_points: vec![number(2000, 7.0)],
                    aggregation_temporality: 2,
                    is_monotonic: true,
                }),
            ),
        ],
        &[
            r#"{__name__="queue_size_ratio", b_x="1;2", http_route="/", instance="i1", job="eu/shop"} 1500 2"#,
            r#"{__name__="requests_total", instance="i1", job="eu/shop"} 2000 7"#,
            r#"{__name__="target_info", host_name="h", instance="i1", job="eu/shop"} 1500 1"#,
            r#"{__name__="target_info", host_name="h", instance="i1", job="eu/shop"} 2000 1"#,
        ],
        "",
    );
}

#[test]
fn histograms_and_summaries() {
    let histogram = HistogramDataPoint {
        time_unix_nano: 1_000_000,
        count: 6,
        sum: Some(4.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 10.0],
        ..HistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano: 1_000_000,
        count: 3,
        sum: 9.0,
        quantile_values: vec![ValueAtQuantile {
            quantile: 0.99,
            value: 4.0,
        }],
        ..SummaryDataPoint::default()
    };
    let data_points = vec![histogram];
    check(
        &[("service.name", "shop")],
        vec![
            (
                "lat",
                "s",
                Data::Histogram(Histogram {
                    data_points,
                    aggregation_temporality: 2,
                }),
            ),
            (
                "old",
                "",
                Data::Summary(Summary {
                    data_points: vec![summary],
                }),
            ),
        ],
        &[
            r#"{__name__="lat_seconds_bucket", job="shop", le="0.5"} 1 1"#,
            r#"{__name__="lat_seconds_bucket", job="shop", le="10"} 1 3"#,
            r#"{__name__="lat_seconds_bucket", job="shop", le="+Inf"} 1 6"#,
            r#"{__name__="lat_seconds_count", job="shop"} 1 6"#,
            r#"{__name__="lat_seconds_sum", job="shop"} 1 4.5"#,
            r#"{__name__="old", job="shop", quantile="0.99"} 1 4"#,
            r#"{__name__="old_sum", job="shop"} 1 9"#,
            r#"{__name__="old_count", job="shop"} 1 3"#,
        ],
        "",
    );
}

#[test]
fn nothing_recorded_is_a_stale_marker() {
    let mut point = number(1, 0.0);
    (point.flags, point.value) = (1, None);
    check(
        &[],
        vec![(
            "up",
            "",
            Data::Gauge(Gauge {
                data_points: vec![point],
            }),
        )],
        &[r#"{__name__="up"} 1 stale"#],
        "",
    );
}

#[test]
fn what_cannot_be_stored_is_refused_by_name_and_the_rest_is_kept() {
    let delta = Sum {
        data_points: vec![number(1, 1.0), number(2, 1.0)],
        aggregation_temporality: 1,
        is_monotonic: true,
    };
    let mut long = number(1, 1.0);
    long.attributes = vec![attribute("long", &"x".repeat(201))];
    let mut nameless = number(1, 1.0);
    nameless.attributes = vec![attribute("é", "x")];
    let mut empty = number(1, 1.0);
    empty.value = None;
    let coarse = ExponentialHistogramDataPoint {
        scale: -5,
        ..ExponentialHistogramDataPoint::default()
    };
    let many = HistogramDataPoint {
        bucket_counts: vec![1, 1, 1],
        explicit_bounds: vec![1.0],
        ..HistogramDataPoint::default()
    };
    let request = request(
        &[],
        vec![
            ("d", "", Data::Sum(delta)),
            ("e", "", exponential(vec![coarse])),
            ("h", "", explicit(vec![many])),
            ("é", "", gauge(vec![number(1, 1.0)])),
            ("g", "", gauge(vec![long, nameless, empty, number(3, 3.0)])),
        ],
    );
    let (lines, count, told) = run(&request, &OtlpMetrics::default());
    assert_eq!(lines.last().unwrap(), r#"{__name__="g"} 3 3"#);
    assert_eq!(count, 2 + 1 + 1 + 1 + 3);
    let (_, translated) = run_bytes(&request.encode_to_vec(), &OtlpMetrics::default()).unwrap();
    assert_eq!(translated.points, 9);
    for expect in [
        "invalid temporality and type combination for metric \"d\": only cumulative",
        "cannot convert exponential to native histogram. Scale must be >= -4, was -5",
        "a histogram of \"h\" has more buckets than bounds",
        "nothing is left of the name of metric \"é\"",
        "received a series whose label value length of 201 exceeds the limit of 200",
        "nothing is left of the name of attribute \"é\"",
        "a point of \"g\" holds no value",
    ] {
        assert!(told.contains(expect), "{told:?} does not say {expect:?}");
    }
}

#[test]
fn exponential_histograms_become_native_ones() {
    let point = ExponentialHistogramDataPoint {
        start_time_unix_nano: 1_000_000,
        time_unix_nano: 2_000_000,
        count: 9,
        sum: Some(4.5),
        scale: 20,
        zero_count: 1,
        positive: Some(Buckets {
            offset: -3,
            bucket_counts: vec![0, 1, 0, 0, 2, 0, 0, 0, 3, 0],
        }),
        negative: Some(Buckets {
            offset: 0,
            bucket_counts: vec![2],
        }),
        ..ExponentialHistogramDataPoint::default()
    };
    let histogram = native_of(&point).unwrap();
    assert_eq!((histogram.schema, histogram.zero_threshold), (20, 1e-128));
    let buckets: Vec<_> = histogram.positive_buckets().collect();
    assert_eq!(buckets, [(-1, 1.0), (0, 0.0), (1, 0.0), (2, 2.0), (6, 3.0)]);
    assert_eq!(histogram.positive_spans.len(), 2);
    let buckets: Vec<_> = histogram.negative_buckets().collect();
    assert_eq!(buckets, [(1, 2.0)]);
    assert!(std::sync::Arc::new(histogram).fitted(160).is_ok());
    let stale = ExponentialHistogramDataPoint {
        flags: 1,
        time_unix_nano: 3_000_000,
        ..ExponentialHistogramDataPoint::default()
    };
    check(
        &[],
        vec![("e", "s", exponential(vec![point.clone(), stale]))],
        &[
            r#"{__name__="e_seconds"} 2 integers schema 20 count 9 sum 4.5 since 1"#,
            r#"{__name__="e_seconds"} 3 integers schema 0 count 0 sum stale since 0"#,
        ],
        "",
    );
    for (offset, count) in [(i32::MAX, 1), (0, u64::MAX)] {
        let bucket_counts = vec![count, 1];
        let point = ExponentialHistogramDataPoint {
            positive: Some(Buckets {
                offset,
                bucket_counts,
            }),
            ..point.clone()
        };
        assert!(native_of(&point).is_err());
    }
    let point = ExponentialHistogramDataPoint {
        scale: 1000,
        ..point
    };
    assert!(native_of(&point).is_err());
}

#[test]
fn explicit_histograms_become_native_ones_when_asked() {
    let point = HistogramDataPoint {
        time_unix_nano: 1_000_000,
        count: 6,
        sum: Some(4.5),
        bucket_counts: vec![0, 3, 3],
        explicit_bounds: vec![0.5, 10.0],
        ..HistogramDataPoint::default()
    };
    let bytes = point.encode_to_vec();
    let mut read = HistogramPoint::default();
    read.read(&bytes).unwrap();
    let histogram = native::custom(&read, false).unwrap();
    assert_eq!(histogram.validate(), Ok(()));
    let buckets: Vec<_> = histogram.positive_buckets().collect();
    assert_eq!(buckets, [(1, 3.0), (2, 3.0)]);
    let settings = OtlpMetrics {
        convert_histograms_to_nhcb: true,
        ..OtlpMetrics::default()
    };
    let request = request(&[], vec![("lat", "s", explicit(vec![point]))]);
    let (lines, _, told) = run(&request, &settings);
    let expect = r#"{__name__="lat_seconds"} 1 integers schema -53 count 6 sum 4.5 since 0"#;
    assert_eq!((lines[1].as_str(), told.as_str()), (expect, ""));
}

#[test]
fn counters_know_when_they_began_and_gauges_do_not() {
    let started = |ms: u64, start: u64| NumberDataPoint {
        start_time_unix_nano: start * 1_000_000,
        ..number(ms, 1.0)
    };
    let points = || vec![started(5, 2), started(6, 6)];
    check(
        &[],
        vec![
            ("c", "", sum(points(), true)),
            ("u", "", sum(points(), false)),
            ("g", "", gauge(points())),
        ],
        &[
            r#"{__name__="c_total"} 5 1 since 2"#,
            r#"{__name__="c_total"} 6 1"#,
            r#"{__name__="u"} 5 1"#,
            r#"{__name__="u"} 6 1"#,
            r#"{__name__="g"} 5 1"#,
            r#"{__name__="g"} 6 1"#,
        ],
        "",
    );
}

#[test]
fn exemplars_go_with_the_bucket_they_were_counted_in() {
    let exemplar = |value: f64, attributes: Vec<KeyValue>| Exemplar {
        time_unix_nano: 7_000_000,
        value: Some(exemplar::Value::AsDouble(value)),
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        filtered_attributes: attributes,
    };
    let ids = format!(
        r#"span_id="{}", trace_id="{}""#,
        "01".repeat(8),
        "ab".repeat(16)
    );
    let few = vec![attribute("k.x", "v")];
    // The ids and their names have 63 characters: one too many.
    let many = vec![attribute("k", &"v".repeat(65))];
    let point = HistogramDataPoint {
        time_unix_nano: 8_000_000,
        count: 2,
        bucket_counts: vec![1, 1],
        explicit_bounds: vec![0.5],
        exemplars: vec![exemplar(9.0, many), exemplar(0.5, few)],
        ..HistogramDataPoint::default()
    };
    let mut counter = number(8, 1.0);
    counter.exemplars = vec![Exemplar {
        value: Some(exemplar::Value::AsInt(3)),
        ..Exemplar::default()
    }];
    check(
        &[],
        vec![
            ("h", "", explicit(vec![point])),
            ("c", "", sum(vec![counter], true)),
        ],
        &[
            r#"{__name__="h_bucket", le="0.5"} 8 1"#,
            &format!(r#"{{__name__="h_bucket", le="0.5"}} exemplar 7 0.5 {{k.x="v", {ids}}}"#),
            r#"{__name__="h_bucket", le="+Inf"} 8 2"#,
            &format!(r#"{{__name__="h_bucket", le="+Inf"}} exemplar 7 9 {{{ids}}}"#),
            r#"{__name__="h_count"} 8 2"#,
            r#"{__name__="c_total"} 8 1"#,
            r#"{__name__="c_total"} exemplar 8 3 {}"#,
        ],
        "",
    );
}

#[test]
fn metrics_say_what_they_are() {
    let mut request = request(
        &[],
        vec![
            ("a.b", "By/s", sum(vec![number(1, 1.0)], true)),
            ("g", "1", gauge(vec![number(1, 1.0)])),
            ("e", "", exponential(vec![Default::default()])),
            ("none", "", gauge(vec![])),
        ],
    );
    request.resource_metrics[0].scope_metrics[0].metrics[0].description = "Why.".into();
    let (mut lines, _, _) = run(&request, &OtlpMetrics::default());
    lines.retain(|line| !line.starts_with('{'));
    assert_eq!(
        lines,
        [
            r#"a_b_bytes_per_second_total is counter "Why." "bytes_per_second""#,
            r#"g_ratio is gauge "" """#,
            r#"e is histogram "" """#,
        ]
    );
}

#[test]
fn settings_say_what_becomes_of_names_and_attributes() {
    let base = || {
        let mut point = number(1, 2.0);
        point.attributes = vec![
            attribute("http.route", "/"),
            attribute("job", "mine"),
            attribute("__name__", "mine"),
            attribute("zone", "point"),
        ];
        let resource = [
            ("service.name", "shop"),
            ("cloud.region", "eu"),
            ("zone", "resource"),
        ];
        let mut request = request(&resource, vec![("a.b", "s", sum(vec![point], true))]);
        let scope = &mut request.resource_metrics[0].scope_metrics[0];
        scope.scope = Some(InstrumentationScope {
            name: "lib".into(),
            version: "1".into(),
            attributes: vec![attribute("x.y", "z")],
            ..InstrumentationScope::default()
        });
        request
    };
    let check = |settings: OtlpMetrics, expect: [&str; 2]| {
        let (lines, count, told) = run(&base(), &settings);
        assert_eq!(
            (&lines[1..], count, told.as_str()),
            (&expect.map(str::to_owned)[..], 0, "")
        );
    };
    let info = r#"{__name__="target_info", cloud_region="eu", job="shop", zone="resource"} 1 1"#;
    let plain = OtlpMetrics::default;
    check(
        plain(),
        [
            r#"{__name__="a_b_seconds_total", http_route="/", job="shop", zone="point"} 1 2"#,
            info,
        ],
    );
    let promoted = r#"{__name__="a_b_seconds_total", cloud_region="eu", http_route="/", job="shop", zone="point"} 1 2"#;
    check(
        OtlpMetrics {
            promote_resource_attributes: vec!["cloud.region".into(), "absent".into()],
            ..plain()
        },
        [promoted, info],
    );
    check(
        OtlpMetrics {
            promote_all_resource_attributes: true,
            ignore_resource_attributes: vec!["service.name".into()],
            ..plain()
        },
        [promoted, info],
    );
    check(
        OtlpMetrics {
            promote_scope_metadata: true,
            ..plain()
        },
        [
            r#"{__name__="a_b_seconds_total", http_route="/", job="shop", otel_scope_name="lib", otel_scope_version="1", otel_scope_x_y="z", zone="point"} 1 2"#,
            info,
        ],
    );
    check(
        OtlpMetrics {
            translation_strategy: Strategy::NoUtf8EscapingWithSuffixes,
            keep_identifying_resource_attributes: true,
            ..plain()
        },
        [
            r#"{__name__="a.b_seconds_total", http.route="/", job="shop", zone="point"} 1 2"#,
            r#"{__name__="target_info", cloud.region="eu", job="shop", service.name="shop", zone="resource"} 1 1"#,
        ],
    );
}

#[test]
fn target_info_is_there_all_the_time() {
    let run = |first: u64, last: u64, resource: &[(&str, &str)]| {
        let points = vec![number(first, 1.0), number(last, 1.0)];
        let (mut lines, _, _) = run(
            &request(resource, vec![("g", "", gauge(points))]),
            &OtlpMetrics::default(),
        );
        lines.retain(|line| line.contains("target_info"));
        let times = lines
            .iter()
            .map(|line| line.split(' ').rev().nth(1).unwrap());
        times
            .map(|time| time.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    let resource = [("service.name", "s"), ("host", "h")];
    assert_eq!(run(5, 5, &resource), [5]);
    assert_eq!(run(5, 150_005, &resource), [5, 150_005]);
    assert_eq!(run(5, 150_006, &resource), [5, 150_005, 150_006]);
    let long = run(0, 1 << 40, &resource);
    assert_eq!(long.len(), 1_000);
    assert_eq!(long.last(), Some(&(1 << 40)));
    assert!(run(5, 5, &resource[..1]).is_empty(), "it would say nothing");
    assert!(
        run(5, 5, &resource[1..]).is_empty(),
        "nothing identifies it"
    );
}

#[test]
fn attributes_have_a_limit_before_they_are_compared() {
    for (count, expect) in [
        (
            ATTRIBUTES_MAX,
            "exceeds the limit (actual: 1026, limit: 64)",
        ),
        (
            ATTRIBUTES_MAX + 1,
            "a point has 1025 attributes, of which at most 1024",
        ),
    ] {
        let names = (0..count).map(|n| format!("a{n:04}"));
        let mut point = number(1, 1.0);
        point.attributes = names.map(|name| attribute(&name, "x")).collect();
        let resource = [("service.name", "s")];
        let request = request(&resource, vec![("g", "", gauge(vec![point]))]);
        let (_, refused, told) = run(&request, &OtlpMetrics::default());
        assert_eq!(refused, 1);
        assert!(told.contains(expect), "{told}");
    }
}
