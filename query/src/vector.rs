//! Step vectors: the values that PromQL and the metric half of LogQL compute with, one series over
//! all steps of a query at a time, and their operators and aggregations.
//!
//! An instant query is a range query of one step. A step at which a series has no value holds
//! [`ABSENT`]. Everything here is pure: no source, no clock, no positions.

mod aggregate;
mod arithmetic;
mod binary;
mod error;
pub mod histogram;
mod join;
pub(crate) mod kahan;
mod limit;
mod operation;
mod ranking;
mod series;

use trine_storage::Labels;

pub use aggregate::{AggregateNotes, AggregateOp, Aggregator, Grouping, Parameter};
pub use arithmetic::{Arithmetic, BinaryOp, Comparison};
pub use binary::{ScalarSide, binary, binary_scalar};
pub use error::{Side, VectorError};
pub use histogram::Histogram;
pub use join::{Cardinality, Fill, MatchLabels, Matching};
pub use operation::{BinaryNotes, Operation, ValueKind};
pub use ranking::quantile;
pub(crate) use series::Merged;
pub use series::{Histograms, StepSeries, merge_equal_labels};

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

#[cfg(test)]
mod tests;
