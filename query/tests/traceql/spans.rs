//! Spans, attributes and values as cases write them.

use std::collections::BTreeMap;

use serde_json::Value;
use trine_query::traceql::ast::Attribute;
use trine_query::traceql::{parse_attribute, source};

/// A value with the type that the case gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// Nanoseconds.
    Duration(i64),
    /// `ok`, `error`, `unset`.
    Status(String),
    /// `client`, `server`, ...
    Kind(String),
    Array(Vec<Told>),
}

impl Told {
    /// Reads a mapping of one key, such as `{"int": 3}`.
    pub(super) fn read(value: &Value) -> Self {
        let fields = value
            .as_object()
            .unwrap_or_else(|| panic!("{value} is no value"));
        let (kind, held) = fields.iter().next().unwrap();
        Self::of(kind, held)
    }

    fn of(kind: &str, held: &Value) -> Self {
        if let Some(kind) = kind.strip_suffix("_array") {
            let values = held.as_array().into_iter().flatten();
            return Self::Array(values.map(|held| Self::of(kind, held)).collect());
        }
        match kind {
            "nil" => Self::Nil,
            "bool" => Self::Bool(held.as_bool().unwrap()),
            "int" => Self::Int(held.as_i64().unwrap()),
            "float" => Self::Float(float(held)),
            "string" => Self::Str(held.as_str().unwrap().to_owned()),
            "duration_ns" => Self::Duration(held.as_i64().unwrap()),
            "status" => Self::Status(held.as_str().unwrap().to_owned()),
            "kind" => Self::Kind(held.as_str().unwrap().to_owned()),
            _ => panic!("no kind of value is called {kind}"),
        }
    }

    /// As a store holds it: durations as integers, statuses and kinds as their names.
    pub(super) fn stored(&self) -> Option<source::Value> {
        Some(match self {
            Self::Nil => return None,
            Self::Bool(truth) => source::Value::Bool(*truth),
            Self::Int(number) | Self::Duration(number) => source::Value::Int(*number),
            Self::Float(number) => source::Value::Float(*number),
            Self::Str(text) | Self::Status(text) | Self::Kind(text) => {
                source::Value::Str(text.as_str().into())
            }
            Self::Array(values) => {
                source::Value::Array(values.iter().filter_map(Self::stored).collect())
            }
        })
    }
}

/// A number; `NaN` and infinities are written as text.
pub(super) fn float(value: &Value) -> f64 {
    match value.as_str() {
        Some(text) => text.trim_start_matches('+').parse().unwrap(),
        None => value
            .as_f64()
            .unwrap_or_else(|| panic!("{value} is no number")),
    }
}

/// One span.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    /// As the case writes it, filled with zeros from the left.
    pub(super) id: [u8; 8],
    /// Nanoseconds since 1970.
    pub(super) start: i64,
    /// Nanoseconds.
    pub(super) duration: i64,
    /// Left, right and parent.
    pub(super) nested: Option<(i32, i32, i32)>,
    /// Attributes and intrinsics by their names in the language: `.x`, `span.x`, `kind`.
    pub(super) attributes: BTreeMap<String, Told>,
}

impl Span {
    /// Reads a span.
    pub(super) fn read(value: &Value) -> Self {
        let number = |field: &str| value[field].as_i64().unwrap_or(0);
        let attributes = value["attributes"].as_object().into_iter().flatten();
        Self {
            id: id(value["id"].as_str().unwrap_or("")),
            start: number("start_ns"),
            duration: number("duration_ns"),
            nested: value.get("nested_set").map(numbers),
            attributes: attributes
                .map(|(name, value)| (name.clone(), Told::read(value)))
                .collect(),
        }
    }

    /// Reads a list of spans.
    pub(super) fn list(value: &Value) -> Vec<Self> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(Self::read)
            .collect()
    }
}

/// `{"left": 1, "right": 4, "parent": 0}`.
pub(super) fn numbers(value: &Value) -> (i32, i32, i32) {
    let number = |field: &str| i32::try_from(value[field].as_i64().unwrap_or(0)).unwrap();
    (number("left"), number("right"), number("parent"))
}

/// Hexadecimal digits, filled with zeros from the left.
pub(super) fn id<const BYTES: usize>(digits: &str) -> [u8; BYTES] {
    let filled = format!("{digits:0>width$}", width = 2 * BYTES);
    let mut id = [0; BYTES];
    for (i, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&filled[2 * i..2 * i + 2], 16).unwrap();
    }
    id
}

/// What a name of a case stands for. Names are not quoted here, whatever they hold.
pub(super) fn attribute(name: &str) -> Attribute {
    let scopes = ["", "span", "resource", "event", "link", "instrumentation"];
    for scope in scopes {
        let key = name
            .strip_prefix(scope)
            .and_then(|rest| rest.strip_prefix('.'));
        if let Some(key) = key {
            let quoted = key.replace('\\', "\\\\").replace('"', "\\\"");
            return parse_attribute(&format!("{scope}.\"{quoted}\"")).unwrap();
        }
    }
    parse_attribute(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
