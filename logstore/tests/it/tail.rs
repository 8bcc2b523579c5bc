//! Following a store: what is committed is told in order, what is too much is counted.

use std::time::Duration;

use bytes::Bytes;
use trine_logstore::{Config, Durability, LineFilter, LogStore, Tail, Tailed};
use trine_storage::sim::SimFs;
use trine_storage::{Kind, Labels, Matcher};

use crate::store::{self, Entry};

fn open() -> LogStore {
    store::open(&SimFs::new(), Config::default()).unwrap()
}

fn entry(app: &str, timestamp: i64, line: &str) -> Entry {
    Entry {
        stream: store::labels(&[("app", app)]),
        timestamp,
        line: line.as_bytes().to_vec(),
        metadata: match timestamp % 2 {
            0 => Labels::empty(),
            _ => store::labels(&[("k", line)]),
        },
    }
}

fn put(store: &LogStore, entries: &[Entry]) {
    store::append(store, entries, Durability::Buffered).unwrap();
}

fn received(tail: &Tail) -> (Vec<Entry>, u64) {
    let tailed = tail.try_recv().unwrap().unwrap_or_default();
    let rows = tailed.rows.iter().flat_map(store::entries);
    (rows.collect(), tailed.dropped)
}

fn times(tailed: &Tailed) -> Vec<i64> {
    let rows = tailed.rows.iter();
    rows.flat_map(|rows| rows.timestamps.clone()).collect()
}

#[test]
fn entries_are_given_in_the_order_in_which_they_are_committed() {
    let store = open();
    put(&store, &[entry("a", 1, "before")]);
    let all = store.tail(&[], &[], 100).unwrap();
    let filter = [LineFilter::NotContains(Bytes::from("skip"))];
    let some = store
        .tail(&[Matcher::equal("app", "a")], &filter, 100)
        .unwrap();
    assert!(all.try_recv().unwrap().is_none());
    let first = [
        entry("b", 9, "one"),
        entry("a", 5, "two"),
        entry("a", 4, "skip me"),
    ];
    let second = [entry("a", 3, "three"), entry("b", 2, "four")];
    put(&store, &first);
    put(&store, &second);
    assert_eq!(received(&all), ([&first[..], &second].concat(), 0));
    assert_eq!(
        received(&some),
        (vec![first[1].clone(), second[0].clone()], 0)
    );
    assert!(all.try_recv().unwrap().is_none(), "each entry once");
    store.flush().unwrap();
    put(&store, &[entry("a", 7, "after a seal")]);
    assert_eq!(received(&all).0, [entry("a", 7, "after a seal")]);
}

#[test]
fn batches_that_are_wanted_whole_and_others_come_in_order() {
    let store = open();
    let of_a = store
        .tail(&[Matcher::equal("app", "a")], &[], 10_000)
        .unwrap();
    let all = store.tail(&[], &[], 2_500).unwrap();
    let mut sent = Vec::new();
    for (part, streams) in [["a", "a"], ["a", "a"], ["a", "b"], ["a", "a"], ["b", "b"]]
        .iter()
        .enumerate()
    {
        let of_part = (0..1000).map(|i| {
            let line = format!("line {i} of part {part}");
            entry(streams[i % 2], (part * 1000 + i) as i64, &line)
        });
        let of_part: Vec<_> = of_part.collect();
        put(&store, &of_part);
        sent.extend(of_part);
    }
    assert_eq!(received(&all), (sent[..2500].to_vec(), 2500));
    sent.retain(|entry| entry.stream == store::labels(&[("app", "a")]));
    assert_eq!(received(&of_a), (sent, 0));
}

#[test]
fn a_slow_reader_hears_what_was_dropped() {
    let store = open();
    let tail = store.tail(&[], &[], 3).unwrap();
    put(
        &store,
        &[entry("a", 1, "1"), entry("a", 2, "2"), entry("a", 3, "3")],
    );
    assert_eq!(received(&tail).1, 0, "at the limit");
    put(&store, &[entry("a", 4, "4"), entry("a", 5, "5")]);
    put(
        &store,
        &[entry("b", 6, "6"), entry("b", 7, "7"), entry("a", 8, "8")],
    );
    put(&store, &[entry("a", 9, "9")]);
    let tailed = tail.try_recv().unwrap().unwrap();
    let kept = times(&tailed);
    assert_eq!((kept, tailed.dropped), (vec![4, 5, 6], 3));
    assert_eq!(
        tailed.first_dropped,
        [
            (store::labels(&[("app", "b")]), 7),
            (store::labels(&[("app", "a")]), 8),
            (store::labels(&[("app", "a")]), 9),
        ]
    );
    put(&store, &[entry("a", 10, "10")]);
    assert_eq!(
        received(&tail),
        (vec![entry("a", 10, "10")], 0),
        "it goes on"
    );
}

#[test]
fn of_what_was_dropped_a_thousand_are_told() {
    let store = open();
    let tail = store.tail(&[], &[], 1).unwrap();
    let many =
        |from: i64| -> Vec<_> { (from..=from + 1000).map(|at| entry("a", at, "x")).collect() };
    put(&store, &many(0));
    let tailed = tail.try_recv().unwrap().unwrap();
    assert_eq!((tailed.dropped, tailed.first_dropped.len()), (1000, 1000));
    put(&store, &many(2000));
    put(&store, &many(4000));
    let tailed = tail.try_recv().unwrap().unwrap();
    assert_eq!((tailed.dropped, tailed.first_dropped.len()), (2001, 1000));
}

#[test]
fn few_large_entries_are_too_many_too() {
    let config = Config {
        line_bytes_max: 16 << 20,
        ..Config::default()
    };
    let store = store::open(&SimFs::new(), config).unwrap();
    let tail = store.tail(&[], &[], 1_000).unwrap();
    let line = "x".repeat(8 << 20);
    for timestamp in 0..3 {
        put(&store, &[entry("a", 2 * timestamp, &line)]);
    }
    let tailed = tail.try_recv().unwrap().unwrap();
    assert_eq!((times(&tailed).len(), tailed.dropped), (2, 1));
}

#[test]
fn who_waits_is_woken_by_an_entry_and_by_the_end() {
    let store = open();
    let tail = store.tail(&[], &[], 10).unwrap();
    assert!(tail.recv_timeout(Duration::ZERO).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| tail.recv_timeout(Duration::from_secs(600)).unwrap());
        put(&store, &[entry("a", 1, "x")]);
        assert_eq!(times(&waiting.join().unwrap().unwrap()), [1]);
        let waiting = scope.spawn(|| tail.recv_timeout(Duration::from_secs(600)));
        put(&store, &[entry("a", 2, "y")]);
        assert!(waiting.join().unwrap().unwrap().is_some());
        let waiting = scope.spawn(|| tail.recv_timeout(Duration::from_secs(600)));
        store.close().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::Closed);
    });
    assert_eq!(tail.try_recv().unwrap_err().kind(), Kind::Closed);
    let late = store.tail(&[], &[], 10).unwrap();
    assert_eq!(late.try_recv().unwrap_err().kind(), Kind::Closed);
}

#[test]
fn what_was_committed_before_the_end_is_given_first() {
    let store = open();
    let tail = store.tail(&[], &[], 10).unwrap();
    put(&store, &[entry("a", 1, "x")]);
    store.close().unwrap();
    assert_eq!(received(&tail).0.len(), 1);
    assert_eq!(tail.try_recv().unwrap_err().kind(), Kind::Closed);
}
