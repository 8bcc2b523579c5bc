//! Which labels make how many series, in the shape of Mimir. The routes of `prometheus` lead here.
//!
//! Where Mimir counts what its ingesters hold, series are counted that may have samples in a window
//! that ends now.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use trine_storage::{Labels, Matcher, TimeRange};
use trine_tsdb::{Hints, Values};

use super::answer::Failure;
use super::json;
use super::pieces::{List, Reply};
use super::request;
use super::run::Asked;
use super::source;
use super::status::bare;

/// Entries of a list unless the request says it, and at most.
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 500;

/// How long after its last sample a series is in memory, and active, in Mimir's defaults.
const IN_MEMORY_MS: i64 = 2 * 60 * 60 * 1000;
const ACTIVE_MS: i64 = 20 * 60 * 1000;

/// Label sets that one request looks at; more are refused.
const SERIES_MAX: usize = 2_000_000;

/// `cardinality/label_names`: the names with the most values.
pub(super) fn label_names(asked: &Asked) -> Result<Reply, Failure> {
    let limit = limit(asked)?;
    let series = series(asked, window(asked)?, &[])?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in series.iter().flatten() {
        values.entry(name).or_default().insert(value);
    }
    let mut counts: Vec<(&str, usize)> = values.iter().map(|(name, v)| (*name, v.len())).collect();
    counts.sort_by_key(|count| Reverse(count.1));
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    let names = counts.len();
    let entry = |(name, count)| json!({ "label_name": name, "label_values_count": count });
    let listed: Vec<_> = counts.into_iter().take(limit).map(entry).collect();
    bare(&json!({
        "label_values_count_total": total,
        "label_names_count": names,
        "cardinality": listed,
    }))
}

/// `cardinality/label_values`: the values of some labels with the most series.
pub(super) fn label_values(asked: &Asked) -> Result<Reply, Failure> {
    let limit = limit(asked)?;
    let mut names: Vec<&str> = asked.params.all("label_names[]").collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(Failure::bad("'label_names[]' param is required"));
    }
    if let Some(empty) = names.iter().find(|name| name.is_empty()) {
        let why = format!("invalid 'label_names' param '{empty}'");
        return Err(Failure::bad(why));
    }
    let series = series(asked, window(asked)?, &[])?;
    let mut labels = Vec::new();
    for name in names {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for value in series.iter().filter_map(|labels| labels.get(name)) {
            *counts.entry(value).or_default() += 1;
        }
        let with_label: u64 = counts.values().sum();
        let values = counts.len();
        let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
        counts.sort_by_key(|count| Reverse(count.1));
        let entry = |(value, count)| json!({ "label_value": value, "series_count": count });
        let listed: Vec<_> = counts.into_iter().take(limit).map(entry).collect();
        labels.push(json!({
            "label_name": name,
            "label_values_count": values,
            "series_count": with_label,
            "cardinality": listed,
        }));
    }
    bare(&json!({ "series_count_total": series.len(), "labels": labels }))
}

/// `cardinality/active_series`.
pub(super) fn active_series(asked: &Asked) -> Result<Reply, Failure> {
    let series = series(
        asked,
        ending_now(asked, ACTIVE_MS),
        &needed_selector(asked)?,
    )?;
    let write = |out: &mut String, labels: Labels| json::labels(out, &labels);
    let head = r#"{"data":["#.to_owned();
    Ok(Reply::of(List::new(head, series, write, "]}".to_owned())))
}

/// `cardinality/active_native_histogram_metrics`: how many buckets the newest histograms have.
pub(super) fn active_native_histogram_metrics(asked: &Asked) -> Result<Reply, Failure> {
    let matchers = needed_selector(asked)?;
    let range = ending_now(asked, ACTIVE_MS);
    let mut metrics: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (_, store) in source::stores(asked)? {
        for series in store
            .snapshot()
            .select(&matchers, range, &Hints::default())?
        {
            let series = series?;
            let newest = series.samples.values.len().saturating_sub(1);
            let histogram = match (&series.samples.values, series.samples.values.get(newest)) {
                (Values::Floats(_), _) | (_, None) => continue,
                (_, Some(trine_tsdb::Value::Histogram(histogram))) => histogram,
                _ => continue,
            };
            let name = series.labels.get("__name__").unwrap_or("").to_owned();
            let counts = metrics.entry(name).or_default();
            counts.push(histogram.buckets.len() as u64);
            if counts.len() > SERIES_MAX {
                return Err(too_many());
            }
        }
    }
    let entry = |(metric, counts): (String, Vec<u64>)| {
        let sum: u64 = counts.iter().sum();
        json!({
            "metric": metric,
            "series_count": counts.len(),
            "bucket_count": sum,
            "avg_bucket_count": sum as f64 / counts.len() as f64,
            "min_bucket_count": counts.iter().min(),
            "max_bucket_count": counts.iter().max(),
        })
    };
    let listed: Vec<_> = metrics.into_iter().map(entry).collect();
    bare(&json!({ "data": listed }))
}

/// The parameter `limit`.
fn limit(asked: &Asked) -> Result<usize, Failure> {
    let Some(text) = asked.params.get("limit") else {
        return Ok(LIMIT_DEFAULT);
    };
    match text.parse::<i64>() {
        Ok(limit) if limit < 0 => Err(Failure::bad("'limit' param cannot be less than '0'")),
        Ok(limit) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            if limit > LIMIT_MAX {
                let why = format!("'limit' param cannot be greater than '{LIMIT_MAX}'");
                return Err(Failure::bad(why));
            }
            Ok(limit)
        }
        Err(_) => Err(Failure::bad(format!("invalid 'limit' param '{text}'"))),
    }
}

/// The parameter `count_method`.
fn window(asked: &Asked) -> Result<TimeRange, Failure> {
    match asked.params.get("count_method") {
        None | Some("inmemory") => Ok(ending_now(asked, IN_MEMORY_MS)),
        Some("active") => Ok(ending_now(asked, ACTIVE_MS)),
        Some(other) => Err(Failure::bad(format!(
            "invalid 'count_method' param '{other}'. valid options are: [active, inmemory]"
        ))),
    }
}

fn ending_now(asked: &Asked, length_ms: i64) -> TimeRange {
    let now = asked.app.clock.now_ms();
    TimeRange::inclusive(now.saturating_sub(length_ms), i64::MAX)
}

fn needed_selector(asked: &Asked) -> Result<Vec<Matcher>, Failure> {
    match request::selector(&asked.params)? {
        Some(matchers) => Ok(matchers),
        None => Err(Failure::bad("missing 'selector' parameter")),
    }
}

/// Series of the tenants, of `matchers` or else of the parameter `selector`.
fn series(asked: &Asked, range: TimeRange, matchers: &[Matcher]) -> Result<Vec<Labels>, Failure> {
    let matchers = if matchers.is_empty() {
        request::selector(&asked.params)?.unwrap_or_default()
    } else {
        matchers.to_vec()
    };
    let found = source::of(asked)?.series(&matchers, range, Some(SERIES_MAX + 1))?;
    if found.len() > SERIES_MAX {
        return Err(too_many());
    }
    Ok(found)
}

fn too_many() -> Failure {
    let why = format!("more than {SERIES_MAX} series; narrow the selector");
    Failure::bad(why)
}
