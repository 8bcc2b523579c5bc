//! Wire formats of the senders that are decoded by hand: readers for protobuf and Thrift and the
//! messages built on them. `ingest` reads requests with them, `api` writes answers.

pub mod histogram;
#[cfg(test)]
pub(crate) mod jsonpb;
pub mod jaeger;
pub mod loki;
pub mod otlp_metrics;
pub mod remote_read;
pub mod remote_write;
pub mod remote_write_v2;
#[cfg(test)]
pub(crate) mod schema;
pub mod status;
pub mod tempo;
pub mod thrift;
pub mod wire;
