//! Chunks of float samples: an append-only bit stream, written by the head one sample at a time and
//! kept byte for byte in parts (`FORMAT.md`, "Chunk").
//!
//! A sample at the usual interval with the value before it is one bit. Any other value is a payload
//! in the current window: the difference to the value before, either of integers
//! (of the values times a power of ten or two, where that is exact: counters, prices, bytes in
//! pages) or of the bits of the floats (XOR).

mod bits;
mod decoder;
mod encoder;
pub(crate) mod starts;
mod window;

pub use decoder::decode_floats;
pub(crate) use decoder::first_timestamp;
pub(crate) use encoder::{FloatEncoder, SAMPLE_BYTES_MAX};

/// The bits of the float that says that a series ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// How an interval that is not the usual one is written, as the signed difference to that.
mod interval {
    /// Jitter of milliseconds: these bits before a difference of so many.
    pub(super) const NEAR: u64 = 0b1110;
    pub(super) const NEAR_BITS: u32 = 6;
    /// Any other: these bits, then the class.
    pub(super) const FAR: u64 = 0b1111;
    pub(super) const CLASS_BITS: u32 = 2;
    /// Bits of the difference by class: jitter of a network, a missing sample, another interval,
    /// any.
    pub(super) const FAR_BITS: [u32; 4] = [10, 17, 23, 64];
    /// From this class on the interval becomes the usual one.
    pub(super) const USUAL_CLASS: usize = 2;
    /// Bits before the difference or the class.
    pub(super) const PREFIX_BITS: u32 = 4;
}

/// What a value that is not in the window begins with: two bits.
mod form {
    pub(super) const STALE: u64 = 0b00;
    pub(super) const XOR: u64 = 0b01;
    pub(super) const INTEGERS: u64 = 0b10;
    pub(super) const BITS: u32 = 2;
}

#[cfg(test)]
mod tests;
