//! Messages of Tempo's read API (`tempopb`), as `api::tempo` answers with them: in protobuf by
//! these definitions, in JSON by the writers beside the handlers. Spans are those of OTLP, which
//! the API shares on the wire.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

/// A trace, whole or as much of it as there is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Trace {
    /// Its spans by resource and scope.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// The answer of the second version of trace by id.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceByIdResponse {
    /// The trace. Grafana reads it without asking whether it is there: always set, empty when the
    /// trace is not known.
    #[prost(message, optional, tag = "1")]
    pub trace: Option<Trace>,
}

/// The answer to a search.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchResponse {
    /// The traces, the newest first.
    #[prost(message, repeated, tag = "1")]
    pub traces: Vec<TraceSearchMetadata>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
}

/// One trace that was found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceSearchMetadata {
    /// Its id, 32 hexadecimal digits.
    #[prost(string, tag = "1")]
    pub trace_id: String,
    /// The service of its root span.
    #[prost(string, tag = "2")]
    pub root_service_name: String,
    /// The name of its root span.
    #[prost(string, tag = "3")]
    pub root_trace_name: String,
    /// When it began, nanoseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub start_time_unix_nano: u64,
    /// From its first start to its last end, milliseconds.
    #[prost(uint32, tag = "5")]
    pub duration_ms: u32,
    /// The first of `span_sets`, for clients that know only one.
    #[prost(message, optional, tag = "6")]
    pub span_set: Option<SpanSet>,
    /// The sets of spans that the query found in it.
    #[prost(message, repeated, tag = "7")]
    pub span_sets: Vec<SpanSet>,
}

/// Spans of one trace that a query found together.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpanSet {
    /// Some of them.
    #[prost(message, repeated, tag = "1")]
    pub spans: Vec<Span>,
    /// How many there are.
    #[prost(uint32, tag = "2")]
    pub matched: u32,
    /// What the query computed of them.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

/// One span that a query found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// Its id, 16 hexadecimal digits.
    #[prost(string, tag = "1")]
    pub span_id: String,
    /// Its name, when the query is about it.
    #[prost(string, tag = "2")]
    pub name: String,
    /// When it began, nanoseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub start_time_unix_nano: u64,
    /// How long it was, nanoseconds.
    #[prost(uint64, tag = "4")]
    pub duration_nanos: u64,
    /// The attributes that the query is about.
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<KeyValue>,
}

/// What a search took.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchMetrics {
    /// Traces that were looked at.
    #[prost(uint32, tag = "1")]
    pub inspected_traces: u32,
    /// Bytes that were read.
    #[prost(uint64, tag = "2")]
    pub inspected_bytes: u64,
    /// Blocks that there were.
    #[prost(uint32, tag = "3")]
    pub total_blocks: u32,
    /// Parts of the work that are done.
    #[prost(uint32, tag = "4")]
    pub completed_jobs: u32,
    /// Parts of the work.
    #[prost(uint32, tag = "5")]
    pub total_jobs: u32,
    /// Bytes of those blocks.
    #[prost(uint64, tag = "6")]
    pub total_block_bytes: u64,
    /// Spans that were looked at.
    #[prost(uint64, tag = "7")]
    pub inspected_spans: u64,
}
