//! Bits one after the other, highest first, and the numbers that chunks are made of. `chunk` calls
//! it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Widths of numbers that may be small, after as many ones and a zero.
const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Bytes in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits that make no whole byte yet, in the low bits.
    open: u64,
    /// How many of them there are, below 8.
    count: u32,
}

impl Bits {
    /// Bits after some bytes.
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            open: 0,
            count: 0,
        }
    }

    /// Appends the low `width` bits of `value`, at most 64.
    pub(super) fn put(&mut self, value: u64, width: u32) {
        if width > 32 {
            self.put(value >> 32, width - 32);
            return self.put(value & 0xffff_ffff, 32);
        }
        let mask = (1u64 << width) - 1;
        self.open = self.open << width | value & mask;
        self.count += width;
        while self.count >= 8 {
            self.count -= 8;
            let [.., byte] = (self.open >> self.count).to_be_bytes();
            self.bytes.push(byte);
        }
        self.open &= (1 << self.count) - 1;
    }

    /// The bytes, the last one filled with zeros.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.bytes
    }

    /// Appends a number in seven bits a byte.
    pub(super) fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    /// Appends a number, negative ones in turn with the others, in seven bits a byte.
    pub(super) fn put_varint(&mut self, value: i64) {
        self.put_uvarint((value << 1 ^ value >> 63).cast_unsigned());
    }

    /// Appends a float.
    pub(super) fn put_float(&mut self, value: f64) {
        self.put(value.to_bits(), 64);
    }

    /// Appends a number that is mostly near zero.
    pub(super) fn put_near(&mut self, value: i64) {
        self.put_prefixed(value.cast_unsigned(), value == 0, |w| fits(value, w));
    }

    /// Appends a number that is mostly small.
    pub(super) fn put_small(&mut self, value: u64) {
        self.put_prefixed(value, value == 0, |width| value >> width == 0);
    }

    fn put_prefixed(&mut self, bits: u64, is_zero: bool, fits: impl Fn(u32) -> bool) {
        if is_zero {
            return self.put(0, 1);
        }
        for (ones, width) in (1..).zip(WIDTHS) {
            if fits(width) {
                self.put((1 << (ones + 1)) - 2, ones + 1);
                return self.put(bits, width);
            }
        }
        self.put(0xff, 8);
        self.put(bits, 64);
    }
}

/// Whether a number has a form of `width` bits: one more above zero than below.
pub(super) fn fits(value: i64, width: u32) -> bool {
    let half = 1i64 << (width - 1);
    (1 - half..=half).contains(&value)
}

/// Floats that are written as what differs from the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Xor {
    before: u64,
    /// The bits of the last difference that was written with its place, if there was one.
    window: Option<(u32, u32)>,
}

impl Xor {
    /// After a float that was written as it is.
    pub(super) fn after(value: f64) -> Self {
        Self {
            before: value.to_bits(),
            window: None,
        }
    }

    /// Appends the next float.
    pub(super) fn put(&mut self, value: f64, out: &mut Bits) {
        let difference = value.to_bits() ^ self.before;
        self.before = value.to_bits();
        if difference == 0 {
            return out.put(0, 1);
        }
        // Five bits hold no more.
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        if let Some((first, last)) = self.window
            && leading >= first
            && trailing >= last
        {
            out.put(0b10, 2);
            return out.put(difference >> last, 64 - first - last);
        }
        let width = 64 - leading - trailing;
        out.put(0b11, 2);
        out.put(u64::from(leading), 5);
        // 64 is written as 0.
        out.put(u64::from(width), 6);
        out.put(difference >> trailing, width);
        self.window = Some((leading, trailing));
    }
}
