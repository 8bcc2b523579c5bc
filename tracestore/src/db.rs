//! The store: wires log, memory and blocks in the order that makes acknowledgements true.
//!
//! append -> log -> memory -> acknowledge; seal -> block -> catalog -> truncate the log; blocks are
//! merged into larger ones, and shipped where there is a depot. `db/append` has the first line, `db/seal`
//! the second, `db/compact` and `db/ship` the third, `db/open` puts a store together. Log and memory change together under one lock, so that
//! replay applies batches in the order in which they were applied, and a seal takes all of memory
//! up to one position of the log.
//!
//! Locks are taken in this order: compacting, shipping, deleting, sealing, order, those of the block set,
//! live. Of these only the first three are held while the network is waited for, and neither appends nor
//! seals take them.

mod append;
mod compact;
mod delete;
mod open;
mod seal;
mod ship;
mod verify;

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::{BlockReader, BlockSet, Shipped, Version, warm};
use trine_storage::catalog::BlockMeta;
use trine_storage::clock::Clock;
use trine_storage::fs::{Fs, Lock};
use trine_storage::shared::{Account, Maintain, Shared};
use trine_storage::shipping::{Shipper, Shipping, Ships as _};
use trine_storage::wal::{Durability, Replay, Wal};
use trine_storage::{Error, Kind, Result, TimeRange};

use self::compact::Compaction;
pub use self::delete::Deletion;
use crate::appender::Appender;
use crate::block::image::BlockFile;
use crate::config::{Builder, Config};
use crate::live::Live;
use crate::model::TraceId;
use crate::place::{Held, Place, Snapshot};
use crate::request::Filter;
use crate::retention::Retention;
use crate::stats::{Report, Stats};
use crate::tombstone::{Deleted, Tombstones};

/// A store of traces. A cheap handle: clones are the same store.
///
/// # Close semantics
/// [`TraceStore::close`] syncs the log and is the only way to hear of a final error. Dropping the last
/// handle (and the last [`Appender`]) loses nothing that was acknowledged either: the log is replayed
/// at the next open. After either the directory can be opened again.
#[derive(Debug, Clone)]
pub struct TraceStore {
    inner: Arc<Handle>,
}

/// What all clones and appenders share. The workers know the store by other ways, which do not keep
/// it open.
#[derive(Debug)]
pub(crate) struct Handle {
    inner: Arc<Inner>,
}

impl Deref for Handle {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.let_go();
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    wal: Wal,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    blocks: BlockSet<BlockFile>,
    live: Mutex<Live>,
    /// When the last snapshot was taken, nanoseconds since 1970.
    read_ns: AtomicI64,
    /// What memory takes of the budget.
    account: Account,
    /// Held while a batch goes to log and memory, and while memory is taken for a seal.
    order: Mutex<()>,
    /// Held by the one who seals.
    sealing: Mutex<()>,
    /// Held by the one who merges or removes blocks.
    compacting: Mutex<()>,
    /// Held by the one who changes the deletes.
    deleting: Mutex<()>,
    tombstones: RwLock<Arc<Tombstones>>,
    /// The highest number of a delete that a file may have been written without.
    carried_out: AtomicU64,
    retention: Arc<Retention>,
    /// What compaction found out.
    compaction: Mutex<Compaction>,
    shipping: Shipping,
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

/// Why the last background work of each kind failed.
#[derive(Debug, Default)]
struct BackgroundErrors {
    seal: Option<String>,
    compact: Option<String>,
    ship: Option<String>,
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

    /// An empty batch. Batches of several appenders may be committed at the same time. Which
    /// spans are too old or too far ahead is judged by the clock at this moment.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.inner), self.inner.bounds())
    }

    /// A view of everything that was committed until now, and of nothing that comes later. Where another
    /// process writes it is what that had shipped when this last followed; if that was long ago, this
    /// looks first what is new, which may take as long as the depot takes.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
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

    /// Seals, merges what was sealed, carries out all deletes, and merges blocks until nothing is
    /// left to merge. With a depot everything is shipped meanwhile.
    ///
    /// # Errors
    /// As [`TraceStore::flush`], and with a depot as [`TraceStore::ship`]; [`Kind::Locked`] and
    /// [`Kind::ReadOnly`] where this process is not the writer.
    pub fn compact(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.compact_all()
    }

    /// Deletes the trace `id`; no snapshot that is taken when this has returned sees it, and
    /// compaction removes it from the files after `Config::delete_delay`. Spans of it that are
    /// appended later are not concerned. Gives the number of the delete.
    ///
    /// # Errors
    /// As [`TraceStore::flush`]; [`Kind::Limit`] when `Config::deletes_max` deletes are not done
    /// with. Nothing is deleted then. With a depot also [`Kind::Locked`] and [`Kind::ReadOnly`] where
    /// this process is not the writer, and [`Kind::Unavailable`] when the depot does not answer: the
    /// delete is in force a little later if it came through.
    ///
    /// # Durability
    /// The delete survives a loss of power when this returns; with a depot that of the disk, too.
    pub fn delete_trace(&self, id: TraceId) -> Result<u64> {
        self.inner.delete(Deleted::Trace(id), TimeRange::ALL)
    }

    /// Deletes the spans that begin in `range` (nanoseconds) and satisfy `filter`, as
    /// [`TraceStore::delete_trace`] does.
    ///
    /// # Errors
    /// As [`TraceStore::delete_trace`]; [`Kind::Limit`] for a filter of more than 64 KiB, too.
    ///
    /// # Durability
    /// As [`TraceStore::delete_trace`].
    pub fn delete(&self, filter: &Filter, range: TimeRange) -> Result<u64> {
        self.inner.delete(Deleted::Spans(filter.clone()), range)
    }

    /// The deletes whose spans may still be in files, by number.
    pub fn deletes(&self) -> Vec<Deletion> {
        self.inner.deletes()
    }

    /// Takes back the delete `number`, so that its spans are seen again.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when there is none or it was asked for longer than `Config::delete_delay`
    /// ago; [`Kind::Io`], [`Kind::Poisoned`], [`Kind::Closed`].
    pub fn cancel_delete(&self, number: u64) -> Result<()> {
        self.inner.cancel_delete(number)
    }

    /// Makes the directory `target` a store of its own that holds everything that was committed
    /// before: hard links where the file system can, copies otherwise.
    ///
    /// # Errors
    /// As [`TraceStore::flush`]; [`Kind::Invalid`] when `target` is a store already.
    ///
    /// # Durability
    /// The copy survives a loss of power when this returns.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<()> {
        self.inner.backup(target.as_ref())
    }

    /// Does what is due now: seals memory that is large or old enough, merges blocks, drops blocks
    /// that the retention is done with, ships and follows. Workers do this by themselves; a store without workers is
    /// told to.
    ///
    /// # Errors
    /// As [`TraceStore::flush`].
    pub fn maintain(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.seal_if_due()?;
        self.inner.compact_if_due()?;
        self.inner.ship_if_due()
    }

    /// Looks what other processes have shipped and deleted, and shows it from now on. Gives whether
    /// there was anything new. Without a depot there never is.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the depot does not answer, [`Kind::Corrupt`] when a delete cannot be
    /// read: what was seen before is seen then. [`Kind::Io`], [`Kind::Poisoned`], [`Kind::Closed`].
    pub fn follow(&self) -> Result<bool> {
        self.inner.follow()
    }

    /// Makes the store ready to be written to, when this process has become the writer: what is appended
    /// from now on is later than everything that was shipped. A store that is opened by the writer is
    /// ready; of one that is not the first append makes it so.
    ///
    /// # Errors
    /// As [`TraceStore::follow`] and [`TraceStore::flush`]; [`Kind::Locked`] and [`Kind::ReadOnly`]
    /// where this process is not the writer.
    pub fn take_over(&self) -> Result<()> {
        self.inner.take_over()
    }

    /// Seals all of memory, ships everything that is on this disk only, and waits for it. Without a depot
    /// it does nothing but to seal.
    ///
    /// # Errors
    /// As [`TraceStore::flush`]; [`Kind::Unavailable`] when the depot does not answer, [`Kind::Locked`]
    /// and [`Kind::ReadOnly`] where this process is not the writer: what was not shipped stays here, and
    /// is shipped later.
    ///
    /// # Durability
    /// What was committed before is in the depot when this returns, whatever becomes of this disk.
    pub fn ship(&self) -> Result<Shipped> {
        self.inner.ship_all()
    }

    /// Reads blocks, catalog and log from the first to the last byte and checks them.
    pub fn verify(&self) -> Report {
        self.inner.verify()
    }

    /// Figures of the store.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let mut stats = Stats {
            wal: inner.wal.stats(),
            deletes: inner.tombstones().len() as u64,
            replayed_bytes: inner.replay.bytes,
            damaged: inner.replay.damaged.clone(),
            background_error: inner.background_error.lock().first(),
            ..Stats::default()
        };
        let quarantined = inner.blocks.quarantined();
        stats.quarantined = quarantined.len() as u64;
        stats
            .damaged
            .extend(quarantined.iter().map(ToString::to_string));
        stats.damaged.extend(inner.compaction.lock().damaged());
        let (version, figures) = inner
            .blocks
            .read(|version| (Arc::clone(version), inner.live.lock().figures()));
        stats.add_live(&figures);
        let ships = inner.blocks.depot().is_some();
        if let Some(since_ns) = figures.since_ns.filter(|_| ships) {
            stats.unshipped_since(since_ns / 1_000_000);
        }
        for block in &version.blocks {
            stats.add_block(&block.meta, ships && !block.is_shipped());
        }
        stats
    }

    /// Bytes of all blocks by what they are. Opens every block, which is then kept open.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] and [`Kind::Io`] when a block cannot be read.
    pub fn sizes(&self) -> Result<Vec<(&'static str, u64)>> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        let version = self.inner.blocks.version();
        let new = version.blocks.iter().filter(|b| !b.reader.is_open());
        warm(new.map(|block| &**block), BlockFile::FIRST_SECTIONS)?;
        for block in &version.blocks {
            for (what, bytes) in block.reader.sizes()? {
                match sums.iter_mut().find(|(held, _)| *held == what) {
                    Some((_, sum)) => *sum += bytes,
                    None => sums.push((what, bytes)),
                }
            }
        }
        Ok(sums)
    }

    /// The blocks that are served, by name.
    pub fn blocks(&self) -> Vec<BlockMeta> {
        let version = self.inner.blocks.version();
        let metas = version.blocks.iter().map(|block| block.meta.clone());
        let mut metas: Vec<BlockMeta> = metas.collect();
        metas.sort_by_key(|meta| meta.id.to_string());
        metas
    }

    /// Syncs the log and refuses every later change with [`Kind::Closed`]. May be called more than
    /// once. Snapshots stay usable. The directory can be opened again.
    ///
    /// # Errors
    /// [`Kind::Io`] and [`Kind::Poisoned`] when the log cannot be synced.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

impl BackgroundErrors {
    fn first(&self) -> Option<String> {
        let first = self.seal.as_ref().or(self.compact.as_ref());
        first.or(self.ship.as_ref()).cloned()
    }
}

/// The blocks of a version, those that were appended first before the others.
fn by_sequence(version: &Version<BlockFile>) -> Vec<Held> {
    let mut blocks = version.blocks.clone();
    blocks.sort_by_key(|block| (block.meta.sequence, block.meta.id));
    blocks.into_iter().map(Held::Block).collect()
}

impl Inner {
    fn snapshot(&self) -> Snapshot {
        self.follow_to_read();
        let now_ns = self.clock.now_ns();
        self.read_ns.store(now_ns, Ordering::Relaxed);
        let has_strangers = self.has_strangers();
        let (held, run, hidden) = self.blocks.read(|version| {
            let mut live = self.live.lock();
            let run = live.cut(&version.blocks, now_ns);
            let mut held = by_sequence(version);
            held.extend(live.runs().cloned().map(Held::Run));
            (held, run, self.hidden())
        });
        if let Some(run) = run {
            self.build(&run);
        }
        let places = held.into_iter();
        Snapshot {
            places: places
                .map(|held| {
                    let is_stranger = has_strangers && held.is_own();
                    Place::new(held, hidden.clone(), is_stranger)
                })
                .collect(),
        }
    }

    fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        // Who is appending goes first.
        let order = self.order.lock();
        let synced = match self.wal.next_position().checked_sub(1) {
            Some(last) => self.wal.commit(last, Durability::Synced),
            None => Ok(()),
        };
        drop(order);
        self.let_go();
        synced
    }

    /// Stops what goes on in the background and gives the directory back.
    fn let_go(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // They see that the store is closed and stop.
        let _compacting = self.compacting.lock();
        self.shipping.settle();
        let _deleting = self.deleting.lock();
        let _sealing = self.sealing.lock();
        *self.lock.lock() = None;
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

/// Merges and retains when it is due, beside the one who seals: merging takes long, and the log must
/// not grow meanwhile.
#[derive(Debug)]
struct Compactor {
    inner: Weak<Inner>,
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
        // A store that is closed meanwhile has no error to tell.
        let error = result.err().filter(|_| inner.check_open().is_ok());
        inner.background_error.lock().compact = error.map(|error| error.to_string());
    }

    fn panicked(&self, message: &str) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        let what = format!("a defect stopped the compaction until a restart: {message}");
        inner.background_error.lock().compact = Some(what);
    }
}

#[cfg(test)]
mod tests;
