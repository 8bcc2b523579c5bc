//! The API of Tempo: traces by id, TraceQL searches, and names for autocompletion. `routes` mounts
//! it at the root and under `/tempo`.
//!
//! Refusals are plain text. Answers are JSON as Go's jsonpb writes it (`json`), traces by id also
//! protobuf.

pub(super) mod json;
pub(super) mod otlp;
mod request;
mod source;
mod tags;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use percent_encoding::percent_decode_str;
use prost::Message as _;

use super::ops;
use super::prometheus::run::{self, Asked};
use crate::app::App;
use crate::proto::tempo::{Trace, TraceByIdResponse};
use crate::refusal::{Reason, Refusal};
use crate::routes::Routes;

const PROTOBUF: &str = "application/protobuf";

/// Adds the routes under `prefix`.
pub fn mount(routes: Routes, prefix: &str) -> Routes {
    let at = |path: &str| format!("{prefix}/api/{path}");
    routes
        .route(&at("echo"), get(ops::echo))
        .route(&at("status/buildinfo"), get(ops::tempo_build))
        .route(&at("traces/{id}"), get(trace))
        .route(&at("v2/traces/{id}"), get(trace_v2))
        .route(&at("search"), get(search))
        .route(&at("search/tags"), get(tag_names))
        .route(&at("v2/search/tags"), get(tag_names_v2))
        .route(&at("search/tag/{*name}"), get(tag_values))
        .route(&at("v2/search/tag/{*name}"), get(tag_values_v2))
        .route(&at("metrics/query"), get(no_metrics))
        .route(&at("metrics/query_range"), get(no_metrics))
}

async fn answer(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<Response, Refusal> + Send + 'static,
) -> Response {
    run::run(app, request, work)
        .await
        .unwrap_or_else(|refusal| refused(&refusal))
}

/// A refusal as Tempo's clients read it.
fn refused(refusal: &Refusal) -> Response {
    let status = match refusal.reason {
        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => refusal.status(),
    };
    let kind = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    let mut response = (status, [kind], Body::from(refusal.text.clone())).into_response();
    if let Some(seconds) = refusal.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn respond(kind: &'static str, body: impl Into<Body>) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind))],
        body.into(),
    )
        .into_response()
}

fn respond_json(text: String) -> Response {
    respond("application/json", text)
}

/// Whether the client wants protobuf rather than JSON.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT);
    accept
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains(PROTOBUF)))
}

/// `start` and `end` of a trace by id are a hint where to look; it is found without.
async fn trace(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response {
    answer(app, request, move |asked| {
        let resource_spans = source::trace(asked, request::trace_id(&id)?)?;
        if resource_spans.is_empty() {
            return Err(Refusal::new(Reason::NotFound, "trace not found"));
        }
        Ok(if wants_protobuf(&asked.headers) {
            respond(PROTOBUF, Trace { resource_spans }.encode_to_vec())
        } else {
            respond_json(json::batches(&resource_spans))
        })
    })
    .await
}

/// A trace that is not known is an empty one here: 404 would make Grafana ask once more, and a
/// missing `trace` would stop it.
async fn trace_v2(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let resource_spans = source::trace(asked, request::trace_id(&id)?)?;
        Ok(if wants_protobuf(&asked.headers) {
            let trace = Some(Trace { resource_spans });
            respond(PROTOBUF, TraceByIdResponse { trace }.encode_to_vec())
        } else {
            respond_json(json::trace(&resource_spans))
        })
    })
    .await
}

async fn search(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let found = source::search(asked, &request::search(&asked.params)?)?;
        Ok(respond_json(json::search(&found)))
    })
    .await
}

async fn tag_names(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let (scope, limit) = (
            tags::scope(&asked.params)?,
            request::list_limit(&asked.params)?,
        );
        let found = source::attribute_names(asked, request::range(&asked.params)?)?;
        Ok(respond_json(tags::names(&found, scope, limit)))
    })
    .await
}

async fn tag_names_v2(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let (scope, limit) = (
            tags::scope(&asked.params)?,
            request::list_limit(&asked.params)?,
        );
        let found = source::attribute_names(asked, request::range(&asked.params)?)?;
        Ok(respond_json(tags::scopes(&found, scope, limit)))
    })
    .await
}

async fn tag_values(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let limit = request::list_limit(&asked.params)?;
        Ok(respond_json(tags::plain_values(
            &values(asked, &path, limit)?,
            limit,
        )))
    })
    .await
}

async fn tag_values_v2(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let limit = request::list_limit(&asked.params)?;
        Ok(respond_json(tags::typed_values(
            &values(asked, &path, limit)?,
            limit,
        )))
    })
    .await
}

/// The values of what `path` (`{name}/values`) names. Names hold dots and slashes, and Grafana
/// encodes them twice.
fn values(asked: &Asked, path: &str, limit: Option<usize>) -> Result<Vec<tags::TagValue>, Refusal> {
    let Some(name) = path.strip_suffix("/values").filter(|name| !name.is_empty()) else {
        return Err(Refusal::new(Reason::NotFound, "404 page not found"));
    };
    let name = percent_decode_str(name).decode_utf8_lossy();
    let range = request::range(&asked.params)?;
    match tags::built_in_values(&name) {
        Some(values) => Ok(values),
        None => source::attribute_values(asked, &name, range, limit),
    }
}

async fn no_metrics() -> Response {
    refused(&Refusal::bad(
        "TraceQL metrics queries are not supported yet",
    ))
}

#[cfg(test)]
mod tests;
