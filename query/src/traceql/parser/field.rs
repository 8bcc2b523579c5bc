//! Expressions over the fields of a span: what stands in curly brackets. Called by `parts` and for
//! the arguments of aggregates and `by`.
//!
//! Operators wait on a stack of their own until it is clear what belongs to them, so that brackets
//! cost no stack of the thread, however deep they are. A long chain of `||` or of `&&`, which tools
//! make of lists of values, becomes a tree that is as flat as it can be: all that walks a tree calls
//! itself.

use super::{DEPTH_MAX, Parser, field_op, fold};
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

/// As many operands of one chain make a tree that leans to the left, as the grammar says.
const LEANING_MAX: usize = 64;

/// What operators combine.
enum Operand {
    /// An expression and how deep it is.
    One(FieldExpr, usize),
    /// Several, with the same logical operator between them.
    Chain(Op, Vec<(FieldExpr, usize)>),
}

impl Operand {
    /// One expression of it.
    fn close(self) -> Option<(FieldExpr, usize)> {
        match self {
            Self::One(expr, depth) => Some((expr, depth)),
            Self::Chain(op, parts) if parts.len() <= LEANING_MAX => {
                parts.into_iter().reduce(|lhs, rhs| combined(op, lhs, rhs))
            }
            Self::Chain(op, mut parts) => {
                while parts.len() > 1 {
                    let mut rest = parts.into_iter();
                    let pair = || {
                        let lhs = rest.next()?;
                        Some(match rest.next() {
                            Some(rhs) => combined(op, lhs, rhs),
                            None => lhs,
                        })
                    };
                    parts = std::iter::from_fn(pair).collect();
                }
                parts.pop()
            }
        }
    }
}

/// Two expressions combined, and how deep that is; the innermost level does not count.
fn combined(op: Op, lhs: (FieldExpr, usize), rhs: (FieldExpr, usize)) -> (FieldExpr, usize) {
    let depth = lhs.1.max(rhs.1);
    let is_inner = lhs.0.is_bare() && rhs.0.is_bare();
    match binary(op, lhs.0, rhs.0) {
        expr if expr.is_bare() => (expr, 0),
        expr => (expr, depth + usize::from(!is_inner)),
    }
}

fn deeper(expr: FieldExpr, depth: usize) -> (FieldExpr, usize) {
    let depth = if expr.is_bare() { 0 } else { depth + 1 };
    (expr, depth)
}

/// Operands and operators as they come.
#[derive(Default)]
struct Stacks {
    operands: Vec<Operand>,
    waiting: Vec<Waiting>,
    brackets: usize,
}

impl Parser<'_> {
    /// An expression over fields.
    pub(super) fn field(&mut self) -> Result<FieldExpr, ParseError> {
        let mut stacks = Stacks::default();
        loop {
            let operand = self.field_operand(&mut stacks)?;
            stacks.operands.push(Operand::One(operand, 0));
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
        let (expr, _) = self.operand(&mut stacks)?;
        Ok(expr)
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
            let (last, depth) = self.operand(stacks)?;
            let (expr, depth) = match waiting {
                Waiting::Bracket => (last, depth),
                Waiting::Not(span) => deeper(not(span, last), depth),
                Waiting::Negate(span) => deeper(negative(span, last), depth),
                Waiting::Binary(op @ (Op::And | Op::Or)) => {
                    let mut parts = match stacks.operands.pop() {
                        Some(Operand::Chain(of, parts)) if of == op => parts,
                        other => vec![self.closed(other)?],
                    };
                    parts.push((last, depth));
                    stacks.operands.push(Operand::Chain(op, parts));
                    continue;
                }
                Waiting::Binary(op) => {
                    let lhs = self.operand(stacks)?;
                    combined(op, lhs, (last, depth))
                }
            };
            stacks.operands.push(Operand::One(expr, depth));
        }
        Ok(())
    }

    /// The operand that came last, as one expression.
    fn operand(&self, stacks: &mut Stacks) -> Result<(FieldExpr, usize), ParseError> {
        self.closed(stacks.operands.pop())
    }

    fn closed(&self, operand: Option<Operand>) -> Result<(FieldExpr, usize), ParseError> {
        match operand.and_then(Operand::close) {
            Some((_, depth)) if depth > DEPTH_MAX => {
                let what = format!("the expression is more than {DEPTH_MAX} operators deep");
                Err(self.error_at(self.span(), &what))
            }
            Some(closed) => Ok(closed),
            None => Err(self.unexpected("")),
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
