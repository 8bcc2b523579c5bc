//! Metric queries against an evaluator that knows nothing but rows and windows: pushed down or not,
//! on one thread or on two, from rows in memory, a store's memory and its blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::Labels;
use trine_storage::clock::ManualClock;

use super::memory::{Answers, Entry, Memory, filled};
use super::script::labels;
use crate::budget::{Cancel, Limits};
use crate::logql::ast::{Expr, MetricKind};
use crate::logql::pipeline::Pipeline;
use crate::logql::pipeline::labels::Wanted;
use crate::logql::source::{Direction, Source};
use crate::logql::{Engine, QueryValue, RangeQuery, parse};
use crate::vector::{Grouping, quantile};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 10 * SECOND;
const END: i64 = 60 * SECOND;

/// A row: second, stream, metadata, kind of line, two numbers that the line has.
type Row = (i64, usize, usize, usize, u8, u8);

/// No two entries are alike: a store keeps one of two.
fn entries(rows: &[Row]) -> Vec<Entry> {
    const STREAMS: [&str; 3] = [
        "{app=\"x\", n=\"0\"}",
        "{app=\"x\", n=\"1\", level=\"warn\"}",
        "{app=\"x\", n=\"2\", path=\"/s\"}",
    ];
    const METADATA: [&str; 4] = [
        "{}",
        "{level=\"info\"}",
        "{level=\"warn\", pod=\"p\"}",
        "{path=\"/m\"}",
    ];
    let entry = |(i, row): (usize, &Row)| {
        let (at, stream, metadata, kind, a, b) = *row;
        let line = match kind {
            0 => format!("{{\"path\":\"/{a}\",\"v\":{b},\"level\":\"info\"}}"),
            1 => format!("level=debug path=/{a} v={b}"),
            2 => format!("{{\"v\":\"{a}\",\"o\":{{\"path\":\"/{b}\"}}}}"),
            3 => format!("v={a} {{\"path\""),
            _ => format!("plain {a} {b}"),
        };
        Entry {
            timestamp: at * SECOND + i as i64,
            stream: labels(STREAMS[stream]),
            metadata: match METADATA[metadata] {
                "{}" => Labels::empty(),
                text => labels(text),
            },
            line: line.into_bytes(),
        }
    };
    rows.iter().enumerate().map(entry).collect()
}

fn stages() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(""),
        Just("|= \"a\""),
        Just("!= \"info\" |~ \"[0-3]\""),
        Just("| level=\"info\""),
        Just("| level!=\"info\" |= \"v\""),
        Just("| json"),
        Just("| json | __error__=\"\""),
        Just("| json | v=3 | __error__=\"\""),
        Just("| json | path=\"/1\""),
        Just("| json | path=\"/1\" or v>2 | drop __error__, __error_details__"),
        Just("| logfmt | v>1 and path!=\"/3\""),
        Just("| json | logfmt | drop __error__, __error_details__"),
        Just("|= \"v\" | level=~\"info|warn\" | json | drop __error__ |= \"path\""),
        Just("| json | drop __error__, path"),
        Just("| json | drop __error__ | level=\"info\""),
        Just("| regexp \"path=(?P<path>\\\\S+)\""),
        Just("| json | label_format level=path | drop __error__"),
        Just("| json | drop __error__ | keep path, level"),
    ]
}

fn grouping() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(""),
        Just(" by ()"),
        Just(" by (level)"),
        Just(" by (path)"),
        Just(" by (level, path)"),
        Just(" by (n, path)"),
        Just(" without (n)"),
        Just(" without (level, v)"),
    ]
}

/// Operation, stages, seconds of the window, offset, grouping. With a value the grouping is that of
/// the operation, else that of a sum around it.
fn query() -> impl Strategy<Value = String> {
    let counted = prop_oneof![
        Just("count_over_time"),
        Just("rate"),
        Just("bytes_over_time"),
        Just("bytes_rate"),
    ];
    let valued = prop_oneof![
        Just("sum_over_time"),
        Just("avg_over_time"),
        Just("min_over_time"),
        Just("max_over_time"),
        Just("first_over_time"),
        Just("last_over_time"),
        Just("quantile"),
    ];
    let window = (1..40i64, -5..15i64);
    let counted = (counted, stages(), window.clone(), grouping(), any::<bool>());
    let counted = counted.prop_map(|(op, stages, (range, offset), by, summed)| {
        let inner = format!("{op}({{app=\"x\"}} {stages} [{range}s] offset {offset}s)");
        match summed {
            true => format!("sum{by} ({inner})"),
            false => inner,
        }
    });
    let valued = (valued, window, grouping(), any::<bool>());
    let valued = valued.prop_map(|(op, (range, offset), by, is_json)| {
        let parser = if is_json { "json" } else { "logfmt" };
        let by = if op == "sum_over_time" { "" } else { by };
        let op = op.replace("quantile", "quantile_over_time(0.7, ");
        let op = if op.ends_with(' ') { op } else { format!("{op}(") };
        format!(
            "{op}{{app=\"x\"}} | {parser} | unwrap v | __error__=\"\" [{range}s] offset {offset}s){by}"
        )
    });
    prop_oneof![counted, valued]
}

/// Values by labels and step.
type Answer = BTreeMap<(Labels, i64), f64>;
/// `None` when a line has an error.
type Naive = Option<Answer>;

fn naive(entries: &[Entry], expr: &Expr, step: i64) -> Naive {
    let Expr::Metric(metric) = expr else {
        return None;
    };
    let (range, grouping) = match &metric.kind {
        MetricKind::Range(range) => (range, range.grouping.clone()),
        MetricKind::Aggregate(sum) => {
            let MetricKind::Range(range) = &sum.inner.kind else {
                return None;
            };
            (
                range,
                Some(sum.grouping.clone().unwrap_or(Grouping::By(Vec::new()))),
            )
        }
        _ => return None,
    };
    let pipeline = Pipeline::new(&range.range.log.stages, Wanted::All).unwrap();
    let mut scratch = pipeline.scratch();
    let mut rows = Vec::new();
    for entry in entries {
        let passed = pipeline.run(&entry.line, &entry.stream, &entry.metadata, &mut scratch);
        let select = crate::logql::source::Lines {
            blob: entry.line.clone().into(),
            ends: vec![entry.line.len() as u32],
        };
        let mut selected = [true];
        pipeline.select(&select, &mut selected);
        let Some(passed) = passed.filter(|_| selected[0]) else {
            continue;
        };
        let all = passed.labels.merged();
        let mut value = 0.0;
        let mut of_series = all.clone();
        if range.range.unwrap.is_some() {
            let Some(number) = all.get("v").and_then(|text| text.parse().ok()) else {
                continue;
            };
            // The filter after `unwrap`.
            if all.get("__error__").is_some() {
                continue;
            }
            value = number;
            of_series = all.with("v", "");
        } else if all.get("__error__").is_some() {
            return None;
        }
        let group = grouping
            .as_ref()
            .map_or(of_series.clone(), |by| by.group_of(&of_series));
        rows.push((entry.timestamp, group, passed.line.len() as f64, value));
    }
    rows.sort_by_key(|row| row.0);
    let mut found: BTreeMap<(Labels, i64), Vec<(f64, f64)>> = BTreeMap::new();
    let mut at = START;
    while at <= END {
        let until = at - range.range.offset;
        for (timestamp, group, bytes, value) in &rows {
            if *timestamp > until - range.range.interval && *timestamp <= until {
                let of = found.entry((group.clone(), at)).or_default();
                of.push((*bytes, *value));
            }
        }
        at += step;
    }
    let seconds = range.range.interval as f64 / 1e9;
    let value = |of: &Vec<(f64, f64)>| {
        let bytes = || of.iter().map(|row| row.0).sum::<f64>();
        let mut values: Vec<f64> = of.iter().map(|row| row.1).collect();
        let sum = values.iter().sum::<f64>();
        match range.op.name() {
            "count_over_time" => of.len() as f64,
            "rate" => of.len() as f64 / seconds,
            "bytes_over_time" => bytes(),
            "bytes_rate" => bytes() / seconds,
            "sum_over_time" => sum,
            "avg_over_time" => sum / of.len() as f64,
            "min_over_time" => values.iter().copied().fold(f64::INFINITY, f64::min),
            "max_over_time" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "first_over_time" => values[0],
            "last_over_time" => values[values.len() - 1],
            "quantile_over_time" => quantile(0.7, &mut values),
            other => panic!("{other}"),
        }
    };
    Some(
        found
            .iter()
            .map(|(key, of)| (key.clone(), value(of)))
            .collect(),
    )
}

fn evaluate(
    source: &dyn Source,
    expr: &Expr,
    step: i64,
    threads_max: usize,
) -> Result<Answer, TestCaseError> {
    let limits = Limits {
        threads_max,
        ..Limits::default()
    };
    let engine = Engine::with_clock(limits, Arc::new(ManualClock::new(0)));
    let query = RangeQuery {
        start_ns: START,
        end_ns: END,
        step_ns: step,
        direction: Direction::Forward,
        limit: 0,
        interval_ns: 0,
    };
    let result = engine
        .range(source, expr, query, &Cancel::new())
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let QueryValue::Matrix(matrix) = result.value else {
        return Err(TestCaseError::fail("not a matrix"));
    };
    let points = matrix.iter().flat_map(|series| {
        let of = |point: &crate::logql::Point| {
            ((series.labels.clone(), point.timestamp_ns), point.value)
        };
        series.points.iter().map(of)
    });
    Ok(points.collect())
}

fn same(found: &Answer, expected: &Answer, place: &str) -> Result<(), TestCaseError> {
    let keys = found.keys().eq(expected.keys());
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    let close = found.values().zip(expected.values()).all(close);
    prop_assert!(
        keys && close,
        "{}\nfound    {:?}\nexpected {:?}",
        place,
        found,
        expected
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_way_to_an_answer_is_the_row_by_row_one(
        rows in proptest::collection::vec(
            (0..70i64, 0..3usize, 0..4usize, 0..5usize, 0..5u8, 0..5u8), 0..60),
        queries in proptest::collection::vec(query(), 6),
        step in 1..30i64,
    ) {
        let entries = entries(&rows);
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), &entries, entries.len() / 3 + 1);
        for text in &queries {
            let expr = parse(text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
            let Some(expected) = naive(&entries, &expr, step * SECOND) else {
                continue;
            };
            for (answers, batch) in [(Answers::Counts, 100), (Answers::Rows, 7)] {
                let memory = Memory { entries: entries.clone(), answers, batch };
                let found = evaluate(&memory, &expr, step * SECOND, 1)?;
                same(&found, &expected, &format!("{text} of {answers:?}"))?;
            }
            for threads in [1, 2] {
                let found = evaluate(&store.snapshot(), &expr, step * SECOND, threads)?;
                same(&found, &expected, &format!("{text} of a store, {threads} threads"))?;
            }
        }
        store.flush().unwrap();
        for text in &queries {
            let expr = parse(text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            if let Some(expected) = naive(&entries, &expr, step * SECOND) {
                let found = evaluate(&store.snapshot(), &expr, step * SECOND, 2)?;
                same(&found, &expected, &format!("{text} of blocks"))?;
            }
        }
        store.close().unwrap();
    }
}
