//! Threads beside those that queries run on: as many in the whole process as it has spare cores.
//! Whoever gets none does the work itself, so nothing ever waits for a thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(any(feature = "promql", feature = "logql"))]
use trine_storage::shared;

/// The most cores that one query uses at a time.
const CORES_MAX: usize = 16;

/// The cores that no query uses beside its own.
fn spare() -> &'static AtomicUsize {
    static SPARE: OnceLock<AtomicUsize> = OnceLock::new();
    SPARE.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        AtomicUsize::new(cores - 1)
    })
}

/// The right to some threads, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permits(usize);

impl Permits {
    /// As many as there are, `most` at most; perhaps none.
    pub(crate) fn take(most: usize) -> Self {
        let most = most.min(CORES_MAX - 1);
        let taken = |spare: usize| spare.min(most);
        let before = spare().fetch_update(Ordering::AcqRel, Ordering::Acquire, |spare| {
            Some(spare - taken(spare))
        });
        Self(before.map_or(0, taken))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        spare().fetch_add(self.0, Ordering::AcqRel);
    }
}

/// Does all jobs and gives their results in order: the first here, each other one on a thread if
/// `permits` suffice for all of them.
#[cfg(any(feature = "promql", feature = "logql"))]
pub(crate) fn all<A: Send, J: FnOnce() -> A + Send>(jobs: Vec<J>, permits: &Permits) -> Vec<A> {
    match jobs.len() > permits.count() + 1 {
        true => jobs.into_iter().map(|job| job()).collect(),
        false => at_once(jobs),
    }
}

#[cfg(any(feature = "promql", feature = "logql"))]
fn at_once<A: Send, J: FnOnce() -> A + Send>(mut jobs: Vec<J>) -> Vec<A> {
    let Some(last) = jobs.pop() else {
        return Vec::new();
    };
    if jobs.is_empty() {
        return vec![last()];
    }
    let (last, mut results) = shared::join(last, move || at_once(jobs));
    results.push(last);
    results
}

#[cfg(all(test, any(feature = "promql", feature = "logql")))]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;

    #[test]
    fn results_come_in_order_whatever_ran_where() {
        for count in 0..5usize {
            let expect: Vec<usize> = (0..count).collect();
            for permits in 0..5 {
                // Made up, so not to be given back.
                let permits = ManuallyDrop::new(Permits(permits));
                let jobs = expect.iter().map(|job| move || *job).collect();
                assert_eq!(all(jobs, &permits), expect);
            }
        }
    }

    #[test]
    fn who_asks_for_none_gets_none() {
        assert_eq!(Permits::take(0).count(), 0);
        assert!(Permits::take(1).count() <= 1);
    }
}
