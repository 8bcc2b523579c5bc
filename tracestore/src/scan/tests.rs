//! Every answer against a naive reading of the spans as they came.

mod naive;
mod names;
mod random;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use roaring::RoaringBitmap;
use trine_storage::TimeRange;
use trine_storage::fs::{MemoryFile, ReadFile};
use trine_storage::sealed::{SealedFile, SealedWriter};

use super::{Piece, View, matching_rows};
use crate::block::build::{self, Input, Source};
use crate::block::format::{self, span};
use crate::block::image::{Image, in_memory};
use crate::model::{AnyValue, KeyValue, Resource, Scope, Span, TraceId};
use crate::request::{
    ABSENT, AttributeRef, Batch, Column, Comparison, Condition, Counts, Effort, Filter, Intrinsic,
    Measure, NO_ROW, Rows, SpanBatch, Test, TraceFilter, Value, ValuesRequest,
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
            let hidden: BTreeSet<Told> = part
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
                // Of events and links each one's value, in their order.
                let below = |scope: crate::request::Scope, owners: &[u32]| {
                    assert!(owners.is_sorted());
                    let mut columns = batch.attributes.iter();
                    let held = columns.find(|c| c.scope == scope && *c.key == **key)?;
                    assert_eq!(held.column.codes.len(), owners.len());
                    let places = (0..owners.len()).filter(|at| owners[*at] as usize == row);
                    let values: Vec<Option<Value>> =
                        places.map(|at| code(&held.column, at)).collect();
                    some_values(&values)
                };
                match scope {
                    Some(scope @ crate::request::Scope::Event) => below(*scope, &batch.events),
                    Some(scope @ crate::request::Scope::Link) => below(*scope, &batch.links),
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

/// The values of the events of a span in words; none when no event has one.
fn some_values(values: &[Option<Value>]) -> Option<Value> {
    let has_some = values.iter().any(Option::is_some);
    has_some.then(|| Value::Str(format!("{values:?}").into()))
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
            let values = of(attribute);
            match naive::is_of_children(attribute) {
                true => some_values(&values),
                false => values.into_iter().flatten().next(),
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

/// Trace, id and kind.
type Told = (TraceId, u64, u64);

/// What tells a span apart.
fn told(span: &Span) -> Told {
    let kind = ((span.kind << 1) ^ (span.kind >> 31)) as u32;
    (span.trace_id, u64::from_be_bytes(span.span_id), kind.into())
}

/// Rows with what tells their spans apart.
fn rows(image: &Image, rows: &RoaringBitmap) -> Vec<(u32, Told)> {
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
        spans in prop::collection::vec(random::held(), 0..30),
        filters in prop::collection::vec(random::filter(), 6),
        range in random::range(),
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
        spans in prop::collection::vec(random::held(), 1..40),
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
        spans in prop::collection::vec(random::held(), 1..40),
        cuts in prop::collection::vec(0usize..40, 0..4),
        modulus in 0u8..6,
        filters in prop::collection::vec(random::trace_filter(), 4),
        range in random::range(),
        projection in prop::collection::vec(random::attribute(), 0..5),
        enough in 0usize..5,
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
            let request = Rows { range, filter, projection: projection.clone(), enough };
            let mut found = Vec::new();
            for batch in super::rows(views(&places), &request).unwrap() {
                match batch.unwrap() {
                    Batch::Spans(batch) => found.extend(words(&batch, &projection)),
                    other => panic!("rows were asked for, not {other:?}"),
                }
            }
            prop_assert_eq!(found, expected, "{:?}", request.filter);
        }
    }

    #[test]
    fn spans_are_counted_once(
        spans in prop::collection::vec(random::held(), 1..40),
        cuts in prop::collection::vec(0usize..40, 0..4),
        modulus in 0u8..6,
        filter in random::filter(),
        range in random::range(),
        by in prop::collection::vec(random::attribute(), 0..3),
        measure in random::measure(),
        (origin_ns, bucket_ns) in (900i64..1_100, -1i64..40),
    ) {
        let hide = hides(modulus);
        let places = Places::of(&spans, &cuts, &hide);
        let seen: Vec<Held> = spans.iter().filter(|held| !hide(held)).cloned().collect();
        let effort = Effort::default();
        let groups_max = usize::MAX;
        let request =
            Counts { range, filter, origin_ns, bucket_ns, by, measure, groups_max, effort };
        let expected = naive::counts(&seen, &request);
        let batches = super::counts(&views(&places), &request).unwrap();
        let mut found = Vec::new();
        for batch in batches {
            let Batch::Counts(batch) = batch.unwrap() else { panic!("counts were asked for") };
            for row in 0..batch.counts.len() {
                let value = |column: &Column| {
                    column.dictionary.get(column.codes[row] as usize).cloned()
                };
                let by: Vec<Option<Value>> = batch.by.iter().map(value).collect();
                let exponent = batch.exponents.get(row).copied();
                let held = batch.values.get(row).copied();
                found.push(format!(
                    "{} {by:?} {exponent:?} {} {held:?}",
                    batch.buckets[row], batch.counts[row]
                ));
            }
            prop_assert!(batch.buckets.is_sorted());
        }
        found.sort();
        prop_assert_eq!(found, expected, "{:?}", request);
    }

    #[test]
    fn values_are_compared_between_kinds_of_spans(
        spans in prop::collection::vec(random::held(), 1..40),
        cuts in prop::collection::vec(0usize..40, 0..4),
        (modulus, threads) in (0u8..6, 0usize..3),
        filter in random::filter(),
        selection in random::filter(),
        (range, selected_range) in (random::range(), random::range()),
        attributes in prop::collection::vec(random::attribute(), 0..4),
        (origin_ns, bucket_ns) in (900i64..1_100, -1i64..40),
        values_max in 0usize..8,
    ) {
        let hide = hides(modulus);
        let places = Places::of(&spans, &cuts, &hide);
        let seen: Vec<Held> = spans.iter().filter(|held| !hide(held)).cloned().collect();
        let effort = Effort { threads, ..Effort::default() };
        let all = Comparison {
            range, filter, selection, selected_range, origin_ns, bucket_ns, attributes,
            values_max: usize::MAX, effort,
        };
        let expected = naive::comparison(&seen, &all);
        prop_assert_eq!(&compared(&places, &all), &expected, "{:?}", all);
        // Values that are not told apart add up to what is missing of those that are.
        let some = Comparison { values_max, ..all };
        let found = compared(&places, &some);
        let sum = |of: &naive::Compared, at: (usize, i64)| {
            let of_bucket = of.iter().filter(|(key, _)| (key.0, key.2) == at);
            of_bucket.fold((0, 0), |sum, (_, held)| (sum.0 + held.0, sum.1 + held.1))
        };
        for (attribute, value, bucket) in found.keys() {
            let at = (*attribute, *bucket);
            prop_assert_eq!(sum(&found, at), sum(&expected, at));
            if let (Some(held), true) = (value, threads == 0) {
                let key = (*attribute, Some(held.clone()), *bucket);
                let (found, expected) = (found[&key], expected[&key]);
                prop_assert!(found.0 <= expected.0 && found.1 <= expected.1);
            }
        }
    }

    #[test]
    fn values_are_those_of_the_spans(
        spans in prop::collection::vec(random::held(), 1..40),
        cuts in prop::collection::vec(0usize..40, 0..4),
        modulus in 0u8..6,
        filter in prop::option::of(random::filter()),
        range in random::range(),
        attribute in random::attribute(),
    ) {
        let hide = hides(modulus);
        let places = Places::of(&spans, &cuts, &hide);
        let seen: Vec<Held> = spans.iter().filter(|held| !hide(held)).cloned().collect();
        let expected = naive::distinct(&seen, &attribute, filter.as_ref(), range);
        // What is hidden has to be left out span by span.
        let is_told = match &attribute {
            AttributeRef::Attribute { .. } => true,
            AttributeRef::Intrinsic(intrinsic) => matches!(
                intrinsic,
                Intrinsic::Name
                    | Intrinsic::StatusMessage
                    | Intrinsic::Kind
                    | Intrinsic::Status
                    | Intrinsic::Duration
            ),
        };
        let is_whole = filter.is_none()
            && is_told
            && seen.len() == spans.len()
            && views(&places).iter().all(|view| view.range.overlaps(&range));
        let whole = naive::distinct(&seen, &attribute, None, TimeRange::ALL);
        let is_exact = filter.is_some() || cuts.is_empty();
        let request = ValuesRequest { attribute, range, filter, limit: usize::MAX };
        let values = super::attribute_values(&views(&places), &request).unwrap();
        let words = |(value, count): &(Value, u64)| (format!("{value:?}"), *count);
        let found: BTreeMap<String, u64> = values.iter().map(words).collect();
        prop_assert_eq!(found.len(), values.len());
        if is_exact && !naive::is_of_children(&request.attribute) {
            let has_both = matches!(request.attribute, AttributeRef::Attribute { scope: None, .. });
            if request.filter.is_some() || !has_both {
                let expected = if is_whole { &whole } else { &expected };
                prop_assert_eq!(&found, expected, "{:?}", request);
            }
        }
        // What a place tells as a whole may be more than what is seen.
        for value in expected.keys() {
            prop_assert!(found.contains_key(value), "{} of {:?}", value, request);
        }
        let some = ValuesRequest { limit: 2, ..request };
        let few = super::attribute_values(&views(&places), &some).unwrap();
        prop_assert_eq!(few.len(), found.len().min(2), "{:?}", some);
    }
}

/// What a comparison gives.
fn compared(places: &Places, request: &Comparison) -> naive::Compared {
    let mut found = naive::Compared::new();
    for batch in super::comparison(&views(places), request).unwrap() {
        let Batch::Comparison(batch) = batch.unwrap() else {
            panic!("a comparison was asked for");
        };
        assert_eq!(batch.attributes.len(), request.attributes.len());
        for (attribute, held) in batch.attributes.iter().enumerate() {
            assert!(held.values.dictionary.len() <= request.values_max);
            for row in 0..held.buckets.len() {
                let code = held.values.codes[row] as usize;
                let value = held.values.dictionary.get(code);
                let value = value.map(|value| format!("{value:?}"));
                let key = (attribute, value, held.buckets[row]);
                let sums = found.entry(key).or_insert((0, 0));
                assert!(held.selected[row] + held.others[row] > 0);
                sums.0 += held.selected[row];
                sums.1 += held.others[row];
            }
        }
    }
    found
}

#[test]
fn threads_share_the_work() {
    let spans: Vec<Held> = (0..30_000).map(|n| span_with(n, Vec::new())).collect();
    let places = Places::of(&spans, &[7_000, 20_000], &|_| false);
    let views = views(&places);
    let mut request = Counts {
        range: TimeRange::ALL,
        filter: Filter::And(Vec::new()),
        origin_ns: 0,
        bucket_ns: 1_000,
        by: vec![AttributeRef::Intrinsic(Intrinsic::Kind)],
        measure: Measure::Spans,
        groups_max: usize::MAX,
        effort: Effort::default(),
    };
    let count = |request: &Counts| {
        let mut found: BTreeMap<i64, u64> = BTreeMap::new();
        let batches: Vec<_> = super::counts(&views, request).unwrap().collect();
        for batch in &batches {
            let Ok(Batch::Counts(batch)) = batch else {
                panic!("counts were asked for");
            };
            for (bucket, count) in batch.buckets.iter().zip(&batch.counts) {
                *found.entry(*bucket).or_default() += count;
            }
        }
        (batches.len(), found)
    };
    let (batches, expected) = count(&request);
    assert_eq!((batches, expected.values().sum::<u64>()), (1, 30_000));
    for threads in 1..6 {
        request.effort.threads = threads;
        let (batches, found) = count(&request);
        assert!(batches <= threads + 1);
        assert_eq!(found, expected);
    }
    // A count that meets too many groups ends, and says so.
    request.effort.threads = 0;
    request.by = vec![AttributeRef::Intrinsic(Intrinsic::SpanId)];
    for (groups_max, is_full) in [(29_999, true), (30_000, false)] {
        request.groups_max = groups_max;
        let batches: Vec<_> = super::counts(&views, &request).unwrap().collect();
        let [Ok(Batch::Counts(batch))] = &batches[..] else {
            panic!("counts were asked for");
        };
        assert_eq!(batch.is_full, is_full);
    }
    // Whoever is told to stop has counted little.
    request.effort.stop.store(true, Ordering::Relaxed);
    assert!(count(&request).1.values().sum::<u64>() < 30_000);
}

/// A span with attributes.
fn span_with(number: u64, attributes: Vec<KeyValue>) -> Held {
    Held {
        resource: Resource::default(),
        scope: Scope::default(),
        span: Span {
            trace_id: u128::from(number / 50 + 1).to_be_bytes(),
            span_id: (number + 1).to_be_bytes(),
            name: format!("span {}", number % 3),
            start_ns: 1_000 + number,
            end_ns: 1_010 + number,
            attributes,
            ..Span::default()
        },
    }
}

fn number(key: String, value: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: AnyValue::Int(value),
    }
}

#[test]
fn rare_attributes_are_found_and_come_back() {
    // More keys than shapes name, each of a few spans; some are there twice or thrice.
    let attributes = |at: u64| {
        let mut all = vec![number(format!("k{at}"), 1), number("all".into(), 2)];
        all.push(number(format!("k{}", (at + 1) % 700), 3));
        if at.is_multiple_of(7) {
            all.push(number(format!("k{at}"), 4));
            all.push(number(format!("k{at}"), 5));
        }
        all
    };
    let spans: Vec<Held> = (0..700).map(|at| span_with(at, attributes(at))).collect();
    let places = Places::of(&spans, &[300], &|_| false);
    let traces = naive::traces(&spans);
    for (id, trace) in traces.iter().step_by(3) {
        let found = super::trace(&places.pieces(id)).unwrap().unwrap();
        let found: Vec<Span> = found.spans().map(|(_, _, span)| span.clone()).collect();
        let expected: Vec<Span> = trace.iter().map(|held| held.span.clone()).collect();
        assert_eq!(found, expected);
    }
    for key in ["k0", "k7", "k8", "k349", "k699", "all", "none"] {
        let attribute = AttributeRef::Attribute {
            scope: Some(crate::request::Scope::Span),
            key: key.into(),
        };
        let range = TimeRange::new(i64::MIN, i64::MAX);
        let test = Test::Equal(vec![Value::Int(3), Value::Int(5)]);
        let filter = Filter::Is(Condition {
            attribute: attribute.clone(),
            test,
        });
        let request = Rows {
            range,
            filter: TraceFilter::Has(filter.clone()),
            projection: vec![attribute.clone()],
            enough: usize::MAX,
        };
        let mut found = Vec::new();
        for batch in super::rows(views(&places), &request).unwrap() {
            let Batch::Spans(batch) = batch.unwrap() else {
                panic!("rows were asked for")
            };
            found.extend(words(&batch, &request.projection));
        }
        let matches = |trace: &&Vec<Held>| {
            trace
                .iter()
                .any(|held| naive::satisfies(trace, held, &filter))
        };
        let expected = traces.values().rev().filter(matches);
        let expected: Vec<String> = expected
            .map(|trace| naive_words(trace, &request.projection))
            .collect();
        assert_eq!(found, expected, "{key}");
        for filter in [None, Some(Filter::And(vec![]))] {
            let request = ValuesRequest {
                attribute: attribute.clone(),
                range,
                filter,
                limit: 9,
            };
            let found = super::attribute_values(&views(&places), &request).unwrap();
            let found: BTreeMap<String, u64> = found
                .iter()
                .map(|(value, count)| (format!("{value:?}"), *count))
                .collect();
            assert_eq!(
                found,
                naive::distinct(&spans, &attribute, None, range),
                "{key}"
            );
        }
    }
}

#[test]
fn few_rows_are_looked_at_one_by_one() {
    // Few spans have the name; the other condition is about a column that all of them have, or some,
    // by dictionary or packed.
    let spans: Vec<Held> = (0..600)
        .map(|at| {
            let size = i64::try_from(at * at % 6_007).unwrap();
            let mut all = vec![number("size".into(), size)];
            if at % 3 != 1 {
                all.push(number("step".into(), size % 5));
                all.push(number("rest".into(), size));
            }
            let mut held = span_with(at, all);
            held.span.name = ["other", "rare"][usize::from(at.is_multiple_of(25))].into();
            held
        })
        .collect();
    let places = Places::of(&spans, &[], &|_| false);
    let name = Filter::Is(Condition {
        attribute: AttributeRef::Intrinsic(Intrinsic::Name),
        test: Test::Equal(vec![Value::Str("rare".into())]),
    });
    let traces = naive::traces(&spans);
    for key in ["size", "step", "rest"] {
        for test in [
            Test::Equal(vec![Value::Int(0)]),
            Test::Greater(Value::Int(2)),
            Test::LessEqual(Value::Int(3_000)),
        ] {
            let attribute = AttributeRef::Attribute {
                scope: Some(crate::request::Scope::Span),
                key: key.into(),
            };
            let condition = Filter::Is(Condition { attribute, test });
            let filter = Filter::And(vec![name.clone(), condition]);
            let view = &views(&places)[0];
            let node = super::condition::Node::of(view, &filter, super::condition::Traces::Whole);
            let page = super::evaluate::Page::of_spans(view, 0);
            let all = super::page_rows::PageRows::first(spans.len());
            let found = page.rows(&node.unwrap(), &all).unwrap();
            let id = |row: u32| view.image.spans.number_at(span::ID, row as usize);
            let found: BTreeSet<u64> = found.iter().map(|row| id(row).unwrap()).collect();
            let satisfies =
                |held: &&Held| naive::satisfies(&traces[&held.span.trace_id], held, &filter);
            let expected = spans.iter().filter(satisfies);
            let expected: BTreeSet<u64> = expected
                .map(|held| u64::from_be_bytes(held.span.span_id))
                .collect();
            assert_eq!(found, expected, "{key} {filter:?}");
        }
    }
}

/// A file that counts what is read of it.
#[derive(Debug)]
struct Counted {
    file: Arc<dyn ReadFile>,
    pages: AtomicUsize,
}

impl ReadFile for Counted {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read(&self, ranges: &[std::ops::Range<u64>]) -> std::io::Result<Vec<bytes::Bytes>> {
        self.pages.fetch_add(ranges.len(), Ordering::Relaxed);
        self.file.read(ranges)
    }
}

#[test]
fn who_wants_a_few_traces_reads_a_few_pages() {
    let attributes = |at: u64| vec![number("n".into(), (at % 97) as i64), number("m".into(), 1)];
    let spans: Vec<Held> = (0..50_000)
        .map(|at| span_with(at, attributes(at)))
        .collect();
    let stage = naive::stage(&spans);
    let held = MemoryFile::default();
    let mut sink = SealedWriter::new(held.writer(), Path::new("counted"), format::KIND).unwrap();
    build::write(&[Input::all(Source::Stage(&stage))], &mut sink, &|_| false).unwrap();
    sink.finish().unwrap();
    let file = Arc::new(Counted {
        file: held.finish(),
        pages: AtomicUsize::new(0),
    });
    let sealed = SealedFile::open(Arc::clone(&file) as _, "counted", format::KIND).unwrap();
    let attribute = |key: &str| AttributeRef::Attribute {
        scope: Some(crate::request::Scope::Span),
        key: key.into(),
    };
    let has = |key: &str, value| {
        let test = Test::Equal(vec![Value::Int(value)]);
        TraceFilter::Has(Filter::Is(Condition {
            attribute: attribute(key),
            test,
        }))
    };
    let pages_of = |filter: TraceFilter, batches: usize| {
        let image = Arc::new(Image::open(&sealed).unwrap());
        let all = TimeRange::new(i64::MIN, i64::MAX);
        let view = View::new(image, Arc::default(), all).unwrap();
        let before = file.pages.load(Ordering::Relaxed);
        let request = Rows {
            range: all,
            filter,
            projection: vec![attribute("n")],
            enough: usize::MAX,
        };
        let found = super::rows(vec![view], &request).unwrap().take(batches);
        let traces: usize = found
            .map(|batch| match batch.unwrap() {
                Batch::Spans(batch) => batch.traces.len(),
                other => panic!("rows were asked for, not {other:?}"),
            })
            .sum();
        (traces, file.pages.load(Ordering::Relaxed) - before)
    };
    let (traces, everything) = pages_of(TraceFilter::All, usize::MAX);
    assert_eq!(traces, 1_000);
    for filter in [
        TraceFilter::All,
        has("n", 5),
        TraceFilter::And(vec![has("n", 5), has("m", 1)]),
    ] {
        let (traces, few) = pages_of(filter, 1);
        assert!(
            traces > 5 && few * 3 < everything,
            "{few} of {everything} pages"
        );
    }
    let (traces, none) = pages_of(has("n", 97), usize::MAX);
    assert_eq!(traces, 0);
    assert!(none <= 2, "{none} pages for what is not there");
}
