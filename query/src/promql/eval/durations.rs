//! Computes the durations that a query says as expressions, once, before it is evaluated. Called
//! by the engine.

use std::borrow::Cow;

use super::steps::Steps;
use crate::promql::ast::{DurationExpr, DurationKind, Expr, ExprKind, Modifiers, Query};
use crate::promql::error::QueryError;
use crate::vector::{Arithmetic, BinaryOp};

/// The query with all its durations as constants.
///
/// # Errors
/// A duration that cannot be: not above zero where it must be, or no number.
pub(super) fn resolve(query: &Query, steps: Steps) -> Result<Cow<'_, Query>, QueryError> {
    if !needed(&query.expr) {
        return Ok(Cow::Borrowed(query));
    }
    let mut query = query.clone();
    let resolver = Resolver {
        text: &query.text,
        step_seconds: steps.step_ms() as f64 / 1000.0,
        range_seconds: steps.end().saturating_sub(steps.start()) as f64 / 1000.0,
    };
    resolver.expr(&mut query.expr)?;
    Ok(Cow::Owned(query))
}

fn needed(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => false,
        ExprKind::Selector(selector) => selector.modifiers.offset_expr.is_some(),
        ExprKind::Range {
            selector,
            range_expr,
            ..
        } => range_expr.is_some() || selector.modifiers.offset_expr.is_some(),
        ExprKind::Subquery(subquery) => {
            subquery.range_expr.is_some()
                || subquery.step_expr.is_some()
                || subquery.modifiers.offset_expr.is_some()
                || needed(&subquery.expr)
        }
        ExprKind::Aggregate(aggregate) => {
            needed(&aggregate.expr) || aggregate.parameter.as_deref().is_some_and(needed)
        }
        ExprKind::Binary(binary) => needed(&binary.lhs) || needed(&binary.rhs),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => needed(expr),
        ExprKind::Call { arguments, .. } => arguments.iter().any(needed),
    }
}

/// Which durations may be zero or less.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Positive,
    Any,
}

struct Resolver<'a> {
    text: &'a str,
    step_seconds: f64,
    range_seconds: f64,
}

impl Resolver<'_> {
    fn expr(&self, expr: &mut Expr) -> Result<(), QueryError> {
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => Ok(()),
            ExprKind::Selector(selector) => self.offset(&mut selector.modifiers),
            ExprKind::Range {
                selector,
                range_ms,
                range_expr,
            } => {
                self.offset(&mut selector.modifiers)?;
                self.length(range_expr.as_deref(), range_ms)
            }
            ExprKind::Subquery(subquery) => {
                self.offset(&mut subquery.modifiers)?;
                if let Some(step_ms) = &mut subquery.step_ms {
                    self.length(subquery.step_expr.as_deref(), step_ms)?;
                }
                self.length(subquery.range_expr.as_deref(), &mut subquery.range_ms)?;
                self.expr(&mut subquery.expr)
            }
            ExprKind::Aggregate(aggregate) => {
                if let Some(parameter) = aggregate.parameter.as_deref_mut() {
                    self.expr(parameter)?;
                }
                self.expr(&mut aggregate.expr)
            }
            ExprKind::Binary(binary) => {
                self.expr(&mut binary.lhs)?;
                self.expr(&mut binary.rhs)
            }
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => self.expr(expr),
            ExprKind::Call { arguments, .. } => {
                arguments.iter_mut().try_for_each(|one| self.expr(one))
            }
        }
    }

    fn offset(&self, modifiers: &mut Modifiers) -> Result<(), QueryError> {
        if let Some(expr) = &modifiers.offset_expr {
            modifiers.offset_ms = Some(self.milliseconds(expr, Sign::Any)?);
        }
        Ok(())
    }

    fn length(&self, expr: Option<&DurationExpr>, ms: &mut i64) -> Result<(), QueryError> {
        if let Some(expr) = expr {
            *ms = self.milliseconds(expr, Sign::Positive)?;
        }
        Ok(())
    }

    fn milliseconds(&self, expr: &DurationExpr, sign: Sign) -> Result<i64, QueryError> {
        let seconds = self.seconds(expr)?;
        if !seconds.is_finite() {
            return Err(self.fault(expr, "duration is NaN or infinite"));
        }
        if seconds <= 0.0 && sign == Sign::Positive {
            return Err(self.fault(expr, "duration must be greater than 0"));
        }
        let ms = seconds * 1000.0;
        // What fits into 64 bits of nanoseconds.
        if ms.abs() >= (1u64 << 63) as f64 / 1e6 {
            return Err(self.fault(expr, "duration is out of range"));
        }
        Ok(ms as i64)
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, QueryError> {
        Ok(match &expr.kind {
            DurationKind::Number(number) => number.value,
            DurationKind::Step => self.step_seconds,
            DurationKind::Range => self.range_seconds,
            DurationKind::Negative(inner) => -self.seconds(inner)?,
            DurationKind::MinOf(a, b) => self.seconds(a)?.min(self.seconds(b)?),
            DurationKind::MaxOf(a, b) => self.seconds(a)?.max(self.seconds(b)?),
            DurationKind::Binary { op, lhs, rhs } => {
                let (left, right) = (self.seconds(lhs)?, self.seconds(rhs)?);
                match op {
                    BinaryOp::Div if right == 0.0 => {
                        return Err(self.fault(expr, "division by zero"));
                    }
                    BinaryOp::Mod if right == 0.0 => {
                        return Err(self.fault(expr, "modulo by zero"));
                    }
                    _ => op.apply(left, right, Arithmetic::Prometheus),
                }
            }
        })
    }

    fn fault(&self, expr: &DurationExpr, what: &str) -> QueryError {
        QueryError::Execution(format!("{}: {what}", expr.span.position_in(self.text)))
    }
}
