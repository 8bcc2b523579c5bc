//! Sinks that stage what translators give and commit it to a tenant's engine. The handlers of
//! `ingest` and `observe` call it, on a thread that may block.

use trine_logstore::LogStore;
use trine_storage::labels::LabelsBuffer;
use trine_storage::{Error, Labels};
use trine_tsdb::Tsdb;

use super::rejections::Rejections;
use super::{otlp_logs, otlp_metrics, remote_write};
use crate::config::Limits;
use crate::refusal::Refusal;

/// What became of a request that was committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Samples, entries or spans that are stored.
    pub stored: u64,
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
    appender: trine_tsdb::Appender,
}

impl<'a> Metrics<'a> {
    /// An empty batch for `engine`.
    pub fn new(engine: &Tsdb, limits: &'a Limits) -> Self {
        Self {
            limits,
            appender: engine.appender(),
        }
    }

    /// Commits what was staged and adds what the engine refused to what the translator refused.
    ///
    /// # Errors
    /// The engine's; nothing is acknowledged then.
    pub fn commit(self, rejections: Rejections) -> Result<Outcome, Refusal> {
        let commit = self.appender.commit(trine_tsdb::Durability::Synced)?;
        let accepted = commit.wait()?;
        let mut outcome = Outcome {
            stored: accepted.stored,
            rejections,
        };
        for rejected in accepted.rejected {
            let text = format!("{}: {}", rejected.reason, rejected.example);
            outcome.rejections.add(rejected.count, text);
        }
        Ok(outcome)
    }
}

impl otlp_metrics::Sink for Metrics<'_> {
    fn sample(&mut self, labels: &Labels, timestamp_ms: i64, value: f64) -> Result<(), String> {
        remote_write::admit(labels, self.limits)?;
        self.appender
            .append(labels, timestamp_ms, trine_tsdb::Value::Float(value));
        Ok(())
    }
}

impl remote_write::Sink for Metrics<'_> {
    fn floats(&mut self, labels: &LabelsBuffer, samples: &[(i64, f64)]) {
        self.appender.series(labels).append_floats(samples);
    }
}

/// Stages log entries.
#[derive(Debug)]
pub struct Logs {
    engine: LogStore,
    appender: trine_logstore::Appender,
    bytes: usize,
    commits: Vec<trine_logstore::Commit>,
    failed: Option<Error>,
}

impl Logs {
    /// An empty batch for `engine`.
    pub fn new(engine: &LogStore) -> Self {
        Self {
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
            stored: 0,
            rejections,
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

impl otlp_logs::Sink for Logs {
    fn entry(
        &mut self,
        labels: &Labels,
        timestamp_ns: i64,
        line: &str,
        metadata: &Labels,
    ) -> Result<(), String> {
        self.appender
            .append(labels, timestamp_ns, line.as_bytes(), metadata);
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

    use super::{Limits, Logs, PIECE_BYTES, Rejections};
    use crate::ingest::otlp_logs;

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
