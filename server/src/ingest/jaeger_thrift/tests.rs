//! Batches of Jaeger's clients as spans of OTLP.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Status;
use prost::Message as _;
use serde_json::{Value as Json, json};

use super::*;
use crate::proto::thrift::writer::Value as Thrift;

const PROTOCOLS: [Protocol; 2] = [Protocol::Binary, Protocol::Compact];

/// The bytes that a batch in JSON is in Thrift.
pub(crate) fn encode(batch: &Json, protocol: Protocol) -> Vec<u8> {
    let process = &batch["process"];
    let process = vec![
        (
            1,
            Thrift::text(process["serviceName"].as_str().unwrap_or("")),
        ),
        (2, list(&process["tags"], tag_of)),
    ];
    let fields = vec![
        (1, Thrift::Struct(process)),
        (2, list(&batch["spans"], span_of)),
    ];
    Thrift::Struct(fields).written(protocol)
}

fn number(value: &Json) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn list(value: &Json, of: fn(&Json) -> Thrift) -> Thrift {
    let values = value.as_array().map_or(&[][..], Vec::as_slice);
    Thrift::List(values.iter().map(of).collect())
}

fn span_of(span: &Json) -> Thrift {
    let long = |name: &str| Thrift::I64(number(&span[name]));
    Thrift::Struct(vec![
        (1, long("traceIdLow")),
        (2, long("traceIdHigh")),
        (3, long("spanId")),
        (4, long("parentSpanId")),
        (
            5,
            Thrift::text(span["operationName"].as_str().unwrap_or("")),
        ),
        (6, list(&span["references"], reference_of)),
        (7, Thrift::I32(number(&span["flags"]) as i32)),
        (8, long("startTime")),
        (9, long("duration")),
        (10, list(&span["tags"], tag_of)),
        (11, list(&span["logs"], log_of)),
    ])
}

fn reference_of(reference: &Json) -> Thrift {
    let kind = i32::from(reference["refType"] == "FOLLOWS_FROM");
    Thrift::Struct(vec![
        (1, Thrift::I32(kind)),
        (2, Thrift::I64(number(&reference["traceIdLow"]))),
        (3, Thrift::I64(number(&reference["traceIdHigh"]))),
        (4, Thrift::I64(number(&reference["spanId"]))),
    ])
}

fn log_of(log: &Json) -> Thrift {
    Thrift::Struct(vec![
        (1, Thrift::I64(number(&log["timestamp"]))),
        (2, list(&log["fields"], tag_of)),
    ])
}

fn tag_of(tag: &Json) -> Thrift {
    let names = ["STRING", "DOUBLE", "BOOL", "LONG", "BINARY"];
    let kind = names.iter().position(|name| tag["vType"] == *name);
    let mut fields = vec![
        (1, Thrift::text(tag["key"].as_str().unwrap_or(""))),
        (2, Thrift::I32(kind.map_or(9, |kind| kind as i32))),
    ];
    fields.extend(tag["vStr"].as_str().map(|text| (3, Thrift::text(text))));
    fields.extend(
        tag["vDouble"]
            .as_f64()
            .map(|number| (4, Thrift::Double(number))),
    );
    fields.extend(tag["vBool"].as_bool().map(|truth| (5, Thrift::Bool(truth))));
    fields.extend(tag["vLong"].as_i64().map(|number| (6, Thrift::I64(number))));
    let bytes = tag["vBinary"].as_str().map(base64_bytes);
    fields.extend(bytes.map(|bytes| (7, Thrift::Binary(bytes))));
    Thrift::Struct(fields)
}

/// The bytes that base64 stands for.
fn base64_bytes(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::new());
    for c in text.bytes().filter(|c| *c != b'=') {
        bits = bits << 6 | u32::from(digit(c));
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn translated(batch: &Json) -> ExportTraceServiceRequest {
    let read = PROTOCOLS.map(|protocol| {
        let batch = translate(&encode(batch, protocol), protocol, usize::MAX).unwrap();
        ExportTraceServiceRequest::decode(batch.finish()).unwrap()
    });
    let [binary, compact] = read;
    assert_eq!(binary, compact);
    binary
}

fn tag(key: &str, kind: &str, name: &str, value: impl Into<Json>) -> Json {
    json!({"key": key, "vType": kind, name: value.into()})
}

#[test]
fn a_batch_becomes_spans_of_otlp() {
    let batch = json!({
        "process": {"serviceName": "api", "tags": [
            tag("hostname", "STRING", "vStr", "h"),
            tag("jaeger.version", "STRING", "vStr", "Go-1"),
            tag("n", "LONG", "vLong", 5),
        ]},
        "spans": [{
            "traceIdLow": 7, "traceIdHigh": -1, "spanId": 2, "parentSpanId": 3,
            "operationName": "get", "startTime": 1000, "duration": 5, "flags": 3,
            "references": [
                {"refType": "CHILD_OF", "traceIdLow": 7, "traceIdHigh": -1, "spanId": 3},
                {"refType": "FOLLOWS_FROM", "traceIdLow": 8, "spanId": 4},
            ],
            "tags": [
                tag("span.kind", "STRING", "vStr", "client"),
                tag("error", "BOOL", "vBool", true),
                tag("otel.status_description", "STRING", "vStr", "broke"),
                tag("otel.scope.name", "STRING", "vStr", "lib"),
                tag("otel.library.version", "STRING", "vStr", "1.2"),
                tag("w3c.tracestate", "STRING", "vStr", "a=b"),
                tag("d", "DOUBLE", "vDouble", 0.5),
                tag("b", "BINARY", "vBinary", "AAH/"),
                tag("odd", "?", "vStr", "x"),
            ],
            "logs": [
                {"timestamp": 1001, "fields": [
                    tag("event", "STRING", "vStr", "start"),
                    tag("k", "STRING", "vStr", "v"),
                ]},
                {"timestamp": 1002},
            ],
        }, {}],
    });
    let link = Link {
        trace_id: 8u128.to_be_bytes().to_vec(),
        span_id: 4u64.to_be_bytes().to_vec(),
        attributes: vec![tags::text(tags::REF_TYPE, tags::FOLLOWS_FROM)],
        ..Link::default()
    };
    let event = |time_unix_nano, name: &str, attributes| Event {
        time_unix_nano,
        name: name.to_owned(),
        attributes,
        ..Event::default()
    };
    let span = Span {
        trace_id: [&[0xff; 8][..], &7u64.to_be_bytes()].concat(),
        span_id: 2u64.to_be_bytes().to_vec(),
        parent_span_id: 3u64.to_be_bytes().to_vec(),
        name: "get".to_owned(),
        kind: SpanKind::Client.into(),
        trace_state: "a=b".to_owned(),
        flags: 1,
        start_time_unix_nano: 1_000_000,
        end_time_unix_nano: 1_005_000,
        attributes: vec![
            tags::pair("d", Value::DoubleValue(0.5)),
            tags::pair("b", Value::BytesValue(vec![0, 1, 255])),
            tags::text("odd", "<Unknown Jaeger TagType \"9\">"),
        ],
        events: vec![
            event(1_001_000, "start", vec![tags::text("k", "v")]),
            event(1_002_000, "", Vec::new()),
        ],
        links: vec![link],
        status: Some(Status {
            code: 2,
            message: "broke".to_owned(),
        }),
        ..Span::default()
    };
    let request = translated(&batch);
    let [of_resource] = &request.resource_spans[..] else {
        panic!("{request:?}");
    };
    let attributes = [
        tags::text(tags::SERVICE, "api"),
        tags::text("host.name", "h"),
        tags::pair("n", Value::IntValue(5)),
        tags::text("opencensus.exporterversion", "Jaeger-Go-1"),
    ];
    assert_eq!(
        of_resource.resource.as_ref().unwrap().attributes,
        attributes
    );
    let [of_scope] = &of_resource.scope_spans[..] else {
        panic!("{of_resource:?}");
    };
    let scope = of_scope.scope.as_ref().unwrap();
    assert_eq!((&*scope.name, &*scope.version), ("lib", "1.2"));
    assert_eq!(
        of_scope.spans,
        [span],
        "a span that says nothing is left out"
    );
}

#[test]
fn the_parent_is_told_or_found_among_the_references() {
    let reference = |kind: &str, trace: i64, span: i64| json!({"refType": kind, "traceIdLow": trace, "spanId": span});
    let (child, follows) = ("CHILD_OF", "FOLLOWS_FROM");
    for (parent, references, expect, links) in [
        (0, vec![], 0, vec![]),
        (5, vec![reference(child, 1, 5)], 5, vec![]),
        (5, vec![reference(child, 1, 6)], 5, vec![6]),
        (5, vec![reference(follows, 1, 5)], 5, vec![5]),
        (
            0,
            vec![reference(follows, 1, 5), reference(child, 1, 6)],
            6,
            vec![5],
        ),
        (
            0,
            vec![reference(child, 2, 5), reference(follows, 1, 6)],
            6,
            vec![5, 6],
        ),
        (0, vec![reference(child, 2, 5)], 0, vec![5]),
    ] {
        let span =
            json!({"traceIdLow": 1, "spanId": 9, "parentSpanId": parent, "references": references});
        let request = translated(&json!({"process": {"serviceName": "a"}, "spans": [span]}));
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        let id = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | i64::from(*byte))
        };
        let found: Vec<i64> = span.links.iter().map(|link| id(&link.span_id)).collect();
        assert_eq!(
            (id(&span.parent_span_id), found),
            (expect, links),
            "{references:?}"
        );
    }
}

#[test]
fn a_process_without_a_service_is_a_resource_without_one() {
    for (service, tags, expect) in [
        ("", json!([]), 0),
        ("", json!([tag("k", "STRING", "vStr", "v")]), 1),
        (NO_SERVICE, json!([tag("k", "STRING", "vStr", "v")]), 0),
        ("a", json!([]), 1),
    ] {
        let batch =
            json!({"process": {"serviceName": service, "tags": tags}, "spans": [{"spanId": 1}]});
        let request = translated(&batch);
        let resource = request.resource_spans[0]
            .resource
            .clone()
            .unwrap_or_default();
        assert_eq!(resource.attributes.len(), expect, "{batch}");
    }
}

#[test]
fn a_span_has_so_many_items_and_no_more() {
    let batch = |count: usize| {
        let item = || Thrift::Struct(Vec::new());
        let span = Thrift::Struct(vec![
            (3, Thrift::I64(1)),
            (10, Thrift::List(vec![item(); count])),
        ]);
        Thrift::Struct(vec![(2, Thrift::List(vec![span]))]).written(Protocol::Compact)
    };
    let count =
        |count| translate(&batch(count), Protocol::Compact, usize::MAX).map(|batch| batch.len());
    assert_eq!(count(SPAN_ITEMS_MAX), Ok(1));
    assert_eq!(
        count(SPAN_ITEMS_MAX + 1),
        Err(ThriftError::TooMany(SPAN_ITEMS_MAX))
    );
}

#[test]
fn damage_is_refused_and_never_a_panic() {
    let batch = json!({
        "process": {"serviceName": "a", "tags": [tag("k", "STRING", "vStr", "v")]},
        "spans": [{"traceIdLow": 1, "spanId": 2, "operationName": "x", "startTime": 5, "duration": 6,
            "tags": [tag("error", "BOOL", "vBool", true)],
            "logs": [{"timestamp": 5, "fields": [tag("event", "STRING", "vStr", "e")]}],
            "references": [{"refType": "CHILD_OF", "traceIdLow": 1, "spanId": 3}]}],
    });
    for protocol in PROTOCOLS {
        let bytes = encode(&batch, protocol);
        for end in 0..bytes.len() {
            assert!(
                translate(&bytes[..end], protocol, usize::MAX).is_err(),
                "{protocol:?} cut at {end}"
            );
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(batch) = translate(&bytes, protocol, usize::MAX) {
                    ExportTraceServiceRequest::decode(batch.finish()).unwrap();
                }
            }
        }
    }
    assert_eq!(
        translate(b"{}", Protocol::Binary, usize::MAX)
            .unwrap_err()
            .to_string(),
        "the message holds a value of no type (123)"
    );
}

#[test]
fn a_batch_has_a_limit() {
    let batch = json!({"process": {"serviceName": "a"}, "spans": [{"spanId": 1}, {"spanId": 2}]});
    let bytes = encode(&batch, Protocol::Binary);
    let error = translate(&bytes, Protocol::Binary, 10).unwrap_err();
    assert_eq!(error, ThriftError::TooLarge(10));
    let text = "the message holds spans that take more than 10 bytes as OTLP";
    assert_eq!(error.to_string(), text);
}
