use std::time::Duration;

use trine_storage::{Labels, Matcher, TimeRange};
use trine_tsdb::{Hints, Values};

use super::*;
use crate::config::generator::Processor;
use crate::process::requests::{START_MS, of, request, span};

fn generator(settings: Settings) -> Generator {
    Generator::new(Arc::new(settings), Total::default(), START_MS)
}

/// The samples of a metric whose labels contain `part`.
fn samples(engine: &Tsdb, metric: &str, part: &str) -> Vec<(i64, f64)> {
    let matchers = [Matcher::equal("__name__", metric)];
    let snapshot = engine.snapshot();
    let found = snapshot.select(&matchers, TimeRange::ALL, &Hints::default());
    let mut samples = Vec::new();
    for series in found.unwrap() {
        let series = series.unwrap();
        if series.labels.to_string().contains(part) {
            let Values::Floats(values) = series.samples.values else {
                panic!("no floats");
            };
            samples.extend(series.samples.timestamps.into_iter().zip(values));
        }
    }
    samples
}

fn open(dir: &tempfile::TempDir) -> Tsdb {
    Tsdb::open(dir.path()).unwrap()
}

const CALLS: &str = "traces_spanmetrics_calls_total";

#[test]
fn series_are_stored_in_rounds_and_end_when_nothing_comes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let generator = generator(Settings::default());
    let store = |now_ms| generator.store(now_ms, || Ok(engine.clone())).unwrap();
    let spans = |ids: &[u8]| {
        let spans = ids.iter().map(|id| span(2, (*id, 0), 1));
        request(vec![of("a", spans.collect())])
    };
    assert!(generator.take(spans(&[1, 1, 2]), START_MS + 1));
    assert!(
        !generator.take(spans(&[1]), START_MS + 2),
        "somebody is about to count"
    );
    assert!(!generator.is_due(START_MS + 14_999));
    assert!(generator.is_due(START_MS + 15_000));
    let first = START_MS + 15_000;
    store(first);
    assert!(!generator.is_due(first + 1));
    generator.count_waiting();
    let zero = START_MS + 1;
    assert_eq!(
        samples(&engine, CALLS, "span 1"),
        [(zero, 0.0), (first, 3.0)]
    );
    assert_eq!(
        samples(&engine, CALLS, "span 2"),
        [(zero, 0.0), (first, 1.0)]
    );
    // What is known by its reference goes on; what nothing comes for ends.
    let second = first + 15_000;
    assert!(generator.take(spans(&[1, 1]), second));
    generator.count_waiting();
    store(second);
    let last = second + 15 * 60_000;
    store(last - 1);
    store(last + 1);
    let of_1 = samples(&engine, CALLS, "span 1");
    assert_eq!(of_1.get(2), Some(&(second, 5.0)));
    assert_eq!(
        of_1.last().map(|(time, value)| (*time, value.is_nan())),
        Some((last + 1, true))
    );
    assert_eq!(generator.figures().active_series, 0);
    // A round with nothing to tell stores nothing.
    store(last + 60_000);
    assert_eq!(samples(&engine, CALLS, "span 1").len(), of_1.len());
    // The edge to the user was made when its other side did not come.
    let edge = samples(
        &engine,
        "traces_service_graph_request_total",
        r#"client="user""#,
    );
    assert_eq!(edge.first().map(|(_, value)| *value), Some(0.0));
    let metadata = engine.snapshot().metadata(Some(CALLS), None, None);
    assert!(format!("{metadata:?}").contains("Counter"), "{metadata:?}");
    engine.close().unwrap();
}

#[test]
fn exemplars_name_traces() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let settings = Settings {
        trace_id_label_name: "traceID".to_owned(),
        ..Settings::default()
    };
    let generator = generator(settings);
    generator.take(request(vec![of("a", vec![span(2, (1, 0), 3)])]), START_MS);
    generator
        .store(START_MS + 15_000, || Ok(engine.clone()))
        .unwrap();
    let matchers = [Matcher::equal(
        "__name__",
        "traces_spanmetrics_latency_bucket",
    )];
    let found = engine
        .snapshot()
        .exemplars(&matchers, TimeRange::ALL, &Hints::default())
        .unwrap();
    let [series] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(series.labels.get("le"), Some("0.004"));
    let id = "01".repeat(16);
    let labels = Labels::from_pairs([("traceID", id.as_str())]).unwrap();
    assert_eq!(series.exemplars[0].labels, labels);
    assert_eq!(series.exemplars[0].value, 0.003);
    assert_eq!(series.exemplars[0].timestamp, START_MS + 3);
    engine.close().unwrap();
}

#[test]
fn what_comes_again_counts_once() {
    let generator = generator(Settings::default());
    let spans = |id| request(vec![of("a", vec![span(2, (id, 0), 1)])]);
    for id in [1, 1, 2, 1] {
        generator.take(spans(id), START_MS);
    }
    generator.count_waiting();
    let figures = generator.figures();
    assert_eq!((figures.received, figures.repeated), (2, 2));
    let mut waiting = Waiting::default();
    for print in 0..REQUESTS_KNOWN_MAX as u128 {
        assert!(waiting.is_new(print));
    }
    assert!(!waiting.is_new(0));
    assert!(waiting.is_new(u128::MAX));
    assert!(waiting.is_new(0), "the oldest is forgotten");
    assert_eq!(waiting.known.len(), REQUESTS_KNOWN_MAX);
    assert_eq!(waiting.known_order.len(), REQUESTS_KNOWN_MAX);
}

#[test]
fn spans_of_another_time_do_not_count() {
    // A span of tests ends a millisecond after the start.
    for (now_ms, slack, counts) in [
        (START_MS + 1 + 30_000, 30, true),
        (START_MS + 1 + 30_001, 30, false),
        (START_MS + 1 - 30_000, 30, true),
        (START_MS - 30_000, 30, false),
        (START_MS + 30_002, 0, true),
    ] {
        let generator = generator(Settings {
            ingestion_time_range_slack: Duration::from_secs(slack),
            ..Settings::default()
        });
        generator.take(request(vec![of("a", vec![span(2, (1, 0), 1)])]), now_ms);
        generator.count_waiting();
        let figures = generator.figures();
        assert_eq!(figures.received, 1);
        assert_eq!(figures.outside_slack, u64::from(!counts), "{now_ms}");
        assert_eq!(figures.active_series > 0, counts, "{now_ms}");
    }
}

#[test]
fn what_waits_is_bounded_and_nothing_is_lost() {
    let total = Total::default();
    let generator = Generator::new(Arc::new(Settings::default()), total.clone(), START_MS);
    let name = "x".repeat(1 << 20);
    let large = |id: u8| {
        let mut span = span(1, (id, 0), 1);
        span.name = name.clone();
        request(vec![of("a", vec![span])])
    };
    let fit = WAITING_BYTES_MAX / large(1).bytes().len();
    for id in 1..=10 {
        assert_eq!(generator.take(large(id), START_MS), id == 1);
    }
    let bytes = fit * large(1).bytes().len();
    assert_eq!(generator.figures().waiting_bytes, bytes as u64);
    assert_eq!(total.0.load(Ordering::Relaxed), bytes);
    assert_eq!(generator.figures().received, 10 - fit as u64);
    generator.count_waiting();
    assert_eq!(generator.figures().received, 10);
    assert_eq!(total.0.load(Ordering::Relaxed), 0);
    // Others may have taken all there is.
    total.0.store(WAITING_IN_ALL_MAX, Ordering::Relaxed);
    assert!(!generator.take(large(11), START_MS));
    assert_eq!(generator.figures().received, 11);
    total.0.store(0, Ordering::Relaxed);
    assert!(generator.take(large(12), START_MS));
    drop(generator);
    assert_eq!(total.0.load(Ordering::Relaxed), 0);
}

#[test]
fn series_are_limited_and_processors_may_be_off() {
    // A row of span metrics has 2 + 17 series, one of a graph 2 + 2 * 11.
    let limited = generator(Settings {
        max_active_series: 2 * 19,
        processors: vec![Processor::SpanMetrics],
        ..Settings::default()
    });
    let spans = (1..=5).map(|id| span(2, (id, 0), 1)).collect();
    limited.take(request(vec![of("a", spans)]), START_MS);
    limited.count_waiting();
    let figures = limited.figures();
    assert_eq!((figures.active_series, figures.limited), (38, 3));
    let off = generator(Settings {
        processors: Vec::new(),
        ..Settings::default()
    });
    assert!(!off.take(request(vec![of("a", vec![span(2, (1, 0), 1)])]), START_MS));
    assert_eq!(
        off.figures(),
        Figures {
            max_active_series: 100_000,
            ..Figures::default()
        }
    );
    assert!(!off.is_due(i64::MAX));
}

#[test]
fn a_round_that_fails_is_told_and_the_next_one_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let generator = generator(Settings::default());
    generator.take(request(vec![of("a", vec![span(2, (1, 0), 1)])]), START_MS);
    let failure = || Err(Error::invalid("no engine".to_owned()));
    assert!(generator.store(START_MS + 15_000, failure).is_err());
    assert_eq!(generator.figures().rounds_failed, 1);
    let next = START_MS + 30_000;
    generator.store(next, || Ok(engine.clone())).unwrap();
    assert_eq!(
        samples(&engine, CALLS, ""),
        [(START_MS + 15_001, 0.0), (next, 1.0)]
    );
    engine.close().unwrap();
}
