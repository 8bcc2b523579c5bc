//! Writes tables: values column by column, then the shapes of the rows and the directory.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::codec::put_varint;
use trine_storage::sealed::SealedWriter;
use trine_storage::{Result, pack};

use super::{
    BY_ROWS, BY_SHAPES, COLUMNS_ALWAYS, COLUMNS_MAX, EVERY, Key, PAGE_ROWS, Presence, RARE,
    ROWS_PER_VALUE_MAX, SHAPES, SHAPES_MAX, SOME_RARE, SPELLED, put_key, small,
};
use crate::block::column::{self, ColumnMeta};
use crate::block::shapes::{Lists, RowShapes};
use crate::block::values::{Texts, Type, Values};

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
    rare_rows: HashMap<u32, Vec<u64>>,
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
        let mut rare_rows: HashMap<u32, Vec<u64>> =
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
    if lists_with.len() <= COLUMNS_ALWAYS {
        return Vec::new();
    }
    let rows = |lists: &[(u32, u32)]| -> u64 {
        let of_list = |(list, _): &(u32, u32)| by_list.get(*list as usize).copied().unwrap_or(0);
        lists.iter().map(of_list).map(u64::from).sum()
    };
    let mut by_rows: Vec<(Reverse<u64>, u32)> = (0..)
        .zip(lists_with)
        .map(|(column, lists)| (Reverse(rows(lists)), column))
        .collect();
    by_rows.sort_unstable();
    let all: u64 = by_list.iter().copied().map(u64::from).sum();
    let is_rare = |rows: u64| rows.saturating_mul(ROWS_PER_VALUE_MAX) < all;
    let ranked = by_rows.into_iter().enumerate();
    ranked
        .filter(|(rank, (Reverse(rows), _))| {
            *rank >= COLUMNS_MAX || *rank >= COLUMNS_ALWAYS && is_rare(*rows)
        })
        .map(|(_, (_, column))| column)
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
    order.sort_by_key(|number| Reverse(rows(number)));
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
