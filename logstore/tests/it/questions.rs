//! Random appends, flushes, reopens and scans against a plain vector.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use trine_logstore::{
    Config, Counts, Direction, Durability, LineFilter, Measure, Projection, Rows,
};
use trine_storage::sim::SimFs;
use trine_storage::{Labels, MatchOp, Matcher, TimeRange};

use crate::store::{self, Entry};

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Entry>),
    Flush,
    Reopen,
}

#[derive(Debug, Clone)]
struct Question {
    matchers: Vec<Matcher>,
    range: TimeRange,
    lines: Vec<LineFilter>,
    direction: Direction,
    limit_hint: Option<usize>,
    projection: Projection,
    bucket_ns: i64,
    measure: Measure,
}

fn config() -> Config {
    Config {
        block_range: Duration::from_nanos(10),
        block_ranges_max: 3,
        future_max: None,
        ..Config::default()
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let stream = prop::sample::select(vec![
        store::labels(&[("app", "a")]),
        store::labels(&[("app", "a"), ("env", "p")]),
        store::labels(&[("app", "b")]),
        store::labels(&[("env", "p")]),
    ]);
    let line = prop_oneof![
        8 => "[xyz]{0,4}".prop_map(String::into_bytes),
        1 => any::<[u8; 2]>().prop_map(|bytes| bytes.to_vec()),
        // Long lines close chunks and pages.
        1 => "[xyz]".prop_map(|c| c.repeat(120 << 10).into_bytes()),
    ];
    let metadata = prop_oneof![
        3 => Just(Labels::empty()),
        1 => "[uv]{1,2}".prop_map(|value| store::labels(&[("k", &value)])),
    ];
    let timestamp =
        prop_oneof![20 => -30..60i64, 1 => any::<i64>().prop_map(|t| t.min(i64::MAX - 1))];
    (stream, timestamp, line, metadata).prop_map(|(stream, timestamp, line, metadata)| Entry {
        stream,
        timestamp,
        line,
        metadata,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(entry(), 0..12).prop_map(Step::Append),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let matchers = prop::sample::select(vec![
        vec![],
        vec![Matcher::equal("app", "a")],
        vec![Matcher::equal("app", "")],
        vec![Matcher::new(MatchOp::NotEqual, "env", "p").unwrap()],
        vec![
            Matcher::new(MatchOp::Match, "app", "a|b").unwrap(),
            Matcher::equal("env", "p"),
        ],
        vec![Matcher::equal("app", "nobody")],
    ]);
    let range = prop_oneof![
        1 => Just(TimeRange::ALL),
        3 => (-40..70i64, 0..60i64).prop_map(|(start, width)| TimeRange::new(start, start + width)),
    ];
    let filter = ("[xyz]{0,2}", any::<bool>()).prop_map(|(text, contains)| {
        let text = Bytes::from(text);
        if contains {
            LineFilter::Contains(text)
        } else {
            LineFilter::NotContains(text)
        }
    });
    let projection =
        (any::<bool>(), any::<bool>()).prop_map(|(lines, metadata)| Projection { lines, metadata });
    (
        (matchers, range, prop::collection::vec(filter, 0..3)),
        prop::sample::select(vec![Direction::Forward, Direction::Backward]),
        prop::sample::select(vec![None, Some(1), Some(20)]),
        projection,
        prop::sample::select(vec![1, 7, 100, i64::MAX]),
        prop::sample::select(vec![Measure::Lines, Measure::Bytes]),
    )
        .prop_map(
            |((matchers, range, lines), direction, limit_hint, projection, bucket_ns, measure)| {
                Question {
                    matchers,
                    range,
                    lines,
                    direction,
                    limit_hint,
                    projection,
                    bucket_ns,
                    measure,
                }
            },
        )
}

fn contains(line: &[u8], literal: &[u8]) -> bool {
    literal.is_empty() || line.windows(literal.len()).any(|window| window == literal)
}

/// What the question finds in `all`, which is in the order of appending.
fn expected_rows(all: &[Entry], question: &Question) -> Vec<Entry> {
    let mut found: Vec<Entry> = selected(all, question)
        .filter(|entry| {
            question.lines.iter().all(|filter| match filter {
                LineFilter::Contains(literal) => contains(&entry.line, literal),
                LineFilter::NotContains(literal) => !contains(&entry.line, literal),
                other => panic!("{other} is not asked here"),
            })
        })
        .cloned()
        .collect();
    match question.direction {
        Direction::Any => {}
        Direction::Forward => {
            found.sort_by(|a, b| (a.timestamp, &a.stream).cmp(&(b.timestamp, &b.stream)));
        }
        Direction::Backward => {
            found.reverse();
            found.sort_by(|a, b| (!a.timestamp, &a.stream).cmp(&(!b.timestamp, &b.stream)));
        }
    }
    for entry in &mut found {
        if !question.projection.lines {
            entry.line.clear();
        }
        if !question.projection.metadata {
            entry.metadata = Labels::empty();
        }
    }
    found
}

fn selected<'a>(all: &'a [Entry], question: &'a Question) -> impl Iterator<Item = &'a Entry> {
    all.iter().filter(|entry| {
        question.range.contains(entry.timestamp)
            && question
                .matchers
                .iter()
                .all(|matcher| matcher.matches_labels(&entry.stream))
    })
}

/// The counts that the question finds, or `None` when it divides time too finely.
fn expected_counts(all: &[Entry], question: &Question) -> Option<BTreeMap<(Labels, u32), u64>> {
    let width = i128::from(question.range.end) - i128::from(question.range.start);
    let width = i64::try_from(width).ok()?;
    u32::try_from(width / question.bucket_ns).ok()?;
    let mut counts = BTreeMap::new();
    for entry in selected(all, question).filter(|e| e.timestamp > question.range.start) {
        let bucket = (entry.timestamp - question.range.start - 1) / question.bucket_ns;
        let count = match question.measure {
            Measure::Lines => 1,
            Measure::Bytes => entry.line.len() as u64,
        };
        *counts
            .entry((entry.stream.clone(), u32::try_from(bucket).unwrap()))
            .or_default() += count;
    }
    Some(counts)
}

fn ask(store: &trine_logstore::LogStore, all: &[Entry], question: &Question) {
    let request = Rows {
        lines: question.lines.clone(),
        direction: question.direction,
        limit_hint: question.limit_hint,
        projection: question.projection,
        ..Rows::new(question.matchers.clone(), question.range)
    };
    let shown = |entries: &[Entry]| -> Vec<String> {
        let line = |entry: &Entry| entry.line.iter().take(8).copied().collect::<Vec<u8>>();
        entries
            .iter()
            .map(|e| {
                format!(
                    "{} {} {:?}+{} {}",
                    e.timestamp,
                    e.stream,
                    line(e),
                    e.line.len(),
                    e.metadata
                )
            })
            .collect()
    };
    let found = store::rows(store, request).unwrap();
    assert_eq!(
        shown(&found),
        shown(&expected_rows(all, question)),
        "{question:?}"
    );

    let request = Counts::new(
        question.matchers.clone(),
        question.range,
        question.bucket_ns,
        question.measure,
    );
    let Some(expected) = expected_counts(all, question) else {
        assert!(store::counts(store, request).is_err(), "{question:?}");
        return;
    };
    let mut found = BTreeMap::new();
    for batch in store::counts(store, request).unwrap() {
        for row in 0..batch.count.len() {
            let stream = batch.streams[batch.stream[row] as usize].clone();
            *found.entry((stream, batch.bucket[row])).or_default() += batch.count[row];
        }
    }
    assert_eq!(found, expected, "{question:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_store_answers_as_a_vector_does(
        steps in prop::collection::vec(step(), 1..12),
        questions in prop::collection::vec(question(), 1..10),
    ) {
        let disk = SimFs::new();
        let mut store = store::open(&disk, config()).unwrap();
        let mut all: Vec<Entry> = Vec::new();
        let (mut stored_rows, mut sealed) = (0, 0);
        let mut since_seal: Vec<Entry> = Vec::new();
        for step in &steps {
            match step {
                Step::Append(entries) => {
                    let stored = store::append(&store, entries, Durability::Synced).unwrap();
                    prop_assert_eq!(stored, entries.len() as u64);
                    for entry in entries {
                        if !all.contains(entry) {
                            all.push(entry.clone());
                        }
                        if !since_seal.contains(entry) {
                            since_seal.push(entry.clone());
                        }
                    }
                    stored_rows = sealed + since_seal.len();
                }
                Step::Flush => {
                    store.flush().unwrap();
                    sealed = stored_rows;
                    since_seal.clear();
                }
                Step::Reopen => {
                    drop(store);
                    store = store::open(&disk, config()).unwrap();
                }
            }
        }
        for question in &questions {
            ask(&store, &all, question);
        }
        let mut streams: Vec<Labels> = all.iter().map(|entry| entry.stream.clone()).collect();
        streams.sort();
        streams.dedup();
        prop_assert_eq!(store.snapshot().streams(&[], TimeRange::ALL).unwrap(), streams);
        let stats = store.stats();
        prop_assert_eq!(stats.buffer_rows + stats.block_rows, stored_rows as u64);
        let report = store.verify();
        prop_assert!(report.errors.is_empty(), "{:?}", report.errors);
    }

    #[test]
    fn a_snapshot_never_changes(
        first in prop::collection::vec(entry(), 0..20),
        second in prop::collection::vec(entry(), 1..20),
    ) {
        let store = store::open(&SimFs::new(), config()).unwrap();
        store::append(&store, &first, Durability::Buffered).unwrap();
        let snapshot = store.snapshot();
        let request = trine_logstore::Request::Rows(store::everything());
        let read = || -> Vec<Entry> {
            snapshot
                .scan(&request)
                .unwrap()
                .flat_map(|batch| match batch.unwrap() {
                    trine_logstore::Batch::Rows(rows) => store::entries(&rows),
                    trine_logstore::Batch::Counts(_) => panic!("rows were asked for"),
                })
                .collect()
        };
        let before = read();
        store::append(&store, &second, Durability::Buffered).unwrap();
        prop_assert_eq!(&read(), &before);
        store.flush().unwrap();
        prop_assert_eq!(&read(), &before);
    }
}
