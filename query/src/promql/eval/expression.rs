//! Expressions by their kinds: vectors become streams, scalars one number a step.

use std::sync::Arc;

use super::Evaluation;
use super::steps::Steps;
use super::stream::{Collected, Vector};
use crate::promql::ast::{Binary, Expr, ExprKind, Sign, StringLiteral, ValueType};
use crate::promql::error::QueryError;
use crate::promql::functions::{Action, End, QueryTime};
use crate::text::Span;
use crate::text::{quote, quote_bytes};
use crate::vector::{
    Arithmetic, BinaryNotes, BinaryOp, MatchLabels, Matching, Operation, ScalarSide, StepSeries,
    binary, binary_scalar, is_absent,
};

const RULES: Arithmetic = Arithmetic::Prometheus;

impl<'q> Evaluation<'q> {
    /// An expression of the type instant vector.
    pub(super) fn vector(&'q self, expr: &'q Expr, steps: Steps) -> Result<Vector<'q>, QueryError> {
        match &expr.kind {
            ExprKind::Selector(selector) => self.selector(selector, expr.span, steps),
            ExprKind::Paren(inner)
            | ExprKind::Unary {
                sign: Sign::Plus,
                expr: inner,
            } => self.vector(inner, steps),
            ExprKind::Unary {
                sign: Sign::Minus,
                expr: inner,
            } => self.without_names(self.vector(inner, steps)?.map(negated)),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, steps),
            ExprKind::Binary(binary) => self.binary(binary, expr.span, steps),
            ExprKind::Call {
                function,
                arguments,
            } => self.call(function, arguments, steps),
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Range { .. }
            | ExprKind::Subquery(_) => Err(unchecked(ValueType::InstantVector)),
        }
    }

    /// An expression of the type scalar. The steps of a query are few, those of a subquery may be
    /// millions, so scalars count as held too: until the query ends.
    pub(super) fn scalar(&'q self, expr: &'q Expr, steps: Steps) -> Result<Vec<f64>, QueryError> {
        self.budget
            .hold_samples(u64::try_from(steps.count()).unwrap_or(u64::MAX))?;
        match &expr.kind {
            ExprKind::Number(number) => Ok(vec![number.value; steps.count()]),
            ExprKind::Paren(inner)
            | ExprKind::Unary {
                sign: Sign::Plus,
                expr: inner,
            } => self.scalar(inner, steps),
            ExprKind::Unary {
                sign: Sign::Minus,
                expr: inner,
            } => {
                let mut values = self.scalar(inner, steps)?;
                values.iter_mut().for_each(|value| *value = -*value);
                Ok(values)
            }
            ExprKind::Binary(binary) => {
                let mut values = self.scalar(&binary.lhs, steps)?;
                let right = self.scalar(&binary.rhs, steps)?;
                for (left, right) in values.iter_mut().zip(right) {
                    *left = binary.op.apply(*left, right, RULES);
                }
                Ok(values)
            }
            ExprKind::Call {
                function,
                arguments,
            } => match (function.action, arguments.first()) {
                (Action::Time, _) => Ok(steps.times().map(|ms| ms as f64 / 1000.0).collect()),
                (Action::Pi, _) => Ok(vec![std::f64::consts::PI; steps.count()]),
                (Action::Scalar, Some(vector)) => self.only_value(vector, steps),
                (Action::QueryTime(what), _) => Ok(vec![self.query_time(what); steps.count()]),
                (Action::Extreme(end), _) => self.extreme(end, arguments, steps),
                _ => Err(unchecked(ValueType::Scalar)),
            },
            _ => Err(unchecked(ValueType::Scalar)),
        }
    }

    /// What the query itself says, in seconds.
    fn query_time(&self, what: QueryTime) -> f64 {
        let (start, end) = (self.steps.start(), self.steps.end());
        let ms = match what {
            QueryTime::Start => start,
            QueryTime::End => end,
            QueryTime::Range => end.saturating_sub(start),
            QueryTime::Step => self.steps.step_ms(),
        };
        ms as f64 / 1000.0
    }

    /// `min_of(a, b)` and `max_of(a, b)`; NaN where one of them is.
    fn extreme(
        &'q self,
        end: End,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vec<f64>, QueryError> {
        let [first, second] = arguments else {
            return Err(unchecked(ValueType::Scalar));
        };
        let mut values = self.scalar(first, steps)?;
        for (value, other) in values.iter_mut().zip(self.scalar(second, steps)?) {
            *value = match end {
                _ if value.is_nan() || other.is_nan() => f64::NAN,
                End::Least => value.min(other),
                End::Greatest => value.max(other),
            };
        }
        Ok(values)
    }

    /// `scalar(vector)`: the value at each step that has exactly one, else NaN.
    fn only_value(&'q self, vector: &'q Expr, steps: Steps) -> Result<Vec<f64>, QueryError> {
        let mut values = vec![f64::NAN; steps.count()];
        let mut seen = vec![0u8; steps.count()];
        for series in self.vector(vector, steps)?.series {
            for ((new, value), seen) in series?.values.iter().zip(&mut values).zip(&mut seen) {
                if !is_absent(*new) {
                    *seen = seen.saturating_add(1);
                    *value = if *seen == 1 { *new } else { f64::NAN };
                }
            }
        }
        Ok(values)
    }

    fn binary(
        &'q self,
        expr: &'q Binary,
        span: Span,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let (lhs, rhs) = (&*expr.lhs, &*expr.rhs);
        let side = match (lhs.value_type(), rhs.value_type()) {
            (ValueType::Scalar, _) => ScalarSide::Left,
            (_, ValueType::Scalar) => ScalarSide::Right,
            _ => return self.between_vectors(expr, span, steps),
        };
        self.with_scalar(expr, side, span, steps)
    }

    fn with_scalar(
        &'q self,
        expr: &'q Binary,
        side: ScalarSide,
        span: Span,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let (op, operation) = (expr.op, operation(expr));
        let (vector, scalar) = match side {
            ScalarSide::Left => (&*expr.rhs, &*expr.lhs),
            ScalarSide::Right => (&*expr.lhs, &*expr.rhs),
        };
        let scalar = self.scalar(scalar, steps)?;
        let mut vector = self.vector(vector, steps)?;
        if operation.drops_name() {
            vector = self.without_names(vector)?;
        }
        let mut vector = vector.map(move |series| {
            let has_histograms = series.histograms.is_some() || op.is_trim();
            let mut notes = BinaryNotes::default();
            let series = binary_scalar(operation, series, &scalar, side, &mut notes);
            if has_histograms {
                self.note_binary(op, span, &notes);
            }
            series
        });
        // A comparison may leave nothing of a series, and an operator nothing of histograms.
        vector.series = Box::new(
            vector
                .series
                .filter(|series| series.as_ref().map_or(true, StepSeries::has_values)),
        );
        Ok(vector)
    }

    fn between_vectors(
        &'q self,
        expr: &'q Binary,
        span: Span,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let lhs = self.vector(&expr.lhs, steps)?.collect(self.budget)?;
        let rhs = self.vector(&expr.rhs, steps)?.collect(self.budget)?;
        let (default, op) = (Matching::default(), expr.op);
        let matching = expr.matching.as_ref().unwrap_or(&default);
        let keeps_name = !op.drops_name(expr.comparison);
        let one_name = match op {
            BinaryOp::Or => false,
            BinaryOp::And | BinaryOp::Unless => lhs.one_name(),
            _ if !keeps_name => !matching.include.iter().any(|name| name.starts_with("__")),
            _ => {
                let on_names = match &matching.labels {
                    MatchLabels::On(names) => names.iter().any(|name| name.starts_with("__")),
                    MatchLabels::Ignoring(_) => false,
                };
                lhs.one_name() && rhs.one_name() && !on_names && matching.fill.is_none()
            }
        };
        let ((left, left_held), (right, right_held)) = (lhs.into_parts(), rhs.into_parts());
        self.budget.check()?;
        let mut notes = BinaryNotes::default();
        let out = binary(operation(expr), matching, left, right, &mut notes)?;
        self.note_binary(op, span, &notes);
        Ok(Collected::new(out, one_name, left_held.join(right_held)).into_vector())
    }
}

fn operation(expr: &Binary) -> Operation {
    Operation {
        op: expr.op,
        comparison: expr.comparison,
        rules: RULES,
    }
}

fn negated(mut series: StepSeries) -> StepSeries {
    for value in &mut series.values {
        if !is_absent(*value) {
            *value = -*value;
        }
    }
    for histogram in series.histograms.iter_mut().flatten().flatten() {
        Arc::make_mut(histogram).scale(-1.0);
    }
    series
}

/// The text of a string expression.
pub(super) fn string(expr: &Expr) -> &str {
    match &expr.unwrapped().kind {
        ExprKind::String(literal) => &literal.text,
        _ => "",
    }
}

/// The name of a label that a string expression says; its text as it is written where it can be
/// none.
pub(super) fn label_name(expr: &Expr) -> Result<&str, String> {
    match &expr.unwrapped().kind {
        ExprKind::String(StringLiteral {
            bytes: Some(bytes), ..
        }) => Err(quote_bytes(bytes)),
        _ if string(expr).is_empty() => Err(quote("")),
        _ => Ok(string(expr)),
    }
}

/// The type check lets no such expression through.
pub(super) fn unchecked(wanted: ValueType) -> QueryError {
    QueryError::Invalid(format!("expected an expression of type {}", wanted.name()))
}
