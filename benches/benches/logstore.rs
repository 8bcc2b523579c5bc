//! Appending to the log engine, sealing it, and scanning it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use trine_logstore::{
    Batch, Config, Counts, Direction, Durability, LineFilter, LogStore, Measure, Projection,
    Request, Rows,
};
use trine_storage::{Labels, Matcher, TimeRange};

const LINES: usize = 1_000;
const STREAMS: usize = 20;

fn streams() -> Vec<Labels> {
    (0..STREAMS)
        .map(|i| {
            let pod = format!("api-{i}");
            let pairs = [
                ("app", "api"),
                ("env", "prod"),
                ("job", "bench"),
                ("pod", &pod),
            ];
            Labels::from_pairs(pairs).expect("names are unique")
        })
        .collect()
}

fn line(n: u64) -> String {
    // A multiplicative hash makes ids that look random and are the same in every run.
    let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let status = if n.is_multiple_of(50) { 500 } else { 200 };
    format!(
        "level=info msg=\"request completed\" method=GET path=/api/v1/items status={status} \
         duration={}ms trace_id={id:016x}{id:016x}",
        id % 900
    )
}

fn open(dir: &tempfile::TempDir) -> LogStore {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    LogStore::builder(dir.path())
        .config(config)
        .open()
        .expect("the directory is new")
}

fn push(store: &LogStore, streams: &[Labels], lines: &[String], from: u64, durability: Durability) {
    let mut appender = store.appender();
    for (i, line) in lines.iter().enumerate() {
        let timestamp = (from + i as u64) as i64 * 1_000_000;
        appender.append(
            &streams[i % STREAMS],
            timestamp,
            line.as_bytes(),
            &Labels::empty(),
        );
    }
    appender
        .commit(durability)
        .and_then(trine_logstore::Commit::wait)
        .expect("there is room");
}

fn filled(dir: &tempfile::TempDir, batches: u64) -> LogStore {
    let (store, streams) = (open(dir), streams());
    for batch in 0..batches {
        let from = batch * LINES as u64;
        let lines: Vec<String> = (from..from + LINES as u64).map(line).collect();
        push(&store, &streams, &lines, from, Durability::Buffered);
    }
    store
}

fn append(criterion: &mut Criterion) {
    let (streams, lines) = (streams(), (0..LINES as u64).map(line).collect::<Vec<_>>());
    let bytes: usize = lines.iter().map(String::len).sum();
    let mut group = criterion.benchmark_group("logstore/append");
    group.throughput(Throughput::Bytes(bytes as u64));
    for durability in [Durability::Buffered, Durability::Synced] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir);
        let mut from = 0;
        group.bench_function(format!("{durability:?}"), |bencher| {
            bencher.iter(|| {
                push(&store, &streams, &lines, from, durability);
                from += LINES as u64;
            });
        });
    }
    group.finish();
}

fn seal_and_scan(criterion: &mut Criterion) {
    const BATCHES: u64 = 100;
    let mut group = criterion.benchmark_group("logstore");
    group.throughput(Throughput::Elements(BATCHES * LINES as u64));
    group.sample_size(10);
    group.bench_function("flush", |bencher| {
        bencher.iter_batched(
            || {
                let dir = tempfile::tempdir().expect("a directory");
                let store = filled(&dir, BATCHES);
                (dir, store)
            },
            |(dir, store)| {
                store.flush().expect("there is room");
                (dir, store)
            },
            BatchSize::PerIteration,
        );
    });
    let dir = tempfile::tempdir().expect("a directory");
    let store = filled(&dir, BATCHES);
    store.flush().expect("there is room");
    let matchers = vec![Matcher::equal("job", "bench")];
    let scan = |request: &Request| {
        let batches = store.snapshot().scan(request).expect("the store is whole");
        let rows = batches.map(
            |batch| match black_box(batch).expect("the store is whole") {
                Batch::Rows(rows) => rows.timestamps.len(),
                Batch::Counts(counts) => counts.count.len(),
            },
        );
        rows.sum::<usize>()
    };
    let rows = Request::Rows(Rows {
        lines: vec![LineFilter::Contains("status=500".into())],
        direction: Direction::Backward,
        projection: Projection::ALL,
        ..Rows::new(matchers.clone(), TimeRange::ALL)
    });
    group.bench_function("scan/contains", |bencher| bencher.iter(|| scan(&rows)));
    let counts = Request::Counts(Counts {
        matchers,
        range: TimeRange::new(-1, 1_000_000_000_000),
        bucket_ns: 10_000_000_000,
        measure: Measure::Lines,
    });
    group.bench_function("counts", |bencher| bencher.iter(|| scan(&counts)));
    group.finish();
}

criterion_group!(benches, append, seal_and_scan);
criterion_main!(benches);
