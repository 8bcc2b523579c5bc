//! The blocks of one store: atomic changes, immutable snapshots, deferred deletion, quarantine.
//!
//! Writers make a file under a temporary name ([`BlockSet::begin`]) and hand it over in an
//! [`Edit`]; readers take a [`Version`] and see exactly its blocks. A removed block's file goes when
//! the last version that holds it is dropped. What a crash left behind is swept at open.
//!
//! With a [`Depot`](crate::depot::Depot) blocks are shipped. Three things are kept apart: the depot's document alone says
//! which blocks are shipped and what is deleted; the local catalog names the blocks that are on this
//! disk only; what a version shows is both together. The file of a shipped block is a copy: where
//! there is none, the block is read from the depot. Two rules make lists of superseded blocks
//! unnecessary: a merge takes only shipped or only unshipped blocks, and whatever changes shipped
//! blocks or deletes is decided by the depot and seen here after it.
//!
//! A block changes its place (copied, evicted, looked at afresh) in that a new [`Block`] of the same id is
//! published; the old one goes with its last reader.
//!
//! Locks, outer ones first: one for a batch that is shipped and one for what the depot decides, both
//! held over the network; the catalog's, held over a sync of the disk; the current version's. A seal
//! takes only the last two.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::catalog::{BlockMeta, Catalog, Delete, Document};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::sealed::SealedFile;
use crate::ulid::{BlockId, IdSource};

mod backup;
mod copies;
mod edit;
mod fetch;
mod files;
mod link;
mod open;
mod ship;

pub use copies::warm;
pub use edit::DELETE_KEPT_MS;
use files::{Files, Place};
use link::Link;
pub use ship::Shipped;

/// What an engine keeps in memory of an open block.
pub trait BlockReader: Send + Sync + Sized + 'static {
    /// The four letters in the header of the engine's sealed files.
    const KIND: [u8; 4];

    /// The sections that every read of a block looks at first.
    const FIRST_SECTIONS: &'static [u32] = &[];

    /// Opens a block. Of a file that is [far away](SealedFile::is_remote) nothing is to be read here.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) when it is damaged; it is then quarantined.
    fn open(file: SealedFile, meta: &BlockMeta) -> Result<Self>;

    /// Whether the block can be read without anything else of this disk, and is shipped.
    fn is_shippable(_meta: &BlockMeta) -> bool {
        true
    }
}

/// One open block.
#[derive(Debug)]
pub struct Block<R> {
    /// What the catalog says of it.
    pub meta: BlockMeta,
    /// The engine's reader.
    pub reader: R,
    /// The container, for checks of the whole file.
    pub file: SealedFile,
    place: Place,
}

impl<R> Block<R> {
    /// Whether the depot has it, so that it outlives this disk.
    pub fn is_shipped(&self) -> bool {
        self.place.is_shipped()
    }
}

impl<R: BlockReader> Block<R> {
    /// The same file, of which nothing is known yet: what is read of it comes from where it is.
    ///
    /// # Errors
    /// As [`SealedFile::open`].
    pub fn fresh(&self) -> Result<SealedFile> {
        self.place.open(&self.meta, R::KIND, R::FIRST_SECTIONS)
    }
}

/// A block that is being written.
#[derive(Debug)]
pub struct Unfinished {
    id: BlockId,
    path: PathBuf,
    fs: Arc<dyn Fs>,
}

impl Unfinished {
    /// The id of the block.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Where it is written to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // A committed block has another name by now. If this fails the next open sweeps it.
        self.fs.remove_file(&self.path).ok();
    }
}

/// One version of the block set: what a snapshot sees.
#[derive(Debug)]
pub struct Version<R> {
    /// Rises with every change of which blocks there are and what is deleted.
    pub number: u64,
    /// All records of the log before this position are in the blocks.
    pub wal_position: u64,
    /// The blocks: the shipped ones, then the others, each oldest first.
    pub blocks: Vec<Arc<Block<R>>>,
    /// What is deleted and may still be in blocks, by number.
    pub deletes: Vec<Delete>,
    /// The highest number that the depot ever gave to a delete.
    deletes_given: u64,
}

impl<R> Version<R> {
    /// The number of the delete that is committed next. Numbers rise with the version, which every
    /// delete raises, so that none is ever given again, not even when nothing is left that remembers
    /// the delete.
    pub fn next_delete(&self) -> u64 {
        let taken = self.deletes.iter().map(|delete| delete.number);
        let applied = self.blocks.iter().map(|block| block.meta.deletes_applied);
        let least = self.number.max(self.deletes_given);
        taken.chain(applied).fold(least, u64::max) + 1
    }
}

/// A change of the block set, made as one.
#[derive(Debug, Default)]
pub struct Edit {
    /// Blocks that were written to their [`BlockSet::temporary`] path and synced.
    pub add: Vec<BlockMeta>,
    /// Blocks that go.
    pub remove: Vec<BlockId>,
    /// The new position of the log, when it moves.
    pub wal_position: Option<u64>,
    /// Rows that are deleted from now on.
    pub delete: Option<Delete>,
    /// Deletes that no block holds rows of any more, by number.
    pub forget_deletes: Vec<u64>,
}

/// The blocks of one store.
#[derive(Debug)]
pub struct BlockSet<R> {
    files: Arc<Files>,
    ids: IdSource,
    state: Mutex<State>,
    current: RwLock<Arc<Version<R>>>,
    /// Blocks of the local catalog that cannot be read.
    quarantined: Mutex<Vec<Error>>,
    failed: Mutex<Option<Error>>,
    link: Option<Link>,
}

/// What is known of the blocks, behind the catalog's lock.
#[derive(Debug)]
struct State {
    catalog: Catalog,
    /// What the catalog says: the blocks that are on this disk only.
    local: Document,
    /// What is shipped, as it was adopted last; changes while the lock of the depot is held.
    shipped: Arc<Document>,
    /// Blocks that are being shipped, or whose removal waits for the depot.
    busy: BTreeSet<BlockId>,
    /// Unshipped blocks of which the depot may know already: its answer is missing.
    doubtful: BTreeSet<BlockId>,
    /// Changes of shipped blocks that wait for the depot.
    pending: Vec<Edit>,
    /// The deletes that were asked for here and not forgotten since, by number.
    own_deletes: BTreeSet<u64>,
}

impl<R: BlockReader> BlockSet<R> {
    /// The id of a new block.
    pub fn next_id(&self, clock: &dyn Clock) -> BlockId {
        self.ids.next(clock)
    }

    /// A file for a new block. It is removed when this is dropped before the block was committed.
    pub fn begin(&self, clock: &dyn Clock) -> Unfinished {
        let id = self.next_id(clock);
        Unfinished {
            id,
            path: self.temporary(id),
            fs: Arc::clone(&self.files.fs),
        }
    }

    /// Where a block that is being written belongs until it is committed.
    pub fn temporary(&self, id: BlockId) -> PathBuf {
        self.files.temporary(id)
    }

    /// The newest version.
    pub fn version(&self) -> Arc<Version<R>> {
        Arc::clone(&self.current.read())
    }

    /// Looks at the newest version while no change can be published, so that an engine can take
    /// its memory and the blocks as they belong together.
    pub fn read<T>(&self, look: impl FnOnce(&Arc<Version<R>>) -> T) -> T {
        look(&self.current.read())
    }

    /// Reads the catalog as it is on disk.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) when it is damaged or missing,
    /// [`Kind::Io`](crate::Kind::Io) when it cannot be read.
    pub fn verify_catalog(&self) -> Result<()> {
        // It is replaced as a whole, so that it is whole at any moment.
        match self.state.lock().catalog.load()?.version {
            0 => {
                let name = self.files.dir.with_file_name("catalog");
                Err(Error::corrupt(name.display(), 0, "it is missing"))
            }
            _ => Ok(()),
        }
    }

    /// Why blocks that the catalog names are not served.
    pub fn quarantined(&self) -> Vec<Error> {
        let mut all = self.quarantined.lock().clone();
        all.extend(self.link.iter().flat_map(Link::lost));
        all
    }
}

#[cfg(test)]
pub(crate) mod tests;
