//! Samples as columns, and what becomes of those that cannot be stored.

use std::fmt;
use std::sync::Arc;

use crate::histogram::Histogram;

/// The value of one sample.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A float, kept bit by bit (any NaN, the stale marker, negative zero).
    Float(f64),
    /// A native histogram, kept bit by bit.
    Histogram(Arc<Histogram>),
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Histogram> for Value {
    fn from(histogram: Histogram) -> Self {
        Self::Histogram(Arc::new(histogram))
    }
}

impl From<Arc<Histogram>> for Value {
    fn from(histogram: Arc<Histogram>) -> Self {
        Self::Histogram(histogram)
    }
}

impl Value {
    /// Whether both are equal bit by bit, whatever NaNs they hold.
    pub fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(one), Self::Float(other)) => one.to_bits() == other.to_bits(),
            (Self::Histogram(one), Self::Histogram(other)) => one.same_bits(other),
            _ => false,
        }
    }
}

/// The samples of a series as columns of equal length, in order of time, no timestamp twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Milliseconds since 1970.
    pub timestamps: Vec<i64>,
    /// When the counter of each sample began, milliseconds since 1970, 0 where that is not known.
    /// `None` when it is not known of any.
    pub start_timestamps: Option<Vec<i64>>,
    /// The values.
    pub values: Values,
}

/// A column of values.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Values {
    /// Floats.
    Floats(Vec<f64>),
    /// Native histograms; equal ones in a row may be one allocation.
    Histograms(Vec<Arc<Histogram>>),
    /// Both.
    Mixed(Vec<Value>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Histograms(values) => values.len(),
            Self::Mixed(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of row `at`.
    pub fn get(&self, at: usize) -> Option<Value> {
        match self {
            Self::Floats(values) => values.get(at).copied().map(Value::Float),
            Self::Histograms(values) => values.get(at).cloned().map(Value::Histogram),
            Self::Mixed(values) => values.get(at).cloned(),
        }
    }
}

/// What became of a committed batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accepted {
    /// Samples that are stored (or were there already with the same value).
    pub stored: u64,
    /// How many of those are native histograms.
    pub histograms: u64,
    /// Exemplars that are stored (or were there already).
    pub exemplars: u64,
    /// Samples, exemplars and metadata that are not, by reason.
    pub rejected: Vec<Rejected>,
}

/// What of one batch was refused for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// The first of them: its labels and timestamp.
    pub example: String,
}

/// Why a sample, an exemplar or metadata was refused. `Display` uses Prometheus' words where it has some.
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
    /// The histogram contradicts itself or has too many buckets; the example says how.
    InvalidHistogram,
    /// The labels of the exemplar have more characters than
    /// [`EXEMPLAR_LABELS_CHARS_MAX`](crate::EXEMPLAR_LABELS_CHARS_MAX).
    ExemplarTooLong,
    /// The metadata has more bytes than [`METADATA_BYTES_MAX`](crate::METADATA_BYTES_MAX).
    MetadataTooLong,
    /// The store has metadata of as many metrics as `Config::metadata_max`.
    TooMuchMetadata,
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
            Self::InvalidHistogram => "invalid histogram",
            Self::ExemplarTooLong => {
                "label length for exemplar exceeds maximum of 128 UTF-8 characters"
            }
            Self::MetadataTooLong => "metadata is too long",
            Self::TooMuchMetadata => "metadata of too many metrics",
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
