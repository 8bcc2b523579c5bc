//! Finds the chunks of a block that may have what a filter wants. Called by scans.
//!
//! What the sections answer comes first, from the cheapest question to the dearest, each asked
//! about the chunks that are left only. Id columns are asked last, by whoever reads a chunk
//! ([`Candidates::confirms`]), so that scans that stop early do not look at all of them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::{Error, Result};

use super::filter::Filters;
use super::long::LongTokens;
use super::needle::{Field, InId, Needles, Run};
use super::words::Words;

/// What unpacking and scanning a chunk costs, in bytes of text gone through.
const CHUNK_COST: usize = 512 << 10;

/// What looking into the filter of a chunk costs, in the same unit.
const FILTER_COST: usize = 512;

/// What finding a term costs, in the same unit.
const TERM_COST: usize = 8 << 10;

/// How much slower a text is gone through when letter case does not matter.
const FOLD_COST: usize = 4;

/// The ids of a block, which lie in columns of their own.
pub(crate) trait IdColumns {
    /// Whether an id of the chunk contains `run`; at its start unless `open_left`, at its end unless
    /// `open_right`; whatever the letter case if `fold`. `true` when that cannot be told.
    fn may_contain(
        &self,
        chunk: u32,
        run: &[u8],
        open_left: bool,
        open_right: bool,
        fold: bool,
    ) -> bool;
}

/// The token index of one block, read in place.
#[derive(Debug)]
pub(crate) struct TokenIndex {
    filters: Option<Filters>,
    long: Option<LongTokens>,
    words: Option<Words>,
    /// Of how many chunks, the first ones, words are in the dictionary.
    in_dictionary: u32,
    damage: Vec<Error>,
}

impl TokenIndex {
    /// Reads the headers of the sections of a block with so many chunks. A section that makes no
    /// sense counts as missing.
    pub(crate) fn open(
        name: &str,
        filters: Bytes,
        long: Bytes,
        words: &Bytes,
        chunks: u32,
    ) -> Self {
        let mut damage = Vec::new();
        let filters = Filters::open(name, filters, chunks)
            .map_err(|error| damage.push(error))
            .ok();
        let long = LongTokens::open(name, long, chunks)
            .map_err(|error| damage.push(error))
            .ok();
        let in_dictionary = filters.as_ref().map_or(0, Filters::in_dictionary);
        let words = Words::open(name, words, in_dictionary)
            .map_err(|error| damage.push(error))
            .ok();
        Self {
            filters,
            long,
            words,
            in_dictionary,
            damage,
        }
    }

    /// Sections that cannot be read. Queries are slower without them, not wrong.
    pub(crate) fn damage(&self) -> &[Error] {
        &self.damage
    }

    /// The sections, when they are whole and all words are in dictionaries.
    pub(super) fn sections(&self) -> Option<(&Filters, &LongTokens, &Words)> {
        let filters = self.filters.as_ref()?;
        let all = filters.chunks() == self.in_dictionary;
        Some((filters, self.long.as_ref()?, self.words.as_ref()?)).filter(|_| all)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) for the first damage.
    pub(crate) fn verify(&self, name: &str) -> Result<()> {
        if let Some(error) = self.damage.first() {
            return Err(error.clone());
        }
        if let Some(filters) = &self.filters {
            filters.verify(name)?;
        }
        if let Some(words) = &self.words {
            words.verify()?;
        }
        Ok(())
    }

    /// Those of the chunks `within` that may have lines with these needles.
    pub(crate) fn candidates(
        &self,
        needles: &Needles,
        within: &RoaringBitmap,
        ids: &dyn IdColumns,
    ) -> RoaringBitmap {
        let found = self.search(needles, within);
        let chunks = found.chunks().iter();
        chunks.filter(|&chunk| found.confirms(chunk, ids)).collect()
    }

    /// The same without asking the id columns, which [`Candidates::confirms`] does for a chunk.
    pub(crate) fn search(&self, needles: &Needles, within: &RoaringBitmap) -> Candidates {
        let answer = self.answer(needles, within);
        let chunks = answer.possible(within);
        Candidates { chunks, answer }
    }

    fn answer(&self, needles: &Needles, within: &RoaringBitmap) -> Answer {
        let worth = count(within).saturating_mul(CHUNK_COST) / 4;
        if within.is_empty() || self.cost(needles, within) > worth {
            return Answer::Anything;
        }
        match needles {
            Needles::Anything => Answer::Anything,
            Needles::Field(field) => Answer::Chunks {
                sure: self.field(field, within),
                by_ids: RoaringBitmap::new(),
                run: None,
            },
            Needles::Run(run) => self.run(run, within),
            Needles::All(parts) => {
                let mut parts: Vec<&Needles> = parts.iter().collect();
                parts.sort_by_cached_key(|part| self.cost(part, within));
                let mut left = within.clone();
                let mut answers = Vec::with_capacity(parts.len());
                for part in parts {
                    let answer = self.answer(part, &left);
                    left = answer.possible(&left);
                    answers.push(answer);
                }
                Answer::All(answers)
            }
            Needles::Any(parts) => {
                let mut found = RoaringBitmap::new();
                let mut answers = Vec::with_capacity(parts.len());
                for part in parts {
                    let answer = self.answer(part, within);
                    found |= answer.possible(within);
                    answers.push(answer);
                    if found.len() == within.len() && answers.iter().all(Answer::is_sure) {
                        return Answer::Anything;
                    }
                }
                Answer::Any(answers)
            }
        }
    }

    /// What an answer about these chunks costs.
    fn cost(&self, needles: &Needles, within: &RoaringBitmap) -> usize {
        let filters = count(within).saturating_mul(FILTER_COST);
        match needles {
            Needles::Anything => 0,
            Needles::Field(_) => TERM_COST + filters,
            Needles::All(parts) => parts
                .iter()
                .map(|part| self.cost(part, within))
                .min()
                .unwrap_or(0),
            Needles::Any(parts) => parts
                .iter()
                .map(|part| self.cost(part, within))
                .fold(0, usize::saturating_add),
            Needles::Run(run) => {
                let mut text = 0;
                if run.in_word
                    && let Some(words) = &self.words
                    && (run.open_left || run.fold)
                {
                    text += words.words.text_bytes();
                }
                if run.in_long && (!run.is_whole() || run.hash.is_none()) {
                    text += self.long.as_ref().map_or(0, |long| long.text().len());
                }
                let times = if run.fold { FOLD_COST } else { 1 };
                text.saturating_mul(times) + TERM_COST + filters
            }
        }
    }

    /// The chunks whose words are in the dictionary, and those whose words are in filters.
    fn divided(&self, within: &RoaringBitmap) -> (RoaringBitmap, RoaringBitmap) {
        let (mut first, mut rest) = (within.clone(), within.clone());
        first.remove_range(self.in_dictionary..);
        rest.remove_range(..self.in_dictionary);
        (first, rest)
    }

    /// Those of the chunks whose filter may have this hash.
    fn filtered(&self, hash: Option<u64>, within: &RoaringBitmap) -> RoaringBitmap {
        match (&self.filters, hash) {
            (Some(filters), Some(hash)) => within
                .iter()
                .filter(|&chunk| filters.may_contain(chunk, hash))
                .collect(),
            _ => within.clone(),
        }
    }

    fn field(&self, field: &Field, within: &RoaringBitmap) -> RoaringBitmap {
        if !field.in_dictionary {
            return self.filtered(Some(field.hash), within);
        }
        let (first, rest) = self.divided(within);
        let exact = self
            .words
            .as_ref()
            .and_then(|words| words.fields.exact(&field.term).ok());
        let mut found = exact.map_or_else(|| first.clone(), |exact| exact & &first);
        found |= self.filtered(Some(field.hash), &rest);
        found
    }

    fn run(&self, run: &Arc<Run>, within: &RoaringBitmap) -> Answer {
        let (first, rest) = self.divided(within);
        let mut sure = RoaringBitmap::new();
        // The filter of a chunk has its ids and long tokens, and its words if the dictionary has
        // not.
        if run.in_long && run.is_whole() {
            sure |= self.filtered(run.hash, within);
        } else if run.in_word && run.is_whole() {
            sure |= self.filtered(run.hash, &rest);
        }
        if run.in_word {
            if !run.is_whole() {
                sure |= &rest;
            }
            sure |= self.words(run, &(first - &sure));
        }
        if run.in_long && !run.is_whole() {
            sure |= self.long(run) & within;
        }
        // A filter is wrong about one chunk of 256; its id columns are read faster than its lines.
        let mut by_ids = RoaringBitmap::new();
        if matches!(run.in_id, InId::Equal | InId::Part { whole: true }) {
            by_ids = self.filtered(run.hash, &(within - &sure));
        }
        if let InId::Part { .. } = run.in_id {
            let longer = (within - &sure) - &by_ids;
            by_ids.extend(
                longer
                    .iter()
                    .filter(|&chunk| self.has_longer_id(chunk, run)),
            );
        }
        Answer::Chunks {
            sure,
            by_ids,
            run: Some(Arc::clone(run)),
        }
    }

    /// Whether the chunk may have an id that is longer than the run and consists of such digits.
    fn has_longer_id(&self, chunk: u32, run: &Run) -> bool {
        self.filters.as_ref().is_none_or(|filters| {
            let longest = filters.longest(chunk);
            let longer = |bytes: u8| bytes == u8::MAX || usize::from(bytes) > run.text.len();
            longer(longest.hex) || longer(longest.digits) && run.text.iter().all(u8::is_ascii_digit)
        })
    }

    /// Those of the chunks whose dictionary has a word with the run.
    fn words(&self, run: &Run, within: &RoaringBitmap) -> RoaringBitmap {
        let Some(words) = &self.words else {
            return within.clone();
        };
        let words = &words.words;
        let found = if run.fold || run.open_left {
            match &run.pattern {
                Some(pattern) => words.matching(pattern, within),
                None => Ok(None),
            }
        } else if run.open_right {
            words.prefix(&run.text)
        } else {
            words.exact(&run.text).map(Some)
        };
        match found {
            Ok(Some(found)) => found & within,
            _ => within.clone(),
        }
    }

    /// The chunks with a long token that has the run.
    fn long(&self, run: &Run) -> RoaringBitmap {
        match (&self.long, &run.pattern) {
            (Some(long), Some(pattern)) => long.chunks(pattern),
            _ => RoaringBitmap::full(),
        }
    }
}

fn count(chunks: &RoaringBitmap) -> usize {
    usize::try_from(chunks.len()).unwrap_or(usize::MAX)
}

/// The chunks that may have what was looked for.
#[derive(Debug)]
pub(crate) struct Candidates {
    chunks: RoaringBitmap,
    answer: Answer,
}

impl Candidates {
    /// The chunks that the sections of the index do not rule out.
    pub(crate) fn chunks(&self) -> &RoaringBitmap {
        &self.chunks
    }

    /// Whether ids have no say.
    pub(crate) fn is_sure(&self) -> bool {
        self.answer.is_sure()
    }

    /// Whether the ids of one of these chunks do not rule it out either. Asks `ids` only where that
    /// decides.
    pub(crate) fn confirms(&self, chunk: u32, ids: &dyn IdColumns) -> bool {
        self.answer.confirms(chunk, ids)
    }
}

/// What is known of the chunks that were asked about, for needles and their parts.
#[derive(Debug)]
enum Answer {
    /// Any of them may do.
    Anything,
    /// Those in `sure` may do, and of `by_ids` those with the run in an id.
    Chunks {
        sure: RoaringBitmap,
        by_ids: RoaringBitmap,
        run: Option<Arc<Run>>,
    },
    /// Those for which all of these say so.
    All(Vec<Answer>),
    /// Those for which one of these says so.
    Any(Vec<Answer>),
}

impl Answer {
    /// Those of `within` that are not ruled out before ids are asked.
    fn possible(&self, within: &RoaringBitmap) -> RoaringBitmap {
        match self {
            Self::Anything => within.clone(),
            Self::Chunks { sure, by_ids, .. } => (sure | by_ids) & within,
            Self::All(answers) => {
                let narrow = |left, answer: &Answer| answer.possible(&left);
                answers.iter().fold(within.clone(), narrow)
            }
            Self::Any(answers) => {
                let answers = answers.iter().map(|answer| answer.possible(within));
                answers.fold(RoaringBitmap::new(), |found, more| found | more)
            }
        }
    }

    /// Whether ids have no say.
    fn is_sure(&self) -> bool {
        match self {
            Self::Anything => true,
            Self::Chunks { by_ids, .. } => by_ids.is_empty(),
            Self::All(answers) | Self::Any(answers) => answers.iter().all(Answer::is_sure),
        }
    }

    fn confirms(&self, chunk: u32, ids: &dyn IdColumns) -> bool {
        match self {
            Self::Anything => true,
            Self::Chunks { sure, by_ids, run } => {
                sure.contains(chunk)
                    || by_ids.contains(chunk)
                        && run.as_ref().is_none_or(|run| {
                            ids.may_contain(
                                chunk,
                                &run.text,
                                run.open_left,
                                run.open_right,
                                run.fold,
                            )
                        })
            }
            Self::All(answers) => answers.iter().all(|answer| answer.confirms(chunk, ids)),
            Self::Any(answers) => answers.iter().any(|answer| answer.confirms(chunk, ids)),
        }
    }
}
