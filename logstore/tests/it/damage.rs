//! Damaged files: what is damaged is told and never answered as if it were whole, the rest is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trine_logstore::{Config, Durability, LineFilter, LogStore, Rows};
use trine_storage::fs::Fs;
use trine_storage::sim::{Crash, Rng, SimFs};
use trine_storage::{Kind, Labels, Matcher, Result, TimeRange};

use crate::store::{self, Entry, NOW_NS};

const HOUR: i64 = 3_600_000_000_000;
/// Random flips that `verify` has to find.
const FLIPS: u64 = 1_000;

/// What damage may look like to a caller.
fn is_told(kind: Kind) -> bool {
    // A flipped version number is one of a program that is not there yet.
    matches!(kind, Kind::Corrupt | Kind::Unsupported)
}

fn try_open(fs: &SimFs) -> Result<LogStore> {
    let mut config = Config::default();
    // Several segments.
    config.wal.segment_bytes = 2_000;
    store::open(fs, config)
}

fn open(fs: &SimFs) -> LogStore {
    try_open(fs).unwrap()
}

fn len(fs: &SimFs, path: &Path) -> u64 {
    Fs::open(fs, path).unwrap().len()
}

/// The files of the store in a directory, sorted.
fn files(fs: &SimFs, dir: &str) -> Vec<PathBuf> {
    let mut files = fs.files();
    files.retain(|path| path.starts_with(dir));
    files
}

/// An entry with ids, numbers and metadata of every kind.
fn entry(number: i64, timestamp: i64) -> Entry {
    let id = Rng::new(number.cast_unsigned()).next_u64();
    let line = match number % 4 {
        0 => format!("GET /api/{number} 200 trace={id:016x} took {}ms", id % 977),
        1 => format!(
            r#"{{"level":"info","id":"{id:016X}{id:016x}","n":{}}}"#,
            id % 100_000_000
        ),
        2 => "a line that comes often".to_owned(),
        _ => format!(
            "{} \u{fc}\0",
            "word ".repeat(number.unsigned_abs() as usize % 7)
        ),
    };
    let metadata = match number % 3 {
        0 => Labels::empty(),
        1 => store::labels(&[("trace_id", &format!("{id:032x}")), ("level", "warn")]),
        _ => store::labels(&[("level", "info"), ("n", &(number % 5).to_string())]),
    };
    Entry {
        stream: store::labels(&[("app", &format!("s{}", number % 5)), ("env", "test")]),
        timestamp,
        line: line.into_bytes(),
        metadata,
    }
}

fn put(store: &LogStore, count: i64, start: i64) {
    let entries: Vec<Entry> = (0..count)
        .map(|n| entry(n, start + n * 1_000_003))
        .collect();
    for entries in entries.chunks(50) {
        store::append(store, entries, Durability::Synced).unwrap();
    }
}

fn rows(store: &LogStore, range: TimeRange) -> Result<Vec<Entry>> {
    store::rows(store, Rows::new(vec![], range))
}

/// A store with blocks of several levels, a delete, and a log, each of its own day. Gives the days:
/// those of blocks, then that of the log.
fn varied_store() -> (SimFs, Vec<TimeRange>) {
    let fs = SimFs::new();
    let store = open(&fs);
    let day = |n: i64| NOW_NS - n * 24 * HOUR;
    put(&store, 600, day(20));
    store.compact().unwrap();
    for hour in 0..4 {
        put(
            &store,
            100,
            day(10) - day(10) % (24 * HOUR) + 3 * hour * HOUR,
        );
        store.compact().unwrap();
    }
    put(&store, 300, day(5));
    store.flush().unwrap();
    store
        .delete(&[Matcher::equal("app", "s4")], &[], TimeRange::ALL)
        .unwrap();
    put(&store, 200, day(3));
    drop(store);
    let days = [20, 10, 5, 3].map(|n| TimeRange::new(day(n + 1), day(n - 1)));
    (fs, days.to_vec())
}

#[test]
fn verify_finds_a_thousand_of_a_thousand_flipped_bits() {
    let (fs, _) = varied_store();
    let whole = open(&fs);
    let report = whole.verify();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert!(report.rows == 1_300 && report.records == 4, "{report:?}");
    let mut levels: Vec<u8> = whole.blocks().iter().map(|meta| meta.level).collect();
    levels.sort_unstable();
    assert_eq!(levels, [0, 1, 2]);
    let files: Vec<PathBuf> = files(&fs, "/store")
        .into_iter()
        .filter(|path| len(&fs, path) > 0)
        .collect();
    let kinds = |name: &str| {
        files
            .iter()
            .filter(|p| p.to_string_lossy().contains(name))
            .count()
    };
    assert_eq!((kinds("block"), kinds("catalog")), (3, 1), "{files:?}");
    assert!(kinds(".wal") > 1, "{files:?}");
    let mut rng = Rng::new(42);
    for flip in 0..FLIPS {
        let path = &files[rng.below(files.len() as u64) as usize];
        let (offset, mask) = (rng.below(len(&fs, path)), 1 << rng.below(8));
        let place = format!("flip {flip}: {} byte {offset} mask {mask}", path.display());
        fs.corrupt(path, offset as usize, mask);
        // Of a store that is open ...
        let report = whole.verify();
        assert_eq!(report.errors.len(), 1, "{place}: {:?}", report.errors);
        let error = &report.errors[0];
        assert!(is_told(error.kind()), "{place}: {error}");
        let name = path.display().to_string();
        assert!(error.to_string().contains(&name), "{place}: {error}");
        // ... and of one that is opened, which says so itself or finds it too.
        if flip % 5 == 0 {
            check_opened(&fs.crash(Crash::Process, 0), &place);
        }
        fs.corrupt(path, offset as usize, mask);
    }
    assert!(whole.verify().errors.is_empty());
}

fn check_opened(damaged: &SimFs, place: &str) {
    let store = match try_open(damaged) {
        Ok(store) => store,
        Err(error) => {
            assert!(is_told(error.kind()), "{place}: {error}");
            return;
        }
    };
    let (stats, report) = (store.stats(), store.verify());
    // The last frame of the log looks like a write that was not finished.
    let torn = stats.buffer_rows < 200;
    assert!(
        torn || !stats.damaged.is_empty() || !report.errors.is_empty(),
        "{place}: nothing is told"
    );
}

#[test]
fn a_damaged_block_costs_what_it_holds_and_is_left_alone() {
    let (fs, days) = varied_store();
    let all: Vec<Vec<Entry>> = days
        .iter()
        .map(|day| rows(&open(&fs), *day).unwrap())
        .collect();
    assert!(all.iter().all(|rows| !rows.is_empty()));
    let mut blocks = open(&fs).blocks();
    blocks.sort_by_key(|meta| meta.range.start);
    let mut rng = Rng::new(7);
    for round in 0..90 {
        let number = round % blocks.len();
        let path = PathBuf::from(format!("/store/blocks/{}.block", blocks[number].id));
        let damaged = fs.crash(Crash::Process, 0);
        let length = len(&fs, &path);
        let offset = rng.below(length);
        if round % 10 == 9 {
            damaged.truncate(&path, offset).unwrap();
        } else {
            damaged.corrupt(&path, offset as usize, 1 << rng.below(8));
        }
        let place = format!(
            "round {round}: level {} byte {offset} of {length}",
            blocks[number].level
        );
        let store = open(&damaged);
        assert_eq!(store.verify().errors.len(), 1, "{place}");
        let check = || {
            for (at, (day, all)) in days.iter().zip(&all).enumerate() {
                match rows(&store, *day) {
                    Ok(found) if at != number => assert_eq!(found, *all, "{place}: day {at}"),
                    Ok(found) => {
                        assert!(found.iter().all(|entry| all.contains(entry)), "{place}");
                    }
                    Err(error) => {
                        assert!(at == number && is_told(error.kind()), "{place}: {error}");
                    }
                }
            }
        };
        check();
        // Life goes on, and what is whole is merged.
        store.compact().unwrap();
        let stats = store.stats();
        assert!(
            !stats.damaged.is_empty() || stats.sealed_blocks == 0,
            "{place}"
        );
        assert!(stats.sealed_blocks <= 1, "{place}");
        check();
        put(&store, 10, NOW_NS);
        assert_eq!(
            rows(&store, TimeRange::new(NOW_NS, NOW_NS + HOUR))
                .unwrap()
                .len(),
            10
        );
    }
}

#[test]
fn a_delete_stays_in_force_while_a_damaged_block_may_hold_its_entries() {
    let fs = SimFs::new();
    let store = open(&fs);
    put(&store, 400, NOW_NS - HOUR);
    store.flush().unwrap();
    let [meta] = store.blocks().try_into().unwrap();
    drop(store);
    let path = PathBuf::from(format!("/store/blocks/{}.block", meta.id));
    // A byte of a page of the first chunk.
    fs.corrupt(&path, 100, 1);
    let store = open(&fs);
    store
        .delete(&[Matcher::equal("app", "s4")], &[], TimeRange::ALL)
        .unwrap();
    store.compact().unwrap();
    assert!(
        store
            .stats()
            .damaged
            .iter()
            .any(|told| told.contains("not merged"))
    );
    assert_eq!(store.blocks(), [meta]);
    assert_eq!(store.stats().deletes, 1);
    drop(store);
    fs.corrupt(&path, 100, 1);
    let store = open(&fs);
    assert_eq!(
        rows(&store, TimeRange::ALL).unwrap().len(),
        320,
        "still hidden"
    );
    store.compact().unwrap();
    assert_eq!((store.stats().deletes, store.stats().block_rows), (0, 320));
}

#[test]
fn a_merge_makes_a_damaged_token_index_anew() {
    const STEP: usize = 29;
    let fs = SimFs::new();
    let store = open(&fs);
    put(&store, 400, NOW_NS - 48 * HOUR);
    store.flush().unwrap();
    let all = rows(&store, TimeRange::ALL).unwrap();
    let search = |store: &LogStore| {
        let needle = LineFilter::Contains("comes".into());
        let request = Rows {
            lines: vec![needle],
            ..store::everything()
        };
        store::rows(store, request)
    };
    let found = search(&store).unwrap();
    assert_eq!(found.len(), 100);
    for level in [0, 1] {
        let [before] = store.blocks().try_into().unwrap();
        assert_eq!(before.level, level);
        let path = PathBuf::from(format!("/store/blocks/{}.block", before.id));
        let mut met = 0;
        for offset in (0..len(&fs, &path)).step_by(STEP) {
            let damaged = fs.crash(Crash::Process, 0);
            damaged.corrupt(&path, offset as usize, 1);
            let store = open(&damaged);
            let Ok(searched) = search(&store) else {
                continue;
            };
            let slower = store.stats().damaged;
            if !slower.iter().all(|what| what.contains("slower")) || slower.is_empty() {
                continue;
            }
            let place = format!("level {level}, byte {offset}: {slower:?}");
            met += STEP as u64;
            assert_eq!(searched, found, "{place}");
            assert_eq!(rows(&store, TimeRange::ALL).unwrap(), all, "{place}");
            assert_eq!(store.verify().errors.len(), 1, "{place}");
            store.compact().unwrap();
            let [after] = store.blocks().try_into().unwrap();
            assert_ne!(after.id, before.id, "{place}");
            assert_eq!(search(&store).unwrap(), found, "{place}");
            assert_eq!(rows(&store, TimeRange::ALL).unwrap(), all, "{place}");
            assert_eq!(store.stats().damaged, [""; 0], "{place}");
            let report = store.verify();
            assert!(report.errors.is_empty(), "{place}: {:?}", report.errors);
            assert_eq!(report.rows, 400, "{place}");
        }
        // Every byte of these sections, and of no others but the list of long tokens.
        let sizes: BTreeMap<_, _> = store.sizes().unwrap().into_iter().collect();
        let expected = sizes["filters"] + sizes["words"];
        let most = expected + sizes["long tokens"] + 3 * STEP as u64;
        assert!(
            met + STEP as u64 > expected && met <= most,
            "{met} {sizes:?}"
        );
        store.compact().unwrap();
    }
}

/// A log of several segments, one entry a record, nothing sealed.
fn log_store() -> (SimFs, Vec<Entry>) {
    let fs = SimFs::new();
    let store = open(&fs);
    let entries: Vec<Entry> = (0..40).map(|n| entry(n, NOW_NS + n)).collect();
    for one in &entries {
        store::append(&store, std::slice::from_ref(one), Durability::Synced).unwrap();
    }
    drop(store);
    (fs, entries)
}

#[test]
fn a_log_that_is_flipped_or_cut_anywhere_keeps_the_rest_and_tells() {
    let (fs, all) = log_store();
    let segments = files(&fs, "/store/wal");
    assert!(segments.len() >= 3, "{segments:?}");
    for (number, path) in segments.iter().enumerate() {
        let is_last = number + 1 == segments.len();
        let length = len(&fs, path);
        for offset in (number as u64..length).step_by(3) {
            for cut in [false, true] {
                let damaged = fs.crash(Crash::Process, 0);
                match cut {
                    true => damaged.truncate(path, offset).unwrap(),
                    false => damaged.corrupt(path, offset as usize, 1 << (offset % 8)),
                }
                let place = format!("segment {number} byte {offset} of {length} cut {cut}");
                let store = open(&damaged);
                let found = rows(&store, TimeRange::ALL).unwrap();
                assert!(found.iter().all(|entry| all.contains(entry)), "{place}");
                let lost = all.len() - found.len();
                assert!(lost <= 1 || cut, "{place}: {lost} lost");
                // What is missing at the very end was perhaps never written.
                let told = !store.stats().damaged.is_empty();
                assert!(told || is_last || lost == 0, "{place}: {lost} lost");
                assert!(store.verify().errors.len() <= 1, "{place}");
            }
        }
    }
}

#[test]
fn a_damaged_catalog_is_refused_by_kind() {
    let (fs, _) = varied_store();
    let path = Path::new("/store/catalog");
    let before = files(&fs, "/store/blocks");
    for offset in 0..len(&fs, path) {
        for cut in [false, true] {
            let damaged = fs.crash(Crash::Process, 0);
            match cut {
                true => damaged.truncate(path, offset).unwrap(),
                false => damaged.corrupt(path, offset as usize, 1 << (offset % 8)),
            }
            let error = try_open(&damaged).unwrap_err();
            assert!(is_told(error.kind()), "byte {offset}: {error}");
            assert!(error.to_string().contains("/store/catalog"), "{error}");
            assert_eq!(files(&damaged, "/store/blocks"), before, "files went");
        }
    }
    assert!(try_open(&fs).is_ok());
}
