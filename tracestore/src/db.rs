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
use trine_storage::fs::{self, Fs, Lock};
use trine_storage::shared::{Account, Maintain, Shared};
use trine_storage::wal::{Durability, Replay, Wal};
use trine_storage::{Error, Kind, Result};

use crate::appender::Appender;
use crate::block::reader::BlockFile;
use crate::block::writer;
use crate::config::{Builder, Config};
use crate::live::Live;
use crate::otlp::{Bounds, Malformed, check};
use crate::retention;
use crate::snapshot::Snapshot;
use crate::stats::{Accepted, Report, Stats};
use crate::wal_record;

/// A store of traces. A cheap handle: clones are the same store.
///
/// # Close semantics
/// [`TraceStore::close`] syncs the log and is the only way to hear of a final error. Dropping the
/// last handle loses nothing that was acknowledged either: the log is replayed at the next open.
#[derive(Debug, Clone)]
pub struct TraceStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
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
    live: Arc<RwLock<Live>>,
    sealing: Option<Sealing>,
}

/// Memory that is being written into blocks: complete up to a position of the log.
#[derive(Debug, Clone)]
struct Sealing {
    live: Arc<RwLock<Live>>,
    position: u64,
}

impl TraceStore {
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
        let lock = fs::claim(&*fs, path)?;
        let blocks = BlockSet::open(Arc::clone(&fs), path)?;
        let mut live = Live::default();
        let now_ns = clock.now_ns();
        let mut damaged = Vec::new();
        let mut replay = |record: &[u8]| {
            let (bounds, request) = wal_record::decode(record)?;
            let planned = check(request, &bounds).and_then(|(plan, _)| live.apply(&plan, now_ns));
            planned.map_err(|malformed| Error::corrupt("a record", 0, malformed.into_error()))
        };
        let mut each = |position: u64, record: &[u8]| match replay(record) {
            Ok(()) => Ok(()),
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
        account.set(live.bytes());
        let inner = Arc::new(Inner {
            config,
            fs,
            clock,
            wal,
            blocks,
            memory: RwLock::new(Memory {
                live: Arc::new(RwLock::new(live)),
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
    /// spans are too old or too far ahead is judged by the clock at this moment.
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
                .map(|sealing| Arc::clone(&sealing.live));
            let memory = sealing.chain([Arc::clone(&memory.live)]).collect();
            Snapshot {
                version: Arc::clone(version),
                memory,
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
    /// As [`TraceStore::flush`].
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
                Ok(spans) => {
                    report.blocks += 1;
                    report.spans += spans;
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
        for live in &snapshot.memory {
            let live = live.read();
            stats.live_traces += live.traces() as u64;
            stats.live_spans += live.columns.rows() as u64;
            stats.live_bytes += live.bytes();
        }
        for block in &snapshot.version.blocks {
            stats.blocks += 1;
            stats.block_bytes += block.meta.bytes;
            stats.block_spans += block.meta.rows;
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
    /// What spans are judged by now.
    fn bounds(&self) -> Bounds {
        let now_ns = self.clock.now_ns();
        let ahead = |max: std::time::Duration| {
            now_ns.saturating_add(i64::try_from(max.as_nanos()).unwrap_or(i64::MAX))
        };
        let newest = self.config.future_max.map_or(i64::MAX, ahead);
        Bounds {
            oldest_ns: retention::oldest_ns(self.config.retention, now_ns),
            newest_ns: newest,
            span_bytes_max: self.config.span_bytes_max as u64,
            attributes_max: self.config.span_attributes_max as u64,
        }
    }

    /// Hands a request to log and memory as one. Gives its position in the log, unless nothing of it
    /// is stored, and what became of it.
    pub(crate) fn append(
        &self,
        request: &[u8],
        bounds: &Bounds,
    ) -> Result<(Option<u64>, Accepted)> {
        self.check_open()?;
        let (plan, accepted) = check(request, bounds).map_err(Malformed::into_error)?;
        if plan.spans.is_empty() {
            return Ok((None, accepted));
        }
        self.shared.memory().admit(request.len() as u64)?;
        let head = wal_record::encode_head(bounds);
        let _order = self.order.lock();
        self.check_open()?;
        let position = self.wal.append_parts(&[&head, request])?;
        let memory = self.memory.read();
        let mut live = memory.live.write();
        live.apply(&plan, self.clock.now_ns())
            .map_err(Malformed::into_error)?;
        let sealing = memory.sealing.as_ref().map_or(0, |s| s.live.read().bytes());
        self.account.set(live.bytes() + sealing);
        Ok((Some(position), accepted))
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
        let live = sealing.live.read();
        let ranges = writer::plan(&live, self.config.block_range, self.config.block_ranges_max);
        let mut edit = Edit {
            wal_position: Some(sealing.position),
            ..Edit::default()
        };
        let mut files = Vec::new();
        for traces in &ranges {
            let file = self.blocks.begin(&*self.clock);
            let (path, id, now_ms) = (file.path(), file.id(), self.clock.now_ms());
            let meta = writer::write(&*self.fs, path, id, &live, traces, now_ms)?;
            edit.add.push(meta);
            files.push(file);
        }
        drop(live);
        self.blocks.commit(&edit, || {
            let mut memory = self.memory.write();
            memory.sealing = None;
            self.account.set(memory.live.read().bytes());
        })?;
        self.wal.truncate(sealing.position)
    }

    /// Swaps memory for an empty one, unless an earlier seal failed and is to be tried again.
    fn begin_seal(&self) -> Option<Sealing> {
        let _order = self.order.lock();
        let mut memory = self.memory.write();
        if memory.sealing.is_none() {
            if memory.live.read().is_empty() {
                return None;
            }
            let live = std::mem::take(&mut memory.live);
            memory.sealing = Some(Sealing {
                live,
                position: self.wal.next_position(),
            });
        }
        memory.sealing.clone()
    }

    /// Whether memory is large or old enough to be sealed.
    fn seal_is_due(&self) -> bool {
        let memory = self.memory.read();
        let live = memory.live.read();
        let old = live.since_ns().is_some_and(|since| {
            let age_ns = self.clock.now_ns().saturating_sub(since);
            u128::try_from(age_ns).unwrap_or(0) >= self.config.seal_age.as_nanos()
        });
        let crowded = self.shared.memory().used() > self.shared.memory().max() / 2;
        memory.sealing.is_some()
            || (!live.is_empty()
                && (old
                    || crowded
                    || live.bytes() >= self.config.live_bytes_max
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
