//! `google.rpc.Status`, the body of OTLP's refusals over HTTP. `ingest::otlp` writes it.

/// An error in the terms of gRPC.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// The gRPC code, for example 3 for an invalid argument.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What was wrong.
    #[prost(string, tag = "2")]
    pub message: String,
}
