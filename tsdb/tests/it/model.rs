//! Random operations against a naive model: a map of series and timestamp to value.
//!
//! `TRINE_CASES` asks for more sequences than `cargo test` runs (`CONTRIBUTING.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trine_storage::clock::{Clock, ManualClock};
use trine_storage::depot::Role;
use trine_storage::shared::Shared;
use trine_storage::sim::{Crash, MemoryBucket, SimFs};
use trine_storage::{Error, Labels, MatchOp, Matcher, Result, TimeRange};
use trine_tsdb::{Accepted, Builder, Config, Durability, Reason, SeriesRef, Tsdb, Value};

use crate::disk::{self, Answer};
use crate::store::{clock, labels};

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
/// Timestamps lie so far apart, so that blocks hold few of them.
const SLOT: i64 = HOUR / 2;
/// Slots of which operations choose; the last ones lie ahead of the clock.
const SLOTS: i64 = 76;
const SERIES: u8 = 6;
const RETENTION: i64 = 30 * HOUR;
const LATE: i64 = 20 * HOUR;
const FUTURE: i64 = 10 * MINUTE;
/// The widest windows under this retention have the width of the smallest.
const WINDOW: i64 = 2 * HOUR;

/// The sequences that are run without being told otherwise.
const CASES: u32 = 400;

fn cases() -> u32 {
    let cases = std::env::var("TRINE_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

#[derive(Debug, Clone)]
struct Settings {
    /// Timestamps are old, so that every window is closed; nothing is refused.
    past: bool,
    retention: bool,
    late: bool,
    few_ranges: bool,
    small_segments: bool,
    small_log: bool,
    cut_early: bool,
    ships: bool,
}

/// Where samples or labels are looked for or deleted.
#[derive(Debug, Clone)]
struct Choice {
    op: MatchOp,
    series: String,
    start: i64,
    len: i64,
}

#[derive(Debug, Clone)]
enum Work {
    Append(Vec<(u8, i64, u8)>),
    /// So many samples seconds apart, from the first to the last or the other way round.
    Burst(u8, i64, i64, i64, bool),
    Reference(u8, i64, u8),
    Delete(Choice),
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
    Labels(Choice),
}

fn choice() -> impl Strategy<Value = Choice> {
    let op = prop_oneof![
        Just(MatchOp::Match),
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::NotMatch),
    ];
    (op, "[a-f|.]{1,3}", 0..SLOTS, 0..SLOTS).prop_map(|(op, series, start, len)| Choice {
        op,
        series,
        start,
        len,
    })
}

fn work() -> impl Strategy<Value = Work> {
    let rows = prop::collection::vec((0..SERIES, 0..SLOTS, 0..7u8), 1..12);
    let burst = (0..SERIES, 0..SLOTS, 1..90i64, 2..400i64, any::<bool>());
    prop_oneof![
        8 => rows.prop_map(Work::Append),
        1 => burst.prop_map(|(s, at, step, n, back)| Work::Burst(s, at, step, n, back)),
        1 => (0..SERIES, 0..SLOTS, 0..7u8).prop_map(|(s, at, v)| Work::Reference(s, at, v)),
        2 => choice().prop_map(Work::Delete),
        3 => Just(Work::Flush),
        3 => Just(Work::Compact),
        3 => Just(Work::Maintain),
        1 => Just(Work::Backup),
        3 => Just(Work::Ship),
        2 => Just(Work::Evict),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let minutes = prop_oneof![0..30i64, 100..400i64, 1_000..3_000i64];
    prop_oneof![
        20 => work().prop_map(Op::Work),
        3 => (work(), 0..40u64, any::<bool>(), any::<u64>())
            .prop_map(|(work, after, power, seed)| Op::Cut(work, after, power, seed)),
        1 => (any::<bool>(), any::<u64>()).prop_map(|(power, seed)| Op::Crash(power, seed)),
        2 => Just(Op::Reopen),
        3 => minutes.prop_map(Op::Advance),
        7 => choice().prop_map(Op::Read),
        2 => choice().prop_map(Op::Labels),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    any::<[bool; 8]>().prop_map(
        |[
            past,
            kept,
            late,
            few_ranges,
            small_segments,
            small_log,
            cut_early,
            ships,
        ]| Settings {
            past,
            retention: kept && !past,
            late: late && !past,
            few_ranges,
            small_segments,
            small_log,
            cut_early,
            ships,
        },
    )
}

fn name(series: u8) -> String {
    char::from(b'a' + series).to_string()
}

fn series(name: &str) -> Labels {
    labels(&format!("n={name},even={}", name.as_bytes()[0] % 2))
}

fn bits(value: u8) -> u64 {
    match value {
        0 => 0x7ff0_0000_0000_0002,
        1 => (-0.0f64).to_bits(),
        2 => 0.1f64.to_bits(),
        _ => f64::from(value).to_bits(),
    }
}

type Samples = BTreeMap<(String, i64), u64>;

/// What is stored: sealed samples may be replaced, those in memory not.
#[derive(Debug, Default, Clone)]
struct Model {
    sealed: Samples,
    memory: Samples,
    /// Every value that was ever sent: of samples that the retention no longer keeps an earlier one
    /// may be seen again.
    sent: BTreeSet<(String, i64, u64)>,
}

impl Model {
    fn seal(&mut self) {
        self.sealed.append(&mut self.memory);
    }

    /// Gives how many are refused because memory holds another value.
    fn append(&mut self, rows: &[(String, i64, u64)]) -> u64 {
        let mut refused = 0;
        for (name, timestamp, bits) in rows {
            let key = (name.clone(), *timestamp);
            let held = *self.memory.entry(key).or_insert(*bits);
            refused += u64::from(held != *bits);
            self.sent.insert((name.clone(), *timestamp, *bits));
        }
        refused
    }

    fn delete(&mut self, matcher: &Matcher, range: TimeRange) {
        self.seal();
        let deleted = |name: &str, t: i64| matcher.matches(name) && range.contains(t);
        self.sealed.retain(|(name, t), _| !deleted(name, *t));
    }

    /// The value of each sample.
    fn all(&self) -> Samples {
        let mut all = self.sealed.clone();
        all.extend(self.memory.clone());
        all
    }

    /// What is wrong with an answer about the samples of `range` that satisfy `matcher`; those
    /// before `oldest` may be gone.
    fn differs(
        &self,
        answer: &Answer,
        matcher: Option<&Matcher>,
        range: TimeRange,
        oldest: i64,
    ) -> Option<String> {
        let mut expected = self.all();
        expected.retain(|(name, t), _| {
            range.contains(*t) && matcher.is_none_or(|matcher| matcher.matches(name))
        });
        let mut last = None;
        for (text, samples) in answer {
            let found = (0..SERIES)
                .map(name)
                .find(|n| series(n).to_string() == *text);
            let Some(name) = found else {
                return Some(format!("{text} was never sent"));
            };
            for (timestamp, bits) in samples {
                let next = Some((text.clone(), *timestamp));
                if last >= next {
                    return Some(format!("{next:?} is out of order"));
                }
                last = next;
                let held = expected.remove(&(name.clone(), *timestamp));
                let sent = self.sent.contains(&(name.clone(), *timestamp, *bits));
                let right = held == Some(*bits) || held.is_some() && *timestamp < oldest && sent;
                if !right {
                    let what = f64::from_bits(*bits);
                    return Some(format!("{name} {timestamp}={what} should be {held:?}"));
                }
            }
        }
        expected.retain(|(_, timestamp), _| *timestamp >= oldest);
        (!expected.is_empty()).then(|| format!("missing: {expected:?}"))
    }
}

/// A store and what it should hold.
struct Run {
    settings: Settings,
    clock: Arc<ManualClock>,
    fs: SimFs,
    bucket: MemoryBucket,
    db: Option<Tsdb>,
    model: Model,
    references: BTreeMap<u8, SeriesRef>,
    backups: u32,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let mut run = Self {
            settings,
            clock: clock(),
            fs: SimFs::new(),
            bucket: MemoryBucket::new(),
            db: None,
            model: Model::default(),
            references: BTreeMap::new(),
            backups: 0,
        };
        run.db = Some(run.open_own());
        run
    }

    fn config(&self) -> Config {
        let time = |ms: i64| Duration::from_millis(ms as u64);
        let mut config = Config {
            retention: self.settings.retention.then(|| time(RETENTION)),
            out_of_order_window: self.settings.late.then(|| time(LATE)),
            future_max: Some(time(FUTURE)),
            ..Config::default()
        };
        if self.settings.few_ranges {
            config.block_ranges_max = 3;
        }
        if self.settings.small_segments {
            config.wal.segment_bytes = 200;
        }
        if self.settings.small_log {
            config.wal_bytes_max = 700;
        }
        if self.settings.cut_early {
            config.cut_age = Some(Duration::from_secs(20 * 60));
        }
        config
    }

    fn open(&self, fs: &SimFs, path: &str) -> Tsdb {
        self.builder(fs, path).open().unwrap()
    }

    fn builder(&self, fs: &SimFs, path: &str) -> Builder {
        let builder = Tsdb::builder(Path::new(path)).config(self.config());
        let builder = builder
            .fs(Arc::new(fs.clone()))
            .clock(Arc::clone(&self.clock) as _);
        builder.shared(Shared::without_workers())
    }

    fn open_own(&self) -> Tsdb {
        match self.settings.ships {
            true => {
                let builder = self.builder(&self.fs, "store");
                builder.depot(self.bucket.depot("store")).open().unwrap()
            }
            false => self.open(&self.fs, "store"),
        }
    }

    /// Ships, and looks what is on an empty disk then.
    fn ship(&mut self) -> Result<()> {
        self.db().ship()?;
        self.model.seal();
        let stats = self.db().stats();
        assert_eq!(
            (stats.unshipped_blocks, stats.unshipped_since_ms),
            (0, None)
        );
        let depot = self.bucket.depot("reader");
        depot.set_role(Role::ReadOnly);
        let builder = self.builder(&SimFs::new(), "store").depot(depot);
        self.check(&builder.open()?, None, TimeRange::ALL);
        Ok(())
    }

    fn db(&self) -> &Tsdb {
        self.db.as_ref().unwrap()
    }

    fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The oldest timestamp that must be kept.
    fn oldest(&self) -> i64 {
        match self.settings.retention {
            true => self.now() - RETENTION,
            false => i64::MIN,
        }
    }

    fn bounds(&self) -> RangeInclusive<i64> {
        let late = if self.settings.late {
            self.now() - LATE
        } else {
            i64::MIN
        };
        late.max(self.oldest())..=self.now() + FUTURE
    }

    fn at(&self, slot: i64) -> i64 {
        let first = match self.settings.past {
            true => 0,
            false => self.now() - self.now() % SLOT - (SLOTS - 2) * SLOT,
        };
        first + slot * SLOT
    }

    fn range(&self, choice: &Choice) -> TimeRange {
        TimeRange::new(self.at(choice.start), self.at(choice.start + choice.len))
    }

    fn matcher(choice: &Choice) -> Option<Matcher> {
        Matcher::new(choice.op, "n", choice.series.as_str()).ok()
    }

    /// Appends rows, and says what the store said and how many the model refuses.
    fn append(
        &mut self,
        rows: &[(String, i64, u64)],
        reference: Option<SeriesRef>,
    ) -> Result<(Accepted, u64)> {
        let bounds = self.bounds();
        let inside = |row: &&(String, i64, u64)| bounds.contains(&row.1);
        let taken: Vec<_> = rows.iter().filter(inside).cloned().collect();
        // A log that is full is sealed first.
        let full = self.db().stats().wal.bytes >= self.config().wal_bytes_max;
        let mut appender = self.db().appender();
        for (name, timestamp, bits) in rows {
            let value = Value::Float(f64::from_bits(*bits));
            match reference {
                Some(reference) => appender.append_reference(reference, *timestamp, value),
                None => appender.append(&series(name), *timestamp, value),
            }
        }
        let told = appender.commit(Durability::Synced)?.wait()?;
        if full && !taken.is_empty() {
            self.model.seal();
        }
        let mut refused = (rows.len() - taken.len()) as u64;
        let ended = told
            .rejected
            .iter()
            .find(|r| r.reason == Reason::UnknownReference);
        refused += match ended {
            Some(_) => taken.len() as u64,
            None => self.model.append(&taken),
        };
        Ok((told, refused))
    }

    fn rows(&self, work: &Work) -> Vec<(String, i64, u64)> {
        match work {
            Work::Append(rows) => {
                let row = |(s, slot, v): &(u8, i64, u8)| (name(*s), self.at(*slot), bits(*v));
                rows.iter().map(row).collect()
            }
            Work::Burst(series, slot, step, count, back) => {
                let start = self.at(*slot) + 1;
                let row = |n: i64| (name(*series), start + n * step * 1_000, (n as u64) << 50);
                match back {
                    true => (0..*count).rev().map(row).collect(),
                    false => (0..*count).map(row).collect(),
                }
            }
            Work::Reference(series, slot, value) => {
                vec![(name(*series), self.at(*slot), bits(*value))]
            }
            _ => Vec::new(),
        }
    }

    fn work(&mut self, work: &Work) -> Result<()> {
        match work {
            Work::Append(_) | Work::Burst(..) => {
                let (told, refused) = self.append(&self.rows(work), None)?;
                check_told(&told, refused, self.rows(work).len());
            }
            Work::Reference(number, ..) => {
                let labels = series(&name(*number));
                let now = self.db().reference(&labels);
                let held = self.references.get(number).copied().or(now);
                let Some(held) = held else { return Ok(()) };
                self.references.insert(*number, held);
                let (told, refused) = self.append(&self.rows(work), Some(held))?;
                check_told(&told, refused, 1);
                if told
                    .rejected
                    .iter()
                    .any(|r| r.reason == Reason::UnknownReference)
                {
                    assert_ne!(now, Some(held), "the series is in memory");
                    self.references.remove(number);
                }
            }
            Work::Delete(choice) => {
                let Some(matcher) = Self::matcher(choice) else {
                    return Ok(());
                };
                let range = self.range(choice);
                self.db().delete(std::slice::from_ref(&matcher), range)?;
                self.model.delete(&matcher, range);
            }
            Work::Flush => {
                self.db().flush()?;
                self.model.seal();
            }
            Work::Compact => {
                self.db().compact()?;
                self.model.seal();
                self.check_retention();
            }
            Work::Maintain => {
                self.db().maintain()?;
                if self.db().stats().head_samples == 0 {
                    self.model.seal();
                }
            }
            Work::Backup => self.back_up()?,
            Work::Ship if self.settings.ships => self.ship()?,
            Work::Evict if self.settings.ships => {
                self.bucket.set_copies_max(Some(0));
                self.clock.advance(Duration::from_secs(11));
                let evicted = self.db().maintain();
                self.bucket.set_copies_max(None);
                evicted?;
                if self.db().stats().head_samples == 0 {
                    self.model.seal();
                }
            }
            Work::Ship | Work::Evict => {}
        }
        Ok(())
    }

    /// What is left after everything was cut and merged is not older than a window before the
    /// retention.
    fn check_retention(&self) {
        if self.settings.retention && !self.settings.few_ranges {
            let oldest = self.oldest() - WINDOW;
            let range = TimeRange::new(i64::MIN, oldest);
            let found = disk::answer(self.db(), &[], range).unwrap();
            assert!(
                found.is_empty(),
                "kept for too long, before {oldest}: {found:?}"
            );
        }
    }

    fn back_up(&mut self) -> Result<()> {
        self.backups += 1;
        let path = format!("copy{}", self.backups);
        self.db().backup(&path)?;
        self.model.seal();
        // On a disk of its own: what becomes of the copy does not concern the store.
        let copy = self.open(&self.fs.crash(Crash::Process, 0), &path);
        self.check(&copy, None, TimeRange::ALL);
        assert!(copy.verify().errors.is_empty());
        copy.compact().unwrap();
        self.check(&copy, None, TimeRange::ALL);
        Ok(())
    }

    fn check(&self, db: &Tsdb, matcher: Option<&Matcher>, range: TimeRange) {
        let found = disk::answer(db, matcher.map_or(&[], std::slice::from_ref), range).unwrap();
        let differs = self.model.differs(&found, matcher, range, self.oldest());
        assert_eq!(differs, None, "{matcher:?} {range:?}");
    }

    /// Labels are told of all series that have samples there, and perhaps of others.
    fn check_labels(&self, matcher: &Matcher, range: TimeRange) {
        let mut least = self.model.all();
        least.retain(|(name, t), _| {
            matcher.matches(name) && range.contains(*t) && *t >= self.oldest()
        });
        let least: BTreeSet<String> = least.into_keys().map(|(name, _)| name).collect();
        let most: BTreeSet<String> = self.model.sent.iter().map(|(n, ..)| n.clone()).collect();
        let (snapshot, matchers) = (self.db().snapshot(), std::slice::from_ref(matcher));
        let values = snapshot.label_values("n", matchers, range, None).unwrap();
        let names = snapshot.label_names(matchers, range, None).unwrap();
        let sets = snapshot.series(matchers, range, None).unwrap();
        assert!(values.is_sorted_by(|a, b| a < b) && sets.is_sorted_by(|a, b| a < b));
        let told = sets
            .iter()
            .map(|labels| labels.get("n").unwrap().to_owned());
        for told in [
            values.into_iter().collect(),
            told.collect::<BTreeSet<String>>(),
        ] {
            assert!(
                told.is_superset(&least),
                "{told:?} without all of {least:?}"
            );
            assert!(told.is_subset(&most), "{told:?} beyond {most:?}");
            assert!(told.iter().all(|name| matcher.matches(name)), "{told:?}");
        }
        assert!(least.is_empty() || names == ["even", "n"], "{names:?}");
    }

    fn reopen(&mut self) {
        self.references.clear();
        self.db = None;
        self.db = Some(self.open_own());
        let stats = self.db().stats();
        assert!(stats.damaged.is_empty(), "{:?}", stats.damaged);
    }

    fn crash(&mut self, power: bool, seed: u64) {
        let how = if power { Crash::Power } else { Crash::Process };
        self.fs = self.fs.crash(how, seed);
        self.reopen();
    }

    /// Work that is cut: it was done or it was not, and nothing in between.
    fn cut(&mut self, work: &Work, after: u64, power: bool, seed: u64) {
        let before = self.model.clone();
        self.fs.cut_after(self.fs.operations() + after);
        let done: Option<Error> = self.work(work).err();
        let mut possible = vec![self.model.clone()];
        if done.is_some() {
            possible = vec![before.clone()];
            let mut with = before;
            let full = self.db().stats().wal.bytes >= self.config().wal_bytes_max;
            match work {
                Work::Delete(choice) => {
                    if let Some(matcher) = Self::matcher(choice) {
                        with.delete(&matcher, self.range(choice));
                        possible.push(with);
                    }
                }
                Work::Append(_) | Work::Burst(..) | Work::Reference(..) => {
                    let bounds = self.bounds();
                    let mut rows = self.rows(work);
                    rows.retain(|(_, timestamp, _)| bounds.contains(timestamp));
                    let mut unsealed = with.clone();
                    unsealed.append(&rows);
                    possible.push(unsealed);
                    if full || self.settings.small_log {
                        with.seal();
                        with.append(&rows);
                        possible.push(with);
                    }
                }
                _ => {}
            }
        }
        self.crash(power, seed);
        let found = disk::answer(self.db(), &[], TimeRange::ALL).unwrap();
        let in_memory = self.db().stats().head_samples;
        for model in &mut possible {
            if in_memory == 0 {
                model.seal();
            }
        }
        let mut wrong = Vec::new();
        for model in possible {
            let differs = model.differs(&found, None, TimeRange::ALL, self.oldest());
            if differs.is_none() && in_memory == model.memory.len() as u64 {
                self.model = model;
                return;
            }
            wrong.push((differs, model.memory.len()));
        }
        panic!("{work:?} cut after {after} ({done:?}): {in_memory} in memory, {wrong:?}");
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
                if let Some(matcher) = Self::matcher(choice) {
                    self.check(self.db(), Some(&matcher), self.range(choice));
                }
            }
            Op::Labels(choice) => {
                if let Some(matcher) = Self::matcher(choice) {
                    self.check_labels(&matcher, self.range(choice));
                }
            }
        }
        let in_memory = self.db().stats().head_samples;
        assert_eq!(
            in_memory,
            self.model.memory.len() as u64,
            "in memory after {op:?}"
        );
    }
}

fn check_told(told: &Accepted, refused: u64, rows: usize) {
    let rejected: u64 = told.rejected.iter().map(|r| r.count).sum();
    assert_eq!(
        (rejected, told.stored + rejected),
        (refused, rows as u64),
        "{told:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_store_is_a_map(settings in settings(), ops in prop::collection::vec(op(), 1..40)) {
        let mut run = Run::new(settings);
        for op in &ops {
            run.step(op);
        }
        run.check(run.db(), None, TimeRange::ALL);
        run.reopen();
        run.check(run.db(), None, TimeRange::ALL);
        run.work(&Work::Compact).unwrap();
        run.check(run.db(), None, TimeRange::ALL);
        prop_assert!(run.db().verify().errors.is_empty());
    }
}
