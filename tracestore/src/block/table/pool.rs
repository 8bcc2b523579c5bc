//! Attributes that few rows have share a column with the others of their type, one after the other:
//! a directory of ten thousand columns would cost more than their values. Tables read them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use trine_storage::fs::MemoryFile;
use trine_storage::sealed::{SealedFile, SealedWriter};
use trine_storage::{Error, Result};

use super::read::{Column, Neighbours, TableReader};
use super::write::TableWriter;
use super::{Key, PAGE_ROWS, POOLED_MAX, Presence, by_page, small};
use crate::block::column::ColumnReader;
use crate::block::format;
use crate::block::values::{Texts, Type, Values};

/// The types of attributes, each of which has a pool.
pub(super) const TYPES: [Type; 6] = [
    Type::Str,
    Type::Int,
    Type::Float,
    Type::Bool,
    Type::Array,
    Type::Other,
];

/// The attributes of a table that share a column, by name and type.
#[derive(Debug, Default)]
pub(crate) struct Pooled {
    names: Texts,
    attributes: Vec<PooledAttribute>,
    /// How many values there are of each type.
    values: [u32; TYPES.len()],
}

/// An attribute that shares a column.
#[derive(Debug)]
pub(crate) struct PooledAttribute {
    pub(super) kind: Type,
    /// Its first value among those of the pool.
    pub(super) first: u32,
    pub(super) count: u32,
    /// As a column of its own, once somebody asked for it.
    column: OnceLock<Box<Column>>,
}

impl Pooled {
    /// The place of the attribute that is appended next.
    pub(super) fn next(&self) -> Option<u32> {
        u32::try_from(self.attributes.len()).ok()
    }

    /// Appends an attribute; none when its values are none, or more than one that is pooled has.
    pub(super) fn push(&mut self, name: &str, kind: Type, count: u64) -> Option<()> {
        let count = u32::try_from(count).ok();
        let count = count.filter(|count| (1..=small(POOLED_MAX)).contains(count))?;
        let values = self.values.get_mut(kind as usize)?;
        let first = *values;
        *values = first.checked_add(count)?;
        self.names.push(name.as_bytes());
        self.attributes.push(PooledAttribute {
            kind,
            first,
            count,
            column: OnceLock::new(),
        });
        Some(())
    }

    /// The name of an attribute and where its values are.
    pub(super) fn get(&self, at: u32) -> Option<(&str, &PooledAttribute)> {
        let held = self.attributes.get(at as usize)?;
        let name = std::str::from_utf8(self.names.get(at as usize));
        Some((name.unwrap_or_default(), held))
    }

    /// The place of an attribute.
    pub(super) fn find(&self, name: &str, kind: Type) -> Option<u32> {
        let wanted = (name.as_bytes(), kind);
        let (mut from, mut to) = (0, self.attributes.len());
        while from < to {
            let middle = from + (to - from) / 2;
            let held = (self.names.get(middle), self.attributes.get(middle)?.kind);
            match held.cmp(&wanted) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return u32::try_from(middle).ok(),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        None
    }
}

/// A pool of a table: the rows of its values, attribute by attribute, and the values.
#[derive(Clone, Copy)]
struct Pool<'a> {
    rows: &'a ColumnReader,
    values: &'a ColumnReader,
}

impl TableReader {
    /// Whether pools have the values that attributes say.
    pub(super) fn check_pools(&self) -> Result<()> {
        for (kind, told) in TYPES.iter().zip(self.pooled.values) {
            let held = self.told(&Key::Pool(*kind));
            let held = held.map_or(0, |pool| pool.values.meta().values());
            if held != u64::from(told) {
                return Err(self.corrupt("a shared column has other values than its attributes"));
            }
        }
        Ok(())
    }

    fn pool(&self, kind: Type) -> Result<Pool<'_>> {
        match self.told(&Key::Pool(kind)) {
            Some(Column {
                values,
                presence: Presence::Rows(rows),
                ..
            }) => Ok(Pool { rows, values }),
            _ => Err(self.corrupt("a shared column is missing")),
        }
    }

    fn pooled(&self, at: u32) -> Result<(&str, &PooledAttribute)> {
        let held = self.pooled.get(at);
        held.ok_or_else(|| self.corrupt("an attribute is not there"))
    }

    /// An attribute that shares a column, as a column of its own: packed anew, so that whatever asks
    /// for it sees no other values.
    pub(super) fn unpooled(&self, at: u32) -> Result<&Column> {
        let (name, held) = self.pooled(at)?;
        if let Some(column) = held.column.get() {
            return Ok(column);
        }
        let rows = self.pooled_rows(at)?;
        let values = self.pooled_values(at)?;
        let file = MemoryFile::default();
        let mut sink = SealedWriter::new(file.writer(), Path::new(self.name()), format::KIND)?;
        let mut writer = TableWriter::new(&mut sink, self.rows);
        let key = Key::Attribute(name.into(), held.kind);
        writer.of_rows(key.clone(), rows, &values)?;
        let metas = writer.last_of_rows();
        sink.finish()?;
        let file = SealedFile::open(file.finish(), self.name(), format::KIND)?;
        let (rows, values) = metas.ok_or_else(|| self.corrupt("an attribute has no values"))?;
        let column = Box::new(Column {
            key,
            values: ColumnReader::new(&file, held.kind, Arc::new(values)),
            presence: Presence::Rows(ColumnReader::new(&file, Type::Int, Arc::new(rows))),
        });
        Ok(held.column.get_or_init(|| column))
    }

    /// The rows of an attribute that shares a column.
    pub(super) fn pooled_rows(&self, at: u32) -> Result<Vec<u64>> {
        let (_, held) = self.pooled(at)?;
        let pool = self.pool(held.kind)?;
        let mut rows = Vec::with_capacity(held.count as usize);
        for (page, positions) in by_page(held.first as usize, held.count as usize) {
            pool.rows.numbers_in(small(page), positions, &mut rows)?;
        }
        let are_there = rows.last().is_some_and(|last| *last < self.rows as u64);
        if !are_there || !rows.is_sorted() {
            return Err(self.corrupt("rows of an attribute do not ascend, or are not there"));
        }
        Ok(rows)
    }

    /// The values of an attribute that shares a column.
    pub(super) fn pooled_values(&self, at: u32) -> Result<Values> {
        let (_, held) = self.pooled(at)?;
        let pool = self.pool(held.kind)?;
        let (mut numbers, mut texts) = (Vec::new(), Texts::default());
        for (page, positions) in by_page(held.first as usize, held.count as usize) {
            if held.kind.is_number() {
                pool.values
                    .numbers_in(small(page), positions, &mut numbers)?;
            } else {
                let positions: Vec<u32> = positions.collect();
                pool.values
                    .texts(small(page), Some(&positions), &mut texts)?;
            }
        }
        let values = match held.kind.is_number() {
            true => Values::Numbers(numbers),
            false => Values::Plain(texts),
        };
        match values.len() == held.count as usize {
            true => Ok(values),
            false => Err(self.corrupt("a shared column has too few values")),
        }
    }

    /// The column that has the values of an attribute which shares one, and the pages that they are in.
    pub(super) fn pooled_pages(&self, key: &Key) -> Option<(&Column, Range<usize>)> {
        let Key::Attribute(name, kind) = key else {
            return None;
        };
        let (_, held) = self.pooled.get(self.pooled.find(name, *kind)?)?;
        let (first, count) = (held.first as usize, held.count as usize);
        let pages = first / PAGE_ROWS..(first + count).div_ceil(PAGE_ROWS);
        Some((self.told(&Key::Pool(held.kind))?, pages))
    }

    /// The values of a page of a pool.
    pub(crate) fn pool_page(&self, kind: Type, page: usize) -> Result<Values> {
        let pool = self.pool(kind)?;
        if kind.is_number() {
            let mut numbers = Vec::new();
            pool.values.numbers(small(page), &mut numbers)?;
            return Ok(Values::Numbers(numbers));
        }
        let mut texts = Texts::default();
        pool.values.texts(small(page), None, &mut texts)?;
        Ok(Values::Plain(texts))
    }

    /// The type of an attribute by its number and where its values begin in the pool, if it shares
    /// one.
    pub(crate) fn in_pool(&self, number: usize) -> Option<(Type, usize)> {
        let (_, held) = self.pooled.get(self.pooled_at(number)?)?;
        Some((held.kind, held.first as usize))
    }

    /// Where the values of a row and of later ones are in the pool.
    pub(super) fn pooled_neighbours(
        &self,
        at: u32,
        row: usize,
        count: usize,
    ) -> Result<Neighbours<'_>> {
        let (name, held) = self.pooled(at)?;
        let pool = self.pool(held.kind)?;
        let (mut from, mut to) = (held.first, held.first.saturating_add(held.count));
        while from < to {
            let middle = from + (to - from) / 2;
            let (page, position) = (middle as usize / PAGE_ROWS, middle as usize % PAGE_ROWS);
            match pool.rows.number_at(small(page), small(position))? < row as u64 {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        let end = held.first.saturating_add(held.count);
        if count > (end - from) as usize {
            return Err(self.corrupt("a row has an attribute that has no value"));
        }
        Ok(Neighbours {
            name: name.into(),
            values: pool.values,
            places: by_page(from as usize, count).collect(),
        })
    }

    /// Reads all attributes that share columns.
    pub(crate) fn check_pooled(&self) -> Result<()> {
        for at in 0..small(self.pooled.attributes.len()) {
            self.pooled_rows(at)?;
            self.pooled_values(at)?;
        }
        Ok(())
    }
}

/// The values of a pool, read page by page: whoever merges tables asks for them in order.
#[derive(Debug, Default)]
pub(crate) struct PoolPages {
    last: [Option<(usize, Values)>; TYPES.len()],
}

impl PoolPages {
    /// The page that has the value at a place, and its position there.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn at(
        &mut self,
        kind: Type,
        place: usize,
        read: impl FnOnce(usize) -> Result<Values>,
    ) -> Result<(&Values, usize)> {
        let page = place / PAGE_ROWS;
        let Some(last) = self.last.get_mut(kind as usize) else {
            return Err(Error::invalid("a type that no attribute has"));
        };
        if last.as_ref().is_none_or(|(held, _)| *held != page) {
            *last = Some((page, read(page)?));
        }
        let (_, values) = last.get_or_insert_with(|| (page, Values::Plain(Texts::default())));
        Ok((values, place % PAGE_ROWS))
    }
}
