//! The API of Prometheus and Mimir: PromQL over the metrics of a tenant or of several, and what
//! there is to know about them. `routes` mounts it.
//!
//! Parameters are those of the URL and of the form together; unknown ones are ignored. Targets and
//! rules do not exist here, so their lists are empty: Grafana asks for them whenever it opens a data
//! source.

mod admin;
mod answer;
mod cardinality;
pub(super) mod exemplars;
mod federate;
pub(super) mod federation;
pub(super) mod json;
mod metadata;
mod names;
mod number;
mod pieces;
mod query;
mod read;
mod request;
mod result;
pub(super) mod run;
mod source;
mod status;
mod syntax_tree;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use self::answer::Failure;
use self::pieces::Reply;
use self::run::Asked;
use crate::api::ops;
use crate::app::App;
use crate::routes::Routes;

/// Adds the routes under `prefix`.
pub fn mount(mut routes: Routes, prefix: &str) -> Routes {
    for (name, work) in QUERIES {
        routes = routes.route(&format!("{prefix}/api/v1/{name}"), asking(*work));
    }
    for (name, work) in FACTS {
        routes = routes.route(&format!("{prefix}/api/v1/{name}"), telling(*work));
    }
    for (name, work) in ADMIN {
        routes = routes.route(&format!("{prefix}/api/v1/{name}"), administering(*work));
    }
    let path = |name: &str| format!("{prefix}/{name}");
    routes
        .route(&path("api/v1/label/{name}/values"), get(label_values))
        .route(
            &path("api/v1/status/buildinfo"),
            get(ops::prometheus_build).post(ops::prometheus_build),
        )
        .route(&path("api/v1/read"), post(read::read))
        .route(&path("federate"), get(federate::federate))
}

/// What a request asks for, worked out on a thread that may block.
type Work = fn(&Asked) -> Result<Reply, Failure>;

/// What is asked with `GET`, or with `POST` where the question may be long.
const QUERIES: &[(&str, Work)] = &[
    ("query", query::instant),
    ("query_range", query::range),
    ("query_exemplars", exemplars::exemplars),
    ("format_query", query::format),
    ("parse_query", query::parse),
    ("labels", names::labels),
    ("series", names::series),
    ("metadata", metadata::metadata),
    ("rules", |_| nothing(r#"{"groups":[]}"#)),
    ("alerts", |_| nothing(r#"{"alerts":[]}"#)),
    ("cardinality/label_names", cardinality::label_names),
    ("cardinality/label_values", cardinality::label_values),
    ("cardinality/active_series", cardinality::active_series),
    (
        "cardinality/active_native_histogram_metrics",
        cardinality::active_native_histogram_metrics,
    ),
];

/// What is asked with `GET` only.
const FACTS: &[(&str, Work)] = &[
    ("targets", |_| {
        nothing(r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#)
    }),
    ("targets/metadata", metadata::of_targets),
    ("scrape_pools", |_| nothing(r#"{"scrapePools":[]}"#)),
    ("alertmanagers", |_| {
        nothing(r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#)
    }),
    ("notifications", |_| nothing("[]")),
    ("features", status::features),
    ("status/config", status::config),
    ("status/flags", status::flags),
    ("status/runtimeinfo", status::runtime),
    ("status/tsdb", status::tsdb),
    ("status/tsdb/blocks", status::blocks),
    ("status/walreplay", |_| {
        nothing(r#"{"min":0,"max":0,"current":0}"#)
    }),
    ("user_stats", status::user_stats),
    ("user_limits", status::user_limits),
];

/// What changes or copies the store.
const ADMIN: &[(&str, Work)] = &[
    ("admin/tsdb/delete_series", admin::delete_series),
    ("admin/tsdb/clean_tombstones", admin::clean_tombstones),
    ("admin/tsdb/snapshot", admin::snapshot),
];

fn asking(work: Work) -> MethodRouter<Arc<App>> {
    let handler = move |State(app), request| answer(app, request, work);
    get(handler).post(handler)
}

fn telling(work: Work) -> MethodRouter<Arc<App>> {
    get(move |State(app), request| answer(app, request, work))
}

fn administering(work: Work) -> MethodRouter<Arc<App>> {
    let handler = move |State(app), request| administer(app, request, work);
    post(handler).put(handler)
}

async fn answer(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<Reply, Failure> + Send + 'static,
) -> Response {
    match run::run_of_several(app, request, work).await {
        Ok(reply) => reply.into_response(),
        Err(failure) => failure.into_response(),
    }
}

/// Does something to the store of one tenant, if that is allowed at all. An answer without text is
/// one without content.
async fn administer(app: Arc<App>, request: Request, work: Work) -> Response {
    if !app.config.enable_admin_api {
        return admin::disabled().into_response();
    }
    match run::run(app, request, work).await {
        Ok(Reply::Whole(text)) if text.is_empty() => StatusCode::NO_CONTENT.into_response(),
        Ok(reply) => reply.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn label_values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let name = request::label_name(&name);
    answer(app, request, move |asked| names::label_values(asked, &name)).await
}

/// An answer without content; `data` is its JSON.
fn nothing(data: &str) -> Result<Reply, Failure> {
    let text = answer::success(&[], &[], |out| out.push_str(data));
    Ok(text.into())
}

#[cfg(test)]
mod tests;
