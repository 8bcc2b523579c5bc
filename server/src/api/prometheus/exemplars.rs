//! Exemplars of the series that a query names. The routes of `prometheus` lead here.

use std::collections::BTreeMap;

use trine_query::promql;
use trine_query::promql::ast::{Expr, ExprKind};
use trine_storage::{Labels, Matcher};
use trine_tsdb::{Exemplar, Hints};

use super::answer::Failure;
use super::federation;
use super::json::{self, Object};
use super::names;
use super::pieces::Reply;
use super::request;
use super::run::Asked;
use super::source;

/// `query_exemplars`: those in the range that was asked for, whatever offsets the query has.
pub(super) fn exemplars(asked: &Asked) -> Result<Reply, Failure> {
    let (start, end) = request::ends(&asked.params)?;
    if end < start {
        let why = "end timestamp must not be before start timestamp";
        return Err(Failure::bad(why));
    }
    let range = request::window(&asked.params)?;
    let options = asked.app.config.promql.parse_options();
    let query = promql::parse_with(asked.params.get("query").unwrap_or(""), &options);
    let query = query.map_err(|error| Failure::bad(error.to_string()))?;
    let mut selectors = Vec::new();
    collect(&query.expr, &mut selectors);
    let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    let stores = source::stores(asked)?;
    let several = asked.tenants.len() > 1;
    for (tenant, store) in &stores {
        for matchers in &selectors {
            let chosen = if several {
                federation::chosen(matchers, tenant)
            } else {
                Some(matchers.to_vec())
            };
            let Some(matchers) = chosen else {
                continue;
            };
            for series in store
                .snapshot()
                .exemplars(&matchers, range, &Hints::default())?
            {
                let labels = if several {
                    federation::labelled(&series.labels, tenant)
                } else {
                    series.labels
                };
                // Two selectors that name one series find the same.
                found.insert(labels, series.exemplars);
            }
        }
    }
    Ok(names::list(found.into_iter().collect(), None, write))
}

/// Writes the exemplars of a series.
pub(in crate::api) fn write(out: &mut String, (labels, exemplars): (Labels, Vec<Exemplar>)) {
    let mut series = Object::begin(out);
    json::labels(series.key("seriesLabels"), &labels);
    json::array(series.key("exemplars"), exemplars, |out, exemplar| {
        let mut object = Object::begin(out);
        json::labels(object.key("labels"), &exemplar.labels);
        json::sample_value(object.key("value"), exemplar.value);
        json::seconds(object.key("timestamp"), exemplar.timestamp);
        object.end();
    });
    series.end();
}

/// The matchers of every selector in an expression.
fn collect<'q>(expr: &'q Expr, found: &mut Vec<&'q [Matcher]>) {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
            found.push(&selector.matchers);
        }
        ExprKind::Subquery(subquery) => collect(&subquery.expr, found),
        ExprKind::Aggregate(aggregate) => {
            if let Some(parameter) = &aggregate.parameter {
                collect(parameter, found);
            }
            collect(&aggregate.expr, found);
        }
        ExprKind::Binary(binary) => {
            collect(&binary.lhs, found);
            collect(&binary.rhs, found);
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => collect(expr, found),
        ExprKind::Call { arguments, .. } => {
            for argument in arguments {
                collect(argument, found);
            }
        }
    }
}
