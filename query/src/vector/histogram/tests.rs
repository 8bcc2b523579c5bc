//! The algebra: tables for its edges, and laws that hold for any histograms.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::ResetHint::{Gauge, NotReset, Reset, Unknown};
use super::*;

/// Buckets of whole counts, so that sums of them are exact.
fn buckets() -> impl Strategy<Value = Buckets> {
    prop::collection::btree_map(-12i32..12, 0u8..5, 0..8).prop_map(|map| filled(&map))
}

fn filled(map: &BTreeMap<i32, u8>) -> Buckets {
    let spans = map.keys().map(|index| Span {
        start: *index,
        length: 1,
    });
    Buckets::from_spans(spans, map.values().map(|count| f64::from(*count)).collect())
}

fn total(of: &Histogram) -> f64 {
    let sides = of.positive.counts().iter().chain(of.negative.counts());
    of.zero_count + sides.sum::<f64>()
}

fn counted(mut of: Histogram) -> Histogram {
    of.count = total(&of);
    of
}

fn exponential() -> impl Strategy<Value = Histogram> {
    let threshold = prop::sample::select(vec![0.0, 0.1, 0.25, 0.5, 1.0, 3.0]);
    (-2i8..4, threshold, 0u8..4, buckets(), buckets(), -20i32..20).prop_map(
        |(schema, threshold, zero_count, positive, negative, sum)| {
            let mut histogram = Histogram {
                schema,
                zero_count: f64::from(zero_count),
                sum: f64::from(sum),
                positive,
                negative,
                ..Histogram::default()
            };
            // What lies in the zero bucket is nowhere else.
            histogram.widen_zero_bucket(threshold);
            counted(histogram)
        },
    )
}

fn custom() -> impl Strategy<Value = Histogram> {
    let bounds = prop::collection::btree_set(-4i32..10, 0..6);
    (bounds, prop::collection::vec(0u8..5, 7), -20i32..20).prop_map(|(bounds, counts, sum)| {
        let bounds: Vec<f64> = bounds.into_iter().map(f64::from).collect();
        let counts = counts.iter().take(bounds.len() + 1);
        counted(Histogram {
            schema: CUSTOM_SCHEMA,
            sum: f64::from(sum),
            positive: Buckets::dense(0, counts.map(|count| f64::from(*count)).collect()),
            custom_values: bounds.into(),
            ..Histogram::default()
        })
    })
}

fn pair() -> impl Strategy<Value = (Histogram, Histogram)> {
    prop_oneof![(exponential(), exponential()), (custom(), custom())]
}

fn either() -> impl Strategy<Value = Histogram> {
    prop_oneof![exponential(), custom()]
}

fn sum(a: &Histogram, b: &Histogram) -> Histogram {
    let mut sum = a.clone();
    sum.add(b).unwrap();
    sum.compact();
    sum
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

proptest! {
    #[test]
    fn addition_commutes_and_loses_nothing((a, b) in pair()) {
        let both = sum(&a, &b);
        prop_assert_eq!(&both, &sum(&b, &a));
        prop_assert_eq!(total(&both), total(&a) + total(&b));
        prop_assert_eq!(both.count, a.count + b.count);
    }

    /// As long as no zero bucket grows, which depends on what it meets first.
    #[test]
    fn addition_is_associative(all in prop::collection::vec(exponential(), 3)) {
        let [a, b, c] = [0, 1, 2].map(|at| Histogram { zero_threshold: 0.0, ..all[at].clone() });
        prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
    }

    #[test]
    fn what_is_added_can_be_subtracted((a, b) in pair()) {
        let both = sum(&a, &b);
        let mut rest = both.clone();
        rest.subtract(&b).unwrap();
        rest.compact();
        // It is as coarse as the sum.
        let (mut coarse, same) = (a, both.schema);
        coarse.align(&Histogram { positive: Buckets::default(), negative: Buckets::default(), ..both })
            .unwrap();
        coarse.compact();
        prop_assert_eq!(rest.schema, same);
        prop_assert_eq!(rest.positive, coarse.positive);
        prop_assert_eq!(rest.zero_count, coarse.zero_count);
    }

    #[test]
    fn a_coarser_sum_is_the_sum_of_coarser_ones(a in exponential(), b in exponential()) {
        let threshold = a.zero_threshold.max(b.zero_threshold);
        let (mut a, mut b) = (a, b);
        // Thresholds that do not cut a bucket of the coarser schema.
        a.widen_zero_bucket(threshold.max(16.0));
        b.widen_zero_bucket(threshold.max(16.0));
        let mut after = sum(&a, &b);
        after.coarsen(-2);
        after.compact();
        a.coarsen(-2);
        b.coarsen(-2);
        prop_assert_eq!(after, sum(&a, &b));
    }

    #[test]
    fn a_counter_that_grows_was_not_reset((a, b) in pair()) {
        let both = sum(&a, &b);
        prop_assert!(!both.is_reset_since(&a));
        prop_assert!(b.count == 0.0 || a.is_reset_since(&both));
    }

    #[test]
    fn quantiles_rise_with_their_rank(h in either(), qs in prop::collection::vec(0.0..=1.0f64, 2..10)) {
        let mut qs = qs;
        qs.sort_by(f64::total_cmp);
        let values: Vec<f64> = qs.iter().map(|q| h.quantile(*q).value).collect();
        if h.count == 0.0 {
            prop_assert!(values.iter().all(|value| value.is_nan()));
        } else {
            for two in values.windows(2) {
                prop_assert!(two[0] <= two[1] || near(two[0], two[1]), "{:?} {:?}", qs, values);
            }
        }
    }

    #[test]
    fn a_fraction_is_the_inverse_of_a_quantile(h in exponential(), q in 0.01..0.99f64) {
        // In a bucket without width many ranks have one value.
        prop_assume!(h.count > 0.0 && (h.zero_threshold > 0.0 || h.zero_count == 0.0));
        let fraction = h.fraction(f64::NEG_INFINITY, h.quantile(q).value).value;
        prop_assert!(near(fraction, q), "{} {}", q, fraction);
    }

    #[test]
    fn what_is_cut_in_two_is_all_there(h in exponential(), at in -5000.0..5000.0f64) {
        let (below, above) = (h.trimmed(TrimSide::Below, at), h.trimmed(TrimSide::Above, at));
        prop_assert!(near(below.count + above.count, h.count));
        if h.count > 0.0 {
            let fraction = h.fraction(f64::NEG_INFINITY, at).value;
            prop_assert!(near(below.count, fraction * h.count));
        }
        prop_assert_eq!(&h.trimmed(TrimSide::Below, f64::INFINITY), &h);
        prop_assert_eq!(&h.trimmed(TrimSide::Above, f64::NEG_INFINITY), &h);
    }

    #[test]
    fn running_sums_and_means_agree_with_sums(all in prop::collection::vec(exponential(), 1..8)) {
        let mut plain = all[0].clone();
        let (mut running, mut mean) = (RunningSum::new(&all[0]), RunningMean::new(&all[0]));
        for next in &all[1..] {
            plain.add(next).unwrap();
            running.add(next).unwrap();
            mean.add(next).unwrap();
        }
        plain.compact();
        prop_assert_eq!(&running.value(), &plain);
        let mut scaled = mean.value();
        scaled.scale(all.len() as f64);
        prop_assert_eq!(scaled.positive.spans(), plain.positive.spans());
        prop_assert!(near(scaled.count, plain.count) && near(total(&scaled), total(&plain)));
    }

    /// Whatever numbers come in, nothing panics and nothing runs for ever.
    #[test]
    fn nonsense_does_no_harm(
        schema in prop_oneof![any_schema(), Just(CUSTOM_SCHEMA)],
        other in prop_oneof![any_schema(), Just(CUSTOM_SCHEMA)],
        numbers in prop::collection::vec(number(), 12),
        starts in prop::collection::vec(any_index(), 4),
    ) {
        let make = |schema, at: usize| Histogram {
            schema,
            zero_threshold: numbers[at],
            zero_count: numbers[at + 1],
            count: numbers[at + 2],
            sum: numbers[at + 3],
            positive: Buckets::dense(starts[at / 6], vec![numbers[at + 4], 1.0]),
            negative: Buckets::dense(starts[at / 6 + 2], vec![numbers[at + 5]]),
            custom_values: vec![numbers[at], numbers[at + 1]].into(),
            ..Histogram::default()
        };
        let (a, b) = (make(schema, 0), make(other, 6));
        let mut sum = a.clone();
        let fits = a.has_custom_bounds() == b.has_custom_bounds();
        prop_assert_eq!(sum.add(&b).is_ok(), fits);
        prop_assert_eq!(sum.subtract(&b).is_ok(), fits);
        let _ = (a.is_reset_since(&b), a.quantile(numbers[3]), a.fraction(numbers[1], numbers[2]));
        let _ = (a.variance(), a.to_string(), a.buckets().count());
        let _ = (a.trimmed(TrimSide::Below, numbers[5]), b.trimmed(TrimSide::Above, numbers[7]));
        let mut mean = RunningMean::new(&a);
        prop_assert_eq!(mean.add(&b).is_ok(), fits);
        prop_assert!(mean.add(&a).is_ok());
        drop(mean.value());
    }
}

fn any_schema() -> impl Strategy<Value = i8> {
    -4i8..=8
}

fn any_index() -> impl Strategy<Value = i32> {
    prop_oneof![-3i32..3, any::<i32>()]
}

fn number() -> impl Strategy<Value = f64> {
    let odd = vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        f64::MAX,
        5e-324,
    ];
    prop_oneof![-10.0..10.0f64, prop::sample::select(odd), any::<f64>()]
}

fn any<T: Arbitrary>() -> impl Strategy<Value = T> {
    proptest::arbitrary::any::<T>()
}

fn simple() -> Histogram {
    counted(Histogram {
        zero_threshold: 0.25,
        zero_count: 1.0,
        sum: 4.5,
        positive: Buckets::dense(1, vec![1.0, 0.0, 2.0]),
        negative: Buckets::dense(0, vec![3.0]),
        ..Histogram::default()
    })
}

#[test]
fn hints_of_sums() {
    for (a, b, expect, collide) in [
        (Unknown, Unknown, Unknown, false),
        (Reset, Reset, Reset, false),
        (NotReset, NotReset, NotReset, false),
        (Unknown, NotReset, Unknown, false),
        (Reset, Unknown, Unknown, false),
        (Gauge, Reset, Gauge, false),
        (NotReset, Gauge, Gauge, false),
        (Reset, NotReset, Unknown, true),
        (NotReset, Reset, Unknown, true),
    ] {
        let hinted = |reset_hint| Histogram {
            reset_hint,
            ..simple()
        };
        let mut sum = hinted(a);
        let combined = sum.add(&hinted(b)).unwrap();
        assert_eq!(
            (sum.reset_hint, combined.resets_collide),
            (expect, collide),
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn custom_and_exponential_buckets_do_not_mix() {
    let custom = Histogram {
        schema: CUSTOM_SCHEMA,
        ..Histogram::default()
    };
    let mut sum = simple();
    assert_eq!(sum.add(&custom), Err(Incompatible));
    assert_eq!(sum, simple(), "nothing has changed");
    assert_eq!(RunningSum::new(&custom).add(&simple()), Err(Incompatible));
    assert_eq!(RunningMean::new(&custom).add(&simple()), Err(Incompatible));
    assert!(simple().is_reset_since(&custom) && !custom.is_reset_since(&custom));
}

#[test]
fn resets() {
    let change = |change: &dyn Fn(&mut Histogram)| {
        let mut changed = simple();
        change(&mut changed);
        changed
    };
    for (what, now, expect) in [
        ("the same", simple(), false),
        ("said so", change(&|h| h.reset_hint = Reset), true),
        (
            "said not",
            change(&|h| (h.reset_hint, h.count) = (NotReset, 0.0)),
            false,
        ),
        ("less in all", change(&|h| h.count -= 1.0), true),
        ("less near zero", change(&|h| h.zero_count -= 1.0), true),
        (
            "a narrower zero bucket",
            change(&|h| h.zero_threshold = 0.1),
            true,
        ),
        (
            "a wider one that cuts nothing",
            change(&|h| h.zero_threshold = 0.4),
            false,
        ),
        (
            "a wider one that takes in a bucket",
            change(&|h| {
                h.widen_zero_bucket(1.0);
                h.compact();
            }),
            false,
        ),
        (
            "a wider one that cuts a bucket",
            change(&|h| {
                (h.zero_threshold, h.zero_count) = (1.5, 9.0);
                h.positive = Buckets::dense(2, vec![9.0, 9.0]);
                h.negative = Buckets::default();
            }),
            true,
        ),
        ("a finer schema", change(&|h| h.schema = 1), true),
        ("a coarser one", change(&|h| h.coarsen(-1)), false),
        (
            "less in a bucket",
            change(&|h| h.positive = Buckets::dense(1, vec![1.0, 5.0])),
            true,
        ),
        (
            "a bucket less",
            change(&|h| h.negative = Buckets::default()),
            true,
        ),
    ] {
        assert_eq!(now.is_reset_since(&simple()), expect, "{what}");
    }
}

#[test]
fn factors_and_divisors() {
    let mut negative = simple();
    negative.scale(-2.0);
    assert_eq!(
        (negative.count, negative.sum, negative.reset_hint),
        (-14.0, -9.0, Gauge)
    );
    let mut nothing = simple();
    nothing.divide(0.0);
    assert!(nothing.positive.is_empty() && nothing.negative.is_empty());
    assert_eq!(
        (nothing.count, nothing.reset_hint),
        (f64::INFINITY, Unknown)
    );
    let mut half = simple();
    half.divide(-2.0);
    assert_eq!((half.zero_count, half.reset_hint), (-0.5, Gauge));
}

#[test]
fn means_do_not_overflow() {
    let huge = Histogram {
        count: f64::MAX,
        sum: 3.0,
        ..Histogram::default()
    };
    let mut mean = RunningMean::new(&huge);
    let mut sum = RunningSum::new(&huge);
    for _ in 0..3 {
        mean.add(&huge).unwrap();
        sum.add(&huge).unwrap();
    }
    assert!((mean.value().count / f64::MAX - 1.0).abs() < 1e-12);
    assert!((mean.value().sum - 3.0).abs() < 1e-12);
    assert_eq!((sum.value().count, sum.value().sum), (f64::INFINITY, 12.0));
}

#[test]
fn sums_are_compensated() {
    let one = |sum| Histogram {
        sum,
        ..Histogram::default()
    };
    let mut sum = RunningSum::new(&one(1.0));
    for next in [1e100, 1.0, -1e100] {
        sum.add(&one(next)).unwrap();
    }
    assert_eq!(sum.value().sum, 2.0);
}

#[test]
fn texts() {
    let text = "{count:7, sum:4.5, [-1,-0.5):3, [-0.25,0.25]:1, (1,2]:1, (4,8]:2}";
    assert_eq!(simple().to_string(), text);
    let custom = Histogram {
        schema: CUSTOM_SCHEMA,
        count: 3.0,
        positive: Buckets::dense(0, vec![1.0, 2.0]),
        custom_values: Arc::new([5.0]),
        ..Histogram::default()
    };
    assert_eq!(
        custom.to_string(),
        "{count:3, sum:0, [-Inf,5]:1, (5,+Inf]:2}"
    );
}

#[test]
fn observations_that_are_not_a_number() {
    let mut histogram = simple();
    (histogram.sum, histogram.count) = (f64::NAN, 10.0);
    let quantile = histogram.quantile(0.7);
    assert!(quantile.has_nan && quantile.value == 8.0);
    let quantile = histogram.quantile(0.8);
    assert!(quantile.has_nan && quantile.value.is_nan());
    let fraction = histogram.fraction(f64::NEG_INFINITY, f64::INFINITY);
    assert!(fraction.has_nan && fraction.value == 0.7);
    assert!(!simple().quantile(0.8).has_nan);
}
