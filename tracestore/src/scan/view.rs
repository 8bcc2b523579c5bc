//! A block or run as one answer reads it: its image, the rows that deletes and retention leave, and
//! the page of its traces that was looked at last. All of `scan` reads through it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use trine_storage::{Result, TimeRange};

use super::condition::duration_of;
use super::page_rows::PageRows;
use crate::block::build::start_of;
use crate::block::format::span;
use crate::block::image::{Image, Trace};
use crate::block::table::{PAGE_ROWS, by_page};
use crate::model::TraceId;

/// What an answer reads.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) image: Arc<Image>,
    /// Rows that nobody sees any more.
    pub(crate) hidden: Arc<RoaringBitmap>,
    /// Of the starts of the spans.
    pub(crate) range: TimeRange,
    /// Whether it does not say which of its traces others have.
    is_stranger: bool,
    /// First rows of the traces, once they were read.
    first_rows: OnceLock<Arc<[u32]>>,
    traces: Mutex<TracesPage>,
}

/// A page of the table of traces, the one that was asked last.
#[derive(Debug, Default)]
struct TracesPage {
    number: usize,
    /// How many of its traces were asked for.
    asked: usize,
    traces: Option<Arc<Vec<Trace>>>,
}

/// A page of which more traces are asked is decoded as a whole.
const SINGLE_TRACES: usize = 16;

impl View {
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io); so
    /// for everything in `scan`.
    pub(crate) fn new(
        image: Arc<Image>,
        hidden: Arc<RoaringBitmap>,
        range: TimeRange,
    ) -> Result<Self> {
        let view = Self::unread(image, hidden, range);
        view.read_rows()?;
        Ok(view)
    }

    /// One that is not asked for rows before [`View::read_rows`].
    pub(crate) fn unread(image: Arc<Image>, hidden: Arc<RoaringBitmap>, range: TimeRange) -> Self {
        Self {
            image,
            hidden,
            range,
            is_stranger: false,
            first_rows: OnceLock::new(),
            traces: Mutex::default(),
        }
    }

    /// Reads which rows traces have.
    pub(crate) fn read_rows(&self) -> Result<()> {
        if self.first_rows.get().is_none() {
            let rows = self.image.first_rows()?;
            self.first_rows.get_or_init(|| rows);
        }
        Ok(())
    }

    fn first_rows(&self) -> &[u32] {
        self.first_rows.get().map_or(&[], |rows| rows)
    }

    /// As one that was written when other places were not known.
    pub(crate) fn stranger(self) -> Self {
        Self {
            is_stranger: true,
            ..self
        }
    }

    /// Ids of the traces of which other places may have spans although they do not say so.
    pub(crate) fn traces_with_more(&self) -> Result<Arc<[TraceId]>> {
        if !self.is_stranger {
            return self.image.traces_with_more();
        }
        let traces = self.image.traces()?;
        Ok(traces.into_iter().map(|trace| trace.id).collect())
    }

    /// The same for another pass over it.
    pub(crate) fn again(&self) -> Self {
        Self {
            image: Arc::clone(&self.image),
            hidden: Arc::clone(&self.hidden),
            range: self.range,
            is_stranger: self.is_stranger,
            first_rows: self.first_rows.clone(),
            traces: Mutex::default(),
        }
    }

    /// How many pages of spans there are.
    pub(crate) fn pages(&self) -> usize {
        self.image.spans.pages()
    }

    /// How many traces there are.
    pub(crate) fn trace_count(&self) -> usize {
        self.image.trace_count()
    }

    /// The trace at a place of the table of traces.
    pub(crate) fn trace(&self, place: usize) -> Result<Trace> {
        let traces = self.traces_page(place / PAGE_ROWS, SINGLE_TRACES)?;
        match traces
            .as_ref()
            .and_then(|traces| traces.get(place % PAGE_ROWS))
        {
            Some(trace) => Ok(trace.clone()),
            None => self.image.trace(place),
        }
    }

    /// When the first span of the trace at a place began.
    pub(crate) fn trace_start(&self, place: usize) -> Result<i64> {
        self.image.trace_start(place)
    }

    /// The id of the trace at a place. Whoever asks asks for many.
    pub(crate) fn id_of(&self, place: usize) -> Result<TraceId> {
        let traces = self.traces_page(place / PAGE_ROWS, 0)?;
        match traces
            .as_ref()
            .and_then(|traces| traces.get(place % PAGE_ROWS))
        {
            Some(trace) => Ok(trace.id),
            None => Ok(self.image.trace(place)?.id),
        }
    }

    /// The traces of a page, once more than so many were asked for.
    fn traces_page(&self, number: usize, single: usize) -> Result<Option<Arc<Vec<Trace>>>> {
        let mut last = self.traces.lock();
        if last.number != number {
            *last = TracesPage {
                number,
                ..TracesPage::default()
            };
        }
        last.asked += 1;
        if last.traces.is_none() && last.asked > single {
            let mut traces = Vec::new();
            self.image.traces_of(number, &mut traces)?;
            last.traces = Some(Arc::new(traces));
        }
        Ok(last.traces.clone())
    }

    /// The rows of the trace at a place.
    pub(crate) fn rows_of(&self, place: usize) -> Range<u32> {
        let at = |place: usize| self.first_rows().get(place).copied();
        let end = at(self.trace_count()).unwrap_or(0);
        at(place).unwrap_or(end)..at(place + 1).unwrap_or(end)
    }

    /// The place of the trace that a row is of.
    pub(crate) fn place_of(&self, row: u32) -> usize {
        Image::trace_of(self.first_rows(), row)
    }

    /// The place of the first trace that begins on a page or behind it.
    pub(crate) fn first_place(&self, page: usize) -> usize {
        let first = page.saturating_mul(PAGE_ROWS);
        self.first_rows()
            .partition_point(|row| (*row as usize) < first)
    }

    /// The places of the traces that have rows in a page.
    pub(crate) fn places_of(&self, page: usize) -> Range<usize> {
        let rows = self.image.spans.rows_of(page);
        if rows.is_empty() {
            return 0..0;
        }
        let place = |row: usize| self.place_of(u32::try_from(row).unwrap_or(u32::MAX));
        place(rows.start)..place(rows.end - 1) + 1
    }

    /// When the spans of a page began at the earliest, and a time by which all of them had begun.
    pub(crate) fn extent(&self, page: usize) -> Result<(i64, i64)> {
        let places = self.places_of(page);
        let first = self.trace_start(places.start)?;
        let mut last = first;
        for (number, positions) in by_page(places.start, places.len()) {
            let traces = self.traces_page(number, 0)?;
            let of_page = traces
                .as_ref()
                .and_then(|traces| traces.get(positions.start as usize..positions.end as usize));
            let missing = || self.image.spans.corrupt("a trace is missing");
            let ends = of_page.ok_or_else(missing)?.iter().map(|trace| trace.end);
            last = ends.fold(last, i64::max);
        }
        Ok((first, last))
    }

    /// When the last span of the trace at a place ended. Whoever asks asks for many.
    fn end_of(&self, place: usize) -> Result<i64> {
        let traces = self.traces_page(place / PAGE_ROWS, 0)?;
        let trace = traces
            .as_ref()
            .and_then(|traces| traces.get(place % PAGE_ROWS));
        match trace {
            Some(trace) => Ok(trace.end),
            None => Ok(self.image.trace(place)?.end),
        }
    }

    /// The rows of a page that are seen and begin in `range`.
    pub(crate) fn seen(&self, page: usize, range: TimeRange) -> Result<PageRows> {
        let rows = self.image.spans.rows_of(page);
        let mut seen = self.not_hidden(page);
        if self.is_within(range) {
            return Ok(seen);
        }
        let places = self.places_of(page);
        // Traces lie by start, and no span begins before its trace.
        if !range.overlaps(&self.range) || self.trace(places.start)?.start >= range.end {
            return Ok(PageRows::none());
        }
        let mut is_over = true;
        for place in places {
            is_over &= self.trace(place)?.end < range.start;
        }
        if is_over {
            return Ok(PageRows::none());
        }
        let mut starts = Vec::with_capacity(rows.len());
        self.image.starts(page, &mut starts)?;
        for (row, start) in (0u32..).zip(starts) {
            if !range.contains(start_of(start)) {
                seen.remove(row);
            }
        }
        Ok(seen)
    }

    /// The place of the first trace that begins at a time or later.
    pub(crate) fn first_place_from(&self, time: i64) -> Result<usize> {
        if self.range.end <= time {
            return Ok(self.trace_count());
        }
        if time <= self.range.start {
            return Ok(0);
        }
        let (mut from, mut to) = (0, self.trace_count());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.trace_start(middle)? < time {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        Ok(from)
    }

    /// A place before which all traces ended before a time.
    pub(crate) fn first_place_into(&self, time: i64) -> Result<usize> {
        if time <= self.range.start {
            return Ok(0);
        }
        let ends = self.image.ends()?;
        let pages = ends.partition_point(|end| *end < time);
        Ok(pages.saturating_mul(PAGE_ROWS))
    }

    /// Whether no trace that meets `range` begins here.
    pub(crate) fn is_aside(&self, range: TimeRange) -> Result<bool> {
        Ok(self.first_place_from(range.end)? <= self.first_place_into(range.start)?)
    }

    /// Whether spans of the trace at a place may meet `range`: begin before its end, and end at its
    /// start or later.
    pub(crate) fn may_meet(&self, place: usize, range: TimeRange) -> Result<bool> {
        if self.is_within(range) {
            return Ok(true);
        }
        Ok(self.trace_start(place)? < range.end && self.end_of(place)? >= range.start)
    }

    /// Whether a span of the trace at a place, of which none is hidden, meets `range`.
    pub(crate) fn meets(&self, place: usize, range: TimeRange) -> Result<bool> {
        if self.is_within(range) {
            return Ok(true);
        }
        let (start, end) = (self.trace_start(place)?, self.end_of(place)?);
        if start >= range.end || end < range.start {
            return Ok(false);
        }
        // Its first span begins when it does, and its last ends when it does.
        if start >= range.start || end < range.end {
            return Ok(true);
        }
        let rows = self.rows_of(place);
        let rows = rows.start as usize..rows.end as usize;
        let starts = self.image.spans.numbers_in(span::START, rows.clone())?;
        let durations = self.image.spans.numbers_in(span::DURATION, rows)?;
        let meets = |(began, took): (u64, u64)| {
            let began = start_of(start.cast_unsigned().wrapping_add(began));
            began < range.end && began.saturating_add_unsigned(duration_of(took)) >= range.start
        };
        Ok(starts.into_iter().zip(durations).any(meets))
    }

    /// Whether all spans begin in `range`.
    pub(crate) fn is_within(&self, range: TimeRange) -> bool {
        range.start <= self.range.start && self.range.end <= range.end
    }

    /// The rows of a page that are seen.
    pub(crate) fn not_hidden(&self, page: usize) -> PageRows {
        let rows = self.image.spans.rows_of(page);
        let mut seen = PageRows::first(rows.len());
        if !self.hidden.is_empty() {
            let first = u32::try_from(rows.start).unwrap_or(u32::MAX);
            let end = u32::try_from(rows.end).unwrap_or(u32::MAX);
            for row in self.hidden.range(first..end) {
                seen.remove(row - first);
            }
        }
        seen
    }

    /// Whether all rows of a trace, some or none are hidden.
    pub(crate) fn hidden_of(&self, rows: &Range<u32>) -> Hidden {
        if self.hidden.is_empty() {
            return Hidden::None;
        }
        match self.hidden.range_cardinality(rows.clone()) {
            0 => Hidden::None,
            count if count == u64::from(rows.end - rows.start) => Hidden::All,
            _ => Hidden::Some,
        }
    }
}

/// How many rows of a trace are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    None,
    Some,
    All,
}
