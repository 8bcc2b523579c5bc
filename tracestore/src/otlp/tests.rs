use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::Kind;
use trine_storage::codec::put_varint;

use super::read::read;
use super::wire::{FIXED32, put_fixed64, put_item, put_message, put_number, put_tag, put_text};
use super::write::put_value;
use super::*;
use crate::model::tests::{attributes, span};
use crate::model::{AnyValue, DEPTH_MAX, Grouped, KeyValue, Resource, Scope, Span, Status, Trace};
use crate::stats::{Accepted, Reason};

/// Bounds that refuse nothing but ids.
pub(crate) const ANY: Bounds = Bounds {
    oldest_ns: i64::MIN,
    newest_ns: i64::MAX,
    span_bytes_max: u64::MAX,
    attributes_max: u64::MAX,
};

/// Spans with good ids under a few resources and scopes.
pub(crate) fn trace() -> impl Strategy<Value = Trace> {
    let owner = || (attributes(), any::<u32>(), "\\PC{0,4}", "[a-z]{0,2}");
    let spans = prop::collection::vec(
        (owner(), owner(), prop::collection::vec(span(), 1..4)),
        0..4,
    );
    spans.prop_map(|groups| {
        let mut trace = Grouped::default();
        for (resource, scope, spans) in groups {
            let resource = Arc::new(Resource {
                attributes: resource.0,
                dropped_attributes_count: resource.1,
                schema_url: resource.2,
            });
            let scope = Arc::new(Scope {
                name: scope.2,
                version: scope.3,
                attributes: scope.0,
                dropped_attributes_count: scope.1,
                schema_url: String::new(),
            });
            for mut span in spans {
                span.trace_id[0] |= 1;
                span.span_id[0] |= 1;
                span.parent_span_id = span.parent_span_id.filter(|id| *id != [0; 8]);
                trace.push(Arc::clone(&resource), Arc::clone(&scope), span);
            }
        }
        trace.finish()
    })
}

pub(crate) fn request(trace: &Trace) -> Vec<u8> {
    let mut writer = Writer::default();
    for (resource, scope, span) in trace.spans() {
        writer.push(resource, scope, span);
    }
    writer.finish()
}

pub(crate) fn good() -> Span {
    Span {
        trace_id: [1; 16],
        span_id: [2; 8],
        name: "n".into(),
        start_ns: 1_000,
        end_ns: 1_003,
        ..Span::default()
    }
}

pub(crate) fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
    }
}

fn one(span: &Span) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.push(&Arc::default(), &Arc::default(), span);
    writer.finish()
}

/// What becomes of a span that `put` appends the fields of.
fn of_span(put: impl FnOnce(&mut Vec<u8>)) -> Result<Trace, String> {
    let mut request = Vec::new();
    put_message(&mut request, 1, |out| {
        put_message(out, 2, |out| put_message(out, 2, put));
    });
    read_all(&request)
}

fn read_all(request: &[u8]) -> Result<Trace, String> {
    let plan = check(request, &ANY).and_then(|(plan, _)| read(&plan));
    plan.map_err(|malformed| {
        let error = malformed.into_error();
        assert_eq!(error.kind(), Kind::Invalid);
        error.to_string()
    })
}

fn put_ids(out: &mut Vec<u8>) {
    put_item(out, 1, &[1; 16]);
    put_item(out, 2, &[2; 8]);
}

fn rejected(request: &[u8], bounds: &Bounds) -> Vec<(Reason, u64, String)> {
    let Ok((plan, Accepted { stored, rejected })) = check(request, bounds) else {
        panic!("malformed");
    };
    assert_eq!(plan.spans.len() as u64, stored);
    let rejected = rejected.into_iter();
    rejected
        .map(|rejected| (rejected.reason, rejected.count, rejected.example))
        .collect()
}

/// The bytes that protobuf writes for one span with a little of everything.
#[test]
fn golden_bytes() {
    let resource = Resource {
        attributes: vec![pair("r", AnyValue::Bool(false))],
        schema_url: "u".into(),
        ..Resource::default()
    };
    let scope = Scope {
        name: "s".into(),
        ..Scope::default()
    };
    let span = Span {
        kind: -1,
        attributes: vec![pair(
            "a",
            AnyValue::Array(vec![AnyValue::Int(0), AnyValue::Empty]),
        )],
        status: Some(Status::default()),
        flags: 257,
        ..good()
    };
    let mut writer = Writer::default();
    writer.push(&Arc::new(resource), &Arc::new(scope), &span);
    let mut expected = vec![0x0a, 106];
    expected.extend([
        0x0a, 9, 0x0a, 7, 0x0a, 1, b'r', 0x12, 2, 0x10, 0, 0x1a, 1, b'u',
    ]);
    expected.extend([0x12, 90, 0x0a, 3, 0x0a, 1, b's', 0x12, 83, 0x0a, 16]);
    expected.extend([1; 16]);
    expected.extend([0x12, 8]);
    expected.extend([2; 8]);
    expected.extend([0x2a, 1, b'n', 0x30]);
    expected.extend([255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    expected.extend([
        0x39, 0xe8, 3, 0, 0, 0, 0, 0, 0, 0x41, 0xeb, 3, 0, 0, 0, 0, 0, 0,
    ]);
    expected.extend([0x4a, 13, 0x0a, 1, b'a', 0x12, 8, 0x2a, 6]);
    expected.extend([0x0a, 2, 0x18, 0, 0x0a, 0, 0x7a, 0, 0x85, 1, 1, 1, 0, 0]);
    assert_eq!(writer.finish(), expected);
}

#[test]
fn a_malformed_request_is_refused_with_the_place_of_the_fault() {
    let cut = "the data ends too early";
    let long = "a number has more than 64 bits";
    let wrong = "the field has a wrong type";
    let utf8 = "text is not UTF-8";
    type Put = fn(&mut Vec<u8>);
    let cases: &[(Put, &str, &str)] = &[
        (|out| put_text(out, 5, &[0xff]), "name", utf8),
        (|out| put_text(out, 3, &[0xc0, 0x80]), "trace_state", utf8),
        (
            |out| put_message(out, 15, |out| put_text(out, 2, &[0xff])),
            "status.message",
            utf8,
        ),
        (
            |out| put_message(out, 9, |out| put_text(out, 1, &[0xff])),
            "attributes.key",
            utf8,
        ),
        (
            |out| {
                put_message(out, 9, |out| {
                    put_message(out, 2, |out| put_text(out, 1, &[0xff]));
                });
            },
            "attributes.value.string_value",
            utf8,
        ),
        (
            |out| put_message(out, 11, |out| put_text(out, 2, &[0xff])),
            "events.name",
            utf8,
        ),
        (
            |out| {
                put_message(out, 13, |out| {
                    put_message(out, 4, |out| put_text(out, 1, &[0xff]));
                });
            },
            "links.attributes.key",
            utf8,
        ),
        (|out| put_number(out, 5, 1), "name", wrong),
        (|out| put_text(out, 6, b"x"), "kind", wrong),
        (|out| put_number(out, 7, 1), "start_time_unix_nano", wrong),
        (|out| put_fixed64(out, 16, 1), "flags", wrong),
        (
            |out| put_message(out, 15, |out| put_text(out, 3, b"x")),
            "status.code",
            wrong,
        ),
        (|out| out.extend([0x0a, 5, 1]), "trace_id", cut),
        (|out| out.extend([0x39, 1, 2]), "start_time_unix_nano", cut),
        (|out| out.extend([0x30]), "kind", cut),
        (|out| out.extend([0x30, 0x80]), "kind", cut),
        (
            |out| out.extend([[0x30].as_slice(), &[0xff; 10]].concat()),
            "kind",
            long,
        ),
        (
            |out| out.extend([0x4a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            "attributes",
            cut,
        ),
        (|out| out.extend([0xaa, 6, 9]), "an unknown field", cut),
        (|out| out.extend([0xab, 6, 0x08]), "an unknown field", cut),
        (
            |out| out.extend([0xac, 6]),
            "an unknown field",
            "a field has a type that does not exist",
        ),
        (
            |out| out.extend([0xaf, 6]),
            "an unknown field",
            "a field has a type that does not exist",
        ),
    ];
    for (put, place, what) in cases {
        let text = of_span(put).unwrap_err();
        let expect =
            format!("the request is malformed at resource_spans.scope_spans.spans.{place}: {what}");
        assert_eq!(text, expect);
    }
    let zero = of_span(|out| out.extend([0x02, 0])).unwrap_err();
    assert!(
        zero.ends_with("spans: the number of a field is out of range"),
        "{zero}"
    );
    let huge = of_span(|out| out.extend([0x82, 0x80, 0x80, 0x80, 0x10])).unwrap_err();
    assert!(
        huge.ends_with("spans: the number of a field is out of range"),
        "{huge}"
    );
    assert_eq!(
        read_all(&[0x08, 1]).unwrap_err(),
        format!("the request is malformed at resource_spans: {wrong}")
    );
    assert_eq!(
        read_all(&[0x80]).unwrap_err(),
        format!("the request is malformed: {cut}")
    );
    // Field 3 of a resource group is its schema.
    let schema = read_all(&[0x0a, 3, 0x1a, 1, 0xff]).unwrap_err();
    assert_eq!(
        schema,
        format!("the request is malformed at resource_spans.schema_url: {utf8}")
    );
    let scope = read_all(&[0x0a, 7, 0x12, 5, 0x0a, 3, 0x0a, 1, 0xff]).unwrap_err();
    assert_eq!(
        scope,
        format!("the request is malformed at resource_spans.scope_spans.scope.name: {utf8}")
    );
}

#[test]
fn unknown_fields_are_skipped() {
    let trace = of_span(|out| {
        put_number(out, 100, 7);
        put_fixed64(out, 101, 7);
        put_text(out, 102, &[0xff]);
        put_tag(out, 103, FIXED32);
        out.extend([1, 2, 3, 4]);
        // A group with a group in it.
        out.extend([0xc3, 6, 0x08, 1, 0xcb, 6, 0xcc, 6, 0xc4, 6]);
        put_ids(out);
        put_message(out, 15, |out| out.extend([0x08, 9, 0x18, 2]));
    });
    let trace = trace.unwrap();
    let (_, _, span) = trace.spans().next().unwrap();
    assert_eq!(span.status.as_ref().map(|status| status.code), Some(2));
    assert_eq!(span.span_id, [2; 8]);
}

#[test]
fn the_last_value_counts_and_messages_are_merged() {
    let mut request = Vec::new();
    put_message(&mut request, 1, |out| {
        put_message(out, 2, |out| {
            put_message(out, 2, |out| {
                put_text(out, 5, b"first");
                put_ids(out);
                put_text(out, 5, b"last");
                put_message(out, 15, |out| put_text(out, 2, b"m"));
                put_message(out, 15, |out| put_number(out, 3, 1));
                put_message(out, 9, |out| {
                    put_message(out, 2, |out| put_number(out, 3, 4));
                    put_text(out, 1, b"k");
                    put_message(out, 2, |_| {});
                });
                // A number of 64 bits where 32 are wanted, and a negative one.
                put_number(out, 10, 1 << 32 | 5);
                put_number(out, 6, u64::MAX);
            });
            // The scope comes after its spans.
            put_message(out, 1, |out| put_text(out, 1, b"s"));
            put_message(out, 1, |out| put_text(out, 2, b"v"));
        });
        for key in [b"a", b"b"] {
            put_message(out, 1, |out| {
                put_message(out, 1, |out| put_text(out, 1, key));
            });
        }
    });
    let trace = read_all(&request).unwrap();
    let (resource, scope, span) = trace.spans().next().unwrap();
    let keys: Vec<_> = resource.attributes.iter().map(|pair| &*pair.key).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("s", "v"));
    assert_eq!(span.name, "last");
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (1, "m"));
    assert_eq!(span.attributes, [pair("k", AnyValue::Int(4))]);
    assert_eq!((span.dropped_attributes_count, span.kind), (5, -1));
}

#[test]
fn bad_spans_are_refused_one_by_one() {
    let with = |put: fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_message(out, 2, |out| {
                put_message(out, 2, put);
                put_message(out, 2, put_ids);
            });
        });
        out
    };
    type Put = fn(&mut Vec<u8>);
    let cases: &[(Put, Reason, &str)] = &[
        (
            |out| put_item(out, 1, &[1; 8]),
            Reason::TraceId,
            "trace ids must be 128 bit, received 64 bits",
        ),
        (
            |_| {},
            Reason::TraceId,
            "trace ids must be 128 bit, received 0 bits",
        ),
        (
            |out| put_item(out, 1, &[0; 16]),
            Reason::TraceId,
            "trace ids must not be all zero",
        ),
        (
            |out| put_item(out, 1, &[1; 16]),
            Reason::SpanId,
            "span ids must be 64 bit and not all zero, received 0 bits",
        ),
        (
            |out| {
                put_item(out, 1, &[1; 16]);
                put_item(out, 2, &[0; 8]);
            },
            Reason::SpanId,
            "span ids must be 64 bit and not all zero, received 64 bits",
        ),
        (
            |out| {
                put_ids(out);
                put_item(out, 4, &[1; 3]);
            },
            Reason::ParentId,
            "parent span ids must be 64 bit, received 24 bits",
        ),
    ];
    for (put, reason, text) in cases {
        assert_eq!(
            rejected(&with(*put), &ANY),
            [(*reason, 1, (*text).to_owned())]
        );
    }
    for parent in [&[][..], &[0; 8], &[0; 3]] {
        let trace = of_span(|out| {
            put_ids(out);
            put_item(out, 4, parent);
        });
        assert_eq!(
            trace.unwrap().spans().next().unwrap().2.parent_span_id,
            None
        );
    }
}

#[test]
fn bounds_hold_at_their_edges() {
    let base = good();
    let called = "trace=01010101010101010101010101010101 span=0202020202020202 name=\"n\"";
    // Five messages around and before it, each of a tag and a length.
    let size = one(&base).len() as u64 - 10;
    let cases = [
        (
            Bounds {
                oldest_ns: 1_000,
                ..ANY
            },
            None,
        ),
        (
            Bounds {
                oldest_ns: 1_001,
                ..ANY
            },
            Some((
                Reason::TooOld,
                format!("span begins before the retention: {called}"),
            )),
        ),
        (
            Bounds {
                newest_ns: 1_000,
                ..ANY
            },
            None,
        ),
        (
            Bounds {
                newest_ns: 999,
                ..ANY
            },
            Some((
                Reason::TooFarInFuture,
                format!("span begins too far in the future: {called}"),
            )),
        ),
        (
            Bounds {
                span_bytes_max: size,
                ..ANY
            },
            None,
        ),
        (
            Bounds {
                span_bytes_max: size - 1,
                ..ANY
            },
            Some((
                Reason::TooLarge,
                format!("a span has {size} bytes, limit {}: {called}", size - 1),
            )),
        ),
    ];
    for (bounds, expect) in cases {
        let expect: Vec<_> = expect
            .into_iter()
            .map(|(reason, text)| (reason, 1, text))
            .collect();
        assert_eq!(rejected(&one(&base), &bounds), expect);
    }
    let late = Span {
        start_ns: u64::MAX,
        ..good()
    };
    assert_eq!(rejected(&one(&late), &ANY), []);
}

#[test]
fn attributes_are_counted_wherever_they_are() {
    let bounds = Bounds {
        attributes_max: 2,
        ..ANY
    };
    let pairs = |count: usize| vec![pair("k", AnyValue::Bool(true)); count];
    let event = |count| crate::model::Event {
        attributes: pairs(count),
        ..Default::default()
    };
    let link = |count| crate::model::Link {
        attributes: pairs(count),
        ..Default::default()
    };
    let of = |resource: usize, scope: usize, span: &Span| {
        let resource = Resource {
            attributes: pairs(resource),
            ..Resource::default()
        };
        let scope = Scope {
            attributes: pairs(scope),
            ..Scope::default()
        };
        let (resource, scope) = (Arc::new(resource), Arc::new(scope));
        let mut writer = Writer::default();
        writer.push(&resource, &scope, span);
        writer.push(
            &resource,
            &scope,
            &Span {
                trace_id: [0; 16],
                ..good()
            },
        );
        writer.push(&Arc::default(), &Arc::default(), &good());
        let mut rejected = rejected(&writer.finish(), &bounds);
        rejected.retain(|(reason, ..)| *reason != Reason::TraceId);
        rejected
    };
    let full = Span {
        attributes: pairs(2),
        events: vec![event(2), event(2)],
        links: vec![link(2), link(2)],
        ..good()
    };
    assert_eq!(of(2, 2, &full), []);
    let told = |what: &str| {
        vec![(
            Reason::TooManyAttributes,
            1,
            format!("a {what} has 3 attributes, limit 2"),
        )]
    };
    assert_eq!(of(3, 0, &full), told("resource"));
    assert_eq!(of(0, 3, &full), told("scope"));
    assert_eq!(
        of(
            0,
            0,
            &Span {
                attributes: pairs(3),
                ..full.clone()
            }
        ),
        told("span")
    );
    assert_eq!(
        of(
            0,
            0,
            &Span {
                events: vec![event(3), event(1)],
                ..full.clone()
            }
        ),
        told("event")
    );
    assert_eq!(
        of(
            0,
            0,
            &Span {
                links: vec![link(3)],
                ..full.clone()
            }
        ),
        told("link")
    );
}

#[test]
fn what_is_empty_takes_no_memory_but_events_do() {
    // Groups of resources and of scopes without spans, two bytes each.
    let request = [0x0a, 4, 0x12, 0, 0x12, 0].repeat(1_000);
    let (plan, _) = check(&request, &ANY).unwrap();
    assert_eq!(
        (plan.resources.len(), plan.scopes.len(), plan.memory),
        (0, 0, 0)
    );
    let request = one(&good());
    let (plan, _) = check(&request, &ANY).unwrap();
    assert_eq!((plan.resources.len(), plan.scopes.len()), (1, 1));
    let of_one = plan.memory;
    let events = vec![crate::model::Event::default(); 1_000];
    let request = one(&Span { events, ..good() });
    let (plan, _) = check(&request, &ANY).unwrap();
    assert!(
        plan.memory > of_one + 30_000 && plan.memory < of_one + 40_000,
        "{}",
        plan.memory
    );
}

#[test]
fn values_may_be_nested_as_deep_as_the_limit_and_no_deeper() {
    type Wrap = fn(AnyValue) -> AnyValue;
    let wraps: [Wrap; 2] = [
        |value| AnyValue::Array(vec![value]),
        |value| AnyValue::KeyValues(vec![pair("k", value)]),
    ];
    for wrap in wraps {
        let with = |depth: usize| Span {
            attributes: vec![pair(
                "k",
                (0..depth).fold(AnyValue::Int(1), |value, _| wrap(value)),
            )],
            ..good()
        };
        let request = one(&with(DEPTH_MAX));
        assert_eq!(rejected(&request, &ANY), []);
        assert_eq!(
            read_all(&request).unwrap().spans().next().unwrap().2,
            &with(DEPTH_MAX)
        );
        for deep in [DEPTH_MAX + 1, 1_000] {
            let rejected = rejected(&one(&with(deep)), &ANY);
            assert_eq!(rejected.len(), 1);
            assert_eq!(rejected[0].0, Reason::TooDeep, "{deep}");
        }
    }
    // Lists in lists as a stranger may send them.
    let mut nested = vec![0x2a, 0];
    for _ in 0..10_000 {
        let mut around = Vec::new();
        put_message(&mut around, 5, |out| put_item(out, 1, &nested));
        nested = around;
    }
    let mut request = Vec::new();
    put_message(&mut request, 1, |out| {
        put_message(out, 2, |out| {
            put_message(out, 2, |out| {
                put_ids(out);
                put_message(out, 9, |out| put_item(out, 2, &nested));
            });
        });
    });
    assert_eq!(rejected(&request, &ANY)[0].0, Reason::TooDeep);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_are_the_whole(trace in trace(), bytes_max in 0usize..4_000) {
        let request = request(&trace);
        let (plan, _) = check(&request, &ANY).unwrap();
        let pieces = pieces(&plan, bytes_max);
        for piece in &pieces {
            let (plan, _) = check(piece, &ANY).unwrap();
            prop_assert!(piece.len() <= bytes_max || plan.spans.len() == 1);
        }
        prop_assert_eq!(read_all(&pieces.concat()).unwrap(), trace);
        if bytes_max > 2 * request.len() {
            prop_assert!(pieces.len() <= 1);
        }
    }

    #[test]
    fn spans_come_back_unchanged(trace in trace()) {
        prop_assert_eq!(read_all(&request(&trace)).unwrap(), trace);
    }

    #[test]
    fn a_trace_is_written_as_it_would_be_sent(trace in trace(), bytes_max in 0usize..4_000) {
        let whole = trace.to_otlp();
        prop_assert_eq!(read_all(&whole).unwrap(), trace.clone());
        let mut cut = trace.clone();
        let is_cut = cut.truncate(bytes_max);
        prop_assert_eq!(is_cut, cut != trace);
        let part = cut.to_otlp();
        prop_assert!(!is_cut || part.len() <= bytes_max);
        prop_assert!(is_cut || whole.len() <= bytes_max || trace.spans().count() == 0);
        let kept: Vec<_> = cut.spans().collect();
        let all: Vec<_> = trace.spans().take(kept.len()).collect();
        prop_assert_eq!(kept, all);
    }

    #[test]
    fn usual_attributes_are_read_as_others_are(
        key in "[a-z]{0,3}",
        number: i64,
        shift in 0..64u32,
        at: prop::sample::Index,
        byte: u8,
        room in 0..4usize,
    ) {
        let number = number >> shift;
        // Some senders leave room for a length before they know it.
        let put = |out: &mut Vec<u8>, field: u8, text: &[u8]| {
            out.push(field << 3 | 2);
            put_varint(out, text.len() as u64);
            for _ in 0..room {
                *out.last_mut().unwrap() |= 0x80;
                out.push(0);
            }
            out.extend_from_slice(text);
        };
        for value in [
            AnyValue::String(number.to_string()),
            AnyValue::Int(number),
            AnyValue::Bool(number > 0),
            AnyValue::Double(0.5),
            AnyValue::Empty,
        ] {
            let mut bytes = Vec::new();
            put(&mut bytes, 1, key.as_bytes());
            let mut any = Vec::new();
            match &value {
                AnyValue::String(text) => put(&mut any, 1, text.as_bytes()),
                value => put_value(&mut any, value, 0),
            }
            put(&mut bytes, 2, &any);
            let is_usual = room < 3 && match value {
                AnyValue::String(_) | AnyValue::Bool(_) | AnyValue::Double(_) => true,
                AnyValue::Int(number) => (0..1 << 21).contains(&number),
                _ => false,
            };
            prop_assert_eq!(KeyValueRef::usual(&bytes).is_some(), is_usual);
            let mut damaged = bytes.clone();
            damaged[at.index(bytes.len())] = byte;
            for bytes in [bytes, damaged] {
                if let Some(usual) = KeyValueRef::usual(&bytes) {
                    prop_assert_eq!(usual, KeyValueRef::read_any(&bytes).unwrap());
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        read_all(&bytes).ok();
        of_span(|out| out.extend(&bytes)).ok();
    }
}
