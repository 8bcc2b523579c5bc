//! Puts batches together and hands them to the store.

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;
use trine_storage::wal::Durability;
use trine_storage::{Error, Kind, Labels, Result};

use crate::config::{Config, LongLines};
use crate::db::Handle;
use crate::entry::{Accepted, Reason};
use crate::sets::SetCodes;
use crate::wal_record::Batch;

/// Memory of this many batches is kept for the next ones ...
const ROOMS_MAX: usize = 4;
/// ... where a batch took no more than this many bytes.
const ROOM_BYTES_MAX: usize = 4 << 20;

/// A batch of entries that is being put together. Dropping it stores nothing.
#[derive(Debug)]
pub struct Appender {
    inner: Arc<Handle>,
    room: Room,
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

/// The memory that a batch is put together in.
#[derive(Debug, Default)]
struct Room {
    batch: Batch,
    /// Codes of the streams in `batch`.
    streams: HashTable<u32>,
    /// The code of the stream that was asked for last: mostly it is asked for again.
    last_stream: u32,
    sets: SetCodes,
}

/// Memory of earlier batches: pages that the process has are an order of magnitude cheaper than new
/// ones.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<Vec<Room>>);

impl Rooms {
    fn take(&self) -> Room {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, mut room: Room) {
        if room.batch.heap_bytes() > ROOM_BYTES_MAX {
            return;
        }
        room.batch.clear();
        room.streams.clear();
        room.sets.clear();
        let mut rooms = self.0.lock();
        if rooms.len() < ROOMS_MAX {
            rooms.push(room);
        }
    }

    /// Lets go of everything: a store to which nothing is appended should hold nothing.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Room {
    /// The code of a stream that is in the batch.
    fn stream(&mut self, labels: &Labels) -> Option<u32> {
        let streams = &self.batch.streams;
        if streams.get(self.last_stream as usize) == Some(labels) {
            return Some(self.last_stream);
        }
        let same = |&code: &u32| &streams[code as usize] == labels;
        self.last_stream = *self.streams.find(labels.hash64(), same)?;
        Some(self.last_stream)
    }

    fn add_stream(&mut self, labels: &Labels) -> u32 {
        let streams = &mut self.batch.streams;
        let code = u32::try_from(streams.len()).expect("a batch has record_bytes_max at most");
        streams.push(labels.clone());
        let rehash = |&code: &u32| streams[code as usize].hash64();
        self.streams.insert_unique(labels.hash64(), code, rehash);
        self.last_stream = code;
        code
    }
}

impl Appender {
    pub(crate) fn new(inner: Arc<Handle>) -> Self {
        let bounds = inner.bounds();
        let room = inner.rooms.take();
        Self {
            inner,
            room,
            bounds,
            accepted: Accepted::default(),
            bytes: 0,
        }
    }

    /// Adds an entry: a line of any bytes at `timestamp` (nanoseconds since 1970) in the stream
    /// `labels`, with structured metadata. Entries of one stream that come one after the other are
    /// cheaper. What cannot be stored is counted in [`Accepted::rejected`].
    pub fn append(&mut self, labels: &Labels, timestamp: i64, line: &[u8], metadata: &Labels) {
        let stored = self.stage(labels, timestamp, line, metadata);
        if let Err((reason, found)) = stored {
            let example = || format!("stream={labels} timestamp={timestamp} {found}");
            self.accepted.reject(reason, example);
        }
    }

    /// Adds an entry, or says why it cannot be stored, and what of it is too much.
    fn stage(
        &mut self,
        labels: &Labels,
        timestamp: i64,
        line: &[u8],
        metadata: &Labels,
    ) -> std::result::Result<(), (Reason, String)> {
        let config = &self.inner.config;
        self.bounds.check(timestamp)?;
        let line = fitting_line(config, line, &mut self.accepted)?;
        check_metadata(config, metadata)?;
        self.bytes += line.len() + 8;
        if self.is_too_large() {
            return Ok(());
        }
        let known = self.room.stream(labels);
        let stream = match known {
            Some(stream) => stream,
            None => {
                check_labels(&self.inner.config, labels)?;
                self.bytes += labels.encoded().len();
                self.room.add_stream(labels)
            }
        };
        let Room { batch, sets, .. } = &mut self.room;
        let columns = &mut batch.columns;
        let before = columns.sets.bytes();
        let set = sets.code(&mut columns.sets, metadata.encoded());
        self.bytes += columns.sets.bytes() - before;
        columns.push(stream, timestamp, line, set);
        Ok(())
    }

    fn is_too_large(&self) -> bool {
        self.bytes > self.inner.config.wal.record_bytes_max
    }

    /// Hands the batch to log and memory. It shows in snapshots from now on, and is acknowledged
    /// when [`Commit::wait`] answers. When memory or the log is full it waits until they are sealed.
    ///
    /// # Errors
    /// [`Kind::Limit`] when the memory budget is used up or the batch is larger than
    /// `Config::wal.record_bytes_max`, [`Kind::Io`] when memory is full and cannot be sealed,
    /// [`Kind::Poisoned`] after a failed write, [`Kind::Closed`]. Nothing was stored.
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
        self.accepted.stored = self.room.batch.columns.rows() as u64;
        let position = self.inner.append(&mut self.room.batch)?;
        self.inner.rooms.give_back(self.room);
        Ok(Commit {
            inner: self.inner,
            position,
            durability,
            accepted: self.accepted,
        })
    }
}

impl Bounds {
    fn check(&self, timestamp: i64) -> std::result::Result<(), (Reason, String)> {
        if timestamp < self.oldest_ns {
            let found = format!("oldest={}", self.oldest_ns);
            return Err((Reason::TooOld, found));
        }
        if timestamp > self.newest_ns {
            let found = format!("newest={}", self.newest_ns);
            return Err((Reason::TooFarInFuture, found));
        }
        Ok(())
    }
}

/// What of a line is stored. A line that is text stays text when it is cut.
fn fitting_line<'a>(
    config: &Config,
    line: &'a [u8],
    accepted: &mut Accepted,
) -> std::result::Result<&'a [u8], (Reason, String)> {
    let max = config.line_bytes_max;
    if line.len() <= max {
        return Ok(line);
    }
    if config.long_lines == LongLines::Refuse {
        let found = format!("bytes={} max={max}", line.len());
        return Err((Reason::LineTooLong, found));
    }
    accepted.truncated += 1;
    let is_continued = |&at: &usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // A character has four bytes at most; what goes on longer is no text.
    let end = (max.saturating_sub(3)..=max)
        .rev()
        .find(|at| !is_continued(at));
    Ok(line.get(..end.unwrap_or(max)).unwrap_or(line))
}

fn check_metadata(config: &Config, metadata: &Labels) -> std::result::Result<(), (Reason, String)> {
    // A pair takes four bytes at least, so that most sets need not be looked into.
    let encoded = metadata.encoded().len();
    if encoded <= config.metadata_bytes_max && encoded / 4 <= config.metadata_max {
        return Ok(());
    }
    let pairs = metadata.len();
    let bytes: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
    if bytes > config.metadata_bytes_max {
        let found = format!("bytes={bytes} max={}", config.metadata_bytes_max);
        return Err((Reason::MetadataTooLarge, found));
    }
    if pairs > config.metadata_max {
        let found = format!("pairs={pairs} max={}", config.metadata_max);
        return Err((Reason::TooManyMetadata, found));
    }
    Ok(())
}

fn check_labels(config: &Config, labels: &Labels) -> std::result::Result<(), (Reason, String)> {
    let count = labels.len();
    if count > config.labels_max {
        let found = format!("labels={count} max={}", config.labels_max);
        return Err((Reason::TooManyLabels, found));
    }
    let bytes: usize = labels.iter().map(|(n, v)| n.len() + v.len()).sum();
    if bytes > config.labels_bytes_max {
        let found = format!("bytes={bytes} max={}", config.labels_bytes_max);
        return Err((Reason::LabelsTooLarge, found));
    }
    Ok(())
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
