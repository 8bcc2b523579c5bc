//! From a request to log and memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use trine_storage::Result;
use trine_storage::shipping::Ships as _;
use trine_storage::wal::Durability;

use super::Inner;
use crate::live::Run;
use crate::otlp::{Bounds, Malformed, check, pieces};
use crate::stats::Accepted;
use crate::wal_record;
use trine_storage::time::nanos;

/// Runs are built at once while somebody read so recently.
const READ_NS: i64 = 60_000_000_000;
/// Others are built when they were not sealed for so long.
const WAIT_NS: i64 = 10_000_000_000;

impl Inner {
    /// What spans are judged by now.
    pub(super) fn bounds(&self) -> Bounds {
        let now_ns = self.clock.now_ns();
        let ahead = |max| now_ns.saturating_add(nanos(max));
        Bounds {
            oldest_ns: self.retention.oldest_of_all_ns(now_ns),
            newest_ns: self.config.future_max.map_or(i64::MAX, ahead),
            span_bytes_max: self.config.span_bytes_max as u64,
            attributes_max: self.config.span_attributes_max as u64,
        }
    }

    /// Hands a request to log and memory as one. Gives its position in the log, unless nothing of it
    /// is stored, and what became of it.
    pub(crate) fn append(
        &self,
        request: &[u8],
        bounds: &Bounds,
    ) -> Result<(Option<u64>, Accepted)> {
        self.check_open()?;
        self.require_writer()?;
        let (plan, accepted) = check(request, bounds).map_err(Malformed::into_error)?;
        if plan.spans.is_empty() {
            return Ok((None, accepted));
        }
        self.shared.memory().admit(plan.memory)?;
        self.bound_memory()?;
        let head = wal_record::encode_head(bounds);
        let room = self.config.wal.record_bytes_max.saturating_sub(head.len());
        let pieces = match request.len() > room {
            true => pieces(&plan, room),
            false => Vec::new(),
        };
        let order = self.order.lock();
        self.check_open()?;
        let position = match pieces.split_last() {
            None => self.wal.append_parts(&[&head, request])?,
            Some((last, others)) => {
                for piece in others {
                    self.wal.append_parts(&[&head, piece])?;
                }
                self.wal.append_parts(&[&head, last])?
            }
        };
        let is_full = {
            let mut live = self.live.lock();
            live.stage(self.clock.now_ns()).push(&plan)?;
            self.account.set(live.figures().bytes);
            live.is_full()
        };
        let run = if is_full { self.cut() } else { None };
        drop(order);
        if let Some(run) = run
            && self.is_read()
        {
            self.build(&run);
        }
        Ok((Some(position), accepted))
    }

    /// Waits until the record at `position` is as durable as was asked for.
    pub(crate) fn wait(&self, position: u64, durability: Durability) -> Result<()> {
        self.wal.commit(position, durability)
    }

    /// Makes a run of the stage. Who calls this builds it when no lock is held, if anybody reads.
    pub(super) fn cut(&self) -> Option<Arc<Run>> {
        let now_ns = self.clock.now_ns();
        self.blocks
            .read(|version| self.live.lock().cut(&version.blocks, now_ns))
    }

    /// Whether somebody took a snapshot lately: then the next one should find what it needs.
    fn is_read(&self) -> bool {
        let read_ns = self.read_ns.load(Ordering::Relaxed);
        self.clock.now_ns().saturating_sub(read_ns) < READ_NS
    }

    /// Makes the tables of a run. If this fails, who reads it hears of it.
    pub(super) fn build(&self, run: &Run) {
        run.image().ok();
        self.account.set(self.live.lock().figures().bytes);
    }

    /// Builds the runs that have waited for a while without being sealed, before somebody reads them.
    pub(super) fn build_waiting(&self) {
        let runs: Vec<Arc<Run>> = self.live.lock().runs().cloned().collect();
        let now_ns = self.clock.now_ns();
        let is_due =
            |run: &&Arc<Run>| !run.is_built() && now_ns.saturating_sub(run.cut_ns()) >= WAIT_NS;
        runs.iter().filter(is_due).for_each(|run| self.build(run));
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
