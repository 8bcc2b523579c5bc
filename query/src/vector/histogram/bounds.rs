//! Where the buckets of a schema begin and end.

use super::Histogram;

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether an observation that equals the lower bound is inside.
    pub lower_inclusive: bool,
    /// Whether an observation that equals the upper bound is inside.
    pub upper_inclusive: bool,
    /// How many observations.
    pub count: f64,
}

impl Histogram {
    /// The buckets by rising bounds: those below zero, the zero bucket (if there is any observation
    /// in it), those above; or those with custom bounds.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let below = self.negative.iter_down().map(|(index, count)| {
            let bucket = self.positive_bucket(index, count);
            Bucket {
                lower: -bucket.upper,
                upper: -bucket.lower,
                lower_inclusive: bucket.upper_inclusive,
                upper_inclusive: bucket.lower_inclusive,
                count,
            }
        });
        let zero = (self.zero_count != 0.0).then(|| self.zero_bucket());
        let above = self.positive.iter();
        let above = above.map(|(index, count)| self.positive_bucket(index, count));
        below.chain(zero).chain(above)
    }

    /// The zero bucket.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// The bucket `index` above zero, or with custom bounds.
    fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = (self.bound(index.saturating_sub(1)), self.bound(index));
        Bucket {
            lower,
            upper,
            // Nothing lies below the first custom bound's bucket.
            lower_inclusive: self.has_custom_bounds() && index == 0,
            upper_inclusive: true,
            count,
        }
    }

    /// The upper bound of the bucket `index`.
    pub fn bound(&self, index: i32) -> f64 {
        if !self.has_custom_bounds() {
            return exponential_bound(self.schema, index);
        }
        match usize::try_from(index) {
            Ok(at) => self.custom_values.get(at).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        }
    }
}

/// The upper bound of the bucket `index` of an exponential schema. The last bucket of finite
/// observations ends at the largest float, the one after it holds the infinite ones.
pub(super) fn exponential_bound(schema: i8, index: i32) -> f64 {
    let exponent = if schema < 0 {
        f64::from(index) * 2f64.powi(-i32::from(schema))
    } else {
        f64::from(index) / 2f64.powi(i32::from(schema))
    };
    if exponent == 1024.0 {
        f64::MAX
    } else {
        exponent.exp2()
    }
}
