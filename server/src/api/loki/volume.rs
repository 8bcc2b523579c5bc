//! How much there is: sums over the streams that a selector finds, for `index/stats` and
//! `index/volume`. No line is read where the store keeps counts.

use std::collections::{BTreeMap, BTreeSet};

use trine_query::budget::Cancel;
use trine_query::logql::QueryError;
use trine_query::logql::source::{Batch, CountBatch, Counts, Measure, Request, RowBatch, Source};
use trine_storage::{Labels, Matcher, TimeRange};

use super::answer::Failure;
use super::request::{self, Bounds};
use crate::params::Params;

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

/// The end of a step, and bytes by stream.
pub(super) type Step = (i64, BTreeMap<Labels, u64>);

/// Bytes by stream in each step from the start of the range on, and the ends of the steps.
pub(super) fn over_time(
    source: &dyn Source,
    matchers: &[Matcher],
    bounds: Bounds,
    step_ns: i64,
    cancel: &Cancel,
) -> Result<Vec<Step>, QueryError> {
    let (step, start) = (step_ns.max(1), bounds.start_ns.saturating_sub(1));
    let request = Request::Counts(Counts::new(
        matchers.to_vec(),
        TimeRange::inclusive(start, bounds.end_ns),
        step,
        Measure::Bytes,
    ));
    let mut steps: BTreeMap<i64, BTreeMap<Labels, u64>> = BTreeMap::new();
    for batch in source.scan(&request)? {
        if cancel.is_canceled() {
            return Err(QueryError::Cancelled);
        }
        match batch? {
            Batch::Counts(counts) => {
                let numbers = counts.stream.iter().zip(&counts.bucket).zip(&counts.count);
                for ((stream, bucket), count) in numbers {
                    if let Some(labels) = counts.streams.get(*stream as usize) {
                        add(steps.entry(i64::from(*bucket)).or_default(), labels, *count);
                    }
                }
            }
            Batch::Rows(rows) => {
                for (row, timestamp) in rows.timestamps.iter().enumerate() {
                    if let Some(labels) = rows.stream_of(row)
                        && bounds.range().contains(*timestamp)
                    {
                        let step = (timestamp - start - 1).div_euclid(step);
                        let bytes = rows.lines.get(row).len() as u64;
                        add(steps.entry(step).or_default(), labels, bytes);
                    }
                }
            }
        }
    }
    let end = |at: i64| {
        let end = bounds
            .start_ns
            .saturating_add(step.saturating_mul(at.saturating_add(1)));
        end.min(bounds.end_ns)
    };
    Ok(steps
        .into_iter()
        .map(|(at, sums)| (end(at), sums))
        .collect())
}

/// The parameters `query`, `targetLabels` and `aggregateBy`.
pub(super) fn asked_for(params: &Params) -> Result<(Vec<Matcher>, Grouping), Failure> {
    let matchers = request::selector(params)?;
    let targets = params.get("targetLabels").unwrap_or("").split(',');
    let targets = targets.map(str::trim).filter(|target| !target.is_empty());
    let mut names: BTreeSet<String> = targets.map(str::to_owned).collect();
    let grouping = match params.get("aggregateBy").unwrap_or("series") {
        "series" => {
            if names.is_empty() {
                let of_matchers = matchers.iter().map(|matcher| matcher.name().to_owned());
                names = of_matchers.collect();
            }
            Grouping::Values(names)
        }
        "labels" => Grouping::Names(names),
        _ => return Err(Failure::bad("invalid aggregation option")),
    };
    Ok((matchers, grouping))
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
    let mut sums: Vec<(Group, u64)> = sums(volumes, grouping).into_iter().collect();
    // The sort is stable: groups of equal volume stay in the order of their labels.
    sums.sort_by_key(|(_, volume)| std::cmp::Reverse(*volume));
    sums.truncate(limit);
    sums
}

/// As [`grouped`], at the ends of steps; the groups of the largest sums over all steps.
pub(super) fn grouped_over_time(
    steps: Vec<Step>,
    grouping: &Grouping,
    limit: usize,
) -> Vec<(Group, Vec<(i64, u64)>)> {
    let mut groups: BTreeMap<Group, Vec<(i64, u64)>> = BTreeMap::new();
    for (end, volumes) in steps {
        for (group, sum) in sums(&volumes, grouping) {
            groups.entry(group).or_default().push((end, sum));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_cached_key(|(_, volumes)| {
        std::cmp::Reverse(volumes.iter().map(|(_, volume)| *volume).sum::<u64>())
    });
    groups.truncate(limit);
    groups
}

fn sums(volumes: &BTreeMap<Labels, u64>, grouping: &Grouping) -> BTreeMap<Group, u64> {
    let mut sums: BTreeMap<Group, u64> = BTreeMap::new();
    let mut add = |group, volume: u64| {
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
