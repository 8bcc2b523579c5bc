//! What a reader asks of a snapshot and what it gets: plain data, columns rather than rows.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use trine_storage::regex::LineRegex;
use trine_storage::{Labels, Matcher, Result, TimeRange};

use crate::block::lines::Skeletons;

/// What [`Snapshot::scan`](crate::Snapshot::scan) is asked for.
#[derive(Debug, Clone)]
pub enum Request {
    /// Entries.
    Rows(Rows),
    /// How many entries or bytes there are, without the entries.
    Counts(Counts),
}

/// A request for entries.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// Which timestamps, nanoseconds since 1970.
    pub range: TimeRange,
    /// Conditions on the line; all of them hold for every entry that is given.
    pub lines: Vec<LineFilter>,
    /// Conditions on structured metadata; all of them hold for every entry that is given. Metadata
    /// that is absent counts as empty. A label of the stream hides metadata of its name: then the
    /// condition is one on the label.
    pub metadata: Vec<Matcher>,
    /// Two ways to come by a value; one of them holds for every entry that is given.
    pub either: Option<Either>,
    /// In which order.
    pub direction: Direction,
    /// After how many entries the reader will probably stop. More may be given.
    pub limit_hint: Option<usize>,
    /// Which columns are filled.
    pub projection: Projection,
    /// On how many threads chunks may be unpacked and searched at a time; 0 and 1 for that of the
    /// reader alone.
    pub threads: usize,
    /// Whether the token index may be asked which chunks to leave out. Only time depends on it.
    pub index: bool,
}

impl Rows {
    /// Every entry of the streams in the range, all columns, the oldest first.
    pub fn new(matchers: Vec<Matcher>, range: TimeRange) -> Self {
        Self {
            matchers,
            range,
            lines: Vec::new(),
            metadata: Vec::new(),
            either: None,
            direction: Direction::Forward,
            limit_hint: None,
            projection: Projection::ALL,
            threads: 1,
            index: true,
        }
    }
}

/// A value that an entry has in its line, or in its metadata or the labels of its stream.
#[derive(Debug, Clone)]
pub struct Either {
    /// How it is in the line.
    pub line: LineFilter,
    /// How it is in metadata, or in a label of that name.
    pub metadata: Matcher,
}

/// A condition on the bytes of a line, case and all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineFilter {
    /// The line contains these bytes.
    Contains(Bytes),
    /// The line does not contain these bytes.
    NotContains(Bytes),
    /// The line contains at least one of these; no line does when there are none.
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

/// The order of time in which entries are given. Entries of the same instant come in the order of
/// their streams' labels, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The oldest first; of one stream and instant the first appended first.
    #[default]
    Forward,
    /// The newest first; of one stream and instant the last appended first.
    Backward,
    /// As they are found, which costs least: neither time nor streams are in any order.
    Any,
}

/// Which columns beside stream and timestamp a reader wants; the others are not even decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// The lines.
    pub lines: bool,
    /// The structured metadata.
    pub metadata: bool,
    /// Whether lines may come without their variables, as [`RowBatch::skeletons`]; in
    /// [`Direction::Any`] only.
    pub skeletons: bool,
}

impl Projection {
    /// Everything.
    pub const ALL: Self = Self {
        lines: true,
        metadata: true,
        skeletons: false,
    };
}

/// A request for numbers by stream, metadata and bucket of time.
///
/// Bucket `k` holds the timestamps in `(range.start + k * bucket_ns, range.start + (k + 1) *
/// bucket_ns]`, as LogQL's windows do. An entry at `range.start` itself is therefore in no bucket,
/// and one at `range.end` or later is not counted either.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// Which timestamps, nanoseconds since 1970.
    pub range: TimeRange,
    /// Width of a bucket, nanoseconds, at least 1.
    pub bucket_ns: i64,
    /// What is counted.
    pub measure: Measure,
    /// Conditions on the line, as those of [`Rows::lines`].
    pub lines: Vec<LineFilter>,
    /// Conditions on structured metadata, as those of [`Rows::metadata`].
    pub metadata: Vec<Matcher>,
    /// Names of structured metadata whose values split the numbers.
    pub by: Vec<String>,
    /// As [`Rows::threads`].
    pub threads: usize,
    /// As [`Rows::index`].
    pub index: bool,
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
            index: true,
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

/// What a scan yields. An error tells what could not be read; the iterator goes on with the rest.
pub type Batches = Box<dyn Iterator<Item = Result<Batch>> + Send>;

/// Some of the answer to a [`Request`].
#[derive(Debug, Clone)]
pub enum Batch {
    /// Entries, in order; no later batch holds an entry that belongs before one of these. A batch
    /// may be empty: the scan gives control back after some work even where it found nothing.
    Rows(RowBatch),
    /// Numbers, in no order; the same stream, group and bucket may come again and then adds up. May
    /// be empty, as entries may.
    Counts(CountBatch),
}

/// Entries as columns of equal length.
#[derive(Debug, Clone, Default)]
pub struct RowBatch {
    /// The streams that occur.
    pub streams: Vec<Labels>,
    /// For each entry its stream, an index into `streams`.
    pub stream: Vec<u32>,
    /// Nanoseconds since 1970.
    pub timestamps: Vec<i64>,
    /// The lines; all empty when they were not asked for, or come as skeletons.
    pub lines: Lines,
    /// The lines without their variables, where [`Projection::skeletons`] allows it and they lie so.
    pub skeletons: Option<Arc<Skeletons>>,
    /// The sets of metadata that occur; the first is the empty set.
    pub metadata_sets: Vec<Labels>,
    /// For each entry its set, an index into `metadata_sets`.
    pub metadata: Vec<u32>,
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

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Numbers as columns of equal length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountBatch {
    /// The streams that occur.
    pub streams: Vec<Labels>,
    /// The sets of metadata that occur, of the names in [`Counts::by`] only.
    pub groups: Vec<Labels>,
    /// For each number its stream, an index into `streams`.
    pub stream: Vec<u32>,
    /// For each number its metadata, an index into `groups`.
    pub group: Vec<u32>,
    /// For each number its bucket.
    pub bucket: Vec<u32>,
    /// How many; 0 only where lines without bytes were measured in bytes.
    pub count: Vec<u64>,
}

impl fmt::Display for LineFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, literals) = match self {
            Self::Contains(literal) => ("|=", std::slice::from_ref(literal)),
            Self::NotContains(literal) => ("!=", std::slice::from_ref(literal)),
            Self::ContainsAny(literals) => ("|=", literals.as_slice()),
            Self::ContainsWhole { text, or } => {
                write!(f, "|= whole {:?}", String::from_utf8_lossy(text))?;
                let or = or.iter().map(|or| String::from_utf8_lossy(or));
                return or.into_iter().try_for_each(|or| write!(f, " or {or:?}"));
            }
            Self::Matches(regex) => return write!(f, "|~ {:?}", regex.pattern()),
            Self::NotMatches(regex) => return write!(f, "!~ {:?}", regex.pattern()),
        };
        f.write_str(op)?;
        for (at, literal) in literals.iter().enumerate() {
            let or = if at > 0 { " or" } else { "" };
            write!(f, "{or} {:?}", String::from_utf8_lossy(literal))?;
        }
        Ok(())
    }
}
