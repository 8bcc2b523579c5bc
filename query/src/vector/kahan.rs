//! Compensated summation (Kahan and Neumaier), so that sums do not depend on the order of large
//! and small values. Called by the aggregations and by the functions over time.

/// Adds `x` to `sum`, whose error so far is `compensation`. Returns the new pair; the exact sum is
/// their sum. No fused multiply-add: results must be the same on every machine.
#[inline]
pub(crate) fn increment(x: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + x;
    let compensation = if total.is_infinite() {
        0.0
    } else if sum.abs() >= x.abs() {
        compensation + ((sum - total) + x)
    } else {
        compensation + ((x - total) + sum)
    };
    (total, compensation)
}

/// The sum of values that come one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sum {
    sum: f64,
    compensation: f64,
}

impl Sum {
    #[inline]
    pub(crate) fn add(&mut self, x: f64) {
        (self.sum, self.compensation) = increment(x, self.sum, self.compensation);
    }

    /// The sum of one value.
    #[inline]
    pub(crate) fn of(x: f64) -> Self {
        Self {
            sum: x,
            compensation: 0.0,
        }
    }

    /// Adds another sum.
    #[inline]
    pub(crate) fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.compensation += other.compensation;
    }

    /// Multiplies the sum.
    #[inline]
    pub(crate) fn scale(&mut self, factor: f64) {
        self.sum *= factor;
        self.compensation *= factor;
    }

    /// The sum divided.
    #[inline]
    pub(crate) fn divided(self, divisor: f64) -> Self {
        Self {
            sum: self.sum / divisor,
            compensation: self.compensation / divisor,
        }
    }

    /// The sum; where it left the range of floats the compensation means nothing.
    #[inline]
    pub(crate) fn value(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.compensation
        }
    }
}

/// The mean of values that come one after the other: their sum over their number while the sum is
/// finite, from then on a mean that is updated in place and cannot overflow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    /// The sum, or the mean once `incremental`.
    value: f64,
    compensation: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    #[inline]
    pub(crate) fn add(&mut self, x: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.value = x;
            return;
        }
        if !self.incremental {
            let (sum, compensation) = increment(x, self.value, self.compensation);
            if !sum.is_infinite() {
                (self.value, self.compensation) = (sum, compensation);
                return;
            }
            self.incremental = true;
            self.value /= self.count - 1.0;
            self.compensation /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        (self.value, self.compensation) = increment(
            x / self.count,
            weight * self.value,
            weight * self.compensation,
        );
    }

    /// The number of values so far.
    pub(crate) fn count(self) -> f64 {
        self.count
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        if self.incremental {
            // An infinite value makes the compensation meaningless.
            if self.value.is_infinite() {
                self.value
            } else {
                self.value + self.compensation
            }
        } else {
            self.value / self.count + self.compensation / self.count
        }
    }
}
