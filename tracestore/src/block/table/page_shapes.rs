//! Which attributes the rows of a table have, read page by page or for a merge as a whole.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use trine_storage::Result;
use trine_storage::codec::Reader;

use super::read::{Column, Located, TableReader};
use super::{ORDERS, Presence, RARE, SHAPES, SOME_RARE, SPELLED, order, small};
use crate::block::shapes::{Lists, Numbering, RowShapes};
use crate::block::values::{Texts, Values};

/// The shapes of rows of a page.
#[derive(Debug)]
pub(crate) struct PageShapes<'a> {
    lists: &'a [Box<[u32]>],
    lists_with: &'a [Vec<(u32, u32)>],
    told: Told,
}

/// How they are told.
#[derive(Debug)]
enum Told {
    /// One code a row; 0 when it is spelled out.
    Codes { codes: Vec<u64>, spelled: Spelled },
    /// The lists of rows from `first` on.
    Rows {
        first: u32,
        lists: RowLists,
        /// How many values each column has, by number, of the rows before the first.
        before: Vec<u32>,
    },
}

/// Rows of a page whose shapes are spelled out.
#[derive(Debug, Default)]
struct Spelled {
    rows: Vec<u32>,
    lists: RowLists,
}

/// Lists one after the other.
#[derive(Debug, Default)]
struct RowLists {
    columns: Vec<u32>,
    ends: Vec<usize>,
}

impl RowLists {
    fn range(&self, at: usize) -> Range<usize> {
        let start = match at.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(usize::MAX),
            None => 0,
        };
        start..self.ends.get(at).copied().unwrap_or(0)
    }

    fn get(&self, at: usize) -> &[u32] {
        self.columns.get(self.range(at)).unwrap_or_default()
    }

    fn get_mut(&mut self, at: usize) -> &mut [u32] {
        let range = self.range(at);
        self.columns.get_mut(range).unwrap_or_default()
    }

    fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.ends.len()).map(|at| self.get(at))
    }
}

impl PageShapes<'_> {
    /// The columns of a row by number; `u32::MAX` for a rare one.
    pub(crate) fn list(&self, row: u32) -> &[u32] {
        let (codes, spelled) = match &self.told {
            Told::Codes { codes, spelled } => (codes, spelled),
            Told::Rows { first, lists, .. } => {
                return row
                    .checked_sub(*first)
                    .map_or(&[], |at| lists.get(at as usize));
            }
        };
        match codes.get(row as usize).copied() {
            None => &[],
            Some(0) => match spelled.rows.binary_search(&row) {
                Ok(at) => spelled.lists.get(at),
                Err(_) => &[],
            },
            Some(code) => {
                let at = usize::try_from(code - 1).unwrap_or(usize::MAX);
                self.lists.get(at).map_or(&[], |list| list)
            }
        }
    }

    /// Whether rows may have several values of a column.
    pub(super) fn repeats(&self, number: u32) -> bool {
        let Told::Codes { spelled, .. } = &self.told else {
            return true;
        };
        let mut lists = self.lists_with.get(number as usize).into_iter().flatten();
        let is_twice = |list: &[u32]| list.iter().filter(|held| **held == number).count() > 1;
        lists.any(|(_, count)| *count > 1) || spelled.lists.iter().any(is_twice)
    }

    /// Where the values of each row begin among those of a column in the page, by codes.
    pub(super) fn starts(&self, number: u32) -> Vec<u32> {
        let Told::Codes { codes, spelled } = &self.told else {
            return Vec::new();
        };
        let mut by_code = vec![0u32; self.lists.len() + 1];
        let lists = self.lists_with.get(number as usize);
        for (list, count) in lists.into_iter().flatten() {
            if let Some(held) = by_code.get_mut(*list as usize + 1) {
                *held = *count;
            }
        }
        let mut next = 0u32;
        let of_code = |code: u64| {
            let at = usize::try_from(code).unwrap_or(usize::MAX);
            by_code.get(at).copied().unwrap_or(0)
        };
        let mut starts = Vec::with_capacity(codes.len() + 1);
        starts.push(0);
        if spelled.rows.is_empty() {
            starts.extend(codes.iter().map(|&code| {
                next += of_code(code);
                next
            }));
            return starts;
        }
        let mut left = spelled.lists.iter();
        for &code in codes {
            next += match code {
                0 => {
                    let list = left.next().unwrap_or_default();
                    small(list.iter().filter(|held| **held == number).count())
                }
                code => of_code(code),
            };
            starts.push(next);
        }
        starts
    }

    /// How many values each column, by number, has of the rows before a row.
    pub(crate) fn before(&self, row: u32) -> Vec<u32> {
        let add = |counts: &mut Vec<u32>, columns: &[u32], rows: u32| {
            for column in columns {
                if let Some(count) = counts.get_mut(*column as usize) {
                    *count += rows;
                }
            }
        };
        let (codes, spelled) = match &self.told {
            Told::Codes { codes, spelled } => (codes, spelled),
            Told::Rows {
                first,
                lists,
                before,
            } => {
                let mut counts = before.clone();
                let rows = row.saturating_sub(*first) as usize;
                for list in lists.iter().take(rows) {
                    add(&mut counts, list, 1);
                }
                return counts;
            }
        };
        let mut counts = vec![0u32; self.lists_with.len()];
        let mut rows_with = vec![0u32; self.lists.len() + 1];
        let codes = codes.get(..row as usize).unwrap_or(codes);
        for &code in codes {
            let at = usize::try_from(code).unwrap_or(usize::MAX);
            if let Some(rows) = rows_with.get_mut(at) {
                *rows += 1;
            }
        }
        let before = spelled.rows.partition_point(|held| *held < row);
        for list in spelled.lists.iter().take(before) {
            add(&mut counts, list, 1);
        }
        for (list, rows) in self.lists.iter().zip(rows_with.iter().skip(1)) {
            if *rows > 0 {
                add(&mut counts, list, *rows);
            }
        }
        counts
    }
}

impl TableReader {
    /// The shapes of the rows `wanted` of a page, or of more of them.
    pub(crate) fn shapes(&self, page: usize, wanted: Range<u32>) -> Result<PageShapes<'_>> {
        let told = match self.told(&ORDERS) {
            Some(orders) => self.scattered(page, wanted, orders)?,
            None => self.codes(page)?,
        };
        Ok(PageShapes {
            lists: &self.lists,
            lists_with: self.lists_with.get_or_init(|| self.find_lists()),
            told,
        })
    }

    fn codes(&self, page: usize) -> Result<Told> {
        let mut codes = Vec::with_capacity(self.rows_of(page).len());
        match self.told(&SHAPES) {
            Some(column) => column.values.numbers(small(page), &mut codes)?,
            None => codes.resize(self.rows_of(page).len(), 1),
        }
        if codes.len() != self.rows_of(page).len() {
            return Err(self.corrupt("a page has not a shape of every row"));
        }
        let spelled = self.spelled(page)?;
        Ok(Told::Codes { codes, spelled })
    }

    fn spelled(&self, page: usize) -> Result<Spelled> {
        let mut spelled = Spelled::default();
        let Some(column) = self.told(&SPELLED) else {
            return Ok(spelled);
        };
        if let Located::Rows(rows, first) = self.locate(column, page, None)? {
            let mut texts = Texts::default();
            self.texts_at(column, first, rows.len(), &mut texts)?;
            let RowLists { columns, ends } = &mut spelled.lists;
            columns.reserve(texts.bytes_len());
            for text in texts.iter() {
                let mut reader = Reader::new(&self.name, text);
                while !reader.is_empty() {
                    columns.push(read_number(&mut reader)?);
                }
                ends.push(columns.len());
            }
            self.check_list(columns)?;
            spelled.rows = rows;
        }
        Ok(spelled)
    }

    /// The lists of rows of a page of a table whose columns tell their rows.
    fn scattered(&self, page: usize, wanted: Range<u32>, orders: &Column) -> Result<Told> {
        let of_page = self.rows_of(page);
        let first = wanted.start.min(small(of_page.len()));
        let end = wanted.end.clamp(first, small(of_page.len()));
        let count = (end - first) as usize;
        let mut before = vec![0u32; self.attribute_count()];
        // The rows of each column, in the usual order of columns, and where they end.
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        for number in self.lists.first().into_iter().flatten() {
            let column = self.own_column(*number as usize);
            if let Some(Presence::Pages(_, told)) = column.map(|column| &column.presence) {
                let of = small(of_page.len());
                let held = told.rows(small(page), of, first..end, &mut rows)?;
                if let Some(before) = before.get_mut(*number as usize) {
                    *before = held;
                }
            }
            ends.push((*number, rows.len()));
        }
        if let Some(rare) = self.told(&RARE)
            && let Located::Rows(held, _) = self.locate(rare, page, None)?
        {
            rows.extend(held.iter().filter(|row| (first..end).contains(row)));
            ends.push((SOME_RARE, rows.len()));
        }
        // Where the list of each row ends; first where the next column of it goes.
        let mut places = vec![0usize; count + 1];
        for row in &rows {
            if let Some(place) = places.get_mut((row - first) as usize + 1) {
                *place += 1;
            }
        }
        let mut next = 0;
        for place in &mut places {
            next += *place;
            *place = next;
        }
        let mut columns = vec![0u32; rows.len()];
        let mut from = 0;
        for (number, to) in ends {
            for row in rows.get(from..to).unwrap_or_default() {
                if let Some(place) = places.get_mut((row - first) as usize) {
                    if let Some(column) = columns.get_mut(*place) {
                        *column = number;
                    }
                    *place += 1;
                }
            }
            from = to;
        }
        places.pop();
        let mut lists = RowLists {
            columns,
            ends: places,
        };
        let mut told = Vec::with_capacity(count);
        orders
            .values
            .numbers_in(small(page), first..end, &mut told)?;
        let mut scratch = Vec::new();
        let mut spelled = None;
        for ((at, row), number) in (0..count).zip(first..).zip(told) {
            match number {
                order::USUAL => {}
                order::SPELLED => {
                    if spelled.is_none() {
                        spelled = Some(self.spelled(page)?);
                    }
                    let held = spelled.as_ref().and_then(|held| {
                        let at = held.rows.binary_search(&row).ok()?;
                        Some(held.lists.get(at))
                    });
                    let list = lists.get_mut(at);
                    let held = held.filter(|held| held.len() == list.len());
                    let missing = || self.corrupt("the attributes of a row are not spelled out");
                    list.copy_from_slice(held.ok_or_else(missing)?);
                }
                number => order::arrange(number, lists.get_mut(at), &mut scratch),
            }
        }
        Ok(Told::Rows {
            first,
            lists,
            before,
        })
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
        let Some(column) = self.told(&RARE) else {
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

    /// The shape of every row, rare columns included.
    pub(crate) fn row_shapes(&self) -> Result<RowShapes> {
        let rare = match self.told(&RARE) {
            Some(column) => column.values.read_all()?,
            None => Values::Numbers(Vec::new()),
        };
        let Values::Numbers(rare) = rare else {
            return Err(self.corrupt("columns of rows are no numbers"));
        };
        let mut rare = rare.into_iter();
        let mut known = Numbering::default();
        let mut all = Lists::default();
        let mut of_code: Vec<Option<u32>> = vec![None; self.lists.len() + 1];
        let mut codes = Vec::with_capacity(self.rows);
        let mut list = Vec::new();
        for page in 0..self.pages() {
            let shapes = self.shapes(page, 0..u32::MAX)?;
            for row in 0..small(self.rows_of(page).len()) {
                let code = match &shapes.told {
                    Told::Codes { codes, .. } => codes.get(row as usize).copied().unwrap_or(0),
                    Told::Rows { .. } => 0,
                };
                let at = usize::try_from(code).unwrap_or(usize::MAX);
                if let Some(Some(number)) = of_code.get(at) {
                    codes.push(*number);
                    continue;
                }
                list.clear();
                let mut is_common = code != 0;
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
                if matches!(shapes.told, Told::Rows { .. }) {
                    // They are hardly ever the same.
                    codes.push(small(all.len()));
                    all.push(list.iter().copied());
                    continue;
                }
                let number = known.number(list.iter().copied());
                if let Some(held) = of_code.get_mut(at).filter(|_| is_common) {
                    *held = Some(number);
                }
                codes.push(number);
            }
        }
        let lists = match self.told(&ORDERS) {
            Some(_) => all,
            None => known.finish(),
        };
        Ok(RowShapes { codes, lists })
    }

    fn find_lists(&self) -> Vec<Vec<(u32, u32)>> {
        let mut found: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.attribute_count()];
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

    pub(super) fn check_list(&self, list: &[u32]) -> Result<()> {
        let is_known = |number: &u32| *number == SOME_RARE || self.is_attribute(*number);
        if !list.iter().all(is_known) {
            return Err(self.corrupt("a shape names a column that is not there"));
        }
        Ok(())
    }
}

pub(super) fn read_list(reader: &mut Reader<'_>) -> Result<Box<[u32]>> {
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
