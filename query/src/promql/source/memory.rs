//! A source that holds all samples in memory: for tests, and for what is small and already there.

use std::collections::BTreeMap;

use trine_storage::{Error, Labels, Matcher, TimeRange};

use super::{SampleValue, Samples, SelectRequest, Series, SeriesIter, Source};

/// Series by their labels, each with its samples by their times.
#[derive(Debug, Default)]
pub struct Memory {
    series: BTreeMap<Labels, BTreeMap<i64, Sample>>,
}

#[derive(Debug, Clone)]
struct Sample {
    /// 0 where it is not known.
    start_ms: i64,
    value: SampleValue,
}

impl Memory {
    /// A float at a time, unless something is there already.
    pub fn add(&mut self, labels: &Labels, time_ms: i64, value: f64) {
        self.add_sample(labels, time_ms, 0, SampleValue::Float(value));
    }

    /// A sample with the time at which its counter began, 0 where that is not known. What is there
    /// at its time already stays.
    pub fn add_sample(&mut self, labels: &Labels, time_ms: i64, start_ms: i64, value: SampleValue) {
        self.series
            .entry(labels.clone())
            .or_default()
            .entry(time_ms)
            .or_insert(Sample { start_ms, value });
    }

    fn matching(&self, matchers: &[Matcher], range: TimeRange) -> Vec<&Labels> {
        self.series
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|m| m.matches_labels(labels)))
            .filter(|(_, samples)| samples.keys().any(|time| range.contains(*time)))
            .map(|(labels, _)| labels)
            .collect()
    }
}

impl Source for Memory {
    fn select(&self, request: &SelectRequest) -> Result<SeriesIter, Error> {
        let matches = |labels: &Labels| request.matchers.iter().all(|m| m.matches_labels(labels));
        let series: Vec<Series> = self
            .series
            .iter()
            .filter(|(labels, _)| matches(labels))
            .map(|(labels, samples)| {
                let inside = samples
                    .iter()
                    .filter(|(time, _)| request.range.contains(**time));
                let samples = columns(inside.map(|(time, sample)| (*time, sample.clone())));
                Series {
                    labels: labels.clone(),
                    samples,
                }
            })
            .collect();
        Ok(Box::new(series.into_iter().map(Ok)))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        let matching = self.matching(matchers, range);
        let names = matching
            .iter()
            .flat_map(|labels| labels.iter().map(|(name, _)| name));
        Ok(sorted(names, limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        let matching = self.matching(matchers, range);
        Ok(sorted(
            matching.iter().filter_map(|labels| labels.get(name)),
            limit,
        ))
    }

    fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<Labels>, Error> {
        let matching = self.matching(matchers, range).into_iter().cloned();
        Ok(matching.take(limit.unwrap_or(usize::MAX)).collect())
    }
}

fn columns(samples: impl Iterator<Item = (i64, Sample)>) -> Samples {
    let (mut timestamps, mut starts, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (time, sample) in samples {
        timestamps.push(time);
        starts.push(sample.start_ms);
        values.push(sample.value);
    }
    Samples {
        timestamps,
        start_timestamps: starts.iter().any(|start| *start != 0).then_some(starts),
        values: values.into(),
    }
}

fn sorted<'a>(texts: impl Iterator<Item = &'a str>, limit: Option<usize>) -> Vec<String> {
    let unique: std::collections::BTreeSet<&str> = texts.collect();
    unique
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .map(str::to_owned)
        .collect()
}
