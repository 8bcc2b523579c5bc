//! The lines of a chunk, split into text and variables (`FORMAT.md`, "Lines"): called by the
//! block's writer and reader.
//!
//! Numbers and ids leave the text and lie in typed columns, one for each class and length; a byte
//! that no line has stands in for each. What remains, the *skeleton*, repeats from line to line, so
//! that it is smaller and faster to unpack than the lines were, and most needles can be searched in
//! it. Parts of ids are searched in the columns. (After CLP: Rodrigues et al., OSDI 2021.)

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::OnceLock;

use bytes::Bytes;
use memchr::{memchr_iter, memchr2};
use trine_storage::codec::Reader;
use trine_storage::{Error, Result};

use super::{column, digits};
use crate::index::token::{ID_HEX_MIN, is_token_byte};

mod expand;
mod ids;
mod numbers;
mod skeletons;
mod split;

pub(crate) use ids::Part;
pub use skeletons::Skeletons;
use split::KINDS_MAX;
pub(crate) use split::LineBuilder;

/// The most digits of a number: all of that length fit 64 bits.
const DIGITS_MAX: usize = 19;
/// More than the lines of any chunk; a claim above it is damage.
const LINES_BYTES_MAX: usize = 64 << 20;

/// The lines follow each other.
const WHOLE: u8 = 0;
/// The lines are split.
const SPLIT: u8 = 1;

/// What kind of variable: its class and how many bytes it takes in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    class: VariableClass,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum VariableClass {
    /// A decimal number, with leading zeros if need be.
    Number,
    /// Hexadecimal digits, small letters; two a byte.
    HexLower,
    /// Hexadecimal digits, capital letters; two a byte.
    HexUpper,
    /// An id as it is.
    Text,
    /// The timestamp of the entry in units of 10^(19-len) ns; nothing is stored.
    Time,
}

impl VariableClass {
    const ALL: [Self; 5] = [
        Self::Number,
        Self::HexLower,
        Self::HexUpper,
        Self::Text,
        Self::Time,
    ];

    fn number(self) -> u8 {
        match self {
            Self::Number => 0,
            Self::HexLower => 1,
            Self::HexUpper => 2,
            Self::Text => 3,
            Self::Time => 4,
        }
    }
}

/// The lines of a chunk, as far as they are unpacked.
#[derive(Debug)]
pub(crate) struct PackedLines {
    name: String,
    text: Vec<u8>,
    layout: Layout,
    lengths: Lengths,
}

/// How long the lines of a chunk are, which is decoded when it is asked for.
#[derive(Debug)]
pub(crate) struct Lengths {
    page: Bytes,
    rows: usize,
    line_bytes: u64,
    ends: OnceLock<Vec<u32>>,
}

impl Lengths {
    /// Of `rows` lines of so many bytes together, from the lengths page.
    pub(crate) fn new(page: Bytes, rows: usize, line_bytes: u64) -> Self {
        Self {
            page,
            rows,
            line_bytes,
            ends: OnceLock::new(),
        }
    }

    /// Where each line ends when they follow each other.
    pub(crate) fn ends(&self, name: &str) -> Result<&[u32]> {
        if let Some(ends) = self.ends.get() {
            return Ok(ends);
        }
        let ends = read_ends(name, &self.page, self.rows)?;
        if ends.last().map_or(0, |&end| u64::from(end)) != self.line_bytes {
            let text = "lengths of lines do not add up to their header's";
            return Err(Error::corrupt(name, 0, text));
        }
        Ok(self.ends.get_or_init(|| ends))
    }

    pub(crate) fn into_ends(self, name: &str) -> Result<Vec<u32>> {
        self.ends(name)?;
        Ok(self.ends.into_inner().unwrap_or_default())
    }
}

#[derive(Debug)]
enum Layout {
    Whole,
    Split {
        terminator: u8,
        placeholder: u8,
        variables: VariableColumns,
    },
}

/// The variables of a chunk, not decoded yet.
#[derive(Debug)]
pub(crate) struct VariableColumns {
    /// False when the lines are not split, and then ids may lie anywhere.
    is_split: bool,
    columns: Vec<StoredColumn>,
    order: Bytes,
    /// How many variables there are.
    count: usize,
}

#[derive(Debug)]
struct StoredColumn {
    kind: Kind,
    count: usize,
    bytes: Bytes,
}

/// Where a needle can be in the lines of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has a byte that no line has.
    Nowhere,
    /// It touches no variable: searching the skeleton will do.
    Skeleton,
    /// The lines themselves must be searched.
    Lines,
}

/// What every variables page begins with.
struct Head {
    layout: u8,
    terminator: u8,
    placeholder: u8,
}

fn read_head(reader: &mut Reader<'_>) -> Result<Head> {
    let layout = reader.u8()?;
    let mut head = Head {
        layout,
        terminator: 0,
        placeholder: 0,
    };
    match layout {
        WHOLE => {}
        SPLIT => {
            head.terminator = reader.u8()?;
            head.placeholder = reader.u8()?;
            if head.terminator == head.placeholder {
                return Err(reader.corrupt("a byte has two meanings"));
            }
        }
        _ => return Err(reader.corrupt("lines are laid out in an unknown way")),
    }
    Ok(head)
}

/// Reads the lengths page of a chunk of `rows` entries: where each line ends.
pub(crate) fn read_ends(name: &str, page: &[u8], rows: usize) -> Result<Vec<u32>> {
    let mut end = 0u64;
    let mut ends = Vec::with_capacity(rows);
    for length in column::numbers(name, page, rows)? {
        end = end.saturating_add(length);
        let fits = u32::try_from(end)
            .ok()
            .filter(|_| end <= LINES_BYTES_MAX as u64);
        ends.push(
            fits.ok_or_else(|| Error::corrupt(name, 0, "lines are larger than any chunk's"))?,
        );
    }
    Ok(ends)
}

impl VariableColumns {
    /// Reads the variables page of a chunk; columns are decoded when they are asked for.
    pub(crate) fn read(name: &str, page: &Bytes) -> Result<Self> {
        let mut reader = Reader::new(name, page);
        let head = read_head(&mut reader)?;
        Self::read_columns(&mut reader, page, head.layout == SPLIT)
    }

    fn read_columns(reader: &mut Reader<'_>, page: &Bytes, is_split: bool) -> Result<Self> {
        let mut columns = Self {
            is_split,
            columns: Vec::new(),
            order: Bytes::new(),
            count: 0,
        };
        if !is_split {
            return Ok(columns);
        }
        for _ in 0..reader.count(4)? {
            let class = reader.u8()?;
            let class = VariableClass::ALL
                .into_iter()
                .find(|known| known.number() == class)
                .ok_or_else(|| reader.corrupt("a variable has an unknown class"))?;
            let len = usize::try_from(reader.varint()?).ok();
            let most = match class {
                VariableClass::Number | VariableClass::Time => DIGITS_MAX,
                _ => LINES_BYTES_MAX,
            };
            let len = len
                .filter(|len| (1..=most).contains(len))
                .ok_or_else(|| reader.corrupt("a variable has an impossible length"))?;
            let count = usize::try_from(reader.varint()?).ok();
            let count = count
                .filter(|count| count.saturating_mul(len) <= LINES_BYTES_MAX)
                .ok_or_else(|| reader.corrupt("variables are longer than any chunk"))?;
            columns.count = columns.count.saturating_add(count);
            columns.columns.push(StoredColumn {
                kind: Kind { class, len },
                count,
                bytes: page.slice_ref(reader.bytes()?),
            });
        }
        if columns.columns.len() > KINDS_MAX {
            return Err(reader.corrupt("there are too many kinds of variables"));
        }
        columns.order = page.slice_ref(reader.bytes()?);
        Ok(columns)
    }
}

impl StoredColumn {
    fn hex(&self, name: &str) -> Result<Vec<u8>> {
        column::blob(name, &self.bytes, self.count * self.kind.len.div_ceil(2))
    }
}

/// A timestamp as `len` digits tell it, when it has as many.
fn time_as_number(timestamp: i64, len: usize) -> Option<u64> {
    let drop = u32::try_from(DIGITS_MAX.checked_sub(len)?).ok()?;
    let number = u64::try_from(timestamp).ok()? / 10u64.pow(drop);
    let least = 10u64.pow(u32::try_from(len).ok()?.saturating_sub(1));
    (number >= least).then_some(number)
}

impl PackedLines {
    /// The lines of a chunk, from its text page, its variables page and its lengths.
    pub(crate) fn read(name: &str, text: Vec<u8>, page: &Bytes, lengths: Lengths) -> Result<Self> {
        let mut reader = Reader::new(name, page);
        let head = read_head(&mut reader)?;
        let layout = if head.layout == WHOLE {
            let ends = lengths.ends(name)?;
            if ends.last().map_or(0, |&end| end as usize) != text.len() {
                return Err(reader.corrupt("lines are not as long as their lengths say"));
            }
            Layout::Whole
        } else {
            Layout::Split {
                terminator: head.terminator,
                placeholder: head.placeholder,
                variables: VariableColumns::read_columns(&mut reader, page, true)?,
            }
        };
        Ok(Self {
            name: name.to_owned(),
            text,
            layout,
            lengths,
        })
    }

    /// Where `needle` is to be searched.
    pub(crate) fn place_of(&self, needle: &[u8]) -> Place {
        let Layout::Split {
            terminator,
            placeholder,
            ..
        } = self.layout
        else {
            return Place::Skeleton;
        };
        if memchr2(terminator, placeholder, needle).is_some() {
            Place::Nowhere
        } else if is_plain(needle) {
            Place::Skeleton
        } else {
            Place::Lines
        }
    }

    /// Text in which a needle whose [`PackedLines::place_of`] is [`Place::Skeleton`] is found exactly
    /// in the lines that have it, and where the part of each line ends in it.
    pub(crate) fn skeleton(&self) -> (&[u8], Vec<u32>) {
        match &self.layout {
            // Decoded when the page was read.
            Layout::Whole => (
                &self.text,
                self.lengths.ends.get().cloned().unwrap_or_default(),
            ),
            Layout::Split { terminator, .. } => {
                let rows = self.lengths.rows;
                let mut ends = Vec::with_capacity(rows);
                let after = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX);
                ends.extend(memchr_iter(*terminator, &self.text).map(after));
                // A damaged page may have others; what is asked for is there in any case.
                ends.resize(rows, ends.last().copied().unwrap_or(0));
                (&self.text, ends)
            }
        }
    }
}

/// Whether no variable can hide any part of `needle`.
fn is_plain(needle: &[u8]) -> bool {
    if needle.is_empty() || needle.iter().any(u8::is_ascii_digit) {
        return false;
    }
    let mut start = 0;
    for part in needle.split(|&byte| !is_token_byte(byte)) {
        let end = start + part.len();
        let is_open = start == 0 || end == needle.len();
        let may_be_id = part.iter().all(u8::is_ascii_hexdigit) && !part.is_empty();
        if may_be_id && (is_open || part.len() >= ID_HEX_MIN) {
            return false;
        }
        start = end + 1;
    }
    true
}

#[cfg(test)]
mod tests;
