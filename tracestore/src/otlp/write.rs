//! Spans of the model as the bytes of a request. `appender` writes with it what does not come as
//! such bytes, and who reads a trace may have it in that form.

use std::sync::Arc;

use trine_storage::codec::{put_u64, put_varint};

use super::wire::{
    FIXED64, VARINT, put_fixed32, put_fixed64, put_int32, put_item, put_message, put_number,
    put_tag, put_text,
};
use crate::model::{
    AnyValue, DEPTH_MAX, Event, KeyValue, Link, Resource, ResourceSpans, Scope, ScopeSpans, Span,
    Trace,
};

/// Puts a request together. Spans that come one after the other share their resource and scope.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Whole `ResourceSpans`.
    request: Vec<u8>,
    /// The `ResourceSpans` and the `ScopeSpans` that are being filled.
    of_resource: Vec<u8>,
    of_scope: Vec<u8>,
    current: Option<(Arc<Resource>, Arc<Scope>)>,
}

impl Writer {
    /// Adds a span.
    pub(crate) fn push(&mut self, resource: &Arc<Resource>, scope: &Arc<Scope>, span: &Span) {
        let known = self.current.as_ref();
        let same_resource = known.is_some_and(|(known, _)| is_same(known, resource));
        let same = same_resource && known.is_some_and(|(_, known)| is_same(known, scope));
        if !same {
            self.close_scope();
            if !same_resource {
                self.close_resource();
                put_resource_head(&mut self.of_resource, resource);
            }
            put_scope_head(&mut self.of_scope, scope);
            self.current = Some((Arc::clone(resource), Arc::clone(scope)));
        }
        put_message(&mut self.of_scope, 2, |out| put_span(out, span));
    }

    /// The bytes of the request.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.close_scope();
        self.close_resource();
        self.request
    }

    fn close_scope(&mut self) {
        if !self.of_scope.is_empty() {
            put_item(&mut self.of_resource, 2, &self.of_scope);
            self.of_scope.clear();
        }
    }

    fn close_resource(&mut self) {
        if !self.of_resource.is_empty() {
            put_item(&mut self.request, 1, &self.of_resource);
            self.of_resource.clear();
        }
    }
}

impl Trace {
    /// The trace in protobuf, as `TracesData` of OTLP.
    pub fn to_otlp(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for spans in &self.resources {
            put_message(&mut out, 1, |out| put_resource_spans(out, spans));
        }
        out
    }

    /// Leaves out the spans at the end for which there is no room in `bytes_max` bytes of protobuf.
    /// Whether it did.
    pub fn truncate(&mut self, bytes_max: usize) -> bool {
        // What a tag and the length of a message take at most.
        const HEAD: usize = 6;
        let mut room = bytes_max;
        let mut is_cut = false;
        let mut scratch = Vec::new();
        let mut fits = |write: &dyn Fn(&mut Vec<u8>)| {
            scratch.clear();
            write(&mut scratch);
            let left = room.checked_sub(scratch.len() + HEAD);
            room = left.unwrap_or(0);
            left.is_some()
        };
        for of_resource in &mut self.resources {
            let resource = Arc::clone(&of_resource.resource);
            let mut open = !is_cut && fits(&|out| put_resource_head(out, &resource));
            for of_scope in &mut of_resource.scopes {
                let scope = Arc::clone(&of_scope.scope);
                open = open && fits(&|out| put_scope_head(out, &scope));
                let kept = of_scope.spans.iter();
                let kept = kept
                    .take_while(|span| open && fits(&|out| put_span(out, span)))
                    .count();
                open &= kept == of_scope.spans.len();
                of_scope.spans.truncate(kept);
            }
            of_resource.scopes.retain(|scope| !scope.spans.is_empty());
            is_cut |= !open;
        }
        self.resources.retain(|spans| !spans.scopes.is_empty());
        is_cut
    }
}

fn put_resource_spans(out: &mut Vec<u8>, spans: &ResourceSpans) {
    put_resource_head(out, &spans.resource);
    for spans in &spans.scopes {
        put_message(out, 2, |out| put_scope_spans(out, spans));
    }
}

fn put_scope_spans(out: &mut Vec<u8>, spans: &ScopeSpans) {
    put_scope_head(out, &spans.scope);
    for span in &spans.spans {
        put_message(out, 2, |out| put_span(out, span));
    }
}

/// What a `ResourceSpans` has besides its spans.
fn put_resource_head(out: &mut Vec<u8>, resource: &Resource) {
    put_message(out, 1, |out| put_resource(out, resource));
    put_text(out, 3, resource.schema_url.as_bytes());
}

/// What a `ScopeSpans` has besides its spans.
fn put_scope_head(out: &mut Vec<u8>, scope: &Scope) {
    put_message(out, 1, |out| put_scope(out, scope));
    put_text(out, 3, scope.schema_url.as_bytes());
}

fn is_same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn put_resource(out: &mut Vec<u8>, resource: &Resource) {
    put_attributes(out, 1, &resource.attributes);
    put_number(out, 2, resource.dropped_attributes_count.into());
}

fn put_scope(out: &mut Vec<u8>, scope: &Scope) {
    put_text(out, 1, scope.name.as_bytes());
    put_text(out, 2, scope.version.as_bytes());
    put_attributes(out, 3, &scope.attributes);
    put_number(out, 4, scope.dropped_attributes_count.into());
}

fn put_span(out: &mut Vec<u8>, span: &Span) {
    put_item(out, 1, &span.trace_id);
    put_item(out, 2, &span.span_id);
    put_text(out, 3, span.trace_state.as_bytes());
    if let Some(parent) = &span.parent_span_id {
        put_item(out, 4, parent);
    }
    put_text(out, 5, span.name.as_bytes());
    put_int32(out, 6, span.kind);
    put_fixed64(out, 7, span.start_ns);
    put_fixed64(out, 8, span.end_ns);
    put_attributes(out, 9, &span.attributes);
    put_number(out, 10, span.dropped_attributes_count.into());
    for event in &span.events {
        put_message(out, 11, |out| put_event(out, event));
    }
    put_number(out, 12, span.dropped_events_count.into());
    for link in &span.links {
        put_message(out, 13, |out| put_link(out, link));
    }
    put_number(out, 14, span.dropped_links_count.into());
    if let Some(status) = &span.status {
        put_message(out, 15, |out| {
            put_text(out, 2, status.message.as_bytes());
            put_int32(out, 3, status.code);
        });
    }
    put_fixed32(out, 16, span.flags);
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    put_fixed64(out, 1, event.time_ns);
    put_text(out, 2, event.name.as_bytes());
    put_attributes(out, 3, &event.attributes);
    put_number(out, 4, event.dropped_attributes_count.into());
}

fn put_link(out: &mut Vec<u8>, link: &Link) {
    put_text(out, 1, &link.trace_id);
    put_text(out, 2, &link.span_id);
    put_text(out, 3, link.trace_state.as_bytes());
    put_attributes(out, 4, &link.attributes);
    put_number(out, 5, link.dropped_attributes_count.into());
    put_fixed32(out, 6, link.flags);
}

fn put_attributes(out: &mut Vec<u8>, field: u32, attributes: &[KeyValue]) {
    put_pairs(out, field, attributes, 0);
}

fn put_pairs(out: &mut Vec<u8>, field: u32, attributes: &[KeyValue], depth: usize) {
    for pair in attributes {
        put_message(out, field, |out| {
            put_text(out, 1, pair.key.as_bytes());
            put_message(out, 2, |out| put_value(out, &pair.value, depth));
        });
    }
}

/// Appends the field of an `AnyValue` that says what it is, also when it is zero or empty. What is
/// nested too deep is left empty: it is refused for that it is there.
pub(super) fn put_value(out: &mut Vec<u8>, value: &AnyValue, depth: usize) {
    match value {
        _ if depth > DEPTH_MAX => {}
        AnyValue::Empty => {}
        AnyValue::String(text) => put_item(out, 1, text.as_bytes()),
        AnyValue::Bool(truth) => {
            put_tag(out, 2, VARINT);
            out.push(u8::from(*truth));
        }
        AnyValue::Int(number) => {
            put_tag(out, 3, VARINT);
            put_varint(out, number.cast_unsigned());
        }
        AnyValue::Double(number) => {
            put_tag(out, 4, FIXED64);
            put_u64(out, number.to_bits());
        }
        AnyValue::Array(values) => put_message(out, 5, |out| {
            for value in values {
                put_message(out, 1, |out| put_value(out, value, depth + 1));
            }
        }),
        AnyValue::KeyValues(pairs) => {
            put_message(out, 6, |out| put_pairs(out, 1, pairs, depth + 1));
        }
        AnyValue::Bytes(bytes) => put_item(out, 7, bytes),
    }
}
