//! The rows of one commit while an appender puts them together.

use std::ops::Range;
use std::sync::Arc;

use trine_storage::labels::hash_encoded;

use crate::exemplar::Exemplar;
use crate::histogram::Histogram;
use crate::metadata::Entry;

/// Rows in order of arrival, those of one series that come one after the other as one entry.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Encoded label sets, one after the other.
    encoded: Vec<u8>,
    series: Vec<Staged>,
    pub(crate) floats: Rows<f64>,
    pub(crate) histograms: Rows<Arc<Histogram>>,
    pub(crate) exemplars: Vec<Exemplar>,
    pub(crate) metadata: Vec<Entry>,
    /// Heap bytes of histograms, exemplars and metadata.
    bytes: usize,
}

/// Samples as columns of equal length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows<T> {
    pub(crate) timestamps: Vec<i64>,
    /// Start timestamps, 0 where unknown; empty when all are unknown.
    pub(crate) starts: Vec<i64>,
    pub(crate) values: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self {
            timestamps: Vec::new(),
            starts: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<T> Rows<T> {
    pub(crate) fn push(&mut self, timestamp: i64, start: i64, value: T) {
        if start != 0 || !self.starts.is_empty() {
            self.starts.resize(self.timestamps.len(), 0);
            self.starts.push(start);
        }
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    pub(crate) fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Timestamp, start timestamp and value of some rows.
    pub(crate) fn rows(&self, rows: Range<usize>) -> impl Iterator<Item = (i64, i64, &T)> {
        let starts = self.starts.get(rows.clone()).unwrap_or_default();
        let starts = starts.iter().copied().chain(std::iter::repeat(0));
        let timestamps = self.timestamps.get(rows.clone()).unwrap_or_default();
        let values = self.values.get(rows).unwrap_or_default();
        let rows = timestamps.iter().zip(starts).zip(values);
        rows.map(|((timestamp, start), value)| (*timestamp, start, value))
    }
}

/// Some rows of one series: those after the rows of the one before it.
#[derive(Debug)]
struct Staged {
    key: Key,
    floats_end: usize,
    histograms_end: usize,
    exemplars_end: usize,
}

/// What is staged of one series.
#[derive(Debug)]
pub(crate) struct Of<'a> {
    pub(crate) key: &'a Key,
    /// Places in the columns of the batch.
    pub(crate) floats: Range<usize>,
    pub(crate) histograms: Range<usize>,
    pub(crate) exemplars: Range<usize>,
}

impl Of<'_> {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len() + self.exemplars.len()
    }
}

/// How a series is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// By its labels: their hash, and where their encoding lies in the batch.
    Labels { hash: u64, at: Range<usize> },
    /// By a reference.
    Reference { id: u32, generation: u32 },
}

impl Batch {
    /// Begins the rows of the series with these encoded labels, unless they are being added.
    pub(crate) fn begin_labels(&mut self, labels: &[u8]) {
        if let Some(Staged {
            key: Key::Labels { at, .. },
            ..
        }) = self.series.last()
            && self.encoded.get(at.clone()) == Some(labels)
        {
            return;
        }
        let start = self.encoded.len();
        self.encoded.extend_from_slice(labels);
        let at = start..self.encoded.len();
        self.begin(Key::Labels {
            hash: hash_encoded(labels),
            at,
        });
    }

    /// Begins the rows of the series with this reference, unless they are being added.
    pub(crate) fn begin_reference(&mut self, key: Key) {
        if self.series.last().is_none_or(|last| last.key != key) {
            self.begin(key);
        }
    }

    fn begin(&mut self, key: Key) {
        self.series.push(Staged {
            key,
            floats_end: self.floats.len(),
            histograms_end: self.histograms.len(),
            exemplars_end: self.exemplars.len(),
        });
    }

    /// Adds a sample of the series that was begun last.
    pub(crate) fn float(&mut self, timestamp: i64, start: i64, value: f64) {
        if let Some(number) = self.series.len().checked_sub(1) {
            // Floats of an entry are stored before its histograms.
            let of = self.of(number);
            if !of.histograms.is_empty() {
                self.begin(of.key.clone());
            }
        }
        self.floats.push(timestamp, start, value);
        if let Some(last) = self.series.last_mut() {
            last.floats_end = self.floats.len();
        }
    }

    /// Adds a sample of the series that was begun last.
    pub(crate) fn histogram(&mut self, timestamp: i64, start: i64, value: Arc<Histogram>) {
        self.bytes += value.heap_bytes();
        self.histograms.push(timestamp, start, value);
        if let Some(last) = self.series.last_mut() {
            last.histograms_end = self.histograms.len();
        }
    }

    /// Adds an exemplar of the series that was begun last.
    pub(crate) fn exemplar(&mut self, exemplar: Exemplar) {
        self.bytes += exemplar.heap_bytes();
        self.exemplars.push(exemplar);
        if let Some(last) = self.series.last_mut() {
            last.exemplars_end = self.exemplars.len();
        }
    }

    /// Adds metadata.
    pub(crate) fn metadata(&mut self, entry: Entry) {
        self.bytes += entry.bytes() + size_of::<Entry>();
        self.metadata.push(entry);
    }

    /// The keys of the series, in order of arrival; one may come more than once.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.series.iter().map(|staged| &staged.key)
    }

    /// The key with this number.
    pub(crate) fn key(&self, number: usize) -> &Key {
        &self.series[number].key
    }

    /// What is staged under this number.
    pub(crate) fn of(&self, number: usize) -> Of<'_> {
        let staged = &self.series[number];
        let before = number.checked_sub(1).and_then(|at| self.series.get(at));
        let (floats, histograms, exemplars) = before.map_or((0, 0, 0), |before| {
            (
                before.floats_end,
                before.histograms_end,
                before.exemplars_end,
            )
        });
        Of {
            key: &staged.key,
            floats: floats..staged.floats_end,
            histograms: histograms..staged.histograms_end,
            exemplars: exemplars..staged.exemplars_end,
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
        let rows = self.floats.len() + self.histograms.len();
        (self.encoded.len() + 16 * rows + self.bytes) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty() && self.metadata.is_empty()
    }
}
