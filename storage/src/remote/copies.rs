//! Which local copies of shipped blocks are more than the disk may hold, over all stores of a process.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::markers::StoreName;
use crate::depot::LocalCopy;
use crate::ulid::BlockId;

/// What a store's copies come down to when they are too many, percent of the budget.
const DOWN_TO_PERCENT: u64 = 95;

/// The copies of all stores, as each told them last.
#[derive(Debug)]
pub(super) struct Copies {
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stores: BTreeMap<StoreName, Vec<LocalCopy>>,
    surplus: u64,
    /// Those that are to keep none.
    hungry: BTreeSet<StoreName>,
}

impl Copies {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
        }
    }

    /// Which of a store's copies have to go, told all of them: those that were read least recently
    /// of all stores, if all together are more than the budget.
    pub(super) fn surplus(&self, store: &StoreName, copies: &[LocalCopy]) -> Vec<BlockId> {
        let mut state = self.state.lock();
        state.stores.insert(store.clone(), copies.to_vec());
        if state.hungry.remove(store) {
            state.stores.remove(store);
            state.surplus += copies.len() as u64;
            return copies.iter().map(|copy| copy.id).collect();
        }
        let mut bytes = state.bytes();
        if bytes <= self.bytes_max {
            return Vec::new();
        }
        let enough = self.bytes_max / 100 * DOWN_TO_PERCENT;
        let mut oldest: Vec<(i64, BlockId, u64, bool)> = state
            .stores
            .iter()
            .flat_map(|(name, copies)| copies.iter().map(move |copy| (copy, name == store)))
            .map(|(copy, is_ours)| (copy.used_ms, copy.id, copy.bytes, is_ours))
            .collect();
        oldest.sort_unstable();
        let mut gone = BTreeSet::new();
        for (_, id, len, is_ours) in oldest {
            if bytes <= enough {
                break;
            }
            bytes = bytes.saturating_sub(len);
            if is_ours {
                gone.insert(id);
            }
        }
        // The others hear of theirs when they ask.
        if let Some(kept) = state.stores.get_mut(store) {
            kept.retain(|copy| !gone.contains(&copy.id));
        }
        state.surplus += gone.len() as u64;
        gone.into_iter().collect()
    }

    /// Has every store keep none when it next asks: the disk is full.
    pub(super) fn make_room(&self) {
        let state = &mut *self.state.lock();
        state.hungry = state.stores.keys().cloned().collect();
    }

    /// Bytes of all copies, and how many were told to go so far.
    pub(super) fn now(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.bytes(), state.surplus)
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let copies = self.stores.values().flatten();
        copies.fold(0, |sum, copy| sum.saturating_add(copy.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(id: u128, bytes: u64, used_ms: i64) -> LocalCopy {
        LocalCopy {
            id: BlockId::from_bits(id),
            bytes,
            used_ms,
        }
    }

    #[test]
    fn what_was_read_longest_ago_goes_whichever_store_has_it() {
        let copies = Copies::new(1000);
        let (a, b) = (StoreName::new("t", "logs"), StoreName::new("t", "traces"));
        let of_a = [copy(1, 300, 50), copy(2, 300, 10)];
        assert!(copies.surplus(&a, &of_a).is_empty());
        // 1,000 bytes fit, one more does not, and then it has to come down to 950.
        assert!(copies.surplus(&b, &[copy(3, 400, 20)]).is_empty());
        let of_b = [copy(3, 401, 20), copy(4, 1, 5)];
        // The oldest is of b, and is not enough; the next is of a.
        assert_eq!(copies.surplus(&b, &of_b), [BlockId::from_bits(4)]);
        assert_eq!(copies.surplus(&b, &of_b[..1]), []);
        assert_eq!(copies.surplus(&a, &of_a), [BlockId::from_bits(2)]);
        assert_eq!(copies.surplus(&a, &of_a[..1]), []);
        assert_eq!(copies.now(), (701, 2));
    }

    #[test]
    fn a_budget_of_nothing_leaves_nothing() {
        let copies = Copies::new(0);
        let store = StoreName::new("t", "logs");
        let all = [copy(1, 300, 50), copy(2, 300, 10)];
        assert_eq!(copies.surplus(&store, &all).len(), 2);
        assert_eq!(copies.now(), (0, 2));
    }

    #[test]
    fn a_full_disk_takes_the_copies_of_all_stores_once() {
        let copies = Copies::new(1000);
        let (a, b) = (StoreName::new("t", "logs"), StoreName::new("t", "traces"));
        assert_eq!(copies.surplus(&a, &[copy(1, 300, 50)]), []);
        assert_eq!(copies.surplus(&b, &[copy(2, 300, 50)]), []);
        copies.make_room();
        let gone = copies.surplus(&a, &[copy(1, 300, 50), copy(3, 1, 50)]);
        assert_eq!(gone, [BlockId::from_bits(1), BlockId::from_bits(3)]);
        assert_eq!(copies.surplus(&a, &[copy(4, 300, 50)]), []);
        assert_eq!(copies.surplus(&b, &[copy(2, 300, 50)]).len(), 1);
        assert_eq!(copies.now(), (300, 3));
    }
}
