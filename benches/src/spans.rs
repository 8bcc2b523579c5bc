//! Spans to measure with, as requests of OTLP: traces of 10 to 50 spans over twenty services, with 12
//! attributes of the resource and 8 to 12 of the span, about 410 bytes a span; and what is harder
//! for columns ([`Kind`]). The same in every run.

use std::collections::BTreeMap;

use crate::lines::Random;

/// What spans have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What services usually tell.
    Usual,
    /// That, and one of 10,000 other keys.
    RareKeys,
    /// Eleven of 97 keys in any order, with a thousand values each: hardly two spans have the same
    /// ones. Ten spans a trace, ten services.
    AnyKeys,
}

/// Makes traces.
#[derive(Debug)]
pub struct Source {
    random: Random,
    kind: Kind,
    /// Numbers of keys, shuffled again for each span.
    keys: Vec<u64>,
}

const SERVICES: [&str; 20] = [
    "web", "edge", "login", "people", "things", "find", "basket", "till", "pay", "post", "stock",
    "price", "hints", "banner", "mail", "tell", "books", "guard", "report", "disk",
];
const ROUTES: [&str; 8] = [
    "/",
    "/v1/things",
    "/v1/things/{id}",
    "/v1/basket",
    "/v1/till",
    "/v1/find",
    "/v1/orders/{id}",
    "/v1/hints",
];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];
const DATABASES: [&str; 3] = ["postgresql", "redis", "mysql"];
const LANGUAGES: [&str; 4] = ["go", "java", "rust", "python"];
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36";

/// The bytes of a message that is being written.
#[derive(Debug, Default, Clone)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn time(&mut self, field: u64, ns: u64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&ns.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut message = Self::default();
        write(&mut message);
        self.bytes(field, &message.0);
    }

    fn attribute(&mut self, field: u64, key: &str, value: impl FnOnce(&mut Self)) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, value);
        });
    }

    fn text(&mut self, field: u64, key: &str, text: &str) {
        self.attribute(field, key, |value| value.bytes(1, text.as_bytes()));
    }

    fn int(&mut self, field: u64, key: &str, number: u64) {
        self.attribute(field, key, |value| value.number(3, number));
    }

    fn truth(&mut self, field: u64, key: &str, truth: bool) {
        self.attribute(field, key, |value| value.number(2, truth.into()));
    }
}

/// A span that others may be below.
struct Placed {
    service: usize,
    id: u64,
    start: u64,
    end: u64,
    depth: u64,
}

impl Source {
    /// A source of the usual traces of `seed`.
    pub fn new(seed: u64) -> Self {
        Self::of(Kind::Usual, seed)
    }

    /// A source of traces of a kind.
    pub fn of(kind: Kind, seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            kind,
            keys: (0..97).collect(),
        }
    }

    /// An `ExportTraceServiceRequest` of so many spans of one trace, each below one of the hundred
    /// before it.
    pub fn long_trace(&mut self, spans: u64, end_ns: u64) -> Vec<u8> {
        let mut of_services = BTreeMap::new();
        self.spans_of_trace(end_ns, spans, &mut of_services);
        self.groups(of_services)
    }

    /// An `ExportTraceServiceRequest` of whole traces that end at `end_ns`, of at least so many
    /// spans. Gives how many they are.
    pub fn request(&mut self, least: u64, end_ns: u64) -> (Vec<u8>, u64) {
        let mut spans = 0;
        let mut of_services = BTreeMap::new();
        while spans < least {
            spans += self.trace(end_ns, &mut of_services);
        }
        (self.groups(of_services), spans)
    }

    /// The id of the trace that [`Source::long_trace`] makes next.
    #[must_use]
    pub fn next_id(mut self) -> [u8; 16] {
        trace_id(&mut self.random)
    }

    fn groups(&mut self, of_services: BTreeMap<usize, Message>) -> Vec<u8> {
        let pod = self.random.below(4);
        let mut request = Message::default();
        for (service, spans) in of_services {
            request.message(1, |group| {
                group.message(1, |resource| put_resource(resource, service, pod));
                group.message(2, |group| {
                    group.message(1, |scope| {
                        scope.bytes(1, b"bench");
                        scope.bytes(2, b"1");
                    });
                    group.0.extend_from_slice(&spans.0);
                });
            });
        }
        request.0
    }

    fn trace(&mut self, end_ns: u64, of_services: &mut BTreeMap<usize, Message>) -> u64 {
        let count = match self.kind {
            Kind::AnyKeys => 10,
            _ => 10 + self.random.below(41),
        };
        self.spans_of_trace(end_ns, count, of_services);
        count
    }

    fn spans_of_trace(
        &mut self,
        end_ns: u64,
        count: u64,
        of_services: &mut BTreeMap<usize, Message>,
    ) {
        let services = if self.kind == Kind::AnyKeys { 10 } else { 20 };
        let random = &mut self.random;
        let trace_id = trace_id(random);
        let failing = random.below(25) == 0;
        let length = 5_000_000 + random.below(1 << 10) * random.below(1 << 20);
        let mut placed: Vec<Placed> = Vec::new();
        for number in 0..count {
            let id = random.number() | 1;
            let (parent, span) = match number {
                0 => (
                    0,
                    Placed {
                        service: 0,
                        id,
                        start: end_ns - length,
                        end: end_ns,
                        depth: 0,
                    },
                ),
                _ => {
                    let near = number.saturating_sub(100);
                    let above = &placed[(near + random.below(number - near)) as usize];
                    let start = above.start + random.below((above.end - above.start) / 2 + 1);
                    let end = start + 1_000 + random.below(above.end.saturating_sub(start) + 1);
                    let elsewhere = (above.service + 1 + random.below(6) as usize) % services;
                    let same = random.below(3) == 0;
                    let service = if same { above.service } else { elsewhere };
                    let depth = above.depth + 1;
                    (
                        above.id,
                        Placed {
                            service,
                            id,
                            start,
                            end,
                            depth,
                        },
                    )
                }
            };
            let failed = failing && random.below(6) == 0;
            let out = of_services.entry(span.service).or_default();
            out.message(2, |out| {
                out.bytes(1, &trace_id);
                match self.kind {
                    Kind::AnyKeys => put_any_keys(out, random, &span, parent, &mut self.keys),
                    _ => put_span(out, random, &span, parent, failed),
                }
                if self.kind == Kind::RareKeys {
                    let (key, value) = (random.below(10_000), random.below(1_000));
                    out.text(9, &format!("rare.key.{key}"), &format!("value {value}"));
                }
            });
            placed.push(span);
        }
    }
}

fn trace_id(random: &mut Random) -> [u8; 16] {
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(&(random.number() | 1).to_be_bytes());
    trace_id[8..].copy_from_slice(&random.number().to_be_bytes());
    trace_id
}

fn put_resource(out: &mut Message, service: usize, pod: u64) {
    let name = SERVICES[service];
    out.text(1, "service.name", name);
    out.text(
        1,
        "service.version",
        &format!("1.{service}.{}", service % 3),
    );
    out.text(1, "service.namespace", "shop");
    out.text(1, "deployment.environment", "production");
    out.text(1, "host.name", &format!("ip-10-0-{service}-{pod}"));
    out.text(1, "k8s.cluster.name", "eu-1");
    out.text(1, "k8s.namespace.name", "shop");
    out.text(
        1,
        "k8s.pod.name",
        &format!("{name}-7d9f8b6c5-{:05x}", service as u64 * 1000 + pod),
    );
    out.text(
        1,
        "cloud.region",
        ["eu-west-1", "us-east-1"][(pod % 2) as usize],
    );
    out.text(1, "telemetry.sdk.name", "opentelemetry");
    out.text(1, "telemetry.sdk.language", LANGUAGES[service % 4]);
    out.text(1, "telemetry.sdk.version", "1.30.0");
}

/// The fields of a span that has any eleven keys, from its own id on.
fn put_any_keys(
    out: &mut Message,
    random: &mut Random,
    span: &Placed,
    parent: u64,
    keys: &mut [u64],
) {
    put_known(out, span, parent);
    out.bytes(5, format!("operation {}", random.below(50)).as_bytes());
    out.number(6, 1 + random.below(5));
    for at in 0..11 {
        let other = at + random.below((keys.len() - at) as u64) as usize;
        keys.swap(at, other);
        let value = format!("value {}", random.below(1_000));
        out.text(9, &format!("key.{}", keys[at]), &value);
    }
}

fn put_known(out: &mut Message, span: &Placed, parent: u64) {
    out.bytes(2, &span.id.to_be_bytes());
    if parent != 0 {
        out.bytes(4, &parent.to_be_bytes());
    }
    out.time(7, span.start);
    out.time(8, span.end);
}

/// The fields of a span from its own id on.
fn put_span(out: &mut Message, random: &mut Random, span: &Placed, parent: u64, failed: bool) {
    put_known(out, span, parent);
    let service = SERVICES[span.service];
    let route = ROUTES[random.below(8) as usize];
    let method = METHODS[random.below(4) as usize];
    let kind = if parent == 0 { 2 } else { 1 + random.below(3) };
    let name = match kind {
        2 => format!("{method} {route}"),
        3 => format!("SELECT {service}.orders"),
        _ => format!("{service}.process{}", random.below(8)),
    };
    out.bytes(5, name.as_bytes());
    out.number(6, kind);
    match kind {
        2 => put_server(out, random, service, route, method, failed),
        3 => put_database(out, random),
        _ => put_inner(out, random, service),
    }
    out.int(9, "depth", span.depth);
    if failed {
        out.message(11, |event| {
            event.time(1, span.end - 500);
            event.bytes(2, b"exception");
            event.text(3, "exception.type", "java.lang.IllegalStateException");
            let message = format!("upstream refused order {}", random.below(10_000));
            event.text(3, "exception.message", &message);
        });
        out.message(15, |status| {
            status.bytes(2, b"upstream refused");
            status.number(3, 2);
        });
    }
}

fn put_server(
    out: &mut Message,
    random: &mut Random,
    service: &str,
    route: &str,
    method: &str,
    failed: bool,
) {
    let query = random.below(100_000);
    let good = [200, 200, 200, 201, 204, 404][random.below(6) as usize];
    out.text(9, "http.method", method);
    out.text(9, "http.route", route);
    out.text(
        9,
        "http.url",
        &format!("http://{service}.shop.svc:8080{route}?q={query}"),
    );
    out.int(
        9,
        "http.status_code",
        if failed { 500 + random.below(4) } else { good },
    );
    out.int(9, "http.response_content_length", random.below(100_000));
    out.text(9, "http.user_agent", AGENT);
    let (a, b, c) = (random.below(4), random.below(256), random.below(256));
    out.text(9, "net.peer.ip", &format!("10.{a}.{b}.{c}"));
    out.int(9, "net.peer.port", 1024 + random.below(60_000));
    out.text(9, "enduser.id", &format!("user-{}", random.below(50_000)));
    out.text(9, "http.flavor", "1.1");
    out.truth(9, "feature.new_checkout", random.below(2) == 0);
}

fn put_database(out: &mut Message, random: &mut Random) {
    let database = DATABASES[random.below(3) as usize];
    let (order, tenant) = (random.below(1_000_000), random.below(100));
    out.text(9, "db.system", database);
    out.text(9, "db.name", "shop");
    out.text(9, "db.user", "app");
    out.text(9, "db.operation", "SELECT");
    let statement =
        format!("SELECT id, state, total FROM orders WHERE id = {order} AND tenant = {tenant}");
    out.text(9, "db.statement", &statement);
    out.text(
        9,
        "net.peer.name",
        &format!("{database}-{}.internal", random.below(4)),
    );
    out.int(9, "net.peer.port", 5432);
    out.int(9, "db.rows", random.below(500));
}

fn put_inner(out: &mut Message, random: &mut Random, service: &str) {
    out.text(9, "code.function", &format!("process{}", random.below(8)));
    out.text(9, "code.namespace", &format!("com.shop.{service}"));
    out.int(9, "thread.id", random.below(64));
    out.text(9, "order.id", &format!("{:012x}", random.below(1 << 40)));
    out.int(9, "items.count", random.below(20));
    out.text(9, "tenant", &format!("t-{}", random.below(100)));
    out.truth(9, "cache.hit", random.below(3) > 0);
}
