//! Sides of edges that wait for the other one, by the span that both have in common and by when they
//! stop to wait. `service_graphs` puts them in and takes them out.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use trine_tracestore::{SpanId, TraceId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A span of the client, by its trace: all zero for who is not the child of any.
pub(super) type Place = (TraceId, SpanId);

/// How many entries of the queue may be of edges that are gone, beside as many as wait.
const GONE_MAX: usize = 1024;

/// What waits.
#[derive(Debug)]
pub(super) struct Waiting<E> {
    table: HashTable<(Place, i64, E)>,
    /// Everything that waits in the order in which it stops to; some entries are of what is gone.
    queue: VecDeque<(i64, Place)>,
    /// Ids are whatever senders like, so that where they lie must not be known to them.
    seed: u64,
}

impl<E> Default for Waiting<E> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            queue: VecDeque::new(),
            seed: RandomState::new().hash_one(0),
        }
    }
}

fn hash((trace, span): &Place, seed: u64) -> u64 {
    let mut bytes = [0; size_of::<Place>()];
    let (first, last) = bytes.split_at_mut(trace.len());
    first.copy_from_slice(trace);
    last.copy_from_slice(span);
    xxh3_64_with_seed(&bytes, seed)
}

impl<E> Waiting<E> {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes what waits at a place, and until when it does, milliseconds since 1970.
    pub(super) fn take(&mut self, place: &Place) -> Option<(i64, E)> {
        let hash = hash(place, self.seed);
        let found = self.table.find_entry(hash, |(held, ..)| held == place);
        let ((_, until_ms, edge), _) = found.ok()?.remove();
        Some((until_ms, edge))
    }

    /// Lets something wait that was not there before. Times must not fall from one to the next.
    pub(super) fn wait(&mut self, place: Place, until_ms: i64, edge: E) {
        if self.queue.len() > 2 * self.table.len() + GONE_MAX {
            let mut queue = std::mem::take(&mut self.queue);
            queue.retain(|(until_ms, place)| self.until(place) == Some(*until_ms));
            self.queue = queue;
        }
        self.queue.push_back((until_ms, place));
        self.put_back(place, until_ms, edge);
    }

    /// Puts back what was taken.
    pub(super) fn put_back(&mut self, place: Place, until_ms: i64, edge: E) {
        let seed = self.seed;
        let entry = (place, until_ms, edge);
        self.table
            .insert_unique(hash(&place, seed), entry, |(held, ..)| hash(held, seed));
    }

    fn until(&self, place: &Place) -> Option<i64> {
        let hash = hash(place, self.seed);
        let found = self.table.find(hash, |(held, ..)| held == place);
        found.map(|(_, until_ms, _)| *until_ms)
    }

    /// Takes something that has waited until now, if there is.
    pub(super) fn take_expired(&mut self, now_ms: i64) -> Option<(Place, E)> {
        loop {
            let (until_ms, place) = *self.queue.front()?;
            if until_ms > now_ms {
                return None;
            }
            self.queue.pop_front();
            // Something else may wait at the same place, for longer.
            if self.until(&place) == Some(until_ms) {
                return self.take(&place).map(|(_, edge)| (place, edge));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u64) -> Place {
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&n.to_be_bytes());
        (trace, [1; 8])
    }

    #[test]
    fn what_waits_is_taken_once_or_expires_in_order() {
        let mut waiting = Waiting::default();
        for n in 0..4 {
            waiting.wait(place(n), 10 + n as i64, n);
        }
        assert_eq!(waiting.take(&place(1)), Some((11, 1)));
        assert_eq!(waiting.take(&place(1)), None);
        waiting.wait(place(1), 20, 100);
        assert_eq!(waiting.take_expired(9), None);
        assert_eq!(waiting.take_expired(12), Some((place(0), 0)));
        assert_eq!(waiting.take_expired(12), Some((place(2), 2)));
        assert_eq!(waiting.take_expired(12), None);
        assert_eq!(waiting.take_expired(20), Some((place(3), 3)));
        assert_eq!(waiting.take_expired(20), Some((place(1), 100)));
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn the_queue_does_not_grow_with_what_is_gone() {
        let mut waiting = Waiting::default();
        for n in 0..100_000 {
            waiting.wait(place(n), n as i64, n);
            if n % 100 != 0 {
                waiting.take(&place(n));
            }
            let max = 2 * waiting.len() + GONE_MAX + 2;
            assert!(waiting.queue.len() <= max, "{n}");
        }
        assert_eq!(waiting.len(), 1000);
        let expired = std::iter::from_fn(|| waiting.take_expired(i64::MAX));
        let expected: Vec<u64> = (0..1000).map(|n| n * 100).collect();
        assert_eq!(expired.map(|(_, n)| n).collect::<Vec<_>>(), expected);
    }
}
