//! Reads memory and blocks as one: series in label order, each decoded once, as columns.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;
use trine_storage::block_set::{Block, Version};
use trine_storage::label_index::LabelIndex;
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::block::reader::{BlockFile, PageCache, Tables};
use crate::head::Head;
use crate::sample::{Samples, Values};

/// A view of the store: the blocks of one version of the catalog, and the memory that belongs to
/// them. Samples that are appended to that memory later may show.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) version: Arc<Version<BlockFile>>,
    /// Memory, older first.
    pub(crate) heads: Vec<Arc<RwLock<Head>>>,
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
        let mut sources = Vec::new();
        for block in self.blocks(range) {
            let tables = block.reader.tables()?;
            let found = tables.select(matchers);
            sources.push(Source::new(
                Place::Block(block, tables, PageCache::default()),
                found,
            ));
        }
        for head in &self.heads {
            let found = head.read().select(matchers, range);
            sources.push(Source::new(Place::Head(Arc::clone(head)), found));
        }
        Ok(SeriesSet {
            sources,
            range,
            left: hints.limit.unwrap_or(usize::MAX),
        })
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
        for block in self.blocks(range) {
            found.extend(
                block
                    .reader
                    .tables()?
                    .select(matchers)
                    .into_iter()
                    .map(|(l, _)| l),
            );
        }
        for head in &self.heads {
            found.extend(
                head.read()
                    .select(matchers, range)
                    .into_iter()
                    .map(|(l, _)| l),
            );
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
        self.in_indexes(range, limit, |index| {
            let filter = (!matchers.is_empty()).then(|| index.select(matchers));
            index.names(filter.as_ref())
        })
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
        self.in_indexes(range, limit, |index| {
            let filter = (!matchers.is_empty()).then(|| index.select(matchers));
            index.values(name, filter.as_ref(), limit)
        })
    }

    /// The union of what `ask` finds in the indexes of blocks and memory.
    fn in_indexes(
        &self,
        range: TimeRange,
        limit: Option<usize>,
        ask: impl for<'a> Fn(&'a LabelIndex) -> Vec<&'a str>,
    ) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for block in self.blocks(range) {
            found.extend(
                ask(&block.reader.tables()?.index)
                    .into_iter()
                    .map(str::to_owned),
            );
        }
        for head in &self.heads {
            let head = head.read();
            if head.range().is_some_and(|held| held.overlaps(&range)) {
                found.extend(ask(head.index()).into_iter().map(str::to_owned));
            }
        }
        Ok(found
            .into_iter()
            .take(limit.unwrap_or(usize::MAX))
            .collect())
    }

    fn blocks(&self, range: TimeRange) -> impl Iterator<Item = Arc<Block<BlockFile>>> {
        self.version
            .blocks
            .iter()
            .filter(move |b| b.meta.range.overlaps(&range))
            .cloned()
    }
}

/// Iterator over the series of an answer, in label order.
#[derive(Debug)]
pub struct SeriesSet {
    /// Older first, so that later values win.
    sources: Vec<Source>,
    range: TimeRange,
    left: usize,
}

/// One block or one head, and what of it is still to be read.
#[derive(Debug)]
struct Source {
    place: Place,
    found: std::iter::Peekable<std::vec::IntoIter<(Labels, u32)>>,
}

#[derive(Debug)]
enum Place {
    Block(Arc<Block<BlockFile>>, Arc<Tables>, PageCache),
    Head(Arc<RwLock<Head>>),
}

impl Source {
    fn new(place: Place, found: Vec<(Labels, u32)>) -> Self {
        Self {
            place,
            found: found.into_iter().peekable(),
        }
    }

    fn samples(&mut self, id: u32, range: TimeRange) -> Result<(Vec<i64>, Vec<f64>)> {
        match &mut self.place {
            Place::Block(block, tables, cache) => {
                let (mut timestamps, mut values) = block.reader.samples(tables, id, cache)?;
                let first = timestamps.partition_point(|&t| t < range.start);
                let last = timestamps.partition_point(|&t| t < range.end).max(first);
                timestamps.truncate(last);
                values.truncate(last);
                timestamps.drain(..first);
                values.drain(..first);
                Ok((timestamps, values))
            }
            Place::Head(head) => {
                let head = head.read();
                let (timestamps, values) = head
                    .series(id)
                    .map_or((&[][..], &[][..]), |series| series.in_range(range));
                Ok((timestamps.to_vec(), values.to_vec()))
            }
        }
    }
}

impl Iterator for SeriesSet {
    type Item = Result<Series>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            let smallest = self
                .sources
                .iter_mut()
                .filter_map(|s| s.found.peek().map(|(l, _)| l))
                .min();
            let labels = smallest?.clone();
            let mut timestamps = Vec::new();
            let mut values = Vec::new();
            for source in &mut self.sources {
                let Some((_, id)) = source.found.next_if(|(found, _)| *found == labels) else {
                    continue;
                };
                match source.samples(id, self.range) {
                    Ok((t, v)) => merge(&mut timestamps, &mut values, t, v),
                    Err(error) => {
                        self.left = 0;
                        return Some(Err(error));
                    }
                }
            }
            if !timestamps.is_empty() {
                self.left -= 1;
                let values = Values::Floats(values);
                let samples = Samples {
                    timestamps,
                    start_timestamps: None,
                    values,
                };
                return Some(Ok(Series { labels, samples }));
            }
        }
        None
    }
}

/// Adds newer samples to older ones; at the same timestamp the newer value wins.
fn merge(
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
    newer_timestamps: Vec<i64>,
    newer_values: Vec<f64>,
) {
    let Some(first) = newer_timestamps.first() else {
        return;
    };
    if timestamps.is_empty() {
        (*timestamps, *values) = (newer_timestamps, newer_values);
        return;
    }
    if timestamps.last().is_some_and(|last| last < first) {
        timestamps.extend(newer_timestamps);
        values.extend(newer_values);
        return;
    }
    let older = std::mem::take(timestamps)
        .into_iter()
        .zip(std::mem::take(values));
    let mut older = older.peekable();
    for (timestamp, value) in newer_timestamps.into_iter().zip(newer_values) {
        while let Some((t, v)) = older.next_if(|(t, _)| *t < timestamp) {
            timestamps.push(t);
            values.push(v);
        }
        older.next_if(|(t, _)| *t == timestamp);
        timestamps.push(timestamp);
        values.push(value);
    }
    for (t, v) in older {
        timestamps.push(t);
        values.push(v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_values_win_and_order_is_kept() {
        for (older, newer, expected) in [
            (vec![], vec![1], vec![(1, 'n')]),
            (vec![1], vec![], vec![(1, 'o')]),
            (vec![1, 2], vec![3], vec![(1, 'o'), (2, 'o'), (3, 'n')]),
            (
                vec![1, 3, 5],
                vec![2, 3],
                vec![(1, 'o'), (2, 'n'), (3, 'n'), (5, 'o')],
            ),
            (vec![5], vec![1, 9], vec![(1, 'n'), (5, 'o'), (9, 'n')]),
        ] {
            let column = |t: &Vec<i64>, kind: char| vec![f64::from(kind as u32); t.len()];
            let (mut timestamps, mut values) = (older.clone(), column(&older, 'o'));
            let newer_values = column(&newer, 'n');
            merge(&mut timestamps, &mut values, newer.clone(), newer_values);
            let expected: (Vec<i64>, Vec<f64>) = expected
                .into_iter()
                .map(|(t, k)| (t, f64::from(k as u32)))
                .unzip();
            assert_eq!((timestamps, values), expected, "{older:?} + {newer:?}");
        }
    }
}
