//! The buckets of one side of a histogram: runs of neighbours and one count a bucket.

use std::mem::size_of;
use std::ops::Range;

/// Buckets in order of their indices. Those that are not there are empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets {
    /// Rising and apart from each other; together as long as `counts`.
    spans: Vec<Span>,
    counts: Vec<f64>,
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

impl Buckets {
    /// Neighbours from the index `start` on.
    pub fn dense(start: i32, counts: Vec<f64>) -> Self {
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        Self::from_spans([Span { start, length }], counts)
    }

    /// Runs of buckets and their counts one after the other. Runs that touch become one; what is
    /// not in order, and counts without a bucket or buckets without a count, are left out.
    pub fn from_spans(spans: impl IntoIterator<Item = Span>, mut counts: Vec<f64>) -> Self {
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
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// Index and count of each bucket, by rising index.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        let indices = self.spans.iter().flat_map(|span| span.indices());
        indices.zip(self.counts.iter().copied())
    }

    /// The same by falling index.
    pub fn iter_down(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        let spans = self.spans.iter().rev();
        let indices = spans.flat_map(|span| span.indices().rev());
        indices.zip(self.counts.iter().rev().copied())
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.counts.capacity() * size_of::<f64>()
    }
}
