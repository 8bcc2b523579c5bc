//! Operators and aggregations against tables and against naive models.

use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::Labels;

use super::*;

const NONE: f64 = ABSENT;

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    Labels::from_pairs(pairs.map(|pair| pair.split_once('=').unwrap())).unwrap()
}

fn series(text: &str, values: &[f64]) -> StepSeries {
    StepSeries::new(labels(text), values.to_vec())
}

/// The result as sorted lines, `_` for steps without a value.
fn shown(mut series: Vec<StepSeries>) -> Vec<String> {
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let value = |v: &f64| {
        if is_absent(*v) {
            "_".to_owned()
        } else {
            v.to_string()
        }
    };
    let line = |s: &StepSeries| {
        format!(
            "{} {}",
            s.labels,
            s.values.iter().map(value).collect::<Vec<_>>().join(" ")
        )
    };
    series.iter().map(line).collect()
}

fn aggregate(op: AggregateOp, grouping: Grouping, parameter: Parameter) -> Vec<String> {
    let mut aggregator = Aggregator::new(op, grouping, parameter, 3).unwrap();
    aggregator.push(&series("__name__=m,a=1,b=x", &[1.0, NONE, 3.0]));
    aggregator.push(&series("__name__=m,a=1,b=y", &[2.0, NONE, f64::NAN]));
    aggregator.push(&series("__name__=m,a=2,b=x", &[5.0, 5.0, 5.0]));
    aggregator.push(&series("__name__=m,a=3", &[NONE, NONE, NONE]));
    shown(aggregator.finish())
}

fn by(names: &[&str]) -> Grouping {
    Grouping::By(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn aggregations_by_step() {
    use AggregateOp::*;
    let table = [
        (Sum, "1 3 _ NaN", "2 5 5 5"),
        (Avg, "1 1.5 _ NaN", "2 5 5 5"),
        (Count, "1 2 _ 2", "2 1 1 1"),
        (Min, "1 1 _ 3", "2 5 5 5"),
        (Max, "1 2 _ 3", "2 5 5 5"),
        (Group, "1 1 _ 1", "2 1 1 1"),
        (Stdvar, "1 0.25 _ NaN", "2 0 0 0"),
        (Stddev, "1 0.5 _ NaN", "2 0 0 0"),
    ];
    for (op, first, second) in table {
        let expect = [first, second].map(|line| {
            let (a, values) = line.split_once(' ').unwrap();
            format!("{{a=\"{a}\"}} {values}")
        });
        assert_eq!(aggregate(op, by(&["a"]), Parameter::None), expect, "{op}");
        let without = Grouping::Without(vec!["b".to_owned()]);
        assert_eq!(
            aggregate(op, without, Parameter::None),
            expect,
            "{op} without"
        );
    }
}

#[test]
fn aggregations_with_a_parameter() {
    let steps = |values: &[f64]| Parameter::Steps(values.to_vec());
    assert_eq!(
        aggregate(AggregateOp::Topk, by(&[]), steps(&[2.0, 1.0, 1.0])),
        [
            "{__name__=\"m\", a=\"1\", b=\"y\"} 2 _ _",
            "{__name__=\"m\", a=\"2\", b=\"x\"} 5 5 5",
        ]
    );
    assert_eq!(
        aggregate(AggregateOp::Bottomk, by(&["a"]), steps(&[1.0, 0.0, 1.0])),
        [
            "{__name__=\"m\", a=\"1\", b=\"x\"} 1 _ 3",
            "{__name__=\"m\", a=\"2\", b=\"x\"} 5 _ 5",
        ]
    );
    assert_eq!(
        aggregate(AggregateOp::Quantile, by(&[]), steps(&[0.5, -1.0, 2.0])),
        ["{} 2 -inf inf"]
    );
    assert_eq!(
        aggregate(
            AggregateOp::CountValues,
            by(&["b"]),
            Parameter::Label("v".to_owned())
        ),
        [
            "{b=\"x\", v=\"1\"} 1 _ _",
            "{b=\"x\", v=\"3\"} _ _ 1",
            "{b=\"x\", v=\"5\"} 1 1 1",
            "{b=\"y\", v=\"2\"} 1 _ _",
            "{b=\"y\", v=\"NaN\"} _ _ 1",
        ]
    );
}

#[test]
fn topk_breaks_ties_by_labels_and_ranks_within_a_group() {
    let mut aggregator =
        Aggregator::new(AggregateOp::Topk, by(&[]), Parameter::Steps(vec![2.0]), 1).unwrap();
    for name in ["d", "b", "c", "a"] {
        aggregator.push(&series(&format!("n={name}"), &[7.0]));
    }
    aggregator.push(&series("n=z", &[f64::NAN]));
    let names: Vec<_> = aggregator
        .finish()
        .iter()
        .map(|s| s.labels.to_string())
        .collect();
    assert_eq!(names, ["{n=\"a\"}", "{n=\"b\"}"]);
}

#[test]
fn bad_parameters_are_refused() {
    let new = |value| {
        let parameter = Parameter::Steps(vec![value]);
        Aggregator::new(AggregateOp::Topk, by(&[]), parameter, 1)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(new(f64::NAN).to_string(), "Parameter value is NaN");
    assert_eq!(
        new(f64::INFINITY).to_string(),
        "Scalar value +Inf overflows int64"
    );
    assert_eq!(
        new(-1e30).to_string(),
        "Scalar value -1e+30 underflows int64"
    );
    let label = Parameter::Label(String::new());
    assert!(Aggregator::new(AggregateOp::CountValues, by(&[]), label, 1).is_err());
}

#[test]
fn sums_and_means_do_not_lose_small_values_or_overflow() {
    let run = |op, values: &[f64]| {
        let mut aggregator = Aggregator::new(op, by(&[]), Parameter::None, 1).unwrap();
        for value in values {
            aggregator.push(&series("", &[*value]));
        }
        aggregator.finish()[0].values[0]
    };
    assert_eq!(run(AggregateOp::Sum, &[1e100, 1.0, -1e100, 1.0]), 2.0);
    assert_eq!(run(AggregateOp::Sum, &[f64::MAX, f64::MAX]), f64::INFINITY);
    assert_eq!(run(AggregateOp::Avg, &[f64::MAX, f64::MAX]), f64::MAX);
    assert_eq!(run(AggregateOp::Avg, &[1e100, 1.0, -1e100, 1.0]), 0.5);
    assert_eq!(run(AggregateOp::Avg, &[f64::INFINITY, 1.0]), f64::INFINITY);
    assert!(run(AggregateOp::Avg, &[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
}

fn prometheus(op: BinaryOp, comparison: Comparison) -> Operation {
    Operation {
        op,
        comparison,
        rules: Arithmetic::Prometheus,
    }
}

fn join(op: BinaryOp, matching: &Matching) -> Result<Vec<String>, VectorError> {
    let lhs = vec![
        series("__name__=l,a=1,b=x", &[1.0, 2.0, NONE]),
        series("__name__=l,a=2,b=y", &[4.0, 4.0, 4.0]),
    ];
    let rhs = vec![
        series("__name__=r,a=1,b=x", &[1.0, NONE, 1.0]),
        series("__name__=r,a=2,b=z", &[2.0, 8.0, NONE]),
    ];
    let comparison = Comparison::Filter;
    let mut notes = BinaryNotes::default();
    binary(prometheus(op, comparison), matching, lhs, rhs, &mut notes).map(shown)
}

fn on(names: &[&str], cardinality: Cardinality, include: &[&str]) -> Matching {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Matching {
        cardinality,
        labels: MatchLabels::On(owned(names)),
        include: owned(include),
        ..Matching::default()
    }
}

#[test]
fn one_to_one_matching() {
    let all = Matching::default();
    assert_eq!(
        join(BinaryOp::Add, &all).unwrap(),
        ["{a=\"1\", b=\"x\"} 2 _ _"]
    );
    let on_a = on(&["a"], Cardinality::OneToOne, &[]);
    assert_eq!(
        join(BinaryOp::Div, &on_a).unwrap(),
        ["{a=\"1\"} 1 _ _", "{a=\"2\"} 2 0.5 _"]
    );
    // A comparison keeps the left value; with `on` only its labels.
    assert_eq!(join(BinaryOp::Greater, &on_a).unwrap(), ["{a=\"2\"} 4 _ _"]);
    assert_eq!(
        join(BinaryOp::Equal, &all).unwrap(),
        ["{__name__=\"l\", a=\"1\", b=\"x\"} 1 _ _"]
    );
}

#[test]
fn set_operators_work_step_by_step() {
    let on_a = on(&["a"], Cardinality::ManyToMany, &[]);
    let first = "{__name__=\"l\", a=\"1\", b=\"x\"}";
    let second = "{__name__=\"l\", a=\"2\", b=\"y\"}";
    assert_eq!(
        join(BinaryOp::And, &on_a).unwrap(),
        [format!("{first} 1 _ _"), format!("{second} 4 4 _")]
    );
    assert_eq!(
        join(BinaryOp::Unless, &on_a).unwrap(),
        [format!("{first} _ 2 _"), format!("{second} _ _ 4")]
    );
    assert_eq!(
        join(BinaryOp::Or, &on_a).unwrap(),
        [
            format!("{first} 1 2 _"),
            format!("{second} 4 4 4"),
            "{__name__=\"r\", a=\"1\", b=\"x\"} _ _ 1".to_owned()
        ]
    );
}

#[test]
fn many_to_one_takes_labels_over() {
    let lhs = vec![series("a=1,b=x", &[6.0]), series("a=1,b=y,c=old", &[9.0])];
    let rhs = vec![series("a=1,c=new", &[3.0])];
    let run = |matching: &Matching, lhs, rhs| {
        binary(
            prometheus(BinaryOp::Div, Comparison::Filter),
            matching,
            lhs,
            rhs,
            &mut BinaryNotes::default(),
        )
    };
    let left = on(&["a"], Cardinality::ManyToOne, &["c"]);
    assert_eq!(
        shown(run(&left, lhs.clone(), rhs.clone()).unwrap()),
        [
            "{a=\"1\", b=\"x\", c=\"new\"} 2",
            "{a=\"1\", b=\"y\", c=\"new\"} 3"
        ]
    );
    let right = on(&["a"], Cardinality::OneToMany, &[]);
    assert_eq!(
        shown(run(&right, rhs.clone(), lhs.clone()).unwrap()),
        [
            "{a=\"1\", b=\"x\"} 0.5",
            "{a=\"1\", b=\"y\", c=\"old\"} 0.3333333333333333"
        ]
    );
    let one = on(&["a"], Cardinality::OneToOne, &[]);
    let error = run(&one, lhs.clone(), rhs.clone()).unwrap_err();
    assert_eq!(error, VectorError::ManyToOneNotExplicit);
    let error = run(&one, rhs.clone(), lhs).unwrap_err().to_string();
    assert_eq!(
        error,
        "found duplicate series for the match group {a=\"1\"} on the right hand-side of the \
         operation: [{a=\"1\", b=\"x\"}, {a=\"1\", b=\"y\", c=\"old\"}];many-to-many matching not \
         allowed: matching labels must be unique on one side"
    );
    let same = vec![series("a=1,b=x", &[1.0]), series("a=1,b=x,c=old", &[1.0])];
    assert_eq!(
        run(&left, same, rhs).unwrap_err(),
        VectorError::GroupingNotUnique
    );
}

#[test]
fn duplicates_are_no_error_where_the_other_side_is_empty() {
    let twice = vec![
        series("a=1,b=x", &[1.0, NONE]),
        series("a=1,b=y", &[1.0, 1.0]),
    ];
    let on_a = on(&["a"], Cardinality::OneToOne, &[]);
    let run = |lhs| {
        let rhs = twice.clone();
        binary(
            prometheus(BinaryOp::Add, Comparison::Filter),
            &on_a,
            lhs,
            rhs,
            &mut BinaryNotes::default(),
        )
    };
    assert_eq!(run(vec![]).map(shown), Ok(vec![]));
    assert_eq!(
        run(vec![series("a=1", &[NONE, 4.0])]).map(shown),
        Ok(vec!["{a=\"1\"} _ 5".to_owned()])
    );
    assert!(
        run(vec![series("a=other", &[4.0, NONE])]).is_err(),
        "matching or not"
    );
}

#[test]
fn scalars_and_the_rules_of_division() {
    use Arithmetic::{Loki, Prometheus};
    let run = |op, comparison, scalar: f64, side, rules| {
        let vector = series("__name__=m,a=1", &[0.0, NONE, 5.0]);
        let operation = Operation {
            op,
            comparison,
            rules,
        };
        shown(vec![binary_scalar(
            operation,
            vector,
            &[scalar; 3],
            side,
            &mut BinaryNotes::default(),
        )])
    };
    let (filter, boolean) = (Comparison::Filter, Comparison::Bool);
    let (left, right) = (ScalarSide::Left, ScalarSide::Right);
    let dropped = |values: &str| vec![format!("{{a=\"1\"}} {values}")];
    assert_eq!(
        run(BinaryOp::Sub, filter, 1.0, left, Prometheus),
        dropped("1 _ -4")
    );
    assert_eq!(
        run(BinaryOp::Div, filter, 0.0, right, Prometheus),
        dropped("NaN _ inf")
    );
    assert_eq!(
        run(BinaryOp::Div, filter, 0.0, right, Loki),
        dropped("NaN _ NaN")
    );
    assert_eq!(
        run(BinaryOp::Mod, filter, 0.0, right, Loki),
        dropped("NaN _ NaN")
    );
    assert_eq!(
        run(BinaryOp::Less, boolean, 1.0, left, Loki),
        dropped("0 _ 1")
    );
    assert_eq!(
        run(BinaryOp::Less, filter, 1.0, left, Prometheus),
        ["{__name__=\"m\", a=\"1\"} _ _ 5"]
    );
}

#[test]
fn equal_labels_merge_where_steps_differ() {
    let merged = merge_equal_labels(vec![
        series("a=1", &[1.0, NONE]),
        series("a=1", &[NONE, 2.0]),
    ]);
    assert_eq!(merged.map(shown), Ok(vec!["{a=\"1\"} 1 2".to_owned()]));
    let twice = vec![series("a=1", &[1.0]), series("a=1", &[1.0])];
    assert_eq!(merge_equal_labels(twice), Err(VectorError::DuplicateLabels));
}

proptest! {
    #[test]
    fn topk_is_the_head_of_the_sorted_values(
        values in prop::collection::vec(
            prop_oneof![Just(f64::NAN), (-9i32..9).prop_map(f64::from)],
            0..30,
        ),
        k in 0usize..40,
    ) {
        let parameter = Parameter::Steps(vec![k as f64]);
        let mut aggregator = Aggregator::new(AggregateOp::Topk, by(&[]), parameter, 1).unwrap();
        for (at, value) in values.iter().enumerate() {
            aggregator.push(&series(&format!("n={at:03}"), &[*value]));
        }
        let got: Vec<u64> = aggregator.finish().iter().map(|s| s.values[0].to_bits()).collect();
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted.resize(values.len(), f64::NAN);
        let expect: Vec<u64> = sorted.iter().take(k).map(|v| v.to_bits()).collect();
        prop_assert_eq!(got, expect);
    }

    #[test]
    fn order_of_series_does_not_change_sums(
        mut values in prop::collection::vec(-1e15f64..1e15, 1..40),
    ) {
        let sum = |values: &[f64]| {
            let mut sum = kahan::Sum::default();
            values.iter().for_each(|value| sum.add(*value));
            sum.value()
        };
        let forward = sum(&values);
        values.reverse();
        let backward = sum(&values);
        let most = forward.abs() * 1e-15 + 0.1 * f64::EPSILON * 1e15;
        prop_assert!((forward - backward).abs() <= most);
    }

    #[test]
    fn quantiles_lie_between_the_ranks(
        mut values in prop::collection::vec(-1e9f64..1e9, 1..30),
        q in 0.0..=1.0f64,
    ) {
        let got = quantile(q, &mut values);
        let below = values.iter().filter(|v| **v <= got + 1e-3).count();
        prop_assert!(below as f64 >= (q * (values.len() - 1) as f64).floor() + 1.0);
    }
}

#[test]
fn histograms_are_held_once_a_group_and_step() {
    let histogram = Arc::new(Histogram {
        count: 1.0,
        positive: histogram::Buckets::dense(0, vec![1.0; 64]),
        ..Histogram::default()
    });
    let with = |label: &str| {
        let column = vec![Some(Arc::clone(&histogram)), None];
        StepSeries::with_histograms(series(label, &[]).labels, vec![NONE, NONE], column)
    };
    let grouping = Grouping::By(Vec::new());
    let mut sum = Aggregator::new(AggregateOp::Sum, grouping, Parameter::None, 2).unwrap();
    sum.push(&with("a=1"));
    let held = sum.samples_held();
    // Two floats, and a count with its error for each of 64 buckets.
    assert!((2 + 64..2 + 64 + 32).contains(&held), "{held}");
    sum.push(&with("a=2"));
    assert_eq!(sum.samples_held(), held);
    let (sums, notes) = sum.finish_with_notes();
    assert_eq!(notes, AggregateNotes::default());
    assert_eq!(sums[0].histogram(0).map(|sum| sum.count), Some(2.0));
    assert!(!sums[0].has(1));
}
