//! Answers queries for lines: batch by batch in the order of time, until there are enough.

use trine_storage::{Kind, TimeRange};

use super::{Entry, LogRows, QueryResult, QueryValue, RangeQuery, Stats};
use crate::budget::Budget;
use crate::logql::ast::LogExpr;
use crate::logql::error::QueryError;
use crate::logql::pipeline::labels::{Category, Wanted};
use crate::logql::pipeline::{Pipeline, Scratch};
use crate::logql::source::{Batch, Direction, Projection, Request, RowBatch, Rows, Source};
use crate::threads::Permits;

/// The lines that `expr` gives in `[start, end)`.
pub(super) fn evaluate(
    source: &dyn Source,
    expr: &LogExpr,
    query: RangeQuery,
    budget: &Budget,
) -> Result<QueryResult, QueryError> {
    let pipeline = Pipeline::new(&expr.stages, Wanted::All)?;
    let range = TimeRange::new(query.start_ns, query.end_ns);
    let permits = Permits::take(usize::MAX);
    let request = Request::Rows(Rows {
        matchers: expr.selector.matchers.clone(),
        range,
        lines: pipeline.pushed().lines.clone(),
        metadata: pipeline.pushed().metadata.clone(),
        direction: query.direction,
        limit_hint: Some(query.limit),
        threads: permits.count() + 1,
        projection: Projection {
            lines: true,
            metadata: true,
        },
    });
    let mut collector = Collector {
        pipeline: &pipeline,
        query,
        range,
        entries: Vec::new(),
        bytes: 0,
        last: None,
        stats: Stats::default(),
        scratch: pipeline.scratch(),
    };
    let mut warnings = Vec::new();
    if query.limit > 0 && !range.is_empty() {
        for batch in source.scan(&request)? {
            budget.check()?;
            let Some(batch) = super::readable(batch, &mut warnings)? else {
                continue;
            };
            let Batch::Rows(batch) = batch else {
                let text = "a log store answered a query for lines with counts";
                return Err(trine_storage::Error::new(Kind::Unsupported, text).into());
            };
            let (held, bytes) = (collector.entries.len(), collector.bytes);
            let done = collector.take(&batch);
            budget.hold_samples((collector.entries.len() - held) as u64)?;
            budget.hold_bytes(collector.bytes - bytes)?;
            if done {
                break;
            }
        }
    }
    let (rows, stats) = collector.finish();
    Ok(QueryResult {
        value: QueryValue::Streams(rows),
        stats,
        warnings,
    })
}

struct Collector<'a> {
    pipeline: &'a Pipeline,
    query: RangeQuery,
    range: TimeRange,
    entries: Vec<Entry>,
    /// Bytes of their lines.
    bytes: u64,
    /// The timestamp of the last entry taken, for the interval.
    last: Option<i64>,
    stats: Stats,
    scratch: Scratch,
}

impl Collector<'_> {
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
        self.entries.push(Entry {
            timestamp_ns: timestamp,
            stream: passed.labels.category(Category::Stream),
            metadata: passed.labels.category(Category::Metadata),
            parsed: passed.labels.category(Category::Parsed),
            line: passed.line.into_owned(),
        });
    }

    /// Orders entries of one instant by stream, the same in both directions, and cuts at the limit.
    fn finish(mut self) -> (LogRows, Stats) {
        let forward = self.query.direction == Direction::Forward;
        self.entries.sort_by(|a, b| {
            let time = a.timestamp_ns.cmp(&b.timestamp_ns);
            let time = if forward { time } else { time.reverse() };
            time.then_with(|| a.stream.hash64().cmp(&b.stream.hash64()))
                .then_with(|| a.stream.cmp(&b.stream))
        });
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
