//! What shipping is for this engine: see [`Ships`]. Parts stay here; blocks are cut to be shipped.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use trine_storage::Result;
use trine_storage::block_set::BlockSet;
use trine_storage::clock::Clock;
use trine_storage::shipping::{self, RETRY_MS, Shipping, Ships};
use trine_storage::ulid::BlockId;

use super::compact::metadata_of;
use super::{Inner, Tombstones};
use crate::block::Sealed;
use crate::metadata::MetadataTable;
use crate::tombstone::Tombstone;

/// What is remembered of the depot beside [`Shipping`].
#[derive(Debug, Default)]
pub(super) struct Recalled {
    /// No blocks are merged before this, milliseconds since 1970.
    merge_retry_ms: AtomicI64,
    /// The file with metadata that was read last.
    learned: Mutex<Option<BlockId>>,
}

impl Recalled {
    /// Whether blocks may be merged: nothing failed a moment ago for want of the depot.
    pub(super) fn may_merge(&self, now_ms: i64) -> bool {
        now_ms >= self.merge_retry_ms.load(Ordering::Relaxed)
    }

    /// Lets nothing be merged for a while.
    pub(super) fn hold_merges(&self, now_ms: i64) {
        let retry_ms = now_ms.saturating_add(RETRY_MS);
        self.merge_retry_ms.store(retry_ms, Ordering::Relaxed);
    }
}

impl Ships for Inner {
    type Reader = Sealed;

    fn shipping(&self) -> &Shipping {
        &self.shipping
    }

    fn blocks(&self) -> &BlockSet<Sealed> {
        &self.blocks
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn follow_interval(&self) -> Duration {
        self.config.follow_interval
    }

    fn check_open(&self) -> Result<()> {
        Inner::check_open(self)
    }

    fn deleting(&self) -> &Mutex<()> {
        &self.deleting
    }

    fn follow_blocks(&self) -> Result<bool> {
        // A delete that cannot be read is not passed over: deleted samples would come back.
        let publish = |tombstones: Tombstones| *self.tombstones.write() = Arc::new(tombstones);
        let is_new = self.blocks.follow(Tombstone::all, publish)?;
        // What cannot be read now is read by the next who follows.
        self.learn_metadata().ok();
        Ok(is_new)
    }

    fn go_behind(&self) -> Result<()> {
        let floor = self.blocks.floor();
        while self.wal.next_position() < floor {
            // A replay would miss what is in memory, and what only the log defines.
            self.flush_definitions()?;
            let sealing = self.sealing.lock();
            let epoch = self.epoch.write();
            if sealing.is_none() && self.nothing_in(*epoch) && !self.head.has_undefined() {
                shipping::go_behind(&self.wal, &self.blocks, floor)?;
            }
        }
        Ok(())
    }

    /// Parts are not shipped: what is in them and in memory is cut into blocks.
    fn seal_all(&self) -> Result<()> {
        match self.blocks.depot() {
            Some(_) => self.cut(),
            None => self.flush(),
        }
    }

    fn seal_due(&self) -> Result<()> {
        let sealed = self.seal_if_due();
        match self.is_writer() {
            true => sealed.and(self.cut_if_old()),
            false => sealed,
        }
    }

    fn set_ship_error(&self, error: Option<String>) {
        self.background_error.lock().ship = error;
    }
}

impl Inner {
    /// Takes in what metrics are from the newest file that says it, once.
    pub(super) fn learn_metadata(&self) -> Result<()> {
        let version = self.blocks.version();
        let all = metadata_of(&version);
        let Some(newest) = all.last() else {
            return Ok(());
        };
        let mut learned = self.recalled.learned.lock();
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
}
