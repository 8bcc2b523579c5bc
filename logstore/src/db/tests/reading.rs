//! Tests of what a reader unpacks, and of what it gets from damaged blocks.

use bytes::Bytes;
use trine_storage::{Matcher, TimeRange};

use super::*;
use crate::request::{Counts, Direction, LineFilter, Measure, Projection};

#[test]
fn every_flipped_byte_of_a_block_is_found_and_none_panics() {
    let bench = Bench::new(Config::default());
    let store = bench.open().unwrap();
    let mut appender = store.appender();
    for row in 0..40i64 {
        let metadata = Labels::from_pairs([("k", format!("{}", row % 3))]).unwrap();
        let stream = app(["a", "b"][(row % 2) as usize]);
        appender.append(
            &stream,
            row,
            format!("line number {row}").as_bytes(),
            &metadata,
        );
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store.flush().unwrap();
    drop(store);
    let [path] = bench.block_files().try_into().unwrap();
    let file = bench.disk.open(&path).unwrap();
    let len = usize::try_from(file.len()).unwrap();
    for offset in 0..len {
        let mask = 1 << (offset % 8);
        bench.disk.corrupt(&path, offset, mask);
        let store = bench.open().unwrap();
        assert!(!store.verify().errors.is_empty(), "byte {offset} of {len}");
        match all(&store) {
            // The damaged part was not needed, or the block is quarantined and was not served.
            Ok(lines) => assert!(lines.is_empty() || lines.len() == 40, "byte {offset}"),
            Err(error) => assert_eq!(error.kind(), Kind::Corrupt, "byte {offset}: {error}"),
        }
        append(&store, 1, b"life goes on").unwrap();
        drop(store);
        bench.disk.corrupt(&path, offset, mask);
        for log in bench
            .disk
            .files()
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "wal"))
        {
            bench.disk.remove_file(log).unwrap();
        }
    }
    assert_eq!(all(&bench.open().unwrap()).unwrap().len(), 40);
}

/// A store with one block whose page of lines is damaged, and the block's good rest.
fn with_damaged_lines() -> LogStore {
    let bench = Bench::new(Config::default());
    let store = bench.open().unwrap();
    for timestamp in 1..=3 {
        append(&store, timestamp * 10, b"abc").unwrap();
    }
    store.flush().unwrap();
    let page = store.inner.blocks.version().blocks[0]
        .reader
        .tables()
        .unwrap()
        .chunks[0]
        .text;
    drop(store);
    let [path] = bench.block_files().try_into().unwrap();
    bench
        .disk
        .corrupt(&path, usize::try_from(page.offset).unwrap() + 6, 1);
    bench.open().unwrap()
}

#[test]
fn lines_that_nobody_asks_for_are_not_read() {
    let store = with_damaged_lines();
    assert_eq!(all(&store).unwrap_err().kind(), Kind::Corrupt);
    let rows = Rows::new(vec![], TimeRange::ALL);
    let without_lines = Projection {
        lines: false,
        ..Projection::ALL
    };
    let found = scan(
        &store,
        Rows {
            projection: without_lines,
            ..rows.clone()
        },
    )
    .unwrap();
    assert_eq!(found, [b"", b"", b""]);
    let outside = Rows {
        range: TimeRange::new(11, 20),
        ..rows.clone()
    };
    assert!(
        scan(&store, outside).unwrap().is_empty(),
        "timestamps alone say no"
    );
    let filtered = Rows {
        lines: vec![LineFilter::Contains(Bytes::from_static(b"b"))],
        projection: without_lines,
        ..rows
    };
    assert!(scan(&store, filtered).is_err(), "a filter needs them");
}

#[test]
fn counts_never_touch_the_lines() {
    let store = with_damaged_lines();
    let check = |measure, bucket_ns, expected: &[(u32, u64)]| {
        let range = TimeRange::new(0, 31);
        let matchers = vec![Matcher::equal("app", "a")];
        let request = Request::Counts(Counts::new(matchers, range, bucket_ns, measure));
        let mut found = Vec::new();
        for batch in store.snapshot().scan(&request).unwrap() {
            let Answer::Counts(batch) = batch.unwrap() else {
                panic!("counts were asked for")
            };
            found.extend(
                batch
                    .bucket
                    .iter()
                    .copied()
                    .zip(batch.count.iter().copied()),
            );
        }
        assert_eq!(found, expected, "{measure:?} by {bucket_ns}");
    };
    check(Measure::Lines, 100, &[(0, 3)]);
    check(Measure::Bytes, 100, &[(0, 9)]);
    check(Measure::Lines, 20, &[(0, 2), (1, 1)]);
    check(Measure::Bytes, 10, &[(0, 3), (1, 3), (2, 3)]);
}

#[test]
fn a_reader_that_stops_early_never_opens_what_comes_later() {
    let config = Config {
        block_range: Duration::from_nanos(100),
        ..Config::default()
    };
    let bench = Bench::new(config);
    let store = bench.open().unwrap();
    let mut appender = store.appender();
    for timestamp in 0..400 {
        let line = format!("line {timestamp}");
        appender.append(&app("a"), timestamp, line.as_bytes(), &Labels::empty());
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store.flush().unwrap();
    assert_eq!(store.stats().blocks, 4);
    drop(store);
    for (direction, first, damaged) in [
        (Direction::Forward, "line 0", 300),
        (Direction::Backward, "line 399", 0),
    ] {
        let store = bench.open().unwrap();
        let version = store.inner.blocks.version();
        let block = version
            .blocks
            .iter()
            .find(|b| b.meta.range.start == damaged)
            .unwrap();
        let path = PathBuf::from(format!("/store/blocks/{}.block", block.meta.id));
        let page = block.reader.tables().unwrap().chunks[0].timestamps;
        drop((store, version));
        let offset = usize::try_from(page.offset).unwrap();
        bench.disk.corrupt(&path, offset, 1);
        let store = bench.open().unwrap();
        let request = Rows {
            direction,
            limit_hint: Some(50),
            ..Rows::new(vec![], TimeRange::ALL)
        };
        let batches = store.snapshot().scan(&Request::Rows(request)).unwrap();
        let results: Vec<_> = batches.collect();
        let Ok(Answer::Rows(batch)) = &results[0] else {
            panic!("{:?}", results[0])
        };
        assert_eq!(
            batch.timestamps.len(),
            50,
            "a batch is as large as the hint"
        );
        assert_eq!(batch.lines.get(0), first.as_bytes());
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
        assert!(
            results[..6].iter().all(Result::is_ok),
            "the damage is met last"
        );
        drop(store);
        bench.disk.corrupt(&path, offset, 1);
    }
}

#[test]
fn names_and_values_are_those_of_streams_in_the_range() {
    let bench = Bench::new(Config::default());
    let store = bench.open().unwrap();
    let mut appender = store.appender();
    let of = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
    appender.append(
        &of(&[("app", "a"), ("env", "p")]),
        10,
        b"x",
        &of(&[("trace", "1")]),
    );
    appender.append(&of(&[("app", "b")]), 20, b"x", &Labels::empty());
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    for place in ["memory", "block"] {
        let snapshot = store.snapshot();
        let check = |matchers: &[Matcher], range, names: &[&str], apps: &[&str]| {
            assert_eq!(
                snapshot.label_names(matchers, range).unwrap(),
                names,
                "{place}"
            );
            assert_eq!(
                snapshot.label_values("app", matchers, range).unwrap(),
                apps,
                "{place}"
            );
            assert_eq!(
                snapshot.streams(matchers, range).unwrap().len(),
                apps.len(),
                "{place}"
            );
        };
        check(&[], TimeRange::ALL, &["app", "env"], &["a", "b"]);
        check(&[], TimeRange::new(11, 21), &["app"], &["b"]);
        check(&[], TimeRange::new(11, 20), &[], &[]);
        check(
            &[Matcher::equal("env", "p")],
            TimeRange::ALL,
            &["app", "env"],
            &["a"],
        );
        store.flush().unwrap();
    }
}

#[test]
fn a_record_that_makes_no_sense_is_lost_alone_and_told() {
    let bench = Bench::new(Config::default());
    append(&bench.open().unwrap(), 1, b"good").unwrap();
    let fs: Arc<dyn Fs> = Arc::new(bench.disk.clone());
    let dir = Path::new("/store/wal");
    let open = |fs| {
        Wal::open(
            fs,
            dir,
            bench.config.wal.clone(),
            0,
            &mut |_: u64, _: &[u8]| Ok(()),
        )
    };
    let (log, _) = open(Arc::clone(&fs)).unwrap();
    let bad = log.append(&[1, 7]).unwrap();
    log.commit(bad, Durability::Synced).unwrap();
    drop(log);
    let store = bench.open().unwrap();
    assert_eq!(all(&store).unwrap(), [b"good"]);
    let [damage] = store.stats().damaged.try_into().unwrap();
    assert!(
        damage.starts_with("record 1 of the log is lost: "),
        "{damage}"
    );
    append(&store, 2, b"more").unwrap();
    drop(store);

    let (log, _) = open(fs).unwrap();
    let newer = log.append(&[2]).unwrap();
    log.commit(newer, Durability::Synced).unwrap();
    drop(log);
    let error = bench.open().unwrap_err();
    assert_eq!(
        error.kind(),
        Kind::Unsupported,
        "a newer version's data is not thrown away"
    );
}

#[test]
fn lines_are_unpacked_only_of_chunks_whose_rows_are_given() {
    let bench = Bench::new(Config {
        future_max: None,
        ..Config::default()
    });
    let store = bench.open().unwrap();
    let mut appender = store.appender();
    let long = vec![b'x'; 200 << 10];
    // Two chunks of about the same time, but the last entries are all in one.
    appender.append(&app("b"), 0, &long, &Labels::empty());
    appender.append(&app("b"), 950, &long, &Labels::empty());
    for timestamp in 0..1000 {
        let line = format!("{timestamp} is a number");
        appender.append(&app("a"), timestamp, line.as_bytes(), &Labels::empty());
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store.flush().unwrap();
    let version = store.inner.blocks.version();
    let block = &version.blocks[0];
    let path = PathBuf::from(format!("/store/blocks/{}.block", block.meta.id));
    let tables = block.reader.tables().unwrap();
    let damaged: Vec<_> = tables
        .chunks
        .iter()
        .filter(|chunk| chunk.runs[0].stream == 1)
        .collect();
    assert!(!damaged.is_empty() && damaged.len() < tables.chunks.len());
    for chunk in damaged {
        let offset = usize::try_from(chunk.text.offset).unwrap();
        bench.disk.corrupt(&path, offset + 8, 1);
    }
    drop((tables, version, store));
    let store = bench.open().unwrap();
    for lines in [vec![], vec![LineFilter::Contains("number".into())]] {
        let request = Request::Rows(Rows {
            lines,
            direction: Direction::Backward,
            limit_hint: Some(20),
            index: false,
            ..Rows::new(vec![], TimeRange::ALL)
        });
        let mut batches = store.snapshot().scan(&request).unwrap();
        let Some(Ok(Answer::Rows(rows))) = batches.next() else {
            panic!("the damage is not met yet");
        };
        assert_eq!(rows.lines.get(0), b"999 is a number");
        assert!(batches.any(|batch| batch.is_err()), "it is met later");
    }
}

#[test]
fn a_scan_that_finds_nothing_gives_control_back() {
    let bench = Bench::new(Config::default());
    let store = bench.open().unwrap();
    let mut appender = store.appender();
    for timestamp in 0..70 {
        let line = vec![b'x'; 250 << 10];
        appender.append(&app("a"), timestamp, &line, &Labels::empty());
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store.flush().unwrap();
    for direction in [Direction::Forward, Direction::Backward, Direction::Any] {
        for limit_hint in [None, Some(10)] {
            let request = Request::Rows(Rows {
                lines: vec![LineFilter::Contains("y".into())],
                direction,
                limit_hint,
                index: false,
                ..Rows::new(vec![], TimeRange::ALL)
            });
            let mut batches = 0;
            for batch in store.snapshot().scan(&request).unwrap() {
                let Answer::Rows(rows) = batch.unwrap() else {
                    panic!("rows were asked for");
                };
                assert!(rows.timestamps.is_empty());
                batches += 1;
            }
            assert!(batches >= 1, "{direction:?} {limit_hint:?}");
        }
    }
}
