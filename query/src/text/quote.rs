//! Quoted strings: reading Go's escapes in `"..."`, `'...'` and raw strings, writing them back.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;

/// A text is not a correctly quoted string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuoteError;

impl fmt::Display for QuoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid syntax")
    }
}

impl std::error::Error for QuoteError {}

/// The string that `text` denotes: `"..."` and `'...'` with Go's escapes, or a raw string in
/// backquotes, the quotes included in `text`.
///
/// # Errors
/// When the quotes do not match, an escape is wrong, or `\x` and octal escapes denote bytes that
/// are not UTF-8.
pub fn unquote(text: &str) -> Result<String, QuoteError> {
    String::from_utf8(unquote_bytes(text)?).map_err(|_| QuoteError)
}

/// The bytes that `text` denotes, which need not be UTF-8; else as [`unquote`].
///
/// # Errors
/// When the quotes do not match or an escape is wrong.
pub fn unquote_bytes(text: &str) -> Result<Vec<u8>, QuoteError> {
    let quote = text.chars().next().ok_or(QuoteError)?;
    let body = text
        .strip_prefix(quote)
        .and_then(|rest| rest.strip_suffix(quote))
        .filter(|_| matches!(quote, '"' | '\'' | '`'))
        .ok_or(QuoteError)?;
    if quote == '`' {
        return if body.contains('`') {
            Err(QuoteError)
        } else {
            Ok(body.as_bytes().to_owned())
        };
    }
    if body.contains('\n') {
        return Err(QuoteError);
    }
    if !body.contains(['\\', quote]) {
        return Ok(body.as_bytes().to_owned());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            return Err(QuoteError);
        }
        if c == '\\' {
            unescape(&mut chars, quote, &mut out)?;
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(out)
}

/// Reads what follows a backslash.
fn unescape(
    chars: &mut std::str::Chars<'_>,
    quote: char,
    out: &mut Vec<u8>,
) -> Result<(), QuoteError> {
    let simple = match chars.next().ok_or(QuoteError)? {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '\'' if quote == '\'' => b'\'',
        '"' if quote == '"' => b'"',
        'x' => byte(digits(chars, 0, 2, 16)?)?,
        octal @ '0'..='7' => byte(digits(chars, octal.to_digit(8).unwrap_or(0), 2, 8)?)?,
        long @ ('u' | 'U') => {
            let count = if long == 'u' { 4 } else { 8 };
            let code = digits(chars, 0, count, 16)?;
            let c = char::from_u32(code).ok_or(QuoteError)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        _ => return Err(QuoteError),
    };
    out.push(simple);
    Ok(())
}

/// Reads `count` digits behind those that gave `start`.
fn digits(
    chars: &mut std::str::Chars<'_>,
    start: u32,
    count: usize,
    radix: u32,
) -> Result<u32, QuoteError> {
    let mut value = start;
    for _ in 0..count {
        let digit = chars
            .next()
            .and_then(|c| c.to_digit(radix))
            .ok_or(QuoteError)?;
        value = value
            .checked_mul(radix)
            .and_then(|v| v.checked_add(digit))
            .ok_or(QuoteError)?;
    }
    Ok(value)
}

fn byte(value: u32) -> Result<u8, QuoteError> {
    u8::try_from(value).map_err(|_| QuoteError)
}

/// `text` in double quotes with Go's escapes, so that [`unquote`] gives it back.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// The same for bytes that need not be UTF-8, so that [`unquote_bytes`] gives them back.
pub fn quote_bytes(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk
            .valid()
            .chars()
            .for_each(|c| push_escaped(&mut out, c, '"'));
        for byte in chunk.invalid() {
            let written = write!(out, "\\x{byte:02x}");
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        }
    }
    out.push('"');
    out
}

/// `c` in single quotes, as Go's `%q` prints a character.
pub fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, c, '\'');
    out.push('\'');
    out
}

fn push_escaped(out: &mut String, c: char, quote: char) {
    use fmt::Write;
    let written = match c {
        '\\' => out.write_str("\\\\"),
        c if c == quote => write!(out, "\\{c}"),
        '\u{7}' => out.write_str("\\a"),
        '\u{8}' => out.write_str("\\b"),
        '\u{c}' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\u{b}' => out.write_str("\\v"),
        c if (c as u32) < 0x20 || c == '\u{7f}' => write!(out, "\\x{:02x}", c as u32),
        c if is_printable(c) => out.write_char(c),
        c if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32),
        c => write!(out, "\\U{:08x}", c as u32),
    };
    debug_assert!(written.is_ok(), "writing to a String does not fail");
}

/// Whether Go prints the character as it is: no control, format or space character but U+0020.
/// Unassigned and private characters are not told apart here; they are printed.
fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffe}'..='\u{ffff}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back() {
        for text in [r#""a\xc5z""#, r#""\xff""#, r#""é\xf0\x9f""#] {
            let bytes = unquote_bytes(text).unwrap();
            assert!(String::from_utf8(bytes.clone()).is_err());
            assert_eq!(quote_bytes(&bytes), text);
            assert!(unquote(text).is_err());
        }
    }

    #[test]
    fn strings_are_read_as_go_reads_them() {
        let good = [
            (r#""a b""#, "a b"),
            (r#"'a"b'"#, "a\"b"),
            (r"`a\n`", "a\\n"),
            (r#""\a\b\f\n\r\t\v\\\"""#, "\u{7}\u{8}\u{c}\n\r\t\u{b}\\\""),
            (r"'\''", "'"),
            (r#""\x41\101\u00e9\U0001F600""#, "AAé😀"),
            (r#""\xc3\xa9""#, "é"),
            ("`two\nlines`", "two\nlines"),
            ("\"\"", ""),
        ];
        for (text, expect) in good {
            assert_eq!(unquote(text).as_deref(), Ok(expect), "{text}");
        }
        let bad = [
            "",
            "\"",
            "a",
            "\"a",
            "a\"",
            r#""a\""#,
            r#""\c""#,
            r#""\x4""#,
            r#""\'""#,
            r#"'\"'"#,
            r#""\xff""#,
            r#""\ud800""#,
            r#""\400""#,
            "\"a\nb\"",
            "`a`b`",
            r#""a"b""#,
            "/a/",
        ];
        for text in bad {
            assert_eq!(unquote(text), Err(QuoteError), "{text}");
        }
    }

    #[test]
    fn strings_are_printed_as_go_prints_them() {
        assert_eq!(
            quote("a\"b\\c\n\u{1}é\u{ad}\u{200b}"),
            r#""a\"b\\c\n\x01é\u00ad\u200b""#
        );
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_char('"'), "'\"'");
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(text in any::<String>()) {
            prop_assert_eq!(unquote(&quote(&text)), Ok(text));
        }

        #[test]
        fn no_text_panics(text in "[\"'`\\\\a-z0-9é\n]{0,10}") {
            prop_assert!(unquote(&text).is_ok() || unquote(&text).is_err());
        }
    }
}
