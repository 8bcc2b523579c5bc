//! The newer query API of Jaeger, with spans in the JSON of OTLP. `jaeger` mounts it.
//!
//! Parameters have the names of protobuf's JSON (`query.serviceName`) or, as older clients write them,
//! of protobuf (`query.service_name`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Outcome;
use trine_query::text::quote;
use trine_storage::TimeRange;

use super::request::{go_bool, go_duration, text_map, trace_id};
use super::search::Search;
use super::source::{self, Operation, SPANS_MAX, Spans};
use super::{adjust, failed, laid_out, respond, status_of, ui};
use crate::api::prometheus::json::{self, Object};
use crate::api::prometheus::run::{self, Asked};
use crate::api::tempo::json::Form;
use crate::app::App;
use crate::ingest::otlp_value::hex;
use crate::params::Params;
use crate::refusal::{Reason, Refusal};
use crate::routes::Routes;

/// Traces that a search gives that does not say how many.
pub(super) const SEARCH_DEPTH_DEFAULT: usize = 100;

/// The form of times, as Go names it in errors.
const RFC3339: &str = "2006-01-02T15:04:05.999999999Z07:00";

/// Adds the routes under `prefix`.
pub(super) fn mount(routes: Routes, prefix: &str) -> Routes {
    let at = |path: &str| format!("{prefix}/{path}");
    routes
        .route(&at("services"), get(services))
        .route(&at("operations"), get(operations))
        .route(&at("traces"), get(traces))
        .route(&at("traces/{id}"), get(trace))
        .route(&at("trace-summaries"), get(summaries))
        .route(&at("dependencies"), get(dependencies))
}

async fn answer(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<String, Refusal> + Send + 'static,
) -> Response {
    let written = run::run(app, request, |asked| {
        work(asked).map(|text| laid_out(&asked.params, text))
    });
    match written.await {
        Ok(text) => respond(StatusCode::OK, text),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    let mut error = Object::begin(object.key("error"));
    error.raw("httpCode", status_of(refusal).as_u16());
    error.text("message", &refusal.text);
    error.end();
    object.end();
    failed(refusal, out)
}

/// What there is of a parameter, and under which of its names.
fn parameter<'a>(
    params: &'a Params,
    name: &'static str,
    older: &'static str,
) -> Option<(&'a str, &'static str)> {
    let of = |name: &'static str| Some((params.get(name)?, name));
    of(name).or_else(|| of(older))
}

fn malformed(name: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::bad(format!("malformed parameter {name}: {why}"))
}

/// A time, nanoseconds since 1970.
fn time(params: &Params, name: &'static str, older: &'static str) -> Result<Option<i64>, Refusal> {
    let Some((text, name)) = parameter(params, name, older) else {
        return Ok(None);
    };
    // The sign of an offset is a space when a client does not escape it.
    let read = text.replace(' ', "+").parse::<jiff::Timestamp>().ok();
    match read.and_then(|time| i64::try_from(time.as_nanosecond()).ok()) {
        Some(ns) => Ok(Some(ns)),
        None => {
            let text = quote(text);
            let why = format!("parsing time {text} as \"{RFC3339}\": cannot parse {text}");
            Err(malformed(name, why))
        }
    }
}

fn both(names: [&str; 2]) -> Refusal {
    let [min, max] = names;
    Refusal::bad(format!("{min} and {max} are required"))
}

fn raw(params: &Params, name: &'static str, older: &'static str) -> Result<bool, Refusal> {
    match parameter(params, name, older) {
        None => Ok(false),
        Some((text, name)) => go_bool(text).map_err(|why| malformed(name, why)),
    }
}

/// The parameters of a search.
fn search(params: &Params) -> Result<Search, Refusal> {
    let text = |name, older| parameter(params, name, older).map(|(text, _)| text.to_owned());
    let attributes = match params.get("query.attributes") {
        None => BTreeMap::new(),
        Some(text) => text_map(text).map_err(|why| malformed("query.attributes", why))?,
    };
    if params.get("query.filter").is_some() {
        return Err(malformed(
            "query.filter",
            "filters are not supported here; use query.attributes",
        ));
    }
    let names = ["query.startTimeMin", "query.startTimeMax"];
    let start = time(params, names[0], "query.start_time_min")?;
    let end = time(params, names[1], "query.start_time_max")?;
    let (Some(start), Some(end)) = (start, end) else {
        return Err(both(names));
    };
    let depth = parameter(params, "query.searchDepth", "query.search_depth");
    let limit = match depth.or_else(|| parameter(params, "query.num_traces", "query.numTraces")) {
        None => SEARCH_DEPTH_DEFAULT,
        Some((text, name)) => match text.parse::<u32>() {
            Ok(0) => SEARCH_DEPTH_DEFAULT,
            Ok(number) => usize::try_from(number).unwrap_or(usize::MAX),
            Err(_) => {
                let why = format!("strconv.ParseUint: parsing {}: invalid syntax", quote(text));
                return Err(malformed(name, why));
            }
        },
    };
    let duration = |name, older| match parameter(params, name, older) {
        None => Ok(None),
        Some((text, name)) => go_duration(text).map_err(|why| malformed(name, why)),
    };
    Ok(Search {
        service: text("query.serviceName", "query.service_name"),
        operation: text("query.operationName", "query.operation_name"),
        tags: attributes.into_iter().collect(),
        range: TimeRange::inclusive(start, end),
        min_ns: duration("query.durationMin", "query.duration_min")?,
        max_ns: duration("query.durationMax", "query.duration_max")?,
        limit,
    })
}

async fn services(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        json::strings(object.key("services"), source::services(asked)?);
        object.end();
        Ok(out)
    })
    .await
}

/// The kind of an operation: spans that do not say are internal.
pub(super) fn kind(operation: &Operation) -> &'static str {
    match operation.kind {
        "" => "internal",
        kind => kind,
    }
}

async fn operations(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let service = asked.params.get("service").unwrap_or("");
        let kind_asked = parameter(&asked.params, "spanKind", "span_kind");
        let found = source::operations(asked, service, kind_asked.map(|(kind, _)| kind))?;
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        json::array(object.key("operations"), &found, |out, operation| {
            let mut object = Object::begin(out);
            object.text("name", &operation.name);
            object.text("spanKind", kind(operation));
            object.end();
        });
        object.end();
        Ok(out)
    })
    .await
}

/// Traces one after the other, as one.
fn written(traces: Vec<Spans>) -> Result<String, Refusal> {
    if traces.is_empty() {
        return Err(Refusal::new(Reason::NotFound, "No traces found"));
    }
    let all: Spans = traces.into_iter().flatten().collect();
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    let mut result = Object::begin(object.key("result"));
    Form::Otlp.resource_spans(&mut result, &all);
    result.end();
    object.end();
    Ok(out)
}

async fn traces(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let raw = raw(&asked.params, "query.rawTraces", "query.raw_traces")?;
        let mut found = source::find(asked, &search(&asked.params)?, SPANS_MAX)?.traces;
        adjust(&mut found, raw);
        written(found)
    })
    .await
}

async fn trace(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response {
    answer(app, request, move |asked| {
        let params = &asked.params;
        let id = trace_id(&id).map_err(|why| malformed("trace_id", why))?;
        // Times are a hint where to look; a trace is found without.
        time(params, "startTime", "start_time")?;
        time(params, "endTime", "end_time")?;
        let raw = raw(params, "rawTraces", "raw_traces")?;
        let mut found: Vec<Spans> = source::trace(asked, id)?.into_iter().collect();
        adjust(&mut found, raw);
        written(found)
    })
    .await
}

async fn summaries(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let mut found = Vec::new();
        source::find_each(asked, &search(&asked.params)?, |trace| {
            let mut out = String::new();
            summary(&mut out, &trace);
            found.push(out);
            ControlFlow::Continue(())
        })?;
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        json::array(object.key("summaries"), found, json::display);
        object.end();
        Ok(out)
    })
    .await
}

/// Spans and failed spans of a service.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    spans: usize,
    errors: usize,
}

/// What a trace is about, without its spans.
fn summary(out: &mut String, trace: &Spans) {
    let mut services: BTreeMap<&str, Spent> = BTreeMap::new();
    let mut all = Spent::default();
    let (mut start, mut end) = (u64::MAX, 0);
    let mut root: Option<(u64, &str, &str)> = None;
    let mut id: &[u8] = &[];
    for of_resource in trace {
        let resource = of_resource.resource.as_ref();
        let service = ui::service_name(resource.map_or(&[], |resource| &resource.attributes));
        let of_service = services.entry(service).or_default();
        for span in of_resource
            .scope_spans
            .iter()
            .flat_map(|scope| &scope.spans)
        {
            let status = span.status.as_ref();
            let failed = status.is_some_and(|s| s.code == i32::from(Outcome::Error));
            for spent in [&mut *of_service, &mut all] {
                spent.spans += 1;
                spent.errors += usize::from(failed);
            }
            id = &span.trace_id;
            start = start.min(span.start_time_unix_nano);
            end = end.max(span.end_time_unix_nano);
            let is_root = span.parent_span_id.is_empty();
            let is_first = root.is_none_or(|(first, ..)| span.start_time_unix_nano < first);
            if is_root && is_first {
                root = Some((span.start_time_unix_nano, service, &span.name));
            }
        }
    }
    let (_, root_service, root_name) = root.unwrap_or_default();
    let mut object = Object::begin(out);
    object.text("traceId", &hex(id));
    object.text("rootServiceName", root_service);
    object.text("rootOperationName", root_name);
    object.text("minStartTimeUnixNano", &start.to_string());
    object.text("maxEndTimeUnixNano", &end.to_string());
    object.raw("spanCount", all.spans);
    object.raw("errorSpanCount", all.errors);
    json::array(object.key("services"), services, |out, (name, spent)| {
        let mut object = Object::begin(out);
        object.text("name", name);
        object.raw("spanCount", spent.spans);
        object.raw("errorSpanCount", spent.errors);
        object.end();
    });
    object.end();
}

async fn dependencies(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        let params = &asked.params;
        let start = time(params, "startTime", "start_time")?;
        let end = time(params, "endTime", "end_time")?;
        let (Some(start), Some(end)) = (start, end) else {
            return Err(both(["startTime", "endTime"]));
        };
        if end <= start {
            return Err(Refusal::bad("endTime must be after startTime"));
        }
        let found = source::dependencies(asked, TimeRange::inclusive(start, end))?;
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        json::array(object.key("dependencies"), &found, |out, calls| {
            let mut object = Object::begin(out);
            object.text("parent", &calls.parent);
            object.text("child", &calls.child);
            // 64-bit numbers are strings in protobuf's JSON.
            object.text("callCount", &calls.calls.to_string());
            object.end();
        });
        object.end();
        Ok(out)
    })
    .await
}

#[cfg(test)]
mod tests;
