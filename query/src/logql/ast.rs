//! The syntax tree of LogQL, made by the parser and read by the printer and the engine.
//!
//! Every node carries the span of bytes it was read from. The tree holds the whole language; what
//! the engine cannot evaluate yet is refused when a query is compiled, by name.

use trine_storage::{MatchOp, Matcher};

use crate::text::Span;
use crate::vector::{BinaryOp, Comparison, Grouping, Matching};

/// A whole query.
#[derive(Debug, Clone)]
pub enum Expr {
    /// A query that yields lines.
    Log(LogExpr),
    /// A query that yields numbers.
    Metric(MetricExpr),
}

impl Expr {
    /// Where in the text the expression stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Log(log) => log.span,
            Self::Metric(metric) => metric.span,
        }
    }
}

/// A selector and the stages that its lines go through.
#[derive(Debug, Clone)]
pub struct LogExpr {
    /// Which streams.
    pub selector: Selector,
    /// What happens to their lines, in order.
    pub stages: Vec<Stage>,
    /// Where in the text.
    pub span: Span,
}

/// `{name op "value", …}`.
#[derive(Debug, Clone)]
pub struct Selector {
    /// All of them must hold.
    pub matchers: Vec<Matcher>,
    /// Where in the text.
    pub span: Span,
}

/// One stage of a pipeline.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What it does.
    pub kind: StageKind,
    /// Where in the text.
    pub span: Span,
}

/// What a stage does.
#[derive(Debug, Clone)]
pub enum StageKind {
    /// `|= "text"` and its relatives.
    LineFilter(LineFilter),
    /// `| json [label="path", …]`: all fields when there are no extractions.
    Json(Vec<Extraction>),
    /// `| logfmt [--strict] [--keep-empty] [label="key", …]`.
    Logfmt(Logfmt),
    /// `| regexp "…"`.
    Regexp(String),
    /// `| pattern "…"`.
    Pattern(String),
    /// `| unpack`.
    Unpack,
    /// `| name op value`, with `and`, `or` and parentheses.
    LabelFilter(LabelFilter),
    /// `| line_format "…"`.
    LineFormat(String),
    /// `| decolorize`.
    Decolorize,
    /// `| label_format a=b, c="…"`.
    LabelFormat(Vec<LabelFormat>),
    /// `| drop a, b="c"`.
    Drop(Vec<LabelChoice>),
    /// `| keep a, b="c"`.
    Keep(Vec<LabelChoice>),
}

/// How a line filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Matches,
    /// `!~`
    NotMatches,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineOp {
    /// The operator as it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Matches => "|~",
            Self::NotMatches => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }

    /// Whether lines that match are the ones that go.
    pub fn is_negative(self) -> bool {
        matches!(
            self,
            Self::NotContains | Self::NotMatches | Self::NotPattern
        )
    }
}

/// A line filter: any of the operands must match. A negated filter has one operand, since
/// `!= "a" or "b"` is read as `!= "a" != "b"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFilter {
    /// How to compare.
    pub op: LineOp,
    /// What to compare with; never empty.
    pub operands: Vec<LineOperand>,
}

/// The right-hand side of a line filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineOperand {
    /// `"text"`
    Text(String),
    /// `ip("range")`
    Ip(String),
}

/// `label="expression"` after `json` and `logfmt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The label that is set.
    pub label: String,
    /// What it is set from; equal to the label when only a name was written.
    pub expression: String,
    /// Where in the text.
    pub span: Span,
}

/// The parts of a `logfmt` stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logfmt {
    /// `--strict`: stop at the first bad pair.
    pub strict: bool,
    /// `--keep-empty`: keep keys without a value.
    pub keep_empty: bool,
    /// The keys to read; all when empty.
    pub extractions: Vec<Extraction>,
}

/// How a number, duration or size is compared with a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `==` (or `=`)
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl CompareOp {
    /// The operator as it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

/// A condition on labels.
#[derive(Debug, Clone)]
pub enum LabelFilter {
    /// `name op "value"`; a label that is absent counts as empty.
    Text(Matcher),
    /// `name op 1.5`
    Number(LabelCompare<f64>),
    /// `name op 1m30s`, in nanoseconds.
    Duration(LabelCompare<i64>),
    /// `name op 10KB`
    Bytes(LabelCompare<Size>),
    /// `name = ip("range")`
    Ip {
        /// The label.
        name: String,
        /// Whether the operator was `!=`.
        op: MatchOp,
        /// Address, CIDR block or `a-b`.
        range: String,
    },
    /// All must hold: `and`, `,` or nothing between them.
    All(Vec<LabelFilter>),
    /// One must hold: `or` between them.
    Any(Vec<LabelFilter>),
}

/// `name op value`.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelCompare<T> {
    /// The label.
    pub name: String,
    /// How to compare.
    pub op: CompareOp,
    /// With what.
    pub value: T,
}

/// A size literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// In bytes.
    pub bytes: u64,
    /// As it was written, to print it back.
    pub text: String,
}

/// One assignment of `label_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelFormat {
    /// `to=from`
    Rename {
        /// The new name.
        to: String,
        /// The old name.
        from: String,
    },
    /// `label="template"`
    Template {
        /// The label that is set.
        label: String,
        /// The template.
        template: String,
    },
}

impl LabelFormat {
    /// The label that is set.
    pub fn target(&self) -> &str {
        match self {
            Self::Rename { to, .. } => to,
            Self::Template { label, .. } => label,
        }
    }
}

/// One entry of `drop` and `keep`.
#[derive(Debug, Clone)]
pub enum LabelChoice {
    /// The label, whatever its value.
    Name(String),
    /// The label if its value matches.
    Matcher(Matcher),
}

impl LabelChoice {
    /// The label's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Matcher(matcher) => matcher.name(),
        }
    }
}

/// An expression that yields numbers.
#[derive(Debug, Clone)]
pub struct MetricExpr {
    /// What it is.
    pub kind: MetricKind,
    /// Where in the text.
    pub span: Span,
}

/// What a metric expression is.
#[derive(Debug, Clone)]
pub enum MetricKind {
    /// A number.
    Literal(f64),
    /// `vector(number)`
    Vector(f64),
    /// `op(param, selector pipeline [range]) by (…)`
    Range(RangeAggregation),
    /// `op by (…) (param, expr)`
    Aggregate(VectorAggregation),
    /// `left op right`
    Binary(Box<Binary>),
    /// `label_replace(expr, "to", "replacement", "from", "regex")`
    LabelReplace(Box<LabelReplace>),
}

/// A range aggregation's operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeOp {
    /// `count_over_time`
    Count,
    /// `rate`
    Rate,
    /// `rate_counter`
    RateCounter,
    /// `bytes_over_time`
    Bytes,
    /// `bytes_rate`
    BytesRate,
    /// `avg_over_time`
    Avg,
    /// `sum_over_time`
    Sum,
    /// `min_over_time`
    Min,
    /// `max_over_time`
    Max,
    /// `stddev_over_time`
    Stddev,
    /// `stdvar_over_time`
    Stdvar,
    /// `quantile_over_time`
    Quantile,
    /// `first_over_time`
    First,
    /// `last_over_time`
    Last,
    /// `absent_over_time`
    Absent,
}

impl RangeOp {
    /// All operations.
    pub const ALL: [Self; 15] = [
        Self::Count,
        Self::Rate,
        Self::RateCounter,
        Self::Bytes,
        Self::BytesRate,
        Self::Avg,
        Self::Sum,
        Self::Min,
        Self::Max,
        Self::Stddev,
        Self::Stdvar,
        Self::Quantile,
        Self::First,
        Self::Last,
        Self::Absent,
    ];

    /// The function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count_over_time",
            Self::Rate => "rate",
            Self::RateCounter => "rate_counter",
            Self::Bytes => "bytes_over_time",
            Self::BytesRate => "bytes_rate",
            Self::Avg => "avg_over_time",
            Self::Sum => "sum_over_time",
            Self::Min => "min_over_time",
            Self::Max => "max_over_time",
            Self::Stddev => "stddev_over_time",
            Self::Stdvar => "stdvar_over_time",
            Self::Quantile => "quantile_over_time",
            Self::First => "first_over_time",
            Self::Last => "last_over_time",
            Self::Absent => "absent_over_time",
        }
    }

    /// Whether `by (…)` and `without (…)` may follow.
    pub fn allows_grouping(self) -> bool {
        matches!(
            self,
            Self::Avg
                | Self::Stddev
                | Self::Stdvar
                | Self::Quantile
                | Self::Max
                | Self::Min
                | Self::First
                | Self::Last
        )
    }

    /// Whether it can work on the values of `unwrap`.
    pub fn allows_unwrap(self) -> bool {
        !matches!(self, Self::Count | Self::Bytes | Self::BytesRate)
    }

    /// Whether it can work on lines without `unwrap`.
    pub fn allows_lines(self) -> bool {
        matches!(
            self,
            Self::Count | Self::Rate | Self::Bytes | Self::BytesRate | Self::Absent
        )
    }
}

/// `op(param, range) grouping`.
#[derive(Debug, Clone)]
pub struct RangeAggregation {
    /// The operation.
    pub op: RangeOp,
    /// The first argument of `quantile_over_time`.
    pub param: Option<f64>,
    /// What it reads.
    pub range: LogRange,
    /// `by (…)` or `without (…)`.
    pub grouping: Option<Grouping>,
}

/// A selector with its pipeline over a window.
#[derive(Debug, Clone)]
pub struct LogRange {
    /// The lines.
    pub log: LogExpr,
    /// The label whose value is the sample.
    pub unwrap: Option<Unwrap>,
    /// Length of the window in nanoseconds.
    pub interval: i64,
    /// How far the window is shifted into the past, in nanoseconds.
    pub offset: i64,
}

/// `| unwrap conversion(label) | filters`.
#[derive(Debug, Clone)]
pub struct Unwrap {
    /// The label.
    pub label: String,
    /// How its value is read.
    pub conversion: Conversion,
    /// Label filters after it.
    pub filters: Vec<LabelFilter>,
    /// Where in the text.
    pub span: Span,
}

/// How `unwrap` reads a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// As a number.
    Number,
    /// `bytes(label)`: as a size, in bytes.
    Bytes,
    /// `duration(label)`: as a duration, in seconds.
    Duration,
    /// `duration_seconds(label)`: the same.
    DurationSeconds,
}

impl Conversion {
    /// The function's name, or `None` for plain numbers.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Number => None,
            Self::Bytes => Some("bytes"),
            Self::Duration => Some("duration"),
            Self::DurationSeconds => Some("duration_seconds"),
        }
    }
}

/// A vector aggregation's operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorOp {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `count`
    Count,
    /// `max`
    Max,
    /// `min`
    Min,
    /// `stddev`
    Stddev,
    /// `stdvar`
    Stdvar,
    /// `topk`
    Topk,
    /// `bottomk`
    Bottomk,
    /// `approx_topk`
    ApproxTopk,
    /// `sort`
    Sort,
    /// `sort_desc`
    SortDesc,
}

impl VectorOp {
    /// All operations.
    pub const ALL: [Self; 12] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Max,
        Self::Min,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::ApproxTopk,
        Self::Sort,
        Self::SortDesc,
    ];

    /// The function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Max => "max",
            Self::Min => "min",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::ApproxTopk => "approx_topk",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
        }
    }

    /// Whether the first argument is a count of series.
    pub fn takes_param(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::ApproxTopk)
    }
}

/// `op grouping (param, expr)`.
#[derive(Debug, Clone)]
pub struct VectorAggregation {
    /// The operation.
    pub op: VectorOp,
    /// How many series `topk`, `bottomk` and `approx_topk` keep.
    pub param: Option<u32>,
    /// `by (…)` or `without (…)`; none means all in one.
    pub grouping: Option<Grouping>,
    /// What is aggregated.
    pub inner: Box<MetricExpr>,
}

/// `left op [bool] [on|ignoring (…) [group_left|group_right (…)]] right`.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// What a comparison yields.
    pub comparison: Comparison,
    /// Which series belong together.
    pub matching: Matching,
    /// Left operand.
    pub left: MetricExpr,
    /// Right operand.
    pub right: MetricExpr,
}

/// `label_replace(inner, "to", "replacement", "from", "regex")`.
#[derive(Debug, Clone)]
pub struct LabelReplace {
    /// The series.
    pub inner: MetricExpr,
    /// The label that is written.
    pub to: String,
    /// What is written.
    pub replacement: String,
    /// The label that is read.
    pub from: String,
    /// What it must match, anchored.
    pub regex: String,
}
