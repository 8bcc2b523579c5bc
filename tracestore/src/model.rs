//! Spans as OpenTelemetry defines them: everything that arrives comes back unchanged.
//!
//! Source of the model: opentelemetry-proto, `trace/v1/trace.proto` and `common/v1/common.proto`.

pub(crate) mod codec;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use codec::{DEPTH_MAX, each_element};

/// The id of a trace: sixteen bytes, not all zero.
pub type TraceId = [u8; 16];
/// The id of a span: eight bytes, not all zero.
pub type SpanId = [u8; 8];

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyValue {
    /// No value.
    Empty,
    /// Text.
    String(String),
    /// A truth value.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// A float, kept bit by bit.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values of any kinds.
    Array(Vec<AnyValue>),
    /// Named values.
    KeyValues(Vec<KeyValue>),
}

/// A named value.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValue {
    /// The name. Spans of a store that have one in common share it.
    pub key: Arc<str>,
    /// The value.
    pub value: AnyValue,
}

/// What sent spans: a service, a host, a process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    /// Its attributes, in order of arrival.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// The schema of the attributes.
    pub schema_url: String,
}

/// The instrumentation that made spans.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes, in order of arrival.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// The schema of the spans' attributes.
    pub schema_url: String,
}

/// One operation of a trace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// W3C trace state.
    pub trace_state: String,
    /// The span that started it, if there is one.
    pub parent_span_id: Option<SpanId>,
    /// Its name.
    pub name: String,
    /// Its kind, as OTLP numbers them: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer,
    /// 5 consumer.
    pub kind: i32,
    /// When it began, nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended, nanoseconds since 1970.
    pub end_ns: u64,
    /// Its attributes, in order of arrival.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// What happened during it.
    pub events: Vec<Event>,
    /// How many events the sender left out.
    pub dropped_events_count: u32,
    /// Spans that it has to do with.
    pub links: Vec<Link>,
    /// How many links the sender left out.
    pub dropped_links_count: u32,
    /// How it ended, if the sender said so.
    pub status: Option<Status>,
    /// W3C trace flags.
    pub flags: u32,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// 0 unset, 1 ok, 2 error.
    pub code: i32,
    /// What went wrong.
    pub message: String,
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// When, nanoseconds since 1970.
    pub time_ns: u64,
    /// What.
    pub name: String,
    /// Its attributes, in order of arrival.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
}

/// A span that another one has to do with. Its ids are kept as they came, also when they are no
/// ids.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Link {
    /// The other trace.
    pub trace_id: Vec<u8>,
    /// The other span.
    pub span_id: Vec<u8>,
    /// W3C trace state.
    pub trace_state: String,
    /// Its attributes, in order of arrival.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// W3C trace flags.
    pub flags: u32,
}

/// A trace as it is stored: spans under their scopes under their resources, in order of arrival.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// The resources.
    pub resources: Vec<ResourceSpans>,
}

/// The spans of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceSpans {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Its scopes.
    pub scopes: Vec<ScopeSpans>,
}

/// The spans of one scope.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeSpans {
    /// The scope.
    pub scope: Arc<Scope>,
    /// Its spans.
    pub spans: Vec<Span>,
}

impl AnyValue {
    /// Whether two values are the same bit by bit: equal floats may not be.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is(b))
            }
            (Self::KeyValues(a), Self::KeyValues(b)) => are_same(a, b),
            _ => self == other,
        }
    }
}

fn are_same(a: &[KeyValue], b: &[KeyValue]) -> bool {
    let same = |(a, b): (&KeyValue, &KeyValue)| a.key == b.key && a.value.is(&b.value);
    a.len() == b.len() && a.iter().zip(b).all(same)
}

impl Scope {
    fn is(&self, other: &Self) -> bool {
        self.dropped_attributes_count == other.dropped_attributes_count
            && (&self.name, &self.version) == (&other.name, &other.version)
            && self.schema_url == other.schema_url
            && are_same(&self.attributes, &other.attributes)
    }
}

impl Resource {
    fn is(&self, other: &Self) -> bool {
        self.dropped_attributes_count == other.dropped_attributes_count
            && self.schema_url == other.schema_url
            && are_same(&self.attributes, &other.attributes)
    }

    /// The value of `service.name`, when it is text.
    pub fn service_name(&self) -> Option<&str> {
        self.attributes
            .iter()
            .find_map(|attribute| match &attribute.value {
                AnyValue::String(name) if &*attribute.key == "service.name" => Some(name.as_str()),
                _ => None,
            })
    }
}

/// A trace whose spans are being put under their resources and scopes; equal ones are shared.
#[derive(Debug, Default)]
pub(crate) struct Grouped {
    trace: Trace,
    /// Where the spans of a resource and a scope go, by where these two are in memory; so they are
    /// kept.
    known: HashMap<(usize, usize), Known>,
}

#[derive(Debug)]
struct Known {
    _kept: (Arc<Resource>, Arc<Scope>),
    place: (usize, usize),
}

impl Grouped {
    /// Adds a span.
    pub(crate) fn push(&mut self, resource: Arc<Resource>, scope: Arc<Scope>, span: Span) {
        let key = (
            Arc::as_ptr(&resource) as usize,
            Arc::as_ptr(&scope) as usize,
        );
        let (resource_at, scope_at) = match self.known.get(&key) {
            Some(known) => known.place,
            None => {
                let place = self.trace.place(&resource, &scope);
                let _kept = (resource, scope);
                self.known.insert(key, Known { _kept, place });
                place
            }
        };
        self.trace.resources[resource_at].scopes[scope_at]
            .spans
            .push(span);
    }

    /// The trace.
    pub(crate) fn finish(self) -> Trace {
        self.trace
    }
}

impl Trace {
    /// Where spans of a resource and a scope go, among resources and among the scopes of that one.
    fn place(&mut self, resource: &Arc<Resource>, scope: &Arc<Scope>) -> (usize, usize) {
        let same =
            |r: &ResourceSpans| Arc::ptr_eq(&r.resource, resource) || r.resource.is(resource);
        let resources = &mut self.resources;
        let at = resources.iter().position(same).unwrap_or_else(|| {
            resources.push(ResourceSpans {
                resource: Arc::clone(resource),
                scopes: Vec::new(),
            });
            resources.len() - 1
        });
        let scopes = &mut resources[at].scopes;
        let same = |s: &ScopeSpans| Arc::ptr_eq(&s.scope, scope) || s.scope.is(scope);
        let scope_at = scopes.iter().position(same).unwrap_or_else(|| {
            scopes.push(ScopeSpans {
                scope: Arc::clone(scope),
                spans: Vec::new(),
            });
            scopes.len() - 1
        });
        (at, scope_at)
    }

    /// All spans with their resources and scopes.
    pub fn spans(&self) -> impl Iterator<Item = (&Arc<Resource>, &Arc<Scope>, &Span)> {
        self.resources.iter().flat_map(|r| {
            let scopes = r.scopes.iter();
            scopes.flat_map(move |s| {
                s.spans
                    .iter()
                    .map(move |span| (&r.resource, &s.scope, span))
            })
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
