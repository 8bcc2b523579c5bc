//! Makes a block image of the spans of several sources: the stage, blocks, runs. The freezing of the
//! stage, seals and merges call it.
//!
//! First the order: spans of one trace are put together from all sources, each once, depth first;
//! traces lie by when they began. Then every table is written in that order, column by column.

use std::borrow::Cow;
use std::collections::HashMap;

use roaring::RoaringBitmap;
use trine_storage::sealed::SealedWriter;
use trine_storage::{Error, Kind, Result, TimeRange};

use super::filter::{self, FilterWriter};
use super::format::{self, event, id, link, resource, scope, span, trace};
use super::gather::{self, Runs, TableSource};
use super::image::{Image, Trace};
use super::table::{Key, TableWriter};
use super::values::Values;
use crate::model::TraceId;
use crate::request::NO_ROW;
use crate::stage::Stage;
use crate::structure::{Arranger, SpanKey};

/// Where spans are taken from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Stage(&'a Stage),
    Image(&'a Image),
}

/// A source, and what is taken of it.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) source: Source<'a>,
    /// The traces that are taken, by their place in the source; without, all.
    pub(crate) traces: Option<RoaringBitmap>,
    /// Rows that are left out.
    pub(crate) hidden: RoaringBitmap,
    /// Whether other places may have spans of its traces although it does not say so: it was written
    /// when they were not known.
    pub(crate) is_stranger: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) spans: u64,
    pub(crate) traces: u64,
    /// Of the starts of the spans.
    pub(crate) range: TimeRange,
}

impl<'a> Input<'a> {
    /// All of a source.
    pub(crate) fn all(source: Source<'a>) -> Self {
        Self {
            source,
            traces: None,
            hidden: RoaringBitmap::new(),
            is_stranger: false,
        }
    }

    fn takes(&self, trace: u32) -> bool {
        self.traces
            .as_ref()
            .is_none_or(|taken| taken.contains(trace))
    }

    fn spans(&self) -> &'a dyn TableSource {
        match self.source {
            Source::Stage(stage) => &stage.spans,
            Source::Image(image) => &image.spans,
        }
    }

    fn table(&self, which: u32) -> &'a dyn TableSource {
        match (self.source, which) {
            (Source::Stage(stage), format::EVENTS) => &stage.events,
            (Source::Stage(stage), format::LINKS) => &stage.links,
            (Source::Stage(stage), format::RESOURCES) => &stage.resources,
            (Source::Stage(stage), format::SCOPES) => &stage.scopes,
            (Source::Stage(stage), _) => &stage.spans,
            (Source::Image(image), format::EVENTS) => &image.events,
            (Source::Image(image), format::LINKS) => &image.links,
            (Source::Image(image), format::RESOURCES) => &image.resources,
            (Source::Image(image), format::SCOPES) => &image.scopes,
            (Source::Image(image), _) => &image.spans,
        }
    }
}

/// Writes what is taken of `inputs`, older ones first, as one block; the file is not finished.
/// `has_more` tells whether spans of a trace are in other places too. It is asked for traces of the
/// stage, for those of images of which that was said before, and for those of strangers: of the places
/// that hold a trace the last to be written says so.
///
/// # Errors
/// Those of the file and of reading the inputs.
pub(crate) fn write(
    inputs: &[Input<'_>],
    sink: &mut SealedWriter,
    has_more: &dyn Fn(&TraceId) -> bool,
) -> Result<Built> {
    let order = Order::of(inputs)?;
    let numbers = |number: u8| -> Result<Vec<Cow<'_, [u64]>>> {
        inputs
            .iter()
            .map(|input| input.spans().numbers(number))
            .collect()
    };
    let mut writer = TableWriter::new(sink, order.runs.rows());
    writer.every(
        Key::Number(span::ID),
        &Values::Numbers(order.runs.numbers(&span_ids(inputs)?)),
    )?;
    let starts = order.starts(inputs)?;
    let range = starts.range;
    writer.every(Key::Number(span::START), &Values::Numbers(starts.relative))?;
    let (rows, ids) = order.parents(inputs, &mut writer)?;
    writer.of_rows(Key::Number(span::PARENT_ID), rows, &Values::Numbers(ids))?;
    let mut tables = Vec::new();
    for (column, which) in [
        (span::RESOURCE, format::RESOURCES),
        (span::SCOPE, format::SCOPES),
    ] {
        let held = numbers(column)?;
        let table = Shared::of(inputs, which, &held, &order.runs)?;
        let numbers = table.renumber(&held, &order.runs);
        writer.every(Key::Number(column), &Values::Numbers(numbers))?;
        tables.push(table);
    }
    let spans: Vec<&dyn TableSource> = inputs.iter().map(Input::spans).collect();
    let as_they_are = [
        span::DURATION,
        span::KIND,
        span::STATUS,
        span::FLAGS,
        span::DROPPED_ATTRIBUTES,
        span::DROPPED_EVENTS,
        span::DROPPED_LINKS,
        span::EVENTS,
        span::LINKS,
    ];
    let texts = [span::NAME, span::MESSAGE, span::TRACE_STATE];
    gather::write(&mut writer, &spans, &order.runs, &as_they_are, &texts)?;
    writer.finish(format::SPANS)?;
    for (table, which) in tables.iter().zip([format::RESOURCES, format::SCOPES]) {
        let (known, texts) = known_columns(which);
        write_table(inputs, sink, which, &table.runs, known, texts)?;
    }
    for (which, counts) in [(format::EVENTS, span::EVENTS), (format::LINKS, span::LINKS)] {
        let runs = children(inputs, which, &numbers(counts)?, &order.runs)?;
        let (known, texts) = known_columns(which);
        write_table(inputs, sink, which, &runs, known, texts)?;
    }
    order.write_traces(sink, has_more)?;
    Ok(Built {
        spans: order.runs.rows() as u64,
        traces: order.traces.len() as u64,
        range,
    })
}

/// Numbers and texts that every row of a table has.
pub(crate) fn known_columns(which: u32) -> (&'static [u8], &'static [Key]) {
    match which {
        format::EVENTS => (&[event::TIME, event::DROPPED_ATTRIBUTES], &[event::NAME]),
        format::LINKS => (
            &[link::DROPPED_ATTRIBUTES, link::FLAGS],
            &[link::TRACE_ID, link::SPAN_ID, link::TRACE_STATE],
        ),
        format::RESOURCES => (&[resource::DROPPED_ATTRIBUTES], &[resource::SCHEMA_URL]),
        format::SCOPES => (
            &[scope::DROPPED_ATTRIBUTES],
            &[scope::NAME, scope::VERSION, scope::SCHEMA_URL],
        ),
        _ => (&[], &[]),
    }
}

fn write_table(
    inputs: &[Input<'_>],
    sink: &mut SealedWriter,
    which: u32,
    runs: &Runs,
    numbers: &[u8],
    texts: &[Key],
) -> Result<()> {
    let sources: Vec<&dyn TableSource> = inputs.iter().map(|input| input.table(which)).collect();
    let mut writer = TableWriter::new(sink, runs.rows());
    gather::write(&mut writer, &sources, runs, numbers, texts)?;
    writer.finish(which)
}

fn span_ids<'a>(inputs: &[Input<'a>]) -> Result<Vec<Cow<'a, [u64]>>> {
    inputs
        .iter()
        .map(|input| input.spans().numbers(span::ID))
        .collect()
}

/// The rows of children (events, links) of spans, of which `counts` tells how many each span has.
///
/// # Errors
/// [`Kind::Corrupt`] when there are not as many.
fn children(
    inputs: &[Input<'_>],
    which: u32,
    counts: &[Cow<'_, [u64]>],
    runs: &Runs,
) -> Result<Runs> {
    let starts = |counts: &Cow<'_, [u64]>| {
        let mut next = 0u32;
        let mut starts = vec![0];
        starts.extend(counts.iter().map(|count| {
            next = next.saturating_add(u32::try_from(*count).unwrap_or(u32::MAX));
            next
        }));
        starts
    };
    let starts: Vec<Vec<u32>> = counts.iter().map(starts).collect();
    for (input, starts) in inputs.iter().zip(&starts) {
        let told = starts.last().map_or(0, |last| *last as usize);
        if told != input.table(which).rows() {
            let what = "spans have not as many events or links as there are";
            return Err(Error::new(Kind::Corrupt, what));
        }
    }
    let mut found = Runs::default();
    for run in runs.iter() {
        let starts = &starts[run.source as usize];
        let (first, end) = (run.first as usize, (run.first + run.len) as usize);
        found.push(run.source, starts[first], starts[end] - starts[first]);
    }
    Ok(found)
}

/// Rows of a table that spans share, each different one once.
struct Shared {
    runs: Runs,
    /// The number of each row of each source.
    numbers: Vec<HashMap<u64, u64>>,
}

impl Shared {
    fn of(inputs: &[Input<'_>], which: u32, held: &[Cow<'_, [u64]>], runs: &Runs) -> Result<Self> {
        let mut used = vec![RoaringBitmap::new(); inputs.len()];
        for run in runs.iter() {
            let used = &mut used[run.source as usize];
            let (first, end) = (run.first as usize, (run.first + run.len) as usize);
            let mut before = None;
            for row in &held[run.source as usize][first..end] {
                if before != Some(row) {
                    used.insert(u32::try_from(*row).unwrap_or(u32::MAX));
                }
                before = Some(row);
            }
        }
        let mut known: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut shared = Self {
            runs: Runs::default(),
            numbers: Vec::with_capacity(inputs.len()),
        };
        for ((source, input), used) in (0u32..).zip(inputs).zip(&used) {
            let contents = gather::contents(input.table(which), known_columns(which), used)?;
            let mut numbers = HashMap::with_capacity(contents.len());
            for (row, content) in used.iter().zip(contents) {
                let next = known.len() as u64;
                let number = *known.entry(content).or_insert(next);
                if number == next {
                    shared.runs.push(source, row, 1);
                }
                numbers.insert(u64::from(row), number);
            }
            shared.numbers.push(numbers);
        }
        Ok(shared)
    }

    fn renumber(&self, held: &[Cow<'_, [u64]>], runs: &Runs) -> Vec<u64> {
        let mut out = Vec::with_capacity(runs.rows());
        for run in runs.iter() {
            let source = run.source as usize;
            let numbers = &self.numbers[source];
            let (first, end) = (run.first as usize, (run.first + run.len) as usize);
            let mut before = (u64::MAX, 0);
            for row in &held[source][first..end] {
                if before.0 != *row {
                    before = (*row, numbers.get(row).copied().unwrap_or(0));
                }
                out.push(before.1);
            }
        }
        out
    }
}

/// A trace of the block that is written.
#[derive(Debug)]
struct Placed {
    id: TraceId,
    start: i64,
    end: i64,
    rows: u32,
    has_root: bool,
    /// Whether other places may have spans of it.
    has_more: bool,
    from: From,
}

#[derive(Debug)]
enum From {
    /// As it lies in an image.
    Whole { source: u32, first: u32 },
    /// From this place on among the rows that were put together.
    Arranged { at: usize },
}

/// The rows of the block.
#[derive(Debug, Default)]
struct Order {
    traces: Vec<Placed>,
    runs: Runs,
    /// Sources and rows of traces that were put together, and their parents as columns have them.
    arranged: Vec<(u32, u32)>,
    arranged_parents: Vec<u64>,
}

/// The starts of spans.
struct Starts {
    relative: Vec<u64>,
    range: TimeRange,
}

/// A piece of a trace.
struct Piece {
    id: TraceId,
    source: u32,
    trace: u32,
}

impl Order {
    fn of(inputs: &[Input<'_>]) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut sources = Vec::with_capacity(inputs.len());
        for (source, input) in (0u32..).zip(inputs) {
            let held = Held::open(input)?;
            let piece = |(trace, id)| Piece { id, source, trace };
            let taken = held.ids().filter(|(trace, _)| input.takes(*trace));
            pieces.extend(taken.map(piece));
            sources.push(held);
        }
        pieces.sort_unstable_by_key(|piece| (piece.id, piece.source));
        let mut order = Self::default();
        let mut assembly = Assembly::default();
        for of_trace in pieces.chunk_by(|a, b| a.id == b.id) {
            if let [piece] = of_trace
                && let Some(placed) =
                    sources[piece.source as usize].whole(&inputs[piece.source as usize], piece)
            {
                order.traces.push(placed);
                continue;
            }
            assembly.clear();
            for piece in of_trace {
                let source = piece.source as usize;
                sources[source].add(&inputs[source], piece, &mut assembly)?;
            }
            order
                .traces
                .extend(assembly.place(&mut order.arranged, &mut order.arranged_parents));
        }
        order
            .traces
            .sort_unstable_by_key(|trace| (trace.start, trace.id));
        for trace in &order.traces {
            match trace.from {
                From::Whole { source, first } => order.runs.push(source, first, trace.rows),
                From::Arranged { at } => {
                    for (source, row) in &order.arranged[at..at + trace.rows as usize] {
                        order.runs.push(*source, *row, 1);
                    }
                }
            }
        }
        Ok(order)
    }

    /// Starts of all spans since their traces began.
    fn starts(&self, inputs: &[Input<'_>]) -> Result<Starts> {
        let held = inputs.iter().map(|input| match input.source {
            Source::Stage(stage) => stage.spans.numbers(span::START),
            Source::Image(image) => Ok(Cow::Owned(image.absolute_starts()?)),
        });
        let mut relative = self.runs.numbers(&held.collect::<Result<Vec<_>>>()?);
        let mut rest = relative.as_mut_slice();
        let mut range: Option<TimeRange> = None;
        for trace in &self.traces {
            let (of_trace, behind) = rest.split_at_mut(trace.rows as usize);
            rest = behind;
            for start in of_trace {
                let at = start_of(*start);
                let held = range.get_or_insert(TimeRange::new(at, at + 1));
                held.start = held.start.min(at);
                held.end = held.end.max(at + 1);
                *start = start.wrapping_sub(trace.start.cast_unsigned());
            }
        }
        let range = range.unwrap_or(TimeRange::new(0, 0));
        Ok(Starts { relative, range })
    }

    /// Writes the parents; gives the rows whose parent is elsewhere, and the ids of those.
    fn parents(
        &self,
        inputs: &[Input<'_>],
        writer: &mut TableWriter<'_>,
    ) -> Result<(Vec<u64>, Vec<u64>)> {
        let mut held = Vec::with_capacity(inputs.len());
        for input in inputs {
            held.push(match input.source {
                // They are all put together.
                Source::Stage(stage) => Cow::Owned(vec![0; stage.rows() as usize]),
                Source::Image(image) => TableSource::numbers(&image.spans, span::PARENT)?,
            });
        }
        let mut parents = self.runs.numbers(&held);
        drop(held);
        let mut row = 0;
        for trace in &self.traces {
            let rows = trace.rows as usize;
            if let From::Arranged { at } = trace.from {
                parents[row..row + rows].copy_from_slice(&self.arranged_parents[at..at + rows]);
            }
            row += rows;
        }
        let mut rows = Vec::new();
        let mut ids = Vec::new();
        let mut row = 0u64;
        let known = inputs.iter().map(|input| match input.source {
            Source::Stage(_) => Ok(Vec::new()),
            Source::Image(image) => image.parents_elsewhere(),
        });
        let known = known.collect::<Result<Vec<_>>>()?;
        let parent_id = |source: u32, row: u32| -> Result<u64> {
            match inputs[source as usize].source {
                Source::Stage(stage) => Ok(stage.parent_ids()[row as usize]),
                Source::Image(image) => {
                    let elsewhere = &known[source as usize];
                    let at = elsewhere.binary_search_by_key(&u64::from(row), |(row, _)| *row);
                    match at {
                        Ok(at) => Ok(elsewhere[at].1),
                        // It was there, and is left out here.
                        Err(_) => image.parent_id(row),
                    }
                }
            }
        };
        for run in self.runs.iter() {
            for at in run.first..run.first + run.len {
                if parents[row as usize] == span::PARENT_ELSEWHERE {
                    rows.push(row);
                    ids.push(parent_id(run.source, at)?);
                }
                row += 1;
            }
        }
        writer.every(Key::Number(span::PARENT), &Values::Numbers(parents))?;
        Ok((rows, ids))
    }

    fn write_traces(
        &self,
        sink: &mut SealedWriter,
        has_more: &dyn Fn(&TraceId) -> bool,
    ) -> Result<()> {
        let traces = || self.traces.iter();
        let column =
            |value: &dyn Fn(&Placed) -> u64| Values::Numbers(traces().map(value).collect());
        let mut writer = TableWriter::new(sink, self.traces.len());
        writer.every(
            Key::Number(trace::ID_HIGH),
            &column(&|trace| halves(&trace.id).0),
        )?;
        writer.every(
            Key::Number(trace::ID_LOW),
            &column(&|trace| halves(&trace.id).1),
        )?;
        writer.every(
            Key::Number(trace::ROWS),
            &column(&|trace| trace.rows.into()),
        )?;
        writer.every(
            Key::Number(trace::START),
            &column(&|trace| trace.start.cast_unsigned()),
        )?;
        let duration = |trace: &Placed| trace.end.abs_diff(trace.start);
        writer.every(Key::Number(trace::DURATION), &column(&duration))?;
        let flags = |trace: &Placed| {
            let more = trace.has_more && has_more(&trace.id);
            u64::from(trace.has_root) * trace::HAS_ROOT + u64::from(more) * trace::HAS_MORE
        };
        writer.every(Key::Number(trace::FLAGS), &column(&flags))?;
        writer.finish(format::TRACES)?;
        let mut by_id: Vec<(TraceId, u64)> = traces().map(|trace| trace.id).zip(0..).collect();
        by_id.sort_unstable();
        let high = by_id.iter().map(|(id, _)| halves(id).0).collect();
        let places = by_id.iter().map(|(_, place)| *place).collect();
        let mut writer = TableWriter::new(sink, by_id.len());
        writer.every(Key::Number(id::HIGH), &Values::Numbers(high))?;
        writer.every(Key::Number(id::TRACE), &Values::Numbers(places))?;
        writer.finish(format::IDS)?;
        let mut ids = FilterWriter::new(self.traces.len());
        traces().for_each(|trace| ids.add(filter::hash(&trace.id)));
        let mut filter = Vec::new();
        ids.finish(&mut filter);
        sink.section(format::ID_FILTER, &filter)
    }
}

/// The two halves of an id as numbers.
pub(crate) fn halves(id: &TraceId) -> (u64, u64) {
    let whole = u128::from_be_bytes(*id);
    ((whole >> 64) as u64, whole as u64)
}

/// When a span began, as ranges have it: a half-open range cannot hold the very last instant.
pub(crate) fn start_of(start_ns: u64) -> i64 {
    i64::try_from(start_ns)
        .unwrap_or(i64::MAX)
        .min(i64::MAX - 1)
}

/// When a span ended; one that ends before it begins took no time.
pub(crate) fn end_of(start_ns: u64, duration: u64) -> i64 {
    let took = i64::try_from(duration).unwrap_or(0);
    start_of(start_ns).saturating_add(took)
}

/// The traces of a source.
enum Held<'a> {
    Stage {
        stage: &'a Stage,
        /// Rows by trace, those of trace `n` from `starts[n]` on.
        rows: Vec<u32>,
        starts: Vec<u32>,
    },
    Image {
        image: &'a Image,
        traces: Vec<Trace>,
    },
}

impl<'a> Held<'a> {
    fn open(input: &Input<'a>) -> Result<Self> {
        match input.source {
            Source::Image(image) => Ok(Self::Image {
                image,
                traces: image.traces()?,
            }),
            Source::Stage(stage) => {
                let of_rows = stage.traces_of_rows();
                let mut starts = vec![0u32; stage.trace_ids.len() + 1];
                for trace in of_rows {
                    starts[*trace as usize + 1] += 1;
                }
                for at in 1..starts.len() {
                    starts[at] += starts[at - 1];
                }
                let mut next = starts.clone();
                let mut rows = vec![0u32; of_rows.len()];
                for (row, trace) in (0u32..).zip(of_rows) {
                    let place = &mut next[*trace as usize];
                    rows[*place as usize] = row;
                    *place += 1;
                }
                Ok(Self::Stage {
                    stage,
                    rows,
                    starts,
                })
            }
        }
    }

    fn ids(&self) -> Box<dyn Iterator<Item = (u32, TraceId)> + '_> {
        match self {
            Self::Stage { stage, .. } => Box::new((0u32..).zip(stage.trace_ids.iter().copied())),
            Self::Image { traces, .. } => {
                Box::new((0u32..).zip(traces.iter().map(|trace| trace.id)))
            }
        }
    }

    /// The trace as it lies in an image, when nothing of it is left out.
    fn whole(&self, input: &Input<'_>, piece: &Piece) -> Option<Placed> {
        let Self::Image { traces, .. } = self else {
            return None;
        };
        let trace = &traces[piece.trace as usize];
        if input.hidden.range_cardinality(trace.rows.clone()) > 0 {
            return None;
        }
        Some(Placed {
            id: trace.id,
            start: trace.start,
            end: trace.end,
            rows: trace.rows.end - trace.rows.start,
            has_root: trace.has_root,
            has_more: trace.has_more || input.is_stranger,
            from: From::Whole {
                source: piece.source,
                first: trace.rows.start,
            },
        })
    }

    fn add(&self, input: &Input<'_>, piece: &Piece, to: &mut Assembly) -> Result<()> {
        to.id = piece.id;
        match self {
            Self::Stage {
                stage,
                rows,
                starts,
            } => {
                let trace = piece.trace as usize;
                to.has_more = true;
                for &row in &rows[starts[trace] as usize..starts[trace + 1] as usize] {
                    to.rows.push((piece.source, row));
                    let (key, end) = stage.span_key(row);
                    to.keys.push(key);
                    to.ends.push(end);
                }
            }
            Self::Image { image, traces } => {
                let trace = &traces[piece.trace as usize];
                to.has_more |= trace.has_more || input.is_stranger;
                let keys = image.span_keys(trace)?;
                for (row, (key, end)) in trace.rows.clone().zip(keys) {
                    if !input.hidden.contains(row) {
                        to.rows.push((piece.source, row));
                        to.keys.push(key);
                        to.ends.push(end);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A trace that is put together.
#[derive(Debug, Default)]
struct Assembly {
    id: TraceId,
    has_more: bool,
    rows: Vec<(u32, u32)>,
    keys: Vec<SpanKey>,
    ends: Vec<i64>,
    arranger: Arranger,
}

impl Assembly {
    fn clear(&mut self) {
        self.has_more = false;
        self.rows.clear();
        self.keys.clear();
        self.ends.clear();
    }

    fn place(&mut self, arranged: &mut Vec<(u32, u32)>, parents: &mut Vec<u64>) -> Option<Placed> {
        self.arranger.arrange(&self.keys);
        let rows = &self.arranger.rows;
        let at = arranged.len();
        let keys = || rows.iter().map(|row| &self.keys[*row as usize]);
        let start = keys().map(|key| key.start).min()?;
        let ends = rows.iter().map(|row| self.ends[*row as usize]);
        arranged.extend(rows.iter().map(|row| self.rows[*row as usize]));
        for ((place, parent), key) in (0u32..).zip(&self.arranger.parents).zip(keys()) {
            parents.push(match *parent {
                NO_ROW if key.parent_id == 0 => span::NO_PARENT,
                NO_ROW => span::PARENT_ELSEWHERE,
                parent => span::PARENT_ELSEWHERE + u64::from(place - parent),
            });
        }
        Some(Placed {
            id: self.id,
            start,
            end: ends.max().unwrap_or(start).max(start),
            rows: rows.len() as u32,
            has_root: keys().next().is_some_and(|key| key.parent_id == 0),
            has_more: self.has_more,
            from: From::Arranged { at },
        })
    }
}
