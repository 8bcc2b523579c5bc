//! Text as a template and numbers: `user-17` is `user-#` and 17. What machines write has few
//! templates, and numbers pack well and are compared without putting the text together.
//!
//! What stands for numbers cannot occur in UTF-8. Splitting is part of the format: a needle is
//! split to be found.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod numbered;
mod page;

use trine_storage::Result;
use trine_storage::codec::{Reader, put_bytes};

use super::values::Texts;

pub(crate) use numbered::Numbered;
pub(crate) use page::{Needle, TemplatePage, put_page};

/// Numbers that a value may have; further ones stay text.
pub(crate) const SLOTS_MAX: usize = 8;

/// A decimal number without leading zeros.
const NUMBER: u8 = 0xf8;
/// A decimal number with leading zeros; a byte with the number of digits follows.
const PADDED: u8 = 0xf9;
/// A hexadecimal number in small letters; a byte with the number of digits follows.
const HEX: u8 = 0xfa;
/// A UUID in small letters: two numbers.
const UUID: u8 = 0xfb;

/// More decimal digits may not fit into 64 bits.
const DIGITS_MAX: usize = 19;
/// Shorter words are no hexadecimal numbers.
const HEX_MIN: usize = 8;
/// Hexadecimal digits of a slot.
const HEX_SLOT: usize = 16;
const UUID_LEN: usize = 36;

const DIGIT: u8 = 1;
const HEX_LETTER: u8 = 2;
const LETTER: u8 = 4;

/// What a byte is in a word; 0 when it separates words.
static CLASSES: [u8; 256] = classes();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "computed when the program is built"
)]
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' => HEX_LETTER,
            b'g'..=b'z' | b'A'..=b'Z' => LETTER,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The length of the run at the start of `text` of which each byte is in one of `wanted`, and the
/// classes that occur.
#[inline]
fn run(text: &[u8], wanted: u8) -> (usize, u8) {
    let mut seen = 0;
    for (at, &byte) in text.iter().enumerate() {
        let class = class(byte);
        if class & wanted == 0 {
            return (at, seen);
        }
        seen |= class;
    }
    (text.len(), seen)
}

/// The place of the first digit from `at` on; eight bytes are looked at in one go.
#[inline]
fn next_digit(text: &[u8], at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (eights, tail) = text.get(at..)?.as_chunks::<8>();
    for (chunk, eight) in eights.iter().enumerate() {
        // A digit is below ten without the bits of '0'; with 118 more it stays below 128.
        let above = u64::from_le_bytes(*eight) ^ (0x30 * ONES);
        let others = ((above & (0x7f * ONES)) + 0x76 * ONES) | above;
        let digits = !others & (0x80 * ONES);
        if digits != 0 {
            return Some(at + 8 * chunk + digits.trailing_zeros() as usize / 8);
        }
    }
    let place = tail.iter().position(u8::is_ascii_digit)?;
    Some(at + 8 * eights.len() + place)
}

/// Appends the template of a text, and its numbers. Only words with a digit have any.
pub(crate) fn split(text: &[u8], template: &mut Vec<u8>, slots: &mut Vec<u64>) {
    let full = slots.len() + SLOTS_MAX;
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    // What lies before `taken` is in the template; no word goes on at `at`.
    let (mut at, mut taken) = (0, 0);
    while let Some(digit) = next_digit(text, at)
        && slots.len() < full
    {
        let before = part(at, digit).iter().rev();
        let start = digit - before.take_while(|byte| class(**byte) != 0).count();
        let word = part(start, text.len());
        let (len, seen) = run(word, DIGIT | HEX_LETTER | LETTER);
        let end = start + len;
        at = end;
        if len == HEX_MIN
            && seen & LETTER == 0
            && slots.len() + 2 <= full
            && let Some(halves) = uuid_of(word)
        {
            template.extend_from_slice(part(taken, start));
            template.push(UUID);
            slots.extend(halves);
            at = start + UUID_LEN;
            taken = at;
        } else if seen == DIGIT | HEX_LETTER
            && len >= HEX_MIN
            && slots.len() + len.div_ceil(HEX_SLOT) <= full
        {
            template.extend_from_slice(part(taken, start));
            for digits in part(start, end).chunks(HEX_SLOT) {
                template.extend_from_slice(&[HEX, u8::try_from(digits.len()).unwrap_or(0)]);
                slots.push(hex_of(digits));
            }
            taken = end;
        } else {
            let mut from = digit;
            while from < end {
                let (count, _) = run(part(from, end), DIGIT);
                if count > 0 && count <= DIGITS_MAX && slots.len() < full {
                    template.extend_from_slice(part(taken, from));
                    let digits = part(from, from + count);
                    match digits {
                        [b'0', _, ..] => {
                            let width = u8::try_from(count).unwrap_or(0);
                            template.extend_from_slice(&[PADDED, width]);
                        }
                        _ => template.push(NUMBER),
                    }
                    slots.push(decimal_of(digits));
                    taken = from + count;
                }
                from += count;
                from += run(part(from, end), HEX_LETTER | LETTER).0;
            }
        }
    }
    template.extend_from_slice(part(taken, text.len()));
}

fn decimal_of(digits: &[u8]) -> u64 {
    let add = |number: u64, digit: &u8| number * 10 + u64::from(digit - b'0');
    digits.iter().fold(0, add)
}

fn hex_of(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, &digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => digit.wrapping_sub(b'a' - 10),
        };
        number << 4 | u64::from(nibble & 15)
    })
}

/// The halves of the UUID that `text` begins with.
fn uuid_of(text: &[u8]) -> Option<[u64; 2]> {
    let (uuid, rest) = text.split_at_checked(UUID_LEN)?;
    if rest.first().is_some_and(|&next| class(next) != 0) {
        return None;
    }
    let mut halves = [0u64; 2];
    let mut digits = 0;
    for (at, &byte) in uuid.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        if class(byte) & (DIGIT | HEX_LETTER) == 0 {
            return None;
        }
        let half = halves.get_mut(digits / HEX_SLOT)?;
        *half = *half << 4 | hex_of(&[byte]);
        digits += 1;
    }
    Some(halves)
}

/// A part of a template: some text, then what stands for numbers.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Where the text ends; it begins where the one before ends.
    end: usize,
    what: u8,
    digits: usize,
}

/// At the end of a template.
const END: u8 = 0;

/// Appends templates, by their codes.
pub(crate) fn put_templates(out: &mut Vec<u8>, templates: &Texts) {
    for template in templates.iter() {
        put_bytes(out, template);
    }
}

/// The templates of a column, ready to put texts together.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    texts: Texts,
    literals: Vec<u8>,
    pieces: Vec<Piece>,
    /// By template: its first piece, where its text begins, how many numbers it has.
    starts: Vec<(usize, usize, u8)>,
}

impl Templates {
    /// The `count` templates that take all of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), with `name`, when one makes no sense.
    pub(crate) fn open(name: &str, bytes: &[u8], count: usize) -> Result<Self> {
        let mut all = Self::default();
        let mut reader = Reader::new(name, bytes);
        for _ in 0..count {
            let template = reader.bytes()?;
            if all.push(template).is_none() {
                return Err(reader.corrupt("a template makes no sense"));
            }
        }
        if !reader.is_empty() {
            return Err(reader.corrupt("there are more templates than the column has"));
        }
        Ok(all)
    }

    /// The code of a template, when there is such a one.
    pub(crate) fn find(&self, template: &[u8]) -> Option<u32> {
        let place = self.texts.iter().position(|known| known == template)?;
        u32::try_from(place).ok()
    }

    fn push(&mut self, template: &[u8]) -> Option<()> {
        let (start, begin) = (self.pieces.len(), self.literals.len());
        let mut slots = 0;
        let mut bytes = template.iter();
        while let Some(&byte) = bytes.next() {
            if byte < NUMBER {
                self.literals.push(byte);
                continue;
            }
            let digits = match byte {
                PADDED => *bytes
                    .next()
                    .filter(|n| (2..=DIGITS_MAX).contains(&usize::from(**n)))?,
                HEX => *bytes
                    .next()
                    .filter(|n| (1..=HEX_SLOT).contains(&usize::from(**n)))?,
                NUMBER | UUID => 0,
                _ => return None,
            };
            slots += if byte == UUID { 2 } else { 1 };
            self.pieces.push(Piece {
                end: self.literals.len(),
                what: byte,
                digits: usize::from(digits),
            });
        }
        self.pieces.push(Piece {
            end: self.literals.len(),
            what: END,
            digits: 0,
        });
        let slots = u8::try_from(slots).ok();
        let slots = slots.filter(|&slots| usize::from(slots) <= SLOTS_MAX)?;
        self.starts.push((start, begin, slots));
        self.texts.push(template);
        Some(())
    }

    /// How many numbers values of a template have; `None` when there is no such template.
    pub(crate) fn slots(&self, code: usize) -> Option<usize> {
        self.starts.get(code).map(|start| usize::from(start.2))
    }

    /// Appends the text of a template and numbers, of which there are as many as it has.
    pub(crate) fn write(&self, code: usize, slots: &[u64], out: &mut Vec<u8>) {
        let Some(&(start, begin, _)) = self.starts.get(code) else {
            return;
        };
        let mut from = begin;
        let mut slots = slots.iter().copied();
        let mut next = || slots.next().unwrap_or(0);
        for piece in self.pieces.get(start..).unwrap_or_default() {
            out.extend_from_slice(self.literals.get(from..piece.end).unwrap_or_default());
            from = piece.end;
            match piece.what {
                NUMBER => put_decimal(out, next(), 0),
                PADDED => put_decimal(out, next(), piece.digits),
                HEX => put_hex(out, next(), piece.digits),
                UUID => {
                    let (first, second) = (next(), next());
                    put_hex(out, first >> 32, 8);
                    out.push(b'-');
                    put_hex(out, first >> 16, 4);
                    out.push(b'-');
                    put_hex(out, first, 4);
                    out.push(b'-');
                    put_hex(out, second >> 48, 4);
                    out.push(b'-');
                    put_hex(out, second, 12);
                }
                _ => return,
            }
        }
    }
}

/// Appends a number with zeros before it up to so many digits.
fn put_decimal(out: &mut Vec<u8>, number: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let mut rest = number;
    let mut used = 0;
    for place in text.iter_mut().rev() {
        if rest == 0 && used > 0 {
            break;
        }
        // Below ten.
        *place = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
        used += 1;
    }
    let from = text.len() - used.max(digits).min(text.len());
    out.extend_from_slice(text.get(from..).unwrap_or_default());
}

/// Appends the last so many hexadecimal digits of a number.
fn put_hex(out: &mut Vec<u8>, number: u64, digits: usize) {
    for place in (0..digits.min(HEX_SLOT)).rev() {
        let nibble = (number >> (4 * place)).to_le_bytes()[0] & 15;
        out.push(match nibble {
            0..=9 => b'0' + nibble,
            _ => b'a' + nibble - 10,
        });
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests use small numbers")]
mod tests;
