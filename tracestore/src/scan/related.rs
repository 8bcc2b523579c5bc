//! Whether two spans of a trace are related. `traces` calls it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;

use trine_storage::Result;

use super::view::View;
use crate::block::format::span;
use crate::request::Relation;

/// Whether a span of `above` and another one of `below` are related. Both have a truth for each span of
/// the trace at a place.
pub(crate) fn any(
    view: &View,
    place: usize,
    relation: Relation,
    above: &[bool],
    below: &[bool],
) -> Result<bool> {
    let rows = view.rows_of(place);
    let range = rows.start as usize..rows.end as usize;
    let told = view.image.spans.numbers_in(span::PARENT, range)?;
    // Parents lie before their children.
    let parent = |at: usize, told: u64| {
        let before = told
            .checked_sub(span::PARENT_ELSEWHERE)
            .filter(|b| *b > 0)?;
        at.checked_sub(usize::try_from(before).ok()?)
    };
    let holds = |side: &[bool], at: usize| side.get(at).copied().unwrap_or(false);
    match relation {
        Relation::Child => Ok(told.iter().enumerate().any(|(at, told)| {
            holds(below, at) && parent(at, *told).is_some_and(|parent| holds(above, parent))
        })),
        Relation::Descendant => {
            // Whether something above each span is wanted.
            let mut is_below = Vec::with_capacity(told.len());
            for (at, told) in told.iter().enumerate() {
                let found = parent(at, *told)
                    .is_some_and(|parent| holds(above, parent) || holds(&is_below, parent));
                if found && holds(below, at) {
                    return Ok(true);
                }
                is_below.push(found);
            }
            Ok(false)
        }
        Relation::Sibling => {
            // Of each parent, how many of its children are on either side and on both.
            let mut children: HashMap<u64, (u32, u32, u32)> = HashMap::new();
            for (row, (at, told)) in rows.zip(told.iter().enumerate()) {
                let (above, below) = (holds(above, at), holds(below, at));
                if !(above || below) || *told == span::NO_PARENT {
                    continue;
                }
                let id = view.image.parent_id(row)?;
                let (left, right, both) = children.entry(id).or_default();
                *left += u32::from(above);
                *right += u32::from(below);
                *both += u32::from(above && below);
            }
            // One span on both sides is no pair.
            let is_pair = |(left, right, both): &(u32, u32, u32)| {
                *left > 0 && *right > 0 && (*left, *right, *both) != (1, 1, 1)
            };
            Ok(children.values().any(is_pair))
        }
    }
}
