//! Every limit at its edge, and what happens when the disk or the memory ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::labels::LabelsBuffer;
use trine_storage::shared::{self, Shared};
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Kind, Labels, TimeRange};
use trine_tsdb::{Config, Durability, LABELS_BYTES_MAX, Reason, Tsdb, Value};

use crate::store::{NOW_MS, clock, dump, labels, open, open_with, put};

#[test]
fn timestamps_may_lie_ten_minutes_ahead_and_no_further() {
    let fs = SimFs::new();
    let db = open(&fs);
    let edge = NOW_MS + 600_000;
    let told = put(
        &db,
        &[
            ("n=a", edge, 1.0),
            ("n=a", edge + 1, 1.0),
            ("n=b", i64::MAX, 1.0),
        ],
    );
    assert_eq!((told.stored, told.rejected[0].count), (1, 2));
    assert_eq!(told.rejected[0].reason, Reason::TooFarInFuture);
    // A series of which nothing was stored does not exist.
    assert_eq!(db.stats().head_series, 1);
    // What was refused does not come back with the log.
    drop(db);
    assert_eq!(open(&fs).stats().head_samples, 1);
}

#[test]
fn any_timestamp_is_taken_without_bounds() {
    let fs = SimFs::new();
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let db = open_with(&fs, config, clock());
    put(
        &db,
        &[
            ("n=a", i64::MIN, 1.0),
            ("n=a", 0, 2.0),
            ("n=a", i64::MAX - 1, 3.0),
        ],
    );
    let expected = [format!("{{n=\"a\"}} {}=1 0=2 {}=3", i64::MIN, i64::MAX - 1)];
    assert_eq!(dump(&db, &[], TimeRange::ALL), expected);
    db.flush().unwrap();
    assert_eq!(dump(&db, &[], TimeRange::ALL), expected);
}

#[test]
fn a_seal_makes_no_more_blocks_than_the_limit() {
    let fs = SimFs::new();
    let config = Config {
        block_range: Duration::from_secs(1),
        block_ranges_max: 4,
        ..Config::default()
    };
    let db = open_with(&fs, config, clock());
    let rows: Vec<(&str, i64, f64)> = (0..100).map(|i| ("n=a", i * 1_000, 1.0)).collect();
    put(&db, &rows);
    db.flush().unwrap();
    assert!(db.stats().blocks <= 4, "{}", db.stats().blocks);
    assert_eq!(db.stats().block_samples, 100);
}

#[test]
fn memory_over_the_budget_is_refused_and_nothing_is_stored() {
    let fs = SimFs::new();
    let config = shared::Config {
        workers: 0,
        memory_bytes_max: 1_000,
        ..Default::default()
    };
    let db = Tsdb::builder(Path::new("store"))
        .fs(Arc::new(fs.clone()))
        .clock(clock())
        .shared(Shared::new(&config))
        .open()
        .unwrap();
    let append = |timestamp: i64| {
        let mut appender = db.appender();
        appender.append(&labels("n=a"), timestamp, Value::Float(1.0));
        appender
            .commit(Durability::Synced)
            .map(|commit| commit.wait().unwrap())
    };
    let mut stored = 0;
    let error = loop {
        match append(stored) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(
        stored > 0 && error.kind() == Kind::Limit,
        "{stored} {error}"
    );
    assert!(
        error.to_string().contains("memory budget of 1000 bytes"),
        "{error}"
    );
    assert_eq!(db.stats().head_samples, stored.cast_unsigned());
    db.flush().unwrap();
    append(stored).unwrap();
}

#[test]
fn a_failed_write_poisons_writes_and_reads_go_on() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 10, 1.0)]);
    fs.cut_after(fs.operations());
    let mut appender = db.appender();
    appender.append(&labels("n=a"), 11, Value::Float(1.0));
    let error = appender
        .commit(Durability::Synced)
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    let mut appender = db.appender();
    appender.append(&labels("n=a"), 12, Value::Float(1.0));
    assert_eq!(
        appender.commit(Durability::Synced).unwrap_err().kind(),
        Kind::Poisoned
    );
    assert_eq!(db.flush().unwrap_err().kind(), Kind::Poisoned);
    assert!(dump(&db, &[], TimeRange::ALL)[0].starts_with("{n=\"a\"} 10=1"));
    let db = open(&fs.crash(Crash::Power, 0));
    assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 10=1"]);
}

#[test]
fn a_seal_that_fails_is_tried_again_and_loses_nothing() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 10, 1.0)]);
    fs.fill_after(0);
    assert_eq!(db.flush().unwrap_err().kind(), Kind::Io);
    assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 10=1"]);
    fs.fill_after(u64::MAX);
    put(&db, &[("n=a", 20, 2.0)]);
    db.flush().unwrap();
    assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 10=1 20=2"]);
    assert_eq!(db.stats().head_samples, 0);
}

#[test]
fn labels_have_a_limit_and_must_be_text() {
    let fs = SimFs::new();
    let db = open(&fs);
    // A name of one byte, its length, and the value's, which takes four.
    let edge = LABELS_BYTES_MAX - 6;
    let long = |bytes: usize| Labels::from_pairs([("n", "x".repeat(bytes))]).unwrap();
    assert_eq!(long(edge).encoded().len(), LABELS_BYTES_MAX);
    let mut appender = db.appender();
    appender.append(&long(edge), 1, Value::Float(1.0));
    appender.append(&long(edge + 1), 1, Value::Float(1.0));
    let mut buffer = LabelsBuffer::default();
    assert!(buffer.push(b"n", &[0xff, 0xfe]));
    appender
        .series(&buffer)
        .append_floats(&[(1, 1.0), (2, 2.0)]);
    let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
    let refused: Vec<(Reason, u64)> = told.rejected.iter().map(|r| (r.reason, r.count)).collect();
    assert_eq!(told.stored, 1);
    assert_eq!(
        refused,
        [(Reason::LabelsTooLong, 1), (Reason::InvalidLabels, 2)]
    );
    drop(db);
    assert_eq!(open(&fs).stats().head_series, 1);
}

#[test]
fn the_log_stays_below_its_limit() {
    let fs = SimFs::new();
    let mut config = Config {
        wal_bytes_max: 4_000,
        ..Config::default()
    };
    config.wal.segment_bytes = 500;
    let db = open_with(&fs, config, clock());
    for i in 0..2_000 {
        put(&db, &[("n=a", i, 1.0 / i as f64), ("n=b", i, i as f64)]);
        assert!(
            db.stats().wal.bytes < 5_000,
            "{} bytes",
            db.stats().wal.bytes
        );
    }
    assert_eq!(dump(&db, &[], TimeRange::ALL)[0].split(' ').count(), 2_001);
}

#[test]
fn memory_and_log_hold_no_more_samples_than_the_limit() {
    let fs = SimFs::new();
    let config = Config {
        head_samples_max: 100,
        ..Config::default()
    };
    let db = open_with(&fs, config, clock());
    for i in 0..50 {
        put(&db, &[("n=a", i, 1.0), ("n=b", i, 1.0)]);
        assert_eq!(db.stats().head_samples, 2 * (i as u64 + 1));
    }
    // A worker seals when half of it is reached; an append seals first when there is no more.
    put(&db, &[("n=a", 50, 1.0)]);
    assert_eq!((db.stats().head_samples, db.stats().parts), (1, 1));
    for i in 51..99 {
        put(&db, &[("n=a", i, 1.0)]);
    }
    db.maintain().unwrap();
    assert_eq!((db.stats().head_samples, db.stats().parts), (49, 1));
    put(&db, &[("n=a", 99, 1.0)]);
    db.maintain().unwrap();
    assert_eq!((db.stats().head_samples, db.stats().parts), (0, 2));
}
