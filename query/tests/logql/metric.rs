//! Metric queries over the entries of a scenario: in a source that only gives rows, in a log store's
//! memory, and in its blocks.

use std::sync::Arc;

use serde_json::Value;
use trine_logstore::{Config, Durability, LogStore};
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::source::{Direction, Source};
use trine_query::logql::{Engine, QueryValue, RangeQuery, parse, parse_selector};
use trine_query::text::{format_float, parse_go_duration};
use trine_storage::Labels;
use trine_storage::clock::ManualClock;
use trine_storage::regex::LineRegex;

use super::memory::{Entry, Memory};
use super::text;

/// Where the times of entries and queries begin: 2026-01-01, nanoseconds.
const EPOCH_NS: i64 = 1_767_225_600_000_000_000;
/// How far a value may be from the one expected, which is rounded: a share of it.
const TOLERANCE: f64 = 1e-9;

/// Runs the steps of a scenario; the error lists all that was not as expected.
pub(super) fn scenario(case: &Value) -> Result<(), String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut wrong = Vec::new();
    let mut evals: Vec<&Value> = Vec::new();
    let steps = case["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let mut steps = steps.iter().peekable();
    while let Some(step) = steps.next() {
        if let Some(eval) = step.get("eval") {
            evals.push(eval);
        }
        for load in step["load"].as_array().into_iter().flatten() {
            entries.extend(expand(load));
        }
        let is_last = steps.peek().is_none_or(|next| next.get("load").is_some());
        if is_last && !evals.is_empty() {
            check_all(&entries, &std::mem::take(&mut evals), &mut wrong);
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n    ")),
    }
}

fn nanos(text: &str) -> i64 {
    parse_go_duration(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn label_set(text: &str) -> Labels {
    let matchers = parse_selector(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Labels::from_pairs(matchers.iter().map(|m| (m.name(), m.value()))).unwrap()
}

/// The entries of one element of a `load` step.
fn expand(load: &Value) -> Vec<Entry> {
    let metadata = load["metadata"].as_object().into_iter().flatten();
    let metadata = metadata.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let metadata = Labels::from_pairs(metadata).unwrap();
    let every = load["every"].as_str().map_or(0, nanos);
    let entry = |i: i64| Entry {
        timestamp: EPOCH_NS + nanos(text(load, "start")) + every * i,
        stream: label_set(text(load, "stream")),
        metadata: metadata.clone(),
        line: text(load, "line").replace("{{.i}}", &i.to_string()),
    };
    (0..load["count"].as_i64().unwrap_or(1))
        .map(entry)
        .collect()
}

fn check_all(entries: &[Entry], evals: &[&Value], wrong: &mut Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        retention: None,
        future_max: None,
        ..Config::default()
    };
    let store = LogStore::builder(dir.path()).config(config).open().unwrap();
    let mut appender = store.appender();
    for entry in entries {
        let line = entry.line.as_bytes();
        appender.append(&entry.stream, entry.timestamp, line, &entry.metadata);
    }
    appender
        .commit(Durability::Buffered)
        .unwrap()
        .wait()
        .unwrap();
    let memory = Memory(entries.to_vec());
    check("rows", &memory, evals, wrong);
    check("in memory", &store.snapshot(), evals, wrong);
    store.flush().unwrap();
    check("in a block", &store.snapshot(), evals, wrong);
    store.close().unwrap();
}

fn check(place: &str, source: &dyn Source, evals: &[&Value], wrong: &mut Vec<String>) {
    for eval in evals {
        if let Err(reason) = evaluate(source, eval) {
            wrong.push(format!("{place}: {}: {reason}", text(eval, "query")));
        }
    }
}

/// Asks one query and compares its answer.
fn evaluate(source: &dyn Source, eval: &Value) -> Result<(), String> {
    let engine = Engine::with_clock(Limits::default(), Arc::new(ManualClock::new(0)));
    let cancel = Cancel::new();
    let (mut at, mut step) = (Vec::new(), 1);
    let answer = parse(text(eval, "query")).map_err(|error| error.to_string());
    let answer = answer.and_then(|expr| {
        let result = if let Some(range) = eval["range"].as_array() {
            let bound = |i: usize| nanos(range[i].as_str().unwrap());
            step = bound(2);
            at = (bound(0)..=bound(1))
                .step_by(usize::try_from(step).unwrap())
                .collect();
            let range = RangeQuery {
                start_ns: EPOCH_NS + bound(0),
                end_ns: EPOCH_NS + bound(1),
                step_ns: step,
                direction: Direction::Forward,
                limit: 100,
                interval_ns: 0,
            };
            engine.range(source, &expr, range, &cancel)
        } else {
            at = vec![nanos(text(eval, "instant"))];
            engine.instant(source, &expr, EPOCH_NS + at[0], &cancel)
        };
        result.map_err(|error| error.to_string())
    });
    let value = match answer {
        Ok(result) => result.value,
        Err(error) => return refused(eval, &error),
    };
    let found = describe(value, &at, step);
    if eval["fail"].as_bool() == Some(true) {
        return Err(format!("no error but {}", show(&found)));
    }
    let mut expected = expected(eval);
    let mut ordered = found.clone();
    if eval["ordered"].as_bool() != Some(true) {
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        ordered.sort_by(|a, b| a.0.cmp(&b.0));
    }
    match is_same(&ordered, &expected) {
        true => Ok(()),
        false => Err(format!(
            "\n      found    {}\n      expected {}",
            show(&found),
            show(&expected)
        )),
    }
}

/// Whether a query was to be refused so.
fn refused(eval: &Value, error: &str) -> Result<(), String> {
    let regex = eval["error_regex"]
        .as_str()
        .map(|regex| LineRegex::new(regex).unwrap());
    let as_told = error.contains(text(eval, "error_contains"))
        && regex.is_none_or(|regex| regex.is_match(error.as_bytes()));
    match as_told && eval["fail"].as_bool() == Some(true) {
        true => Ok(()),
        false => Err(error.to_owned()),
    }
}

/// Labels and a value a step, `None` where there is none.
type Answer = Vec<(Labels, Vec<Option<f64>>)>;

fn describe(value: QueryValue, at: &[i64], step: i64) -> Answer {
    match value {
        QueryValue::Scalar(point) => vec![(Labels::empty(), vec![Some(point.value)])],
        QueryValue::Vector(samples) => samples
            .into_iter()
            .map(|s| (s.labels, vec![Some(s.value)]))
            .collect(),
        QueryValue::Matrix(series) => {
            let describe = |series: trine_query::logql::Series| {
                let mut values = vec![None; at.len()];
                for point in series.points {
                    let place = (point.timestamp_ns - EPOCH_NS - at[0]) / step;
                    values[usize::try_from(place).unwrap()] = Some(point.value);
                }
                (series.labels, values)
            };
            series.into_iter().map(describe).collect()
        }
        QueryValue::Streams(_) => panic!("lines for a metric query"),
    }
}

fn expected(eval: &Value) -> Answer {
    let number = |value: &Value| match value {
        Value::Null => None,
        Value::Number(number) => number.as_f64(),
        other => Some(
            other
                .as_str()
                .unwrap()
                .trim_start_matches('+')
                .parse()
                .unwrap(),
        ),
    };
    if let Some(scalar) = eval.get("scalar") {
        return vec![(Labels::empty(), vec![number(scalar)])];
    }
    let series = |series: &Value| {
        let labels = series["labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
        let values = series["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(number)
            .collect();
        (Labels::from_pairs(labels).unwrap(), values)
    };
    eval["series"]
        .as_array()
        .into_iter()
        .flatten()
        .map(series)
        .collect()
}

fn is_same(found: &Answer, expected: &Answer) -> bool {
    let close = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
        (Some(a), Some(b)) => {
            (a.is_nan() && b.is_nan())
                || a == b
                || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
        }
        (a, b) => a.is_none() && b.is_none(),
    };
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(a, b)| a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(close))
}

fn show(answer: &Answer) -> String {
    let show = |(labels, values): &(Labels, Vec<Option<f64>>)| {
        let values = values
            .iter()
            .map(|value| value.map_or("_".to_owned(), format_float));
        format!("{labels} {}", values.collect::<Vec<_>>().join(" "))
    };
    answer.iter().map(show).collect::<Vec<_>>().join("; ")
}
