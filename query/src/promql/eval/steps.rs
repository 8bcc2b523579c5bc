//! The times at which an expression is evaluated.

/// Equally spaced times. Copied around freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    start: i64,
    step: i64,
    count: usize,
}

impl Steps {
    /// One time, in milliseconds since 1970.
    pub(super) fn one(time_ms: i64) -> Self {
        Self {
            start: time_ms,
            step: 0,
            count: 1,
        }
    }

    /// `start`, `start + step`, .. up to `end`; `step` must be positive.
    pub(super) fn between(start: i64, end: i64, step: i64) -> Self {
        let span = i128::from(end) - i128::from(start);
        let count = if span < 0 {
            0
        } else {
            span / i128::from(step.max(1)) + 1
        };
        Self {
            start,
            step,
            count: usize::try_from(count).unwrap_or(usize::MAX),
        }
    }

    /// The same for a caller's figures, with Prometheus' texts for those that make no sense.
    pub(super) fn checked(
        start: i64,
        end: i64,
        step: i64,
        steps_max: usize,
    ) -> Result<Self, String> {
        if end < start {
            return Err("end timestamp must not be before start time".to_owned());
        }
        if step <= 0 {
            return Err(
                "zero or negative query resolution step widths are not accepted. Try a \
                        positive integer"
                    .to_owned(),
            );
        }
        let steps = Self::between(start, end, step);
        if steps.count.saturating_sub(1) > steps_max {
            return Err(format!(
                "exceeded maximum resolution of {} points per timeseries. Try decreasing the query \
                 resolution (?step=XX)",
                with_commas(steps_max)
            ));
        }
        Ok(steps)
    }

    pub(super) fn start(self) -> i64 {
        self.start
    }

    /// The last step.
    pub(super) fn end(self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// The distance of two steps, 0 where there is one only.
    pub(super) fn step_ms(self) -> i64 {
        self.step
    }

    pub(super) fn count(self) -> usize {
        self.count
    }

    pub(super) fn at(self, index: usize) -> i64 {
        let ahead = i64::try_from(index)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.step);
        self.start.saturating_add(ahead)
    }

    pub(super) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |index| self.at(index))
    }
}

fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Steps;

    #[test]
    fn steps_reach_the_end_if_they_hit_it() {
        assert_eq!(
            Steps::between(0, 10, 5).times().collect::<Vec<_>>(),
            [0, 5, 10]
        );
        assert_eq!(Steps::between(1, 10, 5).times().collect::<Vec<_>>(), [1, 6]);
        assert_eq!(Steps::between(5, 4, 1).count(), 0);
        assert_eq!(Steps::between(i64::MIN, i64::MAX, 1).count(), usize::MAX);
    }

    #[test]
    fn the_bound_counts_intervals() {
        assert_eq!(
            Steps::checked(0, 11_000, 1, 11_000).map(Steps::count),
            Ok(11_001)
        );
        let error = Steps::checked(0, 11_001, 1, 11_000).unwrap_err();
        assert!(error.starts_with("exceeded maximum resolution of 11,000 points per timeseries"));
        assert!(Steps::checked(1, 0, 1, 10).is_err());
        assert!(Steps::checked(0, 1, 0, 10).is_err());
    }
}
