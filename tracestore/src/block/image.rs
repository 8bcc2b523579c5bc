//! A block that is read, on disk or in memory: its tables, its traces, its spans as they came.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod prefetch;

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use trine_storage::block_set::BlockReader;
use trine_storage::catalog::BlockMeta;
use trine_storage::fs::MemoryFile;
use trine_storage::sealed::{SealedFile, SealedWriter};
use trine_storage::{Error, Result};

use super::build::{self, Built, Input, end_of, halves, start_of};
use super::filter;
use super::format::{self, id, span, trace};
use super::gather::TableSource;
use super::numbers::ordered;
use super::shapes::RowShapes;
use super::sizes;
use super::table::{Column, Key, Located, PAGE_ROWS, TableReader};
use super::values::{Type, Values};
use crate::model::TraceId;
use crate::structure::SpanKey;
use crate::tombstone::Veil;

/// A block.
#[derive(Debug)]
pub(crate) struct Image {
    file: SealedFile,
    pub(crate) spans: TableReader,
    pub(crate) events: TableReader,
    pub(crate) links: TableReader,
    pub(crate) resources: TableReader,
    pub(crate) scopes: TableReader,
    pub(super) traces: TableReader,
    pub(super) ids: TableReader,
    /// What may tell that a trace is not here.
    id_filter: Bytes,
    /// First rows of the traces, and the number of all rows.
    first_rows: OnceLock<Arc<[u32]>>,
    /// How many events, and how many links, the spans before each page have.
    events_before: OnceLock<Arc<[u64]>>,
    links_before: OnceLock<Arc<[u64]>>,
    with_more: OnceLock<Arc<[TraceId]>>,
    /// When the last of the traces ended of each page of the table of traces and those before it.
    ends: OnceLock<Arc<[i64]>>,
}

/// A trace of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) id: TraceId,
    pub(crate) rows: Range<u32>,
    /// When the first of its spans here began.
    pub(crate) start: i64,
    /// When the last ended.
    pub(crate) end: i64,
    /// Whether the first row is a root.
    pub(crate) has_root: bool,
    /// Whether other places had spans of it when the block was written.
    pub(crate) has_more: bool,
}

/// A block file as the engine keeps it open: its tables are opened at the first read.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: SealedFile,
    /// What may tell that a trace is not here; asked more often than the rest.
    id_filter: OnceLock<Bytes>,
    image: OnceLock<Arc<Image>>,
    pub(crate) veil: Veil,
}

impl BlockReader for BlockFile {
    const KIND: [u8; 4] = format::KIND;

    const FIRST_SECTIONS: &'static [u32] = &format::FIRST;

    fn open(file: SealedFile, _meta: &BlockMeta) -> Result<Self> {
        Ok(Self {
            file,
            id_filter: OnceLock::new(),
            image: OnceLock::new(),
            veil: Veil::default(),
        })
    }
}

impl BlockFile {
    /// The tables of the block.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub(crate) fn image(&self) -> Result<Arc<Image>> {
        if let Some(image) = self.image.get() {
            return Ok(Arc::clone(image));
        }
        self.file.prefetch_sections(&format::FIRST)?;
        let image = Arc::new(Image::open_with(&self.file, self.id_filter()?)?);
        Ok(Arc::clone(self.image.get_or_init(|| image)))
    }

    /// The filter of the ids of the traces, without the tables.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub(crate) fn id_filter(&self) -> Result<Bytes> {
        if let Some(filter) = self.id_filter.get() {
            return Ok(filter.clone());
        }
        let filter = self.file.section(format::ID_FILTER)?;
        Ok(self.id_filter.get_or_init(|| filter).clone())
    }

    /// Whether a trace may have spans here. Reads the filter of the ids at most.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub(crate) fn may_have(&self, wanted: &TraceId) -> Result<bool> {
        let filter = self.id_filter()?;
        Ok(filter::may_contain(&filter, filter::hash(wanted)))
    }

    /// Whether the tables are known without asking another machine.
    pub(crate) fn is_open(&self) -> bool {
        self.image.get().is_some() || !self.file.is_remote()
    }

    /// Whether the filter is known without asking another machine.
    pub(crate) fn knows_ids(&self) -> bool {
        self.id_filter.get().is_some() || !self.file.is_remote()
    }

    /// Whether reads may have to wait for another machine.
    pub(crate) fn is_remote(&self) -> bool {
        self.file.is_remote()
    }

    /// Bytes of the block by what they are.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub(crate) fn sizes(&self) -> Result<Vec<(&'static str, u64)>> {
        sizes::of(&self.file, &*self.image()?)
    }
}

/// Makes a block in memory of what is taken of `inputs`, older ones first.
///
/// # Errors
/// Those of reading the inputs.
pub(crate) fn in_memory(
    inputs: &[Input<'_>],
    has_more: &dyn Fn(&TraceId) -> bool,
) -> Result<(Image, Built, u64)> {
    const NAME: &str = "spans in memory";
    let file = MemoryFile::default();
    let mut sink = SealedWriter::new(file.writer(), Path::new(NAME), format::KIND)?;
    let built = build::write(inputs, &mut sink, has_more)?;
    let bytes = sink.finish()?;
    let file = SealedFile::open(file.finish(), NAME, format::KIND)?;
    Ok((Image::open(&file)?, built, bytes))
}

impl Image {
    /// Reads the directories of the tables.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io).
    pub(crate) fn open(file: &SealedFile) -> Result<Self> {
        Self::open_with(file, file.section(format::ID_FILTER)?)
    }

    fn open_with(file: &SealedFile, id_filter: Bytes) -> Result<Self> {
        let table = |section| TableReader::open(file, section);
        let image = Self {
            file: file.clone(),
            spans: table(format::SPANS)?,
            events: table(format::EVENTS)?,
            links: table(format::LINKS)?,
            resources: table(format::RESOURCES)?,
            scopes: table(format::SCOPES)?,
            traces: table(format::TRACES)?,
            ids: table(format::IDS)?,
            id_filter,
            first_rows: OnceLock::new(),
            events_before: OnceLock::new(),
            links_before: OnceLock::new(),
            with_more: OnceLock::new(),
            ends: OnceLock::new(),
        };
        if image.ids.rows() != image.traces.rows() {
            return Err(image.corrupt("the index of traces is not of all traces"));
        }
        Ok(image)
    }

    fn corrupt(&self, what: &str) -> Error {
        self.spans.corrupt(what)
    }

    /// How many traces there are.
    pub(crate) fn trace_count(&self) -> usize {
        self.traces.rows()
    }

    /// First rows of the traces, and the number of all rows.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io); so
    /// for all methods below.
    pub(crate) fn first_rows(&self) -> Result<Arc<[u32]>> {
        if let Some(rows) = self.first_rows.get() {
            return Ok(Arc::clone(rows));
        }
        let counts = self.traces.all_numbers(trace::ROWS)?;
        let mut next = 0u64;
        let mut rows = Vec::with_capacity(counts.len() + 1);
        rows.push(0);
        for count in counts {
            next = next.saturating_add(count);
            rows.push(u32::try_from(next).unwrap_or(u32::MAX));
        }
        if next != self.spans.rows() as u64 || !rows.is_sorted_by(|a, b| a < b) {
            return Err(self.corrupt("traces have not the rows that there are"));
        }
        Ok(Arc::clone(self.first_rows.get_or_init(|| rows.into())))
    }

    /// How many events (or links, by the column that counts them) the spans before a row have.
    pub(crate) fn children_before(&self, number: u8, row: usize) -> Result<u64> {
        let known = match number {
            span::LINKS => &self.links_before,
            _ => &self.events_before,
        };
        let before = match known.get() {
            Some(before) => Arc::clone(before),
            None => {
                let mut counts = Vec::new();
                let mut next = 0u64;
                let mut before = Vec::with_capacity(self.spans.pages());
                for page in 0..self.spans.pages() {
                    before.push(next);
                    counts.clear();
                    self.spans.numbers(number, page, &mut counts)?;
                    next = counts
                        .iter()
                        .fold(next, |sum, count| sum.saturating_add(*count));
                }
                Arc::clone(known.get_or_init(|| before.into()))
            }
        };
        let page = row / PAGE_ROWS;
        let of_page = self.spans.numbers_in(number, page * PAGE_ROWS..row)?;
        let first = before.get(page).copied().unwrap_or(0);
        Ok(of_page
            .iter()
            .fold(first, |sum, count| sum.saturating_add(*count)))
    }

    /// The trace that a row is of.
    pub(crate) fn trace_of(first_rows: &[u32], row: u32) -> usize {
        first_rows
            .partition_point(|first| *first <= row)
            .saturating_sub(1)
    }

    /// All traces, by start and id.
    pub(crate) fn traces(&self) -> Result<Vec<Trace>> {
        let mut all = Vec::with_capacity(self.traces.rows());
        for page in 0..self.traces.pages() {
            self.traces_of(page, &mut all)?;
        }
        Ok(all)
    }

    /// Appends the traces of a page of the table of traces.
    pub(crate) fn traces_of(&self, page: usize, out: &mut Vec<Trace>) -> Result<()> {
        let first_rows = self.first_rows()?;
        let column = |number| {
            let mut values = Vec::new();
            self.traces
                .numbers(number, page, &mut values)
                .map(|()| values)
        };
        let ids = column(trace::ID_HIGH)?
            .into_iter()
            .zip(column(trace::ID_LOW)?);
        let times = column(trace::START)?
            .into_iter()
            .zip(column(trace::DURATION)?);
        let flags = column(trace::FLAGS)?;
        let first = self.traces.rows_of(page).start;
        let rows = first_rows.get(first..).unwrap_or_default();
        let ends = rows.iter().skip(1);
        for ((((id, time), flags), start), end) in ids.zip(times).zip(flags).zip(rows).zip(ends) {
            out.push(Trace {
                id: whole_id(id),
                rows: *start..*end,
                start: time.0.cast_signed(),
                end: time.0.cast_signed().saturating_add_unsigned(time.1),
                has_root: flags & trace::HAS_ROOT != 0,
                has_more: flags & trace::HAS_MORE != 0,
            });
        }
        Ok(())
    }

    /// For each page of the table of traces, when the last trace of it and of those before it ended; of
    /// a block that is far away a later time perhaps.
    pub(crate) fn ends(&self) -> Result<Arc<[i64]>> {
        if let Some(ends) = self.ends.get() {
            return Ok(Arc::clone(ends));
        }
        if self.is_remote() {
            let ends = self.ends_told()?;
            return Ok(Arc::clone(self.ends.get_or_init(|| ends.into())));
        }
        let mut last = i64::MIN;
        let mut ends = Vec::with_capacity(self.traces.pages());
        let mut traces = Vec::new();
        for page in 0..self.traces.pages() {
            traces.clear();
            self.traces_of(page, &mut traces)?;
            last = traces.iter().map(|trace| trace.end).fold(last, i64::max);
            ends.push(last);
        }
        Ok(Arc::clone(self.ends.get_or_init(|| ends.into())))
    }

    /// When the first span of the trace at a place of the table of traces began.
    pub(crate) fn trace_start(&self, place: usize) -> Result<i64> {
        Ok(self.traces.number_at(trace::START, place)?.cast_signed())
    }

    /// The trace at a place of the table of traces.
    pub(crate) fn trace(&self, place: usize) -> Result<Trace> {
        let first_rows = self.first_rows()?;
        let number = |number| self.traces.number_at(number, place);
        let rows = first_rows.get(place).zip(first_rows.get(place + 1));
        let (start, end) = rows.ok_or_else(|| self.corrupt("a trace is not there"))?;
        let began = number(trace::START)?.cast_signed();
        let flags = number(trace::FLAGS)?;
        Ok(Trace {
            id: whole_id((number(trace::ID_HIGH)?, number(trace::ID_LOW)?)),
            rows: *start..*end,
            start: began,
            end: began.saturating_add_unsigned(number(trace::DURATION)?),
            has_root: flags & trace::HAS_ROOT != 0,
            has_more: flags & trace::HAS_MORE != 0,
        })
    }

    /// Whether a trace may have spans here; mostly told without reading.
    pub(crate) fn may_have(&self, wanted: &TraceId) -> bool {
        filter::may_contain(&self.id_filter, filter::hash(wanted))
    }

    /// The place of a trace, if it has spans here.
    pub(crate) fn find(&self, wanted: &TraceId) -> Result<Option<usize>> {
        let (high, low) = halves(wanted);
        let mut found = None;
        self.each_like(wanted, &mut |place| {
            let is_wanted = self.traces.number_at(trace::ID_LOW, place)? == low
                && self.traces.number_at(trace::ID_HIGH, place)? == high;
            found = is_wanted.then_some(place);
            Ok(!is_wanted)
        })?;
        Ok(found)
    }

    /// Hands over the places of the traces whose ids begin like this one, until `take` says no.
    fn each_like(
        &self,
        wanted: &TraceId,
        take: &mut dyn FnMut(usize) -> Result<bool>,
    ) -> Result<()> {
        if !self.may_have(wanted) {
            return Ok(());
        }
        let (high, _) = halves(wanted);
        let column = self.ids.known(&Key::Number(id::HIGH))?;
        let told = ordered(Type::Int, high);
        for page in 0..self.ids.pages() {
            let number = u32::try_from(page).unwrap_or(u32::MAX);
            if !column.values.may_have(number, told, told) {
                continue;
            }
            let rows = self.ids.rows_of(page);
            let mut first = rows.clone();
            while !first.is_empty() {
                let middle = first.start + (first.end - first.start) / 2;
                if self.ids.number_in(column, middle)? < high {
                    first.start = middle + 1;
                } else {
                    first.end = middle;
                }
            }
            // Ids with equal first halves are neighbours.
            for at in first.start..rows.end {
                if self.ids.number_in(column, at)? != high {
                    break;
                }
                let place = self.ids.number_at(id::TRACE, at)?;
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                if !take(place)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Pages of the table of traces that may have some of which other places had spans.
    fn pages_with_more(&self) -> impl Iterator<Item = usize> {
        let column = self.traces.column(&Key::Number(trace::FLAGS));
        let flagged = (ordered(Type::Int, trace::HAS_MORE), u64::MAX);
        (0..self.traces.pages()).filter(move |page| {
            let page = u32::try_from(*page).unwrap_or(u32::MAX);
            let may_have = |held: &Column| held.values.may_have(page, flagged.0, flagged.1);
            // What is not there is told by who reads it.
            column
                .as_ref()
                .is_ok_and(|column| column.is_none_or(may_have))
        })
    }

    /// Ids of the traces of which other places had spans when the block was written.
    pub(crate) fn traces_with_more(&self) -> Result<Arc<[TraceId]>> {
        if let Some(known) = self.with_more.get() {
            return Ok(Arc::clone(known));
        }
        let mut found = Vec::new();
        let mut flags = Vec::new();
        for page in self.pages_with_more() {
            flags.clear();
            self.traces.numbers(trace::FLAGS, page, &mut flags)?;
            for (place, flags) in self.traces.rows_of(page).zip(&flags) {
                if flags & trace::HAS_MORE != 0 {
                    found.push(self.trace(place)?.id);
                }
            }
        }
        Ok(Arc::clone(self.with_more.get_or_init(|| found.into())))
    }

    /// Appends when the spans of a page began, as nanoseconds since 1970.
    pub(crate) fn starts(&self, page: usize, out: &mut Vec<u64>) -> Result<()> {
        let at = out.len();
        self.spans.numbers(span::START, page, out)?;
        let first_rows = self.first_rows()?;
        let rows = self.spans.rows_of(page);
        let first = u32::try_from(rows.start).unwrap_or(u32::MAX);
        let mut place = Self::trace_of(&first_rows, first);
        let mut end = 0;
        let mut began = 0;
        let starts = out.get_mut(at..).unwrap_or_default();
        for (row, start) in (first..).zip(starts) {
            if row >= end {
                while first_rows.get(place + 1).is_some_and(|next| *next <= row) {
                    place += 1;
                }
                began = self.traces.number_at(trace::START, place)?;
                end = first_rows.get(place + 1).copied().unwrap_or(u32::MAX);
            }
            *start = start.wrapping_add(began);
        }
        Ok(())
    }

    /// When all spans began.
    pub(crate) fn absolute_starts(&self) -> Result<Vec<u64>> {
        let mut all = Vec::with_capacity(self.spans.rows());
        for page in 0..self.spans.pages() {
            self.starts(page, &mut all)?;
        }
        Ok(all)
    }

    /// Rows whose parents are elsewhere, and the ids of those.
    pub(crate) fn parents_elsewhere(&self) -> Result<Vec<(u64, u64)>> {
        let Some(column) = self.spans.column(&Key::Number(span::PARENT_ID))? else {
            return Ok(Vec::new());
        };
        let rows = self.spans.told_rows(column)?.unwrap_or_default();
        let Values::Numbers(ids) = column.values.read_all()? else {
            return Err(self.corrupt("ids of parents are no numbers"));
        };
        Ok(rows.into_iter().zip(ids).collect())
    }

    /// The id of the parent of a row; 0 when there is none.
    pub(crate) fn parent_id(&self, row: u32) -> Result<u64> {
        let at = usize::try_from(row).unwrap_or(usize::MAX);
        let told = self.spans.number_at(span::PARENT, at)?;
        match told {
            span::NO_PARENT => Ok(0),
            span::PARENT_ELSEWHERE => Elsewhere::of(self, at / PAGE_ROWS)?.id(self, at),
            before => {
                let before = usize::try_from(before - span::PARENT_ELSEWHERE).ok();
                let parent = before.and_then(|before| at.checked_sub(before));
                let parent = parent.ok_or_else(|| self.corrupt("a parent lies before all rows"))?;
                self.spans.number_at(span::ID, parent)
            }
        }
    }

    /// What the structure of a trace depends on, and when its spans ended, row by row.
    pub(crate) fn span_keys(&self, trace: &Trace) -> Result<Vec<(SpanKey, i64)>> {
        let rows = trace.rows.start as usize..trace.rows.end as usize;
        let column = |number| self.spans.numbers_in(number, rows.clone());
        let ids = column(span::ID)?;
        let starts = column(span::START)?;
        let durations = column(span::DURATION)?;
        let kinds = column(span::KIND)?;
        let parents = column(span::PARENT)?;
        let mut keys = Vec::with_capacity(ids.len());
        let times = starts.into_iter().zip(durations);
        let rest = times.zip(kinds).zip(&parents);
        let mut elsewhere: Option<Elsewhere> = None;
        for ((at, id), (((start, duration), kind), parent)) in ids.iter().enumerate().zip(rest) {
            let parent_id = match *parent {
                span::NO_PARENT => 0,
                span::PARENT_ELSEWHERE => {
                    let row = rows.start + at;
                    let page = row / PAGE_ROWS;
                    let of_page = match elsewhere.take().filter(|held| held.page == page) {
                        Some(held) => held,
                        None => Elsewhere::of(self, page)?,
                    };
                    elsewhere.insert(of_page).id(self, row)?
                }
                before => {
                    let before = usize::try_from(before - span::PARENT_ELSEWHERE).ok();
                    let parent = before.and_then(|before| ids.get(at.checked_sub(before)?));
                    *parent.ok_or_else(|| self.corrupt("a parent lies in another trace"))?
                }
            };
            let start = start.wrapping_add(trace.start.cast_unsigned());
            let key = SpanKey {
                span_id: *id,
                parent_id,
                start: start_of(start),
                kind: unzigzag(kind),
            };
            keys.push((key, end_of(start, duration)));
        }
        Ok(keys)
    }

    /// Bytes of the largest column when it is unpacked: so much of a block is in memory at a time
    /// when it is merged.
    pub(crate) fn largest_column_bytes(&self) -> u64 {
        let tables = [
            &self.spans,
            &self.events,
            &self.links,
            &self.resources,
            &self.scopes,
        ];
        let columns = tables.into_iter().flat_map(TableReader::columns);
        columns
            .map(TableReader::unpacked_bytes_of)
            .max()
            .unwrap_or(0)
    }

    /// Reads everything once: values, structure, index. Gives the number of spans.
    pub(crate) fn check(&self) -> Result<u64> {
        let tables = [
            &self.spans,
            &self.events,
            &self.links,
            &self.resources,
            &self.scopes,
            &self.traces,
            &self.ids,
        ];
        for table in tables {
            for column in table.columns() {
                column.values.read_all()?;
            }
            table.row_shapes()?;
            table.check_pooled()?;
        }
        for trace in self.traces()? {
            if self.span_keys(&trace)?.is_empty() || self.find(&trace.id)?.is_none() {
                return Err(self.corrupt("a trace is not in the index"));
            }
        }
        Ok(self.spans.rows() as u64)
    }
}

/// Ids of the parents that are elsewhere, of the rows of a page.
struct Elsewhere {
    page: usize,
    rows: Vec<u32>,
    ids: Vec<u64>,
}

impl Elsewhere {
    fn of(image: &Image, page: usize) -> Result<Self> {
        let column = image.spans.known(&Key::Number(span::PARENT_ID))?;
        let Located::Rows(rows, first) = image.spans.locate(column, page, None)? else {
            return Err(image.corrupt("ids of parents do not tell their rows"));
        };
        let ids = image.spans.numbers_of(column, first..first + rows.len())?;
        Ok(Self { page, rows, ids })
    }

    /// That of a row of the page.
    fn id(&self, image: &Image, row: usize) -> Result<u64> {
        let in_page = u32::try_from(row % PAGE_ROWS).unwrap_or(u32::MAX);
        let place = self.rows.binary_search(&in_page).ok();
        let id = place.and_then(|place| self.ids.get(place).copied());
        id.ok_or_else(|| image.corrupt("the id of a parent is missing"))
    }
}

/// An id of its two halves.
fn whole_id((high, low): (u64, u64)) -> TraceId {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// The signed number that a column has as an unsigned one.
pub(crate) fn unzigzag(told: u64) -> i32 {
    let number = (told >> 1).cast_signed() ^ -(told & 1).cast_signed();
    i32::try_from(number).unwrap_or(0)
}

impl TableSource for TableReader {
    fn rows(&self) -> usize {
        self.rows()
    }

    fn numbers(&self, number: u8) -> Result<Cow<'_, [u64]>> {
        self.all_numbers(number).map(Cow::Owned)
    }

    fn texts(&self, key: &Key) -> Result<Cow<'_, Values>> {
        let column = self.known(key)?;
        column.values.read_all().map(Cow::Owned)
    }

    fn attributes(&self) -> Vec<(Arc<str>, Type)> {
        let named = self.attributes();
        named.map(|held| (held.name.into(), held.kind)).collect()
    }

    fn shapes(&self) -> Result<Cow<'_, RowShapes>> {
        self.row_shapes().map(Cow::Owned)
    }

    fn attributes_len(&self) -> usize {
        self.attribute_count()
    }

    fn rows_of(&self, attribute: usize) -> Result<Option<Vec<u32>>> {
        self.rows_by_page(attribute)
    }

    fn in_pool(&self, attribute: usize) -> Option<(Type, usize)> {
        self.in_pool(attribute)
    }

    fn pool_page(&self, kind: Type, page: usize) -> Result<Values> {
        self.pool_page(kind, page)
    }

    fn values(&self, attribute: usize) -> Result<Cow<'_, Values>> {
        let column = self.attribute_at(attribute)?;
        let column = column.ok_or_else(|| self.corrupt("an attribute is not there"))?;
        column.values.read_all().map(Cow::Owned)
    }
}
