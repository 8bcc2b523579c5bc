//! OTLP spans to the trace engine, which reads requests itself and keeps everything that arrives. The
//! HTTP and gRPC handlers of `ingest`, and `observe`, call [`store`].

use axum::body::Bytes;
use trine_storage::Kind;
use trine_tracestore::{Durability, TraceStore};

use super::store::Outcome;
use crate::refusal::Refusal;

/// Stores the spans of `request`, an `ExportTraceServiceRequest`, and says what was refused.
///
/// # Errors
/// A bad request when it is none, the engine's otherwise; nothing is acknowledged then.
pub fn store(engine: &TraceStore, request: Bytes) -> Result<Outcome, Refusal> {
    let mut appender = engine.appender();
    appender.append_otlp(request);
    let commit = appender
        .commit(Durability::Synced)
        .map_err(|error| match error.kind() {
            Kind::Invalid => Refusal::bad(format!("cannot read the protobuf body: {error}")),
            _ => error.into(),
        })?;
    let accepted = commit.wait()?;
    let mut outcome = Outcome {
        stored: accepted.stored,
        ..Outcome::default()
    };
    for rejected in accepted.rejected {
        outcome.rejections.add(rejected.count, rejected.to_string());
    }
    Ok(outcome)
}
