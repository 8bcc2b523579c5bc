//! Series selectors: names and matchers in braces.

use trine_storage::{MatchOp, Matcher};

use super::{Parsed, Parser};
use crate::promql::ast::{Expr, ExprKind, Modifiers, Selector};
use crate::promql::error::Fault;
use crate::promql::lexer::{Keyword, Token, TokenKind};
use crate::text::{Span, quote};
use crate::vector::{BinaryOp, METRIC_NAME};

const CONTEXT: &str = "label matching";

impl Parser<'_> {
    /// Whether the current token can be a metric's name where an operand is wanted.
    pub(super) fn is_metric_name(&self) -> bool {
        matches!(
            self.token.kind,
            TokenKind::Identifier
                | TokenKind::MetricIdentifier
                | TokenKind::Aggregate(_)
                | TokenKind::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
                | TokenKind::Keyword(
                    Keyword::Offset
                        | Keyword::By
                        | Keyword::Without
                        | Keyword::Anchored
                        | Keyword::Smoothed
                        | Keyword::Fill
                        | Keyword::FillLeft
                        | Keyword::FillRight
                )
        )
    }

    /// `name`, `name{..}` or `{..}`
    pub(super) fn selector(&mut self) -> Parsed {
        if self.token.kind == TokenKind::LeftBrace {
            return self.braces(None, self.token.span);
        }
        if !self.is_metric_name() {
            return Err(self.unexpected("", ""));
        }
        let token = self.advance()?;
        self.selector_named(token)
    }

    /// What follows the name that `token` is.
    pub(super) fn selector_named(&mut self, token: Token) -> Parsed {
        let name = self.slice(token.span).to_owned();
        if self.token.kind == TokenKind::LeftBrace {
            return self.braces(Some(name), token.span);
        }
        let matchers = vec![Matcher::equal(METRIC_NAME, name.clone())];
        let modifiers = Modifiers::default();
        let selector = Selector {
            name: Some(name),
            matchers,
            modifiers,
        };
        Ok(Expr {
            kind: ExprKind::Selector(selector),
            span: token.span,
        })
    }

    fn braces(&mut self, name: Option<String>, start: Span) -> Parsed {
        self.expect(TokenKind::LeftBrace, CONTEXT, "")?;
        let mut matchers = Vec::new();
        if self.token.kind != TokenKind::RightBrace {
            loop {
                matchers.push(self.matcher()?);
                if self.token.kind != TokenKind::Comma {
                    break;
                }
                self.advance()?;
                if self.token.kind == TokenKind::RightBrace {
                    break;
                }
            }
            if self.token.kind != TokenKind::RightBrace {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
        }
        let span = start.to(self.token.span);
        self.advance()?;
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        let modifiers = Modifiers::default();
        Ok(Expr {
            kind: ExprKind::Selector(Selector {
                name,
                matchers,
                modifiers,
            }),
            span,
        })
    }

    fn matcher(&mut self) -> Parsed<Matcher> {
        let label = match self.token.kind {
            TokenKind::Identifier => {
                let token = self.advance()?;
                self.slice(token.span).to_owned()
            }
            TokenKind::String => {
                let token = self.advance()?;
                let text = self.string_of(token)?;
                // A string alone is the metric's name.
                if matches!(self.token.kind, TokenKind::Comma | TokenKind::RightBrace) {
                    return Ok(Matcher::equal(METRIC_NAME, text));
                }
                text
            }
            _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
        };
        let label_end = self.previous_end;
        let op = match self.token.kind {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Operator(BinaryOp::NotEqual) => MatchOp::NotEqual,
            TokenKind::Match => MatchOp::Match,
            TokenKind::NotMatch => MatchOp::NotMatch,
            _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
        };
        self.advance()?;
        let value = self.expect(TokenKind::String, CONTEXT, "string")?;
        let text = self.string_of(value)?;
        if label.is_empty() {
            let span = Span::new(label_end, value.span.end);
            return Err(Fault::new(
                span,
                format!("invalid label name {}", quote(&label)),
            ));
        }
        Matcher::new(op, label, text).map_err(|error| Fault::new(value.span, error.to_string()))
    }
}
