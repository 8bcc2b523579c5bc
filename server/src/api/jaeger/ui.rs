//! Traces as Jaeger's UI reads them: spans with tags and logs, and the processes that made them in a
//! table. The handlers in `jaeger` call it with spans of OTLP.
//!
//! What OTLP has a field for and Jaeger has none becomes a tag under the name that OpenTelemetry gives
//! it for Jaeger: kind, status, scope, trace state.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

use crate::api::prometheus::json::{self, Object};
use crate::ingest::jaeger_tags as tags;
use crate::ingest::otlp_value;

/// The largest integer that a number of JavaScript holds exactly; larger ones are written as text.
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The attribute that holds what is wrong with a span.
const WARNINGS: &str = "@jaeger@warnings";

/// The services of spans whose resource does not name one.
pub(super) const SERVICE_MISSING: &str = "missing-service-name";
const SERVICE_EMPTY: &str = "empty-service-name";
const SERVICE_NOT_TEXT: &str = "service-name-wrong-type";

/// The flag of a span that was sampled, in OTLP and in Jaeger.
const SAMPLED: u32 = 1;

const MICROSECOND_NS: u64 = 1000;

/// Writes a trace.
pub(super) fn trace(out: &mut String, resource_spans: &[ResourceSpans]) {
    let mut processes = Processes::default();
    let mut object = Object::begin(out);
    let first = resource_spans.iter().flat_map(|spans| &spans.scope_spans);
    let first = first.flat_map(|spans| &spans.spans).next();
    object.text(
        "traceID",
        &trace_id(first.map_or(&[], |span| &span.trace_id)),
    );
    let spans = resource_spans.iter().flat_map(|of_resource| {
        let resource = of_resource.resource.as_ref();
        let scopes = of_resource.scope_spans.iter();
        scopes.flat_map(move |of_scope| {
            let spans = of_scope.spans.iter();
            spans.map(move |span| (resource, of_scope.scope.as_ref(), span))
        })
    });
    // Spans of one resource follow each other: its process is looked for once.
    let mut last: Option<(Option<&Resource>, usize)> = None;
    json::array(object.key("spans"), spans, |out, (resource, scope, one)| {
        let same = |known: Option<&Resource>| match (known, resource) {
            (Some(a), Some(b)) => std::ptr::eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let number = match last {
            Some((known, number)) if same(known) => number,
            _ => processes.number(resource),
        };
        last = Some((resource, number));
        span(out, scope, one, number);
    });
    let mut table = Object::begin(object.key("processes"));
    for (at, process) in processes.written.iter().enumerate() {
        table.raw(&format!("p{}", at + 1), process);
    }
    table.end();
    object.raw("warnings", "null");
    object.end();
}

/// The processes of a trace as they are written, each once, numbered from 1.
#[derive(Debug, Default)]
struct Processes {
    written: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Processes {
    fn number(&mut self, resource: Option<&Resource>) -> usize {
        let mut out = String::new();
        process(&mut out, resource);
        let next = self.written.len() + 1;
        match self.numbers.entry(out) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.written.push(new.key().clone());
                *new.insert(next)
            }
        }
    }
}

fn process(out: &mut String, resource: Option<&Resource>) {
    let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
    let mut object = Object::begin(out);
    object.text("serviceName", service_name(attributes));
    let others = attributes.iter().filter(|pair| pair.key != tags::SERVICE);
    json::array(object.key("tags"), others, tag);
    object.end();
}

/// The service that the attributes of a resource name, or a name for what they lack.
pub(super) fn service_name(attributes: &[KeyValue]) -> &str {
    let found = attributes.iter().find(|pair| pair.key == tags::SERVICE);
    match found.map(|pair| pair.value.as_ref().and_then(|value| value.value.as_ref())) {
        None => SERVICE_MISSING,
        Some(Some(Value::StringValue(name))) if name.is_empty() => SERVICE_EMPTY,
        Some(Some(Value::StringValue(name))) => name,
        Some(_) => SERVICE_NOT_TEXT,
    }
}

fn span(out: &mut String, scope: Option<&InstrumentationScope>, span: &Span, process: usize) {
    let mut object = Object::begin(out);
    object.text("traceID", &trace_id(&span.trace_id));
    object.text("spanID", &span_id(&span.span_id));
    if span.flags & SAMPLED != 0 {
        object.raw("flags", SAMPLED);
    }
    object.text("operationName", &span.name);
    references(object.key("references"), span);
    object.raw("startTime", span.start_time_unix_nano / MICROSECOND_NS);
    let took = span
        .end_time_unix_nano
        .saturating_sub(span.start_time_unix_nano);
    object.raw("duration", took / MICROSECOND_NS);
    let all = span_tags(scope, span);
    let own = span.attributes.iter().filter(|pair| pair.key != WARNINGS);
    let (before, after) = all;
    let all = before.iter().chain(own).chain(&after);
    json::array(object.key("tags"), all, tag);
    json::array(object.key("logs"), &span.events, log);
    object.text("processID", &format!("p{process}"));
    warnings(object.key("warnings"), span);
    object.end();
}

/// What stands before and behind the attributes of a span: its scope; its kind, status and state.
fn span_tags(scope: Option<&InstrumentationScope>, span: &Span) -> (Vec<KeyValue>, Vec<KeyValue>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    if let Some(scope) = scope {
        for (key, value) in [
            (tags::SCOPE_NAME, &scope.name),
            (tags::SCOPE_VERSION, &scope.version),
        ] {
            if !value.is_empty() {
                before.push(tags::text(key, value.clone()));
            }
        }
    }
    let kind = SpanKind::try_from(span.kind).unwrap_or_default();
    if let Some(kind) = tags::kind_name(kind) {
        after.push(tags::text(tags::KIND, kind));
    }
    if let Some(status) = &span.status {
        match StatusCode::try_from(status.code) {
            Ok(StatusCode::Error) => {
                after.push(tags::text(tags::STATUS, tags::STATUS_ERROR));
                after.push(tags::pair(tags::ERROR, Value::BoolValue(true)));
            }
            Ok(StatusCode::Ok) => after.push(tags::text(tags::STATUS, tags::STATUS_OK)),
            _ => {}
        }
        if !status.message.is_empty() {
            after.push(tags::text(tags::STATUS_MESSAGE, status.message.clone()));
        }
    }
    if !span.trace_state.is_empty() {
        after.push(tags::text(tags::TRACE_STATE, span.trace_state.clone()));
    }
    (before, after)
}

/// The parent first. A link to the parent tells of which type the reference to it is.
fn references(out: &mut String, span: &Span) {
    let id = |bytes: &[u8]| number(bytes);
    let has_parent = id(&span.parent_span_id) != 0;
    let is_parent = |link: &&Link| {
        has_parent
            && id(&link.trace_id) == id(&span.trace_id)
            && id(&link.span_id) == id(&span.parent_span_id)
    };
    let parent = has_parent.then(|| {
        let told = span.links.iter().rfind(is_parent);
        let is_child = told.is_none_or(is_child_of);
        (is_child, &span.trace_id, &span.parent_span_id)
    });
    let others = span.links.iter().filter(|link| !is_parent(link));
    let others = others.map(|link| (is_child_of(link), &link.trace_id, &link.span_id));
    let all = parent.into_iter().chain(others);
    json::array(out, all, |out, (is_child, trace, span)| {
        let mut object = Object::begin(out);
        let kind = if is_child { "CHILD_OF" } else { "FOLLOWS_FROM" };
        object.text("refType", kind);
        object.text("traceID", &trace_id(trace));
        object.text("spanID", &span_id(span));
        object.end();
    });
}

fn is_child_of(link: &Link) -> bool {
    let told = link
        .attributes
        .iter()
        .find(|pair| pair.key == tags::REF_TYPE);
    let told = told.and_then(|pair| pair.value.as_ref());
    matches!(
        told.and_then(|value| value.value.as_ref()),
        Some(Value::StringValue(text)) if text == tags::CHILD_OF
    )
}

fn log(out: &mut String, event: &Event) {
    let mut object = Object::begin(out);
    object.raw("timestamp", event.time_unix_nano / MICROSECOND_NS);
    let has_own = event.attributes.iter().any(|pair| pair.key == tags::EVENT);
    let name =
        (!event.name.is_empty() && !has_own).then(|| tags::text(tags::EVENT, event.name.clone()));
    let fields = name.iter().chain(&event.attributes);
    json::array(object.key("fields"), fields, tag);
    object.end();
}

fn warnings(out: &mut String, span: &Span) {
    let found = span.attributes.iter().find(|pair| pair.key == WARNINGS);
    let found = found.and_then(|pair| pair.value.as_ref()?.value.as_ref());
    let Some(Value::ArrayValue(texts)) = found else {
        return out.push_str("null");
    };
    let texts = texts.values.iter();
    json::strings(out, texts.map(|text| otlp_value::text(Some(text))));
}

fn tag(out: &mut String, pair: &KeyValue) {
    let mut object = Object::begin(out);
    object.text("key", &pair.key);
    let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
    let kind = match value {
        Some(Value::BoolValue(_)) => "bool",
        Some(Value::IntValue(_)) => "int64",
        Some(Value::DoubleValue(_)) => "float64",
        Some(Value::BytesValue(_)) => "binary",
        _ => "string",
    };
    object.text("type", kind);
    match value {
        Some(Value::BoolValue(truth)) => object.raw("value", truth),
        Some(Value::IntValue(number)) if number.unsigned_abs() <= SAFE_INTEGER_MAX => {
            object.raw("value", number);
        }
        Some(Value::IntValue(number)) => object.text("value", &number.to_string()),
        Some(Value::DoubleValue(number)) if number.is_finite() => {
            json::float(object.key("value"), *number);
        }
        Some(Value::DoubleValue(number)) => {
            let text = trine_query::text::format_float(*number);
            object.text("value", &text);
        }
        Some(Value::BytesValue(bytes)) => object.text("value", &otlp_value::base64(bytes)),
        _ => other(&mut object, pair.value.as_ref()),
    }
    object.end();
}

/// Text as it is; arrays and maps as JSON in a text.
fn other(object: &mut Object<'_>, value: Option<&AnyValue>) {
    object.text("value", &otlp_value::text(value));
}

/// The number that an id is; links may hold anything, of which the last bytes count.
fn number(id: &[u8]) -> u128 {
    let last = id.iter().rev().take(16).rev();
    last.fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// A trace id as Jaeger writes it: sixteen digits, or thirty-two where there are more.
pub(super) fn trace_id(id: &[u8]) -> String {
    let id = number(id);
    match u64::try_from(id) {
        Ok(low) => format!("{low:016x}"),
        Err(_) => format!("{id:032x}"),
    }
}

fn span_id(id: &[u8]) -> String {
    let low = number(id) & u128::from(u64::MAX);
    format!("{low:016x}")
}

#[cfg(test)]
mod tests;
