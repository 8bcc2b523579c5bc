//! From parts to blocks and from blocks to larger ones; what the retention is done with goes.
//!
//! Inputs are immutable and stay served until the catalog names the outputs instead, so nothing here
//! is in the way of appends or reads, and a crash leaves files that the next open sweeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trine_storage::block_set::{Block, Edit};
use trine_storage::catalog::BlockMeta;
use trine_storage::ulid::BlockId;
use trine_storage::{Labels, Result, TimeRange};

use super::{Inner, Tombstones};
use crate::block::run::Effort;
use crate::block::writer::BlockWriter;
use crate::block::{PART_LEVEL, Sealed};
use crate::columns::Columns;
use crate::compact::{self, Windows};
use crate::head::{Idle, series};
use crate::part::reader::{PageCache, PartFile};
use crate::part::writer::PartWriter;
use crate::retention;
use crate::snapshot::BlockSeries;

/// A series is idle when its newest sample is this much older than the newest of all: two rounds of
/// a slow scrape.
const IDLE_MS: i64 = 2 * 60_000;
/// Idle series that are kept in memory whatever there is beside them.
const IDLE_SERIES_MIN: u64 = 10_000;
/// Blocks up to this level are merged into larger ones within a day.
const SOON_MERGED_LEVEL_MAX: u8 = 2;
/// Files are written again without what was deleted this long ago: who deletes often should not pay
/// for every delete.
const DELETE_DELAY_MS: i64 = 10 * 60_000;
/// Parts are cut to let go of idle series when more than one in this many series is idle.
const IDLE_PARTS: u64 = 12;

impl Inner {
    /// Cuts, merges and retains what is due.
    pub(super) fn compact_if_due(&self) -> Result<()> {
        let _compacting = self.compacting.lock();
        let version = self.blocks.version();
        let metas = || version.blocks.iter().map(|block| &block.meta);
        let sealed: u64 = metas()
            .filter(|m| m.level == PART_LEVEL)
            .map(|m| m.rows)
            .sum();
        let due = compact::cut_is_due(metas(), &self.windows(1))
            || self.idle_series_are_many(sealed)
            || self
                .deleted(DELETE_DELAY_MS)
                .iter()
                .any(|block| block.meta.level == PART_LEVEL);
        if due {
            self.cut()?;
        }
        self.merge_all()?;
        self.rewrite_deleted(DELETE_DELAY_MS)?;
        self.retain()
    }

    /// Cuts and merges whatever there is.
    pub(super) fn compact_all(&self) -> Result<()> {
        let _compacting = self.compacting.lock();
        self.cut()?;
        self.merge_all()?;
        self.rewrite_deleted(0)?;
        self.retain()
    }

    /// The files that hold samples which were deleted at least `delay_ms` ago.
    fn deleted(&self, delay_ms: i64) -> Vec<Arc<Block<Sealed>>> {
        let version = self.blocks.version();
        let before_ms = self.clock.now_ms().saturating_sub(delay_ms);
        let due = |block: &&Arc<Block<Sealed>>| {
            let mut deletes = version.deletes.iter();
            deletes.any(|delete| delete.created_ms <= before_ms && delete.concerns(&block.meta))
        };
        version.blocks.iter().filter(due).cloned().collect()
    }

    /// Writes blocks again without what was deleted at least `delay_ms` ago.
    fn rewrite_deleted(&self, delay_ms: i64) -> Result<()> {
        for block in self.deleted(delay_ms) {
            if block.meta.level != PART_LEVEL {
                self.merge(&[&block], block.meta.range, block.meta.level)?;
            }
        }
        self.forget_deletes()
    }

    fn windows(&self, scale: i64) -> Windows {
        let (range, kept) = (self.config.block_range, self.config.retention);
        Windows::new(range, kept, scale, self.clock.now_ms())
    }

    fn idle(&self) -> Idle {
        Idle {
            epoch: *self.epoch.read(),
            oldest_ms: self.head.newest_ms().saturating_sub(IDLE_MS),
            quiet_epoch: self.quiet_epoch.load(Ordering::Relaxed),
        }
    }

    /// Whether enough series are idle to cut parts that hold `sealed` samples: all of them when there
    /// is nothing to write, otherwise a good part of many.
    fn idle_series_are_many(&self, sealed: u64) -> bool {
        let series = self.head.series_count();
        if series == 0 || sealed > 0 && series < IDLE_SERIES_MIN {
            return false;
        }
        let (idle, alive) = self.head.count_idle(&self.idle());
        let all = sealed == 0 && idle == alive;
        all || idle >= IDLE_SERIES_MIN && idle * IDLE_PARTS > alive
    }

    /// Makes blocks of the samples of all parts that lie in closed windows or belong to series that
    /// nothing is appended to any more. What remains becomes one part.
    fn cut(&self) -> Result<()> {
        self.head.retire(&self.idle());
        // Whatever the retired have is in parts after this.
        self.flush()?;
        let version = self.blocks.version();
        let parts: Vec<(&PartFile, &BlockMeta)> = parts_of(&version.blocks);
        let Some(sequence) = parts.iter().map(|(_, meta)| meta.sequence).max() else {
            return Ok(());
        };
        let now_ms = self.clock.now_ms();
        let mut cut = Cut {
            inner: self,
            parts: parts
                .iter()
                .map(|(part, meta)| (*part, *meta, PageCache::default()))
                .collect(),
            windows: self.windows(1),
            oldest_ms: retention::oldest_ms(self.config.retention, now_ms),
            sequence,
            now_ms,
            tombstones: self.tombstones(),
        };
        cut.widen(self.config.block_range, self.config.retention)?;
        let dead = cut.dead()?;
        let mut edit = Edit {
            remove: parts.iter().map(|(_, meta)| meta.id).collect(),
            ..Edit::default()
        };
        edit.add = cut.write_blocks(&dead)?;
        edit.add.extend(cut.write_rest(&dead)?);
        if let ([(_, old)], [new]) = (&parts[..], &edit.add[..])
            && new.level == PART_LEVEL
            && new.rows == old.rows
            && dead.is_empty()
        {
            // One part that would become the same again.
            let path = self.blocks.temporary(new.id);
            return self
                .fs
                .remove_file(&path)
                .map_err(|e| trine_storage::Error::io(format!("remove {}", path.display()), e));
        }
        self.blocks.commit(&edit, || self.head.bury(&dead))?;
        self.account.set(self.head.bytes());
        Ok(())
    }

    /// Merges blocks until nothing is due.
    fn merge_all(&self) -> Result<()> {
        loop {
            let version = self.blocks.version();
            let metas = version.blocks.iter().map(|block| &block.meta);
            let Some(merge) = compact::next_merge(metas, &self.windows(1)) else {
                return Ok(());
            };
            let inputs: Vec<&Arc<Block<Sealed>>> = merge
                .inputs
                .iter()
                .filter_map(|id| version.blocks.iter().find(|block| block.meta.id == *id))
                .collect();
            self.merge(&inputs, merge.window, merge.level)?;
        }
    }

    fn merge(&self, inputs: &[&Arc<Block<Sealed>>], window: TimeRange, level: u8) -> Result<()> {
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
        let id = self.blocks.next_id(&*self.clock);
        let mut block = BlockWriter::create(&*self.fs, &self.blocks.temporary(id), effort(level))?;
        let mut columns = Columns::default();
        while let Some(labels) = sources.iter().filter_map(BlockSeries::peek).min().cloned() {
            self.check_open()?;
            columns.clear();
            for source in &mut sources {
                source.take(&labels, &mut columns)?;
            }
            columns.settle();
            columns.keep(kept);
            if !columns.is_empty() {
                block.series(&labels, &columns)?;
            }
        }
        let written = block.finish()?;
        let sequence = inputs
            .iter()
            .map(|block| block.meta.sequence)
            .max()
            .unwrap_or(0);
        let meta = BlockMeta {
            id,
            range: window,
            rows: written.samples,
            bytes: written.bytes,
            level,
            sequence,
            created_ms: now_ms,
            deletes_applied: newest(&tombstones),
        };
        let edit = Edit {
            add: if written.samples > 0 {
                vec![meta]
            } else {
                Vec::new()
            },
            remove: inputs.iter().map(|block| block.meta.id).collect(),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {})
    }

    /// Removes the blocks that the retention is done with.
    fn retain(&self) -> Result<()> {
        let version = self.blocks.version();
        let blocks = version.blocks.iter().map(|block| &block.meta);
        let blocks = blocks.filter(|meta| meta.level != PART_LEVEL);
        let limits = retention::Limits {
            age: self.config.retention,
            bytes: self.config.retention_bytes,
        };
        let remove = retention::plan(blocks, &limits, self.clock.now_ms());
        if remove.is_empty() {
            return Ok(());
        }
        self.blocks.commit(
            &Edit {
                remove,
                ..Edit::default()
            },
            || {},
        )
    }
}

/// The parts of a version, by sequence.
fn parts_of(blocks: &[Arc<Block<Sealed>>]) -> Vec<(&PartFile, &BlockMeta)> {
    let mut parts: Vec<(&PartFile, &BlockMeta)> = blocks
        .iter()
        .filter_map(|block| match &block.reader {
            Sealed::Part(part) => Some((part, &block.meta)),
            Sealed::Block(_) => None,
        })
        .collect();
    parts.sort_by_key(|(_, meta)| meta.sequence);
    parts
}

/// A cut while it is made.
struct Cut<'a> {
    inner: &'a Inner,
    /// By sequence.
    parts: Vec<(&'a PartFile, &'a BlockMeta, PageCache)>,
    windows: Windows,
    oldest_ms: i64,
    sequence: u64,
    now_ms: i64,
    tombstones: Arc<Tombstones>,
}

/// A block that is being written, and its name.
struct Output {
    id: BlockId,
    level: u8,
    window: TimeRange,
    writer: BlockWriter,
}

impl Cut<'_> {
    /// All ids that have chunks, rising.
    fn ids(&self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for (part, _, _) in &self.parts {
            ids.extend(part.ids()?);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// The dead series, rising: they have nothing in memory.
    fn dead(&self) -> Result<Vec<u32>> {
        let mut dead = Vec::new();
        self.inner.head.walk(|id, series| {
            if series.dead {
                dead.push(id);
            }
            Ok(())
        })?;
        Ok(dead)
    }

    /// Makes the windows wider until there are not too many.
    fn widen(
        &mut self,
        range: std::time::Duration,
        kept: Option<std::time::Duration>,
    ) -> Result<()> {
        let most = self.inner.config.block_ranges_max.max(1);
        let mut scale = 1i64;
        loop {
            let windows = Windows::new(range, kept, scale, self.now_ms);
            let mut starts = std::collections::BTreeSet::new();
            'ids: for id in self.ids()? {
                let columns = self.samples(id)?;
                for &timestamp in &columns.timestamps {
                    let (_, window) = windows
                        .closed_at(timestamp)
                        .unwrap_or_else(|| windows.smallest_at(timestamp));
                    starts.insert(window.start);
                    if starts.len() > most {
                        break 'ids;
                    }
                }
            }
            if starts.len() <= most || scale > i64::MAX / 4 {
                self.windows = windows;
                return Ok(());
            }
            scale *= 2;
        }
    }

    /// The samples of a series in all parts, in order of time, deleted and expired ones left out.
    fn samples(&mut self, id: u32) -> Result<Columns> {
        self.inner.check_open()?;
        let mut columns = Columns::default();
        let labels = self.inner.head.labels(id).unwrap_or_default();
        for (part, meta, cache) in &mut self.parts {
            let start = columns.len();
            let name = part.name();
            part.chunks(id, cache, |chunk| columns.decode(name, &chunk))?;
            for tombstone in &*self.tombstones {
                tombstone.apply(meta, &labels, &mut columns, start);
            }
        }
        columns.settle();
        columns.keep(TimeRange::new(self.oldest_ms, i64::MAX));
        Ok(columns)
    }

    fn write_blocks(&mut self, dead: &[u32]) -> Result<Vec<BlockMeta>> {
        let head = &self.inner.head;
        let known = |id: u32| Some((head.labels(id)?, id));
        let mut series: Vec<(Labels, u32)> = self.ids()?.into_iter().filter_map(known).collect();
        series.sort_unstable();
        let mut outputs: BTreeMap<(i64, u8), Output> = BTreeMap::new();
        for (labels, ids) in by_labels(&series) {
            let mut closed = Columns::default();
            let mut any_dead = false;
            for (_, id) in ids {
                let is_dead = dead.binary_search(id).is_ok();
                any_dead |= is_dead;
                let columns = self.samples(*id)?;
                for (&timestamp, &value) in columns.timestamps.iter().zip(&columns.values) {
                    if is_dead || self.windows.closed_at(timestamp).is_some() {
                        closed.push(timestamp, value);
                    }
                }
            }
            if any_dead {
                closed.settle();
            }
            self.distribute(labels, &closed, &mut outputs)?;
        }
        let finish = |output: Output| {
            let written = output.writer.finish()?;
            Ok(BlockMeta {
                id: output.id,
                range: output.window,
                rows: written.samples,
                bytes: written.bytes,
                level: output.level,
                sequence: self.sequence,
                created_ms: self.now_ms,
                deletes_applied: newest(&self.tombstones),
            })
        };
        outputs.into_values().map(finish).collect()
    }

    /// Gives the samples of a series to the blocks of their windows.
    fn distribute(
        &self,
        labels: &Labels,
        columns: &Columns,
        outputs: &mut BTreeMap<(i64, u8), Output>,
    ) -> Result<()> {
        let mut at = 0;
        while let Some(&timestamp) = columns.timestamps.get(at) {
            let (level, window) = self
                .windows
                .closed_at(timestamp)
                .unwrap_or_else(|| self.windows.smallest_at(timestamp));
            let rest = &columns.timestamps[at..];
            let end = at + rest.partition_point(|&t| t < window.end).max(1);
            let samples = Columns {
                timestamps: columns.timestamps[at..end].to_vec(),
                values: columns.values[at..end].to_vec(),
            };
            at = end;
            let output = match outputs.entry((window.start, level)) {
                std::collections::btree_map::Entry::Occupied(output) => output.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let id = self.inner.blocks.next_id(&*self.inner.clock);
                    let path = self.inner.blocks.temporary(id);
                    let writer = BlockWriter::create(&*self.inner.fs, &path, effort(level))?;
                    place.insert(Output {
                        id,
                        level,
                        window,
                        writer,
                    })
                }
            };
            output.writer.series(labels, &samples)?;
        }
        Ok(())
    }

    /// The part that defines the series that live on and holds their samples in open windows.
    fn write_rest(&mut self, dead: &[u32]) -> Result<Option<BlockMeta>> {
        let id = self.inner.blocks.next_id(&*self.inner.clock);
        let path = self.inner.blocks.temporary(id);
        let mut rest = PartWriter::create(&*self.inner.fs, &path)?;
        self.inner
            .head
            .walk(|id, series| match series.defined && !series.dead {
                true => rest.define(id, &series.labels),
                false => Ok(()),
            })?;
        for id in self.ids()? {
            if dead.binary_search(&id).is_ok() {
                continue;
            }
            let columns = self.samples(id)?;
            let open: Vec<(i64, f64)> = columns
                .timestamps
                .iter()
                .copied()
                .zip(columns.values.iter().copied())
                .filter(|(timestamp, _)| self.windows.closed_at(*timestamp).is_none())
                .collect();
            let chunks = open
                .chunks(series::CHUNK_SAMPLES_MAX as usize)
                .map(series::encode);
            rest.series(id, chunks)?;
        }
        if rest.is_empty() {
            drop(rest);
            self.inner
                .fs
                .remove_file(&path)
                .map_err(|e| trine_storage::Error::io(format!("remove {}", path.display()), e))?;
            return Ok(None);
        }
        let written = rest.finish()?;
        Ok(Some(BlockMeta {
            id,
            range: written.range,
            rows: written.samples,
            bytes: written.bytes,
            level: PART_LEVEL,
            sequence: self.sequence,
            created_ms: self.now_ms,
            deletes_applied: newest(&self.tombstones),
        }))
    }
}

/// Blocks that are likely to be merged soon are not worth the last byte.
fn effort(level: u8) -> Effort {
    match level {
        ..=SOON_MERGED_LEVEL_MAX => Effort::Fast,
        _ => Effort::Small,
    }
}

/// The number of the newest delete.
fn newest(tombstones: &Tombstones) -> u64 {
    tombstones
        .iter()
        .map(|held| held.delete.number)
        .max()
        .unwrap_or(0)
}

/// Neighbours with equal labels together.
fn by_labels(series: &[(Labels, u32)]) -> impl Iterator<Item = (&Labels, &[(Labels, u32)])> {
    let groups = series.chunk_by(|a, b| a.0 == b.0);
    groups.filter_map(|group| Some((&group.first()?.0, group)))
}
