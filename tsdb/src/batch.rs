//! The rows of one commit while an appender puts them together.

use std::ops::Range;

use trine_storage::labels::hash_encoded;

/// Rows in order of arrival, those of one series that come one after the other as one entry.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Encoded label sets, one after the other.
    encoded: Vec<u8>,
    pub(crate) series: Vec<Staged>,
    pub(crate) timestamps: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// Some rows of one series.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) key: Key,
    /// Places in the columns of the batch.
    pub(crate) rows: Range<usize>,
}

/// How a series is named.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// By its labels: their hash, and where their encoding lies in the batch.
    Labels { hash: u64, at: Range<usize> },
    /// By a reference.
    Reference { id: u32, generation: u32 },
}

impl Batch {
    /// Adds a sample of the series with these encoded labels.
    pub(crate) fn push(&mut self, labels: &[u8], timestamp: i64, value: f64) {
        let again = match self.series.last() {
            Some(Staged {
                key: Key::Labels { at, .. },
                ..
            }) => self.encoded.get(at.clone()) == Some(labels),
            _ => false,
        };
        if !again {
            self.begin_labels(labels);
        }
        self.row(timestamp, value);
    }

    /// Begins the rows of the series with these encoded labels.
    pub(crate) fn begin_labels(&mut self, labels: &[u8]) {
        let start = self.encoded.len();
        self.encoded.extend_from_slice(labels);
        let at = start..self.encoded.len();
        self.begin(Key::Labels {
            hash: hash_encoded(labels),
            at,
        });
    }

    /// Adds a sample of the series with this reference.
    pub(crate) fn push_reference(&mut self, key: Key, timestamp: i64, value: f64) {
        if self.series.last().is_none_or(|last| last.key != key) {
            self.begin(key);
        }
        self.row(timestamp, value);
    }

    fn begin(&mut self, key: Key) {
        let at = self.values.len();
        self.series.push(Staged { key, rows: at..at });
    }

    /// Adds a sample of the series that was begun last.
    pub(crate) fn row(&mut self, timestamp: i64, value: f64) {
        self.timestamps.push(timestamp);
        self.values.push(value);
        if let Some(last) = self.series.last_mut() {
            last.rows.end = self.values.len();
        }
    }

    /// The encoded labels of a key of this batch; nothing for a reference.
    pub(crate) fn encoded(&self, key: &Key) -> &[u8] {
        match key {
            Key::Labels { at, .. } => self.encoded.get(at.clone()).unwrap_or_default(),
            Key::Reference { .. } => &[],
        }
    }

    /// Bytes that the log and memory will need for it, about.
    pub(crate) fn bytes(&self) -> u64 {
        (self.encoded.len() + 16 * self.values.len()) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
