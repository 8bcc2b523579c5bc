//! Numbers, durations and sizes as LogQL reads them, in queries and in the values of labels; for
//! the lexer, label filters and `unwrap`.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::text::{DurationError, parse_go_duration, parse_prometheus_duration, quote};

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Names of sizes, in lower case, with their factors.
const SIZES: [(&str, u64); 25] = [
    ("", 1),
    ("b", 1),
    ("k", 1000),
    ("kb", 1000),
    ("ki", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mi", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gi", 1 << 30),
    ("gib", 1 << 30),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("ti", 1 << 40),
    ("tib", 1 << 40),
    ("p", 1_000_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("pi", 1 << 50),
    ("pib", 1 << 50),
    ("e", 1_000_000_000_000_000_000),
    ("eb", 1_000_000_000_000_000_000),
    ("eib", 1 << 60),
];

/// Two to the power of 64: sizes from here on do not fit.
const SIZE_BOUND: f64 = 18_446_744_073_709_551_616.0;

/// The length of a range, in nanoseconds.
pub(super) fn range(text: &str) -> Result<i64, String> {
    match prometheus_duration(text)? {
        0 => Err("duration must be greater than 0".to_owned()),
        nanos => Ok(nanos),
    }
}

fn prometheus_duration(text: &str) -> Result<i64, String> {
    let millis = parse_prometheus_duration(text).map_err(|error| error.to_string())?;
    millis
        .checked_mul(NANOS_PER_MILLI)
        .ok_or_else(|| DurationError::OutOfRange.to_string())
}

/// A duration literal in nanoseconds: Prometheus' notation, else Go's.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    prometheus_duration(text).or_else(|_| go_duration(text))
}

/// A duration in Go's notation, in nanoseconds, with Go's errors.
pub(super) fn go_duration(text: &str) -> Result<i64, String> {
    let quoted = || quote(text);
    parse_go_duration(text).map_err(|error| match error {
        DurationError::UnknownUnit(unit, _) => {
            format!(
                "time: unknown unit {} in duration {}",
                quote(&unit),
                quoted()
            )
        }
        DurationError::Syntax(_) if begins_with_number(text) => {
            format!("time: missing unit in duration {}", quoted())
        }
        _ => format!("time: invalid duration {}", quoted()),
    })
}

fn begins_with_number(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let body = body.strip_prefix('.').unwrap_or(body);
    body.starts_with(|c: char| c.is_ascii_digit())
}

/// A size such as `5 KiB` in bytes, units in any case.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == ',';
    let len = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(len).unwrap_or((text, ""));
    let value = float(&number.replace(',', ""))?;
    let unit = unit.trim().to_lowercase();
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("unhandled size name: {unit}"));
    };
    let size = value * (*factor as f64);
    if !(0.0..SIZE_BOUND).contains(&size) {
        return Err(format!("too large: {text}"));
    }
    Ok(whole(size))
}

/// A float in the range of `u64` without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the caller checked the range"
)]
fn whole(size: f64) -> u64 {
    size as u64
}

/// A number as Go's `ParseFloat` reads it, with its errors.
pub(super) fn float(text: &str) -> Result<f64, String> {
    if let Some(value) = plain_float(text) {
        return Ok(value);
    }
    let plain = match text.contains('_') {
        true if has_stray_underscore(text) => text.to_owned(),
        true => text.replace('_', ""),
        false => return float_of(text, text),
    };
    float_of(&plain, text)
}

/// Numbers of more digits may not be exact as they are, nor the power of ten that divides them.
const EXACT_DIGITS_MAX: usize = 15;
const TENS: [f64; EXACT_DIGITS_MAX + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// The value of a few digits with a point among them or without one, as nearly all numbers are.
fn plain_float(text: &str) -> Option<f64> {
    let (mut digits, mut count, mut after_point) = (0u64, 0, None);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' if count < EXACT_DIGITS_MAX => {
                digits = digits * 10 + u64::from(byte - b'0');
                count += 1;
                after_point = after_point.map(|places| places + 1);
            }
            b'.' if count > 0 && after_point.is_none() => after_point = Some(0),
            _ => return None,
        }
    }
    match after_point {
        _ if count == 0 => None,
        None => Some(digits as f64),
        // Both are exact, and so is the quotient but for its rounding.
        Some(places) => Some(digits as f64 / TENS.get(places)?),
    }
}

/// Whether an underscore does not stand between two digits, or the `0x` and a digit.
fn has_stray_underscore(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let hex = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X"));
    let is_digit = |c: char| c.is_ascii_digit() || (hex.is_some() && c.is_ascii_hexdigit());
    let parts: Vec<&str> = hex.unwrap_or(body).split('_').collect();
    let ends = |(i, part): (usize, &&str)| {
        (i == 0 && hex.is_some() && part.is_empty()) || part.ends_with(is_digit)
    };
    let begins = |part: &&str| part.starts_with(is_digit);
    let last = parts.len().saturating_sub(1);
    !parts.iter().enumerate().take(last).all(ends) || !parts.iter().skip(1).all(begins)
}

/// The value of `text`; errors show it as it was `written`.
fn float_of(text: &str, written: &str) -> Result<f64, String> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let parsed = match body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        Some(hex) => hex_float(hex).map(|value| if text.starts_with('-') { -value } else { value }),
        None => text.parse::<f64>().ok(),
    };
    match parsed {
        Some(value) if value.is_infinite() && !body.to_lowercase().starts_with("inf") => {
            Err(format!(
                "strconv.ParseFloat: parsing {}: value out of range",
                quote(written)
            ))
        }
        Some(value) => Ok(value),
        None => Err(format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            quote(written)
        )),
    }
}

/// The digits after `0x`; the exponent (`p`) must be there.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let shift = i32::try_from(fraction.len()).ok()?.checked_mul(4)?;
    Some(value * 2f64.powi(exponent.checked_sub(shift)?))
}

#[cfg(test)]
mod tests {
    use super::{bytes, duration, float, go_duration};

    #[test]
    fn durations_are_prometheus_or_go() {
        let check = |text: &str, expect: i64| assert_eq!(duration(text), Ok(expect), "{text}");
        check("1ns", 1);
        check("1us", 1000);
        check("1µs", 1000);
        check("1s", 1_000_000_000);
        check("1m", 60_000_000_000);
        check("1d", 86_400_000_000_000);
        check("1w", 604_800_000_000_000);
        check("1y", 31_536_000_000_000_000);
        check("1h15m30.918273645s", 4_530_918_273_645);
        check("-1s", -1_000_000_000);
    }

    #[test]
    fn errors_are_those_of_go() {
        let check = |text: &str, expect: &str| {
            assert_eq!(go_duration(text), Err(expect.to_owned()), "{text}");
        };
        check(
            "2weeeeee",
            r#"time: unknown unit "weeeeee" in duration "2weeeeee""#,
        );
        check("not_a_number", r#"time: invalid duration "not_a_number""#);
        check("3", r#"time: missing unit in duration "3""#);
        check("", r#"time: invalid duration """#);
        assert_eq!(bytes("2qb"), Err("unhandled size name: qb".to_owned()));
        let text = r#"strconv.ParseFloat: parsing "not_a_number": invalid syntax"#;
        assert_eq!(float("not_a_number"), Err(text.to_owned()));
    }

    #[test]
    fn plain_numbers_are_read_to_the_last_bit() {
        let mut state = 1u64;
        for places in 0..20usize {
            for digits in 1..18usize {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let mut text: String = format!("{state:020}").chars().rev().take(digits).collect();
                if places < digits {
                    text.insert(places, '.');
                }
                let expected = text.parse::<f64>().unwrap();
                assert_eq!(
                    float(&text).unwrap().to_bits(),
                    expected.to_bits(),
                    "{text}"
                );
            }
        }
        for bad in [".", "", "1.2.3", "1..", "..1"] {
            assert!(float(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_numbers() {
        assert_eq!(bytes("42kB"), Ok(42_000));
        assert_eq!(bytes("13 MiB"), Ok(13_631_488));
        assert_eq!(bytes("42PiB"), Ok(47_287_796_087_390_208));
        assert!(bytes("100EB").is_err(), "does not fit 64 bits");
        assert_eq!(float("0x1p3"), Ok(8.0));
        assert_eq!(float("0X1.8p3"), Ok(12.0));
        assert!(float("0x10").is_err() && float("0b1010").is_err() && float("1e999").is_err());
        assert_eq!(float("+Inf"), Ok(f64::INFINITY));
        assert_eq!(float("-1_000.5_0e1_0"), Ok(-1000.5e10));
        assert_eq!(float("0x_1_fp0"), Ok(31.0));
        for stray in [
            "_1", "1_", "1__0", "1_.5", "1._5", "1_e5", "-_1", "_", "1e_5",
        ] {
            let text = format!("strconv.ParseFloat: parsing \"{stray}\": invalid syntax");
            assert_eq!(float(stray), Err(text));
        }
    }
}
