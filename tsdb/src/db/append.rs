//! From a batch to memory and log.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use trine_storage::Result;
use trine_storage::shipping::Ships as _;
use trine_storage::wal::Durability;

use super::Inner;
use crate::batch::Batch;
use crate::metadata::Entry;
use crate::retention;
use crate::sample::{Accepted, Reason};
use crate::wal_record::encode_metadata;

impl Inner {
    /// The oldest and the newest timestamp that are taken at `now_ms`.
    pub(super) fn bounds(&self, now_ms: i64) -> RangeInclusive<i64> {
        let ahead = |max: std::time::Duration| {
            now_ms.saturating_add(i64::try_from(max.as_millis()).unwrap_or(i64::MAX))
        };
        // Ranges end before their end, so that the very last timestamp is in none.
        let newest = self.config.future_max.map_or(i64::MAX, ahead);
        let newest = newest.min(i64::MAX - 1);
        let mut oldest = retention::oldest_ms(self.config.retention, now_ms);
        if self.config.out_of_order_window.is_some() {
            oldest = oldest.max(retention::oldest_ms(
                self.config.out_of_order_window,
                now_ms,
            ));
        }
        oldest..=newest
    }

    /// Hands a batch to memory and log as one. Gives its position in the log, or `None` when it is
    /// empty.
    pub(crate) fn append(&self, batch: &Batch, accepted: &mut Accepted) -> Result<Option<u64>> {
        self.check_open()?;
        if batch.is_empty() {
            return Ok(None);
        }
        self.require_writer()?;
        self.check_healthy()?;
        self.shared.memory().admit(batch.bytes())?;
        self.bound_log()?;
        let mut position = None;
        {
            // Log and memory change in one epoch. Between batches their order may differ: samples of
            // one series at different times commute, and of two at one time memory takes one only.
            let epoch = self.epoch.read();
            self.check_open()?;
            let mut define = |series: &crate::wal_record::Series<'_>| {
                self.wal.append(&series.encode()).map(drop)
            };
            let stored = self.head.apply(batch, *epoch, accepted, &mut define)?;
            for record in stored.encode() {
                position = Some(self.wal.append(&record)?);
            }
            for entry in &batch.metadata {
                if self.learn(entry, accepted) {
                    position = Some(self.wal.append(&encode_metadata(entry))?);
                }
            }
            self.since_ms
                .fetch_min(self.clock.now_ms(), Ordering::Relaxed);
        }
        self.account.set(self.memory_bytes());
        Ok(position)
    }

    /// Keeps metadata. Gives whether it is to be logged: it was not known.
    fn learn(&self, entry: &Entry, accepted: &mut Accepted) -> bool {
        let mut table = self.metadata.lock();
        if table.has_room(&entry.metric, self.config.metadata_max) {
            let is_new = table.insert(entry.clone());
            self.told.fetch_or(is_new, Ordering::Relaxed);
            return is_new;
        }
        accepted.reject(Reason::TooMuchMetadata, || {
            format!("metric={}", entry.metric)
        });
        false
    }

    /// Waits until the record at `position` is as durable as was asked for.
    pub(crate) fn wait(&self, position: u64, durability: Durability) -> Result<()> {
        self.wal.commit(position, durability)
    }

    /// Keeps the log below its limit, so that a replay is: wakes the worker when it is half full,
    /// and seals at once when it is full.
    fn bound_log(&self) -> Result<()> {
        if self.log_is(1) {
            self.flush()
        } else {
            if self.log_is(2) {
                self.shared.wake();
            }
            Ok(())
        }
    }

    /// Whether the log holds as many bytes or samples as it may, or one part in so many of that.
    pub(super) fn log_is(&self, part: u64) -> bool {
        self.wal.stats().bytes >= self.config.wal_bytes_max / part
            || self.head.all_samples() >= self.config.head_samples_max / part
    }
}
