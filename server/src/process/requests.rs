//! Requests of spans for the tests of `process`.

use axum::body::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use trine_storage::Labels;
use trine_tracestore::StoredSpans;

use super::series::Told;

/// When the spans of tests begin, milliseconds since 1970.
pub(super) const START_MS: i64 = 1_700_000_000_000;

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A span of trace 1 that takes so many milliseconds.
pub(super) fn span(kind: i32, (id, parent): (u8, u8), took_ms: u64) -> Span {
    let start = START_MS.unsigned_abs() * 1_000_000;
    let id_of = |id: u8| match id {
        0 => Vec::new(),
        id => vec![id; 8],
    };
    Span {
        trace_id: vec![1; 16],
        span_id: id_of(id),
        parent_span_id: id_of(parent),
        name: format!("span {id}"),
        kind,
        start_time_unix_nano: start,
        end_time_unix_nano: start + took_ms * 1_000_000,
        ..Span::default()
    }
}

pub(super) fn failed(span: Span) -> Span {
    let status = Some(Status {
        message: "it broke".to_owned(),
        code: 2,
    });
    Span { status, ..span }
}

/// A request of spans by resource.
pub(super) fn request(groups: Vec<(Vec<KeyValue>, Vec<Span>)>) -> StoredSpans {
    let resource_spans = groups.into_iter().map(|(attributes, spans)| ResourceSpans {
        resource: Some(Resource {
            attributes,
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    });
    encoded(&ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    })
}

pub(super) fn encoded(request: &ExportTraceServiceRequest) -> StoredSpans {
    StoredSpans::of_request(Bytes::from(request.encode_to_vec()))
}

/// The spans of a service.
pub(super) fn of(service: &str, spans: Vec<Span>) -> (Vec<KeyValue>, Vec<Span>) {
    (vec![text("service.name", service)], spans)
}

/// A series as text, with its value.
pub(super) fn shown(told: &Told) -> (Labels, f64) {
    let value = match &told.value {
        trine_tsdb::Value::Float(value) => *value,
        trine_tsdb::Value::Histogram(histogram) => histogram.count(),
        _ => f64::NAN,
    };
    (told.all_labels(), value)
}
