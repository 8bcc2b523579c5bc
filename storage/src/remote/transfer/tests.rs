use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::depots::Depots;
use super::super::depots::tests::process;
use super::super::fault::Faults;
use super::super::lease::LeaseTimes;
use super::super::stage::{Stage, lease};
use super::*;
use crate::catalog::{Catalog, Document};
use crate::clock::SystemClock;
use crate::depot::{Depot, ShipEdit};
use crate::fs::Fs;
use crate::sealed::SealedWriter;
use crate::sim::{Crash, SimFs};
use crate::time::TimeRange;
use crate::ulid::BlockId;

/// A block that is a sealed file.
fn sealed(number: u64) -> (BlockMeta, Arc<dyn crate::fs::ReadFile>) {
    let (fs, path) = (SimFs::new(), Path::new("/dir/block"));
    fs.create_dir_all(Path::new("/dir")).unwrap();
    let file = fs.create(path).unwrap();
    let mut writer = SealedWriter::new(file, path, *b"TEST").unwrap();
    writer.page(&number.to_le_bytes().repeat(50)).unwrap();
    writer.finish().unwrap();
    let file = fs.open(path).unwrap();
    let meta = BlockMeta {
        id: BlockId::from_bits(number.into()),
        range: TimeRange { start: 0, end: 7 },
        rows: 3,
        bytes: file.len(),
        level: 0,
        sequence: number,
        created_ms: 1,
        deletes_applied: 0,
    };
    (meta, file)
}

fn ship(depots: &Depots, tenant: &str, add: &[u64], remove: &[u64]) {
    let store = depots.store(tenant, "logs");
    let mut edit = ShipEdit {
        remove: remove
            .iter()
            .map(|&n| BlockId::from_bits(n.into()))
            .collect(),
        is_batch: remove.is_empty(),
        ..ShipEdit::default()
    };
    for &number in add {
        let (meta, file) = sealed(number);
        drop(store.upload(meta.id, &*file, &|| Ok(())).unwrap());
        edit.add.push(meta);
    }
    store.commit(&edit).unwrap();
}

fn key(tenant: &str, number: u64) -> String {
    let id = BlockId::from_bits(number.into());
    format!("tenants/{tenant}/logs/{}", block_key(id))
}

/// A source with two stores.
fn source(stage: &Stage) -> Arc<Depots> {
    let depots = process(stage, 1, "host-1");
    ship(&depots, "a", &[1, 2, 3], &[]);
    ship(&depots, "b", &[4, 5], &[]);
    depots
}

fn transfer(check: impl Fn() -> Result<()> + Send + Sync + 'static) -> Transfer {
    Transfer::new(Arc::new(SystemClock::new()), 1, None, Box::new(check))
}

fn take(bucket: &Bucket, source: &Source) -> Result<Target> {
    let wait = |_| panic!("nothing to wait for");
    let times = LeaseTimes::default();
    Target::take(bucket, source.identity(), "copier", times, &wait)
}

/// The blocks that a store of a bucket names, all of which are whole.
fn named(bucket: &Bucket, tenant: &str) -> Option<Vec<u64>> {
    let name = StoreName::new(tenant, "logs");
    let catalog = BucketCatalog::new(name.within(bucket));
    let newest = catalog.load_newest().unwrap()?;
    let blocks = newest.catalog.blocks.iter().map(|meta| {
        let number = meta.sequence;
        let (expected, file) = sealed(number);
        assert_eq!(*meta, expected);
        let bytes = bucket.get(&key(tenant, number)).unwrap().unwrap();
        let whole = 0..file.len();
        assert_eq!(file.read(&[whole]).unwrap(), [bytes]);
        number
    });
    Some(blocks.collect())
}

#[test]
fn stores_are_copied_and_again_only_what_is_new() {
    let (stage, other) = (
        Stage::new(1, Faults::default()),
        Stage::new(2, Faults::default()),
    );
    let depots = source(&stage);
    let (from, to) = (stage.bucket(2), other.bucket(3));
    let source = Source::open(&from).unwrap();
    assert_eq!(source.stores().len(), 2);
    let writes = stage.store.changes().len();
    let transfer = transfer(|| Ok(()));
    let target = take(&to, &source).unwrap();
    target.mirror(&source, &transfer).unwrap();
    assert_eq!(named(&to, "a"), Some(vec![1, 2, 3]));
    assert_eq!(named(&to, "b"), Some(vec![4, 5]));
    let done = transfer.progress.now();
    assert_eq!((done.stores, done.stores_done), (2, 2));
    assert_eq!(
        (done.objects, done.objects_done, done.objects_kept),
        (5, 5, 0)
    );
    assert_eq!(done.bytes, done.bytes_done);
    target.release().unwrap();
    ship(&depots, "a", &[6], &[1, 2]);
    let target = take(&to, &source).unwrap();
    target.mirror(&source, &transfer).unwrap();
    assert_eq!(named(&to, "a"), Some(vec![3, 6]));
    let done = transfer.progress.now();
    assert_eq!((done.objects_done, done.objects_kept), (6, 3));
    // What is not named any more stays for those who still read it.
    assert!(to.head(&key("a", 1)).unwrap().is_some());
    // Nothing but the server has written to the source.
    let changes = stage.store.changes();
    let by_server = changes
        .iter()
        .filter(|change| !change.key.contains("probe"));
    assert!(by_server.count() >= writes);
    let error = take(&from, &source).unwrap_err();
    assert!(
        error.to_string().contains("is the source itself"),
        "{error}"
    );
}

#[test]
fn a_copy_goes_on_with_what_blocks_were_merged_into() {
    let (stage, other) = (
        Stage::new(1, Faults::default()),
        Stage::new(2, Faults::default()),
    );
    let depots = source(&stage);
    let (from, to) = (stage.bucket(2), other.bucket(3));
    let source = Source::open(&from).unwrap();
    let (merged, bucket) = (AtomicBool::new(false), from.clone());
    let transfer = transfer(move || {
        // Before the first block is copied.
        if bucket.head(&key("a", 9)).unwrap().is_none() && !merged.swap(true, Ordering::Relaxed) {
            ship(&depots, "a", &[9], &[1, 2]);
        }
        // Their time is over, too.
        bucket.delete(&key("a", 1)).unwrap();
        bucket.delete(&key("a", 2))
    });
    let target = take(&to, &source).unwrap();
    let mut blocks = Blocks::load(&source, &StoreName::new("a", "logs"))
        .unwrap()
        .unwrap();
    let seen = parking_lot::Mutex::new(Vec::new());
    let copy = |meta: &BlockMeta| {
        from.get_range(&key("a", meta.sequence), 0..meta.bytes)?;
        seen.lock().push(meta.sequence);
        Ok(())
    };
    let is_there = |meta: &BlockMeta| Ok(seen.lock().contains(&meta.sequence));
    blocks.copy_all(&transfer, is_there, copy).unwrap();
    assert_eq!(*seen.lock(), [3, 9]);
    target.mirror(&source, &transfer).unwrap();
    assert_eq!(named(&to, "a"), Some(vec![3, 9]));
}

#[test]
fn an_object_that_is_missing_is_named() {
    let (stage, other) = (
        Stage::new(1, Faults::default()),
        Stage::new(2, Faults::default()),
    );
    source(&stage);
    let (from, to) = (stage.bucket(2), other.bucket(3));
    from.delete(&key("b", 5)).unwrap();
    let source = Source::open(&from).unwrap();
    let target = take(&to, &source).unwrap();
    let error = target.mirror(&source, &transfer(|| Ok(()))).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let id = BlockId::from_bits(5);
    assert!(error.to_string().contains(&block_key(id)), "{error}");
    assert_eq!(named(&to, "a"), Some(vec![1, 2, 3]));
    assert_eq!(named(&to, "b"), None);
}

#[test]
fn whatever_fails_the_copy_is_consistent_and_comes_to_its_end() {
    let mut failed = 0;
    for seed in 0..40 {
        let faults = Faults {
            before: 60,
            after: 60,
            late: 30,
            late_requests: 20,
            throttled: 20,
            short: 20,
            ..Faults::default()
        };
        let (stage, other) = (
            Stage::new(seed, Faults::default()),
            Stage::new(seed + 1000, Faults::default()),
        );
        let depots = source(&stage);
        let (from, to) = (stage.bucket(2), other.bucket(3));
        let source = Source::open(&from).unwrap();
        let transfer = transfer(|| Ok(()));
        let mut rounds = 0;
        for number in [10, 11, 12] {
            ship(&depots, "a", &[number], &[number - 9]);
            loop {
                rounds += 1;
                assert!(rounds < 100, "{seed}");
                // The one before was killed.
                other.advance(120);
                stage.store.set_faults(faults);
                other.store.set_faults(faults);
                let done = take(&to, &source)
                    .and_then(|target| target.mirror(&source, &transfer).map(|()| target))
                    .and_then(Target::release);
                stage.store.set_faults(Faults::default());
                other.store.set_faults(Faults::default());
                other.store.settle();
                for tenant in ["a", "b"] {
                    named(&to, tenant);
                }
                match done {
                    Ok(()) => break,
                    Err(error) => {
                        let is_expected =
                            matches!(error.kind(), Kind::Unavailable | Kind::Locked | Kind::Io);
                        assert!(is_expected, "{seed}: {error}");
                        failed += 1;
                    }
                }
            }
            assert_eq!(named(&to, "a"), named(&from, "a"), "{seed}");
            assert_eq!(named(&to, "b"), named(&from, "b"), "{seed}");
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_place_that_is_used_otherwise_is_left_alone() {
    let (stage, other) = (
        Stage::new(1, Faults::default()),
        Stage::new(2, Faults::default()),
    );
    source(&stage);
    let (from, to) = (stage.bucket(2), other.bucket(3));
    let source = Source::open(&from).unwrap();
    // Somebody has it and has written nothing yet.
    let held = lease(&to, "host-2");
    let error = take(&to, &source).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(
        error.to_string().contains("is written to by host-2"),
        "{error}"
    );
    held.release().unwrap();
    take(&to, &source)
        .and_then(|target| {
            target
                .mirror(&source, &transfer(|| Ok(())))
                .map(|()| target)
        })
        .and_then(Target::release)
        .unwrap();
    // Another source.
    let third = Stage::new(3, Faults::default());
    process(&third, 1, "host-3").release().unwrap();
    let error = Source::open(&third.bucket(2)).unwrap_err();
    assert!(error.to_string().contains("has no stores"), "{error}");
    let wait = |_| panic!("nothing to wait for");
    let error = Target::take(&to, "another", "copier", LeaseTimes::default(), &wait).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(
        error.to_string().contains("copier wrote to it last"),
        "{error}"
    );
    // A server has written to it since.
    let server = process(&other, 9, "host-9");
    server.release().unwrap();
    let error = take(&to, &source).unwrap_err();
    assert!(
        error.to_string().contains("host-9 wrote to it last"),
        "{error}"
    );
}

#[test]
fn who_was_killed_is_waited_for_and_who_is_alive_is_named() {
    let (stage, other) = (
        Stage::new(1, Faults::default()),
        Stage::new(2, Faults::default()),
    );
    source(&stage);
    let (from, to) = (stage.bucket(2), other.bucket(3));
    let source = Source::open(&from).unwrap();
    let killed = take(&to, &source).unwrap();
    let waited = AtomicU64::new(0);
    let wait = |left: Duration| {
        assert!(left <= Duration::from_secs(60));
        waited.fetch_add(1, Ordering::Relaxed);
        other.advance(7);
        Ok(())
    };
    let take = || {
        let times = LeaseTimes::default();
        Target::take(&to, source.identity(), "copier-2", times, &wait)
    };
    let target = take().unwrap();
    assert_eq!(waited.load(Ordering::Relaxed), 9);
    let error = killed.mirror(&source, &transfer(|| Ok(()))).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    killed.release().unwrap();
    // This one beats.
    let wait = |_| {
        other.advance(7);
        target.lease.beat().map(drop)
    };
    let times = LeaseTimes::default();
    let error = Target::take(&to, source.identity(), "copier-3", times, &wait).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(
        error.to_string().contains("is written to by copier-2"),
        "{error}"
    );
    target.mirror(&source, &transfer(|| Ok(()))).unwrap();
    target.release().unwrap();
}

fn local(fs: &SimFs, tenant: &str) -> Document {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let store = Path::new("/data/tenants").join(tenant).join("logs");
    let document = Catalog::new(Arc::clone(&fs), &store.join("catalog"))
        .load()
        .unwrap();
    for meta in &document.blocks {
        let (expected, file) = sealed(meta.sequence);
        assert_eq!(*meta, expected);
        let path = store.join("blocks").join(format!("{}.block", meta.id));
        let whole = 0..meta.bytes;
        let found = fs.open(&path).unwrap();
        assert_eq!(found.len(), meta.bytes);
        assert_eq!(
            found.read(std::slice::from_ref(&whole)).unwrap(),
            file.read(std::slice::from_ref(&whole)).unwrap()
        );
    }
    document
}

#[test]
fn a_directory_is_whole_or_says_that_it_is_not_after_every_cut() {
    let stage = Stage::new(1, Faults::default());
    let depots = source(&stage);
    let from = stage.bucket(2);
    let source = Source::open(&from).unwrap();
    let dir = Path::new("/data");
    let fetch = |fs: &SimFs| {
        fs.create_dir_all(dir)
            .map_err(|e| Error::io("create the directory", e))?;
        let fs: Arc<dyn Fs> = Arc::new(fs.clone());
        Fetch::begin(fs, dir, &source)?.run(&source, &transfer(|| Ok(())))
    };
    let mut cuts = 0;
    loop {
        let fs = SimFs::new();
        fs.cut_after(cuts);
        let done = fetch(&fs);
        for (number, how) in [Crash::Power, Crash::Process].into_iter().enumerate() {
            let crashed = fs.crash(how, cuts * 2 + number as u64);
            let told = unfinished(&crashed, dir).unwrap();
            // Without the marker there is nothing at all, or everything.
            if told.is_none() && !crashed.files().is_empty() && done.is_err() {
                let stores = ["a", "b"].map(|tenant| local(&crashed, tenant).blocks.len());
                assert!(stores == [0, 0] || stores == [3, 2], "{cuts}: {stores:?}");
                if stores == [3, 2] {
                    continue;
                }
            }
            if done.is_err() {
                fetch(&crashed).unwrap();
            }
            assert!(unfinished(&crashed, dir).unwrap().is_none());
            let document = local(&crashed, "a");
            assert_eq!(document.wal_position, 3);
            assert_eq!(document.blocks.len(), 3);
            assert_eq!(local(&crashed, "b").blocks.len(), 2);
        }
        if done.is_ok() {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 30, "{cuts}");
    // What has stores is left alone.
    let fs = SimFs::new();
    fetch(&fs).unwrap();
    let error = fetch(&fs).unwrap_err();
    assert!(error.to_string().contains("has stores already"), "{error}");
    // A run that failed goes on, and with what is newest by then.
    let fs = SimFs::new();
    fs.cut_after(20);
    fetch(&fs).unwrap_err();
    let fs = fs.crash(Crash::Process, 1);
    let told = unfinished(&fs, dir).unwrap().unwrap();
    assert!(told.to_string().contains("restored from test:"), "{told}");
    ship(&depots, "a", &[7], &[1, 2]);
    fetch(&fs).unwrap();
    let numbers: Vec<u64> = local(&fs, "a").blocks.iter().map(|b| b.sequence).collect();
    assert_eq!(numbers, [3, 7]);
}

#[test]
fn a_block_that_is_damaged_is_not_restored() {
    let stage = Stage::new(1, Faults::default());
    source(&stage);
    let from = stage.bucket(2);
    let mut bytes = from.get(&key("b", 4)).unwrap().unwrap().to_vec();
    bytes[40] ^= 1;
    from.put(&key("b", 4), bytes.into()).unwrap();
    let source = Source::open(&from).unwrap();
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/data")).unwrap();
    let real: Arc<dyn Fs> = Arc::new(fs.clone());
    let fetch = Fetch::begin(real, Path::new("/data"), &source).unwrap();
    let error = fetch.run(&source, &transfer(|| Ok(()))).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let id = BlockId::from_bits(4);
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    assert!(unfinished(&fs, Path::new("/data")).unwrap().is_some());
}

#[test]
fn names_that_are_no_directories_are_refused() {
    let root = Path::new("/data/tenants");
    let dir = store_dir(root, &StoreName::new("a.b", "logs")).unwrap();
    assert_eq!(dir, Path::new("/data/tenants/a.b/logs"));
    for (tenant, signal) in [
        ("..", "logs"),
        (".", "logs"),
        ("", "logs"),
        ("a/b", "logs"),
        ("/a", "logs"),
        ("a\\b", "logs"),
        ("a", ".."),
    ] {
        let error = store_dir(root, &StoreName::new(tenant, signal)).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{tenant}/{signal}");
    }
}
