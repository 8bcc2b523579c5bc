//! Reads of a remote file whose pages are here, from one and from two threads, against the same reads of
//! a local file: of part of a page, of many small ranges, of what lies in several pages. The object is in
//! memory; nothing is asked of it once it was read.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trine_storage::clock::{Clock, SystemClock};
use trine_storage::fs::{Fs, ReadFile, RealFs};
use trine_storage::remote::{Bucket, CacheOptions, DiskOptions, Options, RangeCache, RemoteFile};

const FILE_BYTES: u64 = 64 << 20;
const PAGE_BYTES: u64 = 64 << 10;
const REQUEST_BYTES: u64 = 4 << 20;
/// Different reads, in turn.
const READS: u64 = 512;
/// Reads of each thread that are timed together.
const ROUND: u64 = 256;

/// The ranges of the read of this number.
type Ranges = fn(u64) -> Vec<Range<u64>>;

fn somewhere(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (FILE_BYTES - REQUEST_BYTES)
}

fn in_a_page(number: u64) -> Vec<Range<u64>> {
    let start = somewhere(number) / PAGE_BYTES * PAGE_BYTES + 100;
    let range = start..start + 4_000;
    vec![range]
}

fn in_100_ranges(number: u64) -> Vec<Range<u64>> {
    let start = somewhere(number);
    let ranges = (0..100).map(|n| start + n * 2_000..start + n * 2_000 + 160);
    ranges.collect()
}

fn over_two_pages(number: u64) -> Vec<Range<u64>> {
    // Within what came together.
    let start = somewhere(number) / REQUEST_BYTES * REQUEST_BYTES + PAGE_BYTES - 10_000;
    let range = start..start + 20_000;
    vec![range]
}

fn over_16_pages(number: u64) -> Vec<Range<u64>> {
    let start = somewhere(number) / REQUEST_BYTES * REQUEST_BYTES + number % 1_000_000;
    let range = start..start + (1 << 20);
    vec![range]
}

fn read_round(file: &dyn ReadFile, reads: &[Vec<Range<u64>>], from: u64) {
    let reads = reads
        .iter()
        .cycle()
        .skip(usize::try_from(from).unwrap_or(0));
    for ranges in reads.take(usize::try_from(ROUND).unwrap_or(0)) {
        black_box(file.read(ranges).expect("it is here"));
    }
}

fn bench(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let dir = tempfile::tempdir().expect("a directory");
    let content: Vec<u8> = (0..FILE_BYTES)
        .map(|i| (i.wrapping_mul(31) >> 3) as u8)
        .collect();
    let path = dir.path().join("file");
    let mut file = RealFs.create(&path).expect("a file");
    file.write_all(&content).expect("it is written");
    let handle = runtime.handle();
    let bucket = Bucket::open(
        "memory:///",
        &BTreeMap::new(),
        Options::default(),
        handle.clone(),
        Arc::clone(&clock),
    );
    let bucket = bucket.expect("a bucket");
    bucket.put("x", content.into()).expect("it is put");
    let open = |options: CacheOptions| {
        let cache = RangeCache::open(options, &fs, handle.clone(), &clock).expect("a cache");
        let file = RemoteFile::new(&bucket, &cache, "x", FILE_BYTES);
        for start in (0..FILE_BYTES).step_by(1 << 24) {
            let part = start..start + (1 << 24);
            file.read(std::slice::from_ref(&part)).expect("it comes");
            cache.flush();
        }
        Arc::new(file) as Arc<dyn ReadFile>
    };
    let disk = CacheOptions {
        memory_bytes_max: 0,
        disk: Some(DiskOptions::new(dir.path().join("cache"))),
        ..CacheOptions::default()
    };
    let files = [
        ("local", RealFs.open(&path).expect("a file")),
        ("memory", open(CacheOptions::default())),
        ("disk", open(disk)),
    ];
    for (what, ranges) in [
        ("in_a_page", in_a_page as Ranges),
        ("in_100_ranges", in_100_ranges),
        ("over_two_pages", over_two_pages),
        ("over_16_pages", over_16_pages),
    ] {
        let mut group = c.benchmark_group(format!("remote_reads/{what}"));
        let reads: Vec<Vec<Range<u64>>> = (0..READS).map(ranges).collect();
        for (name, file) in &files {
            group.throughput(Throughput::Elements(ROUND));
            group.bench_function(*name, |b| b.iter(|| read_round(&**file, &reads, 0)));
            group.throughput(Throughput::Elements(2 * ROUND));
            group.bench_function(format!("{name}/2_threads"), |b| {
                b.iter(|| {
                    std::thread::scope(|scope| {
                        scope.spawn(|| read_round(&**file, &reads, READS / 2));
                        read_round(&**file, &reads, 0);
                    });
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
