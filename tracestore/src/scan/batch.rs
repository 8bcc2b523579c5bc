//! Makes a batch of spans of chosen traces: column by column, and only of pages that have rows of
//! them. `rows` calls it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use trine_storage::Result;

use super::coder::Coder;
use super::codes::{self, Children, Named, Translation, Wanted};
use super::condition::{duration_of, kind, status};
use super::evaluate::Page;
use super::fetch;
use super::view::View;
use crate::block::build::start_of;
use crate::block::format::span;
use crate::block::image::Trace;
use crate::block::table::PAGE_ROWS;
use crate::request::{ABSENT, AttributeColumn, Column, NO_ROW, Scope, SpanBatch, TraceRows, Value};
use crate::structure::Nested;

/// A trace that belongs to an answer.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) view: Arc<View>,
    pub(crate) trace: Trace,
}

/// The rows of one place in a batch.
struct OfView<'a> {
    view: &'a View,
    /// By page.
    pages: BTreeMap<usize, Wanted>,
    translations: Vec<Translation>,
}

/// Columns of the answer that are made of codes.
struct Coded {
    coder: Coder,
    codes: Vec<u32>,
}

/// Makes a batch of traces, in the order in which they come.
pub(crate) fn batch(chosen: &[Chosen], attributes: &[Named]) -> Result<SpanBatch> {
    let mut batch = SpanBatch::default();
    let mut rows = 0u32;
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    let mut firsts = Vec::with_capacity(chosen.len());
    for held in chosen {
        let first = rows;
        rows = rows.saturating_add(held.trace.rows.end - held.trace.rows.start);
        firsts.push(first);
        batch.traces.push(TraceRows {
            id: held.trace.id,
            rows: first..rows,
            start: held.trace.start,
            end: held.trace.end,
            root_service: None,
            root_name: None,
        });
    }
    let key = |at: &usize| {
        let held = chosen.get(*at);
        held.map(|held| (Arc::as_ptr(&held.view) as usize, held.trace.rows.start))
    };
    order.sort_unstable_by_key(key);
    let mut views: Vec<OfView<'_>> = Vec::new();
    for at in order {
        let (Some(held), Some(first)) = (chosen.get(at), firsts.get(at)) else {
            continue;
        };
        let same = |last: &&mut OfView<'_>| std::ptr::eq(last.view, &*held.view);
        if views.last_mut().filter(same).is_none() {
            views.push(OfView {
                view: &held.view,
                pages: BTreeMap::new(),
                translations: Vec::new(),
            });
        }
        let Some(view) = views.last_mut() else {
            continue;
        };
        for (out, row) in (*first..).zip(held.trace.rows.clone()) {
            let wanted = view.pages.entry(row as usize / PAGE_ROWS).or_default();
            wanted.rows.push(small(row as usize % PAGE_ROWS));
            wanted.out.push(out);
        }
    }
    let below = [
        below(&views, attributes, Scope::Event, rows as usize)?,
        below(&views, attributes, Scope::Link, rows as usize)?,
    ];
    let attributes: Vec<Named> = attributes
        .iter()
        .filter(|n| !is_below(n))
        .cloned()
        .collect();
    fill(&mut batch, views, &attributes, rows as usize)?;
    let [(events, of_events), (links, of_links)] = below;
    (batch.events, batch.links) = (events, links);
    batch.attributes.extend(of_events);
    batch.attributes.extend(of_links);
    structure(&mut batch, chosen)?;
    Ok(batch)
}

fn is_below(named: &Named) -> bool {
    matches!(named.scope, Scope::Event | Scope::Link)
}

/// The spans that events (or links) belong to, and the attributes of these that were asked for.
fn below(
    views: &[OfView<'_>],
    attributes: &[Named],
    scope: Scope,
    rows: usize,
) -> Result<(Vec<u32>, Vec<AttributeColumn>)> {
    let attributes: Vec<&Named> = attributes.iter().filter(|n| n.scope == scope).collect();
    if attributes.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut counts = vec![0u32; rows];
    let mut pages = Vec::new();
    for held in views {
        for (page, wanted) in &held.pages {
            let children = Children::of(held.view, *page, scope, wanted)?;
            for at in &children.spans {
                if let Some(count) = counts.get_mut(*at as usize) {
                    *count += 1;
                }
            }
            pages.push((held.view, children));
        }
    }
    let mut owners = Vec::new();
    // Where the next of each span goes.
    let mut next = Vec::with_capacity(rows);
    for (row, count) in (0u32..).zip(&counts) {
        next.push(small(owners.len()));
        owners.extend((0..*count).map(|_| row));
    }
    let mut places = Vec::with_capacity(pages.len());
    for (_, children) in &pages {
        let mut of_page = Vec::with_capacity(children.spans.len());
        for at in &children.spans {
            if let Some(place) = next.get_mut(*at as usize) {
                of_page.push(*place);
                *place += 1;
            }
        }
        places.push(of_page);
    }
    let mut columns = Vec::with_capacity(attributes.len());
    for named in attributes {
        let mut coder = Coder::default();
        let mut codes = vec![ABSENT; owners.len()];
        for ((view, children), places) in pages.iter().zip(&places) {
            let table = match scope {
                Scope::Link => &view.image.links,
                _ => &view.image.events,
            };
            let values = codes::value_of(table, named, &children.rows)?;
            for (value, place) in values.into_iter().zip(places) {
                if let Some(value) = value {
                    codes::set(&mut codes, *place, coder.code_of(&value));
                }
            }
        }
        if !coder.values.is_empty() {
            columns.push(AttributeColumn {
                scope,
                key: named.key.as_str().into(),
                column: Column {
                    codes,
                    dictionary: coder.values,
                },
            });
        }
    }
    Ok((owners, columns))
}

fn fill(
    batch: &mut SpanBatch,
    views: Vec<OfView<'_>>,
    attributes: &[Named],
    rows: usize,
) -> Result<()> {
    let mut coded: Vec<Coded> = Vec::new();
    coded.resize_with(attributes.len() + 3, || Coded {
        coder: Coder::default(),
        codes: vec![ABSENT; rows],
    });
    let service = Named {
        scope: Scope::Resource,
        key: "service.name".into(),
    };
    let mut numbers: HashMap<u8, Vec<u64>> = HashMap::new();
    let fixed = [
        span::ID,
        span::START,
        span::DURATION,
        span::KIND,
        span::STATUS,
        span::PARENT,
    ];
    for number in fixed {
        numbers.insert(number, vec![0; rows]);
    }
    for held in &views {
        fetch::answer(held.view, held.pages.keys().copied(), attributes);
    }
    for mut held in views {
        held.translations
            .resize_with(coded.len(), Translation::default);
        for (number, wanted) in &held.pages {
            let page = Page::of_spans(held.view, *number);
            let spans = &held.view.image.spans;
            for (column, out) in &mut numbers {
                let found = codes::numbers(spans, *column, *number, &wanted.rows)?;
                for (value, at) in found.into_iter().zip(&wanted.out) {
                    if let Some(held) = out.get_mut(*at as usize) {
                        *held = value;
                    }
                }
            }
            let targets = coded.iter_mut().zip(&mut held.translations);
            for (at, (coded, translation)) in targets.enumerate() {
                let to = (&mut coded.coder, translation);
                let named = match at {
                    0 | 1 => {
                        let key = if at == 0 { span::NAME } else { span::MESSAGE };
                        let column = spans.known(&key)?;
                        codes::of_column(&page, column, wanted, to, &mut coded.codes)?;
                        continue;
                    }
                    2 => Some(&service),
                    at => attributes.get(at - 3),
                };
                if let Some(named) = named {
                    codes::attribute((held.view, &page), named, wanted, to, &mut coded.codes)?;
                }
            }
        }
    }
    let mut take = |number: u8| numbers.remove(&number).unwrap_or_default();
    batch.span_ids = take(span::ID).into_iter().map(u64::to_be_bytes).collect();
    batch.durations = take(span::DURATION).into_iter().map(duration_of).collect();
    let byte = |number: i64| u8::try_from(number).unwrap_or(0);
    batch.kinds = take(span::KIND)
        .into_iter()
        .map(|stored| byte(kind(stored)))
        .collect();
    batch.statuses = take(span::STATUS)
        .into_iter()
        .map(|stored| byte(status(stored)))
        .collect();
    let starts = take(span::START);
    let mut parents = take(span::PARENT).into_iter();
    let mut starts = starts.into_iter();
    for trace in &batch.traces {
        let began = trace.start.cast_unsigned();
        for (at, row) in trace.rows.clone().enumerate() {
            let start = starts.next().unwrap_or(0).wrapping_add(began);
            batch.starts.push(start_of(start));
            let told = parents.next().unwrap_or(0);
            let before = told
                .checked_sub(span::PARENT_ELSEWHERE)
                .filter(|before| *before > 0);
            let before = before.and_then(|before| usize::try_from(before).ok());
            let parent = before.filter(|before| *before <= at).map(small);
            batch
                .parents
                .push(parent.map_or(NO_ROW, |before| row - before));
            // What is no root gets the id of its parent below.
            batch
                .nested_parent
                .push(if told == span::NO_PARENT { -1 } else { 0 });
        }
    }
    let mut coded = coded.into_iter();
    let mut take = || {
        let held = coded.next();
        held.map_or_else(Column::default, |held| Column {
            codes: held.codes,
            dictionary: held.coder.values,
        })
    };
    batch.names = take();
    batch.status_messages = take();
    let services = take();
    for named in attributes {
        let column = take();
        if !column.dictionary.is_empty() {
            batch.attributes.push(AttributeColumn {
                scope: named.scope,
                key: named.key.as_str().into(),
                column,
            });
        }
    }
    let text = |column: &Column, row: u32| {
        let code = column.codes.get(row as usize).copied().unwrap_or(ABSENT);
        match column.dictionary.get(code as usize) {
            Some(Value::Str(text)) => Some(Arc::clone(text)),
            _ => None,
        }
    };
    for trace in &mut batch.traces {
        let row = trace.rows.start;
        if batch.nested_parent.get(row as usize) == Some(&-1) {
            trace.root_name = text(&batch.names, row);
            trace.root_service = text(&services, row);
        }
    }
    Ok(())
}

/// Ids of parents and nested-set numbers.
fn structure(batch: &mut SpanBatch, chosen: &[Chosen]) -> Result<()> {
    let mut nested = Nested::default();
    let mut local = Vec::new();
    for (trace, held) in batch.traces.iter().zip(chosen) {
        local.clear();
        for row in trace.rows.clone() {
            let parent = batch.parents.get(row as usize).copied().unwrap_or(NO_ROW);
            local.push(if parent == NO_ROW {
                NO_ROW
            } else {
                parent - trace.rows.start
            });
            let is_root = batch.nested_parent.get(row as usize) == Some(&-1);
            let id = match parent {
                NO_ROW if is_root => [0; 8],
                NO_ROW => {
                    let at = held.trace.rows.start + (row - trace.rows.start);
                    held.view.image.parent_id(at)?.to_be_bytes()
                }
                parent => batch
                    .span_ids
                    .get(parent as usize)
                    .copied()
                    .unwrap_or_default(),
            };
            batch.parent_ids.push(id);
        }
        let is_root = |at: usize| {
            let row = trace.rows.start as usize + at;
            batch.nested_parent.get(row) == Some(&-1)
        };
        nested.number(&local, is_root);
    }
    batch.nested_left = nested.left;
    batch.nested_right = nested.right;
    batch.nested_parent = nested.parent;
    Ok(())
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
