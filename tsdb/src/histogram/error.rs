//! Why a histogram is refused, in the words that Prometheus has for it, so that what its users
//! search for is found.

use std::fmt;

use super::{BUCKETS_MAX, CUSTOM_SCHEMA, SCHEMA_MAX, SCHEMA_MIN};

/// Why a histogram is refused.
///
/// ```
/// use trine_tsdb::{HistogramError, Side};
///
/// let error = HistogramError::SpansMismatch { side: Side::Negative, spans: 2, buckets: 1 };
/// assert_eq!(
///     error.to_string(),
///     "negative side: spans need 2 buckets, have 1 buckets: \
///      histogram spans specify different number of buckets than provided"
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HistogramError {
    /// The schema is none that exists. Wider than the field, for schemas that do not fit it.
    UnknownSchema(i32),
    /// A span other than the first (or any span of custom buckets) has a negative offset.
    NegativeOffset {
        /// Where.
        side: Side,
        /// Which span, from 1.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// A span reaches beyond the indices that exist.
    IndexOverflow {
        /// Where.
        side: Side,
        /// Which span, from 1.
        span: usize,
    },
    /// The spans have another number of buckets than there are counts.
    SpansMismatch {
        /// Where.
        side: Side,
        /// Buckets of the spans.
        spans: u64,
        /// Counts.
        buckets: usize,
    },
    /// A bucket has a negative count.
    NegativeBucket {
        /// Where.
        side: Side,
        /// Which bucket, from 1.
        bucket: usize,
        /// Its count.
        count: f64,
    },
    /// A zero bucket has a negative count.
    NegativeZeroCount(f64),
    /// The count of all observations is negative.
    NegativeCount(f64),
    /// The integer counts of the buckets do not add up to the count.
    CountMismatch {
        /// Observations in buckets.
        found: u64,
        /// The count.
        count: u64,
    },
    /// The buckets hold more than the count, of integers where the sum is NaN.
    CountTooSmall {
        /// Observations in buckets.
        found: u64,
        /// The count.
        count: u64,
    },
    /// Integer counts add up to more than fits.
    CountOverflow,
    /// The zero threshold is negative or NaN.
    ZeroThreshold(f64),
    /// Too few custom bounds for the spans.
    BoundsTooFew {
        /// How many bounds there are.
        bounds: usize,
        /// How many buckets the spans reach over.
        reach: u64,
    },
    /// Custom bounds that do not rise.
    BoundsNotRising {
        /// The bound before.
        previous: f64,
        /// The bound that is not above it.
        current: f64,
    },
    /// An infinite custom bound.
    BoundInfinite(f64),
    /// A custom bound that is not a number.
    BoundNaN,
    /// Custom buckets with a zero count.
    CustomZeroCount,
    /// Custom buckets with a zero threshold.
    CustomZeroThreshold,
    /// Custom buckets with negative spans.
    CustomNegativeSpans,
    /// Custom buckets with negative buckets.
    CustomNegativeBuckets,
    /// Custom bounds with an exponential schema.
    BoundsOfExponential,
    /// More buckets than are accepted, and no coarser schema to reduce them to.
    TooManyBuckets {
        /// How many.
        buckets: usize,
        /// How many are accepted.
        max: usize,
    },
    /// More spans or custom bounds than [`BUCKETS_MAX`].
    TooManySpans(usize),
}

/// Which buckets an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Those above zero.
    Positive,
    /// Those below zero.
    Negative,
    /// Those with custom bounds.
    Custom,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Positive => "positive side",
            Self::Negative => "negative side",
            Self::Custom => "custom buckets",
        })
    }
}

const TOO_SMALL: &str = "histogram's observation count should be at least the number of \
                         observations found in the buckets";

impl fmt::Display for HistogramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSchema(schema) => write!(
                f,
                "histogram has an invalid schema, which must be between {SCHEMA_MIN} and \
                 {SCHEMA_MAX} for exponential buckets, or {CUSTOM_SCHEMA} for custom buckets, \
                 got schema {schema}"
            ),
            Self::NegativeOffset { side, span, offset } => write!(
                f,
                "{side}: span number {span} with offset {offset}: \
                 histogram has a span whose offset is negative"
            ),
            Self::IndexOverflow { side, span } => write!(
                f,
                "{side}: span number {span} reaches beyond the largest bucket index"
            ),
            Self::SpansMismatch {
                side,
                spans,
                buckets,
            } => write!(
                f,
                "{side}: spans need {spans} buckets, have {buckets} buckets: \
                 histogram spans specify different number of buckets than provided"
            ),
            Self::NegativeBucket {
                side,
                bucket,
                count,
            } => write!(
                f,
                "{side}: bucket number {bucket} has observation count of {count}: \
                 histogram has a bucket whose observation count is negative"
            ),
            Self::NegativeZeroCount(count) => write!(
                f,
                "zero bucket has observation count of {count}: \
                 histogram has a bucket whose observation count is negative"
            ),
            Self::NegativeCount(count) => write!(
                f,
                "the Count field is {count}: histogram's observation count is negative"
            ),
            Self::CountMismatch { found, count } => write!(
                f,
                "{found} observations found in buckets, but the Count field is {count}: \
                 histogram's observation count should equal the number of observations found in \
                 the buckets (in absence of NaN)"
            ),
            Self::CountTooSmall { found, count } => write!(
                f,
                "{found} observations found in buckets, but the Count field is {count}: {TOO_SMALL}"
            ),
            Self::CountOverflow => {
                f.write_str("the observations found in the buckets are too many to count")
            }
            Self::ZeroThreshold(threshold) => write!(
                f,
                "histogram has a zero threshold of {threshold}, which must not be negative or NaN"
            ),
            Self::BoundsTooFew { bounds, reach } => write!(
                f,
                "custom buckets: only {bounds} custom bounds defined which is insufficient to \
                 cover total span length of {reach}: histogram custom bounds are too few"
            ),
            Self::BoundsNotRising { previous, current } => write!(
                f,
                "custom buckets: previous bound is {previous:.6} and current is {current:.6}: \
                 histogram custom bounds must be in strictly increasing order"
            ),
            Self::BoundInfinite(bound) if *bound > 0.0 => f.write_str(
                "custom buckets: last +Inf bound must not be explicitly defined: \
                 histogram custom bounds must be finite",
            ),
            Self::BoundInfinite(_) => {
                f.write_str("custom buckets: histogram custom bounds must be finite")
            }
            Self::BoundNaN => {
                f.write_str("custom buckets: histogram custom bounds must not be NaN")
            }
            Self::CustomZeroCount => f.write_str("custom buckets: must have zero count of 0"),
            Self::CustomZeroThreshold => {
                f.write_str("custom buckets: must have zero threshold of 0")
            }
            Self::CustomNegativeSpans => {
                f.write_str("custom buckets: must not have negative spans")
            }
            Self::CustomNegativeBuckets => {
                f.write_str("custom buckets: must not have negative buckets")
            }
            Self::BoundsOfExponential => {
                f.write_str("histogram with exponential schema must not have custom bounds")
            }
            Self::TooManyBuckets { buckets, max } => write!(
                f,
                "histogram has {buckets} buckets, more than {max}, and cannot be reduced to fewer"
            ),
            Self::TooManySpans(number) => write!(
                f,
                "histogram has {number} spans or custom bounds, more than {BUCKETS_MAX}"
            ),
        }
    }
}

impl std::error::Error for HistogramError {}
