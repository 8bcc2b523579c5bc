//! Instants in zones, with Go's reference layouts, for the functions of templates.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;
use std::rc::Rc;

use jiff::tz::TimeZone;

use crate::date::Date;

const DAY: i64 = 86_400;
const NANOS: i64 = 1_000_000_000;

/// Year 1, where Go's times begin, in seconds before 1970.
const ZERO_SECONDS: i64 = -62_135_596_800;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// An instant with the zone it is shown in.
#[derive(Debug, Clone)]
pub(super) struct Time {
    /// Since 1970.
    seconds: i64,
    nanos: u32,
    /// East of UTC, in seconds.
    offset: i32,
    zone: Rc<str>,
}

/// A date and a time of day.
#[derive(Debug, Clone, Copy)]
struct Civil {
    date: Date,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Time {
    pub(super) fn utc(seconds: i64, nanos: u32) -> Self {
        Self {
            seconds,
            nanos,
            offset: 0,
            zone: "UTC".into(),
        }
    }

    pub(super) fn of_nanos(nanos: i64) -> Self {
        let fraction = u32::try_from(nanos.rem_euclid(NANOS)).unwrap_or(0);
        Self::utc(nanos.div_euclid(NANOS), fraction)
    }

    /// What Go gives when there is no time.
    pub(super) fn zero() -> Self {
        Self::utc(ZERO_SECONDS, 0)
    }

    pub(super) fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Seconds and nanoseconds since 1970.
    pub(super) fn instant(&self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    /// Since 1970 in units of which a second has `per_second`; wraps where it does not fit.
    pub(super) fn units(&self, per_second: i64) -> i64 {
        let fraction = i64::from(self.nanos) / (NANOS / per_second);
        self.seconds.wrapping_mul(per_second).wrapping_add(fraction)
    }

    fn civil(&self) -> Civil {
        let local = self.seconds.saturating_add(i64::from(self.offset));
        let of_day = local.rem_euclid(DAY);
        Civil {
            date: Date::from_days(local.div_euclid(DAY)),
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// A part of the date or the time of day by the name of Go's method.
    pub(super) fn part(&self, method: &str) -> Option<i64> {
        let civil = self.civil();
        Some(match method {
            "Year" => civil.date.year,
            "Day" => civil.date.day,
            "Hour" => civil.hour,
            "Minute" => civil.minute,
            "Second" => civil.second,
            "Nanosecond" => i64::from(self.nanos),
            "YearDay" => civil.date.day_of_year(),
            _ => return None,
        })
    }

    pub(super) fn month(&self) -> &'static str {
        name_of(&MONTHS, self.civil().date.month - 1)
    }

    pub(super) fn weekday(&self) -> &'static str {
        let local = self.seconds.saturating_add(i64::from(self.offset));
        name_of(&WEEKDAYS, (local.div_euclid(DAY) + 4).rem_euclid(7))
    }

    /// Appends the time in a reference layout.
    pub(super) fn format(&self, layout: &str, out: &mut String) {
        use fmt::Write as _;
        let civil = self.civil();
        let hour12 = if civil.hour % 12 == 0 {
            12
        } else {
            civil.hour % 12
        };
        let is_afternoon = civil.hour >= 12;
        let mut rest = layout;
        while let Some((before, chunk, after)) = next_chunk(rest) {
            out.push_str(before);
            rest = after;
            let written = match chunk {
                Chunk::LongYear if civil.date.year < 0 => write!(out, "-{:04}", -civil.date.year),
                Chunk::LongYear => write!(out, "{:04}", civil.date.year),
                Chunk::Year => write!(out, "{:02}", civil.date.year.rem_euclid(100)),
                Chunk::LongMonth => write!(out, "{}", self.month()),
                Chunk::Month => write!(out, "{}", short(self.month())),
                Chunk::NumMonth => write!(out, "{}", civil.date.month),
                Chunk::ZeroMonth => write!(out, "{:02}", civil.date.month),
                Chunk::LongWeekday => write!(out, "{}", self.weekday()),
                Chunk::Weekday => write!(out, "{}", short(self.weekday())),
                Chunk::Day => write!(out, "{}", civil.date.day),
                Chunk::UnderDay => write!(out, "{:2}", civil.date.day),
                Chunk::ZeroDay => write!(out, "{:02}", civil.date.day),
                Chunk::UnderYearDay => write!(out, "{:3}", civil.date.day_of_year()),
                Chunk::ZeroYearDay => write!(out, "{:03}", civil.date.day_of_year()),
                Chunk::Hour => write!(out, "{:02}", civil.hour),
                Chunk::Hour12 => write!(out, "{hour12}"),
                Chunk::ZeroHour12 => write!(out, "{hour12:02}"),
                Chunk::Minute => write!(out, "{}", civil.minute),
                Chunk::ZeroMinute => write!(out, "{:02}", civil.minute),
                Chunk::Second => write!(out, "{}", civil.second),
                Chunk::ZeroSecond => write!(out, "{:02}", civil.second),
                Chunk::UpperPm => write!(out, "{}", if is_afternoon { "PM" } else { "AM" }),
                Chunk::LowerPm => write!(out, "{}", if is_afternoon { "pm" } else { "am" }),
                Chunk::ZoneName => write!(out, "{}", self.zone),
                Chunk::Offset(style) => {
                    style.write(self.offset, out);
                    Ok(())
                }
                Chunk::Fraction {
                    separator,
                    digits,
                    trims,
                } => {
                    fraction(self.nanos, separator, digits, trims, out);
                    Ok(())
                }
            };
            // Writing to a string cannot fail.
            written.ok();
        }
        out.push_str(rest);
    }

    /// Reads `text` by a layout; what names no zone is in `zone`. `None` when it does not fit.
    pub(super) fn parse(layout: &str, text: &str, zone: &TimeZone) -> Option<Self> {
        Reader::default().read(layout, text, zone)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.format("2006-01-02 15:04:05.999999999 -0700 MST", &mut text);
        f.write_str(&text)
    }
}

fn name_of(names: &[&'static str], index: i64) -> &'static str {
    let index = usize::try_from(index).unwrap_or(0);
    names.get(index).copied().unwrap_or("")
}

fn short(name: &str) -> &str {
    name.get(..3).unwrap_or(name)
}

fn fraction(nanos: u32, separator: char, digits: usize, trims: bool, out: &mut String) {
    let all = format!("{nanos:09}");
    let mut kept = all.get(..digits.min(9)).unwrap_or(&all);
    if trims {
        kept = kept.trim_end_matches('0');
        if kept.is_empty() {
            return;
        }
    }
    out.push(separator);
    out.push_str(kept);
    out.extend(std::iter::repeat_n(
        '0',
        if trims { 0 } else { digits.saturating_sub(9) },
    ));
}

/// How an offset from UTC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OffsetStyle {
    /// `Z` stands for no offset.
    has_z: bool,
    colons: bool,
    minutes: bool,
    seconds: bool,
}

impl OffsetStyle {
    fn write(self, offset: i32, out: &mut String) {
        use fmt::Write as _;
        if self.has_z && offset == 0 {
            out.push('Z');
            return;
        }
        let (sign, size) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
        let colon = if self.colons { ":" } else { "" };
        // Writing to a string cannot fail.
        write!(out, "{sign}{:02}", size / 3600).ok();
        if self.minutes {
            write!(out, "{colon}{:02}", size / 60 % 60).ok();
        }
        if self.seconds {
            write!(out, "{colon}{:02}", size % 60).ok();
        }
    }

    fn read(self, text: &str) -> Option<(i32, &str)> {
        if let Some(rest) = text.strip_prefix('Z').filter(|_| self.has_z) {
            return Some((0, rest));
        }
        let sign = match text.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (hours, mut rest) = two_digits(text.get(1..)?)?;
        let mut offset = hours * 3600;
        for (wanted, unit) in [(self.minutes, 60), (self.seconds, 1)] {
            if wanted {
                let body = if self.colons {
                    rest.strip_prefix(':')?
                } else {
                    rest
                };
                let (value, after) = two_digits(body)?;
                offset += value * unit;
                rest = after;
            }
        }
        Some((sign * i32::try_from(offset).ok()?, rest))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    LongYear,
    Year,
    LongMonth,
    Month,
    NumMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    UpperPm,
    LowerPm,
    ZoneName,
    Offset(OffsetStyle),
    Fraction {
        separator: char,
        digits: usize,
        trims: bool,
    },
}

/// The chunks that are fixed words; of two that begin alike the longer comes first.
const WORDS: [(&str, Chunk); 22] = [
    ("January", Chunk::LongMonth),
    ("Monday", Chunk::LongWeekday),
    ("MST", Chunk::ZoneName),
    ("002", Chunk::ZeroYearDay),
    ("01", Chunk::ZeroMonth),
    ("02", Chunk::ZeroDay),
    ("03", Chunk::ZeroHour12),
    ("04", Chunk::ZeroMinute),
    ("05", Chunk::ZeroSecond),
    ("06", Chunk::Year),
    ("15", Chunk::Hour),
    ("1", Chunk::NumMonth),
    ("2006", Chunk::LongYear),
    ("2", Chunk::Day),
    ("__2", Chunk::UnderYearDay),
    ("_2", Chunk::UnderDay),
    ("3", Chunk::Hour12),
    ("4", Chunk::Minute),
    ("5", Chunk::Second),
    ("PM", Chunk::UpperPm),
    ("pm", Chunk::LowerPm),
    ("Jan", Chunk::Month),
];

const OFFSETS: [(&str, bool, bool, bool); 5] = [
    ("070000", false, true, true),
    ("07:00:00", true, true, true),
    ("0700", false, true, false),
    ("07:00", true, true, false),
    ("07", false, false, false),
];

/// Splits a layout at its first chunk.
fn next_chunk(layout: &str) -> Option<(&str, Chunk, &str)> {
    for (at, c) in layout.char_indices() {
        let text = layout.get(at..)?;
        let before = layout.get(..at)?;
        if let Some((chunk, len)) = chunk_at(text, c) {
            return Some((before, chunk, text.get(len..)?));
        }
    }
    None
}

fn chunk_at(text: &str, first: char) -> Option<(Chunk, usize)> {
    let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    match first {
        '-' | 'Z' => {
            let body = text.get(1..)?;
            let (word, colons, minutes, seconds) =
                *OFFSETS.iter().find(|(word, ..)| body.starts_with(word))?;
            let style = OffsetStyle {
                has_z: first == 'Z',
                colons,
                minutes,
                seconds,
            };
            Some((Chunk::Offset(style), 1 + word.len()))
        }
        '.' | ',' => {
            let digit = *text
                .as_bytes()
                .get(1)
                .filter(|b| matches!(b, b'0' | b'9'))?;
            let run = text
                .bytes()
                .skip(1)
                .take_while(|byte| *byte == digit)
                .count();
            let chunk = Chunk::Fraction {
                separator: first,
                digits: run,
                trims: digit == b'9',
            };
            (!is_digit(1 + run)).then_some((chunk, 1 + run))
        }
        // An underscore before a year is one.
        '_' if text.starts_with("_2006") => None,
        _ => {
            let word = WORDS.iter().find(|(word, _)| text.starts_with(word));
            let lower_follows = text.as_bytes().get(3).is_some_and(u8::is_ascii_lowercase);
            match word {
                Some((_, Chunk::Month)) if lower_follows => None,
                Some((word, chunk)) => Some((*chunk, word.len())),
                None if text.starts_with("Mon") && !lower_follows => Some((Chunk::Weekday, 3)),
                None => None,
            }
        }
    }
}

fn two_digits(text: &str) -> Option<(i64, &str)> {
    digits(text, 2, 2)
}

/// A number of so many digits off the front.
fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let len = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    if len < least {
        return None;
    }
    Some((text.get(..len)?.parse().ok()?, text.get(len..)?))
}

/// One of the names off the front, in any case, whole or by its first three letters.
fn name<'t>(text: &'t str, names: &[&str], is_long: bool) -> Option<(i64, &'t str)> {
    for (i, name) in names.iter().enumerate() {
        let name = if is_long { name } else { short(name) };
        let found = text.get(..name.len());
        if found.is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return Some((i64::try_from(i).ok()? + 1, text.get(name.len()..)?));
        }
    }
    None
}

/// What has been read of a time.
#[derive(Default)]
struct Reader {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: u32,
    /// Whether it is after noon, where that is told.
    afternoon: Option<bool>,
    offset: Option<i32>,
    zone: Option<String>,
}

impl Reader {
    fn read(mut self, layout: &str, text: &str, zone: &TimeZone) -> Option<Time> {
        let (mut layout, mut text) = (layout, text);
        while let Some((before, chunk, after)) = next_chunk(layout) {
            text = skip(text, before)?;
            layout = after;
            text = self.chunk(chunk, text, layout)?;
        }
        text = skip(text, layout)?;
        text.is_empty().then(|| self.finish(zone)).flatten()
    }

    fn chunk<'t>(&mut self, chunk: Chunk, text: &'t str, layout: &str) -> Option<&'t str> {
        let (value, rest) = match chunk {
            Chunk::LongYear => digits(text, 4, 4)?,
            Chunk::LongMonth => name(text, &MONTHS, true)?,
            Chunk::Month => name(text, &MONTHS, false)?,
            Chunk::LongWeekday => name(text, &WEEKDAYS, true)?,
            Chunk::Weekday => name(text, &WEEKDAYS, false)?,
            Chunk::UnderDay => digits(text.strip_prefix(' ').unwrap_or(text), 1, 2)?,
            Chunk::UnderYearDay | Chunk::ZeroYearDay => {
                let blanks = if chunk == Chunk::UnderYearDay {
                    " "
                } else {
                    ""
                };
                let body = text.trim_start_matches(|c| blanks.contains(c));
                let (value, rest) = digits(body, 1, 3)?;
                (text.len() - rest.len() == 3).then_some((value, rest))?
            }
            Chunk::NumMonth | Chunk::Day | Chunk::Hour12 | Chunk::Minute | Chunk::Second => {
                digits(text, 1, 2)?
            }
            Chunk::Hour => digits(text, 1, 2)?,
            Chunk::Year
            | Chunk::ZeroMonth
            | Chunk::ZeroDay
            | Chunk::ZeroHour12
            | Chunk::ZeroMinute
            | Chunk::ZeroSecond => two_digits(text)?,
            Chunk::UpperPm | Chunk::LowerPm => {
                let word = text.get(..2)?;
                let (pm, am) = if chunk == Chunk::UpperPm {
                    ("PM", "AM")
                } else {
                    ("pm", "am")
                };
                self.afternoon = Some(word == pm);
                (word == pm || word == am).then_some((0, text.get(2..)?))?
            }
            Chunk::ZoneName => {
                let len = text.bytes().take_while(u8::is_ascii_alphabetic).count();
                let zone = text
                    .get(..len)
                    .filter(|zone| (3..=5).contains(&zone.len()))?;
                self.zone = Some(zone.to_owned());
                (0, text.get(len..)?)
            }
            Chunk::Offset(style) => {
                let (offset, rest) = style.read(text)?;
                self.offset = Some(offset);
                (0, rest)
            }
            Chunk::Fraction { digits, trims, .. } => {
                return self.fraction(text, (!trims).then_some(digits));
            }
        };
        self.set(chunk, value)?;
        let has_fraction = matches!(next_chunk(layout), Some((before, Chunk::Fraction { .. }, _)) if before.is_empty());
        if matches!(chunk, Chunk::Second | Chunk::ZeroSecond) && !has_fraction {
            // A fraction may follow the seconds also where the layout has none.
            return self.fraction(rest, None);
        }
        Some(rest)
    }

    /// A point or comma and digits: exactly so many, or any number and none at all.
    fn fraction<'t>(&mut self, text: &'t str, exactly: Option<usize>) -> Option<&'t str> {
        let body = text.strip_prefix(['.', ',']);
        let len = body.map_or(0, |body| {
            body.bytes().take_while(u8::is_ascii_digit).count()
        });
        let (Some(body), true) = (body, len > 0) else {
            return exactly.is_none().then_some(text);
        };
        let len = match exactly {
            Some(exactly) if len < exactly => return None,
            Some(exactly) => exactly,
            None => len,
        };
        let kept = body.get(..len.min(9))?;
        self.nanos = format!("{kept:0<9}").parse().ok()?;
        body.get(len..)
    }

    fn set(&mut self, chunk: Chunk, value: i64) -> Option<()> {
        let within = |most: i64| (0..=most).contains(&value).then_some(value);
        match chunk {
            Chunk::LongYear => self.year = value,
            Chunk::Year => self.year = value + if value >= 69 { 1900 } else { 2000 },
            Chunk::LongMonth | Chunk::Month | Chunk::NumMonth | Chunk::ZeroMonth => {
                self.month = Some(within(12).filter(|month| *month > 0)?);
            }
            Chunk::Day | Chunk::UnderDay | Chunk::ZeroDay => self.day = Some(value),
            Chunk::UnderYearDay | Chunk::ZeroYearDay => self.year_day = Some(value),
            Chunk::Hour => self.hour = within(23)?,
            Chunk::Hour12 | Chunk::ZeroHour12 => self.hour = within(12)?,
            Chunk::Minute | Chunk::ZeroMinute => self.minute = within(59)?,
            Chunk::Second | Chunk::ZeroSecond => self.second = within(59)?,
            Chunk::LongWeekday
            | Chunk::Weekday
            | Chunk::UpperPm
            | Chunk::LowerPm
            | Chunk::ZoneName
            | Chunk::Offset(_)
            | Chunk::Fraction { .. } => {}
        }
        Some(())
    }

    fn finish(self, zone: &TimeZone) -> Option<Time> {
        let hour = match (self.afternoon, self.hour) {
            (Some(true), hour) if hour < 12 => hour + 12,
            (Some(false), 12) => 0,
            (_, hour) => hour,
        };
        let (mut month, mut day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        if let Some(year_day) = self.year_day {
            let first = Date {
                year: self.year,
                month: 1,
                day: 1,
            };
            let date = Date::from_days(first.days() + year_day - 1);
            let fits = date.year == self.year && year_day >= 1;
            let agrees = self.month.is_none_or(|month| month == date.month)
                && self.day.is_none_or(|day| day == date.day);
            (month, day) = (fits && agrees).then_some((date.month, date.day))?;
        }
        let date = Date {
            year: self.year,
            month,
            day,
        };
        if day < 1 || day > date.days_in_month() {
            return None;
        }
        let local = date.days() * DAY + hour * 3600 + self.minute * 60 + self.second;
        let name = self.zone.unwrap_or_default();
        let offset = match self.offset {
            _ if name == "UTC" => Some(0),
            Some(offset) => Some(offset),
            // A name that is not known stands for no offset.
            None if !name.is_empty() => Some(0),
            None => None,
        };
        if let Some(offset) = offset {
            let zone = if offset == 0 && name.is_empty() {
                "UTC"
            } else {
                &name
            };
            return Some(Time {
                seconds: local - i64::from(offset),
                nanos: self.nanos,
                offset,
                zone: zone.into(),
            });
        }
        // The offset that holds at that time of day in the zone.
        let guess = offset_at(zone, local);
        let (offset, abbreviation) = offset_at(zone, local - i64::from(guess.0));
        Some(Time {
            seconds: local - i64::from(offset),
            nanos: self.nanos,
            offset,
            zone: abbreviation,
        })
    }
}

/// The offset of a zone at an instant, and what it is called then.
fn offset_at(zone: &TimeZone, seconds: i64) -> (i32, Rc<str>) {
    let Ok(timestamp) = jiff::Timestamp::from_second(seconds) else {
        return (0, "UTC".into());
    };
    let info = zone.to_offset_info(timestamp);
    (info.offset().seconds(), info.abbreviation().into())
}

/// Takes the text between two chunks off the front: blanks stand for any number of blanks.
fn skip<'t>(text: &'t str, between: &str) -> Option<&'t str> {
    let (mut text, mut between) = (text, between);
    while let Some(c) = between.chars().next() {
        if c == ' ' {
            if !text.is_empty() && !text.starts_with(' ') {
                return None;
            }
            between = between.trim_start_matches(' ');
            text = text.trim_start_matches(' ');
        } else {
            text = text.strip_prefix(c)?;
            between = between.get(c.len_utf8()..)?;
        }
    }
    Some(text)
}
