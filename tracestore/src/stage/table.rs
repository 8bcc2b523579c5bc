//! A table in order of arrival: fixed columns, a column for each key and type of attributes, and
//! the shape of every row. `stage` has one each for spans, events, links, resources and scopes.

use trine_storage::codec::{put_bytes, put_signed, put_u64, put_varint};

use super::intern::{Index, Interned};
use super::paths::{Paths, Row, Step};
use crate::block::shapes::RowShapes;
use crate::block::values::{Texts, Type, Values};
use crate::model::codec;
use crate::otlp::{AnyRef, KeyValueRef, Read, items};

/// A column of text has a dictionary once it has more values: of thousands of columns most have a few.
const PLAIN_MAX: usize = 8;

/// Rows in order of arrival.
#[derive(Debug)]
pub(crate) struct TableStage {
    pub(crate) rows: u32,
    /// The fixed columns of numbers.
    pub(crate) numbers: Vec<Vec<u64>>,
    /// The fixed columns of text.
    pub(crate) texts: Vec<Interned>,
    /// The columns of attributes.
    pub(crate) columns: Vec<AttributeStage>,
    /// For each row the columns that it has. A column of type [`Type::Other`] may be in a shape more
    /// than once.
    pub(crate) shapes: RowShapes,
    paths: Paths,
    /// Bytes of the values, about.
    bytes: u64,
    /// The bytes of one value.
    encoded: Vec<u8>,
}

/// A column of attributes.
#[derive(Debug)]
pub(crate) struct AttributeStage {
    pub(crate) key: Box<str>,
    pub(crate) kind: Type,
    /// The values of the rows that have it, in order of rows; those of arrays and others are the
    /// bytes of `model::codec`.
    pub(crate) values: Values,
    index: Index,
}

impl TableStage {
    /// A table with so many fixed columns of numbers and of text.
    pub(super) fn new(numbers: usize, texts: usize) -> Self {
        Self {
            rows: 0,
            numbers: vec![Vec::new(); numbers],
            texts: (0..texts).map(|_| Interned::default()).collect(),
            columns: Vec::new(),
            shapes: RowShapes::default(),
            paths: Paths::default(),
            bytes: 0,
            encoded: Vec::new(),
        }
    }

    /// Adds an attribute to `row`, the one that is being added. Attributes were checked.
    #[inline]
    pub(super) fn attribute(&mut self, row: &mut Row, pair: &[u8]) -> Read<()> {
        let KeyValueRef { key, value } = KeyValueRef::read(pair)?;
        let Step { column, opened } = self.paths.step(row, key, type_of(value)?);
        if let Some(kind) = opened {
            self.columns.push(AttributeStage::new(key, kind));
        }
        let column = &mut self.columns[column as usize];
        self.bytes += column.push(value, &mut self.encoded)?;
        Ok(())
    }

    /// Ends the row with the values of its fixed columns.
    #[inline]
    pub(super) fn end(&mut self, row: Row, numbers: &[u64], texts: &[&[u8]]) {
        let shape = self.paths.end(row, &mut self.shapes.lists);
        self.shapes.codes.push(shape);
        for (column, &number) in self.numbers.iter_mut().zip(numbers) {
            column.push(number);
        }
        for (column, text) in self.texts.iter_mut().zip(texts) {
            self.bytes += column.push(text);
        }
        self.rows += 1;
    }

    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let fixed = size_of::<u64>() * self.numbers.len() + size_of::<u32>();
        let shapes = self.shapes.lists.bytes();
        let columns = self.columns.len() * size_of::<AttributeStage>();
        let rows = u64::from(self.rows) * fixed as u64;
        self.bytes + rows + (shapes + columns) as u64 + self.paths.bytes()
    }
}

impl AttributeStage {
    fn new(key: &[u8], kind: Type) -> Self {
        let values = match kind {
            Type::Int | Type::Float | Type::Bool => Values::Numbers(Vec::new()),
            Type::Str | Type::Array | Type::Other => Values::Plain(Texts::default()),
        };
        Self {
            key: String::from_utf8_lossy(key).into(),
            kind,
            values,
            index: Index::default(),
        }
    }

    /// Appends a value. Gives how many bytes it takes, about.
    #[inline]
    fn push(&mut self, value: AnyRef<'_>, encoded: &mut Vec<u8>) -> Read<u64> {
        let number = match (self.kind, value) {
            (Type::Str, AnyRef::String(text)) => {
                if let Values::Plain(texts) = &self.values
                    && texts.len() == PLAIN_MAX
                {
                    self.values = self.index.coded(texts);
                }
                return Ok(self.index.push(&mut self.values, text));
            }
            (Type::Int, AnyRef::Int(number)) => number.cast_unsigned(),
            (Type::Float, AnyRef::Double(bits)) => bits,
            (Type::Bool, AnyRef::Bool(truth)) => truth,
            _ => {
                encoded.clear();
                put_value(encoded, value)?;
                if let Values::Plain(texts) = &mut self.values {
                    texts.push(encoded);
                }
                return Ok((encoded.len() + size_of::<usize>()) as u64);
            }
        };
        if let Values::Numbers(numbers) = &mut self.values {
            numbers.push(number);
        }
        Ok(size_of::<u64>() as u64)
    }
}

/// The type of the column that a value goes to.
#[inline]
fn type_of(value: AnyRef<'_>) -> Read<Type> {
    Ok(match value {
        AnyRef::String(_) => Type::Str,
        AnyRef::Int(_) => Type::Int,
        AnyRef::Double(_) => Type::Float,
        AnyRef::Bool(_) => Type::Bool,
        AnyRef::Array(list) => type_of_array(list)?,
        AnyRef::Empty | AnyRef::KeyValues(_) | AnyRef::Bytes(_) => Type::Other,
    })
}

/// Queries see arrays of scalars of one kind.
fn type_of_array(list: &[u8]) -> Read<Type> {
    let (mut first, mut uniform) = (None, true);
    items(list, |item| {
        let kind = match AnyRef::read(item)? {
            AnyRef::String(_) => Type::Str,
            AnyRef::Int(_) => Type::Int,
            AnyRef::Double(_) => Type::Float,
            AnyRef::Bool(_) => Type::Bool,
            _ => Type::Other,
        };
        uniform &= kind != Type::Other && *first.get_or_insert(kind) == kind;
        Ok(())
    })?;
    Ok(match uniform && first.is_some() {
        true => Type::Array,
        false => Type::Other,
    })
}

/// Appends the bytes of a value as `model::codec` has them. Values were checked, so that they are
/// not nested too deep.
fn put_value(out: &mut Vec<u8>, value: AnyRef<'_>) -> Read<()> {
    match value {
        AnyRef::Empty => out.push(codec::EMPTY),
        AnyRef::String(text) => {
            out.push(codec::STRING);
            put_bytes(out, text);
        }
        AnyRef::Bool(0) => out.push(codec::FALSE),
        AnyRef::Bool(_) => out.push(codec::TRUE),
        AnyRef::Int(number) => {
            out.push(codec::INT);
            put_signed(out, number);
        }
        AnyRef::Double(bits) => {
            out.push(codec::DOUBLE);
            put_u64(out, bits);
        }
        AnyRef::Bytes(bytes) => {
            out.push(codec::BYTES);
            put_bytes(out, bytes);
        }
        AnyRef::Array(list) => {
            out.push(codec::ARRAY);
            put_count(out, list)?;
            items(list, |item| put_value(out, AnyRef::read(item)?))?;
        }
        AnyRef::KeyValues(list) => {
            out.push(codec::KEY_VALUES);
            put_count(out, list)?;
            items(list, |item| {
                let pair = KeyValueRef::read(item)?;
                put_bytes(out, pair.key);
                put_value(out, pair.value)
            })?;
        }
    }
    Ok(())
}

fn put_count(out: &mut Vec<u8>, list: &[u8]) -> Read<()> {
    let mut count = 0;
    items(list, |_| {
        count += 1;
        Ok(())
    })?;
    put_varint(out, count);
    Ok(())
}
