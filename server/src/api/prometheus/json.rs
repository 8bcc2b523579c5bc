//! JSON written straight into one text, without a tree in between: what the answers of
//! `prometheus`, `loki` and `tempo` have in common. A range query's answer can be tens of megabytes
//! of numbers.

use std::fmt;
use std::fmt::Write as _;

use trine_storage::Labels;

use super::number;

/// An object in writing: it knows whether a comma is due.
#[derive(Debug)]
pub(in crate::api) struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object at the end of `out`; [`Object::end`] closes it.
    pub(in crate::api) fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self {
            out,
            is_empty: true,
        }
    }

    /// Writes a key. The caller writes its value to the text that this gives.
    pub(in crate::api) fn key(&mut self, name: &str) -> &mut String {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(',');
        }
        string(self.out, name);
        self.out.push(':');
        self.out
    }

    /// Writes a key with a text.
    pub(in crate::api) fn text(&mut self, name: &str, value: &str) {
        string(self.key(name), value);
    }

    /// Writes a key with a number (or whatever prints as JSON).
    pub(in crate::api) fn raw(&mut self, name: &str, value: impl fmt::Display) {
        display(self.key(name), value);
    }

    /// Closes the object.
    pub(in crate::api) fn end(self) {
        self.out.push('}');
    }
}

/// Writes an array: `write` is called for each item.
pub(in crate::api) fn array<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// Writes an array of texts.
pub(in crate::api) fn strings<T: AsRef<str>>(out: &mut String, items: impl IntoIterator<Item = T>) {
    array(out, items, |out, item| string(out, item.as_ref()));
}

/// Writes labels as an object.
pub(in crate::api) fn labels(out: &mut String, labels: &Labels) {
    let mut object = Object::begin(out);
    for (name, value) in labels {
        object.text(name, value);
    }
    object.end();
}

/// Writes `value` as it prints.
pub(in crate::api) fn display(out: &mut String, value: impl fmt::Display) {
    write!(out, "{value}").expect("a String takes everything");
}

/// Writes a string.
pub(in crate::api) fn string(out: &mut String, text: &str) {
    escaped(out, text, |byte| {
        byte < 0x20 || matches!(byte, b'"' | b'\\')
    });
}

/// Writes a string that may be shown as a part of an HTML page: an error may repeat what a link to
/// this server says.
pub(in crate::api) fn html_safe_string(out: &mut String, text: &str) {
    escaped(out, text, |byte| {
        byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
    });
}

/// Where the first byte is that must be escaped. Most texts have few: pieces of them are looked at
/// without a branch for each byte.
fn first(bytes: &[u8], must_escape: impl Fn(u8) -> bool) -> Option<usize> {
    const PIECE_BYTES: usize = 64;
    let mut start = 0;
    for piece in bytes.chunks(PIECE_BYTES) {
        if piece
            .iter()
            .fold(false, |any, byte| any | must_escape(*byte))
        {
            let at = piece.iter().position(|byte| must_escape(*byte))?;
            return Some(start + at);
        }
        start += piece.len();
    }
    None
}

/// All bytes that `must_escape` names are ASCII, so the text is cut between characters only.
fn escaped(out: &mut String, text: &str, must_escape: impl Fn(u8) -> bool) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = first(rest.as_bytes(), &must_escape) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(other) => display(out, format_args!("\\u{:04x}", u32::from(other))),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Writes a float without quotes: the fewest digits that read back the same, never an exponent;
/// `NaN`, `+Inf`, `-Inf`.
pub(in crate::api) fn float(out: &mut String, value: f64) {
    number::float(out, value);
}

/// Writes a sample's value as Prometheus does: a string, with an exponent below 1e-6 and from 1e21.
pub(in crate::api) fn sample_value(out: &mut String, value: f64) {
    out.push('"');
    number::sample(out, value);
    out.push('"');
}

/// Writes milliseconds as Prometheus does: seconds, with three decimals unless they are whole.
pub(in crate::api) fn seconds(out: &mut String, milliseconds: i64) {
    number::seconds(out, milliseconds);
}

#[cfg(test)]
mod tests {
    use trine_query::text::{format_json, format_timestamp};

    use super::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn what_must_be_escaped_is_found_anywhere() {
        for at in 0..200 {
            let text = format!("{}\"{}", "é".repeat(at / 2), "x".repeat(at));
            let mut out = String::new();
            string(&mut out, &text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn strings_are_escaped() {
        for (text, plain, safe) in [
            ("", r#""""#, r#""""#),
            ("a\"b\\c", r#""a\"b\\c""#, r#""a\"b\\c""#),
            (
                "\n\r\t\u{1}é😀",
                r#""\n\r\t\u0001é😀""#,
                r#""\n\r\t\u0001é😀""#,
            ),
            ("<a&b>", r#""<a&b>""#, r#""\u003ca\u0026b\u003e""#),
        ] {
            let out = written(|out| string(out, text));
            assert_eq!(out, plain);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
            assert_eq!(written(|out| html_safe_string(out, text)), safe);
        }
    }

    #[test]
    fn numbers_are_those_of_prometheus() {
        for value in [
            0.0,
            -0.0,
            1.0,
            -1.5,
            1e-7,
            1e-6,
            9.99e-7,
            1e20,
            1e21,
            1.5e-10,
            1e15,
            123_456_789.25,
            f64::MAX,
            f64::MIN_POSITIVE,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            let expect = format!("\"{}\"", format_json(value));
            assert_eq!(written(|out| sample_value(out, value)), expect);
        }
        for ms in [
            0,
            1,
            1000,
            1500,
            -1,
            -1500,
            -2000,
            1_700_000_000_123,
            i64::MIN,
            i64::MAX,
        ] {
            assert_eq!(written(|out| seconds(out, ms)), format_timestamp(ms));
        }
    }

    #[test]
    fn objects_and_arrays_have_commas_between() {
        let out = written(|out| {
            let mut object = Object::begin(out);
            object.text("a", "1");
            object.raw("b", 2);
            strings(object.key("c"), ["x", "y"]);
            strings(object.key("d"), [""; 0]);
            labels(
                object.key("e"),
                &Labels::from_pairs([("k", "v"), ("l", "w")]).unwrap(),
            );
            labels(object.key("f"), &Labels::empty());
            object.end();
        });
        let expect = r#"{"a":"1","b":2,"c":["x","y"],"d":[],"e":{"k":"v","l":"w"},"f":{}}"#;
        assert_eq!(out, expect);
    }
}
