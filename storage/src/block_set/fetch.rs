//! Blocks that are read much come home: a copy is fetched of what is read from the depot again and again.
//!
//! A block is worth it once its readers were given as many bytes as it has: a copy costs no more than they
//! did. As head and footer do not count, who reads a block once from front to back does not bring it
//! here. Whether there is room is the depot's business, which knows the copies of all stores; it lets in
//! no copy for which one would go that is in use, so that what is read in turn and does not fit never
//! goes in circles. The file is written beside those of others and takes its name when it is whole:
//! merges that want the same block do not wait for it.

use std::cell::Cell;
use std::cmp::Reverse;
use std::sync::Arc;

use super::copies::is_full;
use super::link::Link;
use super::{Block, BlockReader, BlockSet};
use crate::depot::LocalCopy;
use crate::error::{Error, Kind, Result};

/// A block is fetched when its readers were given so many times its bytes.
const READ_TIMES_MIN: u64 = 1;
/// Of the blocks that are worth it, the depot is asked about so many at a time.
const ASKED_MAX: usize = 64;

impl<R: BlockReader> BlockSet<R> {
    /// Fetches a copy of one block that is read from the depot and is worth it, that of which most was
    /// read for its size, if there is room. From then on it is read as any local file, and what was kept
    /// of it between here and the depot is forgotten. Gives its bytes, 0 when there was none. `check` is
    /// asked from time to time; its error ends this and leaves nothing behind.
    ///
    /// # Errors
    /// What `check` says, and as [`BlockSet::localize`]: the block is then read from the depot as before,
    /// and comes into question again when it was read as much again.
    pub fn fetch(&self, check: &dyn Fn() -> Result<()>) -> Result<u64> {
        let Some(link) = &self.link else {
            return Ok(0);
        };
        let now_ms = self.files.now_ms();
        for block in self.worth_fetching() {
            let copy = LocalCopy {
                id: block.meta.id,
                bytes: block.meta.bytes,
                used_ms: block.file.used_ms(now_ms),
            };
            let Some(_room) = link.depot.admit(&copy) else {
                continue;
            };
            let fetched = self.fetch_block(link, &block, check);
            if !matches!(fetched, Ok(true)) {
                block.file.count_anew();
            }
            if fetched.as_ref().is_err_and(is_full) {
                link.depot.disk_is_full();
            }
            // The depot hears of the copy before it lets in another.
            if fetched? {
                self.evict_surplus(link)?;
                return Ok(copy.bytes);
            }
        }
        Ok(0)
    }

    /// The blocks that are read from the depot and were read enough, most wanted first.
    fn worth_fetching(&self) -> Vec<Arc<Block<R>>> {
        let version = self.version();
        let state = self.state.lock();
        let is_worth = |block: &&Arc<Block<R>>| {
            let least = block.meta.bytes.saturating_mul(READ_TIMES_MIN);
            // What is busy waits to be removed.
            !block.is_here()
                && block.file.read_bytes() >= least
                && !state.busy.contains(&block.meta.id)
        };
        let mut blocks: Vec<_> = version.blocks.iter().filter(is_worth).cloned().collect();
        drop(state);
        let times = |block: &Arc<Block<R>>| block.file.read_bytes() / block.meta.bytes.max(1);
        blocks.sort_by_cached_key(|block| Reverse(times(block)));
        blocks.truncate(ASKED_MAX);
        blocks
    }

    /// Gives whether there is a copy now; it may be that nobody needs one any more.
    fn fetch_block(
        &self,
        link: &Link,
        block: &Block<R>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<bool> {
        let meta = &block.meta;
        let is_wanted = || self.served(meta.id).is_some_and(|held| !held.is_here());
        let is_over = Cell::new(false);
        let check = || {
            check()?;
            if is_wanted() {
                return Ok(());
            }
            is_over.set(true);
            let what = format!("block {} is not read from far away any more", meta.id);
            Err(Error::new(Kind::Closed, what))
        };
        let file = self.unfinished(meta.id, self.files.fetched(meta.id));
        let written = self.write_copy(link, &file, meta, |to| link.depot.fetch(meta, to, &check));
        if is_over.get() {
            return Ok(false);
        }
        written?;
        let _copying = link.copying.lock();
        if !is_wanted() {
            return Ok(false);
        }
        self.take_copy(&file, meta)?;
        block.file.forget();
        Ok(true)
    }
}
