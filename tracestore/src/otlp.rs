//! The bytes of `ExportTraceServiceRequest`, the message of OTLP that brings spans, read in place.
//! `stage` and `appender` call it.
//!
//! Source: opentelemetry-proto, `trace/v1/trace.proto`, `resource/v1/resource.proto` and
//! `common/v1/common.proto`. Fields that are not known are skipped. Of a number or text that is
//! there more than once the last one counts; a resource, a scope, a status and an attribute's value
//! that are there more than once are merged, as protobuf says, except that of two arrays or lists
//! in one value the last one counts. What is replaced is not looked at.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod check;
mod message;
mod pieces;
#[cfg(test)]
mod read;
mod wire;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use check::{Bounds, Plan, PlannedResource, PlannedScope, check};
pub(crate) use message::{
    AnyRef, EventRef, GroupRef, KeyValueRef, LinkRef, Part, ResourceRef, ScopeRef, SpanRef, groups,
    items,
};
pub(crate) use pieces::pieces;
pub(crate) use wire::{Malformed, Read};
pub(crate) use write::Writer;
