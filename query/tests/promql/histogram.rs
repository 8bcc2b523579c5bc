//! Native histograms of scripts: from their description to what the engine and the store know, and
//! from classic buckets to custom ones.

use std::collections::BTreeMap;

use trine_query::promql::ast::Sign;
use trine_query::promql::{HistogramDescription, SeriesValue};
use trine_query::vector::Histogram;
use trine_query::vector::histogram::{Buckets, CUSTOM_SCHEMA, ResetHint};
use trine_storage::Labels;

use super::script::Sample;

/// The value that is `by` more or less.
pub(super) fn changed(
    value: &SeriesValue,
    sign: Sign,
    by: &SeriesValue,
) -> Result<SeriesValue, String> {
    match (value, by) {
        (SeriesValue::Float(value), SeriesValue::Float(by)) => Ok(SeriesValue::Float(match sign {
            Sign::Plus => value + by,
            Sign::Minus => value - by,
        })),
        (SeriesValue::Histogram(value), SeriesValue::Histogram(by)) => {
            let factor = match sign {
                Sign::Plus => 1.0,
                Sign::Minus => -1.0,
            };
            sum(value, by, factor).map(|sum| SeriesValue::Histogram(Box::new(sum)))
        }
        _ => Err("a change of another kind".to_owned()),
    }
}

fn sum(
    one: &HistogramDescription,
    other: &HistogramDescription,
    factor: f64,
) -> Result<HistogramDescription, String> {
    let other = coarser(other, one.schema)?;
    if one.custom_values != other.custom_values {
        return Err("histograms of different bounds in one item".to_owned());
    }
    let (offset, buckets) = add(
        (one.offset, &one.buckets),
        (other.offset, &other.buckets),
        factor,
    );
    let (negative_offset, negative_buckets) = add(
        (one.negative_offset, &one.negative_buckets),
        (other.negative_offset, &other.negative_buckets),
        factor,
    );
    Ok(HistogramDescription {
        sum: one.sum + factor * other.sum,
        count: one.count + factor * other.count,
        zero_count: one.zero_count + factor * other.zero_count,
        zero_threshold: one.zero_threshold.max(other.zero_threshold),
        offset,
        buckets,
        negative_offset,
        negative_buckets,
        ..one.clone()
    })
}

/// The histogram with buckets that are as wide as `schema` says.
fn coarser(of: &HistogramDescription, schema: i32) -> Result<HistogramDescription, String> {
    let mut out = of.clone();
    if of.schema == schema {
        return Ok(out);
    }
    let custom = i32::from(CUSTOM_SCHEMA);
    if of.schema < schema || schema == custom {
        return Err("a histogram grows by a coarser one".to_owned());
    }
    let shift = of.schema - schema;
    let merge = |start: i32, buckets: &[f64]| {
        let single = (start..)
            .zip(buckets)
            .map(|(index, count)| (((index - 1) >> shift) + 1, *count));
        let single: Vec<(i32, Vec<f64>)> =
            single.map(|(index, count)| (index, vec![count])).collect();
        single.iter().fold((0, Vec::new()), |sum, (index, count)| {
            add((sum.0, &sum.1), (*index, count), 1.0)
        })
    };
    (out.offset, out.buckets) = merge(of.offset, &of.buckets);
    (out.negative_offset, out.negative_buckets) = merge(of.negative_offset, &of.negative_buckets);
    out.schema = schema;
    Ok(out)
}

/// Bucket by bucket.
fn add(one: (i32, &[f64]), other: (i32, &[f64]), factor: f64) -> (i32, Vec<f64>) {
    if one.1.is_empty() && other.1.is_empty() {
        return (one.0, Vec::new());
    }
    let mut counts = BTreeMap::new();
    for ((start, buckets), factor) in [(one, 1.0), (other, factor)] {
        for (index, count) in (start..).zip(buckets) {
            *counts.entry(index).or_insert(0.0) += factor * count;
        }
    }
    let first = *counts.keys().next().unwrap_or(&0);
    let last = *counts.keys().next_back().unwrap_or(&0);
    let dense = (first..=last).map(|index| counts.get(&index).copied().unwrap_or(0.0));
    (first, dense.collect())
}

/// As the engine computes with it.
pub(super) fn engine(description: &HistogramDescription) -> Histogram {
    Histogram {
        schema: i8::try_from(description.schema).unwrap_or(0),
        reset_hint: match description.hint.as_deref() {
            Some("reset") => ResetHint::Reset,
            Some("not_reset") => ResetHint::NotReset,
            Some("gauge") => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        },
        zero_threshold: description.zero_threshold,
        zero_count: description.zero_count,
        count: description.count,
        sum: description.sum,
        positive: Buckets::dense(description.offset, description.buckets.clone()),
        negative: Buckets::dense(
            description.negative_offset,
            description.negative_buckets.clone(),
        ),
        custom_values: description.custom_values.as_slice().into(),
    }
}

/// As the store keeps it: counts are floats.
pub(super) fn stored(description: &HistogramDescription) -> trine_tsdb::Histogram {
    let histogram = engine(description);
    let spans = |buckets: &Buckets| {
        let mut end = 0;
        let spans = buckets.spans().iter().map(|span| {
            let offset = span.start - end;
            end = span.start + i32::try_from(span.length).unwrap_or(i32::MAX);
            trine_tsdb::Span {
                offset,
                length: span.length,
            }
        });
        spans.collect::<Vec<_>>()
    };
    trine_tsdb::Histogram {
        schema: histogram.schema,
        reset_hint: match histogram.reset_hint {
            ResetHint::Unknown => trine_tsdb::ResetHint::Unknown,
            ResetHint::Reset => trine_tsdb::ResetHint::Reset,
            ResetHint::NotReset => trine_tsdb::ResetHint::NotReset,
            ResetHint::Gauge => trine_tsdb::ResetHint::Gauge,
        },
        zero_threshold: histogram.zero_threshold,
        sum: histogram.sum,
        buckets: trine_tsdb::Buckets::Float {
            zero_count: histogram.zero_count,
            count: histogram.count,
            positive: histogram.positive.counts().to_vec(),
            negative: histogram.negative.counts().to_vec(),
        },
        positive_spans: spans(&histogram.positive),
        negative_spans: spans(&histogram.negative),
        custom_values: histogram.custom_values.to_vec(),
    }
}

#[derive(Default)]
struct Classic {
    /// Upper bounds with cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// The families of classic histograms among the samples as native ones with custom buckets.
pub(super) fn custom_of_classic(samples: &[Sample]) -> Vec<Sample> {
    let mut families: BTreeMap<(Labels, i64), Classic> = BTreeMap::new();
    for sample in samples {
        let (Some(name), SeriesValue::Float(value)) =
            (sample.labels.get("__name__"), &sample.value)
        else {
            continue;
        };
        if value.to_bits() == trine_query::vector::ABSENT.to_bits() {
            continue;
        }
        let bound = sample.labels.get("le").and_then(|le| le.parse().ok());
        let parts = [("_bucket", 0), ("_count", 1), ("_sum", 2)];
        let Some((base, part)) = parts
            .iter()
            .find_map(|(suffix, part)| Some((name.strip_suffix(suffix)?, part)))
        else {
            continue;
        };
        let labels = sample
            .labels
            .filter(|label| label != "le")
            .with("__name__", base);
        let mut family = |change: &dyn Fn(&mut Classic)| {
            change(
                families
                    .entry((labels.clone(), sample.time_ms))
                    .or_default(),
            );
        };
        match (part, bound) {
            (0, Some(bound)) => family(&|all| all.buckets.push((bound, *value))),
            (1, _) => family(&|all| all.count = Some(*value)),
            (2, _) => family(&|all| all.sum = *value),
            _ => {}
        }
    }
    let made = families
        .into_iter()
        .filter_map(|((labels, time_ms), family)| {
            Some(Sample {
                labels,
                time_ms,
                start_ms: 0,
                value: SeriesValue::Histogram(Box::new(custom(family)?)),
            })
        });
    made.collect()
}

fn custom(mut family: Classic) -> Option<HistogramDescription> {
    family.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    // `0.2` and `2e-1` are one bound.
    family.buckets.dedup_by_key(|(bound, _)| *bound);
    let total = family
        .count
        .or_else(|| family.buckets.last().map(|(_, count)| *count))?;
    if !family
        .buckets
        .iter()
        .any(|(bound, _)| *bound == f64::INFINITY)
    {
        family.buckets.push((f64::INFINITY, total));
    }
    let mut before = 0.0;
    let mut buckets = Vec::new();
    for (_, cumulative) in &family.buckets {
        buckets.push(cumulative - before);
        before = *cumulative;
    }
    if before != total || buckets.iter().any(|count| *count < 0.0) {
        return None;
    }
    let bounds = family.buckets.iter().map(|(bound, _)| *bound);
    Some(HistogramDescription {
        schema: i32::from(CUSTOM_SCHEMA),
        sum: family.sum,
        count: total,
        buckets,
        custom_values: bounds.filter(|bound| bound.is_finite()).collect(),
        ..HistogramDescription::default()
    })
}
