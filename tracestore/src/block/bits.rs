//! Numbers in as many bits as the largest of them needs, one after the other, the low bits first.
//! All codecs of columns are made of these. 64 numbers of `width` bits fill `width` words of 64
//! bits, so such a group is unpacked by code without loops or branches.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::{Error, Result};

/// Numbers that are unpacked at a time.
pub(crate) const GROUP: usize = 64;

/// Bits that a number needs.
pub(crate) fn width_of(number: u64) -> u8 {
    // At most 64.
    u8::try_from(u64::BITS - number.leading_zeros()).unwrap_or(64)
}

/// Bytes that so many numbers take.
pub(crate) fn packed_bytes(count: usize, width: u8) -> usize {
    count.saturating_mul(usize::from(width)).div_ceil(8)
}

/// Appends numbers of at most `width` bits.
pub(crate) fn pack(out: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = u64>, width: u8) {
    if width == 0 {
        return;
    }
    let width = u32::from(width.min(64));
    out.reserve(numbers.len().saturating_mul(width as usize) / 8 + 8);
    let (mut word, mut filled) = (0u64, 0u32);
    for number in numbers {
        debug_assert!(width == 64 || number >> width == 0, "{number} in {width}");
        word |= number << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= 64;
            // What did not fit; a shift by all bits leaves nothing.
            word = number.checked_shr(width - filled).unwrap_or(0);
        }
    }
    let rest = filled.div_ceil(8) as usize;
    out.extend(word.to_le_bytes().iter().take(rest));
}

/// Packed numbers, read in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    bytes: &'a [u8],
    count: usize,
    width: u8,
}

impl<'a> Packed<'a> {
    /// `count` numbers that take all of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), with `name` and `offset`, when they are
    /// not exactly as many bytes.
    pub(crate) fn new(
        name: &str,
        offset: u64,
        bytes: &'a [u8],
        count: usize,
        width: u8,
    ) -> Result<Self> {
        if width > 64 || bytes.len() != packed_bytes(count, width) {
            return Err(Error::corrupt(
                name,
                offset,
                "packed numbers are not as long as they should be",
            ));
        }
        Ok(Self {
            bytes,
            count,
            width,
        })
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bits of a number.
    pub(crate) fn width(&self) -> u8 {
        self.width
    }

    /// One number; 0 when there are not as many.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> u64 {
        let width = usize::from(self.width);
        let bit = index.saturating_mul(width);
        let tail = self.bytes.get(bit / 8..).unwrap_or_default();
        let shift = bit % 8;
        let low = match tail.first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let mut word = [0; 8];
                word.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
                u64::from_le_bytes(word)
            }
        };
        let mut number = low >> shift;
        if shift + width > 64 {
            let ninth = tail.get(8).copied().unwrap_or(0);
            number |= u64::from(ninth) << (64 - shift);
        }
        number & mask(self.width)
    }

    /// Unpacks group `group` and tells how many of its numbers exist; the others are 0.
    #[inline]
    pub(crate) fn group(&self, group: usize, out: &mut [u64; GROUP]) -> usize {
        let unpack = WIDE.get(usize::from(self.width)).copied();
        self.words(group, |words| {
            if let Some(unpack) = unpack {
                unpack(words, out);
            }
        })
    }

    /// As [`Packed::group`], for numbers of at most 32 bits: half the memory, and twice as many of
    /// them in a register.
    #[inline]
    pub(crate) fn group32(&self, group: usize, out: &mut [u32; GROUP]) -> usize {
        debug_assert!(self.width <= 32, "numbers of {} bits", self.width);
        let unpack = NARROW.get(usize::from(self.width)).copied();
        self.words(group, |words| {
            if let Some(unpack) = unpack {
                unpack(words, out);
            }
        })
    }

    /// Hands the words of a group to `unpack`: those of the last one with zeros after them.
    #[inline]
    fn words(&self, group: usize, unpack: impl FnOnce(&[[u8; 8]])) -> usize {
        let len = usize::from(self.width) * 8;
        let tail = self
            .bytes
            .get(group.saturating_mul(len)..)
            .unwrap_or_default();
        if tail.len() >= len {
            unpack(tail.as_chunks::<8>().0);
        } else {
            let mut padded = [0u8; 8 * GROUP];
            let copied = padded.iter_mut().zip(tail);
            copied.for_each(|(to, from)| *to = *from);
            unpack(padded.as_chunks::<8>().0);
        }
        self.count
            .saturating_sub(group.saturating_mul(GROUP))
            .min(GROUP)
    }
}

fn mask(width: u8) -> u64 {
    match width {
        0 => 0,
        _ => u64::MAX >> (64 - u32::from(width.min(64))),
    }
}

/// Number `index` of a group of which the words are known. All but the words is known when the
/// program is built.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "the bits of 64 numbers of W bits lie in W words; checked when the program is built"
)]
fn number<const W: usize>(words: &[[u8; 8]; W], index: usize) -> u64 {
    let (word, shift) = (index * W / 64, index * W % 64);
    let mut number = u64::from_le_bytes(words[word]) >> shift;
    if shift + W > 64 {
        number |= u64::from_le_bytes(words[word + 1]) << (64 - shift);
    }
    if W < 64 {
        number &= (1 << W) - 1;
    }
    number
}

macro_rules! for_each_index {
    ($do:ident) => {
        $do!(
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
            16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
            32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47
            48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
        )
    };
}

fn wide<const W: usize>(words: &[[u8; 8]], out: &mut [u64; GROUP]) {
    let Some(words) = words.first_chunk::<W>() else {
        return;
    };
    macro_rules! unpack {
        ($($index:literal)*) => { $( out[$index] = number(words, $index); )* };
    }
    for_each_index!(unpack);
}

fn narrow<const W: usize>(words: &[[u8; 8]], out: &mut [u32; GROUP]) {
    let Some(words) = words.first_chunk::<W>() else {
        return;
    };
    macro_rules! unpack {
        ($($index:literal)*) => { $(
            #[expect(clippy::cast_possible_truncation, reason = "W is at most 32")]
            {
                out[$index] = number(words, $index) as u32;
            }
        )* };
    }
    for_each_index!(unpack);
}

fn zeros<T: Default + Copy>(_: &[[u8; 8]], out: &mut [T; GROUP]) {
    *out = [T::default(); GROUP];
}

type Unpack<T> = fn(&[[u8; 8]], &mut [T; GROUP]);

macro_rules! table {
    ($unpack:ident: $($width:literal)*) => { [zeros, $( $unpack::<$width> ),*] };
}

/// By width.
static NARROW: [Unpack<u32>; 33] = table!(narrow:
    1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
    17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);

/// By width.
static WIDE: [Unpack<u64>; 65] = table!(wide:
    1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
    17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
    33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48
    49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(numbers: &[u64], width: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(&mut bytes, numbers.iter().copied(), width);
        bytes
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(packed(&[1, 2, 3, 4, 5], 3), [0b1101_0001, 0b0101_1000]);
        assert_eq!(packed(&[0x0102_0304, 5], 32), [4, 3, 2, 1, 5, 0, 0, 0]);
        assert!(packed(&[0, 0], 0).is_empty());
    }

    #[test]
    fn a_wrong_length_or_width_is_refused() {
        for (len, count, width) in [(1, 2, 3), (2, 2, 3), (0, 1, 1), (66, 8, 65)] {
            let bytes = vec![0; len];
            let opened = Packed::new("test", 7, &bytes, count, width);
            let expected = !(len == 1 && count == 2);
            assert_eq!(opened.is_err(), expected, "{len} {count} {width}");
        }
        let error = Packed::new("test", 7, &[], 1, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "test is damaged at byte 7: packed numbers are not as long as they should be"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn numbers_come_back(
            width in 0..=64u8,
            random in proptest::collection::vec(any::<u64>(), 0..200),
        ) {
            let numbers: Vec<u64> = random.iter().map(|number| number & mask(width)).collect();
            let bytes = packed(&numbers, width);
            prop_assert_eq!(bytes.len(), packed_bytes(numbers.len(), width));
            let opened = Packed::new("test", 0, &bytes, numbers.len(), width).unwrap();
            let (mut wide, mut narrow) = (vec![], vec![]);
            for group in 0..numbers.len().div_ceil(GROUP) {
                let mut out = [1; GROUP];
                let count = opened.group(group, &mut out);
                wide.extend_from_slice(&out[..count]);
                prop_assert!(out[count..].iter().all(|&number| number == 0));
                if width <= 32 {
                    let mut out = [1; GROUP];
                    let count = opened.group32(group, &mut out);
                    narrow.extend(out[..count].iter().copied().map(u64::from));
                }
            }
            prop_assert_eq!(&wide, &numbers);
            prop_assert!(width > 32 || narrow == numbers);
            for (index, number) in numbers.iter().enumerate() {
                prop_assert_eq!(opened.get(index), *number);
            }
        }

        #[test]
        fn a_width_is_what_a_number_needs(number: u64) {
            let width = width_of(number);
            prop_assert_eq!(number & mask(width), number);
            prop_assert!(width == 0 || number & mask(width - 1) != number);
        }
    }
}
