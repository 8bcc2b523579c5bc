//! Numbers, durations, strings and lists of labels.

use super::{Parsed, Parser};
use crate::promql::ast::{Number, NumberForm, StringLiteral};
use crate::promql::error::Fault;
use crate::promql::lexer::{Token, TokenKind};
use crate::text::{
    QuoteError, parse_number, parse_prometheus_duration, quote, unquote, unquote_bytes,
};
use crate::vector::BinaryOp;

impl Parser<'_> {
    /// The value of a number or duration token.
    pub(super) fn number_of(&self, token: Token) -> Parsed<Number> {
        let text = self.slice(token.span);
        if token.kind == TokenKind::Duration {
            let ms = parse_prometheus_duration(text)
                .map_err(|error| Fault::new(token.span, error.to_string()))?;
            return Ok(Number {
                value: ms as f64 / 1000.0,
                form: NumberForm::Duration,
            });
        }
        let value = parse_number(text).ok_or_else(|| {
            Fault::new(
                token.span,
                format!("error parsing number: {}", number_fault(text)),
            )
        })?;
        Ok(Number {
            value,
            form: NumberForm::Plain,
        })
    }

    /// The text of a string token.
    pub(super) fn string_of(&self, token: Token) -> Parsed<String> {
        unquote(self.slice(token.span)).map_err(|error| self.unquoting(token, error))
    }

    /// A string token as an expression, where it may be any bytes.
    pub(super) fn literal_of(&self, token: Token) -> Parsed<StringLiteral> {
        let bytes = unquote_bytes(self.slice(token.span));
        let bytes = bytes.map_err(|error| self.unquoting(token, error))?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => StringLiteral { text, bytes: None },
            Err(error) => {
                let bytes = error.into_bytes();
                StringLiteral {
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                    bytes: Some(bytes),
                }
            }
        })
    }

    fn unquoting(&self, token: Token, error: QuoteError) -> Fault {
        let text = quote(self.slice(token.span));
        Fault::new(
            token.span,
            format!("error unquoting string {text}: {error}"),
        )
    }

    /// Takes a sign; whether it was a minus.
    pub(super) fn sign(&mut self) -> Parsed<bool> {
        let negative = self.token.kind == TokenKind::Operator(BinaryOp::Sub);
        if negative || self.token.kind == TokenKind::Operator(BinaryOp::Add) {
            self.advance()?;
        }
        Ok(negative)
    }

    /// `(label, "label", ..)`, a comma allowed at the end.
    pub(super) fn label_list(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        self.expect(TokenKind::LeftParen, CONTEXT, "\"(\"")?;
        let mut names = Vec::new();
        while self.token.kind != TokenKind::RightParen {
            names.push(self.label_name()?);
            if self.token.kind != TokenKind::Comma {
                break;
            }
            self.advance()?;
            if self.token.kind == TokenKind::Comma {
                return Err(self.unexpected(CONTEXT, "label"));
            }
        }
        self.expect(TokenKind::RightParen, CONTEXT, "\",\" or \")\"")?;
        Ok(names)
    }

    fn label_name(&mut self) -> Parsed<String> {
        match self.token.kind {
            TokenKind::String => {
                let token = self.advance()?;
                let name = self.string_of(token)?;
                if name.is_empty() {
                    let message = format!("invalid label name for grouping: {}", quote(&name));
                    return Err(Fault::new(token.span, message));
                }
                Ok(name)
            }
            // Every word is a label here, reserved or not.
            _ if self.is_word() => {
                let token = self.advance()?;
                let name = self.slice(token.span);
                if name.contains(':') {
                    let message = format!("invalid label name for grouping: {}", quote(name));
                    return Err(Fault::new(token.span, message));
                }
                Ok(name.to_owned())
            }
            _ => Err(self.unexpected("grouping opts", "label")),
        }
    }

    /// Whether the current token is made of letters.
    fn is_word(&self) -> bool {
        self.slice(self.token.span)
            .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }
}

/// Seconds to milliseconds, rounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates, and callers check bounds"
)]
pub(super) fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn number_fault(text: &str) -> String {
    let all_digits = text.bytes().any(|b| b.is_ascii_digit());
    let reason = if all_digits && !text.ends_with(['x', 'X', 'e', 'E', '+', '-']) {
        "value out of range"
    } else {
        "invalid syntax"
    };
    format!("strconv.ParseFloat: parsing {}: {reason}", quote(text))
}
