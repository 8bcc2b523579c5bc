//! What one query reads of files that are not on this machine. Always here, so that whoever runs
//! queries needs to know nothing of object stores.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one query reads of remote files. Every thread that works for the query says so with
/// [`Cost::enter`]; what the thread reads until it drops the guard is counted.
#[derive(Debug, Default)]
pub struct Cost {
    requests: AtomicU64,
    bytes: AtomicU64,
    rounds: AtomicU64,
    depth: AtomicU64,
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
}

/// [`Cost`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests that were sent for it; one that had to be repeated counts once.
    pub requests: u64,
    /// Bytes that came for it.
    pub bytes: u64,
    /// Reads that had to wait for the store.
    pub rounds: u64,
    /// The longest chain of reads that had to wait one after another. Threads that work at the
    /// same time count once; where they begin one after another it is an upper bound.
    pub depth: u64,
    /// Pages that were in memory.
    pub memory_hits: u64,
    /// Pages that were on the local disk.
    pub disk_hits: u64,
    /// Pages that came from the store, or that another read was fetching already.
    pub misses: u64,
}

thread_local! {
    static CURRENT: RefCell<Vec<(Arc<Cost>, u64)>> = const { RefCell::new(Vec::new()) };
}

/// While this lives, the thread's reads of remote files are counted.
#[derive(Debug)]
pub struct Counting {
    // It belongs to the thread that made it.
    _here: PhantomData<*const ()>,
}

impl Cost {
    /// Counts what this thread reads until the guard is dropped. Guards may be nested: the innermost
    /// counts.
    pub fn enter(self: &Arc<Self>) -> Counting {
        let depth = self.depth.load(Ordering::Relaxed);
        CURRENT.with_borrow_mut(|stack| stack.push((Arc::clone(self), depth)));
        Counting { _here: PhantomData }
    }

    /// What it says now.
    pub fn now(&self) -> Spent {
        Spent {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            rounds: self.rounds.load(Ordering::Relaxed),
            depth: self.depth.load(Ordering::Relaxed),
            memory_hits: self.memory_hits.load(Ordering::Relaxed),
            disk_hits: self.disk_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// The one that this thread's reads are counted in.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(|stack| stack.last().map(|(cost, _)| Arc::clone(cost)))
    }

    /// Told when this thread has waited for others that work for the same query: what it reads from
    /// now on comes after what they read.
    pub fn caught_up() {
        CURRENT.with_borrow_mut(|stack| {
            if let Some((cost, depth)) = stack.last_mut() {
                *depth = cost.depth.load(Ordering::Relaxed);
            }
        });
    }

    /// Told by a file that this thread has to wait for once.
    pub fn waited() {
        CURRENT.with_borrow_mut(|stack| {
            if let Some((cost, depth)) = stack.last_mut() {
                *depth += 1;
                cost.rounds.fetch_add(1, Ordering::Relaxed);
                cost.depth.fetch_max(*depth, Ordering::Relaxed);
            }
        });
    }

    /// Told by a file that sent `requests` for it, for so many bytes.
    pub fn fetched(&self, requests: u64, bytes: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Told by a file where it found its pages.
    pub fn looked(&self, memory_hits: u64, disk_hits: u64, misses: u64) {
        self.memory_hits.fetch_add(memory_hits, Ordering::Relaxed);
        self.disk_hits.fetch_add(disk_hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(Vec::pop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_thread_add_up_and_those_of_threads_side_by_side_do_not() {
        let cost = Arc::new(Cost::default());
        Cost::waited();
        let plan = cost.enter();
        Cost::waited();
        drop(plan);
        Cost::waited();
        let (a, b) = (cost.enter(), Arc::clone(&cost));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _counting = b.enter();
                Cost::waited();
                Cost::waited();
            });
        });
        Cost::waited();
        drop(a);
        let spent = cost.now();
        assert_eq!((spent.rounds, spent.depth), (4, 3));
        assert!(Cost::current().is_none());
    }

    #[test]
    fn threads_of_a_join_count_for_the_query_and_what_follows_comes_after_them() {
        let cost = Arc::new(Cost::default());
        let counting = cost.enter();
        let beside = || {
            Cost::waited();
            Cost::waited();
        };
        crate::shared::join(beside, Cost::waited);
        assert_eq!(cost.now().rounds, 3);
        let together = cost.now().depth;
        // The thread may have begun after this one had waited.
        assert!((2..=3).contains(&together), "{together}");
        Cost::waited();
        assert_eq!(cost.now().depth, together + 1);
        drop(counting);
        crate::shared::join(Cost::waited, Cost::waited);
        assert_eq!(cost.now().rounds, 4);
    }
}
