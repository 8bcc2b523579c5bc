//! The crash-conformance script for stores that are shipped: one workload, cut at every operation of
//! the disk and at every call of the depot, for every engine.
//!
//! After each cut the store is opened again: on the disk that the crash has left, where every
//! acknowledged row is there exactly once; and on an empty disk, where every row is there exactly
//! once that was told to be shipped before. What is behind the cut is tried with the depot's last
//! request lost, and with its last answer lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::crash::{Step, Subject, must};
use super::{Crash, Cut, MemoryBucket, Rng, SimFs};
use crate::depot::Depot;
use crate::error::Result;
use crate::wal::Durability;

/// An engine under test whose stores are shipped.
pub trait ShippedSubject: Subject {
    /// Opens the store on `fs`, with a depot. The clock must not stand still from open to open.
    ///
    /// # Errors
    /// The engine's.
    fn open_with(&self, fs: &SimFs, depot: Arc<dyn Depot>) -> Result<Self::Store>;

    /// Seals memory, then follows and ships until there is nothing left to do.
    ///
    /// # Errors
    /// The engine's.
    fn ship(&self, store: &Self::Store) -> Result<()>;

    /// Plans merges of what there is, and makes them.
    ///
    /// # Errors
    /// The engine's.
    fn merge(&self, store: &Self::Store) -> Result<()>;

    /// Lets go of local copies, as `BlockSet::care` does.
    ///
    /// # Errors
    /// The engine's.
    fn evict(&self, store: &Self::Store) -> Result<()>;
}

/// A bucket under test, for one store.
pub trait ShippedBucket {
    /// A depot on it for the data directory `instance`: a process that starts, and writes unless that of
    /// another directory does.
    ///
    /// # Errors
    /// Those of a bucket that does not answer.
    fn depot(&self, instance: &str) -> Result<Arc<dyn Depot>>;

    /// How many calls there were that could fail.
    fn calls(&self) -> u64;

    /// Lets the first `calls` calls pass and every later one fail; what becomes of the first of those
    /// says `cut`.
    fn cut_after(&self, calls: u64, cut: Cut);

    /// Whether nothing answers any more. `false` also ends everything else that goes wrong.
    fn set_away(&self, is_away: bool);

    /// Whether there is no room for copies: told before they are looked after, and after it.
    fn evict(&self, is_full: bool);

    /// Removes the objects that nothing names or holds.
    fn sweep(&self);
}

impl ShippedBucket for MemoryBucket {
    fn depot(&self, instance: &str) -> Result<Arc<dyn Depot>> {
        Ok(self.depot(instance))
    }

    fn calls(&self) -> u64 {
        self.calls()
    }

    fn cut_after(&self, calls: u64, cut: Cut) {
        self.cut_after(calls, cut);
    }

    fn set_away(&self, is_away: bool) {
        self.set_away(is_away);
    }

    fn evict(&self, is_full: bool) {
        self.set_copies_max(is_full.then_some(0));
    }

    fn sweep(&self) {
        self.sweep();
    }
}

/// One step of a workload with a depot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShippedStep {
    /// What a store without a depot does, too.
    Local(Step),
    /// Ship everything.
    Ship,
    /// Merge what there is.
    Merge,
    /// Let go of local copies.
    Evict,
}

/// A workload of `steps` steps chosen by `seed`; all rows are different.
pub fn script_shipped(seed: u64, steps: usize) -> Vec<ShippedStep> {
    let mut rng = Rng::new(seed ^ 0x5319);
    let step = |step| match rng.below(7) {
        0 | 1 => vec![ShippedStep::Local(step), ShippedStep::Ship],
        2 => vec![ShippedStep::Local(step), ShippedStep::Merge],
        3 => vec![ShippedStep::Local(step), ShippedStep::Evict],
        _ => vec![ShippedStep::Local(step)],
    };
    let local = super::script(seed, steps).into_iter();
    local.flat_map(step).take(steps).collect()
}

/// What a run was told about its rows.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeMap<u64, Durability>,
    shipped: BTreeSet<u64>,
    attempted: u64,
    failed: bool,
}

/// Runs the workload with the power cut at every operation of the disk, for both kinds of crash, and
/// with the depot cut off at every call.
///
/// Gives the number of cuts.
///
/// # Panics
/// When a promise is broken; the message names the cut and the seed.
pub fn check_every_cut_shipped<S: ShippedSubject>(
    subject: &S,
    workload: &[ShippedStep],
    seed: u64,
) -> u64 {
    let (whole, bucket) = (SimFs::new(), MemoryBucket::new());
    let told = run(subject, &whole, &bucket, workload);
    let (operations, calls) = (whole.operations(), bucket.calls());
    assert!(!told.failed, "seed {seed}: without a cut nothing fails");
    assert!(!told.shipped.is_empty(), "seed {seed}: nothing is shipped");
    for cut in 0..=operations {
        for how in [Crash::Process, Crash::Power] {
            let (disk, bucket) = (SimFs::new(), MemoryBucket::new());
            disk.cut_after(cut);
            let told = run(subject, &disk, &bucket, workload);
            let found = disk.crash(how, seed ^ cut);
            let place = format!("seed {seed}, disk cut {cut} of {operations}, {how:?} crash");
            check(subject, &found, &bucket, &told, how, &place);
        }
    }
    for cut in 0..=calls {
        for what in [Cut::Request, Cut::Answer] {
            let (disk, bucket) = (SimFs::new(), MemoryBucket::new());
            bucket.cut_after(cut, what);
            let told = run(subject, &disk, &bucket, workload);
            let found = disk.crash(Crash::Power, seed ^ cut);
            let place = format!("seed {seed}, depot cut {cut} of {calls}, {what:?} lost");
            check(subject, &found, &bucket, &told, Crash::Power, &place);
        }
    }
    operations + calls
}

/// Runs the workload over buckets that `make` makes, all alike, with as many cuts as `cuts_max` says,
/// spread over all calls of the bucket, and once without one: then steps may fail as the bucket likes.
///
/// Gives how many cuts there were.
///
/// # Panics
/// As [`check_every_cut_shipped`].
pub fn check_cuts_over<S: ShippedSubject, B: ShippedBucket>(
    subject: &S,
    make: impl Fn() -> B,
    workload: &[ShippedStep],
    seed: u64,
    cuts_max: u64,
) -> u64 {
    let (disk, whole) = (SimFs::new(), make());
    let told = run(subject, &disk, &whole, workload);
    let calls = whole.calls();
    let found = disk.crash(Crash::Power, seed);
    let place = format!("seed {seed}, no cut");
    check(subject, &found, &whole, &told, Crash::Power, &place);
    let stride = calls.div_ceil(cuts_max.max(1)).max(1);
    let mut cuts = 0;
    let mut cut = seed % stride;
    while cut <= calls {
        let what = match (cut / stride) % 2 {
            0 => Cut::Request,
            _ => Cut::Answer,
        };
        let (disk, bucket) = (SimFs::new(), make());
        bucket.cut_after(cut, what);
        let told = run(subject, &disk, &bucket, workload);
        let found = disk.crash(Crash::Power, seed ^ cut);
        let place = format!("seed {seed}, bucket cut {cut} of {calls}, {what:?} lost");
        check(subject, &found, &bucket, &told, Crash::Power, &place);
        cuts += 1;
        cut += stride;
    }
    cuts
}

/// Runs the workload until it ends or the disk fails. What the depot refuses is passed over.
fn run<S: ShippedSubject, B: ShippedBucket>(
    subject: &S,
    fs: &SimFs,
    bucket: &B,
    workload: &[ShippedStep],
) -> Told {
    let mut told = Told::default();
    let open = || subject.open_with(fs, bucket.depot("first")?);
    let Ok(mut store) = open() else {
        told.failed = true;
        return told;
    };
    for step in workload {
        let done = match step {
            ShippedStep::Local(Step::Append(rows, durability)) => {
                told.attempted = rows.last().map_or(told.attempted, |last| last + 1);
                let done = subject.append(&store, rows, *durability);
                if done.is_ok() {
                    let rows = rows.iter().map(|row| (*row, *durability));
                    told.acknowledged.extend(rows);
                }
                done
            }
            ShippedStep::Local(Step::Flush) => subject.flush(&store),
            ShippedStep::Local(Step::Reopen) => {
                drop(store);
                match open() {
                    Ok(opened) => {
                        store = opened;
                        Ok(())
                    }
                    Err(_) => {
                        told.failed = true;
                        return told;
                    }
                }
            }
            ShippedStep::Ship => subject.ship(&store).inspect(|()| {
                told.shipped.extend(told.acknowledged.keys());
            }),
            ShippedStep::Merge => subject.merge(&store),
            ShippedStep::Evict => {
                bucket.evict(true);
                let done = subject.evict(&store);
                bucket.evict(false);
                done
            }
        };
        told.failed |= done.is_err();
    }
    told
}

fn check<S: ShippedSubject, B: ShippedBucket>(
    subject: &S,
    found: &SimFs,
    bucket: &B,
    told: &Told,
    how: Crash,
    place: &str,
) {
    // A disk that was lost has lost what was not shipped, and nothing else.
    bucket.set_away(false);
    let depot = |instance: &str| must(bucket.depot(instance), place, "start a process");
    let empty = subject.open_with(&SimFs::new(), depot("reader"));
    let empty = must(empty, place, "open on an empty disk");
    let rows = must(subject.rows(&empty), place, "read on an empty disk");
    let all: BTreeSet<u64> = rows.iter().copied().collect();
    assert_eq!(all.len(), rows.len(), "{place}: a row is shipped twice");
    let lost: Vec<&u64> = told.shipped.difference(&all).collect();
    assert!(
        lost.is_empty(),
        "{place}: {lost:?} were shipped and are gone"
    );
    // On the disk first while the depot is away, then when it is back.
    let first = depot("first");
    bucket.set_away(true);
    if let Ok(store) = subject.open_with(found, first) {
        if let Ok(rows) = subject.rows(&store) {
            check_rows(rows, told, how, &format!("{place}, depot away"));
        }
        bucket.set_away(false);
        must(subject.ship(&store), place, "ship when the depot is back");
        let rows = must(subject.rows(&store), place, "read when it is back");
        check_rows(rows, told, how, &format!("{place}, depot back"));
    }
    bucket.set_away(false);
    bucket.sweep();
    let store = must(
        subject.open_with(found, depot("first")),
        place,
        "open after the crash",
    );
    let rows = must(subject.rows(&store), place, "read after the crash");
    let mut rows = check_rows(rows, told, how, place);
    // Life goes on: new rows are taken and shipped, and blocks are merged.
    let new = told.attempted;
    let append = subject.append(&store, &[new], Durability::Synced);
    must(append, place, "append after the crash");
    must(subject.ship(&store), place, "ship after the crash");
    must(subject.merge(&store), place, "merge after the crash");
    must(subject.ship(&store), place, "ship what is merged");
    rows.push(new);
    let mut now = must(subject.rows(&store), place, "read what is merged");
    now.sort_unstable();
    assert_eq!(now, rows, "{place}: rows changed while life went on");
    drop(store);
    bucket.sweep();
    let empty = SimFs::new();
    let other = must(
        subject.open_with(&empty, depot("second")),
        place,
        "open on an empty disk",
    );
    let mut there = must(subject.rows(&other), place, "read on an empty disk");
    there.sort_unstable();
    assert_eq!(there, rows, "{place}: all that was shipped is there, once");
}

/// Every acknowledged row is there, none twice and none that was never appended. Gives them sorted.
fn check_rows(mut rows: Vec<u64>, told: &Told, how: Crash, place: &str) -> Vec<u64> {
    rows.sort_unstable();
    for two in rows.windows(2) {
        assert_ne!(two[0], two[1], "{place}: row {} is there twice", two[0]);
    }
    for row in &rows {
        let attempted = told.attempted;
        assert!(*row < attempted, "{place}: row {row} was never appended");
    }
    for (row, durability) in &told.acknowledged {
        let promised = how == Crash::Process
            || *durability == Durability::Synced
            || told.shipped.contains(row);
        assert!(
            !promised || rows.binary_search(row).is_ok(),
            "{place}: row {row} was acknowledged ({durability:?}) and is gone"
        );
    }
    rows
}
