//! Answers queries for lines: batch by batch in the order of time, until there are enough.
//!
//! Where stages drop nearly all lines, order costs more than it brings: then the rest of the range is
//! searched by `search.rs`.

use std::cmp::Ordering;

use trine_storage::{Kind, TimeRange};

use super::equality::Equality;
use super::search::Search;
use super::{Entry, LogRows, QueryResult, QueryValue, RangeQuery, Stats};
use crate::budget::Budget;
use crate::logql::ast::LogExpr;
use crate::logql::error::QueryError;
use crate::logql::pipeline::labels::{Category, Wanted};
use crate::logql::pipeline::{Passed, Pipeline, Scratch};
use crate::logql::source::{Batch, Direction, Projection, Request, RowBatch, Rows, Source};
use crate::threads::Permits;

/// After so many lines it is seen whether few pass ..
const SEEN_MIN: u64 = 4 << 10;
/// .. which is one in so many.
const FEW_PASS: u64 = 64;

/// The lines that `expr` gives in `[start, end)`.
pub(super) fn evaluate(
    source: &dyn Source,
    expr: &LogExpr,
    query: RangeQuery,
    budget: &Budget,
) -> Result<QueryResult, QueryError> {
    let pipeline = Pipeline::new(&expr.stages, Wanted::All)?;
    let permits = Permits::take(budget.limits().threads_max.saturating_sub(1));
    let reading = Reading {
        source,
        expr,
        pipeline: &pipeline,
        equality: Equality::of(&expr.stages),
        query,
        budget,
    };
    let range = TimeRange::new(query.start_ns, query.end_ns);
    let mut collector = reading.collector(range);
    let mut warnings = Vec::new();
    if query.limit > 0 && !range.is_empty() {
        let may_search = query.interval_ns == 0 && pipeline.may_drop();
        let rest = collector.read(&reading, &permits, may_search, &mut warnings)?;
        if let Some(rest) = rest {
            let search = Search::new(&reading, &permits)?;
            search.run(rest, &mut collector, &mut warnings)?;
        }
    }
    let (rows, stats) = collector.finish();
    Ok(QueryResult {
        value: QueryValue::Streams(rows),
        stats,
        warnings,
    })
}

/// What is asked, of whom.
pub(super) struct Reading<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) expr: &'a LogExpr,
    pub(super) pipeline: &'a Pipeline,
    /// A label that all lines have that pass.
    pub(super) equality: Option<Equality>,
    pub(super) query: RangeQuery,
    pub(super) budget: &'a Budget,
}

impl Reading<'_> {
    /// The request for the lines of `range`.
    pub(super) fn rows(&self, range: TimeRange, direction: Direction) -> Rows {
        Rows {
            matchers: self.expr.selector.matchers.clone(),
            range,
            lines: self.pipeline.pushed().lines.clone(),
            metadata: self.pipeline.pushed().metadata.clone(),
            either: self.equality.as_ref().map(Equality::either),
            direction,
            limit_hint: None,
            threads: 1,
            projection: Projection {
                lines: true,
                metadata: true,
                skeletons: false,
            },
        }
    }

    pub(super) fn collector(&self, range: TimeRange) -> Collector<'_> {
        Collector {
            pipeline: self.pipeline,
            query: self.query,
            range,
            entries: Vec::new(),
            bytes: 0,
            last: None,
            stats: Stats::default(),
            scratch: self.pipeline.scratch(),
        }
    }

    /// Orders two entries: by time in the direction of the query, at one time by stream, the same in
    /// both directions.
    pub(super) fn order(&self, a: &Entry, b: &Entry) -> Ordering {
        order(self.query.direction, a, b)
    }
}

pub(super) fn order(direction: Direction, a: &Entry, b: &Entry) -> Ordering {
    let time = a.timestamp_ns.cmp(&b.timestamp_ns);
    let time = match direction {
        Direction::Forward => time,
        _ => time.reverse(),
    };
    time.then_with(|| a.stream.hash64().cmp(&b.stream.hash64()))
        .then_with(|| a.stream.cmp(&b.stream))
}

/// The rows of a batch, or what is wrong with it.
pub(super) fn row_batch(batch: Batch) -> Result<RowBatch, QueryError> {
    match batch {
        Batch::Rows(batch) => Ok(batch),
        Batch::Counts(_) => {
            let text = "a log store answered a query for lines with counts";
            Err(trine_storage::Error::new(Kind::Unsupported, text).into())
        }
    }
}

/// Lines in the order of the query.
pub(super) struct Collector<'a> {
    pipeline: &'a Pipeline,
    query: RangeQuery,
    range: TimeRange,
    pub(super) entries: Vec<Entry>,
    /// Bytes of their lines.
    bytes: u64,
    /// The timestamp of the last entry taken, for the interval.
    last: Option<i64>,
    pub(super) stats: Stats,
    scratch: Scratch,
}

impl Collector<'_> {
    /// Reads the range in order until there are enough lines. If `may_search`, and few lines pass, it
    /// gives what is left to be read; entries of its instants are let go of.
    pub(super) fn read(
        &mut self,
        reading: &Reading<'_>,
        permits: &Permits,
        may_search: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Option<TimeRange>, QueryError> {
        let budget = reading.budget;
        let request = Request::Rows(Rows {
            limit_hint: Some(self.query.limit),
            threads: permits.count() + 1,
            ..reading.rows(self.range, self.query.direction)
        });
        for batch in reading.source.scan(&request)? {
            budget.check()?;
            let Some(batch) = super::readable(batch, warnings)? else {
                continue;
            };
            let batch = row_batch(batch)?;
            let (held, bytes) = (self.entries.len(), self.bytes);
            let done = self.take(&batch);
            budget.hold_samples((self.entries.len() - held) as u64)?;
            budget.hold_bytes(self.bytes - bytes)?;
            if done {
                return Ok(None);
            }
            let seen = self.stats.lines_processed;
            let few = self.stats.lines_passed.saturating_mul(FEW_PASS) < seen;
            if may_search
                && few
                && seen >= SEEN_MIN
                && let Some(&last) = batch.timestamps.last()
            {
                self.entries.retain(|entry| entry.timestamp_ns != last);
                let TimeRange { start, end } = self.range;
                return Ok(Some(match self.query.direction {
                    Direction::Forward => TimeRange::new(last, end),
                    _ => TimeRange::inclusive(start, last),
                }));
            }
        }
        Ok(None)
    }

    /// Takes the lines of a batch; true when no later one can be wanted.
    fn take(&mut self, batch: &RowBatch) -> bool {
        let rows = batch.timestamps.len();
        self.stats.lines_processed += rows as u64;
        self.stats.bytes_processed += batch.lines.blob.len() as u64;
        let mut selected: Vec<bool> = batch
            .timestamps
            .iter()
            .map(|timestamp| self.range.contains(*timestamp))
            .collect();
        self.pipeline.select(&batch.lines, &mut selected);
        for (row, &timestamp) in batch.timestamps.iter().enumerate() {
            if self.is_full(timestamp) {
                return true;
            }
            if selected.get(row) != Some(&true) || self.is_too_close(timestamp) {
                continue;
            }
            self.take_row(batch, row, timestamp);
        }
        false
    }

    /// Whether the limit is reached and an entry of `timestamp` comes after all that are wanted.
    /// Entries of one instant are ordered at the end, so all of them are taken.
    fn is_full(&self, timestamp: i64) -> bool {
        self.entries.len() >= self.query.limit
            && self
                .entries
                .last()
                .is_none_or(|last| last.timestamp_ns != timestamp)
    }

    fn is_too_close(&self, timestamp: i64) -> bool {
        let distance = self.last.map(|last| timestamp.abs_diff(last));
        distance.is_some_and(|distance| distance < self.query.interval_ns.unsigned_abs())
    }

    fn take_row(&mut self, batch: &RowBatch, row: usize, timestamp: i64) {
        let empty = trine_storage::Labels::empty();
        let Some(stream) = batch.stream_of(row) else {
            return;
        };
        let metadata = batch
            .metadata_sets
            .get(batch.metadata_code(row) as usize)
            .unwrap_or(&empty);
        let line = batch.lines.get(row);
        self.scratch.timestamp_ns = timestamp;
        let Some(passed) = self.pipeline.run(line, stream, metadata, &mut self.scratch) else {
            return;
        };
        self.stats.lines_passed += 1;
        self.last = Some(timestamp);
        self.bytes += passed.line.len() as u64;
        self.entries.push(entry(timestamp, passed));
    }

    /// Orders entries of one instant by stream and cuts at the limit.
    fn finish(mut self) -> (LogRows, Stats) {
        let direction = self.query.direction;
        self.entries.sort_by(|a, b| order(direction, a, b));
        self.entries.truncate(self.query.limit);
        self.stats.entries_returned = self.entries.len() as u64;
        (
            LogRows {
                entries: self.entries,
            },
            self.stats,
        )
    }
}

/// The entry of a row that came through all stages.
pub(super) fn entry(timestamp_ns: i64, passed: Passed<'_>) -> Entry {
    Entry {
        timestamp_ns,
        stream: passed.labels.category(Category::Stream),
        metadata: passed.labels.category(Category::Metadata),
        parsed: passed.labels.category(Category::Parsed),
        line: passed.line.into_owned(),
    }
}
