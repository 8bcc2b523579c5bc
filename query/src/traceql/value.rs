//! Values of fields, and how they compare and compute.

use std::cmp::Ordering;
use std::sync::Arc;

use trine_storage::regex::LabelRegex;

use super::ast::{KINDS, Op, STATUSES, Static};
use super::source::Value;
use crate::text::format_go_duration;

/// The value of a field of a span.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    /// The span does not have it.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Duration(i64),
    Status(u8),
    Kind(u8),
    Array(Vec<Field>),
}

impl From<&Value> for Field {
    fn from(value: &Value) -> Self {
        match value {
            Value::Str(text) => Self::Str(Arc::clone(text)),
            Value::Int(number) => Self::Int(*number),
            Value::Float(number) => Self::Float(*number),
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Array(values) => Self::Array(values.iter().map(Self::from).collect()),
        }
    }
}

impl From<&Static> for Field {
    fn from(value: &Static) -> Self {
        match value {
            Static::Nil => Self::Nil,
            Static::Bool(truth) => Self::Bool(*truth),
            Static::Int(number) => Self::Int(*number),
            Static::Float(number) => Self::Float(*number),
            Static::Str(text) => Self::Str(Arc::clone(text)),
            Static::Duration(nanoseconds) => Self::Duration(*nanoseconds),
            Static::Status(number) => Self::Status(*number),
            Static::Kind(number) => Self::Kind(*number),
        }
    }
}

impl Field {
    /// The value as answers tell it; `None` for no value.
    pub(super) fn into_answer(self) -> Option<Value> {
        let name = |names: &[&str], number: u8| {
            Value::Str(
                names
                    .get(usize::from(number))
                    .copied()
                    .unwrap_or("unknown")
                    .into(),
            )
        };
        Some(match self {
            Self::Nil => return None,
            Self::Bool(truth) => Value::Bool(truth),
            Self::Int(number) => Value::Int(number),
            Self::Float(number) => Value::Float(number),
            Self::Str(text) => Value::Str(text),
            Self::Duration(nanoseconds) => Value::Str(format_go_duration(nanoseconds).into()),
            Self::Status(number) => name(&STATUSES, number),
            Self::Kind(number) => name(&KINDS, number),
            Self::Array(values) => {
                Value::Array(values.into_iter().filter_map(Self::into_answer).collect())
            }
        })
    }

    /// Numbers as floats; durations in nanoseconds.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) | Self::Duration(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }
}

/// Whether `a op b` holds. A missing value and types that cannot meet make every comparison false;
/// of an array any element may hold, for `!=` and `!~` all must.
pub(super) fn holds(op: Op, a: &Field, b: &Field, pattern: Option<&LabelRegex>) -> bool {
    if let Field::Array(values) = a {
        let mut each = values.iter().map(|value| holds(op, value, b, pattern));
        return match op {
            Op::NotEqual | Op::NotMatch => each.all(|holds| holds),
            _ => each.any(|holds| holds),
        };
    }
    if let Field::Array(values) = b {
        let mut each = values.iter().map(|value| holds(op, a, value, pattern));
        return match op {
            Op::NotEqual | Op::NotMatch => each.all(|holds| holds),
            _ => each.any(|holds| holds),
        };
    }
    match op {
        Op::Match | Op::NotMatch => match (a, pattern) {
            (Field::Str(text), Some(pattern)) => pattern.is_match(text) == (op == Op::Match),
            _ => false,
        },
        _ => {
            let Some(order) = compare(a, b) else {
                // NaN differs from everything, and only from numbers.
                let numbers = a.number().is_some() && b.number().is_some();
                return op == Op::NotEqual && numbers;
            };
            match op {
                Op::Equal => order.is_eq(),
                Op::NotEqual => order.is_ne(),
                Op::Less => order.is_lt(),
                Op::LessEqual => order.is_le(),
                Op::Greater => order.is_gt(),
                Op::GreaterEqual => order.is_ge(),
                _ => false,
            }
        }
    }
}

/// How two values of one kind compare.
fn compare(a: &Field, b: &Field) -> Option<Ordering> {
    use Field::{Bool, Duration, Int, Kind, Status, Str};
    match (a, b) {
        (Int(a) | Duration(a), Int(b) | Duration(b)) => Some(a.cmp(b)),
        (Str(a), Str(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Bool(a), Bool(b)) => Some(a.cmp(b)),
        (Status(a), Status(b)) | (Kind(a), Kind(b)) => Some(a.cmp(b)),
        _ => a.number()?.partial_cmp(&b.number()?),
    }
}

/// `a op b` for numbers. Where a value is missing, is no number, or the operation has no result
/// (an integer divided by zero) there is no value, so that one odd span does not fail a query.
pub(super) fn arithmetic(op: Op, a: &Field, b: &Field) -> Field {
    use Field::{Duration, Float, Int, Nil};
    let wrap = |number: Option<i64>, make: fn(i64) -> Field| number.map_or(Nil, make);
    match (a, b) {
        (&Int(x), &Int(y)) => return wrap(integers(op, x, y), Int),
        (&Duration(x), &Duration(y)) if matches!(op, Op::Add | Op::Subtract | Op::Modulo) => {
            return wrap(integers(op, x, y), Duration);
        }
        (&Duration(x), &Int(y)) if op != Op::Power => return wrap(integers(op, x, y), Duration),
        (&Int(x), &Duration(y)) if matches!(op, Op::Add | Op::Subtract | Op::Multiply) => {
            return wrap(integers(op, x, y), Duration);
        }
        _ => {}
    }
    let (Some(x), Some(y)) = (a.number(), b.number()) else {
        return Nil;
    };
    let result = match op {
        Op::Add => x + y,
        Op::Subtract => x - y,
        Op::Multiply => x * y,
        Op::Divide => x / y,
        Op::Modulo => x % y,
        Op::Power => x.powf(y),
        _ => return Nil,
    };
    // A duration stays one, unless it is divided by another.
    match (a, b) {
        (Duration(_), Duration(_)) if op == Op::Divide => Float(result),
        (Duration(_), _) | (_, Duration(_)) => Duration(result as i64),
        _ => Float(result),
    }
}

/// Whole numbers; none for a division by zero.
fn integers(op: Op, x: i64, y: i64) -> Option<i64> {
    match op {
        Op::Add => Some(x.wrapping_add(y)),
        Op::Subtract => Some(x.wrapping_sub(y)),
        Op::Multiply => Some(x.wrapping_mul(y)),
        Op::Divide => (y != 0).then(|| x.wrapping_div(y)),
        Op::Modulo => (y != 0).then(|| x.wrapping_rem(y)),
        Op::Power => Some((x as f64).powf(y as f64) as i64),
        _ => None,
    }
}
