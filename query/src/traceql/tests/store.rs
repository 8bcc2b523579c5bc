//! The same queries over the same spans in the trace store: the adapter, and memory and blocks.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::Error;
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_tracestore::{
    AnyValue, Config, Durability, Event, KeyValue, Link, Resource, Scope as Instrumentation, Span,
    Status, TraceStore,
};

use super::matches::MATCHES;
use super::*;
use crate::traceql::source::{Batches, Request, TraceFilter, ValuesRequest};

fn any_value(value: &Value) -> AnyValue {
    match value {
        Value::Str(text) => AnyValue::String(text.to_string()),
        Value::Int(number) => AnyValue::Int(*number),
        Value::Float(number) => AnyValue::Double(*number),
        Value::Bool(truth) => AnyValue::Bool(*truth),
        Value::Array(values) => AnyValue::Array(values.iter().map(any_value).collect()),
    }
}

/// The attributes of one scope; the names of events and the ids of links are no attributes.
fn attributes(span: &memory::Span, scope: Scope) -> Vec<KeyValue> {
    span.attributes
        .iter()
        .filter(|(held, key, _)| *held == scope && !key.contains(':'))
        .map(|(_, key, value)| KeyValue {
            key: (*key).into(),
            value: any_value(value),
        })
        .collect()
}

fn to_stored(span: &memory::Span) -> Span {
    let start_ns = u64::try_from(span.start()).unwrap();
    let event = |(_, _, name): &(Scope, &str, Value)| Event {
        name: match name {
            Value::Str(name) => name.to_string(),
            other => panic!("the name of an event is {other:?}"),
        },
        ..Event::default()
    };
    let names = span
        .attributes
        .iter()
        .filter(|(_, key, _)| *key == keys::EVENT_NAME);
    let mut events: Vec<Event> = names.map(event).collect();
    if let Some(event) = events.first_mut() {
        event.attributes = attributes(span, Scope::Event);
    }
    let linked = span.attribute(Some(Scope::Link), keys::LINK_SPAN_ID);
    let links = linked.map(|_| Link {
        trace_id: vec![9; 16],
        span_id: vec![9; 8],
        attributes: attributes(span, Scope::Link),
        ..Link::default()
    });
    Span {
        trace_id: [span.trace; 16],
        span_id: [span.id; 8],
        parent_span_id: (span.parent != 0).then_some([span.parent; 8]),
        name: span.name.into(),
        kind: span.kind.into(),
        start_ns,
        end_ns: start_ns + span.nanoseconds(),
        attributes: attributes(span, Scope::Span),
        events,
        links: links.into_iter().collect(),
        status: (span.status != 0).then(|| Status {
            code: span.status.into(),
            message: span.message.into(),
        }),
        ..Span::default()
    }
}

fn store() -> TraceStore {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let builder = TraceStore::builder(Path::new("store"))
        .config(config)
        .fs(Arc::new(SimFs::new()));
    let store = builder.shared(Shared::without_workers()).open().unwrap();
    let library = Arc::new(Instrumentation {
        name: "lib".into(),
        ..Default::default()
    });
    let mut appender = store.appender();
    for span in shop() {
        let resource = Arc::new(Resource {
            attributes: attributes(&span, Scope::Resource),
            ..Resource::default()
        });
        appender.append(&resource, &library, to_stored(&span));
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store
}

/// A source that is not told the filter.
struct Unfiltered<'a>(&'a dyn Source);

impl Source for Unfiltered<'_> {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let mut request = request.clone();
        if let Request::Rows(rows) = &mut request {
            rows.filter = TraceFilter::All;
        }
        self.0.scan(&request)
    }
    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
        self.0.attribute_names(range)
    }
    fn attribute_values(&self, request: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
        self.0.attribute_values(request)
    }
}

#[test]
fn the_store_answers_from_memory_and_from_blocks_as_a_vector_does() {
    let store = store();
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        let snapshot = store.snapshot();
        check_matches(&snapshot, MATCHES);
        check_matches(&Unfiltered(&snapshot), MATCHES);
    }
}

thread_local! {
    pub(super) static STORE: TraceStore = store();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What the store skips is never what the query wants.
    #[test]
    fn conditions_lose_nothing_in_the_store(
        left in properties::filter(),
        right in properties::filter(),
        op in "&&|\\|\\||>|>>|!>|&>|~",
    ) {
        STORE.with(|store| {
            let snapshot = store.snapshot();
            for query in [format!("{{ {left} }}"), format!("{{ {left} }} {op} {{ {right} }}")] {
                let found = search(&snapshot, &query).map(|found| found.traces);
                let unfiltered = search(&Unfiltered(&snapshot), &query).map(|found| found.traces);
                prop_assert_eq!(found, unfiltered, "{}", query);
            }
            Ok(())
        })?;
    }
}
