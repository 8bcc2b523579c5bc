//! Memory: the entries that are not in a block yet.
//!
//! Entries lie in *pages* of columns in the order in which they came. A full page never changes
//! again, so that a reader shares it; only the open page is copied. Because entries are only ever
//! added, a reader's view is simply how many there were.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use trine_storage::label_index::LabelIndex;
use trine_storage::shared::Account;
use trine_storage::{Labels, Matcher, TimeRange};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::columns::Columns;
use crate::wal_record::Batch;

/// A page is closed when its lines and metadata take this many bytes ...
const PAGE_BYTES: usize = 256 << 10;
/// ... or when it has this many entries.
const PAGE_ROWS: usize = 8 << 10;
/// What a stream costs beside its labels, twice (table and map): its place in the index, its range.
const STREAM_BYTES: usize = 192;
/// What an entry costs beside its line: its columns and its place among the known hashes.
const ROW_BYTES: usize = 52;
/// What a distinct set of metadata costs beside its labels.
const SET_BYTES: usize = 64;

/// The buffer. Appended to under the store's order lock, read at any time.
#[derive(Debug)]
pub(crate) struct Buffer {
    inner: RwLock<Inner>,
    account: Account,
}

#[derive(Debug, Default)]
struct Inner {
    streams: Vec<Labels>,
    /// From the first to the last timestamp of each stream.
    ranges: Vec<TimeRange>,
    stream_ids: HashMap<Labels, u32>,
    index: LabelIndex,
    full: Vec<Page>,
    open: Columns,
    /// Codes of the sets in the open page.
    open_sets: HashMap<Labels, u32>,
    /// Bytes of the sets in the open page.
    open_set_bytes: usize,
    /// Hash of an entry to its page and row; a different entry with the same hash takes the next
    /// number that is free.
    seen: HashMap<u64, (u32, u32)>,
    rows: u64,
    bytes: usize,
    range: Option<TimeRange>,
    since_ns: Option<i64>,
}

/// Entries that never change again.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) columns: Arc<Columns>,
    /// From the first to the last timestamp.
    pub(crate) range: TimeRange,
}

/// How many bytes a batch adds to a buffer at most; what the memory budget is asked for.
pub(crate) fn batch_bytes(batch: &Batch) -> u64 {
    let streams = batch
        .streams
        .iter()
        .map(|labels| STREAM_BYTES + 2 * labels.heap_bytes());
    let sets = batch
        .columns
        .sets
        .iter()
        .map(|labels| SET_BYTES + 2 * labels.heap_bytes());
    let rows = batch.columns.blob.len() + ROW_BYTES * batch.columns.rows();
    (streams.chain(sets).sum::<usize>() + rows) as u64
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
        let columns = &batch.columns;
        let streams: Vec<u32> = batch
            .streams
            .iter()
            .map(|labels| inner.stream_id(labels))
            .collect();
        let set_hashes: Vec<u64> = columns.sets.iter().map(Labels::hash64).collect();
        for row in 0..columns.rows() {
            let set = columns.set_code(row) as usize;
            let stream = streams[columns.streams[row] as usize];
            inner.insert(stream, columns, row, set_hashes[set]);
        }
        inner.since_ns.get_or_insert(now_ns);
        self.account.set(inner.bytes as u64);
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
            bytes: inner.bytes as u64,
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
        self.buffer.inner.read().index.select(matchers)
    }

    /// The labels of each stream code.
    pub(crate) fn streams(&self) -> Vec<Labels> {
        self.buffer.inner.read().streams.clone()
    }

    /// From the first to the last timestamp of each stream; may be wider than the entries of this
    /// view.
    pub(crate) fn stream_ranges(&self) -> Vec<TimeRange> {
        self.buffer.inner.read().ranges.clone()
    }

    /// The entries, in pages, in the order in which they came.
    pub(crate) fn pages(&self) -> Vec<Page> {
        let inner = self.buffer.inner.read();
        let mut pages = Vec::with_capacity(inner.full.len() + 1);
        let mut left = usize::try_from(self.rows).unwrap_or(usize::MAX);
        for page in &inner.full {
            let rows = page.columns.rows();
            if rows > left {
                pages.extend(first_rows(&page.columns, left));
                return pages;
            }
            left -= rows;
            pages.push(page.clone());
        }
        pages.extend(first_rows(&inner.open, left));
        pages
    }
}

/// A copy of the first `rows` entries of a page.
fn first_rows(page: &Columns, rows: usize) -> Option<Page> {
    let end = page.ends.get(rows.checked_sub(1)?).copied()? as usize;
    Page::new(Columns {
        timestamps: page.timestamps[..rows].to_vec(),
        streams: page.streams[..rows].to_vec(),
        blob: page.blob[..end].to_vec(),
        ends: page.ends[..rows].to_vec(),
        metadata: page.metadata[..rows].to_vec(),
        sets: page.sets.clone(),
    })
}

impl Page {
    /// `None` when there are no entries.
    fn new(columns: Columns) -> Option<Self> {
        let range = columns.range()?;
        Some(Self {
            columns: Arc::new(columns),
            range,
        })
    }
}

impl Inner {
    fn stream_id(&mut self, labels: &Labels) -> u32 {
        if let Some(&id) = self.stream_ids.get(labels) {
            return id;
        }
        let id = u32::try_from(self.streams.len()).expect("the memory budget ends long before");
        self.stream_ids.insert(labels.clone(), id);
        self.index.insert(id, labels);
        self.streams.push(labels.clone());
        self.ranges.push(TimeRange::new(0, 0));
        self.bytes += STREAM_BYTES + 2 * labels.heap_bytes();
        id
    }

    fn insert(&mut self, stream: u32, from: &Columns, row: usize, set_hash: u64) {
        let (timestamp, line) = (from.timestamps[row], from.line(row));
        let seed = set_hash ^ timestamp.cast_unsigned().rotate_left(20) ^ u64::from(stream);
        let mut hash = xxh3_64_with_seed(line, seed);
        while let Some(&(page, known)) = self.seen.get(&hash) {
            let (page, known) = (self.page(page), known as usize);
            let same = page.timestamps[known] == timestamp
                && page.streams[known] == stream
                && page.line(known) == line
                && page.set(known) == from.set(row);
            if same {
                return;
            }
            hash = hash.wrapping_add(1);
        }
        let page = u32::try_from(self.full.len()).expect("the memory budget ends long before");
        let at = u32::try_from(self.open.rows()).expect("a page has PAGE_ROWS entries at most");
        self.seen.insert(hash, (page, at));
        let set = self.set_code(from.set(row));
        self.open.push(stream, timestamp, line, set);
        let instant = TimeRange::inclusive(timestamp, timestamp);
        self.range = Some(self.range.map_or(instant, |range| range.union(&instant)));
        let range = &mut self.ranges[stream as usize];
        *range = range.union(&instant);
        self.rows += 1;
        self.bytes += ROW_BYTES + line.len();
        let full = self.open.blob.len() + self.open_set_bytes >= PAGE_BYTES;
        if full || self.open.rows() >= PAGE_ROWS {
            self.full.extend(Page::new(std::mem::take(&mut self.open)));
            self.open_sets.clear();
            self.open_set_bytes = 0;
        }
    }

    fn page(&self, number: u32) -> &Columns {
        self.full
            .get(number as usize)
            .map_or(&self.open, |page| &*page.columns)
    }

    /// The code of a set in the open page.
    fn set_code(&mut self, set: &Labels) -> u32 {
        if set.is_empty() {
            return 0;
        }
        if let Some(&code) = self.open_sets.get(set) {
            return code;
        }
        let code = u32::try_from(self.open.sets.len()).expect("a page has PAGE_ROWS sets at most");
        self.open_sets.insert(set.clone(), code);
        self.open.sets.push(set.clone());
        self.open_set_bytes += set.encoded().len();
        self.bytes += SET_BYTES + set.heap_bytes();
        code
    }
}

#[cfg(test)]
mod tests;
