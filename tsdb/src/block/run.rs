//! Runs: the columns of one series in one block, bit for bit and small. Compaction writes them,
//! selection reads ranges of their rows. The format is in FORMAT.md, section "Run columns".

mod bins;
mod bits;
mod floats;
mod integers;
mod page;

use std::ops::Range;

use trine_storage::Result;

use integers::{Column, Nesting};

/// How hard to look for the smallest form. Both are read at the same speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For the first block that rows are written to: they will be written again.
    Fast,
    /// For windows that are final.
    Small,
}

/// Appends the column of `values`; nothing when there are none.
pub(crate) fn encode_floats(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    floats::encode(values, effort, out);
}

/// Appends `rows` of the column of `count` floats that `bytes` holds and nothing else. Only the
/// pages that hold the rows are decoded. `name` is what errors call the column. What it allocates
/// is bounded by `count`, which the caller must have checked.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are not such a column; `out` may
/// then have got some rows. [`Kind::Invalid`](trine_storage::Kind::Invalid) when the column has no
/// such rows.
pub fn decode_floats(
    name: &str,
    bytes: &[u8],
    count: usize,
    rows: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<()> {
    floats::decode(name, bytes, count, rows, out)
}

/// Appends the column of `values`; nothing when there are none. In regular steps they are a few
/// bytes.
pub(crate) fn encode_integers(values: &[i64], effort: Effort, out: &mut Vec<u8>) {
    integers::encode(values, effort, Nesting::Outer, out);
}

/// Appends `rows` of the column of `count` integers that `bytes` holds and nothing else, as
/// [`decode_floats`] does.
///
/// # Errors
/// As of [`decode_floats`].
pub fn decode_integers(
    name: &str,
    bytes: &[u8],
    count: usize,
    rows: Range<usize>,
    out: &mut Vec<i64>,
) -> Result<()> {
    Column::open(name, bytes, count, Nesting::Outer)?.append(rows, out)
}

#[cfg(test)]
mod tests;
