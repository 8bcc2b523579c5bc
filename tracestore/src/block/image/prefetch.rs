//! What is read together of a block that is far away: a trace by its id takes two rounds behind the
//! tables' directories, and what every search looks at first takes one. Of a block that is on this disk
//! nothing is fetched.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use trine_storage::Result;
use trine_storage::sealed::PageRef;

use super::Image;
use crate::block::build::halves;
use crate::block::format::{id, span, trace};
use crate::block::numbers::ordered;
use crate::block::table::{Key, TableReader};
use crate::block::values::Type;
use crate::model::TraceId;

/// Tables that spans share rows of are fetched as a whole when they have as many pages at most.
const SHARED_PAGES_MAX: usize = 2;

impl Image {
    /// Whether reads may have to wait for another machine.
    pub(crate) fn is_remote(&self) -> bool {
        self.file.is_remote()
    }

    /// How many bytes a reader may ask for ahead of itself.
    pub(crate) fn ahead_bytes_max(&self) -> u64 {
        self.file.ahead_bytes_max()
    }

    /// Begins to fetch pages.
    pub(crate) fn prefetch(&self, pages: &[PageRef]) {
        if !pages.is_empty() {
            self.file.prefetch(pages);
        }
    }

    /// Begins to fetch what tells where a trace is, and which rows and children traces have.
    pub(crate) fn prefetch_find(&self, wanted: &TraceId) -> Result<()> {
        if !self.is_remote() || !self.may_have(wanted) {
            return Ok(());
        }
        let mut pages = Vec::new();
        let (high, _) = halves(wanted);
        let told = ordered(Type::Int, high);
        let column = self.ids.known(&Key::Number(id::HIGH))?;
        for page in 0..self.ids.pages() {
            let number = u32::try_from(page).unwrap_or(u32::MAX);
            if column.values.may_have(number, told, told) {
                let rows = self.ids.rows_of(page);
                self.ids.pages_of_numbers(id::HIGH, &rows, &mut pages);
                self.ids.pages_of_numbers(id::TRACE, &rows, &mut pages);
            }
        }
        if self.first_rows.get().is_none() {
            pages_of_all(&self.traces, trace::ROWS, &mut pages);
        }
        for (number, children) in self.children() {
            if children.rows() > 0 {
                pages_of_all(&self.spans, number, &mut pages);
            }
        }
        self.prefetch(&pages);
        Ok(())
    }

    /// Begins to fetch everything that the spans of a trace are made of, when what
    /// [`Image::prefetch_find`] has begun to fetch is there.
    ///
    /// # Errors
    /// Those of reading it.
    pub(crate) fn prefetch_trace(&self, wanted: &TraceId) -> Result<()> {
        if !self.is_remote() {
            return Ok(());
        }
        let mut places = Vec::new();
        self.each_like(wanted, &mut |place| {
            places.push(place);
            Ok(true)
        })?;
        places
            .into_iter()
            .try_for_each(|place| self.prefetch_place(place))
    }

    /// Begins to fetch everything that the spans of the trace at a place are made of.
    ///
    /// # Errors
    /// Those of reading which rows it has.
    pub(crate) fn prefetch_place(&self, place: usize) -> Result<()> {
        if !self.is_remote() {
            return Ok(());
        }
        let mut pages = Vec::new();
        let first_rows = self.first_rows()?;
        self.traces.pages_with(&(place..place + 1), &mut pages);
        let ends = first_rows.get(place).zip(first_rows.get(place + 1));
        let (first, end) = ends.unwrap_or((&0, &0));
        let rows = *first as usize..*end as usize;
        self.spans.pages_with(&rows, &mut pages);
        for (number, children) in self.children() {
            let rows = self.children_of(number, &rows)?;
            children.pages_with(&rows, &mut pages);
        }
        for shared in [&self.resources, &self.scopes] {
            if shared.pages() <= SHARED_PAGES_MAX {
                shared.pages_with(&(0..shared.rows()), &mut pages);
            }
        }
        self.prefetch(&pages);
        Ok(())
    }

    /// Appends the pages that tell of the traces at some places.
    pub(crate) fn pages_of_traces(&self, places: Range<usize>, out: &mut Vec<PageRef>) {
        self.traces.pages_with(&places, out);
    }

    /// Begins to fetch which rows traces have.
    pub(crate) fn prefetch_rows(&self) {
        if self.is_remote() && self.first_rows.get().is_none() {
            let mut pages = Vec::new();
            pages_of_all(&self.traces, trace::ROWS, &mut pages);
            self.prefetch(&pages);
        }
    }

    /// Begins to fetch which traces lie in other places, too.
    pub(crate) fn prefetch_more(&self) {
        if self.is_remote() && self.with_more.get().is_none() {
            let mut pages = Vec::new();
            for page in self.pages_with_more() {
                self.traces
                    .pages_with(&self.traces.rows_of(page), &mut pages);
            }
            self.prefetch(&pages);
        }
    }

    /// For each page of the table of traces a time by which all traces of it and of those before it had
    /// ended, as far as that is told without reading.
    pub(super) fn ends_told(&self) -> Result<Vec<i64>> {
        let started = &self.traces.known(&Key::Number(trace::START))?.values;
        let took = &self.traces.known(&Key::Number(trace::DURATION))?.values;
        let mut last = i64::MIN;
        let mut ends = Vec::with_capacity(self.traces.pages());
        for page in 0..u32::try_from(self.traces.pages()).unwrap_or(u32::MAX) {
            let times = started.bounds(page).zip(took.bounds(page));
            let end = times
                .filter(|(_, (least, _))| *least >= 0)
                .map_or(i64::MAX, |((_, start), (_, took))| {
                    start.saturating_add(took)
                });
            last = last.max(end);
            ends.push(last);
        }
        Ok(ends)
    }

    /// Events and links, each with the column that counts those of spans.
    fn children(&self) -> [(u8, &TableReader); 2] {
        [(span::EVENTS, &self.events), (span::LINKS, &self.links)]
    }

    /// The events, or links, of some spans.
    fn children_of(&self, number: u8, rows: &Range<usize>) -> Result<Range<usize>> {
        let counts = self.spans.numbers_in(number, rows.clone())?;
        let all = counts
            .iter()
            .fold(0, |all, count| count.saturating_add(all));
        if all == 0 {
            return Ok(0..0);
        }
        let first = self.children_before(number, rows.start)?;
        let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(small(first)..small(first.saturating_add(all)))
    }
}

fn pages_of_all(table: &TableReader, number: u8, out: &mut Vec<PageRef>) {
    table.pages_of_numbers(number, &(0..table.rows()), out);
}
