//! The spans of cases as a source. It gives every trace in one batch and skips nothing, so that the
//! engine has to do everything itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use trine_query::traceql::ast::{Attribute, Intrinsic, KINDS, STATUSES};
use trine_query::traceql::source::{
    ABSENT, AttributeColumn, Batch, Batches, Column, NO_ROW, Request, Scope, Source, SpanBatch,
    TraceRows, Value, ValuesRequest, keys,
};
use trine_storage::error::Kind;
use trine_storage::{Error, TimeRange};

use super::spans::{Span, Told, attribute};

/// Traces, each with its spans. The id of a trace is its number, from 1.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) traces: Vec<Vec<Span>>,
}

fn unsupported() -> Error {
    Error::new(Kind::Unsupported, "this source only gives rows")
}

impl Source for Memory {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let Request::Rows(rows) = request else {
            return Err(unsupported());
        };
        let meets = |span: &Span| {
            let end = span.start + duration(span);
            span.start < rows.range.end && end >= rows.range.start
        };
        let within = |trace: &&Vec<Span>| trace.iter().any(meets);
        let traces: Vec<&Vec<Span>> = self.traces.iter().filter(within).collect();
        let batches = [Ok(Batch::Spans(batch(&traces)))];
        Ok(Box::new(batches.into_iter()))
    }

    fn attribute_names(&self, _: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
        Err(unsupported())
    }

    fn attribute_values(&self, _: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
        Err(unsupported())
    }
}

/// The columns of the spans of traces.
pub(super) fn batch(traces: &[&Vec<Span>]) -> SpanBatch {
    let mut batch = SpanBatch::default();
    for (number, spans) in traces.iter().enumerate() {
        let first = batch.starts.len();
        for span in *spans {
            let (left, right, parent) = span.nested.unwrap_or((0, 0, 0));
            let above = spans.iter().position(|other| {
                parent > 0 && other.nested.is_some_and(|(left, _, _)| left == parent)
            });
            batch.span_ids.push(span.id);
            // A parent that is not there has an id all the same.
            let elsewhere = || match parent {
                1.. => u64::MAX - u64::try_from(parent).unwrap(),
                _ => 0,
            };
            let parent_id = above.map_or_else(|| elsewhere().to_be_bytes(), |at| spans[at].id);
            batch.parent_ids.push(parent_id);
            let row = above.map_or(NO_ROW, |at| u32::try_from(first + at).unwrap());
            batch.parents.push(row);
            batch.nested_left.push(left);
            batch.nested_right.push(right);
            batch.nested_parent.push(parent);
            batch.starts.push(span.start);
            batch.durations.push(u64::try_from(duration(span)).unwrap());
            batch.kinds.push(number_of(span, Intrinsic::Kind, &KINDS));
            batch
                .statuses
                .push(number_of(span, Intrinsic::Status, &STATUSES));
        }
        let ends = spans.iter().map(|span| span.start + duration(span));
        let of_trace = |intrinsic| {
            let found = spans.iter().find_map(|span| intrinsic_of(span, intrinsic));
            found.map(|value| match value {
                Told::Str(text) => Arc::from(text.as_str()),
                other => panic!("{other:?} is no name"),
            })
        };
        batch.traces.push(TraceRows {
            id: u128::to_be_bytes(number as u128 + 1),
            rows: u32::try_from(first).unwrap()..u32::try_from(batch.starts.len()).unwrap(),
            start: spans.iter().map(|span| span.start).min().unwrap_or(0),
            end: ends.max().unwrap_or(0),
            root_service: of_trace(Intrinsic::TraceRootService),
            root_name: of_trace(Intrinsic::TraceRootName),
        });
    }
    let spans: Vec<&Span> = traces.iter().flat_map(|spans| spans.iter()).collect();
    let text = |intrinsic| {
        let of_span = |span: &&Span| {
            let value = intrinsic_of(span, intrinsic).and_then(Told::stored);
            Some(value.unwrap_or_else(|| Value::Str("".into())))
        };
        column(spans.iter().map(of_span))
    };
    batch.names = text(Intrinsic::Name);
    batch.status_messages = text(Intrinsic::StatusMessage);
    let names: BTreeSet<&String> = spans
        .iter()
        .flat_map(|span| span.attributes.keys())
        .collect();
    let everyone: Vec<u32> = (0..).zip(&spans).map(|(row, _)| row).collect();
    let with = |wanted: Scope| {
        let has = |row: &u32| {
            let mut names = spans[*row as usize].attributes.keys();
            names.any(|name| stored_as(name).is_some_and(|(scope, _)| scope == wanted))
        };
        everyone.iter().copied().filter(has).collect()
    };
    (batch.events, batch.links) = (with(Scope::Event), with(Scope::Link));
    for name in names {
        let Some((scope, key)) = stored_as(name) else {
            continue;
        };
        // What a span has of events is one event, and so with links.
        let owners = match scope {
            Scope::Event => &batch.events,
            Scope::Link => &batch.links,
            _ => &everyone,
        };
        let values = owners
            .iter()
            .map(|&row| spans[row as usize].attributes.get(name)?.stored());
        let column = column(values);
        batch
            .attributes
            .push(AttributeColumn { scope, key, column });
    }
    batch
}

/// What stands for an intrinsic of a span; the case may write it with its short or its scoped name.
fn intrinsic_of(span: &Span, intrinsic: Intrinsic) -> Option<&Told> {
    let mut found = span.attributes.iter();
    let is = |name: &str| attribute(name) == Attribute::Intrinsic(intrinsic);
    found.find(|(name, _)| is(name)).map(|(_, value)| value)
}

fn duration(span: &Span) -> i64 {
    match intrinsic_of(span, Intrinsic::Duration) {
        Some(Told::Duration(nanoseconds) | Told::Int(nanoseconds)) => *nanoseconds,
        _ => span.duration,
    }
}

fn number_of(span: &Span, intrinsic: Intrinsic, names: &[&str]) -> u8 {
    match intrinsic_of(span, intrinsic) {
        Some(Told::Status(name) | Told::Kind(name)) => {
            let at = names.iter().position(|held| held == name);
            u8::try_from(at.unwrap_or_else(|| panic!("{name} is neither status nor kind"))).unwrap()
        }
        _ => 0,
    }
}

/// The column that holds an attribute; what cases store without a scope is the span's.
fn stored_as(name: &str) -> Option<(Scope, Arc<str>)> {
    match attribute(name) {
        Attribute::Named { scope, key, .. } => Some((scope.unwrap_or(Scope::Span), key)),
        Attribute::Intrinsic(intrinsic) => Some(match intrinsic {
            Intrinsic::EventName => (Scope::Event, keys::EVENT_NAME.into()),
            Intrinsic::EventTimeSinceStart => (Scope::Event, keys::EVENT_TIME_SINCE_START.into()),
            Intrinsic::LinkTraceId => (Scope::Link, keys::LINK_TRACE_ID.into()),
            Intrinsic::LinkSpanId => (Scope::Link, keys::LINK_SPAN_ID.into()),
            Intrinsic::InstrumentationName => {
                (Scope::Instrumentation, keys::INSTRUMENTATION_NAME.into())
            }
            Intrinsic::InstrumentationVersion => {
                (Scope::Instrumentation, keys::INSTRUMENTATION_VERSION.into())
            }
            _ => return None,
        }),
    }
}

fn column(values: impl Iterator<Item = Option<Value>>) -> Column {
    let mut column = Column::default();
    for value in values {
        let Some(value) = value else {
            column.codes.push(ABSENT);
            continue;
        };
        let known = column.dictionary.iter().position(|held| *held == value);
        let at = known.unwrap_or(column.dictionary.len());
        column.codes.push(u32::try_from(at).unwrap());
        if known.is_none() {
            column.dictionary.push(value);
        }
    }
    column
}
