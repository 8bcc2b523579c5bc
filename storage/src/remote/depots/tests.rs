use super::super::Change;
use super::super::fault::{FaultStore, Faults};
use super::super::range_cache::CacheOptions;
use super::super::stage::{Stage, handle};
use super::*;
use crate::clock::Clock;
use crate::depot::{Depot, LocalCopy, ShipEdit};
use crate::fs::{Fs, MemoryFile};
use crate::sim::SimFs;
use crate::ulid::BlockId;

/// A process with a data directory of this name.
pub(in crate::remote) fn process(stage: &Stage, salt: u64, name: &str) -> Arc<Depots> {
    open(
        stage,
        salt,
        DepotsConfig::new(Holder::new(name, Some(name))),
    )
    .unwrap()
}

pub(in crate::remote) fn reader(stage: &Stage, salt: u64) -> Arc<Depots> {
    let config = DepotsConfig {
        is_read_only: true,
        ..DepotsConfig::new(Holder::new("reader", Some("reader")))
    };
    open(stage, salt, config).unwrap()
}

pub(in crate::remote) fn open(
    stage: &Stage,
    salt: u64,
    config: DepotsConfig,
) -> Result<Arc<Depots>> {
    let bucket = stage.bucket(salt);
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let clock = Arc::clone(&stage.clock) as Arc<dyn Clock>;
    let cache = RangeCache::open(CacheOptions::default(), &fs, handle(), &clock)?;
    Depots::open(&bucket, config, cache, &Shared::without_workers())
}

fn writes(store: &FaultStore) -> usize {
    store.changes().len()
}

fn epoch(depots: &Depots) -> Option<u64> {
    match depots.role() {
        Role::Writer { epoch } => Some(epoch),
        _ => None,
    }
}

/// Ships one block.
fn ship(depots: &Depots, tenant: &str, number: u128) {
    let store = depots.store(tenant, "logs");
    let file = MemoryFile::of(vec![7; 1000]).finish();
    let meta = crate::catalog::BlockMeta {
        id: BlockId::from_bits(number),
        range: crate::time::TimeRange { start: 0, end: 7 },
        rows: 3,
        bytes: file.len(),
        level: 0,
        sequence: 1,
        created_ms: 1,
        deletes_applied: 0,
    };
    let _guard = store.upload(meta.id, &*file, &|| Ok(())).unwrap();
    let edit = ShipEdit {
        add: vec![meta],
        is_batch: true,
        ..ShipEdit::default()
    };
    store.commit(&edit).unwrap();
}

#[test]
fn the_first_writes_and_the_second_takes_over_when_it_lets_go() {
    let stage = Stage::new(1, Faults::default());
    let (a, b) = (process(&stage, 1, "host-a"), process(&stage, 2, "host-b"));
    assert_eq!((epoch(&a), epoch(&b)), (Some(1), None));
    assert_eq!(
        b.role(),
        Role::Standby {
            by: "host-a".to_owned()
        }
    );
    let refusal = b.refusal().unwrap();
    assert_eq!(refusal.kind(), Kind::Locked);
    assert!(refusal.to_string().contains("host-a"), "{refusal}");
    // Beats keep it, whatever the other tries.
    for _ in 0..30 {
        stage.advance(5);
        a.keep().unwrap();
        b.keep().unwrap();
    }
    assert_eq!((epoch(&a), epoch(&b)), (Some(1), None));
    a.release().unwrap();
    assert_eq!(epoch(&a), None);
    stage.advance(5);
    b.keep().unwrap();
    assert_eq!(epoch(&b), Some(2));
    // It does not come back by itself.
    stage.advance(5);
    a.keep().unwrap();
    assert_eq!((epoch(&a), epoch(&b)), (None, Some(2)));
}

#[test]
fn a_lease_that_was_lost_while_asleep_is_noticed_and_retaken_when_it_is_free() {
    let stage = Stage::new(1, Faults::default());
    let (a, b) = (process(&stage, 1, "host-a"), process(&stage, 2, "host-b"));
    ship(&a, "t", 1);
    for _ in 0..13 {
        stage.advance(5);
        b.keep().unwrap();
    }
    assert_eq!(epoch(&b), Some(2));
    // It believes that it writes, and its commit tells it otherwise.
    assert_eq!(epoch(&a), Some(1));
    a.keep().unwrap();
    assert_eq!(
        a.role(),
        Role::Standby {
            by: "host-b".to_owned()
        }
    );
    ship(&b, "t", 2);
    let error = a
        .store("t", "logs")
        .commit(&ShipEdit::default())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    b.release().unwrap();
    stage.advance(5);
    a.keep().unwrap();
    assert_eq!(epoch(&a), Some(3));
    ship(&a, "t", 3);
    let document = a.store("t", "logs").newest(0).unwrap().unwrap();
    assert_eq!(document.blocks.len(), 3);
}

#[test]
fn a_writer_whose_bucket_is_away_stays_one_and_says_so() {
    let stage = Stage::new(1, Faults::default());
    let a = process(&stage, 1, "host-a");
    ship(&a, "t", 1);
    assert!(a.ready().is_empty(), "{:?}", a.ready());
    stage.store.set_gone(true);
    stage.advance(90);
    assert_eq!(a.keep().unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(epoch(&a), Some(1));
    assert!(!a.stats().is_lease_held);
    a.store("t", "logs").tell(ShipState {
        unshipped_blocks: 3,
        unshipped_since_ms: Some(stage.clock.now_ms() - 17 * MINUTE_MS),
        ..ShipState::default()
    });
    let error = a
        .store("t", "logs")
        .commit(&ShipEdit::default())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    stage.advance(60);
    a.keep().unwrap_err();
    let [line] = &*a.ready() else {
        panic!("{:?}", a.ready());
    };
    // Since the first failure, not the last.
    assert!(
        line.starts_with("test: fails since 22:14:50 UTC: cannot "),
        "{line}"
    );
    assert!(
        line.ends_with("; 3 blocks wait to be shipped, the oldest for 18 min"),
        "{line}"
    );
    stage.store.set_gone(false);
    stage.advance(5);
    a.keep().unwrap();
    assert!(a.stats().is_lease_held && a.ready().is_empty());
    ship(&a, "t", 2);
}

#[test]
fn who_only_reads_writes_nothing_and_finds_new_stores() {
    let stage = Stage::new(1, Faults::default());
    let a = process(&stage, 1, "host-a");
    ship(&a, "team a*'(1)", 1);
    let before = writes(&stage.store);
    let r = reader(&stage, 2);
    assert!(r.has("team a*'(1)", "logs") && !r.has("team a*'(1)", "traces"));
    assert!(!r.has("t", "logs"));
    assert_eq!(r.role(), Role::ReadOnly);
    let store = r.store("team a*'(1)", "logs");
    let document = store.newest(0).unwrap().unwrap();
    let file = store.open(&document.blocks[0]);
    let whole = 0..1000;
    let read = file.read(std::slice::from_ref(&whole)).unwrap();
    assert_eq!(read[0], vec![7; 1000]);
    for error in [
        store.commit(&ShipEdit::default()).unwrap_err(),
        store
            .upload(BlockId::from_bits(2), &*file, &|| Ok(()))
            .err()
            .unwrap(),
        r.refusal().unwrap(),
    ] {
        assert_eq!(error.kind(), Kind::ReadOnly);
        assert!(
            error.to_string().contains("is written to by host-a"),
            "{error}"
        );
    }
    assert!(r.store("nobody", "logs").newest(0).unwrap().is_none());
    stage.advance(70);
    r.keep().unwrap();
    r.sweep().unwrap();
    assert_eq!(writes(&stage.store), before);
    a.keep().unwrap();
    ship(&a, "t", 2);
    assert!(!r.has("t", "logs"), "it asks for nothing");
    stage.advance(10);
    r.keep().unwrap();
    assert!(r.has("t", "logs"));
    assert_eq!(r.stores().len(), 2);
    let before = writes(&stage.store);
    r.release().unwrap();
    assert_eq!(writes(&stage.store), before);
}

#[test]
fn a_restart_on_the_same_directory_writes_at_once() {
    let stage = Stage::new(1, Faults::default());
    let a = process(&stage, 1, "host-a");
    ship(&a, "t", 1);
    let again = process(&stage, 2, "host-a");
    assert_eq!(epoch(&again), Some(2));
    assert!(again.has("t", "logs"));
    // What is left of the process before it is stopped by the first that the new one writes.
    ship(&again, "t", 2);
    let store = a.store("t", "logs");
    assert_eq!(
        store.commit(&edit_position(7)).unwrap_err().kind(),
        Kind::Locked
    );
    assert!(!a.role().is_writer());
}

fn edit_position(position: u64) -> ShipEdit {
    ShipEdit {
        wal_position: Some(position),
        ..ShipEdit::default()
    }
}

#[test]
fn what_was_written_to_is_swept_and_the_rest_is_left_alone() {
    let stage = Stage::new(1, Faults::default());
    let a = process(&stage, 1, "host-a");
    ship(&a, "t", 1);
    a.store("other", "logs");
    let orphan = BlockId::from_bits(99);
    let file = MemoryFile::of(vec![7; 10]).finish();
    drop(
        a.store("t", "logs")
            .upload(orphan, &*file, &|| Ok(()))
            .unwrap(),
    );
    let remove = ShipEdit {
        remove: vec![BlockId::from_bits(1)],
        ..ShipEdit::default()
    };
    a.store("t", "logs").commit(&remove).unwrap();
    for _ in 0..3 {
        stage.advance(599);
        a.keep().unwrap();
        a.sweep().unwrap();
    }
    assert_eq!(a.stats().swept, 0, "not late enough");
    stage.advance(3600);
    // The lease ran out meanwhile.
    assert_eq!(a.sweep().unwrap_err().kind(), Kind::Unavailable);
    a.keep().unwrap();
    stage.advance(600);
    a.keep().unwrap();
    a.sweep().unwrap();
    assert_eq!(a.stats().swept, 2);
    assert!(
        stage
            .bucket(9)
            .list("tenants/t/logs/blocks")
            .unwrap()
            .is_empty()
    );
    // Its versions are known to the store that goes on.
    let position = a.store("t", "logs").commit(&edit_position(5)).unwrap();
    assert!(!position.is_foreign);
}

#[test]
fn a_bucket_that_does_not_answer_is_not_opened() {
    let stage = Stage::new(1, Faults::default());
    stage.store.set_gone(true);
    let config = DepotsConfig::new(Holder::new("a", None));
    let error = open(&stage, 1, config).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}

#[test]
fn troubles_of_stores_are_told_once_each_and_not_without_end() {
    let stage = Stage::new(1, Faults::default());
    let a = process(&stage, 1, "host-a");
    for number in 0..13 {
        let state = ShipState {
            failed: Some(Error::new(Kind::Corrupt, "it is wrong")),
            quarantined: vec![Error::new(Kind::Corrupt, "block x is damaged")],
            ..ShipState::default()
        };
        a.store(&format!("t{number:02}"), "logs").tell(state);
    }
    let state = ShipState {
        failed: Some(Error::new(Kind::Locked, "it is a role")),
        ..ShipState::default()
    };
    a.store("standby", "logs").tell(state);
    let lines = a.ready();
    assert_eq!(lines.len(), 22, "{lines:?}");
    assert_eq!(
        lines[0],
        "t00/logs in test: fails since 22:13:20 UTC: it is wrong"
    );
    assert_eq!(lines[10], "and 3 more like the last");
    assert_eq!(
        lines[11],
        "a block of t00/logs is not served: block x is damaged"
    );
    for number in 0..13 {
        a.store(&format!("t{number:02}"), "logs")
            .tell(ShipState::default());
    }
    assert!(a.ready().is_empty());
    a.store("t00", "logs").surplus(&[LocalCopy {
        id: BlockId::from_bits(1),
        bytes: 5,
        used_ms: 1,
    }]);
    assert_eq!(a.stats().copies.bytes, 5);
}

#[test]
fn it_is_kept_in_the_background() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket(1);
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let clock = Arc::clone(&stage.clock) as Arc<dyn Clock>;
    let cache = RangeCache::open(CacheOptions::default(), &fs, handle(), &clock).unwrap();
    let workers = Shared::new(&crate::shared::Config {
        workers: 2,
        interval: Duration::from_millis(1),
        ..crate::shared::Config::default()
    });
    let config = DepotsConfig::new(Holder::new("a", None));
    let depots = Depots::open(&bucket, config, cache, &workers).unwrap();
    let beats = |changes: Vec<Change>| {
        let beats = changes
            .iter()
            .filter(|change| change.key.ends_with(".beat"));
        beats.count()
    };
    let before = beats(stage.store.changes());
    stage.advance(15);
    for _ in 0..20_000 {
        if beats(stage.store.changes()) > before {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(beats(stage.store.changes()) > before, "nobody beats");
    drop(depots);
    workers.stop();
}

#[test]
fn readers_of_all_stores_keep_half_of_the_memory_of_the_cache_or_what_is_set() {
    let stage = Stage::new(1, Faults::default());
    let half = CacheOptions::default().memory_bytes_max / 2;
    for kept_bytes_max in [None, Some(9_000)] {
        let config = DepotsConfig {
            kept_bytes_max,
            ..DepotsConfig::new(Holder::new("host-a", Some("host-a")))
        };
        let depots = open(&stage, 1, config).unwrap();
        let (a, b) = (depots.store("a", "logs"), depots.store("b", "logs"));
        let max = kept_bytes_max.unwrap_or(half);
        assert_eq!(a.kept_bytes_max(max), max);
        assert_eq!(b.kept_bytes_max(max), max / 2);
        assert_eq!(a.kept_bytes_max(max / 2), max / 2);
    }
}
