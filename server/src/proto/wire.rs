//! Reading protobuf without a schema compiler and without copying: fields one after the other,
//! each a slice of the message. The messages of `proto` are built on it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;

/// What is wrong with a message; the text continues the sentence "the message ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// A number or a field goes past the end.
    Cut,
    /// A number has more than ten bytes or a tag is out of range.
    BadNumber,
    /// A field has a wire type that does not exist or is not the one of this field.
    BadType,
    /// A string is not UTF-8.
    NotUtf8,
    /// It is a request of another version of its protocol.
    OtherVersion,
    /// It holds more series, samples, histograms and exemplars together than a limit allows.
    TooManyRows(usize),
    /// It names more different strings than a limit allows.
    TooManySymbols(usize),
    /// It has a field twice that can be there once.
    Repeated,
    /// An attribute's value is none.
    BadAttribute,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyRows(max) => {
                return write!(f, "the message holds more than {max} rows");
            }
            Self::TooManySymbols(max) => {
                return write!(f, "the message holds more than {max} symbols");
            }
            Self::Cut => "the message is cut short",
            Self::BadNumber => "the message holds a malformed number",
            Self::BadType => "the message holds a field of a wrong type",
            Self::NotUtf8 => "the message holds a string that is not UTF-8",
            Self::Repeated => "the message holds a field twice that can be there once",
            Self::BadAttribute => "the message holds a malformed value of an attribute",
            Self::OtherVersion => {
                "the message is of another version of the protocol than the content type says"
            }
        })
    }
}

impl std::error::Error for WireError {}

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A varint: integers, booleans, enumerations.
    Varint(u64),
    /// Eight bytes, little-endian: doubles, fixed64.
    Fixed64(u64),
    /// Bytes with a length: strings, messages, packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes, little-endian: floats, fixed32.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The bytes of a message or of `bytes`.
    ///
    /// # Errors
    /// [`WireError::BadType`] when the field is a number.
    pub fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::BadType),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`WireError::BadType`] when the field is a number, [`WireError::NotUtf8`].
    pub fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::NotUtf8)
    }

    /// An int64 (not a sint64).
    ///
    /// # Errors
    /// [`WireError::BadType`] when the field is not a varint.
    pub fn int64(self) -> Result<i64, WireError> {
        match self {
            Self::Varint(number) => Ok(number.cast_signed()),
            _ => Err(WireError::BadType),
        }
    }

    /// A number without a sign, of 64 bits or less; an enumeration.
    ///
    /// # Errors
    /// [`WireError::BadType`] when the field is not a varint.
    pub fn uint64(self) -> Result<u64, WireError> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(WireError::BadType),
        }
    }

    /// A sint64 or sint32.
    ///
    /// # Errors
    /// [`WireError::BadType`] when the field is not a varint.
    pub fn sint64(self) -> Result<i64, WireError> {
        self.uint64().map(zigzag)
    }

    /// Gives each varint of a repeated field to `each`; packed, as senders write them, or alone.
    ///
    /// # Errors
    /// [`WireError`] when they are none.
    #[inline]
    pub fn varints(self, mut each: impl FnMut(u64)) -> Result<(), WireError> {
        match self {
            Self::Varint(number) => each(number),
            Self::Bytes(packed) => {
                let mut packed = Fields(packed);
                while !packed.0.is_empty() {
                    each(packed.varint()?);
                }
            }
            _ => return Err(WireError::BadType),
        }
        Ok(())
    }

    /// Gives each double of a repeated field to `each`; packed, as senders write them, or alone.
    ///
    /// # Errors
    /// [`WireError`] when they are none.
    pub fn doubles(self, mut each: impl FnMut(f64)) -> Result<(), WireError> {
        self.fixed64s(|bits| each(f64::from_bits(bits)))
    }

    /// Gives each fixed64 of a repeated field to `each`; packed, as senders write them, or alone.
    ///
    /// # Errors
    /// [`WireError`] when they are none.
    pub fn fixed64s(self, mut each: impl FnMut(u64)) -> Result<(), WireError> {
        match self {
            Self::Fixed64(bits) => each(bits),
            Self::Bytes(packed) => {
                let (eights, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(WireError::Cut);
                }
                for eight in eights {
                    each(u64::from_le_bytes(*eight));
                }
            }
            _ => return Err(WireError::BadType),
        }
        Ok(())
    }

    /// A double.
    ///
    /// # Errors
    /// [`WireError::BadType`] when the field does not have eight bytes.
    pub fn double(self) -> Result<f64, WireError> {
        self.fixed64().map(f64::from_bits)
    }

    /// A fixed64.
    ///
    /// # Errors
    /// [`WireError::BadType`] when the field does not have eight bytes.
    pub fn fixed64(self) -> Result<u64, WireError> {
        match self {
            Self::Fixed64(bits) => Ok(bits),
            _ => Err(WireError::BadType),
        }
    }
}

/// The number that a sint64 is written for.
pub fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// The messages that a repeated field of a message holds, in the order in which they were written.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<'a> Messages<'a> {
    /// The messages in the fields of `message` that have this number.
    pub fn of(message: &'a [u8], number: u32) -> Self {
        Self {
            fields: Fields::of(message),
            number,
        }
    }

    /// The next one; `None` after the last one.
    ///
    /// # Errors
    /// [`WireError`] when the rest is not protobuf or the field is of another type.
    #[inline]
    pub fn next_message(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        while let Some((number, value)) = self.fields.next_field()? {
            if number == self.number {
                return value.bytes().map(Some);
            }
        }
        Ok(None)
    }
}

impl Default for Messages<'_> {
    fn default() -> Self {
        Self::of(&[], 0)
    }
}

/// The fields of one message in the order in which they were written.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// Whether there are no more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next field's number and value.
    ///
    /// # Errors
    /// [`WireError`] when the rest is not protobuf.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::BadNumber)?;
        if number == 0 {
            return Err(WireError::BadNumber);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Cut)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups were never used by any of these protocols.
            _ => return Err(WireError::BadType),
        };
        Ok(Some((number, value)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        if let [byte @ 0..128, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(WireError::BadNumber);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WireError::BadNumber)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(WireError::Cut)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(WireError::Cut)?;
        self.0 = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Value, WireError};

    fn all(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, WireError> {
        let mut fields = Fields::of(message);
        let mut out = Vec::new();
        while let Some(field) = fields.next_field()? {
            out.push(field);
        }
        Ok(out)
    }

    #[test]
    fn fields() {
        let check = |message: &[u8], expect: Result<Vec<(u32, Value<'_>)>, WireError>| {
            assert_eq!(all(message), expect, "{message:02x?}");
        };
        check(&[], Ok(vec![]));
        check(&[0x08, 0x96, 0x01], Ok(vec![(1, Value::Varint(150))]));
        check(
            &[0x12, 2, b'h', b'i', 0x18, 0],
            Ok(vec![(2, Value::Bytes(b"hi")), (3, Value::Varint(0))]),
        );
        check(&[0x0d, 1, 0, 0, 0], Ok(vec![(1, Value::Fixed32(1))]));
        check(
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
            Ok(vec![(1, Value::Fixed64(1.0f64.to_bits()))]),
        );
        let minus_one = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        check(&minus_one, Ok(vec![(1, Value::Varint(u64::MAX))]));
        let too_big = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        check(&too_big, Err(WireError::BadNumber));
        check(&[0x08; 1], Err(WireError::Cut));
        check(&[0x12, 3, b'h', b'i'], Err(WireError::Cut));
        check(
            &[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            Err(WireError::Cut),
        );
        check(&[0x09, 0], Err(WireError::Cut));
        check(&[0x0b], Err(WireError::BadType));
        check(&[0x00, 0x00], Err(WireError::BadNumber));
    }

    #[test]
    fn values_know_their_type() {
        assert_eq!(Value::Varint(u64::MAX).int64(), Ok(-1));
        assert_eq!(Value::Bytes(b"x").text(), Ok("x"));
        assert_eq!(Value::Bytes(&[0xff]).text(), Err(WireError::NotUtf8));
        assert_eq!(Value::Varint(1).text(), Err(WireError::BadType));
        assert_eq!(Value::Varint(1).double(), Err(WireError::BadType));
        assert_eq!(Value::Fixed64(0).int64(), Err(WireError::BadType));
        assert_eq!(Value::Fixed64(0).uint64(), Err(WireError::BadType));
        for (written, number) in [(0, 0), (1, -1), (2, 1), (u64::MAX, i64::MIN)] {
            assert_eq!(Value::Varint(written).sint64(), Ok(number));
        }
    }

    #[test]
    fn repeated_numbers_are_packed_or_alone() {
        let varints = |value: Value<'_>| {
            let mut got = Vec::new();
            value.varints(|number| got.push(number)).map(|()| got)
        };
        assert_eq!(varints(Value::Bytes(&[])), Ok(vec![]));
        assert_eq!(varints(Value::Bytes(&[1, 0x96, 1])), Ok(vec![1, 150]));
        assert_eq!(varints(Value::Varint(7)), Ok(vec![7]));
        assert_eq!(varints(Value::Bytes(&[1, 0x96])), Err(WireError::Cut));
        assert_eq!(varints(Value::Fixed64(1)), Err(WireError::BadType));
        let doubles = |value: Value<'_>| {
            let mut got = Vec::new();
            value.doubles(|number| got.push(number)).map(|()| got)
        };
        let bytes = [1.5f64.to_le_bytes(), 2.0f64.to_le_bytes()].concat();
        assert_eq!(doubles(Value::Bytes(&bytes)), Ok(vec![1.5, 2.0]));
        assert_eq!(doubles(Value::Fixed64(0)), Ok(vec![0.0]));
        assert_eq!(doubles(Value::Bytes(&bytes[1..])), Err(WireError::Cut));
        assert_eq!(doubles(Value::Varint(1)), Err(WireError::BadType));
    }
}
