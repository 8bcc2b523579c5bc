//! Spans of the model as the bytes of a request. `appender` writes with it what does not come as
//! such bytes.

use std::sync::Arc;

use trine_storage::codec::{put_u64, put_varint};

use super::wire::{
    FIXED64, VARINT, put_fixed32, put_fixed64, put_int32, put_item, put_message, put_number,
    put_tag, put_text,
};
use crate::model::{AnyValue, DEPTH_MAX, Event, KeyValue, Link, Resource, Scope, Span};

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
                put_message(&mut self.of_resource, 1, |out| put_resource(out, resource));
                put_text(&mut self.of_resource, 3, resource.schema_url.as_bytes());
            }
            put_message(&mut self.of_scope, 1, |out| put_scope(out, scope));
            put_text(&mut self.of_scope, 3, scope.schema_url.as_bytes());
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
