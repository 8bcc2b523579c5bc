//! Immutable blocks: the format, who writes it, who reads it.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod writer;
