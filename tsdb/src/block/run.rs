//! Runs: the columns of one series in one block. Compaction writes them, selection reads ranges of
//! their rows.

mod bins;
mod bits;
mod floats;
mod integers;
mod page;

use std::ops::Range;

use trine_storage::Result;

use integers::{Column, Nesting};

/// How hard to look for the smallest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For the first block that rows are written to: it will be written again.
    Fast,
    /// For windows that are final.
    Small,
}

/// Appends a column of floats, bit for bit.
pub fn encode_floats(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    floats::encode(values, effort, out);
}

/// Appends rows.
///
/// # Errors
/// Corrupt.
pub fn decode_floats(
    name: &str,
    bytes: &[u8],
    count: usize,
    rows: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<()> {
    floats::decode(name, bytes, count, rows, out)
}

/// Appends a column of integers.
pub fn encode_integers(values: &[i64], effort: Effort, out: &mut Vec<u8>) {
    integers::encode(values, effort, Nesting::Outer, out);
}

/// Appends rows.
///
/// # Errors
/// Corrupt.
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
