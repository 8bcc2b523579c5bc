//! Names and label sets: what series there are. The routes of `prometheus` lead here.

use std::collections::BTreeSet;

use trine_query::promql::Source;
use trine_storage::{Error, Labels, Matcher};

use super::answer::{self, Failure};
use super::json;
use super::pieces::{List, Reply};
use super::request;
use super::run::Asked;
use super::source;

/// `labels`.
pub(super) fn labels(asked: &Asked) -> Result<Reply, Failure> {
    let limit = request::limit(&asked.params)?;
    let range = request::window(&asked.params)?;
    let selectors = request::selectors(&asked.params).map_err(Failure::bad)?;
    let names = union(asked, &selectors, |source, matchers| {
        source.label_names(matchers, range, one_more(limit))
    })?;
    Ok(list(names, limit, |out, name| json::string(out, &name)))
}

/// `label/{name}/values`.
pub(super) fn label_values(asked: &Asked, name: &str) -> Result<Reply, Failure> {
    if name.is_empty() {
        return Err(Failure::bad("invalid label name: \"\""));
    }
    let limit = request::limit(&asked.params)?;
    let range = request::window(&asked.params)?;
    let selectors = request::selectors(&asked.params).map_err(Failure::bad)?;
    let values = union(asked, &selectors, |source, matchers| {
        source.label_values(name, matchers, range, one_more(limit))
    })?;
    Ok(list(values, limit, |out, value| json::string(out, &value)))
}

/// `series`.
pub(super) fn series(asked: &Asked) -> Result<Reply, Failure> {
    if asked.params.all("match[]").next().is_none() {
        return Err(Failure::bad("no match[] parameter provided"));
    }
    let limit = request::limit(&asked.params)?;
    let range = request::window(&asked.params)?;
    let selectors = request::selectors(&asked.params);
    let selectors = selectors.map_err(|why| request::invalid("match[]", &why))?;
    let series: Vec<Labels> = union(asked, &selectors, |source, matchers| {
        source.series(matchers, range, one_more(limit))
    })?;
    Ok(list(series, limit, |out, labels| {
        json::labels(out, &labels);
    }))
}

/// At most `limit` items in the envelope, with a warning if that are fewer than there are.
pub(super) fn list<T: Send + 'static>(
    mut items: Vec<T>,
    limit: Option<usize>,
    write: fn(&mut String, T),
) -> Reply {
    let warnings = answer::truncate(&mut items, limit);
    let mut tail = String::from("]");
    answer::annotations(&mut tail, &warnings, &[]);
    tail.push('}');
    let head = r#"{"status":"success","data":["#.to_owned();
    Reply::of(List::new(head, items, write, tail))
}

/// What `ask` finds for any of the selectors, sorted; for everything without one.
fn union<T: Ord>(
    asked: &Asked,
    selectors: &[Vec<Matcher>],
    ask: impl Fn(&dyn Source, &[Matcher]) -> Result<Vec<T>, Error>,
) -> Result<Vec<T>, Failure> {
    let source = source::of(asked)?;
    match selectors {
        [] => Ok(ask(&*source, &[])?),
        [matchers] => Ok(ask(&*source, matchers)?),
        several => {
            let mut found = BTreeSet::new();
            for matchers in several {
                found.extend(ask(&*source, matchers)?);
            }
            Ok(found.into_iter().collect())
        }
    }
}

/// One more than the client wants tells whether something was left out.
fn one_more(limit: Option<usize>) -> Option<usize> {
    limit.map(|limit| limit.saturating_add(1))
}
