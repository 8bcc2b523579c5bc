use super::super::counters::Verb;
use super::super::depots::{Depots, DepotsConfig};
use super::super::fault::Faults;
use super::super::lease::Holder;
use super::super::range_cache::{CacheOptions, RangeCache};
use super::super::stage::{Stage, handle};
use super::*;
use crate::block_set::tests::rows::Rows;
use crate::clock::Clock;
use crate::depot::Depot;
use crate::error::{Error, Kind};
use crate::fs::Fs;
use crate::shared::Shared;
use crate::sim::SimFs;
use crate::wal::Durability::Synced;

fn copy(id: u128, bytes: u64, used_ms: i64) -> LocalCopy {
    LocalCopy {
        id: BlockId::from_bits(id),
        bytes,
        used_ms,
    }
}

#[test]
fn what_was_read_longest_ago_goes_whichever_store_has_it() {
    let copies = Arc::new(Copies::new(1000));
    let (a, b) = (StoreName::new("t", "logs"), StoreName::new("t", "traces"));
    let of_a = [copy(1, 300, 50), copy(2, 300, 10)];
    assert!(copies.surplus(&a, &of_a).is_empty());
    // 1,000 bytes fit, one more does not, and then it has to come down to 950.
    assert!(copies.surplus(&b, &[copy(3, 400, 20)]).is_empty());
    let of_b = [copy(3, 401, 20), copy(4, 1, 5)];
    // The oldest is of b, and is not enough; the next is of a.
    assert_eq!(copies.surplus(&b, &of_b), [BlockId::from_bits(4)]);
    assert_eq!(copies.surplus(&b, &of_b[..1]), []);
    assert_eq!(copies.surplus(&a, &of_a), [BlockId::from_bits(2)]);
    assert_eq!(copies.surplus(&a, &of_a[..1]), []);
    assert_eq!((copies.now().bytes, copies.now().evicted), (701, 2));
}

#[test]
fn a_budget_of_nothing_leaves_nothing() {
    let copies = Arc::new(Copies::new(0));
    let store = StoreName::new("t", "logs");
    let all = [copy(1, 300, 50), copy(2, 300, 10)];
    assert_eq!(copies.surplus(&store, &all).len(), 2);
    assert_eq!((copies.now().bytes, copies.now().evicted), (0, 2));
}

#[test]
fn a_full_disk_takes_the_copies_of_all_stores_once() {
    let copies = Arc::new(Copies::new(1000));
    let (a, b) = (StoreName::new("t", "logs"), StoreName::new("t", "traces"));
    assert_eq!(copies.surplus(&a, &[copy(1, 300, 50)]), []);
    assert_eq!(copies.surplus(&b, &[copy(2, 300, 50)]), []);
    copies.make_room(0);
    let gone = copies.surplus(&a, &[copy(1, 300, 50), copy(3, 1, 50)]);
    assert_eq!(gone, [BlockId::from_bits(1), BlockId::from_bits(3)]);
    assert_eq!(copies.surplus(&a, &[copy(4, 300, 50)]), []);
    assert_eq!(copies.surplus(&b, &[copy(2, 300, 50)]).len(), 1);
    assert_eq!((copies.now().bytes, copies.now().evicted), (300, 3));
}

#[test]
fn a_copy_is_let_in_beside_those_in_use_to_the_last_byte() {
    let now_ms = 10 * IN_USE_MS;
    let in_use = now_ms - IN_USE_MS;
    let idle = in_use - 1;
    for (held, wanted, fits) in [
        // Of 1,000 bytes 950 may be taken, so that nothing goes that was in use.
        (vec![], copy(9, 950, now_ms), true),
        (vec![], copy(9, 951, now_ms), false),
        (vec![copy(1, 500, in_use)], copy(9, 450, now_ms), true),
        (vec![copy(1, 500, in_use)], copy(9, 451, now_ms), false),
        // What is idle goes.
        (vec![copy(1, 1000, idle)], copy(9, 950, now_ms), true),
        (
            vec![copy(1, 600, idle), copy(2, 400, in_use)],
            copy(9, 550, now_ms),
            true,
        ),
        (
            vec![copy(1, 600, idle), copy(2, 400, in_use)],
            copy(9, 551, now_ms),
            false,
        ),
        // But not for what was not read later.
        (vec![copy(1, 500, idle)], copy(9, 451, idle + 1), true),
        (vec![copy(1, 500, idle)], copy(9, 450, idle), true),
        (vec![copy(1, 500, idle)], copy(9, 451, idle), false),
        (vec![copy(1, 500, idle)], copy(9, 451, 0), false),
        // First the others have to let go of theirs.
        (vec![copy(1, 1001, idle)], copy(9, 1, now_ms), false),
        (vec![], copy(9, u64::MAX, now_ms), false),
    ] {
        let copies = Arc::new(Copies::new(1000));
        let (a, b) = (StoreName::new("t", "logs"), StoreName::new("t", "traces"));
        {
            let mut state = copies.state.lock();
            state.stores.insert(a, held.clone());
            state.stores.insert(b, Vec::new());
        }
        let room = copies.admit(&wanted, now_ms);
        assert_eq!(room.is_some(), fits, "{wanted:?} beside {held:?}");
    }
    let nothing = Arc::new(Copies::new(0));
    assert!(nothing.admit(&copy(9, 1, now_ms), now_ms).is_none());
}

#[test]
fn one_copy_is_fetched_at_a_time_and_none_after_the_disk_was_full() {
    let copies = Arc::new(Copies::new(1000));
    let is_let_in = |now_ms| copies.admit(&copy(1, 10, 0), now_ms).is_some();
    let room = copies.admit(&copy(1, 10, 0), 0);
    assert!(room.is_some() && !is_let_in(0));
    drop(room);
    assert!(is_let_in(0));
    copies.rest(5);
    assert!(!is_let_in(5) && !is_let_in(4 + FULL_REST_MS));
    assert!(is_let_in(5 + FULL_REST_MS));
    copies.make_room(5 + FULL_REST_MS);
    assert!(!is_let_in(4 + 2 * FULL_REST_MS));
    assert!(is_let_in(5 + 2 * FULL_REST_MS));
}

/// A process with ten blocks of one size in its bucket and none on its disk.
struct Reader {
    stage: Stage,
    depots: Arc<Depots>,
    store: Rows,
    block_bytes: u64,
}

const BLOCKS: u64 = 10;

/// With room for so many copies.
fn reader(copies: u64) -> Reader {
    let stage = Stage::new(1, Faults::default());
    let open = |config: DepotsConfig| {
        let clock = Arc::clone(&stage.clock) as Arc<dyn Clock>;
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
        let cache = RangeCache::open(CacheOptions::default(), &fs, handle(), &clock).unwrap();
        let workers = Shared::without_workers();
        let depots = Depots::open(&stage.bucket(1), config, cache, &workers).unwrap();
        let depot: Arc<dyn Depot> = depots.store("t", "rows");
        let store = Rows::open(&SimFs::new(), &stage.clock, Some(depot)).unwrap();
        (depots, store)
    };
    let holder = |name| Holder::new(name, Some(name));
    let (_, writer) = open(DepotsConfig::new(holder("writer")));
    for row in 0..BLOCKS {
        writer.add(&[row], Synced).unwrap();
        writer.seal().unwrap();
    }
    writer.ship().unwrap();
    let block_bytes = writer.blocks.version().blocks[0].meta.bytes;
    let config = DepotsConfig {
        is_read_only: true,
        // And what is left free.
        copies_bytes_max: (copies * block_bytes).div_ceil(DOWN_TO_PERCENT) * 100,
        ..DepotsConfig::new(holder("reader"))
    };
    let (depots, store) = open(config);
    Reader {
        stage,
        depots,
        store,
        block_bytes,
    }
}

impl Reader {
    /// A minute in which each of the blocks is read its size over; then what happens in the
    /// background.
    fn minute(&self, blocks: std::ops::Range<u64>) {
        let version = self.store.blocks.version();
        for number in blocks {
            let block = &version.blocks[usize::try_from(number).unwrap()];
            for _ in 0..self.block_bytes.div_ceil(8) {
                block.file.section(1).unwrap();
            }
        }
        drop(version);
        self.stage.advance(60);
        self.store.blocks.care().unwrap();
        while self.store.blocks.fetch(&|| Ok(())).unwrap() > 0 {}
    }

    fn now(&self) -> (u64, u64, u64) {
        let now = self.depots.stats().copies;
        assert_eq!(now.bytes % self.block_bytes, 0);
        assert_eq!(now.fetched_bytes, now.fetched * self.block_bytes);
        (now.bytes / self.block_bytes, now.fetched, now.evicted)
    }
}

#[test]
fn what_is_read_in_turn_and_does_not_fit_is_not_fetched_in_circles() {
    let reader = reader(5);
    for _ in 0..100 {
        reader.minute(0..BLOCKS);
    }
    assert_eq!(reader.now(), (5, 5, 0), "some came, and stay");
    // One after another is read, each once in ten minutes.
    for minute in 0..100 {
        reader.minute(minute % BLOCKS..minute % BLOCKS + 1);
    }
    assert_eq!(reader.now(), (5, 5, 0));
}

#[test]
fn what_is_read_now_takes_the_place_of_what_is_not_read_any_more() {
    let reader = reader(5);
    for _ in 0..3 {
        reader.minute(0..5);
    }
    assert_eq!(reader.now(), (5, 5, 0));
    for _ in 0..29 {
        reader.minute(5..BLOCKS);
    }
    assert_eq!(reader.now(), (5, 5, 0), "it was read half an hour ago");
    for _ in 0..10 {
        reader.minute(5..BLOCKS);
    }
    let (copies, fetched, evicted) = reader.now();
    // The budget is somewhat more than five blocks.
    assert!((5..=6).contains(&copies) && copies + evicted == 10);
    assert_eq!(fetched, 10);
    let version = reader.store.blocks.version();
    assert!(
        version.blocks[5..]
            .iter()
            .all(|block| !block.file.is_remote())
    );
}

#[test]
fn the_pages_of_a_block_that_came_home_are_given_up() {
    let reader = reader(BLOCKS);
    reader.minute(0..4);
    let rest = reader.depots.stats().cache;
    assert_eq!((reader.now(), rest.memory_pages), ((4, 4, 0), 0));
    reader.minute(0..BLOCKS);
    assert_eq!(reader.now(), (BLOCKS, BLOCKS, 0));
    let gets = reader.depots.stats().counted.of(Verb::Get);
    reader.minute(0..BLOCKS);
    assert_eq!(reader.depots.stats().counted.of(Verb::Get), gets);
}

#[test]
fn copies_come_within_the_bandwidth_and_an_end_is_heard_while_it_is_waited_for() {
    let reader = reader(BLOCKS);
    let asked = std::cell::Cell::new(0);
    let config = DepotsConfig {
        fetch_bytes_per_second: Some(1),
        is_read_only: true,
        ..DepotsConfig::new(Holder::new("slow", Some("slow")))
    };
    let clock = Arc::clone(&reader.stage.clock) as Arc<dyn Clock>;
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let cache = RangeCache::open(CacheOptions::default(), &fs, handle(), &clock).unwrap();
    let bucket = reader.stage.bucket(1);
    let depots = Depots::open(&bucket, config, cache, &Shared::without_workers()).unwrap();
    let store = depots.store("t", "rows");
    let meta = &reader.store.blocks.version().blocks[0].meta;
    let to = || crate::fs::MemoryFile::default().writer();
    // What comes first comes at once, what follows waits until its time.
    store.fetch(meta, &mut *to(), &|| Ok(())).unwrap();
    let end = || {
        asked.set(asked.get() + 1);
        match asked.get() {
            1 => Ok(()),
            _ => Err(Error::new(Kind::Closed, "it is closed")),
        }
    };
    let gets = depots.stats().counted.of(Verb::Get);
    let error = store.fetch(meta, &mut *to(), &end).unwrap_err();
    assert_eq!((error.kind(), asked.get()), (Kind::Closed, 2));
    assert_eq!(depots.stats().counted.of(Verb::Get), gets);
    assert_eq!(depots.stats().copies.fetched, 1);
}
