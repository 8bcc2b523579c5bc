//! Leaves out entries that an earlier place holds too: the same stream, timestamp, line and
//! metadata, appended again after memory was sealed. Called for rows that passed every filter.
//!
//! A place never holds an entry twice. Between places only the runs of a stream that overlap in
//! time can share entries, and of these only equal timestamps are looked at more closely.

use std::collections::HashMap;
use std::ops::Range;

use trine_storage::{Result, TimeRange};

use super::Scan;
use super::place::{Held, OpenPlace};
use super::unpacked::Unpacked;
use crate::block::format::{ChunkHeader, Run};

/// Chunks of earlier places are kept unpacked until they take this many bytes.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Which earlier places hold entries of a stream at times at which this one does.
#[derive(Debug)]
pub(super) struct Others {
    /// The times in question.
    hull: TimeRange,
    /// Number of the place, code of the stream there.
    places: Vec<(usize, u32)>,
}

/// Finds duplicates. Each thread has its own, with the chunks that it looked into last.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    kept: HashMap<(usize, usize), Unpacked>,
    kept_bytes: usize,
}

/// A row that an earlier place may hold too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Suspect {
    stream: u32,
    timestamp: i64,
    row: u32,
}

impl Scan {
    /// Whether entries of a place in `range` may be in an earlier place, by the ranges of places.
    fn may_share(&self, place: usize, range: TimeRange) -> bool {
        let earlier = self.places.iter().take(place);
        earlier.into_iter().any(|slot| slot.range.overlaps(&range))
    }

    /// The times at which entries of a stream may be in an earlier place; empty when there are
    /// none.
    pub(super) fn shared_range(
        &self,
        number: usize,
        open: &OpenPlace,
        stream: u32,
        range: TimeRange,
    ) -> TimeRange {
        let known = open.others.get(stream);
        let others = match known {
            Some(others) => Some(others),
            None if self.may_share(number, range) => self.others(number, open, stream),
            None => None,
        };
        others.map_or(TimeRange::new(0, 0), |others| others.hull)
    }

    fn others<'a>(&self, number: usize, open: &'a OpenPlace, stream: u32) -> Option<&'a Others> {
        let find = || self.find_others(number, open, stream);
        open.others.get_or_init(stream, find)
    }

    fn find_others(&self, number: usize, open: &OpenPlace, stream: u32) -> Others {
        let mut others = Others {
            hull: TimeRange::new(0, 0),
            places: Vec::new(),
        };
        let (Some(own), Ok(labels)) = (open.range_of(stream), open.labels(stream)) else {
            return others;
        };
        for (earlier, slot) in self.places.iter().enumerate().take(number) {
            if !slot.range.overlaps(&own) {
                continue;
            }
            // What cannot be read has no entries to give, so it doubles none.
            let Some(place) = self.place(earlier) else {
                continue;
            };
            let code = place.code_of(&labels);
            let held = code.and_then(|code| Some((code, place.range_of(code)?)));
            if let Some((code, held)) = held.filter(|(_, held)| held.overlaps(&own)) {
                let start = held.start.max(own.start);
                let common = TimeRange::new(start, held.end.min(own.end));
                others.hull = others.hull.union(&common);
                others.places.push((earlier, code));
            }
        }
        others
    }
}

impl Scan {
    /// The chunks of earlier blocks that may hold entries of a run, too.
    pub(super) fn each_like(
        &self,
        number: usize,
        open: &OpenPlace,
        run: &Run,
        mut each: impl FnMut(usize, &ChunkHeader),
    ) {
        let others = self.others(number, open, run.stream);
        for &(earlier, code) in others.map_or(&[][..], |others| &others.places) {
            let Some(place) = self.place(earlier) else {
                continue;
            };
            for (chunk, _, held) in place.runs_of(code) {
                if held.range().overlaps(&run.range())
                    && let Some(header) = place.header(chunk)
                {
                    each(earlier, header);
                }
            }
        }
    }
}

impl Earlier {
    /// Takes those of `rows` (ascending) away that an earlier place holds too.
    pub(super) fn remove_from(
        &mut self,
        scan: &Scan,
        unpacked: &mut Unpacked,
        rows: &mut Vec<u32>,
    ) -> Result<()> {
        let number = unpacked.place;
        let Some(open) = scan.place(number).filter(|_| number > 0) else {
            return Ok(());
        };
        let mut suspects = suspects(scan, open, unpacked, rows);
        suspects.sort_unstable();
        let mut gone = Vec::new();
        for of_stream in suspects.chunk_by(|a, b| a.stream == b.stream) {
            let Some(others) = scan.others(number, open, of_stream[0].stream) else {
                continue;
            };
            for &(earlier, code) in &others.places {
                let Some(place) = scan.place(earlier) else {
                    continue;
                };
                match &place.held {
                    Held::Block(..) => {
                        let from = (open, &mut *unpacked);
                        self.find_in_block(place, (earlier, code), from, of_stream, &mut gone)?;
                    }
                    Held::Memory { .. } => {
                        for suspect in of_stream {
                            for other in place.memory_rows(code, suspect.timestamp) {
                                let found = self.unpack(place, earlier, other.page as usize)?;
                                if same((place, found, other.row), (open, unpacked, suspect.row))? {
                                    gone.push(suspect.row);
                                }
                            }
                        }
                    }
                }
            }
        }
        if !gone.is_empty() {
            gone.sort_unstable();
            rows.retain(|row| gone.binary_search(row).is_err());
        }
        Ok(())
    }

    /// Looks for suspects, which are by time, in the runs of their stream in a block.
    fn find_in_block(
        &mut self,
        place: &OpenPlace,
        (earlier, code): (usize, u32),
        (open, unpacked): (&OpenPlace, &mut Unpacked),
        suspects: &[Suspect],
        gone: &mut Vec<u32>,
    ) -> Result<()> {
        for (chunk, rows, run) in place.runs_of(code) {
            let from = suspects.partition_point(|suspect| suspect.timestamp < run.first);
            let to = suspects.partition_point(|suspect| suspect.timestamp <= run.last);
            let Some(within) = suspects.get(from..to).filter(|within| !within.is_empty()) else {
                continue;
            };
            // What cannot be read has no entries to give, so it doubles none.
            let Ok(found) = self.unpack(place, earlier, chunk) else {
                continue;
            };
            let mut at = rows.start;
            for suspect in within {
                at = first_at(found.timestamps(), at..rows.end, suspect.timestamp);
                let mut other = at;
                while other < rows.end && found.timestamps().get(other) == Some(&suspect.timestamp)
                {
                    let row = u32::try_from(other).unwrap_or(u32::MAX);
                    if same((place, &mut *found, row), (open, unpacked, suspect.row))? {
                        gone.push(suspect.row);
                        break;
                    }
                    other += 1;
                }
            }
        }
        Ok(())
    }

    fn unpack(&mut self, place: &OpenPlace, number: usize, chunk: usize) -> Result<&mut Unpacked> {
        if self.kept_bytes > KEPT_BYTES_MAX {
            self.kept.clear();
            self.kept_bytes = 0;
        }
        match self.kept.entry((number, chunk)) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let found = Unpacked::new(place, number, chunk)?;
                // As if lines were unpacked, which they mostly are not.
                let header = place.header(chunk);
                self.kept_bytes += 8 * found.timestamps().len();
                self.kept_bytes += header.map_or(0, |header| header.line_bytes as usize / 4);
                Ok(entry.insert(found))
            }
        }
    }
}

/// The rows at times at which an earlier place has entries of their stream.
fn suspects(scan: &Scan, open: &OpenPlace, unpacked: &Unpacked, rows: &[u32]) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    let range = match &open.held {
        Held::Block(_, tables) => tables.chunks.get(unpacked.chunk).map(|chunk| chunk.range),
        Held::Memory { pages, .. } => pages.get(unpacked.chunk).map(|page| page.range),
    };
    let range = range.unwrap_or(scan.spec.range);
    if !scan.may_share(unpacked.place, range) {
        return suspects;
    }
    let mut last = None;
    for &row in rows {
        let stream = unpacked.stream(row);
        let shared = match last {
            Some((known, shared)) if known == stream => shared,
            _ => scan.shared_range(unpacked.place, open, stream, range),
        };
        last = Some((stream, shared));
        let timestamp = unpacked.timestamp(row);
        if shared.contains(timestamp) {
            suspects.push(Suspect {
                stream,
                timestamp,
                row,
            });
        }
    }
    suspects
}

/// The first row of `within` whose timestamp is not before `timestamp`.
fn first_at(timestamps: &[i64], within: Range<usize>, timestamp: i64) -> usize {
    let rows = timestamps.get(within.clone()).unwrap_or_default();
    within.start + rows.partition_point(|&before| before < timestamp)
}

/// Whether two rows of one stream and instant are one entry, the first of which is to be seen.
fn same(
    (place_a, a, row_a): (&OpenPlace, &mut Unpacked, u32),
    (place_b, b, row_b): (&OpenPlace, &mut Unpacked, u32),
) -> Result<bool> {
    a.load_lengths(place_a)?;
    b.load_lengths(place_b)?;
    if a.line_bytes(row_a..row_a + 1) != b.line_bytes(row_b..row_b + 1) {
        return Ok(false);
    }
    a.load_metadata(place_a, &[row_a])?;
    b.load_metadata(place_b, &[row_b])?;
    if a.set(row_a) != b.set(row_b) {
        return Ok(false);
    }
    a.load_lines(place_a, &[row_a])?;
    b.load_lines(place_b, &[row_b])?;
    if a.text().line(row_a as usize) != b.text().line(row_b as usize) {
        return Ok(false);
    }
    // An entry that was deleted and sent again is there once.
    let mut seen = vec![row_a];
    a.retain_seen(place_a, &mut seen)?;
    Ok(!seen.is_empty())
}
