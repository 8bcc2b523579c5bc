//! A scan of what a range aggregation reads: in parts, each on a thread where one is free, which make
//! tables of series that are put together at the end. Called by `range.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use trine_storage::{Kind, Labels, Matcher};

use super::Stats;
use super::range::{Held, Windows};
use super::series::{Amount, Holds, SeriesTable};
use super::unwrap::Extractor;
use crate::budget::Budget;
use crate::logql::error::QueryError;
use crate::logql::pipeline::labels::PRESERVE_ERROR;
use crate::logql::pipeline::{Pipeline, Scratch};
use crate::logql::source::{
    Batch, Batches, CountBatch, Counts, Direction, Measure, Request, RowBatch, Source,
};
use crate::threads::{self, Permits};
use crate::vector::Grouping;

/// What is scanned, and what is made of it.
pub(super) struct Scan<'a> {
    pub(super) windows: Windows,
    pub(super) measure: Measure,
    pub(super) pipeline: &'a Pipeline,
    /// For numbers that the source counted.
    pub(super) counted: &'a Pipeline,
    pub(super) extractor: Option<&'a Extractor>,
    pub(super) budget: &'a Budget,
    pub(super) request: &'a Request,
    /// Lines of which one of these does not hold are another request's.
    pub(super) only: &'a [Matcher],
    pub(super) grouping: &'a Option<Grouping>,
    pub(super) holds: Holds,
    pub(super) steps: usize,
}

/// What was found.
pub(super) struct Found {
    pub(super) table: SeriesTable,
    pub(super) stats: Stats,
    pub(super) warnings: Vec<String>,
}

impl Scan<'_> {
    /// Reads everything, on as many threads as `permits` allow; gives what each found.
    pub(super) fn run(
        &self,
        source: &dyn Source,
        permits: &Permits,
    ) -> Result<Vec<Found>, QueryError> {
        let is_ordered =
            matches!(self.request, Request::Rows(rows) if rows.direction != Direction::Any);
        let parts = if is_ordered {
            vec![source.scan(self.request)?]
        } else {
            source.scan_parts(self.request, permits.count() + 1)?
        };
        let failed = AtomicBool::new(false);
        let job = |part| {
            let failed = &failed;
            move || {
                let found = self.part(part, failed);
                if found.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                found
            }
        };
        let jobs = parts.into_iter().map(job).collect();
        threads::all(jobs, permits).into_iter().collect()
    }

    fn nothing(&self) -> Found {
        Found {
            table: SeriesTable::new(self.grouping.clone(), self.holds, self.steps),
            stats: Stats::default(),
            warnings: Vec::new(),
        }
    }

    /// Reads one part, until it ends or another one has failed.
    fn part(&self, batches: Batches, failed: &AtomicBool) -> Result<Found, QueryError> {
        let mut reader = Reader {
            scan: self,
            found: self.nothing(),
            scratch: self.pipeline.scratch(),
            held: self.windows.steps_of(i64::MIN),
            selected: Vec::new(),
            line: Vec::new(),
        };
        for batch in batches {
            self.budget.check()?;
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let Some(batch) = super::readable(batch, &mut reader.found.warnings)? else {
                continue;
            };
            match (batch, self.request) {
                (Batch::Rows(batch), _) => reader.rows(&batch)?,
                (Batch::Counts(batch), Request::Counts(counts)) => reader.counts(&batch, counts)?,
                (Batch::Counts(_), Request::Rows(_)) => {
                    let text = "a log store answered a query for lines with counts";
                    return Err(trine_storage::Error::new(Kind::Unsupported, text).into());
                }
            }
        }
        Ok(reader.found)
    }
}

/// One part at work.
struct Reader<'a> {
    scan: &'a Scan<'a>,
    found: Found,
    scratch: Scratch,
    /// The steps of the last row.
    held: Held,
    selected: Vec<bool>,
    /// A line that came as a skeleton.
    line: Vec<u8>,
}

impl Reader<'_> {
    /// Takes in the lines of a batch.
    fn rows(&mut self, batch: &RowBatch) -> Result<(), QueryError> {
        let windows = &self.scan.windows;
        self.found.table.next_batch();
        let mut held = self.held;
        let mut selected = std::mem::take(&mut self.selected);
        selected.clear();
        selected.extend(batch.timestamps.iter().map(|timestamp| {
            held = held.of(windows, *timestamp);
            held.is_some()
        }));
        select_only(self.scan.only, batch, &mut selected);
        self.scan.pipeline.select(&batch.lines, &mut selected);
        let empty = Labels::empty();
        self.found.stats.lines_processed += batch.timestamps.len() as u64;
        self.found.stats.bytes_processed += batch.line_bytes();
        for (row, &timestamp) in batch.timestamps.iter().enumerate() {
            if selected.get(row) == Some(&true) {
                self.row(batch, row, timestamp, &empty)?;
            }
        }
        self.selected = selected;
        Ok(())
    }

    fn row(
        &mut self,
        batch: &RowBatch,
        row: usize,
        timestamp: i64,
        empty: &Labels,
    ) -> Result<(), QueryError> {
        let Some(stream) = batch.stream_of(row) else {
            return Ok(());
        };
        let code = batch.metadata_code(row);
        let metadata = batch.metadata_sets.get(code as usize).unwrap_or(empty);
        let pipeline = self.scan.pipeline;
        self.scratch.timestamp_ns = timestamp;
        let skeletons = batch.skeletons.as_deref();
        let passed = match skeletons {
            None => pipeline.run(batch.lines.get(row), stream, metadata, &mut self.scratch),
            Some(lines) => pipeline.run_skeleton((lines, row), stream, metadata, &mut self.scratch),
        };
        let Some(mut passed) = passed else {
            return Ok(());
        };
        if let Some(lines) = skeletons.filter(|_| passed.is_unclear) {
            drop(passed);
            self.line.clear();
            lines.write_line(row, &mut self.line)?;
            match pipeline.run(&self.line, stream, metadata, &mut self.scratch) {
                Some(again) => passed = again,
                None => return Ok(()),
            }
        }
        let mut value = 0.0;
        if let Some(extractor) = self.scan.extractor {
            match extractor.value(&mut passed.labels) {
                Some(found) => value = found,
                None => return Ok(()),
            }
        }
        if let Some(error) = passed.labels.error()
            && passed.labels.get(PRESERVE_ERROR) != Some("true")
        {
            return Err(pipeline_error(error, &passed.labels.merged()));
        }
        let codes = (batch.stream.get(row).copied().unwrap_or(0), code);
        let weight = match self.scan.measure {
            Measure::Lines => 1,
            Measure::Bytes => passed.line.len() as u64,
        };
        self.held = self.held.of(&self.scan.windows, timestamp);
        let table = &mut self.found.table;
        let series = table.find(&passed.labels, codes, self.scan.budget)?;
        let amount = Amount { weight, value };
        table.add(series, self.held, timestamp, amount, self.scan.budget)?;
        self.found.stats.lines_passed += 1;
        Ok(())
    }

    /// Takes in numbers that the source counted.
    fn counts(&mut self, batch: &CountBatch, request: &Counts) -> Result<(), QueryError> {
        let budget = self.scan.budget;
        let table = &mut self.found.table;
        table.next_batch();
        let empty = Labels::empty();
        let columns = batch.stream.iter().zip(&batch.bucket).zip(&batch.count);
        for (row, ((&stream, &bucket), &weight)) in columns.enumerate() {
            let Some(labels) = batch.streams.get(stream as usize) else {
                continue;
            };
            let group = batch.group.get(row).copied().unwrap_or(0);
            let metadata = batch.groups.get(group as usize).unwrap_or(&empty);
            // All of a bucket is in the windows that hold its last instant.
            let width = request.bucket_ns.saturating_mul(i64::from(bucket) + 1);
            let timestamp = request.range.start.saturating_add(width);
            let counted = self.scan.counted;
            let Some(passed) = counted.run(&[], labels, metadata, &mut self.scratch) else {
                continue;
            };
            self.held = self.held.of(&self.scan.windows, timestamp);
            let series = table.find(&passed.labels, (stream, group), budget)?;
            let amount = Amount { weight, value: 0.0 };
            table.add(series, self.held, timestamp, amount, budget)?;
        }
        Ok(())
    }
}

/// Takes the rows out of `selected` of which not all of `only` hold.
fn select_only(only: &[Matcher], batch: &RowBatch, selected: &mut [bool]) {
    if only.is_empty() {
        return;
    }
    // Rows of one stream and metadata mostly follow one another.
    let (mut last, mut held) = (None, false);
    for (row, selected) in selected
        .iter_mut()
        .enumerate()
        .filter(|(_, selected)| **selected)
    {
        let codes = (batch.stream.get(row), batch.metadata.get(row));
        if last != Some(codes) {
            (last, held) = (Some(codes), holds(only, batch, row));
        }
        *selected = held;
    }
}

/// Whether all conditions hold for the stream's labels and the metadata of a row.
fn holds(only: &[Matcher], batch: &RowBatch, row: usize) -> bool {
    let metadata = batch.metadata_sets.get(batch.metadata_code(row) as usize);
    only.iter().all(|matcher| {
        let of_stream = batch.stream_of(row).and_then(|of| of.get(matcher.name()));
        let value = of_stream.or_else(|| metadata?.get(matcher.name()));
        matcher.matches(value.unwrap_or(""))
    })
}

fn pipeline_error(error: &str, series: &Labels) -> QueryError {
    QueryError::Invalid(format!(
        "pipeline error: '{error}' for series: '{series}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. \
         (e.g | unwrap latency | __error__=\"\" )\n"
    ))
}
