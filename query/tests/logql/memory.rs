//! Entries in memory as a source: gives unfiltered rows in small batches and counts nothing, so that
//! the engine has to do everything itself.

use bytes::Bytes;
use trine_query::logql::source::{Batch, Batches, Direction, Lines, Request, RowBatch, Source};
use trine_storage::{Error, Labels, Matcher, TimeRange};

/// How many rows a batch has at most.
const BATCH_ROWS: usize = 3;

/// A line.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) timestamp: i64,
    pub(super) stream: Labels,
    pub(super) metadata: Labels,
    pub(super) line: String,
}

/// Lines in the order in which they were appended.
#[derive(Debug)]
pub(super) struct Memory(pub(super) Vec<Entry>);

impl Memory {
    fn matching(&self, matchers: &[Matcher]) -> Vec<&Entry> {
        let matches = |entry: &&Entry| {
            let value = |matcher: &Matcher| entry.stream.get(matcher.name()).unwrap_or("");
            matchers
                .iter()
                .all(|matcher| matcher.matches(value(matcher)))
        };
        self.0.iter().filter(matches).collect()
    }

    fn values(&self, matchers: &[Matcher], of: impl Fn(&Labels) -> Vec<String>) -> Vec<String> {
        let entries = self.matching(matchers);
        let mut values: Vec<String> = entries.iter().flat_map(|e| of(&e.stream)).collect();
        values.sort();
        values.dedup();
        values
    }
}

fn to_batch(rows: &[&Entry]) -> RowBatch {
    let mut blob = Vec::new();
    let mut batch = RowBatch {
        metadata_sets: vec![Labels::empty()],
        ..RowBatch::default()
    };
    for (row, entry) in (0u32..).zip(rows) {
        batch.streams.push(entry.stream.clone());
        batch.stream.push(row);
        batch.metadata_sets.push(entry.metadata.clone());
        batch.metadata.push(row + 1);
        batch.timestamps.push(entry.timestamp);
        blob.extend_from_slice(entry.line.as_bytes());
        batch.lines.ends.push(u32::try_from(blob.len()).unwrap());
    }
    batch.lines = Lines {
        blob: Bytes::from(blob),
        ends: batch.lines.ends,
    };
    batch
}

impl Source for Memory {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let (matchers, direction) = match request {
            Request::Rows(rows) => (&rows.matchers, rows.direction),
            Request::Counts(counts) => (&counts.matchers, Direction::Any),
        };
        let mut entries = self.matching(matchers);
        entries.sort_by_key(|entry| entry.timestamp);
        if direction == Direction::Backward {
            entries.reverse();
        }
        let batches: Vec<_> = entries
            .chunks(BATCH_ROWS)
            .map(|rows| Ok(Batch::Rows(to_batch(rows))))
            .collect();
        Ok(Box::new(batches.into_iter()))
    }

    fn streams(&self, matchers: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, Error> {
        let entries = self.matching(matchers);
        let mut streams: Vec<Labels> = entries.iter().map(|e| e.stream.clone()).collect();
        streams.sort();
        streams.dedup();
        Ok(streams)
    }

    fn label_names(&self, matchers: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        let names = |labels: &Labels| labels.iter().map(|(name, _)| name.to_owned()).collect();
        Ok(self.values(matchers, names))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        _: TimeRange,
    ) -> Result<Vec<String>, Error> {
        Ok(self.values(matchers, |labels| {
            labels.get(name).map(str::to_owned).into_iter().collect()
        }))
    }
}
