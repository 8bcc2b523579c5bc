//! Which traces of one place satisfy a filter, from the newest back, a page of spans at a time.
//! `rows` puts the places together.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use trine_storage::{Result, TimeRange};

use super::condition::{Node, Traces};
use super::evaluate::Page;
use super::page_rows::PageRows;
use super::view::{Hidden, View};
use crate::block::table::{PAGE_ROWS, by_page};
use crate::request::{AttributeRef, Filter, Intrinsic, TraceFilter};

/// A filter of traces: what stands in it about single spans, by number, and how that is combined.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) range: TimeRange,
    pub(crate) filters: Vec<Filter>,
    pub(crate) tree: Tree,
    /// Whether a filter asks about whole traces, so that pieces of one do not tell.
    pub(crate) asks_traces: bool,
}

/// How filters are combined.
#[derive(Debug)]
pub(crate) enum Tree {
    /// Some span satisfies the filter of this number.
    Has(usize),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

impl Plan {
    pub(crate) fn of(filter: &TraceFilter, range: TimeRange) -> Self {
        let mut filters = Vec::new();
        let tree = Tree::of(filter, &mut filters);
        let asks_traces = filters.iter().any(asks_traces);
        Self {
            range,
            filters,
            tree,
            asks_traces,
        }
    }

    /// Makes the filters ready for a place.
    pub(crate) fn nodes(&self, view: &View, traces: Traces) -> Result<Vec<Node>> {
        let nodes = self
            .filters
            .iter()
            .map(|filter| Node::of(view, filter, traces));
        nodes.collect()
    }
}

fn asks_traces(filter: &Filter) -> bool {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().any(asks_traces),
        Filter::Is(condition) => matches!(
            condition.attribute,
            AttributeRef::Intrinsic(
                Intrinsic::TraceDuration
                    | Intrinsic::RootName
                    | Intrinsic::RootServiceName
                    | Intrinsic::ChildCount
            )
        ),
    }
}

impl Tree {
    fn of(filter: &TraceFilter, filters: &mut Vec<Filter>) -> Self {
        let mut all = |of: &[TraceFilter]| of.iter().map(|f| Self::of(f, filters)).collect();
        match filter {
            TraceFilter::And(of) if !of.is_empty() => Self::And(all(of)),
            TraceFilter::Or(of) => Self::Or(all(of)),
            TraceFilter::Has(filter) => {
                filters.push(filter.clone());
                Self::Has(filters.len() - 1)
            }
            TraceFilter::All | TraceFilter::And(_) => {
                filters.push(Filter::And(Vec::new()));
                Self::Has(filters.len() - 1)
            }
        }
    }

    /// Whether a trace satisfies it that has spans for these filters.
    pub(crate) fn holds(&self, has: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Self::Has(number) => has(*number),
            Self::And(of) => of.iter().all(|tree| tree.holds(has)),
            Self::Or(of) => of.iter().any(|tree| tree.holds(has)),
        }
    }
}

/// Goes through the traces of a place, from the newest back.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) view: Arc<View>,
    nodes: Vec<Node>,
    /// Of traces of which it has only pieces, when these differ.
    pieces: Option<Vec<Node>>,
    /// Traces before this place are still to come.
    next: usize,
    /// Bits of pages, by filter; the second half are those of pieces.
    bits: HashMap<(usize, usize), PageRows>,
    /// Of traces some rows of which are hidden, the end of the last by place, and of all before it.
    latest: Vec<(usize, i64)>,
}

/// What a cursor found on its way.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Places of traces that satisfy the filter.
    pub(crate) whole: Vec<usize>,
    /// Places of traces that have to be put together, with spans for these filters.
    pub(crate) pieces: Vec<(usize, Vec<bool>)>,
}

impl Cursor {
    pub(crate) fn new(view: Arc<View>, plan: &Plan) -> Result<Self> {
        let nodes = plan.nodes(&view, Traces::Whole)?;
        let pieces = match plan.asks_traces {
            true => Some(plan.nodes(&view, Traces::Pieces)?),
            false => None,
        };
        let mut latest = Vec::new();
        let mut end = i64::MIN;
        let mut before = None;
        for row in &*view.hidden {
            let place = view.place_of(row);
            if before == Some(place) {
                continue;
            }
            before = Some(place);
            if view.hidden_of(&view.rows_of(place)) == Hidden::Some {
                end = end.max(view.trace(place)?.end);
                latest.push((place, end));
            }
        }
        let next = match view.range.overlaps(&plan.range) {
            true => view.trace_count(),
            false => 0,
        };
        Ok(Self {
            view,
            nodes,
            pieces,
            next,
            bits: HashMap::new(),
            latest,
        })
    }

    /// Which filters some span of the place may satisfy.
    pub(crate) fn possible(&self) -> Vec<bool> {
        let nodes = self.pieces.as_ref().unwrap_or(&self.nodes);
        nodes.iter().map(|node| !matches!(node, Node::No)).collect()
    }

    /// Goes no further.
    pub(crate) fn stop(&mut self) {
        self.next = 0;
    }

    /// No trace that is still to come begins later than this, as its spans are seen.
    pub(crate) fn bound(&self) -> Result<Option<i64>> {
        let Some(last) = self.next.checked_sub(1) else {
            return Ok(None);
        };
        let start = self.view.trace(last)?.start;
        let at = self.latest.partition_point(|(place, _)| *place < self.next);
        let hidden = at.checked_sub(1).and_then(|at| self.latest.get(at));
        Ok(Some(hidden.map_or(start, |(_, end)| start.max(*end))))
    }

    /// Looks at the traces that begin on the last page that is still to come.
    pub(crate) fn step(
        &mut self,
        plan: &Plan,
        is_piece: &dyn Fn(&View, usize) -> Result<bool>,
    ) -> Result<Step> {
        let mut step = Step::default();
        let Some(last) = self.next.checked_sub(1) else {
            return Ok(step);
        };
        let view = Arc::clone(&self.view);
        let page = view.rows_of(last).start as usize / PAGE_ROWS;
        let first = view.first_place(page).min(last);
        let places = first..self.next;
        self.next = first;
        // Bits of pages that only later traces have rows of are not needed any more.
        let end = view.rows_of(last).end as usize;
        self.bits.retain(|(_, held), _| *held <= end / PAGE_ROWS);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        for place in places {
            match is_piece(&view, place)? {
                true => pieces.push(place),
                false if view.hidden_of(&view.rows_of(place)) == Hidden::All => {}
                false => whole.push(place),
            }
        }
        step.whole = self.satisfying(plan, &plan.tree, whole)?;
        for place in pieces {
            let mut has = Vec::with_capacity(plan.filters.len());
            for filter in 0..plan.filters.len() {
                has.push(self.has(plan, filter, Traces::Pieces, place)?);
            }
            step.pieces.push((place, has));
        }
        Ok(step)
    }

    fn satisfying(&mut self, plan: &Plan, tree: &Tree, places: Vec<usize>) -> Result<Vec<usize>> {
        if places.is_empty() {
            return Ok(places);
        }
        match tree {
            Tree::Has(filter) => {
                let mut found = Vec::new();
                for place in places {
                    if self.has(plan, *filter, Traces::Whole, place)? {
                        found.push(place);
                    }
                }
                Ok(found)
            }
            Tree::And(of) => {
                let mut order: Vec<&Tree> = of.iter().collect();
                order.sort_by_key(|tree| self.cost(tree));
                let mut left = places;
                for tree in order {
                    left = self.satisfying(plan, tree, left)?;
                }
                Ok(left)
            }
            Tree::Or(of) => {
                let mut left = places;
                let mut found = Vec::new();
                for tree in of {
                    let held = self.satisfying(plan, tree, left.clone())?;
                    left.retain(|place| held.binary_search(place).is_err());
                    found.extend(held);
                }
                found.sort_unstable();
                Ok(found)
            }
        }
    }

    fn cost(&self, tree: &Tree) -> u64 {
        match tree {
            Tree::Has(filter) => self
                .nodes
                .get(*filter)
                .map_or(0, |node| node.estimate(&self.view)),
            Tree::And(of) => of.iter().map(|tree| self.cost(tree)).min().unwrap_or(0),
            Tree::Or(of) => of.iter().map(|tree| self.cost(tree)).sum(),
        }
    }

    /// Whether a span of the trace at a place satisfies a filter.
    fn has(&mut self, plan: &Plan, filter: usize, traces: Traces, place: usize) -> Result<bool> {
        let rows = self.view.rows_of(place);
        self.any_of(plan, filter, traces, rows)
    }

    /// Whether one of some rows satisfies a filter.
    pub(crate) fn any_of(
        &mut self,
        plan: &Plan,
        filter: usize,
        traces: Traces,
        rows: Range<u32>,
    ) -> Result<bool> {
        let (nodes, slot) = match (&self.pieces, traces) {
            (Some(pieces), Traces::Pieces) => (pieces, filter + plan.filters.len()),
            _ => (&self.nodes, filter),
        };
        let Some(node) = nodes.get(filter).filter(|node| !matches!(node, Node::No)) else {
            return Ok(false);
        };
        for (page, positions) in by_page(rows.start as usize, rows.len()) {
            let bits = match self.bits.entry((slot, page)) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(free) => {
                    let seen = self.view.seen(page, plan.range)?;
                    free.insert(match seen.is_empty() {
                        true => seen,
                        false => Page::of_spans(&self.view, page).rows(node, &seen)?,
                    })
                }
            };
            if bits.any_in(positions.start, positions.end) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
