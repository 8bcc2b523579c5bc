//! Where the blocks of one store are shipped to: what a [`BlockSet`](crate::block_set::BlockSet) asks of
//! an object store, without the object store. `remote::StoreDepot` is the real one.
//!
//! The depot's document alone says which blocks are shipped. Changes are told to it as a
//! [`ShipEdit`], which means the same however often it is asked for, because the answer to a commit
//! may be lost.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::catalog::{BlockMeta, Delete, Document};
use crate::error::{Error, Kind, Result};
use crate::fs::{ReadFile, WriteFile};
use crate::ulid::BlockId;

/// What this process may do with the stores of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It holds the lease: it appends, ships, merges and deletes.
    Writer {
        /// Of the lease; rises from holder to holder.
        epoch: u64,
    },
    /// Another process holds the lease; this one reads, and takes over when the lease runs out.
    Standby {
        /// The name of the holder, where it is known.
        by: String,
    },
    /// It was told to read only.
    ReadOnly,
}

impl Role {
    /// Whether it may append, ship, merge and delete.
    pub fn is_writer(&self) -> bool {
        matches!(self, Self::Writer { .. })
    }

    /// Refuses what only the writer of `depot` may do.
    ///
    /// # Errors
    /// [`Kind::Locked`] when another process writes, [`Kind::ReadOnly`] when this one may only read.
    pub fn require_writer(&self, depot: &str) -> Result<()> {
        match self {
            Self::Writer { .. } => Ok(()),
            Self::Standby { by } if by.is_empty() => {
                let what = format!("{depot} is written to by another process; send it there");
                Err(Error::new(Kind::Locked, what))
            }
            Self::Standby { by } => {
                let what = format!("{depot} is written to by {by}; send it there");
                Err(Error::new(Kind::Locked, what))
            }
            Self::ReadOnly => {
                let what = format!("this process only reads {depot} (--read-only)");
                Err(Error::new(Kind::ReadOnly, what))
            }
        }
    }
}

/// A change of what is shipped, made as one.
///
/// To add a block that is named already (or was, by this directory's last batch), to remove a delete
/// that is gone: these do nothing. To remove a block that is not named, while what is to be added is
/// not named either, means that the plan is void: another writer has changed the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShipEdit {
    /// Blocks whose objects were uploaded.
    pub add: Vec<BlockMeta>,
    /// Blocks that go; their objects stay for a while.
    pub remove: Vec<BlockId>,
    /// Rows that are deleted from now on. The depot keeps its number, which has to be new.
    pub delete: Vec<Delete>,
    /// Deletes that no block holds rows of any more, by number.
    pub forget_deletes: Vec<u64>,
    /// Whether what is added was this directory's own until now, and has to be remembered as shipped
    /// by it ([`Document::shipped`]).
    pub is_batch: bool,
    /// Everything that the store was told up to this position of its log is shipped; it only rises.
    pub wal_position: Option<u64>,
}

/// As many data directories are remembered in [`Document::shipped`].
const INSTANCES_MAX: usize = 64;

impl ShipEdit {
    /// The document that this change makes of another, for the data directory `instance`. Its version
    /// is the next one, or the same where there is nothing to change.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the plan is void.
    pub fn applied_to(&self, document: &Document, instance: &str) -> Result<Document> {
        let named: BTreeSet<BlockId> = document.blocks.iter().map(|block| block.id).collect();
        let last = document.shipped.get(instance).filter(|_| self.is_batch);
        let is_new =
            |id: &BlockId| !named.contains(id) && !last.is_some_and(|shipped| shipped.contains(id));
        let adds = self.add.iter().any(|block| is_new(&block.id));
        if adds && let Some(gone) = self.remove.iter().find(|id| !named.contains(id)) {
            let what = format!("block {gone} is not named any more, another writer has removed it");
            return Err(Error::invalid(what));
        }
        let mut next = document.clone();
        next.blocks.retain(|block| !self.remove.contains(&block.id));
        let new = self.add.iter().filter(|block| is_new(&block.id));
        next.blocks.extend(new.cloned());
        if self.is_batch && adds {
            self.remember_in(&mut next, instance);
        }
        self.delete_in(&mut next)?;
        next.wal_position = next.wal_position.max(self.wal_position.unwrap_or(0));
        if next != *document {
            next.version += 1;
        }
        Ok(next)
    }

    /// Keeps which blocks the directory shipped with this batch.
    fn remember_in(&self, document: &mut Document, instance: &str) {
        let ids: Vec<BlockId> = self.add.iter().map(|block| block.id).collect();
        let shipped = &mut document.shipped;
        let last = shipped.entry(instance.to_owned()).or_default();
        // Some of the last batch once more: the directory does not know what became of that.
        if last.iter().any(|id| ids.contains(id)) {
            let new: Vec<BlockId> = ids.into_iter().filter(|id| !last.contains(id)).collect();
            last.extend(new);
        } else {
            *last = ids;
        }
        while shipped.len() > INSTANCES_MAX {
            // Ids rise with time.
            let others = shipped.iter().filter(|(name, _)| *name != instance);
            let oldest = others.min_by_key(|(_, ids)| ids.iter().max().copied());
            let Some((oldest, _)) = oldest else { return };
            let oldest = oldest.clone();
            shipped.remove(&oldest);
        }
    }

    /// Makes the part of the change that concerns deletes.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when a number was given already.
    pub(crate) fn delete_in(&self, document: &mut Document) -> Result<()> {
        for delete in &self.delete {
            if document.deletes.contains(delete) {
                continue;
            }
            let taken = document.deletes.iter().map(|taken| taken.number);
            let taken = taken.fold(document.deletes_given, u64::max);
            if delete.number <= taken {
                let what = format!(
                    "the number {} of a delete was given already, the last one is {taken}",
                    delete.number
                );
                return Err(Error::invalid(what));
            }
            document.deletes_given = delete.number;
            document.deletes.push(delete.clone());
        }
        let is_kept = |delete: &Delete| !self.forget_deletes.contains(&delete.number);
        document.deletes.retain(is_kept);
        Ok(())
    }
}

/// What a commit led to.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// The newest version, which holds the change.
    pub document: Arc<Document>,
    /// Whether somebody else's changes came with it.
    pub is_foreign: bool,
}

/// A local copy of a shipped block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalCopy {
    /// Of which block.
    pub id: BlockId,
    /// How large its file is.
    pub bytes: u64,
    /// When the block was read last, milliseconds since 1970; the time at which the copy was made when it
    /// was not.
    pub used_ms: i64,
}

/// How far a store has come, for those who watch the process.
#[derive(Debug, Clone, Default)]
pub struct ShipState {
    /// Blocks that are on this disk only.
    pub unshipped_blocks: u64,
    /// Their bytes.
    pub unshipped_bytes: u64,
    /// When the oldest of them was made, milliseconds since 1970.
    pub unshipped_since_ms: Option<i64>,
    /// The version of the depot's document that is served.
    pub version: u64,
    /// When the depot was asked last whether there is a newer one, and answered, milliseconds since
    /// 1970.
    pub followed_ms: i64,
    /// Why shipping or following failed the last time; `None` when it did not.
    pub failed: Option<Error>,
    /// Why shipped blocks are not served.
    pub quarantined: Vec<Error>,
}

/// Holds something until it is dropped: keeps an uploaded object from being swept until the commit that
/// names it, or room for a copy while that is fetched.
pub type Guard = Box<dyn Send + Sync>;

/// Where the blocks of one store are shipped to. All calls block; those that say so ask nothing.
///
/// # Errors
/// Of every call: [`Kind::Unavailable`] when the bucket does not answer,
/// [`Kind::Locked`] when another process has taken it over,
/// [`Kind::ReadOnly`] when this process may only read.
pub trait Depot: Send + Sync + fmt::Debug {
    /// What errors call it, for example `s3://bucket/prefix`. Asks nothing.
    fn name(&self) -> &str;

    /// Tells data directories from each other: made once for each, never changed. Asks nothing.
    fn instance(&self) -> &str;

    /// What this process may do now. Asks nothing.
    fn role(&self) -> Role;

    /// The newest document; `None` when that is version `known`. Version 0 is that of a store that was
    /// never shipped.
    fn newest(&self, known: u64) -> Result<Option<Arc<Document>>>;

    /// Applies a change to the newest document. When the outcome is not known, the error says so, and
    /// the same change may be asked for again.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the plan is void, see [`ShipEdit`].
    fn commit(&self, edit: &ShipEdit) -> Result<Adopted>;

    /// Uploads a block's file and looks whether it arrived as it is. What is there already in the same
    /// form is not sent again. `check` is asked from time to time; its error ends the upload.
    fn upload(
        &self,
        id: BlockId,
        file: &dyn ReadFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Guard>;

    /// The file of a shipped block. Asks nothing: the requests come with the reads.
    fn open(&self, meta: &BlockMeta) -> Arc<dyn ReadFile>;

    /// Fetches the whole file of a shipped block, without syncing it.
    fn download(&self, meta: &BlockMeta, to: &mut dyn WriteFile) -> Result<()>;

    /// As [`Depot::download`], for a copy that nobody waits for: within the bandwidth that the process may
    /// use, and counted. `check` is asked from time to time; its error ends it.
    fn fetch(
        &self,
        meta: &BlockMeta,
        to: &mut dyn WriteFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        check()?;
        self.download(meta, to)
    }

    /// Whether a copy of a block that is read from here may be fetched now: there is room for it beside
    /// the copies that are in use, of all stores, and no other is fetched. What is given is held until the
    /// copy is among those that [`Depot::surplus`] is told, or came to nothing. Asks nothing. A depot that
    /// has none fetched says no.
    fn admit(&self, _copy: &LocalCopy) -> Option<Guard> {
        None
    }

    /// Hears that the local disk is full: for a while no copies are fetched. Asks nothing.
    fn disk_is_full(&self) {}

    /// Which of this store's local copies are more than the budget of all stores allows, told all of
    /// them. Asks nothing.
    fn surplus(&self, copies: &[LocalCopy]) -> Vec<BlockId>;

    /// How many bytes of sections the readers of this store's blocks may keep that are not on this disk,
    /// as the budget of all stores allows, told how many they keep. Asks nothing.
    fn kept_bytes_max(&self, kept: u64) -> u64;

    /// Tells how far the store has come. Asks nothing.
    fn tell(&self, state: ShipState);
}

#[cfg(test)]
mod tests;
