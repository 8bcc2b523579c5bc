//! Splits the text of a query into tokens, for the parser.
//!
//! A function's name is a function only where it is called (`rate(`, `sum by (`), so that labels
//! may have such names. A mistake becomes a token of its own: it is told when the parser gets
//! there, so that an earlier mistake is told first.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::ast::{RangeOp, Size, VectorOp};
use super::units;
use crate::text::{self, Span};

/// Words that are never label names.
const KEYWORDS: [&str; 22] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "or",
    "and",
    "unless",
    "json",
    "logfmt",
    "regexp",
    "pattern",
    "unpack",
    "line_format",
    "label_format",
    "unwrap",
    "decolorize",
    "drop",
    "keep",
];

/// Functions that are not aggregations.
const PLAIN_FUNCTIONS: [&str; 6] = [
    "label_replace",
    "vector",
    "bytes",
    "duration",
    "duration_seconds",
    "ip",
];

/// Operators and punctuation with their names, longer ones before their prefixes.
const SYMBOLS: [(&str, &str); 28] = [
    ("|=", "PIPE_EXACT"),
    ("|~", "PIPE_MATCH"),
    ("|>", "PIPE_PATTERN"),
    ("!=", "NEQ"),
    ("!~", "NRE"),
    ("!>", "NPA"),
    ("==", "CMP_EQ"),
    ("=~", "RE"),
    (">=", "GTE"),
    ("<=", "LTE"),
    ("|", "PIPE"),
    ("=", "EQ"),
    (">", "GT"),
    ("<", "LT"),
    ("{", "OPEN_BRACE"),
    ("}", "CLOSE_BRACE"),
    ("(", "OPEN_PARENTHESIS"),
    (")", "CLOSE_PARENTHESIS"),
    ("[", "OPEN_BRACKET"),
    ("]", "CLOSE_BRACKET"),
    (",", "COMMA"),
    (".", "DOT"),
    ("+", "ADD"),
    ("-", "SUB"),
    ("*", "MUL"),
    ("/", "DIV"),
    ("%", "MOD"),
    ("^", "POW"),
];

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name.
    Ident(String),
    /// A string without its quotes and escapes.
    Text(String),
    /// A number as it is written.
    Number(String),
    /// A duration in nanoseconds.
    Duration(i64),
    /// A size.
    Bytes(Size),
    /// `[5m]` in nanoseconds.
    Range(i64),
    /// `--strict` and `--keep-empty`, without the dashes.
    Flag(&'static str),
    /// A reserved word, in lower case.
    Keyword(&'static str),
    /// The name of a function that is called here, in lower case.
    Function(&'static str),
    /// An operator or punctuation.
    Symbol(&'static str),
    /// A mistake.
    Bad(Mistake),
    /// The end of the text.
    End,
}

/// What is wrong with the characters of a token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mistake {
    /// What is wrong.
    pub(super) message: String,
    /// Whether it was found in the brackets of a range.
    in_range: bool,
}

impl Token {
    /// How syntax errors call the token.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Ident(_) => "IDENTIFIER".to_owned(),
            Self::Text(_) => "STRING".to_owned(),
            Self::Number(_) => "NUMBER".to_owned(),
            Self::Duration(_) => "DURATION".to_owned(),
            Self::Bytes(_) => "BYTES".to_owned(),
            Self::Range(_) => "RANGE".to_owned(),
            Self::Flag(_) => "FUNCTION_FLAG".to_owned(),
            Self::Keyword(word) | Self::Symbol(word) => (*word).to_owned(),
            Self::Function(word @ ("ip" | "label_replace")) => (*word).to_owned(),
            Self::Function("bytes") => "BYTES_CONV".to_owned(),
            Self::Function("duration") => "DURATION_CONV".to_owned(),
            Self::Function("duration_seconds") => "DURATION_SECONDS_CONV".to_owned(),
            Self::Function(name) => name.to_uppercase(),
            Self::Bad(_) => "$unk".to_owned(),
            Self::End => "$end".to_owned(),
        }
    }

    /// How the grammar calls the token.
    fn terminal(&self) -> String {
        match self {
            Self::Symbol(symbol) => SYMBOLS
                .iter()
                .find(|(text, _)| text == symbol)
                .map_or("", |(_, name)| name)
                .to_owned(),
            Self::Keyword("line_format") => "LINE_FMT".to_owned(),
            Self::Keyword("label_format") => "LABEL_FMT".to_owned(),
            token => token.name().to_uppercase(),
        }
    }

    /// Whether errors name the token's column without its line. The original's scanner forgets
    /// the line of what it reads rune by rune: all operators of two, and whatever has a unit.
    pub(super) fn has_no_line(&self) -> bool {
        match self {
            Self::Symbol(symbol) => symbol.len() == 2,
            Self::Range(_) | Self::Duration(_) | Self::Bytes(_) | Self::Flag(_) => true,
            Self::Bad(mistake) => mistake.in_range,
            _ => false,
        }
    }
}

/// The names of the tokens of a query as Loki's grammar calls them (`OPEN_BRACE`, `IDENTIFIER`,
/// `PIPE_MATCH`), each with its place, up to the first mistake; for tools that show or compare
/// queries.
///
/// ```
/// let names: Vec<_> = trine_query::logql::tokens("{a=\"b\"}").map(|(name, _)| name).collect();
/// assert_eq!(names, ["OPEN_BRACE", "IDENTIFIER", "EQ", "STRING", "CLOSE_BRACE"]);
/// ```
pub fn tokens(query: &str) -> impl Iterator<Item = (String, Span)> {
    tokenize(query)
        .into_iter()
        .filter(|(token, _)| !matches!(token, Token::Bad(_) | Token::End))
        .map(|(token, span)| (token.terminal(), span))
}

/// Splits `source` into tokens with their places. The last one is [`Token::End`].
pub(super) fn tokenize(source: &str) -> Vec<(Token, Span)> {
    // A byte order mark before the first token is none of it.
    let at = if source.starts_with('\u{feff}') { 3 } else { 0 };
    let mut lexer = Lexer { source, at };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.next_token();
        let stop = matches!(token, Token::Bad(_) | Token::End);
        tokens.push((token, Span::new(start, lexer.at)));
        if stop {
            return tokens;
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn next_token(&mut self) -> Token {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Token::End;
        };
        let second = rest.chars().nth(1);
        match first {
            '"' | '`' => self.string(first),
            '[' => self.range(),
            '0'..='9' => self.number(),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(),
            '-' => match self.flag() {
                Some(flag) => Token::Flag(flag),
                None => self.negative_duration().unwrap_or_else(|| self.symbol()),
            },
            '\'' => self.character(),
            '\0' => bad("invalid character NUL"),
            _ if is_name_start(first) => self.word(),
            _ => self.symbol(),
        }
    }

    /// An operator or punctuation. Any other character is a name of its own.
    fn symbol(&mut self) -> Token {
        let rest = self.rest();
        if let Some((symbol, _)) = SYMBOLS.iter().find(|(text, _)| rest.starts_with(text)) {
            self.at += symbol.len();
            return Token::Symbol(symbol);
        }
        let len = rest.chars().next().map_or(0, char::len_utf8);
        self.name(len)
    }

    fn name(&mut self, len: usize) -> Token {
        let name = self.rest().get(..len).unwrap_or("").to_owned();
        self.at += len;
        Token::Ident(name)
    }

    /// One character in single quotes is a name too, anything else in them a mistake.
    fn character(&mut self) -> Token {
        let mut runes = self.rest().char_indices().skip(1).peekable();
        let mut count = 0;
        while let Some((i, c)) = runes.next() {
            match c {
                '\'' if count == 1 => return self.name(i + 1),
                '\'' => return bad("invalid char literal"),
                '\n' => break,
                '\\' => drop(runes.next()),
                _ => {}
            }
            count += 1;
        }
        bad("literal not terminated")
    }

    fn negative_duration(&mut self) -> Option<Token> {
        let rest = self.rest();
        let tail = rest.strip_prefix('-')?;
        let is_part = |c: char| is_duration_part(c) || c.is_ascii_digit() || c == '.';
        let len = tail.find(|c| !is_part(c)).unwrap_or(tail.len());
        let literal = rest.get(..=len)?;
        let nanos = units::duration(literal).ok()?;
        self.at += literal.len();
        Some(Token::Duration(nanos))
    }

    fn flag(&mut self) -> Option<&'static str> {
        let body = self.rest().strip_prefix("--")?;
        let len = body
            .find(|c: char| !c.is_alphabetic() && c != '-')
            .unwrap_or(body.len());
        let flag = ["strict", "keep-empty"]
            .into_iter()
            .find(|flag| body.get(..len) == Some(*flag))?;
        self.at += 2 + len;
        Some(flag)
    }

    fn string(&mut self, quote: char) -> Token {
        let rest = self.rest();
        let mut escaped = false;
        for (i, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if quote == '"' => escaped = true,
                '\n' if quote == '"' => break,
                _ if c == quote => {
                    let literal = rest.get(..=i).unwrap_or(rest);
                    self.at += literal.len();
                    return match text::unquote(literal) {
                        Ok(value) => Token::Text(value),
                        Err(_) if has_unknown_escape(literal) => bad("invalid char escape"),
                        Err(error) => bad(error.to_string()),
                    };
                }
                _ => {}
            }
        }
        bad("literal not terminated")
    }

    fn range(&mut self) -> Token {
        let in_range = |message: String| {
            Token::Bad(Mistake {
                message,
                in_range: true,
            })
        };
        let body = self.rest().strip_prefix('[').unwrap_or("");
        let Some(len) = body.find(']') else {
            return in_range("missing closing ']' in duration".to_owned());
        };
        match units::range(body.get(..len).unwrap_or("").trim()) {
            Ok(nanos) => {
                self.at += len + 2;
                Token::Range(nanos)
            }
            Err(message) => in_range(message),
        }
    }

    /// A number, or the duration or size that begins with it.
    fn number(&mut self) -> Token {
        let rest = self.rest();
        let number = rest.get(..number_len(rest)).unwrap_or(rest);
        let tail = rest.get(number.len()..).unwrap_or("");
        let is_size = |c: char| matches!(c, 'B' | 'i' | 'k' | 'K' | 'M' | 'G' | 'T' | 'P');
        if let Some(literal) = literal_with_unit(rest, number.len(), tail, is_duration_part)
            && let Ok(nanos) = units::duration(literal)
        {
            self.at += literal.len();
            return Token::Duration(nanos);
        }
        if let Some(literal) = literal_with_unit(rest, number.len(), tail, is_size)
            && let Ok(bytes) = units::bytes(literal)
        {
            self.at += literal.len();
            return Token::Bytes(Size {
                bytes,
                text: literal.to_owned(),
            });
        }
        self.at += number.len();
        Token::Number(number.to_owned())
    }

    fn word(&mut self) -> Token {
        let rest = self.rest();
        let len = rest.find(|c| !is_name_part(c)).unwrap_or(rest.len());
        let word = rest.get(..len).unwrap_or(rest);
        self.at += len;
        let lower = word.to_lowercase();
        if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == lower) {
            return Token::Keyword(keyword);
        }
        match function(&lower) {
            Some(name) if self.is_called() => Token::Function(name),
            _ => Token::Ident(word.to_owned()),
        }
    }

    /// Whether what follows makes the word before it a function.
    fn is_called(&self) -> bool {
        let mut ahead = Lexer {
            source: self.source,
            at: self.at,
        };
        ahead.skip_blanks();
        let rest = ahead.rest();
        if rest.starts_with('(') {
            return true;
        }
        let len = rest.find(|c| !is_name_part(c)).unwrap_or(rest.len());
        let word = rest.get(..len).unwrap_or("").to_lowercase();
        ahead.at += len;
        ahead.skip_blanks();
        matches!(word.as_str(), "by" | "without") && ahead.rest().starts_with('(')
    }
}

/// A character of the unit of a duration.
fn is_duration_part(c: char) -> bool {
    matches!(c, 'n' | 's' | 'u' | 'm' | 'h' | 'µ' | 'd' | 'w' | 'y')
}

/// Whether a backslash of the string is followed by no letter of an escape or by too few digits.
fn has_unknown_escape(literal: &str) -> bool {
    let mut rest = literal;
    while let Some((_, after)) = rest.split_once('\\') {
        let mut chars = after.chars();
        let (count, radix) = match chars.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '"') => (0, 10),
            Some('0'..='7') => (2, 8),
            Some('x') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            _ => return true,
        };
        let digits = chars.by_ref().take(count).filter(|c| c.is_digit(radix));
        if digits.count() < count {
            return true;
        }
        rest = chars.as_str();
    }
    false
}

fn bad(message: impl Into<String>) -> Token {
    Token::Bad(Mistake {
        message: message.into(),
        in_range: false,
    })
}

fn function(lower: &str) -> Option<&'static str> {
    let range = RangeOp::ALL.iter().map(|op| op.name());
    let vector = VectorOp::ALL.iter().map(|op| op.name());
    range
        .chain(vector)
        .chain(PLAIN_FUNCTIONS)
        .find(|name| *name == lower)
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_name_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the number at the front of `rest`: digits, point, exponent, or a prefixed one
/// such as `0x1p3`.
fn number_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    if at(0) == b'0' && matches!(at(1), b'x' | b'X' | b'b' | b'o' | b'O') {
        return prefixed_len(bytes);
    }
    let digits = |from: usize| {
        bytes
            .iter()
            .skip(from)
            .take_while(|b| b.is_ascii_digit() || **b == b'_')
            .count()
    };
    let mut len = digits(0);
    if at(len) == b'.' {
        len += 1 + digits(len + 1);
    }
    if matches!(at(len), b'e' | b'E') {
        let sign = usize::from(matches!(at(len + 1), b'+' | b'-'));
        let exponent = digits(len + 1 + sign);
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    len
}

fn prefixed_len(bytes: &[u8]) -> usize {
    let mut len = 2;
    let mut previous = 0u8;
    for &byte in bytes.iter().skip(2) {
        let sign = matches!(byte, b'+' | b'-') && matches!(previous, b'p' | b'P');
        let part = byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'p' | b'P' | b'_');
        if !sign && !part {
            break;
        }
        previous = byte;
        len += 1;
    }
    len
}

/// The number and what follows it as long as those are digits, points or characters of a unit;
/// `None` when no unit follows.
fn literal_with_unit<'a>(
    rest: &'a str,
    number: usize,
    tail: &str,
    is_unit: impl Fn(char) -> bool,
) -> Option<&'a str> {
    if !tail.chars().next().is_some_and(&is_unit) {
        return None;
    }
    let is_part = |c: char| is_unit(c) || c.is_ascii_digit() || c == '.';
    let len = tail.find(|c: char| !is_part(c)).unwrap_or(tail.len());
    rest.get(..number + len)
}

#[cfg(test)]
mod tests;
