//! Whole traces that satisfy a filter, the newest first. `Snapshot::scan` calls it.
//!
//! Places are read from their newest traces back, each only as far as the answer was asked for. A
//! trace that lies in several places, or of which some spans are hidden, is put together in memory as
//! soon as one of its pieces has a span for some part of the filter, and then asked as one. (When a
//! span came twice with different starts, the trace may be given where the other one would have it.)

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::sync::Arc;

use trine_storage::read_ahead::READ_AHEAD_BYTES_MAX;
use trine_storage::{Error, Result};

use super::batch::{self, Chosen};
use super::codes::Named;
use super::condition::Traces;
use super::fetch;
use super::spans::{self, Piece};
use super::traces::{Cursor, Plan};
use super::view::{Hidden, View};
use crate::model::TraceId;
use crate::request::{AttributeRef, Batch, Batches, Filter, Rows, Scope};

/// Spans of the first batch, and the most of one: whoever wants a few traces waits for few.
const FIRST_BATCH_ROWS: usize = 512;
const BATCH_ROWS: usize = 4096;
/// Pages that are looked at for a batch: whoever asks can stop in between, and gets what was found.
const STEPS: usize = 32;
/// Traces that are put together at a time.
const TOGETHER: usize = 16;
/// Pages of spans that are fetched together of places that are far away, at first and at most; fewer
/// once they have [`READ_AHEAD_BYTES_MAX`].
const AHEAD_FIRST: usize = 4;
const AHEAD_MAX: usize = 64;

/// The traces of an answer.
#[derive(Debug)]
struct Answer {
    plan: Plan,
    attributes: Vec<Named>,
    cursors: Vec<Cursor>,
    /// Traces that may lie in several places.
    scattered: HashSet<TraceId>,
    /// Whether every trace is come upon by a span for some part of the filter.
    by_hits: bool,
    /// Those of them that were looked at.
    done: HashSet<TraceId>,
    /// Those of them that have to be put together, which is done when the answer comes to them.
    waiting: BinaryHeap<Waiting>,
    /// The latest bound of the cursors, and whose it is; not known after a step.
    latest: Option<Option<(i64, usize)>>,
    /// What was found and is not given yet.
    found: BinaryHeap<Found>,
    batch_rows: usize,
    /// How many traces are probably wanted.
    enough: usize,
    /// What was looked at for this batch.
    steps: usize,
    /// How many pages that are far away are fetched next time.
    ahead: usize,
    failed: bool,
}

/// What comes next in an answer.
#[derive(Debug)]
enum Next {
    Trace(Chosen),
    /// Nothing yet.
    Pause,
    End,
}

/// A trace by its place in the answer: the greatest comes first.
#[derive(Debug)]
struct Found {
    key: (i64, Reverse<TraceId>),
    chosen: Chosen,
}

/// A trace that lies in pieces; it begins at `key.0` at the latest.
#[derive(Debug)]
struct Waiting {
    key: (i64, Reverse<TraceId>),
    pieces: Vec<Piece>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Whole traces of some places, older places first.
pub(crate) fn rows(views: Vec<View>, request: &Rows) -> Result<Batches> {
    let plan = Plan::of(&request.filter, request.range);
    let filters: Vec<&Filter> = plan.filters.iter().collect();
    let mut open = Vec::with_capacity(views.len());
    for view in &views {
        view.image.prefetch_more();
        if !view.is_aside(plan.range)? {
            view.image.prefetch_rows();
            open.push(view);
        }
    }
    fetch::filters(open.into_iter(), &filters);
    let mut cursors = Vec::with_capacity(views.len());
    for view in views {
        cursors.push(Cursor::new(Arc::new(view), &plan)?);
    }
    let possible: Vec<Vec<bool>> = cursors.iter().map(|c| c.possible(&plan)).collect();
    let somewhere = |filter: usize| {
        possible
            .iter()
            .any(|possible| possible.get(filter).copied().unwrap_or(false))
    };
    if !plan.tree.may_hold(&somewhere) {
        return Ok(Box::new(std::iter::empty()));
    }
    let mut scattered = HashSet::new();
    for cursor in &cursors {
        scattered.extend(cursor.view.traces_with_more()?.iter().copied());
    }
    // What a trace needs may be held by spans that nobody comes by, as they lie out of the range.
    let is_all = cursors.iter().all(|c| c.view.is_within(plan.range));
    let by_hits = scattered.is_empty() || is_all;
    // A place alone may not have what the filter needs; its pieces may still be asked for.
    for (cursor, possible) in cursors.iter_mut().zip(&possible) {
        let here = |filter: usize| possible.get(filter).copied().unwrap_or(false);
        let alone = scattered.is_empty() && cursor.view.hidden.is_empty();
        if by_hits && !possible.contains(&true) || (alone && !plan.tree.may_hold(&here)) {
            cursor.stop();
        }
    }
    // The newest place probably comes first.
    cursors.iter().for_each(Cursor::fetch_bound);
    if let Some(newest) = cursors.iter_mut().max_by_key(|c| c.view.range.end) {
        newest.fetch(AHEAD_FIRST / 2);
    }
    Ok(Box::new(Answer {
        plan,
        attributes: named(&request.projection),
        cursors,
        scattered,
        by_hits,
        done: HashSet::new(),
        waiting: BinaryHeap::new(),
        latest: None,
        found: BinaryHeap::new(),
        batch_rows: FIRST_BATCH_ROWS,
        enough: request.enough.max(1),
        steps: 0,
        ahead: AHEAD_FIRST,
        failed: false,
    }))
}

/// The columns that attributes are read from; without a scope those of the span and the resource.
fn named(projection: &[AttributeRef]) -> Vec<Named> {
    let mut found = BTreeSet::new();
    for attribute in projection {
        if let AttributeRef::Attribute { scope, key } = attribute {
            let scopes = match scope {
                Some(scope) => vec![*scope],
                None => vec![Scope::Span, Scope::Resource],
            };
            for scope in scopes {
                let key = key.clone();
                found.insert(Named { scope, key });
            }
        }
    }
    found.into_iter().collect()
}

impl Iterator for Answer {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.batch();
        self.failed = batch.is_err();
        batch.transpose()
    }
}

impl Answer {
    fn batch(&mut self) -> Result<Option<Batch>> {
        let mut chosen = Vec::new();
        let mut rows = 0;
        let mut is_over = false;
        self.steps = 0;
        // When what seemed enough was not, as many come again.
        while rows < self.batch_rows && chosen.len() < self.enough {
            match self.next_trace()? {
                Next::Trace(next) => {
                    rows += next.trace.rows.len();
                    chosen.push(next);
                }
                Next::Pause => break,
                Next::End => {
                    is_over = true;
                    break;
                }
            }
        }
        self.batch_rows = (self.batch_rows * 2).min(BATCH_ROWS);
        if chosen.is_empty() && is_over {
            return Ok(None);
        }
        Ok(Some(Batch::Spans(batch::batch(&chosen, &self.attributes)?)))
    }

    fn next_trace(&mut self) -> Result<Next> {
        loop {
            let latest = self.latest()?;
            let waiting = self.waiting.peek().map(|waiting| waiting.key.0);
            let bound = latest.map(|(bound, _)| bound).max(waiting);
            if self
                .found
                .peek()
                .is_some_and(|found| Some(found.key.0) > bound)
            {
                let found = self.found.pop();
                return Ok(found.map_or(Next::End, |found| Next::Trace(found.chosen)));
            }
            if self.steps >= STEPS {
                return Ok(Next::Pause);
            }
            self.steps += 1;
            match latest {
                _ if waiting.is_some() && waiting == bound => self.put_together()?,
                Some((_, at)) => self.step(at)?,
                None => return Ok(Next::End),
            }
        }
    }

    fn latest(&mut self) -> Result<Option<(i64, usize)>> {
        if let Some(latest) = self.latest {
            return Ok(latest);
        }
        let mut latest = None;
        for (at, cursor) in self.cursors.iter().enumerate() {
            if let Some(bound) = cursor.bound()? {
                latest = latest.max(Some((bound, at)));
            }
        }
        self.latest = Some(latest);
        Ok(latest)
    }

    /// Puts the latest of the traces that wait together and asks them as one.
    fn put_together(&mut self) -> Result<()> {
        let mut together = Vec::with_capacity(TOGETHER);
        together.extend(std::iter::from_fn(|| self.waiting.pop()).take(TOGETHER));
        let pieces = together.iter().flat_map(|waiting| &waiting.pieces);
        for piece in pieces {
            piece.image.prefetch_place(piece.place)?;
        }
        let mut found = Vec::new();
        for waiting in together {
            found.extend(spans::union(&waiting.pieces)?);
        }
        if found.is_empty() {
            return Ok(());
        }
        let view = Arc::new(spans::view_of(&found)?);
        let mut cursor = Cursor::new(Arc::clone(&view), &self.plan)?;
        while cursor.bound()?.is_some() {
            let step = cursor.step(&self.plan, &|_, _| Ok(false))?;
            for place in step.whole {
                self.add(&view, place)?;
            }
        }
        Ok(())
    }

    /// Sees to it that the pages are asked for that the place `at` looks at next, and in the same round
    /// those that other places look at after it: half as many of each as of the one before it.
    fn fetch(&mut self, at: usize) -> Result<()> {
        if !self.cursors.get(at).is_some_and(Cursor::is_due) {
            return Ok(());
        }
        let mut others = Vec::new();
        for (number, cursor) in self.cursors.iter().enumerate() {
            if let Some(bound) = cursor.bound()?
                && number != at
            {
                others.push((bound, number));
            }
        }
        others.sort_unstable_by(|a, b| b.cmp(a));
        let (mut pages, mut bytes) = (self.ahead, READ_AHEAD_BYTES_MAX);
        for number in std::iter::once(at).chain(others.into_iter().map(|(_, number)| number)) {
            let count = pages.div_ceil(2);
            let Some(cursor) = self.cursors.get_mut(number).filter(|_| count > 0) else {
                break;
            };
            pages -= count;
            match bytes.checked_sub(cursor.fetch(count)) {
                Some(left) => bytes = left,
                None => break,
            }
        }
        self.ahead = (2 * self.ahead).min(AHEAD_MAX);
        Ok(())
    }

    fn step(&mut self, at: usize) -> Result<()> {
        self.fetch(at)?;
        let scattered = &self.scattered;
        let is_scattered = |view: &View, place: usize| {
            Ok(!scattered.is_empty() && scattered.contains(&view.id_of(place)?))
        };
        let Some(cursor) = self.cursors.get_mut(at) else {
            return Ok(());
        };
        let step = cursor.step(&self.plan, &is_scattered)?;
        let view = Arc::clone(&cursor.view);
        for place in step.whole {
            self.add(&view, place)?;
        }
        self.latest = None;
        for (place, has) in step.pieces {
            if self.by_hits && !has.contains(&true) {
                continue;
            }
            let id = view.trace(place)?.id;
            if self.done.insert(id) {
                self.pieces(&id, (at, has))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, view: &Arc<View>, place: usize) -> Result<()> {
        let trace = view.trace(place)?;
        self.found.push(Found {
            key: (trace.start, Reverse(trace.id)),
            chosen: Chosen {
                view: Arc::clone(view),
                trace,
            },
        });
        Ok(())
    }

    /// Lets a trace wait when its pieces may satisfy the filter together. Of the place `at` it is
    /// known what its piece has.
    fn pieces(&mut self, id: &TraceId, (at, mut has): (usize, Vec<bool>)) -> Result<()> {
        let mut pieces = Vec::new();
        let (mut start, mut end) = (i64::MAX, i64::MIN);
        let mut is_whole = true;
        for cursor in &self.cursors {
            cursor.view.image.prefetch_find(id)?;
        }
        for (number, cursor) in self.cursors.iter_mut().enumerate() {
            let Some(place) = cursor.view.image.find(id)? else {
                continue;
            };
            cursor.view.read_rows()?;
            let rows = cursor.view.rows_of(place);
            match cursor.view.hidden_of(&rows) {
                Hidden::All => continue,
                Hidden::Some => is_whole = false,
                Hidden::None => {}
            }
            if number != at {
                for (filter, has) in has.iter_mut().enumerate() {
                    *has =
                        *has || cursor.any_of(&self.plan, filter, Traces::Pieces, rows.clone())?;
                }
            }
            let trace = cursor.view.trace(place)?;
            start = start.min(trace.start);
            end = end.max(trace.end);
            pieces.push(Piece {
                image: Arc::clone(&cursor.view.image),
                place,
                hidden: Arc::clone(&cursor.view.hidden),
            });
        }
        let has = |filter: usize| has.get(filter).copied().unwrap_or(false);
        if self.plan.tree.may_hold(&has) {
            // Without its first spans it begins later, but not after its end.
            let key = (if is_whole { start } else { end }, Reverse(*id));
            self.waiting.push(Waiting { key, pieces });
        }
        Ok(())
    }
}
