//! Edges of spans, and the series that Tempo's own traces must give.

use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use trine_storage::Labels;
use trine_tracestore::{ResourceView, SpanReader, StoredSpans};

use super::*;
use crate::config::generator::HistogramForm;
use crate::process::requests::{START_MS, encoded, failed, of, request, shown, span, text};
use crate::proto::jsonpb::to_otlp;

/// A processor by itself.
struct Alone {
    graphs: ServiceGraphs,
    room: Room,
    resource: Option<OfResource>,
    now_ms: i64,
}

impl SpanReader for Alone {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        self.resource = Some(self.graphs.of_resource(&resource.attributes()));
    }

    fn span(&mut self, span: &SpanView<'_, '_>) {
        let resource = self.resource.as_ref().unwrap();
        self.graphs
            .take((resource, span), self.now_ms, &mut self.room);
    }
}

impl Alone {
    fn new(settings: Settings) -> Self {
        let mut generator = Generator::default();
        generator.processor.service_graphs = settings;
        let schema = Schema {
            counters: &[],
            histograms: &[],
            bounds: Vec::new(),
            form: HistogramForm::Classic,
            native_schema: 3,
            native_buckets_max: 100,
            facts: false,
        };
        Self {
            graphs: ServiceGraphs::new(&generator, &schema).unwrap(),
            room: Room::default(),
            resource: None,
            now_ms: START_MS,
        }
    }

    fn take(&mut self, spans: &StoredSpans) {
        spans.read(self).unwrap();
    }

    fn series(&mut self) -> Vec<(Labels, f64)> {
        let mut found = Vec::new();
        let round = Round {
            idle_before_ms: 0,
            trace_label: "trace_id",
        };
        self.graphs
            .tell(round, &mut self.room, &mut |told| found.push(shown(&told)));
        found
    }

    /// The edges, as client, server, kind, requests and failures.
    fn edges(&mut self) -> Vec<String> {
        let series = self.series();
        let of = |name: &str| {
            let of_name = series.iter().filter(move |(labels, _)| {
                labels.get("__name__") == Some(&format!("traces_service_graph_request_{name}"))
            });
            of_name.collect::<Vec<_>>()
        };
        let edges = of("total").into_iter().map(|(labels, total)| {
            let label = |name| labels.get(name).unwrap_or("");
            let same = |(other, _): &&&(Labels, f64)| {
                ["client", "server", "connection_type"]
                    .iter()
                    .all(|name| other.get(name) == labels.get(name))
            };
            let failed = of("failed_total");
            let failed = failed.iter().find(same).map_or(0.0, |(_, value)| *value);
            let (client, server) = (label("client"), label("server"));
            format!(
                "{client} -> {server} [{}] {total} {failed}",
                label("connection_type")
            )
        });
        let mut edges: Vec<String> = edges.collect();
        edges.sort_unstable();
        edges
    }
}

fn with(attributes: &[(&str, &str)], span: Span) -> Span {
    let attributes = attributes.iter().map(|(key, value)| text(key, value));
    Span {
        attributes: attributes.collect(),
        ..span
    }
}

const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

#[test]
fn both_sides_of_a_call_are_an_edge_in_whatever_order_they_come() {
    let client = of("a", vec![span(CLIENT, (2, 1), 30)]);
    let server = of("b", vec![failed(span(SERVER, (3, 2), 20))]);
    let inner = of("b", vec![span(INTERNAL, (4, 3), 10)]);
    for groups in [
        vec![client.clone(), inner.clone(), server.clone()],
        vec![server, inner, client],
    ] {
        let mut alone = Alone::new(Settings::default());
        for group in groups {
            alone.take(&request(vec![group]));
        }
        assert_eq!(alone.edges(), ["a -> b [] 1 1"]);
        let sums: Vec<f64> = alone
            .series()
            .iter()
            .filter(|(labels, _)| labels.get("__name__").unwrap().ends_with("_sum"))
            .map(|(_, value)| *value)
            .collect();
        assert_eq!(sums, [0.02, 0.03], "server, then client");
        assert_eq!(alone.graphs.figures.edges, 1);
        alone.graphs.expire(i64::MAX, &mut alone.room);
        assert_eq!(alone.graphs.figures.expired, 0);
    }
}

#[test]
fn what_an_edge_is_depends_on_both_sides() {
    type Case = (Vec<(&'static str, Span)>, &'static [&'static str]);
    let cases: Vec<Case> = vec![
        // A message.
        (
            vec![
                ("a", span(PRODUCER, (2, 1), 1)),
                ("b", span(CONSUMER, (3, 2), 1)),
            ],
            &["a -> b [messaging_system] 1 0"],
        ),
        // A database has no spans of its own.
        (
            vec![(
                "a",
                with(
                    &[("db.system", "mysql"), ("db.name", "shop")],
                    span(CLIENT, (2, 1), 1),
                ),
            )],
            &["a -> shop [database] 1 0"],
        ),
        (
            vec![(
                "a",
                with(
                    &[("db.system.name", "mssql"), ("server.address", "db-1")],
                    span(CLIENT, (2, 1), 1),
                ),
            )],
            &["a -> db-1 [database] 1 0"],
        ),
        (
            vec![(
                "a",
                with(
                    &[
                        ("db.namespace", "n"),
                        ("network.peer.address", "10.0.0.1"),
                        ("network.peer.port", "5432"),
                    ],
                    span(CLIENT, (2, 1), 1),
                ),
            )],
            &["a -> 10.0.0.1:5432 [database] 1 0"],
        ),
        (
            vec![(
                "a",
                with(
                    &[
                        ("db.name", "n"),
                        ("server.address", "s"),
                        ("peer.service", "p"),
                    ],
                    span(CLIENT, (2, 1), 1),
                ),
            )],
            &["a -> p [database] 1 0"],
        ),
        // A client whose server sends nothing is known by what it calls it.
        (
            vec![(
                "a",
                with(&[("peer.service", "bank")], span(CLIENT, (2, 1), 1)),
            )],
            &["a -> bank [virtual_node] 1 0"],
        ),
        (vec![("a", span(CLIENT, (2, 1), 1))], &[]),
        // A server without a client is called by the user when it is the root.
        (
            vec![("a", span(SERVER, (2, 0), 1))],
            &["user -> a [virtual_node] 1 0"],
        ),
        (
            vec![(
                "a",
                with(
                    &[("peer.service", "shell")],
                    failed(span(SERVER, (2, 0), 1)),
                ),
            )],
            &["shell -> a [virtual_node] 1 1"],
        ),
        (vec![("a", span(SERVER, (2, 1), 1))], &[]),
        // Neither side.
        (
            vec![("a", span(INTERNAL, (2, 0), 1)), ("a", span(0, (2, 0), 1))],
            &[],
        ),
        // Of several servers of one call the first counts.
        (
            vec![
                ("a", span(CLIENT, (2, 1), 1)),
                ("b", span(SERVER, (3, 2), 1)),
                ("c", span(SERVER, (4, 2), 1)),
            ],
            &["a -> b [] 1 0"],
        ),
        // A resource without a name is no service.
        (vec![("", span(SERVER, (2, 0), 1))], &[]),
    ];
    for (spans, expect) in cases {
        let mut alone = Alone::new(Settings::default());
        let shown = format!("{spans:?}");
        for (service, span) in spans {
            alone.take(&request(vec![of(service, vec![span])]));
        }
        alone.graphs.expire(START_MS + 10_000, &mut alone.room);
        assert_eq!(alone.edges(), expect, "{shown}");
        assert_eq!(alone.graphs.waiting.len(), 0, "{shown}");
    }
}

#[test]
fn sides_wait_as_long_as_told_and_not_too_many_of_them() {
    let settings = Settings {
        max_items: 2,
        ..Settings::default()
    };
    let mut alone = Alone::new(settings);
    let client = |id: u8| request(vec![of("a", vec![span(CLIENT, (id, 1), 1)])]);
    let server = |id: u8| request(vec![of("b", vec![span(SERVER, (100 + id, id), 1)])]);
    for id in 2..=4 {
        alone.take(&client(id));
    }
    assert_eq!(alone.graphs.waiting.len(), 2);
    assert_eq!(alone.graphs.figures.dropped, 1);
    alone.now_ms += 9_999;
    alone.graphs.expire(alone.now_ms, &mut alone.room);
    alone.take(&server(2));
    assert_eq!(alone.edges(), ["a -> b [] 1 0"]);
    alone.now_ms += 1;
    alone.graphs.expire(alone.now_ms, &mut alone.room);
    assert_eq!(alone.graphs.figures.expired, 1);
    alone.take(&server(3));
    assert_eq!(alone.edges(), ["a -> b [] 1 0"]);
}

#[test]
fn labels_never_stand_twice() {
    let settings = Settings {
        dimensions: ["client", "a.b", "a_b", "le"].map(str::to_owned).to_vec(),
        enable_virtual_node_label: true,
        ..Settings::default()
    };
    assert_eq!(
        labels(&settings),
        [
            "client",
            "server",
            "connection_type",
            "__client",
            "a_b",
            "__a_b",
            "__le",
            "virtual_node"
        ]
    );
}

/// The folder of Tempo's samples in `TRINE_DATA` (or `../shared/data` beside the workspace).
fn folder() -> PathBuf {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").into();
    let folder = std::env::var("TRINE_DATA").unwrap_or_else(|_| beside());
    Path::new(&folder).join("traces/tempo-servicegraphs")
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn settings_of(config: &Value) -> Settings {
    let mut settings = Settings::default();
    for (name, value) in config.as_object().unwrap() {
        let truth = || value.as_bool().unwrap();
        let list = || value.as_array().unwrap().iter();
        match name.as_str() {
            "HistogramBuckets" => {
                settings.histogram_buckets = list().filter_map(Value::as_f64).collect();
            }
            "Dimensions" => {
                let names = list().filter_map(Value::as_str).map(str::to_owned);
                settings.dimensions = names.collect();
            }
            "EnableClientServerPrefix" => settings.enable_client_server_prefix = truth(),
            "EnableVirtualNodeLabel" => settings.enable_virtual_node_label = truth(),
            "EnableMessagingSystemLatencyHistogram" => {
                settings.enable_messaging_system_latency_histogram = truth();
            }
            "Wait" => assert_eq!(value, "1ns"),
            _ => panic!("{name}"),
        }
    }
    settings
}

/// Whether a series has exactly the labels that are told; those without a value are not there.
fn is_of(labels: &Labels, metric: &str, told: &Value) -> bool {
    let told = told.as_object().unwrap().iter();
    let told = told.map(|(name, value)| {
        // The list has the name of a constant where its value is meant.
        let name = if name == "virtualNodeLabel" {
            "virtual_node"
        } else {
            name
        };
        (name, value.as_str().unwrap())
    });
    let told = Labels::from_pairs(told.chain([("__name__", metric)])).unwrap();
    told == *labels
}

#[test]
fn the_traces_of_tempos_tests_give_its_series() {
    let folder = folder();
    let Some(text) = read(&folder.join("expected.yaml")) else {
        return;
    };
    let list: Value = serde_saphyr::from_str(&text).unwrap();
    let (mut values, mut passed, mut wrong) = (0, 0, Vec::new());
    for run in list["runs"].as_array().unwrap() {
        let mut alone = Alone::new(settings_of(&run["config"]));
        let fixture = run["fixture"].as_str().unwrap();
        let text = read(&folder.join(fixture)).unwrap();
        let mut sample = serde_json::from_str(&text).unwrap();
        to_otlp(&mut sample);
        alone.take(&encoded(&serde_json::from_value(sample).unwrap()));
        if run["expire_all"] == Value::Bool(true) {
            alone.graphs.expire(i64::MAX, &mut alone.room);
        }
        let series = alone.series();
        for expected in run["expected"].as_array().unwrap() {
            values += 1;
            let metric = expected["metric"].as_str().unwrap();
            let mut found = series
                .iter()
                .filter(|(labels, _)| is_of(labels, metric, &expected["labels"]));
            let value = found.next().map_or(0.0, |(_, value)| *value);
            let within = expected["within"].as_f64().unwrap_or(1e-9);
            if (value - expected["value"].as_f64().unwrap()).abs() <= within {
                passed += 1;
            } else {
                wrong.push(format!("{}: {expected}: {value}", run["source"]));
            }
        }
    }
    println!("service graphs: {passed} of {values} passed");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(values, 142);
}
