//! A source that holds simple spans in a vector, for tests.

use std::sync::Arc;

use trine_storage::{Error, TimeRange};

use crate::traceql::source::{
    ABSENT, AttributeColumn, AttributeRef, Batches, Column, CompareOp, Condition, Intrinsic,
    NO_ROW, Request, Scope, Source, SpanBatch, TraceRows, Value,
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
    pub(super) attributes: Vec<(Scope, &'static str, Value)>,
}

impl Span {
    pub(super) fn start(&self) -> i64 {
        (i64::from(self.trace) * 100 + i64::from(self.id)) * SECOND
    }

    pub(super) fn nanoseconds(&self) -> u64 {
        self.millis * 1_000_000
    }

    /// The value of an attribute; several values of one key (events) as an array.
    pub(super) fn attribute(&self, scope: Option<Scope>, key: &str) -> Option<Value> {
        let Some(scope) = scope else {
            let of_span = self.attribute(Some(Scope::Span), key);
            return of_span.or_else(|| self.attribute(Some(Scope::Resource), key));
        };
        let mut values: Vec<Value> = self
            .attributes
            .iter()
            .filter(|(s, k, _)| *s == scope && *k == key)
            .map(|(_, _, value)| value.clone())
            .collect();
        match values.len() {
            0 | 1 => values.pop(),
            _ => Some(Value::Array(values)),
        }
    }

    fn satisfies(&self, condition: &Condition) -> bool {
        let value = match &condition.attribute {
            AttributeRef::Attribute { scope, key } => self.attribute(*scope, key),
            AttributeRef::Intrinsic(intrinsic) => Some(match intrinsic {
                Intrinsic::Duration => Value::Int(self.nanoseconds() as i64),
                Intrinsic::Name => Value::Str(self.name.into()),
                Intrinsic::Status => Value::Int(self.status.into()),
                Intrinsic::StatusMessage => Value::Str(self.message.into()),
                Intrinsic::Kind => Value::Int(self.kind.into()),
            }),
        };
        value.is_some_and(|value| {
            condition.op == CompareOp::Exists
                || condition.values.is_empty()
                || condition
                    .values
                    .iter()
                    .any(|wanted| compares(&value, condition.op, wanted))
        })
    }
}

/// As strict as the contract of [`Condition`] allows a source to be.
fn compares(value: &Value, op: CompareOp, wanted: &Value) -> bool {
    if let Value::Array(values) = value {
        let mut each = values.iter().map(|value| compares(value, op, wanted));
        return match op {
            CompareOp::NotEqual => each.all(|holds| holds),
            _ => each.any(|holds| holds),
        };
    }
    let order = match (value, wanted) {
        (Value::Str(a), Value::Str(b)) => a.as_bytes().partial_cmp(b.as_bytes()),
        (Value::Bool(a), Value::Bool(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Int(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        _ => None,
    };
    order.is_some_and(|order| match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Less => order.is_lt(),
        CompareOp::LessEqual => order.is_le(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::GreaterEqual => order.is_ge(),
        CompareOp::Exists => true,
    })
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

impl Source for Memory {
    fn spans(&self, request: &Request) -> Result<Batches, Error> {
        let Request::Rows(rows) = request else {
            panic!("searches ask for rows");
        };
        let mut ids: Vec<u8> = self.spans.iter().map(|span| span.trace).collect();
        ids.sort_unstable();
        ids.dedup();
        let wanted = |span: &Span| {
            let mut each = rows.conditions.iter().map(|c| span.satisfies(c));
            let satisfied = match (rows.conditions.is_empty(), rows.all) {
                (true, _) => true,
                (false, true) => each.all(|holds| holds),
                (false, false) => each.any(|holds| holds),
            };
            rows.range.contains(span.start())
                && (satisfied || self.conditions == Conditions::Ignored)
        };
        let traces: Vec<Vec<&Span>> = ids
            .iter()
            .rev()
            .map(|id| self.spans.iter().filter(|span| span.trace == *id).collect())
            .filter(|spans: &Vec<&Span>| spans.iter().any(|span| wanted(span)))
            .collect();
        let batches: Vec<_> = traces
            .chunks(self.batch)
            .map(|traces| Ok(batch(traces)))
            .collect();
        Ok(Box::new(batches.into_iter()))
    }

    fn attribute_names(&self, _: TimeRange) -> Result<Vec<(Scope, String)>, Error> {
        panic!("searches ask for spans");
    }

    fn attribute_values(
        &self,
        _: Option<Scope>,
        _: &str,
        _: TimeRange,
        _: usize,
    ) -> Result<Vec<Value>, Error> {
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
