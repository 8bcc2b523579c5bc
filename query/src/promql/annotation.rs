//! Warnings and infos that a query collects while it is evaluated, in Prometheus' words. Each text
//! ends with the position that it is about.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::text::{Span, format_general, quote};

/// The most hashes of texts beyond the kept ones that are remembered to count each text once.
const COUNTED_MAX: usize = 100_000;

/// What a query collected.
#[derive(Debug)]
pub(super) struct Annotations<'q> {
    text: &'q str,
    /// The most texts of each kind that are kept; more are only counted.
    kept_max: usize,
    lists: Mutex<[List; 2]>,
}

/// How grave an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The result may be wrong.
    Warning,
    /// The result may surprise.
    Info,
}

#[derive(Debug, Default)]
struct List {
    texts: Vec<String>,
    omitted: HashSet<String>,
}

impl<'q> Annotations<'q> {
    /// Collects annotations for the query `text`.
    pub(super) fn new(text: &'q str, kept_max: usize) -> Self {
        Self {
            text,
            kept_max,
            lists: Mutex::default(),
        }
    }

    /// Adds `message` about what stands at `span`, once.
    pub(super) fn add(&self, severity: Severity, span: Span, message: &str) {
        let (index, prefix) = match severity {
            Severity::Warning => (0, "PromQL warning"),
            Severity::Info => (1, "PromQL info"),
        };
        let text = format!("{prefix}: {message} ({})", span.position_in(self.text));
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let list = &mut lists[index];
        if list.texts.contains(&text) {
            return;
        }
        if list.texts.len() < self.kept_max {
            list.texts.push(text);
        } else if list.omitted.len() < COUNTED_MAX {
            list.omitted.insert(text);
        }
    }

    /// The warnings and the infos. Where more than the bound were met, a last text counts them.
    pub(super) fn finish(self) -> (Vec<String>, Vec<String>) {
        let lists = self
            .lists
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let [warnings, infos] = lists;
        (warnings.finish("warning"), infos.finish("info"))
    }
}

impl List {
    fn finish(self, kind: &str) -> Vec<String> {
        let mut texts = self.texts;
        if !self.omitted.is_empty() {
            texts.push(format!(
                "{} more {kind} annotations omitted",
                self.omitted.len()
            ));
        }
        texts
    }
}

/// ` for metric name "x"`, or nothing where the name is not known.
fn for_metric(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" for metric name {}", quote(name))
    }
}

pub(super) fn invalid_quantile(q: f64) -> String {
    format!(
        "quantile value should be between 0 and 1, got {}",
        format_general(q)
    )
}

pub(super) fn invalid_ratio(ratio: f64) -> String {
    format!(
        "ratio value should be between -1 and 1, got {}, capping to {}",
        format_general(ratio),
        format_general(ratio.clamp(-1.0, 1.0))
    )
}

pub(super) fn bad_bucket_label(value: &str, metric: &str) -> String {
    format!(
        "bucket label \"le\" is missing or has a malformed value of {}{}",
        quote(value),
        for_metric(metric)
    )
}

pub(super) fn overlapping_start(metric: &str) -> String {
    let text = "sample has start time that overlaps with previous sample timestamp";
    if metric.is_empty() {
        return text.to_owned();
    }
    format!("{text} for metric {}", quote(metric))
}

pub(super) fn not_a_counter(metric: &str) -> String {
    format!(
        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
        quote(metric)
    )
}

/// What repairing falling buckets did, over all steps of one histogram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repair {
    /// The lowest bound of a repaired bucket.
    pub(super) bucket_min: f64,
    /// The highest bound of a repaired bucket.
    pub(super) bucket_max: f64,
    /// By how much a bucket had fallen at most.
    pub(super) difference_max: f64,
    /// At how many steps.
    pub(super) samples: u64,
    /// The first of these steps, in milliseconds since 1970.
    pub(super) first_ms: i64,
    /// The last of these steps.
    pub(super) last_ms: i64,
}

pub(super) fn repaired_buckets(repair: &Repair, metric: &str) -> String {
    let time = super::eval::date::rfc3339;
    format!(
        "input to histogram_quantile needed to be fixed for monotonicity (see \
         https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile), \
         from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}{}",
        format_general(repair.bucket_min),
        format_general(repair.bucket_max),
        two_digits(repair.difference_max),
        repair.samples,
        time(repair.first_ms),
        time(repair.last_ms),
        for_metric(metric)
    )
}

/// Go's `%.2g`.
fn two_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if rounded != 0.0 && rounded.is_finite() && !(1e-4..100.0).contains(&rounded.abs()) {
        crate::text::format_exponent(rounded)
    } else {
        crate::text::format_float(rounded)
    }
}

pub(super) fn mixed_kinds(metric: &str) -> String {
    let metric = quote(metric);
    format!("encountered a mix of histograms and floats for metric name {metric}")
}

pub(super) const MIXED_KINDS_IN_AGGREGATION: &str =
    "encountered a mix of histograms and floats for aggregation";

pub(super) fn mixed_schemas(metric: &str) -> String {
    format!(
        "vector contains a mix of histograms with exponential and custom buckets schemas for metric \
         name {}",
        quote(metric)
    )
}

pub(super) fn mixed_classic_and_native(metric: &str) -> String {
    let metric = for_metric(metric);
    format!("vector contains a mix of classic and native histograms{metric}")
}

pub(super) fn native_not_a_counter(metric: &str) -> String {
    format!(
        "this native histogram metric is not a counter: {}",
        quote(metric)
    )
}

pub(super) fn native_not_a_gauge(metric: &str) -> String {
    format!(
        "this native histogram metric is not a gauge: {}",
        quote(metric)
    )
}

pub(super) fn ignored_in_range(metric: &str) -> String {
    format!(
        "ignored histograms in a range containing both floats and histograms for metric name {}",
        quote(metric)
    )
}

pub(super) fn ignored_in_aggregation(operator: &str) -> String {
    format!("ignored histogram in {operator} aggregation")
}

pub(super) fn incompatible_types(left: &str, operator: &str, right: &str) -> String {
    format!(
        "incompatible sample types encountered for binary operator {}: {left} {operator} {right}",
        quote(operator)
    )
}

pub(super) fn incompatible_buckets(operator: &str) -> String {
    format!("incompatible bucket layout encountered for binary operator {operator}")
}

pub(super) fn quantile_of_nan(result: f64, metric: &str) -> String {
    let result = if result.is_nan() {
        "NaN"
    } else {
        "skewed higher"
    };
    let metric = for_metric(metric);
    format!("input to histogram_quantile has NaN observations, result is {result}{metric}")
}

pub(super) fn fraction_of_nan(metric: &str) -> String {
    format!(
        "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
        for_metric(metric)
    )
}

/// What was computed when histograms did not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Computing {
    Addition,
    Subtraction,
    Aggregation,
}

impl Computing {
    fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

pub(super) fn reconciled(computing: Computing) -> String {
    let what = computing.name();
    format!("mismatched custom buckets were reconciled during {what}")
}

pub(super) fn colliding_resets(computing: Computing) -> String {
    let what = computing.name();
    format!("conflicting counter resets during histogram {what}")
}

pub(super) const SORT_IN_RANGE: &str =
    "sort is ineffective for range queries since results are always ordered by labels";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_counted_beyond_the_bound() {
        let annotations = Annotations::new("rate(x)", 2);
        for message in ["a", "b", "a", "c", "d", "c"] {
            annotations.add(Severity::Warning, Span::new(5, 6), message);
        }
        let (warnings, infos) = annotations.finish();
        assert_eq!(
            warnings,
            [
                "PromQL warning: a (1:6)",
                "PromQL warning: b (1:6)",
                "2 more warning annotations omitted"
            ]
        );
        assert!(infos.is_empty());
    }

    #[test]
    fn two_significant_digits() {
        for (value, expect) in [
            (0.125, "0.12"),
            (3.0, "3"),
            (99.6, "1e+02"),
            (123.0, "1.2e+02"),
        ] {
            assert_eq!(two_digits(value), expect);
        }
    }
}
