//! Stores whose blocks are shipped: crashes at every operation of the disk and of the depot, empty
//! disks, stores that others write to, and how many rounds a read of blocks that are far away takes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trine_storage::clock::{Clock, ManualClock};
use trine_storage::depot::{Depot, Role};
use trine_storage::shared::Shared;
use trine_storage::sim::{
    Asked, CountingDepot, MemoryBucket, MemoryDepot, ShippedStep, ShippedSubject, SimFs, Subject,
    check_every_cut_shipped, script_shipped,
};
use trine_storage::{Kind, Matcher, Result, TimeRange};
use trine_tsdb::{Config, Durability, Hints, Metadata, MetricType, Tsdb, Value, Values};

use crate::store::{clock, dump, labels, put};

const STANDBY: Role = Role::Standby { by: String::new() };
const MINUTE: i64 = 60_000;

fn writer(epoch: u64) -> Role {
    Role::Writer { epoch }
}

pub(crate) fn open_with(
    fs: &SimFs,
    clock: &Arc<ManualClock>,
    config: Config,
    depot: Arc<dyn Depot>,
) -> Result<Tsdb> {
    let builder = Tsdb::builder(Path::new("store")).config(config);
    let builder = builder
        .fs(Arc::new(fs.clone()))
        .clock(Arc::clone(clock) as _)
        .shared(Shared::without_workers());
    builder.depot(depot).open()
}

/// Row `n` is the sample with the value `n` of one of three series, minutes apart.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    opened: AtomicU64,
}

/// When the sample of a row is, milliseconds since 1970.
pub(crate) fn time_of(row: u64) -> i64 {
    i64::try_from(row).unwrap() * 600_000
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.wal.segment_bytes = 200;
    config
}

/// A store and the time it lives in.
pub(crate) type Timed = (Tsdb, Arc<ManualClock>);

impl Subject for Rows {
    type Store = Timed;

    fn open(&self, fs: &SimFs) -> Result<Timed> {
        self.open_with(fs, MemoryBucket::new().depot("alone"))
    }

    fn append(&self, db: &Timed, rows: &[u64], durability: Durability) -> Result<()> {
        let mut appender = db.0.appender();
        for &row in rows {
            let series = labels(&format!("n=s{}", row % 3));
            appender.append(&series, time_of(row), Value::Float(row as f64));
        }
        appender.commit(durability)?.wait().map(drop)
    }

    fn flush(&self, db: &Timed) -> Result<()> {
        db.0.flush()
    }

    fn rows(&self, db: &Timed) -> Result<Vec<u64>> {
        let mut rows = Vec::new();
        let snapshot = db.0.snapshot();
        for series in snapshot.select(&[], TimeRange::ALL, &Hints::default())? {
            let Values::Floats(values) = series?.samples.values else {
                panic!("no floats")
            };
            rows.extend(values.iter().map(|value| *value as u64));
        }
        Ok(rows)
    }
}

impl ShippedSubject for Rows {
    fn open_with(&self, fs: &SimFs, depot: Arc<dyn Depot>) -> Result<Timed> {
        let opened = self.opened.fetch_add(1, Ordering::Relaxed);
        let clock = clock();
        clock.advance(Duration::from_millis(opened));
        let db = open_with(fs, &clock, config(), depot)?;
        Ok((db, clock))
    }

    fn ship(&self, db: &Timed) -> Result<()> {
        db.0.ship().map(drop)
    }

    fn merge(&self, db: &Timed) -> Result<()> {
        // Nothing that is appended, so that every row is still to be there.
        db.0.delete(&[Matcher::equal("n", "none")], TimeRange::ALL)?;
        db.0.compact()
    }

    fn evict(&self, db: &Timed) -> Result<()> {
        db.1.advance(Duration::from_secs(11));
        db.0.maintain()
    }
}

#[test]
fn every_cut_of_disk_and_depot_keeps_every_promise() {
    let mut cuts = 0;
    for seed in 1..=2 {
        let mut script = script_shipped(seed, 10);
        script.push(ShippedStep::Ship);
        cuts += check_every_cut_shipped(&Rows::default(), &script, seed);
    }
    assert!(cuts > 100, "only {cuts} cuts");
}

/// A bucket, and the stores of several machines that share a clock.
struct World {
    bucket: MemoryBucket,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self {
            bucket: MemoryBucket::new(),
            clock: clock(),
        }
    }

    fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    fn open(&self, fs: &SimFs, name: &str, role: Role) -> (Tsdb, Arc<MemoryDepot>) {
        let depot = self.bucket.depot(name);
        depot.set_role(role);
        let dynamic = Arc::<MemoryDepot>::clone(&depot);
        let db = open_with(fs, &self.clock, Config::default(), dynamic).unwrap();
        (db, depot)
    }

    fn read(&self, name: &str) -> Vec<String> {
        let (db, _depot) = self.open(&SimFs::new(), name, Role::ReadOnly);
        all(&db)
    }
}

fn all(db: &Tsdb) -> Vec<String> {
    dump(db, &[], TimeRange::ALL)
}

fn block_files(fs: &SimFs) -> usize {
    let is = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "block");
    fs.files().iter().filter(|path| is(path)).count()
}

#[test]
fn an_empty_directory_answers_all_that_was_shipped_exactly() {
    let world = World::new();
    let now = world.now();
    let (db, _depot) = world.open(&SimFs::new(), "first", writer(1));
    let hours = |n: i64| now - n * 60 * MINUTE;
    put(&db, &[("n=a", hours(50), 1.0), ("n=b", hours(3), 2.0)]);
    put(&db, &[("n=a", now - 1, 3.0), ("n=c", now, -0.0)]);
    let shipped = db.ship().unwrap();
    assert!(shipped.blocks >= 3, "{shipped:?}");
    assert!(db.ship().unwrap().is_nothing());
    let expected = all(&db);
    put(&db, &[("n=d", now, 9.0)]);
    drop(db);
    let fs = SimFs::new();
    let calls = world.bucket.calls();
    let (restored, _depot) = world.open(&fs, "second", writer(2));
    assert!(world.bucket.calls() - calls <= 3, "no request per block");
    assert_eq!(all(&restored), expected);
    assert!(restored.verify().errors.is_empty());
    // It goes on behind what is there: a later value wins, and no delete concerns what comes.
    restored
        .delete(&[Matcher::equal("n", "b")], TimeRange::ALL)
        .unwrap();
    put(&restored, &[("n=a", now - 1, 4.0), ("n=b", now, 5.0)]);
    restored.compact().unwrap();
    let found = all(&restored);
    let expected = [
        format!("{{n=\"a\"}} {}=1 {}=4", hours(50), now - 1),
        format!("{{n=\"b\"}} {now}=5"),
        format!("{{n=\"c\"}} {now}=-0"),
    ];
    assert_eq!(found, expected);
    drop(restored);
    let (reopened, _depot) = world.open(&fs, "second", writer(2));
    assert_eq!(all(&reopened), expected);
    assert_eq!(world.read("reader"), expected);
}

#[test]
fn samples_are_in_the_depot_before_they_are_too_old() {
    let world = World::new();
    let (db, depot) = world.open(&SimFs::new(), "first", writer(1));
    put(&db, &[("n=a", world.now(), 1.0)]);
    db.flush().unwrap();
    world.clock.advance(Duration::from_secs(5 * 60));
    put(&db, &[("n=a", world.now(), 2.0)]);
    world.clock.advance(Duration::from_secs(4 * 60));
    db.maintain().unwrap();
    assert!(world.read("early").is_empty());
    assert!(db.stats().unshipped_since_ms.is_some());
    world.clock.advance(Duration::from_secs(60));
    db.maintain().unwrap();
    assert_eq!(world.read("late"), all(&db));
    assert_eq!(
        (db.stats().unshipped_since_ms, depot.told().unshipped_blocks),
        (None, 0)
    );
    // What goes on in an open window becomes blocks of it, and one when it is closed.
    for _ in 0..30 {
        put(&db, &[("n=a", world.now(), 3.0)]);
        world.clock.advance(Duration::from_secs(11 * 60));
        db.maintain().unwrap();
    }
    assert_eq!(world.read("later"), all(&db));
    world.clock.advance(Duration::from_secs(5 * 3_600));
    db.compact().unwrap();
    let blocks = db.blocks();
    assert!(blocks.len() < 10, "{}", blocks.len());
    assert_eq!(world.read("last"), all(&db));
}

#[test]
fn what_is_evicted_is_read_from_the_depot_and_merged_again() {
    let world = World::new();
    let fs = SimFs::new();
    let (db, _depot) = world.open(&fs, "first", writer(1));
    let start = world.now() - 10 * 60 * MINUTE;
    for round in 0..4 {
        let at = |n: i64| start + (round * 10 + n) * 1_000;
        let rows: Vec<_> = (0..10).map(|n| ("n=a", at(n), n as f64)).collect();
        put(&db, &rows);
        db.ship().unwrap();
    }
    let expected = all(&db);
    let before = db.stats().blocks;
    world.bucket.set_copies_max(Some(0));
    world.clock.advance(Duration::from_secs(11));
    let snapshot = db.snapshot();
    let mut held = snapshot
        .select(&[], TimeRange::ALL, &Hints::default())
        .unwrap();
    let files = block_files(&fs);
    // Merges, which fetch what they read, come after the others are let go.
    db.maintain().unwrap();
    assert_eq!(held.next().unwrap().unwrap().samples.timestamps.len(), 40);
    drop(held);
    db.maintain().unwrap();
    world.clock.advance(Duration::from_secs(11));
    db.maintain().unwrap();
    assert!(block_files(&fs) < files, "{files}");
    assert_eq!(all(&db), expected);
    db.compact().unwrap();
    assert!(db.stats().blocks < before, "{before}");
    assert_eq!(all(&db), expected);
    assert_eq!(world.read("reader"), expected);
}

#[test]
fn a_store_that_another_process_writes_to_sees_what_that_ships_and_deletes() {
    let world = World::new();
    let (db, _depot) = world.open(&SimFs::new(), "first", writer(1));
    let (reader, _reads) = world.open(&SimFs::new(), "second", Role::ReadOnly);
    let now = world.now();
    let mut appender = db.appender();
    appender.append(&labels("n=a"), now, Value::Float(1.0));
    appender.append(&labels("n=b"), now, Value::Float(2.0));
    let metadata = Metadata {
        kind: MetricType::Counter,
        help: "What it counts".to_owned(),
        unit: String::new(),
    };
    appender.metadata("a", metadata.clone());
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    db.ship().unwrap();
    assert!(all(&reader).is_empty());
    assert!(reader.follow().unwrap());
    assert!(!reader.follow().unwrap());
    assert_eq!(all(&reader), all(&db));
    let known = |db: &Tsdb| db.snapshot().metadata(None, None, None);
    assert_eq!(known(&reader), [("a".to_owned(), vec![metadata.clone()])]);
    db.delete(&[Matcher::equal("n", "b")], TimeRange::ALL)
        .unwrap();
    put(&db, &[("n=b", now + 1, 3.0)]);
    db.ship().unwrap();
    // Who reads after long asks first.
    world.clock.advance(Duration::from_secs(40));
    let expected = [
        format!("{{n=\"a\"}} {now}=1"),
        format!("{{n=\"b\"}} {}=3", now + 1),
    ];
    assert_eq!(all(&reader), expected);
    db.compact().unwrap();
    world.clock.advance(Duration::from_secs(11));
    reader.maintain().unwrap();
    assert_eq!(all(&reader), expected);
    assert_eq!(reader.stats().deletes, 0);
    // What metrics are is in one file, however often it was shipped.
    let mut appender = db.appender();
    let gauge = Metadata {
        kind: MetricType::Gauge,
        ..metadata.clone()
    };
    appender.metadata("b", gauge);
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    db.ship().unwrap();
    db.compact().unwrap();
    let told = db
        .blocks()
        .iter()
        .filter(|meta| meta.level == u8::MAX)
        .count();
    assert_eq!(told, 1);
    reader.follow().unwrap();
    assert_eq!(known(&reader).len(), 2);
    let (restored, _depot) = world.open(&SimFs::new(), "third", Role::ReadOnly);
    assert_eq!(known(&restored), known(&db));
    let mut refused = reader.appender();
    refused.append(&labels("n=a"), now, Value::Float(1.0));
    let error = refused.commit(Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), Kind::ReadOnly);
    let error = reader.delete(&[], TimeRange::ALL).unwrap_err();
    assert_eq!(error.kind(), Kind::ReadOnly);
    assert_eq!(reader.ship().unwrap_err().kind(), Kind::ReadOnly);
}

#[test]
fn who_was_overtaken_keeps_its_samples_and_ships_them_when_it_writes_again() {
    let world = World::new();
    let now = world.now();
    let fs = SimFs::new();
    let (first, first_depot) = world.open(&fs, "first", writer(1));
    put(&first, &[("n=a", now, 1.0)]);
    first.ship().unwrap();
    put(&first, &[("n=a", now + 1, 2.0), ("n=new", now + 1, 2.0)]);
    first.flush().unwrap();
    put(&first, &[("n=newer", now + 2, 3.0)]);
    first_depot.set_role(STANDBY);
    let (second, second_depot) = world.open(&SimFs::new(), "second", writer(2));
    for n in 0..20 {
        put(&second, &[("n=b", now + n, n as f64)]);
        second.ship().unwrap();
    }
    second
        .delete(&[Matcher::equal("n", "a")], TimeRange::ALL)
        .unwrap();
    let mut refused = first.appender();
    refused.append(&labels("n=a"), now, Value::Float(1.0));
    let error = refused.commit(Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    first.maintain().unwrap();
    first.follow().unwrap();
    assert!(all(&first).len() >= 3, "{:?}", all(&first));
    drop(first);
    let (first, first_depot) = world.open(&fs, "first", STANDBY);
    assert!(all(&first).iter().any(|line| line.contains("newer")));
    second_depot.set_role(STANDBY);
    first_depot.set_role(writer(3));
    first.take_over().unwrap();
    // The delete concerns nothing that comes after it.
    put(&first, &[("n=a", now + 3, 4.0), ("n=newer", now + 3, 5.0)]);
    drop(first);
    let (first, _depot) = world.open(&fs, "first", writer(3));
    let found = all(&first);
    first.ship().unwrap();
    assert_eq!(all(&first), found);
    assert_eq!(world.read("reader"), found);
    let has = |text: &str| found.iter().any(|line| line.contains(text));
    assert!(has(&format!("{}=4", now + 3)), "{found:?}");
    assert!(has(&format!("{}=3 {}=5", now + 2, now + 3)), "{found:?}");
    assert!(has("new\"") && has("\"b\""), "{found:?}");
}

#[test]
fn who_was_overtaken_without_knowing_it_deletes_nothing_of_what_comes() {
    let world = World::new();
    let now = world.now();
    let (first, _depot) = world.open(&SimFs::new(), "first", writer(1));
    put(&first, &[("n=a", now, 1.0)]);
    first.ship().unwrap();
    for number in 1..10u8 {
        put(&first, &[("n=b", now + i64::from(number), number.into())]);
    }
    let (second, _depot) = world.open(&SimFs::new(), "second", writer(2));
    // As late as what the first one has, which is later than what the second one appends.
    let refused = first.delete(&[], TimeRange::ALL).unwrap_err();
    assert_eq!(refused.kind(), Kind::Locked);
    put(&second, &[("n=c", now + 1, 1.0)]);
    second.ship().unwrap();
    assert_eq!(all(&second).len(), 2);
    assert_eq!(first.ship().unwrap_err().kind(), Kind::Locked);
}

#[test]
fn a_full_disk_lets_go_of_copies_and_what_was_refused_goes_on_with_room() {
    let world = World::new();
    let fs = SimFs::new();
    let (db, _depot) = world.open(&fs, "first", writer(1));
    let files = || {
        let is = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "block");
        fs.files().iter().filter(|path| is(path)).count()
    };
    put(&db, &[("n=a", world.now(), 1.0)]);
    db.ship().unwrap();
    put(&db, &[("n=b", world.now(), 2.0)]);
    let expected = all(&db);
    let before = files();
    fs.fill_after(0);
    assert_eq!(db.ship().unwrap_err().kind(), Kind::Io);
    // The part that defines the series stays.
    assert_eq!(files(), before - 1, "a seal makes room");
    assert_eq!(all(&db), expected);
    fs.fill_after(u64::MAX);
    db.ship().unwrap();
    assert_eq!(
        (world.read("reader"), all(&db)),
        (expected.clone(), expected)
    );
}

#[test]
fn while_the_depot_is_away_samples_are_taken_and_deletes_are_refused() {
    let world = World::new();
    let fs = SimFs::new();
    let (db, _depot) = world.open(&fs, "first", writer(1));
    put(&db, &[("n=a", world.now(), 1.0)]);
    db.ship().unwrap();
    world.bucket.set_away(true);
    put(&db, &[("n=b", world.now(), 2.0)]);
    assert_eq!(db.ship().unwrap_err().kind(), Kind::Unavailable);
    let error = db.delete(&[], TimeRange::ALL).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let expected = all(&db);
    assert_eq!(expected.len(), 2);
    drop(db);
    let (db, _depot) = world.open(&fs, "first", writer(1));
    assert_eq!(all(&db), expected);
    world.bucket.set_away(false);
    put(&db, &[("n=c", world.now(), 3.0)]);
    db.ship().unwrap();
    assert_eq!(world.read("reader"), all(&db));
}

const PAGE: u64 = 4 << 10;

#[test]
fn a_read_of_many_blocks_takes_four_rounds() {
    let world = World::new();
    let now = world.now();
    let (db, _depot) = world.open(&SimFs::new(), "first", writer(1));
    let names: Vec<String> = (0..120).map(|n| format!("n=s{n},job=j{}", n % 7)).collect();
    for hours in (0..24).rev() {
        let at = |n: i64| now - hours * 2 * 60 * MINUTE - n * 15_000;
        for n in 0..30 {
            let rows = names.iter().zip(0..);
            let rows: Vec<_> = rows
                .map(|(name, s)| (name.as_str(), at(n) - s % 11, (s * n) as f64 * 0.37))
                .collect();
            put(&db, &rows);
        }
        db.ship().unwrap();
    }
    let depot = world.bucket.depot("reader");
    depot.set_role(Role::ReadOnly);
    let depot = CountingDepot::new(depot, PAGE);
    let asked = depot.asked();
    let reader = open_with(&SimFs::new(), &world.clock, Config::default(), depot).unwrap();
    assert!(reader.stats().blocks >= 24);
    assert_eq!(asked.lock().rounds(), 0, "nothing is read at open");
    let matchers = [Matcher::equal("n", "s77")];
    let select = || -> usize {
        let snapshot = reader.snapshot();
        let found = snapshot.select(&matchers, TimeRange::ALL, &Hints::default());
        found
            .unwrap()
            .map(|series| series.unwrap().samples.timestamps.len())
            .sum()
    };
    assert_eq!(select(), 24 * 30);
    assert!(
        asked.lock().rounds() <= 4,
        "{} rounds",
        asked.lock().rounds()
    );
    *asked.lock() = Asked::default();
    assert_eq!(select(), 24 * 30);
    assert!(
        asked.lock().rounds() <= 2,
        "{} rounds",
        asked.lock().rounds()
    );
}
