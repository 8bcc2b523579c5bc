//! Columns of numbers and of short byte strings inside a page (`FORMAT.md`, "Columns"): what the
//! codecs of lines, timestamps and metadata are made of.
//!
//! A column does not say how many values it has; its reader knows. Each says how it is stored, and
//! the writer takes what is smallest.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::Result;
use trine_storage::codec::{Reader, put_varint};
use trine_storage::pack::{self, compress};

/// Numbers above the smallest, in as many bits as the largest of them needs.
const PACKED: u8 = 0;
/// Differences between neighbours, zigzag, in blocks of [`BLOCK`].
const DELTAS: u8 = 1;
/// Little-endian bytes under zstd: numbers that repeat in a pattern.
const REPEATED: u8 = 2;
/// Bytes as they are.
const PLAIN: u8 = 0;

/// Differences share a width by this many.
const BLOCK: usize = 128;
/// Columns of fewer bytes are not worth a dictionary of repeats.
const REPEATED_BYTES_MIN: usize = 256;

/// Appends a column of numbers.
pub(crate) fn put_numbers(out: &mut Vec<u8>, values: &[u64]) {
    let least = values.iter().copied().min().unwrap_or(0);
    let width = values.iter().map(|&v| bits(v - least)).max().unwrap_or(0);
    let packed_len = packed_bytes(values.len(), width);
    let deltas_len = deltas_bytes(values);
    let start = out.len();
    if deltas_len < packed_len {
        out.push(DELTAS);
        put_deltas(out, values);
    } else {
        out.push(PACKED);
        put_varint(out, least);
        out.push(width);
        pack(out, values.iter().map(|&value| value - least), width);
    }
    let len = out.len() - start;
    if len >= REPEATED_BYTES_MIN && repeats(values) {
        let width = (bits(values.iter().copied().max().unwrap_or(0)).div_ceil(8)).max(1);
        let mut raw = Vec::with_capacity(values.len() * usize::from(width));
        for value in values {
            raw.extend(value.to_le_bytes().iter().take(usize::from(width)));
        }
        if let Some(packed) = compress(&raw, len.saturating_sub(2)) {
            out.truncate(start);
            out.extend_from_slice(&[REPEATED, width]);
            out.extend_from_slice(&packed);
        }
    }
}

/// Reads a column of `count` numbers that takes all of `bytes`.
pub(crate) fn numbers(name: &str, bytes: &[u8], count: usize) -> Result<Vec<u64>> {
    let mut reader = Reader::new(name, bytes);
    match reader.u8()? {
        PACKED => {
            let least = reader.varint()?;
            let width = reader.u8()?;
            let mut values = Vec::new();
            unpack(&mut reader, count, width, &mut values)?;
            for value in &mut values {
                *value = value.wrapping_add(least);
            }
            Ok(values)
        }
        DELTAS => deltas(&mut reader, count),
        REPEATED => {
            let width = usize::from(reader.u8()?);
            if !(1..=8).contains(&width) {
                return Err(reader.corrupt("a number has no width"));
            }
            let len = count.checked_mul(width);
            let len = len.ok_or_else(|| reader.corrupt("a column is too long"))?;
            let raw = decompress(&mut reader, len)?;
            Ok(match width {
                // Lengths and parts of dates mostly.
                1 => raw.into_iter().map(u64::from).collect(),
                2 => {
                    let (pairs, _) = raw.as_chunks::<2>();
                    let number = |pair: &[u8; 2]| u64::from(u16::from_le_bytes(*pair));
                    pairs.iter().map(number).collect()
                }
                _ => {
                    let number = |bytes: &[u8]| {
                        let mut le = [0; 8];
                        le.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                        u64::from_le_bytes(le)
                    };
                    raw.chunks_exact(width).map(number).collect()
                }
            })
        }
        _ => Err(reader.corrupt("a column of numbers is stored in an unknown way")),
    }
}

/// Appends a column of bytes, whose length the reader knows.
pub(crate) fn put_blob(out: &mut Vec<u8>, raw: &[u8]) {
    // What is random does not shrink; a tenth must be won to be worth unpacking.
    match compress(raw, raw.len() - raw.len() / 10) {
        Some(packed) => {
            out.push(REPEATED);
            out.extend_from_slice(&packed);
        }
        None => {
            out.push(PLAIN);
            out.extend_from_slice(raw);
        }
    }
}

/// Reads a column of `len` bytes that takes all of `bytes`.
pub(crate) fn blob(name: &str, bytes: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut reader = Reader::new(name, bytes);
    match reader.u8()? {
        PLAIN if reader.remaining() == len => Ok(reader.take(len)?.to_vec()),
        REPEATED => decompress(&mut reader, len),
        _ => Err(reader.corrupt("a column of bytes is not as long as it should be")),
    }
}

fn bits(value: u64) -> u8 {
    // At most 64.
    u8::try_from(u64::BITS - value.leading_zeros()).unwrap_or(64)
}

fn packed_bytes(count: usize, width: u8) -> usize {
    count.saturating_mul(usize::from(width)).div_ceil(8)
}

/// Appends numbers of at most `width` bits, the low bits first.
fn pack(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: u8) {
    let (mut held, mut filled) = (0u128, 0u32);
    for value in values {
        held |= u128::from(value) << filled;
        filled += u32::from(width);
        if filled >= 64 {
            let [low, _] = halves(held);
            out.extend_from_slice(&low.to_le_bytes());
            held >>= 64;
            filled -= 64;
        }
    }
    let [low, _] = halves(held);
    let left = usize::try_from(filled.div_ceil(8)).unwrap_or(8);
    out.extend(low.to_le_bytes().iter().take(left));
}

fn halves(value: u128) -> [u64; 2] {
    let bytes = value.to_le_bytes();
    let (low, high) = bytes.split_at(8);
    let number = |half: &[u8]| half.try_into().map_or(0, u64::from_le_bytes);
    [number(low), number(high)]
}

/// Reads what [`pack`] wrote and appends it to `values`.
fn unpack(reader: &mut Reader<'_>, count: usize, width: u8, values: &mut Vec<u64>) -> Result<()> {
    if width > 64 {
        return Err(reader.corrupt("a number is wider than 64 bits"));
    }
    let bytes = reader.take(packed_bytes(count, width))?;
    values.reserve(count);
    if width == 0 {
        values.resize(values.len() + count, 0);
        return Ok(());
    }
    let width = usize::from(width);
    let mask = u64::MAX >> (64 - width);
    let mut bit = 0usize;
    let mut left = count;
    // Eight bytes at once hold any number of up to 57 bits.
    if width <= 57 {
        while left > 0 {
            let at = bit >> 3;
            let Some(word) = bytes.get(at..at + 8) else {
                break;
            };
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            values.push((word >> (bit & 7)) & mask);
            bit += width;
            left -= 1;
        }
    }
    for _ in 0..left {
        let mut word = [0u8; 16];
        let rest = bytes.get(bit >> 3..).unwrap_or_default();
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let [low, _] = halves(u128::from_le_bytes(word) >> (bit & 7));
        values.push(low & mask);
        bit += width;
    }
    Ok(())
}

fn zigzag(from: u64, to: u64) -> u64 {
    let delta = to.wrapping_sub(from).cast_signed();
    ((delta << 1) ^ (delta >> 63)).cast_unsigned()
}

fn differences(values: &[u64]) -> impl Iterator<Item = u64> {
    let neighbours = values.iter().zip(values.iter().skip(1));
    neighbours.map(|(&from, &to)| zigzag(from, to))
}

/// About what [`put_deltas`] takes.
fn deltas_bytes(values: &[u64]) -> usize {
    let (mut len, mut widest, mut held) = (2, 0, 0);
    for delta in differences(values) {
        widest = widest.max(bits(delta));
        held += 1;
        if held == BLOCK {
            len += 1 + packed_bytes(held, widest);
            (widest, held) = (0, 0);
        }
    }
    len + 1 + packed_bytes(held, widest)
}

fn put_deltas(out: &mut Vec<u8>, values: &[u64]) {
    put_varint(out, values.first().copied().unwrap_or(0));
    let all: Vec<u64> = differences(values).collect();
    put_blocks(out, &all);
}

fn deltas(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>> {
    let mut value = reader.varint()?;
    let Some(more) = count.checked_sub(1) else {
        return Ok(Vec::new());
    };
    let all = blocks(reader, more)?;
    let mut values = Vec::with_capacity(count);
    values.push(value);
    for delta in all {
        value = value.wrapping_add((delta >> 1) ^ (delta & 1).wrapping_neg());
        values.push(value);
    }
    Ok(values)
}

/// Appends numbers, each block of [`BLOCK`] with a width of its own.
pub(crate) fn put_blocks(out: &mut Vec<u8>, values: &[u64]) {
    for block in values.chunks(BLOCK) {
        let width = block.iter().map(|&value| bits(value)).max().unwrap_or(0);
        out.push(width);
        pack(out, block.iter().copied(), width);
    }
}

/// Reads what [`put_blocks`] wrote. `count` was bounded by the caller.
pub(crate) fn blocks(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>> {
    let mut values = Vec::new();
    while values.len() < count {
        let width = reader.u8()?;
        unpack(reader, BLOCK.min(count - values.len()), width, &mut values)?;
    }
    Ok(values)
}

/// Whether every other number or more was among the last few, so that a search for repeats may pay.
pub(crate) fn repeats(values: &[u64]) -> bool {
    const SAMPLE: usize = 512;
    const RECENT: usize = 256;
    let mut recent = [u64::MAX; RECENT];
    let (mut seen, mut known) = (0usize, 0usize);
    for &value in values.iter().take(SAMPLE) {
        let slot = usize::try_from(value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).unwrap_or(0);
        if let Some(slot) = recent.get_mut(slot) {
            known += usize::from(*slot == value);
            *slot = value;
        }
        seen += 1;
    }
    known * 2 >= seen
}

fn decompress(reader: &mut Reader<'_>, len: usize) -> Result<Vec<u8>> {
    let packed = reader.take(reader.remaining())?;
    pack::decompress(packed, len).ok_or_else(|| reader.corrupt("a column cannot be decompressed"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(values: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        put_numbers(&mut out, values);
        out
    }

    /// The bytes written down in FORMAT.md, "Columns".
    #[test]
    fn golden_bytes() {
        assert_eq!(stored(&[]), [PACKED, 0, 0]);
        assert_eq!(stored(&[7, 7, 7]), [PACKED, 7, 0]);
        assert_eq!(stored(&[5, 6, 8]), [PACKED, 5, 2, 0b11_01_00]);
        let counter: Vec<u64> = (0..9).map(|n| 1_000 * n).collect();
        assert_eq!(
            stored(&counter)[..4],
            [DELTAS, 0, 11, 0xd0],
            "steps of 1000 are 2000 after zigzag"
        );
        let pattern: Vec<u64> = (0..1_000).map(|n| [2015, 10, 18, 99][n % 4]).collect();
        assert_eq!(stored(&pattern)[..2], [REPEATED, 2]);
        let mut out = Vec::new();
        put_blob(&mut out, b"abc");
        assert_eq!(out, *b"\0abc");
    }

    #[test]
    fn every_width_round_trips() {
        for width in 0..=64u32 {
            let top = 1u64.checked_shl(width).map_or(u64::MAX, |v| v - 1);
            for count in [1usize, 2, 7, 8, 9, 127, 128, 129, 300] {
                let values: Vec<u64> = (0..count as u64)
                    .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) & top)
                    .chain([top])
                    .collect();
                let bytes = stored(&values);
                let back = numbers("test", &bytes, values.len()).unwrap();
                assert_eq!(back, values, "{width} bits");
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_round_trip(values: Vec<u64>, few in prop::collection::vec(0..5u64, 0..900)) {
            for values in [values, few] {
                let bytes = stored(&values);
                prop_assert_eq!(numbers("test", &bytes, values.len()).unwrap(), values);
            }
        }

        #[test]
        fn blobs_round_trip(raw: Vec<u8>, times in 1..9usize) {
            let raw = raw.repeat(times);
            let mut out = Vec::new();
            put_blob(&mut out, &raw);
            prop_assert_eq!(blob("test", &out, raw.len()).unwrap(), raw);
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>, tag in 0..4u8, count in 0..1000usize) {
            bytes.insert(0, tag);
            numbers("test", &bytes, count).ok();
            blob("test", &bytes, count).ok();
        }
    }
}
