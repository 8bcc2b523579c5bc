//! Random operations against a naive model: a list of what was appended and of what was deleted.
//!
//! `TRINE_CASES` asks for more sequences than `cargo test` runs (`CONTRIBUTING.md`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trine_storage::clock::{Clock, ManualClock};
use trine_storage::depot::{Depot, Role};
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, MemoryBucket, SimFs};
use trine_storage::{Error, Kind, Result, TimeRange};
use trine_tracestore::{
    Config, Durability, Filter, Intrinsic, NO_ROW, RetentionRule, Snapshot, Span, Test, Trace,
    TraceFilter, TraceId, TraceStore, Value,
};

use crate::store::{NOW_NS, batches, clock, intrinsic};

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const TRACES: u64 = 12;
/// How long traces are kept that no rule is for, and those of the rules.
const KEPT: [i64; 3] = [20 * HOUR, 30 * HOUR, 10 * HOUR];
const DELETE_DELAY: i64 = 40 * MINUTE;

/// The sequences that are run without being told otherwise.
const CASES: u32 = 50;

fn cases() -> u32 {
    let cases = std::env::var("TRINE_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

#[derive(Debug, Clone)]
struct Settings {
    retention: bool,
    rules: bool,
    few_ranges: bool,
    small_segments: bool,
    small_blocks: bool,
    small_runs: bool,
    ships: bool,
}

#[derive(Debug, Clone)]
enum Work {
    /// Traces and spans.
    Append(Vec<(u64, u64)>),
    DeleteTrace(u64),
    /// The spans with this id, of traces that began in the first hours or later.
    DeleteSpans(u64, bool),
    Cancel(usize),
    Flush,
    Compact,
    Maintain,
    Backup,
    /// Everything is shipped; a follower sees it then.
    Ship,
    /// Shipped blocks are read from the depot.
    Evict,
}

#[derive(Debug, Clone)]
enum Op {
    Work(Work),
    /// The work is cut after so many operations of the disk, then the process or the power fails.
    Cut(Work, u64, bool, u64),
    Reopen,
    /// The disk is lost when everything was shipped; without a depot the store is opened again.
    Lose,
    Advance(i64),
    /// A snapshot is kept and read again at the end.
    Keep,
    Read,
}

fn work() -> impl Strategy<Value = Work> {
    let rows = prop::collection::vec((1..=TRACES, 1..9u64), 1..14);
    prop_oneof![
        9 => rows.prop_map(Work::Append),
        1 => (1..=TRACES).prop_map(Work::DeleteTrace),
        1 => (1..9u64, any::<bool>()).prop_map(|(id, late)| Work::DeleteSpans(id, late)),
        1 => (0..4usize).prop_map(Work::Cancel),
        4 => Just(Work::Flush),
        2 => Just(Work::Compact),
        4 => Just(Work::Maintain),
        1 => Just(Work::Backup),
        3 => Just(Work::Ship),
        2 => Just(Work::Evict),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let minutes = prop_oneof![0..60i64, 100..400i64, 400..900i64];
    prop_oneof![
        20 => work().prop_map(Op::Work),
        3 => (work(), 0..40u64, any::<bool>(), any::<u64>())
            .prop_map(|(work, after, power, seed)| Op::Cut(work, after, power, seed)),
        1 => Just(Op::Reopen),
        1 => Just(Op::Lose),
        2 => minutes.prop_map(|minutes| Op::Advance(minutes * MINUTE)),
        1 => Just(Op::Keep),
        4 => Just(Op::Read),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    any::<[bool; 7]>().prop_map(
        |[
            retention,
            rules,
            few_ranges,
            small_segments,
            small_blocks,
            small_runs,
            ships,
        ]| Settings {
            retention,
            rules,
            few_ranges,
            small_segments,
            small_blocks,
            small_runs,
            ships,
        },
    )
}

/// When the spans of a trace begin: all at once, so that pieces of it expire together.
fn start_of(trace: u64) -> i64 {
    NOW_NS - trace.cast_signed() * HOUR / 2
}

/// The retention that is for a trace.
fn kind_of(trace: u64) -> usize {
    (trace % 3) as usize
}

/// The parent of each span of a trace: one is missing, one is the span itself, two are in a circle.
const PARENTS: [u64; 9] = [0, 0, 3, 2, 1, 4, 6, 9, 5];

fn trace_id(trace: u64) -> TraceId {
    (1 << 100 | u128::from(trace)).to_be_bytes()
}

fn is_span(trace: u64, id: u64) -> Span {
    let start_ns = start_of(trace).cast_unsigned();
    let parent = PARENTS[id as usize];
    Span {
        trace_id: trace_id(trace),
        span_id: id.to_be_bytes(),
        parent_span_id: (parent > 0).then(|| parent.to_be_bytes()),
        name: format!("kind {}", kind_of(trace)),
        start_ns,
        end_ns: start_ns + id,
        ..Span::default()
    }
}

fn equal(of: Intrinsic, text: String) -> Filter {
    intrinsic(of, Test::Equal(vec![Value::Str(text.into())]))
}

/// Traces and spans that a snapshot sees, in searches and by id.
fn seen(snapshot: &Snapshot) -> Vec<(u64, u64)> {
    let number = |id: &TraceId| u128::from_be_bytes(*id) as u64;
    let mut found = Vec::new();
    let mut heads = Vec::new();
    for batch in batches(snapshot, TraceFilter::All).unwrap() {
        for trace in &batch.traces {
            let held = trace.rows.start as usize..trace.rows.end as usize;
            heads.push((trace.start, trace.id));
            let id_of = |row: usize| u64::from_be_bytes(batch.span_ids[row]);
            let rows: BTreeMap<u64, usize> = held.clone().map(|row| (id_of(row), row)).collect();
            for row in held {
                let (id, parent) = (id_of(row), batch.parents[row]);
                let told = u64::from_be_bytes(batch.parent_ids[row]);
                assert_eq!(told, PARENTS[id as usize]);
                assert!(batch.nested_left[row] < batch.nested_right[row]);
                if parent != NO_ROW {
                    assert!((parent as usize) < row, "parents lie before their children");
                    assert_eq!(id_of(parent as usize), told);
                    let left = batch.nested_left[parent as usize];
                    assert_eq!(batch.nested_parent[row], left);
                } else if rows.contains_key(&told) {
                    assert!([2, 3, 6].contains(&id), "{id} has lost its parent");
                }
                found.push((number(&trace.id), id));
            }
        }
    }
    assert!(heads.is_sorted_by(|a, b| a > b), "newest first: {heads:?}");
    found.sort_unstable();
    let mut by_id = Vec::new();
    for trace in 1..=TRACES {
        let spans = snapshot.trace(trace_id(trace)).unwrap();
        for (_, _, span) in spans.iter().flat_map(Trace::spans) {
            let id = u64::from_be_bytes(span.span_id);
            assert_eq!(*span, is_span(trace, id), "a span comes back unchanged");
            by_id.push((trace, id));
        }
    }
    by_id.sort_unstable();
    assert_eq!(found, by_id, "searches and traces by id");
    found
}

/// A span that was stored, and the deletes that hide it.
#[derive(Debug, Clone)]
struct Copy {
    trace: u64,
    id: u64,
    hidden_by: Vec<u64>,
}

#[derive(Debug, Clone, Default)]
struct Model {
    copies: Vec<Copy>,
    deletes: Vec<u64>,
}

struct Run {
    disk: SimFs,
    clock: Arc<ManualClock>,
    config: Config,
    settings: Settings,
    bucket: MemoryBucket,
    /// How many disks were lost.
    lost: usize,
    store: Option<TraceStore>,
    /// Another process that reads.
    follower: Option<TraceStore>,
    model: Model,
    backups: usize,
    kept: Vec<(Snapshot, Vec<(u64, u64)>)>,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let kept = |hours: i64| Duration::from_nanos(hours.cast_unsigned());
        let rule = |kind: usize| RetentionRule {
            filter: equal(Intrinsic::Name, format!("kind {kind}")),
            keep: Some(kept(KEPT[kind])),
        };
        let mut config = Config {
            retention: settings.retention.then_some(kept(KEPT[0])),
            delete_delay: kept(DELETE_DELAY),
            stage_spans_max: if settings.small_runs { 6 } else { 40 },
            block_ranges_max: if settings.few_ranges { 2 } else { 64 },
            compacted_spans_max: if settings.small_blocks { 30 } else { 4_000 },
            ..Config::default()
        };
        if settings.rules {
            config.retention_rules = vec![rule(1), rule(2)];
        }
        if settings.small_segments {
            config.wal.segment_bytes = 300;
        }
        let mut run = Self {
            disk: SimFs::new(),
            clock: clock(),
            config,
            settings,
            bucket: MemoryBucket::new(),
            lost: 0,
            store: None,
            follower: None,
            model: Model::default(),
            backups: 0,
            kept: Vec::new(),
        };
        run.store = Some(run.open());
        if run.settings.ships {
            let depot = run.bucket.depot("follower");
            depot.set_role(Role::ReadOnly);
            run.follower = Some(run.open_at(&SimFs::new(), Some(depot)));
        }
        run
    }

    fn open(&self) -> TraceStore {
        let depot = self.bucket.depot(&format!("disk {}", self.lost));
        let depot: Arc<dyn Depot> = depot;
        self.open_at(&self.disk, self.settings.ships.then_some(depot))
    }

    fn open_at(&self, disk: &SimFs, depot: Option<Arc<dyn Depot>>) -> TraceStore {
        let builder = TraceStore::builder(Path::new("store"))
            .config(self.config.clone())
            .fs(Arc::new(disk.clone()))
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .shared(Shared::without_workers());
        let builder = match depot {
            Some(depot) => builder.depot(depot),
            None => builder,
        };
        builder.open().unwrap()
    }

    fn store(&self) -> TraceStore {
        self.store.clone().unwrap()
    }

    /// The oldest start that is kept of a trace.
    fn oldest(&self, trace: u64) -> i64 {
        let kind = kind_of(trace);
        let kept = match (kind, self.settings.rules, self.settings.retention) {
            (1 | 2, true, _) => KEPT[kind],
            (_, _, true) => KEPT[0],
            _ => return i64::MIN,
        };
        self.clock.now_ns() - kept
    }

    fn expected(&self, model: &Model) -> Vec<(u64, u64)> {
        let copies = model.copies.iter();
        let seen = copies.filter(|copy| {
            copy.hidden_by.is_empty() && start_of(copy.trace) >= self.oldest(copy.trace)
        });
        let mut seen: Vec<(u64, u64)> = seen.map(|copy| (copy.trace, copy.id)).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// Does the work; the model that is right when it is done.
    fn work(&mut self, work: &Work) -> (Model, Result<()>) {
        let store = self.store();
        let mut model = self.model.clone();
        let result = match work {
            Work::Append(rows) => {
                let oldest = (0..3).map(|kind| self.oldest(kind)).min();
                let taken = |(trace, _): &&(u64, u64)| Some(start_of(*trace)) >= oldest;
                let copies = rows.iter().filter(taken).map(|&(trace, id)| Copy {
                    trace,
                    id,
                    hidden_by: Vec::new(),
                });
                model.copies.extend(copies);
                let mut appender = store.appender();
                for &(trace, id) in rows {
                    appender.append(&Arc::default(), &Arc::default(), is_span(trace, id));
                }
                let commit = appender.commit(Durability::Synced);
                commit.and_then(trine_tracestore::Commit::wait).map(drop)
            }
            Work::DeleteTrace(trace) => {
                let number = store.delete_trace(trace_id(*trace));
                model.delete(&number, |copy| copy.trace == *trace);
                number.map(drop)
            }
            Work::DeleteSpans(id, late) => {
                let middle = NOW_NS - 3 * HOUR;
                let range = if *late {
                    TimeRange::new(middle, i64::MAX)
                } else {
                    TimeRange::new(i64::MIN, middle)
                };
                let filter = equal(Intrinsic::SpanId, format!("{id:016x}"));
                let number = store.delete(&filter, range);
                let concerns = |copy: &Copy| copy.id == *id && range.contains(start_of(copy.trace));
                model.delete(&number, concerns);
                number.map(drop)
            }
            Work::Cancel(which) => match model.deletes.get(*which).copied() {
                Some(number) => {
                    let result = store.cancel_delete(number);
                    if result.as_ref().err().map(Error::kind) == Some(Kind::Invalid) {
                        Ok(())
                    } else {
                        for copy in &mut model.copies {
                            copy.hidden_by.retain(|held| *held != number);
                        }
                        result
                    }
                }
                None => Ok(()),
            },
            Work::Flush => store.flush(),
            Work::Compact => store.compact(),
            Work::Maintain => store.maintain(),
            Work::Ship => store.ship().map(drop),
            Work::Evict => {
                self.bucket.set_copies_max(Some(0));
                let shipped = store.ship();
                self.bucket.set_copies_max(None);
                shipped.map(drop)
            }
            Work::Backup => {
                self.backups += 1;
                let target = format!("backup{}", self.backups);
                store.backup(&target)
            }
        };
        (model, result)
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Work(work) => {
                let (model, result) = self.work(work);
                result.unwrap();
                self.model = model;
                match (work, &self.follower) {
                    (Work::Backup, _) => self.check_backup(),
                    (Work::Ship, Some(follower)) => {
                        follower.follow().unwrap();
                        let found = seen(&follower.snapshot());
                        assert_eq!(found, self.expected(&self.model), "follower");
                    }
                    _ => {}
                }
            }
            Op::Cut(work, after, power, seed) => {
                let disk = self.disk.clone();
                disk.cut_after(disk.operations() + after);
                let (model, result) = self.work(work);
                let how = if *power { Crash::Power } else { Crash::Process };
                self.store = None;
                self.kept.clear();
                self.disk = disk.crash(how, *seed);
                self.store = Some(self.open());
                let found = seen(&self.store().snapshot());
                let done = self.expected(&model);
                assert!(
                    found == done || result.is_err() && found == self.expected(&self.model),
                    "{result:?}: {found:?} is neither {done:?} nor {:?}",
                    self.expected(&self.model)
                );
                // What is remembered of a delete is what was carried out.
                if found == done {
                    self.model = model;
                }
                self.model.forget_failed(&self.store());
            }
            Op::Reopen => {
                self.store = None;
                self.kept.clear();
                self.store = Some(self.open());
            }
            Op::Lose => {
                self.kept.clear();
                if self.settings.ships {
                    self.work(&Work::Ship).1.unwrap();
                    self.disk = SimFs::new();
                    self.lost += 1;
                }
                self.store = None;
                self.store = Some(self.open());
            }
            Op::Advance(by) => {
                let by = Duration::from_nanos(by.cast_unsigned());
                self.clock.advance(by);
            }
            Op::Keep => {
                let snapshot = self.store().snapshot();
                self.kept.push((snapshot, self.expected(&self.model)));
            }
            Op::Read => {}
        }
        let found = seen(&self.store().snapshot());
        assert_eq!(found, self.expected(&self.model), "after {op:?}");
    }

    fn check_backup(&self) {
        let copy = TraceStore::builder(Path::new(&format!("backup{}", self.backups)))
            .config(self.config.clone())
            .fs(Arc::new(self.disk.clone()))
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .shared(Shared::without_workers())
            .open()
            .unwrap();
        assert_eq!(seen(&copy.snapshot()), self.expected(&self.model));
    }

    fn finish(&self) {
        for (snapshot, expected) in &self.kept {
            assert_eq!(seen(snapshot), *expected, "a snapshot that was kept");
        }
        let store = self.store();
        store.compact().unwrap();
        assert_eq!(seen(&store.snapshot()), self.expected(&self.model));
        let report = store.verify();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        if self.settings.ships {
            // Those that an earlier process asked for stay for a day.
            self.clock.advance(Duration::from_secs(24 * 3_600));
            store.compact().unwrap();
        }
        assert!(store.deletes().is_empty());
    }
}

impl Model {
    fn delete(&mut self, number: &Result<u64>, concerns: impl Fn(&Copy) -> bool) {
        // One that failed and is there after all has a number that nobody knows.
        let number = *number.as_ref().unwrap_or(&u64::MAX);
        for copy in self.copies.iter_mut().filter(|copy| concerns(copy)) {
            copy.hidden_by.push(number);
        }
        self.deletes.push(number);
    }

    /// Lets a delete that nobody knows the number of be for ever.
    fn forget_failed(&mut self, store: &TraceStore) {
        self.deletes.retain(|number| *number != u64::MAX);
        if let Some(last) = store.deletes().last() {
            let named = |number: &mut u64| {
                if *number == u64::MAX {
                    *number = last.number;
                }
            };
            let copies = self.copies.iter_mut();
            copies.for_each(|copy| copy.hidden_by.iter_mut().for_each(named));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_store_is_a_map(settings in settings(), ops in prop::collection::vec(op(), 1..40)) {
        let mut run = Run::new(settings);
        for op in &ops {
            run.step(op);
        }
        run.finish();
    }
}
