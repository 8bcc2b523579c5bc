//! Histograms for property tests: of any layout and any numbers that are valid, or of any numbers
//! at all.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Buckets, CUSTOM_SCHEMA, Histogram, ResetHint, STALE, Span};

/// Words that are hard as counts or as the bits of floats.
const HARD: [u64; 9] = [
    0,
    1,
    u64::MAX,
    i64::MAX.cast_unsigned(),
    i64::MIN.cast_unsigned(),
    STALE,
    0x7ff8_0000_dead_beef,
    0xfff0_0000_0000_0001,
    0x3ff0_0000_0000_0000,
];

/// A histogram that is accepted as it is.
pub(crate) fn valid() -> impl Strategy<Value = Histogram> {
    (layout(), numbers()).prop_map(|(layout, numbers)| with_valid(layout, &numbers))
}

/// Histograms of one series that are accepted as they are: layouts stay, grow and change.
pub(crate) fn valid_series(len_max: usize) -> impl Strategy<Value = Vec<Arc<Histogram>>> {
    series(len_max, with_valid)
}

/// Histograms of valid layouts with any numbers.
pub(crate) fn hostile_series(len_max: usize) -> impl Strategy<Value = Vec<Arc<Histogram>>> {
    series(len_max, with_any)
}

fn series(
    len_max: usize,
    fill: fn(Histogram, &Numbers) -> Histogram,
) -> impl Strategy<Value = Vec<Arc<Histogram>>> {
    // Three of five samples are like the one before, or it but for a count: as series are.
    let step = (0u8..5, any::<prop::sample::Index>(), numbers());
    let layouts = prop::collection::vec(layout(), 1..4);
    (layouts, prop::collection::vec(step, 0..=len_max)).prop_map(move |(layouts, steps)| {
        let mut series: Vec<Arc<Histogram>> = Vec::new();
        let mut layout = layouts[0].clone();
        for (kind, choice, numbers) in steps {
            match (kind, series.last()) {
                (0, Some(last)) => series.push(Arc::clone(last)),
                (1, _) => series.push(Arc::new(Histogram {
                    reset_hint: numbers.hint,
                    ..Histogram::stale()
                })),
                (2, _) => {
                    layout = choice.get(&layouts).clone();
                    series.push(Arc::new(fill(layout.clone(), &numbers)));
                }
                (3, _) => {
                    // A bucket more.
                    layout.positive_spans.push(Span {
                        offset: 0,
                        length: 1,
                    });
                    layout.custom_values.clear();
                    layout.schema = layout.schema.max(0);
                    series.push(Arc::new(fill(layout.clone(), &numbers)));
                }
                _ => series.push(Arc::new(fill(layout.clone(), &numbers))),
            }
        }
        series
    })
}

/// What fills a layout: each count is one of the words.
#[derive(Debug, Clone)]
struct Numbers {
    is_integer: bool,
    hint: ResetHint,
    sum: u64,
    words: Vec<u64>,
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let word = prop_oneof![
        4 => 0u64..300,
        1 => any::<u64>(),
        1 => prop::sample::select(&HARD[..]),
        1 => any::<u32>().prop_map(|number| f64::from(number).to_bits()),
    ];
    let hint = prop::sample::select(vec![
        ResetHint::Unknown,
        ResetHint::Reset,
        ResetHint::NotReset,
        ResetHint::Gauge,
    ]);
    let words = prop::collection::vec(word.clone(), 1..12);
    (any::<bool>(), hint, word, words).prop_map(|(is_integer, hint, sum, words)| Numbers {
        is_integer,
        hint,
        sum,
        words,
    })
}

/// A layout without counts.
fn layout() -> impl Strategy<Value = Histogram> {
    let bounds = prop::collection::btree_set(-1_000i32..1_000, 0..20);
    let threshold = prop::sample::select(vec![0.0, 1e-128, 0.5, f64::INFINITY]);
    let exponential = (-4i8..=8, threshold, spans(-30), spans(-30)).prop_map(
        |(schema, zero_threshold, positive_spans, negative_spans)| Histogram {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            ..Histogram::default()
        },
    );
    let custom = (bounds, spans(0)).prop_map(|(bounds, spans)| {
        let mut layout = Histogram {
            schema: CUSTOM_SCHEMA,
            positive_spans: spans,
            custom_values: bounds.into_iter().map(|b| f64::from(b) / 4.0).collect(),
            ..Histogram::default()
        };
        let reach = |spans: &[Span]| -> usize {
            let reach = spans
                .iter()
                .map(|span| span.offset as usize + span.length as usize);
            reach.sum()
        };
        while reach(&layout.positive_spans) > layout.custom_values.len() + 1 {
            layout.positive_spans.pop();
        }
        layout
    });
    prop_oneof![4 => exponential, 1 => custom]
}

fn spans(first_min: i32) -> impl Strategy<Value = Vec<Span>> {
    let spans = prop::collection::vec((0i32..4, 0u32..6), 0..5);
    (first_min..30, spans).prop_map(|(first, spans)| {
        let mut spans: Vec<Span> = spans
            .into_iter()
            .map(|(offset, length)| Span { offset, length })
            .collect();
        if let Some(span) = spans.first_mut() {
            span.offset = first;
        }
        spans
    })
}

fn lengths(layout: &Histogram) -> (usize, usize) {
    let length = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum();
    (
        length(&layout.positive_spans),
        length(&layout.negative_spans),
    )
}

fn with_any(layout: Histogram, numbers: &Numbers) -> Histogram {
    let (positive, negative) = lengths(&layout);
    let mut words = numbers.words.iter().cycle().copied();
    let mut next = || words.next().unwrap_or(0);
    let buckets = if numbers.is_integer {
        Buckets::Integer {
            zero_count: next(),
            count: next(),
            positive: (0..positive).map(|_| next().cast_signed()).collect(),
            negative: (0..negative).map(|_| next().cast_signed()).collect(),
        }
    } else {
        Buckets::Float {
            zero_count: f64::from_bits(next()),
            count: f64::from_bits(next()),
            positive: (0..positive).map(|_| f64::from_bits(next())).collect(),
            negative: (0..negative).map(|_| f64::from_bits(next())).collect(),
        }
    };
    Histogram {
        reset_hint: numbers.hint,
        sum: f64::from_bits(numbers.sum),
        buckets,
        ..layout
    }
}

/// Makes the numbers fit: no count negative, custom buckets without zero bucket, the count the sum
/// of the buckets.
fn with_valid(layout: Histogram, numbers: &Numbers) -> Histogram {
    let mut histogram = with_any(layout, numbers);
    let has_zero_bucket = !histogram.has_custom_bounds();
    match &mut histogram.buckets {
        Buckets::Integer {
            zero_count,
            count,
            positive,
            negative,
        } => {
            *zero_count = if has_zero_bucket {
                *zero_count >> 20
            } else {
                0
            };
            let buckets = positive.iter_mut().chain(negative.iter_mut());
            *count = buckets.fold(*zero_count, |sum, bucket| {
                *bucket = (*bucket >> 20).saturating_abs();
                sum.saturating_add_signed(*bucket)
            });
            if f64::from_bits(numbers.sum).is_nan() {
                *count += 7;
            }
        }
        Buckets::Float {
            zero_count,
            count,
            positive,
            negative,
        } => {
            *zero_count = if has_zero_bucket {
                zero_count.abs()
            } else {
                0.0
            };
            let buckets = positive.iter_mut().chain(negative.iter_mut());
            *count = buckets.fold(*zero_count, |sum, bucket| {
                *bucket = bucket.abs();
                sum + *bucket
            });
        }
    }
    histogram
}
