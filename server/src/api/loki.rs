//! The API of Loki: LogQL over a tenant's logs, and their labels. `routes` mounts it.
//!
//! Errors are plain text, answers are JSON in the envelope that Grafana's own parser expects
//! (`answer`).

mod answer;
mod request;
mod source;
mod volume;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use trine_query::logql::ast::Expr;
use trine_query::logql::source::{Measure, Source};
use trine_query::logql::{self, Engine, QueryError};
use trine_storage::{Error, Labels, Matcher, TimeRange};

use self::answer::{Encoding, Failure};
use self::volume::Grouping;
use super::prometheus::json::{self, Object};
use super::prometheus::run::{self, Asked};
use crate::api::ops;
use crate::app::App;
use crate::routes::Routes;

/// The header by which a client asks for labels by category.
const ENCODING_HEADER: &str = "x-loki-response-encoding-flags";

/// Adds the routes under `prefix`.
pub fn mount(routes: Routes, prefix: &str) -> Routes {
    let path = |name: &str| format!("{prefix}/loki/api/v1/{name}");
    routes
        .route(&path("query"), asking(query))
        .route(&path("query_range"), asking(query_range))
        .route(&path("labels"), asking(labels))
        .route(&path("label"), asking(labels))
        .route(
            &path("label/{name}/values"),
            get(label_values).post(label_values),
        )
        .route(&path("series"), asking(series))
        .route(&path("index/stats"), asking(index_stats))
        .route(&path("index/volume"), asking(index_volume))
        .route(&path("format_query"), get(format_query).post(format_query))
        .route(&path("status/buildinfo"), get(ops::loki_build))
}

/// What a request asks for, worked out on a thread that may block.
type Work = fn(&Asked) -> Result<String, Failure>;

fn asking(work: Work) -> MethodRouter<Arc<App>> {
    let handler = move |State(app), request| answer(app, request, work);
    get(handler).post(handler)
}

async fn answer(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<String, Failure> + Send + 'static,
) -> Response {
    match run::run(app, request, work).await {
        Ok(text) => answer::respond(text),
        Err(failure) => failure.into_response(),
    }
}

fn query(asked: &Asked) -> Result<String, Failure> {
    let started = asked.app.clock.monotonic_ns();
    let time = request::time(&asked.params, "time")?;
    let time = time.unwrap_or_else(|| asked.app.clock.now_ns());
    // They mean nothing here, but must make sense.
    request::limit(&asked.params)?;
    request::direction(&asked.params)?;
    let expr = parsed(asked)?;
    let result = engine(asked).instant(&*source::of(asked)?, &expr, time, &asked.cancel)?;
    Ok(answer::query_result(
        result,
        encoding(asked),
        since(asked, started),
    ))
}

fn query_range(asked: &Asked) -> Result<String, Failure> {
    let started = asked.app.clock.monotonic_ns();
    let query = request::range_query(&asked.params, asked.app.clock.now_ns())?;
    let expr = parsed(asked)?;
    if matches!(expr, Expr::Log(_)) && query.limit > request::LINES_MAX {
        return Err(Failure::bad(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({} > {})",
            query.limit,
            request::LINES_MAX
        )));
    }
    let result = engine(asked).range(&*source::of(asked)?, &expr, query, &asked.cancel)?;
    Ok(answer::query_result(
        result,
        encoding(asked),
        since(asked, started),
    ))
}

fn labels(asked: &Asked) -> Result<String, Failure> {
    let range = bounds(asked)?.range();
    let matchers = request::selector(&asked.params)?;
    let names = source::of(asked)?.label_names(&matchers, range)?;
    Ok(answer::names(&names))
}

async fn label_values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let range = bounds(asked)?.range();
        let matchers = request::selector(&asked.params)?;
        let values = source::of(asked)?.label_values(&name, &matchers, range)?;
        Ok(answer::names(&values))
    })
    .await
}

fn series(asked: &Asked) -> Result<String, Failure> {
    let range = bounds(asked)?.range();
    let selectors = request::selectors(&asked.params)?;
    let found = streams(&*source::of(asked)?, &selectors, range)?;
    Ok(answer::series(&found))
}

/// The streams that satisfy any of the selectors, in label order.
fn streams(
    source: &dyn Source,
    selectors: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<Labels>, Error> {
    let mut found = BTreeSet::new();
    for matchers in selectors {
        found.extend(source.streams(matchers, range)?);
    }
    Ok(found.into_iter().collect())
}

/// Chunks hold lines of many streams here, so there is no number of them that belongs to a
/// selector; it is 0.
fn index_stats(asked: &Asked) -> Result<String, Failure> {
    let bounds = bounds(asked)?;
    let matchers = request::selector(&asked.params)?;
    let source = source::of(asked)?;
    let sum = |measure| volume::by_stream(&*source, &matchers, bounds, measure, &asked.cancel);
    let (entries, bytes) = (sum(Measure::Lines)?, sum(Measure::Bytes)?);
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    object.raw("streams", entries.len());
    object.raw("chunks", 0);
    object.raw("bytes", bytes.values().sum::<u64>());
    object.raw("entries", entries.values().sum::<u64>());
    object.end();
    Ok(out)
}

fn index_volume(asked: &Asked) -> Result<String, Failure> {
    let params = &asked.params;
    let bounds = bounds(asked)?;
    let limit = request::limit(params)?;
    let matchers = request::selector(params)?;
    let targets = params
        .get("targetLabels")
        .unwrap_or("")
        .split(',')
        .filter(|t| !t.is_empty());
    let mut names: BTreeSet<String> = targets.map(str::to_owned).collect();
    let grouping = match params.get("aggregateBy").unwrap_or("series") {
        "series" => {
            if names.is_empty() {
                names = matchers
                    .iter()
                    .map(|matcher| matcher.name().to_owned())
                    .collect();
            }
            Grouping::Values(names)
        }
        "labels" => Grouping::Names(names),
        _ => return Err(Failure::bad("invalid aggregation option")),
    };
    let source = source::of(asked)?;
    let volumes = volume::by_stream(&*source, &matchers, bounds, Measure::Bytes, &asked.cancel)?;
    let groups = volume::grouped(&volumes, &grouping, limit);
    Ok(answer::volumes(&groups, bounds.end_ns))
}

/// The only call whose errors are JSON.
async fn format_query(State(app): State<Arc<App>>, request: Request) -> Response {
    let formatted = run::run(app, request, |asked| {
        let text = parsed(asked)?.to_string();
        Ok::<_, Failure>(answer::data(|out| json::string(out, &text)))
    });
    match formatted.await {
        Ok(text) => answer::respond(text),
        Err(failure) => {
            let mut out = String::new();
            let mut object = Object::begin(&mut out);
            object.text("status", "invalid-query");
            object.text("error", &failure.to_string());
            object.end();
            (StatusCode::BAD_REQUEST, answer::respond(out)).into_response()
        }
    }
}

fn bounds(asked: &Asked) -> Result<request::Bounds, Failure> {
    request::bounds(&asked.params, asked.app.clock.now_ns())
}

fn parsed(asked: &Asked) -> Result<Expr, Failure> {
    let text = asked.params.get("query").unwrap_or("");
    Ok(logql::parse(text).map_err(QueryError::from)?)
}

fn engine(asked: &Asked) -> Engine {
    let mut limits = asked.limits();
    limits.series_max = asked.app.config.query_series_max as u64;
    Engine::with_clock(limits, Arc::clone(&asked.app.clock))
}

fn encoding(asked: &Asked) -> Encoding {
    let flags = asked.headers.get_all(ENCODING_HEADER).into_iter();
    let mut flags = flags
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','));
    if flags.any(|flag| flag.trim() == "categorize-labels") {
        Encoding::Categorized
    } else {
        Encoding::Merged
    }
}

fn since(asked: &Asked, started_ns: u64) -> Duration {
    Duration::from_nanos(asked.app.clock.monotonic_ns().saturating_sub(started_ns))
}

#[cfg(test)]
mod tests;
