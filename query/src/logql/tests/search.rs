//! Queries for lines of which stages drop nearly all, over so many lines that they are searched: the
//! answer is that of an ordered read.

use std::sync::Arc;

use trine_storage::Labels;
use trine_storage::clock::ManualClock;

use super::memory::{Answers, Entry, Memory, filled};
use super::script::labels;
use crate::budget::{Cancel, Limits};
use crate::logql::source::{Direction, Source};
use crate::logql::{Engine, QueryValue, RangeQuery, parse};

const LINES: i64 = 12_000;

/// Lines of three streams, three of each instant; one in 400 has the status 503, in JSON, in logfmt
/// or in its metadata, and once with an escape.
fn entries() -> Vec<Entry> {
    let entry = |i: i64| {
        let status = if i % 400 == 0 { 503 } else { 200 + i % 7 };
        let (mut metadata, mut line) = (Labels::empty(), format!("status={status} n={i}"));
        match (i / 400) % 4 {
            0 => {
                // A number, or the text of one.
                let quote = if i % 3200 == 0 { "" } else { "\"" };
                line = format!(
                    "{{\"n\":{i},\"status\":{quote}{status}{quote},\"word\":\"w{status}\"}}"
                );
            }
            1 if status == 503 => {
                metadata = labels("{status=\"503\", word=\"w503\"}");
                line = format!("{{\"n\":{i}}}");
            }
            2 if i == 800 => {
                line =
                    format!("{{\"n\":{i},\"status\":\"\\u0035\\u00303\",\"word\":\"w50\\u0033\"}}");
            }
            3 if status == 503 => {
                line = format!("{{\"n\":{i},\"word\" : \"w{status}\"}} status={status}");
            }
            _ => {}
        }
        Entry {
            timestamp: i / 3 * 1000,
            stream: labels(&format!("{{app=\"a\", n=\"{}\"}}", i % 2)),
            metadata,
            line: line.into_bytes(),
        }
    };
    (0..LINES).map(entry).collect()
}

fn ask(
    source: &dyn Source,
    text: &str,
    query: RangeQuery,
    threads_max: usize,
) -> Vec<(i64, String)> {
    let limits = Limits {
        threads_max,
        ..Limits::default()
    };
    let engine = Engine::with_clock(limits, Arc::new(ManualClock::new(0)));
    let result = engine
        .range(source, &parse(text).unwrap(), query, &Cancel::new())
        .unwrap();
    let QueryValue::Streams(rows) = result.value else {
        panic!("not lines")
    };
    let line = |line: Vec<u8>| String::from_utf8(line).unwrap();
    rows.entries
        .into_iter()
        .map(|entry| (entry.timestamp_ns, line(entry.line)))
        .collect()
}

#[test]
fn a_search_finds_what_an_ordered_read_finds() {
    let entries = entries();
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), &entries, 3_500);
    let memory = Memory {
        entries: entries.clone(),
        answers: Answers::Rows,
        batch: 100,
    };
    let whole = RangeQuery {
        start_ns: 0,
        end_ns: LINES * 1000,
        step_ns: 1,
        direction: Direction::Forward,
        limit: 1000,
        interval_ns: 0,
    };
    let texts = [
        ("{app=\"a\"} | json | status=\"503\"", vec![0, 1, 2]),
        ("{app=\"a\"} | json | status=503", vec![0, 1, 2]),
        ("{app=\"a\"} | logfmt | status=\"503\"", vec![1, 2, 3]),
        ("{app=\"a\"} | json | word=\"w503\"", vec![0, 1, 2, 3]),
        (
            "{app=\"a\"} | json | n!=\"\" and word=\"w503\"",
            vec![0, 1, 2, 3],
        ),
        (
            "{app=\"a\"} | logfmt | status>=503 | status!=\"\"",
            vec![1, 2, 3],
        ),
    ];
    for (text, kinds) in &texts {
        let is_found = |i: &i64| {
            let logfmt = text.contains("logfmt");
            // Of the third kind only the first line is JSON.
            let kind = (i / 400) % 4;
            kinds.contains(&kind) && (kind != 2 || (*i == 800) != logfmt)
        };
        let expected: Vec<i64> = (0..LINES).step_by(400).filter(is_found).collect();
        for direction in [Direction::Forward, Direction::Backward] {
            for limit in [1, 5, 1000] {
                let query = RangeQuery {
                    direction,
                    limit,
                    ..whole
                };
                let mut expected: Vec<i64> = expected.iter().map(|i| i / 3 * 1000).collect();
                if direction == Direction::Backward {
                    expected.reverse();
                }
                expected.truncate(limit);
                let place = format!("{text} {direction:?} {limit}");
                let times = |rows: Vec<(i64, String)>| -> Vec<i64> {
                    rows.into_iter().map(|(timestamp, _)| timestamp).collect()
                };
                assert_eq!(times(ask(&memory, text, query, 1)), expected, "{place}");
                for threads in [1, 2] {
                    let found = ask(&store.snapshot(), text, query, threads);
                    assert_eq!(times(found), expected, "{place}");
                }
            }
        }
    }
    store.flush().unwrap();
    for (text, _) in &texts {
        let in_blocks = ask(&store.snapshot(), text, whole, 2);
        assert_eq!(in_blocks, ask(&memory, text, whole, 1), "{text}");
    }
    store.close().unwrap();
}

#[test]
fn lines_of_one_instant_keep_the_order_in_which_they_were_appended() {
    // All of one instant and stream, over several blocks, after lines that make it a search.
    let line = |i: i64| Entry {
        timestamp: (i / 11_000) * 1000,
        stream: labels("{app=\"a\"}"),
        metadata: Labels::empty(),
        line: format!(
            "{{\"n\":{i},\"k\":\"{}\"}}",
            if i >= 11_000 && i % 100 == 0 {
                "x"
            } else {
                "y"
            }
        )
        .into_bytes(),
    };
    let entries: Vec<Entry> = (0..LINES).map(line).collect();
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), &entries, 3_500);
    let query = RangeQuery {
        start_ns: 0,
        end_ns: 5000,
        step_ns: 1,
        direction: Direction::Forward,
        limit: 100,
        interval_ns: 0,
    };
    for text in [
        "{app=\"a\"} | json | k=\"x\"",
        "{app=\"a\"} | json | k=~\"x+\"",
    ] {
        let found = ask(&store.snapshot(), text, query, 2);
        let expected = (11_000..LINES)
            .step_by(100)
            .map(|i| (1000, format!("{{\"n\":{i},\"k\":\"x\"}}")));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{text}");
    }
    store.close().unwrap();
}
