//! Searches lines of which stages drop nearly all: slices of the range, the first ones first, each in
//! parts that take the store's chunks as they come, on as many threads as are free. Called by `log.rs`.
//!
//! A row goes through a *sieve* first, which parses only what conditions look at; what comes through
//! is parsed again in full. Parts keep as many entries as the query wants, the first in its order.

use std::sync::atomic::{AtomicBool, Ordering};

use trine_storage::{Labels, TimeRange};

use super::log::{self, Collector, Reading};
use super::{Entry, Stats};
use crate::logql::error::QueryError;
use crate::logql::pipeline::{Pipeline, Scratch};
use crate::logql::source::{Batches, Direction, Request, RowBatch};
use crate::threads::{self, Permits};

/// The first slice is this share of the range; each further one is twice as long.
const FIRST_SHARE: i64 = 16;

/// A search at work.
pub(super) struct Search<'a> {
    reading: &'a Reading<'a>,
    permits: &'a Permits,
    sieve: Pipeline,
}

/// An entry, and the batch that it is from: number of the part and the batch.
struct Hit {
    entry: Entry,
    batch: (usize, usize),
}

impl<'a> Search<'a> {
    pub(super) fn new(reading: &'a Reading<'a>, permits: &'a Permits) -> Result<Self, QueryError> {
        let sieve = Pipeline::sieve(&reading.expr.stages)?;
        Ok(Self {
            reading,
            permits,
            sieve,
        })
    }

    /// Adds what is found in `rest` to `collector`, until it has enough.
    pub(super) fn run(
        &self,
        rest: TimeRange,
        collector: &mut Collector<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), QueryError> {
        let forward = self.reading.query.direction == Direction::Forward;
        let mut left = rest;
        let length = rest.end.saturating_sub(rest.start);
        // The index says where to look for a value: it is asked once.
        let share = if self.reading.equality.is_some() {
            1
        } else {
            FIRST_SHARE
        };
        let mut length = (length / share).max(1);
        while !left.is_empty() && collector.entries.len() < self.reading.query.limit {
            let slice;
            if forward {
                let end = left.start.saturating_add(length).min(left.end);
                (slice, left) = (
                    TimeRange::new(left.start, end),
                    TimeRange::new(end, left.end),
                );
            } else {
                let start = left.end.saturating_sub(length).max(left.start);
                (slice, left) = (
                    TimeRange::new(start, left.end),
                    TimeRange::new(left.start, start),
                );
            }
            length = length.saturating_mul(2);
            let wanted = self.reading.query.limit - collector.entries.len();
            self.slice(slice, wanted, collector, warnings)?;
        }
        Ok(())
    }

    fn slice(
        &self,
        range: TimeRange,
        wanted: usize,
        collector: &mut Collector<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), QueryError> {
        let mut rows = self.reading.rows(range, Direction::Any);
        rows.projection.skeletons = self.sieve.takes_skeletons();
        let mut hits = Vec::new();
        let request = Request::Rows(rows);
        let parts = self.permits.count() + 1;
        let parts = self.reading.source.scan_parts(&request, parts)?;
        let failed = AtomicBool::new(false);
        let job = |(number, batches)| {
            let mut part = Part {
                search: self,
                number,
                range,
                wanted,
                hits: Vec::new(),
                last: None,
                stats: Stats::default(),
                warnings: Vec::new(),
                sieving: self.sieve.scratch(),
                scratch: self.reading.pipeline.scratch(),
                selected: Vec::new(),
                line: Vec::new(),
            };
            let failed = &failed;
            move || {
                let done = part.read(batches, failed);
                if done.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                done.map(|()| (part.hits, part.stats, part.warnings))
            }
        };
        let jobs = parts.into_iter().enumerate().map(job).collect();
        for done in threads::all(jobs, self.permits) {
            let (found, stats, told) = done?;
            hits.extend(found);
            collector.stats.lines_processed += stats.lines_processed;
            collector.stats.bytes_processed += stats.bytes_processed;
            collector.stats.lines_passed += stats.lines_passed;
            warnings.extend(told);
        }
        hits.sort_by(|a, b| self.reading.order(&a.entry, &b.entry));
        let torn = torn(&hits);
        let entries = hits.into_iter().map(|hit| hit.entry);
        let whole = entries.filter(|entry| !torn.contains(&entry.timestamp_ns));
        collector.entries.extend(whole);
        for at in torn {
            // Only an ordered read knows which of them is first.
            let mut instant = self.reading.collector(TimeRange::inclusive(at, at));
            instant.read(self.reading, self.permits, false, warnings)?;
            collector.entries.append(&mut instant.entries);
        }
        Ok(())
    }
}

/// The instants at which a stream has entries from several batches. `hits` are in order.
fn torn(hits: &[Hit]) -> Vec<i64> {
    let mut torn = Vec::new();
    for two in hits.windows(2) {
        if let [a, b] = two
            && a.entry.timestamp_ns == b.entry.timestamp_ns
            && a.entry.stream == b.entry.stream
            && a.batch != b.batch
            && torn.last() != Some(&a.entry.timestamp_ns)
        {
            torn.push(a.entry.timestamp_ns);
        }
    }
    torn
}

/// One part of a slice.
struct Part<'a> {
    search: &'a Search<'a>,
    number: usize,
    range: TimeRange,
    /// How many entries are kept, and those of the last one's instant.
    wanted: usize,
    hits: Vec<Hit>,
    /// Entries after this instant are not wanted.
    last: Option<i64>,
    stats: Stats,
    warnings: Vec<String>,
    sieving: Scratch,
    scratch: Scratch,
    selected: Vec<bool>,
    /// A line that came as a skeleton.
    line: Vec<u8>,
}

impl Part<'_> {
    fn read(&mut self, batches: Batches, failed: &AtomicBool) -> Result<(), QueryError> {
        let budget = self.search.reading.budget;
        for (number, batch) in batches.enumerate() {
            budget.check()?;
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let Some(batch) = super::readable(batch, &mut self.warnings)? else {
                continue;
            };
            let before = self.hits.len();
            let bytes = self.rows(&log::row_batch(batch)?, number)?;
            budget.hold_samples((self.hits.len() - before) as u64)?;
            budget.hold_bytes(bytes)?;
            self.trim();
        }
        Ok(())
    }

    /// Takes the lines of a batch; gives the bytes of those that passed.
    fn rows(&mut self, batch: &RowBatch, number: usize) -> Result<u64, QueryError> {
        self.stats.lines_processed += batch.timestamps.len() as u64;
        self.stats.bytes_processed += batch.line_bytes();
        let forward = self.search.reading.query.direction == Direction::Forward;
        let (range, last) = (self.range, self.last);
        let is_wanted = |timestamp: &i64| {
            let comes_after = |last: i64| match forward {
                true => *timestamp > last,
                false => *timestamp < last,
            };
            range.contains(*timestamp) && !last.is_some_and(comes_after)
        };
        self.selected.clear();
        self.selected.extend(batch.timestamps.iter().map(is_wanted));
        let pipeline = self.search.reading.pipeline;
        pipeline.select(&batch.lines, &mut self.selected);
        let (empty, mut bytes, first) = (Labels::empty(), 0, self.hits.len());
        let skeletons = batch.skeletons.as_deref();
        for (row, &timestamp) in batch.timestamps.iter().enumerate() {
            let Some(stream) = batch.stream_of(row).filter(|_| self.selected[row]) else {
                continue;
            };
            let code = batch.metadata_code(row) as usize;
            let metadata = batch.metadata_sets.get(code).unwrap_or(&empty);
            let sieve = &self.search.sieve;
            self.sieving.timestamp_ns = timestamp;
            self.scratch.timestamp_ns = timestamp;
            let mut line = batch.lines.get(row);
            let sieved = match skeletons {
                None => sieve.run(line, stream, metadata, &mut self.sieving),
                Some(lines) => {
                    sieve.run_skeleton((lines, row), stream, metadata, &mut self.sieving)
                }
            };
            if sieved.is_none() {
                continue;
            }
            if let Some(lines) = skeletons {
                self.line.clear();
                lines.write_line(row, &mut self.line)?;
                line = &self.line;
            }
            if let Some(passed) = pipeline.run(line, stream, metadata, &mut self.scratch) {
                self.stats.lines_passed += 1;
                bytes += passed.line.len() as u64;
                self.hits.push(Hit {
                    entry: log::entry(timestamp, passed),
                    batch: (self.number, number),
                });
            }
        }
        if !forward {
            // Rows of a batch are in the order in which they were appended.
            self.hits[first..].reverse();
        }
        Ok(bytes)
    }

    /// Lets go of entries that come after all that are wanted.
    fn trim(&mut self) {
        if self.hits.len() <= self.wanted.saturating_mul(2) {
            return;
        }
        let search = self.search;
        self.hits
            .sort_by(|a, b| search.reading.order(&a.entry, &b.entry));
        let Some(last) = self.wanted.checked_sub(1).and_then(|at| self.hits.get(at)) else {
            return;
        };
        let last = last.entry.timestamp_ns;
        let beyond = self.hits[self.wanted..]
            .iter()
            .position(|hit| hit.entry.timestamp_ns != last);
        let keep = beyond.map_or(self.hits.len(), |beyond| self.wanted + beyond);
        let gone: usize = self.hits[keep..]
            .iter()
            .map(|hit| hit.entry.line.len())
            .sum();
        let budget = search.reading.budget;
        budget.release_samples((self.hits.len() - keep) as u64);
        budget.release_bytes(gone as u64);
        self.hits.truncate(keep);
        self.last = Some(last);
    }
}
