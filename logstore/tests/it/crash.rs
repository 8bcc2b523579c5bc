//! Crashes at every operation: what was acknowledged is there, once.

use trine_logstore::{Config, Durability, LineFilter, LogStore};
use trine_storage::sim::{Crash, SimFs, Subject, check_every_cut, script};
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::store::{self, Entry};

/// Rows in three streams, spread over several blocks.
#[derive(Debug)]
struct Logs;

fn entry(row: u64) -> Entry {
    let metadata = if row.is_multiple_of(2) {
        Labels::empty()
    } else {
        store::labels(&[("trace_id", &format!("{row:032x}"))])
    };
    Entry {
        stream: store::labels(&[("app", ["a", "b", "c"][(row % 3) as usize])]),
        timestamp: (row % 7).cast_signed() * 1_000 - 3_000,
        line: format!("row {row}").into_bytes(),
        metadata,
    }
}

impl Subject for Logs {
    type Store = LogStore;

    fn open(&self, fs: &SimFs) -> Result<LogStore> {
        let block_range = std::time::Duration::from_nanos(2_000);
        let mut config = Config {
            block_range,
            ..Config::default()
        };
        // Small segments, so that crashes fall between them too.
        config.wal.segment_bytes = 512;
        store::open(fs, config)
    }

    fn append(&self, store: &LogStore, rows: &[u64], durability: Durability) -> Result<()> {
        let entries: Vec<Entry> = rows.iter().map(|&row| entry(row)).collect();
        let stored = store::append(store, &entries, durability)?;
        assert_eq!(stored, rows.len() as u64);
        Ok(())
    }

    fn flush(&self, store: &LogStore) -> Result<()> {
        store.flush()
    }

    fn rows(&self, store: &LogStore) -> Result<Vec<u64>> {
        let found = store::rows(store, store::everything())?;
        Ok(found
            .iter()
            .map(|found| {
                let text = String::from_utf8(found.line.clone()).unwrap();
                let row = text.strip_prefix("row ").unwrap().parse().unwrap();
                assert_eq!(*found, entry(row), "an entry comes back unchanged");
                row
            })
            .collect())
    }
}

/// As [`Logs`], but everything that was sealed is merged, and something is deleted each time.
#[derive(Debug)]
struct Compacted;

impl Subject for Compacted {
    type Store = LogStore;

    fn open(&self, fs: &SimFs) -> Result<LogStore> {
        Logs.open(fs)
    }

    fn append(&self, store: &LogStore, rows: &[u64], durability: Durability) -> Result<()> {
        Logs.append(store, rows, durability)
    }

    fn flush(&self, store: &LogStore) -> Result<()> {
        // Nothing that is appended, so that every row is still to be there.
        let nothing = [LineFilter::Contains("no such line".into())];
        store.delete(&[Matcher::equal("app", "a")], &nothing, TimeRange::ALL)?;
        store.compact()
    }

    fn rows(&self, store: &LogStore) -> Result<Vec<u64>> {
        Logs.rows(store)
    }
}

#[test]
fn every_cut_of_a_compaction_and_of_a_delete_keeps_every_promise() {
    let mut cuts = 0;
    for seed in 1..=2 {
        cuts += check_every_cut(&Compacted, &script(seed, 12), seed);
    }
    assert!(cuts > 150, "only {cuts} cuts");
}

#[test]
fn what_was_acknowledged_survives_every_crash_once() {
    let mut cuts = 0;
    for seed in 1..=6 {
        cuts += check_every_cut(&Logs, &script(seed, 12), seed);
    }
    assert!(cuts > 100, "only {cuts} cuts");
}

#[test]
fn a_crash_between_catalog_and_truncation_doubles_nothing() {
    let run = |disk: &SimFs| {
        let Ok(store) = Logs.open(disk) else { return };
        if Logs
            .append(&store, &[0, 1, 2, 3], Durability::Synced)
            .is_ok()
        {
            Logs.flush(&store).ok();
        }
    };
    let whole = SimFs::new();
    run(&whole);
    let count = |disk: &SimFs, extension: &str| {
        let is = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == extension);
        disk.files().iter().filter(|path| is(path)).count()
    };
    let mut between = 0;
    for cut in 0..=whole.operations() {
        let disk = SimFs::new();
        disk.cut_after(cut);
        run(&disk);
        let found = disk.crash(Crash::Process, cut);
        let has_log = count(&found, "wal") > 0;
        let store = Logs.open(&found).unwrap();
        // The blocks that survive the sweep are those that the catalog names.
        if has_log && store.stats().blocks > 0 {
            between += 1;
            let mut rows = Logs.rows(&store).unwrap();
            rows.sort_unstable();
            assert_eq!(rows, [0, 1, 2, 3], "cut {cut}");
            assert_eq!(
                store.stats().buffer_rows,
                0,
                "cut {cut}: nothing is replayed"
            );
            assert_eq!(
                count(&found, "wal"),
                0,
                "cut {cut}: opening finishes the truncation"
            );
        }
    }
    assert!(between > 0, "no cut fell between catalog and truncation");
}
