//! Reads memory, parts and blocks as one: series in label order, each decoded once, as columns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use trine_storage::block_set::Block;
use trine_storage::cardinality::{Cardinality, Pair};
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::block::Sealed;
use crate::block::reader::PageCache;
use crate::columns::Columns;
use crate::db::{Inner, Tombstones};
use crate::exemplar::{self, Exemplar};
use crate::head::Found;
use crate::metadata::Metadata;
use crate::part::reader::PageCache as PartCache;
use crate::sample::Samples;
use crate::tombstone::Tombstone;

/// A view of the store. Each read sees everything that was committed before it began; an answer does
/// not change while it is read, whatever is appended, sealed or merged meanwhile.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) inner: Arc<Inner>,
}

/// What a reader knows beforehand.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The most series that are wanted.
    pub limit: Option<usize>,
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its samples in the range that was asked for; never empty.
    pub samples: Samples,
}

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// Its labels.
    pub labels: Labels,
    /// Its exemplars in the range that was asked for, in order of time; never empty.
    pub exemplars: Vec<Exemplar>,
}

impl Snapshot {
    /// The series that satisfy all `matchers` and have samples in `range` (milliseconds), in label
    /// order, decoded as they are asked for. Where the same timestamp was appended more than once
    /// the later value wins.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and [`Kind::Io`](trine_storage::Kind::Io),
    /// here or from the iterator, when a block cannot be read.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &Hints,
    ) -> Result<SeriesSet> {
        // Memory and the version under one lock: what a seal moves is in one of them.
        let (version, tombstones, head) = self.inner.blocks.read(|version| {
            let head = self.inner.head.select(matchers, range);
            (Arc::clone(version), self.inner.tombstones(), head)
        });
        let mut blocks = Vec::new();
        let mut parts = Vec::new();
        for block in &version.blocks {
            match &block.reader {
                _ if !block.meta.range.overlaps(&range) => {}
                Sealed::Part(_) => parts.push((Arc::clone(block), PartCache::default())),
                Sealed::Block(_) => blocks.push(BlockSeries::select(
                    Arc::clone(block),
                    matchers,
                    range,
                    &tombstones,
                )?),
            }
        }
        blocks.sort_by_key(|source| source.block.meta.sequence);
        parts.sort_by_key(|(part, _)| part.meta.sequence);
        Ok(SeriesSet {
            blocks,
            parts,
            tombstones,
            head: head.into_iter().peekable(),
            range,
            left: hints.limit.unwrap_or(usize::MAX),
        })
    }

    /// The exemplars in `range` (milliseconds) of the series that satisfy all `matchers`, in label
    /// order.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn exemplars(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &Hints,
    ) -> Result<Vec<SeriesExemplars>> {
        let (version, tombstones, head) = self.inner.blocks.read(|version| {
            let head = self.inner.head.select_exemplars(matchers);
            (Arc::clone(version), self.inner.tombstones(), head)
        });
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let mut by_id = HashMap::new();
        for series in head {
            if !series.exemplars.is_empty() {
                let of = found.entry(series.labels.clone()).or_default();
                of.extend(series.exemplars);
            }
            by_id.insert(series.id, series.labels);
        }
        for block in &version.blocks {
            if !block.meta.range.overlaps(&range) {
                continue;
            }
            let mut add = |labels: &Labels, mut exemplars: Vec<Exemplar>| {
                for tombstone in &*tombstones {
                    tombstone.apply_exemplars(&block.meta, labels, &mut exemplars, 0);
                }
                found.entry(labels.clone()).or_default().extend(exemplars);
            };
            match &block.reader {
                Sealed::Part(part) => {
                    let mut cache = PartCache::default();
                    let mut ids = part.exemplar_ids()?;
                    ids.dedup();
                    for id in ids {
                        if let Some(labels) = by_id.get(&id) {
                            let mut exemplars = Vec::new();
                            part.exemplars(id, &mut cache, &mut exemplars)?;
                            add(labels, exemplars);
                        }
                    }
                }
                Sealed::Block(file) => {
                    let mut places = file.exemplar_places()?;
                    places.dedup();
                    if places.is_empty() {
                        continue;
                    }
                    let selected = file.select(matchers)?;
                    let mut cache = PageCache::default();
                    for place in places.into_iter().filter(|place| selected.contains(*place)) {
                        let mut exemplars = Vec::new();
                        file.exemplars(place, &mut cache, &mut exemplars)?;
                        add(&file.tables()?.index.labels(place)?, exemplars);
                    }
                }
            }
        }
        let series = found.into_iter().filter_map(|(labels, mut exemplars)| {
            exemplars.retain(|exemplar| range.contains(exemplar.timestamp));
            exemplar::settle(&mut exemplars);
            (!exemplars.is_empty()).then_some(SeriesExemplars { labels, exemplars })
        });
        Ok(series.take(hints.limit.unwrap_or(usize::MAX)).collect())
    }

    /// What metrics are: of `metric`, or of all by name, the newest metadata of each first.
    pub fn metadata(
        &self,
        metric: Option<&str>,
        limit: Option<usize>,
        limit_per_metric: Option<usize>,
    ) -> Vec<(String, Vec<Metadata>)> {
        let (limit, per_metric) = (
            limit.unwrap_or(usize::MAX),
            limit_per_metric.unwrap_or(usize::MAX),
        );
        self.inner.metadata.lock().of(metric, limit, per_metric)
    }

    /// The labels of the series that satisfy all `matchers` and may have samples in `range`, in
    /// label order. Time is told by blocks, not by samples.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<Labels>> {
        let mut found = BTreeSet::new();
        let (blocks, in_head) = self.places(range);
        for block in &blocks {
            if let Sealed::Block(file) = &block.reader {
                let mut sets = file.tables()?.index.label_sets();
                for place in &file.select(matchers)? {
                    found.insert(sets.labels(place)?);
                }
            }
        }
        if in_head {
            found.extend(self.inner.head.select_labels(matchers));
        }
        Ok(found
            .into_iter()
            .take(limit.unwrap_or(usize::MAX))
            .collect())
    }

    /// The names of the labels that series have which satisfy all `matchers` and may have samples in
    /// `range`, sorted.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        let mut keep = |names: Vec<&str>| found.extend(names.into_iter().map(str::to_owned));
        let filtered = !matchers.is_empty();
        let (blocks, in_head) = self.places(range);
        for block in &blocks {
            if let Sealed::Block(file) = &block.reader {
                let index = &file.tables()?.index;
                let filter = filtered.then(|| index.select(matchers)).transpose()?;
                keep(index.names(filter.as_ref())?);
            }
        }
        if in_head {
            self.inner.head.in_index(|index| {
                let filter = filtered.then(|| index.select(matchers));
                keep(index.names(filter.as_ref()));
            });
        }
        Ok(found
            .into_iter()
            .take(limit.unwrap_or(usize::MAX))
            .collect())
    }

    /// The values of the label `name` that series have which satisfy all `matchers` and may have
    /// samples in `range`, sorted.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        let mut keep = |values: Vec<&str>| found.extend(values.into_iter().map(str::to_owned));
        let filtered = !matchers.is_empty();
        let (blocks, in_head) = self.places(range);
        for block in &blocks {
            if let Sealed::Block(file) = &block.reader {
                let index = &file.tables()?.index;
                let filter = filtered.then(|| index.select(matchers)).transpose()?;
                keep(index.values(name, filter.as_ref(), limit)?);
            }
        }
        if in_head {
            self.inner.head.in_index(|index| {
                let filter = filtered.then(|| index.select(matchers));
                keep(index.values(name, filter.as_ref(), limit));
            });
        }
        Ok(found
            .into_iter()
            .take(limit.unwrap_or(usize::MAX))
            .collect())
    }

    /// Which labels make the series: of memory and of all blocks as one, `limit` entries a list.
    /// `metric_label` is the name of the label that names a metric. A label that several of them have
    /// counts with the largest number of series that one of them has, and so do the series.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn cardinality(&self, metric_label: &str, limit: usize) -> Result<Cardinality> {
        let version = self.inner.blocks.version();
        let mut indexes = Vec::new();
        for block in &version.blocks {
            if let Sealed::Block(file) = &block.reader {
                indexes.push(&file.tables()?.index);
            }
        }
        self.inner.head.in_index(|head| {
            let sizes = indexes.iter().map(|index| index.len()).chain([head.len()]);
            let series = sizes.max().unwrap_or(0) as u64;
            let mut sources: Vec<Box<dyn Iterator<Item = Result<Pair<'_>>>>> = Vec::new();
            sources.push(Box::new(head.pairs().map(Ok)));
            for index in &indexes {
                sources.push(Box::new(index.pairs()));
            }
            Cardinality::count(series, sources, metric_label, limit)
        })
    }

    /// The labels that make the series of memory, as [`Snapshot::cardinality`].
    pub fn head_cardinality(&self, metric_label: &str, limit: usize) -> Cardinality {
        let head = &self.inner.head;
        head.in_index(|index| index.cardinality(metric_label, limit))
    }

    /// The files with samples in `range`, and whether the series of the head may have some there.
    fn places(&self, range: TimeRange) -> (Vec<Arc<Block<Sealed>>>, bool) {
        self.inner.blocks.read(|version| {
            let overlaps = |block: &&Arc<Block<Sealed>>| block.meta.range.overlaps(&range);
            let blocks: Vec<_> = version.blocks.iter().filter(overlaps).cloned().collect();
            let in_parts = blocks.iter().any(|b| matches!(b.reader, Sealed::Part(_)));
            (blocks, in_parts || self.inner.head.overlaps(range))
        })
    }
}

/// Iterator over the series of an answer, in label order.
#[derive(Debug)]
pub struct SeriesSet {
    /// By sequence, so that later values win.
    blocks: Vec<BlockSeries>,
    parts: Vec<(Arc<Block<Sealed>>, PartCache)>,
    tombstones: Arc<Tombstones>,
    head: std::iter::Peekable<std::vec::IntoIter<Found>>,
    range: TimeRange,
    left: usize,
}

/// Series of one block that are still to be read, in label order.
pub(crate) struct BlockSeries {
    block: Arc<Block<Sealed>>,
    cache: PageCache,
    /// Places of the series after the next one.
    places: roaring::bitmap::IntoIter,
    next: Option<(Labels, u32)>,
    range: TimeRange,
    /// Deletes that concern this block.
    tombstones: Tombstones,
}

impl fmt::Debug for BlockSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockSeries")
            .field("block", &self.block.meta)
            .field("next", &self.next)
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
        let concern = |held: &&Arc<Tombstone>| held.delete.concerns(&block.meta);
        let tombstones = tombstones.iter().filter(concern).cloned().collect();
        let places = match &block.reader {
            Sealed::Block(file) => file.select(matchers)?,
            Sealed::Part(_) => roaring::RoaringBitmap::new(),
        };
        let mut series = Self {
            block,
            cache: PageCache::default(),
            places: places.into_iter(),
            next: None,
            range,
            tombstones,
        };
        series.advance()?;
        Ok(series)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = match (self.places.next(), &self.block.reader) {
            (Some(place), Sealed::Block(file)) => {
                Some((file.tables()?.index.labels(place)?, place))
            }
            _ => None,
        };
        Ok(())
    }

    /// The labels of the next series.
    pub(crate) fn peek(&self) -> Option<&Labels> {
        self.next.as_ref().map(|(labels, _)| labels)
    }

    /// Adds the exemplars of the next series to `exemplars`, if it is the one with these labels;
    /// to be asked before [`BlockSeries::take`].
    pub(crate) fn exemplars(&mut self, labels: &Labels, out: &mut Vec<Exemplar>) -> Result<()> {
        let (Some((next, place)), Sealed::Block(file)) = (&self.next, &self.block.reader) else {
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
        let Some((next, place)) = &self.next else {
            return Ok(());
        };
        if next != labels {
            return Ok(());
        }
        if let Sealed::Block(file) = &self.block.reader {
            let start = columns.len();
            file.samples(*place, self.range, &mut self.cache, columns)?;
            for tombstone in &self.tombstones {
                tombstone.apply(&self.block.meta, labels, columns, start);
            }
        }
        self.advance()
    }
}

impl SeriesSet {
    fn next_series(&mut self) -> Result<Option<Series>> {
        while self.left > 0 {
            let in_blocks = self.blocks.iter().filter_map(BlockSeries::peek);
            let in_head = self.head.peek().map(|found| &found.labels);
            let Some(labels) = in_blocks.chain(in_head).min().cloned() else {
                return Ok(None);
            };
            let mut columns = Columns::default();
            for source in &mut self.blocks {
                source.take(&labels, &mut columns)?;
            }
            while let Some(found) = self.head.next_if(|found| found.labels == labels) {
                let tombstones = &self.tombstones;
                add_head(
                    &mut self.parts,
                    tombstones,
                    &found,
                    self.range,
                    &mut columns,
                )?;
            }
            columns.settle();
            columns.keep(self.range);
            if !columns.is_empty() {
                self.left -= 1;
                let samples = columns.into_samples();
                return Ok(Some(Series { labels, samples }));
            }
        }
        Ok(None)
    }
}

/// Adds what parts and memory hold of a series.
fn add_head(
    parts: &mut [(Arc<Block<Sealed>>, PartCache)],
    tombstones: &Tombstones,
    found: &Found,
    range: TimeRange,
    columns: &mut Columns,
) -> Result<()> {
    for (block, cache) in parts {
        let start = columns.len();
        if let Sealed::Part(part) = &block.reader {
            part.chunks(found.id, cache, |chunk| {
                match chunk.last >= range.start && chunk.first < range.end {
                    true => columns.decode(part.name(), &chunk),
                    false => Ok(()),
                }
            })?;
        }
        for tombstone in tombstones {
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
