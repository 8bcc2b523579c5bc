//! Spans go in, metrics of them come out of PromQL, as Grafana's view of service graphs asks for them.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use serde_json::Value;

use crate::harness::Running;
use crate::query::path;
use crate::wire::now_ms;

/// How often it is asked for what comes with a round, every 100 ms.
const TRIES_MAX: u32 = 300;

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// Spans of one service that end now.
fn of(service: &str, spans: &[(i32, u8, u8, bool)]) -> ResourceSpans {
    let now = u64::try_from(now_ms()).unwrap() * 1_000_000;
    let spans = spans.iter().map(|(kind, id, parent, failed)| Span {
        trace_id: vec![7; 16],
        span_id: vec![*id; 8],
        parent_span_id: if *parent == 0 {
            Vec::new()
        } else {
            vec![*parent; 8]
        },
        name: format!("GET /{service}"),
        kind: *kind,
        start_time_unix_nano: now - 3_000_000,
        end_time_unix_nano: now,
        status: failed.then(|| Status {
            code: 2,
            ..Status::default()
        }),
        ..Span::default()
    });
    let name = AnyValue {
        value: Some(any_value::Value::StringValue(service.to_owned())),
    };
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![KeyValue {
                key: "service.name".to_owned(),
                value: Some(name),
                ..KeyValue::default()
            }],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans: spans.collect(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn send(running: &Running, tenant: &str, resource_spans: Vec<ResourceSpans>) {
    let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let request = running.post("/v1/traces").tenant(tenant);
    let answer = request.body("application/x-protobuf", body).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What a query gives now: labels and value of each series.
fn ask(running: &Running, tenant: &str, query: &str) -> Vec<(Value, f64)> {
    let query = path("/api/v1/query", &[("query", query)]);
    let answer = running.get(&query).tenant(tenant).send().json();
    let series = answer["data"]["result"]
        .as_array()
        .expect("a vector")
        .iter();
    let series = series.map(|series| {
        let value = series["value"][1].as_str().unwrap();
        (series["metric"].clone(), value.parse().unwrap())
    });
    series.collect()
}

/// Waits for a query to give something.
fn wait_for(running: &Running, tenant: &str, query: &str) -> Vec<(Value, f64)> {
    for _ in 0..TRIES_MAX {
        let found = ask(running, tenant, query);
        if !found.is_empty() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{query} gives nothing");
}

fn shop() -> Vec<ResourceSpans> {
    vec![
        of(
            "web",
            &[
                (SERVER, 1, 0, false),
                (CLIENT, 2, 1, false),
                (CLIENT, 3, 1, true),
            ],
        ),
        of("shop", &[(SERVER, 4, 2, false), (SERVER, 5, 3, true)]),
    ]
}

#[test]
fn grafanas_service_graph_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.generator.collection_interval = Duration::from_secs(1);
    });
    send(&running, "a", shop());
    let graph = wait_for(&running, "a", "traces_service_graph_request_total");
    assert_eq!(graph.len(), 1, "{graph:?}");
    let (labels, value) = &graph[0];
    assert_eq!(
        (&labels["client"], &labels["server"]),
        (&"web".into(), &"shop".into())
    );
    assert_eq!(*value, 2.0);
    // The queries of the view, with `$__range` as an hour.
    let rate = "sum by (client, server) (increase(traces_service_graph_request_total[1h]))";
    let increase = ask(&running, "a", rate);
    assert!(
        increase[0].1 >= 2.0,
        "the zero before it counts: {increase:?}"
    );
    for (query, series) in [
        (
            "sum by (client, server) (rate(traces_service_graph_request_failed_total[1h]))",
            1,
        ),
        (
            "sum by (client, server) (rate(traces_service_graph_request_server_seconds_sum[1h]))",
            1,
        ),
        (
            "histogram_quantile(.9, sum by (le, client, server) (rate(traces_service_graph_request_server_seconds_bucket[1h])))",
            1,
        ),
        (
            "topk(5, sum(rate(traces_spanmetrics_calls_total{span_kind=\"SPAN_KIND_SERVER\"}[1h])) by (span_name))",
            2,
        ),
        (
            "topk(5, sum(rate(traces_spanmetrics_calls_total{status_code=\"STATUS_CODE_ERROR\",span_name=~\"GET /shop|GET /web\"}[1h])) by (span_name))",
            2,
        ),
        (
            "histogram_quantile(.9, sum(rate(traces_spanmetrics_latency_bucket{span_name=~\"GET /shop\"}[1h])) by (le))",
            1,
        ),
    ] {
        let found = ask(&running, "a", query);
        assert_eq!(found.len(), series, "{query}: {found:?}");
        assert!(
            found.iter().all(|(_, value)| *value > 0.0),
            "{query}: {found:?}"
        );
    }
    let exemplars = [
        ("query", "traces_spanmetrics_latency_bucket"),
        ("start", "0"),
        ("end", "9999999999"),
    ];
    let exemplars = running
        .get(&path("/api/v1/query_exemplars", &exemplars))
        .tenant("a")
        .send();
    assert!(
        exemplars.text().contains(&"07".repeat(16)),
        "{}",
        exemplars.text()
    );
    assert_eq!(ask(&running, "b", "traces_spanmetrics_calls_total"), []);

    let figures = running.get("/metrics").send();
    let received = "tempo_metrics_generator_spans_received_total{tenant=\"a\"} 5\n";
    assert!(figures.text().contains(received), "{}", figures.text());
    running.stop();
}

#[test]
fn what_was_counted_is_stored_before_the_end_and_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    send(&running, "a", shop());
    // A request that comes again is the same spans.
    running.stop();
    let running = Running::start(dir.path(), |config| {
        config.generator.collection_interval = Duration::from_secs(1);
    });
    let calls = "sum(traces_spanmetrics_calls_total{service=\"web\"})";
    assert_eq!(ask(&running, "a", calls)[0].1, 3.0);
    send(&running, "a", vec![of("web", &[(SERVER, 9, 0, false)])]);
    let resets = "resets(traces_spanmetrics_calls_total{service=\"web\",span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_UNSET\"}[1h]) > 0";
    wait_for(&running, "a", resets);
    running.stop();
}

#[test]
fn a_tenant_may_be_without() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.generator.collection_interval = Duration::from_secs(1);
        let mut without = config.clone();
        without.generator.processors = Vec::new();
        config.overrides.insert("quiet".to_owned(), without);
    });
    send(&running, "quiet", shop());
    send(&running, "loud", shop());
    wait_for(&running, "loud", "traces_spanmetrics_calls_total");
    assert_eq!(ask(&running, "quiet", "{__name__=~\"traces_.*\"}"), []);
    running.stop();
}
