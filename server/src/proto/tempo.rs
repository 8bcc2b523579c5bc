//! Messages of Tempo's read API (`tempopb`), as `api::tempo` answers with them: in protobuf by
//! these definitions, in JSON by the writers beside the handlers. Spans are those of OTLP, which
//! the API shares on the wire. The requests are those of `tempopb.StreamingQuerier`.

use std::collections::HashMap;

use bytes::Bytes;
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
    /// The bytes of a [`Trace`]. Grafana reads it without asking whether it is there: always set,
    /// empty when the trace is not known.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub trace: Option<Bytes>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<TraceByIdMetrics>,
    /// Whether this is all of the trace.
    #[prost(enumeration = "PartialStatus", tag = "3")]
    pub status: i32,
    /// Why it is not.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// What a trace by its id took.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct TraceByIdMetrics {
    /// Bytes that were read.
    #[prost(uint64, tag = "1")]
    pub inspected_bytes: u64,
}

/// Whether an answer is all that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PartialStatus {
    /// It is.
    Complete = 0,
    /// It is a part of it.
    Partial = 1,
}

/// A search.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchRequest {
    /// The search that is older than TraceQL: what attributes must be.
    #[prost(map = "string, string", tag = "1")]
    pub tags: HashMap<String, String>,
    /// The least duration of a trace, milliseconds; 0 for any.
    #[prost(uint32, tag = "2")]
    pub min_duration_ms: u32,
    /// The greatest duration of a trace, milliseconds; 0 for any.
    #[prost(uint32, tag = "3")]
    pub max_duration_ms: u32,
    /// The most traces; 0 for the usual number.
    #[prost(uint32, tag = "4")]
    pub limit: u32,
    /// Seconds since 1970; 0 with `end` for all of time.
    #[prost(uint32, tag = "5")]
    pub start: u32,
    /// Seconds since 1970.
    #[prost(uint32, tag = "6")]
    pub end: u32,
    /// TraceQL.
    #[prost(string, tag = "8")]
    pub query: String,
    /// The most spans of a set; 0 for the usual number.
    #[prost(uint32, tag = "9")]
    pub spans_per_span_set: u32,
}

/// A question for names of attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchTagsRequest {
    /// The scope; empty for all.
    #[prost(string, tag = "1")]
    pub scope: String,
    /// TraceQL that the spans satisfy.
    #[prost(string, tag = "2")]
    pub query: String,
    /// Seconds since 1970; 0 with `end` for all of time.
    #[prost(uint32, tag = "3")]
    pub start: u32,
    /// Seconds since 1970.
    #[prost(uint32, tag = "4")]
    pub end: u32,
    /// The most names of a scope; 0 for any number.
    #[prost(uint32, tag = "5")]
    pub max_tags_per_scope: u32,
}

/// A question for values of an attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchTagValuesRequest {
    /// The attribute.
    #[prost(string, tag = "1")]
    pub tag_name: String,
    /// TraceQL that the spans satisfy.
    #[prost(string, tag = "2")]
    pub query: String,
    /// Seconds since 1970; 0 with `end` for all of time.
    #[prost(uint32, tag = "4")]
    pub start: u32,
    /// Seconds since 1970.
    #[prost(uint32, tag = "5")]
    pub end: u32,
    /// The most values; 0 for any number.
    #[prost(uint32, tag = "6")]
    pub max_tag_values: u32,
}

/// A TraceQL metrics query over a range.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryRangeRequest {
    /// TraceQL.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub end: u64,
    /// Nanoseconds; 0 for what suits the range.
    #[prost(uint64, tag = "4")]
    pub step: u64,
    /// The most exemplars; 0 for the usual number.
    #[prost(uint32, tag = "16")]
    pub exemplars: u32,
    /// The most series; 0 for as many as there may be.
    #[prost(uint32, tag = "17")]
    pub max_series: u32,
}

/// A TraceQL metrics query with one value a series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryInstantRequest {
    /// TraceQL.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub end: u64,
}

/// Names of attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchTagsResponse {
    /// The names.
    #[prost(string, repeated, tag = "1")]
    pub tag_names: Vec<String>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Names of attributes by scope.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchTagsV2Response {
    /// The scopes.
    #[prost(message, repeated, tag = "1")]
    pub scopes: Vec<SearchTagsV2Scope>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Names of the attributes of a scope.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchTagsV2Scope {
    /// The scope.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The names.
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
}

/// Values of an attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchTagValuesResponse {
    /// The values.
    #[prost(string, repeated, tag = "1")]
    pub tag_values: Vec<String>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Values of an attribute with their types.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchTagValuesV2Response {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub tag_values: Vec<TagValue>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// A value and its type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct TagValue {
    /// One of `string int float bool duration keyword`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// The value as text.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What an answer about names or values took.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct MetadataMetrics {
    /// Bytes that were read.
    #[prost(uint64, tag = "1")]
    pub inspected_bytes: u64,
    /// Parts of the work.
    #[prost(uint32, tag = "2")]
    pub total_jobs: u32,
    /// Parts of the work that are done.
    #[prost(uint32, tag = "3")]
    pub completed_jobs: u32,
    /// Blocks that there were.
    #[prost(uint32, tag = "4")]
    pub total_blocks: u32,
    /// Bytes of those blocks.
    #[prost(uint64, tag = "5")]
    pub total_block_bytes: u64,
}

/// The answer to a metrics query over a range.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryRangeResponse {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<TimeSeries>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
    /// Whether these are all series.
    #[prost(enumeration = "PartialStatus", tag = "3")]
    pub status: i32,
    /// Why they are not.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// Values of one group over time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// What tells the group from others.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// The values.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Spans that were counted.
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar>,
}

/// A value at a time.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sample {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub timestamp_ms: i64,
}

/// A span that was counted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exemplar {
    /// Which.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// What was measured of it.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// When it began, milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub timestamp_ms: i64,
}

/// The answer to a metrics query with one value a series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryInstantResponse {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<InstantSeries>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
    /// Whether these are all series.
    #[prost(enumeration = "PartialStatus", tag = "3")]
    pub status: i32,
    /// Why they are not.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// The value of one group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InstantSeries {
    /// What tells the group from others.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// The value.
    #[prost(double, tag = "2")]
    pub value: f64,
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
    /// Spans of the whole trace by service.
    #[prost(map = "string, message", tag = "8")]
    pub service_stats: HashMap<String, ServiceStats>,
}

/// Spans of a trace that one service sent.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ServiceStats {
    /// How many.
    #[prost(uint32, tag = "1")]
    pub span_count: u32,
    /// How many of them failed.
    #[prost(uint32, tag = "2")]
    pub error_count: u32,
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
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
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
