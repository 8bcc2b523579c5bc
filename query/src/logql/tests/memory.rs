//! A source that holds its entries in a vector, and stores with the same entries, for tests.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use trine_logstore::{Config, Durability, LogStore};
use trine_storage::{Error, Labels, Matcher, TimeRange};

use crate::logql::source::{
    Batch, Batches, CountBatch, Counts, Direction, LineFilter, Lines, Measure, Request, RowBatch,
    Rows, STAND_IN, Skeletons, Source,
};

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) timestamp: i64,
    pub(super) stream: Labels,
    pub(super) metadata: Labels,
    pub(super) line: Vec<u8>,
}

/// How [`Memory`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// Requests for counts with counts.
    Counts,
    /// All requests with rows that it did not filter, more than asked in time.
    Rows,
}

/// The entries, in the order in which they were added.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) entries: Vec<Entry>,
    pub(super) answers: Answers,
    /// Rows in a batch.
    pub(super) batch: usize,
}

impl Memory {
    fn matching<'a>(&'a self, matchers: &'a [Matcher]) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(|entry| {
            matchers
                .iter()
                .all(|matcher| matcher.matches_labels(&entry.stream))
        })
    }

    fn rows(&self, request: &Rows) -> Vec<Batch> {
        let mut entries: Vec<&Entry> = self.matching(&request.matchers).collect();
        if self.answers == Answers::Counts {
            entries.retain(|entry| {
                request.range.contains(entry.timestamp)
                    && request
                        .lines
                        .iter()
                        .all(|filter| passes(filter, &entry.line))
                    && request
                        .metadata
                        .iter()
                        .all(|condition| holds(condition, entry))
                    && request.either.as_ref().is_none_or(|either| {
                        passes(&either.line, &entry.line) || holds(&either.metadata, entry)
                    })
            });
        }
        entries.sort_by_key(|entry| entry.timestamp);
        if request.direction == Direction::Backward {
            entries.reverse();
        }
        let batch = |rows: &[&Entry]| {
            let mut batch = to_batch(rows);
            if self.answers == Answers::Counts && request.projection.skeletons {
                assert_eq!(request.direction, Direction::Any, "skeletons have no order");
                if let Some(lines) = LeftOut::new(rows) {
                    batch.skeletons = Some(Arc::new(lines));
                    batch.lines = Lines::default();
                }
            }
            Batch::Rows(batch)
        };
        entries.chunks(self.batch).map(batch).collect()
    }

    fn counts(&self, request: &Counts) -> CountBatch {
        let mut batch = CountBatch::default();
        for entry in self.matching(&request.matchers) {
            let lines = request.lines.iter();
            let metadata = request.metadata.iter();
            if !lines.clone().all(|filter| passes(filter, &entry.line))
                || !metadata.clone().all(|condition| holds(condition, entry))
            {
                continue;
            }
            let distance = entry.timestamp - request.range.start;
            if distance <= 0 || !request.range.contains(entry.timestamp) {
                continue;
            }
            batch.stream.push(batch.streams.len() as u32);
            batch.streams.push(entry.stream.clone());
            let of_group = |name: &str| request.by.iter().any(|by| by == name);
            batch.group.push(batch.groups.len() as u32);
            batch.groups.push(entry.metadata.filter(of_group));
            batch
                .bucket
                .push(((distance - 1) / request.bucket_ns) as u32);
            batch.count.push(match request.measure {
                Measure::Lines => 1,
                Measure::Bytes => entry.line.len() as u64,
            });
        }
        batch
    }
}

/// Whether `text` is in the line with no byte of a word next to it.
fn whole(line: &[u8], text: &[u8]) -> bool {
    let of_word =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || !b.is_ascii());
    (0..=line.len()).any(|at| {
        let before = at.checked_sub(1).and_then(|before| line.get(before));
        line[at..].starts_with(text) && !of_word(before) && !of_word(line.get(at + text.len()))
    })
}

fn passes(filter: &LineFilter, line: &[u8]) -> bool {
    let contains = |literal: &Bytes| {
        literal.is_empty() || line.windows(literal.len()).any(|window| window == literal)
    };
    match filter {
        LineFilter::Contains(literal) => contains(literal),
        LineFilter::NotContains(literal) => !contains(literal),
        LineFilter::ContainsAny(literals) => literals.iter().any(contains),
        LineFilter::ContainsWhole { text, or } => {
            whole(line, text) || or.as_ref().is_some_and(contains)
        }
        LineFilter::Matches(regex) => regex.is_match(line),
        LineFilter::NotMatches(regex) => !regex.is_match(line),
    }
}

fn holds(condition: &Matcher, entry: &Entry) -> bool {
    let name = condition.name();
    let value = entry.stream.get(name).or_else(|| entry.metadata.get(name));
    condition.matches(value.unwrap_or(""))
}

/// Lines without some of their numbers and ids, as a store may give them.
#[derive(Debug)]
struct LeftOut {
    skeletons: Vec<Vec<u8>>,
    /// For each line what was left out.
    variables: Vec<Vec<Vec<u8>>>,
}

impl LeftOut {
    /// `None` when a line has the byte that stands in.
    fn new(rows: &[&Entry]) -> Option<Self> {
        let (mut skeletons, mut variables) = (Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            if row.line.contains(&STAND_IN) {
                return None;
            }
            let (mut skeleton, mut left_out) = (Vec::new(), Vec::new());
            let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
            for token in row.line.chunk_by(|a, b| of_token(a) && of_token(b)) {
                // Ids as a whole, numbers in words, and some of both not at all.
                let is_id = token.len() > 1 && token.iter().all(u8::is_ascii_hexdigit);
                let parts: Vec<&[u8]> = match is_id {
                    true => vec![token],
                    false => token
                        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
                        .collect(),
                };
                for part in parts {
                    let is_variable = is_id || part[0].is_ascii_digit();
                    if is_variable && (at + skeleton.len()) % 4 > 0 {
                        skeleton.push(STAND_IN);
                        left_out.push(part.to_vec());
                    } else {
                        skeleton.extend_from_slice(part);
                    }
                }
            }
            skeletons.push(skeleton);
            variables.push(left_out);
        }
        Some(Self {
            skeletons,
            variables,
        })
    }
}

impl Skeletons for LeftOut {
    fn get(&self, row: usize) -> &[u8] {
        &self.skeletons[row]
    }

    fn line_bytes(&self) -> u64 {
        let mut line = Vec::new();
        for row in 0..self.skeletons.len() {
            self.write_line(row, &mut line).unwrap();
        }
        line.len() as u64
    }

    fn write(&self, row: usize, part: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error> {
        let (before, rest) = self.skeletons[row].split_at(part.start);
        let first = before.iter().filter(|byte| **byte == STAND_IN).count();
        let mut variables = self.variables[row][first..].iter();
        for byte in &rest[..part.len()] {
            match *byte {
                STAND_IN => out.extend_from_slice(variables.next().unwrap()),
                byte => out.push(byte),
            }
        }
        Ok(())
    }
}

fn to_batch(rows: &[&Entry]) -> RowBatch {
    let mut blob = Vec::new();
    let mut batch = RowBatch {
        metadata_sets: vec![Labels::empty()],
        ..RowBatch::default()
    };
    for row in rows {
        let stream = batch
            .streams
            .iter()
            .position(|stream| *stream == row.stream);
        let stream = stream.unwrap_or_else(|| {
            batch.streams.push(row.stream.clone());
            batch.streams.len() - 1
        });
        let set = batch
            .metadata_sets
            .iter()
            .position(|set| *set == row.metadata);
        let set = set.unwrap_or_else(|| {
            batch.metadata_sets.push(row.metadata.clone());
            batch.metadata_sets.len() - 1
        });
        batch.stream.push(stream as u32);
        batch.metadata.push(set as u32);
        batch.timestamps.push(row.timestamp);
        blob.extend_from_slice(&row.line);
        batch.lines.ends.push(blob.len() as u32);
    }
    batch.lines = Lines {
        blob: Bytes::from(blob),
        ends: batch.lines.ends,
    };
    batch
}

impl Source for Memory {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let batches = match request {
            Request::Rows(rows) => self.rows(rows),
            Request::Counts(counts) if self.answers == Answers::Counts => {
                vec![Batch::Counts(self.counts(counts))]
            }
            Request::Counts(counts) => self.rows(&Rows {
                matchers: counts.matchers.clone(),
                range: counts.range,
                lines: Vec::new(),
                metadata: Vec::new(),
                either: None,
                threads: 1,
                direction: Direction::Forward,
                limit_hint: None,
                projection: crate::logql::source::Projection {
                    lines: true,
                    metadata: false,
                    skeletons: false,
                },
            }),
        };
        Ok(Box::new(batches.into_iter().map(Ok)))
    }

    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error> {
        let inside = self
            .matching(matchers)
            .filter(|entry| range.contains(entry.timestamp));
        let mut streams: Vec<Labels> = inside.map(|entry| entry.stream.clone()).collect();
        streams.sort();
        streams.dedup();
        Ok(streams)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error> {
        let streams = self.streams(matchers, range)?;
        let names = streams
            .iter()
            .flat_map(|stream| stream.iter().map(|(name, _)| name.to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        let streams = self.streams(matchers, range)?;
        let values = streams
            .iter()
            .filter_map(|stream| stream.get(name).map(ToOwned::to_owned));
        let mut values: Vec<String> = values.collect();
        values.sort();
        values.dedup();
        Ok(values)
    }
}

/// A store with these entries, so many of which lie in each block; the last ones are in memory.
pub(super) fn filled(dir: &std::path::Path, entries: &[Entry], in_block: usize) -> LogStore {
    let config = Config {
        retention: None,
        future_max: None,
        ..Config::default()
    };
    let store = LogStore::builder(dir).config(config).open().unwrap();
    for part in entries.chunks(in_block) {
        store.flush().unwrap();
        let mut appender = store.appender();
        for entry in part {
            appender.append(&entry.stream, entry.timestamp, &entry.line, &entry.metadata);
        }
        appender
            .commit(Durability::Buffered)
            .unwrap()
            .wait()
            .unwrap();
    }
    store
}
