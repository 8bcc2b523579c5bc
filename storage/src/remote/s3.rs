//! The S3 protocol for real, where `moto_server` is installed.

use std::sync::Arc;

use bytes::Bytes;

use super::moto::{self, Moto};
use super::stage::{handle, lease, options};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::cost::Cost;
use crate::fs::{Fs, MemoryFile, ReadFile};
use crate::sim::SimFs;

fn open(server: &Moto, url: &str) -> Bucket {
    let environment = moto::environment(server.address());
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let clock = Arc::new(SystemClock::new());
    Bucket::open(url, &environment.into(), options(1), handle(), clock).unwrap()
}

#[test]
fn everything_works_over_the_s3_protocol() {
    let Some(server) = Moto::start() else {
        return;
    };
    let whole = open(&server, "s3://trine/pre/fix");
    let checked = whole.check().unwrap();
    assert!(checked.is_empty);
    assert!(checked.ahead_ms.abs() < 60_000, "{checked:?}");
    let bucket = whole.within("tenant").within("traces");

    // Conditional writes, ranges, lists of several pages.
    assert_eq!(bucket.put_new("a", "one".into()).unwrap(), PutNew::Created);
    assert_eq!(bucket.put_new("a", "two".into()).unwrap(), PutNew::Exists);
    assert_eq!(bucket.put_new("a", "one".into()).unwrap(), PutNew::Created);
    assert_eq!(bucket.get_range("a", 1..3).unwrap(), "ne");
    assert_eq!(
        bucket.get_range("a", 1..9).unwrap_err().kind(),
        crate::Kind::Corrupt
    );
    assert_eq!(bucket.get("none").unwrap(), None);
    assert_eq!(bucket.head("none").unwrap(), None);
    for i in 0..1001 {
        bucket.put(&format!("many/{i:04}"), Bytes::new()).unwrap();
    }
    let before = bucket.counters().now().of(Verb::List);
    let listed = bucket.list("many").unwrap();
    assert_eq!((listed.len(), &*listed[1000].key), (1001, "many/1000"));
    assert_eq!(bucket.counters().now().of(Verb::List) - before, 2);
    bucket.delete("many/0000").unwrap();
    bucket.delete("many/0000").unwrap();
    assert_eq!(bucket.list("many").unwrap().len(), 1000);

    // A file in parts, and what a reader asks of it.
    let len = 2 * PART_BYTES + 12_345;
    let bytes: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(97) >> 7) as u8).collect();
    let file = MemoryFile::of(bytes.clone()).finish();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let throttle = Throttle::new(Arc::clone(&clock), None, 2);
    let sent = bucket.upload("blocks/x", &*file, &throttle).unwrap();
    assert_eq!(
        sent,
        Uploaded {
            bytes: len,
            parts: 3
        }
    );
    assert_eq!(
        bucket.upload("blocks/x", &*file, &throttle).unwrap().parts,
        0
    );
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let cache = RangeCache::open(CacheOptions::default(), &fs, handle(), &clock).unwrap();
    let remote = RemoteFile::new(&bucket, &cache, "blocks/x", len);
    let cost = Arc::new(Cost::default());
    let counting = cost.enter();
    let gets = bucket.counters().now().of(Verb::Get);
    let read = remote
        .read(&[len - 100..len, 0..16, 9_000_000..9_000_010])
        .unwrap();
    assert_eq!(read[0], bytes[bytes.len() - 100..]);
    assert_eq!(read[2], bytes[9_000_000..9_000_010]);
    drop(counting);
    assert_eq!((cost.now().requests, cost.now().depth), (3, 1));
    assert_eq!(bucket.counters().now().of(Verb::Get) - gets, 3);

    // Lease and catalog.
    let held = lease(&bucket, "host-1");
    let taken = Lease::take(
        &bucket,
        &Holder::new("host-2", None),
        LeaseTimes::default(),
        &mut Watch::default(),
    );
    let Taken::Refused { by, .. } = taken.unwrap() else {
        panic!("host-1 has it");
    };
    assert_eq!(by.name, "host-1");
    let catalog = BucketCatalog::new(bucket.clone());
    let Commit::Committed(first) = catalog.claim(&held).unwrap() else {
        panic!("nobody else is there");
    };
    let next = first.catalog.clone();
    let Commit::Committed(second) = catalog.commit(&held, &first, next.clone(), &[]).unwrap()
    else {
        panic!("nobody else is there");
    };
    let again = catalog.commit(&held, &first, next, &[]).unwrap();
    assert_eq!(again, Commit::Conflict(second.clone()));
    assert_eq!(catalog.load_newest().unwrap(), Some(second));
    let swept = sweep(&catalog, &held, &SweepOptions::default(), &Holds::default()).unwrap();
    assert_eq!((swept.orphans, swept.versions), (0, 0), "all is young");

    // What is wrong is told as what it is.
    let missing = open(&server, "s3://no-such-bucket/x");
    let error = missing.check().unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::NoBucket), "{error}");
    drop(server);
    let error = bucket.get("a").unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Unavailable), "{error}");
}
