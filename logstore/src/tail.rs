//! Follows a store: entries are handed to those who tail it as they are committed.
//!
//! Called by `db/append` after memory has a batch. Who tails has a queue of bounded size; what does not
//! fit is counted and dropped, so that a slow reader holds up nobody. Who wants all of a batch gets
//! the batch itself, which costs those who append nothing; of others the entries are put together.

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
    /// Entries in the order in which they were committed, in one batch or several.
    pub rows: Vec<RowBatch>,
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
    held: Held,
    /// Entries that `held` has, and bytes of their lines and metadata.
    rows: usize,
    bytes: usize,
    closed: bool,
}

/// What a reader is given.
#[derive(Debug, Default)]
struct Held {
    pieces: Vec<Piece>,
    dropped: u64,
    first_dropped: Vec<(Labels, i64)>,
}

#[derive(Debug)]
enum Piece {
    Gathered(Box<Gathered>),
    /// A batch, and how many of its entries, from the first on.
    Shared(Arc<Batch>, usize),
}

/// Entries of several batches as columns.
#[derive(Debug, Default)]
struct Gathered {
    rows: RowBatch,
    blob: Vec<u8>,
    stream_codes: HashMap<Labels, u32>,
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
        let held = self.queue.waiting.lock().take()?;
        Ok(held.map(Held::put_together))
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
        let held = waiting.take()?;
        drop(waiting);
        Ok(held.map(Held::put_together))
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

/// Hands the entries of a batch to those who asked for them. The batch is empty then if somebody
/// keeps it, with as much room as it had.
pub(crate) fn publish(queues: &[Arc<Queue>], batch: &mut Batch) {
    let selected: Vec<Vec<bool>> = queues.iter().map(|queue| queue.selected(batch)).collect();
    let with_all = || queues.iter().zip(&selected);
    if batch.is_compact() && with_all().any(|(queue, selected)| queue.wants_all(selected)) {
        let room = Batch::with_room_of(batch);
        let shared = Arc::new(std::mem::replace(batch, room));
        for (queue, selected) in with_all() {
            match queue.wants_all(selected) {
                true => queue.share(&shared),
                false => queue.add(&shared, selected),
            }
        }
        return;
    }
    for (queue, selected) in with_all() {
        queue.add(batch, selected);
    }
}

impl Queue {
    /// For each stream of a batch whether it is wanted.
    fn selected(&self, batch: &Batch) -> Vec<bool> {
        let matches = |labels: &Labels| self.matchers.iter().all(|m| m.matches_labels(labels));
        batch.streams.iter().map(matches).collect()
    }

    fn wants_all(&self, selected: &[bool]) -> bool {
        self.filters.is_empty() && !selected.contains(&false)
    }

    /// Adds all of a batch.
    fn share(&self, batch: &Arc<Batch>) {
        let mut waiting = self.waiting.lock();
        let columns = &batch.columns;
        let run = 0..columns.rows();
        let fitting = waiting.take_room(columns, &run, self.rows_max);
        if fitting > 0 {
            let shared = Piece::Shared(Arc::clone(batch), fitting);
            waiting.held.pieces.push(shared);
        }
        if fitting < run.end {
            waiting.held.drop_rows(batch, fitting..run.end);
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Adds entries of the selected streams that the filters let through.
    fn add(&self, batch: &Batch, selected: &[bool]) {
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
        let mut known = Known::of(batch);
        let mut waiting = self.waiting.lock();
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            let (Some(&first), Some(&last)) = (run.first(), run.last()) else {
                continue;
            };
            let run = first as usize..last as usize + 1;
            let end = run.start + waiting.take_room(columns, &run, self.rows_max);
            if end > run.start {
                waiting.held.gather(batch, run.start..end, &mut known);
            }
            if end < run.end {
                waiting.held.drop_rows(batch, end..run.end);
            }
        }
        drop(waiting);
        self.changed.notify_all();
    }
}

impl Known {
    fn of(batch: &Batch) -> Self {
        Self {
            streams: vec![UNKNOWN; batch.streams.len()],
            sets: vec![UNKNOWN; batch.columns.sets.len() + 1],
        }
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.rows == 0 && self.held.dropped == 0
    }

    /// Takes room for entries of a run, from the first on, and says for how many. Of a whole
    /// batch each set of metadata counts once.
    fn take_room(&mut self, columns: &Columns, run: &Range<usize>, rows_max: usize) -> usize {
        // What comes after something that was dropped is dropped too, so that a reader has the
        // entries up to a moment and none after it.
        if self.held.dropped > 0 {
            return 0;
        }
        let sets = columns.sets.bytes();
        let sets = match run.len() == columns.rows() {
            true => sets,
            false => run
                .clone()
                .map(|row| columns.set(row).len())
                .sum::<usize>()
                .min(sets),
        };
        let start = columns.line_range(run.start).start;
        let room = TAIL_BYTES_MAX.saturating_sub(self.bytes + sets);
        let ends = &columns.ends[run.clone()];
        let by_bytes = ends.partition_point(|end| *end as usize - start <= room);
        let fitting = by_bytes.min(rows_max.saturating_sub(self.rows));
        if let Some(last) = fitting.checked_sub(1) {
            self.rows += fitting;
            self.bytes += sets + ends[last] as usize - start;
        }
        fitting
    }

    fn take(&mut self) -> Result<Option<Held>> {
        if self.is_empty() {
            return match self.closed {
                true => Err(Error::new(
                    Kind::Closed,
                    "the store that was tailed is closed",
                )),
                false => Ok(None),
            };
        }
        (self.rows, self.bytes) = (0, 0);
        Ok(Some(std::mem::take(&mut self.held)))
    }
}

impl Held {
    fn gather(&mut self, batch: &Batch, run: Range<usize>, known: &mut Known) {
        if !matches!(self.pieces.last(), Some(Piece::Gathered(_))) {
            self.pieces.push(Piece::Gathered(Box::default()));
        }
        if let Some(Piece::Gathered(gathered)) = self.pieces.last_mut() {
            gathered.push(batch, run, known);
        }
    }

    fn drop_rows(&mut self, batch: &Batch, run: Range<usize>) {
        self.dropped += run.len() as u64;
        let columns = &batch.columns;
        let place = |row: usize| {
            let stream = columns.streams[row] as usize;
            (batch.streams[stream].clone(), columns.timestamps[row])
        };
        let room = TOLD_MAX - self.first_dropped.len();
        self.first_dropped.extend(run.take(room).map(place));
    }

    fn put_together(self) -> Tailed {
        Tailed {
            rows: self.pieces.into_iter().map(Piece::into_rows).collect(),
            dropped: self.dropped,
            first_dropped: self.first_dropped,
        }
    }
}

impl Piece {
    /// Moves what nobody else has, copies what somebody has.
    fn into_rows(self) -> RowBatch {
        let (batch, rows) = match self {
            Self::Gathered(gathered) => {
                let Gathered { mut rows, blob, .. } = *gathered;
                rows.lines.blob = Bytes::from(blob);
                return rows;
            }
            Self::Shared(batch, rows) => (Arc::unwrap_or_clone(batch), rows),
        };
        let Batch { streams, columns } = batch;
        let sets = 1..=u32::try_from(columns.sets.len()).unwrap_or(u32::MAX);
        let sets = sets.map(|code| columns.sets.labels(code));
        let metadata_sets = std::iter::once(Labels::empty()).chain(sets).collect();
        let (mut stream, mut timestamps) = (columns.streams, columns.timestamps);
        let (mut ends, mut metadata) = (columns.ends, columns.metadata);
        stream.truncate(rows);
        timestamps.truncate(rows);
        ends.truncate(rows);
        metadata.resize(rows, 0);
        let mut blob = Bytes::from(columns.blob);
        blob.truncate(ends.last().map_or(0, |end| *end as usize));
        RowBatch {
            streams,
            stream,
            timestamps,
            lines: Lines { blob, ends },
            metadata_sets,
            metadata,
            ..RowBatch::default()
        }
    }
}

impl Gathered {
    /// Adds a run of entries, of which there is at least one, as columns.
    fn push(&mut self, batch: &Batch, run: Range<usize>, known: &mut Known) {
        let columns = &batch.columns;
        let code = |len: usize| u32::try_from(len).expect("a queue holds TAIL_BYTES_MAX at most");
        let rows = &mut self.rows;
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
                *place = code(rows.metadata_sets.len());
                rows.metadata_sets.push(columns.sets.labels(set));
            }
        }
        let (streams, sets) = (&known.streams, &known.sets);
        let of_run = columns.streams[run.clone()].iter();
        rows.stream
            .extend(of_run.map(|&stream| streams[stream as usize]));
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
}
