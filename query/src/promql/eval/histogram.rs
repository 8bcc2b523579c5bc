//! `histogram_quantile` over classic histograms, that is over series with the label `le`.

use std::collections::HashMap;

use trine_storage::Labels;

use super::steps::Steps;
use super::stream::{Collected, Vector};
use crate::promql::annotation::{self, Repair, Severity};
use crate::promql::error::QueryError;
use crate::vector::{ABSENT, METRIC_NAME, StepSeries, drop_name, is_absent};

/// The label with a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// Buckets whose counts differ by less than this part of them are taken as equal: sums of floats
/// differ so much by rounding.
const ROUNDING: f64 = 1e-12;

/// The buckets of one histogram.
#[derive(Debug)]
struct Histogram {
    labels: Labels,
    metric: String,
    buckets: Vec<(f64, Vec<f64>)>,
}

/// The quantile `qs` (one a step) of each histogram in `vector`.
pub(super) fn quantile<'q>(
    vector: Collected<'q>,
    qs: &[f64],
    steps: Steps,
    annotate: impl Fn(Severity, &str),
) -> Result<Vector<'q>, QueryError> {
    let (series, held) = vector.into_parts();
    let mut out = Vec::new();
    for histogram in group(series, &annotate) {
        let mut repair: Option<Repair> = None;
        let mut at_step = Vec::with_capacity(histogram.buckets.len());
        let values = steps
            .times()
            .zip(qs)
            .enumerate()
            .map(|(step, (time_ms, q))| {
                at_step.clear();
                at_step.extend(histogram.buckets.iter().filter_map(|(bound, counts)| {
                    let count = counts
                        .get(step)
                        .copied()
                        .filter(|count| !is_absent(*count))?;
                    Some(Bucket {
                        bound: *bound,
                        count,
                    })
                }));
                if at_step.is_empty() {
                    return ABSENT;
                }
                let (value, fixed) = bucket_quantile(*q, &mut at_step);
                if let Some(fixed) = fixed {
                    note(&mut repair, fixed, time_ms);
                }
                value
            });
        let values: Vec<f64> = values.collect();
        if let Some(repair) = repair {
            let message = annotation::repaired_buckets(&repair, &histogram.metric);
            annotate(Severity::Info, &message);
        }
        out.push(StepSeries::new(drop_name(&histogram.labels), values));
    }
    Ok(Collected::new(out, true, held).merged()?.into_vector())
}

/// Puts the buckets that belong together together, in the order in which the histograms appear.
fn group(series: Vec<StepSeries>, annotate: impl Fn(Severity, &str)) -> Vec<Histogram> {
    let mut histograms: Vec<Histogram> = Vec::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    for StepSeries { labels, values, .. } in series {
        let metric = labels.get(METRIC_NAME).unwrap_or("");
        let bound = labels.get(BUCKET_LABEL).unwrap_or("");
        let Ok(bound) = bound.parse::<f64>() else {
            let message = annotation::bad_bucket_label(bound, metric);
            annotate(Severity::Warning, &message);
            continue;
        };
        let rest = labels.with(BUCKET_LABEL, "");
        let next = histograms.len();
        let at = *by_labels.entry(rest.clone()).or_insert(next);
        match histograms.get_mut(at) {
            Some(histogram) => histogram.buckets.push((bound, values)),
            None => histograms.push(Histogram {
                labels: rest,
                metric: metric.to_owned(),
                buckets: vec![(bound, values)],
            }),
        }
    }
    for histogram in &mut histograms {
        histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    histograms
}

/// All observations up to a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// What was repaired at one step: the lowest and highest bound, and the largest difference.
type Fixed = (f64, f64, f64);

/// The quantile of buckets in order of their bounds, and whether their counts fell and had to be
/// repaired.
fn bucket_quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Fixed>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets
        .last()
        .is_none_or(|last| last.bound != f64::INFINITY)
    {
        return (f64::NAN, None);
    }
    buckets.dedup_by(|same, kept| {
        let equal = same.bound == kept.bound;
        if equal {
            kept.count += same.count;
        }
        equal
    });
    let fixed = make_monotonic(buckets);
    (interpolate(q, buckets), fixed)
}

fn interpolate(q: f64, buckets: &[Bucket]) -> f64 {
    let [lower @ .., below_last, last] = buckets else {
        return f64::NAN;
    };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let mut rank = q * last.count;
    let finite = lower.len() + 1;
    let found = buckets
        .iter()
        .take(finite)
        .position(|bucket| bucket.count >= rank);
    // In the last bucket there is no upper bound to interpolate to.
    let Some(at) = found else {
        return below_last.bound;
    };
    let Some(bucket) = buckets.get(at) else {
        return f64::NAN;
    };
    match at.checked_sub(1).and_then(|before| buckets.get(before)) {
        None if bucket.bound <= 0.0 => bucket.bound,
        None => bucket.bound * (rank / bucket.count),
        Some(before) => {
            rank -= before.count;
            before.bound + (bucket.bound - before.bound) * (rank / (bucket.count - before.count))
        }
    }
}

/// Raises every count to that of the bucket before.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Fixed> {
    let mut fixed: Option<Fixed> = None;
    let mut buckets = buckets.iter_mut();
    let mut highest = buckets.next()?.count;
    for bucket in buckets {
        if bucket.count == highest {
            continue;
        }
        if nearly_equal(highest, bucket.count) {
            bucket.count = highest;
        } else if bucket.count < highest {
            let difference = highest - bucket.count;
            let (low, high, most) = fixed.unwrap_or((bucket.bound, bucket.bound, difference));
            fixed = Some((
                low.min(bucket.bound),
                high.max(bucket.bound),
                most.max(difference),
            ));
            bucket.count = highest;
        } else {
            highest = bucket.count;
        }
    }
    fixed
}

fn nearly_equal(a: f64, b: f64) -> bool {
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < ROUNDING * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < ROUNDING
}

fn note(repair: &mut Option<Repair>, (low, high, difference): Fixed, time_ms: i64) {
    let all = repair.get_or_insert(Repair {
        bucket_min: low,
        bucket_max: high,
        difference_max: difference,
        samples: 0,
        first_ms: time_ms,
        last_ms: time_ms,
    });
    all.bucket_min = all.bucket_min.min(low);
    all.bucket_max = all.bucket_max.max(high);
    all.difference_max = all.difference_max.max(difference);
    all.samples += 1;
    all.last_ms = time_ms;
}
