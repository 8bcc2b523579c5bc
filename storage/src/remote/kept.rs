//! How much of remote blocks the readers of all stores of a process may keep in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::markers::StoreName;
use crate::clock::Clock;

/// A store that has told nothing for this long is closed, and keeps nothing.
const TOLD_NS_MAX: u64 = 120_000_000_000;

/// What the readers of all stores keep, as each store told it last.
#[derive(Debug)]
pub(super) struct Kept {
    bytes_max: u64,
    clock: Arc<dyn Clock>,
    stores: Mutex<BTreeMap<StoreName, Told>>,
}

#[derive(Debug)]
struct Told {
    bytes: u64,
    at_ns: u64,
}

impl Kept {
    pub(super) fn new(bytes_max: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            bytes_max,
            clock,
            stores: Mutex::default(),
        }
    }

    /// How many bytes the readers of a store may go on to keep, told how many they do: all of them
    /// while those of all stores fit, and then each store the same part of what it has.
    pub(super) fn share(&self, store: &StoreName, bytes: u64) -> u64 {
        let at_ns = self.clock.monotonic_ns();
        let mut stores = self.stores.lock();
        stores.insert(store.clone(), Told { bytes, at_ns });
        stores.retain(|_, told| at_ns.saturating_sub(told.at_ns) <= TOLD_NS_MAX);
        let all = stores.values().map(|told| told.bytes);
        let all = all.fold(0, u64::saturating_add);
        if all <= self.bytes_max {
            return bytes;
        }
        let share = u128::from(self.bytes_max) * u128::from(bytes) / u128::from(all.max(1));
        // The next one to ask finds what this one is about to let go gone.
        let share = u64::try_from(share).unwrap_or(bytes);
        stores.insert(
            store.clone(),
            Told {
                bytes: share,
                at_ns,
            },
        );
        share
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn all_stores_together_come_down_to_one_bound() {
        let clock = Arc::new(ManualClock::new(0));
        let kept = Kept::new(1_000, Arc::clone(&clock) as Arc<dyn Clock>);
        let store = |number: u64| StoreName::new(&format!("t{number}"), "logs");
        // One that is read has all of it.
        assert_eq!(kept.share(&store(0), 1_000), 1_000);
        assert_eq!(kept.share(&store(0), 3_000), 1_000);
        // However many there are, what all keep after a few rounds is what all may.
        let mut keep: Vec<u64> = (0..30).map(|number| number * 100).collect();
        for _ in 0..20 {
            for (number, bytes) in (0..).zip(&mut keep) {
                *bytes = kept.share(&store(number), *bytes).min(*bytes);
            }
        }
        let all: u64 = keep.iter().sum();
        assert!((800..=1_000).contains(&all), "{all}: {keep:?}");
        assert!(keep[1..].iter().all(|bytes| *bytes > 0), "{keep:?}");
        // What is closed leaves its part to the others.
        clock.advance(Duration::from_secs(121));
        assert_eq!(kept.share(&store(1), 800), 800);
    }

    #[test]
    fn a_bound_of_nothing_leaves_nothing() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
        let kept = Kept::new(0, clock);
        let store = StoreName::new("t", "logs");
        assert_eq!((kept.share(&store, 0), kept.share(&store, 7)), (0, 0));
    }
}
