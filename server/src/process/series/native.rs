//! A native histogram that is being counted: buckets that grow by a factor, made wider when there are
//! too many. `series` has one for each histogram of a row where they are asked for.

use std::collections::BTreeMap;

use trine_tsdb::{Buckets, Histogram, Span};

/// The finest and the coarsest schema that is chosen.
const SCHEMAS: [i8; 2] = [-4, 8];

/// What is this near to zero is in the zero bucket: 2^-128, as client libraries have it.
const ZERO_THRESHOLD: f64 = f64::from_bits(0x37f0_0000_0000_0000);

/// Counts by bucket.
#[derive(Debug, Clone)]
pub(super) struct Native {
    schema: i8,
    zero: f64,
    count: f64,
    sum: f64,
    buckets: BTreeMap<i32, f64>,
}

/// The coarsest schema whose buckets grow by no more than `factor`.
pub(in crate::process) fn schema_of(factor: f64) -> i8 {
    let [coarsest, finest] = SCHEMAS;
    let schema = -factor.log2().log2().floor();
    if schema.is_nan() {
        return coarsest;
    }
    schema.clamp(coarsest.into(), finest.into()) as i8
}

impl Native {
    /// Nothing yet.
    pub(super) fn new(schema: i8) -> Self {
        Self {
            schema,
            zero: 0.0,
            count: 0.0,
            sum: 0.0,
            buckets: BTreeMap::new(),
        }
    }

    /// Counts a number that is not below zero.
    pub(super) fn observe(&mut self, number: f64, weight: f64, buckets_max: usize) {
        self.count += weight;
        self.sum += number * weight;
        if number <= ZERO_THRESHOLD {
            self.zero += weight;
            return;
        }
        // A bucket holds what is above `2^((i - 1) * 2^-schema)` and not above `2^(i * 2^-schema)`.
        let bucket = (number.log2() * f64::from(self.schema).exp2()).ceil() as i32;
        *self.buckets.entry(bucket).or_insert(0.0) += weight;
        while self.buckets.len() > buckets_max && self.schema > SCHEMAS[0] {
            self.widen();
        }
    }

    /// Makes one bucket of every two.
    fn widen(&mut self) {
        self.schema -= 1;
        for (bucket, count) in std::mem::take(&mut self.buckets) {
            // Rounded up, as bounds are above.
            let wider = bucket.div_euclid(2) + bucket.rem_euclid(2);
            *self.buckets.entry(wider).or_insert(0.0) += count;
        }
    }

    /// As a sample.
    pub(super) fn histogram(&self) -> Histogram {
        let mut spans: Vec<Span> = Vec::new();
        let mut next = 0;
        for &bucket in self.buckets.keys() {
            match spans.last_mut() {
                Some(span) if bucket == next => span.length += 1,
                _ => spans.push(Span {
                    offset: bucket - next,
                    length: 1,
                }),
            }
            next = bucket + 1;
        }
        let counts = self.buckets.values().copied();
        let whole = |count: f64| count.fract() == 0.0;
        let buckets = if whole(self.zero) && whole(self.count) && counts.clone().all(whole) {
            Buckets::Integer {
                zero_count: self.zero as u64,
                count: self.count as u64,
                positive: counts.map(|count| count as i64).collect(),
                negative: Vec::new(),
            }
        } else {
            Buckets::Float {
                zero_count: self.zero,
                count: self.count,
                positive: counts.collect(),
                negative: Vec::new(),
            }
        };
        Histogram {
            schema: self.schema,
            zero_threshold: ZERO_THRESHOLD,
            sum: self.sum,
            buckets,
            positive_spans: spans,
            ..Histogram::default()
        }
    }

    /// As a sample of the time before anything was counted.
    pub(super) fn nothing(&self) -> Histogram {
        Self::new(self.schema).histogram()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_a_schema() {
        for (factor, schema) in [
            (1.1, 3),
            (1.091, 3),
            (1.05, 4),
            (1.001, 8),
            (2.0, 0),
            (4.0, -1),
            (1e9, -4),
            (f64::INFINITY, -4),
        ] {
            assert_eq!(schema_of(factor), schema, "{factor}");
        }
        assert_eq!(ZERO_THRESHOLD, f64::from(2).powi(-128));
    }

    #[test]
    fn numbers_lie_in_the_bucket_that_ends_at_or_above_them() {
        let mut native = Native::new(0);
        for number in [0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 9.0] {
            native.observe(number, 1.0, 100);
        }
        let histogram = native.histogram();
        assert_eq!(histogram.validate(), Ok(()));
        assert_eq!(histogram.count(), 7.0);
        assert_eq!(histogram.sum, 14.75);
        let buckets: Vec<_> = histogram.positive_buckets().collect();
        assert_eq!(buckets, [(-1, 1.0), (0, 2.0), (1, 2.0), (4, 1.0)]);
        native.observe(0.5, 0.5, 100);
        let histogram = native.histogram();
        assert_eq!(histogram.validate(), Ok(()));
        assert_eq!(histogram.count(), 7.5);
        assert_eq!(native.nothing().validate(), Ok(()));
    }

    #[test]
    fn too_many_buckets_become_wider_ones() {
        let mut native = Native::new(3);
        for k in 0..200 {
            native.observe(1.001 * (f64::from(k) / 8.0).exp2(), 1.0, 100);
            assert!(native.buckets.len() <= 100);
        }
        assert_eq!(native.schema, 2);
        let histogram = native.histogram();
        assert_eq!(histogram.validate(), Ok(()));
        assert!(histogram.positive_buckets().all(|(_, count)| count == 2.0));
    }
}
