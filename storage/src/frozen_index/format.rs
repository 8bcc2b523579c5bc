//! Where the tables of a frozen index lie (`FORMAT.md`, "Frozen index"): called by writer and
//! reader.
//!
//! ```text
//! +-----------+------+---------+-------+--------+------------+----------------+------------+
//! | u32       | u32  | u32     | u32   | u32    | u32        | u32            | u32        |
//! | version 1 | sets | symbols | names | values | text bytes | postings bytes | sets bytes |
//! +-----------+------+---------+-------+--------+------------+----------------+------------+
//! symbol ends   u32 each             names           3 x u32 each: symbol, first value, postings
//! text          text bytes           value symbols   u32 each
//! postings      postings bytes       value postings  u32 each
//! label sets    sets bytes           group offsets   u32 for every 16 sets
//! ```

use std::ops::Range;

use crate::codec::Reader;
use crate::error::{Error, Kind, Result};

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 32;
/// Numbers in a row of the table of names.
pub(super) const NAME_NUMBERS: u32 = 3;
/// Label sets that are decoded from one offset. More would be smaller and slower to find a set in.
pub(super) const GROUP_SETS: u32 = 16;
/// Most label sets of an index: the highest bit of a reference to postings says that the rest is an
/// id, and all bits set say that it is every id.
pub(super) const SETS_MAX: u32 = (1 << 31) - 1;

/// A table of `u32` numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// Offset of the first.
    pub(super) start: usize,
    pub(super) len: u32,
}

impl Table {
    pub(super) fn get(&self, bytes: &[u8], at: u32) -> Option<u32> {
        if at >= self.len {
            return None;
        }
        let start = self.start.checked_add(4 * at as usize)?;
        let number = bytes.get(start..start.checked_add(4)?)?;
        number.try_into().ok().map(u32::from_le_bytes)
    }
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) sets: u32,
    pub(super) names: u32,
    pub(super) values: u32,
    pub(super) symbol_ends: Table,
    pub(super) text: Range<usize>,
    pub(super) name_table: Table,
    pub(super) value_symbols: Table,
    pub(super) value_postings: Table,
    pub(super) postings: Range<usize>,
    pub(super) group_offsets: Table,
    pub(super) label_sets: Range<usize>,
}

impl Layout {
    /// Reads the header and checks that the tables fill the bytes.
    pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(name, bytes);
        let version = reader.u32()?;
        if version > VERSION {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{name} has version {version} and this program reads up to {VERSION}; use the \
                     newer program"
                ),
            ));
        }
        if version == 0 {
            return Err(Error::corrupt(name, 0, "its version is 0"));
        }
        let mut header = || reader.u32();
        let (sets, symbols, names, values) = (header()?, header()?, header()?, header()?);
        let (text_bytes, postings_bytes, sets_bytes) = (header()?, header()?, header()?);
        if sets > SETS_MAX || names > u32::MAX / NAME_NUMBERS {
            return Err(reader.corrupt("it has more label sets or names than an index can have"));
        }

        let mut end = HEADER_BYTES;
        let mut part = |len: u32, width: usize| {
            let start = end;
            end = end.saturating_add((len as usize).saturating_mul(width));
            start..end
        };
        let table = |len, part: Range<usize>| Table {
            start: part.start,
            len,
        };
        let groups = sets.div_ceil(GROUP_SETS);
        let layout = Self {
            sets,
            names,
            values,
            symbol_ends: table(symbols, part(symbols, 4)),
            text: part(text_bytes, 1),
            name_table: table(NAME_NUMBERS * names, part(NAME_NUMBERS * names, 4)),
            value_symbols: table(values, part(values, 4)),
            value_postings: table(values, part(values, 4)),
            postings: part(postings_bytes, 1),
            group_offsets: table(groups, part(groups, 4)),
            label_sets: part(sets_bytes, 1),
        };
        if end != bytes.len() {
            return Err(reader.corrupt("its tables are not as long as its bytes"));
        }
        Ok(layout)
    }
}
