//! Sets of structured metadata, one after the other in one piece of memory: what a batch and a page
//! of the buffer hold of them, what a chunk of a block decodes to. Usual senders give every line a
//! set of its own (a trace id), so that a set must cost little more than its bytes.

use hashbrown::HashTable;
use trine_storage::labels::hash_encoded;
use trine_storage::{Labels, Result};

/// Sets by code; the code 0 is the empty set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sets {
    /// [`Labels::encoded`] of each.
    blob: Vec<u8>,
    /// Where the set of the codes from 1 on end in `blob`.
    ends: Vec<u32>,
}

impl Sets {
    /// How many there are besides the empty set; the largest code.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The encoding of a set; empty for a code that there is not.
    pub(crate) fn encoded(&self, code: u32) -> &[u8] {
        let place = (code as usize).checked_sub(1);
        let Some(&end) = place.and_then(|place| self.ends.get(place)) else {
            return &[];
        };
        let before = place.and_then(|place| self.ends.get(place.checked_sub(1)?));
        let start = before.copied().unwrap_or(0) as usize;
        self.blob.get(start..end as usize).unwrap_or_default()
    }

    /// A set as labels; the empty set for a code that there is not.
    pub(crate) fn labels(&self, code: u32) -> Labels {
        Labels::from_encoded(self.encoded(code)).unwrap_or_default()
    }

    /// Adds an encoded set of another piece of memory and gives its code. The caller keeps all sets
    /// below 4 GiB.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when it is none.
    pub(crate) fn push_encoded(&mut self, encoded: &[u8]) -> Result<u32> {
        Labels::check_encoded(encoded)?;
        Ok(self.push_valid(encoded))
    }

    #[cfg(test)]
    pub(crate) fn push(&mut self, labels: &Labels) -> u32 {
        self.push_valid(labels.encoded())
    }

    /// Sets in the order of their codes, the first of which is the empty set.
    #[cfg(test)]
    pub(crate) fn of(labels: &[Labels]) -> Self {
        let mut sets = Self::default();
        for labels in labels.iter().skip(1) {
            sets.push(labels);
        }
        sets
    }

    fn push_valid(&mut self, encoded: &[u8]) -> u32 {
        self.blob.extend_from_slice(encoded);
        let end = u32::try_from(self.blob.len()).expect("owners bound the sets far below");
        self.ends.push(end);
        u32::try_from(self.ends.len()).expect("there are fewer sets than bytes")
    }

    /// The encodings by code, from code 1 on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (1u32..).take(self.len()).map(|code| self.encoded(code))
    }

    /// Bytes of all encodings.
    pub(crate) fn bytes(&self) -> usize {
        self.blob.len()
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.blob.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    pub(crate) fn clear(&mut self) {
        self.blob.clear();
        self.ends.clear();
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.blob.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

/// Finds the codes of sets that are there already.
#[derive(Debug, Default)]
pub(crate) struct SetCodes {
    codes: HashTable<u32>,
    /// The code that was asked for last: mostly it is asked for again.
    last: u32,
}

impl SetCodes {
    /// The code of an encoded set in `sets`, to which it is added when it is new.
    pub(crate) fn code(&mut self, sets: &mut Sets, encoded: &[u8]) -> u32 {
        if encoded == sets.encoded(self.last) {
            return self.last;
        }
        if encoded.is_empty() {
            return 0;
        }
        let hash = hash_encoded(encoded);
        let same = |&code: &u32| sets.encoded(code) == encoded;
        self.last = match self.codes.find(hash, same) {
            Some(&code) => code,
            None => {
                let code = sets.push_valid(encoded);
                let rehash = |&code: &u32| hash_encoded(sets.encoded(code));
                self.codes.insert_unique(hash, code, rehash);
                code
            }
        };
        self.last
    }

    pub(crate) fn clear(&mut self) {
        self.codes.clear();
        self.last = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_one_code_each_and_come_back() {
        let labels = |value: &str| Labels::from_pairs([("k", value)]).unwrap();
        let (mut sets, mut codes) = (Sets::default(), SetCodes::default());
        let mut code = |set: &Labels| codes.code(&mut sets, set.encoded());
        let (a, b) = (labels("a"), labels("b"));
        assert_eq!(code(&Labels::empty()), 0);
        assert_eq!([&a, &a, &b, &a].map(&mut code), [1, 1, 2, 1]);
        assert_eq!(code(&Labels::empty()), 0);
        for n in 0..1_000 {
            assert_eq!(code(&labels(&n.to_string())), n + 3);
        }
        assert_eq!((sets.len(), sets.labels(2)), (1_002, b));
        assert_eq!(sets.labels(0), Labels::empty());
        assert_eq!(sets.labels(1_003), Labels::empty());
        assert_eq!(sets.iter().next(), Some(a.encoded()));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let mut sets = Sets::default();
        assert!(sets.push_encoded(b"\x01a\x01").is_err());
        assert_eq!(sets.len(), 0);
        assert_eq!(sets.push_encoded(b"\x01a\x01b").unwrap(), 1);
    }
}
