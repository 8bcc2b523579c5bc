//! Local copies of shipped blocks: made for merges, let go when there is no room, replaced when they are
//! damaged ([`fetch`](super::fetch) makes those of blocks that are read much); and what becomes of shipped blocks that cannot be read.

use std::path::PathBuf;
use std::sync::Arc;

use super::files::Place;
use super::link::{Link, Lost};
use super::{Block, BlockReader, BlockSet, Unfinished};
use crate::catalog::BlockMeta;
use crate::depot::LocalCopy;
use crate::error::{Error, Kind, Result};
use crate::fs::WriteFile;
use crate::sealed::SealedFile;
use crate::ulid::BlockId;

/// As many blocks are warmed at a time.
const WARMED_AT_ONCE: usize = 256;

impl<R: BlockReader> BlockSet<R> {
    /// The same blocks with all files on this disk: what is to be read from front to back, as merges
    /// do, is fetched as a whole. The copies stay until there is no room for them.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the depot does not answer, [`Kind::Corrupt`] when what it has is not
    /// what was shipped, [`Kind::Io`] when there is no room.
    pub fn localize(&self, blocks: &[Arc<Block<R>>]) -> Result<Vec<Arc<Block<R>>>> {
        let local = |block: &Arc<Block<R>>| match (&block.place, &self.link) {
            (Place::Remote(_), Some(link)) => self.copy(link, block),
            _ => Ok(Arc::clone(block)),
        };
        blocks.iter().map(local).collect()
    }

    fn copy(&self, link: &Link, block: &Arc<Block<R>>) -> Result<Arc<Block<R>>> {
        let _copying = link.copying.lock();
        let meta = &block.meta;
        if let Some(held) = self.served(meta.id).filter(|held| held.is_here()) {
            return Ok(held);
        }
        let file = self.unfinished(meta.id, self.temporary(meta.id));
        self.write_copy(link, &file, meta, |to| {
            link.heard(link.depot.download(meta, to))
        })?;
        self.take_copy(&file, meta)
    }

    /// The block of an id as it is served now.
    pub(super) fn served(&self, id: BlockId) -> Option<Arc<Block<R>>> {
        let version = self.version();
        let mut blocks = version.blocks.iter();
        blocks.find(|block| block.meta.id == id).cloned()
    }

    /// A file for a copy. Dropped before it has its name, it is removed.
    pub(super) fn unfinished(&self, id: BlockId, path: PathBuf) -> Unfinished {
        Unfinished {
            id,
            path,
            fs: Arc::clone(&self.files.fs),
        }
    }

    /// Writes the file of a shipped block, which `get` gets, and syncs it.
    pub(super) fn write_copy(
        &self,
        link: &Link,
        file: &Unfinished,
        meta: &BlockMeta,
        get: impl FnOnce(&mut dyn WriteFile) -> Result<()>,
    ) -> Result<()> {
        let shown = file.path.display();
        let io = |e| Error::io(format!("write {shown}"), e);
        let mut to = self.files.fs.create(&file.path).map_err(io)?;
        get(&mut *to)?;
        to.sync().map_err(io)?;
        drop(to);
        let bytes = self.files.fs.open(&file.path).map_err(io)?.len();
        if bytes != meta.bytes {
            let name = format!("{}: block {}", link.depot.name(), meta.id);
            let what = format!("it has {bytes} bytes, the catalog says {}", meta.bytes);
            return Err(Error::corrupt(name, bytes, what));
        }
        Ok(())
    }

    /// Makes a file that was written the copy that is read from now on; the lock of who makes copies is
    /// held.
    pub(super) fn take_copy(&self, file: &Unfinished, meta: &BlockMeta) -> Result<Arc<Block<R>>> {
        self.files.take_in_from(&file.path, meta.id)?;
        let copy = self.open_local(meta, true).inspect_err(|_| {
            let path = self.files.block(meta.id);
            self.files.fs.remove_file(&path).ok();
        })?;
        let copy = Arc::new(copy);
        self.exchange(vec![Arc::clone(&copy)]);
        Ok(copy)
    }

    /// Puts blocks in the places of those of the same ids. Where there is none any more, a file that was
    /// opened goes with its last reader.
    fn exchange(&self, blocks: Vec<Arc<Block<R>>>) {
        let state = self.state.lock();
        let version = self.version();
        let is_served = |id: BlockId| version.blocks.iter().any(|block| block.meta.id == id);
        let (served, gone): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .partition(|block| is_served(block.meta.id));
        for file in gone.iter().filter_map(|block| block.place.local()) {
            file.remove();
        }
        if !served.is_empty() {
            self.publish(&state, served, || {});
        }
    }

    /// Looks after the files of shipped blocks, which is to be done once in a while: copies that the
    /// depot calls surplus, and damaged ones, are let go; shipped blocks that cannot be read are
    /// quarantined, and looked at again every ten minutes; readers of remote blocks that keep too much
    /// are made anew. Does nothing without a depot.
    ///
    /// # Errors
    /// Those of an engine that opens a block.
    pub fn care(&self) -> Result<()> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        self.files.look_at(&*link.clock);
        self.part_with_damaged(link)?;
        self.retry_lost(link);
        self.evict_surplus(link)?;
        self.renew(link)?;
        self.tell();
        Ok(())
    }

    /// Lets go of the copies that the depot calls surplus.
    pub(super) fn evict_surplus(&self, link: &Link) -> Result<()> {
        let surplus = link.depot.surplus(&self.copies());
        self.evict(link, &surplus)
    }

    /// Lets go of what readers of remote blocks keep, where it is too much: those that were read least
    /// recently first.
    fn renew(&self, link: &Link) -> Result<()> {
        let (version, now_ms) = (self.version(), self.files.now_ms());
        let remote = version.blocks.iter().filter(|block| !block.is_here());
        let mut kept: Vec<(i64, u64, &Arc<Block<R>>)> = remote
            .map(|block| (block.file.used_ms(now_ms), block.file.given_bytes(), block))
            .filter(|(_, bytes, _)| *bytes > 0)
            .collect();
        let sum: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        let mut surplus = sum.saturating_sub(link.depot.kept_bytes_max(sum));
        kept.sort_by_key(|(used_ms, bytes, _)| (*used_ms, std::cmp::Reverse(*bytes)));
        let mut renewed = Vec::new();
        for (_, bytes, block) in kept {
            if surplus == 0 {
                break;
            }
            let new = self.open_remote(link, &block.meta)?;
            new.file.count_from(&block.file);
            renewed.push(Arc::new(new));
            surplus = surplus.saturating_sub(bytes);
        }
        self.exchange(renewed);
        Ok(())
    }

    /// Lets go of all copies of shipped blocks, because the disk is full, and has none fetched for a
    /// while. Gives how many bytes they have, which are free when the last of their readers is done.
    ///
    /// # Errors
    /// As [`BlockSet::care`].
    pub fn make_room(&self) -> Result<u64> {
        let Some(link) = &self.link else {
            return Ok(0);
        };
        link.depot.disk_is_full();
        let copies = self.copies();
        let ids: Vec<BlockId> = copies.iter().map(|copy| copy.id).collect();
        self.evict(link, &ids)?;
        Ok(copies.iter().map(|copy| copy.bytes).sum())
    }

    /// Gives `written` back, after [making room](BlockSet::make_room) if it failed because the disk is full:
    /// who tries again may get through.
    ///
    /// # Errors
    /// That of `written`, or as [`BlockSet::make_room`].
    pub fn make_room_if_full<T>(&self, written: Result<T>) -> Result<T> {
        if let Err(error) = &written
            && is_full(error)
        {
            self.make_room()?;
        }
        written
    }

    /// The copies of shipped blocks that there are.
    fn copies(&self) -> Vec<LocalCopy> {
        let version = self.version();
        let shipped = version.blocks.iter().filter(|block| block.is_shipped());
        let copy = |block: &Arc<Block<R>>| {
            block.place.local().map(|file| LocalCopy {
                id: block.meta.id,
                bytes: block.meta.bytes,
                used_ms: file.used_ms(),
            })
        };
        shipped.filter_map(copy).collect()
    }

    /// Reads these blocks from the depot from now on, if they are shipped.
    fn evict(&self, link: &Link, ids: &[BlockId]) -> Result<()> {
        let version = self.version();
        let chosen = version
            .blocks
            .iter()
            .filter(|block| block.is_shipped() && block.is_here() && ids.contains(&block.meta.id));
        let remote = chosen.map(|block| self.open_remote(link, &block.meta).map(Arc::new));
        let remote = remote.collect::<Result<Vec<_>>>()?;
        self.exchange(remote);
        Ok(())
    }

    /// Damaged copies are replaced by what was shipped; what is damaged there is not served.
    fn part_with_damaged(&self, link: &Link) -> Result<()> {
        let version = self.version();
        let (mut copies, mut has_lost) = (Vec::new(), false);
        for block in version.blocks.iter().filter(|block| block.is_shipped()) {
            let damage = block.file.damage();
            match block.place.local() {
                Some(file) if damage.is_some() || file.is_distrusted() => {
                    copies.push(block.meta.id);
                }
                Some(_) => {}
                None => {
                    if let Some(damage) = damage {
                        let lost = Lost::new(&block.meta, damage.clone(), link.clock.now_ms());
                        link.lost.lock().insert(block.meta.id, lost);
                        has_lost = true;
                    }
                }
            }
        }
        self.evict(link, &copies)?;
        if has_lost {
            self.publish(&self.state.lock(), Vec::new(), || {});
        }
        Ok(())
    }

    /// Serves again what can be read again.
    fn retry_lost(&self, link: &Link) {
        let now_ms = link.clock.now_ms();
        let due: Vec<BlockId> = {
            let lost = link.lost.lock();
            let due = lost.iter().filter(|(_, lost)| lost.retry_ms <= now_ms);
            due.map(|(id, _)| *id).collect()
        };
        for id in due {
            let Some((meta, damage)) = ({
                let lost = link.lost.lock();
                lost.get(&id)
                    .map(|lost| (lost.meta.clone(), lost.damage.clone()))
            }) else {
                continue;
            };
            let looked = self.open_remote(link, &meta).and_then(|block| {
                block.file.forget();
                block.file.check_again(damage.page)?;
                Ok(block)
            });
            match looked {
                Ok(block) => {
                    let state = self.state.lock();
                    link.lost.lock().remove(&id);
                    // If it is not named any more, it is not served.
                    self.publish(&state, vec![Arc::new(block)], || {});
                }
                Err(error) if error.kind() == Kind::Corrupt => {
                    let lost = Lost::new(&meta, damage, now_ms);
                    link.lost.lock().entry(id).and_modify(|held| *held = lost);
                }
                // It is not known.
                Err(_) => {}
            }
        }
    }
}

/// Whether something could not be written because the disk is full.
pub(super) fn is_full(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    error.kind() == Kind::Io
        && io.is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
}

impl<R> Block<R> {
    /// Whether its file is on this disk.
    pub(super) fn is_here(&self) -> bool {
        self.place.local().is_some()
    }
}

/// Begins to fetch what is missing of these blocks' heads and of the `sections`, in two rounds for all
/// blocks together. Returns at once where all files are on this disk.
///
/// # Errors
/// The first of those that reading the heads gives; the other blocks are warmed all the same.
pub fn warm<'a, R: 'a>(
    blocks: impl IntoIterator<Item = &'a Block<R>>,
    sections: &[u32],
) -> Result<()> {
    let remote = blocks.into_iter().filter(|block| !block.is_here());
    let files: Vec<&SealedFile> = remote.map(|block| &block.file).collect();
    let mut result = Ok(());
    for group in files.chunks(WARMED_AT_ONCE) {
        for file in group {
            file.prefetch_head();
        }
        for file in group {
            result = result.and(file.prefetch_sections(sections));
        }
    }
    result
}
