//! What the engine asks of a store: one object-safe trait, requests that are plain data, answers
//! in columns. A store's adapter implements it; what the store could not apply is applied again.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use trine_storage::regex::LineRegex;
use trine_storage::{Error, Labels, Matcher, TimeRange};

/// A store of log lines. Times are nanoseconds since 1970.
pub trait Source: Send + Sync {
    /// Entries, or numbers of entries. A source may answer [`Request::Counts`] with rows; rows may
    /// fail the conditions of the request on lines and metadata, but not its matchers, and may lie
    /// outside its range. Numbers never do.
    ///
    /// # Errors
    /// Those of the store.
    fn scan(&self, request: &Request) -> Result<Batches, Error>;

    /// The same in `parts` parts or fewer, which may be read on one thread each: together they give
    /// every entry or number once, in no order, and none waits for another. A source that cannot be
    /// divided is one part.
    ///
    /// # Errors
    /// Those of the store.
    fn scan_parts(&self, request: &Request, _parts: usize) -> Result<Vec<Batches>, Error> {
        Ok(vec![self.scan(request)?])
    }

    /// The streams that match and have entries in the range, in the order of their labels.
    ///
    /// # Errors
    /// Those of the store.
    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error>;

    /// The names of the labels of those streams, sorted.
    ///
    /// # Errors
    /// Those of the store.
    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error>;

    /// The values that the label `name` has in those streams, sorted.
    ///
    /// # Errors
    /// Those of the store.
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error>;
}

/// What [`Source::scan`] is asked for.
#[derive(Debug, Clone)]
pub enum Request {
    /// Entries.
    Rows(Rows),
    /// Numbers of entries or bytes.
    Counts(Counts),
}

/// A request for entries.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// Which timestamps.
    pub range: TimeRange,
    /// Conditions that all wanted lines fulfil; a hint.
    pub lines: Vec<LineFilter>,
    /// Conditions that the metadata of all wanted entries fulfils; a hint. Metadata that is absent
    /// counts as empty; a label of the stream hides metadata of its name.
    pub metadata: Vec<Matcher>,
    /// Two ways to come by a value, one of which holds for all wanted entries; a hint.
    pub either: Option<Either>,
    /// In which order.
    pub direction: Direction,
    /// After how many entries the reader will probably stop.
    pub limit_hint: Option<usize>,
    /// Which columns are wanted.
    pub projection: Projection,
    /// On how many threads the source may work at a time; 0 and 1 for that of the reader alone.
    pub threads: usize,
}

/// A value that an entry has in its line, or in its metadata or the labels of its stream.
#[derive(Debug, Clone)]
pub struct Either {
    /// How it is in the line.
    pub line: LineFilter,
    /// How it is in metadata, or in a label of that name.
    pub metadata: Matcher,
}

/// A condition on the bytes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineFilter {
    /// The line contains these bytes.
    Contains(Bytes),
    /// The line does not contain these bytes.
    NotContains(Bytes),
    /// The line contains at least one of these.
    ContainsAny(Vec<Bytes>),
    /// The line contains `text` with no letter, digit or byte above 0x7f right before or behind it,
    /// or contains `or` anywhere.
    ContainsWhole {
        /// What stands alone.
        text: Bytes,
        /// What will do, too.
        or: Option<Bytes>,
    },
    /// The expression matches in the line.
    Matches(LineRegex),
    /// The expression does not match in the line.
    NotMatches(LineRegex),
}

/// The order of time in which entries come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The oldest first.
    Forward,
    /// The newest first.
    #[default]
    Backward,
    /// Any order.
    Any,
}

/// Which columns beside stream and timestamp are wanted; the others may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// The lines.
    pub lines: bool,
    /// The structured metadata.
    pub metadata: bool,
    /// Whether lines may come as [`RowBatch::skeletons`], in [`Direction::Any`] only.
    pub skeletons: bool,
}

/// A request for numbers by stream, metadata and bucket of time. Bucket `k` holds the timestamps in
/// `(range.start + k * bucket_ns, range.start + (k + 1) * bucket_ns]`; an entry at `range.start`
/// is in no bucket.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// Which timestamps.
    pub range: TimeRange,
    /// Width of a bucket, at least 1.
    pub bucket_ns: i64,
    /// What is counted.
    pub measure: Measure,
    /// Conditions that all counted lines fulfil.
    pub lines: Vec<LineFilter>,
    /// Conditions that the metadata of all counted entries fulfils, as those of [`Rows::metadata`].
    pub metadata: Vec<Matcher>,
    /// Names of metadata whose values split the numbers.
    pub by: Vec<String>,
    /// As [`Rows::threads`].
    pub threads: usize,
}

impl Counts {
    /// All entries of the streams in the range, by stream and bucket only.
    pub fn new(matchers: Vec<Matcher>, range: TimeRange, bucket_ns: i64, measure: Measure) -> Self {
        Self {
            matchers,
            range,
            bucket_ns,
            measure,
            lines: Vec::new(),
            metadata: Vec::new(),
            by: Vec::new(),
            threads: 1,
        }
    }
}

/// What [`Counts`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Entries.
    Lines,
    /// Bytes of lines, without metadata.
    Bytes,
}

/// The answer to a [`Request`].
pub type Batches = Box<dyn Iterator<Item = Result<Batch, Error>> + Send>;

/// A part of the answer.
#[derive(Debug, Clone)]
pub enum Batch {
    /// Entries in the order asked for; no later batch holds one that belongs before these.
    Rows(RowBatch),
    /// Numbers in no order; those of equal stream, group and bucket add up.
    Counts(CountBatch),
}

/// Entries as columns of equal length.
#[derive(Debug, Clone, Default)]
pub struct RowBatch {
    /// The streams that occur.
    pub streams: Vec<Labels>,
    /// For each entry an index into `streams`.
    pub stream: Vec<u32>,
    /// Nanoseconds since 1970.
    pub timestamps: Vec<i64>,
    /// The lines; empty when they come as skeletons.
    pub lines: Lines,
    /// The lines without their numbers and ids, if the request allows it.
    pub skeletons: Option<Arc<dyn Skeletons>>,
    /// The sets of metadata that occur; the first is the empty set.
    pub metadata_sets: Vec<Labels>,
    /// For each entry an index into `metadata_sets`; may be empty when no entry has metadata.
    pub metadata: Vec<u32>,
}

impl RowBatch {
    /// The labels of the stream of an entry; `None` when the batch does not say.
    pub fn stream_of(&self, row: usize) -> Option<&Labels> {
        self.streams.get(*self.stream.get(row)? as usize)
    }

    /// Bytes of the lines, however they came.
    pub fn line_bytes(&self) -> u64 {
        let skeletons = self.skeletons.as_ref();
        skeletons.map_or(self.lines.blob.len() as u64, |lines| lines.line_bytes())
    }

    /// The code of the metadata of an entry; 0 is the empty set.
    pub fn metadata_code(&self, row: usize) -> u32 {
        self.metadata.get(row).copied().unwrap_or(0)
    }
}

/// In [`Skeletons`] this byte stands in for a number or an id.
pub const STAND_IN: u8 = 0xff;

/// Lines in which one byte, [`STAND_IN`], stands in for each number and each id: for at least one
/// letter or digit of ASCII, never a blank, a quote or another sign. The lines have no such byte of
/// their own. A parser finds its way by what is between and asks for the values that it needs.
pub trait Skeletons: fmt::Debug + Send + Sync {
    /// The line of an entry; empty when there is none.
    fn get(&self, row: usize) -> &[u8];

    /// Bytes of all lines as they are written.
    fn line_bytes(&self) -> u64;

    /// Appends a part of [`Skeletons::get`] as it is written.
    ///
    /// # Errors
    /// Those of the store.
    fn write(&self, row: usize, part: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Appends all of a line as it is written.
    ///
    /// # Errors
    /// Those of the store.
    fn write_line(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(row, 0..self.get(row).len(), out)
    }
}

/// A column of byte strings in one piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// All lines, one after the other.
    pub blob: Bytes,
    /// Where each line ends in `blob`.
    pub ends: Vec<u32>,
}

impl Lines {
    /// The line of an entry; empty when there is none.
    pub fn get(&self, row: usize) -> &[u8] {
        let end = self.ends.get(row).copied().unwrap_or(0);
        let start = row
            .checked_sub(1)
            .and_then(|before| self.ends.get(before).copied());
        self.blob
            .get(start.unwrap_or(0) as usize..end as usize)
            .unwrap_or_default()
    }
}

/// Numbers as columns of equal length.
#[derive(Debug, Clone, Default)]
pub struct CountBatch {
    /// The streams that occur.
    pub streams: Vec<Labels>,
    /// The sets of metadata that occur, of the names in [`Counts::by`] only.
    pub groups: Vec<Labels>,
    /// For each number an index into `streams`.
    pub stream: Vec<u32>,
    /// For each number an index into `groups`; may be empty when nothing is split by metadata.
    pub group: Vec<u32>,
    /// For each number its bucket.
    pub bucket: Vec<u32>,
    /// How many.
    pub count: Vec<u64>,
}
