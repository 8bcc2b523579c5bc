//! A trace of the store in the messages of OTLP, for `tempo` to answer with. What came in through
//! OTLP goes out unchanged, but every span has a status and every group of spans a scope: Grafana
//! reads them without asking whether they are there.

use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use opentelemetry_proto::tonic::trace::v1::span;
use trine_tracestore as store;

/// The spans of a trace by resource and scope.
pub(in crate::api) fn resource_spans(trace: store::Trace) -> Vec<trace::ResourceSpans> {
    trace.resources.into_iter().map(of_resource).collect()
}

fn of_resource(spans: store::ResourceSpans) -> trace::ResourceSpans {
    let resource = &spans.resource;
    trace::ResourceSpans {
        resource: Some(Resource {
            attributes: attributes(resource.attributes.clone()),
            dropped_attributes_count: resource.dropped_attributes_count,
            ..Resource::default()
        }),
        scope_spans: spans.scopes.into_iter().map(of_scope).collect(),
        schema_url: resource.schema_url.clone(),
    }
}

fn of_scope(spans: store::ScopeSpans) -> trace::ScopeSpans {
    let scope = &spans.scope;
    trace::ScopeSpans {
        scope: Some(common::InstrumentationScope {
            name: scope.name.clone(),
            version: scope.version.clone(),
            attributes: attributes(scope.attributes.clone()),
            dropped_attributes_count: scope.dropped_attributes_count,
        }),
        spans: spans.spans.into_iter().map(span).collect(),
        schema_url: scope.schema_url.clone(),
    }
}

fn span(span: store::Span) -> trace::Span {
    let status = span.status.unwrap_or_default();
    trace::Span {
        trace_id: span.trace_id.to_vec(),
        span_id: span.span_id.to_vec(),
        trace_state: span.trace_state,
        parent_span_id: span.parent_span_id.map_or_else(Vec::new, |id| id.to_vec()),
        flags: span.flags,
        name: span.name,
        kind: span.kind,
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: attributes(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span.events.into_iter().map(event).collect(),
        dropped_events_count: span.dropped_events_count,
        links: span.links.into_iter().map(link).collect(),
        dropped_links_count: span.dropped_links_count,
        status: Some(trace::Status {
            message: status.message,
            code: status.code,
        }),
    }
}

fn event(event: store::Event) -> span::Event {
    span::Event {
        time_unix_nano: event.time_ns,
        name: event.name,
        attributes: attributes(event.attributes),
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn link(link: store::Link) -> span::Link {
    span::Link {
        trace_id: link.trace_id,
        span_id: link.span_id,
        trace_state: link.trace_state,
        attributes: attributes(link.attributes),
        dropped_attributes_count: link.dropped_attributes_count,
        flags: link.flags,
    }
}

fn attributes(attributes: Vec<store::KeyValue>) -> Vec<common::KeyValue> {
    let one = |attribute: store::KeyValue| common::KeyValue {
        key: String::from(&*attribute.key),
        value: Some(any_value(attribute.value)),
        ..common::KeyValue::default()
    };
    attributes.into_iter().map(one).collect()
}

fn any_value(value: store::AnyValue) -> common::AnyValue {
    let value = match value {
        store::AnyValue::Empty => None,
        store::AnyValue::String(text) => Some(Value::StringValue(text)),
        store::AnyValue::Bool(truth) => Some(Value::BoolValue(truth)),
        store::AnyValue::Int(number) => Some(Value::IntValue(number)),
        store::AnyValue::Double(number) => Some(Value::DoubleValue(number)),
        store::AnyValue::Bytes(bytes) => Some(Value::BytesValue(bytes)),
        store::AnyValue::Array(values) => {
            let values = values.into_iter().map(any_value).collect();
            Some(Value::ArrayValue(common::ArrayValue { values }))
        }
        store::AnyValue::KeyValues(pairs) => Some(Value::KvlistValue(common::KeyValueList {
            values: attributes(pairs),
        })),
    };
    common::AnyValue { value }
}

#[cfg(test)]
mod tests;
