//! What a histogram says about the observations in it: quantiles, fractions, their variance.
//!
//! Within a bucket observations are taken to be spread evenly: on a logarithmic scale where the
//! bounds grow exponentially, else on a linear one.

use super::{Bucket, Histogram};
use crate::vector::kahan::Sum;

/// An estimate, and whether it suffers from observations that are not a number: those are counted,
/// but no bucket has them.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Whether there are observations that are not a number.
    pub has_nan: bool,
}

impl Histogram {
    /// The `q`-quantile of the observations: -Inf below 0, +Inf above 1, NaN without observations.
    pub fn quantile(&self, q: f64) -> Estimate {
        let sure = |value| Estimate {
            value,
            has_nan: false,
        };
        if q < 0.0 {
            return sure(f64::NEG_INFINITY);
        }
        if q > 1.0 {
            return sure(f64::INFINITY);
        }
        if self.count == 0.0 || q.is_nan() {
            return sure(f64::NAN);
        }
        // What is not a number counts as more than everything else, so it is left over at the end.
        let has_nan = self.has_nan_observations();
        let value = if self.sum.is_nan() || q < 0.5 {
            let rank = q * self.count;
            let found = self.find(self.buckets(), rank);
            found.map(|(bucket, counted)| (bucket, rank - (counted - bucket.count)))
        } else {
            let rank = (1.0 - q) * self.count;
            let found = self.find(self.buckets_down(), rank);
            found.map(|(bucket, counted)| (bucket, counted - rank))
        };
        let value = value.map_or(f64::NAN, |(bucket, rank)| self.within(bucket, rank));
        Estimate { value, has_nan }
    }

    /// The bucket in which the counts reach `rank`, and what they have reached there.
    fn find(&self, buckets: impl Iterator<Item = Bucket>, rank: f64) -> Option<(Bucket, f64)> {
        let mut counted = 0.0;
        let mut last = None;
        for bucket in buckets.filter(|bucket| bucket.count != 0.0) {
            counted += bucket.count;
            last = Some((bucket, counted));
            if counted >= rank {
                break;
            }
        }
        // Sums of floats may end a little above or below the count.
        let (bucket, counted) = last?;
        if counted < rank && self.sum.is_nan() {
            return None;
        }
        Some((bucket, counted.min(self.count).max(rank)))
    }

    /// Where the observation lies that is the `rank`th of a bucket.
    fn within(&self, bucket: Bucket, rank: f64) -> f64 {
        let bucket = self.one_sided(bucket);
        if bucket.upper == f64::INFINITY && self.has_custom_bounds() {
            return bucket.lower;
        }
        if bucket.lower == f64::NEG_INFINITY && self.has_custom_bounds() {
            return bucket.upper;
        }
        let part = rank / bucket.count;
        if self.is_linear(bucket) {
            return bucket.lower + (bucket.upper - bucket.lower) * part;
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            (lower + (upper - lower) * part).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - part)).exp2()
        }
    }

    /// The part of all observations that lies between `lower` and `upper`; NaN without
    /// observations. Those that are not a number lie nowhere.
    pub fn fraction(&self, lower: f64, upper: f64) -> Estimate {
        let has_nan = self.has_nan_observations();
        let value = if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            f64::NAN
        } else if lower >= upper {
            0.0
        } else {
            (self.rank(upper) - self.rank(lower)) / self.count
        };
        Estimate { value, has_nan }
    }

    /// How many observations lie below `bound`.
    fn rank(&self, bound: f64) -> f64 {
        let mut rank = 0.0f64;
        for bucket in self.buckets() {
            let bucket = self.one_sided(bucket);
            if bucket.lower >= bound {
                return rank.min(self.count);
            }
            if bucket.upper > bound {
                return (rank + bucket.count * self.part_below(bucket, bound)).min(self.count);
            }
            rank += bucket.count;
        }
        // All of it, however the buckets add up.
        if self.sum.is_nan() {
            rank.min(self.count)
        } else {
            self.count
        }
    }

    /// Which part of a bucket lies below `bound`, which is inside. Of a bucket that reaches to
    /// infinity all lies at its other end.
    pub(super) fn part_below(&self, bucket: Bucket, bound: f64) -> f64 {
        if bucket.upper == f64::INFINITY {
            return 0.0;
        }
        if bucket.lower == f64::NEG_INFINITY {
            return 1.0;
        }
        if self.is_linear(bucket) {
            return (bound - bucket.lower) / (bucket.upper - bucket.lower);
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let at = bound.abs().log2();
        if bound > 0.0 {
            (at - lower) / (upper - lower)
        } else {
            1.0 - (at - upper) / (lower - upper)
        }
    }

    /// The mean of the observations.
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The variance of the observations, each taken to lie in the middle of its bucket.
    pub fn variance(&self) -> f64 {
        let mean = self.mean();
        let mut squares = Sum::default();
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            let middle = if self.has_custom_bounds() {
                f64::midpoint(bucket.lower, bucket.upper)
            } else if self.is_linear(bucket) {
                0.0
            } else {
                geometric_mean(bucket.lower, bucket.upper)
            };
            let off = middle - mean;
            squares.add(bucket.count * off * off);
        }
        squares.value() / self.count
    }

    /// Whether observations in it are spread evenly on a linear scale.
    pub(super) fn is_linear(&self, bucket: Bucket) -> bool {
        self.has_custom_bounds() || (bucket.lower <= 0.0 && bucket.upper >= 0.0)
    }

    /// The zero bucket has no negative observations where all other buckets are positive, and the
    /// other way round; the lowest bucket with a custom bound above zero has none either.
    pub(super) fn one_sided(&self, mut bucket: Bucket) -> Bucket {
        if self.has_custom_bounds() {
            if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 && bucket.upper.is_finite() {
                bucket.lower = 0.0;
            }
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            match (self.negative.is_empty(), self.positive.is_empty()) {
                (true, false) => bucket.lower = 0.0,
                (false, true) => bucket.upper = 0.0,
                _ => {}
            }
        }
        bucket
    }

    /// Whether more were counted than the buckets hold, because they are not a number.
    fn has_nan_observations(&self) -> bool {
        let held = || self.buckets().map(|bucket| bucket.count).sum::<f64>();
        self.sum.is_nan() && held() < self.count
    }
}

/// The geometric mean of two bounds of one sign.
pub(super) fn geometric_mean(lower: f64, upper: f64) -> f64 {
    let middle = lower.abs().sqrt() * upper.abs().sqrt();
    if upper < 0.0 { -middle } else { middle }
}
