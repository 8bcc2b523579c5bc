//! The blocks of one store: atomic changes, immutable snapshots, deferred deletion, quarantine.
//!
//! Writers make a file under a temporary name ([`BlockSet::begin`]) and hand it over in an
//! [`Edit`]; readers take a [`Version`] and see exactly its blocks. A removed block's file goes when
//! the last version that holds it is dropped. What a crash left behind is swept at open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::catalog::{BlockMeta, Catalog, Delete, Document};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::fs::Fs;
use crate::sealed::SealedFile;
use crate::ulid::{BlockId, IdSource};

/// What an engine keeps in memory of an open block.
pub trait BlockReader: Send + Sync + Sized + 'static {
    /// The four letters in the header of the engine's sealed files.
    const KIND: [u8; 4];

    /// Opens a block: footer and index, not the data.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is damaged; it is then quarantined.
    fn open(file: SealedFile, meta: &BlockMeta) -> Result<Self>;
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
    fs: Arc<dyn Fs>,
    path: PathBuf,
    /// Removed from the catalog: the file goes with the last reader.
    removed: AtomicBool,
}

impl<R> Drop for Block<R> {
    fn drop(&mut self) {
        if self.removed.load(Ordering::Acquire) {
            // If this fails the file is an orphan, which the next open sweeps.
            self.fs.remove_file(&self.path).ok();
        }
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
    /// The version of the catalog.
    pub number: u64,
    /// All records of the log before this position are in the blocks.
    pub wal_position: u64,
    /// The blocks, oldest first.
    pub blocks: Vec<Arc<Block<R>>>,
    /// What is deleted and may still be in blocks, by number.
    pub deletes: Vec<Delete>,
}

impl<R> Version<R> {
    /// The number of the delete that is committed next. Numbers rise with the catalog's version,
    /// which every delete raises, so that none is ever given again, not even when nothing is left
    /// that remembers the delete.
    pub fn next_delete(&self) -> u64 {
        let taken = self.deletes.iter().map(|delete| delete.number);
        let applied = self.blocks.iter().map(|block| block.meta.deletes_applied);
        taken.chain(applied).fold(self.number, u64::max) + 1
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
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    ids: IdSource,
    catalog: Mutex<(Catalog, Document)>,
    current: RwLock<Arc<Version<R>>>,
    quarantined: Mutex<Vec<Error>>,
    failed: Mutex<Option<Error>>,
}

impl<R: BlockReader> BlockSet<R> {
    /// Opens the set under `store`: the file `catalog` and the directory `blocks`. A block that
    /// cannot be read is quarantined: it stays where it is and is not served.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] or [`Kind::Unsupported`] when the catalog cannot be read, [`Kind::Io`].
    pub fn open(fs: Arc<dyn Fs>, store: &Path) -> Result<Self> {
        let dir = store.join("blocks");
        fs.create_dir_all(&dir)
            .map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        let catalog = Catalog::new(Arc::clone(&fs), &store.join("catalog"));
        let mut document = catalog.load()?;
        if document.version == 0 {
            // A store that never had a catalog has no blocks: they would be lost without it.
            refuse_blocks(&*fs, &dir)?;
            document.version = 1;
            catalog.swap(&document)?;
        }
        sweep(&*fs, &dir, &document)?;
        let mut blocks = Vec::new();
        let mut quarantined = Vec::new();
        for meta in &document.blocks {
            match open_block(&fs, &dir, meta) {
                Ok(block) => blocks.push(Arc::new(block)),
                Err(error) => quarantined.push(error),
            }
        }
        let version = Version {
            number: document.version,
            wal_position: document.wal_position,
            blocks,
            deletes: document.deletes.clone(),
        };
        // The version rises with every block that was ever committed here, so that even a clock
        // that stands still never gives an id twice.
        let salt = xxh3_64_with_seed(dir.as_os_str().as_encoded_bytes(), document.version);
        Ok(Self {
            fs,
            dir,
            ids: IdSource::new(salt),
            catalog: Mutex::new((catalog, document)),
            current: RwLock::new(Arc::new(version)),
            quarantined: Mutex::new(quarantined),
            failed: Mutex::new(None),
        })
    }

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
            fs: Arc::clone(&self.fs),
        }
    }

    /// Where a block that is being written belongs until it is committed.
    pub fn temporary(&self, id: BlockId) -> PathBuf {
        self.dir.join(format!("{id}.tmp"))
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

    /// Makes the directory `target` a store that holds the blocks of `version` and nothing else.
    /// Files are shared by hard links where the file system can, and copied otherwise.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when `target` is a store already, [`Kind::Io`].
    ///
    /// # Durability
    /// Everything is synced when this returns; the catalog is written last.
    pub fn backup(&self, version: &Version<R>, target: &Path) -> Result<()> {
        let catalog = Catalog::new(Arc::clone(&self.fs), &target.join("catalog"));
        if catalog.load()?.version > 0 {
            let what = format!(
                "{} is a store already; name another directory",
                target.display()
            );
            return Err(Error::invalid(what));
        }
        let dir = target.join("blocks");
        self.fs
            .create_dir_all(&dir)
            .map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        for block in &version.blocks {
            let to = block_path(&dir, block.meta.id);
            let shown = to.display();
            match self.fs.hard_link(&block.path, &to) {
                Ok(()) => {}
                // An earlier attempt came this far: the same id is the same file.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(_) => copy(&*self.fs, &block.path, &to)
                    .map_err(|e| Error::io(format!("copy to {shown}"), e))?,
            }
        }
        self.fs
            .sync_dir(&dir)
            .map_err(|e| Error::io(format!("sync {}", dir.display()), e))?;
        catalog.swap(&Document {
            version: 1,
            wal_position: version.wal_position,
            blocks: version
                .blocks
                .iter()
                .map(|block| block.meta.clone())
                .collect(),
            deletes: version.deletes.clone(),
            ..Document::default()
        })
    }

    /// Reads the catalog as it is on disk.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is damaged or missing, [`Kind::Io`] when it cannot be read.
    pub fn verify_catalog(&self) -> Result<()> {
        // It is replaced as a whole, so that it is whole at any moment.
        match self.catalog.lock().0.load()?.version {
            0 => {
                let name = self.dir.with_file_name("catalog").display().to_string();
                Err(Error::corrupt(name, 0, "it is missing"))
            }
            _ => Ok(()),
        }
    }

    /// Why blocks that the catalog names are not served.
    pub fn quarantined(&self) -> Vec<Error> {
        self.quarantined.lock().clone()
    }

    /// Makes a change, durably and as one. `publish` runs at the moment of the change, before
    /// anybody can [`BlockSet::read`] the new version: there an engine lets go of the memory that
    /// the new blocks hold.
    ///
    /// # Errors
    /// [`Kind::Io`]: the change may or may not be there after a restart, so every later change is
    /// refused with [`Kind::Poisoned`]. Reads go on with the old version.
    pub fn commit(&self, edit: &Edit, publish: impl FnOnce()) -> Result<()> {
        let mut guard = self.catalog.lock();
        if let Some(error) = &*self.failed.lock() {
            return Err(Error::caused_by(
                Kind::Poisoned,
                format!("an earlier change of the catalog failed: {error}"),
                error.clone(),
            ));
        }
        let (catalog, document) = &mut *guard;
        let result = self.install(catalog, document, edit);
        let (next, added) = match result {
            Ok(done) => done,
            Err(error) => {
                *self.failed.lock() = Some(error.clone());
                return Err(error);
            }
        };
        let old = self.version();
        let (gone, mut blocks): (Vec<_>, Vec<_>) = old
            .blocks
            .iter()
            .cloned()
            .partition(|block| edit.remove.contains(&block.meta.id));
        blocks.extend(added);
        let version = Version {
            number: next.version,
            wal_position: next.wal_position,
            blocks,
            deletes: next.deletes.clone(),
        };
        *document = next;
        {
            let mut current = self.current.write();
            publish();
            *current = Arc::new(version);
        }
        for block in gone {
            block.removed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Gives the new files their names, opens them, and swaps the catalog.
    fn install(
        &self,
        catalog: &Catalog,
        document: &Document,
        edit: &Edit,
    ) -> Result<(Document, Vec<Arc<Block<R>>>)> {
        for meta in &edit.add {
            let (from, to) = (self.temporary(meta.id), block_path(&self.dir, meta.id));
            self.fs
                .rename(&from, &to)
                .map_err(|e| Error::io(format!("rename {}", from.display()), e))?;
        }
        if !edit.add.is_empty() {
            self.fs
                .sync_dir(&self.dir)
                .map_err(|e| Error::io(format!("sync {}", self.dir.display()), e))?;
        }
        let added = edit
            .add
            .iter()
            .map(|meta| open_block(&self.fs, &self.dir, meta).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let mut next = document.clone();
        next.version += 1;
        next.wal_position = edit.wal_position.unwrap_or(next.wal_position);
        next.blocks.retain(|meta| !edit.remove.contains(&meta.id));
        next.blocks.extend(edit.add.iter().cloned());
        next.deletes
            .retain(|delete| !edit.forget_deletes.contains(&delete.number));
        next.deletes.extend(edit.delete.clone());
        catalog.swap(&next)?;
        Ok((next, added))
    }
}

fn block_path(dir: &Path, id: BlockId) -> PathBuf {
    dir.join(format!("{id}.block"))
}

fn open_block<R: BlockReader>(fs: &Arc<dyn Fs>, dir: &Path, meta: &BlockMeta) -> Result<Block<R>> {
    let path = block_path(dir, meta.id);
    let name = path.display().to_string();
    let file = fs
        .open(&path)
        .map_err(|e| Error::io(format!("open {name}"), e))?;
    let file = SealedFile::open(file, &name, R::KIND)?;
    let reader = R::open(file.clone(), meta)?;
    Ok(Block {
        meta: meta.clone(),
        reader,
        file,
        fs: Arc::clone(fs),
        path,
        removed: AtomicBool::new(false),
    })
}

/// Copies a file that no longer changes, synced.
fn copy(fs: &dyn Fs, from: &Path, to: &Path) -> std::io::Result<()> {
    const STEP: u64 = 4 << 20;
    let file = fs.open(from)?;
    let mut copy = fs.create(to)?;
    let mut offset = 0;
    while offset < file.len() {
        let end = file.len().min(offset + STEP);
        let range = offset..end;
        for bytes in file.read(std::slice::from_ref(&range))? {
            copy.write_all(&bytes)?;
        }
        offset = end;
    }
    copy.sync()
}

/// Refuses a store that has blocks and no catalog.
fn refuse_blocks(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let shown = dir.display();
    let entries = fs
        .list(dir)
        .map_err(|e| Error::io(format!("list {shown}"), e))?;
    let blocks = entries
        .iter()
        .filter(|e| e.name.ends_with(".block"))
        .count();
    if blocks == 0 {
        return Ok(());
    }
    let what = format!(
        "{blocks} blocks are in {shown} but no catalog that names them; restore the file \"catalog\" beside it, or move the blocks away to begin anew"
    );
    Err(Error::new(Kind::Corrupt, what))
}

/// Removes the files that no version of the catalog will ever name: half-written blocks and those
/// that were removed while somebody still read them.
fn sweep(fs: &dyn Fs, dir: &Path, document: &Document) -> Result<()> {
    let entries = fs
        .list(dir)
        .map_err(|e| Error::io(format!("list {}", dir.display()), e))?;
    let known: Vec<String> = document
        .blocks
        .iter()
        .map(|m| format!("{}.block", m.id))
        .collect();
    for entry in entries {
        let ours = entry.name.ends_with(".tmp") || entry.name.ends_with(".block");
        if ours && !known.contains(&entry.name) {
            let path = dir.join(&entry.name);
            fs.remove_file(&path)
                .map_err(|e| Error::io(format!("remove {}", path.display()), e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
