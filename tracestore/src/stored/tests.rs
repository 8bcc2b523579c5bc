use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{AnyValue, KeyValue, Span, Trace};
use crate::otlp::Writer;
use crate::otlp::tests::{ANY, request, trace};

/// Spans as a reader sees them, with the number of their resource.
#[derive(Debug, Default)]
struct Seen {
    resources: Vec<Vec<(String, String)>>,
    spans: Vec<(Vec<(String, String)>, String)>,
}

fn shown(key: &[u8], value: ValueView<'_>) -> (String, String) {
    let value = match value {
        ValueView::Str(text) => format!("{:?}", String::from_utf8_lossy(text)),
        ValueView::Float(number) => format!("{:?}", number.to_bits()),
        ValueView::Other => "other".to_owned(),
        value => format!("{value:?}"),
    };
    (String::from_utf8_lossy(key).into_owned(), value)
}

impl SpanReader for Seen {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        let attributes = resource.attributes().into_iter();
        self.resources
            .push(attributes.map(|(key, value)| shown(key, value)).collect());
    }

    fn span(&mut self, span: &SpanView<'_, '_>) {
        let attributes: Vec<_> = span.attributes().map(|(k, v)| shown(k, v)).collect();
        for (place, (_, value)) in attributes.iter().enumerate() {
            assert_eq!(&shown(b"", span.value(place).unwrap()).1, value);
        }
        assert_eq!(span.value(attributes.len()), None);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fixed = format!(
            "{:?} {:?} {:?} {} {} {} {} {} {} {} {attributes:?}",
            span.trace_id,
            span.span_id,
            span.parent_id,
            text(span.trace_state),
            text(span.name),
            span.kind,
            span.start_ns,
            span.end_ns,
            span.status,
            text(span.status_message),
        );
        let resource = self.resources.last().cloned().unwrap_or_default();
        self.spans.push((resource, fixed));
    }
}

fn of_model(pair: &KeyValue) -> (String, String) {
    let value = match &pair.value {
        AnyValue::String(text) => ValueView::Str(text.as_bytes()),
        AnyValue::Int(number) => ValueView::Int(*number),
        AnyValue::Double(number) => ValueView::Float(*number),
        AnyValue::Bool(truth) => ValueView::Bool(*truth),
        _ => ValueView::Other,
    };
    shown(pair.key.as_bytes(), value)
}

fn expected(trace: &Trace) -> Vec<(Vec<(String, String)>, String)> {
    let each = trace.spans().map(|(resource, _, span)| {
        let attributes: Vec<_> = span.attributes.iter().map(of_model).collect();
        let status = span.status.clone().unwrap_or_default();
        let fixed = format!(
            "{:?} {:?} {:?} {} {} {} {} {} {} {} {attributes:?}",
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.trace_state,
            span.name,
            span.kind,
            span.start_ns,
            span.end_ns,
            status.code,
            status.message,
        );
        let resource = resource.attributes.iter().map(of_model).collect();
        (resource, fixed)
    });
    each.collect()
}

fn seen(request: &[u8], refused_by: Option<Bounds>) -> Vec<(Vec<(String, String)>, String)> {
    let mut seen = Seen::default();
    let spans = StoredSpans::new(Bytes::copy_from_slice(request), refused_by);
    spans.read(&mut seen).unwrap();
    seen.spans
}

proptest! {
    #[test]
    fn every_span_is_seen_as_it_is_with_and_without_bounds(trace in trace()) {
        let request = request(&trace);
        prop_assert_eq!(seen(&request, None), expected(&trace));
        prop_assert_eq!(seen(&request, Some(ANY)), expected(&trace));
    }
}

#[test]
fn spans_that_were_refused_are_not_seen() {
    let (resource, scope) = (Arc::default(), Arc::default());
    let mut writer = Writer::default();
    let good = |id: u8| Span {
        trace_id: [1; 16],
        span_id: [id; 8],
        name: format!("span {id}"),
        ..Span::default()
    };
    let bad = Span {
        span_id: [0; 8],
        ..good(2)
    };
    for span in [&good(1), &bad, &good(3)] {
        writer.push(&resource, &scope, span);
    }
    let request = writer.finish();
    assert_eq!(seen(&request, None).len(), 3);
    let taken = seen(&request, Some(ANY));
    let names = taken.iter().map(|(_, span)| span.contains("span 2"));
    assert_eq!(names.collect::<Vec<_>>(), [false, false]);
}

#[test]
fn a_resource_behind_its_spans_is_told_before_them() {
    // ResourceSpans { scope_spans { spans { name: "x" } } resource { attributes { key: "k" } } }
    let request = b"\x0a\x0e\x12\x05\x12\x03\x2a\x01x\x0a\x05\x0a\x03\x0a\x01k";
    let mut reader = Seen::default();
    let spans = StoredSpans::of_request(Bytes::from_static(request));
    spans.read(&mut reader).unwrap();
    let key = ("k".to_owned(), "other".to_owned());
    assert_eq!(reader.resources, [[key.clone()]]);
    assert_eq!(reader.spans[0].0, [key]);
}
