//! The look at a whole request before anything of it is stored: whether it is well-formed, and which
//! of its spans are refused. `stage` does what the plan says; `wal_record` keeps the bounds, so that
//! a replay comes to the same plan.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;

use super::message::{
    AnyRef, EventRef, GroupRef, KeyValueRef, LinkRef, Part, ResourceRef, ScopeRef, SpanRef, groups,
    items,
};
use super::wire::{Malformed, Read};
use crate::model::DEPTH_MAX;
use crate::stats::{Accepted, Reason};

/// What spans are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The first start that is taken, nanoseconds since 1970.
    pub(crate) oldest_ns: i64,
    /// The last one.
    pub(crate) newest_ns: i64,
    /// The most bytes of a span as protobuf; of a resource and of a scope too.
    pub(crate) span_bytes_max: u64,
    /// The most attributes of a span, an event, a link, a resource or a scope.
    pub(crate) attributes_max: u64,
}

/// The spans of a request that are to be stored, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    pub(crate) resources: Vec<PlannedResource<'a>>,
    pub(crate) scopes: Vec<PlannedScope<'a>>,
    pub(crate) spans: Vec<PlannedSpan<'a>>,
    /// Bytes that the spans will take in memory, about.
    pub(crate) memory: u64,
}

/// What a span takes in memory beside its bytes, about: its fixed columns.
const SPAN_BYTES: u64 = 160;
/// What an event or a link takes; in a request it may be two bytes.
const PART_BYTES: u64 = 32;

/// A resource of a plan.
#[derive(Debug)]
pub(crate) struct PlannedResource<'a> {
    /// The bytes of a `Resource`.
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) schema_url: &'a [u8],
}

/// A scope of a plan.
#[derive(Debug)]
pub(crate) struct PlannedScope<'a> {
    /// The place of its resource.
    pub(crate) resource: usize,
    /// The bytes of an `InstrumentationScope`.
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) schema_url: &'a [u8],
}

/// A span of a plan.
#[derive(Debug)]
pub(crate) struct PlannedSpan<'a> {
    /// The place of its scope.
    pub(crate) scope: usize,
    /// The bytes of a `Span`.
    pub(crate) bytes: &'a [u8],
}

/// Looks at `request`.
///
/// # Errors
/// [`Malformed`] when it is no `ExportTraceServiceRequest` or has text that is not UTF-8.
pub(crate) fn check<'a>(request: &'a [u8], bounds: &Bounds) -> Read<(Plan<'a>, Accepted)> {
    let mut check = Check {
        bounds,
        plan: Plan::default(),
        accepted: Accepted::default(),
    };
    groups(request, |group| check.resource(group))?;
    check.accepted.stored = check.plan.spans.len() as u64;
    Ok((check.plan, check.accepted))
}

struct Check<'a, 'b> {
    bounds: &'b Bounds,
    plan: Plan<'a>,
    accepted: Accepted,
}

impl<'a> Check<'a, '_> {
    fn resource(&mut self, group: &'a [u8]) -> Read<()> {
        let place = self.plan.resources.len();
        let first = self.plan.spans.len();
        let scopes = self.plan.scopes.len();
        let read = GroupRef::of_resource(group, |group| self.scope(group, place))?;
        let mut seen = Seen::new("resource", read.owner.len());
        ResourceRef::read(&read.owner, |pair| seen.attribute(pair))
            .map_err(|malformed| malformed.within("resource"))?;
        text(read.schema_url, "schema_url")?;
        if let Some(refused) = seen.refused(self.bounds) {
            self.refuse_from(first, &refused);
            self.plan.scopes.truncate(scopes);
        }
        if self.plan.spans.len() > first {
            self.plan.resources.push(PlannedResource {
                bytes: read.owner,
                schema_url: read.schema_url,
            });
        }
        Ok(())
    }

    fn scope(&mut self, group: &'a [u8], resource: usize) -> Read<()> {
        let place = self.plan.scopes.len();
        let first = self.plan.spans.len();
        let read = GroupRef::of_scope(group, |span| self.span(span, place))?;
        let mut seen = Seen::new("scope", read.owner.len());
        ScopeRef::read(&read.owner, |pair| seen.attribute(pair))
            .and_then(|scope| {
                text(scope.name, "name")?;
                text(scope.version, "version")
            })
            .map_err(|malformed| malformed.within("scope"))?;
        text(read.schema_url, "schema_url")?;
        if let Some(refused) = seen.refused(self.bounds) {
            self.refuse_from(first, &refused);
        }
        if self.plan.spans.len() > first {
            self.plan.scopes.push(PlannedScope {
                resource,
                bytes: read.owner,
                schema_url: read.schema_url,
            });
        }
        Ok(())
    }

    /// Refuses all spans from `first` on.
    fn refuse_from(&mut self, first: usize, refused: &Refused) {
        for span in self.plan.spans.drain(first..) {
            // It was read before.
            let span = SpanRef::read(span.bytes, |_| Ok(())).unwrap_or_default();
            self.accepted
                .reject(refused.reason, || refused.example(&span, self.bounds));
        }
    }

    #[inline]
    fn span(&mut self, bytes: &'a [u8], scope: usize) -> Read<()> {
        let mut seen = Seen::new("span", bytes.len());
        let span = SpanRef::read(bytes, |part| match part {
            Part::Attribute(pair) => seen.attribute(pair),
            Part::Event(event) => seen.event(event),
            Part::Link(link) => seen.link(link),
        })?;
        text(span.trace_state, "trace_state")?;
        text(span.name, "name")?;
        if let Some(status) = &span.status {
            text(status.message, "message").map_err(|malformed| malformed.within("status"))?;
        }
        let refused = refused_ids(&span)
            .or_else(|| refused_start(&span, self.bounds))
            .or_else(|| seen.refused(self.bounds));
        match refused {
            Some(refused) => self
                .accepted
                .reject(refused.reason, || refused.example(&span, self.bounds)),
            None => {
                self.plan.spans.push(PlannedSpan { scope, bytes });
                self.plan.memory += SPAN_BYTES + bytes.len() as u64 + PART_BYTES * seen.parts;
            }
        }
        Ok(())
    }
}

/// What was seen of a span, a resource or a scope that may be a reason to refuse it.
struct Seen {
    what: &'static str,
    bytes: u64,
    attributes: u64,
    /// How many events and links there are.
    parts: u64,
    /// The part with the most attributes, of those that are done.
    most: (&'static str, u64),
    too_deep: bool,
}

impl Seen {
    fn new(what: &'static str, bytes: usize) -> Self {
        Self {
            what,
            bytes: bytes as u64,
            attributes: 0,
            parts: 0,
            most: (what, 0),
            too_deep: false,
        }
    }

    #[inline]
    fn attribute(&mut self, pair: &[u8]) -> Read<()> {
        self.attributes += 1;
        self.too_deep |= is_too_deep_pair(pair, 0)?;
        Ok(())
    }

    fn part(&mut self, what: &'static str, attributes: u64) {
        self.parts += 1;
        if attributes > self.most.1 {
            self.most = (what, attributes);
        }
    }

    fn event(&mut self, event: &[u8]) -> Read<()> {
        let mut count = 0;
        let event = EventRef::read(event, |pair| {
            count += 1;
            self.too_deep |= is_too_deep_pair(pair, 0)?;
            Ok(())
        })?;
        self.part("event", count);
        text(event.name, "name")
    }

    fn link(&mut self, link: &[u8]) -> Read<()> {
        let mut count = 0;
        let link = LinkRef::read(link, |pair| {
            count += 1;
            self.too_deep |= is_too_deep_pair(pair, 0)?;
            Ok(())
        })?;
        self.part("link", count);
        text(link.trace_state, "trace_state")
    }

    #[inline]
    fn refused(&self, bounds: &Bounds) -> Option<Refused> {
        let (what, attributes) = match self.attributes > bounds.attributes_max {
            true => (self.what, self.attributes),
            false => self.most,
        };
        let (reason, what, figure) = if self.bytes > bounds.span_bytes_max {
            (Reason::TooLarge, self.what, self.bytes)
        } else if attributes > bounds.attributes_max {
            (Reason::TooManyAttributes, what, attributes)
        } else if self.too_deep {
            (Reason::TooDeep, self.what, 0)
        } else {
            return None;
        };
        Some(Refused {
            reason,
            what,
            figure,
        })
    }
}

/// Why a span is refused.
#[derive(Debug)]
struct Refused {
    reason: Reason,
    what: &'static str,
    figure: u64,
}

impl Refused {
    /// The sentence that the sender reads.
    #[cold]
    fn example(&self, span: &SpanRef<'_>, bounds: &Bounds) -> String {
        let Self {
            reason,
            what,
            figure,
        } = self;
        match reason {
            Reason::TraceId if span.trace_id.len() == 16 => {
                "trace ids must not be all zero".to_owned()
            }
            Reason::TraceId => format!("trace ids must be 128 bit, received {figure} bits"),
            Reason::SpanId => {
                format!("span ids must be 64 bit and not all zero, received {figure} bits")
            }
            Reason::ParentId => format!("parent span ids must be 64 bit, received {figure} bits"),
            Reason::TooManyAttributes => {
                format!(
                    "a {what} has {figure} attributes, limit {}",
                    bounds.attributes_max
                )
            }
            Reason::TooLarge => format!(
                "a {what} has {figure} bytes, limit {}: {}",
                bounds.span_bytes_max,
                called(span)
            ),
            Reason::TooOld | Reason::TooFarInFuture | Reason::TooDeep => {
                format!("{reason}: {}", called(span))
            }
        }
    }
}

/// What a sender knows a span by.
fn called(span: &SpanRef<'_>) -> String {
    let hex = |id: &[u8]| -> String { id.iter().map(|byte| format!("{byte:02x}")).collect() };
    let name: String = String::from_utf8_lossy(span.name)
        .chars()
        .take(80)
        .collect();
    format!(
        "trace={} span={} name={name:?}",
        hex(span.trace_id),
        hex(span.span_id)
    )
}

#[inline]
fn refused_ids(span: &SpanRef<'_>) -> Option<Refused> {
    let is_zero = |id: &[u8]| id.iter().all(|&byte| byte == 0);
    let (reason, id) = if span.trace_id.len() != 16 || is_zero(span.trace_id) {
        (Reason::TraceId, span.trace_id)
    } else if span.span_id.len() != 8 || is_zero(span.span_id) {
        (Reason::SpanId, span.span_id)
    } else if span.parent_id.len() != 8 && !is_zero(span.parent_id) {
        (Reason::ParentId, span.parent_id)
    } else {
        return None;
    };
    Some(Refused {
        reason,
        what: "span",
        figure: 8 * id.len() as u64,
    })
}

#[inline]
fn refused_start(span: &SpanRef<'_>, bounds: &Bounds) -> Option<Refused> {
    let start = span.start();
    let reason = if start < bounds.oldest_ns {
        Reason::TooOld
    } else if start > bounds.newest_ns {
        Reason::TooFarInFuture
    } else {
        return None;
    };
    Some(Refused {
        reason,
        what: "span",
        figure: 0,
    })
}

/// Whether a value in an attribute is nested deeper than any may be. What lies deeper is not
/// looked at: it is not stored.
#[inline]
fn is_too_deep_pair(pair: &[u8], depth: usize) -> Read<bool> {
    let pair = match KeyValueRef::usual(pair) {
        Some(_) if is_ascii(pair) => return Ok(false),
        Some(pair) => pair,
        None => KeyValueRef::read_any(pair)?,
    };
    text(pair.key, "key")?;
    is_too_deep(pair.value, depth).map_err(|malformed| malformed.within("value"))
}

#[inline]
fn is_too_deep(value: AnyRef<'_>, depth: usize) -> Read<bool> {
    match value {
        AnyRef::String(value) => text(value, "string_value").map(|()| false),
        AnyRef::Array(list) => is_too_deep_list(list, depth, |item| {
            is_too_deep(AnyRef::read(item)?, depth + 1)
        })
        .map_err(|malformed| malformed.within("array_value")),
        AnyRef::KeyValues(list) => {
            is_too_deep_list(list, depth, |item| is_too_deep_pair(item, depth + 1))
                .map_err(|malformed| malformed.within("kvlist_value"))
        }
        _ => Ok(false),
    }
}

fn is_too_deep_list(list: &[u8], depth: usize, each: impl Fn(&[u8]) -> Read<bool>) -> Read<bool> {
    let mut found = false;
    items(list, |item| {
        found |= depth == DEPTH_MAX || each(item)?;
        Ok(())
    })?;
    Ok(found)
}

#[inline]
fn text(bytes: &[u8], name: &'static str) -> Read<()> {
    if is_ascii(bytes) || std::str::from_utf8(bytes).is_ok() {
        return Ok(());
    }
    Err(Malformed::new("text is not UTF-8").within(name))
}

/// Whether all bytes are below 128: most text is short, and quickly looked at in words that may
/// overlap.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().fold(0, |all, byte| all | byte) < 0x80;
    };
    let (words, _) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let all = words.fold(u64::from_le_bytes(*last), |all, word| all | word);
    all & HIGH == 0
}
