//! With a depot: ships what was sealed, follows what others ship, and takes over from another writer.
//!
//! Only who holds the lease appends, ships, merges and deletes. Before its first append of an epoch a
//! store goes on behind everything that was ever shipped, so that positions of the log rise over all
//! directories: else a delete of earlier spans would concern later ones.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use trine_storage::block_set::{Block, Edit, Shipped};
use trine_storage::catalog::BlockMeta;
use trine_storage::depot::{Role, ShipEdit};
use trine_storage::shared::Maintain;
use trine_storage::time::nanos;
use trine_storage::{Error, Kind, Result};

use super::{Inner, by_sequence};
use crate::block::build::{Input, Source};
use crate::block::image::BlockFile;
use crate::place::{self, Patience};
use crate::tombstone;

/// A depot that failed is left alone for this long, but by who wants something of it.
const RETRY_MS: i64 = 10_000;
/// How often local copies and damaged blocks are looked after.
const CARE_MS: i64 = 10_000;
/// A store that another process writes to is followed until it was not read for this long ...
const READ_MS: i64 = 5 * 60_000;
/// ... and who reads it then asks first what is new, if that is not known for this long.
const STALE_MS: i64 = 30_000;
/// Shipping begins anew, as often at most, when others have changed something meanwhile.
const ROUNDS_MAX: usize = 100;

/// How far shipping and following are.
#[derive(Debug, Default)]
pub(super) struct Shipping {
    /// Held by who ships.
    working: Mutex<()>,
    /// One more than the epoch whose appends are behind everything that is shipped.
    taken: AtomicU64,
    /// When the depot was asked last what is new, milliseconds since 1970; so for the others.
    followed_ms: AtomicI64,
    read_ms: AtomicI64,
    cared_ms: AtomicI64,
    /// Nothing is asked in the background before this.
    retry_ms: AtomicI64,
}

impl Shipping {
    /// The depot was just asked.
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

    /// Waits until nobody ships.
    pub(super) fn settle(&self) {
        drop(self.working.lock());
    }
}

impl Inner {
    /// Refuses what only the writer may do, and sees to it that the writer may: it takes over first
    /// where it has not done so yet.
    pub(super) fn check_writer(&self) -> Result<()> {
        let Some(depot) = self.blocks.depot() else {
            return Ok(());
        };
        match depot.role() {
            Role::Writer { epoch } if self.shipping.has_taken(epoch) => Ok(()),
            Role::Writer { .. } => self.take_over(),
            role => role.require_writer(depot.name()),
        }
    }

    /// Whether blocks are shipped, and this process is not the one that does.
    pub(super) fn only_reads(&self) -> bool {
        let depot = self.blocks.depot();
        depot.is_some_and(|depot| !depot.role().is_writer())
    }

    /// Whether the depot did not answer the last time that it was asked in the background.
    pub(super) fn depot_fails(&self) -> bool {
        self.shipping.retry_ms.load(Ordering::Relaxed) > 0
    }

    /// Goes on behind everything that is shipped.
    pub(super) fn take_over(&self) -> Result<()> {
        self.check_open()?;
        let Some(depot) = self.blocks.depot() else {
            return Ok(());
        };
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

    /// Whether what is on this disk only may have spans of traces that shipped blocks have, too, without
    /// saying so: another process may have written them meanwhile.
    pub(super) fn has_strangers(&self) -> bool {
        let Some(depot) = self.blocks.depot() else {
            return false;
        };
        match depot.role() {
            Role::Writer { epoch } => !self.shipping.has_taken(epoch),
            _ => true,
        }
    }

    /// Lets what is on this disk only say of which traces shipped blocks have spans, too.
    fn introduce(&self) -> Result<()> {
        self.flush()?;
        let version = self.blocks.version();
        let own = |block: &&Arc<Block<BlockFile>>| !block.is_shipped();
        for block in version.blocks.iter().filter(own) {
            let mut others = by_sequence(&version);
            others.retain(|held| held.block().is_some_and(|b| b.meta.id != block.meta.id));
            let mut shipped = others.clone();
            shipped.retain(|held| !held.is_own());
            let is_held = place::held_by(&shipped, Patience::Some);
            let image = block.reader.image()?;
            let mut traces = image.traces()?.into_iter();
            if !traces.any(|trace| !trace.has_more && is_held(&trace.id)) {
                continue;
            }
            let input = Input {
                is_stranger: true,
                ..Input::all(Source::Image(&image))
            };
            let has_more = place::held_by(&others, Patience::Some);
            let (_, bytes, file) = self.write_block(&[input], &has_more)?;
            let meta = BlockMeta {
                id: file.id(),
                bytes,
                ..block.meta.clone()
            };
            self.blocks.replace(Edit {
                add: vec![meta],
                remove: vec![block.meta.id],
                ..Edit::default()
            })?;
        }
        Ok(())
    }

    /// Whether another directory has ever shipped. Asks the depot.
    fn others_have_shipped(&self) -> Result<bool> {
        let Some(depot) = self.blocks.depot() else {
            return Ok(false);
        };
        let document = depot.newest(0)?;
        let mut instances = document.iter().flat_map(|held| held.shipped.keys());
        Ok(instances.any(|instance| instance != depot.instance()))
    }

    fn has_own(&self) -> bool {
        let version = self.blocks.version();
        version.blocks.iter().any(|block| !block.is_shipped())
            || self.live.lock().figures().spans > 0
    }

    /// Goes on behind everything that is shipped, which is known; `deleting` is held.
    fn go_behind(&self, epoch: u64) -> Result<()> {
        if self.has_own() && self.others_have_shipped()? {
            self.introduce()?;
        }
        let floor = self.blocks.floor();
        while self.wal.next_position() < floor {
            // A replay would miss what is in memory.
            self.flush()?;
            let _sealing = self.sealing.lock();
            let _order = self.order.lock();
            let figures = self.live.lock().figures();
            if figures.spans > 0 || figures.is_sealing {
                continue;
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

    /// Looks what others have shipped.
    pub(super) fn follow(&self) -> Result<bool> {
        self.check_open()?;
        let _deleting = self.deleting.lock();
        self.follow_held()
    }

    /// Looks what others have shipped; `deleting` is held.
    pub(super) fn follow_held(&self) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        self.shipping.followed_ms.store(now_ms, Ordering::Relaxed);
        let before = self.tombstones();
        let is_new = self.blocks.follow(tombstone::of_catalog, |read| {
            *self.tombstones.write() = Arc::new(read);
        })?;
        if !is_new {
            return Ok(false);
        }
        let version = self.blocks.version();
        let blocks = || version.blocks.iter();
        // Others have carried out deletes, too.
        let applied = blocks().map(|block| block.meta.deletes_applied).max();
        self.carried_out
            .fetch_max(applied.unwrap_or(0), Ordering::Relaxed);
        let now = self.tombstones();
        let numbers = before.iter().map(|held| held.delete.number);
        let is_gone = |number: &u64| !now.iter().any(|held| held.delete.number == *number);
        let gone: Vec<u64> = numbers.filter(is_gone).collect();
        if !gone.is_empty() {
            blocks().for_each(|block| block.reader.veil.forget(&gone));
        }
        Ok(true)
    }

    /// Before a read: looks what others have shipped, if nobody has done so for long. What the depot
    /// has to say when it fails is told by who ships; the read goes on with what there is.
    pub(super) fn follow_to_read(&self) {
        if self.blocks.depot().is_none() {
            return;
        }
        let now_ms = self.clock.now_ms();
        let shipping = &self.shipping;
        shipping.read_ms.store(now_ms, Ordering::Relaxed);
        let last = shipping.followed_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) < STALE_MS || !self.only_reads() {
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

    /// Ships all blocks that there are, and makes the changes of shipped ones that wait.
    pub(super) fn ship_blocks(&self) -> Result<Shipped> {
        let mut done = Shipped::default();
        let _working = self.shipping.working.lock();
        for _ in 0..ROUNDS_MAX {
            if self.blocks.is_behind() {
                self.follow()?;
            }
            let shipped = self.blocks.ship(&|| self.check_open())?;
            done.blocks += shipped.blocks;
            done.bytes += shipped.bytes;
            done.replaced += shipped.replaced;
            if !self.blocks.is_behind() {
                return Ok(done);
            }
        }
        let what = "others change what is shipped all the time; nothing is shipped until they stop";
        Err(Error::new(Kind::Unavailable, what))
    }

    /// Seals what is in memory and ships all there is.
    pub(super) fn ship_all(&self) -> Result<Shipped> {
        self.check_open()?;
        self.check_writer()?;
        self.flush()?;
        let shipped = self.ship_blocks()?;
        // Nothing is shipped once another writes.
        self.check_writer()?;
        Ok(shipped)
    }

    /// Does of following, sealing, shipping and looking after copies what is due.
    pub(super) fn ship_if_due(&self) -> Result<()> {
        if self.blocks.depot().is_none() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let shipping = &self.shipping;
        // Those who seal may be in the midst of a long merge.
        let mut result = self.seal_if_due();
        if now_ms >= shipping.retry_ms.load(Ordering::Relaxed) {
            let shipped = self.follow_if_due(now_ms).and_then(|()| {
                if self.only_reads() {
                    return Ok(());
                }
                self.check_writer()?;
                self.ship_blocks().map(drop)
            });
            let retry_ms = match shipped {
                Ok(()) => 0,
                Err(_) => now_ms.saturating_add(RETRY_MS),
            };
            shipping.retry_ms.store(retry_ms, Ordering::Relaxed);
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

    /// Follows where another process writes. Who writes follows only when it is behind.
    fn follow_if_due(&self, now_ms: i64) -> Result<()> {
        let since = |of: &AtomicI64| now_ms.saturating_sub(of.load(Ordering::Relaxed));
        let interval_ms = nanos(self.config.follow_interval) / 1_000_000;
        let is_due = since(&self.shipping.read_ms) < READ_MS
            && since(&self.shipping.followed_ms) >= interval_ms;
        if self.only_reads() && (is_due || self.blocks.is_behind()) {
            self.follow()?;
        }
        Ok(())
    }
}

/// Ships and follows when it is due, beside those who seal and merge: the network may be slow.
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
