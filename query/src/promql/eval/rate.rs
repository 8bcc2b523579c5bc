//! `rate`, `increase`, `delta`: the change over a window, extrapolated to its borders; and the
//! change between its last two samples.

use super::selector::Window;
use crate::promql::functions::RangeOp;
use crate::vector::ABSENT;

/// A border is "near" the samples when it is not farther than this many average gaps.
const NEAR_GAPS: f64 = 1.1;

/// Where the counter of a series begins again: the indices of the samples that are less than the
/// one before, or that say so by their start. Found once a series, so that a window only visits
/// those that lie inside.
#[derive(Debug, Default)]
pub(super) struct Resets(Vec<usize>);

/// When a sample was taken and when its counter began (0 where that is not known).
#[derive(Debug, Clone, Copy)]
struct Life {
    time: i64,
    start: i64,
}

impl Life {
    /// Whether the counter began anew after the sample `before`.
    fn begins_after(self, before: Self) -> bool {
        if self.start == 0 || self.start >= self.time || self.start < before.time {
            return false;
        }
        // A delta begins where the one before ended. A cumulative counter whose start is not known
        // looks alike, but what is before it has no start.
        self.start > before.time || (before.start != 0 && before.start < before.time)
    }

    /// Whether the counter began before the last sample of another one.
    fn overlaps(self, before: Self) -> bool {
        self.start != 0 && self.start < before.time && self.start != before.start
    }
}

fn lives<'r>(times: &'r [i64], starts: &'r [i64]) -> impl Iterator<Item = (Life, Life)> + 'r {
    let at = |two: &[i64], starts: &[i64], index: usize| Life {
        time: two.get(index).copied().unwrap_or(0),
        start: starts.get(index).copied().unwrap_or(0),
    };
    let pairs = times.windows(2).zip(starts.windows(2));
    pairs.map(move |(times, starts)| (at(times, starts, 0), at(times, starts, 1)))
}

/// Whether a sample of the series has a start before the sample that precedes it.
pub(super) fn starts_overlap(times: &[i64], starts: &[i64]) -> bool {
    lives(times, starts).any(|(before, now)| now.overlaps(before))
}

impl Resets {
    pub(super) fn of(values: &[f64], times: &[i64], starts: Option<&[i64]>) -> Self {
        Self::between(values.windows(2).map(|two| two[1] < two[0]), times, starts)
    }

    /// The same where it is known of each sample but the first whether it falls.
    pub(super) fn between(
        falls: impl Iterator<Item = bool>,
        times: &[i64],
        starts: Option<&[i64]>,
    ) -> Self {
        let indices = 1usize..;
        Self(match starts {
            None => falls
                .zip(indices)
                .filter_map(|(falls, at)| falls.then_some(at))
                .collect(),
            Some(starts) => falls
                .zip(lives(times, starts))
                .zip(indices)
                .filter_map(|((falls, (before, now)), at)| {
                    (falls || now.begins_after(before)).then_some(at)
                })
                .collect(),
        })
    }

    /// Whether the counter begins again with the sample of this index in the series.
    pub(super) fn has(&self, at: usize) -> bool {
        self.0.binary_search(&at).is_ok()
    }

    /// How many lie between two samples of the window.
    pub(super) fn count_in(&self, window: &Window<'_>) -> usize {
        self.inside(window).len()
    }

    fn inside(&self, window: &Window<'_>) -> &[usize] {
        self.among(window.offset, window.values.len())
    }

    /// Those among `count` samples from the index `first` on, without the first one.
    pub(super) fn among(&self, first: usize, count: usize) -> &[usize] {
        let end = first + count;
        let from = self.0.partition_point(|at| *at <= first);
        let to = self.0.partition_point(|at| *at < end);
        self.0.get(from..to).unwrap_or_default()
    }
}

/// `rate`, `increase` or `delta` of a window with two samples at least, or with one of which it is
/// known that its counter began inside.
pub(super) fn extrapolated(op: RangeOp, window: &Window<'_>, resets: &Resets) -> f64 {
    let values = window.values;
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return ABSENT;
    };
    let born = born(op, window, window.timestamps, window.starts);
    if values.len() < 2 && born.is_none() {
        return ABSENT;
    }
    let mut change = last - first;
    if op != RangeOp::Delta {
        for reset in resets.inside(window) {
            change += values
                .get(reset - window.offset - 1)
                .copied()
                .unwrap_or(0.0);
        }
    }
    if born.is_some() {
        // It was zero then.
        change += first;
    }
    change * stretch(op, window, window.timestamps, (*first, change), born)
}

/// When the counter of the first of some samples began, if that is inside the window.
pub(super) fn born(
    op: RangeOp,
    window: &Window<'_>,
    times: &[i64],
    starts: Option<&[i64]>,
) -> Option<i64> {
    let (start, first_time) = (*starts?.first()?, *times.first()?);
    let start_ms = window.end_ms.saturating_sub(window.range_ms);
    (op != RangeOp::Delta && start_ms < start && start < first_time).then_some(start)
}

/// The factor by which the change between the first and the last of `times` reaches to the borders
/// of the window, or a second for `rate`. A counter had the value `first` at its first sample, and
/// it began at `born`, if that is known.
pub(super) fn stretch(
    op: RangeOp,
    window: &Window<'_>,
    times: &[i64],
    (first, change): (f64, f64),
    born: Option<i64>,
) -> f64 {
    let (Some(first_time), Some(last_time)) = (times.first(), times.last()) else {
        return f64::NAN;
    };
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let start_ms = window.end_ms.saturating_sub(window.range_ms);
    let mut sampled = seconds(last_time.saturating_sub(*first_time));
    let gap = sampled / (times.len() - 1).max(1) as f64;
    let mut to_start = seconds(first_time.saturating_sub(start_ms));
    let mut to_end = seconds(window.end_ms.saturating_sub(*last_time));
    // A far border means that the series begins or ends inside the window: then it is taken to do
    // so half a gap away from the sample.
    if to_start >= gap * NEAR_GAPS {
        to_start = gap / 2.0;
    }
    if let Some(born) = born {
        sampled = seconds(last_time.saturating_sub(born));
        to_start = 0.0;
    } else if op != RangeOp::Delta && change > 0.0 && first >= 0.0 {
        // A counter cannot have been below zero.
        to_start = to_start.min(sampled * (first / change));
    }
    if to_end >= gap * NEAR_GAPS {
        to_end = gap / 2.0;
    }
    let factor = (sampled + to_start + to_end) / sampled;
    if op == RangeOp::Rate {
        factor / seconds(window.range_ms)
    } else {
        factor
    }
}

/// `irate` or `idelta`: from the last two samples.
pub(super) fn instantaneous(op: RangeOp, window: &Window<'_>, resets: &Resets) -> f64 {
    let ([.., t0, t1], [.., v0, v1]) = (window.timestamps, window.values) else {
        return ABSENT;
    };
    if op == RangeOp::Idelta {
        return v1 - v0;
    }
    let begins_again = resets.has(window.offset + window.values.len() - 1);
    let change = if begins_again { *v1 } else { v1 - v0 };
    change / (t1.saturating_sub(*t0) as f64 / 1000.0)
}
