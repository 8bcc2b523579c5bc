//! How much there is: sums over the streams that a selector finds, for `index/stats` and
//! `index/volume`. No line is read where the store keeps counts.

use std::collections::{BTreeMap, BTreeSet};

use trine_query::budget::Cancel;
use trine_query::logql::QueryError;
use trine_query::logql::source::{Batch, CountBatch, Counts, Measure, Request, RowBatch, Source};
use trine_storage::{Labels, Matcher, TimeRange};

use super::request::Bounds;

/// Entries or bytes by stream.
pub(super) fn by_stream(
    source: &dyn Source,
    matchers: &[Matcher],
    bounds: Bounds,
    measure: Measure,
    cancel: &Cancel,
) -> Result<BTreeMap<Labels, u64>, QueryError> {
    // One bucket, which does not hold the instant at which it begins.
    let start = bounds.start_ns.saturating_sub(1);
    let request = Request::Counts(Counts::new(
        matchers.to_vec(),
        TimeRange::inclusive(start, bounds.end_ns),
        bounds.end_ns.saturating_sub(start).max(1),
        measure,
    ));
    let mut found = BTreeMap::new();
    for batch in source.scan(&request)? {
        if cancel.is_canceled() {
            return Err(QueryError::Cancelled);
        }
        match batch? {
            Batch::Counts(counts) => add_counts(&mut found, &counts),
            Batch::Rows(rows) => add_rows(&mut found, &rows, bounds, measure),
        }
    }
    Ok(found)
}

fn add(found: &mut BTreeMap<Labels, u64>, labels: &Labels, count: u64) {
    match found.get_mut(labels) {
        Some(sum) => *sum = sum.saturating_add(count),
        None => drop(found.insert(labels.clone(), count)),
    }
}

fn add_counts(found: &mut BTreeMap<Labels, u64>, batch: &CountBatch) {
    for (stream, count) in batch.stream.iter().zip(&batch.count) {
        if let Some(labels) = batch.streams.get(*stream as usize) {
            add(found, labels, *count);
        }
    }
}

fn add_rows(found: &mut BTreeMap<Labels, u64>, batch: &RowBatch, bounds: Bounds, measure: Measure) {
    let range = bounds.range();
    for (row, timestamp) in batch.timestamps.iter().enumerate() {
        if let Some(labels) = batch.stream_of(row)
            && range.contains(*timestamp)
        {
            let count = match measure {
                Measure::Lines => 1,
                Measure::Bytes => batch.lines.get(row).len() as u64,
            };
            add(found, labels, count);
        }
    }
}

/// How the volumes of streams are summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grouping {
    /// By the values of these labels.
    Values(BTreeSet<String>),
    /// By the names of labels: of these, or of all without any.
    Names(BTreeSet<String>),
}

/// A group: names and values of labels; no values where volumes are summed by name.
pub(super) type Group = Vec<(String, String)>;

/// Sums by group, the largest first and at most `limit` of them.
pub(super) fn grouped(
    volumes: &BTreeMap<Labels, u64>,
    grouping: &Grouping,
    limit: usize,
) -> Vec<(Group, u64)> {
    let mut sums: BTreeMap<Group, u64> = BTreeMap::new();
    let mut add = |group, volume| {
        let sum = sums.entry(group).or_insert(0);
        *sum = sum.saturating_add(volume);
    };
    for (labels, volume) in volumes {
        match grouping {
            Grouping::Values(names) => {
                let of_group = labels.iter().filter(|(name, _)| names.contains(*name));
                let group: Group = of_group
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                if !group.is_empty() {
                    add(group, *volume);
                }
            }
            Grouping::Names(names) => {
                for (name, _) in labels {
                    if names.is_empty() || names.contains(name) {
                        add(vec![(name.to_owned(), String::new())], *volume);
                    }
                }
            }
        }
    }
    let mut sums: Vec<(Group, u64)> = sums.into_iter().collect();
    // The sort is stable: groups of equal volume stay in the order of their labels.
    sums.sort_by_key(|(_, volume)| std::cmp::Reverse(*volume));
    sums.truncate(limit);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn check(grouping: &Grouping, limit: usize, expect: &[(&str, &str, u64)]) {
        let volumes = BTreeMap::from([
            (labels(&[("app", "a"), ("env", "x")]), 1),
            (labels(&[("app", "b"), ("env", "x")]), 5),
            (labels(&[("app", "a"), ("env", "y")]), 3),
        ]);
        let expect: Vec<(Group, u64)> = expect
            .iter()
            .map(|(name, value, volume)| (vec![((*name).into(), (*value).into())], *volume))
            .collect();
        assert_eq!(grouped(&volumes, grouping, limit), expect);
    }

    #[test]
    fn groups() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        check(
            &Grouping::Values(names(&["app"])),
            9,
            &[("app", "b", 5), ("app", "a", 4)],
        );
        check(&Grouping::Values(names(&["env"])), 1, &[("env", "x", 6)]);
        check(&Grouping::Values(names(&["no"])), 9, &[]);
        check(
            &Grouping::Names(names(&[])),
            9,
            &[("app", "", 9), ("env", "", 9)],
        );
        check(&Grouping::Names(names(&["env"])), 9, &[("env", "", 9)]);
    }

    #[test]
    fn rows_are_counted_where_the_store_does_not_count() {
        let lines = trine_query::logql::source::Lines {
            blob: bytes::Bytes::from_static(b"abcdef"),
            ends: vec![1, 3, 6],
        };
        let rows = RowBatch {
            streams: vec![labels(&[("app", "a")])],
            stream: vec![0, 0, 0],
            timestamps: vec![1, 2, 3],
            lines,
            ..RowBatch::default()
        };
        let bounds = Bounds {
            start_ns: 2,
            end_ns: 3,
        };
        for (measure, expect) in [(Measure::Lines, 2), (Measure::Bytes, 5)] {
            let mut found = BTreeMap::new();
            add_rows(&mut found, &rows, bounds, measure);
            assert_eq!(found, BTreeMap::from([(labels(&[("app", "a")]), expect)]));
        }
    }
}
