//! Functions over the values of `unwrap` in a window, for range aggregations.

use crate::logql::ast::RangeOp;
use crate::vector::quantile;

/// A value at an instant, in nanoseconds.
pub(super) type Value = (i64, f64);

/// How far from a sample the rate of a counter is extended, in mean distances of samples.
const EXTRAPOLATION_THRESHOLD: f64 = 1.1;

/// A function over windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) op: RangeOp,
    /// The quantile.
    pub(super) param: f64,
    /// Length of the window.
    pub(super) seconds: f64,
}

impl Window {
    /// Puts values into the order of time. Values of one instant come in that of their numbers,
    /// whatever found them first, but where the function tells earlier from later.
    pub(super) fn sort(&self, values: &mut [Value]) {
        match self.op {
            RangeOp::First | RangeOp::Last | RangeOp::RateCounter => {
                values.sort_by_key(|(timestamp, _)| *timestamp);
            }
            _ => values.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1))),
        }
    }

    /// Whether the order of values makes no difference, not even in the last digit.
    pub(super) fn takes_any_order(&self) -> bool {
        matches!(self.op, RangeOp::Min | RangeOp::Max | RangeOp::Quantile)
    }

    /// The value over some numbers, of a function that takes them in any order; reorders them.
    pub(super) fn of_any_order(&self, numbers: &mut [f64]) -> f64 {
        let all = numbers.iter().copied();
        match self.op {
            RangeOp::Min => all.fold(f64::NAN, |least, x| if x >= least { least } else { x }),
            RangeOp::Max => all.fold(f64::NAN, |most, x| if x <= most { most } else { x }),
            _ => quantile(self.param, numbers),
        }
    }

    /// The value over the window after the first to the second of `bounds` that holds `values`,
    /// which are some, in order of time.
    pub(super) fn value(&self, values: &[Value], bounds: (i64, i64)) -> f64 {
        let numbers = values.iter().map(|(_, value)| *value);
        match self.op {
            RangeOp::Sum => numbers.sum(),
            RangeOp::Rate => numbers.sum::<f64>() / self.seconds,
            RangeOp::RateCounter => counter_growth(values, bounds) / self.seconds,
            RangeOp::Avg => mean(numbers),
            RangeOp::Min | RangeOp::Max | RangeOp::Quantile => {
                self.of_any_order(&mut numbers.collect::<Vec<_>>())
            }
            RangeOp::Stdvar => variance(numbers),
            RangeOp::Stddev => variance(numbers).sqrt(),
            RangeOp::First => values.first().map_or(f64::NAN, |(_, value)| *value),
            RangeOp::Last => values.last().map_or(f64::NAN, |(_, value)| *value),
            RangeOp::Absent => 1.0,
            RangeOp::Count | RangeOp::Bytes | RangeOp::BytesRate => values.len() as f64,
        }
    }
}

/// The mean, kept step by step so that it does not overflow where the sum would.
fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count) = (0.0f64, 0.0);
    for x in numbers {
        count += 1.0;
        if mean.is_infinite() {
            if x.is_infinite() && (mean > 0.0) == (x > 0.0) {
                continue;
            }
            // An infinite mean stays what it is, whatever finite number comes.
            if x.is_finite() {
                continue;
            }
        }
        mean += x / count - mean / count;
    }
    mean
}

/// Welford's variance of the population.
fn variance(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut squares, mut count) = (0.0, 0.0, 0.0);
    for x in numbers {
        count += 1.0;
        let delta = x - mean;
        mean += delta / count;
        squares += delta * (x - mean);
    }
    squares / count
}

/// The growth of a counter that may start again from zero, extended to the bounds of the window
/// where its samples come near them.
fn counter_growth(values: &[Value], bounds: (i64, i64)) -> f64 {
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return 0.0;
    };
    if values.len() < 2 {
        return 0.0;
    }
    let mut growth = last.1 - first.1;
    for two in values.windows(2) {
        if let [(_, before), (_, after)] = two
            && after < before
        {
            growth += before;
        }
    }
    let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1e9;
    let sampled = seconds(first.0, last.0);
    let mean_distance = sampled / (values.len() - 1) as f64;
    let threshold = mean_distance * EXTRAPOLATION_THRESHOLD;
    let reach = |distance| {
        if distance < threshold {
            distance
        } else {
            mean_distance / 2.0
        }
    };
    let mut to_start = reach(seconds(bounds.0, first.0));
    if growth > 0.0 && first.1 >= 0.0 {
        // A counter does not begin below zero.
        to_start = to_start.min(sampled * (first.1 / growth));
    }
    let to_end = reach(seconds(last.0, bounds.1));
    growth * ((sampled + to_start + to_end) / sampled)
}
