//! Patterns of log lines: which texts come again and again, with what varies left out, and how often.
//! The sink of `ingest::store` notes lines, which are learned when they are stored, after senders heard
//! so; `api::loki::patterns` reads what was learned.
//!
//! Each stream and level of a tenant has a tree of its own (`drain`). Of a tenant that sends much only
//! some lines are looked at, each of which counts for many, so that the work per second is bounded;
//! clusters are counted by tenant and in all, and the one that was not seen for longest makes room.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use trine_logstore::discover::DETECTED_LEVEL;
use trine_storage::{Labels, Matcher, TimeRange};

mod drain;

use drain::Drain;

/// How long counts are kept, in seconds.
const KEPT_S: i64 = 3 * 3600;

/// Width of a count in time, in seconds.
pub const BUCKET_S: i64 = 10;

/// The longest line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 3000;

/// Lines of a tenant that are looked at in one second before fewer of them are: then one of
/// [`STRIDE`], for as many again, and so on.
const LINES_MAX: u64 = 1000;

/// See [`LINES_MAX`].
const STRIDE: u64 = 32;

/// Patterns of one stream and level.
const OF_STREAM_MAX: usize = 300;

/// Patterns of one tenant.
const OF_TENANT_MAX: usize = 2000;

/// Patterns of all tenants.
const IN_ALL_MAX: usize = 10_000;

/// Bytes of lines that one request may have learned; what follows is passed over.
const NOTED_BYTES_MAX: usize = 1 << 20;

/// Bytes of lines of a tenant that wait to be learned; what comes then is passed over.
const WAITING_BYTES_MAX: usize = 4 << 20;

const SECOND_NS: i64 = 1_000_000_000;

/// How many patterns there are in all; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Total(Arc<AtomicUsize>);

/// The patterns of one tenant.
#[derive(Debug, Default)]
pub struct Patterns {
    total: Total,
    throttle: Throttle,
    waiting: Mutex<Waiting>,
    /// Held by the one who learns.
    learning: Mutex<()>,
    held: Mutex<Held>,
}

/// Lines that are stored and not learned yet.
#[derive(Debug, Default)]
struct Waiting {
    noted: VecDeque<Noted>,
    bytes: usize,
}

/// Lines of one request that are to be learned once they are stored.
#[derive(Debug, Default)]
pub struct Noted {
    now_ns: i64,
    text: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    labels: Labels,
    metadata: Labels,
    time_ns: i64,
    weight: u64,
    /// Where it ends in the text.
    end: usize,
}

impl Noted {
    /// No lines, of a request that comes at `now_ns`.
    pub fn at(now_ns: i64) -> Self {
        Self {
            now_ns,
            ..Self::default()
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    streams: HashMap<Labels, BTreeMap<String, Drain>>,
    clusters: usize,
}

/// A pattern and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The text; `<_>` stands for what varies.
    pub text: String,
    /// The level of its lines.
    pub level: String,
    /// Seconds since 1970, and lines from then on for [`BUCKET_S`].
    pub counts: BTreeMap<i64, u64>,
}

impl Patterns {
    /// No patterns, of a tenant among others.
    pub fn new(total: Total) -> Self {
        let mut patterns = Self::default();
        patterns.total = total;
        patterns
    }

    /// Takes note of a line if it is its turn. Its level is in its metadata.
    #[inline]
    pub fn note(
        &self,
        noted: &mut Noted,
        (labels, metadata): (&Labels, &Labels),
        time_ns: i64,
        line: &str,
    ) {
        let weight = self.throttle.weight(noted.now_ns.div_euclid(SECOND_NS));
        if weight == 0 || line.len() > LINE_BYTES_MAX.min(NOTED_BYTES_MAX - noted.text.len()) {
            return;
        }
        noted.text.push_str(line);
        noted.lines.push(Line {
            labels: labels.clone(),
            metadata: metadata.clone(),
            time_ns,
            weight,
            end: noted.text.len(),
        });
    }

    /// Takes lines that are stored. True when nobody is about to learn them: then somebody has to
    /// call [`Patterns::learn_waiting`].
    pub fn take(&self, noted: Noted) -> bool {
        let mut waiting = self.waiting.lock();
        if noted.lines.is_empty() || waiting.bytes + noted.text.len() > WAITING_BYTES_MAX {
            return false;
        }
        waiting.bytes += noted.text.len();
        waiting.noted.push_back(noted);
        waiting.noted.len() == 1
    }

    /// Learns the lines that wait.
    pub fn learn_waiting(&self) {
        let _one = self.learning.lock();
        loop {
            let mut waiting = self.waiting.lock();
            let Some(noted) = waiting.noted.pop_front() else {
                return;
            };
            waiting.bytes -= noted.text.len();
            drop(waiting);
            let mut start = 0;
            for line in &noted.lines {
                let text = noted.text.get(start..line.end).unwrap_or_default();
                let level = line.metadata.get(DETECTED_LEVEL).unwrap_or_default();
                let times = (line.time_ns, noted.now_ns);
                self.learn(&line.labels, level, times, (text, line.weight));
                start = line.end;
            }
        }
    }

    fn learn(
        &self,
        labels: &Labels,
        level: &str,
        (time_ns, now_ns): (i64, i64),
        (line, weight): (&str, u64),
    ) {
        let second = time_ns.div_euclid(SECOND_NS);
        let now = now_ns.div_euclid(SECOND_NS);
        if second < now - KEPT_S || line.trim().is_empty() {
            return;
        }
        let bucket = second.div_euclid(BUCKET_S);
        let mut held = self.held.lock();
        let levels = held.streams.get_mut(labels);
        let drain = levels.and_then(|levels| levels.get_mut(level));
        let mut has_room = false;
        if let Some(drain) = drain {
            if drain.count(line, bucket, weight) {
                return;
            }
            if drain.len() >= OF_STREAM_MAX && drain.forget_oldest() {
                has_room = true;
                self.gone(&mut held, 1);
            }
        }
        let full =
            held.clusters >= OF_TENANT_MAX || self.total.0.load(Ordering::Relaxed) >= IN_ALL_MAX;
        if full && !has_room {
            let gone = held.forget(now);
            if gone == 0 {
                return;
            }
            self.gone(&mut held, gone);
        }
        let levels = held.streams.entry(labels.clone()).or_default();
        let drain = levels.entry(level.to_owned()).or_default();
        drain.learn(line, bucket, weight);
        held.clusters += 1;
        self.total.0.fetch_add(1, Ordering::Relaxed);
    }

    fn gone(&self, held: &mut Held, count: usize) {
        held.clusters = held.clusters.saturating_sub(count);
        self.total.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// The patterns of the streams that satisfy all `matchers` with counts in `range` (nanoseconds),
    /// those of most lines first.
    pub fn find(&self, matchers: &[Matcher], range: TimeRange, now_ns: i64) -> Vec<Pattern> {
        self.learn_waiting();
        let now = now_ns.div_euclid(SECOND_NS);
        let first = range.start.div_euclid(SECOND_NS).max(now - KEPT_S);
        let last = range.end.div_euclid(SECOND_NS);
        let mut found: BTreeMap<(String, String), BTreeMap<i64, u64>> = BTreeMap::new();
        let held = self.held.lock();
        for (labels, levels) in &held.streams {
            if !matchers
                .iter()
                .all(|matcher| matcher.matches_labels(labels))
            {
                continue;
            }
            for (level, drain) in levels {
                for (text, counts) in drain.patterns() {
                    let counts = counts.map(|(bucket, count)| (bucket * BUCKET_S, count));
                    let inside = counts.filter(|(at, _)| *at + BUCKET_S > first && *at <= last);
                    let sums = found.entry((text, level.clone())).or_default();
                    for (at, count) in inside {
                        *sums.entry(at).or_insert(0) += count;
                    }
                }
            }
        }
        drop(held);
        let patterns = found.into_iter().filter(|(_, counts)| !counts.is_empty());
        let mut patterns: Vec<Pattern> = patterns
            .map(|((text, level), counts)| Pattern {
                text,
                level,
                counts,
            })
            .collect();
        patterns
            .sort_by_cached_key(|pattern| std::cmp::Reverse(pattern.counts.values().sum::<u64>()));
        patterns
    }
}

impl Drop for Patterns {
    fn drop(&mut self) {
        let clusters = self.held.get_mut().clusters;
        self.total.0.fetch_sub(clusters, Ordering::Relaxed);
    }
}

impl Held {
    /// Makes room: what is older than is kept goes, else the oldest pattern of the largest tree. Says
    /// how many are gone.
    fn forget(&mut self, now: i64) -> usize {
        let oldest = (now - KEPT_S).div_euclid(BUCKET_S);
        let mut gone = 0;
        self.streams.retain(|_, levels| {
            levels.retain(|_, drain| {
                gone += drain.forget_before(oldest);
                drain.len() > 0
            });
            !levels.is_empty()
        });
        if gone == 0 {
            let drains = self.streams.values_mut().flat_map(BTreeMap::values_mut);
            let largest = drains.max_by_key(|drain| drain.len());
            gone = usize::from(largest.is_some_and(Drain::forget_oldest));
        }
        gone
    }
}

/// For how many lines each line stands that is looked at.
#[derive(Debug, Default)]
struct Throttle {
    second: AtomicI64,
    lines: AtomicU64,
}

impl Throttle {
    /// For how many lines this one stands; 0 for none. Who races with another one at the turn of a
    /// second is counted in either.
    fn weight(&self, second: i64) -> u64 {
        if self.second.load(Ordering::Relaxed) != second {
            self.second.store(second, Ordering::Relaxed);
            self.lines.store(0, Ordering::Relaxed);
        }
        let mut before = self.lines.fetch_add(1, Ordering::Relaxed);
        let mut stride = 1;
        while before >= LINES_MAX * stride {
            before -= LINES_MAX * stride;
            stride *= STRIDE;
        }
        if before.is_multiple_of(stride) {
            stride
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000 * SECOND_NS;

    fn stream(service: &str) -> Labels {
        Labels::from_pairs([("service_name", service)]).unwrap()
    }

    fn level(level: &str) -> Labels {
        Labels::from_pairs([(DETECTED_LEVEL, level)]).unwrap()
    }

    fn all() -> TimeRange {
        TimeRange::inclusive(0, NOW)
    }

    #[test]
    fn patterns_of_a_stream_are_counted_over_time() {
        let patterns = Patterns::default();
        let (a, b) = (stream("a"), stream("b"));
        let mut noted = Noted::at(NOW);
        for i in 0..20 {
            let time = NOW - (i % 2) * 60 * SECOND_NS;
            let line = format!("user {i} logged in from 10.0.0.{i}");
            patterns.note(&mut noted, (&a, &level("info")), time, &line);
            patterns.note(&mut noted, (&b, &level("error")), time, "out of memory");
        }
        let time = NOW - 4 * 3600 * SECOND_NS;
        patterns.note(&mut noted, (&a, &level("info")), time, "too long ago");
        assert!(patterns.take(noted));
        let of_a = patterns.find(&[Matcher::equal("service_name", "a")], all(), NOW);
        assert_eq!(of_a.len(), 1, "{of_a:?}");
        assert_eq!(of_a[0].text, "user <_> logged in from <_>");
        assert_eq!(of_a[0].level, "info");
        let now = NOW / SECOND_NS;
        assert_eq!(of_a[0].counts, BTreeMap::from([(now - 60, 10), (now, 10)]));
        assert_eq!(patterns.find(&[], all(), NOW).len(), 2);
        let later = NOW + 4 * 3600 * SECOND_NS;
        assert_eq!(patterns.find(&[], TimeRange::ALL, later), []);
    }

    #[test]
    fn their_number_is_bounded_by_stream_tenant_and_in_all() {
        let total = Total::default();
        let patterns = Patterns::new(total.clone());
        let word = |mut n: usize| -> String {
            let mut word = String::new();
            for _ in 0..6 {
                word.push(char::from(b'a' + (n % 26) as u8));
                n /= 26;
            }
            word
        };
        for i in 0..OF_STREAM_MAX + 10 {
            let line = format!("{} {} {}", word(i), word(i * 7 + 1), word(i * 13 + 2));
            patterns.learn(&stream("a"), "", (NOW, NOW), (&line, 1));
        }
        assert_eq!(total.0.load(Ordering::Relaxed), OF_STREAM_MAX);
        for i in 0..OF_TENANT_MAX {
            patterns.learn(&stream(&word(i)), "", (NOW, NOW), (&word(i), 1));
        }
        assert_eq!(total.0.load(Ordering::Relaxed), OF_TENANT_MAX);
        drop(patterns);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
        total.0.store(IN_ALL_MAX, Ordering::Relaxed);
        let patterns = Patterns::new(total.clone());
        patterns.learn(&stream("a"), "", (NOW, NOW), ("no room", 1));
        assert_eq!(patterns.find(&[], all(), NOW), []);
    }

    #[test]
    fn what_waits_to_be_learned_is_bounded() {
        let patterns = Patterns::default();
        let (a, info) = (stream("a"), level("info"));
        let line = "x".repeat(LINE_BYTES_MAX);
        let full = |now_ns: i64| {
            let mut noted = Noted::at(now_ns);
            for _ in 0..LINES_MAX {
                patterns.note(&mut noted, (&a, &info), NOW, &line);
            }
            noted
        };
        let first = full(NOW);
        assert!(first.text.len() <= NOTED_BYTES_MAX);
        assert!(first.text.len() + line.len() > NOTED_BYTES_MAX);
        assert!(!patterns.take(Noted::at(NOW)), "nothing is nothing to do");
        assert!(patterns.take(first));
        for second in 1..10 {
            assert!(
                !patterns.take(full(NOW + second * SECOND_NS)),
                "it is under way"
            );
        }
        let waiting = patterns.waiting.lock();
        assert_eq!(waiting.noted.len(), WAITING_BYTES_MAX / NOTED_BYTES_MAX);
        assert!(waiting.bytes <= WAITING_BYTES_MAX);
        drop(waiting);
        patterns.learn_waiting();
        assert_eq!(patterns.waiting.lock().bytes, 0);
        let lines = WAITING_BYTES_MAX / NOTED_BYTES_MAX * (NOTED_BYTES_MAX / LINE_BYTES_MAX);
        let found = patterns.find(&[], all(), NOW);
        let counted: u64 = found[0].counts.values().sum();
        assert_eq!(counted, lines as u64);
    }

    #[test]
    fn of_many_lines_some_stand_for_all() {
        let throttle = Throttle::default();
        let lines = LINES_MAX * (1 + STRIDE + STRIDE * STRIDE);
        let weights: Vec<u64> = (0..lines).map(|_| throttle.weight(7)).collect();
        assert_eq!(weights.iter().sum::<u64>(), lines);
        assert_eq!(
            weights.iter().filter(|w| **w > 0).count() as u64,
            3 * LINES_MAX
        );
        assert_eq!(throttle.weight(8), 1);
    }
}
