//! Applies filters that are ready to pages of rows. `condition` calls it for small tables, `rows`
//! and `counts` for spans.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cell::OnceCell;

use roaring::RoaringBitmap;
use trine_storage::Result;

use super::condition::{Leaf, Node, hex};
use super::page_rows::PageRows;
use super::test::{Ready, holds};
use super::view::View;
use crate::block::format::span;
use crate::block::numbers::Wanted;
use crate::block::table::{Column, Key, Located, PAGE_ROWS, PageShapes, TableReader, by_page};
use crate::block::values::{Texts, Type, ValueRef};
use crate::request::Test;

/// Values are read one by one when so many times fewer rows are left than the page has.
const FEW: usize = 16;

/// A page of rows that filters are applied to.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    table: &'a TableReader,
    /// For spans.
    view: Option<&'a View>,
    number: usize,
    shapes: OnceCell<PageShapes<'a>>,
}

impl<'a> Page<'a> {
    /// A page of a table that is not that of spans.
    pub(crate) fn new(table: &'a TableReader, number: usize) -> Self {
        Self {
            table,
            view: None,
            number,
            shapes: OnceCell::new(),
        }
    }

    /// A page of spans.
    pub(crate) fn of_spans(view: &'a View, number: usize) -> Self {
        Self {
            view: Some(view),
            ..Self::new(&view.image.spans, number)
        }
    }

    /// The rows of `among` that satisfy a filter.
    pub(crate) fn rows(&self, node: &Node, among: &PageRows) -> Result<PageRows> {
        match node {
            Node::No => Ok(PageRows::none()),
            Node::All => Ok(among.clone()),
            Node::And(nodes) => {
                let mut left = among.clone();
                for node in nodes {
                    if left.is_empty() {
                        break;
                    }
                    left = self.rows(node, &left)?;
                }
                Ok(left)
            }
            Node::Or(nodes) => {
                let mut left = among.clone();
                let mut found = PageRows::none();
                for node in nodes {
                    if left.is_empty() {
                        break;
                    }
                    let rows = self.rows(node, &left)?;
                    left.without(&rows);
                    found.or(&rows);
                }
                Ok(found)
            }
            Node::Not(node) => {
                let mut left = among.clone();
                left.without(&self.rows(node, among)?);
                Ok(left)
            }
            Node::Leaf(leaf) => {
                let mut found = self.leaf(leaf, among)?;
                found.and(among);
                Ok(found)
            }
        }
    }

    fn leaf(&self, leaf: &Leaf, among: &PageRows) -> Result<PageRows> {
        match leaf {
            Leaf::Column {
                key,
                prepared,
                test,
                ..
            } => self.column(self.table.known(key)?, prepared, test.as_ref(), among),
            Leaf::Without(keys) => {
                let mut found = among.clone();
                for key in keys {
                    found.without(&self.present(self.table.known(key)?)?);
                }
                Ok(found)
            }
            Leaf::Rows(rows) => Ok(self.told(rows)),
            Leaf::NotRows(rows) => {
                let mut found = among.clone();
                found.without(&self.told(rows));
                Ok(found)
            }
            leaf => match self.view {
                Some(view) => self.of_traces(view, leaf, among),
                None => Ok(PageRows::none()),
            },
        }
    }

    pub(crate) fn table(&self) -> &'a TableReader {
        self.table
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    fn first_row(&self) -> u32 {
        u32::try_from(self.number * PAGE_ROWS).unwrap_or(u32::MAX)
    }

    fn told(&self, rows: &RoaringBitmap) -> PageRows {
        let first = self.first_row();
        let end = first.saturating_add(u32::try_from(PAGE_ROWS).unwrap_or(u32::MAX));
        let mut found = PageRows::none();
        rows.range(first..end)
            .for_each(|row| found.insert(row - first));
        found
    }

    fn shapes(&self) -> Result<&PageShapes<'a>> {
        if let Some(shapes) = self.shapes.get() {
            return Ok(shapes);
        }
        let shapes = self.table.shapes(self.number, 0..u32::MAX)?;
        Ok(self.shapes.get_or_init(|| shapes))
    }

    /// Where the values of a column are that are of rows of this page.
    pub(crate) fn locate(&self, column: &Column) -> Result<Located> {
        self.table
            .locate(column, self.number, self.shapes_of(column)?)
    }

    /// The shapes of the page, where the values of a column are located by them.
    fn shapes_of(&self, column: &Column) -> Result<Option<&PageShapes<'a>>> {
        let is_asked = self.table.asks_shapes(column);
        is_asked.then(|| self.shapes()).transpose()
    }

    /// Marks the columns that the shapes of some rows name, by their numbers.
    pub(crate) fn mark_columns(&self, rows: &[u32], marked: &mut Vec<bool>) -> Result<()> {
        let shapes = self.shapes()?;
        let mut last: &[u32] = &[];
        for list in rows.iter().map(|row| shapes.list(*row)) {
            if std::ptr::eq(list, last) {
                continue;
            }
            last = list;
            // Rare columns tell their rows themselves.
            for number in list.iter().filter(|number| **number != u32::MAX) {
                let at = *number as usize;
                if at >= marked.len() {
                    marked.resize(at + 1, false);
                }
                if let Some(marked) = marked.get_mut(at) {
                    *marked = true;
                }
            }
        }
        Ok(())
    }

    /// Whether the page of a column has the values of this page, one of each row that has any.
    pub(crate) fn has_one_each(&self, column: &Column) -> Result<bool> {
        let shapes = self.shapes_of(column)?;
        Ok(self.table.has_one_each(column, shapes))
    }

    /// Hands over what comes with those of some rows (ascending) that have a value of a column, each
    /// with the place of the first value from where the values of the page begin in the column, which is
    /// given.
    pub(crate) fn each_place<T>(
        &self,
        column: &Column,
        among: impl Iterator<Item = (u32, T)>,
        mut each: impl FnMut(T, u32),
    ) -> Result<usize> {
        let mut begin = self.number * PAGE_ROWS;
        match self.locate(column)? {
            Located::Every => among.for_each(|(row, with)| each(with, row)),
            Located::Starts(starts) => {
                for (row, with) in among {
                    let ends = starts.get(row as usize).zip(starts.get(row as usize + 1));
                    if let Some((start, end)) = ends
                        && start < end
                    {
                        each(with, *start);
                    }
                }
            }
            Located::Rows(held, first) => {
                begin = first;
                let mut held = (0u32..).zip(held).peekable();
                for (row, with) in among {
                    while held.next_if(|(_, at)| *at < row).is_some() {}
                    if let Some((place, _)) = held.next_if(|(_, at)| *at == row) {
                        each(with, place);
                    }
                }
            }
        }
        Ok(begin)
    }

    /// The rows that have a value of a column.
    pub(crate) fn present(&self, column: &Column) -> Result<PageRows> {
        let mut found = PageRows::none();
        match self.locate(column)? {
            Located::Every => found = PageRows::first(self.table.rows_of(self.number).len()),
            Located::Starts(starts) => {
                let pairs = starts.iter().zip(starts.iter().skip(1));
                for (row, (start, end)) in (0u32..).zip(pairs) {
                    if start < end {
                        found.insert(row);
                    }
                }
            }
            Located::Rows(rows, _) => rows.into_iter().for_each(|row| found.insert(row)),
        }
        Ok(found)
    }

    fn column(
        &self,
        column: &Column,
        prepared: &Ready,
        test: Option<&Test>,
        among: &PageRows,
    ) -> Result<PageRows> {
        let values = &column.values;
        let one_by_one = match (prepared, test) {
            (Ready::Nothing, _) => return Ok(PageRows::none()),
            (Ready::Everything, _) => return self.present(column),
            (Ready::Each(_), Some(test)) if values.kind() == Type::Str => Some(test),
            _ => None,
        };
        let is_few = among.len() * FEW < self.table.rows_of(self.number).len();
        // Pages of columns that tell their rows are not those of the rows.
        let mut positions = Vec::new();
        let told = matches!(column.key, Key::Attribute(..)) && self.table.tells_rows(column);
        if told {
            return self.column_of_rows(column, prepared);
        }
        if is_few && let Some(test) = one_by_one {
            return self.few(column, test, among);
        }
        if is_few && let Some(wanted) = prepared.wanted() {
            return self.few_numbers(column, wanted, among);
        }
        prepared.search(values, small(self.number), &mut positions)?;
        if positions.is_empty() {
            return Ok(PageRows::none());
        }
        let mut found = PageRows::none();
        match self.locate(column)? {
            Located::Every => positions.into_iter().for_each(|row| found.insert(row)),
            Located::Starts(starts) => rows_of(&starts, &positions, &mut found),
            Located::Rows(rows, _) => {
                let row = |position: u32| rows.get(position as usize).copied();
                let rows = positions.into_iter().filter_map(row);
                rows.for_each(|row| found.insert(row));
            }
        }
        Ok(found)
    }

    fn column_of_rows(&self, column: &Column, prepared: &Ready) -> Result<PageRows> {
        let mut found = PageRows::none();
        let Located::Rows(rows, first) = self.locate(column)? else {
            return Ok(found);
        };
        let mut positions = Vec::new();
        for (page, wanted) in by_page(first, rows.len()) {
            positions.clear();
            prepared.search(&column.values, small(page), &mut positions)?;
            for position in positions
                .iter()
                .filter(|position| wanted.contains(position))
            {
                let place = (page * PAGE_ROWS + *position as usize).checked_sub(first);
                if let Some(row) = place.and_then(|place| rows.get(place)) {
                    found.insert(*row);
                }
            }
        }
        Ok(found)
    }

    /// Looks at the numbers or codes of few rows.
    fn few_numbers(&self, column: &Column, wanted: &Wanted, among: &PageRows) -> Result<PageRows> {
        let mut found = PageRows::none();
        let page = small(self.number);
        if !column.values.may_have_wanted(page, wanted) {
            return Ok(found);
        }
        let (rows, positions) = self.places_of(column, among)?;
        let mut held = Vec::new();
        column
            .values
            .search_among(page, wanted, &positions, &mut held)?;
        // Both ascend.
        let mut left = positions.into_iter().zip(rows);
        for position in held {
            if let Some((_, row)) = left.find(|(at, _)| *at == position) {
                found.insert(row);
            }
        }
        Ok(found)
    }

    /// Those of some rows that have a value of a column, each with the position of its first.
    fn places_of(&self, column: &Column, among: &PageRows) -> Result<(Vec<u32>, Vec<u32>)> {
        let mut rows = Vec::new();
        let mut positions = Vec::new();
        self.each_place(column, among.iter().map(|row| (row, row)), |row, place| {
            rows.push(row);
            positions.push(place);
        })?;
        Ok((rows, positions))
    }

    /// Looks at the texts of few rows.
    fn few(&self, column: &Column, test: &Test, among: &PageRows) -> Result<PageRows> {
        let (rows, positions) = self.places_of(column, among)?;
        let mut found = PageRows::none();
        if positions.is_empty() {
            return Ok(found);
        }
        let mut texts = Texts::default();
        column
            .values
            .texts(small(self.number), Some(&positions), &mut texts)?;
        for (row, text) in rows.into_iter().zip(texts.iter()) {
            let text = std::str::from_utf8(text);
            let text = text.map_err(|_| self.table.corrupt("text is not UTF-8"))?;
            if holds(test, ValueRef::Str(text)) {
                found.insert(row);
            }
        }
        Ok(found)
    }

    fn of_traces(&self, view: &View, leaf: &Leaf, among: &PageRows) -> Result<PageRows> {
        let mut found = PageRows::none();
        if let Leaf::ParentId(test) = leaf {
            for row in among.iter() {
                let id = view.image.parent_id(self.first_row() + row)?;
                let text = if id == 0 {
                    String::new()
                } else {
                    hex(&id.to_be_bytes())
                };
                if holds(test, ValueRef::Str(&text)) {
                    found.insert(row);
                }
            }
            return Ok(found);
        }
        let page = view.image.spans.rows_of(self.number);
        let mut named = None;
        for place in view.places_of(self.number) {
            let rows = view.rows_of(place);
            let from = (rows.start as usize).max(page.start) - page.start;
            let to = (rows.end as usize).min(page.end) - page.start;
            let (from, to) = (small(from), small(to));
            if !among.any_in(from, to) {
                continue;
            }
            let trace = view.trace(place)?;
            let first = trace.rows.start as usize;
            let holds = match leaf {
                Leaf::TraceDuration(test) => {
                    let took = trace.end.saturating_sub(trace.start);
                    holds(test, ValueRef::Int(took))
                }
                Leaf::RootName { test, .. } if !trace.has_root => holds(test, ValueRef::Str("")),
                Leaf::RootName { prepared, test } if first >= page.start => {
                    if named.is_none() {
                        let names = view.image.spans.known(&span::NAME)?;
                        named = Some(self.column(names, prepared, None, among)?);
                    }
                    let row = small(first - page.start);
                    named.as_ref().is_some_and(|named| named.contains(row))
                }
                Leaf::RootName { test, .. } => {
                    let mut texts = Texts::default();
                    let position = [small(first % PAGE_ROWS)];
                    let page = first / PAGE_ROWS;
                    view.image
                        .spans
                        .texts(&span::NAME, page, Some(&position), &mut texts)?;
                    let name = std::str::from_utf8(texts.get(0));
                    holds(test, ValueRef::Str(name.unwrap_or_default()))
                }
                Leaf::RootResource { without, .. } if !trace.has_root => *without,
                Leaf::RootResource { resources, .. } => {
                    let resource = view.image.spans.number_at(span::RESOURCE, first)?;
                    let resource = usize::try_from(resource).unwrap_or(usize::MAX);
                    resources.get(resource).copied().unwrap_or(false)
                }
                Leaf::Children(test) => {
                    let counts = child_counts(view, &trace.rows)?;
                    let page_first = self.first_row();
                    for row in from..to {
                        let at = (page_first + row - trace.rows.start) as usize;
                        let count = counts.get(at).copied().unwrap_or(0);
                        if holds(test, ValueRef::Int(count.into())) {
                            found.insert(row);
                        }
                    }
                    false
                }
                _ => false,
            };
            if holds {
                found.insert_range(from, to);
            }
        }
        Ok(found)
    }
}

/// How many children each span of a trace has.
pub(crate) fn child_counts(view: &View, rows: &std::ops::Range<u32>) -> Result<Vec<u32>> {
    let range = rows.start as usize..rows.end as usize;
    let parents = view.image.spans.numbers_in(span::PARENT, range)?;
    let mut counts = vec![0u32; parents.len()];
    for (at, told) in parents.iter().enumerate() {
        let before = told
            .checked_sub(span::PARENT_ELSEWHERE)
            .filter(|before| *before > 0);
        let before = before.and_then(|before| usize::try_from(before).ok());
        if let Some(parent) = before.and_then(|before| at.checked_sub(before))
            && let Some(count) = counts.get_mut(parent)
        {
            *count += 1;
        }
    }
    Ok(counts)
}

/// Adds the rows that positions of a page belong to. Both ascend.
fn rows_of(starts: &[u32], positions: &[u32], found: &mut PageRows) {
    const SEARCHED_MAX: usize = 256;
    if positions.len() <= SEARCHED_MAX {
        for position in positions {
            let row = starts.partition_point(|start| start <= position);
            found.insert(small(row.saturating_sub(1)));
        }
        return;
    }
    let mut row = 0u32;
    let mut ends = starts.iter().skip(1).peekable();
    for position in positions {
        while ends.next_if(|end| **end <= *position).is_some() {
            row += 1;
        }
        found.insert(row);
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
