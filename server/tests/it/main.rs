//! Starts the server in this process on a free port and drives it over TCP, as its clients do.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod backup;
mod bad_bucket;
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
#[path = "../../../storage/src/remote/moto.rs"]
mod moto;
mod ops;
mod process;
mod proxy;
mod query;
mod remote_write;
mod s3;
#[path = "../../src/proto/schema.rs"]
mod schema;
mod sdk;
mod span_metrics;
mod storage;
mod storage_cost;
mod storage_s3;
mod tempo_streaming;
mod traps;
mod websocket;
mod wire;
