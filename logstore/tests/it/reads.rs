//! Reads of every kind against a plain vector: over memory, memory whose seal failed, and blocks
//! that overlap in time and share entries.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use trine_logstore::{
    Batch, Config, Counts, Direction, Durability, LineFilter, LogStore, Measure, Projection,
    Request, Rows, Snapshot,
};
use trine_storage::regex::LineRegex;
use trine_storage::sim::SimFs;
use trine_storage::{Labels, MatchOp, Matcher, TimeRange};

use crate::store::{self, Entry};

/// Headers of chunks count the values of this name.
const LEVEL: &str = "detected_level";

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Entry>),
    /// Sends some of what was sent before once more.
    Again(prop::sample::Index, usize),
    Flush,
    /// The disk is full: what should have been sealed stays in memory, apart from what comes later.
    FlushFails,
}

fn config() -> Config {
    Config {
        block_range: Duration::from_nanos(40),
        block_ranges_max: 3,
        future_max: None,
        ..Config::default()
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let stream = prop::sample::select(vec![
        store::labels(&[("app", "a")]),
        store::labels(&[("app", "a"), ("k", "u")]),
        store::labels(&[("app", "b")]),
        store::labels(&[("k", "v")]),
    ]);
    let line = prop_oneof![
        20 => "[xyz]{0,4}".prop_map(String::into_bytes),
        1 => any::<[u8; 2]>().prop_map(|bytes| bytes.to_vec()),
        // Long lines close chunks and pages.
        1 => "[xyz]".prop_map(|c| c.repeat(120 << 10).into_bytes()),
    ];
    let metadata = prop_oneof![
        3 => Just(Labels::empty()),
        2 => "[uv]".prop_map(|value| store::labels(&[("k", &value)])),
        1 => "[uv]".prop_map(|value| store::labels(&[("k", &value), (LEVEL, "w")])),
        2 => "[uvw]".prop_map(|value| store::labels(&[(LEVEL, &value)])),
    ];
    (stream, 0..60i64, line, metadata).prop_map(|(stream, timestamp, line, metadata)| Entry {
        stream,
        timestamp,
        line,
        metadata,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(entry(), 0..24).prop_map(Step::Append),
        2 => (any::<prop::sample::Index>(), 1..12usize).prop_map(|(at, n)| Step::Again(at, n)),
        3 => Just(Step::Flush),
        1 => Just(Step::FlushFails),
    ]
}

fn filter() -> impl Strategy<Value = LineFilter> {
    let text = || "[xyz]{0,2}".prop_map(Bytes::from);
    let regex = || {
        prop::sample::select(vec!["x", "^x", "y$", "x.z", "[^x]", "(?i)XY", "z|yx", ""])
            .prop_map(|pattern| LineRegex::new(pattern).unwrap())
    };
    prop_oneof![
        3 => text().prop_map(LineFilter::Contains),
        2 => text().prop_map(LineFilter::NotContains),
        1 => prop::collection::vec(text(), 0..3).prop_map(LineFilter::ContainsAny),
        1 => regex().prop_map(LineFilter::Matches),
        1 => regex().prop_map(LineFilter::NotMatches),
    ]
}

fn condition() -> impl Strategy<Value = Matcher> {
    let op = prop::sample::select(vec![
        MatchOp::Equal,
        MatchOp::NotEqual,
        MatchOp::Match,
        MatchOp::NotMatch,
    ]);
    let name = prop::sample::select(vec!["k", LEVEL, LEVEL, "app", "no"]);
    let value = prop::sample::select(vec!["", "u", "v", "w", "a"]);
    (op, name, value).prop_map(|(op, name, value)| Matcher::new(op, name, value).unwrap())
}

fn rows() -> impl Strategy<Value = Rows> {
    let direction = prop::sample::select(vec![
        Direction::Forward,
        Direction::Backward,
        Direction::Any,
    ]);
    let projection =
        (any::<bool>(), any::<bool>()).prop_map(|(lines, metadata)| Projection { lines, metadata });
    (
        (matchers(), range()),
        prop::collection::vec(filter(), 0..3),
        prop::collection::vec(condition(), 0..2),
        direction,
        prop::sample::select(vec![None, Some(1), Some(20)]),
        projection,
        (1..4usize, any::<bool>()),
    )
        .prop_map(
            |((matchers, range), lines, metadata, direction, limit_hint, projection, how)| Rows {
                lines,
                metadata,
                direction,
                limit_hint,
                projection,
                threads: how.0,
                index: how.1,
                ..Rows::new(matchers, range)
            },
        )
}

fn counts() -> impl Strategy<Value = Counts> {
    let by = prop::sample::select(vec![
        vec![],
        vec!["k"],
        vec![LEVEL],
        vec![LEVEL, "k"],
        vec!["no"],
    ]);
    (
        (matchers(), range()),
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(filter(), 0..2)],
        prop::collection::vec(condition(), 0..2),
        prop::sample::select(vec![1, 7, 1 << 60]),
        prop::sample::select(vec![Measure::Lines, Measure::Bytes]),
        by,
    )
        .prop_map(
            |((matchers, range), lines, metadata, bucket_ns, measure, by)| Counts {
                lines,
                metadata,
                by: by.into_iter().map(str::to_owned).collect(),
                ..Counts::new(matchers, range, bucket_ns, measure)
            },
        )
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    prop::sample::select(vec![
        vec![],
        vec![Matcher::equal("app", "a")],
        vec![Matcher::new(MatchOp::NotEqual, "k", "u").unwrap()],
        vec![Matcher::equal("app", "nobody")],
    ])
}

fn range() -> impl Strategy<Value = TimeRange> {
    let some =
        (-5..70i64, 0..70i64).prop_map(|(start, width)| TimeRange::new(start, start + width));
    prop_oneof![1 => Just(TimeRange::new(-1, 100)), 3 => some]
}

fn passes(filter: &LineFilter, line: &[u8]) -> bool {
    let contains = |literal: &Bytes| {
        literal.is_empty() || line.windows(literal.len()).any(|window| window == literal)
    };
    match filter {
        LineFilter::Contains(literal) => contains(literal),
        LineFilter::NotContains(literal) => !contains(literal),
        LineFilter::ContainsAny(literals) => literals.iter().any(contains),
        LineFilter::Matches(regex) => regex.is_match(line),
        LineFilter::NotMatches(regex) => !regex.is_match(line),
    }
}

/// Whether a condition holds for the label of the stream, or for the metadata that it leaves seen.
fn holds(condition: &Matcher, entry: &Entry) -> bool {
    let name = condition.name();
    let value = entry.stream.get(name).or_else(|| entry.metadata.get(name));
    condition.matches(value.unwrap_or(""))
}

fn selected(
    all: &[Entry],
    range: TimeRange,
    (matchers, lines, metadata): (&[Matcher], &[LineFilter], &[Matcher]),
) -> Vec<Entry> {
    let wanted = |entry: &&Entry| {
        range.contains(entry.timestamp)
            && matchers.iter().all(|m| m.matches_labels(&entry.stream))
            && lines.iter().all(|filter| passes(filter, &entry.line))
            && metadata.iter().all(|condition| holds(condition, entry))
    };
    all.iter().filter(wanted).cloned().collect()
}

fn expected_rows(all: &[Entry], question: &Rows) -> Vec<Entry> {
    let conditions = (
        question.matchers.as_slice(),
        question.lines.as_slice(),
        question.metadata.as_slice(),
    );
    let mut found = selected(all, question.range, conditions);
    match question.direction {
        Direction::Forward => {
            found.sort_by(|a, b| (a.timestamp, &a.stream).cmp(&(b.timestamp, &b.stream)));
        }
        Direction::Backward => {
            found.reverse();
            found.sort_by(|a, b| (!a.timestamp, &a.stream).cmp(&(!b.timestamp, &b.stream)));
        }
        Direction::Any => {}
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

fn shown(entries: &[Entry], direction: Direction) -> Vec<String> {
    let show = |entry: &Entry| {
        let start = entry.line.get(..8).unwrap_or(&entry.line);
        format!(
            "{:02} {} {start:?}+{} {}",
            entry.timestamp,
            entry.stream,
            entry.line.len(),
            entry.metadata
        )
    };
    let mut shown: Vec<String> = entries.iter().map(show).collect();
    if direction == Direction::Any {
        shown.sort();
    }
    shown
}

fn check_rows(snapshot: &Snapshot, all: &[Entry], question: &Rows) {
    let expected = shown(&expected_rows(all, question), question.direction);
    let entries = |batch: trine_storage::Result<Batch>| match batch.unwrap() {
        Batch::Rows(rows) => store::entries(&rows),
        Batch::Counts(_) => panic!("rows were asked for"),
    };
    let request = Request::Rows(question.clone());
    let found: Vec<Entry> = snapshot.scan(&request).unwrap().flat_map(entries).collect();
    assert_eq!(shown(&found, question.direction), expected, "{question:?}");

    let expected = shown(&expected_rows(all, question), Direction::Any);
    let mut parts = snapshot.scan_parts(&request, question.threads).unwrap();
    let mut found = Vec::new();
    while !parts.is_empty() {
        // Turn by turn, and each until it ends.
        parts.retain_mut(|part| match part.next() {
            Some(batch) => {
                found.extend(entries(batch));
                true
            }
            None => false,
        });
    }
    assert_eq!(
        shown(&found, Direction::Any),
        expected,
        "parts, {question:?}"
    );
}

type Numbers = BTreeMap<(Labels, Labels, u32), u64>;

fn expected_counts(all: &[Entry], question: &Counts) -> Numbers {
    let mut counts = Numbers::new();
    let conditions = (
        question.matchers.as_slice(),
        question.lines.as_slice(),
        question.metadata.as_slice(),
    );
    for entry in selected(all, question.range, conditions) {
        if entry.timestamp == question.range.start {
            continue;
        }
        let bucket = (entry.timestamp - question.range.start - 1) / question.bucket_ns;
        let group = entry
            .metadata
            .filter(|name| question.by.iter().any(|by| by == name));
        let count = match question.measure {
            Measure::Lines => 1,
            Measure::Bytes => entry.line.len() as u64,
        };
        *counts
            .entry((entry.stream, group, bucket as u32))
            .or_default() += count;
    }
    counts
}

fn check_counts(snapshot: &Snapshot, all: &[Entry], question: &Counts, parts: usize) {
    let request = Request::Counts(question.clone());
    let mut found = Numbers::new();
    for part in snapshot.scan_parts(&request, parts).unwrap() {
        for batch in part {
            let Batch::Counts(batch) = batch.unwrap() else {
                panic!("counts were asked for")
            };
            for (row, &count) in batch.count.iter().enumerate() {
                let stream = batch.streams[batch.stream[row] as usize].clone();
                let group = batch.groups[batch.group[row] as usize].clone();
                *found.entry((stream, group, batch.bucket[row])).or_default() += count;
            }
        }
    }
    assert_eq!(found, expected_counts(all, question), "{question:?}");
}

fn add(store: &LogStore, all: &mut Vec<Entry>, entries: &[Entry]) {
    store::append(store, entries, Durability::Buffered).unwrap();
    for entry in entries {
        if !all.contains(entry) {
            all.push(entry.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_entry_is_found_once_wherever_it_is(
        steps in prop::collection::vec(step(), 1..10),
        rows in prop::collection::vec(rows(), 1..8),
        counts in prop::collection::vec((counts(), 1..4usize), 1..8),
    ) {
        let disk = SimFs::new();
        let store = store::open(&disk, config()).unwrap();
        let mut all: Vec<Entry> = Vec::new();
        for step in &steps {
            match step {
                Step::Append(entries) => add(&store, &mut all, entries),
                Step::Again(at, count) if !all.is_empty() => {
                    let from = at.index(all.len());
                    let again: Vec<Entry> = all[from..].iter().take(*count).cloned().collect();
                    add(&store, &mut all, &again);
                }
                Step::Again(..) => {}
                Step::Flush => store.flush().unwrap(),
                Step::FlushFails => {
                    disk.fill_after(0);
                    // There may be nothing to seal.
                    store.flush().err();
                    disk.fill_after(u64::MAX);
                }
            }
        }
        let snapshot = store.snapshot();
        for question in &rows {
            check_rows(&snapshot, &all, question);
        }
        for (question, parts) in &counts {
            check_counts(&snapshot, &all, question, *parts);
        }
    }
}

#[test]
fn volumes_count_what_lies_in_several_places_once() {
    let store = store::open(&SimFs::new(), config()).unwrap();
    let entry = |timestamp, line: &str| Entry {
        stream: store::labels(&[("app", "a")]),
        timestamp,
        line: line.as_bytes().to_vec(),
        metadata: store::labels(&[("k", "v")]),
    };
    let (first, second) = (entry(1, "one"), entry(5, "second"));
    let other = entry(1, "two");
    let put = |entries: &[Entry]| {
        store::append(&store, entries, Durability::Buffered).unwrap();
    };
    put(std::slice::from_ref(&first));
    store.flush().unwrap();
    put(&[first.clone(), second.clone()]);
    store.flush().unwrap();
    put(&[other, first, second]);
    for (state, blocks) in [("apart", 2), ("sealed", 3), ("merged", 1)] {
        assert_eq!(store.stats().blocks, blocks, "{state}");
        for (range, entries, bytes) in [
            (TimeRange::ALL, 3, 12),
            (TimeRange::new(1, 2), 2, 6),
            (TimeRange::new(2, 6), 1, 6),
        ] {
            let volumes = store.snapshot().volume(&[], range).unwrap();
            let totals = store.snapshot().totals(&[], range).unwrap();
            assert_eq!(volumes.len(), 1, "{state}");
            let found = (volumes[0].entries, volumes[0].bytes);
            assert_eq!(found, (entries, bytes), "{state} {range:?}");
            assert_eq!((totals.entries, totals.bytes), found, "{state} {range:?}");
            assert_eq!(totals.streams, 1);
            assert!(totals.chunks > 0, "{state} {range:?}");
        }
        match state {
            "apart" => store.flush().unwrap(),
            _ => store.compact().unwrap(),
        }
    }
}

/// Words, numbers, ids of both letter cases, long tokens, tokens that are no ASCII.
fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-c]{1,4}",
        2 => "[0-9]{2,12}",
        2 => "[0-9a-f]{12,32}",
        1 => "[A-F0-9]{12,14}",
        1 => "[a-c0-9]{33,36}",
        1 => "é[ab]{0,3}",
        1 => "no[0-9]{1,4}de",
    ]
}

fn line() -> impl Strategy<Value = String> {
    let between = prop::sample::select(vec![" ", "_", "=", "/", " "]);
    prop::collection::vec((token(), between), 1..6).prop_map(|parts| {
        parts
            .into_iter()
            .flat_map(|(token, after)| [token, after.to_owned()])
            .collect()
    })
}

/// A part of a line, perhaps with one byte changed, and how it is looked for.
#[derive(Debug, Clone)]
struct Needle {
    line: prop::sample::Index,
    start: prop::sample::Index,
    length: usize,
    changed: Option<(prop::sample::Index, u8)>,
    fold: bool,
}

fn needle() -> impl Strategy<Value = Needle> {
    let changed = (
        any::<prop::sample::Index>(),
        prop::sample::select(b"a0 Z".to_vec()),
    );
    (
        any::<(prop::sample::Index, prop::sample::Index)>(),
        prop_oneof![3 => 1..10usize, 1 => 10..50usize],
        prop_oneof![2 => Just(None), 1 => changed.prop_map(Some)],
        prop_oneof![3 => Just(false), 1 => Just(true)],
    )
        .prop_map(|((line, start), length, changed, fold)| Needle {
            line,
            start,
            length,
            changed,
            fold,
        })
}

fn filter_of(needle: &Needle, lines: &[String]) -> LineFilter {
    let line = lines[needle.line.index(lines.len())].as_bytes();
    let start = needle.start.index(line.len());
    let end = line.len().min(start + needle.length);
    let mut bytes = line[start..end].to_vec();
    if let Some((at, byte)) = needle.changed {
        bytes[at.index(end - start)] = byte;
    }
    match String::from_utf8(bytes) {
        Ok(text) if needle.fold => LineFilter::Matches(
            LineRegex::new(&format!("(?i)\\Q{}\\E", text.to_uppercase())).unwrap(),
        ),
        Ok(text) => LineFilter::Contains(text.into()),
        Err(error) => LineFilter::Contains(error.into_bytes().into()),
    }
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("TRINE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(default))
}

proptest! {
    #![proptest_config(cases(12))]

    /// `TRINE_CASES=500 cargo test --workspace --test it reads::the_index` asks 10,000 needles of
    /// sealed blocks and 10,000 of merged ones.
    #[test]
    fn the_index_changes_no_answer(
        lines in prop::collection::vec(line(), 6..14),
        needles in prop::collection::vec(needle(), 20),
    ) {
        let store = store::open(&SimFs::new(), config()).unwrap();
        // Two lines fill a chunk.
        let padding = " ".repeat(100 << 10);
        // What is left of it is still longer than any needle.
        let most = padding.len() - 64;
        let entries: Vec<Entry> = lines.iter().zip(0..).map(|(line, timestamp)| Entry {
            stream: store::labels(&[("app", if timestamp % 5 == 0 { "a" } else { "b" })]),
            timestamp,
            line: format!("{line}{padding}").into_bytes(),
            metadata: Labels::empty(),
        }).collect();
        let half = entries.len() / 2;
        for part in [&entries[..half], &entries[half..]] {
            store::append(&store, part, Durability::Buffered).unwrap();
            store.flush().unwrap();
        }
        for state in ["sealed", "merged"] {
            for needle in &needles {
                let filter = filter_of(needle, &lines);
                let found = |index| {
                    let request = Rows {
                        lines: vec![filter.clone()],
                        index,
                        projection: Projection { lines: false, metadata: false },
                        ..Rows::new(Vec::new(), TimeRange::ALL)
                    };
                    let rows = store::rows(&store, request).unwrap();
                    rows.iter().map(|entry| entry.timestamp).collect::<Vec<_>>()
                };
                let with_index = found(true);
                prop_assert_eq!(&with_index, &found(false), "{} {}", state, filter);
                let expected: Vec<i64> = entries
                    .iter()
                    .filter(|entry| passes(&filter, &entry.line[..entry.line.len() - most]))
                    .map(|entry| entry.timestamp)
                    .collect();
                prop_assert_eq!(&with_index, &expected, "{} {}", state, filter);
            }
            store.compact().unwrap();
        }
    }
}
