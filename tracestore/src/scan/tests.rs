//! Every answer against a naive reading of the spans as they came.

mod naive;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use roaring::RoaringBitmap;
use trine_storage::TimeRange;

use super::{Piece, View, matching_rows};
use crate::block::build::{Input, Source};
use crate::block::format::span;
use crate::block::image::{Image, in_memory};
use crate::model::{Resource, Scope, Span, TraceId};
use crate::request::{
    ABSENT, AttributeRef, Batch, Column, Intrinsic, NO_ROW, Rows, SpanBatch, Value,
};
use naive::Held;

fn image(spans: &[Held]) -> Arc<Image> {
    let stage = naive::stage(spans);
    let (image, ..) = in_memory(&[Input::all(Source::Stage(&stage))], &|_| false).unwrap();
    Arc::new(image)
}

/// Images of neighbouring spans, older ones first, and rows that are hidden of each. What is hidden
/// are spans that `hide` names, wherever they lie.
struct Places(Vec<(Arc<Image>, Arc<RoaringBitmap>)>);

impl Places {
    fn of(spans: &[Held], cuts: &[usize], hide: &dyn Fn(&Held) -> bool) -> Self {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (spans.len() + 1)).collect();
        cuts.sort_unstable();
        let mut first = 0;
        let mut places: Vec<(Arc<Image>, Arc<RoaringBitmap>)> = Vec::new();
        for end in cuts.into_iter().chain([spans.len()]) {
            let part = &spans[first..end];
            let stage = naive::stage(part);
            let has_more = |id: &TraceId| {
                places
                    .iter()
                    .any(|(image, _)| image.find(id).unwrap().is_some())
            };
            let input = [Input::all(Source::Stage(&stage))];
            let (image, ..) = in_memory(&input, &has_more).unwrap();
            let hidden: BTreeSet<([u8; 16], u64, u64)> = part
                .iter()
                .filter(|held| hide(held))
                .map(|held| told(&held.span))
                .collect();
            let all: RoaringBitmap = (0..image.spans.rows() as u32).collect();
            let rows = rows(&image, &all).into_iter();
            let hidden = rows
                .filter(|(_, span)| hidden.contains(span))
                .map(|(row, _)| row);
            let hidden = Arc::new(hidden.collect());
            places.push((Arc::new(image), hidden));
            first = end;
        }
        Self(places)
    }

    fn pieces(&self, id: &TraceId) -> Vec<Piece> {
        let piece = |(image, hidden): &(Arc<Image>, Arc<RoaringBitmap>)| {
            let place = image.find(id).unwrap()?;
            let (image, hidden) = (Arc::clone(image), Arc::clone(hidden));
            Some(Piece {
                image,
                place,
                hidden,
            })
        };
        self.0.iter().filter_map(piece).collect()
    }
}

fn views(places: &Places) -> Vec<View> {
    let everything = TimeRange::new(i64::MIN, i64::MAX);
    let view = |(image, hidden): &(Arc<Image>, Arc<RoaringBitmap>)| {
        let mut starts = image.absolute_starts().unwrap();
        starts.sort_unstable();
        let range = starts.first().zip(starts.last());
        let range = range.map_or(TimeRange::new(0, 0), |(first, last)| {
            TimeRange::new(*first as i64, *last as i64 + 1)
        });
        assert!(range.start >= everything.start);
        View::new(Arc::clone(image), Arc::clone(hidden), range).unwrap()
    };
    places.0.iter().map(view).collect()
}

/// What a batch tells of each of its traces, span by span, in words.
fn words(batch: &SpanBatch, attributes: &[AttributeRef]) -> Vec<String> {
    let code = |column: &Column, row: usize| match column.codes[row] {
        ABSENT => None,
        code => Some(column.dictionary[code as usize].clone()),
    };
    let mut found = Vec::new();
    for trace in &batch.traces {
        let rows = trace.rows.start as usize..trace.rows.end as usize;
        let mut spans = Vec::new();
        for row in rows.clone() {
            let parent = batch.parents[row];
            if parent != NO_ROW {
                assert!(rows.contains(&(parent as usize)) && (parent as usize) < row);
                assert_eq!(batch.parent_ids[row], batch.span_ids[parent as usize]);
                assert_eq!(batch.nested_parent[row], batch.nested_left[parent as usize]);
                assert!(batch.nested_right[row] < batch.nested_right[parent as usize]);
            } else {
                let is_root = batch.parent_ids[row] == [0; 8];
                assert_eq!(batch.nested_parent[row], if is_root { -1 } else { 0 });
            }
            let column = |attribute: &AttributeRef| {
                let AttributeRef::Attribute { scope, key } = attribute else {
                    return None;
                };
                let of = |scope: crate::request::Scope| {
                    let mut columns = batch.attributes.iter();
                    let held = columns.find(|c| c.scope == scope && *c.key == **key)?;
                    code(&held.column, row)
                };
                match scope {
                    Some(scope) => of(*scope),
                    None => of(crate::request::Scope::Span)
                        .or_else(|| of(crate::request::Scope::Resource)),
                }
            };
            spans.push(format!(
                "{:?} {:?} {} {} {} {} {:?} {:?} {:?}",
                batch.span_ids[row],
                batch.parent_ids[row],
                batch.starts[row],
                batch.durations[row],
                batch.kinds[row],
                batch.statuses[row],
                code(&batch.names, row),
                code(&batch.status_messages, row),
                attributes.iter().map(column).collect::<Vec<_>>(),
            ));
        }
        spans.sort();
        found.push(format!(
            "{:?} {}..{} {:?} {:?}: {}",
            trace.id,
            trace.start,
            trace.end,
            trace.root_name,
            trace.root_service,
            spans.join("; ")
        ));
    }
    found
}

/// The same of a trace as it came.
fn naive_words(trace: &[Held], attributes: &[AttributeRef]) -> String {
    let span = |held: &Held| {
        let of = |attribute: &AttributeRef| naive::values(trace, held, attribute);
        let intrinsic = |intrinsic| match of(&AttributeRef::Intrinsic(intrinsic)).remove(0) {
            Some(Value::Int(number)) => number,
            other => panic!("{other:?} is no number"),
        };
        let attribute = |attribute: &AttributeRef| {
            let AttributeRef::Attribute { .. } = attribute else {
                return None;
            };
            let mut values: Vec<Value> = of(attribute).into_iter().flatten().collect();
            match values.len() {
                0 | 1 => values.pop(),
                _ => Some(Value::Array(values)),
            }
        };
        let text = |text: &str| Some(Value::Str(text.into()));
        let span = &held.span;
        format!(
            "{:?} {:?} {} {} {} {} {:?} {:?} {:?}",
            span.span_id,
            span.parent_span_id.unwrap_or([0; 8]),
            span.start_ns,
            naive::took(span),
            intrinsic(Intrinsic::Kind),
            intrinsic(Intrinsic::Status),
            text(&span.name),
            text(span.status.as_ref().map_or("", |status| &status.message)),
            attributes.iter().map(attribute).collect::<Vec<_>>(),
        )
    };
    let mut spans: Vec<String> = trace.iter().map(span).collect();
    spans.sort();
    let (start, end) = naive::extent(trace);
    format!(
        "{:?} {start}..{end} {:?} {:?}: {}",
        trace[0].span.trace_id,
        naive::root_name(trace),
        naive::root_service(trace),
        spans.join("; ")
    )
}

/// Hides some spans by what they are.
fn hides(modulus: u8) -> impl Fn(&Held) -> bool {
    move |held| modulus > 0 && (held.span.span_id[0] + held.span.trace_id[0]) % modulus == 0
}

/// What tells a span apart.
fn told(span: &Span) -> ([u8; 16], u64, u64) {
    let kind = ((span.kind << 1) ^ (span.kind >> 31)) as u32;
    (span.trace_id, u64::from_be_bytes(span.span_id), kind.into())
}

/// Rows with what tells their spans apart.
fn rows(image: &Image, rows: &RoaringBitmap) -> Vec<(u32, ([u8; 16], u64, u64))> {
    let ids = image.spans.all_numbers(span::ID).unwrap();
    let kinds = image.spans.all_numbers(span::KIND).unwrap();
    let mut found = Vec::new();
    for trace in image.traces().unwrap() {
        for row in trace.rows.filter(|row| rows.contains(*row)) {
            found.push((row, (trace.id, ids[row as usize], kinds[row as usize])));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn filters_choose_the_spans_that_satisfy_them(
        spans in prop::collection::vec(naive::held(), 0..30),
        filters in prop::collection::vec(naive::filter(), 6),
        range in naive::range(),
    ) {
        let image = image(&spans);
        let traces = naive::traces(&spans);
        for filter in &filters {
            let mut expected = BTreeSet::new();
            for trace in traces.values() {
                for held in trace {
                    let span = &held.span;
                    if range.contains(naive::start(span)) && naive::satisfies(trace, held, filter) {
                        expected.insert(told(span));
                    }
                }
            }
            let found = matching_rows(&image, filter, range, &Arc::default()).unwrap();
            let found: BTreeSet<_> = rows(&image, &found).into_iter().map(|(_, span)| span).collect();
            prop_assert_eq!(found, expected, "{:?}", filter);
        }
    }

    #[test]
    fn traces_come_back_as_they_came(
        spans in prop::collection::vec(naive::held(), 1..40),
        cuts in prop::collection::vec(0usize..40, 0..4),
        modulus in 0u8..4,
    ) {
        let hide = hides(modulus);
        let places = Places::of(&spans, &cuts, &hide);
        // Of a span that is there twice the later one is not seen, whether or not the first is hidden.
        for (id, trace) in naive::traces(&spans) {
            let mut expected: Vec<String> =
                trace.iter().filter(|held| !hide(held)).map(|held| format!("{held:?}")).collect();
            let found = super::trace(&places.pieces(&id)).unwrap();
            prop_assert_eq!(found.is_some(), !expected.is_empty());
            let found = found.unwrap_or_default();
            let held = |(resource, scope, span): (&Arc<Resource>, &Arc<Scope>, &Span)| {
                let held = Held {
                    resource: (**resource).clone(),
                    scope: (**scope).clone(),
                    span: span.clone(),
                };
                format!("{held:?}")
            };
            let mut found: Vec<String> = found.spans().map(held).collect();
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
        }
        prop_assert!(places.pieces(&[99; 16]).is_empty());
    }

    #[test]
    fn whole_traces_come_newest_first(
        spans in prop::collection::vec(naive::held(), 1..40),
        cuts in prop::collection::vec(0usize..40, 0..4),
        modulus in 0u8..6,
        filters in prop::collection::vec(naive::trace_filter(), 4),
        range in naive::range(),
        projection in prop::collection::vec(naive::attribute(), 0..5),
    ) {
        let hide = hides(modulus);
        let places = Places::of(&spans, &cuts, &hide);
        let seen: Vec<Held> = spans.iter().filter(|held| !hide(held)).cloned().collect();
        let mut traces: Vec<Vec<Held>> = naive::traces(&seen).into_values().collect();
        traces.sort_by_key(|trace| (Reverse(naive::extent(trace).0), trace[0].span.trace_id));
        for filter in filters {
            let expected: Vec<String> = traces
                .iter()
                .filter(|trace| naive::trace_satisfies(trace, &filter, range))
                .map(|trace| naive_words(trace, &projection))
                .collect();
            let request = Rows { range, filter, projection: projection.clone() };
            let mut found = Vec::new();
            for batch in super::rows(views(&places), &request).unwrap() {
                match batch.unwrap() {
                    Batch::Spans(batch) => found.extend(words(&batch, &projection)),
                    Batch::Counts(_) => panic!("rows were asked for"),
                }
            }
            prop_assert_eq!(found, expected, "{:?}", request.filter);
        }
    }
}
