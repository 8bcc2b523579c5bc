//! Tables: rows in pages, columns that every row has, and attributes. Spans, events, links, resources,
//! instrumentation scopes and traces are tables. `build` writes them, `image` opens them, reads and
//! merges read them.
//!
//! Which attributes a row has is its *shape*, a number of the table's list of shapes; values of a
//! column are only of rows that have it. Shapes that are too many are spelled out row by row, and
//! columns that are too many and rare tell their rows themselves. Where rows hardly ever have the
//! same shape, all columns tell their rows, page by page. Columns of very few values share one of
//! their type. In unit tests the limits are low, so that blocks of few rows have all these forms. See `FORMAT.md`, "Table".

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod order;
mod page_shapes;
mod pool;
mod prefetch;
mod read;
mod write;

use std::ops::Range;
use std::sync::Arc;

use trine_storage::Result;
use trine_storage::codec::{Reader, put_bytes, put_varint};

pub(crate) use page_shapes::PageShapes;
pub(crate) use pool::PoolPages;
pub(crate) use read::{Column, Located, Neighbours, TableReader};
pub(crate) use write::{AttributeSource, Plan, TableWriter};

use super::values::Type;

/// Rows of a page.
pub(crate) const PAGE_ROWS: usize = 8192;
/// Attribute columns that shapes name; the rarest of more are named by their own rows.
pub(crate) const COLUMNS_MAX: usize = 512;
/// So many columns are named by shapes however rare they are; of more only those of which ...
const COLUMNS_ALWAYS: usize = if cfg!(test) { 3 } else { 64 };
/// ... at least one row in so many has a value: others make many shapes of few rows.
const ROWS_PER_VALUE_MAX: u64 = if cfg!(test) { 8 } else { 1024 };
/// A rare column of at most so many values shares one with others. Not more than a page, so that
/// it is read as one.
const POOLED_MAX: usize = if cfg!(test) { 16 } else { PAGE_ROWS };
/// Shapes in the list of a table; the rarest of more are spelled out.
pub(crate) const SHAPES_MAX: usize = 16_384;
/// So many shapes are listed whatever rows have them. Of more a shape is worth a place in the list ...
const SHAPES_ALWAYS: usize = if cfg!(test) { 6 } else { 1024 };
/// ... when so many rows have it ...
const ROWS_PER_SHAPE: u64 = if cfg!(test) { 2 } else { 8 };
/// ... and when at most one row in so many has another shape there is a list; else columns tell
/// their rows page by page.
const OTHERS_MAX: u64 = 16;

/// The codes of shapes, a number of every row; 0 for rows whose shape is spelled out.
const SHAPES: Key = Key::Number(255);
/// Numbers of columns that are not in shapes, in the order of rows and attributes.
const RARE: Key = Key::Number(254);
/// Where columns tell their rows by page, the order of the attributes of every row.
const ORDERS: Key = Key::Number(253);
/// Shapes of rows that are in no list, or whose order has no number.
const SPELLED: Key = Key::Bytes(255);

/// Stands in a shape for an attribute whose column is told by [`RARE`].
const SOME_RARE: u32 = u32::MAX;

/// What a column is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// A number that the table knows, by its place among those.
    Number(u8),
    /// A text that the table knows.
    Text(u8),
    /// Bytes that the table knows.
    Bytes(u8),
    /// Values of attributes of a type that few rows have, attribute by attribute.
    Pool(Type),
    /// An attribute.
    Attribute(Arc<str>, Type),
}

impl Key {
    fn kind(&self) -> Type {
        match self {
            Self::Number(_) => Type::Int,
            Self::Text(_) => Type::Str,
            Self::Bytes(_) => Type::Other,
            Self::Pool(kind) | Self::Attribute(_, kind) => *kind,
        }
    }
}

/// Which rows a column has values of.
#[derive(Debug)]
enum Presence<R> {
    /// One of each row.
    Every,
    /// As many of a row as its shape says, of the column of this number.
    Shapes(u32),
    /// One of each of these rows.
    Rows(R),
    /// One of each of these rows of each page; the column has this number.
    Pages(u32, R),
}

/// Columns that tell their rows may have more pages than their table.
const ANY_PAGES: usize = usize::MAX;

const EVERY: u8 = 0;
const BY_SHAPES: u8 = 1;
const BY_ROWS: u8 = 2;
const BY_PAGES: u8 = 3;
/// As many rows as the next number says, of those of the pool of its type.
const IN_POOL: u8 = 4;

const NUMBER: u8 = 0;
const TEXT: u8 = 1;
const BYTES: u8 = 2;
const ATTRIBUTE: u8 = 3;
const POOL: u8 = 4;

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Appends a column of a shape.
fn put_told(out: &mut Vec<u8>, column: u32) {
    let is_rare = column == SOME_RARE;
    put_varint(out, if is_rare { 0 } else { u64::from(column) + 1 });
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    match key {
        Key::Number(number) => out.extend([NUMBER, *number]),
        Key::Text(number) => out.extend([TEXT, *number]),
        Key::Bytes(number) => out.extend([BYTES, *number]),
        Key::Pool(kind) => out.extend([POOL, *kind as u8]),
        Key::Attribute(name, kind) => {
            out.extend([ATTRIBUTE, *kind as u8]);
            put_bytes(out, name.as_bytes());
        }
    }
}

fn read_key(reader: &mut Reader<'_>) -> Result<Key> {
    Ok(match (reader.u8()?, reader.u8()?) {
        (NUMBER, number) => Key::Number(number),
        (TEXT, number) => Key::Text(number),
        (BYTES, number) => Key::Bytes(number),
        (POOL, kind) => Key::Pool(read_type(reader, kind)?),
        (ATTRIBUTE, kind) => {
            let kind = read_type(reader, kind)?;
            Key::Attribute(reader.text()?.into(), kind)
        }
        _ => return Err(reader.corrupt("the kind of a column is unknown")),
    })
}

fn read_type(reader: &Reader<'_>, told: u8) -> Result<Type> {
    let kind = pool::TYPES.into_iter().find(|known| *known as u8 == told);
    kind.ok_or_else(|| reader.corrupt("the type of a column is unknown"))
}

/// The pages and positions of `count` values from `first` on, of pages of [`PAGE_ROWS`].
pub(crate) fn by_page(first: usize, count: usize) -> impl Iterator<Item = (usize, Range<u32>)> {
    let end = first.saturating_add(count);
    let pages = first / PAGE_ROWS..end.div_ceil(PAGE_ROWS);
    pages.filter(move |_| count > 0).map(move |page| {
        let start = page * PAGE_ROWS;
        let from = first.max(start) - start;
        let to = end.min(start + PAGE_ROWS) - start;
        (page, small(from)..small(to))
    })
}
