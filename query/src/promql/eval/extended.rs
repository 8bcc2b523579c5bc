//! Range vectors that reach beyond their borders (`anchored`, `smoothed`), and `smoothed` instant
//! selectors. Called by the calls and the selectors.

use std::sync::Arc;

use super::Evaluation;
use super::extended_histograms::Samples;
use super::histogram_range::RangeNotes;
use super::selector::{Places, Raw};
use super::steps::Steps;
use super::stream::Vector;
use crate::promql::ast::{Expr, Extended, Selector};
use crate::promql::error::QueryError;
use crate::promql::functions::RangeOp;
use crate::promql::source::SampleValue;
use crate::text::Span;
use crate::vector::{ABSENT, Histograms, StepSeries};

/// The functions that know a modifier, as its error names them.
fn allowed(extended: Extended) -> &'static [&'static str] {
    match extended {
        Extended::Anchored => &["changes", "delta", "increase", "rate", "resets"],
        Extended::Smoothed => &["delta", "increase", "rate"],
    }
}

/// The error of a function that does not know the modifier, if it does not.
pub(super) fn check(extended: Extended, function: &str) -> Result<(), QueryError> {
    let allowed = allowed(extended);
    if allowed.contains(&function) {
        return Ok(());
    }
    let (name, allowed) = (extended.name(), allowed.join(", "));
    Err(QueryError::Execution(format!(
        "{name} modifier can only be used with: {allowed} - not with {function}"
    )))
}

/// The samples around a range: rising times, and their values.
#[derive(Clone, Copy)]
struct Around<'r> {
    times: &'r [i64],
    values: &'r [f64],
}

impl<'q> Evaluation<'q> {
    /// `function(selector[range] anchored)` or the same with `smoothed`.
    pub(super) fn extended_function(
        &'q self,
        (name, op): (&'static str, RangeOp),
        (argument, selector): (&'q Expr, &'q Selector),
        (extended, range_ms): (Extended, i64),
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        check(extended, name)?;
        let places = self.places(&selector.modifiers, steps);
        let lookback = self.options.lookback_ms.max(1);
        let after = match extended {
            Extended::Anchored => 0,
            Extended::Smoothed => lookback,
        };
        let before = range_ms.saturating_add(lookback);
        let raws = self.samples_around(selector, places, (before, after), Some(name))?;
        let series = raws.filter_map(move |raw| {
            let raw = match raw {
                Ok(raw) => raw,
                Err(error) => return Some(Err(error)),
            };
            let bounds = |step: usize| {
                let end = places.at(step);
                let start = end.saturating_sub(range_ms);
                (start.saturating_sub(lookback), start, end)
            };
            let seconds = range_ms as f64 / 1000.0;
            let of_floats = |step: usize| {
                let (oldest, start, end) = bounds(step);
                let around = Around::between(&raw, oldest, end.saturating_add(after));
                let change = around.change(extended, op, start, end)?;
                Some(match op {
                    RangeOp::Rate => change / seconds,
                    _ => change,
                })
            };
            let series = if raw.histograms.is_none() {
                StepSeries::new(raw.labels.clone(), at_steps(places, of_floats))
            } else {
                let mut notes = RangeNotes::default();
                let found = both_at_steps(places, |step| {
                    let (oldest, start, end) = bounds(step);
                    let samples = Samples::between(&raw, oldest, end.saturating_add(after));
                    if samples.only_floats() {
                        return of_floats(step).map(SampleValue::Float);
                    }
                    match samples.change(extended, op, (start, end), &mut notes)? {
                        SampleValue::Histogram(mut change) if op == RangeOp::Rate => {
                            Arc::make_mut(&mut change).divide(seconds);
                            Some(SampleValue::Histogram(change))
                        }
                        change => Some(change),
                    }
                });
                self.note_range(argument.span, &raw.labels, notes);
                StepSeries::with_histograms(raw.labels.clone(), found.0, found.1)
            };
            if !series.has_values() {
                return None;
            }
            if matches!(op, RangeOp::Rate | RangeOp::Increase) {
                self.warn_of_gauge(argument, &series);
            }
            Some(Ok(series))
        });
        self.without_names(Vector {
            series: Box::new(series),
            one_name: super::selector::has_one_name(selector),
        })
    }

    /// `selector smoothed`: the value on the line between the samples before and after each step.
    pub(super) fn smoothed_selector(
        &'q self,
        selector: &'q Selector,
        span: Span,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let places = self.places(&selector.modifiers, steps);
        let lookback = self.options.lookback_ms.max(1);
        let raws = self.samples_around(selector, places, (lookback, lookback), None)?;
        let series = raws.filter_map(move |raw| {
            let raw = match raw {
                Ok(raw) => raw,
                Err(error) => return Some(Err(error)),
            };
            let bounds = |step: usize| {
                let place = places.at(step);
                let (oldest, newest) = (
                    place.saturating_sub(lookback),
                    place.saturating_add(lookback),
                );
                (place, oldest, newest)
            };
            let of_floats = |step: usize| {
                let (place, oldest, newest) = bounds(step);
                Around::between(&raw, oldest, newest).at(place)
            };
            let series = if raw.histograms.is_none() {
                StepSeries::new(raw.labels.clone(), at_steps(places, of_floats))
            } else {
                let mut notes = RangeNotes::default();
                let found = both_at_steps(places, |step| {
                    let (place, oldest, newest) = bounds(step);
                    let samples = Samples::between(&raw, oldest, newest);
                    if samples.only_floats() {
                        return of_floats(step).map(SampleValue::Float);
                    }
                    samples.at(place, &mut notes)
                });
                self.note_range(span, &raw.labels, notes);
                StepSeries::with_histograms(raw.labels.clone(), found.0, found.1)
            };
            series.has_values().then_some(Ok(series))
        });
        Ok(Vector {
            series: Box::new(series),
            one_name: super::selector::has_one_name(selector),
        })
    }
}

fn at_steps(places: Places, value: impl Fn(usize) -> Option<f64>) -> Vec<f64> {
    if places.fixed() {
        return vec![value(0).unwrap_or(ABSENT); places.count];
    }
    (0..places.count)
        .map(|step| value(step).unwrap_or(ABSENT))
        .collect()
}

/// The same where histograms may come.
fn both_at_steps(
    places: Places,
    mut value: impl FnMut(usize) -> Option<SampleValue>,
) -> (Vec<f64>, Histograms) {
    let mut entry = |step: usize| match value(step) {
        Some(SampleValue::Float(value)) => (value, None),
        Some(SampleValue::Histogram(histogram)) => (ABSENT, Some(histogram)),
        None => (ABSENT, None),
    };
    if places.fixed() {
        let (value, histogram) = entry(0);
        return (vec![value; places.count], vec![histogram; places.count]);
    }
    (0..places.count).map(entry).unzip()
}

impl<'r> Around<'r> {
    /// The samples in `(oldest, newest]`.
    fn between(raw: &'r Raw, oldest: i64, newest: i64) -> Self {
        let low = raw.timestamps.partition_point(|time| *time <= oldest);
        let high = raw.timestamps.partition_point(|time| *time <= newest);
        Self {
            times: raw.timestamps.get(low..high).unwrap_or_default(),
            values: raw.values.get(low..high).unwrap_or_default(),
        }
    }

    fn sample(&self, at: usize) -> Option<(i64, f64)> {
        Some((*self.times.get(at)?, *self.values.get(at)?))
    }

    /// The value at a time: that of a sample, or of the line between two, or the last one before.
    fn at(&self, time: i64) -> Option<f64> {
        let after = self.times.partition_point(|t| *t <= time);
        let before = self.sample(after.checked_sub(1)?)?;
        match self.sample(after) {
            Some(next) if before.0 < time => Some(line(before, next, time)),
            _ => Some(before.1),
        }
    }

    /// What happened from `start` to `end`, nothing where no sample lies between them.
    fn change(&self, extended: Extended, op: RangeOp, start: i64, end: i64) -> Option<f64> {
        let inside = self.times.partition_point(|time| *time <= start);
        let past = self.times.partition_point(|time| *time < end);
        // The sample that stands at the start, or the first one after it.
        let first = inside.saturating_sub(1);
        let last = match extended {
            Extended::Smoothed => past.min(self.times.len().checked_sub(1)?),
            Extended::Anchored => self.times.len().checked_sub(1)?,
        };
        let ((first_time, first_value), (last_time, last_value)) =
            (self.sample(first)?, self.sample(last)?);
        if last_time <= start || first_time > end {
            return None;
        }
        match op {
            RangeOp::Changes | RangeOp::Resets => {
                let values = self.values.get(first..=last)?;
                let counts = |two: &&[f64]| match op {
                    RangeOp::Resets => two[1] < two[0],
                    _ => two[0] != two[1] && !(two[0].is_nan() && two[1].is_nan()),
                };
                return Some(values.windows(2).filter(counts).count() as f64);
            }
            _ => {}
        }
        let is_counter = op != RangeOp::Delta;
        let smoothed = extended == Extended::Smoothed;
        let border = |(before, after): (usize, usize), time: i64| {
            let (before, after) = (self.sample(before)?, self.sample(after)?);
            // A counter that fell between them began at zero.
            let before = if is_counter && after.1 < before.1 {
                (before.0, 0.0)
            } else {
                before
            };
            Some(line(before, after, time))
        };
        let left = if smoothed && first_time < start {
            border((first, first + 1), start)?
        } else {
            first_value
        };
        let right = if smoothed && last > 0 && last_time > end {
            border((last - 1, last), end)?
        } else {
            last_value
        };
        let mut change = right - left;
        if is_counter {
            let from = first + usize::from(first_time <= start);
            let to = last + usize::from(last_time < end);
            let mut before = left;
            let between = self.values.get(from..to).unwrap_or_default();
            for value in between.iter().chain([&right]) {
                if *value < before {
                    change += before;
                }
                before = *value;
            }
        }
        Some(change)
    }
}

/// The value at `time` on the line through two samples.
fn line((t0, v0): (i64, f64), (t1, v1): (i64, f64), time: i64) -> f64 {
    let part = time.saturating_sub(t0) as f64 / t1.saturating_sub(t0) as f64;
    v0 + (v1 - v0) * part
}
