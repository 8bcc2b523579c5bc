//! Sums and differences of two histograms.

use std::fmt;

use super::{Cell, Distribution, Histogram, ResetHint};

/// What is worth knowing of a sum or a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// One was known to be a counter reset and the other not to be one.
    pub resets_collide: bool,
    /// Custom bounds were given up, since only one of the two had them.
    pub bounds_reconciled: bool,
}

/// Two histograms of which one has custom bounds and the other has not: they cannot be combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incompatible;

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot combine a histogram with custom buckets and one with exponential ones")
    }
}

impl std::error::Error for Incompatible {}

impl Histogram {
    /// Adds `other`. The result is as coarse as the coarser one of the two.
    ///
    /// # Errors
    /// When one has custom bounds and the other has not; then nothing changes.
    pub fn add(&mut self, other: &Self) -> Result<Combined, Incompatible> {
        self.combine(other, |cell, count| *cell += count)
    }

    /// Subtracts `other`, as [`Histogram::add`].
    ///
    /// # Errors
    /// As [`Histogram::add`].
    pub fn subtract(&mut self, other: &Self) -> Result<Combined, Incompatible> {
        self.combine(other, |cell, count| *cell -= count)
    }
}

impl<T: Cell> Distribution<T> {
    /// Puts the counts of `other` into those of this one with `add`.
    pub(super) fn combine(
        &mut self,
        other: &Histogram,
        add: impl Fn(&mut T, f64),
    ) -> Result<Combined, Incompatible> {
        let hint = other.reset_hint;
        let (other, bounds_reconciled) = self.align(other)?;
        let resets_collide = self.take_hint(hint);
        add(&mut self.zero_count, other.zero_count);
        add(&mut self.count, other.count);
        add(&mut self.sum, other.sum);
        self.positive.accumulate(&other.positive, &add);
        self.negative.accumulate(&other.negative, &add);
        Ok(Combined {
            resets_collide,
            bounds_reconciled,
        })
    }

    /// The hint of a sum of this one and one with `other`; and whether the two contradict each
    /// other.
    fn take_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, Unknown};
        let (hint, collide) = match (self.reset_hint, other) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.reset_hint = hint;
        collide
    }
}
