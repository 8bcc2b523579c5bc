//! Random operations against a naive model: a list of what was appended and of what was deleted.
//!
//! `TRINE_CASES` asks for more sequences than `cargo test` runs (`CONTRIBUTING.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use trine_logstore::{Config, Durability, LineFilter, LogStore, RetentionRule, Rows, Tail, Volume};
use trine_storage::clock::{Clock, ManualClock};
use trine_storage::depot::Role;
use trine_storage::sim::{Crash, MemoryBucket, SimFs};
use trine_storage::{Kind, Labels, MatchOp, Matcher, Result, TimeRange};

use crate::store::{self, Entry};

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
/// Timestamps lie so far apart, so that blocks hold few of them.
const SLOT: i64 = HOUR / 2;
/// Slots of which operations choose; the last ones lie ahead of the clock.
const SLOTS: i64 = 76;
const STREAMS: u8 = 5;
/// How long streams are kept that no rule is for, those of `b` and those of `c`.
const KEPT: [i64; 3] = [30 * HOUR, 10 * HOUR, 34 * HOUR];
const FUTURE: i64 = 10 * MINUTE;
const DELETE_DELAY: i64 = 40 * MINUTE;

/// The sequences that are run without being told otherwise.
const CASES: u32 = 200;

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
    ships: bool,
}

/// Which entries are looked for or deleted.
#[derive(Debug, Clone)]
struct Choice {
    op: MatchOp,
    app: String,
    start: i64,
    len: i64,
    lines: Vec<LineFilter>,
}

/// A stream, a slot, a line, and whether it has metadata.
type Row = (u8, i64, u8, bool);

#[derive(Debug, Clone)]
enum Work {
    Append(Vec<Row>),
    /// So many entries of one stream at one instant or a second apart, with long lines or not.
    Burst(u8, i64, usize, bool, bool),
    Delete(Choice),
    Cancel(usize),
    Flush,
    Compact,
    Maintain,
    Backup,
    /// What follows does nothing where nothing is shipped.
    Ship,
    Evict,
}

#[derive(Debug, Clone)]
enum Op {
    Work(Work),
    /// The work is cut after so many operations of the disk, then the process or the power fails.
    Cut(Work, u64, bool, u64),
    Crash(bool, u64),
    Reopen,
    Advance(i64),
    Read(Choice),
}

fn choice() -> impl Strategy<Value = Choice> {
    let op = prop_oneof![
        Just(MatchOp::Match),
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::NotMatch),
    ];
    let filter = ("[xyz0-3]{0,2}", any::<bool>()).prop_map(|(text, contains)| {
        let text = Bytes::from(text);
        if contains {
            LineFilter::Contains(text)
        } else {
            LineFilter::NotContains(text)
        }
    });
    let lines = prop_oneof![
        2 => Just(vec![]),
        1 => prop::collection::vec(filter, 1..3),
    ];
    (op, "[a-e|.]{1,3}", 0..SLOTS, 0..SLOTS, lines).prop_map(|(op, app, start, len, lines)| {
        Choice {
            op,
            app,
            start,
            len,
            lines,
        }
    })
}

fn work() -> impl Strategy<Value = Work> {
    let rows = prop::collection::vec((0..STREAMS, 0..SLOTS, 0..12u8, any::<bool>()), 1..12);
    let burst = (
        0..STREAMS,
        0..SLOTS,
        1..40usize,
        any::<bool>(),
        any::<bool>(),
    );
    prop_oneof![
        9 => rows.prop_map(Work::Append),
        1 => burst.prop_map(|(s, at, n, one, long)| Work::Burst(s, at, n, one, long)),
        2 => choice().prop_map(Work::Delete),
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
    let minutes = prop_oneof![0..60i64, 100..400i64, 1_000..2_000i64];
    prop_oneof![
        20 => work().prop_map(Op::Work),
        3 => (work(), 0..40u64, any::<bool>(), any::<u64>())
            .prop_map(|(work, after, power, seed)| Op::Cut(work, after, power, seed)),
        1 => (any::<bool>(), any::<u64>()).prop_map(|(power, seed)| Op::Crash(power, seed)),
        2 => Just(Op::Reopen),
        3 => minutes.prop_map(Op::Advance),
        6 => choice().prop_map(Op::Read),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    any::<[bool; 6]>().prop_map(
        |[
            retention,
            rules,
            few_ranges,
            small_segments,
            small_blocks,
            ships,
        ]| Settings {
            retention,
            rules,
            few_ranges,
            small_segments,
            small_blocks,
            ships,
        },
    )
}

fn app(stream: u8) -> String {
    char::from(b'a' + stream).to_string()
}

fn stream(number: u8) -> Labels {
    let even = (number % 2).to_string();
    store::labels(&[("app", &app(number)), ("even", &even)])
}

fn contains(line: &[u8], literal: &[u8]) -> bool {
    literal.is_empty() || line.windows(literal.len()).any(|window| window == literal)
}

/// A delete as the store was told of it.
#[derive(Debug, Clone)]
struct Deleted {
    number: u64,
    matcher: Matcher,
    lines: Vec<LineFilter>,
    range: TimeRange,
    /// How many entries had been appended.
    after: usize,
}

fn is_chosen(entry: &Entry, matcher: &Matcher, lines: &[LineFilter], range: TimeRange) -> bool {
    let satisfied = |filter: &LineFilter| match filter {
        LineFilter::Contains(literal) => contains(&entry.line, literal),
        LineFilter::NotContains(literal) => !contains(&entry.line, literal),
        other => panic!("{other} is not asked here"),
    };
    matcher.matches_labels(&entry.stream)
        && range.contains(entry.timestamp)
        && lines.iter().all(satisfied)
}

type Key = (i64, Labels, Vec<u8>, Labels);

fn key(entry: &Entry) -> Key {
    let Entry {
        stream,
        timestamp,
        line,
        metadata,
    } = entry.clone();
    (timestamp, stream, line, metadata)
}

fn shown(key: &Key) -> String {
    let line: Vec<u8> = key.2.iter().take(12).copied().collect();
    let (at, stream, metadata) = (key.0, &key.1, &key.3);
    format!(
        "{at} {stream} {}+{} {metadata}",
        String::from_utf8_lossy(&line),
        key.2.len()
    )
}

#[derive(Debug, Default, Clone)]
struct Model {
    /// In the order of appending.
    appended: Vec<Entry>,
    deletes: Vec<Deleted>,
}

impl Model {
    /// The entries that are to be seen, and how often each was appended.
    fn all(&self, oldest: impl Fn(&Labels) -> i64) -> BTreeMap<Key, usize> {
        let mut all = BTreeMap::new();
        for (at, entry) in self.appended.iter().enumerate() {
            let deleted = self.deletes.iter().any(|delete| {
                at < delete.after && is_chosen(entry, &delete.matcher, &delete.lines, delete.range)
            });
            if !deleted && entry.timestamp >= oldest(&entry.stream) {
                *all.entry(key(entry)).or_default() += 1;
            }
        }
        all
    }
}

/// A store and what it should hold.
struct Run {
    settings: Settings,
    clock: Arc<ManualClock>,
    fs: SimFs,
    bucket: MemoryBucket,
    store: Option<LogStore>,
    tail: Option<Tail>,
    model: Model,
    backups: u32,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let mut run = Self {
            settings,
            clock: store::clock(),
            fs: SimFs::new(),
            bucket: MemoryBucket::new(),
            store: None,
            tail: None,
            model: Model::default(),
            backups: 0,
        };
        run.reopen();
        run
    }

    fn config(&self) -> Config {
        let time = |ns: i64| Duration::from_nanos(ns as u64);
        let rule = |app: &str, keep, priority| RetentionRule {
            matchers: vec![Matcher::equal("app", app)],
            keep: Some(time(keep)),
            priority,
        };
        let mut config = Config {
            retention: self.settings.retention.then(|| time(KEPT[0])),
            future_max: Some(time(FUTURE)),
            delete_delay: time(DELETE_DELAY),
            ..Config::default()
        };
        if self.settings.rules {
            config.retention_rules = vec![rule("b", KEPT[1], 1), rule("c", KEPT[2], 2)];
        }
        if self.settings.few_ranges {
            config.block_ranges_max = 3;
        }
        if self.settings.small_segments {
            config.wal.segment_bytes = 200;
        }
        if self.settings.small_blocks {
            config.compacted_bytes_max = 4_000;
        }
        config
    }

    fn open(&self, fs: &SimFs, path: &str) -> LogStore {
        store::open_at(fs, path, &self.clock, self.config()).unwrap()
    }

    fn store(&self) -> &LogStore {
        self.store.as_ref().unwrap()
    }

    fn now(&self) -> i64 {
        self.clock.now_ns()
    }

    /// The oldest timestamp that is kept of a stream.
    fn oldest(&self, labels: &Labels) -> i64 {
        let kept = match labels.get("app") {
            Some("b") if self.settings.rules => KEPT[1],
            Some("c") if self.settings.rules => KEPT[2],
            _ if self.settings.retention => KEPT[0],
            _ => return i64::MIN,
        };
        self.now() - kept
    }

    fn is_taken(&self, entry: &Entry) -> bool {
        let longest = match (self.settings.retention, self.settings.rules) {
            (true, true) => self.now() - KEPT[2],
            (true, false) => self.now() - KEPT[0],
            (false, _) => i64::MIN,
        };
        (longest..=self.now() + FUTURE).contains(&entry.timestamp)
    }

    fn at(&self, slot: i64) -> i64 {
        let first = self.now() - self.now() % SLOT - (SLOTS - 2) * SLOT;
        first + slot * SLOT
    }

    fn range(&self, choice: &Choice) -> TimeRange {
        TimeRange::new(self.at(choice.start), self.at(choice.start + choice.len))
    }

    fn matcher(choice: &Choice) -> Option<Matcher> {
        Matcher::new(choice.op, "app", choice.app.as_str()).ok()
    }

    fn entries(&self, work: &Work) -> Vec<Entry> {
        let entry = |number: u8, timestamp, line: String, metadata: bool| Entry {
            stream: stream(number),
            timestamp,
            line: line.into_bytes(),
            metadata: match metadata {
                true => store::labels(&[("k", &(number % 3).to_string())]),
                false => Labels::empty(),
            },
        };
        match work {
            Work::Append(rows) => {
                let line = |n: u8| ["x", "xy", "yz", ""][(n / 3) as usize].to_owned();
                let entry = |&(number, slot, n, metadata): &Row| {
                    let line = line(n) + &(n % 3).to_string();
                    entry(number, self.at(slot), line, metadata)
                };
                rows.iter().map(entry).collect()
            }
            Work::Burst(number, slot, count, one, long) => {
                let step = if *one { 0 } else { 1_000_000_000 };
                let pad = if *long { 20 << 10 } else { 3 };
                let entry = |n: usize| {
                    let line = format!("{n} {}", "z".repeat(pad));
                    let at = self.at(*slot) + n as i64 * step;
                    entry(*number, at, line, n.is_multiple_of(2))
                };
                (0..*count).map(entry).collect()
            }
            _ => Vec::new(),
        }
    }

    fn append(&mut self, work: &Work) -> Result<()> {
        let entries = self.entries(work);
        let mut appender = self.store().appender();
        for entry in &entries {
            appender.append(&entry.stream, entry.timestamp, &entry.line, &entry.metadata);
        }
        let told = appender.commit(Durability::Synced)?.wait()?;
        let taken: Vec<Entry> = entries
            .iter()
            .filter(|e| self.is_taken(e))
            .cloned()
            .collect();
        let rejected: u64 = told.rejected.iter().map(|r| r.count).sum();
        assert_eq!(
            (told.stored, told.stored + rejected),
            (taken.len() as u64, entries.len() as u64),
            "{told:?}"
        );
        let tailed = self.tail.as_ref().unwrap().try_recv().unwrap();
        let tailed = tailed.unwrap_or_default();
        let of_tail = |e: &&Entry| e.stream.get("even") == Some("0") && contains(&e.line, b"x");
        let expected: Vec<Entry> = taken.iter().filter(of_tail).cloned().collect();
        let rows: Vec<Entry> = tailed.rows.iter().flat_map(store::entries).collect();
        assert_eq!(rows, expected);
        assert_eq!((tailed.dropped, tailed.first_dropped), (0, Vec::new()));
        self.model.appended.extend(taken);
        Ok(())
    }

    fn deleted(&self, choice: &Choice, number: u64) -> Option<Deleted> {
        Some(Deleted {
            number,
            matcher: Self::matcher(choice)?,
            lines: choice.lines.clone(),
            range: self.range(choice),
            after: self.model.appended.len(),
        })
    }

    fn work(&mut self, work: &Work) -> Result<()> {
        match work {
            Work::Append(_) | Work::Burst(..) => self.append(work)?,
            Work::Delete(choice) => {
                let Some(deleted) = self.deleted(choice, 0) else {
                    return Ok(());
                };
                let matchers = std::slice::from_ref(&deleted.matcher);
                let number = self
                    .store()
                    .delete(matchers, &deleted.lines, deleted.range)?;
                self.model.deletes.push(Deleted { number, ..deleted });
            }
            Work::Cancel(which) => {
                let deletes = self.store().deletes();
                let Some(delete) = deletes.get(*which) else {
                    return Ok(());
                };
                match self.store().cancel_delete(delete.number) {
                    Ok(()) => {
                        assert!(delete.cancellable);
                        self.model
                            .deletes
                            .retain(|held| held.number != delete.number);
                    }
                    Err(error) if error.kind() == Kind::Invalid => assert!(!delete.cancellable),
                    Err(error) => return Err(error),
                }
            }
            Work::Flush => self.store().flush()?,
            Work::Compact => {
                self.store().compact()?;
                let stats = self.store().stats();
                assert_eq!(stats.sealed_blocks, 0);
                // Of a bucket a delete that an earlier process asked for stays for a day.
                assert!(stats.deletes == 0 || self.settings.ships);
            }
            Work::Maintain => self.store().maintain()?,
            Work::Backup => self.back_up()?,
            Work::Ship if self.settings.ships => self.ship()?,
            Work::Evict if self.settings.ships => {
                self.bucket.set_copies_max(Some(0));
                self.clock.advance(Duration::from_secs(11));
                let evicted = self.store().maintain();
                self.bucket.set_copies_max(None);
                evicted?;
            }
            Work::Ship | Work::Evict => {}
        }
        Ok(())
    }

    /// Ships, and looks what is on an empty disk then.
    fn ship(&self) -> Result<()> {
        self.store().ship()?;
        let stats = self.store().stats();
        assert_eq!(
            (stats.unshipped_blocks, stats.unshipped_since_ms),
            (0, None)
        );
        let depot = self.bucket.depot("reader");
        depot.set_role(Role::ReadOnly);
        let reader = store::open_with(&SimFs::new(), &self.clock, self.config(), depot)?;
        self.check(&reader, None);
        assert_eq!(reader.stats().deletes, self.store().stats().deletes);
        Ok(())
    }

    fn back_up(&mut self) -> Result<()> {
        self.backups += 1;
        let path = format!("/copy{}", self.backups);
        self.store().backup(&path)?;
        // On a disk of its own: what becomes of the copy does not concern the store.
        let copy = self.open(&self.fs.crash(Crash::Process, 0), &path);
        self.check(&copy, None);
        assert!(copy.verify().errors.is_empty());
        copy.compact().unwrap();
        self.check(&copy, None);
        Ok(())
    }

    /// What is wrong with the answer to a request, if anything.
    fn differs(&self, store: &LogStore, model: &Model, choice: Option<&Choice>) -> Option<String> {
        let mut expected = model.all(|labels| self.oldest(labels));
        let mut request = store::everything();
        if let Some(choice) = choice {
            let matcher = Self::matcher(choice)?;
            request = Rows {
                lines: choice.lines.clone(),
                ..Rows::new(vec![matcher.clone()], self.range(choice))
            };
            expected.retain(|(timestamp, stream, line, metadata), _| {
                let entry = Entry {
                    stream: stream.clone(),
                    timestamp: *timestamp,
                    line: line.clone(),
                    metadata: metadata.clone(),
                };
                is_chosen(&entry, &matcher, &choice.lines, request.range)
            });
        }
        let mut found = BTreeMap::new();
        let mut last = None;
        for entry in store::rows(store, request).unwrap() {
            let place = Some((entry.timestamp, entry.stream.clone()));
            if last > place {
                return Some(format!("{place:?} comes after {last:?}"));
            }
            last = place;
            *found.entry(key(&entry)).or_insert(0) += 1;
        }
        for (key, times) in &found {
            // However often it was sent.
            let most = usize::from(expected.contains_key(key));
            if *times > most {
                return Some(format!("{} is there {times} times, not {most}", shown(key)));
            }
        }
        let missing = expected.keys().find(|key| !found.contains_key(*key));
        missing.map(|key| format!("{} is missing", shown(key)))
    }

    /// Volumes and metadata of what is chosen; lines have no say there.
    fn check_figures(&self, choice: &Choice) {
        let Some(matcher) = Self::matcher(choice) else {
            return;
        };
        let range = self.range(choice);
        let mut all = self.model.all(|labels| self.oldest(labels));
        all.retain(|(at, stream, ..), _| range.contains(*at) && matcher.matches_labels(stream));
        let snapshot = self.store().snapshot();
        let matchers = [matcher];
        let mut sums: BTreeMap<&Labels, (u64, u64)> = BTreeMap::new();
        for (_, stream, line, _) in all.keys() {
            let sums = sums.entry(stream).or_default();
            *sums = (sums.0 + 1, sums.1 + line.len() as u64);
        }
        let volume = |(labels, (entries, bytes)): (&Labels, _)| Volume {
            labels: labels.clone(),
            entries,
            bytes,
        };
        let expected: Vec<Volume> = sums.into_iter().map(volume).collect();
        assert_eq!(snapshot.volume(&matchers, range).unwrap(), expected);
        let totals = snapshot.totals(&matchers, range).unwrap();
        assert_eq!(totals.streams, expected.len() as u64);
        let entries: u64 = expected.iter().map(|volume| volume.entries).sum();
        assert_eq!(totals.entries, entries);
        assert_eq!(
            totals.bytes,
            expected.iter().map(|volume| volume.bytes).sum::<u64>()
        );
        assert!(totals.chunks > 0 || entries == 0);
        let sets = all.keys().map(|(.., metadata)| metadata);
        let values: BTreeSet<String> = sets
            .filter_map(|set| Some(set.get("k")?.to_owned()))
            .collect();
        let names: &[&str] = if values.is_empty() { &[] } else { &["k"] };
        let found = snapshot.field_names(&matchers, range, 10).unwrap();
        assert!(
            found.texts == names && !found.truncated,
            "{found:?} {names:?}"
        );
        let found = snapshot.field_values("k", &matchers, range, 10).unwrap();
        assert!(found.texts.iter().eq(&values), "{found:?} {values:?}");
        let found = snapshot.field_values("k", &matchers, range, 1).unwrap();
        let is_one = found.texts.len() == values.len().min(1);
        assert!(
            is_one && found.truncated == (values.len() > 1),
            "{found:?} {values:?}"
        );
    }

    fn check(&self, store: &LogStore, choice: Option<&Choice>) {
        assert_eq!(self.differs(store, &self.model, choice), None, "{choice:?}");
    }

    fn reopen(&mut self) {
        self.store = None;
        if let Some(tail) = self.tail.take() {
            assert_eq!(tail.try_recv().unwrap_err().kind(), Kind::Closed);
        }
        let store = match self.settings.ships {
            true => {
                let depot = self.bucket.depot("store");
                store::open_with(&self.fs, &self.clock, self.config(), depot).unwrap()
            }
            false => self.open(&self.fs, "/store"),
        };
        let stats = store.stats();
        assert!(stats.damaged.is_empty(), "{:?}", stats.damaged);
        let lines = [LineFilter::Contains(Bytes::from("x"))];
        let tail = store.tail(&[Matcher::equal("even", "0")], &lines, 1_000);
        self.tail = Some(tail.unwrap());
        self.store = Some(store);
    }

    fn crash(&mut self, power: bool, seed: u64) {
        let how = if power { Crash::Power } else { Crash::Process };
        self.fs = self.fs.crash(how, seed);
        self.tail = None;
        self.reopen();
    }

    /// Work that is cut: it was done or it was not, and nothing in between.
    fn cut(&mut self, work: &Work, after: u64, power: bool, seed: u64) {
        let before = self.model.clone();
        let listed = self.store().deletes();
        self.fs.cut_after(self.fs.operations() + after);
        let done = self.work(work);
        let mut possible = vec![self.model.clone()];
        if done.is_err() {
            let mut with = before.clone();
            match work {
                Work::Delete(choice) => with.deletes.extend(self.deleted(choice, 0)),
                Work::Append(_) | Work::Burst(..) => {
                    let entries = self.entries(work).into_iter();
                    with.appended.extend(entries.filter(|e| self.is_taken(e)));
                }
                Work::Cancel(which) => {
                    let cancelled = listed.get(*which).map_or(0, |delete| delete.number);
                    with.deletes.retain(|held| held.number != cancelled);
                }
                _ => {}
            }
            possible = vec![before, with];
        }
        self.crash(power, seed);
        if let Some(last) = self.store().deletes().last() {
            for model in &mut possible {
                let unnamed = model.deletes.iter_mut().filter(|held| held.number == 0);
                unnamed.for_each(|held| held.number = last.number);
            }
        }
        let mut wrong = Vec::new();
        for model in possible {
            match self.differs(self.store(), &model, None) {
                None => {
                    self.model = model;
                    return;
                }
                Some(differs) => wrong.push(differs),
            }
        }
        panic!("{work:?} cut after {after} ({done:?}): {wrong:?}");
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Work(work) => self.work(work).unwrap(),
            Op::Cut(work, after, power, seed) => self.cut(work, *after, *power, *seed),
            Op::Crash(power, seed) => self.crash(*power, *seed),
            Op::Reopen => self.reopen(),
            Op::Advance(minutes) => {
                self.clock
                    .advance(Duration::from_secs(*minutes as u64 * 60));
            }
            Op::Read(choice) => {
                self.check(self.store(), Some(choice));
                self.check_figures(choice);
            }
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
        run.check(run.store(), None);
        run.reopen();
        run.check(run.store(), None);
        run.work(&Work::Compact).unwrap();
        run.check(run.store(), None);
        prop_assert!(run.store().verify().errors.is_empty());
    }
}
