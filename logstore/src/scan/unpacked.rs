//! A chunk that is being looked into, with the columns that were needed so far. The scans of this
//! folder fill and read it.

use std::sync::Arc;

use trine_storage::{Labels, Result, TimeRange};

use super::place::{Condition, Held, OpenPlace};
use crate::block::format::{ChunkHeader, LEVEL};
use crate::block::lines::{PackedLines, Place as NeedlePlace, Skeletons};
use crate::block::metadata::{Metadata, MetadataColumn};
use crate::block::reader::BlockFile;
use crate::columns::Columns;
use crate::filter::{Filters, Number, Test, Text};
use crate::sets::Sets;
use crate::tombstone::Looked;

/// A chunk of a block or a page of memory.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Number of its place in the scan.
    pub(super) place: usize,
    /// Number in its place.
    pub(super) chunk: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Page(Arc<Columns>),
    Chunk(Box<Parts>),
}

/// The columns of a block's chunk.
#[derive(Debug, Default)]
struct Parts {
    timestamps: Vec<i64>,
    /// For each run the row after its last, and its stream.
    runs: Vec<(u32, u32)>,
    /// Where lines end when all are there; empty before it was asked for.
    lengths: Vec<u32>,
    packed: Option<PackedLines>,
    /// Lines of the rows in `expanded`; those of others are empty.
    blob: Vec<u8>,
    ends: Vec<u32>,
    expanded: Expanded,
    /// Whether `metadata` was looked for.
    has_metadata: bool,
    metadata: Option<Metadata>,
    /// The sets and codes of the rows in `named`.
    sets: Sets,
    codes: Vec<u32>,
    named: Expanded,
}

#[derive(Debug, Default)]
enum Expanded {
    #[default]
    None,
    /// Ascending.
    Rows(Vec<u32>),
    All,
}

impl Expanded {
    fn covers(&self, rows: &[u32]) -> bool {
        match self {
            Self::None => rows.is_empty(),
            Self::All => true,
            Self::Rows(held) => rows.iter().all(|row| held.binary_search(row).is_ok()),
        }
    }
}

impl Unpacked {
    /// Unpacks the timestamps.
    pub(super) fn new(open: &OpenPlace, place: usize, chunk: usize) -> Result<Self> {
        let data = match &open.held {
            Held::Memory { pages, .. } => {
                let page = pages.get(chunk);
                Data::Page(
                    page.map(|page| Arc::clone(&page.columns))
                        .unwrap_or_default(),
                )
            }
            Held::Block(block, tables) => {
                let mut parts = Box::<Parts>::default();
                if let Some(header) = tables.chunks.get(chunk) {
                    parts.timestamps = block.reader.timestamps(header)?;
                    let mut end = 0;
                    for run in &header.runs {
                        end += run.rows;
                        parts.runs.push((end, run.stream));
                    }
                }
                Data::Chunk(parts)
            }
        };
        Ok(Self { place, chunk, data })
    }

    /// The rows, ascending, of selected streams in `range`.
    pub(super) fn rows(&self, open: &OpenPlace, range: TimeRange) -> Vec<u32> {
        let mut rows = Vec::new();
        match &self.data {
            Data::Page(page) => {
                let columns = (0u32..).zip(page.timestamps.iter().zip(&page.streams));
                let wanted = columns.filter(|(_, (timestamp, stream))| {
                    range.contains(**timestamp) && open.is_selected(**stream)
                });
                rows.extend(wanted.map(|(row, _)| row));
            }
            Data::Chunk(parts) => {
                let mut start = 0;
                for &(end, stream) in &parts.runs {
                    let of_run = parts.timestamps.get(start as usize..end as usize);
                    if let Some(of_run) = of_run.filter(|_| open.is_selected(stream)) {
                        let before = |limit: i64| {
                            let rows = of_run.partition_point(|&timestamp| timestamp < limit);
                            start + u32::try_from(rows).unwrap_or(u32::MAX)
                        };
                        rows.extend(before(range.start)..before(range.end));
                    }
                    start = end;
                }
            }
        }
        rows
    }

    pub(super) fn timestamps(&self) -> &[i64] {
        match &self.data {
            Data::Page(page) => &page.timestamps,
            Data::Chunk(parts) => &parts.timestamps,
        }
    }

    pub(super) fn timestamp(&self, row: u32) -> i64 {
        let timestamp = self.timestamps().get(row as usize);
        timestamp.copied().unwrap_or(i64::MIN)
    }

    /// The code of the stream of a row.
    pub(super) fn stream(&self, row: u32) -> u32 {
        match &self.data {
            Data::Page(page) => page.streams.get(row as usize).copied().unwrap_or(0),
            Data::Chunk(parts) => match parts.runs.as_slice() {
                [(_, stream)] => *stream,
                runs => {
                    let run = runs.partition_point(|(end, _)| *end <= row);
                    runs.get(run).map_or(0, |(_, stream)| *stream)
                }
            },
        }
    }

    /// Whether all rows are of one stream, and by time.
    pub(super) fn is_one_run(&self) -> bool {
        matches!(&self.data, Data::Chunk(parts) if parts.runs.len() == 1)
    }

    /// Keeps those of `rows` (ascending) whose lines satisfy every filter. Of a block's chunk the
    /// text without variables is searched first, and lines are put together of rows that are left.
    pub(super) fn retain_lines(
        &mut self,
        open: &OpenPlace,
        filters: &Filters,
        rows: &mut Vec<u32>,
    ) -> Result<()> {
        let mut rest: Vec<&Test> = filters.tests().iter().collect();
        if let (Data::Chunk(parts), Held::Block(block, tables)) = (&mut self.data, &open.held)
            && !parts.expanded.covers(rows)
            && let Some(header) = tables.chunks.get(self.chunk)
        {
            let packed = match &mut parts.packed {
                Some(packed) => packed,
                none => none.insert(block.reader.packed_lines(header)?),
            };
            search_skeleton(packed, &mut rest, rows);
        }
        if !rest.is_empty() && !rows.is_empty() {
            self.load_lines(open, rows)?;
            for test in rest {
                if !rows.is_empty() {
                    test.retain(self.text(), rows);
                }
            }
        }
        Ok(())
    }

    /// Puts the lines of `rows` (ascending) together, unless they are there.
    pub(super) fn load_lines(&mut self, open: &OpenPlace, rows: &[u32]) -> Result<()> {
        let (Data::Chunk(parts), Held::Block(block, tables)) = (&mut self.data, &open.held) else {
            return Ok(());
        };
        let Some(header) = tables.chunks.get(self.chunk) else {
            return Ok(());
        };
        if parts.expanded.covers(rows) {
            return Ok(());
        }
        let packed = match &mut parts.packed {
            Some(packed) => packed,
            none => none.insert(block.reader.packed_lines(header)?),
        };
        // Who comes again comes more often: then all lines are put together.
        let is_first = matches!(parts.expanded, Expanded::None);
        if is_first && rows.len() < parts.timestamps.len() {
            let wanted = |row: usize| {
                let row = u32::try_from(row).unwrap_or(u32::MAX);
                rows.binary_search(&row).is_ok()
            };
            (parts.blob, parts.ends) = packed.expand_rows(&parts.timestamps, wanted)?;
            parts.expanded = Expanded::Rows(rows.to_vec());
        } else {
            (parts.blob, parts.ends) = packed.expand(&parts.timestamps)?;
            parts.expanded = Expanded::All;
            parts.packed = None;
        }
        Ok(())
    }

    /// All lines without their variables, if they lie so in a block and were not put together yet.
    pub(super) fn take_skeletons(&mut self, open: &OpenPlace) -> Result<Option<Skeletons>> {
        let (Data::Chunk(parts), Held::Block(block, tables)) = (&mut self.data, &open.held) else {
            return Ok(None);
        };
        let Some(header) = tables.chunks.get(self.chunk) else {
            return Ok(None);
        };
        if !matches!(parts.expanded, Expanded::None) {
            return Ok(None);
        }
        let mut packed = match parts.packed.take() {
            Some(packed) => packed,
            None => block.reader.packed_lines(header)?,
        };
        let skeletons = packed.take_skeletons(&parts.timestamps)?;
        if skeletons.is_none() {
            parts.packed = Some(packed);
        }
        Ok(skeletons)
    }

    /// The lines as far as they were put together.
    pub(super) fn text(&self) -> Text<'_> {
        match &self.data {
            Data::Page(page) => page.text(),
            Data::Chunk(parts) => Text {
                blob: &parts.blob,
                ends: &parts.ends,
            },
        }
    }

    /// Unpacks how long lines are, unless that is there.
    pub(super) fn load_lengths(&mut self, open: &OpenPlace) -> Result<()> {
        if let (Data::Chunk(parts), Held::Block(block, tables)) = (&mut self.data, &open.held)
            && parts.lengths.is_empty()
            && let Some(header) = tables.chunks.get(self.chunk)
        {
            parts.lengths = block.reader.ends(header)?;
        }
        Ok(())
    }

    /// How many bytes the lines of neighbouring rows take; [`Unpacked::load_lengths`] comes first.
    pub(super) fn line_bytes(&self, rows: std::ops::Range<u32>) -> u64 {
        let ends = match &self.data {
            Data::Page(page) => &page.ends,
            Data::Chunk(parts) => &parts.lengths,
        };
        let end_of = |rows: u32| {
            let last = (rows as usize).checked_sub(1);
            last.and_then(|last| ends.get(last)).copied().unwrap_or(0)
        };
        u64::from(end_of(rows.end).saturating_sub(end_of(rows.start)))
    }

    /// Takes the lines of all rows when they are there and belong to nobody else: the blob and where
    /// the lines end in it.
    pub(super) fn take_lines(&mut self) -> Option<(Vec<u8>, Vec<u32>)> {
        match &mut self.data {
            Data::Chunk(parts) if matches!(parts.expanded, Expanded::All) => {
                parts.expanded = Expanded::None;
                Some((
                    std::mem::take(&mut parts.blob),
                    std::mem::take(&mut parts.ends),
                ))
            }
            _ => None,
        }
    }

    /// About how many bytes would be free if lines were forgotten.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.data {
            Data::Page(_) => 0,
            Data::Chunk(parts) => {
                let packed = parts.packed.as_ref().map_or(0, |_| CHUNK_TEXT_BYTES);
                parts.blob.capacity() + packed
            }
        }
    }

    /// Forgets the lines; they can be unpacked again.
    pub(super) fn forget_lines(&mut self) {
        if let Data::Chunk(parts) = &mut self.data {
            parts.packed = None;
            parts.blob = Vec::new();
            parts.ends = Vec::new();
            parts.expanded = Expanded::None;
        }
    }

    /// Forgets what lines are put together from; those that were stay.
    pub(super) fn forget_packed(&mut self) {
        if let Data::Chunk(parts) = &mut self.data {
            parts.packed = None;
        }
    }

    /// Keeps those of `rows` (ascending) that the place does not hide.
    pub(super) fn retain_seen(&mut self, open: &OpenPlace, rows: &mut Vec<u32>) -> Result<()> {
        if open.veils.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(rows.len());
        let all = std::mem::take(rows);
        let mut left = all.as_slice();
        while let Some(&first) = left.first() {
            let stream = self.stream(first);
            let is_other = |&row: &u32| self.stream(row) != stream;
            let count = left.iter().position(is_other).unwrap_or(left.len());
            let (of_stream, after) = left.split_at(count);
            left = after;
            let from = kept.len();
            kept.extend_from_slice(of_stream);
            let Some(veil) = open.veils.of(stream) else {
                continue;
            };
            let instants = of_stream.iter().map(|&row| self.timestamp(row));
            let (first, last) = (instants.clone().min(), instants.max());
            let range = TimeRange::inclusive(first.unwrap_or(0), last.unwrap_or(0));
            let needs = veil.needs(range);
            if needs.lines {
                self.load_lines(open, of_stream)?;
            }
            if needs.metadata {
                self.load_metadata(open, of_stream)?;
            }
            let looked = Looked {
                timestamps: self.timestamps(),
                text: self.text(),
                metadata: &|row| self.set(row),
            };
            veil.retain(looked, &mut kept, from);
        }
        *rows = kept;
        Ok(())
    }

    /// Keeps those of `rows` (ascending) whose metadata satisfies the conditions of the scan.
    pub(super) fn retain_metadata(&mut self, open: &OpenPlace, rows: &mut Vec<u32>) -> Result<()> {
        for condition in &open.conditions {
            self.retain_condition(open, condition, rows)?;
        }
        Ok(())
    }

    /// Keeps those of `rows` (ascending) whose metadata, or whose stream's label, satisfies this.
    pub(super) fn retain_condition(
        &mut self,
        open: &OpenPlace,
        condition: &Condition,
        rows: &mut Vec<u32>,
    ) -> Result<()> {
        if !rows.is_empty() {
            let passes: Box<dyn Fn(u32) -> bool> = if let Data::Page(page) = &self.data {
                let sets = (0u32..).take(page.sets.len() + 1);
                let met = sets.map(|code| condition.is_met_by(&page.sets.labels(code)));
                let (page, passes) = (Arc::clone(page), met.collect::<Vec<bool>>());
                Box::new(move |row| {
                    let code = page.set_code(row as usize) as usize;
                    passes.get(code).is_some_and(|&passes| passes)
                })
            } else if let Some(column) = self.column(open, condition.matcher.name())? {
                passes_of(condition, column)
            } else {
                let absent = condition.matcher.matches_empty();
                Box::new(move |_| absent)
            };
            rows.retain(|&row| {
                let stream = self.stream(row);
                condition.decided.contains(stream)
                    || (passes(row) && !condition.refused.contains(stream))
            });
        }
        Ok(())
    }

    /// The column of a name of metadata of a block's chunk; `None` when no entry has it.
    fn column(&mut self, open: &OpenPlace, name: &str) -> Result<Option<MetadataColumn>> {
        match (&mut self.data, &open.held) {
            (Data::Chunk(parts), Held::Block(block, tables)) => {
                let header = tables.chunks.get(self.chunk);
                match header {
                    Some(header) => match parts.metadata(&block.reader, header)? {
                        Some(metadata) => metadata.column(name),
                        None => Ok(None),
                    },
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// The level of each row, if some have one.
    pub(super) fn level_column(&mut self, open: &OpenPlace) -> Result<Option<MetadataColumn>> {
        self.column(open, LEVEL)
    }

    /// For each of `rows` (ascending) the number that `number` gives for its metadata, of the names
    /// in `by` only.
    pub(super) fn groups(
        &mut self,
        open: &OpenPlace,
        by: &[String],
        rows: &[u32],
        mut number: impl FnMut(Labels) -> u32,
    ) -> Result<Vec<u32>> {
        const UNKNOWN: u32 = u32::MAX;
        if let Data::Page(page) = &self.data {
            let mut numbers = vec![UNKNOWN; page.sets.len() + 1];
            let of_row = |&row: &u32| {
                let code = page.set_code(row as usize);
                let known = &mut numbers[code as usize];
                if *known == UNKNOWN {
                    let set = page.sets.labels(code);
                    *known = number(set.filter(|n| by.iter().any(|b| b == n)));
                }
                *known
            };
            return Ok(rows.iter().map(of_row).collect());
        }
        let mut columns = Vec::new();
        for name in by {
            columns.extend(
                self.column(open, name)?
                    .map(|column| (name.as_str(), column)),
            );
        }
        let mut known = std::collections::HashMap::new();
        let mut groups = Vec::with_capacity(rows.len());
        let mut last: Option<(Vec<u32>, u32)> = None;
        let mut key: Vec<u32> = Vec::new();
        for &row in rows {
            key.clear();
            let code = |column: &MetadataColumn| column.codes.get(row as usize).copied();
            key.extend(columns.iter().map(|(_, column)| code(column).unwrap_or(0)));
            if let Some((held, group)) = &last
                && *held == key
            {
                groups.push(*group);
                continue;
            }
            let group = match known.get(&key) {
                Some(&group) => group,
                None => {
                    let of_row = |(name, column): &(&'_ str, MetadataColumn)| {
                        ((*name).to_owned(), column.of_row(row as usize).to_owned())
                    };
                    let group = number(Labels::from_pairs(columns.iter().map(of_row))?);
                    known.insert(key.clone(), group);
                    group
                }
            };
            match &mut last {
                Some((held, last)) => {
                    held.clone_from(&key);
                    *last = group;
                }
                none => *none = Some((key.clone(), group)),
            }
            groups.push(group);
        }
        Ok(groups)
    }

    /// Unpacks the metadata of `rows` (ascending), unless it is there.
    pub(super) fn load_metadata(&mut self, open: &OpenPlace, rows: &[u32]) -> Result<()> {
        if let (Data::Chunk(parts), Held::Block(block, tables)) = (&mut self.data, &open.held)
            && !parts.named.covers(rows)
            && let Some(header) = tables.chunks.get(self.chunk)
        {
            // Who comes again comes more often: then it is unpacked of all rows.
            let is_first = matches!(parts.named, Expanded::None);
            let all: Vec<u32> = (0..header.rows).collect();
            let wanted = if is_first { rows } else { &all };
            parts.named = if is_first {
                Expanded::Rows(rows.to_vec())
            } else {
                Expanded::All
            };
            if let Some(metadata) = parts.metadata(&block.reader, header)? {
                (parts.sets, parts.codes) = metadata.sets_of(wanted)?;
            }
        }
        Ok(())
    }

    /// The code of the metadata of a row; 0 is the empty set.
    pub(super) fn set_code(&self, row: u32) -> u32 {
        match &self.data {
            Data::Page(page) => page.set_code(row as usize),
            Data::Chunk(parts) => parts.codes.get(row as usize).copied().unwrap_or(0),
        }
    }

    /// The metadata of a row; [`Unpacked::load_metadata`] comes first.
    pub(super) fn set(&self, row: u32) -> Labels {
        match &self.data {
            Data::Page(page) => page.sets.labels(page.set_code(row as usize)),
            Data::Chunk(parts) => parts.sets.labels(self.set_code(row)),
        }
    }
}

impl Parts {
    fn metadata(&mut self, file: &BlockFile, header: &ChunkHeader) -> Result<Option<&Metadata>> {
        if !self.has_metadata {
            self.metadata = file.metadata(header)?;
            self.has_metadata = true;
        }
        Ok(self.metadata.as_ref())
    }
}

/// Roughly what the text of a chunk takes.
const CHUNK_TEXT_BYTES: usize = 192 << 10;

/// Runs those of `tests` that the skeleton can answer, and takes them out.
fn search_skeleton(packed: &PackedLines, tests: &mut Vec<&Test>, rows: &mut Vec<u32>) {
    // Where lines end is found when it is asked for.
    let mut skeleton = None;
    tests.retain(|test| {
        if rows.is_empty() {
            return true;
        }
        let mut places = test
            .literals()
            .iter()
            .map(|literal| packed.place_of(literal));
        let place = places
            .next()
            .filter(|&first| places.all(|place| place == first));
        if place == Some(NeedlePlace::Skeleton)
            && let Some((finder, keeps)) = test.literal()
            && let Some(with) = packed.rows_with_text(finder)
        {
            retain_among(&with, keeps, rows);
            return false;
        }
        let (blob, ends) = skeleton.get_or_insert_with(|| packed.skeleton());
        let text = Text { blob, ends };
        match place {
            Some(NeedlePlace::Nowhere) => test.retain_nowhere(rows),
            Some(NeedlePlace::Skeleton) => test.retain(text, rows),
            _ => {
                // What the skeleton has of the needle leaves fewer lines to put together.
                let is_plain = |part: &Vec<u8>| packed.place_of(part) == NeedlePlace::Skeleton;
                if !test.parts().is_empty() && test.parts().iter().all(is_plain) {
                    test.retain_parts(text, rows);
                }
                if let Some(number) = test.number() {
                    retain_number(packed, number, text, rows);
                }
                return true;
            }
        }
        false
    });
}

/// Keeps those of `rows` that are among others, or, if not `keeps`, are not; all ascending.
pub(super) fn retain_among(others: &[u32], keeps: bool, rows: &mut Vec<u32>) {
    if keeps && rows.len() == others.len() && rows == others {
        return;
    }
    let mut others = others.iter().peekable();
    rows.retain(|row| {
        while others.next_if(|&other| other < row).is_some() {}
        (others.peek() == Some(&row)) == keeps
    });
}

/// Keeps those of `rows` (ascending) that have a number, as a variable or in their text, or what will
/// do in its place.
fn retain_number(packed: &PackedLines, number: &Number, text: Text<'_>, rows: &mut Vec<u32>) {
    let is_plain = |part: &Vec<u8>| packed.place_of(part) == NeedlePlace::Skeleton;
    if rows.is_empty() || !number.or.iter().all(is_plain) {
        return;
    }
    // Whoever puts the lines together meets what is wrong with variables, and tells it.
    let Ok(Some(with)) = packed.rows_with(&number.digits) else {
        return;
    };
    let mut in_text = rows.clone();
    retain_among(&with, false, &mut in_text);
    number.retain(text, &mut in_text);
    retain_among(&with, true, rows);
    rows.append(&mut in_text);
    rows.sort_unstable();
}

/// Whether the metadata of a row meets a condition.
fn passes_of(condition: &Condition, column: MetadataColumn) -> Box<dyn Fn(u32) -> bool> {
    /// Columns of more values are asked row by row.
    const VALUES_MAX: usize = 64;
    let matcher = condition.matcher.clone();
    if column.len() > VALUES_MAX {
        return Box::new(move |row| matcher.matches(column.of_row(row as usize)));
    }
    let codes = 0..=u32::try_from(column.len()).unwrap_or(0);
    let passes: Vec<bool> = codes
        .map(|code| matcher.matches(column.value(code)))
        .collect();
    Box::new(move |row| {
        let code = column.codes.get(row as usize).copied().unwrap_or(0);
        passes.get(code as usize).is_some_and(|&passes| passes)
    })
}
