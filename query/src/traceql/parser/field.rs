//! Expressions over the fields of a span: what stands in curly brackets. Called by `parts` and for
//! the arguments of aggregates and `by`.
//!
//! Operators wait on a stack of their own until it is clear what belongs to them, so that brackets
//! cost no stack of the thread, however deep they are.

use super::{Parser, field_op, fold};
use crate::text::Span;
use crate::traceql::ast::{FieldExpr, NEGATE_POWER, NOT_POWER, Op, Static};
use crate::traceql::error::ParseError;
use crate::traceql::lexer::Token;

/// What waits for its operands.
#[derive(Clone, Copy)]
enum Waiting {
    Bracket,
    Not(Span),
    Negate(Span),
    Binary(Op),
}

impl Waiting {
    /// Whether it takes what it has before an operator of such a power does.
    fn goes_first(self, power: u8) -> bool {
        match self {
            Self::Bracket => false,
            Self::Not(_) => power < NOT_POWER,
            Self::Negate(_) => power < NEGATE_POWER,
            Self::Binary(Op::Power) => power < Op::Power.power(),
            Self::Binary(op) => power <= op.power(),
        }
    }
}

/// Operands and operators as they come.
#[derive(Default)]
struct Stacks {
    operands: Vec<FieldExpr>,
    waiting: Vec<Waiting>,
    brackets: usize,
}

impl Parser<'_> {
    /// An expression over fields.
    pub(super) fn field(&mut self) -> Result<FieldExpr, ParseError> {
        let mut stacks = Stacks::default();
        loop {
            let operand = self.field_operand(&mut stacks)?;
            stacks.operands.push(operand);
            while stacks.brackets > 0 && self.take(")") {
                self.combine_above(&mut stacks, 0)?;
                stacks.waiting.pop();
                stacks.brackets -= 1;
            }
            let Some(op) = self.sign().and_then(field_op) else {
                break;
            };
            self.combine_above(&mut stacks, op.power())?;
            stacks.waiting.push(Waiting::Binary(op));
            self.advance();
        }
        if stacks.brackets > 0 {
            return Err(self.unexpected("expecting )"));
        }
        self.combine_above(&mut stacks, 0)?;
        stacks.operands.pop().ok_or_else(|| self.unexpected(""))
    }

    /// The next operand, with all signs and brackets before it.
    fn field_operand(&mut self, stacks: &mut Stacks) -> Result<FieldExpr, ParseError> {
        loop {
            match self.peek() {
                Token::Static(value) => {
                    let value = value.clone();
                    return Ok(FieldExpr::Static(value, self.advance()));
                }
                Token::Sign("(") => {
                    self.advance();
                    stacks.waiting.push(Waiting::Bracket);
                    stacks.brackets += 1;
                }
                Token::Sign("!") => stacks.waiting.push(Waiting::Not(self.advance())),
                Token::Sign("-") => {
                    let span = self.advance();
                    if *self.peek() == Token::LeastMagnitude {
                        let span = span.to(self.advance());
                        return Ok(FieldExpr::Static(Static::Int(i64::MIN), span));
                    }
                    stacks.waiting.push(Waiting::Negate(span));
                }
                _ => {
                    let (attribute, span) = self.attribute()?;
                    return Ok(FieldExpr::Attribute(attribute, span));
                }
            }
        }
    }

    /// Gives their operands to what waits and goes before an operator of such a power.
    fn combine_above(&mut self, stacks: &mut Stacks, power: u8) -> Result<(), ParseError> {
        while let Some(waiting) = stacks.waiting.last().copied()
            && waiting.goes_first(power)
        {
            stacks.waiting.pop();
            let Some(last) = stacks.operands.pop() else {
                return Err(self.unexpected(""));
            };
            let combined = match waiting {
                Waiting::Bracket => last,
                Waiting::Not(span) => not(span, last),
                Waiting::Negate(span) => negative(span, last),
                Waiting::Binary(op) => {
                    let Some(lhs) = stacks.operands.pop() else {
                        return Err(self.unexpected(""));
                    };
                    binary(op, lhs, last)
                }
            };
            self.deepened(&combined)?;
            stacks.operands.push(combined);
        }
        Ok(())
    }

    /// Counts an operator that makes the tree deeper than its operands.
    fn deepened(&mut self, expr: &FieldExpr) -> Result<(), ParseError> {
        match expr {
            FieldExpr::Static(..) | FieldExpr::Attribute(..) => Ok(()),
            FieldExpr::Binary { lhs, rhs, .. } if lhs.is_bare() && rhs.is_bare() => Ok(()),
            _ => self.operator(),
        }
    }
}

fn not(span: Span, inner: FieldExpr) -> FieldExpr {
    let span = span.to(inner.span());
    match inner {
        FieldExpr::Static(Static::Bool(truth), _) => FieldExpr::Static(Static::Bool(!truth), span),
        inner => FieldExpr::Not(inner.into(), span),
    }
}

fn negative(span: Span, inner: FieldExpr) -> FieldExpr {
    let span = span.to(inner.span());
    if let FieldExpr::Static(value, _) = &inner
        && let Some(value) = fold::negative(value)
    {
        return FieldExpr::Static(value, span);
    }
    FieldExpr::Negate(inner.into(), span)
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
