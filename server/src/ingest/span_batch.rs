//! Spans of other protocols on their way to the trace engine: each is written as OTLP as soon as it is
//! read, so that a request takes no more memory than its bytes and those of its spans.
//! `ingest::jaeger_thrift` and `ingest::zipkin` fill it.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// Tags, logs with their fields and references that one span may have. The engine refuses spans long
/// before; this bounds what is in memory until it can.
pub const SPAN_ITEMS_MAX: usize = 65_536;

/// The fields of OTLP's messages that are written here.
const RESOURCE_SPANS: u32 = 1;
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SCOPE: u32 = 1;
const SPANS: u32 = 2;

/// Spans under their resources and scopes, written.
#[derive(Debug)]
pub struct SpanBatch {
    bytes_max: usize,
    groups: Vec<Group>,
    /// The places of groups by resource and scope.
    places: HashMap<(Vec<u8>, Vec<u8>), usize>,
    count: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Group {
    resource: Vec<u8>,
    scope: Vec<u8>,
    spans: Vec<u8>,
}

/// The spans of a request take more bytes than they may; the text continues "the message ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge(pub usize);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(max) = self;
        write!(
            f,
            "the message holds spans that take more than {max} bytes as OTLP"
        )
    }
}

impl std::error::Error for TooLarge {}

impl SpanBatch {
    /// A batch that takes `bytes_max` bytes and one span.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            groups: Vec::new(),
            places: HashMap::new(),
            count: 0,
            bytes: 0,
        }
    }

    /// Adds a span.
    ///
    /// # Errors
    /// [`TooLarge`] when the batch is full.
    pub fn push(
        &mut self,
        resource: &Resource,
        scope: &InstrumentationScope,
        span: &Span,
    ) -> Result<(), TooLarge> {
        if self.bytes > self.bytes_max {
            return Err(TooLarge(self.bytes_max));
        }
        let key = (resource.encode_to_vec(), scope.encode_to_vec());
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => {
                let at = self.groups.len();
                self.bytes += 2 * (key.0.len() + key.1.len());
                self.groups.push(Group {
                    resource: key.0.clone(),
                    scope: key.1.clone(),
                    spans: Vec::new(),
                });
                self.places.insert(key, at);
                at
            }
        };
        if let Some(group) = self.groups.get_mut(at) {
            let before = group.spans.len();
            encode_key(SPANS, WireType::LengthDelimited, &mut group.spans);
            encode_varint(span.encoded_len() as u64, &mut group.spans);
            span.encode_raw(&mut group.spans);
            self.bytes += group.spans.len() - before;
            self.count += 1;
        }
        Ok(())
    }

    /// How many spans there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The spans as an `ExportTraceServiceRequest`.
    pub fn finish(self) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes);
        for group in self.groups {
            let mut of_scope = Vec::with_capacity(group.scope.len() + group.spans.len() + 16);
            message(SCOPE, &group.scope, &mut of_scope);
            of_scope.extend_from_slice(&group.spans);
            drop(group.spans);
            let mut of_resource = Vec::with_capacity(group.resource.len() + of_scope.len() + 32);
            message(RESOURCE, &group.resource, &mut of_resource);
            message(SCOPE_SPANS, &of_scope, &mut of_resource);
            drop(of_scope);
            message(RESOURCE_SPANS, &of_resource, &mut out);
        }
        out.into()
    }
}

fn message(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    use super::*;
    use crate::ingest::jaeger_tags;

    #[test]
    fn what_is_written_is_a_request_of_otlp() {
        let resource = |name: &str| Resource {
            attributes: vec![jaeger_tags::text(jaeger_tags::SERVICE, name)],
            ..Resource::default()
        };
        let scope = |name: &str| InstrumentationScope {
            name: name.to_owned(),
            ..InstrumentationScope::default()
        };
        let span = |name: &str| Span {
            name: name.to_owned(),
            trace_id: vec![1; 16],
            ..Span::default()
        };
        let mut batch = SpanBatch::new(usize::MAX);
        assert!(batch.is_empty());
        for (service, library, name) in [
            ("a", "x", "1"),
            ("b", "x", "2"),
            ("a", "x", "3"),
            ("a", "y", "4"),
        ] {
            batch
                .push(&resource(service), &scope(library), &span(name))
                .unwrap();
        }
        assert_eq!(batch.len(), 4);
        let group = |service: &str, library: &str, names: &[&str]| ResourceSpans {
            resource: Some(resource(service)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope(library)),
                spans: names.iter().map(|name| span(name)).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        };
        let expect = vec![
            group("a", "x", &["1", "3"]),
            group("b", "x", &["2"]),
            group("a", "y", &["4"]),
        ];
        let read = ExportTraceServiceRequest::decode(batch.finish()).unwrap();
        assert_eq!(read.resource_spans, expect);
    }

    #[test]
    fn a_batch_has_a_limit() {
        let (resource, scope) = (Resource::default(), InstrumentationScope::default());
        let span = Span {
            name: "x".repeat(100),
            ..Span::default()
        };
        let push = |bytes_max: usize| {
            let mut batch = SpanBatch::new(bytes_max);
            let pushed: Vec<bool> = (0..3)
                .map(|_| batch.push(&resource, &scope, &span).is_ok())
                .collect();
            (pushed, batch.len())
        };
        let one = 2 + span.encoded_len();
        assert_eq!(push(2 * one), (vec![true; 3], 3));
        assert_eq!(push(2 * one - 1), (vec![true, true, false], 2));
        assert_eq!(push(0), (vec![true, false, false], 1));
    }
}
