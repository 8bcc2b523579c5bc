//! Appending to the trace engine, sealing it, and finding traces; TraceQL over it.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trine_benches::spans;
use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::{Engine, SearchOptions, parse};
use trine_storage::TimeRange;
use trine_tracestore::{
    AnyValue, Config, Durability, KeyValue, Resource, Scope, Span, Status, TraceStore,
};

const SPANS: u64 = 512;
const SPANS_PER_TRACE: u64 = 16;

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, AnyValue::String(value.into()))
}

fn services() -> Vec<Arc<Resource>> {
    let service = |name: &str| {
        let attributes = vec![
            text("service.name", name),
            text("k8s.namespace.name", "prod"),
            text("host.name", "h1"),
        ];
        Arc::new(Resource {
            attributes,
            ..Resource::default()
        })
    };
    ["frontend", "cart", "checkout", "ledger"]
        .map(service)
        .to_vec()
}

fn span(n: u64) -> Span {
    let (trace, place) = (n / SPANS_PER_TRACE + 1, n % SPANS_PER_TRACE);
    let start_ns = trace * 10_000_000 + place * 1_000;
    Span {
        trace_id: u128::from(trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes(),
        span_id: (n + 1).to_be_bytes(),
        parent_span_id: (place > 0).then(|| (n - place + place / 2 + 1).to_be_bytes()),
        name: format!("operation {}", n % 30),
        kind: (n % 5) as i32 + 1,
        start_ns,
        end_ns: start_ns + (n % 97) * 1_000_000,
        attributes: vec![
            text("http.method", "GET"),
            text("http.route", "/api/items/{id}"),
            pair(
                "http.status_code",
                AnyValue::Int(if n.is_multiple_of(67) { 500 } else { 200 }),
            ),
            text("enduser.id", &format!("user-{}", n % 5_000)),
            pair("retries", AnyValue::Int((n % 3) as i64)),
        ],
        status: n.is_multiple_of(67).then(|| Status {
            code: 2,
            message: "failed".into(),
        }),
        ..Span::default()
    }
}

fn open(dir: &tempfile::TempDir) -> TraceStore {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    TraceStore::builder(dir.path())
        .config(config)
        .open()
        .expect("the directory is new")
}

fn push(store: &TraceStore, services: &[Arc<Resource>], from: u64, durability: Durability) {
    let scope = Arc::new(Scope {
        name: "bench".into(),
        ..Scope::default()
    });
    let mut appender = store.appender();
    for n in from..from + SPANS {
        appender.append(
            &services[(n / 4) as usize % services.len()],
            &scope,
            span(n),
        );
    }
    appender
        .commit(durability)
        .and_then(trine_tracestore::Commit::wait)
        .expect("there is room");
}

/// As many spans as memory takes before it makes them a run.
fn stage(criterion: &mut Criterion) {
    let mut source = spans::Source::new(7);
    let (mut requests, mut count) = (Vec::new(), 0);
    while count < 32_000 {
        let (request, spans) = source.request(1_000, 1_700_000_000_000_000_000);
        requests.push(request);
        count += spans;
    }
    let requests: Vec<&[u8]> = requests.iter().map(Vec::as_slice).collect();
    let mut group = criterion.benchmark_group("tracestore");
    group.throughput(Throughput::Elements(count));
    group.bench_function("stage", |bencher| {
        bencher.iter(|| trine_tracestore::decoders::push_otlp(black_box(&requests)));
    });
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let services = services();
    let mut group = criterion.benchmark_group("tracestore/append");
    group.throughput(Throughput::Elements(SPANS));
    for durability in [Durability::Buffered, Durability::Synced] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir);
        let mut from = 0;
        group.bench_function(format!("{durability:?}"), |bencher| {
            bencher.iter(|| {
                push(&store, &services, from, durability);
                from += SPANS;
            });
        });
    }
    group.finish();
}

fn find(criterion: &mut Criterion) {
    const BATCHES: u64 = 200;
    let dir = tempfile::tempdir().expect("a directory");
    let (store, services) = (open(&dir), services());
    (0..BATCHES).for_each(|batch| push(&store, &services, batch * SPANS, Durability::Buffered));
    store.flush().expect("there is room");
    let mut group = criterion.benchmark_group("tracestore");
    group.sample_size(20);
    let id = span(BATCHES * SPANS / 2).trace_id;
    group.bench_function("trace_by_id", |bencher| {
        bencher.iter(|| black_box(store.snapshot().trace(id)).expect("the store is whole"));
    });
    group.finish();

    let mut group = criterion.benchmark_group("traceql");
    group.throughput(Throughput::Elements(BATCHES * SPANS));
    group.sample_size(10);
    let engine = Engine::new(Limits::default());
    let options = SearchOptions {
        limit: 20,
        spans_per_span_set: 3,
    };
    for (name, query) in [
        ("equality", r#"{ span.enduser.id = "user-4242" }"#),
        ("absent", r#"{ span.enduser.id = "nobody" }"#),
        (
            "conjunction",
            r#"{ resource.service.name = "cart" && status = error && duration > 50ms }"#,
        ),
        (
            "count",
            r#"{ resource.service.name = "ledger" } | count() > 3"#,
        ),
        (
            "descendant",
            r#"{ resource.service.name = "frontend" } >> { status = error }"#,
        ),
    ] {
        let query = parse(query).expect("a query");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let found = engine.search(
                    &store.snapshot(),
                    &query,
                    TimeRange::ALL,
                    &options,
                    &Cancel::new(),
                );
                black_box(found).expect("the store is whole")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stage, append, find);
criterion_main!(benches);
