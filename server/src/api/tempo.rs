//! The API of Tempo: traces by id, TraceQL searches and metrics, and names for autocompletion.
//! `routes` mounts it at the root and under `/tempo`, and its gRPC service (`streaming`).
//!
//! Refusals are plain text. Answers are JSON as Go's jsonpb writes it (`json`), or protobuf for
//! clients that accept it.

pub(super) mod json;
mod metrics;
mod metrics_request;
pub(super) mod otlp;
mod overrides;
mod request;
mod search;
mod source;
pub mod streaming;
mod tag_query;
mod tags;
mod trace;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use percent_encoding::percent_decode_str;
use prost::Message;
use trine_storage::TimeRange;

use super::ops;
use super::prometheus::run::{self, Asked};
use crate::app::App;
use crate::params::Params;
use crate::proto::tempo::{MetadataMetrics, SearchTagValuesResponse, SearchTagValuesV2Response};
use crate::refusal::{Reason, Refusal};
use crate::routes::Routes;
use tags::{TagScope, Wanted};

const PROTOBUF: &str = "application/protobuf";

/// Adds the routes under `prefix`.
pub fn mount(routes: Routes, prefix: &str) -> Routes {
    let at = |path: &str| format!("{prefix}/api/{path}");
    routes
        .route(&at("echo"), get(ops::echo))
        .route(&at("status/buildinfo"), get(ops::tempo_build))
        .route(&at("overrides"), get(overrides::page))
        .route(&at("traces/{id}"), get(trace::first_version))
        .route(&at("v2/traces/{id}"), get(trace::second_version))
        .route(&at("search"), get(find))
        .route(&at("search/tags"), get(tag_names))
        .route(&at("v2/search/tags"), get(tag_names_v2))
        .route(&at("search/tag/{*name}"), get(tag_values))
        .route(&at("v2/search/tag/{*name}"), get(tag_values_v2))
        .route(&at("metrics/query"), get(metrics_instant))
        .route(&at("metrics/query_range"), get(metrics_range))
}

async fn answer(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<Response, Refusal> + Send + 'static,
) -> Response {
    run::run_of_several(app, request, work)
        .await
        .unwrap_or_else(|refusal| refused(&refusal))
}

/// A refusal as Tempo's clients read it.
pub(super) fn refused(refusal: &Refusal) -> Response {
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

pub(super) fn respond_json(text: String) -> Response {
    respond("application/json", text)
}

/// A message in the form that the client wants.
fn respond_message<M: Message>(asked: &Asked, message: &M, json: fn(&M) -> String) -> Response {
    if wants_protobuf(&asked.headers) {
        respond(PROTOBUF, message.encode_to_vec())
    } else {
        respond_json(json(message))
    }
}

/// Whether the client wants protobuf rather than JSON.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT);
    accept
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains(PROTOBUF)))
}

async fn find(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let limits = source::limits(asked);
        let found = search::whole(asked, &request::search(&asked.params, &limits)?, &limits)?;
        let mut response = respond_message(asked, &found.response, json::search);
        if let Some(notice) = found.notice {
            // The message has no place for it, and clients refuse what they do not know.
            let warning = format!("299 trine {}", trine_query::text::quote(&notice));
            if let Ok(warning) = HeaderValue::from_str(&warning) {
                response.headers_mut().insert(header::WARNING, warning);
            }
        }
        Ok(response)
    })
    .await
}

/// What a list of names or values is for.
fn wanted(params: &Params) -> Result<Wanted, Refusal> {
    Ok(Wanted {
        range: request::range(params)?,
        limit: request::list_limit(params)?,
        query: params.get("q").unwrap_or("").to_owned(),
    })
}

async fn tag_names(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let scope = TagScope::parse(asked.params.get("scope").unwrap_or(""))?;
        let found = tags::plain(asked, scope, &wanted(&asked.params)?)?;
        Ok(respond_message(asked, &found, json::tags))
    })
    .await
}

async fn tag_names_v2(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let scope = TagScope::parse(asked.params.get("scope").unwrap_or(""))?;
        let found = tags::by_scope(asked, scope, &wanted(&asked.params)?)?;
        Ok(respond_message(asked, &found, json::scopes))
    })
    .await
}

async fn tag_values(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let name = tag_name(&path)?;
        let found = tags::plain_values(asked, &name, &wanted(&asked.params)?)?;
        if !wants_protobuf(&asked.headers) {
            return Ok(respond_json(json::values(&found)));
        }
        let message = SearchTagValuesResponse {
            tag_values: tags::tag_texts(found).collect(),
            metrics: Some(MetadataMetrics::default()),
        };
        Ok(respond(PROTOBUF, message.encode_to_vec()))
    })
    .await
}

async fn tag_values_v2(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let name = tag_name(&path)?;
        let found = tags::typed_values(asked, &name, &wanted(&asked.params)?)?;
        if !wants_protobuf(&asked.headers) {
            return Ok(respond_json(json::typed_values(&found)));
        }
        let message = SearchTagValuesV2Response {
            tag_values: tags::tag_values(found).collect(),
            metrics: Some(MetadataMetrics::default()),
        };
        Ok(respond(PROTOBUF, message.encode_to_vec()))
    })
    .await
}

/// The name in `{name}/values`. Names hold dots and slashes, and Grafana encodes them twice.
fn tag_name(path: &str) -> Result<String, Refusal> {
    let Some(name) = path.strip_suffix("/values").filter(|name| !name.is_empty()) else {
        return Err(Refusal::new(Reason::NotFound, "404 page not found"));
    };
    Ok(percent_decode_str(name).decode_utf8_lossy().into_owned())
}

async fn metrics_range(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let limits = source::limits(asked);
        let wanted = metrics_request::metrics(&asked.params, &limits, asked.app.clock.now_ns())?;
        let found = metrics::range(asked, &wanted, &limits)?;
        Ok(respond_message(asked, &found, json::range))
    })
    .await
}

async fn metrics_instant(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let limits = source::limits(asked);
        let wanted = metrics_request::instant(&asked.params, &limits, asked.app.clock.now_ns())?;
        let found = metrics::instant(asked, &wanted, &limits)?;
        Ok(respond_message(asked, &found, json::instant))
    })
    .await
}

/// A trace id as it stands in a path.
///
/// # Errors
/// What it has that an id has not.
pub(super) fn trace_id(text: &str) -> Result<[u8; 16], Refusal> {
    request::trace_id(text)
}

/// The parameters `start` and `end`, seconds; without them all of time.
///
/// # Errors
/// What is wrong with them.
pub(super) fn range(params: &Params) -> Result<TimeRange, Refusal> {
    request::range(params)
}

/// Writes a trace as `v2/traces` has it in its envelope.
pub(super) fn put_trace(out: &mut String, trace: trine_tracestore::Trace) {
    json::put_trace(out, &otlp::resource_spans(trace));
}

#[cfg(test)]
mod tests;
