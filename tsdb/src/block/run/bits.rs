//! Bits, least significant first: the writer and the two ways to read that the run codec needs, a
//! cursor for headers and [`load`] for the inner loops of pages.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Writes bits behind the bytes of a vector.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u128,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    /// A writer that begins at the end of `out`.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            pending: 0,
            pending_bits: 0,
        }
    }

    /// Writes the `bits` lowest bits of `value`, at most 64; the others must be zero.
    #[inline]
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        self.pending |= u128::from(value) << self.pending_bits;
        self.pending_bits += bits;
        if self.pending_bits >= 64 {
            let [low, high] = halves(self.pending);
            self.out.extend_from_slice(&low.to_le_bytes());
            self.pending = u128::from(high);
            self.pending_bits -= 64;
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        let [low, _] = halves(self.pending);
        let bytes = self.pending_bits.div_ceil(8);
        self.out
            .extend(low.to_le_bytes().into_iter().take(bytes as usize));
    }
}

/// The lower and the upper half.
fn halves(word: u128) -> [u64; 2] {
    let low = word & u128::from(u64::MAX);
    [low, word >> 64].map(|half| u64::try_from(half).unwrap_or(u64::MAX))
}

/// The 64 bits from byte `at` on; what lies beyond the end is zero.
#[inline(always)]
pub(super) fn load(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at.wrapping_add(8));
    match word.and_then(|word| word.try_into().ok()) {
        Some(word) => u64::from_le_bytes(word),
        None => load_end(bytes, at),
    }
}

#[cold]
fn load_end(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    for (to, from) in word.iter_mut().zip(rest) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// A cursor over the bits of a header.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// A cursor at the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `bits` bits, at most 56; nothing when fewer follow.
    pub(super) fn take(&mut self, bits: u32) -> Option<u64> {
        let end = self.position + bits as usize;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let word = load(self.bytes, self.position >> 3) >> (self.position & 7);
        self.position = end;
        Some(word & ((1 << bits) - 1))
    }

    /// How many bytes were begun.
    pub(super) fn bytes_read(&self) -> usize {
        self.position.div_ceil(8)
    }
}
