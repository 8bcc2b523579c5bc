use std::time::Duration;

use super::super::depots::tests::{process, reader};
use super::super::fault::Faults;
use super::super::stage::Stage;
use super::*;
use crate::Kind;
use crate::catalog::Delete;
use crate::fs::MemoryFile;
use crate::sim::Rng;
use crate::time::TimeRange;

fn id(number: u128) -> BlockId {
    BlockId::from_bits(number)
}

fn block(number: u128) -> BlockMeta {
    BlockMeta {
        id: id(number),
        range: TimeRange { start: 0, end: 7 },
        rows: 3,
        bytes: 99,
        level: 0,
        sequence: 1,
        created_ms: 1,
        deletes_applied: 0,
    }
}

fn batch(numbers: &[u128]) -> ShipEdit {
    ShipEdit {
        add: numbers.iter().map(|&n| block(n)).collect(),
        is_batch: true,
        ..ShipEdit::default()
    }
}

fn merge(remove: &[u128], add: u128) -> ShipEdit {
    ShipEdit {
        add: vec![block(add)],
        remove: remove.iter().map(|&n| id(n)).collect(),
        ..ShipEdit::default()
    }
}

fn named(document: &Document) -> Vec<BlockId> {
    document.blocks.iter().map(|block| block.id).collect()
}

fn faults(before: u64, after: u64, late: u64) -> Faults {
    Faults {
        before,
        after,
        late,
        late_requests: 20,
        ..Faults::default()
    }
}

#[test]
fn a_change_is_made_once_however_often_it_is_asked_for() {
    let stage = Stage::new(1, Faults::default());
    let depots = process(&stage, 1, "a");
    let store = depots.store("t", "traces");
    assert!(store.newest(0).unwrap().is_none(), "never shipped");
    let first = store.commit(&batch(&[1, 2])).unwrap();
    assert!(!first.is_foreign);
    assert_eq!(named(&first.document), [id(1), id(2)]);
    // The epoch's own version came before it.
    assert_eq!(first.document.version, 2);
    let again = store.commit(&batch(&[1, 2])).unwrap();
    assert_eq!((again.document.version, again.is_foreign), (2, false));
    assert!(store.newest(2).unwrap().is_none());
    assert_eq!(store.newest(1).unwrap().unwrap(), first.document);
    let keys: Vec<String> = stage
        .bucket(9)
        .list("")
        .unwrap()
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert_eq!(
        keys,
        [
            "lease/00000000000000000001",
            "lease/00000000000000000001.beat",
            "stores/t/traces",
            "tenants/t/traces/catalog/00000000000000000001",
            "tenants/t/traces/catalog/00000000000000000002",
        ]
    );
    let error = store.newest(9).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[test]
fn after_an_unknown_outcome_the_next_call_knows() {
    for lands in [false, true] {
        let stage = Stage::new(1, Faults::default());
        let depots = process(&stage, 1, "a");
        let store = depots.store("t", "traces");
        store.commit(&batch(&[1])).unwrap();
        let given = store.newest(0).unwrap().unwrap();
        let lost = if lands {
            faults(0, 1000, 0)
        } else {
            faults(1000, 0, 0)
        };
        stage.store.set_faults(lost);
        let error = store.commit(&batch(&[2])).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        stage.store.set_faults(Faults::default());
        // Whoever asks now is told what became of it.
        let newest = store.newest(given.version).unwrap();
        assert_eq!(newest.is_some(), lands);
        let adopted = store.commit(&batch(&[2])).unwrap();
        assert_eq!(named(&adopted.document), [id(1), id(2)]);
        assert_eq!(adopted.document.version, given.version + 1);
        assert!(!adopted.is_foreign);
    }
}

#[test]
fn a_write_that_lands_late_is_not_made_twice() {
    for seed in 0..40 {
        let stage = Stage::new(seed, Faults::default());
        let depots = process(&stage, seed, "a");
        let store = depots.store("t", "traces");
        store.commit(&batch(&[1])).unwrap();
        stage.store.set_faults(faults(100, 100, 200));
        let mut rng = Rng::new(seed);
        let (mut number, mut blocks) = (1, vec![id(1)]);
        for _ in 0..20 {
            number += 1;
            let edit = if blocks.len() > 3 && rng.below(2) == 0 {
                let gone: Vec<BlockId> = blocks.drain(..2).collect();
                let mut edit = merge(&[], number);
                edit.remove = gone;
                edit
            } else {
                batch(&[number])
            };
            blocks.push(id(number));
            let mut tries = 0;
            let adopted = loop {
                tries += 1;
                assert!(tries < 200, "seed {seed}");
                match store.commit(&edit) {
                    Ok(adopted) => break adopted,
                    Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
                }
            };
            assert_eq!(named(&adopted.document), blocks, "seed {seed}");
            assert!(!adopted.is_foreign, "seed {seed}");
        }
        stage.store.set_faults(Faults::default());
        stage.store.settle();
        // Another process sees the same.
        let there = reader(&stage, seed + 1000);
        let newest = there.store("t", "traces").newest(0).unwrap().unwrap();
        assert_eq!(named(&newest), blocks, "seed {seed}");
    }
}

#[test]
fn of_two_writers_the_older_is_fenced_and_its_plans_are_void() {
    let stage = Stage::new(1, Faults::default());
    let old = process(&stage, 1, "a");
    let old_store = old.store("t", "traces");
    old_store.commit(&batch(&[1, 2])).unwrap();
    // The same directory again: it gets its lease at once, and the older process does not know.
    let new = process(&stage, 2, "a");
    let new_store = new.store("t", "traces");
    new_store.newest(0).unwrap();
    let merged = new_store.commit(&merge(&[1, 2], 9)).unwrap();
    assert!(!merged.is_foreign);
    let fenced = old_store.commit(&batch(&[3])).unwrap_err();
    assert_eq!(fenced.kind(), Kind::Locked, "{fenced}");
    assert_eq!(old.role(), Role::Standby { by: "a".to_owned() });
    assert!(
        old_store
            .upload(id(3), &*MemoryFile::of(vec![1]).finish(), &|| Ok(()))
            .is_err()
    );
    // It follows like any reader, and takes the lease again when it is free.
    let newest = old_store.newest(2).unwrap().unwrap();
    assert_eq!(named(&newest), [id(9)]);
    new.release().unwrap();
    stage.advance(5);
    old.keep().unwrap();
    assert!(old.role().is_writer());
    let void = old_store.commit(&merge(&[1, 2], 8)).unwrap_err();
    assert_eq!(void.kind(), Kind::Invalid, "{void}");
    let shipped = old_store.commit(&batch(&[3])).unwrap();
    assert_eq!(named(&shipped.document), [id(9), id(3)]);
    assert!(!shipped.is_foreign, "it had followed");
}

#[test]
fn what_others_did_is_told_with_the_commit_that_brings_it() {
    let stage = Stage::new(1, Faults::default());
    let a = process(&stage, 1, "a");
    let a_store = a.store("t", "traces");
    a_store.commit(&batch(&[1, 2])).unwrap();
    a.release().unwrap();
    let b = process(&stage, 2, "b");
    let b_store = b.store("t", "traces");
    // It never asked, so that everything is new to it.
    let adopted = b_store.commit(&merge(&[1], 5)).unwrap();
    assert!(adopted.is_foreign);
    let adopted = b_store.commit(&batch(&[6])).unwrap();
    assert!(!adopted.is_foreign);
    b.release().unwrap();
    let a = process(&stage, 3, "a");
    let store = a.store("t", "traces");
    store.newest(0).unwrap();
    // What this directory shipped with its last batch is not shipped again, although it was merged.
    let adopted = store.commit(&batch(&[1, 2])).unwrap();
    assert_eq!(named(&adopted.document), [id(2), id(5), id(6)]);
}

#[test]
fn deletes_keep_their_numbers() {
    let stage = Stage::new(1, Faults::default());
    let depots = process(&stage, 1, "a");
    let store = depots.store("t", "logs");
    let delete = |number, what: &str| ShipEdit {
        delete: vec![Delete {
            number,
            sequence: 1,
            range: TimeRange { start: 0, end: 7 },
            what: what.to_owned(),
            created_ms: 1,
        }],
        ..ShipEdit::default()
    };
    store.commit(&delete(3, "x")).unwrap();
    store.commit(&delete(3, "x")).unwrap();
    let forget = ShipEdit {
        forget_deletes: vec![3],
        ..ShipEdit::default()
    };
    let adopted = store.commit(&forget).unwrap();
    assert_eq!(
        (
            adopted.document.deletes.len(),
            adopted.document.deletes_given
        ),
        (0, 3)
    );
    let error = store.commit(&delete(2, "y")).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[test]
fn a_block_is_held_until_it_is_named_and_an_upload_can_be_ended() {
    let stage = Stage::new(1, Faults::default());
    let depots = process(&stage, 1, "a");
    let store = depots.store("t", "logs");
    let file = MemoryFile::of(vec![7; 20 << 20]).finish();
    let guard = store.upload(id(1), &*file, &|| Ok(())).unwrap();
    assert!(store.holds.try_hold(&block_key(id(1))).is_none());
    drop(guard);
    assert!(store.holds.try_hold(&block_key(id(1))).is_some());
    let asked = std::cell::Cell::new(0);
    let check = || {
        asked.set(asked.get() + 1);
        if asked.get() > 2 {
            return Err(Error::new(Kind::Closed, "the engine is closed"));
        }
        Ok(())
    };
    let error = store.upload(id(2), &*file, &check).err().unwrap();
    assert_eq!(error.kind(), Kind::Closed);
    assert!(
        stage
            .bucket(9)
            .head("tenants/t/logs/blocks")
            .unwrap()
            .is_none()
    );
    assert_eq!(
        stage.bucket(9).list("tenants/t/logs/blocks").unwrap().len(),
        1
    );
}

#[test]
fn a_block_is_fetched_in_pieces_and_a_missing_one_is_told() {
    let stage = Stage::new(1, Faults::default());
    let depots = process(&stage, 1, "a");
    let store = depots.store("t", "logs");
    let content: Vec<u8> = (0..(17 << 20)).map(|i: u32| (i % 251) as u8).collect();
    let file = MemoryFile::of(content.clone()).finish();
    store.upload(id(1), &*file, &|| Ok(())).unwrap();
    let meta = BlockMeta {
        bytes: content.len() as u64,
        ..block(1)
    };
    let copy = MemoryFile::default();
    let before = stage.store.requests();
    let mut to = copy.writer();
    store.download(&meta, &mut *to).unwrap();
    assert_eq!(stage.store.requests() - before, 3);
    let copy = copy.finish();
    let whole = 0..copy.len();
    let read = copy.read(std::slice::from_ref(&whole)).unwrap();
    assert!(read[0] == content);
    let error = store.download(&block(2), &mut *to).unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Missing));
    let longer = BlockMeta {
        bytes: meta.bytes + 1,
        ..meta
    };
    assert_eq!(
        store.download(&longer, &mut *to).unwrap_err().kind(),
        Kind::Corrupt
    );
}

#[test]
fn calls_under_a_lock_give_up_before_others_do() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket(1).hurried(2, Duration::from_secs(1));
    stage.store.set_gone(true);
    let before = stage.store.requests();
    bucket.get("x").unwrap_err();
    assert_eq!(stage.store.requests() - before, 2);
}
