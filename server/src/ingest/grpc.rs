//! OTLP over gRPC, the three `Export` services, and Loki's `Push`, answered on every port. `routes` mounts
//! them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::response::IntoResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};

use super::loki_push::{self, Format};
use super::otlp::{Body, Export, store};
use super::store::Outcome;
use crate::app::App;
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

mod codec;

pub use codec::BytesCodec;

/// The service of logs over one server's state.
#[derive(Debug, Clone)]
pub struct Logs(Arc<App>);

impl Logs {
    /// The service of `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    /// The service, ready to be mounted.
    pub fn service(&self) -> LogsServiceServer<Self> {
        LogsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(self.0.config.decoded_bytes_max)
    }
}

/// Does `work` with a request that takes `size` bytes.
async fn take<M: Send + 'static>(
    app: &Arc<App>,
    request: Request<M>,
    size: usize,
    work: impl FnOnce(&App, &TenantId, M) -> Result<Outcome, Refusal> + Send + 'static,
) -> Result<Outcome, Status> {
    let headers = request.metadata().clone().into_headers();
    let tenant = TenantId::of(&headers).map_err(|refusal| status(&refusal))?;
    let request = request.into_inner();
    let mut share = app.bodies.share();
    share.grow_to(size).map_err(|refusal| status(&refusal))?;
    let own = Arc::clone(app);
    let work = move || {
        let _share = share;
        work(&own, &tenant, request)
    };
    app.appends
        .run(work)
        .await
        .map_err(|refusal| status(&refusal))
}

/// Serves `method` of the metrics service. Generated code would decode requests that are read by
/// hand.
pub async fn metrics(
    State(app): State<Arc<App>>,
    Path(method): Path<String>,
    request: HttpRequest,
) -> axum::response::Response {
    if method != "Export" {
        return unknown();
    }
    let export = tower::service_fn(|request| export_metrics(Arc::clone(&app), request));
    unary(&app, export, request).await
}

/// Serves `method` of the traces service, whose requests go to the engine as they came.
pub async fn traces(
    State(app): State<Arc<App>>,
    Path(method): Path<String>,
    request: HttpRequest,
) -> axum::response::Response {
    if method != "Export" {
        return unknown();
    }
    let export = tower::service_fn(|request| export_traces(Arc::clone(&app), request));
    unary(&app, export, request).await
}

/// Serves `method` of Loki's pusher.
pub async fn pusher(
    State(app): State<Arc<App>>,
    Path(method): Path<String>,
    request: HttpRequest,
) -> axum::response::Response {
    if method != "Push" {
        return unknown();
    }
    let push = tower::service_fn(|request| push(Arc::clone(&app), request));
    unary(&app, push, request).await
}

fn unknown() -> axum::response::Response {
    Status::unimplemented("")
        .into_http::<axum::body::Body>()
        .into_response()
}

/// One call of a method whose requests are read by hand.
async fn unary<A: Message + 'static>(
    app: &App,
    method: impl UnaryService<Bytes, Response = A>,
    request: HttpRequest,
) -> axum::response::Response {
    let mut compressions = EnabledCompressionEncodings::default();
    compressions.enable(CompressionEncoding::Gzip);
    compressions.enable(CompressionEncoding::Zstd);
    let mut service = Grpc::new(BytesCodec::<A>::default())
        .apply_compression_config(compressions, EnabledCompressionEncodings::default())
        .max_decoding_message_size(app.config.decoded_bytes_max);
    service.unary(method, request).await.into_response()
}

/// The answer says nothing; what was refused is an error, as over HTTP, and the rest is stored.
async fn push(app: Arc<App>, request: Request<Bytes>) -> Result<Response<()>, Status> {
    let size = request.get_ref().len();
    let outcome = take(&app, request, size, |app, tenant, bytes| {
        loki_push::store(app, tenant, Format::Protobuf, &bytes)
    })
    .await?;
    match loki_push::refusal(&outcome) {
        Some(refusal) => Err(status(&refusal)),
        None => Ok(Response::new(())),
    }
}

/// Stores a request that is the bytes of its message.
async fn export<R: Export>(app: &Arc<App>, request: Request<Bytes>) -> Result<Outcome, Status> {
    let size = request.get_ref().len();
    take(app, request, size, |app, tenant, bytes| {
        store::<R>(app, tenant, Body::Protobuf(bytes))
    })
    .await
}

async fn export_metrics(
    app: Arc<App>,
    request: Request<Bytes>,
) -> Result<Response<ExportMetricsServiceResponse>, Status> {
    let outcome = export::<ExportMetricsServiceRequest>(&app, request).await?;
    let partial_success =
        told(&outcome).map(
            |(rejected_data_points, error_message)| ExportMetricsPartialSuccess {
                rejected_data_points,
                error_message,
            },
        );
    Ok(Response::new(ExportMetricsServiceResponse {
        partial_success,
    }))
}

async fn export_traces(
    app: Arc<App>,
    request: Request<Bytes>,
) -> Result<Response<ExportTraceServiceResponse>, Status> {
    let outcome = export::<ExportTraceServiceRequest>(&app, request).await?;
    let partial_success =
        told(&outcome).map(
            |(rejected_spans, error_message)| ExportTracePartialSuccess {
                rejected_spans,
                error_message,
            },
        );
    Ok(Response::new(ExportTraceServiceResponse {
        partial_success,
    }))
}

/// The gRPC code that makes a sender repeat what is worth repeating, and nothing else.
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::Bad | Reason::UnsupportedMedia | Reason::TooLarge | Reason::Execution => {
            Code::InvalidArgument
        }
        Reason::NotFound => Code::NotFound,
        Reason::Forbidden | Reason::Blocked(_) => Code::PermissionDenied,
        Reason::Busy | Reason::Unavailable => Code::Unavailable,
        Reason::Timeout => Code::DeadlineExceeded,
        Reason::Internal => Code::Internal,
    }
}

fn status(refusal: &Refusal) -> Status {
    Status::new(code(refusal.reason), refusal.text.clone())
}

/// The number and the reasons of what was refused; `None` when nothing was.
fn told(outcome: &Outcome) -> Option<(i64, String)> {
    let rejections = &outcome.rejections;
    let count = i64::try_from(rejections.count()).unwrap_or(i64::MAX);
    (!rejections.is_empty()).then(|| (count, rejections.text("; ")))
}

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let size = request.get_ref().encoded_len();
        let outcome = take(&self.0, request, size, |app, tenant, request| {
            store(app, tenant, Body::Decoded(request))
        })
        .await?;
        let partial_success =
            told(&outcome).map(
                |(rejected_log_records, error_message)| ExportLogsPartialSuccess {
                    rejected_log_records,
                    error_message,
                },
            );
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::{Outcome, code, told};
    use crate::refusal::Reason;

    #[test]
    fn only_what_passes_by_itself_is_worth_repeating() {
        for (reason, expect) in [
            (Reason::Bad, Code::InvalidArgument),
            (Reason::TooLarge, Code::InvalidArgument),
            (Reason::Busy, Code::Unavailable),
            (Reason::Unavailable, Code::Unavailable),
            (Reason::Internal, Code::Internal),
        ] {
            assert_eq!(code(reason), expect);
        }
    }

    #[test]
    fn full_success_says_nothing() {
        let mut outcome = Outcome {
            stored: 3,
            ..Outcome::default()
        };
        assert_eq!(told(&outcome), None);
        outcome.rejections.add(0, "a warning");
        assert_eq!(told(&outcome), Some((0, "a warning".to_owned())));
    }
}
