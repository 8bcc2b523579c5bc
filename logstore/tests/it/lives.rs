//! Stores over a bucket that fails in all ways, with depots as servers have them: scripts that are cut
//! off at its requests, and random lives of two processes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trine_logstore::LineFilter;
use trine_storage::clock::ManualClock;
use trine_storage::depot::Depot;
use trine_storage::remote::{LivingSubject, check_lives, check_scripts};
use trine_storage::sim::SimFs;
use trine_storage::{Result, TimeRange};

use crate::shipping::{Logs, Timed, config};
use crate::store;

impl LivingSubject for Logs {
    fn open_at(
        &self,
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        depot: Arc<dyn Depot>,
    ) -> Result<Timed> {
        clock.advance(Duration::from_millis(1));
        let store = store::open_with(fs, clock, config(), depot)?;
        Ok((store, Arc::clone(clock)))
    }

    fn follow(&self, store: &Timed) -> Result<()> {
        store.0.follow().map(drop)
    }

    fn take_over(&self, store: &Timed) -> Result<()> {
        store.0.take_over()
    }

    fn delete(&self, store: &Timed, rows: Range<u64>) -> Result<()> {
        for row in rows {
            // Longer numbers begin with this one, too.
            let line = format!("row {row}");
            let more = (0..10).map(|digit| Bytes::from(format!("{line}{digit}")));
            let mut lines: Vec<_> = more.map(LineFilter::NotContains).collect();
            lines.push(LineFilter::Contains(line.into()));
            store.0.delete(&[], &lines, TimeRange::ALL)?;
        }
        Ok(())
    }
}

#[test]
fn two_processes_and_a_bucket_that_fails_keep_every_promise() {
    check_lives(&Logs::default());
}

#[test]
fn a_bucket_that_is_cut_off_or_fails_keeps_every_promise() {
    check_scripts(Logs::default);
}
