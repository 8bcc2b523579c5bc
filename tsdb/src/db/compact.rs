//! From parts to blocks and from blocks to larger ones; what the retention is done with goes.
//!
//! Inputs are immutable and stay served until the catalog names the outputs instead, so nothing here
//! is in the way of appends or reads, and a crash leaves files that the next open sweeps.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::block_set::{Block, Edit, Unfinished};
use trine_storage::catalog::BlockMeta;
use trine_storage::{Error, Labels, Result, TimeRange};

use super::{Inner, Tombstones};
use crate::block::run::Effort;
use crate::block::writer::BlockWriter;
use crate::block::{PART_LEVEL, Sealed};
use crate::columns::Columns;
use crate::compact::{self, Windows};
use crate::exemplar::{self, Exemplar};
use crate::head::Idle;
use crate::head::series::{self, Chunk};
use crate::part::reader::{PageCache, PartFile};
use crate::part::writer::{PartWriter, Written};
use crate::retention;
use crate::select::BlockSeries;

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
        // Few parts are cut faster than many, so they are merged first; but only once, so that a cut
        // comes even if parts never end.
        self.merge_parts()?;
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
        let mut cut = Cut::new(self, &parts, sequence, self.windows(1));
        let dead = cut.dead()?;
        cut.widen(&dead, self.config.block_range, self.config.retention)?;
        let mut edit = Edit {
            remove: parts.iter().map(|(_, meta)| meta.id).collect(),
            ..Edit::default()
        };
        // They are removed when the edit is not committed.
        let mut files = Vec::new();
        edit.add = cut.write_blocks(&dead, &mut files)?;
        edit.add.extend(cut.write_rest(&dead, &mut files)?);
        if let ([(_, old)], [new]) = (&parts[..], &edit.add[..])
            && new.level == PART_LEVEL
            && new.rows == old.rows
            && dead.is_empty()
            && !cut.tombstones.iter().any(|t| t.delete.concerns(old))
        {
            // One part that would become the same again.
            return Ok(());
        }
        self.blocks.commit(&edit, || self.head.bury(&dead))?;
        self.account.set(self.memory_bytes());
        Ok(())
    }

    /// Makes one part of several, if that is due; nothing leaves memory or becomes a block.
    fn merge_parts(&self) -> Result<()> {
        let version = self.blocks.version();
        let chosen = compact::next_part_merge(version.blocks.iter().map(|block| &block.meta));
        let mut parts = parts_of(&version.blocks);
        parts.retain(|(_, meta)| chosen.contains(&meta.id));
        let Some(sequence) = parts.iter().map(|(_, meta)| meta.sequence).max() else {
            return Ok(());
        };
        // To windows of the distant past nothing is closed.
        let (range, kept) = (self.config.block_range, self.config.retention);
        let windows = Windows::new(range, kept, 1, i64::MIN);
        let mut merge = Cut::new(self, &parts, sequence, windows);
        let file = self.blocks.begin(&*self.clock);
        let mut merged = PartWriter::create(&*self.fs, file.path())?;
        let mut metadata = None;
        for (part, _) in &parts {
            part.definitions(|_| {}, |id, labels| merged.define(id, &labels))?;
            metadata = part.metadata()?.or(metadata);
        }
        merge.write_series(&mut merged, &[])?;
        if let Some(metadata) = metadata {
            merged.metadata(&metadata)?;
        }
        let oldest = parts.iter().map(|(_, meta)| meta.created_ms).min();
        let edit = Edit {
            add: vec![BlockMeta {
                created_ms: oldest.unwrap_or(merge.now_ms),
                ..merge.meta(&file, &merged.finish()?)
            }],
            remove: chosen,
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {})
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
    /// Samples of ids that nothing defines were kept as they are.
    unknown: bool,
}

/// A block that is being written, and its name.
struct Output {
    file: Unfinished,
    level: u8,
    window: TimeRange,
    writer: BlockWriter,
}

/// What the parts hold of one id.
struct Loaded {
    /// None when the part that defined the id is damaged.
    labels: Option<Labels>,
    /// By part, oldest first.
    chunks: Vec<Vec<Chunk<Bytes>>>,
    /// In order of time, deleted and expired ones left out.
    exemplars: Vec<Exemplar>,
}

impl<'a> Cut<'a> {
    fn new(
        inner: &'a Inner,
        parts: &[(&'a PartFile, &'a BlockMeta)],
        sequence: u64,
        windows: Windows,
    ) -> Self {
        let now_ms = inner.clock.now_ms();
        let part = |(part, meta): &(&'a PartFile, &'a BlockMeta)| (*part, *meta, <_>::default());
        Self {
            inner,
            parts: parts.iter().map(part).collect(),
            windows,
            oldest_ms: retention::oldest_ms(inner.config.retention, now_ms),
            sequence,
            now_ms,
            tombstones: inner.tombstones(),
            unknown: false,
        }
    }

    /// What the catalog says of a part that was written.
    fn meta(&self, file: &Unfinished, written: &Written) -> BlockMeta {
        let before = || self.parts.iter().map(|(_, meta, _)| meta.deletes_applied);
        BlockMeta {
            id: file.id(),
            range: written.range,
            rows: written.samples,
            bytes: written.bytes,
            level: PART_LEVEL,
            sequence: self.sequence,
            created_ms: self.now_ms,
            // Whether a delete concerns series that are not known is not known either.
            deletes_applied: match self.unknown {
                true => before().min().unwrap_or(0),
                false => newest(&self.tombstones),
            },
        }
    }

    /// All ids that have chunks or exemplars.
    fn ids(&self) -> Result<RoaringBitmap> {
        let mut ids = RoaringBitmap::new();
        for (part, _, _) in &self.parts {
            let of_part = RoaringBitmap::from_sorted_iter(part.ids()?);
            ids |= of_part.map_err(|_| Error::corrupt(part.name(), 0, "ids are out of order"))?;
            ids.extend(part.exemplar_ids()?);
        }
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

    /// The ids that may have something for blocks.
    fn for_blocks(&self, dead: &[u32]) -> Result<RoaringBitmap> {
        let ids = self.ids()?;
        let mut parts = self.parts.iter();
        Ok(
            match parts.any(|(_, meta, _)| self.is_closed(meta.range.start)) {
                true => ids,
                false => dead
                    .iter()
                    .copied()
                    .filter(|id| ids.contains(*id))
                    .collect(),
            },
        )
    }

    /// Makes the windows wider until there are not too many.
    fn widen(
        &mut self,
        dead: &[u32],
        range: std::time::Duration,
        kept: Option<std::time::Duration>,
    ) -> Result<()> {
        let most = self.inner.config.block_ranges_max.max(1);
        let mut scale = 1i64;
        loop {
            let windows = Windows::new(range, kept, scale, self.now_ms);
            let mut starts = std::collections::BTreeSet::new();
            'ids: for id in self.for_blocks(dead)? {
                let loaded = self.load(id)?;
                let mut times: Vec<i64> = loaded.exemplars.iter().map(|e| e.timestamp).collect();
                for chunk in loaded.chunks.iter().flatten() {
                    let (_, window) = windows.at(chunk.first);
                    times.push(chunk.first);
                    if !window.contains(chunk.last) {
                        let mut columns = Columns::default();
                        columns.decode("a part", chunk)?;
                        times.extend(&columns.timestamps);
                    }
                }
                for timestamp in times {
                    starts.insert(windows.at(timestamp).1.start);
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

    /// What the parts hold of an id.
    fn load(&mut self, id: u32) -> Result<Loaded> {
        self.inner.check_open()?;
        let mut loaded = Loaded {
            labels: self.inner.head.labels(id),
            chunks: Vec::with_capacity(self.parts.len()),
            exemplars: Vec::new(),
        };
        for (part, meta, cache) in &mut self.parts {
            let mut chunks = Vec::new();
            part.chunks(id, cache, |chunk| {
                chunks.push(chunk);
                Ok(())
            })?;
            loaded.chunks.push(chunks);
            let exemplars = &mut loaded.exemplars;
            let start = exemplars.len();
            part.exemplars(id, cache, exemplars)?;
            if let Some(labels) = &loaded.labels {
                for tombstone in &*self.tombstones {
                    tombstone.apply_exemplars(meta, labels, exemplars, start);
                }
            }
        }
        let oldest_ms = self.oldest_ms;
        loaded.exemplars.retain(|e| e.timestamp >= oldest_ms);
        exemplar::settle(&mut loaded.exemplars);
        Ok(loaded)
    }

    /// The samples of the chunks that are `wanted`, in order of time, deleted and expired ones left
    /// out.
    fn samples(&self, loaded: &Loaded, wanted: impl Fn(&Chunk<Bytes>) -> bool) -> Result<Columns> {
        let mut columns = Columns::default();
        for ((part, meta, _), chunks) in self.parts.iter().zip(&loaded.chunks) {
            let start = columns.len();
            for chunk in chunks.iter().filter(|chunk| wanted(chunk)) {
                columns.decode(part.name(), chunk)?;
            }
            if let Some(labels) = &loaded.labels {
                for tombstone in &*self.tombstones {
                    tombstone.apply(meta, labels, &mut columns, start);
                }
            }
        }
        columns.settle();
        columns.keep(TimeRange::new(self.oldest_ms, i64::MAX));
        Ok(columns)
    }

    fn is_closed(&self, timestamp: i64) -> bool {
        self.windows.closed_at(timestamp).is_some()
    }

    fn write_blocks(
        &mut self,
        dead: &[u32],
        files: &mut Vec<Unfinished>,
    ) -> Result<Vec<BlockMeta>> {
        let head = &self.inner.head;
        let known = |id: u32| Some((head.labels(id)?, id));
        let ids = self.for_blocks(dead)?;
        let mut series: Vec<(Labels, u32)> = ids.into_iter().filter_map(known).collect();
        series.sort_unstable();
        let mut outputs: BTreeMap<(i64, u8), Output> = BTreeMap::new();
        for (labels, ids) in by_labels(&series) {
            let mut closed = Columns::default();
            let mut exemplars = Vec::new();
            let mut any_dead = false;
            for (_, id) in ids {
                let is_dead = dead.binary_search(id).is_ok();
                any_dead |= is_dead;
                let mut loaded = self.load(*id)?;
                let mut columns =
                    self.samples(&loaded, |chunk| is_dead || self.is_closed(chunk.first))?;
                columns.filter(|timestamp| is_dead || self.is_closed(timestamp));
                match closed.is_empty() {
                    true => closed = columns,
                    false => columns.iter().for_each(|sample| closed.push(sample)),
                }
                let mut closed_ones = std::mem::take(&mut loaded.exemplars);
                closed_ones.retain(|e| is_dead || self.is_closed(e.timestamp));
                exemplars.append(&mut closed_ones);
            }
            if any_dead {
                closed.settle();
                exemplar::settle(&mut exemplars);
            }
            self.distribute(labels, &closed, exemplars, &mut outputs)?;
        }
        let mut finish = |output: Output| {
            let written = output.writer.finish()?;
            let id = output.file.id();
            files.push(output.file);
            Ok(BlockMeta {
                id,
                range: output.window,
                rows: written.samples,
                bytes: written.bytes,
                level: output.level,
                sequence: self.sequence,
                created_ms: self.now_ms,
                deletes_applied: newest(&self.tombstones),
            })
        };
        outputs.into_values().map(&mut finish).collect()
    }

    /// Gives the samples and exemplars of a series to the blocks of their windows.
    fn distribute(
        &self,
        labels: &Labels,
        columns: &Columns,
        exemplars: Vec<Exemplar>,
        outputs: &mut BTreeMap<(i64, u8), Output>,
    ) -> Result<()> {
        let mut by_window: BTreeMap<(i64, u8), Vec<Exemplar>> = BTreeMap::new();
        for exemplar in exemplars {
            let (level, window) = self.windows.at(exemplar.timestamp);
            let of = by_window.entry((window.start, level)).or_default();
            of.push(exemplar);
        }
        let mut at = 0;
        while let Some(&timestamp) = columns.timestamps.get(at) {
            let (level, window) = self.windows.at(timestamp);
            let rest = &columns.timestamps[at..];
            let end = at + rest.partition_point(|&t| t < window.end).max(1);
            let exemplars = by_window.remove(&(window.start, level)).unwrap_or_default();
            let output = self.output(level, window, outputs)?;
            output
                .writer
                .series(labels, &columns.rows(at..end), &exemplars)?;
            at = end;
        }
        for exemplars in by_window.into_values() {
            let Some(first) = exemplars.first() else {
                continue;
            };
            let (level, window) = self.windows.at(first.timestamp);
            let output = self.output(level, window, outputs)?;
            output
                .writer
                .series(labels, &Columns::default(), &exemplars)?;
        }
        Ok(())
    }

    fn output<'o>(
        &self,
        level: u8,
        window: TimeRange,
        outputs: &'o mut BTreeMap<(i64, u8), Output>,
    ) -> Result<&'o mut Output> {
        Ok(match outputs.entry((window.start, level)) {
            Entry::Occupied(output) => output.into_mut(),
            Entry::Vacant(place) => {
                let file = self.inner.blocks.begin(&*self.inner.clock);
                let writer = BlockWriter::create(&*self.inner.fs, file.path(), effort(level))?;
                place.insert(Output {
                    file,
                    level,
                    window,
                    writer,
                })
            }
        })
    }

    /// The part that defines the series that live on and holds their samples in open windows.
    fn write_rest(
        &mut self,
        dead: &[u32],
        files: &mut Vec<Unfinished>,
    ) -> Result<Option<BlockMeta>> {
        let file = self.inner.blocks.begin(&*self.inner.clock);
        let mut rest = PartWriter::create(&*self.inner.fs, file.path())?;
        self.inner
            .head
            .walk(|id, series| match series.defined && !series.dead {
                true => rest.define(id, &series.labels),
                false => Ok(()),
            })?;
        self.write_series(&mut rest, dead)?;
        {
            let mut metadata = self.inner.metadata.lock();
            if self.inner.config.retention.is_some() {
                metadata.expire(self.oldest_ms);
            }
            if !metadata.is_empty() {
                rest.metadata(&metadata)?;
            }
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let meta = self.meta(&file, &rest.finish()?);
        files.push(file);
        Ok(Some(meta))
    }

    /// Writes what stays in a part of the series that are not `dead`.
    fn write_series(&mut self, part: &mut PartWriter, dead: &[u32]) -> Result<()> {
        for id in self.ids()? {
            if dead.binary_search(&id).is_ok() {
                continue;
            }
            let mut loaded = self.load(id)?;
            if let Some(labels) = &loaded.labels {
                let chunks = self.rest_chunks(&loaded, labels)?;
                part.series(id, chunks.into_iter())?;
                loaded.exemplars.retain(|e| !self.is_closed(e.timestamp));
            } else {
                // As it is: the part that says what the id means may be restored.
                self.unknown = true;
                part.series(id, loaded.chunks.into_iter().flatten())?;
            }
            part.exemplars(id, &loaded.exemplars)?;
        }
        Ok(())
    }

    /// What stays in a part of a series that lives on. Full chunks stay as they are where nothing
    /// else is of their time.
    fn rest_chunks(&self, loaded: &Loaded, labels: &Labels) -> Result<Vec<Chunk<Bytes>>> {
        let all = || loaded.chunks.iter().flatten();
        let in_order = all().is_sorted_by(|a, b| a.last < b.first);
        let deleted = self.tombstones.iter().any(|tombstone| {
            let mut parts = self.parts.iter();
            parts.any(|(_, meta, _)| tombstone.concerns(meta, labels))
        });
        let stays = |chunk: &Chunk<Bytes>| {
            chunk.count >= series::CHUNK_SAMPLES_MAX
                && in_order
                && !deleted
                && !self.is_closed(chunk.first)
                && chunk.first >= self.oldest_ms
        };
        let open = |chunk: &Chunk<Bytes>| !self.is_closed(chunk.last) && !stays(chunk);
        let mut others = self.samples(loaded, open)?;
        others.filter(|timestamp| !self.is_closed(timestamp));
        let mut chunks = Vec::new();
        let mut from = 0;
        for kept in all().filter(|chunk| stays(chunk)) {
            let end = others.timestamps.partition_point(|&t| t < kept.first);
            encode_onto(&mut chunks, &others, from..end);
            chunks.push(kept.clone());
            from = end;
        }
        encode_onto(&mut chunks, &others, from..others.len());
        Ok(chunks)
    }
}

/// Adds chunks of some rows.
fn encode_onto(chunks: &mut Vec<Chunk<Bytes>>, columns: &Columns, rows: Range<usize>) {
    let samples = rows.filter_map(|at| columns.get(at));
    let encoded = series::encode(samples);
    chunks.extend(
        encoded
            .iter()
            .map(|chunk| chunk.with(Bytes::copy_from_slice)),
    );
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
