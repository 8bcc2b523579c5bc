//! Tests of the store that need to see inside: limits, retention, sealing, poison.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use trine_storage::clock::ManualClock;
use trine_storage::shared;
use trine_storage::sim::SimFs;
use trine_storage::{Labels, TimeRange};

use super::*;
use crate::config::LongLines;
use crate::entry::Reason;
use crate::request::{Batch as Answer, Request, Rows};

mod merging;
mod reading;

const NOW_NS: i64 = 1_000_000_000_000;

struct Bench {
    disk: SimFs,
    clock: Arc<ManualClock>,
    config: Config,
    memory_bytes_max: u64,
}

impl Bench {
    fn new(config: Config) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_NS));
        Self {
            disk: SimFs::new(),
            clock,
            config,
            memory_bytes_max: 1 << 30,
        }
    }

    fn open(&self) -> Result<LogStore> {
        let memory_bytes_max = self.memory_bytes_max;
        let shared = shared::Config {
            workers: 0,
            memory_bytes_max,
            ..Default::default()
        };
        LogStore::builder("/store")
            .config(self.config.clone())
            .fs(Arc::new(self.disk.clone()))
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .shared(Shared::new(&shared))
            .open()
    }

    fn block_files(&self) -> Vec<PathBuf> {
        let is_block = |path: &PathBuf| path.extension().is_some_and(|e| e == "block");
        self.disk.files().into_iter().filter(is_block).collect()
    }
}

fn app(name: &str) -> Labels {
    Labels::from_pairs([("app", name)]).unwrap()
}

fn append(store: &LogStore, timestamp: i64, line: &[u8]) -> Result<crate::Accepted> {
    let mut appender = store.appender();
    appender.append(&app("a"), timestamp, line, &Labels::empty());
    appender.commit(Durability::Synced)?.wait()
}

fn scan(store: &LogStore, request: Rows) -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    for batch in store.snapshot().scan(&Request::Rows(request))? {
        let Answer::Rows(batch) = batch? else {
            panic!("rows were asked for")
        };
        lines.extend((0..batch.lines.len()).map(|row| batch.lines.get(row).to_vec()));
    }
    Ok(lines)
}

fn all(store: &LogStore) -> Result<Vec<Vec<u8>>> {
    scan(store, Rows::new(vec![], TimeRange::ALL))
}

#[test]
fn entries_at_the_edge_of_a_limit_are_stored_and_beyond_it_refused() {
    let config = Config {
        retention: Some(Duration::from_nanos(100)),
        future_max: Some(Duration::from_nanos(10)),
        line_bytes_max: 5,
        metadata_bytes_max: 8,
        metadata_max: 2,
        ..Config::default()
    };
    let store = Bench::new(config).open().unwrap();
    let check =
        |timestamp: i64, line: &[u8], metadata: &[(&str, &str)], refused: Option<Reason>| {
            let metadata = Labels::from_pairs(metadata.iter().copied()).unwrap();
            let mut appender = store.appender();
            appender.append(&app("a"), timestamp, line, &metadata);
            let accepted = appender
                .commit(Durability::Buffered)
                .unwrap()
                .wait()
                .unwrap();
            assert_eq!(
                accepted.rejected.first().map(|r| r.reason),
                refused,
                "{accepted:?}"
            );
            assert_eq!(accepted.stored, u64::from(refused.is_none()));
        };
    check(NOW_NS - 100, b"a", &[], None);
    check(NOW_NS - 101, b"a", &[], Some(Reason::TooOld));
    check(NOW_NS + 10, b"b", &[], None);
    check(NOW_NS + 11, b"b", &[], Some(Reason::TooFarInFuture));
    check(NOW_NS, b"12345", &[], None);
    check(NOW_NS, b"123456", &[], Some(Reason::LineTooLong));
    check(NOW_NS, b"c", &[("name", "four")], None);
    check(
        NOW_NS,
        b"c",
        &[("name", "fives")],
        Some(Reason::MetadataTooLarge),
    );
    check(NOW_NS, b"d", &[("a", "1"), ("b", "2")], None);
    check(
        NOW_NS,
        b"d",
        &[("a", "1"), ("b", "2"), ("c", "3")],
        Some(Reason::TooManyMetadata),
    );
    assert_eq!(all(&store).unwrap().len(), 5);
}

#[test]
fn what_is_refused_is_counted_by_reason_and_does_not_hold_up_the_rest() {
    let store = Bench::new(Config {
        line_bytes_max: 3,
        ..Config::default()
    })
    .open()
    .unwrap();
    let mut appender = store.appender();
    for line in [&b"long line"[..], b"ok", b"another"] {
        appender.append(&app("a"), 7, line, &Labels::empty());
    }
    let accepted = appender.commit(Durability::Synced).unwrap().wait().unwrap();
    assert_eq!(accepted.stored, 1);
    let [rejected] = accepted.rejected.as_slice() else {
        panic!("{accepted:?}")
    };
    assert_eq!((rejected.reason, rejected.count), (Reason::LineTooLong, 2));
    assert_eq!(
        rejected.example,
        r#"stream={app="a"} timestamp=7 bytes=9 max=3"#
    );
    assert_eq!(all(&store).unwrap(), [b"ok"]);
}

#[test]
fn the_last_instant_of_time_is_refused_whatever_the_settings_are() {
    let store = Bench::new(Config {
        future_max: None,
        ..Config::default()
    })
    .open()
    .unwrap();
    assert_eq!(append(&store, i64::MAX - 1, b"x").unwrap().stored, 1);
    let refused = append(&store, i64::MAX, b"x").unwrap();
    assert_eq!(refused.rejected[0].reason, Reason::TooFarInFuture);
}

#[test]
fn a_batch_larger_than_a_record_stores_nothing() {
    let mut config = Config::default();
    config.wal.record_bytes_max = 1_000;
    let store = Bench::new(config).open().unwrap();
    assert_eq!(append(&store, 1, &[b'x'; 900]).unwrap().stored, 1);
    let mut appender = store.appender();
    for timestamp in 0..3 {
        appender.append(&app("a"), timestamp, &[b'x'; 500], &Labels::empty());
    }
    let error = appender.commit(Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert_eq!(all(&store).unwrap().len(), 1);
}

#[test]
fn a_used_up_memory_budget_refuses_batches_until_a_seal() {
    let bench = Bench {
        memory_bytes_max: 3_000,
        ..Bench::new(Config::default())
    };
    let store = bench.open().unwrap();
    append(&store, 1, &[b'x'; 1_500]).unwrap();
    let error = append(&store, 2, &[b'x'; 1_500]).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert_eq!(all(&store).unwrap().len(), 1, "nothing was stored");
    store.maintain().ok();
    append(&store, 2, &[b'x'; 1_500]).unwrap();
    assert_eq!(all(&store).unwrap().len(), 2);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for config in [
        Config {
            block_range: Duration::ZERO,
            ..Config::default()
        },
        Config {
            block_ranges_max: 0,
            ..Config::default()
        },
        Config {
            line_bytes_max: 0,
            ..Config::default()
        },
        Config {
            line_bytes_max: (16 << 20) + 1,
            ..Config::default()
        },
        Config {
            metadata_bytes_max: (1 << 20) + 1,
            ..Config::default()
        },
    ] {
        assert_eq!(Bench::new(config).open().unwrap_err().kind(), Kind::Invalid);
    }
}

#[test]
fn blocks_go_when_their_last_entry_is_older_than_the_retention() {
    let config = Config {
        retention: Some(Duration::from_secs(100)),
        block_range: Duration::from_secs(10),
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open().unwrap();
    append(&store, NOW_NS - 50_000_000_000, b"old").unwrap();
    append(&store, NOW_NS, b"new").unwrap();
    store.flush().unwrap();
    let snapshot = store.snapshot();
    assert_eq!(bench.block_files().len(), 2);

    bench.clock.advance(Duration::from_secs(50));
    store.maintain().ok();
    assert_eq!(
        all(&store).unwrap().len(),
        2,
        "the last instant that is kept"
    );
    bench.clock.advance(Duration::from_nanos(1));
    store.maintain().ok();
    assert_eq!(all(&store).unwrap(), [b"new"]);

    assert_eq!(bench.block_files().len(), 2, "a snapshot still reads it");
    let rows = snapshot
        .scan(&Request::Rows(Rows::new(vec![], TimeRange::ALL)))
        .unwrap();
    assert!(rows.into_iter().all(|batch| batch.is_ok()));
    drop(snapshot);
    assert_eq!(bench.block_files().len(), 1);
}

#[test]
fn memory_is_sealed_when_it_is_old_or_the_log_is_long() {
    let mut config = Config {
        seal_age: Duration::from_secs(60),
        ..Config::default()
    };
    config.wal_bytes_max = 4_000;
    let bench = Bench::new(config);
    let store = bench.open().unwrap();
    append(&store, 1, b"x").unwrap();
    bench.clock.advance(Duration::from_secs(59));
    store.maintain().ok();
    assert_eq!(store.stats().blocks, 0);
    bench.clock.advance(Duration::from_secs(1));
    store.maintain().ok();
    assert_eq!(store.stats().blocks, 1, "by age");
    for timestamp in 0..60 {
        append(&store, timestamp, format!("line {timestamp}").as_bytes()).unwrap();
    }
    assert!((2_000..4_000).contains(&store.stats().wal.bytes));
    store.maintain().ok();
    assert_eq!(store.stats().blocks, 2, "by the length of the log");
    assert_eq!(store.stats().wal.bytes, 0);
}

/// Without anybody who maintains the store, each limit of memory is kept by the appends.
#[test]
fn an_append_that_finds_memory_full_seals_it() {
    let limits: [fn(&mut Config); 3] = [
        |config| config.wal_bytes_max = 2_000,
        |config| config.buffer_bytes_max = 3_000,
        |config| config.streams_max = 20,
    ];
    for (limit, set) in limits.into_iter().enumerate() {
        let mut config = Config::default();
        set(&mut config);
        let bench = Bench::new(config.clone());
        let store = bench.open().unwrap();
        for timestamp in 0..100 {
            let mut appender = store.appender();
            let labels = app(&(timestamp % 50).to_string());
            appender.append(&labels, timestamp, b"a line", &Labels::empty());
            appender
                .commit(Durability::Buffered)
                .unwrap()
                .wait()
                .unwrap();
            let stats = store.stats();
            assert!(
                stats.wal.bytes < config.wal_bytes_max + 200
                    && stats.buffer_bytes < config.buffer_bytes_max + 4_000
                    && stats.buffer_streams <= config.streams_max,
                "limit {limit}: {stats:?}"
            );
        }
        assert!(store.stats().blocks > 1, "limit {limit}");
        assert_eq!(all(&store).unwrap().len(), 100, "limit {limit}");
    }
}

#[test]
fn streams_at_the_edge_of_a_limit_are_stored_and_beyond_it_refused() {
    let store = Bench::new(Config {
        labels_max: 3,
        labels_bytes_max: 12,
        ..Config::default()
    })
    .open()
    .unwrap();
    let check = |labels: &[(&str, &str)], refused: Option<(Reason, &str)>| {
        let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
        let mut appender = store.appender();
        for timestamp in 0..2 {
            appender.append(&labels, timestamp, b"x", &Labels::empty());
        }
        let commit = appender.commit(Durability::Buffered).unwrap();
        let accepted = commit.wait().unwrap();
        let rejected = accepted.rejected.first();
        assert_eq!(
            rejected.map(|r| (r.reason, r.count)),
            refused.map(|r| (r.0, 2))
        );
        assert_eq!(accepted.stored, if refused.is_none() { 2 } else { 0 });
        if let (Some(rejected), Some((_, found))) = (rejected, refused) {
            assert!(rejected.example.ends_with(found), "{}", rejected.example);
        }
    };
    check(&[("a", "1"), ("b", "2"), ("c", "3")], None);
    let four = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];
    check(&four, Some((Reason::TooManyLabels, "labels=4 max=3")));
    check(&[("name", "8 bytes.")], None);
    let refused = (Reason::LabelsTooLarge, "bytes=13 max=12");
    check(&[("name", "9 bytes. ")], Some(refused));
    check(&[], None);
}

#[test]
fn long_lines_are_cut_where_that_is_asked_for() {
    let store = Bench::new(Config {
        line_bytes_max: 5,
        long_lines: LongLines::Truncate,
        ..Config::default()
    })
    .open()
    .unwrap();
    let cases: [(&[u8], &[u8], u64); 7] = [
        (b"", b"", 0),
        (b"12345", b"12345", 0),
        (b"123456", b"12345", 1),
        // A character of three bytes is not divided, bytes that are no text are.
        ("123äx".as_bytes(), "123ä".as_bytes(), 1),
        ("123€".as_bytes(), b"123", 1),
        (&[0x80; 9], &[0x80; 5], 1),
        (b"\0\xff\0\xff\0\xff", b"\0\xff\0\xff\0", 1),
    ];
    for (timestamp, (line, expected, truncated)) in (0i64..).zip(cases) {
        let accepted = append(&store, timestamp, line).unwrap();
        assert_eq!((accepted.stored, accepted.truncated), (1, truncated));
        let range = TimeRange::inclusive(timestamp, timestamp);
        assert_eq!(scan(&store, Rows::new(vec![], range)).unwrap(), [expected]);
    }
}

#[test]
fn a_failed_sync_poisons_writes_and_leaves_reads() {
    let bench = Bench::new(Config::default());
    let store = bench.open().unwrap();
    append(&store, 1, b"before").unwrap();
    bench.disk.cut_after(bench.disk.operations());
    assert_eq!(append(&store, 2, b"lost").unwrap_err().kind(), Kind::Io);
    assert_eq!(
        append(&store, 3, b"later").unwrap_err().kind(),
        Kind::Poisoned
    );
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Poisoned);
    assert_eq!(all(&store).unwrap()[0], b"before");
    store.maintain().ok();
    drop(store);
    let found = bench.disk.crash(trine_storage::sim::Crash::Power, 1);
    let store = Bench {
        disk: found,
        ..bench
    }
    .open()
    .unwrap();
    assert_eq!(all(&store).unwrap(), [b"before"]);
    append(&store, 3, b"later").unwrap();
}

#[test]
fn memory_that_could_not_be_sealed_stays_readable_and_is_sealed_next_time() {
    let bench = Bench::new(Config {
        future_max: None,
        ..Config::default()
    });
    let store = bench.open().unwrap();
    append(&store, 5, b"first").unwrap();
    bench.disk.fill_after(0);
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Io);
    assert_eq!(all(&store).unwrap(), [b"first"]);
    bench.disk.fill_after(u64::MAX);
    append(&store, 5, b"second").unwrap();
    assert_eq!(
        all(&store).unwrap(),
        [&b"first"[..], b"second"],
        "in the order of appending"
    );
    assert!(
        bench
            .disk
            .files()
            .iter()
            .all(|path| path.extension().is_none_or(|e| e != "tmp"))
    );
    store.flush().unwrap();
    assert_eq!(all(&store).unwrap(), [&b"first"[..], b"second"]);
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.buffer_rows), (2, 0));
    drop(store);
    assert_eq!(
        all(&bench.open().unwrap()).unwrap(),
        [&b"first"[..], b"second"]
    );
}

#[test]
fn a_closed_store_refuses_changes_and_gives_up_its_lock_with_the_last_handle() {
    let bench = Bench::new(Config::default());
    let store = bench.open().unwrap();
    append(&store, 1, b"x").unwrap();
    assert_eq!(bench.open().unwrap_err().kind(), Kind::Locked);
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(append(&store, 2, b"y").unwrap_err().kind(), Kind::Closed);
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Closed);
    assert_eq!(all(&store).unwrap(), [b"x"]);
    drop(store);
    assert_eq!(all(&bench.open().unwrap()).unwrap(), [b"x"]);
}

#[test]
fn appends_seals_and_scans_at_the_same_time_lose_and_double_nothing() {
    const WRITERS: u64 = 3;
    const BATCHES: u64 = 40;
    const ROWS: u64 = 5;
    let store = Bench::new(Config::default()).open().unwrap();
    let acknowledged = AtomicU64::new(0);
    let write = |writer: u64| {
        let stream = app(&writer.to_string());
        for batch in 0..BATCHES {
            let mut appender = store.appender();
            for row in 0..ROWS {
                let line = format!("{writer} {batch} {row}");
                appender.append(&stream, 7, line.as_bytes(), &Labels::empty());
            }
            appender
                .commit(Durability::Buffered)
                .unwrap()
                .wait()
                .unwrap();
            acknowledged.fetch_add(ROWS, Ordering::SeqCst);
            if batch % 4 == writer {
                store.flush().unwrap();
            }
        }
    };
    let check = || {
        let before = acknowledged.load(Ordering::SeqCst);
        let mut lines = all(&store).unwrap();
        let found = lines.len() as u64;
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len() as u64, found, "a line was found twice");
        assert!(found >= before, "{before} were acknowledged, {found} found");
        assert_eq!(found % ROWS, 0, "a batch shows as one");
    };
    std::thread::scope(|scope| {
        let write = &write;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write(writer)))
            .collect();
        while !writers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            check();
        }
    });
    check();
    let stats = store.stats();
    assert_eq!(
        stats.buffer_rows + stats.block_rows,
        WRITERS * BATCHES * ROWS
    );
    assert!(stats.blocks > 0);
}
