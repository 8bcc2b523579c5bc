//! The trace engine on spans of many services: rates, sizes, searches.
//! `cargo run --release -p trine-benches --example tracestore_search -- MODE DIR [SPANS | WHAT]`
//!
//! - `fill`: appends so many spans (10,000,000) to the store in DIR, in requests of a thousand, and
//!   compacts at the end. `fill-rare` gives each span one of 10,000 other keys, too, `fill-any` eleven
//!   of 97 keys and no others; `fill-long` begins with a trace of 100,000 spans.
//! - `sizes`: bytes a span by what they are.
//! - `search`: times of reads; with WHAT only of those that have it in their name.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures with the real clock and ends at the first error"
)]

use std::time::{Duration, Instant};

use trine_benches::lines::Random;
use trine_benches::process::{cpu_seconds, memory, thread_seconds};
use trine_benches::spans::{Kind, Source};
use trine_storage::TimeRange;
use trine_tracestore::{
    AttributeRef, AttributeScope, Batch, Condition, Config, Counts, Durability, Effort, Filter,
    Intrinsic, Measure, Request, Rows, Snapshot, Test, TraceFilter, TraceStore, Value,
    ValuesRequest,
};

/// Long ago, so that every window is closed.
const BEGIN_NS: u64 = 1_763_700_000_000_000_000;
/// From one request to the next.
const STEP_NS: u64 = 4_000_000;
const REQUEST_SPANS: u64 = 1_000;
const MILLION: f64 = 1e6;

fn open(dir: &str) -> TraceStore {
    let begun = Instant::now();
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let store = TraceStore::builder(dir).config(config).open().unwrap();
    println!("open {:.3} s", begun.elapsed().as_secs_f64());
    store
}

const LONG_TRACE_SPANS: u64 = 100_000;

fn fill(dir: &str, kind: Kind, is_long: bool, spans: u64) {
    let store = open(dir);
    let mut source = Source::of(kind, 7);
    if is_long {
        let request = source.long_trace(LONG_TRACE_SPANS, BEGIN_NS);
        let mut appender = store.appender();
        appender.append_otlp(request.into());
        let commit = appender.commit(Durability::Buffered).unwrap();
        commit.wait().unwrap();
    }
    let (mut done, mut end_ns, mut raw) = (0, BEGIN_NS, 0);
    let (mut made_s, mut append_s, mut peak) = (0.0, 0.0, 0);
    let begun = Instant::now();
    while done < spans {
        let before = thread_seconds();
        end_ns += STEP_NS;
        let (request, count) = source.request(REQUEST_SPANS, end_ns);
        let made = thread_seconds();
        made_s += made - before;
        raw += request.len();
        let mut appender = store.appender();
        appender.append_otlp(request.into());
        let commit = appender.commit(Durability::Buffered).unwrap();
        let accepted = commit.wait().unwrap();
        append_s += thread_seconds() - made;
        assert_eq!(accepted.stored, count);
        done += count;
        peak = peak.max(memory("RssAnon"));
    }
    let millions = done as f64 / MILLION;
    let all = || (cpu_seconds() - made_s) / millions;
    println!(
        "{done} spans of {:.0} B: appended by one thread {:.2} CPU-s per million ({:.0} spans/s), \
         with the workers {:.2}, {:.1} s, RssAnon at most {} MiB",
        raw as f64 / done as f64,
        append_s / millions,
        done as f64 / append_s,
        all(),
        begun.elapsed().as_secs_f64(),
        peak / 1024
    );
    let begun = Instant::now();
    store.compact().unwrap();
    peak = peak.max(memory("RssAnon"));
    println!(
        "compacted after {:.1} s: {:.2} CPU-s per million, RssAnon at most {} MiB",
        begun.elapsed().as_secs_f64(),
        all(),
        peak / 1024
    );
    tell_sizes(&store);
}

fn tell_sizes(store: &TraceStore) {
    let stats = store.stats();
    let spans = stats.block_spans as f64;
    let bytes = stats.block_bytes as f64 / spans;
    println!(
        "{} blocks, {} spans, {bytes:.2} B a span",
        stats.blocks, stats.block_spans
    );
    for (what, bytes) in store.sizes().unwrap() {
        println!("  {what:32} {:6.3}", bytes as f64 / spans);
    }
}

/// Runs a read some times and tells the median and the slowest.
fn time(name: &str, wanted: Option<&str>, times: usize, mut read: impl FnMut() -> String) {
    if wanted.is_some_and(|wanted| !name.contains(wanted)) {
        return;
    }
    let mut told = read();
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        told = read();
        took.push(begun.elapsed());
    }
    took.sort();
    let ms = |at: usize| took[at].as_secs_f64() * 1e3;
    println!(
        "{name:44} {:9.3} ms  (p99 {:9.3})  {told}",
        ms(took.len() / 2),
        ms(took.len() * 99 / 100)
    );
}

fn is(scope: AttributeScope, key: &str, test: Test) -> Filter {
    let attribute = AttributeRef::Attribute {
        scope: Some(scope),
        key: key.into(),
    };
    Filter::Is(Condition { attribute, test })
}

fn equal(value: Value) -> Test {
    Test::Equal(vec![value])
}

fn text(value: &str) -> Value {
    Value::Str(value.into())
}

fn span(key: &str, value: &str) -> Filter {
    is(AttributeScope::Span, key, equal(text(value)))
}

fn service(name: &str) -> Filter {
    is(AttributeScope::Resource, "service.name", equal(text(name)))
}

fn intrinsic(intrinsic: Intrinsic, test: Test) -> Filter {
    let attribute = AttributeRef::Intrinsic(intrinsic);
    Filter::Is(Condition { attribute, test })
}

/// Traces of an answer until there are so many, and their spans.
fn rows(snapshot: &Snapshot, filter: TraceFilter, limit: usize) -> String {
    let request = Request::Rows(Rows {
        range: TimeRange::ALL,
        filter,
        projection: Vec::new(),
        enough: usize::MAX,
    });
    let (mut traces, mut spans) = (0, 0);
    for batch in snapshot.scan(&request).unwrap() {
        if let Batch::Spans(batch) = batch.unwrap() {
            traces += batch.traces.len();
            spans += batch.starts.len();
        }
        if traces >= limit {
            break;
        }
    }
    format!("{traces} traces, {spans} spans")
}

fn counts(snapshot: &Snapshot, filter: Filter, measure: Measure) -> String {
    let request = Request::Counts(Counts {
        range: TimeRange::ALL,
        filter,
        origin_ns: 0,
        bucket_ns: 10_000_000_000,
        by: vec![AttributeRef::Attribute {
            scope: Some(AttributeScope::Resource),
            key: "service.name".into(),
        }],
        measure,
        groups_max: usize::MAX,
        effort: Effort::default(),
    });
    let (mut cells, mut spans) = (0, 0);
    for batch in snapshot.scan(&request).unwrap() {
        if let Batch::Counts(batch) = batch.unwrap() {
            cells += batch.counts.len();
            spans += batch.counts.iter().sum::<u64>();
        }
    }
    format!("{cells} cells, {spans} spans")
}

fn values(snapshot: &Snapshot, scope: AttributeScope, key: &str) -> String {
    let request = ValuesRequest {
        attribute: AttributeRef::Attribute {
            scope: Some(scope),
            key: key.into(),
        },
        range: TimeRange::ALL,
        filter: None,
        limit: 5_000,
    };
    format!(
        "{} values",
        snapshot.attribute_values(&request).unwrap().len()
    )
}

fn search(dir: &str, wanted: Option<&str>) {
    let store = open(dir);
    let snapshot = store.snapshot();
    let all = usize::MAX;
    let ids = some_ids(&snapshot);
    let mut random = Random::new(3);
    time("the trace of 100,000 spans", wanted, 5, || {
        let id = Source::new(7).next_id();
        let trace = snapshot.trace(id).unwrap();
        format!("{} spans", trace.map_or(0, |trace| trace.spans().count()))
    });
    time("trace by id", wanted, 500, || {
        let id = ids[random.below(ids.len() as u64) as usize];
        let trace = snapshot.trace(id).unwrap().unwrap();
        format!("{} spans", trace.spans().count())
    });
    time("trace by an id that is not there", wanted, 500, || {
        let id = u128::from(random.number()).to_be_bytes();
        format!("{:?}", snapshot.trace(id).unwrap().is_some())
    });
    let slow = |ms: i64| {
        intrinsic(
            Intrinsic::Duration,
            Test::Greater(Value::Int(ms * 1_000_000)),
        )
    };
    let failed = || intrinsic(Intrinsic::Status, equal(Value::Int(2)));
    let code = is(
        AttributeScope::Span,
        "http.status_code",
        Test::GreaterEqual(Value::Int(500)),
    );
    let failing = Filter::And(vec![service("till"), code, slow(10)]);
    for (name, filter) in [
        ("service, status >= 500, slow", failing),
        ("equality, 50,000 values", span("enduser.id", "user-4242")),
        (
            "equality, text with a number",
            span("http.url", "http://web.shop.svc:8080/v1/till?q=4242"),
        ),
        (
            "equality, number",
            is(
                AttributeScope::Span,
                "http.response_content_length",
                equal(Value::Int(4_242)),
            ),
        ),
        ("absent, 50,000 values", span("enduser.id", "nobody")),
        ("absent, hexadecimal", span("order.id", "0123456789ab")),
        (
            "absent, text with a number",
            span("http.url", "http://web.shop.svc:8080/v1/till?q=100001"),
        ),
        ("absent, key", span("no.such.key", "x")),
        ("equality, a rare key", span("rare.key.4242", "value 42")),
        ("equality, one of any keys", span("key.42", "value 42")),
        (
            "two equalities, of any keys",
            Filter::And(vec![span("key.42", "value 42"), span("key.7", "value 7")]),
        ),
        ("failed", failed()),
    ] {
        let filter = TraceFilter::Has(filter);
        time(&format!("{name}, 20 traces"), wanted, 20, || {
            rows(&snapshot, filter.clone(), 20)
        });
        time(&format!("{name}, all"), wanted, 5, || {
            rows(&snapshot, filter.clone(), all)
        });
    }
    let below = [
        service("web"),
        Filter::And(vec![service("books"), failed()]),
    ];
    let child = [
        service("basket"),
        Filter::And(vec![span("db.system", "redis"), slow(150)]),
    ];
    for (name, both) in [("{A} >> {B}", below), ("{A} > {B}", child)] {
        let filter = TraceFilter::And(both.map(TraceFilter::Has).to_vec());
        time(&format!("traces for {name}, all"), wanted, 5, || {
            rows(&snapshot, filter.clone(), all)
        });
    }
    let duration = AttributeRef::Intrinsic(Intrinsic::Duration);
    for (name, measure) in [
        ("spans by service", Measure::Spans),
        ("durations by service", Measure::Log2(duration)),
    ] {
        time(name, wanted, 5, || {
            counts(&snapshot, Filter::And(Vec::new()), measure.clone())
        });
    }
    time("failed spans by service", wanted, 5, || {
        counts(&snapshot, failed(), Measure::Spans)
    });
    time("names of attributes", wanted, 20, || {
        format!(
            "{} names",
            snapshot.attribute_names(TimeRange::ALL).unwrap().len()
        )
    });
    for (scope, key) in [
        (AttributeScope::Resource, "service.name"),
        (AttributeScope::Span, "enduser.id"),
        (AttributeScope::Span, "order.id"),
        (AttributeScope::Span, "http.url"),
        (AttributeScope::Span, "net.peer.port"),
        (AttributeScope::Span, "rare.key.4242"),
        (AttributeScope::Span, "key.42"),
    ] {
        time(&format!("values of {key}"), wanted, 20, || {
            values(&snapshot, scope, key)
        });
    }
    println!("RssAnon {} MiB", memory("RssAnon") / 1024);
}

/// Ids of traces from all over the store.
fn some_ids(snapshot: &Snapshot) -> Vec<[u8; 16]> {
    let request = Request::Rows(Rows {
        range: TimeRange::ALL,
        filter: TraceFilter::Has(span("http.url", "http://web.shop.svc:8080/v1/till?q=4242")),
        projection: Vec::new(),
        enough: usize::MAX,
    });
    let any = Request::Rows(Rows {
        range: TimeRange::ALL,
        filter: TraceFilter::All,
        projection: Vec::new(),
        enough: usize::MAX,
    });
    let mut ids = Vec::new();
    for request in [request, any] {
        for batch in snapshot.scan(&request).unwrap().take(20) {
            if let Batch::Spans(batch) = batch.unwrap() {
                ids.extend(batch.traces.iter().map(|trace| trace.id));
            }
        }
    }
    ids
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let filled = |mode: &str| match mode {
        "fill" => Some((Kind::Usual, false)),
        "fill-rare" => Some((Kind::RareKeys, false)),
        "fill-any" => Some((Kind::AnyKeys, false)),
        "fill-long" => Some((Kind::Usual, true)),
        _ => None,
    };
    match arguments.as_slice() {
        [mode, dir, rest @ ..] if filled(mode).is_some() => {
            let (kind, is_long) = filled(mode).unwrap();
            let spans = rest
                .first()
                .map_or(10_000_000, |spans| spans.parse().unwrap());
            fill(dir, kind, is_long, spans);
        }
        ["sizes", dir] => tell_sizes(&open(dir)),
        ["search", dir] => search(dir, None),
        ["search", dir, wanted] => search(dir, Some(wanted)),
        _ => println!("MODE DIR [SPANS | WHAT]; see the head of this file"),
    }
}
