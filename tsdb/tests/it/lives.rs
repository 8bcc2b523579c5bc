//! Stores over a bucket that fails in all ways, with depots as servers have them: scripts that are cut
//! off at its requests, and random lives of two processes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::clock::ManualClock;
use trine_storage::depot::Depot;
use trine_storage::remote::{LivingSubject, check_lives, check_scripts};
use trine_storage::sim::SimFs;
use trine_storage::{Result, TimeRange};

use crate::shipping::{Rows, Timed, config, open_with, time_of};

impl LivingSubject for Rows {
    fn open_at(
        &self,
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        depot: Arc<dyn Depot>,
    ) -> Result<Timed> {
        clock.advance(Duration::from_millis(1));
        let db = open_with(fs, clock, config(), depot)?;
        Ok((db, Arc::clone(clock)))
    }

    fn follow(&self, db: &Timed) -> Result<()> {
        db.0.follow().map(drop)
    }

    fn take_over(&self, db: &Timed) -> Result<()> {
        db.0.take_over()
    }

    fn delete(&self, db: &Timed, rows: Range<u64>) -> Result<()> {
        let range = TimeRange::new(time_of(rows.start), time_of(rows.end));
        db.0.delete(&[], range)
    }
}

#[test]
fn two_processes_and_a_bucket_that_fails_keep_every_promise() {
    check_lives(&Rows::default());
}

#[test]
fn a_bucket_that_is_cut_off_or_fails_keeps_every_promise() {
    check_scripts(Rows::default);
}
