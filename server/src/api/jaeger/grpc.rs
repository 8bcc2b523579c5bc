//! The gRPC service `jaeger.api_v3.QueryService`, with spans of OTLP. `routes` mounts it at the root of
//! every port.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, TracesData};
use prost::Message as _;
use tonic::Status;
use trine_storage::TimeRange;

use super::request::trace_id;
use super::search::Search;
use super::source::{self, Spans};
use super::v3::{SEARCH_DEPTH_DEFAULT, kind};
use super::{adjust, trace_not_found};
use crate::api::prometheus::run::Asked;
use crate::api::tempo::streaming::{Sender, call};
use crate::app::App;
use crate::proto::jaeger::{
    Duration, FindTracesRequest, GetOperationsRequest, GetOperationsResponse, GetServicesRequest,
    GetServicesResponse, GetTraceRequest, Operation,
};
use crate::refusal::Refusal;

/// Bytes of spans in one message, about; clients take four times as much. A span that is larger has a
/// message of its own.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Serves `method` of the service.
pub async fn serve(
    State(app): State<Arc<App>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    match method.as_str() {
        "GetTrace" => call(app, request, trace).await,
        "FindTraces" => call(app, request, traces).await,
        "GetServices" => call(app, request, services).await,
        "GetOperations" => call(app, request, operations).await,
        _ => Status::unimplemented("")
            .into_http::<axum::body::Body>()
            .into_response(),
    }
}

fn trace(
    asked: &Asked,
    message: &GetTraceRequest,
    send: &mut Sender<'_, TracesData>,
) -> Result<(), Refusal> {
    let id = trace_id(&message.trace_id);
    let id = id.map_err(|why| Refusal::bad(format!("malformed trace ID: {why}")))?;
    let trace = source::trace(asked, id)?.ok_or_else(trace_not_found)?;
    let mut found = [trace];
    adjust(&mut found, message.raw_traces);
    let [trace] = found;
    in_messages(trace, send).continue_value();
    Ok(())
}

fn traces(
    asked: &Asked,
    message: &FindTracesRequest,
    send: &mut Sender<'_, TracesData>,
) -> Result<(), Refusal> {
    let query = message.query.as_ref();
    let query = query.ok_or_else(|| Refusal::bad("missing query"))?;
    let (Some(start), Some(end)) = (&query.start_time_min, &query.start_time_max) else {
        return Err(Refusal::bad(
            "start time min and max are required parameters",
        ));
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let length = |length: &Option<Duration>| {
        let ns = length.as_ref().map(Duration::nanoseconds);
        ns.filter(|ns| *ns != 0)
    };
    let tags: BTreeMap<_, _> = query.attributes.clone().into_iter().collect();
    let depth = usize::try_from(query.search_depth).unwrap_or(0);
    let search = Search {
        service: text(&query.service_name),
        operation: text(&query.operation_name),
        tags: tags.into_iter().collect(),
        range: TimeRange::inclusive(start.nanoseconds(), end.nanoseconds()),
        min_ns: length(&query.duration_min),
        max_ns: length(&query.duration_max),
        limit: if depth == 0 {
            SEARCH_DEPTH_DEFAULT
        } else {
            depth
        },
    };
    source::find_each(asked, &search, |trace| {
        let mut found = [trace];
        adjust(&mut found, query.raw_traces);
        let [trace] = found;
        in_messages(trace, send)
    })
}

fn services(
    asked: &Asked,
    _: &GetServicesRequest,
    send: &mut Sender<'_, GetServicesResponse>,
) -> Result<(), Refusal> {
    let services = source::services(asked)?;
    send(GetServicesResponse { services }).continue_value();
    Ok(())
}

fn operations(
    asked: &Asked,
    message: &GetOperationsRequest,
    send: &mut Sender<'_, GetOperationsResponse>,
) -> Result<(), Refusal> {
    let of_kind = Some(message.span_kind.as_str()).filter(|kind| !kind.is_empty());
    let found = source::operations(asked, &message.service, of_kind)?;
    let operations = found.into_iter().map(|operation| Operation {
        span_kind: kind(&operation).to_owned(),
        name: operation.name,
    });
    let operations = operations.collect();
    send(GetOperationsResponse { operations }).continue_value();
    Ok(())
}

/// Sends the spans of a trace, a part of them at a time where they are many.
fn in_messages(trace: Spans, send: &mut Sender<'_, TracesData>) -> ControlFlow<()> {
    let mut part: Spans = Vec::new();
    let mut bytes = 0;
    for of_resource in trace {
        for of_scope in of_resource.scope_spans {
            let mut is_open = false;
            for span in of_scope.spans {
                let size = span.encoded_len();
                if bytes + size > MESSAGE_BYTES_MAX && bytes > 0 {
                    let resource_spans = std::mem::take(&mut part);
                    send(TracesData { resource_spans })?;
                    (bytes, is_open) = (0, false);
                }
                if !is_open {
                    part.push(ResourceSpans {
                        resource: of_resource.resource.clone(),
                        scope_spans: vec![ScopeSpans {
                            scope: of_scope.scope.clone(),
                            schema_url: of_scope.schema_url.clone(),
                            ..ScopeSpans::default()
                        }],
                        schema_url: of_resource.schema_url.clone(),
                    });
                    is_open = true;
                }
                bytes += size;
                let scope = part.last_mut().and_then(|last| last.scope_spans.last_mut());
                if let Some(scope) = scope {
                    scope.spans.push(span);
                }
            }
        }
    }
    send(TracesData {
        resource_spans: part,
    })
}

#[cfg(test)]
mod tests;
