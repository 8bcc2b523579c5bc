//! Random lives of two data directories that ship to one bucket, against a model that knows only which
//! rows must be there and which may be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::rows::Rows;
use crate::clock::ManualClock;
use crate::depot::{Depot, Role};
use crate::error::Result;
use crate::sim::{Crash, Cut, MemoryBucket, MemoryDepot, Rng, SimFs, seeds};
use crate::time::TimeRange;
use crate::wal::Durability::Synced;

/// A data directory.
struct Directory {
    fs: SimFs,
    depot: Arc<MemoryDepot>,
    store: Option<Rows>,
    /// Rows that were acknowledged here.
    appended: BTreeSet<u64>,
    /// Whether the disk is cut: nothing helps but to start again.
    is_cut: bool,
}

struct World {
    rng: Rng,
    bucket: MemoryBucket,
    clock: Arc<ManualClock>,
    directories: [Directory; 2],
    writer: usize,
    next_row: u64,
    next_directory: u64,
    /// Rows that were told to be shipped.
    shipped: BTreeSet<u64>,
    /// Rows that must not be seen any more.
    deleted: BTreeSet<u64>,
    /// Rows of which nothing was promised.
    maybe: BTreeSet<u64>,
    log: Vec<String>,
}

impl Directory {
    fn new(bucket: &MemoryBucket, number: u64) -> Self {
        let depot = bucket.depot(&format!("directory {number}"));
        depot.set_role(Role::Standby { by: String::new() });
        Self {
            fs: SimFs::new(),
            depot,
            store: None,
            appended: BTreeSet::new(),
            is_cut: false,
        }
    }

    fn open(&mut self, clock: &Arc<ManualClock>) {
        if self.store.is_none() {
            let depot: Arc<dyn Depot> = Arc::<MemoryDepot>::clone(&self.depot);
            self.store = Rows::open(&self.fs, clock, Some(depot)).ok();
        }
    }

    /// The process is killed and the power stays: what was written is there and may still be lost.
    fn restart(&mut self) {
        self.store = None;
        self.fs.cut_after(u64::MAX);
        self.is_cut = false;
    }

    fn crash(&mut self, seed: u64) {
        self.store = None;
        self.fs = self.fs.crash(Crash::Power, seed);
        self.is_cut = false;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let bucket = MemoryBucket::new();
        let directories = [Directory::new(&bucket, 0), Directory::new(&bucket, 1)];
        directories[0].depot.set_role(Role::Writer { epoch: 1 });
        Self {
            rng: Rng::new(seed),
            bucket,
            clock: Arc::new(ManualClock::new(1_000_000_000_000)),
            directories,
            writer: 0,
            next_row: 0,
            next_directory: 2,
            shipped: BTreeSet::new(),
            deleted: BTreeSet::new(),
            maybe: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    /// Does something in the store that writes, if it is open.
    fn write(&mut self, what: &str, act: impl FnOnce(&Rows) -> Result<()>) -> bool {
        let directory = &mut self.directories[self.writer];
        directory.open(&self.clock);
        directory.store.as_ref().is_some_and(|store| {
            let done = act(store);
            self.log.push(format!("{what}: {done:?}"));
            done.is_ok()
        })
    }

    fn append(&mut self) {
        let rows: Vec<u64> = (self.next_row..=self.next_row + self.rng.below(3)).collect();
        self.next_row += rows.len() as u64;
        let done = self.write(&format!("append {rows:?}"), |store| {
            store.add(&rows, Synced)
        });
        match done {
            true => self.directories[self.writer].appended.extend(rows),
            false => self.maybe.extend(rows),
        }
    }

    fn ship(&mut self) {
        let done = self.write("ship", Rows::ship);
        if done {
            let appended = self.directories[self.writer].appended.iter();
            self.shipped.extend(appended.copied());
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
            match done && seen.contains(&row) {
                true => drop(self.deleted.insert(row)),
                false => drop(self.maybe.insert(row)),
            }
        }
    }

    fn forget(&mut self) {
        let act = |store: &Rows| match store.blocks.is_behind() {
            true => Ok(()),
            false => store.forget(),
        };
        self.write("forget", act);
    }

    /// The other directory writes from now on, if the bucket answers.
    fn hand_over(&mut self) {
        let other = 1 - self.writer;
        let standby = Role::Standby { by: String::new() };
        self.directories[self.writer].depot.set_role(standby);
        self.directories[other]
            .depot
            .set_role(Role::Writer { epoch: 2 });
        self.writer = other;
        let done = self.write("take over", |store| {
            store.follow()?;
            store.take_over()
        });
        if !done {
            // An engine opens its gate only when this is done.
            self.directories[other].store = None;
        }
    }

    /// A directory is lost, and an empty one takes its place.
    fn lose(&mut self, which: usize) {
        self.log.push(format!("lose {which}"));
        let mut new = Directory::new(&self.bucket, self.next_directory);
        self.next_directory += 1;
        std::mem::swap(&mut self.directories[which], &mut new);
        let role = new.depot.role();
        self.directories[which].depot.set_role(role);
        let lost = new.appended.difference(&self.shipped);
        self.maybe.extend(lost.copied());
    }

    fn step(&mut self) {
        self.clock.advance(Duration::from_secs(self.rng.below(30)));
        match self.rng.below(24) {
            0..=4 => self.append(),
            5 | 6 => {
                self.write("seal", Rows::seal);
            }
            7..=9 => self.ship(),
            10..=12 => {
                self.write("merge", Rows::merge);
            }
            13 => self.delete(),
            14 => self.forget(),
            15 => {
                let max = self.rng.below(400);
                self.bucket.set_copies_max(Some(max));
                self.write("evict", |store| store.blocks.care());
                self.bucket.set_fetches(true);
                self.write("fetch", |store| {
                    for block in &store.blocks.version().blocks {
                        for _ in 0..block.meta.bytes / 8 {
                            block.file.section(1)?;
                        }
                    }
                    store.blocks.fetch(&|| Ok(())).map(drop)
                });
                self.bucket.set_fetches(false);
                self.bucket.set_copies_max(None);
            }
            16 => self.bucket.sweep(),
            17 => {
                let which = self.rng.below(2) as usize;
                let seed = self.rng.next_u64();
                match self.rng.below(2) {
                    0 => self.directories[which].crash(seed),
                    _ => self.directories[which].restart(),
                }
                self.log.push(format!("crash or restart {which}"));
            }
            18 => {
                let directory = &mut self.directories[self.writer];
                let after = directory.fs.operations() + self.rng.below(12);
                directory.fs.cut_after(after);
                directory.is_cut = true;
                self.log.push("cut the disk".into());
            }
            19 => {
                let what = [Cut::Request, Cut::Answer][self.rng.below(2) as usize];
                self.bucket
                    .cut_after(self.bucket.calls() + self.rng.below(5), what);
                self.log.push(format!("cut the depot, {what:?}"));
            }
            20 => {
                self.clock.advance(Duration::from_secs(700));
                self.log.push("time passes".into());
            }
            21 => self.hand_over(),
            22 if self.rng.below(3) == 0 => {
                let which = self.rng.below(2) as usize;
                self.lose(which);
            }
            _ => self.check(),
        }
        self.check_twice();
    }

    fn seen(&self, which: usize) -> Option<Vec<u64>> {
        let store = self.directories[which].store.as_ref()?;
        let mut rows = store.all().ok()?;
        rows.sort_unstable();
        Some(rows)
    }

    /// No row is ever seen twice.
    fn check_twice(&self) {
        for which in 0..2 {
            let rows = self.seen(which).unwrap_or_default();
            let twice = rows.windows(2).find(|two| two[0] == two[1]);
            assert_eq!(twice, None, "in {which} after {:#?}", self.log);
        }
    }

    /// Everything works again; what must be there is there, in both directories.
    fn check(&mut self) {
        self.log.push("check".into());
        self.bucket.set_away(false);
        for which in 0..2 {
            let seed = self.rng.next_u64();
            let directory = &mut self.directories[which];
            if directory.is_cut {
                directory.crash(seed);
            }
            directory.open(&self.clock);
            let store = directory.store.as_ref().expect("it opens when all is well");
            store.follow().expect("it follows when all is well");
            if which == self.writer {
                store.take_over().expect("it takes over when all is well");
            }
            let seen: BTreeSet<u64> = self.seen(which).unwrap().into_iter().collect();
            let appended = &self.directories[which].appended;
            let must = appended.union(&self.shipped);
            let free = |row: &&u64| self.maybe.contains(row) || self.deleted.contains(row);
            let gone: Vec<&u64> = must
                .filter(|row| !free(row) && !seen.contains(row))
                .collect();
            assert!(
                gone.is_empty(),
                "{gone:?} are gone in {which}: {:#?}",
                self.log
            );
            let back: Vec<&u64> = self.deleted.intersection(&seen).collect();
            assert!(
                back.is_empty(),
                "{back:?} are back in {which}: {:#?}",
                self.log
            );
        }
    }
}

#[test]
fn two_directories_and_one_bucket_keep_every_promise() {
    for seed in seeds(400) {
        let mut world = World::new(seed);
        for _ in 0..80 {
            world.step();
        }
        world.check();
        world.ship();
        world.check();
    }
}
