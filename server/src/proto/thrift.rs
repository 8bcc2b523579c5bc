//! Reading Thrift without a schema compiler and without copying, in the binary and in the compact
//! protocol: structures field by field, lists element by element. `ingest::jaeger_thrift` is built on it.
//!
//! What bytes claim about themselves is an attacker's input: nothing is allocated here, lists cannot be
//! longer than what is left, and structures are nested to a bounded depth.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;

use crate::ingest::span_batch::TooLarge;

/// How deep structures, lists and maps may be nested in each other.
pub const DEPTH_MAX: u8 = 32;

/// What is wrong with a message; the text continues the sentence "the message ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThriftError {
    /// A value goes past the end.
    Cut,
    /// A number is too long, or a length is below zero.
    BadNumber,
    /// A type that does not exist.
    BadType(u8),
    /// A string is not UTF-8.
    NotUtf8,
    /// It is nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// One of its parts holds more than a limit allows.
    TooMany(usize),
    /// Its parts take more bytes than a limit allows.
    TooLarge(usize),
}

impl fmt::Display for ThriftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the message is cut short"),
            Self::BadNumber => f.write_str("the message holds a malformed number"),
            Self::BadType(number) => write!(f, "the message holds a value of no type ({number})"),
            Self::NotUtf8 => f.write_str("the message holds a string that is not UTF-8"),
            Self::TooDeep => write!(f, "the message is nested deeper than {DEPTH_MAX}"),
            Self::TooLarge(max) => TooLarge(*max).fmt(f),
            Self::TooMany(max) => {
                write!(
                    f,
                    "the message holds a span with more than {max} tags and logs"
                )
            }
        }
    }
}

impl std::error::Error for ThriftError {}

/// The result of reading something.
pub type Result<T> = std::result::Result<T, ThriftError>;

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Numbers of fixed width, the most significant byte first.
    Binary,
    /// Numbers as varints, fields by their distance from the one before.
    Compact,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of Thrift")]
pub enum Type {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List,
    Set,
    Map,
    Struct,
}

impl Type {
    fn of_binary(number: u8) -> Result<Self> {
        Ok(match number {
            2 => Self::Bool,
            3 => Self::I8,
            4 => Self::Double,
            6 => Self::I16,
            8 => Self::I32,
            10 => Self::I64,
            11 => Self::Binary,
            12 => Self::Struct,
            13 => Self::Map,
            14 => Self::Set,
            15 => Self::List,
            _ => return Err(ThriftError::BadType(number)),
        })
    }

    fn of_compact(number: u8) -> Result<Self> {
        Ok(match number {
            1 | 2 => Self::Bool,
            3 => Self::I8,
            4 => Self::I16,
            5 => Self::I32,
            6 => Self::I64,
            7 => Self::Double,
            8 => Self::Binary,
            9 => Self::List,
            10 => Self::Set,
            11 => Self::Map,
            12 => Self::Struct,
            _ => return Err(ThriftError::BadType(number)),
        })
    }
}

/// A message that is being read.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    protocol: Protocol,
    depth: u8,
    /// The value of a field that the compact protocol writes with the field's type.
    truth: Option<bool>,
}

impl<'a> Reader<'a> {
    /// A reader of a message that is a structure.
    pub fn new(message: &'a [u8], protocol: Protocol) -> Self {
        Self {
            rest: message,
            protocol,
            depth: 0,
            truth: None,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ThriftError::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ThriftError::Cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(ThriftError::BadNumber);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ThriftError::BadNumber)
    }

    fn zigzag(&mut self) -> Result<i64> {
        self.varint().map(super::wire::zigzag)
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`ThriftError`] when there is none.
    pub fn truth(&mut self) -> Result<bool> {
        match self.truth.take() {
            Some(truth) => Ok(truth),
            None => self.byte().map(|byte| byte == 1),
        }
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// [`ThriftError`] when there is none.
    pub fn i32(&mut self) -> Result<i32> {
        match self.protocol {
            Protocol::Binary => self.array().map(i32::from_be_bytes),
            Protocol::Compact => i32::try_from(self.zigzag()?).map_err(|_| ThriftError::BadNumber),
        }
    }

    /// A number of 64 bits.
    ///
    /// # Errors
    /// [`ThriftError`] when there is none.
    pub fn i64(&mut self) -> Result<i64> {
        match self.protocol {
            Protocol::Binary => self.array().map(i64::from_be_bytes),
            Protocol::Compact => self.zigzag(),
        }
    }

    /// A float.
    ///
    /// # Errors
    /// [`ThriftError`] when there is none.
    pub fn double(&mut self) -> Result<f64> {
        match self.protocol {
            Protocol::Binary => self.array().map(f64::from_be_bytes),
            Protocol::Compact => self.array().map(f64::from_le_bytes),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`ThriftError`] when they are fewer than they claim to be.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = match self.protocol {
            Protocol::Binary => u64::try_from(self.i32()?).map_err(|_| ThriftError::BadNumber)?,
            Protocol::Compact => self.varint()?,
        };
        self.take(usize::try_from(length).map_err(|_| ThriftError::Cut)?)
    }

    /// A string.
    ///
    /// # Errors
    /// As [`Reader::bytes`]; [`ThriftError::NotUtf8`].
    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ThriftError::NotUtf8)
    }

    /// Reads a structure: `each` is called with number and type of every field, and reads its value
    /// or [skips](Reader::skip) it.
    ///
    /// # Errors
    /// [`ThriftError`], and those of `each`.
    pub fn fields(
        &mut self,
        mut each: impl FnMut(&mut Self, i16, Type) -> Result<()>,
    ) -> Result<()> {
        self.nest()?;
        let mut last = 0;
        while let Some((number, kind)) = self.field(last)? {
            each(self, number, kind)?;
            self.truth = None;
            last = number;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Number and type of the next field; `None` at the end of the structure.
    fn field(&mut self, last: i16) -> Result<Option<(i16, Type)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        match self.protocol {
            Protocol::Binary => {
                let kind = Type::of_binary(byte)?;
                let number = self.array().map(i16::from_be_bytes)?;
                Ok(Some((number, kind)))
            }
            Protocol::Compact => {
                let (distance, kind) = (byte >> 4, byte & 0x0f);
                let number = match distance {
                    0 => i16::try_from(self.zigzag()?).ok(),
                    distance => last.checked_add(i16::from(distance)),
                };
                self.truth = match kind {
                    1 => Some(true),
                    2 => Some(false),
                    _ => None,
                };
                let number = number.ok_or(ThriftError::BadNumber)?;
                Ok(Some((number, Type::of_compact(kind)?)))
            }
        }
    }

    /// Reads a list: `each` is called for every element, and reads it or skips it.
    ///
    /// # Errors
    /// [`ThriftError`], and those of `each`.
    pub fn elements(&mut self, mut each: impl FnMut(&mut Self, Type) -> Result<()>) -> Result<()> {
        self.nest()?;
        let (kind, count) = match self.protocol {
            Protocol::Binary => {
                let kind = self.byte()?;
                let count = u64::try_from(self.i32()?).map_err(|_| ThriftError::BadNumber)?;
                (kind, count)
            }
            Protocol::Compact => {
                let byte = self.byte()?;
                let count = match byte >> 4 {
                    15 => self.varint()?,
                    few => u64::from(few),
                };
                (byte & 0x0f, count)
            }
        };
        // Every element has a byte at least. A list of nothing may name no type.
        if count > self.rest.len() as u64 {
            return Err(ThriftError::Cut);
        }
        if count > 0 {
            let kind = self.kind(kind)?;
            for _ in 0..count {
                each(self, kind)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn kind(&self, number: u8) -> Result<Type> {
        match self.protocol {
            Protocol::Binary => Type::of_binary(number),
            Protocol::Compact => Type::of_compact(number),
        }
    }

    fn nest(&mut self) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(ThriftError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    /// Reads over a value.
    ///
    /// # Errors
    /// [`ThriftError`] when there is none.
    pub fn skip(&mut self, kind: Type) -> Result<()> {
        match kind {
            Type::Bool => self.truth().map(drop),
            Type::I8 => self.byte().map(drop),
            Type::I16 if self.protocol == Protocol::Binary => self.take(2).map(drop),
            Type::I32 => self.i32().map(drop),
            Type::I16 | Type::I64 => self.i64().map(drop),
            Type::Double => self.take(8).map(drop),
            Type::Binary => self.bytes().map(drop),
            Type::List | Type::Set => self.elements(Self::skip),
            Type::Map => self.skip_map(),
            Type::Struct => self.fields(|reader, _, kind| reader.skip(kind)),
        }
    }

    fn skip_map(&mut self) -> Result<()> {
        self.nest()?;
        let (kinds, count) = match self.protocol {
            Protocol::Binary => {
                let kinds = [self.byte()?, self.byte()?];
                let count = u64::try_from(self.i32()?).map_err(|_| ThriftError::BadNumber)?;
                (kinds, count)
            }
            Protocol::Compact => match self.varint()? {
                0 => ([0, 0], 0),
                count => {
                    let byte = self.byte()?;
                    ([byte >> 4, byte & 0x0f], count)
                }
            },
        };
        if count > self.rest.len() as u64 {
            return Err(ThriftError::Cut);
        }
        if count > 0 {
            let [key, value] = kinds;
            let (key, value) = (self.kind(key)?, self.kind(value)?);
            for _ in 0..count {
                self.skip(key)?;
                self.skip(value)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what tests write is small")]
pub(crate) mod writer;
