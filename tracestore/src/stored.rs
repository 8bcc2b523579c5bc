//! Spans that were just stored, read in place from the request that brought them: what is derived
//! from spans as they come needs neither a snapshot nor a span of the model. [`Commit::spans`] gives
//! them.
//!
//! [`Commit::spans`]: crate::Commit::spans

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;
use trine_storage::Result;

use crate::model::{SpanId, TraceId};
use crate::otlp::{
    AnyRef, Bounds, GroupRef, KeyValueRef, Malformed, Part, Read, ResourceRef, SpanRef, check,
    groups,
};

/// The spans of a batch that were stored, as the bytes of their request; cheap to clone.
#[derive(Debug, Clone)]
pub struct StoredSpans {
    request: Bytes,
    /// What spans were judged by, when some of them were refused.
    refused_by: Option<Bounds>,
}

/// Gets spans, each after its resource.
pub trait SpanReader {
    /// The resource of the spans that follow; there may be none.
    fn resource(&mut self, resource: &ResourceView<'_>);

    /// A span.
    fn span(&mut self, span: &SpanView<'_, '_>);
}

/// A resource.
#[derive(Debug, Clone, Copy)]
pub struct ResourceView<'a> {
    /// Its message. Equal bytes are equal resources.
    pub bytes: &'a [u8],
}

/// A span. Text is UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct SpanView<'s, 'a> {
    /// The id of its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// The id of its parent, if it has one.
    pub parent_id: Option<SpanId>,
    /// The state of its trace, as W3C writes it.
    pub trace_state: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
    /// Its kind, as OTLP numbers them.
    pub kind: i32,
    /// When it began, nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended, nanoseconds since 1970.
    pub end_ns: u64,
    /// How it ended: 0 unset, 1 ok, 2 error.
    pub status: i32,
    /// The words for that.
    pub status_message: &'a [u8],
    /// Bytes of its message.
    pub bytes: usize,
    attributes: &'s [&'a [u8]],
}

/// A value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueView<'a> {
    /// Text, UTF-8.
    Str(&'a [u8]),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Nothing, bytes, an array or a list of pairs.
    Other,
}

impl StoredSpans {
    pub(crate) fn new(request: Bytes, refused_by: Option<Bounds>) -> Self {
        Self {
            request,
            refused_by,
        }
    }

    /// All spans of a request that need not have been stored.
    pub fn of_request(request: Bytes) -> Self {
        Self::new(request, None)
    }

    /// The bytes that hold the spans. A request that comes again has the same.
    pub fn bytes(&self) -> &[u8] {
        &self.request
    }

    /// Gives the spans to `reader`, in order of arrival.
    ///
    /// # Errors
    /// [`Kind::Invalid`](trine_storage::Kind::Invalid) when a request that was not stored is
    /// malformed. What was stored was looked at before.
    pub fn read(&self, reader: &mut impl SpanReader) -> Result<()> {
        let read = match &self.refused_by {
            None => read_all(&self.request, reader),
            Some(bounds) => read_taken(&self.request, bounds, reader),
        };
        read.map_err(Malformed::into_error)
    }
}

impl<'a> ResourceView<'a> {
    /// Its attributes in their order.
    pub fn attributes(&self) -> Vec<(&'a [u8], ValueView<'a>)> {
        let mut found = Vec::new();
        let read = ResourceRef::read(self.bytes, |pair| {
            found.push(view(KeyValueRef::read(pair)?));
            Ok(())
        });
        // It was read before.
        read.ok();
        found
    }
}

impl<'a> SpanView<'_, 'a> {
    /// Its attributes in their order.
    #[inline]
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], ValueView<'a>)> + '_ {
        let pairs = self.attributes.iter();
        pairs.map(|pair| view(KeyValueRef::read(pair).unwrap_or_default()))
    }

    /// The value of the attribute at a place in their order.
    #[inline]
    pub fn value(&self, place: usize) -> Option<ValueView<'a>> {
        let pair = self.attributes.get(place)?;
        let pair = KeyValueRef::read(pair).ok()?;
        Some(view(pair).1)
    }
}

#[inline]
fn view(pair: KeyValueRef<'_>) -> (&[u8], ValueView<'_>) {
    let value = match pair.value {
        AnyRef::String(text) => ValueView::Str(text),
        AnyRef::Bool(truth) => ValueView::Bool(truth != 0),
        AnyRef::Int(number) => ValueView::Int(number),
        AnyRef::Double(bits) => ValueView::Float(f64::from_bits(bits)),
        AnyRef::Empty | AnyRef::Array(_) | AnyRef::KeyValues(_) | AnyRef::Bytes(_) => {
            ValueView::Other
        }
    };
    (pair.key, value)
}

/// Gives all spans of a request.
fn read_all(request: &[u8], reader: &mut impl SpanReader) -> Read<()> {
    let mut attributes = Vec::new();
    groups(request, |group| {
        // The resource may come behind its spans, which cost little to go past.
        let owner = GroupRef::of_resource(group, |_| Ok(()))?.owner;
        reader.resource(&ResourceView { bytes: &owner });
        GroupRef::of_resource(group, |scope| {
            GroupRef::of_scope(scope, |span| give(span, &mut attributes, reader)).map(drop)
        })
        .map(drop)
    })
}

/// Gives the spans that were not refused.
fn read_taken(request: &[u8], bounds: &Bounds, reader: &mut impl SpanReader) -> Read<()> {
    let (plan, _) = check(request, bounds)?;
    let mut attributes = Vec::new();
    let mut current = None;
    for span in &plan.spans {
        let resource = plan.scopes.get(span.scope).map(|scope| scope.resource);
        if resource != current {
            current = resource;
            let bytes = resource.and_then(|place| plan.resources.get(place));
            let bytes = bytes.map_or(&[][..], |resource| &resource.bytes);
            reader.resource(&ResourceView { bytes });
        }
        give(span.bytes, &mut attributes, reader)?;
    }
    Ok(())
}

#[inline]
fn give<'a>(
    bytes: &'a [u8],
    attributes: &mut Vec<&'a [u8]>,
    reader: &mut impl SpanReader,
) -> Read<()> {
    attributes.clear();
    let span = SpanRef::read(bytes, |part| {
        if let Part::Attribute(pair) = part {
            attributes.push(pair);
        }
        Ok(())
    })?;
    let status = span.status.unwrap_or_default();
    reader.span(&SpanView {
        trace_id: span.trace_id.try_into().unwrap_or_default(),
        span_id: span.span_id.try_into().unwrap_or_default(),
        parent_id: span.parent(),
        trace_state: span.trace_state,
        name: span.name,
        kind: span.kind,
        start_ns: span.start_ns,
        end_ns: span.end_ns,
        status: status.code,
        status_message: status.message,
        bytes: bytes.len(),
        attributes,
    });
    Ok(())
}

#[cfg(test)]
mod tests;
