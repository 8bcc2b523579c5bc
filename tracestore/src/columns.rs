//! Spans as columns: the one form in which memory and blocks hold them and answer from.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::TimeRange;

use crate::model::{AnyValue, KeyValue, Resource, Scope as Instrumentation, Span, SpanId};
use crate::nested::NO_PARENT;
use crate::request::{
    ABSENT, AttributeRef, Column, CompareOp, Condition, Intrinsic, Scope, Value, keys,
};

/// Which column an attribute is.
pub(crate) type Key = (Scope, Arc<str>);

/// The columns of some spans. Resources and scopes are codes into tables of their owner.
#[derive(Debug, Default, Clone)]
pub(crate) struct Columns {
    pub(crate) span_ids: Vec<SpanId>,
    pub(crate) parent_ids: Vec<SpanId>,
    pub(crate) starts: Vec<i64>,
    pub(crate) durations: Vec<u64>,
    pub(crate) kinds: Vec<u8>,
    pub(crate) statuses: Vec<u8>,
    pub(crate) resources: Vec<u32>,
    pub(crate) scopes: Vec<u32>,
    pub(crate) names: Coded,
    pub(crate) messages: Coded,
    /// Attributes of spans, events and links.
    pub(crate) attributes: BTreeMap<Key, Sparse>,
}

/// A column with a value in every row.
#[derive(Debug, Default, Clone)]
pub(crate) struct Coded {
    pub(crate) codes: Vec<u32>,
    pub(crate) dictionary: Dictionary,
}

/// A column with values in some rows, which rise.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sparse {
    pub(crate) rows: Vec<u32>,
    pub(crate) codes: Vec<u32>,
    pub(crate) dictionary: Dictionary,
}

/// Distinct values, numbered.
#[derive(Debug, Default, Clone)]
pub(crate) struct Dictionary {
    pub(crate) values: Vec<Value>,
    numbers: HashMap<Exact, u32>,
}

/// A value that is equal only to itself bit by bit.
#[derive(Debug, Clone)]
struct Exact(Value);

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for Exact {}

impl Hash for Exact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        fn feed<H: Hasher>(value: &Value, state: &mut H) {
            std::mem::discriminant(value).hash(state);
            match value {
                Value::Str(text) => text.hash(state),
                Value::Int(number) => number.hash(state),
                Value::Float(number) => number.to_bits().hash(state),
                Value::Bool(truth) => truth.hash(state),
                Value::Array(values) => values.iter().for_each(|value| feed(value, state)),
            }
        }
        feed(&self.0, state);
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a == b,
    }
}

impl Dictionary {
    /// The number of `value`.
    pub(crate) fn code(&mut self, value: Value) -> u32 {
        let exact = Exact(value);
        if let Some(&code) = self.numbers.get(&exact) {
            return code;
        }
        let code = u32::try_from(self.values.len()).unwrap_or(ABSENT);
        self.values.push(exact.0.clone());
        self.numbers.insert(exact, code);
        code
    }

    /// A dictionary that is only read.
    pub(crate) fn of(values: Vec<Value>) -> Self {
        Self {
            values,
            numbers: HashMap::new(),
        }
    }
}

impl Columns {
    pub(crate) fn rows(&self) -> usize {
        self.starts.len()
    }

    /// Adds a span.
    pub(crate) fn push(&mut self, resource: u32, scope: u32, span: &Span) {
        let row = u32::try_from(self.rows()).unwrap_or(ABSENT);
        self.span_ids.push(span.span_id);
        self.parent_ids
            .push(span.parent_span_id.unwrap_or(NO_PARENT));
        self.starts.push(start_of(span));
        // A span that ends before it begins took no time.
        self.durations
            .push(span.end_ns.saturating_sub(span.start_ns));
        self.kinds.push(kind_of(span));
        let status = span.status.as_ref();
        self.statuses
            .push(status.map_or(0, |s| u8::try_from(s.code).unwrap_or(0)));
        self.resources.push(resource);
        self.scopes.push(scope);
        self.names.codes.push(
            self.names
                .dictionary
                .code(Value::Str(span.name.as_str().into())),
        );
        let message = status.map_or("", |status| status.message.as_str());
        self.messages
            .codes
            .push(self.messages.dictionary.code(Value::Str(message.into())));
        for (key, value) in visible(Scope::Span, &span.attributes) {
            self.set(row, key, value);
        }
        if !span.events.is_empty() {
            self.push_events(row, span);
        }
        if !span.links.is_empty() {
            self.push_links(row, span);
        }
    }

    fn push_events(&mut self, row: u32, span: &Span) {
        let mut found: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        for event in &span.events {
            let own = [
                (keys::EVENT_NAME, Value::Str(event.name.as_str().into())),
                (
                    keys::EVENT_TIME_SINCE_START,
                    Value::Int(event.time_ns.wrapping_sub(span.start_ns).cast_signed()),
                ),
            ];
            let own = own
                .into_iter()
                .map(|(key, value)| ((Scope::Event, key.into()), value));
            for (key, value) in own.chain(visible(Scope::Event, &event.attributes)) {
                found.entry(key).or_default().push(value);
            }
        }
        self.set_many(row, found);
    }

    fn push_links(&mut self, row: u32, span: &Span) {
        let mut found: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        for link in &span.links {
            let own = [
                (keys::LINK_TRACE_ID, &link.trace_id),
                (keys::LINK_SPAN_ID, &link.span_id),
            ];
            let own = own
                .into_iter()
                .map(|(key, id)| ((Scope::Link, key.into()), Value::Str(hex(id).into())));
            for (key, value) in own.chain(visible(Scope::Link, &link.attributes)) {
                found.entry(key).or_default().push(value);
            }
        }
        self.set_many(row, found);
    }

    /// One value stands for itself, several become an array.
    fn set_many(&mut self, row: u32, found: BTreeMap<Key, Vec<Value>>) {
        for (key, mut values) in found {
            let value = if values.len() == 1 {
                values.pop()
            } else {
                Some(Value::Array(values))
            };
            if let Some(value) = value {
                self.set(row, key, value);
            }
        }
    }

    fn set(&mut self, row: u32, key: Key, value: Value) {
        let column = self.attributes.entry(key).or_default();
        // The first of several attributes of one name counts.
        if column.rows.last() != Some(&row) {
            column.rows.push(row);
            column.codes.push(column.dictionary.code(value));
        }
    }

    /// The rows that begin in `range` and may satisfy the conditions.
    pub(crate) fn select(
        &self,
        range: TimeRange,
        conditions: &[Condition],
        all: bool,
        tables: &Tables,
    ) -> RoaringBitmap {
        let in_time = (0u32..)
            .zip(&self.starts)
            .filter(|(_, start)| range.contains(**start));
        let mut selected: RoaringBitmap = in_time.map(|(row, _)| row).collect();
        if conditions.is_empty() {
            return selected;
        }
        let mut found = conditions
            .iter()
            .map(|condition| self.satisfying(condition, tables));
        if all {
            found.for_each(|rows| selected &= rows);
        } else {
            let first = found.next().unwrap_or_default();
            selected &= found.fold(first, |any, rows| any | rows);
        }
        selected
    }

    fn satisfying(&self, condition: &Condition, tables: &Tables) -> RoaringBitmap {
        let holds = |value: &Value| may_hold(condition, value);
        match &condition.attribute {
            AttributeRef::Intrinsic(intrinsic) => self.intrinsic(*intrinsic, &holds),
            AttributeRef::Attribute { scope, key } => match scope {
                Some(Scope::Resource) => {
                    by_code(&self.resources, &tables.resources_with(key, &holds))
                }
                Some(Scope::Instrumentation) => {
                    by_code(&self.scopes, &tables.scopes_with(key, &holds))
                }
                Some(scope) => self.attribute(*scope, key, &holds),
                None => {
                    self.attribute(Scope::Span, key, &holds)
                        | by_code(&self.resources, &tables.resources_with(key, &holds))
                }
            },
        }
    }

    fn intrinsic(&self, intrinsic: Intrinsic, holds: &dyn Fn(&Value) -> bool) -> RoaringBitmap {
        let numbers = |column: &[u8]| -> RoaringBitmap {
            let ok: Vec<bool> = (0..=u8::MAX)
                .map(|n| holds(&Value::Int(n.into())))
                .collect();
            (0u32..)
                .zip(column)
                .filter(|(_, n)| ok[usize::from(**n)])
                .map(|(row, _)| row)
                .collect()
        };
        match intrinsic {
            Intrinsic::Name => self.names.select(holds),
            Intrinsic::StatusMessage => self.messages.select(holds),
            Intrinsic::Kind => numbers(&self.kinds),
            Intrinsic::Status => numbers(&self.statuses),
            Intrinsic::Duration => {
                let holds = |n: &u64| holds(&Value::Int(i64::try_from(*n).unwrap_or(i64::MAX)));
                (0u32..)
                    .zip(&self.durations)
                    .filter(|(_, n)| holds(n))
                    .map(|(r, _)| r)
                    .collect()
            }
        }
    }

    fn attribute(&self, scope: Scope, key: &str, holds: &dyn Fn(&Value) -> bool) -> RoaringBitmap {
        let Some(column) = self.attributes.get(&(scope, Arc::from(key))) else {
            return RoaringBitmap::new();
        };
        let ok: Vec<bool> = column.dictionary.values.iter().map(holds).collect();
        let rows = column.rows.iter().zip(&column.codes);
        rows.filter(|(_, code)| ok[**code as usize])
            .map(|(row, _)| *row)
            .collect()
    }
}

impl Coded {
    fn select(&self, holds: &dyn Fn(&Value) -> bool) -> RoaringBitmap {
        let ok: Vec<bool> = self.dictionary.values.iter().map(holds).collect();
        let rows = (0u32..).zip(&self.codes);
        rows.filter(|(_, code)| ok[**code as usize])
            .map(|(row, _)| row)
            .collect()
    }
}

impl Sparse {
    /// The value of `row`.
    pub(crate) fn get(&self, row: u32) -> Option<&Value> {
        let at = self.rows.binary_search(&row).ok()?;
        self.dictionary.values.get(*self.codes.get(at)? as usize)
    }
}

fn by_code(codes: &[u32], wanted: &RoaringBitmap) -> RoaringBitmap {
    if wanted.is_empty() {
        return RoaringBitmap::new();
    }
    (0u32..)
        .zip(codes)
        .filter(|(_, code)| wanted.contains(**code))
        .map(|(row, _)| row)
        .collect()
}

/// The resources and instrumentation scopes that codes stand for.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tables {
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) scopes: Vec<Arc<Instrumentation>>,
}

impl Tables {
    fn resources_with(&self, key: &str, holds: &dyn Fn(&Value) -> bool) -> RoaringBitmap {
        let with = |r: &Resource| resource_value(r, key).is_some_and(|value| holds(&value));
        (0u32..)
            .zip(&self.resources)
            .filter(|(_, r)| with(r))
            .map(|(code, _)| code)
            .collect()
    }

    fn scopes_with(&self, key: &str, holds: &dyn Fn(&Value) -> bool) -> RoaringBitmap {
        let with = |s: &Instrumentation| scope_value(s, key).is_some_and(|value| holds(&value));
        (0u32..)
            .zip(&self.scopes)
            .filter(|(_, s)| with(s))
            .map(|(code, _)| code)
            .collect()
    }
}

/// What queries see of an attribute of a resource.
pub(crate) fn resource_value(resource: &Resource, key: &str) -> Option<Value> {
    resource
        .attributes
        .iter()
        .find(|a| a.key == key)
        .and_then(|a| seen(&a.value))
}

/// What queries see of an attribute of an instrumentation scope, its name and version included.
pub(crate) fn scope_value(scope: &Instrumentation, key: &str) -> Option<Value> {
    match key {
        keys::INSTRUMENTATION_NAME => Some(Value::Str(scope.name.as_str().into())),
        keys::INSTRUMENTATION_VERSION => Some(Value::Str(scope.version.as_str().into())),
        _ => scope
            .attributes
            .iter()
            .find(|a| a.key == key)
            .and_then(|a| seen(&a.value)),
    }
}

/// The attributes that queries can see.
pub(crate) fn visible(scope: Scope, attributes: &[KeyValue]) -> impl Iterator<Item = (Key, Value)> {
    attributes
        .iter()
        .filter_map(move |a| Some(((scope, a.key.as_str().into()), seen(&a.value)?)))
}

/// What queries see of a value: scalars, and arrays of scalars of one kind.
fn seen(value: &AnyValue) -> Option<Value> {
    Some(match value {
        AnyValue::String(text) => Value::Str(text.as_str().into()),
        AnyValue::Bool(truth) => Value::Bool(*truth),
        AnyValue::Int(number) => Value::Int(*number),
        AnyValue::Double(number) => Value::Float(*number),
        AnyValue::Array(values) => {
            let values: Option<Vec<Value>> = values.iter().map(seen).collect();
            let values = values?;
            let kind = std::mem::discriminant(values.first()?);
            let uniform = values.iter().all(|v| std::mem::discriminant(v) == kind);
            let nested = matches!(values.first(), Some(Value::Array(_)));
            (uniform && !nested).then_some(Value::Array(values))?
        }
        AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::KeyValues(_) => return None,
    })
}

/// Whether a value may satisfy a condition; never false for one that does.
fn may_hold(condition: &Condition, value: &Value) -> bool {
    if condition.values.is_empty() || condition.op == CompareOp::Exists {
        return true;
    }
    if let Value::Array(values) = value {
        // Conditions on arrays ask for any element, those with `!=` for no element.
        return condition.op == CompareOp::NotEqual
            || values.iter().any(|value| may_hold(condition, value));
    }
    condition.values.iter().any(|wanted| match condition.op {
        CompareOp::NotEqual => compare(value, wanted).is_none_or(std::cmp::Ordering::is_ne),
        CompareOp::Equal => compare(value, wanted).is_some_and(std::cmp::Ordering::is_eq),
        CompareOp::Less => compare(value, wanted).is_some_and(std::cmp::Ordering::is_lt),
        CompareOp::LessEqual => compare(value, wanted).is_some_and(std::cmp::Ordering::is_le),
        CompareOp::Greater => compare(value, wanted).is_some_and(std::cmp::Ordering::is_gt),
        CompareOp::GreaterEqual => compare(value, wanted).is_some_and(std::cmp::Ordering::is_ge),
        CompareOp::Exists => true,
    })
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// The kind of a span as columns hold it: what OTLP does not define is "unspecified".
pub(crate) fn kind_of(span: &Span) -> u8 {
    u8::try_from(span.kind).unwrap_or(0)
}

/// When a span began, as columns hold it: a half-open range cannot hold the very last instant.
pub(crate) fn start_of(span: &Span) -> i64 {
    i64::try_from(span.start_ns)
        .unwrap_or(i64::MAX)
        .min(i64::MAX - 1)
}

/// Lower-case hexadecimal digits of an id.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gathers the values of rows from several sources into one column.
#[derive(Debug, Default)]
pub(crate) struct ColumnBuilder {
    codes: Vec<u32>,
    dictionary: Dictionary,
}

impl ColumnBuilder {
    /// Adds a row.
    pub(crate) fn push(&mut self, value: Option<Value>) {
        self.codes
            .push(value.map_or(ABSENT, |value| self.dictionary.code(value)));
    }

    /// The column, if any row has a value.
    pub(crate) fn finish(self) -> Option<Column> {
        let some = !self.dictionary.values.is_empty();
        some.then_some(Column {
            codes: self.codes,
            dictionary: self.dictionary.values,
        })
    }
}
