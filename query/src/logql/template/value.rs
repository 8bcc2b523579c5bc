//! The values that templates compute with: Go's, as far as a template can make them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Row;
use super::time::Time;
use crate::text::format_general;

/// A value. Text is bytes, as in Go.
#[derive(Debug, Clone, Default)]
pub(super) enum Value<'a> {
    /// `nil`, and what is missing.
    #[default]
    Nil,
    Bool(bool),
    /// `int`
    Int(i64),
    /// `int64`, which is not assignable to `int`.
    Int64(i64),
    Float(f64),
    Text(Cow<'a, [u8]>),
    Time(Rc<Time>),
    /// All labels of the row.
    Row,
    List(Rc<Vec<Value<'a>>>),
    Map(Rc<BTreeMap<Vec<u8>, Value<'a>>>),
}

/// Why two values cannot be compared.
pub(super) const BAD_COMPARISON: &str = "incompatible types for comparison";
const BAD_COMPARISON_TYPE: &str = "invalid type for comparison";

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn owned(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into().into_bytes()))
    }

    /// The name of its type in errors.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Time(_) => "time.Time",
            Self::Row => "map[string]string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
        }
    }

    /// Whether a condition with this value holds.
    pub(super) fn is_true(&self, row: Row<'_>) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Int64(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Time(_) => true,
            Self::Row => !labels(row).is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    pub(super) fn is_empty(&self, row: Row<'_>) -> bool {
        !matches!(self, Self::Time(_)) && !self.is_true(row)
    }

    /// Appends the value as `%v` prints it; `nil` is what is printed for nothing.
    pub(super) fn print(&self, row: Row<'_>, nil: &str, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let written = match self {
            Self::Nil => out.write_all(nil.as_bytes()),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int(value) | Self::Int64(value) => write!(out, "{value}"),
            Self::Float(value) => out.write_all(format_general(*value).as_bytes()),
            Self::Text(text) => out.write_all(text),
            Self::Time(time) => write!(out, "{time}"),
            Self::Row => {
                out.extend_from_slice(b"map[");
                for (i, (name, value)) in labels(row).iter().enumerate() {
                    let space = if i == 0 { "" } else { " " };
                    write!(out, "{space}{name}:{value}").ok();
                }
                out.write_all(b"]")
            }
            Self::List(list) => {
                out.push(b'[');
                for (i, value) in list.iter().enumerate() {
                    if i > 0 {
                        out.push(b' ');
                    }
                    value.print(row, "<nil>", out);
                }
                out.write_all(b"]")
            }
            Self::Map(map) => {
                out.extend_from_slice(b"map[");
                for (i, (key, value)) in map.iter().enumerate() {
                    if i > 0 {
                        out.push(b' ');
                    }
                    out.extend_from_slice(key);
                    out.push(b':');
                    value.print(row, "<nil>", out);
                }
                out.write_all(b"]")
            }
        };
        // Writing to a vector cannot fail.
        written.ok();
    }

    /// How many bytes printing it makes at most, roughly; to bound what is made of it.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 32,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) | Self::Int64(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether two values are equal.
    ///
    /// # Errors
    /// When they cannot be compared.
    pub(super) fn equals(&self, other: &Self) -> Result<bool, String> {
        if let (Some(a), Some(b)) = (self.int(), other.int()) {
            return Ok(a == b);
        }
        Ok(match (self, other) {
            (Self::Nil, other) | (other, Self::Nil) => matches!(other, Self::Nil),
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a.instant() == b.instant(),
            (Self::List(_) | Self::Map(_) | Self::Row, _) => {
                return Err(format!("non-comparable type {}", self.type_name()));
            }
            _ => return Err(BAD_COMPARISON.to_owned()),
        })
    }

    /// How two values are ordered; `None` for a number that is none.
    ///
    /// # Errors
    /// When they have no order.
    pub(super) fn order(&self, other: &Self) -> Result<Option<Ordering>, String> {
        if let (Some(a), Some(b)) = (self.int(), other.int()) {
            return Ok(Some(a.cmp(&b)));
        }
        let basic = |value: &Self| {
            value.int().is_some() || matches!(value, Self::Bool(_) | Self::Float(_) | Self::Text(_))
        };
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => Ok(a.partial_cmp(b)),
            (Self::Text(a), Self::Text(b)) => Ok(Some(a.cmp(b))),
            (Self::Bool(_), Self::Bool(_)) => Err(BAD_COMPARISON_TYPE.to_owned()),
            (a, b) if basic(a) && basic(b) => Err(BAD_COMPARISON.to_owned()),
            _ => Err(BAD_COMPARISON_TYPE.to_owned()),
        }
    }
}

/// The row's labels by name.
pub(super) fn labels(row: Row<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    row.labels.each(|_, name, value| {
        all.insert(name.to_owned(), value.to_owned());
    });
    for name in ["__error__", "__error_details__"] {
        if let Some(value) = row.labels.get(name) {
            all.insert(name.to_owned(), value.to_owned());
        }
    }
    all
}
