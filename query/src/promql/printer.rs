//! Syntax tree to text, in the form in which Prometheus prints expressions. What is printed parses
//! to the same tree.

use std::fmt::{self, Display, Formatter};

use trine_storage::{MatchOp, Matcher};

use super::ast::{
    Aggregate, At, Binary, Expr, ExprKind, Modifiers, Number, NumberForm, Query, Selector, Sign,
    Subquery,
};
use crate::text::{format_float, format_prometheus_duration, quote};
use crate::vector::{Cardinality, Comparison, Grouping, METRIC_NAME, MatchLabels};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(text) => f.write_str(&quote(text)),
            ExprKind::Selector(selector) => {
                selector.fmt(f)?;
                selector.modifiers.fmt(f)
            }
            ExprKind::Range { selector, range_ms } => {
                write!(f, "{selector}[{}]", format_prometheus_duration(*range_ms))?;
                selector.modifiers.fmt(f)
            }
            ExprKind::Subquery(subquery) => subquery.fmt(f),
            ExprKind::Aggregate(aggregate) => aggregate.fmt(f),
            ExprKind::Binary(binary) => binary.fmt(f),
            ExprKind::Unary {
                sign: Sign::Plus,
                expr,
            } => write!(f, "+{expr}"),
            ExprKind::Unary {
                sign: Sign::Minus,
                expr,
            } => write!(f, "-{expr}"),
            ExprKind::Call {
                function,
                arguments,
            } => {
                write!(f, "{}(", function.name)?;
                separated(f, arguments)?;
                f.write_str(")")
            }
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let milliseconds = self.value * 1000.0;
        if self.form == NumberForm::Duration && milliseconds.abs() < 9e15 {
            return f.write_str(&format_prometheus_duration(milliseconds.round() as i64));
        }
        f.write_str(&format_float(self.value))
    }
}

impl Display for Selector {
    /// The selector without its modifiers.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref();
        let mut matchers: Vec<String> = self
            .matchers
            .iter()
            .filter(|m| {
                let is_name = m.name() == METRIC_NAME && m.op() == MatchOp::Equal;
                !(is_name && Some(m.value()) == name)
            })
            .map(matcher)
            .collect();
        matchers.sort_unstable();
        f.write_str(name.unwrap_or(""))?;
        if name.is_none() || !matchers.is_empty() {
            write!(f, "{{{}}}", matchers.join(","))?;
        }
        Ok(())
    }
}

fn matcher(of: &Matcher) -> String {
    let op = match of.op() {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Match => "=~",
        MatchOp::NotMatch => "!~",
    };
    format!("{}{op}{}", label_name(of.name()), quote(of.value()))
}

/// A label's name, quoted unless it is a plain word.
fn label_name(name: &str) -> String {
    let plain = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && !name.is_empty() {
        name.to_owned()
    } else {
        quote(name)
    }
}

fn label_names(names: &[String]) -> String {
    names
        .iter()
        .map(|name| label_name(name))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Display for Modifiers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(At::Time(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                let ms = ms.unsigned_abs();
                write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)?;
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            None => {}
        }
        match self.offset_ms {
            Some(offset) if offset != 0 => {
                write!(f, " offset {}", format_prometheus_duration(offset))
            }
            _ => Ok(()),
        }
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let range = format_prometheus_duration(self.range_ms);
        let step = self
            .step_ms
            .map(format_prometheus_duration)
            .unwrap_or_default();
        write!(f, "{}[{range}:{step}]{}", self.expr, self.modifiers)
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.op.fmt(f)?;
        match &self.grouping {
            Grouping::By(names) if names.is_empty() => {}
            Grouping::By(names) => write!(f, " by ({}) ", label_names(names))?,
            Grouping::Without(names) => write!(f, " without ({}) ", label_names(names))?,
        }
        f.write_str("(")?;
        if let Some(parameter) = &self.parameter {
            write!(f, "{parameter}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lhs, self.op)?;
        if self.comparison == Comparison::Bool {
            f.write_str(" bool")?;
        }
        if let Some(matching) = &self.matching {
            let grouped = matches!(
                matching.cardinality,
                Cardinality::ManyToOne | Cardinality::OneToMany
            );
            match &matching.labels {
                MatchLabels::On(names) => write!(f, " on ({})", label_names(names))?,
                MatchLabels::Ignoring(names) if grouped || !names.is_empty() => {
                    write!(f, " ignoring ({})", label_names(names))?;
                }
                MatchLabels::Ignoring(_) => {}
            }
            let include = label_names(&matching.include);
            match matching.cardinality {
                Cardinality::ManyToOne => write!(f, " group_left ({include})")?,
                Cardinality::OneToMany => write!(f, " group_right ({include})")?,
                Cardinality::OneToOne | Cardinality::ManyToMany => {}
            }
        }
        write!(f, " {}", self.rhs)
    }
}

fn separated(f: &mut Formatter<'_>, exprs: &[Expr]) -> fmt::Result {
    for (at, expr) in exprs.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        expr.fmt(f)?;
    }
    Ok(())
}
