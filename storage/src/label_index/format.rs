//! The byte form of a label index, written into blocks and read back from bytes that may be
//! damaged.
//!
//! ```text
//! version   u8 = 1
//! all       postings of every id
//! names     varint count; for each, sorted bytewise and unique:
//!   name      varint length (not 0), UTF-8
//!   values    varint count (not 0); for each, sorted bytewise and unique:
//!     value     varint length (not 0), UTF-8
//!     postings  not empty, disjoint within the name, within `all`
//!
//! postings  varint count; if count <= 8: the first id as varint, then for each further id the
//!           distance to the one before as varint; else varint length, portable Roaring bitmap
//! ```

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use roaring::RoaringBitmap;

use super::postings::Postings;
use super::{LabelIndex, Values, entry_bytes};
use crate::codec::{Reader, put_bytes, put_varint};
use crate::error::{Error, Kind, Result};

const VERSION: u8 = 1;

/// Up to this many ids are written one by one: a bitmap of one id takes 18 bytes.
const LISTED_MAX: u64 = 8;

impl LabelIndex {
    /// Appends the byte form. Equal indexes have equal bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_postings(out, &self.all);
        put_varint(out, self.names.len() as u64);
        for (name, values) in &self.names {
            put_bytes(out, name.as_bytes());
            put_varint(out, values.by_value.len() as u64);
            for (value, postings) in &values.by_value {
                put_bytes(out, value.as_bytes());
                put_postings(out, &postings.bitmap());
            }
        }
    }

    /// Reads what [`LabelIndex::write`] gave; `bytes` must hold nothing else.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] with the offset when the bytes are not a label index,
    /// [`Kind::Unsupported`] when a newer version wrote them.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("a label index", bytes);
        match reader.u8()? {
            VERSION => {}
            0 => return Err(Error::corrupt("a label index", 0, "its version is 0")),
            newer => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "a label index has version {newer} and this program reads up to \
                         {VERSION}; use the newer program"
                    ),
                ));
            }
        }
        let mut index = Self {
            all: take_postings(&mut reader)?,
            ..Self::default()
        };
        // The least: a name of one byte (2 bytes), one value of one byte (3) with one id (2).
        for _ in 0..reader.count(7)? {
            let last = index.names.last_key_value().map(|(name, _)| &**name);
            let name = take_key(&mut reader, last)?;
            let values = index.take_values(&mut reader)?;
            index.text_bytes += entry_bytes(name);
            index.names.insert(name.into(), values);
        }
        if !reader.is_empty() {
            return Err(reader.corrupt("bytes follow the last name"));
        }
        Ok(index)
    }

    fn take_values(&mut self, reader: &mut Reader<'_>) -> Result<Values> {
        let mut values = Values::default();
        let count = reader.count(4)?;
        if count == 0 {
            return Err(reader.corrupt("a name has no values"));
        }
        for _ in 0..count {
            let last = values.by_value.last_key_value().map(|(value, _)| &**value);
            let value = take_key(reader, last)?;
            let ids = take_postings(reader)?;
            if ids.is_empty() || !ids.is_subset(&self.all) {
                return Err(reader.corrupt("a value has no ids or unknown ones"));
            }
            if !ids.is_disjoint(&values.present) {
                return Err(reader.corrupt("an id has two values of one name"));
            }
            values.present |= &ids;
            self.text_bytes += entry_bytes(value);
            self.pairs = self
                .pairs
                .saturating_add(usize::try_from(ids.len()).unwrap_or(usize::MAX));
            values.by_value.insert(value.into(), Postings::from(ids));
        }
        Ok(values)
    }
}

/// A name or a value, which must come after the last one.
fn take_key<'a>(reader: &mut Reader<'a>, last: Option<&str>) -> Result<&'a str> {
    let key = reader.text()?;
    if key.is_empty() || last.is_some_and(|last| last >= key) {
        return Err(reader.corrupt("a name or value is empty or out of order"));
    }
    Ok(key)
}

fn put_postings(out: &mut Vec<u8>, ids: &RoaringBitmap) {
    put_varint(out, ids.len());
    if ids.len() <= LISTED_MAX {
        let mut last = 0;
        for id in ids {
            put_varint(out, u64::from(id - last));
            last = id;
        }
        return;
    }
    // Runs of ids are common: one stream after the other of the same application.
    let mut packed = ids.clone();
    packed.optimize();
    put_varint(out, packed.serialized_size() as u64);
    packed
        .serialize_into(out)
        .expect("writing to a Vec cannot fail");
}

fn take_postings(reader: &mut Reader<'_>) -> Result<RoaringBitmap> {
    let count = reader.varint()?;
    if count <= LISTED_MAX {
        return take_listed(reader, count);
    }
    let mut packed = reader.bytes()?;
    let ids = RoaringBitmap::deserialize_from(&mut packed);
    match ids {
        Ok(ids) if ids.len() == count && packed.is_empty() => Ok(ids),
        _ => Err(reader.corrupt("a bitmap of ids is damaged")),
    }
}

fn take_listed(reader: &mut Reader<'_>, count: u64) -> Result<RoaringBitmap> {
    let mut ids = RoaringBitmap::new();
    let mut last = 0u64;
    for _ in 0..count {
        last = last.saturating_add(reader.varint()?);
        let new = u32::try_from(last).is_ok_and(|id| ids.insert(id));
        if !new {
            return Err(reader.corrupt("an id is out of order or too large"));
        }
    }
    Ok(ids)
}
