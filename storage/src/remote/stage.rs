//! What tests of this module and lives of engines play on: one runtime, a store that fails, a clock that
//! is moved.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    Bucket, CacheOptions, Depots, DepotsConfig, FaultStore, Faults, Holder, Options, RangeCache,
    SweepOptions,
};
#[cfg(test)]
use super::{Lease, LeaseTimes, Taken, Watch};
use crate::clock::{Clock, ManualClock};
use crate::error::Result;
use crate::fs::Fs;
use crate::shared::Shared;
use crate::sim::SimFs;

/// A runtime for all tests of the process.
pub(super) fn handle() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build();
        runtime.expect("the test needs a runtime")
    };
    RUNTIME.get_or_init(build).handle().clone()
}

/// Requests are repeated at once, and every bucket chooses otherwise.
pub(super) fn options(salt: u64) -> Options {
    Options {
        backoff_first: Duration::ZERO,
        attempts_max: 3,
        salt: Some(salt),
        ..Options::default()
    }
}

/// What a process does with the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It only reads.
    Reads,
    /// It writes when it has the lease.
    Writes {
        /// Bytes of local copies.
        copies_bytes_max: u64,
    },
}

/// A store and a clock.
pub(super) struct Stage {
    pub(super) store: FaultStore,
    pub(super) clock: Arc<ManualClock>,
}

impl Stage {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000_000_000));
        let store = FaultStore::new(seed, faults, Arc::clone(&clock) as Arc<dyn Clock>);
        Self { store, clock }
    }

    /// The bucket, as a process sees it.
    pub(super) fn bucket(&self, salt: u64) -> Bucket {
        self.bucket_with(options(salt))
    }

    pub(super) fn bucket_with(&self, options: Options) -> Bucket {
        let store = Arc::new(self.store.clone());
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Bucket::over(store, "test:", options, handle(), clock)
    }

    /// The stores of a process of this name, on a data directory of its own.
    pub(super) fn depots(&self, name: &str, salt: u64, mode: Mode) -> Result<Arc<Depots>> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
        let cache = RangeCache::open(CacheOptions::default(), &fs, handle(), &clock)?;
        let config = DepotsConfig {
            is_read_only: mode == Mode::Reads,
            copies_bytes_max: match mode {
                Mode::Reads => 0,
                Mode::Writes { copies_bytes_max } => copies_bytes_max,
            },
            sweep: SweepOptions {
                versions_kept_min: 2,
                ..SweepOptions::default()
            },
            ..DepotsConfig::new(Holder::new(name, Some(name)))
        };
        Depots::open(
            &self.bucket(salt),
            config,
            cache,
            &Shared::without_workers(),
        )
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// Takes the lease of a bucket that nobody holds.
#[cfg(test)]
pub(super) fn lease(bucket: &Bucket, name: &str) -> Lease {
    let holder = Holder::new(name, None);
    let times = LeaseTimes::default();
    match Lease::take(bucket, &holder, times, &mut Watch::default()).unwrap() {
        Taken::Held(lease) => lease,
        Taken::Refused { by, .. } => panic!("{} has it", by.name),
    }
}
