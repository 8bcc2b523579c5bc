//! The service over spans that came in as OTLP, called as gRPC clients call it.

use axum::body::Body;
use axum::http::Request as HttpRequest;
use axum::routing::any;
use prost::Message;
use serde_json::json;

use super::*;
use crate::api::jaeger::tests::{of_otlp_json, send_otlp};
use crate::api::prometheus::run::harness::Harness;
use crate::proto::jaeger::{Timestamp, TraceQueryParameters};
use crate::routes;

/// The messages that a method answers.
async fn ask<A: Message + Default>(
    harness: &Harness,
    method: &str,
    message: impl Message,
) -> Vec<A> {
    let mut body = vec![0];
    body.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    body.extend(message.encode_to_vec());
    let request = HttpRequest::post(format!("/jaeger.api_v3.QueryService/{method}"))
        .header("content-type", "application/grpc");
    let told = harness.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(told.status, 200);
    let (mut rest, mut messages) = (&told.body[..], Vec::new());
    while let Some((head, behind)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        messages.push(A::decode(&behind[..length]).unwrap());
        rest = &behind[length..];
    }
    messages
}

#[tokio::test]
async fn all_methods() {
    let path = "/jaeger.api_v3.QueryService/{method}";
    let harness = Harness::new(|_, _| routes::all().route(path, any(serve)), |_| {});
    let long = "x".repeat(MESSAGE_BYTES_MAX / 3);
    let span = |trace: u8, id: u8, second: u64| {
        json!({
            "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"), "name": "n",
            "kind": 2, "startTimeUnixNano": (second * 1_000_000_000).to_string(),
            "endTimeUnixNano": (second * 1_000_000_000 + 7).to_string(),
            "attributes": [{"key": "k", "value": {"stringValue": if trace == 2 { &long } else { "v" }}}],
        })
    };
    let service = json!([{"key": "service.name", "value": {"stringValue": "a"}}]);
    let spans = [
        span(1, 1, 10),
        span(2, 1, 20),
        span(2, 2, 21),
        span(2, 3, 22),
        span(2, 4, 23),
    ];
    let sent = json!({"resourceSpans": [{
        "resource": {"attributes": service}, "scopeSpans": [{"scope": {"name": "lib"}, "spans": spans}],
    }]});
    send_otlp(&harness, &sent).await;

    let found: Vec<GetServicesResponse> = ask(&harness, "GetServices", GetServicesRequest {}).await;
    assert_eq!(found[0].services, ["a"]);
    let request = |kind: &str| GetOperationsRequest {
        service: "a".to_owned(),
        span_kind: kind.to_owned(),
    };
    for (kind, expect) in [
        ("", vec![("n", "server")]),
        ("server", vec![("n", "server")]),
        ("client", vec![]),
    ] {
        let found: Vec<GetOperationsResponse> = ask(&harness, "GetOperations", request(kind)).await;
        let told: Vec<_> = found[0]
            .operations
            .iter()
            .map(|o| (&*o.name, &*o.span_kind))
            .collect();
        assert_eq!((found.len(), told), (1, expect), "{kind}");
    }

    let one = |id: &str| GetTraceRequest {
        trace_id: id.to_owned(),
        ..GetTraceRequest::default()
    };
    let found: Vec<TracesData> = ask(&harness, "GetTrace", one("1")).await;
    let expect = json!({"resourceSpans": [{
        "resource": {"attributes": service},
        "scopeSpans": [{"scope": {"name": "lib"}, "spans": [span(1, 1, 10)]}],
    }]});
    let mut expect = of_otlp_json(&expect);
    expect[0].scope_spans[0].spans[0].status = Some(Default::default());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].resource_spans, expect);
    // A trace that is large comes in parts, each with resource and scope.
    let found: Vec<TracesData> = ask(&harness, "GetTrace", one("02")).await;
    let counts: Vec<usize> = found
        .iter()
        .map(|part| {
            assert_eq!(part.resource_spans[0].resource, expect[0].resource);
            part.resource_spans[0].scope_spans[0].spans.len()
        })
        .collect();
    assert_eq!(counts, [2, 2]);
    for unknown in ["3", "x", ""] {
        assert!(
            ask::<TracesData>(&harness, "GetTrace", one(unknown))
                .await
                .is_empty(),
            "{unknown}"
        );
    }

    let time = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
    let query = TraceQueryParameters {
        service_name: "a".to_owned(),
        start_time_min: time(0),
        start_time_max: time(100),
        ..TraceQueryParameters::default()
    };
    let tagged = |value: &str| [("k".to_owned(), value.to_owned())].into();
    let short = Some(Duration {
        seconds: 0,
        nanos: 6,
    });
    for (query, expect) in [
        (Some(query.clone()), 3),
        (
            Some(TraceQueryParameters {
                attributes: tagged("v"),
                ..query.clone()
            }),
            1,
        ),
        (
            Some(TraceQueryParameters {
                attributes: tagged("w"),
                ..query.clone()
            }),
            0,
        ),
        (
            Some(TraceQueryParameters {
                search_depth: 1,
                ..query.clone()
            }),
            2,
        ),
        (
            Some(TraceQueryParameters {
                duration_max: short,
                ..query.clone()
            }),
            0,
        ),
        (
            Some(TraceQueryParameters {
                duration_min: short,
                operation_name: "n".to_owned(),
                ..query.clone()
            }),
            3,
        ),
        (
            Some(TraceQueryParameters {
                start_time_max: None,
                ..query
            }),
            0,
        ),
        (None, 0),
    ] {
        let request = FindTracesRequest { query };
        let found: Vec<TracesData> = ask(&harness, "FindTraces", request.clone()).await;
        assert_eq!(found.len(), expect, "{request:?}");
    }
    assert!(
        ask::<TracesData>(&harness, "Nothing", GetServicesRequest {})
            .await
            .is_empty()
    );
}
