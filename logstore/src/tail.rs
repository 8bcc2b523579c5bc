//! Follows a store: entries are handed to those who tail it as they are committed.
//!
//! Called by `db/append` after memory has a batch. Who tails has a queue of bounded size, in which
//! entries are put together until they are asked for; what does not fit is counted and dropped, so
//! that a slow reader holds up nobody.

use std::collections::HashMap;
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

/// What streams and sets of a batch are to a queue.
#[derive(Debug, Default)]
struct Known {
    streams: Vec<Option<u32>>,
    sets: HashMap<u32, u32>,
    /// The set of the last entry: the next one often has it too.
    last_set: (u32, u32),
}

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
        let mut waiting = self.waiting.lock();
        let mut known = Known {
            streams: vec![None; batch.streams.len()],
            ..Known::default()
        };
        for (at, &row) in rows.iter().enumerate() {
            let row = row as usize;
            let labels = &batch.streams[columns.streams[row] as usize];
            // What comes after something that was dropped is dropped too, so that a reader has the
            // entries up to a moment and none after it.
            if waiting.tailed.dropped > 0 || !waiting.fits(columns, row, self.rows_max) {
                let left = rows.get(at..).unwrap_or_default();
                waiting.drop_rows(batch, left);
                break;
            }
            waiting.push(labels, columns, row, &mut known);
        }
        drop(waiting);
        self.changed.notify_all();
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.tailed.rows.timestamps.is_empty() && self.tailed.dropped == 0
    }

    fn fits(&self, columns: &Columns, row: usize, rows_max: usize) -> bool {
        let bytes = columns.line(row).len() + columns.set(row).len();
        self.tailed.rows.timestamps.len() < rows_max
            && self.blob.len() + self.set_bytes + bytes <= TAIL_BYTES_MAX
    }

    fn push(&mut self, labels: &Labels, columns: &Columns, row: usize, known: &mut Known) {
        let rows = &mut self.tailed.rows;
        let code = |len: usize| u32::try_from(len).expect("a queue holds TAIL_BYTES_MAX at most");
        let place = &mut known.streams[columns.streams[row] as usize];
        let stream = *place.get_or_insert_with(|| match self.stream_codes.get(labels) {
            Some(&stream) => stream,
            None => {
                let stream = code(rows.streams.len());
                rows.streams.push(labels.clone());
                self.stream_codes.insert(labels.clone(), stream);
                stream
            }
        });
        if rows.metadata_sets.is_empty() {
            rows.metadata_sets.push(Labels::empty());
        }
        let set = match columns.set_code(row) {
            0 => 0,
            found if known.last_set.0 == found => known.last_set.1,
            found => *known.sets.entry(found).or_insert_with(|| {
                let set = columns.sets.labels(found);
                self.set_bytes += set.encoded().len();
                rows.metadata_sets.push(set);
                code(rows.metadata_sets.len() - 1)
            }),
        };
        known.last_set = (columns.set_code(row), set);
        self.blob.extend_from_slice(columns.line(row));
        rows.stream.push(stream);
        rows.timestamps.push(columns.timestamps[row]);
        rows.lines.ends.push(code(self.blob.len()));
        rows.metadata.push(set);
    }

    fn drop_rows(&mut self, batch: &Batch, rows: &[u32]) {
        let Tailed {
            dropped,
            first_dropped: told,
            ..
        } = &mut self.tailed;
        *dropped += rows.len() as u64;
        let columns = &batch.columns;
        let place = |&row: &u32| {
            let stream = columns.streams[row as usize] as usize;
            let labels = batch.streams[stream].clone();
            (labels, columns.timestamps[row as usize])
        };
        let room = TOLD_MAX - told.len();
        told.extend(rows.iter().take(room).map(place));
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
