//! The append-only codec of float chunks in memory and in parts.

use trine_storage::Result;
use trine_storage::codec::{Reader, put_u64};

/// The most bytes that one sample adds.
pub(crate) const SAMPLE_BYTES_MAX: usize = 32;

#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatEncoder {
    count: u32,
}

impl FloatEncoder {
    pub(crate) const fn new() -> Self {
        Self { count: 0 }
    }
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, timestamp: i64, value: f64) {
        put_u64(out, timestamp.cast_unsigned());
        put_u64(out, value.to_bits());
        self.count += 1;
    }
}

/// Appends the samples of a chunk to the columns.
///
/// # Errors
/// Corrupt.
pub fn decode_floats(
    name: &str,
    bytes: &[u8],
    count: u32,
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    for _ in 0..count {
        timestamps.push(reader.u64()?.cast_signed());
        values.push(f64::from_bits(reader.u64()?));
    }
    Ok(())
}
