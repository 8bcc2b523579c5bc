//! OTLP spans as the trace engine keeps them: everything that arrives comes back unchanged. The
//! HTTP and gRPC handlers of `ingest` and `observe` call [`store`].

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as proto;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message;
use trine_storage::Error;
use trine_tracestore::{
    AnyValue, Appender, Commit, Durability, Event, KeyValue, Link, Resource, Scope, Span, SpanId,
    Status, TraceId, TraceStore,
};

use super::rejections::Rejections;
use super::store::{Outcome, PIECE_BYTES};
use crate::config::Limits;
use crate::refusal::Refusal;

/// Stores the spans of `request` and says what was refused.
///
/// # Errors
/// The engine's; nothing is acknowledged then.
pub fn store(
    engine: &TraceStore,
    request: ExportTraceServiceRequest,
    limits: &Limits,
) -> Result<Outcome, Refusal> {
    let mut spans = Spans::new(engine);
    let rejections = translate(request, limits, &mut |resource, scope, span, bytes| {
        spans.add(resource, scope, span, bytes);
    });
    spans.commit(rejections)
}

/// Stages spans.
struct Spans<'a> {
    engine: &'a TraceStore,
    appender: Appender,
    bytes: usize,
    commits: Vec<Commit>,
    failed: Option<Error>,
}

impl<'a> Spans<'a> {
    fn new(engine: &'a TraceStore) -> Self {
        let appender = engine.appender();
        Self {
            engine,
            appender,
            bytes: 0,
            commits: Vec::new(),
            failed: None,
        }
    }

    fn add(&mut self, resource: &Arc<Resource>, scope: &Arc<Scope>, span: Span, bytes: usize) {
        self.appender.append(resource, scope, span);
        self.bytes += bytes.max(1);
        if self.bytes >= PIECE_BYTES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if self.bytes == 0 || self.failed.is_some() {
            return;
        }
        self.bytes = 0;
        let appender = std::mem::replace(&mut self.appender, self.engine.appender());
        match appender.commit(Durability::Synced) {
            Ok(commit) => self.commits.push(commit),
            Err(error) => self.failed = Some(error),
        }
    }

    fn commit(mut self, rejections: Rejections) -> Result<Outcome, Refusal> {
        self.hand_over();
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let mut outcome = Outcome {
            rejections,
            ..Outcome::default()
        };
        for commit in self.commits {
            let accepted = commit.wait()?;
            outcome.stored += accepted.stored;
            for rejected in accepted.rejected {
                let text = format!("{}: {}", rejected.reason, rejected.example);
                outcome.rejections.add(rejected.count, text);
            }
        }
        Ok(outcome)
    }
}

/// Takes a span and about how many bytes it takes.
type Each<'a> = dyn FnMut(&Arc<Resource>, &Arc<Scope>, Span, usize) + 'a;

/// Gives every good span of `request` to `each`, with about how many bytes it takes, and says what
/// is wrong with the others.
fn translate(
    request: ExportTraceServiceRequest,
    limits: &Limits,
    each: &mut Each<'_>,
) -> Rejections {
    let mut rejections = Rejections::default();
    for of_resource in request.resource_spans {
        let resource = Arc::new(resource(of_resource.resource, of_resource.schema_url));
        if resource.attributes.len() > limits.trace_attributes_max {
            let spans: usize = of_resource
                .scope_spans
                .iter()
                .map(|scope| scope.spans.len())
                .sum();
            let text = too_many("resource", resource.attributes.len(), limits);
            rejections.add(spans as u64, text);
            continue;
        }
        for of_scope in of_resource.scope_spans {
            let scope = Arc::new(scope(of_scope.scope, of_scope.schema_url));
            for span in of_scope.spans {
                let bytes = span.encoded_len();
                match check(&span, limits).and_then(|()| convert(span)) {
                    Ok(span) => each(&resource, &scope, span, bytes),
                    Err(text) => rejections.add(1, text),
                }
            }
        }
    }
    rejections
}

fn too_many(what: &str, count: usize, limits: &Limits) -> String {
    format!(
        "a {what} has {count} attributes, limit {}",
        limits.trace_attributes_max
    )
}

fn check(span: &trace::Span, limits: &Limits) -> Result<(), String> {
    let events = span
        .events
        .iter()
        .map(|event| ("event", event.attributes.len()));
    let links = span
        .links
        .iter()
        .map(|link| ("link", link.attributes.len()));
    let all = [("span", span.attributes.len())]
        .into_iter()
        .chain(events)
        .chain(links);
    let over = all
        .into_iter()
        .find(|(_, count)| *count > limits.trace_attributes_max);
    match over {
        Some((what, count)) => Err(too_many(what, count, limits)),
        None => Ok(()),
    }
}

fn resource(
    from: Option<opentelemetry_proto::tonic::resource::v1::Resource>,
    url: String,
) -> Resource {
    let from = from.unwrap_or_default();
    Resource {
        attributes: attributes(from.attributes),
        dropped_attributes_count: from.dropped_attributes_count,
        schema_url: url,
    }
}

fn scope(from: Option<proto::InstrumentationScope>, url: String) -> Scope {
    let from = from.unwrap_or_default();
    Scope {
        name: from.name,
        version: from.version,
        attributes: attributes(from.attributes),
        dropped_attributes_count: from.dropped_attributes_count,
        schema_url: url,
    }
}

fn convert(from: trace::Span) -> Result<Span, String> {
    Ok(Span {
        trace_id: trace_id(&from.trace_id)?,
        span_id: span_id(&from.span_id)?,
        trace_state: from.trace_state,
        parent_span_id: parent_id(&from.parent_span_id)?,
        name: from.name,
        kind: from.kind,
        start_ns: from.start_time_unix_nano,
        end_ns: from.end_time_unix_nano,
        attributes: attributes(from.attributes),
        dropped_attributes_count: from.dropped_attributes_count,
        events: from.events.into_iter().map(event).collect(),
        dropped_events_count: from.dropped_events_count,
        links: from.links.into_iter().map(link).collect(),
        dropped_links_count: from.dropped_links_count,
        status: from.status.map(|status| Status {
            code: status.code,
            message: status.message,
        }),
        flags: from.flags,
    })
}

fn trace_id(bytes: &[u8]) -> Result<TraceId, String> {
    let id = TraceId::try_from(bytes).map_err(|_| {
        format!(
            "trace ids must be 128 bit, received {} bits",
            8 * bytes.len()
        )
    })?;
    let text = "trace ids must not be all zero";
    if is_zero(&id) {
        Err(text.to_owned())
    } else {
        Ok(id)
    }
}

fn span_id(bytes: &[u8]) -> Result<SpanId, String> {
    let bits = 8 * bytes.len();
    let id = SpanId::try_from(bytes).ok().filter(|id| !is_zero(id));
    id.ok_or_else(|| format!("span ids must be 64 bit and not all zero, received {bits} bits"))
}

/// No parent is an empty id, or one of zeros.
fn parent_id(bytes: &[u8]) -> Result<Option<SpanId>, String> {
    if is_zero(bytes) {
        return Ok(None);
    }
    let bits = 8 * bytes.len();
    let id = SpanId::try_from(bytes);
    id.map(Some)
        .map_err(|_| format!("parent span ids must be 64 bit, received {bits} bits"))
}

fn is_zero(id: &[u8]) -> bool {
    id.iter().all(|&byte| byte == 0)
}

fn event(from: trace::span::Event) -> Event {
    Event {
        time_ns: from.time_unix_nano,
        name: from.name,
        attributes: attributes(from.attributes),
        dropped_attributes_count: from.dropped_attributes_count,
    }
}

fn link(from: trace::span::Link) -> Link {
    Link {
        trace_id: from.trace_id,
        span_id: from.span_id,
        trace_state: from.trace_state,
        attributes: attributes(from.attributes),
        dropped_attributes_count: from.dropped_attributes_count,
        flags: from.flags,
    }
}

fn attributes(from: Vec<proto::KeyValue>) -> Vec<KeyValue> {
    let pair = |pair: proto::KeyValue| KeyValue {
        key: pair.key,
        value: value(pair.value),
    };
    from.into_iter().map(pair).collect()
}

fn value(from: Option<proto::AnyValue>) -> AnyValue {
    match from.and_then(|value| value.value) {
        // The index points into a table that only profiles have.
        None | Some(Value::StringValueStrindex(_)) => AnyValue::Empty,
        Some(Value::StringValue(text)) => AnyValue::String(text),
        Some(Value::BoolValue(truth)) => AnyValue::Bool(truth),
        Some(Value::IntValue(number)) => AnyValue::Int(number),
        Some(Value::DoubleValue(number)) => AnyValue::Double(number),
        Some(Value::BytesValue(bytes)) => AnyValue::Bytes(bytes),
        Some(Value::ArrayValue(array)) => AnyValue::Array(
            array
                .values
                .into_iter()
                .map(|item| value(Some(item)))
                .collect(),
        ),
        Some(Value::KvlistValue(list)) => AnyValue::KeyValues(attributes(list.values)),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        AnyValue, ExportTraceServiceRequest, Limits, Span, parent_id, proto, trace, translate,
    };
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    fn good() -> trace::Span {
        trace::Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            ..trace::Span::default()
        }
    }

    fn pair(value: Value) -> proto::KeyValue {
        let value = Some(proto::AnyValue { value: Some(value) });
        proto::KeyValue {
            key: "k".into(),
            value,
            ..proto::KeyValue::default()
        }
    }

    fn run(spans: Vec<trace::Span>) -> (Vec<Span>, String) {
        let scope_spans = vec![trace::ScopeSpans {
            spans,
            ..trace::ScopeSpans::default()
        }];
        let resource_spans = vec![trace::ResourceSpans {
            scope_spans,
            ..trace::ResourceSpans::default()
        }];
        let limits = Limits {
            trace_attributes_max: 2,
            ..Limits::default()
        };
        let mut got = Vec::new();
        let request = ExportTraceServiceRequest { resource_spans };
        let rejections = translate(request, &limits, &mut |_, _, span, bytes| {
            assert!(bytes > 0);
            got.push(span);
        });
        (got, rejections.text("; "))
    }

    #[test]
    fn a_bad_span_is_refused_and_the_others_are_kept() {
        let bad = |change: fn(&mut trace::Span)| {
            let mut span = good();
            change(&mut span);
            span
        };
        let (got, told) = run(vec![
            bad(|span| span.trace_id = vec![1; 8]),
            bad(|span| span.trace_id = vec![0; 16]),
            good(),
            bad(|span| span.span_id = vec![0; 8]),
            bad(|span| span.span_id = Vec::new()),
            bad(|span| span.parent_span_id = vec![1; 3]),
            bad(|span| span.attributes = vec![pair(Value::BoolValue(true)); 3]),
            bad(|span| span.attributes = vec![pair(Value::BoolValue(true)); 2]),
        ]);
        assert_eq!(
            got.len(),
            2,
            "one of them has as many attributes as are allowed"
        );
        assert_eq!(
            told,
            "trace ids must be 128 bit, received 64 bits; trace ids must not be all zero; span ids \
             must be 64 bit and not all zero, received 64 bits; span ids must be 64 bit and not \
             all zero, received 0 bits; parent span ids must be 64 bit, received 24 bits; a span \
             has 3 attributes, limit 2"
        );
    }

    #[test]
    fn values_of_every_kind_are_kept() {
        let list = proto::KeyValueList {
            values: vec![pair(Value::IntValue(-1))],
        };
        let array = proto::ArrayValue {
            values: vec![proto::AnyValue {
                value: Some(Value::DoubleValue(0.5)),
            }],
        };
        for (value, expect) in [
            (Value::StringValue("s".into()), AnyValue::String("s".into())),
            (Value::BytesValue(vec![0]), AnyValue::Bytes(vec![0])),
            (
                Value::ArrayValue(array),
                AnyValue::Array(vec![AnyValue::Double(0.5)]),
            ),
            (
                Value::KvlistValue(list),
                AnyValue::KeyValues(vec![super::KeyValue {
                    key: "k".into(),
                    value: AnyValue::Int(-1),
                }]),
            ),
        ] {
            let (got, _) = run(vec![trace::Span {
                attributes: vec![pair(value)],
                ..good()
            }]);
            assert_eq!(got[0].attributes[0].value, expect);
        }
        assert_eq!(parent_id(&[]), Ok(None));
        assert_eq!(parent_id(&[0; 8]), Ok(None));
        assert_eq!(parent_id(&[3; 8]), Ok(Some([3; 8])));
    }
}
