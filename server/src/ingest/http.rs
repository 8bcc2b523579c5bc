//! Remote write and Loki's push over HTTP. The router of `routes` calls these handlers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::elections::Verdict;
use super::loki_push::{self, Format};
use super::metric_labels::Rules;
use super::remote_write::{self, Version};
use super::store::{self, Outcome};
use crate::app::App;
use crate::body::{self, Encoding, Payload};
use crate::observe::registry::Signal;
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What senders of remote write read from every answer.
const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

/// Reads the body of a write request.
///
/// # Errors
/// As [`body::read`]; [`Reason::Timeout`] when it does not come.
pub async fn read_body(app: &App, request: Request) -> Result<Payload, Refusal> {
    let (parts, body) = request.into_parts();
    let read = body::read(body, &parts.headers, app.config.body_bytes_max, &app.bodies);
    tokio::time::timeout(BODY_TIMEOUT, read)
        .await
        .unwrap_or_else(|_| {
            let text = format!(
                "the body did not arrive within {} s",
                BODY_TIMEOUT.as_secs()
            );
            Err(Refusal::new(Reason::Timeout, text))
        })
}

/// What became of a remote-write request.
enum Write {
    /// It was stored, as far as it could be.
    Done(Outcome),
    /// It comes from a replica whose twin is the one that is listened to; the text says so.
    Duplicate(String),
}

/// `POST` of a remote-write request, of either version.
pub async fn remote_write(State(app): State<Arc<App>>, request: Request) -> Response {
    let written = write_samples(&app, request).await;
    let counts = match &written {
        Ok(Write::Done(outcome)) => [
            outcome.stored - outcome.histograms,
            outcome.histograms,
            outcome.exemplars,
        ],
        _ => [0; 3],
    };
    let mut response = match written {
        // Exemplars and metadata that are refused are no reason to refuse the samples.
        Ok(Write::Done(outcome)) if outcome.rejections.count() == 0 => {
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(Write::Done(outcome)) => answer(Ok(outcome)),
        Ok(Write::Duplicate(text)) => plain(StatusCode::ACCEPTED, text),
        Err(refusal) => refused(&refusal),
    };
    for (name, count) in WRITTEN.into_iter().zip(counts) {
        response
            .headers_mut()
            .insert(name, HeaderValue::from(count));
    }
    response
}

async fn write_samples(app: &Arc<App>, request: Request) -> Result<Write, Refusal> {
    let tenant = TenantId::of(request.headers())?;
    let version = Version::of(request.headers())?;
    let encoding = Encoding::of(request.headers())?;
    version.check_encoding(encoding)?;
    // Fluent Bit repeats a 413 for ever; to all other senders it is a 400.
    let too_large = loki_push::too_large_is_bad;
    let mut payload = read_body(app, request).await.map_err(too_large)?;
    let work = Arc::clone(app);
    app.appends
        .run(move || {
            let max = work.config.decoded_bytes_max;
            let share = &mut payload.share;
            let bytes = match encoding {
                Some(encoding) => encoding.decode(payload.bytes, max, share),
                None => remote_write::unpack(version, payload.bytes, max, share),
            };
            let bytes = bytes.map_err(too_large)?;
            let mut rules = Rules::of(&work.config.limits);
            let tenant = work.tenants.get_or_create(&tenant)?;
            let ha = &work.config.ha;
            if ha.accept {
                let names = [&*ha.cluster_label, &*ha.replica_label];
                let [cluster, replica] =
                    remote_write::first_labels(version, &bytes, names, &rules)?;
                match tenant
                    .elections()
                    .vote(ha, cluster, replica, work.clock.now_ms())?
                {
                    Verdict::Single => {}
                    Verdict::Elected => rules.dropped = Some(&ha.replica_label),
                    Verdict::Other(text) => return Ok(Write::Duplicate(text)),
                }
            }
            let engine = tenant.metrics()?;
            let known = tenant.known_series();
            let outcome = store::with_known(&engine, &rules, known, |metrics| {
                remote_write::translate(version, &bytes, &rules, metrics)
            })?;
            let rejected = outcome.rejections.count();
            work.observer
                .registry
                .written(Signal::Metrics, outcome.stored, rejected);
            Ok(Write::Done(outcome))
        })
        .await
}

/// `POST` of a Loki push.
pub async fn loki_push(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(push_entries(&app, request).await)
}

async fn push_entries(app: &Arc<App>, request: Request) -> Result<Outcome, Refusal> {
    let tenant = TenantId::of(request.headers())?;
    let format = Format::of(content_type(request.headers()));
    // Fluent Bit repeats a 415 for ever.
    let encoding = Encoding::of(request.headers());
    let encoding = encoding.map_err(|refusal| Refusal::bad(refusal.text))?;
    let mut payload = read_body(app, request)
        .await
        .map_err(|refusal| match format {
            Format::Json => loki_push::too_large_is_bad(refusal),
            Format::Protobuf => refusal,
        })?;
    let work = Arc::clone(app);
    app.appends
        .run(move || {
            let max = work.config.decoded_bytes_max;
            let bytes =
                loki_push::unpack(format, encoding, payload.bytes, max, &mut payload.share)?;
            loki_push::store(&work, &tenant, format, &bytes)
        })
        .await
}

/// `/api/prom/push` is Loki's older path and Cortex's; the content type tells them apart.
pub async fn prom_push(state: State<Arc<App>>, request: Request) -> Response {
    match Format::of(content_type(request.headers())) {
        Format::Json => loki_push(state, request).await,
        Format::Protobuf => remote_write(state, request).await,
    }
}

/// `GET` on a write path: some senders ask it whether somebody is there.
pub async fn present() -> StatusCode {
    StatusCode::OK
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// 204 when all was stored, 400 with the reasons when something was refused.
fn answer(outcome: Result<Outcome, Refusal>) -> Response {
    match outcome.map(|outcome| loki_push::refusal(&outcome)) {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(refusal)) | Err(refusal) => refused(&refusal),
    }
}

/// A refusal as text, as the senders of both protocols log it.
pub fn refused(refusal: &Refusal) -> Response {
    let mut response = plain(refusal.status(), refusal.to_string());
    if let Some(seconds) = refusal.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn plain(status: StatusCode, mut text: String) -> Response {
    text.push('\n');
    let mut response = (status, Body::from(text)).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
