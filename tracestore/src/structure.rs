//! The structure of one trace, whatever its links look like: which spans are there twice, who is whose
//! parent, in which order its rows lie, and nested-set numbers. `build` and reads call it.
//!
//! Spans lie depth first, so that what is below a span follows it. A trace is a forest: spans whose
//! parent is not there are tops, and links that run in a circle are cut at their first span. Every
//! tree is numbered, with or without a root; the numbering is Tempo's: depth first from 1, each span
//! takes a number when it is entered and one when it is left.

use crate::request::NO_ROW;

/// What the structure of a trace depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SpanKey {
    /// Big-endian.
    pub(crate) span_id: u64,
    /// 0 when there is none.
    pub(crate) parent_id: u64,
    pub(crate) start: i64,
    /// As OTLP numbers kinds.
    pub(crate) kind: i32,
}

/// Puts traces in order, one after the other in the same memory.
#[derive(Debug, Default)]
pub(crate) struct Arranger {
    /// What is left of the rows, in depth-first order.
    pub(crate) rows: Vec<u32>,
    /// For each of them where its parent is in the order; [`NO_ROW`] when it is a top.
    pub(crate) parents: Vec<u32>,
    by_id: Vec<(u64, i32, u32)>,
    by_start: Vec<u32>,
    parent_of: Vec<u32>,
    first_child: Vec<u32>,
    next_sibling: Vec<u32>,
    place: Vec<u32>,
    path: Vec<u32>,
}

/// The kind of a span as duplicates are told by: what OTLP does not define is "unspecified".
pub(crate) fn kind_of(kind: i32) -> i32 {
    if (0..=5).contains(&kind) { kind } else { 0 }
}

impl Arranger {
    /// Arranges a trace. Of spans with one id and kind the first counts.
    pub(crate) fn arrange(&mut self, spans: &[SpanKey]) {
        let count = spans.len();
        self.rows.clear();
        self.parents.clear();
        self.by_id.clear();
        let rows = (0u32..).zip(spans);
        self.by_id
            .extend(rows.map(|(row, span)| (span.span_id, kind_of(span.kind), row)));
        self.by_id.sort_unstable();
        self.by_id.dedup_by_key(|(id, kind, _)| (*id, *kind));
        self.by_start.clear();
        self.by_start
            .extend(self.by_id.iter().map(|(_, _, row)| *row));
        let age = |row: &u32| {
            let span = &spans[*row as usize];
            (span.start, span.span_id, kind_of(span.kind))
        };
        self.by_start.sort_unstable_by_key(age);
        // Of spans with one id and several kinds the first to begin is the parent.
        self.by_id
            .sort_unstable_by_key(|(id, _, row)| (*id, age(row)));
        self.find_parents(spans);
        self.find_children(count);
        self.place.clear();
        self.place.resize(count, NO_ROW);
        let by_start = std::mem::take(&mut self.by_start);
        let is_root = |row: u32| spans[row as usize].parent_id == 0;
        for &row in by_start.iter().filter(|row| is_root(**row)) {
            self.enter(row);
        }
        for &row in &by_start {
            if self.parent_of[row as usize] == NO_ROW {
                self.enter(row);
            }
        }
        // What is left runs in circles.
        for &row in &by_start {
            if self.place[row as usize] == NO_ROW {
                self.parent_of[row as usize] = NO_ROW;
                self.enter(row);
            }
        }
        self.by_start = by_start;
        let parent = |row: &u32| match self.parent_of[*row as usize] {
            NO_ROW => NO_ROW,
            parent => self.place[parent as usize],
        };
        self.parents.extend(self.rows.iter().map(parent));
    }

    fn find_parents(&mut self, spans: &[SpanKey]) {
        self.parent_of.clear();
        self.parent_of.resize(spans.len(), NO_ROW);
        for &(_, _, row) in &self.by_id {
            let span = &spans[row as usize];
            if span.parent_id == 0 || span.parent_id == span.span_id {
                continue;
            }
            let at = self
                .by_id
                .partition_point(|(id, _, _)| *id < span.parent_id);
            if let Some((id, _, parent)) = self.by_id.get(at)
                && *id == span.parent_id
            {
                self.parent_of[row as usize] = *parent;
            }
        }
    }

    fn find_children(&mut self, count: usize) {
        self.first_child.clear();
        self.first_child.resize(count, NO_ROW);
        self.next_sibling.clear();
        self.next_sibling.resize(count, NO_ROW);
        for &row in self.by_start.iter().rev() {
            let parent = self.parent_of[row as usize];
            if parent != NO_ROW {
                self.next_sibling[row as usize] = self.first_child[parent as usize];
                self.first_child[parent as usize] = row;
            }
        }
    }

    /// Places everything below `top` without recursion: traces may be deep.
    fn enter(&mut self, top: u32) {
        if self.place[top as usize] != NO_ROW {
            return;
        }
        self.path.clear();
        let mut row = top;
        loop {
            self.place[row as usize] = self.rows.len() as u32;
            self.rows.push(row);
            let mut next = self.first_child[row as usize];
            self.path.push(row);
            // Circles lead to what is placed.
            while next == NO_ROW || self.place[next as usize] != NO_ROW {
                if next != NO_ROW {
                    next = self.next_sibling[next as usize];
                    continue;
                }
                let Some(done) = self.path.pop() else { return };
                if done == top {
                    return;
                }
                next = self.next_sibling[done as usize];
            }
            row = next;
        }
    }
}

/// Nested-set numbers of the spans of a trace in depth-first order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Nested {
    pub(crate) left: Vec<i32>,
    pub(crate) right: Vec<i32>,
    /// The left number of the parent; -1 of roots, 0 of spans whose parent is not there.
    pub(crate) parent: Vec<i32>,
}

impl Nested {
    /// Appends the numbers of a trace. `parents` are places in the order ([`NO_ROW`] for tops),
    /// `is_root` tells tops that have no parent from those whose parent is not there.
    pub(crate) fn number(&mut self, parents: &[u32], is_root: impl Fn(usize) -> bool) {
        let first = self.left.len();
        // Open spans, innermost last.
        let mut open: Vec<u32> = Vec::new();
        let mut next = 1i32;
        for (row, &parent) in parents.iter().enumerate() {
            while let Some(last) = open.last().copied().filter(|last| *last != parent) {
                self.right[first + last as usize] = next;
                next = next.saturating_add(1);
                open.pop();
            }
            self.left.push(next);
            self.right.push(0);
            self.parent.push(match parent {
                NO_ROW if is_root(row) => -1,
                NO_ROW => 0,
                parent => self.left[first + parent as usize],
            });
            next = next.saturating_add(1);
            open.push(row as u32);
        }
        while let Some(last) = open.pop() {
            self.right[first + last as usize] = next;
            next = next.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `links`: the parent of each span, 0 for none; spans are numbered from 1 and begin in that
    /// order. Gives `id:left-right/parent` in depth-first order.
    fn check(links: &[u8], expected: &str) {
        let spans: Vec<SpanKey> = (1..)
            .zip(links)
            .map(|(id, parent)| SpanKey {
                span_id: id,
                parent_id: (*parent).into(),
                start: id as i64,
                kind: 1,
            })
            .collect();
        let mut arranger = Arranger::default();
        // What it held before does not matter.
        arranger.arrange(&spans[..spans.len() / 2]);
        arranger.arrange(&spans);
        let mut n = Nested::default();
        let is_root = |row: usize| spans[arranger.rows[row] as usize].parent_id == 0;
        n.number(&arranger.parents, is_root);
        let text = |row: usize| {
            let id = spans[arranger.rows[row] as usize].span_id;
            format!("{id}:{}-{}/{}", n.left[row], n.right[row], n.parent[row])
        };
        let text: Vec<String> = (0..spans.len()).map(text).collect();
        assert_eq!(text.join(" "), expected, "{links:?}");
    }

    #[test]
    fn trees_forests_orphans_and_circles_are_numbered() {
        check(&[], "");
        check(&[0], "1:1-2/-1");
        check(&[0, 1, 1, 2], "1:1-8/-1 2:2-5/1 4:3-4/2 3:6-7/1");
        check(&[0, 0], "1:1-2/-1 2:3-4/-1");
        // The parent 9 is not stored: its children are tops, but no roots.
        check(&[9, 1, 9], "1:1-4/0 2:2-3/1 3:5-6/0");
        // Roots come first.
        check(&[9, 1, 0, 3], "3:1-4/-1 4:2-3/1 1:5-8/0 2:6-7/5");
        // 1 and 2 are each other's parent, 3 is below.
        check(&[2, 1, 2], "1:1-6/0 2:2-5/1 3:3-4/2");
        // A span that is its own parent.
        check(&[1], "1:1-2/0");
        // A circle of three beside a tree.
        check(
            &[2, 3, 1, 0, 4],
            "4:1-4/-1 5:2-3/1 1:5-10/0 3:6-9/5 2:7-8/6",
        );
    }

    #[test]
    fn of_spans_that_come_twice_the_first_counts() {
        let span = |span_id, kind, start| SpanKey {
            span_id,
            parent_id: 0,
            start,
            kind,
        };
        let mut arranger = Arranger::default();
        let spans = [
            span(1, 2, 5),
            span(1, 2, 1),
            span(1, 3, 7),
            span(2, 99, 2),
            span(2, 0, 3),
            span(2, -1, 1),
        ];
        arranger.arrange(&spans);
        assert_eq!(arranger.rows, [3, 0, 2]);
    }

    #[test]
    fn a_trace_may_be_as_deep_as_it_likes() {
        let span = |n: u64| SpanKey {
            span_id: n + 1,
            parent_id: n,
            start: n as i64,
            kind: 0,
        };
        let spans: Vec<SpanKey> = (0..100_000).map(span).collect();
        let mut arranger = Arranger::default();
        arranger.arrange(&spans);
        let mut n = Nested::default();
        n.number(&arranger.parents, |row| row == 0);
        assert_eq!(
            (n.left[99_999], n.right[0], n.parent[0]),
            (100_000, 200_000, -1)
        );
    }
}
