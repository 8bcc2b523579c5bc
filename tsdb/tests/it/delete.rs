//! Deletes, backups, references: what is more than append and read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Kind, MatchOp, Matcher, TimeRange};
use trine_tsdb::{Config, Durability, Reason, Tsdb, Value};

use crate::store::{NOW_MS, clock, dump, labels, open, open_with, put};

fn is(op: MatchOp, value: &str) -> [Matcher; 1] {
    [Matcher::new(op, "n", value).unwrap()]
}

/// Where samples are when something is deleted.
const PLACES: [fn(&Tsdb); 3] = [|_| {}, |db| db.flush().unwrap(), |db| db.compact().unwrap()];

#[test]
fn deleted_samples_are_gone_at_once_and_stay_gone() {
    for place in PLACES {
        for recent in [0, NOW_MS] {
            let fs = SimFs::new();
            let db = open(&fs);
            let rows = [
                ("n=a", 1, 1.0),
                ("n=a", 2, 2.0),
                ("n=a", 3, 3.0),
                ("n=b", 2, 9.0),
            ];
            put(&db, &rows.map(|(series, t, v)| (series, recent + t, v)));
            place(&db);
            let range = TimeRange::new(recent + 2, recent + 3);
            db.delete(&is(MatchOp::Match, "a|c"), range).unwrap();
            let left = [
                format!("{{n=\"a\"}} {}=1 {}=3", recent + 1, recent + 3),
                format!("{{n=\"b\"}} {}=9", recent + 2),
            ];
            assert_eq!(dump(&db, &[], TimeRange::ALL), left);
            let db = open(&fs.crash(Crash::Power, 7));
            assert_eq!(dump(&db, &[], TimeRange::ALL), left, "after a crash");
            db.compact().unwrap();
            assert_eq!(dump(&db, &[], TimeRange::ALL), left, "compacted");
            assert_eq!(db.stats().block_samples, 3);
            assert_eq!(db.stats().deletes, 0, "nothing is left to delete");
        }
    }
}

#[test]
fn what_is_appended_after_a_delete_stays() {
    for place in PLACES {
        let fs = SimFs::new();
        let db = open(&fs);
        put(&db, &[("n=a", 1, 1.0)]);
        db.delete(&[], TimeRange::ALL).unwrap();
        put(&db, &[("n=a", 1, 2.0)]);
        place(&db);
        assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 1=2"]);
        db.delete(&is(MatchOp::NotEqual, "a"), TimeRange::ALL)
            .unwrap();
        db.compact().unwrap();
        assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 1=2"]);
    }
}

#[test]
fn deleted_samples_leave_the_files_in_time() {
    let fs = SimFs::new();
    let clock = clock();
    let db = open_with(&fs, Config::default(), Arc::clone(&clock));
    put(&db, &[("n=a", 1, 1.0), ("n=b", 1, 1.0)]);
    db.compact().unwrap();
    db.delete(&is(MatchOp::Equal, "a"), TimeRange::ALL).unwrap();
    db.maintain().unwrap();
    assert_eq!((db.stats().block_samples, db.stats().deletes), (2, 1));
    clock.advance(Duration::from_secs(600));
    db.maintain().unwrap();
    assert_eq!((db.stats().block_samples, db.stats().deletes), (1, 0));
}

#[test]
fn a_backup_is_a_store_of_its_own() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 1, 1.0), ("n=b", 1, 1.0)]);
    db.compact().unwrap();
    put(&db, &[("n=a", NOW_MS, 2.0)]);
    db.delete(&is(MatchOp::Equal, "b"), TimeRange::ALL).unwrap();
    db.backup("copy").unwrap();
    let before = dump(&db, &[], TimeRange::ALL);
    assert_eq!(db.backup("copy").unwrap_err().kind(), Kind::Invalid);
    put(&db, &[("n=a", 5, 5.0)]);
    db.delete(&is(MatchOp::Equal, "a"), TimeRange::new(0, 2))
        .unwrap();
    db.compact().unwrap();
    let found = fs.crash(Crash::Power, 3);
    let copy = Tsdb::builder(Path::new("copy"))
        .fs(Arc::new(found))
        .clock(clock())
        .shared(Shared::without_workers())
        .open()
        .unwrap();
    assert_eq!(dump(&copy, &[], TimeRange::ALL), before);
    assert!(copy.verify().errors.is_empty());
    put(&copy, &[("n=a", NOW_MS + 1, 3.0)]);
    copy.compact().unwrap();
    assert!(dump(&copy, &[], TimeRange::ALL)[0].ends_with("=3"));
}

#[test]
fn references_name_series_until_they_leave_memory() {
    let fs = SimFs::new();
    let clock = clock();
    let db = open_with(&fs, Config::default(), Arc::clone(&clock));
    assert_eq!(db.reference(&labels("n=a")), None);
    put(&db, &[("n=a", 1, 1.0)]);
    let series = db.reference(&labels("n=a")).unwrap();
    let append = |timestamp| {
        let mut appender = db.appender();
        appender.append_reference(series, timestamp, Value::Float(2.0));
        appender.commit(Durability::Synced).unwrap().wait().unwrap()
    };
    assert_eq!(append(2).stored, 1);
    let told = append(NOW_MS + 7_200_000);
    let expected = format!("series={} timestamp={}", labels("n=a"), NOW_MS + 7_200_000);
    assert_eq!(told.rejected[0].example, expected);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(7200));
        db.maintain().unwrap();
    }
    assert_eq!(db.stats().head_series, 0);
    let told = append(3);
    assert_eq!(
        (told.stored, told.rejected[0].reason),
        (0, Reason::UnknownReference)
    );
    put(&db, &[("n=b", 1, 1.0), ("n=a", 4, 4.0)]);
    assert_eq!(append(3).stored, 0, "the place went to another series");
    assert_eq!(dump(&db, &[], TimeRange::ALL)[0], "{n=\"a\"} 1=1 2=2 4=4");
}

#[test]
fn labels_are_counted_over_memory_and_blocks() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(
        &db,
        &[
            ("n=a,x=1", 1, 1.0),
            ("n=a,x=2", 1, 1.0),
            ("n=b,x=1", 1, 1.0),
        ],
    );
    db.compact().unwrap();
    put(&db, &[("n=a,x=3", NOW_MS, 1.0)]);
    let all = db.snapshot().cardinality("n", 2).unwrap();
    assert_eq!((all.series, all.label_pairs), (4, 5));
    assert_eq!(
        all.series_by_name,
        [("a".to_owned(), 3), ("b".to_owned(), 1)]
    );
    assert_eq!(
        all.values_by_label,
        [("x".to_owned(), 3), ("n".to_owned(), 2)]
    );
    let head = db.snapshot().head_cardinality("n", 1);
    assert_eq!(head.series_by_name, [("a".to_owned(), 3)]);
}
