use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::Kind;
use trine_storage::codec::Reader;

use super::*;
use crate::block::values::{Type, Values};
use crate::model::codec;
use crate::model::{AnyValue, Event, KeyValue, Link, Resource, Scope, Span, Status, Trace};
use crate::otlp::Writer;
use crate::otlp::tests::{ANY, good, pair, request, trace};
use crate::stats::Reason;

fn text(values: &Values, at: usize) -> &[u8] {
    match values {
        Values::Coded { codes, dictionary } => {
            assert!((codes[at] as usize) < dictionary.len());
            dictionary.get(codes[at] as usize)
        }
        Values::Plain(texts) => texts.get(at),
        Values::Numbers(_) => panic!("numbers"),
    }
}

fn string(values: &Values, at: usize) -> String {
    std::str::from_utf8(text(values, at)).unwrap().to_owned()
}

fn small<T: TryFrom<u64, Error: std::fmt::Debug>>(number: u64) -> T {
    number.try_into().unwrap()
}

fn unzigzag(number: u64) -> i32 {
    small::<u32>(number >> 1).cast_signed() ^ -i32::from(number & 1 != 0)
}

/// Reads a table row by row, and asserts that it is well-formed.
struct Rows<'a> {
    table: &'a TableStage,
    row: usize,
    /// How many values of each column were read.
    next: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn new(table: &'a TableStage) -> Self {
        let rows = table.rows as usize;
        assert_eq!(table.shapes.codes.len(), rows);
        assert!(table.numbers.iter().all(|column| column.len() == rows));
        assert!(table.texts.iter().all(|column| column.values.len() == rows));
        Self {
            table,
            row: 0,
            next: vec![0; table.columns.len()],
        }
    }

    fn number(&self, column: usize) -> u64 {
        self.table.numbers[column][self.row]
    }

    fn text(&self, column: usize) -> String {
        string(&self.table.texts[column].values, self.row)
    }

    fn bytes(&self, column: usize) -> Vec<u8> {
        text(&self.table.texts[column].values, self.row).to_owned()
    }

    /// The attributes of the row; goes on to the next one.
    fn attributes(&mut self) -> Vec<KeyValue> {
        let shape = self.table.shapes.of_row(self.row);
        self.row += 1;
        let mut seen = std::collections::BTreeSet::new();
        let pair = |column: u32| {
            let held = &self.table.columns[column as usize];
            let at = self.next[column as usize];
            self.next[column as usize] += 1;
            let first = seen.insert(held.key.clone());
            assert!(
                first || held.kind == Type::Other,
                "two visible values of one key"
            );
            let number = || match &held.values {
                Values::Numbers(numbers) => numbers[at],
                _ => panic!("no numbers"),
            };
            let value = match held.kind {
                Type::Str => AnyValue::String(string(&held.values, at)),
                Type::Int => AnyValue::Int(number().cast_signed()),
                Type::Float => AnyValue::Double(f64::from_bits(number())),
                Type::Bool => AnyValue::Bool(number() == 1),
                Type::Array | Type::Other => {
                    assert!(matches!(held.values, Values::Plain(_)));
                    let mut reader = Reader::new("test", text(&held.values, at));
                    let value = codec::value(&mut reader, 0).unwrap();
                    assert!(reader.is_empty());
                    value
                }
            };
            KeyValue {
                key: (&*held.key).into(),
                value,
            }
        };
        shape.map(pair).collect()
    }

    fn end(&self) {
        assert_eq!(self.row, self.table.rows as usize);
        for (column, read) in self.table.columns.iter().zip(&self.next) {
            assert_eq!(column.values.len(), *read, "{}", column.key);
        }
        let mut columns: Vec<_> = self
            .table
            .columns
            .iter()
            .map(|c| (&c.key, c.kind))
            .collect();
        columns.sort();
        columns.dedup();
        assert_eq!(columns.len(), self.table.columns.len(), "a column twice");
    }
}

/// Everything that a stage holds, as spans.
fn spans(stage: &Stage) -> Vec<(Arc<Resource>, Arc<Scope>, Span)> {
    let mut rows = Rows::new(&stage.resources);
    let resource = |_| {
        Arc::new(Resource {
            dropped_attributes_count: small(rows.number(0)),
            schema_url: rows.text(0),
            attributes: rows.attributes(),
        })
    };
    let resources: Vec<_> = (0..stage.resources.rows).map(resource).collect();
    rows.end();
    let mut rows = Rows::new(&stage.scopes);
    let scope = |_| {
        Arc::new(Scope {
            dropped_attributes_count: small(rows.number(0)),
            name: rows.text(0),
            version: rows.text(1),
            schema_url: rows.text(2),
            attributes: rows.attributes(),
        })
    };
    let scopes: Vec<_> = (0..stage.scopes.rows).map(scope).collect();
    rows.end();
    let (mut events, mut links) = (Rows::new(&stage.events), Rows::new(&stage.links));
    let mut rows = Rows::new(&stage.spans);
    let span = |_| {
        let start_ns = rows.number(1);
        let event = |_| Event {
            time_ns: start_ns.wrapping_add(events.number(0)),
            dropped_attributes_count: small(events.number(1)),
            name: events.text(0),
            attributes: events.attributes(),
        };
        let event_list = (0..rows.number(13)).map(event).collect();
        let link = |_| Link {
            dropped_attributes_count: small(links.number(0)),
            flags: small(links.number(1)),
            trace_id: links.bytes(0),
            span_id: links.bytes(1),
            trace_state: links.text(2),
            attributes: links.attributes(),
        };
        let link_list = (0..rows.number(14)).map(link).collect();
        let status = rows.number(6).checked_sub(1).map(|code| Status {
            code: unzigzag(code),
            message: rows.text(1),
        });
        let parent = rows.number(4);
        let (resource, scope) = (rows.number(7) as usize, rows.number(8) as usize);
        let span = Span {
            trace_id: stage.trace_ids[rows.number(3) as usize],
            span_id: rows.number(0).to_be_bytes(),
            trace_state: rows.text(2),
            parent_span_id: (parent != 0).then(|| parent.to_be_bytes()),
            name: rows.text(0),
            kind: unzigzag(rows.number(5)),
            start_ns,
            end_ns: start_ns.wrapping_add(rows.number(2)),
            dropped_attributes_count: small(rows.number(10)),
            events: event_list,
            dropped_events_count: small(rows.number(11)),
            links: link_list,
            dropped_links_count: small(rows.number(12)),
            status,
            flags: small(rows.number(9)),
            attributes: rows.attributes(),
        };
        (
            Arc::clone(&resources[resource]),
            Arc::clone(&scopes[scope]),
            span,
        )
    };
    let found: Vec<_> = (0..stage.rows()).map(span).collect();
    rows.end();
    events.end();
    links.end();
    let mut ids = stage.trace_ids.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), stage.trace_ids.len());
    found
}

fn of(traces: &[Trace]) -> Vec<(Arc<Resource>, Arc<Scope>, Span)> {
    let all = traces.iter().flat_map(Trace::spans);
    all.map(|(resource, scope, span)| (Arc::clone(resource), Arc::clone(scope), span.clone()))
        .collect()
}

fn push(stage: &mut Stage, spans: &[Span]) -> Accepted {
    let mut writer = Writer::default();
    for span in spans {
        writer.push(&Arc::default(), &Arc::default(), span);
    }
    stage.push_request(&writer.finish(), &ANY).unwrap()
}

fn with(attributes: Vec<KeyValue>) -> Span {
    Span {
        attributes,
        ..good()
    }
}

#[test]
fn values_go_to_columns_by_key_and_type() {
    let text = |text: &str| AnyValue::String(text.into());
    let int = AnyValue::Int(1);
    let array = |values: &[AnyValue]| AnyValue::Array(values.to_vec());
    for (value, kind) in [
        (text("x"), Type::Str),
        (int.clone(), Type::Int),
        (AnyValue::Double(f64::NAN), Type::Float),
        (AnyValue::Bool(true), Type::Bool),
        (array(&[text("a"), text("b")]), Type::Array),
        (array(std::slice::from_ref(&int)), Type::Array),
        (array(&[]), Type::Other),
        (array(&[int.clone(), text("a")]), Type::Other),
        (array(&[AnyValue::Empty]), Type::Other),
        (array(&[array(std::slice::from_ref(&int))]), Type::Other),
        (AnyValue::Empty, Type::Other),
        (AnyValue::Bytes(vec![1]), Type::Other),
        (AnyValue::KeyValues(vec![pair("k", int)]), Type::Other),
    ] {
        let mut stage = Stage::default();
        push(&mut stage, &[with(vec![pair("k", value.clone())])]);
        let columns = &stage.spans.columns;
        assert_eq!((columns.len(), columns[0].kind), (1, kind), "{value:?}");
        assert_eq!(
            format!("{:?}", spans(&stage)[0].2.attributes[0].value),
            format!("{value:?}")
        );
    }
}

#[test]
fn only_the_first_of_several_attributes_of_a_key_is_seen() {
    let text = |text: &str| pair("k", AnyValue::String(text.into()));
    let int = |number| pair("k", AnyValue::Int(number));
    let other = pair("l", AnyValue::Bool(false));
    let rows = [
        with(vec![text("a"), other.clone(), text("a"), int(1)]),
        with(vec![int(1), text("b")]),
        with(vec![pair("k", AnyValue::Empty), int(1), other.clone()]),
        with(vec![text("b")]),
        // The same again, now on paths that are known.
        with(vec![text("c"), other, text("d"), int(2)]),
        // It leaves a path that is known with a key that this has.
        with(vec![text("e"), int(3)]),
    ];
    let mut stage = Stage::default();
    push(&mut stage, &rows);
    let columns: Vec<_> = stage
        .spans
        .columns
        .iter()
        .map(|c| (&*c.key, c.kind))
        .collect();
    let expect = [
        ("k", Type::Str),
        ("l", Type::Bool),
        ("k", Type::Other),
        ("k", Type::Int),
    ];
    assert_eq!(columns, expect);
    let shapes = stage.spans.shapes.lists.iter();
    let shapes: Vec<Vec<u32>> = shapes.map(Iterator::collect).collect();
    assert_eq!(
        shapes,
        [&[0, 1, 2, 2][..], &[3, 2], &[2, 2, 1], &[0], &[0, 2]]
    );
    assert_eq!(stage.spans.shapes.codes, [0, 1, 2, 3, 0, 4]);
    let got: Vec<Span> = spans(&stage).into_iter().map(|(.., span)| span).collect();
    assert_eq!(got, rows);
}

#[test]
fn equal_resources_and_scopes_are_one_row() {
    let mut stage = Stage::default();
    let resource = |name: &str| {
        Arc::new(Resource {
            attributes: vec![pair("service.name", AnyValue::String(name.into()))],
            ..Resource::default()
        })
    };
    let scope = |version: &str| {
        Arc::new(Scope {
            version: version.into(),
            ..Scope::default()
        })
    };
    for _ in 0..2 {
        let mut writer = Writer::default();
        for (service, version) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "1")] {
            writer.push(&resource(service), &scope(version), &good());
        }
        stage.push_request(&writer.finish(), &ANY).unwrap();
    }
    assert_eq!(
        (stage.resources.rows, stage.scopes.rows, stage.rows()),
        (2, 2, 8)
    );
    assert_eq!(stage.trace_ids, [[1; 16]]);
    let url = Resource {
        schema_url: "u".into(),
        ..(*resource("a")).clone()
    };
    let mut writer = Writer::default();
    writer.push(&Arc::new(url), &scope("1"), &good());
    stage.push_request(&writer.finish(), &ANY).unwrap();
    assert_eq!(stage.resources.rows, 3, "it has another schema");
    spans(&stage);
}

#[test]
fn nothing_is_left_of_what_is_refused() {
    let odd = |key: &str| vec![pair(key, AnyValue::Bytes(vec![1]))];
    let refused = Span {
        trace_id: [9; 16],
        span_id: [0; 8],
        name: "refused".into(),
        events: vec![Event::default()],
        links: vec![Link::default()],
        ..with(odd("span"))
    };
    let resource = Resource {
        attributes: odd("resource"),
        ..Resource::default()
    };
    let scope = Scope {
        attributes: odd("scope"),
        ..Scope::default()
    };
    let mut writer = Writer::default();
    writer.push(&Arc::new(resource), &Arc::new(scope), &refused);
    writer.push(&Arc::default(), &Arc::default(), &good());
    writer.push(&Arc::default(), &Arc::default(), &refused);
    let request = writer.finish();
    let mut stage = Stage::default();
    let accepted = stage.push_request(&request, &ANY).unwrap();
    assert_eq!(accepted.stored, 1);
    assert_eq!(accepted.rejected[0].count, 2);
    assert_eq!(accepted.rejected[0].reason, Reason::SpanId);
    let mut alone = Stage::default();
    push(&mut alone, &[good()]);
    assert_eq!(format!("{stage:?}"), format!("{alone:?}"));

    let before = format!("{stage:?}");
    let error = stage
        .push_request(&request[..request.len() - 1], &ANY)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(format!("{stage:?}"), before);
}

#[test]
fn values_of_any_length_are_kept() {
    let lengths = [0, 1, 127, 128, 129, 16_383, 16_384, 1 << 20];
    let row = |len: usize| {
        let text = "x".repeat(len);
        let array = AnyValue::Array(vec![AnyValue::String(text.clone())]);
        Span {
            name: text.clone(),
            ..with(vec![
                pair(&text, AnyValue::Int(1)),
                pair("text", AnyValue::String(text)),
                pair("array", array),
                pair("bytes", AnyValue::Bytes(vec![0; len])),
            ])
        }
    };
    let rows = lengths.map(row);
    let mut stage = Stage::default();
    push(&mut stage, &rows);
    assert!(stage.bytes() > 5 << 20, "{}", stage.bytes());
    let got: Vec<Span> = spans(&stage).into_iter().map(|(.., span)| span).collect();
    assert!(got == rows);
}

#[test]
fn ten_thousand_keys_on_a_span_take_no_more_than_their_share() {
    let attributes = |first: usize| {
        let pairs = (first..first + 10_000).map(|n| pair(&n.to_string(), AnyValue::Int(1)));
        pairs.collect::<Vec<_>>()
    };
    let rows = [
        with(attributes(0)),
        with(attributes(0)),
        with(attributes(5_000)),
    ];
    let mut stage = Stage::default();
    push(&mut stage, &rows);
    assert_eq!(
        (stage.spans.columns.len(), stage.spans.shapes.lists.len()),
        (15_000, 2)
    );
    assert!(
        stage.bytes() > 30_000 * 8 && stage.bytes() < 30_000 * 200,
        "{}",
        stage.bytes()
    );
    let got: Vec<Span> = spans(&stage).into_iter().map(|(.., span)| span).collect();
    assert_eq!(got, rows);
}

#[test]
fn rows_that_leave_a_full_tree_come_back() {
    // Any keys in any order, so that a tree of all of them would have tens of thousands of nodes.
    let mut state = 5u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let value = |number: u64| match number % 3 {
        0 => AnyValue::Int(number as i64),
        1 => AnyValue::String("x".into()),
        _ => AnyValue::Bool(true),
    };
    let mut one = |_| pair(&random(60).to_string(), value(random(3)));
    let spans: Vec<Span> = (0..2_500)
        .map(|_| with((0..12).map(&mut one).collect()))
        .collect();
    let mut stage = Stage::default();
    push(&mut stage, &spans);
    assert!(stage.bytes() < 2 << 20, "{}", stage.bytes());
    let got: Vec<Span> = self::spans(&stage).into_iter().map(|(.., s)| s).collect();
    assert!(got == spans);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn spans_come_back_unchanged(traces in prop::collection::vec(trace(), 1..4)) {
        let mut stage = Stage::default();
        for trace in &traces {
            let accepted = stage.push_request(&request(trace), &ANY).unwrap();
            prop_assert_eq!(accepted.stored, trace.spans().count() as u64);
        }
        prop_assert_eq!(spans(&stage), of(&traces));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn damaged_requests_are_refused_or_stored_well_formed(trace in trace(), seed: u8) {
        let request = request(&trace);
        let whole = trace.spans().count();
        for at in 0..request.len() {
            let mut stage = Stage::default();
            if stage.push_request(&request[..at], &ANY).is_ok() {
                prop_assert!(spans(&stage).len() <= whole);
            } else {
                prop_assert_eq!(stage.rows(), 0);
            }
            let mut flipped = request.clone();
            flipped[at] ^= 1 << ((at + usize::from(seed)) % 8);
            let mut stage = Stage::default();
            stage.push_request(&flipped, &ANY).ok();
            spans(&stage);
        }
    }
}
