//! Stores whose blocks are shipped: crashes at every operation of the disk and of the depot, empty
//! disks, stores that others write to, and how much is read of blocks that are far away.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use trine_logstore::{Config, Counts, Direction, Durability, LineFilter, LogStore, Measure, Rows};
use trine_storage::block_set::Shipped;
use trine_storage::clock::ManualClock;
use trine_storage::depot::{Depot, Role};
use trine_storage::sim::{
    Asked, CountingDepot, Crash, MemoryBucket, MemoryDepot, ShippedStep, ShippedSubject, SimFs,
    Subject, check_every_cut_shipped, script_shipped,
};
use trine_storage::{Kind, Labels, Matcher, Result, TimeRange};

use crate::store::{self, Entry};

const STANDBY: Role = Role::Standby { by: String::new() };

fn writer(epoch: u64) -> Role {
    Role::Writer { epoch }
}

/// Rows in three streams, spread over several blocks.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    opened: AtomicU64,
}

fn entry(row: u64) -> Entry {
    Entry {
        stream: store::labels(&[("app", ["a", "b", "c"][(row % 3) as usize])]),
        timestamp: store::NOW_NS + (row % 7).cast_signed() * 1_000 - 3_000,
        line: format!("row {row}").into_bytes(),
        metadata: Labels::empty(),
    }
}

fn row_of(entry: &Entry) -> u64 {
    let text = String::from_utf8(entry.line.clone()).unwrap();
    text.strip_prefix("row ").unwrap().parse().unwrap()
}

fn append(store: &LogStore, rows: Range<u64>) {
    let entries: Vec<Entry> = rows.map(entry).collect();
    store::append(store, &entries, Durability::Synced).unwrap();
}

fn rows(store: &LogStore) -> Vec<u64> {
    let found = store::rows(store, store::everything()).unwrap();
    let mut rows: Vec<u64> = found.iter().map(row_of).collect();
    rows.sort_unstable();
    rows
}

pub(crate) fn config() -> Config {
    let mut config = Config {
        block_range: Duration::from_nanos(2_000),
        delete_delay: Duration::ZERO,
        ..Config::default()
    };
    config.wal.segment_bytes = 512;
    config
}

/// A store and the time it lives in.
pub(crate) type Timed = (LogStore, Arc<ManualClock>);

impl Subject for Logs {
    type Store = Timed;

    fn open(&self, fs: &SimFs) -> Result<Timed> {
        self.open_with(fs, MemoryBucket::new().depot("alone"))
    }

    fn append(&self, store: &Timed, rows: &[u64], durability: Durability) -> Result<()> {
        let entries: Vec<Entry> = rows.iter().map(|&row| entry(row)).collect();
        store::append(&store.0, &entries, durability).map(drop)
    }

    fn flush(&self, store: &Timed) -> Result<()> {
        store.0.flush()
    }

    fn rows(&self, store: &Timed) -> Result<Vec<u64>> {
        let found = store::rows(&store.0, store::everything())?;
        Ok(found.iter().map(row_of).collect())
    }
}

impl ShippedSubject for Logs {
    fn open_with(&self, fs: &SimFs, depot: Arc<dyn Depot>) -> Result<Timed> {
        let opened = self.opened.fetch_add(1, Ordering::Relaxed);
        let clock = store::clock();
        clock.advance(Duration::from_millis(opened));
        let store = store::open_with(fs, &clock, config(), depot)?;
        Ok((store, clock))
    }

    fn ship(&self, store: &Timed) -> Result<()> {
        store.0.ship().map(drop)
    }

    fn merge(&self, store: &Timed) -> Result<()> {
        // Nothing that is appended, so that every row is still to be there.
        let nothing = [LineFilter::Contains("no such line".into())];
        store
            .0
            .delete(&[Matcher::equal("app", "a")], &nothing, TimeRange::ALL)?;
        store.0.compact()
    }

    fn evict(&self, store: &Timed) -> Result<()> {
        store.1.advance(Duration::from_secs(11));
        store.0.maintain()
    }
}

#[test]
fn every_cut_of_disk_and_depot_keeps_every_promise() {
    let mut cuts = 0;
    for seed in 1..=3 {
        let mut script = script_shipped(seed, 10);
        script.push(ShippedStep::Ship);
        cuts += check_every_cut_shipped(&Logs::default(), &script, seed);
    }
    assert!(cuts > 150, "only {cuts} cuts");
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
            clock: store::clock(),
        }
    }

    fn open(&self, fs: &SimFs, name: &str, role: Role) -> (LogStore, Arc<MemoryDepot>) {
        let depot = self.bucket.depot(name);
        depot.set_role(role);
        let dynamic = Arc::<MemoryDepot>::clone(&depot);
        let store = store::open_with(fs, &self.clock, config(), dynamic).unwrap();
        (store, depot)
    }

    fn evict(&self, store: &LogStore) {
        self.bucket.set_copies_max(Some(0));
        self.clock.advance(Duration::from_secs(11));
        store.maintain().unwrap();
        self.bucket.set_copies_max(None);
    }
}

fn block_files(fs: &SimFs) -> usize {
    let is = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "block");
    fs.files().iter().filter(|path| is(path)).count()
}

#[test]
fn an_empty_directory_answers_all_that_was_shipped() {
    let world = World::new();
    let (store, _depot) = world.open(&SimFs::new(), "first", writer(1));
    append(&store, 0..30);
    assert!(store.stats().unshipped_since_ms.is_some());
    let shipped = store.ship().unwrap();
    assert!(shipped.blocks > 1 && shipped.bytes > 0, "{shipped:?}");
    assert_eq!(store.ship().unwrap(), Shipped::default());
    append(&store, 30..40);
    drop(store);
    let fs = SimFs::new();
    let calls = world.bucket.calls();
    let (restored, _depot) = world.open(&fs, "second", writer(2));
    assert!(world.bucket.calls() - calls <= 3, "no request per block");
    assert_eq!(
        world.bucket.reads(),
        0,
        "nothing of a block is read at open"
    );
    assert_eq!(rows(&restored), (0..30).collect::<Vec<_>>());
    assert!(restored.verify().errors.is_empty());
    assert_eq!(block_files(&fs), 0);
    // It goes on behind what is there.
    let nothing = TimeRange::new(0, 1);
    restored.delete(&[], &[], nothing).unwrap();
    append(&restored, 40..50);
    restored.compact().unwrap();
    let expected: Vec<u64> = (0..30).chain(40..50).collect();
    assert_eq!(rows(&restored), expected);
    drop(restored);
    let (reopened, _depot) = world.open(&fs, "second", writer(2));
    assert_eq!(rows(&reopened), expected);
}

#[test]
fn what_is_evicted_is_read_from_the_depot_and_merged_again() {
    let world = World::new();
    let fs = SimFs::new();
    let (store, _depot) = world.open(&fs, "first", writer(1));
    for round in 0..4 {
        append(&store, round * 10..round * 10 + 10);
        store.ship().unwrap();
    }
    let snapshot = store.snapshot();
    assert!(block_files(&fs) > 4);
    world.evict(&store);
    let held = store::rows_of(&snapshot, store::everything()).unwrap();
    assert_eq!(held.len(), 40, "who reads goes on with the files");
    drop(snapshot);
    assert_eq!(block_files(&fs), 0);
    assert_eq!(rows(&store), (0..40).collect::<Vec<_>>());
    let before = store.stats().blocks;
    store.compact().unwrap();
    let stats = store.stats();
    assert!(
        stats.blocks < before && stats.sealed_blocks == 0,
        "{stats:?}"
    );
    assert_eq!(stats.unshipped_blocks, 0);
    assert_eq!(rows(&store), (0..40).collect::<Vec<_>>());
    let (reader, _depot) = world.open(&SimFs::new(), "reader", Role::ReadOnly);
    assert_eq!(rows(&reader), (0..40).collect::<Vec<_>>());
    assert_eq!(reader.stats().blocks, stats.blocks);
}

#[test]
fn a_store_that_another_process_writes_to_sees_what_that_ships_and_deletes() {
    let world = World::new();
    let (store, _depot) = world.open(&SimFs::new(), "first", writer(1));
    let (reader, _reads) = world.open(&SimFs::new(), "second", Role::ReadOnly);
    append(&store, 0..12);
    store.ship().unwrap();
    assert!(rows(&reader).is_empty());
    assert!(reader.follow().unwrap());
    assert!(!reader.follow().unwrap());
    assert_eq!(rows(&reader), (0..12).collect::<Vec<_>>());
    let number = store.delete(&[Matcher::equal("app", "b")], &[], TimeRange::ALL);
    append(&store, 12..24);
    store.ship().unwrap();
    let is_left = |row: &u64| row % 3 != 1 || *row >= 12;
    let expected: Vec<u64> = (0..24).filter(is_left).collect();
    // Who reads after long asks first.
    world.clock.advance(Duration::from_secs(40));
    assert_eq!(rows(&reader), expected);
    assert_eq!(reader.deletes()[0].number, number.unwrap());
    store.compact().unwrap();
    world.clock.advance(Duration::from_secs(11));
    reader.maintain().unwrap();
    assert_eq!((rows(&reader), reader.deletes().len()), (expected, 0));
    let error = reader.delete(&[], &[], TimeRange::ALL).unwrap_err();
    assert_eq!(error.kind(), Kind::ReadOnly);
    let refused = store::append(&reader, &[entry(1)], Durability::Synced).unwrap_err();
    assert_eq!(refused.kind(), Kind::ReadOnly);
    assert_eq!(reader.ship().unwrap_err().kind(), Kind::ReadOnly);
    assert_eq!(reader.compact().unwrap_err().kind(), Kind::ReadOnly);
}

#[test]
fn who_was_overtaken_keeps_its_rows_and_ships_them_when_it_writes_again() {
    let world = World::new();
    let fs = SimFs::new();
    let (first, first_depot) = world.open(&fs, "first", writer(1));
    append(&first, 0..6);
    first.ship().unwrap();
    append(&first, 6..9);
    first.flush().unwrap();
    append(&first, 9..12);
    first_depot.set_role(STANDBY);
    let (second, second_depot) = world.open(&SimFs::new(), "second", writer(2));
    append(&second, 12..40);
    second.ship().unwrap();
    // Of rows that it does not know.
    second
        .delete(&[Matcher::equal("app", "b")], &[], TimeRange::ALL)
        .unwrap();
    second.ship().unwrap();
    let refused = store::append(&first, &[entry(1)], Durability::Synced).unwrap_err();
    assert_eq!(refused.kind(), Kind::Locked);
    first.maintain().unwrap();
    assert!(first.follow().unwrap() || rows(&first).len() > 12);
    let of_first = rows(&first);
    assert!((9..12).all(|row| of_first.contains(&row)), "{of_first:?}");
    assert!(of_first.contains(&39), "{of_first:?}");
    drop(first);
    let crashed = fs.crash(Crash::Power, 1);
    let (first, first_depot) = world.open(&crashed, "first", STANDBY);
    let there: BTreeSet<u64> = rows(&first).into_iter().collect();
    assert!((9..12).all(|row| there.contains(&row)), "{there:?}");
    second_depot.set_role(STANDBY);
    first_depot.set_role(writer(3));
    first.take_over().unwrap();
    append(&first, 40..50);
    first.ship().unwrap();
    let (reader, _depot) = world.open(&SimFs::new(), "reader", Role::ReadOnly);
    let all = rows(&reader);
    assert_eq!(all, rows(&first));
    // The delete concerns nothing that came after it.
    assert!((40..50).all(|row| all.contains(&row)), "{all:?}");
    let others = (0..40).filter(|row| row % 3 != 1);
    assert!(others.clone().all(|row| all.contains(&row)), "{all:?}");
}

#[test]
fn who_was_overtaken_without_knowing_it_deletes_nothing_of_what_comes() {
    let world = World::new();
    let (first, _depot) = world.open(&SimFs::new(), "first", writer(1));
    append(&first, 0..3);
    first.ship().unwrap();
    for row in 3..12 {
        append(&first, row..row + 1);
    }
    let (second, _depot) = world.open(&SimFs::new(), "second", writer(2));
    // As late as what the first one has, which is later than what the second one appends.
    let app = [Matcher::equal("app", "a")];
    let refused = first.delete(&app, &[], TimeRange::ALL).unwrap_err();
    assert_eq!(refused.kind(), Kind::Locked);
    append(&second, 12..15);
    second.ship().unwrap();
    assert!(second.deletes().is_empty());
    assert_eq!(rows(&second), [0, 1, 2, 12, 13, 14]);
    assert_eq!(first.ship().unwrap_err().kind(), Kind::Locked);
    assert_eq!(rows(&first).len(), 15);
}

#[test]
fn a_full_disk_lets_go_of_copies_and_what_was_refused_goes_on_with_room() {
    let world = World::new();
    let fs = SimFs::new();
    let (store, _depot) = world.open(&fs, "first", writer(1));
    append(&store, 0..6);
    store.ship().unwrap();
    append(&store, 6..9);
    assert!(block_files(&fs) > 0);
    fs.fill_after(0);
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Io);
    assert_eq!(block_files(&fs), 0, "a seal makes room");
    assert_eq!(rows(&store), (0..9).collect::<Vec<_>>());
    fs.fill_after(u64::MAX);
    store.ship().unwrap();
    assert!(block_files(&fs) > 0);
    fs.fill_after(0);
    assert_eq!(store.compact().unwrap_err().kind(), Kind::Io);
    assert_eq!(block_files(&fs), 0, "a merge makes room");
    fs.fill_after(u64::MAX);
    store.compact().unwrap();
    assert_eq!(rows(&store), (0..9).collect::<Vec<_>>());
}

#[test]
fn rows_are_sealed_and_shipped_before_they_are_too_old() {
    let world = World::new();
    let (store, depot) = world.open(&SimFs::new(), "first", writer(1));
    append(&store, 0..6);
    world.clock.advance(Duration::from_secs(9 * 60));
    store.maintain().unwrap();
    assert_eq!(store.stats().blocks, 0);
    world.clock.advance(Duration::from_secs(60));
    store.maintain().unwrap();
    assert_eq!(
        (store.stats().buffer_rows, depot.told().unshipped_blocks),
        (0, 0)
    );
    let (reader, _depot) = world.open(&SimFs::new(), "reader", Role::ReadOnly);
    assert_eq!(rows(&reader), (0..6).collect::<Vec<_>>());
}

#[test]
fn while_the_depot_is_away_rows_are_taken_and_deletes_are_refused() {
    let world = World::new();
    let fs = SimFs::new();
    let (store, _depot) = world.open(&fs, "first", writer(1));
    append(&store, 0..6);
    store.ship().unwrap();
    world.bucket.set_away(true);
    append(&store, 6..12);
    assert_eq!(store.ship().unwrap_err().kind(), Kind::Unavailable);
    let error = store.delete(&[], &[], TimeRange::ALL).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(rows(&store), (0..12).collect::<Vec<_>>());
    drop(store);
    let (store, _depot) = world.open(&fs, "first", writer(1));
    assert_eq!(rows(&store), (0..12).collect::<Vec<_>>());
    world.bucket.set_away(false);
    append(&store, 12..18);
    store.ship().unwrap();
    assert_eq!(rows(&store), (0..18).collect::<Vec<_>>());
}

const PAGE: u64 = 64 << 10;

/// A store on an empty disk whose reads are counted.
fn counted(world: &World, config: Config) -> (LogStore, Arc<Mutex<Asked>>) {
    let depot = world.bucket.depot("reader");
    depot.set_role(Role::ReadOnly);
    let depot = CountingDepot::new(depot, PAGE);
    let asked = depot.asked();
    let store = store::open_with(&SimFs::new(), &world.clock, config, depot).unwrap();
    (store, asked)
}

#[test]
fn a_search_of_many_blocks_takes_few_rounds() {
    let world = World::new();
    let (store, _depot) = world.open(&SimFs::new(), "first", writer(1));
    for block in 0..30u64 {
        let entry = |row: u64| Entry {
            stream: store::labels(&[("app", ["a", "b"][(row % 2) as usize])]),
            timestamp: store::NOW_NS - 1_000_000 + (block * 1_000 + row).cast_signed(),
            line: format!("block {block} row {row} token{}", block * 31 + row).into_bytes(),
            metadata: Labels::empty(),
        };
        let entries: Vec<Entry> = (0..300).map(entry).collect();
        store::append(&store, &entries, Durability::Buffered).unwrap();
        store.ship().unwrap();
    }
    let ask = |needle: &str, limit: Option<usize>| {
        let (reader, asked) = counted(&world, Config::default());
        assert!(reader.stats().blocks >= 30);
        assert_eq!(asked.lock().rounds(), 0, "nothing is read at open");
        let needle = Bytes::copy_from_slice(needle.as_bytes());
        let request = Rows {
            lines: vec![LineFilter::Contains(needle)],
            direction: Direction::Backward,
            limit_hint: limit,
            ..store::everything()
        };
        let found = store::rows(&reader, request).unwrap().len();
        let rounds = asked.lock().rounds();
        (found, rounds)
    };
    let (found, rounds) = ask("row 299 token", None);
    assert_eq!(found, 30);
    assert!(rounds <= 4, "{rounds} rounds");
    let (found, rounds) = ask("nowhere", None);
    assert_eq!(found, 0);
    assert!(rounds <= 3, "{rounds} rounds");
    // Who may stop early begins with little.
    let (found, rounds) = ask("row 299 token", Some(1_000));
    assert_eq!(found, 30);
    assert!(rounds <= 6, "{rounds} rounds");
}

/// Blocks of the same times, so that entries of each may be in the others, too, and too large to come with
/// their ends.
#[test]
fn counts_over_many_blocks_take_few_rounds() {
    const BLOCKS: u64 = 30;
    const ROWS: u64 = 60;
    let world = World::new();
    let (store, _depot) = world.open(&SimFs::new(), "first", writer(1));
    for block in 0..BLOCKS {
        let entry = |row: u64| Entry {
            stream: store::labels(&[("app", ["a", "b"][(row % 2) as usize])]),
            timestamp: store::NOW_NS - 1_000_000 + (row * BLOCKS + block).cast_signed(),
            line: {
                let mut line = format!("block {block} row {row} token{}", block * 31 + row);
                for n in 0..8 {
                    let seed = u128::from((row * BLOCKS + block) * 8 + n + 1);
                    let id = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                    line.push_str(&format!(" {id:032x}"));
                }
                line.into_bytes()
            },
            metadata: Labels::empty(),
        };
        let entries: Vec<Entry> = (0..ROWS).map(entry).collect();
        store::append(&store, &entries, Durability::Buffered).unwrap();
        store.ship().unwrap();
    }
    let ask = |lines: Vec<LineFilter>, buckets: i64, ahead_bytes_max: u64| {
        let depot = world.bucket.depot("reader");
        depot.set_role(Role::ReadOnly);
        let depot = CountingDepot::with_ahead(depot, 64, ahead_bytes_max);
        let asked = depot.asked();
        let config = Config::default();
        let reader = store::open_with(&SimFs::new(), &world.clock, config, depot).unwrap();
        assert!(reader.stats().blocks >= 30);
        let range = TimeRange::new(store::NOW_NS - 2_000_000, store::NOW_NS);
        let request = Counts {
            lines,
            ..Counts::new(Vec::new(), range, 2_000_000 / buckets, Measure::Lines)
        };
        let batches = store::counts(&reader, request).unwrap();
        let counts = batches.iter().flat_map(|batch| &batch.count);
        let rounds = asked.lock().rounds();
        (counts.sum::<u64>(), rounds)
    };
    let some = || vec![LineFilter::Contains(Bytes::from_static(b"row 59 token"))];
    for buckets in [1, 10] {
        let (count, rounds) = ask(Vec::new(), buckets, u64::MAX);
        assert_eq!(count, BLOCKS * ROWS);
        assert!(rounds <= 3, "{rounds} rounds");
        let (count, rounds) = ask(some(), buckets, u64::MAX);
        assert_eq!(count, BLOCKS);
        assert!(rounds <= 4, "{rounds} rounds");
    }
    // Who may ask for nothing ahead waits for each block.
    let (count, rounds) = ask(some(), 1, 0);
    assert_eq!(count, BLOCKS);
    assert!(rounds > BLOCKS, "{rounds} rounds");
}

#[test]
fn of_a_rare_needle_little_is_read() {
    const LINES: u64 = 200_000;
    let world = World::new();
    let depot = world.bucket.depot("first");
    let store = store::open_with(&SimFs::new(), &world.clock, Config::default(), depot).unwrap();
    let mut raw = 0;
    let mut seed = 7u64;
    for batch in 0..LINES / 10_000 {
        let entries = (batch * 10_000..batch * 10_000 + 10_000).map(|row| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (user, took) = ((seed >> 40) % 20_000, seed >> 52);
            let needle = match row {
                123_456 => " reactor meltdown imminent",
                _ => "",
            };
            let line = format!(
                "level=info msg=\"request handled\" path=/api/v1/items/{user} took={took}ms agent=\"Mozilla/5.0 (X11; Linux x86_64)\" remote=10.{}.{}.{}{needle}",
                user % 251, user % 241, took % 239
            );
            raw += line.len() as u64;
            Entry {
                stream: store::labels(&[("app", &format!("app-{}", row % 20))]),
                timestamp: store::NOW_NS - 1_000_000_000 + row.cast_signed(),
                line: line.into_bytes(),
                metadata: Labels::empty(),
            }
        });
        store::append(&store, &entries.collect::<Vec<_>>(), Durability::Buffered).unwrap();
    }
    store.ship().unwrap();
    store.compact().unwrap();
    drop(store);
    let (reader, asked) = counted(&world, Config::default());
    let ask = |needle: &str| {
        let before = asked.lock().pages();
        let request = Rows {
            lines: vec![LineFilter::Contains(Bytes::copy_from_slice(
                needle.as_bytes(),
            ))],
            direction: Direction::Backward,
            ..store::everything()
        };
        let found = store::rows(&reader, request).unwrap().len();
        (found, (asked.lock().pages() - before) * PAGE)
    };
    let (found, cold) = ask("meltdown");
    assert_eq!(found, 1);
    assert!(cold * 20 < raw, "{cold} of {raw} bytes are read cold");
    let (found, heads) = ask("chernobyl");
    assert_eq!(found, 0);
    assert!(
        heads * 100 < raw,
        "{heads} of {raw} bytes are read with heads"
    );
    let (found, warm) = ask("imminent");
    assert_eq!(found, 1);
    assert!(
        warm * 100 < raw,
        "{warm} of {raw} bytes are read with heads"
    );
}
