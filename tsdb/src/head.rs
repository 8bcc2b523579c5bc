//! Memory: the table of series and their samples that are in no part yet.
//!
//! Series live in shards by the hash of their labels, each behind a lock of its own; one label index
//! over all of them is only written when a series begins or goes. An id is the number of the shard
//! and a place in it, and means the same series in memory, in the log and in parts.
//!
//! The caller makes sure that an epoch does not flip while a batch is applied.

mod epoch;
pub(crate) mod series;
mod shard;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use trine_storage::label_index::LabelIndex;
use trine_storage::{Error, Kind, Labels, Matcher, Result, TimeRange};

use crate::appender::SeriesRef;
use crate::batch::{Batch, Key};
use crate::columns::Sample;
use crate::exemplar::Exemplar;
use crate::histogram::Histogram;
use crate::sample::{Accepted, Reason};
use crate::wal_record::{Exemplars, Samples, Series};
use epoch::{EpochStats, Tally};
use series::{Chunk, Insert, MemSeries, ValueRef};
use shard::{Shard, same_labels};

/// Shards of the head. Part of the format: the log and parts hold ids.
const SHARDS: usize = 16;
/// Low bits of an id: the place in the shard.
const PLACE_BITS: u32 = 28;
const PLACE_MAX: u32 = (1 << PLACE_BITS) - 1;
/// What a series costs beside its labels, samples and entries in the index: the struct, its place in
/// the table. For the memory budget.
const SERIES_BYTES: usize = size_of::<Option<MemSeries>>() + 8;
/// Series in one record of the log: label sets have a limit, so that the record stays below its own.
const DEFINED_AT_ONCE: usize = 32;
/// Rows of the log that are looked at together.
const TOUCH_STEP: usize = 512;
/// Series that a seal looks at while it holds the lock of a shard.
const WALK_STEP: usize = 512;

/// The table of series with what is not in a part yet.
///
/// Who needs the locks of a shard and of the index takes that of the shard first.
#[derive(Debug)]
pub(crate) struct Head {
    shards: [Mutex<Shard>; SHARDS],
    index: RwLock<LabelIndex>,
    /// Bytes on the heap that samples and exemplars take.
    bytes: AtomicU64,
    /// Bytes that the series themselves take, beside the index.
    series_bytes: AtomicU64,
    series: AtomicU64,
    /// How many more places may stay empty while series are restored.
    skippable: AtomicUsize,
    /// The newest timestamp of all.
    newest_ms: AtomicI64,
    /// Samples and their time range by epoch, even and odd.
    epochs: [EpochStats; 2],
}

/// Which series are idle: nothing was appended to them for a whole epoch, and their newest sample is
/// well behind, or all of that time was quiet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) epoch: u32,
    /// Timestamps of series that are not idle are not older.
    pub(crate) oldest_ms: i64,
    /// The last epoch that began because its forerunner had nothing for long.
    pub(crate) quiet_epoch: u32,
}

impl Idle {
    fn is(&self, series: &MemSeries) -> bool {
        let untouched = self.epoch.saturating_sub(series.epoch) >= 2;
        let behind = series.newest() < self.oldest_ms;
        let quiet = self.quiet_epoch.saturating_sub(series.epoch) >= 2;
        untouched && (behind || quiet)
    }
}

/// What a read found of one series in memory.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) labels: Labels,
    pub(crate) id: u32,
    /// Another series with the same labels may have begun after this one.
    pub(crate) dead: bool,
    pub(crate) chunks: Vec<Chunk<Vec<u8>>>,
    /// Samples that are in no chunk; they may repeat none of the chunks' timestamps.
    pub(crate) late: Vec<Sample>,
}

/// What a read of exemplars found of one series in memory.
#[derive(Debug)]
pub(crate) struct FoundExemplars {
    pub(crate) labels: Labels,
    pub(crate) id: u32,
    pub(crate) exemplars: Vec<Exemplar>,
}

/// What became of a series that the log or a part defines.
#[derive(Debug)]
pub(crate) enum Restored {
    /// It was there.
    Known,
    /// It was not; its id may have been another one's.
    Begun { replaced: Option<Labels> },
}

/// What was stored of a batch, for the log.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) floats: Samples<f64>,
    pub(crate) histograms: Samples<Arc<Histogram>>,
    pub(crate) exemplars: Exemplars,
}

impl Stored {
    fn for_batch(batch: &Batch) -> Self {
        Self {
            floats: Samples::with_capacity(batch.floats.len()),
            histograms: Samples::default(),
            exemplars: Exemplars::default(),
        }
    }

    /// The records that hold it.
    pub(crate) fn encode(&self) -> impl Iterator<Item = Vec<u8>> {
        let floats = self.floats.encode();
        floats
            .chain(self.histograms.encode())
            .chain(self.exemplars.encode())
    }
}

/// A series that rows of a batch go to.
struct Target<'a> {
    id: u32,
    epoch: u32,
    series: &'a mut MemSeries,
    accepted: &'a mut Accepted,
    tally: &'a mut Tally,
    grown: &'a mut isize,
}

impl Target<'_> {
    fn samples<'b, T: Clone + 'b>(
        &mut self,
        rows: impl Iterator<Item = (i64, i64, &'b T)>,
        stored: &mut Samples<T>,
    ) where
        ValueRef<'b>: From<&'b T>,
    {
        for (timestamp, start, value) in rows {
            let (insert, more) = self
                .series
                .insert(self.epoch, timestamp, start, value.into());
            *self.grown += more;
            if insert == Insert::Other {
                self.accepted.reject(Reason::DuplicateTimestamp, || {
                    format!("series={} timestamp={timestamp}", self.series.labels)
                });
                continue;
            }
            // What was there already is logged again: who sent it first may not have logged it
            // yet.
            stored.push(self.id, timestamp, start, value.clone());
            self.accepted.stored += 1;
            if insert == Insert::New {
                self.tally.count(timestamp);
            }
        }
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let (new, more) = self.series.insert_exemplar(self.epoch, exemplar);
        *self.grown += more;
        self.accepted.exemplars += 1;
        if new {
            self.tally.count_exemplar(exemplar.timestamp);
        }
    }
}

impl Head {
    /// An empty head of a process that may hold `memory_bytes_max` bytes.
    pub(crate) fn new(memory_bytes_max: u64) -> Self {
        let places = usize::try_from(memory_bytes_max).unwrap_or(usize::MAX) / SERIES_BYTES;
        Self {
            skippable: AtomicUsize::new(places.max(PLACES_SKIPPED_MIN)),
            shards: Default::default(),
            index: RwLock::default(),
            bytes: AtomicU64::new(0),
            series_bytes: AtomicU64::new(0),
            series: AtomicU64::new(0),
            newest_ms: AtomicI64::new(i64::MIN),
            epochs: Default::default(),
        }
    }

    /// Stores a batch in the buffers of `epoch`. `define` is given the series that begin, before
    /// anybody else can see them. Gives what was stored.
    ///
    /// # Errors
    /// [`Kind::Limit`] when a shard is full, and what `define` gives; samples of other shards may be
    /// in memory then.
    pub(crate) fn apply(
        &self,
        batch: &Batch,
        epoch: u32,
        accepted: &mut Accepted,
        define: &mut dyn FnMut(&Series<'_>) -> Result<()>,
    ) -> Result<Stored> {
        let mut by_shard: [Vec<u32>; SHARDS] = Default::default();
        for (number, key) in (0u32..).zip(batch.keys()) {
            by_shard[shard_of_key(key)].push(number);
        }
        let mut stored = Stored::for_batch(batch);
        for (number, chosen) in (0u32..).zip(&by_shard) {
            if chosen.is_empty() {
                continue;
            }
            let mut shard = self.shards[number as usize].lock();
            let places = self.places(&mut shard, number, batch, chosen, define)?;
            let mut grown = 0;
            shard.touch(places.iter().copied().flatten(), epoch);
            let mut tally = Tally::default();
            for (&at, place) in chosen.iter().zip(places) {
                let of = batch.of(at as usize);
                let Some(place) = place else {
                    match of.key {
                        Key::Labels { .. } => {
                            accepted.reject_many(Reason::InvalidLabels, of.len() as u64, || {
                                "a series with labels that are not UTF-8".to_owned()
                            });
                        }
                        Key::Reference { id, .. } => {
                            accepted.reject_many(Reason::UnknownReference, of.len() as u64, || {
                                format!("reference={id}")
                            });
                        }
                    }
                    continue;
                };
                let Some(series) = &mut shard.places[place as usize] else {
                    continue;
                };
                let mut target = Target {
                    id: number << PLACE_BITS | place,
                    epoch,
                    series,
                    accepted: &mut *accepted,
                    tally: &mut tally,
                    grown: &mut grown,
                };
                target.samples(batch.floats.rows(of.floats), &mut stored.floats);
                let floats = target.accepted.stored;
                target.samples(batch.histograms.rows(of.histograms), &mut stored.histograms);
                target.accepted.histograms += target.accepted.stored - floats;
                for exemplar in &batch.exemplars[of.exemplars] {
                    target.exemplar(exemplar);
                    stored.exemplars.push(target.id, exemplar.clone());
                }
            }
            self.count(epoch, &tally);
            self.grow(grown);
        }
        Ok(stored)
    }

    /// The places of the series of `chosen`; those that are not there begin.
    fn places(
        &self,
        shard: &mut Shard,
        number: u32,
        batch: &Batch,
        chosen: &[u32],
        define: &mut dyn FnMut(&Series<'_>) -> Result<()>,
    ) -> Result<Vec<Option<u32>>> {
        let mut places = Vec::with_capacity(chosen.len());
        let mut full = None;
        let mut begun: Vec<(u32, Labels)> = Vec::new();
        let mut bytes = 0;
        for &at in chosen {
            let key = batch.key(at as usize);
            let found = shard.find(batch, key);
            let (None, Key::Labels { hash, .. }) = (found, key) else {
                places.push(found);
                continue;
            };
            // Not UTF-8: the rows find no series.
            let Ok(labels) = Labels::from_encoded(batch.encoded(key)) else {
                places.push(None);
                continue;
            };
            let place = match shard.begin(labels.clone(), *hash) {
                Ok(place) => place,
                Err(error) => {
                    // Those before it have begun.
                    full = Some(error);
                    break;
                }
            };
            bytes += SERIES_BYTES + labels.heap_bytes();
            places.push(Some(place));
            begun.push((number << PLACE_BITS | place, labels));
        }
        if !begun.is_empty() {
            self.series_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            for series in begun.chunks(DEFINED_AT_ONCE) {
                define(&Series { series })?;
            }
            let mut index = self.index.write();
            for (id, labels) in &begun {
                index.insert(*id, labels);
            }
            self.series.fetch_add(begun.len() as u64, Ordering::Relaxed);
        }
        match full {
            Some(error) => Err(error),
            None => Ok(places),
        }
    }

    /// Makes room for so many series that are to be restored.
    pub(crate) fn expect(&self, series: u64) {
        let each = usize::try_from(series).unwrap_or(0) / SHARDS;
        for shard in &self.shards {
            shard.lock().reserve(each + each / 16);
        }
    }

    /// Puts a series that the log or a part defines in its place; `defined` when it was a part. The
    /// label index knows it after [`Head::restored`].
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when the id does not belong to these labels.
    pub(crate) fn restore(&self, id: u32, labels: Labels, defined: bool) -> Result<Restored> {
        let hash = labels.hash64();
        let (number, place) = (id >> PLACE_BITS, (id & PLACE_MAX) as usize);
        if number as usize != shard_of(hash) {
            let what = format!("id {id} cannot be that of the series {labels}");
            return Err(Error::new(Kind::Corrupt, what));
        }
        let mut shard = self.shards[number as usize].lock();
        if !self.make_room(&mut shard, place) {
            let what = format!("id {id} lies far beyond the series that are there");
            return Err(Error::new(Kind::Corrupt, what));
        }
        let mut added = SERIES_BYTES + labels.heap_bytes();
        let mut replaced = None;
        if let Some(mut old) = shard.places[place].take() {
            if old.labels == labels {
                old.defined |= defined;
                shard.places[place] = Some(old);
                return Ok(Restored::Known);
            }
            // The id went to another series after this one was gone.
            shard.forget(&old);
            added = added.saturating_sub(SERIES_BYTES + old.labels.heap_bytes());
            replaced = Some(old.labels);
        } else {
            self.series.fetch_add(1, Ordering::Relaxed);
        }
        self.series_bytes.fetch_add(added as u64, Ordering::Relaxed);
        let generation = shard.next_generation();
        let mut series = MemSeries::new(labels, hash, generation);
        series.defined = defined;
        shard.places[place] = Some(series);
        // Two ids may have the same labels when one of them is dead; the later one is found.
        let place = place as u32;
        shard.unlist(hash, |other, places| same_labels(places, *other, place));
        shard.list(hash, place);
        Ok(Restored::Begun { replaced })
    }

    /// Makes places up to `place`, unless too many stay empty.
    fn make_room(&self, shard: &mut Shard, place: usize) -> bool {
        let skipped = place.saturating_sub(shard.places.len());
        let left = |left: usize| left.checked_sub(skipped);
        let order = Ordering::Relaxed;
        if self.skippable.fetch_update(order, order, left).is_err() {
            return false;
        }
        if place >= shard.places.len() {
            shard.places.resize_with(place + 1, || None);
        }
        true
    }

    /// The labels of all series by id.
    pub(crate) fn label_sets(&self) -> Vec<(u32, Labels)> {
        let series = self.series.load(Ordering::Relaxed);
        let mut sets = Vec::with_capacity(usize::try_from(series).unwrap_or(0));
        let done = self.walk(|id, series| {
            sets.push((id, series.labels.clone()));
            Ok(())
        });
        debug_assert!(done.is_ok(), "nothing here fails");
        sets
    }

    /// After the last [`Head::restore`]: takes the label index of all series and makes the places
    /// between them free, but for those of the ids `lost`.
    pub(crate) fn restored(&self, index: LabelIndex, lost: &BTreeSet<u32>) {
        *self.index.write() = index;
        for id in lost {
            if let Some(shard) = self.shards.get((id >> PLACE_BITS) as usize) {
                self.make_room(&mut shard.lock(), (id & PLACE_MAX) as usize);
            }
        }
        for (number, shard) in (0u32..).zip(&self.shards) {
            let mut shard = shard.lock();
            let places = (0u32..).zip(&shard.places);
            let free = places.filter(|(place, series)| {
                series.is_none() && !lost.contains(&(number << PLACE_BITS | place))
            });
            shard.free = free.map(|(place, _)| place).collect();
        }
    }

    /// Stores samples that the log holds. Gives how many belong to no series.
    pub(crate) fn replay<T>(&self, samples: &Samples<T>, epoch: u32) -> u64
    where
        for<'a> ValueRef<'a>: From<&'a T>,
    {
        let mut rows = samples.rows();
        self.replay_rows(epoch, samples.ids(), |series, tally| {
            let Some((_, timestamp, start, value)) = rows.next() else {
                return 0;
            };
            let Some(series) = series else { return 0 };
            let (insert, grown) = series.insert(epoch, timestamp, start, value.into());
            if insert == Insert::New {
                tally.count(timestamp);
            }
            grown
        })
    }

    /// Stores exemplars that the log holds. Gives how many belong to no series.
    pub(crate) fn replay_exemplars(&self, exemplars: &[(u32, Exemplar)], epoch: u32) -> u64 {
        let ids: Vec<u32> = exemplars.iter().map(|(id, _)| *id).collect();
        let mut rows = exemplars.iter();
        self.replay_rows(epoch, &ids, |series, tally| {
            let (Some((_, exemplar)), Some(series)) = (rows.next(), series) else {
                return 0;
            };
            let (new, grown) = series.insert_exemplar(epoch, exemplar);
            if new {
                tally.count_exemplar(exemplar.timestamp);
            }
            grown
        })
    }

    /// Gives the series of each row to `each`, none where there is none, and counts those.
    fn replay_rows(
        &self,
        epoch: u32,
        ids: &[u32],
        mut each: impl FnMut(Option<&mut MemSeries>, &mut Tally) -> isize,
    ) -> u64 {
        let (mut lost, mut grown) = (0, 0);
        let mut tally = Tally::default();
        for ids in ids.chunk_by(|a, b| a >> PLACE_BITS == b >> PLACE_BITS) {
            let number = ids.first().map_or(0, |id| id >> PLACE_BITS);
            let mut shard = self.shards[number as usize].lock();
            for ids in ids.chunks(TOUCH_STEP) {
                shard.touch(ids.iter().map(|id| id & PLACE_MAX), epoch);
                for id in ids {
                    let place = (id & PLACE_MAX) as usize;
                    let series = shard.places.get_mut(place).and_then(Option::as_mut);
                    lost += u64::from(series.is_none());
                    grown += each(series, &mut tally);
                }
            }
        }
        self.count(epoch, &tally);
        self.grow(grown);
        lost
    }

    /// Counts what the heap holds more, or less.
    fn grow(&self, bytes: isize) {
        // Wraps around as it should.
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The reference of a series that is found by its labels.
    pub(crate) fn reference(&self, labels: &Labels) -> Option<(u32, u32)> {
        let hash = labels.hash64();
        let number = shard_of(hash);
        let shard = self.shards[number].lock();
        let place = shard.find_encoded(hash, labels.encoded())?;
        let series = shard.places.get(place as usize)?.as_ref()?;
        Some(((number as u32) << PLACE_BITS | place, series.generation))
    }

    /// The series that satisfy `matchers`, with their samples that are in memory and may be in
    /// `range`. Those without any are left out, unless they may have some in parts.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        in_parts: bool,
    ) -> Vec<Found> {
        if !in_parts && !self.overlaps(range) {
            return Vec::new();
        }
        let selected = self.index.read().select(matchers);
        let mut found: Vec<Found> = Vec::new();
        for id in &selected {
            let shard = self.shards[(id >> PLACE_BITS) as usize].lock();
            let Some(Some(series)) = shard.places.get((id & PLACE_MAX) as usize) else {
                continue;
            };
            let mut entry = Found {
                labels: series.labels.clone(),
                id,
                dead: series.dead,
                chunks: Vec::new(),
                late: Vec::new(),
            };
            for epoch in [series.epoch.wrapping_add(1), series.epoch] {
                let chunks = series
                    .chunks(epoch)
                    .filter(|chunk| chunk.last >= range.start && chunk.first < range.end);
                let copies = chunks.map(|chunk| chunk.with(<[u8]>::to_vec));
                entry.chunks.extend(copies);
                entry.late.extend_from_slice(series.late(epoch));
            }
            if in_parts || !entry.chunks.is_empty() || !entry.late.is_empty() {
                found.push(entry);
            }
        }
        found
    }

    /// The series that satisfy `matchers` with their exemplars in memory.
    pub(crate) fn select_exemplars(&self, matchers: &[Matcher]) -> Vec<FoundExemplars> {
        let selected = self.index.read().select(matchers);
        let mut found = Vec::with_capacity(selected.len() as usize);
        for id in &selected {
            let shard = self.shards[(id >> PLACE_BITS) as usize].lock();
            let Some(Some(series)) = shard.places.get((id & PLACE_MAX) as usize) else {
                continue;
            };
            let exemplars = [series.exemplars(0), series.exemplars(1)].concat();
            found.push(FoundExemplars {
                labels: series.labels.clone(),
                id,
                exemplars,
            });
        }
        found
    }

    /// The labels of the series that satisfy `matchers`.
    pub(crate) fn select_labels(&self, matchers: &[Matcher]) -> Vec<Labels> {
        let selected = self.index.read().select(matchers);
        selected.iter().filter_map(|id| self.labels(id)).collect()
    }

    /// Asks the label index.
    pub(crate) fn in_index<T>(&self, ask: impl FnOnce(&LabelIndex) -> T) -> T {
        ask(&self.index.read())
    }

    /// Gives every series to `each`, in order of the ids, a few at a time under the lock of their
    /// shard.
    pub(crate) fn walk(
        &self,
        mut each: impl FnMut(u32, &mut MemSeries) -> Result<()>,
    ) -> Result<()> {
        for (number, shard) in (0u32..).zip(&self.shards) {
            let mut place = 0;
            loop {
                let mut shard = shard.lock();
                let end = shard.places.len().min(place + WALK_STEP);
                if place >= end {
                    break;
                }
                for (at, series) in (place as u32..).zip(&mut shard.places[place..end]) {
                    if let Some(series) = series {
                        each(number << PLACE_BITS | at, series)?;
                    }
                }
                place = end;
            }
        }
        Ok(())
    }

    /// Lets go of the samples of `epoch`, which are in a part now; it also defines the series
    /// `defined`, which rise.
    pub(crate) fn release(&self, epoch: u32, defined: &[u32]) {
        let mut bytes = 0;
        let mut defined = defined.iter().peekable();
        let done = self.walk(|id, series| {
            series.defined |= defined.next_if(|defined| **defined == id).is_some();
            bytes += series.release(epoch);
            Ok(())
        });
        debug_assert!(done.is_ok(), "nothing here fails");
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.epochs[(epoch & 1) as usize].reset();
    }

    /// Whether there are series that no part defines.
    pub(crate) fn has_undefined(&self) -> bool {
        self.shards.iter().any(|shard| {
            let shard = shard.lock();
            let mut series = shard.places.iter().flatten();
            series.any(|series| !series.defined)
        })
    }

    /// Makes idle series unknown: appends by their labels begin new ones.
    pub(crate) fn retire(&self, idle: &Idle) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let retired: Vec<(u32, u64)> = (0u32..)
                .zip(&mut shard.places)
                .filter_map(|(place, series)| {
                    let series = series.as_mut().filter(|s| !s.dead)?;
                    series.dead = idle.is(series);
                    series.dead.then_some((place, series.hash))
                })
                .collect();
            for (place, hash) in retired {
                shard.unlist(hash, |other, _| *other == place);
            }
        }
    }

    /// How many series [`Head::retire`] would retire, and how many are alive.
    pub(crate) fn count_idle(&self, idle: &Idle) -> (u64, u64) {
        let (mut count, mut alive) = (0, 0);
        let done = self.walk(|_, series| {
            alive += u64::from(!series.dead);
            count += u64::from(!series.dead && idle.is(series));
            Ok(())
        });
        debug_assert!(done.is_ok(), "nothing here fails");
        (count, alive)
    }

    /// Lets go of dead series, whose samples are in blocks now; the ids rise.
    pub(crate) fn bury(&self, ids: &[u32]) {
        let mut bytes = 0;
        for ids in ids.chunk_by(|a, b| a >> PLACE_BITS == b >> PLACE_BITS) {
            let Some(first) = ids.first() else { continue };
            let mut shard = self.shards[(first >> PLACE_BITS) as usize].lock();
            let mut index = self.index.write();
            for &id in ids {
                let place = id & PLACE_MAX;
                let Some(slot) = shard.places.get_mut(place as usize) else {
                    continue;
                };
                if let Some(series) = slot.take_if(|series| series.dead) {
                    index.remove(id, &series.labels);
                    bytes += SERIES_BYTES + series.labels.heap_bytes();
                    shard.free.push(place);
                    self.series.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        self.series_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// The labels of a series.
    pub(crate) fn labels(&self, id: u32) -> Option<Labels> {
        let shard = self.shards.get((id >> PLACE_BITS) as usize)?.lock();
        let series = shard.places.get((id & PLACE_MAX) as usize)?.as_ref()?;
        Some(series.labels.clone())
    }

    /// The labels of the series that a reference names.
    pub(crate) fn referenced(&self, reference: SeriesRef) -> Option<Labels> {
        let SeriesRef { id, generation } = reference;
        let shard = self.shards.get((id >> PLACE_BITS) as usize)?.lock();
        let series = shard.places.get((id & PLACE_MAX) as usize)?.as_ref()?;
        (series.generation == generation).then(|| series.labels.clone())
    }

    /// Samples in the buffers of `epoch`.
    pub(crate) fn samples(&self, epoch: u32) -> u64 {
        self.epochs[(epoch & 1) as usize]
            .samples
            .load(Ordering::Relaxed)
    }

    /// Whether the buffers of `epoch` hold neither samples nor exemplars.
    pub(crate) fn is_empty(&self, epoch: u32) -> bool {
        let stats = &self.epochs[(epoch & 1) as usize];
        stats.samples.load(Ordering::Relaxed) == 0 && stats.exemplars.load(Ordering::Relaxed) == 0
    }

    /// Samples in all buffers.
    pub(crate) fn all_samples(&self) -> u64 {
        self.samples(0) + self.samples(1)
    }

    fn count(&self, epoch: u32, tally: &Tally) {
        self.epochs[(epoch & 1) as usize].add(tally);
        self.newest_ms.fetch_max(tally.newest, Ordering::Relaxed);
    }

    /// The newest timestamp that was ever stored.
    pub(crate) fn newest_ms(&self) -> i64 {
        self.newest_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn series_count(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    /// Bytes that the head takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        let series = self.series_bytes.load(Ordering::Relaxed);
        self.sample_bytes() + series + self.index.read().heap_bytes() as u64
    }

    /// Bytes of them that a seal gives back.
    pub(crate) fn sample_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The oldest and the newest timestamp in memory.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let load = |time: &AtomicI64| time.load(Ordering::Relaxed);
        let oldest = self.epochs.iter().map(|stats| load(&stats.oldest)).min()?;
        let newest = self.epochs.iter().map(|stats| load(&stats.newest)).max()?;
        (oldest <= newest).then_some((oldest, newest))
    }

    /// Whether samples in memory may lie in `range`.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.epochs.iter().any(|stats| {
            // The oldest is the newest possible when there is nothing.
            stats.newest.load(Ordering::Relaxed) >= range.start
                && stats.oldest.load(Ordering::Relaxed) < range.end
        })
    }
}

/// Places that may stay empty between series that are restored, if the memory budget does not allow
/// for more: ids are given out in order, but the series between them may be gone. There never were
/// more than fit into memory.
const PLACES_SKIPPED_MIN: usize = 1 << 20;

fn shard_of(hash: u64) -> usize {
    // Not the bits that the table chooses its buckets by.
    ((hash >> 32) & (SHARDS as u64 - 1)) as usize
}

fn shard_of_key(key: &Key) -> usize {
    match key {
        Key::Labels { hash, .. } => shard_of(*hash),
        Key::Reference { id, .. } => ((id >> PLACE_BITS) as usize).min(SHARDS - 1),
    }
}
