//! The engine: limits, cancelling, order, and a naive evaluator that it must agree with.

use std::time::Duration;

use proptest::prelude::*;
use trine_storage::Labels;
use trine_storage::clock::ManualClock;

use super::*;
use crate::budget::BudgetError;
use crate::promql::parse;
use crate::promql::source::Memory;
use crate::vector::ABSENT;

const MINUTE: i64 = 60_000;

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').map(|pair| pair.split_once('=').unwrap());
    Labels::from_pairs(pairs).unwrap()
}

/// `series` series named `m` with a sample each minute, the value being the minute.
fn minutes(series: usize, count: i64) -> Memory {
    let mut source = Memory::default();
    for n in 0..series {
        let labels = labels(&format!("__name__=m,n={n}"));
        for minute in 0..count {
            source.add(&labels, minute * MINUTE, minute as f64);
        }
    }
    source
}

fn range(
    limits: Limits,
    source: &Memory,
    query: &str,
    times: (i64, i64, i64),
) -> Result<QueryResult, QueryError> {
    Engine::new(limits).range(source, &parse(query).unwrap(), times, &Options::default())
}

#[test]
fn samples_are_bounded_by_what_is_held_at_one_time() {
    let source = minutes(10, 100);
    let limits = |samples_max| Limits {
        samples_max,
        ..Limits::default()
    };
    let run = |samples_max, query| {
        range(
            limits(samples_max),
            &source,
            query,
            (0, 99 * MINUTE, MINUTE),
        )
    };
    // An aggregation holds one series, what is made of it and its groups, not its ten inputs.
    let result = run(350, "sum(rate(m[5m]))").unwrap();
    assert!(result.cost.samples_peak <= 350, "{:?}", result.cost);
    assert_eq!(result.cost.samples_read, 1000);
    assert_eq!(result.cost.series_read, 10);
    // What comes back is held.
    let error = run(350, "rate(m[5m])").unwrap_err();
    assert!(matches!(error, QueryError::Budget(BudgetError::Samples)));
    assert_eq!(
        error.to_string(),
        "query processing would load too many samples into memory in query execution"
    );
    assert!(run(1300, "rate(m[5m])").is_ok());
    assert!(run(1300, "m + m").is_err(), "both sides are held");
    assert!(
        run(1100, "sum_over_time(m[50m:100ms])").is_err(),
        "the steps of a subquery count"
    );
}

#[test]
fn bytes_are_bounded() {
    let source = minutes(3, 10);
    let run = |bytes_max| {
        let limits = Limits {
            bytes_max,
            ..Limits::default()
        };
        range(limits, &source, "m", (0, 9 * MINUTE, MINUTE))
    };
    let used = run(u64::MAX).unwrap().cost.bytes_peak;
    assert!(used > 3 * 10 * 8, "values and labels: {used}");
    assert!(run(used).is_ok());
    assert!(matches!(
        run(used - 1),
        Err(QueryError::Budget(BudgetError::Bytes(_)))
    ));
}

#[test]
fn series_are_bounded() {
    let source = minutes(3, 1);
    let run = |series_max| {
        range(
            Limits {
                series_max,
                ..Limits::default()
            },
            &source,
            "sum(m)",
            (0, 0, 1),
        )
    };
    assert!(run(3).is_ok());
    assert!(matches!(
        run(2),
        Err(QueryError::Budget(BudgetError::Series(2)))
    ));
}

#[test]
fn steps_are_bounded_and_must_make_sense() {
    let source = minutes(1, 1);
    let limits = Limits {
        steps_max: 10,
        ..Limits::default()
    };
    let run = |times| range(limits.clone(), &source, "m", times);
    assert!(run((0, 10, 1)).is_ok());
    let text = |times| run(times).unwrap_err().to_string();
    assert!(text((0, 11, 1)).starts_with("exceeded maximum resolution of 10 points"));
    assert_eq!(
        text((1, 0, 1)),
        "end timestamp must not be before start time"
    );
    assert!(text((0, 1, 0)).starts_with("zero or negative query resolution step widths"));
    assert!(text((i64::MIN, i64::MAX, 1)).starts_with("exceeded maximum resolution"));
}

#[test]
fn time_and_cancel_stop_a_query() {
    #[derive(Debug)]
    struct Ticking(ManualClock);
    impl Clock for Ticking {
        fn now_ns(&self) -> i64 {
            self.0.now_ns()
        }
        fn monotonic_ns(&self) -> u64 {
            self.0.advance(Duration::from_millis(1));
            self.0.monotonic_ns()
        }
    }
    let source = minutes(50, 1);
    let query = parse("sum(m)").unwrap();
    let engine = Engine::with_clock(Limits::default(), Arc::new(Ticking(ManualClock::new(0))));
    let timeout = |ms| Options {
        timeout: Some(Duration::from_millis(ms)),
        ..Options::default()
    };
    assert!(engine.instant(&source, &query, 0, &timeout(1000)).is_ok());
    let error = engine
        .instant(&source, &query, 0, &timeout(20))
        .unwrap_err();
    assert_eq!(error.to_string(), "query timed out in query execution");
    let options = Options::default();
    options.cancel.cancel();
    let error = engine.instant(&source, &query, 0, &options).unwrap_err();
    assert_eq!(error.to_string(), "query was canceled in query execution");
}

#[test]
fn range_queries_want_numbers() {
    let source = minutes(1, 1);
    for (query, name) in [("m[5m]", "range vector"), ("\"x\"", "string")] {
        let error = range(Limits::default(), &source, query, (0, 1, 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "invalid expression type \"{name}\" for range query, must be Scalar or instant \
                 Vector"
            )
        );
    }
}

#[test]
fn the_lookback_can_be_chosen() {
    let source = minutes(1, 1);
    let options = Options {
        lookback_ms: 30 * MINUTE,
        ..Options::default()
    };
    let query = parse("m").unwrap();
    let engine = Engine::new(Limits::default());
    let found = |at: i64| match engine.instant(&source, &query, at, &options).unwrap().value {
        Value::Vector(samples) => samples.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((found(30 * MINUTE - 1), found(30 * MINUTE)), (1, 0));
}

#[test]
fn annotations_are_bounded() {
    let mut source = Memory::default();
    for n in 0..20 {
        let labels = labels(&format!("__name__=gauge_{n:02}"));
        source.add(&labels, 0, 0.0);
        source.add(&labels, MINUTE, 1.0);
    }
    let query = "sum(rate({__name__=~\"gauge_.*\"}[5m]))";
    let error = range(Limits::default(), &source, query, (MINUTE, MINUTE, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "vector cannot contain metrics with the same labelset"
    );
    let query =
        "sum by (__name__) (last_over_time({__name__=~\"gauge_.*\"}[5m])) or (rate(gauge_01[5m]))";
    let result = range(Limits::default(), &source, query, (MINUTE, MINUTE, 1)).unwrap();
    assert_eq!(result.infos.len(), 1);
    let all: Vec<String> = (0..20)
        .map(|n| format!("count(rate(gauge_{n:02}[5m]))"))
        .collect();
    let query = all.join(" + ");
    let result = range(Limits::default(), &source, &query, (MINUTE, MINUTE, 1)).unwrap();
    assert_eq!(result.infos.len(), ANNOTATIONS_MAX + 1);
    assert_eq!(
        result.infos[ANNOTATIONS_MAX],
        "10 more info annotations omitted"
    );
    assert!(
        result.infos[1].ends_with(": \"gauge_01\" (1:40)"),
        "{}",
        result.infos[1]
    );
}

#[test]
fn long_chains_of_operators_fit_the_stack() {
    let source = minutes(1, 1);
    let query = vec!["m"; 190].join(" + ");
    let result = range(Limits::default(), &source, &query, (MINUTE, MINUTE, 1)).unwrap();
    assert!(matches!(result.value, Value::Matrix(series) if series.len() == 1));
}

#[test]
fn times_at_the_ends_of_the_clock_do_not_overflow() {
    let source = minutes(1, 3);
    let engine = Engine::new(Limits::default());
    for text in [
        "m",
        "m offset -1y",
        "rate(m[1y] offset 100y)",
        "max_over_time(m[1h:7s] @ end())",
    ] {
        let query = parse(text).unwrap();
        for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
            assert!(
                engine
                    .instant(&source, &query, time, &Options::default())
                    .is_ok(),
                "{text}"
            );
        }
    }
}

/// A window function computed afresh for each step from all samples.
fn naive(
    function: &str,
    samples: &[(i64, f64)],
    (start, end, step): (i64, i64, i64),
    range_ms: i64,
    offset: i64,
) -> Vec<f64> {
    let mut out = Vec::new();
    let mut at = start;
    while at <= end {
        let (from, to) = (at - offset - range_ms, at - offset);
        let inside =
            |(time, value): &&(i64, f64)| *time > from && *time <= to && !is_absent(*value);
        let window: Vec<(i64, f64)> = samples.iter().filter(inside).copied().collect();
        out.push(naive_value(function, &window, from, to));
        at += step;
    }
    out
}

fn naive_value(function: &str, window: &[(i64, f64)], from: i64, to: i64) -> f64 {
    let values: Vec<f64> = window.iter().map(|(_, value)| *value).collect();
    let (Some((t0, first)), Some((t1, last))) = (window.first(), window.last()) else {
        return ABSENT;
    };
    match function {
        "count_over_time" => values.len() as f64,
        "last_over_time" => *last,
        "max_over_time" => values.iter().copied().fold(f64::MIN, f64::max),
        "changes" => values.windows(2).filter(|two| two[0] != two[1]).count() as f64,
        "resets" => values.windows(2).filter(|two| two[0] > two[1]).count() as f64,
        "increase" | "rate" => {
            if values.len() < 2 {
                return ABSENT;
            }
            let drops: f64 = values
                .windows(2)
                .filter(|two| two[1] < two[0])
                .fold(0.0, |sum, two| sum + two[0]);
            let change = last - first + drops;
            let seconds = |ms: i64| ms as f64 / 1000.0;
            let sampled = seconds(t1 - t0);
            let gap = sampled / (values.len() - 1) as f64;
            let mut head = seconds(t0 - from);
            if head >= 1.1 * gap {
                head = gap / 2.0;
            }
            if change > 0.0 && *first >= 0.0 {
                head = head.min(sampled * first / change);
            }
            let mut tail = seconds(to - t1);
            if tail >= 1.1 * gap {
                tail = gap / 2.0;
            }
            let increase = change * (sampled + head + tail) / sampled;
            if function == "rate" {
                increase / seconds(to - from)
            } else {
                increase
            }
        }
        other => panic!("{other}"),
    }
}

/// A small number, or a stale marker.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![4 => (0u8..20).prop_map(f64::from), 1 => Just(ABSENT)]
}

proptest! {
    #[test]
    fn sliding_windows_agree_with_naive_ones(
        gaps in prop::collection::vec(1i64..40_000, 1..60),
        values in prop::collection::vec(value(), 60),
        function in prop::sample::select(vec![
            "count_over_time", "last_over_time", "max_over_time", "changes", "resets", "increase",
            "rate",
        ]),
        start in -50_000i64..500_000,
        steps in 0i64..40,
        step in 1i64..50_000,
        range_ms in 1i64..200_000,
        offset in -60_000i64..60_000,
    ) {
        let mut time = 0;
        let samples: Vec<(i64, f64)> = gaps.iter().zip(values).map(|(gap, value)| {
            time += gap;
            (time, value)
        }).collect();
        let mut source = Memory::default();
        for (time, value) in &samples {
            source.add(&labels("__name__=m"), *time, *value);
        }
        let times = (start, start + steps * step, step);
        let seconds = |ms: i64| {
            format!("{}{}.{:03}", if ms < 0 { "-" } else { "" }, ms.abs() / 1000, ms.abs() % 1000)
        };
        let query = format!("{function}(m[{}] offset {})", seconds(range_ms), seconds(offset));
        let result = range(Limits::default(), &source, &query, times).unwrap();
        let Value::Matrix(series) = result.value else { panic!("a matrix") };
        let mut got = vec![ABSENT; (steps + 1) as usize];
        for one in series {
            let Values::Floats(values) = one.samples.values else { panic!("floats") };
            for (time, value) in one.samples.timestamps.iter().zip(values) {
                got[((time - start) / step) as usize] = value;
            }
        }
        let wanted = naive(function, &samples, times, range_ms, offset);
        for (at, (got, want)) in got.iter().zip(wanted).enumerate() {
            let equal = is_absent(*got) == is_absent(want)
                && (is_absent(want) || (got - want).abs() <= 1e-9 * want.abs().max(1.0));
            prop_assert!(equal, "{} at step {}: {} but {}", query, at, got, want);
        }
    }

    #[test]
    fn an_instant_query_is_one_step_of_a_range_query(
        values in prop::collection::vec(value(), 30),
        query in prop::sample::select(vec![
            "m", "m > 5", "sum(m)", "rate(m[2m])", "m - on() group_left sum(m)", "topk(1, m)",
            "avg_over_time(m[3m:20s])", "m or vector(3)", "absent(m)", "stddev_over_time(m[90s])",
        ]),
    ) {
        let mut source = Memory::default();
        for (at, value) in values.iter().enumerate() {
            let labels = labels(&format!("__name__=m,n={}", at % 3));
            source.add(&labels, at as i64 * 17_000, *value);
        }
        let parsed = parse(query).unwrap();
        let engine = Engine::new(Limits::default());
        let options = Options { lookback_ms: 45_000, ..Options::default() };
        let whole = engine.range(&source, &parsed, (0, 600_000, 10_000), &options).unwrap();
        let Value::Matrix(whole) = whole.value else { panic!("a matrix") };
        for time in (0..=600_000).step_by(10_000) {
            let one = engine.instant(&source, &parsed, time, &options).unwrap();
            let Value::Vector(mut one) = one.value else { panic!("a vector") };
            one.sort_by(|a, b| a.labels.cmp(&b.labels));
            let one: Vec<(Labels, u64)> =
                one.into_iter().map(|s| (s.labels, s.value.as_float().unwrap().to_bits())).collect();
            let at_step: Vec<(Labels, u64)> = whole.iter().filter_map(|series| {
                let Values::Floats(values) = &series.samples.values else { return None };
                let at = series.samples.timestamps.iter().position(|t| *t == time)?;
                Some((series.labels.clone(), values[at].to_bits()))
            }).collect();
            prop_assert_eq!(one, at_step, "{} at {}", query, time);
        }
    }
}
