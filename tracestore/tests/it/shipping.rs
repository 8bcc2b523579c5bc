//! Stores whose blocks are shipped: what survives a disk, what another process sees, who may write.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::clock::ManualClock;
use trine_storage::depot::{Depot, Role};
use trine_storage::shared::Shared;
use trine_storage::sim::{
    MemoryBucket, MemoryDepot, ShippedSubject, SimFs, Subject, check_every_cut_shipped,
    script_shipped,
};
use trine_storage::{Kind, Result};
use trine_tracestore::{Config, Durability, Span, TraceStore};

use crate::crash::{self, Spans};
use crate::store::{clock, find_all, put, service, span};

/// [`Spans`] with a depot.
pub(crate) struct Shipped(pub(crate) Arc<ManualClock>);

impl Subject for Shipped {
    type Store = TraceStore;

    fn open(&self, fs: &SimFs) -> Result<TraceStore> {
        Spans.open(fs)
    }

    fn append(&self, store: &TraceStore, rows: &[u64], durability: Durability) -> Result<()> {
        Spans.append(store, rows, durability)
    }

    fn flush(&self, store: &TraceStore) -> Result<()> {
        store.flush()
    }

    fn rows(&self, store: &TraceStore) -> Result<Vec<u64>> {
        Spans.rows(store)
    }
}

impl ShippedSubject for Shipped {
    fn open_with(&self, fs: &SimFs, depot: Arc<dyn Depot>) -> Result<TraceStore> {
        self.0.advance(Duration::from_millis(1));
        try_open(fs, crash::config(), &self.0, depot)
    }

    fn ship(&self, store: &TraceStore) -> Result<()> {
        store.ship().map(drop)
    }

    fn merge(&self, store: &TraceStore) -> Result<()> {
        store.compact()
    }

    fn evict(&self, store: &TraceStore) -> Result<()> {
        self.0.advance(Duration::from_secs(11));
        store.maintain()
    }
}

#[test]
fn every_cut_of_the_disk_and_of_the_depot_keeps_every_promise() {
    for seed in 0..2 {
        let workload = script_shipped(seed, 7);
        let cuts = check_every_cut_shipped(&Shipped(clock()), &workload, seed);
        assert!(cuts > 50, "{cuts}");
    }
}

pub(crate) fn try_open(
    fs: &SimFs,
    config: Config,
    clock: &Arc<ManualClock>,
    depot: Arc<dyn Depot>,
) -> Result<TraceStore> {
    TraceStore::builder(Path::new("store"))
        .config(config)
        .fs(Arc::new(fs.clone()))
        .clock(Arc::<ManualClock>::clone(clock))
        .shared(Shared::without_workers())
        .depot(depot)
        .open()
}

/// A data directory of some machine.
struct Machine {
    disk: SimFs,
    clock: Arc<ManualClock>,
    depot: Arc<MemoryDepot>,
}

impl Machine {
    fn new(bucket: &MemoryBucket, name: &str) -> Self {
        Self {
            disk: SimFs::new(),
            clock: clock(),
            depot: bucket.depot(name),
        }
    }

    fn open(&self) -> TraceStore {
        // Two machines have not made their blocks in the same millisecond.
        self.clock.advance(Duration::from_millis(7));
        let depot: Arc<dyn Depot> = Arc::<MemoryDepot>::clone(&self.depot);
        try_open(&self.disk, Config::default(), &self.clock, depot).unwrap()
    }

    fn reads_only(self) -> Self {
        self.depot.set_role(Role::ReadOnly);
        self
    }

    fn standby(&self) {
        let by = "the other one".into();
        self.depot.set_role(Role::Standby { by });
    }

    fn writes(&self, epoch: u64) {
        self.depot.set_role(Role::Writer { epoch });
    }
}

fn put_one(store: &TraceStore, one: Span) {
    put(store, &service("s"), vec![one]);
}

fn ship(store: &TraceStore) {
    store.ship().unwrap();
}

#[test]
fn an_empty_directory_has_what_was_shipped() {
    let bucket = MemoryBucket::new();
    let machine = Machine::new(&bucket, "first");
    let store = machine.open();
    put(
        &store,
        &service("s"),
        vec![span(1, 1, 0, "a", 1), span(1, 2, 1, "b", 2)],
    );
    store.flush().unwrap();
    put_one(&store, span(2, 1, 0, "c", 3));
    let stats = store.stats();
    assert_eq!(stats.unshipped_blocks, 1);
    assert!(stats.unshipped_since_ms.is_some());
    ship(&store);
    let stats = store.stats();
    assert_eq!(stats.unshipped_since_ms, None);
    assert_eq!(
        (stats.blocks, stats.unshipped_blocks, stats.unshipped_bytes),
        (2, 0, 0)
    );
    put_one(&store, span(3, 1, 0, "lost", 4));
    drop(store);

    let other = Machine::new(&bucket, "second");
    let store = other.open();
    assert_eq!(find_all(&store), ["c", "a b"]);
    assert!(store.snapshot().trace([1; 16]).unwrap().is_some());
    assert!(store.snapshot().trace([3; 16]).unwrap().is_none());
    let report = store.verify();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!((report.blocks, report.spans), (2, 3));
    // Life goes on, behind what there was.
    put_one(&store, span(1, 3, 1, "d", 5));
    store.compact().unwrap();
    assert_eq!(find_all(&store), ["c", "a b d"]);
    drop(store);
    let store = other.open();
    assert_eq!(find_all(&store), ["c", "a b d"]);
}

#[test]
fn a_reader_sees_what_the_writer_has_shipped_deleted_and_merged() {
    let bucket = MemoryBucket::new();
    let writer = Machine::new(&bucket, "writer");
    let reader = Machine::new(&bucket, "reader").reads_only();
    let (store, copy) = (writer.open(), reader.open());
    assert!(find_all(&copy).is_empty());
    for id in 1..=3u8 {
        put_one(&store, span(id, 1, 0, &format!("span {id}"), id.into()));
        store.flush().unwrap();
    }
    ship(&store);
    assert!(find_all(&copy).is_empty());
    assert!(copy.follow().unwrap());
    assert!(!copy.follow().unwrap());
    assert_eq!(find_all(&copy), ["span 3", "span 2", "span 1"]);

    let kept = copy.snapshot();
    let number = store.delete_trace([2; 16]).unwrap();
    copy.follow().unwrap();
    assert_eq!(find_all(&copy), ["span 3", "span 1"]);
    assert_eq!(copy.deletes().len(), 1);
    store.cancel_delete(number).unwrap();
    copy.follow().unwrap();
    assert_eq!(find_all(&copy), ["span 3", "span 2", "span 1"]);
    store.delete_trace([2; 16]).unwrap();
    store.compact().unwrap();
    assert!(store.deletes().is_empty());
    copy.follow().unwrap();
    assert!(copy.deletes().is_empty());
    assert_eq!(find_all(&copy), ["span 3", "span 1"]);
    assert_eq!((store.stats().blocks, copy.stats().blocks), (1, 1));
    // What was merged meanwhile is still there for who holds it.
    assert!(kept.trace([2; 16]).unwrap().is_some());

    for error in [
        copy.delete_trace([1; 16]).map(drop).unwrap_err(),
        copy.cancel_delete(1).unwrap_err(),
        copy.compact().unwrap_err(),
        copy.take_over().unwrap_err(),
        crash_append(&copy).unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::ReadOnly, "{error}");
    }
    assert_eq!(copy.ship().unwrap_err().kind(), Kind::ReadOnly);
    copy.maintain().unwrap();
}

fn crash_append(store: &TraceStore) -> Result<()> {
    Spans.append(store, &[1], Durability::Synced)
}

#[test]
fn a_reader_follows_while_it_is_read() {
    let bucket = MemoryBucket::new();
    let writer = Machine::new(&bucket, "writer");
    let reader = Machine::new(&bucket, "reader").reads_only();
    let (store, copy) = (writer.open(), reader.open());
    put_one(&store, span(1, 1, 0, "a", 1));
    ship(&store);
    let calls = || bucket.calls();
    let asks = |what: &dyn Fn()| {
        let before = calls();
        what();
        calls() - before
    };
    let reads = || drop(copy.snapshot());
    let works = || copy.maintain().unwrap();
    assert_eq!(asks(&works), 0, "it was just opened");
    reader.clock.advance(Duration::from_secs(10));
    assert_eq!(asks(&works), 1);
    assert_eq!(find_all(&copy), ["a"]);
    reader.clock.advance(Duration::from_secs(29));
    assert_eq!(asks(&reads), 0);
    reader.clock.advance(Duration::from_secs(1));
    assert_eq!(
        (asks(&reads), asks(&reads)),
        (1, 0),
        "nobody has asked for long"
    );
    reader.clock.advance(Duration::from_secs(300));
    assert_eq!(asks(&works), 0, "nobody reads it");
    put_one(&store, span(2, 1, 0, "b", 2));
    ship(&store);
    assert_eq!(find_all(&copy), ["b", "a"]);
    // What is known is read while the depot does not answer.
    bucket.set_away(true);
    reader.clock.advance(Duration::from_secs(60));
    assert_eq!(copy.maintain().unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(copy.blocks().len(), 2);
}

#[test]
fn rows_that_were_not_shipped_stay_with_their_disk() {
    let bucket = MemoryBucket::new();
    let (first, second) = (
        Machine::new(&bucket, "first"),
        Machine::new(&bucket, "second"),
    );
    second.standby();
    let store = first.open();
    put_one(&store, span(1, 1, 0, "shipped", 1));
    ship(&store);
    put_one(&store, span(2, 1, 0, "sealed", 2));
    store.flush().unwrap();
    put_one(&store, span(3, 1, 0, "in memory", 3));
    drop(store);

    // Another one goes on meanwhile, far behind, and deletes what it sees.
    second.writes(2);
    let other = second.open();
    for id in 4..=9 {
        put_one(&other, span(id, 1, 0, "of the other", id.into()));
    }
    other.delete_trace([2; 16]).unwrap();
    other.delete_trace([9; 16]).unwrap();
    ship(&other);
    assert_eq!(find_all(&other).len(), 6);

    first.standby();
    let store = first.open();
    let own = |store: &TraceStore| {
        let found = find_all(store);
        let own = found.iter().filter(|name| *name != "of the other");
        (own.cloned().collect::<Vec<_>>(), found.len())
    };
    let all = ["in memory", "sealed", "shipped"]
        .map(String::from)
        .to_vec();
    let left = ["in memory", "shipped"].map(String::from).to_vec();
    // Its sealed rows were appended before the delete, which concerns them.
    let seen = own(&store);
    assert!(
        seen == (all.clone(), 8) || seen == (left.clone(), 7),
        "{seen:?}"
    );
    assert_eq!(crash_append(&store).unwrap_err().kind(), Kind::Locked);
    assert_eq!(store.ship().unwrap_err().kind(), Kind::Locked);
    store.maintain().unwrap();

    // It writes again: what it had is shipped, and what comes is behind all deletes.
    second.standby();
    first.writes(3);
    store.take_over().unwrap();
    put_one(&store, span(9, 2, 0, "after the delete", 10));
    ship(&store);
    other.follow().unwrap();
    for store in [&store, &other] {
        let (own, count) = own(store);
        assert_eq!(own.first().map(String::as_str), Some("after the delete"));
        assert_eq!((&own[1..], count), (&seen.0[..], seen.1 + 1));
    }
    assert_eq!(crash_append(&other).unwrap_err().kind(), Kind::Locked);
}

#[test]
fn who_was_overtaken_without_knowing_it_deletes_nothing_of_what_comes() {
    let bucket = MemoryBucket::new();
    let (first, second) = (
        Machine::new(&bucket, "first"),
        Machine::new(&bucket, "second"),
    );
    let store = first.open();
    put_one(&store, span(1, 1, 0, "shipped", 1));
    ship(&store);
    for id in 2..=9 {
        put_one(&store, span(id, 1, 0, "of the first", id.into()));
    }
    second.writes(2);
    let other = second.open();
    // As late as what the first one has, which is later than what the second one appends.
    let refused = store.delete_trace([3; 16]).unwrap_err();
    assert_eq!(refused.kind(), Kind::Locked);
    put_one(&other, span(3, 2, 0, "of the second", 10));
    ship(&other);
    assert_eq!(find_all(&other), ["of the second", "shipped"]);
    assert!(other.deletes().is_empty());
    assert_eq!(store.ship().unwrap_err().kind(), Kind::Locked);
    first.standby();
    assert_eq!(find_all(&store).len(), 9);
}

#[test]
fn a_trace_that_two_machines_have_is_one() {
    let bucket = MemoryBucket::new();
    let (first, second) = (
        Machine::new(&bucket, "first"),
        Machine::new(&bucket, "second"),
    );
    let store = first.open();
    put_one(&store, span(5, 1, 0, "root", 1));
    store.flush().unwrap();
    put_one(&store, span(6, 1, 0, "root", 1));
    drop(store);
    second.writes(2);
    let other = second.open();
    for id in 5..=7 {
        put_one(&other, span(id, 2, 1, "child", 2));
        ship(&other);
    }
    assert_eq!(find_all(&other), ["child"; 3]);
    second.standby();
    first.standby();
    let store = first.open();
    let whole = ["child", "root child", "root child"];
    assert_eq!(find_all(&store), whole, "while it stands by");
    first.writes(3);
    store.take_over().unwrap();
    assert_eq!(find_all(&store), whole, "when it has taken over");
    ship(&store);
    other.follow().unwrap();
    assert_eq!(find_all(&other), whole);
    drop(store);
    let store = first.open();
    assert_eq!(find_all(&store), whole, "when it is opened again");
    store.compact().unwrap();
    assert_eq!(find_all(&store), whole, "merged");
}

#[test]
fn a_store_goes_on_while_the_depot_is_away() {
    let bucket = MemoryBucket::new();
    let machine = Machine::new(&bucket, "first");
    let store = machine.open();
    put_one(&store, span(1, 1, 0, "a", 1));
    ship(&store);
    bucket.set_away(true);
    put_one(&store, span(2, 1, 0, "b", 2));
    store.flush().unwrap();
    assert_eq!(store.ship().unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(
        store.delete_trace([1; 16]).unwrap_err().kind(),
        Kind::Unavailable
    );
    put_one(&store, span(3, 1, 0, "c", 3));
    assert_eq!(find_all(&store), ["c", "b", "a"]);
    assert_eq!(store.stats().unshipped_blocks, 1);
    drop(store);
    let store = machine.open();
    assert_eq!(find_all(&store), ["c", "b", "a"]);
    // It is not known who has written meanwhile.
    assert_eq!(crash_append(&store).unwrap_err().kind(), Kind::Unavailable);
    bucket.set_away(false);
    crash_append(&store).unwrap();
    ship(&store);
    assert_eq!(store.stats().unshipped_blocks, 0);
    assert_eq!(machine.depot.told().unshipped_blocks, 0);
}

#[test]
fn memory_is_sealed_and_shipped_in_time() {
    let bucket = MemoryBucket::new();
    let machine = Machine::new(&bucket, "first");
    let store = machine.open();
    put_one(&store, span(1, 1, 0, "a", 1));
    machine.clock.advance(Duration::from_secs(599));
    store.maintain().unwrap();
    assert!(bucket.document().blocks.is_empty());
    machine.clock.advance(Duration::from_secs(1));
    store.maintain().unwrap();
    assert_eq!(bucket.document().blocks.len(), 1);
}

#[test]
fn blocks_are_read_merged_and_retained_wherever_they_are() {
    let bucket = MemoryBucket::new();
    let machine = Machine::new(&bucket, "first");
    let store = machine.open();
    let all: Vec<String> = (1..=3u8).rev().map(|id| format!("span {id}")).collect();
    for id in 1..=3u8 {
        put_one(&store, span(id, 1, 0, &format!("span {id}"), id.into()));
        ship(&store);
    }
    let files = || {
        let files = machine.disk.files().into_iter();
        let blocks = files.filter(|path| path.starts_with("store/blocks"));
        blocks.collect::<BTreeSet<_>>().len()
    };
    assert_eq!((store.stats().blocks, files()), (3, 3));
    let kept = store.snapshot();
    bucket.set_copies_max(Some(0));
    machine.clock.advance(Duration::from_secs(11));
    store.maintain().unwrap();
    assert_eq!(find_all(&store), all);
    drop(kept);
    assert_eq!((store.stats().blocks, files()), (3, 0));
    assert_eq!(find_all(&store), all);
    bucket.set_copies_max(None);
    store.compact().unwrap();
    assert_eq!(
        (store.stats().blocks, bucket.document().blocks.len()),
        (1, 1)
    );
    assert_eq!(find_all(&store), all);
    assert_eq!(files(), 1);
    drop(store);
    let empty = Machine::new(&bucket, "second").open();
    assert_eq!(find_all(&empty), all);
}

#[test]
fn a_full_disk_lets_go_of_copies_and_what_was_refused_goes_on_with_room() {
    let bucket = MemoryBucket::new();
    let machine = Machine::new(&bucket, "first");
    let store = machine.open();
    let copies = || {
        let files = machine.disk.files().into_iter();
        let blocks = files.filter(|path| path.extension().is_some_and(|e| e == "block"));
        blocks.count()
    };
    for id in 1..=3u8 {
        put_one(&store, span(id, 1, 0, &format!("span {id}"), id.into()));
        ship(&store);
    }
    assert_eq!(copies(), 3);
    put_one(&store, span(4, 1, 0, "span 4", 4));
    machine.disk.fill_after(0);
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Io);
    assert_eq!(copies(), 0, "a seal makes room");
    let all = ["span 4", "span 3", "span 2", "span 1"];
    assert_eq!(find_all(&store), all);
    machine.disk.fill_after(u64::MAX);
    ship(&store);
    assert_eq!(copies(), 1);
    machine.disk.fill_after(0);
    assert_eq!(store.compact().unwrap_err().kind(), Kind::Io);
    assert_eq!(copies(), 0, "a merge makes room");
    assert_eq!(find_all(&store), all);
    machine.disk.fill_after(u64::MAX);
    store.compact().unwrap();
    assert_eq!((store.stats().blocks, copies()), (1, 1));
    assert_eq!(find_all(&store), all);
}
