//! Looks for parts of ids in the variables of a chunk, without its lines. Called by reads, for what
//! the token index cannot know.

use memchr::memmem::Finder;
use trine_storage::Result;

use super::{Kind, VariableClass, VariableColumns, column, digits, time_as_number};
use crate::index::token::ID_DIGITS_MIN;

/// A part of a token that is looked for among ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a [u8],
    /// The token may have more bytes before it.
    pub(crate) open_left: bool,
    /// The token may have more bytes after it.
    pub(crate) open_right: bool,
    /// Case does not matter.
    pub(crate) fold: bool,
}

impl VariableColumns {
    /// Whether an id of the chunk may contain `part`. Exact for ids, save for parts that are too
    /// short to be looked for. `timestamps` gives those of the chunk.
    pub(crate) fn may_contain(
        &self,
        name: &str,
        part: Part<'_>,
        timestamps: impl Fn() -> Result<Vec<i64>>,
    ) -> Result<bool> {
        const SHORT: usize = 4;
        if !self.is_split || part.bytes.len() < SHORT {
            return Ok(true);
        }
        let all = |of: fn(&u8) -> bool| part.bytes.iter().all(of);
        let is_number = all(u8::is_ascii_digit);
        if !all(u8::is_ascii_hexdigit) {
            return Ok(false);
        }
        let small = all(|byte| !byte.is_ascii_uppercase()) || part.fold;
        let capital = all(|byte| !byte.is_ascii_lowercase()) || part.fold;
        for column in &self.columns {
            let Kind { class, len } = column.kind;
            let open = part.open_left || part.open_right;
            let fits = part.bytes.len() == len || open && part.bytes.len() < len;
            if !fits {
                continue;
            }
            let found = match class {
                VariableClass::Number if is_number && len >= ID_DIGITS_MIN => {
                    let numbers = column::numbers(name, &column.bytes, column.count)?;
                    has_part(&render(&numbers, len), len, part)
                }
                VariableClass::Time if is_number => {
                    let times = timestamps()?;
                    let numbers = times.into_iter().filter_map(|t| time_as_number(t, len));
                    let numbers: Vec<u64> = numbers.collect();
                    has_part(&render(&numbers, len), len, part)
                }
                VariableClass::HexLower if small => hex_has_part(&column.hex(name)?, len, part),
                VariableClass::HexUpper if capital => hex_has_part(&column.hex(name)?, len, part),
                VariableClass::Text => {
                    let text = column::blob(name, &column.bytes, column.count * len)?;
                    has_part(&text, len, part)
                }
                _ => false,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Part<'_> {
    /// Whether a hit from `start` on in a token of `len` bytes is allowed.
    fn fits(&self, start: usize, len: usize) -> bool {
        let end = start + self.bytes.len();
        end <= len && (start == 0 || self.open_left) && (end == len || self.open_right)
    }
}

/// Numbers as text, each of `len` digits.
fn render(numbers: &[u64], len: usize) -> Vec<u8> {
    let mut text = vec![0; numbers.len() * len];
    for (slot, number) in text.chunks_exact_mut(len).zip(numbers) {
        digits::write_decimal(slot, *number);
    }
    text
}

/// Whether one of the tokens of `len` bytes, which follow each other in `text`, has `part`.
fn has_part(text: &[u8], len: usize, part: Part<'_>) -> bool {
    if part.fold {
        return text.chunks_exact(len).any(|token| {
            let mut windows = token.windows(part.bytes.len()).enumerate();
            windows
                .any(|(at, window)| window.eq_ignore_ascii_case(part.bytes) && part.fits(at, len))
        });
    }
    let finder = Finder::new(part.bytes);
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| finder.find(rest)) {
        let at = from + found;
        if part.fits(at % len, len) {
            return true;
        }
        from = at + 1;
    }
    false
}

/// As [`has_part`], over tokens of `len` hexadecimal digits, two a byte.
fn hex_has_part(packed: &[u8], len: usize, part: Part<'_>) -> bool {
    let nibbles: Vec<u8> = part
        .bytes
        .iter()
        .copied()
        .filter_map(digits::nibble_of)
        .collect();
    let width = len.div_ceil(2);
    // The part may begin at the high or at the low half of a byte.
    for skipped in [0usize, 1] {
        let whole = nibbles.get(skipped..).unwrap_or_default();
        let (pairs, last) = whole.as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        let before = nibbles.first().filter(|_| skipped == 1);
        let finder = Finder::new(&bytes);
        let mut from = 0;
        while let Some(found) = packed.get(from..).and_then(|rest| finder.find(rest)) {
            let at = from + found;
            from = at + 1;
            let in_token = at % width;
            // A token that begins in the token before this one is none.
            let Some(start) = (2 * in_token).checked_sub(skipped) else {
                continue;
            };
            let byte = |at: usize| packed.get(at).copied();
            let first_fits = before.is_none_or(|&nibble| {
                let held = at.checked_sub(1).and_then(byte);
                held.is_some_and(|held| held & 15 == nibble)
            });
            let last_fits = last.first().is_none_or(|&nibble| {
                byte(at + bytes.len()).is_some_and(|held| held >> 4 == nibble)
            });
            if first_fits && last_fits && part.fits(start, len) {
                return true;
            }
        }
    }
    false
}
