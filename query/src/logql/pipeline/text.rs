//! Turns bytes of a line into text for labels, for the parsers.

/// What stands for bytes that are not UTF-8 (and for the character that others put there).
const REPLACEMENT: char = ' ';

/// Appends `bytes` as text; each that is not UTF-8 becomes a space.
pub(super) fn push_lossy(text: &mut String, bytes: &[u8]) {
    if bytes.is_ascii()
        && let Ok(ascii) = std::str::from_utf8(bytes)
    {
        text.push_str(ascii);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        if valid.contains('\u{fffd}') {
            text.extend(
                valid
                    .chars()
                    .map(|c| if c == '\u{fffd}' { REPLACEMENT } else { c }),
            );
        } else {
            text.push_str(valid);
        }
        text.extend(chunk.invalid().iter().map(|_| REPLACEMENT));
    }
}

/// Appends a key in the characters that a label name may have: blanks around it go, others
/// become `_`, and a digit at the front of a name gets a `_` before it.
pub(super) fn push_sanitized(name: &mut String, key: &[u8], at_front: bool) {
    let key = key.trim_ascii();
    if at_front && key.first().is_some_and(u8::is_ascii_digit) {
        name.push('_');
    }
    for chunk in key.utf8_chunks() {
        let keep = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.extend(chunk.valid().chars().map(|c| if keep(c) { c } else { '_' }));
        name.extend(chunk.invalid().iter().map(|_| '_'));
    }
}

/// Whether a key is a label's name as it is written.
#[inline]
pub(super) fn is_name(key: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    key.first().is_some_and(|first| !first.is_ascii_digit()) && key.iter().all(is_plain)
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES << 7;

/// Marks the bytes of a word that are zero with their highest bits. Those after the first such byte may
/// be marked in error.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// The same for bytes equal to `byte`.
fn equal_to(word: u64, byte: u8) -> u64 {
    zeros(word ^ (ONES * u64::from(byte)))
}

/// The same for bytes up to a blank.
fn blanks(word: u64) -> u64 {
    word.wrapping_sub(ONES * u64::from(b' ' + 1)) & !word & HIGH
}

/// Strings that are longer than this are searched for their end in wider steps.
const SHORT_BYTES_MAX: usize = 32;

/// Where the first `"` or `\\` is. Most strings are short.
#[inline]
pub(super) fn find_quote(bytes: &[u8]) -> Option<usize> {
    let (mut rest, mut at) = (bytes, 0);
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = equal_to(word, b'"') | equal_to(word, b'\\');
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        (rest, at) = (after, at + 8);
        if at >= SHORT_BYTES_MAX {
            break;
        }
    }
    memchr::memchr2(b'"', b'\\', rest).map(|found| at + found)
}

/// Where the first byte from `from` on is that ends a key or a plain value of logfmt: a blank, `=` or
/// `"`, or the end.
#[inline]
pub(super) fn pair_end(line: &[u8], from: usize) -> usize {
    let mut rest = line.get(from..).unwrap_or_default();
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = blanks(word) | equal_to(word, b'=') | equal_to(word, b'"');
        if found != 0 {
            return line.len() - rest.len() + (found.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    let is_end = |byte: &u8| *byte <= b' ' || matches!(byte, b'=' | b'"');
    let ends = rest.iter().position(is_end).unwrap_or(rest.len());
    line.len() - rest.len() + ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{find_quote, pair_end};

    proptest! {
        #[test]
        fn words_find_what_bytes_do(
            line in prop::collection::vec(
                prop_oneof![3 => any::<u8>(), 3 => 0x1f..0x24u8, 1 => 0x5b..0x5eu8, 1 => 0x3c..0x3fu8,
                    9 => Just(b'a')], 0..90),
            from in 0..90usize,
        ) {
            let rest = line.get(from..).unwrap_or_default();
            let quote = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(find_quote(rest), quote);
            if from <= line.len() {
                let end = rest.iter().position(|byte| *byte <= b' ' || matches!(byte, b'=' | b'"'));
                prop_assert_eq!(pair_end(&line, from), from + end.unwrap_or(rest.len()));
            }
        }
    }
}
