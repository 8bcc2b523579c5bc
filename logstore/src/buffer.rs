//! Memory: the entries that are not in a block yet.
//!
//! Entries lie in *pages* of columns in the order in which they came. A full page never changes
//! again, so that a reader shares it; only the open page is copied. Because entries are only ever
//! added, a reader's view is simply how many there were.
//!
//! An entry that is newer than all of its stream cannot be there already. Only when the first comes
//! that is not newer, every entry is hashed and from then on looked up ([`known`]).

use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use trine_storage::shared::Account;
use trine_storage::{Labels, Matcher, TimeRange};

use crate::columns::Columns;
use crate::sets::SetCodes;
use crate::wal_record::Batch;
use known::Known;
use streams::Streams;

mod known;
mod streams;

/// A page is closed when its lines and metadata take this many bytes ...
const PAGE_BYTES: usize = 256 << 10;
/// ... or when it has this many entries.
pub(crate) const PAGE_ROWS: usize = 8 << 10;
/// Entries that are copied at once when their metadata is large.
const STEP_ROWS: usize = 16;
/// What a stream costs beside its labels: its places in tables and in the index, its range.
const STREAM_BYTES: usize = 128;
/// What an entry costs beside its line: its columns and its place among the known hashes.
const ROW_BYTES: usize = 20 + Known::ENTRY_BYTES;
/// What a distinct set of metadata costs beside its labels.
const SET_BYTES: usize = 16;
/// The code of a set that is not in the open page.
const NOT_HERE: u32 = u32::MAX;

/// The buffer. Appended to under the store's order lock, read at any time.
#[derive(Debug)]
pub(crate) struct Buffer {
    inner: RwLock<Inner>,
    account: Account,
}

#[derive(Debug, Default)]
struct Inner {
    streams: Streams,
    full: Vec<Page>,
    open: Columns,
    /// Codes of the sets in the open page.
    open_sets: SetCodes,
    /// `None` as long as every entry was newer than those of its stream before it.
    known: Option<Known>,
    rows: u64,
    /// Bytes of the pages that are full.
    full_bytes: usize,
    range: Option<TimeRange>,
    since_ns: Option<i64>,
}

/// Entries that never change again.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) columns: Arc<Columns>,
    /// From the first to the last timestamp.
    pub(crate) range: TimeRange,
    /// Entries in the pages before.
    before: u64,
}

/// How many bytes a batch adds to a buffer, about; what the memory budget is asked for.
pub(crate) fn batch_bytes(batch: &Batch) -> u64 {
    let of_stream = |labels: &Labels| STREAM_BYTES + labels.heap_bytes();
    let streams: usize = batch.streams.iter().map(of_stream).sum();
    let sets = batch.columns.sets.bytes() + SET_BYTES * batch.columns.sets.len();
    let rows = batch.columns.blob.len() + ROW_BYTES * batch.columns.rows();
    (streams + sets + rows) as u64
}

/// The entries of a buffer that a snapshot sees: the first `rows`.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) buffer: Arc<Buffer>,
    rows: u64,
}

/// Figures of a buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) streams: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// When the first entry came, nanoseconds since 1970.
    pub(crate) since_ns: Option<i64>,
}

impl Buffer {
    pub(crate) fn new(account: Account) -> Self {
        Self {
            inner: RwLock::default(),
            account,
        }
    }

    /// Adds a batch that came at `now_ns`. An entry that is there already, byte for byte, is not
    /// added again.
    pub(crate) fn apply(&self, batch: &Batch, now_ns: i64) {
        let mut inner = self.inner.write();
        inner.apply(batch);
        inner.since_ns.get_or_insert(now_ns);
        self.account.set(inner.bytes() as u64);
    }

    /// The entries that are there now.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        View {
            buffer: Arc::clone(self),
            rows: self.inner.read().rows,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.read().rows == 0
    }

    pub(crate) fn figures(&self) -> Figures {
        let inner = self.inner.read();
        Figures {
            streams: inner.streams.len() as u64,
            rows: inner.rows,
            bytes: inner.bytes() as u64,
            since_ns: inner.since_ns,
        }
    }
}

impl View {
    /// From the first to the last timestamp; may be wider than the entries of this view.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        self.buffer.inner.read().range.filter(|_| self.rows > 0)
    }

    /// Codes of the streams that satisfy `matchers`.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        self.buffer.inner.read().streams.index.select(matchers)
    }

    /// The labels of each stream code.
    pub(crate) fn streams(&self) -> Vec<Labels> {
        self.buffer.inner.read().streams.labels.clone()
    }

    /// The labels of a stream; the empty set for a code that there is not.
    pub(crate) fn labels(&self, stream: u32) -> Labels {
        let inner = self.buffer.inner.read();
        let labels = inner.streams.labels.get(stream as usize);
        labels.cloned().unwrap_or_default()
    }

    /// The labels of those of `codes` that there are, in order.
    pub(crate) fn labels_of(&self, codes: &RoaringBitmap) -> Vec<(u32, Labels)> {
        let inner = self.buffer.inner.read();
        let labels = |code| Some((code, inner.streams.labels.get(code as usize)?.clone()));
        codes.iter().filter_map(labels).collect()
    }

    /// The labels of those of `codes` that may have entries in `range`, in order, and from the first
    /// to the last timestamp of each; may be wider than the entries of this view.
    pub(crate) fn held_in(
        &self,
        range: TimeRange,
        codes: &RoaringBitmap,
    ) -> Vec<(Labels, TimeRange)> {
        let inner = self.buffer.inner.read();
        let Streams { labels, ranges, .. } = &inner.streams;
        let held = |code: u32| {
            let held = ranges.get(code as usize).filter(|r| r.overlaps(&range))?;
            Some((labels.get(code as usize)?.clone(), *held))
        };
        codes.iter().filter_map(held).collect()
    }

    /// From the first to the last timestamp of each stream; may be wider than the entries of this
    /// view.
    pub(crate) fn stream_ranges(&self) -> Vec<TimeRange> {
        self.buffer.inner.read().streams.ranges.clone()
    }

    /// The entries, in pages, in the order in which they came.
    pub(crate) fn pages(&self) -> Vec<Page> {
        let inner = self.buffer.inner.read();
        let whole = |page: &&Page| page.before + page.columns.rows() as u64 <= self.rows;
        let mut pages: Vec<Page> = inner.full.iter().take_while(whole).cloned().collect();
        let before = pages
            .last()
            .map_or(0, |page| page.before + page.columns.rows() as u64);
        let left = usize::try_from(self.rows - before).unwrap_or(usize::MAX);
        let next = inner.full.get(pages.len());
        let next = next.map_or(&inner.open, |page| &*page.columns);
        pages.extend(first_rows(next, left).and_then(|columns| Page::new(columns, before)));
        pages
    }
}

/// A copy of the first `rows` entries of a page; `None` when there are none.
fn first_rows(page: &Columns, rows: usize) -> Option<Columns> {
    let end = page.ends.get(rows.checked_sub(1)?).copied()? as usize;
    Some(Columns {
        timestamps: page.timestamps[..rows].to_vec(),
        streams: page.streams[..rows].to_vec(),
        blob: page.blob[..end].to_vec(),
        ends: page.ends[..rows].to_vec(),
        metadata: page.metadata[..rows.min(page.metadata.len())].to_vec(),
        sets: page.sets.clone(),
    })
}

impl Page {
    /// `None` when there are no entries.
    fn new(columns: Columns, before: u64) -> Option<Self> {
        let range = columns.range()?;
        Some(Self {
            columns: Arc::new(columns),
            range,
            before,
        })
    }
}

/// A batch that is being copied, with what its codes are in the buffer.
struct Copying<'a> {
    columns: &'a Columns,
    streams: Vec<u32>,
    /// By the code of a set its code in the open page.
    sets: Vec<u32>,
}

impl Inner {
    fn apply(&mut self, batch: &Batch) {
        let columns = &batch.columns;
        let streams = batch.streams.iter().map(|labels| self.streams.code(labels));
        let mut from = Copying {
            columns,
            streams: streams.collect(),
            sets: vec![NOT_HERE; columns.sets.len() + 1],
        };
        let mut row = 0;
        if self.known.is_none() {
            row = self.streams.note_newer(columns, &from.streams);
            self.copy(&mut from, 0..row);
            if row == columns.rows() {
                return;
            }
            self.known = Some(Known::of(&self.full, &self.open));
        }
        // All hashes first: then look-ups, which wait for memory, wait together.
        let hashes = known::hashes(columns, row, &from.streams);
        let mut first = row;
        for (row, hash) in (row..).zip(hashes) {
            if self.is_new(&from, first..row, hash) {
                let stream = from.streams[columns.streams[row] as usize];
                self.streams.note(stream, columns.timestamps[row]);
            } else {
                self.copy(&mut from, first..row);
                first = row + 1;
            }
        }
        self.copy(&mut from, first..columns.rows());
    }

    /// Whether the entry after `staged` is not here yet; it is known from now on. The entries
    /// `staged` are new and will be copied next.
    fn is_new(&mut self, from: &Copying<'_>, staged: Range<usize>, hash: u64) -> bool {
        let (columns, row, copied) = (from.columns, staged.end, self.rows);
        let stream = |row: usize| from.streams[columns.streams[row] as usize];
        let number = u32::try_from(copied + staged.len() as u64);
        let number = number.expect("the memory budget ends long before");
        let (full, open) = (&self.full, &self.open);
        let same = |number: u32| {
            let after = u64::from(number).checked_sub(copied);
            let (page, known, known_stream) = match after {
                Some(after) => {
                    let known = staged.start + after as usize;
                    (columns, known, stream(known))
                }
                None => {
                    let (page, known) = at(full, open, number);
                    (page, known, page.streams[known])
                }
            };
            page.timestamps[known] == columns.timestamps[row]
                && known_stream == stream(row)
                && page.line(known) == columns.line(row)
                && page.set(known) == columns.set(row)
        };
        let known = self.known.as_mut();
        known.is_none_or(|known| known.insert(hash, number, same))
    }

    /// Copies entries of a batch into the open page, and into new ones when it is full.
    fn copy(&mut self, from: &mut Copying<'_>, rows: Range<usize>) {
        let columns = from.columns;
        let large_sets = columns.sets.bytes() >= PAGE_BYTES / 4;
        let step_max = if large_sets { STEP_ROWS } else { PAGE_ROWS };
        let mut start = rows.start;
        while start < rows.end {
            let held = self.open.blob.len() + self.open.sets.bytes();
            let room = PAGE_BYTES.saturating_sub(held) + columns.line_range(start).start;
            let step = step_max.min(PAGE_ROWS - self.open.rows());
            let ends = &columns.ends[start..rows.end.min(start + step)];
            let fitting = ends.partition_point(|&end| end as usize <= room);
            if fitting == 0 && self.open.rows() > 0 {
                self.close_page();
                from.sets.fill(NOT_HERE);
                continue;
            }
            // A page that is empty takes any line.
            let end = start + fitting.max(1);
            self.open.extend(columns, start..end, &from.streams);
            self.copy_sets(from, start..end);
            let range = columns.range_of(start..end);
            self.range = self.range.map_or(range, |held| {
                range.map_or(Some(held), |range| Some(held.union(&range)))
            });
            self.rows += (end - start) as u64;
            start = end;
        }
    }

    /// Copies the metadata of entries that were just copied.
    fn copy_sets(&mut self, from: &mut Copying<'_>, rows: Range<usize>) {
        let columns = from.columns;
        let with = rows.start..rows.end.min(columns.metadata.len());
        if with.is_empty() {
            return;
        }
        let before = self.open.rows() - rows.len();
        self.open.metadata.resize(before, 0);
        for &code in &columns.metadata[with] {
            let here = &mut from.sets[code as usize];
            if *here == NOT_HERE {
                let encoded = columns.sets.encoded(code);
                *here = self.open_sets.code(&mut self.open.sets, encoded);
            }
            self.open.metadata.push(*here);
        }
    }

    fn close_page(&mut self) {
        let mut columns = std::mem::take(&mut self.open);
        columns.shrink();
        self.full_bytes += columns.heap_bytes() + size_of::<Page>();
        let before = self.rows - columns.rows() as u64;
        self.full.extend(Page::new(columns, before));
        self.open_sets.clear();
        // A buffer that has filled a page will fill another, with lines of about the same length.
        let rows = self.full.last().map_or(0, |page| page.columns.rows());
        self.open.reserve_exact(rows + rows / 16, PAGE_BYTES);
    }

    /// Bytes on the heap.
    fn bytes(&self) -> usize {
        let known = self.known.as_ref().map_or(0, Known::heap_bytes);
        self.full_bytes + self.open.heap_bytes() + self.streams.heap_bytes() + known
    }
}

/// The page and the row there of the entry with this number.
fn at<'a>(full: &'a [Page], open: &'a Columns, number: u32) -> (&'a Columns, usize) {
    let number = u64::from(number);
    let pages = full.partition_point(|page| page.before <= number);
    let last = pages.checked_sub(1).and_then(|last| full.get(last));
    let columns = last.map_or(0, |page| page.columns.rows() as u64);
    let before = last.map_or(0, |page| page.before);
    match last {
        Some(page) if number - before < columns => (&page.columns, (number - before) as usize),
        _ => (open, (number - before - columns) as usize),
    }
}

#[cfg(test)]
mod tests;
