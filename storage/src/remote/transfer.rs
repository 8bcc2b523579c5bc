//! Consistent copies of all stores of a bucket or a data directory, to another bucket or directory.
//!
//! [`Source`] is what is read, [`Target`] a bucket that copies are written to, [`Transfer`] how fast and
//! how far it is. A copy is whole store by store: the objects come first, and the catalog that names
//! them last. Whatever ends a copy in between, it is done again from the beginning and finds what is
//! there already.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bucket::Bucket;
use super::bucket_catalog::{BucketCatalog, BucketDocument, block_key};
use super::failure::Reason;
use super::lease::Lease;
use super::markers::{Markers, StoreName};
use super::upload::Throttle;
use crate::catalog::BlockMeta;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::shared::for_each;

mod fetch;
mod gather;
mod mirror;
mod object;
mod target;

pub use fetch::{Fetch, unfinished};
pub use gather::Gather;
pub use target::{Target, Wait};

/// Parts of uploads in memory at a time.
const PARTS_MAX: usize = 8;

/// How far a copy is.
#[derive(Debug, Default)]
pub struct Progress {
    stores: AtomicU64,
    stores_done: AtomicU64,
    objects: AtomicU64,
    objects_done: AtomicU64,
    objects_kept: AtomicU64,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

/// How far a copy was at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Stores that are copied.
    pub stores: u64,
    /// Of these are done.
    pub stores_done: u64,
    /// Blocks that are copied, of the stores that were begun.
    pub objects: u64,
    /// Of these are done.
    pub objects_done: u64,
    /// Blocks that were there already.
    pub objects_kept: u64,
    /// Bytes that are copied, of the stores that were begun.
    pub bytes: u64,
    /// Of these are done.
    pub bytes_done: u64,
}

impl Progress {
    /// How far it is now.
    pub fn now(&self) -> Done {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Done {
            stores: of(&self.stores),
            stores_done: of(&self.stores_done),
            objects: of(&self.objects),
            objects_done: of(&self.objects_done),
            objects_kept: of(&self.objects_kept),
            bytes: of(&self.bytes),
            bytes_done: of(&self.bytes_done),
        }
    }

    /// So many stores are copied.
    pub fn plan_stores(&self, stores: u64) {
        self.stores.store(stores, Ordering::Relaxed);
    }

    /// One more is done.
    pub fn store_done(&self) {
        self.stores_done.fetch_add(1, Ordering::Relaxed);
    }

    fn plan(&self, lengths: impl Iterator<Item = u64>) {
        for bytes in lengths {
            self.objects.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// What was planned and is not done is planned anew.
    fn plan_again(&self) {
        let relaxed = Ordering::Relaxed;
        self.objects.store(self.objects_done.load(relaxed), relaxed);
        self.bytes.store(self.bytes_done.load(relaxed), relaxed);
    }

    fn kept(&self, objects: usize) {
        let objects = u64::try_from(objects).unwrap_or(u64::MAX);
        self.objects_kept.fetch_add(objects, Ordering::Relaxed);
    }

    fn done(&self, bytes: u64) {
        self.objects_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// How a copy is made.
pub struct Transfer {
    /// Blocks that are copied at a time.
    pub at_once: usize,
    /// How fast.
    pub throttle: Throttle,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Asked from time to time; its error ends the copy.
    pub check: Box<dyn Fn() -> Result<()> + Send + Sync>,
}

impl Transfer {
    /// A copy of `at_once` blocks at a time (at least one) and at most `bytes_per_second`, nothing for no
    /// limit.
    pub fn new(
        clock: Arc<dyn Clock>,
        at_once: usize,
        bytes_per_second: Option<u64>,
        check: Box<dyn Fn() -> Result<()> + Send + Sync>,
    ) -> Self {
        Self {
            at_once: at_once.max(1),
            throttle: Throttle::new(clock, bytes_per_second, PARTS_MAX),
            progress: Arc::default(),
            check,
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("at_once", &self.at_once)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// A bucket that is copied. Nothing is written to it, and whoever writes to it may go on.
#[derive(Debug)]
pub struct Source {
    bucket: Bucket,
    identity: String,
    stores: Vec<StoreName>,
}

impl Source {
    /// The stores of the bucket.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it has none, [`Kind::Unavailable`].
    pub fn open(bucket: &Bucket) -> Result<Self> {
        let markers = Markers::new(bucket.clone());
        markers.list()?;
        let stores = markers.all();
        match Lease::identity(bucket)? {
            Some(identity) if !stores.is_empty() => Ok(Self {
                bucket: bucket.clone(),
                identity,
                stores,
            }),
            _ => Err(Error::invalid(format!(
                "{} has no stores; name the place that a server ships to (its --storage), or a backup",
                bucket.name()
            ))),
        }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        self.bucket.name()
    }

    /// What tells it from all other buckets, whatever it is called.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Its stores, in their order.
    pub fn stores(&self) -> &[StoreName] {
        &self.stores
    }
}

/// The blocks of one store of a source, as its newest catalog names them.
struct Blocks {
    bucket: Bucket,
    catalog: BucketCatalog,
    newest: BucketDocument,
}

impl Blocks {
    /// Of the newest version; nothing when there is none.
    fn load(source: &Source, name: &StoreName) -> Result<Option<Self>> {
        let bucket = name.within(&source.bucket);
        let catalog = BucketCatalog::new(bucket.clone());
        let newest = catalog.load_newest()?;
        Ok(newest.map(|newest| Self {
            bucket,
            catalog,
            newest,
        }))
    }

    /// Has `copy` make a copy of every block that is not `there` yet, and goes on with the newest catalog
    /// when one is gone, as merges replace blocks all the time.
    fn copy_all(
        &mut self,
        transfer: &Transfer,
        there: impl Fn(&BlockMeta) -> Result<bool>,
        copy: impl Fn(&BlockMeta) -> Result<()> + Sync,
    ) -> Result<()> {
        let mut is_first = true;
        loop {
            let mut missing = Vec::new();
            for meta in &self.newest.catalog.blocks {
                if !there(meta)? {
                    missing.push(meta.clone());
                }
            }
            if is_first {
                let kept = self.newest.catalog.blocks.len() - missing.len();
                transfer.progress.kept(kept);
            }
            is_first = false;
            transfer
                .progress
                .plan(missing.iter().map(|meta| meta.bytes));
            let copied = for_each(transfer.at_once, &missing, |meta| {
                (transfer.check)()?;
                copy(meta)?;
                transfer.progress.done(meta.bytes);
                Ok(())
            });
            let Err(error) = copied else { return Ok(()) };
            if Reason::of(&error) != Some(Reason::Missing) {
                return Err(error);
            }
            let Some(gone) = self.gone(&missing)? else {
                return Err(error);
            };
            let Some(newer) = self.catalog.load_after(&self.newest)? else {
                return Err(self.is_missing(&gone));
            };
            if newer.catalog.blocks.iter().any(|meta| meta.id == gone.id) {
                return Err(self.is_missing(&gone));
            }
            self.newest = newer;
            transfer.progress.plan_again();
        }
    }

    /// The first of the blocks whose object is not there any more.
    fn gone(&self, metas: &[BlockMeta]) -> Result<Option<BlockMeta>> {
        for meta in metas {
            if self.bucket.head(&block_key(meta.id))?.is_none() {
                return Ok(Some(meta.clone()));
            }
        }
        Ok(None)
    }

    fn is_missing(&self, meta: &BlockMeta) -> Error {
        let what = format!(
            "its newest catalog names {}, which is missing: the object was removed by hand; bring it back",
            block_key(meta.id)
        );
        Error::new(Kind::Corrupt, format!("{}: {what}", self.bucket.name()))
    }
}

/// Where a store is below `root`.
///
/// # Errors
/// [`Kind::Invalid`] when its name is none of a directory.
fn store_dir(root: &Path, name: &StoreName) -> Result<PathBuf> {
    for part in [&name.tenant, &name.signal] {
        let mut parts = Path::new(part).components();
        let is_one = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
        if !is_one || part.contains(['/', '\\']) {
            let what = format!("the store {name} cannot be a directory; copy it to a bucket");
            return Err(Error::invalid(what));
        }
    }
    Ok(root.join(&name.tenant).join(&name.signal))
}

#[cfg(test)]
mod tests;
