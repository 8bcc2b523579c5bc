//! The window of a chunk: what the payload of a changed value means. Chosen by the encoder, told to
//! the decoder when it changes.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::num::NonZeroU8;

/// What integers are divided by to give values, by scale: decimals, then multiples of powers of
/// two.
const DIVISORS: [f64; 16] = [
    1.0,
    10.0,
    100.0,
    1e3,
    1e4,
    1e5,
    1e6,
    1e7,
    1e8,
    1.0 / 16.0,
    1.0 / 256.0,
    1.0 / 1024.0,
    1.0 / 4096.0,
    1.0 / 65_536.0,
    1.0 / 1_048_576.0,
    1.0 / 1_073_741_824.0,
];
/// The last of the decimal scales.
const DECIMAL_MAX: u8 = 8;
/// Powers of two of the scales behind the decimal ones, the largest first.
const SHIFTS: [(u8, u32); 7] = [
    (15, 30),
    (14, 20),
    (13, 16),
    (12, 12),
    (11, 10),
    (10, 8),
    (9, 4),
];
/// Added to a number of at most 51 bits this leaves no bits for a fraction, and rounds to even.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// The widest payload of integers: control and payload are read from one word.
pub(super) const INTEGER_BITS_MAX: u32 = 47;

/// How many bits a number needs.
#[inline]
pub(super) fn bits_of(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

/// How floats of a window are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale(
    /// One more than the number of the scale, so that an enum with a scale needs no byte more.
    NonZeroU8,
);

impl Scale {
    pub(super) const BITS: u32 = 4;

    /// Values as they are.
    const WHOLE: Self = Self::new(0);

    /// The scale whose number the lowest four bits are.
    pub(super) const fn new(number: u8) -> Self {
        Self(NonZeroU8::MIN.saturating_add(number & 15))
    }

    pub(super) const fn number(self) -> u8 {
        self.0.get() - 1
    }

    fn is_decimal(self) -> bool {
        self.number() <= DECIMAL_MAX
    }

    /// What the integers are divided by.
    #[inline]
    pub(super) fn divisor(self) -> f64 {
        DIVISORS
            .get(usize::from(self.number()))
            .copied()
            .unwrap_or(1.0)
    }

    /// The integer that a float with these bits is nearest to. Of use only for floats for which it
    /// is [`exact`](Self::exact), but defined for all.
    #[inline]
    pub(super) fn integer(self, bits: u64) -> i64 {
        let rounded = f64::from_bits(bits) * self.divisor() + ROUND;
        rounded
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .cast_signed()
    }

    /// The integer that gives back exactly these bits, if there is one.
    #[inline]
    pub(super) fn exact(self, bits: u64) -> Option<i64> {
        let integer = self.integer(bits);
        (value(integer, self.divisor()).to_bits() == bits).then_some(integer)
    }

    /// The coarsest scale in which both floats are exact, but none that has fewer decimals than
    /// `before` if that has decimals.
    pub(super) fn of_both(one: u64, other: u64, before: Option<Self>) -> Option<Self> {
        let before = before.filter(|scale| scale.is_decimal());
        if let (Some(a), Some(b)) = (Self::WHOLE.exact(one), Self::WHOLE.exact(other)) {
            let zeros = (a | b).trailing_zeros();
            let shift = SHIFTS.iter().find(|(_, shift)| *shift <= zeros);
            return before.or(Some(
                shift.map_or(Self::WHOLE, |(number, _)| Self::new(*number)),
            ));
        }
        let first = before.map_or(1, Self::number).max(1);
        let mut finer = (first..=DECIMAL_MAX).map(Self::new);
        finer.find(|scale| scale.exact(other).is_some() && scale.exact(one).is_some())
    }
}

/// The value of an integer.
#[inline(always)]
pub(super) fn value(integer: i64, divisor: f64) -> f64 {
    integer as f64 / divisor
}

/// A window of integers: differences from `base` on, `width` bits of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// Bits of a payload, at most [`INTEGER_BITS_MAX`].
    pub(super) width: u32,
    /// Where the window begins, in halves of its size.
    pub(super) anchor: i16,
}

impl Range {
    /// Bits of the width.
    pub(super) const WIDTH_BITS: u32 = 6;

    /// The smallest difference in the window. Zero needs no payload, so that windows of rising or
    /// falling numbers begin next to it.
    #[inline]
    pub(super) fn base(self) -> i64 {
        (i64::from(self.anchor) << self.width.saturating_sub(1)) + 1
    }

    /// The payload of a difference in the window.
    #[inline]
    pub(super) fn payload(self, difference: i64) -> Option<u64> {
        let payload = difference.wrapping_sub(self.base()).cast_unsigned();
        (payload >> self.width == 0).then_some(payload)
    }

    /// The narrowest window, anchored at zero, with all differences from `low` to `high` and
    /// those with `spare` bits more.
    pub(super) fn around_zero(low: i64, high: i64, spare: u32) -> Self {
        let above = bits_of((high - 1).max(0).cast_unsigned());
        let (width, anchor) = if low >= 1 {
            (above, 0)
        } else {
            (above.max(bits_of(low.unsigned_abs())) + 1, -1)
        };
        Self {
            width: width + spare,
            anchor,
        }
    }

    /// The narrowest window anywhere with all differences from `low` to `high`.
    pub(super) fn anywhere(low: i64, high: i64) -> Option<Self> {
        let narrow = bits_of(high.wrapping_sub(low).cast_unsigned());
        (narrow..=(narrow + 1).min(INTEGER_BITS_MAX)).find_map(|width| {
            let half = 1i64 << width.saturating_sub(1);
            let anchor = i16::try_from((low - 1).div_euclid(half)).ok()?;
            let range = Self { width, anchor };
            range.payload(high).map(|_| range)
        })
    }
}
