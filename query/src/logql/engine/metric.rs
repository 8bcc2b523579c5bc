//! Evaluates metric expressions: range aggregations first, then vectors over all steps at once.

use std::cmp::Ordering;

use trine_storage::Labels;
use trine_storage::regex::{LineRegex, Template};

use super::{QueryResult, QueryValue, Stats, range};
use crate::budget::Budget;
use crate::logql::ast::{
    Binary, LabelReplace, MetricExpr, MetricKind, RangeAggregation, RangeOp, VectorAggregation,
    VectorOp,
};
use crate::logql::error::QueryError;
use crate::logql::source::Source;
use crate::threads::Permits;
use crate::vector::{
    AggregateOp, Aggregator, Arithmetic, BinaryNotes, Grouping, Operation, Parameter, ScalarSide,
    StepSeries, VectorError, binary, binary_scalar, is_absent, merge_equal_labels,
};

/// The instants at which a query is evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) start_ns: i64,
    pub(super) step_ns: i64,
    pub(super) count: usize,
}

impl Steps {
    /// The instant of a step.
    pub(super) fn at(&self, step: usize) -> i64 {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        self.start_ns
            .saturating_add(step.saturating_mul(self.step_ns))
    }

    /// The instant of the last step.
    pub(super) fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }
}

/// What an expression gives.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(f64),
    Vector(Vec<StepSeries>),
}

/// One query at work.
pub(super) struct Evaluator<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) budget: &'a Budget,
    pub(super) steps: Steps,
    pub(super) stats: Stats,
    pub(super) warnings: Vec<String>,
    /// Threads that no other query uses.
    permits: Permits,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(source: &'a dyn Source, budget: &'a Budget, steps: Steps) -> Self {
        Self {
            source,
            budget,
            steps,
            stats: Stats::default(),
            warnings: Vec::new(),
            permits: Permits::take(budget.limits().threads_max.saturating_sub(1)),
        }
    }

    /// The threads that may be worked on beside this one.
    pub(super) fn permits(&self) -> &Permits {
        &self.permits
    }

    /// The result of the whole query.
    pub(super) fn result(self, value: QueryValue) -> QueryResult {
        QueryResult {
            value,
            stats: self.stats,
            warnings: self.warnings,
        }
    }

    pub(super) fn evaluate(&mut self, expr: &MetricExpr) -> Result<Value, QueryError> {
        self.budget.check()?;
        match &expr.kind {
            MetricKind::Literal(value) => Ok(Value::Scalar(*value)),
            MetricKind::Vector(value) => {
                let values = vec![*value; self.steps.count];
                Ok(Value::Vector(vec![StepSeries::new(
                    Labels::empty(),
                    values,
                )]))
            }
            MetricKind::Range(aggregation) => {
                let grouping = aggregation.grouping.clone();
                range::evaluate(self, aggregation, grouping).map(Value::Vector)
            }
            MetricKind::Aggregate(aggregation) => self.aggregate(aggregation).map(Value::Vector),
            MetricKind::Binary(binary) => self.binary(binary),
            MetricKind::LabelReplace(replace) => {
                let series = self.vector(&replace.inner)?;
                label_replace(replace, series).map(Value::Vector)
            }
        }
    }

    fn vector(&mut self, expr: &MetricExpr) -> Result<Vec<StepSeries>, QueryError> {
        match self.evaluate(expr)? {
            Value::Vector(series) => Ok(series),
            Value::Scalar(value) => {
                let values = vec![value; self.steps.count];
                Ok(vec![StepSeries::new(Labels::empty(), values)])
            }
        }
    }

    fn aggregate(&mut self, node: &VectorAggregation) -> Result<Vec<StepSeries>, QueryError> {
        let grouping = node.grouping.clone().unwrap_or(Grouping::By(Vec::new()));
        let mut series = match &node.inner.kind {
            // A sum of sums: the lines are grouped at once, so that only the labels of the groups
            // are parsed, and no series is held for each combination of the others.
            MetricKind::Range(inner) if node.op == VectorOp::Sum && is_sum(inner) => {
                range::evaluate(self, inner, Some(grouping.clone()))?
            }
            _ => self.vector(&node.inner)?,
        };
        let op = match node.op {
            VectorOp::Sum => AggregateOp::Sum,
            VectorOp::Avg => AggregateOp::Avg,
            VectorOp::Count => AggregateOp::Count,
            VectorOp::Max => AggregateOp::Max,
            VectorOp::Min => AggregateOp::Min,
            VectorOp::Stddev => AggregateOp::Stddev,
            VectorOp::Stdvar => AggregateOp::Stdvar,
            VectorOp::Topk => AggregateOp::Topk,
            VectorOp::Bottomk => AggregateOp::Bottomk,
            VectorOp::ApproxTopk if self.steps.count > 1 => {
                let text = "approx_topk is only supported on instant queries";
                return Err(QueryError::Invalid(text.to_owned()));
            }
            // The exact answer is one of the approximate ones.
            VectorOp::ApproxTopk => AggregateOp::Topk,
            VectorOp::Sort | VectorOp::SortDesc => {
                sort(&mut series, node.op);
                return Ok(series);
            }
        };
        let parameter = match node.param {
            Some(k) => Parameter::Steps(vec![f64::from(k); self.steps.count]),
            None => Parameter::None,
        };
        let mut aggregator =
            Aggregator::new(op, grouping, parameter, self.steps.count).map_err(vector_error)?;
        series.iter().for_each(|series| aggregator.push(series));
        Ok(aggregator.finish())
    }

    fn binary(&mut self, node: &Binary) -> Result<Value, QueryError> {
        let left = self.evaluate(&node.left)?;
        let right = self.evaluate(&node.right)?;
        let operation = Operation {
            op: node.op,
            comparison: node.comparison,
            rules: Arithmetic::Loki,
        };
        let (series, scalar, side) = match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                return Ok(Value::Scalar(node.op.apply(left, right, Arithmetic::Loki)));
            }
            (Value::Vector(left), Value::Vector(right)) => {
                let mut notes = BinaryNotes::default();
                let joined = binary(operation, &node.matching, left, right, &mut notes);
                return joined.map(Value::Vector).map_err(vector_error);
            }
            (Value::Vector(series), Value::Scalar(scalar)) => (series, scalar, ScalarSide::Right),
            (Value::Scalar(scalar), Value::Vector(series)) => (series, scalar, ScalarSide::Left),
        };
        let scalars = vec![scalar; self.steps.count];
        let apply = |series| {
            let mut notes = BinaryNotes::default();
            binary_scalar(operation, series, &scalars, side, &mut notes)
        };
        Ok(Value::Vector(series.into_iter().map(apply).collect()))
    }
}

/// Writes a label of each series whose other label matches.
fn label_replace(
    node: &LabelReplace,
    mut series: Vec<StepSeries>,
) -> Result<Vec<StepSeries>, QueryError> {
    let regex = LineRegex::anchored(&node.regex)?;
    let template = Template::new(&node.replacement, &regex);
    let mut locations = regex.locations();
    let mut value = Vec::new();
    for series in &mut series {
        let from = series.labels.get(&node.from).unwrap_or("").as_bytes();
        if regex.captures(from, &mut locations) {
            value.clear();
            template.expand(from, &locations, &mut value);
            series.labels = series
                .labels
                .with(&node.to, &String::from_utf8_lossy(&value));
        }
    }
    merge_equal_labels(series).map_err(vector_error)
}

/// Whether the values of series add up to the value of the merged series.
fn is_sum(node: &RangeAggregation) -> bool {
    node.grouping.is_none()
        && matches!(
            node.op,
            RangeOp::Count | RangeOp::Rate | RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Sum
        )
}

/// Sorts an instant vector by value, NaN last; series of a range query have no one value.
fn sort(series: &mut [StepSeries], op: VectorOp) {
    let key = |series: &StepSeries| match series.values.as_slice() {
        [value] if !is_absent(*value) => *value,
        _ => f64::NAN,
    };
    series.sort_by(|a, b| {
        let (x, y) = (key(a), key(b));
        let order = if op == VectorOp::Sort {
            x.partial_cmp(&y)
        } else {
            y.partial_cmp(&x)
        };
        order
            .unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()))
            .then_with(|| match op {
                VectorOp::Sort => Ordering::Equal,
                _ => a.labels.cmp(&b.labels),
            })
    });
}

/// The error in the words of the language.
fn vector_error(error: VectorError) -> QueryError {
    QueryError::Invalid(match error {
        VectorError::DuplicateOnOneSide { side, .. } => format!(
            "found duplicate series on the {side} hand-side;many-to-many matching not allowed: \
             matching labels must be unique on one side"
        ),
        other => other.to_string(),
    })
}
