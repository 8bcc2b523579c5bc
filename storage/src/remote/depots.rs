//! All stores of a bucket for one process: who may write, which stores there are, how much of them is
//! on this disk, and what is wrong. Servers make one [`Depots`] and give each engine its
//! [`StoreDepot`].
//!
//! ```text
//! lease/                              who writes (lease.rs)
//! stores/TENANT/SIGNAL                which stores there are (markers.rs)
//! tenants/TENANT/SIGNAL/blocks/       one store (depot.rs)
//! tenants/TENANT/SIGNAL/catalog/
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::Bucket;
use super::copies::{Copies, CopiesStats};
use super::counters::Counted;
use super::depot::{Common, StoreDepot};
use super::failure::Reason;
use super::kept::Kept;
use super::lease::{Holder, LeaseTimes};
use super::markers::{Markers, StoreName};
use super::range_cache::{CacheStats, RangeCache};
use super::sweep::SweepOptions;
use super::tenure::Tenure;
use super::upload::Throttle;
use crate::depot::{Role, ShipState};
use crate::error::{Error, Kind, Result};
use crate::shared::{Maintain, Shared};

/// Requests that somebody waits for with a lock in hand are sent so often, and take so long at most.
const HURRIED_ATTEMPTS: u32 = 3;
const HURRIED_TIME: Duration = Duration::from_secs(20);
/// Parts of uploads in memory at a time.
const PARTS_MAX: usize = 4;
/// Troubles of one kind that are told one by one.
const TROUBLES_MAX: usize = 10;
/// How often a process that only reads looks who writes.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
const MINUTE_MS: i64 = 60_000;

/// How a process uses a bucket.
#[derive(Debug, Clone)]
pub struct DepotsConfig {
    /// What others are told of this process, and the instance of its data directory, which has to be
    /// locked.
    pub holder: Holder,
    /// Whether the process only reads: it then writes nothing at all to the bucket. Default no.
    pub is_read_only: bool,
    /// How long the lease lasts.
    pub lease: LeaseTimes,
    /// How often the lease is tried for while another has it. Default 5 s.
    pub take_interval: Duration,
    /// How often a process that does not write looks for new stores. Default 10 s.
    pub list_interval: Duration,
    /// What is swept, and how late.
    pub sweep: SweepOptions,
    /// How often each store that was written to is swept. Default 10 min.
    pub sweep_interval: Duration,
    /// Bytes a second of all uploads; nothing for no limit.
    pub upload_bytes_per_second: Option<u64>,
    /// Bytes a second of all copies that are fetched because their blocks are read much; nothing for no
    /// limit.
    pub fetch_bytes_per_second: Option<u64>,
    /// Bytes of local copies of shipped blocks. Default 16 GiB.
    pub copies_bytes_max: u64,
    /// Bytes of sections that readers of remote blocks keep, all stores together, as far as that is
    /// checked every few seconds. Nothing, the default, for half of the memory of the cache.
    pub kept_bytes_max: Option<u64>,
    /// What becomes of a process whose bucket does not answer at the beginning. Default an error.
    pub first: FirstAsk,
    /// Stores that an earlier process has seen in the bucket. Default none.
    pub known: Vec<StoreName>,
}

/// How the bucket is asked first. A process that begins without it has what is on its disk, asks for
/// nothing more, and tries to reach the bucket in the background.
#[derive(Debug, Clone)]
pub enum FirstAsk {
    /// It has to answer.
    Required,
    /// If it does not answer, the process begins without it.
    Optional,
    /// It was asked a moment ago and did not answer, for this reason: the process begins without it.
    Failed(Error),
}

impl DepotsConfig {
    /// The defaults for a process that writes.
    pub fn new(holder: Holder) -> Self {
        Self {
            holder,
            is_read_only: false,
            lease: LeaseTimes::default(),
            take_interval: Duration::from_secs(5),
            list_interval: Duration::from_secs(10),
            sweep: SweepOptions::default(),
            sweep_interval: Duration::from_secs(600),
            upload_bytes_per_second: None,
            fetch_bytes_per_second: None,
            copies_bytes_max: 16 << 30,
            kept_bytes_max: None,
            first: FirstAsk::Required,
            known: Vec::new(),
        }
    }
}

/// What a process knows of its bucket.
#[derive(Debug, Clone)]
pub struct DepotsStats {
    /// What it may do.
    pub role: Role,
    /// Whether the lease is held beyond doubt.
    pub is_lease_held: bool,
    /// Requests so far.
    pub counted: Counted,
    /// The cache of ranges.
    pub cache: CacheStats,
    /// Local copies of shipped blocks.
    pub copies: CopiesStats,
    /// Objects that were swept so far.
    pub swept: u64,
    /// The stores that were opened.
    pub stores: Vec<StoreStats>,
}

/// What a process knows of one store.
#[derive(Debug, Clone)]
pub struct StoreStats {
    /// Which store.
    pub name: StoreName,
    /// What its block set told last.
    pub state: ShipState,
    /// Since when [`ShipState::failed`] is told, milliseconds since 1970.
    pub failed_since_ms: Option<i64>,
}

/// The stores of a bucket.
#[derive(Debug)]
pub struct Depots {
    common: Arc<Common>,
    config: DepotsConfig,
    stores: Mutex<BTreeMap<StoreName, Arc<StoreDepot>>>,
    due: Mutex<Due>,
    troubles: Mutex<Troubles>,
    swept: AtomicU64,
    is_over: AtomicBool,
    keeper: Arc<Keeper>,
    sweeper: Arc<Sweeper>,
}

/// When something is due, monotonic nanoseconds.
#[derive(Debug, Default)]
struct Due {
    lease_ns: u64,
    list_ns: u64,
    sweep_ns: u64,
}

#[derive(Debug, Default)]
struct Troubles {
    /// Why the lease cannot be kept, or the stores cannot be listed, and since when, milliseconds since
    /// 1970.
    bucket: Option<(i64, Error)>,
    /// Why nothing is swept.
    sweep: Option<(i64, Error)>,
    /// A defect.
    panic: Option<String>,
}

/// Beats in the background.
#[derive(Debug)]
struct Keeper(Weak<Depots>);

/// Sweeps in the background, which takes long.
#[derive(Debug)]
struct Sweeper(Weak<Depots>);

impl Depots {
    /// The stores of `bucket`, read through `cache`. Tries to take the lease once, unless the process only
    /// reads, and learns which stores there are, as far as [`DepotsConfig::first`] says; goes
    /// on with both on the threads of `workers`, which should be two and nobody else's, so that nothing
    /// keeps the lease from being beaten.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], [`Kind::Corrupt`] when something else is in the place of the lease.
    pub fn open(
        bucket: &Bucket,
        config: DepotsConfig,
        cache: RangeCache,
        workers: &Shared,
    ) -> Result<Arc<Self>> {
        let hurried = bucket.hurried(HURRIED_ATTEMPTS, HURRIED_TIME);
        let clock = Arc::clone(bucket.clock());
        let half = cache.options().memory_bytes_max / 2;
        let kept_bytes_max = config.kept_bytes_max.unwrap_or(half);
        let throttle = |rate| Throttle::new(Arc::clone(&clock), rate, PARTS_MAX);
        let common = Arc::new(Common {
            bucket: bucket.clone(),
            tenure: Tenure::new(
                hurried.clone(),
                config.holder.clone(),
                config.lease,
                config.is_read_only,
            ),
            markers: Markers::new(hurried.clone()),
            hurried,
            copies: Arc::new(Copies::new(config.copies_bytes_max)),
            kept: Kept::new(kept_bytes_max, Arc::clone(&clock)),
            uploads: throttle(config.upload_bytes_per_second),
            downloads: throttle(config.fetch_bytes_per_second),
            cache,
            clock: Arc::clone(&clock),
        });
        common.markers.learn(config.known.iter().cloned());
        let ask = || common.tenure.keep().and_then(|()| common.markers.list());
        let away = match &config.first {
            FirstAsk::Required => ask().map(|()| None)?,
            FirstAsk::Optional => match ask() {
                Err(error) if Reason::of(&error).is_some_and(Reason::passes) => Some(error),
                asked => asked.map(|()| None)?,
            },
            FirstAsk::Failed(error) => Some(error.clone()),
        };
        let is_away = away.is_some();
        let mut troubles = Troubles::default();
        if let Some(error) = away {
            troubles.bucket = Some((clock.now_ms(), error.clone()));
            common.tenure.begin_away(error);
        }
        let depots = Arc::new_cyclic(|this| Self {
            common,
            config,
            stores: Mutex::default(),
            due: Mutex::default(),
            troubles: Mutex::new(troubles),
            swept: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            keeper: Arc::new(Keeper(this.clone())),
            sweeper: Arc::new(Sweeper(this.clone())),
        });
        let next = |interval| clock.monotonic_ns().saturating_add(nanoseconds(interval));
        let first = |interval| if is_away { 0 } else { next(interval) };
        *depots.due.lock() = Due {
            lease_ns: first(depots.config.take_interval),
            list_ns: first(depots.config.list_interval),
            sweep_ns: next(depots.config.sweep_interval),
        };
        let keeper: Arc<dyn Maintain> = Arc::clone(&depots.keeper) as _;
        let sweeper: Arc<dyn Maintain> = Arc::clone(&depots.sweeper) as _;
        workers.register(Arc::downgrade(&keeper));
        workers.register(Arc::downgrade(&sweeper));
        Ok(depots)
    }

    /// What errors call the bucket.
    pub fn name(&self) -> &str {
        self.common.bucket.name()
    }

    /// What this process may do now. Asks nothing.
    pub fn role(&self) -> Role {
        self.common.tenure.role()
    }

    /// Whether the bucket has not answered since the beginning: see [`FirstAsk`]. Asks nothing.
    pub fn is_away(&self) -> bool {
        self.common.tenure.check_reached().is_err()
    }

    /// Why this process may not write; nothing when it may. Asks nothing.
    pub fn refusal(&self) -> Option<Error> {
        self.common.tenure.refusal()
    }

    /// One store, whether it is in the bucket or not. Asks nothing.
    pub fn store(&self, tenant: &str, signal: &str) -> Arc<StoreDepot> {
        let name = StoreName::new(tenant, signal);
        let mut stores = self.stores.lock();
        let store = stores
            .entry(name)
            .or_insert_with_key(|name| Arc::new(StoreDepot::new(&self.common, name)));
        Arc::clone(store)
    }

    /// The stores that are known to be in the bucket. Asks nothing.
    pub fn stores(&self) -> Vec<StoreName> {
        self.common.markers.all()
    }

    /// How many stores are known to be in the bucket, which are never fewer than before. Asks nothing.
    pub fn store_count(&self) -> usize {
        self.common.markers.count()
    }

    /// Whether a store is known to be in the bucket. Asks nothing.
    pub fn has(&self, tenant: &str, signal: &str) -> bool {
        self.common.markers.has(&StoreName::new(tenant, signal))
    }

    /// Beats, tries to take the lease and looks for new stores as far as they are due: what happens
    /// in the background.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]; it is tried again soon.
    pub fn keep(&self) -> Result<()> {
        if self.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
        let now = self.common.clock.monotonic_ns();
        let (is_lease_due, is_list_due) = {
            let due = self.due.lock();
            (due.lease_ns <= now, due.list_ns <= now)
        };
        if !is_lease_due && !is_list_due {
            return Ok(());
        }
        let was_writer = self.role().is_writer();
        let mut done = Ok(());
        if is_lease_due {
            done = self.common.tenure.keep();
            let next = match (&done, self.role()) {
                (Ok(()), Role::Writer { .. }) => self.config.lease.beat_interval,
                (Ok(()), Role::ReadOnly) => LOOK_INTERVAL,
                _ => self.config.take_interval,
            };
            self.due.lock().lease_ns = now.saturating_add(nanoseconds(next));
        }
        // Who writes makes the stores itself, and need only know those of before.
        let is_writer = self.role().is_writer();
        if done.is_ok() && is_list_due && (!is_writer || !was_writer) {
            done = self.common.markers.list();
        }
        if is_list_due {
            let next = nanoseconds(self.config.list_interval);
            self.due.lock().list_ns = now.saturating_add(next);
        }
        note(
            &mut self.troubles.lock().bucket,
            &done,
            self.common.clock.now_ms(),
        );
        done
    }

    /// Removes what nobody needs any more of the stores that this process writes to, if it is time:
    /// what happens in the background. Takes long.
    ///
    /// # Errors
    /// The first; the other stores are swept nevertheless.
    pub fn sweep(&self) -> Result<()> {
        let now = self.common.clock.monotonic_ns();
        let next = now.saturating_add(nanoseconds(self.config.sweep_interval));
        {
            let mut due = self.due.lock();
            if due.sweep_ns > now {
                return Ok(());
            }
            due.sweep_ns = next;
        }
        if !self.role().is_writer() {
            return Ok(());
        }
        let stores: Vec<Arc<StoreDepot>> = self.stores.lock().values().cloned().collect();
        let check = || match self.is_over.load(Ordering::Acquire) {
            true => Err(Error::new(Kind::Closed, "the process ends")),
            false => Ok(()),
        };
        let mut done = Ok(());
        for store in stores {
            match store.sweep(&self.config.sweep, &check) {
                Ok(Some(swept)) => {
                    let gone = swept.doomed + swept.orphans;
                    self.swept.fetch_add(gone, Ordering::Relaxed);
                }
                Ok(None) => {}
                Err(error) => done = done.and(Err(error)),
            }
        }
        note(
            &mut self.troubles.lock().sweep,
            &done,
            self.common.clock.now_ms(),
        );
        done
    }

    /// What is wrong, one line each, for those who watch the process. Asks nothing.
    pub fn ready(&self) -> Vec<String> {
        let name = self.name();
        let now_ms = self.common.clock.now_ms();
        let stores = self.store_stats();
        let mut lines = Vec::new();
        let troubles = self.troubles.lock();
        let since =
            |ms: i64, error: &Error| format!("fails since {} UTC: {error}", time_of_day(ms));
        if let Some((ms, error)) = &troubles.bucket {
            let waiting: u64 = stores.iter().map(|s| s.state.unshipped_blocks).sum();
            let oldest = stores
                .iter()
                .filter_map(|s| s.state.unshipped_since_ms)
                .min();
            let waits = match oldest {
                Some(oldest) if waiting > 0 => format!(
                    "; {waiting} blocks wait to be shipped, the oldest for {} min",
                    now_ms.saturating_sub(oldest).max(0) / MINUTE_MS
                ),
                _ => String::new(),
            };
            lines.push(format!("{name} {}{waits}", since(*ms, error)));
        } else {
            let failed = stores.iter().filter_map(|store| {
                let error = store.state.failed.as_ref()?;
                // That is a role, and told as such.
                let is_role = matches!(error.kind(), Kind::Locked | Kind::ReadOnly);
                let since = since(store.failed_since_ms?, error);
                (!is_role).then(|| format!("{} in {name} {since}", store.name))
            });
            put(&mut lines, failed);
        }
        let quarantined = stores.iter().flat_map(|store| {
            let errors = store.state.quarantined.iter();
            errors.map(|error| format!("a block of {} is not served: {error}", store.name))
        });
        put(&mut lines, quarantined);
        if let Some((ms, error)) = &troubles.sweep
            && troubles.bucket.is_none()
        {
            lines.push(format!("the sweep of {name} {}", since(*ms, error)));
        }
        lines.extend(troubles.panic.clone());
        lines
    }

    /// Figures. Asks nothing.
    pub fn stats(&self) -> DepotsStats {
        DepotsStats {
            role: self.role(),
            is_lease_held: self.common.tenure.lease().is_ok(),
            counted: self.common.bucket.counters().now(),
            cache: self.common.cache.stats(),
            copies: self.common.copies.now(),
            swept: self.swept.load(Ordering::Relaxed),
            stores: self.store_stats(),
        }
    }

    fn store_stats(&self) -> Vec<StoreStats> {
        let stores = self.stores.lock();
        let stats = stores.iter().map(|(name, store)| {
            let (state, failed_since_ms) = store.told();
            StoreStats {
                name: name.clone(),
                state,
                failed_since_ms,
            }
        });
        stats.collect()
    }

    /// Has what goes on in the background come to its end soon.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Has all stores let go of their local copies of shipped blocks when they next look after them,
    /// because the disk is full, and fetches none for an hour. Asks nothing.
    pub fn make_room(&self) {
        self.common.copies.make_room(self.common.clock.now_ms());
    }

    /// Ends all requests to the bucket, and lets no other begin: for the end of a process that has
    /// waited long enough. What waits for one fails with [`Kind::Unavailable`].
    pub fn give_up(&self) {
        self.common.bucket.give_up();
    }

    /// Gives the lease back and takes none any more: at the end of the process, after its engines were
    /// closed. Writes what is in memory for the cache on the disk.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: the lease runs out by itself.
    pub fn release(&self) -> Result<()> {
        self.end();
        self.common.cache.flush();
        self.common.tenure.release()
    }

    fn panicked(&self, what: &str, message: &str) {
        let line = format!(
            "a defect of trine: {what} panicked with {message:?}; restart it, and tell its developers"
        );
        self.troubles.lock().panic = Some(line);
    }
}

impl Maintain for Keeper {
    fn maintain(&self) {
        if let Some(depots) = self.0.upgrade() {
            // It is in `ready`.
            depots.keep().ok();
        }
    }

    fn panicked(&self, message: &str) {
        if let Some(depots) = self.0.upgrade() {
            depots.panicked("what keeps the lease", message);
        }
    }
}

impl Maintain for Sweeper {
    fn maintain(&self) {
        if let Some(depots) = self.0.upgrade() {
            // It is in `ready`.
            depots.sweep().ok();
        }
    }

    fn panicked(&self, message: &str) {
        if let Some(depots) = self.0.upgrade() {
            depots.panicked("what sweeps the bucket", message);
        }
    }
}

/// Remembers a failure, and since when it lasts; or that it is over.
fn note(trouble: &mut Option<(i64, Error)>, done: &Result<()>, now_ms: i64) {
    *trouble = match done {
        Ok(()) => None,
        Err(error) => {
            let since = trouble.as_ref().map_or(now_ms, |(since, _)| *since);
            Some((since, error.clone()))
        }
    };
}

/// Puts the first few lines, and how many more there are.
fn put(lines: &mut Vec<String>, all: impl Iterator<Item = String>) {
    let mut more = 0;
    for (number, line) in all.enumerate() {
        if number < TROUBLES_MAX {
            lines.push(line);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        lines.push(format!("and {more} more like the last"));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Hours, minutes and seconds of a time in milliseconds since 1970.
fn time_of_day(ms: i64) -> String {
    let seconds = ms.div_euclid(1000).rem_euclid(86_400);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
pub(in crate::remote) mod tests;
