//! What a test of a condition means for single values and for whole columns. `condition` calls it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use trine_storage::Result;

use crate::block::column::{ColumnReader, Prepared, Probe};
use crate::block::numbers::{Wanted, ordered, unordered};
use crate::block::values::{Type, ValueRef};
use crate::model::each_element;
use crate::request::{Test, Value};

/// A test of single values.
pub(crate) type Passes = Arc<dyn Fn(ValueRef<'_>) -> bool + Send + Sync>;

/// A test made ready for one column.
pub(crate) enum Ready {
    /// No value passes.
    Nothing,
    /// All values pass.
    Everything,
    /// The column finds those that pass.
    Found(Prepared<'static>),
    /// Each value is asked.
    Each(Passes),
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Everything => "Everything",
            Self::Found(_) => "Found",
            Self::Each(_) => "Each",
        })
    }
}

impl Ready {
    /// Values that a probe finds without asking each.
    pub(crate) fn probe(column: &ColumnReader, probe: &Probe<'_>) -> Result<Self> {
        Ok(match column.prepare(probe)? {
            Prepared::Nothing | Prepared::Where(_) => Self::Nothing,
            Prepared::Everything => Self::Everything,
            Prepared::Wanted(wanted) => Self::Found(Prepared::Wanted(wanted)),
            Prepared::Texts(texts) => Self::Found(Prepared::Texts(texts)),
            Prepared::Needles(needles) => Self::Found(Prepared::Needles(needles)),
        })
    }

    /// Values that pass. Those of a dictionary are asked once.
    pub(crate) fn each(column: &ColumnReader, passes: Passes) -> Result<Self> {
        match column.prepare(&Probe::Where(&*passes))? {
            Prepared::Where(_) => {}
            Prepared::Nothing => return Ok(Self::Nothing),
            Prepared::Everything => return Ok(Self::Everything),
            Prepared::Wanted(wanted) => return Ok(Self::Found(Prepared::Wanted(wanted))),
            Prepared::Texts(texts) => return Ok(Self::Found(Prepared::Texts(texts))),
            Prepared::Needles(needles) => return Ok(Self::Found(Prepared::Needles(needles))),
        }
        Ok(Self::Each(passes))
    }

    /// The numbers or codes that pass, where it is known which they are.
    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Found(Prepared::Wanted(wanted)) => Some(wanted),
            _ => None,
        }
    }

    /// Appends the positions of a page of the column whose values pass.
    pub(crate) fn search(
        &self,
        column: &ColumnReader,
        page: u32,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Everything => column.search(page, &Prepared::Everything, out),
            Self::Found(prepared) => column.search(page, prepared, out),
            Self::Each(passes) => column.search(page, &Prepared::Where(&**passes), out),
        }
    }
}

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
pub(crate) fn prepare(column: &ColumnReader, test: &Test) -> Result<Ready> {
    let kind = column.kind();
    match test {
        Test::Missing => return Ok(Ready::Nothing),
        Test::Exists if kind == Type::Other => return Ok(Ready::Nothing),
        Test::Exists => return Ok(Ready::Everything),
        _ => {}
    }
    match kind {
        Type::Other => Ok(Ready::Nothing),
        Type::Str => prepare_text(column, test),
        Type::Int | Type::Float => prepare_numbers(column, test),
        Type::Bool => {
            let wanted = [false, true].map(ValueRef::Bool);
            let wanted: Vec<ValueRef<'_>> =
                wanted.into_iter().filter(|v| holds(test, *v)).collect();
            Ready::probe(column, &Probe::Equal(&wanted))
        }
        Type::Array => Ready::each(column, passes(test)),
    }
}

fn passes(test: &Test) -> Passes {
    let test = test.clone();
    Arc::new(move |value| holds(&test, value))
}

fn prepare_text(column: &ColumnReader, test: &Test) -> Result<Ready> {
    let is_text = |value: &Value| matches!(value, Value::Str(_));
    match test {
        Test::Equal(values) => {
            let texts = values.iter().filter_map(|value| match value {
                Value::Str(text) => Some(ValueRef::Str(text)),
                _ => None,
            });
            Ready::probe(column, &Probe::Equal(&texts.collect::<Vec<_>>()))
        }
        Test::Matches(regex) if regex.set_matches().is_some() => {
            let texts = regex.set_matches().unwrap_or_default().iter();
            let texts: Vec<ValueRef<'_>> = texts.map(|text| ValueRef::Str(text)).collect();
            Ready::probe(column, &Probe::Equal(&texts))
        }
        Test::NotEqual(values) if !values.iter().all(is_text) => Ok(Ready::Nothing),
        Test::Less(value)
        | Test::LessEqual(value)
        | Test::Greater(value)
        | Test::GreaterEqual(value)
            if !is_text(value) =>
        {
            Ok(Ready::Nothing)
        }
        _ => Ready::each(column, passes(test)),
    }
}

fn prepare_numbers(column: &ColumnReader, test: &Test) -> Result<Ready> {
    let kind = column.kind();
    let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::Float(_));
    match test {
        Test::Matches(_) | Test::NotMatches(_) => Ok(Ready::Nothing),
        Test::NotEqual(values) if !values.iter().all(is_number) => Ok(Ready::Nothing),
        Test::NotEqual(_) => Ready::each(column, passes(test)),
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
                Ready::probe(column, &Probe::Equal(&plain))
            } else {
                Ready::each(column, passes(test))
            }
        }
        _ => prepare_range(column, kind, test),
    }
}

fn prepare_range(column: &ColumnReader, kind: Type, test: &Test) -> Result<Ready> {
    match range(kind, test) {
        Some((least, greatest)) => Ready::probe(column, &Probe::Range { least, greatest }),
        None => Ok(Ready::Nothing),
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
