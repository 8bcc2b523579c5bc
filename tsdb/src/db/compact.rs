//! From blocks to larger ones; what the retention is done with goes.
//!
//! Inputs are immutable and stay served until the catalog names the outputs instead, so nothing here
//! is in the way of appends or reads, and a crash leaves files that the next open sweeps.

use std::collections::BTreeSet;
use std::sync::Arc;

use trine_storage::block_set::{Block, Edit, Unfinished, Version};
use trine_storage::catalog::BlockMeta;
use trine_storage::shipping::Ships as _;
use trine_storage::ulid::BlockId;
use trine_storage::{Kind, Result, TimeRange};

use super::{Inner, Tombstones};
use crate::block::run::Effort;
use crate::block::writer::BlockWriter;
use crate::block::{METADATA_LEVEL, PART_LEVEL, Sealed, is_block};
use crate::columns::Columns;
use crate::compact::{self, Windows};
use crate::exemplar;
use crate::retention;
use crate::select::BlockSeries;

/// Blocks up to this level are merged into larger ones within a day.
const SOON_MERGED_LEVEL_MAX: u8 = 2;
/// Files are written again without what was deleted this long ago: who deletes often should not pay
/// for every delete.
const DELETE_DELAY_MS: i64 = 10 * 60_000;

impl Inner {
    /// Cuts, merges and retains what is due.
    pub(super) fn compact_if_due(&self) -> Result<()> {
        let _compacting = self.compacting.lock();
        if !self.is_writer() {
            return Ok(());
        }
        self.cut_if_due()?;
        if !self.recalled.may_merge(self.clock.now_ms()) {
            return Ok(());
        }
        let merged = self
            .merge_all()
            .and_then(|()| self.rewrite_deleted(DELETE_DELAY_MS))
            .and_then(|()| self.retain());
        merged.inspect_err(|error| {
            if error.kind() == Kind::Unavailable {
                self.recalled.hold_merges(self.clock.now_ms());
            }
        })
    }

    /// Cuts and merges whatever there is.
    pub(super) fn compact_all(&self) -> Result<()> {
        let _compacting = self.compacting.lock();
        self.require_writer()?;
        loop {
            self.cut()?;
            // What is shipped is merged, and what is merged is shipped.
            self.ship_blocks()?;
            self.merge_all()?;
            self.rewrite_deleted(0)?;
            self.retain()?;
            if self.ship_blocks()?.is_nothing() {
                return Ok(());
            }
        }
    }

    /// The files that hold samples which were deleted at least `delay_ms` ago.
    fn deleted<'a>(
        &self,
        delay_ms: i64,
        version: &'a Version<Sealed>,
    ) -> impl Iterator<Item = &'a Arc<Block<Sealed>>> {
        let before_ms = self.clock.now_ms().saturating_sub(delay_ms);
        let due = move |block: &&Arc<Block<Sealed>>| {
            let mut deletes = version.deletes.iter();
            deletes.any(|delete| delete.created_ms <= before_ms && delete.concerns(&block.meta))
        };
        version.blocks.iter().filter(due)
    }

    /// Whether parts hold samples that were deleted long enough ago.
    pub(super) fn parts_are_deleted(&self, version: &Version<Sealed>) -> bool {
        let mut deleted = self.deleted(DELETE_DELAY_MS, version);
        deleted.any(|block| block.meta.level == PART_LEVEL)
    }

    /// Writes blocks again without what was deleted at least `delay_ms` ago.
    fn rewrite_deleted(&self, delay_ms: i64) -> Result<()> {
        let version = self.blocks.version();
        for block in self.deleted(delay_ms, &version) {
            // What waits for the depot now comes later.
            let is_free = || self.mergeable(&version).contains(&block.meta.id);
            if is_block(&block.meta) && is_free() {
                let inputs = std::slice::from_ref(block);
                self.merge(inputs, block.meta.range, block.meta.level)?;
            }
        }
        self.forget_deletes()
    }

    /// The blocks that may be merged.
    fn mergeable(&self, version: &Version<Sealed>) -> BTreeSet<BlockId> {
        let free = self.blocks.mergeable(version);
        free.iter().map(|block| block.meta.id).collect()
    }

    pub(super) fn windows(&self, scale: i64) -> Windows {
        let (range, kept) = (self.config.block_range, self.config.retention);
        Windows::new(range, kept, scale, self.clock.now_ms())
    }

    /// Merges blocks until nothing is due.
    fn merge_all(&self) -> Result<()> {
        loop {
            let version = self.blocks.version();
            let metas = version.blocks.iter().map(|block| &block.meta);
            let free = self.mergeable(&version);
            let is_free = |meta: &BlockMeta| free.contains(&meta.id);
            let Some(merge) = compact::next_merge(metas, &self.windows(1), is_free) else {
                return Ok(());
            };
            let named = |id: &BlockId| version.blocks.iter().find(|block| block.meta.id == *id);
            let inputs = merge.inputs.iter().filter_map(named).cloned();
            let inputs: Vec<Arc<Block<Sealed>>> = inputs.collect();
            self.merge(&inputs, merge.window, merge.level)?;
        }
    }

    fn merge(&self, inputs: &[Arc<Block<Sealed>>], window: TimeRange, level: u8) -> Result<()> {
        // Read from front to back, they are fetched as wholes.
        let inputs = self
            .blocks
            .make_room_if_full(self.blocks.localize(inputs))?;
        let written = self.write_merged(&inputs, window, level);
        let (edit, _file) = self.blocks.make_room_if_full(written)?;
        self.blocks.replace(edit)
    }

    fn write_merged(
        &self,
        inputs: &[Arc<Block<Sealed>>],
        window: TimeRange,
        level: u8,
    ) -> Result<(Edit, Unfinished)> {
        let now_ms = self.clock.now_ms();
        let oldest_ms = retention::oldest_ms(self.config.retention, now_ms);
        let kept = TimeRange::new(window.start.max(oldest_ms), window.end);
        let tombstones = self.tombstones();
        let mut sources = Vec::new();
        for block in inputs {
            if let Sealed::Block(_) = &block.reader {
                sources.push(BlockSeries::select(
                    Arc::clone(block),
                    &[],
                    kept,
                    &tombstones,
                )?);
            }
        }
        let file = self.blocks.begin(&*self.clock);
        let mut block = BlockWriter::create(&*self.fs, file.path(), effort(level))?;
        let mut columns = Columns::default();
        while let Some(labels) = sources.iter().filter_map(BlockSeries::peek).min().cloned() {
            self.check_open()?;
            columns.clear();
            let mut exemplars = Vec::new();
            for source in &mut sources {
                source.exemplars(&labels, &mut exemplars)?;
                source.take(&labels, &mut columns)?;
            }
            columns.settle();
            columns.keep(kept);
            exemplars.retain(|exemplar| kept.contains(exemplar.timestamp));
            exemplar::settle(&mut exemplars);
            if !columns.is_empty() || !exemplars.is_empty() {
                block.series(&labels, &columns, &exemplars)?;
            }
        }
        let written = block.finish()?;
        let sequence = inputs
            .iter()
            .map(|block| block.meta.sequence)
            .max()
            .unwrap_or(0);
        let meta = BlockMeta {
            id: file.id(),
            range: window,
            rows: written.samples,
            bytes: written.bytes,
            level,
            sequence,
            created_ms: now_ms,
            deletes_applied: newest(&tombstones),
        };
        let edit = Edit {
            add: if written.series > 0 {
                vec![meta]
            } else {
                Vec::new()
            },
            remove: inputs.iter().map(|block| block.meta.id).collect(),
            ..Edit::default()
        };
        Ok((edit, file))
    }

    /// Removes the blocks that the retention is done with.
    fn retain(&self) -> Result<()> {
        let version = self.blocks.version();
        let blocks = version.blocks.iter().map(|block| &block.meta);
        let blocks = blocks.filter(|meta| is_block(meta));
        let limits = retention::Limits {
            age: self.config.retention,
            bytes: self.config.retention_bytes,
        };
        let mut remove = retention::plan(blocks, &limits, self.clock.now_ms());
        remove.extend(old_metadata(&version));
        if remove.is_empty() {
            return Ok(());
        }
        self.blocks.replace(Edit {
            remove,
            ..Edit::default()
        })
    }
}

/// The files with metadata that a later one has replaced in the depot.
fn old_metadata(version: &Version<Sealed>) -> Vec<BlockId> {
    let all = metadata_of(version);
    let newest = all.iter().rposition(|block| block.is_shipped());
    let old = all.iter().take(newest.unwrap_or(0));
    old.map(|block| block.meta.id).collect()
}

/// The files with metadata, the oldest first.
pub(super) fn metadata_of(version: &Version<Sealed>) -> Vec<&Arc<Block<Sealed>>> {
    let blocks = version.blocks.iter();
    let mut all: Vec<_> = blocks
        .filter(|block| block.meta.level == METADATA_LEVEL)
        .collect();
    all.sort_by_key(|block| (block.meta.sequence, block.meta.id));
    all
}

/// Blocks that are likely to be merged soon are not worth the last byte.
pub(super) fn effort(level: u8) -> Effort {
    match level {
        ..=SOON_MERGED_LEVEL_MAX => Effort::Fast,
        _ => Effort::Small,
    }
}

/// The number of the newest delete.
pub(super) fn newest(tombstones: &Tombstones) -> u64 {
    tombstones
        .iter()
        .map(|held| held.delete.number)
        .max()
        .unwrap_or(0)
}
