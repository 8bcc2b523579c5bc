//! Random lives of two processes that ship to one bucket which fails in all ways, with depots as servers
//! have them, against a model that knows only which rows must be there and which may be.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::depots::{Depots, DepotsConfig};
use super::fault::Faults;
use super::lease::Holder;
use super::range_cache::{CacheOptions, RangeCache};
use super::stage::{Stage, handle};
use super::sweep::SweepOptions;
use crate::block_set::tests::rows::Rows;
use crate::clock::Clock;
use crate::depot::Depot;
use crate::error::Result;
use crate::fs::Fs;
use crate::shared::Shared;
use crate::sim::{Crash, Rng, SimFs, seeds};
use crate::time::TimeRange;
use crate::wal::Durability::Synced;

const TENANT: &str = "t";
const SIGNAL: &str = "rows";

/// A process and its data directory.
struct Process {
    name: String,
    is_reader: bool,
    fs: SimFs,
    depots: Option<Arc<Depots>>,
    store: Option<Rows>,
    /// The epoch in which the store has taken over.
    admitted: u64,
    /// Rows that were acknowledged here.
    appended: BTreeSet<u64>,
    /// Whether the disk is cut: nothing helps but to start again.
    is_cut: bool,
}

impl Process {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_reader: false,
            fs: SimFs::new(),
            depots: None,
            store: None,
            admitted: 0,
            appended: BTreeSet::new(),
            is_cut: false,
        }
    }

    /// Starts what does not run, as far as the bucket lets it.
    fn open(&mut self, stage: &Stage, salt: u64, copies_bytes_max: u64) -> Result<()> {
        if self.depots.is_none() {
            let clock = Arc::clone(&stage.clock) as Arc<dyn Clock>;
            let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
            let cache = RangeCache::open(CacheOptions::default(), &fs, handle(), &clock)?;
            let config = DepotsConfig {
                is_read_only: self.is_reader,
                copies_bytes_max,
                sweep: SweepOptions {
                    versions_kept_min: 2,
                    ..SweepOptions::default()
                },
                ..DepotsConfig::new(Holder::new(&self.name, Some(&self.name)))
            };
            let workers = Shared::without_workers();
            self.depots = Some(Depots::open(&stage.bucket(salt), config, cache, &workers)?);
        }
        if let (Some(depots), None) = (&self.depots, &self.store) {
            let depot: Arc<dyn Depot> = depots.store(TENANT, SIGNAL);
            let epoch = epoch(depots);
            let store = Rows::open(&self.fs, &stage.clock, Some(depot))?;
            self.admitted = epoch;
            self.store = Some(store);
        }
        Ok(())
    }

    /// Lets writes in where the lease was gained.
    fn admit(&mut self) -> Result<bool> {
        let (Some(depots), Some(store)) = (&self.depots, &self.store) else {
            return Ok(false);
        };
        let epoch = epoch(depots);
        if epoch != 0 && epoch != self.admitted {
            store.follow()?;
            store.take_over()?;
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

    fn seen(&self) -> Option<Vec<u64>> {
        let mut rows = self.store.as_ref()?.all().ok()?;
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

struct World {
    seed: u64,
    rng: Rng,
    stage: Stage,
    processes: [Process; 2],
    next_row: u64,
    /// Rows that were told to be shipped.
    shipped: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    /// Rows of which nothing was promised.
    maybe: BTreeSet<u64>,
    log: Vec<String>,
    done: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: Rng::new(seed),
            stage: Stage::new(seed, Faults::default()),
            processes: [Process::new("host-a"), Process::new("host-b")],
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
        // A few blocks.
        self.processes[which].open(&self.stage, salt, 1_000)
    }

    /// Does something in the store of a process that may write, as its gate says.
    fn write(&mut self, what: &str, act: impl FnOnce(&Rows) -> Result<()>) -> Option<usize> {
        let which = usize::try_from(self.rng.below(2)).unwrap();
        self.open(which).ok();
        let process = &mut self.processes[which];
        if !matches!(process.admit(), Ok(true)) {
            return None;
        }
        let done = act(process.store.as_ref()?);
        self.done += u64::from(done.is_ok());
        self.log.push(format!("{which} {what}: {done:?}"));
        done.is_ok().then_some(which)
    }

    fn append(&mut self) {
        let rows: Vec<u64> = (self.next_row..=self.next_row + self.rng.below(3)).collect();
        self.next_row += rows.len() as u64;
        match self.write(&format!("append {rows:?}"), |store| {
            store.add(&rows, Synced)
        }) {
            Some(which) => self.processes[which].appended.extend(rows),
            None => self.maybe.extend(rows),
        }
    }

    fn ship(&mut self) {
        if let Some(which) = self.write("ship", Rows::ship) {
            let appended = &self.processes[which].appended;
            self.shipped.extend(appended.iter().copied());
        }
    }

    fn delete(&mut self) {
        let start = self.rng.below(self.next_row + 1);
        let range = start..start + 1 + self.rng.below(4);
        let time = |row: u64| i64::try_from(row).unwrap();
        let time = TimeRange::new(time(range.start), time(range.end));
        let mut seen = Vec::new();
        let done = self.write(&format!("delete {range:?}"), |store| {
            seen = store.all()?;
            store.delete(time).map(drop)
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
                _ => drop(self.write("merge", Rows::merge)),
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
        self.write("seal", Rows::seal);
        self.stage.store.set_faults(lost);
        let seed = self.rng.next_u64();
        let shipped = self.write("ship", Rows::ship);
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
            5 => drop(self.write("seal", Rows::seal)),
            6..=8 => self.ship(),
            9..=11 => drop(self.write("merge", Rows::merge)),
            12 => self.delete(),
            13 => drop(self.write("evict", |store| store.blocks.care())),
            14 => drop(self.write("fetch", |store| {
                for block in &store.blocks.version().blocks {
                    for _ in 0..block.meta.bytes / 8 {
                        block.file.section(1)?;
                    }
                }
                store.blocks.care()?;
                store.blocks.fetch(&|| Ok(())).map(drop)
            })),
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
                let which = usize::try_from(self.rng.below(2)).unwrap();
                let seed = self.rng.next_u64();
                self.processes[which].crash(seed);
                self.log.push(format!("crash {which}"));
                self.hand_over(1 - which);
            }
            17 => {
                let which = usize::try_from(self.rng.below(2)).unwrap();
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
                    ..Faults::default()
                };
                self.stage.store.set_faults(faults);
                self.log.push("faults".into());
            }
            20 => {
                let which = usize::try_from(self.rng.below(2)).unwrap();
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
            let rows = process.seen().unwrap_or_default();
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
            self.open(which).expect("it opens when all is well");
        }
        let mut writers = 0;
        for _ in 0..20 {
            self.stage.advance(5);
            writers = 0;
            for process in &self.processes {
                let depots = process.depots.as_ref().unwrap();
                depots.keep().expect("it is kept when all is well");
                writers += u64::from(depots.role().is_writer());
            }
        }
        assert_eq!(writers, 1, "seed {}: {:#?}", self.seed, self.log);
        for process in &mut self.processes {
            process
                .store
                .as_ref()
                .unwrap()
                .follow()
                .expect("it follows");
            process.admit().expect("it takes over when all is well");
        }
        for process in &self.processes {
            let must: BTreeSet<u64> = process.appended.union(&self.shipped).copied().collect();
            self.compare(&process.name, &must, process.seen());
        }
        let mut reader = Process::new("reader");
        reader.is_reader = true;
        let before = self.stage.store.changes().len();
        let salt = self.rng.next_u64();
        reader.open(&self.stage, salt, 0).expect("it opens");
        self.compare("a reader on an empty disk", &self.shipped, reader.seen());
        assert_eq!(self.stage.store.changes().len(), before, "a reader wrote");
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

#[test]
fn two_processes_and_a_bucket_that_fails_keep_every_promise() {
    let mut done = 0;
    for seed in seeds(60) {
        let mut world = World::new(seed);
        for _ in 0..80 {
            world.step();
        }
        world.check();
        done += world.done;
    }
    let all = seeds(60).count();
    println!("{all} lives: {done} writes went well");
    assert!(done > 5 * all as u64, "only {done} writes went well");
}
