//! Blocks: spans that no longer change, in columns.
//!
//! In reading order: `format` numbers sections and columns, `values` is what columns hold, `column` the
//! codec of one and `bits`, `numbers`, `dictionary`, `template`, `blob`, `filter` what it is made of, `shapes` which attributes
//! a row has, `presence` which rows have one, `table` puts columns together, `gather` rows of several tables, `build` whole blocks,
//! `image` reads them, `sizes` tells what takes how much, `decode` is for fuzzing.

pub(crate) mod bits;
pub(crate) mod blob;
pub(crate) mod build;
pub(crate) mod column;
#[allow(dead_code, unreachable_pub, reason = "wired by the fuzz targets")]
pub(crate) mod decode;
pub(crate) mod dictionary;
pub(crate) mod filter;
pub(crate) mod format;
pub(crate) mod frame;
pub(crate) mod gather;
pub(crate) mod image;
pub(crate) mod numbers;
pub(crate) mod presence;
pub(crate) mod shapes;
pub(crate) mod sizes;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod values;

#[cfg(test)]
mod tests;
