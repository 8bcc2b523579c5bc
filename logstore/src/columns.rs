//! Entries in memory as columns: what an appender stages, what a page of the buffer holds, what a
//! chunk of a block decodes to.

use std::ops::Range;

use trine_storage::TimeRange;

use crate::sets::Sets;

use crate::filter::Text;

/// Entries in the order in which they came, or, of a block, by stream and time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    /// Nanoseconds since 1970.
    pub(crate) timestamps: Vec<i64>,
    /// Codes of streams; what they mean is the owner's.
    pub(crate) streams: Vec<u32>,
    /// All lines, one after the other; empty when they were not decoded.
    pub(crate) blob: Vec<u8>,
    /// Where each line ends in `blob`; empty when the lengths were not decoded.
    pub(crate) ends: Vec<u32>,
    /// For each entry its code in `sets`; entries after the last one that is here have the code 0.
    pub(crate) metadata: Vec<u32>,
    /// Sets of metadata.
    pub(crate) sets: Sets,
}

impl Columns {
    pub(crate) fn rows(&self) -> usize {
        self.timestamps.len()
    }

    /// The lines, to be searched.
    pub(crate) fn text(&self) -> Text<'_> {
        Text {
            blob: &self.blob,
            ends: &self.ends,
        }
    }

    /// Where the line of `row` lies in the blob.
    pub(crate) fn line_range(&self, row: usize) -> Range<usize> {
        let end = self.ends.get(row).copied().unwrap_or(0) as usize;
        let start = row
            .checked_sub(1)
            .and_then(|before| self.ends.get(before).copied());
        start.unwrap_or(0) as usize..end
    }

    /// The line of `row`; empty when lines were not decoded.
    pub(crate) fn line(&self, row: usize) -> &[u8] {
        self.blob.get(self.line_range(row)).unwrap_or_default()
    }

    /// Bytes of the lines of `rows`, and about so many of their metadata.
    pub(crate) fn bytes_of(&self, rows: Range<usize>) -> u64 {
        let end = |row: usize| self.ends.get(row).copied().unwrap_or(0);
        let before = rows.start.checked_sub(1).map_or(0, end);
        let lines = rows
            .end
            .checked_sub(1)
            .map_or(0, end)
            .saturating_sub(before);
        let sets = rows.len() * self.sets.bytes() / self.rows().max(1);
        u64::from(lines) + sets as u64
    }

    /// The code of the metadata of `row`; 0 is the empty set.
    pub(crate) fn set_code(&self, row: usize) -> u32 {
        self.metadata.get(row).copied().unwrap_or(0)
    }

    /// The encoded metadata of `row`.
    pub(crate) fn set(&self, row: usize) -> &[u8] {
        self.sets.encoded(self.set_code(row))
    }

    /// Adds an entry. The caller keeps the blob below 4 GiB.
    pub(crate) fn push(&mut self, stream: u32, timestamp: i64, line: &[u8], set: u32) {
        self.timestamps.push(timestamp);
        self.streams.push(stream);
        self.blob.extend_from_slice(line);
        self.ends
            .push(u32::try_from(self.blob.len()).expect("owners bound the blob far below"));
        if set != 0 {
            self.metadata.resize(self.rows() - 1, 0);
            self.metadata.push(set);
        }
    }

    /// Adds entries of other columns, but for their metadata, with the streams that `streams` says.
    pub(crate) fn extend(&mut self, from: &Self, rows: Range<usize>, streams: &[u32]) {
        let bytes = from.line_range(rows.start).start..from.line_range(rows.end - 1).end;
        let (start, base) = (bytes.start, self.blob.len());
        self.blob.extend_from_slice(&from.blob[bytes]);
        assert!(
            u32::try_from(self.blob.len()).is_ok(),
            "owners bound the blob far below"
        );
        let moved = |&end: &u32| (end as usize - start + base) as u32;
        self.ends.extend(from.ends[rows.clone()].iter().map(moved));
        let stream = |&code: &u32| streams[code as usize];
        self.streams
            .extend(from.streams[rows.clone()].iter().map(stream));
        self.timestamps.extend_from_slice(&from.timestamps[rows]);
    }

    /// Forgets all entries and sets, but not the memory that they took.
    pub(crate) fn clear(&mut self) {
        self.timestamps.clear();
        self.streams.clear();
        self.blob.clear();
        self.ends.clear();
        self.metadata.clear();
        self.sets.clear();
    }

    /// Makes room for so many entries whose lines take so many bytes in all.
    pub(crate) fn reserve_exact(&mut self, rows: usize, bytes: usize) {
        self.timestamps.reserve_exact(rows);
        self.streams.reserve_exact(rows);
        self.ends.reserve_exact(rows);
        self.blob.reserve_exact(bytes);
    }

    /// Lets go of memory that is not used, where it is a good part.
    pub(crate) fn shrink(&mut self) {
        let rows = self.rows();
        if self.timestamps.capacity() > rows + rows / 8 {
            self.timestamps.shrink_to_fit();
            self.streams.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
        if self.blob.capacity() > self.blob.len() + self.blob.len() / 8 {
            self.blob.shrink_to_fit();
        }
        self.metadata.shrink_to_fit();
        self.sets.shrink_to_fit();
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let of_codes = self.streams.capacity() + self.ends.capacity() + self.metadata.capacity();
        self.timestamps.capacity() * size_of::<i64>()
            + of_codes * size_of::<u32>()
            + self.blob.capacity()
            + self.sets.heap_bytes()
    }

    /// From the first to the last timestamp; `None` when there are no entries.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        self.range_of(0..self.rows())
    }

    /// From the first to the last timestamp of these entries.
    pub(crate) fn range_of(&self, rows: Range<usize>) -> Option<TimeRange> {
        let timestamps = self.timestamps.get(rows)?;
        let (first, last) = (timestamps.iter().min()?, timestamps.iter().max()?);
        Some(TimeRange::inclusive(*first, *last))
    }
}
