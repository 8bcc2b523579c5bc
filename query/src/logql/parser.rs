//! Reads a query: recursive descent, precedence climbing for operators. Called by whoever has the
//! text of a query; the engine takes the tree.
//!
//! This file holds the entry points and the machinery; `parser/log.rs` reads selectors and
//! pipelines, `parser/metric.rs` aggregations and operators.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod log;
mod metric;

use trine_storage::Matcher;

pub(super) use self::metric::{binds_right, precedence};

use super::ast::{Expr, Selector};
use super::error::{ParseError, QueryError};
use super::lexer::{self, Token};
use crate::text::Span;

/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 131_072;

/// How deep a query may nest (parentheses, aggregations, `or` under `,`): reading, printing and
/// evaluation are recursive.
pub const NESTING_MAX: usize = 128;

/// How many binary operators a query may have: they nest to the left.
pub const OPERATORS_MAX: usize = 256;

const SELECTOR_TOO_BROAD: &str = "queries require at least one regexp or equality matcher that \
    does not have an empty-compatible value. For instance, app=~\".*\" does not meet this \
    requirement, but app=~\".+\" will";

const ONLY_MATCHERS: &str = "only label matchers are supported";

/// Reads a query and checks it.
///
/// # Errors
/// When the text is not LogQL, or a selector could match every stream.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query)?;
    let expr = parser.expr(0)?;
    parser.end()?;
    match parser.flaws.into_iter().next() {
        Some(flaw) => Err(flaw),
        None => Ok(expr),
    }
}

/// Reads a query that may not be UTF-8, as it comes over the wire.
///
/// # Errors
/// As [`parse`], and where the first byte stands that is not UTF-8.
pub fn parse_bytes(query: &[u8]) -> Result<Expr, ParseError> {
    let valid = match std::str::from_utf8(query) {
        Ok(query) => return parse(query),
        Err(error) => error.valid_up_to(),
    };
    let text = String::from_utf8_lossy(query);
    let tokens = lexer::tokenize(&text);
    let token = tokens.iter().find(|(_, span)| span.end > valid);
    let start = token.map_or(valid, |(_, span)| span.start.min(valid));
    match parse(&text) {
        Err(error) if error.span.start < start => Err(error),
        _ => Err(ParseError {
            message: "invalid UTF-8 encoding".to_owned(),
            span: Span::new(start, valid),
            position: Some(position(&text, start)),
        }),
    }
}

/// Reads a selector such as `{app="api"}`, for the calls that list labels and streams; here `{}`
/// is allowed.
///
/// # Errors
/// When the text is not LogQL, or is more than a selector.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.expr(0)?;
    parser.end()?;
    match expr {
        Expr::Log(log) if log.stages.is_empty() => Ok(log.selector.matchers),
        _ => Err(QueryError::Invalid(ONLY_MATCHERS.to_owned())),
    }
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    operators: usize,
    /// What makes no sense in expressions that are well written, each where its expression
    /// starts. They are told after all mistakes in writing.
    flaws: Vec<ParseError>,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Result<Self> {
        if source.len() > QUERY_BYTES_MAX {
            return Err(ParseError {
                message: format!("input size too long ({} > {QUERY_BYTES_MAX})", source.len()),
                span: Span::new(0, source.len()),
                position: None,
            });
        }
        let tokens = lexer::tokenize(source);
        Ok(Self {
            source,
            tokens,
            at: 0,
            depth: 0,
            operators: 0,
            flaws: Vec::new(),
        })
    }

    fn token(&self, ahead: usize) -> &Token {
        self.tokens
            .get(self.at + ahead)
            .map_or(&Token::End, |(token, _)| token)
    }

    fn peek(&self) -> &Token {
        self.token(0)
    }

    fn span(&self) -> Span {
        let end = self.source.len();
        self.tokens
            .get(self.at)
            .map_or(Span::new(end, end), |(_, span)| *span)
    }

    /// Where the next token starts.
    fn start(&self) -> usize {
        self.span().start
    }

    /// From `start` to the end of the token before the next one.
    fn since(&self, start: usize) -> Span {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        Span::new(start, last.map_or(start, |(_, span)| span.end.max(start)))
    }

    fn bump(&mut self) {
        self.at += 1;
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(s) if *s == symbol)
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Keyword(k) if *k == keyword)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.at += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &'static str) -> Result<()> {
        if self.take_symbol(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(&[symbol]))
        }
    }

    fn expect_ident(&mut self) -> Result<String> {
        let Token::Ident(name) = self.peek() else {
            return Err(self.unexpected(&["IDENTIFIER"]));
        };
        let name = name.clone();
        self.bump();
        Ok(name)
    }

    fn expect_text(&mut self) -> Result<String> {
        let Token::Text(value) = self.peek() else {
            return Err(self.unexpected(&["STRING"]));
        };
        let value = value.clone();
        self.bump();
        Ok(value)
    }

    fn end(&self) -> Result<()> {
        if *self.peek() == Token::End {
            Ok(())
        } else {
            Err(self.unexpected(&[]))
        }
    }

    /// The next token does not belong here; `expected` says what would, when it is one of few.
    fn unexpected(&self, expected: &[&str]) -> ParseError {
        let (token, span) = (self.peek(), self.span());
        let (line, column) = self.position(span.start);
        let message = match token {
            Token::Bad(mistake) => mistake.message.clone(),
            token if expected.is_empty() => {
                format!("syntax error: unexpected {}", token.name())
            }
            token => format!(
                "syntax error: unexpected {}, expecting {}",
                token.name(),
                expected.join(" or ")
            ),
        };
        ParseError {
            message,
            span,
            position: Some((if token.has_no_line() { 0 } else { line }, column)),
        }
    }

    /// Line and column of a byte, both from 1; an empty query has neither.
    fn position(&self, at: usize) -> (usize, usize) {
        if self.source.is_empty() {
            return (0, 0);
        }
        position(self.source, at)
    }

    /// An error about the meaning of what was read since `start`, told without a position.
    fn invalid(&self, start: usize, message: impl Into<String>) -> ParseError {
        ParseError {
            message: message.into(),
            span: self.since(start),
            position: None,
        }
    }

    /// Notes that the expression since `start` makes no sense, which leaves its parts untold.
    fn flaw(&mut self, start: usize, message: impl Into<String>) {
        let flaw = self.invalid(start, message);
        self.flaws.retain(|inner| inner.span.start < start);
        self.flaws.push(flaw);
    }

    /// Notes a selector that every stream could match.
    fn check_selector(&mut self, selector: &Selector) {
        if selector.matchers.iter().all(Matcher::matches_empty) {
            self.flaw(selector.span.start, SELECTOR_TOO_BROAD);
        }
    }

    /// Runs `read` one level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == NESTING_MAX {
            let message = format!("the query nests deeper than {NESTING_MAX} levels");
            return Err(self.invalid(self.start(), message));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// `(name, name)`.
    fn label_list(&mut self) -> Result<Vec<String>> {
        self.expect_symbol("(")?;
        let mut labels = Vec::new();
        if self.take_symbol(")") {
            return Ok(labels);
        }
        loop {
            let Token::Ident(name) = self.peek() else {
                let first: &[&str] = &["IDENTIFIER", ")"];
                return Err(self.unexpected(if labels.is_empty() {
                    first
                } else {
                    &["IDENTIFIER"]
                }));
            };
            labels.push(name.clone());
            self.bump();
            if self.take_symbol(")") {
                return Ok(labels);
            }
            if !self.take_symbol(",") {
                return Err(self.unexpected(&[",", ")"]));
            }
        }
    }
}

/// Line and column of a byte, both from 1; columns count characters.
fn position(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

#[cfg(test)]
mod tests;
