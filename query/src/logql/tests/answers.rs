//! What an answer says beside its values: categories of labels, order and thinning, what was read,
//! warnings and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use trine_storage::clock::ManualClock;
use trine_storage::{Error, Labels, Matcher, TimeRange};

use super::memory::{Answers, Entry, Memory};
use super::script::{engine, labels};
use crate::budget::{Cancel, Limits};
use crate::logql::source::{Batches, Direction, Request, Source};
use crate::logql::{
    Engine, LogRows, QueryError, QueryResult, QueryValue, RangeQuery, TooManySeries, parse,
};

fn memory(lines: &[(i64, &str)]) -> Memory {
    let entry = |(timestamp, line): &(i64, &str)| Entry {
        timestamp: *timestamp,
        stream: labels("{app=\"a\"}"),
        metadata: labels("{tid=\"t\"}"),
        line: line.as_bytes().to_vec(),
    };
    Memory {
        entries: lines.iter().map(entry).collect(),
        answers: Answers::Counts,
        batch: 2,
    }
}

fn query() -> RangeQuery {
    RangeQuery {
        start_ns: 0,
        end_ns: 1000,
        step_ns: 10,
        direction: Direction::Forward,
        limit: 100,
        interval_ns: 0,
    }
}

fn range(source: &dyn Source, text: &str, query: RangeQuery) -> Result<QueryResult, QueryError> {
    engine().range(source, &parse(text).unwrap(), query, &Cancel::new())
}

fn rows(source: &dyn Source, text: &str, query: RangeQuery) -> LogRows {
    match range(source, text, query).unwrap().value {
        QueryValue::Streams(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn times(rows: &LogRows) -> Vec<i64> {
    rows.entries
        .iter()
        .map(|entry| entry.timestamp_ns)
        .collect()
}

#[test]
fn labels_are_told_apart_or_merged() {
    let memory = memory(&[(1, "x=1"), (2, "x=2"), (3, "x=1")]);
    let found = rows(&memory, "{app=\"a\"} | logfmt", query());
    let streams = found.clone().categorized();
    let [stream] = streams.as_slice() else {
        panic!("{streams:?}")
    };
    assert_eq!(stream.labels.to_string(), "{app=\"a\"}");
    let entry = stream.entries.last().unwrap();
    assert_eq!(entry.metadata.to_string(), "{tid=\"t\"}");
    assert_eq!(entry.parsed.to_string(), "{x=\"1\"}");
    let merged = found.merged();
    let shape: Vec<(String, usize)> = merged
        .iter()
        .map(|stream| (stream.labels.to_string(), stream.entries.len()))
        .collect();
    let of = |x: &str| format!("{{app=\"a\", tid=\"t\", x=\"{x}\"}}");
    assert_eq!(shape, [(of("1"), 2), (of("2"), 1)]);
}

#[test]
fn an_interval_thins_lines() {
    let memory = memory(&[(1, "a"), (5, "b"), (11, "c"), (12, "d"), (21, "e")]);
    let forward = RangeQuery {
        interval_ns: 10,
        ..query()
    };
    assert_eq!(times(&rows(&memory, "{app=\"a\"}", forward)), [1, 11, 21]);
    let backward = RangeQuery {
        direction: Direction::Backward,
        ..forward
    };
    assert_eq!(times(&rows(&memory, "{app=\"a\"}", backward)), [21, 11, 1]);
}

/// Entries whose batches go through `way` to the reader.
struct Through<F> {
    memory: Memory,
    way: F,
}

impl<F: Fn(Batches) -> Batches + Send + Sync> Source for Through<F> {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        self.memory.scan(request).map(&self.way)
    }

    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error> {
        self.memory.streams(matchers, range)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error> {
        self.memory.label_names(matchers, range)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        self.memory.label_values(name, matchers, range)
    }
}

/// A source of which one part is damaged if told so, and how many batches are taken of it.
fn watched(corrupt: bool) -> (impl Source, Arc<AtomicUsize>) {
    let lines: Vec<(i64, &str)> = (0..100).map(|at| (at, "x")).collect();
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let way = move |batches: Batches| -> Batches {
        let bad = corrupt.then(|| Err(Error::corrupt("a block", 7, "bad checksum")));
        let counter = Arc::clone(&counter);
        let counted = batches.inspect(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        Box::new(bad.into_iter().chain(counted))
    };
    let memory = memory(&lines);
    (Through { memory, way }, taken)
}

#[test]
fn a_limit_stops_the_scan() {
    let (source, taken) = watched(false);
    let limited = RangeQuery {
        limit: 3,
        ..query()
    };
    assert_eq!(times(&rows(&source, "{app=\"a\"}", limited)), [0, 1, 2]);
    // Two lines a batch: the third batch shows that no further line has the last one's instant.
    assert!(taken.load(Ordering::Relaxed) <= 3);
}

#[test]
fn a_damaged_part_is_a_warning() {
    let (source, _) = watched(true);
    for text in ["{app=\"a\"}", "sum(count_over_time({app=\"a\"}[1s]))"] {
        let result = range(&source, text, query()).unwrap();
        assert_eq!(
            result.warnings,
            ["a block is damaged at byte 7: bad checksum"],
            "{text}"
        );
        assert!(result.stats.entries_returned > 0);
    }
}

#[test]
fn lines_are_read_only_where_they_must() {
    let (source, _) = watched(false);
    let at = 99;
    let read = |text: &str| {
        let result = engine().instant(&source, &parse(text).unwrap(), at, &Cancel::new());
        result.unwrap().stats.lines_processed
    };
    assert_eq!(read("sum(count_over_time({app=\"a\"}[1s]))"), 0);
    assert_eq!(read("sum by (app) (bytes_over_time({app=\"a\"}[1s]))"), 0);
    assert_eq!(
        read("sum(count_over_time({app=\"a\"} | json | drop x [1s]))"),
        0,
        "nothing is parsed for"
    );
    for counted in [
        // The store counts by metadata, and only what passes these.
        "sum by (tid) (count_over_time({app=\"a\"}[1s]))",
        "sum(count_over_time({app=\"a\"} |= \"x\" !~ \"y|z\" [1s]))",
        "sum by (tid) (rate({app=\"a\"} |= \"x\" or \"y\" | tid=\"1\", tid!=\"2\" [1s]))",
        "sum(count_over_time({app=\"a\"} | tid=\"1\" |= \"x\" [1s]))",
    ] {
        assert_eq!(read(counted), 0, "{counted}");
    }
    for read_through in [
        "count_over_time({app=\"a\"}[1s])",
        "sum(count_over_time({app=\"a\"} | tid=~\"1\" [1s]))",
        "sum(count_over_time({app=\"a\"} | tid=\"1\" or tid=\"2\" [1s]))",
        "sum(count_over_time({app=\"a\"} | json | tid=\"1\" [1s]))",
        "sum(count_over_time({app=\"a\"} | decolorize |= \"x\" [1s]))",
        "sum by (tid_extracted) (count_over_time({app=\"a\"} [1s]))",
    ] {
        assert_eq!(read(read_through), 100, "{read_through}");
    }
}

#[test]
fn limits_and_cancelling_stop_a_query() {
    let (source, _) = watched(false);
    let small = Limits {
        samples_max: 10,
        series_max: 1,
        ..Limits::default()
    };
    let engine = Engine::with_clock(small, Arc::new(ManualClock::new(0)));
    let all = parse("{app=\"a\"}").unwrap();
    let error = engine
        .range(&source, &all, query(), &Cancel::new())
        .unwrap_err();
    assert!(matches!(error, QueryError::Limit(_)), "{error}");
    let series = parse("count_over_time({app=\"a\"}[1s]) or vector(1)").unwrap();
    let at = 99;
    let error = engine
        .instant(&source, &series, at, &Cancel::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("maximum number of series (1) reached"),
        "{error}"
    );
    let cancel = Cancel::new();
    cancel.cancel();
    let error = engine.range(&source, &all, query(), &cancel).unwrap_err();
    assert!(matches!(error, QueryError::Cancelled), "{error}");
}

#[test]
fn a_cancelled_query_stops_within_a_batch_and_lets_go_of_what_it_read() {
    let lines: Vec<(i64, String)> = (0..100).map(|at| (at, format!("{{\"v\":{at}}}"))).collect();
    let lines: Vec<(i64, &str)> = lines
        .iter()
        .map(|(at, line)| (*at, line.as_str()))
        .collect();
    for text in [
        "{app=\"a\"} | json",
        "{app=\"a\"} | json | v=\"999\"",
        "count_over_time({app=\"a\"} | json [1s])",
        "sum_over_time({app=\"a\"} | json | unwrap v [1s])",
    ] {
        let mut memory = memory(&lines);
        memory.answers = Answers::Rows;
        let (cancel, alive) = (Cancel::new(), Arc::new(()));
        let way = |batches: Batches| -> Batches {
            let (cancel, alive) = (cancel.clone(), Arc::clone(&alive));
            Box::new(batches.enumerate().map(move |(number, batch)| {
                assert!(number <= 3, "read on after it was cancelled: {alive:?}");
                if number == 3 {
                    cancel.cancel();
                }
                batch
            }))
        };
        let source = Through { memory, way };
        let result = engine().range(&source, &parse(text).unwrap(), query(), &cancel);
        assert!(matches!(result, Err(QueryError::Cancelled)), "{text}");
        assert_eq!(Arc::strong_count(&alive), 1, "{text}");
    }
}

#[test]
fn too_many_series_fail_or_are_cut_with_a_warning() {
    let lines: Vec<(i64, String)> = (0..6).map(|at| (at, format!("v={at}"))).collect();
    let lines: Vec<(i64, &str)> = lines
        .iter()
        .map(|(at, line)| (*at, line.as_str()))
        .collect();
    let memory = memory(&lines);
    let expr = parse("sum by (v) (count_over_time({app=\"a\"} | logfmt [1s]))").unwrap();
    let ask = |series_max, too_many_series| {
        let limits = Limits {
            series_max,
            ..Limits::default()
        };
        let engine = Engine::with_clock(limits, Arc::new(ManualClock::new(0)));
        let engine = engine.with_too_many_series(too_many_series);
        let instant = engine.instant(&memory, &expr, 1000, &Cancel::new());
        let range = engine.range(&memory, &expr, query(), &Cancel::new());
        (instant, range)
    };
    let (instant, range) = ask(6, TooManySeries::Fail);
    assert!(
        instant.is_ok() && range.is_ok(),
        "exactly as many as allowed"
    );
    let text = "maximum number of series (5) reached for a single query";
    let (instant, range) = ask(5, TooManySeries::Fail);
    for result in [instant, range] {
        let error = result.map(|_| ()).unwrap_err().to_string();
        let advice = "; consider reducing query cardinality by adding more specific stream \
            selectors, reducing the time range, or aggregating results with functions like sum(), \
            count() or topk()";
        assert_eq!(error, format!("{text}{advice}"));
    }
    let (instant, range) = ask(5, TooManySeries::Cut);
    for result in [instant.unwrap(), range.unwrap()] {
        assert_eq!(
            result.warnings,
            [format!("{text}; returning partial results")]
        );
        let labels: Vec<Labels> = match result.value {
            QueryValue::Vector(samples) => samples.into_iter().map(|s| s.labels).collect(),
            QueryValue::Matrix(series) => series.into_iter().map(|s| s.labels).collect(),
            other => panic!("{other:?}"),
        };
        let expected: Vec<Labels> = (0..5).map(labels_of).collect();
        assert_eq!(labels, expected, "the first in their order");
    }
}

fn labels_of(v: i32) -> Labels {
    labels(&format!("{{v=\"{v}\"}}"))
}
