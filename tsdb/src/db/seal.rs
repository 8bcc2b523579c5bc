//! From memory to a part: the epoch flips, what the old one holds is written as it is.

use std::sync::atomic::Ordering;

use trine_storage::block_set::{Edit, Unfinished};
use trine_storage::catalog::BlockMeta;
use trine_storage::{Error, Kind, Result};

use super::{Inner, Sealing};
use crate::block::PART_LEVEL;
use crate::head::series;
use crate::part::writer::PartWriter;

/// While memory is crowded it is sealed if its samples are at least one part in this many of it.
const SAMPLES_PART_MIN: u64 = 8;

impl Inner {
    /// As [`Inner::flush`], and writes down what series there are that no part defines, though nothing
    /// was appended to them.
    pub(super) fn flush_definitions(&self) -> Result<()> {
        self.flush_as(true)
    }

    pub(super) fn flush(&self) -> Result<()> {
        self.flush_as(false)
    }

    fn flush_as(&self, always: bool) -> Result<()> {
        let mut sealing = self.sealing.lock();
        // What an earlier seal could not write goes first.
        if let Some(again) = *sealing {
            self.seal(again)?;
            *sealing = None;
        }
        if let Some(begun) = self.begin_seal(always)? {
            *sealing = Some(begun);
            self.seal(begun)?;
            *sealing = None;
        }
        Ok(())
    }

    /// Flips the epoch, unless there is nothing to seal; `always` where series are not defined yet.
    fn begin_seal(&self, always: bool) -> Result<Option<Sealing>> {
        if let Some(error) = self.wal.failure() {
            return Err(Error::caused_by(
                Kind::Poisoned,
                format!("nothing is sealed after a failed write of the log: {error}"),
                error,
            ));
        }
        let mut epoch = self.epoch.write();
        if self.nothing_in(*epoch) && !(always && self.head.has_undefined()) {
            return Ok(None);
        }
        let begun = Sealing {
            epoch: *epoch,
            position: self.wal.next_position(),
            metadata: self.metadata.lock().take_changed(),
        };
        *epoch = epoch.wrapping_add(1);
        let since_ms = self.since_ms.swap(i64::MAX, Ordering::Relaxed);
        self.uncut_ms.fetch_min(since_ms, Ordering::Relaxed);
        self.flipped_ms
            .store(self.clock.now_ms(), Ordering::Relaxed);
        Ok(Some(begun))
    }

    /// Whether there is nothing to seal.
    pub(super) fn nothing_in(&self, epoch: u32) -> bool {
        self.head.is_empty(epoch) && !self.metadata.lock().has_changed()
    }

    fn seal(&self, sealing: Sealing) -> Result<()> {
        let written = self.write_part(sealing);
        let (meta, defined, _file) = self.blocks.make_room_if_full(written)?;
        let edit = Edit {
            add: vec![meta],
            wal_position: Some(sealing.position),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {})?;
        // Only now: who read before has not missed anything.
        self.head.release(sealing.epoch, &defined);
        self.account.set(self.memory_bytes());
        self.wal.truncate(sealing.position)
    }

    /// Writes a part, which is not in the catalog yet, and gives the series that it defines.
    fn write_part(&self, sealing: Sealing) -> Result<(BlockMeta, Vec<u32>, Unfinished)> {
        let file = self.blocks.begin(&*self.clock);
        let mut part = PartWriter::create(&*self.fs, file.path())?;
        let mut defined = Vec::new();
        self.head.walk(|id, series| {
            if !series.defined {
                part.define(id, &series.labels)?;
                defined.push(id);
            }
            let late = series::encode(series.late(sealing.epoch).iter().cloned());
            let late = late.iter().map(series::Chunk::as_slice);
            part.series(id, series.chunks(sealing.epoch).chain(late))?;
            part.exemplars(id, series.exemplars(sealing.epoch))
        })?;
        if sealing.metadata {
            part.metadata(&self.metadata.lock())?;
        }
        let written = part.finish()?;
        let meta = BlockMeta {
            id: file.id(),
            range: written.range,
            rows: written.samples,
            bytes: written.bytes,
            level: PART_LEVEL,
            sequence: sealing.position,
            created_ms: self.clock.now_ms(),
            deletes_applied: 0,
        };
        Ok((meta, defined, file))
    }

    /// Seals when memory or the log is large enough or memory is old enough.
    pub(super) fn seal_if_due(&self) -> Result<()> {
        self.age_series();
        if self.seal_is_due() {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Flips the epoch when it is as old as a seal may be and holds nothing, so that series to which
    /// nothing is appended are known to be idle.
    fn age_series(&self) {
        let Some(sealing) = self.sealing.try_lock() else {
            return;
        };
        let mut epoch = self.epoch.write();
        let now_ms = self.clock.now_ms();
        let age_ms = now_ms.saturating_sub(self.flipped_ms.load(Ordering::Relaxed));
        let old = u128::try_from(age_ms).is_ok_and(|age| age >= self.config.seal_age.as_millis());
        if old && sealing.is_none() && self.nothing_in(*epoch) {
            *epoch = epoch.wrapping_add(1);
            self.flipped_ms.store(now_ms, Ordering::Relaxed);
            self.quiet_epoch.store(*epoch, Ordering::Relaxed);
        }
    }

    fn seal_is_due(&self) -> bool {
        if self
            .sealing
            .try_lock()
            .is_some_and(|sealing| sealing.is_some())
        {
            return true;
        }
        if self.nothing_in(*self.epoch.read()) {
            return false;
        }
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        let age_ms = self.clock.now_ms().saturating_sub(since_ms);
        let old = u128::try_from(age_ms).is_ok_and(|age| age >= self.config.seal_age.as_millis());
        // Series stay in memory, so a seal helps only if samples are a good part of it.
        let samples = self.head.sample_bytes();
        let crowded = self.shared.memory().used() > self.shared.memory().max() / 2
            && samples >= self.head.bytes() / SAMPLES_PART_MIN;
        old || crowded || samples >= self.config.head_bytes_max || self.log_is(2)
    }
}
