//! Between this disk and the depot: blocks are shipped, what others shipped is followed, and the store
//! is taken over by the process that may write.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use trine_storage::block_set::{Edit, Shipped};
use trine_storage::depot::Role;
use trine_storage::shared::Maintain;
use trine_storage::time::nanos;
use trine_storage::wal::Durability;
use trine_storage::{Kind, Result};

use super::Inner;
use crate::tombstone::{Tombstone, Tombstones};

/// A store that was not read for this long is not followed.
const READ_MS: i64 = 300_000;
/// How often copies of blocks are looked after.
const CARE_MS: i64 = 10_000;

/// When what is due with the depot.
#[derive(Debug)]
pub(super) struct Course {
    /// The epoch in which this store was taken over; 0 for none.
    epoch: AtomicU64,
    /// When the depot was asked last what is new, milliseconds since 1970; so for all below.
    followed_ms: AtomicI64,
    read_ms: AtomicI64,
    cared_ms: AtomicI64,
}

impl Course {
    /// Of a store that is opened now.
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            epoch: AtomicU64::new(0),
            followed_ms: AtomicI64::new(now_ms),
            read_ms: AtomicI64::new(now_ms),
            cared_ms: AtomicI64::new(now_ms),
        }
    }

    /// Remembers that the store is read.
    pub(super) fn note_read(&self, now_ms: i64) {
        self.read_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Inner {
    /// Refuses what only the writer may do, and takes the store over where it is the writer and has not
    /// done so yet.
    pub(super) fn require_writer(&self) -> Result<()> {
        let Some(depot) = self.blocks.depot() else {
            return Ok(());
        };
        match depot.role() {
            Role::Writer { epoch } if epoch == self.course.epoch.load(Ordering::Acquire) => Ok(()),
            Role::Writer { .. } => self.take_over(),
            role => role.require_writer(depot.name()),
        }
    }

    /// Whether blocks may be merged and removed here.
    pub(super) fn is_writer(&self) -> bool {
        self.blocks
            .depot()
            .is_none_or(|depot| depot.role().is_writer())
    }

    /// Makes this store one that may be appended to: what is appended from now on is later than all
    /// that was ever shipped, so that no delete that is there concerns it.
    pub(super) fn take_over(&self) -> Result<()> {
        let Some(depot) = self.blocks.depot() else {
            return Ok(());
        };
        self.check_open()?;
        let _taking_over = self.taking_over.lock();
        let role = depot.role();
        let Role::Writer { epoch } = role else {
            return role.require_writer(depot.name());
        };
        if epoch == self.course.epoch.load(Ordering::Acquire) {
            return Ok(());
        }
        // Whoever wrote before may have shipped and deleted until the lease was taken.
        self.follow()?;
        loop {
            self.flush()?;
            let _order = self.order.lock();
            let is_sealed = {
                let memory = self.memory.read();
                memory.sealing.is_none() && memory.buffer.is_empty()
            };
            if !is_sealed {
                continue;
            }
            // All that the log holds is in blocks, and nobody appends.
            let floor = self.blocks.floor();
            if self.blocks.version().wal_position < floor {
                let edit = Edit {
                    wal_position: Some(floor.max(self.wal.next_position())),
                    ..Edit::default()
                };
                self.blocks.commit(&edit, || {})?;
            }
            if let Some(last) = self.wal.next_position().checked_sub(1) {
                self.wal.commit(last, Durability::Buffered)?;
            }
            self.wal.skip_to(floor)?;
            self.course.epoch.store(epoch, Ordering::Release);
            return Ok(());
        }
    }

    /// Looks what the depot has decided since; gives whether there was anything new.
    pub(super) fn follow(&self) -> Result<bool> {
        self.check_open()?;
        let _deleting = self.deleting.lock();
        // A delete that cannot be read is not passed over: deleted entries would come back.
        let read = |deletes: &[_]| Tombstone::all(deletes, self.language.as_deref());
        let publish = |tombstones: Tombstones| *self.tombstones.write() = Arc::new(tombstones);
        let is_new = self.blocks.follow(read, publish)?;
        let now_ms = self.clock.now_ms();
        self.course.followed_ms.store(now_ms, Ordering::Relaxed);
        Ok(is_new)
    }

    /// Follows when that was done this long ago, or has to be done.
    pub(super) fn follow_if_older(&self, age: Duration) -> Result<bool> {
        let Some(depot) = self.blocks.depot() else {
            return Ok(false);
        };
        let now_ms = self.clock.now_ms();
        let since_ms = now_ms.saturating_sub(self.course.followed_ms.load(Ordering::Relaxed));
        // Nobody else changes what the writer sees.
        let is_due = !depot.role().is_writer() && since_ms >= nanos(age) / 1_000_000;
        if is_due || self.blocks.is_behind() {
            self.follow()
        } else {
            Ok(false)
        }
    }

    /// Seals what is in memory and ships all there is.
    pub(super) fn ship_all(&self) -> Result<Shipped> {
        self.check_open()?;
        self.require_writer()?;
        self.flush()?;
        self.ship_blocks()
    }

    /// Ships blocks until none is left to be shipped.
    pub(super) fn ship_blocks(&self) -> Result<Shipped> {
        let _shipping = self.shipping.lock();
        let mut all = Shipped::default();
        loop {
            if self.blocks.is_behind() {
                self.follow()?;
            }
            let shipped = self.blocks.ship(&|| self.check_open())?;
            all.blocks += shipped.blocks;
            all.bytes += shipped.bytes;
            all.replaced += shipped.replaced;
            if shipped.is_nothing() && !self.blocks.is_behind() {
                return Ok(all);
            }
        }
    }

    /// After this long in memory entries are sealed.
    pub(super) fn seal_age(&self) -> Duration {
        match self.blocks.depot() {
            // A third is left to write and to ship.
            Some(_) => self.config.seal_age.min(self.config.ship_age_max / 3 * 2),
            None => self.config.seal_age,
        }
    }

    /// Follows, ships and looks after copies, as far as that is due.
    pub(super) fn ship_if_due(&self) -> Result<()> {
        if self.blocks.depot().is_none() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let is_read = now_ms.saturating_sub(self.course.read_ms.load(Ordering::Relaxed)) < READ_MS;
        let followed = match is_read {
            true => self.follow_if_older(self.config.follow_interval),
            false => self.follow_if_older(Duration::MAX),
        };
        let shipped = followed.and_then(|_| {
            if !self.is_writer() {
                return Ok(());
            }
            self.require_writer()?;
            // The workers that seal may all be in long merges.
            self.seal_if_due()?;
            self.ship_blocks().map(drop)
        });
        let since_ms = now_ms.saturating_sub(self.course.cared_ms.load(Ordering::Relaxed));
        if since_ms >= CARE_MS {
            self.course.cared_ms.store(now_ms, Ordering::Relaxed);
            let _shipping = self.shipping.lock();
            self.check_open()?;
            self.blocks.care()?;
        }
        shipped
    }

    /// Makes room where the disk is full: what the depot has can be had again.
    pub(super) fn make_room_if_full<T>(&self, written: Result<T>) -> Result<T> {
        if let Err(error) = &written
            && is_full(error)
        {
            self.blocks.make_room()?;
        }
        written
    }
}

/// Whether something could not be written because the disk is full.
fn is_full(error: &trine_storage::Error) -> bool {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    error.kind() == Kind::Io
        && io.is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
}

/// Follows and ships when it is due, beside the ones who seal and merge: the network must not hold back
/// the disk.
#[derive(Debug)]
pub(super) struct Shipper {
    pub(super) inner: Weak<Inner>,
}

impl Maintain for Shipper {
    fn maintain(&self) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        if inner.check_open().is_err() {
            return;
        }
        let result = inner.ship_if_due();
        // A store that is closed meanwhile has no error to tell.
        let error = result.err().filter(|_| inner.check_open().is_ok());
        inner.background_error.lock().ship = error.map(|error| error.to_string());
    }

    fn panicked(&self, message: &str) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        let what = format!("a defect stopped the shipping until a restart: {message}");
        inner.background_error.lock().ship = Some(what);
    }
}
