//! Durations in ranges, subquery steps and offsets: constants, or expressions that are computed
//! when the query runs. Called by the modifiers beside it.

use super::{Parsed, Parser, Precedence};
use crate::promql::ast::{DurationExpr, DurationKind};
use crate::promql::error::Fault;
use crate::promql::lexer::TokenKind;
use crate::text::Span;
use crate::vector::BinaryOp;

/// Seconds past which a duration does not fit (64 bits of nanoseconds).
const SECONDS_MAX: f64 = (1u64 << 63) as f64 / 1e9;

const WANTED: &str = "number, duration, step(), or range()";

/// Where a duration stands: what an error says about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    context: &'static str,
    expected: &'static str,
}

impl Place {
    pub(super) const RANGE: Self = Self {
        context: "subquery or range selector",
        expected: WANTED,
    };
    pub(super) const SUBQUERY_STEP: Self = Self {
        context: "subquery selector",
        expected: "number, duration, step(), range(), or \"]\"",
    };
    pub(super) const OFFSET: Self = Self {
        context: "offset",
        expected: WANTED,
    };
}

/// A duration in milliseconds, or how to compute it (then the milliseconds are 0).
pub(super) struct Duration {
    pub(super) ms: i64,
    pub(super) expr: Option<Box<DurationExpr>>,
}

impl Duration {
    fn of(parsed: DurationExpr) -> Self {
        match parsed.kind {
            DurationKind::Number(number) if !parsed.wrapped => Self {
                ms: whole_milliseconds(number.value),
                expr: None,
            },
            _ => Self {
                ms: 0,
                expr: Some(Box::new(parsed)),
            },
        }
    }
}

impl Parser<'_> {
    /// The length of a range or of a step, which is above zero.
    pub(super) fn positive_duration(&mut self, place: Place) -> Parsed<Duration> {
        let parsed = self.duration_sum(Precedence::Sum, place)?;
        if let DurationKind::Number(number) = parsed.kind
            && !parsed.wrapped
            && number.value <= 0.0
        {
            return Err(Fault::new(parsed.span, "duration must be greater than 0"));
        }
        Ok(Duration::of(parsed))
    }

    /// The duration of an offset: its operators need parentheses, since without them they are
    /// those of the expression around it.
    pub(super) fn offset_duration(&mut self) -> Parsed<(Duration, Span)> {
        let place = Place::OFFSET;
        let sign = self.token;
        let negative = self.sign()?;
        let signed = self.token.span != sign.span;
        let mut parsed = self.duration_operand(place)?;
        if signed {
            parsed = with_sign(parsed, negative, sign.span)?;
        }
        let span = parsed.span;
        Ok((Duration::of(parsed), span))
    }

    fn duration_sum(&mut self, at_least: Precedence, place: Place) -> Parsed<DurationExpr> {
        self.descend()?;
        let depth_before = self.depth;
        let sign = self.token;
        let negative = self.sign()?;
        let mut lhs = if self.token.span == sign.span {
            self.duration_operand(place)?
        } else {
            // A sign binds like `*`, so it takes powers with it.
            let operand = self.duration_sum(Precedence::Pow, place)?;
            with_sign(operand, negative, sign.span)?
        };
        while let TokenKind::Operator(op) = self.token.kind {
            let arithmetic = matches!(
                op,
                BinaryOp::Add
                    | BinaryOp::Sub
                    | BinaryOp::Mul
                    | BinaryOp::Div
                    | BinaryOp::Mod
                    | BinaryOp::Pow
            );
            let precedence = Precedence::of(op);
            if !arithmetic || precedence < at_least {
                break;
            }
            self.descend()?;
            lhs = self.duration_binary(op, precedence, lhs, place)?;
        }
        self.depth = depth_before - 1;
        Ok(lhs)
    }

    fn duration_binary(
        &mut self,
        op: BinaryOp,
        precedence: Precedence,
        lhs: DurationExpr,
        place: Place,
    ) -> Parsed<DurationExpr> {
        let op_span = self.advance()?.span;
        let rhs_at_least = match op {
            BinaryOp::Pow => precedence,
            _ => precedence.next(),
        };
        let rhs = self.duration_sum(rhs_at_least, place)?;
        if let DurationKind::Number(number) = rhs.kind
            && !rhs.wrapped
            && number.value == 0.0
        {
            match op {
                BinaryOp::Div => return Err(Fault::new(op_span, "division by zero")),
                BinaryOp::Mod => return Err(Fault::new(op_span, "modulo by zero")),
                _ => {}
            }
        }
        let span = lhs.span.to(rhs.span);
        self.computed(
            DurationKind::Binary {
                op,
                lhs: Box::new(lhs),
                rhs: Box::new(rhs),
            },
            span,
        )
    }

    fn duration_operand(&mut self, place: Place) -> Parsed<DurationExpr> {
        match self.token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let token = self.advance()?;
                let number = self.number_of(token)?;
                in_range(number.value, token.span)?;
                Ok(DurationExpr {
                    kind: DurationKind::Number(number),
                    wrapped: false,
                    span: token.span,
                })
            }
            TokenKind::LeftParen => {
                let open = self.advance()?.span;
                let mut inner = self.duration_sum(Precedence::Sum, place)?;
                let close = self.expect(TokenKind::RightParen, place.context, place.expected)?;
                inner.wrapped = true;
                inner.span = open.to(close.span);
                self.computed(inner.kind, inner.span).map(|mut expr| {
                    expr.wrapped = true;
                    expr
                })
            }
            TokenKind::Identifier => self.duration_call(place),
            _ => Err(self.unexpected(place.context, place.expected)),
        }
    }

    /// `step()`, `range()`, `min_of(a, b)` or `max_of(a, b)`, in any case.
    fn duration_call(&mut self, place: Place) -> Parsed<DurationExpr> {
        let name = self.slice(self.token.span).to_ascii_lowercase();
        if !matches!(name.as_str(), "step" | "range" | "min_of" | "max_of") {
            return Err(self.unexpected(place.context, place.expected));
        }
        let start = self.advance()?.span;
        let (context, expected) = (place.context, place.expected);
        self.expect(TokenKind::LeftParen, context, expected)?;
        let kind = match name.as_str() {
            "step" => DurationKind::Step,
            "range" => DurationKind::Range,
            both => {
                let first = Box::new(self.duration_sum(Precedence::Sum, place)?);
                self.expect(TokenKind::Comma, context, expected)?;
                let second = Box::new(self.duration_sum(Precedence::Sum, place)?);
                if both == "min_of" {
                    DurationKind::MinOf(first, second)
                } else {
                    DurationKind::MaxOf(first, second)
                }
            }
        };
        let close = self.expect(TokenKind::RightParen, context, expected)?;
        self.computed(kind, start.to(close.span))
    }

    /// A duration that is no constant, where such are allowed.
    fn computed(&self, kind: DurationKind, span: Span) -> Parsed<DurationExpr> {
        if !self.options.duration_expressions {
            let message = "experimental duration expression is not enabled";
            return Err(Fault::new(span, message));
        }
        Ok(DurationExpr {
            kind,
            wrapped: false,
            span,
        })
    }
}

fn with_sign(mut operand: DurationExpr, negative: bool, sign: Span) -> Parsed<DurationExpr> {
    let span = sign.to(operand.span);
    match &mut operand.kind {
        DurationKind::Number(number) if !operand.wrapped => {
            if negative {
                number.value = -number.value;
            }
            in_range(number.value, sign)?;
            operand.span = span;
            Ok(operand)
        }
        _ if negative => Ok(DurationExpr {
            kind: DurationKind::Negative(Box::new(operand)),
            wrapped: false,
            span,
        }),
        _ => Ok(operand),
    }
}

/// Seconds to nanoseconds, rounded, of which only whole milliseconds count.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates, and bounds were checked"
)]
fn whole_milliseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}

fn in_range(seconds: f64, span: Span) -> Parsed<()> {
    if seconds.is_finite() && seconds.abs() < SECONDS_MAX {
        Ok(())
    } else {
        Err(Fault::new(span, "duration out of range"))
    }
}
