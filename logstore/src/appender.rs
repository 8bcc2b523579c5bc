//! Puts batches together and hands them to the store.

use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::wal::Durability;
use trine_storage::{Error, Kind, Labels, Result};

use crate::db::Handle;
use crate::entry::{Accepted, Reason};
use crate::wal_record::Batch;

/// A batch of entries that is being put together. Dropping it stores nothing.
#[derive(Debug)]
pub struct Appender {
    inner: Arc<Handle>,
    batch: Batch,
    streams: Codes,
    sets: Codes,
    bounds: Bounds,
    accepted: Accepted,
    /// Bytes of lines and labels that were added, whether they are kept or not.
    bytes: usize,
}

/// Which timestamps are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) oldest_ns: i64,
    pub(crate) newest_ns: i64,
}

/// Codes of label sets, with the last one at hand.
#[derive(Debug, Default)]
struct Codes {
    codes: HashMap<Labels, u32>,
    last: Option<(Labels, u32)>,
}

impl Codes {
    /// The code of a set, and whether it is new.
    fn code(&mut self, labels: &Labels, next: usize) -> (u32, bool) {
        if let Some((last, code)) = &self.last
            && last == labels
        {
            return (*code, false);
        }
        let next = u32::try_from(next).unwrap_or(u32::MAX);
        let code = *self.codes.entry(labels.clone()).or_insert(next);
        self.last = Some((labels.clone(), code));
        (code, code == next)
    }
}

impl Appender {
    pub(crate) fn new(inner: Arc<Handle>) -> Self {
        let bounds = inner.bounds();
        Self {
            inner,
            batch: Batch::default(),
            streams: Codes::default(),
            sets: Codes::default(),
            bounds,
            accepted: Accepted::default(),
            bytes: 0,
        }
    }

    /// Adds an entry: a line of any bytes at `timestamp` (nanoseconds since 1970) in the stream
    /// `labels`, with structured metadata. Entries of one stream that come one after the other are
    /// cheaper. What cannot be stored is counted in [`Accepted::rejected`].
    pub fn append(&mut self, labels: &Labels, timestamp: i64, line: &[u8], metadata: &Labels) {
        if let Some((reason, found)) = self.refusal(timestamp, line, metadata) {
            let example = || format!("stream={labels} timestamp={timestamp} {found}");
            self.accepted.reject(reason, example);
            return;
        }
        self.bytes += line.len() + 8;
        if self.is_too_large() {
            return;
        }
        let Batch { streams, columns } = &mut self.batch;
        let (stream, is_new) = self.streams.code(labels, streams.len());
        if is_new {
            streams.push(labels.clone());
            self.bytes += labels.encoded().len();
        }
        let mut set = 0;
        if !metadata.is_empty() {
            let is_new;
            (set, is_new) = self.sets.code(metadata, columns.sets.len());
            if is_new {
                columns.sets.push(metadata.clone());
                self.bytes += metadata.encoded().len();
            }
        }
        columns.push(stream, timestamp, line, set);
    }

    /// Why an entry cannot be stored, and what of it is too much.
    fn refusal(&self, timestamp: i64, line: &[u8], metadata: &Labels) -> Option<(Reason, String)> {
        let config = &self.inner.config;
        if timestamp < self.bounds.oldest_ns {
            return Some((Reason::TooOld, format!("oldest={}", self.bounds.oldest_ns)));
        }
        if timestamp > self.bounds.newest_ns {
            return Some((
                Reason::TooFarInFuture,
                format!("newest={}", self.bounds.newest_ns),
            ));
        }
        if line.len() > config.line_bytes_max {
            let found = format!("bytes={} max={}", line.len(), config.line_bytes_max);
            return Some((Reason::LineTooLong, found));
        }
        if metadata.is_empty() {
            return None;
        }
        let (mut pairs, mut bytes) = (0, 0);
        for (name, value) in metadata {
            pairs += 1;
            bytes += name.len() + value.len();
        }
        if bytes > config.metadata_bytes_max {
            let found = format!("bytes={bytes} max={}", config.metadata_bytes_max);
            return Some((Reason::MetadataTooLarge, found));
        }
        let found = || format!("pairs={pairs} max={}", config.metadata_max);
        (pairs > config.metadata_max).then(|| (Reason::TooManyMetadata, found()))
    }

    fn is_too_large(&self) -> bool {
        self.bytes > self.inner.config.wal.record_bytes_max
    }

    /// Hands the batch to log and memory. It shows in snapshots from now on, and is acknowledged
    /// when [`Commit::wait`] answers.
    ///
    /// # Errors
    /// [`Kind::Limit`] when the memory budget is used up or the batch is larger than
    /// `Config::wal.record_bytes_max`, [`Kind::Poisoned`] after a failed write, [`Kind::Closed`].
    /// Nothing was stored.
    pub fn commit(mut self, durability: Durability) -> Result<Commit> {
        if self.is_too_large() {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "a batch of {} bytes is larger than record_bytes_max ({} bytes); send less",
                    self.bytes, self.inner.config.wal.record_bytes_max
                ),
            ));
        }
        let position = self.inner.append(&self.batch)?;
        self.accepted.stored = self.batch.columns.rows() as u64;
        Ok(Commit {
            inner: self.inner,
            position,
            durability,
            accepted: self.accepted,
        })
    }
}

/// A batch that was handed over and is not acknowledged yet.
#[derive(Debug)]
#[must_use = "nothing is acknowledged before `wait`"]
pub struct Commit {
    inner: Arc<Handle>,
    /// `None` when the batch had nothing to store.
    position: Option<u64>,
    durability: Durability,
    accepted: Accepted,
}

impl Commit {
    /// Waits until the batch is as durable as was asked for.
    ///
    /// # Errors
    /// [`Kind::Io`] and [`Kind::Poisoned`]: the log could not be written. The batch is not
    /// acknowledged and is gone after a restart, or, if the write went through after all, is there.
    pub fn wait(self) -> Result<Accepted> {
        if let Some(position) = self.position {
            self.inner.wal.commit(position, self.durability)?;
        }
        Ok(self.accepted)
    }
}
