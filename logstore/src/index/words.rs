//! The section WORDS of compacted blocks: which chunks have which words, and which fields with
//! which values. Called by the token index.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;
use trine_storage::codec::{Reader, put_u32};
use trine_storage::{Error, Kind, Result};

use super::dictionary::Dictionary;
use super::terms::{Taken, Terms};

const VERSION: u32 = 1;
const HEADER: usize = 8;

/// The section for the first chunks of a block, as many as both were given. `taken` are sections
/// of other blocks with what became of their chunks.
///
/// # Errors
/// As [`Terms::write`].
pub(crate) fn write(words: Terms, fields: Terms, taken: &[(&Words, &[u32])]) -> Result<Vec<u8>> {
    debug_assert_eq!(words.chunks(), fields.chunks(), "chunks end for both");
    let mut out = Vec::new();
    put_u32(&mut out, VERSION);
    put_u32(&mut out, words.chunks());
    let of = |which: fn(&Words) -> &Dictionary| -> Vec<Taken<'_>> {
        let taken = taken.iter().map(|&(from, chunks)| Taken {
            dictionary: which(from),
            chunks,
        });
        taken.collect()
    };
    words.write(&of(|from| &from.words), &mut out)?;
    fields.write(&of(|from| &from.fields), &mut out)?;
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

    /// Bytes of both.
    pub(crate) fn bytes(&self) -> usize {
        self.words.bytes() + self.fields.bytes()
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
        write(words, fields, &[]).unwrap()
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
