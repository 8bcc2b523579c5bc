//! Goes over all spans that satisfy a filter, each once, in no order. `counts` and `values` call it.
//!
//! Of a span that several places hold, the later ones are left out. When the filter asks about whole
//! traces, those that lie in several places are put together and looked at as one.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::{Result, TimeRange};

use super::condition::{Node, Traces};
use super::evaluate::Page;
use super::page_rows::PageRows;
use super::spans::{self, Piece};
use super::view::{Hidden, View};
use crate::block::table::PAGE_ROWS;
use crate::model::TraceId;
use crate::request::Filter;
use crate::structure::kind_of;

/// Traces of which pieces lie in several views, with the views and places.
type Scattered = BTreeMap<TraceId, Vec<(usize, usize)>>;

/// Traces that are put together at a time.
const TOGETHER: usize = 256;

/// Hands over pages with the rows that satisfy a filter, until `each` says no. The number tells views
/// apart.
pub(crate) fn sweep(
    views: &[View],
    filter: &Filter,
    (asks_traces, range): (bool, TimeRange),
    each: &mut dyn FnMut(&View, &Page<'_>, &PageRows) -> Result<bool>,
) -> Result<()> {
    let mut nodes = Vec::with_capacity(views.len());
    for view in views {
        let overlaps = view.range.overlaps(&range);
        nodes.push(match overlaps {
            true => Node::of(
                view,
                filter,
                if asks_traces {
                    Traces::Pieces
                } else {
                    Traces::Whole
                },
            )?,
            false => Node::No,
        });
    }
    if nodes.iter().all(|node| matches!(node, Node::No)) {
        return Ok(());
    }
    let mut scattered = scattered(views)?;
    let mut left_out = vec![RoaringBitmap::new(); views.len()];
    if asks_traces {
        add_incomplete(views, &mut scattered)?;
        for (number, place) in scattered.values().flatten() {
            if let (Some(view), Some(rows)) = (views.get(*number), left_out.get_mut(*number)) {
                rows.insert_range(view.rows_of(*place));
            }
        }
    } else {
        for pieces in scattered.values() {
            leave_out_twice(views, pieces, &mut left_out)?;
        }
    }
    for ((view, node), left_out) in views.iter().zip(nodes).zip(&left_out) {
        let node = match asks_traces && !matches!(node, Node::No) {
            true => Node::of(view, filter, Traces::Whole)?,
            false => node,
        };
        if !sweep_one(view, &node, range, left_out, each)? {
            return Ok(());
        }
    }
    if !asks_traces {
        return Ok(());
    }
    let all: Vec<_> = scattered.values().collect();
    for some in all.chunks(TOGETHER) {
        let mut found = Vec::new();
        for pieces in some {
            let piece = |(number, place): &(usize, usize)| {
                let view = views.get(*number)?;
                Some(Piece {
                    image: Arc::clone(&view.image),
                    place: *place,
                    hidden: Arc::clone(&view.hidden),
                })
            };
            let pieces: Vec<Piece> = pieces.iter().filter_map(piece).collect();
            found.extend(spans::union(&pieces)?);
        }
        if found.is_empty() {
            continue;
        }
        let view = spans::view_of(&found)?;
        let node = Node::of(&view, filter, Traces::Whole)?;
        if !sweep_one(&view, &node, range, &RoaringBitmap::new(), each)? {
            return Ok(());
        }
    }
    Ok(())
}

fn sweep_one(
    view: &View,
    node: &Node,
    range: TimeRange,
    left_out: &RoaringBitmap,
    each: &mut dyn FnMut(&View, &Page<'_>, &PageRows) -> Result<bool>,
) -> Result<bool> {
    if matches!(node, Node::No) {
        return Ok(true);
    }
    for number in 0..view.pages() {
        let mut seen = view.seen(number, range)?;
        if !left_out.is_empty() {
            let first = u32::try_from(number * PAGE_ROWS).unwrap_or(u32::MAX);
            let end = first.saturating_add(u32::try_from(PAGE_ROWS).unwrap_or(u32::MAX));
            left_out
                .range(first..end)
                .for_each(|row| seen.remove(row - first));
        }
        if seen.is_empty() {
            continue;
        }
        let page = Page::of_spans(view, number);
        let rows = page.rows(node, &seen)?;
        if !rows.is_empty() && !each(view, &page, &rows)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Traces that lie in several places.
fn scattered(views: &[View]) -> Result<Scattered> {
    let mut ids = BTreeSet::new();
    for view in views {
        ids.extend(view.image.traces_with_more()?.iter().copied());
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
