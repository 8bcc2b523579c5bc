//! What is in blocks and memory and is not to be seen: deleted entries and expired ones. Scans,
//! figures and merges ask for the [`Veil`] of a place, then for that of each stream.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use trine_storage::catalog::{BlockMeta, Delete};
use trine_storage::regex::LineRegex;
use trine_storage::{Error, Kind, Labels, MatchOp, Matcher, Result, TimeRange};

use crate::block::format::ChunkHeader;
use crate::block::reader::{BlockFile, Tables};
use crate::columns::Columns;
use crate::condition::{Asked, Language, Spoken};
use crate::filter::{Filters, Text};
use crate::request::LineFilter;
use crate::retention::Retention;

/// Deletes that are in force, by number.
pub(crate) type Tombstones = Vec<Arc<Tombstone>>;

/// One delete, ready to be asked.
#[derive(Debug)]
pub(crate) struct Tombstone {
    pub(crate) delete: Delete,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) lines: Vec<LineFilter>,
    /// What else is asked of entries.
    pub(crate) condition: Option<Spoken>,
    filters: Filters,
}

/// What is not to be seen of a store at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    pub(crate) tombstones: Arc<Tombstones>,
    pub(crate) retention: Arc<Retention>,
    pub(crate) now_ns: i64,
}

/// What is not to be seen of one block, or of memory.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    tombstones: Tombstones,
    expiry: Option<(Arc<Retention>, i64)>,
}

/// Columns of entries that are looked at to say what of them is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    pub(crate) lines: bool,
    pub(crate) metadata: bool,
}

/// Entries of a place, as far as [`Needs`] says that they are looked at.
#[derive(Clone, Copy)]
pub(crate) struct Looked<'a> {
    pub(crate) timestamps: &'a [i64],
    pub(crate) text: Text<'a>,
    /// The metadata of a row.
    pub(crate) metadata: &'a dyn Fn(u32) -> Labels,
}

/// What is not to be seen of one stream in one place.
#[derive(Debug)]
pub(crate) struct StreamVeil {
    labels: Labels,
    /// Entries before this are expired.
    oldest_ns: i64,
    tombstones: Tombstones,
}

/// What is not to be seen of the streams of one place, by their codes there.
#[derive(Debug, Default)]
pub(crate) struct Veils {
    /// Of the streams that differ from `others`.
    streams: HashMap<u32, StreamVeil>,
    /// Of all other streams, when something of them is hidden.
    others: Option<StreamVeil>,
}

impl Needs {
    /// Unpacks what is needed of a chunk, of which `columns` has the timestamps.
    pub(crate) fn load(
        self,
        file: &BlockFile,
        header: &ChunkHeader,
        columns: &mut Columns,
    ) -> Result<()> {
        if self.lines {
            (columns.blob, columns.ends) = file.lines(header, &columns.timestamps)?;
        }
        if self.metadata
            && let Some(metadata) = file.metadata(header)?
        {
            let all: Vec<u32> = (0..header.rows).collect();
            (columns.sets, columns.metadata) = metadata.sets_of(&all)?;
        }
        Ok(())
    }
}

impl Tombstone {
    /// A delete of the entries of the streams that satisfy all `matchers` whose lines satisfy all
    /// of `lines`, and which meet the condition.
    ///
    /// # Errors
    /// [`Kind::Limit`] for filters that are too large.
    pub(crate) fn new(
        delete: Delete,
        matchers: &[Matcher],
        lines: &[LineFilter],
        condition: Option<Spoken>,
    ) -> Result<Self> {
        Ok(Self {
            condition,
            delete,
            matchers: matchers.to_vec(),
            lines: lines.to_vec(),
            filters: Filters::new(lines)?,
        })
    }

    /// Reads all deletes of the catalog.
    ///
    /// # Errors
    /// As [`Tombstone::from_catalog`].
    pub(crate) fn all(deletes: &[Delete], language: Option<&dyn Language>) -> Result<Tombstones> {
        let deletes = deletes.iter().cloned();
        let tombstone = |delete| Self::from_catalog(delete, language).map(Arc::new);
        deletes.map(tombstone).collect()
    }

    /// Reads matchers and filters back from the words of the catalog.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when they are none, [`Kind::Limit`] for filters that are too large, those of
    /// [`Spoken::new`].
    pub(crate) fn from_catalog(delete: Delete, language: Option<&dyn Language>) -> Result<Self> {
        let bad =
            |what: &str| Error::new(Kind::Corrupt, format!("delete {}: {what}", delete.number));
        let words: Value =
            serde_json::from_str(&delete.what).map_err(|error| bad(&error.to_string()))?;
        let list = |name: &str| {
            let list = words.get(name).and_then(Value::as_array);
            list.ok_or_else(|| bad(&format!("it has no list of {name}")))
        };
        let matchers = list("matchers")?.iter().map(matcher_of);
        let matchers = matchers.collect::<Option<Result<Vec<Matcher>>>>();
        let lines = list("lines")?.iter().map(line_of);
        let lines = lines.collect::<Option<Vec<LineFilter>>>();
        let matchers = matchers.ok_or_else(|| bad("a matcher makes no sense"))??;
        let lines = lines.ok_or_else(|| bad("a line filter makes no sense"))?;
        let condition = match words.get("where") {
            Some(text) => {
                let text = text
                    .as_str()
                    .ok_or_else(|| bad("its condition is no text"))?;
                Some(Spoken::new(text, language)?)
            }
            None => None,
        };
        Self::new(delete, &matchers, &lines, condition)
    }

    /// Whether it deletes all that is in its streams and its range.
    fn is_whole(&self) -> bool {
        self.filters.is_empty() && self.condition.is_none()
    }

    /// Adds to `gone` those of `rows`, all of `stream`, which it concerns, that it deletes.
    fn deleted(&self, stream: &Labels, looked: Looked<'_>, rows: &[u32], gone: &mut Vec<u32>) {
        let inside = |row: &&u32| {
            let timestamp = looked.timestamps.get(**row as usize);
            timestamp.is_some_and(|timestamp| self.delete.range.contains(*timestamp))
        };
        let mut rows: Vec<u32> = rows.iter().filter(inside).copied().collect();
        self.filters.retain(looked.text, &mut rows);
        if let Some(spoken) = &self.condition
            && !rows.is_empty()
        {
            let mut asked = Asked::of(stream);
            for &row in &rows {
                let timestamp = looked.timestamps.get(row as usize).copied();
                let line = looked.text.line(row as usize);
                asked.push(timestamp.unwrap_or(0), line, (looked.metadata)(row));
            }
            let mut met = asked.ask(&*spoken.condition).into_iter();
            rows.retain(|_| met.next() == Some(true));
        }
        gone.append(&mut rows);
    }
}

impl Hidden {
    /// What is not to be seen of a place, of memory when there is no `block`, in `range`.
    pub(crate) fn veil(&self, block: Option<&BlockMeta>, range: TimeRange) -> Veil {
        // Memory is sealed before anything is deleted.
        let concerns = |tombstone: &&Arc<Tombstone>| {
            block.is_some_and(|block| tombstone.delete.concerns(block))
                && tombstone.delete.range.overlaps(&range)
        };
        let expires = range.start < self.retention.newest_expired_ns(self.now_ns);
        Veil {
            tombstones: self.tombstones.iter().filter(concerns).cloned().collect(),
            expiry: expires.then(|| (Arc::clone(&self.retention), self.now_ns)),
        }
    }
}

impl Veil {
    /// Whether everything is to be seen: streams need not be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.tombstones.is_empty() && self.expiry.is_none()
    }

    /// Whether it depends on the stream what is hidden.
    pub(crate) fn needs_streams(&self) -> bool {
        !self.tombstones.is_empty() || self.differs()
    }

    /// Whether streams expire at different times.
    fn differs(&self) -> bool {
        let expiry = self.expiry.as_ref();
        expiry.is_some_and(|(retention, _)| retention.differs())
    }

    /// The streams of a block of which something may be hidden, by code.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when the block's label index is damaged.
    pub(crate) fn streams_of(&self, tables: &Tables) -> Result<Vec<(u32, Labels)>> {
        let mut streams = RoaringBitmap::new();
        if self.differs() {
            streams.insert_range(0..u32::try_from(tables.index.len()).unwrap_or(u32::MAX));
        } else {
            for tombstone in &self.tombstones {
                streams |= tables.select(&tombstone.matchers)?;
            }
        }
        tables.labels_of(&streams)
    }

    /// What is not to be seen of a stream.
    pub(crate) fn of_stream(&self, labels: &Labels) -> StreamVeil {
        let concerns = |tombstone: &&Arc<Tombstone>| {
            let mut matchers = tombstone.matchers.iter();
            matchers.all(|matcher| matcher.matches_labels(labels))
        };
        let oldest_ns = self
            .expiry
            .as_ref()
            .map_or(i64::MIN, |(retention, now_ns)| {
                retention.oldest_ns(labels, *now_ns)
            });
        StreamVeil {
            labels: labels.clone(),
            oldest_ns,
            tombstones: self.tombstones.iter().filter(concerns).cloned().collect(),
        }
    }
}

impl Veils {
    /// What `veil` hides of `streams`, which are not looked at unless [`Veil::needs_streams`].
    pub(crate) fn new<'a>(veil: &Veil, streams: impl Iterator<Item = (u32, &'a Labels)>) -> Self {
        let mut veils = Self::default();
        if veil.needs_streams() {
            let of_stream = |(code, labels)| (code, veil.of_stream(labels));
            let differs = |(_, of_stream): &(u32, StreamVeil)| {
                !of_stream.tombstones.is_empty() || veil.differs() && of_stream.oldest_ns > i64::MIN
            };
            veils.streams = streams.map(of_stream).filter(differs).collect();
        }
        if veil.expiry.is_some() && !veil.differs() {
            veils.others = Some(StreamVeil {
                tombstones: Vec::new(),
                ..veil.of_stream(&Labels::empty())
            });
        }
        veils
    }

    /// Whether everything is to be seen.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.others.is_none()
    }

    /// What is hidden of a stream; `None` when nothing is.
    pub(crate) fn of(&self, stream: u32) -> Option<&StreamVeil> {
        // Most places have nothing to hide: no hash is computed then.
        if self.streams.is_empty() {
            return self.others.as_ref();
        }
        self.streams.get(&stream).or(self.others.as_ref())
    }

    /// What is looked at to say which of `rows` are hidden.
    pub(crate) fn needs(&self, columns: &Columns, rows: &[u32]) -> Needs {
        let mut needs = Needs::default();
        if self.is_empty() {
            return needs;
        }
        for rows in rows.chunk_by(|a, b| same_stream(columns, *a, *b)) {
            if let Some(veil) = self.of(stream_of(columns, rows)) {
                let instants = rows.iter().map(|&row| columns.timestamps[row as usize]);
                let first = instants.clone().min().unwrap_or(0);
                let last = instants.max().unwrap_or(0);
                let of_stream = veil.needs(TimeRange::inclusive(first, last));
                needs.lines |= of_stream.lines;
                needs.metadata |= of_stream.metadata;
            }
        }
        needs
    }

    /// Takes out of `rows`, ascending, what is hidden. `columns` has what [`Veils::needs`].
    pub(crate) fn retain(&self, columns: &Columns, rows: &mut Vec<u32>) {
        if self.is_empty() {
            return;
        }
        let metadata = |row: u32| columns.sets.labels(columns.set_code(row as usize));
        let looked = Looked {
            timestamps: &columns.timestamps,
            text: columns.text(),
            metadata: &metadata,
        };
        let mut kept = Vec::with_capacity(rows.len());
        for rows in rows.chunk_by(|a, b| same_stream(columns, *a, *b)) {
            let from = kept.len();
            kept.extend_from_slice(rows);
            if let Some(veil) = self.of(stream_of(columns, rows)) {
                veil.retain(looked, &mut kept, from);
            }
        }
        *rows = kept;
    }
}

fn stream_of(columns: &Columns, rows: &[u32]) -> u32 {
    rows.first().map_or(0, |&row| columns.streams[row as usize])
}

fn same_stream(columns: &Columns, a: u32, b: u32) -> bool {
    columns.streams[a as usize] == columns.streams[b as usize]
}

impl StreamVeil {
    /// Whether something in `range` may be hidden.
    pub(crate) fn touches(&self, range: TimeRange) -> bool {
        range.start < self.oldest_ns
            || self
                .tombstones
                .iter()
                .any(|tombstone| tombstone.delete.range.overlaps(&range))
    }

    /// Whether everything in `range` is hidden, as far as is known without looking at it.
    pub(crate) fn covers(&self, range: TimeRange) -> bool {
        range.end <= self.oldest_ns
            || self.tombstones.iter().any(|tombstone| {
                let deleted = tombstone.delete.range;
                let whole = deleted.start <= range.start && range.end <= deleted.end;
                whole && tombstone.is_whole()
            })
    }

    /// What is looked at to say what in `range` is hidden.
    pub(crate) fn needs(&self, range: TimeRange) -> Needs {
        let tombstones = self.tombstones.iter();
        let mut touching = tombstones.filter(|held| held.delete.range.overlaps(&range));
        Needs {
            lines: touching.clone().any(|tombstone| !tombstone.is_whole()),
            metadata: touching.any(|tombstone| tombstone.condition.is_some()),
        }
    }

    /// Takes out of `rows`, from index `from` on, what is hidden; all of them are rows of this
    /// stream, ascending. `looked` has of them what [`StreamVeil::needs`].
    pub(crate) fn retain(&self, looked: Looked<'_>, rows: &mut Vec<u32>, from: usize) {
        let mut tail = rows.split_off(from.min(rows.len()));
        tail.retain(|&row| {
            let timestamp = looked.timestamps.get(row as usize);
            timestamp.is_some_and(|&timestamp| timestamp >= self.oldest_ns)
        });
        if !self.tombstones.is_empty() {
            let mut gone = Vec::new();
            for tombstone in &self.tombstones {
                tombstone.deleted(&self.labels, looked, &tail, &mut gone);
            }
            gone.sort_unstable();
            tail.retain(|row| gone.binary_search(row).is_err());
        }
        rows.append(&mut tail);
    }
}

/// Matchers, filters and the text of a condition in the words of the catalog.
pub(crate) fn words(matchers: &[Matcher], lines: &[LineFilter], condition: Option<&str>) -> String {
    let matcher = |m: &Matcher| json!([m.name(), m.op().to_string(), m.value()]);
    let matchers: Vec<Value> = matchers.iter().map(matcher).collect();
    let lines: Vec<Value> = lines.iter().map(line_words).collect();
    match condition {
        Some(text) => json!({ "matchers": matchers, "lines": lines, "where": text }),
        None => json!({ "matchers": matchers, "lines": lines }),
    }
    .to_string()
}

fn matcher_of(words: &Value) -> Option<Result<Matcher>> {
    let [name, op, value] = words.as_array()?.as_slice() else {
        return None;
    };
    let op = match op.as_str()? {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Match,
        "!~" => MatchOp::NotMatch,
        _ => return None,
    };
    Some(Matcher::new(op, name.as_str()?, value.as_str()?))
}

fn line_words(filter: &LineFilter) -> Value {
    match filter {
        LineFilter::Contains(literal) => json!(["|=", literal_words(literal)]),
        LineFilter::NotContains(literal) => json!(["!=", literal_words(literal)]),
        LineFilter::ContainsAny(literals) => {
            let literals: Vec<Value> = literals.iter().map(literal_words).collect();
            json!(["or", literals])
        }
        LineFilter::ContainsWhole { text, or } => {
            let literals: Vec<Value> = [text].into_iter().chain(or).map(literal_words).collect();
            json!(["whole", literals])
        }
        LineFilter::Matches(regex) => json!(["|~", regex.pattern()]),
        LineFilter::NotMatches(regex) => json!(["!~", regex.pattern()]),
    }
}

/// Lines are any bytes: what is no text is written as numbers.
fn literal_words(literal: &Bytes) -> Value {
    match std::str::from_utf8(literal) {
        Ok(text) => json!(text),
        Err(_) => json!(literal.as_ref()),
    }
}

fn line_of(words: &Value) -> Option<LineFilter> {
    let [op, operand] = words.as_array()?.as_slice() else {
        return None;
    };
    let regex = || LineRegex::new(operand.as_str()?).ok();
    match op.as_str()? {
        "|=" => literal_of(operand).map(LineFilter::Contains),
        "!=" => literal_of(operand).map(LineFilter::NotContains),
        "or" => {
            let literals = operand.as_array()?.iter().map(literal_of);
            literals
                .collect::<Option<Vec<_>>>()
                .map(LineFilter::ContainsAny)
        }
        "whole" => match operand.as_array()?.as_slice() {
            [text] => Some((text, None)),
            [text, or] => Some((text, Some(literal_of(or)?))),
            _ => None,
        }
        .and_then(|(text, or)| {
            let text = literal_of(text)?;
            Some(LineFilter::ContainsWhole { text, or })
        }),
        "|~" => regex().map(LineFilter::Matches),
        "!~" => regex().map(LineFilter::NotMatches),
        _ => None,
    }
}

fn literal_of(words: &Value) -> Option<Bytes> {
    let byte = |number: &Value| u8::try_from(number.as_u64()?).ok();
    match words {
        Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Value::Array(numbers) => {
            let bytes = numbers.iter().map(byte).collect::<Option<Vec<u8>>>();
            bytes.map(Bytes::from)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
