//! Reads memory, parts and blocks as one: series in label order, each decoded once, as columns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use trine_storage::block_set::{self, Block};
use trine_storage::cardinality::{Cardinality, Pair};
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::block::reader::{PageCache, TABLES};
use crate::block::{Sealed, is_block};
use crate::db::Inner;
use crate::exemplar::{self, Exemplar};
use crate::metadata::Metadata;
use crate::part::reader::PageCache as PartCache;
use crate::sample::Samples;
use crate::select::{Batches, Selection, SeriesSet};

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
        SeriesSet::new(self.selection(matchers, range)?, hints.limit)
    }

    /// The series that satisfy all `matchers` and have samples in `range` (milliseconds), each once,
    /// in no particular order: in batches that several threads may decode at the same time.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use trine_tsdb::storage::clock::{Clock, SystemClock};
    /// use trine_tsdb::{Durability, Labels, TimeRange, Tsdb, Value};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let db = Tsdb::open(dir.path())?;
    /// let labels = Labels::from_pairs([("__name__", "up")])?;
    /// let mut appender = db.appender();
    /// appender.append(&labels, SystemClock::new().now_ms(), Value::Float(1.0));
    /// appender.commit(Durability::Buffered)?.wait()?;
    /// let mut samples = 0;
    /// let mut batches = db.snapshot().select_batches(&[], TimeRange::ALL)?;
    /// while let Some(batch) = batches.next_batch(100)? {
    ///     batch.read(|series| {
    ///         samples += series.samples.timestamps.len();
    ///         ControlFlow::Continue(())
    ///     })?;
    /// }
    /// assert_eq!(samples, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn select_batches(&self, matchers: &[Matcher], range: TimeRange) -> Result<Batches> {
        Batches::new(self.selection(matchers, range)?)
    }

    /// Finds the series in memory and in each block.
    fn selection(&self, matchers: &[Matcher], range: TimeRange) -> Result<Selection> {
        // Memory and the version under one lock: what a seal moves is in one of them.
        let (version, tombstones, head) = self.inner.blocks.read(|version| {
            let mut inside = version.blocks.iter();
            let in_parts = inside.any(|block| {
                matches!(block.reader, Sealed::Part(_)) && block.meta.range.overlaps(&range)
            });
            let head = self.inner.head.select(matchers, range, in_parts);
            (Arc::clone(version), self.inner.tombstones(), head)
        });
        let mut selection = Selection {
            blocks: Vec::new(),
            parts: Vec::new(),
            tombstones,
            head,
            range,
        };
        let inside = version.blocks.iter();
        warm(inside.filter(|block| block.meta.range.overlaps(&range)));
        for block in &version.blocks {
            match &block.reader {
                _ if !block.meta.range.overlaps(&range) => {}
                Sealed::Metadata(_) => {}
                Sealed::Part(_) => selection.parts.push(Arc::clone(block)),
                Sealed::Block(file) => {
                    let places = file.select(matchers)?;
                    if !places.is_empty() {
                        selection.blocks.push((Arc::clone(block), places));
                    }
                }
            }
        }
        // Later values win.
        selection
            .blocks
            .sort_by_key(|(block, _)| block.meta.sequence);
        selection.parts.sort_by_key(|part| part.meta.sequence);
        selection.fetch();
        Ok(selection)
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
        let inside = version.blocks.iter();
        warm(inside.filter(|block| block.meta.range.overlaps(&range)));
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
                Sealed::Metadata(_) => {}
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
        let mut found = Vec::new();
        let (blocks, in_head) = self.places(range);
        for block in &blocks {
            if let Sealed::Block(file) = &block.reader {
                let mut sets = file.tables()?.index.label_sets();
                for place in &file.select(matchers)? {
                    found.push(sets.labels(place)?);
                }
            }
        }
        if in_head {
            found.extend(self.inner.head.select_labels(matchers));
        }
        // What comes from one block is in order already.
        found.sort();
        found.dedup();
        found.truncate(limit.unwrap_or(usize::MAX));
        Ok(found)
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
        let filtered = !matchers.is_empty();
        let (blocks, in_head) = self.places(range);
        let mut in_blocks = Vec::new();
        for block in &blocks {
            if let Sealed::Block(file) = &block.reader {
                let index = &file.tables()?.index;
                let filter = filtered.then(|| index.select(matchers)).transpose()?;
                in_blocks.extend(index.values(name, filter.as_ref(), limit)?);
            }
        }
        let mut found: Vec<String> = match in_head {
            false => Vec::new(),
            true => self.inner.head.in_index(|index| {
                let filter = filtered.then(|| index.select(matchers));
                let values = index.values(name, filter.as_ref(), limit);
                values.into_iter().map(str::to_owned).collect()
            }),
        };
        // What comes from one block is in order already.
        in_blocks.sort();
        in_blocks.dedup();
        found.extend(in_blocks.into_iter().map(str::to_owned));
        found.sort();
        found.dedup();
        found.truncate(limit.unwrap_or(usize::MAX));
        Ok(found)
    }

    /// Which labels make the series: of memory and of all blocks as one, `limit` entries a list.
    /// `metric_label` is the name of the label that names a metric. A label that several of them have
    /// counts with the largest number of series that one of them has, and so do the series.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub fn cardinality(&self, metric_label: &str, limit: usize) -> Result<Cardinality> {
        let version = self.inner.blocks.version();
        warm(&version.blocks);
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
        let (blocks, in_head) = self.inner.blocks.read(|version| {
            let overlaps = |block: &&Arc<Block<Sealed>>| block.meta.range.overlaps(&range);
            let blocks: Vec<_> = version.blocks.iter().filter(overlaps).cloned().collect();
            let in_parts = blocks.iter().any(|b| matches!(b.reader, Sealed::Part(_)));
            (blocks, in_parts || self.inner.head.overlaps(range))
        });
        warm(&blocks);
        (blocks, in_head)
    }
}

/// Begins to fetch the tables of blocks that are far away. What goes wrong is told by who reads them.
fn warm<'a>(blocks: impl IntoIterator<Item = &'a Arc<Block<Sealed>>>) {
    let blocks = blocks.into_iter().filter(|block| is_block(&block.meta));
    block_set::warm(blocks.map(|block| &**block), &TABLES).ok();
}
