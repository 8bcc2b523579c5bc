//! Starts the server in this process on a free port and drives it over TCP, as its clients do.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod backup;
mod bad_input;
mod cancel;
mod client;
mod drilldown;
mod grafana;
mod harness;
mod ingest;
mod kill;
mod loki_limits;
mod loki_push;
mod loki_tail;
mod loki_traps;
mod ops;
mod process;
mod query;
mod remote_write;
#[path = "../../src/proto/schema.rs"]
mod schema;
mod sdk;
mod span_metrics;
mod storage;
mod tempo_streaming;
mod traps;
mod websocket;
mod wire;
