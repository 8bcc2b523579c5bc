//! Blocks: entries that no longer change, sorted by stream and time, in chunks.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
