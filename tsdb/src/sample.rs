//! Samples as columns, and what becomes of those that cannot be stored.

use std::fmt;

/// The value of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A float, kept bit by bit (any NaN, the stale marker, negative zero).
    Float(f64),
}

/// The samples of a series as columns of equal length, in order of time, no timestamp twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Milliseconds since 1970.
    pub timestamps: Vec<i64>,
    /// Where known, when the counter of each sample began, milliseconds since 1970.
    pub start_timestamps: Option<Vec<i64>>,
    /// The values.
    pub values: Values,
}

/// A column of values of one kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Values {
    /// Floats.
    Floats(Vec<f64>),
}

/// What became of a committed batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accepted {
    /// Samples that are stored (or were there already with the same value).
    pub stored: u64,
    /// Samples that are not, by reason.
    pub rejected: Vec<Rejected>,
}

/// Samples of one batch that were refused for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// The first of them: its labels and timestamp.
    pub example: String,
}

/// Why a sample was refused. `Display` uses Prometheus' words where it has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Its timestamp lies before the retention.
    TooOld,
    /// Its timestamp lies further ahead of the clock than `Config::future_max`.
    TooFarInFuture,
    /// The series has another value at this timestamp.
    DuplicateTimestamp,
    /// The reference of the series has ended: append by its labels.
    UnknownReference,
    /// The labels of the series are not UTF-8.
    InvalidLabels,
    /// The labels of the series have more bytes than
    /// [`LABELS_BYTES_MAX`](crate::LABELS_BYTES_MAX).
    LabelsTooLong,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooOld => "too old sample",
            Self::TooFarInFuture => "out of bounds: too far in the future",
            Self::DuplicateTimestamp => "duplicate sample for timestamp",
            Self::UnknownReference => "unknown series reference",
            Self::InvalidLabels => "labels are not UTF-8",
            Self::LabelsTooLong => "labels are too long",
        })
    }
}

impl Accepted {
    /// Counts one refused sample; `example` is only asked for the first of a reason.
    pub(crate) fn reject(&mut self, reason: Reason, example: impl FnOnce() -> String) {
        self.reject_many(reason, 1, example);
    }

    /// Counts `count` refused samples.
    pub(crate) fn reject_many(
        &mut self,
        reason: Reason,
        count: u64,
        example: impl FnOnce() -> String,
    ) {
        match self
            .rejected
            .iter_mut()
            .find(|rejected| rejected.reason == reason)
        {
            Some(rejected) => rejected.count += count,
            None => self.rejected.push(Rejected {
                reason,
                count,
                example: example(),
            }),
        }
    }
}
