//! Decimal and hexadecimal digits as text and as binary. The codecs of lines and metadata call it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Two hexadecimal digits for each byte.
type Pairs = [[u8; 2]; 256];
/// Small letters.
pub(super) static HEX_LOWER: Pairs = pairs(b"0123456789abcdef");
/// Capital letters.
pub(super) static HEX_UPPER: Pairs = pairs(b"0123456789ABCDEF");
/// Numbers of three digits.
static THREES: [[u8; 3]; 1_000] = threes();

/// A one in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

#[expect(
    clippy::indexing_slicing,
    reason = "computed when the program is built"
)]
const fn pairs(digits: &[u8; 16]) -> Pairs {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "computed when the program is built"
)]
const fn threes() -> [[u8; 3]; 1_000] {
    let mut all = [[0; 3]; 1_000];
    let mut number = 0;
    while number < 1_000 {
        all[number] = [
            b'0' + (number / 100) as u8,
            b'0' + (number / 10 % 10) as u8,
            b'0' + (number % 10) as u8,
        ];
        number += 1;
    }
    all
}

/// Fills `text` with the last digits of a number, with zeros before it.
#[inline]
pub(super) fn write_decimal(text: &mut [u8], number: u64) {
    let mut rest = number;
    let mut by_three = text.rchunks_exact_mut(3);
    for three in &mut by_three {
        let digits = usize::try_from(rest % 1_000)
            .ok()
            .and_then(|n| THREES.get(n));
        if let (Ok(three), Some(digits)) = (<&mut [u8; 3]>::try_from(three), digits) {
            *three = *digits;
        }
        rest /= 1_000;
    }
    for digit in by_three.into_remainder().iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

/// Fills `text` with the digits of [`put_nibbles`].
#[inline]
pub(super) fn write_hex(text: &mut [u8], packed: &[u8], pairs: &Pairs) {
    let pair = |byte: &u8| pairs.get(usize::from(*byte)).copied().unwrap_or_default();
    let (slots, last) = text.as_chunks_mut::<2>();
    let count = slots.len();
    for (slot, byte) in slots.iter_mut().zip(packed) {
        *slot = pair(byte);
    }
    if let (Some(digit), Some(byte)) = (last.first_mut(), packed.get(count)) {
        [*digit, _] = pair(byte);
    }
}

/// Appends hexadecimal digits as binary, two a byte, the first in the high half; a last half is 0.
pub(super) fn put_nibbles(out: &mut Vec<u8>, digits: &[u8]) {
    let (eights, rest) = digits.as_chunks::<8>();
    for eight in eights {
        let x = u64::from_le_bytes(*eight);
        // Letters have bit 6, and 9 is missing to their low half.
        let nibbles = (x & (0x0f * ONES)) + 9 * (x >> 6 & ONES);
        let pairs = (nibbles << 4 | nibbles >> 8) & 0x00ff_00ff_00ff_00ff;
        let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
        let [a, b, c, d, ..] = (fours | fours >> 16).to_le_bytes();
        out.extend_from_slice(&[a, b, c, d]);
    }
    for pair in rest.chunks(2) {
        let nibble = |at: usize| pair.get(at).copied().and_then(nibble_of).unwrap_or(0);
        out.push(nibble(0) << 4 | nibble(1));
    }
}

/// Whether there are small letters among hexadecimal digits, and whether there are capital ones.
pub(super) fn letter_cases(digits: &[u8]) -> (bool, bool) {
    let (mut small, mut capital) = (0, 0);
    let (eights, rest) = digits.as_chunks::<8>();
    let mut last = [b'0'; 8];
    for (byte, digit) in last.iter_mut().zip(rest) {
        *byte = *digit;
    }
    for eight in eights.iter().chain([&last]) {
        // Letters have bit 6, small ones bit 5 too.
        let x = u64::from_le_bytes(*eight);
        small |= x & x << 1;
        capital |= x & !(x << 1);
    }
    (small & (0x40 * ONES) != 0, capital & (0x40 * ONES) != 0)
}

/// The number that up to 19 decimal digits tell.
pub(super) fn number_of(digits: &[u8]) -> u64 {
    let (eights, rest) = digits.as_chunks::<8>();
    let mut number = 0;
    for eight in eights {
        // Neighbours become numbers of two digits, then of four, then of eight.
        let x = u64::from_le_bytes(*eight) & (0x0f * ONES);
        let twos = (x * 10 + (x >> 8)) & 0x00ff_00ff_00ff_00ff;
        let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
        let all = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
        number = number * 100_000_000 + all;
    }
    let add = |number: u64, digit: &u8| number * 10 + u64::from(digit - b'0');
    rest.iter().fold(number, add)
}

/// The value of a hexadecimal digit of either case.
pub(super) fn nibble_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_usual(number: u64, width in 1..=20usize) {
            let full = format!("{number:020}");
            let mut text = vec![b'x'; width];
            write_decimal(&mut text, number);
            prop_assert_eq!(&text, &full.as_bytes()[20 - width..]);
        }

        #[test]
        fn numbers_are_read_as_usual(digits in "[0-9]{1,19}") {
            let expected: u64 = digits.parse().unwrap();
            prop_assert_eq!(number_of(digits.as_bytes()), expected);
        }

        #[test]
        fn letter_cases_are_told(digits in "[0-9a-bA-F]{0,20}") {
            let expected = (
                digits.bytes().any(|digit| digit.is_ascii_lowercase()),
                digits.bytes().any(|digit| digit.is_ascii_uppercase()),
            );
            prop_assert_eq!(letter_cases(digits.as_bytes()), expected);
        }

        #[test]
        fn hexadecimal_digits_come_back(digits in "[0-9a-f]{0,40}") {
            for (digits, pairs) in [
                (digits.clone(), &HEX_LOWER),
                (digits.to_uppercase(), &HEX_UPPER),
            ] {
                let mut packed = Vec::new();
                put_nibbles(&mut packed, digits.as_bytes());
                prop_assert_eq!(packed.len(), digits.len().div_ceil(2));
                let mut text = vec![b'x'; digits.len()];
                write_hex(&mut text, &packed, pairs);
                prop_assert_eq!(text, digits.into_bytes());
            }
        }
    }
}
