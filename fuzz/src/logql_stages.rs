//! The stages of LogQL's pipelines over any line: the first line of the input is the stages, the rest
//! is the log line. Parsers, patterns and templates must read or refuse both.

use bytes::Bytes;
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::source::{Batch, Batches, Direction, Lines, Request, RowBatch, Source};
use trine_query::logql::{Engine, QueryValue, RangeQuery, parse};
use trine_storage::{Error, Labels, Matcher, TimeRange};

/// Longer lines only make the target slow.
const LINE_BYTES_MAX: usize = 4096;

struct OneLine(Vec<u8>);

impl Source for OneLine {
    fn scan(&self, _: &Request) -> Result<Batches, Error> {
        let batch = RowBatch {
            streams: vec![Labels::from_pairs([("app", "a"), ("n", "7")])?],
            stream: vec![0],
            timestamps: vec![0],
            lines: Lines {
                blob: Bytes::from(self.0.clone()),
                ends: vec![self.0.len() as u32],
            },
            skeletons: None,
            metadata_sets: vec![Labels::empty()],
            metadata: Vec::new(),
        };
        Ok(Box::new(std::iter::once(Ok(Batch::Rows(batch)))))
    }

    fn streams(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, Error> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let stages = parts
        .next()
        .and_then(|stages| std::str::from_utf8(stages).ok());
    let line = parts.next().unwrap_or_default();
    let line = &line[..line.len().min(LINE_BYTES_MAX)];
    let Some(query) = stages.and_then(|stages| parse(&format!("{{app=\"a\"}} {stages}")).ok())
    else {
        return;
    };
    let range = RangeQuery {
        start_ns: 0,
        end_ns: 1,
        step_ns: 1,
        direction: Direction::Forward,
        limit: 10,
        interval_ns: 0,
    };
    let engine = Engine::new(Limits::default());
    let found = engine.range(&OneLine(line.to_vec()), &query, range, &Cancel::new());
    if let Ok(found) = found
        && let QueryValue::Streams(rows) = found.value
    {
        assert!(rows.entries.len() <= 1, "one line came in");
    }
}
