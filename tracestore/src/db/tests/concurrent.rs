//! Appends, snapshots, seals and merges at the same time.

use std::sync::atomic::AtomicU64;

use super::*;

/// Spans that each of the writers appends, several to a trace that all of them write to.
const SPANS: u64 = 600;
const WRITERS: u64 = 2;

#[test]
fn snapshots_beside_appends_seals_and_merges_have_no_holes() {
    let config = Config {
        stage_spans_max: 50,
        live_bytes_max: 300_000,
        ..Config::default()
    };
    let store = Bench::new(config).open();
    let acknowledged = [AtomicU64::new(0), AtomicU64::new(0)];
    let write = |writer: u64| {
        for first in (0..SPANS).step_by(5) {
            let spans = (first..first + 5).map(|n| span(n / 20 + 1, n * WRITERS + writer + 1, 5));
            append(&store, spans.collect());
            acknowledged[writer as usize].store(first + 5, Ordering::SeqCst);
        }
    };
    let check = || {
        let before = [0, 1].map(|writer: usize| acknowledged[writer].load(Ordering::SeqCst));
        let snapshot = store.snapshot();
        let found = seen(&snapshot);
        for writer in 0..WRITERS {
            let ids = found.iter().map(|(_, id)| (id - 1) % WRITERS);
            let count = ids.filter(|of| *of == writer).count() as u64;
            let of_writer = found.iter().map(|(_, id)| id - 1);
            let of_writer = of_writer.filter(|id| id % WRITERS == writer);
            let last = of_writer.map(|id| id / WRITERS + 1).max().unwrap_or(0);
            assert_eq!(count, last, "no span is missing among those of a writer");
            assert!(
                count >= before[writer as usize],
                "what was acknowledged is seen"
            );
        }
        found.len() as u64
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write(writer)))
            .collect();
        let is_done = || {
            writers
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
        };
        let reader = scope.spawn(|| {
            while check() < WRITERS * SPANS {
                std::thread::yield_now();
            }
        });
        let mut round = 0;
        while !is_done() || !reader.is_finished() {
            match round % 4 {
                0 => store.compact().unwrap(),
                2 => store.flush().unwrap(),
                _ => store.maintain().unwrap(),
            }
            round += 1;
        }
    });
    assert_eq!(check(), WRITERS * SPANS);
    store.compact().unwrap();
    assert_eq!(store.stats().block_spans, WRITERS * SPANS);
}
