//! From a batch to log and memory.

use std::ops::RangeInclusive;
use std::sync::Arc;

use trine_storage::Result;
use trine_storage::wal::Durability;

use super::Inner;
use crate::config::nanos;
use crate::live::Run;
use crate::wal_record::Batch;

impl Inner {
    /// The first and the last start that are taken now.
    pub(super) fn bounds(&self) -> RangeInclusive<i64> {
        let now_ns = self.clock.now_ns();
        let ahead = |max| now_ns.saturating_add(nanos(max));
        let newest = self.config.future_max.map_or(i64::MAX, ahead);
        self.retention.oldest_ns(now_ns)..=newest
    }

    /// Hands a batch to log and memory as one. Gives its position in the log, or `None` when it is
    /// empty.
    pub(crate) fn append(&self, batch: &Batch) -> Result<Option<u64>> {
        self.check_open()?;
        if batch.spans.is_empty() {
            return Ok(None);
        }
        let record = batch.encode();
        self.shared.memory().admit(record.len() as u64)?;
        self.bound_memory()?;
        let order = self.order.lock();
        self.check_open()?;
        let position = self.wal.append(&record)?;
        let is_full = {
            let mut live = self.live.lock();
            batch.put(live.stage(self.clock.now_ns()));
            self.account.set(live.figures().bytes);
            live.is_full()
        };
        let run = if is_full { self.cut() } else { None };
        drop(order);
        if let Some(run) = run {
            self.build(&run);
        }
        Ok(Some(position))
    }

    /// Waits until the record at `position` is as durable as was asked for.
    pub(crate) fn wait(&self, position: u64, durability: Durability) -> Result<()> {
        self.wal.commit(position, durability)
    }

    /// Makes a run of the stage. Who calls this builds it when no lock is held.
    pub(super) fn cut(&self) -> Option<Arc<Run>> {
        self.blocks
            .read(|version| self.live.lock().cut(&version.blocks))
    }

    /// Makes the tables of a run. If this fails, who reads it hears of it.
    pub(super) fn build(&self, run: &Run) {
        run.image().ok();
        self.account.set(self.live.lock().figures().bytes);
    }

    /// Keeps memory and the log below their limits, so that a replay is: wakes the worker when they
    /// are half full, and seals at once when they are full.
    fn bound_memory(&self) -> Result<()> {
        if self.memory_is(1) {
            self.seal_while_full()
        } else {
            if self.memory_is(2) {
                self.shared.wake();
            }
            Ok(())
        }
    }

    /// Whether memory or the log holds as much as it may, or one part in so many of that.
    pub(super) fn memory_is(&self, part: u64) -> bool {
        self.live.lock().figures().bytes >= self.config.live_bytes_max / part
            || self.wal.stats().bytes >= self.config.wal_bytes_max / part
    }
}
