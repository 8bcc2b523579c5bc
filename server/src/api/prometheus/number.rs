//! Numbers written straight into a text, without one of their own: an answer may hold millions of
//! them. `json` calls it; the forms are those of `trine_query::text`, which its tests hold it to.

use trine_query::text::{format_exponent, format_float};

/// Every integer below is a float, and a float with no fraction is one.
const INTEGERS_MAX: f64 = 9_007_199_254_740_992.0;

/// The magnitudes that `ryu` writes without an exponent.
const PLAIN_MIN: f64 = 1e-5;
const PLAIN_MAX: f64 = 1e16;

/// The two digits of every number below 100.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Writes a whole number.
pub(super) fn integer(out: &mut String, number: u64) {
    // 2^64 has 20 digits.
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = number;
    while rest >= 100 {
        start = put_pair(&mut digits, start, rest % 100);
        rest /= 100;
    }
    start = put_pair(&mut digits, start, rest);
    if rest < 10 {
        start += 1;
    }
    let digits = digits.get(start..).unwrap_or_default();
    out.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// Puts the two digits of `pair` before `start` and gives where they begin.
fn put_pair(digits: &mut [u8; 20], start: usize, pair: u64) -> usize {
    let from = usize::try_from(pair).unwrap_or(0) * 2;
    let begin = start.saturating_sub(2);
    if let (Some(to), Some(two)) = (digits.get_mut(begin..start), PAIRS.get(from..from + 2)) {
        to.copy_from_slice(two);
    }
    begin
}

/// Writes milliseconds as seconds, with three decimals unless they are whole.
pub(super) fn seconds(out: &mut String, milliseconds: i64) {
    if milliseconds < 0 {
        out.push('-');
    }
    let total = milliseconds.unsigned_abs();
    integer(out, total / 1000);
    let rest = total % 1000;
    if rest != 0 {
        out.push('.');
        // A one before the decimals keeps their zeros; it is taken out again.
        let at = out.len();
        integer(out, 1000 + rest);
        out.remove(at);
    }
}

/// Writes a float in the fewest digits that read back the same, never with an exponent; `NaN`,
/// `+Inf`, `-Inf`.
pub(super) fn float(out: &mut String, value: f64) {
    if !plain(out, value) {
        out.push_str(&format_float(value));
    }
}

/// Writes a float as `float`, but with an exponent below 1e-6 and from 1e21 on.
pub(super) fn sample(out: &mut String, value: f64) {
    if plain(out, value) {
        return;
    }
    let magnitude = value.abs();
    if value != 0.0 && value.is_finite() && !(1e-6..1e21).contains(&magnitude) {
        out.push_str(&format_exponent(value));
    } else {
        out.push_str(&format_float(value));
    }
}

/// Writes the values that nearly all samples have. False for the others, and then nothing.
fn plain(out: &mut String, value: f64) -> bool {
    let magnitude = value.abs();
    if magnitude < INTEGERS_MAX && value.trunc() == value {
        if value.is_sign_negative() {
            out.push('-');
        }
        integer(out, magnitude as u64);
        return true;
    }
    if !(PLAIN_MIN..PLAIN_MAX).contains(&magnitude) {
        return false;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    out.push_str(text.strip_suffix(".0").unwrap_or(text));
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trine_query::text::{format_float, format_json, format_timestamp};

    use super::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = "x".to_owned();
        write(&mut out);
        out.split_off(1)
    }

    #[test]
    fn integers() {
        for number in [0, 7, 10, 99, 100, 101, 12_345, u64::MAX, u64::MAX / 10] {
            assert_eq!(written(|out| integer(out, number)), number.to_string());
        }
    }

    #[test]
    fn the_edges_of_the_short_way() {
        let edges = [
            0.0,
            1e-6,
            1e-5,
            0.1,
            1e15,
            INTEGERS_MAX,
            1e16,
            1e20,
            1e21,
            f64::MAX,
        ];
        for edge in edges {
            for value in [edge, edge.next_up(), edge.next_down(), -edge, 0.5 + edge] {
                assert_eq!(written(|out| float(out, value)), format_float(value));
                assert_eq!(written(|out| sample(out, value)), format_json(value));
            }
        }
        for value in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
        ] {
            assert_eq!(written(|out| sample(out, value)), format_json(value));
        }
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_the_language(bits in any::<u64>(), small in -1e7..1e7f64) {
            for value in [f64::from_bits(bits), small, (small * 100.0).round() / 100.0] {
                prop_assert_eq!(written(|out| float(out, value)), format_float(value));
                prop_assert_eq!(written(|out| sample(out, value)), format_json(value));
            }
            let time = bits.cast_signed() >> (bits % 50);
            prop_assert_eq!(written(|out| seconds(out, time)), format_timestamp(time));
        }
    }
}
