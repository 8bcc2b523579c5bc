//! Functions on text that templates call: Go's `strings`, and encodings.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;

/// Text that a function made of text it was given: a part of it where that will do.
pub(super) type Text<'a> = Cow<'a, [u8]>;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Applies `cut` to text that is borrowed or not.
pub(super) fn part<'a>(text: Text<'a>, cut: impl Fn(&[u8]) -> &[u8]) -> Text<'a> {
    match text {
        Cow::Borrowed(text) => {
            let kept = cut(text);
            // Slices of the same text: where the part begins is a difference of lengths only when
            // it ends with the text, so the place is found by its address.
            let start = kept.as_ptr().addr() - text.as_ptr().addr();
            Cow::Borrowed(text.get(start..start + kept.len()).unwrap_or_default())
        }
        Cow::Owned(text) => Cow::Owned(cut(&text).to_vec()),
    }
}

/// Maps each character to one: Go has no mappings to several.
fn map_chars(text: &[u8], map: impl Fn(char) -> char) -> Vec<u8> {
    String::from_utf8_lossy(text)
        .chars()
        .map(map)
        .collect::<String>()
        .into_bytes()
}

fn only(mut chars: impl Iterator<Item = char>, or: char) -> char {
    match (chars.next(), chars.next()) {
        (Some(c), None) => c,
        _ => or,
    }
}

pub(super) fn upper(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_uppercase();
    }
    map_chars(text, |c| only(c.to_uppercase(), c))
}

pub(super) fn lower(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    map_chars(text, |c| only(c.to_lowercase(), c))
}

/// The first letter of each word in upper case.
pub(super) fn title(text: &[u8]) -> Vec<u8> {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        let is_separator = match before {
            '_' => false,
            c if c.is_ascii() => !c.is_ascii_alphanumeric(),
            c => !c.is_alphanumeric() && c.is_whitespace(),
        };
        out.push(if is_separator {
            only(c.to_uppercase(), c)
        } else {
            c
        });
        before = c;
    }
    out.into_bytes()
}

/// The text without characters of `set` at the ends that are asked for.
pub(super) fn trim<'a>(text: Text<'a>, set: &[u8], left: bool, right: bool) -> Text<'a> {
    let set = String::from_utf8_lossy(set).into_owned();
    trim_by(text, &|c| set.contains(c), left, right)
}

pub(super) fn trim_space(text: Text<'_>) -> Text<'_> {
    trim_by(text, &char::is_whitespace, true, true)
}

fn trim_by<'a>(text: Text<'a>, is_cut: &dyn Fn(char) -> bool, left: bool, right: bool) -> Text<'a> {
    part(text, |text| {
        let mut kept = text;
        while let Some((c, len)) = first_char(kept).filter(|(c, _)| left && is_cut(*c)) {
            let _ = c;
            kept = kept.get(len..).unwrap_or_default();
        }
        while let Some((_, len)) = last_char(kept).filter(|(c, _)| right && is_cut(*c)) {
            kept = kept.get(..kept.len() - len).unwrap_or_default();
        }
        kept
    })
}

/// The first character and its length; a byte that is none counts as one.
fn first_char(text: &[u8]) -> Option<(char, usize)> {
    if text.is_empty() {
        return None;
    }
    let head = text.get(..text.len().min(4))?;
    let chunk = head.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

fn last_char(text: &[u8]) -> Option<(char, usize)> {
    for len in 1..=text.len().min(4) {
        let tail = text.get(text.len() - len..)?;
        if let Ok(tail) = std::str::from_utf8(tail) {
            return tail.chars().next().map(|c| (c, len));
        }
    }
    (!text.is_empty()).then_some((char::REPLACEMENT_CHARACTER, 1))
}

/// How many bytes [`replace`] makes.
pub(super) fn replaced_len(text: &[u8], old: &[u8], new: &[u8], most: usize) -> usize {
    let found = if old.is_empty() {
        String::from_utf8_lossy(text).chars().count() + 1
    } else {
        memchr::memmem::find_iter(text, old).count()
    };
    text.len()
        .saturating_add(found.min(most).saturating_mul(new.len()))
}

/// The text with the first occurrences of `old` replaced.
pub(super) fn replace<'a>(text: Text<'a>, old: &[u8], new: &[u8], most: usize) -> Text<'a> {
    let mut out = Vec::new();
    let mut from = 0;
    if old.is_empty() {
        let mut rest = &*text;
        for _ in 0..most {
            out.extend_from_slice(new);
            let Some((_, len)) = first_char(rest) else {
                break;
            };
            out.extend_from_slice(rest.get(..len).unwrap_or_default());
            rest = rest.get(len..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        return Cow::Owned(out);
    }
    for at in memchr::memmem::find_iter(&text, old).take(most) {
        out.extend_from_slice(text.get(from..at).unwrap_or_default());
        out.extend_from_slice(new);
        from = at + old.len();
    }
    if from == 0 {
        return text;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// The text in a field of so many characters, cut or filled at one side.
pub(super) fn align(text: &[u8], width: i64, left: bool) -> Option<Vec<u8>> {
    let width = usize::try_from(width).ok()?;
    let valid = String::from_utf8_lossy(text);
    let len = valid.chars().count();
    if len == width {
        return None;
    }
    let blanks = " ".repeat(width.saturating_sub(len));
    let kept: String = if left {
        valid.chars().take(width).collect()
    } else {
        valid.chars().skip(len.saturating_sub(width)).collect()
    };
    let parts = if left { [kept, blanks] } else { [blanks, kept] };
    Some(parts.concat().into_bytes())
}

/// Whether a byte stays as it is in a URL's query.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

pub(super) fn url_encode(text: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' ' => out.push(b'+'),
            byte if is_plain(byte) => out.push(byte),
            byte => out.extend([b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    out
}

/// # Errors
/// For a `%` without two digits.
pub(super) fn url_decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
                let value = digits
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let Some(value) = value else {
                    let bad = [b"%", after.get(..2).unwrap_or(after)].concat();
                    let bad = crate::text::quote_bytes(&bad);
                    return Err(format!("invalid URL escape {bad}"));
                };
                out.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            byte => out.push(byte),
        }
    }
    Ok(out)
}

pub(super) fn base64_encode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len().div_ceil(3) * 4);
    for chunk in text.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i) & 63) as usize;
            out.push(match ALPHABET.get(sextet) {
                Some(character) if i <= chunk.len() => *character,
                _ => b'=',
            });
        }
    }
    out
}

/// The bytes of base64, with padding or without.
///
/// # Errors
/// Where a character does not belong.
pub(super) fn base64_decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = text.get(..text.len() - padding.min(2)).unwrap_or_default();
    let bad = |at: usize| format!("illegal base64 data at input byte {at}");
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for (at, byte) in body.iter().enumerate() {
        if matches!(byte, b'\r' | b'\n') {
            continue;
        }
        let place = ALPHABET.iter().position(|known| known == byte);
        let value = place.and_then(|place| u32::try_from(place).ok());
        bits = bits << 6 | value.ok_or_else(|| bad(at))?;
        count += 1;
        if count == 4 {
            out.extend_from_slice(bits.to_be_bytes().get(1..).unwrap_or_default());
            (bits, count) = (0, 0);
        }
    }
    let [_, first, second, _] = (bits << (6 * (4 - count))).to_be_bytes();
    match count {
        1 => return Err(bad(body.len())),
        2 => out.push(first),
        3 => out.extend([first, second]),
        _ => {}
    }
    Ok(out)
}

/// The text with the characters that mean something in HTML escaped.
pub(super) fn html(text: &[u8]) -> Vec<u8> {
    escape(text, |byte| {
        Some(match byte {
            b'"' => "&#34;",
            b'\'' => "&#39;",
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            0 => "\u{fffd}",
            _ => return None,
        })
    })
}

/// The text as it may stand in a string of JavaScript.
pub(super) fn js(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\'' => out.extend_from_slice(b"\\'"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'<' | b'>' | b'&' | b'=' | 0..=0x1f => {
                out.extend_from_slice(format!("\\u{byte:04X}").as_bytes());
            }
            byte => out.push(byte),
        }
    }
    out
}

fn escape(text: &[u8], of: impl Fn(u8) -> Option<&'static str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match of(byte) {
            Some(escaped) => out.extend_from_slice(escaped.as_bytes()),
            None => out.push(byte),
        }
    }
    out
}
