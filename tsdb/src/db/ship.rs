//! Between this disk and the depot: blocks are shipped, what others shipped is followed, and the store
//! is taken over by the process that may write.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use trine_storage::block_set::{Edit, Shipped};
use trine_storage::depot::{Role, ShipEdit};
use trine_storage::shared::Maintain;
use trine_storage::ulid::BlockId;
use trine_storage::wal::Durability;
use trine_storage::{Error, Kind, Result};

use super::compact::metadata_of;
use super::{Inner, Tombstones};
use crate::block::Sealed;
use crate::metadata::MetadataTable;
use crate::tombstone::Tombstone;

/// A depot that failed is left alone for this long, but by who wants something of it.
const RETRY_MS: i64 = 10_000;
/// How often copies of blocks and damaged ones are looked after.
const CARE_MS: i64 = 10_000;
/// A store that another process writes to is followed until it was not read for this long ...
const READ_MS: i64 = 300_000;
/// ... and who reads it then asks first what is new, if that is not known for this long.
const STALE_MS: i64 = 30_000;
/// A shipment begins anew, as often at most, when others have changed something meanwhile.
const ROUNDS_MAX: usize = 100;

/// How far shipping and following are.
#[derive(Debug, Default)]
pub(super) struct Shipping {
    /// Held by who ships.
    working: Mutex<()>,
    /// One more than the epoch whose appends are behind everything that is shipped.
    taken: AtomicU64,
    /// When the depot was asked last what is new, milliseconds since 1970; so for all below.
    followed_ms: AtomicI64,
    read_ms: AtomicI64,
    cared_ms: AtomicI64,
    /// Nothing is asked in the background before this.
    retry_ms: AtomicI64,
    /// No blocks are merged before this.
    merge_retry_ms: AtomicI64,
    /// The file with metadata that was read last.
    learned: Mutex<Option<BlockId>>,
}

impl Shipping {
    /// Of a store that is opened now: the depot was just asked.
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            followed_ms: now_ms.into(),
            read_ms: now_ms.into(),
            ..Self::default()
        }
    }

    fn has_taken(&self, epoch: u64) -> bool {
        self.taken.load(Ordering::Acquire) == epoch.saturating_add(1)
    }

    /// Whether blocks may be merged: nothing failed a moment ago for want of the depot.
    pub(super) fn may_merge(&self, now_ms: i64) -> bool {
        now_ms >= self.merge_retry_ms.load(Ordering::Relaxed)
    }

    /// Lets nothing be merged for a while.
    pub(super) fn hold_merges(&self, now_ms: i64) {
        let retry_ms = now_ms.saturating_add(RETRY_MS);
        self.merge_retry_ms.store(retry_ms, Ordering::Relaxed);
    }

    /// Waits until nobody ships.
    pub(super) fn settle(&self) {
        drop(self.working.lock());
    }
}

impl Inner {
    /// Refuses what only the writer may do, and takes the store over where this is the writer and has
    /// not done so yet.
    pub(super) fn require_writer(&self) -> Result<()> {
        let Some(depot) = self.blocks.depot() else {
            return Ok(());
        };
        match depot.role() {
            Role::Writer { epoch } if self.shipping.has_taken(epoch) => Ok(()),
            Role::Writer { .. } => self.take_over(),
            role => role.require_writer(depot.name()),
        }
    }

    /// Whether blocks may be merged and removed here.
    pub(super) fn is_writer(&self) -> bool {
        let depot = self.blocks.depot();
        depot.is_none_or(|depot| depot.role().is_writer())
    }

    /// Makes this store one that may be appended to.
    pub(super) fn take_over(&self) -> Result<()> {
        let Some(depot) = self.blocks.depot() else {
            return Ok(());
        };
        self.check_open()?;
        let _deleting = self.deleting.lock();
        let epoch = match depot.role() {
            Role::Writer { epoch } => epoch,
            role => return role.require_writer(depot.name()),
        };
        if self.shipping.has_taken(epoch) {
            return Ok(());
        }
        // Whoever wrote before can do so no more from here on, but may have until now.
        if self.blocks.floor() > 0 {
            depot.commit(&ShipEdit::default())?;
        }
        self.follow_held()?;
        self.go_behind(epoch)
    }

    /// Sees to it that what is appended from now on is later than all that was ever shipped, which is
    /// known, so that no delete that is there concerns it. `deleting` is held.
    fn go_behind(&self, epoch: u64) -> Result<()> {
        let floor = self.blocks.floor();
        while self.wal.next_position() < floor {
            // A replay would miss what is in memory, and what only the log defines.
            self.flush_definitions()?;
            let sealing = self.sealing.lock();
            let epoch = self.epoch.write();
            if sealing.is_some() || !self.nothing_in(*epoch) || self.head.has_undefined() {
                continue;
            }
            // All that the log holds is in parts, and nobody appends.
            if let Some(last) = self.wal.next_position().checked_sub(1) {
                self.wal.commit(last, Durability::Buffered)?;
            }
            let edit = Edit {
                wal_position: Some(floor),
                ..Edit::default()
            };
            self.blocks.commit(&edit, || {})?;
            self.wal.skip_to(floor)?;
            self.wal.truncate(floor)?;
        }
        let taken = epoch.saturating_add(1);
        self.shipping.taken.store(taken, Ordering::Release);
        Ok(())
    }

    /// Looks what the depot has decided since; gives whether there was anything new.
    pub(super) fn follow(&self) -> Result<bool> {
        self.check_open()?;
        let _deleting = self.deleting.lock();
        self.follow_held()
    }

    /// As [`Inner::follow`]; `deleting` is held.
    fn follow_held(&self) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        self.shipping.followed_ms.store(now_ms, Ordering::Relaxed);
        // A delete that cannot be read is not passed over: deleted samples would come back.
        let publish = |tombstones: Tombstones| *self.tombstones.write() = Arc::new(tombstones);
        let is_new = self.blocks.follow(Tombstone::all, publish)?;
        // What cannot be read now is read by the next who follows.
        self.learn_metadata().ok();
        Ok(is_new)
    }

    /// Takes in what metrics are from the newest file that says it, once.
    pub(super) fn learn_metadata(&self) -> Result<()> {
        let version = self.blocks.version();
        let all = metadata_of(&version);
        let Some(newest) = all.last() else {
            return Ok(());
        };
        let mut learned = self.shipping.learned.lock();
        if *learned == Some(newest.meta.id) {
            return Ok(());
        }
        if let Sealed::Metadata(file) = &newest.reader
            && let Some(table) = MetadataTable::read(file)?
        {
            self.metadata.lock().absorb(&table);
        }
        *learned = Some(newest.meta.id);
        Ok(())
    }

    /// Follows if this is behind, as nothing is decided before; `deleting` is held.
    pub(super) fn catch_up(&self) -> Result<()> {
        if self.blocks.is_behind() {
            self.follow_held()?;
        }
        Ok(())
    }

    /// Before a read: looks what others have shipped, if nobody has done so for long. Why the depot
    /// does not answer is told by who ships; the read goes on with what is known.
    pub(super) fn follow_to_read(&self) {
        if self.blocks.depot().is_none() {
            return;
        }
        let now_ms = self.clock.now_ms();
        let shipping = &self.shipping;
        shipping.read_ms.store(now_ms, Ordering::Relaxed);
        let last = shipping.followed_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) < STALE_MS || self.is_writer() {
            return;
        }
        // One asks, the others read meanwhile.
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let first = shipping
            .followed_ms
            .compare_exchange(last, now_ms, acquire, relaxed);
        if first.is_ok() {
            self.follow().ok();
        }
    }

    /// Follows where another process writes, and wherever this is behind.
    fn follow_if_due(&self, now_ms: i64) -> Result<()> {
        let since = |of: &AtomicI64| now_ms.saturating_sub(of.load(Ordering::Relaxed));
        let interval_ms = self.config.follow_interval.as_millis();
        let interval_ms = i64::try_from(interval_ms).unwrap_or(i64::MAX);
        let is_due = since(&self.shipping.read_ms) < READ_MS
            && since(&self.shipping.followed_ms) >= interval_ms;
        if self.blocks.is_behind() || (is_due && !self.is_writer()) {
            self.follow()?;
        }
        Ok(())
    }

    /// Seals what is in memory, makes blocks of it and ships all there is.
    pub(super) fn ship_all(&self) -> Result<Shipped> {
        self.check_open()?;
        if self.blocks.depot().is_none() {
            return self.flush().map(|()| Shipped::default());
        }
        self.require_writer()?;
        self.cut()?;
        let shipped = self.ship_blocks()?;
        // Nothing is shipped once another writes.
        self.require_writer()?;
        Ok(shipped)
    }

    /// Ships blocks until none is left to be shipped.
    pub(super) fn ship_blocks(&self) -> Result<Shipped> {
        let mut all = Shipped::default();
        let _working = self.shipping.working.lock();
        for _ in 0..ROUNDS_MAX {
            if self.blocks.is_behind() {
                self.follow()?;
            }
            let shipped = self.blocks.ship(&|| self.check_open())?;
            all.blocks += shipped.blocks;
            all.bytes += shipped.bytes;
            all.replaced += shipped.replaced;
            if !self.blocks.is_behind() {
                return Ok(all);
            }
        }
        let what = "others change what is shipped all the time; nothing is shipped until they stop";
        Err(Error::new(Kind::Unavailable, what))
    }

    /// Follows, ships and looks after copies, as far as that is due.
    pub(super) fn ship_if_due(&self) -> Result<()> {
        if self.blocks.depot().is_none() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let shipping = &self.shipping;
        // The workers that seal and cut may all be in long merges.
        let mut result = self.seal_if_due();
        if self.is_writer() {
            result = result.and(self.cut_if_old());
        }
        if now_ms >= shipping.retry_ms.load(Ordering::Relaxed) {
            let shipped = self.follow_if_due(now_ms).and_then(|()| {
                if !self.is_writer() {
                    return Ok(());
                }
                self.require_writer()?;
                self.ship_blocks().map(drop)
            });
            if shipped.is_err() {
                let retry_ms = now_ms.saturating_add(RETRY_MS);
                shipping.retry_ms.store(retry_ms, Ordering::Relaxed);
            }
            result = result.and(shipped);
        }
        let cared_ms = shipping.cared_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(cared_ms) >= CARE_MS {
            shipping.cared_ms.store(now_ms, Ordering::Relaxed);
            let _working = shipping.working.lock();
            result = result.and(self.check_open().and_then(|()| self.blocks.care()));
        }
        result
    }
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
