//! A column of a table in a block: how its values are stored ([`mod@write`] chooses) and how they are
//! read, searched and listed ([`ColumnReader`]). Tables call it; it knows nothing about rows.
//!
//! A value is named by its page and its *dense position*: its index among the values of the column
//! in that page. All methods that give many values append them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod choose;
mod reader;
mod sample;
mod split;
mod write;

use bytes::Bytes;
use trine_storage::codec::{Reader, put_signed, put_u32, put_varint};
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Result};

use super::numbers::{Bounds, Wanted, ordered, unordered};
use super::template::Needle;
use super::values::{Type, ValueRef};

pub(crate) use reader::ColumnReader;
pub(crate) use write::{write, write_rows};

const NUMBERS: u8 = 0;
const DICTIONARY: u8 = 1;
const TEMPLATES: u8 = 2;
const BLOBS: u8 = 3;
const ROWS: u8 = 4;

/// Up to so many bytes lie in the directory: a page of their own would cost a read and 16 more.
const INLINE_MAX: usize = 64;

/// Values of a page: numbers, of which a row has at most one, and others. Equal values take no bytes
/// that their number could be checked against.
const PAGE_NUMBERS_MAX: u32 = 1 << 20;
const PAGE_VALUES_MAX: u32 = 1 << 27;

/// Where bytes lie that belong to a column as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stored {
    Inline(Bytes),
    Page(PageRef),
}

impl Stored {
    fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Page(page) => page.len.into(),
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Self::Inline(_) => 0,
            Self::Page(page) => page.offset,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inline(bytes) => {
                put_varint(out, bytes.len() as u64 + 1);
                out.extend_from_slice(bytes);
            }
            Self::Page(page) => {
                put_varint(out, 0);
                page.put(out);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        match usize::try_from(reader.varint()?).unwrap_or(usize::MAX) {
            0 => Ok(Self::Page(PageRef::read(reader)?)),
            len => Ok(Self::Inline(Bytes::copy_from_slice(reader.take(len - 1)?))),
        }
    }

    fn load(&self, file: &SealedFile) -> Result<Bytes> {
        match self {
            Self::Inline(bytes) => Ok(bytes.clone()),
            Self::Page(page) => load(file, *page),
        }
    }
}

fn load(file: &SealedFile, page: PageRef) -> Result<Bytes> {
    let read = file.read(&[page])?.pop();
    read.ok_or_else(|| Error::corrupt(file.name(), page.offset, "a page cannot be read"))
}

/// How a column is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Encoding {
    /// Pages of numbers.
    Numbers,
    /// Pages of codes of a dictionary.
    Dictionary { entries: u32, stored: Stored },
    /// Pages of templates and numbers; `stored` are the templates.
    Templates {
        entries: u32,
        stored: Stored,
        filter: Stored,
    },
    /// Pages of blobs. The filter is empty when there is none.
    Blobs { filter: Stored },
    /// Pages of rows that have another column.
    Rows,
}

impl Encoding {
    fn stored_bytes(&self) -> u64 {
        match self {
            Self::Numbers | Self::Rows => 0,
            Self::Dictionary { stored, .. } => stored.len(),
            Self::Templates { stored, filter, .. } => stored.len() + filter.len(),
            Self::Blobs { filter } => filter.len(),
        }
    }
}

/// A page that has values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PageMeta {
    page: u32,
    count: u32,
    /// Of numbers (ordered) or of codes; nothing for blobs and rows.
    bounds: Bounds,
    place: PageRef,
}

/// What the directory says of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnMeta {
    encoding: Encoding,
    raw_bytes: u64,
    pages: Vec<PageMeta>,
}

impl ColumnMeta {
    /// Appends the entry of the directory.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let tag = match &self.encoding {
            Encoding::Numbers => NUMBERS,
            Encoding::Dictionary { .. } => DICTIONARY,
            Encoding::Templates { .. } => TEMPLATES,
            Encoding::Blobs { .. } => BLOBS,
            Encoding::Rows => ROWS,
        };
        out.push(tag);
        put_varint(out, self.raw_bytes);
        match &self.encoding {
            Encoding::Numbers | Encoding::Rows => {}
            Encoding::Dictionary { entries, stored } => {
                put_varint(out, (*entries).into());
                stored.put(out);
            }
            Encoding::Templates {
                entries,
                stored,
                filter,
            } => {
                put_varint(out, (*entries).into());
                stored.put(out);
                filter.put(out);
            }
            Encoding::Blobs { filter } => filter.put(out),
        }
        put_varint(out, self.pages.len() as u64);
        let mut offset = self.pages.first().map_or(0, |page| page.place.offset);
        put_varint(out, offset);
        let mut next = 0;
        for page in &self.pages {
            let gap = page.page - next;
            put_varint(out, u64::from(page.count) << 1 | u64::from(gap > 0));
            if gap > 0 {
                put_varint(out, gap.into());
            }
            let Bounds { least, greatest } = page.bounds;
            match tag {
                NUMBERS => put_signed(out, unordered(Type::Int, least).cast_signed()),
                BLOBS | ROWS => {}
                _ => put_varint(out, least),
            }
            if !matches!(tag, BLOBS | ROWS) {
                put_varint(out, greatest - least);
            }
            if matches!(tag, TEMPLATES | BLOBS | ROWS) {
                put_varint(out, page.place.len.into());
            }
            if page.place.len > 0 {
                put_u32(out, page.place.crc);
            }
            debug_assert_eq!(page.place.offset, offset, "pages lie side by side");
            offset += u64::from(page.place.len);
            next = page.page + 1;
        }
    }

    /// Reads the entry of a column of a table of so many pages.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when it makes no sense.
    pub(crate) fn read(reader: &mut Reader<'_>, pages: usize) -> Result<Self> {
        let tag = reader.u8()?;
        let raw_bytes = reader.varint()?;
        let small = |reader: &mut Reader<'_>| {
            let number = reader.varint()?;
            u32::try_from(number).map_err(|_| reader.corrupt("a number is too large"))
        };
        let encoding = match tag {
            NUMBERS => Encoding::Numbers,
            DICTIONARY => Encoding::Dictionary {
                entries: small(reader)?,
                stored: Stored::read(reader)?,
            },
            TEMPLATES => Encoding::Templates {
                entries: small(reader)?,
                stored: Stored::read(reader)?,
                filter: Stored::read(reader)?,
            },
            BLOBS => Encoding::Blobs {
                filter: Stored::read(reader)?,
            },
            ROWS => Encoding::Rows,
            _ => return Err(reader.corrupt("a column is stored in an unknown way")),
        };
        let codes = match &encoding {
            Encoding::Dictionary { entries, .. } | Encoding::Templates { entries, .. } => {
                Some(u64::from(*entries))
            }
            _ => None,
        };
        let count = reader.count(2)?;
        let mut offset = reader.varint()?;
        let mut next = 0u32;
        let mut values = 0u32;
        let mut metas = Vec::with_capacity(count);
        for _ in 0..count {
            let head = reader.varint()?;
            let gap = if head & 1 == 1 { small(reader)? } else { 0 };
            let count = u32::try_from(head >> 1).unwrap_or(u32::MAX);
            let page = next.saturating_add(gap);
            let possible = (1..=PAGE_VALUES_MAX).contains(&count);
            let Some(all) = values.checked_add(count).filter(|_| possible) else {
                return Err(reader.corrupt("a page has an impossible number of values"));
            };
            if page as usize >= pages {
                return Err(reader.corrupt("a column has more pages than its table"));
            }
            values = all;
            let bounds = match tag {
                BLOBS | ROWS => Bounds::default(),
                _ => {
                    let least = match tag {
                        NUMBERS => ordered(Type::Int, reader.signed()?.cast_unsigned()),
                        _ => reader.varint()?,
                    };
                    let greatest = least.checked_add(reader.varint()?);
                    let known = greatest.filter(|&code| codes.is_none_or(|of| code < of));
                    let Some(greatest) = known else {
                        return Err(reader.corrupt("the greatest value of a page is too large"));
                    };
                    Bounds { least, greatest }
                }
            };
            let len = match tag {
                TEMPLATES | BLOBS | ROWS => small(reader)?,
                _ => u32::try_from(bounds.page_bytes(count as usize))
                    .map_err(|_| reader.corrupt("a page is too long"))?,
            };
            let crc = if len > 0 { reader.u32()? } else { 0 };
            metas.push(PageMeta {
                page,
                count,
                bounds,
                place: PageRef { offset, len, crc },
            });
            offset = offset.saturating_add(len.into());
            next = page.saturating_add(1);
        }
        Ok(Self {
            encoding,
            raw_bytes,
            pages: metas,
        })
    }

    /// How many values each page has that has some.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u32, u32)> {
        self.pages.iter().map(|page| (page.page, page.count))
    }

    /// How many values the column has.
    pub(crate) fn values(&self) -> u64 {
        self.pages.iter().map(|page| u64::from(page.count)).sum()
    }

    /// How many distinct values there are, when there is a dictionary.
    pub(crate) fn distinct(&self) -> Option<u32> {
        match &self.encoding {
            Encoding::Dictionary { entries, .. } => Some(*entries),
            _ => None,
        }
    }

    /// Bytes in the file, without those in the directory.
    pub(crate) fn bytes(&self) -> u64 {
        let pages = self.pages.iter().map(|page| u64::from(page.place.len));
        pages.sum::<u64>() + self.encoding.stored_bytes()
    }

    /// Bytes of the values as they came.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    fn page(&self, page: u32) -> Option<&PageMeta> {
        let dense = self.pages.get(page as usize);
        if let Some(meta) = dense.filter(|meta| meta.page == page) {
            return Some(meta);
        }
        let place = self.pages.binary_search_by_key(&page, |meta| meta.page);
        place.ok().and_then(|place| self.pages.get(place))
    }
}

/// What values are looked for.
#[derive(Clone, Copy)]
pub(crate) enum Probe<'a> {
    /// Any of these, of the type of the column. Floats are compared as numbers: both zeros are
    /// equal, and nothing equals NaN.
    Equal(&'a [ValueRef<'a>]),
    /// Numbers from `least` to `greatest`, both included and both as
    /// [`ordered`] makes them.
    Range { least: u64, greatest: u64 },
    /// Those that pass.
    Where(&'a (dyn Fn(ValueRef<'_>) -> bool + Send + Sync)),
}

/// A probe made ready for one column.
pub(crate) enum Prepared<'a> {
    /// No value of the column matches.
    Nothing,
    /// All values match.
    Everything,
    /// These codes, or these numbers as they are ordered.
    Wanted(Wanted),
    /// Any of these texts.
    Texts(Vec<Vec<u8>>),
    /// Any of these texts, split.
    Needles(Vec<Needle>),
    /// Each value is asked.
    Where(&'a (dyn Fn(ValueRef<'_>) -> bool + Send + Sync)),
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests use small numbers")]
mod tests;
