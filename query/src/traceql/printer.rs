//! Tree to text, in the form that Tempo prints: every operand that has an operator stands in
//! brackets. What is printed parses to the same tree.

use std::fmt;

use super::ast::{
    Attribute, FieldExpr, Form, KINDS, Metrics, MetricsArgument, MetricsExpr, MetricsFunction,
    MetricsTerm, Op, Pipeline, Query, Relation, Root, STATUSES, ScalarExpr, SecondStage,
    SpansetExpr, SpansetOp, Stage, Static,
};
use super::source::Scope;
use crate::text::{format_float, format_go_duration, quote};

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Search(pipeline) => pipeline.fmt(f)?,
            Root::Metrics(metrics) => metrics.fmt(f)?,
        }
        if self.hints.is_empty() {
            return Ok(());
        }
        f.write_str(" with(")?;
        listed(f, ",", &self.hints, |f, (name, value)| {
            write!(f, "{name}={value}")
        })?;
        f.write_str(")")
    }
}

/// Prints items with something between them.
fn listed<T>(
    f: &mut fmt::Formatter<'_>,
    between: &str,
    items: &[T],
    each: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        each(f, item)?;
    }
    Ok(())
}

/// Prints an operand, in brackets where it has an operator of its own.
fn operand(f: &mut fmt::Formatter<'_>, expr: &dyn fmt::Display, is_bare: bool) -> fmt::Result {
    if is_bare {
        write!(f, "{expr}")
    } else {
        write!(f, "({expr})")
    }
}

impl fmt::Display for MetricsExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            MetricsTerm::Function(pipeline, metrics) => write!(f, "{pipeline} | {metrics}")?,
            MetricsTerm::Scalar(number, _) => f.write_str(&number_text(*number))?,
            MetricsTerm::Binary { op, lhs, rhs, .. } => {
                operand(f, lhs, lhs.is_scalar())?;
                write!(f, " {op} ")?;
                operand(f, rhs, rhs.is_scalar())?;
            }
        }
        let mut then = self.then.iter();
        then.try_for_each(|second| write!(f, " {second}"))
    }
}

impl MetricsExpr {
    fn is_scalar(&self) -> bool {
        matches!(self.term, MetricsTerm::Scalar(..))
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name())?;
        listed(f, ",", &self.arguments, |f, argument| match argument {
            MetricsArgument::Literal(Static::Float(quantile), _)
                if self.function == MetricsFunction::QuantileOverTime =>
            {
                f.write_str(&quantile_text(*quantile))
            }
            argument => argument.fmt(f),
        })?;
        f.write_str(")")?;
        if !self.by.is_empty() {
            f.write_str("by(")?;
            listed(f, ",", &self.by, |f, (attribute, _)| attribute.fmt(f))?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// A quantile with at least five digits behind the point, and with all that it has.
fn quantile_text(quantile: f64) -> String {
    let short = format!("{quantile:.5}");
    if short.parse() == Ok(quantile) {
        short
    } else {
        quantile.to_string()
    }
}

impl fmt::Display for MetricsArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(attribute, _) => attribute.fmt(f),
            Self::Literal(value, _) => value.fmt(f),
            Self::Filter(filter) => filter.fmt(f),
        }
    }
}

impl fmt::Display for SecondStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(count, _) => write!(f, "| topk({count})"),
            Self::Bottom(count, _) => write!(f, "| bottomk({count})"),
            Self::Compare(op, value, _) => write!(f, "{op} {}", number_text(*value)),
        }
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        listed(f, "|", &self.stages, |f, stage| stage.fmt(f))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spans(expr) => expr.fmt(f),
            Self::Filter { op, lhs, rhs, .. } => {
                operand(f, lhs, lhs.is_bare())?;
                write!(f, " {op} ")?;
                operand(f, rhs, rhs.is_bare())
            }
            Self::By(expr) => write!(f, "by({expr})"),
            Self::Coalesce => f.write_str("coalesce()"),
            Self::Select(attributes) => {
                f.write_str("select(")?;
                listed(f, ", ", attributes, |f, (attribute, _)| attribute.fmt(f))?;
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for SpansetExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(None, _) => f.write_str("{ true }"),
            Self::Filter(Some(expr), _) => write!(f, "{{ {expr} }}"),
            Self::Binary { op, lhs, rhs, .. } => {
                // Pipelines bring their brackets.
                operand(f, lhs, matches!(**lhs, Self::Pipeline(_)))?;
                write!(f, " {op} ")?;
                operand(f, rhs, matches!(**rhs, Self::Pipeline(_)))
            }
            Self::Pipeline(pipeline) => write!(f, "({pipeline})"),
        }
    }
}

impl fmt::Display for SpansetOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Structural(relation, form) = self else {
            return f.write_str(if *self == Self::And { "&&" } else { "||" });
        };
        f.write_str(match form {
            Form::Right => "",
            Form::Not => "!",
            Form::Union => "&",
        })?;
        f.write_str(match relation {
            Relation::Child => ">",
            Relation::Descendant => ">>",
            Relation::Parent => "<",
            Relation::Ancestor => "<<",
            Relation::Sibling => "~",
        })
    }
}

impl fmt::Display for FieldExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(value, _) => value.fmt(f),
            Self::Attribute(attribute, _) => attribute.fmt(f),
            Self::Binary { op, lhs, rhs, .. } => {
                operand(f, lhs, lhs.is_bare())?;
                write!(f, " {op} ")?;
                operand(f, rhs, rhs.is_bare())
            }
            Self::Not(expr, _) => {
                f.write_str("!")?;
                operand(f, expr, expr.is_bare())
            }
            Self::Negate(expr, _) => {
                f.write_str("-")?;
                operand(f, expr, expr.is_bare())
            }
        }
    }
}

impl FieldExpr {
    /// Whether it has no operator.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self, Self::Static(..) | Self::Attribute(..))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::And => "&&",
            Self::Or => "||",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Match => "=~",
            Self::NotMatch => "!~",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Power => "^",
        })
    }
}

/// The word that stands before the dot of an attribute.
pub(crate) fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Resource => "resource",
        Scope::Span => "span",
        Scope::Event => "event",
        Scope::Link => "link",
        Scope::Instrumentation => "instrumentation",
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Named { scope, parent, key } = self else {
            let Self::Intrinsic(intrinsic) = self else {
                return Ok(());
            };
            return f.write_str(intrinsic.name());
        };
        if *parent {
            f.write_str("parent")?;
            if scope.is_some() {
                f.write_str(".")?;
            }
        }
        if let Some(scope) = scope {
            f.write_str(scope_name(*scope))?;
        }
        let plain = |c: char| !c.is_whitespace() && !"{}()=~!<>&|^,\"\\".contains(c);
        let first_is_digit = key.starts_with(|c: char| c.is_ascii_digit()) && scope.is_none();
        if key.chars().all(plain) && !first_is_digit {
            write!(f, ".{key}")
        } else {
            // Only these two are escaped in names.
            let escaped = key.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, ".\"{escaped}\"")
        }
    }
}

/// Whole numbers from here on have an exponent: without, they would be integers that are too large.
const PLAIN_MAX: f64 = 1e18;

fn number_text(number: f64) -> String {
    match number.abs() < PLAIN_MAX {
        true => format_float(number),
        false => format!("{number:e}"),
    }
}

impl fmt::Display for Static {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Int(number) => number.fmt(f),
            // Whole floats keep their point, for they compute as floats.
            Self::Float(number) if number.fract() == 0.0 && number.abs() < PLAIN_MAX => {
                write!(f, "{number:.1}")
            }
            Self::Float(number) => f.write_str(&number_text(*number)),
            Self::Str(text) if text.contains(['`', '\r']) => f.write_str(&quote(text)),
            Self::Str(text) => write!(f, "`{text}`"),
            Self::Duration(nanoseconds) => f.write_str(&format_go_duration(*nanoseconds)),
            Self::Status(number) => {
                f.write_str(STATUSES.get(usize::from(*number)).unwrap_or(&"unset"))
            }
            Self::Kind(number) => {
                f.write_str(KINDS.get(usize::from(*number)).unwrap_or(&"unspecified"))
            }
        }
    }
}

impl fmt::Display for ScalarExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(value, _) => value.fmt(f),
            Self::Aggregate {
                function, field, ..
            } => {
                write!(f, "{}(", function.name())?;
                if let Some(field) = field {
                    field.fmt(f)?;
                }
                f.write_str(")")
            }
            Self::Binary { op, lhs, rhs } => {
                operand(f, lhs, lhs.is_bare())?;
                write!(f, " {op} ")?;
                operand(f, rhs, rhs.is_bare())
            }
            Self::Of(pipeline, aggregate, _) => write!(f, "({pipeline}|{aggregate})"),
        }
    }
}

impl ScalarExpr {
    /// Whether it needs no brackets, or brings its own.
    fn is_bare(&self) -> bool {
        matches!(self, Self::Static(..) | Self::Of(..))
    }
}
