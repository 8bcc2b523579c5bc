//! Tests of merges that take chunks over as they are.

use std::collections::{BTreeSet, HashSet};

use trine_storage::{Matcher, TimeRange};

use super::*;
use crate::request::LineFilter;

/// Entries of a large stream in one block: two chunks.
const ROWS: i64 = 2_500;

/// Stream, timestamp and line of each entry.
type Model = BTreeSet<(&'static str, i64, String)>;

fn line(block: i64, timestamp: i64) -> String {
    // Of the entries that two blocks have at one instant every other is the same in both.
    let block = if timestamp % 2 == 0 { 0 } else { block };
    let number = timestamp.wrapping_mul(0x9e37_79b9);
    format!(
        "w{timestamp}b{block} kind=common{} id={number:012x} {}",
        timestamp % 7,
        "filler words that repeat ".repeat(7)
    )
}

/// Writes one block, whose large streams begin at `start`.
fn write(store: &LogStore, model: &mut Model, block: i64, start: i64) {
    let mut appender = store.appender();
    let mut add = |stream: &'static str, timestamp: i64| {
        let line = line(block, timestamp);
        let metadata = Labels::from_pairs([("pod", format!("p{}", timestamp % 3))]).unwrap();
        appender.append(&app(stream), timestamp, line.as_bytes(), &metadata);
        model.insert((stream, timestamp, line));
    };
    for timestamp in start..start + ROWS {
        add("big", timestamp);
        add("large", timestamp);
    }
    for stream in ["a", "c", "m", "z"] {
        (start..start + 5).for_each(|timestamp| add(stream, timestamp));
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store.flush().unwrap();
}

fn lines(store: &LogStore, matchers: Vec<Matcher>, lines: Vec<LineFilter>) -> Vec<String> {
    let request = Rows {
        lines,
        ..Rows::new(matchers, TimeRange::ALL)
    };
    let found = scan(store, request).unwrap();
    let found = found
        .into_iter()
        .map(|line| String::from_utf8(line).unwrap());
    let mut found: Vec<String> = found.collect();
    found.sort_unstable();
    found
}

fn check(store: &LogStore, model: &Model) {
    let expected = |stream: Option<&str>, part: &str| -> Vec<String> {
        let hits = model.iter().filter(|(of, _, line)| {
            stream.is_none_or(|stream| stream == *of) && line.contains(part)
        });
        let mut hits: Vec<String> = hits.map(|(_, _, line)| line.clone()).collect();
        hits.sort_unstable();
        hits
    };
    let errors = store.verify().errors;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(lines(store, vec![], vec![]), expected(None, ""));
    let number = 2_501i64.wrapping_mul(0x9e37_79b9);
    let id = format!("{number:012x}");
    for part in [
        "w17b0 ",
        "w17b",
        "w2501b",
        "w2500b1",
        "b2 ",
        "common3",
        " id=0",
        "9999b",
        &id,
        &id[2..9],
        "nothing like it",
        "w",
    ] {
        let filter = || vec![LineFilter::Contains(part.to_owned().into())];
        assert_eq!(
            lines(store, vec![], filter()),
            expected(None, part),
            "{part}"
        );
        let big = Matcher::equal("app", "big");
        assert_eq!(
            lines(store, vec![big], filter()),
            expected(Some("big"), part),
            "{part} in one stream"
        );
    }
}

/// The first stream of all chunks and the checksum of their text.
fn texts(store: &LogStore) -> HashSet<(Labels, u32)> {
    let mut found = HashSet::new();
    for block in &store.inner.blocks.version().blocks {
        let tables = block.reader.tables().unwrap();
        for chunk in &tables.chunks {
            let stream = tables.index.labels(chunk.runs[0].stream).unwrap();
            found.insert((stream, chunk.text.crc));
        }
    }
    found
}

/// How many chunks of several blocks a merge takes over when each block goes on so many entries
/// before the end of the one before.
fn taken(overlap: i64) -> usize {
    let store = Bench::new(Config::default()).open().unwrap();
    let mut model = Model::new();
    for block in 0..3 {
        write(&store, &mut model, block, block * (ROWS - overlap));
    }
    check(&store, &model);
    let before = texts(&store);
    store.compact().unwrap();
    assert_eq!(store.inner.blocks.version().blocks.len(), 1);
    check(&store, &model);
    let taken = texts(&store).intersection(&before).count();

    // The merged block is an input like any other, and a delete goes through it.
    write(&store, &mut model, 3, 3 * ROWS);
    let deleted = |stream: &str, timestamp: i64, line: &str| {
        stream == "big" && (10..300).contains(&timestamp) && line.contains("common3")
    };
    store
        .delete(
            &[Matcher::equal("app", "big")],
            &[LineFilter::Contains("common3".into())],
            TimeRange::new(10, 300),
        )
        .unwrap();
    model.retain(|(stream, timestamp, line)| !deleted(stream, *timestamp, line));
    check(&store, &model);
    store.compact().unwrap();
    check(&store, &model);
    taken
}

#[test]
fn chunks_that_overlap_with_nothing_are_taken_over() {
    assert_eq!(taken(0), 12, "two chunks of two streams in three blocks");
    // Neighbours meet in one instant, so that the chunk at each end of it is unpacked.
    assert_eq!(taken(1), 4);
    assert_eq!(taken(ROWS), 0, "every instant is in all blocks");
}

#[test]
fn what_a_damaged_index_says_is_not_taken_over() {
    let bench = Bench::new(Config::default());
    let store = bench.open().unwrap();
    let mut model = Model::new();
    write(&store, &mut model, 0, 0);
    drop(store);
    let [path] = bench.block_files().try_into().unwrap();
    let len = usize::try_from(bench.disk.open(&path).unwrap().len()).unwrap();
    // The dictionaries lie shortly before the end.
    bench.disk.corrupt(&path, len - 3_000, 1);
    let store = bench.open().unwrap();
    assert!(!store.verify().errors.is_empty());
    write(&store, &mut model, 1, ROWS);
    store.compact().unwrap();
    check(&store, &model);
}
