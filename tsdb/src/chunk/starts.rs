//! Start timestamps of the samples of a chunk as runs, for chunks in which any is known: a few
//! bytes when they are constant or each is the timestamp before (`FORMAT.md`, "Start timestamps").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_signed, put_varint};
use trine_storage::{Error, Result};

/// What the starts of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The start before; 0 before the first sample.
    Same = 0,
    /// The timestamp of the sample before: delta temporality. 0 before the first sample.
    Previous = 1,
    /// Written, each as the difference to the timestamp of its sample.
    Written = 2,
    /// 0, which says that it is not known.
    Unknown = 3,
}

/// Bits of the kind in the number that begins a run.
const KIND_BITS: u32 = 2;

/// What the codec knows before a sample.
#[derive(Debug, Default, Clone, Copy)]
struct Before {
    start: i64,
    timestamp: i64,
}

impl Before {
    fn kind_of(self, start: i64) -> Kind {
        if start == 0 {
            Kind::Unknown
        } else if start == self.start {
            Kind::Same
        } else if start == self.timestamp {
            Kind::Previous
        } else {
            Kind::Written
        }
    }
}

/// Writes start timestamps one after the other; the bytes are complete after each.
#[derive(Debug, Default, Clone)]
pub(crate) struct StartsEncoder {
    bytes: Vec<u8>,
    before: Before,
    /// The run that may go on: where it begins, its kind and how many there are.
    at: usize,
    kind: Option<Kind>,
    len: u64,
}

impl StartsEncoder {
    /// After `count` samples with unknown starts, the last of them at `timestamp`.
    pub(crate) fn after_unknown(count: u32, timestamp: i64) -> Self {
        let mut encoder = Self::default();
        if count > 0 {
            encoder.kind = Some(Kind::Unknown);
            encoder.len = u64::from(count);
            encoder.before.timestamp = timestamp;
            let header = encoder.header(Kind::Unknown);
            put_varint(&mut encoder.bytes, header);
        }
        encoder
    }

    fn header(&self, kind: Kind) -> u64 {
        self.len << KIND_BITS | kind as u64
    }

    /// Appends the start of a sample, 0 when it is not known.
    pub(crate) fn append(&mut self, timestamp: i64, start: i64) {
        let kind = self.before.kind_of(start);
        if self.kind == Some(kind) {
            self.len += 1;
            let mut header = Vec::new();
            put_varint(&mut header, self.header(kind));
            // The header may be a byte longer than it was.
            let mut old = Vec::new();
            put_varint(&mut old, (self.len - 1) << KIND_BITS | kind as u64);
            self.bytes.splice(self.at..self.at + old.len(), header);
        } else {
            self.at = self.bytes.len();
            (self.kind, self.len) = (Some(kind), 1);
            let header = self.header(kind);
            put_varint(&mut self.bytes, header);
        }
        if kind == Kind::Written {
            put_signed(&mut self.bytes, start.wrapping_sub(timestamp));
        }
        self.before = Before { start, timestamp };
    }

    /// What was written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Writes the starts of samples with these timestamps; both have one length.
pub(crate) fn encode_starts(starts: &[i64], timestamps: &[i64], out: &mut Vec<u8>) {
    let mut encoder = StartsEncoder::default();
    for (&start, &timestamp) in starts.iter().zip(timestamps) {
        encoder.append(timestamp, start);
    }
    out.extend_from_slice(encoder.bytes());
}

/// The starts of samples with these timestamps, added to `starts`. The bytes must hold nothing
/// else.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are no starts of so many samples;
/// nothing was added then.
pub fn decode_starts(
    name: &str,
    bytes: &[u8],
    timestamps: &[i64],
    starts: &mut Vec<i64>,
) -> Result<()> {
    let from = starts.len();
    let mut reader = Reader::new(name, bytes);
    let decoded = read_runs(&mut reader, timestamps, starts);
    decoded.inspect_err(|_| starts.truncate(from))
}

fn read_runs(reader: &mut Reader<'_>, timestamps: &[i64], starts: &mut Vec<i64>) -> Result<()> {
    let wrong = |reader: &Reader<'_>| -> Error {
        reader.corrupt("start timestamps are not as many as their samples")
    };
    let mut before = Before::default();
    let mut rest = timestamps;
    while !rest.is_empty() {
        let run = reader.varint()?;
        let len = usize::try_from(run >> KIND_BITS).unwrap_or(usize::MAX);
        let Some((now, later)) = rest.split_at_checked(len).filter(|_| len > 0) else {
            return Err(wrong(reader));
        };
        for &timestamp in now {
            let start = match run & 3 {
                0 => before.start,
                1 => before.timestamp,
                2 => timestamp.wrapping_add(reader.signed()?),
                _ => 0,
            };
            starts.push(start);
            before = Before { start, timestamp };
        }
        rest = later;
    }
    if reader.is_empty() {
        Ok(())
    } else {
        Err(wrong(reader))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trine_storage::Kind::Corrupt;

    use super::*;

    fn check(starts: &[i64], timestamps: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_starts(starts, timestamps, &mut out);
        let mut decoded = vec![7];
        decode_starts("a", &out, timestamps, &mut decoded).unwrap();
        assert_eq!((decoded[0], &decoded[1..]), (7, starts));
        out
    }

    /// The bytes written down in FORMAT.md, "Start timestamps".
    #[test]
    fn golden_bytes() {
        let timestamps = [1000, 1100, 1200, 1300, 1400];
        assert_eq!(
            check(&[990, 990, 990, 1200, 0], &timestamps),
            [6, 19, 8, 5, 7]
        );
        assert!(check(&[], &[]).is_empty());
    }

    #[test]
    fn constant_ones_and_deltas_are_small() {
        let timestamps: Vec<i64> = (0..240)
            .map(|i| 1_790_000_000_000 + i * 15_000 + i % 3)
            .collect();
        let began = timestamps[0] - 1_000_000;
        assert_eq!(check(&[began; 240], &timestamps).len(), 6);
        let mut deltas = vec![began];
        deltas.extend(&timestamps[..239]);
        assert_eq!(check(&deltas, &timestamps).len(), 6);
        assert_eq!(check(&[0; 240], &timestamps).len(), 2);
    }

    #[test]
    fn starts_may_begin_to_be_known() {
        let timestamps: Vec<i64> = (1000..1100).collect();
        let mut starts = vec![0; 100];
        for unknown in [0u8, 1, 40] {
            let from = usize::from(unknown);
            let before = from.checked_sub(1).map_or(0, |at| timestamps[at]);
            let mut encoder = StartsEncoder::after_unknown(unknown.into(), before);
            for at in from..100 {
                starts[at] = 7 * at as i64 % 5;
                encoder.append(timestamps[at], starts[at]);
            }
            starts[..from].fill(0);
            let mut decoded = Vec::new();
            decode_starts("a", encoder.bytes(), &timestamps, &mut decoded).unwrap();
            assert_eq!(decoded, starts);
        }
    }

    #[test]
    fn what_cannot_be_starts_is_corrupt() {
        let timestamps = [1000, 1100, 1200];
        for bytes in [
            &[][..],
            &[3 << 2],
            &[3 << 2, 0],
            &[0, 3 << 2],
            &[2 << 2],
            &[4 << 2],
            &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            &[3 << 2 | 2, 0, 0],
        ] {
            let mut starts = vec![7];
            let result = decode_starts("a", bytes, &timestamps, &mut starts);
            let fine = bytes == [3 << 2];
            assert_eq!(
                result.map_err(|error| error.kind()),
                if fine { Ok(()) } else { Err(Corrupt) }
            );
            assert_eq!(starts, if fine { vec![7, 0, 0, 0] } else { vec![7] });
        }
    }

    /// A timestamp and a start, none for the timestamp before.
    fn row() -> impl Strategy<Value = (i64, Option<i64>)> {
        let start = prop_oneof![
            Just(None),
            Just(Some(0)),
            Just(Some(5)),
            any::<i64>().prop_map(Some)
        ];
        (any::<i64>(), start)
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(rows in prop::collection::vec(row(), 0..50)) {
            let (timestamps, starts): (Vec<i64>, Vec<_>) = rows.into_iter().unzip();
            let before = [0].into_iter().chain(timestamps.iter().copied());
            let starts = starts.into_iter().zip(before);
            let starts: Vec<i64> = starts.map(|(start, before)| start.unwrap_or(before)).collect();
            let bytes = check(&starts, &timestamps);
            for len in 0..bytes.len() {
                let cut = decode_starts("a", &bytes[..len], &timestamps, &mut Vec::new());
                prop_assert!(cut.is_err());
            }
        }

        #[test]
        fn any_bytes_are_harmless(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            count in 0..100i64,
        ) {
            let timestamps: Vec<i64> = (0..count).collect();
            let mut starts = Vec::new();
            let result = decode_starts("a", &bytes, &timestamps, &mut starts);
            prop_assert_eq!(starts.len(), if result.is_ok() { timestamps.len() } else { 0 });
        }
    }
}
