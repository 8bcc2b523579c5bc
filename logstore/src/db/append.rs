//! From a batch to log and memory.

use trine_storage::{Error, Kind, Result};

use super::Inner;
use crate::appender::Bounds;
use crate::buffer::batch_bytes;
use crate::config::nanos;
use crate::wal_record::Batch;

impl Inner {
    /// Hands a batch to log and memory as one. Gives its position in the log, or `None` when it is
    /// empty.
    pub(crate) fn append(&self, batch: &Batch) -> Result<Option<u64>> {
        self.check_open()?;
        if batch.columns.rows() == 0 {
            return Ok(None);
        }
        self.admit(batch_bytes(batch))?;
        let record = batch.encode();
        let _order = self.order.lock();
        self.check_open()?;
        let position = self.wal.append(&record)?;
        self.memory.read().buffer.apply(batch, self.clock.now_ns());
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

    /// Refuses a batch that memory has no room for.
    fn admit(&self, bytes: u64) -> Result<()> {
        if self.shared.memory().would_exceed(bytes) {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "the memory budget of {} bytes is used up; send again later or raise it",
                    self.shared.memory().max()
                ),
            ));
        }
        Ok(())
    }
}
