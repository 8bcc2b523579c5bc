//! What a query gives, for the server to encode.

use std::collections::HashMap;

use trine_storage::Labels;

/// The answer to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// The answer.
    pub value: QueryValue,
    /// What it took.
    pub stats: Stats,
    /// What the caller should know about it.
    pub warnings: Vec<String>,
}

/// The kinds of answers.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// Lines.
    Streams(LogRows),
    /// Series with many points.
    Matrix(Vec<Series>),
    /// Series with one point.
    Vector(Vec<Sample>),
    /// A number.
    Scalar(Point),
}

/// A number at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// The number.
    pub value: f64,
}

/// A series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its points in order of time.
    pub points: Vec<Point>,
}

/// An element of a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: Labels,
    /// Nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// Its value.
    pub value: f64,
}

/// What a query took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Lines that the source gave.
    pub lines_processed: u64,
    /// Bytes of those lines.
    pub bytes_processed: u64,
    /// Lines that came through all stages.
    pub lines_passed: u64,
    /// Entries or series elements in the answer.
    pub entries_returned: u64,
}

/// The lines of a log query in the order asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRows {
    /// The lines.
    pub entries: Vec<Entry>,
}

/// A line with its labels by category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// The line as the pipeline left it.
    pub line: Vec<u8>,
    /// Labels of the stream.
    pub stream: Labels,
    /// Structured metadata.
    pub metadata: Labels,
    /// What the stages parsed, and the row's error.
    pub parsed: Labels,
}

impl Entry {
    /// All labels in one set.
    pub fn labels(&self) -> Labels {
        if self.metadata.is_empty() && self.parsed.is_empty() {
            return self.stream.clone();
        }
        // The categories share no names: a later one is renamed or replaces the earlier.
        let sets = [&self.stream, &self.metadata, &self.parsed];
        Labels::from_pairs(sets.into_iter().flatten()).unwrap_or_default()
    }
}

/// Lines with equal labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStream {
    /// The labels.
    pub labels: Labels,
    /// The lines in the order asked for.
    pub entries: Vec<StreamEntry>,
}

/// A line of a [`LogStream`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// The line.
    pub line: Vec<u8>,
    /// Structured metadata; empty when merged into the stream's labels.
    pub metadata: Labels,
    /// Parsed labels; empty when merged into the stream's labels.
    pub parsed: Labels,
}

impl LogRows {
    /// The lines by the labels of their streams, the other labels apart: what a client gets that
    /// asked for categorized labels. Streams in the order of their labels.
    pub fn categorized(self) -> Vec<LogStream> {
        group(self.entries, |entry| {
            let Entry {
                timestamp_ns,
                line,
                stream,
                metadata,
                parsed,
            } = entry;
            (
                stream,
                StreamEntry {
                    timestamp_ns,
                    line,
                    metadata,
                    parsed,
                },
            )
        })
    }

    /// The lines by all their labels: what any other client gets.
    pub fn merged(self) -> Vec<LogStream> {
        group(self.entries, |entry| {
            let labels = entry.labels();
            let Entry {
                timestamp_ns, line, ..
            } = entry;
            let (metadata, parsed) = (Labels::empty(), Labels::empty());
            (
                labels,
                StreamEntry {
                    timestamp_ns,
                    line,
                    metadata,
                    parsed,
                },
            )
        })
    }
}

fn group(entries: Vec<Entry>, split: impl Fn(Entry) -> (Labels, StreamEntry)) -> Vec<LogStream> {
    let mut streams: Vec<LogStream> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for entry in entries {
        let (labels, entry) = split(entry);
        let place = *places.entry(labels.clone()).or_insert(streams.len());
        match streams.get_mut(place) {
            Some(stream) => stream.entries.push(entry),
            None => streams.push(LogStream {
                labels,
                entries: vec![entry],
            }),
        }
    }
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    streams
}
