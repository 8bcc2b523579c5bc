//! Evaluates queries over a source; called by the server with a parsed query.
//!
//! `engine/log.rs` (with `engine/search.rs`) answers queries for lines, `engine/metric.rs` those for numbers, on the series
//! (`engine/series.rs`) that `engine/range.rs` and `engine/scan.rs` make of lines, with the functions
//! of `engine/window.rs` for the values of `unwrap` (`engine/unwrap.rs`).

mod equality;
mod log;
mod metric;
mod range;
mod result;
mod scan;
mod search;
mod series;
mod stages;
mod unwrap;
mod window;

use std::sync::Arc;

use trine_storage::clock::{Clock, SystemClock};
use trine_storage::{Error, Kind, Labels};

use self::metric::{Evaluator, Steps, Value};
pub use self::result::{
    Entry, LogRows, LogStream, Point, QueryResult, QueryValue, Sample, Series, Stats, StreamEntry,
};
pub use self::stages::Stages;
use super::ast::{Expr, MetricKind, VectorOp};
use super::error::QueryError;
use super::source::{Batch, Direction, Source};
use crate::budget::{Budget, BudgetError, Cancel, Limits};
use crate::vector::{StepSeries, is_absent};

const INSTANT_LOG_QUERY: &str = "log queries are not supported as an instant query type, please \
    change your query to a range query type";

/// Evaluates LogQL within limits. Cheap to make; holds no data.
#[derive(Debug, Clone)]
pub struct Engine {
    limits: Limits,
    clock: Arc<dyn Clock>,
    too_many_series: TooManySeries,
}

/// What becomes of a metric query whose answer has more series than the limits allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooManySeries {
    /// It fails.
    #[default]
    Fail,
    /// It gives as many as are allowed, the first in the order of the answer, and a warning.
    Cut,
}

/// Over what a range query is evaluated, and how much of it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeQuery {
    /// First instant, nanoseconds since 1970.
    pub start_ns: i64,
    /// Last instant of a metric query; of a log query the first instant that is not wanted.
    pub end_ns: i64,
    /// Distance of the steps of a metric query, at least 1.
    pub step_ns: i64,
    /// From which end lines are taken.
    pub direction: Direction,
    /// How many lines a log query gives.
    pub limit: usize,
    /// The least distance of two lines of a log query; 0 for none.
    pub interval_ns: i64,
}

impl Engine {
    /// An engine with these bounds for each query and the system's clock.
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, Arc::new(SystemClock::new()))
    }

    /// An engine that measures the time of its queries with `clock`.
    pub fn with_clock(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self {
            limits,
            clock,
            too_many_series: TooManySeries::default(),
        }
    }

    /// The same engine, which does so with too many series.
    #[must_use]
    pub fn with_too_many_series(self, too_many_series: TooManySeries) -> Self {
        Self {
            too_many_series,
            ..self
        }
    }

    /// Evaluates a metric query at `time_ns` (nanoseconds since 1970): a vector, or a scalar for a
    /// plain number.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] for a log query, and whatever the evaluation meets.
    pub fn instant(
        &self,
        source: &dyn Source,
        expr: &Expr,
        time_ns: i64,
        cancel: &Cancel,
    ) -> Result<QueryResult, QueryError> {
        let Expr::Metric(metric) = expr else {
            return Err(QueryError::Invalid(INSTANT_LOG_QUERY.to_owned()));
        };
        let steps = Steps {
            start_ns: time_ns,
            step_ns: 1,
            count: 1,
        };
        let budget = self.budget(cancel);
        let mut evaluator = Evaluator::new(source, &budget, steps);
        let value = match evaluator.evaluate(metric)? {
            Value::Scalar(value) => QueryValue::Scalar(Point {
                timestamp_ns: time_ns,
                value,
            }),
            Value::Vector(mut series) => {
                series.retain(StepSeries::has_values);
                if !is_ordered(&metric.kind) {
                    series.sort_by(|a, b| a.labels.cmp(&b.labels));
                }
                self.bound_series(&mut series, &mut evaluator.warnings)?;
                let sample = |series: StepSeries| Sample {
                    value: series.values.first().copied().unwrap_or(f64::NAN),
                    labels: series.labels,
                    timestamp_ns: time_ns,
                };
                QueryValue::Vector(series.into_iter().map(sample).collect())
            }
        };
        Ok(evaluator.result(value))
    }

    /// Evaluates a query over a range: streams for a log query, a matrix for a metric query.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the range or the step make no sense, and whatever the
    /// evaluation meets.
    pub fn range(
        &self,
        source: &dyn Source,
        expr: &Expr,
        query: RangeQuery,
        cancel: &Cancel,
    ) -> Result<QueryResult, QueryError> {
        let budget = self.budget(cancel);
        match expr {
            Expr::Log(expr) => log::evaluate(source, expr, query, &budget),
            Expr::Metric(metric) => {
                let steps = self.steps(query)?;
                let mut evaluator = Evaluator::new(source, &budget, steps);
                let mut series = match evaluator.evaluate(metric)? {
                    Value::Vector(series) => series,
                    Value::Scalar(value) => {
                        let values = vec![value; steps.count];
                        vec![StepSeries::new(Labels::empty(), values)]
                    }
                };
                series.retain(StepSeries::has_values);
                series.sort_by(|a, b| a.labels.cmp(&b.labels));
                self.bound_series(&mut series, &mut evaluator.warnings)?;
                let matrix = series
                    .into_iter()
                    .map(|series| to_points(series, steps))
                    .collect();
                Ok(evaluator.result(QueryValue::Matrix(matrix)))
            }
        }
    }

    fn budget(&self, cancel: &Cancel) -> Budget {
        Budget::new(self.limits.clone(), cancel.clone(), Arc::clone(&self.clock))
    }

    fn steps(&self, query: RangeQuery) -> Result<Steps, QueryError> {
        let RangeQuery {
            start_ns,
            end_ns,
            step_ns,
            ..
        } = query;
        if step_ns <= 0 {
            let text = "zero or negative query resolution step widths are not accepted. Try a \
                positive integer";
            return Err(QueryError::Invalid(text.to_owned()));
        }
        if end_ns < start_ns {
            let text = "end timestamp must not be before or equal to start time";
            return Err(QueryError::Invalid(text.to_owned()));
        }
        let last = end_ns.saturating_sub(start_ns) / step_ns;
        let count = usize::try_from(last)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        if count > self.limits.steps_max {
            let text = format!(
                "exceeded maximum resolution of {} points per time series. Try increasing the \
                 value of the step parameter",
                self.limits.steps_max
            );
            return Err(QueryError::Limit(text));
        }
        Ok(Steps {
            start_ns,
            step_ns,
            count,
        })
    }

    /// Sees to it that there are no more series than the limits allow.
    fn bound_series(
        &self,
        series: &mut Vec<StepSeries>,
        warnings: &mut Vec<String>,
    ) -> Result<(), QueryError> {
        let max = self.limits.series_max;
        if series.len() as u64 <= max {
            return Ok(());
        }
        let text = format!("maximum number of series ({max}) reached for a single query");
        match self.too_many_series {
            TooManySeries::Cut => {
                series.truncate(usize::try_from(max).unwrap_or(usize::MAX));
                warnings.push(format!("{text}; returning partial results"));
                Ok(())
            }
            TooManySeries::Fail => Err(QueryError::Limit(format!(
                "{text}; consider reducing query cardinality by adding more specific stream \
                 selectors, reducing the time range, or aggregating results with functions like \
                 sum(), count() or topk()"
            ))),
        }
    }
}

impl From<BudgetError> for QueryError {
    fn from(error: BudgetError) -> Self {
        match error {
            BudgetError::Canceled => Self::Cancelled,
            BudgetError::Samples
            | BudgetError::Bytes(_)
            | BudgetError::Series(_)
            | BudgetError::TimedOut => Self::Limit(error.to_string()),
        }
    }
}

/// Whether the order of an instant vector is the query's own: `sort` anywhere, `topk` outermost.
fn is_ordered(kind: &MetricKind) -> bool {
    matches!(kind, MetricKind::Aggregate(aggregate) if aggregate.op.takes_param())
        || is_sorted(kind)
}

fn is_sorted(kind: &MetricKind) -> bool {
    match kind {
        MetricKind::Literal(_) | MetricKind::Vector(_) | MetricKind::Range(_) => false,
        MetricKind::Aggregate(aggregate) => {
            matches!(aggregate.op, VectorOp::Sort | VectorOp::SortDesc)
                || is_sorted(&aggregate.inner.kind)
        }
        MetricKind::Binary(binary) => is_sorted(&binary.left.kind) || is_sorted(&binary.right.kind),
        MetricKind::LabelReplace(replace) => is_sorted(&replace.inner.kind),
    }
}

/// A batch; what of the store cannot be read is told as a warning, and the rest is answered.
fn readable(
    batch: Result<Batch, Error>,
    warnings: &mut Vec<String>,
) -> Result<Option<Batch>, QueryError> {
    match batch {
        Ok(batch) => Ok(Some(batch)),
        Err(error) if error.kind() == Kind::Corrupt => {
            warnings.push(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn to_points(series: StepSeries, steps: Steps) -> Series {
    let points = series
        .values
        .iter()
        .enumerate()
        .filter(|(_, value)| !is_absent(**value));
    let points = points
        .map(|(i, value)| Point {
            timestamp_ns: steps.at(i),
            value: *value,
        })
        .collect();
    Series {
        labels: series.labels,
        points,
    }
}
