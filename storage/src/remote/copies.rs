//! Which local copies of shipped blocks are more than the disk may hold, and for which others there is
//! room, over all stores of a process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::markers::StoreName;
use crate::depot::LocalCopy;
use crate::ulid::BlockId;

/// What a store's copies come down to when they are too many, percent of the budget.
const DOWN_TO_PERCENT: u64 = 95;

/// A copy that was read within this time is in use: it does not go for one that is fetched. What is read
/// in turn and does not fit then stays as it is, instead of being fetched and let go in circles.
const IN_USE_MS: i64 = 1_800_000;
/// After the disk was full no copy is fetched for so long: it would fill it again.
const FULL_REST_MS: i64 = 3_600_000;

/// The copies of all stores, as each told them last.
#[derive(Debug)]
pub(super) struct Copies {
    bytes_max: u64,
    state: Mutex<State>,
}

/// Local copies of shipped blocks, of all stores of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopiesStats {
    /// Bytes of all.
    pub bytes: u64,
    /// Copies that were told to go so far.
    pub evicted: u64,
    /// Copies that were fetched so far because the blocks were read much.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    stores: BTreeMap<StoreName, Vec<LocalCopy>>,
    surplus: u64,
    /// Those that are to keep none.
    hungry: BTreeSet<StoreName>,
    is_fetching: bool,
    /// When the disk was full last, milliseconds since 1970.
    full_ms: Option<i64>,
    /// Copies that were fetched so far, and their bytes.
    fetched: (u64, u64),
}

/// Room for a copy that is being fetched. While it is held no other is let in.
pub(super) struct Room(Arc<Copies>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.state.lock().is_fetching = false;
    }
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
        let enough = self.enough();
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

    /// Room for a copy of a block that is read from far away, when all copies that are in use, or were
    /// read as lately as the block, stay; nothing while another is fetched, while there are too many
    /// copies, or after the disk was full.
    pub(super) fn admit(self: &Arc<Self>, copy: &LocalCopy, now_ms: i64) -> Option<Room> {
        let mut state = self.state.lock();
        let since = |ms: i64| now_ms.saturating_sub(ms);
        let was_full = state.full_ms.is_some_and(|ms| since(ms) < FULL_REST_MS);
        if state.is_fetching || was_full || state.bytes() > self.bytes_max {
            return None;
        }
        let stays =
            |held: &&LocalCopy| since(held.used_ms) <= IN_USE_MS || held.used_ms >= copy.used_ms;
        let staying = state.stores.values().flatten().filter(stays);
        let bytes = staying.fold(copy.bytes, |sum, held| sum.saturating_add(held.bytes));
        if bytes > self.enough() {
            return None;
        }
        state.is_fetching = true;
        Some(Room(Arc::clone(self)))
    }

    /// Told that a copy was fetched.
    pub(super) fn fetched(&self, bytes: u64) {
        let (copies, sum) = &mut self.state.lock().fetched;
        *copies += 1;
        *sum += bytes;
    }

    /// Has every store keep none when it next asks: the disk is full.
    pub(super) fn make_room(&self, now_ms: i64) {
        let state = &mut *self.state.lock();
        state.hungry = state.stores.keys().cloned().collect();
        state.full_ms = Some(now_ms);
    }

    /// Has no copy fetched for a while: the disk is full.
    pub(super) fn rest(&self, now_ms: i64) {
        self.state.lock().full_ms = Some(now_ms);
    }

    /// Figures.
    pub(super) fn now(&self) -> CopiesStats {
        let state = self.state.lock();
        let (fetched, fetched_bytes) = state.fetched;
        CopiesStats {
            bytes: state.bytes(),
            evicted: state.surplus,
            fetched,
            fetched_bytes,
        }
    }

    fn enough(&self) -> u64 {
        self.bytes_max / 100 * DOWN_TO_PERCENT
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let copies = self.stores.values().flatten();
        copies.fold(0, |sum, copy| sum.saturating_add(copy.bytes))
    }
}

#[cfg(test)]
mod tests;
