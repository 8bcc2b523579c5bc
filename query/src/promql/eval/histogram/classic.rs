//! Classic histograms: series with the label `le`, each with the count of observations up to a
//! bound.

use std::collections::HashMap;

use trine_storage::Labels;

use super::BUCKET_LABEL;
use crate::promql::annotation::{self, Repair};
use crate::promql::eval::steps::Steps;
use crate::vector::{ABSENT, METRIC_NAME, StepSeries, is_absent};

/// Buckets whose counts differ by less than this part of them are taken as equal: sums of floats
/// differ so much by rounding.
const ROUNDING: f64 = 1e-12;

/// The buckets of one histogram.
#[derive(Debug)]
pub(super) struct Classic {
    /// Without that of the bounds.
    pub(super) labels: Labels,
    pub(super) metric: String,
    /// By bound, with one count a step.
    buckets: Vec<(f64, Vec<f64>)>,
}

impl Classic {
    /// The quantile `qs` (one a step) at each step, and what had to be repaired for it.
    pub(super) fn quantiles(&self, qs: &[f64], steps: Steps) -> (Vec<f64>, Option<Repair>) {
        let mut repair: Option<Repair> = None;
        let mut at_step = Vec::with_capacity(self.buckets.len());
        let steps = steps.times().zip(qs).enumerate();
        let values = steps.map(|(step, (time_ms, q))| {
            if !self.at(step, &mut at_step) {
                return ABSENT;
            }
            let (value, fixed) = bucket_quantile(*q, &mut at_step);
            if let Some(fixed) = fixed {
                note(&mut repair, fixed, time_ms);
            }
            value
        });
        (values.collect(), repair)
    }

    /// The part of the observations between two bounds at each step.
    pub(super) fn fractions(&self, steps: usize, bounds: impl Fn(usize) -> (f64, f64)) -> Vec<f64> {
        let mut at_step = Vec::with_capacity(self.buckets.len());
        let value = |step| {
            if self.at(step, &mut at_step) {
                bucket_fraction(bounds(step), &mut at_step)
            } else {
                ABSENT
            }
        };
        (0..steps).map(value).collect()
    }

    /// Puts the buckets of a step into `out`; whether there are any.
    fn at(&self, step: usize, out: &mut Vec<Bucket>) -> bool {
        out.clear();
        out.extend(self.buckets.iter().filter_map(|(bound, counts)| {
            let count = counts.get(step).copied();
            let count = count.filter(|count| !is_absent(*count))?;
            Some(Bucket {
                bound: *bound,
                count,
            })
        }));
        !out.is_empty()
    }

    /// Takes away what this one and a series of native histograms have at the same steps; whether
    /// there is such a step.
    pub(super) fn clear_where_both(&mut self, native: &mut StepSeries) -> bool {
        let mut some = false;
        for step in 0..native.values.len() {
            let has = |counts: &[f64]| counts.get(step).is_some_and(|count| !is_absent(*count));
            if native.histogram(step).is_none()
                || !self.buckets.iter().any(|(_, counts)| has(counts))
            {
                continue;
            }
            some = true;
            native.clear(step);
            for (_, counts) in &mut self.buckets {
                if let Some(count) = counts.get_mut(step) {
                    *count = ABSENT;
                }
            }
        }
        some
    }
}

/// Puts the buckets that belong together together, in the order in which the histograms appear.
pub(super) fn group(series: Vec<StepSeries>, warn: impl Fn(&str)) -> Vec<Classic> {
    let mut histograms: Vec<Classic> = Vec::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    for StepSeries { labels, values, .. } in series {
        let metric = labels.get(METRIC_NAME).unwrap_or("");
        let bound = labels.get(BUCKET_LABEL).unwrap_or("");
        let Ok(bound) = bound.parse::<f64>() else {
            warn(&annotation::bad_bucket_label(bound, metric));
            continue;
        };
        let rest = labels.with(BUCKET_LABEL, "");
        let next = histograms.len();
        let at = *by_labels.entry(rest.clone()).or_insert(next);
        match histograms.get_mut(at) {
            Some(histogram) => histogram.buckets.push((bound, values)),
            None => histograms.push(Classic {
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
    if !ends_in_infinity(buckets) {
        return (f64::NAN, None);
    }
    merge_equal_bounds(buckets);
    let fixed = make_monotonic(buckets);
    (interpolate(q, buckets), fixed)
}

/// The part of all observations that lies between two bounds; NaN without observations.
fn bucket_fraction((lower, upper): (f64, f64), buckets: &mut Vec<Bucket>) -> f64 {
    if !ends_in_infinity(buckets) {
        return f64::NAN;
    }
    merge_equal_bounds(buckets);
    make_monotonic(buckets);
    let Some(last) = buckets.last() else {
        return f64::NAN;
    };
    if last.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, buckets) - rank(lower, buckets)) / last.count
}

/// How many observations lie below `bound`. Those of a bucket that reaches to infinity lie at its
/// other end; the first bucket does so if its bound is not above zero.
fn rank(bound: f64, buckets: &[Bucket]) -> f64 {
    let lowest = match buckets.first() {
        Some(first) if first.bound > 0.0 => 0.0,
        _ => f64::NEG_INFINITY,
    };
    let mut before = Bucket {
        bound: lowest,
        count: 0.0,
    };
    for bucket in buckets {
        if before.bound >= bound {
            break;
        }
        if bucket.bound > bound {
            if bucket.bound == f64::INFINITY {
                break;
            }
            if before.bound == f64::NEG_INFINITY {
                return bucket.count;
            }
            let part = (bound - before.bound) / (bucket.bound - before.bound);
            return before.count + (bucket.count - before.count) * part;
        }
        before = *bucket;
    }
    before.count
}

fn ends_in_infinity(buckets: &[Bucket]) -> bool {
    buckets
        .last()
        .is_some_and(|last| last.bound == f64::INFINITY)
}

fn merge_equal_bounds(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|same, kept| {
        let equal = same.bound == kept.bound;
        if equal {
            kept.count += same.count;
        }
        equal
    });
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
