//! Blocks: entries that no longer change, sorted by stream and time, in chunks.
//!
//! In reading order: `format` says what is in the sections, `lines`, `metadata`, `column` and `digits` are the
//! codecs of a chunk's pages, `writer` and `reader` put them together.

mod column;
mod digits;
pub(crate) mod format;
pub(crate) mod lines;
pub(crate) mod metadata;
pub(crate) mod reader;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
