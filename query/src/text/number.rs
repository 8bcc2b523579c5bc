//! Numbers as the originals read and print them: Go's shortest forms, and PromQL's literals.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Reads a number literal as PromQL does: decimal with exponent, `0x` hexadecimal, a leading zero
/// as octal where it reads as an integer, `Inf`, `NaN` in any case, with an optional sign.
pub fn parse_number(text: &str) -> Option<f64> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(body) => (-1.0, body),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    if body.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Some(hex) = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16)
            .ok()
            .map(|value| sign * value as f64);
    }
    let octal = body.len() > 1 && body.starts_with('0') && body.bytes().all(|b| b.is_ascii_digit());
    if octal && let Ok(value) = u64::from_str_radix(body, 8) {
        return Some(sign * value as f64);
    }
    // Go reports a literal beyond the largest float as an error; it is not infinity.
    body.parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .map(|value| sign * value)
}

/// Go's `'f', -1` form: the fewest digits that read back as the same float, never an exponent.
pub fn format_float(value: f64) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let mut buffer = ryu::Buffer::new();
    let Shortest {
        sign,
        digits,
        point,
    } = Shortest::of(buffer.format_finite(value));
    let whole = usize::try_from(point).unwrap_or(0);
    match (whole, digits.len()) {
        (0, _) => {
            let zeros = "0".repeat(usize::try_from(-point).unwrap_or(0));
            format!("{sign}0.{zeros}{digits}")
        }
        (whole, count) if whole >= count => format!("{sign}{digits}{}", "0".repeat(whole - count)),
        (whole, _) => {
            let (before, after) = digits.split_at(whole);
            format!("{sign}{before}.{after}")
        }
    }
}

/// The fewest digits of a finite float, of two equally near ones the even one, as Go has them; the
/// standard library takes the upper one.
struct Shortest {
    sign: &'static str,
    /// Without zeros at either end, but for zero itself.
    digits: String,
    /// How many digits stand before the point; fewer than none where zeros follow it.
    point: i64,
}

impl Shortest {
    /// Reads what `ryu` wrote: a sign, digits, perhaps a point with more, perhaps an exponent.
    fn of(text: &str) -> Self {
        let (sign, text) = match text.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", text),
        };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{before}{after}");
        let zeros = digits.len() - digits.trim_start_matches('0').len();
        digits.drain(..zeros);
        digits.truncate(digits.trim_end_matches('0').len());
        if digits.is_empty() {
            return Self {
                sign,
                digits: "0".to_owned(),
                point: 1,
            };
        }
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        Self {
            sign,
            digits,
            point: count(before.len()) - count(zeros) + exponent.parse().unwrap_or(0),
        }
    }
}

/// Go's `'f', digits` form: a fixed number of decimals.
pub fn format_fixed(value: f64, digits: usize) -> String {
    special(value).map_or_else(|| format!("{value:.digits$}"), ToOwned::to_owned)
}

/// Go's `'e', -1` form: the fewest digits, a signed exponent of at least two digits.
pub fn format_exponent(value: f64) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let mut buffer = ryu::Buffer::new();
    let Shortest {
        sign,
        digits,
        point,
    } = Shortest::of(buffer.format_finite(value));
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    let exponent = if value == 0.0 { 0 } else { point - 1 };
    let direction = if exponent < 0 { '-' } else { '+' };
    format!(
        "{sign}{first}{dot}{rest}e{direction}{:0>2}",
        exponent.unsigned_abs()
    )
}

/// Go's `%g` form: the fewest digits, with an exponent below 1e-4 and from 1e6 on.
pub fn format_general(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() || (1e-4..1e6).contains(&magnitude) {
        format_float(value)
    } else {
        format_exponent(value)
    }
}

/// The form of sample values in Prometheus' JSON: `'f', -1`, but `'e', -1` below 1e-6 and from
/// 1e21 on; `NaN`, `+Inf`, `-Inf`.
pub fn format_json(value: f64) -> String {
    let magnitude = value.abs();
    if value != 0.0 && value.is_finite() && !(1e-6..1e21).contains(&magnitude) {
        return format_exponent(value);
    }
    format_float(value)
}

/// A timestamp in Prometheus' JSON: seconds, with exactly three decimals unless it is whole.
pub fn format_timestamp(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let total = milliseconds.unsigned_abs();
    match (total / 1000, total % 1000) {
        (seconds, 0) => format!("{sign}{seconds}"),
        (seconds, rest) => format!("{sign}{seconds}.{rest:03}"),
    }
}

/// The texts that no digits are needed for.
fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literals() {
        let good = [
            ("1", 1.0),
            ("1.5e3", 1500.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("0x1F", 31.0),
            ("-0xf", -15.0),
            ("010", 8.0),
            ("09", 9.0),
            ("+Inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("1e-400", 0.0),
        ];
        for (text, expect) in good {
            assert_eq!(parse_number(text), Some(expect), "{text}");
        }
        assert!(parse_number("nAn").is_some_and(f64::is_nan));
        for text in [
            "", "-", "e5", "0x", "0xg", "1_000", "abc", "1e999", "--1", "1 ",
        ] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    #[test]
    fn forms() {
        let table: [(f64, &str, &str, &str, &str); 12] = [
            (0.0, "0", "0", "0e+00", "0"),
            (-0.0, "-0", "-0", "-0e+00", "-0"),
            (1.5, "1.5", "1.5", "1.5e+00", "1.5"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21", "1e+21"),
            (
                1e20,
                "100000000000000000000",
                "100000000000000000000",
                "1e+20",
                "1e+20",
            ),
            (1e-7, "0.0000001", "1e-07", "1e-07", "1e-07"),
            (1e-6, "0.000001", "0.000001", "1e-06", "1e-06"),
            (1.5e-10, "0.00000000015", "1.5e-10", "1.5e-10", "1.5e-10"),
            (
                1_234_567.0,
                "1234567",
                "1234567",
                "1.234567e+06",
                "1.234567e+06",
            ),
            (1e-5, "0.00001", "0.00001", "1e-05", "1e-05"),
            (0.0001, "0.0001", "0.0001", "1e-04", "0.0001"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf", "-Inf"),
        ];
        for (value, float, json, exponent, general) in table {
            assert_eq!(format_float(value), float);
            assert_eq!(format_json(value), json);
            assert_eq!(format_exponent(value), exponent);
            assert_eq!(format_general(value), general);
        }
        assert_eq!(format_json(f64::NAN), "NaN");
        assert_eq!(format_json(f64::INFINITY), "+Inf");
        assert_eq!(format_exponent(1.5e-300), "1.5e-300");
        assert_eq!(format_fixed(1.25, 6), "1.250000");
        // Two shortest forms are equally near: the even one.
        assert_eq!(
            format_float(1_249_525_000_778_657.0 + 0.25),
            "1249525000778657.2"
        );
        assert_eq!(
            format_float(1_249_525_000_778_657.0 + 0.75),
            "1249525000778657.8"
        );
    }

    #[test]
    fn timestamps() {
        for (ms, expect) in [
            (0, "0"),
            (1000, "1"),
            (1500, "1.500"),
            (-1, "-0.001"),
            (7, "0.007"),
        ] {
            assert_eq!(format_timestamp(ms), expect);
        }
    }

    proptest! {
        #[test]
        fn every_form_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let forms = [format_float, format_json, format_exponent, format_general];
            for text in forms.map(|form| form(value)) {
                prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(bits), "{}", text);
            }
        }
    }
}
