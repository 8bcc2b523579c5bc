//! OTLP over HTTP: `/v1/metrics`, `/v1/logs`, `/v1/traces` and the paths under which the originals
//! have them. The answer has the content type of the request; refusals are `google.rpc.Status`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;

use super::http::read_body;
use super::otlp::{Body as Sent, Export, store};
use super::store::Outcome;
use crate::app::App;
use crate::body::Encoding;
use crate::proto::status::Status;
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

/// How requests and answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

impl Format {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let kind = text
            .unwrap_or("")
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        match kind.as_str() {
            "application/x-protobuf" | "application/protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            _ => {
                let text = format!(
                    "content type {kind:?} is not supported; send application/x-protobuf or \
                     application/json"
                );
                Err(Refusal::new(Reason::UnsupportedMedia, text))
            }
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }
}

/// Serves an export of one signal.
pub async fn export<R: Export>(State(app): State<Arc<App>>, request: Request) -> Response {
    let format = match Format::of(request.headers()) {
        Ok(format) => format,
        Err(refusal) => return refused(Format::Protobuf, &refusal),
    };
    match take::<R>(&app, format, request).await {
        Ok(outcome) => accepted::<R>(format, &outcome),
        Err(refusal) => refused(format, &refusal),
    }
}

async fn take<R: Export>(
    app: &Arc<App>,
    format: Format,
    request: Request,
) -> Result<Outcome, Refusal> {
    let tenant = TenantId::of(request.headers())?;
    let encoding = Encoding::of(request.headers())?.unwrap_or(Encoding::Identity);
    let mut payload = read_body(app, request).await?;
    let work = Arc::clone(app);
    app.appends
        .run(move || {
            let max = work.config.decoded_bytes_max;
            let bytes = encoding.decode(payload.bytes, max, &mut payload.share)?;
            let request = match format {
                Format::Protobuf => Sent::Protobuf(bytes),
                Format::Json => Sent::Decoded(from_json::<R>(&bytes)?),
            };
            store(&work, &tenant, request)
        })
        .await
}

fn from_json<R: Export>(bytes: &[u8]) -> Result<R, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal::bad(format!("cannot read the JSON body: {error}")))
}

/// 200; with the number of refused parts and the reasons when something was refused.
fn accepted<R: Export>(format: Format, outcome: &Outcome) -> Response {
    let rejections = &outcome.rejections;
    let body = match format {
        Format::Json if rejections.is_empty() => "{}".to_owned().into_bytes(),
        Format::Json => {
            // 64-bit numbers are strings in protobuf's JSON.
            let partial = serde_json::json!({
                R::REJECTED: rejections.count().to_string(),
                "errorMessage": rejections.text("; "),
            });
            serde_json::json!({ "partialSuccess": partial })
                .to_string()
                .into_bytes()
        }
        Format::Protobuf => partial_success(outcome).encode_to_vec(),
    };
    respond(StatusCode::OK, format, body)
}

/// The answer of all three services: field for field the same message.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

fn partial_success(outcome: &Outcome) -> Answer {
    let rejections = &outcome.rejections;
    let partial = PartialSuccess {
        rejected: i64::try_from(rejections.count()).unwrap_or(i64::MAX),
        error_message: rejections.text("; "),
    };
    Answer {
        partial_success: (!rejections.is_empty()).then_some(partial),
    }
}

fn refused(format: Format, refusal: &Refusal) -> Response {
    let code = super::grpc::code(refusal.reason) as i32;
    let body = match format {
        Format::Protobuf => Status {
            code,
            message: refusal.text.clone(),
        }
        .encode_to_vec(),
        Format::Json => serde_json::json!({ "code": code, "message": refusal.text })
            .to_string()
            .into_bytes(),
    };
    let mut response = respond(refusal.status(), format, body);
    if let Some(seconds) = refusal.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn respond(status: StatusCode, format: Format, body: Vec<u8>) -> Response {
    let mut response = (status, Body::from(body)).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, format.content_type());
    response
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
    };
    use prost::Message;

    use super::{Outcome, from_json, partial_success};

    #[test]
    fn the_answer_is_the_services_own_message() {
        let mut outcome = Outcome::default();
        assert!(
            partial_success(&outcome).encode_to_vec().is_empty(),
            "empty on full success"
        );
        outcome.rejections.add(3, "why");
        let bytes = partial_success(&outcome).encode_to_vec();
        let partial = ExportTraceServiceResponse::decode(&bytes[..])
            .unwrap()
            .partial_success
            .unwrap();
        assert_eq!(
            (partial.rejected_spans, partial.error_message.as_str()),
            (3, "why")
        );
    }

    #[test]
    fn json_has_hexadecimal_ids_and_numbers_as_strings_or_not() {
        let body = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name",
            "value":{"stringValue":"s"}},{"key":"n","value":{"intValue":"3"}}]},"scopeSpans":[{
            "spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
            "name":"x","kind":2,"startTimeUnixNano":"5","endTimeUnixNano":6,"status":{"code":2},
            "unknown":true}]}]}]}"#;
        let request: ExportTraceServiceRequest = from_json(body.as_bytes()).unwrap();
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.trace_id[0], 0x5b);
        assert_eq!(span.span_id.len(), 8);
        assert_eq!(
            (
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.kind
            ),
            (5, 6, 2)
        );
        let wrong = from_json::<ExportTraceServiceRequest>(b"{").unwrap_err();
        assert!(
            wrong.text.starts_with("cannot read the JSON body"),
            "{wrong}"
        );
    }
}
