//! Every answer against a naive reading of the spans as they came.

mod naive;

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::matching_rows;
use crate::block::build::{Input, Source};
use crate::block::format::span;
use crate::block::image::{Image, in_memory};
use naive::Held;

fn image(spans: &[Held]) -> Arc<Image> {
    let stage = naive::stage(spans);
    let (image, ..) = in_memory(&[Input::all(Source::Stage(&stage))], &|_| false).unwrap();
    Arc::new(image)
}

/// What tells spans apart: trace, id, and when they began.
fn found(image: &Image, rows: &RoaringBitmap) -> BTreeSet<([u8; 16], u64, u64)> {
    let ids = image.spans.all_numbers(span::ID).unwrap();
    let kinds = image.spans.all_numbers(span::KIND).unwrap();
    let mut found = BTreeSet::new();
    for trace in image.traces().unwrap() {
        for row in trace.rows.filter(|row| rows.contains(*row)) {
            found.insert((trace.id, ids[row as usize], kinds[row as usize]));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

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
                        let kind = ((span.kind << 1) ^ (span.kind >> 31)) as u32;
                        expected.insert((span.trace_id, u64::from_be_bytes(span.span_id), kind.into()));
                    }
                }
            }
            let rows = matching_rows(&image, filter, range, &Arc::default()).unwrap();
            prop_assert_eq!(found(&image, &rows), expected, "{:?}", filter);
        }
    }
}
