//! Which traces of one place satisfy a filter, from the newest back, a page of spans at a time.
//! `rows` puts the places together.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use trine_storage::{Result, TimeRange};

use super::condition::{Node, Traces};
use super::evaluate::Page;
use super::fetch;
use super::page_rows::PageRows;
use super::related;
use super::view::{Hidden, View};
use crate::block::table::{PAGE_ROWS, by_page};
use crate::request::{AttributeRef, Filter, Intrinsic, Relation, TraceFilter};

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
    /// So many spans do, from the least to the most.
    Count(usize, RangeInclusive<u64>),
    /// Two spans that satisfy these are related.
    Related(Relation, usize, usize),
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

/// Whether a filter asks about whole traces.
pub(crate) fn asks_traces(filter: &Filter) -> bool {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().any(asks_traces),
        Filter::Not(filter) => asks_traces(filter),
        Filter::Is(condition) => asks_trace(&condition.attribute),
    }
}

/// Whether an attribute depends on all spans of a trace.
pub(crate) fn asks_trace(attribute: &AttributeRef) -> bool {
    matches!(
        attribute,
        AttributeRef::Intrinsic(
            Intrinsic::TraceDuration
                | Intrinsic::RootName
                | Intrinsic::RootServiceName
                | Intrinsic::ChildCount
        )
    )
}

impl Tree {
    fn of(filter: &TraceFilter, filters: &mut Vec<Filter>) -> Self {
        fn number(filter: &Filter, filters: &mut Vec<Filter>) -> usize {
            filters.push(filter.clone());
            filters.len() - 1
        }
        match filter {
            TraceFilter::And(of) if !of.is_empty() => {
                Self::And(of.iter().map(|f| Self::of(f, filters)).collect())
            }
            TraceFilter::Or(of) => Self::Or(of.iter().map(|f| Self::of(f, filters)).collect()),
            TraceFilter::Has(filter) => Self::Has(number(filter, filters)),
            TraceFilter::Count {
                filter,
                least,
                most,
            } => Self::Count(number(filter, filters), (*least).max(1)..=*most),
            TraceFilter::Related {
                relation,
                above,
                below,
            } => Self::Related(*relation, number(above, filters), number(below, filters)),
            TraceFilter::All | TraceFilter::And(_) => {
                Self::Has(number(&Filter::And(Vec::new()), filters))
            }
        }
    }

    /// Whether a trace may satisfy it that has spans for these filters.
    pub(crate) fn may_hold(&self, has: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Self::Has(number) | Self::Count(number, _) => has(*number),
            Self::Related(_, above, below) => has(*above) && has(*below),
            Self::And(of) => of.iter().all(|tree| tree.may_hold(has)),
            Self::Or(of) => of.iter().any(|tree| tree.may_hold(has)),
        }
    }
}

/// Goes through the traces of a place, from the newest back.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) view: Arc<View>,
    /// Where no trace is to be gone through they are made when somebody asks for pieces of others.
    nodes: Option<Nodes>,
    /// Traces before this place are still to come.
    next: usize,
    /// Those before this one ended too early.
    first: usize,
    /// Pages before this one were not asked for yet where they are far away.
    fetched: usize,
    /// Bits of pages, by filter; the second half are those of pieces.
    bits: HashMap<(usize, usize), PageRows>,
    /// Of traces some rows of which are hidden, the end of the last by place, and of all before it.
    latest: Vec<(usize, i64)>,
}

/// The filters of a plan, ready for a place.
#[derive(Debug)]
struct Nodes {
    whole: Vec<Node>,
    /// Of traces of which it has only pieces, when these differ.
    pieces: Option<Vec<Node>>,
}

impl Nodes {
    fn of(view: &View, plan: &Plan) -> Result<Self> {
        Ok(Self {
            whole: plan.nodes(view, Traces::Whole)?,
            pieces: match plan.asks_traces {
                true => Some(plan.nodes(view, Traces::Pieces)?),
                false => None,
            },
        })
    }
}

/// What a cursor found on its way.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Places of traces that satisfy the filter.
    pub(crate) whole: Vec<usize>,
    /// Places of traces that have to be put together, with what filters their pieces have spans for.
    pub(crate) pieces: Vec<(usize, Vec<bool>)>,
}

impl Cursor {
    pub(crate) fn new(view: Arc<View>, plan: &Plan) -> Result<Self> {
        let next = view.first_place_from(plan.range.end)?;
        let first = view.first_place_into(plan.range.start)?;
        let is_open = next > first;
        if is_open || !view.hidden.is_empty() {
            view.read_rows()?;
        }
        let nodes = match is_open {
            true => Some(Nodes::of(&view, plan)?),
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
        Ok(Self {
            view,
            nodes,
            next,
            first,
            fetched: usize::MAX,
            bits: HashMap::new(),
            latest,
        })
    }

    /// Which filters of a plan some span of the place may satisfy.
    pub(crate) fn possible(&self, plan: &Plan) -> Vec<bool> {
        let Some(Nodes { whole, pieces }) = &self.nodes else {
            return vec![true; plan.filters.len()];
        };
        let nodes = pieces.as_ref().unwrap_or(whole).iter();
        nodes.map(|node| !matches!(node, Node::No)).collect()
    }

    /// Whether there are traces to go through.
    pub(crate) fn is_open(&self) -> bool {
        self.next > self.first
    }

    /// Goes no further.
    pub(crate) fn stop(&mut self) {
        self.next = 0;
    }

    /// No trace that is still to come begins later than this, as its spans are seen.
    pub(crate) fn bound(&self) -> Result<Option<i64>> {
        let Some(last) = self.next.checked_sub(1).filter(|_| self.is_open()) else {
            return Ok(None);
        };
        let start = self.view.trace_start(last)?;
        let at = self.latest.partition_point(|(place, _)| *place < self.next);
        let hidden = at.checked_sub(1).and_then(|at| self.latest.get(at));
        Ok(Some(hidden.map_or(start, |(_, end)| start.max(*end))))
    }

    /// Looks at the traces that begin on the last page that is still to come. `is_scattered` tells which
    /// may have spans in other places.
    pub(crate) fn step(
        &mut self,
        plan: &Plan,
        is_scattered: &dyn Fn(&View, usize) -> Result<bool>,
    ) -> Result<Step> {
        let mut step = Step::default();
        let Some(last) = self.next.checked_sub(1).filter(|_| self.is_open()) else {
            return Ok(step);
        };
        let view = Arc::clone(&self.view);
        let page = view.rows_of(last).start as usize / PAGE_ROWS;
        let first = view.first_place(page).min(last).max(self.first);
        let places = first..self.next;
        self.next = first;
        // Bits of pages that only later traces have rows of are not needed any more.
        let end = view.rows_of(last).end as usize;
        self.bits.retain(|(_, held), _| *held <= end / PAGE_ROWS);
        let (mut whole, mut pieces) = (Vec::with_capacity(places.len()), Vec::new());
        for place in places {
            if !view.may_meet(place, plan.range)? {
                continue;
            }
            match view.hidden_of(&view.rows_of(place)) {
                Hidden::All => {}
                Hidden::Some => pieces.push(place),
                Hidden::None if is_scattered(&view, place)? => pieces.push(place),
                Hidden::None => whole.push(place),
            }
        }
        for place in self.satisfying(plan, &plan.tree, whole)? {
            if view.meets(place, plan.range)? {
                step.whole.push(place);
            }
        }
        for place in pieces {
            let mut has = Vec::with_capacity(plan.filters.len());
            for filter in 0..plan.filters.len() {
                has.push(self.has(plan, filter, Traces::Pieces, place)?);
            }
            step.pieces.push((place, has));
        }
        Ok(step)
    }

    /// Whether pages are to be looked at next that were not asked for, although they are far away.
    pub(crate) fn is_due(&self) -> bool {
        let page = self.next_pages().map(|pages| pages.start);
        page.is_some_and(|page| page < self.fetched)
    }

    /// Asks for so many of the pages that are looked at next, as far as that was not done; gives how many
    /// bytes they have.
    pub(crate) fn fetch(&mut self, count: usize) -> u64 {
        let (Some(pages), Some(nodes)) = (self.next_pages(), &self.nodes) else {
            return 0;
        };
        let lowest = self.view.rows_of(self.first).start as usize / PAGE_ROWS;
        let first = (pages.start + 1).saturating_sub(count).max(lowest);
        if first >= self.fetched {
            return 0;
        }
        let end = pages.end.min(self.fetched);
        self.fetched = first;
        let pages = fetch::pages(&self.view, &nodes.whole, first..end);
        self.view.image.prefetch(&pages);
        pages.iter().map(|page| u64::from(page.len)).sum()
    }

    /// Asks for what [`Cursor::bound`] reads, where it is far away.
    pub(crate) fn fetch_bound(&self) {
        if let Some(last) = self.next.checked_sub(1)
            && self.is_open()
            && self.view.image.is_remote()
        {
            let mut pages = Vec::new();
            self.view.image.pages_of_traces(last..last + 1, &mut pages);
            self.view.image.prefetch(&pages);
        }
    }

    /// The pages of the trace that is looked at next, where they are far away.
    fn next_pages(&self) -> Option<Range<usize>> {
        let last = self.next.checked_sub(1)?;
        (self.is_open() && self.view.image.is_remote()).then(|| {
            let rows = self.view.rows_of(last);
            rows.start as usize / PAGE_ROWS..(rows.end as usize).div_ceil(PAGE_ROWS)
        })
    }

    fn satisfying(&mut self, plan: &Plan, tree: &Tree, places: Vec<usize>) -> Result<Vec<usize>> {
        if places.is_empty() {
            return Ok(places);
        }
        match tree {
            Tree::Has(filter) => self.places_with(plan, *filter, &places),
            Tree::Count(filter, wanted) => {
                let mut left = self.places_with(plan, *filter, &places)?;
                if *wanted != (1..=u64::MAX) {
                    let mut found = Vec::with_capacity(left.len());
                    for place in left {
                        if wanted.contains(&self.count(plan, *filter, place)?) {
                            found.push(place);
                        }
                    }
                    left = found;
                }
                Ok(left)
            }
            Tree::Related(relation, above, below) => {
                let mut order = [*above, *below];
                order.sort_by_key(|filter| self.cost_of(*filter));
                let mut left = places;
                for filter in order {
                    left = self.places_with(plan, filter, &left)?;
                }
                let mut found = Vec::with_capacity(left.len());
                for place in left {
                    let above = self.rows_with(plan, *above, place)?;
                    let below = self.rows_with(plan, *below, place)?;
                    if related::any(&self.view, place, *relation, &above, &below)? {
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

    fn cost_of(&self, filter: usize) -> u64 {
        let node = self
            .nodes
            .as_ref()
            .and_then(|nodes| nodes.whole.get(filter));
        node.map_or(0, |node| node.estimate(&self.view))
    }

    fn cost(&self, tree: &Tree) -> u64 {
        match tree {
            Tree::Has(filter) => self.cost_of(*filter),
            Tree::Count(filter, _) => self.cost_of(*filter).saturating_add(1),
            Tree::Related(_, above, below) => {
                let least = self.cost_of(*above).min(self.cost_of(*below));
                least.saturating_add(2)
            }
            Tree::And(of) => of.iter().map(|tree| self.cost(tree)).min().unwrap_or(0),
            Tree::Or(of) => of.iter().map(|tree| self.cost(tree)).sum(),
        }
    }

    /// Those of `places` (ascending) with a span that satisfies a filter. Goes from hit to hit: most
    /// pages have none.
    fn places_with(&mut self, plan: &Plan, filter: usize, places: &[usize]) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return Ok(found);
        };
        let view = Arc::clone(&self.view);
        let rows = view.rows_of(*first).start as usize..view.rows_of(*last).end as usize;
        let mut left = places.iter().copied().peekable();
        for (page, positions) in by_page(rows.start, rows.len()) {
            let Some(bits) = self.bits(plan, filter, Traces::Whole, page)? else {
                break;
            };
            let start = u32::try_from(page * PAGE_ROWS).unwrap_or(u32::MAX);
            let mut from = positions.start;
            while let Some(hit) = bits.next(from).filter(|hit| *hit < positions.end) {
                let row = start + hit;
                while left
                    .next_if(|place| view.rows_of(*place).end <= row)
                    .is_some()
                {}
                let Some(place) = left.peek().copied() else {
                    return Ok(found);
                };
                let of_place = view.rows_of(place);
                from = match of_place.contains(&row) {
                    true => {
                        found.push(place);
                        left.next();
                        of_place.end.saturating_sub(start)
                    }
                    false => of_place.start.saturating_sub(start),
                };
            }
        }
        Ok(found)
    }

    /// How many spans of a trace satisfy a filter.
    fn count(&mut self, plan: &Plan, filter: usize, place: usize) -> Result<u64> {
        let rows = self.view.rows_of(place);
        let mut count = 0;
        for (page, positions) in by_page(rows.start as usize, rows.len()) {
            if let Some(bits) = self.bits(plan, filter, Traces::Whole, page)? {
                count += bits.count_in(positions.start, positions.end);
            }
        }
        Ok(count)
    }

    /// Which spans of a trace satisfy a filter.
    fn rows_with(&mut self, plan: &Plan, filter: usize, place: usize) -> Result<Vec<bool>> {
        let rows = self.view.rows_of(place);
        let mut found = Vec::with_capacity(rows.len());
        for (page, positions) in by_page(rows.start as usize, rows.len()) {
            match self.bits(plan, filter, Traces::Whole, page)? {
                Some(bits) => found.extend(positions.map(|row| bits.contains(row))),
                None => found.extend(positions.map(|_| false)),
            }
        }
        Ok(found)
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
        for (page, positions) in by_page(rows.start as usize, rows.len()) {
            let Some(bits) = self.bits(plan, filter, traces, page)? else {
                return Ok(false);
            };
            if bits.any_in(positions.start, positions.end) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows of a page that satisfy a filter; `None` when no row of the place does.
    fn bits(
        &mut self,
        plan: &Plan,
        filter: usize,
        traces: Traces,
        page: usize,
    ) -> Result<Option<&PageRows>> {
        let nodes = match &mut self.nodes {
            Some(nodes) => nodes,
            none => {
                self.view.read_rows()?;
                none.insert(Nodes::of(&self.view, plan)?)
            }
        };
        let (nodes, slot) = match (&nodes.pieces, traces) {
            (Some(pieces), Traces::Pieces) => (pieces, filter + plan.filters.len()),
            _ => (&nodes.whole, filter),
        };
        let Some(node) = nodes.get(filter).filter(|node| !matches!(node, Node::No)) else {
            return Ok(None);
        };
        Ok(Some(match self.bits.entry((slot, page)) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(free) => {
                let seen = self.view.not_hidden(page);
                free.insert(match seen.is_empty() {
                    true => seen,
                    false => Page::of_spans(&self.view, page).rows(node, &seen)?,
                })
            }
        }))
    }
}
