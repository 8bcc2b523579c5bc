//! Appends, seals, cuts, deletes and reads at the same time: a read sees everything that was
//! acknowledged before it began, once.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Matcher, TimeRange};
use trine_tsdb::{Durability, Hints, Tsdb, Value, Values};

use crate::store::{NOW_MS, labels, open};

const WRITERS: usize = 3;
const ROUNDS: i64 = 400;
const STEP_MS: i64 = 60_000;

/// Timestamps from long ago to now, so that some windows are closed and some are not.
fn timestamp(round: i64) -> i64 {
    NOW_MS - (ROUNDS - round) * STEP_MS
}

fn write(db: &Tsdb, writer: usize, acknowledged: &AtomicI64) {
    let own = labels(&format!("n=own,writer={writer}"));
    let shared = labels("n=shared");
    for round in 0..ROUNDS {
        let mut appender = db.appender();
        let value = Value::Float(round as f64);
        appender.append(&own, timestamp(round), value.clone());
        // All writers send the same sample of one series, as replicas do.
        appender.append(&shared, timestamp(round), value.clone());
        // And one that begins now and never comes again.
        let brief = labels(&format!("n=brief,writer={writer},round={round}"));
        appender.append(&brief, timestamp(round), value);
        let told = appender
            .commit(Durability::Buffered)
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(told.stored, 3, "{told:?}");
        acknowledged.store(round + 1, Ordering::SeqCst);
    }
}

/// The series that `matchers` select hold the first so many rounds, each once, in order.
fn check(db: &Tsdb, matchers: &[Matcher], least: i64) {
    let set = db
        .snapshot()
        .select(matchers, TimeRange::ALL, &Hints::default())
        .unwrap();
    let mut rounds = 0;
    for series in set {
        let series = series.unwrap();
        let Values::Floats(values) = series.samples.values else {
            panic!("no floats")
        };
        rounds = values.len() as i64;
        for (round, (time, value)) in (0..).zip(series.samples.timestamps.iter().zip(&values)) {
            assert_eq!(
                (*time, *value),
                (timestamp(round), round as f64),
                "{}",
                series.labels
            );
        }
    }
    assert!(
        rounds >= least,
        "{matchers:?}: {rounds} of {least} acknowledged"
    );
}

#[test]
fn reads_see_what_was_acknowledged_whatever_goes_on() {
    let fs = SimFs::new();
    let db = open(&fs);
    let acknowledged: Vec<AtomicI64> = (0..WRITERS).map(|_| AtomicI64::new(0)).collect();
    let writing = AtomicUsize::new(WRITERS);
    let goes_on = || writing.load(Ordering::SeqCst) > 0;
    std::thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (db, writing) = (&db, &writing);
            scope.spawn(move || {
                write(db, writer, acknowledged);
                writing.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            while goes_on() {
                db.flush().unwrap();
            }
        });
        scope.spawn(|| {
            while goes_on() {
                db.compact().unwrap();
                db.delete(&[Matcher::equal("n", "nobody")], TimeRange::ALL)
                    .unwrap();
            }
        });
        scope.spawn(|| {
            while goes_on() {
                for (writer, acknowledged) in acknowledged.iter().enumerate() {
                    let least = acknowledged.load(Ordering::SeqCst);
                    let own = Matcher::equal("writer", writer.to_string());
                    check(&db, &[Matcher::equal("n", "own"), own], least);
                }
                let most = acknowledged.iter().map(|a| a.load(Ordering::SeqCst)).max();
                check(&db, &[Matcher::equal("n", "shared")], most.unwrap());
            }
        });
    });
    let everything = |db: &Tsdb| {
        check(db, &[Matcher::equal("n", "shared")], ROUNDS);
        let set = db.snapshot().select(
            &[Matcher::equal("n", "brief")],
            TimeRange::ALL,
            &Hints::default(),
        );
        assert_eq!(set.unwrap().count(), WRITERS * ROUNDS as usize);
    };
    everything(&db);
    db.compact().unwrap();
    everything(&db);
    assert!(db.verify().errors.is_empty());
    everything(&open(&fs.crash(Crash::Process, 0)));
}
