//! The type by itself: validity, resolution, equality. The codecs are tested beside them.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// An integer histogram of schema 0 with these positive buckets from index 1 on.
pub(super) fn integer(counts: &[i64]) -> Histogram {
    let sum = counts
        .iter()
        .fold(0u64, |sum, count| sum.wrapping_add_signed(*count));
    Histogram {
        sum: 1.5,
        buckets: Buckets::Integer {
            zero_count: 0,
            count: sum,
            positive: counts.to_vec(),
            negative: vec![],
        },
        positive_spans: vec![span(1, counts.len() as u32)],
        ..Histogram::default()
    }
}

pub(super) fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

fn custom(counts: &[i64], bounds: &[f64]) -> Histogram {
    Histogram {
        schema: CUSTOM_SCHEMA,
        positive_spans: vec![span(0, counts.len() as u32)],
        custom_values: bounds.to_vec(),
        ..integer(counts)
    }
}

fn float(count: f64, counts: &[f64]) -> Histogram {
    Histogram {
        buckets: Buckets::Float {
            zero_count: 0.0,
            count,
            positive: counts.to_vec(),
            negative: vec![],
        },
        positive_spans: vec![span(1, counts.len() as u32)],
        ..Histogram::default()
    }
}

fn with(mut histogram: Histogram, change: impl FnOnce(&mut Histogram)) -> Histogram {
    change(&mut histogram);
    histogram
}

fn integers(histogram: &mut Histogram) -> (&mut u64, &mut u64, &mut Vec<i64>) {
    match &mut histogram.buckets {
        Buckets::Integer {
            zero_count,
            count,
            negative,
            ..
        } => (zero_count, count, negative),
        Buckets::Float { .. } => panic!("an integer histogram"),
    }
}

#[track_caller]
fn check(histogram: &Histogram, expect: &str) {
    let found = match histogram.validate() {
        Ok(()) => "valid".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expect, "{histogram:?}");
}

#[test]
fn what_is_valid() {
    let valid = [
        Histogram::default(),
        Histogram::stale(),
        integer(&[1, 0, 2]),
        with(integer(&[1, 2]), |h| {
            h.positive_spans = vec![span(-9, 1), span(0, 0), span(0, 1)];
        }),
        with(integer(&[i64::MAX, i64::MAX]), |h| {
            h.positive_spans = vec![span(i32::MAX - 2, 2)];
        }),
        with(integer(&[3]), |h| {
            h.sum = f64::NAN;
            *integers(h).1 = 5;
        }),
        with(integer(&[1]), |h| h.zero_threshold = f64::INFINITY),
        custom(&[], &[]),
        custom(&[1, 2, 3], &[-1.0, 2.5]),
        float(3.0, &[1.0, 2.0]),
        float(3.0 - 1e-9, &[1.0, 2.0]),
        float(9.0, &[1.0, 2.0]),
        float(f64::NAN, &[1.0, f64::NAN]),
        with(float(1.0, &[1.0, 2.0]), |h| h.reset_hint = ResetHint::Gauge),
        with(integer(&vec![1; BUCKETS_MAX]), |_| {}),
    ];
    for histogram in valid {
        check(&histogram, "valid");
    }
}

#[test]
fn what_is_not() {
    let few = "histogram custom bounds are too few";
    let mismatch = "histogram spans specify different number of buckets than provided";
    let negative = "histogram has a bucket whose observation count is negative";
    let offset = "histogram has a span whose offset is negative";
    let small = "histogram's observation count should be at least the number of observations \
                 found in the buckets";
    let schema = |schema: i8| {
        format!(
            "histogram has an invalid schema, which must be between -4 and 8 for exponential \
             buckets, or -53 for custom buckets, got schema {schema}"
        )
    };
    let mut cases: Vec<(Histogram, String)> = [-128i8, -54, -52, -9, -5, 9, 52, 53]
        .map(|n| (with(integer(&[1]), |h| h.schema = n), schema(n)))
        .to_vec();
    let mut case = |histogram: Histogram, text: String| cases.push((histogram, text));
    case(
        with(integer(&[1]), |h| h.positive_spans[0].length = 2),
        format!("positive side: spans need 2 buckets, have 1 buckets: {mismatch}"),
    );
    case(
        with(integer(&[1]), |h| h.negative_spans = vec![span(0, 1)]),
        format!("negative side: spans need 1 buckets, have 0 buckets: {mismatch}"),
    );
    case(
        with(integer(&[1]), |h| {
            h.positive_spans = vec![span(5, 1), span(-1, 0)];
        }),
        format!("positive side: span number 2 with offset -1: {offset}"),
    );
    case(
        with(integer(&[1]), |h| {
            h.positive_spans = vec![span(i32::MAX, 1)];
        }),
        "positive side: span number 1 reaches beyond the largest bucket index".to_owned(),
    );
    case(
        integer(&[2, -1]),
        format!("positive side: bucket number 2 has observation count of -1: {negative}"),
    );
    case(
        with(integer(&[]), |h| {
            h.negative_spans = vec![span(0, 1)];
            integers(h).2.push(-5);
        }),
        format!("negative side: bucket number 1 has observation count of -5: {negative}"),
    );
    case(
        with(integer(&[1, 2]), |h| *integers(h).1 = 4),
        "3 observations found in buckets, but the Count field is 4: histogram's observation count \
         should equal the number of observations found in the buckets (in absence of NaN)"
            .to_owned(),
    );
    case(
        with(integer(&[1, 2]), |h| {
            h.sum = f64::NAN;
            *integers(h).1 = 2;
        }),
        format!("3 observations found in buckets, but the Count field is 2: {small}"),
    );
    case(
        integer(&[i64::MAX, i64::MAX, 2]),
        "the observations found in the buckets are too many to count".to_owned(),
    );
    case(
        float(-1.0, &[]),
        "the Count field is -1: histogram's observation count is negative".to_owned(),
    );
    case(
        float(1.0, &[-0.5]),
        format!("positive side: bucket number 1 has observation count of -0.5: {negative}"),
    );
    for (threshold, text) in [(-0.5, "-0.5"), (f64::NAN, "NaN")] {
        case(
            with(integer(&[]), |h| h.zero_threshold = threshold),
            format!("histogram has a zero threshold of {text}, which must not be negative or NaN"),
        );
    }
    case(
        with(integer(&[]), |h| h.custom_values = vec![1.0]),
        "histogram with exponential schema must not have custom bounds".to_owned(),
    );
    case(
        custom(&[1, 2, 3], &[1.0]),
        format!(
            "custom buckets: only 1 custom bounds defined which is insufficient to cover total \
             span length of 3: {few}"
        ),
    );
    case(
        custom(&[1], &[1.0, 1.0]),
        "custom buckets: previous bound is 1.000000 and current is 1.000000: \
         histogram custom bounds must be in strictly increasing order"
            .to_owned(),
    );
    case(
        custom(&[1], &[1.0, f64::INFINITY]),
        "custom buckets: last +Inf bound must not be explicitly defined: \
         histogram custom bounds must be finite"
            .to_owned(),
    );
    case(
        custom(&[1], &[f64::NEG_INFINITY, 1.0]),
        "custom buckets: histogram custom bounds must be finite".to_owned(),
    );
    case(
        custom(&[1], &[f64::NAN]),
        "custom buckets: histogram custom bounds must not be NaN".to_owned(),
    );
    case(
        with(custom(&[1], &[1.0]), |h| h.positive_spans[0].offset = -1),
        format!("custom buckets: span number 1 with offset -1: {offset}"),
    );
    case(
        custom(&[-1], &[1.0]),
        format!("custom buckets: bucket number 1 has observation count of -1: {negative}"),
    );
    case(
        with(custom(&[1], &[1.0]), |h| *integers(h).0 = 1),
        "custom buckets: must have zero count of 0".to_owned(),
    );
    case(
        with(custom(&[1], &[1.0]), |h| h.zero_threshold = 1.0),
        "custom buckets: must have zero threshold of 0".to_owned(),
    );
    case(
        with(custom(&[1], &[1.0]), |h| {
            h.negative_spans = vec![span(0, 0)];
        }),
        "custom buckets: must not have negative spans".to_owned(),
    );
    case(
        with(custom(&[1], &[1.0]), |h| integers(h).2.push(1)),
        "custom buckets: must not have negative buckets".to_owned(),
    );
    case(
        integer(&vec![1; BUCKETS_MAX + 1]),
        "histogram has 16385 buckets, more than 16384, and cannot be reduced to fewer".to_owned(),
    );
    case(
        with(integer(&[]), |h| {
            h.positive_spans = vec![span(0, 0); BUCKETS_MAX + 1];
        }),
        "histogram has 16385 spans or custom bounds, more than 16384".to_owned(),
    );
    for (histogram, text) in &cases {
        check(histogram, text);
    }
}

#[test]
fn what_is_too_fine_or_too_large_is_reduced() {
    let fitted = |histogram: Histogram, max: usize| Arc::new(histogram).fitted(max);
    // Schema 52: 2^44 buckets of it make one of schema 8.
    let finest = with(integer(&[1, 2]), |h| {
        h.schema = SCHEMA_RESERVED_MAX;
        h.positive_spans = vec![span(0, 2)];
    });
    let stored = fitted(finest, 10).expect("a reserved schema is reduced");
    assert_eq!(stored.schema, SCHEMA_MAX);
    assert_eq!(
        stored.positive_buckets().collect::<Vec<_>>(),
        [(0, 1.0), (1, 2.0)]
    );

    // 64 buckets of schema 2 in indices 1 to 64: 16 of schema 0.
    let large = with(integer(&[1; 64]), |h| h.schema = 2);
    let same = fitted(large.clone(), 64).expect("at the limit");
    assert!(same.same_bits(&large));
    let stored = fitted(large, 16).expect("two halvings");
    assert_eq!((stored.schema, stored.buckets.len()), (0, 16));
    assert!(stored.positive_buckets().all(|(_, count)| count == 4.0));

    let far = with(integer(&[1, 1]), |h| {
        h.positive_spans = vec![span(-800, 1), span(1600, 1)];
    });
    let too_many = |buckets: usize, max: usize| HistogramError::TooManyBuckets { buckets, max };
    assert_eq!(fitted(far, 1), Err(too_many(2, 1)));
    assert_eq!(fitted(custom(&[1, 1], &[1.0]), 1), Err(too_many(2, 1)));
    let unknown = with(integer(&[]), |h| h.schema = 53);
    assert_eq!(fitted(unknown, 1), Err(HistogramError::UnknownSchema(53)));
}

/// The bits of a sum, whatever NaN or zero the order of adding made.
fn model_bits(count: f64) -> u64 {
    let count = if count.is_nan() { f64::NAN } else { count };
    (count + 0.0).to_bits()
}

proptest! {
    /// Each observation of a fine bucket lies in the coarse bucket of its index.
    #[test]
    fn reducing_keeps_every_observation(histogram in arbitrary::valid(), to in -4i8..8) {
        prop_assume!(!histogram.has_custom_bounds() && to <= histogram.schema);
        let coarse = histogram.reduce_resolution(to).expect("no count near the limit");
        prop_assert_eq!(coarse.validate().is_ok(), histogram.validate().is_ok());
        let width = 1i64 << (histogram.schema - to);
        let reduced = |buckets: &mut dyn Iterator<Item = (i32, f64)>| {
            let mut model = std::collections::BTreeMap::new();
            for (index, count) in buckets {
                let coarse = (i64::from(index) + width * 100_000 - 1) / width - 100_000 + 1;
                *model.entry(i32::try_from(coarse).expect("small")).or_insert(0.0) += count;
            }
            model.into_iter().collect::<Vec<_>>()
        };
        let bits = |buckets: Vec<(i32, f64)>| -> Vec<(i32, u64)> {
            let bits = |(index, count)| (index, model_bits(count));
            buckets.into_iter().map(bits).collect()
        };
        prop_assert_eq!(
            bits(reduced(&mut histogram.positive_buckets())),
            bits(coarse.positive_buckets().collect())
        );
        prop_assert_eq!(
            bits(reduced(&mut histogram.negative_buckets())),
            bits(coarse.negative_buckets().collect())
        );
    }

    #[test]
    fn arbitrary_histograms_are_valid(histogram in arbitrary::valid()) {
        prop_assert_eq!(histogram.validate(), Ok(()));
        prop_assert!(histogram.same_bits(&histogram.clone()));
    }
}
