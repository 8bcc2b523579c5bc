//! Sinks that stage what translators give and commit it to a tenant's engine. The handlers of
//! `ingest` and `observe` call it, on a thread that may block.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::runtime::Handle;
use trine_logstore::LogStore;
use trine_storage::labels::LabelsBuffer;
use trine_storage::{Error, Labels};
use trine_tsdb::{Reason, SeriesAppender, Tsdb};

use super::known_series::{KnownSeries, LEARNED_MAX, Lookup, Print};
use super::log_rules::Rules as LogRules;
use super::metric_labels::{Rules, admit};
use super::metric_rows::{self, Rows};
use super::otlp_logs;
use super::rejections::Rejections;
use crate::app::App;
use crate::config::Limits;
use crate::process::patterns::{Noted, Patterns};
use crate::refusal::Refusal;
use crate::tenants::{Tenant, TenantId};

/// What became of a request that was committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Samples, entries or spans that are stored.
    pub stored: u64,
    /// How many of the samples are native histograms.
    pub histograms: u64,
    /// Exemplars that are stored.
    pub exemplars: u64,
    /// What is not.
    pub rejections: Rejections,
}

/// Staged bytes after which a batch is handed to the engine and another one begun, well under
/// what one record of a write-ahead log may hold. The pieces of a request are acknowledged
/// together.
pub(super) const PIECE_BYTES: usize = 16 << 20;

/// Stages samples.
#[derive(Debug)]
pub struct Metrics<'a> {
    limits: &'a Limits,
    engine: &'a Tsdb,
    appender: trine_tsdb::Appender,
    known: Option<Known<'a>>,
}

/// What a batch knows of series that were sent before, and what it will have taught.
#[derive(Debug)]
struct Known<'a> {
    series: &'a KnownSeries,
    lookup: Lookup<'a>,
    learned: Vec<(Print, Labels)>,
}

/// What became of a batch that looked series up by what senders call them.
#[derive(Debug)]
pub enum Committed {
    /// It is stored.
    Done(Outcome),
    /// A series had left memory. A batch that names every series by its labels has to follow; what
    /// this one stored, it will find there.
    Again,
}

impl<'a> Metrics<'a> {
    /// An empty batch for `engine` that names every series by its labels.
    pub fn new(engine: &'a Tsdb, limits: &'a Limits) -> Self {
        Self {
            limits,
            engine,
            appender: engine.appender(),
            known: None,
        }
    }

    /// An empty batch that uses, and adds to, what is known of the engine's series.
    pub fn with_known(engine: &'a Tsdb, rules: &Rules<'a>, series: &'a KnownSeries) -> Self {
        Self {
            known: Some(Known {
                series,
                lookup: series.read(rules.dropped.is_some()),
                learned: Vec::new(),
            }),
            ..Self::new(engine, rules.limits)
        }
    }

    /// Stages one sample; the timestamp is in milliseconds.
    ///
    /// # Errors
    /// The text that says why it is refused.
    pub fn sample(&mut self, labels: &Labels, timestamp: i64, value: f64) -> Result<(), String> {
        admit(labels, self.limits)?;
        self.appender.append(labels, timestamp, value.into());
        Ok(())
    }

    /// Commits what was staged and adds what the engine refused to what the translator refused.
    ///
    /// # Errors
    /// The engine's; nothing is acknowledged then.
    pub fn commit(self, rejections: Rejections) -> Result<Outcome, Refusal> {
        let commit = self.appender.commit(trine_tsdb::Durability::Synced)?;
        Ok(outcome(commit.wait()?, rejections))
    }

    /// As [`Metrics::commit`], for a batch made by [`Metrics::with_known`].
    ///
    /// # Errors
    /// The engine's; nothing is acknowledged then.
    pub fn commit_known(mut self, rejections: Rejections) -> Result<Committed, Refusal> {
        let Some(known) = self.known.take() else {
            return self.commit(rejections).map(Committed::Done);
        };
        // Others may learn while this one waits for the log.
        let since = known.lookup.since();
        drop(known.lookup);
        let commit = self.appender.commit(trine_tsdb::Durability::Synced)?;
        let accepted = commit.wait()?;
        let ended = |rejected: &trine_tsdb::Rejected| rejected.reason == Reason::UnknownReference;
        if accepted.rejected.iter().any(ended) {
            known.series.forget();
            return Ok(Committed::Again);
        }
        if !known.learned.is_empty() {
            let found = known.learned.into_iter();
            let found = found.filter_map(|(p, labels)| Some((p, self.engine.reference(&labels)?)));
            known.series.learn(since, &found.collect::<Vec<_>>());
        }
        Ok(Committed::Done(outcome(accepted, rejections)))
    }
}

/// Stores what `translate` gives. It is asked twice when a series that was known has left memory.
///
/// # Errors
/// Those of `translate` and of [`Metrics::commit`].
pub fn with_known(
    engine: &Tsdb,
    rules: &Rules<'_>,
    known: &KnownSeries,
    mut translate: impl FnMut(&mut Metrics<'_>) -> Result<Rejections, Refusal>,
) -> Result<Outcome, Refusal> {
    let mut metrics = Metrics::with_known(engine, rules, known);
    let rejections = translate(&mut metrics)?;
    if let Committed::Done(outcome) = metrics.commit_known(rejections)? {
        return Ok(outcome);
    }
    let mut metrics = Metrics::new(engine, rules.limits);
    let rejections = translate(&mut metrics)?;
    metrics.commit(rejections)
}

fn outcome(accepted: trine_tsdb::Accepted, rejections: Rejections) -> Outcome {
    let mut outcome = Outcome {
        stored: accepted.stored,
        histograms: accepted.histograms,
        exemplars: accepted.exemplars,
        rejections,
    };
    for rejected in accepted.rejected {
        let mut text = format!("{}: {}", rejected.reason, rejected.example);
        if rejected.count > 1 {
            // Infallible: the target is a String.
            write!(text, " (and {} more)", rejected.count - 1).ok();
        }
        // As with Prometheus, samples are no worse for an exemplar or metadata that is refused.
        match rejected.reason {
            Reason::ExemplarTooLong | Reason::MetadataTooLong | Reason::TooMuchMetadata => {
                outcome.rejections.warn(text);
            }
            _ => outcome.rejections.add(rejected.count, text),
        }
    }
    outcome
}

impl metric_rows::Sink for Metrics<'_> {
    #[inline]
    fn print(&self, wire: &[u8]) -> Option<Print> {
        self.known.as_ref().map(|known| known.lookup.print(wire))
    }

    fn known(&mut self, print: Print, rows: &mut Rows<'_>) -> bool {
        let known = self.known.as_mut();
        let Some(series) = known.and_then(|known| known.lookup.get(print)) else {
            return false;
        };
        stage(self.appender.reference(series), rows);
        true
    }

    fn series(&mut self, print: Option<Print>, labels: &LabelsBuffer, rows: &mut Rows<'_>) {
        if let (Some(known), Some(print)) = (&mut self.known, print)
            && known.learned.len() < LEARNED_MAX
            && let Ok(labels) = labels.to_labels()
        {
            known.learned.push((print, labels));
        }
        stage(self.appender.series(labels), rows);
    }

    fn metadata(&mut self, metric: &str, metadata: trine_tsdb::Metadata) {
        self.appender.metadata(metric, metadata);
    }
}

/// Stages the rows of one series; histograms and exemplars are taken out.
fn stage(mut series: SeriesAppender<'_>, rows: &mut Rows<'_>) {
    if rows.starts.is_empty() {
        series.append_floats(rows.samples);
    } else {
        for (&(timestamp, value), &start) in rows.samples.iter().zip(rows.starts) {
            series.append_started(timestamp, start, value.into());
        }
    }
    if !rows.histograms.is_empty() {
        for (timestamp, start, histogram) in rows.histograms.drain(..) {
            series.append_started(timestamp, start, histogram.into());
        }
    }
    if !rows.exemplars.is_empty() {
        for exemplar in rows.exemplars.drain(..) {
            series.exemplar(exemplar);
        }
    }
}

/// Stores the logs that `translate` gives for a tenant, and learns of them.
///
/// # Errors
/// Those of `translate`, of opening the engine and of [`Logs::commit`].
pub fn push(
    app: &App,
    id: &TenantId,
    translate: impl FnOnce(&LogRules<'_>, &mut Logs<'_>) -> Result<Rejections, Refusal>,
) -> Result<Outcome, Refusal> {
    let tenant = app.tenants.get_or_create(id)?;
    let engine = tenant.logs()?;
    let (now_ns, monotonic_ns) = (app.clock.now_ns(), app.clock.monotonic_ns());
    let times = (now_ns, monotonic_ns);
    let rules = LogRules::new(&app.config, id.as_str(), tenant.rates(), times);
    if rules.are_closed()? {
        return Ok(Outcome::default());
    }
    let mut logs = Logs::new(&engine);
    if rules.logs.patterns {
        logs.patterns = Some((tenant.patterns(), Noted::at(now_ns)));
    }
    let rejections = translate(&rules, &mut logs)?;
    let noted = logs.patterns.take();
    let outcome = logs.commit(rejections)?;
    if let Some((patterns, noted)) = noted
        && patterns.take(noted)
    {
        learn(Arc::clone(&tenant));
    }
    Ok(outcome)
}

/// Has the lines learned that wait; not by the thread that a sender waits for, where there are others.
fn learn(tenant: Arc<Tenant>) {
    let work = move || tenant.patterns().learn_waiting();
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// Stages log entries.
#[derive(Debug)]
pub struct Logs<'a> {
    /// Where patterns of lines are learned, and lines for that.
    patterns: Option<(&'a Patterns, Noted)>,
    engine: LogStore,
    appender: trine_logstore::Appender,
    bytes: usize,
    commits: Vec<trine_logstore::Commit>,
    failed: Option<Error>,
}

impl<'a> Logs<'a> {
    /// An empty batch for `engine`.
    pub fn new(engine: &LogStore) -> Self {
        Self {
            patterns: None,
            engine: engine.clone(),
            appender: engine.appender(),
            bytes: 0,
            commits: Vec::new(),
            failed: None,
        }
    }

    /// Commits what was staged and adds what the engine refused to what the translator refused.
    ///
    /// # Errors
    /// The engine's; nothing is acknowledged then.
    pub fn commit(mut self, rejections: Rejections) -> Result<Outcome, Refusal> {
        self.hand_over();
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let mut outcome = Outcome {
            rejections,
            ..Outcome::default()
        };
        for commit in self.commits {
            let accepted = commit.wait()?;
            outcome.stored += accepted.stored;
            for rejected in accepted.rejected {
                let text = format!("entry for stream {}: {}", rejected.example, rejected.reason);
                outcome.rejections.add(rejected.count, text);
            }
        }
        Ok(outcome)
    }

    fn hand_over(&mut self) {
        if self.bytes == 0 || self.failed.is_some() {
            return;
        }
        self.bytes = 0;
        let appender = std::mem::replace(&mut self.appender, self.engine.appender());
        match appender.commit(trine_logstore::Durability::Synced) {
            Ok(commit) => self.commits.push(commit),
            Err(error) => self.failed = Some(error),
        }
    }
}

impl otlp_logs::Sink for Logs<'_> {
    fn entry(
        &mut self,
        labels: &Labels,
        timestamp_ns: i64,
        line: &str,
        metadata: &Labels,
    ) -> Result<(), String> {
        self.appender
            .append(labels, timestamp_ns, line.as_bytes(), metadata);
        if let Some((patterns, noted)) = &mut self.patterns {
            patterns.note(noted, (labels, metadata), timestamp_ns, line);
        }
        let fixed = labels.encoded().len() + metadata.encoded().len() + size_of::<u64>();
        self.bytes += fixed + line.len();
        if self.bytes >= PIECE_BYTES {
            self.hand_over();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trine_logstore::LogStore;
    use trine_storage::Labels;
    use trine_storage::labels::LabelsBuffer;
    use trine_tsdb::Tsdb;

    use super::{Committed, KnownSeries, Limits, Logs, Metrics, PIECE_BYTES, Rejections};
    use crate::ingest::metric_labels::Rules;
    use crate::ingest::metric_rows::{Rows, Sink};
    use crate::ingest::otlp_logs;

    const WIRE: &[u8] = b"whatever a sender writes";

    fn buffer() -> LabelsBuffer {
        let mut labels = LabelsBuffer::default();
        assert!(labels.push(b"__name__", b"up"));
        labels
    }

    /// Stages a sample as a translator does; whether the series was known.
    fn stage(metrics: &mut Metrics<'_>, sample: (i64, f64)) -> bool {
        let mut rows = Rows {
            samples: &[sample],
            starts: &[],
            histograms: &mut Vec::new(),
            exemplars: &mut Vec::new(),
        };
        let print = metrics.print(WIRE).unwrap();
        let known = metrics.known(print, &mut rows);
        if !known {
            metrics.series(Some(print), &buffer(), &mut rows);
        }
        known
    }

    #[test]
    fn a_series_is_known_once_it_was_stored_and_again_after_its_reference_ended() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        let known = KnownSeries::default();
        let engines = ["a", "b"].map(|name| Tsdb::open(dir.path().join(name)).unwrap());
        let now = 1_700_000_000_000;
        let stored = |committed| match committed {
            Committed::Done(outcome) => (outcome.stored, outcome.rejections.count()),
            Committed::Again => (0, 0),
        };
        let run = |engine: &Tsdb, timestamp| {
            let mut metrics = Metrics::with_known(engine, &Rules::of(&limits), &known);
            let found = stage(&mut metrics, (timestamp, 0.5));
            let committed = metrics.commit_known(Rejections::default()).unwrap();
            (found, stored(committed))
        };
        assert_eq!(run(&engines[0], now), (false, (1, 0)));
        assert_eq!(run(&engines[0], now + 1), (true, (1, 0)));
        assert_eq!(run(&engines[0], i64::MAX / 2), (true, (0, 1)));
        // To the other engine the reference is one that has ended.
        assert_eq!(run(&engines[1], now), (true, (0, 0)));
        assert_eq!(run(&engines[1], now), (false, (1, 0)));
        assert_eq!(run(&engines[1], now + 1), (true, (1, 0)));
        assert_eq!(engines[1].stats().head_samples, 2);
    }

    #[test]
    fn a_large_request_is_handed_over_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        let engine = LogStore::open(dir.path().join("l")).unwrap();
        let mut logs = Logs::new(&engine);
        let labels = Labels::from_pairs([("a", "b")]).unwrap();
        let long = "x".repeat(limits.log_line_bytes_max);
        let count = PIECE_BYTES / long.len() + 10;
        for i in 0..count as i64 {
            otlp_logs::Sink::entry(&mut logs, &labels, i, &long, &Labels::empty()).unwrap();
        }
        assert_eq!(logs.commits.len(), 1, "the first piece is on its way");
        let outcome = logs.commit(Rejections::default()).unwrap();
        assert_eq!(
            (outcome.stored, outcome.rejections.count()),
            (count as u64, 0)
        );
    }
}
