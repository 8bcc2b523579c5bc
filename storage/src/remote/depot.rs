//! One store of a bucket, as its block set knows it: the catalog, the objects of the blocks, and what
//! was told about them.
//!
//! Whatever is changed is applied to the newest version of the catalog, and again to what took its
//! place. After a request whose outcome nobody knows the newest version is loaded first: the change is
//! in it or it is not, and both are good beginnings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::{Bucket, refused};
use super::bucket_catalog::{BucketCatalog, BucketDocument, Commit, block_key};
use super::copies::Copies;
use super::failure::Reason;
use super::file::RemoteFile;
use super::kept::Kept;
use super::lease::Lease;
use super::markers::{Markers, StoreName};
use super::range_cache::RangeCache;
use super::sweep::{Holds, SweepOptions, Swept, sweep_while};
use super::tenure::Tenure;
use super::upload::Throttle;
use crate::catalog::{BlockMeta, Document};
use crate::clock::Clock;
use crate::depot::{Adopted, Depot, Guard, LocalCopy, Role, ShipEdit, ShipState};
use crate::error::{Error, Result};
use crate::fs::{ReadFile, WriteFile};
use crate::ulid::BlockId;

/// How long it is waited for bandwidth without a look at whether to go on.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often a commit is made again because another version took its number.
const CONFLICTS_MAX: u32 = 16;

/// What all stores of a process have in common.
#[derive(Debug)]
pub(super) struct Common {
    /// For objects of blocks.
    pub(super) bucket: Bucket,
    /// For what somebody waits for with a lock in hand.
    pub(super) hurried: Bucket,
    pub(super) tenure: Tenure,
    pub(super) markers: Markers,
    pub(super) copies: Arc<Copies>,
    pub(super) kept: Kept,
    pub(super) uploads: Throttle,
    pub(super) downloads: Throttle,
    pub(super) cache: RangeCache,
    pub(super) clock: Arc<dyn Clock>,
}

/// A store of a bucket. Made by [`Depots::store`](super::Depots::store).
pub struct StoreDepot {
    common: Arc<Common>,
    name: StoreName,
    blocks: Bucket,
    catalog: BucketCatalog,
    holds: Holds,
    /// Held over requests.
    state: Mutex<State>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct State {
    /// Nothing as long as there is none, or none was asked for.
    newest: Option<BucketDocument>,
    /// What the block set was given last.
    given: Arc<Document>,
    /// Whether something may have been committed that is not known here.
    is_dirty: bool,
    /// The epoch in which the catalog was claimed; 0 for none.
    claimed: u64,
}

#[derive(Default)]
struct Told {
    state: ShipState,
    failed_since_ms: Option<i64>,
}

impl State {
    fn version(&self) -> u64 {
        self.newest.as_ref().map_or(0, BucketDocument::version)
    }

    /// Loads what is newest.
    fn refresh(&mut self, catalog: &BucketCatalog) -> Result<()> {
        match &self.newest {
            Some(known) if !self.is_dirty => {
                if let Some(newer) = catalog.load_after(known)? {
                    self.newest = Some(newer);
                }
            }
            _ => self.load(catalog)?,
        }
        Ok(())
    }

    fn load(&mut self, catalog: &BucketCatalog) -> Result<()> {
        let newest = catalog.load_newest()?;
        if newest.is_some() || self.newest.is_none() {
            self.newest = newest;
        }
        self.is_dirty = false;
        Ok(())
    }

    /// The newest version, for the block set.
    fn give(&mut self) -> Arc<Document> {
        let newest = self.newest.as_ref().map(|newest| newest.catalog.clone());
        self.given = Arc::new(newest.unwrap_or_default());
        Arc::clone(&self.given)
    }
}

impl StoreDepot {
    pub(super) fn new(common: &Arc<Common>, name: &StoreName) -> Self {
        Self {
            common: Arc::clone(common),
            name: name.clone(),
            blocks: name.within(&common.bucket),
            catalog: BucketCatalog::new(name.within(&common.hurried)),
            holds: Holds::default(),
            state: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Which store it is.
    pub fn store(&self) -> &StoreName {
        &self.name
    }

    /// The newest version of the catalog that is known here; asks for it when none is. The block set
    /// hears nothing of it.
    ///
    /// # Errors
    /// As [`Depot::newest`].
    pub fn peek(&self) -> Result<Document> {
        self.common.tenure.check_reached()?;
        let mut state = self.state.lock();
        if state.newest.is_none() {
            state.load(&self.catalog)?;
        }
        let newest = state.newest.as_ref();
        Ok(newest.map_or_else(Document::default, |newest| newest.catalog.clone()))
    }

    /// What the block set told last, and since when it fails, milliseconds since 1970.
    pub(super) fn told(&self) -> (ShipState, Option<i64>) {
        let told = self.told.lock();
        (told.state.clone(), told.failed_since_ms)
    }

    /// Removes objects that nobody needs any more, if this process has written to the store in this
    /// epoch. Takes long.
    pub(super) fn sweep(
        &self,
        options: &SweepOptions,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Option<Swept>> {
        let lease = self.common.tenure.lease()?;
        if self.state.lock().claimed != lease.epoch() {
            return Ok(None);
        }
        let swept = sweep_while(&self.catalog, &lease, options, &self.holds, check)?;
        let mut state = self.state.lock();
        if swept.newest.version() > state.version() {
            state.newest = Some(swept.newest.clone());
        }
        Ok(Some(swept))
    }

    /// Makes sure that the catalog is this epoch's, and that its newest version is known.
    fn claim(&self, state: &mut State, lease: &Lease) -> Result<()> {
        if state.claimed == lease.epoch() {
            if state.is_dirty {
                state.load(&self.catalog)?;
            }
            return Ok(());
        }
        self.common.markers.make(&self.name)?;
        state.is_dirty = true;
        match self.catalog.claim(lease)? {
            Commit::Committed(newest) | Commit::Conflict(newest) => {
                state.newest = Some(newest);
                state.claimed = lease.epoch();
                state.is_dirty = false;
                Ok(())
            }
            Commit::Fenced { by, .. } => Err(self.common.tenure.fenced(lease, &by)),
        }
    }
}

impl Depot for StoreDepot {
    fn name(&self) -> &str {
        self.blocks.name()
    }

    fn instance(&self) -> &str {
        self.common.tenure.instance()
    }

    fn role(&self) -> Role {
        self.common.tenure.role()
    }

    fn newest(&self, known: u64) -> Result<Option<Arc<Document>>> {
        self.common.tenure.check_reached()?;
        let mut state = self.state.lock();
        state.refresh(&self.catalog)?;
        let version = state.version();
        if version < known {
            let name = format!("the catalog of {}", self.name());
            let what = format!(
                "its newest version is {version} and was {known}: objects were removed or the bucket was exchanged; restart with the right one"
            );
            return Err(Error::corrupt(name, 0, what));
        }
        let given = state.give();
        Ok((version != known).then_some(given))
    }

    fn commit(&self, edit: &ShipEdit) -> Result<Adopted> {
        let lease = self.common.tenure.lease()?;
        let mut state = self.state.lock();
        self.claim(&mut state, &lease)?;
        for _ in 0..CONFLICTS_MAX {
            let current = state.newest.clone().unwrap_or_default();
            let next = edit.applied_to(&current.catalog, self.instance())?;
            if next.version != current.version() {
                // Until the answer is there.
                state.is_dirty = true;
                match self.catalog.commit(&lease, &current, next, &[])? {
                    Commit::Committed(newest) => state.newest = Some(newest),
                    Commit::Conflict(newest) => {
                        state.newest = Some(newest);
                        state.is_dirty = false;
                        continue;
                    }
                    Commit::Fenced { by, .. } => {
                        return Err(self.common.tenure.fenced(&lease, &by));
                    }
                }
                state.is_dirty = false;
            }
            let expected = edit.applied_to(&state.given, self.instance());
            let document = state.give();
            let is_foreign = !expected.is_ok_and(|expected| is_same(expected, &document));
            return Ok(Adopted {
                document,
                is_foreign,
            });
        }
        Err(refused(
            format_args!("commit to {}", self.name()),
            Reason::Unavailable,
            "other versions of the catalog were always earlier; try again",
        ))
    }

    fn upload(
        &self,
        id: BlockId,
        file: &dyn ReadFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Guard> {
        self.common.tenure.lease()?;
        let key = block_key(id);
        let hold = self.holds.hold(&key);
        let check = || {
            self.common.tenure.refusal().map_or(Ok(()), Err)?;
            check()
        };
        self.blocks
            .upload_while(&key, file, &self.common.uploads, &check)?;
        Ok(Box::new(hold))
    }

    fn open(&self, meta: &BlockMeta) -> Arc<dyn ReadFile> {
        let key = block_key(meta.id);
        Arc::new(RemoteFile::new(
            &self.blocks,
            &self.common.cache,
            &key,
            meta.bytes,
        ))
    }

    fn download(&self, meta: &BlockMeta, to: &mut dyn WriteFile) -> Result<()> {
        self.blocks
            .download_while(&block_key(meta.id), meta.bytes, to, &|_| Ok(()))
    }

    fn fetch(
        &self,
        meta: &BlockMeta,
        to: &mut dyn WriteFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let key = block_key(meta.id);
        let admit = |bytes| {
            check()?;
            let mut pause = self.common.downloads.reserve(bytes);
            while !pause.is_zero() {
                let step = pause.min(PAUSE_MAX);
                self.blocks.rest_before(&key, step)?;
                check()?;
                pause -= step;
            }
            Ok(())
        };
        self.blocks.download_while(&key, meta.bytes, to, &admit)?;
        self.common.copies.fetched(meta.bytes);
        Ok(())
    }

    fn admit(&self, copy: &LocalCopy) -> Option<Guard> {
        let now_ms = self.common.clock.now_ms();
        let room = self.common.copies.admit(copy, now_ms)?;
        Some(Box::new(room))
    }

    fn disk_is_full(&self) {
        self.common.copies.rest(self.common.clock.now_ms());
    }

    fn surplus(&self, copies: &[LocalCopy]) -> Vec<BlockId> {
        self.common.copies.surplus(&self.name, copies)
    }

    fn kept_bytes_max(&self, kept: u64) -> u64 {
        self.common.kept.share(&self.name, kept)
    }

    fn tell(&self, state: ShipState) {
        let mut told = self.told.lock();
        told.failed_since_ms = match (&state.failed, told.failed_since_ms) {
            (None, _) => None,
            (Some(_), Some(since)) => Some(since),
            (Some(_), None) => Some(self.common.clock.now_ms()),
        };
        told.state = state;
    }
}

/// Whether two documents say the same, whatever their versions are.
pub(super) fn is_same(mut a: Document, b: &Document) -> bool {
    a.version = b.version;
    a == *b
}

impl fmt::Debug for StoreDepot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreDepot")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
