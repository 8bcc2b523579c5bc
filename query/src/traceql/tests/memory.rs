//! A source that holds simple spans in a vector, for tests.

use std::cmp::Ordering;
use std::sync::Arc;

use trine_storage::{Error, TimeRange};

use crate::traceql::source::{
    ABSENT, AttributeColumn, AttributeRef, Batch, Batches, Column, Filter, Intrinsic, NO_ROW,
    Relation, Request, Rows, Scope, Source, SpanBatch, Test, TraceFilter, TraceRows, Value,
    ValuesRequest,
};

pub(super) const SECOND: i64 = 1_000_000_000;

/// One span. Ids are one byte repeated; a parent 0 is none. It begins `100 * trace + id` seconds
/// after 1970.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    pub(super) trace: u8,
    pub(super) id: u8,
    pub(super) parent: u8,
    pub(super) name: &'static str,
    pub(super) kind: u8,
    pub(super) status: u8,
    pub(super) message: &'static str,
    pub(super) millis: u64,
    /// But those of events and links.
    pub(super) attributes: Vec<(Scope, &'static str, Value)>,
    pub(super) events: Vec<Child>,
    pub(super) links: Vec<Child>,
}

/// An event or a link.
pub(super) type Child = Vec<(&'static str, Value)>;

impl Span {
    pub(super) fn start(&self) -> i64 {
        (i64::from(self.trace) * 100 + i64::from(self.id)) * SECOND
    }

    pub(super) fn nanoseconds(&self) -> u64 {
        self.millis * 1_000_000
    }

    /// The value of an attribute; of events and links that of the first which has it.
    pub(super) fn attribute(&self, scope: Option<Scope>, key: &str) -> Option<Value> {
        match scope {
            None => {
                let of_span = self.attribute(Some(Scope::Span), key);
                of_span.or_else(|| self.attribute(Some(Scope::Resource), key))
            }
            Some(scope @ (Scope::Event | Scope::Link)) => self
                .children(scope)
                .iter()
                .find_map(|child| of_child(child, key)),
            Some(scope) => {
                let mut held = self.attributes.iter();
                let found = held.find(|(s, k, _)| *s == scope && *k == key);
                found.map(|(_, _, value)| value.clone())
            }
        }
    }

    pub(super) fn children(&self, scope: Scope) -> &[Child] {
        match scope {
            Scope::Event => &self.events,
            _ => &self.links,
        }
    }

    fn satisfies(&self, filter: &Filter, memory: &[Span]) -> bool {
        let some_child = |filters: &[&Filter], scope: Scope| {
            let all = |child: &Child| filters.iter().all(|of| child_satisfies(child, of));
            filters.is_empty() || self.children(scope).iter().any(all)
        };
        if let Some(scope) = only_about(filter) {
            return some_child(&[filter], scope);
        }
        let condition = match filter {
            Filter::Is(condition) => condition,
            Filter::Not(filter) => return !self.satisfies(filter, memory),
            Filter::Or(of) => return of.iter().any(|filter| self.satisfies(filter, memory)),
            Filter::And(of) => {
                let about = |scope: Option<Scope>| -> Vec<&Filter> {
                    of.iter()
                        .filter(|filter| only_about(filter) == scope)
                        .collect()
                };
                return about(None)
                    .iter()
                    .all(|filter| self.satisfies(filter, memory))
                    && some_child(&about(Some(Scope::Event)), Scope::Event)
                    && some_child(&about(Some(Scope::Link)), Scope::Link);
            }
        };
        let value = match &condition.attribute {
            AttributeRef::Attribute { scope, key } => self.attribute(*scope, key),
            AttributeRef::Intrinsic(intrinsic) => self.intrinsic(*intrinsic, memory),
        };
        match value {
            None => matches!(condition.test, Test::Missing),
            Some(value) => holds(&value, &condition.test),
        }
    }

    fn intrinsic(&self, intrinsic: Intrinsic, memory: &[Span]) -> Option<Value> {
        let text = |text: &str| Value::Str(text.into());
        let id = |id: u8, bytes: usize| text(&format!("{id:02x}").repeat(bytes));
        let trace = || memory.iter().filter(|span| span.trace == self.trace);
        let root = trace().find(|span| span.parent == 0);
        Some(match intrinsic {
            Intrinsic::Duration => Value::Int(self.nanoseconds() as i64),
            Intrinsic::Name => text(self.name),
            Intrinsic::Status => Value::Int(self.status.into()),
            Intrinsic::StatusMessage => text(self.message),
            Intrinsic::Kind => Value::Int(self.kind.into()),
            Intrinsic::SpanId => id(self.id, 8),
            Intrinsic::ParentId if self.parent == 0 => text(""),
            Intrinsic::ParentId => id(self.parent, 8),
            Intrinsic::TraceId => id(self.trace, 16),
            Intrinsic::IsRoot => Value::Bool(self.parent == 0),
            Intrinsic::TraceDuration => {
                let end = |span: &Span| span.start() + span.nanoseconds() as i64;
                let start = trace().map(Span::start).min().unwrap();
                Value::Int(trace().map(end).max().unwrap() - start)
            }
            Intrinsic::RootName => text(root.map_or("", |root| root.name)),
            Intrinsic::RootServiceName => {
                let service = |root: &Span| root.attribute(Some(Scope::Resource), "service.name");
                root.and_then(service).unwrap_or(text(""))
            }
            Intrinsic::ChildCount => {
                Value::Int(trace().filter(|span| span.parent == self.id).count() as i64)
            }
        })
    }
}

/// The value of an attribute of an event or a link.
pub(super) fn of_child(child: &Child, key: &str) -> Option<Value> {
    let found = child.iter().find(|(held, _)| *held == key);
    found.map(|(_, value)| value.clone())
}

/// The scope of a filter that is about events, or links, and nothing else.
fn only_about(filter: &Filter) -> Option<Scope> {
    match filter {
        Filter::Is(condition) if matches!(condition.test, Test::Missing) => None,
        Filter::Is(condition) => match &condition.attribute {
            AttributeRef::Attribute {
                scope: scope @ Some(Scope::Event | Scope::Link),
                ..
            } => *scope,
            _ => None,
        },
        Filter::And(of) | Filter::Or(of) => {
            let first = of.first().and_then(only_about);
            first.filter(|_| of.iter().all(|filter| only_about(filter) == first))
        }
        Filter::Not(_) => None,
    }
}

fn child_satisfies(child: &Child, filter: &Filter) -> bool {
    match filter {
        Filter::And(of) => of.iter().all(|filter| child_satisfies(child, filter)),
        Filter::Or(of) => of.iter().any(|filter| child_satisfies(child, filter)),
        Filter::Not(filter) => !child_satisfies(child, filter),
        Filter::Is(condition) => match &condition.attribute {
            AttributeRef::Attribute { key, .. } => {
                of_child(child, key).is_some_and(|value| holds(&value, &condition.test))
            }
            AttributeRef::Intrinsic(_) => false,
        },
    }
}

/// As strict as the contract of [`Test`] allows a source to be.
fn holds(value: &Value, test: &Test) -> bool {
    if let Value::Array(values) = value {
        let mut each = values.iter().map(|value| holds(value, test));
        return match test {
            Test::NotEqual(_) | Test::NotMatches(_) => each.all(|holds| holds),
            _ => each.any(|holds| holds),
        };
    }
    let order = |wanted: &Value| match (value, wanted) {
        (Value::Str(a), Value::Str(b)) => a.as_bytes().partial_cmp(b.as_bytes()),
        (Value::Bool(a), Value::Bool(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Int(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        _ => None,
    };
    let is = |wanted: &Value, holds: fn(Ordering) -> bool| order(wanted).is_some_and(holds);
    match test {
        Test::Equal(of) => of.iter().any(|wanted| is(wanted, Ordering::is_eq)),
        Test::NotEqual(of) => of.iter().all(|wanted| is(wanted, Ordering::is_ne)),
        Test::Less(wanted) => is(wanted, Ordering::is_lt),
        Test::LessEqual(wanted) => is(wanted, Ordering::is_le),
        Test::Greater(wanted) => is(wanted, Ordering::is_gt),
        Test::GreaterEqual(wanted) => is(wanted, Ordering::is_ge),
        Test::Matches(regex) => matches!(value, Value::Str(text) if regex.is_match(text)),
        Test::NotMatches(regex) => matches!(value, Value::Str(text) if !regex.is_match(text)),
        Test::Exists => true,
        Test::Missing => false,
    }
}

/// What [`Memory`] does with the conditions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conditions {
    /// Every trace comes.
    Ignored,
    /// Traces without a span that satisfies them stay away.
    Applied,
}

/// The spans, traces in any order, spans of a trace by start.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) spans: Vec<Span>,
    pub(super) conditions: Conditions,
    /// The most traces of a batch.
    pub(super) batch: usize,
}

impl Memory {
    fn wants(&self, trace: &[&Span], rows: &Rows, filter: &TraceFilter) -> bool {
        let meets = |span: &&Span| {
            let end = span.start() + span.nanoseconds() as i64;
            span.start() < rows.range.end && end >= rows.range.start
        };
        trace.iter().any(meets) && self.has(trace, filter)
    }

    fn has(&self, trace: &[&Span], filter: &TraceFilter) -> bool {
        let mut spans = trace.iter();
        match filter {
            _ if self.conditions == Conditions::Ignored => true,
            TraceFilter::All => true,
            TraceFilter::Has(filter) => spans.any(|span| span.satisfies(filter, &self.spans)),
            TraceFilter::Count {
                filter,
                least,
                most,
            } => {
                let found = spans.filter(|span| span.satisfies(filter, &self.spans));
                ((*least).max(1)..=*most).contains(&(found.count() as u64))
            }
            TraceFilter::Related {
                relation,
                above,
                below,
            } => {
                let above = |span: &&&Span| span.satisfies(above, &self.spans);
                let below = |span: &&&Span| span.satisfies(below, &self.spans);
                let parent = |span: &Span| {
                    trace
                        .iter()
                        .find(|s| span.parent != 0 && s.id == span.parent)
                        .copied()
                };
                spans.clone().filter(below).any(|b| match relation {
                    Relation::Child => parent(b).is_some_and(|a| above(&&a)),
                    Relation::Descendant => {
                        let mut over = std::iter::successors(parent(b), |span| parent(span));
                        over.any(|a| above(&&a))
                    }
                    Relation::Sibling => {
                        let same = |a: &&Span| a.parent == b.parent && a.id != b.id;
                        b.parent != 0 && trace.iter().filter(above).any(same)
                    }
                })
            }
            TraceFilter::And(of) => of.iter().all(|filter| self.has(trace, filter)),
            TraceFilter::Or(of) => of.iter().any(|filter| self.has(trace, filter)),
        }
    }
}

impl Source for Memory {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let Request::Rows(rows) = request else {
            panic!("searches ask for rows");
        };
        let mut ids: Vec<u8> = self.spans.iter().map(|span| span.trace).collect();
        ids.sort_unstable();
        ids.dedup();
        let traces: Vec<Vec<&Span>> = ids
            .iter()
            .rev()
            .map(|id| self.spans.iter().filter(|span| span.trace == *id).collect())
            .filter(|spans: &Vec<&Span>| self.wants(spans, rows, &rows.filter))
            .collect();
        let batches: Vec<_> = traces
            .chunks(self.batch)
            .map(|traces| Ok(Batch::Spans(batch(traces))))
            .collect();
        Ok(Box::new(batches.into_iter()))
    }

    fn attribute_names(&self, _: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
        panic!("searches ask for spans");
    }

    fn attribute_values(&self, _: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
        panic!("searches ask for spans");
    }
}

fn batch(traces: &[Vec<&Span>]) -> SpanBatch {
    let mut batch = SpanBatch::default();
    for spans in traces {
        let first = batch.starts.len();
        for span in spans {
            let parent = spans
                .iter()
                .position(|s| span.parent != 0 && s.id == span.parent);
            batch.span_ids.push([span.id; 8]);
            batch.parent_ids.push([span.parent; 8]);
            batch
                .parents
                .push(parent.map_or(NO_ROW, |at| (first + at) as u32));
            batch.starts.push(span.start());
            batch.durations.push(span.nanoseconds());
            batch.kinds.push(span.kind);
            batch.statuses.push(span.status);
            batch.nested_left.push(0);
            batch.nested_right.push(0);
            batch
                .nested_parent
                .push(if span.parent == 0 { -1 } else { 0 });
        }
        let mut next = 1;
        for top in first..batch.starts.len() {
            if batch.parents[top] == NO_ROW {
                number(&mut batch, top, &mut next);
            }
        }
        let root = spans.iter().find(|span| span.parent == 0);
        let service = root.and_then(|root| root.attribute(Some(Scope::Resource), "service.name"));
        let ends = spans
            .iter()
            .map(|span| span.start() + span.nanoseconds() as i64);
        batch.traces.push(TraceRows {
            id: [spans[0].trace; 16],
            rows: first as u32..batch.starts.len() as u32,
            start: spans.iter().map(|span| span.start()).min().unwrap(),
            end: ends.max().unwrap(),
            root_service: service.map(|service| match service {
                Value::Str(service) => service,
                other => panic!("the name of a service is {other:?}"),
            }),
            root_name: root.map(|root| Arc::from(root.name)),
        });
    }
    let spans: Vec<&Span> = traces.iter().flatten().copied().collect();
    let text = |text: &str| Some(Value::Str(text.into()));
    batch.names = column(spans.iter().map(|span| text(span.name)));
    batch.status_messages = column(spans.iter().map(|span| text(span.message)));
    let mut keys: Vec<(Scope, &str)> = spans
        .iter()
        .flat_map(|span| span.attributes.iter().map(|(scope, key, _)| (*scope, *key)))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let attribute = |(scope, key): (Scope, &str)| AttributeColumn {
        scope,
        key: key.into(),
        column: column(spans.iter().map(|span| span.attribute(Some(scope), key))),
    };
    batch.attributes = keys.into_iter().map(attribute).collect();
    for scope in [Scope::Event, Scope::Link] {
        let rows = (0u32..).zip(&spans);
        let children: Vec<(u32, &Child)> = rows
            .flat_map(|(row, span)| span.children(scope).iter().map(move |child| (row, child)))
            .collect();
        let mut keys: Vec<&str> = children
            .iter()
            .flat_map(|(_, c)| c.iter().map(|a| a.0))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        batch
            .attributes
            .extend(keys.into_iter().map(|key| AttributeColumn {
                scope,
                key: key.into(),
                column: column(children.iter().map(|(_, child)| of_child(child, key))),
            }));
        let owners = children.into_iter().map(|(row, _)| row).collect();
        match scope {
            Scope::Event => batch.events = owners,
            _ => batch.links = owners,
        }
    }
    batch
}

/// Nested-set numbers of a span and what is below it.
fn number(batch: &mut SpanBatch, row: usize, next: &mut i32) {
    batch.nested_left[row] = *next;
    *next += 1;
    for child in 0..batch.parents.len() {
        if batch.parents[child] as usize == row {
            batch.nested_parent[child] = batch.nested_left[row];
            number(batch, child, next);
        }
    }
    batch.nested_right[row] = *next;
    *next += 1;
}

fn column(values: impl Iterator<Item = Option<Value>>) -> Column {
    let mut column = Column::default();
    for value in values {
        let Some(value) = value else {
            column.codes.push(ABSENT);
            continue;
        };
        let known = column.dictionary.iter().position(|held| *held == value);
        column
            .codes
            .push(known.unwrap_or(column.dictionary.len()) as u32);
        if known.is_none() {
            column.dictionary.push(value);
        }
    }
    column
}
