//! The lexical pieces that the query languages share: durations, quoted strings, numbers, and
//! positions in a query's text. Called by every lexer and printer, and by the server for JSON.

mod duration;
mod number;
mod quote;

use std::fmt;

pub use duration::{
    DurationError, format_go_duration, format_prometheus_duration, parse_go_duration,
    parse_prometheus_duration,
};
pub use number::{
    format_exponent, format_fixed, format_float, format_general, format_json, format_timestamp,
    parse_number,
};
pub use quote::{QuoteError, quote, quote_bytes, quote_char, unquote, unquote_bytes};

/// A half-open range of bytes in a query's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The first byte after.
    pub end: usize,
}

impl Span {
    /// The bytes `start..end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Line and column (both from 1; columns count bytes) of the span's first byte in `text`.
    pub fn position_in(self, text: &str) -> Position {
        Position::of(text, self.start)
    }
}

/// A line and a column, both counted from 1; columns count bytes. Prints as `line:column`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The byte in the line.
    pub column: usize,
}

impl Position {
    /// The position of byte `at` in `text`; past the end it is the position after the last byte.
    pub fn of(text: &str, at: usize) -> Self {
        let bytes = text.as_bytes();
        let before = bytes.get(..at).unwrap_or(bytes);
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
        Self {
            line: 1 + memchr::memchr_iter(b'\n', before).count(),
            column: 1 + before.len() - line_start,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::{Position, Span};

    #[test]
    fn positions_count_lines_and_bytes_from_one() {
        let text = "ab\ncdé\nf";
        for (at, expect) in [(0, "1:1"), (2, "1:3"), (3, "2:1"), (7, "2:5"), (8, "3:1")] {
            assert_eq!(Position::of(text, at).to_string(), expect, "byte {at}");
        }
        assert_eq!(Position::of(text, 999).to_string(), "3:2", "past the end");
        assert_eq!(Position::of("", 0).to_string(), "1:1");
    }

    #[test]
    fn spans_join() {
        assert_eq!(Span::new(3, 5).to(Span::new(1, 4)), Span::new(1, 5));
    }
}
