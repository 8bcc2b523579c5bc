//! One count as the difference to the one before it: how the codecs write integers and floats.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::Result;
use trine_storage::codec::{Reader, put_signed};

/// A count or a sum.
pub(super) trait Number: Copy + Default {
    /// The bits: equal for equal numbers, whatever NaN it is.
    fn bits(self) -> u64;

    /// Appends the difference to the number before.
    fn put(self, before: Self, out: &mut Vec<u8>);

    /// Reads what [`Number::put`] wrote.
    fn take(before: Self, reader: &mut Reader<'_>) -> Result<Self>;
}

impl Number for u64 {
    fn bits(self) -> u64 {
        self
    }

    fn put(self, before: Self, out: &mut Vec<u8>) {
        put_signed(out, self.wrapping_sub(before).cast_signed());
    }

    fn take(before: Self, reader: &mut Reader<'_>) -> Result<Self> {
        Ok(before.wrapping_add_signed(reader.signed()?))
    }
}

impl Number for i64 {
    fn bits(self) -> u64 {
        self.cast_unsigned()
    }

    fn put(self, before: Self, out: &mut Vec<u8>) {
        put_signed(out, self.wrapping_sub(before));
    }

    fn take(before: Self, reader: &mut Reader<'_>) -> Result<Self> {
        Ok(before.wrapping_add(reader.signed()?))
    }
}

impl Number for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }

    fn put(self, before: Self, out: &mut Vec<u8>) {
        let xor = Xor::new(before.to_bits(), self.to_bits());
        out.push(xor.control);
        xor.put_payload(out);
    }

    fn take(before: Self, reader: &mut Reader<'_>) -> Result<Self> {
        let control = reader.u8()?;
        Ok(Self::from_bits(
            before.to_bits() ^ Xor::take(control, reader)?,
        ))
    }
}

/// Two words XOR each other, without the zero bytes on both ends: floats near each other share
/// sign, exponent and the first bits, and whole numbers the last ones.
pub(super) struct Xor {
    /// Zero bytes above the payload (four bits), bytes of the payload (four bits).
    pub(super) control: u8,
    payload: u64,
}

impl Xor {
    pub(super) fn new(before: u64, word: u64) -> Self {
        let xor = before ^ word;
        if xor == 0 {
            return Self {
                control: 0,
                payload: 0,
            };
        }
        let (above, below) = (xor.leading_zeros() / 8, xor.trailing_zeros() / 8);
        let len = 8 - above - below;
        Self {
            // Seven zero bytes and a payload of eight at most.
            control: (above << 4 | len).to_le_bytes()[0],
            payload: xor >> (8 * below),
        }
    }

    pub(super) fn put_payload(&self, out: &mut Vec<u8>) {
        let len = usize::from(self.control & 0xf);
        out.extend(self.payload.to_le_bytes().into_iter().take(len));
    }

    /// The XOR of the two words from its control byte and the payload at the cursor.
    pub(super) fn take(control: u8, reader: &mut Reader<'_>) -> Result<u64> {
        let (above, len) = (control >> 4, control & 0xf);
        if above + len > 8 || (len == 0 && above > 0) {
            return Err(reader.corrupt("a float has more than eight bytes"));
        }
        let mut payload = 0u64;
        for (place, byte) in (0u32..).zip(reader.take(usize::from(len))?) {
            payload |= u64::from(*byte) << (8 * place);
        }
        let below = 8 * u32::from(8 - above - len);
        // Without payload the shift is by all 64 bits.
        Ok(payload.checked_shl(below).unwrap_or(0))
    }
}

/// Appends the counts of buckets: for each eight a byte of which bits tell the changed ones, then
/// the differences of those. Between two scrapes most buckets of most histograms stay as they are.
pub(super) fn put_changes<T: Number>(out: &mut Vec<u8>, before: &[T], counts: &[T]) {
    for (before, counts) in before.chunks(8).zip(counts.chunks(8)) {
        let changes = before.iter().zip(counts).enumerate();
        let is_changed = |(place, (before, count)): (usize, (&T, &T))| {
            u8::from(before.bits() != count.bits()) << place
        };
        let mask = changes.map(is_changed).fold(0, |mask, bit| mask | bit);
        out.push(mask);
        for (before, count) in before.iter().zip(counts) {
            if before.bits() != count.bits() {
                count.put(*before, out);
            }
        }
    }
}

/// Turns the counts before into those that [`put_changes`] wrote.
pub(super) fn take_changes<T: Number>(counts: &mut [T], reader: &mut Reader<'_>) -> Result<()> {
    for counts in counts.chunks_mut(8) {
        let mask = reader.u8()?;
        for (place, count) in counts.iter_mut().enumerate() {
            if mask >> place & 1 == 1 {
                *count = T::take(*count, reader)?;
            }
        }
    }
    Ok(())
}
