//! Who calls whom: edges between services, made of the spans of both sides of a call. Metrics, names
//! and labels are those of Tempo's processor `service-graphs`. `generator` gives it spans.
//!
//! The client of a call (or the producer of a message) and its server (or consumer) are the same
//! *edge* when the one is the parent of the other. The side that comes first waits for the other. A
//! call of a database has one side. What waited too long is an edge to or from a *virtual node* when
//! the other side is known by name, or is whoever began the trace.

use std::sync::Arc;

use trine_tracestore::{SpanId, SpanView, ValueView};

use super::attributes::{Found, Held, Keys, Weight, either, label_name, text};
use super::series::{Observation, Room, Round, Schema, Table, Told};
use super::span_metrics::{END, observation, row_labels};
use crate::config::generator::{Generator, Processor, ServiceGraphs as Settings};

mod waiting;

use waiting::{Place, Waiting};

const REQUESTS: usize = 0;
const FAILED: usize = 1;
const SERVER: usize = 0;
const CLIENT: usize = 1;
const MESSAGING: usize = 2;

/// Who calls where nobody told.
const USER: &str = "user";

/// Edges and their series.
#[derive(Debug)]
pub(super) struct ServiceGraphs {
    table: Table,
    labels: Vec<String>,
    dimensions: Vec<usize>,
    is_prefixed: bool,
    has_virtual_node: bool,
    has_messaging: bool,
    peers: Vec<usize>,
    databases: Vec<usize>,
    addresses: Addresses,
    weight: Weight,
    keys: Keys,
    found: Found,
    wait_ms: i64,
    /// When the last span came.
    last_ms: i64,
    waiting_max: usize,
    waiting: Waiting<Edge>,
    key: Vec<u8>,
    /// What became of edges.
    pub(super) figures: Figures,
}

/// What became of edges.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Edges that there were, one side or both.
    pub(super) edges: u64,
    /// Those whose other side did not come in time.
    pub(super) expired: u64,
    /// Spans for which there was no room to wait.
    pub(super) dropped: u64,
}

/// The places of the attributes that name a database.
#[derive(Debug)]
struct Addresses {
    peer_service: usize,
    server: usize,
    network: usize,
    port: usize,
}

/// What is known of a resource.
#[derive(Debug)]
pub(super) struct OfResource {
    service: Option<Arc<str>>,
    values: Vec<Option<Held>>,
}

/// An edge that waits for its other side.
#[derive(Debug, Default)]
struct Edge {
    client: Option<Side>,
    server: Option<Side>,
    kind: Kind,
    failed: bool,
    /// What the attributes of the last side call the other one.
    peer: Option<Box<str>>,
    weight: f64,
    now_ms: i64,
}

/// One side of an edge.
#[derive(Debug)]
struct Side {
    service: Arc<str>,
    seen: Observation,
    /// When a client was done, or a server began, nanoseconds since 1970.
    time_ns: u64,
    dimensions: Option<Box<[Option<Box<str>>]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Call,
    Message,
    Database,
    /// One side has sent nothing: the client, if so told.
    Virtual {
        client: bool,
    },
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Call => "",
            Self::Message => "messaging_system",
            Self::Database => "database",
            Self::Virtual { .. } => "virtual_node",
        }
    }
}

/// Which side a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl ServiceGraphs {
    /// What the settings ask for, if anything.
    pub(super) fn new(generator: &Generator, schema: &Schema) -> Option<Self> {
        if !generator.has(Processor::ServiceGraphs) {
            return None;
        }
        let settings = &generator.processor.service_graphs;
        let mut keys = Keys::default();
        let mut all = |names: &[String]| names.iter().map(|key| keys.add(key)).collect();
        let (dimensions, peers) = (all(&settings.dimensions), all(&settings.peer_attributes));
        let databases = all(&settings.database_name_attributes);
        let has_messaging = settings.enable_messaging_system_latency_histogram;
        let histograms: &[&str] = match has_messaging {
            false => &[
                "traces_service_graph_request_server_seconds",
                "traces_service_graph_request_client_seconds",
            ],
            true => &[
                "traces_service_graph_request_server_seconds",
                "traces_service_graph_request_client_seconds",
                "traces_service_graph_request_messaging_system_seconds",
            ],
        };
        let table = Table::new(Schema {
            counters: &[
                "traces_service_graph_request_total",
                "traces_service_graph_request_failed_total",
            ],
            histograms,
            bounds: settings.histogram_buckets.clone(),
            ..schema.clone()
        });
        let wait_ms = i64::try_from(settings.wait.as_millis()).unwrap_or(i64::MAX);
        Some(Self {
            table,
            labels: labels(settings),
            dimensions,
            is_prefixed: settings.enable_client_server_prefix,
            has_virtual_node: settings.enable_virtual_node_label,
            has_messaging,
            peers,
            databases,
            addresses: Addresses {
                peer_service: keys.add("peer.service"),
                server: keys.add("server.address"),
                network: keys.add("network.peer.address"),
                port: keys.add("network.peer.port"),
            },
            weight: Weight::new(
                &settings.span_multiplier_key,
                settings.enable_tracestate_span_multiplier,
                &mut keys,
            ),
            keys,
            found: Found::default(),
            wait_ms,
            last_ms: i64::MIN,
            waiting_max: settings.max_items,
            waiting: Waiting::default(),
            key: Vec::new(),
            figures: Figures::default(),
        })
    }

    /// What is to be known of a resource with these attributes.
    pub(super) fn of_resource(&self, attributes: &[(&[u8], ValueView<'_>)]) -> OfResource {
        let service = attributes.iter().find(|(key, _)| *key == b"service.name");
        OfResource {
            service: service.and_then(|(_, value)| text(*value)).map(Arc::from),
            values: self.keys.of(attributes),
        }
    }

    /// Takes a span. What is of no kind that calls or is called, or of a resource without a service,
    /// is of no edge.
    #[inline]
    pub(super) fn take(
        &mut self,
        (resource, span): (&OfResource, &SpanView<'_, '_>),
        now_ms: i64,
        room: &mut Room,
    ) {
        let (role, kind) = match span.kind {
            2 => (Role::Server, Kind::Call),
            3 => (Role::Client, Kind::Call),
            4 => (Role::Client, Kind::Message),
            5 => (Role::Server, Kind::Message),
            _ => return,
        };
        let Some(service) = &resource.service else {
            return;
        };
        self.keys.find(span, &mut self.found);
        let side = Side {
            service: Arc::clone(service),
            seen: observation(span, 1.0),
            time_ns: match role {
                Role::Client => span.end_ns,
                Role::Server => span.start_ns,
            },
            dimensions: self.dimensions_of(resource, span),
        };
        let place = match role {
            Role::Client => (span.trace_id, span.span_id),
            Role::Server => (span.trace_id, span.parent_id.unwrap_or_default()),
        };
        let known = self.waiting.take(&place);
        let since = known.as_ref().map(|(until_ms, _)| *until_ms);
        let mut edge = known.map(|(_, edge)| edge).unwrap_or_default();
        edge.failed |= span.status == 2;
        edge.weight = self.weight.of(&resource.values, (&self.found, span));
        edge.now_ms = now_ms;
        edge.peer = self.peer(span).or(edge.peer);
        if kind == Kind::Message {
            edge.kind = kind;
        }
        match role {
            Role::Server => edge.server = Some(side),
            Role::Client => {
                if let Some(database) = self.database(resource, span) {
                    edge.kind = Kind::Database;
                    edge.server = database.map(|name| Side {
                        service: name.into(),
                        seen: side.seen,
                        time_ns: span.start_ns,
                        dimensions: None,
                    });
                }
                edge.client = Some(side);
            }
        }
        self.figures.edges += u64::from(since.is_none());
        if edge.client.is_some() && edge.server.is_some() {
            self.complete(&edge, room);
            return;
        }
        match since {
            Some(until_ms) => self.waiting.put_back(place, until_ms, edge),
            None if self.waiting.len() >= self.waiting_max => self.figures.dropped += 1,
            None => {
                // Clocks may go back; the order of waiting does not.
                self.last_ms = self.last_ms.max(now_ms);
                let until_ms = self.last_ms.saturating_add(self.wait_ms);
                self.waiting.wait(place, until_ms, edge);
            }
        }
    }

    /// Ends what has waited long enough by now.
    pub(super) fn expire(&mut self, now_ms: i64, room: &mut Room) {
        while let Some((place, edge)) = self.waiting.take_expired(now_ms) {
            self.figures.expired += 1;
            self.end(edge, place, room);
        }
    }

    /// Completes an edge of which one side is all there will be, if the other one is known by name.
    fn end(&mut self, mut edge: Edge, (_, parent): Place, room: &mut Room) {
        let one = |service: Arc<str>, side: &Side| Side {
            service,
            seen: side.seen,
            time_ns: side.time_ns,
            dimensions: None,
        };
        match (&edge.client, &edge.server) {
            (None, Some(server)) if parent == SpanId::default() => {
                let name = edge.peer.take().map_or_else(|| USER.into(), Arc::from);
                edge.client = Some(one(name, server));
                edge.kind = Kind::Virtual { client: true };
            }
            (Some(client), None) => {
                let Some(name) = edge.peer.take() else {
                    return;
                };
                edge.server = Some(one(name.into(), client));
                edge.kind = Kind::Virtual { client: false };
            }
            _ => return,
        }
        self.complete(&edge, room);
    }

    /// Counts an edge with both sides.
    fn complete(&mut self, edge: &Edge, room: &mut Room) {
        let (Some(client), Some(server)) = (&edge.client, &edge.server) else {
            return;
        };
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let mut put = |text: &str| {
            key.extend_from_slice(text.as_bytes());
            key.push(END);
        };
        put(&client.service);
        put(&server.service);
        put(edge.kind.name());
        for place in 0..self.dimensions.len() {
            let of =
                |side: &Side| -> Option<Box<str>> { side.dimensions.as_ref()?.get(place)?.clone() };
            let (of_client, of_server) = (of(client), of(server));
            if self.is_prefixed {
                put(&of_client.unwrap_or_default());
                put(&of_server.unwrap_or_default());
            } else {
                put(&of_server.or(of_client).unwrap_or_default());
            }
        }
        if self.has_virtual_node {
            put(match edge.kind {
                Kind::Virtual { client: true } => "client",
                Kind::Virtual { client: false } => "server",
                _ => "",
            });
        }
        let names = self.labels.iter().map(String::as_str);
        let row = self.table.row(&key, room, || row_labels(names, &key));
        self.key = key;
        let Some(row) = row else {
            return;
        };
        let weight = edge.weight;
        let seen = |seen: Observation| Observation { weight, ..seen };
        self.table.touch(row, edge.now_ms);
        self.table.add(row, REQUESTS, weight);
        if edge.failed {
            self.table.add(row, FAILED, weight);
        }
        self.table.observe(row, SERVER, seen(server.seen));
        self.table.observe(row, CLIENT, seen(client.seen));
        // Clocks of two machines may say that it came before it was sent.
        let way_ns = server.time_ns.saturating_sub(client.time_ns);
        if self.has_messaging && edge.kind == Kind::Message && way_ns > 0 {
            let way = Observation {
                seconds: way_ns as f64 / 1e9,
                ..seen(server.seen)
            };
            self.table.observe(row, MESSAGING, way);
        }
    }

    fn dimensions_of(
        &self,
        resource: &OfResource,
        span: &SpanView<'_, '_>,
    ) -> Option<Box<[Option<Box<str>>]>> {
        if self.dimensions.is_empty() {
            return None;
        }
        let value = |place: &usize| either(&resource.values, (&self.found, span), *place);
        let values = self
            .dimensions
            .iter()
            .map(|place| value(place).and_then(text));
        Some(values.collect())
    }

    /// What the attributes of a span call the other side.
    fn peer(&self, span: &SpanView<'_, '_>) -> Option<Box<str>> {
        let values = self.peers.iter();
        let mut values = values.filter_map(|place| self.found.value(span, *place));
        values.find_map(text)
    }

    /// The name of the database that a client calls, if it calls one: perhaps it has none.
    fn database(&self, resource: &OfResource, span: &SpanView<'_, '_>) -> Option<Option<Box<str>>> {
        let value = |place: usize| either(&resource.values, (&self.found, span), place);
        let mut told = self.databases.iter().filter_map(|place| value(*place));
        let told = told.next()?;
        let addresses = &self.addresses;
        let named = |place| value(place).and_then(text);
        let network = || {
            let host = named(addresses.network)?;
            Some(match named(addresses.port) {
                Some(port) => format!("{host}:{port}").into(),
                None => host,
            })
        };
        Some(
            named(addresses.peer_service)
                .or_else(|| named(addresses.server))
                .or_else(network)
                .or_else(|| text(told)),
        )
    }

    /// Tells the series.
    pub(super) fn tell(&mut self, round: Round<'_>, room: &mut Room, each: &mut dyn FnMut(Told)) {
        self.table.tell(round, room, each);
    }

    /// Whether there is neither a row nor an edge that waits.
    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0 && self.waiting.len() == 0
    }
}

/// The labels of rows.
fn labels(settings: &Settings) -> Vec<String> {
    let mut labels: Vec<String> = ["client", "server", "connection_type"]
        .map(str::to_owned)
        .to_vec();
    for key in &settings.dimensions {
        if settings.enable_client_server_prefix {
            labels.push(label_name(&format!("client_{key}")));
            labels.push(label_name(&format!("server_{key}")));
        } else {
            labels.push(label_name(key));
        }
    }
    if settings.enable_virtual_node_label {
        labels.push("virtual_node".to_owned());
    }
    // Names that are there already get underscores until they are not.
    for at in 0..labels.len() {
        let (before, rest) = labels.split_at_mut(at);
        while let Some(name) = rest.first_mut()
            && (before.contains(name)
                || name.is_empty()
                || matches!(name.as_str(), "le" | "__name__"))
        {
            name.insert_str(0, "__");
        }
    }
    labels
}

#[cfg(test)]
mod tests;
