//! Lets PromQL read a snapshot of the metrics engine.

use std::ops::ControlFlow;
use std::sync::Arc;

use trine_storage::{Error, Labels, Matcher, TimeRange};
use trine_tsdb::Snapshot;

use super::source::{
    Batch, Batches, SampleValue, Samples, SelectRequest, Series, SeriesIter, Source, Values,
};
use crate::vector::Histogram;
use crate::vector::histogram::{Buckets, ResetHint, Span};

impl Source for Snapshot {
    fn select(&self, request: &SelectRequest) -> Result<SeriesIter, Error> {
        let hints = trine_tsdb::Hints::default();
        let found = Self::select(self, &request.matchers, request.range, &hints)?;
        Ok(Box::new(found.map(|series| moved(series?))))
    }

    fn batches(&self, request: &SelectRequest) -> Result<Box<dyn Batches>, Error> {
        let found = self.select_batches(&request.matchers, request.range)?;
        Ok(Box::new(found))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        Self::label_names(self, matchers, range, limit)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        Self::label_values(self, name, matchers, range, limit)
    }

    fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<Labels>, Error> {
        Self::series(self, matchers, range, limit)
    }
}

impl Batches for trine_tsdb::Batches {
    fn next_batch(&mut self, series_max: usize) -> Result<Option<Batch>, Error> {
        let Some(batch) = Self::next_batch(self, series_max)? else {
            return Ok(None);
        };
        Ok(Some(Box::new(move |each| {
            let mut failed = Ok(());
            batch.read(|stored| {
                let none = trine_tsdb::Samples {
                    timestamps: Vec::new(),
                    start_timestamps: None,
                    values: trine_tsdb::Values::Floats(Vec::new()),
                };
                let samples = std::mem::replace(&mut stored.samples, none);
                let labels = stored.labels.clone();
                let mut series = match moved(trine_tsdb::Series { labels, samples }) {
                    Ok(series) => series,
                    Err(error) => {
                        failed = Err(error);
                        return ControlFlow::Break(());
                    }
                };
                let flow = each(&mut series);
                // The room of what was read serves the next series.
                if let Values::Floats(values) = series.samples.values {
                    stored.samples.timestamps = series.samples.timestamps;
                    stored.samples.values = trine_tsdb::Values::Floats(values);
                }
                flow
            })?;
            failed
        })))
    }
}

/// The engine's columns as the language's; of floats nothing is copied.
fn moved(series: trine_tsdb::Series) -> Result<Series, Error> {
    let samples = series.samples;
    let values = match samples.values {
        trine_tsdb::Values::Floats(values) => Values::Floats(values),
        trine_tsdb::Values::Histograms(stored) => {
            let mut last = Last::default();
            Values::Histograms(stored.iter().map(|one| last.converted(one)).collect())
        }
        trine_tsdb::Values::Mixed(stored) => {
            let mut last = Last::default();
            let values = stored.iter().map(|one| match one {
                trine_tsdb::Value::Float(value) => Ok(SampleValue::Float(*value)),
                trine_tsdb::Value::Histogram(one) => {
                    Ok(SampleValue::Histogram(last.converted(one)))
                }
                _ => Err(unknown_kind(&series.labels)),
            });
            Values::Mixed(values.collect::<Result<_, _>>()?)
        }
        _ => return Err(unknown_kind(&series.labels)),
    };
    Ok(Series {
        labels: series.labels,
        samples: Samples {
            timestamps: samples.timestamps,
            start_timestamps: samples.start_timestamps,
            values,
        },
    })
}

fn unknown_kind(labels: &Labels) -> Error {
    let text = format!("{labels} has samples of a kind that PromQL does not know");
    Error::new(trine_storage::Kind::Unsupported, text)
}

/// The histogram that was converted last: equal neighbours are one allocation in the engine, and
/// stay one; bounds are shared as long as they do not change.
#[derive(Debug, Default)]
struct Last {
    stored: Option<Arc<trine_tsdb::Histogram>>,
    converted: Arc<Histogram>,
}

impl Last {
    fn converted(&mut self, stored: &Arc<trine_tsdb::Histogram>) -> Arc<Histogram> {
        let same = |last: &Arc<trine_tsdb::Histogram>| Arc::ptr_eq(last, stored);
        if !self.stored.as_ref().is_some_and(same) {
            let mut converted = Histogram::from(stored.as_ref());
            if converted.custom_values == self.converted.custom_values {
                converted.custom_values = Arc::clone(&self.converted.custom_values);
            }
            self.converted = Arc::new(converted);
            self.stored = Some(Arc::clone(stored));
        }
        Arc::clone(&self.converted)
    }
}

impl From<&trine_tsdb::Histogram> for Histogram {
    fn from(stored: &trine_tsdb::Histogram) -> Self {
        let floats = |counts: &[i64]| counts.iter().map(|count| *count as f64).collect();
        let (zero_count, count, positive, negative) = match &stored.buckets {
            trine_tsdb::Buckets::Integer {
                zero_count,
                count,
                positive,
                negative,
            } => (
                *zero_count as f64,
                *count as f64,
                floats(positive),
                floats(negative),
            ),
            trine_tsdb::Buckets::Float {
                zero_count,
                count,
                positive,
                negative,
            } => (*zero_count, *count, positive.clone(), negative.clone()),
        };
        Self {
            schema: stored.schema,
            reset_hint: match stored.reset_hint {
                trine_tsdb::ResetHint::Unknown => ResetHint::Unknown,
                trine_tsdb::ResetHint::Reset => ResetHint::Reset,
                trine_tsdb::ResetHint::NotReset => ResetHint::NotReset,
                trine_tsdb::ResetHint::Gauge => ResetHint::Gauge,
            },
            zero_threshold: stored.zero_threshold,
            zero_count,
            count,
            sum: stored.sum,
            positive: Buckets::from_spans(absolute(&stored.positive_spans), positive),
            negative: Buckets::from_spans(absolute(&stored.negative_spans), negative),
            custom_values: stored.custom_values.as_slice().into(),
        }
    }
}

/// Spans that say where they begin, of such that say how far they lie apart.
fn absolute(spans: &[trine_tsdb::Span]) -> impl Iterator<Item = Span> {
    let mut next = 0i32;
    spans.iter().map(move |span| {
        let start = next.saturating_add(span.offset);
        next = start.saturating_add_unsigned(span.length);
        Span {
            start,
            length: span.length,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trine_storage::Labels;
    use trine_tsdb::{Durability, Tsdb, Value};

    use crate::promql::SampleValue;
    use crate::vector::Histogram;

    use crate::budget::Limits;
    use crate::promql::{Engine, Options, parse};

    #[test]
    fn a_query_reads_memory_and_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let db = Tsdb::open(dir.path()).unwrap();
        let labels = Labels::from_pairs([("__name__", "m_total"), ("job", "a")]).unwrap();
        // The engine refuses samples that are older than its retention.
        let now = trine_storage::clock::Clock::now_ms(&trine_storage::clock::SystemClock::new());
        let start = now / 60_000 * 60_000 - 600_000;
        for (at, seal) in [(0, true), (1, false), (2, false)] {
            let mut appender = db.appender();
            let (time, value) = (start + at * 60_000, Value::Float(60.0 * at as f64));
            appender.append(&labels, time, value);
            appender
                .commit(Durability::Buffered)
                .unwrap()
                .wait()
                .unwrap();
            if seal {
                db.flush().unwrap();
            }
        }
        let engine = Engine::new(Limits::default());
        let query = parse("sum by (job) (rate(m_total[3m]))").unwrap();
        let result = engine
            .instant(&db.snapshot(), &query, start + 120_000, &Options::default())
            .unwrap();
        let crate::promql::Value::Vector(samples) = result.value else {
            panic!("a vector")
        };
        assert_eq!(samples.len(), 1);
        assert_eq!(
            samples[0].labels,
            Labels::from_pairs([("job", "a")]).unwrap()
        );
        let value = samples[0].value.as_float().unwrap();
        assert!((value - 120.0 / 180.0).abs() < 1e-9, "{value}");
        db.close().unwrap();
    }

    #[test]
    fn histograms_and_floats_of_one_series_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let db = Tsdb::open(dir.path()).unwrap();
        let labels = Labels::from_pairs([("__name__", "m")]).unwrap();
        let now = trine_storage::clock::Clock::now_ms(&trine_storage::clock::SystemClock::new());
        let stored = trine_tsdb::Histogram {
            sum: 5.0,
            buckets: trine_tsdb::Buckets::Integer {
                zero_count: 1,
                count: 6,
                positive: vec![2, 1],
                negative: vec![2],
            },
            positive_spans: vec![span(-1, 1), span(3, 1)],
            negative_spans: vec![span(4, 1)],
            ..trine_tsdb::Histogram::default()
        };
        let expected = Histogram::from(&stored);
        assert_eq!(
            expected.positive.iter().collect::<Vec<_>>(),
            [(-1, 2.0), (3, 1.0)]
        );
        assert_eq!(expected.negative.iter().collect::<Vec<_>>(), [(4, 2.0)]);
        assert_eq!(
            (expected.zero_count, expected.count, expected.sum),
            (1.0, 6.0, 5.0)
        );
        let start = now - 600_000;
        let values = [
            Value::from(stored.clone()),
            Value::from(stored),
            Value::Float(7.0),
            Value::from(trine_tsdb::Histogram::stale()),
        ];
        for (at, value) in (0i64..).zip(values) {
            let mut appender = db.appender();
            appender.append(&labels, start + at * 60_000, value);
            let commit = appender.commit(Durability::Buffered).unwrap();
            assert!(commit.wait().unwrap().rejected.is_empty());
        }
        let query = |text: &str, at: i64| {
            let query = parse(text).unwrap();
            let (engine, options) = (Engine::new(Limits::default()), Options::default());
            let time = start + at * 60_000;
            let result = engine
                .instant(&db.snapshot(), &query, time, &options)
                .unwrap();
            let crate::promql::Value::Vector(samples) = result.value else {
                panic!("a vector")
            };
            samples
                .into_iter()
                .map(|sample| sample.value)
                .collect::<Vec<_>>()
        };
        let histogram = SampleValue::Histogram(Arc::new(expected));
        assert_eq!(query("m", 1), vec![histogram.clone()]);
        assert_eq!(query("m", 2), [SampleValue::Float(7.0)]);
        assert_eq!(query("m", 3), []);
        assert_eq!(
            query("count_over_time(m[10m])", 3),
            [SampleValue::Float(3.0)]
        );
        assert_eq!(query("first_over_time(m[10m])", 3), [histogram]);
        assert_eq!(
            query("last_over_time(m[10m])", 3),
            [SampleValue::Float(7.0)]
        );
        db.close().unwrap();
    }

    fn span(offset: i32, length: u32) -> trine_tsdb::Span {
        trine_tsdb::Span { offset, length }
    }
}
