//! Attributes of some rows as codes of an answer's dictionary. `batch` and `counts` call it.
//!
//! Codes of a column's dictionary are translated, so that a value is looked at once and not row by
//! row; what rows share (resources, scopes) is translated by the row of its table.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;

use trine_storage::Result;

use super::coder::{BEYOND, Coder, of_ref};
use super::condition::{hex, visible};
use super::evaluate::Page;
use super::page_rows::PageRows;
use super::view::View;
use crate::block::format::{event, link, scope, span};
use crate::block::table::{Column, Key, Located, PAGE_ROWS, TableReader};
use crate::block::values::{Texts, Type, ValueRef};
use crate::request::{ABSENT, Scope, Value, keys};

/// A column is decoded by the page when at least one row in so many of the page is wanted.
pub(crate) const FEW: usize = 16;

/// What the codes of columns of one place are in a dictionary.
#[derive(Debug, Default)]
pub(crate) struct Translation {
    /// By column, by its code; [`UNKNOWN`] for what has not occurred yet.
    columns: HashMap<Key, Vec<u32>>,
    /// By row of the table that rows share, or by a number that stands for a value.
    shared: Vec<u32>,
    /// By greater numbers.
    more: HashMap<u64, u32>,
}

impl Translation {
    /// The code of what a number stands for, made when it occurs first.
    pub(crate) fn shared(
        &mut self,
        number: u64,
        make: impl FnOnce() -> Result<u32>,
    ) -> Result<u32> {
        const LISTED_MAX: u64 = 1 << 16;
        if number >= LISTED_MAX {
            if let Some(code) = self.more.get(&number) {
                return Ok(*code);
            }
            let code = make()?;
            self.more.insert(number, code);
            return Ok(code);
        }
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if at >= self.shared.len() {
            self.shared.resize(at + 1, UNKNOWN);
        }
        let Some(held) = self.shared.get_mut(at) else {
            return make();
        };
        if *held == UNKNOWN {
            *held = make()?;
        }
        Ok(*held)
    }
}

const UNKNOWN: u32 = u32::MAX - 1;

/// Which attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Named {
    pub(crate) scope: Scope,
    pub(crate) key: String,
}

/// Rows of a page, ascending, and where the answer has them.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) rows: Vec<u32>,
    pub(crate) out: Vec<u32>,
}

impl Wanted {
    /// These rows of a page of so many, in the order that they have there.
    pub(crate) fn set(&mut self, rows: &PageRows, of: usize) {
        self.rows.clear();
        let count = rows.len();
        match count == of {
            true => self.rows.extend((0u32..).take(count)),
            false => self.rows.extend(rows.iter()),
        }
        self.out.clear();
        self.out.extend((0u32..).take(count));
    }
}

/// Sets the codes of an attribute of spans.
pub(crate) fn attribute(
    (view, page): (&View, &Page<'_>),
    named: &Named,
    wanted: &Wanted,
    (coder, translation): (&mut Coder, &mut Translation),
    out: &mut [u32],
) -> Result<()> {
    match named.scope {
        Scope::Span => {
            for key in visible(&view.image.spans, &named.key) {
                let column = view.image.spans.known(&key)?;
                of_column(page, column, wanted, (coder, translation), out)?;
            }
            Ok(())
        }
        Scope::Resource | Scope::Instrumentation => {
            let (number, table) = match named.scope {
                Scope::Resource => (span::RESOURCE, &view.image.resources),
                _ => (span::SCOPE, &view.image.scopes),
            };
            let rows = numbers(&view.image.spans, number, page.number(), &wanted.rows)?;
            for (row, at) in rows.into_iter().zip(&wanted.out) {
                let code = translation.shared(row, || {
                    let at = usize::try_from(row).unwrap_or(usize::MAX);
                    let value = value_of(table, named, &[at])?.pop().flatten();
                    Ok(value.map_or(ABSENT, |value| coder.code_of(&value)))
                })?;
                set(out, *at, code);
            }
            Ok(())
        }
        scope @ (Scope::Event | Scope::Link) => {
            let found = Children::of(view, page.number(), scope, wanted)?;
            children(view, named, &found, coder, |at, code| set(out, at, code))
        }
    }
}

/// Sets the code of a row of the answer.
pub(crate) fn set(out: &mut [u32], at: u32, code: u32) {
    if let Some(held) = out.get_mut(at as usize) {
        *held = code;
    }
}

/// Sets the codes of the rows that have a value of a column.
pub(crate) fn of_column(
    page: &Page<'_>,
    column: &Column,
    wanted: &Wanted,
    to: (&mut Coder, &mut Translation),
    out: &mut [u32],
) -> Result<()> {
    each_code(page, column, wanted, to, |at, code| set(out, at, code))
}

/// Hands over the rows that have a value of a column, each with its code.
pub(crate) fn each_code(
    page: &Page<'_>,
    column: &Column,
    wanted: &Wanted,
    (coder, translation): (&mut Coder, &mut Translation),
    mut each: impl FnMut(u32, u32),
) -> Result<()> {
    let dictionary = column.values.dictionary()?;
    if let Some(dictionary) = &dictionary {
        let known = translation.columns.entry(column.key.clone()).or_default();
        known.resize(dictionary.len(), UNKNOWN);
        let mut scratch = Vec::new();
        let done = each_stored(page, column, wanted, |at, code| {
            if let Some(held) = known.get_mut(code as usize) {
                if *held == UNKNOWN {
                    *held = coder.code(dictionary.read(code, &mut scratch)?);
                }
                each(at, *held);
            }
            Ok(())
        })?;
        if done {
            return Ok(());
        }
    }
    let (positions, places) = positions(page, column, wanted)?;
    if coder.is_full() && dictionary.is_none() {
        // Values that no dictionary lists seldom repeat: those that have codes are not looked for.
        places.into_iter().for_each(|at| each(at, BEYOND));
        return Ok(());
    }
    let mut places = places.into_iter();
    each_value(page.table(), column, &positions, &mut |value| {
        if let Some(at) = places.next() {
            each(at, coder.code(value));
        }
    })
}

/// Hands over the rows that have a value of a column, each with its code in the dictionary of the
/// column. Nothing and `false` where there is no dictionary, or so few rows are wanted that their
/// values are read faster one by one.
pub(crate) fn each_stored(
    page: &Page<'_>,
    column: &Column,
    wanted: &Wanted,
    mut each: impl FnMut(u32, u32) -> Result<()>,
) -> Result<bool> {
    let table = page.table();
    let Some(dictionary) = column.values.dictionary()? else {
        return Ok(false);
    };
    if table.tells_rows(column) {
        return Ok(false);
    }
    let located = page.locate(column)?;
    let held = match &located {
        Located::Every => wanted.rows.len(),
        Located::Starts(starts) => {
            let ends = starts.first().zip(starts.last());
            let held = ends.map_or(0, |(first, last)| last.saturating_sub(*first));
            wanted.rows.len().min(held as usize)
        }
        Located::Rows(..) => return Ok(false),
    };
    if held == 0 {
        return Ok(true);
    }
    if held * FEW < table.rows_of(page.number()).len() {
        return Ok(false);
    }
    let mut codes = Vec::with_capacity(PAGE_ROWS);
    column.values.codes(small(page.number()), &mut codes)?;
    let mut hand_over = |position: u32, at: u32| match codes.get(position as usize) {
        Some(code) if (*code as usize) < dictionary.len() => each(at, *code),
        _ => Err(table.corrupt("a code is in no dictionary")),
    };
    let pairs = wanted.rows.iter().zip(&wanted.out);
    match located {
        Located::Starts(starts) => {
            for (row, at) in pairs {
                let ends = starts.get(*row as usize).zip(starts.get(*row as usize + 1));
                if let Some((start, end)) = ends
                    && start < end
                {
                    hand_over(*start, *at)?;
                }
            }
        }
        _ => {
            for (row, at) in pairs {
                hand_over(*row, *at)?;
            }
        }
    }
    Ok(true)
}

/// Sets the values of the rows that have one of a column.
pub(crate) fn values(
    page: &Page<'_>,
    column: &Column,
    wanted: &Wanted,
    out: &mut [Option<Value>],
) -> Result<()> {
    let (positions, places) = positions(page, column, wanted)?;
    let mut places = places.into_iter();
    each_value(page.table(), column, &positions, &mut |value| {
        let place = places.next().unwrap_or(u32::MAX);
        if let Some(held) = out.get_mut(place as usize) {
            *held = of_ref(value);
        }
    })
}

/// Where the values of a column are that wanted rows have, and where the answer has these rows.
fn positions(page: &Page<'_>, column: &Column, wanted: &Wanted) -> Result<(Vec<usize>, Vec<u32>)> {
    let mut positions = Vec::with_capacity(wanted.rows.len());
    let mut places = Vec::with_capacity(wanted.rows.len());
    let pairs = wanted.rows.iter().copied().zip(&wanted.out);
    let begin = page.each_place(column, pairs, |at, place| {
        positions.push(place as usize);
        places.push(*at);
    })?;
    positions.iter_mut().for_each(|place| *place += begin);
    Ok((positions, places))
}

/// Hands over the values at some places of a column, ascending.
fn each_value(
    table: &TableReader,
    column: &Column,
    places: &[usize],
    each: &mut dyn FnMut(ValueRef<'_>),
) -> Result<()> {
    let kind = column.values.kind();
    let (mut numbers, mut texts) = (Vec::new(), Texts::default());
    for of_page in places.chunk_by(|a, b| a / PAGE_ROWS == b / PAGE_ROWS) {
        let number = of_page.first().map_or(0, |place| place / PAGE_ROWS);
        let position = |place: &usize| small(place % PAGE_ROWS);
        if kind.is_number() {
            if of_page.len() < PAGE_ROWS / FEW {
                for place in of_page {
                    let bits = table.number_in(column, *place)?;
                    each(ValueRef::of_bits(kind, bits));
                }
                continue;
            }
            numbers.clear();
            column.values.numbers(small(number), &mut numbers)?;
            for place in of_page {
                let bits = numbers.get(place % PAGE_ROWS);
                let bits = bits.ok_or_else(|| table.corrupt("a value is missing"))?;
                each(ValueRef::of_bits(kind, *bits));
            }
            continue;
        }
        let positions: Vec<u32> = of_page.iter().map(position).collect();
        texts.clear();
        column
            .values
            .texts(small(number), Some(&positions), &mut texts)?;
        if texts.len() != positions.len() {
            return Err(table.corrupt("a value is missing"));
        }
        for text in texts.iter() {
            match kind {
                Type::Str => {
                    let text = std::str::from_utf8(text);
                    each(ValueRef::Str(
                        text.map_err(|_| table.corrupt("text is not UTF-8"))?,
                    ));
                }
                _ => each(ValueRef::Bytes(text)),
            }
        }
    }
    Ok(())
}

/// The numbers of some rows of a page.
pub(crate) fn numbers(
    table: &TableReader,
    number: u8,
    page: usize,
    rows: &[u32],
) -> Result<Vec<u64>> {
    let missing = || table.corrupt("a row is missing");
    if rows.len() == table.rows_of(page).len() {
        let mut all = Vec::with_capacity(rows.len());
        table.numbers(number, page, &mut all)?;
        return Ok(all);
    }
    if rows.len() * FEW < table.rows_of(page).len() {
        let column = table.known(&Key::Number(number))?;
        let mut found = Vec::with_capacity(rows.len());
        // Rows of a trace are neighbours.
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            let (first, last) = (run.first().copied(), run.last().copied());
            let positions = first.unwrap_or(0)..last.map_or(0, |last| last + 1);
            column
                .values
                .numbers_in(small(page), positions, &mut found)?;
        }
        return match found.len() == rows.len() {
            true => Ok(found),
            false => Err(missing()),
        };
    }
    let mut all = Vec::with_capacity(PAGE_ROWS);
    table.numbers(number, page, &mut all)?;
    let number = |row: &u32| all.get(*row as usize).copied().ok_or_else(missing);
    rows.iter().map(number).collect()
}

/// The values of an attribute of some rows of a table (ascending) that is not that of spans.
pub(crate) fn value_of(
    table: &TableReader,
    named: &Named,
    rows: &[usize],
) -> Result<Vec<Option<Value>>> {
    if rows.last().is_some_and(|last| *last >= table.rows()) {
        return Err(table.corrupt("a span names a row that is not there"));
    }
    let mut found = vec![None; rows.len()];
    match (named.scope, named.key.as_str()) {
        (Scope::Event, keys::EVENT_TIME_SINCE_START) => {
            for (row, found) in rows.iter().zip(&mut found) {
                let time = table.number_at(event::TIME, *row)?;
                *found = Some(Value::Int(time.cast_signed()));
            }
            return Ok(found);
        }
        (Scope::Link, id @ (keys::LINK_TRACE_ID | keys::LINK_SPAN_ID)) => {
            let key = match id {
                keys::LINK_TRACE_ID => link::TRACE_ID,
                _ => link::SPAN_ID,
            };
            let mut found = found.iter_mut();
            each_value(table, table.known(&key)?, rows, &mut |id| {
                if let (Some(found), ValueRef::Bytes(id)) = (found.next(), id) {
                    *found = Some(Value::Str(hex(id).into()));
                }
            })?;
        }
        (scope, key) => {
            let known = match (scope, key) {
                (Scope::Event, keys::EVENT_NAME) => Some(event::NAME),
                (Scope::Instrumentation, keys::INSTRUMENTATION_NAME) => Some(scope::NAME),
                (Scope::Instrumentation, keys::INSTRUMENTATION_VERSION) => Some(scope::VERSION),
                _ => None,
            };
            let columns: Vec<Key> = match known {
                Some(known) => vec![known],
                None => visible(table, key).collect(),
            };
            for key in columns {
                fill(table, table.known(&key)?, rows, &mut found)?;
            }
        }
    }
    Ok(found)
}

fn fill(
    table: &TableReader,
    column: &Column,
    rows: &[usize],
    found: &mut [Option<Value>],
) -> Result<()> {
    let mut at = 0u32;
    for of_page in rows.chunk_by(|a, b| a / PAGE_ROWS == b / PAGE_ROWS) {
        let number = of_page.first().map_or(0, |row| row / PAGE_ROWS);
        let count = small(of_page.len());
        let wanted = Wanted {
            rows: of_page.iter().map(|row| small(row % PAGE_ROWS)).collect(),
            out: (at..at + count).collect(),
        };
        at += count;
        values(&Page::new(table, number), column, &wanted, found)?;
    }
    Ok(())
}

/// The events or links of some spans, ascending: their rows, and where the answer has the spans.
#[derive(Debug, Default)]
pub(crate) struct Children {
    pub(crate) rows: Vec<usize>,
    pub(crate) spans: Vec<u32>,
}

impl Children {
    pub(crate) fn of(view: &View, page: usize, scope: Scope, wanted: &Wanted) -> Result<Self> {
        let (number, table) = match scope {
            Scope::Link => (span::LINKS, &view.image.links),
            _ => (span::EVENTS, &view.image.events),
        };
        let mut found = Self::default();
        let (Some(last), true) = (wanted.rows.last(), table.rows() > 0) else {
            return Ok(found);
        };
        let first = page * PAGE_ROWS;
        let mut next = view.image.children_before(number, first)?;
        let counts = view
            .image
            .spans
            .numbers_in(number, first..first + *last as usize + 1)?;
        let mut left = wanted.rows.iter().zip(&wanted.out).peekable();
        for (row, count) in (0u32..).zip(counts) {
            let end = next.saturating_add(count);
            if let Some((_, at)) = left.next_if(|(wanted, _)| **wanted == row) {
                let children = next..end;
                if usize::try_from(end).map_or(true, |end| end > table.rows()) {
                    return Err(table.corrupt("a span has more rows than there are"));
                }
                for child in children {
                    found
                        .rows
                        .push(usize::try_from(child).unwrap_or(usize::MAX));
                    found.spans.push(*at);
                }
            }
            next = end;
        }
        Ok(found)
    }
}

/// Hands over the spans that have an attribute of events or links, each with the code of the first
/// which has it.
pub(crate) fn children(
    view: &View,
    named: &Named,
    children: &Children,
    coder: &mut Coder,
    mut each: impl FnMut(u32, u32),
) -> Result<()> {
    let table = match named.scope {
        Scope::Link => &view.image.links,
        _ => &view.image.events,
    };
    let values = value_of(table, named, &children.rows)?;
    let mut last = None;
    for (span, value) in children.spans.iter().zip(values) {
        if let Some(value) = value.filter(|_| last != Some(span)) {
            last = Some(span);
            each(*span, coder.code_of(&value));
        }
    }
    Ok(())
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
