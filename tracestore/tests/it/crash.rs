//! The crash-conformance script, run against this engine, and cuts at the moments that matter.

use std::sync::Arc;
use std::time::Duration;

use trine_storage::fs::Fs;
use trine_storage::sim::{Crash, SimFs, Subject, check_every_cut, script};
use trine_storage::{Result, TimeRange};
use trine_tracestore::{
    Config, Durability, Intrinsic, Scope, Span, Test, Trace, TraceFilter, TraceStore, Value,
};

use crate::store::{
    SECOND, batches, clock, find_all, intrinsic, open, put, service, span, try_open,
};

/// Row `n` is span `n` of one of three traces, minutes apart, so that a seal makes several blocks.
pub(crate) struct Spans;

fn is_row(row: u64) -> Span {
    Span {
        span_id: (row + 1).to_be_bytes(),
        ..span(1 + (row % 3) as u8, 1, 0, "s", row * SECONDS)
    }
}

/// How far rows lie apart.
const SECONDS: u64 = 600;

/// When the span of a row begins, nanoseconds since 1970.
pub(crate) fn time_of(row: u64) -> i64 {
    (row * SECONDS * SECOND).cast_signed()
}

pub(crate) fn config() -> Config {
    let mut config = Config {
        block_range: Duration::from_secs(3_600),
        stage_spans_max: 7,
        ..Config::default()
    };
    // Small segments, so that crashes fall between them too.
    config.wal.segment_bytes = 200;
    config
}

impl Subject for Spans {
    type Store = TraceStore;

    fn open(&self, fs: &SimFs) -> Result<TraceStore> {
        try_open(fs, config(), clock())
    }

    fn append(&self, store: &TraceStore, rows: &[u64], durability: Durability) -> Result<()> {
        let mut appender = store.appender();
        for &row in rows {
            appender.append(&service("s"), &Arc::new(Scope::default()), is_row(row));
        }
        appender.commit(durability)?.wait().map(drop)
    }

    fn flush(&self, store: &TraceStore) -> Result<()> {
        store.flush()
    }

    fn rows(&self, store: &TraceStore) -> Result<Vec<u64>> {
        let snapshot = store.snapshot();
        let mut found = Vec::new();
        for batch in batches(&snapshot, TraceFilter::All)? {
            let rows = batch.span_ids.into_iter();
            found.extend(rows.map(|id| u64::from_be_bytes(id) - 1));
        }
        // What a search finds is what trace by id finds.
        let mut by_id = Vec::new();
        for trace in 1..=3 {
            let trace = snapshot.trace([trace; 16])?;
            for (_, _, span) in trace.iter().flat_map(Trace::spans) {
                let row = u64::from_be_bytes(span.span_id) - 1;
                assert_eq!(*span, is_row(row), "a span comes back unchanged");
                by_id.push(row);
            }
        }
        by_id.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, by_id);
        Ok(found)
    }
}

/// As [`Spans`], but everything that was sealed is merged, and something is deleted each time.
struct Compacted;

impl Subject for Compacted {
    type Store = TraceStore;

    fn open(&self, fs: &SimFs) -> Result<TraceStore> {
        Spans.open(fs)
    }

    fn append(&self, store: &TraceStore, rows: &[u64], durability: Durability) -> Result<()> {
        Spans.append(store, rows, durability)
    }

    fn flush(&self, store: &TraceStore) -> Result<()> {
        // Nothing that is appended, so that every row is still to be there.
        let none = Test::Equal(vec![Value::Str("no such span".into())]);
        store.delete(&intrinsic(Intrinsic::Name, none), TimeRange::ALL)?;
        store.delete_trace([9; 16])?;
        store.compact()
    }

    fn rows(&self, store: &TraceStore) -> Result<Vec<u64>> {
        Spans.rows(store)
    }
}

#[test]
fn every_cut_keeps_every_promise() {
    let mut cuts = 0;
    for seed in 0..2 {
        cuts += check_every_cut(&Spans, &script(seed, 10), seed);
    }
    assert!(cuts > 50, "{cuts}");
}

#[test]
fn every_cut_of_a_compaction_and_of_a_delete_keeps_every_promise() {
    let cuts = check_every_cut(&Compacted, &script(1, 8), 1);
    assert!(cuts > 50, "{cuts}");
}

/// Spans that came twice count once, which would hide a replay that doubles them, so this counts in
/// memory: after a cut between the commit of the catalog and the truncation of the log, replay
/// gives nothing.
#[test]
fn a_cut_between_catalog_and_truncation_doubles_nothing() {
    let fs = SimFs::new();
    let spans = vec![span(1, 1, 0, "a", 1), span(1, 2, 1, "b", 2)];
    put(&open(&fs), &service("s"), spans);
    let segments = |fs: &SimFs| {
        let files = fs.files();
        let segments = files.iter().filter(|p| p.starts_with("store/wal"));
        segments.count()
    };
    let catalog = |fs: &SimFs| {
        let file = Fs::open(fs, "store/catalog".as_ref()).unwrap();
        let whole = 0..file.len();
        file.read(&[whole]).unwrap()
    };
    let mut cut_there = 0;
    for cut in 0..20 {
        let disk = fs.crash(Crash::Process, 0);
        let store = open(&disk);
        disk.cut_after(disk.operations() + cut);
        store.flush().ok();
        let found = disk.crash(Crash::Process, 0);
        let committed = catalog(&found) != catalog(&fs);
        if committed && segments(&found) > 0 {
            cut_there += 1;
            let store = open(&found);
            let live = store.stats().live_spans;
            assert_eq!(live, 0, "cut {cut}: replayed what is in a block");
            assert_eq!(find_all(&store), ["a b"]);
        }
    }
    assert!(cut_there > 0);
}

#[test]
fn a_disk_that_is_full_at_any_moment_loses_nothing() {
    let run = |room: u64| {
        let fs = SimFs::new();
        let store = open(&fs);
        fs.fill_after(room);
        let mut stored = Vec::new();
        for row in 0..4u64 {
            if Spans
                .append(&store, &[2 * row, 2 * row + 1], Durability::Synced)
                .is_ok()
            {
                stored.extend([2 * row, 2 * row + 1]);
            }
            if row % 2 == 1 {
                store.compact().ok();
            }
        }
        let read = |store: &TraceStore, what: &str| {
            let found = Spans.rows(store).unwrap();
            // A batch whose append failed is there as a whole, or is not.
            assert!(
                stored.iter().all(|row| found.contains(row)),
                "{what}, room {room}"
            );
            assert!(
                found.len().is_multiple_of(2),
                "{what}, room {room}: {found:?}"
            );
        };
        read(&store, "full");
        drop(store);
        fs.fill_after(u64::MAX);
        let store = open(&fs);
        read(&store, "opened with room");
        store.compact().unwrap();
        read(&store, "merged");
        assert!(store.verify().errors.is_empty(), "room {room}");
        stored.len()
    };
    let stored: Vec<usize> = (0..120).map(|room| run(room * 73)).collect();
    assert!(stored.contains(&0) && stored.contains(&8), "{stored:?}");
    assert!(stored.iter().any(|count| (1..8).contains(count)));
}
