//! The crash-conformance script, run against this engine.

use std::path::Path;
use std::sync::Arc;

use trine_storage::fs::Fs;
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, SimFs, Subject, check_every_cut, script};
use trine_storage::{Result, TimeRange};
use trine_tracestore::{Config, Durability, Request, Rows, Scope, Trace, TraceStore};

use crate::store::{clock, find, open, put, service, span};

/// Row `n` is span `n` of one of three traces, minutes apart, so that a seal makes several blocks.
struct Spans;

impl Subject for Spans {
    type Store = TraceStore;

    fn open(&self, fs: &SimFs) -> Result<TraceStore> {
        let mut config = Config::default();
        config.wal.segment_bytes = 200;
        TraceStore::builder(Path::new("store"))
            .config(config)
            .fs(Arc::new(fs.clone()))
            .clock(clock())
            .shared(Shared::without_workers())
            .open()
    }

    fn append(&self, store: &TraceStore, rows: &[u64], durability: Durability) -> Result<()> {
        let mut appender = store.appender();
        for &row in rows {
            let mut span = span(1 + (row % 3) as u8, 1, 0, "s", row * 600);
            span.span_id = (row + 1).to_be_bytes();
            appender.append(&service("s"), &Arc::new(Scope::default()), span);
        }
        appender.commit(durability)?.wait().map(drop)
    }

    fn flush(&self, store: &TraceStore) -> Result<()> {
        store.flush()
    }

    fn rows(&self, store: &TraceStore) -> Result<Vec<u64>> {
        let rows = Rows {
            range: TimeRange::ALL,
            conditions: vec![],
            all: true,
            projection: vec![],
        };
        let mut found = Vec::new();
        for batch in store.snapshot().spans(&Request::Rows(rows))? {
            found.extend(
                batch?
                    .span_ids
                    .into_iter()
                    .map(|id| u64::from_be_bytes(id) - 1),
            );
        }
        // What a search finds is what trace by id finds.
        let mut by_id = Vec::new();
        for trace in 1..=3 {
            for (_, _, span) in store
                .snapshot()
                .trace([trace; 16])?
                .iter()
                .flat_map(Trace::spans)
            {
                by_id.push(u64::from_be_bytes(span.span_id) - 1);
            }
        }
        by_id.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, by_id);
        Ok(found)
    }
}

#[test]
fn every_cut_keeps_every_promise() {
    let mut cuts = 0;
    for seed in 0..8 {
        cuts += check_every_cut(&Spans, &script(seed, 14), seed);
    }
    assert!(cuts > 100, "{cuts}");
}

/// Spans that came twice count once, which would hide a replay that doubles them, so this counts in
/// memory: after a cut between the commit of the catalog and the truncation of the log, replay
/// gives nothing.
#[test]
fn a_cut_between_catalog_and_truncation_doubles_nothing() {
    let fs = SimFs::new();
    put(
        &open(&fs),
        &service("s"),
        vec![span(1, 1, 0, "a", 1), span(1, 2, 1, "b", 2)],
    );
    let segments = |fs: &SimFs| {
        fs.files()
            .iter()
            .filter(|p| p.starts_with("store/wal"))
            .count()
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
            assert_eq!(
                store.stats().live_spans,
                0,
                "cut {cut}: replayed what is in a block"
            );
            assert_eq!(find(&store, vec![], true), ["a b"]);
        }
    }
    assert!(cut_there > 0);
}
