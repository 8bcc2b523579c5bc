//! OTLP metrics from their bytes to a staged batch: series that are seen for the first time, and
//! known ones. What generated code takes to decode them stands beside.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use trine_server::config::{Limits, OtlpMetrics};
use trine_server::ingest::known_series::KnownSeries;
use trine_server::ingest::metric_labels::Rules;
use trine_server::ingest::otlp_metrics::translate;
use trine_server::ingest::store::{Metrics, with_known};
use trine_tsdb::{Config, Tsdb};

const METRICS: usize = 50;
const POINTS: usize = 40;
const NOW_NS: u64 = 1_700_000_000_123_000_000;
const START_NS: u64 = NOW_NS - 3_600_000_000_000;

#[derive(Clone, Copy)]
enum Kind {
    Numbers,
    Explicit,
    Exponential,
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

fn attributes(number: usize) -> Vec<KeyValue> {
    vec![
        attribute("http.request.method", text("GET")),
        attribute("http.response.status_code", Value::IntValue(200)),
        attribute("http.route", text(&format!("/api/v1/things/{number}"))),
        attribute("network.protocol.version", text("1.1")),
        attribute("server.address", text("shop.example.com")),
    ]
}

fn data(kind: Kind) -> Data {
    let points = 0..POINTS;
    let aggregation_temporality = 2;
    let (start_time_unix_nano, time_unix_nano) = (START_NS, NOW_NS);
    match kind {
        Kind::Numbers => Data::Sum(Sum {
            data_points: points
                .map(|number| NumberDataPoint {
                    attributes: attributes(number),
                    start_time_unix_nano,
                    time_unix_nano,
                    value: Some(number_data_point::Value::AsDouble(1234.5)),
                    ..NumberDataPoint::default()
                })
                .collect(),
            aggregation_temporality,
            is_monotonic: true,
        }),
        Kind::Explicit => Data::Histogram(Histogram {
            data_points: points
                .map(|number| HistogramDataPoint {
                    attributes: attributes(number),
                    start_time_unix_nano,
                    time_unix_nano,
                    count: 120,
                    sum: Some(17.5),
                    bucket_counts: (0..15).collect(),
                    explicit_bounds: (1..15).map(|n| f64::from(n) / 8.0).collect(),
                    ..HistogramDataPoint::default()
                })
                .collect(),
            aggregation_temporality,
        }),
        Kind::Exponential => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: points
                .map(|number| ExponentialHistogramDataPoint {
                    attributes: attributes(number),
                    start_time_unix_nano,
                    time_unix_nano,
                    count: 820,
                    sum: Some(17.5),
                    scale: 5,
                    positive: Some(Buckets {
                        offset: -7,
                        bucket_counts: (1..41).collect(),
                    }),
                    ..ExponentialHistogramDataPoint::default()
                })
                .collect(),
            aggregation_temporality,
        }),
    }
}

fn request(kind: Kind) -> Vec<u8> {
    let metrics = (0..METRICS).map(|number| Metric {
        name: format!("http.server.things.{number}.duration"),
        description: "How long things take.".to_owned(),
        unit: "s".to_owned(),
        data: Some(data(kind)),
        ..Metric::default()
    });
    let resource = [
        ("service.name", "shop"),
        ("service.namespace", "eu"),
        (
            "service.instance.id",
            "627cc493-f310-47de-96bd-71410b7dec09",
        ),
        ("host.name", "node-17"),
        ("k8s.pod.name", "shop-7d9f8b6c5d-x2b7q"),
    ];
    let resource = resource.map(|(key, value)| attribute(key, text(value)));
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: resource.to_vec(),
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                metrics: metrics.collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    request.encode_to_vec()
}

fn translations(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let limits = Limits::default();
    let settings = OtlpMetrics::default();
    let rules = Rules::of(&limits);
    for (kind, name) in [
        (Kind::Numbers, "numbers"),
        (Kind::Explicit, "explicit"),
        (Kind::Exponential, "exponential"),
    ] {
        let mut group = c.benchmark_group(format!("otlp_metrics/{name}"));
        group.throughput(Throughput::Elements((METRICS * POINTS) as u64));
        let body = request(kind);
        let engine = Tsdb::builder(dir.path().join(name)).config(config.clone());
        let engine = engine.open().expect("the directory is new");
        let known = KnownSeries::default();
        // Each request teaches a few hundred series, of which a point has up to eighteen.
        for _ in 0..METRICS * POINTS * 18 / 250 {
            let done = with_known(&engine, &rules, &known, |metrics| {
                let translated = translate(&body, &settings, &rules, metrics);
                Ok(translated.expect("a good request").rejections)
            });
            done.expect("it is stored");
        }
        group.bench_function("generated", |bench| {
            bench.iter(|| ExportMetricsServiceRequest::decode(black_box(&body[..])).is_ok());
        });
        group.bench_function("known", |bench| {
            bench.iter(|| {
                let mut metrics = Metrics::with_known(&engine, &rules, &known);
                translate(black_box(&body), &settings, &rules, &mut metrics)
            });
        });
        group.bench_function("fresh", |bench| {
            bench.iter(|| {
                let mut metrics = Metrics::new(&engine, &limits);
                translate(black_box(&body), &settings, &rules, &mut metrics)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, translations);
criterion_main!(benches);
