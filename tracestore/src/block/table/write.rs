//! Writes tables: values column by column, then the shapes of the rows and the directory.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use trine_storage::codec::put_varint;
use trine_storage::sealed::SealedWriter;
use trine_storage::{Result, pack};

use super::{
    BY_PAGES, BY_ROWS, BY_SHAPES, COLUMNS_ALWAYS, COLUMNS_MAX, EVERY, IN_POOL, Key, ORDERS,
    OTHERS_MAX, PAGE_ROWS, POOLED_MAX, Presence, RARE, ROWS_PER_SHAPE, ROWS_PER_VALUE_MAX, SHAPES,
    SHAPES_ALWAYS, SHAPES_MAX, SOME_RARE, SPELLED, order, put_key, put_told, small,
};
use crate::block::column::{self, ColumnMeta};
use crate::block::presence;
use crate::block::shapes::{List, Numbering, RowShapes};
use crate::block::values::{Texts, Type, Values};

/// Writes a table column by column.
#[derive(Debug)]
pub(crate) struct TableWriter<'a> {
    sink: &'a mut SealedWriter,
    rows: usize,
    lists: Vec<Box<[u32]>>,
    entries: Vec<Entry>,
}

/// A column of the directory.
#[derive(Debug)]
struct Entry {
    key: Key,
    stored: Stored,
}

#[derive(Debug)]
enum Stored {
    Own(Box<(Presence<ColumnMeta>, ColumnMeta)>),
    /// So many values of the pool of its type.
    Pooled(usize),
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

    fn entry(&mut self, key: Key, presence: Presence<ColumnMeta>, meta: ColumnMeta) {
        let stored = Stored::Own(Box::new((presence, meta)));
        self.entries.push(Entry { key, stored });
    }

    /// Rows and values of the column that was written last, if it tells its rows.
    pub(super) fn last_of_rows(self) -> Option<(ColumnMeta, ColumnMeta)> {
        let stored = self.entries.into_iter().next_back()?.stored;
        let Stored::Own(own) = stored else {
            return None;
        };
        match *own {
            (Presence::Rows(rows), values) => Some((rows, values)),
            _ => None,
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
        self.entry(key, Presence::Every, meta);
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
        self.entry(key, Presence::Rows(rows), meta);
        Ok(())
    }

    /// Writes the attributes, and which rows have them as `plan` says. `source` gives what a column
    /// has.
    ///
    /// # Errors
    /// Those of the file and of `source`.
    pub(crate) fn attributes(
        &mut self,
        keys: &[(Arc<str>, Type)],
        shapes: &RowShapes,
        plan: &Plan,
        source: &mut dyn AttributeSource,
    ) -> Result<()> {
        self.write_rare(plan, shapes)?;
        let mut told = match &plan.told {
            Told::Listed(listed) => {
                self.write_codes(plan, listed, shapes)?;
                ToldRows::Lists(PagesOfLists::new(plan, shapes))
            }
            Told::Scattered => ToldRows::Pages(self.write_orders(plan, shapes)?),
        };
        let mut pools = Pools::default();
        for (number, (name, kind)) in keys.iter().enumerate() {
            let Some(told_number) = plan.number(number) else {
                continue;
            };
            let key = Key::Attribute(Arc::clone(name), *kind);
            let values = source.values(number)?;
            if plan.is_rare(small(number)) {
                let rows = source.rows(number);
                if values.len() > POOLED_MAX {
                    self.of_rows(key, rows, &values)?;
                } else {
                    let stored = Stored::Pooled(values.len());
                    self.entries.push(Entry { key, stored });
                    pools.push(*kind, rows, &values);
                }
                continue;
            }
            let (presence, ends) = match &mut told {
                ToldRows::Lists(pages) => {
                    (Presence::Shapes(told_number), pages.ends(small(number)))
                }
                ToldRows::Pages(pages) => {
                    let of_column = pages.remove(&small(number)).unwrap_or_default();
                    let rows = of_column.iter();
                    let rows = rows.map(|page| (page.page, page.count, &*page.bytes));
                    let rows = column::write_rows(self.sink, rows)?;
                    let ends = self.ends_of(&of_column);
                    (Presence::Pages(told_number, rows), ends)
                }
            };
            let meta = column::write(self.sink, *kind, &values, &ends)?;
            self.entry(key, presence, meta);
        }
        for (kind, Pool { rows, values }) in pools.0 {
            self.of_rows(Key::Pool(kind), rows, &values)?;
        }
        Ok(())
    }

    /// Writes the columns of rare attributes, in the order of rows and attributes.
    fn write_rare(&mut self, plan: &Plan, shapes: &RowShapes) -> Result<()> {
        if !plan.has_rare() {
            return Ok(());
        }
        let (mut rare, mut rows) = (Vec::new(), Vec::new());
        for (row, list) in (0u64..).zip(&shapes.codes) {
            for column in shapes.lists.get(*list) {
                if plan.is_rare(column) {
                    rare.push(plan.number(column as usize).unwrap_or(SOME_RARE).into());
                    rows.push(row);
                }
            }
        }
        self.of_rows(RARE, rows, &Values::Numbers(rare))
    }

    /// Writes the codes of listed shapes, and spells the others out.
    fn write_codes(&mut self, plan: &Plan, listed: &Listed, shapes: &RowShapes) -> Result<()> {
        let code_of = |list: u32| listed.codes.get(list as usize).copied().unwrap_or(0);
        let codes = shapes.codes.iter().map(|list| code_of(*list).into());
        self.every(SHAPES, &Values::Numbers(codes.collect()))?;
        let mut spelled = Spelled::default();
        for (row, list) in (0u64..).zip(&shapes.codes) {
            if code_of(*list) == 0 {
                spelled.push(row, plan.told(shapes.lists.get(*list)));
            }
        }
        self.write_spelled(spelled)?;
        self.lists.clone_from(&listed.lists);
        Ok(())
    }

    fn write_spelled(&mut self, spelled: Spelled) -> Result<()> {
        self.of_rows(SPELLED, spelled.rows, &Values::Plain(spelled.lists))
    }

    /// Writes in which order the attributes of each row are; gives which rows of each page have
    /// each column.
    fn write_orders(
        &mut self,
        plan: &Plan,
        shapes: &RowShapes,
    ) -> Result<HashMap<u32, Vec<PageOfRows>>> {
        let order = order::usual(shapes, &|column| plan.is_rare(column));
        let ranks: HashMap<u32, u32> = order.iter().copied().zip(0..).collect();
        let rank = |column: u32| match plan.is_rare(column) {
            true => small(order.len()),
            false => ranks.get(&column).copied().unwrap_or(0),
        };
        let mut of_column: Vec<u32> = Vec::new();
        for column in 0..small(plan.numbers.len()) {
            of_column.push(rank(column));
        }
        let mut orders = Vec::with_capacity(shapes.codes.len());
        let mut spelled = Spelled::default();
        let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); order.len()];
        let mut pages: Vec<Vec<PageOfRows>> = vec![Vec::new(); order.len()];
        let mut list = Vec::new();
        for (page, codes) in (0u32..).zip(shapes.codes.chunks(PAGE_ROWS)) {
            for (row, code) in (0u32..).zip(codes) {
                list.clear();
                let columns = shapes.lists.get(*code);
                list.extend(columns.map(|c| of_column.get(c as usize).copied().unwrap_or(0)));
                for rank in &list {
                    if let Some(rows) = rows_of.get_mut(*rank as usize) {
                        rows.push(row);
                    }
                }
                let told = order::number(&mut list);
                if told == order::SPELLED {
                    let at = u64::from(page) * PAGE_ROWS as u64 + u64::from(row);
                    spelled.push(at, plan.told(shapes.lists.get(*code)));
                }
                orders.push(told);
            }
            for (rows, pages) in rows_of.iter_mut().zip(&mut pages) {
                if !rows.is_empty() {
                    let mut bytes = Vec::new();
                    presence::put_page(&mut bytes, rows);
                    let count = rows.len();
                    let bytes = bytes.into_boxed_slice();
                    pages.push(PageOfRows { page, count, bytes });
                    rows.clear();
                }
            }
        }
        self.every(ORDERS, &Values::Numbers(orders))?;
        self.write_spelled(spelled)?;
        let known = order.iter();
        let known = known.map(|column| plan.number(*column as usize).unwrap_or(SOME_RARE));
        self.lists = vec![known.collect()];
        Ok(order.into_iter().zip(pages).collect())
    }

    /// How many values the pages of the rows have up to each one.
    fn ends_of(&self, pages: &[PageOfRows]) -> Vec<u32> {
        let mut ends = vec![0; self.rows.div_ceil(PAGE_ROWS)];
        for held in pages {
            if let Some(end) = ends.get_mut(held.page as usize) {
                *end = small(held.count);
            }
        }
        let mut next = 0u32;
        for end in &mut ends {
            next = next.saturating_add(*end);
            *end = next;
        }
        ends
    }

    /// Writes the directory of the table as a section.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn finish(mut self, section: u32) -> Result<()> {
        self.entries.sort_by(|a, b| a.key.cmp(&b.key));
        let mut out = Vec::new();
        put_varint(&mut out, self.rows as u64);
        put_varint(&mut out, self.lists.len() as u64);
        for list in &self.lists {
            put_varint(&mut out, list.len() as u64);
            list.iter().for_each(|column| put_told(&mut out, *column));
        }
        put_varint(&mut out, self.entries.len() as u64);
        for Entry { key, stored } in &self.entries {
            put_key(&mut out, key);
            let (presence, meta) = match stored {
                Stored::Own(own) => &**own,
                Stored::Pooled(count) => {
                    out.push(IN_POOL);
                    put_varint(&mut out, *count as u64);
                    continue;
                }
            };
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
                Presence::Pages(number, rows) => {
                    out.push(BY_PAGES);
                    put_varint(&mut out, (*number).into());
                    rows.put(&mut out);
                }
            }
            meta.put(&mut out);
        }
        self.sink.section(section, &pack::pack(&out)?)
    }
}

/// Values of columns that few rows have, by type.
#[derive(Default)]
struct Pools(BTreeMap<Type, Pool>);

struct Pool {
    rows: Vec<u64>,
    values: Values,
}

impl Pools {
    /// Appends a column.
    fn push(&mut self, kind: Type, rows: Vec<u64>, values: &Values) {
        let pool = self.0.entry(kind).or_insert_with(|| Pool {
            rows: Vec::new(),
            values: match kind.is_number() {
                true => Values::Numbers(Vec::new()),
                false => Values::Plain(Texts::default()),
            },
        });
        pool.rows.extend(rows);
        match (&mut pool.values, values) {
            (Values::Numbers(all), Values::Numbers(numbers)) => all.extend_from_slice(numbers),
            (Values::Plain(all), Values::Plain(texts)) => texts.iter().for_each(|t| all.push(t)),
            (Values::Plain(all), Values::Coded { codes, dictionary }) => {
                codes
                    .iter()
                    .for_each(|code| all.push(dictionary.get(*code as usize)));
            }
            _ => debug_assert!(false, "values of another type"),
        }
    }
}

/// What columns are written of.
pub(crate) trait AttributeSource {
    /// The values of a column in the order of the rows.
    ///
    /// # Errors
    /// Those of reading them.
    fn values(&mut self, column: usize) -> Result<Values>;

    /// The rows of these values, of a rare column.
    fn rows(&self, column: usize) -> Vec<u64>;
}

/// Rows whose shapes are spelled out.
#[derive(Default)]
struct Spelled {
    rows: Vec<u64>,
    lists: Texts,
}

impl Spelled {
    fn push(&mut self, row: u64, told: impl Iterator<Item = u32>) {
        self.rows.push(row);
        self.lists.push_with(|out| {
            for number in told {
                put_told(out, number);
            }
        });
    }
}

/// The rows of a page that have a column, packed.
#[derive(Debug, Clone)]
struct PageOfRows {
    page: u32,
    count: usize,
    bytes: Box<[u8]>,
}

/// Which rows have columns that are not rare.
enum ToldRows {
    Lists(PagesOfLists),
    Pages(HashMap<u32, Vec<PageOfRows>>),
}

/// How columns and shapes are written.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How many values each column has.
    values: Vec<u64>,
    /// The number of each column among those that rows have.
    numbers: Vec<u32>,
    /// Columns that shapes do not name.
    rare: Vec<bool>,
    told: Told,
}

#[derive(Debug)]
enum Told {
    Listed(Listed),
    /// Few rows have the same shape: each column tells its rows, page by page.
    Scattered,
}

#[derive(Debug)]
struct Listed {
    /// The code of each list of the rows; 0 for those that are spelled out.
    codes: Vec<u32>,
    /// Lists by code - 1, with [`SOME_RARE`] for rare columns.
    lists: Vec<Box<[u32]>>,
}

impl Plan {
    /// A plan for columns of so many numbers that rows of these shapes have.
    pub(crate) fn new(columns: usize, shapes: &RowShapes) -> Self {
        let by_list = shapes.rows_by_list();
        let mut values = vec![0u64; columns];
        for (list, rows) in shapes.lists.iter().zip(&by_list) {
            for column in list {
                if let Some(values) = values.get_mut(column as usize) {
                    *values += u64::from(*rows);
                }
            }
        }
        let mut next = 0;
        let numbers = values.iter().map(|values| {
            let number = next;
            next += u32::from(*values > 0);
            number
        });
        let mut plan = Self {
            numbers: numbers.collect(),
            rare: rare_columns(&values, shapes.codes.len() as u64),
            values,
            told: Told::Scattered,
        };
        if let Some(listed) = plan.listed(shapes, &by_list) {
            plan.told = Told::Listed(listed);
        }
        plan
    }

    /// How many values a column has.
    pub(crate) fn values(&self, column: u32) -> u64 {
        self.values.get(column as usize).copied().unwrap_or(0)
    }

    /// Whether shapes do not name a column.
    pub(crate) fn is_rare(&self, column: u32) -> bool {
        self.rare.get(column as usize).copied().unwrap_or(false)
    }

    fn has_rare(&self) -> bool {
        !self.rare.is_empty()
    }

    /// The number of a column; none when no row has it.
    fn number(&self, column: usize) -> Option<u32> {
        let number = self.numbers.get(column).copied();
        number.filter(|_| self.values.get(column).is_some_and(|values| *values > 0))
    }

    /// What a shape says.
    fn told<'a>(&'a self, list: List<'a>) -> impl Iterator<Item = u32> + 'a {
        list.map(|column| match self.is_rare(column) {
            true => SOME_RARE,
            false => self.number(column as usize).unwrap_or(SOME_RARE),
        })
    }

    /// The list of the shapes; none when too few rows have a shape that is worth a place in it.
    fn listed(&self, shapes: &RowShapes, by_list: &[u32]) -> Option<Listed> {
        let mut short = Numbering::default();
        let mut numbers: Vec<Option<u32>> = Vec::with_capacity(shapes.lists.len());
        let mut rows_of: Vec<u64> = Vec::new();
        for (list, rows) in shapes.lists.iter().zip(by_list) {
            if *rows == 0 {
                numbers.push(None);
                continue;
            }
            let number = short.number(self.told(list));
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
        order.sort_by_key(|number| Reverse(rows(number)));
        order.truncate(SHAPES_MAX);
        if short.len() > SHAPES_ALWAYS {
            let repeated = order
                .iter()
                .map(rows)
                .filter(|rows| *rows >= ROWS_PER_SHAPE);
            let others = shapes.codes.len() as u64 - repeated.sum::<u64>();
            if others.saturating_mul(OTHERS_MAX) > shapes.codes.len() as u64 {
                return None;
            }
        }
        let mut codes = vec![0u32; short.len()];
        for (code, number) in (1..).zip(&order) {
            if let Some(held) = codes.get_mut(*number as usize) {
                *held = code;
            }
        }
        let code = |number: Option<u32>| number.and_then(|n| codes.get(n as usize).copied());
        let of_lists = numbers.into_iter().map(|number| code(number).unwrap_or(0));
        let kept = order.iter().map(|number| short.get(*number).collect());
        Some(Listed {
            codes: of_lists.collect(),
            lists: kept.collect(),
        })
    }
}

/// The columns that shapes do not name; empty when there are none.
fn rare_columns(values: &[u64], rows: u64) -> Vec<bool> {
    if values.len() <= COLUMNS_ALWAYS {
        return Vec::new();
    }
    let mut by_values: Vec<(Reverse<u64>, u32)> = values
        .iter()
        .map(|values| Reverse(*values))
        .zip(0..)
        .collect();
    by_values.sort_unstable();
    let mut rare = vec![false; values.len()];
    let mut has_rare = false;
    for (rank, (Reverse(values), column)) in by_values.into_iter().enumerate() {
        let is_rare = rank >= COLUMNS_MAX
            || rank >= COLUMNS_ALWAYS && values.saturating_mul(ROWS_PER_VALUE_MAX) < rows;
        if let Some(held) = rare
            .get_mut(column as usize)
            .filter(|_| is_rare && values > 0)
        {
            *held = true;
            has_rare = true;
        }
    }
    if !has_rare {
        rare.clear();
    }
    rare
}

/// How often each page has each list, and which lists have a column.
struct PagesOfLists {
    pages: Vec<Vec<(u32, u32)>>,
    lists_with: Vec<Vec<(u32, u32)>>,
    occurrences: Vec<u32>,
}

impl PagesOfLists {
    fn new(plan: &Plan, shapes: &RowShapes) -> Self {
        let mut lists_with: Vec<Vec<(u32, u32)>> = vec![Vec::new(); plan.values.len()];
        for (list, held) in (0..).zip(shapes.lists.iter()) {
            for column in held.filter(|column| !plan.is_rare(*column)) {
                let Some(lists) = lists_with.get_mut(column as usize) else {
                    continue;
                };
                match lists.last_mut() {
                    Some((last, count)) if *last == list => *count += 1,
                    _ => lists.push((list, 1)),
                }
            }
        }
        Self {
            pages: lists_by_page(shapes),
            lists_with,
            occurrences: vec![0; shapes.lists.len()],
        }
    }

    /// How many values of a column the pages have up to each one.
    fn ends(&mut self, column: u32) -> Vec<u32> {
        let lists = self.lists_with.get(column as usize);
        let lists = lists.map_or(&[][..], Vec::as_slice);
        for (list, count) in lists {
            if let Some(held) = self.occurrences.get_mut(*list as usize) {
                *held = *count;
            }
        }
        let ends = ends_by_page(&self.pages, &self.occurrences);
        for (list, _) in lists {
            if let Some(held) = self.occurrences.get_mut(*list as usize) {
                *held = 0;
            }
        }
        ends
    }
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
