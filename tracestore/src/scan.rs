//! How spans are read: filters over columns, whole traces, counts, names and values. `snapshot`
//! calls it, and deletes and retention rules do.
//!
//! In reading order: `page_rows` is rows as bits, `view` a place as an answer reads it, `test` what a
//! condition means, `condition` makes filters ready, `evaluate` applies them, `fetch` is ahead of them where places are far away.

mod batch;
mod buckets;
mod coder;
mod codes;
mod comparison;
mod condition;
mod counts;
mod evaluate;
mod fetch;
mod intrinsics;
mod names;
mod page_rows;
mod related;
mod rows;
pub(crate) mod spans;
mod sweep;
mod test;
mod traces;
mod values;
mod view;

use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::{Result, TimeRange};

use crate::block::image::Image;
use crate::model::{Grouped, Trace};
use crate::request::Filter;
use condition::{Node, Traces};
use evaluate::Page;

pub(crate) use comparison::comparison;
pub(crate) use counts::counts;
pub(crate) use rows::rows;

pub(crate) use names::{attribute_names, attribute_names_of};
pub(crate) use spans::Piece;
pub(crate) use values::attribute_values;
pub(crate) use view::View;

/// A trace of what is left of its pieces, older ones first: every span once, depth first; `None` when
/// nothing is left.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io).
pub(crate) fn trace(pieces: &[Piece]) -> Result<Option<Trace>> {
    let found = spans::union(pieces)?;
    let mut trace = Grouped::default();
    let is_there = !found.is_empty();
    for held in found {
        trace.push(held.resource, held.scope, held.span);
    }
    Ok(is_there.then(|| trace.finish()))
}

/// The spans of an image, but for those in `hidden`, that begin in `range` and satisfy a filter.
/// What the filter says about whole traces is asked of the spans of this image.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io).
pub(crate) fn matching_rows(
    image: &Arc<Image>,
    filter: &Filter,
    range: TimeRange,
    hidden: &Arc<RoaringBitmap>,
) -> Result<RoaringBitmap> {
    let everything = TimeRange::new(i64::MIN, i64::MAX);
    let view = View::new(Arc::clone(image), Arc::clone(hidden), everything)?;
    let node = Node::of(&view, filter, Traces::Whole)?;
    let mut found = RoaringBitmap::new();
    if matches!(node, Node::No) {
        return Ok(found);
    }
    for page in 0..view.pages() {
        let seen = view.seen(page, range)?;
        let rows = Page::of_spans(&view, page).rows(&node, &seen)?;
        let first = view.image.spans.rows_of(page).start;
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        found.extend(rows.iter().map(|row| first + row));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
