//! Random entries and questions, and what a plain vector of the entries answers to them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use trine_logstore::{
    Batch, Counts, Direction, Either, LineFilter, Measure, Projection, Request, Rows, Snapshot,
    Volume,
};
use trine_storage::regex::LineRegex;
use trine_storage::{Labels, MatchOp, Matcher, TimeRange};

use crate::store::{self, Entry};

#[path = "line_filter.rs"]
mod line_filter;

pub(crate) use line_filter::passes;

/// Headers of chunks count the values of this name.
const LEVEL: &str = "detected_level";

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let stream = prop::sample::select(vec![
        store::labels(&[("app", "a")]),
        store::labels(&[("app", "a"), ("k", "u")]),
        store::labels(&[("app", "b")]),
        store::labels(&[("k", "v")]),
    ]);
    let timestamp =
        prop_oneof![40 => -30..60i64, 1 => any::<i64>().prop_map(|t| t.min(i64::MAX - 1))];
    let line = prop_oneof![
        16 => "[xyz]{0,4}".prop_map(String::into_bytes),
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
    (stream, timestamp, line, metadata).prop_map(|(stream, timestamp, line, metadata)| Entry {
        stream,
        timestamp,
        line,
        metadata,
    })
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
        1 => (text(), prop::option::of(text()))
            .prop_map(|(text, or)| LineFilter::ContainsWhole { text, or }),
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

pub(crate) fn rows() -> impl Strategy<Value = Rows> {
    let direction = prop::sample::select(vec![
        Direction::Forward,
        Direction::Backward,
        Direction::Any,
    ]);
    let projection = any::<[bool; 3]>().prop_map(|[lines, metadata, skeletons]| Projection {
        lines,
        metadata,
        skeletons,
    });
    (
        (matchers(), range()),
        prop::collection::vec(filter(), 0..3),
        (
            prop::collection::vec(condition(), 0..2),
            prop::option::weighted(0.2, (filter(), condition())),
        ),
        direction,
        prop::sample::select(vec![None, Some(1), Some(20)]),
        projection,
        (1..4usize, any::<bool>()),
    )
        .prop_map(
            |(
                (matchers, range),
                lines,
                (metadata, either),
                direction,
                limit_hint,
                projection,
                how,
            )| Rows {
                lines,
                metadata,
                either: either.map(|(line, metadata)| Either { line, metadata }),
                direction,
                limit_hint,
                projection,
                threads: how.0,
                index: how.1,
                ..Rows::new(matchers, range)
            },
        )
}

pub(crate) fn counts() -> impl Strategy<Value = Counts> {
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
        prop::sample::select(vec![1, 7, 100, i64::MAX]),
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
        vec![Matcher::equal("app", "")],
        vec![Matcher::new(MatchOp::NotEqual, "k", "u").unwrap()],
        vec![
            Matcher::new(MatchOp::Match, "app", "a|b").unwrap(),
            Matcher::equal("k", "u"),
        ],
        vec![Matcher::equal("app", "nobody")],
    ])
}

fn range() -> impl Strategy<Value = TimeRange> {
    let some = (-40..70i64, 0..80i64);
    prop_oneof![
        1 => Just(TimeRange::ALL),
        1 => Just(TimeRange::new(-31, 100)),
        4 => some.prop_map(|(start, width)| TimeRange::new(start, start + width)),
    ]
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
    either: Option<&Either>,
) -> Vec<Entry> {
    let wanted = |entry: &&Entry| {
        range.contains(entry.timestamp)
            && matchers.iter().all(|m| m.matches_labels(&entry.stream))
            && lines.iter().all(|filter| passes(filter, &entry.line))
            && metadata.iter().all(|condition| holds(condition, entry))
            && either.is_none_or(|either| {
                passes(&either.line, &entry.line) || holds(&either.metadata, entry)
            })
    };
    all.iter().filter(wanted).cloned().collect()
}

fn expected_rows(all: &[Entry], question: &Rows) -> Vec<Entry> {
    let conditions = (
        question.matchers.as_slice(),
        question.lines.as_slice(),
        question.metadata.as_slice(),
    );
    let mut found = selected(all, question.range, conditions, question.either.as_ref());
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

pub(crate) fn check_rows(snapshot: &Snapshot, all: &[Entry], question: &Rows) {
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

/// The numbers that are asked for, or `None` when time is divided too finely.
fn expected_counts(all: &[Entry], question: &Counts) -> Option<Numbers> {
    let width = i128::from(question.range.end) - i128::from(question.range.start);
    let width = i64::try_from(width).ok()?;
    u32::try_from(width / question.bucket_ns).ok()?;
    let mut counts = Numbers::new();
    let conditions = (
        question.matchers.as_slice(),
        question.lines.as_slice(),
        question.metadata.as_slice(),
    );
    for entry in selected(all, question.range, conditions, None) {
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
    Some(counts)
}

pub(crate) fn check_counts(snapshot: &Snapshot, all: &[Entry], question: &Counts, parts: usize) {
    let request = Request::Counts(question.clone());
    let Some(expected) = expected_counts(all, question) else {
        assert!(snapshot.scan(&request).is_err(), "{question:?}");
        return;
    };
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
    assert_eq!(found, expected, "{question:?}");
}

/// Asks for the volumes of what is chosen by streams and time.
pub(crate) fn check_volumes(snapshot: &Snapshot, all: &[Entry], question: &Rows) {
    let mut sums: BTreeMap<Labels, (u64, u64)> = BTreeMap::new();
    for entry in selected(all, question.range, (&question.matchers, &[], &[]), None) {
        let sums = sums.entry(entry.stream).or_default();
        *sums = (sums.0 + 1, sums.1 + entry.line.len() as u64);
    }
    let volume = |(labels, (entries, bytes))| Volume {
        labels,
        entries,
        bytes,
    };
    let expected: Vec<Volume> = sums.into_iter().map(volume).collect();
    let found = snapshot.volume(&question.matchers, question.range).unwrap();
    assert_eq!(found, expected, "{question:?}");
}
