//! The messages of a request: each a function from its bytes to its fields, which borrow from them.
//! Repeated fields are given to a closure one by one. `otlp::check` and `stage` read requests with
//! them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;

use super::wire::{BYTES, FIXED32, FIXED64, Read, VARINT, message, prefixed};
use crate::model::SpanId;

/// A value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum AnyRef<'a> {
    #[default]
    Empty,
    String(&'a [u8]),
    /// 0 or 1. A payload that is smaller than the others would make copies of values slow.
    Bool(u64),
    Int(i64),
    /// The bits of a float.
    Double(u64),
    /// The bytes of an `ArrayValue`; [`items`] gives its values.
    Array(&'a [u8]),
    /// The bytes of a `KeyValueList`; [`items`] gives its pairs.
    KeyValues(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> AnyRef<'a> {
    /// Reads an `AnyValue`.
    #[inline]
    pub(crate) fn read(value: &'a [u8]) -> Read<Self> {
        let mut found = Self::Empty;
        found.merge(value)?;
        Ok(found)
    }

    #[inline]
    fn merge(&mut self, value: &'a [u8]) -> Read<()> {
        const NAMES: &[&str] = &[
            "string_value",
            "bool_value",
            "int_value",
            "double_value",
            "array_value",
            "kvlist_value",
            "bytes_value",
            "string_value_strindex",
        ];
        message(value, NAMES, |field, cursor| {
            *self = match field {
                (1, BYTES) => Self::String(cursor.bytes()?),
                (2, VARINT) => Self::Bool((cursor.varint()? != 0).into()),
                (3, VARINT) => Self::Int(cursor.varint()?.cast_signed()),
                (4, FIXED64) => Self::Double(cursor.fixed64()?),
                (5, BYTES) => Self::Array(cursor.bytes()?),
                (6, BYTES) => Self::KeyValues(cursor.bytes()?),
                (7, BYTES) => Self::Bytes(cursor.bytes()?),
                // It points into a table that only profiles have.
                (8, VARINT) => cursor.varint().map(|_| Self::Empty)?,
                _ => return Ok(false),
            };
            Ok(true)
        })
    }
}

/// The messages in an `ArrayValue` or a `KeyValueList`.
pub(crate) fn items<'a>(list: &'a [u8], mut each: impl FnMut(&'a [u8]) -> Read<()>) -> Read<()> {
    message(list, &["values"], |field, cursor| {
        match field {
            (1, BYTES) => each(cursor.bytes()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// An attribute.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct KeyValueRef<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: AnyRef<'a>,
}

impl<'a> KeyValueRef<'a> {
    /// Reads a `KeyValue`.
    #[inline]
    pub(crate) fn read(pair: &'a [u8]) -> Read<Self> {
        match Self::usual(pair) {
            Some(found) => Ok(found),
            None => Self::read_any(pair),
        }
    }

    /// Reads what senders write: a key, then a scalar, and nothing else.
    #[inline(always)]
    pub(super) fn usual(pair: &'a [u8]) -> Option<Self> {
        let [0x0a, rest @ ..] = pair else {
            return None;
        };
        let (key, rest) = prefixed(rest)?;
        let [0x12, rest @ ..] = rest else {
            return None;
        };
        let (value, []) = prefixed(rest)? else {
            return None;
        };
        let value = match value {
            [0x0a, rest @ ..] => match prefixed(rest)? {
                (text, []) => AnyRef::String(text),
                _ => return None,
            },
            [0x10, truth @ ..0x80] => AnyRef::Bool((*truth != 0).into()),
            [0x18, low @ ..0x80] => AnyRef::Int((*low).into()),
            [0x18, low, high @ ..0x80] if *low >= 0x80 => {
                AnyRef::Int(i64::from(*low & 0x7f) | i64::from(*high) << 7)
            }
            [0x18, low, middle, high @ ..0x80] if *low & *middle >= 0x80 => AnyRef::Int(
                i64::from(*low & 0x7f) | i64::from(*middle & 0x7f) << 7 | i64::from(*high) << 14,
            ),
            [0x21, bits @ ..] => AnyRef::Double(u64::from_le_bytes(bits.try_into().ok()?)),
            _ => return None,
        };
        Some(Self { key, value })
    }

    pub(super) fn read_any(pair: &'a [u8]) -> Read<Self> {
        let mut found = Self::default();
        message(pair, &["key", "value", "key_strindex"], |field, cursor| {
            match field {
                (1, BYTES) => found.key = cursor.bytes()?,
                (2, BYTES) => found.value.merge(cursor.bytes()?)?,
                // As with values.
                (3, VARINT) => drop(cursor.varint()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(found)
    }
}

/// A resource without its attributes.
#[derive(Debug, Default)]
pub(crate) struct ResourceRef {
    pub(crate) dropped: u32,
}

impl ResourceRef {
    /// Reads a `Resource`; `each` gets the attributes.
    pub(crate) fn read<'a>(
        resource: &'a [u8],
        mut each: impl FnMut(&'a [u8]) -> Read<()>,
    ) -> Read<Self> {
        let mut found = Self::default();
        let names = &["attributes", "dropped_attributes_count"];
        message(resource, names, |field, cursor| {
            match field {
                (1, BYTES) => each(cursor.bytes()?)?,
                (2, VARINT) => found.dropped = cursor.uint32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(found)
    }
}

/// An instrumentation scope without its attributes.
#[derive(Debug, Default)]
pub(crate) struct ScopeRef<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) version: &'a [u8],
    pub(crate) dropped: u32,
}

impl<'a> ScopeRef<'a> {
    /// Reads an `InstrumentationScope`; `each` gets the attributes.
    pub(crate) fn read(scope: &'a [u8], mut each: impl FnMut(&'a [u8]) -> Read<()>) -> Read<Self> {
        let mut found = Self::default();
        let names = &["name", "version", "attributes", "dropped_attributes_count"];
        message(scope, names, |field, cursor| {
            match field {
                (1, BYTES) => found.name = cursor.bytes()?,
                (2, BYTES) => found.version = cursor.bytes()?,
                (3, BYTES) => each(cursor.bytes()?)?,
                (4, VARINT) => found.dropped = cursor.uint32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(found)
    }
}

/// A repeated field of a span: the bytes of one of its messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    Attribute(&'a [u8]),
    Event(&'a [u8]),
    Link(&'a [u8]),
}

/// A span without its repeated fields.
#[derive(Debug, Default)]
pub(crate) struct SpanRef<'a> {
    pub(crate) trace_id: &'a [u8],
    pub(crate) span_id: &'a [u8],
    pub(crate) trace_state: &'a [u8],
    pub(crate) parent_id: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) kind: i32,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) dropped_attributes: u32,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
    pub(crate) status: Option<StatusRef<'a>>,
    pub(crate) flags: u32,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StatusRef<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) code: i32,
}

impl<'a> StatusRef<'a> {
    fn merge(&mut self, status: &'a [u8]) -> Read<()> {
        // Number 1 is no longer in use.
        message(status, &["", "message", "code"], |field, cursor| {
            match field {
                (2, BYTES) => self.message = cursor.bytes()?,
                (3, VARINT) => self.code = cursor.int32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

impl<'a> SpanRef<'a> {
    /// Reads a `Span`; `each` gets the repeated fields.
    #[inline]
    pub(crate) fn read(span: &'a [u8], mut each: impl FnMut(Part<'a>) -> Read<()>) -> Read<Self> {
        const NAMES: &[&str] = &[
            "trace_id",
            "span_id",
            "trace_state",
            "parent_span_id",
            "name",
            "kind",
            "start_time_unix_nano",
            "end_time_unix_nano",
            "attributes",
            "dropped_attributes_count",
            "events",
            "dropped_events_count",
            "links",
            "dropped_links_count",
            "status",
            "flags",
        ];
        let mut found = Self::default();
        message(span, NAMES, |field, cursor| {
            match field {
                (1, BYTES) => found.trace_id = cursor.bytes()?,
                (2, BYTES) => found.span_id = cursor.bytes()?,
                (3, BYTES) => found.trace_state = cursor.bytes()?,
                (4, BYTES) => found.parent_id = cursor.bytes()?,
                (5, BYTES) => found.name = cursor.bytes()?,
                (6, VARINT) => found.kind = cursor.int32()?,
                (7, FIXED64) => found.start_ns = cursor.fixed64()?,
                (8, FIXED64) => found.end_ns = cursor.fixed64()?,
                (9, BYTES) => each(Part::Attribute(cursor.bytes()?))?,
                (10, VARINT) => found.dropped_attributes = cursor.uint32()?,
                (11, BYTES) => each(Part::Event(cursor.bytes()?))?,
                (12, VARINT) => found.dropped_events = cursor.uint32()?,
                (13, BYTES) => each(Part::Link(cursor.bytes()?))?,
                (14, VARINT) => found.dropped_links = cursor.uint32()?,
                (15, BYTES) => {
                    let status = found.status.get_or_insert_default();
                    status.merge(cursor.bytes()?)?;
                }
                (16, FIXED32) => found.flags = cursor.fixed32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// The id of its parent; there is none when the id is empty or all zero.
    pub(crate) fn parent(&self) -> Option<SpanId> {
        let id = SpanId::try_from(self.parent_id).unwrap_or_default();
        (id != SpanId::default()).then_some(id)
    }

    /// When it began, as bounds and ranges of time have it.
    pub(crate) fn start(&self) -> i64 {
        let start = i64::try_from(self.start_ns).unwrap_or(i64::MAX);
        start.min(i64::MAX - 1)
    }
}

/// An event without its attributes.
#[derive(Debug, Default)]
pub(crate) struct EventRef<'a> {
    pub(crate) time_ns: u64,
    pub(crate) name: &'a [u8],
    pub(crate) dropped: u32,
}

impl<'a> EventRef<'a> {
    /// Reads an `Event`; `each` gets the attributes.
    pub(crate) fn read(event: &'a [u8], mut each: impl FnMut(&'a [u8]) -> Read<()>) -> Read<Self> {
        const NAMES: &[&str] = &[
            "time_unix_nano",
            "name",
            "attributes",
            "dropped_attributes_count",
        ];
        let mut found = Self::default();
        message(event, NAMES, |field, cursor| {
            match field {
                (1, FIXED64) => found.time_ns = cursor.fixed64()?,
                (2, BYTES) => found.name = cursor.bytes()?,
                (3, BYTES) => each(cursor.bytes()?)?,
                (4, VARINT) => found.dropped = cursor.uint32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(found)
    }
}

/// A link without its attributes.
#[derive(Debug, Default)]
pub(crate) struct LinkRef<'a> {
    pub(crate) trace_id: &'a [u8],
    pub(crate) span_id: &'a [u8],
    pub(crate) trace_state: &'a [u8],
    pub(crate) dropped: u32,
    pub(crate) flags: u32,
}

impl<'a> LinkRef<'a> {
    /// Reads a `Link`; `each` gets the attributes.
    pub(crate) fn read(link: &'a [u8], mut each: impl FnMut(&'a [u8]) -> Read<()>) -> Read<Self> {
        const NAMES: &[&str] = &[
            "trace_id",
            "span_id",
            "trace_state",
            "attributes",
            "dropped_attributes_count",
            "flags",
        ];
        let mut found = Self::default();
        message(link, NAMES, |field, cursor| {
            match field {
                (1, BYTES) => found.trace_id = cursor.bytes()?,
                (2, BYTES) => found.span_id = cursor.bytes()?,
                (3, BYTES) => found.trace_state = cursor.bytes()?,
                (4, BYTES) => each(cursor.bytes()?)?,
                (5, VARINT) => found.dropped = cursor.uint32()?,
                (6, FIXED32) => found.flags = cursor.fixed32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(found)
    }
}

/// What holds the spans of a resource, `ResourceSpans`, or of a scope, `ScopeSpans`.
#[derive(Debug, Default)]
pub(crate) struct GroupRef<'a> {
    /// The resource or the scope. One that is there more than once is the pieces one after the
    /// other: so protobuf merges messages.
    pub(crate) owner: Cow<'a, [u8]>,
    pub(crate) schema_url: &'a [u8],
}

impl<'a> GroupRef<'a> {
    /// Reads a `ResourceSpans`; `each` gets every `ScopeSpans`.
    pub(crate) fn of_resource(
        group: &'a [u8],
        each: impl FnMut(&'a [u8]) -> Read<()>,
    ) -> Read<Self> {
        Self::read(group, &["resource", "scope_spans", "schema_url"], each)
    }

    /// Reads a `ScopeSpans`; `each` gets every `Span`.
    pub(crate) fn of_scope(group: &'a [u8], each: impl FnMut(&'a [u8]) -> Read<()>) -> Read<Self> {
        Self::read(group, &["scope", "spans", "schema_url"], each)
    }

    fn read(
        group: &'a [u8],
        names: &[&'static str],
        mut each: impl FnMut(&'a [u8]) -> Read<()>,
    ) -> Read<Self> {
        let mut found = Self::default();
        message(group, names, |field, cursor| {
            match field {
                (1, BYTES) if found.owner.is_empty() => found.owner = cursor.bytes()?.into(),
                (1, BYTES) => found.owner.to_mut().extend_from_slice(cursor.bytes()?),
                (2, BYTES) => each(cursor.bytes()?)?,
                (3, BYTES) => found.schema_url = cursor.bytes()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(found)
    }
}

/// Gives every `ResourceSpans` of a request to `each`.
pub(crate) fn groups<'a>(
    request: &'a [u8],
    mut each: impl FnMut(&'a [u8]) -> Read<()>,
) -> Read<()> {
    message(request, &["resource_spans"], |field, cursor| {
        match field {
            (1, BYTES) => each(cursor.bytes()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}
