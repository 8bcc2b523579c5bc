//! The handlers of Tempo's API.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use prost::Message as _;
use trine_tracestore::{AnyValue, Durability, KeyValue, Resource, Scope, Span};

use super::mount;
use crate::api::prometheus::run::harness::{Answer, Harness};
use crate::proto::tempo::{Trace, TraceByIdResponse};

async fn ask(harness: &Harness, path: &str, accept: &str) -> Answer {
    let request = Request::get(format!("/api/{path}")).header("Accept", accept);
    harness.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn answers() {
    let harness = Harness::new(mount, |_| {});
    let keywords = r#"{"tagValues":[{"type":"keyword","value":"error"},{"type":"keyword","value":"ok"},{"type":"keyword","value":"unset"}],"metrics":{}}"#;
    let none = r#"{"tagValues":[],"metrics":{}}"#;
    for (path, status, text) in [
        ("echo", 200, "echo"),
        (
            "search?q={}&start=1&end=2&limit=20&spss=3",
            200,
            r#"{"traces":[],"metrics":{}}"#,
        ),
        ("search", 200, r#"{"traces":[],"metrics":{}}"#),
        (
            "search?tags=service.name=a&minDuration=1ms",
            200,
            r#"{"traces":[],"metrics":{}}"#,
        ),
        (
            "search?limit=0",
            400,
            "invalid limit: must be a positive number",
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
        ("v2/traces/1?start=1&end=2", 200, r#"{"trace":{}}"#),
        (
            "v2/traces/g",
            400,
            "trace IDs can only contain hex characters: invalid character 'g' at position 1",
        ),
        ("search/tags", 200, r#"{"tagNames":[],"metrics":{}}"#),
        (
            "v2/search/tags?scope=span&limit=5000",
            200,
            r#"{"scopes":[],"metrics":{}}"#,
        ),
        ("v2/search/tags?scope=x", 400, "invalid scope: x"),
        (
            "v2/search/tag/status/values?limit=5000&tag=status",
            200,
            keywords,
        ),
        (
            "search/tag/status/values?limit=1",
            200,
            r#"{"tagValues":["error"],"metrics":{}}"#,
        ),
        ("v2/search/tag/span%253Astatus/values", 200, keywords),
        ("v2/search/tag/resource.service.name/values", 200, none),
        (
            "v2/search/tag/span.a/b/values/values?start=1&end=2",
            200,
            none,
        ),
        ("v2/search/tag/span.a", 404, "404 page not found"),
        (
            "metrics/query_range?q={}|rate()",
            400,
            "TraceQL metrics queries are not supported yet",
        ),
    ] {
        let answer = ask(&harness, path, "application/json").await;
        assert_eq!(answer.told(), (status, text), "{path}");
    }
    let scopes = ask(&harness, "v2/search/tags?limit=2", "*/*").await;
    let expect = r#"{"scopes":[{"name":"intrinsic","tags":["duration","kind"]}],"metrics":{}}"#;
    assert_eq!(scopes.told(), (200, expect));
    assert_eq!(harness.tenants(), 0, "reading creates nothing");
}

#[tokio::test]
async fn an_unknown_trace_in_protobuf_is_set_and_empty() {
    let harness = Harness::new(mount, |_| {});
    let answer = ask(&harness, "v2/traces/1", "application/protobuf").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/protobuf");
    let trace = Some(Trace::default());
    assert_eq!(
        TraceByIdResponse::decode(&*answer.body).unwrap(),
        TraceByIdResponse { trace }
    );
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
        key: key.to_owned(),
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
    assert_eq!(response.trace, Some(trace));
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
    let metrics = r#""metrics":{"inspectedTraces":1,"inspectedSpans":"2"}"#;
    for (query, spans) in [
        (
            "q={}&spss=1&start=1700000000&end=1700000001",
            one.to_owned(),
        ),
        ("q={%20}", format!("{one},{two}")),
        ("limit=1", format!("{one},{two}")),
    ] {
        let set = format!("{{\"spans\":[{spans}],\"matched\":2}}");
        let expect = format!("{head}\"spanSet\":{set},\"spanSets\":[{set}]}}],{metrics}}}");
        let answer = ask(&harness, &format!("search?{query}"), "application/json").await;
        assert_eq!(answer.told(), (200, expect.as_str()), "{query}");
    }
    let answer = ask(&harness, "search?start=1&end=2", "application/json").await;
    assert_eq!(answer.told(), (200, r#"{"traces":[],"metrics":{}}"#));
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
