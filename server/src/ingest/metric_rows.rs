//! What the translators of both versions of remote write share: the rows of one series, who takes
//! them, and how their parts are read. `store` is the taker.

use std::sync::Arc;

use trine_storage::Labels;
use trine_storage::labels::LabelsBuffer;
use trine_tsdb::{Exemplar, Histogram, Metadata, MetricType};

use super::known_series::Print;
use super::metric_labels::{Pair, shown};
use super::rejections::Rejections;
use crate::proto::histogram::HistogramSample;
use crate::proto::wire::WireError;

/// A histogram with its timestamp and the one at which its counter began, 0 when that is not known;
/// both in milliseconds since 1970.
pub type HistogramRow = (i64, i64, Arc<Histogram>);

/// The rows of one series.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Pairs of timestamp (milliseconds) and value.
    pub samples: &'a [(i64, f64)],
    /// When the counter of each sample began, 0 where that is not known; empty when it is not known
    /// of any.
    pub starts: &'a [i64],
    /// Histograms; whoever stages them takes them out.
    pub histograms: &'a mut Vec<HistogramRow>,
    /// Exemplars; whoever stages them takes them out.
    pub exemplars: &'a mut Vec<Exemplar>,
}

/// Takes series with their rows.
pub trait Sink {
    /// What stands for a series that is sent as `wire`; `None` when series are not remembered.
    fn print(&self, wire: &[u8]) -> Option<Print>;

    /// Stages rows of the series that `print` stands for, if it is known; else takes nothing and
    /// gives false, and [`Sink::series`] follows.
    fn known(&mut self, print: Print, rows: &mut Rows<'_>) -> bool;

    /// Stages rows of one series; `print` is what it may be known by from now on.
    fn series(&mut self, print: Option<Print>, labels: &LabelsBuffer, rows: &mut Rows<'_>);

    /// Says what a metric is.
    fn metadata(&mut self, metric: &str, metadata: Metadata);
}

/// Histograms and exemplars of one series while they are read; reused from series to series.
#[derive(Debug, Default)]
pub struct Extras {
    /// Histograms that can be stored.
    pub histograms: Vec<HistogramRow>,
    /// Exemplars that can be stored.
    pub exemplars: Vec<Exemplar>,
    /// What is wrong with the others, without the name of the series.
    refused: Vec<String>,
    labels: LabelsBuffer,
}

impl Extras {
    /// Reads histograms. What cannot be one waits for [`Extras::tell`].
    ///
    /// # Errors
    /// [`WireError`] when a message is none: the request cannot be read.
    pub fn read_histograms(&mut self, messages: &[&[u8]], created: i64) -> Result<(), WireError> {
        self.histograms.clear();
        for message in messages {
            let read = HistogramSample::read(message)?;
            let start = match read.start_timestamp {
                0 => created,
                start => start,
            };
            match read.histogram {
                Ok(histogram) => {
                    let row = (read.timestamp, start, Arc::new(histogram));
                    self.histograms.push(row);
                }
                Err(error) => {
                    let text = format!("timestamp={}: {error}", read.timestamp);
                    self.refused.push(text);
                }
            }
        }
        Ok(())
    }

    /// Adds an exemplar. One without a timestamp has that of the row it came with.
    ///
    /// # Errors
    /// What is wrong with its labels.
    pub fn exemplar(
        &mut self,
        pairs: &[Pair<'_>],
        timestamp: i64,
        value: f64,
        samples: &[(i64, f64)],
    ) -> Result<(), String> {
        let last = samples.last().map(|sample| sample.0);
        let last = last.or_else(|| self.histograms.last().map(|row| row.0));
        self.labels.clear();
        let plain = pairs
            .iter()
            .all(|(name, value)| self.labels.push(name, value));
        let labels = if plain {
            self.labels.to_labels()
        } else {
            let text = |bytes| std::str::from_utf8(bytes).map_err(|error| error.to_string());
            let texts: Result<Vec<_>, String> = pairs
                .iter()
                .map(|(name, value)| Ok((text(name)?, text(value)?)))
                .collect();
            Labels::from_pairs(texts?)
        };
        self.exemplars.push(Exemplar {
            timestamp: match timestamp {
                0 => last.unwrap_or(0),
                timestamp => timestamp,
            },
            value,
            labels: labels.map_err(|error| error.to_string())?,
        });
        Ok(())
    }

    /// The rows of a series with these samples and what was read.
    pub fn rows<'a>(&'a mut self, samples: &'a [(i64, f64)], starts: &'a [i64]) -> Rows<'a> {
        Rows {
            samples,
            starts,
            histograms: &mut self.histograms,
            exemplars: &mut self.exemplars,
        }
    }

    /// Lets go of everything: the series was refused.
    pub fn forget(&mut self) {
        self.histograms.clear();
        self.exemplars.clear();
        self.refused.clear();
    }

    /// Whether something could not be read.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Tells which histograms of the series with these labels could not be read.
    pub fn tell(&mut self, pairs: &[Pair<'_>], rejections: &mut Rejections) {
        for text in self.refused.drain(..) {
            let text = format!("invalid histogram: series={} {text}", shown(pairs));
            rejections.add(1, text);
        }
    }
}

/// The type of a metric that both versions write as this number.
pub fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

/// The metric that the series `name` belongs to: a classic histogram has several.
pub fn family(name: &str, kind: MetricType) -> &str {
    let suffixes: &[&str] = match kind {
        MetricType::Histogram | MetricType::GaugeHistogram => &["_bucket", "_count", "_sum"],
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    let stripped = suffixes
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .filter(|family| !family.is_empty());
    stripped.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use trine_tsdb::MetricType;

    use super::{Extras, family, metric_type};

    #[test]
    fn families() {
        for (name, kind, expect) in [
            ("x_bucket", MetricType::Histogram, "x"),
            ("x_count", MetricType::Summary, "x"),
            ("x_bucket", MetricType::Summary, "x_bucket"),
            ("x_total", MetricType::Counter, "x_total"),
            ("x_sum", MetricType::Gauge, "x_sum"),
            ("_sum", MetricType::Summary, "_sum"),
            ("native", MetricType::Histogram, "native"),
        ] {
            assert_eq!(family(name, kind), expect, "{name} {kind}");
        }
    }

    #[test]
    fn types_by_their_numbers() {
        let words: Vec<String> = (0..9).map(|n| metric_type(n).to_string()).collect();
        assert_eq!(
            words.join(" "),
            "unknown counter gauge histogram gaugehistogram summary info stateset unknown"
        );
    }

    #[test]
    fn an_exemplar_without_a_timestamp_has_that_of_its_row() {
        let mut extras = Extras::default();
        let samples = [(7, 1.0), (9, 2.0)];
        let pairs: &[(&[u8], &[u8])] = &[(b"z", b"1"), (b"a", b"2")];
        extras.exemplar(pairs, 0, 0.5, &samples).unwrap();
        extras.exemplar(&[], 8, 0.5, &samples).unwrap();
        extras.exemplar(&[], 0, 0.5, &[]).unwrap();
        let got: Vec<_> = extras
            .exemplars
            .iter()
            .map(|exemplar| format!("{} {}", exemplar.timestamp, exemplar.labels))
            .collect();
        assert_eq!(got, [r#"9 {a="2", z="1"}"#, "8 {}", "0 {}"]);
        let wrong: &[(&[u8], &[u8])] = &[(b"a", b"1"), (b"a", b"2")];
        assert!(extras.exemplar(wrong, 0, 0.5, &samples).is_err());
        let wrong: &[(&[u8], &[u8])] = &[(b"a", b"\xff")];
        assert!(extras.exemplar(wrong, 0, 0.5, &samples).is_err());
    }
}
