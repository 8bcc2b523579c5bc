//! What an engine with a depot does beside its own work, and does as every other engine: takes a store
//! over, follows what others ship, ships what is sealed, looks after copies and fetches them.
//!
//! Only who holds the lease appends, ships, merges and deletes. Before its first append of an epoch a
//! store goes on behind everything that was ever shipped, so that positions of the log rise over all
//! directories: else a delete of earlier rows would concern later ones.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::block_set::{BlockReader, BlockSet, Edit, Shipped};
use crate::clock::Clock;
use crate::depot::{Role, ShipEdit};
use crate::error::{Error, Kind, Result};
use crate::shared::{Maintain, Shared};
use crate::time::nanos;
use crate::wal::{Durability, Wal};

/// A depot that failed is left alone for this long, but by who wants something of it.
pub const RETRY_MS: i64 = 10_000;
/// How often local copies and damaged blocks are looked after.
const CARE_MS: i64 = 10_000;
/// A store that another process writes to is followed until it was not read for this long ...
const READ_MS: i64 = 300_000;
/// ... and who reads it then asks first what is new, if that is not known for this long.
const STALE_MS: i64 = 30_000;
/// After a copy could not be fetched none is for so long.
const FETCH_REST_MS: i64 = 60_000;
/// Copies of so many bytes are fetched before another store may have its turn.
const FETCH_TURN_BYTES: u64 = 256 << 20;
/// Shipping begins anew, as often at most, when others have changed something meanwhile.
const ROUNDS_MAX: usize = 100;

/// How far shipping and following are.
#[derive(Debug, Default)]
pub struct Shipping {
    /// Held by who ships.
    working: Mutex<()>,
    /// Held by who fetches copies.
    fetching: Mutex<()>,
    /// One more than the epoch whose appends are behind everything that is shipped.
    taken: AtomicU64,
    /// When the depot was asked last what is new, milliseconds since 1970; so for all below.
    followed_ms: AtomicI64,
    read_ms: AtomicI64,
    cared_ms: AtomicI64,
    /// Nothing is asked in the background before this.
    retry_ms: AtomicI64,
    /// No copy is fetched before this.
    fetch_ms: AtomicI64,
    /// A defect that stopped the fetching of copies.
    fetch_defect: OnceLock<String>,
}

impl Shipping {
    /// Of a store that is opened now: the depot was just asked.
    pub fn new(now_ms: i64) -> Self {
        Self {
            followed_ms: now_ms.into(),
            read_ms: now_ms.into(),
            ..Self::default()
        }
    }

    /// Whether what is appended in an epoch is behind everything that is shipped.
    pub fn has_taken(&self, epoch: u64) -> bool {
        self.taken.load(Ordering::Acquire) == epoch.saturating_add(1)
    }

    /// Whether the depot did not answer the last time that it was asked in the background.
    pub fn depot_fails(&self) -> bool {
        self.retry_ms.load(Ordering::Relaxed) > 0
    }

    /// Waits until nobody ships, and nobody fetches copies.
    pub fn settle(&self) {
        drop(self.working.lock());
        drop(self.fetching.lock());
    }
}

/// An engine's store, which may have a depot. What has no body differs from engine to engine.
///
/// The locks in their order: that of who merges, that of who ships, [`Ships::deleting`], the engine's
/// others. The first three may be held over requests.
pub trait Ships: Send + Sync + fmt::Debug + 'static {
    /// What the engine keeps of an open block.
    type Reader: BlockReader;

    /// How far shipping is.
    fn shipping(&self) -> &Shipping;

    /// The blocks.
    fn blocks(&self) -> &BlockSet<Self::Reader>;

    /// The clock.
    fn clock(&self) -> &dyn Clock;

    /// How often a store that others write to is followed.
    fn follow_interval(&self) -> Duration;

    /// Refuses everything once the store is closed.
    fn check_open(&self) -> Result<()>;

    /// Held while what is deleted changes.
    fn deleting(&self) -> &Mutex<()>;

    /// Makes seen here what the depot has decided, through [`BlockSet::follow`]; `deleting` is held.
    /// Gives whether there was anything new.
    fn follow_blocks(&self) -> Result<bool>;

    /// Sees to it that what is appended from now on is later than all that was ever shipped, which is
    /// known: with [`go_behind`]. `deleting` is held.
    fn go_behind(&self) -> Result<()>;

    /// Makes blocks of everything that is not in blocks and can be shipped.
    fn seal_all(&self) -> Result<()>;

    /// Makes blocks of what is due: the workers that do so otherwise may all be in long merges.
    fn seal_due(&self) -> Result<()>;

    /// Remembers why the background does not ship; nothing when it does.
    fn set_ship_error(&self, error: Option<String>);

    /// Refuses what only the writer may do, and takes the store over where this is the writer and has
    /// not done so yet.
    fn require_writer(&self) -> Result<()> {
        let Some(depot) = self.blocks().depot() else {
            return Ok(());
        };
        match depot.role() {
            Role::Writer { epoch } if self.shipping().has_taken(epoch) => Ok(()),
            Role::Writer { .. } => self.take_over(),
            role => role.require_writer(depot.name()),
        }
    }

    /// Whether blocks may be merged and removed here.
    fn is_writer(&self) -> bool {
        let depot = self.blocks().depot();
        depot.is_none_or(|depot| depot.role().is_writer())
    }

    /// Makes this store one that may be appended to.
    fn take_over(&self) -> Result<()> {
        let Some(depot) = self.blocks().depot() else {
            return Ok(());
        };
        self.check_open()?;
        let _deleting = self.deleting().lock();
        let epoch = match depot.role() {
            Role::Writer { epoch } => epoch,
            role => return role.require_writer(depot.name()),
        };
        if self.shipping().has_taken(epoch) {
            return Ok(());
        }
        // Whoever wrote before can do so no more from here on, but may have until now.
        if self.blocks().floor() > 0 {
            depot.commit(&ShipEdit::default())?;
        }
        self.follow_held()?;
        self.go_behind()?;
        let taken = epoch.saturating_add(1);
        self.shipping().taken.store(taken, Ordering::Release);
        Ok(())
    }

    /// Looks what the depot has decided since; gives whether there was anything new.
    fn follow(&self) -> Result<bool> {
        self.check_open()?;
        let _deleting = self.deleting().lock();
        self.follow_held()
    }

    /// As [`Ships::follow`]; `deleting` is held.
    fn follow_held(&self) -> Result<bool> {
        let now_ms = self.clock().now_ms();
        self.shipping().followed_ms.store(now_ms, Ordering::Relaxed);
        self.follow_blocks()
    }

    /// Follows if this is behind, as nothing is decided before; `deleting` is held.
    fn catch_up(&self) -> Result<()> {
        if self.blocks().is_behind() {
            self.follow_held()?;
        }
        Ok(())
    }

    /// Before a read: looks what others have shipped, if nobody has done so for long. Why the depot
    /// does not answer is told by who ships; the read goes on with what is known.
    fn follow_to_read(&self) {
        if self.blocks().depot().is_none() {
            return;
        }
        let now_ms = self.clock().now_ms();
        let shipping = self.shipping();
        shipping.read_ms.store(now_ms, Ordering::Relaxed);
        let last = shipping.followed_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) < STALE_MS || self.is_writer() {
            return;
        }
        // One asks, the others read meanwhile.
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let first = shipping
            .followed_ms
            .compare_exchange(last, now_ms, acquire, relaxed);
        if first.is_ok() {
            self.follow().ok();
        }
    }

    /// Follows where another process writes, and wherever this is behind.
    fn follow_if_due(&self, now_ms: i64) -> Result<()> {
        let since = |of: &AtomicI64| now_ms.saturating_sub(of.load(Ordering::Relaxed));
        let interval_ms = nanos(self.follow_interval()) / 1_000_000;
        let is_due = since(&self.shipping().read_ms) < READ_MS
            && since(&self.shipping().followed_ms) >= interval_ms;
        if self.blocks().is_behind() || (is_due && !self.is_writer()) {
            self.follow()?;
        }
        Ok(())
    }

    /// Makes blocks of what is in memory and ships all there is. Without a depot only the first.
    fn ship_all(&self) -> Result<Shipped> {
        self.check_open()?;
        self.require_writer()?;
        self.seal_all()?;
        let shipped = self.ship_blocks()?;
        // Nothing is shipped once another writes.
        self.require_writer()?;
        Ok(shipped)
    }

    /// Ships blocks, and makes the changes of shipped ones that wait, until none is left.
    fn ship_blocks(&self) -> Result<Shipped> {
        let mut all = Shipped::default();
        let _working = self.shipping().working.lock();
        for _ in 0..ROUNDS_MAX {
            if self.blocks().is_behind() {
                self.follow()?;
            }
            let shipped = self.blocks().ship(&|| self.check_open())?;
            all.blocks += shipped.blocks;
            all.bytes += shipped.bytes;
            all.replaced += shipped.replaced;
            if !self.blocks().is_behind() {
                return Ok(all);
            }
        }
        let what = "others change what is shipped all the time; nothing is shipped until they stop";
        Err(Error::new(Kind::Unavailable, what))
    }

    /// Follows, ships and looks after copies, as far as that is due.
    fn ship_if_due(&self) -> Result<()> {
        if self.blocks().depot().is_none() {
            return Ok(());
        }
        let now_ms = self.clock().now_ms();
        let shipping = self.shipping();
        let mut result = self.seal_due();
        if now_ms >= shipping.retry_ms.load(Ordering::Relaxed) {
            let shipped = self.follow_if_due(now_ms).and_then(|()| {
                if !self.is_writer() {
                    return Ok(());
                }
                self.require_writer()?;
                self.ship_blocks().map(drop)
            });
            let retry_ms = match shipped {
                Ok(()) => 0,
                Err(_) => now_ms.saturating_add(RETRY_MS),
            };
            shipping.retry_ms.store(retry_ms, Ordering::Relaxed);
            result = result.and(shipped);
        }
        let cared_ms = shipping.cared_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(cared_ms) >= CARE_MS {
            shipping.cared_ms.store(now_ms, Ordering::Relaxed);
            let _working = shipping.working.lock();
            result = result.and(self.check_open().and_then(|()| self.blocks().care()));
        }
        result
    }

    /// Fetches copies of blocks that are read much, until none is worth it or it is another store's
    /// turn.
    fn fetch_copies(&self) -> Result<()> {
        let (shipping, now_ms) = (self.shipping(), self.clock().now_ms());
        if now_ms < shipping.fetch_ms.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _fetching = shipping.fetching.lock();
        let mut bytes = 0;
        while bytes < FETCH_TURN_BYTES {
            self.check_open()?;
            let fetched = self.blocks().fetch(&|| self.check_open());
            let fetched = fetched.inspect_err(|_| {
                let until = now_ms.saturating_add(FETCH_REST_MS);
                shipping.fetch_ms.store(until, Ordering::Relaxed);
            })?;
            if fetched == 0 {
                return Ok(());
            }
            bytes += fetched;
        }
        Ok(())
    }
}

/// Lets a log go on at `floor`, everything of which is in blocks while nobody appends.
///
/// # Errors
/// Those of the log and of the catalog.
pub fn go_behind<R: BlockReader>(wal: &Wal, blocks: &BlockSet<R>, floor: u64) -> Result<()> {
    if let Some(last) = wal.next_position().checked_sub(1) {
        wal.commit(last, Durability::Buffered)?;
    }
    let edit = Edit {
        wal_position: Some(floor),
        ..Edit::default()
    };
    blocks.commit(&edit, || {})?;
    wal.skip_to(floor)?;
    wal.truncate(floor)
}

/// Follows and ships when it is due, beside those who seal and merge: the network must not hold back
/// the disk.
#[derive(Debug)]
pub struct Shipper<S> {
    store: Weak<S>,
    _fetcher: Arc<Fetcher<S>>,
}

/// Fetches copies of blocks that are read much, beside who ships: what is not shipped must not wait for
/// them. The depot sees to it that one is fetched at a time, so that it takes one thread of all.
#[derive(Debug)]
struct Fetcher<S> {
    store: Weak<S>,
}

impl<S: Ships> Shipper<S> {
    /// Begins the work for a store that was just opened: takes it over where this process writes, and
    /// ships, and fetches copies, from now on as long as this is held. Nothing without a depot.
    ///
    /// # Errors
    /// Those of [`Ships::take_over`], but for a depot that does not answer now: reads go on without it,
    /// and the next append asks for it again.
    pub fn begin(store: &Arc<S>, shippers: &Shared) -> Result<Option<Arc<Self>>> {
        let Some(depot) = store.blocks().depot() else {
            return Ok(None);
        };
        if depot.role().is_writer() && !store.blocks().is_behind() {
            let is_passing = |kind| matches!(kind, Kind::Unavailable | Kind::Locked);
            match store.take_over() {
                Err(error) if is_passing(error.kind()) => {}
                taken => taken?,
            }
        }
        let fetcher = Arc::new(Fetcher {
            store: Arc::downgrade(store),
        });
        let fetches: Weak<dyn Maintain> = Arc::<Fetcher<S>>::downgrade(&fetcher);
        let shipper = Arc::new(Self {
            store: Arc::downgrade(store),
            _fetcher: fetcher,
        });
        let ships: Weak<dyn Maintain> = Arc::<Self>::downgrade(&shipper);
        shippers.register(ships);
        shippers.register(fetches);
        Ok(Some(shipper))
    }
}

impl<S: Ships> Maintain for Shipper<S> {
    fn maintain(&self) {
        let Some(store) = self.store.upgrade() else {
            return;
        };
        if store.check_open().is_err() {
            return;
        }
        let result = store.ship_if_due();
        // A store that is closed meanwhile has no error to tell.
        let error = result.err().filter(|_| store.check_open().is_ok());
        let error = error.map(|error| error.to_string());
        let defect = store.shipping().fetch_defect.get();
        store.set_ship_error(error.or_else(|| defect.cloned()));
    }

    fn panicked(&self, message: &str) {
        let Some(store) = self.store.upgrade() else {
            return;
        };
        let what = format!("a defect stopped the shipping until a restart: {message}");
        store.set_ship_error(Some(what));
    }
}

impl<S: Ships> Maintain for Fetcher<S> {
    fn maintain(&self) {
        if let Some(store) = self.store.upgrade()
            && store.check_open().is_ok()
        {
            // What cannot be fetched is read from where it is, and who reads it hears why it fails.
            store.fetch_copies().ok();
        }
    }

    fn panicked(&self, message: &str) {
        if let Some(store) = self.store.upgrade() {
            let what =
                format!("a defect stopped the fetching of copies until a restart: {message}");
            store.shipping().fetch_defect.get_or_init(|| what);
        }
    }
}
