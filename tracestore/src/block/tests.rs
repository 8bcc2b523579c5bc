//! Blocks that are built and put together hold what went in, once and in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::Result;
use trine_storage::fs::MemoryFile;
use trine_storage::sealed::{SealedFile, SealedWriter};

use super::build::{self, Input, Source};
use super::format::{self, span as columns};
use super::image::{Image, in_memory};
use super::values::Type;
use super::{gather, table};
use crate::model::{AnyValue, Event, KeyValue, Link, Resource, Scope, Span, TraceId};
use crate::otlp::{Bounds, Writer};
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
    let mut writer = Writer::default();
    for span in spans {
        let resource = Resource {
            attributes: vec![pair("service.name", AnyValue::String(span.name.clone()))],
            ..Resource::default()
        };
        writer.push(&Arc::new(resource), &Arc::new(Scope::default()), span);
    }
    let bounds = Bounds {
        oldest_ns: i64::MIN,
        newest_ns: i64::MAX,
        span_bytes_max: u64::MAX,
        attributes_max: u64::MAX,
    };
    let mut stage = Stage::default();
    let accepted = stage.push_request(&writer.finish(), &bounds).unwrap();
    assert_eq!(accepted.rejected, []);
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

/// Parents and starts by id and kind.
type Spans = BTreeMap<(u64, i32), (u64, i64)>;

fn naive(spans: &[Span]) -> Found {
    let mut all: BTreeMap<TraceId, Spans> = BTreeMap::new();
    for span in spans {
        let parent = span.parent_span_id.map_or(0, u64::from_be_bytes);
        let id = (u64::from_be_bytes(span.span_id), span.kind);
        let trace = all.entry(span.trace_id).or_default();
        trace.entry(id).or_insert((parent, span.start_ns as i64));
    }
    let spans = |spans: Spans| {
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

/// More columns than shapes name, more shapes than are listed, several pages.
#[test]
fn a_long_tail_of_keys_comes_back() {
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let spans: Vec<Span> = (1..18_000u64)
        .map(|n| {
            let mut attributes = Vec::new();
            for _ in 0..3 {
                let key = format!("key {}", random(600));
                attributes.push(pair(&key, AnyValue::Int(random(1_000) as i64)));
            }
            if n % 500 == 0 {
                attributes.push(pair(&format!("alone {n}"), AnyValue::String(n.to_string())));
            }
            Span {
                trace_id: u128::from(n / 7 + 1).to_be_bytes(),
                span_id: n.to_be_bytes(),
                parent_span_id: (n % 7 > 0).then(|| (n - 1).to_be_bytes()),
                start_ns: n,
                end_ns: n,
                attributes,
                ..Span::default()
            }
        })
        .collect();
    let whole = stage(&spans);
    let (first, second) = (stage(&spans[..11_111]), stage(&spans[11_111..]));
    let images = [&first, &second].map(|stage| {
        in_memory(&[Input::all(Source::Stage(stage))], &|_| false)
            .unwrap()
            .0
    });
    let inputs: Vec<_> = images
        .iter()
        .map(|image| Input::all(Source::Image(image)))
        .collect();
    let (image, built, _) = in_memory(&inputs, &|_| false).unwrap();
    assert_eq!(built.spans as usize, spans.len());
    let all = (0..spans.len() as u32).collect();
    let known: (&[u8], &[table::Key]) = (&[columns::ID, columns::DURATION], &[columns::NAME]);
    let mut expected = gather::contents(&whole.spans, known, &all).unwrap();
    let mut found = gather::contents(&image.spans, known, &all).unwrap();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let shapes = image.spans.row_shapes().unwrap();
    assert!(
        shapes.lists.len() > table::SHAPES_MAX,
        "{}",
        shapes.lists.len()
    );
    assert!(image.spans.attributes().count() > table::COLUMNS_MAX);
}

/// Rows that hardly ever have the same attributes: some in the usual order, some in any, some with
/// more than numbers of orders can tell, some with keys that come again or are rare.
fn scattered(count: u64) -> Vec<Span> {
    let mut state = 11u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let span = |n: u64| {
        let mut keys: Vec<u64> = (0..30).filter(|_| random(3) == 0).collect();
        if n.is_multiple_of(3) {
            for at in (1..keys.len()).rev() {
                keys.swap(at, random(at as u64 + 1) as usize);
            }
        }
        if n.is_multiple_of(100) {
            keys = (0..28).rev().collect();
        }
        let value = |key: u64, number: u64| match key % 4 {
            0 => AnyValue::Int(number as i64),
            1 => AnyValue::String(format!("value {number}")),
            2 => AnyValue::Bool(number.is_multiple_of(2)),
            _ => AnyValue::Double(number as f64),
        };
        let pairs = keys.into_iter();
        let pairs = pairs.map(|key| pair(&format!("key {key}"), value(key, random(100))));
        let mut attributes: Vec<KeyValue> = pairs.collect();
        if n.is_multiple_of(50) {
            attributes.insert(0, pair("key 1", AnyValue::Int(1)));
            attributes.push(pair("key 1", AnyValue::Int(2)));
        }
        if n.is_multiple_of(7) {
            let rare = pair(&format!("rare {}", n % 1_000), AnyValue::Int(n as i64));
            attributes.insert(attributes.len() / 2, rare);
        }
        Span {
            trace_id: (u128::from(n) / 5 + 1).to_be_bytes(),
            span_id: n.to_be_bytes(),
            start_ns: n / 5,
            end_ns: n,
            attributes,
            ..Span::default()
        }
    };
    (1..count).map(span).collect()
}

fn images(pieces: &[&[Span]]) -> Vec<Image> {
    let image = |spans: &&[Span]| {
        let stage = stage(spans);
        let input = Input::all(Source::Stage(&stage));
        in_memory(&[input], &|_| false).unwrap().0
    };
    pieces.iter().map(image).collect()
}

fn merged(images: &[Image]) -> Image {
    let inputs: Vec<_> = images
        .iter()
        .map(|image| Input::all(Source::Image(image)))
        .collect();
    in_memory(&inputs, &|_| false).unwrap().0
}

#[test]
fn rows_of_many_shapes_come_back() {
    let spans = scattered(10_000);
    let (first, second) = spans.split_at(4_001);
    // Of very few rows the shapes are listed.
    let images = images(&[first, &second[..5], &second[5..]]);
    let image = merged(&images);
    let asks_shapes = |image: &Image| {
        let key = table::Key::Attribute("key 4".into(), Type::Int);
        let column = image.spans.known(&key).unwrap();
        image.spans.asks_shapes(column)
    };
    assert!(asks_shapes(&images[1]) && !asks_shapes(&image));
    assert_eq!(image.check().unwrap(), spans.len() as u64);
    let mut read = 0;
    // Some traces, with every kind of order and with rare keys.
    for trace in image.traces().unwrap().iter().step_by(19) {
        for found in crate::scan::spans::read(&image, trace).unwrap() {
            let n = u64::from_be_bytes(found.span.span_id) as usize;
            assert_eq!(found.span.attributes, spans[n - 1].attributes, "{n}");
            read += 1;
        }
    }
    assert!(read > spans.len() / 20, "{read}");
}

#[test]
fn rare_attributes_of_few_values_share_a_column() {
    let often = |n: u64| (0..4).map(move |k| pair(&format!("often {k}"), AnyValue::Int(n as i64)));
    let spans: Vec<Span> = (1..=200u64)
        .map(|n| {
            let mut attributes: Vec<KeyValue> = often(n).collect();
            for (key, values) in [("a", 16), ("b", 17)] {
                if n <= values {
                    attributes.insert(1, pair(key, AnyValue::String(format!("{key} {n}"))));
                }
            }
            if n == 77 {
                attributes.push(pair("c", AnyValue::Double(0.5)));
            }
            Span {
                trace_id: u128::from(n).to_be_bytes(),
                span_id: n.to_be_bytes(),
                start_ns: n,
                end_ns: n,
                attributes,
                ..Span::default()
            }
        })
        .collect();
    let (first, second) = spans.split_at(90);
    for image in [
        merged(&images(&[first, second])),
        images(&[&spans]).remove(0),
    ] {
        let table = &image.spans;
        let attribute = |name: &str, kind| table::Key::Attribute(name.into(), kind);
        let own = |name: &str, kind| {
            let key = attribute(name, kind);
            assert!(table.has(&key), "{name}");
            table.columns().iter().any(|column| column.key == key)
        };
        assert!(own("often 0", Type::Int) && own("b", Type::Str));
        assert!(!own("a", Type::Str) && !own("c", Type::Float));
        assert!(!table.has(&attribute("a", Type::Int)));
        assert!(table.column(&attribute("d", Type::Str)).unwrap().is_none());
        let a = table.known(&attribute("a", Type::Str)).unwrap();
        assert_eq!(a.values.meta().values(), 16);
        assert_eq!(table.values_of(&attribute("a", Type::Str)), Some(16));
        let rows = table.told_rows(a).unwrap();
        assert_eq!(rows, Some((0..16).collect()));
        for trace in image.traces().unwrap() {
            let found = crate::scan::spans::read(&image, &trace).unwrap();
            let n = u64::from_be_bytes(found[0].span.span_id) as usize;
            assert_eq!(found[0].span.attributes, spans[n - 1].attributes);
        }
        image.check().unwrap();
    }
}

/// Ids that differ in one half only, and more than a page of them.
#[test]
fn traces_are_found_by_id() {
    let span = |trace: u128| Span {
        trace_id: trace.to_be_bytes(),
        span_id: [1; 8],
        ..Span::default()
    };
    let halves = |high: u128, low: u128| high << 64 | low;
    let high = 1u128 << 63;
    let mut ids: Vec<u128> = (1..9_000u128).map(|n| halves(n, n * n)).collect();
    ids.extend((1..500).map(|low| halves(high, low)));
    ids.extend((0..9).map(|n| halves(high - 1 + n, 7)));
    ids.extend([1, u128::MAX]);
    let spans: Vec<Span> = ids.iter().map(|id| span(*id)).collect();
    let (image, _, _) =
        in_memory(&[Input::all(Source::Stage(&stage(&spans)))], &|_| false).unwrap();
    for id in &ids {
        let place = image.find(&id.to_be_bytes()).unwrap().expect("it is there");
        assert_eq!(image.trace(place).unwrap().id, id.to_be_bytes());
    }
    for id in [
        halves(3, 8),
        halves(high, 500),
        halves(high, 0),
        2,
        u128::MAX - 1,
    ] {
        assert_eq!(image.find(&id.to_be_bytes()).unwrap(), None, "{id:x}");
    }
}

/// A block of a few spans of every kind as a file.
fn file() -> Vec<u8> {
    let spans: Vec<Span> = (1..24u64)
        .map(|n| {
            let mut attributes = vec![
                pair("text", AnyValue::String(format!("user-{n}"))),
                pair("few", AnyValue::String(["a", "b"][n as usize % 2].into())),
                pair("number", AnyValue::Int(n as i64 * 1_000)),
            ];
            if n % 3 == 0 {
                attributes.push(pair("number", AnyValue::Bool(true)));
                attributes.push(pair("list", AnyValue::Array(vec![AnyValue::Int(1)])));
            }
            Span {
                trace_id: [1 + n as u8 / 9; 16],
                span_id: [n as u8; 8],
                parent_span_id: (n % 9 > 0).then(|| [n as u8 - 1; 8]),
                start_ns: 100 * n,
                end_ns: 100 * n + 50,
                attributes,
                events: vec![Event {
                    time_ns: 100 * n + 1,
                    name: "e".into(),
                    ..Event::default()
                }],
                links: vec![Link {
                    trace_id: vec![7; 16],
                    span_id: vec![n as u8],
                    ..Link::default()
                }],
                ..Span::default()
            }
        })
        .collect();
    file_of(&spans)
}

fn file_of(spans: &[Span]) -> Vec<u8> {
    let file = MemoryFile::default();
    let mut sink = SealedWriter::new(file.writer(), Path::new("x"), format::KIND).unwrap();
    build::write(
        &[Input::all(Source::Stage(&stage(spans)))],
        &mut sink,
        &|_| true,
    )
    .unwrap();
    sink.finish().unwrap();
    let file = file.finish();
    let whole = 0..file.len();
    file.read(std::slice::from_ref(&whole)).unwrap()[0].to_vec()
}

/// Reads all that there is of a file whose checksums say nothing.
fn read_all(bytes: Vec<u8>) -> Result<u64> {
    let file = MemoryFile::of(bytes).finish();
    let file = SealedFile::open_unchecked(file, "x", format::KIND)?;
    let image = Image::open(&file)?;
    image.traces_with_more().ok();
    image.find(&[3; 16]).ok();
    for row in 0..3 {
        image.parent_id(row).ok();
    }
    in_memory(&[Input::all(Source::Image(&image))], &|_| false).ok();
    image.check()
}

#[test]
fn damage_that_no_checksum_tells_is_an_error_or_another_answer() {
    let good = file();
    assert_eq!(read_all(good.clone()).unwrap(), 23);
    let mut errors = 0;
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            errors += u64::from(read_all(bytes).is_err());
        }
    }
    assert!(
        errors > good.len() as u64 / 4,
        "{errors} of {}",
        3 * good.len()
    );
    for len in (0..good.len()).step_by(9) {
        assert!(read_all(good[..len].to_vec()).is_err(), "cut at {len}");
    }
}

/// The same of a table whose columns tell their rows by page; every so many bytes, as it is long.
#[test]
fn damage_of_rows_of_many_shapes_is_an_error_or_another_answer() {
    let good = file_of(&scattered(1_200));
    assert_eq!(read_all(good.clone()).unwrap(), 1_199);
    let step = good.len() / 120;
    let mut errors = 0;
    for at in (0..good.len()).step_by(step) {
        let mut bytes = good.clone();
        bytes[at] ^= [1, 0x80, 0xff][at % 3];
        errors += usize::from(read_all(bytes).is_err());
    }
    assert!(errors > 6, "{errors}");
}

/// A page may have more values of a column than rows: keys that come again.
#[test]
fn many_attributes_of_one_key_come_back() {
    let spans: Vec<Span> = (1..5_000u64)
        .map(|n| Span {
            trace_id: (u128::from(n) / 4 + 1).to_be_bytes(),
            span_id: n.to_be_bytes(),
            start_ns: n,
            end_ns: n,
            attributes: (0..4)
                .map(|k| pair("k", AnyValue::Int((n + k) as i64)))
                .collect(),
            ..Span::default()
        })
        .collect();
    let (image, _, _) =
        in_memory(&[Input::all(Source::Stage(&stage(&spans)))], &|_| false).unwrap();
    let mut read = 0;
    for trace in image.traces().unwrap() {
        for found in crate::scan::spans::read(&image, &trace).unwrap() {
            let n = u64::from_be_bytes(found.span.span_id) as usize;
            assert_eq!(found.span.attributes, spans[n - 1].attributes);
            read += 1;
        }
    }
    assert_eq!(read, spans.len());
}
