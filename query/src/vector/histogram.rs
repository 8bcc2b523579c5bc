//! Histograms as PromQL computes with them: counts are floats, buckets lie in runs of neighbours.
//! The adapters of the stores make them, the evaluator, the operators and the aggregations compute
//! with them.
//!
//! In reading order: `buckets` (runs of counts), `bounds` (where they lie), `align` (two histograms
//! in one form), `combine` (sums and differences), `running` (compensated sums and means),
//! `reset` (whether a counter began anew), `estimate` (quantiles, fractions, variance), `trim`,
//! `text`.

mod align;
mod bounds;
mod buckets;
mod combine;
mod estimate;
mod reset;
mod running;
mod text;
mod trim;

use std::mem::size_of;
use std::sync::Arc;

pub use bounds::Bucket;
pub use buckets::{Runs, Span};
pub use combine::{Combined, Incompatible};
pub use estimate::Estimate;
pub(crate) use running::{RunningMean, RunningSum};
pub use trim::Side as TrimSide;

use super::is_absent;
use super::kahan::Sum;

/// The schema of histograms with custom bounds.
pub const CUSTOM_SCHEMA: i8 = -53;

/// A distribution of observations, its counts being floats.
pub type Histogram = Distribution<f64>;

/// The buckets of one side of a histogram.
pub type Buckets = Runs<f64>;

/// A distribution of observations.
///
/// With an exponential schema `n` (-4 to 8) bucket `i` of the positive side holds the observations
/// in `(b^(i-1), b^i]` where `b` is 2 to the power of 2^-n; the negative side mirrors it, and the
/// zero bucket holds those up to `zero_threshold` from zero. With [`CUSTOM_SCHEMA`] bucket `i` holds
/// those up to `custom_values[i]` and above the bound before it; the one after the last bound holds
/// the rest.
///
/// `T` is what counts: a float, or a float with the error that sums of it have gathered.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution<T> {
    /// How fine the buckets are: -4 to 8, or [`CUSTOM_SCHEMA`].
    pub schema: i8,
    /// What is known of a counter reset between the sample before and this one.
    pub reset_hint: ResetHint,
    /// Observations this near to zero are in the zero bucket. 0 with custom bounds.
    pub zero_threshold: f64,
    /// Observations in the zero bucket. 0 with custom bounds.
    pub zero_count: T,
    /// All observations, those that were not a number too.
    pub count: T,
    /// The sum of all observations; a special NaN marks the end of a series.
    pub sum: T,
    /// The buckets above zero, or those with custom bounds.
    pub positive: Runs<T>,
    /// The buckets below zero. None with custom bounds.
    pub negative: Runs<T>,
    /// Upper bounds, rising and finite. Empty with exponential schemas. Shared, since the
    /// histograms of a series mostly have the same ones.
    pub custom_values: Arc<[f64]>,
}

/// What is known of a counter reset between the sample before and this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResetHint {
    /// Nothing: compare the two.
    #[default]
    Unknown,
    /// The counter was reset.
    Reset,
    /// The counter was not reset.
    NotReset,
    /// It is no counter, so that its counts may fall.
    Gauge,
}

/// A count that can be added up.
pub trait Cell: Copy + Default {
    /// The count.
    fn value(self) -> f64;
    /// Adds a float.
    fn add(&mut self, count: f64);
    /// Adds a count of the same kind.
    fn merge(&mut self, other: Self);
    /// Multiplies it.
    fn scale(&mut self, factor: f64);
}

impl Cell for f64 {
    #[inline]
    fn value(self) -> f64 {
        self
    }

    #[inline]
    fn add(&mut self, count: f64) {
        *self += count;
    }

    #[inline]
    fn merge(&mut self, other: Self) {
        *self += other;
    }

    #[inline]
    fn scale(&mut self, factor: f64) {
        *self *= factor;
    }
}

impl Cell for Sum {
    #[inline]
    fn value(self) -> f64 {
        Self::value(self)
    }

    #[inline]
    fn add(&mut self, count: f64) {
        Self::add(self, count);
    }

    #[inline]
    fn merge(&mut self, other: Self) {
        Self::merge(self, other);
    }

    #[inline]
    fn scale(&mut self, factor: f64) {
        Self::scale(self, factor);
    }
}

impl<T: Cell> Default for Distribution<T> {
    /// No observation, schema 0.
    fn default() -> Self {
        Self {
            schema: 0,
            reset_hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            zero_count: T::default(),
            count: T::default(),
            sum: T::default(),
            positive: Runs::default(),
            negative: Runs::default(),
            custom_values: Arc::default(),
        }
    }
}

impl<T: Cell> Distribution<T> {
    /// Whether its bounds are custom ones.
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Whether both have the same custom bounds.
    fn same_bounds<U>(&self, other: &Distribution<U>) -> bool {
        Arc::ptr_eq(&self.custom_values, &other.custom_values)
            || self.custom_values == other.custom_values
    }

    /// Multiplies all counts and the sum.
    fn scale_counts(&mut self, factor: f64) {
        for cell in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            cell.scale(factor);
        }
        self.positive.scale(factor);
        self.negative.scale(factor);
    }

    /// The same distribution with other cells.
    fn map<U: Cell>(&self, of: impl Fn(T) -> U + Copy) -> Distribution<U> {
        Distribution {
            schema: self.schema,
            reset_hint: self.reset_hint,
            zero_threshold: self.zero_threshold,
            zero_count: of(self.zero_count),
            count: of(self.count),
            sum: of(self.sum),
            positive: self.positive.map(of),
            negative: self.negative.map(of),
            custom_values: Arc::clone(&self.custom_values),
        }
    }
}

impl Histogram {
    /// Whether it marks the end of a series.
    #[inline]
    pub fn is_stale(&self) -> bool {
        is_absent(self.sum)
    }

    /// Whether it is a gauge, so that its counts may fall.
    pub fn is_gauge(&self) -> bool {
        self.reset_hint == ResetHint::Gauge
    }

    /// Bytes in memory, those of the struct included.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.positive.heap_bytes()
            + self.negative.heap_bytes()
            + self.custom_values.len() * size_of::<f64>()
    }

    /// Whether both are equal bit by bit, whatever NaNs they hold. What is known of counter resets
    /// is not compared.
    pub fn same_bits(&self, other: &Self) -> bool {
        let bits = |h: &Self| [h.zero_threshold, h.zero_count, h.count, h.sum].map(f64::to_bits);
        let same = |a: &[f64], b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        self.schema == other.schema
            && bits(self) == bits(other)
            && self.positive.spans() == other.positive.spans()
            && self.negative.spans() == other.negative.spans()
            && same(self.positive.counts(), other.positive.counts())
            && same(self.negative.counts(), other.negative.counts())
            && same(&self.custom_values, &other.custom_values)
    }

    /// Multiplies all counts and the sum. A negative factor makes a gauge of it.
    pub fn scale(&mut self, factor: f64) {
        self.scale_counts(factor);
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum. Of a division by zero no bucket is left but the zero bucket;
    /// a negative divisor makes a gauge of it.
    pub fn divide(&mut self, divisor: f64) {
        for cell in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            *cell /= divisor;
        }
        if divisor == 0.0 {
            self.positive = Buckets::default();
            self.negative = Buckets::default();
            return;
        }
        self.positive.change(|count| *count /= divisor);
        self.negative.change(|count| *count /= divisor);
        if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    /// Drops empty buckets.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }
}

#[cfg(test)]
mod tests;
