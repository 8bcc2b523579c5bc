//! Function calls that yield vectors.

use trine_storage::{Labels, MatchOp, Matcher};

use super::Evaluation;
use super::expression::unchecked;
use super::histogram_range::HistogramRange;
use super::range_functions::{self, Context};
use super::rate;
use super::selector::{Places, Raw};
use super::sliding;
use super::steps::Steps;
use super::stream::{Collected, Vector};
use super::{date, label_functions};
use crate::promql::annotation::{self, Severity};
use crate::promql::ast::{Expr, ExprKind, ValueType};
use crate::promql::error::QueryError;
use crate::promql::functions::{Action, Clamp, Function, RangeOp, SortOrder};
use crate::vector::{ABSENT, METRIC_NAME, StepSeries, is_absent};

/// The endings that a counter's name should have.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

impl<'q> Evaluation<'q> {
    pub(super) fn call(
        &'q self,
        function: &'static Function,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let first = || {
            arguments
                .first()
                .ok_or_else(|| unchecked(ValueType::InstantVector))
        };
        match function.action {
            Action::Range(op) => self.range_function(function.name, op, arguments, steps),
            Action::Math(apply) => {
                self.without_names(self.vector(first()?, steps)?.map_values(apply))
            }
            Action::Date(part) => {
                let input = match arguments.first() {
                    Some(vector) => self.without_names(self.vector(vector, steps)?)?,
                    None => now(steps),
                };
                Ok(input.map_values(move |seconds| date::part(part, seconds)))
            }
            Action::Absent => self.absent(first()?, steps),
            Action::AbsentOverTime => self.absent_over_time(first()?, steps),
            Action::Clamp(clamp) => self.clamp(clamp, arguments, steps),
            Action::Round => self.round(arguments, steps),
            Action::Vector => {
                let values = self.scalar(first()?, steps)?;
                Ok(Vector::of(vec![StepSeries::new(Labels::empty(), values)]))
            }
            Action::Timestamp => self.timestamp(first()?, steps),
            Action::Sort(order) => self.sort(order, first()?, steps),
            Action::LabelReplace => {
                let vector = self.vector(first()?, steps)?.collect(self.budget)?;
                label_functions::replace(vector, arguments)
            }
            Action::LabelJoin => {
                let vector = self.vector(first()?, steps)?.collect(self.budget)?;
                label_functions::join(vector, arguments)
            }
            Action::HistogramQuantile => self.histogram_quantile(arguments, steps),
            Action::HistogramQuantiles => self.histogram_quantiles(arguments, steps),
            Action::HistogramFraction => self.histogram_fraction(arguments, steps),
            Action::HistogramValue(of) => self.histogram_value(of, first()?, steps),
            Action::StartTimestamp => self.start_timestamp(first()?, steps),
            Action::SortByLabel(order) => self.sort_by_label(order, arguments, steps),
            Action::Info => self.info(arguments, steps),
            Action::Scalar
            | Action::Time
            | Action::Pi
            | Action::QueryTime(_)
            | Action::Extreme(_) => Err(unchecked(ValueType::InstantVector)),
        }
    }

    fn range_function(
        &'q self,
        name: &'static str,
        op: RangeOp,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let mut range = None;
        let mut parameters = Vec::new();
        for argument in arguments {
            match argument.value_type() {
                ValueType::RangeVector => range = Some(argument),
                _ => parameters.push((argument, self.scalar(argument, steps)?)),
            }
        }
        let range = range.ok_or_else(|| unchecked(ValueType::RangeVector))?;
        if let ExprKind::Range {
            selector, range_ms, ..
        } = &range.unwrapped().kind
            && let Some(extended) = selector.modifiers.extended
        {
            let (function, range) = ((name, op), (range, selector));
            return self.extended_function(function, range, (extended, *range_ms), steps);
        }
        let compute = move |raw: &mut Raw, places: Places, range_ms: i64| {
            if op == RangeOp::Smoothing {
                check_factors(&parameters)?;
            }
            if op.counts_resets() {
                self.warn_of_overlap(range, raw);
            }
            let (windows, labels) = ((places, range_ms), raw.labels.clone());
            let series = if let Some(histograms) = &raw.histograms {
                let context = Context::new(op, raw);
                let mut functions = HistogramRange::new(op, histograms, context);
                let (values, column) = functions.slide(raw, windows, &parameters, steps);
                self.note_range(range.span, &raw.labels, functions.notes());
                StepSeries::with_histograms(labels, values, column)
            } else {
                let values = slide(op, raw, windows, &parameters, steps);
                StepSeries::new(labels, values)
            };
            let series = StepSeries {
                drop_name: raw.drop_name,
                ..series
            };
            if !series.has_values() {
                return Ok(None);
            }
            if matches!(op, RangeOp::Rate | RangeOp::Increase) {
                self.warn_of_gauge(range, &series);
            }
            if let (RangeOp::Quantile, Some((expr, qs))) = (op, parameters.first()) {
                self.warn_of_quantiles(expr, qs, &series);
            }
            Ok(Some(series))
        };
        let vector = self.over_ranges(range, steps, Some(name), compute)?;
        if op.keeps_name() {
            Ok(vector)
        } else {
            self.without_names(vector)
        }
    }

    fn warn_of_overlap(&self, argument: &Expr, raw: &Raw) {
        let overlap = |times: &[i64], starts: Option<&Vec<i64>>| {
            starts.is_some_and(|starts| rate::starts_overlap(times, starts))
        };
        let of_histograms = |all: &super::selector::Histograms| {
            overlap(&all.timestamps, all.start_timestamps.as_ref())
        };
        if overlap(&raw.timestamps, raw.start_timestamps.as_ref())
            || raw.histograms.as_deref().is_some_and(of_histograms)
        {
            let name = raw.labels.get(METRIC_NAME).unwrap_or("");
            let message = annotation::overlapping_start(name);
            self.annotations
                .add(Severity::Warning, argument.span, &message);
        }
    }

    pub(super) fn warn_of_gauge(&self, argument: &Expr, series: &StepSeries) {
        if let Some(name) = series.labels.get(METRIC_NAME)
            && series.values.iter().any(|value| !is_absent(*value))
            && !COUNTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        {
            let message = annotation::not_a_counter(name);
            self.annotations
                .add(Severity::Info, argument.span, &message);
        }
    }

    fn warn_of_quantiles(&self, argument: &Expr, qs: &[f64], series: &StepSeries) {
        let used = qs
            .iter()
            .zip(&series.values)
            .filter(|(_, value)| !is_absent(**value));
        for (q, _) in used.filter(|(q, _)| !(0.0..=1.0).contains(*q)) {
            let message = annotation::invalid_quantile(*q);
            self.annotations
                .add(Severity::Warning, argument.span, &message);
        }
    }

    fn absent(&'q self, argument: &'q Expr, steps: Steps) -> Result<Vector<'q>, QueryError> {
        let mut values = vec![1.0; steps.count()];
        for series in self.vector(argument, steps)?.series {
            let series = series?;
            for (step, missing) in values.iter_mut().enumerate() {
                if series.has(step) {
                    *missing = ABSENT;
                }
            }
        }
        Ok(missing(argument, values))
    }

    fn absent_over_time(
        &'q self,
        argument: &'q Expr,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let mut values = vec![1.0; steps.count()];
        let ranges = self.ranges(argument, steps, Some("absent_over_time"))?;
        for raw in ranges.series {
            let raw = raw?;
            for (missing, window) in values
                .iter_mut()
                .zip(raw.windows(ranges.places, ranges.range_ms))
            {
                if window.len() > 0 {
                    *missing = ABSENT;
                }
            }
        }
        Ok(missing(argument, values))
    }

    fn clamp(
        &'q self,
        clamp: Clamp,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let bound = |at: usize| {
            arguments
                .get(at)
                .map(|bound| self.scalar(bound, steps))
                .transpose()
        };
        let unbounded = |value: f64| vec![value; steps.count()];
        let (low, high) = match clamp {
            Clamp::Both => (bound(1)?, bound(2)?),
            Clamp::Min => (bound(1)?, None),
            Clamp::Max => (None, bound(1)?),
        };
        let low = low.unwrap_or_else(|| unbounded(f64::NEG_INFINITY));
        let high = high.unwrap_or_else(|| unbounded(f64::INFINITY));
        let argument = arguments
            .first()
            .ok_or_else(|| unchecked(ValueType::InstantVector))?;
        let vector = self.vector(argument, steps)?.map(move |mut series| {
            series.histograms = None;
            for ((value, low), high) in series.values.iter_mut().zip(&low).zip(&high) {
                if low > high {
                    *value = ABSENT;
                } else if !is_absent(*value) {
                    *value = clamped(*value, *low, *high);
                }
            }
            series
        });
        self.without_names(vector)
    }

    fn round(&'q self, arguments: &'q [Expr], steps: Steps) -> Result<Vector<'q>, QueryError> {
        let to = match arguments.get(1) {
            Some(to) => self.scalar(to, steps)?,
            None => vec![1.0; steps.count()],
        };
        let argument = arguments
            .first()
            .ok_or_else(|| unchecked(ValueType::InstantVector))?;
        let vector = self.vector(argument, steps)?.map(move |mut series| {
            series.histograms = None;
            for (value, to) in series.values.iter_mut().zip(&to) {
                if !is_absent(*value) {
                    // The inverse keeps decimal steps such as 0.1 exact where they can be.
                    let inverse = 1.0 / to;
                    *value = (*value * inverse + 0.5).floor() / inverse;
                }
            }
            series
        });
        self.without_names(vector)
    }

    fn timestamp(&'q self, argument: &'q Expr, steps: Steps) -> Result<Vector<'q>, QueryError> {
        if let ExprKind::Selector(selector) = &argument.unwrapped().kind {
            return self.without_names(self.timestamps(selector, steps)?);
        }
        // What was computed has the time of its step.
        let vector = self.vector(argument, steps)?.map(move |mut series| {
            for (step, ms) in steps.times().enumerate() {
                if series.has(step)
                    && let Some(value) = series.values.get_mut(step)
                {
                    *value = ms as f64 / 1000.0;
                }
            }
            series.without_histograms()
        });
        self.without_names(vector)
    }

    /// When the counter of each sample began; only samples themselves know it.
    fn start_timestamp(
        &'q self,
        argument: &'q Expr,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        match &argument.unwrapped().kind {
            ExprKind::Selector(selector) => {
                self.without_names(self.start_timestamps(selector, steps)?)
            }
            _ => {
                self.vector(argument, steps)?.collect(self.budget)?;
                Ok(Vector::empty())
            }
        }
    }

    fn sort(
        &'q self,
        order: SortOrder,
        argument: &'q Expr,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let key = |series: &StepSeries| series.values.first().copied().unwrap_or(f64::NAN);
        self.sorted(argument, steps, |series| {
            // Histograms have no order.
            series.retain(|series| series.histogram(0).is_none());
            series.sort_by(|a, b| {
                let (a, b) = (key(a), key(b));
                let by_value = match order {
                    SortOrder::Ascending => a.partial_cmp(&b),
                    SortOrder::Descending => b.partial_cmp(&a),
                };
                // NaN is last in both orders.
                by_value.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            });
        })
    }

    /// The series of an instant query as `sort` leaves them; in a range query, whose result has an
    /// order of its own, as they are, with a warning.
    pub(super) fn sorted(
        &'q self,
        argument: &'q Expr,
        steps: Steps,
        sort: impl FnOnce(&mut Vec<StepSeries>),
    ) -> Result<Vector<'q>, QueryError> {
        let vector = self.vector(argument, steps)?;
        if steps.count() > 1 {
            let message = annotation::SORT_IN_RANGE;
            self.annotations
                .add(Severity::Warning, argument.span, message);
            return Ok(vector);
        }
        let collected = vector.collect(self.budget)?;
        let one_name = collected.one_name();
        let (mut series, held) = collected.into_parts();
        sort(&mut series);
        Ok(Collected::new(series, one_name, held).into_vector())
    }
}

/// The values of a function over the windows of one series.
fn slide(
    op: RangeOp,
    raw: &Raw,
    (places, range_ms): (Places, i64),
    parameters: &[(&Expr, Vec<f64>)],
    steps: Steps,
) -> Vec<f64> {
    if let Some(values) = sliding::slide(op, raw, places, range_ms) {
        return values;
    }
    let mut context = Context::new(op, raw);
    let windows = raw.windows(places, range_ms).zip(steps.times()).enumerate();
    // All windows are the same one where the place is fixed.
    let once = places.fixed() && parameters.is_empty();
    let windows = windows.take(if once { 1 } else { places.count });
    let found = windows.map(|(step, (window, now_ms))| {
        let parameters = parameters_at(parameters, step);
        range_functions::apply(op, &window, parameters, now_ms, &mut context)
    });
    let mut values: Vec<f64> = found.collect();
    if once {
        let value = values.first().copied().unwrap_or(ABSENT);
        values.resize(places.count, value);
    }
    values
}

/// The scalar arguments of a function at a step.
pub(super) fn parameters_at(parameters: &[(&Expr, Vec<f64>)], step: usize) -> [f64; 2] {
    [0, 1].map(|at| {
        let values = parameters.get(at).and_then(|(_, values)| values.get(step));
        values.copied().unwrap_or(f64::NAN)
    })
}

/// The factors of `double_exponential_smoothing` lie between 0 and 1.
fn check_factors(parameters: &[(&Expr, Vec<f64>)]) -> Result<(), QueryError> {
    let texts = [("smoothing", "sf"), ("trend", "tf")];
    for ((what, short), (_, values)) in texts.iter().zip(parameters) {
        if let Some(bad) = values.iter().find(|x| **x <= 0.0 || **x >= 1.0) {
            let got = crate::text::format_fixed(*bad, 6);
            return Err(QueryError::Execution(format!(
                "invalid {what} factor. Expected: 0 < {short} < 1, got: {got}"
            )));
        }
    }
    Ok(())
}

/// `vector(time())`
fn now<'q>(steps: Steps) -> Vector<'q> {
    let values = steps.times().map(|ms| ms as f64 / 1000.0).collect();
    Vector::of(vec![StepSeries::new(Labels::empty(), values)])
}

/// NaN stays NaN, and so does everything where a bound is NaN.
fn clamped(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() || low.is_nan() || high.is_nan() {
        return f64::NAN;
    }
    value.min(high).max(low)
}

/// The result of `absent`: the labels that the argument's selector asks for.
fn missing<'q>(argument: &Expr, values: Vec<f64>) -> Vector<'q> {
    let matchers: &[Matcher] = match &argument.unwrapped().kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => &selector.matchers,
        _ => &[],
    };
    let labels = matchers
        .iter()
        .filter(|m| m.name() != METRIC_NAME && m.op() == MatchOp::Equal)
        .filter(|m| {
            matchers
                .iter()
                .filter(|other| other.name() == m.name())
                .count()
                == 1
        })
        .fold(Labels::empty(), |labels, m| {
            labels.with(m.name(), m.value())
        });
    let series = StepSeries::new(labels, values);
    if series.has_values() {
        Vector::of(vec![series])
    } else {
        Vector::empty()
    }
}
