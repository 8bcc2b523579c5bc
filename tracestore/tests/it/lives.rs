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
use trine_tracestore::{Intrinsic, Test, TraceStore, Value};

use crate::crash::{self, time_of};
use crate::shipping::{Shipped, try_open};
use crate::store::{clock, intrinsic};

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
    check_lives(&Shipped(clock()));
}

#[test]
fn a_bucket_that_is_cut_off_or_fails_keeps_every_promise() {
    check_scripts(|| Shipped(clock()));
}
