//! The S3 protocol for real: `moto_server` (PyPI `moto[s3,server]`) on loopback, where it is installed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::stage::{handle, lease, options};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::cost::Cost;
use crate::fs::{Fs, MemoryFile, ReadFile};
use crate::sim::SimFs;

/// A server with the bucket `trine`; it ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    /// Nothing where it is not installed.
    fn start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self { child, port };
        for _ in 0..600 {
            if server
                .request("PUT", "/trine")
                .is_some_and(|status| status == 200)
            {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }

    /// The status of a request without a body.
    fn request(&self, method: &str, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    fn bucket(&self, url: &str) -> Bucket {
        let port = self.port;
        let environment: BTreeMap<String, String> = [
            ("AWS_ACCESS_KEY_ID", "id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let clock = Arc::new(SystemClock::new());
        Bucket::open(url, &environment, options(1), handle(), clock).unwrap()
    }
}

#[test]
fn everything_works_over_the_s3_protocol() {
    let Some(server) = Server::start() else {
        println!("SKIPPED: moto_server is not installed");
        return;
    };
    let whole = server.bucket("s3://trine/pre/fix");
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
    let error = server.bucket("s3://no-such-bucket/x").check().unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::NoBucket), "{error}");
    drop(server);
    let error = bucket.get("a").unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Unavailable), "{error}");
}
