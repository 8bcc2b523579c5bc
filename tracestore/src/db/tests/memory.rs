//! Memory: stages become runs, runs become blocks.

use super::*;

#[test]
fn snapshots_after_each_append_leave_few_runs() {
    let store = Bench::new(Config::default()).open();
    let mut expected = Vec::new();
    let mut most = 0;
    for n in 1..=200 {
        append(&store, vec![span(n % 7, n, n)]);
        expected.push((n % 7, n));
        expected.sort_unstable();
        let snapshot = store.snapshot();
        if n % 20 == 0 {
            assert_eq!(seen(&snapshot), expected);
        }
        most = most.max(store.stats().live_runs);
    }
    assert!(most <= 8, "{most} runs for 200 snapshots");
    assert_eq!(store.stats().live_spans, 200);
    // Nothing came since the last one.
    let runs = store.stats().live_runs;
    store.snapshot();
    assert_eq!(store.stats().live_runs, runs);
}

#[test]
fn a_snapshot_sees_what_was_committed_before_it_and_nothing_later() {
    let store = Bench::new(Config::default()).open();
    append(&store, vec![span(1, 1, 10)]);
    let before = store.snapshot();
    append(&store, vec![span(1, 2, 5)]);
    let between = store.snapshot();
    store.flush().unwrap();
    append(&store, vec![span(2, 1, 5)]);
    store.compact().unwrap();
    store.delete_trace(span(1, 1, 0).trace_id).unwrap();
    assert_eq!(seen(&before), [(1, 1)]);
    assert_eq!(seen(&between), [(1, 1), (1, 2)]);
    assert_eq!(seen(&store.snapshot()), [(2, 1)]);
}

#[test]
fn a_full_stage_becomes_a_run() {
    const STAGE_SPANS_MAX: u64 = 300;
    let config = Config {
        stage_spans_max: STAGE_SPANS_MAX,
        ..Config::default()
    };
    let store = Bench::new(config).open();
    let batch = |first: u64, count: u64| -> Vec<Span> {
        (first..first + count)
            .map(|n| span(n / 50, n + 1, 5))
            .collect()
    };
    append(&store, batch(0, STAGE_SPANS_MAX - 1));
    assert_eq!(store.stats().live_runs, 0);
    append(&store, batch(STAGE_SPANS_MAX - 1, 1));
    assert_eq!(store.stats().live_runs, 1);
    assert_eq!(store.inner.account.bytes(), store.stats().live_bytes);
    append(&store, batch(STAGE_SPANS_MAX, 100));
    let stats = store.stats();
    assert_eq!(
        (stats.live_runs, stats.live_spans),
        (1, STAGE_SPANS_MAX + 100)
    );
    assert_eq!(seen(&store.snapshot()).len() as u64, STAGE_SPANS_MAX + 100);
    store.flush().unwrap();
    let stats = store.stats();
    assert_eq!((stats.live_runs, stats.live_spans), (0, 0));
    assert_eq!(
        (stats.live_bytes, stats.block_spans),
        (0, STAGE_SPANS_MAX + 100)
    );
}

/// How many runs are built, and how many are not.
fn built(store: &TraceStore) -> (usize, usize) {
    let live = store.inner.live.lock();
    let (built, waiting): (Vec<_>, Vec<_>) = live.runs().partition(|run| run.is_built());
    (built.len(), waiting.len())
}

#[test]
fn runs_that_nobody_reads_are_sealed_from_what_they_are_made_of() {
    for range_ns in [1_000, 1_000_000_000] {
        let config = Config {
            stage_spans_max: 50,
            block_range: Duration::from_nanos(range_ns),
            ..Config::default()
        };
        let bench = Bench::new(config);
        let store = bench.open();
        let mut expected = Vec::new();
        for round in 0..3 {
            for n in round * 100..round * 100 + 100 {
                // Traces of several runs, seals and windows; some spans come twice.
                let spans = [(n % 9, n + 1), (n / 2, 1), (n % 9, n + 1)];
                append(
                    &store,
                    spans
                        .map(|(trace, id)| span(trace, id, trace * 300))
                        .to_vec(),
                );
                expected.extend(spans);
            }
            let (none, some) = built(&store);
            assert!(none == 0 && some >= 5, "{none} and {some}");
            store.flush().unwrap();
        }
        append(&store, vec![span(1, 1_000, 300); 60]);
        assert_eq!(built(&store), (0, 1));
        expected.push((1, 1_000));
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(seen(&store.snapshot()), expected);
        drop(store);
        assert_eq!(seen(&bench.open().snapshot()), expected);
    }
}

#[test]
fn runs_are_built_at_once_while_somebody_reads_and_else_when_they_waited() {
    let config = Config {
        stage_spans_max: 50,
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open();
    let mut trace = 0;
    let mut fill = || {
        trace += 1;
        append(&store, (1..=50).map(|id| span(trace, id, 5)).collect());
    };
    fill();
    assert_eq!(built(&store), (0, 1));
    assert_eq!(seen(&store.snapshot()).len(), 50);
    assert_eq!(built(&store), (1, 0));
    bench
        .clock
        .advance(Duration::from_secs(60) - Duration::from_nanos(1));
    fill();
    assert_eq!(built(&store), (2, 0));
    bench.clock.advance(Duration::from_nanos(1));
    fill();
    assert_eq!(built(&store), (2, 1));
    bench
        .clock
        .advance(Duration::from_secs(10) - Duration::from_nanos(1));
    store.maintain().unwrap();
    assert_eq!(built(&store), (2, 1));
    bench.clock.advance(Duration::from_nanos(1));
    store.maintain().unwrap();
    assert_eq!(built(&store), (3, 0));
    assert_eq!(store.inner.account.bytes(), store.stats().live_bytes);
    assert_eq!(seen(&store.snapshot()).len(), 150);
}

#[test]
fn runs_that_wait_let_go_of_what_was_sealed_before_them() {
    let config = Config {
        stage_spans_max: 50,
        ..Config::default()
    };
    let store = Bench::new(config).open();
    let fill = |trace: u64| append(&store, (1..=50).map(|id| span(trace, id, 5)).collect());
    fill(1);
    let first = store.inner.live.lock().runs().next().map(Arc::downgrade);
    let sealing = store.inner.begin_seal();
    fill(1);
    drop(sealing);
    store.inner.seal_once().unwrap();
    assert!(first.is_some_and(|run| run.upgrade().is_none()));
    assert_eq!(built(&store), (0, 1));
    assert_eq!(seen(&store.snapshot()).len(), 50);
}

#[test]
fn a_trace_in_many_places_is_told_by_all_but_one() {
    let config = Config {
        block_range: Duration::from_nanos(1_000),
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open();
    let mut expected = Vec::new();
    for n in 1..=24 {
        // Windows change, so that merges have some places of a trace and not others.
        append(
            &store,
            vec![span(1, n, (n % 5) * 1_000), span(n + 10, 1, n * 700)],
        );
        expected.extend([(1, n), (n + 10, 1)]);
        match n % 6 {
            0 => store.compact().unwrap(),
            2 | 4 => store.flush().unwrap(),
            _ => drop(store.snapshot()),
        }
        expected.sort_unstable();
        assert_eq!(seen(&store.snapshot()), expected);
    }
    drop(store);
    assert_eq!(seen(&bench.open().snapshot()), expected);
}

#[test]
fn a_seal_makes_a_block_per_window_and_no_more_than_the_limit() {
    for (ranges_max, expected) in [(64, 5), (5, 5), (4, 3), (1, 1)] {
        let config = Config {
            block_range: Duration::from_nanos(1_000),
            block_ranges_max: ranges_max,
            ..Config::default()
        };
        let store = Bench::new(config).open();
        for trace in 0..10 {
            let before = 5_000 - trace * 500;
            append(
                &store,
                vec![span(trace, 1, before), span(trace, 2, before - 400)],
            );
            store.snapshot();
        }
        store.flush().unwrap();
        assert_eq!(store.stats().blocks, expected, "{ranges_max}");
        assert_eq!(seen(&store.snapshot()).len(), 20);
    }
}

#[test]
fn memory_is_sealed_when_it_is_half_full_and_appends_wait_when_it_is_full() {
    let config = Config {
        live_bytes_max: 200_000,
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open();
    let mut next = 0;
    let mut fill = |until: u64| {
        while store.stats().live_bytes < until {
            next += 1;
            append(&store, vec![span(next, 1, 5)]);
        }
    };
    store.maintain().unwrap();
    fill(100_000);
    assert_eq!(store.stats().blocks, 0);
    store.maintain().unwrap();
    assert_eq!((store.stats().blocks, store.stats().live_spans), (1, 0));
    fill(200_000);
    assert_eq!(store.stats().blocks, 1);
    append(&store, vec![span(1, 2, 5)]);
    assert_eq!((store.stats().blocks, store.stats().live_spans), (2, 1));
    // Age counts from the first span.
    bench.clock.advance(Duration::from_secs(2 * 3_600 - 1));
    store.maintain().unwrap();
    assert_eq!(store.stats().live_spans, 1);
    bench.clock.advance(Duration::from_secs(1));
    store.maintain().unwrap();
    assert_eq!(store.stats().live_spans, 0);
}

#[test]
fn a_log_that_is_full_is_sealed() {
    let config = Config {
        wal_bytes_max: 4_000,
        ..Config::default()
    };
    let store = Bench::new(config).open();
    for n in 1..200 {
        append(&store, vec![span(n, 1, 5)]);
        assert!(store.stats().wal.bytes < 4_200);
    }
    assert!(store.stats().blocks > 2);
    assert_eq!(seen(&store.snapshot()).len(), 199);
}

#[test]
fn memory_over_the_budget_is_refused_and_nothing_is_stored() {
    let mut bench = Bench::new(Config::default());
    bench.memory_bytes_max = 20_000;
    let store = bench.open();
    let mut stored = 0;
    let error = loop {
        match try_append(&store, vec![span(1, stored + 1, 5)]) {
            Ok(count) => stored += count,
            Err(error) => break error,
        }
    };
    assert!(
        stored > 0 && error.kind() == Kind::Limit,
        "{stored} {error}"
    );
    assert!(error.to_string().contains("memory budget"), "{error}");
    assert_eq!(seen(&store.snapshot()).len() as u64, stored);
    store.flush().unwrap();
    append(&store, vec![span(2, 1, 5)]);
}

#[test]
fn a_seal_that_fails_is_tried_again_and_loses_nothing() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    append(&store, vec![span(1, 1, 9)]);
    bench.disk.fill_after(0);
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Io);
    bench.disk.fill_after(u64::MAX);
    append(&store, vec![span(2, 1, 5)]);
    assert_eq!(seen(&store.snapshot()), [(1, 1), (2, 1)]);
    assert!(store.maintain().is_ok(), "it is due");
    let stats = store.stats();
    assert_eq!((stats.live_spans, stats.blocks), (0, 2));
    assert_eq!(seen(&store.snapshot()), [(1, 1), (2, 1)]);
}
