//! Every kind of sample, exemplars and metadata, in memory, parts and blocks, after merges and
//! restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::{Labels, MatchOp, Matcher, TimeRange};
use trine_tsdb::{
    Buckets, CUSTOM_SCHEMA, Config, Durability, Exemplar, Hints, Histogram, Metadata, MetricType,
    Reason, ResetHint, Span, Tsdb, Value, Values,
};

use crate::store::{NOW_MS, clock, labels, open, open_with};

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

/// Ten hours ago: in a closed window.
const OLD: i64 = NOW_MS - 10 * HOUR;

fn integer(counts: &[i64]) -> Histogram {
    Histogram {
        sum: 2.5,
        buckets: Buckets::Integer {
            zero_count: 1,
            count: 1 + counts.iter().sum::<i64>() as u64,
            positive: counts.to_vec(),
            negative: vec![],
        },
        positive_spans: vec![Span {
            offset: -3,
            length: counts.len() as u32,
        }],
        zero_threshold: 1e-128,
        schema: 3,
        ..Histogram::default()
    }
}

fn float(counts: &[f64]) -> Histogram {
    Histogram {
        reset_hint: ResetHint::Gauge,
        buckets: Buckets::Float {
            zero_count: 0.5,
            count: 0.5 + counts.iter().sum::<f64>(),
            positive: vec![],
            negative: counts.to_vec(),
        },
        positive_spans: vec![],
        negative_spans: vec![Span {
            offset: 0,
            length: counts.len() as u32,
        }],
        ..integer(&[])
    }
}

fn custom(counts: &[i64]) -> Histogram {
    Histogram {
        schema: CUSTOM_SCHEMA,
        zero_threshold: 0.0,
        custom_values: (0..counts.len()).map(|bound| bound as f64).collect(),
        buckets: Buckets::Integer {
            zero_count: 0,
            count: counts.iter().sum::<i64>() as u64,
            positive: counts.to_vec(),
            negative: vec![],
        },
        positive_spans: vec![Span {
            offset: 0,
            length: counts.len() as u32,
        }],
        ..integer(&[])
    }
}

/// A row as text that tells all bits.
fn show(timestamp: i64, start: i64, value: &Value) -> String {
    let at = timestamp - OLD;
    match value {
        Value::Float(value) => format!("{at} {start} {:x}", value.to_bits()),
        Value::Histogram(histogram) => {
            format!("{at} {start} {:x} {histogram:?}", histogram.sum.to_bits())
        }
        other => panic!("{other:?}"),
    }
}

/// All samples of all series.
fn dump(db: &Tsdb) -> Vec<(String, Vec<String>)> {
    let set = db.snapshot();
    let set = set.select(&[], TimeRange::ALL, &Hints::default()).unwrap();
    set.map(|series| {
        let series = series.unwrap();
        let samples = &series.samples;
        let rows = samples.timestamps.iter().enumerate().map(|(at, time)| {
            let start = samples.start_timestamps.as_ref().map_or(0, |s| s[at]);
            show(*time, start, &samples.values.get(at).unwrap())
        });
        let pure = match &samples.values {
            Values::Mixed(values) => {
                let floats = values.iter().filter(|v| matches!(v, Value::Float(_)));
                (1..values.len()).contains(&floats.count())
            }
            _ => true,
        };
        assert!(pure, "a column says that it is mixed and is not");
        (series.labels.to_string(), rows.collect())
    })
    .collect()
}

fn exemplars(db: &Tsdb, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
    let found = db.snapshot().exemplars(matchers, range, &Hints::default());
    let lines = found.unwrap().into_iter().flat_map(|series| {
        let line = move |e: Exemplar| {
            format!(
                "{} {} {} {}",
                series.labels,
                e.timestamp - OLD,
                e.value,
                e.labels
            )
        };
        series.exemplars.into_iter().map(line)
    });
    lines.collect()
}

fn append(db: &Tsdb, rows: &[(&str, i64, i64, Value)]) {
    let mut appender = db.appender();
    for (series, timestamp, start, value) in rows {
        let labels = labels(series);
        let mut series = appender.series(&labels);
        series.append_started(*timestamp, *start, value.clone());
    }
    let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
    assert_eq!(told.rejected, []);
}

fn exemplar(timestamp: i64, value: f64, trace: &str) -> Exemplar {
    Exemplar {
        timestamp,
        value,
        labels: labels(&format!("trace_id={trace}")),
    }
}

/// What every stage of life must not change.
fn same_after_each_stage(fs: &SimFs, db: Tsdb, check: impl Fn(&Tsdb, &str)) {
    check(&db, "in memory");
    drop(db);
    let db = open(fs);
    check(&db, "from the log");
    db.flush().unwrap();
    check(&db, "in a part");
    drop(db);
    let db = open(fs);
    check(&db, "in a part, opened again");
    db.compact().unwrap();
    check(&db, "in blocks");
    db.compact().unwrap();
    check(&db, "in blocks that were merged");
    assert!(db.verify().errors.is_empty(), "{:?}", db.verify().errors);
    let crashed = fs.crash(Crash::Power, 0);
    check(&open(&crashed), "after a loss of power");
}

#[test]
fn every_kind_of_sample_is_kept() {
    let fs = SimFs::new();
    let db = open(&fs);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let mut rows: Vec<(&str, i64, i64, Value)> = Vec::new();
    for at in 0..600 {
        let time = OLD + at * MINUTE;
        rows.push(("n=float", time, 0, (at as f64).into()));
        rows.push(("n=started", time, OLD - 1, (at as f64).into()));
        rows.push(("n=delta", time, time - MINUTE, 1.0.into()));
        rows.push(("n=integer", time, 0, integer(&[at, 2, 2 * at]).into()));
        rows.push(("n=fraction", time, 0, float(&[at as f64 / 3.0, 2.0]).into()));
        rows.push(("n=custom", time, OLD, custom(&[at, 1]).into()));
        let mixed = match at % 7 {
            0 | 1 => Value::from(at as f64),
            2 => stale.into(),
            3 => Histogram::stale().into(),
            4 => float(&[f64::NAN]).into(),
            _ => integer(&[at; 5]).into(),
        };
        let start = if at % 11 == 0 { 0 } else { time - at };
        if at % 7 != 4 {
            rows.push(("n=mixed", time, start, mixed));
        }
    }
    append(&db, &rows);
    let mut expected: Vec<(String, Vec<String>)> = Vec::new();
    let mut names: Vec<&str> = rows.iter().map(|row| row.0).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let of = rows.iter().filter(|row| row.0 == name);
        let of = of.map(|(_, time, start, value)| show(*time, *start, value));
        expected.push((labels(name).to_string(), of.collect()));
    }
    same_after_each_stage(&fs, db, |db, stage| {
        for (found, expected) in dump(db).iter().zip(&expected) {
            assert_eq!(found.0, expected.0, "{stage}");
            for (found, expected) in found.1.iter().zip(&expected.1) {
                assert_eq!(found, expected, "{stage}");
            }
            assert_eq!(found.1.len(), expected.1.len(), "{stage}");
        }
        assert_eq!(dump(db).len(), expected.len(), "{stage}");
    });
}

#[test]
fn exemplars_are_found_by_series_and_time() {
    let fs = SimFs::new();
    let db = open(&fs);
    let mut appender = db.appender();
    let (a, b) = (labels("n=a"), labels("n=b"));
    let mut series = appender.series(&a);
    series.append(OLD, 1.0.into());
    series.exemplar(exemplar(OLD + 5, 0.5, "x"));
    series.exemplar(exemplar(OLD + 3, 0.25, "y"));
    // The same again, and the same time with other labels.
    series.exemplar(exemplar(OLD + 5, 0.5, "x"));
    series.exemplar(exemplar(OLD + 5, 0.5, "z"));
    // In a window without a sample, and now.
    series.exemplar(exemplar(OLD + 4 * HOUR, 1.5, "v"));
    series.exemplar(exemplar(NOW_MS, 2.5, "w"));
    // A series that has nothing else.
    appender.series(&b).exemplar(exemplar(OLD, 9.0, "u"));
    let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
    assert_eq!((told.stored, told.exemplars, told.rejected), (1, 7, vec![]));
    let line = |series: &Labels, at: i64, value: &str, trace: &str| {
        format!(
            "{series} {at} {value} {}",
            labels(&format!("trace_id={trace}"))
        )
    };
    let all = [
        line(&a, 3, "0.25", "y"),
        line(&a, 5, "0.5", "x"),
        line(&a, 5, "0.5", "z"),
        line(&a, 4 * HOUR, "1.5", "v"),
        line(&a, 10 * HOUR, "2.5", "w"),
        line(&b, 0, "9", "u"),
    ];
    same_after_each_stage(&fs, db, |db, stage| {
        assert_eq!(exemplars(db, &[], TimeRange::ALL), all, "{stage}");
        let only_a = [Matcher::equal("n", "a")];
        let range = TimeRange::new(OLD + 4, OLD + 6);
        assert_eq!(exemplars(db, &only_a, range), all[1..3], "{stage}");
        assert_eq!(dump(db).len(), 1, "{stage}: no sample came of it");
        let limit = Hints { limit: Some(1) };
        let one = db.snapshot().exemplars(&[], TimeRange::ALL, &limit);
        assert_eq!(one.unwrap().len(), 1, "{stage}");
    });
    let db = open(&fs);
    let range = TimeRange::new(OLD + 5, OLD + 5 * HOUR);
    db.delete(&[Matcher::new(MatchOp::NotEqual, "n", "b").unwrap()], range)
        .unwrap();
    let left = [all[0].clone(), all[4].clone(), all[5].clone()];
    same_after_each_stage(&fs, db, |db, stage| {
        assert_eq!(exemplars(db, &[], TimeRange::ALL), left, "{stage}");
    });
}

#[test]
fn metadata_is_kept_until_the_retention_is_done_with_it() {
    let fs = SimFs::new();
    let told = |kind, help: &str| Metadata {
        kind,
        help: help.to_owned(),
        unit: "seconds".to_owned(),
    };
    let put = |db: &Tsdb, metric: &str, metadata: Metadata| {
        let mut appender = db.appender();
        appender.metadata(metric, metadata);
        appender.commit(Durability::Synced).unwrap().wait().unwrap()
    };
    let db = open(&fs);
    let (counter, gauge) = (told(MetricType::Counter, "c"), told(MetricType::Gauge, "ü"));
    put(&db, "requests", counter.clone());
    put(&db, "requests", gauge.clone());
    put(&db, "heat", gauge.clone());
    let before = db.stats().wal.bytes;
    put(&db, "heat", gauge.clone());
    assert_eq!(db.stats().wal.bytes, before, "nothing new is to be logged");
    let expected = vec![
        ("heat".to_owned(), vec![gauge.clone()]),
        ("requests".to_owned(), vec![gauge.clone(), counter.clone()]),
    ];
    same_after_each_stage(&fs, db, |db, stage| {
        let snapshot = db.snapshot();
        assert_eq!(snapshot.metadata(None, None, None), expected, "{stage}");
        let one = snapshot.metadata(Some("requests"), None, Some(1));
        assert_eq!(one, [("requests".to_owned(), vec![gauge.clone()])]);
        assert_eq!(snapshot.metadata(None, Some(1), None), expected[..1]);
    });

    let clock = clock();
    let config = Config {
        retention: Some(std::time::Duration::from_secs(3600)),
        metadata_max: 2,
        ..Config::default()
    };
    let db = open_with(&fs, config, Arc::clone(&clock));
    let refused = put(&db, "third", gauge.clone()).rejected;
    assert_eq!(refused[0].reason, Reason::TooMuchMetadata);
    let long = told(
        MetricType::Info,
        &"x".repeat(trine_tsdb::METADATA_BYTES_MAX),
    );
    let refused = put(&db, "heat", long).rejected;
    assert_eq!(refused[0].reason, Reason::MetadataTooLong);
    clock.advance(std::time::Duration::from_secs(3601));
    put(&db, "heat", gauge.clone());
    append(&db, &[("n=a", NOW_MS + HOUR, 0, 1.0.into())]);
    db.compact().unwrap();
    let left = db.snapshot().metadata(None, None, None);
    assert_eq!(left, [("heat".to_owned(), vec![gauge])]);
    put(&db, "third", counter.clone());
    assert_eq!(db.snapshot().metadata(None, None, None).len(), 2);
}

/// Parts of open windows become few, whatever they hold.
#[test]
fn many_parts_become_one() {
    let fs = SimFs::new();
    let db = open(&fs);
    let parts = |db: &Tsdb| db.stats().parts;
    let mut rows: Vec<(i64, Value)> = Vec::new();
    for at in 0..300 {
        let timestamp = NOW_MS - (300 - at) * 1_000;
        let value = match at % 50 {
            0 => integer(&[at]).into(),
            _ => Value::from(at as f64),
        };
        let series = labels("n=a");
        let mut appender = db.appender();
        let mut of = appender.series(&series);
        of.append_started(timestamp, timestamp - at, value.clone());
        if at % 100 == 0 {
            of.exemplar(exemplar(timestamp, 1.0, &at.to_string()));
            appender.metadata(&format!("m{at}"), Metadata::default());
            // One that is defined here and nowhere else.
            let once = labels(&format!("n=once,at={at}"));
            appender.append(&once, timestamp, 1.0.into());
        }
        appender.commit(Durability::Synced).unwrap().wait().unwrap();
        rows.push((timestamp, value));
        db.flush().unwrap();
        db.maintain().unwrap();
        assert!(parts(&db) <= 7 * 3, "{} parts", parts(&db));
    }
    db.delete(&[Matcher::equal("at", "100")], TimeRange::ALL)
        .unwrap();
    for _ in 0..8 {
        append(&db, &[("n=b", NOW_MS, 0, 1.0.into())]);
        db.flush().unwrap();
    }
    db.maintain().unwrap();
    let expected: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(at, (timestamp, value))| {
            let start = timestamp - at as i64;
            show(*timestamp, if at == 0 { *timestamp } else { start }, value)
        })
        .collect();
    let check = |db: &Tsdb| {
        assert!(parts(db) <= 7 * 3, "{} parts", parts(db));
        let found = dump(db);
        let names: Vec<&str> = found.iter().map(|(name, _)| &name[..]).collect();
        let once = |at| labels(&format!("n=once,at={at}")).to_string();
        let (a, b) = (labels("n=a").to_string(), labels("n=b").to_string());
        assert_eq!(names, [&once(0), &once(200), &a, &b]);
        assert_eq!(found[2].1, expected);
        assert_eq!(exemplars(db, &[], TimeRange::ALL).len(), 3);
        assert_eq!(db.snapshot().metadata(None, None, None).len(), 3);
        assert!(db.verify().errors.is_empty());
    };
    check(&db);
    drop(db);
    check(&open(&fs));
}

#[test]
fn what_contradicts_itself_is_refused_by_reason() {
    let db = open(&SimFs::new());
    let few = Histogram {
        positive_spans: vec![Span {
            offset: 0,
            length: 9,
        }],
        ..integer(&[1, 2])
    };
    let unknown = Histogram {
        schema: 77,
        ..integer(&[1])
    };
    let many = custom(&vec![1; 1_001]);
    let refuse = |value: Histogram, text: &str| {
        let mut appender = db.appender();
        appender.append(&labels("n=a"), OLD, value.into());
        appender.append(&labels("n=b"), OLD, 1.0.into());
        let told = appender.commit(Durability::Buffered).unwrap();
        let told = told.wait().unwrap();
        let [refused] = &told.rejected[..] else {
            panic!("{told:?}")
        };
        assert_eq!(refused.reason, Reason::InvalidHistogram);
        assert_eq!((told.stored, refused.count), (1, 1));
        let expected = format!("series={} timestamp={OLD}: {text}", labels("n=a"));
        assert_eq!(refused.example, expected);
    };
    refuse(
        few,
        "positive side: spans need 9 buckets, have 2 buckets: \
         histogram spans specify different number of buckets than provided",
    );
    refuse(
        unknown,
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, \
         or -53 for custom buckets, got schema 77",
    );
    refuse(
        many,
        "histogram has 1001 buckets, more than 1000, and cannot be reduced to fewer",
    );
    // Exponential ones are made coarser until they fit.
    append(&db, &[("n=wide", OLD, 0, integer(&vec![1; 1_001]).into())]);
    append(
        &db,
        &[("n=wide", OLD + 1, 0, integer(&vec![1; 1_000]).into())],
    );
    let wide = db.snapshot();
    let matchers = [Matcher::equal("n", "wide")];
    let mut wide = wide
        .select(&matchers, TimeRange::ALL, &Hints::default())
        .unwrap();
    let Values::Histograms(stored) = wide.next().unwrap().unwrap().samples.values else {
        panic!("no histograms")
    };
    assert_eq!(stored.iter().map(|h| h.schema).collect::<Vec<_>>(), [2, 3]);

    let mut appender = db.appender();
    let series = labels("n=a");
    let mut of = appender.series(&series);
    let max = trine_tsdb::EXEMPLAR_LABELS_CHARS_MAX - "trace_id".len();
    of.exemplar(exemplar(OLD, 1.0, &"ü".repeat(max)));
    of.exemplar(exemplar(OLD, 1.0, &"ü".repeat(max + 1)));
    of.exemplar(exemplar(NOW_MS + HOUR, 1.0, "x"));
    let told = appender.commit(Durability::Buffered).unwrap();
    let told = told.wait().unwrap();
    let reasons: Vec<Reason> = told.rejected.iter().map(|r| r.reason).collect();
    assert_eq!(reasons, [Reason::ExemplarTooLong, Reason::TooFarInFuture]);
    assert_eq!((told.stored, told.exemplars), (0, 1));
}

#[test]
fn a_duplicate_is_one_whatever_its_kind() {
    let db = open(&SimFs::new());
    let histogram = || Value::from(integer(&[1, 2]));
    for (kept, other) in [
        (1.0.into(), histogram()),
        (histogram(), 1.0.into()),
        (histogram(), integer(&[1, 3]).into()),
    ] {
        for (name, newer) in [("n=newest", false), ("n=not_newest", true)] {
            let series = labels(&format!("{name},kept={kept:?}").replace(['"', ',', ' '], "_"));
            let mut appender = db.appender();
            appender.append(&series, OLD, Value::clone(&kept));
            if newer {
                appender.append(&series, OLD + 1, 7.0.into());
            }
            appender.append(&series, OLD, Value::clone(&kept));
            appender.append(&series, OLD, Value::clone(&other));
            let told = appender.commit(Durability::Buffered).unwrap();
            let told = told.wait().unwrap();
            assert_eq!(told.stored, 2 + u64::from(newer), "{series}");
            assert_eq!(told.rejected[0].reason, Reason::DuplicateTimestamp);
            assert_eq!(told.rejected[0].count, 1);
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..9i64).prop_map(|v| Value::from(v as f64)),
        prop::collection::vec(0..9i64, 0..6).prop_map(|counts| integer(&counts).into()),
        prop::collection::vec(0..9i64, 1..6).prop_map(|counts| custom(&counts).into()),
        Just(Histogram::stale().into()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Samples of any kind in any order of time, sealed and compacted at any moment: the one that
    /// was taken last for a timestamp is there.
    #[test]
    fn any_mixture_in_any_order(
        steps in prop::collection::vec(
            (prop::collection::vec((0..40i64, 0..3i64, value()), 0..30), 0..4u8), 1..8,
        ),
    ) {
        let fs = SimFs::new();
        let db = open(&fs);
        let mut sealed = BTreeMap::new();
        let mut memory: BTreeMap<i64, (i64, Value)> = BTreeMap::new();
        for (rows, then) in steps {
            for (at, start, value) in rows {
                let mut appender = db.appender();
                let timestamp = OLD + at * 14 * MINUTE;
                let series = labels("n=a");
                appender.series(&series).append_started(timestamp, start, value.clone());
                let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
                match memory.get(&timestamp) {
                    Some((_, held)) => {
                        prop_assert_eq!(told.stored, u64::from(held.same_bits(&value)));
                    }
                    None => {
                        prop_assert_eq!(told.stored, 1);
                        memory.insert(timestamp, (start, value));
                    }
                }
            }
            let mut expected = sealed.clone();
            expected.extend(memory.clone());
            match then {
                0 => db.flush().unwrap(),
                1 => db.compact().unwrap(),
                _ => {}
            }
            if then < 2 {
                memory.clear();
                sealed = expected.clone();
            }
            let rows: Vec<String> = expected
                .iter()
                .map(|(timestamp, (start, value))| show(*timestamp, *start, value))
                .collect();
            let found = dump(&db).pop().map_or_else(Vec::new, |(_, rows)| rows);
            prop_assert_eq!(found, rows);
        }
    }
}
