//! What metrics are: type, help and unit by name. All of it is in memory; parts hold it beside the
//! definitions of series (`FORMAT.md`, "Metadata").
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::fmt;

use trine_storage::codec::{Reader, put_bytes, put_signed, put_varint};
use trine_storage::sealed::{SealedFile, SealedWriter};
use trine_storage::{Error, Result};

/// The most bytes that the name, the help and the unit of a metric may have together.
pub const METADATA_BYTES_MAX: usize = 16 << 10;

/// Section of parts.
const SECTION: u32 = 6;
/// The most different metadata of one metric; what was not sent for longest goes.
const PER_METRIC_MAX: usize = 10;
/// The most bytes that the section may claim to have before compression.
const SECTION_BYTES_MAX: u64 = 4 << 30;
const ZSTD_LEVEL: i32 = 3;

/// What a metric is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its type.
    pub kind: MetricType,
    /// What it measures, in words.
    pub help: String,
    /// Its unit, or nothing.
    pub unit: String,
}

/// The type of a metric. `Display` gives the word of the exposition formats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Not known.
    #[default]
    Unknown,
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts of observations by bucket that only rise.
    Histogram,
    /// Counts of observations by bucket that rise and fall.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Facts as labels.
    Info,
    /// One state of several.
    StateSet,
}

/// Types by their number in files.
const TYPES: [(MetricType, &str); 8] = [
    (MetricType::Unknown, "unknown"),
    (MetricType::Counter, "counter"),
    (MetricType::Gauge, "gauge"),
    (MetricType::Histogram, "histogram"),
    (MetricType::GaugeHistogram, "gaugehistogram"),
    (MetricType::Summary, "summary"),
    (MetricType::Info, "info"),
    (MetricType::StateSet, "stateset"),
];

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = TYPES.iter().find(|(kind, _)| kind == self);
        f.write_str(found.map_or("unknown", |(_, word)| word))
    }
}

/// Metadata of one metric and when it was last sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub(crate) metric: String,
    pub(crate) metadata: Metadata,
    /// Milliseconds since 1970.
    pub(crate) seen_ms: i64,
}

impl Entry {
    pub(crate) fn bytes(&self) -> usize {
        self.metric.len() + self.metadata.help.len() + self.metadata.unit.len()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.metric.as_bytes());
        let number = TYPES.iter().position(|(k, _)| *k == self.metadata.kind);
        put_varint(out, number.unwrap_or(0) as u64);
        put_bytes(out, self.metadata.help.as_bytes());
        put_bytes(out, self.metadata.unit.as_bytes());
        put_signed(out, self.seen_ms);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let metric = reader.text()?.to_owned();
        let number = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let Some((kind, _)) = TYPES.get(number) else {
            return Err(reader.corrupt("a metric is of a type that this program does not know"));
        };
        let metadata = Metadata {
            kind: *kind,
            help: reader.text()?.to_owned(),
            unit: reader.text()?.to_owned(),
        };
        let seen_ms = reader.signed()?;
        Ok(Self {
            metric,
            metadata,
            seen_ms,
        })
    }
}

/// The metadata of a store.
#[derive(Debug, Default)]
pub(crate) struct MetadataTable {
    /// By metric, the last that was new at the end.
    metrics: BTreeMap<String, Vec<(Metadata, i64)>>,
    bytes: usize,
    /// Something is not in a part yet.
    changed: bool,
}

impl MetadataTable {
    /// Keeps an entry. Gives whether it was not known. The metric must have room.
    pub(crate) fn insert(&mut self, entry: Entry) -> bool {
        let bytes = entry.bytes();
        let held = self.metrics.entry(entry.metric).or_default();
        if let Some((_, seen_ms)) = held.iter_mut().find(|(m, _)| *m == entry.metadata) {
            *seen_ms = entry.seen_ms.max(*seen_ms);
            return false;
        }
        if held.len() >= PER_METRIC_MAX {
            let longest = (0..held.len()).min_by_key(|at| held.get(*at).map(|(_, seen)| *seen));
            held.remove(longest.unwrap_or(0));
        }
        held.push((entry.metadata, entry.seen_ms));
        self.bytes += bytes + size_of::<(Metadata, i64)>();
        self.changed = true;
        true
    }

    /// Whether there is room for the metric in a table of so many.
    pub(crate) fn has_room(&self, metric: &str, max: usize) -> bool {
        self.metrics.len() < max || self.metrics.contains_key(metric)
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether something changed since this was asked before.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }

    /// Lets go of what was not sent since.
    pub(crate) fn expire(&mut self, oldest_ms: i64) {
        for held in self.metrics.values_mut() {
            held.retain(|(_, seen_ms)| *seen_ms >= oldest_ms);
        }
        self.metrics.retain(|_, held| !held.is_empty());
        let entries = self.entries();
        self.bytes = entries
            .map(|entry| entry.bytes() + size_of::<(Metadata, i64)>())
            .sum();
    }

    /// What is known of `metric`, or of all, the newest first.
    pub(crate) fn of(
        &self,
        metric: Option<&str>,
        limit: usize,
        limit_per_metric: usize,
    ) -> Vec<(String, Vec<Metadata>)> {
        let wanted = self.metrics.iter();
        let wanted = wanted.filter(|(name, _)| metric.is_none_or(|metric| metric == *name));
        let newest = |held: &[(Metadata, i64)]| {
            let newest = held.iter().rev().take(limit_per_metric);
            newest.map(|(metadata, _)| metadata.clone()).collect()
        };
        wanted
            .take(limit)
            .map(|(name, held)| (name.clone(), newest(held)))
            .collect()
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.metrics.iter().flat_map(|(metric, held)| {
            held.iter().map(|(metadata, seen_ms)| Entry {
                metric: metric.clone(),
                metadata: metadata.clone(),
                seen_ms: *seen_ms,
            })
        })
    }

    /// Keeps what another table knows. Nothing of it counts as changed.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let changed = self.changed;
        for entry in other.entries() {
            self.insert(entry);
        }
        self.changed = changed;
    }

    /// Writes the section.
    pub(crate) fn write(&self, file: &mut SealedWriter) -> Result<()> {
        let mut raw = Vec::new();
        for entry in self.entries() {
            entry.put(&mut raw);
        }
        let mut section = Vec::new();
        put_varint(&mut section, raw.len() as u64);
        let packed = zstd::bulk::compress(&raw, ZSTD_LEVEL)
            .map_err(|e| Error::io("compress the metadata", e))?;
        section.extend_from_slice(&packed);
        file.section(SECTION, &section)
    }

    /// Reads the section of a file, if it has one: all that was known then. Nothing of it counts as
    /// changed.
    pub(crate) fn read(file: &SealedFile) -> Result<Option<Self>> {
        if !file.has_section(SECTION)? {
            return Ok(None);
        }
        let name = file.name();
        let section = file.section(SECTION)?;
        let mut reader = Reader::new(name, &section);
        let raw_len = reader.varint()?;
        if raw_len > SECTION_BYTES_MAX {
            return Err(reader.corrupt("the metadata claims to be larger than it can be"));
        }
        let packed = reader.take(reader.remaining())?;
        let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
        let raw = zstd::stream::decode_all(packed)
            .map_err(|e| Error::corrupt(name, 0, e))
            .and_then(|raw| match raw.len() == raw_len {
                true => Ok(raw),
                false => Err(Error::corrupt(name, 0, "the metadata has another length")),
            })?;
        let mut table = Self::default();
        let mut reader = Reader::new(name, &raw);
        while !reader.is_empty() {
            table.insert(Entry::read(&mut reader)?);
        }
        table.changed = false;
        Ok(Some(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(metric: &str, help: &str, seen_ms: i64) -> Entry {
        let metadata = Metadata {
            kind: MetricType::Counter,
            help: help.to_owned(),
            unit: "s".to_owned(),
        };
        Entry {
            metric: metric.to_owned(),
            metadata,
            seen_ms,
        }
    }

    #[test]
    fn what_another_table_knows_is_kept_and_no_change() {
        let (mut table, mut other) = (MetadataTable::default(), MetadataTable::default());
        other.insert(entry("a", "one", 5));
        table.insert(entry("a", "one", 7));
        assert!(table.take_changed());
        other.insert(entry("b", "two", 6));
        table.absorb(&other);
        assert!(!table.has_changed());
        assert_eq!(table.of(None, 9, 9).len(), 2);
        table.expire(7);
        assert_eq!(table.of(None, 9, 9).len(), 1, "the later time counts");
    }

    #[test]
    fn what_is_new_is_told_and_what_is_old_goes() {
        let mut table = MetadataTable::default();
        assert!(table.insert(entry("a", "one", 5)));
        assert!(!table.insert(entry("a", "one", 7)));
        assert!(table.take_changed() && !table.take_changed());
        for number in 0..PER_METRIC_MAX {
            assert!(table.insert(entry("a", &number.to_string(), 10 + number as i64)));
        }
        assert!(table.insert(entry("b", "", 8)));
        let of = |table: &MetadataTable, metric| -> Vec<usize> {
            let found = table.of(metric, 9, 99);
            found.iter().map(|(_, held)| held.len()).collect()
        };
        assert_eq!(of(&table, None), [PER_METRIC_MAX, 1]);
        assert_eq!(table.of(Some("a"), 1, 1)[0].1[0].help, "9");
        assert!(table.has_room("a", 2) && !table.has_room("c", 2));
        table.expire(18);
        assert_eq!(of(&table, None), [2]);
        assert_eq!(of(&table, Some("b")), [0usize; 0]);
    }
}
