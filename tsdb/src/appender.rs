//! Batches: put together, handed over, acknowledged.

use std::fmt;
use std::ops::RangeInclusive;

use trine_storage::labels::LabelsBuffer;
use trine_storage::wal::Durability;
use trine_storage::{Labels, Result};

use crate::batch::{Batch, Key};
use crate::db::Tsdb;
use crate::sample::{Accepted, Reason, Value};

/// The most bytes that the encoded labels of a series may have. Whoever has users sets lower limits.
pub const LABELS_BYTES_MAX: usize = 1 << 20;

/// A batch of samples that is being put together. Dropping it stores nothing.
#[derive(Debug)]
pub struct Appender {
    db: Tsdb,
    /// The oldest and the newest timestamp that are taken. What lies outside never reaches the log,
    /// so that a replay cannot bring it back.
    bounds: RangeInclusive<i64>,
    batch: Batch,
    accepted: Accepted,
}

/// Names a series that is in memory, for [`Appender::append_reference`]. Found by
/// [`Tsdb::reference`](crate::Tsdb::reference). It ends when the series leaves memory because
/// nothing was appended to it for long, or with the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesRef {
    pub(crate) id: u32,
    pub(crate) generation: u32,
}

impl Appender {
    pub(crate) fn new(db: Tsdb, bounds: RangeInclusive<i64>) -> Self {
        Self {
            db,
            bounds,
            batch: Batch::default(),
            accepted: Accepted::default(),
        }
    }

    /// Adds a sample; `timestamp` is in milliseconds since 1970. Samples of one series that come
    /// one after the other are cheaper. What is refused is told by [`Commit::wait`].
    pub fn append(&mut self, labels: &Labels, timestamp: i64, value: Value) {
        let Value::Float(value) = value;
        let example = || format!("series={labels} timestamp={timestamp}");
        if self.check(labels.encoded().len(), timestamp, example) {
            self.batch.push(labels.encoded(), timestamp, value);
        }
    }

    /// Adds float samples of one series, as pairs of timestamp and value, without making a
    /// [`Labels`]. A set that is not UTF-8 is refused with [`Reason::InvalidLabels`].
    pub fn append_floats(&mut self, labels: &LabelsBuffer, samples: &[(i64, f64)]) {
        let mut begun = false;
        for &(timestamp, value) in samples {
            let example = || format!("series={} timestamp={timestamp}", Lossy(labels));
            if self.check(labels.encoded().len(), timestamp, example) {
                if !std::mem::replace(&mut begun, true) {
                    self.batch.begin_labels(labels.encoded());
                }
                self.batch.row(timestamp, value);
            }
        }
    }

    /// As [`Appender::append`], for a series that is named by its reference, which spares the
    /// look-up. A reference that has ended is refused with [`Reason::UnknownReference`].
    pub fn append_reference(&mut self, series: SeriesRef, timestamp: i64, value: Value) {
        let Value::Float(value) = value;
        if self.check(0, timestamp, || format!("timestamp={timestamp}")) {
            let SeriesRef { id, generation } = series;
            let key = Key::Reference { id, generation };
            self.batch.push_reference(key, timestamp, value);
        }
    }

    /// Whether a sample is taken of a series whose labels have so many bytes, at this timestamp;
    /// counts it as refused when it is not.
    fn check(&mut self, labels: usize, timestamp: i64, example: impl FnOnce() -> String) -> bool {
        if labels > LABELS_BYTES_MAX {
            let example = || format!("a series with labels of {labels} bytes");
            self.accepted.reject(Reason::LabelsTooLong, example);
            return false;
        }
        if self.bounds.contains(&timestamp) {
            return true;
        }
        let reason = if timestamp < *self.bounds.start() {
            Reason::TooOld
        } else {
            Reason::TooFarInFuture
        };
        self.accepted.reject(reason, example);
        false
    }

    /// Hands the batch to memory and log. It shows in reads from now on, and is acknowledged when
    /// [`Commit::wait`] answers.
    ///
    /// # Errors
    /// [`Kind::Limit`](trine_storage::Kind::Limit) when the memory budget is used up,
    /// [`Kind::Poisoned`](trine_storage::Kind::Poisoned) after a failed write,
    /// [`Kind::Closed`](trine_storage::Kind::Closed). Nothing was stored.
    pub fn commit(mut self, durability: Durability) -> Result<Commit> {
        let position = self.db.inner().append(&self.batch, &mut self.accepted)?;
        Ok(Commit {
            db: self.db,
            position,
            durability,
            accepted: self.accepted,
        })
    }
}

/// A label set in a message, whatever its bytes are.
struct Lossy<'a>(&'a LabelsBuffer);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_labels() {
            Ok(labels) => labels.fmt(f),
            Err(_) => f.write_str("(not UTF-8)"),
        }
    }
}

/// A batch that was handed over and is not acknowledged yet.
#[derive(Debug)]
#[must_use = "nothing is acknowledged before `wait`"]
pub struct Commit {
    db: Tsdb,
    position: Option<u64>,
    durability: Durability,
    accepted: Accepted,
}

impl Commit {
    /// Waits until the batch is as durable as was asked for.
    ///
    /// # Errors
    /// [`Kind::Io`](trine_storage::Kind::Io) and [`Kind::Poisoned`](trine_storage::Kind::Poisoned):
    /// the log could not be written. The batch is not acknowledged and is gone after a restart, or,
    /// if the write went through after all, is there.
    pub fn wait(self) -> Result<Accepted> {
        if let Some(position) = self.position {
            self.db.inner().wait(position, self.durability)?;
        }
        Ok(self.accepted)
    }
}
