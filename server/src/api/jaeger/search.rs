//! What a search of Jaeger's asks of a span, as a filter of the store and as a test of one span.
//! `request` and `v3` read it from parameters, `source` runs it.
//!
//! One span must satisfy all of it. A tag may be an attribute of the span, its resource, its scope, one
//! of its events or links, or what Jaeger keeps as a tag and OTLP in a field.

use std::sync::Arc;

use trine_storage::TimeRange;
use trine_tracestore::{
    AnyValue, AttributeRef, AttributeScope, Condition, Filter, Intrinsic, KeyValue, Resource,
    Scope, Span, Test, Trace, Value, keys,
};

use super::ui::SERVICE_MISSING;
use crate::ingest::jaeger_tags as tags;

/// Names that a search has for fields, beside those of tags.
const SPAN_STATUS: &str = "span.status";
const PLAIN_SCOPE_NAME: &str = "scope.name";
const PLAIN_SCOPE_VERSION: &str = "scope.version";
/// Before a key: of the resource only.
const RESOURCE: &str = "resource.";

const STATUS_ERROR: i32 = 2;

/// A search.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Search {
    /// The service; any without.
    pub(super) service: Option<String>,
    /// The name of the span; any without.
    pub(super) operation: Option<String>,
    /// Tags and their values.
    pub(super) tags: Vec<(String, String)>,
    /// When the span began, nanoseconds since 1970.
    pub(super) range: TimeRange,
    /// The least that it took, nanoseconds.
    pub(super) min_ns: Option<i64>,
    /// The most that it took, nanoseconds.
    pub(super) max_ns: Option<i64>,
    /// The most traces.
    pub(super) limit: usize,
}

impl Search {
    /// What the store is asked for: traces that have such a span, at any time.
    pub(super) fn filter(&self) -> Filter {
        let mut all = Vec::new();
        all.extend(self.service.as_deref().map(of_service));
        all.extend(self.operation.as_deref().map(|name| {
            let names = vec![Value::Str(name.into())];
            intrinsic(Intrinsic::Name, Test::Equal(names))
        }));
        let took = |test| intrinsic(Intrinsic::Duration, test);
        all.extend(
            self.min_ns
                .map(|ns| took(Test::GreaterEqual(Value::Int(ns)))),
        );
        all.extend(self.max_ns.map(|ns| took(Test::LessEqual(Value::Int(ns)))));
        all.extend(
            self.tags
                .iter()
                .map(|(key, value)| Tag::of(key, value).filter()),
        );
        Filter::And(all)
    }

    /// Whether a trace has a span that the search is for and that began in its range.
    pub(super) fn finds(&self, trace: &Trace) -> bool {
        let tags = self.tags.iter();
        let tags: Vec<Tag<'_>> = tags.map(|(key, value)| Tag::of(key, value)).collect();
        trace.spans().any(|(resource, scope, span)| {
            let is_in_range =
                i64::try_from(span.start_ns).is_ok_and(|start| self.range.contains(start));
            is_in_range
                && self.suits(resource, span)
                && tags.iter().all(|tag| tag.is_on(resource, scope, span))
        })
    }

    fn suits(&self, resource: &Resource, span: &Span) -> bool {
        let service = self.service.as_deref();
        let took = span.end_ns.saturating_sub(span.start_ns);
        let took = i64::try_from(took).unwrap_or(i64::MAX);
        service.is_none_or(|service| is_of_service(resource, service))
            && self
                .operation
                .as_ref()
                .is_none_or(|name| *name == span.name)
            && self.min_ns.is_none_or(|min| took >= min)
            && self.max_ns.is_none_or(|max| took <= max)
    }
}

fn is_of_service(resource: &Resource, service: &str) -> bool {
    match resource.service_name() {
        Some(name) => name == service,
        None => service == SERVICE_MISSING,
    }
}

/// Spans of a service, of which one stands for those that name none.
pub(super) fn of_service(service: &str) -> Filter {
    let is = |test| attribute(AttributeScope::Resource, tags::SERVICE, test);
    let named = is(Test::Equal(vec![Value::Str(service.into())]));
    match service == SERVICE_MISSING {
        true => Filter::Or(vec![named, is(Test::Missing)]),
        false => named,
    }
}

/// A condition on what is built in.
pub(super) fn intrinsic(intrinsic: Intrinsic, test: Test) -> Filter {
    let attribute = AttributeRef::Intrinsic(intrinsic);
    Filter::Is(Condition { attribute, test })
}

/// A condition on an attribute.
pub(super) fn attribute(scope: AttributeScope, key: &str, test: Test) -> Filter {
    let attribute = AttributeRef::Attribute {
        scope: Some(scope),
        key: key.to_owned(),
    };
    Filter::Is(Condition { attribute, test })
}

/// A tag that is searched for: its value as text and, where it can be, as the values of other types
/// that are written so.
#[derive(Debug)]
struct Tag<'a> {
    key: &'a str,
    text: &'a str,
    int: Option<i64>,
    float: Option<f64>,
    truth: Option<bool>,
}

/// A field that a tag may stand for, and what it must be.
#[derive(Debug, PartialEq)]
enum Field {
    /// One of these statuses.
    Status(&'static [i32]),
    StatusMessage,
    Kind(i32),
    ScopeName,
    ScopeVersion,
    EventName,
}

impl<'a> Tag<'a> {
    fn of(key: &'a str, text: &'a str) -> Self {
        Self {
            key,
            text,
            int: text.parse().ok(),
            float: text.parse().ok(),
            truth: text.parse().ok(),
        }
    }

    fn field(&self) -> Option<Field> {
        let status = || match self.text.to_ascii_uppercase().as_str() {
            "UNSET" => Some(Field::Status(&[0])),
            tags::STATUS_OK => Some(Field::Status(&[1])),
            tags::STATUS_ERROR => Some(Field::Status(&[STATUS_ERROR])),
            _ => None,
        };
        match self.key {
            tags::ERROR => match self.truth {
                Some(true) => Some(Field::Status(&[STATUS_ERROR])),
                Some(false) => Some(Field::Status(&[0, 1])),
                None => None,
            },
            tags::STATUS | SPAN_STATUS => status(),
            tags::STATUS_MESSAGE => Some(Field::StatusMessage),
            tags::KIND => {
                let kind = tags::kind_named(&self.text.to_ascii_lowercase());
                let kind = i32::from(kind);
                (kind != 0).then_some(Field::Kind(kind))
            }
            tags::SCOPE_NAME | tags::LIBRARY_NAME | PLAIN_SCOPE_NAME => Some(Field::ScopeName),
            tags::SCOPE_VERSION | tags::LIBRARY_VERSION | PLAIN_SCOPE_VERSION => {
                Some(Field::ScopeVersion)
            }
            tags::EVENT => Some(Field::EventName),
            _ => None,
        }
    }

    /// Where an attribute of the key counts, and the key.
    fn places(&self) -> impl Iterator<Item = (AttributeScope, &'a str)> {
        const ALL: [AttributeScope; 5] = [
            AttributeScope::Span,
            AttributeScope::Resource,
            AttributeScope::Event,
            AttributeScope::Link,
            AttributeScope::Instrumentation,
        ];
        let key = self.key;
        let own = key.strip_prefix(RESOURCE);
        let own = own.map(|key| (AttributeScope::Resource, key));
        ALL.into_iter().map(move |scope| (scope, key)).chain(own)
    }

    fn values(&self) -> Vec<Value> {
        let mut values = vec![Value::Str(Arc::from(self.text))];
        values.extend(self.int.map(Value::Int));
        values.extend(self.float.map(Value::Float));
        values.extend(self.truth.map(Value::Bool));
        values
    }

    fn filter(&self) -> Filter {
        let text = || Test::Equal(vec![Value::Str(Arc::from(self.text))]);
        let field = self.field().map(|field| match field {
            Field::Status(codes) => {
                let codes = codes.iter().map(|code| Value::Int((*code).into()));
                intrinsic(Intrinsic::Status, Test::Equal(codes.collect()))
            }
            Field::StatusMessage => intrinsic(Intrinsic::StatusMessage, text()),
            Field::Kind(kind) => {
                intrinsic(Intrinsic::Kind, Test::Equal(vec![Value::Int(kind.into())]))
            }
            Field::ScopeName => attribute(
                AttributeScope::Instrumentation,
                keys::INSTRUMENTATION_NAME,
                text(),
            ),
            Field::ScopeVersion => attribute(
                AttributeScope::Instrumentation,
                keys::INSTRUMENTATION_VERSION,
                text(),
            ),
            Field::EventName => attribute(AttributeScope::Event, keys::EVENT_NAME, text()),
        });
        let places = self.places();
        let places = places.map(|(scope, key)| attribute(scope, key, Test::Equal(self.values())));
        Filter::Or(field.into_iter().chain(places).collect())
    }

    fn is_on(&self, resource: &Resource, scope: &Scope, span: &Span) -> bool {
        let status = span.status.as_ref();
        let field = self.field().is_some_and(|field| match field {
            Field::Status(codes) => codes.contains(&status.map_or(0, |status| status.code)),
            Field::StatusMessage => status.is_some_and(|status| status.message == self.text),
            Field::Kind(kind) => span.kind == kind,
            Field::ScopeName => scope.name == self.text,
            Field::ScopeVersion => scope.version == self.text,
            Field::EventName => span.events.iter().any(|event| event.name == self.text),
        });
        let has = |attributes: &[KeyValue], key: &str| {
            let mut own = attributes.iter().filter(|pair| &*pair.key == key);
            own.any(|pair| self.is(&pair.value))
        };
        field
            || self.places().any(|(place, key)| match place {
                AttributeScope::Span => has(&span.attributes, key),
                AttributeScope::Resource => has(&resource.attributes, key),
                AttributeScope::Instrumentation => has(&scope.attributes, key),
                AttributeScope::Event => span.events.iter().any(|e| has(&e.attributes, key)),
                AttributeScope::Link => span.links.iter().any(|l| has(&l.attributes, key)),
            })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "the store compares integers and floats as floats"
    )]
    fn is(&self, value: &AnyValue) -> bool {
        match value {
            AnyValue::String(text) => text == self.text,
            AnyValue::Bool(truth) => self.truth == Some(*truth),
            AnyValue::Int(number) => {
                self.int == Some(*number) || self.float == Some(*number as f64)
            }
            AnyValue::Double(number) => self.float == Some(*number),
            AnyValue::Array(values) => values.iter().any(|value| self.is(value)),
            AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::KeyValues(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
