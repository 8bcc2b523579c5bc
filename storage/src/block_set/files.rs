//! Where the file of a block is, and how long it stays there.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::catalog::BlockMeta;
use crate::clock::Clock;
use crate::depot::Depot;
use crate::error::{Error, Result};
use crate::fs::{Fs, ReadFile};
use crate::sealed::SealedFile;
use crate::ulid::BlockId;

/// The directory of the blocks.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    /// Which file of a block's name is there now, where there is one: a copy may have gone and come back
    /// while somebody still reads the first.
    lives: Mutex<BTreeMap<BlockId, u64>>,
    next_life: AtomicU64,
    /// About what time it is, milliseconds since 1970: what reads of copies are marked with.
    now_ms: Arc<AtomicI64>,
}

impl Files {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> Self {
        Self {
            fs,
            dir,
            lives: Mutex::default(),
            next_life: AtomicU64::new(0),
            now_ms: Arc::default(),
        }
    }

    /// Remembers what time it is.
    pub(super) fn look_at(&self, clock: &dyn Clock) {
        self.now_ms.store(clock.now_ms(), Ordering::Relaxed);
    }

    /// What time it was when it was looked at last, milliseconds since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub(super) fn temporary(&self, id: BlockId) -> PathBuf {
        self.dir.join(format!("{id}.tmp"))
    }

    /// Where a copy is written to that nobody waits for: who does may make one meanwhile.
    pub(super) fn fetched(&self, id: BlockId) -> PathBuf {
        self.dir.join(format!("{id}.fetched.tmp"))
    }

    pub(super) fn block(&self, id: BlockId) -> PathBuf {
        block_path(&self.dir, id)
    }

    /// Gives files that were written their names, durably.
    pub(super) fn take_in(&self, metas: &[BlockMeta]) -> Result<()> {
        for meta in metas {
            self.rename(&self.temporary(meta.id), meta.id)?;
        }
        match metas {
            [] => Ok(()),
            _ => self.sync_dir(),
        }
    }

    /// As [`Files::take_in`], for the file `from`.
    pub(super) fn take_in_from(&self, from: &Path, id: BlockId) -> Result<()> {
        self.rename(from, id)?;
        self.sync_dir()
    }

    fn rename(&self, from: &Path, id: BlockId) -> Result<()> {
        // Whoever drops an earlier file of this name must not remove this one.
        let mut lives = self.lives.lock();
        self.fs
            .rename(from, &self.block(id))
            .map_err(|e| Error::io(format!("rename {}", from.display()), e))?;
        lives.remove(&id);
        Ok(())
    }

    fn sync_dir(&self) -> Result<()> {
        self.fs
            .sync_dir(&self.dir)
            .map_err(|e| Error::io(format!("sync {}", self.dir.display()), e))
    }

    /// The file of a block that is here.
    pub(super) fn local(self: &Arc<Self>, id: BlockId, is_shipped: bool) -> LocalFile {
        let life = self.next_life.fetch_add(1, Ordering::Relaxed);
        self.lives.lock().insert(id, life);
        LocalFile {
            files: Arc::clone(self),
            id,
            life,
            is_removed: AtomicBool::new(false),
            marks: Arc::new(Marks {
                used_ms: AtomicI64::new(self.now_ms.load(Ordering::Relaxed)),
                is_distrusted: AtomicBool::new(false),
                is_shipped: AtomicBool::new(is_shipped),
            }),
        }
    }
}

/// The file of a block on this disk. When it is marked as removed it goes with this.
#[derive(Debug)]
pub(super) struct LocalFile {
    files: Arc<Files>,
    id: BlockId,
    life: u64,
    is_removed: AtomicBool,
    marks: Arc<Marks>,
}

impl LocalFile {
    pub(super) fn path(&self) -> PathBuf {
        self.files.block(self.id)
    }

    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    /// When it was read last, milliseconds since 1970, as exactly as the block set looks at the clock.
    pub(super) fn used_ms(&self) -> i64 {
        self.marks.used_ms.load(Ordering::Relaxed)
    }

    pub(super) fn is_distrusted(&self) -> bool {
        self.marks.is_distrusted.load(Ordering::Relaxed)
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        let mut lives = self.files.lives.lock();
        if lives.get(&self.id) != Some(&self.life) {
            return;
        }
        lives.remove(&self.id);
        if self.is_removed.load(Ordering::Acquire) {
            // If this fails the file is an orphan, which the next open sweeps, or a copy again.
            self.files.fs.remove_file(&self.path()).ok();
        }
    }
}

/// Where the file of a block is.
#[derive(Debug)]
pub(super) enum Place {
    /// On this disk; the depot when there is one, so that reads are marked.
    Local(LocalFile, Option<Arc<dyn Depot>>),
    /// In the depot only.
    Remote(Arc<dyn Depot>),
}

impl Place {
    /// Opens the file: a local one by looking at its head, a remote one without a request.
    pub(super) fn open(
        &self,
        meta: &BlockMeta,
        kind: [u8; 4],
        first: &'static [u32],
    ) -> Result<SealedFile> {
        match self {
            Self::Local(local, depot) => {
                let path = local.path();
                let name = path.display().to_string();
                let mut file = local
                    .files
                    .fs
                    .open(&path)
                    .map_err(|e| Error::io(format!("open {name}"), e))?;
                if let Some(depot) = depot {
                    file = Arc::new(Tracked {
                        file,
                        meta: meta.clone(),
                        depot: Arc::clone(depot),
                        shipped: OnceLock::new(),
                        marks: Arc::clone(&local.marks),
                        now_ms: Arc::clone(&local.files.now_ms),
                    });
                }
                SealedFile::open(file, &name, kind)
            }
            Self::Remote(depot) => {
                let name = format!("{}: block {}", depot.name(), meta.id);
                let file = depot.open(meta);
                Ok(SealedFile::deferred(file, &name, kind, first))
            }
        }
    }

    /// Whether the depot has the file, too.
    pub(super) fn is_shipped(&self) -> bool {
        match self {
            Self::Local(local, _) => local.marks.is_shipped.load(Ordering::Acquire),
            Self::Remote(_) => true,
        }
    }

    pub(super) fn set_shipped(&self) {
        if let Self::Local(local, _) = self {
            local.marks.is_shipped.store(true, Ordering::Release);
        }
    }

    pub(super) fn local(&self) -> Option<&LocalFile> {
        match self {
            Self::Local(local, _) => Some(local),
            Self::Remote(_) => None,
        }
    }
}

/// What a local file and who reads it tell each other.
#[derive(Debug)]
struct Marks {
    used_ms: AtomicI64,
    is_distrusted: AtomicBool,
    is_shipped: AtomicBool,
}

/// A local file that remembers when it was read last. Once it was found to be damaged, what was shipped
/// is read instead.
#[derive(Debug)]
struct Tracked {
    file: Arc<dyn ReadFile>,
    meta: BlockMeta,
    depot: Arc<dyn Depot>,
    /// Where the block is read from after the file was distrusted.
    shipped: OnceLock<Arc<dyn ReadFile>>,
    marks: Arc<Marks>,
    now_ms: Arc<AtomicI64>,
}

impl ReadFile for Tracked {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        if let Some(shipped) = self.shipped.get() {
            return shipped.read(ranges);
        }
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        self.marks.used_ms.store(now_ms, Ordering::Relaxed);
        self.file.read(ranges)
    }

    fn is_remote(&self) -> bool {
        self.shipped.get().is_some()
    }

    fn distrust(&self) {
        match self.shipped.get() {
            Some(shipped) => shipped.distrust(),
            None => {
                self.marks.is_distrusted.store(true, Ordering::Relaxed);
                if self.marks.is_shipped.load(Ordering::Acquire) {
                    self.shipped.get_or_init(|| self.depot.open(&self.meta));
                }
            }
        }
    }
}

pub(super) fn block_path(dir: &Path, id: BlockId) -> PathBuf {
    dir.join(format!("{id}.block"))
}
