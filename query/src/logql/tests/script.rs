//! Runs scripts of entries and queries. Each query is answered by a source that counts by itself
//! and by one that gives unfiltered rows in small batches; both must give the expected answer.
//!
//! ```text
//! load {app="a"}                     entries of a stream, one a line:
//!   5s some line                     time, line
//!   5s {trace="1"} some line         with metadata
//!   5s+10s*3 line {{i}}              three of them, ten seconds apart, numbered from 0
//! clear                              forgets all entries
//! instant 60s QUERY                  expects one line a series: labels, value; or `scalar 2`
//! range 0s 60s 20s QUERY             start, end, step; a value a step, `_` for none
//! lines forward 10 0s 60s QUERY      direction, limit, start, end; expects one line an entry:
//!   5s {app="a"} {} {x="1"} some line    time, stream, metadata, parsed, line
//! fail instant 60s QUERY             expects a part of the error's text
//! ```
//! A word `\n`, `\t` or `\e` in a line stands for that character.

use std::sync::Arc;

use trine_storage::Labels;
use trine_storage::clock::{Clock, ManualClock};

use super::memory::{Answers, Entry, Memory};
use crate::budget::{Cancel, Limits};
use crate::logql::ast::Expr;
use crate::logql::source::Direction;
use crate::logql::{Engine, QueryResult, QueryValue, RangeQuery, parse, parse_selector, units};
use crate::text::{format_float, parse_go_duration};

/// An engine for tests.
pub(super) fn engine() -> Engine {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
    Engine::with_clock(Limits::default(), clock)
}

/// A label set written as a selector.
pub(super) fn labels(text: &str) -> Labels {
    let matchers = parse_selector(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Labels::showing(matchers.iter().map(|m| (m.name(), m.value())))
}

fn seconds(text: &str) -> i64 {
    parse_go_duration(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Splits a label set off the front of `text`.
fn take_labels(text: &str) -> (Labels, &str) {
    let mut quoted = false;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return (labels(&text[..=i]), text[i + 1..].trim_start()),
            _ => {}
        }
    }
    panic!("no label set at the front of {text}");
}

fn unescape(line: &str) -> String {
    line.replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("\\e", "\u{1b}")
}

fn load(entries: &mut Vec<Entry>, stream: &Labels, text: &str) {
    let (when, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (metadata, line) = match rest.starts_with('{') && !rest.starts_with("{\"") {
        true => take_labels(rest),
        false => (Labels::empty(), rest),
    };
    let (start, every, count) = match when.split_once('+') {
        Some((start, repeat)) => {
            let (every, count) = repeat.split_once('*').unwrap();
            (seconds(start), seconds(every), count.parse().unwrap())
        }
        None => (seconds(when), 0, 1),
    };
    for i in 0..count {
        entries.push(Entry {
            timestamp: start + every * i,
            stream: stream.clone(),
            metadata: metadata.clone(),
            line: unescape(&line.replace("{{i}}", &i.to_string())).into_bytes(),
        });
    }
}

/// What a query line asks for.
enum Ask {
    Instant(i64),
    Range(RangeQuery),
}

fn ask<'a>(kind: &str, rest: &'a str) -> (Ask, &'a str) {
    let mut rest = rest;
    let mut word = || {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        word
    };
    let ask = match kind {
        "instant" => Ask::Instant(seconds(word())),
        "range" => Ask::Range(RangeQuery {
            start_ns: seconds(word()),
            end_ns: seconds(word()),
            step_ns: seconds(word()),
            direction: Direction::Forward,
            limit: 100,
            interval_ns: 0,
        }),
        "lines" => {
            let forward = word() == "forward";
            Ask::Range(RangeQuery {
                direction: if forward {
                    Direction::Forward
                } else {
                    Direction::Backward
                },
                limit: word().parse().unwrap(),
                start_ns: seconds(word()),
                end_ns: seconds(word()),
                step_ns: 1,
                interval_ns: 0,
            })
        }
        other => panic!("unknown command {other}"),
    };
    (ask, rest)
}

fn answer(memory: &Memory, ask: &Ask, query: &str) -> Result<QueryResult, String> {
    let expr: Expr = parse(query).map_err(|error| error.to_string())?;
    let (engine, cancel) = (engine(), Cancel::new());
    let result = match ask {
        Ask::Instant(time_ns) => engine.instant(memory, &expr, *time_ns, &cancel),
        Ask::Range(range) => engine.range(memory, &expr, *range, &cancel),
    };
    result.map_err(|error| error.to_string())
}

/// The answer in the form in which scripts expect it, numbers apart so that they may differ in
/// their last digits.
type Answer = Vec<(String, Vec<f64>)>;

fn describe(ask: &Ask, value: QueryValue) -> Answer {
    match value {
        QueryValue::Scalar(point) => vec![("scalar".to_owned(), vec![point.value])],
        QueryValue::Vector(samples) => samples
            .into_iter()
            .map(|s| (s.labels.to_string(), vec![s.value]))
            .collect(),
        QueryValue::Matrix(series) => {
            let Ask::Range(range) = ask else {
                panic!("a matrix for an instant")
            };
            let describe = |series: crate::logql::Series| {
                let steps = (range.end_ns - range.start_ns) / range.step_ns;
                let mut values = vec![f64::NEG_INFINITY; steps as usize + 1];
                for point in series.points {
                    let step = (point.timestamp_ns - range.start_ns) / range.step_ns;
                    values[step as usize] = point.value;
                }
                (series.labels.to_string(), values)
            };
            series.into_iter().map(describe).collect()
        }
        QueryValue::Streams(rows) => rows
            .entries
            .into_iter()
            .map(|e| {
                let time = e.timestamp_ns as f64 / 1e9;
                let line = String::from_utf8_lossy(&e.line).into_owned();
                let text = format!("{} {} {} {line}", e.stream, e.metadata, e.parsed);
                (text.trim_end().to_owned(), vec![time])
            })
            .collect(),
    }
}

fn expected(kind: &str, line: &str) -> (String, Vec<f64>) {
    let number = |word: &str| match word {
        "_" => f64::NEG_INFINITY,
        word => units::float(word).unwrap_or_else(|error| panic!("{line}: {error}")),
    };
    if kind == "lines" {
        let (when, rest) = line.split_once(' ').unwrap();
        let (stream, rest) = take_labels(rest);
        let (metadata, rest) = take_labels(rest);
        let (parsed, rest) = take_labels(rest);
        let text = format!("{stream} {metadata} {parsed} {}", unescape(rest));
        return (text.trim_end().to_owned(), vec![seconds(when) as f64 / 1e9]);
    }
    if let Some(value) = line.strip_prefix("scalar ") {
        return ("scalar".to_owned(), vec![number(value)]);
    }
    let (labels, values) = take_labels(line);
    (
        labels.to_string(),
        values.split_whitespace().map(number).collect(),
    )
}

fn is_same(found: &Answer, expected: &Answer) -> bool {
    let close = |a: &f64, b: &f64| {
        (a.is_nan() && b.is_nan()) || a == b || ((a - b) / a.abs().max(b.abs())).abs() < 1e-12
    };
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(a, b)| {
            a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| close(a, b))
        })
}

fn show(answer: &Answer) -> String {
    let show = |(text, values): &(String, Vec<f64>)| {
        let values: Vec<String> = values.iter().map(|value| format_float(*value)).collect();
        format!("  {text} {}", values.join(" "))
    };
    answer.iter().map(show).collect::<Vec<_>>().join("\n")
}

/// Runs a script and panics with all that was not as expected.
pub(super) fn run(name: &str, text: &str) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut problems = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut body = Vec::new();
        while let Some((_, next)) = lines.next_if(|(_, next)| next.starts_with("  ")) {
            body.push(next.trim_start());
        }
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "clear" => entries.clear(),
            "load" => {
                let stream = labels(rest);
                body.iter()
                    .for_each(|line| load(&mut entries, &stream, line));
            }
            _ => {
                let place = format!("{name}.test:{}: {line}", number + 1);
                check(&entries, command, rest, &body)
                    .unwrap_or_else(|problem| problems.push(format!("{place}\n{problem}")));
            }
        }
    }
    let count = problems.len();
    assert!(
        problems.is_empty(),
        "{count} problems\n{}",
        problems.join("\n\n")
    );
}

fn check(entries: &[Entry], command: &str, rest: &str, body: &[&str]) -> Result<(), String> {
    let (kind, rest) = match command {
        "fail" => rest.split_once(' ').unwrap(),
        command => (command, rest),
    };
    let (ask, query) = ask(kind, rest);
    for (answers, batch) in [
        (Answers::Counts, 1000),
        (Answers::Rows, 3),
        (Answers::Rows, 1),
    ] {
        let memory = Memory {
            entries: entries.to_vec(),
            answers,
            batch,
        };
        let found = answer(&memory, &ask, query);
        match (command, found) {
            ("fail", Ok(found)) => {
                return Err(format!(
                    "no error but\n{}",
                    show(&describe(&ask, found.value))
                ));
            }
            ("fail", Err(error)) => {
                if let Some(missing) = body.iter().find(|text| !error.contains(**text)) {
                    return Err(format!("error: {error}\nlacks: {missing}"));
                }
            }
            (_, Err(error)) => return Err(format!("error: {error}")),
            (_, Ok(found)) => {
                let found = describe(&ask, found.value);
                let expected: Answer = body.iter().map(|line| expected(kind, line)).collect();
                if !is_same(&found, &expected) {
                    let (found, expected) = (show(&found), show(&expected));
                    return Err(format!("{answers:?}\nfound\n{found}\nexpected\n{expected}"));
                }
            }
        }
    }
    Ok(())
}
