//! What one query reads of files that are not on this machine. Always here, so that whoever runs
//! queries needs to know nothing of object stores.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one query reads of remote files. Every thread that works for the query says so with
/// [`Cost::enter`]; what the thread reads until it drops the guard is counted.
///
/// Rounds are told by what depends on what, and not by the clock: a request is one round behind the last
/// answer that its thread had used before it was sent, however soon that came.
#[derive(Debug)]
pub struct Cost {
    number: u64,
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
    /// Requests that were sent for it, those for catalogs among them; one that had to be repeated counts
    /// once.
    pub requests: u64,
    /// Bytes that came for it.
    pub bytes: u64,
    /// Reads that had to wait for the store.
    pub rounds: u64,
    /// The longest chain of requests of which each was sent when the answer to the one before it had been
    /// used: how often the query has to wait at most. Threads that work at the same time count once;
    /// where they begin one after another it is an upper bound.
    pub depth: u64,
    /// Pages that were in memory before the query.
    pub memory_hits: u64,
    /// Pages that were on the local disk.
    pub disk_hits: u64,
    /// Pages that came from the store, or that another query was fetching already.
    pub misses: u64,
}

thread_local! {
    static CURRENT: RefCell<Vec<Point>> = const { RefCell::new(Vec::new()) };
}

/// Gives each [`Cost`] a number.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Where a thread is that works for a query: how many rounds what it has used took.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    cost: Arc<Cost>,
    depth: u64,
}

/// In which round of which query a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    cost: u64,
    depth: u64,
}

/// While this lives, the thread's reads of remote files are counted.
#[derive(Debug)]
pub struct Counting {
    // It belongs to the thread that made it.
    _here: PhantomData<*const ()>,
}

impl Cost {
    /// Counts what this thread reads until the guard is dropped. Guards may be nested: the innermost
    /// counts. What it reads comes after everything that was read for the query so far.
    pub fn enter(self: &Arc<Self>) -> Counting {
        let point = Point {
            cost: Arc::clone(self),
            depth: self.depth.load(Ordering::Relaxed),
        };
        point.enter()
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
        Point::current().map(|point| point.cost)
    }

    /// Told by whoever sent one request, which brought so many bytes, and waited for the answer.
    pub fn asked(bytes: u64) {
        let round = Round::next();
        if let Some(cost) = Self::current() {
            cost.fetched(1, bytes);
        }
        Self::used(round);
        Self::waited();
    }

    /// Told by a file when this thread uses what came in a round: a request that it sends from now on
    /// depends on it. Rounds of other queries do not matter.
    pub fn used(round: Option<Round>) {
        CURRENT.with_borrow_mut(|stack| {
            if let (Some(point), Some(round)) = (stack.last_mut(), round)
                && round.cost == point.cost.number
            {
                point.reach(round.depth);
            }
        });
    }

    /// Told by a file that this thread has to wait for.
    pub fn waited() {
        if let Some(cost) = Self::current() {
            cost.rounds.fetch_add(1, Ordering::Relaxed);
        }
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

impl Default for Cost {
    fn default() -> Self {
        Self {
            number: LAST.fetch_add(1, Ordering::Relaxed),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            depth: AtomicU64::new(0),
            memory_hits: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }
}

impl Point {
    /// Where this thread is, if it works for a query.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.with_borrow(|stack| stack.last().cloned())
    }

    /// Counts what this thread reads until the guard is dropped, as coming after what was used there.
    pub(crate) fn enter(self) -> Counting {
        CURRENT.with_borrow_mut(|stack| stack.push(self));
        Counting { _here: PhantomData }
    }

    /// Told when this thread goes on with what another has done for the same query.
    pub(crate) fn catch_up(other: Option<Self>) {
        CURRENT.with_borrow_mut(|stack| {
            if let (Some(point), Some(other)) = (stack.last_mut(), other)
                && point.cost.number == other.cost.number
            {
                point.reach(other.depth);
            }
        });
    }

    fn reach(&mut self, depth: u64) {
        self.depth = self.depth.max(depth);
        self.cost.depth.fetch_max(depth, Ordering::Relaxed);
    }
}

impl Round {
    /// That of a request which this thread sends now.
    pub fn next() -> Option<Self> {
        CURRENT.with_borrow(|stack| {
            stack.last().map(|point| Self {
                cost: point.cost.number,
                depth: point.depth + 1,
            })
        })
    }

    /// Whether both are rounds of one query.
    pub fn is_of(self, other: Self) -> bool {
        self.cost == other.cost
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

    fn ask() {
        Cost::asked(10);
    }

    #[test]
    fn rounds_of_one_thread_add_up_and_those_of_threads_side_by_side_do_not() {
        let cost = Arc::new(Cost::default());
        ask();
        let plan = cost.enter();
        ask();
        drop(plan);
        ask();
        let (a, b) = (cost.enter(), Arc::clone(&cost));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _counting = b.enter();
                ask();
                ask();
            });
        });
        ask();
        drop(a);
        let spent = cost.now();
        assert_eq!((spent.rounds, spent.depth), (4, 3));
        assert_eq!((spent.requests, spent.bytes), (4, 40));
        assert!(Cost::current().is_none());
    }

    #[test]
    fn what_follows_a_join_comes_after_both_threads_of_it() {
        for _ in 0..20 {
            let cost = Arc::new(Cost::default());
            let counting = cost.enter();
            ask();
            let beside = || {
                ask();
                ask();
            };
            crate::shared::join(beside, ask);
            assert_eq!((cost.now().rounds, cost.now().depth), (4, 3));
            ask();
            assert_eq!(cost.now().depth, 4);
            drop(counting);
            crate::shared::join(ask, ask);
            assert_eq!(cost.now().rounds, 5);
        }
    }

    #[test]
    fn what_was_asked_for_together_is_one_round_however_often_it_is_used() {
        let cost = Arc::new(Cost::default());
        let _counting = cost.enter();
        let (first, second) = (Round::next(), Round::next());
        assert_eq!(cost.now().depth, 0, "nothing was used");
        Cost::used(first);
        let third = Round::next();
        Cost::used(second);
        Cost::used(first);
        assert_eq!(cost.now().depth, 1);
        Cost::used(third);
        assert_eq!(cost.now().depth, 2);
        // What another query asked for comes in no round of this one.
        let other = Arc::new(Cost::default());
        let strange = {
            let _other = other.enter();
            ask();
            ask();
            Round::next()
        };
        Cost::used(strange);
        Cost::used(None);
        assert_eq!(cost.now().depth, 2);
        assert!(!strange.unwrap().is_of(Round::next().unwrap()));
        assert!(third.unwrap().is_of(Round::next().unwrap()));
        assert_eq!((cost.now().depth, other.now().depth), (2, 2));
    }
}
