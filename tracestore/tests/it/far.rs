//! How many requests that depend on each other a read of blocks takes that are far away.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use trine_storage::catalog::{BlockMeta, Document};
use trine_storage::depot::{Adopted, Depot, Guard, LocalCopy, Role, ShipEdit, ShipState};
use trine_storage::fs::{ReadFile, WriteFile};
use trine_storage::shared::Shared;
use trine_storage::sim::{MemoryBucket, MemoryDepot, SimFs};
use trine_storage::ulid::BlockId;
use trine_storage::{Result, TimeRange};
use trine_tracestore::{
    AttributeRef, AttributeScope, Batch, Condition, Counts, Durability, Effort, Event, Filter,
    Intrinsic, Link, Measure, Request, Rows, Scope, Snapshot, Span, Test, TraceFilter, TraceStore,
    Value, ValuesRequest,
};

use crate::store::{NOW_NS, batches, clock, service, text};

/// What time it is when every request takes one unit, and those that are begun together go on
/// together.
#[derive(Debug, Default)]
struct Time {
    now: u64,
    requests: u64,
    bytes: u64,
    /// Of each byte of each object, when it is here.
    here: BTreeMap<BlockId, Vec<u64>>,
}

const NEVER: u64 = u64::MAX;

impl Time {
    /// When the last of some bytes is here; those that are missing are asked for now.
    fn ask(&mut self, id: BlockId, len: u64, ranges: &[Range<u64>]) -> u64 {
        let here = self.here.entry(id);
        let here = here.or_insert_with(|| vec![NEVER; len as usize]);
        let mut last = self.now;
        for range in ranges {
            let bytes = &mut here[range.start as usize..range.end as usize];
            self.requests += u64::from(bytes.contains(&NEVER));
            for at in bytes {
                if *at == NEVER {
                    self.bytes += 1;
                    *at = self.now + 1;
                }
                last = last.max(*at);
            }
        }
        last
    }
}

/// A depot that counts.
#[derive(Debug)]
struct Far {
    depot: Arc<MemoryDepot>,
    time: Arc<Mutex<Time>>,
}

struct FarFile {
    id: BlockId,
    file: Arc<dyn ReadFile>,
    time: Arc<Mutex<Time>>,
}

impl fmt::Debug for FarFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FarFile").field(&self.id).finish()
    }
}

impl ReadFile for FarFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        let mut time = self.time.lock().unwrap();
        time.now = time.ask(self.id, self.len(), ranges);
        self.file.read(ranges)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        let mut time = self.time.lock().unwrap();
        time.ask(self.id, self.len(), ranges);
        Ok(())
    }
}

impl Depot for Far {
    fn name(&self) -> &str {
        self.depot.name()
    }

    fn instance(&self) -> &str {
        self.depot.instance()
    }

    fn role(&self) -> Role {
        self.depot.role()
    }

    fn newest(&self, known: u64) -> Result<Option<Arc<Document>>> {
        self.depot.newest(known)
    }

    fn commit(&self, edit: &ShipEdit) -> Result<Adopted> {
        self.depot.commit(edit)
    }

    fn upload(
        &self,
        id: BlockId,
        file: &dyn ReadFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Guard> {
        self.depot.upload(id, file, check)
    }

    fn open(&self, meta: &BlockMeta) -> Arc<dyn ReadFile> {
        Arc::new(FarFile {
            id: meta.id,
            file: self.depot.open(meta),
            time: Arc::clone(&self.time),
        })
    }

    fn download(&self, meta: &BlockMeta, to: &mut dyn WriteFile) -> Result<()> {
        self.depot.download(meta, to)
    }

    fn surplus(&self, copies: &[LocalCopy]) -> Vec<BlockId> {
        self.depot.surplus(copies)
    }

    fn kept_bytes_max(&self, kept: u64) -> u64 {
        self.depot.kept_bytes_max(kept)
    }

    fn tell(&self, state: ShipState) {
        self.depot.tell(state);
    }
}

fn open(bucket: &MemoryBucket, instance: &str) -> (TraceStore, Arc<Mutex<Time>>) {
    let time: Arc<Mutex<Time>> = Arc::default();
    let depot = Far {
        depot: bucket.depot(instance),
        time: Arc::clone(&time),
    };
    let store = TraceStore::builder(Path::new("store"))
        .fs(Arc::new(SimFs::new()))
        .clock(clock())
        .shared(Shared::without_workers())
        .depot(Arc::new(depot))
        .open()
        .unwrap();
    (store, time)
}

/// How much time something takes.
fn took<T>(time: &Mutex<Time>, act: impl FnOnce() -> T) -> (T, u64) {
    let before = time.lock().unwrap().now;
    let done = act();
    (done, time.lock().unwrap().now - before)
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
        let (store, time) = open(&bucket, &format!("reader of {trace}"));
        let snapshot = store.snapshot();
        assert_eq!(time.lock().unwrap().requests, 0, "opening asks nothing");
        let (found, cold) = took(&time, || snapshot.trace(trace_id(trace)).unwrap());
        let spans = found.map_or(0, |found| found.spans().count());
        assert!(spans >= 3, "{spans} of {trace}");
        assert!(cold <= 4, "{cold} for trace {trace} with cold caches");
        let (found, warm) = took(&time, || snapshot.trace(trace_id(trace + 1)).unwrap());
        assert!(found.is_some() && warm <= 2, "{warm} for the next trace");
        let (none, warm) = took(&time, || snapshot.trace(trace_id(1 << 40)).unwrap());
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
        let (store, time) = open(&bucket, "reader");
        let snapshot = store.snapshot();
        let (found, cold) = took(&time, || batches(&snapshot, filter.clone()).unwrap());
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
        let (store, time) = open(&bucket, "reader");
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
        let bytes = time.lock().unwrap().bytes;
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
        let (store, time) = open(&bucket, "reader");
        let (found, cold) = took(&time, || ask(&store.snapshot()));
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
