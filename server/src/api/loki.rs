//! The API of Loki: LogQL over a tenant's logs, and their labels. `routes` mounts it.
//!
//! Errors are plain text, answers are JSON in the envelope that Grafana's own parser expects
//! (`answer`).

mod answer;
mod delete;
mod detected;
mod legacy;
mod limits;
mod pages;
mod patterns;
mod request;
mod several;
mod source;
mod tail;
mod volume;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use trine_query::logql::ast::Expr;
use trine_query::logql::source::{Measure, Source};
use trine_query::logql::{self, Engine, QueryError, QueryResult, QueryValue, RangeQuery};
use trine_storage::{Error, Labels, Matcher, TimeRange};

use self::answer::{Encoding, Failure};
use self::limits::QueryLimits;
use super::prometheus::json::{self, Object};
use super::prometheus::run::{self, Asked};
use crate::api::ops;
use crate::app::App;
use crate::routes::Routes;

/// The header by which a client asks for labels by category.
const ENCODING_HEADER: &str = "x-loki-response-encoding-flags";

/// The header by which a client says who it is.
const TAGS_HEADER: &str = "x-query-tags";

/// Adds the routes under `prefix`.
pub fn mount(mut routes: Routes, prefix: &str) -> Routes {
    for (name, work) in QUESTIONS {
        routes = routes.route(&format!("{prefix}/loki/api/v1/{name}"), asking(*work));
    }
    let path = |name: &str| format!("{prefix}/loki/api/v1/{name}");
    routes = routes
        .route(&path("label/{name}/values"), valued(label_values))
        .route(
            &path("detected_field/{name}/values"),
            valued(detected::values),
        )
        .route(
            &path("detected_fields/{name}/values"),
            valued(detected::values),
        )
        .route(&path("format_query"), get(format_query).post(format_query))
        .route(&path("status/buildinfo"), get(ops::loki_build))
        .route(&path("tail"), get(tail::tail))
        .route(
            &path("cache/generation_numbers"),
            get(pages::generation_number),
        )
        .route(
            &path("delete"),
            get(deletes).post(deletes).put(deletes).delete(deletes),
        );
    for rules in ["/loki/api/v1/rules", "/api/prom/rules"] {
        let path = |name: &str| format!("{prefix}{rules}{name}");
        routes = routes
            .route(&path(""), get(pages::rules))
            .route(&path("/{name}"), get(pages::rules_of_namespace))
            .route(&path("/{name}/{id}"), get(pages::rule_group));
    }
    if !prefix.is_empty() {
        // At the root they are those of the metrics.
        let path = |name: &str| format!("{prefix}/prometheus/api/v1/{name}");
        routes = routes
            .route(&path("rules"), get(pages::prometheus_rules))
            .route(&path("alerts"), get(pages::prometheus_alerts));
    }
    let path = |name: &str| format!("{prefix}{name}");
    routes
        .route(&path("/config/tenant/v1/limits"), get(limits_page))
        .route(&path("/services"), get(pages::services))
        .route(&path("/config"), get(pages::config_page))
        .route(&path("/api/prom/query"), asking(legacy::query))
        .route(&path("/api/prom/label"), asking(legacy_labels))
        .route(
            &path("/api/prom/label/{name}/values"),
            valued(legacy_values),
        )
        .route(&path("/api/prom/series"), asking(series))
        .route(&path("/api/prom/tail"), get(tail::tail))
}

/// Questions whose answer is JSON.
const QUESTIONS: &[(&str, Work)] = &[
    ("query", query),
    ("query_range", query_range),
    ("labels", labels),
    ("label", labels),
    ("series", series),
    ("index/stats", index_stats),
    ("index/shards", index_shards),
    ("index/volume", index_volume),
    ("index/volume_range", index_volume_range),
    ("patterns", patterns::patterns),
    ("detected_labels", detected::labels),
    ("detected_fields", detected::fields),
    ("drilldown-limits", |asked| {
        Ok(pages::drilldown_limits(asked))
    }),
];

/// What a request asks for, worked out on a thread that may block.
type Work = fn(&Asked) -> Result<String, Failure>;

fn asking(work: Work) -> MethodRouter<Arc<App>> {
    let handler = move |State(app), request| answer(app, request, work);
    get(handler).post(handler)
}

/// Questions about what the path names.
fn valued(work: fn(&Asked, &str) -> Result<String, Failure>) -> MethodRouter<Arc<App>> {
    let handler = async move |State(app), Path(name): Path<String>, request| {
        answer(app, request, move |asked| work(asked, &name)).await
    };
    get(handler).post(handler)
}

async fn answer(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<String, Failure> + Send + 'static,
) -> Response {
    match run::run_of_several(app, request, work).await {
        Ok(text) => answer::respond(text),
        Err(failure) => failure.into_response(),
    }
}

fn query(asked: &Asked) -> Result<String, Failure> {
    let started = asked.app.clock.monotonic_ns();
    let now_ns = asked.app.clock.now_ns();
    let time = request::time(&asked.params, "time")?.unwrap_or(now_ns);
    let mut query = RangeQuery {
        start_ns: time,
        end_ns: time,
        step_ns: 1,
        // These two mean nothing here, but must make sense.
        limit: request::limit(&asked.params)?,
        direction: request::direction(&asked.params)?,
        interval_ns: 0,
    };
    let expr = parsed(asked)?;
    let limits = QueryLimits::of(asked);
    // What is computed from nothing is there at all times.
    if limits::reads_lines(&expr) {
        limits.check_range(&mut query, now_ns)?;
    }
    limits.check(asked, &expr, (time, time))?;
    let mut result = engine(asked).instant(&*source::of(asked)?, &expr, time, &asked.cancel)?;
    cut_series(asked, &mut result);
    Ok(answer::query_result(
        result,
        encoding(asked),
        since(asked, started),
    ))
}

fn query_range(asked: &Asked) -> Result<String, Failure> {
    let started = asked.app.clock.monotonic_ns();
    let (expr, query) = ranged(asked)?;
    let mut result = engine(asked).range(&*source::of(asked)?, &expr, query, &asked.cancel)?;
    cut_series(asked, &mut result);
    Ok(answer::query_result(
        result,
        encoding(asked),
        since(asked, started),
    ))
}

/// An expression over a range, within the limits of the tenants.
fn ranged(asked: &Asked) -> Result<(Expr, RangeQuery), Failure> {
    let now_ns = asked.app.clock.now_ns();
    let mut query = request::range_query(&asked.params, now_ns)?;
    let expr = parsed(asked)?;
    let limits = QueryLimits::of(asked);
    if matches!(expr, Expr::Log(_)) {
        limits.check_entries(query.limit)?;
    }
    limits.check_range(&mut query, now_ns)?;
    limits.check(asked, &expr, (query.start_ns, query.end_ns))?;
    Ok((expr, query))
}

fn labels(asked: &Asked) -> Result<String, Failure> {
    Ok(answer::names(&names(asked)?))
}

fn names(asked: &Asked) -> Result<Vec<String>, Failure> {
    let range = bounds(asked)?.range();
    let matchers = request::selector(&asked.params)?;
    Ok(source::of(asked)?.label_names(&matchers, range)?)
}

fn label_values(asked: &Asked, name: &str) -> Result<String, Failure> {
    Ok(answer::names(&values(asked, name)?))
}

fn values(asked: &Asked, name: &str) -> Result<Vec<String>, Failure> {
    let range = bounds(asked)?.range();
    let matchers = request::selector(&asked.params)?;
    Ok(source::of(asked)?.label_values(name, &matchers, range)?)
}

fn legacy_labels(asked: &Asked) -> Result<String, Failure> {
    Ok(legacy::values(&names(asked)?))
}

fn legacy_values(asked: &Asked, name: &str) -> Result<String, Failure> {
    Ok(legacy::values(&values(asked, name)?))
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

fn index_stats(asked: &Asked) -> Result<String, Failure> {
    let mut out = String::new();
    figures(&mut out, totals(asked)?);
    Ok(out)
}

/// In how many parts a query had best be asked: one, whatever it reads.
fn index_shards(asked: &Asked) -> Result<String, Failure> {
    request::range_query(&asked.params, asked.app.clock.now_ns())?;
    let totals = totals(asked)?;
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(object.key("shards"), [totals], |out, totals| {
        let mut shard = Object::begin(out);
        let mut bounds = Object::begin(shard.key("bounds"));
        bounds.raw("min", 0);
        bounds.raw("max", u64::MAX);
        bounds.end();
        figures(shard.key("stats"), totals);
        shard.end();
    });
    answer::index_stats(object.key("statistics"));
    object.raw("chunkGroups", "[]");
    object.end();
    Ok(out)
}

/// Streams, chunks, bytes and entries of a selector.
fn totals(asked: &Asked) -> Result<[u64; 4], Failure> {
    let range = bounds(asked)?.range();
    let matchers = request::selector(&asked.params)?;
    let mut sum = [0u64; 4];
    for (view, matchers) in source::chosen(asked, &matchers)? {
        let found = view.totals(&matchers, range)?;
        // A chunk is there even if it has nothing of what is asked for.
        let chunks = if found.entries > 0 { found.chunks } else { 0 };
        let of_tenant = [found.streams, chunks, found.bytes, found.entries];
        for (sum, figure) in sum.iter_mut().zip(of_tenant) {
            *sum += figure;
        }
    }
    Ok(sum)
}

fn figures(out: &mut String, sum: [u64; 4]) {
    let mut object = Object::begin(out);
    for (name, sum) in ["streams", "chunks", "bytes", "entries"]
        .into_iter()
        .zip(sum)
    {
        object.raw(name, sum);
    }
    object.end();
}

fn index_volume(asked: &Asked) -> Result<String, Failure> {
    let bounds = bounds(asked)?;
    let limit = request::limit(&asked.params)?;
    let (matchers, grouping) = volume::asked_for(&asked.params)?;
    let source = source::of(asked)?;
    let volumes = volume::by_stream(&*source, &matchers, bounds, Measure::Bytes, &asked.cancel)?;
    let groups = volume::grouped(&volumes, &grouping, limit);
    Ok(answer::volumes(&groups, bounds.end_ns))
}

fn index_volume_range(asked: &Asked) -> Result<String, Failure> {
    let bounds = bounds(asked)?;
    let query = request::range_query(&asked.params, asked.app.clock.now_ns())?;
    let (matchers, grouping) = volume::asked_for(&asked.params)?;
    let source = source::of(asked)?;
    let steps = volume::over_time(&*source, &matchers, bounds, query.step_ns, &asked.cancel)?;
    let groups = volume::grouped_over_time(steps, &grouping, query.limit);
    Ok(answer::volumes_over_time(&groups))
}

/// Deletes are of one tenant.
async fn deletes(State(app): State<Arc<App>>, request: Request) -> Response {
    let method = request.method().clone();
    let answered = run::run(app, request, move |asked| match method {
        Method::POST | Method::PUT => delete::add(asked).map(|()| None),
        Method::DELETE => delete::cancel(asked).map(|()| None),
        _ => delete::list(asked).map(Some),
    });
    match answered.await {
        Ok(Some(list)) => answer::respond(list),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn limits_page(State(app): State<Arc<App>>, request: Request) -> Response {
    let page = run::run(app, request, |asked| Ok::<_, Failure>(pages::limits(asked)));
    match page.await {
        Ok(text) => pages::limits_page(text),
        Err(failure) => failure.into_response(),
    }
}

/// The only call whose errors are JSON.
async fn format_query(State(app): State<Arc<App>>, request: Request) -> Response {
    let formatted = run::run_of_several(app, request, |asked| {
        let text = parsed(asked)?.pretty();
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
    let own = QueryLimits::of(asked);
    let mut limits = asked.limits();
    if !takes_a_part(asked) {
        limits.series_max = own.series_max as u64;
    }
    limits.wall_time = own.timeout;
    Engine::with_clock(limits, Arc::clone(&asked.app.clock))
}

/// Whether the client would rather have some series than an error when there are too many.
fn takes_a_part(asked: &Asked) -> bool {
    let tags = asked.headers.get_all(TAGS_HEADER).into_iter();
    let mut tags = tags.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tags.any(|tag| tag.trim_ascii() == b"Source=grafana-lokiexplore-app")
}

/// Leaves as many series as the tenant may have, and says so.
fn cut_series(asked: &Asked, result: &mut QueryResult) {
    let max = QueryLimits::of(asked).series_max;
    let count = match &mut result.value {
        QueryValue::Matrix(series) => {
            let count = series.len();
            series.truncate(max);
            count
        }
        QueryValue::Vector(samples) => {
            let count = samples.len();
            samples.truncate(max);
            count
        }
        QueryValue::Streams(_) | QueryValue::Scalar(_) => 0,
    };
    if count > max {
        let text = "reached for a single query; returning partial results";
        let warning = format!("maximum number of series ({max}) {text}");
        result.warnings.push(warning);
    }
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
