//! What one record of the log holds: series that begin, or samples (`FORMAT.md`, "WAL records").
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_bytes, put_signed, put_u64, put_varint};
use trine_storage::{Error, Kind, Labels, Result};

/// Series that begin: ids and labels.
const SERIES: u8 = 2;
/// Float samples by id.
const FLOATS: u8 = 3;
/// Samples in one record at most; larger batches become several records.
pub(crate) const ROWS_MAX: usize = 1 << 18;

/// A record that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Ids and the labels that they mean from now on.
    Series(Vec<(u32, Labels)>),
    /// Samples.
    Floats(Floats),
}

/// Series that begin.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    pub(crate) series: &'a [(u32, Labels)],
}

/// Float samples as columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Floats {
    ids: Vec<u32>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
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

impl Floats {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            ids: Vec::with_capacity(rows),
            timestamps: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows),
        }
    }

    pub(crate) fn push(&mut self, id: u32, timestamp: i64, value: f64) {
        self.ids.push(id);
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (u32, i64, f64)> {
        let rows = self.ids.iter().zip(&self.timestamps).zip(&self.values);
        rows.map(|((id, timestamp), value)| (*id, *timestamp, *value))
    }

    /// The records that hold these samples.
    pub(crate) fn encode(&self) -> impl Iterator<Item = Vec<u8>> {
        let columns = self.ids.chunks(ROWS_MAX);
        let columns = columns.zip(self.timestamps.chunks(ROWS_MAX));
        let columns = columns.zip(self.values.chunks(ROWS_MAX));
        columns.map(|((ids, timestamps), values)| encode_rows(ids, timestamps, values))
    }
}

fn encode_rows(ids: &[u32], timestamps: &[i64], values: &[f64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + 12 * ids.len());
    out.push(FLOATS);
    put_varint(&mut out, ids.len() as u64);
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
    for value in values {
        put_u64(&mut out, value.to_bits());
    }
    out
}

/// Reads a record.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no record, [`Kind::Unsupported`] when a newer version wrote
/// them.
pub fn decode(record: &[u8]) -> Result<Record> {
    let mut reader = Reader::new("a record of the write-ahead log", record);
    let decoded = match reader.u8()? {
        SERIES => Record::Series(decode_series(&mut reader)?),
        FLOATS => Record::Floats(decode_floats(&mut reader)?),
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

fn decode_series(reader: &mut Reader<'_>) -> Result<Vec<(u32, Labels)>> {
    let mut series = Vec::new();
    for _ in 0..reader.count(2)? {
        let id =
            u32::try_from(reader.varint()?).map_err(|_| reader.corrupt("an id is too large"))?;
        series.push((id, Labels::from_encoded(reader.bytes()?)?));
    }
    Ok(series)
}

fn decode_floats(reader: &mut Reader<'_>) -> Result<Floats> {
    let rows = reader.count(10)?;
    let mut floats = Floats::with_capacity(rows);
    let mut id = 0i64;
    for _ in 0..rows {
        id = id.wrapping_add(reader.signed()?);
        let checked = u32::try_from(id).map_err(|_| reader.corrupt("an id is out of range"))?;
        floats.ids.push(checked);
    }
    let mut timestamp = 0i64;
    for _ in 0..rows {
        timestamp = timestamp.wrapping_add(reader.signed()?);
        floats.timestamps.push(timestamp);
    }
    for _ in 0..rows {
        floats.values.push(f64::from_bits(reader.u64()?));
    }
    Ok(floats)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

        let mut floats = Floats::default();
        floats.push(300, 1_000, 1.0);
        floats.push(299, 999, -0.0);
        let expected = [
            3, 2, 0xd8, 4, 1, 0xd0, 0x0f, 1, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0,
            0x80,
        ];
        assert_eq!(floats.encode().collect::<Vec<_>>(), [expected]);
        assert_eq!(decode(&expected).unwrap(), Record::Floats(floats));
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused_by_number() {
        let error = decode(&[9]).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("kind 9"), "{error}");
    }

    #[test]
    fn large_batches_become_several_records() {
        let mut floats = Floats::default();
        for row in 0..ROWS_MAX + 1 {
            floats.push(1, row as i64, 0.0);
        }
        let records: Vec<Vec<u8>> = floats.encode().collect();
        assert_eq!(records.len(), 2);
        let rows = |record: &[u8]| match decode(record).unwrap() {
            Record::Floats(floats) => floats.ids.len(),
            Record::Series(_) => 0,
        };
        assert_eq!((rows(&records[0]), rows(&records[1])), (ROWS_MAX, 1));
    }

    proptest! {
        #[test]
        fn records_round_trip(rows in prop::collection::vec((any::<u32>(), any::<i64>(), any::<u64>()), 1..20)) {
            let mut floats = Floats::default();
            for (id, timestamp, bits) in &rows {
                floats.push(*id, *timestamp, f64::from_bits(*bits));
            }
            let bytes = floats.encode().next().unwrap();
            let Record::Floats(back) = decode(&bytes).unwrap() else { panic!("another kind") };
            let bits = |f: &Floats| f.rows().map(|(i, t, v)| (i, t, v.to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), rows);
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
