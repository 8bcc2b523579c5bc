//! The handlers of Tempo's API.

mod by_id;
mod grafana;
mod shop;
mod strict;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use prost::Message as _;
use trine_tracestore::{AnyValue, Durability, KeyValue, Resource, Scope, Span};

use super::mount;
use crate::api::prometheus::run::harness::{Answer, Harness};
use crate::proto::tempo::{PartialStatus, Trace, TraceByIdResponse};

async fn ask(harness: &Harness, path: &str, accept: &str) -> Answer {
    ask_as(harness, "", path, accept).await
}

async fn ask_as(harness: &Harness, tenants: &str, path: &str, accept: &str) -> Answer {
    let request = Request::get(format!("/api/{path}"))
        .header("Accept", accept)
        .header("X-Scope-OrgID", tenants);
    harness.send(request.body(Body::empty()).unwrap()).await
}

/// What a search took that found nothing.
const NO_TRACES: &str = r#"{"traces":[],"metrics":{"completedJobs":1,"totalJobs":1}}"#;

#[tokio::test]
async fn answers_of_an_empty_store() {
    let harness = Harness::new(mount, |_| {});
    let keywords = r#"{"tagValues":[{"type":"keyword","value":"error"},{"type":"keyword","value":"ok"},{"type":"keyword","value":"unset"}],"metrics":{}}"#;
    let none = r#"{"tagValues":[],"metrics":{}}"#;
    let no_series = r#"{"series":[],"metrics":{"completedJobs":1,"totalJobs":1}}"#;
    let zero = r#"{"series":[{"labels":[{"key":"__name__","value":{"stringValue":"rate"}}]}],"metrics":{"completedJobs":1,"totalJobs":1}}"#;
    for (path, text) in [
        ("echo", "echo"),
        ("search?q={}&start=1&end=2&limit=20&spss=3", NO_TRACES),
        ("search", NO_TRACES),
        ("search?tags=service.name=a&minDuration=1ms", NO_TRACES),
        ("v2/traces/1?start=1&end=2", r#"{"trace":{}}"#),
        ("search/tags", r#"{"tagNames":[],"metrics":{}}"#),
        (
            "v2/search/tags?scope=span&limit=5000",
            r#"{"scopes":[],"metrics":{}}"#,
        ),
        (
            "v2/search/tags?limit=2",
            r#"{"scopes":[{"name":"intrinsic","tags":["duration","event:name"]}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/status/values?limit=5000&tag=status",
            keywords,
        ),
        (
            "search/tag/status/values?limit=1",
            r#"{"tagValues":["error"],"metrics":{}}"#,
        ),
        ("v2/search/tag/span%253Astatus/values", keywords),
        ("v2/search/tag/duration/values", none),
        ("v2/search/tag/trace:id/values", none),
        ("v2/search/tag/resource.service.name/values", none),
        ("v2/search/tag/span.a/b/values/values?start=1&end=2", none),
        ("search/tag/service.name/values", none),
        (
            "metrics/query_range?q={}|rate()%20by(name)&start=10&end=20",
            no_series,
        ),
        (
            "metrics/query?query={}|rate()%20by(name)&start=10&end=20",
            no_series,
        ),
        // That there are no spans is a rate, too.
        ("metrics/query?query={}|rate()&start=10&end=20", zero),
    ] {
        let answer = ask(&harness, path, "application/json").await;
        assert_eq!(answer.told(), (200, text), "{path}");
    }
    assert_eq!(harness.tenants(), 0, "reading creates nothing");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() {
    let harness = Harness::new(mount, |_| {});
    for (path, status, text) in [
        (
            "search?limit=0",
            400,
            "invalid limit: must be a positive number",
        ),
        (
            "search?limit=262145",
            400,
            "limit 262145 exceeds max limit 262144",
        ),
        (
            "search?spss=101",
            400,
            "spans per span set exceeds 100. received 101",
        ),
        (
            "search?q={}&tags=a=b",
            400,
            "invalid request: can't specify tags and q in the same query",
        ),
        (
            "search?start=1&end=604802&q={}",
            400,
            "range specified by start and end exceeds 168h0m0s. received start=1 end=604802",
        ),
        (
            "traces/2f3e0cee77ae5dc9c17ade3689eb2e54",
            404,
            "trace not found",
        ),
        (
            "traces/xyz",
            400,
            "trace IDs can only contain hex characters: invalid character 'x' at position 1",
        ),
        (
            "v2/traces/g",
            400,
            "trace IDs can only contain hex characters: invalid character 'g' at position 1",
        ),
        (
            "v2/traces/1?start=5",
            400,
            "only one of start and end provided: must provide both or neither",
        ),
        (
            "v2/traces/1?q={}|count()%3E1",
            400,
            "invalid TraceQL query: only a query of one filter is supported: { ... }",
        ),
        (
            "v2/traces/1?q={nestedSetParent=1}",
            400,
            "invalid TraceQL query: nestedSetParent is not supported in this filter",
        ),
        (
            "v2/traces/1?q={true}&match_depth=-2",
            400,
            "invalid match_depth: must be a number of levels, or -1 for all of them",
        ),
        ("v2/search/tags?scope=x", 400, "invalid scope: x"),
        ("v2/search/tag/span.a", 404, "404 page not found"),
        (
            "v2/search/tags?start=9&end=8",
            400,
            "http parameter start must be before end. received start=9 end=8",
        ),
        (
            "metrics/query_range?q={}|rate()&start=20&end=10",
            400,
            "end must be greater than start",
        ),
        (
            "metrics/query_range?q={}|rate()&start=10&end=20&step=0",
            400,
            "step must be greater than 0",
        ),
        (
            "metrics/query_range?q={}|rate()&start=10&end=86411",
            400,
            "metrics query time range exceeds the maximum allowed duration of 24h0m0s",
        ),
        (
            "metrics/query?q={}|rate()&start=10&end=86411",
            400,
            "metrics query time range exceeds the maximum allowed duration of 24h0m0s",
        ),
        (
            "metrics/query_range?q={}|rate()&start=10&end=20&step=1ms&exemplars=x",
            400,
            "invalid exemplars: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "metrics/query_range?q={}|rate()&start=10&end=40&step=1ms",
            400,
            "step of 1ms is too small, minimum step for given range is 3ms",
        ),
        ("metrics/summary?q={}", 404, ""),
    ] {
        let answer = ask(&harness, path, "application/json").await;
        assert_eq!(answer.told(), (status, text), "{path}");
    }
    for path in [
        "search?q={",
        "v2/traces/1?q={",
        "metrics/query_range?q={&start=1&end=2",
    ] {
        let answer = ask(&harness, path, "*/*").await;
        let text = answer.text();
        assert_eq!(answer.status, 400, "{path}");
        assert!(
            text.starts_with("invalid TraceQL query: parse error at line 1, col "),
            "{path}: {text}"
        );
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    let answer = ask(&harness, "v2/search/tag/service.name/values", "*/*").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text()
            .starts_with("please provide a valid tagName: ")
    );
    assert_eq!(harness.tenants(), 0, "reading creates nothing");
}

#[tokio::test]
async fn limits_are_settings() {
    let harness = Harness::new(mount, |config| {
        config.traces.search_duration_max = Duration::ZERO;
        config.traces.spans_per_set_max = 0;
        config.traces.query_bytes_max = 3;
    });
    for (path, status) in [
        ("search?start=1&end=4294967295&spss=4294967295", 200),
        ("search?q={%20}", 200),
        ("search?q={%20%20}", 400),
        ("v2/search/tags?q={%20%20}", 400),
        ("v2/traces/1?q={%20%20}", 400),
        ("metrics/query?q={}|rate()&start=1&end=2", 400),
    ] {
        assert_eq!(ask(&harness, path, "*/*").await.status, status, "{path}");
    }
    let answer = ask(&harness, "search?q={%20%20}", "*/*").await;
    let why = "TraceQL expression exceeds the configured maximum size of 3 bytes, reduce the query \
               expression size or contact your system administrator";
    assert_eq!(answer.text(), why);
}

#[tokio::test]
async fn limits_are_told() {
    let harness = Harness::new(mount, |_| {});
    let answer = ask(&harness, "overrides?scope=merged", "*/*").await;
    assert_eq!(answer.status, 200);
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(told["read"]["max_search_duration"], "1w");
    assert_eq!(told["read"]["max_spans_per_span_set"], 100);
    assert_eq!(ask(&harness, "overrides", "*/*").await.status, 404);
    let answer = ask(&harness, "overrides?scope=x", "*/*").await;
    let why = "unknown scope \"x\", valid options are api and merged";
    assert_eq!(answer.told(), (400, why));
}

#[tokio::test]
async fn an_unknown_trace_in_protobuf_is_set_and_empty() {
    let harness = Harness::new(mount, |_| {});
    let answer = ask(&harness, "v2/traces/1", "application/protobuf").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/protobuf");
    let response = TraceByIdResponse::decode(&*answer.body).unwrap();
    assert_eq!(response.trace, Some(Bytes::new()));
    assert_eq!(answer.body, [0x0a, 0]);
    assert_eq!(
        ask(&harness, "traces/1", "application/protobuf")
            .await
            .status,
        404
    );
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
    }
}

/// One trace of two spans.
fn filled() -> Harness {
    let harness = Harness::new(mount, |_| {});
    let mut appender = harness.tenant().traces().unwrap().appender();
    let name = pair("service.name", AnyValue::String("shop".to_owned()));
    let resource = Arc::new(Resource {
        attributes: vec![name],
        ..Resource::default()
    });
    let mut trace_id = [0; 16];
    trace_id[15] = 0xab;
    let start_ns = 1_700_000_000_000_000_000;
    let root = Span {
        trace_id,
        span_id: [1; 8],
        name: "GET /".to_owned(),
        kind: 2,
        start_ns,
        end_ns: start_ns + 5,
        attributes: vec![
            pair("code", AnyValue::Int(200)),
            pair(
                "nested",
                AnyValue::KeyValues(vec![pair("k", AnyValue::Bytes(vec![1]))]),
            ),
        ],
        ..Span::default()
    };
    let child = Span {
        span_id: [2; 8],
        parent_span_id: Some([1; 8]),
        name: "SELECT".to_owned(),
        attributes: vec![
            pair("code", AnyValue::Int(7)),
            pair("code.a", AnyValue::Empty),
        ],
        ..root.clone()
    };
    for span in [root, child] {
        appender.append(&resource, &Arc::new(Scope::default()), span);
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    harness
}

#[tokio::test]
async fn a_trace_by_its_id() {
    let harness = filled();
    let id = "AAAAAAAAAAAAAAAAAAAAqw==";
    let times =
        r#""startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000005""#;
    let inner = format!(
        "{{\"resource\":{{\"attributes\":[{{\"key\":\"service.name\",\"value\":{{\"stringValue\":\"shop\"}}}}]}},\
         \"scopeSpans\":[{{\"scope\":{{}},\"spans\":[\
         {{\"traceId\":\"{id}\",\"spanId\":\"AQEBAQEBAQE=\",\"name\":\"GET /\",\"kind\":\"SPAN_KIND_SERVER\",{times},\
         \"attributes\":[{{\"key\":\"code\",\"value\":{{\"intValue\":\"200\"}}}},\
         {{\"key\":\"nested\",\"value\":{{\"kvlistValue\":{{\"values\":[{{\"key\":\"k\",\"value\":{{\"bytesValue\":\"AQ==\"}}}}]}}}}}}],\
         \"status\":{{}}}},\
         {{\"traceId\":\"{id}\",\"spanId\":\"AgICAgICAgI=\",\"parentSpanId\":\"AQEBAQEBAQE=\",\"name\":\"SELECT\",\
         \"kind\":\"SPAN_KIND_SERVER\",{times},\
         \"attributes\":[{{\"key\":\"code\",\"value\":{{\"intValue\":\"7\"}}}},{{\"key\":\"code.a\",\"value\":{{}}}}],\
         \"status\":{{}}}}]}}]}}"
    );
    let answer = ask(&harness, "traces/ab", "application/json").await;
    assert_eq!(
        answer.told(),
        (200, format!("{{\"batches\":[{inner}]}}").as_str())
    );
    let answer = ask(&harness, "v2/traces/00AB", "application/json").await;
    let expect = format!("{{\"trace\":{{\"resourceSpans\":[{inner}]}}}}");
    assert_eq!(answer.told(), (200, expect.as_str()));
    let first = ask(&harness, "traces/ab", "application/protobuf").await;
    let trace = Trace::decode(&*first.body).unwrap();
    assert!(
        trace.resource_spans[0].scope_spans[0].spans[0]
            .status
            .is_some()
    );
    let second = ask(&harness, "v2/traces/ab", "application/protobuf").await;
    let response = TraceByIdResponse::decode(&*second.body).unwrap();
    assert_eq!(response.status(), PartialStatus::Complete);
    assert_eq!(response.trace, Some(first.body.into()));
}

#[tokio::test]
async fn names_and_values() {
    let harness = filled();
    for (path, expect) in [
        (
            "search/tags",
            r#"{"tagNames":["code","service.name"],"metrics":{}}"#,
        ),
        (
            "v2/search/tags?scope=resource",
            r#"{"scopes":[{"name":"resource","tags":["service.name"]}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/span.code/values",
            r#"{"tagValues":[{"type":"int","value":"200"},{"type":"int","value":"7"}],"metrics":{}}"#,
        ),
        (
            "search/tag/service.name/values",
            r#"{"tagValues":["shop"],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/resource.service.name/values?start=1699999999&end=1700000001",
            r#"{"tagValues":[{"type":"string","value":"shop"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/.service.name/values?start=1&end=2",
            r#"{"tagValues":[],"metrics":{}}"#,
        ),
        (
            "search/tag/name/values",
            r#"{"tagValues":["GET /","SELECT"],"metrics":{}}"#,
        ),
        (
            "search/tag/rootServiceName/values",
            r#"{"tagValues":["shop"],"metrics":{}}"#,
        ),
    ] {
        let answer = ask(&harness, path, "application/json").await;
        assert_eq!(answer.told(), (200, expect), "{path}");
    }
}

#[tokio::test]
async fn searches() {
    let harness = filled();
    let head = r#"{"traces":[{"traceID":"000000000000000000000000000000ab","rootServiceName":"shop","rootTraceName":"GET /","startTimeUnixNano":"1700000000000000000","#;
    let one = r#"{"spanID":"0101010101010101","name":"GET /","startTimeUnixNano":"1700000000000000000","durationNanos":"5"}"#;
    let two = r#"{"spanID":"0202020202020202","name":"SELECT","startTimeUnixNano":"1700000000000000000","durationNanos":"5"}"#;
    let metrics =
        r#""metrics":{"inspectedTraces":1,"completedJobs":1,"totalJobs":1,"inspectedSpans":"2"}"#;
    for (query, spans) in [
        (
            "q={}&spss=1&start=1700000000&end=1700000001",
            one.to_owned(),
        ),
        ("q={%20}", format!("{one},{two}")),
        ("limit=1", format!("{one},{two}")),
    ] {
        let set = format!("{{\"spans\":[{spans}],\"matched\":2}}");
        let expect = format!(
            "{head}\"spanSet\":{set},\"spanSets\":[{set}],\"serviceStats\":{{\"shop\":{{\"spanCount\":2}}}}}}],{metrics}}}"
        );
        let answer = ask(&harness, &format!("search?{query}"), "application/json").await;
        assert_eq!(answer.told(), (200, expect.as_str()), "{query}");
    }
    let answer = ask(&harness, "search?start=1&end=2", "application/json").await;
    assert_eq!(answer.told(), (200, NO_TRACES));
    let query = "search?q={resource.service.name=%22shop%22%26%26span.code=7}";
    let answer = ask(&harness, query, "application/json").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .contains("\"key\":\"code\",\"value\":{\"intValue\":\"7\"}"),
        "{answer:?}"
    );
    let answer = ask(&harness, "search?q={", "application/json").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().starts_with("invalid TraceQL query: "),
        "{answer:?}"
    );
}
