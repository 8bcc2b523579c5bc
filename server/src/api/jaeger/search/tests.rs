//! The filter that the store is given against the test of single spans.

use std::collections::BTreeSet;

use proptest::prelude::*;
use trine_tracestore::{
    Batch, Durability, Event, Link, Request, Rows, Status, TraceFilter, TraceId, TraceStore,
};

use super::*;

const KEYS: [&str; 8] = [
    "a",
    "error",
    "span.kind",
    "event",
    "otel.status_code",
    "otel.scope.name",
    "service.name",
    "resource.a",
];
const VALUES: [&str; 12] = [
    "x", "1", "1.0", "0.5", "true", "false", "server", "ERROR", "OK", "lib", "s", "",
];

fn any_value() -> impl Strategy<Value = AnyValue> {
    let text = prop::sample::select(&VALUES[..]).prop_map(|text| AnyValue::String(text.to_owned()));
    prop_oneof![
        3 => text.clone(),
        1 => any::<bool>().prop_map(AnyValue::Bool),
        1 => (0i64..3).prop_map(AnyValue::Int),
        1 => prop::sample::select(vec![0.5, 1.0, f64::NAN]).prop_map(AnyValue::Double),
        1 => Just(AnyValue::Bytes(b"x".to_vec())),
        1 => prop::collection::vec(text, 1..3).prop_map(AnyValue::Array),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop::sample::select(vec!["a", "error", "event", "span.kind", "resource.a"]);
    let pairs = prop::collection::btree_map(key, any_value(), 0..3);
    pairs.prop_map(|pairs| {
        let pair = |(key, value): (&str, AnyValue)| KeyValue {
            key: key.into(),
            value,
        };
        pairs.into_iter().map(pair).collect()
    })
}

type Sent = (Resource, Scope, Span);

fn sent() -> impl Strategy<Value = Sent> {
    let service = prop::option::of(prop::sample::select(vec!["s", "t", ""]));
    let of_resource = (service, attributes()).prop_map(|(service, mut attributes)| {
        attributes.extend(service.map(|name| KeyValue {
            key: tags::SERVICE.into(),
            value: AnyValue::String(name.to_owned()),
        }));
        Resource {
            attributes,
            ..Resource::default()
        }
    });
    let of_scope = (any::<bool>(), attributes()).prop_map(|(named, attributes)| Scope {
        name: if named { "lib" } else { "" }.to_owned(),
        attributes,
        ..Scope::default()
    });
    let ids = (1u8..5, 1u8..200, 0u64..4, 0u64..4, 0i32..6, 0i32..3);
    let parts = (attributes(), attributes(), attributes(), any::<bool>());
    let of_span = (ids, parts).prop_map(|(ids, (own, of_event, of_link, named))| {
        let (trace, id, start, took, kind, code) = ids;
        let second = 1_000_000_000;
        Span {
            trace_id: [trace; 16],
            span_id: [id; 8],
            name: if named { "x" } else { "y" }.to_owned(),
            kind,
            start_ns: start * second,
            end_ns: (start + took) * second,
            attributes: own,
            events: vec![Event {
                name: if named { "x" } else { "" }.to_owned(),
                attributes: of_event,
                ..Event::default()
            }],
            links: vec![Link {
                attributes: of_link,
                ..Link::default()
            }],
            status: Some(Status {
                code,
                message: String::new(),
            }),
            ..Span::default()
        }
    });
    (of_resource, of_scope, of_span)
}

fn search() -> impl Strategy<Value = Search> {
    let tag = (
        prop::sample::select(&KEYS[..]),
        prop::sample::select(&VALUES[..]),
    );
    let tag = tag.prop_map(|(key, value)| (key.to_owned(), value.to_owned()));
    let service = prop::sample::select(vec!["s", "t", SERVICE_MISSING]);
    let seconds = || prop::option::of((0i64..4).prop_map(|seconds| seconds * 1_000_000_000));
    let filters = (
        prop::option::of(service),
        prop::option::of(prop::sample::select(vec!["x", "y"])),
        prop::collection::vec(tag, 0..2),
    );
    (filters, seconds(), seconds(), 0i64..4, 0i64..4).prop_map(
        |((service, operation, tags), min_ns, max_ns, start, length)| Search {
            service: service.map(str::to_owned),
            operation: operation.map(str::to_owned),
            tags,
            range: TimeRange::new(start * 1_000_000_000, (start + length) * 1_000_000_000),
            min_ns,
            max_ns,
            limit: 100,
        },
    )
}

fn found(store: &TraceStore, search: &Search, range: TimeRange) -> BTreeSet<TraceId> {
    let request = Request::Rows(Rows {
        range,
        filter: TraceFilter::Has(search.filter()),
        projection: Vec::new(),
        enough: usize::MAX,
    });
    let mut ids = BTreeSet::new();
    for batch in store.snapshot().scan(&request).unwrap() {
        if let Batch::Spans(batch) = batch.unwrap() {
            ids.extend(batch.traces.iter().map(|rows| rows.id));
        }
    }
    ids
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_store_finds_what_a_look_at_each_span_finds(
        spans in prop::collection::vec(sent(), 1..12),
        searches in prop::collection::vec(search(), 8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = TraceStore::open(dir.path().join("t")).unwrap();
        let mut appender = store.appender();
        for (resource, scope, span) in spans {
            appender.append(&Arc::new(resource), &Arc::new(scope), span);
        }
        appender.commit(Durability::Synced).unwrap().wait().unwrap();
        let snapshot = store.snapshot();
        let traces: Vec<Trace> =
            (1..5).filter_map(|id| snapshot.trace([id; 16]).unwrap()).collect();
        let naive = |search: &Search| -> BTreeSet<TraceId> {
            let suits = traces.iter().filter(|trace| search.finds(trace));
            suits.filter_map(|trace| Some(trace.spans().next()?.2.trace_id)).collect()
        };
        for search in searches {
            let always = Search { range: TimeRange::ALL, ..search.clone() };
            prop_assert_eq!(found(&store, &always, TimeRange::ALL), naive(&always), "{:?}", always);
            // Of a trace with a span in the range the store looks at all.
            let (at_least, given) = (naive(&search), found(&store, &search, search.range));
            prop_assert!(given.is_superset(&at_least), "{:?}: {:?} {:?}", search, given, at_least);
        }
    }
}
