//! The section FILTERS: for each chunk a small set of hashes that may answer "perhaps" wrongly, but
//! never "no". Called by the token index.
//!
//! The sets are binary fuse filters with eight bits an entry (T. M. Graf, D. Lemire, "Binary Fuse
//! Filters: Fast and Smaller Than Xor Filters", 2022); very small ones are lists.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;
use trine_storage::codec::{Reader, put_u32};
use trine_storage::{Error, Kind, Result};

use super::token::Class;

/// Largest set that is stored as a list of half hashes.
const LIST_MAX: usize = 24;

/// How often a filter is tried with another seed. One try fails in less than one case of a hundred.
const SEEDS_MAX: u8 = 64;

/// Longest segment of a filter, as a power of two.
const SEGMENT_LOG2_MAX: u8 = 18;

const KIND_LIST: u8 = 0;
const KIND_FUSE: u8 = 1;
const KIND_ANYTHING: u8 = 2;

/// Builds filters one after the other in the same memory.
#[derive(Debug, Default)]
pub(crate) struct FilterBuilder {
    counts: Vec<u8>,
    sums: Vec<u64>,
    alone: Vec<u32>,
    order: Vec<(u64, u8)>,
}

/// Where the three fingerprints of a hash lie.
#[derive(Debug, Clone, Copy)]
struct Shape {
    segment_log2: u8,
    /// Segments in which the first fingerprint may lie; there are two more.
    segments: u16,
}

impl Shape {
    /// The shape for so many hashes, by the formulas of the paper.
    fn of(hashes: usize) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few digits are enough, and the values are small and positive"
        )]
        let (log2, capacity) = {
            let n = (hashes.max(2)) as f64;
            let log2 = (n.ln() / 3.33f64.ln() + 2.25).floor() as u8;
            let factor = (0.875 + 0.25 * 1e6f64.ln() / n.ln()).max(1.125);
            (log2.min(SEGMENT_LOG2_MAX), (n * factor).round() as usize)
        };
        let all = capacity.div_ceil(1 << log2).max(3);
        Self {
            segment_log2: log2,
            segments: u16::try_from(all - 2).unwrap_or(u16::MAX),
        }
    }

    fn len(self) -> usize {
        (usize::from(self.segments) + 2) << self.segment_log2
    }

    fn places(self, mixed: u64) -> [usize; 3] {
        let mask = (1u64 << self.segment_log2) - 1;
        let span = u64::from(self.segments) << self.segment_log2;
        let first = (u128::from(mixed) * u128::from(span)) >> 64;
        let first = u64::try_from(first).unwrap_or(0);
        let second = (first + mask + 1) ^ ((mixed >> 18) & mask);
        let third = (first + 2 * (mask + 1)) ^ (mixed & mask);
        [first, second, third].map(|place| usize::try_from(place).unwrap_or(usize::MAX))
    }
}

/// Makes the bits of a hash independent for each seed.
fn mixed(hash: u64, seed: u8) -> u64 {
    let mut x = hash.wrapping_add(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

fn fingerprint(mixed: u64) -> u8 {
    let [low, ..] = (mixed ^ (mixed >> 32)).to_le_bytes();
    low
}

/// What a list keeps of a hash.
fn half(hash: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    [a, b, c, d]
}

impl FilterBuilder {
    /// Appends a filter of `hashes`, which are distinct.
    pub(crate) fn put(&mut self, hashes: &[u64], out: &mut Vec<u8>) {
        if hashes.is_empty() {
            return;
        }
        if hashes.len() <= LIST_MAX {
            out.push(KIND_LIST);
            for &hash in hashes {
                out.extend_from_slice(&half(hash));
            }
            return;
        }
        let shape = Shape::of(hashes.len());
        for seed in 0..SEEDS_MAX {
            if self.peel(hashes, shape, seed) {
                out.push(KIND_FUSE);
                out.push(seed);
                out.push(shape.segment_log2);
                out.extend_from_slice(&shape.segments.to_le_bytes());
                let start = out.len();
                out.resize(start + shape.len(), 0);
                self.assign(shape, out.get_mut(start..).unwrap_or_default());
                return;
            }
        }
        out.push(KIND_ANYTHING);
    }

    /// Finds an order in which each hash has a place that no later one has; `false` if there is
    /// none with this seed.
    #[expect(
        clippy::indexing_slicing,
        reason = "places lie below the length of the shape, to which both tables were resized"
    )]
    fn peel(&mut self, hashes: &[u64], shape: Shape, seed: u8) -> bool {
        self.counts.clear();
        self.counts.resize(shape.len(), 0);
        self.sums.clear();
        self.sums.resize(shape.len(), 0);
        self.alone.clear();
        self.order.clear();
        // A count holds four times how many hashes have the place, and the exclusive or of which of
        // their three places it is. More than 63 hashes at one place do not happen by chance.
        for &hash in hashes {
            let x = mixed(hash, seed);
            for (which, place) in (0..).zip(shape.places(x)) {
                let count = &mut self.counts[place];
                if *count >= 0xfc {
                    return false;
                }
                *count = (*count + 4) ^ which;
                self.sums[place] ^= x;
            }
        }
        let alone = |count: u8| count >> 2 == 1;
        let places = 0..u32::try_from(shape.len()).unwrap_or(0);
        let single = places.zip(&self.counts).filter(|(_, count)| alone(**count));
        self.alone.extend(single.map(|(place, _)| place));
        while let Some(place) = self.alone.pop() {
            let count = self.counts[place as usize];
            if !alone(count) {
                continue;
            }
            let x = self.sums[place as usize];
            self.order.push((x, count & 3));
            for (which, place) in (0..).zip(shape.places(x)) {
                let count = &mut self.counts[place];
                *count = (*count - 4) ^ which;
                self.sums[place] ^= x;
                if alone(*count) {
                    self.alone.push(u32::try_from(place).unwrap_or(u32::MAX));
                }
            }
        }
        self.order.len() == hashes.len()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "places lie below the length of the shape, which the table has"
    )]
    fn assign(&self, shape: Shape, table: &mut [u8]) {
        for &(x, which) in self.order.iter().rev() {
            let [a, b, c] = shape.places(x);
            let value = fingerprint(x) ^ table[a] ^ table[b] ^ table[c];
            // Its own place is still zero.
            table[[a, b, c][usize::from(which)]] = value;
        }
    }
}

/// Whether the filter may have `hash` in it. `true` when its bytes make no sense.
fn may_contain(filter: &[u8], hash: u64) -> bool {
    match filter {
        [] => false,
        [KIND_LIST, list @ ..] => {
            let (halves, rest) = list.as_chunks::<4>();
            !rest.is_empty() || halves.contains(&half(hash))
        }
        [KIND_FUSE, seed, segment_log2, low, high, table @ ..] => {
            let shape = Shape {
                segment_log2: *segment_log2,
                segments: u16::from_le_bytes([*low, *high]),
            };
            if *segment_log2 > SEGMENT_LOG2_MAX || shape.len() != table.len() {
                return true;
            }
            let x = mixed(hash, *seed);
            let mut found = fingerprint(x);
            for place in shape.places(x) {
                let Some(byte) = table.get(place) else {
                    return true;
                };
                found ^= byte;
            }
            found == 0
        }
        _ => true,
    }
}

/// Whether the bytes are a filter that this version writes.
fn is_sound(filter: &[u8]) -> bool {
    match filter {
        [] | [KIND_ANYTHING] => true,
        [KIND_LIST, list @ ..] => list.len().is_multiple_of(4) && list.len() <= 4 * LIST_MAX,
        [KIND_FUSE, _, log2, low, high, table @ ..] => {
            let shape = Shape {
                segment_log2: *log2,
                segments: u16::from_le_bytes([*low, *high]),
            };
            *log2 <= SEGMENT_LOG2_MAX && shape.segments > 0 && shape.len() == table.len()
        }
        _ => false,
    }
}

/// What the section says of a chunk beside its filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Longest {
    /// Bytes of the longest id of digits that is not among the long tokens, 255 for all that are longer; 0 when there is none.
    pub(crate) digits: u8,
    /// The same of ids in hexadecimal.
    pub(crate) hex: u8,
}

impl Longest {
    /// Takes an id of so many bytes into account.
    #[inline]
    pub(crate) fn add(&mut self, class: Class, bytes: usize) {
        let bytes = u8::try_from(bytes).unwrap_or(u8::MAX);
        let longest = match class {
            Class::Digits => &mut self.digits,
            _ => &mut self.hex,
        };
        *longest = bytes.max(*longest);
    }
}

/// Puts the section together.
#[derive(Debug, Default)]
pub(crate) struct FiltersWriter {
    builder: FilterBuilder,
    table: Vec<u8>,
    filters: Vec<u8>,
    chunks: u32,
}

impl FiltersWriter {
    /// Adds the next chunk with its distinct hashes.
    ///
    /// # Errors
    /// [`Kind::Limit`] when the section would exceed 4 GiB.
    pub(crate) fn push(&mut self, hashes: &[u64], longest: Longest) -> Result<()> {
        self.builder.put(hashes, &mut self.filters);
        self.end_chunk(longest)
    }

    fn end_chunk(&mut self, longest: Longest) -> Result<()> {
        let end = u32::try_from(self.filters.len()).map_err(|_| {
            Error::new(
                Kind::Limit,
                "the filters of one block exceed 4 GiB; write smaller blocks",
            )
        })?;
        put_u32(&mut self.table, end);
        self.table.push(longest.digits);
        self.table.push(longest.hex);
        self.chunks += 1;
        Ok(())
    }

    /// Adds the next chunk with a filter of another section.
    ///
    /// # Errors
    /// As [`FiltersWriter::push`].
    pub(crate) fn copy(&mut self, filter: &[u8], longest: Longest) -> Result<()> {
        self.filters.extend_from_slice(filter);
        self.end_chunk(longest)
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        HEADER + self.table.len() + self.filters.len()
    }

    /// The section. The words of the first `in_dictionary` chunks are not in their filters.
    pub(crate) fn finish(self, in_dictionary: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        put_u32(&mut out, VERSION);
        put_u32(&mut out, self.chunks);
        put_u32(&mut out, in_dictionary);
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.filters);
        out
    }
}

const VERSION: u32 = 1;
const HEADER: usize = 12;
/// Bytes of a chunk in the table.
const ENTRY: usize = 6;

/// The section, read in place.
#[derive(Debug)]
pub(crate) struct Filters {
    bytes: Bytes,
    chunks: usize,
    in_dictionary: u32,
}

impl Filters {
    /// Reads the header of the section of a block with so many chunks. What damage the filters have
    /// is not looked for; a damaged one may contain everything.
    ///
    /// # Errors
    /// [`Kind::Corrupt`], [`Kind::Unsupported`] for another version.
    pub(crate) fn open(name: &str, bytes: Bytes, chunks: u32) -> Result<Self> {
        let mut reader = Reader::new(name, &bytes);
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{name} has filters of version {version}, this program reads {VERSION}"),
            ));
        }
        if reader.u32()? != chunks {
            return Err(reader.corrupt("the filters are not as many as the chunks"));
        }
        let in_dictionary = reader.u32()?;
        if in_dictionary > chunks {
            return Err(reader.corrupt("more chunks have a dictionary than there are"));
        }
        let chunks = usize::try_from(chunks).unwrap_or(usize::MAX);
        reader.take(chunks.saturating_mul(ENTRY))?;
        Ok(Self {
            bytes,
            chunks,
            in_dictionary,
        })
    }

    /// Of how many chunks, the first ones, the words are in the dictionary and not in the filters.
    pub(crate) fn in_dictionary(&self) -> u32 {
        self.in_dictionary
    }

    /// Of how many chunks the section is.
    pub(crate) fn chunks(&self) -> u32 {
        u32::try_from(self.chunks).unwrap_or(u32::MAX)
    }

    /// Bytes of the section.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn entry(&self, chunk: u32) -> Option<(u32, Longest)> {
        let at = HEADER + usize::try_from(chunk).ok()?.checked_mul(ENTRY)?;
        match *self.bytes.get(at..at + ENTRY)? {
            [a, b, c, d, digits, hex] => {
                Some((u32::from_le_bytes([a, b, c, d]), Longest { digits, hex }))
            }
            _ => None,
        }
    }

    /// The bytes of a chunk's filter; `None` when they are not there.
    pub(crate) fn filter(&self, chunk: u32) -> Option<&[u8]> {
        let (end, _) = self.entry(chunk)?;
        let start = match chunk.checked_sub(1) {
            Some(before) => self.entry(before)?.0,
            None => 0,
        };
        let base = HEADER + self.chunks * ENTRY;
        let start = base.checked_add(usize::try_from(start).ok()?)?;
        let end = base.checked_add(usize::try_from(end).ok()?)?;
        self.bytes.get(start..end)
    }

    /// Whether the chunk may have a token or field of this hash among those that are in filters.
    pub(crate) fn may_contain(&self, chunk: u32, hash: u64) -> bool {
        self.filter(chunk)
            .is_none_or(|filter| may_contain(filter, hash))
    }

    /// The longest ids of the chunk.
    pub(crate) fn longest(&self, chunk: u32) -> Longest {
        let unknown = Longest {
            digits: u8::MAX,
            hex: u8::MAX,
        };
        self.entry(chunk).map_or(unknown, |(_, longest)| longest)
    }

    /// Looks at every filter.
    ///
    /// # Errors
    /// [`Kind::Corrupt`].
    pub(crate) fn verify(&self, name: &str) -> Result<()> {
        let mut at = HEADER + self.chunks * ENTRY;
        for chunk in 0..u32::try_from(self.chunks).unwrap_or(u32::MAX) {
            let filter = self.filter(chunk).filter(|filter| is_sound(filter));
            let Some(filter) = filter else {
                let what = format!("the filter of chunk {chunk} makes no sense");
                return Err(Error::corrupt(name, at as u64, what));
            };
            at += filter.len();
        }
        if at != self.bytes.len() {
            return Err(Error::corrupt(name, at as u64, "bytes follow the filters"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::hash;
    use super::*;

    /// Bytes of a fuse filter before its fingerprints.
    const FUSE_HEADER: usize = 5;

    fn hashes(count: u64) -> Vec<u64> {
        (0..count).map(|i| hash(i.to_string().as_bytes())).collect()
    }

    fn section(sets: &[Vec<u64>]) -> Filters {
        let mut writer = FiltersWriter::default();
        for set in sets {
            writer.push(set, Longest::default()).unwrap();
        }
        let chunks = u32::try_from(sets.len()).unwrap();
        let filters = Filters::open("test", writer.finish(0).into(), chunks).unwrap();
        filters.verify("test").unwrap();
        filters
    }

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        for count in [0, 1, 2, 23, 24, 25, 26, 100, 999, 3_000, 20_000, 150_000] {
            let set = hashes(count);
            let filters = section(&[Vec::new(), set.clone(), Vec::new()]);
            assert!(set.iter().all(|&hash| filters.may_contain(1, hash)));
            let wrong = (0..20_000u64)
                .map(|i| hash(format!("x{i}").as_bytes()))
                .filter(|&hash| filters.may_contain(1, hash))
                .count();
            assert!(wrong < 140, "{wrong} of 20,000 with {count}");
            assert!(!filters.may_contain(0, 7) && !filters.may_contain(2, 7));
            assert!(filters.may_contain(3, 7), "there is no chunk 3");
            if count >= 3_000 {
                let bits = filters.bytes() as f64 * 8.0 / count as f64;
                assert!(bits < 11.5, "{bits} bits an entry with {count}");
            }
        }
    }

    #[test]
    fn a_set_that_cannot_be_built_may_contain_anything() {
        let mut out = Vec::new();
        FilterBuilder::default().put(&[5; 200], &mut out);
        assert_eq!(out, [KIND_ANYTHING]);
        assert!(may_contain(&out, 1));
    }

    /// The bytes written down in FORMAT.md, "Filters".
    #[test]
    fn golden_section() {
        let mut writer = FiltersWriter::default();
        writer.push(&[], Longest::default()).unwrap();
        let number = hash(b"12345678");
        writer
            .push(&[number], Longest { digits: 8, hex: 0 })
            .unwrap();
        assert_eq!(writer.bytes(), 29);
        let mut expected = vec![1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0];
        expected.extend([0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 8, 0]);
        expected.extend([0, 0x4c, 0x8d, 0x85, 0x28]);
        assert_eq!(writer.finish(1), expected);
    }

    /// A filter of the numbers 0 to 29 as text, whose bytes must never change.
    #[test]
    fn golden_fuse() {
        let mut out = Vec::new();
        FilterBuilder::default().put(&hashes(30), &mut out);
        assert_eq!(out[..FUSE_HEADER], [1, 0, 5, 1, 0]);
        assert_eq!(out.len(), FUSE_HEADER + 96);
        assert_eq!(xxhash_rust::xxh3::xxh3_64(&out), 6_647_612_385_536_319_285);
    }

    #[test]
    fn damage_is_found_or_says_perhaps() {
        let sets = [hashes(10), hashes(300), Vec::new()];
        let mut writer = FiltersWriter::default();
        for set in &sets {
            writer.push(set, Longest::default()).unwrap();
        }
        let good = writer.finish(3);
        for cut in 0..good.len() {
            let bytes = Bytes::copy_from_slice(&good[..cut]);
            let Ok(filters) = Filters::open("test", bytes, 3) else {
                continue;
            };
            assert_eq!(filters.verify("test").unwrap_err().kind(), Kind::Corrupt);
            for hash in hashes(10) {
                assert!(filters.may_contain(0, hash) && filters.may_contain(1, hash));
            }
        }
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                if let Ok(filters) = Filters::open("test", bytes.into(), 3) {
                    filters.verify("test").ok();
                    for chunk in 0..4 {
                        filters.may_contain(chunk, 7);
                        filters.longest(chunk);
                    }
                }
            }
        }
        let error = Filters::open("x.block", good.clone().into(), 2).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let mut newer = good;
        newer[0] = 2;
        let error = Filters::open("x.block", newer.into(), 3).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    }
}
