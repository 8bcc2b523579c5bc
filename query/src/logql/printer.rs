//! Prints a query in its canonical form, for logs, error texts and the call that formats queries.
//! What is printed reads back as the same tree.

use std::fmt::{Display, Formatter, Result, Write};

use trine_storage::{MatchOp, Matcher};

use super::ast::{
    Binary, Expr, Extraction, LabelChoice, LabelCompare, LabelFilter, LabelFormat, LineFilter,
    LineOperand, LogExpr, LogRange, Logfmt, MetricExpr, MetricKind, RangeAggregation, Selector,
    Stage, StageKind, Unwrap, VectorAggregation,
};
use crate::text::{format_float, format_go_duration, format_prometheus_duration, quote};
use crate::vector::{Cardinality, Comparison, Grouping, MatchLabels, Matching};

const NANOS_PER_MILLI: i64 = 1_000_000;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.selector.fmt(f)?;
        self.stages
            .iter()
            .try_for_each(|stage| write!(f, " {stage}"))
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_char('{')?;
        list(f, ", ", &self.matchers, |f, matcher| {
            write!(
                f,
                "{}{}{}",
                matcher.name(),
                symbol(matcher.op()),
                quote(matcher.value())
            )
        })?;
        f.write_char('}')
    }
}

/// Writes items with something between them.
fn list<T>(
    f: &mut Formatter<'_>,
    between: &str,
    items: &[T],
    mut write: impl FnMut(&mut Formatter<'_>, &T) -> Result,
) -> Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        write(f, item)?;
    }
    Ok(())
}

fn symbol(op: MatchOp) -> &'static str {
    match op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Match => "=~",
        MatchOp::NotMatch => "!~",
    }
}

/// A matcher of a label filter; its value in back quotes where that saves escapes.
fn label_matcher(f: &mut Formatter<'_>, matcher: &Matcher) -> Result {
    let value = matcher.value();
    let quoted = quote(value);
    let plain = quoted.len() == value.len() + 2;
    // Back quotes hold neither themselves nor carriage returns.
    let raw = !plain && !value.contains(['`', '\r']);
    let quoted = if raw { format!("`{value}`") } else { quoted };
    write!(f, "{}{}{quoted}", matcher.name(), symbol(matcher.op()))
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.kind.fmt(f)
    }
}

impl Display for StageKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::LineFilter(filter) => filter.fmt(f),
            Self::Json(paths) => {
                f.write_str("| json")?;
                extractions(f, paths)
            }
            Self::Logfmt(logfmt) => logfmt.fmt(f),
            Self::Regexp(regex) => write!(f, "| regexp {}", quote(regex)),
            Self::Pattern(pattern) => write!(f, "| pattern {}", quote(pattern)),
            Self::Unpack => f.write_str("| unpack"),
            Self::LabelFilter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", quote(template)),
            Self::Decolorize => f.write_str("| decolorize"),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                list(f, ",", formats, |f, format| match format {
                    LabelFormat::Rename { to, from } => write!(f, "{to}={from}"),
                    LabelFormat::Template { label, template } => {
                        write!(f, "{label}={}", quote(template))
                    }
                })
            }
            Self::Drop(choices) => {
                f.write_str("| drop ")?;
                list(f, ",", choices, choice)
            }
            Self::Keep(choices) => {
                f.write_str("| keep ")?;
                list(f, ",", choices, choice)
            }
        }
    }
}

fn choice(f: &mut Formatter<'_>, choice: &LabelChoice) -> Result {
    match choice {
        LabelChoice::Name(name) => f.write_str(name),
        LabelChoice::Matcher(matcher) => label_matcher(f, matcher),
    }
}

fn extractions(f: &mut Formatter<'_>, items: &[Extraction]) -> Result {
    if !items.is_empty() {
        f.write_char(' ')?;
    }
    list(f, ",", items, |f, item| {
        write!(f, "{}={}", item.label, quote(&item.expression))
    })
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} ", self.op.symbol())?;
        list(f, " or ", &self.operands, |f, operand| match operand {
            LineOperand::Text(text) => f.write_str(&quote(text)),
            LineOperand::Ip(range) => write!(f, "ip({})", quote(range)),
        })
    }
}

impl Display for Logfmt {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("| logfmt")?;
        if self.strict {
            f.write_str(" --strict")?;
        }
        if self.keep_empty {
            f.write_str(" --keep-empty")?;
        }
        extractions(f, &self.extractions)
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        fn compare<T>(f: &mut Formatter<'_>, filter: &LabelCompare<T>, value: &str) -> Result {
            write!(f, "{}{}{value}", filter.name, filter.op.symbol())
        }
        match self {
            Self::Text(matcher) => label_matcher(f, matcher),
            Self::Number(filter) => compare(f, filter, &format_float(filter.value)),
            Self::Duration(filter) => compare(f, filter, &format_go_duration(filter.value)),
            Self::Bytes(filter) => compare(f, filter, &filter.value.text),
            Self::Ip { name, op, range } => {
                write!(f, "{name}{}ip({})", symbol(*op), quote(range))
            }
            Self::All(filters) => group(f, " and ", filters),
            Self::Any(filters) => group(f, " or ", filters),
        }
    }
}

fn group(f: &mut Formatter<'_>, between: &str, filters: &[LabelFilter]) -> Result {
    f.write_str("( ")?;
    list(f, between, filters, |f, filter| filter.fmt(f))?;
    f.write_str(" )")
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.kind {
            // What division and powers make of literals has no literal of its own.
            MetricKind::Literal(value) if value.is_nan() => f.write_str("(0 / 0)"),
            MetricKind::Literal(value) if value.is_infinite() => f.write_str(if *value > 0.0 {
                "(2 ^ 1024)"
            } else {
                "(-2 ^ 1025)"
            }),
            MetricKind::Literal(value) => f.write_str(&format_float(*value)),
            MetricKind::Vector(value) => write!(f, "vector({})", format_float(*value)),
            MetricKind::Range(range) => range.fmt(f),
            MetricKind::Aggregate(aggregate) => aggregate.fmt(f),
            MetricKind::Binary(binary) => binary.fmt(f),
            MetricKind::LabelReplace(replace) => write!(
                f,
                "label_replace({},{},{},{},{})",
                replace.inner,
                quote(&replace.to),
                quote(&replace.replacement),
                quote(&replace.from),
                quote(&replace.regex)
            ),
        }
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}(", self.op.name())?;
        if let Some(param) = self.param {
            write!(f, "{},", format_float(param))?;
        }
        write!(f, "{})", self.range)?;
        match &self.grouping {
            Some(grouping) => write_grouping(f, grouping),
            None => Ok(()),
        }
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(
            f,
            "[{}]",
            format_prometheus_duration(self.interval / NANOS_PER_MILLI)
        )?;
        if self.offset != 0 {
            write!(f, " offset {}", format_go_duration(self.offset))?;
        }
        Ok(())
    }
}

impl Unwrap {
    /// The stage without its bar and the filters after it.
    pub(super) fn head(&self) -> String {
        match self.conversion.name() {
            Some(function) => format!("unwrap {function}({})", self.label),
            None => format!("unwrap {}", self.label),
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "| {}", self.head())?;
        self.filters
            .iter()
            .try_for_each(|filter| write!(f, " | {filter}"))
    }
}

fn write_grouping(f: &mut Formatter<'_>, grouping: &Grouping) -> Result {
    let (word, labels) = match grouping {
        Grouping::By(labels) => ("by", labels),
        Grouping::Without(labels) => ("without", labels),
    };
    write!(f, " {word} ({})", labels.join(","))
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.op.name())?;
        if let Some(grouping) = &self.grouping {
            write_grouping(f, grouping)?;
        }
        match self.param {
            Some(param) => write!(f, "({param},{})", self.inner),
            None => write!(f, "({})", self.inner),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "({} {}", self.left, self.op)?;
        if self.comparison == Comparison::Bool {
            f.write_str(" bool")?;
        }
        write_matching(f, &self.matching)?;
        write!(f, " {})", self.right)
    }
}

fn write_matching(f: &mut Formatter<'_>, matching: &Matching) -> Result {
    if *matching == Matching::default() {
        return Ok(());
    }
    let word = match &matching.labels {
        MatchLabels::On(_) => "on",
        MatchLabels::Ignoring(_) => "ignoring",
    };
    write!(f, " {word} ({})", matching.labels.names().join(","))?;
    let include = matching.include.join(",");
    match matching.cardinality {
        Cardinality::ManyToOne => write!(f, " group_left ({include})"),
        Cardinality::OneToMany => write!(f, " group_right ({include})"),
        Cardinality::OneToOne | Cardinality::ManyToMany => Ok(()),
    }
}
