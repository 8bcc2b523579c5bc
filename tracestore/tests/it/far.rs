//! How many requests that depend on each other a read of blocks takes that are far away.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use trine_storage::TimeRange;
use trine_storage::shared::Shared;
use trine_storage::sim::{Asked, CountingDepot, MemoryBucket, SimFs};
use trine_tracestore::{
    AttributeRef, AttributeScope, Batch, Condition, Counts, Durability, Effort, Event, Filter,
    Intrinsic, Link, Measure, Request, Rows, Scope, Snapshot, Span, Test, TraceFilter, TraceStore,
    Value, ValuesRequest,
};

use crate::store::{NOW_NS, batches, clock, service, text};

/// Bytes that are counted as one.
const PAGE_BYTES: u64 = 64;

fn open(bucket: &MemoryBucket, instance: &str) -> (TraceStore, Arc<Mutex<Asked>>) {
    let depot = CountingDepot::new(bucket.depot(instance), PAGE_BYTES);
    let asked = depot.asked();
    let store = TraceStore::builder(Path::new("store"))
        .fs(Arc::new(SimFs::new()))
        .clock(clock())
        .shared(Shared::without_workers())
        .depot(depot)
        .open()
        .unwrap();
    (store, asked)
}

/// How many answers something waits for, one after the other.
fn took<T>(asked: &Mutex<Asked>, act: impl FnOnce() -> T) -> (T, u64) {
    let before = asked.lock().rounds();
    let done = act();
    (done, asked.lock().rounds() - before)
}

fn trace_id(trace: u64) -> [u8; 16] {
    let id = u128::from(trace + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    id.to_be_bytes()
}

fn is_span(trace: u64, id: u64) -> Span {
    let start_ns = NOW_NS.cast_unsigned() + trace * 1_000;
    Span {
        trace_id: trace_id(trace),
        span_id: (trace << 8 | id).to_be_bytes(),
        // Some parents are elsewhere.
        parent_span_id: (!id.is_multiple_of(3)).then(|| (trace << 8 | (id - 1)).to_be_bytes()),
        name: format!("span {}", (trace + id) % 40),
        start_ns: start_ns + id,
        end_ns: start_ns + 100 * id,
        attributes: vec![
            text("path", &format!("/{}/{id}", trace % 500)),
            text(&format!("rare.{}", trace % 900), "x"),
        ],
        events: (0..trace % 3)
            .map(|at| Event {
                time_ns: start_ns + at,
                name: format!("event {at}"),
                attributes: vec![text("what", &format!("happened {trace}"))],
                ..Event::default()
            })
            .collect(),
        links: (0..trace % 2)
            .map(|_| Link {
                trace_id: trace_id(trace + 1).to_vec(),
                span_id: vec![1; 8],
                ..Link::default()
            })
            .collect(),
        ..Span::default()
    }
}

const TRACES: u64 = 3_000;

/// Blocks with several pages of spans each. Every hundredth trace lies in two of them.
fn fill(bucket: &MemoryBucket) {
    let (store, _) = open(bucket, "writer");
    for block in 0..3u64 {
        let mut appender = store.appender();
        for trace in 0..TRACES {
            let first = block * TRACES + trace;
            let both = trace % 100 == 0 && block > 0;
            for (trace, ids) in [(first, 1..4), (first - both as u64 * TRACES, 4..5)] {
                for id in ids {
                    let span = is_span(trace, id);
                    let resource = service(&format!("service {}", trace % 70));
                    appender.append(&resource, &Arc::new(Scope::default()), span);
                }
            }
        }
        appender
            .commit(Durability::Buffered)
            .unwrap()
            .wait()
            .unwrap();
        store.flush().unwrap();
    }
    store.ship().unwrap();
    assert_eq!(store.stats().blocks, 3);
}

#[test]
fn a_trace_takes_four_requests_that_depend_on_each_other() {
    let bucket = MemoryBucket::new();
    fill(&bucket);
    for trace in [0, 77, 2_999, 3_100, 5_900, 7_001, 8_998] {
        let (store, asked) = open(&bucket, &format!("reader of {trace}"));
        let snapshot = store.snapshot();
        assert_eq!(asked.lock().pages(), 0, "opening asks nothing");
        let (found, cold) = took(&asked, || snapshot.trace(trace_id(trace)).unwrap());
        let spans = found.map_or(0, |found| found.spans().count());
        assert!(spans >= 3, "{spans} of {trace}");
        assert!(cold <= 4, "{cold} for trace {trace} with cold caches");
        let (found, warm) = took(&asked, || snapshot.trace(trace_id(trace + 1)).unwrap());
        assert!(found.is_some() && warm <= 2, "{warm} for the next trace");
        let (none, warm) = took(&asked, || snapshot.trace(trace_id(1 << 40)).unwrap());
        assert!(
            none.is_none() && warm <= 1,
            "{warm} for a trace that there is not"
        );
    }
}

fn equal(attribute: AttributeRef, value: &str) -> TraceFilter {
    let test = Test::Equal(vec![Value::Str(value.into())]);
    TraceFilter::Has(Filter::Is(Condition { attribute, test }))
}

fn attribute(scope: AttributeScope, key: &str) -> AttributeRef {
    AttributeRef::Attribute {
        scope: Some(scope),
        key: key.into(),
    }
}

#[test]
fn a_search_takes_few_requests_that_depend_on_each_other() {
    let bucket = MemoryBucket::new();
    fill(&bucket);
    let filters = [
        (
            equal(AttributeRef::Intrinsic(Intrinsic::Name), "span 7"),
            600..,
        ),
        (
            equal(attribute(AttributeScope::Span, "path"), "/77/2"),
            18..,
        ),
        (equal(attribute(AttributeScope::Span, "rare.77"), "x"), 10..),
        (
            equal(
                attribute(AttributeScope::Resource, "service.name"),
                "service 7",
            ),
            120..,
        ),
        (
            equal(attribute(AttributeScope::Event, "what"), "happened 77"),
            1..,
        ),
        (TraceFilter::All, 9_000..),
    ];
    for (filter, least) in filters {
        let (store, asked) = open(&bucket, "reader");
        let snapshot = store.snapshot();
        let (found, cold) = took(&asked, || batches(&snapshot, filter.clone()).unwrap());
        let traces: usize = found.iter().map(|batch| batch.traces.len()).sum();
        assert!(least.contains(&traces), "{traces} of {filter:?}");
        let most = 10 + found.len() as u64;
        assert!(cold <= most, "{cold} with cold caches, {filter:?}");
    }
}

/// Blocks whose traces lie out of the range of a search are asked for little.
#[test]
fn a_search_reads_what_lies_in_its_range() {
    let bucket = MemoryBucket::new();
    fill(&bucket);
    let bytes_of = |range: TimeRange| {
        let (store, asked) = open(&bucket, "reader");
        let request = Request::Rows(Rows {
            range,
            filter: equal(AttributeRef::Intrinsic(Intrinsic::Name), "span 7"),
            projection: vec![],
            enough: usize::MAX,
        });
        let found: usize = store
            .snapshot()
            .scan(&request)
            .unwrap()
            .map(|batch| match batch.unwrap() {
                Batch::Spans(batch) => batch.traces.len(),
                other => panic!("{other:?}"),
            })
            .sum();
        let bytes = asked.lock().pages() * PAGE_BYTES;
        (found, bytes)
    };
    let (all, all_bytes) = bytes_of(TimeRange::ALL);
    let last_ns = NOW_NS + 1_000 * (3 * TRACES).cast_signed();
    let (few, few_bytes) = bytes_of(TimeRange::new(last_ns - 500_000, last_ns));
    assert!(0 < few && few < all / 10, "{few} of {all}");
    assert!(
        few_bytes * 3 < all_bytes * 2,
        "{few_bytes} of {all_bytes} bytes"
    );
}

#[test]
fn counts_names_and_values_take_few_requests_that_depend_on_each_other() {
    let bucket = MemoryBucket::new();
    fill(&bucket);
    let cold = |most: u64, what: &str, ask: &dyn Fn(&Snapshot) -> usize| {
        let (store, asked) = open(&bucket, "reader");
        let (found, cold) = took(&asked, || ask(&store.snapshot()));
        assert!(found > 0, "{what}");
        assert!(cold <= most, "{cold} for {what} with cold caches");
    };
    let service = || attribute(AttributeScope::Resource, "service.name");
    cold(10, "counts", &|snapshot| {
        let request = Request::Counts(Counts {
            range: TimeRange::ALL,
            filter: Filter::Is(Condition {
                attribute: AttributeRef::Intrinsic(Intrinsic::Name),
                test: Test::Equal(vec![Value::Str("span 7".into())]),
            }),
            origin_ns: 0,
            bucket_ns: 0,
            by: vec![service()],
            measure: Measure::Spans,
            groups_max: 1_000,
            effort: Effort::default(),
        });
        let batches = snapshot.scan(&request).unwrap();
        batches.map(|batch| drop(batch.unwrap())).count()
    });
    cold(4, "names", &|snapshot| {
        let names = snapshot.attribute_names(TimeRange::ALL);
        names.unwrap().len()
    });
    cold(5, "values", &|snapshot| {
        let request = ValuesRequest {
            attribute: service(),
            range: TimeRange::ALL,
            filter: None,
            limit: 1_000,
        };
        snapshot.attribute_values(&request).unwrap().len()
    });
}
