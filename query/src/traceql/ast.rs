//! The tree of a TraceQL query; every node knows where it stands in the text.

use std::sync::Arc;

use super::source::Scope;
use crate::text::Span;

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What it asks for.
    pub root: Root,
    /// `with(name=value, ...)`, in the order of the text.
    pub hints: Vec<(String, Static)>,
}

/// What a query asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Root {
    /// Traces with sets of spans.
    Search(Pipeline),
    /// Series over time.
    Metrics(MetricsExpr),
}

/// Series over time: functions over spans, what is computed from them, and what is done last.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsExpr {
    /// Where the series come from.
    pub term: MetricsTerm,
    /// What is done with them, from left to right. Brackets around a term with stages that are
    /// followed by more stages leave no trace: the stages form one list.
    pub then: Vec<SecondStage>,
}

/// Where series over time come from.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsTerm {
    /// `{ ... } | rate()`: the spans, and what is done with them over time.
    Function(Box<Pipeline>, Metrics),
    /// A number; constants are computed when the query is read, so that no operator has two of
    /// them. Never a whole query.
    Scalar(f64, Span),
    /// Arithmetic between series of the same labels, or series and a number.
    Binary {
        /// `+ - * /`, no other.
        op: Op,
        /// Left side.
        lhs: Box<MetricsExpr>,
        /// Right side.
        rhs: Box<MetricsExpr>,
        /// Where the operator stands.
        span: Span,
    },
}

/// Stages, each fed by the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// At least one.
    pub stages: Vec<Stage>,
}

/// One stage of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Chooses spans.
    Spans(SpansetExpr),
    /// Chooses sets of spans by a comparison of aggregates. Where the sides hold
    /// [`ScalarExpr::Of`], this is the only stage of the query: both sides are numbers about a whole
    /// trace, and the trace passes with the spans that the pipelines of both sides give.
    Filter {
        /// The comparison.
        op: Op,
        /// Its left side.
        lhs: ScalarExpr,
        /// Its right side.
        rhs: ScalarExpr,
        /// Where it stands.
        span: Span,
    },
    /// `by(...)`: splits sets of spans.
    By(FieldExpr),
    /// `coalesce()`: joins the sets of a trace again.
    Coalesce,
    /// `select(...)`: what spans of the answer tell besides.
    Select(Vec<(Attribute, Span)>),
}

/// `rate() by(...)`: a function over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Which.
    pub function: MetricsFunction,
    /// What stands between its brackets.
    pub arguments: Vec<MetricsArgument>,
    /// What the series are told apart by.
    pub by: Vec<(Attribute, Span)>,
    /// Where the name of the function stands.
    pub span: Span,
}

/// A function over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the language")]
pub enum MetricsFunction {
    Rate,
    CountOverTime,
    MinOverTime,
    MaxOverTime,
    AvgOverTime,
    SumOverTime,
    QuantileOverTime,
    HistogramOverTime,
    Compare,
}

/// An argument of a function over time.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsArgument {
    /// What is measured.
    Attribute(Attribute, Span),
    /// A quantile, always as [`Static::Float`]; the number of values, the start and the end of
    /// `compare`, in this order, always as [`Static::Int`].
    Literal(Static, Span),
    /// The selection of `compare`.
    Filter(SpansetExpr),
}

/// What is done with the series of a function over time.
#[derive(Debug, Clone, PartialEq)]
pub enum SecondStage {
    /// `| topk(n)`
    Top(i64, Span),
    /// `| bottomk(n)`
    Bottom(i64, Span),
    /// `> 5`: drops the values that do not compare so. Durations are written here in seconds.
    Compare(Op, f64, Span),
}

/// An expression over sets of spans.
#[derive(Debug, Clone, PartialEq)]
pub enum SpansetExpr {
    /// `{ ... }`; without an expression all spans.
    Filter(Option<FieldExpr>, Span),
    /// Two sets combined.
    Binary {
        /// How.
        op: SpansetOp,
        /// Left side.
        lhs: Box<SpansetExpr>,
        /// Right side.
        rhs: Box<SpansetExpr>,
        /// Where the operator stands.
        span: Span,
    },
    /// `( ... | ... )`.
    Pipeline(Box<Pipeline>),
}

/// An operator between sets of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpansetOp {
    /// `&&`
    And,
    /// `||`
    Or,
    /// `>`, `>>`, `<`, `<<`, `~` and their forms.
    Structural(Relation, Form),
}

/// How the right span is related to the left one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `>`
    Child,
    /// `>>`
    Descendant,
    /// `<`
    Parent,
    /// `<<`
    Ancestor,
    /// `~`
    Sibling,
}

/// What a structural operator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The right spans that have the relation.
    Right,
    /// `!`: the right spans that do not have it to any left span.
    Not,
    /// `&`: both sides.
    Union,
}

/// An expression over the fields of one span.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldExpr {
    /// A literal.
    Static(Static, Span),
    /// An attribute or intrinsic.
    Attribute(Attribute, Span),
    /// Two expressions combined.
    Binary {
        /// How.
        op: Op,
        /// Left side.
        lhs: Box<FieldExpr>,
        /// Right side.
        rhs: Box<FieldExpr>,
        /// Where all of it stands.
        span: Span,
    },
    /// `!x`
    Not(Box<FieldExpr>, Span),
    /// `-x`
    Negate(Box<FieldExpr>, Span),
}

/// An operator between fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `&&`
    And,
    /// `||`
    Or,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `^`
    Power,
}

/// What names a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// An attribute; without a scope that of the span or, where it has none, of the resource.
    Named {
        /// Where it is looked for.
        scope: Option<Scope>,
        /// `parent.`: that of the parent; not evaluated yet.
        parent: bool,
        /// Its name.
        key: Arc<str>,
    },
    /// A part of span or trace.
    Intrinsic(Intrinsic),
}

/// Parts of spans and traces that queries can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the language")]
pub enum Intrinsic {
    Duration,
    Name,
    Status,
    StatusMessage,
    Kind,
    Parent,
    ChildCount,
    SpanId,
    ParentId,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    TraceId,
    TraceDuration,
    TraceRootName,
    TraceRootService,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
    InstrumentationVersion,
}

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Static {
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// Nanoseconds.
    Duration(i64),
    /// `unset`, `ok`, `error` as OTLP numbers them: 0, 1, 2.
    Status(u8),
    /// `unspecified`, `internal`, `server`, `client`, `producer`, `consumer`: 0 to 5.
    Kind(u8),
}

/// Names of statuses by their number.
pub const STATUSES: [&str; 3] = ["unset", "ok", "error"];
/// Names of kinds by their number.
pub const KINDS: [&str; 6] = [
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
];

/// A number about a set of spans.
#[derive(Debug, Clone, PartialEq)]
pub enum ScalarExpr {
    /// A literal.
    Static(Static, Span),
    /// A function of the set; `count()` has no field.
    Aggregate {
        /// Which.
        function: Aggregate,
        /// Of what.
        field: Option<FieldExpr>,
        /// Where it stands.
        span: Span,
    },
    /// Arithmetic.
    Binary {
        /// Which.
        op: Op,
        /// Left side.
        lhs: Box<ScalarExpr>,
        /// Right side.
        rhs: Box<ScalarExpr>,
    },
    /// `({ ... } | count())`: an aggregate (always [`ScalarExpr::Aggregate`]) of what a pipeline of
    /// its own chooses in the trace.
    Of(Box<Pipeline>, Box<ScalarExpr>, Span),
}

/// A function of a set of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the language")]
pub enum Aggregate {
    Count,
    Min,
    Max,
    Avg,
    Sum,
}

impl Query {
    /// The pipeline of a search; none for series over time.
    pub fn search(&self) -> Option<&Pipeline> {
        match &self.root {
            Root::Search(pipeline) => Some(pipeline),
            Root::Metrics(_) => None,
        }
    }

    /// What a hint says; of several with this name the first.
    pub fn hint(&self, name: &str) -> Option<&Static> {
        let found = self.hints.iter().find(|(held, _)| held == name);
        found.map(|(_, value)| value)
    }

    /// Whether no span can be chosen, because every filter of the query is a constant that is not
    /// true. The answer is known without a look at the store.
    pub fn chooses_nothing(&self) -> bool {
        let pipeline = |pipeline: &Pipeline| {
            let mut filters = Vec::new();
            pipeline.filters(&mut |filter| filters.push(filter));
            let is_false = |filter: &Option<&FieldExpr>| {
                matches!(filter, Some(FieldExpr::Static(Static::Bool(false), _)))
            };
            !filters.is_empty() && filters.iter().all(is_false)
        };
        match &self.root {
            Root::Search(found) => pipeline(found),
            Root::Metrics(metrics) => metrics.functions().iter().all(|(spans, _)| pipeline(spans)),
        }
    }

    /// Whether spans cannot be judged one by one: what happens to one depends on others of its
    /// trace.
    pub fn needs_whole_traces(&self) -> bool {
        match &self.root {
            Root::Search(pipeline) => pipeline.needs_whole_traces(),
            Root::Metrics(metrics) => {
                let functions = metrics.functions();
                functions
                    .iter()
                    .any(|(spans, _)| spans.needs_whole_traces())
            }
        }
    }
}

impl MetricsExpr {
    /// The functions over time, from left to right, each with its spans.
    pub fn functions(&self) -> Vec<(&Pipeline, &Metrics)> {
        match &self.term {
            MetricsTerm::Function(pipeline, metrics) => vec![(pipeline, metrics)],
            MetricsTerm::Scalar(..) => Vec::new(),
            MetricsTerm::Binary { lhs, rhs, .. } => {
                let mut found = lhs.functions();
                found.extend(rhs.functions());
                found
            }
        }
    }
}

impl Pipeline {
    /// Whether what happens to a span depends on others of its trace.
    pub fn needs_whole_traces(&self) -> bool {
        self.stages.iter().any(|stage| match stage {
            Stage::Spans(SpansetExpr::Filter(..)) | Stage::Select(_) => false,
            Stage::Spans(SpansetExpr::Pipeline(inner)) => inner.needs_whole_traces(),
            _ => true,
        })
    }

    /// Calls `each` with the expression of every `{ ... }`.
    fn filters<'a>(&'a self, each: &mut dyn FnMut(Option<&'a FieldExpr>)) {
        fn of_set<'a>(expr: &'a SpansetExpr, each: &mut dyn FnMut(Option<&'a FieldExpr>)) {
            match expr {
                SpansetExpr::Filter(expr, _) => each(expr.as_ref()),
                SpansetExpr::Pipeline(inner) => inner.filters(each),
                SpansetExpr::Binary { lhs, rhs, .. } => {
                    of_set(lhs, each);
                    of_set(rhs, each);
                }
            }
        }
        fn of_scalar<'a>(expr: &'a ScalarExpr, each: &mut dyn FnMut(Option<&'a FieldExpr>)) {
            match expr {
                ScalarExpr::Static(..) | ScalarExpr::Aggregate { .. } => {}
                ScalarExpr::Of(inner, ..) => inner.filters(each),
                ScalarExpr::Binary { lhs, rhs, .. } => {
                    of_scalar(lhs, each);
                    of_scalar(rhs, each);
                }
            }
        }
        for stage in &self.stages {
            match stage {
                Stage::Spans(expr) => of_set(expr, each),
                Stage::Filter { lhs, rhs, .. } => {
                    of_scalar(lhs, each);
                    of_scalar(rhs, each);
                }
                Stage::By(_) | Stage::Coalesce | Stage::Select(_) => {}
            }
        }
    }
}

impl ScalarExpr {
    /// Where the expression stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Static(_, span) | Self::Aggregate { span, .. } | Self::Of(_, _, span) => *span,
            Self::Binary { lhs, rhs, .. } => lhs.span().to(rhs.span()),
        }
    }

    /// Whether it holds [`Self::Of`].
    pub fn has_pipeline(&self) -> bool {
        match self {
            Self::Static(..) | Self::Aggregate { .. } => false,
            Self::Binary { lhs, rhs, .. } => lhs.has_pipeline() || rhs.has_pipeline(),
            Self::Of(..) => true,
        }
    }
}

impl FieldExpr {
    /// Where the expression stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Static(_, span)
            | Self::Attribute(_, span)
            | Self::Binary { span, .. }
            | Self::Not(_, span)
            | Self::Negate(_, span) => *span,
        }
    }

    /// Calls `each` with every attribute that the expression names.
    pub fn attributes(&self, each: &mut dyn FnMut(&Attribute)) {
        match self {
            Self::Static(..) => {}
            Self::Attribute(attribute, _) => each(attribute),
            Self::Binary { lhs, rhs, .. } => {
                lhs.attributes(each);
                rhs.attributes(each);
            }
            Self::Not(expr, _) | Self::Negate(expr, _) => expr.attributes(each),
        }
    }

    /// Appends the conditions that `&&` joins; the expression itself if it joins none.
    pub fn conjuncts<'e>(&'e self, found: &mut Vec<&'e Self>) {
        match self {
            Self::Binary {
                op: Op::And,
                lhs,
                rhs,
                ..
            } => {
                lhs.conjuncts(found);
                rhs.conjuncts(found);
            }
            expr => found.push(expr),
        }
    }
}

impl Op {
    /// Whether the result says how two values compare.
    pub fn is_comparison(self) -> bool {
        !self.is_arithmetic() && !matches!(self, Self::And | Self::Or)
    }

    /// Whether the result is a number.
    pub fn is_arithmetic(self) -> bool {
        use Op::{Add, Divide, Modulo, Multiply, Power, Subtract};
        matches!(self, Add | Subtract | Multiply | Divide | Modulo | Power)
    }

    /// How tightly it binds.
    pub(crate) fn power(self) -> u8 {
        match self {
            Self::And | Self::Or => 1,
            _ if self.is_comparison() => 2,
            Self::Add | Self::Subtract => 3,
            Self::Power => 6,
            _ => 5,
        }
    }

    /// The least power of what may stand on its left and on its right without brackets.
    pub(crate) fn sides(self) -> (u8, u8) {
        let power = self.power();
        match self {
            Self::Power => (power + 1, power),
            _ => (power, power + 1),
        }
    }
}

/// How tightly `!` binds.
pub(crate) const NOT_POWER: u8 = 4;
/// How tightly the sign of a number binds.
pub(crate) const NEGATE_POWER: u8 = 7;

impl Aggregate {
    /// All of them with their names.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::Count, "count"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Avg, "avg"),
        (Self::Sum, "sum"),
    ];

    /// The name that the language gives it.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(function, _)| *function == self);
        found.map_or("", |(_, name)| name)
    }

    /// The function with a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(_, held)| *held == name);
        found.map(|(function, _)| *function)
    }
}

impl SpansetOp {
    /// How tightly it binds. All of them group from the left.
    pub(crate) fn power(self) -> u8 {
        match self {
            Self::And | Self::Or => 1,
            Self::Structural(..) => 2,
        }
    }
}

impl Metrics {
    /// The whole numbers among its arguments, in their order.
    pub fn numbers(&self) -> Vec<i64> {
        let arguments = self.arguments.iter();
        let numbers = arguments.filter_map(|argument| match argument {
            MetricsArgument::Literal(Static::Int(number), _) => Some(*number),
            _ => None,
        });
        numbers.collect()
    }
}

impl MetricsFunction {
    /// All of them with their names.
    pub const NAMES: [(Self, &'static str); 9] = [
        (Self::Rate, "rate"),
        (Self::CountOverTime, "count_over_time"),
        (Self::MinOverTime, "min_over_time"),
        (Self::MaxOverTime, "max_over_time"),
        (Self::AvgOverTime, "avg_over_time"),
        (Self::SumOverTime, "sum_over_time"),
        (Self::QuantileOverTime, "quantile_over_time"),
        (Self::HistogramOverTime, "histogram_over_time"),
        (Self::Compare, "compare"),
    ];

    /// The name that the language gives it.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(function, _)| *function == self);
        found.map_or("", |(_, name)| name)
    }

    /// The function with a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(_, held)| *held == name);
        found.map(|(function, _)| *function)
    }
}

impl Intrinsic {
    /// Whether one span tells it, without the others of its trace.
    pub fn is_of_span(self) -> bool {
        use Intrinsic::{
            ChildCount, NestedSetLeft, NestedSetParent, NestedSetRight, Parent, TraceDuration,
            TraceId, TraceRootName, TraceRootService,
        };
        !matches!(
            self,
            ChildCount
                | NestedSetLeft
                | NestedSetParent
                | NestedSetRight
                | Parent
                | TraceDuration
                | TraceId
                | TraceRootName
                | TraceRootService
        )
    }

    /// All of them with their names: the short one, where there is one, and the scoped one.
    pub const NAMES: [(Self, &'static str, &'static str); 22] = [
        (Self::Duration, "duration", "span:duration"),
        (Self::Name, "name", "span:name"),
        (Self::Status, "status", "span:status"),
        (Self::StatusMessage, "statusMessage", "span:statusMessage"),
        (Self::Kind, "kind", "span:kind"),
        (Self::Parent, "parent", ""),
        (Self::ChildCount, "", "span:childCount"),
        (Self::SpanId, "", "span:id"),
        (Self::ParentId, "", "span:parentID"),
        (Self::NestedSetLeft, "nestedSetLeft", ""),
        (Self::NestedSetRight, "nestedSetRight", ""),
        (Self::NestedSetParent, "nestedSetParent", ""),
        (Self::TraceId, "", "trace:id"),
        (Self::TraceDuration, "traceDuration", "trace:duration"),
        (Self::TraceRootName, "rootName", "trace:rootName"),
        (
            Self::TraceRootService,
            "rootServiceName",
            "trace:rootService",
        ),
        (Self::EventName, "", "event:name"),
        (Self::EventTimeSinceStart, "", "event:timeSinceStart"),
        (Self::LinkTraceId, "", "link:traceID"),
        (Self::LinkSpanId, "", "link:spanID"),
        (Self::InstrumentationName, "", "instrumentation:name"),
        (Self::InstrumentationVersion, "", "instrumentation:version"),
    ];

    /// The name that the language prints.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES
            .iter()
            .find(|(intrinsic, _, _)| *intrinsic == self);
        found.map_or(
            "",
            |(_, short, scoped)| if short.is_empty() { scoped } else { short },
        )
    }
}
