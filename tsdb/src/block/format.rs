//! The bytes of a block: sections, the series table, runs (`FORMAT.md`, "Block").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::Result;
use trine_storage::codec::{Reader, put_signed, put_varint};

/// The letters in the header of the container.
pub(crate) const KIND: [u8; 4] = *b"tsdb";

/// Section: the series in label order, each with the place of its run.
pub(crate) const SERIES: u32 = 1;
/// Section: the label index; its ids are places in the series table.
pub(crate) const INDEX: u32 = 2;
/// Section: where the pages lie and how long they are when decompressed.
pub(crate) const PAGES: u32 = 3;

/// Runs are packed into pages of about this many bytes before compression: small enough to read
/// one series without much waste, large enough for the compression to pay.
pub(crate) const PAGE_BYTES: usize = 64 << 10;
/// No page claims more than this when decompressed. Larger than any memory that could be sealed (a
/// run is never cut), so that nothing is written that is not read back; a damaged claim is caught by
/// the checksum before.
pub(crate) const PAGE_BYTES_MAX: u64 = 1 << 36;
pub(crate) const ZSTD_LEVEL: i32 = 1;

/// Appends a run: the number of samples, timestamps as the delta of the delta, values as the XOR
/// with the one before, bits reversed so that small integers and equal values take one or two
/// bytes. Bit-exact.
pub(crate) fn encode_run(out: &mut Vec<u8>, timestamps: &[i64], values: &[f64]) {
    put_varint(out, timestamps.len() as u64);
    let (mut previous, mut delta) = (0i64, 0i64);
    for &timestamp in timestamps {
        let next = timestamp.wrapping_sub(previous);
        put_signed(out, next.wrapping_sub(delta));
        (previous, delta) = (timestamp, next);
    }
    let mut previous = 0u64;
    for value in values {
        let bits = value.to_bits();
        put_varint(out, (bits ^ previous).reverse_bits());
        previous = bits;
    }
}

/// Reads a run written by [`encode_run`].
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are no run, or their timestamps
/// do not rise.
pub fn decode_run(name: &str, bytes: &[u8]) -> Result<(Vec<i64>, Vec<f64>)> {
    let mut reader = Reader::new(name, bytes);
    let count = reader.count(2)?;
    let mut timestamps = Vec::with_capacity(count);
    let (mut previous, mut delta) = (0i64, 0i64);
    for i in 0..count {
        delta = delta.wrapping_add(reader.signed()?);
        let timestamp = previous.wrapping_add(delta);
        if i > 0 && timestamp <= previous {
            return Err(reader.corrupt("timestamps do not rise"));
        }
        timestamps.push(timestamp);
        previous = timestamp;
    }
    let mut values = Vec::with_capacity(count);
    let mut bits = 0u64;
    for _ in 0..count {
        bits ^= reader.varint()?.reverse_bits();
        values.push(f64::from_bits(bits));
    }
    if !reader.is_empty() {
        return Err(reader.corrupt("bytes follow the last value of a run"));
    }
    Ok((timestamps, values))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes written down in FORMAT.md, "Run".
    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        encode_run(&mut out, &[1_000, 2_000, 3_000], &[1.0, 1.0, 3.0]);
        assert_eq!(out, [3, 0xd0, 0x0f, 0, 0, 0xfc, 0x1f, 0, 0xfe, 0x3f]);
    }

    proptest! {
        #[test]
        fn runs_round_trip(samples in prop::collection::btree_map(any::<i64>(), any::<u64>(), 0..50)) {
            let timestamps: Vec<i64> = samples.keys().copied().collect();
            let values: Vec<f64> = samples.values().map(|bits| f64::from_bits(*bits)).collect();
            let mut out = Vec::new();
            encode_run(&mut out, &timestamps, &values);
            let (t, v) = decode_run("test", &out).unwrap();
            prop_assert_eq!(t, timestamps);
            prop_assert!(v.iter().map(|v| v.to_bits()).eq(samples.values().copied()));
            for cut in 0..out.len() {
                prop_assert!(decode_run("test", &out[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            decode_run("test", &bytes).ok();
        }
    }
}
