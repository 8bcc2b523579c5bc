//! Batches of spans that Jaeger's clients send in Thrift, as spans of OTLP, in the way of
//! OpenTelemetry's collector: what OTLP has fields for is taken out of the tags, the parent is taken out
//! of the references, and what remains of these are links. `ingest::span_http` calls [`translate`].
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};

use super::jaeger_tags as tags;
use super::span_batch::{SPAN_ITEMS_MAX, SpanBatch, TooLarge};
use crate::proto::thrift::{Protocol, Reader, Result, ThriftError, Type};

/// The service of a process that has none.
const NO_SERVICE: &str = "OTLPResourceNoServiceName";

/// Names that OpenTelemetry has for tags of processes.
const HOST: (&str, &str) = ("hostname", "host.name");
const CLIENT: (&str, &str) = ("jaeger.version", "opencensus.exporterversion");

/// The flag of a trace that was sampled.
const SAMPLED: i32 = 1;

const MICROSECOND_NS: u64 = 1000;

/// The spans of a `Batch`, of about `bytes_max` bytes as OTLP at most.
///
/// # Errors
/// [`ThriftError`] when the bytes are no such structure or too large.
pub fn translate(message: &[u8], protocol: Protocol, bytes_max: usize) -> Result<SpanBatch> {
    // The process may stand behind the spans: it is looked for first.
    let mut resource = Resource::default();
    let mut reader = Reader::new(message, protocol);
    reader.fields(|reader, number, kind| match (number, kind) {
        (1, Type::Struct) => {
            resource = process(reader)?;
            Ok(())
        }
        _ => reader.skip(kind),
    })?;
    let mut batch = SpanBatch::new(bytes_max);
    let mut reader = Reader::new(message, protocol);
    reader.fields(|reader, number, kind| match (number, kind) {
        (2, Type::List) => reader.elements(|reader, kind| match kind {
            Type::Struct => {
                if let Some((scope, span)) = span(reader)? {
                    let pushed = batch.push(&resource, &scope, &span);
                    pushed.map_err(|TooLarge(max)| ThriftError::TooLarge(max))?;
                }
                Ok(())
            }
            _ => reader.skip(kind),
        }),
        _ => reader.skip(kind),
    })?;
    Ok(batch)
}

fn process(reader: &mut Reader<'_>) -> Result<Resource> {
    let mut service = "";
    let mut attributes = Vec::new();
    let mut items = Items::default();
    reader.fields(|reader, number, kind| match (number, kind) {
        (1, Type::Binary) => {
            service = reader.text()?;
            Ok(())
        }
        (2, Type::List) => all_tags(reader, &mut items, &mut attributes),
        _ => reader.skip(kind),
    })?;
    if service == NO_SERVICE {
        return Ok(Resource::default());
    }
    let has = |attributes: &[KeyValue], name: &str| attributes.iter().any(|p| p.key == name);
    if !has(&attributes, HOST.1)
        && let Some(host) = attributes.iter_mut().find(|pair| pair.key == HOST.0)
    {
        host.key = HOST.1.to_owned();
    }
    if !has(&attributes, CLIENT.1)
        && let Some(version) = tags::take_text(&mut attributes, CLIENT.0)
    {
        attributes.push(tags::text(CLIENT.1, format!("Jaeger-{version}")));
    }
    if !service.is_empty() {
        attributes.insert(0, tags::text(tags::SERVICE, service));
    }
    Ok(Resource {
        attributes,
        ..Resource::default()
    })
}

/// Counts what a span has, so that it cannot have too much.
#[derive(Debug, Default)]
struct Items(usize);

impl Items {
    fn add(&mut self) -> Result<()> {
        self.0 += 1;
        match self.0 <= SPAN_ITEMS_MAX {
            true => Ok(()),
            false => Err(ThriftError::TooMany(SPAN_ITEMS_MAX)),
        }
    }
}

/// A span as it is written.
#[derive(Debug, Default, PartialEq)]
struct Read<'a> {
    trace_low: i64,
    trace_high: i64,
    id: i64,
    parent: i64,
    name: &'a str,
    references: Vec<Reference>,
    flags: i32,
    start_us: i64,
    duration_us: i64,
    tags: Vec<KeyValue>,
    events: Vec<Event>,
}

/// A span and the instrumentation that made it; `None` for one that says nothing at all.
fn span(reader: &mut Reader<'_>) -> Result<Option<(InstrumentationScope, Span)>> {
    let mut read = Read::default();
    let mut items = Items::default();
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Type::I64) => read.trace_low = reader.i64()?,
            (2, Type::I64) => read.trace_high = reader.i64()?,
            (3, Type::I64) => read.id = reader.i64()?,
            (4, Type::I64) => read.parent = reader.i64()?,
            (5, Type::Binary) => read.name = reader.text()?,
            (6, Type::List) => reader.elements(|reader, kind| match kind {
                Type::Struct => {
                    items.add()?;
                    read.references.push(reference(reader)?);
                    Ok(())
                }
                _ => reader.skip(kind),
            })?,
            (7, Type::I32) => read.flags = reader.i32()?,
            (8, Type::I64) => read.start_us = reader.i64()?,
            (9, Type::I64) => read.duration_us = reader.i64()?,
            (10, Type::List) => all_tags(reader, &mut items, &mut read.tags)?,
            (11, Type::List) => reader.elements(|reader, kind| match kind {
                Type::Struct => {
                    items.add()?;
                    read.events.push(event(reader, &mut items)?);
                    Ok(())
                }
                _ => reader.skip(kind),
            })?,
            _ => reader.skip(kind)?,
        }
        Ok(())
    })?;
    Ok((read != Read::default()).then(|| read.into_otlp()))
}

/// A reference to another span.
#[derive(Debug, Default, PartialEq)]
struct Reference {
    kind: i32,
    trace_low: i64,
    trace_high: i64,
    span: i64,
}

/// The type of a reference to a parent.
const CHILD_OF: i32 = 0;

fn reference(reader: &mut Reader<'_>) -> Result<Reference> {
    let mut read = Reference::default();
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Type::I32) => read.kind = reader.i32()?,
            (2, Type::I64) => read.trace_low = reader.i64()?,
            (3, Type::I64) => read.trace_high = reader.i64()?,
            (4, Type::I64) => read.span = reader.i64()?,
            _ => reader.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(read)
}

fn event(reader: &mut Reader<'_>, items: &mut Items) -> Result<Event> {
    let (mut time_us, mut attributes) = (0, Vec::new());
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Type::I64) => time_us = reader.i64()?,
            (2, Type::List) => all_tags(reader, items, &mut attributes)?,
            _ => reader.skip(kind)?,
        }
        Ok(())
    })?;
    let name = tags::take_text(&mut attributes, tags::EVENT).unwrap_or_default();
    Ok(Event {
        time_unix_nano: nanoseconds(time_us),
        name,
        attributes,
        ..Event::default()
    })
}

fn all_tags(reader: &mut Reader<'_>, items: &mut Items, out: &mut Vec<KeyValue>) -> Result<()> {
    reader.elements(|reader, kind| match kind {
        Type::Struct => {
            items.add()?;
            out.push(tag(reader)?);
            Ok(())
        }
        _ => reader.skip(kind),
    })
}

fn tag(reader: &mut Reader<'_>) -> Result<KeyValue> {
    let (mut key, mut of_type) = ("", 0);
    let (mut text, mut double, mut truth, mut long, mut binary) = ("", 0.0, false, 0, &[][..]);
    reader.fields(|reader, number, kind| {
        match (number, kind) {
            (1, Type::Binary) => key = reader.text()?,
            (2, Type::I32) => of_type = reader.i32()?,
            (3, Type::Binary) => text = reader.text()?,
            (4, Type::Double) => double = reader.double()?,
            (5, Type::Bool) => truth = reader.truth()?,
            (6, Type::I64) => long = reader.i64()?,
            (7, Type::Binary) => binary = reader.bytes()?,
            _ => reader.skip(kind)?,
        }
        Ok(())
    })?;
    let value = match of_type {
        0 => Value::StringValue(text.to_owned()),
        1 => Value::DoubleValue(double),
        2 => Value::BoolValue(truth),
        3 => Value::IntValue(long),
        4 => Value::BytesValue(binary.to_owned()),
        other => Value::StringValue(format!("<Unknown Jaeger TagType \"{other}\">")),
    };
    Ok(tags::pair(key, value))
}

fn nanoseconds(us: i64) -> u64 {
    u64::try_from(us)
        .unwrap_or(0)
        .saturating_mul(MICROSECOND_NS)
}

fn trace_id(high: i64, low: i64) -> Vec<u8> {
    [high.to_be_bytes(), low.to_be_bytes()].concat()
}

impl Read<'_> {
    fn into_otlp(mut self) -> (InstrumentationScope, Span) {
        let parent = self.parent();
        let links = self.references.iter();
        // The parent is told as such.
        let links = links.filter(|r| !(r.kind == CHILD_OF && r.span == parent));
        let links = links.map(|reference| {
            let kind = match reference.kind {
                CHILD_OF => tags::CHILD_OF,
                _ => tags::FOLLOWS_FROM,
            };
            Link {
                trace_id: trace_id(reference.trace_high, reference.trace_low),
                span_id: reference.span.to_be_bytes().to_vec(),
                attributes: vec![tags::text(tags::REF_TYPE, kind)],
                ..Link::default()
            }
        });
        let links = links.collect();
        let attributes = &mut self.tags;
        let kind = tags::take_text(attributes, tags::KIND);
        let kind = kind.map_or(SpanKind::Unspecified, |name| tags::kind_named(&name));
        let status = tags::take_status(attributes, kind);
        let mut first = |names: [&str; 2]| {
            let found = names.map(|name| tags::take_text(attributes, name));
            found.into_iter().flatten().next().unwrap_or_default()
        };
        let scope = InstrumentationScope {
            name: first([tags::SCOPE_NAME, tags::LIBRARY_NAME]),
            version: first([tags::SCOPE_VERSION, tags::LIBRARY_VERSION]),
            ..InstrumentationScope::default()
        };
        let trace_state = tags::take_text(attributes, tags::TRACE_STATE).unwrap_or_default();
        let span = Span {
            trace_id: trace_id(self.trace_high, self.trace_low),
            span_id: self.id.to_be_bytes().to_vec(),
            parent_span_id: match parent {
                0 => Vec::new(),
                parent => parent.to_be_bytes().to_vec(),
            },
            trace_state,
            flags: u32::from(self.flags & SAMPLED != 0),
            name: self.name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(self.start_us),
            end_time_unix_nano: nanoseconds(self.start_us.saturating_add(self.duration_us.max(0))),
            attributes: self.tags,
            events: self.events,
            links,
            status,
            ..Span::default()
        };
        (scope, span)
    }

    /// The parent: as it is told, else the first reference into the same trace, those to a parent
    /// before others.
    fn parent(&self) -> i64 {
        if self.parent != 0 {
            return self.parent;
        }
        let here =
            |r: &&Reference| r.trace_low == self.trace_low && r.trace_high == self.trace_high;
        let of_trace = || self.references.iter().filter(here);
        let found = of_trace().find(|reference| reference.kind == CHILD_OF);
        let found = found.or_else(|| of_trace().next());
        found.map_or(0, |reference| reference.span)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what tests write is small")]
pub(crate) mod tests;
