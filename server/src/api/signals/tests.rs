use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::api::prometheus::run::harness::Harness;
use crate::ingest::otlp_traces;
use crate::tenants::TenantId;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn id() -> Vec<u8> {
    0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128
        .to_be_bytes()
        .to_vec()
}

/// A tenant with a trace that lasts a second, and lines and exemplars of it and of another one.
fn filled(tenant: &str) -> (Harness, i64) {
    let harness = Harness::new(mount, |_| {});
    let now_ns = harness.app.clock.now_ns();
    fill(&harness, tenant, now_ns);
    (harness, now_ns)
}

fn fill(harness: &Harness, tenant: &str, now_ns: i64) {
    let start = now_ns.unsigned_abs();
    let span = Span {
        trace_id: id(),
        span_id: vec![1; 8],
        name: "GET /".to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000_000,
        ..Span::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![span],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let tenant = TenantId::parse(tenant).unwrap();
    otlp_traces::push(&harness.app, &tenant, request.encode_to_vec().into()).unwrap();
    let tenant = harness.app.tenants.get_or_create(&tenant).unwrap();

    let logs = tenant.logs().unwrap();
    let mut appender = logs.appender();
    let labels = Labels::from_pairs([("app", "shop")]).unwrap();
    let named = Labels::from_pairs([("app", "old"), ("traceID", ID)]).unwrap();
    let metadata = |name: &str| Labels::from_pairs([(name, ID)]).unwrap();
    let none = Labels::empty();
    let line = format!("failed: trace={ID}");
    appender.append(&labels, now_ns + 1, line.as_bytes(), &none);
    appender.append(&labels, now_ns + 2, b"by metadata", &metadata("trace_id"));
    appender.append(
        &labels,
        now_ns + 3,
        b"by another name",
        &metadata("traceId"),
    );
    appender.append(&named, now_ns + 4, b"by a label", &none);
    appender.append(&labels, now_ns + 5, b"of another trace", &none);
    let late = now_ns - 61_000_000_000;
    appender.append(&labels, late, line.as_bytes(), &none);
    let commit = appender.commit(trine_logstore::Durability::Buffered);
    assert_eq!(commit.unwrap().wait().unwrap().stored, 6);

    let metrics = tenant.metrics().unwrap();
    let mut appender = metrics.appender();
    let now_ms = now_ns / 1_000_000;
    let labels = Labels::from_pairs([("__name__", "latency_bucket"), ("le", "1")]).unwrap();
    let mut series = appender.series(&labels);
    for (time, name, value) in [
        (now_ms, "trace_id", ID),
        (now_ms + 1, "other", &ID.to_uppercase()),
        (now_ms + 2, "trace_id", "ff"),
        (now_ms - 61_000, "trace_id", ID),
    ] {
        series.exemplar(Exemplar {
            timestamp: time,
            value: 0.5,
            labels: Labels::from_pairs([(name, value)]).unwrap(),
        });
    }
    let commit = appender.commit(trine_tsdb::Durability::Buffered).unwrap();
    commit.wait().unwrap();
}

async fn ask(harness: &Harness, path: &str, tenant: &str) -> (u16, Value) {
    let request = http::Request::get(path).header("X-Scope-OrgID", tenant);
    let answer = harness.send(request.body(axum::body::Body::empty()).unwrap());
    let answer = answer.await;
    let text = answer.text().to_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (answer.status, body)
}

fn lines(answer: &Value) -> Vec<(String, String)> {
    let streams = answer["logs"].as_array().unwrap().iter();
    let lines = streams.flat_map(|stream| {
        let values = stream["values"].as_array().unwrap().iter();
        values.map(|value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                text(&value[1]),
                stream["stream"].to_string() + &value[2].to_string(),
            )
        })
    });
    lines.collect()
}

#[tokio::test]
async fn a_trace_comes_with_its_lines_and_exemplars() {
    let (harness, now_ns) = filled("a");
    let (status, answer) = ask(&harness, &format!("/api/signals/{ID}"), "a").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["traceId"], ID);
    let spans = &answer["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans[0]["name"], "GET /", "{answer}");
    assert_eq!(
        answer["startTimeUnixNano"],
        (now_ns - 60_000_000_000).to_string()
    );
    assert_eq!(
        answer["endTimeUnixNano"],
        (now_ns + 61_000_000_000).to_string()
    );
    let failed = format!("failed: trace={ID}");
    let by_name = |name: &str| json!({ "structuredMetadata": { name: ID } }).to_string();
    let shop = r#"{"app":"shop"}"#;
    assert_eq!(
        lines(&answer),
        [
            (
                "by a label".to_owned(),
                format!(r#"{{"app":"old","traceID":"{ID}"}}{{}}"#)
            ),
            (failed, format!("{shop}{{}}")),
            (
                "by metadata".to_owned(),
                shop.to_owned() + &by_name("trace_id")
            ),
            (
                "by another name".to_owned(),
                shop.to_owned() + &by_name("traceId")
            ),
        ]
    );
    let series = &answer["exemplars"];
    assert_eq!(
        series[0]["seriesLabels"],
        json!({ "__name__": "latency_bucket", "le": "1" })
    );
    let exemplars = series[0]["exemplars"].as_array().unwrap();
    assert_eq!(exemplars.len(), 2, "{series}");
    assert_eq!(exemplars[0]["labels"], json!({ "trace_id": ID }));
    assert_eq!(answer["notices"], json!([]));

    // Twice as far, and no further than the spans.
    for (slack, count) in [("120", 5), ("60", 4), ("0", 4)] {
        let path = format!("/api/signals/{ID}?slack={slack}");
        let (_, answer) = ask(&harness, &path, "a").await;
        assert_eq!(lines(&answer).len(), count, "{slack}: {answer}");
    }
}

#[tokio::test]
async fn what_is_more_than_the_limit_is_told() {
    let (harness, _) = filled("a");
    for (limit, lines_max, exemplars_max, notices) in [
        (4, 4, 2, 0),
        (3, 3, 2, 1),
        (2, 2, 2, 2),
        (1, 1, 1, 2),
        (0, 0, 0, 2),
    ] {
        let path = format!("/api/signals/{ID}?limit={limit}");
        let (status, answer) = ask(&harness, &path, "a").await;
        assert_eq!(status, 200);
        assert_eq!(lines(&answer).len(), lines_max, "{limit}: {answer}");
        let series = answer["exemplars"].as_array().unwrap().iter();
        let exemplars = series.map(|series| series["exemplars"].as_array().unwrap().len());
        assert_eq!(exemplars.sum::<usize>(), exemplars_max, "{limit}: {answer}");
        assert_eq!(
            answer["notices"].as_array().unwrap().len(),
            notices,
            "{limit}: {answer}"
        );
    }
    for (params, why) in [
        (
            "limit=10001",
            "invalid limit: must be a number from 0 to 10000",
        ),
        ("limit=x", "invalid limit: must be a number from 0 to 10000"),
        (
            "slack=86401",
            "invalid slack: must be a number from 0 to 86400",
        ),
        (
            "start=1",
            "only one of start and end provided: must provide both or neither",
        ),
    ] {
        let path = format!("/api/signals/{ID}?{params}");
        assert_eq!(
            ask(&harness, &path, "a").await,
            (400, json!(why)),
            "{params}"
        );
    }
    let (status, why) = ask(&harness, "/api/signals/xyz", "a").await;
    assert_eq!(status, 400);
    assert!(why.as_str().unwrap().contains("hex characters"), "{why}");
}

#[tokio::test]
async fn several_tenants_are_one_and_others_are_not_seen() {
    let (harness, now_ns) = filled("a");
    fill(&harness, "b", now_ns);
    let path = format!("/api/signals/{ID}");
    let (status, answer) = ask(&harness, &path, "a|b").await;
    assert_eq!(status, 200);
    assert_eq!(
        answer["trace"]["resourceSpans"].as_array().unwrap().len(),
        2
    );
    assert_eq!(lines(&answer).len(), 8);
    let tenants = answer["exemplars"].as_array().unwrap().iter();
    let tenants: Vec<_> = tenants
        .map(|series| &series["seriesLabels"]["__tenant_id__"])
        .collect();
    assert_eq!(tenants, ["a", "b"]);
    let empty = json!({
        "trace": {}, "logs": [], "exemplars": [], "notices": [], "traceId": ID,
    });
    let (status, mut answer) = ask(&harness, &path, "c").await;
    for name in ["startTimeUnixNano", "endTimeUnixNano"] {
        answer.as_object_mut().unwrap().remove(name);
    }
    assert_eq!((status, answer), (200, empty));
    assert_eq!(harness.tenants(), 2, "reading creates no tenant");
}

#[test]
fn where_to_look_follows_the_spans_the_request_or_the_clock() {
    let now = 10_000 * SECOND_NS;
    let span = |start_ns, end_ns| trine_tracestore::Span {
        start_ns,
        end_ns,
        ..trine_tracestore::Span::default()
    };
    let mut trace = Trace::default();
    assert_eq!(
        range(&trace, TimeRange::ALL, 5, now),
        TimeRange::new(now - LOOK_BACK_S * SECOND_NS, now)
    );
    let told = TimeRange::new(1, 2);
    assert_eq!(range(&trace, told, 5, now), told);
    let spans = [(20, 30), (10, 15), (u64::MAX, 0)];
    trace.resources.push(trine_tracestore::ResourceSpans {
        resource: Arc::default(),
        scopes: vec![trine_tracestore::ScopeSpans {
            scope: Arc::default(),
            spans: spans.map(|(start, end)| span(start, end)).to_vec(),
        }],
    });
    assert_eq!(range(&trace, told, 5, now), TimeRange::new(5, 35));
    assert_eq!(
        texts(1u128.to_be_bytes()),
        [format!("{:032x}", 1), format!("{:016x}", 1)]
    );
    assert_eq!(texts([1; 16]).len(), 1);
}
