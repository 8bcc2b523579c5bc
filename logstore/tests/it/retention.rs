//! What is expired: seen no more at once, gone from the files when it pays; a full disk.

use std::sync::Arc;
use std::time::Duration;

use trine_logstore::{Config, Durability, LogStore, RetentionRule, Rows};
use trine_storage::clock::ManualClock;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Error, Kind, Labels, Matcher, TimeRange};

use crate::store::{self, Entry, NOW_NS, clock, lines};

const HOUR: u64 = 3_600;

fn open(fs: &SimFs, clock: &Arc<ManualClock>, config: &Config) -> LogStore {
    store::open_at(fs, "/store", clock, config.clone()).unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * HOUR)
}

/// An entry so many hours ago.
fn entry(app: &str, ago: u64, line: &str) -> Entry {
    Entry {
        stream: store::labels(&[("app", app)]),
        timestamp: NOW_NS - hours(ago).as_nanos() as i64,
        line: line.as_bytes().to_vec(),
        metadata: Labels::empty(),
    }
}

fn rule(app: &str, keep: Option<u64>) -> RetentionRule {
    RetentionRule {
        matchers: vec![Matcher::equal("app", app)],
        keep: keep.map(hours),
        priority: 1,
    }
}

#[test]
fn rules_keep_streams_longer_or_shorter_and_files_follow() {
    let (fs, clock) = (SimFs::new(), clock());
    let config = Config {
        retention: Some(hours(100)),
        retention_rules: vec![rule("short", Some(24)), rule("long", Some(200))],
        ..Config::default()
    };
    let store = open(&fs, &clock, &config);
    let put = |entries: &[Entry]| {
        store::append(&store, entries, Durability::Synced).unwrap();
    };
    put(&[
        entry("short", 20, "s1"),
        entry("short", 20, "s2"),
        entry("plain", 20, "p"),
        entry("long", 20, "l"),
    ]);
    store.compact().unwrap();
    put(&[entry("short", 23, "in memory")]);
    assert_eq!(lines(&store).len(), 5);
    clock.advance(hours(2));
    assert_eq!(lines(&store), ["l", "p", "s1", "s2"], "memory too");
    clock.advance(hours(3));
    assert_eq!(lines(&store), ["l", "p"], "at once");
    let counted = store.snapshot().totals(&[], TimeRange::ALL).unwrap();
    assert_eq!(counted.entries, 2);
    assert_eq!(
        store.snapshot().streams(&[], TimeRange::ALL).unwrap().len(),
        2
    );
    store.flush().unwrap();
    assert_eq!(store.stats().block_rows, 5);
    store.compact().unwrap();
    assert_eq!(store.stats().block_rows, 2, "half of the block was expired");
    clock.advance(hours(76));
    assert_eq!(lines(&store), ["l"]);
    store.maintain().unwrap();
    assert_eq!(store.stats().block_rows, 1);
    clock.advance(hours(100));
    assert_eq!(lines(&store), [""; 0]);
    store.maintain().unwrap();
    assert_eq!(store.stats().blocks, 0);
}

#[test]
fn a_block_is_not_written_again_for_a_few_expired_entries() {
    let (fs, clock) = (SimFs::new(), clock());
    let config = Config {
        retention_rules: vec![rule("short", Some(24))],
        ..Config::default()
    };
    let store = open(&fs, &clock, &config);
    let mut entries: Vec<Entry> = (0..9).map(|n| entry("plain", 20, &n.to_string())).collect();
    entries.push(entry("short", 20, "s"));
    store::append(&store, &entries, Durability::Synced).unwrap();
    store.compact().unwrap();
    let before = store.blocks();
    clock.advance(hours(10));
    store.maintain().unwrap();
    assert_eq!(store.blocks(), before);
    assert_eq!(lines(&store).len(), 9, "hidden nevertheless");
}

#[test]
fn entries_that_would_be_expired_are_refused_only_where_nothing_keeps_them() {
    let (fs, clock) = (SimFs::new(), clock());
    let config = Config {
        retention: Some(hours(10)),
        retention_rules: vec![rule("long", None)],
        ..Config::default()
    };
    let store = open(&fs, &clock, &config);
    let old = [entry("long", 9_000, "long"), entry("plain", 9_000, "plain")];
    store::append(&store, &old, Durability::Synced).unwrap();
    assert_eq!(lines(&store), ["long"]);
}

#[test]
fn the_oldest_blocks_go_when_there_are_too_many_bytes() {
    let (fs, clock) = (SimFs::new(), clock());
    let mut config = Config::default();
    let store = open(&fs, &clock, &config);
    for day in 1..=4 {
        let line = format!("{day}").repeat(100);
        store::append(&store, &[entry("a", 24 * day, &line)], Durability::Synced).unwrap();
    }
    store.flush().unwrap();
    let bytes = store.stats().block_bytes;
    drop(store);
    config.retention_bytes = Some(bytes);
    let store = open(&fs, &clock, &config);
    store.maintain().unwrap();
    assert_eq!(lines(&store).len(), 4, "exactly full");
    drop(store);
    config.retention_bytes = Some(bytes - 1);
    let store = open(&fs, &clock, &config);
    store.maintain().unwrap();
    let left: Vec<String> = lines(&store)
        .iter()
        .map(|line| line[..1].to_owned())
        .collect();
    assert_eq!(left, ["3", "2", "1"]);
}

/// What needs space.
type Work = fn(&LogStore) -> Result<(), Error>;

#[test]
fn a_full_disk_fails_what_writes_and_loses_nothing() {
    let works: [(&str, Work); 5] = [
        ("append", |store| {
            store::append(store, &[entry("a", 0, "new")], Durability::Synced).map(drop)
        }),
        ("flush", LogStore::flush),
        ("compact", LogStore::compact),
        ("delete", |store| {
            let nobody = [Matcher::equal("app", "nobody")];
            store.delete(&nobody, &[], TimeRange::ALL).map(drop)
        }),
        ("backup", |store| store.backup("/copy")),
    ];
    let fill = |store: &LogStore| {
        for ago in [50, 3, 2] {
            store::append(store, &[entry("a", ago, "old")], Durability::Synced).unwrap();
            store.flush().unwrap();
        }
        store::append(store, &[entry("b", 1, "recent")], Durability::Synced).unwrap();
    };
    let expected = ["old", "old", "old", "recent"];
    let check = |store: &LogStore, place: &str| {
        let mut found = lines(store);
        found.retain(|line| line != "new");
        assert_eq!(found, expected, "{place}");
    };
    for (name, work) in works {
        let (mut failed, mut resumed) = (0, 0);
        for room in 0.. {
            let (fs, clock) = (SimFs::new(), clock());
            let store = open(&fs, &clock, &Config::default());
            fill(&store);
            // Counted from the beginning, as the disk does: what was written so far fits.
            let written = written(&fs);
            fs.fill_after(written + room * 30);
            let Err(error) = work(&store) else { break };
            failed += 1;
            let place = format!("{name}, room for {} bytes", room * 30);
            assert_eq!(error.kind(), Kind::Io, "{place}: {error}");
            check(&store, &place);
            // Work goes on when there is space, unless the log or the catalog may be torn.
            fs.fill_after(u64::MAX);
            match work(&store) {
                Ok(()) => {
                    resumed += 1;
                    store.compact().unwrap();
                    check(&store, &place);
                }
                Err(again) => assert_eq!(again.kind(), Kind::Poisoned, "{place}: {again}"),
            }
            drop(store);
            for how in [Crash::Process, Crash::Power] {
                let store = open(&fs.crash(how, room), &clock, &Config::default());
                check(&store, &place);
                assert!(store.stats().damaged.is_empty(), "{place}");
                store.compact().unwrap();
                check(&store, &place);
            }
        }
        assert!(failed > 0, "{name} failed {failed} times");
        assert!(
            resumed > 0 || name == "append" || name == "delete",
            "{name} never went on"
        );
    }
}

/// Bytes that were written to a disk so far.
fn written(fs: &SimFs) -> u64 {
    let (mut least, mut most) = (0, 1 << 24);
    while least < most {
        let middle = u64::midpoint(least, most);
        fs.fill_after(middle);
        match is_full(fs) {
            true => least = middle + 1,
            false => most = middle,
        }
    }
    fs.fill_after(u64::MAX);
    least
}

fn is_full(fs: &SimFs) -> bool {
    use trine_storage::fs::Fs;
    let path = std::path::Path::new("/store/probe");
    let mut file = fs.create(path).unwrap();
    let full = file.write_all(&[]).is_err();
    drop(file);
    fs.remove_file(path).unwrap();
    full
}

#[test]
fn nothing_is_seen_twice_and_nothing_is_lost_while_all_goes_on_at_once() {
    const WRITERS: u64 = 2;
    const BATCHES: u64 = 60;
    let (fs, clock) = (SimFs::new(), clock());
    let store = open(&fs, &clock, &Config::default());
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        let (store, acknowledged) = (&store, &acknowledged);
        let write = move |writer: u64| {
            for batch in 0..BATCHES {
                let line = format!("{writer} {batch}");
                let entries = [entry("kept", writer, &line), entry("gone", writer, &line)];
                store::append(store, &entries, Durability::Buffered).unwrap();
                acknowledged.fetch_add(1, order);
                match batch % 6 {
                    1 => store.flush().unwrap(),
                    4 => store.compact().unwrap(),
                    5 => drop(store.delete(&[Matcher::equal("app", "gone")], &[], TimeRange::ALL)),
                    _ => store.maintain().unwrap(),
                }
            }
        };
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| scope.spawn(move || write(n)))
            .collect();
        while !writers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            let before = acknowledged.load(order);
            let request = Rows::new(vec![Matcher::equal("app", "kept")], TimeRange::ALL);
            let mut found = store::rows(store, request).unwrap();
            let count = found.len();
            assert!(
                count as u64 >= before,
                "{before} were acknowledged, {count} found"
            );
            found.sort_by(|a, b| a.line.cmp(&b.line));
            found.dedup();
            assert_eq!(found.len(), count, "a line was found twice");
        }
    });
    store
        .delete(&[Matcher::equal("app", "gone")], &[], TimeRange::ALL)
        .unwrap();
    store.compact().unwrap();
    assert_eq!(lines(&store).len() as u64, WRITERS * BATCHES);
    assert_eq!(store.stats().block_rows, WRITERS * BATCHES);
    assert!(store.verify().errors.is_empty());
}
