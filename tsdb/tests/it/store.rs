//! What goes in comes out: from memory, from blocks, after a restart.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::clock::ManualClock;
use trine_storage::shared::{self, Shared};
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Kind, Labels, MatchOp, Matcher, TimeRange};
use trine_tsdb::{
    Accepted, Config, Durability, Hints, Progress, Reason, Series, Tsdb, Value, Values,
};

/// 2026-01-01 in milliseconds.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW_MS * 1_000_000))
}

pub(crate) fn open_with(fs: &SimFs, config: Config, clock: Arc<ManualClock>) -> Tsdb {
    Tsdb::builder(Path::new("store"))
        .config(config)
        .fs(Arc::new(fs.clone()))
        .clock(clock)
        .shared(Shared::without_workers())
        .open()
        .unwrap()
}

pub(crate) fn open(fs: &SimFs) -> Tsdb {
    open_with(fs, Config::default(), clock())
}

pub(crate) fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split(',').filter_map(|pair| pair.split_once('='))).unwrap()
}

pub(crate) fn put(db: &Tsdb, rows: &[(&str, i64, f64)]) -> Accepted {
    let mut appender = db.appender();
    for (series, timestamp, value) in rows {
        appender.append(&labels(series), *timestamp, Value::Float(*value));
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap()
}

/// Everything that matches, as text: `series timestamp=value ...` a line.
pub(crate) fn dump(db: &Tsdb, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
    let line = |series: &Series| {
        let Values::Floats(values) = &series.samples.values else {
            panic!("no floats")
        };
        let samples = series.samples.timestamps.iter().zip(values);
        let samples: Vec<String> = samples.map(|(t, v)| format!("{t}={v}")).collect();
        format!("{} {}", series.labels, samples.join(" "))
    };
    let snapshot = db.snapshot();
    let set = snapshot.select(matchers, range, &Hints::default());
    let lines: Vec<String> = set.unwrap().map(|series| line(&series.unwrap())).collect();
    // Batches give the same in another order.
    for series_max in [1, 2, 100] {
        let mut batched = Vec::new();
        let mut batches = snapshot.select_batches(matchers, range).unwrap();
        while let Some(batch) = batches.next_batch(series_max).unwrap() {
            let read = batch.read(|series| {
                batched.push(line(series));
                ControlFlow::Continue(())
            });
            read.unwrap();
        }
        batched.sort();
        let mut sorted = lines.clone();
        sorted.sort();
        assert_eq!(batched, sorted, "in batches of {series_max}");
    }
    lines
}

#[test]
fn memory_blocks_and_restart_give_the_same_answer() {
    let fs = SimFs::new();
    let mut db = open(&fs);
    put(
        &db,
        &[("n=b", 20, 2.0), ("n=a,x=1", 10, 1.0), ("n=b", 10, 1.5)],
    );
    let expected = ["{n=\"a\", x=\"1\"} 10=1", "{n=\"b\"} 10=1.5 20=2"];
    assert_eq!(dump(&db, &[], TimeRange::ALL), expected);
    drop(db);
    db = open(&fs);
    assert_eq!(dump(&db, &[], TimeRange::ALL), expected, "replayed");
    db.flush().unwrap();
    assert_eq!(dump(&db, &[], TimeRange::ALL), expected, "sealed");
    assert_eq!((db.stats().head_samples, db.stats().block_samples), (0, 3));
    assert_eq!(db.stats().wal.bytes, 0);
    drop(db);
    db = open(&fs);
    assert_eq!(dump(&db, &[], TimeRange::ALL), expected, "reopened");
    put(&db, &[("n=b", 30, 3.0)]);
    assert_eq!(
        dump(&db, &[], TimeRange::ALL)[1],
        "{n=\"b\"} 10=1.5 20=2 30=3"
    );
}

#[test]
fn ranges_and_matchers_choose() {
    let fs = SimFs::new();
    let db = open(&fs);
    let all = [("n=a", 10, 1.0), ("n=a", 20, 2.0), ("n=b,job=x", 15, 3.0)];
    let is = |op, name: &str, value: &str| vec![Matcher::new(op, name, value).unwrap()];
    for sealed in [false, true] {
        if sealed {
            db.flush().unwrap();
        } else {
            put(&db, &all);
        }
        for (matchers, range, expected) in [
            (
                vec![],
                TimeRange::new(10, 20),
                "{n=\"a\"} 10=1|{job=\"x\", n=\"b\"} 15=3",
            ),
            (vec![], TimeRange::new(16, 21), "{n=\"a\"} 20=2"),
            (vec![], TimeRange::new(21, 99), ""),
            (
                is(MatchOp::Equal, "job", ""),
                TimeRange::ALL,
                "{n=\"a\"} 10=1 20=2",
            ),
            (
                is(MatchOp::Match, "n", "b|c"),
                TimeRange::ALL,
                "{job=\"x\", n=\"b\"} 15=3",
            ),
            (
                is(MatchOp::NotEqual, "n", "a"),
                TimeRange::ALL,
                "{job=\"x\", n=\"b\"} 15=3",
            ),
            (
                is(MatchOp::NotMatch, "job", ".+"),
                TimeRange::ALL,
                "{n=\"a\"} 10=1 20=2",
            ),
        ] {
            let mut expected: Vec<&str> = expected.split('|').filter(|e| !e.is_empty()).collect();
            expected.sort_unstable_by_key(|line| labels_of(line));
            assert_eq!(
                dump(&db, &matchers, range),
                expected,
                "{matchers:?} {range:?} {sealed}"
            );
        }
        let snapshot = db.snapshot();
        assert_eq!(
            snapshot.label_names(&[], TimeRange::ALL, None).unwrap(),
            ["job", "n"]
        );
        let values = |matchers: &[Matcher], limit| {
            snapshot
                .label_values("n", matchers, TimeRange::ALL, limit)
                .unwrap()
        };
        assert_eq!(values(&[], None), ["a", "b"]);
        assert_eq!(values(&[], Some(1)), ["a"]);
        assert_eq!(values(&is(MatchOp::Equal, "job", "x"), None), ["b"]);
        assert!(
            snapshot
                .label_values("n", &[], TimeRange::new(500, 600), None)
                .unwrap()
                .len()
                < 3
        );
        assert_eq!(
            snapshot.series(&[], TimeRange::ALL, Some(1)).unwrap(),
            [labels("job=x,n=b")]
        );
    }
}

fn labels_of(line: &str) -> Labels {
    let inner = line.split_once('}').unwrap().0.trim_start_matches('{');
    labels(&inner.replace('"', "").replace(", ", ","))
}

#[test]
fn samples_may_come_in_any_order() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 30, 3.0), ("n=a", 10, 1.0)]);
    db.flush().unwrap();
    put(&db, &[("n=a", 20, 2.0), ("n=a", 5, 0.5)]);
    assert_eq!(
        dump(&db, &[], TimeRange::ALL),
        ["{n=\"a\"} 5=0.5 10=1 20=2 30=3"]
    );
}

#[test]
fn bits_are_kept() {
    let fs = SimFs::new();
    let db = open(&fs);
    let bits = [
        0x7ff0_0000_0000_0002,
        0x7ff8_0000_0000_0001,
        1 << 63,
        0,
        u64::MAX,
        1,
    ];
    let mut appender = db.appender();
    for (timestamp, bits) in (0..).zip(bits) {
        appender.append(
            &labels("n=a"),
            timestamp,
            Value::Float(f64::from_bits(bits)),
        );
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    let read = |db: &Tsdb| -> Vec<u64> {
        let mut set = db
            .snapshot()
            .select(&[], TimeRange::ALL, &Hints::default())
            .unwrap();
        let Values::Floats(values) = set.next().unwrap().unwrap().samples.values else {
            panic!("no floats")
        };
        values.iter().map(|v| v.to_bits()).collect()
    };
    assert_eq!(read(&db), bits);
    db.flush().unwrap();
    assert_eq!(read(&db), bits);
}

#[test]
fn duplicates_are_judged_against_memory_and_later_blocks_win() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 10, 1.0)]);
    let again = put(&db, &[("n=a", 10, 1.0), ("n=a", 10, 2.0), ("n=a", 11, 3.0)]);
    assert_eq!((again.stored, again.rejected.len()), (2, 1));
    let rejected = &again.rejected[0];
    assert_eq!(
        (rejected.reason, rejected.count),
        (Reason::DuplicateTimestamp, 1)
    );
    assert_eq!(
        rejected.reason.to_string(),
        "duplicate sample for timestamp"
    );
    assert_eq!(rejected.example, "series={n=\"a\"} timestamp=10");
    db.flush().unwrap();
    put(&db, &[("n=a", 10, 5.0)]);
    assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 10=5 11=3"]);
    db.flush().unwrap();
    assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 10=5 11=3"]);
}

#[test]
fn opening_tells_how_far_it_is() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 1, 1.0)]);
    db.flush().unwrap();
    put(&db, &[("n=a", 2, 2.0)]);
    let bytes = db.stats().wal.bytes;
    drop(db);
    let mut told = Vec::new();
    let builder = Tsdb::builder("store").fs(Arc::new(fs)).clock(clock());
    let builder = builder.shared(Shared::without_workers());
    builder.open_with_progress(|p| told.push(p)).unwrap();
    let parts = Progress::Parts { done: 1, total: 1 };
    let log = |done| Progress::Log { done, total: bytes };
    assert_eq!(told, [parts, log(bytes)]);
    assert_eq!(told[0].to_string(), "1 of 1 parts read");
}

#[test]
fn a_snapshot_outlives_a_seal() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 10, 1.0)]);
    let before = db.snapshot();
    db.flush().unwrap();
    let set = before
        .select(&[], TimeRange::ALL, &Hints::default())
        .unwrap();
    assert_eq!(set.count(), 1);
}

#[test]
fn a_second_process_is_refused_and_a_closed_store_says_so() {
    let fs = SimFs::new();
    let db = open(&fs);
    let builder = Tsdb::builder(Path::new("store")).fs(Arc::new(fs.clone()));
    let second = builder
        .shared(Shared::without_workers())
        .open()
        .unwrap_err();
    assert_eq!(second.kind(), Kind::Locked);
    put(&db, &[("n=a", 10, 1.0)]);
    db.close().unwrap();
    db.close().unwrap();
    let mut appender = db.appender();
    appender.append(&labels("n=a"), 11, Value::Float(1.0));
    assert_eq!(
        appender.commit(Durability::Synced).unwrap_err().kind(),
        Kind::Closed
    );
    assert_eq!(dump(&db, &[], TimeRange::ALL).len(), 1, "reads go on");
}

#[test]
fn retention_drops_blocks_and_refuses_what_is_older() {
    let fs = SimFs::new();
    let clock = clock();
    let hour = 3_600_000;
    let config = Config {
        retention: Some(Duration::from_secs(24 * 3600)),
        ..Config::default()
    };
    let db = open_with(&fs, config, Arc::clone(&clock));
    let told = put(
        &db,
        &[
            ("n=a", NOW_MS - 25 * hour, 1.0),
            ("n=a", NOW_MS - 23 * hour, 2.0),
        ],
    );
    assert_eq!((told.stored, told.rejected[0].reason), (1, Reason::TooOld));
    db.flush().unwrap();
    assert_eq!(db.stats().blocks, 1);
    clock.advance(Duration::from_secs(5 * 3600));
    db.maintain().unwrap();
    assert_eq!((db.stats().blocks, db.stats().head_series), (0, 0));
    assert!(
        !fs.files()
            .iter()
            .any(|path| path.starts_with("store/blocks"))
    );
}

#[test]
fn verify_finds_every_flipped_byte_of_a_block() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(
        &db,
        &[("n=a", 10, 1.0), ("n=a", 20, 2.5), ("n=b,job=x", 15, 3.0)],
    );
    db.flush().unwrap();
    drop(db);
    let path = fs
        .files()
        .into_iter()
        .find(|p| p.starts_with("store/blocks"))
        .unwrap();
    let len = trine_storage::fs::Fs::open(&fs, &path).unwrap().len();
    for offset in 0..usize::try_from(len).unwrap() {
        let damaged = fs.crash(Crash::Process, 0);
        damaged.corrupt(&path, offset, 1 << (offset % 8));
        let db = open(&damaged);
        let report = db.verify();
        assert_eq!(report.errors.len(), 1, "byte {offset} of {len}");
        // Reading it is an error or, where the block is quarantined, an empty answer.
        if let Ok(set) = db.snapshot().select(&[], TimeRange::ALL, &Hints::default()) {
            set.for_each(drop);
        }
    }
    let report = open(&fs).verify();
    assert_eq!(
        (report.blocks, report.samples, report.errors.len()),
        (1, 3, 0)
    );
}

#[test]
fn workers_seal_what_is_old_without_being_asked() {
    let fs = SimFs::new();
    let config = shared::Config {
        interval: Duration::from_millis(1),
        ..Default::default()
    };
    let db = Tsdb::builder(Path::new("store"))
        .config(Config {
            seal_age: Duration::ZERO,
            ..Config::default()
        })
        .fs(Arc::new(fs.clone()))
        .clock(clock())
        .shared(Shared::new(&config))
        .open()
        .unwrap();
    put(&db, &[("n=a", 10, 1.0)]);
    let mut rounds = 0;
    while db.stats().blocks == 0 {
        rounds += 1;
        assert!(rounds < 10_000, "nobody sealed: {:?}", db.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}
