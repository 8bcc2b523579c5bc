//! Little-endian numbers, varints and length-prefixed bytes: how every format of this workspace is
//! written, and the bounds-checked cursor that reads it back.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::error::{Error, Result};

/// Appends a `u32`, little-endian.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `u64`, little-endian.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends an unsigned LEB128 varint of at most ten bytes.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a signed number as a zigzag varint.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends the length as a varint, then the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A cursor over bytes that may be damaged. Every read is checked; a failed one names the file and
/// the offset.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    name: &'a str,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`; `name` is what errors call them.
    pub fn new(name: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            name,
            bytes,
            offset: 0,
        }
    }

    /// Where the cursor stands.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes follow.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// Whether all bytes were read.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// An error that says that the bytes at the cursor are not what they should be.
    pub fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(self.name, self.offset as u64, what)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) when fewer follow; so for all methods below.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.offset.checked_add(len);
        let taken = end.and_then(|end| self.bytes.get(self.offset..end));
        let Some(taken) = taken else {
            return Err(self.corrupt("the data ends too early"));
        };
        self.offset += len;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        <[u8; N]>::try_from(taken).map_err(|_| self.corrupt("the data ends too early"))
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A varint written by [`put_varint`].
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt("a varint is too long"))
    }

    /// A signed varint written by [`put_signed`].
    pub fn signed(&mut self) -> Result<i64> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// A varint that counts things of at least `least_bytes` bytes each, so that a damaged count
    /// can never ask for more memory than the data could fill.
    pub fn count(&mut self, least_bytes: usize) -> Result<usize> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count.saturating_mul(least_bytes.max(1)) > self.remaining() {
            return Err(self.corrupt("a count is larger than the data"));
        }
        Ok(count)
    }

    /// Bytes written by [`put_bytes`].
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// Bytes written by [`put_bytes`] that are UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.corrupt("text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        put_u32(&mut out, 0x0102_0304);
        put_u64(&mut out, 5);
        put_varint(&mut out, 300);
        put_signed(&mut out, -2);
        put_bytes(&mut out, b"ab");
        assert_eq!(
            out,
            [
                4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0xac, 2, 3, 2, b'a', b'b'
            ]
        );
    }

    #[test]
    fn overlong_varints_and_counts_are_refused() {
        let mut reader = Reader::new("test", &[0xff; 11]);
        assert_eq!(reader.varint().unwrap_err().kind(), crate::Kind::Corrupt);
        let error = Reader::new("test", &[200, 1, 0]).count(2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "test is damaged at byte 2: a count is larger than the data"
        );
        assert!(Reader::new("test", &[3, 1]).bytes().is_err());
    }

    proptest! {
        #[test]
        fn numbers_round_trip(unsigned: u64, signed: i64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_varint(&mut out, unsigned);
            put_signed(&mut out, signed);
            put_bytes(&mut out, &bytes);
            let mut reader = Reader::new("test", &out);
            prop_assert_eq!(reader.varint().unwrap(), unsigned);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert_eq!(reader.bytes().unwrap(), bytes);
            prop_assert!(reader.is_empty());
        }
    }
}
