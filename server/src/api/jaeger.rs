//! The query API of Jaeger, as its UI and Grafana's data source for it ask: services, operations,
//! searches, traces by id and who calls whom. `routes` mounts it at the root and under `/jaeger`.
//!
//! Answers of the older API have one envelope (`data` and `errors`); the newer one is in `v3` and,
//! over gRPC, in [`grpc`]. `/api/traces/{id}` at the root is Tempo's, too: see [`address`].

pub mod grpc;
mod pretty;
mod request;
mod search;
mod shared;
mod source;
mod ui;
mod v3;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, TracesData};
use percent_encoding::percent_decode_str;

use super::prometheus::json::{self, Object};
use super::prometheus::run::{self, Asked};
use crate::app::App;
use crate::body::Encoding;
use crate::ingest::http::read_body;
use crate::params::Params;
use crate::refusal::{Reason, Refusal};
use crate::routes::Routes;

use request::Traces;
use source::{SPANS_MAX, Spans};

/// The port of Jaeger's UI and query API.
pub const PORT: u16 = 16686;

/// The prefix under which nothing else is.
const PREFIX: &str = "/jaeger";

/// What Jaeger says where it has no store of metrics.
const NO_METRICS: &str = "metrics querying is currently disabled";

/// Adds the routes under `prefix`.
pub fn mount(mut routes: Routes, prefix: &str) -> Routes {
    let at = |path: &str| format!("{prefix}/api/{path}");
    // At the root it is Tempo's.
    if !prefix.is_empty() {
        routes = routes.route(&at("traces/{id}"), get(trace));
    }
    for name in ["latencies", "calls", "errors", "minstep"] {
        routes = routes.route(&at(&format!("metrics/{name}")), get(no_metrics));
    }
    routes = routes
        .route(&at("services"), get(services))
        .route(&at("services/{name}/operations"), get(operation_names))
        .route(&at("operations"), get(operations))
        .route(&at("traces"), get(traces))
        .route(&at("dependencies"), get(dependencies))
        .route(&at("transform"), post(transform));
    v3::mount(routes, &format!("{prefix}/api/v3"))
}

/// Where a request is answered that came in on `port`. A trace by id has the same path in the APIs of
/// Jaeger and Tempo: on Jaeger's port it is Jaeger's, on all others Tempo's.
pub fn address(uri: &Uri, port: u16) -> Option<Uri> {
    let is_trace = port == PORT && uri.path().starts_with("/api/traces/");
    let path = uri.path_and_query().filter(|_| is_trace)?;
    let moved = format!("{PREFIX}{path}").parse().ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(moved);
    Uri::from_parts(parts).ok()
}

/// An answer in its envelope.
struct Answer {
    /// What `data` is, written.
    data: String,
    total: usize,
    errors: Vec<Told>,
}

/// An error, of a trace or of the whole answer.
struct Told {
    code: Option<u16>,
    text: String,
    trace: Option<String>,
}

impl Answer {
    fn new(data: String, total: usize) -> Self {
        Self {
            data,
            total,
            errors: Vec::new(),
        }
    }

    fn of_traces(traces: &[Spans]) -> Self {
        let mut data = String::new();
        json::array(&mut data, traces, |out, trace| ui::trace(out, trace));
        Self::new(data, 0)
    }

    fn write(&self) -> String {
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        object.raw("data", &self.data);
        object.raw("total", self.total);
        object.raw("limit", 0);
        object.raw("offset", 0);
        let errors = object.key("errors");
        if self.errors.is_empty() {
            errors.push_str("null");
        } else {
            json::array(errors, &self.errors, |out, error| {
                let mut object = Object::begin(out);
                if let Some(code) = error.code {
                    object.raw("code", code);
                }
                object.text("msg", &error.text);
                if let Some(id) = &error.trace {
                    object.text("traceID", id);
                }
                object.end();
            });
        }
        object.end();
        out
    }
}

async fn answer(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<Answer, Refusal> + Send + 'static,
) -> Response {
    let written = run::run(app, request, |asked| {
        work(asked).map(|answer| laid_out(&asked.params, answer.write()))
    });
    match written.await {
        Ok(text) => respond(StatusCode::OK, text),
        Err(refusal) => refused(&refusal),
    }
}

/// The text, with a line for each value where `prettyPrint` asks for it.
fn laid_out(params: &Params, text: String) -> String {
    match params.get("prettyPrint") {
        None | Some("false") => text,
        Some(_) => pretty::indented(&text),
    }
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal.reason {
        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => refusal.status(),
    }
}

/// A refusal in the envelope.
fn refused(refusal: &Refusal) -> Response {
    let status = status_of(refusal);
    let mut answer = Answer::new("null".to_owned(), 0);
    answer.errors.push(Told {
        code: Some(status.as_u16()),
        text: refusal.text.clone(),
        trace: None,
    });
    failed(refusal, answer.write())
}

fn failed(refusal: &Refusal, mut text: String) -> Response {
    text.push('\n');
    let mut response = respond(status_of(refusal), text);
    if let Some(seconds) = refusal.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn respond(status: StatusCode, text: String) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

fn trace_not_found() -> Refusal {
    Refusal::new(Reason::NotFound, "trace not found")
}

async fn services(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| Ok(names(&source::services(asked)?))).await
}

fn names(names: &[String]) -> Answer {
    let mut data = String::new();
    json::strings(&mut data, names);
    Answer::new(data, names.len())
}

async fn operation_names(
    State(app): State<Arc<App>>,
    Path(service): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        // Jaeger's UI encodes names twice.
        let service = percent_decode_str(&service).decode_utf8_lossy();
        let found = source::operations(asked, &service, None)?;
        let mut all: Vec<String> = found.into_iter().map(|operation| operation.name).collect();
        all.dedup();
        Ok(names(&all))
    })
    .await
}

async fn operations(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let service = asked.params.get("service");
        let service = service.ok_or_else(request::service_required)?;
        let found = source::operations(asked, service, asked.params.get("spanKind"))?;
        let mut data = String::new();
        json::array(&mut data, &found, |out, operation| {
            let mut object = Object::begin(out);
            object.text("name", &operation.name);
            object.text("spanKind", operation.kind);
            object.end();
        });
        Ok(Answer::new(data, found.len()))
    })
    .await
}

/// Makes traces ready to be shown, unless they are wanted as they are stored.
fn adjust(traces: &mut [Spans], raw: bool) {
    if !raw {
        traces
            .iter_mut()
            .for_each(|trace| shared::tell_apart(trace));
    }
}

async fn traces(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let now_ns = asked.app.clock.now_ns();
        let raw = request::raw(&asked.params);
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        match request::traces(&asked.params, now_ns)? {
            Traces::Search(search) => {
                let all = source::find(asked, &search, SPANS_MAX)?;
                found = all.traces;
                errors.extend(all.is_cut.then(|| Told {
                    code: None,
                    text: too_large(found.len()),
                    trace: None,
                }));
            }
            Traces::Ids(ids) => {
                for id in ids {
                    match source::trace(asked, id)? {
                        Some(trace) => found.push(trace),
                        None => errors.push(Told {
                            code: None,
                            text: trace_not_found().text,
                            trace: Some(ui::trace_id(&id)),
                        }),
                    }
                }
            }
        }
        adjust(&mut found, raw?);
        let mut answer = Answer::of_traces(&found);
        answer.errors = errors;
        Ok(answer)
    })
    .await
}

/// What is said beside traces that are not all.
fn too_large(count: usize) -> String {
    let max = SPANS_MAX;
    format!(
        "the answer would have more than {max} spans: only the newest {count} traces are here; \
         ask for a shorter time"
    )
}

async fn trace(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response {
    answer(app, request, move |asked| {
        let id = request::trace_id(&id).map_err(Refusal::bad)?;
        request::of_one(&asked.params)?;
        let found = source::trace(asked, id)?.ok_or_else(trace_not_found)?;
        let mut found = [found];
        adjust(&mut found, request::raw(&asked.params)?);
        Ok(Answer::of_traces(&found))
    })
    .await
}

async fn dependencies(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let range = request::dependencies(&asked.params, asked.app.clock.now_ns())?;
        let mut found = source::dependencies(asked, range)?;
        if let Some(service) = asked.params.get("service") {
            found.retain(|calls| calls.parent == service || calls.child == service);
        }
        let mut data = String::new();
        json::array(&mut data, &found, |out, calls| {
            let mut object = Object::begin(out);
            object.text("parent", &calls.parent);
            object.text("child", &calls.child);
            object.raw("callCount", calls.calls);
            object.end();
        });
        Ok(Answer::new(data, 0))
    })
    .await
}

async fn no_metrics() -> Response {
    let status = StatusCode::NOT_IMPLEMENTED;
    let mut answer = Answer::new("null".to_owned(), 0);
    answer.errors.push(Told {
        code: Some(status.as_u16()),
        text: NO_METRICS.to_owned(),
        trace: None,
    });
    let mut text = answer.write();
    text.push('\n');
    respond(status, text)
}

/// Spans in the JSON of OTLP, as the UI shows them.
async fn transform(State(app): State<Arc<App>>, request: Request) -> Response {
    match transformed(&app, request).await {
        Ok(text) => respond(StatusCode::OK, text),
        Err(refusal) => refused(&refusal),
    }
}

async fn transformed(app: &Arc<App>, request: Request) -> Result<String, Refusal> {
    let encoding = Encoding::of(request.headers())?.unwrap_or(Encoding::Identity);
    let params = Params::from_query(request.uri().query().unwrap_or(""));
    let mut payload = read_body(app, request).await?;
    let max = app.config.decoded_bytes_max;
    app.queries
        .run(move || {
            let bytes = encoding.decode(payload.bytes, max, &mut payload.share)?;
            let read: TracesData = serde_json::from_slice(&bytes)
                .map_err(|error| Refusal::bad(format!("cannot unmarshal OTLP : {error}")))?;
            let traces = by_trace(read.resource_spans);
            Ok(laid_out(&params, Answer::of_traces(&traces).write()))
        })
        .await
}

/// The traces that spans belong to, in the order of their first spans.
fn by_trace(resource_spans: Vec<ResourceSpans>) -> Vec<Spans> {
    let mut traces: Vec<Spans> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for of_resource in resource_spans {
        for of_scope in of_resource.scope_spans {
            let mut places_here = std::collections::HashMap::new();
            for span in of_scope.spans {
                let next = traces.len();
                let at = *places.entry(span.trace_id.clone()).or_insert(next);
                if at == next {
                    traces.push(Vec::new());
                }
                let Some(trace) = traces.get_mut(at) else {
                    continue;
                };
                let here = *places_here.entry(at).or_insert(trace.len());
                if here == trace.len() {
                    trace.push(ResourceSpans {
                        resource: of_resource.resource.clone(),
                        scope_spans: vec![ScopeSpans {
                            scope: of_scope.scope.clone(),
                            ..ScopeSpans::default()
                        }],
                        ..ResourceSpans::default()
                    });
                }
                let group = trace.get_mut(here);
                if let Some(scope) = group.and_then(|group| group.scope_spans.first_mut()) {
                    scope.spans.push(span);
                }
            }
        }
    }
    traces
}

#[cfg(test)]
mod tests;
