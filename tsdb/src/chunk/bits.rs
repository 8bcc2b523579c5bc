//! Bits in bytes, the highest first: how the encoder adds them and the decoder finds them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// The most bits that one [`put`] adds: with those already in the last byte they fill a word.
pub(super) const PUT_BITS_MAX: u32 = 56;

/// How many bits of a word are known at least, at whatever bit it begins.
pub(super) const WORD_BITS: u32 = 57;

/// Bits in a byte.
const BYTE: u32 = 8;

/// Adds `len` bits (1 to [`PUT_BITS_MAX`]), whose value is `bits`, behind the `fill` bits (1 to 8)
/// that the last byte of `out` already has. Gives the new fill.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, fill: u8, bits: u64, len: u32) -> u8 {
    let end = u32::from(fill) + len;
    let last = u64::from(out.pop().unwrap_or(0));
    let word = last << (u64::BITS - BYTE) | bits << (u64::BITS - end);
    let word = word.to_be_bytes();
    let bytes = end.div_ceil(BYTE) as usize;
    if out.capacity() - out.len() >= word.len() {
        // A copy of fixed length is several times faster than one of a few bytes.
        let keep = out.len() + bytes;
        out.extend_from_slice(&word);
        out.truncate(keep);
    } else {
        out.extend(word.iter().take(bytes));
    }
    fill_of(end)
}

/// How many bits the last byte has when `end` (1 to 64) are written from its beginning.
#[inline]
fn fill_of(end: u32) -> u8 {
    ((end - 1) % BYTE + 1).to_le_bytes()[0]
}

/// Bytes of a chunk as 64-bit words that begin at any bit.
#[derive(Debug)]
pub(super) struct Words<'a> {
    bytes: &'a [u8],
    /// Where the last whole word begins.
    last: usize,
}

impl<'a> Words<'a> {
    /// The words of `bytes`, of which there must be eight at least.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            last: bytes.len().saturating_sub(size_of::<u64>()),
        }
    }

    /// The bits from `bit` on, at the top of the word: at least [`WORD_BITS`] or those to the end.
    /// Behind the end there is nothing of meaning, but something.
    #[inline(always)]
    pub(super) fn at(&self, bit: usize) -> u64 {
        let byte = (bit / 8).min(self.last);
        let shift = bit - byte * 8;
        let word = self.bytes.get(byte..).and_then(<[u8]>::first_chunk);
        let word = word.map_or(0, |word| u64::from_be_bytes(*word));
        word << (shift & 63)
    }

    /// The `len` bits (at most 64) at `bit` as a number.
    #[inline]
    pub(super) fn number(&self, bit: usize, len: u32) -> u64 {
        let high = len.min(32);
        let low = len - high;
        let number = top(self.at(bit), high);
        number << low | top(self.at(bit + high as usize), low)
    }
}

/// The first `len` bits (at most 63) of a word as a number.
#[inline(always)]
pub(super) fn top(word: u64, len: u32) -> u64 {
    word >> 1 >> (63 - len)
}
