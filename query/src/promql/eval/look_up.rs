//! The value of an instant selector at each step: the newest sample that is not too old. Called by
//! the selectors.

use std::sync::Arc;

use super::selector::{Places, Raw};
use crate::promql::source::SampleValue;
use crate::vector::{ABSENT, StepSeries, is_absent};

/// What is wanted of the sample that a selector finds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pick {
    Value,
    /// Its time, in seconds.
    Time,
    /// When its counter began, in seconds; 0 where that is not known.
    Start,
}

/// The newest sample of each step that is less than `lookback` milliseconds old and no stale
/// marker.
pub(super) fn look_up(raw: &mut Raw, places: Places, lookback: i64, pick: Pick) -> StepSeries {
    if raw.histograms.is_some() {
        return look_up_both(raw, places, lookback, pick);
    }
    let starts = raw.start_timestamps.as_deref().unwrap_or_default();
    let of = |found: usize, time: i64, value: f64| match pick {
        Pick::Value => value,
        Pick::Time => seconds(time),
        Pick::Start => seconds(starts.get(found).copied().unwrap_or(0)),
    };
    let mut newest = Newest::default();
    let mut find = |step: usize| {
        let place = places.at(step);
        let found = newest.at(&raw.timestamps, place)?;
        let (time, value) = (*raw.timestamps.get(found)?, *raw.values.get(found)?);
        let fresh = time > place.saturating_sub(lookback) && !is_absent(value);
        fresh.then(|| of(found, time, value))
    };
    let values = if places.fixed() {
        vec![find(0).unwrap_or(ABSENT); places.count]
    } else {
        (0..places.count)
            .map(|step| find(step).unwrap_or(ABSENT))
            .collect()
    };
    StepSeries::new(raw.labels.clone(), values)
}

/// The same for a series that has histograms, and perhaps floats between them.
fn look_up_both(raw: &mut Raw, places: Places, lookback: i64, pick: Pick) -> StepSeries {
    let histograms = raw.histograms.take().unwrap_or_default();
    let (mut floats, mut others) = (Newest::default(), Newest::default());
    let start = |starts: &Option<Vec<i64>>, found: usize| {
        let starts = starts.as_ref().and_then(|starts| starts.get(found));
        starts.copied().unwrap_or(0)
    };
    let mut find = |step: usize| {
        let place = places.at(step);
        let float = floats.at(&raw.timestamps, place).and_then(|found| {
            let value = SampleValue::Float(*raw.values.get(found)?);
            let start = start(&raw.start_timestamps, found);
            Some((*raw.timestamps.get(found)?, start, value))
        });
        let other = others.at(&histograms.timestamps, place).and_then(|found| {
            let value = SampleValue::Histogram(Arc::clone(histograms.values.get(found)?));
            let start = start(&histograms.start_timestamps, found);
            Some((*histograms.timestamps.get(found)?, start, value))
        });
        let newer = [float, other]
            .into_iter()
            .flatten()
            .max_by_key(|(time, _, _)| *time);
        let oldest = place.saturating_sub(lookback);
        newer.filter(|(time, _, value)| *time > oldest && !value.is_stale())
    };
    let mut out = StepSeries::absent(raw.labels.clone(), places.count);
    let mut column = vec![None; places.count];
    let mut found = None;
    for (step, (value, histogram)) in out.values.iter_mut().zip(&mut column).enumerate() {
        if step == 0 || !places.fixed() {
            found = find(step);
        }
        match (&found, pick) {
            (Some((time, ..)), Pick::Time) => *value = seconds(*time),
            (Some((_, start, _)), Pick::Start) => *value = seconds(*start),
            (Some((_, _, SampleValue::Float(found))), Pick::Value) => *value = *found,
            (Some((_, _, SampleValue::Histogram(found))), Pick::Value) => {
                *histogram = Some(Arc::clone(found));
            }
            (None, _) => {}
        }
    }
    StepSeries::with_histograms(out.labels, out.values, column)
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// Finds the last of rising times that is not after a place. Places only move ahead.
#[derive(Debug, Default)]
struct Newest {
    next: usize,
}

impl Newest {
    #[inline]
    fn at(&mut self, times: &[i64], place: i64) -> Option<usize> {
        while times.get(self.next).is_some_and(|time| *time <= place) {
            self.next += 1;
        }
        self.next.checked_sub(1)
    }
}
