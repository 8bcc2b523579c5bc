//! Queries: evaluated at one time or over a range, printed in the canonical form, or as a tree.
//! The routes of `prometheus` lead here.

use std::sync::Arc;

use trine_query::promql::{self, Engine, Options, Query, QueryResult};

use super::answer::{self, Failure};
use super::json;
use super::pieces::Reply;
use super::request::{self, Stats, invalid};
use super::result::{self, Timings};
use super::run::Asked;
use super::source;
use super::syntax_tree;

/// `query`.
pub(super) fn instant(asked: &Asked) -> Result<Reply, Failure> {
    let limit = request::limit(&asked.params)?;
    let time = request::optional_time(&asked.params, "time")?;
    let time = time.unwrap_or_else(|| asked.app.clock.now_ms());
    evaluate(asked, limit, |engine, query, options| {
        engine.instant(&*source::of(asked)?, query, time, options)
    })
}

/// `query_range`.
pub(super) fn range(asked: &Asked) -> Result<Reply, Failure> {
    let limit = request::limit(&asked.params)?;
    let range = request::range(&asked.params)?;
    let steps = (range.start_ms, range.end_ms, range.step_ms);
    evaluate(asked, limit, |engine, query, options| {
        engine.range(&*source::of(asked)?, query, steps, options)
    })
}

/// `format_query`.
pub(super) fn format(asked: &Asked) -> Result<Reply, Failure> {
    let text = parsed(asked)?.pretty();
    Ok(answer::success(&[], &[], |out| json::string(out, &text)).into())
}

/// `parse_query`.
pub(super) fn parse(asked: &Asked) -> Result<Reply, Failure> {
    let query = parsed(asked)?;
    let text = answer::success(&[], &[], |out| syntax_tree::write(out, &query.expr));
    Ok(text.into())
}

/// The query of the request.
fn parsed(asked: &Asked) -> Result<Query, Failure> {
    let text = asked.params.get("query").unwrap_or("");
    let options = asked.app.config.promql.parse_options();
    promql::parse_with(text, &options).map_err(|error| invalid("query", &error.to_string()))
}

fn evaluate(
    asked: &Asked,
    limit: Option<usize>,
    run: impl FnOnce(&Engine, &Query, &Options) -> Result<QueryResult, promql::QueryError>,
) -> Result<Reply, Failure> {
    let clock = &asked.app.clock;
    let begun = clock.monotonic_ns();
    let options = options(asked)?;
    let stats = request::stats(&asked.params);
    let query = parsed(asked)?;
    let prepared = clock.monotonic_ns();
    let engine = Engine::with_clock(asked.limits(), Arc::clone(clock));
    let mut found = run(&engine, &query, &options)?;
    let timings = Timings {
        queue_ns: begun.saturating_sub(asked.arrived_ns),
        preparation_ns: prepared.saturating_sub(begun),
        evaluation_ns: clock.monotonic_ns().saturating_sub(prepared),
    };
    if stats == Stats::Deprecated {
        found
            .warnings
            .push(request::stats_deprecated(&asked.params));
    }
    let timings = (stats != Stats::No).then_some(timings);
    Ok(result::reply(found, limit, timings))
}

fn options(asked: &Asked) -> Result<Options, Failure> {
    let defaults = Options::default();
    let timeout = request::timeout(&asked.params)?;
    let lookback = request::lookback(&asked.params)?;
    Ok(Options {
        lookback_ms: lookback
            .filter(|ms| *ms > 0)
            .unwrap_or(defaults.lookback_ms),
        timeout,
        cancel: asked.cancel.clone(),
        delayed_name_removal: asked.app.config.promql.delayed_name_removal,
        start_timestamps: asked.app.config.promql.start_timestamps,
        ..defaults
    })
}
