//! Go's `printf`: verbs, flags, widths, and what is printed when they do not fit.

use super::Row;
use super::value::Value;
use crate::text::{format_exponent, format_fixed, format_general, quote_bytes};

/// Widths and precisions above are refused.
const WIDTH_MAX: usize = 1_000_000;

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Appends `format` with the values in it.
///
/// # Errors
/// When more than `room` bytes would be written.
pub(super) fn printf(
    format: &[u8],
    values: &[Value<'_>],
    row: Row<'_>,
    room: usize,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let text = String::from_utf8_lossy(format);
    let mut rest = text.chars().peekable();
    let mut next = 0;
    let start = out.len();
    while let Some(c) = rest.next() {
        if out.len() - start > room {
            return Err("the output is too long".to_owned());
        }
        if c != '%' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let mut flags = Flags::default();
        while let Some(&c) = rest.peek() {
            match c {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            rest.next();
        }
        let mut number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if rest.peek() == Some(&'*') {
                rest.next();
                let value = values.get(next).map(super::number::to_int);
                next += 1;
                return value;
            }
            let mut digits = None::<i64>;
            while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
                let value = digits.unwrap_or(0).saturating_mul(10);
                digits = Some(value.saturating_add(i64::from(digit)));
                rest.next();
            }
            digits
        };
        let width = number(&mut rest);
        flags.minus |= width.is_some_and(|width| width < 0);
        flags.width =
            width.map(|width| usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX));
        if rest.peek() == Some(&'.') {
            rest.next();
            let precision = number(&mut rest).unwrap_or(0);
            flags.precision = usize::try_from(precision).ok();
        }
        if flags.width.is_some_and(|width| width > WIDTH_MAX) {
            out.extend_from_slice(b"%!(BADWIDTH)");
            flags.width = None;
        }
        if flags
            .precision
            .is_some_and(|precision| precision > WIDTH_MAX)
        {
            out.extend_from_slice(b"%!(BADPREC)");
            flags.precision = None;
        }
        match rest.next() {
            None => out.extend_from_slice(b"%!(NOVERB)"),
            Some('%') => out.push(b'%'),
            Some(verb) => match values.get(next) {
                None => out.extend_from_slice(format!("%!{verb}(MISSING)").as_bytes()),
                Some(value) => {
                    next += 1;
                    one(verb, flags, value, row, out);
                }
            },
        }
    }
    if let Some(extra) = values.get(next..).filter(|extra| !extra.is_empty()) {
        out.extend_from_slice(b"%!(EXTRA ");
        for (i, value) in extra.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(value.type_name().as_bytes());
            if !matches!(value, Value::Nil) {
                out.push(b'=');
                value.print(row, "<nil>", out);
            }
        }
        out.push(b')');
    }
    if out.len() - start > room {
        return Err("the output is too long".to_owned());
    }
    Ok(())
}

fn one(verb: char, flags: Flags, value: &Value<'_>, row: Row<'_>, out: &mut Vec<u8>) {
    let formatted = match value {
        Value::Nil if verb == 'v' => Some(b"<nil>".to_vec()),
        Value::Bool(value) if matches!(verb, 'v' | 't') => Some(value.to_string().into_bytes()),
        Value::Int(value) | Value::Int64(value) => integer(verb, flags, *value),
        Value::Float(value) => float(verb, flags, *value),
        Value::Text(text) => bytes(verb, flags, text),
        value if matches!(verb, 'v' | 's') => {
            let mut text = Vec::new();
            value.print(row, "<nil>", &mut text);
            Some(text)
        }
        _ => None,
    };
    let Some(formatted) = formatted else {
        out.extend_from_slice(format!("%!{verb}({}", value.type_name()).as_bytes());
        if !matches!(value, Value::Nil) {
            out.push(b'=');
            value.print(row, "<nil>", out);
        }
        out.push(b')');
        return;
    };
    let is_number = matches!(value, Value::Int(_) | Value::Int64(_) | Value::Float(_));
    let is_finite = !matches!(value, Value::Float(value) if !value.is_finite());
    pad(flags, is_number && is_finite, &formatted, out);
}

fn pad(flags: Flags, is_number: bool, text: &[u8], out: &mut Vec<u8>) {
    let len = String::from_utf8_lossy(text).chars().count();
    let missing = flags.width.unwrap_or(0).saturating_sub(len);
    let fill = |out: &mut Vec<u8>, byte| out.extend(std::iter::repeat_n(byte, missing));
    if flags.minus {
        out.extend_from_slice(text);
        fill(out, b' ');
    } else if flags.zero && is_number {
        let sign = usize::from(matches!(text.first(), Some(b'+' | b'-' | b' ')));
        let (sign, digits) = text.split_at(sign);
        out.extend_from_slice(sign);
        fill(out, b'0');
        out.extend_from_slice(digits);
    } else {
        fill(out, if flags.zero { b'0' } else { b' ' });
        out.extend_from_slice(text);
    }
}

fn sign(flags: Flags, negative: bool) -> &'static str {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

fn integer(verb: char, flags: Flags, value: i64) -> Option<Vec<u8>> {
    let size = value.unsigned_abs();
    let (prefix, digits) = match verb {
        'v' | 'd' => ("", format!("{size}")),
        'b' => (if flags.sharp { "0b" } else { "" }, format!("{size:b}")),
        'o' => (if flags.sharp { "0" } else { "" }, format!("{size:o}")),
        'O' => ("0o", format!("{size:o}")),
        'x' => (if flags.sharp { "0x" } else { "" }, format!("{size:x}")),
        'X' => (if flags.sharp { "0X" } else { "" }, format!("{size:X}")),
        'c' | 'q' | 'U' => {
            let c = u32::try_from(value).ok().and_then(char::from_u32);
            let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
            return Some(match verb {
                'c' => c.to_string().into_bytes(),
                'q' => crate::text::quote_char(c).into_bytes(),
                _ => format!("U+{size:04X}").into_bytes(),
            });
        }
        _ => return None,
    };
    let least = flags.precision.unwrap_or(0);
    let zeros = "0".repeat(least.saturating_sub(digits.len()));
    let sign = sign(flags, value < 0);
    Some(format!("{sign}{prefix}{zeros}{digits}").into_bytes())
}

fn float(verb: char, flags: Flags, value: f64) -> Option<Vec<u8>> {
    let precision = flags.precision;
    // More digits than a float has are zeros.
    let digits = precision.unwrap_or(6).min(1100);
    let mut text = match verb {
        'f' | 'F' => format_fixed(value, digits),
        'e' | 'E' => exponent(value, digits),
        'g' | 'G' | 'v' => match precision {
            None => format_general(value),
            Some(precision) => general(value, precision.clamp(1, 1100)),
        },
        _ => return None,
    };
    if verb.is_ascii_uppercase() && value.is_finite() {
        text.make_ascii_uppercase();
    }
    let body = text.trim_start_matches(['+', '-']);
    if value.is_infinite() || value.is_nan() {
        let sign = if value.is_infinite() && value > 0.0 {
            if flags.space { " " } else { "+" }
        } else {
            sign(flags, value.is_sign_negative() && value.is_infinite())
        };
        return Some(format!("{sign}{body}").into_bytes());
    }
    let sign = sign(flags, text.starts_with('-'));
    Some(format!("{sign}{body}").into_bytes())
}

/// The `%e` form with so many digits after the point.
fn exponent(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return format_exponent(value);
    }
    let text = format!("{value:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>2}")
}

/// The `%g` form with so many digits in all.
fn general(value: f64, precision: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format_general(value);
    }
    let text = exponent(value, precision - 1);
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let power: i64 = power.parse().unwrap_or(0);
    let bound = i64::try_from(precision).unwrap_or(i64::MAX);
    if power < -4 || power >= bound {
        let tail = text.get(mantissa.len()..).unwrap_or("");
        return format!("{}{tail}", trimmed(mantissa));
    }
    let digits = usize::try_from(bound - 1 - power).unwrap_or(0);
    trimmed(&format!("{value:.digits$}"))
}

fn bytes(verb: char, flags: Flags, text: &[u8]) -> Option<Vec<u8>> {
    let cut = match flags.precision.filter(|_| verb != 'x' && verb != 'X') {
        Some(precision) => {
            let valid = String::from_utf8_lossy(text);
            let end = valid.char_indices().nth(precision).map(|(end, _)| end);
            end.map(|end| valid.as_bytes().iter().take(end).copied().collect())
        }
        None => None,
    };
    let text: &[u8] = cut.as_ref().map_or(text, |cut: &Vec<u8>| cut.as_slice());
    match verb {
        'v' | 's' => Some(text.to_vec()),
        'q' => Some(if flags.sharp && !text.contains(&b'`') {
            [b"`", text, b"`"].concat()
        } else {
            quote_bytes(text).into_bytes()
        }),
        'x' | 'X' => {
            let each = text.iter().map(|byte| match verb {
                'x' => format!("{byte:02x}"),
                _ => format!("{byte:02X}"),
            });
            let separator = if flags.space { " " } else { "" };
            Some(each.collect::<Vec<_>>().join(separator).into_bytes())
        }
        _ => None,
    }
}
