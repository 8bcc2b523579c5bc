//! Durations in the two notations that the languages know: Prometheus' (`1h30m`, milliseconds) and
//! Go's (`1.5s`, `100us`, nanoseconds).

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DurationError {
    /// Nothing was given.
    Empty,
    /// The text (given) does not have the form of a duration.
    Syntax(String),
    /// The unit (first) of the duration (second) is not known.
    UnknownUnit(String, String),
    /// The duration does not fit.
    OutOfRange,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty duration string"),
            Self::Syntax(text) => write!(f, "not a valid duration string: {}", super::quote(text)),
            Self::UnknownUnit(unit, text) => {
                let (unit, text) = (super::quote(unit), super::quote(text));
                write!(f, "unknown unit {unit} in duration {text}")
            }
            Self::OutOfRange => f.write_str("duration out of range"),
        }
    }
}

impl std::error::Error for DurationError {}

/// Prometheus' units in the order in which they must come, with their milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Milliseconds past which a duration in nanoseconds would overflow 64 bits; Prometheus' limit too.
const MILLISECONDS_MAX: i64 = i64::MAX / 1_000_000;

/// Reads a Prometheus duration: `1h30m`, units `y w d h m s ms` in falling order, each at most
/// once, or a bare `0`. The result is in milliseconds.
///
/// # Errors
/// When the text has another form, or does not fit 64 bits of nanoseconds.
pub fn parse_prometheus_duration(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let syntax = || DurationError::Syntax(text.to_owned());
    let (mut rest, mut total, mut next_unit) = (text, 0i64, 0usize);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(syntax)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters).ok_or_else(syntax)?;
        if number.is_empty() {
            return Err(syntax());
        }
        let Some(order) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(if unit.is_empty() {
                syntax()
            } else {
                DurationError::UnknownUnit(unit.to_owned(), text.to_owned())
            });
        };
        if order < next_unit {
            return Err(syntax());
        }
        next_unit = order + 1;
        let milliseconds = UNITS.get(order).map_or(0, |(_, ms)| *ms);
        let number: i64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total = number
            .checked_mul(milliseconds)
            .and_then(|ms| ms.checked_add(total))
            .filter(|ms| *ms <= MILLISECONDS_MAX)
            .ok_or(DurationError::OutOfRange)?;
        rest = after;
    }
    Ok(total)
}

/// Prints milliseconds as Prometheus does: the largest units first, `0s` for zero; years, weeks
/// and days only where nothing smaller is left.
pub fn format_prometheus_duration(milliseconds: i64) -> String {
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let mut text = if milliseconds < 0 {
        "-".to_owned()
    } else {
        String::new()
    };
    let mut rest = milliseconds.unsigned_abs();
    for (unit, size) in UNITS {
        let size = size.unsigned_abs();
        let exact_only = matches!(unit, "y" | "w");
        if rest / size > 0 && (!exact_only || rest.is_multiple_of(size)) {
            text.push_str(&(rest / size).to_string());
            text.push_str(unit);
            rest %= size;
        }
    }
    text
}

/// Go's units with their nanoseconds; the micro sign exists twice in Unicode.
const GO_UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1000),
    ("\u{b5}s", 1000),
    ("\u{3bc}s", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a Go duration: a sign, then numbers with fractions and units (`1.5s`, `-1h30m`), or a
/// bare `0`. The result is in nanoseconds.
///
/// # Errors
/// When the text has another form or does not fit 64 bits.
pub fn parse_go_duration(text: &str) -> Result<i64, DurationError> {
    let syntax = || DurationError::Syntax(text.to_owned());
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(syntax());
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at_checked(whole_len).ok_or_else(syntax)?;
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => {
                let len = after.bytes().take_while(u8::is_ascii_digit).count();
                after.split_at_checked(len).ok_or_else(syntax)?
            }
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(syntax());
        }
        let unit_len = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_len).ok_or_else(syntax)?;
        if unit.is_empty() {
            return Err(syntax());
        }
        let Some((_, size)) = GO_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(DurationError::UnknownUnit(unit.to_owned(), text.to_owned()));
        };
        let whole: i128 = match whole {
            "" => 0,
            digits => i128::from(
                digits
                    .parse::<u64>()
                    .map_err(|_| DurationError::OutOfRange)?,
            ),
        };
        total += whole * i128::from(*size) + fraction_of(fraction, *size);
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(DurationError::OutOfRange);
        }
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| DurationError::OutOfRange)
}

/// So many digits times the largest unit fit 64 bits.
const FEW_DIGITS: usize = 6;

/// `0.digits * size`, cut to whole units; digits past the eighteenth cannot change a nanosecond.
fn fraction_of(digits: &str, size: i64) -> i128 {
    if digits.len() <= FEW_DIGITS {
        let read =
            |value: (i64, i64), digit: u8| (value.0 * 10 + i64::from(digit - b'0'), value.1 * 10);
        let (numerator, denominator) = digits.bytes().fold((0, 1), read);
        return i128::from(numerator * size / denominator);
    }
    let size = i128::from(size);
    let (mut numerator, mut denominator) = (0i128, 1i128);
    for digit in digits.bytes().take(18) {
        numerator = numerator * 10 + i128::from(digit - b'0');
        denominator *= 10;
    }
    numerator * size / denominator
}

/// Prints nanoseconds as Go does: `1h30m0s`, `1.5s`, `100µs`, `0s`.
pub fn format_go_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let small = |size: u64, unit: &str| format!("{sign}{}{unit}", decimal(total, size));
    match total {
        0 => return "0s".to_owned(),
        1..1000 => return small(1, "ns"),
        1000..1_000_000 => return small(1000, "\u{b5}s"),
        1_000_000..1_000_000_000 => return small(1_000_000, "ms"),
        _ => {}
    }
    let minutes = total / 60_000_000_000;
    let seconds = decimal(total % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / size` with as many decimals as are not zero; `size` is a power of ten.
fn decimal(value: u64, size: u64) -> String {
    let (whole, fraction) = (value / size, value % size);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = size.ilog10() as usize;
    format!(
        "{whole}.{}",
        format!("{fraction:0width$}").trim_end_matches('0')
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prometheus_durations() {
        let good = [
            ("0", 0, "0s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1d", 86_400_000, "1d"),
            ("1y", 31_536_000_000, "1y"),
            ("1w", 604_800_000, "1w"),
            ("8d", 691_200_000, "8d"),
            ("90s", 90_000, "1m30s"),
            ("324ms", 324, "324ms"),
            ("1s5ms", 1005, "1s5ms"),
            ("60m", 3_600_000, "1h"),
            ("0s", 0, "0s"),
            ("36h", 129_600_000, "1d12h"),
        ];
        for (text, milliseconds, printed) in good {
            assert_eq!(parse_prometheus_duration(text), Ok(milliseconds), "{text}");
            assert_eq!(format_prometheus_duration(milliseconds), printed, "{text}");
        }
        assert_eq!(format_prometheus_duration(-90_000), "-1m30s");
        for text in [
            "1", "m", "-5m", "1.5h", "1m1h", "5m5m", "5 m", "5m ", "é", "1mm",
        ] {
            assert!(parse_prometheus_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_prometheus_duration(""), Err(DurationError::Empty));
        let unit = parse_prometheus_duration("5minutes")
            .unwrap_err()
            .to_string();
        assert_eq!(unit, r#"unknown unit "minutes" in duration "5minutes""#);
        for text in ["294y", "99999999999999999999s"] {
            assert_eq!(
                parse_prometheus_duration(text),
                Err(DurationError::OutOfRange),
                "{text}"
            );
        }
    }

    #[test]
    fn go_durations() {
        let good = [
            ("0", 0, "0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("100us", 100_000, "100µs"),
            ("100µs", 100_000, "100µs"),
            ("-1s", -1_000_000_000, "-1s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            (".5m", 30_000_000_000, "30s"),
            ("1m1m", 120_000_000_000, "2m0s"),
            ("+3ns", 3, "3ns"),
            ("1.000000001s", 1_000_000_001, "1.000000001s"),
            ("250ms", 250_000_000, "250ms"),
        ];
        for (text, nanoseconds, printed) in good {
            assert_eq!(parse_go_duration(text), Ok(nanoseconds), "{text}");
            assert_eq!(format_go_duration(nanoseconds), printed, "{text}");
        }
        for text in [
            "",
            "-",
            "1",
            "1d",
            "s",
            ".s",
            "1..5s",
            "9223372036854775808ns",
            "1é",
        ] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_go_duration("-9223372036854775808ns"), Ok(i64::MIN));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(ns in any::<i64>(), ms in 0..=MILLISECONDS_MAX) {
            prop_assert_eq!(parse_go_duration(&format_go_duration(ns)), Ok(ns));
            prop_assert_eq!(parse_prometheus_duration(&format_prometheus_duration(ms)), Ok(ms));
        }

        #[test]
        fn no_text_panics(text in "[-+.0-9a-zµ ]{0,12}") {
            prop_assert!(parse_go_duration(&text).is_ok() || parse_go_duration(&text).is_err());
            prop_assert!(parse_prometheus_duration(&text).map_or(true, |ms| ms >= 0));
        }
    }
}
