//! PromQL over the metrics engine: 1,000 series, one hour at 15 s, in memory and in blocks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trine_query::budget::Limits;
use trine_query::promql::{Engine, Options, parse};
use trine_storage::Labels;
use trine_tsdb::{Config, Durability, Tsdb, Value};

const SERIES: i64 = 1_000;
const STEPS: i64 = 240;
const STEP_MS: i64 = 15_000;

fn filled(dir: &tempfile::TempDir) -> Tsdb {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let db = Tsdb::builder(dir.path())
        .config(config)
        .open()
        .expect("the directory is new");
    let series: Vec<Labels> = (0..SERIES)
        .map(|i| {
            let instance = format!("host-{:03}", i / 8);
            let mode = ["user", "system", "idle", "iowait"][i as usize % 4];
            let pairs = [
                ("__name__", "node_cpu_seconds_total"),
                ("cpu", ["0", "1"][i as usize / 4 % 2]),
                ("instance", &instance),
                ("mode", mode),
            ];
            Labels::from_pairs(pairs).expect("names are unique")
        })
        .collect();
    for step in 0..STEPS {
        let mut appender = db.appender();
        for (i, labels) in series.iter().enumerate() {
            let value = (step * (i as i64 % 7 + 1)) as f64 * 0.25;
            appender.append(labels, step * STEP_MS, Value::Float(value));
        }
        appender
            .commit(Durability::Buffered)
            .and_then(trine_tsdb::Commit::wait)
            .expect("there is room");
    }
    db
}

fn queries(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = filled(&dir);
    let engine = Engine::new(Limits::default());
    let options = Options::default();
    let end = (STEPS - 1) * STEP_MS;
    for place in ["head", "block"] {
        if place == "block" {
            db.flush().expect("there is room");
        }
        let mut group = criterion.benchmark_group(format!("promql/{place}"));
        group.sample_size(20);
        group.throughput(Throughput::Elements((SERIES * STEPS).cast_unsigned()));
        let query = parse("sum by (mode) (rate(node_cpu_seconds_total[5m]))").expect("a query");
        group.bench_function("range_sum_rate", |bencher| {
            bencher.iter(|| {
                let range = (0, end, 60_000);
                black_box(engine.range(&db.snapshot(), &query, range, &options)).expect("an answer")
            });
        });
        group.throughput(Throughput::Elements(SERIES.cast_unsigned()));
        group.bench_function("instant_sum_rate", |bencher| {
            bencher.iter(|| {
                black_box(engine.instant(&db.snapshot(), &query, end, &options)).expect("an answer")
            });
        });
        group.throughput(Throughput::Elements(STEPS.cast_unsigned()));
        let one = r#"rate(node_cpu_seconds_total{instance="host-042",cpu="0",mode="user"}[5m])"#;
        let one = parse(one).expect("a query");
        group.bench_function("range_rate_one_series", |bencher| {
            bencher.iter(|| {
                let range = (0, end, 15_000);
                black_box(engine.range(&db.snapshot(), &one, range, &options)).expect("an answer")
            });
        });
        group.finish();
    }
    let text = r#"sum by (mode) (rate(node_cpu_seconds_total{cpu=~"0|1"}[5m] offset 1h)) / on() group_left vector(2)"#;
    criterion.bench_function("promql/parse", |bencher| {
        bencher.iter(|| black_box(parse(black_box(text))).expect("a query"));
    });
}

criterion_group!(benches, queries);
criterion_main!(benches);
