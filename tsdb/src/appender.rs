//! Batches: put together, handed over, acknowledged.

use std::ops::RangeInclusive;

use trine_storage::wal::Durability;
use trine_storage::{Labels, Result};

use crate::batch::{Batch, Key};
use crate::db::Tsdb;
use crate::exemplar::{EXEMPLAR_LABELS_CHARS_MAX, Exemplar};
use crate::metadata::{Entry, METADATA_BYTES_MAX, Metadata};
use crate::sample::{Accepted, Reason, Value};

/// The most bytes that the encoded labels of a series may have. Whoever has users sets lower limits.
pub const LABELS_BYTES_MAX: usize = 1 << 20;

/// A batch that is being put together. Dropping it stores nothing.
#[derive(Debug)]
pub struct Appender {
    db: Tsdb,
    /// The oldest and the newest timestamp that are taken. What lies outside never reaches the log,
    /// so that a replay cannot bring it back.
    bounds: RangeInclusive<i64>,
    now_ms: i64,
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
    pub(crate) fn new(db: Tsdb, bounds: RangeInclusive<i64>, now_ms: i64) -> Self {
        Self {
            db,
            bounds,
            now_ms,
            batch: Batch::default(),
            accepted: Accepted::default(),
        }
    }

    /// Adds a sample; `timestamp` is in milliseconds since 1970. Samples of one series that come
    /// one after the other are cheaper. What is refused is told by [`Commit::wait`].
    pub fn append(&mut self, labels: &Labels, timestamp: i64, value: Value) {
        self.series(labels).append(timestamp, value);
    }

    /// As [`Appender::append`], for a series that is named by its reference, which spares the
    /// look-up. A reference that has ended is refused with [`Reason::UnknownReference`].
    pub fn append_reference(&mut self, series: SeriesRef, timestamp: i64, value: Value) {
        self.reference(series).append(timestamp, value);
    }

    /// Adds samples and exemplars of the series with these labels: a [`Labels`], or a
    /// [`LabelsBuffer`](trine_storage::labels::LabelsBuffer), which spares making one. A set that is not UTF-8 is refused with
    /// [`Reason::InvalidLabels`].
    ///
    /// ```
    /// use trine_tsdb::{Durability, Exemplar, Hints, Labels, TimeRange, Tsdb};
    ///
    /// # fn main() -> Result<(), trine_tsdb::Error> {
    /// # let dir = tempfile::tempdir().expect("a directory for the example");
    /// let db = Tsdb::open(dir.path())?;
    /// # let now = 1_000;
    /// let requests = Labels::from_pairs([("__name__", "requests_total")])?;
    /// let mut appender = db.appender();
    /// let mut series = appender.series(&requests);
    /// series.append_started(now, 500, 1.0.into());
    /// let labels = Labels::from_pairs([("trace_id", "ff")])?;
    /// series.exemplar(Exemplar { timestamp: now, value: 0.2, labels });
    /// appender.commit(Durability::Buffered)?.wait()?;
    ///
    /// let found = db.snapshot().exemplars(&[], TimeRange::ALL, &Hints::default())?;
    /// assert_eq!(found[0].exemplars[0].value, 0.2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn series<'a>(&'a mut self, labels: &'a impl Encoded) -> SeriesAppender<'a> {
        SeriesAppender {
            appender: self,
            name: Name::Labels(labels.encoded_labels()),
            begun: false,
        }
    }

    /// Adds samples and exemplars of the series with this reference.
    pub fn reference(&mut self, series: SeriesRef) -> SeriesAppender<'_> {
        SeriesAppender {
            appender: self,
            name: Name::Reference(series),
            begun: false,
        }
    }

    /// Says what a metric is. What is known already costs little.
    pub fn metadata(&mut self, metric: &str, metadata: Metadata) {
        let entry = Entry {
            metric: metric.to_owned(),
            metadata,
            seen_ms: self.now_ms,
        };
        if entry.bytes() > METADATA_BYTES_MAX {
            let example = || format!("metadata of {} bytes", entry.bytes());
            self.accepted.reject(Reason::MetadataTooLong, example);
        } else {
            self.batch.metadata(entry);
        }
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

/// Label sets in their encoded form.
pub trait Encoded: sealed::Encoded {}

impl<T: sealed::Encoded> Encoded for T {}

mod sealed {
    use trine_storage::Labels;
    use trine_storage::labels::LabelsBuffer;

    pub trait Encoded {
        fn encoded_labels(&self) -> &[u8];
    }

    impl Encoded for Labels {
        fn encoded_labels(&self) -> &[u8] {
            self.encoded()
        }
    }

    impl Encoded for LabelsBuffer {
        fn encoded_labels(&self) -> &[u8] {
            self.encoded()
        }
    }
}

/// Adds to one series of a batch.
#[derive(Debug)]
pub struct SeriesAppender<'a> {
    appender: &'a mut Appender,
    name: Name<'a>,
    begun: bool,
}

/// How a series is named.
#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    Labels(&'a [u8]),
    Reference(SeriesRef),
}

impl Name<'_> {
    /// The labels, for messages.
    fn shown(self, db: &Tsdb) -> String {
        match self {
            Self::Labels(encoded) => match Labels::from_encoded(encoded) {
                Ok(labels) => labels.to_string(),
                Err(_) => "(not UTF-8)".to_owned(),
            },
            Self::Reference(series) => match db.inner().head.referenced(series) {
                Some(labels) => labels.to_string(),
                None => format!("(reference {})", series.id),
            },
        }
    }
}

impl SeriesAppender<'_> {
    /// Adds a sample; `timestamp` is in milliseconds since 1970.
    pub fn append(&mut self, timestamp: i64, value: Value) {
        self.append_started(timestamp, 0, value);
    }

    /// Adds a sample of a counter that began at `start_timestamp`, 0 when that is not known; both
    /// in milliseconds since 1970. It is no part of what makes a duplicate.
    pub fn append_started(&mut self, timestamp: i64, start_timestamp: i64, value: Value) {
        match value {
            Value::Float(value) => self.float(timestamp, start_timestamp, value),
            Value::Histogram(histogram) => {
                let max = self.appender.db.inner().histogram_buckets_max();
                let name = self.name;
                match histogram.fitted(max) {
                    Err(error) => {
                        let Appender { db, accepted, .. } = &mut *self.appender;
                        accepted.reject(Reason::InvalidHistogram, || {
                            format!("series={} timestamp={timestamp}: {error}", name.shown(db))
                        });
                    }
                    Ok(fitted) if self.begin(timestamp) => {
                        let batch = &mut self.appender.batch;
                        batch.histogram(timestamp, start_timestamp, fitted);
                    }
                    Ok(_) => {}
                }
            }
        }
    }

    /// Adds a float sample; 0 when the start timestamp is not known.
    fn float(&mut self, timestamp: i64, start_timestamp: i64, value: f64) {
        if self.begin(timestamp) {
            self.appender.batch.float(timestamp, start_timestamp, value);
        }
    }

    /// Adds float samples, as pairs of timestamp and value.
    pub fn append_floats(&mut self, samples: &[(i64, f64)]) {
        for &(timestamp, value) in samples {
            self.float(timestamp, 0, value);
        }
    }

    /// Adds an exemplar. One that is there already is not stored again.
    pub fn exemplar(&mut self, exemplar: Exemplar) {
        let name = self.name;
        if exemplar.label_chars() > EXEMPLAR_LABELS_CHARS_MAX {
            let Appender { db, accepted, .. } = &mut *self.appender;
            accepted.reject(Reason::ExemplarTooLong, || {
                format!("series={} exemplar={}", name.shown(db), exemplar.labels)
            });
        } else if self.begin(exemplar.timestamp) {
            self.appender.batch.exemplar(exemplar);
        }
    }

    /// Whether something of this timestamp is taken; counts it as refused when it is not.
    fn begin(&mut self, timestamp: i64) -> bool {
        let name = self.name;
        let Appender {
            db,
            bounds,
            batch,
            accepted,
            ..
        } = &mut *self.appender;
        if !bounds.contains(&timestamp) {
            let reason = match timestamp < *bounds.start() {
                true => Reason::TooOld,
                false => Reason::TooFarInFuture,
            };
            accepted.reject(reason, || {
                format!("series={} timestamp={timestamp}", name.shown(db))
            });
            return false;
        }
        if self.begun {
            return true;
        }
        match name {
            Name::Labels(encoded) if encoded.len() > LABELS_BYTES_MAX => {
                let example = || format!("a series with labels of {} bytes", encoded.len());
                accepted.reject(Reason::LabelsTooLong, example);
                return false;
            }
            Name::Labels(encoded) => batch.begin_labels(encoded),
            Name::Reference(SeriesRef { id, generation }) => {
                batch.begin_reference(Key::Reference { id, generation });
            }
        }
        self.begun = true;
        true
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
