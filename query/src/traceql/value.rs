//! Values of fields, and how they compare and compute.

use std::cmp::Ordering;
use std::sync::Arc;

use trine_storage::regex::{Dot, LabelRegex};

use super::ast::{KINDS, Op, STATUSES, Static};
use super::source::Value;
use crate::text::format_go_duration;

/// The value of a field of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// The span does not have it.
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// Nanoseconds.
    Duration(i64),
    /// As OTLP numbers statuses: 0 unset, 1 ok, 2 error.
    Status(u8),
    /// As OTLP numbers kinds.
    Kind(u8),
    /// Values of one kind.
    Array(Vec<Field>),
    /// What the query asks of the span cannot be done with its values. A query fails when such a value
    /// decides about a span.
    Fault(Fault),
}

/// What cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Arithmetic with an array.
    ArrayArithmetic,
    /// A comparison of two arrays.
    ArrayComparison,
    /// A whole number divided by zero.
    DivisionByZero,
    /// `!` of something that is not true or false.
    Not,
    /// `-` of something that is no number.
    Negate,
}

impl Fault {
    /// The words for clients.
    pub fn message(self) -> &'static str {
        match self {
            Self::ArrayArithmetic => "arithmetic is not supported for arrays",
            Self::ArrayComparison => "arrays cannot be compared with each other",
            Self::DivisionByZero => "division by zero",
            Self::Not => "! expects a boolean",
            Self::Negate => "- expects a number",
        }
    }
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
    pub fn into_answer(self) -> Option<Value> {
        let name = |names: &[&str], number: u8| {
            let name = names.get(usize::from(number)).copied();
            Value::Str(name.unwrap_or("unknown").into())
        };
        Some(match self {
            Self::Nil | Self::Fault(_) => return None,
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
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) | Self::Duration(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether two values are the same. Numbers are by their size, whatever their types, and a status
    /// by the number that the language gives it: 0 error, 1 ok, 2 unset. What is missing equals
    /// nothing.
    pub fn equals(&self, other: &Self) -> bool {
        // The order of the words in the language, not that of OTLP.
        let of_status = |status: u8| 2 - i64::from(status.min(2));
        match (self, other) {
            (Self::Nil | Self::Fault(_), _) | (_, Self::Nil | Self::Fault(_)) => false,
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Self::Status(status), Self::Int(number))
            | (Self::Int(number), Self::Status(status)) => of_status(*status) == *number,
            (a, b) => compare(a, b).is_some_and(Ordering::is_eq),
        }
    }

    /// Whether two values are there and not the same.
    pub fn differs(&self, other: &Self) -> bool {
        let is_there = |value: &Self| !matches!(value, Self::Nil | Self::Fault(_));
        is_there(self) && is_there(other) && !self.equals(other)
    }
}

/// `a op b` for values as a filter has it: `&&`, `||`, comparisons, patterns (whose right side is
/// text, or several), arithmetic.
///
/// # Errors
/// The words for what cannot be done with these values: a pattern that is none, arithmetic with arrays,
/// arrays compared with each other, a whole number divided by zero.
pub fn apply(op: Op, a: &Field, b: &Field) -> Result<Field, String> {
    let result = match (op, b) {
        (Op::Match | Op::NotMatch, Field::Array(patterns)) => {
            let mut each = Vec::with_capacity(patterns.len());
            for pattern in patterns {
                each.push(apply(op, a, pattern)?);
            }
            let mut each = each.iter().map(|value| *value == Field::Bool(true));
            Field::Bool(match op {
                Op::Match => each.any(|holds| holds),
                _ => each.all(|holds| holds),
            })
        }
        (Op::Match | Op::NotMatch, Field::Str(pattern)) => {
            let pattern = LabelRegex::with_dot(pattern, Dot::NotNewline);
            let pattern = pattern.map_err(|error| error.to_string())?;
            binary(op, a, b, Some(&pattern))
        }
        _ => binary(op, a, b, None),
    };
    match result {
        Field::Fault(fault) => Err(fault.message().to_owned()),
        result => Ok(result),
    }
}

/// `a op b`; for patterns the right side is compiled.
pub(super) fn binary(op: Op, a: &Field, b: &Field, pattern: Option<&LabelRegex>) -> Field {
    let truth = |value: &Field| *value == Field::Bool(true);
    let fault = |value: &Field| match value {
        Field::Fault(fault) => Some(*fault),
        _ => None,
    };
    match op {
        // What one side alone decides is decided whatever is wrong with the other.
        Op::And | Op::Or => match (fault(a), fault(b)) {
            (None, None) if op == Op::And => Field::Bool(truth(a) && truth(b)),
            (None, None) => Field::Bool(truth(a) || truth(b)),
            (Some(_), None) if truth(b) == (op == Op::Or) => Field::Bool(op == Op::Or),
            (None, Some(_)) if truth(a) == (op == Op::Or) => Field::Bool(op == Op::Or),
            (Some(fault), _) | (_, Some(fault)) => Field::Fault(fault),
        },
        _ => match fault(a).or(fault(b)) {
            Some(fault) => Field::Fault(fault),
            None if op.is_arithmetic() => arithmetic(op, a, b),
            None => holds(op, a, b, pattern),
        },
    }
}

/// `!value`. What is missing is not true.
pub(super) fn not(value: &Field) -> Field {
    match value {
        Field::Bool(truth) => Field::Bool(!truth),
        Field::Nil => Field::Bool(true),
        Field::Fault(fault) => Field::Fault(*fault),
        _ => Field::Fault(Fault::Not),
    }
}

/// `-value`.
pub(super) fn negate(value: &Field) -> Field {
    match value {
        Field::Int(number) => Field::Int(number.wrapping_neg()),
        Field::Float(number) => Field::Float(-number),
        Field::Duration(number) => Field::Duration(number.wrapping_neg()),
        Field::Nil => Field::Nil,
        Field::Fault(fault) => Field::Fault(*fault),
        _ => Field::Fault(Fault::Negate),
    }
}

/// Whether `a op b` holds. A missing value and types that cannot meet make every comparison false;
/// of an array any element may hold, for `!=` and `!~` all must.
pub(super) fn holds(op: Op, a: &Field, b: &Field, pattern: Option<&LabelRegex>) -> Field {
    let of_array = |values: &[Field], each: &dyn Fn(&Field) -> bool| {
        Field::Bool(match op {
            Op::NotEqual | Op::NotMatch => values.iter().all(each),
            _ => values.iter().any(each),
        })
    };
    match (a, b) {
        (Field::Array(_), Field::Array(_)) => Field::Fault(Fault::ArrayComparison),
        (Field::Array(values), b) => of_array(values, &|value| one_holds(op, value, b, pattern)),
        (a, Field::Array(values)) => of_array(values, &|value| one_holds(op, a, value, pattern)),
        (a, b) => Field::Bool(one_holds(op, a, b, pattern)),
    }
}

fn one_holds(op: Op, a: &Field, b: &Field, pattern: Option<&LabelRegex>) -> bool {
    if matches!(op, Op::Match | Op::NotMatch) {
        return match (a, pattern) {
            (Field::Str(text), Some(pattern)) => pattern.is_match(text) == (op == Op::Match),
            _ => false,
        };
    }
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

/// `a op b` for numbers; no value where one is missing or is no number. Of whole numbers the result is
/// whole. With a duration it is a duration if it is whole nanoseconds, and otherwise the exact float;
/// a duration divided by a duration is a float.
fn arithmetic(op: Op, a: &Field, b: &Field) -> Field {
    use Field::{Array, Duration, Float, Int, Nil};
    if matches!(a, Array(_)) || matches!(b, Array(_)) {
        return Field::Fault(Fault::ArrayArithmetic);
    }
    match (a, b) {
        (Nil, _) | (_, Nil) => return Nil,
        (&Int(x), &Int(y)) => return integers(op, x, y).map_or_else(Field::Fault, Int),
        (&Duration(x), &Duration(y) | &Int(y)) | (&Int(x), &Duration(y))
            if matches!(op, Op::Add | Op::Subtract) =>
        {
            return integers(op, x, y).map_or_else(Field::Fault, Duration);
        }
        (&Duration(x), &Int(y)) | (&Int(x), &Duration(y)) if op == Op::Multiply => {
            return Duration(x.wrapping_mul(y));
        }
        (&Duration(_), &Int(0) | &Duration(0)) if matches!(op, Op::Divide | Op::Modulo) => {
            return Field::Fault(Fault::DivisionByZero);
        }
        (&Duration(x), &Int(y) | &Duration(y)) if op == Op::Modulo => {
            return Duration(x.wrapping_rem(y));
        }
        (&Duration(x), &Int(y)) if op == Op::Divide && x.wrapping_rem(y) == 0 => {
            return Duration(x.wrapping_div(y));
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
    match (a, b) {
        (Duration(_), Duration(_)) => Float(result),
        (Duration(_), _) | (_, Duration(_)) if is_whole(result) => Duration(result as i64),
        _ => Float(result),
    }
}

/// Whether a float is a whole number that a duration can hold.
fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < i64::MAX as f64
}

fn integers(op: Op, x: i64, y: i64) -> Result<i64, Fault> {
    let divided = |result: fn(i64, i64) -> i64| match y {
        0 => Err(Fault::DivisionByZero),
        y => Ok(result(x, y)),
    };
    match op {
        Op::Add => Ok(x.wrapping_add(y)),
        Op::Subtract => Ok(x.wrapping_sub(y)),
        Op::Multiply => Ok(x.wrapping_mul(y)),
        Op::Divide => divided(i64::wrapping_div),
        Op::Modulo => divided(i64::wrapping_rem),
        // Exact as long as it fits, and otherwise as near as floats get.
        Op::Power => {
            let exact = u32::try_from(y).ok().and_then(|y| x.checked_pow(y));
            Ok(exact.unwrap_or_else(|| (x as f64).powf(y as f64) as i64))
        }
        _ => Ok(0),
    }
}
