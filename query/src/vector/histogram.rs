//! Histograms as PromQL computes with them: counts are floats, buckets lie in runs of neighbours.
//! The adapters of the stores make them, the evaluator, the operators and the aggregations compute
//! with them.

mod bounds;
mod buckets;

use std::mem::size_of;
use std::sync::Arc;

pub use bounds::Bucket;
pub use buckets::{Buckets, Span};

use super::is_absent;

/// The schema of histograms with custom bounds.
pub const CUSTOM_SCHEMA: i8 = -53;

/// A distribution of observations.
///
/// With an exponential schema `n` (-4 to 8) bucket `i` of the positive side holds the observations
/// in `(b^(i-1), b^i]` where `b` is 2 to the power of 2^-n; the negative side mirrors it, and the
/// zero bucket holds those up to `zero_threshold` from zero. With [`CUSTOM_SCHEMA`] bucket `i` holds
/// those up to `custom_values[i]` and above the bound before it; the one after the last bound holds
/// the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// How fine the buckets are: -4 to 8, or [`CUSTOM_SCHEMA`].
    pub schema: i8,
    /// What is known of a counter reset between the sample before and this one.
    pub reset_hint: ResetHint,
    /// Observations this near to zero are in the zero bucket. 0 with custom bounds.
    pub zero_threshold: f64,
    /// Observations in the zero bucket. 0 with custom bounds.
    pub zero_count: f64,
    /// All observations, those that were not a number too.
    pub count: f64,
    /// The sum of all observations; a special NaN marks the end of a series.
    pub sum: f64,
    /// The buckets above zero, or those with custom bounds.
    pub positive: Buckets,
    /// The buckets below zero. None with custom bounds.
    pub negative: Buckets,
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

impl Default for Histogram {
    /// No observation, schema 0.
    fn default() -> Self {
        Self {
            schema: 0,
            reset_hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Buckets::default(),
            negative: Buckets::default(),
            custom_values: Arc::default(),
        }
    }
}

impl Histogram {
    /// Whether it marks the end of a series.
    #[inline]
    pub fn is_stale(&self) -> bool {
        is_absent(self.sum)
    }

    /// Whether its bounds are custom ones.
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Bytes in memory, those of the struct included.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.positive.heap_bytes()
            + self.negative.heap_bytes()
            + self.custom_values.len() * size_of::<f64>()
    }
}
