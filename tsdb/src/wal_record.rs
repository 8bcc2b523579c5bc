//! What one record of the log holds: the samples of one commit (`FORMAT.md`, "WAL record").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_bytes, put_signed, put_u64, put_varint};
use trine_storage::{Error, Kind, Labels, Result};

/// A batch of float samples, version 1.
const FLOATS_V1: u8 = 1;

/// The samples of one commit, grouped by series in order of arrival.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The series, each with the number of its samples.
    pub series: Vec<(Labels, usize)>,
    /// Timestamps of all samples, milliseconds since 1970.
    pub timestamps: Vec<i64>,
    /// Values of all samples.
    pub values: Vec<f64>,
}

impl Batch {
    /// Adds a sample; samples of one series that come one after the other share its labels.
    pub(crate) fn push(&mut self, labels: &Labels, timestamp: i64, value: f64) {
        match self.series.last_mut() {
            Some((last, count)) if last == labels => *count += 1,
            _ => self.series.push((labels.clone(), 1)),
        }
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    /// The samples with the labels of their series.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&Labels, &[i64], &[f64])> {
        let mut start = 0;
        self.series.iter().map(move |(labels, count)| {
            let range = start..start + count;
            start = range.end;
            let timestamps = self.timestamps.get(range.clone()).unwrap_or_default();
            (
                labels,
                timestamps,
                self.values.get(range).unwrap_or_default(),
            )
        })
    }

    /// The record's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let labels: usize = self
            .series
            .iter()
            .map(|(labels, _)| labels.encoded().len() + 4)
            .sum();
        let mut out = Vec::with_capacity(16 + labels + 12 * self.values.len());
        out.push(FLOATS_V1);
        put_varint(&mut out, self.series.len() as u64);
        let mut previous = 0i64;
        for (labels, timestamps, values) in self.runs() {
            put_bytes(&mut out, labels.encoded());
            put_varint(&mut out, values.len() as u64);
            for (timestamp, value) in timestamps.iter().zip(values) {
                put_signed(&mut out, timestamp.wrapping_sub(previous));
                put_u64(&mut out, value.to_bits());
                previous = *timestamp;
            }
        }
        out
    }
}

/// Reads a record.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no record, [`Kind::Unsupported`] when a newer version wrote
/// them.
pub fn decode(record: &[u8]) -> Result<Batch> {
    let mut reader = Reader::new("a record of the write-ahead log", record);
    let version = reader.u8()?;
    if version != FLOATS_V1 {
        return Err(Error::new(
            Kind::Unsupported,
            format!("a record of the log has version {version}, this program reads {FLOATS_V1}"),
        ));
    }
    let mut batch = Batch::default();
    let mut previous = 0i64;
    for _ in 0..reader.count(3)? {
        let labels = Labels::from_encoded(reader.bytes()?)?;
        let count = reader.count(9)?;
        batch.series.push((labels, count));
        for _ in 0..count {
            previous = previous.wrapping_add(reader.signed()?);
            batch.timestamps.push(previous);
            batch.values.push(f64::from_bits(reader.u64()?));
        }
    }
    if !reader.is_empty() {
        return Err(reader.corrupt("bytes follow the last series"));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes written down in FORMAT.md, "WAL record".
    #[test]
    fn golden_bytes() {
        let mut batch = Batch::default();
        let up = Labels::from_pairs([("a", "b")]).unwrap();
        batch.push(&up, 1_000, 1.0);
        batch.push(&up, 999, -0.0);
        let expected = [
            1, 1, 4, 1, b'a', 1, b'b', 2, 0xd0, 0x0f, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 1, 0, 0, 0, 0,
            0, 0, 0, 0x80,
        ];
        assert_eq!(batch.encode(), expected);
    }

    #[test]
    fn a_newer_version_is_refused_by_number() {
        let error = decode(&[9]).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    proptest! {
        #[test]
        fn records_round_trip(rows in prop::collection::vec(("[ab]", any::<i64>(), any::<u64>()), 0..20)) {
            let mut batch = Batch::default();
            for (value, timestamp, bits) in &rows {
                let labels = Labels::from_pairs([("l", value)]).unwrap();
                batch.push(&labels, *timestamp, f64::from_bits(*bits));
            }
            let bytes = batch.encode();
            let back = decode(&bytes).unwrap();
            prop_assert_eq!(&back.series, &batch.series);
            prop_assert_eq!(&back.timestamps, &batch.timestamps);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back.values), bits(&batch.values));
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            decode(&bytes).ok();
        }
    }
}
