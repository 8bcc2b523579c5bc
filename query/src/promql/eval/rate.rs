//! `rate`, `increase`, `delta`: the change over a window, extrapolated to its borders; and the
//! change between its last two samples.

use super::selector::Window;
use crate::promql::functions::RangeOp;
use crate::vector::ABSENT;

/// A border is "near" the samples when it is not farther than this many average gaps.
const NEAR_GAPS: f64 = 1.1;

/// Where the counter of a series falls: the indices of the samples that are less than the one
/// before. Found once a series, so that a window only visits those that lie inside.
#[derive(Debug, Default)]
pub(super) struct Resets(Vec<usize>);

impl Resets {
    pub(super) fn of(values: &[f64]) -> Self {
        let falls = values.windows(2).enumerate();
        Self(
            falls
                .filter(|(_, two)| two[1] < two[0])
                .map(|(at, _)| at + 1)
                .collect(),
        )
    }

    /// How many lie between two samples of the window.
    pub(super) fn count_in(&self, window: &Window<'_>) -> usize {
        self.inside(window).len()
    }

    fn inside(&self, window: &Window<'_>) -> &[usize] {
        let (first, end) = (window.offset, window.offset + window.values.len());
        let from = self.0.partition_point(|at| *at <= first);
        let to = self.0.partition_point(|at| *at < end);
        self.0.get(from..to).unwrap_or_default()
    }
}

/// `rate`, `increase` or `delta` of a window with two samples at least.
pub(super) fn extrapolated(op: RangeOp, window: &Window<'_>, resets: &Resets) -> f64 {
    let (times, values) = (window.timestamps, window.values);
    let [first, .., last] = values else {
        return ABSENT;
    };
    let is_counter = op != RangeOp::Delta;
    let mut change = last - first;
    if is_counter {
        for reset in resets.inside(window) {
            change += values
                .get(reset - window.offset - 1)
                .copied()
                .unwrap_or(0.0);
        }
    }
    let start = is_counter.then_some((*first, change));
    extrapolation(op, window, times, start).map_or(ABSENT, |factor| change * factor)
}

/// The factor by which the change between the first and the last of `times` is stretched to the
/// borders of the window, and to a second for `rate`. `start` is the first value of a counter and
/// its change.
pub(super) fn extrapolation(
    op: RangeOp,
    window: &Window<'_>,
    times: &[i64],
    start: Option<(f64, f64)>,
) -> Option<f64> {
    let [first_time, .., last_time] = times else {
        return None;
    };
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let sampled = seconds(last_time.saturating_sub(*first_time));
    let gap = sampled / (times.len() - 1) as f64;
    let start_ms = window.end_ms.saturating_sub(window.range_ms);
    let mut to_start = seconds(first_time.saturating_sub(start_ms));
    let mut to_end = seconds(window.end_ms.saturating_sub(*last_time));
    // A far border means that the series begins or ends inside the window: then it is taken to do
    // so half a gap away from the sample.
    if to_start >= gap * NEAR_GAPS {
        to_start = gap / 2.0;
    }
    if let Some((first, change)) = start
        && change > 0.0
        && first >= 0.0
    {
        // A counter cannot have been below zero.
        to_start = to_start.min(sampled * (first / change));
    }
    if to_end >= gap * NEAR_GAPS {
        to_end = gap / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if op == RangeOp::Rate {
        factor /= seconds(window.range_ms);
    }
    Some(factor)
}

/// `irate` or `idelta`: from the last two samples.
pub(super) fn instantaneous(op: RangeOp, window: &Window<'_>) -> f64 {
    let ([.., t0, t1], [.., v0, v1]) = (window.timestamps, window.values) else {
        return ABSENT;
    };
    if op == RangeOp::Idelta {
        return v1 - v0;
    }
    let change = if v1 < v0 { *v1 } else { v1 - v0 };
    change / (t1.saturating_sub(*t0) as f64 / 1000.0)
}
