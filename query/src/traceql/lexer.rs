//! The words of TraceQL.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use super::ast::{Attribute, Intrinsic, KINDS, STATUSES, Static};
use super::error::ParseError;
use super::source::Scope;
use crate::text::{Span, parse_go_duration, parse_prometheus_duration, unquote};

/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 128 << 10;

/// One word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// An operator or a bracket.
    Sign(&'static str),
    /// A name that is none of the below.
    Ident(String),
    Attribute(Attribute),
    Static(Static),
    End,
}

/// Signs, longest first.
const SIGNS: [&str; 38] = [
    "!>>", "!<<", "&>>", "&<<", "&&", "||", "!=", "!~", "=~", "<=", ">=", ">>", "<<", "!>", "!<",
    "&>", "&<", "&~", "{", "}", "(", ")", "|", "=", "<", ">", "~", "!", "+", "-", "*", "/", "%",
    "^", ",", "&", ":", ";",
];

/// Cuts a query into words. The last one is [`Token::End`].
pub(super) fn lex(text: &str) -> Result<Vec<(Token, Span)>, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        let message = format!(
            "query is {} bytes long, at most {QUERY_BYTES_MAX}",
            text.len()
        );
        return Err(ParseError {
            span: Span::new(0, text.len()),
            message,
        });
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push((token, Span::new(start, lexer.at)));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// What ends the name of an attribute.
fn ends_name(c: char) -> bool {
    c.is_whitespace() || "{}()=~!<>&|^,".contains(c)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The longest start of the rest whose characters satisfy `accept`.
    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    fn error(&self, start: usize, what: &str) -> ParseError {
        let span = Span::new(start, self.at.max(start));
        let position = span.position_in(self.text);
        let (line, column) = (position.line, position.column);
        ParseError {
            span,
            message: format!("parse error at line {line}, col {column}: {what}"),
        }
    }

    /// White space and Go's comments.
    fn skip_blank(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                let end = self
                    .rest()
                    .find("*/")
                    .map_or(self.rest().len(), |end| end + 2);
                self.at += end;
            } else {
                return;
            }
        }
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        let start = self.at;
        let Some(c) = self.peek() else {
            return Ok(Token::End);
        };
        if c == '"' || c == '`' {
            return self
                .string()
                .map(|text| Token::Static(Static::Str(text.into())));
        }
        let second = self.rest().chars().nth(1);
        if c.is_ascii_digit() || (c == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if c == '.' {
            self.at += 1;
            return self.attribute(start, None, false);
        }
        if c.is_alphabetic() || c == '_' {
            return self.word();
        }
        match SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            None => {
                self.at += c.len_utf8();
                Err(self.error(start, "syntax error: invalid character"))
            }
        }
    }

    fn string(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        let quote = self.peek();
        self.at += 1;
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if Some(c) == quote {
                let literal = self.text.get(start..self.at).unwrap_or_default();
                return unquote(literal)
                    .map_err(|_| self.error(start, "syntax error: invalid string"));
            }
            if c == '\\' && quote == Some('"') {
                self.at += self.peek().map_or(0, char::len_utf8);
            }
        }
        Err(self.error(start, "syntax error: literal not terminated"))
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let start = self.at;
        let mut text = self.take_while(|c| c.is_alphanumeric() || c == '.');
        // The sign of an exponent is part of the number.
        if text.ends_with(['e', 'E']) && self.rest().starts_with(['+', '-']) {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
            text = self.text.get(start..self.at).unwrap_or_default();
        }
        let bad = || self.error(start, "syntax error: bad number or duration");
        if text.contains(|c: char| c.is_alphabetic() && c != 'e' && c != 'E') {
            let nanoseconds = parse_go_duration(text).ok().or_else(|| {
                parse_prometheus_duration(text)
                    .ok()
                    .and_then(|ms| ms.checked_mul(1_000_000))
            });
            return nanoseconds
                .map(|ns| Token::Static(Static::Duration(ns)))
                .ok_or_else(bad);
        }
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Token::Static(Static::Int(number)));
        }
        text.parse::<f64>()
            .map(|number| Token::Static(Static::Float(number)))
            .map_err(|_| bad())
    }

    fn word(&mut self) -> Result<Token, ParseError> {
        let start = self.at;
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_');
        let scope = match word {
            "span" => Some(Scope::Span),
            "resource" => Some(Scope::Resource),
            "event" => Some(Scope::Event),
            "link" => Some(Scope::Link),
            "instrumentation" => Some(Scope::Instrumentation),
            _ => None,
        };
        if self.rest().starts_with('.') && (scope.is_some() || word == "parent") {
            self.at += 1;
            return match scope {
                Some(scope) => self.attribute(start, Some(scope), false),
                None => self.parent_attribute(start),
            };
        }
        if self.rest().starts_with(':') && (scope.is_some() || word == "trace") {
            self.at += 1;
            self.take_while(|c| c.is_alphanumeric() || c == '_');
            let name = self.text.get(start..self.at).unwrap_or_default();
            let found = Intrinsic::NAMES
                .iter()
                .find(|(_, _, scoped)| *scoped == name);
            return match found {
                Some((intrinsic, _, _)) => Ok(Token::Attribute(Attribute::Intrinsic(*intrinsic))),
                None => Err(self.error(start, &format!("syntax error: unknown intrinsic {name}"))),
            };
        }
        let number = |names: &[&str]| {
            names
                .iter()
                .position(|name| *name == word)
                .and_then(|at| u8::try_from(at).ok())
        };
        let literal = match word {
            "true" => Some(Static::Bool(true)),
            "false" => Some(Static::Bool(false)),
            "nil" => Some(Static::Nil),
            "minInt" => Some(Static::Int(i64::MIN)),
            "maxInt" => Some(Static::Int(i64::MAX)),
            _ => number(&STATUSES)
                .map(Static::Status)
                .or_else(|| number(&KINDS).map(Static::Kind)),
        };
        if let Some(literal) = literal {
            return Ok(Token::Static(literal));
        }
        let found = Intrinsic::NAMES.iter().find(|(_, short, _)| *short == word);
        Ok(match found {
            Some((intrinsic, _, _)) => Token::Attribute(Attribute::Intrinsic(*intrinsic)),
            None => Token::Ident(word.to_owned()),
        })
    }

    /// After `parent.`: an attribute with or without a scope.
    fn parent_attribute(&mut self, start: usize) -> Result<Token, ParseError> {
        for (word, scope) in [("span.", Scope::Span), ("resource.", Scope::Resource)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return self.attribute(start, Some(scope), true);
            }
        }
        self.attribute(start, None, true)
    }

    /// A quoted part of a name, in which only quotes and backslashes are escaped.
    fn quoted_part(&mut self, key: &mut String) -> Result<(), ParseError> {
        let start = self.at;
        self.at += 1;
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(()),
                '\\' => match self.peek() {
                    Some(escaped @ ('"' | '\\')) => {
                        self.at += 1;
                        key.push(escaped);
                    }
                    _ => return Err(self.error(start, "syntax error: invalid escape in a name")),
                },
                c => key.push(c),
            }
        }
        Err(self.error(start, "syntax error: literal not terminated"))
    }

    /// The name of an attribute; parts may be quoted.
    fn attribute(
        &mut self,
        start: usize,
        scope: Option<Scope>,
        parent: bool,
    ) -> Result<Token, ParseError> {
        let mut key = String::new();
        loop {
            match self.peek() {
                Some('"') => self.quoted_part(&mut key)?,
                Some(c) if !ends_name(c) => {
                    key.push_str(self.take_while(|c| c != '"' && !ends_name(c)));
                }
                _ => break,
            }
        }
        if key.is_empty() {
            let expecting = match (parent, scope) {
                (true, None) => "IDENTIFIER or resource. or span.",
                _ => "IDENTIFIER",
            };
            let what = format!("syntax error: unexpected END_ATTRIBUTE, expecting {expecting}");
            return Err(self.error(start, &what));
        }
        let key: Arc<str> = key.into();
        Ok(Token::Attribute(Attribute::Named { scope, parent, key }))
    }
}
