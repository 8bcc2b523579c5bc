//! Values of attributes. `Snapshot` calls it.
//!
//! Without a filter a place with spans in the range counts as a whole, as it does for names:
//! dictionaries tell the values and how often they occur. With one the codes of the spans that are
//! chosen do.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::Result;

use super::coder::{Coder, of_ref};
use super::codes::{Children, Named, Wanted, value_of};
use super::condition::{duration_of, kind, status, visible};
use super::counts::Reading;
use super::fetch;
use super::names::spans_by_row;
use super::sweep::sweep;
use super::traces::{asks_trace, asks_traces};
use super::view::View;
use crate::block::column::ColumnReader;
use crate::block::dictionary::Dictionary;
use crate::block::format::{event, span};
use crate::block::table::{Key, TableReader};
use crate::block::template::Numbered;
use crate::block::values::{Type, ValueRef};
use crate::request::{ABSENT, AttributeRef, Filter, Intrinsic, Scope, Value, ValuesRequest, keys};

/// As many dictionaries are compared with others.
const DICTIONARIES_MAX: usize = 4;

/// Values with how often each was met.
#[derive(Debug, Default)]
struct Found {
    coder: Coder,
    counts: Vec<u64>,
    /// What is put together once all places were looked at.
    numbered: Numbered,
    /// Dictionaries of texts, with the codes of their entries here. What has few different values has
    /// the same ones everywhere.
    dictionaries: Vec<(Arc<Dictionary>, Vec<u32>)>,
    limit: usize,
}

impl Found {
    /// Adds a value; the elements of arrays on their own. Whether there may be more.
    fn add(&mut self, value: &Value, count: u64) -> bool {
        if let Value::Array(values) = value {
            return values.iter().all(|value| self.add(value, count));
        }
        let code = self.coder.code_of(value);
        self.count(code, count)
    }

    fn add_ref(&mut self, value: ValueRef<'_>, count: u64) -> bool {
        if let ValueRef::Bytes(bytes) = value {
            let mut more = true;
            crate::model::each_element(bytes, &mut |element| {
                more = self.add_ref(element, count);
                more
            });
            return more;
        }
        let code = self.coder.code(value);
        self.count(code, count)
    }

    fn count(&mut self, code: u32, count: u64) -> bool {
        let at = code as usize;
        if at >= self.limit {
            return false;
        }
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        if let Some(held) = self.counts.get_mut(at) {
            *held += count;
        }
        true
    }

    /// Whether there are more values than are wanted.
    fn is_over(&self) -> bool {
        self.coder.values.len() > self.limit
    }

    /// Adds the values of a column.
    fn add_all(&mut self, column: &ColumnReader) -> Result<()> {
        if let (Some(dictionary), Type::Str) = (column.dictionary()?, column.kind()) {
            return self.add_texts(&dictionary);
        }
        let mut numbered = std::mem::take(&mut self.numbered);
        let limit = self.limit;
        column.distinct_beside(&mut numbered, limit, &mut |value, count| {
            self.add_ref(value, count)
        })?;
        self.numbered = numbered;
        Ok(())
    }

    /// Adds the texts of a dictionary.
    fn add_texts(&mut self, dictionary: &Arc<Dictionary>) -> Result<()> {
        let mut known = self.dictionaries.iter();
        if let Some((_, codes)) = known.find(|(known, _)| known.has_texts_of(dictionary)) {
            for (entry, code) in (0u32..).zip(codes) {
                if let Some(held) = self.counts.get_mut(*code as usize) {
                    *held += u64::from(dictionary.count(entry));
                }
            }
            return Ok(());
        }
        let mut codes = Vec::with_capacity(dictionary.len());
        let mut more = true;
        dictionary.each(0, &mut |entry, text| {
            let code = self.coder.code(text);
            codes.push(code);
            more = self.count(code, dictionary.count(entry).into());
            more
        })?;
        if more && self.dictionaries.len() < DICTIONARIES_MAX {
            self.dictionaries.push((Arc::clone(dictionary), codes));
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<(Value, u64)> {
        let mut numbered = std::mem::take(&mut self.numbered);
        if self.coder.values.is_empty() {
            // Nothing else could be equal to one of them.
            let mut found = Vec::with_capacity(numbered.len());
            numbered.drain(&mut |value, count| {
                found.extend(of_ref(value).map(|value| (value, count)));
                true
            });
            found.truncate(self.limit);
            return found;
        }
        numbered.drain(&mut |value, count| self.add_ref(value, count));
        self.coder.values.into_iter().zip(self.counts).collect()
    }
}

/// Values of an attribute with how often each was met before there were enough.
pub(crate) fn attribute_values(
    views: &[View],
    request: &ValuesRequest,
) -> Result<Vec<(Value, u64)>> {
    let mut found = Found {
        limit: request.limit,
        ..Found::default()
    };
    let everything = Filter::And(Vec::new());
    let filter = request.filter.as_ref().unwrap_or(&everything);
    let meets = |view: &&View| view.range.overlaps(&request.range);
    fetch::attribute(views.iter().filter(meets), &request.attribute);
    // Large places first: those after them hardly have other values.
    let whole_ones = views.iter().zip(0..);
    let mut whole_ones: Vec<(&View, usize)> = whole_ones
        .filter(|(view, _)| request.filter.is_none() && view.hidden.is_empty() && meets(view))
        .collect();
    whole_ones.sort_by_key(|(view, _)| Reverse(view.image.spans.rows()));
    let mut is_told = vec![false; views.len()];
    for (view, at) in whole_ones {
        if found.is_over() {
            return Ok(found.finish());
        }
        if let Some(is_told) = is_told.get_mut(at) {
            *is_told = whole(view, &request.attribute, &mut found)?;
        }
    }
    let others = || views.iter().zip(&is_told).filter(|(_, is_told)| !**is_told);
    if found.is_over() || !others().any(|(view, _)| meets(&view)) {
        return Ok(found.finish());
    }
    // With a filter all places are here: pieces of traces are found again. Other places tell which
    // spans came first.
    let others: Vec<View> = others().map(|(view, _)| view.again()).collect();
    let mut reading = Reading::new(&request.attribute);
    let mut of_children = Coder::default();
    let below = match &request.attribute {
        AttributeRef::Attribute {
            scope: Some(scope @ (Scope::Event | Scope::Link)),
            key,
        } => Some(Named {
            scope: *scope,
            key: key.clone(),
        }),
        _ => None,
    };
    let mut counts: HashMap<u32, u64> = HashMap::new();
    let mut wanted = Wanted::default();
    let asks = asks_traces(filter) || asks_trace(&request.attribute);
    sweep(&others, filter, (asks, request.range), &mut |found| {
        let page = found.page;
        wanted.set(found.rows, page.table().rows_of(page.number()).len());
        if let Some(named) = &below {
            // Every event (or link) counts, not only the first that has the attribute.
            let table = match named.scope {
                Scope::Link => &found.view.image.links,
                _ => &found.view.image.events,
            };
            let children = Children::of(found.view, page.number(), named.scope, &wanted)?;
            for value in value_of(table, named, &children.rows)?.iter().flatten() {
                *counts.entry(of_children.code_of(value)).or_default() += 1;
            }
            return Ok(counts.len() <= request.limit);
        }
        reading.read(found.view, page, &wanted)?;
        for code in reading.codes.iter().filter(|code| **code != ABSENT) {
            *counts.entry(*code).or_default() += 1;
        }
        Ok(counts.len() <= request.limit)
    })?;
    let values = match &below {
        Some(_) => &of_children.values,
        None => &reading.coder.values,
    };
    for (code, value) in (0u32..).zip(values) {
        let count = counts.get(&code).copied().unwrap_or(0);
        if count > 0 && !found.add(value, count) {
            break;
        }
    }
    Ok(found.finish())
}

/// Values of a place as a whole; `false` when they cannot be told without looking at its spans.
fn whole(view: &View, attribute: &AttributeRef, found: &mut Found) -> Result<bool> {
    let image = &view.image;
    let known = |table: &TableReader, key: Key, found: &mut Found| -> Result<()> {
        found.add_all(&table.known(&key)?.values)
    };
    let numbers = |number: u8, value: fn(u64) -> i64, found: &mut Found| -> Result<()> {
        let column = image.spans.known(&Key::Number(number))?;
        column.values.distinct(&mut |stored, count| {
            let stored = stored.bits().unwrap_or(0);
            found.add_ref(ValueRef::Int(value(stored)), count)
        })
    };
    match attribute {
        AttributeRef::Intrinsic(intrinsic) => match intrinsic {
            Intrinsic::Name => known(&image.spans, span::NAME, found)?,
            Intrinsic::StatusMessage => known(&image.spans, span::MESSAGE, found)?,
            Intrinsic::Kind => numbers(span::KIND, kind, found)?,
            Intrinsic::Status => numbers(span::STATUS, status, found)?,
            Intrinsic::Duration => {
                let seen = |stored| i64::try_from(duration_of(stored)).unwrap_or(0);
                numbers(span::DURATION, seen, found)?;
            }
            _ => return Ok(false),
        },
        AttributeRef::Attribute { scope, key } => {
            let scopes = match scope {
                Some(scope) => vec![*scope],
                None => vec![Scope::Span, Scope::Resource],
            };
            for scope in scopes {
                if !of_scope(view, scope, key, found)? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn of_scope(view: &View, scope: Scope, key: &str, found: &mut Found) -> Result<bool> {
    let image = &view.image;
    let (table, shared) = match scope {
        Scope::Span => (&image.spans, None),
        Scope::Event => (&image.events, None),
        Scope::Link => (&image.links, None),
        Scope::Resource => (&image.resources, Some(span::RESOURCE)),
        Scope::Instrumentation => (&image.scopes, Some(span::SCOPE)),
    };
    if let Some(number) = shared {
        let spans = spans_by_row(view, table, number)?;
        let rows: Vec<usize> = (0..table.rows()).collect();
        let named = Named {
            scope,
            key: key.to_owned(),
        };
        for (value, count) in value_of(table, &named, &rows)?.into_iter().zip(spans) {
            if let Some(value) = value
                && !found.add(&value, count)
            {
                break;
            }
        }
        return Ok(true);
    }
    let columns: Vec<Key> = match (scope, key) {
        (Scope::Event, keys::EVENT_NAME) => vec![event::NAME],
        (Scope::Event, keys::EVENT_TIME_SINCE_START) => vec![Key::Number(event::TIME)],
        (Scope::Link, keys::LINK_TRACE_ID | keys::LINK_SPAN_ID) => return Ok(false),
        (_, key) => visible(table, key).collect(),
    };
    for key in columns {
        found.add_all(&table.known(&key)?.values)?;
    }
    Ok(true)
}
