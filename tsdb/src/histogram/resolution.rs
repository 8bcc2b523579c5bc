//! Coarser exponential histograms: neighbouring buckets merged. For histograms that are too fine
//! to be stored.

use super::{Buckets, Histogram, HistogramError, Span, indices};

impl Histogram {
    /// The same observations in the buckets of the exponential schema `to`; unchanged when that is
    /// not coarser, or when the histogram has custom bounds.
    ///
    /// # Errors
    /// [`HistogramError::CountOverflow`] when the integer counts of merged buckets do not fit.
    ///
    /// ```
    /// use trine_tsdb::{Buckets, Histogram, Span};
    ///
    /// let fine = Histogram {
    ///     schema: 1,
    ///     buckets: Buckets::Integer {
    ///         zero_count: 0,
    ///         count: 6,
    ///         positive: vec![1, 2, 3],
    ///         negative: vec![],
    ///     },
    ///     positive_spans: vec![Span { offset: 1, length: 3 }],
    ///     ..Histogram::default()
    /// };
    /// let buckets: Vec<_> = fine.reduce_resolution(0)?.positive_buckets().collect();
    /// assert_eq!(buckets, [(1, 3.0), (2, 3.0)]);
    /// # Ok::<(), trine_tsdb::HistogramError>(())
    /// ```
    pub fn reduce_resolution(&self, to: i8) -> Result<Self, HistogramError> {
        if self.has_custom_bounds() || to >= self.schema {
            return Ok(self.clone());
        }
        // At most 52 - -128, so that the shift below is capped: an index has but 32 bits.
        let halvings = (i32::from(self.schema) - i32::from(to)).clamp(0, 63);
        let coarse = |index: i32| ((i64::from(index) - 1) >> halvings) + 1;
        let (buckets, positive_spans, negative_spans) = match &self.buckets {
            Buckets::Integer {
                zero_count,
                count,
                positive,
                negative,
            } => {
                let add = |sum: i64, count: i64| sum.checked_add(count);
                let above = merged(&self.positive_spans, positive, coarse, add)?;
                let below = merged(&self.negative_spans, negative, coarse, add)?;
                let buckets = Buckets::Integer {
                    zero_count: *zero_count,
                    count: *count,
                    positive: above.1,
                    negative: below.1,
                };
                (buckets, above.0, below.0)
            }
            Buckets::Float {
                zero_count,
                count,
                positive,
                negative,
            } => {
                let add = |sum: f64, count: f64| Some(sum + count);
                let above = merged(&self.positive_spans, positive, coarse, add)?;
                let below = merged(&self.negative_spans, negative, coarse, add)?;
                let buckets = Buckets::Float {
                    zero_count: *zero_count,
                    count: *count,
                    positive: above.1,
                    negative: below.1,
                };
                (buckets, above.0, below.0)
            }
        };
        Ok(Self {
            schema: to,
            reset_hint: self.reset_hint,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            buckets,
            positive_spans,
            negative_spans,
            custom_values: Vec::new(),
        })
    }
}

/// The spans and counts of one side after the buckets of one `coarse` index were added up.
fn merged<T: Copy>(
    spans: &[Span],
    counts: &[T],
    coarse: impl Fn(i32) -> i64,
    add: impl Fn(T, T) -> Option<T>,
) -> Result<(Vec<Span>, Vec<T>), HistogramError> {
    let mut merged_spans: Vec<Span> = Vec::new();
    let mut merged_counts: Vec<T> = Vec::new();
    // The index after the last bucket.
    let mut end = 0i64;
    for (index, &count) in indices(spans).map(coarse).zip(counts) {
        match (merged_spans.last_mut(), merged_counts.last_mut()) {
            (Some(_), Some(last)) if index < end => {
                *last = add(*last, count).ok_or(HistogramError::CountOverflow)?;
                continue;
            }
            (Some(span), _) if index == end => span.length += 1,
            _ => merged_spans.push(Span {
                // No coarse index is further from 0 than the fine one.
                offset: i32::try_from(index - end).unwrap_or(i32::MAX),
                length: 1,
            }),
        }
        merged_counts.push(count);
        end = index + 1;
    }
    Ok((merged_spans, merged_counts))
}
