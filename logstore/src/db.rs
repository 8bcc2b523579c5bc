//! The store: wires log, memory and blocks in the order that makes acknowledgements true.
//!
//! append -> log -> memory -> acknowledge; seal -> block -> catalog -> truncate the log. Log and
//! memory change together under one lock, so that replay applies batches in the order in which they
//! were applied, and a seal takes all of memory up to one position of the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::{BlockSet, Edit};
use trine_storage::clock::Clock;
use trine_storage::fs::{Fs, Lock};
use trine_storage::shared::{Maintain, Shared};
use trine_storage::wal::{Durability, Replay, Wal};
use trine_storage::{Error, Kind, Result};

use crate::appender::{Appender, Bounds};
use crate::block::reader::BlockFile;
use crate::buffer::{Buffer, batch_bytes};
use crate::config::{Builder, Config, nanos};
use crate::retention;
use crate::seal::Sealer;
use crate::snapshot::Snapshot;
use crate::stats::{Report, Stats};
use crate::wal_record::{self, Batch};

/// A store of log streams. A cheap handle: clones are the same store.
///
/// # Close semantics
/// [`LogStore::close`] syncs the log and is the only way to hear of a final error. Dropping the
/// last handle loses nothing that was acknowledged either: the log is replayed at the next open.
#[derive(Debug, Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) wal: Wal,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    blocks: BlockSet<BlockFile>,
    memory: RwLock<Memory>,
    /// Held while a batch goes to log and memory, and while memory is swapped for a seal.
    order: Mutex<()>,
    /// Held by the one who changes the set of blocks.
    seal: Mutex<()>,
    /// Kept so that the workers live as long as the store.
    shared: Shared,
    replay: Replay,
    background_error: Mutex<Option<String>>,
    closed: AtomicBool,
    _lock: Box<dyn Lock>,
}

#[derive(Debug)]
struct Memory {
    buffer: Arc<Buffer>,
    sealing: Option<Sealing>,
}

/// Memory that is being written into blocks: complete up to a position of the log.
#[derive(Debug, Clone)]
struct Sealing {
    buffer: Arc<Buffer>,
    position: u64,
}

impl LogStore {
    /// Opens the store in the directory `path` with the defaults, creating it if it is missing.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// A builder for other settings or components.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }

    pub(crate) fn assemble(
        path: &Path,
        config: Config,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        shared: &Shared,
    ) -> Result<Self> {
        let shown = path.display();
        fs.create_dir_all(path)
            .map_err(|e| Error::io(format!("create {shown}"), e))?;
        let lock = fs.lock(&path.join("lock")).map_err(|error| {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                let what = format!("{shown} is in use by another process; stop it first");
                Error::new(Kind::Locked, what)
            } else {
                Error::io(format!("lock {shown}"), error)
            }
        })?;
        let blocks = BlockSet::open(Arc::clone(&fs), path)?;
        let buffer = Buffer::new(shared.memory().account());
        let now_ns = clock.now_ns();
        let mut damaged = Vec::new();
        let mut each = |position: u64, record: &[u8]| match wal_record::decode(record) {
            Ok(batch) => {
                buffer.apply(&batch, now_ns);
                Ok(())
            }
            // One bad record must not keep the store from opening for ever.
            Err(error) if error.kind() == Kind::Corrupt => {
                damaged.push(format!("record {position} of the log is lost: {error}"));
                Ok(())
            }
            Err(error) => Err(error),
        };
        let from = blocks.version().wal_position;
        let (wal, mut replay) = Wal::open(
            Arc::clone(&fs),
            &path.join("wal"),
            config.wal.clone(),
            from,
            &mut each,
        )?;
        replay.damaged.extend(damaged);
        // A crash may have come between the catalog's commit and this.
        wal.truncate(from)?;
        let inner = Arc::new(Inner {
            config,
            wal,
            fs,
            clock,
            blocks,
            memory: RwLock::new(Memory {
                buffer: Arc::new(buffer),
                sealing: None,
            }),
            order: Mutex::new(()),
            seal: Mutex::new(()),
            shared: shared.clone(),
            replay,
            background_error: Mutex::new(None),
            closed: AtomicBool::new(false),
            _lock: lock,
        });
        let maintained: Arc<dyn Maintain> = Arc::<Inner>::clone(&inner);
        shared.register(Arc::downgrade(&maintained));
        Ok(Self { inner })
    }

    /// An empty batch. Batches of several appenders may be committed at the same time. Which
    /// timestamps are too old or too new is judged by the clock at this moment.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.inner))
    }

    /// A view of everything that was committed until now, and of nothing that comes later.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.blocks.read(|version| {
            let memory = self.inner.memory.read();
            let sealing = memory.sealing.iter().map(|sealing| sealing.buffer.view());
            let views = sealing.chain([memory.buffer.view()]).collect();
            Snapshot::new(Arc::clone(version), views)
        })
    }

    /// Seals all of memory into blocks and commits them to the catalog.
    ///
    /// # Errors
    /// [`Kind::Io`], [`Kind::Poisoned`] and [`Kind::Closed`]; memory stays readable and the log
    /// keeps it.
    pub fn flush(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.flush()
    }

    /// Does what is due now: seals memory that is large or old enough, drops blocks that the
    /// retention is done with. Workers do this by themselves; a store without workers is told to.
    ///
    /// # Errors
    /// As [`LogStore::flush`].
    pub fn maintain(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.do_maintenance()
    }

    /// Reads every block from the first to the last byte and checks it.
    pub fn verify(&self) -> Report {
        let mut report = Report {
            errors: self.inner.blocks.quarantined(),
            ..Report::default()
        };
        for block in &self.inner.blocks.version().blocks {
            match block.reader.verify() {
                Ok(rows) => {
                    report.blocks += 1;
                    report.rows += rows;
                }
                Err(error) => report.errors.push(error),
            }
        }
        report
    }

    /// Figures of the store.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let mut stats = Stats {
            wal: inner.wal.stats(),
            replayed_bytes: inner.replay.bytes,
            damaged: inner.replay.damaged.clone(),
            background_error: inner.background_error.lock().clone(),
            ..Stats::default()
        };
        stats
            .damaged
            .extend(inner.blocks.quarantined().iter().map(ToString::to_string));
        let (version, figures) = inner.blocks.read(|version| {
            let memory = inner.memory.read();
            let sealing = memory
                .sealing
                .iter()
                .map(|sealing| sealing.buffer.figures());
            let figures: Vec<_> = sealing.chain([memory.buffer.figures()]).collect();
            (Arc::clone(version), figures)
        });
        for figures in figures {
            stats.buffer_streams += figures.streams;
            stats.buffer_rows += figures.rows;
            stats.buffer_bytes += figures.bytes;
        }
        for block in &version.blocks {
            stats.blocks += 1;
            stats.block_bytes += block.meta.bytes;
            stats.block_rows += block.meta.rows;
        }
        stats
    }

    /// Syncs the log and refuses every later change with [`Kind::Closed`]. May be called more than
    /// once. Snapshots stay usable.
    ///
    /// # Errors
    /// [`Kind::Io`] and [`Kind::Poisoned`] when the log cannot be synced.
    pub fn close(&self) -> Result<()> {
        self.inner.closed.store(true, Ordering::SeqCst);
        let _order = self.inner.order.lock();
        match self.inner.wal.next_position().checked_sub(1) {
            Some(last) => self.inner.wal.commit(last, Durability::Synced),
            None => Ok(()),
        }
    }
}

impl Inner {
    /// Hands a batch to log and memory as one. Gives its position in the log, or `None` when it is
    /// empty.
    pub(crate) fn append(&self, batch: &Batch) -> Result<Option<u64>> {
        self.check_open()?;
        if batch.columns.rows() == 0 {
            return Ok(None);
        }
        self.admit(batch_bytes(batch))?;
        let record = batch.encode();
        let _order = self.order.lock();
        self.check_open()?;
        let position = self.wal.append(&record)?;
        self.memory.read().buffer.apply(batch, self.clock.now_ns());
        Ok(Some(position))
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let now_ns = self.clock.now_ns();
        // A half-open range cannot hold the very last instant.
        let last = i64::MAX - 1;
        let ahead = |max| now_ns.saturating_add(nanos(max)).min(last);
        Bounds {
            oldest_ns: retention::oldest_ns(self.config.retention, now_ns),
            newest_ns: self.config.future_max.map_or(last, ahead),
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(
                Kind::Closed,
                "the store is closed; open it again",
            ));
        }
        Ok(())
    }

    /// Refuses a batch that memory has no room for.
    fn admit(&self, bytes: u64) -> Result<()> {
        if self.shared.memory().would_exceed(bytes) {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "the memory budget of {} bytes is used up; send again later or raise it",
                    self.shared.memory().max()
                ),
            ));
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let _seal = self.seal.lock();
        // What an earlier seal could not write goes first: blocks are in the order of appending.
        let again = self.memory.read().sealing.is_some();
        self.seal_once()?;
        if again { self.seal_once() } else { Ok(()) }
    }

    fn seal_once(&self) -> Result<()> {
        if let Some(error) = self.wal.failure() {
            return Err(Error::caused_by(
                Kind::Poisoned,
                format!("nothing is sealed after a failed write of the log: {error}"),
                error,
            ));
        }
        let Some(sealing) = self.begin_seal() else {
            return Ok(());
        };
        let sealer = Sealer {
            fs: &self.fs,
            clock: &*self.clock,
            blocks: &self.blocks,
            config: &self.config,
        };
        let add = sealer.write(&sealing.buffer.view())?;
        let edit = Edit {
            add,
            wal_position: Some(sealing.position),
            ..Edit::default()
        };
        self.blocks
            .commit(&edit, || self.memory.write().sealing = None)?;
        self.wal.truncate(sealing.position)
    }

    /// Swaps memory for an empty buffer, unless an earlier seal failed and is to be tried again.
    fn begin_seal(&self) -> Option<Sealing> {
        let _order = self.order.lock();
        let mut memory = self.memory.write();
        if memory.sealing.is_none() {
            if memory.buffer.is_empty() {
                return None;
            }
            let empty = Arc::new(Buffer::new(self.shared.memory().account()));
            let buffer = std::mem::replace(&mut memory.buffer, empty);
            memory.sealing = Some(Sealing {
                buffer,
                position: self.wal.next_position(),
            });
        }
        memory.sealing.clone()
    }

    /// Whether memory is large or old enough to be sealed.
    fn seal_is_due(&self) -> bool {
        let memory = self.memory.read();
        let figures = memory.buffer.figures();
        let age_ns = figures
            .since_ns
            .map(|since| self.clock.now_ns().saturating_sub(since));
        let crowded = self.shared.memory().used() > self.shared.memory().max() / 2;
        memory.sealing.is_some()
            || (figures.rows > 0
                && (crowded
                    || age_ns.is_some_and(|age| age >= nanos(self.config.seal_age))
                    || figures.bytes >= self.config.buffer_bytes_max
                    || self.wal.stats().bytes >= self.config.wal_bytes_max))
    }

    fn do_maintenance(&self) -> Result<()> {
        if self.seal_is_due() {
            self.flush()?;
        }
        self.retain()
    }

    /// Removes the blocks that the retention is done with.
    fn retain(&self) -> Result<()> {
        let _seal = self.seal.lock();
        let version = self.blocks.version();
        let metas = version.blocks.iter().map(|block| &block.meta);
        let remove = retention::plan(metas, self.config.retention, self.clock.now_ns());
        if remove.is_empty() {
            return Ok(());
        }
        self.blocks.commit(
            &Edit {
                remove,
                ..Edit::default()
            },
            || {},
        )
    }
}

impl Maintain for Inner {
    fn maintain(&self) {
        if self.check_open().is_err() {
            return;
        }
        let result = self.do_maintenance();
        *self.background_error.lock() = result.err().map(|error| error.to_string());
    }

    fn panicked(&self, message: &str) {
        let what = format!("a defect stopped the background work until a restart: {message}");
        *self.background_error.lock() = Some(what);
    }
}

#[cfg(test)]
mod tests;
