//! The intervals of an answer: which one a time belongs to, and where each is told. All of `metrics`
//! uses them.

use trine_storage::TimeRange;

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

/// Intervals of one width side by side, each open on its left: `(start, start + step]`, told at its
/// end. Or one interval with both its ends, for instant queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Intervals {
    start: i64,
    end: i64,
    step: i64,
    count: usize,
    instant: bool,
}

impl Intervals {
    /// One interval from `start` to `end`.
    pub(super) fn instant(start: i64, end: i64) -> Self {
        Self {
            start,
            end,
            step: end.saturating_sub(start),
            count: 1,
            instant: true,
        }
    }

    /// Intervals of `step` (above zero) that begin and end at its multiples and cover the range.
    pub(super) fn range(start: i64, end: i64, step: i64) -> Self {
        let start = start.saturating_sub(start.rem_euclid(step));
        let rest = end.rem_euclid(step);
        let end = if rest == 0 {
            end
        } else {
            end.saturating_add(step - rest)
        };
        let count = (i128::from(end) - i128::from(start)).max(0) / i128::from(step);
        Self {
            start,
            end,
            step,
            count: usize::try_from(count).unwrap_or(usize::MAX),
            instant: false,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The width in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.step as f64 / SECOND as f64
    }

    /// The times that belong to one of them.
    pub(super) fn covers(&self) -> TimeRange {
        let first = if self.instant {
            self.start
        } else {
            self.start.saturating_add(1)
        };
        TimeRange::inclusive(first, self.end)
    }

    /// Where the first bucket of a count begins, and how wide buckets are. Those of a store begin
    /// with their first instant, intervals begin behind it.
    pub(super) fn buckets(&self) -> (i64, i64) {
        let width = if self.instant { 0 } else { self.step };
        (self.covers().start, width)
    }

    /// The interval of a bucket by its beginning.
    pub(super) fn of_bucket(&self, start: i64) -> Option<usize> {
        self.of(start)
    }

    /// The interval that a time belongs to.
    pub(super) fn of(&self, time: i64) -> Option<usize> {
        if !self.covers().contains(time) {
            return None;
        }
        if self.instant {
            return Some(0);
        }
        let since = i128::from(time) - i128::from(self.start) - 1;
        let at = usize::try_from(since / i128::from(self.step)).ok()?;
        (at < self.count).then_some(at)
    }

    /// The interval that a time in milliseconds belongs to that was cut from one in nanoseconds.
    pub(super) fn time_ms(&self, at: usize) -> i64 {
        if self.instant {
            return self.end.div_euclid(MILLISECOND);
        }
        let behind = i128::from(self.step) * (at as i128 + 1);
        let time = (i128::from(self.start) + behind).div_euclid(i128::from(MILLISECOND));
        i64::try_from(time).unwrap_or(i64::MAX)
    }

    /// The times covered, in at most so many parts that begin and end between intervals.
    pub(super) fn parts(&self, most: usize) -> Vec<TimeRange> {
        let all = self.covers();
        let count = most.clamp(1, self.count.max(1));
        if self.instant || count == 1 {
            return vec![all];
        }
        let cut = |part: usize| {
            let at = self.count as i128 * part as i128 / count as i128;
            let time = i128::from(all.start) + at * i128::from(self.step);
            i64::try_from(time).unwrap_or(i64::MAX)
        };
        let part = |part: usize| match part + 1 == count {
            true => TimeRange::new(cut(part), all.end),
            false => TimeRange::new(cut(part), cut(part + 1)),
        };
        (0..count).map(part).collect()
    }
}

/// The step for a range query that names none: about 240 in the range, a whole number of hours, 5
/// minutes, minutes, 15, 5 or single seconds, whichever is the greatest unit that fits; of ranges
/// below a minute a multiple of 50 milliseconds. Nanoseconds.
pub fn default_step(start_ns: i64, end_ns: i64) -> i64 {
    const STEPS: i64 = 240;
    const SHORT: i64 = 50 * MILLISECOND;
    let window = end_ns.saturating_sub(start_ns).max(0);
    let step = window / STEPS;
    if window < 60 * SECOND {
        return (step / SHORT * SHORT).max(SHORT);
    }
    let units = [3600, 300, 60, 15, 5].map(|seconds| seconds * SECOND);
    let unit = units.into_iter().find(|unit| *unit <= step);
    let unit = unit.unwrap_or(SECOND);
    (step / unit * unit).max(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_belong_to_the_interval_that_ends_with_them() {
        let intervals = Intervals::range(10, 50, 10);
        for (time, expected) in [
            (5, None),
            (10, None),
            (11, Some(0)),
            (20, Some(0)),
            (21, Some(1)),
            (50, Some(3)),
            (51, None),
        ] {
            assert_eq!(intervals.of(time), expected, "{time}");
        }
        let (origin, width) = intervals.buckets();
        assert_eq!((origin, width), (11, 10));
        assert_eq!(intervals.of_bucket(31), Some(2));
        let instant = Intervals::instant(10, 50);
        for (time, expected) in [(9, None), (10, Some(0)), (50, Some(0)), (51, None)] {
            assert_eq!(instant.of(time), expected, "{time}");
        }
        assert_eq!(instant.buckets(), (10, 0));
    }

    #[test]
    fn parts_lie_side_by_side_and_cover_everything() {
        for (start, end, step) in [(0, 100, 10), (3, 95, 10), (0, 7, 1), (0, 1, 1)] {
            let intervals = Intervals::range(start, end, step);
            for most in 0..13 {
                let parts = intervals.parts(most);
                assert_eq!(parts.len(), most.clamp(1, intervals.count()));
                assert_eq!(parts[0].start, intervals.covers().start);
                assert_eq!(parts[parts.len() - 1].end, intervals.covers().end);
                for pair in parts.windows(2) {
                    assert_eq!(pair[0].end, pair[1].start);
                    assert_eq!((pair[0].end - intervals.covers().start) % step, 0);
                }
            }
        }
        assert_eq!(Intervals::instant(0, 9).parts(4), [TimeRange::new(0, 10)]);
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        let (least, most) = (i64::MIN, i64::MAX);
        for step in [1, 7, SECOND, most] {
            for (start, end) in [
                (least, most),
                (least, least),
                (most, most),
                (0, most),
                (least, 0),
            ] {
                let intervals = Intervals::range(start, end, step);
                for time in [least, -1, 0, 1, most] {
                    if let Some(at) = intervals.of(time) {
                        assert!(at < intervals.count());
                    }
                }
                intervals.time_ms(intervals.count().saturating_sub(1));
                intervals.parts(8);
                assert!(default_step(start, end) >= 50 * MILLISECOND);
            }
        }
        assert_eq!(Intervals::instant(least, most).of(0), Some(0));
    }
}
