//! Expressions over the fields of spans, evaluated over the columns of a batch: once for each
//! distinct value of a dictionary where only one column is involved, row by row otherwise.
//!
//! Evaluation cannot fail: what has no meaning for the values of a span has no value for it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use trine_storage::regex::{Dot, LabelRegex};

use super::ast::{Attribute, FieldExpr, Intrinsic, Op, Static};
use super::lower;
use super::source::{ABSENT, AttributeRef, Column, NO_ROW, Scope, SpanBatch};
use super::value::{Field, arithmetic, holds};

/// The values of an expression for all rows of a batch.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// One value for all rows.
    Same(Field),
    /// A code for each row into distinct values; [`ABSENT`] for none.
    Coded(Cow<'a, [u32]>, Vec<Field>),
    /// A value for each row.
    Rows(Vec<Field>),
}

impl Values<'_> {
    /// The value of a row.
    pub(super) fn get(&self, row: usize) -> Field {
        match self {
            Self::Same(value) => value.clone(),
            Self::Coded(codes, values) => {
                let code = codes.get(row).copied().unwrap_or(ABSENT);
                values.get(code as usize).cloned().unwrap_or(Field::Nil)
            }
            Self::Rows(values) => values.get(row).cloned().unwrap_or(Field::Nil),
        }
    }

    /// The rows whose value is `true`.
    pub(super) fn truths(&self, rows: usize) -> Vec<bool> {
        let is_true = |value: &Field| *value == Field::Bool(true);
        match self {
            Self::Same(value) => vec![is_true(value); rows],
            Self::Coded(codes, values) => {
                let truths: Vec<bool> = values.iter().map(is_true).collect();
                let truth = |code: &u32| truths.get(*code as usize).copied().unwrap_or(false);
                codes.iter().map(truth).collect()
            }
            Self::Rows(values) => values.iter().map(is_true).collect(),
        }
    }
}

/// Evaluates an expression for all rows of `batch`.
pub(super) fn evaluate<'a>(
    expr: &FieldExpr,
    batch: &'a SpanBatch,
    patterns: &Patterns,
) -> Values<'a> {
    match expr {
        FieldExpr::Static(value, _) => Values::Same(value.into()),
        FieldExpr::Attribute(attribute, _) => attribute_values(attribute, batch),
        FieldExpr::Not(inner, _) => map(evaluate(inner, batch, patterns), |value| match value {
            // What is missing is not true.
            Field::Bool(true) => Field::Bool(false),
            Field::Bool(false) | Field::Nil => Field::Bool(true),
            _ => Field::Nil,
        }),
        FieldExpr::Negate(inner, _) => map(evaluate(inner, batch, patterns), |value| match value {
            Field::Int(number) => Field::Int(number.wrapping_neg()),
            Field::Float(number) => Field::Float(-number),
            Field::Duration(number) => Field::Duration(number.wrapping_neg()),
            _ => Field::Nil,
        }),
        FieldExpr::Binary { op, lhs, rhs, .. } => binary(*op, lhs, rhs, batch, patterns),
    }
}

/// The compiled patterns of a query, by their text.
#[derive(Debug, Default)]
pub(super) struct Patterns(HashMap<Arc<str>, LabelRegex>);

impl Patterns {
    /// Compiles every pattern of an expression.
    pub(super) fn add(&mut self, expr: &FieldExpr) -> Result<(), trine_storage::Error> {
        match expr {
            FieldExpr::Static(..) | FieldExpr::Attribute(..) => {}
            FieldExpr::Not(inner, _) | FieldExpr::Negate(inner, _) => self.add(inner)?,
            FieldExpr::Binary { op, lhs, rhs, .. } => {
                if let (Op::Match | Op::NotMatch, FieldExpr::Static(Static::Str(pattern), _)) =
                    (op, &**rhs)
                {
                    let compiled = LabelRegex::with_dot(pattern, Dot::NotNewline)?;
                    self.0.insert(Arc::clone(pattern), compiled);
                }
                self.add(lhs)?;
                self.add(rhs)?;
            }
        }
        Ok(())
    }

    fn get(&self, op: Op, rhs: &FieldExpr) -> Option<&LabelRegex> {
        match (op, rhs) {
            (Op::Match | Op::NotMatch, FieldExpr::Static(Static::Str(pattern), _)) => {
                self.0.get(pattern)
            }
            _ => None,
        }
    }
}

/// Applies `apply` once for each distinct value. Rows without a value are given to it as none.
fn map<'a>(values: Values<'a>, apply: impl Fn(&Field) -> Field) -> Values<'a> {
    match values {
        Values::Same(value) => Values::Same(apply(&value)),
        Values::Rows(values) => Values::Rows(values.iter().map(apply).collect()),
        Values::Coded(codes, values) => {
            let mut applied: Vec<Field> = values.iter().map(&apply).collect();
            match apply(&Field::Nil) {
                Field::Nil => Values::Coded(codes, applied),
                // None has become something: it needs a code.
                none => {
                    let code = applied.len() as u32;
                    applied.push(none);
                    let replaced = codes
                        .iter()
                        .map(|&c| if c == ABSENT { code } else { c })
                        .collect();
                    Values::Coded(Cow::Owned(replaced), applied)
                }
            }
        }
    }
}

fn binary<'a>(
    op: Op,
    lhs: &FieldExpr,
    rhs: &FieldExpr,
    batch: &'a SpanBatch,
    patterns: &Patterns,
) -> Values<'a> {
    // `nil` on one side asks whether the other side is there.
    let nil = |expr: &FieldExpr| matches!(expr, FieldExpr::Static(Static::Nil, _));
    if op.is_comparison() && (nil(lhs) || nil(rhs)) {
        if nil(lhs) && nil(rhs) {
            return Values::Same(Field::Bool(false));
        }
        let other = evaluate(if nil(lhs) { rhs } else { lhs }, batch, patterns);
        let wanted = op == Op::Equal;
        return map(other, |value| Field::Bool((*value == Field::Nil) == wanted));
    }
    let (left, right) = (
        side(lhs, rhs, batch, patterns),
        side(rhs, lhs, batch, patterns),
    );
    let pattern = patterns.get(op, rhs);
    let apply = |a: &Field, b: &Field| {
        let truth = |value: &Field| *value == Field::Bool(true);
        match op {
            Op::And => Field::Bool(truth(a) && truth(b)),
            Op::Or => Field::Bool(truth(a) || truth(b)),
            _ if op.is_arithmetic() => arithmetic(op, a, b),
            _ => Field::Bool(holds(op, a, b, pattern)),
        }
    };
    match (left, right) {
        (left, Values::Same(b)) => map(left, |a| apply(a, &b)),
        (Values::Same(a), right) => map(right, |b| apply(&a, b)),
        (left, right) => {
            let rows = 0..batch.starts.len();
            Values::Rows(
                rows.map(|row| apply(&left.get(row), &right.get(row)))
                    .collect(),
            )
        }
    }
}

/// One side of an operator. A literal that is compared to a trace id may lack leading zeros.
fn side<'a>(
    expr: &FieldExpr,
    other: &FieldExpr,
    batch: &'a SpanBatch,
    patterns: &Patterns,
) -> Values<'a> {
    let trace_id = Attribute::Intrinsic(Intrinsic::TraceId);
    match (expr, other) {
        (FieldExpr::Static(Static::Str(text), _), FieldExpr::Attribute(attribute, _))
            if *attribute == trace_id && text.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            Values::Same(Field::Str(
                format!("{:0>32}", text.to_ascii_lowercase()).into(),
            ))
        }
        _ => evaluate(expr, batch, patterns),
    }
}

/// The values of an attribute.
pub(super) fn attribute_values<'a>(attribute: &Attribute, batch: &'a SpanBatch) -> Values<'a> {
    match attribute {
        Attribute::Intrinsic(intrinsic) => intrinsic_values(*intrinsic, attribute, batch),
        Attribute::Named {
            scope: Some(scope),
            key,
            ..
        } => named(*scope, key, batch),
        Attribute::Named {
            scope: None, key, ..
        } => {
            let (span, resource) = (
                column(Scope::Span, key, batch),
                column(Scope::Resource, key, batch),
            );
            match (span, resource) {
                (None, None) => Values::Same(Field::Nil),
                (Some(one), None) | (None, Some(one)) => coded(one),
                (Some(span), Some(resource)) => either(span, resource),
            }
        }
    }
}

fn column<'a>(scope: Scope, key: &str, batch: &'a SpanBatch) -> Option<&'a Column> {
    let found = batch
        .attributes
        .iter()
        .find(|held| held.scope == scope && &*held.key == key);
    found.map(|held| &held.column)
}

fn coded(column: &Column) -> Values<'_> {
    Values::Coded(
        Cow::Borrowed(&column.codes),
        column.dictionary.iter().map(Field::from).collect(),
    )
}

fn named<'a>(scope: Scope, key: &str, batch: &'a SpanBatch) -> Values<'a> {
    column(scope, key, batch).map_or(Values::Same(Field::Nil), coded)
}

/// The value of the span or, where it has none, of the resource.
fn either<'a>(span: &'a Column, resource: &'a Column) -> Values<'a> {
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

fn intrinsic_values<'a>(
    intrinsic: Intrinsic,
    attribute: &Attribute,
    batch: &'a SpanBatch,
) -> Values<'a> {
    let small = |numbers: &[u8], make: fn(u8) -> Field| {
        let codes = numbers.iter().map(|&n| u32::from(n)).collect();
        Values::Coded(Cow::Owned(codes), (0..=u8::MAX).map(make).collect())
    };
    let numbers =
        |numbers: &[i32]| Values::Rows(numbers.iter().map(|&n| Field::Int(n.into())).collect());
    match intrinsic {
        Intrinsic::Name => coded(&batch.names),
        Intrinsic::StatusMessage => coded(&batch.status_messages),
        Intrinsic::Status => small(&batch.statuses, Field::Status),
        Intrinsic::Kind => small(&batch.kinds, Field::Kind),
        Intrinsic::Duration => {
            let nanoseconds = |&n: &u64| Field::Duration(i64::try_from(n).unwrap_or(i64::MAX));
            Values::Rows(batch.durations.iter().map(nanoseconds).collect())
        }
        Intrinsic::NestedSetLeft => numbers(&batch.nested_left),
        Intrinsic::NestedSetRight => numbers(&batch.nested_right),
        Intrinsic::NestedSetParent => numbers(&batch.nested_parent),
        Intrinsic::ChildCount => child_counts(batch),
        Intrinsic::SpanId => ids(&batch.span_ids),
        Intrinsic::ParentId => ids(&batch.parent_ids),
        Intrinsic::TraceId
        | Intrinsic::TraceDuration
        | Intrinsic::TraceRootName
        | Intrinsic::TraceRootService => of_traces(intrinsic, batch),
        Intrinsic::Parent => Values::Same(Field::Nil),
        Intrinsic::EventName
        | Intrinsic::EventTimeSinceStart
        | Intrinsic::LinkTraceId
        | Intrinsic::LinkSpanId
        | Intrinsic::InstrumentationName
        | Intrinsic::InstrumentationVersion => match lower::column(attribute) {
            Some(AttributeRef::Attribute {
                scope: Some(scope),
                key,
            }) => named(scope, &key, batch),
            _ => Values::Same(Field::Nil),
        },
    }
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
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
