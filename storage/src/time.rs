//! Half-open ranges of time. The unit is the engine's: milliseconds for metrics, nanoseconds for
//! logs and traces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A half-open range of time `[start, end)` in the unit of the engine that it is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first instant inside the range.
    pub start: i64,
    /// The first instant after the range.
    pub end: i64,
}

/// A duration in nanoseconds, the largest number when it is longer.
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl TimeRange {
    /// All of time (but for the very last instant of `i64`).
    pub const ALL: Self = Self {
        start: i64::MIN,
        end: i64::MAX,
    };

    /// The range `[start, end)`.
    pub fn new(start: i64, end: i64) -> Self {
        Self { start, end }
    }

    /// The range that includes both `first` and `last`.
    pub fn inclusive(first: i64, last: i64) -> Self {
        Self {
            start: first,
            end: last.saturating_add(1),
        }
    }

    /// Whether no instant is inside.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Whether `instant` is inside.
    pub fn contains(&self, instant: i64) -> bool {
        self.start <= instant && instant < self.end
    }

    /// Whether some instant is inside both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end && !self.is_empty() && !other.is_empty()
    }

    /// The smallest range that holds both (an empty one counts for nothing).
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.is_empty() {
            return *other;
        }
        if other.is_empty() {
            return *self;
        }
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TimeRange;

    #[test]
    fn ranges_are_half_open() {
        let range = TimeRange::new(10, 20);
        assert!(range.contains(10) && range.contains(19) && !range.contains(20));
        assert!(!range.overlaps(&TimeRange::new(20, 30)));
        assert!(range.overlaps(&TimeRange::new(19, 30)));
        assert!(
            !range.overlaps(&TimeRange::new(15, 15)),
            "an empty range overlaps nothing"
        );
        assert_eq!(TimeRange::inclusive(1, 1), TimeRange::new(1, 2));
        assert_eq!(range.union(&TimeRange::new(40, 41)), TimeRange::new(10, 41));
        assert_eq!(range.union(&TimeRange::new(5, 5)), range);
    }
}
