//! What a test of a condition means for single values and for whole columns. `condition` calls it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Ordering;
use std::sync::Arc;

use trine_storage::Result;

use crate::block::column::{ColumnReader, Passes, Prepared, Probe, ordered};
use crate::block::values::{Type, ValueRef};
use crate::model::each_element;
use crate::request::{Test, Value};

/// Whether a value that is there satisfies a test.
pub(crate) fn holds(test: &Test, value: ValueRef<'_>) -> bool {
    if let ValueRef::Bytes(bytes) = value {
        let negates = matches!(test, Test::NotEqual(_) | Test::NotMatches(_));
        let mut held = negates;
        each_element(bytes, &mut |element| {
            if holds(test, element) != negates {
                held = !negates;
            }
            held == negates
        });
        return held;
    }
    let is = |wanted: &Value, is: fn(Ordering) -> bool| compare(value, wanted).is_some_and(is);
    match test {
        Test::Equal(wanted) => wanted.iter().any(|wanted| is(wanted, Ordering::is_eq)),
        Test::NotEqual(wanted) => wanted.iter().all(|wanted| match compare(value, wanted) {
            Some(order) => order.is_ne(),
            // NaN differs from every number.
            None => is_number(value) && matches!(wanted, Value::Int(_) | Value::Float(_)),
        }),
        Test::Less(wanted) => is(wanted, Ordering::is_lt),
        Test::LessEqual(wanted) => is(wanted, Ordering::is_le),
        Test::Greater(wanted) => is(wanted, Ordering::is_gt),
        Test::GreaterEqual(wanted) => is(wanted, Ordering::is_ge),
        Test::Matches(regex) => matches!(value, ValueRef::Str(text) if regex.is_match(text)),
        Test::NotMatches(regex) => matches!(value, ValueRef::Str(text) if !regex.is_match(text)),
        Test::Exists => true,
        Test::Missing => false,
    }
}

fn is_number(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Int(_) | ValueRef::Float(_))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "integers and floats compare as floats"
)]
fn compare(value: ValueRef<'_>, wanted: &Value) -> Option<Ordering> {
    match (value, wanted) {
        (ValueRef::Str(a), Value::Str(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (ValueRef::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (ValueRef::Int(a), Value::Float(b)) => (a as f64).partial_cmp(b),
        (ValueRef::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (ValueRef::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (ValueRef::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Makes a test ready for a column of values that are there: searched as packed numbers and in the
/// dictionary where that can be, value by value else.
pub(crate) fn prepare(column: &ColumnReader, test: &Test) -> Result<Prepared> {
    let kind = column.kind();
    match test {
        Test::Missing => return Ok(Prepared::Nothing),
        Test::Exists if kind == Type::Other => return Ok(Prepared::Nothing),
        Test::Exists => return Ok(Prepared::Everything),
        _ => {}
    }
    match kind {
        Type::Other => Ok(Prepared::Nothing),
        Type::Str => prepare_text(column, test),
        Type::Int | Type::Float => prepare_numbers(column, test),
        Type::Bool => {
            let wanted = [false, true].map(ValueRef::Bool);
            let wanted: Vec<ValueRef<'_>> =
                wanted.into_iter().filter(|v| holds(test, *v)).collect();
            column.prepare(&Probe::Equal(&wanted))
        }
        Type::Array => column.prepare(&Probe::Where(passes(test))),
    }
}

fn passes(test: &Test) -> Passes {
    let test = test.clone();
    Arc::new(move |value| holds(&test, value))
}

fn prepare_text(column: &ColumnReader, test: &Test) -> Result<Prepared> {
    let is_text = |value: &Value| matches!(value, Value::Str(_));
    match test {
        Test::Equal(values) => {
            let texts = values.iter().filter_map(|value| match value {
                Value::Str(text) => Some(ValueRef::Str(text)),
                _ => None,
            });
            column.prepare(&Probe::Equal(&texts.collect::<Vec<_>>()))
        }
        Test::Matches(regex) if regex.set_matches().is_some() => {
            let texts = regex.set_matches().unwrap_or_default().iter();
            let texts: Vec<ValueRef<'_>> = texts.map(|text| ValueRef::Str(text)).collect();
            column.prepare(&Probe::Equal(&texts))
        }
        Test::NotEqual(values) if !values.iter().all(is_text) => Ok(Prepared::Nothing),
        Test::Less(value)
        | Test::LessEqual(value)
        | Test::Greater(value)
        | Test::GreaterEqual(value)
            if !is_text(value) =>
        {
            Ok(Prepared::Nothing)
        }
        _ => column.prepare(&Probe::Where(passes(test))),
    }
}

fn prepare_numbers(column: &ColumnReader, test: &Test) -> Result<Prepared> {
    let kind = column.kind();
    let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::Float(_));
    match test {
        Test::Matches(_) | Test::NotMatches(_) => Ok(Prepared::Nothing),
        Test::NotEqual(values) if !values.iter().all(is_number) => Ok(Prepared::Nothing),
        Test::NotEqual(_) => column.prepare(&Probe::Where(passes(test))),
        Test::Equal(values) => {
            let values: Vec<&Value> = values.iter().filter(|value| is_number(value)).collect();
            if let [value] = values[..] {
                return prepare_range(column, kind, &Test::Equal(vec![value.clone()]));
            }
            let same = |value: &&Value| match value {
                Value::Int(number) if kind == Type::Int => Some(ValueRef::Int(*number)),
                Value::Float(number) if kind == Type::Float => Some(ValueRef::Float(*number)),
                _ => None,
            };
            let plain: Vec<ValueRef<'_>> = values.iter().filter_map(same).collect();
            if plain.len() == values.len() {
                column.prepare(&Probe::Equal(&plain))
            } else {
                column.prepare(&Probe::Where(passes(test)))
            }
        }
        _ => prepare_range(column, kind, test),
    }
}

fn prepare_range(column: &ColumnReader, kind: Type, test: &Test) -> Result<Prepared> {
    match range(kind, test) {
        Some((least, greatest)) => column.prepare(&Probe::Range { least, greatest }),
        None => Ok(Prepared::Nothing),
    }
}

/// The numbers that satisfy a comparison, as columns order them: they lie side by side.
pub(crate) fn range(kind: Type, test: &Test) -> Option<(u64, u64)> {
    let value = match test {
        Test::Less(value)
        | Test::LessEqual(value)
        | Test::Greater(value)
        | Test::GreaterEqual(value) => value,
        Test::Equal(values) => values.first()?,
        _ => return None,
    };
    // Floats are ordered from -NaN to NaN, and no NaN compares.
    let (first, last) = match kind {
        Type::Float => (
            ordered(kind, f64::NEG_INFINITY.to_bits()),
            ordered(kind, f64::INFINITY.to_bits()),
        ),
        _ => (0, u64::MAX),
    };
    let order = |at: u64| {
        let bits = unordered(kind, at);
        let number = match kind {
            Type::Float => ValueRef::Float(f64::from_bits(bits)),
            _ => ValueRef::Int(bits.cast_signed()),
        };
        compare(number, value)
    };
    order(first)?;
    // The first number that is not less, and the first that is greater.
    let above = |is_below: fn(Ordering) -> bool| {
        let (mut from, mut to) = (u128::from(first), u128::from(last) + 1);
        while from < to {
            let middle = from + (to - from) / 2;
            let at = u64::try_from(middle).unwrap_or(u64::MAX);
            if order(at).is_some_and(is_below) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    };
    let (equal, greater) = (above(Ordering::is_lt), above(Ordering::is_le));
    let end = u128::from(last) + 1;
    let (from, to) = match test {
        Test::Less(_) => (first.into(), equal),
        Test::LessEqual(_) => (first.into(), greater),
        Test::Greater(_) => (greater, end),
        Test::GreaterEqual(_) => (equal, end),
        _ => (equal, greater),
    };
    let (least, greatest) = (
        u64::try_from(from).ok()?,
        u64::try_from(to.checked_sub(1)?).ok()?,
    );
    (least <= greatest).then_some((least, greatest))
}

/// The inverse of [`ordered`].
fn unordered(kind: Type, at: u64) -> u64 {
    const SIGN: u64 = 1 << 63;
    match kind {
        Type::Int => at ^ SIGN,
        Type::Float if at & SIGN == 0 => !at,
        Type::Float => at & !SIGN,
        _ => at,
    }
}
