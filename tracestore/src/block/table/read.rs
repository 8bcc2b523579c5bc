//! Reads tables: the directory when one is opened, pages when they are asked for.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use trine_storage::codec::Reader;
use trine_storage::sealed::SealedFile;
use trine_storage::{Error, Result, pack};

use super::{
    ANY_PAGES, BY_ROWS, BY_SHAPES, EVERY, Key, PAGE_ROWS, Presence, RARE, SHAPES, SOME_RARE,
    SPELLED, by_page, read_key, small,
};
use crate::block::column::{ColumnMeta, ColumnReader};
use crate::block::numbers::ordered;
use crate::block::shapes::{Lists, RowShapes};
use crate::block::values::{Texts, Type, Values};

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

/// The shapes of a page.
#[derive(Debug)]
pub(crate) struct PageShapes<'a> {
    lists: &'a [Box<[u32]>],
    lists_with: &'a [Vec<(u32, u32)>],
    /// One a row; 0 when it is spelled out.
    codes: Vec<u64>,
    spelled: Spelled,
}

/// Rows of a page whose shapes are spelled out.
#[derive(Debug, Default)]
struct Spelled {
    rows: Vec<u32>,
    /// Their lists, one after the other.
    columns: Vec<u32>,
    ends: Vec<usize>,
}

impl Spelled {
    fn list(&self, at: usize) -> &[u32] {
        let start = match at.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(usize::MAX),
            None => 0,
        };
        let end = self.ends.get(at).copied().unwrap_or(0);
        self.columns.get(start..end).unwrap_or_default()
    }
}

impl PageShapes<'_> {
    /// The columns of a row by number; `u32::MAX` for a rare one.
    pub(crate) fn list(&self, row: u32) -> &[u32] {
        match self.codes.get(row as usize).copied() {
            None => &[],
            Some(0) => match self.spelled.rows.binary_search(&row) {
                Ok(at) => self.spelled.list(at),
                Err(_) => &[],
            },
            Some(code) => {
                let at = usize::try_from(code - 1).unwrap_or(usize::MAX);
                self.lists.get(at).map_or(&[], |list| list)
            }
        }
    }

    /// Where the values of each row begin among those of a column in the page.
    fn starts(&self, number: u32) -> Vec<u32> {
        let mut by_code = vec![0u32; self.lists.len() + 1];
        let lists = self.lists_with.get(number as usize);
        for (list, count) in lists.into_iter().flatten() {
            if let Some(held) = by_code.get_mut(*list as usize + 1) {
                *held = *count;
            }
        }
        let mut spelled = 0;
        let mut next = 0u32;
        let mut starts = Vec::with_capacity(self.codes.len() + 1);
        starts.push(0);
        for &code in &self.codes {
            next += match code {
                0 => {
                    let list = self.spelled.list(spelled);
                    spelled += 1;
                    small(list.iter().filter(|held| **held == number).count())
                }
                code => {
                    let at = usize::try_from(code).unwrap_or(usize::MAX);
                    by_code.get(at).copied().unwrap_or(0)
                }
            };
            starts.push(next);
        }
        starts
    }

    /// How many values each column, by number, has of the rows before a row.
    pub(crate) fn before(&self, row: u32) -> Vec<u32> {
        let mut counts = vec![0u32; self.lists_with.len()];
        let mut rows_with = vec![0u32; self.lists.len() + 1];
        let codes = self.codes.get(..row as usize).unwrap_or(&self.codes);
        for &code in codes {
            let at = usize::try_from(code).unwrap_or(usize::MAX);
            if let Some(rows) = rows_with.get_mut(at) {
                *rows += 1;
            }
        }
        let mut add = |columns: &[u32], rows: u32| {
            for column in columns {
                if let Some(count) = counts.get_mut(*column as usize) {
                    *count += rows;
                }
            }
        };
        let spelled = self.spelled.rows.partition_point(|held| *held < row);
        (0..spelled).for_each(|at| add(self.spelled.list(at), 1));
        for (list, rows) in self.lists.iter().zip(rows_with.iter().skip(1)) {
            if *rows > 0 {
                add(list, *rows);
            }
        }
        counts
    }
}

/// A table that is read.
#[derive(Debug)]
pub(crate) struct TableReader {
    name: Arc<str>,
    rows: usize,
    /// By key.
    columns: Vec<Column>,
    lists: Vec<Box<[u32]>>,
    /// By the number of an attribute the lists that have it, and how often; worked out once.
    lists_with: OnceLock<Vec<Vec<(u32, u32)>>>,
    /// How many columns are no attributes; they come first. The number of an attribute in shapes is
    /// its place behind them.
    known: usize,
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
            lists_with: OnceLock::new(),
            known: 0,
        };
        for _ in 0..reader.count(4)? {
            table.read_column(file, &mut reader)?;
        }
        if !reader.is_empty() || !table.columns.is_sorted_by(|a, b| a.key < b.key) {
            return Err(reader.corrupt("the directory of a table makes no sense"));
        }
        for list in &table.lists {
            table.check_list(list)?;
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

    /// Whether an attribute has this number.
    fn is_attribute(&self, number: u32) -> bool {
        (number as usize) < self.columns.len() - self.known
    }

    fn find_lists(&self) -> Vec<Vec<(u32, u32)>> {
        let attributes = self.columns.len() - self.known;
        let mut found: Vec<Vec<(u32, u32)>> = vec![Vec::new(); attributes];
        for (list, columns) in (0u32..).zip(&self.lists) {
            for column in columns {
                let Some(lists) = found.get_mut(*column as usize) else {
                    continue;
                };
                match lists.last_mut() {
                    Some((last, count)) if *last == list => *count += 1,
                    _ => lists.push((list, 1)),
                }
            }
        }
        found
    }

    fn check_list(&self, list: &[u32]) -> Result<()> {
        let is_known = |number: &u32| *number == SOME_RARE || self.is_attribute(*number);
        if !list.iter().all(is_known) {
            return Err(self.corrupt("a shape names a column that is not there"));
        }
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
        self.numbers_of(self.known(&Key::Number(number))?, rows)
    }

    /// The numbers at some places of a column, of pages of [`PAGE_ROWS`] values.
    pub(crate) fn numbers_of(&self, column: &Column, places: Range<usize>) -> Result<Vec<u64>> {
        let mut out = Vec::with_capacity(places.len().min(self.rows));
        for (page, positions) in by_page(places.start, places.len()) {
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
        if codes.len() != self.rows_of(page).len() {
            return Err(self.corrupt("a page has not a shape of every row"));
        }
        let mut spelled = Spelled::default();
        if let Some(column) = self.column(&SPELLED)
            && let Located::Rows(rows, first) = self.locate(column, page, None)?
        {
            let mut texts = Texts::default();
            self.texts_at(column, first, rows.len(), &mut texts)?;
            spelled.columns.reserve(texts.bytes_len());
            for text in texts.iter() {
                let mut reader = Reader::new(&self.name, text);
                while !reader.is_empty() {
                    spelled.columns.push(read_number(&mut reader)?);
                }
                spelled.ends.push(spelled.columns.len());
            }
            self.check_list(&spelled.columns)?;
            spelled.rows = rows;
        }
        Ok(PageShapes {
            lists: &self.lists,
            lists_with: self.lists_with.get_or_init(|| self.find_lists()),
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

    /// The pages and positions of `count` neighbouring values of a column, the first of them that of
    /// `row` of a page or a later one. `before` is that of the shapes of the page.
    pub(crate) fn neighbours(
        &self,
        column: &Column,
        (page, row): (usize, u32),
        before: &[u32],
        count: usize,
    ) -> Result<Vec<(usize, Range<u32>)>> {
        let start = match &column.presence {
            Presence::Every => row,
            Presence::Shapes(number) => before.get(*number as usize).copied().unwrap_or(0),
            Presence::Rows(rows) => {
                let Located::Rows(held, first) = self.locate_rows(rows, page)? else {
                    return Err(self.corrupt("rows of a column are not told"));
                };
                let first = first + held.partition_point(|held| *held < row);
                return Ok(by_page(first, count).collect());
            }
        };
        Ok(vec![(page, start..start.saturating_add(small(count)))])
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
                        let number = number.filter(|number| self.is_attribute(*number));
                        let missing = || self.corrupt("a row has attributes that are not told");
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

fn read_list(reader: &mut Reader<'_>) -> Result<Box<[u32]>> {
    let count = reader.count(1)?;
    (0..count).map(|_| read_number(reader)).collect()
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
