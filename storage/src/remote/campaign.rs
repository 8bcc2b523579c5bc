//! The campaign: writers, a follower and sweeps on one bucket, faults and crashes at every request.
//!
//! Each seed is one run. Actors are processes that take turns at every single request, crash at any of
//! them and start again. Afterwards the store's own record of changes is compared with what everybody
//! was told: no version is lost or made twice, readers saw what was committed and in order, nothing
//! was removed that a version or a reader in time could still need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::stage::{handle, options};
use super::*;
use crate::catalog::{BlockMeta, decode_as};
use crate::clock::{Clock, ManualClock};
use crate::sim::{Rng, seeds};
use crate::time::TimeRange;
use crate::ulid::BlockId;

/// What a process was told.
#[derive(Debug, Clone)]
enum Told {
    /// A version that it committed or loaded.
    Version(BucketDocument),
    /// It may be there or not.
    Unknown,
}

struct World {
    store: FaultStore,
    turns: Arc<Turns>,
    /// That of the store, and those of the actors.
    clock: Arc<ManualClock>,
    clocks: [Arc<ManualClock>; 3],
    seed: u64,
    /// Numbers blocks and processes.
    numbers: AtomicU64,
    told: Mutex<Vec<Told>>,
    commits: AtomicU64,
    fenced: AtomicU64,
}

const DELAY: Duration = Duration::from_secs(90);
/// What a writer does while it has the lease, and how often it asks for it.
const STEPS: u64 = 40;
const TRIES: u64 = 150;

impl World {
    fn bucket(&self, actor: usize, life: u32) -> Bucket {
        let salt = Rng::new(self.seed ^ (u64::from(life) << 32) ^ (actor as u64) << 40).next_u64();
        let store = Arc::new(self.store.actor(&self.turns, actor));
        let clock = Arc::clone(&self.clocks[actor]) as Arc<dyn Clock>;
        Bucket::over(store, "sim:", options(salt), handle(), clock)
    }

    fn tell(&self, document: &BucketDocument) {
        self.told.lock().push(Told::Version(document.clone()));
    }

    /// A process that writes: takes the lease, commits, sweeps, until it crashes or is stopped.
    fn writer(&self, actor: usize) {
        let mut rng = Rng::new(self.seed ^ ((actor as u64) << 8));
        let (mut steps, mut life, mut tries) = (0, 0, 0);
        while steps < STEPS && tries < TRIES {
            life += 1;
            self.turns.revive(actor);
            let bucket = self.bucket(actor, life);
            let holder = Holder::new(&format!("writer-{actor}"), None);
            let mut watch = Watch::default();
            while steps < STEPS && tries < TRIES {
                tries += 1;
                let times = LeaseTimes::default();
                match Lease::take(&bucket, &holder, times, &mut watch) {
                    Ok(Taken::Held(lease)) => {
                        self.write(actor, &lease, &mut rng, &mut steps);
                        if rng.below(4) == 0 {
                            lease.release().ok();
                        }
                        break;
                    }
                    Ok(Taken::Refused { .. }) => {}
                    Err(_) if self.turns.revive(actor) => break,
                    Err(_) => {}
                }
            }
        }
    }

    /// What the holder of the lease does.
    fn write(&self, actor: usize, lease: &Lease, rng: &mut Rng, steps: &mut u64) {
        let catalog = BucketCatalog::new(lease.bucket().clone());
        let mut newest: Option<BucketDocument> = None;
        while *steps < STEPS {
            *steps += 1;
            let done = match &newest {
                None => catalog.claim(lease),
                Some(_) if rng.below(5) == 0 => self.sweep(&catalog, lease).map(Commit::Conflict),
                Some(_) if rng.below(3) == 0 => match lease.beat() {
                    Ok(None) => continue,
                    Ok(Some(_)) => return,
                    Err(error) => Err(error),
                },
                Some(before) => self.edit(&catalog, lease, before, rng),
            };
            match done {
                Ok(Commit::Committed(document)) => {
                    self.commits.fetch_add(1, Ordering::SeqCst);
                    self.tell(&document);
                    newest = Some(document);
                }
                Ok(Commit::Conflict(document)) => {
                    self.tell(&document);
                    newest = Some(document);
                }
                Ok(Commit::Fenced { .. }) => {
                    self.fenced.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Err(_) => {
                    // The process is gone, or does not know what became of it.
                    self.told.lock().push(Told::Unknown);
                    newest = None;
                    if self.turns.revive(actor) || !lease.is_held() {
                        return;
                    }
                }
            }
        }
    }

    /// Ships a block, or merges some.
    fn edit(
        &self,
        catalog: &BucketCatalog,
        lease: &Lease,
        before: &BucketDocument,
        rng: &mut Rng,
    ) -> crate::Result<Commit> {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let id = BlockId::from_bits(u128::from(number));
        let bytes = Bytes::from(format!("block {number}"));
        catalog.bucket().put(&block_key(id), bytes.clone())?;
        if rng.below(6) == 0 {
            // It never comes to the commit: an orphan.
            return Ok(Commit::Conflict(before.clone()));
        }
        let mut next = before.catalog.clone();
        if rng.below(3) == 0 {
            let keep = usize::try_from(rng.below(2)).unwrap_or(0);
            next.blocks.truncate(keep);
        }
        next.blocks.push(BlockMeta {
            id,
            range: TimeRange { start: 0, end: 1 },
            rows: 1,
            bytes: bytes.len() as u64,
            level: 0,
            sequence: number,
            created_ms: 0,
            deletes_applied: 0,
        });
        catalog.commit(lease, before, next, &[])
    }

    fn sweep(&self, catalog: &BucketCatalog, lease: &Lease) -> crate::Result<BucketDocument> {
        let options = SweepOptions {
            delete_delay: DELAY,
            versions_kept_min: 2,
            versions_swept_max: 5,
        };
        Ok(sweep(catalog, lease, &options, &Holds::default())?.newest)
    }

    /// A replica: reads what is newest, again and again.
    fn follower(&self, actor: usize) {
        let mut rng = Rng::new(self.seed ^ 77);
        let catalog = BucketCatalog::new(self.bucket(actor, 0));
        let mut known: Option<BucketDocument> = None;
        for _ in 0..2 * STEPS {
            if self.turns.revive(actor) {
                known = None;
            }
            let found = match &known {
                Some(known) if rng.below(8) > 0 => catalog.load_after(known),
                _ => catalog.load_newest(),
            };
            let Ok(Some(found)) = found else {
                continue;
            };
            if let Some(known) = &known {
                let place = format!("seed {}", self.seed);
                assert!(found.version() >= known.version(), "{place}: back in time");
                assert!(found.epoch >= known.epoch, "{place}: epochs fell");
            }
            self.tell(&found);
            known = Some(found);
        }
    }
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
struct Summary {
    requests: u64,
    commits: u64,
    fenced: u64,
    unknown: u64,
    crashes: u64,
    versions: u64,
    swept: u64,
    blocks_removed: u64,
    taken_back: u64,
}

fn run(seed: u64) -> Summary {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000_000));
    let mut rng = Rng::new(seed);
    // From a calm store to one that fails every third request.
    let bad = rng.below(5);
    let faults = Faults {
        before: 20 * bad,
        after: 20 * bad,
        late: 10 * bad,
        late_requests: 6,
        throttled: 10 * bad,
        short: 5 * bad,
        list_lag_changes: rng.below(3) * 8,
        ..Faults::default()
    };
    let as_clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let world = World {
        store: FaultStore::new(seed, faults, as_clock),
        turns: Arc::new(Turns::default()),
        clock,
        // None of them shows the time of another.
        clocks: [1, 2, 3].map(|days| Arc::new(ManualClock::new(days * 86_400_000_000_000))),
        seed,
        numbers: AtomicU64::new(1),
        told: Mutex::new(Vec::new()),
        commits: AtomicU64::new(0),
        fenced: AtomicU64::new(0),
    };
    let mut summary = Summary::default();
    let crashes = &mut summary.crashes;
    let mut stopped = [false; 3];
    let between = |_turn: u64| {
        // Mostly fast, sometimes long enough for a lease to run out.
        let ms = match rng.below(40) {
            0 => rng.below(100_000),
            _ => rng.below(2_000),
        };
        world.clock.advance(Duration::from_millis(ms));
        // A machine that is suspended does not know how long it was.
        for (clock, stopped) in world.clocks.iter().zip(stopped) {
            if !stopped {
                clock.advance(Duration::from_millis(ms));
            }
        }
        let actor = usize::try_from(rng.below(3)).unwrap_or(0);
        // Some seeds stop a process until its lease has run out, some until its versions are swept.
        if rng.below(60) == 0 {
            world.turns.stop(actor);
            stopped[actor] = true;
        }
        if rng.below(30 << (2 * (seed % 3))) == 0 {
            world.turns.resume(actor);
            stopped[actor] = false;
        }
        if rng.below(150) == 0 {
            *crashes += 1;
            world
                .turns
                .crash(usize::try_from(rng.below(3)).unwrap_or(0));
        }
    };
    let actors: Vec<Box<dyn FnOnce() + Send + '_>> = vec![
        Box::new(|| world.writer(0)),
        Box::new(|| world.writer(1)),
        Box::new(|| world.follower(2)),
    ];
    world.turns.play(seed, actors, between);
    world.store.settle();
    summary.requests = world.store.requests();
    summary.commits = world.commits.load(Ordering::SeqCst);
    summary.fenced = world.fenced.load(Ordering::SeqCst);
    check(&world, &mut summary);
    summary
}

/// Compares what everybody was told with what happened in the store.
fn check(world: &World, summary: &mut Summary) {
    let place = format!("seed {}", world.seed);
    // Every version that was ever seen, by its number.
    let mut history: BTreeMap<u64, BucketDocument> = BTreeMap::new();
    for told in &*world.told.lock() {
        match told {
            Told::Unknown => summary.unknown += 1,
            Told::Version(document) => {
                let before = history.insert(document.version(), document.clone());
                if let Some(before) = before {
                    let number = document.version();
                    assert_eq!(&before, document, "{place}: two versions {number}");
                }
            }
        }
    }
    // The store's own record: what was the newest at each moment.
    let mut objects: BTreeMap<String, (Bytes, i64)> = BTreeMap::new();
    let mut made: BTreeMap<u64, BucketDocument> = BTreeMap::new();
    let mut dropped_ms: BTreeMap<String, i64> = BTreeMap::new();
    // In numbers that were swept, by processes that did not come to take them back.
    let mut strays: BTreeSet<u64> = BTreeSet::new();
    for change in world.store.changes() {
        let version: Option<u64> = change
            .key
            .strip_prefix("catalog/")
            .and_then(|digits| digits.parse().ok());
        match (&change.bytes, version) {
            (Some(bytes), Some(version)) => {
                let document: BucketDocument = decode_as("sim", bytes).unwrap();
                let newest = made.keys().next_back().copied().unwrap_or(0);
                if version <= newest {
                    // Into a number that was swept: nobody may have been told of it.
                    let seen = history.values().any(|seen| seen.token == document.token);
                    assert!(!seen, "{place}: version {version} was made twice");
                    summary.taken_back += 1;
                    strays.insert(version);
                } else {
                    assert_eq!(version, newest + 1, "{place}: a gap");
                    if let Some(before) = made.get(&newest) {
                        assert!(document.epoch >= before.epoch, "{place}: epochs fell");
                        let now: BTreeSet<BlockId> = ids(&document);
                        for id in ids(before).difference(&now) {
                            dropped_ms.insert(block_key(*id), change.at_ms);
                        }
                    }
                    made.insert(version, document);
                }
            }
            (None, Some(version)) => summary.swept += u64::from(!strays.remove(&version)),
            (None, None) if change.key.starts_with("blocks/") => {
                if let Some((_, written_ms)) = objects.get(&change.key) {
                    summary.blocks_removed += 1;
                    let newest = made.values().next_back();
                    let named = newest.is_some_and(|n| names(n, &change.key));
                    assert!(!named, "{place}: {} was live", change.key);
                    let since = dropped_ms.get(&change.key).unwrap_or(written_ms);
                    let age = change.at_ms - since;
                    let delay = i64::try_from(DELAY.as_millis()).unwrap();
                    assert!(age >= delay, "{place}: {} after {age} ms", change.key);
                }
            }
            _ => {}
        }
        match change.bytes {
            Some(bytes) => objects.insert(change.key, (bytes, change.at_ms)),
            None => objects.remove(&change.key),
        };
    }
    summary.versions = made.len() as u64;
    // Whatever anybody saw is part of the one history.
    for (version, seen) in &history {
        assert_eq!(made.get(version), Some(seen), "{place}: version {version}");
    }
    // What is named is there.
    if let Some(newest) = made.values().next_back() {
        for id in ids(newest) {
            let key = block_key(id);
            assert!(objects.contains_key(&key), "{place}: {key} is lost");
        }
    }
    // The versions that are left are the last ones, without a gap.
    let left: Vec<u64> = made
        .keys()
        .copied()
        .filter(|v| !strays.contains(v) && objects.contains_key(&format!("catalog/{v:020}")))
        .collect();
    let newest = made.keys().next_back().copied().unwrap_or(0);
    let expected: Vec<u64> = (newest + 1 - left.len() as u64..=newest).collect();
    assert_eq!(left, expected, "{place}: versions went out of order");
}

fn ids(document: &BucketDocument) -> BTreeSet<BlockId> {
    document
        .catalog
        .blocks
        .iter()
        .map(|block| block.id)
        .collect()
}

fn names(document: &BucketDocument, key: &str) -> bool {
    ids(document).into_iter().any(|id| block_key(id) == key)
}

#[test]
fn one_history_whatever_fails() {
    let mut all = Summary::default();
    for seed in seeds(100) {
        let one = run(seed);
        all.requests += one.requests;
        all.commits += one.commits;
        all.fenced += one.fenced;
        all.unknown += one.unknown;
        all.crashes += one.crashes;
        all.versions += one.versions;
        all.swept += one.swept;
        all.blocks_removed += one.blocks_removed;
        all.taken_back += one.taken_back;
    }
    println!("{} seeds: {all:?}", seeds(100).count());
    assert!(all.versions >= all.commits);
    if seeds(100).count() > 20 {
        let happened = [
            all.fenced,
            all.unknown,
            all.crashes,
            all.swept,
            all.blocks_removed,
        ];
        assert!(happened.iter().all(|n| *n > 0), "{all:?}");
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let twice = [run(4), run(4)].map(|summary| format!("{summary:?}"));
    assert_eq!(twice[0], twice[1]);
}
