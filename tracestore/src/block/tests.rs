//! Blocks that are built and put together hold what went in, once and in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::build::{Input, Source};
use super::image::{Image, in_memory};
use crate::model::{AnyValue, KeyValue, Resource, Scope, Span, TraceId};
use crate::stage::Stage;

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
    }
}

fn value() -> impl Strategy<Value = AnyValue> {
    prop_oneof![
        "[ab]{0,2}".prop_map(AnyValue::String),
        any::<i64>().prop_map(AnyValue::Int),
        any::<bool>().prop_map(AnyValue::Bool),
        (-2i64..3).prop_map(AnyValue::Int),
        Just(AnyValue::Double(0.5)),
        Just(AnyValue::Empty),
        Just(AnyValue::Bytes(vec![0, 255])),
        Just(AnyValue::Array(vec![AnyValue::Int(1), AnyValue::Int(2)])),
        Just(AnyValue::Array(vec![
            AnyValue::Int(1),
            AnyValue::Bool(true)
        ])),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let one = ("[abc]", value()).prop_map(|(key, value)| pair(&key, value));
    prop::collection::vec(one, 0..5)
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (1u8..5, 1u8..7, 0u8..7, 0i32..4);
    (ids, 0u64..50, 0u64..9, attributes()).prop_map(|(ids, start_ns, took, attributes)| Span {
        trace_id: [ids.0; 16],
        span_id: [ids.1; 8],
        parent_span_id: (ids.2 > 0).then_some([ids.2; 8]),
        kind: ids.3,
        name: format!("span {}", ids.1),
        start_ns: 1_000 + start_ns,
        end_ns: 1_000 + start_ns + took,
        attributes,
        ..Span::default()
    })
}

fn stage(spans: &[Span]) -> Stage {
    let mut stage = Stage::default();
    for span in spans {
        let resource = Resource {
            attributes: vec![pair("service.name", AnyValue::String(span.name.clone()))],
            ..Resource::default()
        };
        stage.push(&resource, &Scope::default(), span);
    }
    stage
}

/// Traces with the ids and parents of their spans.
type Found = BTreeMap<TraceId, Vec<(u64, u64, i32, i64)>>;

fn found(image: &Image) -> Found {
    let mut all = Found::new();
    let traces = image.traces().unwrap();
    assert!(traces.is_sorted_by_key(|trace| (trace.start, trace.id)));
    for (place, trace) in traces.iter().enumerate() {
        assert_eq!(image.find(&trace.id).unwrap(), Some(place));
        let keys = image.span_keys(trace).unwrap();
        assert_eq!(
            trace.start,
            keys.iter().map(|(key, _)| key.start).min().unwrap()
        );
        assert_eq!(trace.end, keys.iter().map(|(_, end)| *end).max().unwrap());
        let mut spans: Vec<_> = keys
            .iter()
            .map(|(key, _)| (key.span_id, key.parent_id, key.kind, key.start))
            .collect();
        spans.sort_unstable();
        assert!(
            all.insert(trace.id, spans).is_none(),
            "a trace lies in one piece"
        );
    }
    assert_eq!(image.find(&[99; 16]).unwrap(), None);
    assert_eq!(image.check().unwrap(), image.spans.rows() as u64);
    all
}

fn naive(spans: &[Span]) -> Found {
    let mut all: BTreeMap<TraceId, BTreeMap<(u64, i32), (u64, i64)>> = BTreeMap::new();
    for span in spans {
        let parent = span.parent_span_id.map_or(0, u64::from_be_bytes);
        let id = (u64::from_be_bytes(span.span_id), span.kind);
        let trace = all.entry(span.trace_id).or_default();
        trace.entry(id).or_insert((parent, span.start_ns as i64));
    }
    let spans = |spans: BTreeMap<(u64, i32), (u64, i64)>| {
        let spans = spans
            .into_iter()
            .map(|((id, kind), (parent, start))| (id, parent, kind, start));
        let mut spans: Vec<_> = spans.collect();
        spans.sort_unstable();
        spans
    };
    all.into_iter()
        .map(|(id, held)| (id, spans(held)))
        .collect()
}

proptest! {
    #[test]
    fn spans_in_any_number_of_pieces_are_the_same_block(
        spans in prop::collection::vec(span(), 0..40),
        cuts in prop::collection::vec(0usize..40, 0..3),
    ) {
        let (whole, built, _) = in_memory(&[Input::all(Source::Stage(&stage(&spans)))], &|_| false).unwrap();
        let expected = naive(&spans);
        prop_assert_eq!(&found(&whole), &expected);
        prop_assert_eq!(built.traces as usize, expected.len());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(spans.len())).collect();
        cuts.sort_unstable();
        let mut images = Vec::new();
        let mut first = 0;
        for end in cuts.into_iter().chain([spans.len()]) {
            let stage = stage(&spans[first..end]);
            images.push(in_memory(&[Input::all(Source::Stage(&stage))], &|_| false).unwrap().0);
            first = end;
        }
        let inputs: Vec<_> = images.iter().map(|image| Input::all(Source::Image(image))).collect();
        let (merged, again, _) = in_memory(&inputs, &|_| false).unwrap();
        prop_assert_eq!(&found(&merged), &expected);
        prop_assert_eq!(again, built);
    }
}
