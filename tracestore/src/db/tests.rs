//! Tests of the store that need to see inside: runs and blocks, what they say of each other, seals.

use std::collections::BTreeMap;
use std::time::Duration;

use trine_storage::clock::ManualClock;
use trine_storage::shared;
use trine_storage::sim::SimFs;

use super::*;
use crate::model::{Resource, Scope, Span};

mod concurrent;
mod memory;
mod merging;

const NOW_NS: i64 = 1_000_000_000_000_000;

struct Bench {
    disk: SimFs,
    clock: Arc<ManualClock>,
    config: Config,
    memory_bytes_max: u64,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self {
            disk: SimFs::new(),
            clock: Arc::new(ManualClock::new(NOW_NS)),
            config,
            memory_bytes_max: 1 << 30,
        }
    }

    fn open(&self) -> TraceStore {
        let memory_bytes_max = self.memory_bytes_max;
        let shared = shared::Config {
            workers: 0,
            memory_bytes_max,
            ..Default::default()
        };
        TraceStore::builder("/store")
            .config(self.config.clone())
            .fs(Arc::new(self.disk.clone()))
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .shared(Shared::new(&shared))
            .open()
            .unwrap()
    }
}

/// A span `id` of a trace that begins so many nanoseconds before [`NOW_NS`].
fn span(trace: u64, id: u64, before_ns: u64) -> Span {
    let start_ns = NOW_NS.cast_unsigned() - before_ns;
    Span {
        trace_id: (1 << 100 | u128::from(trace)).to_be_bytes(),
        span_id: id.to_be_bytes(),
        parent_span_id: (id > 1).then(|| (id / 2).to_be_bytes()),
        name: format!("span {id}"),
        start_ns,
        end_ns: start_ns + 10,
        ..Span::default()
    }
}

fn try_append(store: &TraceStore, spans: Vec<Span>) -> Result<u64> {
    let mut appender = store.appender();
    let (resource, scope) = (Arc::new(Resource::default()), Arc::new(Scope::default()));
    for span in spans {
        appender.append(&resource, &scope, span);
    }
    Ok(appender.commit(Durability::Buffered)?.wait()?.stored)
}

fn append(store: &TraceStore, spans: Vec<Span>) {
    let count = spans.len() as u64;
    assert_eq!(try_append(store, spans).unwrap(), count);
}

/// Traces and spans that a snapshot sees. Checks what places say of each other, too.
fn seen(snapshot: &Snapshot) -> Vec<(u64, u64)> {
    let mut found: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    let mut silent: BTreeMap<TraceId, usize> = BTreeMap::new();
    for place in &snapshot.places {
        let (image, hidden) = (place.image().unwrap(), place.hidden().unwrap());
        let range = place.range();
        for trace in image.traces().unwrap() {
            assert!(range.contains(trace.start));
            if !trace.has_more {
                *silent.entry(trace.id).or_default() += 1;
            }
            let keys = image.span_keys(&trace).unwrap();
            for (row, (key, _)) in trace.rows.clone().zip(keys) {
                if !hidden.contains(row) {
                    let id = u128::from_be_bytes(trace.id) as u64;
                    *found.entry((id, key.span_id)).or_default() += 1;
                }
            }
        }
    }
    // Of places that hold a trace all but one say that there is more of it.
    let silent: Vec<_> = silent.iter().filter(|(_, places)| **places > 1).collect();
    assert!(silent.is_empty(), "{silent:?}");
    found.into_keys().collect()
}
