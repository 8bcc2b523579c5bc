//! Numbers in templates: Go's literals, the lenient conversions of the arithmetic functions, and
//! their decimal arithmetic.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::value::Value;
use crate::logql::units;

/// Digits after the point that a division keeps.
const DIVISION_DIGITS: i32 = 16;

/// An integer with a sign and a base prefix, as Go's `ParseInt` with base 0 reads it.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = body.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") => (16, body.get(2..)?),
        Some("0o") => (8, body.get(2..)?),
        Some("0b") => (2, body.get(2..)?),
        _ if body.len() > 1 && body.starts_with('0') => (8, body.get(1..)?),
        _ => (10, body),
    };
    let has_base = radix != 10;
    let bad_underscore =
        digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && !has_base);
    if digits.is_empty() || bad_underscore || digits.starts_with(['+', '-']) {
        return None;
    }
    let digits = digits.replace('_', "");
    let value = i128::from_str_radix(&digits, radix).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// A float as Go's `ParseFloat` reads it.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    units::float(text).ok()
}

/// A float as an integer, when it is one.
pub(super) fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0).then(|| truncated(value)).flatten()
}

/// A float without its fraction, when it fits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range is checked before"
)]
fn truncated(value: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    (-BOUND..BOUND).contains(&value).then_some(value as i64)
}

/// Any value as an integer; what is none is 0.
pub(super) fn to_int(value: &Value<'_>) -> i64 {
    match value {
        Value::Bool(value) => i64::from(*value),
        Value::Int(value) | Value::Int64(value) => *value,
        Value::Float(value) => truncated(*value).unwrap_or(0),
        Value::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| parse_int(without_fraction(text)))
            .unwrap_or(0),
        Value::Nil | Value::Time(_) | Value::Row | Value::List(_) | Value::Map(_) => 0,
    }
}

/// The part of a decimal number before its point.
fn without_fraction(text: &str) -> &str {
    let Some((before, after)) = text.split_once('.') else {
        return text;
    };
    let digits = before.strip_prefix(['+', '-']).unwrap_or(before);
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (all_digits(digits) && all_digits(after), digits) {
        (true, "") => "0",
        (true, _) => before,
        (false, _) => text,
    }
}

/// Any value as a float; what is none is 0.
pub(super) fn to_float(value: &Value<'_>) -> f64 {
    match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Int(value) | Value::Int64(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(parse_float)
            .unwrap_or(0.0),
        Value::Nil | Value::Time(_) | Value::Row | Value::List(_) | Value::Map(_) => 0.0,
    }
}

/// An operation of decimal arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decimal {
    Add,
    Sub,
    Mul,
    Div,
}

/// A number as its digits and the place of its point: `digits * 10^exponent`.
#[derive(Clone, Copy)]
struct Digits {
    digits: i128,
    exponent: i32,
}

impl Digits {
    fn of(value: f64) -> Option<Self> {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}").parse().ok()?;
        let exponent: i32 = exponent.parse().ok()?;
        Some(Self {
            digits,
            exponent: exponent - i32::try_from(fraction.len()).ok()?,
        })
    }

    fn float(self) -> Option<f64> {
        format!("{}e{}", self.digits, self.exponent).parse().ok()
    }

    fn with_exponent(self, exponent: i32) -> Option<i128> {
        let places = u32::try_from(self.exponent - exponent).ok()?;
        self.digits.checked_mul(10i128.checked_pow(places)?)
    }

    fn apply(self, op: Decimal, other: Self) -> Option<Self> {
        match op {
            Decimal::Add | Decimal::Sub => {
                let exponent = self.exponent.min(other.exponent);
                let (a, b) = (
                    self.with_exponent(exponent)?,
                    other.with_exponent(exponent)?,
                );
                let digits = if op == Decimal::Add {
                    a.checked_add(b)?
                } else {
                    a.checked_sub(b)?
                };
                Some(Self { digits, exponent })
            }
            Decimal::Mul => Some(Self {
                digits: self.digits.checked_mul(other.digits)?,
                exponent: self.exponent + other.exponent,
            }),
            Decimal::Div => {
                // One digit more than is kept, to round by.
                let places = self.exponent - other.exponent + DIVISION_DIGITS;
                let (mut a, mut b) = (self.digits, other.digits);
                let scale = 10i128.checked_pow(places.unsigned_abs())?;
                if places < 0 {
                    b = b.checked_mul(scale)?;
                } else {
                    a = a.checked_mul(scale)?;
                }
                let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
                let is_up = rest.unsigned_abs() >= b.unsigned_abs().div_ceil(2);
                let step = if (a < 0) == (b < 0) { 1 } else { -1 };
                Some(Self {
                    digits: quotient + if is_up { step } else { 0 },
                    exponent: -DIVISION_DIGITS,
                })
            }
        }
    }
}

/// Computes `first op second op …` in decimal arithmetic: 0.1 and 0.2 make 0.3. What has too many
/// digits for that is computed with floats.
///
/// # Errors
/// For a division by zero and for numbers without digits.
pub(super) fn decimal(op: Decimal, first: f64, rest: &[Value<'_>]) -> Result<f64, String> {
    let mut result = first;
    let mut digits = Digits::of(first);
    for value in rest {
        let value = to_float(value);
        if !value.is_finite() || !result.is_finite() {
            return Err("Cannot create a Decimal from NaN or Inf".to_owned());
        }
        if op == Decimal::Div && value == 0.0 {
            return Err("decimal division by 0".to_owned());
        }
        digits = match (digits, Digits::of(value)) {
            (Some(a), Some(b)) => a.apply(op, b),
            _ => None,
        };
        result = digits.and_then(Digits::float).unwrap_or_else(|| match op {
            Decimal::Add => result + value,
            Decimal::Sub => result - value,
            Decimal::Mul => result * value,
            Decimal::Div => result / value,
        });
        digits = digits.or_else(|| Digits::of(result));
    }
    Ok(result)
}

/// Rounds half up (or from another fraction on) at a place after the point.
pub(super) fn round(value: f64, places: i64, from: f64) -> f64 {
    let scale = 10f64.powi(i32::try_from(places).unwrap_or(i32::MAX));
    let scaled = scale * value;
    let rounded = if scaled.fract() >= from {
        scaled.ceil()
    } else {
        scaled.floor()
    };
    rounded / scale
}
