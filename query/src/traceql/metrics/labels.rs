//! Labels of series: values as labels have them, each with a number, and series with their order.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::exemplars::Held;
use crate::traceql::field::Values;
use crate::traceql::source::{ABSENT, Value};
use crate::traceql::value::Field;

/// The label that tells what an ungrouped series is.
pub(super) const NAME: &str = "__name__";

/// A name and its value; without one for spans that do not have the attribute.
pub(super) type Label = (Arc<str>, Option<Value>);

/// A series of an answer while it is computed.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    pub(super) labels: Vec<Label>,
    /// One for each interval, NaN for none. A series without any is a notice, which has labels only.
    pub(super) values: Vec<f64>,
    pub(super) exemplars: Vec<Held>,
}

impl Series {
    /// Whether it tells nothing.
    pub(super) fn is_empty(&self) -> bool {
        !self.values.is_empty() && self.values.iter().all(|value| value.is_nan())
    }

    /// Its labels but for its name, in no order, as what series are matched by.
    pub(super) fn key(&self) -> Vec<(Arc<str>, LabelKey)> {
        let told = self.labels.iter().filter(|(name, _)| **name != *NAME);
        let mut key: Vec<_> = told
            .map(|(name, value)| (Arc::clone(name), LabelKey::of(value.as_ref())))
            .collect();
        key.sort();
        key
    }
}

/// Fewer labels first, then by their names and values.
pub(super) fn order(a: &[Label], b: &[Label]) -> Ordering {
    let one = |a: &Label, b: &Label| {
        let keys = |value: &Option<Value>| LabelKey::of(value.as_ref());
        a.0.cmp(&b.0).then_with(|| keys(&a.1).cmp(&keys(&b.1)))
    };
    let pairs = a.iter().zip(b).map(|(a, b)| one(a, b));
    a.len()
        .cmp(&b.len())
        .then_with(|| pairs.fold(Ordering::Equal, Ordering::then))
}

/// A value that can be looked up: equal when type and value are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum LabelKey {
    Nil,
    Str(Arc<str>),
    Int(i64),
    /// Bits in an order that rises with the numbers.
    Float(u64),
    Bool(bool),
    Array(Vec<LabelKey>),
}

impl LabelKey {
    pub(super) fn of(value: Option<&Value>) -> Self {
        match value {
            None => Self::Nil,
            Some(Value::Str(text)) => Self::Str(Arc::clone(text)),
            Some(Value::Int(number)) => Self::Int(*number),
            Some(Value::Float(number)) if number.is_nan() => Self::Float(u64::MAX),
            Some(Value::Float(number)) => {
                let bits = number.to_bits();
                let sign = 1 << 63;
                Self::Float(if bits & sign == 0 { bits | sign } else { !bits })
            }
            Some(Value::Bool(truth)) => Self::Bool(*truth),
            Some(Value::Array(values)) => {
                Self::Array(values.iter().map(|value| Self::of(Some(value))).collect())
            }
        }
    }
}

/// Gives values numbers, in order of their first use.
#[derive(Debug)]
pub(super) struct Interner {
    numbers: HashMap<LabelKey, u32>,
    values: Vec<Option<Value>>,
}

/// The number of no value.
pub(super) const NIL: u32 = 0;

impl Default for Interner {
    fn default() -> Self {
        Self {
            numbers: HashMap::from([(LabelKey::Nil, NIL)]),
            values: vec![None],
        }
    }
}

impl Interner {
    /// The number of a value.
    pub(super) fn number(&mut self, value: Option<Value>) -> u32 {
        let next = self.values.len() as u32;
        let number = *self
            .numbers
            .entry(LabelKey::of(value.as_ref()))
            .or_insert(next);
        if number == next {
            self.values.push(value);
        }
        number
    }

    /// The number of a value that has one.
    pub(super) fn find(&self, value: Option<&Value>) -> Option<u32> {
        self.numbers.get(&LabelKey::of(value)).copied()
    }

    /// How many values have numbers, no value among them.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// The value of a number.
    pub(super) fn value(&self, number: u32) -> Option<Value> {
        self.values.get(number as usize).cloned().flatten()
    }

    /// Values of a batch, of which each is looked at once.
    pub(super) fn numbers<'a>(&mut self, values: &'a Values<'a>) -> Numbers<'a> {
        let mut number = |value: &Field| self.number(value.clone().into_answer());
        match values {
            Values::Same(value) => Numbers::Same(number(value)),
            Values::Coded(codes, values) => {
                Numbers::Coded(codes, values.iter().map(number).collect())
            }
            Values::Rows(values) => Numbers::Rows(values.iter().map(number).collect()),
        }
    }
}

/// The numbers of the values of a batch.
#[derive(Debug)]
pub(super) enum Numbers<'a> {
    Same(u32),
    Coded(&'a [u32], Vec<u32>),
    Rows(Vec<u32>),
}

impl Numbers<'_> {
    /// That of a row.
    pub(super) fn of(&self, row: usize) -> u32 {
        match self {
            Self::Same(number) => *number,
            Self::Coded(codes, numbers) => {
                let code = codes.get(row).copied().unwrap_or(ABSENT);
                numbers.get(code as usize).copied().unwrap_or(NIL)
            }
            Self::Rows(numbers) => numbers.get(row).copied().unwrap_or(NIL),
        }
    }
}
