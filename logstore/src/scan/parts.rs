//! Entries as they are found: several parts take chunks from one list until it is empty, so that
//! as many threads as there are parts have equal shares of the work.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use trine_storage::{Result, shared};

use super::ahead::Ahead;
use super::batch::Building;
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
    places_ahead: Ahead,
    chunks_ahead: Ahead,
}

impl Units {
    pub(crate) fn new(scan: Scan) -> Self {
        let next = Next {
            place: 0,
            taken: 0,
            places_ahead: scan.ahead(),
            chunks_ahead: scan.ahead(),
        };
        Self {
            scan: Arc::new(scan),
            next: Mutex::new(next),
        }
    }

    /// How many chunks of places that can be read may hold something.
    pub(crate) fn chunks(&self) -> usize {
        let mut ahead = self.scan.ahead();
        let places = 0..self.scan.places.len();
        let open = places.filter_map(|place| {
            self.fetch_places(&mut ahead, place);
            self.scan.place(place)
        });
        open.map(|open| open.chunks.len()).sum()
    }

    /// The next chunk: number of its place, number there.
    pub(super) fn take(&self) -> Option<(usize, usize)> {
        let mut next = self.next.lock();
        loop {
            let (place, taken) = (next.place, next.taken);
            self.scan.places.get(place)?;
            if taken == 0 {
                self.fetch_places(&mut next.places_ahead, place);
            }
            let chunks = self.scan.place(place).map(|open| open.chunks.as_slice());
            let left = chunks.and_then(|chunks| chunks.get(taken..));
            match left.and_then(|left| Some((left.first()?, left))) {
                Some((&(chunk, _), left)) => {
                    next.taken = taken + 1;
                    if self.scan.is_remote() {
                        let count = next.chunks_ahead.step(1);
                        let coming = left.iter().take(count);
                        self.scan
                            .fetch_chunks(coming.map(|&(chunk, _)| (place, chunk)));
                    }
                    return Some((place, chunk));
                }
                None => (next.place, next.taken) = (place + 1, 0),
            }
        }
    }

    /// Fetches what is needed to open `place`, and those after it.
    fn fetch_places(&self, ahead: &mut Ahead, place: usize) {
        if self.scan.is_remote() {
            let count = ahead.step(1);
            self.scan.fetch_places(place..place.saturating_add(count));
        }
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
