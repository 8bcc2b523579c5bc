//! The buckets of one side of a histogram: runs of neighbours and one count a bucket. Where the
//! buckets lie in terms of numbers is not known here.

use std::mem::size_of;
use std::ops::Range;

use super::Cell;

/// Buckets in order of their indices. Those that are not there are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs<T> {
    /// Rising and apart from each other; together as long as `counts`.
    spans: Vec<Span>,
    counts: Vec<T>,
}

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// The index of the first one.
    pub start: i32,
    /// How many there are.
    pub length: u32,
}

impl Span {
    /// The index after the last one.
    fn end(self) -> i32 {
        self.start.saturating_add_unsigned(self.length)
    }

    fn indices(self) -> Range<i32> {
        self.start..self.end()
    }
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self {
            spans: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl<T> Runs<T> {
    /// Neighbours from the index `start` on.
    pub fn dense(start: i32, counts: Vec<T>) -> Self {
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        Self::from_spans([Span { start, length }], counts)
    }

    /// Runs of buckets and their counts one after the other. Runs that touch become one; what is
    /// not in order, and counts without a bucket or buckets without a count, are left out.
    pub fn from_spans(spans: impl IntoIterator<Item = Span>, mut counts: Vec<T>) -> Self {
        let mut kept: Vec<Span> = Vec::new();
        let mut left = counts.len();
        for span in spans {
            let length = span.length.min(u32::try_from(left).unwrap_or(u32::MAX));
            if length == 0 {
                continue;
            }
            match kept.last_mut() {
                Some(last) if last.end() > span.start => break,
                Some(last) if last.end() == span.start => last.length += length,
                _ => kept.push(Span { length, ..span }),
            }
            left -= length as usize;
        }
        counts.truncate(counts.len() - left);
        Self {
            spans: kept,
            counts,
        }
    }

    /// The runs.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The counts, one for each bucket of the runs.
    pub fn counts(&self) -> &[T] {
        &self.counts
    }

    /// Whether there is no bucket, not even an empty one.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.counts.capacity() * size_of::<T>()
    }

    /// Adds a bucket behind all others.
    fn push(&mut self, index: i32, count: T) {
        match self.spans.last_mut() {
            Some(last) if last.end() == index => last.length += 1,
            _ => self.spans.push(Span {
                start: index,
                length: 1,
            }),
        }
        self.counts.push(count);
    }

    /// Changes each count.
    pub(super) fn change(&mut self, change: impl FnMut(&mut T)) {
        self.counts.iter_mut().for_each(change);
    }
}

impl<T: Cell> Runs<T> {
    /// Index and count of each bucket, by rising index.
    pub fn iter(&self) -> impl Iterator<Item = (i32, T)> + '_ {
        let indices = self.spans.iter().flat_map(|span| span.indices());
        indices.zip(self.counts.iter().copied())
    }

    /// The same by falling index.
    pub fn iter_down(&self) -> impl Iterator<Item = (i32, T)> + '_ {
        let spans = self.spans.iter().rev();
        let indices = spans.flat_map(|span| span.indices().rev());
        indices.zip(self.counts.iter().rev().copied())
    }

    pub(super) fn map<U>(&self, of: impl Fn(T) -> U) -> Runs<U> {
        Runs {
            spans: self.spans.clone(),
            counts: self.counts.iter().map(|count| of(*count)).collect(),
        }
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.change(|count| count.scale(factor));
    }

    /// Drops empty buckets.
    pub fn compact(&mut self) {
        if self.counts.iter().all(|count| count.value() != 0.0) {
            return;
        }
        let mut kept = Self::default();
        for (index, count) in self.iter().filter(|(_, count)| count.value() != 0.0) {
            kept.push(index, count);
        }
        *self = kept;
    }

    /// The buckets under other indices. `to` never falls where its argument rises; buckets that
    /// come to lie on one index become one.
    pub(super) fn reindexed(&self, to: impl Fn(i32) -> i32) -> Self {
        let mut out = Self::default();
        let mut last = None;
        for (index, count) in self.iter() {
            let index = to(index);
            match out.counts.last_mut() {
                Some(held) if last == Some(index) => held.merge(count),
                _ => out.push(index, count),
            }
            last = Some(index);
        }
        out
    }

    /// Takes away the buckets up to the index `last`, and gives their counts.
    pub(super) fn split_below(&mut self, last: i32) -> impl Iterator<Item = T> + use<T> {
        let (mut below, mut above) = (Vec::new(), Self::default());
        for (index, count) in self.iter() {
            if index <= last {
                below.push(count);
            } else {
                above.push(index, count);
            }
        }
        *self = above;
        below.into_iter()
    }

    /// Adds the buckets of `other` to these: `add` is called for each pair.
    #[inline]
    pub(super) fn accumulate(&mut self, other: &Runs<f64>, add: impl Fn(&mut T, f64)) {
        if self.spans == other.spans {
            for (count, other) in self.counts.iter_mut().zip(&other.counts) {
                add(count, *other);
            }
            return;
        }
        if !covers(&self.spans, &other.spans) {
            self.widen(&other.spans);
        }
        let mut from = 0usize;
        for (offset, length) in offsets(&self.spans, &other.spans) {
            let mine = self.counts.get_mut(offset..offset + length);
            let theirs = other.counts.get(from..from + length);
            for (count, other) in mine.into_iter().flatten().zip(theirs.into_iter().flatten()) {
                add(count, *other);
            }
            from += length;
        }
    }

    /// Makes room for the buckets of `spans`.
    fn widen(&mut self, spans: &[Span]) {
        let wide = union(&self.spans, spans);
        let length = wide.iter().map(|span| span.length as usize).sum();
        let mut counts = vec![T::default(); length];
        let mut from = 0usize;
        for (offset, length) in offsets(&wide, &self.spans) {
            let target = counts.get_mut(offset..offset + length);
            if let (Some(target), Some(source)) = (target, self.counts.get(from..from + length)) {
                target.copy_from_slice(source);
            }
            from += length;
        }
        (self.spans, self.counts) = (wide, counts);
    }
}

impl Runs<f64> {
    /// Adds a bucket behind all others, unless it is empty.
    pub(super) fn push_filled(&mut self, index: i32, count: f64) {
        if count != 0.0 {
            self.push(index, count);
        }
    }

    /// Whether some bucket holds less here than in `before`, absent ones being empty.
    pub(super) fn falls_below(&self, before: &Self) -> bool {
        if self.spans == before.spans {
            let mut pairs = self.counts.iter().zip(&before.counts);
            return pairs.any(|(now, before)| now < before);
        }
        let (mut now, mut before) = (self.iter().peekable(), before.iter().peekable());
        loop {
            let (now_at, before_at) = (now.peek().map(|b| b.0), before.peek().map(|b| b.0));
            let next = match (now_at, before_at) {
                (None, None) => return false,
                (Some(a), Some(b)) => a.min(b),
                (Some(at), None) | (None, Some(at)) => at,
            };
            let count = |bucket: Option<(i32, f64)>| bucket.map_or(0.0, |(_, count)| count);
            let new = count(now.next_if(|(index, _)| *index == next));
            if new < count(before.next_if(|(index, _)| *index == next)) {
                return true;
            }
        }
    }
}

/// For each of the spans `of` where its first count lies in the counts of `inside`, which has them
/// all, and how many there are.
fn offsets<'a>(inside: &'a [Span], of: &'a [Span]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut inside = inside.iter().copied().peekable();
    let mut base = 0usize;
    of.iter().filter_map(move |span| {
        while let Some(before) = inside.next_if(|wide| wide.end() <= span.start) {
            base += before.length as usize;
        }
        let wide = inside.peek()?;
        let into = usize::try_from(span.start.checked_sub(wide.start)?).ok()?;
        Some((base + into, span.length as usize))
    })
}

/// Whether each of the spans `of` lies in one of `inside`.
fn covers(inside: &[Span], of: &[Span]) -> bool {
    let mut inside = inside.iter().copied().peekable();
    of.iter().all(|span| {
        while inside.next_if(|wide| wide.end() <= span.start).is_some() {}
        let wide = inside.peek();
        wide.is_some_and(|wide| wide.start <= span.start && span.end() <= wide.end())
    })
}

/// The spans of both.
fn union(a: &[Span], b: &[Span]) -> Vec<Span> {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    let mut out: Vec<Span> = Vec::new();
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(left), Some(right)) if left.start <= right.start => a.next(),
            (_, Some(_)) => b.next(),
            _ => a.next(),
        };
        let Some(next) = next else {
            return out;
        };
        match out.last_mut() {
            Some(last) if next.start <= last.end() => {
                let end = last.end().max(next.end());
                last.length = end.abs_diff(last.start);
            }
            _ => out.push(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(pairs: &[(i32, f64)]) -> Runs<f64> {
        let mut out = Runs::default();
        pairs
            .iter()
            .for_each(|(index, count)| out.push(*index, *count));
        out
    }

    fn span(start: i32, length: u32) -> Span {
        Span { start, length }
    }

    #[test]
    fn runs_that_touch_are_one_and_nonsense_is_left_out() {
        let spans = [span(-2, 2), span(0, 1), span(5, 0), span(4, 2)];
        let got = Runs::from_spans(spans, vec![1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(got.spans(), [span(-2, 3), span(4, 2)]);
        assert_eq!(got.counts(), [1.0, 2.0, 3.0, 4.0, 5.0]);
        let backwards = Runs::from_spans([span(3, 1), span(2, 1)], vec![1.0, 2.0]);
        assert_eq!(
            (backwards.spans(), backwards.counts()),
            (&[span(3, 1)][..], &[1.0][..])
        );
        assert_eq!(
            Runs::from_spans([span(0, 9)], vec![1.0]).spans(),
            [span(0, 1)]
        );
        assert_eq!(
            Runs::from_spans([span(0, 1)], vec![1.0, 2.0]).counts(),
            [1.0]
        );
    }

    #[test]
    fn sums_have_the_buckets_of_both() {
        for (a, b, expect) in [
            (&[][..], &[][..], &[][..]),
            (&[(1, 1.0)], &[(1, 2.0)], &[(1, 3.0)]),
            (&[(1, 1.0)], &[(2, 2.0)], &[(1, 1.0), (2, 2.0)]),
            (
                &[(2, 1.0)],
                &[(-7, 2.0), (9, 1.0)],
                &[(-7, 2.0), (2, 1.0), (9, 1.0)],
            ),
            (
                &[(1, 1.0), (2, 1.0), (3, 1.0), (7, 1.0)],
                &[(2, 2.0), (7, 3.0)],
                &[(1, 1.0), (2, 3.0), (3, 1.0), (7, 4.0)],
            ),
            (
                &[(1, 1.0), (3, 1.0), (5, 1.0)],
                &[(2, 2.0), (3, 2.0), (4, 2.0)],
                &[(1, 1.0), (2, 2.0), (3, 3.0), (4, 2.0), (5, 1.0)],
            ),
        ] {
            let mut sum = runs(a);
            sum.accumulate(&runs(b), |x, y| *x += y);
            assert_eq!(sum, runs(expect), "{a:?} + {b:?}");
        }
    }

    #[test]
    fn a_fall_is_seen_wherever_buckets_lie() {
        for (before, now, falls) in [
            (&[(1, 1.0)][..], &[(1, 1.0)][..], false),
            (&[(1, 1.0)], &[(1, 0.5)], true),
            (&[(1, 1.0)], &[(1, 1.0), (2, 5.0)], false),
            (&[(1, 1.0), (4, 1.0)], &[(1, 1.0), (2, 5.0)], true),
            (&[(1, 0.0)], &[], false),
            (&[(1, 0.1)], &[], true),
            (&[], &[(3, -1.0)], true),
        ] {
            assert_eq!(
                runs(now).falls_below(&runs(before)),
                falls,
                "{before:?} {now:?}"
            );
        }
    }

    #[test]
    fn compact_keeps_what_is_filled() {
        let mut some = runs(&[(1, 0.0), (2, 1.0), (3, 0.0), (4, -1.0), (9, 0.0)]);
        some.compact();
        assert_eq!(some, runs(&[(2, 1.0), (4, -1.0)]));
        assert_eq!(some.split_below(2).collect::<Vec<_>>(), [1.0]);
        assert_eq!(some, runs(&[(4, -1.0)]));
    }
}
