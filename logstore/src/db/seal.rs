//! From memory to blocks: memory is swapped for an empty one, then written.

use std::sync::Arc;

use trine_storage::Result;
use trine_storage::block_set::Edit;

use super::{Inner, Sealing};
use crate::buffer::Buffer;
use crate::seal::Sealer;
use trine_storage::time::nanos;

impl Inner {
    pub(super) fn flush(&self) -> Result<()> {
        let _seal = self.sealing.lock();
        // What an earlier seal could not write goes first: blocks are in the order of appending.
        let again = self.memory.read().sealing.is_some();
        self.seal_once()?;
        if again { self.seal_once() } else { Ok(()) }
    }

    /// Seals unless somebody else has done so meanwhile.
    pub(super) fn seal_while_full(&self) -> Result<()> {
        let _seal = self.sealing.lock();
        // Twice, where an earlier seal failed and is to be tried again.
        for _ in 0..2 {
            if self.memory_is(1) {
                self.seal_once()?;
            }
        }
        Ok(())
    }

    fn seal_once(&self) -> Result<()> {
        self.check_healthy()?;
        let Some(sealing) = self.begin_seal() else {
            return Ok(());
        };
        let sealer = Sealer {
            fs: &self.fs,
            clock: &*self.clock,
            blocks: &self.blocks,
            config: &self.config,
        };
        let written = sealer.write(&sealing.buffer.view(), sealing.position);
        let add = self.blocks.make_room_if_full(written)?;
        let edit = Edit {
            add,
            wal_position: Some(sealing.position),
            ..Edit::default()
        };
        self.blocks
            .commit(&edit, || self.memory.write().sealing = None)?;
        if self.blocks.depot().is_some() {
            self.shippers.wake();
        }
        self.wal.truncate(sealing.position)
    }

    /// Swaps memory for an empty buffer, unless an earlier seal failed and is to be tried again.
    fn begin_seal(&self) -> Option<Sealing> {
        let _order = self.order.lock();
        let mut memory = self.memory.write();
        if memory.sealing.is_none() {
            if memory.buffer.is_empty() {
                return None;
            }
            let empty = Arc::new(Buffer::new(self.shared.memory().account()));
            let buffer = std::mem::replace(&mut memory.buffer, empty);
            self.rooms.clear();
            memory.sealing = Some(Sealing {
                buffer,
                position: self.wal.next_position(),
            });
        }
        memory.sealing.clone()
    }

    /// Whether memory is large or old enough to be sealed.
    fn seal_is_due(&self) -> bool {
        // Not held while it is asked for again: who writes in between would wait for both.
        let (is_sealing, figures) = {
            let memory = self.memory.read();
            (memory.sealing.is_some(), memory.buffer.figures())
        };
        let age_ns = figures
            .since_ns
            .map(|since| self.clock.now_ns().saturating_sub(since));
        let crowded = self.shared.memory().used() > self.shared.memory().max() / 2;
        is_sealing
            || (figures.rows > 0
                && (crowded
                    || age_ns.is_some_and(|age| age >= nanos(self.seal_age()))
                    || self.memory_is(2)))
    }

    /// Seals when memory or the log is large enough or memory is old enough.
    pub(super) fn seal_if_due(&self) -> Result<()> {
        if self.seal_is_due() {
            self.flush()
        } else {
            self.wal.trim()
        }
    }
}
