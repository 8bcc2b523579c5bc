//! Reads tables: the directory when one is opened, pages when they are asked for.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use trine_storage::codec::Reader;
use trine_storage::sealed::SealedFile;
use trine_storage::{Error, Result, pack};

use super::page_shapes::{PageShapes, read_list};
use super::pool::Pooled;
use super::{
    ANY_PAGES, BY_PAGES, BY_ROWS, BY_SHAPES, EVERY, IN_POOL, Key, ORDERS, PAGE_ROWS, Presence,
    RARE, SHAPES, SOME_RARE, SPELLED, by_page, read_key, small,
};
use crate::block::column::{ColumnMeta, ColumnReader};
use crate::block::numbers::ordered;
use crate::block::values::{Texts, Type, Values};

/// A column of a table that is read.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) key: Key,
    pub(crate) values: ColumnReader,
    pub(super) presence: Presence<ColumnReader>,
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
    /// place: of pages of [`PAGE_ROWS`] values when the column tells its rows, else in the page of the
    /// same number.
    Rows(Vec<u32>, usize),
}

/// Values of an attribute of some rows.
#[derive(Debug)]
pub(crate) struct Neighbours<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) values: &'a ColumnReader,
    /// Pages and positions among its values.
    pub(crate) places: Vec<(usize, Range<u32>)>,
}

/// A table that is read.
#[derive(Debug)]
pub(crate) struct TableReader {
    pub(super) name: Arc<str>,
    pub(super) rows: usize,
    /// By key, but for those that share one.
    columns: Vec<Column>,
    /// How many columns are no attributes; they come first.
    known: usize,
    /// The attributes by number, which is their place by key.
    attributes: Vec<Slot>,
    pub(super) pooled: Pooled,
    pub(super) lists: Vec<Box<[u32]>>,
    /// By the number of an attribute the lists that have it, and how often; worked out once.
    pub(super) lists_with: OnceLock<Vec<Vec<(u32, u32)>>>,
}

/// Where an attribute is.
#[derive(Debug, Clone, Copy)]
enum Slot {
    /// A column of its own.
    Column(u32),
    /// Among those that share one.
    Pooled(u32),
}

/// An attribute of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub(crate) number: usize,
    pub(crate) name: &'a str,
    pub(crate) kind: Type,
    /// How many values it has.
    pub(crate) values: u64,
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
            known: 0,
            attributes: Vec::new(),
            pooled: Pooled::default(),
            lists,
            lists_with: OnceLock::new(),
        };
        let mut last = None;
        for _ in 0..reader.count(4)? {
            let key = table.read_column(file, &mut reader)?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(reader.corrupt("the columns of a table are not sorted"));
            }
            last = Some(key);
        }
        if !reader.is_empty() {
            return Err(reader.corrupt("the directory of a table makes no sense"));
        }
        for list in &table.lists {
            table.check_list(list)?;
        }
        table.check_pools()?;
        Ok(table)
    }

    /// Reads the entry of a column; gives its key.
    fn read_column(&mut self, file: &SealedFile, reader: &mut Reader<'_>) -> Result<Key> {
        let key = read_key(reader)?;
        let number = small(self.attributes.len());
        let open = |kind, meta| ColumnReader::new(file, kind, Arc::new(meta));
        let presence = match reader.u8()? {
            EVERY => Presence::Every,
            BY_SHAPES => {
                let told = reader.varint()?;
                Presence::Shapes(u32::try_from(told).unwrap_or(SOME_RARE))
            }
            BY_ROWS => Presence::Rows(open(Type::Int, ColumnMeta::read(reader, ANY_PAGES)?)),
            BY_PAGES => {
                let told = u32::try_from(reader.varint()?).unwrap_or(SOME_RARE);
                let rows = ColumnMeta::read(reader, self.pages())?;
                Presence::Pages(told, open(Type::Int, rows))
            }
            IN_POOL => {
                let count = reader.varint()?;
                let (Key::Attribute(name, kind), Some(at)) = (&key, self.pooled.next()) else {
                    return Err(reader.corrupt("a column that is no attribute is with others"));
                };
                let is_known = self.pooled.push(name, *kind, count);
                is_known.ok_or_else(|| reader.corrupt("a shared column has too many values"))?;
                self.attributes.push(Slot::Pooled(at));
                return Ok(key);
            }
            _ => return Err(reader.corrupt("which rows a column has is told in an unknown way")),
        };
        if matches!(key, Key::Attribute(..)) {
            // Columns are sorted by key, and so are their numbers.
            let told = match &presence {
                Presence::Shapes(told) | Presence::Pages(told, _) => *told,
                Presence::Every | Presence::Rows(_) => number,
            };
            if told != number {
                return Err(reader.corrupt("a column has the number of another one"));
            }
            self.attributes
                .push(Slot::Column(small(self.columns.len())));
        } else if matches!(presence, Presence::Shapes(_) | Presence::Pages(..)) {
            return Err(reader.corrupt("a column that is no attribute is in shapes"));
        } else {
            self.known += 1;
        }
        let pages = match presence {
            Presence::Rows(_) => ANY_PAGES,
            Presence::Every | Presence::Shapes(_) | Presence::Pages(..) => self.pages(),
        };
        let meta = ColumnMeta::read(reader, pages)?;
        let told = match &presence {
            Presence::Pages(_, rows) => rows.meta().counts().eq(meta.counts()),
            Presence::Rows(rows) => rows.meta().values() == meta.values(),
            Presence::Every | Presence::Shapes(_) => true,
        };
        if !told {
            return Err(reader.corrupt("a column has not as many values as rows"));
        }
        let values = open(key.kind(), meta);
        self.columns.push(Column {
            key: key.clone(),
            values,
            presence,
        });
        Ok(key)
    }

    /// Whether an attribute has this number.
    pub(super) fn is_attribute(&self, number: u32) -> bool {
        (number as usize) < self.attributes.len()
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

    /// All columns, by key; those that share one are not among them.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many attributes there are.
    pub(crate) fn attribute_count(&self) -> usize {
        self.attributes.len()
    }

    /// The attributes, by name and type.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let slots = self.attributes.iter().enumerate();
        slots.filter_map(|(number, slot)| self.attribute(number, *slot))
    }

    fn attribute(&self, number: usize, slot: Slot) -> Option<Attribute<'_>> {
        let (name, kind, values) = match slot {
            Slot::Pooled(at) => {
                let (name, held) = self.pooled.get(at)?;
                (name, held.kind, u64::from(held.count))
            }
            Slot::Column(at) => {
                let column = self.columns.get(at as usize)?;
                let Key::Attribute(name, kind) = &column.key else {
                    return None;
                };
                (&**name, *kind, column.values.meta().values())
            }
        };
        Some(Attribute {
            number,
            name,
            kind,
            values,
        })
    }

    /// An attribute by its number, if it has a column of its own.
    pub(super) fn own_column(&self, number: usize) -> Option<&Column> {
        match self.attributes.get(number)? {
            Slot::Column(at) => self.columns.get(*at as usize),
            Slot::Pooled(_) => None,
        }
    }

    /// An attribute by its number, if it shares a column.
    pub(super) fn pooled_at(&self, number: usize) -> Option<u32> {
        match self.attributes.get(number)? {
            Slot::Column(_) => None,
            Slot::Pooled(at) => Some(*at),
        }
    }

    /// An attribute by its number.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), [`Kind::Io`](trine_storage::Kind::Io); so
    /// for all methods below.
    pub(crate) fn attribute_at(&self, number: usize) -> Result<Option<&Column>> {
        match self.pooled_at(number) {
            Some(at) => self.unpooled(at).map(Some),
            None => Ok(self.own_column(number)),
        }
    }

    /// Bytes that a column takes, with what tells its rows.
    pub(crate) fn bytes_of(column: &Column) -> u64 {
        let rows = match &column.presence {
            Presence::Rows(rows) | Presence::Pages(_, rows) => rows.meta().bytes(),
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
        [SHAPES, ORDERS, RARE, SPELLED].contains(&column.key)
    }

    /// A column that every table of its kind has, or one that [`TableReader::has`].
    pub(crate) fn known(&self, key: &Key) -> Result<&Column> {
        self.column(key)?
            .ok_or_else(|| Error::corrupt(&*self.name, 0, format!("the column {key:?} is missing")))
    }

    /// A column, if the table has it.
    pub(crate) fn column(&self, key: &Key) -> Result<Option<&Column>> {
        match self.slot(key) {
            Some(Slot::Column(at)) => Ok(self.columns.get(at as usize)),
            Some(Slot::Pooled(at)) => self.unpooled(at).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the table has a column.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.slot(key).is_some()
    }

    /// How many values a column has, if the table has it.
    pub(crate) fn values_of(&self, key: &Key) -> Option<u64> {
        match self.slot(key)? {
            Slot::Column(at) => Some(self.columns.get(at as usize)?.values.meta().values()),
            Slot::Pooled(at) => Some(self.pooled.get(at)?.1.count.into()),
        }
    }

    /// A column that it shares with no other, if the table has it.
    pub(super) fn own(&self, key: &Key) -> Option<&Column> {
        let at = self.columns.binary_search_by(|column| column.key.cmp(key));
        at.ok().and_then(|at| self.columns.get(at))
    }

    fn slot(&self, key: &Key) -> Option<Slot> {
        let own = self.columns.binary_search_by(|column| column.key.cmp(key));
        match (own, key) {
            (Ok(at), _) => Some(Slot::Column(small(at))),
            (Err(_), Key::Attribute(name, kind)) => self.pooled.find(name, *kind).map(Slot::Pooled),
            (Err(_), _) => None,
        }
    }

    /// A column that is no attribute, if the table has it.
    pub(super) fn told(&self, key: &Key) -> Option<&Column> {
        let columns = self.columns.get(..self.known).unwrap_or_default();
        let at = columns.binary_search_by(|column| column.key.cmp(key));
        at.ok().and_then(|at| columns.get(at))
    }

    /// Appends the numbers of a page of a column that every row has.
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
                let shapes = self.shapes(page, 0..u32::MAX)?;
                Ok(Located::Starts(shapes.starts(*number)))
            }
            (Presence::Rows(rows), _) => self.locate_rows(rows, page),
            (Presence::Pages(_, rows), _) => {
                let mut found = Vec::new();
                let of = small(self.rows_of(page).len());
                rows.rows(small(page), of, 0..of, &mut found)?;
                Ok(Located::Rows(found, page.saturating_mul(PAGE_ROWS)))
            }
        }
    }

    /// Whether a page of a column has the values of the rows of the page, one of each row that has
    /// any. `shapes` are those of the page, where they are needed to locate the values.
    pub(crate) fn has_one_each(&self, column: &Column, shapes: Option<&PageShapes<'_>>) -> bool {
        match (&column.presence, shapes) {
            (Presence::Every, _) => true,
            (Presence::Shapes(number), Some(shapes)) => !shapes.repeats(*number),
            _ => false,
        }
    }

    /// The number that shapes name a column by, where they do.
    pub(crate) fn shape_number(&self, column: &Column) -> Option<u32> {
        match &column.presence {
            Presence::Shapes(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether it takes the shapes of a page to locate the values of a column.
    pub(crate) fn asks_shapes(&self, column: &Column) -> bool {
        matches!(column.presence, Presence::Shapes(_))
    }

    /// The rows of an attribute, as often as they have it, when its column tells them page by page;
    /// `None` when they are told otherwise.
    pub(crate) fn rows_by_page(&self, attribute: usize) -> Result<Option<Vec<u32>>> {
        let column = self.own_column(attribute);
        let Some(Presence::Pages(_, told)) = column.map(|column| &column.presence) else {
            return Ok(None);
        };
        let mut rows = Vec::with_capacity(usize::try_from(told.meta().values()).unwrap_or(0));
        for (page, _) in told.meta().counts() {
            let of_page = self.rows_of(page as usize);
            let of = small(of_page.len());
            let at = rows.len();
            told.rows(page, of, 0..of, &mut rows)?;
            let new = rows.get_mut(at..).unwrap_or_default();
            new.iter_mut().for_each(|row| *row += small(of_page.start));
        }
        Ok(Some(rows))
    }

    /// Whether a column tells its rows, so that its pages are not those of the rows.
    pub(crate) fn tells_rows(&self, column: &Column) -> bool {
        matches!(column.presence, Presence::Rows(_))
    }

    pub(super) fn locate_rows(&self, rows: &ColumnReader, page: usize) -> Result<Located> {
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

    /// The column of an attribute, and where its `count` values of the row of a page and of later ones
    /// are. `before` is that of the shapes of the page.
    pub(crate) fn neighbours(
        &self,
        number: usize,
        (page, row): (usize, u32),
        before: &[u32],
        count: usize,
    ) -> Result<Neighbours<'_>> {
        if let Some(at) = self.pooled_at(number) {
            let row = self.rows_of(page).start.saturating_add(row as usize);
            return self.pooled_neighbours(at, row, count);
        }
        let missing = || self.corrupt("an attribute is not there");
        let column = self.own_column(number).ok_or_else(missing)?;
        let Key::Attribute(name, _) = &column.key else {
            return Err(missing());
        };
        let start = match &column.presence {
            Presence::Every => row,
            Presence::Shapes(_) | Presence::Pages(..) => before.get(number).copied().unwrap_or(0),
            Presence::Rows(rows) => {
                let Located::Rows(held, first) = self.locate_rows(rows, page)? else {
                    return Err(self.corrupt("rows of a column are not told"));
                };
                let first = first + held.partition_point(|held| *held < row);
                return Ok(Neighbours {
                    name: Arc::clone(name),
                    values: &column.values,
                    places: by_page(first, count).collect(),
                });
            }
        };
        Ok(Neighbours {
            name: Arc::clone(name),
            values: &column.values,
            places: vec![(page, start..start.saturating_add(small(count)))],
        })
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

    /// An error that says what is wrong with the table.
    pub(crate) fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(&*self.name, 0, what)
    }
}

/// How many pages a column that tells its rows has.
pub(super) fn pages_of(column: &ColumnReader) -> usize {
    let values = usize::try_from(column.meta().values()).unwrap_or(usize::MAX);
    values.div_ceil(PAGE_ROWS)
}
