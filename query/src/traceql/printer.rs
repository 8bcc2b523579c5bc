//! Tree to text: what is printed parses to the same tree.

use std::fmt;

use super::ast::{
    Aggregate, Attribute, FieldExpr, Form, KINDS, Metrics, MetricsArgument, MetricsExpr,
    MetricsTerm, NEGATE_POWER, NOT_POWER, Op, Pipeline, Query, Relation, Root, STATUSES,
    ScalarExpr, SecondStage, SpansetExpr, SpansetOp, Stage, Static,
};
use super::source::Scope;
use crate::text::{format_float, format_go_duration, quote};

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Search(pipeline) => pipeline.fmt(f)?,
            Root::Metrics(metrics) => metrics.fmt(f)?,
        }
        if !self.hints.is_empty() {
            let hints: Vec<String> = self.hints.iter().map(|(k, v)| format!("{k}={v}")).collect();
            write!(f, " with({})", hints.join(","))?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.stages.iter().enumerate() {
            write!(f, "{}{stage}", if i == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spans(expr) => expr.fmt(f),
            Self::Filter { op, lhs, rhs, .. } => write!(f, "{lhs} {op} {rhs}"),
            Self::By(expr) => write!(f, "by({expr})"),
            Self::Coalesce => f.write_str("coalesce()"),
            Self::Select(attributes) => {
                let names: Vec<String> = attributes.iter().map(|(a, _)| a.to_string()).collect();
                write!(f, "select({})", names.join(", "))
            }
        }
    }
}

impl fmt::Display for MetricsExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            MetricsTerm::Function(pipeline, metrics) => write!(f, "{pipeline} | {metrics}")?,
            MetricsTerm::Scalar(number, _) => f.write_str(&format_float(*number))?,
            MetricsTerm::Binary { op, lhs, rhs, .. } => write!(f, "({lhs}) {op} ({rhs})")?,
        }
        self.then
            .iter()
            .try_for_each(|second| write!(f, " {second}"))
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
        write!(f, "{}({})", self.function.name(), arguments.join(", "))?;
        if !self.by.is_empty() {
            let by: Vec<String> = self.by.iter().map(|(a, _)| a.to_string()).collect();
            write!(f, " by({})", by.join(", "))?;
        }
        Ok(())
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
            Self::Compare(op, value, _) => write!(f, "{op} {}", format_float(*value)),
        }
    }
}

impl fmt::Display for SpansetExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(None, _) => f.write_str("{ true }"),
            Self::Filter(Some(expr), _) => write!(f, "{{ {expr} }}"),
            Self::Binary { op, lhs, rhs, .. } => {
                let operand = |f: &mut fmt::Formatter<'_>, expr: &Self, least| match expr {
                    Self::Binary { op, .. } if op.power() < least => write!(f, "({expr})"),
                    _ => expr.fmt(f),
                };
                operand(f, lhs, op.power())?;
                write!(f, " {op} ")?;
                operand(f, rhs, op.power() + 1)
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
        /// Brackets around what binds less than `least`, so that printing never nests deeper than
        /// what was parsed.
        fn operand(f: &mut fmt::Formatter<'_>, expr: &FieldExpr, least: u8) -> fmt::Result {
            let power = match expr {
                FieldExpr::Static(..) | FieldExpr::Attribute(..) => u8::MAX,
                FieldExpr::Binary { op, .. } => op.power(),
                FieldExpr::Not(..) => NOT_POWER,
                FieldExpr::Negate(..) => NEGATE_POWER,
            };
            if power < least {
                write!(f, "({expr})")
            } else {
                expr.fmt(f)
            }
        }
        match self {
            Self::Static(value, _) => value.fmt(f),
            Self::Attribute(attribute, _) => attribute.fmt(f),
            Self::Binary { op, lhs, rhs, .. } => {
                let (left, right) = op.sides();
                operand(f, lhs, left)?;
                write!(f, " {op} ")?;
                operand(f, rhs, right)
            }
            Self::Not(expr, _) => {
                f.write_str("!")?;
                operand(f, expr, NOT_POWER)
            }
            Self::Negate(expr, _) => {
                f.write_str("-")?;
                operand(f, expr, NEGATE_POWER)
            }
        }
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

impl fmt::Display for Static {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Float(number) if number.fract() == 0.0 && number.is_finite() => {
                write!(f, "{number:.1}")
            }
            Self::Float(number) => f.write_str(&format_float(*number)),
            Self::Str(text) => f.write_str(&quote(text)),
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
            Self::Of(pipeline, aggregate, _) => write!(f, "({pipeline}|{aggregate})"),
            Self::Static(value, _) => value.fmt(f),
            Self::Aggregate {
                function, field, ..
            } => {
                let name = match function {
                    Aggregate::Count => "count",
                    Aggregate::Min => "min",
                    Aggregate::Max => "max",
                    Aggregate::Avg => "avg",
                    Aggregate::Sum => "sum",
                };
                match field {
                    Some(field) => write!(f, "{name}({field})"),
                    None => write!(f, "{name}()"),
                }
            }
            Self::Binary { op, lhs, rhs } => {
                let operand = |f: &mut fmt::Formatter<'_>, expr: &Self, least| match expr {
                    Self::Binary { op, .. } if op.power() < least => write!(f, "({expr})"),
                    _ => expr.fmt(f),
                };
                let (left, right) = op.sides();
                operand(f, lhs, left)?;
                write!(f, " {op} ")?;
                operand(f, rhs, right)
            }
        }
    }
}
