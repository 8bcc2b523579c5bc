//! Which entries a buffer has: a table of hashes and numbers of entries. `buffer` asks it for each
//! entry that is not newer than all of its stream.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Page;
use crate::columns::Columns;
use crate::sets::Sets;

/// Hashes of entries with the numbers of the entries.
#[derive(Debug)]
pub(super) struct Known {
    /// The upper half of the hash, and the number.
    entries: HashTable<(u32, u32)>,
}

impl Known {
    /// What an entry costs here, about: slots are between half and seven eighths full.
    pub(super) const ENTRY_BYTES: usize = 12;

    /// All entries of these pages.
    pub(super) fn of(full: &[Page], open: &Columns) -> Self {
        let pages = || full.iter().map(|page| &*page.columns).chain([open]);
        let rows = pages().map(Columns::rows).sum();
        let mut entries = HashTable::with_capacity(rows);
        let mut numbers = 0u32..;
        for page in pages() {
            let sets = set_hashes(&page.sets);
            for (row, number) in (0..page.rows()).zip(&mut numbers) {
                let set = sets[page.set_code(row) as usize];
                let hash = hash(page.timestamps[row], page.streams[row], page.line(row), set);
                let tag = tag(hash);
                entries.insert_unique(spread(tag), (tag, number), |entry| spread(entry.0));
            }
        }
        Self { entries }
    }

    /// Notes the entry `number`, unless `same` says of one with its hash that it is the same.
    pub(super) fn insert(&mut self, hash: u64, number: u32, same: impl Fn(u32) -> bool) -> bool {
        let tag = tag(hash);
        let is_same = |&(held, number): &(u32, u32)| held == tag && same(number);
        if self.entries.find(spread(tag), is_same).is_some() {
            return false;
        }
        let rehash = |entry: &(u32, u32)| spread(entry.0);
        self.entries
            .insert_unique(spread(tag), (tag, number), rehash);
        true
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * (size_of::<(u32, u32)>() + 1) / 7 * 8
    }
}

/// The hash of an entry.
pub(super) fn hash(timestamp: i64, stream: u32, line: &[u8], set_hash: u64) -> u64 {
    let seed = set_hash ^ timestamp.cast_unsigned().rotate_left(20) ^ u64::from(stream);
    xxh3_64_with_seed(line, seed)
}

/// The hashes of sets by code, the empty set's first.
pub(super) fn set_hashes(sets: &Sets) -> Vec<u64> {
    let of_set = |set| xxh3_64_with_seed(set, 0);
    [0].into_iter().chain(sets.iter().map(of_set)).collect()
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The table takes both ends of a hash, of which a tag has too few bits.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
