//! Stores over a bucket that fails in all ways, with depots as servers have them: scripts that are cut
//! off at its requests, and random lives of two processes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::clock::ManualClock;
use trine_storage::depot::Depot;
use trine_storage::remote::{LivingSubject, check_over_faults, live};
use trine_storage::sim::{ShippedStep, SimFs, script_shipped, seeds};
use trine_storage::{Result, TimeRange};

use crate::shipping::{Rows, Timed, config, open_with, time_of};

/// How many lives there are without being told otherwise, and how long they are.
const LIVES: u64 = 12;
const STEPS: u32 = 60;
/// How many scripts there are without being told otherwise, and how often each is cut off.
const SCRIPTS: u64 = 2;
const CUTS: u64 = 32;

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
    let rows = Rows::default();
    let done: u64 = seeds(LIVES).map(|seed| live(&rows, seed, STEPS)).sum();
    let lives = seeds(LIVES).count() as u64;
    println!("{lives} lives: {done} writes went well");
    assert!(done > 4 * lives, "only {done} writes went well");
}

#[test]
fn a_bucket_that_is_cut_off_or_fails_keeps_every_promise() {
    let mut cuts = 0;
    for seed in seeds(SCRIPTS) {
        let mut script = script_shipped(seed, 8);
        script.push(ShippedStep::Ship);
        cuts += check_over_faults(&Rows::default(), &script, seed, CUTS);
    }
    let scripts = seeds(SCRIPTS).count() as u64;
    println!("{scripts} scripts: {cuts} cuts");
    assert!(cuts > CUTS / 2 * scripts, "only {cuts} cuts");
}
