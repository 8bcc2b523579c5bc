//! What shipping is for this engine: see [`Ships`]. Who takes a store over lets its own blocks say first
//! of which traces others have shipped spans meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use trine_storage::Result;
use trine_storage::block_set::{Block, BlockSet, Edit};
use trine_storage::catalog::BlockMeta;
use trine_storage::clock::Clock;
use trine_storage::depot::Role;
use trine_storage::shipping::{self, Shipping, Ships};

use super::{Inner, by_sequence};
use crate::block::build::{Input, Source};
use crate::block::image::BlockFile;
use crate::place::{self, Patience};
use crate::tombstone;

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

    fn go_behind(&self) -> Result<()> {
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
            if figures.spans == 0 && !figures.is_sealing {
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
}
