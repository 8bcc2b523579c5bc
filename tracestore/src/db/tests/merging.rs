//! Blocks: merges, deletes, the retention, backups, what verify finds.

use trine_storage::sim::Rng;

use super::*;
use crate::request::{AttributeRef, Condition, Intrinsic, Test, Value};
use crate::retention::RetentionRule;

const HOUR: u64 = 3_600_000_000_000;

fn advance(bench: &Bench, hours: u64) {
    bench.clock.advance(Duration::from_nanos(hours * HOUR));
}

/// Ages of blocks that are served, oldest levels first.
fn levels(store: &TraceStore) -> Vec<(u8, u64, u64)> {
    let stats = store.stats();
    let of = stats.levels.iter();
    of.map(|of| (of.level, of.blocks, of.spans)).collect()
}

#[test]
fn sealed_blocks_become_one_and_duplicates_go() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    for n in 1..=8 {
        append(&store, vec![span(1, n, 10), span(1, 1, 10), span(n, 9, 5)]);
        store.flush().unwrap();
        store.maintain().unwrap();
    }
    assert_eq!(store.stats().blocks, 8, "more may follow at once");
    bench.clock.advance(Duration::from_secs(10));
    store.maintain().unwrap();
    assert_eq!(levels(&store), [(1, 1, 16)]);
    let image = store.snapshot().places[0].image().unwrap();
    assert!(image.traces_with_more().unwrap().is_empty());
    assert_eq!(seen(&store.snapshot()).len(), 16);
    assert_eq!(store.verify().spans, 16);
}

#[test]
fn blocks_of_a_window_that_is_over_become_one() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    for n in 1..=3 {
        append(&store, vec![span(n, 1, 10)]);
        store.flush().unwrap();
    }
    store.maintain().unwrap();
    assert_eq!(levels(&store), [(0, 3, 3)]);
    advance(&bench, 3);
    store.maintain().unwrap();
    assert_eq!(levels(&store), [(1, 1, 3)]);
}

#[test]
fn merges_keep_to_their_limit() {
    let config = Config {
        compacted_spans_max: 10,
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open();
    for n in 1..=8 {
        append(&store, vec![span(n, 1, 10), span(n, 2, 10), span(n, 3, 10)]);
        store.flush().unwrap();
    }
    store.compact().unwrap();
    assert!(store.blocks().iter().all(|meta| meta.rows <= 10));
    assert_eq!(store.stats().blocks, 3);
    assert_eq!(seen(&store.snapshot()).len(), 24);
}

#[test]
fn a_deleted_trace_is_gone_at_once_and_later_from_the_files() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    let id = |trace| span(trace, 1, 0).trace_id;
    append(&store, vec![span(1, 1, 10), span(2, 1, 10)]);
    store.flush().unwrap();
    append(&store, vec![span(1, 2, 10), span(2, 2, 10)]);
    let before = store.snapshot();
    let number = store.delete_trace(id(1)).unwrap();
    assert_eq!(seen(&store.snapshot()), [(2, 1), (2, 2)]);
    assert_eq!(seen(&before).len(), 4);
    append(&store, vec![span(1, 3, 10)]);
    let left = [(1, 3), (2, 1), (2, 2)];
    assert_eq!(seen(&store.snapshot()), left);
    store.maintain().unwrap();
    assert!(store.deletes()[0].cancellable);
    store.cancel_delete(number).unwrap();
    assert_eq!(seen(&store.snapshot()).len(), 5);
    let second = store.delete_trace(id(1)).unwrap();
    assert!(second > number);
    let store = {
        drop(store);
        bench.open()
    };
    assert_eq!(store.deletes()[0].number, second);
    assert_eq!(seen(&store.snapshot()), [(2, 1), (2, 2)], "all of it");
    append(&store, vec![span(1, 3, 10)]);
    bench.clock.advance(Config::default().delete_delay);
    assert_eq!(
        store.cancel_delete(second).unwrap_err().kind(),
        Kind::Invalid
    );
    store.maintain().unwrap();
    assert!(store.deletes().is_empty());
    assert_eq!(seen(&store.snapshot()), left);
    assert_eq!(store.stats().block_spans, 2);
}

/// Spans of this name.
fn named(name: &str) -> Filter {
    Filter::Is(Condition {
        attribute: AttributeRef::Intrinsic(Intrinsic::Name),
        test: Test::Equal(vec![Value::Str(name.into())]),
    })
}

#[test]
fn spans_that_satisfy_a_filter_are_deleted_in_their_range() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    let spans = |n: u64| vec![span(n, 1, n), span(n, 2, n), span(n, 4, n)];
    (1..=3).for_each(|n| append(&store, spans(n)));
    store.flush().unwrap();
    (4..=6).for_each(|n| append(&store, spans(n)));
    let range = TimeRange::new(NOW_NS - 5, NOW_NS - 1);
    let all = seen(&store.snapshot());
    store.delete(&named("span 2"), range).unwrap();
    append(&store, vec![span(3, 2, 3)]);
    let left = |(trace, id): &(u64, u64)| *id != 2 || !(2..=5).contains(trace) || *trace == 3;
    let expected: Vec<_> = all.into_iter().filter(left).collect();
    assert_eq!(seen(&store.snapshot()), expected, "the later one stays");
    drop(store);
    let store = bench.open();
    assert_eq!(seen(&store.snapshot()), expected);
    assert!(matches!(store.deletes()[0].what, Deleted::Spans(_)));
    store.compact().unwrap();
    assert!(store.deletes().is_empty());
    assert_eq!((store.stats().blocks, store.stats().block_spans), (1, 15));
    assert_eq!(seen(&store.snapshot()), expected);
    assert_eq!(store.verify().errors.len(), 0);
}

#[test]
fn a_delete_that_could_not_be_read_again_is_refused() {
    let store = Bench::new(Config::default()).open();
    let mut deep = named("a");
    for _ in 0..80 {
        deep = Filter::And(vec![deep]);
    }
    let error = store.delete(&deep, TimeRange::ALL).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    let long = named(&"a".repeat(64 << 10));
    let error = store.delete(&long, TimeRange::ALL).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert!(store.deletes().is_empty());
}

#[test]
fn rules_keep_some_traces_longer_and_some_shorter() {
    let rule = |name: &str, hours: Option<u64>| RetentionRule {
        filter: named(name),
        keep: hours.map(|hours| Duration::from_nanos(hours * HOUR)),
    };
    let config = Config {
        retention: Some(Duration::from_nanos(10 * HOUR)),
        retention_rules: vec![rule("span 2", Some(20)), rule("span 4", Some(5))],
        block_range: Duration::from_nanos(100 * HOUR),
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open();
    append(
        &store,
        vec![span(1, 1, 1), span(2, 1, 1), span(3, 1, 1), span(4, 1, 1)],
    );
    append(
        &store,
        vec![
            span(2, 2, 1),
            span(3, 4, 1),
            span(4, 4, 1),
            span(1, 3, 1),
            span(4, 2, 1),
        ],
    );
    for (hours, expected) in [
        (4, vec![1, 2, 3, 4]),
        (2, vec![1, 2, 4]),
        (5, vec![2, 4]),
        (10, vec![]),
    ] {
        if hours == 5 {
            store.flush().unwrap();
        }
        advance(&bench, hours);
        let mut traces: Vec<u64> = seen(&store.snapshot()).iter().map(|(id, _)| *id).collect();
        traces.dedup();
        assert_eq!(traces, expected, "{hours} hours later");
        if hours == 5 {
            assert_eq!(store.stats().block_spans, 9);
            store.maintain().unwrap();
            assert_eq!(store.stats().block_spans, 5, "half of it is expired");
        }
    }
    store.maintain().unwrap();
    assert_eq!(store.stats().blocks, 0);
    assert_eq!(try_append(&store, vec![span(9, 1, 0)]).unwrap(), 0);
    let now = 21 * HOUR;
    let late = |before: u64| Span {
        start_ns: NOW_NS.cast_unsigned() + now - before,
        ..span(5, 1, 0)
    };
    assert_eq!(try_append(&store, vec![late(20 * HOUR)]).unwrap(), 1);
    assert_eq!(try_append(&store, vec![late(20 * HOUR + 1)]).unwrap(), 0);
}

#[test]
fn a_delete_that_waits_keeps_older_and_later_spans_apart() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    let fill = |ids: std::ops::Range<u64>| {
        for id in ids {
            append(&store, vec![span(1, id, 5)]);
            store.flush().unwrap();
        }
    };
    fill(1..5);
    let number = store.delete_trace(span(1, 1, 0).trace_id).unwrap();
    fill(5..13);
    let later: Vec<(u64, u64)> = (5..13).map(|id| (1, id)).collect();
    assert_eq!(seen(&store.snapshot()), later);
    // So long after the last seal no more are waited for.
    bench.clock.advance(Duration::from_secs(10));
    store.maintain().unwrap();
    assert_eq!(levels(&store), [(1, 2, 12)]);
    assert_eq!(seen(&store.snapshot()), later);
    store.cancel_delete(number).unwrap();
    assert_eq!(seen(&store.snapshot()).len(), 12);
}

#[test]
fn deletes_are_no_more_than_the_limit() {
    let config = Config {
        deletes_max: 2,
        ..Config::default()
    };
    let store = Bench::new(config).open();
    append(&store, vec![span(1, 1, 10)]);
    for _ in 0..2 {
        store.delete_trace([9; 16]).unwrap();
    }
    let error = store.delete_trace([9; 16]).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    store.compact().unwrap();
    assert_eq!((store.stats().deletes, store.stats().block_spans), (0, 1));
    store.delete_trace([9; 16]).unwrap();
}

/// The words written down in FORMAT.md, "Deletes".
#[test]
fn golden_deletes() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    append(&store, vec![span(1, 1, 10)]);
    let trace = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128;
    store.delete_trace(trace.to_be_bytes()).unwrap();
    let key = AttributeRef::Attribute {
        scope: Some(crate::request::Scope::Span),
        key: "http.status_code".into(),
    };
    let test = Test::GreaterEqual(Value::Int(500));
    let failed = Filter::Is(Condition {
        attribute: key,
        test,
    });
    let filter = Filter::And(vec![failed, named("GET /")]);
    store.delete(&filter, TimeRange::new(3, 5)).unwrap();
    let path = "/store/catalog";
    let file = bench.disk.open(path.as_ref()).unwrap();
    let whole = 0..file.len();
    let bytes = file.read(&[whole]).unwrap();
    let catalog = trine_storage::catalog::decode(path, &bytes[0]).unwrap();
    let format = include_str!("../../../FORMAT.md");
    let ranges = [TimeRange::ALL, TimeRange::new(3, 5)];
    assert_eq!(catalog.deletes.len(), 2);
    for (delete, range) in catalog.deletes.iter().zip(ranges) {
        assert!(format.contains(&delete.what), "{}", delete.what);
        assert_eq!(delete.range, range);
        assert_eq!(delete.sequence, catalog.blocks[0].sequence);
        assert_eq!(delete.created_ms, NOW_NS / 1_000_000);
    }
}

#[test]
fn a_store_whose_deletes_make_no_sense_is_refused() {
    for words in [
        "",
        "{}",
        r#"{"trace":"01"}"#,
        r#"{"trace":"+0000000000000000000000000000001"}"#,
        r#"{"trace":7}"#,
    ] {
        let delete = trine_storage::catalog::Delete {
            number: 3,
            sequence: 0,
            range: TimeRange::ALL,
            what: words.to_owned(),
            created_ms: 0,
        };
        let error = crate::tombstone::Tombstone::from_catalog(delete).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{words}");
        assert!(error.to_string().contains("delete 3"), "{error}");
    }
}

#[test]
fn expired_traces_are_not_seen_and_go_with_their_blocks() {
    let config = Config {
        retention: Some(Duration::from_nanos(10 * HOUR)),
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open();
    let old = vec![span(1, 1, 9 * HOUR), span(1, 2, 7 * HOUR)];
    append(&store, old);
    append(&store, vec![span(2, 1, 8 * HOUR), span(3, 1, 1)]);
    let refused = try_append(&store, vec![span(4, 1, 10 * HOUR + 1)]).unwrap();
    assert_eq!(refused, 0, "older than the retention");
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        assert_eq!(seen(&store.snapshot()).len(), 4, "sealed={sealed}");
    }
    advance(&bench, 1);
    assert_eq!(seen(&store.snapshot()).len(), 4, "begun at the edge");
    bench.clock.advance(Duration::from_nanos(1));
    assert_eq!(seen(&store.snapshot()), [(2, 1), (3, 1)], "as a whole");
    advance(&bench, 2);
    store.maintain().unwrap();
    assert_eq!(store.stats().block_spans, 1);
    assert_eq!(seen(&store.snapshot()), [(3, 1)]);
    advance(&bench, 10);
    store.maintain().unwrap();
    assert_eq!(store.stats().blocks, 0);
}

#[test]
fn the_oldest_blocks_go_when_there_are_too_many_bytes() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    for n in 1..=3 {
        append(&store, vec![span(n, 1, (3 - n) * 3 * HOUR)]);
        store.flush().unwrap();
    }
    let sizes: u64 = store.blocks().iter().map(|meta| meta.bytes).sum();
    drop(store);
    let config = Config {
        retention_bytes: Some(sizes - 1),
        ..Config::default()
    };
    let bench = Bench { config, ..bench };
    let store = bench.open();
    store.maintain().unwrap();
    assert_eq!(seen(&store.snapshot()), [(2, 1), (3, 1)]);
}

#[test]
fn a_backup_is_a_store_of_its_own() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    append(&store, vec![span(1, 1, 10), span(2, 1, 5)]);
    store.flush().unwrap();
    store.delete_trace(span(1, 1, 0).trace_id).unwrap();
    append(&store, vec![span(3, 1, 10)]);
    store.backup("/copy").unwrap();
    assert_eq!(store.backup("/copy").unwrap_err().kind(), Kind::Invalid);
    append(&store, vec![span(4, 1, 10)]);
    let expected = seen(&store.snapshot());
    store.close().unwrap();
    let copy = TraceStore::builder("/copy")
        .fs(Arc::new(bench.disk.clone()))
        .clock(Arc::<ManualClock>::clone(&bench.clock))
        .shared(Shared::without_workers())
        .open()
        .unwrap();
    assert_eq!(seen(&copy.snapshot()), [(2, 1), (3, 1)]);
    copy.compact().unwrap();
    assert_eq!(copy.stats().block_spans, 2);
    assert_eq!(seen(&bench.open().snapshot()), expected);
}

#[test]
fn a_closed_store_refuses_changes_and_gives_the_directory_back() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    append(&store, vec![span(1, 1, 10)]);
    let snapshot = store.snapshot();
    store.close().unwrap();
    store.close().unwrap();
    let refused = [
        try_append(&store, vec![span(2, 1, 10)]).map(drop),
        store.flush(),
        store.compact(),
        store.maintain(),
        store.delete_trace([1; 16]).map(drop),
        store.cancel_delete(1),
        store.backup("/copy"),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), Kind::Closed);
    }
    assert_eq!(seen(&snapshot), [(1, 1)]);
    assert_eq!(seen(&bench.open().snapshot()), [(1, 1)]);
}

#[test]
fn a_damaged_block_is_told_and_the_others_are_merged_without_it() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    for n in 1..=8 {
        append(&store, vec![span(n, 1, 10)]);
        store.flush().unwrap();
    }
    let bad = store.blocks()[2].clone();
    drop(store);
    let path = format!("/store/blocks/{}.block", bad.id);
    // The first page of the file: its directories can be read.
    bench.disk.corrupt(path.as_ref(), 20, 1);
    let store = bench.open();
    assert_eq!(store.verify().errors.len(), 1);
    store.compact().unwrap();
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.block_spans), (2, 8));
    assert_eq!(stats.damaged.len(), 1, "{:?}", stats.damaged);
    assert_eq!(store.verify().errors.len(), 1);
}

#[test]
fn every_flipped_bit_is_found() {
    let bench = Bench::new(Config::default());
    let store = bench.open();
    for n in 1..=40 {
        append(&store, vec![span(n % 3 + 1, n, 10), span(n, 50, 7)]);
        if n == 20 {
            store.flush().unwrap();
        }
    }
    let report = store.verify();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!((report.spans, report.records), (40, 20));
    let is_ours = |path: &std::path::PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        path.ends_with("catalog") || matches!(extension, Some("block" | "wal"))
    };
    let files: Vec<_> = bench.disk.files().into_iter().filter(is_ours).collect();
    let kinds: Vec<_> = files.iter().map(|path| path.extension()).collect();
    assert!(kinds.len() >= 3, "{files:?}");
    let mut rng = Rng::new(7);
    for flip in 0..1_000 {
        let path = &files[rng.below(files.len() as u64) as usize];
        let len = bench.disk.open(path).unwrap().len();
        let at = rng.below(len) as usize;
        let mask = 1 << rng.below(8);
        bench.disk.corrupt(path, at, mask);
        assert!(
            !store.verify().errors.is_empty(),
            "{flip}: {path:?} at {at}"
        );
        bench.disk.corrupt(path, at, mask);
    }
    assert!(store.verify().errors.is_empty());
}
