//! Reads memory and blocks as one; called by `Snapshot::scan` and `Snapshot::scan_parts`.
//!
//! Everything is lazy, from cheap to dear: a block is looked into when the answer reaches its range
//! of time; of its chunks those count whose streams and times fit; of these first the timestamps
//! are unpacked, then metadata, then lines, each only while there are rows left. `place` says what
//! holds entries, `unpacked` is a chunk that is being looked into, `duplicates` leaves out what an
//! earlier place holds too. `ordered` merges by time, `parts` takes chunks as they come, `counts`
//! counts them, `batch` puts rows together, `ahead` fetches what comes next of blocks that are far
//! away.

mod ahead;
mod batch;
mod counts;
mod duplicates;
mod ordered;
mod parts;
mod place;
mod unpacked;

use std::sync::OnceLock;

use parking_lot::Mutex;
use trine_storage::sealed::SealedFile;
use trine_storage::shared;
use trine_storage::{Error, Matcher, Result, TimeRange};

pub(crate) use ahead::{Headers, Wanted, blocks_in_groups, in_groups};
pub(crate) use counts::{Amount, Buckets, CountScan, counted_range};
pub(crate) use ordered::OrderedScan;
pub(crate) use parts::{PartScan, Together, Units};
pub(crate) use place::Place;

use crate::filter::{self, Filters};
use crate::index::Needles;
use crate::request::Either;
use crate::tombstone::Hidden;
use duplicates::Earlier;
use place::OpenPlace;
use unpacked::{Unpacked, retain_among};

/// What all parts of a scan share: what is looked for, and where.
#[derive(Debug)]
pub(crate) struct Scan {
    spec: Spec,
    /// What is not to be seen.
    hidden: Hidden,
    /// In the order in which their entries were appended.
    places: Vec<Slot>,
    wanted: Wanted,
    is_remote: bool,
    /// What could not be opened and was not told yet.
    failed: Mutex<Vec<Error>>,
}

/// Which entries are looked for.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) range: TimeRange,
    pub(crate) filters: Filters,
    pub(crate) metadata: Vec<Matcher>,
    pub(crate) either: Option<EitherSpec>,
    /// What lines must have in them; `None` when the token index is not to be asked.
    pub(crate) needles: Option<Needles>,
}

/// [`Either`], ready to run.
#[derive(Debug)]
pub(crate) struct EitherSpec {
    filter: Filters,
    needles: Needles,
    matcher: Matcher,
}

impl EitherSpec {
    /// # Errors
    /// As [`Filters::new`].
    pub(crate) fn new(either: &Either) -> Result<Self> {
        let line = std::slice::from_ref(&either.line);
        Ok(Self {
            filter: Filters::new(line)?,
            needles: filter::needles(line),
            matcher: either.metadata.clone(),
        })
    }
}

impl Spec {
    /// Whether entries must be looked at beyond stream and time.
    pub(crate) fn is_narrow(&self) -> bool {
        !self.filters.is_empty() || !self.metadata.is_empty() || self.either.is_some()
    }
}

#[derive(Debug)]
struct Slot {
    place: Place,
    range: TimeRange,
    /// `None` when it cannot be read.
    open: OnceLock<Option<OpenPlace>>,
}

/// What one thread of a scan keeps for itself.
#[derive(Debug)]
struct Worker {
    filters: Filters,
    either: Option<Filters>,
    earlier: Earlier,
}

impl Scan {
    pub(crate) fn new(places: Vec<Place>, hidden: Hidden, spec: Spec, wanted: Wanted) -> Self {
        let blocks = places.iter().filter_map(Place::block);
        let is_remote = blocks.map(|block| &block.file).any(SealedFile::is_remote);
        let slot = |place: Place| {
            let range = place.range()?;
            Some(Slot {
                place,
                range,
                open: OnceLock::new(),
            })
        };
        Self {
            spec,
            hidden,
            wanted,
            is_remote,
            places: places.into_iter().filter_map(slot).collect(),
            failed: Mutex::default(),
        }
    }

    /// A place, opened by the first who asks. `None` when it cannot be read, which
    /// [`Scan::take_error`] tells once.
    fn place(&self, number: usize) -> Option<&OpenPlace> {
        let slot = self.places.get(number)?;
        let open = slot.open.get_or_init(|| {
            let open = OpenPlace::open(&slot.place, &self.spec, &self.hidden);
            open.map_err(|error| self.failed.lock().push(error)).ok()
        });
        open.as_ref()
    }

    fn take_error(&self) -> Option<Error> {
        self.failed.lock().pop()
    }

    fn worker(&self) -> Worker {
        Worker {
            filters: self.spec.filters.clone(),
            either: self
                .spec
                .either
                .as_ref()
                .map(|either| either.filter.clone()),
            earlier: Earlier::default(),
        }
    }

    /// Unpacks the timestamps of a chunk and gives its rows, ascending, that are of selected
    /// streams and in the range. `None` when there are none.
    fn candidates(&self, number: usize, chunk: usize) -> Result<Option<(Unpacked, Vec<u32>)>> {
        let Some(place) = self.place(number).filter(|place| place.confirms(chunk)) else {
            return Ok(None);
        };
        let unpacked = Unpacked::new(place, number, chunk)?;
        let rows = unpacked.rows(place, self.spec.range);
        Ok((!rows.is_empty()).then_some((unpacked, rows)))
    }

    /// Keeps those of `rows` (ascending) that satisfy every condition, are to be seen, and that no
    /// earlier place holds too.
    fn retain(
        &self,
        worker: &mut Worker,
        unpacked: &mut Unpacked,
        rows: &mut Vec<u32>,
    ) -> Result<()> {
        let Some(place) = self.place(unpacked.place) else {
            rows.clear();
            return Ok(());
        };
        if !self.spec.metadata.is_empty() {
            unpacked.retain_metadata(place, rows)?;
        }
        // A value leaves fewer lines than most filters do.
        if let (Some(filter), Some(condition)) = (&worker.either, &place.either)
            && !rows.is_empty()
        {
            let mut others = rows.clone();
            unpacked.retain_lines(place, filter, rows)?;
            retain_among(rows, false, &mut others);
            unpacked.retain_condition(place, condition, &mut others)?;
            rows.append(&mut others);
            rows.sort_unstable();
        }
        if !worker.filters.is_empty() && !rows.is_empty() {
            unpacked.retain_lines(place, &worker.filters, rows)?;
        }
        unpacked.retain_seen(place, rows)?;
        if !rows.is_empty() {
            worker.earlier.remove_from(self, unpacked, rows)?;
        }
        Ok(())
    }
}

/// Does `work` on every item, the items spread over as many threads as there are workers. Results
/// come in the order of the items.
fn spread<T: Send, R: Send>(
    workers: &mut [Worker],
    mut items: Vec<T>,
    work: &(impl Fn(&mut Worker, T) -> R + Sync),
) -> Vec<R> {
    match workers {
        [] => Vec::new(),
        [worker] => items.into_iter().map(|item| work(worker, item)).collect(),
        [worker, ..] if items.len() < 2 => {
            items.into_iter().map(|item| work(worker, item)).collect()
        }
        _ => {
            let (here, beside) = workers.split_at_mut(workers.len() / 2);
            let share = items.len() * here.len() / (here.len() + beside.len());
            let rest = items.split_off(share.max(1));
            let (beside, mut results) =
                shared::join(|| spread(beside, rest, work), || spread(here, items, work));
            results.extend(beside);
            results
        }
    }
}
