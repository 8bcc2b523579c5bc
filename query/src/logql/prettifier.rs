//! Syntax tree to text over several lines, as `format_query` answers: what does not fit into a
//! line is split, each stage on a line of its own. Called through [`Expr::pretty`].

use super::ast::{
    Binary, Expr, LogExpr, LogRange, MetricExpr, MetricKind, RangeAggregation, VectorAggregation,
};
use super::parser::{binds_right, precedence};
use crate::text::{format_float, format_go_duration, format_prometheus_duration, quote};
use crate::vector::{Cardinality, Comparison, Grouping, MatchLabels, Matching};

/// The most characters of an expression that stays on one line.
const LINE_MAX: usize = 100;

const INDENT: &str = "  ";

const NANOS_PER_MILLI: i64 = 1_000_000;

impl Expr {
    /// The query over as many lines as make it readable, in the original's layout.
    ///
    /// ```
    /// let query = trine_query::logql::parse("sum(rate({app=\"api\"} |= \"a\" [5m])) by (pod)")?;
    /// assert_eq!(query.pretty(), "sum by (pod)(rate({app=\"api\"} |= \"a\"[5m]))");
    /// # Ok::<(), trine_query::logql::ParseError>(())
    /// ```
    pub fn pretty(&self) -> String {
        self.pretty_within(LINE_MAX)
    }

    /// The same with lines of at most `line_max` characters where they can be split.
    pub fn pretty_within(&self, line_max: usize) -> String {
        let layout = Layout { line_max };
        match self {
            Self::Log(log) => layout.log(log, 0),
            Self::Metric(metric) => layout.metric(metric, 0),
        }
    }
}

fn indent(level: usize) -> String {
    INDENT.repeat(level)
}

struct Layout {
    line_max: usize,
}

impl Layout {
    fn fits(&self, text: &str) -> bool {
        text.chars().count() <= self.line_max
    }

    fn log(&self, log: &LogExpr, level: usize) -> String {
        let whole = log.to_string();
        if self.fits(&whole) {
            return indent(level) + &whole;
        }
        let mut out = format!("{}{}", indent(level), log.selector);
        for stage in &log.stages {
            out += &format!("\n{}{stage}", indent(level + 1));
        }
        out
    }

    fn metric(&self, metric: &MetricExpr, level: usize) -> String {
        let whole = metric.to_string();
        if self.fits(&whole) {
            return indent(level) + &whole;
        }
        match &metric.kind {
            MetricKind::Literal(_) | MetricKind::Vector(_) => indent(level) + &whole,
            MetricKind::Range(range) => self.range_aggregation(range, level),
            MetricKind::Aggregate(aggregate) => self.vector_aggregation(aggregate, level),
            MetricKind::Binary(binary) => self.binary(binary, level),
            MetricKind::LabelReplace(replace) => {
                let inner = self.metric(&replace.inner, level + 1);
                let mut out = format!("{}label_replace(\n{inner}", indent(level));
                for text in [
                    &replace.to,
                    &replace.replacement,
                    &replace.from,
                    &replace.regex,
                ] {
                    out += &format!(",\n{}{}", indent(level + 1), quote(text));
                }
                out + "\n" + &indent(level) + ")"
            }
        }
    }

    fn range_aggregation(&self, aggregation: &RangeAggregation, level: usize) -> String {
        let mut out = format!("{}{}(\n", indent(level), aggregation.op.name());
        if let Some(param) = aggregation.param {
            out += &format!("{}{},\n", indent(level + 1), format_float(param));
        }
        out += &self.log_range(&aggregation.range, level + 1);
        out += &format!("\n{})", indent(level));
        out + &aggregation.grouping.as_ref().map_or_else(String::new, by)
    }

    fn log_range(&self, range: &LogRange, level: usize) -> String {
        let mut out = self.log(&range.log, level);
        if let Some(unwrap) = &range.unwrap {
            let line = format!("\n{}| ", indent(level + 1));
            out += &format!("{line}{}", unwrap.head());
            for filter in &unwrap.filters {
                out += &format!("{line}{filter}");
            }
        }
        let interval = format_prometheus_duration(range.interval / NANOS_PER_MILLI);
        out += &format!(" [{interval}]");
        if range.offset != 0 {
            out += &format!(" offset {}", format_go_duration(range.offset));
        }
        out
    }

    fn vector_aggregation(&self, aggregation: &VectorAggregation, level: usize) -> String {
        let grouping = aggregation.grouping.as_ref().map_or_else(String::new, by);
        let mut out = format!("{}{}{grouping}(\n", indent(level), aggregation.op.name());
        if let Some(param) = aggregation.param {
            out += &format!("{}{param},\n", indent(level + 1));
        }
        out += &self.metric(&aggregation.inner, level + 1);
        out + "\n" + &indent(level) + ")"
    }

    fn binary(&self, binary: &Binary, level: usize) -> String {
        let right_first = binds_right(binary.op);
        let left = self.operand(&binary.left, binary, right_first, level + 1);
        let right = self.operand(&binary.right, binary, !right_first, level + 1);
        let boolean = match binary.comparison {
            Comparison::Bool => " bool",
            Comparison::Filter => "",
        };
        let matching = on(&binary.matching);
        let operator = format!("{}{}{boolean}{matching}", indent(level), binary.op);
        format!("{left}\n{operator}\n{right}")
    }

    /// An operand of `parent`, in parentheses where it would belong to another operator without:
    /// where it binds less tightly, or as tightly and `far` from the side that goes first.
    fn operand(&self, operand: &MetricExpr, parent: &Binary, far: bool, level: usize) -> String {
        if let MetricKind::Binary(child) = &operand.kind
            && !self.fits(&operand.to_string())
        {
            let (inner, outer) = (precedence(child.op), precedence(parent.op));
            if inner < outer || (inner == outer && far) {
                let inner = self.binary(child, level + 1);
                return format!("{}(\n{inner}\n{})", indent(level), indent(level));
            }
        }
        self.metric(operand, level)
    }
}

fn by(grouping: &Grouping) -> String {
    match grouping {
        Grouping::By(labels) => format!(" by ({})", labels.join(", ")),
        Grouping::Without(labels) => format!(" without ({})", labels.join(", ")),
    }
}

fn on(matching: &Matching) -> String {
    if *matching == Matching::default() {
        return String::new();
    }
    let word = match &matching.labels {
        MatchLabels::On(_) => "on",
        MatchLabels::Ignoring(_) => "ignoring",
    };
    let labels = matching.labels.names().join(", ");
    let include = matching.include.join(", ");
    let group = match matching.cardinality {
        Cardinality::ManyToOne => format!(" group_left ({include})"),
        Cardinality::OneToMany => format!(" group_right ({include})"),
        Cardinality::OneToOne | Cardinality::ManyToMany => String::new(),
    };
    format!(" {word} ({labels}){group}")
}
