//! Memory: the samples that are not in a block yet.

use std::collections::HashMap;

use trine_storage::label_index::LabelIndex;
use trine_storage::{Labels, Matcher, TimeRange};

use crate::sample::{Accepted, Reason};
use crate::wal_record::Batch;

/// What a series costs beside its labels and samples: the struct, its place in the map and in the
/// index. An estimate for the memory budget.
const SERIES_BYTES: u64 = 160;
const SAMPLE_BYTES: u64 = 16;

/// The head: all series with samples since the last seal.
#[derive(Debug, Default)]
pub(crate) struct Head {
    series: Vec<MemSeries>,
    ids: HashMap<Labels, u32>,
    index: LabelIndex,
    samples: u64,
    bytes: u64,
    range: Option<TimeRange>,
    /// When the first sample came, milliseconds since 1970.
    since_ms: Option<i64>,
}

/// One series in memory: columns in order of time, no timestamp twice.
#[derive(Debug)]
pub(crate) struct MemSeries {
    pub(crate) labels: Labels,
    pub(crate) timestamps: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl Head {
    /// Adds a batch that came at `now_ms`. Other values at a timestamp that is taken are refused;
    /// the same value again counts as stored.
    pub(crate) fn apply(&mut self, batch: &Batch, now_ms: i64, accepted: &mut Accepted) {
        for (labels, timestamps, values) in batch.runs() {
            let id = self.series_id(labels);
            for (&timestamp, &value) in timestamps.iter().zip(values) {
                match self.series[id].insert(timestamp, value) {
                    Insert::New => {
                        self.samples += 1;
                        self.bytes += SAMPLE_BYTES;
                        let one = TimeRange::inclusive(timestamp, timestamp);
                        self.range = Some(self.range.map_or(one, |range| range.union(&one)));
                        accepted.stored += 1;
                    }
                    Insert::Same => accepted.stored += 1,
                    Insert::Other => accepted.reject(Reason::DuplicateTimestamp, || {
                        format!("series={labels} timestamp={timestamp}")
                    }),
                }
            }
        }
        if self.samples > 0 {
            self.since_ms.get_or_insert(now_ms);
        }
    }

    fn series_id(&mut self, labels: &Labels) -> usize {
        if let Some(&id) = self.ids.get(labels) {
            return id as usize;
        }
        let id = u32::try_from(self.series.len()).expect("the memory budget ends long before");
        self.ids.insert(labels.clone(), id);
        self.index.insert(id, labels);
        self.bytes += SERIES_BYTES + labels.heap_bytes() as u64;
        self.series.push(MemSeries {
            labels: labels.clone(),
            timestamps: Vec::new(),
            values: Vec::new(),
        });
        id as usize
    }

    /// Whether there are no samples.
    pub(crate) fn is_empty(&self) -> bool {
        self.samples == 0
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Bytes that the head takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From the first to the last timestamp.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        self.range
    }

    pub(crate) fn since_ms(&self) -> Option<i64> {
        self.since_ms
    }

    pub(crate) fn index(&self) -> &LabelIndex {
        &self.index
    }

    pub(crate) fn series(&self, id: u32) -> Option<&MemSeries> {
        self.series.get(id as usize)
    }

    pub(crate) fn all_series(&self) -> &[MemSeries] {
        &self.series
    }

    /// Ids of the series that satisfy `matchers` and have a sample in `range`, in label order.
    pub(crate) fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, u32)> {
        let selected = self.index.select(matchers);
        let mut found: Vec<(Labels, u32)> = selected
            .iter()
            .filter_map(|id| {
                let series = self.series(id)?;
                let first = series.timestamps.partition_point(|&t| t < range.start);
                let inside = series
                    .timestamps
                    .get(first)
                    .is_some_and(|&t| range.contains(t));
                inside.then(|| (series.labels.clone(), id))
            })
            .collect();
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

enum Insert {
    New,
    Same,
    Other,
}

impl MemSeries {
    fn insert(&mut self, timestamp: i64, value: f64) -> Insert {
        if self.timestamps.last().is_none_or(|&last| last < timestamp) {
            self.timestamps.push(timestamp);
            self.values.push(value);
            return Insert::New;
        }
        match self.timestamps.binary_search(&timestamp) {
            Ok(at) if self.values[at].to_bits() == value.to_bits() => Insert::Same,
            Ok(_) => Insert::Other,
            Err(at) => {
                self.timestamps.insert(at, timestamp);
                self.values.insert(at, value);
                Insert::New
            }
        }
    }

    /// The samples in `range`.
    pub(crate) fn in_range(&self, range: TimeRange) -> (&[i64], &[f64]) {
        let first = self.timestamps.partition_point(|&t| t < range.start);
        let last = self
            .timestamps
            .partition_point(|&t| t < range.end)
            .max(first);
        (&self.timestamps[first..last], &self.values[first..last])
    }
}
