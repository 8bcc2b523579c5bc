//! The bucket of the engines' crash scripts over a store that fails, with depots as servers have them:
//! cut off at every request, or failing in all ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::depots::Depots;
use super::fault::Faults;
use super::stage::{Mode, Stage};
use crate::depot::Depot;
use crate::error::Result;
use crate::sim::{Cut, ShippedBucket, ShippedStep, ShippedSubject, check_cuts_over};

/// Longer than objects stay that nobody needs, and than anything else that is waited for.
const LONG_S: u64 = 7_200;

/// A bucket on a [`FaultStore`](super::FaultStore), for one store.
pub struct FaultBucket {
    stage: Stage,
    /// Of the process that started last.
    depots: Mutex<Option<Arc<Depots>>>,
    started: AtomicU64,
    seed: u64,
}

impl FaultBucket {
    /// An empty bucket whose faults are chosen by `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            stage: Stage::new(seed, faults),
            depots: Mutex::default(),
            started: AtomicU64::new(0),
            seed,
        }
    }
}

/// Runs the workload over a bucket that is cut off at some request, as many of them as `cuts_max` says,
/// and then over one that fails in all ways until it is cut off or the workload ends. Gives how many
/// cuts there were.
///
/// # Panics
/// When a promise is broken; the message names the cut and the seed.
pub fn check_over_faults<S: ShippedSubject>(
    subject: &S,
    workload: &[ShippedStep],
    seed: u64,
    cuts_max: u64,
) -> u64 {
    let well = || FaultBucket::new(seed, Faults::default());
    let faults = Faults {
        before: 40,
        after: 40,
        late: 30,
        late_requests: 30,
        throttled: 30,
        short: 30,
        list_lag_changes: seed % 20,
        ..Faults::default()
    };
    let badly = || FaultBucket::new(seed, faults);
    check_cuts_over(subject, well, workload, seed, cuts_max)
        + check_cuts_over(subject, badly, workload, seed, cuts_max / 4)
}

impl ShippedBucket for FaultBucket {
    fn depot(&self, instance: &str) -> Result<Arc<dyn Depot>> {
        let started = self.started.fetch_add(1, Ordering::Relaxed);
        let salt = self.seed ^ (started << 32);
        let mode = Mode::Writes {
            copies_bytes_max: u64::MAX,
        };
        let depots = self.stage.depots(instance, salt, mode)?;
        let depot = depots.store("t", "rows");
        *self.depots.lock() = Some(depots);
        Ok(depot)
    }

    fn calls(&self) -> u64 {
        self.stage.store.requests()
    }

    fn cut_after(&self, calls: u64, cut: Cut) {
        self.stage.store.cut_after(calls, cut);
    }

    fn set_away(&self, is_away: bool) {
        self.stage.store.set_gone(is_away);
        if !is_away {
            self.stage.store.set_faults(Faults::default());
            self.stage.store.settle();
        }
    }

    fn evict(&self, is_full: bool) {
        if let Some(depots) = &*self.depots.lock()
            && is_full
        {
            depots.make_room();
        }
    }

    fn sweep(&self) {
        let depots = self.depots.lock().clone();
        if let Some(depots) = depots {
            self.stage.advance(LONG_S);
            // What fails is tried again, and sweeping less is no failure.
            depots.keep().ok();
            depots.sweep().ok();
        }
    }
}

impl std::fmt::Debug for FaultBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultBucket")
            .field("store", &self.stage.store)
            .finish_non_exhaustive()
    }
}
