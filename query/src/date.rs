//! Days of the Gregorian calendar. Functions of PromQL and templates of LogQL count with them.

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: i64,
    /// From 1.
    pub(crate) day: i64,
}

impl Date {
    /// The day that is `days` days after 1970-01-01. Years are counted from March, so that the
    /// leap day is their last, in cycles of 400 years.
    pub(crate) fn from_days(days: i64) -> Self {
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

    /// Days since 1970-01-01; what [`Date::from_days`] takes.
    #[cfg(any(feature = "logql", test))]
    pub(crate) fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (cycle, of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (self.month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + day_of_year - 719_468
    }

    fn is_leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    /// Of its month.
    pub(crate) fn days_in_month(self) -> i64 {
        match self.month {
            2 => 28 + i64::from(self.is_leap()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// From 1.
    pub(crate) fn day_of_year(self) -> i64 {
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let index = usize::try_from(self.month - 1).unwrap_or(0);
        let leap_day = i64::from(self.month > 2 && self.is_leap());
        BEFORE.get(index).copied().unwrap_or(0) + self.day + leap_day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_cycle_follows_the_one_before() {
        let mut before = Date::from_days(-1);
        for days in 0..150_000 {
            let date = Date::from_days(days);
            let next_day = date.day == before.day + 1 && date.month == before.month;
            let next_month = date.day == 1 && before.day == before.days_in_month();
            assert!(next_day || next_month, "{before:?} then {date:?}");
            assert_eq!(date.days(), days);
            before = date;
        }
    }
}
