//! Reads a query: recursive descent, precedence climbing for operators. Called by whoever has the
//! text of a query; the engine takes the tree.
//!
//! This file holds the entry points and the machinery; `parser/log.rs` reads selectors and
//! pipelines, `parser/metric.rs` aggregations and operators.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod log;
mod metric;

use trine_storage::Matcher;

use super::ast::{Expr, MetricExpr, MetricKind, Selector};
use super::error::ParseError;
use super::lexer::{self, Mistake, Token};
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

/// Reads a query and checks it.
///
/// # Errors
/// When the text is not LogQL, or a selector could match every stream.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query)?;
    let expr = parser.expr(0)?;
    parser.end()?;
    check_selectors(&expr)?;
    Ok(expr)
}

/// Reads a selector such as `{app="api"}`, for the calls that list labels and streams; here `{}`
/// is allowed.
///
/// # Errors
/// When the text is not a selector.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text)?;
    let selector = parser.selector()?;
    parser.end()?;
    Ok(selector.matchers)
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    operators: usize,
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
        let span = self.span();
        let (line, column) = self.position(span.start);
        let (message, line) = match self.peek() {
            Token::Bad(Mistake { message, in_range }) => {
                (message.clone(), if *in_range { 0 } else { line })
            }
            token => {
                let comma = if expected.is_empty() {
                    ""
                } else {
                    ", expecting "
                };
                let message = format!(
                    "syntax error: unexpected {}{comma}{}",
                    token.name(),
                    expected.join(" or ")
                );
                // Ranges are read ahead of the rest, so their place has no line.
                (
                    message,
                    if matches!(token, Token::Range(_)) {
                        0
                    } else {
                        line
                    },
                )
            }
        };
        ParseError {
            message,
            span,
            position: Some((line, column)),
        }
    }

    /// Line and column of a byte, both from 1; an empty query has neither.
    fn position(&self, at: usize) -> (usize, usize) {
        if self.source.is_empty() {
            return (0, 0);
        }
        let before = self.source.get(..at).unwrap_or(self.source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// An error about the meaning of what was read since `start`, told without a position.
    fn invalid(&self, start: usize, message: impl Into<String>) -> ParseError {
        ParseError {
            message: message.into(),
            span: self.since(start),
            position: None,
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

/// Checks that no selector of the query could match every stream.
fn check_selectors(expr: &Expr) -> Result<()> {
    match expr {
        Expr::Log(log) => check_selector(&log.selector),
        Expr::Metric(metric) => check_metric(metric),
    }
}

fn check_metric(metric: &MetricExpr) -> Result<()> {
    match &metric.kind {
        MetricKind::Literal(_) | MetricKind::Vector(_) => Ok(()),
        MetricKind::Range(range) => check_selector(&range.range.log.selector),
        MetricKind::Aggregate(aggregate) => check_metric(&aggregate.inner),
        MetricKind::Binary(binary) => {
            check_metric(&binary.left)?;
            check_metric(&binary.right)
        }
        MetricKind::LabelReplace(replace) => check_metric(&replace.inner),
    }
}

fn check_selector(selector: &Selector) -> Result<()> {
    if selector
        .matchers
        .iter()
        .any(|matcher| !matcher.matches_empty())
    {
        return Ok(());
    }
    Err(ParseError {
        message: SELECTOR_TOO_BROAD.to_owned(),
        span: selector.span,
        position: None,
    })
}

#[cfg(test)]
mod tests;
