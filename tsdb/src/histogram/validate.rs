//! What a histogram must be like to be stored; the appender asks once for each.

use std::sync::Arc;

use super::{
    BUCKETS_MAX, Buckets, Histogram, HistogramError, SCHEMA_MAX, SCHEMA_MIN, SCHEMA_RESERVED_MAX,
    Side, Span,
};

impl Histogram {
    /// The histogram as it is stored: itself when it is valid, else one of lower resolution when
    /// its schema is finer than those stored or when it has more than `buckets_max` buckets.
    ///
    /// # Errors
    /// What is wrong with it; [`HistogramError::TooManyBuckets`] when it has too many buckets and
    /// no coarser schema.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use trine_tsdb::{Buckets, Histogram, Span};
    ///
    /// let fine = Arc::new(Histogram {
    ///     schema: 9,
    ///     sum: 6.0,
    ///     buckets: Buckets::Integer {
    ///         zero_count: 0,
    ///         count: 3,
    ///         positive: vec![1, 2],
    ///         negative: vec![],
    ///     },
    ///     positive_spans: vec![Span { offset: 511, length: 2 }],
    ///     ..Histogram::default()
    /// });
    /// let stored = fine.fitted(160)?;
    /// assert_eq!((stored.schema, stored.positive_buckets().next()), (8, Some((256, 3.0))));
    /// # Ok::<(), trine_tsdb::HistogramError>(())
    /// ```
    pub fn fitted(self: &Arc<Self>, buckets_max: usize) -> Result<Arc<Self>, HistogramError> {
        let is_finer = self.schema > SCHEMA_MAX && self.schema <= SCHEMA_RESERVED_MAX;
        let mut fitted = if is_finer {
            self.check_exponential()?;
            self.check_counts()?;
            Arc::new(self.reduce_resolution(SCHEMA_MAX)?)
        } else {
            self.validate()?;
            Arc::clone(self)
        };
        while fitted.buckets.len() > buckets_max {
            if fitted.has_custom_bounds() || fitted.schema == SCHEMA_MIN {
                return Err(HistogramError::TooManyBuckets {
                    buckets: fitted.buckets.len(),
                    max: buckets_max,
                });
            }
            fitted = Arc::new(fitted.reduce_resolution(fitted.schema - 1)?);
        }
        Ok(fitted)
    }

    /// Checks that the histogram makes sense and that the formats can hold it. A schema finer than
    /// [`SCHEMA_MAX`] is refused: [`Histogram::fitted`] reduces it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.has_custom_bounds() {
            self.check_custom()?;
        } else if (SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            self.check_exponential()?;
        } else {
            return Err(HistogramError::UnknownSchema(self.schema.into()));
        }
        self.check_counts()
    }

    fn check_exponential(&self) -> Result<(), HistogramError> {
        self.check_spans(Side::Positive)?;
        self.check_spans(Side::Negative)?;
        if !self.custom_values.is_empty() {
            return Err(HistogramError::BoundsOfExponential);
        }
        // Written so that NaN fails.
        if self.zero_threshold >= 0.0 {
            return Ok(());
        }
        Err(HistogramError::ZeroThreshold(self.zero_threshold))
    }

    fn check_custom(&self) -> Result<(), HistogramError> {
        check_bounds(&self.custom_values)?;
        let reach = self.check_spans(Side::Custom)?;
        let bounds = self.custom_values.len();
        // The bucket above the last bound needs no bound.
        if reach > bounds as u64 + 1 {
            return Err(HistogramError::BoundsTooFew { bounds, reach });
        }
        let (has_zero_count, negatives) = match &self.buckets {
            Buckets::Integer {
                zero_count,
                negative,
                ..
            } => (*zero_count != 0, negative.len()),
            Buckets::Float {
                zero_count,
                negative,
                ..
            } => (*zero_count != 0.0, negative.len()),
        };
        if has_zero_count {
            return Err(HistogramError::CustomZeroCount);
        }
        if self.zero_threshold != 0.0 {
            return Err(HistogramError::CustomZeroThreshold);
        }
        if !self.negative_spans.is_empty() {
            return Err(HistogramError::CustomNegativeSpans);
        }
        if negatives > 0 {
            return Err(HistogramError::CustomNegativeBuckets);
        }
        Ok(())
    }

    /// Checks the spans of a side, and that there are as many counts; how many buckets they reach
    /// over from the one with index 0, where none has a negative index.
    fn check_spans(&self, side: Side) -> Result<u64, HistogramError> {
        let spans = match side {
            Side::Positive | Side::Custom => &self.positive_spans,
            Side::Negative => &self.negative_spans,
        };
        let buckets = match (&self.buckets, side) {
            (Buckets::Integer { negative, .. }, Side::Negative) => negative.len(),
            (Buckets::Float { negative, .. }, Side::Negative) => negative.len(),
            (Buckets::Integer { positive, .. }, _) => positive.len(),
            (Buckets::Float { positive, .. }, _) => positive.len(),
        };
        let shape = check_shape(spans, side)?;
        if shape.buckets != buckets as u64 {
            return Err(HistogramError::SpansMismatch {
                side,
                spans: shape.buckets,
                buckets,
            });
        }
        Ok(shape.reach)
    }

    fn check_counts(&self) -> Result<(), HistogramError> {
        if self.buckets.len() > BUCKETS_MAX {
            return Err(HistogramError::TooManyBuckets {
                buckets: self.buckets.len(),
                max: BUCKETS_MAX,
            });
        }
        let side = if self.has_custom_bounds() {
            Side::Custom
        } else {
            Side::Positive
        };
        check_not_negative(self.buckets.negative(), Side::Negative)?;
        check_not_negative(self.buckets.positive(), side)?;
        match &self.buckets {
            Buckets::Integer {
                zero_count,
                count,
                positive,
                negative,
            } => {
                let found = positive
                    .iter()
                    .chain(negative)
                    .try_fold(*zero_count, |sum, count| sum.checked_add_signed(*count))
                    .ok_or(HistogramError::CountOverflow)?;
                self.check_integer_count(found, *count)
            }
            Buckets::Float {
                zero_count, count, ..
            } => check_float_counts(*zero_count, *count),
        }
    }

    /// Observations that are not a number are in no bucket, and make the sum NaN.
    fn check_integer_count(&self, found: u64, count: u64) -> Result<(), HistogramError> {
        if self.sum.is_nan() && found > count {
            return Err(HistogramError::CountTooSmall { found, count });
        }
        if !self.sum.is_nan() && found != count {
            return Err(HistogramError::CountMismatch { found, count });
        }
        Ok(())
    }
}

/// Floats come from arithmetic that rounds, so that what the buckets add up to says nothing.
fn check_float_counts(zero_count: f64, count: f64) -> Result<(), HistogramError> {
    if zero_count < 0.0 {
        return Err(HistogramError::NegativeZeroCount(zero_count));
    }
    if count < 0.0 {
        return Err(HistogramError::NegativeCount(count));
    }
    Ok(())
}

/// What spans amount to.
pub(super) struct Shape {
    /// How many buckets they have.
    pub(super) buckets: u64,
    /// One more than the index of the last bucket, where no index is negative.
    reach: u64,
}

/// Checks spans by themselves. The decoders ask too, so that no reader meets an index that wraps.
pub(super) fn check_shape(spans: &[Span], side: Side) -> Result<Shape, HistogramError> {
    if spans.len() > BUCKETS_MAX {
        return Err(HistogramError::TooManySpans(spans.len()));
    }
    let (mut buckets, mut index) = (0u64, 0i64);
    for (place, span) in spans.iter().enumerate() {
        if span.offset < 0 && (place > 0 || side == Side::Custom) {
            return Err(HistogramError::NegativeOffset {
                side,
                span: place + 1,
                offset: span.offset,
            });
        }
        buckets += u64::from(span.length);
        index += i64::from(span.offset) + i64::from(span.length);
        if i32::try_from(index).is_err() {
            return Err(HistogramError::IndexOverflow {
                side,
                span: place + 1,
            });
        }
    }
    Ok(Shape {
        buckets,
        reach: u64::try_from(index).unwrap_or(0),
    })
}

fn check_bounds(bounds: &[f64]) -> Result<(), HistogramError> {
    if bounds.len() > BUCKETS_MAX {
        return Err(HistogramError::TooManySpans(bounds.len()));
    }
    let mut previous = None;
    for &current in bounds {
        if current.is_nan() {
            return Err(HistogramError::BoundNaN);
        }
        if let Some(previous) = previous.filter(|previous| current <= *previous) {
            return Err(HistogramError::BoundsNotRising { previous, current });
        }
        if current.is_infinite() {
            return Err(HistogramError::BoundInfinite(current));
        }
        previous = Some(current);
    }
    Ok(())
}

fn check_not_negative(counts: impl Iterator<Item = f64>, side: Side) -> Result<(), HistogramError> {
    match counts.enumerate().find(|(_, count)| *count < 0.0) {
        Some((place, count)) => Err(HistogramError::NegativeBucket {
            side,
            bucket: place + 1,
            count,
        }),
        None => Ok(()),
    }
}
