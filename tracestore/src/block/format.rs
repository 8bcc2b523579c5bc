//! The bytes of a block: sections, groups of spans, column pages (`FORMAT.md`, "Block").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use trine_storage::Result;
use trine_storage::codec::{Reader, put_bytes, put_signed, put_u64, put_varint};

use crate::columns::{Coded, Columns, Dictionary, Sparse};
use crate::request::{Scope, Value};

/// The letters in the header of the container.
pub(crate) const KIND: [u8; 4] = *b"span";

/// Section: the distinct resources and scopes.
pub(crate) const TABLES: u32 = 1;
/// Section: the traces, sorted by id.
pub(crate) const TRACES: u32 = 2;
/// Section: the groups and where their pages lie.
pub(crate) const GROUPS: u32 = 3;

/// A group of traces is closed when it holds this many spans: its columns are read as one, so a
/// trace by id should not pay for many strangers.
pub(crate) const GROUP_ROWS: usize = 4096;
/// Or when its spans take this many bytes: they are decompressed as one.
pub(crate) const GROUP_BYTES: usize = 16 << 20;
/// No page claims more than this when decompressed. Larger than any memory that could be sealed, so
/// that nothing is written that is not read back; a damaged claim is caught by the checksum before.
pub(crate) const PAGE_BYTES_MAX: u64 = 1 << 36;
pub(crate) const ZSTD_LEVEL: i32 = 1;

/// The pages that every group has, in this order; those of the attributes follow.
pub(crate) const PAGE_TIMES: usize = 0;
pub(crate) const PAGE_CODES: usize = 1;
pub(crate) const PAGE_IDS: usize = 2;
pub(crate) const PAGE_SPANS: usize = 3;
pub(crate) const FIXED_PAGES: usize = 4;

const STR: u8 = 0;
const INT: u8 = 1;
const FLOAT: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;
const ARRAY: u8 = 5;

pub(crate) fn put_scope(out: &mut Vec<u8>, scope: Scope) {
    out.push(match scope {
        Scope::Resource => 0,
        Scope::Span => 1,
        Scope::Event => 2,
        Scope::Link => 3,
        Scope::Instrumentation => 4,
    });
}

pub(crate) fn read_scope(reader: &mut Reader<'_>) -> Result<Scope> {
    Ok(match reader.u8()? {
        0 => Scope::Resource,
        1 => Scope::Span,
        2 => Scope::Event,
        3 => Scope::Link,
        4 => Scope::Instrumentation,
        _ => return Err(reader.corrupt("the scope of an attribute is unknown")),
    })
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Str(text) => {
            out.push(STR);
            put_bytes(out, text.as_bytes());
        }
        Value::Int(number) => {
            out.push(INT);
            put_signed(out, *number);
        }
        Value::Float(number) => {
            out.push(FLOAT);
            put_u64(out, number.to_bits());
        }
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Array(values) => {
            out.push(ARRAY);
            put_varint(out, values.len() as u64);
            values.iter().for_each(|value| put_value(out, value));
        }
    }
}

fn read_value(reader: &mut Reader<'_>, depth: usize) -> Result<Value> {
    Ok(match reader.u8()? {
        STR => Value::Str(reader.text()?.into()),
        INT => Value::Int(reader.signed()?),
        FLOAT => Value::Float(f64::from_bits(reader.u64()?)),
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        // An event's array attribute is an array in the array of the events.
        ARRAY if depth < 2 => {
            let count = reader.count(1)?;
            Value::Array(
                (0..count)
                    .map(|_| read_value(reader, depth + 1))
                    .collect::<Result<_>>()?,
            )
        }
        _ => return Err(reader.corrupt("the kind of a value is unknown")),
    })
}

fn put_dictionary(out: &mut Vec<u8>, dictionary: &Dictionary) {
    put_varint(out, dictionary.values.len() as u64);
    dictionary
        .values
        .iter()
        .for_each(|value| put_value(out, value));
}

fn read_dictionary(reader: &mut Reader<'_>) -> Result<Dictionary> {
    let count = reader.count(1)?;
    let values = (0..count)
        .map(|_| read_value(reader, 0))
        .collect::<Result<_>>()?;
    Ok(Dictionary::of(values))
}

fn number(reader: &mut Reader<'_>) -> Result<u32> {
    u32::try_from(reader.varint()?).map_err(|_| reader.corrupt("a number is too large"))
}

/// A number below `bound`: a place in a table.
fn place(reader: &mut Reader<'_>, bound: usize) -> Result<u32> {
    let place = number(reader)?;
    if place as usize >= bound {
        return Err(reader.corrupt("a code names something that is not there"));
    }
    Ok(place)
}

/// Starts (delta to the one before) and durations.
pub(crate) fn put_times(out: &mut Vec<u8>, columns: &Columns) {
    let mut previous = 0i64;
    for &start in &columns.starts {
        put_signed(out, start.wrapping_sub(previous));
        previous = start;
    }
    columns
        .durations
        .iter()
        .for_each(|&duration| put_varint(out, duration));
}

/// Reads what [`put_times`] wrote for `rows` spans.
pub(crate) fn read_times(name: &str, bytes: &[u8], rows: usize, to: &mut Columns) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    let mut previous = 0i64;
    for _ in 0..rows {
        previous = previous.wrapping_add(reader.signed()?);
        to.starts.push(previous);
    }
    for _ in 0..rows {
        to.durations.push(reader.varint()?);
    }
    end(&reader)
}

/// Kinds, statuses, resources, scopes, names and status messages.
pub(crate) fn put_codes(out: &mut Vec<u8>, columns: &Columns) {
    out.extend_from_slice(&columns.kinds);
    out.extend_from_slice(&columns.statuses);
    for codes in [&columns.resources, &columns.scopes] {
        codes.iter().for_each(|&code| put_varint(out, code.into()));
    }
    for coded in [&columns.names, &columns.messages] {
        put_dictionary(out, &coded.dictionary);
        coded
            .codes
            .iter()
            .for_each(|&code| put_varint(out, code.into()));
    }
}

/// How many resources and scopes there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableSizes {
    pub(crate) resources: usize,
    pub(crate) scopes: usize,
}

/// Reads what [`put_codes`] wrote for `rows` spans.
pub(crate) fn read_codes(
    name: &str,
    bytes: &[u8],
    rows: usize,
    tables: TableSizes,
    to: &mut Columns,
) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    to.kinds = reader.take(rows)?.to_owned();
    to.statuses = reader.take(rows)?.to_owned();
    to.resources = (0..rows)
        .map(|_| place(&mut reader, tables.resources))
        .collect::<Result<_>>()?;
    to.scopes = (0..rows)
        .map(|_| place(&mut reader, tables.scopes))
        .collect::<Result<_>>()?;
    let mut coded = || {
        let dictionary = read_dictionary(&mut reader)?;
        let bound = dictionary.values.len();
        let codes = (0..rows)
            .map(|_| place(&mut reader, bound))
            .collect::<Result<_>>()?;
        Ok(Coded { codes, dictionary })
    };
    to.names = coded()?;
    to.messages = coded()?;
    end(&reader)
}

/// Span ids and parent ids.
pub(crate) fn put_ids(out: &mut Vec<u8>, columns: &Columns) {
    columns
        .span_ids
        .iter()
        .chain(&columns.parent_ids)
        .for_each(|id| out.extend_from_slice(id));
}

/// Reads what [`put_ids`] wrote for `rows` spans.
pub(crate) fn read_ids(name: &str, bytes: &[u8], rows: usize, to: &mut Columns) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    to.span_ids = (0..rows).map(|_| reader.array()).collect::<Result<_>>()?;
    to.parent_ids = (0..rows).map(|_| reader.array()).collect::<Result<_>>()?;
    end(&reader)
}

/// One attribute: the rows that have it (distance to the one before), dictionary, codes.
pub(crate) fn put_sparse(out: &mut Vec<u8>, column: &Sparse) {
    put_varint(out, column.rows.len() as u64);
    let mut next = 0;
    for &row in &column.rows {
        put_varint(out, u64::from(row - next));
        next = row + 1;
    }
    put_dictionary(out, &column.dictionary);
    column
        .codes
        .iter()
        .for_each(|&code| put_varint(out, code.into()));
}

/// Reads what [`put_sparse`] wrote for a group of `rows` spans.
pub(crate) fn read_sparse(name: &str, bytes: &[u8], rows: usize) -> Result<Sparse> {
    let mut reader = Reader::new(name, bytes);
    let count = reader.count(2)?;
    let mut column = Sparse::default();
    let mut next = 0u32;
    for _ in 0..count {
        let row = next.saturating_add(number(&mut reader)?);
        if row as usize >= rows {
            return Err(reader.corrupt("an attribute belongs to a row that is not there"));
        }
        column.rows.push(row);
        next = row + 1;
    }
    column.dictionary = read_dictionary(&mut reader)?;
    let bound = column.dictionary.values.len();
    column.codes = (0..count)
        .map(|_| place(&mut reader, bound))
        .collect::<Result<_>>()?;
    end(&reader)?;
    Ok(column)
}

/// The spans as the log holds them, each after its length.
pub(crate) fn put_span(out: &mut Vec<u8>, encoded: &[u8]) {
    put_bytes(out, encoded);
}

/// The bytes of the spans of a group.
pub(crate) fn read_spans<'a>(name: &'a str, bytes: &'a [u8], rows: usize) -> Result<Vec<&'a [u8]>> {
    let mut reader = Reader::new(name, bytes);
    let spans = (0..rows).map(|_| reader.bytes()).collect::<Result<_>>()?;
    end(&reader)?;
    Ok(spans)
}

fn end(reader: &Reader<'_>) -> Result<()> {
    if reader.is_empty() {
        Ok(())
    } else {
        Err(reader.corrupt("bytes follow the last row of a page"))
    }
}

/// The key of an attribute page in the section of the groups.
pub(crate) fn put_key(out: &mut Vec<u8>, scope: Scope, key: &str) {
    put_scope(out, scope);
    put_bytes(out, key.as_bytes());
}

/// Reads what [`put_key`] wrote.
pub(crate) fn read_key(reader: &mut Reader<'_>) -> Result<(Scope, Arc<str>)> {
    Ok((read_scope(reader)?, reader.text()?.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two_rows() -> Columns {
        let mut columns = Columns::default();
        let mut span = crate::model::Span {
            start_ns: 10,
            end_ns: 13,
            ..Default::default()
        };
        span.name = "a".into();
        columns.push(0, 0, &span);
        span.start_ns = 12;
        columns.push(0, 0, &span);
        columns
    }

    /// The bytes written down in FORMAT.md, "Pages".
    #[test]
    fn golden_bytes() {
        let columns = two_rows();
        let mut out = Vec::new();
        put_times(&mut out, &columns);
        assert_eq!(out, [20, 4, 3, 1]);
        out.clear();
        put_codes(&mut out, &columns);
        assert_eq!(
            out,
            [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 1, 0, 0, 0, 0]
        );
        out.clear();
        let mut sparse = Sparse {
            rows: vec![1, 4],
            codes: vec![0, 1],
            ..Sparse::default()
        };
        sparse.dictionary =
            Dictionary::of(vec![Value::Int(-1), Value::Array(vec![Value::Bool(true)])]);
        put_sparse(&mut out, &sparse);
        assert_eq!(out, [2, 1, 2, 2, 1, 1, 5, 1, 4, 0, 1]);
        assert_eq!(read_sparse("test", &out, 5).unwrap().rows, [1, 4]);
        assert!(
            read_sparse("test", &out, 4).is_err(),
            "row 4 of 4 is not there"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, rows in 0usize..5) {
            let sizes = TableSizes { resources: 1, scopes: 1 };
            let mut columns = Columns::default();
            read_times("test", &bytes, rows, &mut columns).ok();
            read_codes("test", &bytes, rows, sizes, &mut columns).ok();
            read_ids("test", &bytes, rows, &mut columns).ok();
            read_sparse("test", &bytes, rows).ok();
            read_spans("test", &bytes, rows).ok();
        }
    }
}
