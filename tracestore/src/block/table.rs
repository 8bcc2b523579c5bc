//! Tables: rows in pages, columns that every row has, and attributes. Spans, events, links, resources,
//! instrumentation scopes and traces are tables. `build` writes them, `image` opens them, reads and
//! merges read them.
//!
//! Which attributes a row has is its *shape*, a number of the table's list of shapes; values of a
//! column are only of rows that have it. Shapes that are too many are spelled out row by row, and
//! columns that are too many and rare tell their rows themselves. See `FORMAT.md`, "Table".

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;
use std::sync::Arc;

use trine_storage::codec::{Reader, put_bytes, put_varint};
use trine_storage::pack;
use trine_storage::sealed::{SealedFile, SealedWriter};
use trine_storage::{Error, Result};

use super::column::{self, ColumnMeta, ColumnReader};
use super::numbers::ordered;
use super::shapes::{Lists, RowShapes};
use super::values::{Texts, Type, Values};

/// Rows of a page.
pub(crate) const PAGE_ROWS: usize = 8192;
/// Attribute columns that shapes name; the rarest of more are named by their own rows.
pub(crate) const COLUMNS_MAX: usize = 512;
/// Shapes in the list of a table; the rarest of more are spelled out.
pub(crate) const SHAPES_MAX: usize = 16_384;

/// The codes of shapes, a number of every row; 0 for rows whose shape is spelled out.
const SHAPES: Key = Key::Number(255);
/// Numbers of columns that are not in shapes, in the order of rows and attributes.
const RARE: Key = Key::Number(254);
/// Shapes of rows that are in no list.
const SPELLED: Key = Key::Bytes(255);

/// Stands in a shape for an attribute whose column is told by [`RARE`].
const SOME_RARE: u32 = u32::MAX;

/// What a column is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// A number that the table knows, by its place among those.
    Number(u8),
    /// A text that the table knows.
    Text(u8),
    /// Bytes that the table knows.
    Bytes(u8),
    /// An attribute.
    Attribute(Arc<str>, Type),
}

impl Key {
    fn kind(&self) -> Type {
        match self {
            Self::Number(_) => Type::Int,
            Self::Text(_) => Type::Str,
            Self::Bytes(_) => Type::Other,
            Self::Attribute(_, kind) => *kind,
        }
    }
}

/// Which rows a column has values of.
#[derive(Debug)]
enum Presence<R> {
    /// One of each row.
    Every,
    /// As many of a row as its shape says, of the column of this number.
    Shapes(u32),
    /// One of each of these rows.
    Rows(R),
}

/// Columns that tell their rows may have more pages than their table.
const ANY_PAGES: usize = usize::MAX;

const EVERY: u8 = 0;
const BY_SHAPES: u8 = 1;
const BY_ROWS: u8 = 2;

const NUMBER: u8 = 0;
const TEXT: u8 = 1;
const BYTES: u8 = 2;
const ATTRIBUTE: u8 = 3;

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Writes a table column by column.
#[derive(Debug)]
pub(crate) struct TableWriter<'a> {
    sink: &'a mut SealedWriter,
    rows: usize,
    lists: Vec<Box<[u32]>>,
    entries: Vec<(Key, Presence<ColumnMeta>, ColumnMeta)>,
}

impl<'a> TableWriter<'a> {
    /// Begins a table of so many rows.
    pub(crate) fn new(sink: &'a mut SealedWriter, rows: usize) -> Self {
        Self {
            sink,
            rows,
            lists: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Where pages of so many rows or values end.
    fn page_ends(count: usize) -> Vec<u32> {
        let ends = (1..=count.div_ceil(PAGE_ROWS)).map(|page| small((page * PAGE_ROWS).min(count)));
        ends.collect()
    }

    /// Writes a column that has a value of every row.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn every(&mut self, key: Key, values: &Values) -> Result<()> {
        debug_assert_eq!(values.len(), self.rows, "{key:?} has a value of every row");
        let meta = column::write(self.sink, key.kind(), values, &Self::page_ends(self.rows))?;
        self.entries.push((key, Presence::Every, meta));
        Ok(())
    }

    /// Writes a column that has values of these rows, ascending; nothing when there are none.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn of_rows(&mut self, key: Key, rows: Vec<u64>, values: &Values) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let ends = Self::page_ends(rows.len());
        let rows = column::write(self.sink, Type::Int, &Values::Numbers(rows), &ends)?;
        let meta = column::write(self.sink, key.kind(), values, &ends)?;
        self.entries.push((key, Presence::Rows(rows), meta));
        Ok(())
    }

    /// Writes the attributes: the columns that the lists of `shapes` name by number, and which rows
    /// have them. `values` gives a column in row order.
    ///
    /// # Errors
    /// Those of the file and of `values`.
    pub(crate) fn attributes(
        &mut self,
        keys: &[(Arc<str>, Type)],
        shapes: &RowShapes,
        values: &mut dyn FnMut(usize) -> Result<Values>,
    ) -> Result<()> {
        let plan = Plan::new(keys.len(), shapes);
        self.write_shapes(&plan, shapes)?;
        let pages = lists_by_page(shapes);
        let mut occurrences = vec![0u32; shapes.lists.len()];
        for (number, (name, kind)) in keys.iter().enumerate() {
            let of_column = plan.lists_with.get(number).map_or(&[][..], Vec::as_slice);
            if of_column.is_empty() {
                continue;
            }
            let key = Key::Attribute(Arc::clone(name), *kind);
            let values = values(number)?;
            if let Some(rows) = plan.rare_rows.get(&small(number)) {
                self.of_rows(key, rows.clone(), &values)?;
                continue;
            }
            let told = plan.numbers.get(number).copied().unwrap_or(SOME_RARE);
            for (list, count) in of_column {
                if let Some(held) = occurrences.get_mut(*list as usize) {
                    *held = *count;
                }
            }
            let ends = ends_by_page(&pages, &occurrences);
            for (list, _) in of_column {
                if let Some(held) = occurrences.get_mut(*list as usize) {
                    *held = 0;
                }
            }
            let meta = column::write(self.sink, *kind, &values, &ends)?;
            self.entries.push((key, Presence::Shapes(told), meta));
        }
        Ok(())
    }

    fn write_shapes(&mut self, plan: &Plan, shapes: &RowShapes) -> Result<()> {
        let code_of = |list: u32| plan.codes.get(list as usize).copied().unwrap_or(0);
        let codes = shapes.codes.iter().map(|list| code_of(*list).into());
        self.every(SHAPES, &Values::Numbers(codes.collect()))?;
        let (mut spelled, mut spelled_rows) = (Texts::default(), Vec::new());
        let (mut rare, mut rare_rows) = (Vec::new(), Vec::new());
        let mut text = Vec::new();
        for (row, list) in (0u64..).zip(&shapes.codes) {
            if code_of(*list) != 0 && !plan.has_rare.get(*list as usize).copied().unwrap_or(false) {
                continue;
            }
            let columns = shapes
                .lists
                .get(*list as usize)
                .map_or(&[][..], |list| list);
            text.clear();
            for &column in columns {
                let number = plan.numbers.get(column as usize).copied().unwrap_or(0);
                if plan.rare_rows.contains_key(&column) {
                    rare.push(number.into());
                    rare_rows.push(row);
                    put_varint(&mut text, 0);
                } else {
                    put_varint(&mut text, u64::from(number) + 1);
                }
            }
            if code_of(*list) == 0 {
                spelled.push(&text);
                spelled_rows.push(row);
            }
        }
        self.of_rows(SPELLED, spelled_rows, &Values::Plain(spelled))?;
        self.of_rows(RARE, rare_rows, &Values::Numbers(rare))?;
        self.lists.clone_from(&plan.lists);
        Ok(())
    }

    /// Writes the directory of the table as a section.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn finish(mut self, section: u32) -> Result<()> {
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = Vec::new();
        put_varint(&mut out, self.rows as u64);
        put_varint(&mut out, self.lists.len() as u64);
        for list in &self.lists {
            put_varint(&mut out, list.len() as u64);
            for &column in list {
                let is_rare = column == SOME_RARE;
                put_varint(&mut out, if is_rare { 0 } else { u64::from(column) + 1 });
            }
        }
        put_varint(&mut out, self.entries.len() as u64);
        for (key, presence, meta) in &self.entries {
            put_key(&mut out, key);
            match presence {
                Presence::Every => out.push(EVERY),
                Presence::Shapes(number) => {
                    out.push(BY_SHAPES);
                    put_varint(&mut out, (*number).into());
                }
                Presence::Rows(rows) => {
                    out.push(BY_ROWS);
                    rows.put(&mut out);
                }
            }
            meta.put(&mut out);
        }
        self.sink.section(section, &pack::pack(&out)?)
    }
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    match key {
        Key::Number(number) => out.extend([NUMBER, *number]),
        Key::Text(number) => out.extend([TEXT, *number]),
        Key::Bytes(number) => out.extend([BYTES, *number]),
        Key::Attribute(name, kind) => {
            out.extend([ATTRIBUTE, *kind as u8]);
            put_bytes(out, name.as_bytes());
        }
    }
}

fn read_key(reader: &mut Reader<'_>) -> Result<Key> {
    Ok(match (reader.u8()?, reader.u8()?) {
        (NUMBER, number) => Key::Number(number),
        (TEXT, number) => Key::Text(number),
        (BYTES, number) => Key::Bytes(number),
        (ATTRIBUTE, kind) => {
            let kinds = [
                Type::Str,
                Type::Int,
                Type::Float,
                Type::Bool,
                Type::Array,
                Type::Other,
            ];
            let kind = kinds.into_iter().find(|known| *known as u8 == kind);
            let kind = kind.ok_or_else(|| reader.corrupt("the type of a column is unknown"))?;
            Key::Attribute(reader.text()?.into(), kind)
        }
        _ => return Err(reader.corrupt("the kind of a column is unknown")),
    })
}

/// How shapes are written.
#[derive(Debug)]
struct Plan {
    /// The code of each list of the rows; 0 for those that are spelled out.
    codes: Vec<u32>,
    /// Lists by code - 1, with [`SOME_RARE`] for rare columns.
    lists: Vec<Box<[u32]>>,
    /// Whether a list of the rows has rare columns.
    has_rare: Vec<bool>,
    /// Rows of rare columns.
    rare_rows: std::collections::HashMap<u32, Vec<u64>>,
    /// For each column the lists that have it, and how often.
    lists_with: Vec<Vec<(u32, u32)>>,
    /// The number of each column among those that rows have.
    numbers: Vec<u32>,
}

impl Plan {
    fn new(columns: usize, shapes: &RowShapes) -> Self {
        let by_list = shapes.rows_by_list();
        let mut lists_with: Vec<Vec<(u32, u32)>> = vec![Vec::new(); columns];
        for (list, held) in (0..).zip(&shapes.lists) {
            if by_list.get(list as usize).is_none_or(|rows| *rows == 0) {
                continue;
            }
            for column in held {
                let Some(lists) = lists_with.get_mut(*column as usize) else {
                    continue;
                };
                match lists.last_mut() {
                    Some((last, count)) if *last == list => *count += 1,
                    _ => lists.push((list, 1)),
                }
            }
        }
        let rare = rare_columns(&lists_with, &by_list);
        let mut rare_rows: std::collections::HashMap<u32, Vec<u64>> =
            rare.iter().map(|column| (*column, Vec::new())).collect();
        let is_rare = |column: &u32| rare_rows.contains_key(column);
        let has_rare: Vec<bool> = if rare.is_empty() {
            Vec::new()
        } else {
            let lists = shapes.lists.iter();
            lists.map(|list| list.iter().any(is_rare)).collect()
        };
        let mut next = 0;
        let numbers: Vec<u32> = lists_with
            .iter()
            .map(|lists| {
                let number = next;
                next += u32::from(!lists.is_empty());
                number
            })
            .collect();
        let told = |column: &u32| {
            let number = numbers.get(*column as usize).copied();
            if is_rare(column) {
                SOME_RARE
            } else {
                number.unwrap_or(SOME_RARE)
            }
        };
        let (codes, lists) = number_lists(shapes, &by_list, &told);
        if !rare.is_empty() {
            for (row, list) in (0u64..).zip(&shapes.codes) {
                if !has_rare.get(*list as usize).copied().unwrap_or(false) {
                    continue;
                }
                let held = shapes
                    .lists
                    .get(*list as usize)
                    .map_or(&[][..], |list| list);
                for column in held {
                    if let Some(rows) = rare_rows.get_mut(column) {
                        rows.push(row);
                    }
                }
            }
        }
        Self {
            codes,
            lists,
            has_rare,
            rare_rows,
            lists_with,
            numbers,
        }
    }
}

/// The columns that shapes do not name.
fn rare_columns(lists_with: &[Vec<(u32, u32)>], by_list: &[u32]) -> Vec<u32> {
    if lists_with.len() <= COLUMNS_MAX {
        return Vec::new();
    }
    let rows = |lists: &[(u32, u32)]| -> u64 {
        let of_list = |(list, _): &(u32, u32)| by_list.get(*list as usize).copied().unwrap_or(0);
        lists.iter().map(of_list).map(u64::from).sum()
    };
    let mut by_rows: Vec<(std::cmp::Reverse<u64>, u32)> = (0..)
        .zip(lists_with)
        .map(|(column, lists)| (std::cmp::Reverse(rows(lists)), column))
        .collect();
    by_rows.sort_unstable();
    by_rows
        .into_iter()
        .skip(COLUMNS_MAX)
        .map(|(_, column)| column)
        .collect()
}

/// The code of each list, and the lists by code - 1.
fn number_lists(
    shapes: &RowShapes,
    by_list: &[u32],
    tell: &dyn Fn(&u32) -> u32,
) -> (Vec<u32>, Vec<Box<[u32]>>) {
    let mut short = Lists::default();
    let mut numbers: Vec<Option<u32>> = Vec::with_capacity(shapes.lists.len());
    let mut rows_of: Vec<u64> = Vec::new();
    let mut told = Vec::new();
    for (list, rows) in shapes.lists.iter().zip(by_list) {
        if *rows == 0 {
            numbers.push(None);
            continue;
        }
        told.clear();
        told.extend(list.iter().map(tell));
        let number = short.number(&told);
        rows_of.resize(rows_of.len().max(number as usize + 1), 0);
        if let Some(held) = rows_of.get_mut(number as usize) {
            *held += u64::from(*rows);
        }
        numbers.push(Some(number));
    }
    let short = short.finish();
    // The most frequent first, so that their codes are small.
    let mut order: Vec<u32> = (0..small(short.len())).collect();
    let rows = |number: &u32| rows_of.get(*number as usize).copied().unwrap_or(0);
    order.sort_by_key(|number| std::cmp::Reverse(rows(number)));
    order.truncate(SHAPES_MAX);
    let mut codes = vec![0u32; short.len()];
    for (code, number) in (1..).zip(&order) {
        if let Some(held) = codes.get_mut(*number as usize) {
            *held = code;
        }
    }
    let code = |number: Option<u32>| number.and_then(|n| codes.get(n as usize).copied());
    let of_lists = numbers.into_iter().map(|number| code(number).unwrap_or(0));
    let kept = order
        .iter()
        .filter_map(|number| short.get(*number as usize).cloned());
    (of_lists.collect(), kept.collect())
}

/// How often each page has each list.
fn lists_by_page(shapes: &RowShapes) -> Vec<Vec<(u32, u32)>> {
    let mut counts = vec![0u32; shapes.lists.len()];
    let mut seen = Vec::new();
    let page = |codes: &[u32]| {
        for &code in codes {
            if let Some(count) = counts.get_mut(code as usize) {
                if *count == 0 {
                    seen.push(code);
                }
                *count += 1;
            }
        }
        let mut take = |list: u32| {
            let count = counts.get_mut(list as usize).map(std::mem::take);
            (list, count.unwrap_or(0))
        };
        seen.drain(..).map(&mut take).collect()
    };
    shapes.codes.chunks(PAGE_ROWS).map(page).collect()
}

fn ends_by_page(pages: &[Vec<(u32, u32)>], occurrences: &[u32]) -> Vec<u32> {
    let mut end = 0u32;
    let ends = pages.iter().map(|lists| {
        for (list, rows) in lists {
            end += rows * occurrences.get(*list as usize).copied().unwrap_or(0);
        }
        end
    });
    ends.collect()
}

/// A column of a table that is read.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) key: Key,
    pub(crate) values: ColumnReader,
    presence: Presence<ColumnReader>,
}

/// Where the values of a column lie that are of rows of one page.
#[derive(Debug)]
pub(crate) enum Located {
    /// In the page of the same number, one a row.
    Every,
    /// In the page of the same number; the values of row `n` begin at `starts[n]`, the last is their
    /// number.
    Starts(Vec<u32>),
    /// One each of these rows of the page (ascending; a row may be there again), the first at this
    /// place among all values of the column; pages of the column have [`PAGE_ROWS`] values.
    Rows(Vec<u32>, usize),
}

/// A table that is read.
#[derive(Debug)]
pub(crate) struct TableReader {
    name: Arc<str>,
    rows: usize,
    /// By key.
    columns: Vec<Column>,
    lists: Vec<Box<[u32]>>,
    /// How many columns are no attributes; they come first. The number of an attribute in shapes is
    /// its place behind them.
    known: usize,
}

/// The shapes of a page.
#[derive(Debug)]
pub(crate) struct PageShapes<'a> {
    lists: &'a [Box<[u32]>],
    /// One a row; 0 when it is spelled out.
    codes: Vec<u64>,
    /// Rows of the page and their lists.
    spelled: Vec<(u32, Vec<u32>)>,
}

impl PageShapes<'_> {
    /// The columns of a row by number; `u32::MAX` for a rare one.
    pub(crate) fn list(&self, row: u32) -> &[u32] {
        match self.codes.get(row as usize).copied() {
            None => &[],
            Some(0) => {
                let at = self.spelled.binary_search_by_key(&row, |(row, _)| *row);
                let held = at.ok().and_then(|at| self.spelled.get(at));
                held.map_or(&[], |(_, list)| list)
            }
            Some(code) => {
                let at = usize::try_from(code - 1).unwrap_or(usize::MAX);
                self.lists.get(at).map_or(&[], |list| list)
            }
        }
    }

    /// Where the values of each row begin among those of a column in the page.
    fn starts(&self, number: u32) -> Vec<u32> {
        let count = |list: &[u32]| small(list.iter().filter(|held| **held == number).count());
        let by_code: Vec<u32> = self.lists.iter().map(|list| count(list)).collect();
        let mut spelled = self.spelled.iter().map(|(_, list)| count(list));
        let mut next = 0u32;
        let mut starts = Vec::with_capacity(self.codes.len() + 1);
        starts.push(0);
        for &code in &self.codes {
            next += match usize::try_from(code)
                .ok()
                .and_then(|code| code.checked_sub(1))
            {
                Some(at) => by_code.get(at).copied().unwrap_or(0),
                None => spelled.next().unwrap_or(0),
            };
            starts.push(next);
        }
        starts
    }
}

impl TableReader {
    /// Reads the directory of a table.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io).
    pub(crate) fn open(file: &SealedFile, section: u32) -> Result<Self> {
        let name: Arc<str> = file.name().into();
        let bytes = pack::unpack(&name, &file.section(section)?)?;
        let mut reader = Reader::new(&name, &bytes);
        let rows = usize::try_from(reader.varint()?).ok();
        let rows = rows.filter(|rows| u32::try_from(*rows).is_ok());
        let rows = rows.ok_or_else(|| reader.corrupt("a table has too many rows"))?;
        let count = reader.count(1)?;
        let lists = (0..count)
            .map(|_| read_list(&mut reader))
            .collect::<Result<_>>()?;
        let mut table = Self {
            name: Arc::clone(&name),
            rows,
            columns: Vec::new(),
            lists,
            known: 0,
        };
        for _ in 0..reader.count(4)? {
            table.read_column(file, &mut reader)?;
        }
        if !reader.is_empty() || !table.columns.is_sorted_by(|a, b| a.key < b.key) {
            return Err(reader.corrupt("the directory of a table makes no sense"));
        }
        Ok(table)
    }

    fn read_column(&mut self, file: &SealedFile, reader: &mut Reader<'_>) -> Result<()> {
        let key = read_key(reader)?;
        let number = small(self.columns.len() - self.known);
        let open = |kind, meta| ColumnReader::new(file, kind, Arc::new(meta));
        let presence = match reader.u8()? {
            EVERY => Presence::Every,
            BY_SHAPES => {
                let told = reader.varint()?;
                Presence::Shapes(u32::try_from(told).unwrap_or(SOME_RARE))
            }
            BY_ROWS => Presence::Rows(open(Type::Int, ColumnMeta::read(reader, ANY_PAGES)?)),
            _ => return Err(reader.corrupt("which rows a column has is told in an unknown way")),
        };
        if matches!(key, Key::Attribute(..)) {
            // Columns are sorted by key, and so are their numbers.
            if matches!(presence, Presence::Shapes(told) if told != number) {
                return Err(reader.corrupt("a column has the number of another one"));
            }
        } else if matches!(presence, Presence::Shapes(_)) || self.known < self.columns.len() {
            return Err(reader.corrupt("a column that is no attribute is where those are"));
        } else {
            self.known += 1;
        }
        let pages = match presence {
            Presence::Rows(_) => ANY_PAGES,
            Presence::Every | Presence::Shapes(_) => self.pages(),
        };
        let meta = ColumnMeta::read(reader, pages)?;
        let values = open(key.kind(), meta);
        self.columns.push(Column {
            key,
            values,
            presence,
        });
        Ok(())
    }

    /// What errors call the file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> usize {
        self.rows.div_ceil(PAGE_ROWS)
    }

    /// The rows of a page.
    pub(crate) fn rows_of(&self, page: usize) -> Range<usize> {
        let start = page.saturating_mul(PAGE_ROWS);
        start.min(self.rows)..start.saturating_add(PAGE_ROWS).min(self.rows)
    }

    /// All columns, by key.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The attributes, by name and type.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&Arc<str>, &Column)> {
        let attributes = self.columns.get(self.known..).unwrap_or_default();
        attributes.iter().filter_map(|column| match &column.key {
            Key::Attribute(name, _) => Some((name, column)),
            Key::Number(_) | Key::Text(_) | Key::Bytes(_) => None,
        })
    }

    /// An attribute by its number among those.
    pub(crate) fn attribute_at(&self, number: usize) -> Option<&Column> {
        self.columns.get(self.known.checked_add(number)?)
    }

    /// Bytes that a column takes, with what tells its rows.
    pub(crate) fn bytes_of(column: &Column) -> u64 {
        let rows = match &column.presence {
            Presence::Rows(rows) => rows.meta().bytes(),
            Presence::Every | Presence::Shapes(_) => 0,
        };
        column.values.meta().bytes() + rows
    }

    /// Bytes of the values of a column and of where each ends, when they are unpacked.
    pub(crate) fn unpacked_bytes_of(column: &Column) -> u64 {
        let meta = column.values.meta();
        meta.raw_bytes().saturating_add(8 * meta.values())
    }

    /// Whether a column says which attributes rows have.
    pub(crate) fn is_of_shapes(column: &Column) -> bool {
        [SHAPES, RARE, SPELLED].contains(&column.key)
    }

    /// The columns of the attribute `name`, one for each type that it has.
    pub(crate) fn attribute(&self, name: &str) -> &[Column] {
        let named = |column: &Column| match &column.key {
            Key::Attribute(held, _) => (**held).cmp(name),
            Key::Number(_) | Key::Text(_) | Key::Bytes(_) => std::cmp::Ordering::Less,
        };
        let start = self.columns.partition_point(|c| named(c).is_lt());
        let end = self.columns.partition_point(|c| named(c).is_le());
        self.columns.get(start..end).unwrap_or_default()
    }

    /// A column that every table of its kind has.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when it is not there.
    pub(crate) fn known(&self, key: &Key) -> Result<&Column> {
        self.column(key)
            .ok_or_else(|| Error::corrupt(&*self.name, 0, format!("the column {key:?} is missing")))
    }

    /// A column, if the table has it.
    pub(crate) fn column(&self, key: &Key) -> Option<&Column> {
        let at = self.columns.binary_search_by(|column| column.key.cmp(key));
        at.ok().and_then(|at| self.columns.get(at))
    }

    /// Appends the numbers of a page of a column that every row has.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io); so
    /// for all methods below.
    pub(crate) fn numbers(&self, number: u8, page: usize, out: &mut Vec<u64>) -> Result<()> {
        let before = out.len();
        self.known(&Key::Number(number))?
            .values
            .numbers(small(page), out)?;
        if out.len() - before != self.rows_of(page).len() {
            return Err(self.corrupt("a page has not a value of every row"));
        }
        Ok(())
    }

    /// The numbers of all rows.
    pub(crate) fn all_numbers(&self, number: u8) -> Result<Vec<u64>> {
        let mut all = Vec::with_capacity(self.rows);
        for page in 0..self.pages() {
            self.numbers(number, page, &mut all)?;
        }
        Ok(all)
    }

    /// The number of one row of a column that every row has.
    pub(crate) fn number_at(&self, number: u8, row: usize) -> Result<u64> {
        if row >= self.rows {
            return Err(self.corrupt("a row is not there"));
        }
        self.number_in(self.known(&Key::Number(number))?, row)
    }

    /// The number at a place of a column, of pages of [`PAGE_ROWS`] values.
    pub(crate) fn number_in(&self, column: &Column, place: usize) -> Result<u64> {
        column
            .values
            .number_at(small(place / PAGE_ROWS), small(place % PAGE_ROWS))
    }

    /// The numbers of some rows of a column that every row has.
    pub(crate) fn numbers_in(&self, number: u8, rows: Range<usize>) -> Result<Vec<u64>> {
        let column = self.known(&Key::Number(number))?;
        let mut out = Vec::with_capacity(rows.len().min(self.rows));
        for (page, positions) in by_page(rows.start, rows.len()) {
            column.values.numbers_in(small(page), positions, &mut out)?;
        }
        Ok(out)
    }

    /// Appends the texts of rows of a page (ascending; of all rows without) of a column that every
    /// row has.
    pub(crate) fn texts(
        &self,
        key: &Key,
        page: usize,
        rows: Option<&[u32]>,
        out: &mut Texts,
    ) -> Result<()> {
        self.known(key)?.values.texts(small(page), rows, out)
    }

    /// The shapes of a page.
    pub(crate) fn shapes(&self, page: usize) -> Result<PageShapes<'_>> {
        let mut codes = Vec::with_capacity(self.rows_of(page).len());
        match self.column(&SHAPES) {
            Some(column) => column.values.numbers(small(page), &mut codes)?,
            None => codes.resize(self.rows_of(page).len(), 1),
        }
        let mut spelled = Vec::new();
        if let Some(column) = self.column(&SPELLED)
            && let Located::Rows(rows, first) = self.locate(column, page, None)?
        {
            let mut texts = Texts::default();
            self.texts_at(column, first, rows.len(), &mut texts)?;
            for (row, text) in rows.into_iter().zip(texts.iter()) {
                let mut reader = Reader::new(&self.name, text);
                spelled.push((row, spelled_list(&mut reader)?));
            }
        }
        Ok(PageShapes {
            lists: &self.lists,
            codes,
            spelled,
        })
    }

    /// Where the values of a column lie that are of rows of a page. `shapes` are those of the page,
    /// if they are known.
    pub(crate) fn locate(
        &self,
        column: &Column,
        page: usize,
        shapes: Option<&PageShapes<'_>>,
    ) -> Result<Located> {
        match (&column.presence, shapes) {
            (Presence::Every, _) => Ok(Located::Every),
            (Presence::Shapes(number), Some(shapes)) => Ok(Located::Starts(shapes.starts(*number))),
            (Presence::Shapes(number), None) => {
                Ok(Located::Starts(self.shapes(page)?.starts(*number)))
            }
            (Presence::Rows(rows), _) => self.locate_rows(rows, page),
        }
    }

    /// Whether a column of a shape is told by the rows of the table.
    pub(crate) fn is_rare(column: u32) -> bool {
        column == SOME_RARE
    }

    /// The numbers of the rare columns that some rows of a page have, in their order. `shapes` are
    /// those of the page.
    pub(crate) fn rare_of(
        &self,
        page: usize,
        shapes: &PageShapes<'_>,
        rows: &Range<u32>,
    ) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let Some(column) = self.column(&RARE) else {
            return Ok(found);
        };
        let rare = |row| {
            shapes
                .list(row)
                .iter()
                .filter(|held| Self::is_rare(**held))
                .count()
        };
        if rows.clone().map(rare).sum::<usize>() == 0 {
            return Ok(found);
        }
        if let Located::Rows(held, first) = self.locate(column, page, None)? {
            let from = held.partition_point(|row| *row < rows.start);
            let to = held.partition_point(|row| *row < rows.end);
            for place in first + from..first + to {
                let number = self.number_in(column, place)?;
                found.push(u32::try_from(number).unwrap_or(SOME_RARE));
            }
        }
        Ok(found)
    }

    /// Whether a column tells its rows, so that its pages are not those of the rows.
    pub(crate) fn tells_rows(&self, column: &Column) -> bool {
        matches!(column.presence, Presence::Rows(_))
    }

    fn locate_rows(&self, rows: &ColumnReader, page: usize) -> Result<Located> {
        let wanted = self.rows_of(page);
        let (start, end) = (wanted.start as u64, wanted.end as u64);
        let mut found = Vec::new();
        let mut first = None;
        let mut all = Vec::new();
        let bounds = [start, end.saturating_sub(1)].map(|row| ordered(Type::Int, row));
        for held in 0..pages_of(rows) {
            if !rows.may_have(small(held), bounds[0], bounds[1]) {
                continue;
            }
            all.clear();
            rows.numbers(small(held), &mut all)?;
            for (at, row) in all.iter().enumerate() {
                if (start..end).contains(row) {
                    first.get_or_insert(held * PAGE_ROWS + at);
                    found.push(u32::try_from(row - start).unwrap_or(u32::MAX));
                }
            }
        }
        if !found.is_sorted() {
            return Err(self.corrupt("the rows of a column are in disorder"));
        }
        Ok(Located::Rows(found, first.unwrap_or(0)))
    }

    /// All rows of a column that tells its rows; `None` when they are told otherwise.
    pub(crate) fn told_rows(&self, column: &Column) -> Result<Option<Vec<u64>>> {
        let Presence::Rows(rows) = &column.presence else {
            return Ok(None);
        };
        match rows.read_all()? {
            Values::Numbers(all) => Ok(Some(all)),
            Values::Coded { .. } | Values::Plain(_) => Err(self.corrupt("rows are no numbers")),
        }
    }

    /// Appends `count` texts from the place `first` on of a column that tells its rows.
    pub(crate) fn texts_at(
        &self,
        column: &Column,
        first: usize,
        count: usize,
        out: &mut Texts,
    ) -> Result<()> {
        for (page, positions) in by_page(first, count) {
            let positions: Vec<u32> = positions.collect();
            column.values.texts(small(page), Some(&positions), out)?;
        }
        Ok(())
    }

    /// The shape of every row, rare columns included.
    pub(crate) fn row_shapes(&self) -> Result<RowShapes> {
        let rare = match self.column(&RARE) {
            Some(column) => column.values.read_all()?,
            None => Values::Numbers(Vec::new()),
        };
        let Values::Numbers(rare) = rare else {
            return Err(self.corrupt("columns of rows are no numbers"));
        };
        let mut rare = rare.into_iter();
        let mut lists = Lists::default();
        let mut of_code: Vec<Option<u32>> = vec![None; self.lists.len() + 1];
        let mut codes = Vec::with_capacity(self.rows);
        let mut list = Vec::new();
        for page in 0..self.pages() {
            let shapes = self.shapes(page)?;
            for (row, code) in (0u32..).zip(&shapes.codes) {
                let at = usize::try_from(*code).unwrap_or(usize::MAX);
                if let Some(Some(number)) = of_code.get(at) {
                    codes.push(*number);
                    continue;
                }
                list.clear();
                let mut is_common = *code != 0;
                for &column in shapes.list(row) {
                    if column == SOME_RARE {
                        is_common = false;
                        let number = rare.next().and_then(|n| u32::try_from(n).ok());
                        let missing = || self.corrupt("a row has more attributes than are told");
                        list.push(number.ok_or_else(missing)?);
                    } else {
                        list.push(column);
                    }
                }
                let number = lists.number(&list);
                if let Some(held) = of_code.get_mut(at).filter(|_| is_common) {
                    *held = Some(number);
                }
                codes.push(number);
            }
        }
        Ok(RowShapes {
            codes,
            lists: lists.finish(),
        })
    }

    /// An error that says what is wrong with the table.
    pub(crate) fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(&*self.name, 0, what)
    }
}

/// How many pages a column that tells its rows has.
fn pages_of(column: &ColumnReader) -> usize {
    let values = usize::try_from(column.meta().values()).unwrap_or(usize::MAX);
    values.div_ceil(PAGE_ROWS)
}

/// The pages and positions of `count` values from `first` on, of pages of [`PAGE_ROWS`].
pub(crate) fn by_page(first: usize, count: usize) -> impl Iterator<Item = (usize, Range<u32>)> {
    let end = first.saturating_add(count);
    let pages = first / PAGE_ROWS..end.div_ceil(PAGE_ROWS);
    pages.filter(move |_| count > 0).map(move |page| {
        let start = page * PAGE_ROWS;
        let from = first.max(start) - start;
        let to = end.min(start + PAGE_ROWS) - start;
        (page, small(from)..small(to))
    })
}

fn read_list(reader: &mut Reader<'_>) -> Result<Box<[u32]>> {
    let count = reader.count(1)?;
    (0..count).map(|_| read_number(reader)).collect()
}

/// A list without its length.
fn spelled_list(reader: &mut Reader<'_>) -> Result<Vec<u32>> {
    let mut list = Vec::new();
    while !reader.is_empty() {
        list.push(read_number(reader)?);
    }
    Ok(list)
}

fn read_number(reader: &mut Reader<'_>) -> Result<u32> {
    match reader.varint()? {
        0 => Ok(SOME_RARE),
        told => match u32::try_from(told - 1) {
            Ok(number) if number != SOME_RARE => Ok(number),
            _ => Err(reader.corrupt("the number of a column is too large")),
        },
    }
}
