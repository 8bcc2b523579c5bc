//! The bytes of spans, resources and scopes in the log and in blocks (`FORMAT.md`, "Span").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_bytes, put_signed, put_u64, put_varint};
use trine_storage::{Error, Kind, Result};

use super::{AnyValue, Event, KeyValue, Link, Resource, Scope, Span, Status};

/// How deep arrays and key-value lists may be nested.
pub(crate) const DEPTH_MAX: usize = 32;

pub(crate) const EMPTY: u8 = 0;
pub(crate) const STRING: u8 = 1;
pub(crate) const FALSE: u8 = 2;
pub(crate) const TRUE: u8 = 3;
pub(crate) const INT: u8 = 4;
pub(crate) const DOUBLE: u8 = 5;
pub(crate) const BYTES: u8 = 6;
pub(crate) const ARRAY: u8 = 7;
pub(crate) const KEY_VALUES: u8 = 8;

pub(crate) fn put_value(out: &mut Vec<u8>, value: &AnyValue) {
    match value {
        AnyValue::Empty => out.push(EMPTY),
        AnyValue::String(text) => {
            out.push(STRING);
            put_bytes(out, text.as_bytes());
        }
        AnyValue::Bool(false) => out.push(FALSE),
        AnyValue::Bool(true) => out.push(TRUE),
        AnyValue::Int(number) => {
            out.push(INT);
            put_signed(out, *number);
        }
        AnyValue::Double(number) => {
            out.push(DOUBLE);
            put_u64(out, number.to_bits());
        }
        AnyValue::Bytes(bytes) => {
            out.push(BYTES);
            put_bytes(out, bytes);
        }
        AnyValue::Array(values) => {
            out.push(ARRAY);
            put_varint(out, values.len() as u64);
            values.iter().for_each(|value| put_value(out, value));
        }
        AnyValue::KeyValues(pairs) => {
            out.push(KEY_VALUES);
            put_attributes(out, pairs);
        }
    }
}

pub(crate) fn value(reader: &mut Reader<'_>, depth: usize) -> Result<AnyValue> {
    if depth > DEPTH_MAX {
        return Err(reader.corrupt("a value is nested too deep"));
    }
    Ok(match reader.u8()? {
        EMPTY => AnyValue::Empty,
        STRING => AnyValue::String(reader.text()?.to_owned()),
        FALSE => AnyValue::Bool(false),
        TRUE => AnyValue::Bool(true),
        INT => AnyValue::Int(reader.signed()?),
        DOUBLE => AnyValue::Double(f64::from_bits(reader.u64()?)),
        BYTES => AnyValue::Bytes(reader.bytes()?.to_owned()),
        ARRAY => {
            let count = reader.count(1)?;
            AnyValue::Array(
                (0..count)
                    .map(|_| value(reader, depth + 1))
                    .collect::<Result<_>>()?,
            )
        }
        KEY_VALUES => AnyValue::KeyValues(attributes(reader, depth + 1)?),
        _ => return Err(reader.corrupt("the kind of a value is unknown")),
    })
}

fn put_attributes(out: &mut Vec<u8>, pairs: &[KeyValue]) {
    put_varint(out, pairs.len() as u64);
    for pair in pairs {
        put_bytes(out, pair.key.as_bytes());
        put_value(out, &pair.value);
    }
}

fn attributes(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<KeyValue>> {
    let count = reader.count(2)?;
    (0..count)
        .map(|_| {
            let key = reader.text()?.to_owned();
            Ok(KeyValue {
                key,
                value: value(reader, depth)?,
            })
        })
        .collect()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn text(reader: &mut Reader<'_>) -> Result<String> {
    reader.text().map(str::to_owned)
}

fn small(reader: &mut Reader<'_>) -> Result<u32> {
    u32::try_from(reader.varint()?).map_err(|_| reader.corrupt("a number is too large"))
}

fn signed(reader: &mut Reader<'_>) -> Result<i32> {
    i32::try_from(reader.signed()?).map_err(|_| reader.corrupt("a number is too large"))
}

/// Appends the bytes of a resource.
pub(crate) fn encode_resource(out: &mut Vec<u8>, resource: &Resource) {
    put_attributes(out, &resource.attributes);
    put_varint(out, resource.dropped_attributes_count.into());
    put_text(out, &resource.schema_url);
}

/// Reads a resource.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no resource.
pub fn decode_resource(reader: &mut Reader<'_>) -> Result<Resource> {
    Ok(Resource {
        attributes: attributes(reader, 0)?,
        dropped_attributes_count: small(reader)?,
        schema_url: text(reader)?,
    })
}

/// Appends the bytes of a scope.
pub(crate) fn encode_scope(out: &mut Vec<u8>, scope: &Scope) {
    put_text(out, &scope.name);
    put_text(out, &scope.version);
    put_attributes(out, &scope.attributes);
    put_varint(out, scope.dropped_attributes_count.into());
    put_text(out, &scope.schema_url);
}

/// Reads a scope.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no scope.
pub fn decode_scope(reader: &mut Reader<'_>) -> Result<Scope> {
    Ok(Scope {
        name: text(reader)?,
        version: text(reader)?,
        attributes: attributes(reader, 0)?,
        dropped_attributes_count: small(reader)?,
        schema_url: text(reader)?,
    })
}

/// Appends the bytes of a span.
pub(crate) fn encode_span(out: &mut Vec<u8>, span: &Span) {
    out.extend_from_slice(&span.trace_id);
    out.extend_from_slice(&span.span_id);
    // Bit 0: there is a parent; bit 1: there is a status.
    out.push(u8::from(span.parent_span_id.is_some()) | u8::from(span.status.is_some()) << 1);
    if let Some(parent) = &span.parent_span_id {
        out.extend_from_slice(parent);
    }
    put_text(out, &span.trace_state);
    put_text(out, &span.name);
    put_signed(out, span.kind.into());
    put_u64(out, span.start_ns);
    put_signed(out, span.end_ns.wrapping_sub(span.start_ns).cast_signed());
    put_attributes(out, &span.attributes);
    put_varint(out, span.dropped_attributes_count.into());
    put_varint(out, span.events.len() as u64);
    for event in &span.events {
        put_signed(out, event.time_ns.wrapping_sub(span.start_ns).cast_signed());
        put_text(out, &event.name);
        put_attributes(out, &event.attributes);
        put_varint(out, event.dropped_attributes_count.into());
    }
    put_varint(out, span.dropped_events_count.into());
    put_varint(out, span.links.len() as u64);
    for link in &span.links {
        put_bytes(out, &link.trace_id);
        put_bytes(out, &link.span_id);
        put_text(out, &link.trace_state);
        put_attributes(out, &link.attributes);
        put_varint(out, link.dropped_attributes_count.into());
        put_varint(out, link.flags.into());
    }
    put_varint(out, span.dropped_links_count.into());
    if let Some(status) = &span.status {
        put_signed(out, status.code.into());
        put_text(out, &status.message);
    }
    put_varint(out, span.flags.into());
}

/// Reads a span.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no span.
pub fn decode_span(reader: &mut Reader<'_>) -> Result<Span> {
    let mut span = Span {
        trace_id: reader.array()?,
        span_id: reader.array()?,
        ..Span::default()
    };
    let has = reader.u8()?;
    if has & 1 != 0 {
        span.parent_span_id = Some(reader.array()?);
    }
    span.trace_state = text(reader)?;
    span.name = text(reader)?;
    span.kind = signed(reader)?;
    span.start_ns = reader.u64()?;
    span.end_ns = span.start_ns.wrapping_add(reader.signed()?.cast_unsigned());
    span.attributes = attributes(reader, 0)?;
    span.dropped_attributes_count = small(reader)?;
    for _ in 0..reader.count(4)? {
        span.events.push(Event {
            time_ns: span.start_ns.wrapping_add(reader.signed()?.cast_unsigned()),
            name: text(reader)?,
            attributes: attributes(reader, 0)?,
            dropped_attributes_count: small(reader)?,
        });
    }
    span.dropped_events_count = small(reader)?;
    for _ in 0..reader.count(6)? {
        span.links.push(Link {
            trace_id: reader.bytes()?.to_owned(),
            span_id: reader.bytes()?.to_owned(),
            trace_state: text(reader)?,
            attributes: attributes(reader, 0)?,
            dropped_attributes_count: small(reader)?,
            flags: small(reader)?,
        });
    }
    span.dropped_links_count = small(reader)?;
    if has & 2 != 0 {
        span.status = Some(Status {
            code: signed(reader)?,
            message: text(reader)?,
        });
    }
    span.flags = small(reader)?;
    if has > 3 {
        return Err(Error::new(
            Kind::Corrupt,
            "a span has parts that this version does not know",
        ));
    }
    Ok(span)
}
