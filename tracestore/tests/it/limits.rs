//! Every limit at its edge, and what happens when the disk or the memory ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::Kind;
use trine_storage::shared::{self, Shared};
use trine_storage::sim::{Crash, SimFs};
use trine_tracestore::{Config, Durability, Reason, Scope, Span, TraceStore};

use crate::store::{NOW_NS, SECOND, clock, find_all, open, open_with, put, service, span};

#[test]
fn spans_that_cannot_be_stored_come_back_with_the_reason_and_never_return() {
    let fs = SimFs::new();
    let config = Config {
        span_bytes_max: 100,
        ..Config::default()
    };
    let store = open_with(&fs, config, clock());
    let day = NOW_NS.cast_unsigned() / SECOND + 24 * 3600;
    let sized = |bytes: usize| Span {
        name: "n".repeat(bytes),
        ..span(5, 5, 0, "", 1)
    };
    let told = put(
        &store,
        &service("shop"),
        vec![
            Span {
                trace_id: [0; 16],
                ..span(1, 1, 0, "a", 1)
            },
            Span {
                span_id: [0; 8],
                ..span(1, 1, 0, "b", 1)
            },
            span(1, 1, 0, "edge", day),
            span(1, 2, 0, "beyond", day + 1),
            sized(50),
            sized(51),
            Span {
                start_ns: u64::MAX,
                ..span(1, 1, 0, "max", 1)
            },
        ],
    );
    let reasons: Vec<(Reason, u64)> = told.rejected.iter().map(|r| (r.reason, r.count)).collect();
    let expected = [
        (Reason::TraceId, 1),
        (Reason::SpanId, 1),
        (Reason::TooFarInFuture, 2),
        (Reason::TooLarge, 1),
    ];
    assert_eq!((told.stored, &reasons[..]), (2, &expected[..]));
    assert!(
        told.rejected[3]
            .example
            .starts_with("a span has 101 bytes, limit 100: trace=0505"),
        "{}",
        told.rejected[3].example
    );
    drop(store);
    assert_eq!(open(&fs).stats().live_spans, 2);
}

#[test]
fn any_start_is_taken_without_bounds_and_a_span_may_end_before_it_begins() {
    let fs = SimFs::new();
    let store = open_with(
        &fs,
        Config {
            future_max: None,
            ..Config::default()
        },
        clock(),
    );
    let backwards = Span {
        end_ns: 0,
        ..span(3, 1, 0, "backwards", 50)
    };
    let far = Span {
        start_ns: u64::MAX,
        end_ns: 0,
        ..span(2, 1, 0, "far", 0)
    };
    put(
        &store,
        &service("s"),
        vec![span(1, 1, 0, "zero", 0), far.clone(), backwards.clone()],
    );
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        assert_eq!(
            find_all(&store),
            ["far", "backwards", "zero"],
            "sealed={sealed}"
        );
        for span in [&far, &backwards] {
            let trace = store.snapshot().trace(span.trace_id).unwrap().unwrap();
            assert_eq!(trace.spans().next().unwrap().2, span);
        }
    }
}

#[test]
fn a_seal_makes_no_more_blocks_than_the_limit() {
    let fs = SimFs::new();
    let config = Config {
        block_range: Duration::from_secs(1),
        block_ranges_max: 4,
        ..Config::default()
    };
    let store = open_with(&fs, config, clock());
    let spans = (1..=100)
        .map(|i| span(i, 1, 0, "s", u64::from(i) * 10))
        .collect();
    put(&store, &service("s"), spans);
    store.flush().unwrap();
    assert!(store.stats().blocks <= 4, "{}", store.stats().blocks);
    assert_eq!(
        (store.stats().block_spans, find_all(&store).len()),
        (100, 100)
    );
}

#[test]
fn memory_over_the_budget_is_refused_and_nothing_is_stored() {
    let fs = SimFs::new();
    let config = shared::Config {
        workers: 0,
        memory_bytes_max: 2_000,
        ..Default::default()
    };
    let store = TraceStore::builder(Path::new("store"))
        .fs(Arc::new(fs.clone()))
        .clock(clock())
        .shared(Shared::new(&config))
        .open()
        .unwrap();
    let append = |id: u8| {
        let mut appender = store.appender();
        appender.append(
            &service("s"),
            &Arc::new(Scope::default()),
            span(id, 1, 0, "x", 1),
        );
        appender
            .commit(Durability::Synced)
            .map(|commit| commit.wait().unwrap())
    };
    let mut stored = 0;
    let error = loop {
        match append(stored + 1) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(
        stored > 0 && error.kind() == Kind::Limit,
        "{stored} {error}"
    );
    assert_eq!(store.stats().live_spans, u64::from(stored));
    store.flush().unwrap();
    append(200).unwrap();
}

#[test]
fn a_failed_write_poisons_writes_and_reads_go_on() {
    let fs = SimFs::new();
    let store = open(&fs);
    put(&store, &service("s"), vec![span(1, 1, 0, "kept", 1)]);
    fs.cut_after(fs.operations());
    let append = || {
        let mut appender = store.appender();
        appender.append(
            &service("s"),
            &Arc::new(Scope::default()),
            span(2, 1, 0, "lost", 2),
        );
        appender.commit(Durability::Synced)
    };
    assert_eq!(append().unwrap().wait().unwrap_err().kind(), Kind::Io);
    assert_eq!(append().unwrap_err().kind(), Kind::Poisoned);
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Poisoned);
    assert!(store.snapshot().trace([1; 16]).unwrap().is_some());
    let store = open(&fs.crash(Crash::Power, 0));
    assert_eq!(find_all(&store), ["kept"]);
}

#[test]
fn a_seal_that_fails_is_tried_again_and_loses_nothing() {
    let fs = SimFs::new();
    let store = open(&fs);
    put(&store, &service("s"), vec![span(1, 1, 0, "one", 1)]);
    fs.fill_after(0);
    assert_eq!(store.flush().unwrap_err().kind(), Kind::Io);
    fs.fill_after(u64::MAX);
    put(&store, &service("s"), vec![span(2, 1, 0, "two", 2)]);
    assert_eq!(find_all(&store), ["two", "one"]);
    store.flush().unwrap();
    assert_eq!((find_all(&store).len(), store.stats().live_spans), (2, 0));
}
