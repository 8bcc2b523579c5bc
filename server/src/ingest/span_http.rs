//! Spans over HTTP as the clients of Jaeger and Zipkin send them: `/api/traces` of Jaeger's collector,
//! `/api/v2/spans` of Zipkin. The router of `routes` calls these handlers.
//!
//! Both answer 202 and nothing else. They know no partial success: where something is refused, the rest
//! is stored, and the answer is a 400 that says what and why.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::http::{read_body, refused};
use super::otlp::{Body, store};
use super::span_batch::SpanBatch;
use super::store::Outcome;
use super::{jaeger_thrift, zipkin};
use crate::app::App;
use crate::body::Encoding;
use crate::proto::thrift::Protocol;
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

/// `POST` of a batch of Jaeger's in Thrift.
pub async fn jaeger(State(app): State<Arc<App>>, request: Request) -> Response {
    let protocol = match thrift_protocol(request.headers()) {
        Ok(protocol) => protocol,
        Err(refusal) => return refused(&refusal),
    };
    let translate = move |bytes: &Bytes, bytes_max: usize| {
        let read = jaeger_thrift::translate(bytes, protocol, bytes_max);
        read.map_err(|error| format!("Unable to process request body: {error}"))
    };
    answer(take(&app, request, translate).await)
}

/// `POST` of Zipkin's spans in JSON of version 2.
pub async fn zipkin(State(app): State<Arc<App>>, request: Request) -> Response {
    if content_type(request.headers()) == "application/x-protobuf" {
        let text = "spans of Zipkin are read as application/json, not as application/x-protobuf";
        return refused(&Refusal::new(Reason::UnsupportedMedia, text));
    }
    answer(
        take(&app, request, |bytes, bytes_max| {
            zipkin::translate(bytes, bytes_max)
        })
        .await,
    )
}

/// The media type, without what is said about it.
fn content_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = text.and_then(|text| text.split(';').next());
    kind.unwrap_or("").trim().to_ascii_lowercase()
}

fn thrift_protocol(headers: &HeaderMap) -> Result<Protocol, Refusal> {
    match content_type(headers).as_str() {
        "application/x-thrift" | "application/vnd.apache.thrift.binary" => Ok(Protocol::Binary),
        "application/vnd.apache.thrift.compact" => Ok(Protocol::Compact),
        "" => Err(Refusal::bad(
            "Cannot parse content type: mime: no media type",
        )),
        kind => Err(Refusal::bad(format!("Unsupported content type: {kind}"))),
    }
}

async fn take(
    app: &Arc<App>,
    request: Request,
    translate: impl FnOnce(&Bytes, usize) -> Result<SpanBatch, String> + Send + 'static,
) -> Result<Outcome, Refusal> {
    let tenant = TenantId::of(request.headers())?;
    let encoding = Encoding::of(request.headers())?.unwrap_or(Encoding::Identity);
    let mut payload = read_body(app, request).await?;
    let work = Arc::clone(app);
    app.appends
        .run(move || {
            let max = work.config.decoded_bytes_max;
            let bytes = encoding.decode(payload.bytes, max, &mut payload.share)?;
            let batch = translate(&bytes, max).map_err(Refusal::bad)?;
            payload.share.grow_to(bytes.len() + 2 * batch.bytes())?;
            drop(bytes);
            let spans = Body::Protobuf(batch.finish());
            store::<ExportTraceServiceRequest>(&work, &tenant, spans)
        })
        .await
}

fn answer(outcome: Result<Outcome, Refusal>) -> Response {
    match outcome {
        Ok(outcome) if outcome.rejections.is_empty() => StatusCode::ACCEPTED.into_response(),
        Ok(outcome) => refused(&Refusal::bad(outcome.rejections.text("\n"))),
        Err(refusal) => refused(&refusal),
    }
}
