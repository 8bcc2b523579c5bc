//! What the other tests share: a store on a simulated disk, and rows as plain values.

use std::sync::Arc;

use trine_logstore::{
    Batch, Builder, Config, CountBatch, Counts, Durability, LogStore, Request, RowBatch, Rows,
    Snapshot,
};
use trine_storage::clock::ManualClock;
use trine_storage::depot::Depot;
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_storage::{Labels, Matcher, Result, TimeRange};

/// When the tests take place.
pub(crate) const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// An entry as a plain value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stream: Labels,
    pub(crate) timestamp: i64,
    pub(crate) line: Vec<u8>,
    pub(crate) metadata: Labels,
}

pub(crate) fn open(fs: &SimFs, config: Config) -> Result<LogStore> {
    open_at(fs, "/store", &clock(), config)
}

/// Opens a store that does no work by itself, in the time that `clock` tells.
pub(crate) fn open_at(
    fs: &SimFs,
    path: &str,
    clock: &Arc<ManualClock>,
    config: Config,
) -> Result<LogStore> {
    builder(fs, path, clock, config).open()
}

/// As [`open_at`], with blocks that are shipped.
pub(crate) fn open_with(
    fs: &SimFs,
    clock: &Arc<ManualClock>,
    config: Config,
    depot: Arc<dyn Depot>,
) -> Result<LogStore> {
    builder(fs, "/store", clock, config).depot(depot).open()
}

fn builder(fs: &SimFs, path: &str, clock: &Arc<ManualClock>, config: Config) -> Builder {
    LogStore::builder(path)
        .config(config)
        .fs(Arc::new(fs.clone()))
        .clock(Arc::<ManualClock>::clone(clock))
        .shared(Shared::without_workers())
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW_NS))
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

pub(crate) fn append(store: &LogStore, entries: &[Entry], durability: Durability) -> Result<u64> {
    let mut appender = store.appender();
    for entry in entries {
        appender.append(&entry.stream, entry.timestamp, &entry.line, &entry.metadata);
    }
    let accepted = appender.commit(durability)?.wait()?;
    assert_eq!(accepted.rejected, []);
    Ok(accepted.stored)
}

/// The lines of all entries, the oldest first.
pub(crate) fn lines(store: &LogStore) -> Vec<String> {
    let text = |entry: Entry| String::from_utf8(entry.line).unwrap();
    let found = rows(store, everything()).unwrap();
    found.into_iter().map(text).collect()
}

/// What a snapshot holds.
pub(crate) fn rows_of(snapshot: &Snapshot, request: Rows) -> Result<Vec<Entry>> {
    let batches = batches_of(snapshot, request)?;
    Ok(batches.iter().flat_map(entries).collect())
}

pub(crate) fn batches(store: &LogStore, request: Rows) -> Result<Vec<RowBatch>> {
    batches_of(&store.snapshot(), request)
}

fn batches_of(snapshot: &Snapshot, request: Rows) -> Result<Vec<RowBatch>> {
    let batches = snapshot.scan(&Request::Rows(request))?;
    batches
        .map(|batch| match batch? {
            Batch::Rows(rows) => Ok(rows),
            Batch::Counts(_) => panic!("rows were asked for"),
        })
        .collect()
}

pub(crate) fn rows(store: &LogStore, request: Rows) -> Result<Vec<Entry>> {
    Ok(batches(store, request)?.iter().flat_map(entries).collect())
}

/// The line of a row, however it was given.
fn line(batch: &RowBatch, row: usize) -> Vec<u8> {
    let Some(skeletons) = &batch.skeletons else {
        return batch.lines.get(row).to_vec();
    };
    // In two parts: what is counted from the start of a line is tested, too.
    let (length, mut line) = (skeletons.get(row).len(), Vec::new());
    let middle = length / 2;
    skeletons.write(row, 0..middle, &mut line).unwrap();
    skeletons.write(row, middle..length, &mut line).unwrap();
    line
}

pub(crate) fn entries(batch: &RowBatch) -> Vec<Entry> {
    let count = batch.timestamps.len();
    let columns = [batch.stream.len(), batch.lines.len(), batch.metadata.len()];
    assert_eq!(columns, [count; 3], "columns are of equal length");
    (0..count)
        .map(|row| Entry {
            stream: batch.streams[batch.stream[row] as usize].clone(),
            timestamp: batch.timestamps[row],
            line: line(batch, row),
            metadata: batch.metadata_sets[batch.metadata[row] as usize].clone(),
        })
        .collect()
}

pub(crate) fn counts(store: &LogStore, request: Counts) -> Result<Vec<CountBatch>> {
    let batches = store.snapshot().scan(&Request::Counts(request))?;
    batches
        .map(|batch| match batch? {
            Batch::Counts(counts) => Ok(counts),
            Batch::Rows(_) => panic!("counts were asked for"),
        })
        .collect()
}

pub(crate) fn everything() -> Rows {
    Rows::new(Vec::<Matcher>::new(), TimeRange::ALL)
}
