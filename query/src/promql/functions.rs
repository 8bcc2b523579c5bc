//! The table of PromQL's functions: names, argument types, and which part of the evaluator does
//! the work. Called by the parser, the type check and the evaluator.

use super::ast::ValueType;
use crate::vector::Histogram;

/// A function of the language.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments; the last one repeats where [`Optional::Any`].
    pub arguments: &'static [ValueType],
    /// How many of the last arguments may be left out.
    pub optional: Optional,
    /// The type of its result.
    pub returns: ValueType,
    /// Whether the original has it switched off unless it is started with a flag.
    pub experimental: bool,
    /// Who evaluates it.
    pub(super) action: Action,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Which arguments may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optional {
    /// None.
    No,
    /// The last one.
    Last,
    /// The last one, and it may also be repeated.
    Any,
    /// The last one, and it may also be repeated so often.
    UpTo(usize),
}

/// Who evaluates a function.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// A value from each window of a range vector.
    Range(RangeOp),
    /// A number from each number.
    Math(fn(f64) -> f64),
    /// A part of the time that each number says.
    Date(DatePart),
    Absent,
    AbsentOverTime,
    Clamp(Clamp),
    Round,
    Scalar,
    Vector,
    Time,
    Pi,
    Timestamp,
    Sort(SortOrder),
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    /// A number from each native histogram; nothing for floats.
    HistogramValue(fn(&Histogram) -> f64),
    HistogramFraction,
    /// The labels of info metrics added to series.
    Info,
    /// A number that the query itself says.
    QueryTime(QueryTime),
    /// The lesser or the greater of two scalars.
    Extreme(End),
    SortByLabel(SortOrder),
    StartTimestamp,
    HistogramQuantiles,
}

/// What a query says about its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryTime {
    Start,
    End,
    Range,
    Step,
}

/// Which of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Least,
    Greatest,
}

/// Functions over the samples of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeOp {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Last,
    First,
    Present,
    Stddev,
    Stdvar,
    Quantile,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    Mad,
    Smoothing,
    TsOfFirst,
    TsOfLast,
    TsOfMax,
    TsOfMin,
}

impl RangeOp {
    /// Whether it matters to it where a counter begins again.
    pub(super) fn counts_resets(self) -> bool {
        matches!(
            self,
            Self::Rate | Self::Increase | Self::Irate | Self::Resets
        )
    }

    /// Whether the result is still the same metric.
    pub(super) fn keeps_name(self) -> bool {
        matches!(self, Self::Last | Self::First)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatePart {
    Year,
    Month,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Hour,
    Minute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clamp {
    Both,
    Min,
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SortOrder {
    Ascending,
    Descending,
}

/// The function of that name (case matters).
pub fn lookup(name: &str) -> Option<&'static Function> {
    FUNCTIONS
        .binary_search_by(|function| function.name.cmp(name))
        .ok()
        .and_then(|at| FUNCTIONS.get(at))
}

/// All functions, in order of their names.
pub fn all() -> &'static [Function] {
    FUNCTIONS
}

const S: ValueType = ValueType::Scalar;
const T: ValueType = ValueType::String;
const V: ValueType = ValueType::InstantVector;
const M: ValueType = ValueType::RangeVector;

const fn function(
    name: &'static str,
    arguments: &'static [ValueType],
    returns: ValueType,
    action: Action,
) -> Function {
    Function {
        name,
        arguments,
        optional: Optional::No,
        returns,
        experimental: false,
        action,
    }
}

const fn with_optional(function: Function, optional: Optional) -> Function {
    Function {
        optional,
        ..function
    }
}

const fn math(name: &'static str, apply: fn(f64) -> f64) -> Function {
    function(name, &[V], V, Action::Math(apply))
}

const fn range(name: &'static str, op: RangeOp) -> Function {
    function(name, &[M], V, Action::Range(op))
}

const fn date(name: &'static str, part: DatePart) -> Function {
    with_optional(function(name, &[V], V, Action::Date(part)), Optional::Last)
}

const fn experimental(function: Function) -> Function {
    Function {
        experimental: true,
        ..function
    }
}

const fn query_time(name: &'static str, what: QueryTime) -> Function {
    experimental(function(name, &[], S, Action::QueryTime(what)))
}

const fn by_label(name: &'static str, order: SortOrder) -> Function {
    let function = function(name, &[V, T], V, Action::SortByLabel(order));
    experimental(with_optional(function, Optional::Any))
}

/// In order of names, so that they can be found by halving.
static FUNCTIONS: &[Function] = &[
    math("abs", f64::abs),
    function("absent", &[V], V, Action::Absent),
    function("absent_over_time", &[M], V, Action::AbsentOverTime),
    math("acos", f64::acos),
    math("acosh", f64::acosh),
    math("asin", f64::asin),
    math("asinh", f64::asinh),
    math("atan", f64::atan),
    math("atanh", f64::atanh),
    range("avg_over_time", RangeOp::Avg),
    math("ceil", f64::ceil),
    range("changes", RangeOp::Changes),
    function("clamp", &[V, S, S], V, Action::Clamp(Clamp::Both)),
    function("clamp_max", &[V, S], V, Action::Clamp(Clamp::Max)),
    function("clamp_min", &[V, S], V, Action::Clamp(Clamp::Min)),
    math("cos", f64::cos),
    math("cosh", f64::cosh),
    range("count_over_time", RangeOp::Count),
    date("day_of_month", DatePart::DayOfMonth),
    date("day_of_week", DatePart::DayOfWeek),
    date("day_of_year", DatePart::DayOfYear),
    date("days_in_month", DatePart::DaysInMonth),
    math("deg", |x| x * 180.0 / std::f64::consts::PI),
    range("delta", RangeOp::Delta),
    range("deriv", RangeOp::Deriv),
    experimental(function(
        "double_exponential_smoothing",
        &[M, S, S],
        V,
        Action::Range(RangeOp::Smoothing),
    )),
    query_time("end", QueryTime::End),
    math("exp", f64::exp),
    range("first_over_time", RangeOp::First),
    math("floor", f64::floor),
    function(
        "histogram_avg",
        &[V],
        V,
        Action::HistogramValue(Histogram::mean),
    ),
    function(
        "histogram_count",
        &[V],
        V,
        Action::HistogramValue(|h| h.count),
    ),
    function(
        "histogram_fraction",
        &[S, S, V],
        V,
        Action::HistogramFraction,
    ),
    function("histogram_quantile", &[S, V], V, Action::HistogramQuantile),
    experimental(with_optional(
        function(
            "histogram_quantiles",
            &[V, T, S, S],
            V,
            Action::HistogramQuantiles,
        ),
        Optional::UpTo(9),
    )),
    function(
        "histogram_stddev",
        &[V],
        V,
        Action::HistogramValue(|h| h.variance().sqrt()),
    ),
    function(
        "histogram_stdvar",
        &[V],
        V,
        Action::HistogramValue(Histogram::variance),
    ),
    function("histogram_sum", &[V], V, Action::HistogramValue(|h| h.sum)),
    date("hour", DatePart::Hour),
    range("idelta", RangeOp::Idelta),
    range("increase", RangeOp::Increase),
    experimental(with_optional(
        function("info", &[V, V], V, Action::Info),
        Optional::Last,
    )),
    range("irate", RangeOp::Irate),
    with_optional(
        function("label_join", &[V, T, T, T], V, Action::LabelJoin),
        Optional::Any,
    ),
    function("label_replace", &[V, T, T, T, T], V, Action::LabelReplace),
    range("last_over_time", RangeOp::Last),
    math("ln", f64::ln),
    math("log10", f64::log10),
    math("log2", f64::log2),
    experimental(range("mad_over_time", RangeOp::Mad)),
    experimental(function(
        "max_of",
        &[S, S],
        S,
        Action::Extreme(End::Greatest),
    )),
    range("max_over_time", RangeOp::Max),
    experimental(function("min_of", &[S, S], S, Action::Extreme(End::Least))),
    range("min_over_time", RangeOp::Min),
    date("minute", DatePart::Minute),
    date("month", DatePart::Month),
    function("pi", &[], S, Action::Pi),
    function(
        "predict_linear",
        &[M, S],
        V,
        Action::Range(RangeOp::PredictLinear),
    ),
    range("present_over_time", RangeOp::Present),
    function(
        "quantile_over_time",
        &[S, M],
        V,
        Action::Range(RangeOp::Quantile),
    ),
    math("rad", |x| x * std::f64::consts::PI / 180.0),
    query_time("range", QueryTime::Range),
    range("rate", RangeOp::Rate),
    range("resets", RangeOp::Resets),
    with_optional(function("round", &[V, S], V, Action::Round), Optional::Last),
    function("scalar", &[V], S, Action::Scalar),
    math("sgn", sign),
    math("sin", f64::sin),
    math("sinh", f64::sinh),
    function("sort", &[V], V, Action::Sort(SortOrder::Ascending)),
    by_label("sort_by_label", SortOrder::Ascending),
    by_label("sort_by_label_desc", SortOrder::Descending),
    function("sort_desc", &[V], V, Action::Sort(SortOrder::Descending)),
    math("sqrt", f64::sqrt),
    query_time("start", QueryTime::Start),
    experimental(function("start_timestamp", &[V], V, Action::StartTimestamp)),
    range("stddev_over_time", RangeOp::Stddev),
    range("stdvar_over_time", RangeOp::Stdvar),
    query_time("step", QueryTime::Step),
    range("sum_over_time", RangeOp::Sum),
    math("tan", f64::tan),
    math("tanh", f64::tanh),
    function("time", &[], S, Action::Time),
    function("timestamp", &[V], V, Action::Timestamp),
    experimental(range("ts_of_first_over_time", RangeOp::TsOfFirst)),
    experimental(range("ts_of_last_over_time", RangeOp::TsOfLast)),
    experimental(range("ts_of_max_over_time", RangeOp::TsOfMax)),
    experimental(range("ts_of_min_over_time", RangeOp::TsOfMin)),
    function("vector", &[S], V, Action::Vector),
    date("year", DatePart::Year),
];

/// -1, 0 or 1 with the sign of `x`; zeros and NaN stay what they are.
fn sign(x: f64) -> f64 {
    if x < 0.0 {
        -1.0
    } else if x > 0.0 {
        1.0
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::{all, lookup};

    #[test]
    fn the_table_is_in_order_and_every_name_is_found() {
        assert!(all().windows(2).all(|two| two[0].name < two[1].name));
        for function in all() {
            assert_eq!(lookup(function.name), Some(function));
        }
        assert!(lookup("Rate").is_none(), "case matters");
        assert!(lookup("holt_winters").is_none());
    }
}
