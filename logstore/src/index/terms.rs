//! Terms of a block that is written: which of its chunks have which. Called by the index builder;
//! what comes out is a dictionary.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use trine_storage::Result;
use trine_storage::codec::{Reader, put_varint};

use super::dictionary::{Dictionary, DictionaryWriter, Walk};
use super::token::{self, Short};

/// So many slots are fetched at once.
const AHEAD: usize = 16;

/// Terms of a block as they come, each kept once, with the chunks that have it.
#[derive(Debug)]
pub(crate) struct Terms {
    short: Table<Short>,
    /// By hash: the others, whose text is compared.
    long: Table<u64>,
    /// The terms, with a newline behind each.
    text: Vec<u8>,
    /// Where each term begins in the text.
    starts: Vec<u32>,
    /// The terms of the chunk at hand.
    chunk: Vec<u32>,
    /// For each chunk how many terms it has, then the differences of their ascending numbers.
    lists: Vec<u8>,
    chunks: u32,
    seed: u64,
}

/// Finds terms by what stands for them.
#[derive(Debug)]
struct Table<K> {
    /// A power of two of them, at most three quarters taken.
    slots: Vec<Slot<K>>,
    taken: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot<K> {
    key: K,
    /// The number of the term.
    term: u32,
    /// The chunk that had it last, plus 1; 0 for an empty slot.
    last: u32,
}

impl<K> Slot<K> {
    /// Notes that the chunk `now` has the term, once in `chunk`. True when it is new; then its key is
    /// `key` and its number `next`.
    #[inline]
    fn touch(&mut self, key: K, (now, next): (u32, u32), chunk: &mut Vec<u32>) -> bool {
        let is_new = self.last == 0;
        if is_new {
            (self.key, self.term) = (key, next);
        }
        if self.last != now {
            self.last = now;
            chunk.push(self.term);
        }
        is_new
    }
}

impl<K: Copy + Default + PartialEq> Table<K> {
    fn new() -> Self {
        Self {
            slots: vec![Slot::default(); 1 << 10],
            taken: 0,
        }
    }

    /// The slot of the term with this key that `is_it`, or the empty one where it belongs.
    #[expect(
        clippy::indexing_slicing,
        reason = "the mask keeps places below the length of the table"
    )]
    #[inline]
    fn slot(&mut self, key: K, hash: u64, is_it: impl Fn(u32) -> bool) -> &mut Slot<K> {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(hash & mask as u64).unwrap_or(0);
        loop {
            let slot = &self.slots[at];
            if slot.last == 0 || slot.key == key && is_it(slot.term) {
                return &mut self.slots[at];
            }
            at = (at + 1) & mask;
        }
    }

    /// Where the search for a term with this hash begins.
    #[inline]
    fn first(&self, hash: u64) -> Option<&Slot<K>> {
        let mask = self.slots.len() - 1;
        self.slots
            .get(usize::try_from(hash & mask as u64).unwrap_or(0))
    }

    /// Makes room for one more.
    fn grow(&mut self, hash: impl Fn(K) -> u64) {
        self.taken += 1;
        if self.taken * 4 <= self.slots.len() * 3 {
            return;
        }
        let slots = vec![Slot::default(); self.slots.len() * 4];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.last != 0 {
                *self.slot(slot.key, hash(slot.key), |_| false) = slot;
            }
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            short: Table::new(),
            long: Table::new(),
            text: Vec::new(),
            starts: Vec::new(),
            chunk: Vec::new(),
            lists: Vec::new(),
            chunks: 0,
            seed: RandomState::new().hash_one(0),
        }
    }
}

impl Terms {
    /// Bytes of the terms so far.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Adds a term of the chunk at hand. The caller keeps all terms together below 4 GiB.
    pub(crate) fn touch(&mut self, term: &[u8]) {
        match Short::of_all(term) {
            Some(word) => self.touch_short(word),
            None => self.touch_long(term),
        }
    }

    /// Adds words of the chunk at hand.
    pub(crate) fn touch_all(&mut self, words: &[Short]) {
        // The table is large: the slots of some words are fetched at once.
        for some in words.chunks(AHEAD) {
            for word in some {
                let slot = self.short.first(word.hash(self.seed));
                std::hint::black_box(slot.map(|slot| slot.last));
            }
            for &word in some {
                self.touch_short(word);
            }
        }
    }

    fn touch_short(&mut self, word: Short) {
        let (seed, now, next) = (self.seed, self.chunks + 1, number(self.starts.len()));
        let slot = self.short.slot(word, word.hash(seed), |_| true);
        if slot.touch(word, (now, next), &mut self.chunk) {
            self.short.grow(|word| word.hash(seed));
            let (bytes, len) = word.bytes();
            self.add(bytes.get(..len).unwrap_or_default());
        }
    }

    fn touch_long(&mut self, term: &[u8]) {
        let (now, next) = (self.chunks + 1, number(self.starts.len()));
        let hash = token::hash_exact(term, self.seed);
        let (text, starts) = (&self.text, &self.starts);
        let is_it = |number: u32| {
            let start = starts.get(number as usize).copied();
            start.is_some_and(|start| is_at(text, start, term))
        };
        let slot = self.long.slot(hash, hash, is_it);
        if slot.touch(hash, (now, next), &mut self.chunk) {
            self.long.grow(|hash| hash);
            self.add(term);
        }
    }

    /// Keeps the text of a term that did not come before.
    fn add(&mut self, term: &[u8]) {
        self.starts.push(number(self.text.len()));
        self.text.extend_from_slice(term);
        self.text.push(b'\n');
    }

    /// Ends the chunk at hand.
    pub(crate) fn end_chunk(&mut self) {
        self.chunk.sort_unstable();
        put_varint(&mut self.lists, self.chunk.len() as u64);
        let mut before = 0;
        for term in self.chunk.drain(..) {
            put_varint(&mut self.lists, u64::from(term - before));
            before = term;
        }
        self.chunks += 1;
    }

    /// Of how many chunks the terms are.
    pub(crate) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Appends the terms, with those of other dictionaries, as a dictionary.
    ///
    /// # Errors
    /// [`Kind::Limit`] when it would exceed what its offsets reach, [`Kind::Corrupt`] when one of the
    /// others is damaged.
    pub(crate) fn write(self, taken: &[Taken<'_>], out: &mut Vec<u8>) -> Result<()> {
        let mut writer = DictionaryWriter::new(self.chunks);
        let sorted = self.sorted()?;
        let mut own = sorted.order.iter().copied().peekable();
        let mut walks: Vec<Walk<'_>> = taken.iter().map(|from| from.dictionary.walk()).collect();
        let mut lists: Vec<Vec<u32>> = taken.iter().map(|_| Vec::new()).collect();
        // The next term of each source, the least one on top; the own ones come behind the others.
        let mut heads = BinaryHeap::with_capacity(walks.len() + 1);
        for (from, (walk, list)) in walks.iter_mut().zip(&mut lists).enumerate() {
            heads.extend(walk.next(list)?.map(|term| Reverse((term, from))));
        }
        heads.extend(own.peek().map(|&n| Reverse((sorted.term(n), walks.len()))));
        let mut chunks = Vec::new();
        while let Some(&Reverse((term, _))) = heads.peek() {
            chunks.clear();
            while let Some(&Reverse((same, from))) = heads.peek()
                && same == term
            {
                heads.pop();
                let next = match (walks.get_mut(from), lists.get_mut(from), taken.get(from)) {
                    (Some(walk), Some(list), Some(taken)) => {
                        chunks.extend(list.iter().filter_map(|&chunk| taken.became(chunk)));
                        walk.next(list)?
                    }
                    _ => {
                        chunks.extend(own.next().into_iter().flat_map(|n| sorted.chunks_of(n)));
                        own.peek().map(|&n| sorted.term(n))
                    }
                };
                heads.extend(next.map(|next| Reverse((next, from))));
            }
            chunks.sort_unstable();
            if !chunks.is_empty() {
                writer.push(term, &chunks)?;
            }
        }
        writer.finish(out)
    }

    /// Puts the terms in order.
    #[expect(
        clippy::indexing_slicing,
        reason = "terms are numbered without gaps, and lists hold numbers that were given"
    )]
    fn sorted(self) -> Result<Sorted> {
        let terms = self.starts.len();
        // Where the chunks of each term begin, by counting them first.
        let mut places = vec![0u32; terms + 1];
        self.each(|term, _| places[term + 1] += 1)?;
        for term in 0..terms {
            places[term + 1] += places[term];
        }
        let mut chunks = vec![0u32; places[terms] as usize];
        let mut next = places.clone();
        self.each(|term, chunk| {
            chunks[next[term] as usize] = chunk;
            next[term] += 1;
        })?;
        drop(next);
        let term_of = |term| term_of(&self.text, &self.starts, term);
        // Mostly the first bytes tell which of two terms is less.
        let numbers = 0..number(terms);
        let mut order: Vec<(u64, u32)> = numbers.map(|term| (head(term_of(term)), term)).collect();
        order.sort_unstable_by(|(head, term), (other, another)| {
            let by_head = head.cmp(other);
            by_head.then_with(|| term_of(*term).cmp(term_of(*another)))
        });
        Ok(Sorted {
            order: order.into_iter().map(|(_, term)| term).collect(),
            text: self.text,
            starts: self.starts,
            places,
            chunks,
        })
    }

    /// Calls `each` for all terms of the first chunk, then of the second, and so on.
    fn each(&self, mut each: impl FnMut(usize, u32)) -> Result<()> {
        let mut reader = Reader::new("the terms of a block", &self.lists);
        for chunk in 0..self.chunks {
            let mut term = 0;
            for _ in 0..reader.varint()? {
                term += usize::try_from(reader.varint()?).unwrap_or(0);
                each(term, chunk);
            }
        }
        Ok(())
    }
}

/// Terms in order with the chunks that have each.
struct Sorted {
    /// The numbers of the terms.
    order: Vec<u32>,
    text: Vec<u8>,
    starts: Vec<u32>,
    /// Where the chunks of each term begin in `chunks`, and where those of the last one end.
    places: Vec<u32>,
    chunks: Vec<u32>,
}

impl Sorted {
    fn term(&self, number: u32) -> &[u8] {
        term_of(&self.text, &self.starts, number)
    }

    fn chunks_of(&self, number: u32) -> impl Iterator<Item = u32> {
        let place = |at: usize| self.places.get(at).map_or(0, |&place| place as usize);
        let range = place(number as usize)..place(number as usize + 1);
        self.chunks.get(range).unwrap_or_default().iter().copied()
    }
}

/// A dictionary of another block of which chunks are taken over.
pub(crate) struct Taken<'a> {
    pub(crate) dictionary: &'a Dictionary,
    /// For each of its chunks which one it became, [`NOT_TAKEN`] for the others.
    pub(crate) chunks: &'a [u32],
}

/// In place of the number of a chunk.
pub(crate) const NOT_TAKEN: u32 = u32::MAX;

impl Taken<'_> {
    fn became(&self, chunk: u32) -> Option<u32> {
        let became = self.chunks.get(chunk as usize).copied();
        became.filter(|&chunk| chunk != NOT_TAKEN)
    }
}

/// The term of this number.
fn term_of<'a>(text: &'a [u8], starts: &[u32], term: u32) -> &'a [u8] {
    let start = |term: usize| starts.get(term).map(|&start| start as usize);
    let end = start(term as usize + 1).unwrap_or(text.len());
    let range = start(term as usize).unwrap_or(end)..end - 1;
    text.get(range).unwrap_or_default()
}

/// The first eight bytes of a term as a number that compares as they do.
fn head(term: &[u8]) -> u64 {
    let mut head = [0; 8];
    for (byte, of_term) in head.iter_mut().zip(term) {
        *byte = *of_term;
    }
    u64::from_be_bytes(head)
}

/// Whether this term begins at this place of the text.
fn is_at(text: &[u8], start: u32, term: &[u8]) -> bool {
    let rest = usize::try_from(start).ok().and_then(|at| text.get(at..));
    let rest = rest.and_then(|rest| rest.strip_prefix(term));
    rest.and_then(<[u8]>::first) == Some(&b'\n')
}

/// Terms and their bytes are far fewer than 4 GiB.
fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
