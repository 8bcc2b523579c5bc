//! Requests of remote write, of both versions, and of OTLP metrics: translated as the server does,
//! into a taker that knows each series from its second time on.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use trine_server::config::{Limits, OtlpMetrics};
use trine_server::ingest::known_series::{KnownSeries, Print};
use trine_server::ingest::metric_labels::Rules;
use trine_server::ingest::metric_rows::{Rows, Sink};
use trine_server::ingest::otlp_metrics::{Translated, translate as translate_otlp};
use trine_server::ingest::remote_write::{Version, translate};
use trine_server::proto::wire::WireError;
use trine_storage::labels::LabelsBuffer;
use trine_tsdb::Metadata;

/// Takes rows, and checks what every translator promises.
#[derive(Debug, Default)]
struct Taker {
    prints: KnownSeries,
    known: HashMap<[u8; 16], Vec<u8>>,
    /// What was given.
    lines: Vec<String>,
}

impl Sink for Taker {
    fn print(&self, wire: &[u8]) -> Option<Print> {
        Some(self.prints.read(false).print(wire))
    }

    fn known(&mut self, print: Print, rows: &mut Rows<'_>) -> bool {
        let Some(labels) = self.known.get(&print.to_bytes()) else {
            return false;
        };
        self.lines.push(format!("{labels:?} {rows:?}"));
        check(rows);
        true
    }

    fn series(&mut self, print: Option<Print>, labels: &LabelsBuffer, rows: &mut Rows<'_>) {
        self.lines.push(format!("{:?} {rows:?}", labels.encoded()));
        check(rows);
        // What is not UTF-8 is left to the engine.
        if let Ok(set) = labels.to_labels() {
            assert!(set.get("__name__").is_some(), "{set} has a name");
        }
        if let Some(print) = print {
            let held = self
                .known
                .insert(print.to_bytes(), labels.encoded().to_vec());
            assert!(held.is_none_or(|held| held == labels.encoded()));
        }
    }

    fn metadata(&mut self, metric: &str, metadata: Metadata) {
        assert!(!metric.is_empty());
        self.lines.push(format!("{metric} {metadata:?}"));
    }
}

fn check(rows: &mut Rows<'_>) {
    assert!(rows.starts.is_empty() || rows.starts.len() == rows.samples.len());
    for (_, _, histogram) in rows.histograms.drain(..) {
        // Whatever was sent, it is judged without a panic.
        histogram.fitted(100).ok();
    }
    rows.exemplars.clear();
}

/// What becomes of a message is what becomes of it when generated code has read and written it.
pub(super) fn otlp(data: &[u8]) {
    let generated = ExportMetricsServiceRequest::decode(data).ok();
    for convert_histograms_to_nhcb in [false, true] {
        let settings = OtlpMetrics {
            convert_histograms_to_nhcb,
            promote_all_resource_attributes: true,
            promote_scope_metadata: true,
            ..OtlpMetrics::default()
        };
        let (translated, lines) = otlp_rows(data, &settings);
        if let Ok(translated) = &translated {
            assert!(translated.rejections.count() <= translated.points);
        }
        let Some(generated) = &generated else {
            continue;
        };
        let (expect, expect_lines) = otlp_rows(&generated.encode_to_vec(), &settings);
        assert!(expect.is_ok(), "{expect:?}");
        match translated {
            // Allowed by the format, and never sent: fields twice, and groups.
            Err(WireError::Repeated | WireError::BadType) => {}
            translated => {
                assert_eq!((translated, lines), (expect, expect_lines));
            }
        }
    }
}

fn otlp_rows(data: &[u8], settings: &OtlpMetrics) -> (Result<Translated, WireError>, Vec<String>) {
    let limits = Limits::default();
    let mut taker = Taker::default();
    let translated = translate_otlp(data, settings, &Rules::of(&limits), &mut taker);
    (translated, taker.lines)
}

pub(super) fn version_1(data: &[u8]) {
    run(Version::V1, data);
}

pub(super) fn version_2(data: &[u8]) {
    run(Version::V2, data);
}

fn run(version: Version, data: &[u8]) {
    let limits = Limits::default();
    let rules = Rules {
        limits: &limits,
        dropped: Some("__replica__"),
    };
    let mut taker = Taker::default();
    let first = translate(version, data, &rules, &mut taker);
    let again = translate(version, data, &rules, &mut taker);
    assert_eq!(
        first, again,
        "what is refused does not depend on what is known"
    );
}
