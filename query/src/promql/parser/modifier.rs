//! What may follow an operand: ranges, subqueries, `offset`, `@`.

use super::duration::{Duration, Place};
use super::literal::milliseconds;
use super::{Parsed, Parser};
use crate::promql::ast::{At, Expr, ExprKind, Extended, Modifiers, Subquery};
use crate::promql::error::Fault;
use crate::promql::lexer::{Keyword, TokenKind};
use crate::text::{Span, format_fixed};

impl Parser<'_> {
    /// An operand with all its modifiers.
    pub(super) fn postfix(&mut self) -> Parsed {
        let mut expr = self.primary()?;
        loop {
            expr = match self.token.kind {
                TokenKind::LeftBracket => self.bracket(expr)?,
                TokenKind::Keyword(Keyword::Offset) => self.offset(expr)?,
                TokenKind::At => self.at(expr)?,
                TokenKind::Keyword(Keyword::Anchored) => self.extend(expr, Extended::Anchored)?,
                TokenKind::Keyword(Keyword::Smoothed) => self.extend(expr, Extended::Smoothed)?,
                _ => return Ok(expr),
            };
        }
    }

    /// `[range]` or `[range:step]`
    fn bracket(&mut self, expr: Expr) -> Parsed {
        let open = self.advance()?.span;
        let range = self.positive_duration(Place::RANGE)?;
        match self.token.kind {
            TokenKind::RightBracket => {
                let close = self.advance()?.span;
                range_selector(expr, range, open.to(close))
            }
            TokenKind::Colon => {
                self.advance()?;
                let step = match self.token.kind {
                    TokenKind::RightBracket => None,
                    _ => Some(self.positive_duration(Place::SUBQUERY_STEP)?),
                };
                let close = self.expect(TokenKind::RightBracket, "subquery selector", "\"]\"")?;
                let span = expr.span.to(close.span);
                let (step_ms, step_expr) = match step {
                    Some(step) => (Some(step.ms), step.expr),
                    None => (None, None),
                };
                let subquery = Subquery {
                    expr: Box::new(expr),
                    range_ms: range.ms,
                    range_expr: range.expr,
                    step_ms,
                    step_expr,
                    modifiers: Modifiers::default(),
                };
                Ok(Expr {
                    kind: ExprKind::Subquery(subquery),
                    span,
                })
            }
            _ => Err(self.unexpected("subquery or range", "\":\" or \"]\"")),
        }
    }

    fn extend(&mut self, mut expr: Expr, extended: Extended) -> Parsed {
        self.advance()?;
        let (name, span) = (extended.name(), expr.span);
        let fault = |message: String| Err(Fault::new(span, message));
        if !self.options.extended_selectors {
            return fault(format!("{name} modifier is experimental and not enabled"));
        }
        let modifiers = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
                &mut selector.modifiers
            }
            ExprKind::Subquery(_) => {
                return fault(format!("{name} modifier is not supported for subqueries"));
            }
            _ => return fault(format!("{name} modifier not implemented")),
        };
        if modifiers.extended.is_some_and(|other| other != extended) {
            return fault("anchored and smoothed modifiers cannot be used together".to_owned());
        }
        modifiers.extended = Some(extended);
        Ok(expr)
    }

    fn offset(&mut self, mut expr: Expr) -> Parsed {
        self.advance()?;
        let (offset, span) = self.offset_duration()?;
        let full = expr.span.to(span);
        let modifiers = modifiers_of(&mut expr, "offset modifier")?;
        if modifiers.offset_expr.is_some() || modifiers.offset_ms.is_some_and(|ms| ms != 0) {
            return Err(Fault::new(
                expr.span,
                "offset may not be set multiple times",
            ));
        }
        (modifiers.offset_ms, modifiers.offset_expr) = (Some(offset.ms), offset.expr);
        expr.span = full;
        Ok(expr)
    }

    fn at(&mut self, mut expr: Expr) -> Parsed {
        self.advance()?;
        let at = self.at_time()?;
        let full = Span::new(expr.span.start, self.previous_end);
        let modifiers = modifiers_of(&mut expr, "@ modifier")?;
        if modifiers.at.is_some() {
            return Err(Fault::new(
                expr.span,
                "@ <timestamp> may not be set multiple times",
            ));
        }
        modifiers.at = Some(at);
        expr.span = full;
        Ok(expr)
    }

    fn at_time(&mut self) -> Parsed<At> {
        const CONTEXT: &str = "@";
        if self.token.kind == TokenKind::Identifier {
            let at = match self.slice(self.token.span).to_ascii_lowercase().as_str() {
                "start" => At::Start,
                "end" => At::End,
                _ => return Err(self.unexpected(CONTEXT, "timestamp")),
            };
            self.advance()?;
            self.expect(TokenKind::LeftParen, CONTEXT, "timestamp")?;
            self.expect(TokenKind::RightParen, CONTEXT, "timestamp")?;
            return Ok(at);
        }
        let start = self.token.span;
        let negative = self.sign()?;
        if !matches!(self.token.kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected(CONTEXT, "timestamp"));
        }
        let token = self.advance()?;
        let seconds = self.number_of(token)?.value;
        let seconds = if negative { -seconds } else { seconds };
        // The bound leaves room for ranges and offsets to be added without overflow.
        if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 / 4000.0 {
            let text = format_fixed(seconds, 6);
            let span = start.to(token.span);
            return Err(Fault::new(
                span,
                format!("timestamp out of bounds for @ modifier: {text}"),
            ));
        }
        Ok(At::Time(milliseconds(seconds)))
    }
}

fn range_selector(expr: Expr, range: Duration, brackets: Span) -> Parsed {
    let fault = |message: &str| Err(Fault::new(brackets, message));
    match expr.kind {
        ExprKind::Selector(selector) if selector.modifiers.offset_ms.is_some() => {
            fault("no offset modifiers allowed before range")
        }
        ExprKind::Selector(selector) if selector.modifiers.at.is_some() => {
            fault("no @ modifiers allowed before range")
        }
        ExprKind::Selector(selector) => Ok(Expr {
            kind: ExprKind::Range {
                selector,
                range_ms: range.ms,
                range_expr: range.expr,
            },
            span: expr.span.to(brackets),
        }),
        _ => fault("ranges only allowed for vector selectors"),
    }
}

/// The modifiers of an expression that can have some.
fn modifiers_of<'e>(expr: &'e mut Expr, what: &str) -> Parsed<&'e mut Modifiers> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
            Ok(&mut selector.modifiers)
        }
        ExprKind::Subquery(subquery) => Ok(&mut subquery.modifiers),
        _ => Err(Fault::new(
            expr.span,
            format!(
                "{what} must be preceded by an instant vector selector or range vector selector \
                 or a subquery"
            ),
        )),
    }
}
