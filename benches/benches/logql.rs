//! LogQL over the log engine: 100,000 logfmt lines in blocks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trine_logstore::{Config, Durability, LogStore};
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::source::Direction;
use trine_query::logql::{Engine, RangeQuery, parse};
use trine_storage::Labels;

const LINES: i64 = 100_000;
const SECOND: i64 = 1_000_000_000;

fn filled(dir: &tempfile::TempDir) -> LogStore {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let store = LogStore::builder(dir.path())
        .config(config)
        .open()
        .expect("the directory is new");
    let streams: Vec<Labels> = (0..10)
        .map(|i| {
            let app = format!("app-{i}");
            Labels::from_pairs([("app", app.as_str()), ("job", "bench")]).expect("unique names")
        })
        .collect();
    for batch in 0..100 {
        let mut appender = store.appender();
        for n in batch * LINES / 100..(batch + 1) * LINES / 100 {
            let id = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let line = format!(
                "level={} msg=\"request completed\" status={} duration={}ms user=u{} id={id:016x}",
                ["info", "info", "warn", "error"][n as usize % 4],
                [200, 200, 404, 503][n as usize % 4],
                id % 900,
                id % 5_000,
            );
            let stream = &streams[n as usize % streams.len()];
            appender.append(stream, n * SECOND / 30, line.as_bytes(), &Labels::empty());
        }
        appender
            .commit(Durability::Buffered)
            .and_then(trine_logstore::Commit::wait)
            .expect("there is room");
    }
    store.flush().expect("there is room");
    store
}

fn queries(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = filled(&dir);
    let engine = Engine::new(Limits::default());
    let mut group = criterion.benchmark_group("logql");
    group.sample_size(10);
    group.throughput(Throughput::Elements(LINES.cast_unsigned()));
    for (name, query) in [
        ("filter_rare", r#"{job="bench"} |= "u4242 ""#),
        ("filter_common_limit", r#"{job="bench"} |= "completed""#),
        ("regex", r#"{job="bench"} |~ "status=50[34] .*u42""#),
        (
            "logfmt_filter",
            r#"{job="bench"} | logfmt | status=503 | duration>890ms"#,
        ),
        (
            "count_over_time",
            r#"sum by (app) (count_over_time({job="bench"}[5m]))"#,
        ),
        (
            "rate_filter",
            r#"sum by (app) (rate({job="bench"} |= "level=error" [5m]))"#,
        ),
        (
            "unwrap",
            r#"avg_over_time({app="app-3"} | logfmt | unwrap duration(duration) [5m]) by (status)"#,
        ),
    ] {
        let query = parse(query).expect("a query");
        let range = || RangeQuery {
            start_ns: 0,
            end_ns: LINES * SECOND / 30,
            step_ns: 60 * SECOND,
            direction: Direction::Backward,
            limit: 100,
            interval_ns: 0,
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let found = engine.range(&store.snapshot(), &query, range(), &Cancel::new());
                black_box(found).expect("an answer")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
