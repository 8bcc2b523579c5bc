//! Requests of remote write, of both versions: translated as the server does, into a taker that
//! knows each series from its second time on.

use std::collections::HashMap;

use trine_server::config::Limits;
use trine_server::ingest::known_series::{KnownSeries, Print};
use trine_server::ingest::metric_labels::Rules;
use trine_server::ingest::metric_rows::{Rows, Sink};
use trine_server::ingest::remote_write::{Version, translate};
use trine_storage::labels::LabelsBuffer;
use trine_tsdb::Metadata;

/// Takes rows, and checks what every translator promises.
#[derive(Debug, Default)]
struct Taker {
    prints: KnownSeries,
    known: HashMap<[u8; 16], Vec<u8>>,
}

impl Sink for Taker {
    fn print(&self, wire: &[u8]) -> Option<Print> {
        Some(self.prints.read(None).print(wire))
    }

    fn known(&mut self, print: Print, rows: &mut Rows<'_>) -> bool {
        let known = self.known.contains_key(&print.to_bytes());
        if known {
            check(rows);
        }
        known
    }

    fn series(&mut self, print: Option<Print>, labels: &LabelsBuffer, rows: &mut Rows<'_>) {
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

    fn metadata(&mut self, metric: &str, _: Metadata) {
        assert!(!metric.is_empty());
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
