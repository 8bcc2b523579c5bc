//! What an epoch holds: how much, and of which time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Samples and exemplars of one epoch.
#[derive(Debug)]
pub(super) struct EpochStats {
    pub(super) samples: AtomicU64,
    pub(super) exemplars: AtomicU64,
    pub(super) oldest: AtomicI64,
    pub(super) newest: AtomicI64,
}

impl Default for EpochStats {
    fn default() -> Self {
        Self {
            samples: AtomicU64::new(0),
            exemplars: AtomicU64::new(0),
            oldest: AtomicI64::new(i64::MAX),
            newest: AtomicI64::new(i64::MIN),
        }
    }
}

/// New samples, before they are added to [`EpochStats`].
pub(super) struct Tally {
    pub(super) samples: u64,
    pub(super) exemplars: u64,
    pub(super) oldest: i64,
    pub(super) newest: i64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            samples: 0,
            exemplars: 0,
            oldest: i64::MAX,
            newest: i64::MIN,
        }
    }
}

impl Tally {
    pub(super) fn count(&mut self, timestamp: i64) {
        self.samples += 1;
        self.oldest = self.oldest.min(timestamp);
        self.newest = self.newest.max(timestamp);
    }

    pub(super) fn count_exemplar(&mut self, timestamp: i64) {
        self.count(timestamp);
        self.samples -= 1;
        self.exemplars += 1;
    }
}

impl EpochStats {
    pub(super) fn add(&self, tally: &Tally) {
        self.oldest.fetch_min(tally.oldest, Ordering::Relaxed);
        self.newest.fetch_max(tally.newest, Ordering::Relaxed);
        self.samples.fetch_add(tally.samples, Ordering::Relaxed);
        self.exemplars.fetch_add(tally.exemplars, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        self.samples.store(0, Ordering::Relaxed);
        self.exemplars.store(0, Ordering::Relaxed);
        self.oldest.store(i64::MAX, Ordering::Relaxed);
        self.newest.store(i64::MIN, Ordering::Relaxed);
    }
}
