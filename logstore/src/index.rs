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
mod terms;
pub(crate) mod token;
mod words;

pub(crate) use builder::{IndexBuilder, TakenFrom};
pub(crate) use needle::Needles;
pub(crate) use search::{Candidates, IdColumns, TokenIndex};

/// Reads the sections of an index from any bytes, as a block with so many chunks would, and asks it
/// everything: for fuzzing. Panics when a check that passed turns out to be wrong.
pub fn probe(filters: &[u8], long: &[u8], words: &[u8], chunks: u8) {
    struct EveryId;
    impl IdColumns for EveryId {
        fn may_contain(&self, _: u32, _: &[u8], _: bool, _: bool, _: bool) -> bool {
            true
        }
    }
    let copy = bytes::Bytes::copy_from_slice;
    let chunks = u32::from(chunks);
    let index = TokenIndex::open("fuzz", copy(filters), copy(long), &copy(words), chunks);
    let sound = index.verify("fuzz").is_ok();
    let all: roaring::RoaringBitmap = (0..chunks).collect();
    for needle in [" ab ", "ab", " 12345 ", "1234", "=x", "\u{e9}"] {
        for fold in [false, true] {
            let needles = Needles::literal(needle.as_bytes(), fold);
            let found = index.candidates(&needles, &all, &EveryId);
            assert!(found.is_subset(&all), "no chunk is made up");
        }
    }
    index.candidates(&Needles::field(b"k", b"v"), &all, &EveryId);
    assert!(!sound || index.damage().is_empty());
}

#[cfg(test)]
mod tests;
