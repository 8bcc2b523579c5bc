//! Functions over the samples of a window.

use super::rate::{self, Extrapolation, Resets};
use super::selector::{Raw, Window};
use crate::promql::functions::RangeOp;
use crate::vector::kahan::{self, Mean, Sum};
use crate::vector::{ABSENT, quantile};

/// What a function knows about the series besides the window.
#[derive(Debug, Default)]
pub(super) struct Context {
    resets: Resets,
    /// What followed from where the samples of the window before lie.
    shape: Extrapolation,
    /// Room for quantiles to sort in.
    scratch: Vec<f64>,
}

impl Context {
    pub(super) fn new(op: RangeOp, raw: &Raw) -> Self {
        let resets = if op.counts_resets() {
            Resets::of(
                &raw.values,
                &raw.timestamps,
                raw.start_timestamps.as_deref(),
            )
        } else {
            Resets::default()
        };
        Self {
            resets,
            shape: Extrapolation::default(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn resets(&self) -> &Resets {
        &self.resets
    }
}

/// The value of `op` for a window, [`ABSENT`] where it has none. `parameters` are the function's
/// scalar arguments at this step, `now_ms` the evaluation time.
pub(super) fn apply(
    op: RangeOp,
    window: &Window<'_>,
    parameters: [f64; 2],
    now_ms: i64,
    context: &mut Context,
) -> f64 {
    let values = window.values;
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return ABSENT;
    };
    match op {
        RangeOp::Rate | RangeOp::Increase | RangeOp::Delta => {
            rate::extrapolated(op, window, &mut context.resets, &mut context.shape)
        }
        RangeOp::Irate | RangeOp::Idelta => rate::instantaneous(op, window, &context.resets),
        RangeOp::Sum => {
            let mut sum = Sum::default();
            values.iter().for_each(|value| sum.add(*value));
            sum.value()
        }
        RangeOp::Avg => {
            let mut mean = Mean::default();
            values.iter().for_each(|value| mean.add(*value));
            mean.value()
        }
        RangeOp::Min => extreme(values, |value, best| value < best),
        RangeOp::Max => extreme(values, |value, best| value > best),
        RangeOp::Count => values.len() as f64,
        RangeOp::Last => *last,
        RangeOp::First => *first,
        RangeOp::Present => 1.0,
        RangeOp::Stddev => variance(values).sqrt(),
        RangeOp::Stdvar => variance(values),
        RangeOp::Quantile => {
            context.scratch.clear();
            context.scratch.extend_from_slice(values);
            quantile(parameters[0], &mut context.scratch)
        }
        RangeOp::Changes => {
            let differ = |two: &&[f64]| two[0] != two[1] && !(two[0].is_nan() && two[1].is_nan());
            values.windows(2).filter(differ).count() as f64
        }
        RangeOp::Resets => context.resets.count_in(window) as f64,
        RangeOp::Deriv => match window.timestamps.first() {
            Some(start) if values.len() > 1 => regression(window, *start).slope,
            _ => ABSENT,
        },
        RangeOp::PredictLinear if values.len() > 1 => {
            let line = regression(window, now_ms);
            line.slope * parameters[0] + line.intercept
        }
        RangeOp::PredictLinear => ABSENT,
        RangeOp::Mad if values.iter().any(|value| value.is_nan()) => f64::NAN,
        RangeOp::Mad => {
            let scratch = &mut context.scratch;
            scratch.clear();
            scratch.extend_from_slice(values);
            let median = quantile(0.5, scratch);
            scratch.clear();
            scratch.extend(values.iter().map(|value| (value - median).abs()));
            quantile(0.5, scratch)
        }
        RangeOp::Smoothing => smoothed(values, parameters),
        RangeOp::TsOfFirst => seconds(window.timestamps.first()),
        RangeOp::TsOfLast => seconds(window.timestamps.last()),
        RangeOp::TsOfMax => seconds(
            window
                .timestamps
                .get(place(values, |new, best| new >= best)),
        ),
        RangeOp::TsOfMin => seconds(
            window
                .timestamps
                .get(place(values, |new, best| new <= best)),
        ),
    }
}

/// A time in seconds.
fn seconds(ms: Option<&i64>) -> f64 {
    ms.map_or(ABSENT, |ms| *ms as f64 / 1000.0)
}

/// Where the value lies that comes before all others, the last one of equal ones.
fn place(values: &[f64], before: impl Fn(f64, f64) -> bool) -> usize {
    let (mut at, mut best) = (0, f64::NAN);
    for (index, value) in values.iter().enumerate() {
        if before(*value, best) || best.is_nan() {
            (at, best) = (index, *value);
        }
    }
    at
}

/// Holt's linear method: a level and a trend, each an exponential average.
fn smoothed(values: &[f64], [level_factor, trend_factor]: [f64; 2]) -> f64 {
    let [first, second, ..] = values else {
        return ABSENT;
    };
    let (mut before, mut level, mut trend) = (0.0, *first, second - first);
    for (at, value) in values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = level_factor * value + (1.0 - level_factor) * (level + trend);
        (before, level) = (level, next);
    }
    level
}

/// The value that comes before all others; NaN only where there is nothing else.
fn extreme(values: &[f64], before: impl Fn(f64, f64) -> bool) -> f64 {
    let mut values = values.iter().copied();
    let first = values.next().unwrap_or(ABSENT);
    values.fold(first, |best, value| {
        if before(value, best) || best.is_nan() {
            value
        } else {
            best
        }
    })
}

/// Welford's variance of a population, compensated.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut mean_c, mut squares, mut squares_c) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - (mean + mean_c);
        (mean, mean_c) = kahan::increment(delta / count, mean, mean_c);
        let after = value - (mean + mean_c);
        (squares, squares_c) = kahan::increment(delta * after, squares, squares_c);
    }
    (squares + squares_c) / count
}

/// A line through samples.
#[derive(Debug, Clone, Copy)]
struct Line {
    slope: f64,
    /// The value at the time that the caller chose.
    intercept: f64,
}

/// The line of least squares, x in seconds from `origin_ms`.
fn regression(window: &Window<'_>, origin_ms: i64) -> Line {
    let first = window.values.first().copied().unwrap_or(f64::NAN);
    if window.values.iter().all(|value| *value == first) {
        // A constant has no slope, however the sums round; an infinite one has no line.
        return if first.is_infinite() {
            Line {
                slope: f64::NAN,
                intercept: f64::NAN,
            }
        } else {
            Line {
                slope: 0.0,
                intercept: first,
            }
        };
    }
    let (mut sum_x, mut sum_y) = (Sum::default(), Sum::default());
    let (mut sum_xy, mut sum_xx) = (Sum::default(), Sum::default());
    for (time, y) in window.timestamps.iter().zip(window.values) {
        let x = time.saturating_sub(origin_ms) as f64 / 1000.0;
        sum_x.add(x);
        sum_y.add(*y);
        sum_xy.add(x * y);
        sum_xx.add(x * x);
    }
    let count = window.values.len() as f64;
    let (sum_x, sum_y) = (sum_x.value(), sum_y.value());
    let covariance = sum_xy.value() - sum_x * sum_y / count;
    let variance = sum_xx.value() - sum_x * sum_x / count;
    let slope = covariance / variance;
    Line {
        slope,
        intercept: sum_y / count - slope * sum_x / count,
    }
}
