//! The JSON of Tempo's API, which is that of Go's jsonpb: what has its zero value is left out,
//! 64-bit integers are strings, bytes are base64, enumerations are names. Keys that a client does
//! not know make it refuse the whole answer, so none are added.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::tags::Listed;
use crate::api::prometheus::json::{self, Object};
use crate::ingest::otlp_value::{base64, hex};
use crate::proto::tempo::{
    Exemplar, InstantSeries, MetadataMetrics, PartialStatus, QueryInstantResponse,
    QueryRangeResponse, Sample, SearchMetrics, SearchResponse, SearchTagsResponse,
    SearchTagsV2Response, Span as FoundSpan, SpanSet, TimeSeries, TraceSearchMetadata,
};

/// How spans are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Form {
    /// As jsonpb: ids in base64, enumerations by name.
    Jsonpb,
    /// As OTLP: ids in hexadecimal digits, enumerations by number.
    Otlp,
}

/// A trace by its first name: `batches`.
pub(super) fn batches(resource_spans: &[ResourceSpans]) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(object.key("batches"), resource_spans, |out, spans| {
        Form::Jsonpb.of_resource(out, spans);
    });
    object.end();
    out
}

/// A trace in its envelope, and why it is not all of it. `trace` is there even when nothing is in
/// it.
pub(super) fn trace(resource_spans: &[ResourceSpans], message: &str) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    put_trace(object.key("trace"), resource_spans);
    if !message.is_empty() {
        object.text("status", PARTIAL);
        object.text("message", message);
    }
    object.end();
    out
}

/// The name of [`PartialStatus::Partial`].
const PARTIAL: &str = "PARTIAL";

/// Writes a trace without its envelope.
pub(super) fn put_trace(out: &mut String, resource_spans: &[ResourceSpans]) {
    let mut trace = Object::begin(out);
    Form::Jsonpb.resource_spans(&mut trace, resource_spans);
    trace.end();
}

/// The answer to a search.
pub(super) fn search(response: &SearchResponse) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    // Grafana and people with curl both like an empty list better than none.
    json::array(object.key("traces"), &response.traces, found_trace);
    if let Some(figures) = &response.metrics {
        metrics(object.key("metrics"), figures);
    }
    object.end();
    out
}

/// Names of attributes.
pub(super) fn tags(response: &SearchTagsResponse) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::strings(object.key("tagNames"), &response.tag_names);
    cost(&mut object, response.metrics.as_ref());
    object.end();
    out
}

/// Names of attributes by scope.
pub(super) fn scopes(response: &SearchTagsV2Response) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(object.key("scopes"), &response.scopes, |out, scope| {
        let mut object = Object::begin(out);
        object.text("name", &scope.name);
        json::strings(object.key("tags"), &scope.tags);
        object.end();
    });
    cost(&mut object, response.metrics.as_ref());
    object.end();
    out
}

/// Values of an attribute.
pub(super) fn values(values: &[Listed]) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    let texts = values.iter().map(|(_, text)| text);
    json::strings(object.key("tagValues"), texts);
    cost(&mut object, Some(&MetadataMetrics::default()));
    object.end();
    out
}

/// Values of an attribute with their types.
pub(super) fn typed_values(values: &[Listed]) -> String {
    /// About what a value takes beside its text.
    const BESIDE_BYTES: usize = 32;
    let texts: usize = values
        .iter()
        .map(|(_, text)| text.len() + BESIDE_BYTES)
        .sum();
    let mut out = String::with_capacity(texts);
    let mut object = Object::begin(&mut out);
    // Most values have the type of the one before.
    let (mut kind_before, mut head) = ("", String::new());
    json::array(object.key("tagValues"), values, |out, (kind, text)| {
        if *kind != kind_before {
            head = format!("{{\"type\":\"{kind}\",\"value\":");
            kind_before = kind;
        }
        out.push_str(&head);
        json::string(out, text);
        out.push('}');
    });
    cost(&mut object, Some(&MetadataMetrics::default()));
    object.end();
    out
}

fn cost(object: &mut Object<'_>, metrics: Option<&MetadataMetrics>) {
    let Some(metrics) = metrics else { return };
    let mut object = Object::begin(object.key("metrics"));
    long(&mut object, "inspectedBytes", metrics.inspected_bytes);
    count(&mut object, "totalJobs", metrics.total_jobs);
    count(&mut object, "completedJobs", metrics.completed_jobs);
    count(&mut object, "totalBlocks", metrics.total_blocks);
    long(&mut object, "totalBlockBytes", metrics.total_block_bytes);
    object.end();
}

/// Series over time.
pub(super) fn range(response: &QueryRangeResponse) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(object.key("series"), &response.series, time_series);
    if let Some(figures) = &response.metrics {
        metrics(object.key("metrics"), figures);
    }
    partial(&mut object, response.status, &response.message);
    object.end();
    out
}

/// Series with one value each.
pub(super) fn instant(response: &QueryInstantResponse) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(object.key("series"), &response.series, instant_series);
    if let Some(figures) = &response.metrics {
        metrics(object.key("metrics"), figures);
    }
    partial(&mut object, response.status, &response.message);
    object.end();
    out
}

fn partial(object: &mut Object<'_>, status: i32, message: &str) {
    if status == i32::from(PartialStatus::Partial) {
        object.text("status", PARTIAL);
    }
    text(object, "message", message);
}

fn time_series(out: &mut String, series: &TimeSeries) {
    let mut object = Object::begin(out);
    list(&mut object, "labels", &series.labels, attribute);
    list(&mut object, "samples", &series.samples, sample);
    list(&mut object, "exemplars", &series.exemplars, exemplar);
    object.end();
}

fn sample(out: &mut String, sample: &Sample) {
    let mut object = Object::begin(out);
    milliseconds(&mut object, sample.timestamp_ms);
    value(&mut object, sample.value);
    object.end();
}

fn exemplar(out: &mut String, exemplar: &Exemplar) {
    let mut object = Object::begin(out);
    list(&mut object, "labels", &exemplar.labels, attribute);
    value(&mut object, exemplar.value);
    milliseconds(&mut object, exemplar.timestamp_ms);
    object.end();
}

fn instant_series(out: &mut String, series: &InstantSeries) {
    let mut object = Object::begin(out);
    list(&mut object, "labels", &series.labels, attribute);
    value(&mut object, series.value);
    object.end();
}

fn milliseconds(object: &mut Object<'_>, time: i64) {
    if time != 0 {
        object.raw("timestampMs", format_args!("\"{time}\""));
    }
}

/// A value: a zero has a sign, which counts.
fn value(object: &mut Object<'_>, value: f64) {
    if value.to_bits() != 0 {
        double(object.key("value"), value);
    }
}

impl Form {
    /// Writes spans as the field `resourceSpans`, unless there are none.
    pub(in crate::api) fn resource_spans(self, object: &mut Object<'_>, spans: &[ResourceSpans]) {
        list(object, "resourceSpans", spans, |out, spans| {
            self.of_resource(out, spans);
        });
    }

    fn of_resource(self, out: &mut String, spans: &ResourceSpans) {
        let mut object = Object::begin(out);
        if let Some(found) = &spans.resource {
            resource(object.key("resource"), found);
        }
        list(
            &mut object,
            "scopeSpans",
            &spans.scope_spans,
            |out, spans| {
                self.of_scope(out, spans);
            },
        );
        text(&mut object, "schemaUrl", &spans.schema_url);
        object.end();
    }

    fn of_scope(self, out: &mut String, spans: &ScopeSpans) {
        let mut object = Object::begin(out);
        if let Some(found) = &spans.scope {
            scope(object.key("scope"), found);
        }
        list(&mut object, "spans", &spans.spans, |out, one| {
            self.span(out, one);
        });
        text(&mut object, "schemaUrl", &spans.schema_url);
        object.end();
    }

    fn span(self, out: &mut String, span: &Span) {
        let mut object = Object::begin(out);
        self.id(&mut object, "traceId", &span.trace_id);
        self.id(&mut object, "spanId", &span.span_id);
        text(&mut object, "traceState", &span.trace_state);
        self.id(&mut object, "parentSpanId", &span.parent_span_id);
        count(&mut object, "flags", span.flags);
        text(&mut object, "name", &span.name);
        match SpanKind::try_from(span.kind) {
            Ok(SpanKind::Unspecified) => {}
            Ok(kind) if self == Self::Jsonpb => object.text("kind", kind.as_str_name()),
            _ => object.raw("kind", span.kind),
        }
        long(&mut object, "startTimeUnixNano", span.start_time_unix_nano);
        long(&mut object, "endTimeUnixNano", span.end_time_unix_nano);
        list(&mut object, "attributes", &span.attributes, attribute);
        count(
            &mut object,
            "droppedAttributesCount",
            span.dropped_attributes_count,
        );
        list(&mut object, "events", &span.events, event);
        count(&mut object, "droppedEventsCount", span.dropped_events_count);
        list(&mut object, "links", &span.links, |out, one| {
            self.link(out, one);
        });
        count(&mut object, "droppedLinksCount", span.dropped_links_count);
        if let Some(found) = &span.status {
            self.status(object.key("status"), found);
        }
        object.end();
    }

    fn status(self, out: &mut String, status: &Status) {
        let mut object = Object::begin(out);
        text(&mut object, "message", &status.message);
        match StatusCode::try_from(status.code) {
            Ok(StatusCode::Unset) => {}
            Ok(code) if self == Self::Jsonpb => object.text("code", code.as_str_name()),
            _ => object.raw("code", status.code),
        }
        object.end();
    }

    fn link(self, out: &mut String, link: &Link) {
        let mut object = Object::begin(out);
        self.id(&mut object, "traceId", &link.trace_id);
        self.id(&mut object, "spanId", &link.span_id);
        text(&mut object, "traceState", &link.trace_state);
        list(&mut object, "attributes", &link.attributes, attribute);
        count(
            &mut object,
            "droppedAttributesCount",
            link.dropped_attributes_count,
        );
        count(&mut object, "flags", link.flags);
        object.end();
    }

    fn id(self, object: &mut Object<'_>, name: &str, id: &[u8]) {
        match self {
            Self::Jsonpb => bytes(object, name, id),
            Self::Otlp => text(object, name, &hex(id)),
        }
    }
}

fn resource(out: &mut String, resource: &Resource) {
    let mut object = Object::begin(out);
    list(&mut object, "attributes", &resource.attributes, attribute);
    count(
        &mut object,
        "droppedAttributesCount",
        resource.dropped_attributes_count,
    );
    object.end();
}

fn scope(out: &mut String, scope: &InstrumentationScope) {
    let mut object = Object::begin(out);
    text(&mut object, "name", &scope.name);
    text(&mut object, "version", &scope.version);
    list(&mut object, "attributes", &scope.attributes, attribute);
    count(
        &mut object,
        "droppedAttributesCount",
        scope.dropped_attributes_count,
    );
    object.end();
}

fn event(out: &mut String, event: &Event) {
    let mut object = Object::begin(out);
    long(&mut object, "timeUnixNano", event.time_unix_nano);
    text(&mut object, "name", &event.name);
    list(&mut object, "attributes", &event.attributes, attribute);
    count(
        &mut object,
        "droppedAttributesCount",
        event.dropped_attributes_count,
    );
    object.end();
}

fn attribute(out: &mut String, attribute: &KeyValue) {
    let mut object = Object::begin(out);
    text(&mut object, "key", &attribute.key);
    if let Some(value) = &attribute.value {
        any_value(object.key("value"), value);
    }
    object.end();
}

/// One of several: it is written even when it is zero, since that says which one it is.
fn any_value(out: &mut String, value: &AnyValue) {
    let mut object = Object::begin(out);
    match &value.value {
        Some(Value::StringValue(value)) => object.text("stringValue", value),
        Some(Value::BoolValue(value)) => object.raw("boolValue", value),
        Some(Value::IntValue(value)) => object.raw("intValue", format_args!("\"{value}\"")),
        Some(Value::DoubleValue(value)) => double(object.key("doubleValue"), *value),
        Some(Value::ArrayValue(array)) => {
            let mut values = Object::begin(object.key("arrayValue"));
            list(&mut values, "values", &array.values, any_value);
            values.end();
        }
        Some(Value::KvlistValue(pairs)) => {
            let mut values = Object::begin(object.key("kvlistValue"));
            list(&mut values, "values", &pairs.values, attribute);
            values.end();
        }
        Some(Value::BytesValue(value)) => object.text("bytesValue", &base64(value)),
        // An index into a table that traces do not have.
        Some(Value::StringValueStrindex(_)) | None => {}
    }
    object.end();
}

fn double(out: &mut String, value: f64) {
    if value.is_finite() {
        json::display(out, value);
    } else {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        json::string(out, name);
    }
}

fn found_trace(out: &mut String, trace: &TraceSearchMetadata) {
    let mut object = Object::begin(out);
    text(&mut object, "traceID", &trace.trace_id);
    text(&mut object, "rootServiceName", &trace.root_service_name);
    text(&mut object, "rootTraceName", &trace.root_trace_name);
    long(&mut object, "startTimeUnixNano", trace.start_time_unix_nano);
    count(&mut object, "durationMs", trace.duration_ms);
    if let Some(set) = &trace.span_set {
        span_set(object.key("spanSet"), set);
    }
    list(&mut object, "spanSets", &trace.span_sets, span_set);
    if !trace.service_stats.is_empty() {
        let mut services: Vec<_> = trace.service_stats.iter().collect();
        services.sort_by_key(|(name, _)| *name);
        let mut stats = Object::begin(object.key("serviceStats"));
        for (name, of_service) in services {
            let mut object = Object::begin(stats.key(name));
            count(&mut object, "spanCount", of_service.span_count);
            count(&mut object, "errorCount", of_service.error_count);
            object.end();
        }
        stats.end();
    }
    object.end();
}

fn span_set(out: &mut String, set: &SpanSet) {
    let mut object = Object::begin(out);
    list(&mut object, "spans", &set.spans, found_span);
    count(&mut object, "matched", set.matched);
    list(&mut object, "attributes", &set.attributes, attribute);
    object.end();
}

fn found_span(out: &mut String, span: &FoundSpan) {
    let mut object = Object::begin(out);
    text(&mut object, "spanID", &span.span_id);
    text(&mut object, "name", &span.name);
    long(&mut object, "startTimeUnixNano", span.start_time_unix_nano);
    long(&mut object, "durationNanos", span.duration_nanos);
    list(&mut object, "attributes", &span.attributes, attribute);
    object.end();
}

fn metrics(out: &mut String, metrics: &SearchMetrics) {
    let mut object = Object::begin(out);
    count(&mut object, "inspectedTraces", metrics.inspected_traces);
    long(&mut object, "inspectedBytes", metrics.inspected_bytes);
    count(&mut object, "totalBlocks", metrics.total_blocks);
    count(&mut object, "completedJobs", metrics.completed_jobs);
    count(&mut object, "totalJobs", metrics.total_jobs);
    long(&mut object, "totalBlockBytes", metrics.total_block_bytes);
    long(&mut object, "inspectedSpans", metrics.inspected_spans);
    object.end();
}

fn text(object: &mut Object<'_>, name: &str, value: &str) {
    if !value.is_empty() {
        object.text(name, value);
    }
}

fn bytes(object: &mut Object<'_>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        object.text(name, &base64(value));
    }
}

fn count(object: &mut Object<'_>, name: &str, value: u32) {
    if value != 0 {
        object.raw(name, value);
    }
}

fn long(object: &mut Object<'_>, name: &str, value: u64) {
    if value != 0 {
        object.raw(name, format_args!("\"{value}\""));
    }
}

fn list<T>(object: &mut Object<'_>, name: &str, items: &[T], write: impl Fn(&mut String, &T)) {
    if !items.is_empty() {
        json::array(object.key(name), items, write);
    }
}

#[cfg(test)]
mod tests;
