//! Functions of histograms: native ones, and classic ones, which are series with the label `le`.

mod classic;

use std::collections::HashMap;

use trine_storage::Labels;

use self::classic::Classic;
use super::Evaluation;
use super::expression::{string, unchecked};
use super::steps::Steps;
use super::stream::{Collected, Held, Vector};
use crate::promql::annotation::{self, Severity};
use crate::promql::ast::{Expr, ValueType};
use crate::promql::error::QueryError;
use crate::text::{Span, format_float};
use crate::vector::histogram::Estimate;
use crate::vector::{ABSENT, Histogram, METRIC_NAME, StepSeries};

/// The label with the upper bound of a classic bucket.
const BUCKET_LABEL: &str = "le";

/// The histograms of a vector.
struct Found<'q> {
    classic: Vec<Classic>,
    native: Vec<StepSeries>,
    held: Held<'q>,
}

impl<'q> Evaluation<'q> {
    /// A number from each native histogram.
    pub(super) fn histogram_value(
        &'q self,
        of: fn(&Histogram) -> f64,
        argument: &'q Expr,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let mut vector = self.vector(argument, steps)?;
        let values = move |series: Result<StepSeries, QueryError>| match series {
            Ok(series) => {
                let column = series.histograms.as_ref()?.iter();
                let values = column.map(|entry| entry.as_ref().map_or(ABSENT, |h| of(h)));
                let values = values.collect();
                Some(Ok(StepSeries {
                    values,
                    histograms: None,
                    ..series
                }))
            }
            Err(error) => Some(Err(error)),
        };
        vector.series = Box::new(vector.series.filter_map(values));
        self.without_names(vector)
    }

    pub(super) fn histogram_quantile(
        &'q self,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let [quantile, vector] = arguments else {
            return Err(unchecked(ValueType::InstantVector));
        };
        let qs = self.quantiles(quantile, steps)?;
        let found = self.histograms(vector, steps)?;
        let series = self.quantile_of(&found, &qs, vector.span, steps);
        self.without_names(Collected::new(series, false, found.held).into_vector())
    }

    /// `histogram_quantiles(vector, "label", q, ..)`
    pub(super) fn histogram_quantiles(
        &'q self,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let [vector, label, quantiles @ ..] = arguments else {
            return Err(unchecked(ValueType::InstantVector));
        };
        let label = string(label);
        if label.is_empty() {
            let text = format!("invalid label name in histogram_quantiles(): {label}");
            return Err(QueryError::Execution(text));
        }
        let found = self.histograms(vector, steps)?;
        let mut out = Vec::new();
        for quantile in quantiles {
            let qs = self.quantiles(quantile, steps)?;
            for series in self.quantile_of(&found, &qs, vector.span, steps) {
                split_by_label(&series, label, &qs, &mut out);
            }
        }
        self.without_names(Collected::new(out, false, found.held).into_vector())
    }

    /// `histogram_fraction(lower, upper, vector)`
    pub(super) fn histogram_fraction(
        &'q self,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let [lower, upper, vector] = arguments else {
            return Err(unchecked(ValueType::InstantVector));
        };
        let (lower, upper) = (self.scalar(lower, steps)?, self.scalar(upper, steps)?);
        let found = self.histograms(vector, steps)?;
        let bounds = |step: usize| {
            let at = |bounds: &[f64]| bounds.get(step).copied().unwrap_or(f64::NAN);
            (at(&lower), at(&upper))
        };
        let mut out = Vec::new();
        for classic in &found.classic {
            let values = classic.fractions(steps.count(), bounds);
            out.push(StepSeries::new(classic.labels.clone(), values));
        }
        for native in &found.native {
            let metric = native.labels.get(METRIC_NAME).unwrap_or("");
            let values = estimates(native, |histogram, step| {
                let (lower, upper) = bounds(step);
                let estimate = histogram.fraction(lower, upper);
                if estimate.has_nan {
                    let text = annotation::fraction_of_nan(metric);
                    self.annotations.add(Severity::Info, vector.span, &text);
                }
                estimate
            });
            out.push(StepSeries::new(native.labels.clone(), values));
        }
        self.without_names(Collected::new(out, false, found.held).into_vector())
    }

    /// The quantile to compute at each step.
    fn quantiles(&'q self, expr: &'q Expr, steps: Steps) -> Result<Vec<f64>, QueryError> {
        let qs = self.scalar(expr, steps)?;
        for q in qs.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            let text = annotation::invalid_quantile(*q);
            self.annotations.add(Severity::Warning, expr.span, &text);
        }
        Ok(qs)
    }

    /// The quantile `qs` (one a step) of each histogram.
    fn quantile_of(
        &self,
        found: &Found<'_>,
        qs: &[f64],
        span: Span,
        steps: Steps,
    ) -> Vec<StepSeries> {
        let mut out = Vec::with_capacity(found.classic.len() + found.native.len());
        for classic in &found.classic {
            let (values, repair) = classic.quantiles(qs, steps);
            if let Some(repair) = repair {
                let text = annotation::repaired_buckets(&repair, &classic.metric);
                self.annotations.add(Severity::Info, span, &text);
            }
            out.push(StepSeries::new(classic.labels.clone(), values));
        }
        for native in &found.native {
            let metric = native.labels.get(METRIC_NAME).unwrap_or("");
            let values = estimates(native, |histogram, step| {
                let estimate = histogram.quantile(qs.get(step).copied().unwrap_or(f64::NAN));
                if estimate.has_nan {
                    let text = annotation::quantile_of_nan(estimate.value, metric);
                    self.annotations.add(Severity::Info, span, &text);
                }
                estimate
            });
            out.push(StepSeries::new(native.labels.clone(), values));
        }
        out
    }

    /// The histograms of a vector. Where a step has a native one and the buckets of a classic one
    /// with the same labels, it has none.
    fn histograms(&'q self, argument: &'q Expr, steps: Steps) -> Result<Found<'q>, QueryError> {
        let vector = self.vector(argument, steps)?.collect(self.budget)?;
        let (series, held) = vector.into_parts();
        let warn = |text: &str| {
            self.annotations.add(Severity::Warning, argument.span, text);
        };
        let mut native = Vec::new();
        let mut with_floats = Vec::with_capacity(series.len());
        for one in series {
            if one.histograms.is_none() {
                with_floats.push(one);
                continue;
            }
            if one
                .values
                .iter()
                .any(|value| !crate::vector::is_absent(*value))
            {
                with_floats.push(one.clone().without_histograms());
            }
            native.push(one);
        }
        let mut classic = classic::group(with_floats, warn);
        if !native.is_empty() && !classic.is_empty() {
            let mut by_labels: HashMap<Labels, &mut Classic> = HashMap::new();
            for one in &mut classic {
                by_labels.insert(one.labels.clone(), one);
            }
            for one in &mut native {
                let labels = one.labels.with(BUCKET_LABEL, "");
                if let Some(other) = by_labels.get_mut(&labels)
                    && other.clear_where_both(one)
                {
                    let metric = one.labels.get(METRIC_NAME).unwrap_or("");
                    warn(&annotation::mixed_classic_and_native(metric));
                }
            }
        }
        Ok(Found {
            classic,
            native,
            held,
        })
    }
}

/// A number from the histogram at each step that has one.
fn estimates(series: &StepSeries, of: impl Fn(&Histogram, usize) -> Estimate) -> Vec<f64> {
    let column = series.histograms.iter().flatten().enumerate();
    column
        .map(|(step, entry)| entry.as_ref().map_or(ABSENT, |h| of(h, step).value))
        .collect()
}

/// Gives the series a label with the quantile, which may be another one at each step.
fn split_by_label(series: &StepSeries, label: &str, qs: &[f64], out: &mut Vec<StepSeries>) {
    let mut start = 0;
    while let Some(q) = qs.get(start) {
        let rest = qs.get(start..).unwrap_or_default();
        let same = rest
            .iter()
            .take_while(|other| other.to_bits() == q.to_bits());
        let end = start + same.count();
        let labels = series.labels.with(label, &open_metrics(*q));
        let mut values = vec![ABSENT; series.values.len()];
        if let (Some(to), Some(from)) = (values.get_mut(start..end), series.values.get(start..end))
        {
            to.copy_from_slice(from);
        }
        let part = StepSeries::new(labels, values);
        if part.has_values() {
            out.push(part);
        }
        start = end;
    }
}

/// A float as OpenMetrics writes it: whole numbers have a fraction too.
fn open_metrics(value: f64) -> String {
    let text = format_float(value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text + ".0"
    } else {
        text
    }
}
