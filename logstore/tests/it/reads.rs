//! Reads of every kind against a plain vector: over memory, memory whose seal failed, and blocks
//! that overlap in time and share entries.

use std::time::Duration;

use proptest::prelude::*;
use trine_logstore::{Config, Durability, LineFilter, LogStore, Projection, Rows};
use trine_storage::regex::LineRegex;
use trine_storage::sim::SimFs;
use trine_storage::{Labels, TimeRange};

use crate::naive;
use crate::store::{self, Entry};

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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(naive::entry(), 0..24).prop_map(Step::Append),
        2 => (any::<prop::sample::Index>(), 1..12usize).prop_map(|(at, n)| Step::Again(at, n)),
        3 => Just(Step::Flush),
        1 => Just(Step::FlushFails),
    ]
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
        rows in prop::collection::vec(naive::rows(), 1..8),
        counts in prop::collection::vec((naive::counts(), 1..4usize), 1..8),
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
            naive::check_rows(&snapshot, &all, question);
            naive::check_volumes(&snapshot, &all, question);
        }
        for (question, parts) in &counts {
            naive::check_counts(&snapshot, &all, question, *parts);
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
        3 => "user[0-9]{2,5}",
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
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Contains,
    /// As an expression.
    Matches,
    /// The same in whatever letter case.
    Folded,
    /// With the words whole of which it has parts.
    Whole,
    /// Or another text.
    WholeOr,
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
        prop::sample::select(vec![
            How::Contains,
            How::Contains,
            How::Matches,
            How::Folded,
            How::Whole,
            How::WholeOr,
        ]),
    )
        .prop_map(|((line, start), length, changed, how)| Needle {
            line,
            start,
            length,
            changed,
            how,
        })
}

fn filter_of(needle: &Needle, lines: &[String]) -> LineFilter {
    let line = lines[needle.line.index(lines.len())].as_bytes();
    let mut start = needle.start.index(line.len());
    let mut end = line.len().min(start + needle.length);
    if matches!(needle.how, How::Whole | How::WholeOr) {
        let of_word = |at: &usize| line.get(*at).is_some_and(u8::is_ascii_alphanumeric);
        while start.checked_sub(1).is_some_and(|before| of_word(&before)) {
            start -= 1;
        }
        while of_word(&end) {
            end += 1;
        }
    }
    let mut bytes = line[start..end].to_vec();
    if let Some((at, byte)) = needle.changed {
        bytes[at.index(end - start)] = byte;
    }
    let regex = |pattern: String| LineFilter::Matches(LineRegex::new(&pattern).unwrap());
    match String::from_utf8(bytes) {
        Ok(text) => match needle.how {
            How::Contains => LineFilter::Contains(text.into()),
            How::Matches => regex(format!("\\Q{text}\\E.*")),
            How::Folded => regex(format!("(?i)\\Q{}\\E", text.to_uppercase())),
            How::Whole | How::WholeOr => LineFilter::ContainsWhole {
                text: text.into(),
                or: (needle.how == How::WholeOr).then(|| "no7".into()),
            },
        },
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
                        projection: Projection { lines: false, metadata: false, skeletons: false },
                        ..Rows::new(Vec::new(), TimeRange::ALL)
                    };
                    let rows = store::rows(&store, request).unwrap();
                    rows.iter().map(|entry| entry.timestamp).collect::<Vec<_>>()
                };
                let with_index = found(true);
                prop_assert_eq!(&with_index, &found(false), "{} {}", state, filter);
                let expected: Vec<i64> = entries
                    .iter()
                    .filter(|entry| naive::passes(&filter, &entry.line[..entry.line.len() - most]))
                    .map(|entry| entry.timestamp)
                    .collect();
                prop_assert_eq!(&with_index, &expected, "{} {}", state, filter);
            }
            store.compact().unwrap();
        }
    }
}
