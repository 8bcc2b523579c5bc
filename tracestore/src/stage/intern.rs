//! Text that is kept once: a table from byte strings to their places in `Texts`. The columns, keys,
//! resources and scopes of a stage are found with it.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::block::values::{Texts, Values};

/// A column with more distinct values than this goes on without a dictionary when more than half
/// of its values are distinct.
const DISTINCT_MAX: usize = 65_536;

/// What an entry of a table takes, about: slots are between half and seven eighths full.
const ENTRY_BYTES: u64 = 12;

/// Finds the entries of a dictionary.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The upper half of the hash, and the place of the entry.
    entries: HashTable<(u32, u32)>,
}

impl Index {
    /// The place of `text` in `dictionary`, to which it is added if it is not there.
    #[inline]
    pub(crate) fn place(&mut self, dictionary: &mut Texts, text: &[u8]) -> u32 {
        let tag = (xxh3_64(text) >> 32) as u32;
        let same =
            |&(held, place): &(u32, u32)| held == tag && dictionary.get(place as usize) == text;
        if let Some(&(_, place)) = self.entries.find(spread(tag), same) {
            return place;
        }
        let place = dictionary.len() as u32;
        dictionary.push(text);
        self.entries
            .insert_unique(spread(tag), (tag, place), |entry| spread(entry.0));
        place
    }

    /// A column of these values with a dictionary, whose entries this finds.
    pub(super) fn coded(&mut self, texts: &Texts) -> Values {
        let mut values = no_text();
        for text in texts.iter() {
            self.push(&mut values, text);
        }
        values
    }

    /// Appends a value to a column whose dictionary this finds the entries of. Gives how many bytes
    /// it takes, about.
    #[inline]
    pub(super) fn push(&mut self, values: &mut Values, text: &[u8]) -> u64 {
        let (codes, dictionary) = match values {
            Values::Coded { codes, dictionary } => (codes, dictionary),
            Values::Plain(texts) => {
                texts.push(text);
                return (text.len() + size_of::<usize>()) as u64;
            }
            Values::Numbers(_) => return 0,
        };
        // Often a value is the one before.
        if let Some(&last) = codes.last()
            && is_same(dictionary.get(last as usize), text)
        {
            codes.push(last);
            return size_of::<u32>() as u64;
        }
        let known = dictionary.len();
        codes.push(self.place(dictionary, text));
        if dictionary.len() == known {
            return size_of::<u32>() as u64;
        }
        if dictionary.len() > DISTINCT_MAX && dictionary.len() > codes.len() / 2 {
            *values = expanded(codes, dictionary);
            self.entries = HashTable::new();
        }
        (text.len() + size_of::<usize>() + size_of::<u32>()) as u64 + ENTRY_BYTES
    }
}

/// Whether two byte strings are the same, without a call for short ones.
#[inline]
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        0..4 => a.iter().zip(b).all(|(a, b)| a == b),
        4..8 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        17..=32 => {
            a.first_chunk::<16>() == b.first_chunk() && a.last_chunk::<16>() == b.last_chunk()
        }
        _ => a == b,
    }
}

/// A hash for the table, which takes its upper and its lower bits.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A column of text in order of arrival.
#[derive(Debug)]
pub(crate) struct Interned {
    /// The values, by dictionary for as long as that is worth it.
    pub(crate) values: Values,
    index: Index,
}

impl Default for Interned {
    fn default() -> Self {
        Self {
            values: no_text(),
            index: Index::default(),
        }
    }
}

impl Interned {
    /// Appends a value. Gives how many bytes it takes, about.
    #[inline]
    pub(super) fn push(&mut self, text: &[u8]) -> u64 {
        self.index.push(&mut self.values, text)
    }
}

/// An empty column of text.
fn no_text() -> Values {
    Values::Coded {
        codes: Vec::new(),
        dictionary: Texts::default(),
    }
}

/// The values of a column by dictionary, without it.
#[cold]
fn expanded(codes: &[u32], dictionary: &Texts) -> Values {
    let mut texts = Texts::default();
    for &code in codes {
        texts.push(dictionary.get(code as usize));
    }
    Values::Plain(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(values: &Values, at: usize) -> &[u8] {
        match values {
            Values::Coded { codes, dictionary } => dictionary.get(codes[at] as usize),
            Values::Plain(texts) => texts.get(at),
            Values::Numbers(_) => panic!("numbers"),
        }
    }

    #[test]
    fn a_byte_that_differs_is_seen_wherever_it_is() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..text.len() {
            let text = &text[..len];
            assert!(is_same(text, text) && !is_same(text, &[text, &[0]].concat()));
            for at in 0..len {
                let mut other = text.to_owned();
                other[at] ^= 1;
                assert!(!is_same(text, &other), "{at} of {len}");
            }
        }
    }

    #[test]
    fn equal_values_are_kept_once() {
        let mut column = Interned::default();
        for text in ["a", "a", "", "b", "a", ""] {
            column.push(text.as_bytes());
        }
        let Values::Coded { codes, dictionary } = &column.values else {
            panic!("no dictionary");
        };
        assert_eq!(codes, &[0, 0, 1, 2, 0, 1]);
        assert!(dictionary.iter().eq([&b"a"[..], b"", b"b"]));
    }

    #[test]
    fn a_dictionary_is_given_up_past_its_limit_when_it_saves_little() {
        let texts: Vec<String> = (0..=DISTINCT_MAX).map(|n| n.to_string()).collect();
        let mut column = Interned::default();
        for text in &texts[..DISTINCT_MAX] {
            column.push(text.as_bytes());
        }
        assert!(matches!(column.values, Values::Coded { .. }));
        column.push(texts[DISTINCT_MAX].as_bytes());
        assert!(matches!(column.values, Values::Plain(_)));
        column.push(b"0");
        assert_eq!(column.values.len(), DISTINCT_MAX + 2);
        for at in [0, 1, DISTINCT_MAX] {
            assert_eq!(get(&column.values, at), texts[at].as_bytes());
        }
        assert_eq!(get(&column.values, DISTINCT_MAX + 1), b"0");

        let mut column = Interned::default();
        for text in texts.iter().flat_map(|text| [text, text, &texts[0]]) {
            column.push(text.as_bytes());
        }
        assert!(
            matches!(column.values, Values::Coded { .. }),
            "a third is distinct"
        );
    }
}
