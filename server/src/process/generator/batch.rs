//! Series of a round on their way to the metrics engine, some at a time. `generator` fills it.

use trine_storage::Labels;
use trine_tsdb::{
    Durability, Error, Metadata, MetricType, Reason, SeriesAppender, SeriesRef, Tsdb,
};

use super::super::series::Told;

/// Series that are handed over at a time.
const SERIES_MAX: usize = 10_000;

/// How the engine knows the series of each table, by their places.
pub(super) type References = [Vec<Option<SeriesRef>>; 3];

/// A round on its way.
#[derive(Debug)]
pub(super) struct Batch<'e> {
    engine: &'e Tsdb,
    /// When series that are new begin, and when the round is, milliseconds since 1970.
    zero_ms: i64,
    now_ms: i64,
    references: References,
    told: Vec<(usize, Told)>,
    result: Result<(), Error>,
}

impl<'e> Batch<'e> {
    pub(super) fn new(
        engine: &'e Tsdb,
        (zero_ms, now_ms): (i64, i64),
        references: References,
    ) -> Self {
        Self {
            engine,
            zero_ms,
            now_ms,
            references,
            told: Vec::new(),
            result: Ok(()),
        }
    }

    /// Adds a series of a table. After a failure nothing more is handed over.
    pub(super) fn add(&mut self, table: usize, told: Told) {
        if self.result.is_ok() {
            self.told.push((table, told));
            if self.told.len() >= SERIES_MAX {
                self.hand_over();
            }
        }
    }

    /// Hands over the rest.
    pub(super) fn finish(mut self) -> (References, Result<(), Error>) {
        if self.result.is_ok() {
            self.hand_over();
        }
        (self.references, self.result)
    }

    fn hand_over(&mut self) {
        let told = std::mem::take(&mut self.told);
        self.result = self.append(&told).and_then(|were_known| match were_known {
            true => Ok(()),
            false => {
                // A series had left memory. What was stored is found there, and stays as it is.
                for (table, told) in &told {
                    self.refer(*table, told.place, None);
                }
                self.append(&told).map(drop)
            }
        });
    }

    /// Stores series. Gives whether all that were named by reference were there.
    fn append(&mut self, told: &[(usize, Told)]) -> Result<bool, Error> {
        let mut appender = self.engine.appender();
        let mut new: Vec<(usize, Labels)> = Vec::new();
        for (at, (table, told)) in told.iter().enumerate() {
            let known = self.references.get(*table);
            let known = known.and_then(|of_table| *of_table.get(told.place)?);
            if told.zero.is_some() && told.suffix.is_empty() | (told.suffix == "_count") {
                appender.metadata(told.metric, metadata(told));
            }
            match known {
                Some(reference) => self.put(appender.reference(reference), told),
                None => {
                    let labels = told.all_labels();
                    self.put(appender.series(&labels), told);
                    new.push((at, labels));
                }
            }
        }
        let accepted = appender.commit(Durability::Buffered)?.wait()?;
        for (at, labels) in new {
            if let Some((table, told)) = told.get(at) {
                self.refer(*table, told.place, self.engine.reference(&labels));
            }
        }
        for (table, told) in told.iter().filter(|(_, told)| told.ends) {
            self.refer(*table, told.place, None);
        }
        let ended = |reason| reason == Reason::UnknownReference;
        for rejected in &accepted.rejected {
            if !ended(rejected.reason) {
                tracing::debug!(
                    "{} samples of series of spans are refused: {} ({})",
                    rejected.count,
                    rejected.reason,
                    rejected.example
                );
            }
        }
        Ok(!accepted.rejected.iter().any(|held| ended(held.reason)))
    }

    fn put(&self, mut series: SeriesAppender<'_>, told: &Told) {
        if let Some(zero) = &told.zero {
            series.append(self.zero_ms, zero.clone());
        }
        series.append(self.now_ms, told.value.clone());
        if let Some(exemplar) = &told.exemplar {
            series.exemplar(exemplar.clone());
        }
    }

    fn refer(&mut self, table: usize, place: usize, reference: Option<SeriesRef>) {
        let Some(of_table) = self.references.get_mut(table) else {
            return;
        };
        if of_table.len() <= place {
            if reference.is_none() {
                return;
            }
            of_table.resize(place + 1, None);
        }
        if let Some(slot) = of_table.get_mut(place) {
            *slot = reference;
        }
    }
}

/// What the metric of a new series is.
fn metadata(told: &Told) -> Metadata {
    let is_counter = told.suffix.is_empty() && told.metric.ends_with("_total");
    let (kind, unit) = match is_counter {
        true => (MetricType::Counter, ""),
        false => (MetricType::Histogram, "seconds"),
    };
    Metadata {
        kind,
        help: format!("Made of spans as they came: {}.", told.metric),
        unit: unit.to_owned(),
    }
}
