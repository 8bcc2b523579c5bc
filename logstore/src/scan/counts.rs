//! How many entries or bytes there are by stream and bucket, from headers and timestamps: lines are
//! never unpacked.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use trine_storage::{Error, Result, TimeRange};

use super::{Chunk, OpenPlace, Place};
use crate::block::format::ChunkHeader;
use crate::block::reader::BlockFile;
use crate::columns::Columns;
use crate::request::{Batch, CountBatch, Counts, Measure};
use crate::tombstone::{Hidden, StreamVeil, Veils};

/// Numbers that are held before they are given.
const HELD_MAX: usize = 64 << 10;

/// Iterator over the numbers that a request asks for.
#[derive(Debug)]
pub(crate) struct CountScan {
    request: Counts,
    /// The timestamps that lie in some bucket.
    range: TimeRange,
    hidden: Hidden,
    places: std::vec::IntoIter<Place>,
    current: Option<Current>,
    held: BTreeMap<(u32, u32), u64>,
}

/// The place that is being counted.
#[derive(Debug)]
struct Current {
    open: OpenPlace,
    is_selected: Vec<bool>,
    veils: Veils,
    next_chunk: usize,
}

impl Current {
    fn selects(&self, stream: u32) -> bool {
        self.is_selected
            .get(stream as usize)
            .is_some_and(|&flag| flag)
    }
}

impl CountScan {
    pub(crate) fn new(places: Vec<Place>, hidden: Hidden, request: &Counts) -> Result<Self> {
        let first = request.range.start.saturating_add(1);
        let range = TimeRange::new(first, request.range.end);
        let buckets = match request.range.end.checked_sub(request.range.start) {
            _ if request.bucket_ns < 1 => None,
            Some(width) => u32::try_from(width / request.bucket_ns).ok(),
            None => None,
        };
        if buckets.is_none() {
            return Err(Error::invalid(format!(
                "buckets of {} ns do not divide the range from {} to {} into less than 2^32 parts",
                request.bucket_ns, request.range.start, request.range.end
            )));
        }
        Ok(Self {
            request: request.clone(),
            range,
            hidden,
            places: places.into_iter(),
            current: None,
            held: BTreeMap::new(),
        })
    }

    /// The bucket of a timestamp in the range.
    fn bucket(&self, timestamp: i64) -> u32 {
        let after = timestamp
            .saturating_sub(self.request.range.start)
            .saturating_sub(1);
        u32::try_from(after / self.request.bucket_ns).unwrap_or(u32::MAX)
    }

    /// Counts the next chunk. False when there are no more.
    fn step(&mut self) -> Result<bool> {
        let Some(mut current) = self.current.take() else {
            let Some(place) = self.places.next() else {
                return Ok(false);
            };
            if place
                .range()
                .is_some_and(|range| range.overlaps(&self.range))
            {
                let (open, selected) = place.open(&self.request.matchers)?;
                let veil = place.veil(&self.hidden, self.range);
                let veils = if veil.is_empty() {
                    Veils::default()
                } else {
                    let labels = open.labels_of(&selected)?;
                    Veils::new(&veil, labels.iter().map(|(code, labels)| (*code, labels)))
                };
                let mut is_selected = vec![false; open.streams()];
                for stream in selected {
                    if let Some(flag) = is_selected.get_mut(stream as usize) {
                        *flag = true;
                    }
                }
                self.current = Some(Current {
                    open,
                    is_selected,
                    veils,
                    next_chunk: 0,
                });
            }
            return Ok(true);
        };
        let number = current.next_chunk;
        current.next_chunk += 1;
        let is_selected = |stream: u32| current.selects(stream);
        let counted = match current.open.chunk(number) {
            Some(chunk) if chunk.range_if(self.range, is_selected).is_none() => Ok(()),
            Some(Chunk::Block(file, header)) => self.count_chunk(file, header, &current),
            Some(Chunk::Page(page)) => {
                self.count_page(&page.columns, &current);
                Ok(())
            }
            None => Ok(()),
        };
        self.current = Some(current);
        counted.map(|()| true)
    }

    fn count_chunk(
        &mut self,
        file: &BlockFile,
        header: &ChunkHeader,
        place: &Current,
    ) -> Result<()> {
        let bytes = self.request.measure == Measure::Bytes;
        let mut columns = None;
        let mut start = 0;
        for run in &header.runs {
            let rows = start..start + run.rows as usize;
            start = rows.end;
            if !place.selects(run.stream) || !run.range().overlaps(&self.range) {
                continue;
            }
            let veil = place.veils.of(run.stream);
            let veil = veil.filter(|veil| veil.touches(run.range()));
            if veil.is_some_and(|veil| veil.covers(run.range())) {
                continue;
            }
            let whole =
                veil.is_none() && self.range.contains(run.first) && self.range.contains(run.last);
            if whole && self.bucket(run.first) == self.bucket(run.last) {
                let count = if bytes {
                    run.line_bytes
                } else {
                    u64::from(run.rows)
                };
                self.add(run.stream, run.first, count);
                continue;
            }
            let columns = match &mut columns {
                Some(columns) => columns,
                empty => {
                    let timestamps = file.timestamps(header)?;
                    let ends = if bytes {
                        file.ends(header)?
                    } else {
                        Vec::new()
                    };
                    empty.insert(Columns {
                        timestamps,
                        ends,
                        ..Columns::default()
                    })
                }
            };
            let mut rows: Vec<u32> = rows.map(|row| row as u32).collect();
            if let Some(veil) = veil {
                if columns.blob.is_empty() && veil.needs_lines(run.range()) {
                    (columns.blob, columns.ends) = file.lines(header, &columns.timestamps)?;
                }
                veil.retain(columns, &mut rows, 0);
            }
            for row in rows {
                self.count_row(columns, run.stream, row as usize);
            }
        }
        Ok(())
    }

    fn count_page(&mut self, page: &Columns, place: &Current) {
        for (row, &stream) in page.streams.iter().enumerate() {
            let at = page.timestamps[row];
            let instant = TimeRange::inclusive(at, at);
            let hidden = |veil: &StreamVeil| veil.covers(instant);
            if place.selects(stream) && !place.veils.of(stream).is_some_and(hidden) {
                self.count_row(page, stream, row);
            }
        }
    }

    fn count_row(&mut self, columns: &Columns, stream: u32, row: usize) {
        let timestamp = columns.timestamps[row];
        if self.range.contains(timestamp) {
            let count = match self.request.measure {
                Measure::Lines => 1,
                Measure::Bytes => columns.line_range(row).len() as u64,
            };
            self.add(stream, timestamp, count);
        }
    }

    fn add(&mut self, stream: u32, timestamp: i64, count: u64) {
        *self
            .held
            .entry((stream, self.bucket(timestamp)))
            .or_default() += count;
    }

    /// The numbers that are held, with the streams of the current place.
    fn give(&mut self) -> Result<Option<CountBatch>> {
        let Some(current) = &self.current else {
            return Ok(None);
        };
        let counted: RoaringBitmap = self.held.keys().map(|(stream, _)| *stream).collect();
        let labels = current.open.labels_of(&counted)?;
        let mut batch = CountBatch {
            streams: labels.into_iter().map(|(_, labels)| labels).collect(),
            ..CountBatch::default()
        };
        // The labels come in order of the codes, as the numbers do.
        let numbers: HashMap<u32, u32> = counted.iter().zip(0..).collect();
        for ((stream, bucket), count) in std::mem::take(&mut self.held) {
            batch.stream.extend(numbers.get(&stream));
            batch.bucket.push(bucket);
            batch.count.push(count);
        }
        Ok(Some(batch))
    }
}

impl Iterator for CountScan {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Codes of streams are those of a place, so that its numbers are given when it ends.
            let finished = self
                .current
                .as_ref()
                .is_some_and(|current| current.next_chunk >= current.open.chunks());
            if finished || self.held.len() >= HELD_MAX {
                let batch = self.give();
                if finished {
                    self.current = None;
                }
                match batch {
                    Ok(Some(batch)) if !batch.count.is_empty() => {
                        return Some(Ok(Batch::Counts(batch)));
                    }
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                }
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
