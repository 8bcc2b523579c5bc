//! A taker of rows that writes down what it is given, for the tests of both translators.

use trine_storage::labels::LabelsBuffer;
use trine_tsdb::{Labels, Metadata};

use super::known_series::{KnownSeries, Print};
use super::metric_rows::{Rows, Sink};

/// What was given, a line for each row.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) lines: Vec<String>,
    prints: KnownSeries,
    learned: Vec<(Print, Labels)>,
}

impl Recorder {
    fn record(&mut self, shown: &str, rows: &mut Rows<'_>) {
        let value = |value: f64| match value.to_bits() {
            0x7ff0_0000_0000_0002 => "stale".to_owned(),
            _ => value.to_string(),
        };
        for (place, (timestamp, sample)) in rows.samples.iter().enumerate() {
            let start = match rows.starts.get(place) {
                None | Some(0) => String::new(),
                Some(start) => format!(" since {start}"),
            };
            self.lines
                .push(format!("{shown} {timestamp} {}{start}", value(*sample)));
        }
        for (timestamp, start, histogram) in rows.histograms.drain(..) {
            let kind = match histogram.buckets.is_integer() {
                true => "integers",
                false => "floats",
            };
            self.lines.push(format!(
                "{shown} {timestamp} {kind} schema {} count {} sum {} since {start}",
                histogram.schema,
                histogram.count(),
                value(histogram.sum)
            ));
        }
        for exemplar in rows.exemplars.drain(..) {
            self.lines.push(format!(
                "{shown} exemplar {} {} {}",
                exemplar.timestamp, exemplar.value, exemplar.labels
            ));
        }
    }

    /// The labels of the series that were known.
    pub(super) fn learned(&self) -> usize {
        self.learned.len()
    }
}

impl Sink for Recorder {
    fn print(&self, wire: &[u8]) -> Option<Print> {
        Some(self.prints.read(false).print(wire))
    }

    fn known(&mut self, print: Print, rows: &mut Rows<'_>) -> bool {
        let found = self.learned.iter().find(|(other, _)| *other == print);
        let Some(labels) = found.map(|(_, labels)| labels.to_string()) else {
            return false;
        };
        self.record(&format!("known {labels}"), rows);
        true
    }

    fn series(&mut self, print: Option<Print>, labels: &LabelsBuffer, rows: &mut Rows<'_>) {
        let labels = labels.to_labels().unwrap();
        self.record(&labels.to_string(), rows);
        self.learned.extend(print.map(|print| (print, labels)));
    }

    fn metadata(&mut self, metric: &str, metadata: Metadata) {
        let Metadata { kind, help, unit } = metadata;
        self.lines
            .push(format!("{metric} is {kind} {help:?} {unit:?}"));
    }
}
