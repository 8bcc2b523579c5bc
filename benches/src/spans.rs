//! Spans as twenty services write them: traces of 10 to 50 spans, 12 attributes of a resource, 8 to 12
//! of a span, about 410 bytes of protobuf a span. Always the same for one seed.

use std::sync::Arc;

use trine_tracestore::{AnyValue, Event, KeyValue, Resource, Scope, Span, Status};

use crate::lines::Random;

/// The services by number; the first begins every trace.
pub const SERVICES: [&str; 20] = [
    "frontend",
    "gateway",
    "auth",
    "users",
    "catalog",
    "search",
    "cart",
    "checkout",
    "payment",
    "shipping",
    "inventory",
    "pricing",
    "recommend",
    "ads",
    "email",
    "notify",
    "ledger",
    "fraud",
    "reports",
    "storage",
];
const ROUTES: [&str; 10] = [
    "/",
    "/api/items",
    "/api/items/{id}",
    "/api/cart",
    "/api/checkout",
    "/api/login",
    "/api/search",
    "/api/orders/{id}",
    "/api/reco",
    "/api/ship",
];
const METHODS: [&str; 5] = ["GET", "GET", "GET", "POST", "PUT"];
const DATABASES: [&str; 3] = ["postgresql", "redis", "mysql"];
const PODS: u64 = 4;

/// Makes traces.
#[derive(Debug)]
pub struct Traces {
    random: Random,
    resources: Vec<Arc<Resource>>,
    scope: Arc<Scope>,
}

/// A span with where it comes from.
pub type Made = (Arc<Resource>, Arc<Scope>, Span);

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: AnyValue::String(value.into()),
    }
}

fn number(key: &str, value: u64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: AnyValue::Int(value.cast_signed()),
    }
}

fn truth(key: &str, value: bool) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: AnyValue::Bool(value),
    }
}

fn resource(service: usize, pod: u64) -> Resource {
    let name = SERVICES[service];
    let region = ["eu-west-1", "us-east-1"][pod as usize % 2];
    let language = ["go", "java", "rust", "python"][service % 4];
    Resource {
        attributes: vec![
            text("service.name", name),
            text("service.version", format!("1.{service}.{}", service % 3)),
            text("service.namespace", "shop"),
            text("deployment.environment", "production"),
            text("host.name", format!("ip-10-0-{service}-{pod}")),
            text("k8s.cluster.name", "eu-1"),
            text("k8s.namespace.name", "shop"),
            text(
                "k8s.pod.name",
                format!("{name}-7d9f8b6c5-{:05x}", service as u64 * 1000 + pod),
            ),
            text("cloud.region", region),
            text("telemetry.sdk.name", "opentelemetry"),
            text("telemetry.sdk.language", language),
            text("telemetry.sdk.version", "1.30.0"),
        ],
        ..Resource::default()
    }
}

impl Traces {
    /// Traces by a seed.
    pub fn new(seed: u64) -> Self {
        let of_service = |service| (0..PODS).map(move |pod| Arc::new(resource(service, pod)));
        Self {
            random: Random::new(seed),
            resources: (0..SERVICES.len()).flat_map(of_service).collect(),
            scope: Arc::new(Scope {
                name: "shop".into(),
                version: "1".into(),
                ..Scope::default()
            }),
        }
    }

    fn fraction(&mut self) -> f64 {
        self.random.below(1 << 32) as f64 / (1u64 << 32) as f64
    }

    fn long(&mut self) -> u64 {
        self.random.number()
    }

    /// Appends the spans of the next trace, which ends at `end_ns`.
    pub fn trace(&mut self, end_ns: u64, out: &mut Vec<Made>) {
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&(self.long() | 1 << 60).to_be_bytes());
        trace_id[8..].copy_from_slice(&self.long().to_be_bytes());
        let spans = 10 + self.random.below(41) as usize;
        let took = 5e6 + self.fraction() * self.fraction() * self.fraction() * 1.5e9;
        let is_failing = self.random.below(100) < 4;
        let pod = self.random.below(PODS) as usize;
        // Service, id, start, end, depth.
        let mut done: Vec<(usize, u64, u64, u64, u64)> = Vec::with_capacity(spans);
        for at in 0..spans {
            let id = self.long() | 1;
            let (service, parent, start, end, depth) = if at == 0 {
                (0, 0, end_ns - took as u64, end_ns, 0)
            } else {
                let (a, b) = (
                    self.random.below(at as u64),
                    self.random.below(at as u64) / 2,
                );
                let above = done[a.max(b) as usize];
                let len = (above.3 - above.2).max(2_000);
                let start = above.2 + (self.fraction() * 0.5 * len as f64) as u64;
                let left = above.3.saturating_sub(start);
                let end = start + (self.fraction() * left as f64) as u64 + 1_000;
                let service = match self.random.below(3) {
                    0 => above.0,
                    _ => (above.0 + 1 + self.random.below(6) as usize) % SERVICES.len(),
                };
                (
                    service,
                    above.1,
                    start,
                    end.min(above.3.max(start + 1_000)),
                    above.4 + 1,
                )
            };
            done.push((service, id, start, end, depth));
            let kind = if at == 0 {
                2
            } else {
                1 + self.random.below(3) as i32
            };
            let failed = is_failing && self.random.below(6) == 0;
            let mut span = Span {
                trace_id,
                span_id: id.to_be_bytes(),
                parent_span_id: (parent != 0).then(|| parent.to_be_bytes()),
                kind,
                start_ns: start,
                end_ns: end,
                ..Span::default()
            };
            self.describe(&mut span, service, failed);
            span.attributes.push(number("depth", depth));
            if failed {
                self.fail(&mut span, service);
            }
            let resource = &self.resources[service * PODS as usize + pod];
            out.push((Arc::clone(resource), Arc::clone(&self.scope), span));
        }
    }

    fn describe(&mut self, span: &mut Span, service: usize, failed: bool) {
        let name = SERVICES[service];
        let random = &mut self.random;
        match span.kind {
            2 => {
                let route = ROUTES[random.below(10) as usize];
                let method = METHODS[random.below(5) as usize];
                let good = [200, 200, 200, 201, 204, 404][random.below(6) as usize];
                let status = if failed { 500 + random.below(4) } else { good };
                let url = format!(
                    "http://{name}.shop.svc:8080{route}?q={}",
                    random.below(100_000)
                );
                let peer = (random.below(4), random.below(256), random.below(256));
                span.name = format!("{method} {route}");
                span.attributes = vec![
                    text("http.method", method),
                    text("http.route", route),
                    text("http.url", url),
                    number("http.status_code", status),
                    number("http.response_content_length", random.below(100_000)),
                    text(
                        "http.user_agent",
                        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
                    ),
                    text(
                        "net.peer.ip",
                        format!("10.{}.{}.{}", peer.0, peer.1, peer.2),
                    ),
                    number("net.peer.port", 1_024 + random.below(60_000)),
                    text("enduser.id", format!("user-{}", random.below(50_000))),
                    text("http.flavor", "1.1"),
                    truth("feature.new_checkout", random.below(2) == 0),
                ];
            }
            3 => {
                let database = DATABASES[random.below(3) as usize];
                let (id, tenant) = (random.below(1_000_000), random.below(100));
                let statement = format!(
                    "SELECT id, state, total FROM orders WHERE id = {id} AND tenant = {tenant}"
                );
                span.name = format!("SELECT {name}.orders");
                span.attributes = vec![
                    text("db.system", database),
                    text("db.name", "shop"),
                    text("db.user", "app"),
                    text("db.operation", "SELECT"),
                    text("db.statement", statement),
                    text(
                        "net.peer.name",
                        format!("{database}-{}.internal", random.below(4)),
                    ),
                    number("net.peer.port", 5_432),
                    number("db.rows", random.below(500)),
                ];
            }
            _ => {
                span.name = format!("{name}.process{}", random.below(8));
                let order = random.below(1 << 20) << 20 | random.below(1 << 20);
                span.attributes = vec![
                    text("code.function", format!("process{}", random.below(8))),
                    text("code.namespace", format!("com.shop.{name}")),
                    number("thread.id", random.below(64)),
                    text("order.id", format!("{order:012x}")),
                    number("items.count", random.below(20)),
                    text("tenant", format!("t-{}", random.below(100))),
                    truth("cache.hit", random.below(3) > 0),
                ];
            }
        }
    }

    fn fail(&mut self, span: &mut Span, service: usize) {
        let other = SERVICES[(service + 3) % SERVICES.len()];
        let message = format!(
            "upstream {other} refused order {}",
            self.random.below(10_000)
        );
        span.events = vec![Event {
            time_ns: span.end_ns - 500,
            name: "exception".into(),
            attributes: vec![
                text("exception.type", "java.lang.IllegalStateException"),
                text("exception.message", message),
            ],
            ..Event::default()
        }];
        span.status = Some(Status {
            code: 2,
            message: "upstream refused".into(),
        });
    }
}
