//! Traces by their ids: cut by a filter or to a size, and of several tenants.

use prost::Message as _;
use trine_tracestore::Trace as Stored;

use super::shop::{push, shop, six, span, tenant};
use super::{ask, ask_as};
use crate::api::prometheus::run::harness::{Answer, Harness};
use crate::proto::tempo::{PartialStatus, Trace, TraceByIdResponse};

const PROTOBUF: &str = "application/protobuf";

/// The numbers of the spans in protobuf.
fn numbers(trace: &[u8]) -> Vec<u8> {
    let trace = Trace::decode(trace).unwrap();
    let scopes = trace.resource_spans.iter().flat_map(|r| &r.scope_spans);
    let spans = scopes.flat_map(|scope| &scope.spans);
    let mut numbers: Vec<u8> = spans.map(|span| *span.span_id.last().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn decoded(answer: &Answer) -> TraceByIdResponse {
    assert_eq!(answer.status, 200, "{answer:?}");
    TraceByIdResponse::decode(&*answer.body).unwrap()
}

#[tokio::test]
async fn a_filter_and_what_is_above_and_below_it() {
    let harness = shop(|_| {});
    let one = "{.http.status_code=500}";
    let two = "{.http.status_code%3E0}";
    for (query, options, expect) in [
        (one, "", vec![3]),
        (one, "&match_depth=0", vec![3]),
        (one, "&match_depth=1", vec![3, 5]),
        (one, "&match_depth=2", vec![3, 5, 6]),
        (one, "&match_depth=9", vec![3, 5, 6]),
        (one, "&match_depth=-1", vec![3, 5, 6]),
        // Without the hierarchy its depth is not looked at.
        (one, "&ancestor_depth=-1", vec![3]),
        (one, "&ancestor_depth=-2", vec![3]),
        (one, "&keep_hierarchy=false&ancestor_depth=x", vec![3]),
        (one, "&keep_hierarchy=true", vec![1, 2, 3]),
        (one, "&keep_hierarchy=true&ancestor_depth=0", vec![3]),
        (one, "&keep_hierarchy=true&ancestor_depth=1", vec![2, 3]),
        (one, "&keep_hierarchy=true&ancestor_depth=9", vec![1, 2, 3]),
        (
            one,
            "&keep_hierarchy=true&ancestor_depth=1&match_depth=1",
            vec![2, 3, 5],
        ),
        (
            one,
            "&keep_hierarchy=true&ancestor_depth=-1&match_depth=-1",
            vec![1, 2, 3, 5, 6],
        ),
        (two, "", vec![3, 4]),
        (
            two,
            "&keep_hierarchy=true&ancestor_depth=1",
            vec![1, 2, 3, 4],
        ),
        (
            two,
            "&keep_hierarchy=true&match_depth=-1",
            vec![1, 2, 3, 4, 5, 6],
        ),
        ("{}", "", vec![1, 2, 3, 4, 5, 6]),
        ("{false}", "", vec![]),
    ] {
        let path = format!("v2/traces/1?q={query}{options}");
        let response = decoded(&ask(&harness, &path, PROTOBUF).await);
        assert_eq!(numbers(&response.trace.clone().unwrap()), expect, "{path}");
        let (status, message) = match expect.len() {
            6 => (PartialStatus::Complete, ""),
            _ => (
                PartialStatus::Partial,
                "Trace filtered, only a subset of spans matching the filter is returned",
            ),
        };
        assert_eq!(
            (response.status(), response.message.as_str()),
            (status, message)
        );
    }
    for options in [
        "match_depth=-2",
        "match_depth=abc",
        "keep_hierarchy=true&ancestor_depth=-2",
    ] {
        let path = format!("v2/traces/1?q={one}&{options}");
        assert_eq!(ask(&harness, &path, PROTOBUF).await.status, 400, "{path}");
    }
    let unknown = decoded(&ask(&harness, "v2/traces/ffff?q={false}", PROTOBUF).await);
    assert_eq!(unknown.status(), PartialStatus::Complete);
}

/// How large the trace of the shop is.
fn size(harness: &Harness) -> usize {
    let store = harness.tenant().traces().unwrap();
    let id = super::shop::trace_id(1);
    let mut trace: Stored = store.snapshot().trace(id).unwrap().unwrap();
    for of_resource in &mut trace.resources {
        for of_scope in &mut of_resource.scopes {
            for span in &mut of_scope.spans {
                span.status.get_or_insert_default();
            }
        }
    }
    trace.to_otlp().len()
}

#[tokio::test]
async fn a_trace_that_is_too_large_is_cut() {
    let bytes = size(&shop(|_| {}));
    for (max, is_cut) in [(bytes, false), (bytes - 1, true), (0, false), (1, true)] {
        let harness = shop(|config| config.traces.trace_bytes_max = max);
        let response = decoded(&ask(&harness, "v2/traces/1", PROTOBUF).await);
        let trace = response.trace.clone().unwrap();
        assert_eq!(numbers(&trace).len() < 6, is_cut, "{max}");
        let first = ask(&harness, "traces/1", PROTOBUF).await;
        let json = ask(&harness, "v2/traces/1", "application/json").await;
        if !is_cut {
            assert_eq!(response.message, "");
            assert_eq!((first.status, first.body), (200, trace.to_vec()));
            continue;
        }
        assert!(trace.len() <= max);
        let message =
            format!("Trace exceeds maximum size of {max} bytes, a partial trace is returned");
        assert_eq!(response.status(), PartialStatus::Partial);
        assert_eq!(response.message, message);
        let why = format!("trace exceeds max size (max bytes: {max})");
        assert_eq!(first.told(), (422, why.as_str()));
        let expect = format!(",\"status\":\"PARTIAL\",\"message\":\"{message}\"}}");
        assert!(json.text().ends_with(&expect), "{}", json.text());
    }
    let harness = shop(|config| config.traces.trace_bytes_max = 1);
    let path = "v2/traces/1?q={.http.status_code=500}";
    let response = decoded(&ask(&harness, path, PROTOBUF).await);
    assert_eq!(
        response.message,
        "Trace filtered, only a subset of spans matching the filter is returned; Trace exceeds \
         maximum size of 1 bytes, a partial trace is returned"
    );
}

#[tokio::test]
async fn of_several_tenants_it_is_one() {
    let harness = shop(|_| {});
    let (a, b) = (tenant(&harness, "a"), tenant(&harness, "b"));
    push(&a, "shop", six().into_iter().take(4));
    // The same span of another kind is another span.
    let mut shared = span((1, 3, 2), "C'");
    shared.kind = 3;
    push(&b, "db", six().into_iter().skip(2).chain([shared]));
    for (tenants, expect) in [
        ("a", vec![1, 2, 3, 4]),
        ("b", vec![3, 3, 4, 5, 6]),
        ("a|b", vec![1, 2, 3, 3, 4, 5, 6]),
        ("a|c", vec![1, 2, 3, 4]),
        ("c", vec![]),
    ] {
        let answer = ask_as(&harness, tenants, "v2/traces/1", PROTOBUF).await;
        let found = numbers(&decoded(&answer).trace.unwrap());
        assert_eq!(found, expect, "{tenants}");
        let first = ask_as(&harness, tenants, "traces/1", PROTOBUF).await;
        let status = if expect.is_empty() { 404 } else { 200 };
        assert_eq!(first.status, status, "{tenants}");
    }
    let path = "v2/traces/1?q={name=%22F%22}&keep_hierarchy=true";
    let answer = ask_as(&harness, "a|b", path, PROTOBUF).await;
    let found = numbers(&decoded(&answer).trace.unwrap());
    assert_eq!(found, [1, 2, 3, 3, 5, 6]);
}
