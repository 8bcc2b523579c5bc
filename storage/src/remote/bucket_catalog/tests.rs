use std::sync::Arc;

use super::super::fault::Faults;
use super::super::stage::{Stage, lease};
use super::super::{Holds, SweepOptions, sweep};
use super::*;
use crate::catalog::BlockMeta;
use crate::cost::Cost;
use crate::time::TimeRange;

fn block(number: u64) -> BlockMeta {
    BlockMeta {
        id: BlockId::from_bits(u128::from(number)),
        range: TimeRange { start: 0, end: 7 },
        rows: 3,
        bytes: 99,
        level: 0,
        sequence: number,
        created_ms: 1,
        deletes_applied: 0,
    }
}

fn committed(commit: Commit) -> BucketDocument {
    match commit {
        Commit::Committed(document) => document,
        other => panic!("{other:?}"),
    }
}

/// How many requests it takes, which come one after the other.
fn asked(work: impl FnOnce()) -> u64 {
    let cost = Arc::new(Cost::default());
    let counting = cost.enter();
    work();
    drop(counting);
    assert_eq!(cost.now().requests, cost.now().depth);
    cost.now().requests
}

/// Adds a block to the newest version.
fn add(
    catalog: &BucketCatalog,
    lease: &Lease,
    before: &BucketDocument,
    number: u64,
) -> BucketDocument {
    let mut next = before.catalog.clone();
    next.blocks.push(block(number));
    committed(catalog.commit(lease, before, next, &[]).unwrap())
}

#[test]
fn versions_follow_each_other_and_followers_see_the_newest() {
    let stage = Stage::new(1, Faults::default());
    let catalog = BucketCatalog::new(stage.bucket(1));
    let reader = BucketCatalog::new(stage.bucket(2));
    assert_eq!(reader.load_newest().unwrap(), None);
    let lease = lease(catalog.bucket(), "a");
    let first = committed(catalog.claim(&lease).unwrap());
    assert_eq!((first.version(), first.epoch, &*first.writer), (1, 1, "a"));
    assert_eq!(reader.load_after(&first).unwrap(), None);
    let second = add(&catalog, &lease, &first, 1);
    let third = add(&catalog, &lease, &second, 2);
    let newest = || assert_eq!(reader.load_newest().unwrap(), Some(third.clone()));
    assert_eq!(asked(newest), 3);
    assert_eq!(
        asked(|| assert_eq!(reader.load_after(&third).unwrap(), None)),
        2
    );
    assert_eq!(reader.load_after(&first).unwrap(), Some(third.clone()));
    assert_eq!(reader.load(2).unwrap(), Some(second));
    assert_eq!(reader.load(4).unwrap(), None);
    // A block that is named no more is doomed with the version.
    let mut next = third.catalog.clone();
    next.blocks.remove(0);
    let fourth = committed(catalog.commit(&lease, &third, next.clone(), &[]).unwrap());
    let doomed = Doomed {
        key: block_key(BlockId::from_bits(1)),
        since: 4,
    };
    assert_eq!(fourth.doomed, std::slice::from_ref(&doomed));
    let fifth = committed(catalog.commit(&lease, &fourth, next.clone(), &[]).unwrap());
    assert_eq!(fifth.doomed, std::slice::from_ref(&doomed));
    let gone = [doomed.key];
    let sixth = committed(catalog.commit(&lease, &fifth, next, &gone).unwrap());
    assert_eq!(sixth.doomed, []);
}

#[test]
fn of_two_commits_to_one_number_one_wins_and_the_other_sees_it() {
    let stage = Stage::new(1, Faults::default());
    let catalog = BucketCatalog::new(stage.bucket(1));
    let lease = lease(catalog.bucket(), "a");
    let first = committed(catalog.claim(&lease).unwrap());
    let second = add(&catalog, &lease, &first, 1);
    let again = catalog
        .commit(&lease, &first, first.catalog.clone(), &[])
        .unwrap();
    assert_eq!(again, Commit::Conflict(second));
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_by_the_next() {
    let stage = Stage::new(1, Faults::default());
    let catalog = BucketCatalog::new(stage.bucket(1));
    let lease = lease(catalog.bucket(), "a");
    let first = committed(catalog.claim(&lease).unwrap());
    stage.store.set_faults(Faults {
        after: 1000,
        ..Faults::default()
    });
    let mut next = first.catalog.clone();
    next.blocks.push(block(1));
    let unknown = catalog
        .commit(&lease, &first, next.clone(), &[])
        .unwrap_err();
    assert_eq!(unknown.kind(), Kind::Unavailable);
    stage.store.set_faults(Faults::default());
    let Commit::Conflict(found) = catalog.commit(&lease, &first, next.clone(), &[]).unwrap() else {
        panic!("it was committed before");
    };
    assert_eq!((found.version(), &found.catalog.blocks), (2, &next.blocks));
}

#[test]
fn an_old_writer_is_stopped_by_the_epoch_of_the_new_one() {
    let stage = Stage::new(1, Faults::default());
    let old = BucketCatalog::new(stage.bucket(1));
    let old_lease = lease(old.bucket(), "old");
    let first = committed(old.claim(&old_lease).unwrap());
    stage.advance(66);
    let new = BucketCatalog::new(stage.bucket(2));
    let new_lease = lease(new.bucket(), "new");
    // The old one has not asked since, so that it does not know.
    old_lease.pretend_beat();
    let second = committed(new.claim(&new_lease).unwrap());
    assert_eq!((second.version(), second.epoch), (2, 2));
    let mut next = first.catalog.clone();
    next.blocks.push(block(1));
    let fenced = Commit::Fenced {
        by: "new".to_owned(),
        epoch: 2,
    };
    assert_eq!(
        old.commit(&old_lease, &first, next.clone(), &[]).unwrap(),
        fenced
    );
    assert_eq!(old.commit(&old_lease, &second, next, &[]).unwrap(), fenced);
    assert_eq!(old.claim(&old_lease).unwrap(), fenced);
}

#[test]
fn a_version_in_a_number_that_was_swept_is_taken_back() {
    let stage = Stage::new(1, Faults::default());
    let catalog = BucketCatalog::new(stage.bucket(1));
    let held = lease(catalog.bucket(), "a");
    let nothing = catalog.load_newest().unwrap();
    assert_eq!(nothing, None);
    let mut newest = committed(catalog.claim(&held).unwrap());
    let first = newest.clone();
    for number in 1..=40 {
        newest = add(&catalog, &held, &newest, number);
    }
    stage.advance(4000);
    assert_eq!(held.beat().unwrap(), None);
    let swept = sweep(&catalog, &held, &SweepOptions::default(), &Holds::default()).unwrap();
    assert_eq!((swept.versions, swept.newest.oldest), (24, 25));
    assert_eq!(catalog.load(24).unwrap(), None);
    assert!(catalog.load(25).unwrap().is_some());
    let newest = swept.newest;
    // A writer that slept since the first version, and one that saw no version at all.
    let late = catalog
        .commit(&held, &first, first.catalog.clone(), &[])
        .unwrap();
    assert_eq!(late, Commit::Conflict(newest.clone()));
    assert_eq!(catalog.load(2).unwrap(), None, "taken back");
    let late = catalog.create(&held, BucketDocument::default()).unwrap();
    assert_eq!(late, Commit::Conflict(newest.clone()));
    assert_eq!(catalog.load(1).unwrap(), None, "taken back");
    // A reader that slept, too.
    assert_eq!(catalog.load_after(&first).unwrap(), Some(newest));
}

#[test]
fn a_list_that_lags_is_not_believed() {
    let stage = Stage::new(3, Faults::default());
    let catalog = BucketCatalog::new(stage.bucket(1));
    let held = lease(catalog.bucket(), "a");
    let mut newest = committed(catalog.claim(&held).unwrap());
    for number in 1..=60 {
        newest = add(&catalog, &held, &newest, number);
    }
    stage.advance(4000);
    held.beat().unwrap();
    newest = sweep(&catalog, &held, &SweepOptions::default(), &Holds::default())
        .unwrap()
        .newest;
    // Lists show what was there up to 200 changes ago: swept versions, or nothing.
    stage.store.set_faults(Faults {
        list_lag_changes: 200,
        ..Faults::default()
    });
    let mut told = 0;
    for _ in 0..200 {
        match catalog.load_newest() {
            Ok(found) => assert_eq!(found.as_ref(), Some(&newest)),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Unavailable);
                told += 1;
            }
        }
    }
    assert!(told < 50, "{told} of 200 loads gave up");
}

#[test]
fn damaged_foreign_and_newer_versions_are_told() {
    let stage = Stage::new(1, Faults::default());
    let catalog = BucketCatalog::new(stage.bucket(1));
    let lease = lease(catalog.bucket(), "a");
    let first = committed(catalog.claim(&lease).unwrap());
    let good = catalog.bucket().get(&version_key(1)).unwrap().unwrap();
    let newer =
        String::from_utf8(good.to_vec())
            .unwrap()
            .replacen("trine-catalog 1", "trine-catalog 2", 1);
    for (bytes, kind) in [
        (good.slice(..good.len() / 2), Kind::Corrupt),
        (Bytes::from_static(b"<html>"), Kind::Corrupt),
        (Bytes::new(), Kind::Corrupt),
        (Bytes::from(newer), Kind::Unsupported),
        // It says that it is version 1.
        (good, Kind::Corrupt),
    ] {
        stage.store.set(&version_key(2), bytes);
        let error = catalog.load_newest().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&version_key(2)), "{error}");
    }
    // What is not the name of a version is nobody's.
    catalog.remove(2).unwrap();
    for key in ["catalog/began", "catalog/x", "catalog/0000000000000000002"] {
        stage.store.set(key, Bytes::from_static(b"x"));
    }
    assert_eq!(catalog.load_newest().unwrap(), Some(first.clone()));
    // A bucket that went back in time.
    let later = BucketDocument {
        catalog: Document {
            version: 9,
            ..Document::default()
        },
        ..first
    };
    assert_eq!(
        catalog.load_after(&later).unwrap_err().kind(),
        Kind::Corrupt
    );
}

#[test]
fn a_catalog_that_is_too_large_is_refused() {
    let stage = Stage::new(1, Faults::default());
    let catalog = BucketCatalog::new(stage.bucket(1));
    let lease = lease(catalog.bucket(), "a");
    let first = committed(catalog.claim(&lease).unwrap());
    let mut next = first.catalog.clone();
    next.deletes.push(crate::catalog::Delete {
        number: 1,
        sequence: 1,
        range: TimeRange { start: 0, end: 1 },
        what: "x".repeat(DOCUMENT_BYTES_MAX),
        created_ms: 0,
    });
    let error = catalog
        .commit(&lease, &first, next.clone(), &[])
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    next.deletes[0].what.truncate(DOCUMENT_BYTES_MAX - 2000);
    let second = committed(catalog.commit(&lease, &first, next, &[]).unwrap());
    assert_eq!(catalog.load_newest().unwrap(), Some(second));
}

#[test]
fn golden_bytes() {
    let document = BucketDocument {
        catalog: Document {
            version: 2,
            wal_position: 10,
            blocks: vec![],
            deletes: vec![],
            ..Document::default()
        },
        epoch: 1,
        writer: "a".to_owned(),
        token: "T".to_owned(),
        doomed: vec![Doomed {
            key: "blocks/x".to_owned(),
            since: 2,
        }],
        oldest: 1,
    };
    let bytes = encode(&document).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let (head, json) = text.split_once('\n').unwrap();
    assert!(head.starts_with("trine-catalog 1 crc32="), "{head}");
    let compact: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        compact.to_string(),
        r#"{"catalog":{"blocks":[],"deletes":[],"version":2,"wal_position":10},"doomed":[{"key":"blocks/x","since":2}],"epoch":1,"oldest":1,"token":"T","writer":"a"}"#
    );
    assert_eq!(decode_as::<BucketDocument>("x", &bytes).unwrap(), document);
}
