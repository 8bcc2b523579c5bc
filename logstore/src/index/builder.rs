//! Takes the tokens of a block chunk by chunk and makes its sections of them. Called by the block
//! writer.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use trine_storage::Result;

use super::filter::{FiltersWriter, Longest};
use super::long::LongWriter;
use super::needle::Field;
use super::search::TokenIndex;
use super::terms::{NOT_TAKEN, Terms};
use super::token::{self, Class, Short, Token, WORD_BYTES_MAX};
use super::words;

/// Most bytes of distinct words and fields of a block that go into its dictionaries. The words of
/// chunks after the one that exceeds it go into filters.
pub(crate) const WORDS_BYTES_MAX: usize = 16 << 20;

/// Most bytes of the dictionaries of the indexes together of which chunks are taken over.
pub(crate) const TAKEN_BYTES_MAX: usize = 64 << 20;

/// Slots of an empty table of words.
const SEEN_MIN: usize = 1 << 12;

/// The sections of a block's token index.
#[derive(Debug)]
pub(crate) struct Sections {
    /// FILTERS.
    pub(crate) filters: Vec<u8>,
    /// LONG.
    pub(crate) long: Vec<u8>,
    /// WORDS.
    pub(crate) words: Vec<u8>,
}

/// The index of a block that is being written.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    filters: FiltersWriter,
    long: LongWriter,
    words: Terms,
    fields: Terms,
    /// Whether the words of the chunk at hand go into dictionaries.
    to_dictionaries: bool,
    in_dictionary: u32,
    words_bytes_max: usize,
    /// Indexes of which chunks were taken over, or may be.
    taken: Vec<TakenIndex>,
    /// Short words of the chunk at hand.
    seen: Seen,
    /// Of the chunk at hand.
    hashes: Distinct,
    /// Of the ids that are no longer than a word.
    longest: Longest,
    /// Of the others.
    longest_of_all: Longest,
}

/// An index of which chunks are taken over.
#[derive(Debug)]
struct TakenIndex {
    index: Arc<TokenIndex>,
    /// Of its dictionaries.
    bytes: usize,
    /// For each of its chunks which one it became, or [`NOT_TAKEN`].
    chunks: Vec<u32>,
}

/// Names an index that was given to [`IndexBuilder::source`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakenFrom(usize);

impl IndexBuilder {
    /// An index of no chunk.
    pub(crate) fn new() -> Self {
        Self::with_limit(WORDS_BYTES_MAX)
    }

    /// With another number in place of [`WORDS_BYTES_MAX`].
    pub(super) fn with_limit(words_bytes_max: usize) -> Self {
        Self {
            filters: FiltersWriter::default(),
            long: LongWriter::default(),
            words: Terms::default(),
            fields: Terms::default(),
            to_dictionaries: words_bytes_max > 0,
            in_dictionary: 0,
            words_bytes_max,
            taken: Vec::new(),
            seen: Seen::default(),
            hashes: Distinct::default(),
            longest: Longest::default(),
            longest_of_all: Longest::default(),
        }
    }

    /// Adds the tokens of a line of the chunk at hand.
    #[cfg(test)]
    pub(crate) fn line(&mut self, line: &[u8]) {
        token::tokens(line, |token| self.token(line, &token));
    }

    /// Adds a token of `text`, which belongs to the chunk at hand; it may have come before.
    #[inline]
    pub(crate) fn token(&mut self, text: &[u8], token: &Token) {
        let (bytes, class) = (text.get(token.start..token.end), token.class);
        let bytes = bytes.unwrap_or_default();
        match class {
            Class::Word => {
                let short = Short::of(text, token);
                if let Some(word) = short {
                    if !self.seen.insert(word) || self.to_dictionaries {
                        return;
                    }
                } else if self.to_dictionaries {
                    self.words.touch(bytes);
                    return;
                }
            }
            Class::Digits | Class::Hex => {
                let longest = if bytes.len() > WORD_BYTES_MAX {
                    self.long.id(bytes);
                    &mut self.longest_of_all
                } else {
                    &mut self.longest
                };
                longest.add(class, bytes.len());
            }
            Class::Long => self.long.token(bytes),
        }
        self.hashes.insert(token::hash(bytes));
    }

    /// Adds a name of structured metadata with its value; it may have come before.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        let field = Field::new(name, value);
        if self.to_dictionaries && field.in_dictionary {
            self.fields.touch(&field.term);
        } else {
            self.hashes.insert(field.hash);
        }
    }

    /// Ends the chunk at hand.
    ///
    /// # Errors
    /// [`Kind::Limit`](trine_storage::Kind::Limit) when a section would exceed what its offsets
    /// reach.
    pub(crate) fn end_chunk(&mut self) -> Result<()> {
        let longest_of_all = std::mem::take(&mut self.longest_of_all);
        let mut longest = std::mem::take(&mut self.longest);
        if !self.long.end_chunk()? {
            longest.digits = longest.digits.max(longest_of_all.digits);
            longest.hex = longest.hex.max(longest_of_all.hex);
        }
        self.filters.push(self.hashes.list(), longest)?;
        self.hashes.clear();
        if self.to_dictionaries {
            self.words.touch_all(&self.seen.words);
            self.words.end_chunk();
            self.fields.end_chunk();
            self.in_dictionary += 1;
            let bytes = self.words.bytes() + self.fields.bytes();
            self.to_dictionaries = bytes <= self.words_bytes_max;
        }
        self.seen.clear();
        Ok(())
    }

    /// Adds an index of which chunks may be taken over; `None` when it does not say all that is
    /// needed of its chunks, or when dictionaries would be too large.
    pub(crate) fn source(&mut self, index: Arc<TokenIndex>) -> Option<TakenFrom> {
        let (filters, _, words) = index.sections()?;
        let bytes = self.taken.iter().map(|taken| taken.bytes).sum::<usize>() + words.bytes();
        if bytes > TAKEN_BYTES_MAX {
            return None;
        }
        self.taken.push(TakenIndex {
            bytes: words.bytes(),
            chunks: vec![NOT_TAKEN; usize::try_from(filters.chunks()).ok()?],
            index,
        });
        Some(TakenFrom(self.taken.len() - 1))
    }

    /// Takes over what is known of a chunk, which is the next one; `false` when it cannot be because
    /// words no longer go into dictionaries. No chunk is at hand.
    ///
    /// # Errors
    /// As [`IndexBuilder::end_chunk`].
    pub(crate) fn take(&mut self, TakenFrom(from): TakenFrom, chunk: u32) -> Result<bool> {
        let Some(taken) = self.taken.get_mut(from).filter(|_| self.to_dictionaries) else {
            return Ok(false);
        };
        let place = usize::try_from(chunk).ok();
        let place = place.and_then(|chunk| taken.chunks.get_mut(chunk));
        let sections = taken.index.sections();
        let Some((became, (filters, long, _))) = place.zip(sections) else {
            return Ok(false);
        };
        let Some(filter) = filters.filter(chunk) else {
            return Ok(false);
        };
        *became = self.in_dictionary;
        self.filters.copy(filter, filters.longest(chunk))?;
        self.long.copy(long, chunk)?;
        self.words.end_chunk();
        self.fields.end_chunk();
        self.in_dictionary += 1;
        Ok(true)
    }

    /// The sections. A chunk that was not ended is not in them.
    ///
    /// # Errors
    /// As [`IndexBuilder::end_chunk`].
    pub(crate) fn finish(self) -> Result<Sections> {
        let taken = self.taken.iter().filter_map(|taken| {
            let (_, _, words) = taken.index.sections()?;
            Some((words, taken.chunks.as_slice()))
        });
        let taken: Vec<_> = taken.collect();
        let words = words::write(self.words, self.fields, &taken)?;
        Ok(Sections {
            filters: self.filters.finish(self.in_dictionary),
            long: self.long.finish(),
            words,
        })
    }
}

/// A set of short words that is emptied often.
#[derive(Debug)]
struct Seen {
    /// A power of two of them, at most half taken; the default is an empty one.
    slots: Vec<Short>,
    words: Vec<Short>,
    seed: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            slots: vec![Short::default(); SEEN_MIN],
            words: Vec::new(),
            seed: RandomState::new().hash_one(0),
        }
    }
}

impl Seen {
    /// Adds a word; `false` if it was there.
    #[inline]
    fn insert(&mut self, word: Short) -> bool {
        let is_new = self.place(word);
        if is_new {
            self.words.push(word);
            if self.words.len() * 2 > self.slots.len() {
                self.grow();
            }
        }
        is_new
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the mask keeps places below the length of the table"
    )]
    #[inline]
    fn place(&mut self, word: Short) -> bool {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(word.hash(self.seed) & mask as u64).unwrap_or(0);
        loop {
            let slot = &mut self.slots[at];
            if *slot == word {
                return false;
            }
            if *slot == Short::default() {
                *slot = word;
                return true;
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let slots = vec![Short::default(); self.slots.len() * 4];
        self.slots = slots;
        let words = std::mem::take(&mut self.words);
        for &word in &words {
            self.place(word);
        }
        self.words = words;
    }

    fn clear(&mut self) {
        // A table that one large chunk made is not emptied for many small ones.
        let enough = (self.words.len() * 4).next_power_of_two().max(SEEN_MIN);
        if self.slots.len() > 8 * enough {
            self.slots = vec![Short::default(); enough];
        } else {
            self.slots.fill(Short::default());
        }
        self.words.clear();
    }
}

/// A set of hashes that is emptied often.
#[derive(Debug)]
struct Distinct {
    /// A power of two of them, at most half taken; 0 is an empty one.
    slots: Vec<u64>,
    list: Vec<u64>,
    /// Whether 0 itself is in the set.
    zero: bool,
}

impl Default for Distinct {
    fn default() -> Self {
        Self {
            slots: vec![0; 1 << 12],
            list: Vec::new(),
            zero: false,
        }
    }
}

impl Distinct {
    #[inline]
    fn insert(&mut self, hash: u64) {
        if hash == 0 {
            if !self.zero {
                self.list.push(0);
            }
            self.zero = true;
        } else if place(&mut self.slots, hash) {
            self.list.push(hash);
            if self.list.len() * 2 > self.slots.len() {
                self.slots.clear();
                self.slots.resize(self.list.len() * 8, 0);
                let slots = self.slots.len().next_power_of_two();
                self.slots.resize(slots, 0);
                for &hash in self.list.iter().filter(|&&hash| hash != 0) {
                    place(&mut self.slots, hash);
                }
            }
        }
    }

    fn list(&self) -> &[u64] {
        &self.list
    }

    fn clear(&mut self) {
        // A table that one large chunk made is not emptied for many small ones.
        let enough = (self.list.len() * 4).next_power_of_two().max(1 << 12);
        if self.slots.len() > 8 * enough {
            self.slots.truncate(enough);
            self.slots.shrink_to_fit();
        }
        self.slots.fill(0);
        self.list.clear();
        self.zero = false;
    }
}

/// Puts a hash that is not 0 into a table with room; `false` if it was there.
#[expect(
    clippy::indexing_slicing,
    reason = "the mask keeps places below the length of the table"
)]
#[inline]
fn place(slots: &mut [u64], hash: u64) -> bool {
    let mask = slots.len() - 1;
    let mut at = usize::try_from(hash >> 20 & mask as u64).unwrap_or(0);
    loop {
        match slots[at] {
            0 => {
                slots[at] = hash;
                return true;
            }
            there if there == hash => return false,
            _ => at = (at + 1) & mask,
        }
    }
}
