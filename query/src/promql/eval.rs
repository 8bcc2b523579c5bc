//! The engine: evaluates a query against a [`Source`], series by series over all steps.
//!
//! Expressions become streams of [`StepSeries`]: a series is decoded once, its window slides over
//! the steps, and the values go on to whatever wants them. Only operators that need all series at
//! once (binary operators, `histogram_quantile`, `sort`) collect them, and what they hold counts
//! against the budget.

mod aggregation;
mod call;
pub(super) mod date;
mod durations;
mod expression;
mod extended;
mod extended_histograms;
mod histogram;
mod histogram_range;
mod info;
mod label_functions;
mod label_order;
mod look_up;
mod notes;
mod range_functions;
mod rate;
mod reset_hints;
mod selector;
mod sliding;
mod steps;
mod stream;
mod waves;

use std::sync::Arc;
use std::time::Duration;

use trine_storage::Labels;
use trine_storage::clock::{Clock, SystemClock};

use self::reset_hints::ResetHints;
use self::steps::Steps;
use self::stream::Vector;
use super::annotation::Annotations;
use super::ast::{Query, ValueType};
use super::error::QueryError;
use super::source::{SampleValue, Samples, Series, Source, Values};
use crate::budget::{Budget, Cancel, Cost, Limits};
use crate::vector::{StepSeries, is_absent};

/// How long before a step a sample may lie to count as its value, unless a query says otherwise.
pub const LOOKBACK_MS: i64 = 5 * 60 * 1000;

/// The distance of the steps of a subquery that does not say one.
pub const SUBQUERY_STEP_MS: i64 = 60 * 1000;

/// The most warnings, and the most infos, of one query.
pub const ANNOTATIONS_MAX: usize = 10;

/// Evaluates queries. Cheap to clone; one engine serves any number of queries at a time.
#[derive(Debug, Clone)]
pub struct Engine {
    limits: Limits,
    clock: Arc<dyn Clock>,
}

/// What one query may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long before a step a sample may lie to count as its value, in milliseconds.
    pub lookback_ms: i64,
    /// The distance of the steps of subqueries that do not say one, in milliseconds.
    pub subquery_step_ms: i64,
    /// A time limit below the engine's.
    pub timeout: Option<Duration>,
    /// Stops the query from outside.
    pub cancel: Cancel,
    /// The most warnings, and the most infos; more are counted in one last text.
    pub annotations_max: usize,
    /// Whether a metric's name that an operation takes away stays until the end of the query, where
    /// `by (__name__)` and `label_replace` still see it.
    pub delayed_name_removal: bool,
    /// Whether counters are taken to begin where their start timestamps say.
    pub start_timestamps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback_ms: LOOKBACK_MS,
            subquery_step_ms: SUBQUERY_STEP_MS,
            timeout: None,
            cancel: Cancel::new(),
            annotations_max: ANNOTATIONS_MAX,
            delayed_name_removal: false,
            start_timestamps: false,
        }
    }
}

/// What a query yields.
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// What may make the value wrong.
    pub warnings: Vec<String>,
    /// What may make the value surprising.
    pub infos: Vec<String>,
    /// What it took.
    pub cost: Cost,
}

/// The value of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar {
        /// The evaluation time, in milliseconds since 1970.
        time_ms: i64,
        /// The number.
        value: f64,
    },
    /// A text.
    String {
        /// The evaluation time, in milliseconds since 1970.
        time_ms: i64,
        /// The text.
        value: String,
    },
    /// One sample a series.
    Vector(Vec<VectorSample>),
    /// Many samples a series, the series in label order. Range queries give nothing else.
    Matrix(Vec<Series>),
}

/// One sample of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// The labels of its series.
    pub labels: Labels,
    /// The evaluation time, in milliseconds since 1970.
    pub time_ms: i64,
    /// The value.
    pub value: SampleValue,
}

impl Engine {
    /// An engine with these bounds for each query and the system's clock.
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, Arc::new(SystemClock::new()))
    }

    /// An engine that measures the time of its queries with `clock`.
    pub fn with_clock(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { limits, clock }
    }

    /// The value of `query` at `time_ms` (milliseconds since 1970).
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn instant(
        &self,
        source: &dyn Source,
        query: &Query,
        time_ms: i64,
        options: &Options,
    ) -> Result<QueryResult, QueryError> {
        self.run(source, query, Steps::one(time_ms), options, |evaluation| {
            evaluation.instant()
        })
    }

    /// The values of `query` from `start_ms` to `end_ms` (inclusive) every `step_ms`.
    ///
    /// # Errors
    /// See [`QueryError`]; [`QueryError::Invalid`] also when the steps make no sense or are too
    /// many, and when the query yields a text or a range vector.
    pub fn range(
        &self,
        source: &dyn Source,
        query: &Query,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
        options: &Options,
    ) -> Result<QueryResult, QueryError> {
        match query.expr.value_type() {
            ValueType::Scalar | ValueType::InstantVector => {}
            other => {
                return Err(QueryError::Invalid(format!(
                    "invalid expression type \"{}\" for range query, must be Scalar or instant \
                     Vector",
                    other.name()
                )));
            }
        }
        let steps = Steps::checked(start_ms, end_ms, step_ms, self.limits.steps_max)
            .map_err(QueryError::Invalid)?;
        self.run(source, query, steps, options, |evaluation| {
            evaluation.range()
        })
    }

    fn run(
        &self,
        source: &dyn Source,
        query: &Query,
        steps: Steps,
        options: &Options,
        evaluate: impl FnOnce(&Evaluation<'_>) -> Result<Value, QueryError>,
    ) -> Result<QueryResult, QueryError> {
        let mut limits = self.limits.clone();
        limits.wall_time = options
            .timeout
            .map_or(limits.wall_time, |t| t.min(limits.wall_time));
        let budget = Budget::new(limits, options.cancel.clone(), Arc::clone(&self.clock));
        let query = durations::resolve(query, steps)?;
        let evaluation = Evaluation {
            source,
            query: &query,
            steps,
            options,
            budget: &budget,
            reset_hints: ResetHints::of(&query.expr),
            annotations: Annotations::new(&query.text, options.annotations_max),
        };
        budget.check()?;
        let value = evaluate(&evaluation)?;
        let (warnings, infos) = evaluation.annotations.finish();
        Ok(QueryResult {
            value,
            warnings,
            infos,
            cost: budget.cost(),
        })
    }
}

/// One query at work.
struct Evaluation<'q> {
    source: &'q dyn Source,
    query: &'q Query,
    /// The steps of the whole query; subqueries have their own.
    steps: Steps,
    options: &'q Options,
    budget: &'q Budget,
    reset_hints: ResetHints,
    annotations: Annotations<'q>,
}

impl Evaluation<'_> {
    fn instant(&self) -> Result<Value, QueryError> {
        let (expr, time_ms) = (&self.query.expr, self.steps.start());
        Ok(match expr.value_type() {
            ValueType::Scalar => {
                let values = self.scalar(expr, self.steps)?;
                Value::Scalar {
                    time_ms,
                    value: values.first().copied().unwrap_or(f64::NAN),
                }
            }
            ValueType::String => Value::String {
                time_ms,
                value: expression::string(expr).into(),
            },
            ValueType::InstantVector => {
                let vector = self.vector(expr, self.steps)?.collect(self.budget)?;
                let vector = vector.settle_names()?;
                let samples = vector.into_series().into_iter().filter_map(|series| {
                    let value = match series.histogram(0) {
                        Some(histogram) => SampleValue::Histogram(Arc::clone(histogram)),
                        None => {
                            let value = series.values.first().copied();
                            SampleValue::Float(value.filter(|value| !is_absent(*value))?)
                        }
                    };
                    Some(VectorSample {
                        labels: series.labels,
                        time_ms,
                        value,
                    })
                });
                Value::Vector(samples.collect())
            }
            ValueType::RangeVector => Value::Matrix(self.instant_matrix(expr)?),
        })
    }

    fn range(&self) -> Result<Value, QueryError> {
        let (expr, steps) = (&self.query.expr, self.steps);
        if expr.value_type() == ValueType::Scalar {
            let values = self.scalar(expr, steps)?;
            let series = StepSeries::new(Labels::empty(), values);
            return Ok(Value::Matrix(vec![points(series, steps)]));
        }
        let vector: Vector<'_> = self.vector(expr, steps)?;
        let mut series = vector.collect(self.budget)?.settle_names()?.into_series();
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let series = series.into_iter().map(|series| points(series, steps));
        let series = series.filter(|series| !series.samples.timestamps.is_empty());
        Ok(Value::Matrix(series.collect()))
    }
}

/// The values of a series with their times.
fn points(series: StepSeries, steps: Steps) -> Series {
    if let Some(histograms) = series.histograms {
        let column = steps.times().zip(series.values.into_iter().zip(histograms));
        let column = column.filter_map(|(time, (value, histogram))| match histogram {
            Some(histogram) => Some((time, SampleValue::Histogram(histogram))),
            None => (!is_absent(value)).then_some((time, SampleValue::Float(value))),
        });
        let (timestamps, values): (Vec<i64>, Vec<SampleValue>) = column.unzip();
        return Series {
            labels: series.labels,
            samples: Samples::new(timestamps, values.into()),
        };
    }
    let present = series
        .values
        .iter()
        .filter(|value| !is_absent(**value))
        .count();
    let (mut timestamps, mut values) = (Vec::with_capacity(present), Vec::with_capacity(present));
    for (time, value) in steps.times().zip(series.values) {
        if !is_absent(value) {
            timestamps.push(time);
            values.push(value);
        }
    }
    Series {
        labels: series.labels,
        samples: Samples::new(timestamps, Values::Floats(values)),
    }
}

#[cfg(test)]
mod tests;
