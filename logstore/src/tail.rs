//! Follows a store: entries are handed to those who tail it as they are committed.
//!
//! Called by `db/append` after memory has a batch. Who tails has a queue of bounded size, in which
//! entries are put together until they are asked for; what does not fit is counted and dropped, so
//! that a slow reader holds up nobody.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use trine_storage::{Error, Kind, Labels, Matcher, Result};

use crate::columns::Columns;
use crate::filter::Filters;
use crate::request::{LineFilter, Lines, RowBatch};
use crate::wal_record::Batch;

/// The most bytes of lines and metadata that wait for one reader.
pub(crate) const TAIL_BYTES_MAX: usize = 16 << 20;

/// The most entries that are dropped of which stream and timestamp are kept for one reader.
pub(crate) const TOLD_MAX: usize = 1000;

/// Entries that were committed, and how many were not kept for a reader.
#[derive(Debug, Clone, Default)]
pub struct Tailed {
    /// Entries in the order in which they were committed.
    pub rows: RowBatch,
    /// How many more there were after them, which are dropped because too many waited.
    pub dropped: u64,
    /// Stream and timestamp of the first of those, a thousand at most.
    pub first_dropped: Vec<(Labels, i64)>,
}

/// A subscription to the entries of some streams; it ends when this is dropped.
#[derive(Debug)]
pub struct Tail {
    queue: Arc<Queue>,
    tails: Arc<Tails>,
}

/// All who tail a store.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    /// As many as `queues`, to be asked without a lock.
    count: AtomicUsize,
    queues: Mutex<Vec<Arc<Queue>>>,
}

/// What waits for one reader.
#[derive(Debug)]
pub(crate) struct Queue {
    matchers: Vec<Matcher>,
    filters: Filters,
    rows_max: usize,
    waiting: Mutex<Waiting>,
    /// Signalled when something was added and when the store is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    tailed: Tailed,
    blob: Vec<u8>,
    set_bytes: usize,
    stream_codes: HashMap<Labels, u32>,
    closed: bool,
}

/// What streams and sets of a batch are to a queue, by their codes in the batch; [`UNKNOWN`] where no
/// entry had them yet.
#[derive(Debug)]
struct Known {
    streams: Vec<u32>,
    sets: Vec<u32>,
}

const UNKNOWN: u32 = u32::MAX;

impl Tail {
    /// What was committed since the last call; `None` when nothing was. Does not wait.
    ///
    /// # Errors
    /// [`Kind::Closed`] when the store is closed and everything was given.
    pub fn try_recv(&self) -> Result<Option<Tailed>> {
        self.queue.waiting.lock().take()
    }

    /// As [`Tail::try_recv`], but waits up to `timeout` until there is something.
    ///
    /// # Errors
    /// As [`Tail::try_recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Tailed>> {
        let mut waiting = self.queue.waiting.lock();
        if waiting.is_empty() && !waiting.closed {
            self.queue.changed.wait_for(&mut waiting, timeout);
        }
        waiting.take()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut queues = self.tails.queues.lock();
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.tails.count.store(queues.len(), Ordering::Release);
    }
}

impl Tails {
    /// A new reader, for whom `rows_max` entries wait at most.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        matchers: &[Matcher],
        lines: &[LineFilter],
        rows_max: usize,
    ) -> Result<Tail> {
        let queue = Arc::new(Queue {
            matchers: matchers.to_vec(),
            filters: Filters::new(lines)?,
            rows_max,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut queues = self.queues.lock();
        queues.push(Arc::clone(&queue));
        self.count.store(queues.len(), Ordering::Release);
        drop(queues);
        let tails = Arc::clone(self);
        Ok(Tail { queue, tails })
    }

    /// Locks the queues, unless there are none. Who has committed does this before another one can,
    /// and hands over the batch with [`publish`] after letting the other one go on.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, Vec<Arc<Queue>>>> {
        let some = self.count.load(Ordering::Acquire) > 0;
        some.then(|| self.queues.lock())
    }

    /// Says that nothing more will come.
    pub(crate) fn close(&self) {
        for queue in self.queues.lock().iter() {
            queue.waiting.lock().closed = true;
            queue.changed.notify_all();
        }
    }
}

/// Hands the entries of a batch to those who asked for them.
pub(crate) fn publish(queues: &[Arc<Queue>], batch: &Batch) {
    for queue in queues {
        queue.add(batch);
    }
}

impl Queue {
    fn add(&self, batch: &Batch) {
        let matches = |labels: &Labels| self.matchers.iter().all(|m| m.matches_labels(labels));
        let selected: Vec<bool> = batch.streams.iter().map(matches).collect();
        let columns = &batch.columns;
        if self.filters.is_empty() && !selected.contains(&false) {
            self.add_runs(batch, std::iter::once(0..columns.rows()));
            return;
        }
        let is_selected = |stream: u32| selected.get(stream as usize).is_some_and(|&yes| yes);
        let streams = (0u32..).zip(&columns.streams);
        let mut rows: Vec<u32> = streams
            .filter(|(_, stream)| is_selected(**stream))
            .map(|(row, _)| row)
            .collect();
        self.filters.retain(columns.text(), &mut rows);
        if rows.is_empty() {
            return;
        }
        let neighbours = rows.chunk_by(|a, b| a + 1 == *b);
        let runs = neighbours.filter_map(|run| {
            let (first, last) = (*run.first()?, *run.last()?);
            Some(first as usize..last as usize + 1)
        });
        self.add_runs(batch, runs);
    }

    /// Adds runs of neighbouring entries: they are copied as columns.
    fn add_runs(&self, batch: &Batch, runs: impl Iterator<Item = Range<usize>>) {
        let mut waiting = self.waiting.lock();
        let mut known = Known {
            streams: vec![UNKNOWN; batch.streams.len()],
            sets: vec![UNKNOWN; batch.columns.sets.len() + 1],
        };
        for run in runs {
            // What comes after something that was dropped is dropped too, so that a reader has the
            // entries up to a moment and none after it.
            let fitting = match waiting.tailed.dropped {
                0 => waiting.fitting(&batch.columns, &run, self.rows_max),
                _ => 0,
            };
            let (taken, left) = (run.start..run.start + fitting, run.start + fitting..run.end);
            if !taken.is_empty() {
                waiting.push(batch, taken, &mut known);
            }
            if !left.is_empty() {
                waiting.drop_rows(batch, left);
            }
        }
        drop(waiting);
        self.changed.notify_all();
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.tailed.rows.timestamps.is_empty() && self.tailed.dropped == 0
    }

    /// How many entries of a run there is room for. Sets of metadata count as if all were new.
    fn fitting(&self, columns: &Columns, run: &Range<usize>, rows_max: usize) -> usize {
        let held = self.blob.len() + self.set_bytes + columns.sets.bytes();
        let room = TAIL_BYTES_MAX.saturating_sub(held) + columns.line_range(run.start).start;
        let by_bytes = columns.ends[run.clone()].partition_point(|end| *end as usize <= room);
        by_bytes.min(rows_max.saturating_sub(self.tailed.rows.timestamps.len()))
    }

    /// Adds a run of entries, of which there is at least one.
    fn push(&mut self, batch: &Batch, run: Range<usize>, known: &mut Known) {
        let columns = &batch.columns;
        let code = |len: usize| u32::try_from(len).expect("a queue holds TAIL_BYTES_MAX at most");
        let rows = &mut self.tailed.rows;
        for &stream in &columns.streams[run.clone()] {
            let place = &mut known.streams[stream as usize];
            if *place == UNKNOWN {
                let labels = &batch.streams[stream as usize];
                *place = match self.stream_codes.get(labels) {
                    Some(&stream) => stream,
                    None => {
                        let stream = code(rows.streams.len());
                        rows.streams.push(labels.clone());
                        self.stream_codes.insert(labels.clone(), stream);
                        stream
                    }
                };
            }
        }
        if rows.metadata_sets.is_empty() {
            rows.metadata_sets.push(Labels::empty());
        }
        known.sets[0] = 0;
        // What is beyond the end of the column has none.
        let coded = run.start.min(columns.metadata.len())..run.end.min(columns.metadata.len());
        let codes = &columns.metadata[coded];
        for &set in codes {
            let place = &mut known.sets[set as usize];
            if *place == UNKNOWN {
                let labels = columns.sets.labels(set);
                self.set_bytes += labels.encoded().len();
                *place = code(rows.metadata_sets.len());
                rows.metadata_sets.push(labels);
            }
        }
        let (streams, sets) = (&known.streams, &known.sets);
        let of_stream = columns.streams[run.clone()].iter();
        rows.stream
            .extend(of_stream.map(|&stream| streams[stream as usize]));
        rows.metadata
            .extend(codes.iter().map(|&set| sets[set as usize]));
        rows.timestamps
            .extend_from_slice(&columns.timestamps[run.clone()]);
        rows.metadata.resize(rows.timestamps.len(), 0);
        let bytes = columns.line_range(run.start).start..columns.line_range(run.end - 1).end;
        // Modulo 2^32, the difference is right whichever of the two is larger.
        let moved = code(self.blob.len()).wrapping_sub(code(bytes.start));
        let ends = columns.ends[run].iter();
        rows.lines
            .ends
            .extend(ends.map(|end| end.wrapping_add(moved)));
        self.blob.extend_from_slice(&columns.blob[bytes]);
    }

    fn drop_rows(&mut self, batch: &Batch, run: Range<usize>) {
        let Tailed {
            dropped,
            first_dropped: told,
            ..
        } = &mut self.tailed;
        *dropped += run.len() as u64;
        let columns = &batch.columns;
        let place = |row: usize| {
            let stream = columns.streams[row] as usize;
            (batch.streams[stream].clone(), columns.timestamps[row])
        };
        let room = TOLD_MAX - told.len();
        told.extend(run.take(room).map(place));
    }

    fn take(&mut self) -> Result<Option<Tailed>> {
        if self.is_empty() {
            return match self.closed {
                true => Err(Error::new(
                    Kind::Closed,
                    "the store that was tailed is closed",
                )),
                false => Ok(None),
            };
        }
        self.stream_codes.clear();
        self.set_bytes = 0;
        let mut tailed = std::mem::take(&mut self.tailed);
        tailed.rows.lines = Lines {
            blob: Bytes::from(std::mem::take(&mut self.blob)),
            ends: std::mem::take(&mut tailed.rows.lines.ends),
        };
        Ok(Some(tailed))
    }
}
