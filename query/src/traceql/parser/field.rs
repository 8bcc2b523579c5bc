//! Expressions over the fields of a span: what stands in curly brackets. Called by `parts` and for
//! the arguments of aggregates and `by`.

use super::{Parser, field_op, fold};
use crate::traceql::ast::{FieldExpr, NEGATE_POWER, NOT_POWER, Op, Static};
use crate::traceql::error::ParseError;
use crate::traceql::lexer::Token;

impl Parser<'_> {
    /// An expression over fields.
    pub(super) fn field(&mut self) -> Result<FieldExpr, ParseError> {
        self.field_above(0)
    }

    /// An expression whose operators bind at least as tightly as `least`.
    fn field_above(&mut self, least: u8) -> Result<FieldExpr, ParseError> {
        let mut lhs = self.field_operand()?;
        while let Some(op) = self
            .sign()
            .and_then(field_op)
            .filter(|op| op.power() >= least)
        {
            self.operator()?;
            self.advance();
            let rhs = self.field_above(op.sides().1)?;
            lhs = binary(op, lhs, rhs);
        }
        Ok(lhs)
    }

    fn field_operand(&mut self) -> Result<FieldExpr, ParseError> {
        match self.peek() {
            Token::Static(value) => {
                let value = value.clone();
                Ok(FieldExpr::Static(value, self.advance()))
            }
            Token::Sign("(") => {
                self.advance();
                let inner = self.deeper(Self::field)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("!") => {
                self.operator()?;
                let span = self.advance();
                let inner = self.field_above(NOT_POWER)?;
                let span = span.to(inner.span());
                Ok(match inner {
                    FieldExpr::Static(Static::Bool(truth), _) => {
                        FieldExpr::Static(Static::Bool(!truth), span)
                    }
                    inner => FieldExpr::Not(inner.into(), span),
                })
            }
            Token::Sign("-") => self.negative(),
            _ => {
                let (attribute, span) = self.attribute()?;
                Ok(FieldExpr::Attribute(attribute, span))
            }
        }
    }

    fn negative(&mut self) -> Result<FieldExpr, ParseError> {
        self.operator()?;
        let span = self.advance();
        if *self.peek() == Token::LeastMagnitude {
            let span = span.to(self.advance());
            return Ok(FieldExpr::Static(Static::Int(i64::MIN), span));
        }
        let inner = self.field_above(NEGATE_POWER)?;
        let span = span.to(inner.span());
        if let FieldExpr::Static(value, _) = &inner
            && let Some(value) = fold::negative(value)
        {
            return Ok(FieldExpr::Static(value, span));
        }
        Ok(FieldExpr::Negate(inner.into(), span))
    }
}

/// Two expressions combined; computed at once where both are constants. `nil` goes to the right.
fn binary(op: Op, lhs: FieldExpr, rhs: FieldExpr) -> FieldExpr {
    let span = lhs.span().to(rhs.span());
    if let (FieldExpr::Static(a, _), FieldExpr::Static(b, _)) = (&lhs, &rhs)
        && let Some(value) = fold::binary(op, a, b)
    {
        return FieldExpr::Static(value, span);
    }
    let is_nil = |expr: &FieldExpr| matches!(expr, FieldExpr::Static(Static::Nil, _));
    let turned = matches!(op, Op::Equal | Op::NotEqual) && is_nil(&lhs) && !is_nil(&rhs);
    let (lhs, rhs) = if turned { (rhs, lhs) } else { (lhs, rhs) };
    FieldExpr::Binary {
        op,
        lhs: lhs.into(),
        rhs: rhs.into(),
        span,
    }
}
