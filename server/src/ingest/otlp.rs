//! OTLP requests of all three signals: from the request's bytes to what became of it.
//! `ingest::otlp_http` and `ingest::grpc` call it on a thread that may block.

use axum::body::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use super::metric_labels::Rules;
use super::store::{Outcome, push, with_known};
use super::{otlp_logs, otlp_metrics, otlp_traces};
use crate::app::App;
use crate::observe::registry::Signal;
use crate::proto::otlp_metrics::resources;
use crate::proto::wire::Messages;
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

/// A request of one of the signals.
pub trait Export: prost::Message + Default + serde::de::DeserializeOwned + 'static {
    /// Which signal it is.
    const SIGNAL: Signal;

    /// What the answer calls the number of refused parts, as JSON writes it.
    const REJECTED: &'static str;

    /// Stores the request for a tenant.
    ///
    /// # Errors
    /// The engine's; nothing is acknowledged then.
    fn store(self, app: &App, tenant: &TenantId) -> Result<Outcome, Refusal>;

    /// Stores the request that is written as protobuf.
    ///
    /// # Errors
    /// As [`Export::store`]; a refusal when the bytes are no such request.
    fn store_bytes(bytes: Bytes, app: &App, tenant: &TenantId) -> Result<Outcome, Refusal> {
        let request = Self::decode(bytes).map_err(unreadable)?;
        request.store(app, tenant)
    }
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::bad(format!("cannot read the protobuf body: {error}"))
}

impl Export for ExportMetricsServiceRequest {
    const SIGNAL: Signal = Signal::Metrics;
    const REJECTED: &'static str = "rejectedDataPoints";

    fn store(self, app: &App, tenant: &TenantId) -> Result<Outcome, Refusal> {
        Self::store_bytes(self.encode_to_vec().into(), app, tenant)
    }

    fn store_bytes(bytes: Bytes, app: &App, tenant: &TenantId) -> Result<Outcome, Refusal> {
        let bytes = &bytes[..];
        let first = resources(bytes).next_message().map_err(unreadable)?;
        if first.is_none() {
            return Ok(Outcome::default());
        }
        let tenant = app.tenants.get_or_create(tenant)?;
        let engine = tenant.metrics()?;
        let rules = Rules::of(&app.config.limits);
        let mut points = 0;
        let mut outcome = with_known(&engine, &rules, tenant.known_series(), |metrics| {
            let translated = otlp_metrics::translate(bytes, &app.config.otlp, &rules, metrics);
            let translated = translated.map_err(unreadable)?;
            points = translated.points;
            Ok(translated.rejections)
        })?;
        // The engine counts samples, of which a point may have many.
        outcome.rejections.limit(points);
        Ok(outcome)
    }
}

impl Export for ExportLogsServiceRequest {
    const SIGNAL: Signal = Signal::Logs;
    const REJECTED: &'static str = "rejectedLogRecords";

    fn store(self, app: &App, tenant: &TenantId) -> Result<Outcome, Refusal> {
        if self.resource_logs.is_empty() {
            return Ok(Outcome::default());
        }
        let outcome = push(app, tenant, |rules, logs| {
            otlp_logs::translate(&self, rules, logs)
        })?;
        match outcome.rejections.is_busy() {
            // What is refused in an answer of success is never sent again.
            true => Err(Refusal::new(Reason::Busy, outcome.rejections.text("; "))),
            false => Ok(outcome),
        }
    }
}

impl Export for ExportTraceServiceRequest {
    const SIGNAL: Signal = Signal::Traces;
    const REJECTED: &'static str = "rejectedSpans";

    fn store(self, app: &App, tenant: &TenantId) -> Result<Outcome, Refusal> {
        Self::store_bytes(self.encode_to_vec().into(), app, tenant)
    }

    fn store_bytes(bytes: Bytes, app: &App, tenant: &TenantId) -> Result<Outcome, Refusal> {
        let first = Messages::of(&bytes, 1).next_message();
        if first.map_err(unreadable)?.is_none() {
            return Ok(Outcome::default());
        }
        otlp_traces::push(app, tenant, bytes)
    }
}

/// How a request came.
#[derive(Debug)]
pub enum Body<R> {
    /// As the bytes of the message.
    Protobuf(Bytes),
    /// Decoded.
    Decoded(R),
}

/// Stores a request and counts it.
///
/// # Errors
/// As [`Export::store`] and [`Export::store_bytes`].
pub fn store<R: Export>(
    app: &App,
    tenant: &TenantId,
    request: Body<R>,
) -> Result<Outcome, Refusal> {
    let outcome = match request {
        Body::Protobuf(bytes) => R::store_bytes(bytes, app, tenant),
        Body::Decoded(request) => request.store(app, tenant),
    }?;
    app.observer
        .registry
        .written(R::SIGNAL, outcome.stored, outcome.rejections.count());
    Ok(outcome)
}
