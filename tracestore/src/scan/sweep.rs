//! Goes over all spans that satisfy a filter, each once, in no order, on one thread or several.
//! `counts`, `comparison` and `values` call it.
//!
//! Of a span that several places hold, the later ones are left out. When the filter asks about whole
//! traces, those that lie in several places are put together and looked at as one.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use trine_storage::read_ahead::ReadAhead;
use trine_storage::shared::join;
use trine_storage::{Result, TimeRange};

use super::condition::{Node, Traces};
use super::evaluate::Page;
use super::fetch;
use super::page_rows::PageRows;
use super::spans::{self, Piece};
use super::view::{Hidden, View};
use crate::block::table::PAGE_ROWS;
use crate::model::TraceId;
use crate::request::{AttributeRef, Filter};
use crate::structure::kind_of;

/// Traces of which pieces lie in several views, with the views and places.
type Scattered = BTreeMap<TraceId, Vec<(usize, usize)>>;

/// Traces that are put together at a time.
const TOGETHER: usize = 256;

/// Pages of a place that are gone over at a time.
const PAGES: usize = 32;

/// A page with rows that satisfy a filter.
pub(crate) struct Found<'a, 'p> {
    pub(crate) view: &'a View,
    pub(crate) page: &'a Page<'p>,
    pub(crate) rows: &'a PageRows,
    /// The other filters of the sweep, ready for the page.
    pub(crate) others: &'a [Node],
}

/// What hears of the pages; whether it wants more.
pub(crate) type Each<'a> = dyn FnMut(&Found<'_, '_>) -> Result<bool> + 'a;

/// All spans that satisfy a filter, ready to be gone over.
pub(crate) struct Sweep<'a> {
    filters: &'a [&'a Filter],
    /// What is read of pages with rows.
    read: Vec<&'a AttributeRef>,
    range: TimeRange,
    views: Vec<Swept<'a>>,
    /// Traces that are put together, some at a time.
    together: Vec<Vec<Vec<Piece>>>,
    /// Numbers of views with pages.
    pages: Vec<(usize, Range<usize>)>,
    /// The piece of work that comes next: pages first, then traces.
    next: AtomicUsize,
    /// Where anything is far away.
    ahead: Option<Mutex<Ahead>>,
}

/// Pieces of pages that were asked for and not gone over.
#[derive(Debug)]
struct Ahead {
    coming: ReadAhead,
    /// The first that was not asked for.
    next: usize,
}

/// A place to be gone over.
struct Swept<'a> {
    view: &'a View,
    nodes: Vec<Node>,
    left_out: RoaringBitmap,
}

impl<'a> Sweep<'a> {
    /// Makes filters ready: spans that satisfy the first are gone over, the others are handed over
    /// with them.
    pub(crate) fn new(
        views: &'a [View],
        filters: &'a [&'a Filter],
        (asks_traces, range): (bool, TimeRange),
    ) -> Result<Self> {
        let mut sweep = Self {
            filters,
            read: Vec::new(),
            range,
            views: Vec::with_capacity(views.len()),
            together: Vec::new(),
            pages: Vec::new(),
            next: AtomicUsize::new(0),
            ahead: ahead(views),
        };
        let chosen = filters.first();
        let traces = match asks_traces {
            true => Traces::Pieces,
            false => Traces::Whole,
        };
        let meets = |view: &&View| view.range.overlaps(&range);
        for view in views {
            view.image.prefetch_more();
            if meets(&view) {
                view.image.prefetch_rows();
            }
        }
        fetch::filters(views.iter().filter(meets), filters);
        let mut may_have = Vec::with_capacity(views.len());
        for view in views {
            let overlaps = meets(&view);
            if overlaps {
                view.read_rows()?;
            }
            let node = chosen.filter(|_| overlaps);
            let node = node
                .map(|filter| Node::of(view, filter, traces))
                .transpose()?;
            may_have.push(node.is_some_and(|node| !matches!(node, Node::No)));
        }
        if !may_have.contains(&true) {
            return Ok(sweep);
        }
        let mut scattered = scattered(views)?;
        let mut left_out = vec![RoaringBitmap::new(); views.len()];
        if asks_traces {
            add_incomplete(views, &mut scattered)?;
            for (number, place) in scattered.values().flatten() {
                if let (Some(view), Some(rows)) = (views.get(*number), left_out.get_mut(*number)) {
                    view.read_rows()?;
                    rows.insert_range(view.rows_of(*place));
                }
            }
            let all: Vec<_> = scattered.into_values().collect();
            let together = all.chunks(TOGETHER);
            sweep.together = together.map(|some| pieces_of(views, some)).collect();
        } else {
            fetch::keys(views, scattered.values().flatten().copied());
            for pieces in scattered.values() {
                leave_out_twice(views, pieces, &mut left_out)?;
            }
        }
        for ((view, may_have), left_out) in views.iter().zip(may_have).zip(left_out) {
            if !may_have {
                continue;
            }
            let nodes = nodes(view, filters)?;
            if matches!(nodes.first(), Some(Node::No)) {
                continue;
            }
            let number = sweep.views.len();
            let starts = (0..view.pages()).step_by(PAGES);
            let pages = starts.map(|first| first..view.pages().min(first + PAGES));
            sweep.pages.extend(pages.map(|pages| (number, pages)));
            sweep.views.push(Swept {
                view,
                nodes,
                left_out,
            });
        }
        Ok(sweep)
    }

    /// Says which attributes whoever hears of pages reads of them: of places that are far away they are
    /// fetched for some pages together.
    pub(crate) fn reading(self, read: Vec<&'a AttributeRef>) -> Self {
        Self { read, ..self }
    }

    /// How many pieces of work there are, of which each is done by one thread.
    pub(crate) fn pieces(&self) -> usize {
        self.pages.len() + self.together.len()
    }

    /// Hands over pages until nothing is left or `each` wants no more. Threads that do so at the same
    /// time share the work.
    pub(crate) fn run(&self, each: &mut Each<'_>) -> Result<()> {
        loop {
            let done = self.piece(self.next.fetch_add(1, Ordering::Relaxed), each);
            if !matches!(done, Ok(true)) {
                // The others need not go on, either.
                self.next.store(self.pieces(), Ordering::Relaxed);
                return done.map(|_| ());
            }
        }
    }

    /// Sees to it that the pages of a piece are asked for, and those of the pieces that come next, of this
    /// place and of others.
    fn read_ahead(&self, number: usize) {
        let Some(ahead) = &self.ahead else { return };
        let mut ahead = ahead.lock();
        let is_due = ahead.coming.is_due();
        while ahead.next <= number || (is_due && !ahead.coming.is_full()) {
            let Some((view, pages)) = self.pages.get(ahead.next) else {
                break;
            };
            if let Some(swept) = self.views.get(*view) {
                let pages = fetch::pages(swept.view, &swept.nodes, pages.clone());
                let bytes = pages.iter().map(|page| u64::from(page.len)).sum();
                // What is needed now is asked for in any case.
                if !ahead.coming.ask(bytes) && ahead.next > number {
                    break;
                }
                swept.view.image.prefetch(&pages);
            }
            ahead.next += 1;
        }
        ahead.coming.used();
    }

    /// Does a piece of work; whether there is more.
    fn piece(&self, number: usize, each: &mut Each<'_>) -> Result<bool> {
        if let Some((view, pages)) = self.pages.get(number) {
            let Some(swept) = self.views.get(*view) else {
                return Ok(true);
            };
            // What a view remembers is of use to one thread only.
            let view = swept.view.again();
            let from = (&view, &*swept.nodes, &swept.left_out);
            self.read_ahead(number);
            return sweep_pages(from, self.range, (pages.clone(), &self.read), each);
        }
        let number = number.saturating_sub(self.pages.len());
        let Some(some) = self.together.get(number) else {
            return Ok(false);
        };
        for piece in some.iter().flatten() {
            piece.image.prefetch_place(piece.place)?;
        }
        let mut found = Vec::new();
        for pieces in some {
            found.extend(spans::union(pieces)?);
        }
        if found.is_empty() {
            return Ok(true);
        }
        let view = spans::view_of(&found)?;
        let nodes = nodes(&view, self.filters)?;
        let from = (&view, &*nodes, &RoaringBitmap::new());
        sweep_pages(from, self.range, (0..view.pages(), &[]), each)
    }
}

/// Hands over pages with the rows that satisfy a filter, until `each` says no.
pub(crate) fn sweep(
    views: &[View],
    filter: &Filter,
    asks: (bool, TimeRange),
    each: &mut Each<'_>,
) -> Result<()> {
    Sweep::new(views, &[filter], asks)?.run(each)
}

/// Does a job here and on so many other threads at the same time.
pub(crate) fn on_threads<A: Send>(more: usize, job: &(dyn Fn() -> A + Sync)) -> Vec<A> {
    if more == 0 {
        return vec![job()];
    }
    let (done, mut others) = join(job, || on_threads(more - 1, job));
    others.push(done);
    others
}

/// How far a sweep is ahead of itself; nothing where all is on this disk.
fn ahead(views: &[View]) -> Option<Mutex<Ahead>> {
    let far = views.iter().filter(|view| view.image.is_remote());
    let bytes_max = far.map(|view| view.image.ahead_bytes_max()).min()?;
    Some(Mutex::new(Ahead {
        coming: ReadAhead::new(bytes_max, true),
        next: 0,
    }))
}

fn nodes(view: &View, filters: &[&Filter]) -> Result<Vec<Node>> {
    let nodes = filters
        .iter()
        .map(|filter| Node::of(view, filter, Traces::Whole));
    nodes.collect()
}

fn pieces_of(views: &[View], traces: &[Vec<(usize, usize)>]) -> Vec<Vec<Piece>> {
    let piece = |(number, place): &(usize, usize)| {
        let view = views.get(*number)?;
        Some(Piece {
            image: Arc::clone(&view.image),
            place: *place,
            hidden: Arc::clone(&view.hidden),
        })
    };
    let pieces = traces
        .iter()
        .map(|pieces| pieces.iter().filter_map(piece).collect());
    pieces.collect()
}

fn sweep_pages(
    (view, nodes, left_out): (&View, &[Node], &RoaringBitmap),
    range: TimeRange,
    (pages, read): (Range<usize>, &[&AttributeRef]),
    each: &mut Each<'_>,
) -> Result<bool> {
    let Some((node, others)) = nodes.split_first() else {
        return Ok(true);
    };
    if matches!(node, Node::No) {
        return Ok(true);
    }
    // What is read of pages that are far away is fetched once it is known which have rows.
    let together = if view.image.is_remote() { PAGES } else { 1 };
    let mut passed = Vec::new();
    for number in pages.clone() {
        let mut seen = view.seen(number, range)?;
        if !left_out.is_empty() {
            let first = u32::try_from(number * PAGE_ROWS).unwrap_or(u32::MAX);
            let end = first.saturating_add(u32::try_from(PAGE_ROWS).unwrap_or(u32::MAX));
            left_out
                .range(first..end)
                .for_each(|row| seen.remove(row - first));
        }
        if !seen.is_empty() {
            let page = Page::of_spans(view, number);
            let rows = page.rows(node, &seen)?;
            if !rows.is_empty() {
                passed.push((page, rows));
            }
        }
        if passed.len() < together && number + 1 < pages.end {
            continue;
        }
        fetch::read(view, passed.iter().map(|(page, _)| page.number()), read);
        for (page, rows) in passed.drain(..) {
            let found = Found {
                view,
                page: &page,
                rows: &rows,
                others,
            };
            if !each(&found)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Traces that lie in several places.
fn scattered(views: &[View]) -> Result<Scattered> {
    let mut ids = BTreeSet::new();
    for view in views {
        ids.extend(view.traces_with_more()?.iter().copied());
    }
    for view in views {
        for id in &ids {
            view.image.prefetch_find(id)?;
        }
    }
    let mut found = Scattered::new();
    for id in ids {
        let mut pieces = Vec::new();
        for (number, view) in views.iter().enumerate() {
            if let Some(place) = view.image.find(&id)? {
                pieces.push((number, place));
            }
        }
        if pieces.len() > 1 {
            found.insert(id, pieces);
        }
    }
    Ok(found)
}

/// Adds traces of which some spans are hidden.
fn add_incomplete(views: &[View], to: &mut Scattered) -> Result<()> {
    for (number, view) in views.iter().enumerate() {
        if !view.hidden.is_empty() {
            view.read_rows()?;
        }
        let mut before = None;
        for row in &*view.hidden {
            let place = view.place_of(row);
            if before.replace(place) != Some(place)
                && view.hidden_of(&view.rows_of(place)) == Hidden::Some
            {
                let pieces = to.entry(view.trace(place)?.id).or_default();
                if !pieces.contains(&(number, place)) {
                    pieces.push((number, place));
                }
            }
        }
    }
    Ok(())
}

/// Leaves spans out that an earlier piece of the trace has, too.
fn leave_out_twice(
    views: &[View],
    pieces: &[(usize, usize)],
    left_out: &mut [RoaringBitmap],
) -> Result<()> {
    let mut known = HashSet::new();
    for (number, place) in pieces {
        let (Some(view), Some(left_out)) = (views.get(*number), left_out.get_mut(*number)) else {
            continue;
        };
        let trace = view.trace(*place)?;
        let keys = view.image.span_keys(&trace)?;
        for (row, (key, _)) in trace.rows.clone().zip(keys) {
            let is_seen = !view.hidden.contains(row);
            if is_seen && !known.insert((key.span_id, kind_of(key.kind))) {
                left_out.insert(row);
            }
        }
    }
    Ok(())
}
