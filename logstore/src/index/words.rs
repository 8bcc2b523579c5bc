//! The section WORDS of compacted blocks: which chunks have which words, and which fields with
//! which values. Called by the token index.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;
use trine_storage::codec::{Reader, put_u32, put_varint};
use trine_storage::{Error, Kind, Result};

use super::dictionary::{Dictionary, DictionaryWriter};

const VERSION: u32 = 1;
const HEADER: usize = 8;

/// Terms of a block as they come, each kept once, with the chunks that have it.
#[derive(Debug)]
pub(crate) struct Terms {
    /// A power of two of them, at most three quarters taken.
    slots: Vec<Slot>,
    /// The terms, with a newline behind each.
    text: Vec<u8>,
    /// Where each term begins in the text.
    starts: Vec<u32>,
    /// The terms of the chunk at hand.
    chunk: Vec<u32>,
    /// For each chunk how many terms it has, then the differences of their ascending numbers.
    lists: Vec<u8>,
    chunks: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The upper half of the hash.
    tag: u32,
    /// Where the term begins in the text.
    start: u32,
    /// The number of the term.
    term: u32,
    /// The chunk that had it last, plus 1; 0 for an empty slot.
    last: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); 1 << 10],
            text: Vec::new(),
            starts: Vec::new(),
            chunk: Vec::new(),
            lists: Vec::new(),
            chunks: 0,
        }
    }
}

impl Terms {
    /// Bytes of the terms so far.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Adds a term of the chunk at hand. The caller keeps all terms together below 4 GiB.
    #[expect(
        clippy::indexing_slicing,
        reason = "the mask keeps places below the length of the table"
    )]
    pub(crate) fn touch(&mut self, term: &[u8], hash: u64) {
        let tag = u32::try_from(hash >> 32).unwrap_or(u32::MAX);
        let mask = self.slots.len() - 1;
        let now = self.chunks + 1;
        let mut place = usize::try_from(hash & mask as u64).unwrap_or(0);
        loop {
            let slot = &mut self.slots[place];
            if slot.last == 0 {
                break;
            }
            if slot.tag == tag && is_at(&self.text, slot.start, term) {
                if slot.last != now {
                    slot.last = now;
                    self.chunk.push(slot.term);
                }
                return;
            }
            place = (place + 1) & mask;
        }
        let number = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.slots[place] = Slot {
            tag,
            start,
            term: number,
            last: now,
        };
        self.text.extend_from_slice(term);
        self.text.push(b'\n');
        self.starts.push(start);
        self.chunk.push(number);
        if self.starts.len() * 4 > self.slots.len() * 3 {
            self.grow();
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the mask keeps places below the length of the table"
    )]
    fn grow(&mut self) {
        let slots = vec![Slot::default(); self.slots.len() * 4];
        let old = std::mem::replace(&mut self.slots, slots);
        let mask = self.slots.len() - 1;
        for slot in old.into_iter().filter(|slot| slot.last != 0) {
            let hash = super::token::hash_exact(term_at(&self.text, slot.start));
            let mut place = usize::try_from(hash & mask as u64).unwrap_or(0);
            while self.slots[place].last != 0 {
                place = (place + 1) & mask;
            }
            self.slots[place] = slot;
        }
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
        let mut order: Vec<u32> = (0..u32::try_from(terms).unwrap_or(u32::MAX)).collect();
        let term_of = |term: u32| term_at(&self.text, self.starts[term as usize]);
        order.sort_unstable_by_key(|&term| term_of(term));
        let mut writer = DictionaryWriter::new(self.chunks);
        for term in order {
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

/// Whether this term begins at this place of the text.
fn is_at(text: &[u8], start: u32, term: &[u8]) -> bool {
    let rest = usize::try_from(start).ok().and_then(|at| text.get(at..));
    let rest = rest.and_then(|rest| rest.strip_prefix(term));
    rest.and_then(<[u8]>::first) == Some(&b'\n')
}

fn term_at(text: &[u8], start: u32) -> &[u8] {
    let rest = usize::try_from(start).ok().and_then(|at| text.get(at..));
    let rest = rest.unwrap_or_default();
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
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
    use super::super::token::hash_exact;
    use super::*;
    use roaring::RoaringBitmap;

    fn section(chunks: &[(&[&str], &[&str])]) -> Vec<u8> {
        let (mut words, mut fields) = (Terms::default(), Terms::default());
        for (of_words, of_fields) in chunks {
            for (terms, all) in [(&mut words, of_words), (&mut fields, of_fields)] {
                for term in *all {
                    terms.touch(term.as_bytes(), hash_exact(term.as_bytes()));
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
