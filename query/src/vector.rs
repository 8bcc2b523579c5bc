//! Step vectors: the values that PromQL and the metric half of LogQL compute with, one series over
//! all steps of a query at a time, and their operators and aggregations.
//!
//! An instant query is a range query of one step. A step at which a series has no value holds
//! [`ABSENT`]. Everything here is pure: no source, no clock, no positions.

mod aggregate;
mod arithmetic;
mod binary;
mod error;
mod join;
pub(crate) mod kahan;
mod limit;
mod ranking;

use std::collections::HashMap;

use trine_storage::Labels;

pub use aggregate::{AggregateOp, Aggregator, Grouping, Parameter};
pub use arithmetic::{Arithmetic, BinaryOp, Comparison};
pub use binary::{ScalarSide, binary, binary_scalar};
pub use error::{Side, VectorError};
pub use join::{Cardinality, Fill, MatchLabels, Matching};
pub use ranking::quantile;

/// No value at this step. It is the bit pattern of Prometheus' stale marker, which no computation
/// yields. Compare with [`is_absent`], never with `==` (it is a NaN).
pub const ABSENT: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Whether `value` is [`ABSENT`].
#[inline]
pub fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// Whether `name` says what a metric is rather than where it comes from. Such labels do not survive
/// a computation: its result is another metric.
pub fn is_metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// `labels` without the metric's name, type and unit.
#[must_use]
pub fn drop_name(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata_label(name)) {
        labels.filter(|name| !is_metadata_label(name))
    } else {
        labels.clone()
    }
}

/// One series over all steps of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSeries {
    /// The labels of the series.
    pub labels: Labels,
    /// One value a step, [`ABSENT`] where there is none.
    pub values: Vec<f64>,
}

impl StepSeries {
    /// The series `labels` with these values.
    pub fn new(labels: Labels, values: Vec<f64>) -> Self {
        Self { labels, values }
    }

    /// A series without any value.
    pub fn absent(labels: Labels, steps: usize) -> Self {
        Self {
            labels,
            values: vec![ABSENT; steps],
        }
    }

    /// Whether there is a value at some step.
    pub fn has_values(&self) -> bool {
        self.values.iter().any(|value| !is_absent(*value))
    }
}

/// Makes label sets unique: series with equal labels become one where no step has a value in both.
/// The order of first appearance is kept.
///
/// # Errors
/// [`VectorError::DuplicateLabels`] when two have a value at the same step.
pub fn merge_equal_labels(series: Vec<StepSeries>) -> Result<Vec<StepSeries>, VectorError> {
    let mut merged = Merged::with_capacity(series.len());
    for one in series {
        merged.push(one)?;
    }
    Ok(merged.into_series())
}

/// Series by unique labels, built one after the other.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    series: Vec<StepSeries>,
    by_labels: HashMap<Labels, usize>,
}

impl Merged {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            series: Vec::with_capacity(capacity),
            by_labels: HashMap::with_capacity(capacity),
        }
    }

    pub(crate) fn push(&mut self, new: StepSeries) -> Result<(), VectorError> {
        let next = self.series.len();
        let at = *self.by_labels.entry(new.labels.clone()).or_insert(next);
        let Some(old) = self.series.get_mut(at) else {
            self.series.push(new);
            return Ok(());
        };
        for (old, new) in old.values.iter_mut().zip(new.values) {
            if is_absent(new) {
                continue;
            }
            if !is_absent(*old) {
                return Err(VectorError::DuplicateLabels);
            }
            *old = new;
        }
        Ok(())
    }

    pub(crate) fn into_series(self) -> Vec<StepSeries> {
        self.series
    }
}

#[cfg(test)]
mod tests;
