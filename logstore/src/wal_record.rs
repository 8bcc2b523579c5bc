//! What one record of the log holds: the entries of one commit (`FORMAT.md`, "WAL record").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_bytes, put_signed, put_varint};
use trine_storage::{Error, Kind, Labels, Result};

use crate::columns::Columns;

/// A batch of entries, version 1.
const ENTRIES_V1: u8 = 1;

/// The entries of one commit with the streams that their codes stand for.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) streams: Vec<Labels>,
    pub(crate) columns: Columns,
}

impl Batch {
    /// The record's bytes but for the lines, which are its end: [`Columns::blob`].
    pub(crate) fn encode_head(&self) -> Vec<u8> {
        let columns = &self.columns;
        let labels = self.streams.iter().map(Labels::encoded);
        let labels: usize = labels.map(|encoded| encoded.len() + 4).sum();
        let sets = columns.sets.bytes() + 4 * columns.sets.len();
        let mut out = Vec::with_capacity(32 + labels + sets + 12 * columns.rows());
        out.push(ENTRIES_V1);
        put_varint(&mut out, self.streams.len() as u64);
        for labels in &self.streams {
            put_bytes(&mut out, labels.encoded());
        }
        put_varint(&mut out, columns.sets.len() as u64);
        for set in columns.sets.iter() {
            put_bytes(&mut out, set);
        }
        put_varint(&mut out, columns.rows() as u64);
        put_code_runs(&mut out, &columns.streams);
        put_code_runs(&mut out, &columns.metadata);
        let without = columns.rows() - columns.metadata.len();
        if without > 0 {
            put_varint(&mut out, 0);
            put_varint(&mut out, without as u64);
        }
        let mut previous = 0i64;
        for &timestamp in &columns.timestamps {
            put_signed(&mut out, timestamp.wrapping_sub(previous));
            previous = timestamp;
        }
        put_lengths(&mut out, &columns.ends);
        out
    }

    /// An empty batch with room for as much as `other` has.
    pub(crate) fn with_room_of(other: &Self) -> Self {
        let mut batch = Self::default();
        let columns = &other.columns;
        batch.streams.reserve_exact(other.streams.len());
        batch
            .columns
            .reserve_exact(columns.rows(), columns.blob.len());
        batch.columns.metadata.reserve_exact(columns.metadata.len());
        batch
    }

    /// Whether a good part of its memory is used.
    pub(crate) fn is_compact(&self) -> bool {
        let columns = &self.columns;
        let codes = columns.streams.len() + columns.ends.len() + columns.metadata.len();
        let fixed = columns.rows() * size_of::<i64>() + codes * size_of::<u32>();
        let used = columns.blob.len() + columns.sets.bytes() + fixed;
        self.heap_bytes() <= 2 * used
    }

    /// Forgets all entries, but not the memory that they took.
    pub(crate) fn clear(&mut self) {
        self.streams.clear();
        self.columns.clear();
    }

    /// Bytes on the heap, but for the labels.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.streams.capacity() * size_of::<Labels>() + self.columns.heap_bytes()
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
    if version != ENTRIES_V1 {
        return Err(Error::new(
            Kind::Unsupported,
            format!("a record of the log has version {version}, this program reads {ENTRIES_V1}"),
        ));
    }
    let mut batch = Batch::default();
    for _ in 0..reader.count(1)? {
        batch.streams.push(Labels::from_encoded(reader.bytes()?)?);
    }
    for _ in 0..reader.count(1)? {
        batch.columns.sets.push_encoded(reader.bytes()?)?;
    }
    // Each entry takes at least the byte of its timestamp and the byte of its length.
    let rows = reader.count(2)?;
    let columns = &mut batch.columns;
    columns.streams = read_code_runs(&mut reader, rows, batch.streams.len())?;
    columns.metadata = read_code_runs(&mut reader, rows, columns.sets.len() + 1)?;
    columns.timestamps.reserve_exact(rows);
    let mut previous = 0i64;
    for _ in 0..rows {
        previous = previous.wrapping_add(reader.signed()?);
        columns.timestamps.push(previous);
    }
    columns.ends = read_lengths(&mut reader, rows)?;
    columns.blob = reader.take(reader.remaining())?.to_vec();
    if columns.ends.last().map_or(0, |&end| end as usize) != columns.blob.len() {
        return Err(reader.corrupt("the lines are not as long as their lengths say"));
    }
    Ok(batch)
}

/// Appends codes as runs: code, then how often it is repeated.
pub(crate) fn put_code_runs(out: &mut Vec<u8>, codes: &[u32]) {
    for run in codes.chunk_by(|a, b| a == b) {
        put_varint(out, run.first().copied().unwrap_or(0).into());
        put_varint(out, run.len() as u64);
    }
}

/// Reads runs until there are `rows` codes, each below `bound`. `rows` was checked against the
/// data by the caller, so that it can be allocated.
pub(crate) fn read_code_runs(
    reader: &mut Reader<'_>,
    rows: usize,
    bound: usize,
) -> Result<Vec<u32>> {
    let mut codes = Vec::with_capacity(rows);
    while codes.len() < rows {
        let code = reader.varint()?;
        let run = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if run == 0 || run > rows - codes.len() {
            return Err(reader.corrupt("a run of codes is longer than its column"));
        }
        let code = u32::try_from(code)
            .ok()
            .filter(|&code| (code as usize) < bound);
        let code = code.ok_or_else(|| reader.corrupt("a code names nothing"))?;
        codes.resize(codes.len() + run, code);
    }
    Ok(codes)
}

/// Appends the length of each of the lines that end at `ends`.
pub(crate) fn put_lengths(out: &mut Vec<u8>, ends: &[u32]) {
    let mut start = 0;
    for &end in ends {
        put_varint(out, u64::from(end - start));
        start = end;
    }
}

/// Reads `rows` lengths and gives where each line ends.
pub(crate) fn read_lengths(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<u32>> {
    let mut ends = Vec::with_capacity(rows);
    let mut end = 0u32;
    for _ in 0..rows {
        let length = u32::try_from(reader.varint()?).ok();
        end = length
            .and_then(|length| end.checked_add(length))
            .ok_or_else(|| reader.corrupt("lines are longer than 4 GiB"))?;
        ends.push(end);
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: &[(u32, i64, &[u8], u32)]) -> Batch {
        let labels = |name, value| Labels::from_pairs([(name, value)]).unwrap();
        let streams = vec![labels("a", "b"), labels("a", "c")];
        let mut batch = Batch {
            streams,
            ..Batch::default()
        };
        batch.columns.sets.push(&labels("k", "v"));
        for &(stream, timestamp, line, set) in rows {
            batch.columns.push(stream, timestamp, line, set);
        }
        batch
    }

    fn encode(batch: &Batch) -> Vec<u8> {
        [batch.encode_head(), batch.columns.blob.clone()].concat()
    }

    /// The bytes written down in FORMAT.md, "WAL record".
    #[test]
    fn golden_bytes() {
        let batch = batch(&[(0, 1_000, b"hi", 0), (1, 999, b"", 1), (1, 999, b"!", 1)]);
        let expected = [
            1, // version
            2, 4, 1, b'a', 1, b'b', 4, 1, b'a', 1, b'c', // streams
            1, 4, 1, b'k', 1, b'v', // sets of metadata
            3,    // entries
            0, 1, 1, 2, // streams in runs
            0, 1, 1, 2, // metadata in runs
            0xd0, 0x0f, 1, 0, // timestamps
            2, 0, 1, // lengths
            b'h', b'i', b'!', // lines
        ];
        assert_eq!(encode(&batch), expected);
    }

    #[test]
    fn a_newer_version_is_refused_by_number() {
        let error = decode(&[9]).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    proptest! {
        #[test]
        fn records_round_trip(
            rows in prop::collection::vec(
                (0..2u32, any::<i64>(), any::<Vec<u8>>(), 0..2u32),
                0..20,
            ),
        ) {
            let rows: Vec<_> = rows.iter().map(|(s, t, l, m)| (*s, *t, l.as_slice(), *m)).collect();
            let batch = batch(&rows);
            let bytes = encode(&batch);
            let back = decode(&bytes).unwrap();
            prop_assert_eq!(&back.streams, &batch.streams);
            prop_assert!(back.columns.sets.iter().eq(batch.columns.sets.iter()));
            prop_assert_eq!(&back.columns.streams, &batch.columns.streams);
            for row in 0..rows.len() {
                prop_assert_eq!(back.columns.set_code(row), batch.columns.set_code(row));
            }
            prop_assert_eq!(&back.columns.timestamps, &batch.columns.timestamps);
            prop_assert_eq!(&back.columns.ends, &batch.columns.ends);
            prop_assert_eq!(&back.columns.blob, &batch.columns.blob);
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>) {
            decode(&bytes).ok();
            bytes.insert(0, ENTRIES_V1);
            decode(&bytes).ok();
        }
    }
}
