//! From a batch to log and memory.

use trine_storage::Result;
use trine_storage::shipping::Ships as _;

use super::Inner;
use crate::appender::Bounds;
use crate::buffer::batch_bytes;
use crate::tail;
use crate::wal_record::Batch;
use trine_storage::time::nanos;

impl Inner {
    /// Hands a batch to log and memory as one. Gives its position in the log, or `None` when it is
    /// empty. Who follows the store may keep the batch, which is empty then.
    pub(crate) fn append(&self, batch: &mut Batch) -> Result<Option<u64>> {
        self.check_open()?;
        if batch.columns.rows() == 0 {
            return Ok(None);
        }
        self.require_writer()?;
        self.shared.memory().admit(batch_bytes(batch))?;
        self.bound_memory()?;
        let head = batch.encode_head();
        let order = self.order.lock();
        self.check_open()?;
        let position = self.wal.append_parts(&[&head, &batch.columns.blob])?;
        self.memory.read().buffer.apply(batch, self.clock.now_ns());
        let queues = self.tails.lock();
        drop(order);
        if let Some(queues) = queues {
            tail::publish(&queues, batch);
        }
        Ok(Some(position))
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let now_ns = self.clock.now_ns();
        // A half-open range cannot hold the very last instant.
        let last = i64::MAX - 1;
        let ahead = |max| now_ns.saturating_add(nanos(max)).min(last);
        Bounds {
            oldest_ns: self.retention.oldest_of_all_ns(now_ns),
            newest_ns: self.config.future_max.map_or(last, ahead),
        }
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

    /// Whether memory or the log holds as much as it may, or one part in so many of that. What is
    /// being sealed counts for the whole, but not for a part.
    pub(super) fn memory_is(&self, part: u64) -> bool {
        let config = &self.config;
        let (mut bytes, mut streams) = (0, 0);
        {
            let memory = self.memory.read();
            let sealing = memory.sealing.iter().map(|sealing| &sealing.buffer);
            for buffer in sealing.filter(|_| part == 1).chain([&memory.buffer]) {
                let figures = buffer.figures();
                bytes += figures.bytes;
                streams += figures.streams;
            }
        }
        bytes >= config.buffer_bytes_max / part
            || streams >= config.streams_max / part
            || self.wal.stats().bytes >= config.wal_bytes_max / part
    }
}
