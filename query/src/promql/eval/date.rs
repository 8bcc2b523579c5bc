//! Parts of dates, in UTC, and times as text.

use crate::date::Date;
use crate::promql::functions::DatePart;

const DAY_S: i64 = 86_400;

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
}
