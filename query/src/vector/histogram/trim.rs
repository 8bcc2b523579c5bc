//! `</` and `>/`: what of a histogram lies on one side of a number.

use super::estimate::geometric_mean;
use super::{Bucket, Buckets, Histogram};

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What lies below the threshold.
    Below,
    /// What lies above it.
    Above,
}

/// What is kept of a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    Whole,
    Nothing,
    /// This part of it, which lies between these bounds.
    Part(f64, (f64, f64)),
}

impl Histogram {
    /// The observations on one side of `threshold`. A bucket in which it lies is split, as if the
    /// observations were spread evenly. Where something was cut off, the sum is estimated from
    /// what is left.
    #[must_use]
    pub fn trimmed(&self, side: Side, threshold: f64) -> Self {
        let mut cut = Cut {
            of: self,
            side,
            threshold,
            count: 0.0,
            sum: 0.0,
            lost: false,
        };
        let zero = self.one_sided(self.zero_bucket());
        let zero_count = cut.take(zero);
        let mut negative = Buckets::default();
        for (index, count) in self.negative.iter() {
            let kept = cut.take(self.bucket(index, count).mirrored());
            negative.push_filled(index, kept);
        }
        let mut positive = Buckets::default();
        for (index, count) in self.positive.iter() {
            let kept = cut.take(self.bucket(index, count));
            positive.push_filled(index, kept);
        }
        if !cut.lost {
            return self.clone();
        }
        Self {
            zero_count,
            count: cut.count,
            sum: cut.sum,
            positive,
            negative,
            custom_values: self.custom_values.clone(),
            ..*self
        }
    }

    fn kept(&self, bucket: Bucket, side: Side, threshold: f64) -> Kept {
        if threshold.is_nan() {
            return Kept::Nothing;
        }
        let open_below = bucket.lower == f64::NEG_INFINITY;
        let bucket = self.one_sided(bucket);
        let (lower, upper) = (bucket.lower, bucket.upper);
        match side {
            Side::Below if upper <= threshold => Kept::Whole,
            Side::Below if lower >= threshold || upper == f64::INFINITY => Kept::Nothing,
            Side::Below if lower == f64::NEG_INFINITY => Kept::Part(1.0, (lower, threshold)),
            Side::Below => {
                let part = self.part_below(bucket, threshold);
                Kept::Part(part, (lower, threshold))
            }
            // What lies below a bound that only seems to be zero is not known.
            Side::Above if open_below && threshold < lower && threshold.is_finite() => {
                Kept::Nothing
            }
            Side::Above if lower >= threshold => Kept::Whole,
            Side::Above if upper <= threshold || lower == f64::NEG_INFINITY => Kept::Nothing,
            Side::Above if upper == f64::INFINITY => Kept::Part(1.0, (threshold, upper)),
            Side::Above => {
                let part = 1.0 - self.part_below(bucket, threshold);
                Kept::Part(part, (threshold, upper))
            }
        }
    }

    /// Where the observations between two bounds of a bucket lie on average.
    fn middle(&self, bucket: Bucket, (lower, upper): (f64, f64)) -> f64 {
        if lower.is_infinite() && upper.is_infinite() {
            0.0
        } else if lower == f64::NEG_INFINITY {
            upper
        } else if upper == f64::INFINITY {
            lower
        } else if self.is_linear(bucket) {
            f64::midpoint(lower, upper)
        } else {
            geometric_mean(lower, upper)
        }
    }
}

/// A cut at work.
struct Cut<'h> {
    of: &'h Histogram,
    side: Side,
    threshold: f64,
    count: f64,
    sum: f64,
    lost: bool,
}

impl Cut<'_> {
    /// What is left of the count of a bucket.
    fn take(&mut self, bucket: Bucket) -> f64 {
        if bucket.count == 0.0 {
            return 0.0;
        }
        let kept = self.of.kept(bucket, self.side, self.threshold);
        self.lost |= kept != Kept::Whole;
        let (part, bounds) = match kept {
            Kept::Nothing => return 0.0,
            Kept::Whole => {
                let bucket = self.of.one_sided(bucket);
                (1.0, (bucket.lower, bucket.upper))
            }
            Kept::Part(part, bounds) => (part, bounds),
        };
        let count = bucket.count * part;
        self.count += count;
        self.sum += count * self.of.middle(bucket, bounds);
        count
    }
}
