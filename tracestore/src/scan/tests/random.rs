//! Random spans and filters for the tests of reads.

use proptest::prelude::*;
use trine_storage::TimeRange;
use trine_storage::regex::LabelRegex;

use super::naive::{Held, hex};
use crate::model::{
    AnyValue, Event, KeyValue, Link, Resource, Scope as Instrumentation, Span, Status,
};
use crate::request::{
    AttributeRef, Condition, Filter, Intrinsic, Measure, Relation, Scope, Test, TraceFilter, Value,
    keys,
};

/// The name of one of so many keys: few are frequent, many are rare.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "service.name"]).prop_map(str::to_owned),
        1 => (0u32..700).prop_map(|number| format!("k{number}")),
    ]
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let scalar = prop_oneof![
        "[xy]{0,2}".prop_map(AnyValue::String),
        (0i64..4).prop_map(AnyValue::Int),
        prop::sample::select(vec![0.0, -0.0, 0.5, 2.0, f64::NAN, f64::INFINITY])
            .prop_map(AnyValue::Double),
        any::<bool>().prop_map(AnyValue::Bool),
        prop::sample::select(vec![i64::MIN, i64::MAX, (1 << 53) + 1]).prop_map(AnyValue::Int),
    ];
    let mixed = prop::collection::vec(scalar.clone(), 0..3).prop_map(AnyValue::Array);
    let numbers = prop::collection::vec((0i64..4).prop_map(AnyValue::Int), 1..3);
    let texts = prop::collection::vec("[xy]".prop_map(AnyValue::String), 1..3);
    prop_oneof![
        8 => scalar,
        1 => mixed,
        1 => numbers.prop_map(AnyValue::Array),
        1 => texts.prop_map(AnyValue::Array),
        1 => Just(AnyValue::Bytes(vec![7])),
        1 => Just(AnyValue::Empty),
    ]
}

fn attributes(most: usize) -> impl Strategy<Value = Vec<KeyValue>> {
    let one = (key(), any_value()).prop_map(|(key, value)| KeyValue {
        key: key.into(),
        value,
    });
    prop::collection::vec(one, 0..=most)
}

fn event() -> impl Strategy<Value = Event> {
    ("[ef]", 0u64..20, attributes(2)).prop_map(|(name, after, attributes)| Event {
        time_ns: 1_000 + after,
        name,
        attributes,
        dropped_attributes_count: 1,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (0u8..3, attributes(1)).prop_map(|(id, attributes)| Link {
        trace_id: vec![0xf0 | id; 16],
        span_id: vec![id; usize::from(id)],
        trace_state: "s".into(),
        attributes,
        flags: id.into(),
        ..Link::default()
    })
}

pub(super) fn held() -> impl Strategy<Value = Held> {
    let ids = (1u8..6, 1u8..8, 0u8..9, -1i32..8);
    // Spans that come twice begin at one time: the order of traces is told by it.
    let start = |(trace, id, _, kind): (u8, u8, u8, i32)| {
        let kind = if (0..=5).contains(&kind) {
            kind as u64
        } else {
            0
        };
        1_000 + (u64::from(trace) * 17 + u64::from(id) * 23 + kind * 7) % 60
    };
    let took = -2i64..9;
    let status = prop::option::of((-1i32..4, "[mn]?"));
    let children = (
        prop::collection::vec(event(), 0..3),
        prop::collection::vec(link(), 0..2),
    );
    let under = (attributes(2), attributes(1), 0u8..2);
    (ids, took, "[pqr]", attributes(4), status, children, under).prop_map(
        move |(ids, took, name, attributes, status, (events, links), under)| Held {
            resource: Resource {
                attributes: under.0,
                dropped_attributes_count: under.2.into(),
                schema_url: "u".into(),
            },
            scope: Instrumentation {
                name: format!("lib{}", under.2),
                attributes: under.1,
                ..Instrumentation::default()
            },
            span: Span {
                trace_id: [ids.0; 16],
                span_id: [ids.1; 8],
                parent_span_id: (ids.2 > 0).then_some([ids.2; 8]),
                kind: ids.3,
                name,
                start_ns: start(ids),
                end_ns: (start(ids) as i64 + took) as u64,
                attributes,
                events,
                links,
                status: status.map(|(code, message)| Status { code, message }),
                flags: 1,
                ..Span::default()
            },
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[xypqe]{0,2}".prop_map(|text| Value::Str(text.into())),
        (-1i64..5).prop_map(Value::Int),
        Just(Value::Int((1 << 53) + 1)),
        prop::sample::select(vec![0.0, 0.5, 1.5, 2.0, 9_007_199_254_740_992.0, f64::NAN])
            .prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
        prop::sample::select(vec![
            "lib1",
            "0303030303030303",
            "0101",
            "f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1"
        ])
        .prop_map(|text| Value::Str(text.into())),
        (1u8..6).prop_map(|id| Value::Str(hex(&[id; 16]).as_str().into())),
    ]
}

pub(super) fn test() -> impl Strategy<Value = Test> {
    let regex = prop::sample::select(vec!["x.*", "[xp]", "y|q|e", ".*", "lib0", "0[0-3].*", ""]);
    let regex = regex.prop_map(|pattern| LabelRegex::new(pattern).unwrap());
    prop_oneof![
        4 => prop::collection::vec(value(), 0..3).prop_map(Test::Equal),
        2 => prop::collection::vec(value(), 0..3).prop_map(Test::NotEqual),
        1 => value().prop_map(Test::Less),
        1 => value().prop_map(Test::LessEqual),
        1 => value().prop_map(Test::Greater),
        1 => value().prop_map(Test::GreaterEqual),
        1 => regex.clone().prop_map(Test::Matches),
        1 => regex.prop_map(Test::NotMatches),
        1 => Just(Test::Exists),
        1 => Just(Test::Missing),
    ]
}

pub(super) fn attribute() -> impl Strategy<Value = AttributeRef> {
    let intrinsics = vec![
        Intrinsic::Duration,
        Intrinsic::Name,
        Intrinsic::Status,
        Intrinsic::StatusMessage,
        Intrinsic::Kind,
        Intrinsic::SpanId,
        Intrinsic::ParentId,
        Intrinsic::TraceId,
        Intrinsic::IsRoot,
        Intrinsic::TraceDuration,
        Intrinsic::RootName,
        Intrinsic::RootServiceName,
        Intrinsic::ChildCount,
    ];
    let scope = prop::sample::select(vec![
        None,
        Some(Scope::Span),
        Some(Scope::Resource),
        Some(Scope::Event),
        Some(Scope::Link),
        Some(Scope::Instrumentation),
    ]);
    let named = (scope, key()).prop_map(|(scope, key)| AttributeRef::Attribute { scope, key });
    let known = prop::sample::select(vec![
        (Scope::Event, keys::EVENT_NAME),
        (Scope::Event, keys::EVENT_TIME_SINCE_START),
        (Scope::Link, keys::LINK_TRACE_ID),
        (Scope::Link, keys::LINK_SPAN_ID),
        (Scope::Instrumentation, keys::INSTRUMENTATION_NAME),
        (Scope::Instrumentation, keys::INSTRUMENTATION_VERSION),
    ]);
    let known = known.prop_map(|(scope, key)| AttributeRef::Attribute {
        scope: Some(scope),
        key: key.into(),
    });
    prop_oneof![
        3 => prop::sample::select(intrinsics).prop_map(AttributeRef::Intrinsic),
        5 => named,
        1 => known,
    ]
}

pub(super) fn filter() -> impl Strategy<Value = Filter> {
    let condition = (attribute(), test());
    let leaf = condition.prop_map(|(attribute, test)| Filter::Is(Condition { attribute, test }));
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

pub(super) fn trace_filter() -> impl Strategy<Value = TraceFilter> {
    let relation = prop::sample::select(vec![
        Relation::Child,
        Relation::Descendant,
        Relation::Sibling,
    ]);
    let leaf = prop_oneof![
        1 => Just(TraceFilter::All),
        5 => filter().prop_map(TraceFilter::Has),
        3 => (filter(), 0u64..4, 0u64..6).prop_map(|(filter, least, most)| TraceFilter::Count {
            filter,
            least,
            most: if most == 0 { u64::MAX } else { most },
        }),
        3 => (relation, filter(), filter()).prop_map(|(relation, above, below)| {
            TraceFilter::Related { relation, above, below }
        }),
    ];
    leaf.prop_recursive(2, 5, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(TraceFilter::And),
            prop::collection::vec(inner, 0..3).prop_map(TraceFilter::Or),
        ]
    })
}

pub(super) fn range() -> impl Strategy<Value = TimeRange> {
    prop_oneof![
        Just(TimeRange::new(i64::MIN, i64::MAX)),
        (990i64..1_070, 0i64..60).prop_map(|(start, len)| TimeRange::new(start, start + len)),
    ]
}

pub(super) fn measure() -> impl Strategy<Value = Measure> {
    let measured = prop_oneof![
        Just(AttributeRef::Intrinsic(Intrinsic::Duration)),
        attribute(),
    ];
    (0u8..5, measured).prop_map(|(which, attribute)| match which {
        0 => Measure::Spans,
        1 => Measure::Log2(attribute),
        2 => Measure::Sum(attribute),
        3 => Measure::Least(attribute),
        _ => Measure::Greatest(attribute),
    })
}
