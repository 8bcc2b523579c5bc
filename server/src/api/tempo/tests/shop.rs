//! Traces of a shop for tests: one of six spans, of which one fails, and some short ones.

use std::sync::Arc;

use trine_tracestore::{AnyValue, Durability, Event, KeyValue, Resource, Scope, Span, Status};

use super::super::mount;
use crate::api::prometheus::run::harness::Harness;
use crate::config::Config;
use crate::tenants::{Tenant, TenantId};

/// When the first span begins.
pub(super) const START_NS: u64 = START_S * 1_000_000_000;
pub(super) const START_S: u64 = 1_700_000_000;

const MS: u64 = 1_000_000;

pub(super) fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
    }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    pair(key, AnyValue::String(value.to_owned()))
}

pub(super) fn trace_id(number: u8) -> [u8; 16] {
    let mut id = [0; 16];
    id[15] = number;
    id
}

fn span_id(number: u8) -> [u8; 8] {
    [0, 0, 0, 0, 0, 0, 0, number]
}

/// A span of a trace under a parent, 0 for none.
pub(super) fn span((trace, id, parent): (u8, u8, u8), name: &str) -> Span {
    let start_ns = START_NS + u64::from(id) * MS;
    Span {
        trace_id: trace_id(trace),
        span_id: span_id(id),
        parent_span_id: (parent > 0).then(|| span_id(parent)),
        name: name.to_owned(),
        kind: 2,
        start_ns,
        end_ns: start_ns + 5 * MS,
        ..Span::default()
    }
}

fn with_code(mut span: Span, code: i64) -> Span {
    span.attributes
        .push(pair("http.status_code", AnyValue::Int(code)));
    span
}

/// Stores spans of one service.
pub(super) fn push(tenant: &Tenant, service: &str, spans: impl IntoIterator<Item = Span>) {
    let mut appender = tenant.traces().unwrap().appender();
    let resource = Arc::new(Resource {
        attributes: vec![text("service.name", service)],
        ..Resource::default()
    });
    for span in spans {
        appender.append(&resource, &Arc::new(Scope::default()), span);
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
}

/// The trace 1: A(1) above B(2) and D(4), B above C(3), C above E(5), E above F(6). C failed.
pub(super) fn six() -> Vec<Span> {
    let mut c = with_code(span((1, 3, 2), "C"), 500);
    c.status = Some(Status {
        code: 2,
        message: "no stock".to_owned(),
    });
    c.events.push(Event {
        time_ns: c.start_ns + MS,
        name: "exception".to_owned(),
        attributes: vec![text("exception.message", "boom")],
        ..Event::default()
    });
    vec![
        span((1, 1, 0), "A"),
        span((1, 2, 1), "B"),
        c,
        with_code(span((1, 4, 1), "D"), 200),
        span((1, 5, 3), "E"),
        span((1, 6, 5), "F"),
    ]
}

/// The tenant of requests that name none has the trace 1, and the traces 2 to 9 of one span each, a
/// second apart.
pub(super) fn shop(change: impl FnOnce(&mut Config)) -> Harness {
    let harness = Harness::new(mount, change);
    let tenant = harness.tenant();
    push(&tenant, "shop", six());
    let short = (2..10).map(|number| {
        let mut short = span((number, number, 0), "GET /cart");
        short.start_ns += u64::from(number) * 1_000 * MS;
        short.end_ns = short.start_ns + u64::from(number) * MS;
        short.kind = 3;
        short
    });
    push(&tenant, "cart", short);
    harness
}

/// Another tenant.
pub(super) fn tenant(harness: &Harness, id: &str) -> Arc<Tenant> {
    let id = TenantId::parse(id).unwrap();
    harness.app.tenants.get_or_create(&id).unwrap()
}
