//! What must not be lost, mixed up or left behind in silence.

use std::path::Path;
use std::time::Duration;

use trine_storage::TimeRange;
use trine_storage::fs::Fs;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Kind, Matcher};
use trine_tsdb::{Config, Durability, Value};

use crate::disk::{answer, blocks, files, read, write};
use crate::store::{NOW_MS, clock, dump, labels, open, open_with, put};

/// One flipped bit in the first 32 bytes of a segment must not cost every record behind it, least
/// of all without a word: frames have their own positions and checksums.
#[test]
fn the_header_of_the_last_segment_costs_nothing_or_is_told() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 1, 1.0)]);
    put(&db, &[("n=a", 2, 2.0)]);
    drop(db);
    let path = files(&fs, "store/wal").remove(0);
    for offset in 0..32 {
        let damaged = fs.crash(Crash::Process, 0);
        damaged.corrupt(&path, offset, 1);
        let db = open(&damaged);
        let whole = dump(&db, &[], TimeRange::ALL) == ["{n=\"a\"} 1=1 2=2"];
        let told = db.stats().damaged;
        assert!(whole || !told.is_empty(), "byte {offset}: lost, not told");
    }
}

/// A log whose first records are missing says so, as one whose middle is missing does.
#[test]
fn a_log_without_its_beginning_tells_what_is_missing() {
    let fs = SimFs::new();
    let mut config = Config::default();
    config.wal.segment_bytes = 1;
    let db = open_with(&fs, config, clock());
    // The part defines the series, so that what follows is not told to belong to none.
    put(&db, &[("n=a", 0, 1.0)]);
    db.flush().unwrap();
    for row in 1..4 {
        put(&db, &[("n=a", row, 1.0)]);
    }
    drop(db);
    let segments = files(&fs, "store/wal");
    let whole = fs.crash(Crash::Process, 0);
    assert!(open(&whole).stats().damaged.is_empty());
    type Damage = fn(&SimFs, &Path);
    let damages: [(&str, Damage); 2] = [
        ("cut to its header", |fs, path| {
            fs.truncate(path, 32).unwrap();
        }),
        ("gone", |fs, path| fs.remove_file(path).unwrap()),
    ];
    for segment in &segments[..2] {
        for (what, damage) in damages {
            let damaged = fs.crash(Crash::Process, 0);
            damage(&damaged, segment);
            let db = open(&damaged);
            assert_eq!(db.stats().head_samples, 2);
            let told = db.stats().damaged;
            assert!(!told.is_empty(), "{} {what}: not told", segment.display());
        }
    }
}

/// A power failure while a seal cuts the log leaves any of the segments that it removes; what is
/// missing between them is in the part, and nothing is told.
#[test]
fn segments_that_a_seal_removed_are_not_missing() {
    let fs = SimFs::new();
    let mut config = Config::default();
    config.wal.segment_bytes = 1;
    let db = open_with(&fs, config, clock());
    for row in 0..4 {
        put(&db, &[("n=a", row, 1.0)]);
    }
    let before = fs.crash(Crash::Process, 0);
    db.flush().unwrap();
    drop(db);
    let segments = files(&before, "store/wal");
    assert_eq!((segments.len(), files(&fs, "store/wal").len()), (4, 0));
    for left in 0..16 {
        let found = fs.crash(Crash::Process, 0);
        for (number, path) in segments.iter().enumerate() {
            if left & 1 << number != 0 {
                write(&found, path, &read(&before, path));
            }
        }
        let db = open(&found);
        let told = db.stats().damaged;
        assert!(told.is_empty(), "left {left:04b}: {told:?}");
        assert_eq!(db.stats().head_samples, 0);
    }
}

/// A segment whose beginning was torn is removed at open; when the power fails again it may be back
/// beside a newer one, and nothing is told.
#[test]
fn a_torn_segment_that_comes_back_is_not_damage() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 1, 1.0)]);
    drop(db);
    let first = files(&fs, "store/wal").remove(0);
    let torn = first.with_file_name("0000000000000002.wal");
    write(&fs, &torn, &read(&fs, &first)[..12]);
    fs.sync_dir("store/wal".as_ref()).unwrap();
    let db = open(&fs);
    assert!(db.stats().damaged.is_empty());
    // The next segment is created, and no more.
    fs.cut_after(fs.operations() + 1);
    let mut appender = db.appender();
    appender.append(&labels("n=a"), 2, Value::Float(2.0));
    let failed = appender.commit(Durability::Synced).unwrap().wait();
    assert_eq!(failed.unwrap_err().kind(), Kind::Io);
    drop(db);
    for seed in 0..32 {
        let db = open(&fs.crash(Crash::Power, seed));
        assert_eq!(db.stats().head_samples, 1);
        let told = db.stats().damaged;
        assert!(told.is_empty(), "seed {seed}: {told:?}");
    }
}

/// An id of which files hold samples must not go to another series because the file that defines
/// it is damaged.
#[test]
fn samples_of_a_lost_series_are_not_given_to_another_one() {
    for (what, offset) in [("footer", -40), ("a page", 20)] {
        let fs = SimFs::new();
        let db = open(&fs);
        put(&db, &[("n=a", NOW_MS - 10, 1.0)]);
        db.flush().unwrap();
        put(&db, &[("n=a", NOW_MS - 5, 2.0)]);
        db.flush().unwrap();
        drop(db);
        let document = crate::disk::catalog(&fs);
        let first = document
            .blocks
            .iter()
            .min_by_key(|meta| meta.sequence)
            .unwrap();
        let path = format!("store/blocks/{}.block", first.id);
        let len = read(&fs, path.as_ref()).len() as i64;
        let offset = if offset < 0 { len + offset } else { offset };
        fs.corrupt(path.as_ref(), offset as usize, 1);
        let db = open(&fs);
        assert!(!db.stats().damaged.is_empty() || what == "a page");
        // One of these gets the place that is free, whatever its shard.
        for series in 0..200 {
            put(&db, &[(&format!("n=new,x={series}"), NOW_MS, 9.0)]);
        }
        let new = [Matcher::equal("n", "new")];
        let found = answer(&db, &new, TimeRange::ALL).unwrap_or_default();
        for (series, samples) in found {
            let expected = [(NOW_MS, 9f64.to_bits())];
            assert_eq!(samples, expected, "damaged {what}: {series}");
        }
    }
}

/// A cut does not remove the samples of parts whose series another, damaged part defines: the
/// damaged file may be restored.
#[test]
fn samples_whose_series_is_not_known_are_not_removed() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 1, 1.0)]);
    db.flush().unwrap();
    put(&db, &[("n=a", 2, 2.0)]);
    db.flush().unwrap();
    drop(db);
    let whole = fs.crash(Crash::Process, 0);
    let document = crate::disk::catalog(&fs);
    let first = document
        .blocks
        .iter()
        .min_by_key(|meta| meta.sequence)
        .unwrap();
    let path = format!("store/blocks/{}.block", first.id);
    let len = read(&fs, path.as_ref()).len();
    fs.corrupt(path.as_ref(), len - 1, 1);
    let db = open(&fs);
    assert_eq!(db.stats().damaged.len(), 1);
    db.compact().ok();
    drop(db);
    // The file comes back from a backup.
    write(&fs, path.as_ref(), &read(&whole, path.as_ref()));
    let db = open(&fs);
    assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 1=1 2=2"]);
}

/// Who tries again and again on a full disk must not fill it further.
#[test]
fn work_that_fails_leaves_no_files_behind() {
    let fs = SimFs::new();
    let db = open(&fs);
    put(&db, &[("n=a", 1, 1.0), ("n=b", 3_600_000 * 100, 1.0)]);
    let temporary = |fs: &SimFs| {
        let mut files = fs.files();
        files.retain(|path| path.extension().is_some_and(|e| e == "tmp"));
        files.len()
    };
    fs.fill_after(0);
    for _ in 0..5 {
        assert_eq!(db.flush().unwrap_err().kind(), Kind::Io);
    }
    assert!(temporary(&fs) <= 1, "seals left {:?}", fs.files());
    fs.fill_after(u64::MAX);
    db.flush().unwrap();
    assert_eq!(temporary(&fs), 0, "{:?}", fs.files());
    fs.fill_after(0);
    for _ in 0..5 {
        assert_eq!(db.compact().unwrap_err().kind(), Kind::Io);
    }
    assert!(temporary(&fs) <= 2, "cuts left {:?}", fs.files());
}

/// What is told to be stored is read again, at the very last timestamp too.
#[test]
fn the_last_timestamp_of_all_is_kept_or_refused() {
    let fs = SimFs::new();
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let db = open_with(&fs, config, clock());
    let told = put(&db, &[("n=a", i64::MAX, 1.0)]);
    let found = answer(&db, &[], TimeRange::ALL).unwrap();
    let read: usize = found.values().map(Vec::len).sum();
    assert_eq!(told.stored, read as u64, "{told:?}");
}

/// A delete that hits no sample is forgotten, and is no reason to write a part again and again.
#[test]
fn a_delete_that_hits_nothing_is_forgotten() {
    let fs = SimFs::new();
    let clock = clock();
    let db = open_with(&fs, Config::default(), std::sync::Arc::clone(&clock));
    put(&db, &[("n=a", NOW_MS, 1.0)]);
    let nobody = [Matcher::equal("n", "nobody")];
    db.delete(&nobody, TimeRange::ALL).unwrap();
    clock.advance(Duration::from_secs(600));
    db.maintain().unwrap();
    let operations = fs.operations();
    db.maintain().unwrap();
    assert_eq!(fs.operations(), operations, "nothing is left to do");
    assert_eq!(db.stats().deletes, 0);
}

/// A store whose catalog is gone is not an empty store: its blocks are not swept.
#[test]
fn a_missing_catalog_does_not_remove_the_blocks() {
    let fs = SimFs::new();
    let db = open(&fs);
    for row in 0..2 {
        put(&db, &[("n=a", row, 1.0)]);
        db.compact().unwrap();
    }
    drop(db);
    let before: Vec<_> = blocks(&fs).into_iter().map(|(_, path)| path).collect();
    fs.remove_file("store/catalog".as_ref()).unwrap();
    let opened = trine_tsdb::Tsdb::builder("store")
        .fs(std::sync::Arc::new(fs.clone()))
        .shared(trine_storage::shared::Shared::without_workers())
        .open();
    let kept = before.iter().all(|path| fs.files().contains(path));
    assert!(kept, "opened: {}; left: {:?}", opened.is_ok(), fs.files());
}

/// Of two values at one time the later one stays, whatever is merged: blocks of one cut have the same
/// sequence, and with it the block that a merge makes of one of them and an older one.
#[test]
fn a_merge_brings_no_earlier_value_back() {
    const HOUR: i64 = 3_600_000;
    let fs = SimFs::new();
    let clock = clock();
    clock.advance(Duration::from_secs(40 * 3_600));
    let now = NOW_MS + 40 * HOUR;
    // Samples in more windows than these make the windows of the cut wider.
    let config = Config {
        block_ranges_max: 3,
        ..Config::default()
    };
    let db = open_with(&fs, config, clock);
    let replaced = now - 45 * HOUR / 2;
    put(&db, &[("n=c", replaced, 3.0)]);
    db.compact().unwrap();
    put(&db, &[("n=c", replaced, 4.0)]);
    for hours in [8, 16, 37, 6] {
        put(&db, &[("n=a", now - hours * HOUR, 1.0)]);
    }
    db.compact().unwrap();
    let c = [Matcher::equal("n", "c")];
    let expected = [format!("{{n=\"c\"}} {replaced}=4")];
    assert_eq!(dump(&db, &c, TimeRange::ALL), expected);
}
