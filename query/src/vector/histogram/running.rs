//! Sums and means of many histograms, compensated bucket by bucket. Called by the aggregations and
//! by `sum_over_time` and `avg_over_time`.

use super::{Combined, Distribution, Histogram, Incompatible, ResetHint};
use crate::vector::kahan::Sum;

/// Which counter resets were claimed by the histograms that were added up.
#[derive(Debug, Clone, Copy, Default)]
struct Claims {
    reset: bool,
    not_reset: bool,
}

impl Claims {
    fn note(&mut self, hint: ResetHint) {
        self.reset |= hint == ResetHint::Reset;
        self.not_reset |= hint == ResetHint::NotReset;
    }
}

/// The sum of histograms that come one after the other.
#[derive(Debug, Clone)]
pub(crate) struct RunningSum {
    total: Distribution<Sum>,
    claims: Claims,
}

impl RunningSum {
    pub(crate) fn new(first: &Histogram) -> Self {
        let mut claims = Claims::default();
        claims.note(first.reset_hint);
        Self {
            total: first.map(Sum::of),
            claims,
        }
    }

    pub(crate) fn add(&mut self, next: &Histogram) -> Result<Combined, Incompatible> {
        let combined = self.total.combine(next, Sum::add)?;
        self.claims.note(next.reset_hint);
        Ok(combined)
    }

    /// Whether some were known to be counter resets and some not to be.
    pub(crate) fn resets_collide(&self) -> bool {
        self.claims.reset && self.claims.not_reset
    }

    pub(crate) fn value(&self) -> Histogram {
        let mut value = self.total.map(Sum::value);
        value.compact();
        value
    }

    /// Bytes in memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        heap_bytes(&self.total)
    }
}

/// The mean of histograms that come one after the other: their sum over their number while nothing
/// can overflow, from then on a mean that is updated in place.
#[derive(Debug, Clone)]
pub(crate) struct RunningMean {
    /// The sum, or the mean once `incremental`.
    total: Distribution<Sum>,
    claims: Claims,
    count: f64,
    incremental: bool,
    /// No number in the sum is larger than this.
    bound: f64,
}

impl RunningMean {
    pub(crate) fn new(first: &Histogram) -> Self {
        let mut claims = Claims::default();
        claims.note(first.reset_hint);
        Self {
            total: first.map(Sum::of),
            claims,
            count: 1.0,
            incremental: false,
            bound: magnitude(first),
        }
    }

    pub(crate) fn add(&mut self, next: &Histogram) -> Result<Combined, Incompatible> {
        if self.total.has_custom_bounds() != next.has_custom_bounds() {
            return Err(Incompatible);
        }
        self.claims.note(next.reset_hint);
        self.bound += magnitude(next);
        self.count += 1.0;
        if !self.incremental {
            if self.bound.is_finite() {
                return self.total.combine(next, Sum::add);
            }
            self.incremental = true;
            let before = self.count - 1.0;
            self.total = self.total.map(|cell| cell.divided(before));
        }
        let count = self.count;
        self.total.scale_counts((count - 1.0) / count);
        self.total
            .combine(next, |cell, more| cell.add(more / count))
    }

    /// As [`RunningSum::resets_collide`].
    pub(crate) fn resets_collide(&self) -> bool {
        self.claims.reset && self.claims.not_reset
    }

    pub(crate) fn value(&self) -> Histogram {
        let mut value = match (self.incremental, self.count) {
            (true, _) | (false, 1.0) => self.total.map(Sum::value),
            (false, count) => self.total.map(|cell| cell.divided(count).value()),
        };
        value.compact();
        value
    }

    /// Bytes in memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        heap_bytes(&self.total)
    }
}

/// At least the largest number in a histogram, and in any with fewer and larger buckets.
fn magnitude(of: &Histogram) -> f64 {
    let buckets = of.positive.counts().iter().chain(of.negative.counts());
    let buckets: f64 = buckets.map(|count| count.abs()).sum();
    let single = of.count.abs().max(of.sum.abs());
    // A NaN is no overflow.
    [buckets + of.zero_count.abs(), single]
        .into_iter()
        .fold(0.0, f64::max)
}

fn heap_bytes<T>(of: &Distribution<T>) -> usize {
    size_of::<Distribution<T>>() + of.positive.heap_bytes() + of.negative.heap_bytes()
}
