//! The source over a snapshot of the log engine: hands requests down and answers up. Both sides
//! have types of the same shape, since the engine does not know the query languages; columns are
//! moved, not copied.

mod conditions;

use std::ops::Range;
use std::sync::Arc;

use trine_logstore as engine;
use trine_storage::{Error, Labels, Matcher, TimeRange};

pub use self::conditions::Conditions;
use super::ast;
use super::pipeline::line_filter::LineTest;
use super::source::{
    Batch, Batches, CountBatch, Direction, LineFilter, Lines, Measure, Projection, Request,
    RowBatch, STAND_IN, Skeletons, Source,
};

impl Source for engine::Snapshot {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let batches = self.scan(&lower(request))?;
        Ok(Box::new(batches.map(|batch| batch.map(raise))))
    }

    fn scan_parts(&self, request: &Request, parts: usize) -> Result<Vec<Batches>, Error> {
        let raised =
            |part: engine::Batches| -> Batches { Box::new(part.map(|batch| batch.map(raise))) };
        let parts = self.scan_parts(&lower(request), parts)?;
        Ok(parts.into_iter().map(raised).collect())
    }

    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error> {
        self.streams(matchers, range)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error> {
        self.label_names(matchers, range)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        self.label_values(name, matchers, range)
    }
}

fn lower(request: &Request) -> engine::Request {
    match request {
        Request::Rows(rows) => {
            let Projection {
                lines,
                metadata,
                skeletons,
            } = rows.projection;
            engine::Request::Rows(engine::Rows {
                matchers: rows.matchers.clone(),
                range: rows.range,
                lines: rows.lines.iter().map(lower_filter).collect(),
                metadata: rows.metadata.clone(),
                either: rows.either.as_ref().map(|either| engine::Either {
                    line: lower_filter(&either.line),
                    metadata: either.metadata.clone(),
                }),
                direction: match rows.direction {
                    Direction::Forward => engine::Direction::Forward,
                    Direction::Backward => engine::Direction::Backward,
                    Direction::Any => engine::Direction::Any,
                },
                limit_hint: rows.limit_hint,
                projection: engine::Projection {
                    lines,
                    metadata,
                    skeletons,
                },
                threads: rows.threads,
                index: true,
            })
        }
        Request::Counts(counts) => engine::Request::Counts(engine::Counts {
            matchers: counts.matchers.clone(),
            range: counts.range,
            bucket_ns: counts.bucket_ns,
            measure: match counts.measure {
                Measure::Lines => engine::Measure::Lines,
                Measure::Bytes => engine::Measure::Bytes,
            },
            lines: counts.lines.iter().map(lower_filter).collect(),
            metadata: counts.metadata.clone(),
            by: counts.by.clone(),
            threads: counts.threads,
            index: true,
        }),
    }
}

/// The conditions that a store may ask of lines before `filter` does, and whether they say all that it
/// does.
///
/// # Errors
/// What is wrong with the filter, in Loki's words.
pub fn conditions(filter: &ast::LineFilter) -> Result<(Vec<engine::LineFilter>, bool), String> {
    let mut told = Vec::new();
    let is_all = LineTest::new(filter)?.pushdown(&mut told);
    Ok((told.iter().map(lower_filter).collect(), is_all))
}

fn lower_filter(filter: &LineFilter) -> engine::LineFilter {
    match filter {
        LineFilter::Contains(literal) => engine::LineFilter::Contains(literal.clone()),
        LineFilter::NotContains(literal) => engine::LineFilter::NotContains(literal.clone()),
        LineFilter::ContainsAny(literals) => engine::LineFilter::ContainsAny(literals.clone()),
        LineFilter::ContainsWhole { text, or } => engine::LineFilter::ContainsWhole {
            text: text.clone(),
            or: or.clone(),
        },
        LineFilter::Matches(regex) => engine::LineFilter::Matches(regex.clone()),
        LineFilter::NotMatches(regex) => engine::LineFilter::NotMatches(regex.clone()),
    }
}

const _: () = assert!(
    STAND_IN == engine::Skeletons::STAND_IN,
    "both mean the same"
);

impl Skeletons for engine::Skeletons {
    fn get(&self, row: usize) -> &[u8] {
        self.get(row)
    }

    fn line_bytes(&self) -> u64 {
        self.line_bytes()
    }

    fn write(&self, row: usize, part: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(row, part, out)
    }
}

impl From<engine::RowBatch> for RowBatch {
    fn from(rows: engine::RowBatch) -> Self {
        Self {
            streams: rows.streams,
            stream: rows.stream,
            timestamps: rows.timestamps,
            lines: Lines {
                blob: rows.lines.blob,
                ends: rows.lines.ends,
            },
            skeletons: rows
                .skeletons
                .map(|skeletons| skeletons as Arc<dyn Skeletons>),
            metadata_sets: rows.metadata_sets,
            metadata: rows.metadata,
        }
    }
}

fn raise(batch: engine::Batch) -> Batch {
    match batch {
        engine::Batch::Rows(rows) => Batch::Rows(rows.into()),
        engine::Batch::Counts(counts) => Batch::Counts(CountBatch {
            streams: counts.streams,
            groups: counts.groups,
            stream: counts.stream,
            group: counts.group,
            bucket: counts.bucket,
            count: counts.count,
        }),
    }
}

#[cfg(test)]
mod tests {
    use trine_logstore::{Durability, LogStore};
    use trine_storage::Labels;
    use trine_storage::clock::SystemClock;

    use crate::budget::{Cancel, Limits};
    use crate::logql::{Engine, QueryValue, RangeQuery, parse};

    const SECOND: i64 = 1_000_000_000;

    /// Counts and lines of a few entries, asked for by LogQL.
    fn check(store: &LogStore, base: i64) {
        let snapshot = store.snapshot();
        let engine = Engine::new(Limits::default());
        let cancel = Cancel::new();
        for (query, expect) in [
            ("sum(count_over_time({app=\"api\"}[1m]))", 3.0),
            ("sum(count_over_time({app=\"api\"} |= \"GET\" [1m]))", 2.0),
            (
                "sum by (level) (count_over_time({app=\"api\", level=\"info\"}[1m]))",
                2.0,
            ),
            (
                "sum(bytes_over_time({app=\"api\"} | logfmt | n > 1 [1m]))",
                12.0,
            ),
        ] {
            let at = base + 10 * SECOND;
            let result = engine
                .instant(&snapshot, &parse(query).unwrap(), at, &cancel)
                .unwrap();
            let QueryValue::Vector(samples) = result.value else {
                panic!("{query}")
            };
            let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
            assert_eq!(values, [expect], "{query}");
        }
        let range = RangeQuery {
            start_ns: base,
            end_ns: base + 10 * SECOND,
            step_ns: SECOND,
            direction: crate::logql::source::Direction::Backward,
            limit: 2,
            interval_ns: 0,
        };
        let query = parse("{app=\"api\"} | logfmt").unwrap();
        let result = engine.range(&snapshot, &query, range, &cancel).unwrap();
        let QueryValue::Streams(rows) = result.value else {
            panic!("not lines")
        };
        let found: Vec<(&[u8], String, String)> = rows
            .entries
            .iter()
            .map(|e| {
                (
                    e.line.as_slice(),
                    e.metadata.to_string(),
                    e.parsed.to_string(),
                )
            })
            .collect();
        let none = || "{}".to_owned();
        assert_eq!(
            found,
            [
                (&b"GET /b n=3 x"[..], none(), "{n=\"3\"}".to_owned()),
                (
                    &b"POST n=1"[..],
                    "{trace=\"t\"}".to_owned(),
                    "{n=\"1\"}".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn queries_answer_from_memory_and_from_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        // Recent, so that retention and limits on age do not touch it.
        let now = trine_storage::clock::Clock::now_ns(&SystemClock::new());
        let base = (now / SECOND - 60) * SECOND;
        let info = Labels::from_pairs([("app", "api"), ("level", "info")]).unwrap();
        let warn = Labels::from_pairs([("app", "api"), ("level", "warn")]).unwrap();
        let trace = Labels::from_pairs([("trace", "t")]).unwrap();
        let mut appender = store.appender();
        appender.append(&info, base + SECOND, b"GET /a", &Labels::empty());
        appender.append(&warn, base + 2 * SECOND, b"POST n=1", &trace);
        appender.append(&info, base + 3 * SECOND, b"GET /b n=3 x", &Labels::empty());
        appender
            .commit(Durability::Buffered)
            .unwrap()
            .wait()
            .unwrap();
        check(&store, base);
        store.flush().unwrap();
        check(&store, base);
        store.close().unwrap();
    }
}
