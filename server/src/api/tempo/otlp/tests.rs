//! What comes in through OTLP goes out unchanged: the bytes that generated code writes, through the
//! engine, to the messages that the answer has.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use prost::Message as _;
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_tracestore::{Config, TraceId, TraceStore};

use super::*;
use crate::api::prometheus::run::harness::Harness;
use crate::ingest::otlp_traces;
use crate::proto::jsonpb::to_otlp;
use crate::proto::tempo::{Trace, TraceByIdResponse};

/// A span with what it belongs to and the schemas of both.
type Row = (Resource, String, InstrumentationScope, String, trace::Span);

/// Gives attributes without a value an empty one, and takes away what only profiles have.
fn plain(attributes: &mut [common::KeyValue]) {
    for pair in attributes {
        pair.key_strindex = 0;
        plain_value(pair.value.get_or_insert_default());
    }
}

fn plain_value(value: &mut common::AnyValue) {
    match &mut value.value {
        Some(Value::ArrayValue(list)) => list.values.iter_mut().for_each(plain_value),
        Some(Value::KvlistValue(list)) => plain(&mut list.values),
        Some(Value::StringValueStrindex(_)) => value.value = None,
        _ => {}
    }
}

fn rows(resource_spans: Vec<trace::ResourceSpans>) -> Vec<Row> {
    let mut rows = Vec::new();
    for of_resource in resource_spans {
        let mut resource = of_resource.resource.unwrap_or_default();
        resource.entity_refs.clear();
        plain(&mut resource.attributes);
        for of_scope in of_resource.scope_spans {
            let mut scope = of_scope.scope.unwrap_or_default();
            plain(&mut scope.attributes);
            for mut span in of_scope.spans {
                span.status.get_or_insert_default();
                plain(&mut span.attributes);
                let events = span.events.iter_mut().map(|event| &mut event.attributes);
                let links = span.links.iter_mut().map(|link| &mut link.attributes);
                events.chain(links).for_each(|attributes| plain(attributes));
                let urls = (of_resource.schema_url.clone(), of_scope.schema_url.clone());
                rows.push((resource.clone(), urls.0, scope.clone(), urls.1, span));
            }
        }
    }
    rows.sort_by_key(|(.., span)| (span.trace_id.clone(), span.span_id.clone(), span.kind));
    // Of spans with one id and kind the first counts.
    rows.dedup_by_key(|(.., span)| (span.trace_id.clone(), span.span_id.clone(), span.kind));
    rows
}

fn open() -> TraceStore {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    TraceStore::builder("traces")
        .config(config)
        .fs(Arc::new(SimFs::new()))
        .shared(Shared::without_workers())
        .open()
        .unwrap()
}

/// What the store has of the traces of `sent`.
fn held(store: &TraceStore, sent: &[Row]) -> Vec<Row> {
    let id = |(.., span): &Row| TraceId::try_from(&span.trace_id[..]).unwrap();
    let mut ids: Vec<TraceId> = sent.iter().map(id).collect();
    ids.dedup();
    let snapshot = store.snapshot();
    let traces = ids
        .into_iter()
        .map(|id| snapshot.trace(id).unwrap().unwrap());
    rows(traces.flat_map(resource_spans).collect())
}

/// Asserts that the spans of `request` come back, from memory and from blocks.
fn check(what: &str, request: ExportTraceServiceRequest) {
    let store = open();
    let (outcome, _) = otlp_traces::store(&store, request.encode_to_vec().into()).unwrap();
    let sent = rows(request.resource_spans);
    assert!(outcome.rejections.is_empty(), "{what}: {outcome:?}");
    assert_eq!(held(&store, &sent), sent, "{what}");
    store.flush().unwrap();
    assert_eq!(held(&store, &sent), sent, "{what}, sealed");
}

fn pair(key: &str, value: Option<Value>) -> common::KeyValue {
    common::KeyValue {
        key: key.into(),
        value: Some(common::AnyValue { value }),
        ..common::KeyValue::default()
    }
}

/// Two spans with everything that OTLP has.
fn everything() -> ExportTraceServiceRequest {
    let list = |values: Vec<Value>| {
        let values = values
            .into_iter()
            .map(|value| common::AnyValue { value: Some(value) });
        Value::ArrayValue(common::ArrayValue {
            values: values.collect(),
        })
    };
    let map = |values| Value::KvlistValue(common::KeyValueList { values });
    let text = |text: &str| Value::StringValue(text.into());
    let values = vec![
        None,
        Some(text("")),
        Some(text("é")),
        Some(Value::BoolValue(false)),
        Some(Value::BoolValue(true)),
        Some(Value::IntValue(0)),
        Some(Value::IntValue(127)),
        Some(Value::IntValue(128)),
        Some(Value::IntValue(1 << 14)),
        Some(Value::IntValue(1 << 21)),
        Some(Value::IntValue(i64::MIN)),
        Some(Value::DoubleValue(-0.0)),
        Some(Value::DoubleValue(0.5)),
        Some(Value::BytesValue(vec![0, 255])),
        Some(list(vec![])),
        Some(list(vec![text("a"), text("b")])),
        Some(list(vec![text("a"), Value::IntValue(1), list(vec![])])),
        Some(map(vec![])),
        Some(map(vec![pair("k", Some(map(vec![pair("", None)])))])),
    ];
    let attributes: Vec<_> = values
        .iter()
        .map(|value| pair("k", value.clone()))
        .collect();
    let each = values.iter().enumerate();
    let named: Vec<_> = each
        .map(|(n, value)| pair(&format!("k{n}"), value.clone()))
        .collect();
    let spans = [attributes, named]
        .into_iter()
        .zip(1u8..)
        .map(|(attributes, id)| trace::Span {
            trace_id: vec![1; 16],
            span_id: vec![id; 8],
            trace_state: "a=b".into(),
            parent_span_id: vec![9; 8],
            flags: 257,
            name: "é".into(),
            kind: 7,
            start_time_unix_nano: 5,
            end_time_unix_nano: 3,
            dropped_attributes_count: 1,
            events: vec![
                span::Event {
                    time_unix_nano: 1,
                    name: "e".into(),
                    attributes: attributes.clone(),
                    dropped_attributes_count: 2,
                },
                span::Event::default(),
            ],
            dropped_events_count: 3,
            links: vec![
                span::Link {
                    trace_id: vec![2; 16],
                    span_id: vec![3; 7],
                    trace_state: "c=d".into(),
                    attributes: attributes.clone(),
                    dropped_attributes_count: 4,
                    flags: u32::MAX,
                },
                span::Link::default(),
            ],
            dropped_links_count: 5,
            attributes,
            status: Some(trace::Status {
                message: "m".into(),
                code: -2,
            }),
        });
    let scope_spans = trace::ScopeSpans {
        scope: Some(InstrumentationScope {
            name: "lib".into(),
            version: "1".into(),
            attributes: vec![pair("k", Some(Value::IntValue(1)))],
            dropped_attributes_count: 6,
        }),
        spans: spans.collect(),
        schema_url: "scope".into(),
    };
    let resource = Resource {
        attributes: vec![pair("service.name", Some(text("s")))],
        dropped_attributes_count: 7,
        ..Resource::default()
    };
    let resource_spans = vec![trace::ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        schema_url: "resource".into(),
    }];
    ExportTraceServiceRequest { resource_spans }
}

#[test]
fn values_of_every_kind_come_back() {
    check("every kind", everything());
}

/// The rows that the engine takes of those that were sent.
fn good(sent: Vec<Row>) -> Vec<Row> {
    let is_zero = |id: &[u8]| id.iter().all(|byte| *byte == 0);
    let is_id = |id: &[u8], len: usize| id.len() == len && !is_zero(id);
    let good = sent.into_iter().filter_map(|mut row| {
        let span = &mut row.4;
        if is_zero(&span.parent_span_id) {
            span.parent_span_id.clear();
        }
        let has_parent = span.parent_span_id.is_empty() || span.parent_span_id.len() == 8;
        let is_good = is_id(&span.trace_id, 16) && is_id(&span.span_id, 8) && has_parent;
        is_good.then_some(row)
    });
    good.collect()
}

#[test]
fn what_generated_code_reads_of_damage_is_read_the_same() {
    let bytes = everything().encode_to_vec();
    let (mut read, mut refused, mut looser) = (0, 0, 0);
    let mut check = |damaged: Vec<u8>| {
        let store = open();
        let expect = ExportTraceServiceRequest::decode(&damaged[..]);
        let stored = otlp_traces::store(&store, damaged.clone().into());
        match (expect, stored) {
            (Ok(request), Ok((outcome, _))) => {
                let sent = good(rows(request.resource_spans));
                let held = held(&store, &sent);
                assert_eq!(held, sent, "{damaged:02x?}");
                assert_eq!(outcome.stored, sent.len() as u64, "{damaged:02x?}");
                read += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            // A value that a later one replaces is not looked at.
            (Err(_), Ok(_)) => looser += 1,
            (Ok(_), Err(refusal)) => panic!("{refusal}: {damaged:02x?}"),
        }
    };
    for at in 0..bytes.len() {
        check(bytes[..at].to_vec());
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        check(damaged);
    }
    let all = bytes.len();
    assert!(read > all / 4 && refused > all, "{read} {refused} of {all}");
    assert!(looser <= 1, "{looser}");
}

/// The traces of others in `TRINE_DATA` (or `../shared/data` beside the workspace), where it is, with
/// the names of their files.
#[expect(clippy::disallowed_methods, reason = "reads samples, stores nothing")]
fn of_others() -> Vec<(String, ExportTraceServiceRequest)> {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").into();
    let folder = std::env::var("TRINE_DATA").unwrap_or_else(|_| beside());
    let folder = Path::new(&folder);
    let mut found = Vec::new();
    for of_files in [
        "otlp",
        "traces/jaeger-integration/traces",
        "traces/tempo-servicegraphs",
        "traces/tempo-vulture",
    ] {
        let Ok(entries) = std::fs::read_dir(folder.join(of_files)) else {
            return Vec::new();
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let text = std::fs::read_to_string(&path).unwrap();
            if is_json && text.contains("\"resourceSpans\"") {
                let mut request = serde_json::from_str(&text).unwrap();
                to_otlp(&mut request);
                let request = serde_json::from_value(request).unwrap();
                found.push((path.display().to_string(), request));
            }
        }
    }
    assert!(found.len() >= 40, "{} files", found.len());
    found
}

#[test]
fn traces_of_others_come_back() {
    for (what, request) in of_others() {
        check(&what, request);
    }
}

/// The rows of an answer in JSON, whose trace is at `place`.
fn of_json(text: &str, place: &str) -> Vec<Row> {
    let mut answer: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut spans = answer.pointer_mut(place).unwrap().take();
    to_otlp(&mut spans);
    let request = serde_json::json!({ "resourceSpans": spans });
    let request: ExportTraceServiceRequest = serde_json::from_value(request).unwrap();
    rows(request.resource_spans)
}

#[tokio::test]
async fn traces_of_others_come_back_over_http() {
    for (what, request) in of_others() {
        let harness = Harness::new(super::super::mount, |_| {});
        let store = harness.tenant().traces().unwrap();
        otlp_traces::store(&store, request.encode_to_vec().into()).unwrap();
        let sent = rows(request.resource_spans);
        let mut ids: Vec<Vec<u8>> = sent.iter().map(|row| row.4.trace_id.clone()).collect();
        ids.dedup();
        for id in ids {
            let of_trace = sent.iter().filter(|row| row.4.trace_id == id);
            let expect: Vec<Row> = of_trace.cloned().collect();
            let first = format!("/api/traces/{}", crate::ingest::otlp_value::hex(&id));
            let second = first.replace("traces", "v2/traces");
            let json = harness.get(&first).await;
            assert_eq!(of_json(json.text(), "/batches"), expect, "{what}");
            let json = harness.get(&second).await;
            assert_eq!(
                of_json(json.text(), "/trace/resourceSpans"),
                expect,
                "{what}"
            );
            for (path, is_first) in [(first, true), (second, false)] {
                let request = Request::get(path).header("Accept", "application/protobuf");
                let answer = harness.send(request.body(Body::empty()).unwrap()).await;
                let trace = if is_first {
                    answer.body.into()
                } else {
                    let response = TraceByIdResponse::decode(&*answer.body).unwrap();
                    response.trace.unwrap()
                };
                let trace = Trace::decode(trace).unwrap();
                assert_eq!(rows(trace.resource_spans), expect, "{what}");
            }
        }
    }
}
