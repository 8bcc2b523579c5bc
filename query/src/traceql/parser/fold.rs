//! Constants that are computed when a query is read. What has no result is left for the checks and
//! the engine to refuse.

use trine_storage::regex::{Dot, LabelRegex};

use crate::traceql::ast::{Op, Static};
use crate::traceql::value::{self, Field};

/// `a op b`, where types and values have a result.
pub(super) fn binary(op: Op, a: &Static, b: &Static) -> Option<Static> {
    use Static::{Bool, Duration, Float, Int, Kind, Nil, Status, Str};
    let is_equality = matches!(op, Op::Equal | Op::NotEqual);
    match (a, b) {
        (Bool(a), Bool(b)) if op == Op::And => return Some(Bool(*a && *b)),
        (Bool(a), Bool(b)) if op == Op::Or => return Some(Bool(*a || *b)),
        // What is compared with nil is never the same, and never different.
        (Nil, _) | (_, Nil) if is_equality => return Some(Bool(false)),
        (Bool(_), Bool(_)) | (Status(_), Status(_)) | (Kind(_), Kind(_)) if is_equality => {}
        (Str(_), Str(pattern)) if matches!(op, Op::Match | Op::NotMatch) => {
            let pattern = LabelRegex::with_dot(pattern, Dot::NotNewline).ok()?;
            return Some(holds(op, a, b, Some(&pattern)));
        }
        (Str(_), Str(_)) if op.is_comparison() => {}
        (Int(a), Int(b)) if op.is_arithmetic() => return integers(op, *a, *b).map(Int),
        (Int(_) | Float(_) | Duration(_), Int(_) | Float(_) | Duration(_)) => {
            if op.is_arithmetic() {
                return numbers(op, a, b);
            }
            if !op.is_comparison() || matches!(op, Op::Match | Op::NotMatch) {
                return None;
            }
        }
        _ => return None,
    }
    Some(holds(op, a, b, None))
}

fn holds(op: Op, a: &Static, b: &Static, pattern: Option<&LabelRegex>) -> Static {
    let held = value::binary(op, &a.into(), &b.into(), pattern);
    Static::Bool(held == Field::Bool(true))
}

/// `-value`, for numbers.
pub(super) fn negative(value: &Static) -> Option<Static> {
    match value {
        Static::Int(number) => number.checked_neg().map(Static::Int),
        Static::Float(number) => Some(Static::Float(-number)),
        Static::Duration(number) => number.checked_neg().map(Static::Duration),
        _ => None,
    }
}

fn integers(op: Op, a: i64, b: i64) -> Option<i64> {
    match op {
        Op::Add => a.checked_add(b),
        Op::Subtract => a.checked_sub(b),
        Op::Multiply => a.checked_mul(b),
        Op::Divide => a.checked_div(b),
        Op::Modulo => a.checked_rem(b),
        Op::Power => a.checked_pow(u32::try_from(b).ok()?),
        _ => None,
    }
}

/// Of numbers of which one at least is no integer.
fn numbers(op: Op, a: &Static, b: &Static) -> Option<Static> {
    match value::binary(op, &a.into(), &b.into(), None) {
        Field::Float(number) if number.is_finite() => Some(Static::Float(number)),
        Field::Duration(nanoseconds) => Some(Static::Duration(nanoseconds)),
        _ => None,
    }
}
