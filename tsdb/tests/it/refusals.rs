//! What is refused: the kind or reason and the words, and that nothing of it is stored.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::fs::{Entry, Fs, Lock, ReadFile, WriteFile};
use trine_storage::labels::LabelsBuffer;
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Error, Kind, Labels, Matcher, TimeRange};
use trine_tsdb::{Config, Durability, LABELS_BYTES_MAX, Reason, Tsdb, Value};

use crate::disk::answer;
use crate::store::{NOW_MS, clock, dump, labels, open, open_with, put};

#[test]
fn label_sets_that_are_none() {
    for (pairs, expected) in [
        (
            &[("", "x")][..],
            "a label with the value \"x\" has an empty name",
        ),
        (
            &[("a", "1"), ("", "")],
            "a label with the value \"\" has an empty name",
        ),
        (&[("a", "1"), ("a", "2")], "duplicate label name \"a\""),
        (
            &[("a", "1"), ("b", "1"), ("a", "1")],
            "duplicate label name \"a\"",
        ),
        (&[("a", ""), ("a", "2")], "duplicate label name \"a\""),
    ] {
        let error = Labels::from_pairs(pairs.iter().copied()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{pairs:?}");
        assert_eq!(error.to_string(), expected, "{pairs:?}");
    }
    // Any order is sorted, a label without a value is none.
    let sorted = Labels::from_pairs([("b", "2"), ("c", ""), ("a", "1")]).unwrap();
    assert_eq!(sorted.to_string(), r#"{a="1", b="2"}"#);
    assert_eq!(Labels::from_pairs([("a", "")]).unwrap(), Labels::empty());
}

#[test]
fn labels_that_a_buffer_does_not_take() {
    let taken: [(&[u8], &[u8], bool); 8] = [
        (b"", b"x", false),
        (b"b", b"", false),
        (b"b", b"1", true),
        (b"b", b"2", false),
        (b"a", b"1", false),
        (b"", b"1", false),
        (b"b\0", b"1", true),
        (b"c", b"\xff", true),
    ];
    let mut buffer = LabelsBuffer::default();
    for (name, value, expected) in taken {
        let before = buffer.encoded().to_vec();
        assert_eq!(buffer.push(name, value), expected, "{name:?}={value:?}");
        assert_eq!(buffer.encoded() != before, expected, "{name:?}={value:?}");
    }
    let error = buffer.to_labels().unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().ends_with("not UTF-8"), "{error}");
}

/// What is sent, what is told: reason, its words, example; `None` when it is stored.
#[test]
fn samples_that_are_refused_say_why() {
    const HOUR: i64 = 3_600_000;
    let window = |retention: Option<i64>, late: Option<i64>, future: Option<i64>| {
        let time = |hours: Option<i64>| hours.map(|h| Duration::from_secs(h as u64 * 3600));
        Config {
            retention: time(retention),
            out_of_order_window: time(late),
            future_max: time(future),
            ..Config::default()
        }
    };
    let (old, future) = (Some(Reason::TooOld), Some(Reason::TooFarInFuture));
    for (config, timestamp, expected) in [
        (window(Some(24), None, Some(1)), NOW_MS - 24 * HOUR, None),
        (window(Some(24), None, Some(1)), NOW_MS - 24 * HOUR - 1, old),
        (window(Some(24), None, Some(1)), i64::MIN, old),
        (window(Some(24), None, Some(1)), NOW_MS + HOUR, None),
        (window(Some(24), None, Some(1)), NOW_MS + HOUR + 1, future),
        (window(Some(24), None, Some(1)), i64::MAX, future),
        (window(Some(24), Some(2), Some(1)), NOW_MS - 2 * HOUR, None),
        (
            window(Some(24), Some(2), Some(1)),
            NOW_MS - 2 * HOUR - 1,
            old,
        ),
        (
            window(Some(24), Some(30), Some(1)),
            NOW_MS - 24 * HOUR,
            None,
        ),
        (
            window(Some(24), Some(30), Some(1)),
            NOW_MS - 24 * HOUR - 1,
            old,
        ),
        (window(None, Some(2), None), NOW_MS - 2 * HOUR, None),
        (window(None, Some(2), None), NOW_MS - 2 * HOUR - 1, old),
        (window(None, Some(0), Some(0)), NOW_MS, None),
        (window(None, Some(0), Some(0)), NOW_MS - 1, old),
        (window(None, Some(0), Some(0)), NOW_MS + 1, future),
        (window(None, None, None), i64::MIN, None),
        (window(None, None, None), i64::MAX - 1, None),
    ] {
        let place = format!("{} from now, {config:?}", timestamp.saturating_sub(NOW_MS));
        let fs = SimFs::new();
        let db = open_with(&fs, config, clock());
        let told = put(&db, &[("n=a", timestamp, 1.0)]);
        let refused: Vec<_> = told
            .rejected
            .iter()
            .map(|r| (r.reason, r.count, r.example.clone()))
            .collect();
        let example = format!("series={{n=\"a\"}} timestamp={timestamp}");
        let expected: Vec<_> = expected
            .into_iter()
            .map(|r| (r, 1, example.clone()))
            .collect();
        assert_eq!(refused, expected, "{place}");
        assert_eq!(told.stored, 1 - expected.len() as u64, "{place}");
        // From memory, from the log, from a part, from a block.
        let held = answer(&db, &[], TimeRange::ALL).unwrap();
        assert_eq!(held.len() as u64, told.stored, "{place}");
        drop(db);
        let db = open_with(&fs, window(None, None, None), clock());
        assert_eq!(answer(&db, &[], TimeRange::ALL).unwrap(), held, "{place}");
        db.flush().unwrap();
        assert_eq!(answer(&db, &[], TimeRange::ALL).unwrap(), held, "{place}");
        db.compact().unwrap();
        assert_eq!(answer(&db, &[], TimeRange::ALL).unwrap(), held, "{place}");
    }
}

#[test]
fn reasons_have_words() {
    for (reason, words) in [
        (Reason::TooOld, "too old sample"),
        (
            Reason::TooFarInFuture,
            "out of bounds: too far in the future",
        ),
        (Reason::DuplicateTimestamp, "duplicate sample for timestamp"),
        (Reason::UnknownReference, "unknown series reference"),
        (Reason::InvalidLabels, "labels are not UTF-8"),
        (Reason::LabelsTooLong, "labels are too long"),
    ] {
        assert_eq!(reason.to_string(), words);
    }
}

#[test]
fn labels_that_are_refused_say_why_and_leave_no_series() {
    let fs = SimFs::new();
    let db = open(&fs);
    // A name of one byte, its length, and the length of the value, four bytes.
    let value = |over: usize| "x".repeat(LABELS_BYTES_MAX - 6 + over);
    for (value, expected) in [
        (value(0).into_bytes(), None),
        (
            value(1).into_bytes(),
            Some((
                Reason::LabelsTooLong,
                format!("a series with labels of {} bytes", LABELS_BYTES_MAX + 1),
            )),
        ),
        (
            vec![b'a', 0xc3],
            Some((
                Reason::InvalidLabels,
                "a series with labels that are not UTF-8".to_owned(),
            )),
        ),
    ] {
        let before = db.stats().head_series;
        let mut buffer = LabelsBuffer::default();
        assert!(buffer.push(b"n", &value));
        let mut appender = db.appender();
        appender.series(&buffer).append_floats(&[(NOW_MS, 1.0)]);
        let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
        let refused = told.rejected.iter().map(|r| (r.reason, r.example.clone()));
        assert_eq!(
            refused.collect::<Vec<_>>(),
            Vec::from_iter(expected.clone())
        );
        assert_eq!(told.stored, u64::from(expected.is_none()));
        assert_eq!(db.stats().head_series - before, told.stored);
    }
    // The set without labels is one as any other.
    let mut appender = db.appender();
    appender.append(&Labels::empty(), NOW_MS, Value::Float(7.0));
    let none = LabelsBuffer::default();
    appender.series(&none).append_floats(&[(NOW_MS, 7.0)]);
    let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
    assert_eq!((told.stored, told.rejected.len()), (2, 0));
    for _ in 0..2 {
        let found = answer(&db, &[Matcher::equal("n", "")], TimeRange::ALL).unwrap();
        assert_eq!(found["{}"], [(NOW_MS, 7f64.to_bits())]);
        db.compact().unwrap();
    }
}

#[test]
fn any_bits_of_a_float_are_kept_to_the_last() {
    let payload = [
        0,
        1,
        2,
        3,
        0xdead_beef,
        (1 << 51) - 1,
        1 << 50,
        0x1234_5678_9abc,
    ];
    let mut bits = vec![
        0,
        1 << 63,
        1,
        u64::MAX,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
    ];
    for payload in payload {
        for head in [0x7ff0, 0x7ff8, 0xfff0, 0xfff8_u64] {
            bits.push(head << 48 | payload);
        }
    }
    let expected: Vec<(i64, u64)> = (0..).map(|t| t * 1_000).zip(bits.iter().copied()).collect();
    let fs = SimFs::new();
    let db = open(&fs);
    let mut appender = db.appender();
    for (timestamp, bits) in &expected {
        appender.append(
            &labels("n=a"),
            *timestamp,
            Value::Float(f64::from_bits(*bits)),
        );
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    // The same NaN again is the same sample, another one is not.
    for (bits, stored) in [(0x7ff8_0000_0000_0001, 1), (0x7ff8_0000_0000_0002, 0)] {
        let at = expected
            .iter()
            .find(|(_, b)| *b == 0x7ff8_0000_0000_0001)
            .unwrap()
            .0;
        assert_eq!(
            put(&db, &[("n=a", at, f64::from_bits(bits))]).stored,
            stored
        );
    }
    drop(db);
    let db = open(&fs);
    let places: [fn(&Tsdb); 3] = [|_| {}, |db| db.flush().unwrap(), |db| db.compact().unwrap()];
    for place in places {
        place(&db);
        assert_eq!(
            answer(&db, &[], TimeRange::ALL).unwrap()["{n=\"a\"}"],
            expected
        );
    }
}

/// Rows of the store of the tests of a full disk, in a block, in a part and in memory.
fn fill(db: &Tsdb) {
    put(db, &[("n=a", 1, 1.0), ("n=b", 2, 2.0)]);
    db.compact().unwrap();
    put(db, &[("n=a", 3, 3.0)]);
    db.flush().unwrap();
    put(db, &[("n=b", 4, 4.0), ("n=a", NOW_MS, 5.0)]);
}

/// What needs space.
type Work = fn(&Tsdb) -> Result<(), Error>;

#[test]
fn a_full_disk_fails_what_writes_and_loses_nothing() {
    let expected = [
        format!("{{n=\"a\"}} 1=1 3=3 {NOW_MS}=5"),
        "{n=\"b\"} 2=2 4=4".to_owned(),
    ];
    let works: [(&str, Work); 5] = [
        ("append", |db| {
            let mut appender = db.appender();
            appender.append(&labels("n=a"), NOW_MS + 1, Value::Float(6.0));
            appender.commit(Durability::Synced)?.wait().map(drop)
        }),
        ("flush", |db| db.flush()),
        ("compact", |db| db.compact()),
        ("delete", |db| {
            db.delete(&[Matcher::equal("n", "nobody")], TimeRange::ALL)
        }),
        ("backup", |db| db.backup("copy")),
    ];
    for (name, work) in works {
        let (mut failed, mut resumed) = (0, 0);
        for room in 0.. {
            let fs = SimFs::new();
            let db = open(&fs);
            fill(&db);
            // Counted from the beginning, as the disk does: what was written so far fits.
            let written = written(&fs);
            fs.fill_after(written + room * 20);
            let Err(error) = work(&db) else { break };
            failed += 1;
            let place = format!("{name}, room for {} bytes", room * 20);
            assert_eq!(error.kind(), Kind::Io, "{place}: {error}");
            let words = error.to_string();
            assert!(words.starts_with("cannot "), "{place}: {words}");
            assert!(
                words.contains("full") || words.contains("storage"),
                "{place}: {words}"
            );
            let found = dump(&db, &[], TimeRange::ALL);
            assert!(found[0].starts_with(&expected[0]), "{place}: {found:?}");
            assert_eq!(found[1], expected[1], "{place}");
            // Work goes on when there is space, unless the log or the catalog may be torn.
            fs.fill_after(u64::MAX);
            match work(&db) {
                Ok(()) => {
                    resumed += 1;
                    db.compact().unwrap();
                }
                Err(again) => assert_eq!(again.kind(), Kind::Poisoned, "{place}: {again}"),
            }
            for how in [Crash::Process, Crash::Power] {
                let db = open(&fs.crash(how, room));
                let found = dump(&db, &[], TimeRange::ALL);
                assert!(found[0].starts_with(&expected[0]), "{place}: {found:?}");
                assert_eq!(found[1], expected[1], "{place}");
                assert!(db.stats().damaged.is_empty(), "{place}");
                match work(&db) {
                    // It was made when there was space again.
                    Err(error) if name == "backup" => assert_eq!(error.kind(), Kind::Invalid),
                    done => done.unwrap(),
                }
                db.compact().unwrap();
            }
        }
        assert!(failed > 0, "{name} never failed");
        let stops = name == "append";
        assert_eq!(resumed == 0, stops, "{name}: {failed} {resumed}");
    }
}

/// Bytes that were written to the disk so far, whether they are still there or not.
fn written(fs: &SimFs) -> u64 {
    // The disk is full from one byte less on.
    let (mut low, mut high) = (0, 1 << 20);
    let probe = Path::new("store/probe");
    while low < high {
        let middle = (low + high) / 2;
        fs.fill_after(middle);
        match fs.create(probe).unwrap().write_all(&[]) {
            Ok(()) => high = middle,
            Err(_) => low = middle + 1,
        }
    }
    fs.remove_file(probe).unwrap();
    low
}

/// A file system that may be read and not written.
#[derive(Debug)]
struct ReadOnly {
    fs: SimFs,
    /// Whether lock files may be made.
    locks: bool,
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

impl Fs for ReadOnly {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match self.fs.list(dir) {
            Ok(_) => Ok(()),
            Err(_) => refused(),
        }
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.fs.list(dir)
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn WriteFile>> {
        refused()
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        Fs::open(&self.fs, path)
    }
    fn truncate(&self, _: &Path, _: u64) -> io::Result<()> {
        refused()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    /// Names that are there may be synced by whoever may read them.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fs.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        match self.locks {
            true => self.fs.lock(path),
            false => refused(),
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_or_read() {
    let read_only = |path: &str, fs: &SimFs, locks| {
        let fs = ReadOnly {
            fs: fs.clone(),
            locks,
        };
        Tsdb::builder(Path::new(path))
            .fs(Arc::new(fs))
            .clock(clock())
            .shared(Shared::without_workers())
            .open()
    };
    let fs = SimFs::new();
    let db = open(&fs);
    fill(&db);
    let held = dump(&db, &[], TimeRange::ALL);
    drop(db);
    let before = fs.files();
    for (path, locks, words) in [
        ("store", false, "cannot lock store: permission denied"),
        ("other", true, "cannot create other: permission denied"),
    ] {
        let error = read_only(path, &fs, locks).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (Kind::Io, words)
        );
    }
    // Where the lock may be taken everything is read and nothing is acknowledged.
    let db = read_only("store", &fs, true).unwrap();
    assert_eq!(dump(&db, &[], TimeRange::ALL), held);
    let mut appender = db.appender();
    appender.append(&labels("n=a"), NOW_MS + 1, Value::Float(1.0));
    let error = appender
        .commit(Durability::Buffered)
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    let words = error.to_string();
    assert!(words.starts_with("cannot begin store/wal/"), "{words}");
    assert!(words.ends_with("permission denied"), "{words}");
    assert_eq!(db.flush().unwrap_err().kind(), Kind::Poisoned);
    assert_eq!(db.backup("copy").unwrap_err().kind(), Kind::Poisoned);
    drop(db);
    assert_eq!(fs.files(), before);
    assert_eq!(dump(&open(&fs), &[], TimeRange::ALL), held);
}

/// Directories of the real file system.
#[test]
fn paths_that_are_no_directory_and_paths_that_are_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
    for path in [file.path().to_owned(), file.path().join("below")] {
        let error = Tsdb::open(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Io, "{error}");
        let words = error.to_string();
        assert!(words.starts_with("cannot "), "{words}");
        assert!(words.contains(&path.display().to_string()), "{words}");
        assert!(words.contains("Not a directory"), "{words}");
    }
    // What is missing above the store is made.
    let deep = dir.path().join("one/two/three");
    let db = Tsdb::open(&deep).unwrap();
    put(&db, &[("n=a", 1, 1.0)]);
    db.compact().unwrap();
    let second = Tsdb::open(&deep).unwrap_err();
    assert_eq!(second.kind(), Kind::Locked);
    let words = format!(
        "{} is in use by another process; stop it first",
        deep.display()
    );
    assert_eq!(second.to_string(), words);
    drop(db);
    let db = Tsdb::open(&deep).unwrap();
    assert_eq!(dump(&db, &[], TimeRange::ALL), ["{n=\"a\"} 1=1"]);
}

/// A block goes at the millisecond when its whole window lies before the retention.
#[test]
fn a_block_goes_when_the_retention_is_done_with_it_and_no_earlier() {
    const HOUR: i64 = 3_600_000;
    let fs = SimFs::new();
    let clock = clock();
    let config = Config {
        retention: Some(Duration::from_secs(10 * 3600)),
        ..Config::default()
    };
    let db = open_with(&fs, config, Arc::clone(&clock));
    // In the window of two hours that ends at NOW_MS - 2 * HOUR.
    put(&db, &[("n=a", NOW_MS - 3 * HOUR, 1.0)]);
    db.compact().unwrap();
    let left = |by: Duration| {
        clock.advance(by);
        db.compact().unwrap();
        db.stats().block_samples
    };
    assert_eq!(left(Duration::from_millis(8 * HOUR as u64 - 1)), 1);
    assert_eq!(left(Duration::from_millis(1)), 0);
}

#[test]
fn a_merge_leaves_out_what_the_retention_is_done_with() {
    const HOUR: i64 = 3_600_000;
    let fs = SimFs::new();
    let clock = clock();
    let config = Config {
        retention: Some(Duration::from_secs(10 * 3600)),
        ..Config::default()
    };
    let db = open_with(&fs, config, Arc::clone(&clock));
    let rows = [
        ("n=a", NOW_MS - 10 * HOUR, 1.0),
        ("n=a", NOW_MS - 9 * HOUR, 2.0),
    ];
    assert_eq!(put(&db, &rows).stored, 2);
    db.compact().unwrap();
    assert_eq!(db.stats().block_samples, 2);
    clock.advance(Duration::from_secs(1800));
    // What comes late is merged with the block of its window.
    assert_eq!(put(&db, &[("n=a", NOW_MS - 9 * HOUR + 1, 3.0)]).stored, 1);
    db.compact().unwrap();
    assert_eq!(db.stats().block_samples, 2, "the first one is too old");
}
