//! Appending to the log engine, sealing it, and scanning it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use trine_logstore::discover::Levels;
use trine_logstore::{
    Batch, Config, Counts, Direction, Durability, LineFilter, LogStore, Measure, Projection,
    Request, Rows,
};
use trine_storage::regex::LineRegex;
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

fn seal(criterion: &mut Criterion) {
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
    group.finish();
}

/// The level of lines that do not tell it in their first bytes.
fn levels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("logstore/levels");
    let text = |n| line(n).replace("level=info ", "").replace('=', ":");
    let json = |n| format!("{{\"msg\":\"{}\",\"n\":{n},\"level\":\"info\"}}", text(n));
    let nothing: [(&str, &str); 0] = [];
    for (name, lines) in [
        ("text", (0..1_000).map(text).collect::<Vec<_>>()),
        (
            "logfmt",
            (0..1_000).map(|n| line(n).replace("level", "x")).collect(),
        ),
        ("json", (0..1_000).map(json).collect()),
    ] {
        let bytes: usize = lines.iter().map(String::len).sum();
        group.throughput(Throughput::Bytes(bytes as u64));
        let levels = Levels::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let level = |line: &String| levels.level(&nothing, line.as_bytes()).len();
                lines.iter().map(level).sum::<usize>()
            });
        });
    }
    group.finish();
}

/// How many rows or numbers an answer has, up to `limit`.
fn drain(store: &LogStore, request: &Request, limit: usize) -> usize {
    let mut found = 0;
    for batch in store.snapshot().scan(request).expect("the store is whole") {
        found += match black_box(batch).expect("the store is whole") {
            Batch::Rows(rows) => rows.timestamps.len(),
            Batch::Counts(counts) => counts.count.len(),
        };
        if found >= limit {
            break;
        }
    }
    found
}

fn reads(criterion: &mut Criterion) {
    const BATCHES: u64 = 100;
    let dir = tempfile::tempdir().expect("a directory");
    let store = filled(&dir, BATCHES);
    store.flush().expect("there is room");
    let bytes: usize = (0..BATCHES * LINES as u64).map(|n| line(n).len()).sum();
    let regex = |pattern: &str| LineRegex::new(pattern).expect("it is well formed");
    let rows = |lines: Vec<LineFilter>, direction, limit_hint| {
        Request::Rows(Rows {
            lines,
            direction,
            limit_hint,
            projection: Projection::ALL,
            ..Rows::new(vec![Matcher::equal("job", "bench")], TimeRange::ALL)
        })
    };
    let contains = |needle: &'static str| vec![LineFilter::Contains(needle.into())];

    // Nothing is found, so that the search is all there is.
    let mut group = criterion.benchmark_group("logstore/search");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.sample_size(10);
    for (name, lines) in [
        ("literal", contains("no such words")),
        (
            "literal of common words",
            contains("request completed badly"),
        ),
        ("literal with digits", contains("status=418")),
        (
            "three literals",
            vec![LineFilter::ContainsAny(vec![
                "panic".into(),
                "timeout".into(),
                "refused".into(),
            ])],
        ),
        ("regex", vec![LineFilter::Matches(regex("status=4[0-9]8"))]),
        (
            "regex, any case",
            vec![LineFilter::Matches(regex("(?i)timeout"))],
        ),
        (
            "regex, anchored",
            vec![LineFilter::Matches(regex("^ts=.* code=5"))],
        ),
    ] {
        let request = rows(lines, Direction::Any, None);
        group.bench_function(name, |b| b.iter(|| drain(&store, &request, usize::MAX)));
    }
    group.finish();

    let mut group = criterion.benchmark_group("logstore/rows");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.sample_size(10);
    for (name, direction) in [
        ("all, in any order", Direction::Any),
        ("all, oldest first", Direction::Forward),
    ] {
        let request = rows(Vec::new(), direction, None);
        group.bench_function(name, |b| b.iter(|| drain(&store, &request, usize::MAX)));
    }
    for (name, lines) in [
        ("newest 100", Vec::new()),
        ("newest 100 of common", contains("completed")),
    ] {
        let request = rows(lines, Direction::Backward, Some(100));
        group.bench_function(name, |b| b.iter(|| drain(&store, &request, 100)));
    }
    group.finish();

    let mut group = criterion.benchmark_group("logstore/counts");
    group.throughput(Throughput::Elements(BATCHES * LINES as u64));
    let range = TimeRange::new(-1, 1_000_000_000_000);
    for (name, bucket_ns, lines) in [
        ("in one bucket", 1_000_000_000_001, Vec::new()),
        ("by second", 1_000_000_000, Vec::new()),
        ("of common lines", 10_000_000_000, contains("completed")),
        ("of few lines", 10_000_000_000, contains("status=500")),
    ] {
        let request = Request::Counts(Counts {
            lines,
            ..Counts::new(Vec::new(), range, bucket_ns, Measure::Lines)
        });
        group.bench_function(name, |b| b.iter(|| drain(&store, &request, usize::MAX)));
    }
    for (name, range) in [
        ("volume", range),
        (
            "volume of a part",
            TimeRange::new(500_000_000, 50_000_500_000),
        ),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                store
                    .snapshot()
                    .volume(&[], range)
                    .expect("the store is whole")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, seal, levels, reads);
criterion_main!(benches);
