//! Values of attributes. `Snapshot` calls it.
//!
//! Without a filter a place with spans in the range counts as a whole, as it does for names:
//! dictionaries tell the values and how often they occur. With one the codes of the spans that are
//! chosen do.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;

use trine_storage::Result;

use super::coder::Coder;
use super::codes::{Children, Named, Wanted, value_of};
use super::condition::{duration_of, kind, status, visible};
use super::counts::Reading;
use super::fetch;
use super::names::spans_by_row;
use super::sweep::sweep;
use super::traces::{asks_trace, asks_traces};
use super::view::View;
use crate::block::format::{event, span};
use crate::block::table::{Key, TableReader};
use crate::block::values::ValueRef;
use crate::request::{ABSENT, AttributeRef, Filter, Intrinsic, Scope, Value, ValuesRequest, keys};

/// Values with how often each was met.
#[derive(Debug, Default)]
struct Found {
    coder: Coder,
    counts: Vec<u64>,
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

    fn finish(self) -> Vec<(Value, u64)> {
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
    let mut others: Vec<View> = Vec::new();
    let mut is_over = true;
    // Newer places first.
    for view in views.iter().rev() {
        let overlaps = meets(&view);
        let is_whole = request.filter.is_none() && view.hidden.is_empty();
        if overlaps && is_whole && whole(view, &request.attribute, &mut found)? {
            continue;
        }
        is_over &= !overlaps;
        // Other places tell which spans came first.
        others.push(view.again());
    }
    if found.coder.values.len() >= request.limit.saturating_add(1) || is_over {
        return Ok(found.finish());
    }
    // With a filter all places are here: pieces of traces are found again.
    others.reverse();
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
        let column = table.known(&key)?;
        column
            .values
            .distinct(&mut |value, count| found.add_ref(value, count))
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
        let column = table.known(&key)?;
        column
            .values
            .distinct(&mut |value, count| found.add_ref(value, count))?;
    }
    Ok(true)
}
