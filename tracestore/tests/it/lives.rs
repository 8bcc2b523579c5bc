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
use trine_tracestore::{Intrinsic, Test, TraceStore, Value};

use crate::crash::{self, time_of};
use crate::shipping::{Shipped, try_open};
use crate::store::{clock, intrinsic};

/// How many lives there are without being told otherwise, and how long they are.
const LIVES: u64 = 12;
const STEPS: u32 = 60;
/// How many scripts there are without being told otherwise, and how often each is cut off.
const SCRIPTS: u64 = 2;
const CUTS: u64 = 32;

impl LivingSubject for Shipped {
    fn open_at(
        &self,
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        depot: Arc<dyn Depot>,
    ) -> Result<TraceStore> {
        clock.advance(Duration::from_millis(1));
        try_open(fs, crash::config(), clock, depot)
    }

    fn follow(&self, store: &TraceStore) -> Result<()> {
        store.follow().map(drop)
    }

    fn take_over(&self, store: &TraceStore) -> Result<()> {
        store.take_over()
    }

    fn delete(&self, store: &TraceStore, rows: Range<u64>) -> Result<()> {
        let every = intrinsic(Intrinsic::Name, Test::Equal(vec![Value::Str("s".into())]));
        let range = TimeRange::new(time_of(rows.start), time_of(rows.end));
        store.delete(&every, range).map(drop)
    }
}

#[test]
fn two_processes_and_a_bucket_that_fails_keep_every_promise() {
    let spans = Shipped(clock());
    let done: u64 = seeds(LIVES).map(|seed| live(&spans, seed, STEPS)).sum();
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
        cuts += check_over_faults(&Shipped(clock()), &script, seed, CUTS);
    }
    let scripts = seeds(SCRIPTS).count() as u64;
    println!("{scripts} scripts: {cuts} cuts");
    assert!(cuts > CUTS / 2 * scripts, "only {cuts} cuts");
}
