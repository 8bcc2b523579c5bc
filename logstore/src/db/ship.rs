//! What shipping is for this engine: see [`Ships`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use trine_storage::Result;
use trine_storage::block_set::BlockSet;
use trine_storage::clock::Clock;
use trine_storage::shipping::{self, Shipping, Ships};

use super::Inner;
use crate::block::reader::BlockFile;
use crate::tombstone::{Tombstone, Tombstones};

impl Ships for Inner {
    type Reader = BlockFile;

    fn shipping(&self) -> &Shipping {
        &self.shipping
    }

    fn blocks(&self) -> &BlockSet<BlockFile> {
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
        // A delete that cannot be read is not passed over: deleted entries would come back.
        let read = |deletes: &[_]| Tombstone::all(deletes, self.language.as_deref());
        let publish = |tombstones: Tombstones| *self.tombstones.write() = Arc::new(tombstones);
        let is_new = self.blocks.follow(read, publish)?;
        if is_new {
            // Others have carried out deletes, too.
            let version = self.blocks.version();
            let applied = version.blocks.iter().map(|b| b.meta.deletes_applied);
            let applied = applied.max().unwrap_or(0);
            self.carried_out.fetch_max(applied, Ordering::Relaxed);
        }
        Ok(is_new)
    }

    fn go_behind(&self) -> Result<()> {
        let floor = self.blocks.floor();
        while self.wal.next_position() < floor {
            // A replay would miss what is in memory.
            self.flush()?;
            let _order = self.order.lock();
            let is_sealed = {
                let memory = self.memory.read();
                memory.sealing.is_none() && memory.buffer.is_empty()
            };
            if is_sealed {
                shipping::go_behind(&self.wal, &self.blocks, floor)?;
            }
        }
        Ok(())
    }

    fn seal_all(&self) -> Result<()> {
        self.flush()
    }

    fn seal_due(&self) -> Result<()> {
        self.seal_if_due()
    }

    fn set_ship_error(&self, error: Option<String>) {
        self.background_error.lock().ship = error;
    }
}

impl Inner {
    /// After this long in memory entries are sealed.
    pub(super) fn seal_age(&self) -> Duration {
        match self.blocks.depot() {
            // A third is left to write and to ship.
            Some(_) => self.config.seal_age.min(self.config.ship_age_max / 3 * 2),
            None => self.config.seal_age,
        }
    }
}
