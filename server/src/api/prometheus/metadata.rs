//! What metrics are: type, help and unit. The routes of `prometheus` lead here.

use std::collections::BTreeMap;

use trine_query::promql;
use trine_tsdb::Metadata;

use super::answer::{self, Failure};
use super::json::{self, Object};
use super::pieces::Reply;
use super::request;
use super::run::Asked;
use super::source;

/// `metadata`.
pub(super) fn metadata(asked: &Asked) -> Result<Reply, Failure> {
    let limit = request::count(&asked.params, "limit")?;
    let per_metric = request::count(&asked.params, "limit_per_metric")?;
    let metric = asked.params.get("metric");
    let mut found: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
    for (_, store) in source::stores(asked)? {
        for (name, entries) in store.snapshot().metadata(metric, limit, per_metric) {
            let known = found.entry(name).or_default();
            for entry in entries {
                if known.len() < per_metric.unwrap_or(usize::MAX) && !known.contains(&entry) {
                    known.push(entry);
                }
            }
        }
    }
    let metrics = found.into_iter().filter(|(_, entries)| !entries.is_empty());
    let metrics = metrics.take(limit.unwrap_or(usize::MAX));
    let text = answer::success(&[], &[], |out| {
        let mut object = Object::begin(out);
        for (name, entries) in metrics {
            json::array(object.key(&name), &entries, entry);
        }
        object.end();
    });
    Ok(text.into())
}

fn entry(out: &mut String, entry: &Metadata) {
    let mut object = Object::begin(out);
    object.text("type", &entry.kind.to_string());
    object.text("help", &entry.help);
    object.text("unit", &entry.unit);
    object.end();
}

/// `targets/metadata`: there are no targets, but the question must make sense.
pub(super) fn of_targets(asked: &Asked) -> Result<Reply, Failure> {
    request::count(&asked.params, "limit")?;
    if let Some(selector) = asked.params.get("match_target") {
        let matchers = promql::parse_selector(selector);
        matchers.map_err(|error| request::invalid("match_target", &error.to_string()))?;
    }
    Ok(answer::success(&[], &[], |out| out.push_str("[]")).into())
}
