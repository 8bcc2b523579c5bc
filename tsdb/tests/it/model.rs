//! Random operations against a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trine_storage::sim::SimFs;
use trine_storage::{MatchOp, Matcher, TimeRange};
use trine_tsdb::{Durability, Hints, Value, Values};

use crate::store::{NOW_MS, labels, open};

const HOUR: i64 = 3_600_000;

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<(u8, i64, u8)>),
    Flush,
    Compact,
    Delete {
        series: String,
        start: i64,
        len: i64,
    },
    Reopen,
    Read {
        series: String,
        start: i64,
        len: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let rows = prop::collection::vec((0u8..4, 0i64..75, 0u8..3), 1..12);
    prop_oneof![
        4 => rows.prop_map(Op::Append),
        1 => Just(Op::Flush),
        1 => Just(Op::Compact),
        1 => Just(Op::Reopen),
        1 => ("[a-d|.]{1,3}", 0i64..75, 0i64..75)
            .prop_map(|(series, start, len)| Op::Delete { series, start, len }),
        3 => ("[a-d|.]{1,3}", 0i64..75, 0i64..75)
            .prop_map(|(series, start, len)| Op::Read { series, start, len }),
    ]
}

/// What is stored: sealed samples may be replaced, those in memory not.
#[derive(Default)]
struct Model {
    sealed: BTreeMap<(String, i64), f64>,
    memory: BTreeMap<(String, i64), f64>,
}

fn name(series: u8) -> String {
    char::from(b'a' + series).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_store_is_a_map(ops in prop::collection::vec(op(), 1..30), recent: bool) {
        // Long ago every window is closed; up to now only some are.
        let base = if recent { NOW_MS - 38 * HOUR } else { 0 };
        let fs = SimFs::new();
        let mut db = open(&fs);
        let mut model = Model::default();
        for op in ops {
            match &op {
                Op::Append(rows) => {
                    let mut appender = db.appender();
                    let mut rejected = 0;
                    for &(series, timestamp, value) in rows {
                        // Half an hour apart, so that blocks hold few timestamps each.
                        let timestamp = base + timestamp * HOUR / 2;
                        let value = f64::from(value);
                        appender.append(&labels(&format!("n={}", name(series))), timestamp, Value::Float(value));
                        let held = model.memory.entry((name(series), timestamp)).or_insert(value);
                        rejected += u64::from(held.to_bits() != value.to_bits());
                    }
                    let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
                    prop_assert_eq!(told.rejected.iter().map(|r| r.count).sum::<u64>(), rejected);
                }
                Op::Flush | Op::Compact => {
                    match op {
                        Op::Flush => db.flush().unwrap(),
                        _ => db.compact().unwrap(),
                    }
                    model.sealed.append(&mut model.memory);
                }
                Op::Delete { series, start, len } => {
                    let Ok(matcher) = Matcher::new(MatchOp::Match, "n", series.as_str()) else { continue };
                    let range = TimeRange::new(base + start * HOUR / 2, base + (start + len) * HOUR / 2);
                    db.delete(std::slice::from_ref(&matcher), range).unwrap();
                    model.sealed.append(&mut model.memory);
                    model.sealed.retain(|(name, t), _| !(matcher.matches(name) && range.contains(*t)));
                }
                Op::Reopen => {
                    drop(db);
                    db = open(&fs);
                }
                Op::Read { series, start, len } => {
                    let Ok(matcher) = Matcher::new(MatchOp::Match, "n", series.as_str()) else { continue };
                    let range = TimeRange::new(base + start * HOUR / 2, base + (start + len) * HOUR / 2);
                    let mut all = model.sealed.clone();
                    all.extend(model.memory.clone());
                    let mut expected: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
                    for ((name, timestamp), value) in all {
                        if matcher.matches(&name) && range.contains(timestamp) {
                            expected.entry(name).or_default().push((timestamp, value));
                        }
                    }
                    let mut found = BTreeMap::new();
                    let set = db.snapshot().select(std::slice::from_ref(&matcher), range, &Hints::default()).unwrap();
                    for series in set {
                        let series = series.unwrap();
                        let Values::Floats(values) = series.samples.values else { panic!("no floats") };
                        let samples: Vec<(i64, f64)> =
                            series.samples.timestamps.into_iter().zip(values).collect();
                        found.insert(series.labels.get("n").unwrap().to_owned(), samples);
                    }
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
