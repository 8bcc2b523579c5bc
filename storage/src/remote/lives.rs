//! Random lives of two processes that ship to one bucket which fails in all ways, with depots as servers
//! have them, against a model that knows only which rows must be there and which may be. Every engine
//! lives them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::depots::Depots;
use super::fault::Faults;
use super::fault_bucket::check_over_faults;
use super::stage::{Mode, Stage};
use crate::clock::ManualClock;
use crate::depot::Depot;
use crate::error::Result;
use crate::sim::{Crash, Rng, ShippedStep, ShippedSubject, SimFs, script_shipped, seeds};
use crate::wal::Durability::Synced;

const TENANT: &str = "t";
const SIGNAL: &str = "rows";

/// The bytes of local copies that processes of a life may have.
const COPIES_BYTES_MAX: [u64; 3] = [0, 5_000, u64::MAX];

/// An engine whose stores live with a bucket that fails.
pub trait LivingSubject: ShippedSubject {
    /// As [`ShippedSubject::open_with`], in the time that `clock` tells. No two stores may make blocks at
    /// the same time.
    ///
    /// # Errors
    /// The engine's.
    fn open_at(
        &self,
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        depot: Arc<dyn Depot>,
    ) -> Result<Self::Store>;

    /// Looks what others have shipped.
    ///
    /// # Errors
    /// The engine's.
    fn follow(&self, store: &Self::Store) -> Result<()>;

    /// Makes the store ready to be written to.
    ///
    /// # Errors
    /// The engine's.
    fn take_over(&self, store: &Self::Store) -> Result<()>;

    /// Deletes the rows of these numbers that are there, and no others.
    ///
    /// # Errors
    /// The engine's; some may be deleted then.
    fn delete(&self, store: &Self::Store, rows: Range<u64>) -> Result<()>;

    /// Reads blocks until they are worth a copy, and has one fetched. What has no such call does nothing.
    ///
    /// # Errors
    /// The engine's.
    fn fetch(&self, _store: &Self::Store) -> Result<()> {
        Ok(())
    }
}

/// One life of `steps` steps, chosen by `seed`. Gives how many writes went well.
///
/// # Panics
/// When a promise is broken; the message names the seed and tells the life.
pub fn live<S: LivingSubject>(subject: &S, seed: u64, steps: u32) -> u64 {
    let mut world = World::new(subject, seed);
    for _ in 0..steps {
        world.step();
    }
    world.check();
    world.done
}

/// Lives of an engine without being told otherwise ([`seeds`]), and how long they are.
const LIVES: u64 = 12;
const STEPS: u32 = 60;
/// Scripts of an engine without being told otherwise, and how often each is cut off.
const SCRIPTS: u64 = 2;
const CUTS: u64 = 32;

/// Random lives of an engine, as many as [`seeds`] says.
///
/// # Panics
/// As [`live`], and when hardly anything could be written.
pub fn check_lives<S: LivingSubject>(subject: &S) {
    let done: u64 = seeds(LIVES).map(|seed| live(subject, seed, STEPS)).sum();
    let lives = seeds(LIVES).count() as u64;
    println!("{lives} lives: {done} writes went well");
    assert!(done > 4 * lives, "only {done} writes went well");
}

/// Scripts of an engine over a bucket that is cut off or fails, as many as [`seeds`] says, each with a
/// subject of its own.
///
/// # Panics
/// As [`check_over_faults`], and when hardly anything was cut off.
pub fn check_scripts<S: ShippedSubject>(subject: impl Fn() -> S) {
    let mut cuts = 0;
    for seed in seeds(SCRIPTS) {
        let mut script = script_shipped(seed, 8);
        script.push(ShippedStep::Ship);
        cuts += check_over_faults(&subject(), &script, seed, CUTS);
    }
    let scripts = seeds(SCRIPTS).count() as u64;
    println!("{scripts} scripts: {cuts} cuts");
    assert!(cuts > CUTS / 2 * scripts, "only {cuts} cuts");
}

/// A process and its data directory.
struct Process<S: LivingSubject> {
    name: String,
    mode: Mode,
    fs: SimFs,
    depots: Option<Arc<Depots>>,
    store: Option<S::Store>,
    /// The epoch in which the store has taken over.
    admitted: u64,
    /// Rows that were acknowledged here.
    appended: BTreeSet<u64>,
    /// Whether the disk is cut: nothing helps but to start again.
    is_cut: bool,
}

impl<S: LivingSubject> Process<S> {
    fn new(name: &str, mode: Mode) -> Self {
        Self {
            name: name.to_owned(),
            mode,
            fs: SimFs::new(),
            depots: None,
            store: None,
            admitted: 0,
            appended: BTreeSet::new(),
            is_cut: false,
        }
    }

    /// Starts what does not run, as far as the bucket lets it.
    fn open(&mut self, subject: &S, stage: &Stage, salt: u64) -> Result<()> {
        if self.depots.is_none() {
            self.depots = Some(stage.depots(&self.name, salt, self.mode)?);
        }
        if let (Some(depots), None) = (&self.depots, &self.store) {
            let depot: Arc<dyn Depot> = depots.store(TENANT, SIGNAL);
            let epoch = epoch(depots);
            let store = subject.open_at(&self.fs, &stage.clock, depot)?;
            self.admitted = epoch;
            self.store = Some(store);
        }
        Ok(())
    }

    /// Lets writes in where the lease was gained.
    fn admit(&mut self, subject: &S) -> Result<bool> {
        let (Some(depots), Some(store)) = (&self.depots, &self.store) else {
            return Ok(false);
        };
        let epoch = epoch(depots);
        if epoch != 0 && epoch != self.admitted {
            subject.follow(store)?;
            subject.take_over(store)?;
            self.admitted = epoch;
        }
        Ok(epoch != 0)
    }

    fn crash(&mut self, seed: u64) {
        self.store = None;
        self.depots = None;
        self.fs = self.fs.crash(Crash::Power, seed);
        self.is_cut = false;
    }

    fn seen(&self, subject: &S) -> Option<Vec<u64>> {
        let mut rows = subject.rows(self.store.as_ref()?).ok()?;
        rows.sort_unstable();
        Some(rows)
    }
}

/// The epoch in which the process writes, 0 for none.
fn epoch(depots: &Depots) -> u64 {
    match depots.role() {
        crate::depot::Role::Writer { epoch } => epoch,
        _ => 0,
    }
}

struct World<'a, S: LivingSubject> {
    subject: &'a S,
    seed: u64,
    rng: Rng,
    stage: Stage,
    processes: [Process<S>; 2],
    next_row: u64,
    /// Rows that were told to be shipped.
    shipped: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    /// Rows of which nothing was promised.
    maybe: BTreeSet<u64>,
    log: Vec<String>,
    done: u64,
}

impl<'a, S: LivingSubject> World<'a, S> {
    fn new(subject: &'a S, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let copies = COPIES_BYTES_MAX.get(index(rng.below(3))).copied();
        let mode = Mode::Writes {
            copies_bytes_max: copies.unwrap_or(0),
        };
        Self {
            subject,
            seed,
            rng,
            stage: Stage::new(seed, Faults::default()),
            processes: ["host-a", "host-b"].map(|name| Process::new(name, mode)),
            next_row: 0,
            shipped: BTreeSet::new(),
            deleted: BTreeSet::new(),
            maybe: BTreeSet::new(),
            log: Vec::new(),
            done: 0,
        }
    }

    fn open(&mut self, which: usize) -> Result<()> {
        let salt = self.rng.next_u64();
        self.processes[which].open(self.subject, &self.stage, salt)
    }

    /// Does something in the store of a process that may write, as its gate says.
    fn write(
        &mut self,
        what: &str,
        act: impl FnOnce(&S, &S::Store) -> Result<()>,
    ) -> Option<usize> {
        let which = index(self.rng.below(2));
        self.open(which).ok();
        let process = &mut self.processes[which];
        if !matches!(process.admit(self.subject), Ok(true)) {
            return None;
        }
        let done = act(self.subject, process.store.as_ref()?);
        self.done += u64::from(done.is_ok());
        self.log.push(format!("{which} {what}: {done:?}"));
        done.is_ok().then_some(which)
    }

    fn append(&mut self) {
        let rows: Vec<u64> = (self.next_row..=self.next_row + self.rng.below(3)).collect();
        self.next_row += rows.len() as u64;
        match self.write(&format!("append {rows:?}"), |subject, store| {
            subject.append(store, &rows, Synced)
        }) {
            Some(which) => self.processes[which].appended.extend(rows),
            None => self.maybe.extend(rows),
        }
    }

    fn ship(&mut self) {
        if let Some(which) = self.write("ship", S::ship) {
            let appended = &self.processes[which].appended;
            self.shipped.extend(appended.iter().copied());
        }
    }

    fn delete(&mut self) {
        let start = self.rng.below(self.next_row + 1);
        let range = start..start + 1 + self.rng.below(4);
        let mut seen = Vec::new();
        let done = self.write(&format!("delete {range:?}"), |subject, store| {
            seen = subject.rows(store)?;
            subject.delete(store, range.clone())
        });
        for row in range {
            match done.is_some() && seen.contains(&row) {
                true => drop(self.deleted.insert(row)),
                false => drop(self.maybe.insert(row)),
            }
        }
    }

    /// Time passes in which the process may take the bucket over, and does things with it.
    fn hand_over(&mut self, to: usize) {
        if self.rng.below(2) == 0 {
            return;
        }
        self.open(to).ok();
        for _ in 0..14 {
            self.stage.advance(5);
            if let Some(depots) = &self.processes[to].depots {
                depots.keep().ok();
            }
        }
        for _ in 0..4 {
            match self.rng.below(3) {
                0 => self.append(),
                1 => self.ship(),
                _ => drop(self.write("merge", S::merge)),
            }
        }
    }

    /// A process ships, never hears of it, and ends; another one goes on.
    fn lose_the_answer(&mut self) {
        let lost = Faults {
            after: 200 + 400 * self.rng.below(3),
            ..Faults::default()
        };
        self.append();
        self.write("seal", S::flush);
        self.stage.store.set_faults(lost);
        let seed = self.rng.next_u64();
        let shipped = self.write("ship", S::ship);
        self.stage.store.set_faults(Faults::default());
        for (which, process) in self.processes.iter_mut().enumerate() {
            if shipped.is_none() && process.depots.as_ref().is_some_and(|d| epoch(d) != 0) {
                process.crash(seed);
                self.log.push(format!("crash {which} with its answer lost"));
                return self.hand_over(1 - which);
            }
        }
    }

    fn step(&mut self) {
        let seconds = self.rng.below(20);
        self.stage.advance(seconds);
        for process in &self.processes {
            if let Some(depots) = &process.depots
                && self.rng.below(4) > 0
            {
                depots.keep().ok();
            }
        }
        match self.rng.below(25) {
            0..=4 => self.append(),
            5 => drop(self.write("seal", S::flush)),
            6..=8 => self.ship(),
            9..=11 => drop(self.write("merge", S::merge)),
            12 => self.delete(),
            13 => drop(self.write("evict", S::evict)),
            14 => drop(self.write("fetch", S::fetch)),
            23 => {
                self.stage.advance(1_000);
                for process in &self.processes {
                    if let Some(depots) = &process.depots {
                        depots.keep().ok();
                        depots.sweep().ok();
                    }
                }
                self.log.push("sweep".into());
            }
            15 | 16 => {
                let which = index(self.rng.below(2));
                let seed = self.rng.next_u64();
                self.processes[which].crash(seed);
                self.log.push(format!("crash {which}"));
                self.hand_over(1 - which);
            }
            17 => {
                let which = index(self.rng.below(2));
                if let Some(depots) = &self.processes[which].depots {
                    depots.release().ok();
                }
                self.processes[which].store = None;
                self.processes[which].depots = None;
                self.log.push(format!("stop {which}"));
                self.hand_over(1 - which);
            }
            18 => {
                let gone = self.rng.below(2) == 0;
                self.stage.store.set_gone(gone);
                self.log.push(format!("gone {gone}"));
            }
            19 => {
                let faults = Faults {
                    before: self.rng.below(100),
                    after: self.rng.below(100),
                    late: self.rng.below(60),
                    late_requests: 30,
                    short: self.rng.below(30),
                    throttled: self.rng.below(60),
                    list_lag_changes: self.rng.below(20),
                    latency: Duration::from_millis(self.rng.below(8) / 7),
                    ..Faults::default()
                };
                self.stage.store.set_faults(faults);
                self.log.push("faults".into());
            }
            20 => {
                let which = index(self.rng.below(2));
                let process = &mut self.processes[which];
                let after = process.fs.operations() + self.rng.below(12);
                process.fs.cut_after(after);
                process.is_cut = true;
                self.log.push(format!("cut the disk of {which}"));
            }
            21 => self.lose_the_answer(),
            22 => self.check(),
            _ => {
                self.stage.store.set_faults(Faults::default());
                self.stage.store.set_gone(false);
                self.log.push("well".into());
            }
        }
        for process in &self.processes {
            let rows = process.seen(self.subject).unwrap_or_default();
            let twice = rows.windows(2).find(|two| two[0] == two[1]);
            assert_eq!(twice, None, "seed {}: {:#?}", self.seed, self.log);
        }
    }

    /// Everything works again; what must be there is there, for both and for who only reads.
    fn check(&mut self) {
        self.log.push("check".into());
        self.stage.store.set_gone(false);
        self.stage.store.set_faults(Faults::default());
        self.stage.store.settle();
        for which in 0..2 {
            let seed = self.rng.next_u64();
            if self.processes[which].is_cut {
                self.processes[which].crash(seed);
            }
            let opened = self.open(which);
            self.well(opened, "open");
        }
        let mut writers = 0;
        for _ in 0..20 {
            self.stage.advance(5);
            writers = 0;
            for depots in self.processes.iter().filter_map(|p| p.depots.as_ref()) {
                self.well(depots.keep(), "keep the lease");
                writers += u64::from(depots.role().is_writer());
            }
        }
        assert_eq!(writers, 1, "seed {}: {:#?}", self.seed, self.log);
        for which in 0..2 {
            let store = self.processes[which].store.as_ref();
            let followed = store.map_or(Ok(()), |store| self.subject.follow(store));
            self.well(followed, "follow");
            let admitted = self.processes[which].admit(self.subject);
            self.well(admitted, "take over");
        }
        for process in &self.processes {
            let must: BTreeSet<u64> = process.appended.union(&self.shipped).copied().collect();
            self.compare(&process.name, &must, process.seen(self.subject));
        }
        let mut reader = Process::<S>::new("reader", Mode::Reads);
        let before = self.stage.store.changes().len();
        let salt = self.rng.next_u64();
        let opened = reader.open(self.subject, &self.stage, salt);
        self.well(opened, "open on an empty disk");
        self.compare(
            "a reader on an empty disk",
            &self.shipped,
            reader.seen(self.subject),
        );
        assert_eq!(self.stage.store.changes().len(), before, "a reader wrote");
    }

    /// What has to go well when all is well.
    fn well<T: Debug>(&self, done: Result<T>, what: &str) {
        if let Err(error) = done {
            panic!(
                "seed {}: cannot {what}: {error}: {:#?}",
                self.seed, self.log
            );
        }
    }

    fn compare(&self, name: &str, must: &BTreeSet<u64>, seen: Option<Vec<u64>>) {
        let log = || format!("for {name}, seed {}: {:#?}", self.seed, self.log);
        let Some(seen) = seen else {
            panic!("nothing can be read {}", log());
        };
        let twice = seen.windows(2).find(|two| two[0] == two[1]);
        assert_eq!(twice, None, "{}", log());
        let seen: BTreeSet<u64> = seen.into_iter().collect();
        let free = |row: &&u64| self.maybe.contains(row) || self.deleted.contains(row);
        let gone: Vec<&u64> = must
            .iter()
            .filter(|row| !free(row) && !seen.contains(row))
            .collect();
        assert!(gone.is_empty(), "{gone:?} are gone {}", log());
        let back = self.deleted.intersection(&seen);
        let back: Vec<&u64> = back.filter(|row| !self.maybe.contains(row)).collect();
        assert!(back.is_empty(), "{back:?} are back {}", log());
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
