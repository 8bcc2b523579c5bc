//! Histograms and exemplars of OTLP as those of the engine. `otlp_metrics` calls it.

use std::borrow::Cow;

use trine_tsdb::{
    Buckets, CUSTOM_SCHEMA, EXEMPLAR_LABELS_CHARS_MAX, Histogram, HistogramError, SCHEMA_MIN, Span,
};

use super::labels::text;
use crate::ingest::metric_labels::Pair;
use crate::ingest::metric_rows::Extras;
use crate::ingest::otlp_value::hex;
use crate::proto::otlp_metrics::{
    Exemplar, ExponentialPoint, HistogramPoint, SIDE_BUCKETS_MAX, Side,
};

/// The width of the zero bucket when the sender does not say it; Prometheus' own.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Empty buckets in a row that are written; more become a gap between spans, which takes less.
const EMPTY_BUCKETS_MAX: usize = 2;

/// An exponential histogram as a native one. Scales that are finer than what is stored are left to
/// the engine, which makes them coarser.
///
/// # Errors
/// Why there is no such native histogram.
pub(super) fn exponential(
    point: &ExponentialPoint<'_>,
    is_stale: bool,
) -> Result<Histogram, String> {
    if is_stale {
        return Ok(Histogram::stale());
    }
    if point.scale < i32::from(SCHEMA_MIN) {
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {SCHEMA_MIN}, was {}",
            point.scale
        ));
    }
    let schema = i8::try_from(point.scale)
        .map_err(|_| HistogramError::UnknownSchema(point.scale).to_string())?;
    let (positive_spans, positive) = layout_of(&point.positive)?;
    let (negative_spans, negative) = layout_of(&point.negative)?;
    Ok(Histogram {
        schema,
        zero_threshold: if point.zero_threshold == 0.0 {
            ZERO_THRESHOLD
        } else {
            point.zero_threshold
        },
        sum: point.sum.unwrap_or(0.0),
        buckets: Buckets::Integer {
            zero_count: point.zero_count,
            count: point.count,
            positive,
            negative,
        },
        positive_spans,
        negative_spans,
        ..Histogram::default()
    })
}

/// A histogram with explicit bounds as a native one with custom buckets.
///
/// # Errors
/// Why there is no such native histogram.
pub(super) fn custom(point: &HistogramPoint<'_>, is_stale: bool) -> Result<Histogram, String> {
    if is_stale {
        return Ok(Histogram::stale());
    }
    let (positive_spans, positive) = layout(0, &point.bucket_counts)?;
    Ok(Histogram {
        schema: CUSTOM_SCHEMA,
        sum: point.sum.unwrap_or(0.0),
        buckets: Buckets::Integer {
            zero_count: 0,
            count: point.count,
            positive,
            negative: Vec::new(),
        },
        positive_spans,
        custom_values: point.explicit_bounds.clone(),
        ..Histogram::default()
    })
}

fn layout_of(side: &Side) -> Result<(Vec<Span>, Vec<i64>), String> {
    if side.count > SIDE_BUCKETS_MAX {
        return Err(format!(
            "a histogram has {} buckets, of which at most {SIDE_BUCKETS_MAX} are looked at",
            side.count
        ));
    }
    // Bucket 0 ends at the base there and at one here.
    layout(i64::from(side.offset) + 1, &side.counts)
}

/// Spans and counts of buckets, of which the first has this index.
fn layout(first: i64, counts: &[u64]) -> Result<(Vec<Span>, Vec<i64>), String> {
    let far = || "a histogram has buckets beyond the indices that exist".to_owned();
    let (mut spans, mut kept) = (Vec::<Span>::new(), Vec::new());
    let mut empty = 0usize;
    let mut next = 0i64;
    for (index, count) in (first..).zip(counts) {
        if *count == 0 {
            empty += 1;
            continue;
        }
        let few = !kept.is_empty() && empty <= EMPTY_BUCKETS_MAX;
        match spans.last_mut() {
            Some(span) if few => {
                // At most EMPTY_BUCKETS_MAX and one.
                span.length += empty as u32 + 1;
                kept.resize(kept.len() + empty, 0);
            }
            _ => spans.push(Span {
                offset: i32::try_from(index - next).map_err(|_| far())?,
                length: 1,
            }),
        }
        kept.push(i64::try_from(*count).map_err(|_| HistogramError::CountOverflow.to_string())?);
        empty = 0;
        next = index + 1;
    }
    Ok((spans, kept))
}

/// Adds an exemplar to `extras`: the ids of its span as labels, and its attributes when there is
/// room for all of them.
///
/// # Errors
/// What is wrong with its labels.
pub(super) fn read_exemplar(
    exemplar: &Exemplar<'_>,
    samples: &[(i64, f64)],
    extras: &mut Extras,
) -> Result<(), String> {
    let (trace, span) = (hex(exemplar.trace_id), hex(exemplar.span_id));
    let ids = [("trace_id", &trace), ("span_id", &span)];
    let ids = ids.into_iter().filter(|(_, id)| !id.is_empty());
    let mut labels: Vec<(&str, &str)> = ids.map(|(name, id)| (name, id.as_str())).collect();
    let attributes = &exemplar.attributes;
    let values: Vec<Cow<'_, str>> = attributes.list.iter().map(text).collect();
    let pairs = attributes.list.iter().zip(&values);
    let ids = labels.len();
    labels.extend(pairs.map(|(pair, value)| (pair.key, &**value)));
    let chars = labels
        .iter()
        .map(|(name, value)| name.chars().count() + value.chars().count());
    if chars.sum::<usize>() > EXEMPLAR_LABELS_CHARS_MAX {
        labels.truncate(ids);
    }
    let pairs: Vec<Pair<'_>> = labels
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    let timestamp = super::milliseconds(exemplar.time_ns);
    extras.exemplar(&pairs, timestamp, exemplar.value.unwrap_or(0.0), samples)
}
