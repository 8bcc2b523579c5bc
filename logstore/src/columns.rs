//! Entries in memory as columns: what an appender stages, what a page of the buffer holds, what a
//! chunk of a block decodes to.

use trine_storage::{Labels, TimeRange};

use crate::filter::Text;

/// Entries in the order in which they came, or, of a block, by stream and time.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// Nanoseconds since 1970.
    pub(crate) timestamps: Vec<i64>,
    /// Codes of streams; what they mean is the owner's.
    pub(crate) streams: Vec<u32>,
    /// All lines, one after the other; empty when they were not decoded.
    pub(crate) blob: Vec<u8>,
    /// Where each line ends in `blob`; empty when the lengths were not decoded.
    pub(crate) ends: Vec<u32>,
    /// For each entry an index into `sets`; empty when not decoded or when no entry has any.
    pub(crate) metadata: Vec<u32>,
    /// Sets of metadata; the first is the empty set.
    pub(crate) sets: Vec<Labels>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            timestamps: Vec::new(),
            streams: Vec::new(),
            blob: Vec::new(),
            ends: Vec::new(),
            metadata: Vec::new(),
            sets: vec![Labels::empty()],
        }
    }
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
    pub(crate) fn line_range(&self, row: usize) -> std::ops::Range<usize> {
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

    /// The code of the metadata of `row`; 0 is the empty set.
    pub(crate) fn set_code(&self, row: usize) -> u32 {
        self.metadata.get(row).copied().unwrap_or(0)
    }

    /// The metadata of `row`.
    pub(crate) fn set(&self, row: usize) -> &Labels {
        self.sets
            .get(self.set_code(row) as usize)
            .unwrap_or(&self.sets[0])
    }

    /// Adds an entry. The caller keeps the blob below 4 GiB.
    pub(crate) fn push(&mut self, stream: u32, timestamp: i64, line: &[u8], set: u32) {
        self.timestamps.push(timestamp);
        self.streams.push(stream);
        self.blob.extend_from_slice(line);
        self.ends
            .push(u32::try_from(self.blob.len()).expect("owners bound the blob far below"));
        self.metadata.push(set);
    }

    /// From the first to the last timestamp; `None` when there are no entries.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        let first = self.timestamps.iter().min()?;
        let last = self.timestamps.iter().max()?;
        Some(TimeRange::inclusive(*first, *last))
    }
}
