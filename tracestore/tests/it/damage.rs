//! Bytes on the disk that are not what was written: every one of the log and of the catalog, flipped
//! and cut.

use std::path::{Path, PathBuf};

use trine_storage::Kind;
use trine_storage::fs::Fs;
use trine_storage::sim::{Crash, SimFs};
use trine_tracestore::{Config, Span, Trace, TraceStore};

use crate::store::{clock, find_all, open, put, service, span, try_open};

/// Spans `a`, `b` and `c`, a record of the log each.
fn logged() -> (SimFs, PathBuf) {
    let fs = SimFs::new();
    let store = open(&fs);
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        put(&store, &service("s"), vec![span(id, id, 0, name, 1)]);
    }
    drop(store);
    let mut files = fs.files();
    files.retain(|path| path.starts_with("store/wal"));
    let path = files.pop().unwrap();
    (fs, path)
}

fn len(fs: &SimFs, path: &Path) -> usize {
    usize::try_from(Fs::open(fs, path).unwrap().len()).unwrap()
}

/// The store opens, and what it has is as it was; gives how many spans that are.
fn spans_left(fs: &SimFs, place: &str) -> (usize, TraceStore) {
    let store = open(fs);
    let found = find_all(&store);
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let trace = store.snapshot().trace([id; 16]).unwrap();
        let spans: Vec<&Span> = trace.iter().flat_map(Trace::spans).map(|s| s.2).collect();
        let is_there = found.iter().any(|held| held == name);
        assert_eq!(spans.len(), usize::from(is_there), "{place}: {name}");
        let expected = span(id, id, 0, name, 1);
        assert!(spans.iter().all(|held| **held == expected), "{place}");
    }
    (found.len(), store)
}

#[test]
fn a_flipped_byte_of_the_log_costs_a_record_at_most() {
    let (fs, path) = logged();
    let mut whole = 0;
    for offset in 0..len(&fs, &path) {
        let damaged = fs.crash(Crash::Process, 0);
        damaged.corrupt(&path, offset, 1 << (offset % 8));
        let place = format!("byte {offset}");
        let (left, store) = spans_left(&damaged, &place);
        assert!(left >= 2, "{place}: {left} of 3");
        // The last one looks like one that was being written.
        let is_last = !find_all(&store).contains(&"c".to_owned());
        let told = !store.stats().damaged.is_empty();
        assert!(left == 3 || is_last || told, "{place}");
        whole += usize::from(left == 3);
        put(&store, &service("s"), vec![span(4, 4, 0, "d", 1)]);
        store.flush().unwrap();
        drop(store);
        assert_eq!(find_all(&open(&damaged)).len(), left + 1, "{place}");
    }
    assert!(whole < 100, "{whole} bytes mean nothing");
}

#[test]
fn a_log_that_is_cut_anywhere_has_the_records_before() {
    let (fs, path) = logged();
    let bytes = {
        let file = Fs::open(&fs, &path).unwrap();
        let whole = 0..file.len();
        file.read(&[whole]).unwrap().remove(0)
    };
    let mut before = 0;
    for cut in 0..=bytes.len() {
        let damaged = fs.crash(Crash::Process, 0);
        let mut file = damaged.create(&path).unwrap();
        file.write_all(&bytes[..cut]).unwrap();
        file.sync().unwrap();
        let (left, _) = spans_left(&damaged, &format!("cut at {cut}"));
        assert!(left >= before, "cut at {cut}");
        before = left;
    }
    assert_eq!(before, 3);
}

#[test]
fn a_damaged_catalog_is_refused() {
    let fs = SimFs::new();
    let store = open(&fs);
    put(&store, &service("s"), vec![span(1, 1, 0, "a", 1)]);
    store.delete_trace([9; 16]).unwrap();
    drop(store);
    let path = PathBuf::from("store/catalog");
    for offset in 0..len(&fs, &path) {
        let damaged = fs.crash(Crash::Process, 0);
        damaged.corrupt(&path, offset, 1 << (offset % 8));
        let error = try_open(&damaged, Config::default(), clock()).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, Kind::Corrupt | Kind::Unsupported),
            "byte {offset}: {error}"
        );
    }
}
