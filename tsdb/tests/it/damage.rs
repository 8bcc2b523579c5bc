//! Damaged files: what is damaged is told and never answered as if it were whole, the rest is read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::fs::Fs;
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, Rng, SimFs};
use trine_storage::{Kind, Labels, Result, TimeRange};
use trine_tsdb::{Config, Durability, Tsdb, Value};

use crate::disk::{Answer, answer, blocks, files, holds_nothing_else, read, write};
use crate::store::{NOW_MS, clock, open, open_with, put};

const HOUR: i64 = 3_600_000;
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Random flips that `verify` has to find.
const FLIPS: u64 = 1_000;

/// What damage may look like to a caller.
fn is_told(kind: Kind) -> bool {
    // A flipped version number is one of a program that is not there yet.
    matches!(kind, Kind::Corrupt | Kind::Unsupported)
}

fn try_open(fs: &SimFs) -> Result<Tsdb> {
    Tsdb::builder(Path::new("store"))
        .fs(Arc::new(fs.clone()))
        .clock(clock())
        .shared(Shared::without_workers())
        .open()
}

/// Values of every kind that the codecs treat differently.
fn value(kind: u64, row: i64, rng: &mut Rng) -> f64 {
    match kind {
        0 => 1.0,
        1 => (row * 17) as f64,
        2 => f64::from_bits(rng.next_u64() >> 2),
        3 if row % 5 == 0 => f64::from_bits(STALE),
        3 => row as f64 / 100.0,
        4 => [0.0, -0.0, f64::NAN, f64::INFINITY][rng.below(4) as usize],
        5 => rng.below(1_000) as f64,
        _ => (row / 30) as f64,
    }
}

fn varied_labels(kind: u64) -> Labels {
    let long = "x".repeat(200);
    let text = ["plain", "ünïcode → 日本", "", "with=\"quotes\"\n", &long][kind as usize % 5];
    let kind = kind.to_string();
    let pairs = [("__name__", "varied"), ("kind", &kind), ("text", text)];
    Labels::from_pairs(pairs).unwrap()
}

/// A store with blocks of every level and two parts; no sample is in two files.
fn varied_store() -> SimFs {
    let fs = SimFs::new();
    let clock = clock();
    // Of the present day windows of two and of eight hours are closed.
    clock.advance(Duration::from_secs(15 * 3600));
    let now = NOW_MS + 15 * HOUR;
    let db = open_with(&fs, Config::default(), clock);
    let mut rng = Rng::new(1);
    let mut append = |times: &[i64], kinds: std::ops::Range<u64>| {
        let mut appender = db.appender();
        for kind in kinds {
            let labels = varied_labels(kind);
            for (row, time) in (0..).zip(times) {
                // Some series share their timestamps, some do not.
                let jitter = if kind % 2 == 0 {
                    0
                } else {
                    rng.below(9) as i64
                };
                let value = value(kind, row, &mut rng);
                appender.append(&labels, time + jitter, Value::Float(value));
            }
        }
        appender.commit(Durability::Synced).unwrap().wait().unwrap();
    };
    let long_ago: Vec<i64> = (0..360)
        .map(|row| now - 46 * 24 * HOUR + row * 3 * HOUR)
        .collect();
    append(&long_ago, 0..7);
    let today: Vec<i64> = (0..60)
        .map(|row| now - 12 * HOUR + row * HOUR / 6)
        .collect();
    append(&today, 0..7);
    let dense: Vec<i64> = (0..2_500).map(|row| now - 4 * HOUR + row * 1_000).collect();
    append(&dense, 10..12);
    db.compact().unwrap();
    let recent: Vec<i64> = (0..40).map(|row| now - HOUR + row * 10_000).collect();
    append(&recent, 0..4);
    db.flush().unwrap();
    let more: Vec<i64> = (0..40).map(|row| now - HOUR / 2 + row * 10_000).collect();
    append(&more, 2..9);
    db.flush().unwrap();
    fs
}

#[test]
fn verify_finds_a_thousand_of_a_thousand_flipped_bits() {
    let fs = varied_store();
    let files = blocks(&fs);
    let levels: Vec<u8> = files.iter().map(|(level, _)| *level).collect();
    for level in 0..=5 {
        assert!(levels.contains(&level), "no level {level} in {levels:?}");
    }
    let whole = open(&fs);
    assert!(whole.verify().errors.is_empty());
    let all = answer(&whole, &[], TimeRange::ALL).unwrap();
    drop(whole);
    let mut rng = Rng::new(42);
    let (mut at_open, mut by_verify) = (0, 0);
    for flip in 0..FLIPS {
        let (level, path) = &files[rng.below(files.len() as u64) as usize];
        let len = Fs::open(&fs, path).unwrap().len();
        let (offset, bit) = (rng.below(len), rng.below(8));
        let place = format!("flip {flip}: level {level}, byte {offset} of {len}, bit {bit}");
        let damaged = fs.crash(Crash::Process, 0);
        damaged.corrupt(path, offset as usize, 1 << bit);
        let db = open(&damaged);
        let quarantined = db.stats().blocks < files.len() as u64;
        let report = db.verify();
        assert_eq!(report.errors.len(), 1, "{place}: {:?}", report.errors);
        let (error, name) = (&report.errors[0], path.display().to_string());
        assert!(is_told(error.kind()), "{place}: {error}");
        assert!(error.to_string().contains(&name), "{place}: {error}");
        match quarantined {
            true => at_open += 1,
            false => by_verify += 1,
        }
        if flip % 4 == 0 {
            check_answer(&db, TimeRange::ALL, &all, &place);
        }
    }
    assert_eq!(at_open + by_verify, FLIPS);
    assert!(at_open > 10 && by_verify > 500, "{at_open} {by_verify}");
}

/// Damage is an error, or is told by `stats` and something is missing, or does not matter.
fn check_answer(db: &Tsdb, range: TimeRange, all: &Answer, place: &str) {
    match answer(db, &[], range) {
        Err(error) => assert!(is_told(error.kind()), "{place}: {error}"),
        Ok(found) if db.stats().damaged.is_empty() => assert_eq!(found, *all, "{place}"),
        Ok(found) => assert!(holds_nothing_else(&found, all), "{place}: {found:?}"),
    }
}

/// A store of two blocks, two parts with samples and one with definitions only, each with its own
/// day and its own series; gives the ranges in the order of [`blocks`].
fn separate_store() -> (SimFs, Vec<TimeRange>) {
    let fs = SimFs::new();
    let db = open(&fs);
    let days = [80, 40, 0, 0].map(|days| NOW_MS - days * 24 * HOUR);
    for (number, day) in (0..).zip(days) {
        let rows: Vec<(String, i64, f64)> = (0..60)
            .map(|row| {
                let series = format!("n=s{},file=f{number}", row % 3);
                // The parts one after the other in the open window.
                let start = day + (number - 3) * 30 * 60_000;
                (series, start + row * 10_000, (row * row) as f64 / 8.0)
            })
            .collect();
        let rows: Vec<(&str, i64, f64)> =
            rows.iter().map(|(s, t, v)| (s.as_str(), *t, *v)).collect();
        assert_eq!(put(&db, &rows).stored, 60);
        match number {
            0 | 1 => db.compact().unwrap(),
            _ => db.flush().unwrap(),
        }
    }
    drop(db);
    let mut document = crate::disk::catalog(&fs).blocks;
    document.sort_by_key(|meta| (meta.level, meta.id.to_string()));
    let ranges: Vec<TimeRange> = document.iter().map(|meta| meta.range).collect();
    assert_eq!(ranges.len(), 5);
    (fs, ranges)
}

/// Opens a store one of whose files is damaged: the damage is told, the other files are read as ever.
fn check_others(damaged: &SimFs, file: usize, ranges: &[TimeRange], all: &[Answer], place: &str) {
    let db = open(damaged);
    let told = db.stats().damaged;
    assert!(!told.is_empty(), "{place}: nothing is told");
    assert_eq!(db.verify().errors.len(), 1, "{place}");
    for (number, (range, all)) in ranges.iter().zip(all).enumerate() {
        if number == file {
            check_answer(&db, *range, all, place);
        } else {
            let found = answer(&db, &[], *range).unwrap();
            assert_eq!(found, *all, "{place}: file {number}");
        }
    }
    // Life goes on.
    put(&db, &[("n=new", NOW_MS, 1.0)]);
    db.flush().unwrap();
    let new = answer(&db, &[], TimeRange::inclusive(NOW_MS, NOW_MS)).unwrap();
    assert_eq!(new["{n=\"new\"}"], [(NOW_MS, 1f64.to_bits())], "{place}");
}

#[test]
fn a_file_of_any_other_length_is_told_and_the_others_are_read() {
    let (fs, ranges) = separate_store();
    let files = blocks(&fs);
    let whole = open(&fs);
    let all = ranges
        .iter()
        .map(|range| answer(&whole, &[], *range).unwrap());
    let all: Vec<Answer> = all.collect();
    for (range, all) in ranges.iter().zip(&all) {
        assert_eq!(all.len(), if range.is_empty() { 0 } else { 3 }, "{all:?}");
    }
    drop(whole);
    let mut lengths = 0;
    for (file, (level, path)) in files.iter().enumerate().take(4) {
        let bytes = read(&fs, path);
        for len in 0..bytes.len() {
            let damaged = fs.crash(Crash::Process, 0);
            damaged.truncate(path, len as u64).unwrap();
            let place = format!("level {level} cut to {len} of {} bytes", bytes.len());
            check_others(&damaged, file, &ranges, &all, &place);
            lengths += 1;
        }
        for more in [1, 16, 32, 4_096] {
            let damaged = fs.crash(Crash::Process, 0);
            let longer = [bytes.as_slice(), &vec![0; more]].concat();
            write(&damaged, path, &longer);
            let place = format!("level {level} with {more} bytes more");
            check_others(&damaged, file, &ranges, &all, &place);
        }
        let damaged = fs.crash(Crash::Process, 0);
        damaged.remove_file(path).unwrap();
        check_others(&damaged, file, &ranges, &all, "a file that is gone");
    }
    assert!(lengths >= 1_000, "{lengths}");
}

/// A log of several segments with several frames each, one sample a frame, nothing sealed. Gives
/// what is in it, and after which sample each frame ends: (segment, end, samples).
fn log_store() -> (SimFs, Answer, Vec<(usize, u64, usize)>) {
    let fs = SimFs::new();
    let db = log_open(&fs).unwrap();
    let mut ends = Vec::new();
    for row in 0..12 {
        put(
            &db,
            &[(if row % 2 == 0 { "n=a" } else { "n=b" }, row, row as f64)],
        );
        let segments = files(&fs, "store/wal");
        let len = Fs::open(&fs, segments.last().unwrap()).unwrap().len();
        ends.push((segments.len() - 1, len, row as usize + 1));
    }
    let all = answer(&db, &[], TimeRange::ALL).unwrap();
    (fs, all, ends)
}

fn log_open(fs: &SimFs) -> Result<Tsdb> {
    let mut config = Config::default();
    config.wal.segment_bytes = 300;
    Tsdb::builder(Path::new("store"))
        .config(config)
        .fs(Arc::new(fs.clone()))
        .clock(clock())
        .shared(Shared::without_workers())
        .open()
}

/// Opens a store whose log is damaged at `offset` of the segment number `segment`.
fn check_log(damaged: &SimFs, all: &Answer, before: usize, torn: bool, place: &str) {
    let db = match log_open(damaged) {
        Ok(db) => db,
        Err(error) => {
            assert!(is_told(error.kind()), "{place}: {error}");
            return;
        }
    };
    let found = answer(&db, &[], TimeRange::ALL).unwrap();
    assert!(holds_nothing_else(&found, all), "{place}: {found:?}");
    for (series, samples) in all {
        for sample in samples.iter().filter(|(row, _)| *row < before as i64) {
            let kept = found.get(series).is_some_and(|s| s.contains(sample));
            assert!(kept, "{place}: {sample:?} before the damage is gone");
        }
    }
    let told = db.stats().damaged;
    let lost = found != *all;
    assert!(!lost || torn || !told.is_empty(), "{place}: lost, not told");
    // What is appended from now on is kept, and what was found stays.
    put(&db, &[("n=new", 5, 1.0)]);
    let found = answer(&db, &[], TimeRange::ALL).unwrap();
    drop(db);
    let again = answer(&log_open(damaged).unwrap(), &[], TimeRange::ALL).unwrap();
    assert_eq!(again, found, "{place}: another answer after a restart");
}

#[test]
fn a_flipped_bit_of_the_log_costs_what_it_hits_and_is_told() {
    let (fs, all, ends) = log_store();
    let segments = files(&fs, "store/wal");
    assert!(segments.len() >= 3, "{segments:?}");
    for (segment, path) in segments.iter().enumerate() {
        let is_last = segment + 1 == segments.len();
        let frames: Vec<_> = ends.iter().filter(|(of, ..)| *of == segment).collect();
        let len = read(&fs, path).len() as u64;
        // The header of the last segment is a case of its own: it looks like one that was begun
        // when the power went.
        let first = if is_last { 32 } else { 0 };
        for offset in first..len {
            let earlier = ends
                .iter()
                .filter(|(of, end, _)| (*of, *end) <= (segment, offset));
            let before = earlier.map(|(.., samples)| *samples).max().unwrap_or(0);
            // The last frame of all looks like a write that was not finished.
            let last_frame = frames[..frames.len() - 1]
                .last()
                .map_or(32, |(_, end, _)| *end);
            let torn = is_last && offset >= last_frame;
            let damaged = fs.crash(Crash::Process, 0);
            damaged.corrupt(path, offset as usize, 1 << (offset % 8));
            let place = format!("segment {segment}, byte {offset} of {len}");
            check_log(&damaged, &all, before, torn, &place);
        }
    }
}

#[test]
fn a_log_that_is_cut_anywhere_keeps_what_was_before_and_tells() {
    let (fs, all, ends) = log_store();
    let segments = files(&fs, "store/wal");
    for (segment, path) in segments.iter().enumerate() {
        let is_last = segment + 1 == segments.len();
        let bytes = read(&fs, path);
        for len in 0..bytes.len() as u64 {
            // The first segment without any frame is a case of its own: it looks like a log that
            // begins later.
            if segment == 0 && len == 32 {
                continue;
            }
            let earlier = ends
                .iter()
                .filter(|(of, end, _)| (*of, *end) <= (segment, len));
            let before = earlier.map(|(.., samples)| *samples).max().unwrap_or(0);
            let damaged = fs.crash(Crash::Process, 0);
            damaged.truncate(path, len).unwrap();
            let place = format!("segment {segment} cut to {len} of {} bytes", bytes.len());
            // What is missing at the very end was perhaps never written.
            check_log(&damaged, &all, before, is_last, &place);
        }
    }
}

#[test]
fn a_damaged_catalog_is_refused_by_kind() {
    let (fs, _) = separate_store();
    let db = open(&fs);
    db.delete(&[], TimeRange::new(0, 1)).unwrap();
    drop(db);
    let path = Path::new("store/catalog");
    let len = read(&fs, path).len();
    let before = files(&fs, "store/blocks");
    for offset in 0..len {
        for bit in 0..8 {
            let damaged = fs.crash(Crash::Process, 0);
            damaged.corrupt(path, offset, 1 << bit);
            let error = try_open(&damaged).unwrap_err();
            assert!(is_told(error.kind()), "byte {offset} bit {bit}: {error}");
            assert!(error.to_string().contains("store/catalog"), "{error}");
            assert_eq!(files(&damaged, "store/blocks"), before, "files went");
        }
        let damaged = fs.crash(Crash::Process, 0);
        damaged.truncate(path, offset as u64).unwrap();
        let error = try_open(&damaged).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "cut to {offset}: {error}");
        assert_eq!(files(&damaged, "store/blocks"), before, "files went");
    }
    assert!(try_open(&fs).is_ok());
}

#[test]
fn verify_reads_the_log_and_the_catalog() {
    let fs = varied_store();
    let db = open(&fs);
    put(&db, &[("after", NOW_MS, 1.0), ("after", NOW_MS + 1, 2.0)]);
    let whole = db.verify();
    assert!(whole.errors.is_empty() && whole.records > 0, "{whole:?}");
    let mut rng = Rng::new(7);
    let (mut logs, mut catalogs) = (0, 0);
    for path in fs.files() {
        let is_catalog = path == Path::new("store/catalog");
        if path.starts_with("store/blocks") || path == Path::new("store/lock") {
            continue;
        }
        let len = Fs::open(&fs, &path).unwrap().len();
        for _ in 0..100.min(len) {
            let (offset, bit) = (rng.below(len), rng.below(8));
            let place = format!("{} byte {offset} bit {bit}", path.display());
            fs.corrupt(&path, offset as usize, 1 << bit);
            let report = db.verify();
            assert_eq!(report.errors.len(), 1, "{place}: {:?}", report.errors);
            let told = report.errors[0].to_string();
            assert!(
                told.contains(&path.display().to_string()),
                "{place}: {told}"
            );
            fs.corrupt(&path, offset as usize, 1 << bit);
            logs += u32::from(!is_catalog);
            catalogs += u32::from(is_catalog);
        }
    }
    assert!(logs > 0 && catalogs > 0, "{logs} {catalogs}");
    assert!(db.verify().errors.is_empty());
}
