//! A filter of the values of a column without a dictionary: "perhaps" may be wrong, "no" never is.
//! Looked at before any page is.
//!
//! A split-block Bloom filter (F. Putze, P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient
//! Bloom Filters", 2009): a value sets one bit in each of the eight words of one block of 32 bytes.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::put_u32;
use xxhash_rust::xxh3::xxh3_64;

const LANES: usize = 8;
/// Bytes of a block.
const BLOCK: usize = 4 * LANES;
/// For each distinct value.
const BITS: usize = 10;
/// The share of bits, in 256ths, up to which two blocks are made one: together they then have as
/// many as `BITS` bits for each value leave.
const SPARSE: u64 = 84;
/// Odd numbers: the beginnings of the square roots of the first primes.
const FACTORS: [u32; LANES] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f373,
    0xa54f_f53b,
    0x510e_527f,
    0x9b05_688d,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The hash by which a value is known to filters.
pub(crate) fn hash(value: &[u8]) -> u64 {
    xxh3_64(value)
}

/// Puts a filter together.
#[derive(Debug)]
pub(crate) struct FilterWriter {
    blocks: Vec<[u32; LANES]>,
}

impl FilterWriter {
    /// For at most so many values.
    pub(crate) fn new(values: usize) -> Self {
        let blocks = (values.saturating_mul(BITS)).div_ceil(BLOCK * 8).max(1);
        // Even a few times over, so that it can be made smaller.
        let step = 1 << blocks.ilog2().saturating_sub(5);
        Self {
            blocks: vec![[0; LANES]; blocks.next_multiple_of(step)],
        }
    }

    /// Adds the hash of a value.
    pub(crate) fn add(&mut self, hash: u64) {
        let place = place(hash, self.blocks.len());
        if let Some(block) = self.blocks.get_mut(place) {
            for (word, bit) in block.iter_mut().zip(bits(hash)) {
                *word |= bit;
            }
        }
    }

    /// Appends the filter. It is as small as the number of distinct values allows, which is seen
    /// from the bits that are set.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        while self.blocks.len().is_multiple_of(2) && self.is_sparse() {
            let (pairs, _) = self.blocks.as_chunks::<2>();
            let one = |[a, b]: &[[u32; LANES]; 2]| {
                let mut both = *a;
                both.iter_mut().zip(b).for_each(|(a, b)| *a |= b);
                both
            };
            self.blocks = pairs.iter().map(one).collect();
        }
        for word in self.blocks.iter().flatten() {
            put_u32(out, *word);
        }
    }

    fn is_sparse(&self) -> bool {
        let words = self.blocks.iter().flatten();
        let set: u64 = words.map(|word| u64::from(word.count_ones())).sum();
        set * 256 <= SPARSE * (self.blocks.len() * BLOCK * 8) as u64
    }
}

/// Whether the value with a hash may be among those of a filter.
pub(crate) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let (blocks, rest) = filter.as_chunks::<BLOCK>();
    // What is no filter excludes nothing.
    let Some(block) = blocks.get(place(hash, blocks.len())) else {
        return true;
    };
    let (words, _) = block.as_chunks::<4>();
    !rest.is_empty()
        || (words.iter().zip(bits(hash))).all(|(word, bit)| u32::from_le_bytes(*word) & bit != 0)
}

/// The block of a hash. Blocks `2n` and `2n + 1` are block `n` of a filter of half the size.
fn place(hash: u64, blocks: usize) -> usize {
    let product = (hash >> 32).wrapping_mul(blocks as u64);
    usize::try_from(product >> 32).unwrap_or(usize::MAX)
}

fn bits(hash: u64) -> [u32; LANES] {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    let low = u32::from_le_bytes([a, b, c, d]);
    FACTORS.map(|factor| 1 << (low.wrapping_mul(factor) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(values: impl Iterator<Item = u64>, of: usize) -> Vec<u8> {
        let mut writer = FilterWriter::new(of);
        values.for_each(|n| writer.add(hash(&n.to_le_bytes())));
        let mut out = Vec::new();
        writer.finish(&mut out);
        out
    }

    #[test]
    fn golden_bytes() {
        let mut writer = FilterWriter::new(1);
        writer.add(hash(b"user-17"));
        let mut out = Vec::new();
        writer.finish(&mut out);
        let words: Vec<u32> = out
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word).trailing_zeros())
            .collect();
        assert_eq!(words, [6, 5, 8, 14, 11, 28, 20, 28]);
    }

    #[test]
    fn nothing_is_lost_and_little_is_mistaken() {
        let few = filter((0..20_000).map(|n| n % 2500), 20_000);
        for (values, filter) in [(20_000, filter(0..20_000, 20_000)), (2_500, few)] {
            let has = |n: u64| may_contain(&filter, hash(&n.to_le_bytes()));
            assert!((0..values).all(has));
            let wrong = (values..values + 100_000).filter(|&n| has(n)).count();
            assert!(wrong < 2_500, "{wrong} of 100,000");
            let bits = filter.len() as u64 * 8 / values;
            assert!((9..20).contains(&bits), "{bits} bits a value");
        }
    }

    #[test]
    fn what_is_no_filter_excludes_nothing() {
        assert!(may_contain(&[], 17));
        assert!(may_contain(&[0; 31], 17));
        assert!(may_contain(&[0; 33], 17));
        assert!(!may_contain(&[0; 32], 17));
    }
}
