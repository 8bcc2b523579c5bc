//! OTLP spans to the trace engine, which reads requests itself and keeps everything that arrives, and
//! to what counts them beside it. The HTTP and gRPC handlers of `ingest`, and `observe`, call [`push`].

use std::sync::Arc;

use axum::body::Bytes;
use tokio::runtime::Handle;
use trine_storage::Kind;
use trine_tracestore::{Durability, StoredSpans, TraceStore};

use super::store::Outcome;
use crate::app::App;
use crate::refusal::Refusal;
use crate::tenants::{Tenant, TenantId};

/// Stores the spans of `request`, an `ExportTraceServiceRequest`, for a tenant, has them counted, and
/// says what was refused.
///
/// # Errors
/// A bad request when it is none, the engine's otherwise; nothing is acknowledged then.
pub fn push(app: &App, tenant: &TenantId, request: Bytes) -> Result<Outcome, Refusal> {
    let tenant = app.tenants.get_or_create(tenant)?;
    let (outcome, spans) = store(&tenant.traces()?, request)?;
    if outcome.stored > 0 && tenant.generator().take(spans, app.clock.now_ms()) {
        count(tenant);
    }
    Ok(outcome)
}

/// Has the spans counted that wait; not by the thread that a sender waits for, where there are others.
fn count(tenant: Arc<Tenant>) {
    let work = move || tenant.generator().count_waiting();
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// Stores the spans of `request`, and says what was refused and what is stored.
///
/// # Errors
/// As [`push`].
pub fn store(engine: &TraceStore, request: Bytes) -> Result<(Outcome, StoredSpans), Refusal> {
    let mut appender = engine.appender();
    appender.append_otlp(request);
    let commit = appender
        .commit(Durability::Synced)
        .map_err(|error| match error.kind() {
            Kind::Invalid => Refusal::bad(format!("cannot read the protobuf body: {error}")),
            _ => error.into(),
        })?;
    let spans = commit.spans();
    let accepted = commit.wait()?;
    let mut outcome = Outcome {
        stored: accepted.stored,
        ..Outcome::default()
    };
    for rejected in accepted.rejected {
        outcome.rejections.add(rejected.count, rejected.to_string());
    }
    Ok((outcome, spans))
}
