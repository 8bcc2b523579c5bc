//! Filters made ready for one image: values are looked up in dictionaries, resources and scopes are
//! tested, events and links are followed to their spans, once. `evaluate` applies the result to
//! pages of spans. Reads, deletes and retention rules call it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::Result;

use super::evaluate::Page;
use super::page_rows::PageRows;
use super::test::{Ready, holds, prepare, range};
use super::traces::{asks_trace, asks_traces};
use super::view::View;
use crate::block::column::{ColumnReader, Probe};
use crate::block::format::{event, link, scope, span};
use crate::block::image::unzigzag;
use crate::block::numbers::ordered;
use crate::block::table::{Key, TableReader};
use crate::block::values::{Texts, Type, ValueRef};
use crate::model::TraceId;
use crate::request::{AttributeRef, Condition, Filter, Intrinsic, Scope, Test, Value, keys};
use crate::structure::kind_of;

/// A filter that is ready for the rows of one table.
#[derive(Debug)]
pub(crate) enum Node {
    /// No row.
    No,
    /// Every row.
    All,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Leaf(Leaf),
}

/// A condition that is ready.
#[derive(Debug)]
pub(crate) enum Leaf {
    /// Rows that have a value of a column that matches; the test beside it is for values that are
    /// looked at one by one.
    Column {
        key: Key,
        prepared: Ready,
        test: Option<Test>,
        rarity: Rarity,
    },
    /// Rows that have no value of any of these columns.
    Without(Vec<Key>),
    /// These rows.
    Rows(RoaringBitmap),
    /// All but these rows.
    NotRows(RoaringBitmap),
    /// Spans whose parent's id matches.
    ParentId(Test),
    /// Spans by the number of their children.
    Children(Test),
    /// All spans of traces that took so long.
    TraceDuration(Test),
    /// All spans of traces whose root has a name that matches.
    RootName { prepared: Ready, test: Test },
    /// All spans of traces whose root has one of these resources, or that have no root.
    RootResource { resources: Vec<bool>, without: bool },
}

/// What a dictionary tells of how many values of a column match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rarity {
    /// So few that little is left of a page.
    Rare,
    /// Perhaps many.
    Unknown,
}

impl Rarity {
    /// That of what is wanted of a column of a table of so many rows.
    fn of(column: &ColumnReader, prepared: &Ready, rows: usize) -> Result<Self> {
        const RARE: u64 = 64;
        let Some(wanted) = prepared.wanted() else {
            return Ok(Self::Unknown);
        };
        let matching = column.matching(wanted)?;
        Ok(match matching {
            Some(count) if count.saturating_mul(RARE) <= rows as u64 => Self::Rare,
            _ => Self::Unknown,
        })
    }
}

/// What is done about conditions that need the whole trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traces {
    /// The image has all spans of its traces.
    Whole,
    /// It may have pieces of traces: such conditions are taken to hold.
    Pieces,
}

/// Types of values that queries see.
pub(crate) const VISIBLE: [Type; 5] = [Type::Str, Type::Int, Type::Float, Type::Bool, Type::Array];

impl Node {
    /// Makes a filter ready for the spans of an image.
    pub(crate) fn of(view: &View, filter: &Filter, traces: Traces) -> Result<Self> {
        if let Some(scope) = child_scope(filter) {
            return children(view, scope, &[filter]);
        }
        let node = match filter {
            Filter::Is(condition) => of_span(view, condition, traces)?,
            // What is taken to hold is not taken not to.
            Filter::Not(filter) if traces == Traces::Pieces && asks_traces(filter) => Self::All,
            Filter::Not(filter) => Self::not(Self::of(view, filter, traces)?),
            Filter::Or(filters) => {
                let nodes = filters.iter().map(|filter| Self::of(view, filter, traces));
                Self::any(nodes.collect::<Result<_>>()?)
            }
            Filter::And(filters) => {
                let mut nodes = Vec::with_capacity(filters.len());
                let (mut events, mut links) = (Vec::new(), Vec::new());
                for filter in filters {
                    match child_scope(filter) {
                        Some(Scope::Link) => links.push(filter),
                        Some(_) => events.push(filter),
                        None => nodes.push(Self::of(view, filter, traces)?),
                    }
                    if matches!(nodes.last(), Some(Self::No)) {
                        return Ok(Self::No);
                    }
                }
                for (scope, filters) in [(Scope::Event, events), (Scope::Link, links)] {
                    if !filters.is_empty() {
                        nodes.push(children(view, scope, &filters)?);
                    }
                }
                Self::all(nodes)
            }
        };
        Ok(node)
    }

    fn not(node: Self) -> Self {
        match node {
            Self::No => Self::All,
            Self::All => Self::No,
            Self::Not(node) => *node,
            node => Self::Not(Box::new(node)),
        }
    }

    fn all(mut nodes: Vec<Self>) -> Self {
        if nodes.iter().any(|node| matches!(node, Self::No)) {
            return Self::No;
        }
        nodes.retain(|node| !matches!(node, Self::All));
        nodes.sort_by_key(Self::cost);
        match nodes.len() {
            0 => Self::All,
            1 => nodes.pop().unwrap_or(Self::All),
            _ => Self::And(nodes),
        }
    }

    fn any(mut nodes: Vec<Self>) -> Self {
        if nodes.iter().any(|node| matches!(node, Self::All)) {
            return Self::All;
        }
        nodes.retain(|node| !matches!(node, Self::No));
        nodes.sort_by_key(Self::cost);
        match nodes.len() {
            0 => Self::No,
            1 => nodes.pop().unwrap_or(Self::No),
            _ => Self::Or(nodes),
        }
    }

    /// What is likely to leave few rows for little work comes first.
    fn cost(&self) -> u8 {
        match self {
            Self::No | Self::All => 0,
            Self::And(nodes) => nodes.iter().map(Self::cost).min().unwrap_or(0),
            Self::Or(nodes) => nodes.iter().map(Self::cost).max().unwrap_or(0),
            Self::Not(node) => node.cost().max(5),
            Self::Leaf(leaf) => match leaf {
                Leaf::Rows(_) => 0,
                Leaf::Column {
                    rarity: Rarity::Rare,
                    ..
                } => 1,
                Leaf::Column { key, test, .. } => match (key, test) {
                    (Key::Attribute(..), Some(Test::Equal(_))) => 1,
                    (_, Some(Test::Equal(_))) => 2,
                    (Key::Number(_), _) | (Key::Attribute(_, Type::Bool), _) => 3,
                    (Key::Attribute(_, Type::Int | Type::Float), _) => 4,
                    _ => 6,
                },
                Leaf::NotRows(_) => 5,
                Leaf::Without(_) => 5,
                Leaf::RootResource { .. } | Leaf::TraceDuration(_) => 7,
                Leaf::RootName { .. } => 8,
                Leaf::Children(_) | Leaf::ParentId(_) => 9,
            },
        }
    }

    /// About how many spans satisfy it, or rather how much work it is to find them out: what is
    /// selective and cheap has little.
    pub(crate) fn estimate(&self, view: &View) -> u64 {
        let rows = view.image.spans.rows() as u64;
        match self {
            Self::No => 0,
            Self::All => rows,
            Self::And(nodes) => nodes
                .iter()
                .map(|node| node.estimate(view))
                .min()
                .unwrap_or(rows),
            Self::Or(nodes) => nodes.iter().map(|node| node.estimate(view)).sum(),
            Self::Not(_) => rows,
            Self::Leaf(Leaf::Rows(held)) => held.len(),
            Self::Leaf(Leaf::Column { key, .. }) => {
                let values = view.image.spans.values_of(key).unwrap_or(rows);
                values / 16 * u64::from(self.cost())
            }
            Self::Leaf(_) => rows,
        }
    }

    fn leaf(key: Key, prepared: Ready, test: Option<&Test>) -> Self {
        match prepared {
            Ready::Nothing => Self::No,
            prepared => Self::Leaf(Leaf::Column {
                key,
                prepared,
                test: test.cloned(),
                rarity: Rarity::Unknown,
            }),
        }
    }

    /// A leaf of a column of `table` that may have a dictionary.
    fn told(table: &TableReader, key: Key, column: &ColumnReader, test: &Test) -> Result<Self> {
        let prepared = prepare(column, test)?;
        let found = Rarity::of(column, &prepared, table.rows())?;
        let mut node = Self::leaf(key, prepared, Some(test));
        if let Self::Leaf(Leaf::Column { rarity, .. }) = &mut node {
            *rarity = found;
        }
        Ok(node)
    }

    /// Rows of a table by a column that all of them have.
    fn known(table: &TableReader, key: Key, test: &Test) -> Result<Self> {
        let column = &table.known(&key)?.values;
        Ok(match Self::told(table, key, column, test)? {
            Self::Leaf(Leaf::Column {
                prepared: Ready::Everything,
                ..
            }) => Self::All,
            node => node,
        })
    }

    /// Rows of a table by one of its attributes.
    fn attribute(table: &TableReader, key: &str, test: &Test) -> Result<Self> {
        if matches!(test, Test::Missing) {
            return Ok(Self::without(table, key));
        }
        let mut nodes = Vec::new();
        for column in visible(table, key) {
            if let Some(found) = table.column(&column)? {
                nodes.push(Self::told(table, column, &found.values, test)?);
            }
        }
        Ok(Self::any(nodes))
    }

    /// Rows of a table that do not have an attribute.
    fn without(table: &TableReader, key: &str) -> Self {
        let columns: Vec<Key> = visible(table, key).collect();
        match columns.is_empty() {
            true => Self::All,
            false => Self::Leaf(Leaf::Without(columns)),
        }
    }

    /// Which rows of a small table satisfy it.
    fn all_rows(&self, table: &TableReader) -> Result<Vec<bool>> {
        let mut all = vec![false; table.rows()];
        if matches!(self, Self::No) {
            return Ok(all);
        }
        for page in 0..table.pages() {
            let rows = table.rows_of(page);
            let found = Page::new(table, page).rows(self, &PageRows::first(rows.len()))?;
            for row in found.iter() {
                if let Some(held) = all.get_mut(rows.start + row as usize) {
                    *held = true;
                }
            }
        }
        Ok(all)
    }
}

/// The columns of an attribute that queries see.
pub(crate) fn visible<'a>(
    table: &'a TableReader,
    key: &str,
) -> impl Iterator<Item = Key> + use<'a> {
    let key: Arc<str> = key.into();
    let keys = VISIBLE.map(|kind| Key::Attribute(Arc::clone(&key), kind));
    keys.into_iter().filter(|key| table.has(key))
}

/// Whether a filter is only about events, or only about links, in a way that one of them alone can
/// satisfy.
fn child_scope(filter: &Filter) -> Option<Scope> {
    match filter {
        Filter::Is(condition) => match &condition.attribute {
            AttributeRef::Attribute {
                scope: Some(scope @ (Scope::Event | Scope::Link)),
                ..
            } if !matches!(condition.test, Test::Missing) => Some(*scope),
            _ => None,
        },
        Filter::And(filters) | Filter::Or(filters) => {
            let (first, rest) = filters.split_first()?;
            let scope = child_scope(first)?;
            let same = rest.iter().all(|filter| child_scope(filter) == Some(scope));
            same.then_some(scope)
        }
        Filter::Not(_) => None,
    }
}

fn of_span(view: &View, condition: &Condition, traces: Traces) -> Result<Node> {
    let spans = &view.image.spans;
    let test = &condition.test;
    match &condition.attribute {
        AttributeRef::Intrinsic(intrinsic) => of_intrinsic(view, *intrinsic, test, traces),
        AttributeRef::Attribute { scope, key } => match scope {
            Some(Scope::Span) => Node::attribute(spans, key, test),
            Some(Scope::Resource) => {
                let resources = &view.image.resources;
                let rows = Node::attribute(resources, key, test)?.all_rows(resources)?;
                shared(spans, span::RESOURCE, &rows)
            }
            Some(Scope::Instrumentation) => {
                let scopes = &view.image.scopes;
                let node = match key.as_str() {
                    keys::INSTRUMENTATION_NAME => Node::known(scopes, scope::NAME, test)?,
                    keys::INSTRUMENTATION_VERSION => Node::known(scopes, scope::VERSION, test)?,
                    key => Node::attribute(scopes, key, test)?,
                };
                shared(spans, span::SCOPE, &node.all_rows(scopes)?)
            }
            // All others are asked of the events as such.
            Some(scope @ (Scope::Event | Scope::Link)) => without_children(view, *scope, key),
            None => {
                let resources = &view.image.resources;
                let rows = Node::attribute(resources, key, test)?.all_rows(resources)?;
                let of_resource = shared(spans, span::RESOURCE, &rows)?;
                let others = Node::all(vec![Node::without(spans, key), of_resource]);
                if matches!(test, Test::Missing) {
                    return Ok(others);
                }
                Ok(Node::any(vec![Node::attribute(spans, key, test)?, others]))
            }
        },
    }
}

/// Spans whose resource or scope is one of these rows.
fn shared(spans: &TableReader, number: u8, rows: &[bool]) -> Result<Node> {
    let key = Key::Number(number);
    if rows.iter().all(|row| *row) {
        return Ok(if rows.is_empty() { Node::No } else { Node::All });
    }
    let prepared = prepare_numbers(&spans.known(&key)?.values, rows.len(), &|row| {
        rows.get(row).copied().unwrap_or(false)
    })?;
    Ok(Node::leaf(key, prepared, None))
}

/// Small numbers below `end` that are wanted; greater ones are not.
fn prepare_numbers(
    column: &ColumnReader,
    end: usize,
    is_wanted: &dyn Fn(usize) -> bool,
) -> Result<Ready> {
    const LISTED_MAX: usize = 4;
    let wanted: Vec<i64> = (0..end)
        .filter(|number| is_wanted(*number))
        .filter_map(|number| i64::try_from(number).ok())
        .collect();
    let (Some(&least), Some(&greatest)) = (wanted.first(), wanted.last()) else {
        return Ok(Ready::Nothing);
    };
    if greatest.abs_diff(least) + 1 == wanted.len() as u64 {
        let ends = [least, greatest].map(|end| ordered(Type::Int, end.cast_unsigned()));
        return Ready::probe(
            column,
            &Probe::Range {
                least: ends[0],
                greatest: ends[1],
            },
        );
    }
    if wanted.len() <= LISTED_MAX {
        let wanted: Vec<ValueRef<'_>> = wanted.into_iter().map(ValueRef::Int).collect();
        return Ready::probe(column, &Probe::Equal(&wanted));
    }
    let table: Vec<bool> = (0..end).map(is_wanted).collect();
    Ready::each(
        column,
        Arc::new(move |value| match value {
            ValueRef::Int(number) => {
                let at = usize::try_from(number).unwrap_or(usize::MAX);
                table.get(at).copied().unwrap_or(false)
            }
            _ => false,
        }),
    )
}

/// The events (or links) of an image, and the column that tells how many a span has.
fn table_of(view: &View, scope: Scope) -> (&TableReader, u8) {
    match scope {
        Scope::Link => (&view.image.links, span::LINKS),
        _ => (&view.image.events, span::EVENTS),
    }
}

/// Spans of which one event (or link) satisfies all filters, which are about nothing else.
fn children(view: &View, scope: Scope, filters: &[&Filter]) -> Result<Node> {
    let (table, count) = table_of(view, scope);
    let nodes = filters.iter().map(|filter| one_child(table, scope, filter));
    let node = Node::all(nodes.collect::<Result<_>>()?);
    let rows = parents(view, count, &node.all_rows(table)?)?;
    Ok(match rows.is_empty() {
        true => Node::No,
        false => Node::Leaf(Leaf::Rows(rows)),
    })
}

/// Spans none of whose events (or links) has an attribute.
fn without_children(view: &View, scope: Scope, key: &str) -> Result<Node> {
    let (table, count) = table_of(view, scope);
    let held = child(table, scope, key, &Test::Exists)?;
    let held = parents(view, count, &held.all_rows(table)?)?;
    Ok(Node::Leaf(Leaf::NotRows(held)))
}

/// Events (or links) that satisfy a filter.
fn one_child(table: &TableReader, scope: Scope, filter: &Filter) -> Result<Node> {
    let all = |filters: &[Filter]| -> Result<Vec<Node>> {
        let nodes = filters.iter().map(|filter| one_child(table, scope, filter));
        nodes.collect()
    };
    match filter {
        Filter::And(filters) => Ok(Node::all(all(filters)?)),
        Filter::Or(filters) => Ok(Node::any(all(filters)?)),
        Filter::Not(filter) => Ok(Node::not(one_child(table, scope, filter)?)),
        Filter::Is(condition) => match &condition.attribute {
            AttributeRef::Attribute { key, .. } => child(table, scope, key, &condition.test),
            AttributeRef::Intrinsic(_) => Ok(Node::No),
        },
    }
}

fn child(table: &TableReader, scope: Scope, key: &str, test: &Test) -> Result<Node> {
    match (scope, key) {
        (Scope::Event, keys::EVENT_NAME) => Node::known(table, event::NAME, test),
        (Scope::Event, keys::EVENT_TIME_SINCE_START) => {
            Node::known(table, Key::Number(event::TIME), test)
        }
        (Scope::Link, keys::LINK_TRACE_ID) => ids_of_links(table, &link::TRACE_ID, test),
        (Scope::Link, keys::LINK_SPAN_ID) => ids_of_links(table, &link::SPAN_ID, test),
        _ => Node::attribute(table, key, test),
    }
}

/// Links by an id, as hexadecimal text. They are kept as bytes.
fn ids_of_links(table: &TableReader, key: &Key, test: &Test) -> Result<Node> {
    let mut found = RoaringBitmap::new();
    let mut ids = Texts::default();
    for page in 0..table.pages() {
        ids.clear();
        table.texts(key, page, None, &mut ids)?;
        for (row, id) in table.rows_of(page).zip(ids.iter()) {
            if holds(test, ValueRef::Str(&hex(id))) {
                found.insert(u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
    }
    Ok(Node::Leaf(Leaf::Rows(found)))
}

/// The spans that have one of the events (or links) that are told.
fn parents(view: &View, count: u8, children: &[bool]) -> Result<RoaringBitmap> {
    let mut found = RoaringBitmap::new();
    let mut left = children.iter().filter(|child| **child).count();
    let mut next = 0usize;
    let mut counts = Vec::new();
    for page in 0..view.pages() {
        if left == 0 {
            break;
        }
        counts.clear();
        view.image.spans.numbers(count, page, &mut counts)?;
        for (row, count) in view.image.spans.rows_of(page).zip(&counts) {
            let end = next.saturating_add(usize::try_from(*count).unwrap_or(usize::MAX));
            let held = children
                .get(next..end.min(children.len()))
                .unwrap_or_default();
            let hits = held.iter().filter(|child| **child).count();
            if hits > 0 {
                left -= hits;
                found.insert(u32::try_from(row).unwrap_or(u32::MAX));
            }
            next = end;
        }
    }
    Ok(found)
}

fn of_intrinsic(view: &View, intrinsic: Intrinsic, test: &Test, traces: Traces) -> Result<Node> {
    // What is built in is always there.
    match test {
        Test::Missing => return Ok(Node::No),
        Test::Exists => return Ok(Node::All),
        _ => {}
    }
    let spans = &view.image.spans;
    let needs_all = asks_trace(&AttributeRef::Intrinsic(intrinsic));
    if needs_all && traces == Traces::Pieces {
        return Ok(Node::All);
    }
    let number = |number: u8, stored: &dyn Fn(usize) -> bool, end: usize| -> Result<Node> {
        let key = Key::Number(number);
        let prepared = prepare_numbers(&spans.known(&key)?.values, end, stored)?;
        Ok(Node::leaf(key, prepared, Some(test)))
    };
    let is = |value: i64| holds(test, ValueRef::Int(value));
    match intrinsic {
        Intrinsic::Name => Node::known(spans, span::NAME, test),
        Intrinsic::StatusMessage => Node::known(spans, span::MESSAGE, test),
        Intrinsic::Duration => duration(spans, test),
        // What OTLP does not define counts as unspecified: it is looked at as it is.
        Intrinsic::Kind if is(0) => each_number(spans, span::KIND, test, kind),
        Intrinsic::Kind => number(span::KIND, &|stored| is(kind(stored as u64)), 11),
        Intrinsic::Status if is(0) => each_number(spans, span::STATUS, test, status),
        Intrinsic::Status => number(span::STATUS, &|stored| is(status(stored as u64)), 6),
        Intrinsic::IsRoot => {
            let holds = |truth| holds(test, ValueRef::Bool(truth));
            match (holds(true), holds(false)) {
                (true, true) => Ok(Node::All),
                (false, false) => Ok(Node::No),
                (true, false) => number(span::PARENT, &|stored| stored == 0, 1),
                (false, true) => each_number(
                    spans,
                    span::PARENT,
                    &Test::NotEqual(vec![Value::Int(0)]),
                    |parent| i64::from(parent != span::NO_PARENT),
                ),
            }
        }
        Intrinsic::SpanId => span_id(spans, test),
        Intrinsic::ParentId => Ok(Node::Leaf(Leaf::ParentId(test.clone()))),
        Intrinsic::TraceId => trace_id(view, test),
        Intrinsic::TraceDuration => Ok(Node::Leaf(Leaf::TraceDuration(test.clone()))),
        Intrinsic::ChildCount => Ok(Node::Leaf(Leaf::Children(test.clone()))),
        Intrinsic::RootName => Ok(Node::Leaf(Leaf::RootName {
            prepared: prepare(&spans.known(&span::NAME)?.values, test)?,
            test: test.clone(),
        })),
        Intrinsic::RootServiceName => {
            let without = holds(test, ValueRef::Str(""));
            let resources = &view.image.resources;
            let key = Key::Attribute("service.name".into(), Type::Str);
            // A service whose name is no text has none.
            let mut found = match resources.column(&key)? {
                None => vec![without; resources.rows()],
                Some(column) => {
                    let prepared = prepare(&column.values, test)?;
                    let named = Node::leaf(key.clone(), prepared, None);
                    named.all_rows(resources)?
                }
            };
            if without && resources.has(&key) {
                let unnamed = Node::Leaf(Leaf::Without(vec![key])).all_rows(resources)?;
                found
                    .iter_mut()
                    .zip(unnamed)
                    .for_each(|(held, unnamed)| *held |= unnamed);
            }
            Ok(Node::Leaf(Leaf::RootResource {
                resources: found,
                without,
            }))
        }
    }
}

/// The kind that a column tells, as queries see it.
pub(crate) fn kind(stored: u64) -> i64 {
    kind_of(unzigzag(stored)).into()
}

/// The status that a column tells, as queries see it: what OTLP does not define is unset.
pub(crate) fn status(stored: u64) -> i64 {
    match stored.checked_sub(1).map(unzigzag) {
        Some(code @ 1..=2) => code.into(),
        _ => 0,
    }
}

/// The duration that a column tells, as queries see it: a span that ends before it begins took no
/// time.
pub(crate) fn duration_of(stored: u64) -> u64 {
    if i64::try_from(stored).is_ok() {
        stored
    } else {
        0
    }
}

fn each_number(spans: &TableReader, number: u8, test: &Test, seen: fn(u64) -> i64) -> Result<Node> {
    let key = Key::Number(number);
    let wanted = test.clone();
    let passes = move |value: ValueRef<'_>| match value {
        ValueRef::Int(stored) => holds(&wanted, ValueRef::Int(seen(stored.cast_unsigned()))),
        _ => false,
    };
    let prepared = Ready::each(&spans.known(&key)?.values, Arc::new(passes))?;
    Ok(Node::leaf(key, prepared, None))
}

fn duration(spans: &TableReader, test: &Test) -> Result<Node> {
    let number = |value: u64| i64::try_from(value).unwrap_or(0);
    let one = match test {
        Test::Equal(values) => values.len() == 1,
        _ => true,
    };
    let Some((least, greatest)) = range(Type::Int, test).filter(|_| one) else {
        return each_number(spans, span::DURATION, test, |stored| {
            i64::try_from(duration_of(stored)).unwrap_or(0)
        });
    };
    // Stored numbers below zero are seen as zero.
    let zero = ordered(Type::Int, number(0).cast_unsigned());
    let least = match (least..=greatest).contains(&zero) {
        true => 0,
        false => least.max(zero + 1),
    };
    let key = Key::Number(span::DURATION);
    let prepared = Ready::probe(
        &spans.known(&key)?.values,
        &Probe::Range { least, greatest },
    )?;
    Ok(Node::leaf(key, prepared, Some(test)))
}

fn span_id(spans: &TableReader, test: &Test) -> Result<Node> {
    let key = Key::Number(span::ID);
    let column = &spans.known(&key)?.values;
    if let Test::Equal(values) = test {
        let number = |value: &Value| match value {
            Value::Str(text) => id_of_hex::<8>(text).map(i64::from_be_bytes),
            _ => None,
        };
        let wanted: Vec<ValueRef<'_>> = values
            .iter()
            .filter_map(number)
            .map(ValueRef::Int)
            .collect();
        return Ok(Node::leaf(
            key,
            Ready::probe(column, &Probe::Equal(&wanted))?,
            Some(test),
        ));
    }
    let test = test.clone();
    let passes = move |value: ValueRef<'_>| match value {
        ValueRef::Int(id) => holds(&test, ValueRef::Str(&hex(&id.to_be_bytes()))),
        _ => false,
    };
    Ok(Node::leaf(
        key,
        Ready::each(column, Arc::new(passes))?,
        None,
    ))
}

fn trace_id(view: &View, test: &Test) -> Result<Node> {
    let mut rows = RoaringBitmap::new();
    if let Test::Equal(values) = test {
        for value in values {
            if let Value::Str(text) = value
                && let Some(id) = id_of_hex::<16>(text)
                && let Some(place) = view.image.find(&TraceId::from(id))?
            {
                rows.insert_range(view.rows_of(place));
            }
        }
    } else {
        for place in 0..view.trace_count() {
            let trace = view.trace(place)?;
            if holds(test, ValueRef::Str(&hex(&trace.id))) {
                rows.insert_range(trace.rows);
            }
        }
    }
    Ok(match rows.is_empty() {
        true => Node::No,
        false => Node::Leaf(Leaf::Rows(rows)),
    })
}

/// The bytes of an id in lower-case hexadecimal digits, as queries see ids.
fn id_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut id = [0; N];
    let pairs = text.as_bytes().chunks(2);
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(pairs) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(id)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0');
    let pairs = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    pairs.map(digit).collect()
}
