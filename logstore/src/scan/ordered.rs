//! Entries of all places in order of time: a merge that opens places and chunks as late as it can
//! and unpacks lines only of rows whose turn has come.
//!
//! The merge looks at timestamps alone and takes a *wave* of rows in their order; then conditions
//! and lines are looked at for the rows of the wave, chunk by chunk. Waves grow, so that a reader
//! who stops early pays for little. Where few rows pass, chunks are searched whole when the merge
//! reaches them, several at a time and, if the reader allows it, on several threads, and only rows
//! that passed are merged.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use trine_storage::{Error, Result, TimeRange};

use super::ahead::Ahead;
use super::batch::Building;
use super::unpacked::Unpacked;
use super::{Scan, Worker, spread};
use crate::request::{Batch, Direction, Rows};

/// The most entries of one batch.
const BATCH_ROWS_MAX: usize = 4096;
/// The least that a batch is made for, however small the hint.
const BATCH_ROWS_MIN: usize = 16;
/// A batch ends when its lines take this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// The most rows of one wave.
const WAVE_ROWS_MAX: usize = 16 << 10;
/// Where fewer rows than one in so many pass, chunks are searched whole.
const FEW_PASS: usize = 8;
/// After so many chunks were searched whole the scan gives control back, whatever it found.
const SEARCHED_MAX: usize = 32;
/// Lines of chunks that the merge has reached are forgotten, and unpacked again when they are
/// needed, when they take this many bytes.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Iterator over the entries that a request asks for, in order.
#[derive(Debug)]
pub(crate) struct OrderedScan {
    scan: Scan,
    request: Rows,
    workers: Vec<Worker>,
    /// What is opened when the answer reaches it.
    pending: BinaryHeap<Reverse<Pending>>,
    /// Chunks with rows left, and those that the wave still needs.
    cursors: Vec<Option<Cursor>>,
    free: Vec<usize>,
    /// The cursors with rows left, a heap by their next rows.
    heap: Vec<Head>,
    /// Rows in order: cursor, row.
    wave: Vec<(usize, u32)>,
    given: usize,
    wave_rows: usize,
    batch_rows: usize,
    /// Whether chunks are searched whole.
    is_eager: bool,
    /// How many chunks are searched at a time.
    ahead: usize,
    places_ahead: Ahead,
    chunks_ahead: Ahead,
    /// How many chunks had nothing.
    ruled_out: usize,
    errors: VecDeque<Error>,
}

/// A place, or a chunk of an open place. Times are turned so that what comes first is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    time: i64,
    /// At one time places are opened before chunks.
    chunk: Option<usize>,
    place: usize,
}

/// The next row of a cursor.
#[derive(Debug, Clone, Copy)]
struct Head {
    time: i64,
    cursor: usize,
}

/// The rows of one chunk in the order in which they are given.
#[derive(Debug)]
struct Cursor {
    unpacked: Unpacked,
    rows: Vec<u32>,
    next: usize,
    /// Whether all rows satisfy the conditions.
    is_searched: bool,
    /// Of the rows in the wave those that passed, ascending.
    passed: Vec<u32>,
}

impl Cursor {
    fn row(&self) -> Option<u32> {
        self.rows.get(self.next).copied()
    }
}

impl OrderedScan {
    pub(crate) fn new(scan: Scan, request: &Rows) -> Self {
        let hint = request.limit_hint.unwrap_or(BATCH_ROWS_MAX);
        let batch_rows = hint.clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX);
        let workers = (0..request.threads.max(1)).map(|_| scan.worker()).collect();
        let mut ordered = Self {
            request: request.clone(),
            workers,
            pending: BinaryHeap::new(),
            cursors: Vec::new(),
            free: Vec::new(),
            heap: Vec::new(),
            wave: Vec::new(),
            given: 0,
            wave_rows: batch_rows,
            batch_rows,
            is_eager: scan.spec.is_narrow() && request.limit_hint.is_none(),
            ahead: 1,
            places_ahead: scan.places_ahead(),
            chunks_ahead: scan.ahead(),
            ruled_out: 0,
            errors: VecDeque::new(),
            scan,
        };
        for number in 0..ordered.scan.places.len() {
            let range = ordered.scan.places[number].range;
            ordered.later(range, number, None);
        }
        ordered
    }

    /// Remembers to open what holds entries in `range`, when the answer reaches it.
    fn later(&mut self, range: TimeRange, place: usize, chunk: Option<usize>) {
        let wanted = self.scan.spec.range;
        if range.overlaps(&wanted) {
            let time = if self.is_forward() {
                range.start.max(wanted.start)
            } else {
                !(range.end.min(wanted.end) - 1)
            };
            self.pending.push(Reverse(Pending { time, chunk, place }));
        }
    }

    fn is_forward(&self) -> bool {
        self.request.direction != Direction::Backward
    }

    fn turned_time(&self, timestamp: i64) -> i64 {
        if self.is_forward() {
            timestamp
        } else {
            !timestamp
        }
    }

    /// Takes the rows of the next wave from the merge. False when there are no more.
    fn merge(&mut self) -> bool {
        self.tidy();
        let mut searched = 0;
        while self.wave.len() < self.wave_rows {
            let reached = |next: &Pending| self.heap.first().is_none_or(|h| next.time <= h.time);
            if self
                .pending
                .peek()
                .is_some_and(|Reverse(next)| reached(next))
            {
                if searched >= SEARCHED_MAX {
                    return true;
                }
                searched += self.open_next();
                continue;
            }
            let Some(&Head { cursor: number, .. }) = self.heap.first() else {
                break;
            };
            let Some(cursor) = self.cursors.get_mut(number).and_then(Option::as_mut) else {
                self.pop_head();
                continue;
            };
            let row = cursor.row();
            cursor.next += 1;
            let next = cursor.row().map(|row| cursor.unpacked.timestamp(row));
            self.wave.extend(row.map(|row| (number, row)));
            match next {
                Some(timestamp) => {
                    self.heap[0].time = self.turned_time(timestamp);
                    self.sift_down(0);
                }
                None => self.pop_head(),
            }
        }
        !self.wave.is_empty() || !self.errors.is_empty()
    }

    /// Lets go of what the last wave needed.
    fn tidy(&mut self) {
        self.wave.clear();
        self.given = 0;
        let mut held = 0;
        for (number, slot) in self.cursors.iter_mut().enumerate() {
            if let Some(cursor) = slot {
                if cursor.row().is_none() {
                    *slot = None;
                    self.free.push(number);
                } else {
                    held += cursor.unpacked.held_bytes();
                    cursor.passed.clear();
                }
            }
        }
        if held > HELD_BYTES_MAX {
            for cursor in self.cursors.iter_mut().flatten() {
                cursor.unpacked.forget_lines();
            }
            // What is unpacked again should at least be of use for many rows.
            self.wave_rows = WAVE_ROWS_MAX;
        }
    }

    /// Opens the next place, or the next chunks. Gives how many chunks were searched.
    fn open_next(&mut self) -> usize {
        let Some(Reverse(next)) = self.pending.pop() else {
            return 0;
        };
        let Some(chunk) = next.chunk else {
            self.fetch_places(next.place);
            if let Some(open) = self.scan.place(next.place) {
                self.is_eager |= open.is_sparse;
                let chunks = open.chunks.clone();
                for (chunk, range) in chunks {
                    self.later(range, next.place, Some(chunk));
                }
            }
            self.errors.extend(self.scan.take_error());
            return 0;
        };
        let mut chunks = vec![(next.place, chunk)];
        let most = if self.is_eager { self.ahead } else { 1 };
        while chunks.len() < most
            && let Some(Reverse(Pending {
                chunk: Some(chunk),
                place,
                ..
            })) = self.pending.peek().copied()
        {
            chunks.push((place, chunk));
            self.pending.pop();
        }
        self.ahead = (self.ahead * 2).min(SEARCHED_MAX);
        self.fetch_chunks(&chunks);
        let count = chunks.len();
        let search = match (self.is_eager, self.request.projection.lines) {
            (false, _) => Search::Later,
            (true, false) => Search::Whole,
            (true, true) => Search::WithLines,
        };
        let (scan, is_forward) = (&self.scan, self.is_forward());
        let open = |worker: &mut Worker, chunk: (usize, usize)| {
            open_chunk(scan, worker, chunk, is_forward, search)
        };
        let opened = if self.is_eager {
            spread(&mut self.workers, chunks, &open)
        } else {
            let worker = self.workers.first_mut();
            worker.map_or(Vec::new(), |worker| {
                chunks.into_iter().map(|c| open(worker, c)).collect()
            })
        };
        for result in opened {
            match result {
                Ok(Some(cursor)) => self.push_cursor(cursor),
                Ok(None) => self.ruled_out += 1,
                Err(error) => self.errors.push_back(error),
            }
        }
        self.is_eager |= self.scan.spec.is_narrow() && self.ruled_out >= FEW_PASS;
        count
    }

    /// Fetches what is needed to open `place`, and those that come next.
    fn fetch_places(&mut self, place: usize) {
        if self.scan.is_remote() {
            let count = self.places_ahead.step(1);
            let coming = self.coming(count.saturating_sub(1), |next| next.chunk.is_none());
            let coming = coming.into_iter().map(|next| next.place);
            let first = (count > 0).then_some(place);
            self.scan.fetch_places(first.into_iter().chain(coming));
        }
    }

    /// Fetches the pages of `chunks`, and of those that come next.
    fn fetch_chunks(&mut self, chunks: &[(usize, usize)]) {
        if self.scan.is_remote() {
            let count = self.chunks_ahead.step(chunks.len());
            let coming = self.coming(count.saturating_sub(chunks.len()), |n| n.chunk.is_some());
            let coming = coming.into_iter();
            let coming = coming.filter_map(|next| Some((next.place, next.chunk?)));
            let mut fetched: Vec<(usize, usize)> = match count {
                0 => Vec::new(),
                _ => chunks.iter().copied().chain(coming).collect(),
            };
            fetched.sort_unstable();
            self.scan.fetch_chunks(fetched);
        }
    }

    /// What is opened next, `count` at most.
    fn coming(&self, count: usize, is_meant: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        if count == 0 {
            return Vec::new();
        }
        let pending = self.pending.iter().map(|Reverse(next)| *next);
        let mut pending: Vec<Pending> = pending.filter(is_meant).collect();
        if pending.len() > count {
            pending.select_nth_unstable(count);
            pending.truncate(count);
        }
        pending
    }

    fn push_cursor(&mut self, cursor: Cursor) {
        let Some(row) = cursor.row() else { return };
        let time = self.turned_time(cursor.unpacked.timestamp(row));
        let number = self.free.pop().unwrap_or_else(|| {
            self.cursors.push(None);
            self.cursors.len() - 1
        });
        self.cursors[number] = Some(cursor);
        self.heap.push(Head {
            time,
            cursor: number,
        });
        self.sift_up(self.heap.len() - 1);
    }

    /// Looks at the conditions and unpacks what is wanted of the rows in the wave.
    fn search_wave(&mut self) {
        let mut by_cursor: Vec<Vec<u32>> = Vec::new();
        by_cursor.resize_with(self.cursors.len(), Vec::new);
        for &(cursor, row) in &self.wave {
            if let Some(rows) = by_cursor.get_mut(cursor) {
                rows.push(row);
            }
        }
        let mut items = Vec::new();
        for (number, mut rows) in by_cursor.into_iter().enumerate() {
            if !rows.is_empty()
                && let Some(cursor) = self.cursors.get_mut(number).and_then(Option::take)
            {
                rows.sort_unstable();
                items.push((number, cursor, rows));
            }
        }
        let (scan, projection) = (&self.scan, self.request.projection);
        let work = |worker: &mut Worker,
                    (number, mut cursor, mut rows): (usize, Cursor, Vec<u32>)| {
            let searched = search(scan, worker, &mut cursor, &mut rows, projection);
            let failed = searched.err();
            if failed.is_some() {
                // One error tells of the chunk; its other rows are not tried.
                cursor.rows.truncate(cursor.next);
                rows.clear();
            }
            cursor.passed = rows;
            (number, cursor, failed)
        };
        let mut passed = 0;
        for (number, cursor, failed) in spread(&mut self.workers, items, &work) {
            if let Some(error) = failed {
                self.errors.push_back(error);
                self.heap.retain(|head| head.cursor != number);
                (0..self.heap.len() / 2)
                    .rev()
                    .for_each(|at| self.sift_down(at));
            }
            passed += cursor.passed.len();
            if let Some(slot) = self.cursors.get_mut(number) {
                *slot = Some(cursor);
            }
        }
        if self.scan.spec.is_narrow() && !self.is_eager {
            self.is_eager = passed * FEW_PASS < self.wave.len();
            self.wave_rows = (2 * self.wave_rows).min(WAVE_ROWS_MAX);
        }
    }

    /// The next rows of the wave as a batch; it may be empty.
    fn give(&mut self) -> Result<Batch> {
        let mut batch = Building::new(self.request.projection);
        while let Some(&(number, row)) = self.wave.get(self.given)
            && batch.rows() < self.batch_rows
            && batch.bytes() < BATCH_BYTES
        {
            self.given += 1;
            if let Some(Some(cursor)) = self.cursors.get(number)
                && cursor.passed.binary_search(&row).is_ok()
                && let Some(open) = self.scan.place(cursor.unpacked.place)
            {
                batch.push(open, &cursor.unpacked, row)?;
            }
        }
        Ok(Batch::Rows(batch.finish()))
    }

    /// Which of two cursors gives the next row.
    fn order(&self, a: Head, b: Head) -> Ordering {
        a.time.cmp(&b.time).then_with(|| {
            let cursors = (self.cursors.get(a.cursor), self.cursors.get(b.cursor));
            let (Some(Some(a)), Some(Some(b))) = cursors else {
                return Ordering::Equal;
            };
            let (Some(row_a), Some(row_b)) = (a.row(), b.row()) else {
                return Ordering::Equal;
            };
            let arrival = |of: &Unpacked, row: u32| (of.place, of.chunk, row);
            let by_arrival = arrival(&a.unpacked, row_a).cmp(&arrival(&b.unpacked, row_b));
            order_of_streams(&self.scan, (&a.unpacked, row_a), (&b.unpacked, row_b)).then(
                if self.is_forward() {
                    by_arrival
                } else {
                    by_arrival.reverse()
                },
            )
        })
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        match (self.heap.get(a), self.heap.get(b)) {
            (Some(&a), Some(&b)) => self.order(a, b).is_lt(),
            _ => false,
        }
    }

    fn pop_head(&mut self) {
        if !self.heap.is_empty() {
            self.heap.swap_remove(0);
            self.sift_down(0);
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let least = if self.is_before(right, left) {
                right
            } else {
                left
            };
            if !self.is_before(least, at) {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 && self.is_before(at, (at - 1) / 2) {
            self.heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }
}

/// When a chunk that the merge has reached is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// When the turn of its rows has come.
    Later,
    /// At once.
    Whole,
    /// At once, and its lines are wanted.
    WithLines,
}

/// The rows of a chunk in the order in which they are given: those that may be wanted, or, if it is
/// searched, those that are.
fn open_chunk(
    scan: &Scan,
    worker: &mut Worker,
    (place, chunk): (usize, usize),
    is_forward: bool,
    search: Search,
) -> Result<Option<Cursor>> {
    let is_searched = search != Search::Later;
    let Some((mut unpacked, mut rows)) = scan.candidates(place, chunk)? else {
        return Ok(None);
    };
    if is_searched {
        scan.retain(worker, &mut unpacked, &mut rows)?;
        if rows.is_empty() {
            return Ok(None);
        }
        if let Some(open) = scan.place(place).filter(|_| search == Search::WithLines) {
            unpacked.load_lines(open, &rows)?;
        }
        unpacked.forget_packed();
    }
    if !unpacked.is_one_run() {
        rows.sort_by(|&a, &b| {
            let times = unpacked.timestamp(a).cmp(&unpacked.timestamp(b));
            let times = if is_forward { times } else { times.reverse() };
            let streams = || order_of_streams(scan, (&unpacked, a), (&unpacked, b));
            let arrival = if is_forward { a.cmp(&b) } else { b.cmp(&a) };
            times.then_with(streams).then(arrival)
        });
    } else if !is_forward {
        rows.reverse();
    }
    Ok(Some(Cursor {
        unpacked,
        rows,
        next: 0,
        is_searched,
        passed: Vec::new(),
    }))
}

/// Keeps those rows of a wave that satisfy the conditions and unpacks what is wanted of them.
fn search(
    scan: &Scan,
    worker: &mut Worker,
    cursor: &mut Cursor,
    rows: &mut Vec<u32>,
    projection: crate::request::Projection,
) -> Result<()> {
    if !cursor.is_searched {
        scan.retain(worker, &mut cursor.unpacked, rows)?;
    }
    if let Some(open) = scan
        .place(cursor.unpacked.place)
        .filter(|_| !rows.is_empty())
    {
        if projection.lines {
            cursor.unpacked.load_lines(open, rows)?;
        }
        if projection.metadata {
            cursor.unpacked.load_metadata(open, rows)?;
        }
    }
    Ok(())
}

/// Entries of one instant come in the order of their streams' labels.
fn order_of_streams(
    scan: &Scan,
    (a, row_a): (&Unpacked, u32),
    (b, row_b): (&Unpacked, u32),
) -> Ordering {
    let (stream_a, stream_b) = (a.stream(row_a), b.stream(row_b));
    if a.place == b.place && stream_a == stream_b {
        return Ordering::Equal;
    }
    let labels = |of: &Unpacked, stream| {
        let open = scan.place(of.place);
        open.and_then(|open| open.labels(stream).ok())
            .unwrap_or_default()
    };
    labels(a, stream_a).cmp(&labels(b, stream_b))
}

impl Iterator for OrderedScan {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.errors.pop_front() {
            return Some(Err(error));
        }
        if self.given >= self.wave.len() {
            if !self.merge() {
                return None;
            }
            self.search_wave();
            if let Some(error) = self.errors.pop_front() {
                return Some(Err(error));
            }
        }
        Some(self.give())
    }
}
