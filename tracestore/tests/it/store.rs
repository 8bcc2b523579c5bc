//! What goes in comes out: by id and by conditions, from memory, from blocks, after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::clock::ManualClock;
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Result, TimeRange};
use trine_tracestore::{
    Accepted, AnyValue, AttributeRef, AttributeScope, Batch, Condition, Config, Durability, Event,
    Filter, Intrinsic, KeyValue, Link, Request, Resource, Rows, Scope, Snapshot, Span, SpanBatch,
    Status, Test, TraceFilter, TraceStore, Value,
};

/// 2026-01-01 in nanoseconds.
pub(crate) const NOW_NS: i64 = 1_767_225_600_000_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW_NS))
}

pub(crate) fn try_open(fs: &SimFs, config: Config, clock: Arc<ManualClock>) -> Result<TraceStore> {
    TraceStore::builder(Path::new("store"))
        .config(config)
        .fs(Arc::new(fs.clone()))
        .clock(clock)
        .shared(Shared::without_workers())
        .open()
}

pub(crate) fn open_with(fs: &SimFs, config: Config, clock: Arc<ManualClock>) -> TraceStore {
    try_open(fs, config, clock).unwrap()
}

pub(crate) fn open(fs: &SimFs) -> TraceStore {
    open_with(fs, Config::default(), clock())
}

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: AnyValue::String(value.into()),
    }
}

pub(crate) fn service(name: &str) -> Arc<Resource> {
    Arc::new(Resource {
        attributes: vec![text("service.name", name)],
        ..Resource::default()
    })
}

/// A span of trace `trace` that began `start` seconds after 1970 and took one.
pub(crate) fn span(trace: u8, id: u8, parent: u8, name: &str, start: u64) -> Span {
    Span {
        trace_id: [trace; 16],
        span_id: [id; 8],
        parent_span_id: (parent != 0).then_some([parent; 8]),
        name: name.into(),
        kind: 2,
        start_ns: start * SECOND,
        end_ns: (start + 1) * SECOND,
        ..Span::default()
    }
}

pub(crate) fn put(store: &TraceStore, resource: &Arc<Resource>, spans: Vec<Span>) -> Accepted {
    let scope = Arc::new(Scope {
        name: "lib".into(),
        ..Scope::default()
    });
    let mut appender = store.appender();
    for span in spans {
        appender.append(resource, &scope, span);
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap()
}

/// The spans of the traces that satisfy a filter.
pub(crate) fn batches(snapshot: &Snapshot, filter: TraceFilter) -> Result<Vec<SpanBatch>> {
    let request = Request::Rows(Rows {
        range: TimeRange::ALL,
        filter,
        projection: vec![],
        enough: usize::MAX,
    });
    let spans = |batch| match batch {
        Batch::Spans(batch) => batch,
        other => panic!("{other:?}"),
    };
    let batches = snapshot.scan(&request)?;
    batches.map(|batch| batch.map(spans)).collect()
}

/// Names of the spans of the traces that satisfy a filter, a trace a line, newest first.
pub(crate) fn find(store: &TraceStore, filter: TraceFilter) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches(&store.snapshot(), filter).unwrap() {
        for trace in &batch.traces {
            let name = |row: u32| match &batch.names.dictionary
                [batch.names.codes[row as usize] as usize]
            {
                Value::Str(name) => name.to_string(),
                other => panic!("{other:?}"),
            };
            lines.push(trace.rows.clone().map(name).collect::<Vec<_>>().join(" "));
        }
    }
    lines
}

/// Names of the spans of all traces.
pub(crate) fn find_all(store: &TraceStore) -> Vec<String> {
    find(store, TraceFilter::All)
}

fn on(scope: Option<AttributeScope>, key: &str, test: Test) -> Filter {
    let attribute = AttributeRef::Attribute {
        scope,
        key: key.into(),
    };
    Filter::Is(Condition { attribute, test })
}

pub(crate) fn intrinsic(intrinsic: Intrinsic, test: Test) -> Filter {
    let attribute = AttributeRef::Intrinsic(intrinsic);
    Filter::Is(Condition { attribute, test })
}

fn str(text: &str) -> Value {
    Value::Str(text.into())
}

fn full_span() -> Span {
    let values = [
        AnyValue::Empty,
        AnyValue::Bool(true),
        AnyValue::Int(-1),
        AnyValue::Double(0.5),
        AnyValue::Bytes(vec![0, 255]),
        AnyValue::Array(vec![AnyValue::Int(1), AnyValue::String("x".into())]),
        AnyValue::KeyValues(vec![text("k", "v")]),
    ];
    let attributes: Vec<KeyValue> = (0..)
        .zip(values)
        .map(|(i, value): (u8, _)| KeyValue {
            key: format!("a{i}").into(),
            value,
        })
        .collect();
    Span {
        trace_state: "a=b".into(),
        attributes: attributes.clone(),
        dropped_attributes_count: 1,
        events: vec![Event {
            time_ns: 7,
            name: "exception".into(),
            attributes: attributes.clone(),
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        links: vec![Link {
            trace_id: vec![9; 16],
            span_id: vec![9; 8],
            trace_state: "c=d".into(),
            attributes,
            dropped_attributes_count: 4,
            flags: 5,
        }],
        dropped_links_count: 6,
        status: Some(Status {
            code: 2,
            message: "no".into(),
        }),
        flags: 0x101,
        ..span(1, 1, 0, "root", 100)
    }
}

#[test]
fn a_trace_comes_back_unchanged_from_memory_and_blocks() {
    let fs = SimFs::new();
    let mut store = open(&fs);
    let resource = Arc::new(Resource {
        attributes: vec![text("service.name", "shop")],
        dropped_attributes_count: 1,
        schema_url: "https://schema".into(),
    });
    put(
        &store,
        &resource,
        vec![
            full_span(),
            span(1, 2, 1, "child", 100),
            span(2, 1, 0, "other", 5),
        ],
    );
    let before = store.snapshot().trace([1; 16]).unwrap().unwrap();
    assert_eq!(before.resources[0].resource, resource);
    assert_eq!(
        before.resources[0].scopes[0].spans,
        [full_span(), span(1, 2, 1, "child", 100)]
    );
    drop(store);
    store = open(&fs);
    assert_eq!(
        store.snapshot().trace([1; 16]).unwrap().unwrap(),
        before,
        "replayed"
    );
    store.flush().unwrap();
    assert_eq!(
        store.snapshot().trace([1; 16]).unwrap().unwrap(),
        before,
        "sealed"
    );
    assert_eq!((store.stats().live_spans, store.stats().wal.bytes), (0, 0));
    drop(store);
    store = open(&fs);
    assert_eq!(
        store.snapshot().trace([1; 16]).unwrap().unwrap(),
        before,
        "reopened"
    );
    assert!(store.snapshot().trace([7; 16]).unwrap().is_none());
}

#[test]
fn fragments_are_one_trace_and_spans_that_came_twice_count_once() {
    let fs = SimFs::new();
    let store = open(&fs);
    let shop = service("shop");
    put(&store, &shop, vec![span(1, 1, 0, "root", 10)]);
    store.flush().unwrap();
    put(
        &store,
        &shop,
        vec![span(1, 2, 1, "child", 8_000), span(1, 1, 0, "again", 10)],
    );
    store.flush().unwrap();
    put(&store, &shop, vec![span(1, 4, 2, "sibling", 9_000)]);
    store.flush().unwrap();
    put(
        &store,
        &shop,
        vec![
            span(1, 3, 2, "grandchild", 8_001),
            span(1, 3, 2, "again", 8_001),
        ],
    );
    assert_eq!((store.stats().blocks, store.stats().live_spans), (3, 2));
    let trace = store.snapshot().trace([1; 16]).unwrap().unwrap();
    let names: Vec<&str> = trace
        .spans()
        .map(|(_, _, span)| span.name.as_str())
        .collect();
    let expected = ["root", "child", "grandchild", "sibling"];
    assert_eq!(names, expected);
    assert_eq!(find_all(&store), [expected.join(" ")]);
    let batches = batches(&store.snapshot(), TraceFilter::All).unwrap();
    let batch = &batches[0];
    assert_eq!(
        (&batch.nested_left[..], &batch.nested_right[..]),
        (&[1, 2, 3, 5][..], &[8, 7, 4, 6][..])
    );
    assert_eq!(
        (&batch.nested_parent[..], &batch.parents[1..]),
        (&[-1, 1, 2, 2][..], &[0, 1, 1][..])
    );
    let head = &batch.traces[0];
    assert_eq!((head.start, head.end), (10_000_000_000, 9_001_000_000_000));
    assert_eq!(
        (head.root_service.as_deref(), head.root_name.as_deref()),
        (Some("shop"), Some("root"))
    );
}

#[test]
fn conditions_choose_traces_from_memory_and_blocks_alike() {
    let fs = SimFs::new();
    let store = open(&fs);
    let with = |mut span: Span, key: &str, value: AnyValue| {
        span.attributes.push(KeyValue {
            key: key.into(),
            value,
        });
        span
    };
    put(
        &store,
        &service("shop"),
        vec![
            with(span(1, 1, 0, "one", 10), "n", AnyValue::Int(5)),
            with(span(2, 1, 0, "two", 20), "n", AnyValue::Double(7.5)),
        ],
    );
    let tags = AnyValue::Array(vec![
        AnyValue::String("x".into()),
        AnyValue::String("y".into()),
    ]);
    put(
        &store,
        &service("cart"),
        vec![with(span(3, 1, 0, "three", 30), "tags", tags)],
    );
    let mut failed = full_span();
    failed.trace_id = [4; 16];
    put(&store, &service("pay"), vec![failed]);
    let span = Some(AttributeScope::Span);
    let resource = Some(AttributeScope::Resource);
    let scope = Some(AttributeScope::Instrumentation);
    let second = Value::Int(1_000_000_000);
    let named = |name: &str| intrinsic(Intrinsic::Name, Test::Equal(vec![str(name)]));
    let n_is_5 = || on(span, "n", Test::Equal(vec![Value::Int(5)]));
    let cases: Vec<(Filter, &str)> = vec![
        (Filter::And(vec![]), "root|three|two|one"),
        (Filter::Or(vec![]), ""),
        (n_is_5(), "one"),
        (on(span, "n", Test::Greater(Value::Int(5))), "two"),
        (on(None, "n", Test::LessEqual(Value::Float(5.0))), "one"),
        (on(span, "n", Test::NotEqual(vec![Value::Int(5)])), "two"),
        (on(None, "tags", Test::Equal(vec![str("y")])), "three"),
        (
            on(None, "service.name", Test::Equal(vec![str("cart")])),
            "three",
        ),
        (
            on(resource, "service.name", Test::Equal(vec![str("shop")])),
            "two|one",
        ),
        (
            on(
                Some(AttributeScope::Event),
                "event:name",
                Test::Equal(vec![str("exception")]),
            ),
            "root",
        ),
        (
            on(scope, "instrumentation:name", Test::Equal(vec![str("lib")])),
            "root|three|two|one",
        ),
        (named("two"), "two"),
        (
            intrinsic(Intrinsic::Status, Test::Equal(vec![Value::Int(2)])),
            "root",
        ),
        (intrinsic(Intrinsic::Kind, Test::Less(Value::Int(2))), ""),
        (
            intrinsic(Intrinsic::Duration, Test::GreaterEqual(second)),
            "root|three|two|one",
        ),
        (Filter::Or(vec![n_is_5(), named("two")]), "two|one"),
        (Filter::And(vec![n_is_5(), named("two")]), ""),
        (on(span, "absent", Test::NotEqual(vec![Value::Int(5)])), ""),
        (on(span, "n", Test::Missing), "root|three"),
    ];
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        for (filter, expected) in &cases {
            let expected: Vec<&str> = expected.split('|').filter(|e| !e.is_empty()).collect();
            assert_eq!(
                find(&store, TraceFilter::Has(filter.clone())),
                expected,
                "{filter:?} sealed={sealed}"
            );
        }
    }
}

#[test]
fn verify_finds_flipped_bytes_and_reads_do_not_panic() {
    let fs = SimFs::new();
    let store = open(&fs);
    put(
        &store,
        &service("shop"),
        vec![full_span(), span(2, 1, 0, "two", 20)],
    );
    store.flush().unwrap();
    drop(store);
    let path = fs
        .files()
        .into_iter()
        .find(|p| p.starts_with("store/blocks"))
        .unwrap();
    let len = usize::try_from(trine_storage::fs::Fs::open(&fs, &path).unwrap().len()).unwrap();
    for offset in 0..len {
        let damaged = fs.crash(Crash::Process, 0);
        damaged.corrupt(&path, offset, 1 << (offset % 8));
        let store = open(&damaged);
        assert_eq!(store.verify().errors.len(), 1, "byte {offset} of {len}");
        store.snapshot().trace([1; 16]).ok();
        batches(&store.snapshot(), TraceFilter::All).ok();
    }
    let report = open(&fs).verify();
    assert_eq!(
        (report.blocks, report.spans, report.errors.len()),
        (1, 2, 0)
    );
}

#[test]
fn retention_drops_blocks_and_refuses_what_is_older() {
    let fs = SimFs::new();
    let clock = clock();
    let config = Config {
        retention: Some(Duration::from_secs(24 * 3600)),
        ..Config::default()
    };
    let store = open_with(&fs, config, Arc::clone(&clock));
    let now = NOW_NS.cast_unsigned() / SECOND;
    let told = put(
        &store,
        &service("shop"),
        vec![
            span(1, 1, 0, "old", now - 25 * 3600),
            span(2, 1, 0, "new", now - 23 * 3600),
        ],
    );
    assert_eq!(
        (told.stored, told.rejected[0].reason.to_string()),
        (1, "span begins before the retention".into())
    );
    store.flush().unwrap();
    assert_eq!(store.stats().blocks, 1);
    clock.advance(Duration::from_secs(5 * 3600));
    store.maintain().unwrap();
    assert_eq!(store.stats().blocks, 0);
}

#[test]
fn kinds_that_otlp_does_not_define_are_one_kind_in_memory_and_blocks() {
    let fs = SimFs::new();
    let store = open(&fs);
    let odd = |kind| Span {
        kind,
        ..span(1, 1, 0, "odd", 10)
    };
    put(
        &store,
        &service("shop"),
        vec![odd(0), odd(300), odd(-1), odd(3)],
    );
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        let trace = store.snapshot().trace([1; 16]).unwrap().unwrap();
        let kinds: Vec<i32> = trace.spans().map(|(_, _, span)| span.kind).collect();
        assert_eq!(kinds, [0, 3], "sealed={sealed}");
        assert_eq!(find_all(&store), ["odd odd"], "sealed={sealed}");
    }
}

#[test]
fn a_trace_larger_than_a_group_and_an_answer_larger_than_a_batch_are_whole() {
    let fs = SimFs::new();
    let store = open(&fs);
    let many = |trace: u8, count: u64| {
        let part = |n: u64| Span {
            span_id: (n + 1).to_be_bytes(),
            ..span(trace, 1, 0, "part", 10 + n / 1_000)
        };
        (0..count).map(part).collect::<Vec<_>>()
    };
    put(&store, &service("shop"), many(1, 10_000));
    put(&store, &service("shop"), many(2, 3_000));
    put(&store, &service("shop"), many(3, 3_000));
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        let batches = batches(&store.snapshot(), TraceFilter::All).unwrap();
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.starts.len()).collect();
        assert!(sizes.len() > 1, "sealed={sealed}");
        assert_eq!(sizes.iter().sum::<usize>(), 16_000, "sealed={sealed}");
        let trace = store.snapshot().trace([1; 16]).unwrap().unwrap();
        assert_eq!(trace.spans().count(), 10_000);
    }
    assert_eq!(store.verify().spans, 16_000);
}
