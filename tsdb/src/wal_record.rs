//! What one record of the log holds: series that begin, samples, exemplars, metadata (`FORMAT.md`,
//! "WAL records").
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;
use std::sync::Arc;

use trine_storage::codec::{Reader, put_bytes, put_signed, put_u64, put_varint};
use trine_storage::{Error, Kind, Labels, Result};

use crate::batch::Rows;
use crate::chunk::starts::{decode_starts, encode_starts};
use crate::exemplar::Exemplar;
use crate::histogram::{Histogram, HistogramEncoder, decode_histograms};
use crate::metadata::Entry;

/// Series that begin: ids and labels.
const SERIES: u8 = 2;
/// Float samples by id.
const FLOATS: u8 = 3;
/// Native histograms by id.
const HISTOGRAMS: u8 = 4;
/// Exemplars by id.
const EXEMPLARS: u8 = 5;
/// Metadata of a metric.
const METADATA: u8 = 6;
/// Samples in one record at most; larger batches become several records.
pub(crate) const ROWS_MAX: usize = 1 << 18;
/// A record of histograms is closed when they have this many bytes.
const VALUES_BYTES: usize = 1 << 20;
/// Exemplars in one record: their labels are short.
const EXEMPLARS_AT_ONCE: usize = 1 << 12;

/// A record that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Ids and the labels that they mean from now on.
    Series(Vec<(u32, Labels)>),
    /// Float samples.
    Floats(Samples<f64>),
    /// Native histograms.
    Histograms(Samples<Arc<Histogram>>),
    /// Exemplars by id.
    Exemplars(Vec<(u32, Exemplar)>),
    /// What a metric is.
    Metadata(Entry),
}

/// Series that begin.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    pub(crate) series: &'a [(u32, Labels)],
}

/// Samples of several series: the id of each row, and the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples<T> {
    ids: Vec<u32>,
    rows: Rows<T>,
}

impl Series<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![SERIES];
        put_varint(&mut out, self.series.len() as u64);
        for (id, labels) in self.series {
            put_varint(&mut out, u64::from(*id));
            put_bytes(&mut out, labels.encoded());
        }
        out
    }
}

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            rows: Rows::default(),
        }
    }
}

impl<T> Samples<T> {
    pub(crate) fn push(&mut self, id: u32, timestamp: i64, start: i64, value: T) {
        self.ids.push(id);
        self.rows.push(timestamp, start, value);
    }

    /// The ids of the rows.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Id, timestamp, start timestamp and value.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u32, i64, i64, &T)> {
        let rows = self.rows.rows(0..self.ids.len());
        let rows = self.ids.iter().zip(rows);
        rows.map(|(id, (timestamp, start, value))| (*id, timestamp, start, value))
    }

    /// A record of the rows in `range`: the kind, their number and whether any start timestamp is
    /// known, ids and timestamps, what `values` writes, start timestamps.
    fn record(&self, kind: u8, range: Range<usize>, values: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let ids = self.ids.get(range.clone()).unwrap_or_default();
        let timestamps = self.rows.timestamps.get(range.clone());
        let timestamps = timestamps.unwrap_or_default();
        let starts = self.rows.starts.get(range).unwrap_or_default();
        let started = starts.iter().any(|start| *start != 0);
        let mut out = Vec::with_capacity(8 + 12 * ids.len());
        out.push(kind);
        put_varint(&mut out, (ids.len() as u64) << 1 | u64::from(started));
        let mut previous = 0;
        for &id in ids {
            put_signed(&mut out, i64::from(id) - previous);
            previous = i64::from(id);
        }
        let mut previous = 0i64;
        for &timestamp in timestamps {
            put_signed(&mut out, timestamp.wrapping_sub(previous));
            previous = timestamp;
        }
        values(&mut out);
        if started {
            encode_starts(starts, timestamps, &mut out);
        }
        out
    }

    fn decode(
        reader: &mut Reader<'_>,
        name: &str,
        least_bytes: usize,
        mut value: impl FnMut(&mut Reader<'_>) -> Result<T>,
    ) -> Result<Self> {
        let number = reader.varint()?;
        let rows = usize::try_from(number >> 1).unwrap_or(usize::MAX);
        if rows > reader.remaining() / least_bytes {
            return Err(reader.corrupt("rows claim to be more than their bytes"));
        }
        let mut samples = Self::default();
        samples.ids.reserve_exact(rows);
        samples.rows.timestamps.reserve_exact(rows);
        samples.rows.values.reserve_exact(rows);
        let mut id = 0i64;
        for _ in 0..rows {
            id = id.wrapping_add(reader.signed()?);
            let checked = u32::try_from(id).map_err(|_| reader.corrupt("an id is out of range"))?;
            samples.ids.push(checked);
        }
        let mut timestamp = 0i64;
        for _ in 0..rows {
            timestamp = timestamp.wrapping_add(reader.signed()?);
            samples.rows.timestamps.push(timestamp);
        }
        for _ in 0..rows {
            samples.rows.values.push(value(reader)?);
        }
        if number & 1 != 0 {
            let bytes = reader.take(reader.remaining())?;
            let Rows {
                timestamps, starts, ..
            } = &mut samples.rows;
            decode_starts(name, bytes, timestamps, starts)?;
        }
        Ok(samples)
    }
}

impl Samples<f64> {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        let mut samples = Self::default();
        samples.ids.reserve_exact(rows);
        samples.rows.timestamps.reserve_exact(rows);
        samples.rows.values.reserve_exact(rows);
        samples
    }

    /// The records that hold these samples.
    pub(crate) fn encode(&self) -> impl Iterator<Item = Vec<u8>> {
        let starts = (0..self.ids.len()).step_by(ROWS_MAX);
        starts.map(|start| {
            let range = start..self.ids.len().min(start + ROWS_MAX);
            self.record(FLOATS, range.clone(), |out| {
                for value in self.rows.values.get(range).unwrap_or_default() {
                    put_u64(out, value.to_bits());
                }
            })
        })
    }
}

impl Samples<Arc<Histogram>> {
    /// The records that hold these samples.
    pub(crate) fn encode(&self) -> impl Iterator<Item = Vec<u8>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= self.ids.len() {
                return None;
            }
            let mut values = Vec::new();
            let mut end = start;
            let mut chunk = Vec::new();
            while let Some(histogram) = self.rows.values.get(end)
                && (end == start || values.len() < VALUES_BYTES)
            {
                chunk.clear();
                HistogramEncoder::new().append(&mut chunk, 0, histogram);
                put_bytes(&mut values, &chunk);
                end += 1;
            }
            let range = start..end;
            start = end;
            Some(self.record(HISTOGRAMS, range, |out| out.extend_from_slice(&values)))
        })
    }
}

/// Exemplars by id.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    rows: Vec<(u32, Exemplar)>,
}

impl Exemplars {
    pub(crate) fn push(&mut self, id: u32, exemplar: Exemplar) {
        self.rows.push((id, exemplar));
    }

    /// The records that hold these exemplars.
    pub(crate) fn encode(&self) -> impl Iterator<Item = Vec<u8>> {
        self.rows.chunks(EXEMPLARS_AT_ONCE).map(|rows| {
            let mut out = vec![EXEMPLARS];
            put_varint(&mut out, rows.len() as u64);
            for (id, exemplar) in rows {
                put_varint(&mut out, u64::from(*id));
                exemplar.put(0, &mut out);
            }
            out
        })
    }
}

/// The record that holds metadata.
pub(crate) fn encode_metadata(entry: &Entry) -> Vec<u8> {
    let mut out = vec![METADATA];
    entry.put(&mut out);
    out
}

/// Reads a record.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no record, [`Kind::Unsupported`] when a newer version wrote
/// them.
pub fn decode(record: &[u8]) -> Result<Record> {
    let name = "a record of the write-ahead log";
    let mut reader = Reader::new(name, record);
    let decoded = match reader.u8()? {
        SERIES => Record::Series(decode_series(&mut reader)?),
        FLOATS => {
            let value = |reader: &mut Reader<'_>| Ok(f64::from_bits(reader.u64()?));
            Record::Floats(Samples::decode(&mut reader, name, 10, value)?)
        }
        HISTOGRAMS => {
            let value = |reader: &mut Reader<'_>| decode_histogram(name, reader.bytes()?);
            Record::Histograms(Samples::decode(&mut reader, name, 4, value)?)
        }
        EXEMPLARS => Record::Exemplars(decode_exemplars(&mut reader)?),
        METADATA => Record::Metadata(Entry::read(&mut reader)?),
        kind => {
            return Err(Error::new(
                Kind::Unsupported,
                format!("a record of the log is of kind {kind}, which this program does not know"),
            ));
        }
    };
    if !reader.is_empty() {
        return Err(reader.corrupt("bytes follow the last row"));
    }
    Ok(decoded)
}

/// One histogram, written as a chunk of one sample at 0.
fn decode_histogram(name: &str, bytes: &[u8]) -> Result<Arc<Histogram>> {
    let (mut timestamps, mut histograms) = (Vec::new(), Vec::new());
    decode_histograms(name, bytes, 1, &mut timestamps, &mut histograms)?;
    let missing = || Error::corrupt(name, 0, "a histogram is missing");
    histograms.pop().ok_or_else(missing)
}

fn decode_exemplars(reader: &mut Reader<'_>) -> Result<Vec<(u32, Exemplar)>> {
    let mut exemplars = Vec::new();
    for _ in 0..reader.count(11)? {
        let id =
            u32::try_from(reader.varint()?).map_err(|_| reader.corrupt("an id is too large"))?;
        exemplars.push((id, Exemplar::read(0, reader)?));
    }
    Ok(exemplars)
}

fn decode_series(reader: &mut Reader<'_>) -> Result<Vec<(u32, Labels)>> {
    let mut series = Vec::new();
    for _ in 0..reader.count(2)? {
        let id =
            u32::try_from(reader.varint()?).map_err(|_| reader.corrupt("an id is too large"))?;
        series.push((id, Labels::from_encoded(reader.bytes()?)?));
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::histogram::arbitrary;
    use crate::metadata::{Metadata, MetricType};

    /// The bytes written down in FORMAT.md, "WAL records".
    #[test]
    fn golden_bytes() {
        let labels = Labels::from_pairs([("a", "b")]).unwrap();
        let series = Series {
            series: &[(300, labels.clone())],
        };
        let expected = [2, 1, 0xac, 2, 4, 1, b'a', 1, b'b'];
        assert_eq!(series.encode(), expected);
        assert_eq!(
            decode(&expected).unwrap(),
            Record::Series(vec![(300, labels)])
        );

        let mut floats = Samples::<f64>::default();
        floats.push(300, 1_000, 0, 1.0);
        floats.push(299, 999, 0, -0.0);
        let expected = [
            3, 4, 0xd8, 4, 1, 0xd0, 0x0f, 1, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0,
            0x80,
        ];
        assert_eq!(floats.encode().collect::<Vec<_>>(), [expected]);
        assert_eq!(decode(&expected).unwrap(), Record::Floats(floats));

        let mut floats = Samples::<f64>::default();
        floats.push(300, 1_000, 990, 1.0);
        let expected = [
            3, 3, 0xd8, 4, 0xd0, 0x0f, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 6, 19,
        ];
        assert_eq!(floats.encode().collect::<Vec<_>>(), [expected]);
        assert_eq!(decode(&expected).unwrap(), Record::Floats(floats));

        let mut histograms = Samples::default();
        histograms.push(300, 1_000, 0, Arc::new(Histogram::stale()));
        let expected = [4, 2, 0xd8, 4, 0xd0, 0x0f, 1, 0x23];
        assert_eq!(histograms.encode().collect::<Vec<_>>(), [expected]);
        let Record::Histograms(back) = decode(&expected).unwrap() else {
            panic!("another kind")
        };
        assert!(back.rows.values[0].is_stale());

        let mut exemplars = Exemplars::default();
        let labels = Labels::from_pairs([("a", "b")]).unwrap();
        let exemplar = Exemplar {
            timestamp: 1_000,
            value: 1.0,
            labels,
        };
        exemplars.push(300, exemplar.clone());
        let expected = [
            5, 1, 0xac, 2, 0xd0, 0x0f, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 4, 1, b'a', 1, b'b',
        ];
        assert_eq!(exemplars.encode().collect::<Vec<_>>(), [expected]);
        assert_eq!(
            decode(&expected).unwrap(),
            Record::Exemplars(vec![(300, exemplar)])
        );

        let entry = Entry {
            metric: "up".to_owned(),
            metadata: Metadata {
                kind: MetricType::Gauge,
                help: "is it".to_owned(),
                unit: String::new(),
            },
            seen_ms: 1_000,
        };
        let expected = [
            6, 2, b'u', b'p', 2, 5, b'i', b's', b' ', b'i', b't', 0, 0xd0, 0x0f,
        ];
        assert_eq!(encode_metadata(&entry), expected);
        assert_eq!(decode(&expected).unwrap(), Record::Metadata(entry));
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused_by_number() {
        let error = decode(&[9]).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("kind 9"), "{error}");
    }

    #[test]
    fn large_batches_become_several_records() {
        let mut floats = Samples::<f64>::default();
        for row in 0..ROWS_MAX + 1 {
            floats.push(1, row as i64, 0, 0.0);
        }
        let records: Vec<Vec<u8>> = floats.encode().collect();
        assert_eq!(records.len(), 2);
        let rows = |record: &[u8]| match decode(record).unwrap() {
            Record::Floats(floats) => floats.ids.len(),
            _ => 0,
        };
        assert_eq!((rows(&records[0]), rows(&records[1])), (ROWS_MAX, 1));
    }

    proptest! {
        #[test]
        fn records_round_trip(
            rows in prop::collection::vec((any::<u32>(), any::<i64>(), 0..3i64, any::<u64>()), 1..20),
        ) {
            let mut floats = Samples::<f64>::default();
            for (id, timestamp, start, bits) in &rows {
                floats.push(*id, *timestamp, *start, f64::from_bits(*bits));
            }
            let bytes = floats.encode().next().unwrap();
            let Record::Floats(back) = decode(&bytes).unwrap() else { panic!("another kind") };
            let back: Vec<_> = back.rows().map(|(i, t, s, v)| (i, t, s, v.to_bits())).collect();
            prop_assert_eq!(back, rows);
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn records_of_histograms_round_trip(
            series in arbitrary::valid_series(20),
            id: u32,
        ) {
            let mut histograms = Samples::default();
            for (at, histogram) in (0..).zip(&series) {
                histograms.push(id, at, at, Arc::clone(histogram));
            }
            let mut rest = series.iter().zip(0..);
            for record in histograms.encode() {
                let Record::Histograms(back) = decode(&record).unwrap() else {
                    panic!("another kind")
                };
                for (of, timestamp, start, histogram) in back.rows() {
                    let (written, at) = rest.next().unwrap();
                    prop_assert_eq!((of, timestamp, start), (id, at, at));
                    prop_assert!(histogram.same_bits(written));
                }
            }
            prop_assert!(rest.next().is_none());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            decode(&bytes).ok();
        }
    }
}
