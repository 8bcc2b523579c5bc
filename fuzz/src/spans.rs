//! Requests of Jaeger's and Zipkin's clients: what is read of them are spans that OTLP can write.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use trine_server::ingest::span_batch::SpanBatch;
use trine_server::ingest::{jaeger_thrift, zipkin};
use trine_server::proto::thrift::Protocol;

/// The bytes of the spans of one request.
const BYTES_MAX: usize = 1 << 20;

/// The first byte says which protocol the others are.
pub(crate) fn jaeger(data: &[u8]) {
    let Some((which, message)) = data.split_first() else {
        return;
    };
    let protocol = match which % 2 {
        0 => Protocol::Binary,
        _ => Protocol::Compact,
    };
    if let Ok(batch) = jaeger_thrift::translate(message, protocol, BYTES_MAX) {
        check(batch, message.len());
    }
}

pub(crate) fn zipkin(data: &[u8]) {
    if let Ok(batch) = zipkin::translate(data, BYTES_MAX) {
        check(batch, data.len());
    }
}

fn check(batch: SpanBatch, bytes: usize) {
    let count = batch.len();
    assert!(count <= bytes as u64, "{count} spans of {bytes} bytes");
    let request = ExportTraceServiceRequest::decode(batch.finish()).expect("spans of OTLP");
    let scopes = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
    assert_eq!(count, scopes.map(|of| of.spans.len() as u64).sum::<u64>());
}
