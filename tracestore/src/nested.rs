//! Parents and nested-set numbers of the spans of one trace, whatever its links look like.
//!
//! Every component is numbered, with or without a root; links that run in a circle are cut at their
//! first span. The numbering is Tempo's: depth first from 1, each span takes a number when it is
//! entered and one when it is left.

use std::collections::HashMap;

use crate::model::SpanId;
use crate::request::NO_ROW;

/// Places of the spans of one trace in its trees.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Nested {
    pub(crate) parents: Vec<u32>,
    pub(crate) left: Vec<i32>,
    pub(crate) right: Vec<i32>,
    pub(crate) parent: Vec<i32>,
}

/// The parent id of spans that have none.
pub(crate) const NO_PARENT: SpanId = [0; 8];

/// Numbers the spans; `parents` are rows counted from 0.
pub(crate) fn number(span_ids: &[SpanId], parent_ids: &[SpanId]) -> Nested {
    let rows = span_ids.len();
    let mut by_id: HashMap<SpanId, u32> = HashMap::with_capacity(rows);
    for (row, id) in (0u32..).zip(span_ids) {
        by_id.entry(*id).or_insert(row);
    }
    let parents: Vec<u32> = (0u32..)
        .zip(parent_ids)
        .map(|(row, id)| match by_id.get(id) {
            Some(&parent) if *id != NO_PARENT && parent != row => parent,
            _ => NO_ROW,
        })
        .collect();
    let mut children: Vec<Vec<u32>> = vec![Vec::new(); rows];
    for (row, &parent) in (0u32..).zip(&parents) {
        if let Some(siblings) = children.get_mut(parent as usize) {
            siblings.push(row);
        }
    }
    let mut nested = Nested {
        left: vec![0; rows],
        right: vec![0; rows],
        parent: vec![0; rows],
        parents,
    };
    let mut next = 1;
    let tops = (0..rows as u32).filter(|&row| nested.parents[row as usize] == NO_ROW);
    // After the spans above which nothing is stored come those in circles, which nothing leads to.
    for top in tops.collect::<Vec<_>>().into_iter().chain(0..rows as u32) {
        if nested.left[top as usize] == 0 {
            nested.enter(top, &children, &mut next);
        }
    }
    for (row, parent_id) in parent_ids.iter().enumerate() {
        nested.parent[row] = match nested.parents[row] {
            NO_ROW if *parent_id == NO_PARENT => -1,
            NO_ROW => 0,
            parent => nested.left[parent as usize],
        };
    }
    nested
}

impl Nested {
    /// Numbers everything below `top` without recursion: traces may be deep.
    fn enter(&mut self, top: u32, children: &[Vec<u32>], next: &mut i32) {
        let mut take = || {
            let number = *next;
            *next = next.saturating_add(1);
            number
        };
        self.left[top as usize] = take();
        let mut path = vec![(top, 0)];
        while let Some((row, child)) = path.last_mut() {
            let below = children[*row as usize].get(*child).copied();
            *child += 1;
            match below {
                Some(below) if self.left[below as usize] == 0 => {
                    self.left[below as usize] = take();
                    path.push((below, 0));
                }
                Some(_) => {}
                None => {
                    self.right[*row as usize] = take();
                    path.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `links`: the parent of each span, 0 for none; spans are numbered from 1. Gives
    /// `left-right/parent` for each.
    fn check(links: &[u8], expected: &str) {
        let id = |n: &u8| [0, 0, 0, 0, 0, 0, 0, *n];
        let spans: Vec<SpanId> = (1..=links.len() as u8).map(|n| id(&n)).collect();
        let parents: Vec<SpanId> = links.iter().map(id).collect();
        let n = number(&spans, &parents);
        let text: Vec<String> = (0..links.len())
            .map(|row| format!("{}-{}/{}", n.left[row], n.right[row], n.parent[row]))
            .collect();
        assert_eq!(text.join(" "), expected, "{links:?}");
    }

    #[test]
    fn trees_forests_orphans_and_circles_are_numbered() {
        check(&[], "");
        check(&[0], "1-2/-1");
        check(&[0, 1, 1, 2], "1-8/-1 2-5/1 6-7/1 3-4/2");
        check(&[0, 0], "1-2/-1 3-4/-1");
        // The parent 9 is not stored: its children are tops, but no roots.
        check(&[9, 1, 9], "1-4/0 2-3/1 5-6/0");
        // 1 and 2 are each other's parent, 3 is below.
        check(&[2, 1, 2], "1-6/2 2-5/1 3-4/2");
        // A span that is its own parent.
        check(&[1], "1-2/0");
    }

    #[test]
    fn a_trace_may_be_as_deep_as_it_likes() {
        let id = |n: u64| n.to_be_bytes();
        let spans: Vec<SpanId> = (1..=100_000).map(id).collect();
        let parents: Vec<SpanId> = (0..100_000).map(id).collect();
        let n = number(&spans, &parents);
        assert_eq!(
            (n.left[99_999], n.right[0], n.parent[0]),
            (100_000, 200_000, -1)
        );
    }
}
