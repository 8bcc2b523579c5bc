//! The spans that came last, in columns in order of arrival, straight from the bytes of requests.
//! `db` fills it and has a run made of it; nothing is read from it.
//!
//! A request is looked at as a whole before any of it is stored, so that one that is malformed
//! leaves nothing behind, nor does a span that is refused. Then each value is moved once, from the
//! bytes to its column.

mod intern;
mod paths;
mod source;
mod table;

#[cfg(test)]
mod tests;

use hashbrown::HashTable;
use trine_storage::Result;
use trine_storage::codec::put_bytes;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use intern::Index;
pub(crate) use table::TableStage;

use crate::block::values::Texts;
use crate::model::TraceId;
use crate::otlp::{
    Bounds, EventRef, LinkRef, Malformed, Part, Plan, PlannedResource, PlannedScope, Read,
    ResourceRef, ScopeRef, SpanRef, check,
};
use crate::stats::Accepted;
use paths::Paths;

/// Spans with all that belongs to them, in order of arrival. Fixed columns have the numbers that
/// they have in blocks, but for those of spans that say where a span lies in its trace: number 3 is
/// the place of its trace, number 4 the id of its parent, zero without one; starts are nanoseconds
/// since 1970.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) resources: TableStage,
    pub(crate) scopes: TableStage,
    pub(crate) spans: TableStage,
    /// In order of their spans' rows.
    pub(crate) events: TableStage,
    /// Likewise.
    pub(crate) links: TableStage,
    /// The traces that have spans here, by first arrival.
    pub(crate) trace_ids: Vec<TraceId>,
    trace_places: HashTable<u32>,
    known_resources: Known,
    known_scopes: Known,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            resources: TableStage::new(1, 1),
            scopes: TableStage::new(1, 3),
            spans: TableStage::new(15, 3),
            events: TableStage::new(2, 1),
            links: TableStage::new(2, 3),
            trace_ids: Vec::new(),
            trace_places: HashTable::new(),
            known_resources: Known::default(),
            known_scopes: Known::default(),
        }
    }
}

/// Messages that came before, with the rows that they became.
#[derive(Debug, Default)]
struct Known {
    messages: Texts,
    index: Index,
    /// A message and what it is told apart by.
    key: Vec<u8>,
}

impl Known {
    /// The row of a message that holds spans, and whether it is a new one.
    fn row(&mut self, message: &[u8], schema_url: &[u8]) -> (u32, bool) {
        self.key.clear();
        put_bytes(&mut self.key, schema_url);
        self.key.extend_from_slice(message);
        let rows = self.messages.len();
        let row = self.index.place(&mut self.messages, &self.key);
        (row, self.messages.len() > rows)
    }
}

/// The parts of a span that have rows of their own.
#[derive(Debug, Default)]
struct Lists<'a> {
    events: Vec<&'a [u8]>,
    links: Vec<&'a [u8]>,
}

impl Stage {
    /// Stores the spans of a request, but for those that `bounds` refuse.
    ///
    /// # Errors
    /// [`Kind::Invalid`](trine_storage::Kind::Invalid) when it is malformed. Nothing is stored then.
    pub(crate) fn push_request(&mut self, request: &[u8], bounds: &Bounds) -> Result<Accepted> {
        let (plan, accepted) = check(request, bounds).map_err(Malformed::into_error)?;
        self.push(&plan)?;
        Ok(accepted)
    }

    /// Stores the spans of a plan. There has to be room: a stage is made a run long before it has
    /// as many rows as 32 bits can count.
    ///
    /// # Errors
    /// None for a plan that [`check`] made.
    pub(crate) fn push(&mut self, plan: &Plan<'_>) -> Result<()> {
        self.apply(plan).map_err(Malformed::into_error)
    }

    fn apply(&mut self, plan: &Plan<'_>) -> Read<()> {
        let mut lists = Lists::default();
        let mut place = None;
        let mut owners = (0, 0);
        for span in &plan.spans {
            if place != Some(span.scope) {
                place = Some(span.scope);
                let scope = &plan.scopes[span.scope];
                let resource = self.resource(&plan.resources[scope.resource])?;
                owners = (resource, self.scope(scope)?);
            }
            self.span(span.bytes, owners, &mut lists)?;
        }
        Ok(())
    }

    fn resource(&mut self, planned: &PlannedResource<'_>) -> Read<u32> {
        let (row, is_new) = self.known_resources.row(&planned.bytes, planned.schema_url);
        if is_new {
            let table = &mut self.resources;
            let mut new = Paths::start();
            let read = ResourceRef::read(&planned.bytes, |pair| table.attribute(&mut new, pair))?;
            table.end(new, &[read.dropped.into()], &[planned.schema_url]);
        }
        Ok(row)
    }

    fn scope(&mut self, planned: &PlannedScope<'_>) -> Read<u32> {
        let (row, is_new) = self.known_scopes.row(&planned.bytes, planned.schema_url);
        if is_new {
            let table = &mut self.scopes;
            let mut new = Paths::start();
            let read = ScopeRef::read(&planned.bytes, |pair| table.attribute(&mut new, pair))?;
            let texts = [read.name, read.version, planned.schema_url];
            table.end(new, &[read.dropped.into()], &texts);
        }
        Ok(row)
    }

    fn span<'a>(
        &mut self,
        bytes: &'a [u8],
        (resource, scope): (u32, u32),
        lists: &mut Lists<'a>,
    ) -> Read<()> {
        lists.events.clear();
        lists.links.clear();
        let table = &mut self.spans;
        let mut row = Paths::start();
        let span = SpanRef::read(bytes, |part| {
            match part {
                Part::Attribute(pair) => table.attribute(&mut row, pair)?,
                Part::Event(event) => lists.events.push(event),
                Part::Link(link) => lists.links.push(link),
            }
            Ok(())
        })?;
        let status = span.status.map_or(0, |status| 1 + zigzag(status.code));
        let message = span.status.map_or(&[][..], |status| status.message);
        let trace = self.trace(span.trace_id.try_into().unwrap_or_default());
        let numbers = [
            number(span.span_id),
            span.start_ns,
            span.end_ns.wrapping_sub(span.start_ns),
            trace.into(),
            span.parent().map_or(0, u64::from_be_bytes),
            zigzag(span.kind),
            status,
            resource.into(),
            scope.into(),
            span.flags.into(),
            span.dropped_attributes.into(),
            span.dropped_events.into(),
            span.dropped_links.into(),
            lists.events.len() as u64,
            lists.links.len() as u64,
        ];
        let texts = [span.name, message, span.trace_state];
        self.spans.end(row, &numbers, &texts);
        for event in &lists.events {
            self.event(event, span.start_ns)?;
        }
        for link in &lists.links {
            self.link(link)?;
        }
        Ok(())
    }

    fn event(&mut self, bytes: &[u8], start_ns: u64) -> Read<()> {
        let table = &mut self.events;
        let mut row = Paths::start();
        let event = EventRef::read(bytes, |pair| table.attribute(&mut row, pair))?;
        let time = event.time_ns.wrapping_sub(start_ns);
        table.end(row, &[time, event.dropped.into()], &[event.name]);
        Ok(())
    }

    fn link(&mut self, bytes: &[u8]) -> Read<()> {
        let table = &mut self.links;
        let mut row = Paths::start();
        let link = LinkRef::read(bytes, |pair| table.attribute(&mut row, pair))?;
        let numbers = [link.dropped.into(), link.flags.into()];
        table.end(
            row,
            &numbers,
            &[link.trace_id, link.span_id, link.trace_state],
        );
        Ok(())
    }

    /// The place of a trace.
    fn trace(&mut self, id: TraceId) -> u32 {
        let ids = &mut self.trace_ids;
        let hash = xxh3_64(&id);
        let same = |&place: &u32| ids[place as usize] == id;
        if let Some(&place) = self.trace_places.find(hash, same) {
            return place;
        }
        let place = ids.len() as u32;
        ids.push(id);
        self.trace_places
            .insert_unique(hash, place, |&place| xxh3_64(&ids[place as usize]));
        place
    }

    /// How many spans there are.
    pub(crate) fn rows(&self) -> u32 {
        self.spans.rows
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> u64 {
        let tables = [
            &self.resources,
            &self.scopes,
            &self.spans,
            &self.events,
            &self.links,
        ];
        let tables: u64 = tables.into_iter().map(TableStage::bytes).sum();
        let traces = self.trace_ids.len() * (size_of::<TraceId>() + 2 * size_of::<u32>());
        let known =
            self.known_resources.messages.bytes_len() + self.known_scopes.messages.bytes_len();
        tables + (traces + known) as u64
    }
}

fn number(id: &[u8]) -> u64 {
    u64::from_be_bytes(id.try_into().unwrap_or_default())
}

fn zigzag(number: i32) -> u64 {
    u64::from((number << 1 ^ number >> 31).cast_unsigned())
}
