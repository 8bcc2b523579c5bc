//! The columns of a batch as values of attributes and intrinsics. `field` calls it.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Values;
use crate::traceql::ast::{Attribute, Intrinsic};
use crate::traceql::lower;
use crate::traceql::source::{ABSENT, AttributeRef, Column, NO_ROW, Scope, SpanBatch};
use crate::traceql::value::Field;

pub(super) fn column<'a>(scope: Scope, key: &str, batch: &'a SpanBatch) -> Option<&'a Column> {
    let found = batch
        .attributes
        .iter()
        .find(|held| held.scope == scope && &*held.key == key);
    found.map(|held| &held.column)
}

pub(super) fn coded(column: &Column) -> Values<'_> {
    Values::Coded(
        Cow::Borrowed(&column.codes),
        column.dictionary.iter().map(Field::from).collect(),
    )
}

pub(super) fn named<'a>(scope: Scope, key: &str, batch: &'a SpanBatch) -> Values<'a> {
    column(scope, key, batch).map_or(Values::Same(Field::Nil), coded)
}

/// The value of the span or, where it has none, of the resource.
pub(super) fn either<'a>(span: &'a Column, resource: &'a Column) -> Values<'a> {
    let offset = span.dictionary.len() as u32;
    let codes = span
        .codes
        .iter()
        .zip(&resource.codes)
        .map(|(&span, &resource)| match (span, resource) {
            (ABSENT, ABSENT) => ABSENT,
            (ABSENT, resource) => offset + resource,
            (span, _) => span,
        });
    let values = span
        .dictionary
        .iter()
        .chain(&resource.dictionary)
        .map(Field::from)
        .collect();
    Values::Coded(Cow::Owned(codes.collect()), values)
}

pub(super) fn intrinsic_values<'a>(
    intrinsic: Intrinsic,
    attribute: &Attribute,
    batch: &'a SpanBatch,
) -> Values<'a> {
    let small = |numbers: &[u8], make: fn(u8) -> Field| {
        let codes = numbers.iter().map(|&n| u32::from(n)).collect();
        Values::Coded(Cow::Owned(codes), (0..=u8::MAX).map(make).collect())
    };
    match intrinsic {
        Intrinsic::Name => coded(&batch.names),
        Intrinsic::StatusMessage => coded(&batch.status_messages),
        Intrinsic::Status => small(&batch.statuses, Field::Status),
        Intrinsic::Kind => small(&batch.kinds, Field::Kind),
        Intrinsic::Duration => {
            let nanoseconds = |&n: &u64| Field::Duration(i64::try_from(n).unwrap_or(i64::MAX));
            Values::Rows(batch.durations.iter().map(nanoseconds).collect())
        }
        Intrinsic::NestedSetLeft => nested(&batch.nested_left, batch),
        Intrinsic::NestedSetRight => nested(&batch.nested_right, batch),
        Intrinsic::NestedSetParent => nested(&batch.nested_parent, batch),
        Intrinsic::ChildCount => child_counts(batch),
        Intrinsic::SpanId => ids(&batch.span_ids),
        Intrinsic::ParentId => ids(&batch.parent_ids),
        Intrinsic::TraceId
        | Intrinsic::TraceDuration
        | Intrinsic::TraceRootName
        | Intrinsic::TraceRootService => of_traces(intrinsic, batch),
        Intrinsic::InstrumentationName | Intrinsic::InstrumentationVersion => {
            match lower::column(attribute) {
                Some(AttributeRef::Attribute {
                    scope: Some(scope),
                    key,
                }) => named(scope, &key, batch),
                _ => Values::Same(Field::Nil),
            }
        }
        Intrinsic::Parent
        | Intrinsic::EventName
        | Intrinsic::EventTimeSinceStart
        | Intrinsic::LinkTraceId
        | Intrinsic::LinkSpanId => Values::Same(Field::Nil),
    }
}

/// Nested-set numbers as queries see them: where a trace has a root, what is not below a root has
/// none. (Relations between such spans are answered all the same.)
fn nested(numbers: &[i32], batch: &SpanBatch) -> Values<'static> {
    let mut values: Vec<Field> = numbers.iter().map(|&n| Field::Int(n.into())).collect();
    for trace in &batch.traces {
        let rows = trace.rows.start as usize..trace.rows.end as usize;
        let of_trace = batch.nested_parent.get(rows.clone()).unwrap_or_default();
        if !of_trace.contains(&-1) || !of_trace.contains(&0) {
            continue;
        }
        // Spans lie below their parents.
        let mut is_apart = vec![false; of_trace.len()];
        for (at, row) in rows.clone().enumerate() {
            let parent = batch.parents.get(row).copied().unwrap_or(NO_ROW);
            is_apart[at] = match (parent as usize).checked_sub(rows.start) {
                Some(parent) if parent < at => is_apart[parent],
                _ => of_trace[at] != -1,
            };
            if is_apart[at] {
                values[row] = Field::Int(0);
            }
        }
    }
    Values::Rows(values)
}

fn child_counts(batch: &SpanBatch) -> Values<'static> {
    let mut counts = vec![0i64; batch.starts.len()];
    for &parent in batch.parents.iter().filter(|&&parent| parent != NO_ROW) {
        if let Some(count) = counts.get_mut(parent as usize) {
            *count += 1;
        }
    }
    Values::Rows(counts.into_iter().map(Field::Int).collect())
}

fn ids(ids: &[[u8; 8]]) -> Values<'static> {
    let text = |id: &[u8; 8]| {
        if *id == [0; 8] {
            Field::Str("".into())
        } else {
            Field::Str(hex(id).into())
        }
    };
    Values::Rows(ids.iter().map(text).collect())
}

/// One value for all spans of a trace.
fn of_traces(intrinsic: Intrinsic, batch: &SpanBatch) -> Values<'static> {
    let mut codes = vec![ABSENT; batch.starts.len()];
    let mut values = Vec::with_capacity(batch.traces.len());
    for trace in &batch.traces {
        let value = match intrinsic {
            Intrinsic::TraceId => Field::Str(hex(&trace.id).into()),
            Intrinsic::TraceDuration => Field::Duration(trace.end.saturating_sub(trace.start)),
            Intrinsic::TraceRootName => Field::Str(trace.root_name.clone().unwrap_or_default()),
            _ => Field::Str(trace.root_service.clone().unwrap_or_default()),
        };
        let rows = trace.rows.start as usize..trace.rows.end as usize;
        codes
            .get_mut(rows)
            .into_iter()
            .flatten()
            .for_each(|code| *code = values.len() as u32);
        values.push(value);
    }
    Values::Coded(Cow::Owned(codes), values)
}

/// Lower-case hexadecimal digits.
pub(in crate::traceql) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
