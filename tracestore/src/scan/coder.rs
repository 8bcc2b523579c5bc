//! Dictionaries of answers: each different value has one code. `codes` fills them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::block::values::{Type, ValueRef};
use crate::model::each_element;
use crate::request::{ABSENT, Value};

/// Gives values codes in order of their first use.
#[derive(Debug, Default)]
pub(crate) struct Coder {
    table: HashTable<(u64, u32)>,
    keys: Vec<u8>,
    ends: Vec<usize>,
    pub(crate) values: Vec<Value>,
    scratch: Vec<u8>,
    /// The most values that have codes, where there is a bound.
    most: Option<usize>,
    /// The code after the one that was given last: dictionaries of several places list their values in
    /// one order.
    next: u32,
}

/// The code of values that are too many to have one each.
pub(crate) const BEYOND: u32 = u32::MAX - 2;

impl Coder {
    /// One that gives codes to so many values; all others have [`BEYOND`].
    pub(crate) fn bounded(most: usize) -> Self {
        Self {
            most: Some(most),
            ..Self::default()
        }
    }

    /// Whether new values have no codes of their own any more.
    pub(crate) fn is_full(&self) -> bool {
        self.most.is_some_and(|most| self.values.len() >= most)
    }

    /// The code of a value; [`ABSENT`] for what queries do not see.
    pub(crate) fn code(&mut self, value: ValueRef<'_>) -> u32 {
        self.scratch.clear();
        let tag = match value {
            ValueRef::Str(_) => Type::Str,
            ValueRef::Int(_) => Type::Int,
            ValueRef::Float(_) => Type::Float,
            ValueRef::Bool(_) => Type::Bool,
            ValueRef::Bytes(_) => Type::Array,
        };
        self.scratch.push(tag as u8);
        match value {
            ValueRef::Str(text) => self.scratch.extend_from_slice(text.as_bytes()),
            ValueRef::Bytes(bytes) => self.scratch.extend_from_slice(bytes),
            ValueRef::Int(number) => self.scratch.extend(number.to_le_bytes()),
            ValueRef::Float(number) => self.scratch.extend(number.to_bits().to_le_bytes()),
            ValueRef::Bool(truth) => self.scratch.push(truth.into()),
        }
        self.find_or(|| of_ref(value))
    }

    /// The code of a value that is no part of a column.
    pub(crate) fn code_of(&mut self, value: &Value) -> u32 {
        match value {
            Value::Str(text) => self.code(ValueRef::Str(text)),
            Value::Int(number) => self.code(ValueRef::Int(*number)),
            Value::Float(number) => self.code(ValueRef::Float(*number)),
            Value::Bool(truth) => self.code(ValueRef::Bool(*truth)),
            Value::Array(_) => {
                self.scratch.clear();
                // No column has such a type.
                self.scratch.push(u8::MAX);
                put_key(&mut self.scratch, value);
                self.find_or(|| Some(value.clone()))
            }
        }
    }

    fn find_or(&mut self, make: impl FnOnce() -> Option<Value>) -> u32 {
        let (keys, ends, scratch) = (&self.keys, &self.ends, &self.scratch);
        let key = |code: u32| {
            let at = code as usize;
            let start = at
                .checked_sub(1)
                .and_then(|before| ends.get(before).copied());
            let end = ends.get(at).copied().unwrap_or(0);
            keys.get(start.unwrap_or(0)..end).unwrap_or_default()
        };
        let guess = self.next;
        if key(guess) == scratch {
            self.next = guess + 1;
            return guess;
        }
        let hash = xxh3_64(scratch);
        if let Some((_, code)) = self.table.find(hash, |(_, code)| key(*code) == scratch) {
            self.next = code + 1;
            return *code;
        }
        let Some(value) = make() else {
            return ABSENT;
        };
        if self.is_full() {
            return BEYOND;
        }
        let code = u32::try_from(self.values.len()).unwrap_or(ABSENT);
        self.keys.extend_from_slice(&self.scratch);
        self.ends.push(self.keys.len());
        self.values.push(value);
        self.table
            .insert_unique(hash, (hash, code), |(hash, _)| *hash);
        code
    }
}

fn put_key(out: &mut Vec<u8>, value: &Value) {
    let text = format!("{value:?}");
    out.extend_from_slice(text.as_bytes());
}

/// A value of a column as answers have it.
pub(crate) fn of_ref(value: ValueRef<'_>) -> Option<Value> {
    Some(match value {
        ValueRef::Str(text) => Value::Str(text.into()),
        ValueRef::Int(number) => Value::Int(number),
        ValueRef::Float(number) => Value::Float(number),
        ValueRef::Bool(truth) => Value::Bool(truth),
        ValueRef::Bytes(bytes) => {
            let mut elements = Vec::new();
            each_element(bytes, &mut |element| {
                elements.extend(of_ref(element));
                true
            });
            if elements.is_empty() {
                return None;
            }
            Value::Array(elements)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_bound_share_a_code() {
        let mut coder = Coder::bounded(2);
        let codes = [3, 4, 5, 3, 6].map(|number| coder.code(ValueRef::Int(number)));
        assert_eq!(codes, [0, 1, BEYOND, 0, BEYOND]);
        assert!(coder.is_full() && coder.values.len() == 2);
        assert_eq!(coder.code(ValueRef::Bytes(&[])), ABSENT);
    }

    #[test]
    fn equal_values_of_one_type_have_one_code() {
        let mut coder = Coder::default();
        let two = [Value::Int(1), Value::Array(vec![Value::Int(1)])];
        let values = [
            ValueRef::Str("1"),
            ValueRef::Int(1),
            ValueRef::Float(1.0),
            ValueRef::Bool(true),
            ValueRef::Str(""),
            ValueRef::Float(f64::NAN),
        ];
        for _ in 0..2 {
            let codes = values.map(|value| coder.code(value));
            assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
            assert_eq!(coder.code_of(&two[0]), 1);
            assert_eq!(coder.code_of(&two[1]), 6);
            assert_eq!(coder.code(ValueRef::Bytes(&[])), ABSENT);
        }
        assert_eq!(coder.values.len(), 7);
        assert_eq!(coder.values[4], Value::Str("".into()));
    }
}
