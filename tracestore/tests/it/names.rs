//! Names and values of attributes, from memory and from blocks.

use trine_storage::TimeRange;
use trine_storage::sim::SimFs;
use trine_tracestore::{
    AnyValue, AttributeRef, AttributeScope, Condition, Durability, Filter, Intrinsic, KeyValue,
    Scope, Snapshot, Test, TraceStore, Value, ValuesRequest,
};

use crate::store::{NOW_NS, SECOND, open, service, span, text};

fn fill(store: &TraceStore) {
    let now = NOW_NS as u64 / SECOND;
    let mut appender = store.appender();
    for (trace, id, of, method, code) in [
        (1, 1, "shop", "GET", 200),
        (1, 2, "shop", "PUT", 500),
        (2, 1, "bank", "GET", 200),
    ] {
        let mut span = span(trace, id, 0, &format!("{method} /"), now - 10);
        let codes = [code, code + 1].map(AnyValue::Int).to_vec();
        span.attributes = vec![
            text("method", method),
            KeyValue {
                key: "codes".into(),
                value: AnyValue::Array(codes),
            },
            KeyValue {
                key: "seen by nobody".into(),
                value: AnyValue::Bytes(vec![1]),
            },
        ];
        appender.append(&service(of), &Scope::default().into(), span);
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
}

fn values(snapshot: &Snapshot, attribute: AttributeRef, filter: Option<Filter>) -> String {
    let request = ValuesRequest {
        attribute,
        range: TimeRange::ALL,
        filter,
        limit: 10,
    };
    let mut found: Vec<String> = snapshot
        .attribute_values(&request)
        .unwrap()
        .into_iter()
        .map(|(value, count)| match value {
            Value::Str(text) => format!("{text} {count}"),
            Value::Int(number) => format!("{number} {count}"),
            other => panic!("{other:?}"),
        })
        .collect();
    found.sort();
    found.join(", ")
}

#[test]
fn names_and_values_have_counts() {
    let store = open(&SimFs::new());
    fill(&store);
    let attribute = |scope, key: &str| AttributeRef::Attribute {
        scope,
        key: key.into(),
    };
    let of_shop = || {
        Filter::Is(Condition {
            attribute: attribute(Some(AttributeScope::Resource), "service.name"),
            test: Test::Equal(vec![Value::Str("shop".into())]),
        })
    };
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        let snapshot = store.snapshot();
        let names = snapshot.attribute_names(TimeRange::ALL).unwrap();
        let told: Vec<(AttributeScope, &str, u64)> = names
            .iter()
            .map(|(scope, name, count)| (*scope, name.as_str(), *count))
            .collect();
        let expected = [
            (AttributeScope::Resource, "service.name", 3),
            (AttributeScope::Span, "codes", 3),
            (AttributeScope::Span, "method", 3),
        ];
        assert_eq!(told, expected);
        let nothing = snapshot.attribute_names(TimeRange::new(0, 1)).unwrap();
        assert!(nothing.is_empty(), "{nothing:?}");
        for (attribute, filter, expected) in [
            (attribute(None, "service.name"), None, "bank 1, shop 2"),
            (
                attribute(Some(AttributeScope::Span), "method"),
                None,
                "GET 2, PUT 1",
            ),
            (attribute(None, "method"), Some(of_shop()), "GET 1, PUT 1"),
            (attribute(None, "codes"), None, "200 2, 201 2, 500 1, 501 1"),
            (attribute(None, "seen by nobody"), None, ""),
            (attribute(None, "none"), None, ""),
            (
                AttributeRef::Intrinsic(Intrinsic::Name),
                None,
                "GET / 2, PUT / 1",
            ),
            (
                AttributeRef::Intrinsic(Intrinsic::RootServiceName),
                None,
                "bank 1, shop 2",
            ),
            (
                AttributeRef::Intrinsic(Intrinsic::Kind),
                Some(of_shop()),
                "2 2",
            ),
        ] {
            assert_eq!(
                values(&snapshot, attribute.clone(), filter),
                expected,
                "{attribute:?}"
            );
        }
    }
}
