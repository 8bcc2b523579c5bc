//! The token index of a block: which chunks may have a line that a filter lets through. Called by
//! the block writer ([`IndexBuilder`]) and by scans ([`Needles`], [`TokenIndex`]).
//!
//! In reading order: `token` cuts text into tokens, `builder` takes them chunk by chunk, `filter`,
//! `long` and `words` (of `dictionary`s) are the sections, `needle` turns line filters into
//! conditions on tokens, `pattern` finds a part of a token in a list, `search` puts it together.
//!
//! The index leaves out only chunks that cannot have a hit; whoever asks scans what is left. A
//! section that is damaged or missing leaves out nothing.

mod builder;
mod dictionary;
mod filter;
mod long;
mod needle;
mod pattern;
mod search;
pub(crate) mod token;
mod words;

pub(crate) use builder::{IndexBuilder, Sections};
pub(crate) use needle::Needles;
pub(crate) use search::{Candidates, IdColumns, TokenIndex};

#[cfg(test)]
mod tests;
