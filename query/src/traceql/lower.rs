//! What a store may use to skip traces: conditions that every answer satisfies.
//!
//! Sound, never complete: what is not certain is no condition, and the engine applies the whole
//! query to what comes back. A condition is only made of `attribute op literal`; a missing attribute
//! makes every comparison false, so each of them also says that the attribute is there.

use super::ast::{
    Attribute, FieldExpr, Intrinsic, Op, Pipeline, SpansetExpr, SpansetOp, Stage, Static,
};
use super::source::{self, AttributeRef, CompareOp, Condition, Scope, Value};

/// Conditions of which one span must satisfy all, or any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// The conditions; none if nothing is certain.
    pub conditions: Vec<Condition>,
    /// Whether one span must satisfy all of them.
    pub all: bool,
}

/// What the spans of a trace must satisfy for the trace to be in the answer.
pub fn conditions(pipeline: &Pipeline) -> Conditions {
    let certain = match pipeline.stages.first() {
        Some(Stage::Spans(expr)) => spanset(expr),
        _ => None,
    };
    certain.unwrap_or(Conditions {
        conditions: Vec::new(),
        all: true,
    })
}

fn spanset(expr: &SpansetExpr) -> Option<Conditions> {
    match expr {
        SpansetExpr::Filter(expr, _) => field(expr.as_ref()?),
        SpansetExpr::Pipeline(inner) => {
            Some(conditions(inner)).filter(|c| !c.conditions.is_empty())
        }
        SpansetExpr::Binary {
            op: SpansetOp::Or,
            lhs,
            rhs,
            ..
        } => Some(either(spanset(lhs)?, spanset(rhs)?)),
        // The answer holds spans of the right side, whatever the operator.
        SpansetExpr::Binary {
            op: SpansetOp::Structural(..),
            rhs,
            ..
        } => spanset(rhs),
        SpansetExpr::Binary {
            op: SpansetOp::And,
            lhs,
            rhs,
            ..
        } => spanset(lhs).or_else(|| spanset(rhs)),
    }
}

fn either(mut a: Conditions, b: Conditions) -> Conditions {
    a.conditions.extend(b.conditions);
    a.all = false;
    a
}

fn field(expr: &FieldExpr) -> Option<Conditions> {
    let FieldExpr::Binary { op, lhs, rhs, .. } = expr else {
        return None;
    };
    match op {
        Op::Or => Some(either(field(lhs)?, field(rhs)?)),
        Op::And => match (field(lhs), field(rhs)) {
            (Some(mut a), Some(b)) if a.all && b.all => {
                a.conditions.extend(b.conditions);
                Some(a)
            }
            (Some(a), Some(b)) => Some(if a.all { a } else { b }),
            (a, b) => a.or(b),
        },
        _ if op.is_comparison() => {
            let condition = match (&**lhs, &**rhs) {
                (FieldExpr::Attribute(attribute, _), FieldExpr::Static(value, _)) => {
                    comparison(attribute, *op, value)
                }
                (FieldExpr::Static(value, _), FieldExpr::Attribute(attribute, _)) => {
                    comparison(attribute, flip(*op), value)
                }
                _ => None,
            };
            Some(Conditions {
                conditions: vec![condition?],
                all: true,
            })
        }
        _ => None,
    }
}

fn flip(op: Op) -> Op {
    match op {
        Op::Less => Op::Greater,
        Op::LessEqual => Op::GreaterEqual,
        Op::Greater => Op::Less,
        Op::GreaterEqual => Op::LessEqual,
        op => op,
    }
}

fn comparison(attribute: &Attribute, op: Op, value: &Static) -> Option<Condition> {
    let attribute = reference(attribute)?;
    if *value == Static::Nil {
        // `x = nil` holds where the attribute is not, and intrinsics always are.
        let exists = op == Op::NotEqual && matches!(attribute, AttributeRef::Attribute { .. });
        return exists.then_some(Condition {
            attribute,
            op: CompareOp::Exists,
            values: vec![],
        });
    }
    let op = match op {
        Op::Equal => CompareOp::Equal,
        Op::NotEqual => CompareOp::NotEqual,
        Op::Less => CompareOp::Less,
        Op::LessEqual => CompareOp::LessEqual,
        Op::Greater => CompareOp::Greater,
        Op::GreaterEqual => CompareOp::GreaterEqual,
        _ => {
            return Some(Condition {
                attribute,
                op: CompareOp::Exists,
                values: vec![],
            });
        }
    };
    let value = match value {
        Static::Bool(truth) => Value::Bool(*truth),
        Static::Int(number) | Static::Duration(number) => Value::Int(*number),
        Static::Float(number) => Value::Float(*number),
        Static::Str(text) => Value::Str(text.clone()),
        Static::Status(number) | Static::Kind(number) => Value::Int((*number).into()),
        Static::Nil => return None,
    };
    Some(Condition {
        attribute,
        op,
        values: vec![value],
    })
}

/// What a store calls the attribute, if a condition can be about it.
fn reference(attribute: &Attribute) -> Option<AttributeRef> {
    let intrinsic = |intrinsic| Some(AttributeRef::Intrinsic(intrinsic));
    match attribute {
        Attribute::Named { parent: true, .. } => None,
        Attribute::Intrinsic(Intrinsic::Duration) => intrinsic(source::Intrinsic::Duration),
        Attribute::Intrinsic(Intrinsic::Name) => intrinsic(source::Intrinsic::Name),
        Attribute::Intrinsic(Intrinsic::Status) => intrinsic(source::Intrinsic::Status),
        Attribute::Intrinsic(Intrinsic::StatusMessage) => {
            intrinsic(source::Intrinsic::StatusMessage)
        }
        Attribute::Intrinsic(Intrinsic::Kind) => intrinsic(source::Intrinsic::Kind),
        _ => column(attribute),
    }
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
