//! Where the buckets of a schema begin and end.

use std::sync::LazyLock;

use super::{Cell, Distribution, Histogram};

/// The finest schema that divides a power of two into buckets.
const SCHEMA_MAX: i8 = 8;

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

impl Bucket {
    /// The bucket mirrored at zero.
    pub(super) fn mirrored(self) -> Self {
        Self {
            lower: -self.upper,
            upper: -self.lower,
            lower_inclusive: self.upper_inclusive,
            upper_inclusive: self.lower_inclusive,
            count: self.count,
        }
    }
}

impl Histogram {
    /// The buckets by rising bounds: those below zero, the zero bucket (if there is any observation
    /// in it), those above; or those with custom bounds.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let below = self.negative.iter_down();
        let below = below.map(|(index, count)| self.bucket(index, count).mirrored());
        let above = self.positive.iter();
        let above = above.map(|(index, count)| self.bucket(index, count));
        below.chain(self.filled_zero_bucket()).chain(above)
    }

    /// The same by falling bounds.
    pub fn buckets_down(&self) -> impl Iterator<Item = Bucket> + '_ {
        let below = self.negative.iter();
        let below = below.map(|(index, count)| self.bucket(index, count).mirrored());
        let above = self.positive.iter_down();
        let above = above.map(|(index, count)| self.bucket(index, count));
        above.chain(self.filled_zero_bucket()).chain(below)
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

    fn filled_zero_bucket(&self) -> Option<Bucket> {
        (self.zero_count != 0.0).then(|| self.zero_bucket())
    }

    /// The bucket `index` above zero, or with custom bounds.
    pub(super) fn bucket(&self, index: i32, count: f64) -> Bucket {
        Bucket {
            lower: self.bound(index.saturating_sub(1)),
            upper: self.bound(index),
            // Nothing lies below the bucket of the first custom bound.
            lower_inclusive: self.has_custom_bounds() && index == 0,
            upper_inclusive: true,
            count,
        }
    }
}

impl<T: Cell> Distribution<T> {
    /// The upper bound of the bucket `index`.
    pub(super) fn bound(&self, index: i32) -> f64 {
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
fn exponential_bound(schema: i8, index: i32) -> f64 {
    let index = i64::from(index);
    let (fraction, exponent) = if schema < 0 {
        (0.5, (index << (-schema).min(8)) + 1)
    } else {
        let schema = schema.min(SCHEMA_MAX);
        let within = index & ((1 << schema) - 1);
        let place = usize::try_from(within << (SCHEMA_MAX - schema)).unwrap_or(0);
        let fraction = FRACTIONS.get(place).copied().unwrap_or(0.5);
        (fraction, (index >> schema) + 1)
    };
    if fraction == 0.5 && exponent == 1025 {
        return f64::MAX;
    }
    times_power_of_two(fraction, exponent)
}

/// The bounds of the finest schema in `[0.5, 1)`; the coarser ones have every second one, every
/// fourth and so on.
///
/// Each is the product of those roots of two that the bits of its index ask for, the coarsest
/// first, which gives bit by bit the numbers that others have in tables.
static FRACTIONS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let count = 1usize << SCHEMA_MAX;
    let product = |index: usize| {
        let (mut fraction, mut root) = (0.5f64, std::f64::consts::SQRT_2);
        let mut bit = count >> 1;
        while bit > 0 {
            if index & bit != 0 {
                fraction = if bit == count >> 1 {
                    1.0 / root
                } else {
                    fraction * root
                };
            }
            root = root.sqrt();
            bit >>= 1;
        }
        fraction
    };
    (0..count).map(product).collect()
});

/// `fraction * 2^exponent` for a fraction near 1.
fn times_power_of_two(fraction: f64, exponent: i64) -> f64 {
    // Beyond these everything is infinite or zero.
    let exponent = i32::try_from(exponent.clamp(-1200, 1200)).unwrap_or(0);
    // Two steps, the first without rounding, reach the smallest and the largest floats.
    let near = exponent.clamp(-1000, 1000);
    fraction * 2f64.powi(near) * 2f64.powi(exponent - near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_exponential_schemas() {
        for (schema, index, bound) in [
            (0, 0, 1.0),
            (0, 1, 2.0),
            (0, -1, 0.5),
            (0, 1023, 8.988_465_674_311_58e307),
            (0, 1024, f64::MAX),
            (0, 1025, f64::INFINITY),
            (0, -1074, 5e-324),
            (0, -1075, 0.0),
            (-1, 1, 4.0),
            (-4, 0, 1.0),
            (-4, 1, 65536.0),
            (-4, -1, 1.0 / 65536.0),
            (-4, 64, f64::MAX),
            (-4, 65, f64::INFINITY),
            (1, 3, 2.828_427_124_746_19),
            (2, 3, 1.681_792_830_507_428_8),
            (8, 256, 2.0),
            (8, 262_144, f64::MAX),
            (8, 262_145, f64::INFINITY),
            (8, -255, 0.501_355_637_525_101_3),
            (8, -127, 0.709_023_942_160_207_6),
            (8, -159, 0.650_177_821_689_825_3),
            (8, -63, 0.843_176_316_724_196_6),
            (8, -5, 0.986_553_196_127_616_8),
            (8, -1, 0.997_296_056_085_469_8),
            (8, i32::MAX, f64::INFINITY),
            (8, i32::MIN, 0.0),
            (-4, i32::MIN, 0.0),
        ] {
            assert_eq!(exponential_bound(schema, index), bound, "{schema} {index}");
        }
    }

    #[test]
    fn coarser_bounds_are_among_the_finer_ones() {
        for schema in -4..8 {
            for index in -100..100 {
                let (here, finer) = (
                    exponential_bound(schema, index),
                    exponential_bound(schema + 1, index * 2),
                );
                assert_eq!(here, finer, "{schema} {index}");
            }
        }
    }

    #[test]
    fn bounds_rise() {
        let bounds: Vec<f64> = (-262_200..=262_145)
            .map(|i| exponential_bound(8, i))
            .collect();
        assert!(bounds.windows(2).all(|two| two[0] <= two[1]));
    }
}
