//! The API of Prometheus: PromQL over a tenant's metrics, and their names. `routes` mounts it.
//!
//! Parameters are those of the URL and of the form together; unknown ones are ignored. Rules,
//! exemplars and metadata do not exist here yet and are answered as empty, because Grafana asks for
//! them whenever it opens a data source.

mod answer;
pub(super) mod json;
mod request;
pub(super) mod run;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use trine_query::promql::{self, Engine, Options, Query, Source};
use trine_storage::{Labels, Matcher};

use self::answer::Failure;
use self::request::invalid;
use self::run::Asked;
use crate::api::ops;
use crate::app::App;

/// Adds the routes under `prefix`.
pub fn mount(routes: Router<Arc<App>>, prefix: &str) -> Router<Arc<App>> {
    let path = |name: &str| format!("{prefix}/api/v1/{name}");
    routes
        .route(&path("query"), asking(query))
        .route(&path("query_range"), asking(query_range))
        .route(&path("query_exemplars"), asking(query_exemplars))
        .route(&path("format_query"), asking(format_query))
        .route(&path("labels"), asking(labels))
        .route(&path("label/{name}/values"), get(label_values))
        .route(&path("series"), asking(series))
        .route(&path("metadata"), asking(|_| Ok(nothing("{}"))))
        .route(&path("rules"), asking(|_| Ok(nothing(r#"{"groups":[]}"#))))
        .route(&path("alerts"), asking(|_| Ok(nothing(r#"{"alerts":[]}"#))))
        .route(
            &path("status/buildinfo"),
            get(ops::prometheus_build).post(ops::prometheus_build),
        )
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
    let limit = request::limit(&asked.params)?;
    let time = request::optional_time(&asked.params, "time")?;
    let time = time.unwrap_or_else(|| asked.app.clock.now_ms());
    let options = options(asked)?;
    let query = parsed(asked)?;
    let result = engine(asked).instant(&*source::of(asked)?, &query, time, &options)?;
    Ok(answer::query_result(result, limit))
}

fn query_range(asked: &Asked) -> Result<String, Failure> {
    let limit = request::limit(&asked.params)?;
    let range = request::range(&asked.params)?;
    let options = options(asked)?;
    let query = parsed(asked)?;
    let steps = (range.start_ms, range.end_ms, range.step_ms);
    let result = engine(asked).range(&*source::of(asked)?, &query, steps, &options)?;
    Ok(answer::query_result(result, limit))
}

/// Exemplars are refused on the way in, so there are none; but the question must make sense.
fn query_exemplars(asked: &Asked) -> Result<String, Failure> {
    request::window(&asked.params)?;
    parsed(asked)?;
    Ok(nothing("[]"))
}

fn format_query(asked: &Asked) -> Result<String, Failure> {
    let text = parsed(asked)?.to_string();
    Ok(answer::success(&[], &[], |out| json::string(out, &text)))
}

fn labels(asked: &Asked) -> Result<String, Failure> {
    let limit = request::limit(&asked.params)?;
    let range = request::window(&asked.params)?;
    let names = union(asked, |source, matchers| {
        source.label_names(matchers, range, one_more(limit))
    })?;
    Ok(answer::names(names, limit))
}

async fn label_values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let name = request::label_name(&name);
    answer(app, request, move |asked| {
        let limit = request::limit(&asked.params)?;
        let range = request::window(&asked.params)?;
        let values = union(asked, |source, matchers| {
            source.label_values(&name, matchers, range, one_more(limit))
        })?;
        Ok(answer::names(values, limit))
    })
    .await
}

fn series(asked: &Asked) -> Result<String, Failure> {
    let limit = request::limit(&asked.params)?;
    let range = request::window(&asked.params)?;
    if asked.params.all("match[]").next().is_none() {
        return Err(Failure::bad("no match[] parameter provided"));
    }
    let mut series: Vec<Labels> = union(asked, |source, matchers| {
        source.series(matchers, range, one_more(limit))
    })?;
    let warnings = answer::truncate(&mut series, limit);
    Ok(answer::success(&warnings, &[], |out| {
        json::array(out, &series, json::labels);
    }))
}

/// What `ask` finds for any of the selectors of the request, sorted; for everything without one.
fn union<T: Ord>(
    asked: &Asked,
    ask: impl Fn(&dyn Source, &[Matcher]) -> Result<Vec<T>, trine_storage::Error>,
) -> Result<Vec<T>, Failure> {
    let selectors = request::selectors(&asked.params)?;
    let source = source::of(asked)?;
    if selectors.is_empty() {
        return Ok(ask(&*source, &[])?);
    }
    let mut found = BTreeSet::new();
    for matchers in &selectors {
        found.extend(ask(&*source, matchers)?);
    }
    Ok(found.into_iter().collect())
}

/// One more than the client wants tells whether something was left out.
fn one_more(limit: Option<usize>) -> Option<usize> {
    limit.map(|limit| limit.saturating_add(1))
}

fn engine(asked: &Asked) -> Engine {
    Engine::with_clock(asked.limits(), Arc::clone(&asked.app.clock))
}

fn options(asked: &Asked) -> Result<Options, Failure> {
    let defaults = Options::default();
    let lookback = request::optional_duration(&asked.params, "lookback_delta")?;
    Ok(Options {
        lookback_ms: lookback
            .filter(|ms| *ms > 0)
            .unwrap_or(defaults.lookback_ms),
        timeout: request::timeout(&asked.params)?,
        cancel: asked.cancel.clone(),
        ..defaults
    })
}

fn parsed(asked: &Asked) -> Result<Query, Failure> {
    let text = asked.params.get("query").unwrap_or("");
    promql::parse(text).map_err(|error| invalid("query", &error.to_string()))
}

/// An answer without content; `data` is its JSON.
fn nothing(data: &str) -> String {
    answer::success(&[], &[], |out| out.push_str(data))
}

#[cfg(test)]
mod tests;
