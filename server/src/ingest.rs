//! The write paths: each protocol is read, translated and given to an engine here.
//!
//! Translators are plain functions over a `Sink`, tested without HTTP and without engines
//! ([`remote_write`], [`remote_write_v2`], [`loki_push`], [`otlp_metrics`], [`otlp_logs`], [`otlp_traces`],
//! [`jaeger_thrift`], [`zipkin`] with what they share, such as [`log_rules`] and [`span_batch`]); [`store`] holds the sinks;
//! [`http`], [`otlp_http`], [`span_http`] and [`grpc`] are the handlers.

pub mod elections;
pub mod grpc;
pub mod http;
pub mod jaeger_tags;
pub mod jaeger_thrift;
pub mod known_series;
pub mod log_rules;
pub mod loki_push;
pub mod metric_labels;
pub mod metric_rows;
pub mod otlp;
pub mod otlp_http;
pub mod otlp_logs;
pub mod otlp_metrics;
pub mod otlp_names;
pub mod otlp_traces;
pub mod otlp_value;
pub mod rates;
#[cfg(test)]
mod recorder;
pub mod rejections;
pub mod remote_write;
pub mod remote_write_v2;
pub mod span_batch;
pub mod span_http;
pub mod store;
pub mod stream;
pub mod zipkin;
