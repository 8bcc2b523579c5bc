//! What is counted of requests: per bucket for operators, per query for whoever asks.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What kind of request it is, as stores bill them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads an object, or ranges of it.
    Get,
    /// Asks for the length and time of an object.
    Head,
    /// Writes an object, a part of one, or begins or ends an upload in parts.
    Put,
    /// Lists objects. A page of a thousand counts once.
    List,
    /// Removes an object.
    Delete,
}

impl Verb {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Get, Self::Head, Self::Put, Self::List, Self::Delete];

    /// The word for it, as metrics and errors say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// What a bucket and all buckets within it did since they were opened.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [AtomicU64; Verb::ALL.len()],
    errors: [AtomicU64; Verb::ALL.len()],
    retries: AtomicU64,
    throttled: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests that were sent, repeated ones too, in the order of [`Verb::ALL`].
    pub requests: [u64; Verb::ALL.len()],
    /// Requests that failed, in the same order. An object that is missing or exists already is an
    /// answer, not a failure.
    pub errors: [u64; Verb::ALL.len()],
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests that the store refused because there were too many.
    pub throttled: u64,
    /// Bytes of objects that came.
    pub bytes_in: u64,
    /// Bytes of objects that were sent.
    pub bytes_out: u64,
}

impl Counters {
    pub(crate) fn request(&self, verb: Verb, count: u64) {
        add(&self.requests, verb, count);
    }

    pub(crate) fn error(&self, verb: Verb) {
        add(&self.errors, verb, 1);
    }

    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn throttle(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn came(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What they say now.
    pub fn now(&self) -> Counted {
        let all = |of: &[AtomicU64; Verb::ALL.len()]| {
            std::array::from_fn(|i| of.get(i).map_or(0, |n| n.load(Ordering::Relaxed)))
        };
        Counted {
            requests: all(&self.requests),
            errors: all(&self.errors),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

impl Counted {
    /// Requests of one kind.
    pub fn of(&self, verb: Verb) -> u64 {
        self.requests.get(verb as usize).copied().unwrap_or(0)
    }

    /// Requests of all kinds.
    pub fn all(&self) -> u64 {
        self.requests.iter().sum()
    }
}

fn add(of: &[AtomicU64; Verb::ALL.len()], verb: Verb, count: u64) {
    if let Some(counter) = of.get(verb as usize) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

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
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(|stack| stack.last().map(|(cost, _)| Arc::clone(cost)))
    }

    /// This thread waited for the store once.
    pub(crate) fn waited() {
        CURRENT.with_borrow_mut(|stack| {
            if let Some((cost, depth)) = stack.last_mut() {
                *depth += 1;
                cost.rounds.fetch_add(1, Ordering::Relaxed);
                cost.depth.fetch_max(*depth, Ordering::Relaxed);
            }
        });
    }

    pub(crate) fn fetched(&self, requests: u64, bytes: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn looked(&self, memory_hits: u64, disk_hits: u64, misses: u64) {
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
    fn requests_are_counted_by_their_kind() {
        let counters = Counters::default();
        for (i, verb) in (0..).zip(Verb::ALL) {
            assert_eq!(verb as usize, i);
            counters.request(verb, i as u64 + 1);
        }
        let counted = counters.now();
        assert_eq!(counted.requests, [1, 2, 3, 4, 5]);
        assert_eq!((counted.of(Verb::List), counted.all()), (4, 15));
    }
}
