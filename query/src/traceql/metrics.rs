//! Series over time: `{ ... } | rate() by (...)`, what is computed from them, and their exemplars.
//! Whoever serves the API of metrics calls [`Engine::metrics`].
//!
//! In reading order: `intervals` says which times belong together; `tally` holds counts by group and
//! interval, `labels` the values of groups. `counted` fills a tally from what a store counts,
//! `observed` from spans where it cannot. `functions` makes series of a tally, `stages` computes with
//! them, `compare` is the function that is unlike the others, `exemplars` finds spans that stand for
//! values.

mod compare;
mod counted;
mod exemplars;
mod functions;
mod intervals;
mod labels;
mod observed;
mod stages;
mod tally;

use std::sync::Arc;

use super::ast::{
    Attribute, Metrics, MetricsExpr, MetricsFunction, MetricsTerm, Op, Pipeline, Query, Root,
    Static,
};
use super::engine::Engine;
use super::error::QueryError;
use super::source::{self, Batch, Effort, Request, Rows, Source, SpanBatch, Value};
use super::{exact, lower};
use crate::budget::{Budget, BudgetError, Cancel};
use crate::text::format_go_duration;
use crate::threads::Permits;
use compare::{Comparison, Sides};
use exemplars::{Exemplars, Taking};
use intervals::Intervals;
pub use intervals::default_step;
use labels::{Interner, Series, order};
use observed::Observer;
use tally::Tally;
use trine_storage::error::Kind;

/// The most exemplars of an answer, whatever is asked for.
pub const EXEMPLARS_MAX: usize = 100_000;
/// The exemplars of an answer where the query says `with(exemplars=true)` and no number.
pub const EXEMPLARS_DEFAULT: usize = 100;

/// What series over time are asked for besides their query.
#[derive(Debug, Clone)]
pub struct MetricsOptions {
    /// Where the range begins, nanoseconds since 1970.
    pub start_ns: i64,
    /// Where it ends.
    pub end_ns: i64,
    /// The width of an interval, nanoseconds; ignored by instant queries.
    pub step_ns: i64,
    /// Whether the whole range is one interval, with both its ends. Otherwise intervals begin and end
    /// at multiples of the step, the first with the last one that is not behind the start, and spans
    /// belong to the interval at or before whose end they begin.
    pub instant: bool,
    /// The most exemplars; the query's hint comes first.
    pub exemplars: usize,
    /// The most series of the answer, the first by their labels; 0 for no limit.
    pub series_max: usize,
}

impl MetricsOptions {
    /// As Tempo asks for a range: widened to whole steps, and by one step more at its beginning, so
    /// that there is a sample at the start of the range, too. Instant queries stay as they are.
    pub fn aligned(mut self) -> Self {
        if self.instant || self.step_ns <= 0 {
            return self;
        }
        let step = self.step_ns;
        let start = self.start_ns.saturating_sub(self.start_ns.rem_euclid(step));
        self.start_ns = if start > step { start - step } else { start };
        let rest = self.end_ns.rem_euclid(step);
        if rest > 0 {
            self.end_ns = self.end_ns.saturating_add(step - rest);
        }
        self
    }
}

/// Series over time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsResult {
    /// In the order of their labels.
    pub series: Vec<MetricSeries>,
    /// Whether something is left out.
    pub is_partial: bool,
    /// What.
    pub message: Option<String>,
    /// Spans that were counted or looked at.
    pub inspected_spans: u64,
    /// Traces that the engine looked at; none where the store counts spans itself.
    pub inspected_traces: u64,
}

/// A series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricSeries {
    /// Names with values; without one where no span of the series has the attribute.
    pub labels: Vec<(Arc<str>, Option<Value>)>,
    /// Milliseconds since 1970 with values, never NaN. A series without samples is a notice.
    pub samples: Vec<(i64, f64)>,
    /// By time.
    pub exemplars: Vec<Exemplar>,
}

/// A span that stands for a value of a series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exemplar {
    /// Its ids and what else it is told by.
    pub labels: Vec<(Arc<str>, Option<Value>)>,
    /// What was measured of it, or the value of the series then.
    pub value: f64,
    /// When it began, milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl Engine {
    /// Series over time. A query that would use more than it may gives what it has by then, and says
    /// so.
    ///
    /// # Errors
    /// [`QueryError::Execution`] where options make no sense, the query is no metrics query, or values
    /// cannot be used as it asks; [`QueryError::Budget`] when it was canceled;
    /// [`QueryError::Source`].
    pub fn metrics(
        &self,
        source: &dyn Source,
        query: &Query,
        options: &MetricsOptions,
        cancel: &Cancel,
    ) -> Result<MetricsResult, QueryError> {
        let Root::Metrics(expr) = &query.root else {
            return Err(QueryError::Execution("not a metrics query".to_owned()));
        };
        let budget = self.budget(cancel);
        let intervals = checked(options, &budget)?;
        let mut run = Run {
            source,
            budget: &budget,
            intervals,
            exemplars: wanted_exemplars(query, options),
            stopped: None,
            inspected_spans: 0,
            inspected_traces: 0,
        };
        let series = match run.expr(expr)? {
            Operand::Series(series) => series,
            Operand::Number(_) => Vec::new(),
        };
        run.finish(series, options.series_max)
    }
}

/// The intervals of an answer.
fn checked(options: &MetricsOptions, budget: &Budget) -> Result<Intervals, QueryError> {
    let (start, end, step) = (options.start_ns, options.end_ns, options.step_ns);
    let wrong = |what: String| Err(QueryError::Execution(what));
    if end <= start {
        return wrong("end must be greater than start".to_owned());
    }
    if options.instant {
        return Ok(Intervals::instant(start, end));
    }
    if step <= 0 {
        return wrong("step must be greater than 0".to_owned());
    }
    let intervals = Intervals::range(start, end, step);
    let most = budget.limits().steps_max;
    if intervals.count() > most {
        let least = (i128::from(end) - i128::from(start)) / most.max(1) as i128;
        let least = i64::try_from(least).unwrap_or(i64::MAX);
        return wrong(format!(
            "step of {} is too small, minimum step for given range is {}",
            format_go_duration(step),
            format_go_duration(least)
        ));
    }
    Ok(intervals)
}

/// How many exemplars are wanted: what the query says, or else the options.
fn wanted_exemplars(query: &Query, options: &MetricsOptions) -> usize {
    let hint = query
        .hints
        .iter()
        .rev()
        .find(|(name, _)| name == "exemplars");
    let wanted = match hint.map(|(_, value)| value) {
        Some(Static::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(Static::Bool(false)) => 0,
        Some(Static::Bool(true)) if options.exemplars == 0 => EXEMPLARS_DEFAULT,
        _ => options.exemplars,
    };
    wanted.min(EXEMPLARS_MAX)
}

/// What an expression gives.
enum Operand {
    Number(f64),
    Series(Vec<Series>),
}

/// One evaluation.
struct Run<'a> {
    source: &'a dyn Source,
    budget: &'a Budget,
    intervals: Intervals,
    exemplars: usize,
    /// Why something is left out.
    stopped: Option<BudgetError>,
    inspected_spans: u64,
    inspected_traces: u64,
}

impl Run<'_> {
    fn expr(&mut self, expr: &MetricsExpr) -> Result<Operand, QueryError> {
        let operand = match &expr.term {
            MetricsTerm::Scalar(number, _) => Operand::Number(*number),
            MetricsTerm::Function(pipeline, function) => {
                Operand::Series(self.function(pipeline, function)?)
            }
            MetricsTerm::Binary { op, lhs, rhs, .. } => {
                let (left, right) = (self.expr(lhs)?, self.expr(rhs)?);
                binary(*op, left, right)
            }
        };
        let Operand::Series(mut series) = operand else {
            return Ok(operand);
        };
        for stage in &expr.then {
            stages::apply(stage, &mut series);
        }
        Ok(Operand::Series(series))
    }

    fn function(
        &mut self,
        pipeline: &Pipeline,
        function: &Metrics,
    ) -> Result<Vec<Series>, QueryError> {
        self.budget.check()?;
        if function.function == MetricsFunction::Compare {
            return self.compare(pipeline, function);
        }
        if function.by.len() > tally::BY_MAX {
            let what = format!(
                "metrics group by {} values not yet supported",
                function.by.len()
            );
            return Err(QueryError::Unsupported(what));
        }
        let observer = Observer::new(pipeline, function, self.intervals)?;
        let made = functions::made(function.function);
        let mut tally = Tally::new(made, &self.intervals, self.budget);
        let mut interner = Interner::default();
        let mut exemplars = Exemplars::new(self.exemplars, self.intervals);
        let is_histogram = function.function == MetricsFunction::HistogramOverTime;
        // The value of a count is that of its series.
        let unit = functions::measured(function).filter(|_| !is_histogram);
        let unit = unit.map(|_| functions::unit(function));
        let filter = exact::pipeline(pipeline);
        let (permits, effort) = self.effort();
        let groups_max = tally.groups_max();
        let request = filter.clone().and_then(|filter| {
            counted::request(function, filter, &self.intervals, (groups_max, effort))
        });
        let to = (&mut interner, &mut tally);
        let counted = match request {
            Some(request) => {
                let from = (self.source, function);
                let done = counted::count(from, request, &self.intervals, to);
                self.counted(done)?
            }
            None => false,
        };
        drop(permits);
        if let (Some(filter), true) = (filter, counted) {
            self.inspected_spans += tally.spans();
            if self.exemplars > 0 && tally.spans() > 0 {
                let to = (&mut exemplars, unit, is_histogram);
                let from = (&observer, &filter);
                let found = exemplars::fetch(self.source, from, self.budget, &mut interner, to);
                self.bounded(found)?;
            }
        } else {
            let request = Request::Rows(Rows {
                range: self.intervals.covers(),
                filter: lower::filter(pipeline),
                projection: observer.projection(&Exemplars::attributes())?,
            });
            self.batches(&request, &mut |batch| {
                let mut taking = Taking::new(&mut exemplars, unit);
                observer.batch(batch, &mut interner, &mut |seen| {
                    taking.see(batch, seen, is_histogram);
                    Ok(tally.add(seen.group, seen.interval, (1, seen.number))?)
                })
            })?;
        }
        let mut series = functions::series(function, &tally, &interner, &self.intervals);
        exemplars.attach(&mut series);
        Ok(series.into_iter().map(|(_, series)| series).collect())
    }

    fn compare(
        &mut self,
        pipeline: &Pipeline,
        function: &Metrics,
    ) -> Result<Vec<Series>, QueryError> {
        let comparison = Comparison::of(function)?;
        let attributes = Comparison::attributes(self.source, &self.intervals)?;
        let mut sides = Sides::new(&comparison, self.budget, &self.intervals);
        let (permits, effort) = self.effort();
        let request = exact::pipeline(pipeline)
            .and_then(|filter| comparison.request(filter, &attributes, &self.intervals, effort));
        if let Some(request) = request {
            let done = self.compared(request, &attributes, &mut sides);
            if self.counted(done)? {
                self.inspected_spans += sides.spans();
                return Ok(sides.series(&comparison));
            }
        }
        drop(permits);
        // Of the function only the spans are of interest.
        let observer = Observer::new(pipeline, function, self.intervals)?;
        let mut projection = observer.projection(&[])?;
        for column in comparison.projection(&attributes)? {
            if !projection.contains(&column) {
                projection.push(column);
            }
        }
        let request = Request::Rows(Rows {
            range: self.intervals.covers(),
            filter: lower::filter(pipeline),
            projection,
        });
        let mut interner = Interner::default();
        self.batches(&request, &mut |batch| {
            let selected = comparison.selected(batch)?;
            let mut rows = Vec::new();
            observer.batch(batch, &mut interner, &mut |seen| {
                let is_selected = selected.get(seen.row).copied().unwrap_or(false);
                rows.push((seen.row, seen.interval, is_selected));
                Ok(())
            })?;
            Ok(sides.add_batch(batch, &attributes, &rows)?)
        })?;
        Ok(sides.series(&comparison))
    }

    fn compared(
        &self,
        request: source::Comparison,
        attributes: &[Attribute],
        sides: &mut Sides<'_>,
    ) -> Result<(), QueryError> {
        for batch in self.source.scan(&Request::Comparison(request))? {
            if let Batch::Comparison(batch) = batch? {
                sides.add_counted(&batch, attributes, &self.intervals)?;
            }
        }
        Ok(())
    }

    /// What a store may use for a count, and the right to its threads.
    fn effort(&self) -> (Permits, Effort) {
        let most = self.budget.limits().threads_max.saturating_sub(1);
        let permits = Permits::take(most);
        let effort = Effort {
            threads: permits.count(),
            stop: self.budget.cancel().flag(),
        };
        (permits, effort)
    }

    /// Whether a store has counted; otherwise it does not count such things.
    fn counted(&mut self, done: Result<(), QueryError>) -> Result<bool, QueryError> {
        if let Err(QueryError::Source(error)) = &done
            && error.kind() == Kind::Unsupported
        {
            return Ok(false);
        }
        self.bounded(done)?;
        // What was stopped is not told as if it were all.
        self.budget.check().or_else(|error| match error {
            BudgetError::Canceled => Err(error),
            _ => Ok(()),
        })?;
        Ok(true)
    }

    /// Goes over batches of spans, as far as the query may.
    fn batches(
        &mut self,
        request: &Request,
        each: &mut dyn FnMut(&SpanBatch) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        for batch in self.source.scan(request)? {
            let Batch::Spans(batch) = batch? else {
                continue;
            };
            let rows = batch.starts.len() as u64;
            self.inspected_spans += rows;
            self.inspected_traces += batch.traces.len() as u64;
            let done = self.batch(&batch, rows, each);
            self.bounded(done)?;
            if self.stopped.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn batch(
        &self,
        batch: &SpanBatch,
        rows: u64,
        each: &mut dyn FnMut(&SpanBatch) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.budget.read_series(rows)?;
        self.budget.hold_samples(rows)?;
        let done = each(batch);
        self.budget.release_samples(rows);
        done
    }

    /// Goes on without what the query may not use.
    fn bounded(&mut self, done: Result<(), QueryError>) -> Result<(), QueryError> {
        match done {
            Err(QueryError::Budget(error)) if error != BudgetError::Canceled => {
                self.stopped.get_or_insert(error);
                Ok(())
            }
            done => done,
        }
    }

    fn finish(self, mut series: Vec<Series>, most: usize) -> Result<MetricsResult, QueryError> {
        // A query that was canceled gives nothing.
        if let Err(BudgetError::Canceled) = self.budget.check() {
            return Err(BudgetError::Canceled.into());
        }
        series.retain(|series| !series.is_empty());
        series.sort_by(|a, b| order(&a.labels, &b.labels));
        let mut messages: Vec<String> = self.stopped.iter().map(ToString::to_string).collect();
        if most > 0 && series.len() > most {
            series.truncate(most);
            messages.push(format!(
                "Response exceeds maximum series limit of {most}, a partial response is returned. \
                 Warning: the accuracy of each individual value is not guaranteed."
            ));
        }
        let series = series.into_iter().map(|one| told(one, &self.intervals));
        Ok(MetricsResult {
            series: series.collect(),
            is_partial: !messages.is_empty(),
            message: (!messages.is_empty()).then(|| messages.join("; ")),
            inspected_spans: self.inspected_spans,
            inspected_traces: self.inspected_traces,
        })
    }
}

fn binary(op: Op, left: Operand, right: Operand) -> Operand {
    let each = |mut series: Vec<Series>, compute: &dyn Fn(f64) -> f64| {
        let values = series.iter_mut().flat_map(|series| &mut series.values);
        values.for_each(|value| *value = compute(*value));
        series.retain(|series| !series.is_empty());
        Operand::Series(series)
    };
    match (left, right) {
        (Operand::Number(a), Operand::Number(b)) => Operand::Number(stages::compute(op, a, b)),
        (Operand::Series(a), Operand::Number(b)) => each(a, &|a| stages::compute(op, a, b)),
        (Operand::Number(a), Operand::Series(b)) => each(b, &|b| stages::compute(op, a, b)),
        (Operand::Series(a), Operand::Series(b)) => Operand::Series(stages::combine(op, &a, &b)),
    }
}

/// A series as answers tell it: without what is no number, and exemplars where the series has a
/// value.
fn told(series: Series, intervals: &Intervals) -> MetricSeries {
    let value = |at: usize| {
        series
            .values
            .get(at)
            .copied()
            .filter(|value| !value.is_nan())
    };
    let samples = (0..series.values.len())
        .filter_map(|at| Some((intervals.time_ms(at), value(at)?)))
        .collect();
    let mut exemplars: Vec<Exemplar> = Vec::new();
    for held in series.exemplars {
        let Some(value) = value(held.interval) else {
            continue;
        };
        let mut exemplar = held.exemplar;
        if exemplar.value.is_nan() {
            exemplar.value = value;
        }
        exemplars.push(exemplar);
    }
    exemplars.sort_by_key(|exemplar| exemplar.timestamp_ms);
    MetricSeries {
        labels: series.labels,
        samples,
        exemplars,
    }
}
