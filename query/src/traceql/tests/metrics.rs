//! Series over time: what a store counts is what its spans say and what a naive reading of them says;
//! exemplars, bounds and cancellation.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::Error;
use trine_storage::clock::ManualClock;
use trine_storage::error::Kind;

use super::memory::Span;
use super::properties::{self, satisfies};
use super::store::STORE;
use super::*;
use crate::budget::BudgetError;
use crate::traceql::ast::{Attribute, Intrinsic, MetricsTerm, Root, SpansetExpr, Stage};
use crate::traceql::source::{Batches, Request, ValuesRequest};

const SECOND: i64 = memory::SECOND;

/// A source that gives rows and counts nothing.
struct RowsOnly<'a>(&'a dyn Source);

impl Source for RowsOnly<'_> {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        match request {
            Request::Rows(_) => self.0.scan(request),
            _ => Err(Error::new(Kind::Unsupported, "only rows")),
        }
    }
    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
        self.0.attribute_names(range)
    }
    fn attribute_values(&self, request: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
        self.0.attribute_values(request)
    }
}

fn options(step: i64, instant: bool) -> MetricsOptions {
    MetricsOptions {
        start_ns: 100 * SECOND,
        end_ns: 203 * SECOND,
        step_ns: step * SECOND,
        instant,
        exemplars: 0,
        series_max: 0,
    }
}

fn metrics(source: &dyn Source, query: &str, options: &MetricsOptions) -> MetricsResult {
    let query = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let engine = Engine::new(Limits::default());
    engine
        .metrics(source, &query, options, &Cancel::new())
        .unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Labels in words, and values by time.
type Told = BTreeMap<String, BTreeMap<i64, f64>>;

fn told(result: &MetricsResult) -> Told {
    let one = |series: &MetricSeries| {
        let labels: BTreeMap<String, String> = series
            .labels
            .iter()
            .map(|(name, value)| (name.to_string(), format!("{value:?}")))
            .collect();
        (
            format!("{labels:?}"),
            series.samples.iter().copied().collect(),
        )
    };
    result.series.iter().map(one).collect()
}

fn check(found: &Told, expected: &Told, what: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{}",
        what
    );
    for (labels, expected) in expected {
        let found = &found[labels];
        prop_assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "{} {}",
            what,
            labels
        );
        for (time, expected) in expected {
            let found = found[time];
            let close = (found - expected).abs() <= 1e-9 * expected.abs();
            prop_assert!(
                found == *expected || close,
                "{} {} {}: {} {}",
                what,
                labels,
                time,
                found,
                expected
            );
        }
    }
    Ok(())
}

/// What labels tell, by the spans themselves.
fn label(span: &Span, attribute: &Attribute) -> Option<Value> {
    use crate::traceql::ast::{KINDS, STATUSES};
    let word = |words: &[&str], at: u8| Some(Value::Str(words[usize::from(at)].into()));
    match attribute {
        Attribute::Named { scope, key, .. } => span.attribute(*scope, key),
        Attribute::Intrinsic(Intrinsic::Name) => Some(Value::Str(span.name.into())),
        Attribute::Intrinsic(Intrinsic::Kind) => word(&KINDS, span.kind),
        Attribute::Intrinsic(Intrinsic::Status) => word(&STATUSES, span.status),
        other => panic!("no label is {other}"),
    }
}

fn number(span: &Span, attribute: &str) -> Option<f64> {
    match attribute {
        "duration" => Some(span.nanoseconds() as f64),
        name => match span.attribute(Some(Scope::Span), name.strip_prefix("span.").unwrap())? {
            Value::Int(number) => Some(number as f64),
            Value::Float(number) => Some(number),
            _ => None,
        },
    }
}

/// Numbers by time, by labels.
type Groups = BTreeMap<Vec<(String, String)>, BTreeMap<i64, Vec<f64>>>;

/// The series of a function over spans, computed one number after the other.
fn naive(
    (function, measured): (&str, &str),
    by: &[Attribute],
    spans: &[Span],
    options: &MetricsOptions,
) -> Told {
    let mut groups = Groups::new();
    let step = options.step_ns;
    let start = options.start_ns - options.start_ns % step;
    let end = options.end_ns + (step - options.end_ns % step) % step;
    for span in spans {
        let at = span.start();
        let time = if options.instant {
            let is_in = options.start_ns <= at && at <= options.end_ns;
            is_in.then_some(options.end_ns)
        } else {
            let steps = (at - start + step - 1).div_euclid(step);
            (start < at && at <= end).then_some(start + steps * step)
        };
        let number = match measured {
            "" => Some(0.0),
            measured => number(span, measured),
        };
        let (Some(time), Some(number)) = (time, number) else {
            continue;
        };
        let mut labels: Vec<(String, String)> = by
            .iter()
            .filter_map(|a| Some((a.to_string(), format!("{:?}", Some(label(span, a)?)))))
            .collect();
        let unit = if measured == "duration" { 1e9 } else { 1.0 };
        let is_bucketed = matches!(function, "histogram_over_time" | "quantile_over_time");
        let mut held = number / unit;
        if is_bucketed {
            let Some(exponent) = (1..64)
                .find(|e| number <= 2f64.powi(*e))
                .filter(|_| number > 1.0)
            else {
                continue;
            };
            if function == "histogram_over_time" {
                let bound = Some(Value::Float(2f64.powi(exponent) / unit));
                labels.push(("__bucket".into(), format!("{bound:?}")));
            } else {
                held = f64::from(exponent);
                labels.push(("p".into(), format!("{:?}", Some(Value::Float(0.5)))));
            }
        }
        if labels.is_empty() {
            labels.push(match by.first() {
                Some(first) => (first.to_string(), "None".into()),
                None => (
                    "__name__".into(),
                    format!("{:?}", Some(Value::Str(function.into()))),
                ),
            });
        }
        labels.sort();
        groups
            .entry(labels)
            .or_default()
            .entry(time)
            .or_default()
            .push(held);
    }
    if groups.is_empty() && by.is_empty() && matches!(function, "rate" | "count_over_time") {
        let name = format!("{:?}", Some(Value::Str(function.into())));
        groups.insert(vec![("__name__".into(), name)], BTreeMap::new());
    }
    let times: Vec<i64> = match options.instant {
        true => vec![options.end_ns],
        false => (1..=(end - start) / step)
            .map(|at| start + at * step)
            .collect(),
    };
    let seconds = match options.instant {
        true => options.end_ns - options.start_ns,
        false => step,
    } as f64
        / 1e9;
    let unit = if measured == "duration" { 1e9 } else { 1.0 };
    let value = |held: Option<&Vec<f64>>| -> Option<f64> {
        let empty = Vec::new();
        let numbers = held.unwrap_or(&empty);
        let count = numbers.len() as f64;
        let there = (!numbers.is_empty()).then_some(());
        match function {
            "rate" => Some(count / seconds),
            "count_over_time" | "histogram_over_time" => Some(count),
            "sum_over_time" => there.map(|()| numbers.iter().sum()),
            "avg_over_time" => there.map(|()| numbers.iter().sum::<f64>() / count),
            "min_over_time" => numbers.iter().copied().reduce(f64::min),
            "max_over_time" => numbers.iter().copied().reduce(f64::max),
            _ => Some(median(numbers) / unit),
        }
    };
    let mut found = Told::new();
    for (labels, held) in groups {
        let samples = times
            .iter()
            .filter_map(|time| Some((time / 1_000_000, value(held.get(time))?)));
        let labels: BTreeMap<String, String> = labels.into_iter().collect();
        found.insert(format!("{labels:?}"), samples.collect());
    }
    found
}

/// The median of numbers of which only the exponents of their buckets are known.
fn median(exponents: &[f64]) -> f64 {
    let mut sorted = exponents.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (0.5 * sorted.len() as f64).ceil() as usize;
    let Some(&top) = sorted.get(rank.max(1) - 1) else {
        return 0.0;
    };
    let below = sorted.iter().filter(|e| **e < top).count();
    let within = sorted.iter().filter(|e| **e == top).count();
    if below + within == rank.max(1) {
        return top.exp2();
    }
    let floor = match below {
        0 => top - 1.0,
        below => sorted[below - 1],
    };
    (floor + (top - floor) * (rank.max(1) - below) as f64 / within as f64).exp2()
}

fn functions() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("rate", ""),
        ("count_over_time", ""),
        ("sum_over_time", "span.n"),
        ("avg_over_time", "duration"),
        ("min_over_time", "span.n"),
        ("max_over_time", "duration"),
        ("histogram_over_time", "duration"),
        ("histogram_over_time", "span.n"),
        ("quantile_over_time", "duration"),
        ("quantile_over_time", "span.http.status_code"),
    ])
}

fn groupings() -> impl Strategy<Value = Vec<&'static str>> {
    let attributes = vec![
        "name",
        "kind",
        "status",
        "resource.service.name",
        ".region",
        "span.n",
        "span.tags",
        "span.missing",
    ];
    prop::sample::subsequence(attributes, 0..4)
}

fn query_of((function, measured): (&str, &str), by: &[&str], filter: &str) -> String {
    let more = if function == "quantile_over_time" {
        ", 0.5"
    } else {
        ""
    };
    let by = match by.is_empty() {
        true => String::new(),
        false => format!(" by ({})", by.join(", ")),
    };
    format!("{{ {filter} }} | {function}({measured}{more}){by}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Counts of the store, spans of the store, and a naive reading agree.
    #[test]
    fn three_ways_to_count_agree(
        function in functions(),
        by in groupings(),
        filter in properties::span_filter(),
        (step, instant) in (1i64..120, any::<bool>()),
    ) {
        let text = query_of(function, &by, &filter);
        let Ok(query) = parse(&text) else { return Ok(()) };
        let Root::Metrics(expr) = &query.root else { panic!("{text} is no metrics query") };
        let MetricsTerm::Function(pipeline, of) = &expr.term else { panic!("{text}") };
        let [Stage::Spans(SpansetExpr::Filter(Some(expr), _))] = &pipeline.stages[..] else {
            panic!("{text} is not one filter");
        };
        let options = options(step, instant);
        let spans: Vec<Span> =
            shop().into_iter().filter(|span| satisfies(span, expr)).collect();
        let by: Vec<Attribute> = of.by.iter().map(|(attribute, _)| attribute.clone()).collect();
        let expected = naive(function, &by, &spans, &options);
        STORE.with(|store| {
            let snapshot = store.snapshot();
            check(&told(&metrics(&snapshot, &text, &options)), &expected, &text)?;
            check(&told(&metrics(&RowsOnly(&snapshot), &text, &options)), &expected, &text)
        })?;
    }

    /// So they do for filters that ask about traces.
    #[test]
    fn traces_are_counted_as_their_spans_say(
        function in functions(),
        by in prop::sample::select(vec![
            "rootName", "rootServiceName", "span:childCount", "trace:duration", "trace:id", "span:id",
            "span:parentID", "statusMessage", "instrumentation:name", "event.attempt", "link.reason",
        ]),
        filter in properties::filter(),
        step in 1i64..120,
    ) {
        let text = query_of(function, &[by], &filter);
        if parse(&text).is_err() {
            return Ok(());
        }
        STORE.with(|store| {
            let snapshot = store.snapshot();
            let counted = metrics(&snapshot, &text, &options(step, false));
            let observed = metrics(&RowsOnly(&snapshot), &text, &options(step, false));
            check(&told(&counted), &told(&observed), &text)
        })?;
    }

    /// A comparison, too.
    #[test]
    fn comparisons_agree(
        filter in properties::filter(),
        selection in properties::filter(),
        top in 1usize..5,
        times in prop::option::of((100i64..210, 1i64..100)),
        instant in any::<bool>(),
    ) {
        let times = times.map_or(String::new(), |(start, more)| {
            format!(", {}, {}", start * SECOND, (start + more) * SECOND)
        });
        let text = format!("{{ {filter} }} | compare({{ {selection} }}, {top}{times})");
        if parse(&text).is_err() {
            return Ok(());
        }
        STORE.with(|store| {
            let snapshot = store.snapshot();
            let counted = metrics(&snapshot, &text, &options(30, instant));
            let observed = metrics(&RowsOnly(&snapshot), &text, &options(30, instant));
            check(&told(&counted), &told(&observed), &text)
        })?;
    }
}

#[test]
fn exemplars_stand_for_their_series() {
    STORE.with(|store| {
        let snapshot = store.snapshot();
        for source in [&snapshot as &dyn Source, &RowsOnly(&snapshot)] {
            let options = MetricsOptions {
                exemplars: 10,
                ..options(10, false)
            };
            let found = metrics(source, "{ status = error } | rate() by (name)", &options);
            let [series] = &found.series[..] else {
                panic!("{found:?}");
            };
            let [exemplar] = &series.exemplars[..] else {
                panic!("{series:?}");
            };
            let label = |name: &str| {
                let held = exemplar.labels.iter().find(|(held, _)| **held == *name);
                held.and_then(|(_, value)| value.clone())
            };
            assert_eq!(label("trace:id"), Some(Value::Str("01".repeat(16).into())));
            assert_eq!(label("name"), Some(Value::Str("auth".into())));
            assert_eq!(
                label("resource.service.name"),
                Some(Value::Str("shop".into()))
            );
            // The value of the series when the span began.
            assert_eq!((exemplar.timestamp_ms, exemplar.value), (102_000, 0.1));
            let query = "{ status = error } | max_over_time(duration)";
            let found = metrics(source, query, &options);
            let duration = label("duration");
            let value = found.series[0].exemplars[0].value;
            assert_eq!(
                duration,
                Some(Value::Str(format!("{}ms", value * 1e3).into()))
            );
            // The hint comes first.
            for (hint, expected) in [("0", 0), ("1", 1), ("false", 0), ("true", 2)] {
                let query = format!("{{}} | rate() with(exemplars={hint})");
                let found = metrics(source, &query, &options);
                assert_eq!(found.series[0].exemplars.len(), expected, "{query}");
            }
            // Of a trace there is one.
            let found = metrics(source, "{} | rate()", &options);
            assert_eq!(found.series[0].exemplars.len(), 2);
            // Where the value is dropped its exemplars are.
            let found = metrics(source, "{} | rate() < 0.2", &options);
            let kept: usize = found
                .series
                .iter()
                .map(|series| series.exemplars.len())
                .sum();
            assert!(kept < 2, "{found:?}");
        }
    });
}

#[test]
fn series_are_bounded() {
    STORE.with(|store| {
        let snapshot = store.snapshot();
        let all = metrics(&snapshot, "{} | rate() by (name)", &options(10, false));
        assert_eq!((all.is_partial, all.message.as_deref()), (false, None));
        let count = all.series.len();
        for (series_max, expected) in [(count, count), (count - 1, count - 1), (1, 1), (0, count)] {
            let options = MetricsOptions {
                series_max,
                ..options(10, false)
            };
            let found = metrics(&snapshot, "{} | rate() by (name)", &options);
            assert_eq!(found.series[..], all.series[..expected]);
            assert_eq!(found.is_partial, expected < count);
            let text = format!(
                "Response exceeds maximum series limit of {series_max}, a partial response is \
                 returned. Warning: the accuracy of each individual value is not guaranteed."
            );
            assert_eq!(found.message, (expected < count).then_some(text));
        }
    });
}

#[test]
fn a_query_over_its_budget_says_so() {
    STORE.with(|store| {
        let snapshot = store.snapshot();
        for source in [&snapshot as &dyn Source, &RowsOnly(&snapshot)] {
            let limits = Limits {
                samples_max: 20,
                ..Limits::default()
            };
            let query = parse("{} | rate() by (name)").unwrap();
            let found = Engine::new(limits)
                .metrics(source, &query, &options(10, false), &Cancel::new())
                .unwrap();
            assert!(found.is_partial && found.series.len() <= 1, "{found:?}");
            assert_eq!(found.message, Some(BudgetError::Samples.to_string()));
        }
    });
}

#[test]
fn ranges_are_as_long_as_they_may_be_and_as_odd_as_they_come() {
    let engine = Engine::new(Limits::default());
    let most = i64::try_from(Limits::default().steps_max).unwrap();
    let query = parse("{} | rate()").unwrap();
    STORE.with(|store| {
        let snapshot = store.snapshot();
        let ask = |start_ns, end_ns, step_ns, instant| {
            let options = MetricsOptions {
                start_ns,
                end_ns,
                step_ns,
                instant,
                exemplars: 5,
                series_max: 0,
            };
            let found = engine.metrics(&snapshot, &query, &options, &Cancel::new());
            found
                .map(|found| found.series[0].samples.len())
                .map_err(|error| error.to_string())
        };
        assert_eq!(ask(0, most * SECOND, SECOND, false), Ok(11_000));
        assert_eq!(
            ask(0, (most + 1) * SECOND, SECOND, false),
            Err("step of 1s is too small, minimum step for given range is 1.000090909s".into())
        );
        let (least, last) = (i64::MIN, i64::MAX);
        assert_eq!(ask(least, last, last, false), Ok(2));
        assert_eq!(ask(least, last, 0, true), Ok(1));
        assert_eq!(ask(last - 1, last, 1, false), Ok(1));
        for (start, end, step) in [
            (5, 5, 1),
            (6, 5, 1),
            (last, least, 1),
            (0, 5, 0),
            (0, 5, -1),
        ] {
            assert!(
                ask(start, end, step, false).is_err(),
                "{start} {end} {step}"
            );
        }
        assert!(ask(least, last, 1, false).is_err());
    });
}

#[test]
fn a_canceled_query_gives_nothing() {
    let cancel = Cancel::new();
    cancel.cancel();
    STORE.with(|store| {
        for text in [
            "{} | rate()",
            "{} > {} | rate()",
            "{} | compare({ status = error })",
        ] {
            let query = parse(text).unwrap();
            let engine = Engine::with_clock(Limits::default(), Arc::new(ManualClock::new(0)));
            let found = engine.metrics(&store.snapshot(), &query, &options(10, false), &cancel);
            assert!(
                matches!(found, Err(QueryError::Budget(BudgetError::Canceled))),
                "{text}: {found:?}"
            );
        }
    });
}

#[test]
fn options_are_aligned_as_clients_expect() {
    let aligned = |start_ns, end_ns, step_ns, instant| {
        let options = MetricsOptions {
            start_ns,
            end_ns,
            step_ns,
            instant,
            exemplars: 0,
            series_max: 0,
        };
        let options = options.aligned();
        (options.start_ns, options.end_ns)
    };
    assert_eq!(aligned(25, 47, 10, false), (10, 50));
    assert_eq!(aligned(30, 50, 10, false), (20, 50));
    assert_eq!(aligned(5, 50, 10, false), (0, 50));
    assert_eq!(aligned(25, 47, 10, true), (25, 47));
    assert_eq!(aligned(25, 47, 0, false), (25, 47));
    assert_eq!(aligned(i64::MIN, i64::MAX, 10, false), (i64::MIN, i64::MAX));
}
