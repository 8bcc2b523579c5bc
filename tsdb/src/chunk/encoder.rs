//! Writes a chunk, one sample at a time; the head keeps an encoder for each series.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::put_signed;

use super::bits::{PUT_BITS_MAX, put};
use super::window::{INTEGER_BITS_MAX, Range, Scale, bits_of};
use super::{STALE, form, interval};

/// The most bytes that one sample adds: those of an interval and a value that both need all bits.
/// The first sample of a chunk needs as many at most.
pub(crate) const SAMPLE_BYTES_MAX: usize = 19;

/// Changed values after which a new window is first judged, and from then on.
const FIRST_REVIEW: u8 = 16;
const REVIEW: u8 = 32;
/// Changed values after which floats are tried as integers again, when they just were.
const RETRY_SOON: u8 = 4;
/// How often in a row an interval must differ in the same way to become the usual one. Jitter does
/// so twice too often.
const REPEATS_MAX: u8 = 0b11;
/// Bits by which a XOR must be narrower than its window for a new one: what a new one costs.
const XOR_SHRINK_BITS: u32 = 15;

/// State of an encoder. The bytes are a vector of the caller's, which at any time holds all samples
/// so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatEncoder {
    /// The bits of the value that the next one is compared with: the last that is not stale.
    reference: u64,
    /// The usual interval; 0 if it is not known or has more than 32 bits.
    interval: u32,
    /// The least and the greatest difference of integers since the last review.
    low: i32,
    high: i32,
    window: Window,
    /// How many bits of the last byte are used, 1 to 8.
    fill: u8,
    /// How many changed values until the window is reviewed.
    patience: u8,
    /// How often the interval differed in the same way from the usual one, in two bits, and in the
    /// others those of the difference.
    deviation: u8,
}

/// What payloads are at the moment.
#[derive(Debug, Clone, Copy)]
enum Window {
    Xor {
        leading: u8,
        width: u8,
    },
    Integers {
        scale: Scale,
        width: u8,
        anchor: i16,
    },
}

/// A number of bits and their value.
#[derive(Debug, Clone, Copy)]
struct Bits {
    value: u64,
    len: u32,
}

impl Bits {
    const fn new(value: u64, len: u32) -> Self {
        Self { value, len }
    }

    /// These bits, then `next`; together at most 64.
    #[inline]
    const fn then(self, next: Self) -> Self {
        Self::new(self.value << next.len | next.value, self.len + next.len)
    }
}

/// The interval is the usual one.
const NOTHING: Bits = Bits::new(0, 0);
/// The interval and the value are as before; or only the value, when an interval was told.
const SAME: Bits = Bits::new(0b0, 1);
/// A payload of the window follows.
const CHANGED: Bits = Bits::new(0b10, 2);
/// A form follows, after an interval as before and after one that was told.
const OTHER: Bits = Bits::new(0b110, 3);
const OTHER_AFTER_INTERVAL: Bits = Bits::new(0b11, 2);

impl FloatEncoder {
    /// An encoder for a chunk that has no samples yet.
    pub(crate) const fn new() -> Self {
        Self {
            reference: 0,
            interval: 0,
            low: i32::MAX,
            high: i32::MIN,
            window: Window::Xor {
                leading: 0,
                width: 64,
            },
            fill: 8,
            patience: 0,
            deviation: 0,
        }
    }

    /// Adds a sample to the chunk in `out`, whose end must be what this encoder wrote; `before` is
    /// the timestamp of the sample before it, none for the first. Timestamps must rise; a chunk in
    /// which they do not cannot be decoded.
    ///
    /// At most [`SAMPLE_BYTES_MAX`] bytes are added; `out` is not made larger than that needs, and
    /// faster if it has a few bytes to spare.
    #[inline]
    pub(crate) fn append(
        &mut self,
        out: &mut Vec<u8>,
        before: Option<i64>,
        timestamp: i64,
        value: f64,
    ) {
        let bits = value.to_bits();
        let Some(before) = before else {
            return self.begin(out, timestamp, bits);
        };
        let interval = timestamp.wrapping_sub(before).cast_unsigned();
        let (interval, other) = if interval == u64::from(self.interval) {
            self.deviation = 0;
            (NOTHING, OTHER)
        } else {
            (self.interval(out, interval), OTHER_AFTER_INTERVAL)
        };
        if bits == self.reference {
            return self.put(out, interval.then(SAME));
        }
        match self.payload(bits) {
            Some(payload) => self.put_both(out, interval.then(CHANGED), payload),
            None => {
                if interval.len > 0 {
                    self.put(out, interval);
                }
                self.put_form(out, other, bits);
            }
        }
    }

    /// The first sample: whole bytes.
    #[cold]
    fn begin(&mut self, out: &mut Vec<u8>, timestamp: i64, bits: u64) {
        put_signed(out, timestamp);
        let len = u64::BITS.div_ceil(8) - bits.trailing_zeros() / 8;
        out.extend(len.to_le_bytes().first());
        out.extend(bits.to_be_bytes().iter().take(len as usize));
        self.reference = bits;
    }

    #[inline]
    fn put(&mut self, out: &mut Vec<u8>, bits: Bits) {
        self.fill = put(out, self.fill, bits.value, bits.len);
    }

    /// Writes both, which may be more bits together than a word has.
    #[inline]
    fn put_both(&mut self, out: &mut Vec<u8>, first: Bits, second: Bits) {
        if first.len + second.len <= PUT_BITS_MAX {
            return self.put(out, first.then(second));
        }
        self.put(out, first);
        let low = second.len.min(32);
        if second.len > low {
            self.put(out, Bits::new(second.value >> low, second.len - low));
        }
        self.put(out, Bits::new(second.value & (u64::MAX >> (64 - low)), low));
    }

    /// What to write before the value for an interval that is not the usual one. What is too long
    /// to come with a value is written right away.
    #[inline]
    fn interval(&mut self, out: &mut Vec<u8>, interval: u64) -> Bits {
        let difference = interval.wrapping_sub(u64::from(self.interval));
        let signed = difference.cast_signed();
        let needed = 1 + bits_of((signed ^ (signed >> 63)).cast_unsigned());
        let becomes_usual = self.interval == 0 || self.repeats(difference);
        if needed <= interval::NEAR_BITS && !becomes_usual {
            let difference = difference & (u64::MAX >> (64 - interval::NEAR_BITS));
            let prefix = Bits::new(interval::NEAR, interval::PREFIX_BITS);
            return prefix.then(Bits::new(difference, interval::NEAR_BITS));
        }
        let least_class = if becomes_usual {
            interval::USUAL_CLASS
        } else {
            0
        };
        self.far_interval(out, interval, needed, least_class)
    }

    /// The same for an interval whose difference has more than a few bits, `needed` of them, or
    /// that becomes the usual one.
    #[cold]
    #[inline(never)]
    fn far_interval(
        &mut self,
        out: &mut Vec<u8>,
        interval: u64,
        needed: u32,
        least_class: usize,
    ) -> Bits {
        let difference = interval.wrapping_sub(u64::from(self.interval));
        let mut classes = (0u64..).zip(interval::FAR_BITS).skip(least_class);
        let (class, len) = classes.find(|(_, len)| needed <= *len).unwrap_or((3, 64));
        if class >= interval::USUAL_CLASS as u64 {
            self.interval = u32::try_from(interval).unwrap_or(0);
            self.deviation = 0;
        }
        let prefix = Bits::new(interval::FAR, interval::PREFIX_BITS);
        let prefix = prefix.then(Bits::new(class, interval::CLASS_BITS));
        let difference = Bits::new(difference & (u64::MAX >> (64 - len)), len);
        if len < 32 {
            return prefix.then(difference);
        }
        self.put_both(out, prefix, difference);
        NOTHING
    }

    /// Whether a difference came so often in a row that it is that of the usual interval. Only six
    /// bits of it are remembered.
    fn repeats(&mut self, difference: u64) -> bool {
        let [low, ..] = (difference << 2).to_le_bytes();
        let times = self.deviation & REPEATS_MAX;
        if self.deviation & !REPEATS_MAX != low || times == 0 {
            self.deviation = low | 1;
            return false;
        }
        self.deviation += 1;
        times + 1 == REPEATS_MAX
    }

    /// What to write for a changed value in the window, if it is in it and the window is good
    /// enough.
    #[inline]
    fn payload(&mut self, bits: u64) -> Option<Bits> {
        let payload = match self.window {
            Window::Xor { leading, width } => {
                if self.patience == 0 {
                    if Scale::of_both(self.reference, bits, None).is_some() {
                        return None;
                    }
                    self.patience = REVIEW;
                }
                self.patience -= 1;
                let (leading, width) = (u32::from(leading), u32::from(width));
                let xor = bits ^ self.reference;
                let trailing = 64 - leading - width;
                let needed = 64 - xor.leading_zeros() - xor.trailing_zeros();
                let fits = xor.leading_zeros() >= leading && xor.trailing_zeros() >= trailing;
                if bits == STALE || !fits || needed + XOR_SHRINK_BITS < width {
                    return None;
                }
                Bits::new(xor >> trailing, width)
            }
            Window::Integers {
                scale,
                width,
                anchor,
            } => {
                let width = u32::from(width);
                let integer = scale.exact(bits)?;
                let difference = integer.wrapping_sub(scale.integer(self.reference));
                self.observe(difference);
                if self.patience == 0 && self.review(width) {
                    return None;
                }
                self.patience -= 1;
                Bits::new(Range { width, anchor }.payload(difference)?, width)
            }
        };
        self.reference = bits;
        Some(payload)
    }

    /// Takes a difference into account for the next window.
    #[inline]
    fn observe(&mut self, difference: i64) {
        let difference = difference.clamp(i32::MIN.into(), i32::MAX.into());
        let difference = i32::try_from(difference).unwrap_or(0);
        self.low = self.low.min(difference);
        self.high = self.high.max(difference);
    }

    /// Whether a narrower window pays for the differences since the last review. Begins the next
    /// period if not.
    #[cold]
    fn review(&mut self, width: u32) -> bool {
        let saved = self
            .range()
            .map_or(0, |range| width.saturating_sub(range.width));
        if saved > 0 {
            return true;
        }
        self.patience = REVIEW;
        (self.low, self.high) = (i32::MAX, i32::MIN);
        false
    }

    /// The best window for the differences that were seen; none if they were too large to tell.
    fn range(&self) -> Option<Range> {
        if self.low == i32::MIN || self.high == i32::MAX {
            return None;
        }
        let (low, high) = (i64::from(self.low), i64::from(self.high));
        let zero = Range::around_zero(low, high, 0);
        // Its header is 15 bits longer.
        let anywhere = Range::anywhere(low, high).filter(|range| range.width + 1 < zero.width);
        Some(anywhere.unwrap_or(zero))
    }

    /// Writes a stale value, or a value that opens a new window.
    #[cold]
    #[inline(never)]
    fn put_form(&mut self, out: &mut Vec<u8>, control: Bits, bits: u64) {
        if bits == STALE {
            return self.put(out, control.then(Bits::new(form::STALE, form::BITS)));
        }
        let reference = std::mem::replace(&mut self.reference, bits);
        if let Some((scale, range, payload)) = self.integers(reference, bits) {
            let header = control.then(Bits::new(form::INTEGERS, form::BITS));
            let header = header.then(Bits::new(scale.number().into(), Scale::BITS));
            let header = header.then(Bits::new(range.width.into(), Range::WIDTH_BITS));
            let header = match range.anchor {
                0 => header.then(Bits::new(0b00, 2)),
                -1 => header.then(Bits::new(0b01, 2)),
                anchor => header.then(Bits::new(0b1 << 16 | u64::from(anchor.cast_unsigned()), 17)),
            };
            let [width, ..] = range.width.to_le_bytes();
            self.window = Window::Integers {
                scale,
                width,
                anchor: range.anchor,
            };
            return self.put_both(out, header, Bits::new(payload, range.width));
        }
        if matches!(self.window, Window::Integers { .. }) {
            self.patience = RETRY_SOON;
        }
        let xor = bits ^ reference;
        let (leading, trailing) = (xor.leading_zeros(), xor.trailing_zeros());
        let width = 64 - leading - trailing;
        let header = control.then(Bits::new(form::XOR, form::BITS));
        let header = header.then(Bits::new((leading << 6 | (width - 1)).into(), 12));
        let ([leading, ..], [width_byte, ..]) = (leading.to_le_bytes(), width.to_le_bytes());
        self.window = Window::Xor {
            leading,
            width: width_byte,
        };
        self.put_both(out, header, Bits::new(xor >> trailing, width));
    }

    /// A window of integers for a value that is not in the current one, if that pays.
    fn integers(&mut self, reference: u64, bits: u64) -> Option<(Scale, Range, u64)> {
        let before = match self.window {
            Window::Xor { .. } if self.patience > 0 => return None,
            Window::Xor { .. } => None,
            Window::Integers { scale, .. } => Some(scale),
        };
        let kept = before.filter(|scale| scale.exact(bits).is_some());
        let scale = kept.or_else(|| Scale::of_both(reference, bits, before))?;
        let difference = scale.integer(bits).wrapping_sub(scale.integer(reference));
        if Some(scale) != before {
            (self.low, self.high) = (i32::MAX, i32::MIN);
        }
        let first = self.low > self.high;
        self.observe(difference);
        let fits = |range: &Range| range.width <= INTEGER_BITS_MAX;
        let range = if first {
            // One difference says little: leave room for twice as much.
            Some(Range::around_zero(difference, difference, 1))
        } else {
            self.range()
                .filter(|range| range.payload(difference).is_some())
        };
        let wide = || Range::around_zero(difference, difference, 0);
        let range = range.filter(fits).or_else(|| Some(wide()).filter(fits))?;
        self.patience = if first { FIRST_REVIEW } else { REVIEW };
        (self.low, self.high) = (i32::MAX, i32::MIN);
        self.observe(difference);
        Some((scale, range, range.payload(difference)?))
    }
}
