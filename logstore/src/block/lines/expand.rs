//! Puts the variables of lines back into their text. Called for every line that a search in the
//! skeleton could not decide or that is given to a reader, so it is made of copies of fixed length:
//! what a copy writes too much the next one overwrites.

use memchr::memchr2_iter;
use trine_storage::{Error, Result};

use super::{
    DIGITS_MAX, Kind, Layout, PackedLines, StoredColumn, VariableClass, column, digits,
    time_as_number,
};

/// Short pieces are copied in this many bytes at once.
const STRIDE: usize = 32;

impl PackedLines {
    /// All lines in one piece, and where each ends.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when text and variables do not fit.
    pub(crate) fn expand(&self, timestamps: &[i64]) -> Result<(Vec<u8>, Vec<u32>)> {
        self.expand_rows(timestamps, |_| true)
    }

    /// As [`PackedLines::expand`]; the lines for which `wanted` says no are left empty.
    pub(crate) fn expand_rows(
        &self,
        timestamps: &[i64],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<(Vec<u8>, Vec<u32>)> {
        let bad = || {
            Error::corrupt(
                &*self.name,
                0,
                "the variables of lines do not fit their text",
            )
        };
        let all_ends = self.lengths.ends(&self.name)?;
        let length = |row: usize| {
            let start = row
                .checked_sub(1)
                .and_then(|row| all_ends.get(row).copied());
            all_ends.get(row).copied().unwrap_or(0) - start.unwrap_or(0)
        };
        let mut ends = Vec::with_capacity(all_ends.len());
        let mut end = 0;
        for row in 0..all_ends.len() {
            end += if wanted(row) { length(row) } else { 0 };
            ends.push(end);
        }
        let mut out = Out {
            bytes: vec![0; end as usize + STRIDE],
            at: 0,
        };
        let (terminator, placeholder, variables) = match &self.layout {
            Layout::Whole => {
                for row in (0..all_ends.len()).filter(|&row| wanted(row)) {
                    let to = all_ends.get(row).map_or(0, |&end| end as usize);
                    let from = to - length(row) as usize;
                    out.copy(&self.text, from, to).ok_or_else(bad)?;
                }
                return Ok((out.finish(), ends));
            }
            Layout::Split {
                terminator,
                placeholder,
                variables,
            } => (*terminator, *placeholder, variables),
        };
        let order = column::blob(&self.name, &variables.order, variables.count)?;
        let mut columns = Vec::with_capacity(variables.columns.len());
        for column in &variables.columns {
            columns.push((Values::new(&self.name, column)?, 0));
        }
        let mut order = order.iter();
        let (mut row, mut copied, mut is_wanted) = (0, 0, wanted(0));
        for at in memchr2_iter(placeholder, terminator, &self.text) {
            if is_wanted {
                out.copy(&self.text, copied, at).ok_or_else(bad)?;
            }
            copied = at + 1;
            if self.text.get(at) == Some(&terminator) {
                if ends.get(row).is_none_or(|&end| end as usize != out.at) {
                    return Err(bad());
                }
                row += 1;
                is_wanted = row < ends.len() && wanted(row);
                continue;
            }
            let code = order.next().ok_or_else(bad)?;
            let (values, next) = columns.get_mut(usize::from(*code)).ok_or_else(bad)?;
            if is_wanted {
                let timestamp = timestamps.get(row).copied();
                values.put(*next, &mut out, timestamp).ok_or_else(bad)?;
            }
            *next += 1;
        }
        if row != ends.len() || copied != self.text.len() {
            return Err(bad());
        }
        Ok((out.finish(), ends))
    }
}

/// The variables of one kind, decoded.
#[derive(Debug)]
pub(super) struct Values {
    kind: Kind,
    numbers: Vec<u64>,
    bytes: Vec<u8>,
}

impl Values {
    pub(super) fn new(name: &str, column: &StoredColumn) -> Result<Self> {
        let (mut numbers, mut bytes) = (Vec::new(), Vec::new());
        match column.kind.class {
            VariableClass::Number => {
                numbers = column::numbers(name, &column.bytes, column.count)?;
            }
            VariableClass::Time => {}
            VariableClass::Text => {
                bytes = column::blob(name, &column.bytes, column.count * column.kind.len)?;
            }
            VariableClass::HexLower | VariableClass::HexUpper => bytes = column.hex(name)?,
        }
        Ok(Self {
            kind: column.kind,
            numbers,
            bytes,
        })
    }

    /// Appends a variable as it is in the line. `None` when there is none or no room.
    fn put(&self, at: usize, out: &mut Out, timestamp: Option<i64>) -> Option<()> {
        let Kind { class, len } = self.kind;
        match class {
            VariableClass::Number => out.decimal(*self.numbers.get(at)?, len),
            VariableClass::Time => out.decimal(time_as_number(timestamp?, len)?, len),
            VariableClass::Text => out.copy(&self.bytes, at * len, (at + 1) * len),
            VariableClass::HexLower => out.hex(self.packed(at, len)?, len, &digits::HEX_LOWER),
            VariableClass::HexUpper => out.hex(self.packed(at, len)?, len, &digits::HEX_UPPER),
        }
    }

    fn packed(&self, at: usize, len: usize) -> Option<&[u8]> {
        let width = len.div_ceil(2);
        self.bytes.get(at * width..(at + 1) * width)
    }

    /// As [`Values::put`], to the end of a text.
    pub(super) fn append(&self, at: usize, text: &mut Vec<u8>, timestamp: i64) -> Option<()> {
        let start = text.len();
        let number = match self.kind.class {
            VariableClass::Number => Some(*self.numbers.get(at)?),
            VariableClass::Time => Some(time_as_number(timestamp, self.kind.len)?),
            _ => None,
        };
        if let Some(number) = number {
            text.resize(start + self.kind.len, 0);
            digits::write_decimal(text.get_mut(start..)?, number);
            return Some(());
        }
        let mut bytes = std::mem::take(text);
        bytes.resize(start + self.kind.len + STRIDE, 0);
        let mut out = Out { bytes, at: start };
        let done = self.put(at, &mut out, Some(timestamp));
        *text = out.finish();
        done
    }
}

/// The lines while they are put together; there is room for [`STRIDE`] bytes behind them.
struct Out {
    bytes: Vec<u8>,
    at: usize,
}

impl Out {
    /// Moves on by what was written. `None` when it does not belong there any more.
    fn advance(&mut self, len: usize) -> Option<()> {
        self.at += len;
        (self.at + STRIDE <= self.bytes.len()).then_some(())
    }

    fn copy(&mut self, text: &[u8], from: usize, to: usize) -> Option<()> {
        let len = to.checked_sub(from)?;
        let source = text.get(from..)?;
        let target = self.bytes.get_mut(self.at..)?;
        match (
            source.first_chunk::<STRIDE>(),
            target.first_chunk_mut::<STRIDE>(),
        ) {
            (Some(source), Some(target)) if len <= STRIDE => *target = *source,
            _ => target.get_mut(..len)?.copy_from_slice(source.get(..len)?),
        }
        self.advance(len)
    }

    /// A number as `len` decimal digits, at most [`DIGITS_MAX`].
    fn decimal(&mut self, number: u64, len: usize) -> Option<()> {
        let target = self.bytes.get_mut(self.at..)?.first_chunk_mut::<STRIDE>()?;
        digits::write_decimal(target.get_mut(..len)?, number);
        self.advance(len)
    }

    fn hex(&mut self, packed: &[u8], len: usize, pairs: &[[u8; 2]; 256]) -> Option<()> {
        let target = self.bytes.get_mut(self.at..self.at + len)?;
        digits::write_hex(target, packed, pairs);
        self.advance(len)
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }
}

const _: () = assert!(DIGITS_MAX <= STRIDE, "a number is written at once");
