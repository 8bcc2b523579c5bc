//! A view of the store: the blocks of one version of the catalog and the memory that belongs to
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trine_storage::block_set::Version;
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::block::format::LEVEL;
use crate::block::reader::BlockFile;
use crate::buffer::View;
use crate::figures::{Fields, Found, Selection, Totals, Volume};
use crate::filter::{self, Filters};
use crate::request::{Batches, Counts, Direction, Measure, Request, Rows};
use crate::scan::{
    self, Amount, Buckets, CountScan, EitherSpec, Headers, OrderedScan, PartScan, Place, Scan,
    Spec, Together, Units, Wanted,
};
use crate::tombstone::Hidden;

/// A view of the store at one moment; it never changes.
#[derive(Debug, Clone)]
pub struct Snapshot {
    version: Arc<Version<BlockFile>>,
    /// Memory, older first.
    views: Vec<View>,
    /// What of them is not to be seen.
    hidden: Hidden,
}

impl Snapshot {
    pub(crate) fn new(version: Arc<Version<BlockFile>>, views: Vec<View>, hidden: Hidden) -> Self {
        Self {
            version,
            views,
            hidden,
        }
    }

    /// What `request` asks for, found as the iterator is driven. No step of the iterator works long:
    /// it gives an empty batch rather, so that a reader may stop whenever it likes.
    ///
    /// # Errors
    /// [`Kind::Invalid`](trine_storage::Kind::Invalid) for buckets that are too many or have no
    /// width, [`Kind::Limit`](trine_storage::Kind::Limit) for alternatives of a line filter that are
    /// too large together. From the iterator: [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and
    /// [`Kind::Io`](trine_storage::Kind::Io) when a part of a block cannot be read; it goes on with
    /// what can be read.
    pub fn scan(&self, request: &Request) -> Result<Batches> {
        match request {
            Request::Rows(rows) if rows.direction != Direction::Any => {
                Ok(Box::new(OrderedScan::new(self.begin(request)?, rows)))
            }
            Request::Rows(Rows { threads, .. }) | Request::Counts(Counts { threads, .. }) => {
                Ok(Box::new(Together::new(self.scan_parts(request, *threads)?)))
            }
        }
    }

    /// What `request` asks for in `parts` parts (at least one), each to be driven by a thread of the
    /// caller's: together they give every entry or number once, in no order, and whichever is
    /// driven takes the next piece of work, so that parts that are never driven hold nothing back.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub fn scan_parts(&self, request: &Request, parts: usize) -> Result<Vec<Batches>> {
        let units = Arc::new(Units::new(self.begin(request)?));
        let part = |_| -> Batches {
            let units = Arc::clone(&units);
            match request {
                Request::Rows(rows) => Box::new(PartScan::new(units, rows.projection)),
                Request::Counts(counts) => Box::new(CountScan::new(units, counts)),
            }
        };
        Ok((0..parts.max(1)).map(part).collect())
    }

    fn begin(&self, request: &Request) -> Result<Scan> {
        let (matchers, lines, metadata) = match request {
            Request::Rows(rows) => (&rows.matchers, &rows.lines, &rows.metadata),
            Request::Counts(counts) => (&counts.matchers, &counts.lines, &counts.metadata),
        };
        let (range, index) = match request {
            Request::Rows(rows) => (rows.range, rows.index),
            Request::Counts(counts) => (scan::counted_range(counts)?, counts.index),
        };
        let either = match request {
            Request::Rows(Rows { either, .. }) => either.as_ref(),
            Request::Counts(_) => None,
        };
        let spec = Spec {
            matchers: matchers.clone(),
            range,
            filters: Filters::new(lines)?,
            metadata: metadata.clone(),
            either: either.map(EitherSpec::new).transpose()?,
            needles: index.then(|| filter::needles(lines)),
        };
        let wanted = match request {
            Request::Rows(rows) => Wanted::of(rows),
            // Mostly headers say it, unless there are conditions.
            Request::Counts(counts) => {
                let metadata = counts.by.iter().any(|name| name != LEVEL);
                Wanted {
                    is_all: true,
                    is_any: metadata || spec.is_narrow(),
                    lines: false,
                    metadata,
                    headers: (!metadata).then(|| Headers {
                        buckets: Some(Buckets::of(counts)),
                        lengths: counts.measure == Measure::Bytes,
                        levels: !counts.by.is_empty(),
                    }),
                }
            }
        };
        let hidden = self.hidden.clone();
        Ok(Scan::new(self.places(range), hidden, spec, wanted))
    }

    /// The streams that satisfy all `matchers` and may have entries in `range` (nanoseconds), in
    /// label order. Time is told by a stream's first and last entry in a chunk, and a stream of which
    /// only some entries are deleted is told until they are gone from the files.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and [`Kind::Io`](trine_storage::Kind::Io)
    /// when a block cannot be read.
    pub fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>> {
        let mut found = Vec::new();
        for place in scan::in_groups(&self.places(range)) {
            streams_of(place, matchers, range, &self.hidden, &mut found)?;
            // What is sorted already, as blocks are, is only merged.
            found.sort();
            found.dedup();
        }
        Ok(found)
    }

    /// The names of the labels of these streams, sorted.
    ///
    /// # Errors
    /// As [`Snapshot::streams`].
    pub fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>> {
        let streams = self.streams(matchers, range)?;
        let names: BTreeSet<&str> = streams.iter().flatten().map(|(name, _)| name).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// The values of the label `name` of these streams, sorted.
    ///
    /// # Errors
    /// As [`Snapshot::streams`].
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>> {
        let streams = self.streams(matchers, range)?;
        let values: BTreeSet<&str> = streams
            .iter()
            .filter_map(|labels| labels.get(name))
            .collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    /// How much there is in `range` of each of the streams that satisfy all `matchers`, in label order.
    /// Most of it is told by the headers of chunks.
    ///
    /// # Errors
    /// As [`Snapshot::streams`].
    pub fn volume(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Volume>> {
        let volume = |(labels, Amount { entries, bytes })| Volume {
            labels,
            entries,
            bytes,
        };
        let units = self.units(matchers, range)?;
        let streams = CountScan::of_all_times(units).by_stream()?;
        Ok(streams.into_iter().map(volume).collect())
    }

    /// As [`Snapshot::volume`], of all these streams together.
    ///
    /// # Errors
    /// As [`Snapshot::streams`].
    pub fn totals(&self, matchers: &[Matcher], range: TimeRange) -> Result<Totals> {
        let units = self.units(matchers, range)?;
        let streams = CountScan::of_all_times(Arc::clone(&units)).by_stream()?;
        Ok(Totals {
            streams: streams.len() as u64,
            chunks: units.chunks() as u64,
            entries: streams.iter().map(|(_, amount)| amount.entries).sum(),
            bytes: streams.iter().map(|(_, amount)| amount.bytes).sum(),
        })
    }

    /// Everything of these streams in `range`.
    fn units(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<Units>> {
        let spec = Spec {
            matchers: matchers.to_vec(),
            range,
            filters: Filters::new(&[])?,
            metadata: Vec::new(),
            either: None,
            needles: None,
        };
        let hidden = self.hidden.clone();
        let wanted = Wanted {
            is_all: true,
            headers: Some(Headers {
                buckets: None,
                lengths: true,
                levels: false,
            }),
            ..Wanted::default()
        };
        let scan = Scan::new(self.places(range), hidden, spec, wanted);
        Ok(Arc::new(Units::new(scan)))
    }

    /// The names of structured metadata of these streams' entries, `max` at most.
    ///
    /// # Errors
    /// As [`Snapshot::streams`].
    pub fn field_names(&self, matchers: &[Matcher], range: TimeRange, max: usize) -> Result<Found> {
        self.fields(Fields::new(None, max), matchers, range)
    }

    /// The values of `name` in the structured metadata of these streams' entries, `max` at most.
    ///
    /// # Errors
    /// As [`Snapshot::streams`].
    pub fn field_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        max: usize,
    ) -> Result<Found> {
        self.fields(Fields::new(Some(name), max), matchers, range)
    }

    fn fields(
        &self,
        mut fields: Fields<'_>,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Found> {
        for place in scan::in_groups(&self.places(range)) {
            if fields.is_full() {
                break;
            }
            fields.add(place, &self.selection(matchers, range))?;
        }
        Ok(fields.finish())
    }

    fn selection<'a>(&'a self, matchers: &'a [Matcher], range: TimeRange) -> Selection<'a> {
        Selection {
            matchers,
            range,
            hidden: &self.hidden,
        }
    }

    /// What holds entries in `range`, in the order of appending.
    fn places(&self, range: TimeRange) -> Vec<Place> {
        let mut blocks: Vec<_> = self.version.blocks.clone();
        blocks.sort_by_key(|block| block.meta.sequence);
        let blocks = blocks.into_iter().map(Place::Block);
        let memory = self.views.iter().map(|view| Place::Memory(view.clone()));
        let held = |place: &Place| place.range().is_some_and(|held| held.overlaps(&range));
        blocks.chain(memory).filter(held).collect()
    }
}

/// Adds the streams of one place.
fn streams_of(
    place: &Place,
    matchers: &[Matcher],
    range: TimeRange,
    hidden: &Hidden,
    found: &mut Vec<Labels>,
) -> Result<()> {
    let veil = place.veil(hidden, range);
    let is_seen = |(labels, held): &(Labels, TimeRange)| {
        veil.is_empty() || !veil.of_stream(labels).covers(*held)
    };
    match place {
        Place::Memory(view) => {
            let held = view.held_in(range, &view.select(matchers)).into_iter();
            found.extend(held.filter(is_seen).map(|(labels, _)| labels));
        }
        Place::Block(block) => {
            let tables = block.reader.tables()?;
            let selected = tables.select(matchers)?;
            let runs = tables.chunks.iter().flat_map(|chunk| &chunk.runs);
            let mut held: BTreeMap<u32, TimeRange> = BTreeMap::new();
            let of_range =
                runs.filter(|run| run.range().overlaps(&range) && selected.contains(run.stream));
            for run in of_range {
                let held = held.entry(run.stream).or_insert(run.range());
                *held = held.union(&run.range());
            }
            let codes = held.keys().copied().collect();
            let labels = tables
                .labels_of(&codes)?
                .into_iter()
                .map(|(_, labels)| labels);
            let held = labels.zip(held.into_values());
            found.extend(held.filter(is_seen).map(|(labels, _)| labels));
        }
    }
    Ok(())
}
