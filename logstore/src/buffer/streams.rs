//! The streams of a buffer: their codes, labels, and from when to when they have entries.

use hashbrown::HashTable;
use trine_storage::label_index::LabelIndex;
use trine_storage::{Labels, TimeRange};

use crate::columns::Columns;

/// The streams of a buffer.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// By code.
    pub(super) labels: Vec<Labels>,
    /// From the first to the last timestamp of each; empty for one without entries.
    pub(super) ranges: Vec<TimeRange>,
    pub(super) index: LabelIndex,
    codes: HashTable<u32>,
    /// Bytes of the labels.
    label_bytes: usize,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The code of a stream, which is added when it is new.
    pub(super) fn code(&mut self, labels: &Labels) -> u32 {
        let hash = labels.hash64();
        let same = |&code: &u32| &self.labels[code as usize] == labels;
        if let Some(&code) = self.codes.find(hash, same) {
            return code;
        }
        let code = u32::try_from(self.labels.len()).expect("the memory budget ends long before");
        let rehash = |&code: &u32| self.labels[code as usize].hash64();
        self.codes.insert_unique(hash, code, rehash);
        self.index.insert(code, labels);
        self.labels.push(labels.clone());
        self.ranges.push(TimeRange::new(0, 0));
        self.label_bytes += labels.heap_bytes();
        code
    }

    /// Notes an entry of a stream.
    pub(super) fn note(&mut self, stream: u32, timestamp: i64) {
        let range = &mut self.ranges[stream as usize];
        *range = range.union(&TimeRange::inclusive(timestamp, timestamp));
    }

    /// Notes entries up to the first that is not newer than all before it of its stream; gives how
    /// many. `streams` says what codes the streams of the columns have here.
    pub(super) fn note_newer(&mut self, columns: &Columns, streams: &[u32]) -> usize {
        let rows = columns.timestamps.iter().zip(&columns.streams);
        for (row, (&timestamp, &stream)) in rows.enumerate() {
            let range = &mut self.ranges[streams[stream as usize] as usize];
            if range.is_empty() {
                range.start = timestamp;
            } else if timestamp < range.end {
                return row;
            }
            range.end = timestamp.saturating_add(1);
        }
        columns.rows()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let tables = self.labels.capacity() * size_of::<Labels>()
            + self.ranges.capacity() * size_of::<TimeRange>()
            + self.codes.capacity() / 7 * 8 * (size_of::<u32>() + 1);
        tables + self.label_bytes + self.index.heap_bytes()
    }
}
