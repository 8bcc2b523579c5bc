//! The bytes of values that have no column of their kind (`FORMAT.md`, "Value"): arrays, and what
//! queries do not see. The stage writes them, reads come here.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::Result;
use trine_storage::codec::Reader;

use crate::block::values::ValueRef;

use super::{AnyValue, KeyValue};

/// How deep arrays and key-value lists may be nested.
pub(crate) const DEPTH_MAX: usize = 32;

pub(crate) const EMPTY: u8 = 0;
pub(crate) const STRING: u8 = 1;
pub(crate) const FALSE: u8 = 2;
pub(crate) const TRUE: u8 = 3;
pub(crate) const INT: u8 = 4;
pub(crate) const DOUBLE: u8 = 5;
pub(crate) const BYTES: u8 = 6;
pub(crate) const ARRAY: u8 = 7;
pub(crate) const KEY_VALUES: u8 = 8;

/// Reads a value.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are no value.
pub(crate) fn value(reader: &mut Reader<'_>, depth: usize) -> Result<AnyValue> {
    if depth > DEPTH_MAX {
        return Err(reader.corrupt("a value is nested too deep"));
    }
    Ok(match reader.u8()? {
        EMPTY => AnyValue::Empty,
        STRING => AnyValue::String(reader.text()?.to_owned()),
        FALSE => AnyValue::Bool(false),
        TRUE => AnyValue::Bool(true),
        INT => AnyValue::Int(reader.signed()?),
        DOUBLE => AnyValue::Double(f64::from_bits(reader.u64()?)),
        BYTES => AnyValue::Bytes(reader.bytes()?.to_owned()),
        ARRAY => {
            let count = reader.count(1)?;
            AnyValue::Array(
                (0..count)
                    .map(|_| value(reader, depth + 1))
                    .collect::<Result<_>>()?,
            )
        }
        KEY_VALUES => AnyValue::KeyValues(attributes(reader, depth + 1)?),
        _ => return Err(reader.corrupt("the kind of a value is unknown")),
    })
}

/// Hands over the scalars of an array in its bytes until `each` says no. What is no array of scalars
/// has none.
pub(crate) fn each_element(bytes: &[u8], each: &mut dyn FnMut(ValueRef<'_>) -> bool) {
    let mut reader = Reader::new("an array", bytes);
    let mut walk = || -> Result<()> {
        if reader.u8()? != ARRAY {
            return Ok(());
        }
        for _ in 0..reader.count(1)? {
            let element = match reader.u8()? {
                STRING => ValueRef::Str(reader.text()?),
                FALSE => ValueRef::Bool(false),
                TRUE => ValueRef::Bool(true),
                INT => ValueRef::Int(reader.signed()?),
                DOUBLE => ValueRef::Float(f64::from_bits(reader.u64()?)),
                _ => return Ok(()),
            };
            if !each(element) {
                break;
            }
        }
        Ok(())
    };
    // Bytes of columns are checked against their checksum; an array that is cut ends there.
    walk().ok();
}

fn attributes(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<KeyValue>> {
    let count = reader.count(2)?;
    (0..count)
        .map(|_| {
            let key = reader.text()?.into();
            Ok(KeyValue {
                key,
                value: value(reader, depth)?,
            })
        })
        .collect()
}
