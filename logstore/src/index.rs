//! The token index of a block: which chunks may have a line that a filter lets through. Called by
//! the block writer and by reads.
//!
//! In reading order: `token` cuts text into tokens.

pub(crate) mod token;
