//! The store: wires log, memory and blocks in the order that makes acknowledgements true.
//!
//! append -> log -> memory -> acknowledge; seal -> block -> catalog -> truncate the log. Log and
//! memory change together under one lock, so that replay applies batches in the order in which they
//! were applied, and a seal takes all of memory up to one position of the log.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::{BlockSet, Edit};
use trine_storage::clock::Clock;
use trine_storage::fs::{Fs, Lock};
use trine_storage::shared::{Account, Maintain, Shared};
use trine_storage::wal::{Durability, Replay, Wal};
use trine_storage::{Error, Kind, Result};

use crate::appender::Appender;
use crate::block::reader::BlockFile;
use crate::block::writer;
use crate::config::{Builder, Config};
use crate::head::Head;
use crate::retention;
use crate::sample::Accepted;
use crate::snapshot::Snapshot;
use crate::stats::{Report, Stats};
use crate::wal_record::{self, Batch};

/// A store of series. A cheap handle: clones are the same store.
///
/// # Close semantics
/// [`Tsdb::close`] syncs the log and is the only way to hear of a final error. Dropping the last
/// handle loses nothing that was acknowledged either: the log is replayed at the next open.
#[derive(Debug, Clone)]
pub struct Tsdb {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    config: Config,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    wal: Wal,
    blocks: BlockSet<BlockFile>,
    memory: RwLock<Memory>,
    /// Held while a batch goes to log and memory, and while memory is swapped for a seal.
    order: Mutex<()>,
    /// Held by the one who seals.
    seal: Mutex<()>,
    account: Account,
    /// Kept so that the workers live as long as the store.
    shared: Shared,
    replay: Replay,
    background_error: Mutex<Option<String>>,
    closed: AtomicBool,
    _lock: Box<dyn Lock>,
}

#[derive(Debug)]
struct Memory {
    head: Arc<RwLock<Head>>,
    sealing: Option<Sealing>,
}

/// Memory that is being written into blocks: complete up to a position of the log.
#[derive(Debug, Clone)]
struct Sealing {
    head: Arc<RwLock<Head>>,
    position: u64,
}

impl Tsdb {
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
        let mut head = Head::default();
        let now_ms = clock.now_ms();
        let mut damaged = Vec::new();
        let mut each = |position: u64, record: &[u8]| match wal_record::decode(record) {
            Ok(batch) => {
                head.apply(&batch, now_ms, &mut Accepted::default());
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
        let account = shared.memory().account();
        account.set(head.bytes());
        let inner = Arc::new(Inner {
            config,
            fs,
            clock,
            wal,
            blocks,
            memory: RwLock::new(Memory {
                head: Arc::new(RwLock::new(head)),
                sealing: None,
            }),
            order: Mutex::new(()),
            seal: Mutex::new(()),
            account,
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
    /// timestamps are too old or too far ahead is judged by the clock at this moment.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.inner), self.inner.bounds())
    }

    /// A view of everything that was committed until now.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.blocks.read(|version| {
            let memory = self.inner.memory.read();
            let sealing = memory
                .sealing
                .iter()
                .map(|sealing| Arc::clone(&sealing.head));
            let heads = sealing.chain([Arc::clone(&memory.head)]).collect();
            Snapshot {
                version: Arc::clone(version),
                heads,
            }
        })
    }

    /// Seals all of memory into blocks and commits them to the catalog.
    ///
    /// # Errors
    /// [`Kind::Io`] and [`Kind::Poisoned`]; memory stays readable and the log keeps it.
    pub fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    /// Does what is due now: seals memory that is large or old enough, drops blocks that the
    /// retention is done with. Workers do this by themselves; a store without workers is told to.
    ///
    /// # Errors
    /// As [`Tsdb::flush`].
    pub fn maintain(&self) -> Result<()> {
        self.inner.do_maintenance()
    }

    /// Reads every block from the first to the last byte and checks it.
    pub fn verify(&self) -> Report {
        let mut report = Report {
            errors: self.inner.blocks.quarantined(),
            ..Report::default()
        };
        for block in &self.inner.blocks.version().blocks {
            match block.reader.verify(&block.meta) {
                Ok(samples) => {
                    report.blocks += 1;
                    report.samples += samples;
                }
                Err(error) => report.errors.push(error),
            }
        }
        report
    }

    /// Figures of the store.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let snapshot = self.snapshot();
        let quarantined = inner.blocks.quarantined();
        let mut stats = Stats {
            wal: inner.wal.stats(),
            replayed_bytes: inner.replay.bytes,
            damaged: inner.replay.damaged.clone(),
            background_error: inner.background_error.lock().clone(),
            ..Stats::default()
        };
        stats
            .damaged
            .extend(quarantined.iter().map(ToString::to_string));
        for head in &snapshot.heads {
            let head = head.read();
            stats.head_series += head.series_count() as u64;
            stats.head_samples += head.samples();
            stats.head_bytes += head.bytes();
        }
        for block in &snapshot.version.blocks {
            stats.blocks += 1;
            stats.block_bytes += block.meta.bytes;
            stats.block_samples += block.meta.rows;
        }
        stats
    }

    /// Syncs the log and refuses everything that comes later with [`Kind::Closed`]. May be called
    /// more than once.
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

    /// The oldest and the newest timestamp that are taken now.
    fn bounds(&self) -> RangeInclusive<i64> {
        let now_ms = self.clock.now_ms();
        let ahead = |max: std::time::Duration| {
            now_ms.saturating_add(i64::try_from(max.as_millis()).unwrap_or(i64::MAX))
        };
        let newest = self.config.future_max.map_or(i64::MAX, ahead);
        retention::oldest_ms(self.config.retention, now_ms)..=newest
    }

    /// Hands a batch to log and memory as one. Gives its position in the log, or `None` when it is
    /// empty.
    pub(crate) fn append(&self, batch: &Batch, accepted: &mut Accepted) -> Result<Option<u64>> {
        self.check_open()?;
        if batch.values.is_empty() {
            return Ok(None);
        }
        let record = batch.encode();
        self.admit(record.len() as u64)?;
        let _order = self.order.lock();
        self.check_open()?;
        let position = self.wal.append(&record)?;
        let memory = self.memory.read();
        let mut head = memory.head.write();
        head.apply(batch, self.clock.now_ms(), accepted);
        let sealing = memory.sealing.as_ref().map_or(0, |s| s.head.read().bytes());
        self.account.set(head.bytes() + sealing);
        Ok(Some(position))
    }

    /// Waits until the record at `position` is as durable as was asked for.
    pub(crate) fn wait(&self, position: u64, durability: Durability) -> Result<()> {
        self.wal.commit(position, durability)
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

    fn flush(&self) -> Result<()> {
        let _seal = self.seal.lock();
        // What an earlier seal could not write goes first: later blocks win.
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
        let head = sealing.head.read();
        let now_ms = self.clock.now_ms();
        let ranges = writer::plan(&head, self.config.block_range, self.config.block_ranges_max);
        let mut edit = Edit {
            wal_position: Some(sealing.position),
            ..Edit::default()
        };
        for range in ranges {
            let id = self.blocks.next_id(&*self.clock);
            let path = self.blocks.temporary(id);
            edit.add
                .push(writer::write(&*self.fs, &path, id, &head, range, now_ms)?);
        }
        drop(head);
        self.blocks.commit(&edit, || {
            let mut memory = self.memory.write();
            memory.sealing = None;
            self.account.set(memory.head.read().bytes());
        })?;
        self.wal.truncate(sealing.position)
    }

    /// Swaps memory for an empty head, unless an earlier seal failed and is to be tried again.
    fn begin_seal(&self) -> Option<Sealing> {
        let _order = self.order.lock();
        let mut memory = self.memory.write();
        if memory.sealing.is_none() {
            if memory.head.read().is_empty() {
                return None;
            }
            let head = std::mem::take(&mut memory.head);
            memory.sealing = Some(Sealing {
                head,
                position: self.wal.next_position(),
            });
        }
        memory.sealing.clone()
    }

    /// Whether memory is large or old enough to be sealed.
    fn seal_is_due(&self) -> bool {
        let memory = self.memory.read();
        let head = memory.head.read();
        let old = head.since_ms().is_some_and(|since| {
            let age_ms = self.clock.now_ms().saturating_sub(since);
            u128::try_from(age_ms).unwrap_or(0) >= self.config.seal_age.as_millis()
        });
        let crowded = self.shared.memory().used() > self.shared.memory().max() / 2;
        memory.sealing.is_some()
            || (!head.is_empty()
                && (old
                    || crowded
                    || head.bytes() >= self.config.head_bytes_max
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
        let version = self.blocks.version();
        let metas = version.blocks.iter().map(|block| &block.meta);
        let remove = retention::plan(metas, self.config.retention, self.clock.now_ms());
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
