//! Native histograms: a whole distribution as the value of one sample. The appender checks them
//! ([`Histogram::fitted`]), the head and the blocks store them bit by bit (`chunk`, `run`; see
//! `FORMAT.md`, "Histogram chunk" and "Histogram run"), queries read them.
//!
//! Nothing here computes with histograms beyond what storing them takes.

use std::mem::size_of;

#[cfg(test)]
pub(crate) mod arbitrary;
mod chunk;
mod column;
mod error;
mod form;
mod number;
mod resolution;
mod run;
mod validate;

pub use chunk::decode_histograms;
pub(crate) use chunk::{HistogramEncoder, first_timestamp};
pub use error::{HistogramError, Side};
pub use run::decode_run;
pub(crate) use run::encode_run;

/// The most buckets, spans or custom bounds of a histogram that any format here holds. What is
/// accepted at all is usually less: see [`Histogram::fitted`].
pub const BUCKETS_MAX: usize = 16_384;

/// The schema of histograms with custom bounds.
pub const CUSTOM_SCHEMA: i8 = -53;

/// The coarsest and the finest exponential schema that are stored.
pub const SCHEMA_MIN: i8 = -4;
/// See [`SCHEMA_MIN`].
pub const SCHEMA_MAX: i8 = 8;

/// The finest exponential schema that is understood: those above [`SCHEMA_MAX`] are reduced to it.
pub const SCHEMA_RESERVED_MAX: i8 = 52;

/// The bits of the sum of a histogram that says that its series ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// A distribution of observations: how many fell into each bucket.
///
/// With an exponential schema `n` (-4 to 8) bucket `i` of the positive side holds observations in
/// `(b^(i-1), b^i]` where `b` is 2 to the power of 2^-n; the negative side mirrors it, and the zero
/// bucket holds those up to `zero_threshold` from zero. With [`CUSTOM_SCHEMA`] bucket `i` holds
/// those up to `custom_values[i]` and above the bound before it; the one after the last bound holds
/// the rest.
///
/// Only buckets within spans exist, in memory too. Counts are absolute.
///
/// ```
/// use trine_tsdb::{Buckets, Histogram, ResetHint, Span};
///
/// // Three observations in (1, 2], one in (4, 8].
/// let histogram = Histogram {
///     schema: 0,
///     reset_hint: ResetHint::Unknown,
///     zero_threshold: 1e-128,
///     sum: 10.5,
///     buckets: Buckets::Integer {
///         zero_count: 0,
///         count: 4,
///         positive: vec![3, 1],
///         negative: vec![],
///     },
///     positive_spans: vec![Span { offset: 1, length: 1 }, Span { offset: 1, length: 1 }],
///     negative_spans: vec![],
///     custom_values: vec![],
/// };
/// assert_eq!(histogram.validate(), Ok(()));
/// assert_eq!(histogram.count(), 4.0);
/// let buckets: Vec<(i32, f64)> = histogram.positive_buckets().collect();
/// assert_eq!(buckets, [(1, 3.0), (3, 1.0)]);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// How fine the buckets are: -4 to 8, or [`CUSTOM_SCHEMA`]. Up to 52 before it was fitted.
    pub schema: i8,
    /// What is known of a counter reset between the sample before and this one.
    pub reset_hint: ResetHint,
    /// Observations this near to zero are in the zero bucket. 0 with custom bounds.
    pub zero_threshold: f64,
    /// The sum of all observations; a special NaN marks the end of the series.
    pub sum: f64,
    /// The counts.
    pub buckets: Buckets,
    /// Which buckets above zero, or of those with custom bounds, exist.
    pub positive_spans: Vec<Span>,
    /// Which buckets below zero exist. Empty with custom bounds.
    pub negative_spans: Vec<Span>,
    /// Upper bounds, rising and finite. Empty with exponential schemas.
    pub custom_values: Vec<f64>,
}

/// Counts of observations, one for each bucket of the spans in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Buckets {
    /// Whole observations: what an instrumented program counts.
    Integer {
        /// Observations in the zero bucket.
        zero_count: u64,
        /// All observations, those that were not a number too.
        count: u64,
        /// Above zero, or with custom bounds.
        positive: Vec<i64>,
        /// Below zero.
        negative: Vec<i64>,
    },
    /// Fractions of observations: what a rule computed.
    Float {
        /// Observations in the zero bucket.
        zero_count: f64,
        /// All observations, those that were not a number too.
        count: f64,
        /// Above zero, or with custom bounds.
        positive: Vec<f64>,
        /// Below zero.
        negative: Vec<f64>,
    },
}

/// Neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// For the first span the index of its first bucket, else how many buckets lie between the span
    /// before and this one.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
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

impl Histogram {
    /// The integer histogram that marks the end of a series.
    ///
    /// ```
    /// assert!(trine_tsdb::Histogram::stale().is_stale());
    /// ```
    pub fn stale() -> Self {
        Self {
            sum: f64::from_bits(STALE),
            ..Self::default()
        }
    }

    /// Whether it marks the end of a series.
    pub fn is_stale(&self) -> bool {
        self.sum.to_bits() == STALE
    }

    /// Whether the schema is one of custom bounds.
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// All observations. Integers above 2^53 are rounded.
    pub fn count(&self) -> f64 {
        match &self.buckets {
            Buckets::Integer { count, .. } => *count as f64,
            Buckets::Float { count, .. } => *count,
        }
    }

    /// Index and count of each bucket above zero (or with custom bounds), by rising index, empty
    /// ones within spans included.
    pub fn positive_buckets(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        indices(&self.positive_spans).zip(self.buckets.positive())
    }

    /// Index and count of each bucket below zero, by rising index, so from zero downwards.
    pub fn negative_buckets(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        indices(&self.negative_spans).zip(self.buckets.negative())
    }

    /// Whether both are equal bit by bit, whatever NaNs they hold.
    ///
    /// ```
    /// use trine_tsdb::Histogram;
    ///
    /// let stale = Histogram::stale();
    /// assert!(stale.same_bits(&stale) && stale != stale);
    /// ```
    pub fn same_bits(&self, other: &Self) -> bool {
        self.reset_hint == other.reset_hint && self.layout_eq(other) && self.same_values(other)
    }

    /// Whether both have the same buckets, and counts of one kind in them.
    pub fn layout_eq(&self, other: &Self) -> bool {
        self.same_scale(other)
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
    }

    /// Bytes in memory, those of the struct included.
    pub fn heap_bytes(&self) -> usize {
        let spans = self.positive_spans.capacity() + self.negative_spans.capacity();
        let counts = match &self.buckets {
            Buckets::Integer {
                positive, negative, ..
            } => positive.capacity() + negative.capacity(),
            Buckets::Float {
                positive, negative, ..
            } => positive.capacity() + negative.capacity(),
        };
        size_of::<Self>()
            + spans * size_of::<Span>()
            + (counts + self.custom_values.capacity()) * size_of::<u64>()
    }

    /// Whether an index means the same bucket in both, and counts are of one kind.
    fn same_scale(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && same_floats(&self.custom_values, &other.custom_values)
            && self.buckets.is_integer() == other.buckets.is_integer()
    }

    /// Whether all counts and the sum are equal bit by bit, the layout being the same.
    fn same_values(&self, other: &Self) -> bool {
        self.sum.to_bits() == other.sum.to_bits() && self.buckets.same_bits(&other.buckets)
    }
}

impl Default for Buckets {
    /// Integers, no observation.
    fn default() -> Self {
        Self::Integer {
            zero_count: 0,
            count: 0,
            positive: Vec::new(),
            negative: Vec::new(),
        }
    }
}

impl Buckets {
    /// Whether the counts are integers.
    pub fn is_integer(&self) -> bool {
        matches!(self, Self::Integer { .. })
    }

    /// How many buckets there are, without the zero bucket.
    pub fn len(&self) -> usize {
        match self {
            Self::Integer {
                positive, negative, ..
            } => positive.len() + negative.len(),
            Self::Float {
                positive, negative, ..
            } => positive.len() + negative.len(),
        }
    }

    /// Whether there is no bucket but the zero bucket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn positive(&self) -> Counts<'_> {
        match self {
            Self::Integer { positive, .. } => Counts::Integer(positive.iter()),
            Self::Float { positive, .. } => Counts::Float(positive.iter()),
        }
    }

    fn negative(&self) -> Counts<'_> {
        match self {
            Self::Integer { negative, .. } => Counts::Integer(negative.iter()),
            Self::Float { negative, .. } => Counts::Float(negative.iter()),
        }
    }

    fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer { .. }, Self::Integer { .. }) => self == other,
            (
                Self::Float {
                    zero_count,
                    count,
                    positive,
                    negative,
                },
                Self::Float {
                    zero_count: other_zero,
                    count: other_count,
                    positive: other_positive,
                    negative: other_negative,
                },
            ) => {
                same_floats(&[*zero_count, *count], &[*other_zero, *other_count])
                    && same_floats(positive, other_positive)
                    && same_floats(negative, other_negative)
            }
            _ => false,
        }
    }
}

/// The counts of one side as floats.
#[derive(Debug)]
enum Counts<'a> {
    Integer(std::slice::Iter<'a, i64>),
    Float(std::slice::Iter<'a, f64>),
}

impl Iterator for Counts<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        match self {
            Self::Integer(counts) => counts.next().map(|count| *count as f64),
            Self::Float(counts) => counts.next().copied(),
        }
    }
}

/// The index of each bucket of `spans`.
fn indices(spans: &[Span]) -> impl Iterator<Item = i32> + '_ {
    let mut next = 0i32;
    spans.iter().flat_map(move |span| {
        // Indices of a validated histogram never wrap.
        let start = next.wrapping_add(span.offset);
        next = start.wrapping_add_unsigned(span.length);
        (0..span.length).map(move |place| start.wrapping_add_unsigned(place))
    })
}

fn same_floats(left: &[f64], right: &[f64]) -> bool {
    let bits = f64::to_bits;
    left.iter()
        .copied()
        .map(bits)
        .eq(right.iter().copied().map(bits))
}

#[cfg(test)]
mod tests;
