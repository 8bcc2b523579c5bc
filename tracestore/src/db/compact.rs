//! From sealed blocks to merged ones; what is deleted or expired goes.
//!
//! Inputs are immutable and stay served until the catalog names the output instead, so nothing here
//! is in the way of appends or reads, and a crash leaves files that the next open sweeps. Of shipped
//! blocks the depot decides: until it has, they stay served and are not merged again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trine_storage::block_set::{Block, BlockReader, Edit, Unfinished, Version, warm};
use trine_storage::catalog::{BlockMeta, Delete};
use trine_storage::compaction::{Merge, Rules, Settings, Sized, next_merge};
use trine_storage::shipping::Ships as _;
use trine_storage::ulid::BlockId;
use trine_storage::{Error, Kind, Result};

use super::{Inner, by_sequence};
use crate::block::build::{Input, Source};
use crate::block::image::BlockFile;
use crate::place::{self, Held, Patience};
use crate::retention;
use crate::tombstone::Hidden;

/// A merge that failed, for want of room as a rule, is tried again after this long.
const RETRY_MS: i64 = 60_000;
/// How often it is looked up how much of a block is expired.
const EXPIRED_CHECK_MS: i64 = 3_600_000;
/// Merged blocks of one window that are about one size become one when there are this many.
const MERGED_LEAST: usize = 4;
/// So many sealed blocks of a window wait for a merge while one follows the other in seconds. A look
/// into each of them is a filter of ids or a few dictionaries; a merge writes its spans once more.
const WAITING_MAX: usize = 48;
/// A block is written again when one in this many of its spans is expired.
const EXPIRED_PARTS: u64 = 2;

/// What compaction found out and need not find out again before a restart.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// Blocks that cannot be read to their end, and why: they are merged no more.
    damaged: BTreeMap<BlockId, String>,
    /// When it was last looked how much of a block is expired.
    expired_checked_ms: BTreeMap<BlockId, i64>,
    /// How much of what may become one block each is, by [`Inner::size_of`].
    sizes: BTreeMap<BlockId, u64>,
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
        self.expired_checked_ms.retain(|id, _| ids.contains(id));
        self.sizes.retain(|id, _| ids.contains(id));
    }
}

impl Inner {
    /// Merges, deletes and retains what is due, if that is for this process to do.
    pub(super) fn compact_if_due(&self) -> Result<()> {
        if !self.is_writer() {
            return Ok(());
        }
        let _compacting = self.compacting.lock();
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
        self.require_writer()?;
        let _compacting = self.compacting.lock();
        self.flush()?;
        loop {
            self.ship_blocks()?;
            self.retain()?;
            self.merge_due(true)?;
            // What was merged of shipped blocks is seen, and merged again, when the depot has it.
            if self.ship_blocks()?.replaced == 0 {
                return self.forget_deletes();
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
        let mut mergeable = self.blocks.mergeable(version);
        mergeable.retain(|block| !self.is_damaged(block.meta.id));
        let mut forced = self.with_deleted(&mergeable, hidden)?;
        forced.extend(self.with_expired(&mergeable, hidden)?);
        self.look_at_sizes(&mergeable);
        let mut blocks = Vec::with_capacity(mergeable.len());
        for block in &mergeable {
            match self.size_of(block) {
                Ok(size) => blocks.push(Sized {
                    meta: &block.meta,
                    size,
                }),
                Err(error) => self.blame(std::slice::from_ref(block), error)?,
            }
        }
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
            // A block has traces that began in a window; some of their spans may begin in the next.
            overhang: self.config.block_range / 2,
            waiting_max: WAITING_MAX,
        };
        let rules = Rules::new(&settings, hidden.now_ns);
        Ok(next_merge(&blocks, &rules, &forced, &pending))
    }

    fn is_damaged(&self, id: BlockId) -> bool {
        self.compaction.lock().damaged.contains_key(&id)
    }

    /// Fetches at once what tells the sizes of blocks that are not known yet.
    fn look_at_sizes(&self, blocks: &[Arc<Block<BlockFile>>]) {
        let known: BTreeSet<BlockId> = self.compaction.lock().sizes.keys().copied().collect();
        let new = blocks
            .iter()
            .filter(|block| !known.contains(&block.meta.id));
        // What goes wrong is told by who asks for a size.
        warm(new.map(|block| &**block), BlockFile::FIRST_SECTIONS).ok();
    }

    /// How much of what may become one block this one is: the bytes of its largest column, or a part
    /// of what these may be for each span.
    fn size_of(&self, block: &Block<BlockFile>) -> Result<u64> {
        let id = block.meta.id;
        if let Some(size) = self.compaction.lock().sizes.get(&id) {
            return Ok(*size);
        }
        let config = &self.config;
        let by_spans = u128::from(block.meta.rows) * u128::from(config.compacted_bytes_max);
        let by_spans = by_spans / u128::from(config.compacted_spans_max);
        let largest = block.reader.image()?.largest_column_bytes();
        let size = largest.max(u64::try_from(by_spans).unwrap_or(u64::MAX));
        self.compaction.lock().sizes.insert(id, size);
        Ok(size)
    }

    /// The blocks that hold spans which are deleted and must go now.
    fn with_deleted(
        &self,
        blocks: &[Arc<Block<BlockFile>>],
        hidden: &Hidden,
    ) -> Result<BTreeSet<BlockId>> {
        let mut found = BTreeSet::new();
        for tombstone in hidden.tombstones.iter() {
            let concerns = |block: &&Arc<Block<BlockFile>>| {
                tombstone.delete.concerns(&block.meta) && !self.is_damaged(block.meta.id)
            };
            for block in blocks.iter().filter(concerns) {
                let id = block.meta.id;
                match tombstone.touches(block) {
                    Ok(true) => drop(found.insert(id)),
                    Ok(false) => {}
                    // What cannot be read stays, and stays hidden.
                    Err(error) => self.blame(std::slice::from_ref(block), error)?,
                }
            }
        }
        Ok(found)
    }

    /// The blocks of which a good part is expired although the rest is kept for long.
    fn with_expired(
        &self,
        blocks: &[Arc<Block<BlockFile>>],
        hidden: &Hidden,
    ) -> Result<BTreeSet<BlockId>> {
        let mut found = BTreeSet::new();
        let now_ms = self.clock.now_ms();
        let newest_expired = self.retention.newest_expired_ns(hidden.now_ns);
        let expired = Hidden {
            tombstones: Arc::default(),
            ..hidden.clone()
        };
        for block in blocks {
            let id = block.meta.id;
            let is_known = {
                let compaction = self.compaction.lock();
                let checked = compaction.expired_checked_ms.get(&id);
                checked.is_some_and(|at| now_ms.saturating_sub(*at) < EXPIRED_CHECK_MS)
            };
            if block.meta.range.start >= newest_expired || is_known || self.is_damaged(id) {
                continue;
            }
            match expired.rows(&Held::Block(Arc::clone(block))) {
                Ok(rows) if !rows.is_empty() && rows.len() >= block.meta.rows / EXPIRED_PARTS => {
                    found.insert(id);
                }
                Ok(_) => {
                    let mut compaction = self.compaction.lock();
                    compaction.expired_checked_ms.insert(id, now_ms);
                }
                Err(error) => self.blame(std::slice::from_ref(block), error)?,
            }
        }
        Ok(found)
    }

    /// Makes one block of several.
    fn merge(&self, version: &Version<BlockFile>, merge: &Merge, hidden: &Hidden) -> Result<()> {
        let named = |id: &BlockId| version.blocks.iter().find(|block| block.meta.id == *id);
        let inputs: Vec<Arc<Block<BlockFile>>> =
            merge.inputs.iter().filter_map(named).cloned().collect();
        // Read from front to back, they are fetched as wholes.
        let merged = self.blocks.localize(&inputs);
        let merged = merged.and_then(|inputs| self.write_merged(version, &inputs, merge, hidden));
        match self.blocks.make_room_if_full(merged) {
            Ok((edit, _file)) => {
                self.check_open()?;
                self.blocks.replace(edit)
            }
            Err(error) => self.blame(&inputs, error),
        }
    }

    fn write_merged(
        &self,
        version: &Version<BlockFile>,
        inputs: &[Arc<Block<BlockFile>>],
        merge: &Merge,
        hidden: &Hidden,
    ) -> Result<(Edit, Unfinished)> {
        let mut images = Vec::with_capacity(inputs.len());
        for block in inputs {
            let rows = hidden.rows(&Held::Block(Arc::clone(block)))?;
            images.push((block.reader.image()?, rows));
        }
        let sources: Vec<Input<'_>> = images
            .iter()
            .map(|(image, rows)| Input {
                hidden: (**rows).clone(),
                ..Input::all(Source::Image(image))
            })
            .collect();
        let mut others = by_sequence(version);
        others.retain(|held| match held {
            Held::Block(block) => !merge.inputs.contains(&block.meta.id),
            Held::Run(_) => true,
        });
        // Runs of memory say themselves that blocks have spans of their traces.
        let (built, bytes, file) =
            self.write_block(&sources, &place::held_by(&others, Patience::Some))?;
        let metas = || inputs.iter().map(|block| &block.meta);
        let applied = hidden.tombstones.last().map_or(0, |t| t.delete.number);
        let meta = BlockMeta {
            id: file.id(),
            range: built.range,
            rows: built.spans,
            bytes,
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
    fn blame(&self, inputs: &[Arc<Block<BlockFile>>], error: Error) -> Result<()> {
        if error.kind() != Kind::Corrupt {
            return Err(error);
        }
        let mut blamed = false;
        for block in inputs {
            self.check_open()?;
            let checked = block.file.verify();
            let checked = checked.and_then(|()| block.reader.image()?.check());
            if let Err(error) = checked {
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

    /// Forgets the deletes that no file holds spans of any more.
    fn forget_deletes(&self) -> Result<()> {
        let tombstones = self.tombstones();
        let version = self.blocks.version();
        let mut done = Vec::new();
        for tombstone in tombstones.iter() {
            let delete = &tombstone.delete;
            if !self.is_due(delete) || !self.blocks.may_forget(delete) {
                continue;
            }
            let alone = Hidden {
                tombstones: Arc::new(vec![Arc::clone(tombstone)]),
                retention: Arc::default(),
                now_ns: 0,
            };
            // What cannot be read is among them.
            let concerned = version.blocks.iter().any(|block| {
                let concerns = tombstone.delete.concerns(&block.meta);
                concerns && self.is_damaged(block.meta.id)
            });
            if !concerned && self.with_deleted(&version.blocks, &alone)?.is_empty() {
                done.push(tombstone.delete.number);
            }
        }
        let _deleting = self.deleting.lock();
        // Of a depot that may have decided more nothing is asked before that is seen.
        match done.is_empty() || self.blocks.is_behind() {
            true => Ok(()),
            false => self.forget(&done),
        }
    }
}
