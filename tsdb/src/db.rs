//! The store: wires log, memory, parts and blocks in the order that makes acknowledgements true.
//!
//! append -> memory and log -> acknowledge; seal -> part -> catalog -> truncate the log; parts are
//! cut into blocks, blocks are merged into larger ones, and shipped where there is a depot. `db/append`
//! has the first line, `db/seal` the second, `db/cut`, `db/compact` and `db/ship` the third, `db/open` puts
//! a store together.
//!
//! Locks are taken in this order: compacting, shipping, cutting, deleting, sealing, epoch, those of the
//! block set. Of these compacting, shipping and deleting are held while the network is waited for, and
//! neither appends nor seals nor cuts take them.

mod append;
mod compact;
mod cut;
mod delete;
mod open;
mod seal;
mod ship;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::{BlockReader, BlockSet, Shipped};
use trine_storage::catalog::BlockMeta;
use trine_storage::clock::Clock;
use trine_storage::fs::{Fs, Lock};
use trine_storage::shared::{Account, Maintain, Shared};
use trine_storage::shipping::{Shipper, Shipping, Ships as _};
use trine_storage::wal::{Durability, Replay, Wal};
use trine_storage::{Error, Kind, Labels, Matcher, Result, TimeRange};

pub(crate) use self::delete::Tombstones;
use self::ship::Recalled;
use crate::appender::{Appender, SeriesRef};
use crate::block::{PART_LEVEL, Sealed};
use crate::config::{Builder, Config};
use crate::head::Head;
use crate::histogram::BUCKETS_MAX;
use crate::metadata::MetadataTable;
use crate::snapshot::Snapshot;
use crate::stats::{Report, Stats};
use crate::wal_record;

/// A store of series. A cheap handle: clones are the same store.
///
/// # Close semantics
/// [`Tsdb::close`] syncs the log and is the only way to hear of a final error. Dropping the last
/// handle (and the last [`Appender`]) loses nothing that was acknowledged either: the log is replayed
/// at the next open. After either the directory can be opened again.
#[derive(Debug, Clone)]
pub struct Tsdb {
    handle: Arc<Handle>,
}

/// What all clones share. The workers know the store by other ways, which do not keep it open.
#[derive(Debug)]
struct Handle {
    inner: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.let_go();
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    config: Config,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    wal: Wal,
    pub(crate) blocks: BlockSet<Sealed>,
    pub(crate) head: Head,
    pub(crate) metadata: Mutex<MetadataTable>,
    /// The epoch that is appended to. Read-held while a batch goes to memory and log, so that what
    /// a seal takes is what the log holds up to its position.
    epoch: RwLock<u32>,
    /// When the first sample of the epoch came, milliseconds since 1970; `i64::MAX` for none yet.
    since_ms: AtomicI64,
    /// When the epoch began.
    flipped_ms: AtomicI64,
    /// The last epoch that began because nothing had come for long.
    quiet_epoch: AtomicU32,
    /// Held by the one who seals; the seal that failed and is to be tried again.
    sealing: Mutex<Option<Sealing>>,
    /// Held by the one who merges or removes blocks.
    compacting: Mutex<()>,
    /// Held by the one who merges or cuts parts.
    cutting: Mutex<()>,
    /// When the first sample came that is in parts and not in blocks, milliseconds since 1970;
    /// `i64::MAX` for none.
    uncut_ms: AtomicI64,
    /// Metadata changed since it was written to a file of its own.
    told: AtomicBool,
    shipping: Shipping,
    recalled: Recalled,
    /// Held by the one who changes the deletes.
    deleting: Mutex<()>,
    tombstones: RwLock<Arc<Tombstones>>,
    account: Account,
    /// Kept so that the workers live as long as the store.
    shared: Shared,
    shippers: Shared,
    replay: Replay,
    background_error: Mutex<BackgroundErrors>,
    closed: AtomicBool,
    /// Kept for the workers, who only know it weakly.
    compactor: Mutex<Option<Arc<Compactor>>>,
    shipper: Mutex<Option<Arc<Shipper<Inner>>>>,
    /// Held until the store is closed.
    lock: Mutex<Option<Box<dyn Lock>>>,
}

/// An epoch that is being written into a part: complete up to a position of the log.
#[derive(Debug, Clone, Copy)]
struct Sealing {
    epoch: u32,
    position: u64,
    /// Metadata changed.
    metadata: bool,
}

/// Why the last background work of each kind failed.
#[derive(Debug, Default)]
struct BackgroundErrors {
    seal: Option<String>,
    compact: Option<String>,
    ship: Option<String>,
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

    /// An empty batch. Batches of several appenders may be committed at the same time. Which
    /// timestamps are too old or too far ahead is judged by the clock at this moment.
    pub fn appender(&self) -> Appender {
        let now_ms = self.handle.inner.clock.now_ms();
        Appender::new(self.clone(), self.handle.inner.bounds(now_ms), now_ms)
    }

    /// The reference of a series that is in memory, for [`Appender::append_reference`].
    pub fn reference(&self, labels: &Labels) -> Option<SeriesRef> {
        let (id, generation) = self.handle.inner.head.reference(labels)?;
        Some(SeriesRef { id, generation })
    }

    /// A view of the store. Each read through it sees everything that was committed before. Where another
    /// process writes it is what that had shipped when this last followed; if that was long ago, this
    /// looks first what is new, which may take as long as the depot takes.
    pub fn snapshot(&self) -> Snapshot {
        self.handle.inner.follow_to_read();
        Snapshot {
            inner: Arc::clone(&self.handle.inner),
        }
    }

    /// Seals all of memory into a part and commits it to the catalog.
    ///
    /// # Errors
    /// [`Kind::Io`] and [`Kind::Poisoned`]; memory stays readable and the log keeps it.
    pub fn flush(&self) -> Result<()> {
        self.handle.inner.flush()
    }

    /// Seals, makes blocks of all that was sealed, and merges blocks until nothing is left to
    /// merge. With a depot all that is shipped before and after it.
    ///
    /// # Errors
    /// As [`Tsdb::flush`]; [`Kind::Corrupt`] when what is to be merged is damaged; with a depot those of
    /// [`Tsdb::ship`].
    pub fn compact(&self) -> Result<()> {
        self.handle.inner.compact_all()
    }

    /// Seals what is in memory, makes blocks of all that was sealed and ships what is on this disk only;
    /// waits for it. Without a depot it does nothing but to seal.
    ///
    /// # Errors
    /// As [`Tsdb::compact`]; [`Kind::Unavailable`] when the depot does not answer, [`Kind::Locked`] and
    /// [`Kind::ReadOnly`] when this process is not its writer. What was not shipped stays here and is
    /// shipped later.
    ///
    /// # Durability
    /// What was committed before is in the depot when this returns, whatever happens to this disk.
    pub fn ship(&self) -> Result<Shipped> {
        self.handle.inner.ship_all()
    }

    /// Looks what the depot has that was not seen here yet: blocks and deletes of the process that
    /// writes. Gives whether there was anything new. Workers do this by themselves while the store is
    /// read.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the depot does not answer; reads go on with what is known.
    /// [`Kind::Io`], [`Kind::Poisoned`], [`Kind::Closed`]; [`Kind::Corrupt`] for a delete that cannot be
    /// read.
    pub fn follow(&self) -> Result<bool> {
        self.handle.inner.follow()
    }

    /// Takes the store over when this process has become the writer of the depot: what is appended from
    /// now on is later than all that was shipped before. Open does this where the process is the
    /// writer; until it was done appends ask for it themselves.
    ///
    /// # Errors
    /// As [`Tsdb::follow`] and [`Tsdb::flush`]; [`Kind::Locked`] and [`Kind::ReadOnly`] when this process
    /// is not the writer.
    pub fn take_over(&self) -> Result<()> {
        self.handle.inner.take_over()
    }

    /// Deletes the samples in `range` (milliseconds) of the series that satisfy all `matchers`; no
    /// read sees them when this returns, and compaction removes them from the files. Labels of
    /// series that have no samples left may be told until then. Samples that are appended later are
    /// not concerned.
    ///
    /// # Errors
    /// As [`Tsdb::flush`]; with a depot also [`Kind::Locked`] and [`Kind::ReadOnly`] when this process is
    /// not its writer. Nothing is deleted then. [`Kind::Unavailable`] when the depot does not answer; if
    /// it had come through, the delete is in force as soon as it answers again.
    ///
    /// # Durability
    /// The delete survives a loss of power when this returns.
    pub fn delete(&self, matchers: &[Matcher], range: TimeRange) -> Result<()> {
        self.handle.inner.delete(matchers, range)
    }

    /// Makes the directory `target` a store of its own that holds everything that was committed
    /// before: hard links where the file system can, copies otherwise.
    ///
    /// # Errors
    /// As [`Tsdb::flush`]; [`Kind::Invalid`] when `target` is a store already.
    ///
    /// # Durability
    /// The copy survives a loss of power when this returns.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<()> {
        self.handle.inner.backup(target.as_ref())
    }

    /// Does what is due now: seals memory that is large or old enough, makes and merges blocks,
    /// drops blocks that the retention is done with, and ships. Workers do this by themselves; a store
    /// without workers is told to.
    ///
    /// # Errors
    /// As [`Tsdb::compact`] and [`Tsdb::follow`].
    pub fn maintain(&self) -> Result<()> {
        self.handle.inner.seal_if_due()?;
        let shipped = self.handle.inner.ship_if_due();
        self.handle.inner.compact_if_due()?;
        shipped
    }

    /// Reads every part and block, the catalog and the log from the first to the last byte and checks
    /// them.
    pub fn verify(&self) -> Report {
        let inner = &self.handle.inner;
        let mut report = Report {
            errors: inner.blocks.quarantined(),
            ..Report::default()
        };
        for block in &inner.blocks.version().blocks {
            let samples = match &block.reader {
                Sealed::Part(part) => part.verify(),
                Sealed::Block(file) => file.verify(&block.meta),
                Sealed::Metadata(file) => file
                    .verify()
                    .and_then(|()| MetadataTable::read(file).map(|_| 0)),
            };
            match samples {
                Ok(samples) => {
                    report.blocks += 1;
                    report.samples += samples;
                }
                Err(error) => report.errors.push(error),
            }
        }
        report.errors.extend(inner.blocks.verify_catalog().err());
        let mut decode = |record: &[u8]| wal_record::decode(record).map(drop);
        let mut log = inner.wal.verify(&mut decode);
        report.records = log.records;
        report.errors.append(&mut log.errors);
        report
    }

    /// Figures of the store.
    pub fn stats(&self) -> Stats {
        let inner = &self.handle.inner;
        let quarantined = inner.blocks.quarantined();
        let background = inner.background_error.lock();
        let mut stats = Stats {
            head_series: inner.head.series_count(),
            head_samples: inner.head.all_samples(),
            head_bytes: inner.memory_bytes(),
            head_times: inner.head.times(),
            wal: inner.wal.stats(),
            replayed_bytes: inner.replay.bytes,
            damaged: inner.replay.damaged.clone(),
            background_error: background
                .seal
                .clone()
                .or_else(|| background.compact.clone())
                .or_else(|| background.ship.clone()),
            ..Stats::default()
        };
        stats
            .damaged
            .extend(quarantined.iter().map(ToString::to_string));
        stats.deletes = inner.tombstones().len() as u64;
        let has_depot = inner.blocks.depot().is_some();
        stats.unshipped_since_ms = inner.uncut_since_ms().filter(|_| has_depot);
        for block in &inner.blocks.version().blocks {
            if has_depot && !block.is_shipped() && Sealed::is_shippable(&block.meta) {
                stats.unshipped_blocks += 1;
                stats.unshipped_bytes += block.meta.bytes;
                let since_ms = stats.unshipped_since_ms.into_iter();
                stats.unshipped_since_ms = since_ms.chain([block.meta.created_ms]).min();
            }
            stats.blocks += 1;
            stats.parts += u64::from(block.meta.level == PART_LEVEL);
            stats.block_bytes += block.meta.bytes;
            stats.block_samples += block.meta.rows;
        }
        stats
    }

    /// The parts and blocks that are served, by name.
    pub fn blocks(&self) -> Vec<BlockMeta> {
        let version = self.handle.inner.blocks.version();
        let metas = version.blocks.iter().map(|block| block.meta.clone());
        let mut metas: Vec<BlockMeta> = metas.collect();
        metas.sort_by_key(|meta| meta.id.to_string());
        metas
    }

    /// Syncs the log and refuses everything that comes later with [`Kind::Closed`]. May be called
    /// more than once.
    ///
    /// # Errors
    /// [`Kind::Io`] and [`Kind::Poisoned`] when the log cannot be synced.
    pub fn close(&self) -> Result<()> {
        self.handle.inner.close()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.handle.inner
    }
}

impl Inner {
    fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        // Who is appending goes first.
        let epoch = self.epoch.write();
        let synced = match self.wal.next_position().checked_sub(1) {
            Some(last) => self.wal.commit(last, Durability::Synced),
            None => Ok(()),
        };
        drop(epoch);
        self.let_go();
        synced
    }

    /// Stops what goes on in the background and gives the directory back.
    fn let_go(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // They see that the store is closed and stop at the next series.
        let _compacting = self.compacting.lock();
        self.shipping.settle();
        let _cutting = self.cutting.lock();
        let _deleting = self.deleting.lock();
        let _sealing = self.sealing.lock();
        *self.lock.lock() = None;
    }

    /// The most buckets that a histogram is stored with.
    pub(crate) fn histogram_buckets_max(&self) -> usize {
        self.config.histogram_buckets_max.min(BUCKETS_MAX)
    }

    /// Bytes that series, samples and metadata take, about.
    fn memory_bytes(&self) -> u64 {
        self.head.bytes() + self.metadata.lock().bytes()
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

    fn check_healthy(&self) -> Result<()> {
        match self.wal.failure() {
            None => Ok(()),
            Some(error) => Err(Error::caused_by(
                Kind::Poisoned,
                format!("an earlier write failed, nothing is written until a restart: {error}"),
                error,
            )),
        }
    }
}

/// Seals when it is due.
impl Maintain for Inner {
    fn maintain(&self) {
        if self.check_open().is_err() {
            return;
        }
        let result = self.seal_if_due();
        self.background_error.lock().seal = result.err().map(|error| error.to_string());
    }

    fn panicked(&self, message: &str) {
        let what = format!("a defect stopped the sealing until a restart: {message}");
        self.background_error.lock().seal = Some(what);
    }
}

/// Cuts and merges when it is due, beside the one who seals: merging takes long, and the log must
/// not grow meanwhile.
#[derive(Debug)]
struct Compactor {
    inner: std::sync::Weak<Inner>,
}

impl Maintain for Compactor {
    fn maintain(&self) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        if inner.check_open().is_err() {
            return;
        }
        let result = inner.compact_if_due();
        inner.background_error.lock().compact = result.err().map(|error| error.to_string());
    }

    fn panicked(&self, message: &str) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        let what = format!("a defect stopped the compaction until a restart: {message}");
        inner.background_error.lock().compact = Some(what);
    }
}
