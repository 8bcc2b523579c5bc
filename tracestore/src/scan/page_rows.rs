//! Rows of one page as bits. Conditions are evaluated with them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::block::table::PAGE_ROWS;

const WORDS: usize = PAGE_ROWS / 64;

/// Some rows of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageRows {
    words: [u64; WORDS],
}

impl PageRows {
    /// No rows.
    pub(crate) fn none() -> Self {
        Self { words: [0; WORDS] }
    }

    /// The first `count` rows.
    pub(crate) fn first(count: usize) -> Self {
        let mut rows = Self::none();
        for (at, word) in rows.words.iter_mut().enumerate() {
            *word = match count.saturating_sub(at * 64) {
                left @ 0..64 => (1 << left) - 1,
                _ => u64::MAX,
            };
        }
        rows
    }

    /// Adds a row.
    pub(crate) fn insert(&mut self, row: u32) {
        if let Some(word) = self.words.get_mut(row as usize / 64) {
            *word |= 1 << (row % 64);
        }
    }

    /// Adds rows from `from` up to `to`.
    pub(crate) fn insert_range(&mut self, from: u32, to: u32) {
        let (from, to) = (from as usize, to as usize);
        for (at, word) in self.words.iter_mut().enumerate().skip(from / 64) {
            let start = at * 64;
            if start >= to {
                break;
            }
            let below = |row: usize| match row.saturating_sub(start) {
                bits @ 0..64 => (1u64 << bits) - 1,
                _ => u64::MAX,
            };
            *word |= below(to) & !below(from);
        }
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, row: u32) {
        if let Some(word) = self.words.get_mut(row as usize / 64) {
            *word &= !(1 << (row % 64));
        }
    }

    /// Whether a row is among them.
    pub(crate) fn contains(&self, row: u32) -> bool {
        let word = self.words.get(row as usize / 64);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// The first of the rows from `from` on that is among them.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let first = from as usize / 64;
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in (from / 64..).zip(self.words.get(first..)?) {
            let left = word & mask;
            if left != 0 {
                return Some(at * 64 + left.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }

    /// Whether one of the rows from `from` up to `to` is among them.
    pub(crate) fn any_in(&self, from: u32, to: u32) -> bool {
        self.next(from).is_some_and(|row| row < to)
    }

    /// How many of the rows from `from` up to `to` are among them.
    pub(crate) fn count_in(&self, from: u32, to: u32) -> u64 {
        let mut asked = Self::none();
        asked.insert_range(from, to);
        asked.and(self);
        asked.len() as u64
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Keeps those that are in `other`, too.
    pub(crate) fn and(&mut self, other: &Self) {
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a &= b);
    }

    /// Adds those of `other`.
    pub(crate) fn or(&mut self, other: &Self) {
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a |= b);
    }

    /// Takes those of `other` out.
    pub(crate) fn without(&mut self, other: &Self) {
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a &= !b);
    }

    /// The rows in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.words).flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let row = (left != 0).then(|| at * 64 + left.trailing_zeros());
                left &= left.wrapping_sub(1);
                row
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_taken_out_and_listed() {
        for count in [0u32, 1, 63, 64, 65, 8191, 8192] {
            let rows = PageRows::first(count as usize);
            let told = (rows.len(), rows.is_empty());
            assert_eq!(told, (count as usize, count == 0));
            assert!(rows.iter().eq(0..count));
        }
        let mut rows = PageRows::none();
        rows.insert_range(60, 70);
        rows.insert_range(128, 192);
        rows.insert_range(5, 5);
        rows.insert_range(8190, 9000);
        rows.remove(64);
        assert!(
            rows.iter()
                .eq((60..64).chain(65..70).chain(128..192).chain(8190..8192))
        );
        assert!(rows.contains(60) && !rows.contains(64) && !rows.contains(9000));
        let counts = [(0, 64), (61, 66), (65, 65), (100, 9000)].map(|(a, b)| rows.count_in(a, b));
        assert_eq!(counts, [4, 4, 0, 66]);
        assert!(rows.any_in(0, 61) && !rows.any_in(0, 60) && !rows.any_in(64, 65));
        let mut others = PageRows::first(64);
        others.and(&rows);
        assert!(others.iter().eq(60..64));
        rows.without(&others);
        others.or(&PageRows::first(1));
        assert!(others.iter().eq([0, 60, 61, 62, 63]));
        assert_eq!(rows.len(), 5 + 64 + 2);
    }
}
