//! Random operations against a naive model: traces split over memory and blocks, spans that come
//! twice, missing roots, links in circles.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trine_storage::TimeRange;
use trine_storage::sim::SimFs;
use trine_tracestore::{NO_ROW, Request, Rows};

use crate::store::{open, put, service, span};

#[derive(Debug, Clone)]
enum Op {
    /// Trace, span, parent.
    Append(Vec<(u8, u8, u8)>),
    Flush,
    Reopen,
    Read,
}

fn op() -> impl Strategy<Value = Op> {
    let rows = prop::collection::vec((1u8..4, 1u8..6, 0u8..6), 1..8);
    prop_oneof![
        4 => rows.prop_map(Op::Append),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        2 => Just(Op::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_store_is_a_map_of_first_spans(ops in prop::collection::vec(op(), 1..20)) {
        let fs = SimFs::new();
        let mut store = open(&fs);
        // (trace, span) -> (parent, start): the first counts.
        let mut model: BTreeMap<(u8, u8), (u8, u64)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Append(rows) => {
                    let mut spans = Vec::new();
                    for (trace, id, parent) in rows {
                        // A span that comes twice began when it began.
                        let start = u64::from(trace * id) * 5;
                        // An hour apart, so that a seal makes several blocks.
                        spans.push(span(trace, id, parent, &format!("{id}"), start * 3600));
                        model.entry((trace, id)).or_insert((parent, start * 3600));
                    }
                    put(&store, &service("s"), spans);
                }
                Op::Flush => store.flush().unwrap(),
                Op::Reopen => {
                    drop(store);
                    store = open(&fs);
                }
                Op::Read => {}
            }
            let mut traces: BTreeMap<u8, BTreeMap<u8, (u8, u64)>> = BTreeMap::new();
            for ((trace, id), held) in &model {
                traces.entry(*trace).or_default().insert(*id, *held);
            }
            let rows = Rows { range: TimeRange::ALL, conditions: vec![], all: true, projection: vec![] };
            let mut found = BTreeMap::new();
            let mut starts = Vec::new();
            for batch in store.snapshot().spans(&Request::Rows(rows)).unwrap() {
                let batch = batch.unwrap();
                for trace in &batch.traces {
                    starts.push(trace.start);
                    let spans = found.entry(trace.id[0]).or_insert_with(BTreeMap::new);
                    for row in trace.rows.clone().map(|row| row as usize) {
                        let start = batch.starts[row].cast_unsigned() / 1_000_000_000;
                        spans.insert(batch.span_ids[row][0], (batch.parent_ids[row][0], start));
                        let stored = traces[&trace.id[0]].contains_key(&batch.parent_ids[row][0]);
                        let itself = batch.parent_ids[row] == batch.span_ids[row];
                        prop_assert_eq!(batch.parents[row] != NO_ROW, stored && !itself);
                        if batch.parents[row] != NO_ROW {
                            let parent = batch.parents[row] as usize;
                            prop_assert_eq!(batch.span_ids[parent], batch.parent_ids[row]);
                            prop_assert_eq!(batch.nested_parent[row], batch.nested_left[parent]);
                        }
                        prop_assert!(batch.nested_left[row] < batch.nested_right[row]);
                    }
                }
            }
            prop_assert_eq!(&found, &traces);
            prop_assert!(starts.is_sorted_by(|a, b| a >= b), "newest first: {:?}", starts);
            for (trace, spans) in &traces {
                let by_id = store.snapshot().trace([*trace; 16]).unwrap().unwrap();
                prop_assert_eq!(by_id.spans().count(), spans.len());
            }
        }
    }
}
