//! From sealed blocks to merged ones; what is deleted or expired goes.
//!
//! Inputs are immutable and stay served until the catalog names the output instead, so nothing here
//! is in the way of appends or reads, and a crash leaves files that the next open sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use trine_storage::block_set::{Block, Edit, Unfinished, Version};
use trine_storage::catalog::{BlockMeta, Delete};
use trine_storage::compaction::{Merge, Rules, SEALED_MAX, Settings, Sized, next_merge};
use trine_storage::shipping::Ships as _;
use trine_storage::ulid::BlockId;
use trine_storage::{Error, Kind, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::Inner;
use crate::block::reader::BlockFile;
use crate::block::writer::BlockWriter;
use crate::merge::{self, Merger};
use crate::retention;
use crate::scan;
use crate::tombstone::{Hidden, Tombstone};

/// A merge that failed, for want of room as a rule, is tried again after this long.
const RETRY_MS: i64 = 60_000;
/// How often it is looked up how much of a block is expired.
const EXPIRED_CHECK_MS: i64 = 3_600_000;
/// Merged blocks of one window that are about one size become one when there are this many.
const MERGED_LEAST: usize = 8;
/// A block is written again when one in this many of its entries is expired.
const EXPIRED_PARTS: u64 = 2;

/// What compaction found out and need not find out again before a restart.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// Blocks that cannot be read to their end, and why: they are merged no more.
    damaged: BTreeMap<BlockId, String>,
    /// Deletes by number with blocks of which they delete nothing.
    untouched: BTreeSet<(u64, BlockId)>,
    /// When it was last looked how much of a block is expired.
    expired_checked_ms: BTreeMap<BlockId, i64>,
    /// Nothing is merged before this.
    retry_ms: i64,
}

impl Compaction {
    /// What is damaged, a sentence each.
    pub(super) fn damaged(&self) -> impl Iterator<Item = String> {
        let what = |error: &String| format!("a block is not merged: {error}");
        self.damaged.values().map(what)
    }

    /// Lets go of what is known of blocks that are gone.
    fn keep_only(&mut self, version: &Version<BlockFile>) {
        let ids: BTreeSet<BlockId> = version.blocks.iter().map(|block| block.meta.id).collect();
        self.damaged.retain(|id, _| ids.contains(id));
        self.untouched.retain(|(_, id)| ids.contains(id));
        self.expired_checked_ms.retain(|id, _| ids.contains(id));
    }
}

impl Inner {
    /// Merges, deletes and retains what is due.
    pub(super) fn compact_if_due(&self) -> Result<()> {
        let _compacting = self.compacting.lock();
        if !self.is_writer() {
            return Ok(());
        }
        self.retain()?;
        if self.clock.now_ms() < self.compaction.lock().retry_ms {
            return Ok(());
        }
        let result = self.merge_due(false);
        if result.is_err() {
            self.compaction.lock().retry_ms = self.clock.now_ms().saturating_add(RETRY_MS);
        }
        result
    }

    /// Merges, deletes and retains whatever there is.
    pub(super) fn compact_all(&self) -> Result<()> {
        let _compacting = self.compacting.lock();
        self.require_writer()?;
        self.flush()?;
        if self.blocks.depot().is_none() {
            self.retain()?;
            return self.merge_due(true);
        }
        // What is shipped is merged, and what is merged is shipped.
        loop {
            self.ship_blocks()?;
            self.retain()?;
            self.merge_due(true)?;
            if self.ship_blocks()?.is_nothing() {
                return Ok(());
            }
        }
    }

    fn merge_due(&self, at_once: bool) -> Result<()> {
        loop {
            self.check_open()?;
            let hidden = self.carry_out(at_once);
            let version = self.blocks.version();
            self.compaction.lock().keep_only(&version);
            let Some(merge) = self.next_merge(&version, &hidden, at_once)? else {
                break;
            };
            self.merge(&version, &merge, &hidden)?;
        }
        self.forget_deletes()
    }

    fn next_merge(
        &self,
        version: &Version<BlockFile>,
        hidden: &Hidden,
        at_once: bool,
    ) -> Result<Option<Merge>> {
        let candidates = self.blocks.mergeable(version);
        let mut forced = self.with_deleted(&candidates, hidden)?;
        forced.extend(self.with_expired(&candidates, hidden)?);
        let worse = candidates
            .iter()
            .filter(|b| !b.reader.token_damage().is_empty());
        // What finds entries is made again from the entries.
        forced.extend(worse.map(|block| block.meta.id));
        let compaction = self.compaction.lock();
        let whole = |meta: &&BlockMeta| !compaction.damaged.contains_key(&meta.id);
        let metas = candidates.iter().map(|block| &block.meta);
        let mut blocks = Vec::with_capacity(candidates.len());
        blocks.extend(metas.filter(whole).map(|meta| Sized {
            meta,
            size: meta.bytes,
        }));
        if at_once {
            let sealed = blocks.iter().filter(|block| block.meta.level == 0);
            forced.extend(sealed.map(|block| block.meta.id));
        }
        let applied = hidden.tombstones.last().map_or(0, |t| t.delete.number);
        let pending = version.deletes.iter().filter(|d| d.number > applied);
        let pending: Vec<&Delete> = pending.collect();
        let settings = Settings {
            block_range: self.config.block_range,
            keep: self.retention.shortest(),
            size_max: self.config.compacted_bytes_max,
            merged_least: MERGED_LEAST,
            overhang: Duration::ZERO,
            waiting_max: SEALED_MAX,
        };
        let rules = Rules::new(&settings, hidden.now_ns);
        Ok(next_merge(&blocks, &rules, &forced, &pending))
    }

    /// The blocks that hold entries which are deleted and must go now.
    fn with_deleted(
        &self,
        candidates: &[Arc<Block<BlockFile>>],
        hidden: &Hidden,
    ) -> Result<BTreeSet<BlockId>> {
        let mut found = BTreeSet::new();
        for tombstone in hidden.tombstones.iter() {
            let concerned: Vec<&Block<BlockFile>> = {
                let compaction = self.compaction.lock();
                let is_known = |id| {
                    let known = (tombstone.delete.number, id);
                    compaction.untouched.contains(&known) || compaction.damaged.contains_key(&id)
                };
                let blocks = candidates.iter().map(|block| &**block);
                blocks
                    .filter(|block| tombstone.delete.concerns(&block.meta))
                    .filter(|block| !is_known(block.meta.id))
                    .collect()
            };
            for block in scan::blocks_in_groups(&concerned) {
                if self.touches(tombstone, block)? {
                    found.insert(block.meta.id);
                }
            }
        }
        Ok(found)
    }

    /// Whether entries of a block are deleted. That there are none is looked up once.
    fn touches(&self, tombstone: &Arc<Tombstone>, block: &Block<BlockFile>) -> Result<bool> {
        let (number, id) = (tombstone.delete.number, block.meta.id);
        let alone = Hidden {
            tombstones: Arc::new(vec![Arc::clone(tombstone)]),
            retention: Arc::default(),
            now_ns: 0,
        };
        match merge::holds_hidden(block, &alone, &|| self.check_open()) {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.compaction.lock().untouched.insert((number, id));
                Ok(false)
            }
            // What cannot be read stays, and stays hidden.
            Err(error) => self.blame(&[block], error).map(|()| false),
        }
    }

    /// The blocks of which a good part is expired although the rest is kept for long.
    fn with_expired(
        &self,
        candidates: &[Arc<Block<BlockFile>>],
        hidden: &Hidden,
    ) -> Result<BTreeSet<BlockId>> {
        let mut found = BTreeSet::new();
        if !self.retention.differs() {
            return Ok(found);
        }
        let now_ms = self.clock.now_ms();
        let newest_expired = self.retention.newest_expired_ns(hidden.now_ns);
        let due: Vec<&Block<BlockFile>> = {
            let compaction = self.compaction.lock();
            let is_known = |id: &BlockId| {
                let checked = compaction.expired_checked_ms.get(id);
                compaction.damaged.contains_key(id)
                    || checked.is_some_and(|at| now_ms.saturating_sub(*at) < EXPIRED_CHECK_MS)
            };
            let blocks = candidates.iter().map(|block| &**block);
            blocks
                .filter(|block| block.meta.range.start < newest_expired)
                .filter(|block| !is_known(&block.meta.id))
                .collect()
        };
        for block in scan::blocks_in_groups(&due) {
            let id = block.meta.id;
            match merge::expired_rows(block, hidden) {
                Ok(rows) if rows > 0 && rows >= block.meta.rows / EXPIRED_PARTS => {
                    found.insert(id);
                }
                Ok(_) => {
                    let mut compaction = self.compaction.lock();
                    compaction.expired_checked_ms.insert(id, now_ms);
                }
                Err(error) => self.blame(&[block], error)?,
            }
        }
        Ok(found)
    }

    /// Makes one block of several.
    fn merge(&self, version: &Version<BlockFile>, merge: &Merge, hidden: &Hidden) -> Result<()> {
        let named = |id: &BlockId| version.blocks.iter().find(|block| block.meta.id == *id);
        let inputs = merge.inputs.iter().filter_map(named).cloned();
        let inputs: Vec<Arc<Block<BlockFile>>> = inputs.collect();
        // Read from front to back, they are fetched as wholes.
        let inputs = match self.blocks.make_room_if_full(self.blocks.localize(&inputs)) {
            Ok(local) => local,
            Err(error) => {
                let inputs: Vec<_> = inputs.iter().map(|block| &**block).collect();
                return self.blame(&inputs, error);
            }
        };
        let inputs: Vec<&Block<BlockFile>> = inputs.iter().map(|block| &**block).collect();
        let written = match self.write_merged(&inputs, merge, hidden, true) {
            // Perhaps only what the token index says is damaged, which is not needed.
            Err(error) if error.kind() == Kind::Corrupt => {
                self.write_merged(&inputs, merge, hidden, false)
            }
            written => written,
        };
        match self.blocks.make_room_if_full(written) {
            Ok((edit, _file)) => self.blocks.replace(edit),
            Err(error) => self.blame(&inputs, error),
        }
    }

    fn write_merged(
        &self,
        inputs: &[&Block<BlockFile>],
        merge: &Merge,
        hidden: &Hidden,
        sound: bool,
    ) -> Result<(Edit, Unfinished)> {
        let file = self.blocks.begin(&*self.clock);
        let seed = xxh3_64(file.id().to_string().as_bytes());
        let writer = BlockWriter::create(&*self.fs, file.path())?;
        let merger = Merger::open(inputs, hidden, seed, writer, sound)?;
        let written = merger.run(&|| self.check_open())?;
        let metas = || inputs.iter().map(|block| &block.meta);
        let applied = hidden.tombstones.last().map_or(0, |t| t.delete.number);
        let meta = BlockMeta {
            id: file.id(),
            range: written.range,
            rows: written.rows,
            bytes: written.bytes,
            level: merge.level,
            sequence: metas().map(|meta| meta.sequence).max().unwrap_or(0),
            created_ms: self.clock.now_ms(),
            deletes_applied: metas()
                .map(|meta| meta.deletes_applied)
                .max()
                .unwrap_or(0)
                .max(applied),
        };
        let edit = Edit {
            add: (meta.rows > 0).then_some(meta).into_iter().collect(),
            remove: metas().map(|meta| meta.id).collect(),
            ..Edit::default()
        };
        Ok((edit, file))
    }

    /// Finds out which of the blocks are damaged when a merge says that one is: the others are
    /// merged without them.
    fn blame(&self, inputs: &[&Block<BlockFile>], error: Error) -> Result<()> {
        if error.kind() != Kind::Corrupt {
            return Err(error);
        }
        let mut blamed = false;
        for block in inputs {
            self.check_open()?;
            if let Err(error) = block.reader.verify() {
                let mut compaction = self.compaction.lock();
                compaction.damaged.insert(block.meta.id, error.to_string());
                blamed = true;
            }
        }
        if blamed { Ok(()) } else { Err(error) }
    }

    /// Removes the blocks that the retention is done with.
    fn retain(&self) -> Result<()> {
        let version = self.blocks.version();
        let metas = version.blocks.iter().map(|block| &block.meta);
        let limits = retention::Limits {
            oldest_ns: self.retention.oldest_of_all_ns(self.clock.now_ns()),
            bytes: self.config.retention_bytes,
        };
        let remove = retention::plan(metas, &limits);
        if remove.is_empty() {
            return Ok(());
        }
        self.blocks.replace(Edit {
            remove,
            ..Edit::default()
        })
    }

    /// Forgets the deletes that no file holds entries of any more.
    fn forget_deletes(&self) -> Result<()> {
        let _deleting = self.deleting.lock();
        if self.blocks.depot().is_some() && !self.blocks.quarantined().is_empty() {
            // What cannot be read now may come back, with entries that are deleted.
            return Ok(());
        }
        let version = self.blocks.version();
        let done: Vec<u64> = {
            let compaction = self.compaction.lock();
            let concerned = |delete: &Delete| {
                version.blocks.iter().any(|block| {
                    let known = (delete.number, block.meta.id);
                    delete.concerns(&block.meta) && !compaction.untouched.contains(&known)
                })
            };
            let deletes = version.deletes.iter();
            let done = deletes.filter(|delete| {
                self.is_due(delete) && !concerned(delete) && self.blocks.may_forget(delete)
            });
            done.map(|delete| delete.number).collect()
        };
        if done.is_empty() {
            return Ok(());
        }
        self.forget(&done)?;
        let mut compaction = self.compaction.lock();
        compaction
            .untouched
            .retain(|(number, _)| !done.contains(number));
        Ok(())
    }
}
