//! Requests of remote write, of both versions, from their bytes to a staged batch: series that are
//! seen for the first time, and known ones. What generated code takes to decode them stands beside.

#[path = "../../server/src/proto/schema.rs"]
mod schema;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use schema::{v1, v2};
use trine_server::config::Limits;
use trine_server::ingest::known_series::KnownSeries;
use trine_server::ingest::metric_labels::Rules;
use trine_server::ingest::rejections::Rejections;
use trine_server::ingest::remote_write::{Version, translate};
use trine_server::ingest::store::Metrics;
use trine_tsdb::{Config, Tsdb};

const SERIES: usize = 2_000;
const NOW: i64 = 1_700_000_000_123;

/// What the requests hold of each series.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Floats,
    Histograms,
}

fn labels(number: usize) -> Vec<(&'static str, String)> {
    let texts = [
        (
            "__name__",
            format!("http_requests_{:02}_total", number / 40),
        ),
        ("cluster", "eu-west-1".to_owned()),
        (
            "instance",
            format!("10.0.{}.{}:8080", number / 8 % 32, number % 8),
        ),
        ("job", "api".to_owned()),
        ("method", "GET".to_owned()),
        ("namespace", "production".to_owned()),
        ("pod", format!("api-7d9f8b6c5d-{number:05}")),
        ("status", (200 + number % 5).to_string()),
    ];
    texts.to_vec()
}

fn requests(kind: Kind) -> [(Version, Vec<u8>); 2] {
    let mut one = v1::request(Vec::new());
    let mut two = v2::Request::begin();
    for number in 0..SERIES {
        let labels = labels(number);
        let pairs: Vec<_> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let samples: &[(i64, f64)] = match kind {
            Kind::Floats => &[(NOW, 1234.5)],
            Kind::Histograms => &[],
        };
        let mut series = v1::series(&pairs, samples);
        let other = two.series(&pairs, samples);
        if kind == Kind::Histograms {
            series.histograms = vec![schema::histogram(NOW)];
            other.histograms = vec![schema::histogram(NOW)];
        }
        one.timeseries.push(series);
    }
    let two = two.encode_to_vec();
    [(Version::V1, one.encode_to_vec()), (Version::V2, two)]
}

fn translations(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let limits = Limits::default();
    let rules = Rules::of(&limits);
    for (kind, name) in [(Kind::Floats, "floats"), (Kind::Histograms, "histograms")] {
        let mut group = c.benchmark_group(format!("remote_write/{name}"));
        group.throughput(Throughput::Elements(SERIES as u64));
        for (version, body) in requests(kind) {
            let place = dir.path().join(format!("{name}{version:?}"));
            let engine = Tsdb::builder(&place).config(config.clone());
            let engine = engine.open().expect("the directory is new");
            let known = KnownSeries::default();
            // Each request teaches a few hundred series.
            for _ in 0..SERIES / 100 {
                let mut metrics = Metrics::with_known(&engine, &rules, &known);
                translate(version, &body, &rules, &mut metrics).expect("a good request");
                let done = metrics.commit_known(Rejections::default());
                done.expect("it is stored");
            }
            group.bench_function(format!("{version:?}/known"), |bench| {
                bench.iter(|| {
                    let mut metrics = Metrics::with_known(&engine, &rules, &known);
                    translate(version, black_box(&body), &rules, &mut metrics)
                });
            });
            group.bench_function(format!("{version:?}/fresh"), |bench| {
                bench.iter(|| {
                    let mut metrics = Metrics::new(&engine, &limits);
                    translate(version, black_box(&body), &rules, &mut metrics)
                });
            });
            group.bench_function(format!("{version:?}/generated"), |bench| {
                bench.iter(|| match version {
                    Version::V1 => v1::WriteRequest::decode(black_box(&body[..])).is_ok(),
                    Version::V2 => v2::Request::decode(black_box(&body[..])).is_ok(),
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, translations);
criterion_main!(benches);
