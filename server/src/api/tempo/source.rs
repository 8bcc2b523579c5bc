//! A tenant's traces as Tempo's API asks for them; nothing is found for a tenant without traces.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use trine_query::budget::BudgetError;
use trine_query::text::unquote;
use trine_query::traceql::{self, Engine, QueryError, SearchOptions, TraceSummary};
use trine_storage::{Error, TimeRange};
use trine_tracestore::{AttributeRef, AttributeScope, Intrinsic, Snapshot, Value, ValuesRequest};

use super::otlp;
use super::request::{Search, hex};
use super::tags::{TagScope, TagValue};
use crate::api::prometheus::run::Asked;
use crate::proto::tempo::{SearchMetrics, SearchResponse, Span, SpanSet, TraceSearchMetadata};
use crate::refusal::{Reason, Refusal};

/// The service of a trace whose root did not arrive.
const ROOT_UNKNOWN: &str = "<root span not yet received>";

fn snapshot(asked: &Asked) -> Result<Option<Snapshot>, Error> {
    let engine = match &asked.tenant {
        Some(tenant) => tenant.read_traces()?,
        None => None,
    };
    Ok(engine.map(|engine| engine.snapshot()))
}

/// The spans of a trace; none when it is not known.
pub(super) fn trace(asked: &Asked, id: [u8; 16]) -> Result<Vec<ResourceSpans>, Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(Vec::new());
    };
    Ok(snapshot
        .trace(id)?
        .map_or_else(Vec::new, otlp::resource_spans))
}

/// The traces that a search finds, the newest first.
pub(super) fn search(asked: &Asked, search: &Search) -> Result<SearchResponse, Refusal> {
    let query = traceql::parse(&search.query)
        .map_err(|error| Refusal::bad(format!("invalid TraceQL query: {error}")))?;
    let Some(snapshot) = snapshot(asked)? else {
        let metrics = Some(SearchMetrics::default());
        return Ok(SearchResponse {
            traces: Vec::new(),
            metrics,
        });
    };
    let options = SearchOptions {
        limit: search.limit,
        spans_per_span_set: search.spans_per_set.unwrap_or(0),
    };
    let engine = Engine::with_clock(asked.limits(), Arc::clone(&asked.app.clock));
    let found = engine
        .search(&snapshot, &query, search.range, &options, &asked.cancel)
        .map_err(refusal)?;
    let metrics = SearchMetrics {
        inspected_traces: u32::try_from(found.inspected_traces).unwrap_or(u32::MAX),
        inspected_spans: found.inspected_spans,
        ..SearchMetrics::default()
    };
    let traces = found.traces.into_iter().map(found_trace).collect();
    Ok(SearchResponse {
        traces,
        metrics: Some(metrics),
    })
}

fn refusal(error: QueryError) -> Refusal {
    match error {
        QueryError::Source(error) => error.into(),
        QueryError::Budget(BudgetError::TimedOut | BudgetError::Canceled) => {
            Refusal::new(Reason::Timeout, error.to_string())
        }
        other => Refusal::bad(other.to_string()),
    }
}

fn found_trace(trace: TraceSummary) -> TraceSearchMetadata {
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("").to_owned();
    let span_sets: Vec<SpanSet> = trace.span_sets.into_iter().map(span_set).collect();
    TraceSearchMetadata {
        trace_id: hex(&trace.id),
        root_service_name: match &trace.root_name {
            Some(_) => text(&trace.root_service),
            None => ROOT_UNKNOWN.to_owned(),
        },
        root_trace_name: text(&trace.root_name),
        start_time_unix_nano: trace.start_ns.cast_unsigned(),
        duration_ms: u32::try_from(trace.duration_ns / 1_000_000).unwrap_or(u32::MAX),
        span_set: span_sets.first().cloned(),
        span_sets,
    }
}

fn span_set(set: traceql::SpanSet) -> SpanSet {
    let span = |span: traceql::SpanResult| Span {
        span_id: hex(&span.id),
        name: span.name.to_string(),
        start_time_unix_nano: span.start_ns.cast_unsigned(),
        duration_nanos: span.duration_ns,
        attributes: span.attributes.into_iter().map(attribute_found).collect(),
    };
    SpanSet {
        spans: set.spans.into_iter().map(span).collect(),
        matched: narrow(set.matched),
        attributes: set.attributes.into_iter().map(attribute_found).collect(),
    }
}

fn attribute_found((key, value): (String, traceql::source::Value)) -> KeyValue {
    KeyValue {
        key,
        value: Some(found_value(value)),
        ..KeyValue::default()
    }
}

fn found_value(value: traceql::source::Value) -> AnyValue {
    use traceql::source::Value;
    let value = match value {
        Value::Str(text) => any_value::Value::StringValue(text.to_string()),
        Value::Int(number) => any_value::Value::IntValue(number),
        Value::Float(number) => any_value::Value::DoubleValue(number),
        Value::Bool(truth) => any_value::Value::BoolValue(truth),
        Value::Array(values) => {
            let values = values.into_iter().map(found_value).collect();
            any_value::Value::ArrayValue(ArrayValue { values })
        }
    };
    AnyValue { value: Some(value) }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The names of attributes, sorted.
pub(super) fn attribute_names(
    asked: &Asked,
    range: TimeRange,
) -> Result<Vec<(TagScope, String)>, Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(Vec::new());
    };
    let found = snapshot.attribute_names(range)?;
    let named = |(scope, name, _)| {
        let scope = match scope {
            AttributeScope::Resource => TagScope::Resource,
            AttributeScope::Span => TagScope::Span,
            AttributeScope::Event => TagScope::Event,
            AttributeScope::Link => TagScope::Link,
            AttributeScope::Instrumentation => TagScope::Instrumentation,
        };
        (scope, name)
    };
    Ok(found.into_iter().map(named).collect())
}

/// At most `limit` values of an attribute or of what is built in, named as in TraceQL; sorted.
pub(super) fn attribute_values(
    asked: &Asked,
    name: &str,
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Vec<TagValue>, Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(Vec::new());
    };
    let limit = limit.unwrap_or(usize::MAX);
    let attribute = match name {
        // What roots are called is among what spans are called, and likewise of services: a list
        // to choose from may hold more.
        "name" | "span:name" | "rootName" | "trace:rootName" => {
            AttributeRef::Intrinsic(Intrinsic::Name)
        }
        "rootServiceName" | "trace:rootService" => AttributeRef::Attribute {
            scope: Some(AttributeScope::Resource),
            key: "service.name".to_owned(),
        },
        _ => {
            let (scope, key) = attribute(name);
            AttributeRef::Attribute { scope, key }
        }
    };
    let values = snapshot.attribute_values(&ValuesRequest {
        attribute,
        range,
        filter: None,
        limit,
    })?;
    let values = values.into_iter().map(|(value, _)| value);
    let mut values: Vec<TagValue> = values.filter_map(tag_value).collect();
    values.sort();
    Ok(values)
}

/// Scope and key of an attribute: `resource.service.name`, `.service.name`, `span."a b"`, and for
/// older clients a key alone.
fn attribute(name: &str) -> (Option<AttributeScope>, String) {
    let scopes = [
        ("resource.", Some(AttributeScope::Resource)),
        ("span.", Some(AttributeScope::Span)),
        ("event.", Some(AttributeScope::Event)),
        ("link.", Some(AttributeScope::Link)),
        ("instrumentation.", Some(AttributeScope::Instrumentation)),
        (".", None),
    ];
    let found = scopes.iter().find_map(|(prefix, scope)| {
        let key = name.strip_prefix(prefix)?;
        Some((*scope, key))
    });
    let (scope, key) = found.unwrap_or((None, name));
    let key = if key.starts_with('"') {
        unquote(key).ok()
    } else {
        None
    }
    .unwrap_or_else(|| key.to_owned());
    (scope, key)
}

fn tag_value(value: Value) -> Option<TagValue> {
    let (kind, value) = match value {
        Value::Str(text) => ("string", text.to_string()),
        Value::Int(number) => ("int", number.to_string()),
        Value::Float(number) => ("float", trine_query::text::format_float(number)),
        Value::Bool(truth) => ("bool", truth.to_string()),
        // The store gives the elements of arrays on their own.
        Value::Array(_) => return None,
    };
    Some(TagValue { kind, value })
}

#[cfg(test)]
mod tests {
    use super::{AttributeScope, attribute};

    #[test]
    fn names_of_attributes() {
        for (name, scope, key) in [
            (
                "resource.service.name",
                Some(AttributeScope::Resource),
                "service.name",
            ),
            (
                "span.http.method",
                Some(AttributeScope::Span),
                "http.method",
            ),
            ("event.a", Some(AttributeScope::Event), "a"),
            ("link.a", Some(AttributeScope::Link), "a"),
            (
                "instrumentation.a",
                Some(AttributeScope::Instrumentation),
                "a",
            ),
            (".a.b", None, "a.b"),
            ("a.b", None, "a.b"),
            ("span.\"a b\"", Some(AttributeScope::Span), "a b"),
            ("span.\"a", Some(AttributeScope::Span), "\"a"),
        ] {
            assert_eq!(attribute(name), (scope, key.to_owned()), "{name}");
        }
    }
}
