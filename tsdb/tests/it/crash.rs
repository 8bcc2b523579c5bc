//! The crash-conformance script, run against this engine.

use std::path::Path;
use std::sync::Arc;

use trine_storage::Result;
use trine_storage::TimeRange;
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, SimFs, Step, Subject, check_every_cut, script};
use trine_tsdb::{Config, Durability, Hints, Tsdb, Value, Values};

use crate::store::{clock, dump, labels, open, put};

/// Row `n` is the sample with the value `n` of one of three series, minutes apart, so that a seal
/// makes several blocks.
struct Rows;

impl Subject for Rows {
    type Store = Tsdb;

    fn open(&self, fs: &SimFs) -> Result<Tsdb> {
        let mut config = Config::default();
        config.wal.segment_bytes = 200;
        Tsdb::builder(Path::new("store"))
            .config(config)
            .fs(Arc::new(fs.clone()))
            .clock(clock())
            .shared(Shared::without_workers())
            .open()
    }

    fn append(&self, db: &Tsdb, rows: &[u64], durability: Durability) -> Result<()> {
        let mut appender = db.appender();
        for &row in rows {
            let series = labels(&format!("n=s{}", row % 3));
            let timestamp = i64::try_from(row).unwrap() * 600_000;
            appender.append(&series, timestamp, Value::Float(row as f64));
        }
        appender.commit(durability)?.wait().map(drop)
    }

    fn flush(&self, db: &Tsdb) -> Result<()> {
        db.flush()
    }

    fn rows(&self, db: &Tsdb) -> Result<Vec<u64>> {
        let mut rows = Vec::new();
        for series in db
            .snapshot()
            .select(&[], TimeRange::ALL, &Hints::default())?
        {
            let Values::Floats(values) = series?.samples.values else {
                panic!("no floats")
            };
            rows.extend(values.iter().map(|value| *value as u64));
        }
        Ok(rows)
    }
}

/// As [`Rows`], but everything that was sealed becomes blocks, and those are merged.
struct Compacted;

impl Subject for Compacted {
    type Store = Tsdb;

    fn open(&self, fs: &SimFs) -> Result<Tsdb> {
        Rows.open(fs)
    }

    fn append(&self, db: &Tsdb, rows: &[u64], durability: Durability) -> Result<()> {
        Rows.append(db, rows, durability)
    }

    fn flush(&self, db: &Tsdb) -> Result<()> {
        db.compact()
    }

    fn rows(&self, db: &Tsdb) -> Result<Vec<u64>> {
        Rows.rows(db)
    }
}

#[test]
fn every_cut_of_a_compaction_keeps_every_promise() {
    let mut cuts = 0;
    for seed in 0..12 {
        cuts += check_every_cut(&Compacted, &script(seed, 14), seed);
    }
    assert!(cuts > 400, "{cuts}");
}

#[test]
fn every_cut_keeps_every_promise() {
    let mut cuts = 0;
    for seed in 0..12 {
        cuts += check_every_cut(&Rows, &script(seed, 14), seed);
    }
    assert!(cuts > 200, "{cuts}");
}

/// A merge of equal samples would hide a replay that doubles them, so this counts in memory: after
/// a cut between the commit of the catalog and the truncation of the log, replay gives nothing.
#[test]
fn a_cut_between_catalog_and_truncation_doubles_nothing() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 10, 1.0), ("n=a", 20, 2.0)]);
    let segments = |fs: &SimFs| {
        fs.files()
            .iter()
            .filter(|p| p.starts_with("store/wal"))
            .count()
    };
    let catalog = |fs: &SimFs| crate::disk::read(fs, "store/catalog".as_ref());
    let mut cut_there = 0;
    let before = fs.operations();
    let sealed = fs.crash(Crash::Process, 0);
    open(&sealed).flush().unwrap();
    for cut in 0..sealed.operations() {
        let disk = fs.crash(Crash::Process, 0);
        let db = open(&disk);
        disk.cut_after(disk.operations() + cut);
        db.flush().ok();
        let found = disk.crash(Crash::Process, 0);
        let committed = catalog(&found) != catalog(&fs);
        if committed && segments(&found) > 0 {
            cut_there += 1;
            let db = open(&found);
            assert_eq!(
                db.stats().head_samples,
                0,
                "cut {cut}: replayed what is in a block"
            );
            assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 10=1 20=2"]);
        }
    }
    assert!(cut_there > 0 && before > 0);
}

#[test]
fn the_script_notices_a_store_that_forgets() {
    /// Acknowledges without waiting for the log.
    struct Forgetful;
    impl Subject for Forgetful {
        type Store = Tsdb;
        fn open(&self, fs: &SimFs) -> Result<Tsdb> {
            Rows.open(fs)
        }
        fn append(&self, db: &Tsdb, rows: &[u64], _: Durability) -> Result<()> {
            Rows.append(db, rows, Durability::Buffered)
        }
        fn flush(&self, db: &Tsdb) -> Result<()> {
            Rows.flush(db)
        }
        fn rows(&self, db: &Tsdb) -> Result<Vec<u64>> {
            Rows.rows(db)
        }
    }
    let workload = [Step::Append(vec![0, 1, 2], Durability::Synced)];
    let noticed = (0..20).any(|seed| {
        std::panic::catch_unwind(|| check_every_cut(&Forgetful, &workload, seed)).is_err()
    });
    assert!(noticed);
}
