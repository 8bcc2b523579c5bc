//! Functions over windows in which there are histograms, or floats and histograms. Called by `call`
//! for the series that have some.

use std::sync::Arc;

use super::call::parameters_at;
use super::range_functions::{self, Context};
use super::rate::{self, Extrapolation, Resets};
use super::selector::{HistogramWindow, Place, Places, Raw, Window};
use super::steps::Steps;
use crate::promql::annotation::Computing;
use crate::promql::ast::Expr;
use crate::promql::functions::RangeOp;
use crate::promql::source::SampleValue;
use crate::vector::histogram::{Combined, Incompatible, ResetHint, RunningMean, RunningSum};
use crate::vector::{ABSENT, Histogram, Histograms};

/// What is worth knowing of a function over the windows of a series with histograms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RangeNotes {
    /// A window had floats and histograms, and gave nothing.
    pub(super) mixed_kinds: bool,
    /// A window had exponential and custom buckets, and gave nothing.
    pub(super) mixed_schemas: bool,
    /// A function for counters met a gauge.
    pub(super) not_a_counter: bool,
    /// A function for gauges met a counter.
    pub(super) not_a_gauge: bool,
    /// A sum had histograms that were counter resets and such that were none.
    pub(super) resets_collide: bool,
    /// A function for floats passed over histograms.
    pub(super) ignored: bool,
    /// Custom bounds were given up, since not all histograms of a window had them.
    pub(super) reconciled: Option<Computing>,
}

/// A function at work on one series.
pub(super) struct HistogramRange {
    op: RangeOp,
    floats: Context,
    /// The histograms before which the counter was reset.
    resets: Resets,
    shape: Extrapolation,
    notes: RangeNotes,
}

impl HistogramRange {
    /// `floats` is what the function knows about the floats of the series.
    pub(super) fn new(
        op: RangeOp,
        histograms: &super::selector::Histograms,
        floats: Context,
    ) -> Self {
        let pairs = histograms.values.windows(2);
        let falls = pairs.map(|two| match two {
            [before, now] => now.is_reset_since(before),
            _ => false,
        });
        let starts = histograms.start_timestamps.as_deref();
        Self {
            op,
            floats,
            resets: if op.counts_resets() {
                Resets::of_falls(falls, &histograms.timestamps, starts)
            } else {
                Resets::default()
            },
            shape: Extrapolation::default(),
            notes: RangeNotes::default(),
        }
    }

    pub(super) fn notes(&self) -> RangeNotes {
        self.notes
    }

    /// The values over the windows of the series, and the histograms.
    pub(super) fn slide(
        &mut self,
        raw: &Raw,
        (places, range_ms): (Places, i64),
        parameters: &[(&Expr, Vec<f64>)],
        steps: Steps,
    ) -> (Vec<f64>, Histograms) {
        let windows = raw.windows(places, range_ms).zip(steps.times()).enumerate();
        // All windows are the same one where the place is fixed.
        let once = places.fixed() && parameters.is_empty();
        let windows = windows.take(if once { 1 } else { places.count });
        let found = windows.map(|(step, (window, now_ms))| {
            match self.apply(&window, parameters_at(parameters, step), now_ms) {
                Some(SampleValue::Float(value)) => (value, None),
                Some(SampleValue::Histogram(histogram)) => (ABSENT, Some(histogram)),
                None => (ABSENT, None),
            }
        });
        let (mut values, mut column): (Vec<f64>, Histograms) = found.unzip();
        if once {
            let value = values.first().copied().unwrap_or(ABSENT);
            values.resize(places.count, value);
            column.resize(places.count, column.first().cloned().flatten());
        }
        (values, column)
    }

    fn apply(
        &mut self,
        window: &Window<'_>,
        parameters: [f64; 2],
        now_ms: i64,
    ) -> Option<SampleValue> {
        if window.histograms.values.is_empty() {
            return self.of_floats(window, parameters, now_ms);
        }
        let mixed = !window.values.is_empty();
        let histograms = match self.op {
            RangeOp::Count => return Some(SampleValue::Float(window.len() as f64)),
            RangeOp::Present => return Some(SampleValue::Float(1.0)),
            RangeOp::Last => return window.last_two().1.map(|(_, value)| value),
            RangeOp::First => return window.first().map(|(_, value)| value),
            RangeOp::TsOfFirst => return window.first().map(in_seconds),
            RangeOp::TsOfLast => return window.last_two().1.map(in_seconds),
            RangeOp::Changes => return Some(SampleValue::Float(changes(window))),
            RangeOp::Resets => return Some(SampleValue::Float(self.count_resets(window))),
            RangeOp::Irate | RangeOp::Idelta => match window.last_two() {
                (Some((_, SampleValue::Float(_))), Some((_, SampleValue::Float(_)))) => {
                    return self.of_floats(window, parameters, now_ms);
                }
                (
                    Some((before_ms, SampleValue::Histogram(before))),
                    Some((now_ms, SampleValue::Histogram(now))),
                ) => {
                    let seconds = now_ms.saturating_sub(before_ms) as f64 / 1000.0;
                    let last = window.histograms.offset + window.histograms.values.len() - 1;
                    return self.instantaneous(&before, &now, seconds, self.resets.has(last));
                }
                (Some(_), Some(_)) => None,
                _ => return None,
            },
            RangeOp::Rate | RangeOp::Increase | RangeOp::Delta if !mixed => {
                return self.extrapolated(window).map(histogram);
            }
            RangeOp::Sum if !mixed => return self.sum(window.histograms.values).map(histogram),
            RangeOp::Avg if !mixed => return self.mean(window.histograms.values).map(histogram),
            RangeOp::Rate | RangeOp::Increase | RangeOp::Delta | RangeOp::Sum | RangeOp::Avg => {
                None
            }
            _ => Some(()),
        };
        if histograms.is_none() {
            self.notes.mixed_kinds = true;
            return None;
        }
        // A function that knows floats only.
        self.notes.ignored |= mixed;
        self.of_floats(window, parameters, now_ms)
    }

    fn of_floats(
        &mut self,
        window: &Window<'_>,
        parameters: [f64; 2],
        now_ms: i64,
    ) -> Option<SampleValue> {
        let value = range_functions::apply(self.op, window, parameters, now_ms, &mut self.floats);
        Some(SampleValue::Float(value))
    }

    /// `rate`, `increase` or `delta`, as for floats; the count says when a counter was zero.
    fn extrapolated(&mut self, window: &Window<'_>) -> Option<Histogram> {
        let HistogramWindow {
            timestamps,
            values,
            starts,
            offset,
        } = window.histograms;
        let (first, last) = (values.first()?, values.last()?);
        let born = rate::born(self.op, window, timestamps, starts);
        if values.len() < 2 && born.is_none() {
            return None;
        }
        let mut change = if self.op == RangeOp::Delta {
            self.notes.not_a_gauge |= !first.is_gauge() || !last.is_gauge();
            let mut change = Histogram::clone(last);
            let subtracted = change.subtract(first);
            self.taken(subtracted, Computing::Subtraction)?;
            change
        } else {
            let among = self.resets.among(offset, values.len());
            let resets: Vec<usize> = among.iter().map(|(at, _)| at - offset).collect();
            self.increase(values, &resets, born.is_some())?
        };
        let factor = match born {
            Some(born) => rate::extrapolation_since(self.op, window, timestamps, born)?,
            None => {
                let start = (self.op != RangeOp::Delta).then_some((first.count, change.count));
                rate::extrapolation(self.op, window, timestamps, start, &mut self.shape)?
            }
        };
        change.scale(factor);
        change.reset_hint = ResetHint::Gauge;
        change.compact();
        Some(change)
    }

    fn count_resets(&self, window: &Window<'_>) -> f64 {
        let (mut count, mut before) = (0.0, None);
        for now in window.places() {
            let resets = match (before, now) {
                (None, _) => false,
                (Some(Place::Float(_)), Place::Float(at)) => self.floats.resets().has(at),
                (Some(Place::Histogram(_)), Place::Histogram(at)) => self.resets.has(at),
                _ => true,
            };
            count += f64::from(resets);
            before = Some(now);
        }
        count
    }

    /// What a counter grew by in a window; `resets` are indices in it. A counter that was `born`
    /// inside was zero before.
    fn increase(
        &mut self,
        values: &[Arc<Histogram>],
        resets: &[usize],
        born: bool,
    ) -> Option<Histogram> {
        let [first, rest @ ..] = values else {
            return None;
        };
        let last = rest.last().unwrap_or(first);
        self.notes.not_a_counter |= values.iter().any(|value| value.is_gauge());
        // Of a first histogram before a reset nothing is needed, so it may be what it will.
        let first_counts = resets.first() != Some(&1);
        let like = match rest.first() {
            Some(second) if !first_counts => second,
            _ => first,
        };
        let fits = |value: &Arc<Histogram>| value.has_custom_bounds() == like.has_custom_bounds();
        if !rest.iter().all(fits) {
            self.notes.mixed_schemas = true;
            return None;
        }
        let mut change = Histogram::clone(last);
        if first_counts && !born {
            let subtracted = change.subtract(first);
            self.taken(subtracted, Computing::Subtraction)?;
        }
        for reset in resets.iter().filter(|reset| born || **reset > 1) {
            let before = values.get(reset - 1)?;
            let added = change.add(before);
            self.taken(added, Computing::Addition)?;
        }
        Some(change)
    }

    fn instantaneous(
        &mut self,
        before: &Histogram,
        now: &Histogram,
        seconds: f64,
        is_reset: bool,
    ) -> Option<SampleValue> {
        let is_rate = self.op == RangeOp::Irate;
        if is_rate {
            self.notes.not_a_counter |= before.is_gauge() || now.is_gauge();
        } else {
            self.notes.not_a_gauge |= !before.is_gauge() || !now.is_gauge();
        }
        let mut change = now.clone();
        if !is_rate || !is_reset {
            let subtracted = change.subtract(before);
            self.taken(subtracted, Computing::Subtraction)?;
        }
        if is_rate {
            change.divide(seconds);
        }
        change.reset_hint = ResetHint::Gauge;
        change.compact();
        Some(histogram(change))
    }

    fn sum(&mut self, values: &[Arc<Histogram>]) -> Option<Histogram> {
        let [first, rest @ ..] = values else {
            return None;
        };
        let mut sum = RunningSum::new(first);
        for value in rest {
            let added = sum.add(value);
            self.taken(added, Computing::Aggregation)?;
        }
        self.notes.resets_collide |= sum.resets_collide();
        Some(sum.value())
    }

    fn mean(&mut self, values: &[Arc<Histogram>]) -> Option<Histogram> {
        let [first, rest @ ..] = values else {
            return None;
        };
        let mut mean = RunningMean::new(first);
        for value in rest {
            let added = mean.add(value);
            self.taken(added, Computing::Aggregation)?;
        }
        self.notes.resets_collide |= mean.resets_collide();
        Some(mean.value())
    }

    /// Notes what came of adding or subtracting; `None` where nothing came of it.
    fn taken(
        &mut self,
        combined: Result<Combined, Incompatible>,
        computing: Computing,
    ) -> Option<()> {
        match combined {
            Ok(combined) => {
                if combined.bounds_reconciled {
                    self.notes.reconciled = Some(computing);
                }
                Some(())
            }
            Err(Incompatible) => {
                self.notes.mixed_schemas = true;
                None
            }
        }
    }
}

fn histogram(value: Histogram) -> SampleValue {
    SampleValue::Histogram(Arc::new(value))
}

fn in_seconds((time_ms, _): (i64, SampleValue)) -> SampleValue {
    SampleValue::Float(time_ms as f64 / 1000.0)
}

/// How often a window's value becomes another one; one of another kind is another one.
pub(super) fn changes(window: &Window<'_>) -> f64 {
    let (mut count, mut before) = (0.0, None);
    for (_, now) in window.iter() {
        let differs = match (&before, &now) {
            (None, _) => false,
            (Some(SampleValue::Float(before)), SampleValue::Float(now)) => {
                before != now && !(before.is_nan() && now.is_nan())
            }
            (Some(SampleValue::Histogram(before)), SampleValue::Histogram(now)) => {
                !before.same_bits(now)
            }
            _ => true,
        };
        count += f64::from(differs);
        before = Some(now);
    }
    count
}
