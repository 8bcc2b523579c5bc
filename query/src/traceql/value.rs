//! Values of fields, and how they compare and compute.

use std::cmp::Ordering;
use std::sync::Arc;

use trine_storage::regex::LabelRegex;

use super::ast::{KINDS, Op, STATUSES, Static};
use super::error::QueryError;
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

/// `a op b` for numbers. Where a value is missing or is no number there is no result.
pub(super) fn arithmetic(op: Op, a: &Field, b: &Field) -> Result<Field, QueryError> {
    use Field::{Duration, Int, Nil};
    if matches!(a, Field::Array(_)) || matches!(b, Field::Array(_)) {
        return Err(QueryError::Execution(format!(
            "{op} cannot be applied to an array"
        )));
    }
    let (Some(x), Some(y)) = (a.number(), b.number()) else {
        return Ok(Nil);
    };
    let zero = || QueryError::Execution("integer division by zero".to_owned());
    if let (&Int(x), &Int(y)) = (a, b) {
        return Ok(match op {
            Op::Add => Int(x.wrapping_add(y)),
            Op::Subtract => Int(x.wrapping_sub(y)),
            Op::Multiply => Int(x.wrapping_mul(y)),
            Op::Divide if y == 0 => return Err(zero()),
            Op::Divide => Int(x.wrapping_div(y)),
            Op::Modulo if y == 0 => return Err(zero()),
            Op::Modulo => Int(x.wrapping_rem(y)),
            Op::Power => {
                let power = (x as f64).powf(y as f64);
                Int(power as i64)
            }
            _ => Nil,
        });
    }
    let result = match op {
        Op::Add => x + y,
        Op::Subtract => x - y,
        Op::Multiply => x * y,
        Op::Divide => x / y,
        Op::Modulo => x % y,
        Op::Power => x.powf(y),
        _ => return Ok(Nil),
    };
    // Durations stay durations, unless one is divided by another.
    let durations = (matches!(a, Duration(_)), matches!(b, Duration(_)));
    Ok(match durations {
        (true, true) if op == Op::Divide => Field::Float(result),
        (true, _) | (_, true) => Duration(result as i64),
        _ => Field::Float(result),
    })
}
