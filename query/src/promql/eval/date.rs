//! Parts of dates, in UTC, and times as text.

use crate::promql::functions::DatePart;

const DAY_S: i64 = 86_400;

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// The day that is `days` days after 1970-01-01. Years are counted from March, so that the
    /// leap day is their last, in cycles of 400 years.
    fn from_days(days: i64) -> Self {
        const CYCLE: i64 = 146_097;
        let since = days + 719_468;
        let (cycle, in_cycle) = (since.div_euclid(CYCLE), since.rem_euclid(CYCLE));
        let leap_corrected = in_cycle - in_cycle / 1460 + in_cycle / 36_524 - in_cycle / 146_096;
        let year_of_cycle = leap_corrected / 365;
        let start = 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100;
        let day_of_year = in_cycle - start;
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
        Self { year, month, day }
    }

    fn is_leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_in_month(self) -> i64 {
        match self.month {
            2 => 28 + i64::from(self.is_leap()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn day_of_year(self) -> i64 {
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let index = usize::try_from(self.month - 1).unwrap_or(0);
        let leap_day = i64::from(self.month > 2 && self.is_leap());
        BEFORE.get(index).copied().unwrap_or(0) + self.day + leap_day
    }
}

/// One part of the time `seconds` after 1970; fractions of a second do not count.
pub(super) fn part(part: DatePart, seconds: f64) -> f64 {
    /// Years beyond this make no sense, and the arithmetic stays far from its bounds.
    const SECONDS_MAX: f64 = 1e15;
    if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
        return f64::NAN;
    }
    let seconds = seconds as i64;
    let (days, in_day) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let date = Date::from_days(days);
    let part = match part {
        DatePart::Year => date.year,
        DatePart::Month => date.month,
        DatePart::DayOfMonth => date.day,
        // 1970-01-01 was a Thursday.
        DatePart::DayOfWeek => (days + 4).rem_euclid(7),
        DatePart::DayOfYear => date.day_of_year(),
        DatePart::DaysInMonth => date.days_in_month(),
        DatePart::Hour => in_day / 3600,
        DatePart::Minute => in_day / 60 % 60,
    };
    part as f64
}

/// A time as RFC 3339 text in UTC, with as many decimals as are not zero.
pub(in crate::promql) fn rfc3339(ms: i64) -> String {
    let (seconds, rest) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    let Date { year, month, day } = Date::from_days(seconds.div_euclid(DAY_S));
    let in_day = seconds.rem_euclid(DAY_S);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    let fraction = if rest == 0 {
        String::new()
    } else {
        format!(".{rest:03}").trim_end_matches('0').to_owned()
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_printed() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_704_067_199_500, "2023-12-31T23:59:59.5Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ];
        for (ms, expect) in table {
            assert_eq!(rfc3339(ms), expect);
        }
    }

    #[test]
    fn parts() {
        let leap_day = 951_782_400.0 + 3661.7;
        let table = [
            (DatePart::Year, 2000.0),
            (DatePart::Month, 2.0),
            (DatePart::DayOfMonth, 29.0),
            (DatePart::DayOfWeek, 2.0),
            (DatePart::DayOfYear, 60.0),
            (DatePart::DaysInMonth, 29.0),
            (DatePart::Hour, 1.0),
            (DatePart::Minute, 1.0),
        ];
        for (which, expect) in table {
            assert_eq!(part(which, leap_day), expect, "{which:?}");
        }
        assert!(part(DatePart::Year, f64::INFINITY).is_nan());
        assert_eq!(part(DatePart::DayOfWeek, -1.0), 3.0);
    }

    #[test]
    fn every_day_of_a_cycle_follows_the_one_before() {
        let mut before = Date::from_days(-1);
        for days in 0..150_000 {
            let date = Date::from_days(days);
            let next_day = date.day == before.day + 1 && date.month == before.month;
            let next_month = date.day == 1 && before.day == before.days_in_month();
            assert!(next_day || next_month, "{before:?} then {date:?}");
            before = date;
        }
    }
}
