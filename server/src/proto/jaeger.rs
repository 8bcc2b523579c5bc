//! Messages of Jaeger's query service (`jaeger.api_v3`), as `api::jaeger::grpc` reads and answers. Traces
//! are answered as the `TracesData` of OTLP.

use std::collections::HashMap;

/// A point in time.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds after it.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A length of time.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Duration {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds beside them, of the same sign.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// Asks for a trace.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetTraceRequest {
    /// Its id, hexadecimal digits.
    #[prost(string, tag = "1")]
    pub trace_id: String,
    /// A hint where to look.
    #[prost(message, optional, tag = "2")]
    pub start_time: Option<Timestamp>,
    /// A hint where to look.
    #[prost(message, optional, tag = "3")]
    pub end_time: Option<Timestamp>,
    /// Whether spans are wanted as they are stored.
    #[prost(bool, tag = "4")]
    pub raw_traces: bool,
}

/// Asks for the traces that a search finds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FindTracesRequest {
    /// The search.
    #[prost(message, optional, tag = "1")]
    pub query: Option<TraceQueryParameters>,
}

/// What one span of a trace must satisfy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceQueryParameters {
    /// Its service.
    #[prost(string, tag = "1")]
    pub service_name: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub operation_name: String,
    /// Its attributes.
    #[prost(map = "string, string", tag = "3")]
    pub attributes: HashMap<String, String>,
    /// The first time at which it may begin.
    #[prost(message, optional, tag = "4")]
    pub start_time_min: Option<Timestamp>,
    /// The last time at which it may begin.
    #[prost(message, optional, tag = "5")]
    pub start_time_max: Option<Timestamp>,
    /// The least that it takes.
    #[prost(message, optional, tag = "6")]
    pub duration_min: Option<Duration>,
    /// The most that it takes.
    #[prost(message, optional, tag = "7")]
    pub duration_max: Option<Duration>,
    /// The most traces.
    #[prost(int32, tag = "8")]
    pub search_depth: i32,
    /// Whether spans are wanted as they are stored.
    #[prost(bool, tag = "9")]
    pub raw_traces: bool,
}

/// Asks for the names of all services.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GetServicesRequest {}

/// The names of all services.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetServicesResponse {
    /// The names.
    #[prost(string, repeated, tag = "1")]
    pub services: Vec<String>,
}

/// Asks for the names of spans of a service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetOperationsRequest {
    /// The service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The kind of the spans; empty for all.
    #[prost(string, tag = "2")]
    pub span_kind: String,
}

/// The names of spans of a service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetOperationsResponse {
    /// The names with their kinds.
    #[prost(message, repeated, tag = "1")]
    pub operations: Vec<Operation>,
}

/// What spans of a service are called.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Operation {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The kind.
    #[prost(string, tag = "2")]
    pub span_kind: String,
}

const SECOND_NS: i64 = 1_000_000_000;

impl Timestamp {
    /// Nanoseconds since 1970, as far as there are.
    pub fn nanoseconds(&self) -> i64 {
        let seconds = self.seconds.saturating_mul(SECOND_NS);
        seconds.saturating_add(self.nanos.into())
    }
}

impl Duration {
    /// Nanoseconds, as many as there can be.
    pub fn nanoseconds(&self) -> i64 {
        let seconds = self.seconds.saturating_mul(SECOND_NS);
        seconds.saturating_add(self.nanos.into())
    }
}
