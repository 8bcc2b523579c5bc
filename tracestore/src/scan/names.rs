//! Names of attributes. `Snapshot` calls it.
//!
//! Without a filter a place with spans in the range counts as a whole. With one, the spans that are
//! chosen are gone over once for all attributes: which lists of columns they have, and which rows of the
//! other tables they name.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::{Result, TimeRange};

use super::codes::{self, Children, Wanted};
use super::condition::VISIBLE;
use super::evaluate::Page;
use super::fetch;
use super::sweep::{Found, sweep};
use super::traces::asks_traces;
use super::view::View;
use crate::block::format::span;
use crate::block::image::Image;
use crate::block::table::{Column, Key, PAGE_ROWS, TableReader};
use crate::block::values::ValueRef;
use crate::request::{Filter, Scope};

/// Attributes with how many spans (events, links) have them, by scope and name.
pub(crate) fn attribute_names(
    views: &[View],
    range: TimeRange,
) -> Result<Vec<(Scope, String, u64)>> {
    let mut found: BTreeMap<(Scope, &str), u64> = BTreeMap::new();
    let meets = |view: &&View| view.range.overlaps(&range);
    fetch::shared(views.iter().filter(meets));
    for view in views.iter().filter(meets) {
        let tables = [
            (Scope::Span, &view.image.spans),
            (Scope::Event, &view.image.events),
            (Scope::Link, &view.image.links),
        ];
        for (scope, table) in tables {
            for held in table.attributes() {
                if VISIBLE.contains(&held.kind) {
                    *found.entry((scope, held.name)).or_default() += held.values;
                }
            }
        }
        let shared = [
            (Scope::Resource, &view.image.resources, span::RESOURCE),
            (Scope::Instrumentation, &view.image.scopes, span::SCOPE),
        ];
        for (scope, table, number) in shared {
            let spans = spans_by_row(view, table, number)?;
            for held in table.attributes() {
                let Some(column) = table.attribute_at(held.number)? else {
                    continue;
                };
                if !VISIBLE.contains(&held.kind) {
                    continue;
                }
                let count = found.entry((scope, held.name)).or_default();
                for page in 0..table.pages() {
                    let first = table.rows_of(page).start;
                    for row in Page::new(table, page).present(column)?.iter() {
                        *count += spans.get(first + row as usize).copied().unwrap_or(0);
                    }
                }
            }
        }
    }
    let found = found
        .into_iter()
        .map(|((scope, name), count)| (scope, name.to_string(), count));
    Ok(found.collect())
}

/// How many spans share each row of a table.
pub(super) fn spans_by_row(view: &View, table: &TableReader, number: u8) -> Result<Vec<u64>> {
    let mut spans = vec![0u64; table.rows()];
    let column = view.image.spans.known(&Key::Number(number))?;
    column.values.distinct(&mut |row, count| {
        if let ValueRef::Int(row) = row
            && let Some(held) = usize::try_from(row).ok().and_then(|row| spans.get_mut(row))
        {
            *held += count;
        }
        true
    })?;
    Ok(spans)
}

/// The attributes of the spans that satisfy a filter, by scope and name.
pub(crate) fn attribute_names_of(
    views: &[View],
    filter: &Filter,
    range: TimeRange,
) -> Result<Vec<(Scope, String)>> {
    let mut naming = Naming::default();
    sweep(views, filter, (asks_traces(filter), range), &mut |found| {
        naming.add(found)?;
        Ok(true)
    })?;
    naming.leave()?;
    Ok(naming.names.into_iter().collect())
}

/// Names while they are gathered, and what the spans of the image at hand have.
#[derive(Default)]
struct Naming {
    names: BTreeSet<(Scope, String)>,
    image: Option<Arc<Image>>,
    spans: RoaringBitmap,
    /// Columns of spans, by the number that shapes give them.
    columns: Vec<bool>,
    /// Rows of the other tables that the spans name.
    rows: [RoaringBitmap; 4],
    wanted: Wanted,
}

/// The scopes of `Naming::rows`.
const OTHERS: [Scope; 4] = [
    Scope::Resource,
    Scope::Instrumentation,
    Scope::Event,
    Scope::Link,
];

impl Naming {
    /// Notes what the spans of a page have.
    fn add(&mut self, found: &Found<'_, '_>) -> Result<()> {
        let (image, page) = (&found.view.image, found.page);
        let held = self.image.as_ref();
        if !held.is_some_and(|held| Arc::ptr_eq(held, image)) {
            self.leave()?;
            self.image = Some(Arc::clone(image));
        }
        self.wanted
            .set(found.rows, page.table().rows_of(page.number()).len());
        let first = small(page.number().saturating_mul(PAGE_ROWS));
        let rows = self
            .wanted
            .rows
            .iter()
            .map(|row| first.saturating_add(*row));
        self.spans.extend(rows);
        page.mark_columns(&self.wanted.rows, &mut self.columns)?;
        for (scope, seen) in OTHERS.iter().zip(&mut self.rows) {
            let (table, number) = match scope {
                Scope::Resource => (&image.resources, span::RESOURCE),
                Scope::Instrumentation => (&image.scopes, span::SCOPE),
                Scope::Event => (&image.events, span::EVENTS),
                _ => (&image.links, span::LINKS),
            };
            if table.attribute_count() == 0 {
                continue;
            }
            match scope {
                Scope::Event | Scope::Link => {
                    let children = Children::of(found.view, page.number(), *scope, &self.wanted)?;
                    seen.extend(children.rows.into_iter().map(small));
                }
                _ => {
                    let rows = &self.wanted.rows;
                    let rows = codes::numbers(&image.spans, number, page.number(), rows)?;
                    seen.extend(rows.into_iter().filter_map(|row| u32::try_from(row).ok()));
                }
            }
        }
        Ok(())
    }

    /// Takes the names of what the spans of the image at hand have.
    fn leave(&mut self) -> Result<()> {
        let Some(image) = self.image.take() else {
            return Ok(());
        };
        let spans = std::mem::take(&mut self.spans);
        let columns = std::mem::take(&mut self.columns);
        self.name(Scope::Span, &image.spans, &spans, &columns)?;
        for (scope, rows) in OTHERS.into_iter().zip(std::mem::take(&mut self.rows)) {
            let table = match scope {
                Scope::Resource => &image.resources,
                Scope::Instrumentation => &image.scopes,
                Scope::Event => &image.events,
                _ => &image.links,
            };
            let mut columns = Vec::new();
            for page in 0..table.pages() {
                let of_page = table.rows_of(page);
                let (start, end) = (small(of_page.start), small(of_page.end));
                let here: Vec<u32> = rows.range(start..end).map(|row| row - start).collect();
                if !here.is_empty() {
                    Page::new(table, page).mark_columns(&here, &mut columns)?;
                }
            }
            self.name(scope, table, &rows, &columns)?;
        }
        Ok(())
    }

    /// Takes the names of the attributes that rows of a table have. `columns` are those that their
    /// shapes name.
    fn name(
        &mut self,
        scope: Scope,
        table: &TableReader,
        rows: &RoaringBitmap,
        columns: &[bool],
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for held in table.attributes() {
            let name = (scope, held.name.to_owned());
            if !VISIBLE.contains(&held.kind) || self.names.contains(&name) {
                continue;
            }
            let Some(column) = table.attribute_at(held.number)? else {
                continue;
            };
            let is_there = match table.shape_number(column) {
                Some(number) => columns.get(number as usize).copied().unwrap_or(false),
                None => has_any(table, (held.number, column), rows)?,
            };
            if is_there {
                self.names.insert(name);
            }
        }
        Ok(())
    }
}

/// Whether one of some rows has an attribute whose column shapes do not name.
fn has_any(
    table: &TableReader,
    (number, column): (usize, &Column),
    rows: &RoaringBitmap,
) -> Result<bool> {
    if let Some(told) = table.told_rows(column)? {
        let mut told = told.into_iter().filter_map(|row| u32::try_from(row).ok());
        return Ok(told.any(|row| rows.contains(row)));
    }
    Ok(match table.rows_by_page(number)? {
        Some(told) => told.into_iter().any(|row| rows.contains(row)),
        // Every row has it.
        None => !rows.is_empty(),
    })
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
