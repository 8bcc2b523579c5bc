use proptest::prelude::*;

use super::codec::DEPTH_MAX;
use super::*;
use trine_storage::codec::Reader;

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(AnyValue::Empty),
        "\\PC{0,8}".prop_map(AnyValue::String),
        any::<bool>().prop_map(AnyValue::Bool),
        any::<i64>().prop_map(AnyValue::Int),
        any::<f64>()
            .prop_filter("NaN is not equal to itself", |f| !f.is_nan())
            .prop_map(AnyValue::Double),
        any::<Vec<u8>>().prop_map(AnyValue::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let pairs = prop::collection::vec(("[a-z]{0,3}", inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(AnyValue::Array),
            pairs.prop_map(|pairs| AnyValue::KeyValues(
                pairs
                    .into_iter()
                    .map(|(key, value)| KeyValue { key, value })
                    .collect()
            )),
        ]
    })
}

pub(crate) fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = ("[a-z.]{0,4}", any_value()).prop_map(|(key, value)| KeyValue { key, value });
    prop::collection::vec(pair, 0..4)
}

pub(crate) fn span() -> impl Strategy<Value = Span> {
    let ids = (
        any::<[u8; 16]>(),
        any::<[u8; 8]>(),
        any::<Option<[u8; 8]>>(),
    );
    let texts = ("\\PC{0,6}", "\\PC{0,6}");
    let numbers = (any::<i32>(), any::<u64>(), any::<u64>(), any::<[u32; 4]>());
    let event = (any::<u64>(), "\\PC{0,4}", attributes(), any::<u32>());
    let link = (
        any::<Vec<u8>>(),
        any::<Vec<u8>>(),
        attributes(),
        any::<[u32; 2]>(),
    );
    let status = prop::option::of((any::<i32>(), "\\PC{0,6}"));
    let lists = (
        prop::collection::vec(event, 0..3),
        prop::collection::vec(link, 0..3),
    );
    (ids, texts, numbers, attributes(), lists, status).prop_map(
        |(ids, texts, (kind, start_ns, end_ns, counts), attributes, (events, links), status)| {
            Span {
                trace_id: ids.0,
                span_id: ids.1,
                parent_span_id: ids.2,
                trace_state: texts.0,
                name: texts.1,
                kind,
                start_ns,
                end_ns,
                attributes,
                dropped_attributes_count: counts[0],
                events: events
                    .into_iter()
                    .map(
                        |(time_ns, name, attributes, dropped_attributes_count)| Event {
                            time_ns,
                            name,
                            attributes,
                            dropped_attributes_count,
                        },
                    )
                    .collect(),
                dropped_events_count: counts[1],
                links: links
                    .into_iter()
                    .map(|(trace_id, span_id, attributes, numbers)| Link {
                        trace_id,
                        span_id,
                        trace_state: String::new(),
                        attributes,
                        dropped_attributes_count: numbers[0],
                        flags: numbers[1],
                    })
                    .collect(),
                dropped_links_count: counts[2],
                status: status.map(|(code, message)| Status { code, message }),
                flags: counts[3],
            }
        },
    )
}

#[test]
fn values_may_be_nested_as_deep_as_the_limit_and_no_deeper() {
    let nested =
        |depth: usize| (0..depth).fold(AnyValue::Int(1), |value, _| AnyValue::Array(vec![value]));
    let with = |depth| Span {
        attributes: vec![KeyValue {
            key: "a".into(),
            value: nested(depth),
        }],
        ..Span::default()
    };
    let decode = |span: &Span| {
        let mut bytes = Vec::new();
        encode_span(&mut bytes, span);
        decode_span(&mut Reader::new("test", &bytes))
    };
    assert_eq!(decode(&with(DEPTH_MAX)).unwrap(), with(DEPTH_MAX));
    assert!(decode(&with(DEPTH_MAX + 1)).is_err());
}

proptest! {
    #[test]
    fn spans_come_back_unchanged(span in span()) {
        let mut bytes = Vec::new();
        encode_span(&mut bytes, &span);
        prop_assert_eq!(decode_span(&mut Reader::new("test", &bytes)).unwrap(), span);
        for cut in 0..bytes.len() {
            prop_assert!(decode_span(&mut Reader::new("test", &bytes[..cut])).is_err());
        }
    }

    #[test]
    fn resources_and_scopes_come_back_unchanged(attributes in attributes(), dropped: u32, text in "\\PC{0,9}") {
        let resource = Resource {
            attributes: attributes.clone(),
            dropped_attributes_count: dropped,
            schema_url: text.clone(),
        };
        let mut bytes = Vec::new();
        encode_resource(&mut bytes, &resource);
        prop_assert_eq!(decode_resource(&mut Reader::new("test", &bytes)).unwrap(), resource);
        let scope = Scope {
            name: text.clone(),
            version: text.clone(),
            attributes,
            dropped_attributes_count: dropped,
            schema_url: text,
        };
        bytes.clear();
        encode_scope(&mut bytes, &scope);
        prop_assert_eq!(decode_scope(&mut Reader::new("test", &bytes)).unwrap(), scope);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        decode_span(&mut Reader::new("test", &bytes)).ok();
        decode_resource(&mut Reader::new("test", &bytes)).ok();
        decode_scope(&mut Reader::new("test", &bytes)).ok();
    }
}
