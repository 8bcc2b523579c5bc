//! The crash-conformance script: one workload, cut at every operation, for every engine.
//!
//! First the workload runs once to count its operations. Then for every N it runs again on a fresh
//! disk whose operation N and all later ones fail; the disk that a crash leaves is opened again and
//! compared with what was acknowledged: every acknowledged row is there exactly once, no row is
//! there that was never appended, no row is there twice.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Crash, Rng, SimFs};
use crate::error::Result;
use crate::wal::Durability;

/// An engine under test. Rows are numbers; the subject turns them into samples, lines or spans.
pub trait Subject {
    /// An open store.
    type Store;

    /// Opens the store on `fs`.
    ///
    /// # Errors
    /// The engine's.
    fn open(&self, fs: &SimFs) -> Result<Self::Store>;

    /// Appends the rows and waits for the acknowledgement.
    ///
    /// # Errors
    /// The engine's.
    fn append(&self, store: &Self::Store, rows: &[u64], durability: Durability) -> Result<()>;

    /// Seals memory into blocks.
    ///
    /// # Errors
    /// The engine's.
    fn flush(&self, store: &Self::Store) -> Result<()>;

    /// All rows that a query finds, as often as it finds them.
    ///
    /// # Errors
    /// The engine's.
    fn rows(&self, store: &Self::Store) -> Result<Vec<u64>>;
}

/// One step of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Append these rows.
    Append(Vec<u64>, Durability),
    /// Seal memory into blocks.
    Flush,
    /// Close the store and open it again.
    Reopen,
}

/// A workload of `steps` steps chosen by `seed`; all rows are different.
pub fn script(seed: u64, steps: usize) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut next_row = 0;
    let mut workload = Vec::with_capacity(steps);
    for _ in 0..steps {
        workload.push(match rng.below(10) {
            0 | 1 => Step::Flush,
            2 => Step::Reopen,
            n => {
                let rows: Vec<u64> = (next_row..=next_row + rng.below(12)).collect();
                next_row += rows.len() as u64;
                let durability = if n % 2 == 0 {
                    Durability::Synced
                } else {
                    Durability::Buffered
                };
                Step::Append(rows, durability)
            }
        });
    }
    workload
}

/// What a run was told about its rows.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeMap<u64, Durability>,
    attempted: u64,
}

/// Runs the workload with the power cut at every operation, for both kinds of crash.
///
/// Gives the number of cuts.
///
/// # Panics
/// When a promise is broken; the message names the cut and the seed.
pub fn check_every_cut<S: Subject>(subject: &S, workload: &[Step], seed: u64) -> u64 {
    let whole = SimFs::new();
    let told = run(subject, &whole, workload);
    let operations = whole.operations();
    assert_eq!(
        told.acknowledged.len() as u64,
        told.attempted,
        "seed {seed}: without a cut everything is acknowledged"
    );
    for cut in 0..=operations {
        for how in [Crash::Process, Crash::Power] {
            let disk = SimFs::new();
            disk.cut_after(cut);
            let told = run(subject, &disk, workload);
            let found = disk.crash(how, seed ^ cut);
            let place = format!("seed {seed}, cut {cut} of {operations}, {how:?} crash");
            check(subject, &found, &told, how, &place);
        }
    }
    operations
}

/// Runs the workload until it ends or something fails.
fn run<S: Subject>(subject: &S, fs: &SimFs, workload: &[Step]) -> Told {
    let mut told = Told::default();
    let Ok(mut store) = subject.open(fs) else {
        return told;
    };
    for step in workload {
        let done = match step {
            Step::Append(rows, durability) => {
                told.attempted = rows.last().map_or(told.attempted, |last| last + 1);
                let done = subject.append(&store, rows, *durability);
                if done.is_ok() {
                    told.acknowledged
                        .extend(rows.iter().map(|row| (*row, *durability)));
                }
                done
            }
            Step::Flush => subject.flush(&store),
            Step::Reopen => {
                drop(store);
                match subject.open(fs) {
                    Ok(opened) => {
                        store = opened;
                        Ok(())
                    }
                    Err(_) => return told,
                }
            }
        };
        if done.is_err() {
            break;
        }
    }
    told
}

fn check<S: Subject>(subject: &S, found: &SimFs, told: &Told, how: Crash, place: &str) {
    let store = must(subject.open(found), place, "open after the crash");
    let mut rows = must(subject.rows(&store), place, "read after the crash");
    rows.sort_unstable();
    for two in rows.windows(2) {
        assert_ne!(two[0], two[1], "{place}: row {} is there twice", two[0]);
    }
    for row in &rows {
        assert!(
            *row < told.attempted,
            "{place}: row {row} was never appended"
        );
    }
    for (row, durability) in &told.acknowledged {
        let promised = how == Crash::Process || *durability == Durability::Synced;
        assert!(
            !promised || rows.binary_search(row).is_ok(),
            "{place}: row {row} was acknowledged ({durability:?}) and is gone"
        );
    }
    // Life goes on: new rows are taken, and everything survives a flush and a clean restart.
    let new = told.attempted;
    must(
        subject.append(&store, &[new], Durability::Synced),
        place,
        "append after the crash",
    );
    must(subject.flush(&store), place, "flush after the crash");
    drop(store);
    let store = must(subject.open(found), place, "open again");
    let mut again = must(subject.rows(&store), place, "read again");
    again.sort_unstable();
    rows.push(new);
    assert_eq!(
        again, rows,
        "{place}: rows changed over a flush and a restart"
    );
}

pub(super) fn must<T>(result: Result<T>, place: &str, what: &str) -> T
where
    T: Sized,
{
    match result {
        Ok(value) => value,
        Err(error) => panic!("{place}: cannot {what}: {error}"),
    }
}
