//! `rate`, `increase`, `delta`: the change over a window, extrapolated to its borders; and the
//! change between its last two samples.

use super::selector::Window;
use crate::promql::functions::RangeOp;
use crate::vector::ABSENT;

/// A border is "near" the samples when it is not farther than this many average gaps.
const NEAR_GAPS: f64 = 1.1;

/// Where the counter of a series begins again: the samples that are less than the one before, or
/// that say so by their start. Found once a series, so that a window only visits those that lie
/// inside. Windows must only move ahead.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// The numbers of the samples that are less than the one before, and the value before.
    falls: Vec<(usize, f64)>,
    low: usize,
    high: usize,
}

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

/// The indices of the samples that say by their start that the counter began anew.
fn begun<'r>(times: &'r [i64], starts: &'r [i64]) -> impl Iterator<Item = usize> + 'r {
    let lives = (1usize..).zip(lives(times, starts));
    lives.filter_map(|(at, (before, now))| now.begins_after(before).then_some(at))
}

/// Whether a sample of the series has a start before the sample that precedes it.
pub(super) fn starts_overlap(times: &[i64], starts: &[i64]) -> bool {
    lives(times, starts).any(|(before, now)| now.overlaps(before))
}

impl Resets {
    pub(super) fn of(values: &[f64], times: &[i64], starts: Option<&[i64]>) -> Self {
        let mut falls = Vec::new();
        match starts {
            None => {
                let mut before = f64::NAN;
                for (at, value) in values.iter().enumerate() {
                    if *value < before {
                        falls.push((at, before));
                    }
                    before = *value;
                }
            }
            Some(starts) => {
                let pairs = values.windows(2).zip(lives(times, starts)).zip(1usize..);
                falls.extend(pairs.filter_map(|((two, (before, now)), at)| {
                    (two[1] < two[0] || now.begins_after(before)).then_some((at, two[0]))
                }));
            }
        }
        Self {
            falls,
            low: 0,
            high: 0,
        }
    }

    /// The same where it is known of each sample but the first whether it falls.
    pub(super) fn of_falls(
        falls: impl Iterator<Item = bool>,
        times: &[i64],
        starts: Option<&[i64]>,
    ) -> Self {
        let falls = (1usize..).zip(falls).filter(|(_, falls)| *falls);
        let mut falls: Vec<(usize, f64)> = falls.map(|(at, _)| (at, f64::NAN)).collect();
        if let Some(starts) = starts {
            falls.extend(begun(times, starts).map(|at| (at, f64::NAN)));
        }
        falls.sort_unstable_by_key(|(at, _)| *at);
        falls.dedup_by_key(|(at, _)| *at);
        Self {
            falls,
            low: 0,
            high: 0,
        }
    }

    /// Whether the counter begins again with the sample of this index in the series.
    pub(super) fn has(&self, at: usize) -> bool {
        self.falls.binary_search_by_key(&at, |fall| fall.0).is_ok()
    }

    /// Those among `count` samples from the index `first` on, without the first one.
    pub(super) fn among(&self, first: usize, count: usize) -> &[(usize, f64)] {
        let from = self.falls.partition_point(|fall| fall.0 <= first);
        let to = self.falls.partition_point(|fall| fall.0 < first + count);
        self.falls.get(from..to).unwrap_or_default()
    }

    /// How many lie between two samples of the window.
    pub(super) fn count_in(&mut self, window: &Window<'_>) -> usize {
        self.inside(window).len()
    }

    fn inside(&mut self, window: &Window<'_>) -> &[(usize, f64)] {
        let count = window.values.len();
        self.between(window.offset, (window.offset + count).saturating_sub(1))
    }

    /// Those after the sample `first` and up to `last`.
    #[inline]
    pub(super) fn between(&mut self, first: usize, last: usize) -> &[(usize, f64)] {
        while self.falls.get(self.low).is_some_and(|fall| fall.0 <= first) {
            self.low += 1;
        }
        self.high = self.high.max(self.low);
        while self.falls.get(self.high).is_some_and(|fall| fall.0 <= last) {
            self.high += 1;
        }
        self.falls.get(self.low..self.high).unwrap_or_default()
    }
}

/// How far a window's samples lie from each other and from its borders. Where samples are regular
/// this is the same from step to step, and so is what follows from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Shape {
    count: usize,
    sampled_ms: i64,
    to_start_ms: i64,
    to_end_ms: i64,
}

/// What follows from the shape of a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extrapolation {
    shape: Shape,
    /// Seconds between the first and the last sample.
    sampled: f64,
    /// Seconds that the samples stand for before the first and after the last one.
    to_start: f64,
    to_end: f64,
    /// The whole time that they stand for, over `sampled`.
    factor: f64,
}

impl Extrapolation {
    fn of(shape: Shape) -> Self {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let sampled = seconds(shape.sampled_ms);
        let gap = sampled / shape.count.saturating_sub(1).max(1) as f64;
        // A far border means that the series begins or ends inside the window: then it is taken to
        // do so half a gap away from the sample.
        let reach = |to_border_ms| match seconds(to_border_ms) {
            far if far >= gap * NEAR_GAPS => gap / 2.0,
            near => near,
        };
        let (to_start, to_end) = (reach(shape.to_start_ms), reach(shape.to_end_ms));
        Self {
            shape,
            sampled,
            to_start,
            to_end,
            factor: (sampled + to_start + to_end) / sampled,
        }
    }

    /// The factor for a window that ends at `end_ms` with `count` samples, of which the first and
    /// the last are at `ends`. `start` is the first value of a counter and its change.
    #[inline]
    pub(super) fn factor(
        &mut self,
        op: RangeOp,
        (end_ms, range_ms): (i64, i64),
        (ends, count): ((i64, i64), usize),
        start: Option<(f64, f64)>,
    ) -> f64 {
        let shape = Shape {
            count,
            sampled_ms: ends.1.saturating_sub(ends.0),
            to_start_ms: ends.0.saturating_sub(end_ms.saturating_sub(range_ms)),
            to_end_ms: end_ms.saturating_sub(ends.1),
        };
        if shape != self.shape {
            *self = Self::of(shape);
        }
        let mut factor = self.factor;
        // A counter cannot have been below zero. If its first value is not less than its change, it
        // would have been so at the earliest one whole `sampled` before.
        if let Some((first, change)) = start
            && change > 0.0
            && first >= 0.0
            && (first < change || self.to_start > self.sampled)
        {
            let zero = self.sampled * (first / change);
            if zero < self.to_start {
                factor = (self.sampled + zero + self.to_end) / self.sampled;
            }
        }
        match op {
            RangeOp::Rate => factor / (range_ms as f64 / 1000.0),
            _ => factor,
        }
    }
}

/// `rate`, `increase` or `delta` of a window with two samples at least, or with one of which it is
/// known that its counter began inside. `last_shape` is what the window before left there.
pub(super) fn extrapolated(
    op: RangeOp,
    window: &Window<'_>,
    resets: &mut Resets,
    last_shape: &mut Extrapolation,
) -> f64 {
    let born = born(op, window, window.timestamps, window.starts);
    let (first, last) = match window.values {
        [first, .., last] => (first, last),
        [only] if born.is_some() => (only, only),
        _ => return ABSENT,
    };
    let is_counter = op != RangeOp::Delta;
    let mut change = last - first;
    if is_counter {
        for (_, before) in resets.inside(window) {
            change += before;
        }
    }
    if let Some(born) = born {
        // It was zero then.
        let factor = extrapolation_since(op, window, window.timestamps, born);
        return factor.map_or(ABSENT, |factor| (change + first) * factor);
    }
    let start = is_counter.then_some((*first, change));
    let factor = extrapolation(op, window, window.timestamps, start, last_shape);
    factor.map_or(ABSENT, |factor| change * factor)
}

/// The same factor where the counter is known to have begun at `born`, inside the window.
pub(super) fn extrapolation_since(
    op: RangeOp,
    window: &Window<'_>,
    times: &[i64],
    born: i64,
) -> Option<f64> {
    let (first_time, last_time) = (times.first()?, times.last()?);
    let shape = Extrapolation::of(Shape {
        count: times.len(),
        sampled_ms: last_time.saturating_sub(*first_time),
        to_start_ms: 0,
        to_end_ms: window.end_ms.saturating_sub(*last_time),
    });
    let sampled = last_time.saturating_sub(born) as f64 / 1000.0;
    let factor = (sampled + shape.to_end) / sampled;
    Some(match op {
        RangeOp::Rate => factor / (window.range_ms as f64 / 1000.0),
        _ => factor,
    })
}

/// The factor by which the change between the first and the last of `times` is stretched to the
/// borders of the window, and to a second for `rate`. `start` is the first value of a counter and
/// its change; `last_shape` is what the window before left there.
pub(super) fn extrapolation(
    op: RangeOp,
    window: &Window<'_>,
    times: &[i64],
    start: Option<(f64, f64)>,
    last_shape: &mut Extrapolation,
) -> Option<f64> {
    let [first_time, .., last_time] = times else {
        return None;
    };
    let (borders, ends) = ((window.end_ms, window.range_ms), (*first_time, *last_time));
    Some(last_shape.factor(op, borders, (ends, times.len()), start))
}

/// When the counter of the first of some samples began, if that is inside the window.
#[inline]
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
