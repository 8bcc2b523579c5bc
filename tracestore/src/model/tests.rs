use proptest::prelude::*;

use super::*;
use trine_storage::Kind;
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
                    .map(|(key, value)| KeyValue {
                        key: key.into(),
                        value
                    })
                    .collect()
            )),
        ]
    })
}

pub(crate) fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = ("[a-z.]{0,4}", any_value()).prop_map(|(key, value)| KeyValue {
        key: key.into(),
        value,
    });
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
    let nested = |depth: usize| [[codec::ARRAY, 1].repeat(depth), vec![codec::TRUE]].concat();
    let read = |depth| codec::value(&mut Reader::new("test", &nested(depth)), 0);
    let deep = (0..DEPTH_MAX).fold(AnyValue::Bool(true), |value, _| {
        AnyValue::Array(vec![value])
    });
    assert_eq!(read(DEPTH_MAX).unwrap(), deep);
    assert!(read(DEPTH_MAX + 1).is_err());
}

/// The bytes written down in FORMAT.md, "Value".
#[test]
fn golden_bytes() {
    let pair = |key: &str, value| KeyValue {
        key: key.into(),
        value,
    };
    let bytes = [
        8, 8, 1, b'e', 0, 1, b't', 1, 2, b'h', b'i', 1, b'f', 2, 1, b't', 3, 1, b'i', 4, 3, 1,
        b'd', 5, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 1, b'b', 6, 2, 0, 255, 1, b'a', 7, 2, 4, 2, 3,
    ];
    let expected = AnyValue::KeyValues(vec![
        pair("e", AnyValue::Empty),
        pair("t", AnyValue::String("hi".into())),
        pair("f", AnyValue::Bool(false)),
        pair("t", AnyValue::Bool(true)),
        pair("i", AnyValue::Int(-2)),
        pair("d", AnyValue::Double(0.5)),
        pair("b", AnyValue::Bytes(vec![0, 255])),
        pair(
            "a",
            AnyValue::Array(vec![AnyValue::Int(1), AnyValue::Bool(true)]),
        ),
    ]);
    assert_eq!(
        codec::value(&mut Reader::new("test", &bytes), 0).unwrap(),
        expected
    );
    for cut in 0..bytes.len() {
        let error = codec::value(&mut Reader::new("test", &bytes[..cut]), 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        codec::value(&mut Reader::new("test", &bytes), 0).ok();
    }
}
