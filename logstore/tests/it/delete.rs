//! Deletes: seen at once, cancelled in time, gone from the files later.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trine_logstore::{Config, Durability, LineFilter, LogStore};
use trine_storage::clock::ManualClock;
use trine_storage::sim::SimFs;
use trine_storage::{Kind, Labels, Matcher, TimeRange};

use crate::store::{self, Entry, NOW_NS, lines};

const HOUR: i64 = 3_600_000_000_000;

struct Bench {
    fs: SimFs,
    clock: Arc<ManualClock>,
    config: Config,
}

impl Bench {
    fn new() -> Self {
        Self {
            fs: SimFs::new(),
            clock: store::clock(),
            config: Config::default(),
        }
    }

    fn open(&self) -> LogStore {
        store::open_at(&self.fs, "/store", &self.clock, self.config.clone()).unwrap()
    }
}

fn app(name: &str) -> Vec<Matcher> {
    vec![Matcher::equal("app", name)]
}

fn contains(text: &str) -> Vec<LineFilter> {
    vec![LineFilter::Contains(Bytes::copy_from_slice(
        text.as_bytes(),
    ))]
}

/// Entries of two streams, so many seconds ago, with these lines.
fn put(store: &LogStore, lines: &[(&str, i64, &str)]) {
    let entry = |(app, ago, line): &(&str, i64, &str)| Entry {
        stream: store::labels(&[("app", app)]),
        timestamp: NOW_NS - ago * 1_000_000_000,
        line: line.as_bytes().to_vec(),
        metadata: Labels::empty(),
    };
    let entries: Vec<Entry> = lines.iter().map(entry).collect();
    store::append(store, &entries, Durability::Synced).unwrap();
}

fn ago(from: i64, to: i64) -> TimeRange {
    TimeRange::new(NOW_NS - from * 1_000_000_000, NOW_NS - to * 1_000_000_000)
}

#[test]
fn what_is_deleted_is_seen_no_more_and_what_comes_later_is() {
    let bench = Bench::new();
    let store = bench.open();
    put(
        &store,
        &[("a", 4, "a4"), ("a", 3, "a3 x"), ("b", 2, "b2 x")],
    );
    store.flush().unwrap();
    put(&store, &[("a", 1, "a1 x"), ("b", 1, "b1")]);
    let before = store.snapshot();
    store
        .delete(&app("a"), &contains("x"), TimeRange::ALL)
        .unwrap();
    assert_eq!(lines(&store), ["a4", "b2 x", "b1"]);
    let all = store::rows_of(&before, store::everything()).unwrap();
    assert_eq!(all.len(), 5, "a snapshot never changes");
    store.delete(&app("b"), &[], ago(2, 1)).unwrap();
    assert_eq!(lines(&store), ["a4", "b1"], "the end is not in the range");
    put(&store, &[("a", 3, "a3 x")]);
    let expected = ["a4", "a3 x", "b1"];
    assert_eq!(lines(&store), expected, "appended after the delete");
    drop(store);
    let store = bench.open();
    assert_eq!(lines(&store), expected, "after a restart");
    assert_eq!(store.deletes().len(), 2);
    bench.clock.advance(Duration::from_secs(600));
    store.maintain().unwrap();
    assert_eq!(lines(&store), expected);
    store.compact().unwrap();
    assert_eq!(lines(&store), expected, "after everything was merged");
    assert_eq!(store.stats().deletes, 0, "forgotten when it is done");
    assert_eq!(store.stats().block_rows, 3);
}

#[test]
fn a_delete_is_carried_out_after_its_delay_and_can_be_cancelled_before() {
    let bench = Bench::new();
    let store = bench.open();
    put(&store, &[("a", 1, "a"), ("b", 1, "b")]);
    let first = store.delete(&app("a"), &[], TimeRange::ALL).unwrap();
    let second = store.delete(&app("b"), &[], TimeRange::ALL).unwrap();
    assert!(second > first);
    assert_eq!(lines(&store), [""; 0]);
    bench.clock.advance(Duration::from_secs(599));
    store.maintain().unwrap();
    assert_eq!(store.stats().block_rows, 2, "nothing is gone yet");
    assert!(store.deletes().iter().all(|delete| delete.cancellable));
    store.cancel_delete(first).unwrap();
    assert_eq!(lines(&store), ["a"], "as if it had never been asked for");
    assert_eq!(
        store.cancel_delete(first).unwrap_err().kind(),
        Kind::Invalid
    );
    bench.clock.advance(Duration::from_secs(1));
    let error = store.cancel_delete(second).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("carried out"), "{error}");
    store.maintain().unwrap();
    assert_eq!(store.stats().block_rows, 1);
    assert_eq!(store.stats().deletes, 0);
    assert_eq!(lines(&store), ["a"]);
}

#[test]
fn a_compaction_carries_out_what_could_still_be_cancelled() {
    let bench = Bench::new();
    let store = bench.open();
    put(&store, &[("a", 1, "a"), ("b", 1, "b")]);
    let number = store.delete(&app("a"), &[], TimeRange::ALL).unwrap();
    store.compact().unwrap();
    assert_eq!(store.stats().block_rows, 1);
    assert_eq!(
        store.cancel_delete(number).unwrap_err().kind(),
        Kind::Invalid
    );
    assert_eq!(lines(&store), ["b"]);
}

#[test]
fn merges_across_a_delete_that_may_be_cancelled_keep_it_in_force() {
    let bench = Bench::new();
    let store = bench.open();
    let mut number = 0;
    for n in 0..12 {
        put(&store, &[("a", 20 - n, &format!("a{n}"))]);
        if n == 5 {
            let deleted = store.delete(&app("a"), &contains("a2"), TimeRange::ALL);
            number = deleted.unwrap();
        }
        store.flush().unwrap();
    }
    store.maintain().unwrap();
    let stats = store.stats();
    assert!(stats.blocks < 12, "something was merged: {stats:?}");
    assert_eq!(stats.block_rows, 12, "the delete is not carried out");
    assert_eq!(lines(&store).len(), 11);
    store.cancel_delete(number).unwrap();
    assert_eq!(lines(&store).len(), 12);
}

#[test]
fn blocks_that_a_delete_does_not_touch_are_not_written_again() {
    let bench = Bench::new();
    let store = bench.open();
    for day in 1..=5 {
        put(
            &store,
            &[("a", day * 86_400, "secret"), ("b", day * 86_400, "b")],
        );
        if day == 3 {
            put(&store, &[("a", day * 86_400 + 1, "other")]);
        }
    }
    store.compact().unwrap();
    let before = store.blocks();
    assert_eq!(before.len(), 5);
    store
        .delete(&app("a"), &contains("other"), TimeRange::ALL)
        .unwrap();
    store.delete(&app("nobody"), &[], TimeRange::ALL).unwrap();
    bench.clock.advance(Duration::from_secs(600));
    store.maintain().unwrap();
    let after = store.blocks();
    let written: Vec<_> = after.iter().filter(|meta| !before.contains(meta)).collect();
    assert_eq!((after.len(), written.len()), (5, 1));
    assert_eq!(written[0].rows, 2);
    assert_eq!(store.stats().deletes, 0);
    assert_eq!(lines(&store).len(), 10);
}

#[test]
fn a_block_of_which_everything_is_deleted_goes() {
    let bench = Bench::new();
    let store = bench.open();
    put(&store, &[("a", 86_400, "a"), ("b", 1, "b")]);
    store.compact().unwrap();
    store.delete(&app("a"), &[], TimeRange::ALL).unwrap();
    store.compact().unwrap();
    assert_eq!(store.stats().blocks, 1);
    assert_eq!(
        store.snapshot().streams(&[], TimeRange::ALL).unwrap().len(),
        1
    );
}

#[test]
fn deletes_beyond_a_limit_are_refused() {
    let mut bench = Bench::new();
    bench.config.deletes_max = 2;
    let store = bench.open();
    put(&store, &[("a", 1, "a")]);
    let delete = |filter: &str| store.delete(&app("b"), &contains(filter), TimeRange::ALL);
    let error = delete(&"x".repeat(64 << 10)).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    delete(&"x".repeat(65_000)).unwrap();
    delete("y").unwrap();
    let error = delete("z").unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert!(error.to_string().contains("deletes_max (2)"), "{error}");
    store.close().unwrap();
    assert_eq!(delete("z").unwrap_err().kind(), Kind::Closed);
    assert_eq!(store.cancel_delete(1).unwrap_err().kind(), Kind::Closed);
}

#[test]
fn counts_leave_out_what_is_deleted() {
    let bench = Bench::new();
    let store = bench.open();
    put(
        &store,
        &[("a", 4, "a4"), ("a", 3, "a3 x"), ("b", 2, "b2 x")],
    );
    store.flush().unwrap();
    let count = || -> u64 {
        let range = TimeRange::new(NOW_NS - HOUR, NOW_NS + 1);
        let lines = trine_logstore::Measure::Lines;
        let request = trine_logstore::Counts::new(vec![], range, 2 * HOUR, lines);
        let batches = store::counts(&store, request).unwrap();
        batches.iter().flat_map(|batch| &batch.count).sum()
    };
    assert_eq!(count(), 3);
    store
        .delete(&app("a"), &contains("x"), TimeRange::ALL)
        .unwrap();
    assert_eq!(count(), 2);
    store.delete(&app("b"), &[], TimeRange::ALL).unwrap();
    assert_eq!(count(), 1);
}

#[test]
fn a_number_is_never_given_again() {
    let bench = Bench::new();
    let store = bench.open();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        put(&store, &[("a", 1, "a")]);
        numbers.push(store.delete(&app("a"), &[], TimeRange::ALL).unwrap());
        // Nothing is left that remembers the delete.
        store.compact().unwrap();
        assert_eq!((store.stats().blocks, store.stats().deletes), (0, 0));
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    put(&store, &[("a", 1, "a")]);
    let number = store.delete(&app("a"), &[], TimeRange::ALL).unwrap();
    store.cancel_delete(number).unwrap();
    assert_eq!(lines(&store), ["a"]);
}
