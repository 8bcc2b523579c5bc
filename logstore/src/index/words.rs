//! The section WORDS of compacted blocks: which chunks have which words, and which fields with
//! which values. Called by the token index.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use bytes::Bytes;
use trine_storage::codec::{Reader, put_u32, put_varint};
use trine_storage::{Error, Kind, Result};

use super::dictionary::{Dictionary, DictionaryWriter};
use super::token::{self, Short};

const VERSION: u32 = 1;
const HEADER: usize = 8;

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
            Some(word) => self.touch_short(word, term),
            None => self.touch_long(term),
        }
    }

    /// As [`Terms::touch`]; `word` is the term.
    pub(crate) fn touch_short(&mut self, word: Short, term: &[u8]) {
        let (seed, now, next) = (self.seed, self.chunks + 1, self.starts.len());
        let slot = self.short.slot(word, word.hash(seed), |_| true);
        if slot.last == now {
            return;
        }
        if slot.last != 0 {
            slot.last = now;
            self.chunk.push(slot.term);
            return;
        }
        *slot = Slot {
            key: word,
            term: number(next),
            last: now,
        };
        self.short.grow(|word| word.hash(seed));
        self.add(term);
    }

    fn touch_long(&mut self, term: &[u8]) {
        let (now, next) = (self.chunks + 1, self.starts.len());
        let hash = token::hash_exact(term, self.seed);
        let (text, starts) = (&self.text, &self.starts);
        let is_it = |number: u32| {
            let start = starts.get(number as usize).copied();
            start.is_some_and(|start| is_at(text, start, term))
        };
        let slot = self.long.slot(hash, hash, is_it);
        if slot.last == now {
            return;
        }
        if slot.last != 0 {
            slot.last = now;
            self.chunk.push(slot.term);
            return;
        }
        *slot = Slot {
            key: hash,
            term: number(next),
            last: now,
        };
        self.long.grow(|hash| hash);
        self.add(term);
    }

    /// Takes a term that did not come before.
    fn add(&mut self, term: &[u8]) {
        self.chunk.push(number(self.starts.len()));
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

    /// Appends the terms as a dictionary.
    #[expect(
        clippy::indexing_slicing,
        reason = "terms are numbered without gaps, and lists hold numbers that were given"
    )]
    fn finish(self, out: &mut Vec<u8>) -> Result<()> {
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
        let term_of = |term: u32| {
            let next = self.starts.get(term as usize + 1);
            let end = next.map_or(self.text.len(), |&next| next as usize);
            &self.text[self.starts[term as usize] as usize..end - 1]
        };
        // Mostly the first bytes tell which of two terms is less.
        let numbers = 0..number(terms);
        let mut order: Vec<(u64, u32)> = numbers.map(|term| (head(term_of(term)), term)).collect();
        order.sort_unstable_by(|(head, term), (other, another)| {
            let by_head = head.cmp(other);
            by_head.then_with(|| term_of(*term).cmp(term_of(*another)))
        });
        let mut writer = DictionaryWriter::new(self.chunks);
        for (_, term) in order {
            let range = places[term as usize] as usize..places[term as usize + 1] as usize;
            writer.push(term_of(term), &chunks[range])?;
        }
        writer.finish(out)
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

/// The section for the first chunks of a block, as many as both were given.
pub(crate) fn write(words: Terms, fields: Terms) -> Result<Vec<u8>> {
    debug_assert_eq!(words.chunks, fields.chunks, "chunks end for both");
    let mut out = Vec::new();
    put_u32(&mut out, VERSION);
    put_u32(&mut out, words.chunks);
    words.finish(&mut out)?;
    fields.finish(&mut out)?;
    Ok(out)
}

/// The section, read in place.
#[derive(Debug)]
pub(crate) struct Words {
    /// Words of lines.
    pub(crate) words: Dictionary,
    /// `name=value` of structured metadata.
    pub(crate) fields: Dictionary,
}

impl Words {
    /// Reads the headers of the section, which is about this many chunks.
    ///
    /// # Errors
    /// [`Kind::Corrupt`], [`Kind::Unsupported`] for another version.
    pub(crate) fn open(name: &str, bytes: &Bytes, chunks: u32) -> Result<Self> {
        let mut reader = Reader::new(name, bytes);
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{name} has words of version {version}, this program reads {VERSION}"),
            ));
        }
        if reader.u32()? != chunks {
            return Err(reader.corrupt("the words are not of as many chunks as the filters say"));
        }
        let (words, rest) = Dictionary::open(name, &bytes.slice(HEADER..), chunks)?;
        let (fields, rest) = Dictionary::open(name, &rest, chunks)?;
        if !rest.is_empty() {
            return Err(Error::corrupt(
                name,
                (bytes.len() - rest.len()) as u64,
                "bytes follow the dictionaries",
            ));
        }
        Ok(Self { words, fields })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`Kind::Corrupt`].
    pub(crate) fn verify(&self) -> Result<()> {
        self.words.verify()?;
        self.fields.verify()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;
    use roaring::RoaringBitmap;

    fn section(chunks: &[(&[&str], &[&str])]) -> Vec<u8> {
        let (mut words, mut fields) = (Terms::default(), Terms::default());
        for (of_words, of_fields) in chunks {
            for (terms, all) in [(&mut words, of_words), (&mut fields, of_fields)] {
                for term in *all {
                    terms.touch(term.as_bytes());
                }
                terms.end_chunk();
            }
        }
        write(words, fields).unwrap()
    }

    fn list(chunks: &RoaringBitmap) -> Vec<u32> {
        chunks.iter().collect()
    }

    /// The bytes written down in FORMAT.md, "Words".
    #[test]
    fn golden_section() {
        let mut expected = vec![1, 0, 0, 0, 3, 0, 0, 0];
        expected.extend([2, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"\na\nb\n");
        expected.extend([2, 2, 1, 7]);
        expected.extend([1, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"\nk=v\n");
        expected.extend([2, 1]);
        let chunks: [(&[&str], &[&str]); 3] =
            [(&["b", "b"], &[]), (&["b"], &["k=v"]), (&["b", "a"], &[])];
        let written = section(&chunks);
        assert_eq!(written, expected);
        let words = Words::open("test", &written.into(), 3).unwrap();
        words.verify().unwrap();
        assert_eq!(list(&words.fields.exact(b"k=v").unwrap()), [1]);
    }

    /// Thousands of terms over a hundred chunks: chunk `c` has the multiples of `c + 1`.
    #[test]
    fn terms_are_found_by_every_part() {
        let numbers: Vec<String> = (0..5_000).map(|i| format!("w{i:04}")).collect();
        let of = |chunk: usize| -> Vec<&str> {
            let multiples = numbers.iter().step_by(chunk + 1);
            multiples.map(String::as_str).collect()
        };
        let all: Vec<Vec<&str>> = (0..100).map(of).collect();
        let chunks: Vec<(&[&str], &[&str])> = all.iter().map(|of| (&of[..], &[][..])).collect();
        let written = Bytes::from(section(&chunks));
        let words = Words::open("test", &written, 100).unwrap().words;
        words.verify().unwrap();
        let expected = |hit: &dyn Fn(&str) -> bool| -> Vec<u32> {
            let has = |of: &Vec<&str>| of.iter().any(|word| hit(word));
            (0..)
                .zip(&all)
                .filter(|(_, of)| has(of))
                .map(|(c, _)| c)
                .collect()
        };
        let none = RoaringBitmap::full();
        for part in [
            "w0000", "w0001", "w0031", "w0032", "w4999", "w5000", "a", "x", "w00320",
        ] {
            let found = words.exact(part.as_bytes()).unwrap();
            assert_eq!(list(&found), expected(&|word| word == part), "{part}");
        }
        for part in ["w003", "w0097", "w499", "w5", "a", "x", "w"] {
            let found = words.prefix(part.as_bytes()).unwrap();
            let found = found.map(|found| list(&found));
            let all = expected(&|word| word.starts_with(part));
            assert_eq!(found, (part != "w").then_some(all), "{part}");
        }
        for (part, left, right) in [
            ("0097", true, false),
            ("097", true, true),
            ("w0097", false, false),
            ("w009", false, true),
            ("99", true, true),
            ("x", true, true),
        ] {
            for fold in [false, true] {
                let pattern = Pattern::new(part.as_bytes(), left, right, fold).unwrap();
                let found = words.matching(&pattern, &none).unwrap().unwrap();
                let hit = |word: &str| match (left, right) {
                    (true, true) => word.contains(part),
                    (true, false) => word.ends_with(part),
                    (false, true) => word.starts_with(part),
                    (false, false) => word == part,
                };
                assert_eq!(list(&found), expected(&hit), "{part} {left} {right} {fold}");
            }
        }
        let pattern = Pattern::new(b"w", true, true, false).unwrap();
        assert_eq!(words.matching(&pattern, &none).unwrap(), None, "too many");
        let enough: RoaringBitmap = (0..100).collect();
        let pattern = Pattern::new(b"0", true, true, false).unwrap();
        assert_eq!(
            words.matching(&pattern, &enough).unwrap(),
            None,
            "all of them"
        );
    }

    #[test]
    fn damage_is_corrupt_or_harmless() {
        let chunks: [(&[&str], &[&str]); 2] = [(&["ab", "cd", "e"], &["k=v"]), (&["cd"], &[])];
        let good = section(&chunks);
        let pattern = Pattern::new(b"d", true, true, false).unwrap();
        for cut in 0..good.len() {
            let bytes = Bytes::copy_from_slice(&good[..cut]);
            let error = Words::open("test", &bytes, 2).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{cut}");
        }
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let Ok(words) = Words::open("test", &bytes.into(), 2) else {
                    continue;
                };
                words.verify().ok();
                for dictionary in [words.words, words.fields] {
                    dictionary.exact(b"cd").ok();
                    dictionary.prefix(b"c").ok();
                    dictionary.matching(&pattern, &RoaringBitmap::full()).ok();
                }
            }
        }
        assert!(Words::open("test", &good.clone().into(), 3).is_err());
        let mut newer = good;
        newer[0] = 2;
        let error = Words::open("test", &newer.into(), 2).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    }
}
