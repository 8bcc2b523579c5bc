//! Lines whose variables are not put in: for readers who parse lines and look at few of their values.
//! Called by the scan that gives whole chunks.

use std::ops::Range;
use std::sync::OnceLock;

use memchr::{memchr, memchr_iter};
use trine_storage::{Error, Result};

use super::expand::Values;
use super::{Layout, PackedLines, StoredColumn, column};

/// How many variables of a kind come before is known at every so many lines and counted from there.
const ROWS_COUNTED: usize = 8;

/// The lines of a chunk in which one byte stands in for each number and each id.
///
/// What stands in is at least one letter or digit of ASCII, never a blank, a quote or another sign. A
/// reader finds its way through a line by what is between, and asks for the parts that it needs.
///
/// Variables are decoded when the first of their kind is asked for.
///
/// ```
/// use trine_logstore::{
///     Batch, Direction, Durability, Labels, LogStore, Projection, Request, Rows, TimeRange,
/// };
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let store = LogStore::open(dir.path())?;
/// let mut appender = store.appender();
/// # let now_ns = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as i64;
/// let stream = Labels::from_pairs([("app", "api")])?;
/// appender.append(&stream, now_ns, b"user=u4711 took 12345 us", &Labels::empty());
/// appender.commit(Durability::Buffered)?.wait()?;
/// store.flush()?;
/// let request = Request::Rows(Rows {
///     direction: Direction::Any,
///     projection: Projection { skeletons: true, ..Projection::ALL },
///     ..Rows::new(Vec::new(), TimeRange::ALL)
/// });
/// for batch in store.snapshot().scan(&request)? {
///     let Batch::Rows(rows) = batch? else { continue };
///     let Some(skeletons) = rows.skeletons else { continue };
///     assert_eq!(skeletons.get(0), b"user=u\xff took \xff us");
///     let mut user = Vec::new();
///     skeletons.write(0, 5..7, &mut user)?;
///     assert_eq!(user, b"u4711");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Skeletons {
    name: String,
    text: Vec<u8>,
    /// Where each line ends in `text`, the byte after it included.
    ends: Vec<u32>,
    line_bytes: u64,
    timestamps: Vec<i64>,
    /// For each variable the number of its column.
    order: Vec<u8>,
    columns: Vec<Column>,
    /// How many variables are before each line.
    counted: OnceLock<Vec<u32>>,
}

#[derive(Debug)]
struct Column {
    stored: StoredColumn,
    values: OnceLock<Option<Values>>,
    /// How many of its variables are before each [`ROWS_COUNTED`]th line.
    counted: OnceLock<Vec<u32>>,
}

impl PackedLines {
    /// Takes the lines out, without their variables; `None`, and they stay, when they are not split
    /// or have the byte that stands in.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when text and variables do not fit.
    pub(crate) fn take_skeletons(&mut self, timestamps: &[i64]) -> Result<Option<Skeletons>> {
        let Layout::Split {
            terminator,
            placeholder,
            variables,
        } = &mut self.layout
        else {
            return Ok(None);
        };
        if memchr(Skeletons::STAND_IN, &self.text).is_some() {
            return Ok(None);
        }
        let rows = self.lengths.rows;
        let mut ends = Vec::with_capacity(rows);
        let after = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX);
        ends.extend(memchr_iter(*terminator, &self.text).map(after));
        let variable_count = memchr_iter(*placeholder, &self.text).count();
        let fit = ends.len() == rows
            && ends.len() == timestamps.len()
            && ends.last().map_or(0, |&end| end as usize) == self.text.len()
            && variable_count == variables.count;
        if !fit {
            let text = "the variables of lines do not fit their text";
            return Err(Error::corrupt(&*self.name, 0, text));
        }
        let column = |stored| Column {
            stored,
            values: OnceLock::new(),
            counted: OnceLock::new(),
        };
        let order = column::blob(&self.name, &variables.order, variables.count)?;
        let stored = std::mem::take(&mut variables.columns);
        let mut text = std::mem::take(&mut self.text);
        let placeholder = *placeholder;
        for byte in &mut text {
            // Written in any case: many at once.
            *byte = match *byte == placeholder {
                true => Skeletons::STAND_IN,
                false => *byte,
            };
        }
        Ok(Some(Skeletons {
            name: std::mem::take(&mut self.name),
            text,
            ends,
            line_bytes: self.lengths.line_bytes,
            timestamps: timestamps.to_vec(),
            order,
            columns: stored.into_iter().map(column).collect(),
            counted: OnceLock::new(),
        }))
    }
}

/// How often a byte occurs; for texts too short for what has a set-up.
fn occurrences(bytes: &[u8], wanted: u8) -> usize {
    // What a byte can count to.
    let chunks = bytes.chunks(255);
    let of_chunk = |chunk: &[u8]| {
        chunk
            .iter()
            .map(|&byte| u8::from(byte == wanted))
            .sum::<u8>()
    };
    chunks.map(|chunk| usize::from(of_chunk(chunk))).sum()
}

impl Skeletons {
    /// What stands in for a number or an id.
    pub const STAND_IN: u8 = 0xff;

    /// Where the line of a row begins; of a row beyond the last, where the last one ends.
    fn start(&self, row: usize) -> usize {
        let before = row.min(self.ends.len()).checked_sub(1);
        let end = before.and_then(|before| self.ends.get(before));
        end.map_or(0, |&end| end as usize)
    }

    fn range(&self, row: usize) -> Range<usize> {
        let start = self.start(row);
        let end = self.start(row + 1).saturating_sub(1);
        start..end.max(start)
    }

    /// The line of a row; empty when there is none.
    pub fn get(&self, row: usize) -> &[u8] {
        self.text.get(self.range(row)).unwrap_or_default()
    }

    /// Bytes of all lines, variables included.
    pub fn line_bytes(&self) -> u64 {
        self.line_bytes
    }

    /// Appends a part of [`Skeletons::get`] as it is in the line.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the variables cannot be read; `out` has a
    /// part of the text then.
    pub fn write(&self, row: usize, part: Range<usize>, out: &mut Vec<u8>) -> Result<()> {
        let line = self.get(row);
        let wanted = line.get(part.clone()).unwrap_or_default();
        let Some(mut found) = memchr(Self::STAND_IN, wanted) else {
            out.extend_from_slice(wanted);
            return Ok(());
        };
        let bad = || Error::corrupt(&*self.name, 0, "the variables of lines cannot be read");
        let timestamp = self.timestamps.get(row).copied().ok_or_else(bad)?;
        let mut variable = self.variables_before(row, part.start);
        let mut rest = wanted;
        loop {
            let (before, after) = rest.split_at(found);
            out.extend_from_slice(before);
            let code = *self.order.get(variable).ok_or_else(bad)?;
            let column = self.columns.get(usize::from(code)).ok_or_else(bad)?;
            let values = column
                .values
                .get_or_init(|| Values::new(&self.name, &column.stored).ok());
            let at = self.of_kind_before(row, code, column, variable);
            let values = values.as_ref().ok_or_else(bad)?;
            values.append(at, out, timestamp).ok_or_else(bad)?;
            variable += 1;
            rest = after.get(1..).unwrap_or_default();
            match memchr(Self::STAND_IN, rest) {
                Some(at) => found = at,
                None => break,
            }
        }
        out.extend_from_slice(rest);
        Ok(())
    }

    /// How many variables are before byte `at` of a line.
    fn variables_before(&self, row: usize, at: usize) -> usize {
        let before = self.counted().get(row).map_or(0, |&count| count as usize);
        let text = self.get(row).get(..at).unwrap_or_default();
        before + occurrences(text, Self::STAND_IN)
    }

    fn counted(&self) -> &[u32] {
        self.counted.get_or_init(|| {
            let mut count = 0;
            let rows = 0..self.ends.len();
            rows.map(|row| {
                let before = count;
                count += occurrences(self.get(row), Self::STAND_IN);
                u32::try_from(before).unwrap_or(u32::MAX)
            })
            .collect()
        })
    }

    /// How many of the variables before `variable`, one of `row`, are of its kind.
    fn of_kind_before(&self, row: usize, code: u8, column: &Column, variable: usize) -> usize {
        let counted = self.counted();
        let of_kind = column.counted.get_or_init(|| {
            let mut count = 0;
            let groups = counted.iter().step_by(ROWS_COUNTED).skip(1);
            let ends = groups.map(|&end| end as usize);
            let mut start = 0;
            std::iter::once(0)
                .chain(ends.map(|end| {
                    let order = self.order.get(start..end).unwrap_or_default();
                    count += occurrences(order, code);
                    start = end;
                    u32::try_from(count).unwrap_or(u32::MAX)
                }))
                .collect()
        });
        let from = row / ROWS_COUNTED;
        let start = counted.get(from * ROWS_COUNTED);
        let start = start.map_or(0, |&start| start as usize);
        let before = of_kind.get(from).map_or(0, |&count| count as usize);
        let order = self.order.get(start..variable).unwrap_or_default();
        before + occurrences(order, code)
    }
}
