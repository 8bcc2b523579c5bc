//! Syntax tree to text, in the form in which Prometheus prints expressions. What is printed parses
//! to the same tree.

use std::fmt::{self, Display, Formatter};

use trine_storage::{MatchOp, Matcher};

use super::ast::{
    Aggregate, At, Binary, DurationExpr, DurationKind, Expr, ExprKind, Modifiers, Number,
    NumberForm, Query, Selector, Sign, Subquery,
};
use crate::text::{format_float, format_general, format_prometheus_duration, quote, quote_bytes};
use crate::vector::{Cardinality, Comparison, Fill, Grouping, METRIC_NAME, MatchLabels, Matching};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(literal) => match &literal.bytes {
                Some(bytes) => f.write_str(&quote_bytes(bytes)),
                None => f.write_str(&quote(&literal.text)),
            },
            ExprKind::Selector(selector) => {
                let modifiers = &selector.modifiers;
                selector.fmt(f)?;
                modifiers.at(f)?;
                modifiers.extended(f)?;
                modifiers.offset(f)
            }
            ExprKind::Range {
                selector,
                range_ms,
                range_expr,
            } => {
                let range = duration(*range_ms, range_expr.as_deref());
                write!(f, "{selector}[{range}]")?;
                time_suffix(&selector.modifiers, f)
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

/// What is printed behind the brackets of a range.
pub(super) fn time_suffix(modifiers: &Modifiers, f: &mut Formatter<'_>) -> fmt::Result {
    modifiers.extended(f)?;
    modifiers.at(f)?;
    modifiers.offset(f)
}

impl Modifiers {
    fn extended(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.extended {
            Some(extended) => write!(f, " {}", extended.name()),
            None => Ok(()),
        }
    }

    fn at(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(At::Time(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                let ms = ms.unsigned_abs();
                write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
            }
            Some(At::Start) => f.write_str(" @ start()"),
            Some(At::End) => f.write_str(" @ end()"),
            None => Ok(()),
        }
    }

    fn offset(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.offset_expr, self.offset_ms) {
            (Some(offset), _) => write!(f, " offset {offset}"),
            (None, Some(offset)) if offset != 0 => {
                write!(f, " offset {}", format_prometheus_duration(offset))
            }
            _ => Ok(()),
        }
    }
}

/// A duration as it was written: a constant, or an expression.
fn duration(ms: i64, expr: Option<&DurationExpr>) -> String {
    expr.map_or_else(|| format_prometheus_duration(ms), ToString::to_string)
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_str("(")?;
        }
        match &self.kind {
            DurationKind::Number(number) => number.fmt(f)?,
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::Negative(inner) => write!(f, "-{inner}")?,
            DurationKind::Binary { op, lhs, rhs } => write!(f, "{lhs} {op} {rhs}")?,
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})")?,
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})")?,
        }
        if self.wrapped {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)?;
        self.suffix(f)
    }
}

impl Subquery {
    /// The brackets and what follows them.
    pub(super) fn suffix(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let range = duration(self.range_ms, self.range_expr.as_deref());
        let step = self
            .step_ms
            .map(|step| duration(step, self.step_expr.as_deref()))
            .unwrap_or_default();
        write!(f, "[{range}:{step}]")?;
        time_suffix(&self.modifiers, f)
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        f.write_str("(")?;
        if let Some(parameter) = &self.parameter {
            write!(f, "{parameter}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

impl Aggregate {
    /// The operator and its groups.
    pub(super) fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.op.fmt(f)?;
        match &self.grouping {
            Grouping::By(names) if names.is_empty() => Ok(()),
            Grouping::By(names) => write!(f, " by ({}) ", label_names(names)),
            Grouping::Without(names) => write!(f, " without ({}) ", label_names(names)),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.lhs)?;
        self.head(f)?;
        write!(f, " {}", self.rhs)
    }
}

impl Binary {
    /// The operator and what belongs to it.
    pub(super) fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.op.fmt(f)?;
        if self.comparison == Comparison::Bool {
            f.write_str(" bool")?;
        }
        match &self.matching {
            Some(matching) => print_matching(matching, f),
            None => Ok(()),
        }
    }
}

fn print_matching(matching: &Matching, f: &mut Formatter<'_>) -> fmt::Result {
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
    let both = Fill {
        right: matching.fill.left,
        ..matching.fill
    };
    match (matching.fill.left, matching.fill.right) {
        (Some(value), Some(_)) if both == matching.fill => {
            write!(f, " fill ({})", format_general(value))
        }
        (left, right) => {
            if let Some(value) = left {
                write!(f, " fill_left ({})", format_general(value))?;
            }
            if let Some(value) = right {
                write!(f, " fill_right ({})", format_general(value))?;
            }
            Ok(())
        }
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
