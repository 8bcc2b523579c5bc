//! Filters of a store that hold for exactly the spans that a pipeline gives, where there is one: then
//! the store can count them, and no span needs to be looked at. Where there is none, `lower` says at
//! least what may be skipped.

use trine_storage::regex::{Dot, LabelRegex};

use super::ast::{
    Attribute, FieldExpr, Intrinsic, Op, Pipeline, SpansetExpr, SpansetOp, Stage, Static,
};
use super::lower::{flip, reference};
use super::source::{self, AttributeRef, Condition, Filter, Scope, Test, Value};
use super::value::{Field, holds};

/// The spans that a pipeline gives.
pub(super) fn pipeline(pipeline: &Pipeline) -> Option<Filter> {
    let mut filters = Vec::new();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => filters.push(spanset(expr)?),
            // These neither drop spans nor add any.
            Stage::By(_) | Stage::Coalesce | Stage::Select(_) => {}
            Stage::Filter { .. } => return None,
        }
    }
    Some(all(filters))
}

/// The spans that an expression over sets of spans gives.
pub(super) fn spanset(expr: &SpansetExpr) -> Option<Filter> {
    match expr {
        SpansetExpr::Filter(None, _) => Some(everything()),
        SpansetExpr::Filter(Some(expr), _) => field(expr),
        SpansetExpr::Pipeline(inner) => pipeline(inner),
        SpansetExpr::Binary {
            op: SpansetOp::Or,
            lhs,
            rhs,
            ..
        } => Some(Filter::Or(vec![spanset(lhs)?, spanset(rhs)?])),
        // The others ask about whole traces.
        SpansetExpr::Binary { .. } => None,
    }
}

fn everything() -> Filter {
    Filter::And(Vec::new())
}

fn nothing() -> Filter {
    Filter::Or(Vec::new())
}

fn truth(holds: bool) -> Filter {
    if holds { everything() } else { nothing() }
}

fn all(mut filters: Vec<Filter>) -> Filter {
    match filters.len() {
        1 => filters.remove(0),
        _ => Filter::And(filters),
    }
}

/// The spans for which an expression is true.
fn field(expr: &FieldExpr) -> Option<Filter> {
    match expr {
        FieldExpr::Static(Static::Bool(held), _) => Some(truth(*held)),
        FieldExpr::Attribute(attribute, _) => {
            is(attribute, Test::Equal(vec![Value::Bool(true)]), Kind::Bool)
        }
        // What is not true of a span may be missing or of another type, which no test says.
        FieldExpr::Static(..) | FieldExpr::Not(..) | FieldExpr::Negate(..) => None,
        FieldExpr::Binary { op, lhs, rhs, .. } => match op {
            Op::Or => Some(Filter::Or(vec![field(lhs)?, field(rhs)?])),
            Op::And => Some(Filter::And(vec![field(lhs)?, field(rhs)?])),
            op if op.is_comparison() => match (&**lhs, &**rhs) {
                (FieldExpr::Attribute(attribute, _), FieldExpr::Static(value, _)) => {
                    comparison(attribute, *op, value)
                }
                (FieldExpr::Static(value, _), FieldExpr::Attribute(attribute, _)) => {
                    comparison(attribute, flip(*op), value)
                }
                (FieldExpr::Static(a, _), FieldExpr::Static(b, _)) => match (a, b) {
                    _ if matches!(op, Op::Match | Op::NotMatch) => None,
                    (Static::Nil, _) | (_, Static::Nil) => None,
                    (a, b) => Some(truth(holds(*op, &Field::from(a), &Field::from(b), None))),
                },
                _ => None,
            },
            _ => None,
        },
    }
}

/// What kind of value a test is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Any, as when it is only there or not.
    Any,
    Bool,
    Number,
    Str,
    Status,
    OfSpan,
}

/// A condition, unless the store and the language mean different things by it.
fn is(attribute: &Attribute, test: Test, kind: Kind) -> Option<Filter> {
    let fits = match attribute {
        // The engine looks at all events of a span at a time.
        Attribute::Named {
            scope: Some(Scope::Event | Scope::Link),
            ..
        }
        | Attribute::Intrinsic(
            Intrinsic::EventName
            | Intrinsic::EventTimeSinceStart
            | Intrinsic::LinkTraceId
            | Intrinsic::LinkSpanId,
        ) => false,
        // The store has numbers for these.
        Attribute::Intrinsic(Intrinsic::Status) => kind == Kind::Status,
        Attribute::Intrinsic(Intrinsic::Kind) => kind == Kind::OfSpan,
        _ => !matches!(kind, Kind::Status | Kind::OfSpan),
    };
    let attribute = reference(attribute).filter(|_| fits)?;
    Some(Filter::Is(Condition { attribute, test }))
}

fn comparison(attribute: &Attribute, op: Op, value: &Static) -> Option<Filter> {
    if *attribute == Attribute::Intrinsic(Intrinsic::NestedSetParent) {
        return root(op, value);
    }
    let value = match value {
        Static::Nil => {
            let is_named = matches!(reference(attribute)?, AttributeRef::Attribute { .. });
            return match op {
                Op::NotEqual if is_named => is(attribute, Test::Exists, Kind::Any),
                Op::Equal if is_named => is(attribute, Test::Missing, Kind::Any),
                // Intrinsics always are.
                Op::NotEqual => Some(everything()),
                Op::Equal => Some(nothing()),
                _ => None,
            };
        }
        Static::Str(pattern) if matches!(op, Op::Match | Op::NotMatch) => {
            let regex = LabelRegex::with_dot(pattern, Dot::NotNewline).ok()?;
            let test = match op {
                Op::Match => Test::Matches(regex),
                _ => Test::NotMatches(regex),
            };
            return is(attribute, test, Kind::Str);
        }
        Static::Str(text)
            if *attribute == Attribute::Intrinsic(Intrinsic::TraceId)
                && text.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            // Literals may lack leading zeros.
            (
                Value::Str(format!("{:0>32}", text.to_ascii_lowercase()).into()),
                Kind::Str,
            )
        }
        Static::Str(text) => (Value::Str(text.clone()), Kind::Str),
        Static::Bool(held) => (Value::Bool(*held), Kind::Bool),
        Static::Int(number) | Static::Duration(number) => (Value::Int(*number), Kind::Number),
        Static::Float(number) => (Value::Float(*number), Kind::Number),
        Static::Status(number) => (Value::Int((*number).into()), Kind::Status),
        Static::Kind(number) => (Value::Int((*number).into()), Kind::OfSpan),
    };
    let (value, kind) = value;
    let test = match op {
        Op::Equal => Test::Equal(vec![value]),
        Op::NotEqual => Test::NotEqual(vec![value]),
        Op::Less => Test::Less(value),
        Op::LessEqual => Test::LessEqual(value),
        Op::Greater => Test::Greater(value),
        Op::GreaterEqual => Test::GreaterEqual(value),
        _ => return None,
    };
    is(attribute, test, kind)
}

/// Comparisons with `nestedSetParent` that all roots satisfy and nothing else, or all others: it is
/// -1 for these, 0 where the parent is not stored, and above 0 elsewhere.
fn root(op: Op, value: &Static) -> Option<Filter> {
    let Static::Int(number) = value else {
        return None;
    };
    let is_root = match (op, number) {
        (Op::Less, 0) | (Op::LessEqual | Op::Equal, -1) => true,
        (Op::Greater | Op::NotEqual, -1) | (Op::GreaterEqual, 0) => false,
        _ => return None,
    };
    Some(Filter::Is(Condition {
        attribute: AttributeRef::Intrinsic(source::Intrinsic::IsRoot),
        test: Test::Equal(vec![Value::Bool(is_root)]),
    }))
}
