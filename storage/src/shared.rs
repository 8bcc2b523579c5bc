//! What all engines of a process have in common: worker threads and one memory budget.
//!
//! Engines are given one [`Shared`], so that a thousand tenants cost what their data costs.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::cost::Point;
use crate::error::{Error, Kind, Result};

/// Work that an engine wants done from time to time: sealing, retention.
pub trait Maintain: Send + Sync {
    /// Does what is due. Called from one worker at a time.
    fn maintain(&self);

    /// Hears that [`Maintain::maintain`] panicked with `message`: a defect. It is not called
    /// again, so the engine should say so where its users look.
    fn panicked(&self, message: &str);
}

/// Worker threads and memory budget; a cheap handle.
#[derive(Debug, Clone)]
pub struct Shared {
    workers: Arc<Workers>,
    memory: MemoryBudget,
}

/// Settings of a [`Shared`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Worker threads; 0 for none, and then nothing happens in the background. Default 2.
    pub workers: usize,
    /// How often engines are asked whether something is due. Default one second.
    pub interval: Duration,
    /// Bytes that heads, buffers and live spans of all engines may hold together. Default 2 GiB.
    pub memory_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 2,
            interval: Duration::from_secs(1),
            memory_bytes_max: 2 << 30,
        }
    }
}

impl Shared {
    /// Starts the workers.
    pub fn new(config: &Config) -> Self {
        let memory = MemoryBudget::new(config.memory_bytes_max);
        Self {
            workers: Workers::start(config),
            memory,
        }
    }

    /// No workers: an engine does background work when it is told to, as simulations want it.
    pub fn without_workers() -> Self {
        Self::new(&Config {
            workers: 0,
            ..Config::default()
        })
    }

    /// Asks `engine` from now on, until it is dropped.
    pub fn register(&self, engine: Weak<dyn Maintain>) {
        self.workers.queue.lock().engines.push(Arc::new(Entry {
            engine,
            busy: Mutex::new(()),
        }));
    }

    /// Asks the engines now rather than at the end of the interval.
    pub fn wake(&self) {
        self.workers.wake.notify_all();
    }

    /// The memory budget of the process.
    pub fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Stops the workers and waits until they are idle. Engines stay usable.
    pub fn stop(&self) {
        self.workers.stop();
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(&Config::default())
    }
}

struct Entry {
    engine: Weak<dyn Maintain>,
    busy: Mutex<()>,
}

#[derive(Default)]
struct Queue {
    engines: Vec<Arc<Entry>>,
    next: usize,
    stopped: bool,
}

struct Workers {
    queue: Mutex<Queue>,
    wake: Condvar,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("engines", &self.queue.lock().engines.len())
            .finish()
    }
}

impl Workers {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only place where engines get threads"
    )]
    fn start(config: &Config) -> Arc<Self> {
        let workers = Arc::new(Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            threads: Mutex::default(),
        });
        for _ in 0..config.workers {
            let weak = Arc::downgrade(&workers);
            let interval = config.interval;
            let thread = std::thread::spawn(move || {
                while let Some(workers) = weak.upgrade() {
                    if !workers.round(interval) {
                        return;
                    }
                }
            });
            workers.threads.lock().push(thread);
        }
        workers
    }

    /// Asks every engine that nobody else is busy with, then waits. False when it is time to stop.
    fn round(&self, interval: Duration) -> bool {
        let engines = {
            let mut queue = self.queue.lock();
            queue
                .engines
                .retain(|entry| entry.engine.strong_count() > 0);
            // Each round starts elsewhere, so that one slow engine does not starve the rest.
            queue.next = queue.next.wrapping_add(1);
            let start = queue.next % queue.engines.len().max(1);
            let mut engines = queue.engines.clone();
            engines.rotate_left(start);
            engines
        };
        for entry in engines {
            if self.queue.lock().stopped {
                return false;
            }
            if let Some(_busy) = entry.busy.try_lock()
                && let Some(engine) = entry.engine.upgrade()
            {
                let run = std::panic::AssertUnwindSafe(|| engine.maintain());
                if let Err(panic) = std::panic::catch_unwind(run) {
                    engine.panicked(message_of(&*panic));
                    let mut queue = self.queue.lock();
                    queue.engines.retain(|held| !Arc::ptr_eq(held, &entry));
                }
            }
        }
        let mut queue = self.queue.lock();
        if !queue.stopped {
            self.wake.wait_for(&mut queue, interval);
        }
        !queue.stopped
    }

    fn stop(&self) {
        self.queue.lock().stopped = true;
        self.wake.notify_all();
        let me = std::thread::current().id();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The last handle may be dropped by a worker itself.
            if thread.thread().id() != me {
                thread.join().ok();
            }
        }
    }
}

/// What a panic said.
fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Bytes that all memory of a process may take, and what of them is taken.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    inner: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    max: u64,
}

impl MemoryBudget {
    /// A budget of `max` bytes.
    pub fn new(max: u64) -> Self {
        Self {
            inner: Arc::new(Budget {
                used: AtomicU64::new(0),
                max,
            }),
        }
    }

    /// An account on this budget that holds nothing yet.
    pub fn account(&self) -> Account {
        Account {
            budget: Arc::clone(&self.inner),
            bytes: AtomicU64::new(0),
        }
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be taken.
    pub fn max(&self) -> u64 {
        self.inner.max
    }

    /// Refuses `bytes` more than the budget has.
    ///
    /// # Errors
    /// [`Kind::Limit`].
    pub fn admit(&self, bytes: u64) -> Result<()> {
        if self.would_exceed(bytes) {
            let max = self.max();
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "the memory budget of {max} bytes is used up; send again later or raise it"
                ),
            ));
        }
        Ok(())
    }

    /// Whether `bytes` more would go over the budget.
    pub fn would_exceed(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) > self.inner.max
    }
}

/// What one engine's memory takes of the budget. Gives it back when dropped.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

impl Account {
    /// Says that this memory now takes `bytes`.
    pub fn set(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if bytes >= before {
            self.budget
                .used
                .fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.budget
                .used
                .fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that this memory takes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Does both at the same time: `beside` on a thread of its own, or after the other where there can
/// be none. A panic of either goes on here. What `beside` reads of remote files counts for the query
/// that this thread works for ([`Cost`](crate::cost::Cost)).
pub fn join<A: Send, B>(beside: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (A, B) {
    let beside = Mutex::new(Some(beside));
    let take = || beside.lock().take();
    let begin = Point::current();
    std::thread::scope(|scope| {
        let run = || {
            let _counting = begin.clone().map(Point::enter);
            let done = take().map(|beside| beside());
            (done, Point::current())
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, run);
        let here = here();
        let (done, end) = match thread {
            Ok(thread) => match thread.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            },
            Err(_) => (None, None),
        };
        Point::catch_up(end);
        let done = done.or_else(|| take().map(|beside| beside()));
        (done.expect("it ran on the thread or here"), here)
    })
}

/// Does the work for each of the items, for `at_once` of them at a time on as many threads, this one among
/// them. After a failure no further item is begun.
///
/// # Errors
/// The first of the work.
pub fn for_each<T: Sync>(
    at_once: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let run = || {
        while failed.lock().is_none() {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = work(item) {
                failed.lock().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..at_once.min(items.len()) {
            // Where there can be none the others do its work.
            std::thread::Builder::new().spawn_scoped(scope, run).ok();
        }
        run();
    });
    failed.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {

    use super::*;

    #[derive(Default)]
    struct Counter {
        calls: AtomicUsize,
        panics_at: usize,
        told: Mutex<String>,
    }

    impl Maintain for Counter {
        fn maintain(&self) {
            let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            assert_ne!(calls, self.panics_at, "call {calls}");
        }

        fn panicked(&self, message: &str) {
            message.clone_into(&mut self.told.lock());
        }
    }

    fn register(shared: &Shared, counter: &Arc<Counter>) {
        let engine: Weak<dyn Maintain> = Arc::<Counter>::downgrade(counter);
        shared.register(engine);
    }

    fn quick() -> Shared {
        Shared::new(&Config {
            interval: Duration::from_millis(1),
            ..Config::default()
        })
    }

    #[test]
    fn both_are_done_and_panics_go_on() {
        let numbers = [1, 2, 3];
        let (sum, len) = join(|| numbers.iter().sum::<i32>(), || numbers.len());
        assert_eq!((sum, len), (6, 3));
        let panics = || join(|| panic!("beside"), || 1);
        let panic = std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"beside"));
    }

    #[test]
    fn every_item_has_its_turn_once_until_one_fails() {
        let items: Vec<usize> = (0..100).collect();
        for at_once in [0, 1, 4, 200] {
            let sum = AtomicUsize::new(0);
            let add = |item: &usize| {
                sum.fetch_add(*item, Ordering::Relaxed);
                Ok(())
            };
            for_each(at_once, &items, add).unwrap();
            assert_eq!(sum.into_inner(), 4950);
            let begun = AtomicUsize::new(0);
            let fail = |_: &usize| {
                begun.fetch_add(1, Ordering::Relaxed);
                Err(Error::new(Kind::Closed, "it is over"))
            };
            let error = for_each(at_once, &items, fail).unwrap_err();
            assert_eq!(error.kind(), Kind::Closed);
            assert!((1..=100).contains(&begun.into_inner()));
        }
        for_each(4, &[], |_: &usize| panic!("there is none")).unwrap();
    }

    #[test]
    fn workers_ask_registered_engines_until_they_are_stopped() {
        let shared = quick();
        let counter = Arc::new(Counter::default());
        register(&shared, &counter);
        while counter.calls.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        shared.stop();
        let after = counter.calls.load(Ordering::SeqCst);
        std::thread::yield_now();
        assert_eq!(counter.calls.load(Ordering::SeqCst), after);
    }

    #[test]
    fn an_engine_that_panics_is_told_and_left_alone_and_the_others_go_on() {
        let shared = quick();
        let broken = Arc::new(Counter {
            panics_at: 2,
            ..Counter::default()
        });
        let healthy = Arc::new(Counter::default());
        register(&shared, &broken);
        register(&shared, &healthy);
        while healthy.calls.load(Ordering::SeqCst) < 20 {
            std::thread::yield_now();
        }
        shared.stop();
        assert_eq!(broken.calls.load(Ordering::SeqCst), 2);
        assert!(
            broken.told.lock().contains("call 2"),
            "{}",
            broken.told.lock()
        );
    }

    #[test]
    fn accounts_share_one_budget() {
        let budget = MemoryBudget::new(100);
        let (a, b) = (budget.account(), budget.account());
        a.set(60);
        b.set(30);
        assert_eq!(budget.used(), 90);
        assert!(!budget.would_exceed(10), "exactly full is allowed");
        assert!(budget.would_exceed(11));
        a.set(10);
        drop(b);
        assert_eq!(budget.used(), 10);
    }

    #[test]
    fn what_is_admitted_fits_into_the_budget_to_the_last_byte() {
        for (max, used, bytes, fits) in [
            (100, 60, 40, true),
            (100, 60, 41, false),
            (100, 100, 0, true),
            (100, 100, 1, false),
            // Batches are applied after they were admitted, so that it may be overdrawn.
            (100, 101, 0, false),
            (0, 0, 0, true),
            (0, 0, 1, false),
            (u64::MAX, 1, u64::MAX - 1, true),
            (u64::MAX - 1, 1, u64::MAX, false),
        ] {
            let budget = MemoryBudget::new(max);
            let account = budget.account();
            account.set(used);
            let admitted = budget.admit(bytes);
            assert_eq!(admitted.is_ok(), fits, "{bytes} beside {used} of {max}");
            assert_eq!(budget.used(), used, "asking takes nothing");
            if let Err(error) = admitted {
                assert_eq!(error.kind(), Kind::Limit);
                let told = format!("of {max} bytes is used up");
                assert!(error.to_string().contains(&told), "{error}");
            }
        }
    }
}
