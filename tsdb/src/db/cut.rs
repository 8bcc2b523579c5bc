//! From parts to blocks. Parts define the ids that memory and log use, so they stay on this disk; blocks
//! need nothing beside them.
//!
//! As a rule samples wait in parts until the window that they lie in is closed. Where they must not wait
//! that long ([`Config::cut_age`](crate::Config::cut_age)) all of them are made into blocks, and what is
//! left of the parts is what they define.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::block_set::{Block, Edit, Unfinished, Version};
use trine_storage::catalog::BlockMeta;
use trine_storage::sealed::SealedWriter;
use trine_storage::{Error, Labels, Result, TimeRange};

use super::compact::{effort, newest};
use super::{Inner, Tombstones};
use crate::block::writer::BlockWriter;
use crate::block::{METADATA_LEVEL, PART_LEVEL, Sealed, format};
use crate::columns::Columns;
use crate::compact::{self, Windows};
use crate::exemplar::{self, Exemplar};
use crate::head::Idle;
use crate::head::series::{self, Chunk};
use crate::part::reader::{PageCache, PartFile};
use crate::part::writer::{PartWriter, Written};
use crate::retention;

/// A series is idle when its newest sample is this much older than the newest of all: two rounds of
/// a slow scrape.
const IDLE_MS: i64 = 2 * 60_000;
/// Idle series that are kept in memory whatever there is beside them.
const IDLE_SERIES_MIN: u64 = 10_000;
/// Parts are cut to let go of idle series when more than one in this many series is idle.
const IDLE_PARTS: u64 = 12;

impl Inner {
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

    /// After this long samples are made into blocks, those of open windows, too.
    fn cut_age(&self) -> Option<Duration> {
        // A third is left to write and to ship.
        let depot = self.blocks.depot();
        let shipped = depot.map(|_| self.config.ship_age_max / 3 * 2);
        self.config.cut_age.into_iter().chain(shipped).min()
    }

    /// When the first sample came that is in no block.
    pub(super) fn uncut_since_ms(&self) -> Option<i64> {
        let of = |since: &std::sync::atomic::AtomicI64| since.load(Ordering::Relaxed);
        let since_ms = of(&self.since_ms).min(of(&self.uncut_ms));
        (since_ms < i64::MAX).then_some(since_ms)
    }

    /// Whether the oldest sample that is in no block is too old for that.
    fn samples_are_old(&self) -> bool {
        let Some((age, since_ms)) = self.cut_age().zip(self.uncut_since_ms()) else {
            return false;
        };
        let waited_ms = self.clock.now_ms().saturating_sub(since_ms);
        u128::try_from(waited_ms).is_ok_and(|waited| waited >= age.as_millis())
    }

    /// Cuts the parts, or merges some, when that is due.
    pub(super) fn cut_if_due(&self) -> Result<()> {
        let _cutting = self.cutting.lock();
        let version = self.blocks.version();
        let metas = || version.blocks.iter().map(|block| &block.meta);
        let parts = metas().filter(|meta| meta.level == PART_LEVEL);
        let sealed: u64 = parts.map(|meta| meta.rows).sum();
        let due = compact::cut_is_due(metas(), &self.windows(1))
            || self.samples_are_old()
            || self.idle_series_are_many(sealed)
            || self.parts_are_deleted(&version);
        // Few parts are cut faster than many, so they are merged first; but only once, so that a cut
        // comes even if parts never end.
        self.merge_parts()?;
        if due { self.cut_held() } else { Ok(()) }
    }

    /// Cuts when samples would be too old otherwise, and does nothing else.
    pub(super) fn cut_if_old(&self) -> Result<()> {
        if self.samples_are_old() {
            self.cut()
        } else {
            Ok(())
        }
    }

    /// Makes blocks of the samples of all parts that lie in closed windows or belong to series that
    /// nothing is appended to any more, or of all where they must not wait. What remains becomes one
    /// part.
    pub(super) fn cut(&self) -> Result<()> {
        let _cutting = self.cutting.lock();
        self.cut_held()
    }

    fn cut_held(&self) -> Result<()> {
        self.check_open()?;
        let all = self.cut_age().is_some();
        self.head.retire(&self.idle());
        // Whatever the retired have is in parts after this.
        self.flush()?;
        let (version, since_ms) = {
            let sealing = self.sealing.lock();
            let since_ms = match *sealing {
                None if all => self.uncut_ms.swap(i64::MAX, Ordering::Relaxed),
                _ => i64::MAX,
            };
            (self.blocks.version(), since_ms)
        };
        let told = self.blocks.depot().is_some() && self.told.swap(false, Ordering::Relaxed);
        let written = self.cut_parts(&version, all, told);
        if written.is_err() {
            self.uncut_ms.fetch_min(since_ms, Ordering::Relaxed);
            self.told.fetch_or(told, Ordering::Relaxed);
        }
        self.blocks.make_room_if_full(written)
    }

    fn cut_parts(&self, version: &Version<Sealed>, all: bool, told: bool) -> Result<()> {
        let parts: Vec<(&PartFile, &BlockMeta)> = parts_of(&version.blocks);
        let Some(sequence) = parts.iter().map(|(_, meta)| meta.sequence).max() else {
            return Ok(());
        };
        let mut cut = Cut::new(self, &parts, sequence, self.windows(1), all);
        let dead = cut.dead()?;
        cut.widen(&dead, self.config.block_range, self.config.retention)?;
        let mut edit = Edit {
            remove: parts.iter().map(|(_, meta)| meta.id).collect(),
            ..Edit::default()
        };
        // They are removed when the edit is not committed.
        let mut files = Vec::new();
        edit.add = cut.write_blocks(&dead, &mut files)?;
        if told {
            edit.add.extend(cut.write_metadata(&mut files)?);
        }
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
        if self.blocks.depot().is_some() {
            self.shippers.wake();
        }
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
        let mut merge = Cut::new(self, &parts, sequence, windows, false);
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
}

/// The parts of a version, by sequence.
fn parts_of(blocks: &[Arc<Block<Sealed>>]) -> Vec<(&PartFile, &BlockMeta)> {
    let mut parts: Vec<(&PartFile, &BlockMeta)> = blocks
        .iter()
        .filter_map(|block| match &block.reader {
            Sealed::Part(part) => Some((part, &block.meta)),
            Sealed::Block(_) | Sealed::Metadata(_) => None,
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
    /// Samples of open windows do not wait.
    all: bool,
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
        all: bool,
    ) -> Self {
        let now_ms = inner.clock.now_ms();
        let part = |(part, meta): &(&'a PartFile, &'a BlockMeta)| (*part, *meta, <_>::default());
        Self {
            inner,
            parts: parts.iter().map(part).collect(),
            windows,
            all,
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
    fn widen(&mut self, dead: &[u32], range: Duration, kept: Option<Duration>) -> Result<()> {
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

    /// Whether a sample goes to a block.
    fn is_closed(&self, timestamp: i64) -> bool {
        self.all || self.windows.closed_at(timestamp).is_some()
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

    /// A file with what metrics are, if anything is known of them.
    fn write_metadata(&self, files: &mut Vec<Unfinished>) -> Result<Option<BlockMeta>> {
        let inner = self.inner;
        let file = inner.blocks.begin(&*inner.clock);
        let mut writer = SealedWriter::create(&*inner.fs, file.path(), format::KIND)?;
        {
            let metadata = inner.metadata.lock();
            if metadata.is_empty() {
                return Ok(None);
            }
            metadata.write(&mut writer)?;
        }
        let meta = BlockMeta {
            id: file.id(),
            range: TimeRange::new(0, 0),
            rows: 0,
            bytes: writer.finish()?,
            level: METADATA_LEVEL,
            sequence: self.sequence,
            created_ms: self.now_ms,
            deletes_applied: 0,
        };
        files.push(file);
        Ok(Some(meta))
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

/// Neighbours with equal labels together.
fn by_labels(series: &[(Labels, u32)]) -> impl Iterator<Item = (&Labels, &[(Labels, u32)])> {
    let groups = series.chunk_by(|a, b| a.0 == b.0);
    groups.filter_map(|group| Some((&group.first()?.0, group)))
}
