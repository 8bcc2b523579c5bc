//! What a store may use to skip traces: a filter that every trace of the answer satisfies.
//!
//! Sound, never complete: what is not certain is left out, and the engine applies the whole query to
//! what comes back. A missing attribute makes every comparison false, so each of them also says that
//! the attribute is there.

use trine_storage::regex::{Dot, LabelRegex};

use super::ast::{
    Attribute, FieldExpr, Form, Intrinsic, Op, Pipeline, SpansetExpr, SpansetOp, Stage, Static,
};
use super::source::{self, AttributeRef, Condition, Filter, Scope, Test, TraceFilter, Value};

/// What a trace of the answer has.
pub fn filter(pipeline: &Pipeline) -> TraceFilter {
    let stages = pipeline.stages.iter().filter_map(|stage| match stage {
        Stage::Spans(expr) => Some(spanset(expr)),
        _ => None,
    });
    all(stages.collect())
}

fn all(mut filters: Vec<TraceFilter>) -> TraceFilter {
    filters.retain(|filter| !matches!(filter, TraceFilter::All));
    match filters.len() {
        0 => TraceFilter::All,
        1 => filters.remove(0),
        _ => TraceFilter::And(filters),
    }
}

fn spanset(expr: &SpansetExpr) -> TraceFilter {
    match expr {
        SpansetExpr::Filter(expr, _) => match expr.as_ref().and_then(field) {
            Some(filter) => TraceFilter::Has(filter),
            None => TraceFilter::All,
        },
        SpansetExpr::Pipeline(inner) => filter(inner),
        SpansetExpr::Binary { op, lhs, rhs, .. } => match op {
            SpansetOp::Or => match (spanset(lhs), spanset(rhs)) {
                (TraceFilter::All, _) | (_, TraceFilter::All) => TraceFilter::All,
                (a, b) => TraceFilter::Or(vec![a, b]),
            },
            // Without a left span no right one is related to it, which is what this form asks for.
            SpansetOp::Structural(_, Form::Not) => spanset(rhs),
            SpansetOp::And | SpansetOp::Structural(..) => all(vec![spanset(lhs), spanset(rhs)]),
        },
    }
}

/// What a span satisfies for which the expression is true; none when nothing is certain.
fn field(expr: &FieldExpr) -> Option<Filter> {
    match expr {
        FieldExpr::Static(Static::Bool(false), _) => Some(Filter::Or(Vec::new())),
        FieldExpr::Attribute(attribute, _) => {
            let test = Test::Equal(vec![Value::Bool(true)]);
            Some(is(reference(attribute)?, test))
        }
        FieldExpr::Static(..) | FieldExpr::Not(..) | FieldExpr::Negate(..) => None,
        FieldExpr::Binary { op, lhs, rhs, .. } => match op {
            Op::Or => Some(Filter::Or(vec![field(lhs)?, field(rhs)?])),
            Op::And => both(field(lhs), field(rhs)),
            op if op.is_comparison() => match (&**lhs, &**rhs) {
                (FieldExpr::Attribute(attribute, _), FieldExpr::Static(value, _)) => {
                    comparison(attribute, *op, value)
                }
                (FieldExpr::Static(value, _), FieldExpr::Attribute(attribute, _)) => {
                    comparison(attribute, flip(*op), value)
                }
                // What is compared must be there.
                (lhs, rhs) if !is_nil(lhs) && !is_nil(rhs) => both(needed(lhs), needed(rhs)),
                _ => None,
            },
            _ => None,
        },
    }
}

fn is_nil(expr: &FieldExpr) -> bool {
    matches!(expr, FieldExpr::Static(Static::Nil, _))
}

fn both(a: Option<Filter>, b: Option<Filter>) -> Option<Filter> {
    match (a, b) {
        (Some(Filter::And(mut a)), Some(b)) if !a.is_empty() && !is_of_children(&a) => {
            a.push(b);
            Some(Filter::And(a))
        }
        (Some(a), Some(b)) => Some(Filter::And(vec![a, b])),
        (a, b) => a.or(b),
    }
}

/// Whether a conjunction holds a condition about events or links, which must stay alone.
fn is_of_children(filters: &[Filter]) -> bool {
    let of_child = |filter: &Filter| match filter {
        Filter::Is(condition) => is_of_child(&condition.attribute),
        _ => false,
    };
    filters.iter().any(of_child)
}

fn is_of_child(attribute: &AttributeRef) -> bool {
    matches!(
        attribute,
        AttributeRef::Attribute {
            scope: Some(Scope::Event | Scope::Link),
            ..
        }
    )
}

/// A condition. The engine looks at the values of all events of a span together, so conditions about
/// events must not be asked of one and the same: each stands alone.
fn is(attribute: AttributeRef, test: Test) -> Filter {
    let is_of_child = is_of_child(&attribute);
    let condition = Filter::Is(Condition { attribute, test });
    match is_of_child {
        true => Filter::And(vec![condition]),
        false => condition,
    }
}

/// What must be there for an expression to have a value.
fn needed(expr: &FieldExpr) -> Option<Filter> {
    match expr {
        FieldExpr::Attribute(attribute, _) => match reference(attribute)? {
            AttributeRef::Intrinsic(_) => None,
            attribute => Some(is(attribute, Test::Exists)),
        },
        FieldExpr::Negate(inner, _) => needed(inner),
        FieldExpr::Binary { op, lhs, rhs, .. } if op.is_arithmetic() => {
            both(needed(lhs), needed(rhs))
        }
        _ => None,
    }
}

pub(super) fn flip(op: Op) -> Op {
    match op {
        Op::Less => Op::Greater,
        Op::LessEqual => Op::GreaterEqual,
        Op::Greater => Op::Less,
        Op::GreaterEqual => Op::LessEqual,
        op => op,
    }
}

fn comparison(attribute: &Attribute, op: Op, value: &Static) -> Option<Filter> {
    if *attribute == Attribute::Intrinsic(Intrinsic::NestedSetParent) {
        return root(op, value);
    }
    let is_trace_id = *attribute == Attribute::Intrinsic(Intrinsic::TraceId);
    let attribute = reference(attribute)?;
    let is_named = matches!(attribute, AttributeRef::Attribute { .. });
    if *value == Static::Nil {
        // Intrinsics always are.
        return match op {
            Op::NotEqual if is_named => Some(is(attribute, Test::Exists)),
            Op::Equal if is_named => Some(is(attribute, Test::Missing)),
            _ => None,
        };
    }
    let exists = |attribute| is_named.then(|| is(attribute, Test::Exists));
    if let (Op::Match | Op::NotMatch, Static::Str(pattern)) = (op, value) {
        let Ok(regex) = LabelRegex::with_dot(pattern, Dot::NotNewline) else {
            return exists(attribute);
        };
        let test = match op {
            Op::Match => Test::Matches(regex),
            _ => Test::NotMatches(regex),
        };
        return Some(is(attribute, test));
    }
    let value = match value {
        Static::Bool(truth) => Value::Bool(*truth),
        Static::Int(number) | Static::Duration(number) => Value::Int(*number),
        Static::Float(number) => Value::Float(*number),
        Static::Str(text) if is_trace_id && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            // Literals may lack leading zeros.
            Value::Str(format!("{:0>32}", text.to_ascii_lowercase()).into())
        }
        Static::Str(text) => Value::Str(text.clone()),
        Static::Status(number) | Static::Kind(number) => Value::Int((*number).into()),
        Static::Nil => return None,
    };
    let test = match op {
        Op::Equal => Test::Equal(vec![value]),
        Op::NotEqual => Test::NotEqual(vec![value]),
        Op::Less => Test::Less(value),
        Op::LessEqual => Test::LessEqual(value),
        Op::Greater => Test::Greater(value),
        Op::GreaterEqual => Test::GreaterEqual(value),
        _ => return exists(attribute),
    };
    Some(is(attribute, test))
}

/// Comparisons with `nestedSetParent` that only roots satisfy, or none of them: it is -1 for these and
/// not below 0 for others.
fn root(op: Op, value: &Static) -> Option<Filter> {
    let Static::Int(number) = value else {
        return None;
    };
    let is_root = match (op, number) {
        (Op::Less, ..=0) | (Op::LessEqual, ..=-1) | (Op::Equal, -1) => true,
        (Op::Greater, -1..) | (Op::GreaterEqual, 0..) | (Op::NotEqual, -1) => false,
        (Op::Equal, 0..) => false,
        _ => return None,
    };
    let attribute = AttributeRef::Intrinsic(source::Intrinsic::IsRoot);
    Some(is(attribute, Test::Equal(vec![Value::Bool(is_root)])))
}

/// What a store calls the attribute, if a condition can be about it.
pub(super) fn reference(attribute: &Attribute) -> Option<AttributeRef> {
    let intrinsic = match attribute {
        Attribute::Named { parent: true, .. } => return None,
        Attribute::Intrinsic(Intrinsic::Duration) => source::Intrinsic::Duration,
        Attribute::Intrinsic(Intrinsic::Name) => source::Intrinsic::Name,
        Attribute::Intrinsic(Intrinsic::Status) => source::Intrinsic::Status,
        Attribute::Intrinsic(Intrinsic::StatusMessage) => source::Intrinsic::StatusMessage,
        Attribute::Intrinsic(Intrinsic::Kind) => source::Intrinsic::Kind,
        Attribute::Intrinsic(Intrinsic::SpanId) => source::Intrinsic::SpanId,
        Attribute::Intrinsic(Intrinsic::ParentId) => source::Intrinsic::ParentId,
        Attribute::Intrinsic(Intrinsic::ChildCount) => source::Intrinsic::ChildCount,
        Attribute::Intrinsic(Intrinsic::TraceId) => source::Intrinsic::TraceId,
        Attribute::Intrinsic(Intrinsic::TraceDuration) => source::Intrinsic::TraceDuration,
        Attribute::Intrinsic(Intrinsic::TraceRootName) => source::Intrinsic::RootName,
        Attribute::Intrinsic(Intrinsic::TraceRootService) => source::Intrinsic::RootServiceName,
        _ => return column(attribute),
    };
    Some(AttributeRef::Intrinsic(intrinsic))
}

/// The column that an attribute is read from, if it is not one that every batch has.
pub(super) fn column(attribute: &Attribute) -> Option<AttributeRef> {
    use source::keys;
    let named = |scope, key: &str| {
        Some(AttributeRef::Attribute {
            scope: Some(scope),
            key: key.to_owned(),
        })
    };
    match attribute {
        Attribute::Named { scope, key, .. } => Some(AttributeRef::Attribute {
            scope: *scope,
            key: key.to_string(),
        }),
        Attribute::Intrinsic(Intrinsic::EventName) => named(Scope::Event, keys::EVENT_NAME),
        Attribute::Intrinsic(Intrinsic::EventTimeSinceStart) => {
            named(Scope::Event, keys::EVENT_TIME_SINCE_START)
        }
        Attribute::Intrinsic(Intrinsic::LinkTraceId) => named(Scope::Link, keys::LINK_TRACE_ID),
        Attribute::Intrinsic(Intrinsic::LinkSpanId) => named(Scope::Link, keys::LINK_SPAN_ID),
        Attribute::Intrinsic(Intrinsic::InstrumentationName) => {
            named(Scope::Instrumentation, keys::INSTRUMENTATION_NAME)
        }
        Attribute::Intrinsic(Intrinsic::InstrumentationVersion) => {
            named(Scope::Instrumentation, keys::INSTRUMENTATION_VERSION)
        }
        Attribute::Intrinsic(_) => None,
    }
}
