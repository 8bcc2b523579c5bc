//! Appending to the metrics engine, sealing it, and reading it back.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use trine_storage::{Labels, Matcher, TimeRange};
use trine_tsdb::{Config, Durability, Hints, Tsdb, Value};

const SERIES: usize = 2_000;

fn series() -> Vec<Labels> {
    (0..SERIES)
        .map(|i| {
            let host = format!("host-{:04}", i / 20);
            let core = (i % 20).to_string();
            let pairs = [
                ("__name__", "node_cpu_seconds_total"),
                ("cpu", &core),
                ("instance", &host),
                ("job", "bench"),
                ("region", "eu-west-1"),
            ];
            Labels::from_pairs(pairs).expect("names are unique")
        })
        .collect()
}

fn open(dir: &tempfile::TempDir) -> Tsdb {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    Tsdb::builder(dir.path())
        .config(config)
        .open()
        .expect("the directory is new")
}

/// One scrape of all series: what a remote-write request of 2,000 samples costs behind the decoder.
fn scrape(db: &Tsdb, series: &[Labels], step: i64, durability: Durability) {
    let mut appender = db.appender();
    for (i, labels) in series.iter().enumerate() {
        appender.append(
            labels,
            step * 15_000,
            Value::Float((step * 7 + i as i64) as f64),
        );
    }
    appender
        .commit(durability)
        .and_then(trine_tsdb::Commit::wait)
        .expect("the disk has room");
}

fn append(criterion: &mut Criterion) {
    let series = series();
    let mut group = criterion.benchmark_group("tsdb/append");
    group.throughput(Throughput::Elements(SERIES as u64));
    for durability in [Durability::Buffered, Durability::Synced] {
        let dir = tempfile::tempdir().expect("a directory");
        let db = open(&dir);
        let mut step = 0;
        group.bench_function(format!("{durability:?}"), |bencher| {
            bencher.iter(|| {
                step += 1;
                scrape(&db, &series, step, durability);
            });
        });
    }
    group.finish();
}

fn seal_and_read(criterion: &mut Criterion) {
    const STEPS: i64 = 120;
    let series = series();
    let mut group = criterion.benchmark_group("tsdb");
    group.throughput(Throughput::Elements(SERIES as u64 * STEPS as u64));
    group.sample_size(10);
    group.bench_function("flush", |bencher| {
        bencher.iter_batched(
            || {
                let dir = tempfile::tempdir().expect("a directory");
                let db = open(&dir);
                (0..STEPS).for_each(|step| scrape(&db, &series, step, Durability::Buffered));
                (dir, db)
            },
            |(dir, db)| {
                db.flush().expect("the disk has room");
                (dir, db)
            },
            BatchSize::PerIteration,
        );
    });
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(&dir);
    (0..STEPS).for_each(|step| scrape(&db, &series, step, Durability::Buffered));
    let matchers = [Matcher::equal("job", "bench")];
    let read = |db: &Tsdb| {
        let set = db
            .snapshot()
            .select(&matchers, TimeRange::ALL, &Hints::default());
        set.expect("the store is whole")
            .map(|s| black_box(s).is_ok())
            .filter(|ok| *ok)
            .count()
    };
    group.bench_function("select/head", |bencher| bencher.iter(|| read(&db)));
    db.flush().expect("the disk has room");
    group.bench_function("select/block", |bencher| bencher.iter(|| read(&db)));
    group.finish();
}

criterion_group!(benches, append, seal_and_read);
criterion_main!(benches);
