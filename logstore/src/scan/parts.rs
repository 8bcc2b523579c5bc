//! Entries as they are found: several parts take chunks from one list until it is empty, so that
//! as many threads as there are parts have equal shares of the work.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use trine_storage::read_ahead::ReadAhead;
use trine_storage::{Result, shared};

use super::ahead::{Ahead, Pages};
use super::batch::Building;
use super::place::OpenPlace;
use super::{Scan, Worker};
use crate::request::{Batch, Batches, Projection, RowBatch};

/// After this many chunks a part gives control back, whatever it found.
const CHUNKS_MAX: usize = 32;

/// The chunks that nobody took yet.
#[derive(Debug)]
pub(crate) struct Units {
    pub(super) scan: Arc<Scan>,
    next: Mutex<Next>,
}

/// What is taken next.
#[derive(Debug)]
struct Next {
    place: usize,
    /// How many of its chunks were taken.
    taken: usize,
    /// Of how many places the tables were asked for.
    begun: usize,
    places_ahead: Ahead,
    /// The chunks that were asked for and not taken.
    coming: ReadAhead,
    /// The first chunk that was not asked for: number of its place, how many are before it there.
    asked: (usize, usize),
}

impl Units {
    pub(crate) fn new(scan: Scan) -> Self {
        let next = Next {
            place: 0,
            taken: 0,
            begun: 0,
            places_ahead: scan.places_ahead(),
            coming: scan.read_ahead(),
            asked: (0, 0),
        };
        Self {
            scan: Arc::new(scan),
            next: Mutex::new(next),
        }
    }

    /// How many chunks of places that can be read may hold something.
    pub(crate) fn chunks(&self) -> usize {
        let mut next = self.next.lock();
        let places = 0..self.scan.places.len();
        let open = places.filter_map(|place| self.open(&mut next, place));
        open.map(|open| open.chunks.len()).sum()
    }

    /// The next chunk: number of its place, number there.
    pub(super) fn take(&self) -> Option<(usize, usize)> {
        let mut next = self.next.lock();
        loop {
            let (place, taken) = (next.place, next.taken);
            self.scan.places.get(place)?;
            let open = self.open(&mut next, place);
            match open.and_then(|open| open.chunks.get(taken)) {
                Some(&(chunk, _)) => {
                    if self.scan.is_remote() {
                        self.read_ahead(&mut next);
                    }
                    next.taken = taken + 1;
                    return Some((place, chunk));
                }
                None => (next.place, next.taken) = (place + 1, 0),
            }
        }
    }

    /// A place, of which tables are fetched before they are needed, with those of places after it.
    fn open(&self, next: &mut Next, place: usize) -> Option<&OpenPlace> {
        if place >= next.begun {
            next.begun = place + 1;
            if self.scan.is_remote() {
                let count = next.places_ahead.step(1);
                self.scan.fetch_places(place..place.saturating_add(count));
            }
        }
        self.scan.place(place)
    }

    /// Asks for the pages of the chunk that is taken, and of those that come next, of this place and of
    /// others, when few of them are coming.
    fn read_ahead(&self, next: &mut Next) {
        next.asked = next.asked.max((next.place, next.taken));
        if next.coming.is_due() {
            let mut pages = Pages::new();
            while !next.coming.is_full() && next.asked.0 < self.scan.places.len() {
                let (place, before) = next.asked;
                if place >= next.begun {
                    // Its tables may have to be waited for.
                    self.scan.fetch(std::mem::take(&mut pages));
                }
                let open = self.open(next, place);
                let Some(&(chunk, _)) = open.and_then(|open| open.chunks.get(before)) else {
                    next.asked = (place + 1, 0);
                    continue;
                };
                let found = pages.len();
                self.scan.pages_of((place, chunk), &mut pages);
                let own = pages.iter().skip(found);
                if !next
                    .coming
                    .ask(own.map(|(_, page)| u64::from(page.len)).sum())
                {
                    pages.truncate(found);
                    break;
                }
                next.asked.1 += 1;
            }
            self.scan.fetch(pages);
        }
        next.coming.used();
    }
}

/// One part of the entries, in no order.
#[derive(Debug)]
pub(crate) struct PartScan {
    units: Arc<Units>,
    worker: Worker,
    projection: Projection,
}

impl PartScan {
    pub(crate) fn new(units: Arc<Units>, projection: Projection) -> Self {
        let worker = units.scan.worker();
        Self {
            units,
            worker,
            projection,
        }
    }

    fn chunk(&mut self, place: usize, chunk: usize) -> Result<Option<RowBatch>> {
        let scan = &*self.units.scan;
        let Some((mut unpacked, mut rows)) = scan.candidates(place, chunk)? else {
            return Ok(None);
        };
        scan.retain(&mut self.worker, &mut unpacked, &mut rows)?;
        let Some(open) = scan.place(place).filter(|_| !rows.is_empty()) else {
            return Ok(None);
        };
        let mut projection = self.projection;
        let mut skeletons = None;
        if projection.lines && projection.skeletons && rows.len() == unpacked.timestamps().len() {
            skeletons = unpacked.take_skeletons(open)?.map(Arc::new);
            projection.lines = skeletons.is_none();
        }
        if projection.lines {
            unpacked.load_lines(open, &rows)?;
        }
        if projection.metadata {
            unpacked.load_metadata(open, &rows)?;
        }
        let mut batch = Building::new(projection);
        batch.push_chunk(open, &mut unpacked, &rows)?;
        Ok(Some(RowBatch {
            skeletons,
            ..batch.finish()
        }))
    }
}

impl Iterator for PartScan {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        for _ in 0..CHUNKS_MAX {
            let unit = self.units.take();
            let looked_into = unit.map(|(place, chunk)| self.chunk(place, chunk));
            match looked_into {
                Some(Ok(Some(rows))) => return Some(Ok(Batch::Rows(rows))),
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(None)) => {}
                None => return self.units.scan.take_error().map(Err),
            }
            if let Some(error) = self.units.scan.take_error() {
                return Some(Err(error));
            }
        }
        Some(Ok(Batch::Rows(RowBatch::default())))
    }
}

/// Several parts driven at the same time, each on a thread.
pub(crate) struct Together {
    parts: Vec<Batches>,
    ready: VecDeque<Result<Batch>>,
}

/// How many batches each part gives before control is given back.
const BATCHES_AT_ONCE: usize = 4;

impl Together {
    pub(crate) fn new(parts: Vec<Batches>) -> Self {
        Self {
            parts,
            ready: VecDeque::new(),
        }
    }
}

impl Iterator for Together {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let parts = std::mem::take(&mut self.parts);
            for (part, batches, has_ended) in drive(parts) {
                self.ready.extend(batches);
                if !has_ended {
                    self.parts.push(part);
                }
            }
        }
        self.ready.pop_front()
    }
}

type Driven = (Batches, Vec<Result<Batch>>, bool);

fn drive(mut parts: Vec<Batches>) -> Vec<Driven> {
    let Some(mut last) = parts.pop() else {
        return Vec::new();
    };
    let here = move || {
        let batches: Vec<_> = last.by_ref().take(BATCHES_AT_ONCE).collect();
        let has_ended = batches.len() < BATCHES_AT_ONCE;
        (last, batches, has_ended)
    };
    if parts.is_empty() {
        return vec![here()];
    }
    let (driven, mut others) = shared::join(here, || drive(parts));
    others.push(driven);
    others
}
