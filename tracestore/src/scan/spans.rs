//! Spans of a trace as they came, read one by one from where they lie. Traces by id are made of
//! them, and so is the union of a trace that lies in several places.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::Result;
use trine_storage::codec::Reader;

use super::view::View;
use crate::block::build::{Input, Source};
use crate::block::format::{event, link, resource, scope, span};
use crate::block::image::{Image, Trace, in_memory};
use crate::block::table::{Key, Neighbours, TableReader, by_page};
use crate::block::values::{Texts, Type};
use crate::model::{AnyValue, Event, KeyValue, Link, Resource, Scope, Span, Status, codec};
use crate::otlp::{Bounds, Writer};
use crate::stage::Stage;
use crate::structure::{Arranger, SpanKey};

/// A span with what it is under, and what its place in the trace depends on.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) resource: Arc<Resource>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) span: Span,
    pub(crate) key: SpanKey,
}

/// All spans of a trace of an image, row by row.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io).
pub(crate) fn read(image: &Image, trace: &Trace) -> Result<Vec<Found>> {
    let table = &image.spans;
    let rows = trace.rows.start as usize..trace.rows.end as usize;
    let numbers = |number: u8| table.numbers_in(number, rows.clone());
    let keys = image.span_keys(trace)?;
    let mut times = numbers(span::START)?
        .into_iter()
        .zip(numbers(span::DURATION)?);
    let mut statuses = numbers(span::STATUS)?.into_iter();
    let mut flags = numbers(span::FLAGS)?.into_iter();
    let mut dropped = numbers(span::DROPPED_ATTRIBUTES)?.into_iter();
    let mut dropped_events = numbers(span::DROPPED_EVENTS)?.into_iter();
    let mut dropped_links = numbers(span::DROPPED_LINKS)?.into_iter();
    let mut names = texts(table, &span::NAME, &rows)?.into_iter();
    let mut messages = texts(table, &span::MESSAGE, &rows)?.into_iter();
    let mut states = texts(table, &span::TRACE_STATE, &rows)?.into_iter();
    let mut attributes = attributes(table, &rows)?.into_iter();
    let resources = shared(&image.resources, &numbers(span::RESOURCE)?, read_resource)?;
    let scopes = shared(&image.scopes, &numbers(span::SCOPE)?, read_scope)?;
    let mut under = resources.into_iter().zip(scopes);
    let mut events = children(image, span::EVENTS, &rows, read_events)?.into_iter();
    let mut links = children(image, span::LINKS, &rows, read_links)?.into_iter();
    let mut found = Vec::with_capacity(keys.len());
    for (key, _) in keys {
        let (start, duration) = times.next().unwrap_or_default();
        let start_ns = start.wrapping_add(trace.start.cast_unsigned());
        let message = messages.next().unwrap_or_default();
        let (resource, scope) = under.next().unwrap_or_default();
        let mut events = events.next().unwrap_or_default();
        for event in &mut events {
            event.time_ns = event.time_ns.wrapping_add(start_ns);
        }
        let status = statuses.next().unwrap_or(0).checked_sub(1);
        let status = status.map(|code| Status {
            code: crate::block::image::unzigzag(code),
            message,
        });
        let parent = (key.parent_id != 0).then(|| key.parent_id.to_be_bytes());
        let span = Span {
            trace_id: trace.id,
            span_id: key.span_id.to_be_bytes(),
            trace_state: states.next().unwrap_or_default(),
            parent_span_id: parent,
            name: names.next().unwrap_or_default(),
            kind: key.kind,
            start_ns,
            end_ns: start_ns.wrapping_add(duration),
            attributes: attributes.next().unwrap_or_default(),
            dropped_attributes_count: small(dropped.next()),
            events,
            dropped_events_count: small(dropped_events.next()),
            links: links.next().unwrap_or_default(),
            dropped_links_count: small(dropped_links.next()),
            status,
            flags: small(flags.next()),
        };
        found.push(Found {
            resource,
            scope,
            span,
            key,
        });
    }
    Ok(found)
}

/// What a place has of a trace.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) image: Arc<Image>,
    /// Where it is in the table of traces.
    pub(crate) place: usize,
    /// Rows of the image that nobody sees any more.
    pub(crate) hidden: Arc<RoaringBitmap>,
}

/// What is left of a trace of which these are the pieces, older ones first, in order; of a span that
/// is there twice the first counts.
pub(crate) fn union(pieces: &[Piece]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut is_whole = pieces.len() == 1;
    for piece in pieces {
        let trace = piece.image.trace(piece.place)?;
        let spans = trace.rows.clone().zip(read(&piece.image, &trace)?);
        let seen = spans.filter(|(row, _)| !piece.hidden.contains(*row));
        found.extend(seen.map(|(_, span)| span));
        is_whole &= found.len() == trace.rows.len();
    }
    if is_whole {
        return Ok(found);
    }
    let keys: Vec<SpanKey> = found.iter().map(|found| found.key).collect();
    let mut arranger = Arranger::default();
    arranger.arrange(&keys);
    let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
    let rows = arranger.rows.iter();
    Ok(rows
        .filter_map(|row| found.get_mut(*row as usize)?.take())
        .collect())
}

/// Traces that were put together, as a place of its own.
pub(crate) fn view_of(spans: &[Found]) -> Result<View> {
    let mut writer = Writer::default();
    for found in spans {
        writer.push(&found.resource, &found.scope, &found.span);
    }
    let bounds = Bounds {
        oldest_ns: i64::MIN,
        newest_ns: i64::MAX,
        span_bytes_max: u64::MAX,
        attributes_max: u64::MAX,
    };
    let mut stage = Stage::default();
    stage.push_request(&writer.finish(), &bounds)?;
    let inputs = [Input::all(Source::Stage(&stage))];
    let (image, built, _) = in_memory(&inputs, &|_| false)?;
    View::new(Arc::new(image), Arc::default(), built.range)
}

fn small(number: Option<u64>) -> u32 {
    u32::try_from(number.unwrap_or(0)).unwrap_or(u32::MAX)
}

/// Byte strings of some rows.
fn bytes(table: &TableReader, key: &Key, rows: &Range<usize>) -> Result<Texts> {
    let mut all = Texts::default();
    for (page, positions) in by_page(rows.start, rows.len()) {
        let positions: Vec<u32> = positions.collect();
        table.texts(key, page, Some(&positions), &mut all)?;
    }
    if all.len() != rows.len() {
        return Err(table.corrupt("a text is missing"));
    }
    Ok(all)
}

fn texts(table: &TableReader, key: &Key, rows: &Range<usize>) -> Result<Vec<String>> {
    let all = bytes(table, key, rows)?;
    all.iter().map(|text| utf8(table, text)).collect()
}

fn utf8(table: &TableReader, text: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(text).map_err(|_| table.corrupt("text is not UTF-8"))?;
    Ok(text.to_owned())
}

/// The attributes of some rows, in the order in which they came.
fn attributes(table: &TableReader, rows: &Range<usize>) -> Result<Vec<Vec<KeyValue>>> {
    let mut all = Vec::with_capacity(rows.len());
    for (page, positions) in by_page(rows.start, rows.len()) {
        page_attributes(table, page, positions, &mut all)?;
    }
    Ok(all)
}

/// Where a value belongs: among the rows asked for, and among the attributes of its row.
type Slot = (usize, usize);

fn page_attributes(
    table: &TableReader,
    page: usize,
    rows: Range<u32>,
    all: &mut Vec<Vec<KeyValue>>,
) -> Result<()> {
    let shapes = table.shapes(page, rows.clone())?;
    let rare = table.rare_of(page, &shapes, &rows)?;
    let mut rare = rare.into_iter();
    let first_row = rows.start;
    let before = shapes.before(first_row);
    // For each column that these rows have its values in their order; columns are found by number.
    let mut slots: Vec<(u32, Vec<Slot>)> = Vec::new();
    let mut place_of: Vec<u32> = vec![u32::MAX; table.attribute_count()];
    let unknown: Arc<str> = "".into();
    for row in rows {
        let list = shapes.list(row);
        for (at, &column) in list.iter().enumerate() {
            let column = match TableReader::is_rare(column) {
                false => column,
                true => rare
                    .next()
                    .ok_or_else(|| table.corrupt("a row has more attributes than are told"))?,
            };
            let place = place_of.get_mut(column as usize);
            let place = place.ok_or_else(|| table.corrupt("an attribute is not there"))?;
            if *place == u32::MAX {
                *place = u32::try_from(slots.len()).unwrap_or(u32::MAX);
                slots.push((column, Vec::new()));
            }
            if let Some((_, slots)) = slots.get_mut(*place as usize) {
                slots.push((all.len(), at));
            }
        }
        let none = || KeyValue {
            key: Arc::clone(&unknown),
            value: AnyValue::Empty,
        };
        all.push(list.iter().map(|_| none()).collect());
    }
    for (number, slots) in slots {
        // Its values of these rows are neighbours.
        let at = (page, first_row);
        let held = table.neighbours(number as usize, at, &before, slots.len())?;
        let name = Arc::clone(&held.name);
        let values = values_at(table, held)?;
        if values.len() != slots.len() {
            return Err(table.corrupt("a value is missing"));
        }
        for ((row, at), value) in slots.into_iter().zip(values) {
            if let Some(held) = all.get_mut(row).and_then(|list| list.get_mut(at)) {
                held.key = Arc::clone(&name);
                held.value = value;
            }
        }
    }
    Ok(())
}

/// The values at some places of a column, ascending.
fn values_at(table: &TableReader, held: Neighbours<'_>) -> Result<Vec<AnyValue>> {
    let Neighbours { values, places, .. } = held;
    let kind = values.kind();
    let (mut numbers, mut texts) = (Vec::new(), Texts::default());
    for (page, positions) in places {
        let page = u32::try_from(page).unwrap_or(u32::MAX);
        if kind.is_number() {
            values.numbers_in(page, positions, &mut numbers)?;
        } else {
            let positions: Vec<u32> = positions.collect();
            values.texts(page, Some(&positions), &mut texts)?;
        }
    }
    let number = |bits: u64| match kind {
        Type::Float => AnyValue::Double(f64::from_bits(bits)),
        Type::Bool => AnyValue::Bool(bits != 0),
        _ => AnyValue::Int(bits.cast_signed()),
    };
    if kind.is_number() {
        return Ok(numbers.into_iter().map(number).collect());
    }
    let value = |bytes: &[u8]| match kind {
        Type::Str => Ok(AnyValue::String(utf8(table, bytes)?)),
        _ => codec::value(&mut Reader::new(table.name(), bytes), 0),
    };
    texts.iter().map(value).collect()
}

/// What rows share, each different row read once.
fn shared<T>(
    table: &TableReader,
    rows: &[u64],
    read: fn(&TableReader, usize) -> Result<T>,
) -> Result<Vec<Arc<T>>> {
    let mut known: HashMap<u64, Arc<T>> = HashMap::new();
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let held = match known.get(row) {
            Some(held) => Arc::clone(held),
            None => {
                let at = usize::try_from(*row).unwrap_or(usize::MAX);
                if at >= table.rows() {
                    return Err(table.corrupt("a span names a row that is not there"));
                }
                let held = Arc::new(read(table, at)?);
                known.insert(*row, Arc::clone(&held));
                held
            }
        };
        all.push(held);
    }
    Ok(all)
}

fn read_resource(table: &TableReader, row: usize) -> Result<Resource> {
    let rows = row..row + 1;
    let one = |mut all: Vec<String>| all.pop().unwrap_or_default();
    Ok(Resource {
        attributes: attributes(table, &rows)?.pop().unwrap_or_default(),
        dropped_attributes_count: small(Some(table.number_at(resource::DROPPED_ATTRIBUTES, row)?)),
        schema_url: one(texts(table, &resource::SCHEMA_URL, &rows)?),
    })
}

fn read_scope(table: &TableReader, row: usize) -> Result<Scope> {
    let rows = row..row + 1;
    let one = |mut all: Vec<String>| all.pop().unwrap_or_default();
    Ok(Scope {
        name: one(texts(table, &scope::NAME, &rows)?),
        version: one(texts(table, &scope::VERSION, &rows)?),
        attributes: attributes(table, &rows)?.pop().unwrap_or_default(),
        dropped_attributes_count: small(Some(table.number_at(scope::DROPPED_ATTRIBUTES, row)?)),
        schema_url: one(texts(table, &scope::SCHEMA_URL, &rows)?),
    })
}

/// The events or links of some spans.
fn children<T>(
    image: &Image,
    count: u8,
    rows: &Range<usize>,
    read: fn(&Image, Range<usize>) -> Result<Vec<T>>,
) -> Result<Vec<Vec<T>>> {
    let counts = image.spans.numbers_in(count, rows.clone())?;
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return Ok(Vec::new());
    }
    let first = image.children_before(count, rows.start)?;
    let end = usize::try_from(first.saturating_add(all)).unwrap_or(usize::MAX);
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    let mut found = read(image, first..end)?.into_iter();
    let take = |count: u64| {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        found.by_ref().take(count).collect()
    };
    Ok(counts.into_iter().map(take).collect())
}

/// Events with the time since their spans began.
fn read_events(image: &Image, rows: Range<usize>) -> Result<Vec<Event>> {
    let table = &image.events;
    if rows.end > table.rows() {
        return Err(table.corrupt("an event is not there"));
    }
    let times = table.numbers_in(event::TIME, rows.clone())?;
    let dropped = table.numbers_in(event::DROPPED_ATTRIBUTES, rows.clone())?;
    let names = texts(table, &event::NAME, &rows)?;
    let attributes = attributes(table, &rows)?;
    let parts = times.into_iter().zip(dropped).zip(names).zip(attributes);
    let event = |(((time_ns, dropped), name), attributes)| Event {
        time_ns,
        name,
        attributes,
        dropped_attributes_count: small(Some(dropped)),
    };
    Ok(parts.map(event).collect())
}

fn read_links(image: &Image, rows: Range<usize>) -> Result<Vec<Link>> {
    let table = &image.links;
    if rows.end > table.rows() {
        return Err(table.corrupt("a link is not there"));
    }
    let dropped = table.numbers_in(link::DROPPED_ATTRIBUTES, rows.clone())?;
    let flags = table.numbers_in(link::FLAGS, rows.clone())?;
    let traces = bytes(table, &link::TRACE_ID, &rows)?;
    let spans = bytes(table, &link::SPAN_ID, &rows)?;
    let states = texts(table, &link::TRACE_STATE, &rows)?;
    let attributes = attributes(table, &rows)?;
    let mut links = Vec::with_capacity(rows.len());
    let ids = traces.iter().zip(spans.iter());
    let numbers = dropped.into_iter().zip(flags);
    for (((ids, trace_state), attributes), (dropped, flags)) in
        ids.zip(states).zip(attributes).zip(numbers)
    {
        links.push(Link {
            trace_id: ids.0.to_vec(),
            span_id: ids.1.to_vec(),
            trace_state,
            attributes,
            dropped_attributes_count: small(Some(dropped)),
            flags: small(Some(flags)),
        });
    }
    Ok(links)
}
