//! Lets PromQL read a snapshot of the metrics engine.

use trine_storage::{Error, Labels, Matcher, TimeRange};
use trine_tsdb::Snapshot;

use super::source::{Samples, SelectRequest, Series, SeriesIter, Source, Values};

impl Source for Snapshot {
    fn select(&self, request: &SelectRequest) -> Result<SeriesIter, Error> {
        let hints = trine_tsdb::Hints::default();
        let found = Self::select(self, &request.matchers, request.range, &hints)?;
        Ok(Box::new(found.map(|series| moved(series?))))
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

/// The engine's columns as the language's; nothing is copied.
fn moved(series: trine_tsdb::Series) -> Result<Series, Error> {
    let values = match series.samples.values {
        trine_tsdb::Values::Floats(values) => Values::Floats(values),
        _ => {
            return Err(Error::new(
                trine_storage::Kind::Unsupported,
                format!(
                    "{} has samples of a kind that PromQL cannot read yet",
                    series.labels
                ),
            ));
        }
    };
    let samples = Samples {
        timestamps: series.samples.timestamps,
        values,
    };
    Ok(Series {
        labels: series.labels,
        samples,
    })
}

#[cfg(test)]
mod tests {
    use trine_storage::Labels;
    use trine_tsdb::{Durability, Tsdb, Value};

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
        assert!(
            (samples[0].value - 120.0 / 180.0).abs() < 1e-9,
            "{}",
            samples[0].value
        );
        db.close().unwrap();
    }
}
