//! A depot that one store ships everything to, and that becomes a version of the catalog at the end: how
//! a data directory is copied to a bucket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::object::ObjectFile;
use super::target::Target;
use super::{Transfer, block_key};
use crate::catalog::{BlockMeta, Document};
use crate::depot::{Adopted, Depot, Guard, LocalCopy, Role, ShipEdit, ShipState};
use crate::error::{Error, Result};
use crate::fs::{ReadFile, WriteFile};
use crate::remote::bucket::Bucket;
use crate::remote::markers::StoreName;
use crate::ulid::BlockId;

/// What one store is to become in a [`Target`]. An engine that has this as its depot, opened over a copy
/// of the store, ships all it has.
pub struct Gather {
    target: Arc<Target>,
    transfer: Arc<Transfer>,
    name: StoreName,
    bucket: Bucket,
    instance: String,
    /// Blocks that are there.
    objects: Mutex<BTreeMap<String, u64>>,
    document: Mutex<Arc<Document>>,
    told: Mutex<ShipState>,
}

impl Gather {
    /// Begins with nothing.
    ///
    /// # Errors
    /// [`Kind::Unavailable`].
    pub fn begin(target: &Arc<Target>, name: &StoreName, transfer: &Arc<Transfer>) -> Result<Self> {
        Ok(Self {
            target: Arc::clone(target),
            transfer: Arc::clone(transfer),
            name: name.clone(),
            bucket: name.within(target.bucket()),
            instance: target.bucket().token(),
            objects: Mutex::new(target.objects(name)?),
            document: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// Makes what was shipped what the store is in the bucket, once the engine is closed.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], [`Kind::Locked`]; [`Kind::Invalid`] when not everything was shipped.
    pub fn commit(&self) -> Result<()> {
        let left = self.told.lock().unshipped_blocks;
        if left > 0 {
            let what = format!(
                "{left} blocks of {} were not copied; do it again",
                self.name
            );
            return Err(Error::invalid(what));
        }
        let mut document = Document::clone(&self.document.lock());
        // It was told by a copy that is gone.
        document.shipped.clear();
        self.target.commit(&self.name, &document, &self.transfer)
    }
}

impl Depot for Gather {
    fn name(&self) -> &str {
        self.bucket.name()
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn role(&self) -> Role {
        Role::Writer {
            epoch: self.target.lease.epoch(),
        }
    }

    fn newest(&self, known: u64) -> Result<Option<Arc<Document>>> {
        let document = self.document.lock();
        Ok((document.version != known).then(|| Arc::clone(&document)))
    }

    fn commit(&self, edit: &ShipEdit) -> Result<Adopted> {
        let mut document = self.document.lock();
        *document = Arc::new(edit.applied_to(&document, &self.instance)?);
        Ok(Adopted {
            document: Arc::clone(&document),
            is_foreign: false,
        })
    }

    fn upload(
        &self,
        id: BlockId,
        file: &dyn ReadFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Guard> {
        let (key, bytes) = (block_key(id), file.len());
        let progress = &self.transfer.progress;
        if self.objects.lock().get(&key) == Some(&bytes) {
            progress.kept(1);
            return Ok(Box::new(()));
        }
        progress.plan(std::iter::once(bytes));
        let check = || {
            self.target.lease.require()?;
            (self.transfer.check)()?;
            check()
        };
        self.bucket
            .upload_while(&key, file, &self.transfer.throttle, &check)?;
        self.objects.lock().insert(key, bytes);
        progress.done(bytes);
        Ok(Box::new(()))
    }

    fn open(&self, meta: &BlockMeta) -> Arc<dyn ReadFile> {
        Arc::new(ObjectFile {
            bucket: self.bucket.clone(),
            key: block_key(meta.id),
            len: meta.bytes,
        })
    }

    fn download(&self, meta: &BlockMeta, to: &mut dyn WriteFile) -> Result<()> {
        let check = |_| (self.transfer.check)();
        self.bucket
            .download_while(&block_key(meta.id), meta.bytes, to, &check)
    }

    fn surplus(&self, _copies: &[LocalCopy]) -> Vec<BlockId> {
        Vec::new()
    }

    /// What is gathered is not read again.
    fn kept_bytes_max(&self, _kept: u64) -> u64 {
        0
    }

    fn tell(&self, state: ShipState) {
        *self.told.lock() = state;
    }
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("store", &self.name)
            .finish_non_exhaustive()
    }
}
