//! What a read finds, in memory, in parts and in blocks, and how its series are put together: one
//! after the other in label order, or in batches for several threads. `Snapshot` and compaction
//! call it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::block_set::Block;
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::block::Sealed;
use crate::block::reader::{BlockFile, PageCache};
use crate::columns::Columns;
use crate::db::Tombstones;
use crate::exemplar::Exemplar;
use crate::head::Found;
use crate::part::reader::PageCache as PartCache;
use crate::snapshot::Series;
use crate::tombstone::Tombstone;

/// Label sets of a block that are read at a time: they are coded as differences.
const LABELS_AHEAD: usize = 64;
/// Of a block that is far away about as many bytes of runs are fetched at a time ...
const RUN_BYTES_MAX: u64 = 8 << 20;
/// ... of all blocks of a read as many to begin with ...
const ALL_BYTES_MAX: u64 = 64 << 20;
/// ... but of each as many at least.
const RUN_BYTES_LEAST: u64 = 256 << 10;

/// What a read found.
pub(crate) struct Selection {
    /// Blocks with the places of the series in them, by sequence, so that later values win.
    pub(crate) blocks: Vec<(Arc<Block<Sealed>>, RoaringBitmap)>,
    /// Parts, by sequence.
    pub(crate) parts: Vec<Arc<Block<Sealed>>>,
    pub(crate) tombstones: Arc<Tombstones>,
    pub(crate) head: Vec<Found>,
    pub(crate) range: TimeRange,
}

impl Selection {
    /// Begins to fetch the samples of the first series from blocks that are far away: all runs in one
    /// round, then all timestamps.
    pub(crate) fn fetch(&self) {
        let remote = || {
            let blocks = self.blocks.iter();
            let files = blocks.filter_map(|(block, places)| Some((file(block)?, places)));
            files.filter(|(file, _)| file.is_remote())
        };
        let count = u64::try_from(remote().count()).unwrap_or(u64::MAX);
        let bytes_max = (ALL_BYTES_MAX / count.max(1)).max(RUN_BYTES_LEAST);
        let fetched = remote().map(|(file, places)| file.fetch_runs(places.iter(), bytes_max));
        let fetched: Vec<usize> = fetched.collect();
        for ((file, places), count) in remote().zip(fetched) {
            file.fetch_times(places.iter().take(count));
        }
    }
}

/// Where the samples lie: what all batches of a read share.
#[derive(Debug)]
struct View {
    /// Blocks with the deletes that concern them.
    blocks: Vec<(Arc<Block<Sealed>>, Tombstones)>,
    parts: Vec<Arc<Block<Sealed>>>,
    tombstones: Arc<Tombstones>,
    range: TimeRange,
}

/// One series and where its samples lie.
#[derive(Debug)]
struct Handle {
    labels: Labels,
    /// Numbers of blocks and places in them, by sequence.
    places: Vec<(usize, u32)>,
    /// What has these labels in memory, the dead first.
    found: Vec<Found>,
}

/// What is kept from one series to the next.
#[derive(Debug)]
struct Reuse {
    blocks: Vec<PageCache>,
    parts: Vec<PartCache>,
    columns: Columns,
}

impl View {
    fn new(selection: &Selection) -> Self {
        let blocks = selection.blocks.iter().map(|(block, _)| {
            let concerned = concerned(&selection.tombstones, block);
            (Arc::clone(block), concerned)
        });
        Self {
            blocks: blocks.collect(),
            parts: selection.parts.clone(),
            tombstones: Arc::clone(&selection.tombstones),
            range: selection.range,
        }
    }

    fn reuse(&self) -> Reuse {
        Reuse {
            blocks: self.blocks.iter().map(|_| PageCache::default()).collect(),
            parts: self.parts.iter().map(|_| PartCache::default()).collect(),
            columns: Columns::default(),
        }
    }

    /// Reads a series; none if it has no samples in the range after all.
    fn read(&self, handle: Handle, reuse: &mut Reuse) -> Result<Option<Series>> {
        let columns = &mut reuse.columns;
        columns.clear();
        // A block has them in order of time.
        let settled = handle.places.len() < 2 && handle.found.is_empty();
        for (number, place) in handle.places {
            if let (Some((block, deletes)), Some(cache)) =
                (self.blocks.get(number), reuse.blocks.get_mut(number))
                && let Sealed::Block(file) = &block.reader
            {
                let start = columns.len();
                file.samples(place, self.range, cache, columns)?;
                for tombstone in deletes {
                    tombstone.apply(&block.meta, &handle.labels, columns, start);
                }
            }
        }
        for found in handle.found {
            self.add_found(&found, &mut reuse.parts, columns)?;
        }
        if !settled {
            columns.settle();
        }
        columns.keep(self.range);
        Ok((!columns.is_empty()).then(|| Series {
            labels: handle.labels,
            samples: std::mem::take(columns).into_samples(),
        }))
    }

    /// Adds what parts and memory hold of a series.
    fn add_found(
        &self,
        found: &Found,
        caches: &mut [PartCache],
        columns: &mut Columns,
    ) -> Result<()> {
        for (block, cache) in self.parts.iter().zip(caches) {
            let start = columns.len();
            if let Sealed::Part(part) = &block.reader {
                part.chunks(found.id, cache, |chunk| {
                    if chunk.last < self.range.start || chunk.first >= self.range.end {
                        return Ok(());
                    }
                    columns.decode(part.name(), &chunk)
                })?;
            }
            for tombstone in &*self.tombstones {
                tombstone.apply(&block.meta, &found.labels, columns, start);
            }
        }
        for chunk in &found.chunks {
            columns.decode("memory", chunk)?;
        }
        for sample in &found.late {
            columns.push(sample.clone());
        }
        Ok(())
    }
}

/// The deletes that concern a block.
fn concerned(tombstones: &Tombstones, block: &Block<Sealed>) -> Tombstones {
    let concern = |held: &&Arc<Tombstone>| held.delete.concerns(&block.meta);
    tombstones.iter().filter(concern).cloned().collect()
}

/// Series of one block that are still to be read, in label order.
pub(crate) struct BlockSeries {
    block: Arc<Block<Sealed>>,
    cache: PageCache,
    /// Places of the series after those of `ready`.
    places: roaring::bitmap::IntoIter,
    /// Of how many of them samples are fetched, where the block is far away.
    fetched: usize,
    ready: VecDeque<(Labels, u32)>,
    range: TimeRange,
    /// Deletes that concern this block.
    tombstones: Tombstones,
}

impl fmt::Debug for BlockSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockSeries")
            .field("block", &self.block.meta)
            .field("next", &self.ready.front())
            .finish_non_exhaustive()
    }
}

impl BlockSeries {
    /// The series of a block that satisfy `matchers`, with their samples in `range`, without what
    /// `tombstones` deletes.
    pub(crate) fn select(
        block: Arc<Block<Sealed>>,
        matchers: &[Matcher],
        range: TimeRange,
        tombstones: &Tombstones,
    ) -> Result<Self> {
        let places = match &block.reader {
            Sealed::Block(file) => file.select(matchers)?,
            Sealed::Part(_) | Sealed::Metadata(_) => RoaringBitmap::new(),
        };
        let tombstones = concerned(tombstones, &block);
        Self::of(block, places, range, tombstones)
    }

    fn of(
        block: Arc<Block<Sealed>>,
        places: RoaringBitmap,
        range: TimeRange,
        tombstones: Tombstones,
    ) -> Result<Self> {
        let mut series = Self {
            block,
            cache: PageCache::default(),
            places: places.into_iter(),
            fetched: 0,
            ready: VecDeque::new(),
            range,
            tombstones,
        };
        series.fill()?;
        Ok(series)
    }

    fn fill(&mut self) -> Result<()> {
        if let (true, Sealed::Block(file)) = (self.ready.is_empty(), &self.block.reader) {
            if file.is_remote() {
                if self.fetched == 0 {
                    self.fetched = file.fetch_runs(self.places.clone(), RUN_BYTES_MAX);
                    file.fetch_times(self.places.clone().take(self.fetched));
                }
                self.fetched = self.fetched.saturating_sub(LABELS_AHEAD);
            }
            let mut sets = file.tables()?.index.label_sets();
            for place in self.places.by_ref().take(LABELS_AHEAD) {
                self.ready.push_back((sets.labels(place)?, place));
            }
        }
        Ok(())
    }

    /// The labels of the next series.
    pub(crate) fn peek(&self) -> Option<&Labels> {
        self.ready.front().map(|(labels, _)| labels)
    }

    /// Goes on to the series after the next one, if that is the one with these labels; tells the
    /// place of the one left behind.
    fn pass(&mut self, labels: &Labels) -> Result<Option<u32>> {
        match self.ready.front() {
            Some((next, place)) if next == labels => {
                let place = *place;
                self.ready.pop_front();
                self.fill()?;
                Ok(Some(place))
            }
            _ => Ok(None),
        }
    }

    /// Adds the exemplars of the next series to `exemplars`, if it is the one with these labels;
    /// to be asked before [`BlockSeries::take`].
    pub(crate) fn exemplars(&mut self, labels: &Labels, out: &mut Vec<Exemplar>) -> Result<()> {
        let (Some((next, place)), Sealed::Block(file)) = (self.ready.front(), &self.block.reader)
        else {
            return Ok(());
        };
        if next == labels {
            let start = out.len();
            file.exemplars(*place, &mut self.cache, out)?;
            for tombstone in &self.tombstones {
                tombstone.apply_exemplars(&self.block.meta, labels, out, start);
            }
        }
        Ok(())
    }

    /// Adds the samples of the next series to `columns`, if it is the one with these labels.
    pub(crate) fn take(&mut self, labels: &Labels, columns: &mut Columns) -> Result<()> {
        let Some(place) = self.pass(labels)? else {
            return Ok(());
        };
        if let Sealed::Block(file) = &self.block.reader {
            let start = columns.len();
            file.samples(place, self.range, &mut self.cache, columns)?;
            for tombstone in &self.tombstones {
                tombstone.apply(&self.block.meta, labels, columns, start);
            }
        }
        Ok(())
    }
}

/// Puts together what several blocks and memory have of a series.
#[derive(Debug)]
struct Merge {
    /// By sequence.
    blocks: Vec<BlockSeries>,
    head: Head,
}

/// What was found in memory.
#[derive(Debug)]
enum Head {
    /// In label order, the dead of equal labels first.
    Sorted(std::iter::Peekable<std::vec::IntoIter<Found>>),
    /// As it was found.
    Loose(Loose),
}

/// What was found in memory, to be taken out by labels or one after the other.
#[derive(Debug)]
struct Loose {
    found: Vec<Option<Found>>,
    /// Hash of the labels and number, by hash, the dead first. Empty where all labels differ and
    /// nothing is taken out by them.
    by_hash: Vec<(u64, u32)>,
    next: usize,
}

impl Loose {
    fn new(found: Vec<Found>, alone: bool) -> Self {
        let mut by_hash = Vec::new();
        if !alone || found.iter().any(|found| found.dead) {
            let numbered = (0u32..).zip(&found);
            let mut keys: Vec<(u64, bool, u32)> = numbered
                .map(|(number, found)| (found.labels.hash64(), !found.dead, number))
                .collect();
            keys.sort_unstable();
            by_hash.extend(keys.into_iter().map(|(hash, _, number)| (hash, number)));
        }
        Self {
            found: found.into_iter().map(Some).collect(),
            by_hash,
            next: 0,
        }
    }

    /// Takes out all that has these labels.
    fn take(&mut self, labels: &Labels, out: &mut Vec<Found>) {
        if self.by_hash.is_empty() {
            return;
        }
        let hash = labels.hash64();
        let first = self.by_hash.partition_point(|entry| entry.0 < hash);
        let same = self.by_hash.get(first..).unwrap_or_default();
        for (_, number) in same.iter().take_while(|entry| entry.0 == hash) {
            if let Some(slot) = self.found.get_mut(*number as usize) {
                out.extend(slot.take_if(|found| found.labels == *labels));
            }
        }
    }

    /// Takes out what is next, with all that has the same labels.
    fn take_next(&mut self) -> Option<(Labels, Vec<Found>)> {
        loop {
            let slot = self.found.get_mut(self.next)?;
            let Some(labels) = slot.as_ref().map(|found| found.labels.clone()) else {
                self.next += 1;
                continue;
            };
            let mut same = Vec::new();
            match self.by_hash.is_empty() {
                true => same.extend(slot.take()),
                false => self.take(&labels, &mut same),
            }
            self.next += 1;
            return Some((labels, same));
        }
    }
}

impl Merge {
    fn new(selection: Selection, view: &View, sorted: bool) -> Result<Self> {
        let range = selection.range;
        let blocks = selection.blocks.into_iter().zip(&view.blocks);
        let blocks: Result<Vec<_>> = blocks
            .map(|((block, places), (_, deletes))| {
                BlockSeries::of(block, places, range, deletes.clone())
            })
            .collect();
        let (blocks, mut found) = (blocks?, selection.head);
        let head = if sorted {
            found.sort_by(|a, b| a.labels.cmp(&b.labels).then(b.dead.cmp(&a.dead)));
            Head::Sorted(found.into_iter().peekable())
        } else {
            Head::Loose(Loose::new(found, blocks.is_empty()))
        };
        Ok(Self { blocks, head })
    }

    fn next(&mut self) -> Result<Option<Handle>> {
        let in_blocks = self.blocks.iter().filter_map(BlockSeries::peek);
        let in_head = match &mut self.head {
            Head::Sorted(found) => found.peek().map(|found| &found.labels),
            Head::Loose(_) => None,
        };
        let Some(labels) = in_blocks.chain(in_head).min().cloned() else {
            let Head::Loose(loose) = &mut self.head else {
                return Ok(None);
            };
            return Ok(loose.take_next().map(|(labels, found)| Handle {
                labels,
                places: Vec::new(),
                found,
            }));
        };
        let (mut places, mut found) = (Vec::new(), Vec::new());
        for (number, block) in self.blocks.iter_mut().enumerate() {
            places.extend(block.pass(&labels)?.map(|place| (number, place)));
        }
        match &mut self.head {
            Head::Sorted(all) => {
                while let Some(same) = all.next_if(|found| found.labels == labels) {
                    found.push(same);
                }
            }
            Head::Loose(loose) => loose.take(&labels, &mut found),
        }
        Ok(Some(Handle {
            labels,
            places,
            found,
        }))
    }
}

/// Iterator over the series of an answer, in label order.
#[derive(Debug)]
pub struct SeriesSet {
    view: View,
    merge: Merge,
    reuse: Reuse,
    left: usize,
}

impl SeriesSet {
    pub(crate) fn new(selection: Selection, limit: Option<usize>) -> Result<Self> {
        let view = View::new(&selection);
        Ok(Self {
            merge: Merge::new(selection, &view, true)?,
            reuse: view.reuse(),
            view,
            left: limit.unwrap_or(usize::MAX),
        })
    }

    fn next_series(&mut self) -> Result<Option<Series>> {
        while self.left > 0 {
            let Some(handle) = self.merge.next()? else {
                return Ok(None);
            };
            if let Some(series) = self.view.read(handle, &mut self.reuse)? {
                self.left -= 1;
                return Ok(Some(series));
            }
        }
        Ok(None)
    }
}

impl Iterator for SeriesSet {
    type Item = Result<Series>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_series().transpose();
        if matches!(next, Some(Err(_))) {
            self.left = 0;
        }
        next
    }
}

/// The series of an answer in batches, in no particular order.
pub struct Batches {
    view: Arc<View>,
    rest: Rest,
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

enum Rest {
    /// All in one block: where they are is all that is known of them yet.
    OneBlock(roaring::bitmap::IntoIter),
    Merged(Merge),
}

/// Some series of an answer; may be read by another thread.
#[derive(Debug)]
pub struct Batch {
    view: Arc<View>,
    series: Content,
}

#[derive(Debug)]
enum Content {
    InOneBlock(Vec<u32>),
    Merged(Vec<Handle>),
}

impl Batches {
    pub(crate) fn new(mut selection: Selection) -> Result<Self> {
        let view = View::new(&selection);
        let rest = match &mut selection.blocks[..] {
            [(_, places)] if selection.head.is_empty() => {
                Rest::OneBlock(std::mem::take(places).into_iter())
            }
            _ => Rest::Merged(Merge::new(selection, &view, false)?),
        };
        let view = Arc::new(view);
        Ok(Self { view, rest })
    }

    /// The next series, `series_max` at most; `None` when there are no more.
    ///
    /// # Errors
    /// As [`Snapshot::select`](crate::Snapshot::select).
    pub fn next_batch(&mut self, series_max: usize) -> Result<Option<Batch>> {
        let series_max = series_max.max(1);
        let (series, none) = match &mut self.rest {
            Rest::OneBlock(places) => {
                let places: Vec<u32> = places.take(series_max).collect();
                let none = places.is_empty();
                (Content::InOneBlock(places), none)
            }
            Rest::Merged(merge) => {
                let mut handles = Vec::new();
                while handles.len() < series_max
                    && let Some(handle) = merge.next()?
                {
                    handles.push(handle);
                }
                let none = handles.is_empty();
                (Content::Merged(handles), none)
            }
        };
        let view = Arc::clone(&self.view);
        Ok((!none).then_some(Batch { view, series }))
    }
}

impl Batch {
    /// Decodes the series one after the other and lends them to `each`, until it breaks off. What
    /// `each` leaves of the columns is used for the next series.
    ///
    /// # Errors
    /// As [`Snapshot::select`](crate::Snapshot::select).
    pub fn read(self, mut each: impl FnMut(&mut Series) -> ControlFlow<()>) -> Result<()> {
        let Self { view, series } = self;
        let mut reuse = view.reuse();
        let mut read = |handle: Handle| -> Result<ControlFlow<()>> {
            let Some(mut series) = view.read(handle, &mut reuse)? else {
                return Ok(ControlFlow::Continue(()));
            };
            let flow = each(&mut series);
            reuse.columns = Columns::emptied(series.samples);
            Ok(flow)
        };
        match series {
            Content::Merged(handles) => {
                for handle in handles {
                    if read(handle)?.is_break() {
                        break;
                    }
                }
            }
            Content::InOneBlock(places) => {
                let Some(file) = view.blocks.first().and_then(|(block, _)| file(block)) else {
                    return Ok(());
                };
                let fetched = file.fetch_runs(places.iter().copied(), RUN_BYTES_MAX);
                file.fetch_times(places.iter().copied().take(fetched));
                let mut sets = file.tables()?.index.label_sets();
                for place in places {
                    let handle = Handle {
                        labels: sets.labels(place)?,
                        places: vec![(0, place)],
                        found: Vec::new(),
                    };
                    if read(handle)?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn file(block: &Block<Sealed>) -> Option<&BlockFile> {
    match &block.reader {
        Sealed::Block(file) => Some(file),
        Sealed::Part(_) | Sealed::Metadata(_) => None,
    }
}
