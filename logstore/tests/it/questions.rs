//! Random appends, flushes, reopens and scans against a plain vector.

use std::time::Duration;

use proptest::prelude::*;
use trine_logstore::{Config, Durability};
use trine_storage::sim::SimFs;
use trine_storage::{Labels, TimeRange};

use crate::naive;
use crate::store::{self, Entry};

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Entry>),
    Flush,
    Reopen,
}

fn config() -> Config {
    Config {
        block_range: Duration::from_nanos(10),
        block_ranges_max: 3,
        future_max: None,
        ..Config::default()
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(naive::entry(), 0..12).prop_map(Step::Append),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_store_answers_as_a_vector_does(
        steps in prop::collection::vec(step(), 1..12),
        rows in prop::collection::vec(naive::rows(), 1..6),
        counts in prop::collection::vec((naive::counts(), 1..3usize), 1..6),
    ) {
        let disk = SimFs::new();
        let mut store = store::open(&disk, config()).unwrap();
        let mut all: Vec<Entry> = Vec::new();
        let (mut stored_rows, mut sealed) = (0, 0);
        let mut since_seal: Vec<Entry> = Vec::new();
        for step in &steps {
            match step {
                Step::Append(entries) => {
                    let stored = store::append(&store, entries, Durability::Synced).unwrap();
                    prop_assert_eq!(stored, entries.len() as u64);
                    for entry in entries {
                        if !all.contains(entry) {
                            all.push(entry.clone());
                        }
                        if !since_seal.contains(entry) {
                            since_seal.push(entry.clone());
                        }
                    }
                    stored_rows = sealed + since_seal.len();
                }
                Step::Flush => {
                    store.flush().unwrap();
                    sealed = stored_rows;
                    since_seal.clear();
                }
                Step::Reopen => {
                    drop(store);
                    store = store::open(&disk, config()).unwrap();
                }
            }
        }
        let snapshot = store.snapshot();
        for question in &rows {
            naive::check_rows(&snapshot, &all, question);
            naive::check_volumes(&snapshot, &all, question);
        }
        for (question, parts) in &counts {
            naive::check_counts(&snapshot, &all, question, *parts);
        }
        let mut streams: Vec<Labels> = all.iter().map(|entry| entry.stream.clone()).collect();
        streams.sort();
        streams.dedup();
        prop_assert_eq!(snapshot.streams(&[], TimeRange::ALL).unwrap(), streams);
        let stats = store.stats();
        prop_assert_eq!(stats.buffer_rows + stats.block_rows, stored_rows as u64);
        let report = store.verify();
        prop_assert!(report.errors.is_empty(), "{:?}", report.errors);
    }

    #[test]
    fn a_snapshot_never_changes(
        first in prop::collection::vec(naive::entry(), 0..20),
        second in prop::collection::vec(naive::entry(), 1..20),
    ) {
        let store = store::open(&SimFs::new(), config()).unwrap();
        store::append(&store, &first, Durability::Buffered).unwrap();
        let snapshot = store.snapshot();
        let read = || store::rows_of(&snapshot, store::everything()).unwrap();
        let before = read();
        store::append(&store, &second, Durability::Buffered).unwrap();
        prop_assert_eq!(&read(), &before);
        store.flush().unwrap();
        prop_assert_eq!(&read(), &before);
    }
}
