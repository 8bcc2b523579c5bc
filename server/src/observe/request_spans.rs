//! One span for each served request: the middleware of the router makes it, `observe` appends it
//! to the tenant `trine`.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use parking_lot::Mutex;
use trine_storage::cost::Spent;

use super::query_cost;
use crate::app::App;
use crate::tenants::TenantId;

/// Spans that wait to be stored; more are dropped and counted.
const SPANS_MAX: usize = 4096;

/// OTLP's numbers.
const KIND_INTERNAL: i32 = 1;
const KIND_SERVER: i32 = 2;
const STATUS_ERROR: i32 = 2;

/// Spans that wait to be stored; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct RequestSpans(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<Span>,
    dropped: u64,
}

impl RequestSpans {
    /// Adds a span, or drops and counts it when there is no room.
    pub fn push(&self, span: Span) {
        let mut waiting = self.0.lock();
        if waiting.spans.len() < SPANS_MAX {
            waiting.spans.push_back(span);
        } else {
            waiting.dropped += 1;
        }
    }

    /// Takes what waits, and how many were dropped since the last time.
    pub fn take(&self) -> (Vec<Span>, u64) {
        let mut waiting = self.0.lock();
        let dropped = std::mem::take(&mut waiting.dropped);
        (waiting.spans.drain(..).collect(), dropped)
    }
}

/// Measures a request: counts it, and makes a span of it.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or("other", MatchedPath::as_str).to_owned();
    let method = request.method().to_string();
    let tenant = tenants(request.headers());
    let parent = Parent::of(request.headers());
    let started_ns = app.clock.now_ns();
    let started = app.clock.monotonic_ns();

    let response = next.run(request).await;

    let took = Duration::from_nanos(app.clock.monotonic_ns().saturating_sub(started));
    let status = response.status().as_u16();
    app.observer.registry.request(&route, &method, status, took);
    if app.config.self_observe {
        let mut span = named(format!("{method} {route}"), started_ns, took, parent);
        span.kind = KIND_SERVER;
        span.attributes = vec![
            text("http.request.method", &method),
            text("http.route", &route),
            int("http.response.status_code", i64::from(status)),
            text("trine.tenant", &tenant),
        ];
        if let Some(spent) = response.extensions().get::<Spent>() {
            span.attributes.extend(of_storage(spent));
        }
        if status >= 500 {
            span.status = Some(Status {
                code: STATUS_ERROR,
                ..Status::default()
            });
        }
        app.observer.spans.push(span);
    }
    response
}

/// What the request cost of the bucket.
fn of_storage(spent: &Spent) -> [KeyValue; 4] {
    let count = |key, value: u64| int(key, i64::try_from(value).unwrap_or(i64::MAX));
    [
        count("trine.storage.requests", spent.requests),
        count("trine.storage.bytes", spent.bytes),
        count("trine.storage.depth", spent.depth),
        count("trine.storage.hits", query_cost::hits(spent)),
    ]
}

/// The tenants that a request names, `a|b` for two of them.
fn tenants(headers: &HeaderMap) -> String {
    let Ok(ids) = TenantId::all_of(headers) else {
        return "invalid".to_owned();
    };
    let ids: Vec<&str> = ids.iter().map(TenantId::as_str).collect();
    ids.join("|")
}

/// The span of something that the server did by itself.
pub fn internal(name: &str, started_ns: i64, took: Duration) -> Span {
    let mut span = named(name.to_owned(), started_ns, took, None);
    span.kind = KIND_INTERNAL;
    span
}

/// Spans as a request of the server to itself.
pub fn export(spans: Vec<Span>, instance: &str) -> ExportTraceServiceRequest {
    let attributes = vec![
        text("service.name", "trine"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", instance),
    ];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "trine".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// The caller's span, from the header `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parent {
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
}

impl Parent {
    fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get("traceparent")?.to_str().ok()?)
    }

    /// `00-<32 hex digits>-<16 hex digits>-<flags>`, neither id all zeros.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next()?;
        let known = version.len() == 2 && version != "ff" && trace.len() == 32 && span.len() == 16;
        let parent = Self {
            trace_id: unhex(trace)?,
            span_id: unhex(span)?,
        };
        let is_zero = |id: &[u8]| id.iter().all(|&byte| byte == 0);
        (known && !is_zero(&parent.trace_id) && !is_zero(&parent.span_id)).then_some(parent)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    text.as_bytes()
        .chunks(2)
        .map(|two| match two {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

fn named(name: String, started_ns: i64, took: Duration, parent: Option<Parent>) -> Span {
    let start = u64::try_from(started_ns).unwrap_or(0);
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let parent = parent.unwrap_or_else(|| Parent {
        trace_id: [random(), random()].concat(),
        span_id: Vec::new(),
    });
    Span {
        trace_id: parent.trace_id,
        span_id: random().to_vec(),
        parent_span_id: parent.span_id,
        name,
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(took),
        ..Span::default()
    }
}

/// Eight random bytes, never all zero: the standard library's hasher keys are random and differ
/// from call to call.
fn random() -> [u8; 8] {
    let bits = RandomState::new().build_hasher().finish();
    (bits | 1 << 63).to_be_bytes()
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Parent, RequestSpans, SPANS_MAX, internal, random};

    #[test]
    fn parents() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = Parent::parse(good).unwrap();
        assert_eq!(parent.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(parent.span_id[7], 0x31);
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_queue_has_an_end() {
        let spans = RequestSpans::default();
        for _ in 0..=SPANS_MAX {
            spans.push(internal("x", 5, Duration::from_nanos(2)));
        }
        let (got, dropped) = spans.take();
        assert_eq!((got.len(), dropped), (SPANS_MAX, 1));
        assert_eq!(
            (got[0].start_time_unix_nano, got[0].end_time_unix_nano),
            (5, 7)
        );
        assert_eq!((got[0].trace_id.len(), got[0].span_id.len()), (16, 8));
        assert_ne!(random(), random());
    }
}
