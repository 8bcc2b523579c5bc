//! The store: wires log, memory and blocks in the order that makes acknowledgements true.
//!
//! append -> log -> memory -> acknowledge; seal -> block -> catalog -> truncate the log; blocks are
//! merged into larger ones. `db/append` has the first line, `db/seal` the second, `db/compact` the
//! third, `db/open` puts a store together. With a depot blocks are shipped and those of others are
//! followed: `db/ship`. Log and memory change together under one lock, so that
//! replay applies batches in the order in which they were applied, and a seal takes all of memory
//! up to one position of the log.
//!
//! Locks are taken in this order: compacting, shipping, deleting, sealing, order, those of the block set,
//! memory. Of these only the first three are held while the network is waited for, and neither appends
//! nor seals take them.

mod append;
mod compact;
mod delete;
mod open;
mod seal;
mod ship;
mod verify;

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::{Block, BlockSet, Shipped};
use trine_storage::catalog::BlockMeta;
use trine_storage::clock::Clock;
use trine_storage::fs::{Fs, Lock};
use trine_storage::shared::{Maintain, Shared};
use trine_storage::shipping::{Shipper, Shipping, Ships as _};
use trine_storage::wal::{Durability, Replay, Wal};
use trine_storage::{Error, Kind, Matcher, Result, TimeRange};

use self::compact::Compaction;
pub use self::delete::Deletion;
use crate::appender::{Appender, Rooms};
use crate::block::reader::BlockFile;
use crate::buffer::Buffer;
use crate::condition::Language;
use crate::config::{Builder, Config};
use crate::request::LineFilter;
use crate::retention::Retention;
use crate::scan;
use crate::snapshot::Snapshot;
use crate::stats::{Report, Stats};
use crate::tail::{Tail, Tails};
use crate::tombstone::Tombstones;

/// A store of log streams. A cheap handle: clones are the same store.
///
/// # Close semantics
/// [`LogStore::close`] syncs the log and is the only way to hear of a final error. Dropping the last
/// handle (and the last [`Appender`]) loses nothing that was acknowledged either: the log is replayed
/// at the next open. After either the directory can be opened again.
#[derive(Debug, Clone)]
pub struct LogStore {
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
    pub(crate) wal: Wal,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    blocks: BlockSet<BlockFile>,
    memory: RwLock<Memory>,
    /// Where batches are put together.
    pub(crate) rooms: Rooms,
    /// Held while a batch goes to log and memory, and while memory is swapped for a seal.
    order: Mutex<()>,
    /// Held by the one who seals.
    sealing: Mutex<()>,
    /// Held by the one who merges or removes blocks.
    compacting: Mutex<()>,
    shipping: Shipping,
    /// Held by the one who changes the deletes.
    deleting: Mutex<()>,
    tombstones: RwLock<Arc<Tombstones>>,
    /// What texts of conditions mean.
    language: Option<Arc<dyn Language>>,
    /// The highest number of a delete that a file may have been written without.
    carried_out: AtomicU64,
    retention: Arc<Retention>,
    tails: Arc<Tails>,
    /// What compaction found out.
    compaction: Mutex<Compaction>,
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

    /// An empty batch. Batches of several appenders may be committed at the same time. Which
    /// timestamps are too old or too new is judged by the clock at this moment.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.inner))
    }

    /// A view of everything that was committed until now, and of nothing that comes later. Where another
    /// process writes it is what that had shipped when this last followed; if that was long ago, this
    /// looks first what is new, which may take as long as the depot takes.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.follow_to_read();
        self.inner.blocks.read(|version| {
            let memory = self.inner.memory.read();
            let sealing = memory.sealing.iter().map(|sealing| sealing.buffer.view());
            let views = sealing.chain([memory.buffer.view()]).collect();
            Snapshot::new(Arc::clone(version), views, self.inner.hidden())
        })
    }

    /// Follows the streams that satisfy all `matchers`: gives the entries whose lines satisfy all of
    /// `lines` as they are committed, from now on. At most `rows_max` entries, or 16 MiB of them,
    /// wait for the reader; how many more there were is told. An entry that is sent twice may be
    /// given twice.
    ///
    /// # Errors
    /// [`Kind::Limit`] for alternatives of a line filter that are too large together.
    pub fn tail(
        &self,
        matchers: &[Matcher],
        lines: &[LineFilter],
        rows_max: usize,
    ) -> Result<Tail> {
        let tail = self.inner.tails.subscribe(matchers, lines, rows_max)?;
        if self.inner.check_open().is_err() {
            self.inner.tails.close();
        }
        Ok(tail)
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
    /// left to merge. With a depot all that is shipped before and after it.
    ///
    /// # Errors
    /// As [`LogStore::flush`]; with a depot those of [`LogStore::ship`].
    pub fn compact(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.compact_all()
    }

    /// Seals what is in memory and ships all that is on this disk only; waits for it. Without a depot it
    /// does nothing but to seal.
    ///
    /// # Errors
    /// As [`LogStore::flush`]; [`Kind::Unavailable`] when the depot does not answer, [`Kind::Locked`]
    /// and [`Kind::ReadOnly`] when this process is not its writer. What was not shipped stays here and
    /// is shipped later.
    ///
    /// # Durability
    /// What was committed before is in the depot when this returns, whatever happens to this disk.
    pub fn ship(&self) -> Result<Shipped> {
        self.inner.ship_all()
    }

    /// Looks what the depot has that was not seen here yet: blocks and deletes of the process that
    /// writes. Gives whether there was anything new. Workers do this by themselves while the store is
    /// read.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the depot does not answer; reads go on with what is known.
    /// [`Kind::Io`], [`Kind::Poisoned`], [`Kind::Closed`], and those of
    /// [`Builder::open`](crate::Builder::open) for a delete that cannot be read.
    pub fn follow(&self) -> Result<bool> {
        self.inner.follow()
    }

    /// Takes the store over when this process has become the writer of the depot: what is appended from
    /// now on is later than all that was shipped before. Open does this where the process is the
    /// writer; until it was done appends ask for it themselves.
    ///
    /// # Errors
    /// As [`LogStore::follow`] and [`LogStore::flush`]; [`Kind::Locked`] and [`Kind::ReadOnly`] when
    /// this process is not the writer.
    pub fn take_over(&self) -> Result<()> {
        self.inner.take_over()
    }

    /// Deletes the entries in `range` (nanoseconds) of the streams that satisfy all `matchers` whose
    /// lines satisfy all of `lines`; no snapshot that is taken when this has returned sees them, and
    /// compaction removes them from the files after `Config::delete_delay`. Entries that are
    /// appended later are not concerned. Gives the number of the delete.
    ///
    /// # Errors
    /// As [`LogStore::flush`]; [`Kind::Limit`] when `Config::deletes_max` deletes are not done with,
    /// or one is longer than 64 KiB. With a depot also [`Kind::Locked`] and [`Kind::ReadOnly`] when
    /// this process is not its writer. Nothing is deleted then. [`Kind::Unavailable`] when the depot
    /// does not answer; if it had come through, the delete is in force as soon as it answers again.
    ///
    /// # Durability
    /// The delete survives a loss of power when this returns.
    pub fn delete(
        &self,
        matchers: &[Matcher],
        lines: &[LineFilter],
        range: TimeRange,
    ) -> Result<u64> {
        self.inner.delete(matchers, lines, None, range)
    }

    /// As [`LogStore::delete`], of those entries only that meet the condition which `text` stands for
    /// in the language of [`Builder::language`](crate::Builder::language).
    ///
    /// # Errors
    /// As [`LogStore::delete`]; [`Kind::Unsupported`] without a language, [`Kind::Invalid`] when it
    /// does not know the text.
    ///
    /// # Durability
    /// As [`LogStore::delete`]. From then on the store opens with such a language only, until it is
    /// done with the delete.
    pub fn delete_where(
        &self,
        matchers: &[Matcher],
        lines: &[LineFilter],
        text: &str,
        range: TimeRange,
    ) -> Result<u64> {
        self.inner.delete(matchers, lines, Some(text), range)
    }

    /// The deletes whose entries may still be in files, by number.
    pub fn deletes(&self) -> Vec<Deletion> {
        self.inner.deletes()
    }

    /// Takes back the delete `number`, so that its entries are seen again.
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
    /// As [`LogStore::flush`]; [`Kind::Invalid`] when `target` is a store already.
    ///
    /// # Durability
    /// The copy survives a loss of power when this returns.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<()> {
        self.inner.backup(target.as_ref())
    }

    /// Does what is due now: seals memory that is large or old enough, merges blocks, drops blocks
    /// that the retention is done with, and ships. Workers do this by themselves; a store without workers
    /// is told to.
    ///
    /// # Errors
    /// As [`LogStore::flush`] and [`LogStore::follow`].
    pub fn maintain(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.seal_if_due()?;
        let shipped = self.inner.ship_if_due();
        self.inner.compact_if_due()?;
        shipped
    }

    /// Reads blocks, catalog and log from the first to the last byte and checks them.
    pub fn verify(&self) -> Report {
        self.inner.verify()
    }

    /// Figures of the store.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let background = inner.background_error.lock();
        let mut stats = Stats {
            wal: inner.wal.stats(),
            deletes: inner.tombstones().len() as u64,
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
            .extend(inner.blocks.quarantined().iter().map(ToString::to_string));
        stats.damaged.extend(inner.compaction.lock().damaged());
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
            let since_ms = figures.since_ns.map(|since| since / 1_000_000);
            stats.unshipped_since_ms = earlier(stats.unshipped_since_ms, since_ms);
        }
        let has_depot = inner.blocks.depot().is_some();
        for block in &version.blocks {
            stats.add_block(&block.meta);
            if has_depot && !block.is_shipped() {
                stats.unshipped_blocks += 1;
                stats.unshipped_bytes += block.meta.bytes;
                let since_ms = Some(block.meta.created_ms);
                stats.unshipped_since_ms = earlier(stats.unshipped_since_ms, since_ms);
            }
            let damage = block.reader.token_damage();
            let slower = |error: &Error| format!("searches are slower: {error}");
            stats.damaged.extend(damage.iter().map(slower));
        }
        stats.unshipped_since_ms = stats.unshipped_since_ms.filter(|_| has_depot);
        stats
    }

    /// Bytes of all blocks by what they are. Reads the headers of every block, which are then kept.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] and [`Kind::Io`] when a block cannot be read.
    pub fn sizes(&self) -> Result<Vec<(&'static str, u64)>> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        let version = self.inner.blocks.version();
        let blocks: Vec<&Block<BlockFile>> = version.blocks.iter().map(|block| &**block).collect();
        for block in scan::blocks_in_groups(&blocks) {
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

impl Inner {
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
        self.tails.close();
        // They see that the store is closed and stop at the next chunk.
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

fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
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
