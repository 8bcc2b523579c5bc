//! The cursor that messages of protobuf are read with, and what they are written with. `otlp` and
//! all below it use it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::Error;
use trine_storage::codec::{put_u32, put_u64, put_varint};

/// Why bytes are no message, and in which field. Small, because every read may answer with it.
#[derive(Debug)]
pub(crate) struct Malformed(Box<Place>);

#[derive(Debug)]
struct Place {
    what: &'static str,
    /// The fields from the innermost to the outermost.
    fields: Vec<&'static str>,
}

/// What reading a message gives.
pub(crate) type Read<T> = Result<T, Malformed>;

impl Malformed {
    #[cold]
    pub(crate) fn new(what: &'static str) -> Self {
        Self(Box::new(Place {
            what,
            fields: Vec::new(),
        }))
    }

    /// The same, in the field `name` of the message around it.
    #[cold]
    pub(crate) fn within(mut self, name: &'static str) -> Self {
        self.0.fields.push(name);
        self
    }

    /// The error that a caller of the store gets.
    #[cold]
    pub(crate) fn into_error(self) -> Error {
        let Place { what, mut fields } = *self.0;
        fields.reverse();
        let place = match fields.is_empty() {
            true => String::new(),
            false => format!(" at {}", fields.join(".")),
        };
        Error::invalid(format!("the request is malformed{place}: {what}"))
    }
}

/// The wire types of protobuf: numbers of any size.
pub(crate) const VARINT: u32 = 0;
/// Eight bytes.
pub(crate) const FIXED64: u32 = 1;
/// Text, bytes and messages.
pub(crate) const BYTES: u32 = 2;
const GROUP: u32 = 3;
const GROUP_END: u32 = 4;
/// Four bytes.
pub(crate) const FIXED32: u32 = 5;

/// The bytes of a message that are not read yet.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The tag of the next field; `None` at the end.
    #[inline]
    fn tag(&mut self) -> Read<Option<u32>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        match u32::try_from(tag) {
            Ok(tag) if tag >> 3 != 0 => Ok(Some(tag)),
            _ => Err(Malformed::new("the number of a field is out of range")),
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Read<u64> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else {
                return Err(Malformed::new("the data ends too early"));
            };
            self.rest = rest;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::new("a number has more than 64 bits"))
    }

    /// A number of 32 bits, of longer ones the lower bits, as protobuf says.
    #[inline]
    pub(crate) fn uint32(&mut self) -> Read<u32> {
        self.varint().map(|number| (number & 0xffff_ffff) as u32)
    }

    #[inline]
    pub(crate) fn int32(&mut self) -> Read<i32> {
        self.uint32().map(u32::cast_signed)
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        if let Some((taken, rest)) = prefixed(self.rest) {
            self.rest = rest;
            return Ok(taken);
        }
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        self.take(len)
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn fixed32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(Malformed::new("the data ends too early"));
        };
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Malformed::new("the data ends too early"));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Goes past the field of `tag`, and past all of a group without going deeper itself.
    fn skip(&mut self, tag: u32) -> Read<()> {
        let (mut tag, mut open) = (tag, 0u64);
        loop {
            match tag & 7 {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.take(8)?),
                BYTES => drop(self.bytes()?),
                FIXED32 => drop(self.take(4)?),
                GROUP => open += 1,
                GROUP_END if open > 0 => open -= 1,
                _ => return Err(Malformed::new("a field has a type that does not exist")),
            }
            if open == 0 {
                return Ok(());
            }
            let next = self.tag()?;
            tag = next.ok_or_else(|| Malformed::new("the data ends too early"))?;
        }
    }
}

/// Splits what follows a length of up to three bytes, which is what senders write: some of them
/// leave that much room before they know it. `None` also when there is less than it says.
#[inline(always)]
pub(super) fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match bytes {
        [len @ ..0x80, rest @ ..] => (usize::from(*len), rest),
        [low, high @ ..0x80, rest @ ..] => {
            (usize::from(*low & 0x7f) | usize::from(*high) << 7, rest)
        }
        [low, middle, high @ ..0x80, rest @ ..] => {
            let lower = usize::from(*low & 0x7f) | usize::from(*middle & 0x7f) << 7;
            (lower | usize::from(*high) << 14, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// Gives the number and the wire type of every field of a message to `field`, which says whether it
/// has read it. `names` are those of the fields from number 1 on: one of them that is not read has
/// a wrong type. Others, and those with an empty name, are unknown and skipped.
#[inline]
pub(crate) fn message<'a>(
    bytes: &'a [u8],
    names: &[&'static str],
    mut field: impl FnMut((u32, u32), &mut Cursor<'a>) -> Read<bool>,
) -> Read<()> {
    let mut cursor = Cursor { rest: bytes };
    while let Some(tag) = cursor.tag()? {
        let name = |tag: u32| {
            names
                .get((tag >> 3) as usize - 1)
                .filter(|name| !name.is_empty())
        };
        let done = match field((tag >> 3, tag & 7), &mut cursor) {
            Ok(true) => continue,
            Ok(false) if name(tag).is_some() => Err(Malformed::new("the field has a wrong type")),
            Ok(false) => cursor.skip(tag),
            Err(malformed) => Err(malformed),
        };
        done.map_err(|malformed| match name(tag) {
            Some(name) => malformed.within(name),
            None => malformed.within("an unknown field"),
        })?;
    }
    Ok(())
}

/// Appends the tag of a field.
pub(crate) fn put_tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    put_varint(out, (field << 3 | wire).into());
}

/// Appends a field that holds a varint, unless it is zero.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_tag(out, field, VARINT);
        put_varint(out, number);
    }
}

/// Appends a field that holds a number with a sign, unless it is zero.
pub(crate) fn put_int32(out: &mut Vec<u8>, field: u32, number: i32) {
    put_number(out, field, i64::from(number).cast_unsigned());
}

/// Appends a field that holds eight bytes, unless they are zero.
pub(crate) fn put_fixed64(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_tag(out, field, FIXED64);
        put_u64(out, number);
    }
}

/// Appends a field that holds four bytes, unless they are zero.
pub(crate) fn put_fixed32(out: &mut Vec<u8>, field: u32, number: u32) {
    if number != 0 {
        put_tag(out, field, FIXED32);
        put_u32(out, number);
    }
}

/// Appends a field that holds text or bytes, unless they are empty.
pub(crate) fn put_text(out: &mut Vec<u8>, field: u32, text: &[u8]) {
    if !text.is_empty() {
        put_item(out, field, text);
    }
}

/// Appends a field that holds bytes, empty or not.
pub(crate) fn put_item(out: &mut Vec<u8>, field: u32, item: &[u8]) {
    put_tag(out, field, BYTES);
    put_varint(out, item.len() as u64);
    out.extend_from_slice(item);
}

/// Appends a field that holds the message that `write` appends.
pub(crate) fn put_message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, field, BYTES);
    let start = out.len();
    // Most messages are shorter than 128 bytes; longer ones are moved to make room.
    out.push(0);
    write(out);
    let len = out.len() - start - 1;
    if let (Ok(short @ ..0x80), Some(byte)) = (u8::try_from(len), out.get_mut(start)) {
        *byte = short;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, len as u64);
    out.splice(start..=start, prefix);
}
