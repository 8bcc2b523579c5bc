//! `anchored` and `smoothed` over series with histograms: what `extended` does for floats, bucket
//! by bucket. Called by it.

use std::sync::Arc;

use super::histogram_range::{self, RangeNotes};
use super::selector::{HistogramWindow, Raw, Window};
use crate::promql::annotation::Computing;
use crate::promql::ast::Extended;
use crate::promql::functions::RangeOp;
use crate::promql::source::SampleValue;
use crate::vector::Histogram;
use crate::vector::histogram::{Combined, Incompatible, ResetHint};

/// The samples of a series from one time to another, floats and histograms apart.
#[derive(Clone, Copy)]
pub(super) struct Samples<'r> {
    float_times: &'r [i64],
    floats: &'r [f64],
    times: &'r [i64],
    values: &'r [Arc<Histogram>],
}

fn between(times: &[i64], oldest: i64, newest: i64) -> std::ops::Range<usize> {
    let low = times.partition_point(|time| *time <= oldest);
    low..times.partition_point(|time| *time <= newest).max(low)
}

impl<'r> Samples<'r> {
    /// The samples in `(oldest, newest]`.
    pub(super) fn between(raw: &'r Raw, oldest: i64, newest: i64) -> Self {
        let inside = between(&raw.timestamps, oldest, newest);
        let mut samples = Self {
            float_times: raw.timestamps.get(inside.clone()).unwrap_or_default(),
            floats: raw.values.get(inside).unwrap_or_default(),
            times: &[],
            values: &[],
        };
        if let Some(all) = &raw.histograms {
            let inside = between(&all.timestamps, oldest, newest);
            samples.times = all.timestamps.get(inside.clone()).unwrap_or_default();
            samples.values = all.values.get(inside).unwrap_or_default();
        }
        samples
    }

    /// Whether there is no histogram, so that the rules of floats hold.
    pub(super) fn only_floats(&self) -> bool {
        self.values.is_empty()
    }

    /// What happened from `start` to `end`, nothing where no sample lies between them.
    pub(super) fn change(
        &self,
        extended: Extended,
        op: RangeOp,
        (start, end): (i64, i64),
        notes: &mut RangeNotes,
    ) -> Option<SampleValue> {
        if matches!(op, RangeOp::Changes | RangeOp::Resets) {
            let count = self.count(op, start, end)?;
            return Some(SampleValue::Float(count));
        }
        if !self.floats.is_empty() {
            notes.mixed_kinds = true;
            return None;
        }
        let inside = self.times.partition_point(|time| *time <= start);
        let first = inside.saturating_sub(1);
        let last = self.times.len().checked_sub(1)?;
        let last = match extended {
            Extended::Smoothed => self.times.partition_point(|time| *time < end).min(last),
            Extended::Anchored => last,
        };
        let (first_time, last_time) = (*self.times.get(first)?, *self.times.get(last)?);
        if last_time <= start || first_time > end {
            return None;
        }
        let used = self.values.get(first..=last)?;
        let custom = |value: &Arc<Histogram>| value.has_custom_bounds();
        if used.iter().any(custom) && !used.iter().all(custom) {
            notes.mixed_schemas = true;
            return None;
        }
        let is_counter = op != RangeOp::Delta;
        if is_counter {
            notes.not_a_counter |= used.iter().any(|value| value.is_gauge());
        } else {
            let borders = [used.first()?, used.last()?];
            notes.not_a_gauge |= !borders.iter().all(|value| value.is_gauge());
        }
        let smoothed = extended == Extended::Smoothed;
        let left_on_line = smoothed && first_time < start;
        let left = if left_on_line {
            self.line(first, start, is_counter, notes)?
        } else {
            Histogram::clone(self.values.get(first)?)
        };
        let right = if smoothed && last > 0 && last_time > end {
            self.line(last - 1, end, is_counter, notes)?
        } else {
            Histogram::clone(self.values.get(last)?)
        };
        let mut change = right.clone();
        taken(change.subtract(&left), Computing::Subtraction, notes)?;
        if is_counter {
            let inner = self.values.get(first + 1..last).unwrap_or_default();
            let inner = inner.iter().map(Arc::as_ref);
            let all: Vec<&Histogram> = [&left].into_iter().chain(inner).chain([&right]).collect();
            // A line to the left border has taken account of a reset already.
            for two in all.windows(2).skip(usize::from(left_on_line)) {
                if let [before, now] = two
                    && first < last
                    && now.is_reset_since(before)
                {
                    taken(change.add(before), Computing::Addition, notes)?;
                }
            }
        }
        change.reset_hint = ResetHint::Gauge;
        change.compact();
        Some(SampleValue::Histogram(Arc::new(change)))
    }

    /// The value at a time: that of a sample, or of the line between two, or the last one before.
    pub(super) fn at(&self, time: i64, notes: &mut RangeNotes) -> Option<SampleValue> {
        if !self.floats.is_empty() {
            notes.mixed_kinds = true;
            return None;
        }
        let after = self.times.partition_point(|t| *t <= time);
        let before = after.checked_sub(1)?;
        let value = self.values.get(before)?;
        if *self.times.get(before)? == time || after == self.times.len() {
            return Some(SampleValue::Histogram(Arc::clone(value)));
        }
        let on_line = self.line(before, time, !value.is_gauge(), notes)?;
        Some(SampleValue::Histogram(Arc::new(on_line)))
    }

    /// The value at `time` on the line from the histogram `before` to the next one.
    fn line(
        &self,
        before: usize,
        time: i64,
        is_counter: bool,
        notes: &mut RangeNotes,
    ) -> Option<Histogram> {
        let (t0, t1) = (*self.times.get(before)?, *self.times.get(before + 1)?);
        let (h0, h1) = (self.values.get(before)?, self.values.get(before + 1)?);
        let part = time.saturating_sub(t0) as f64 / t1.saturating_sub(t0) as f64;
        if h0.has_custom_bounds() != h1.has_custom_bounds() {
            notes.mixed_schemas = true;
            return None;
        }
        if is_counter && h1.is_reset_since(h0) {
            // It began at zero between them.
            let mut on_line = Histogram::clone(h1);
            on_line.scale(part);
            on_line.reset_hint = ResetHint::Reset;
            return Some(on_line);
        }
        let mut on_line = Histogram::clone(h1);
        taken(on_line.subtract(h0), Computing::Subtraction, notes)?;
        on_line.scale(part);
        taken(on_line.add(h0), Computing::Addition, notes)?;
        on_line.reset_hint = if h0.is_gauge() {
            ResetHint::Gauge
        } else {
            ResetHint::Unknown
        };
        Some(on_line)
    }

    /// `changes` or `resets` among the samples in the range and the one before it.
    fn count(&self, op: RangeOp, start: i64, end: i64) -> Option<f64> {
        let newest_before = |times: &[i64]| {
            let after = times.partition_point(|time| *time <= start);
            times.get(after.checked_sub(1)?).copied()
        };
        let anchor = [newest_before(self.float_times), newest_before(self.times)];
        let anchor = anchor.into_iter().flatten().max();
        let from = anchor.unwrap_or(start.saturating_add(1));
        let floats = between(self.float_times, from.saturating_sub(1), end);
        let others = between(self.times, from.saturating_sub(1), end);
        let last = |times: &[i64], of: &std::ops::Range<usize>| {
            let last = of.end.checked_sub(1).filter(|last| of.contains(last))?;
            times.get(last).copied()
        };
        let last = last(self.float_times, &floats).max(last(self.times, &others))?;
        if last <= start {
            return None;
        }
        let window = Window {
            timestamps: self.float_times.get(floats.clone())?,
            values: self.floats.get(floats)?,
            starts: None,
            offset: 0,
            end_ms: end,
            range_ms: end.saturating_sub(start),
            histograms: HistogramWindow {
                timestamps: self.times.get(others.clone())?,
                values: self.values.get(others)?,
                starts: None,
                offset: 0,
            },
        };
        Some(match op {
            RangeOp::Changes => histogram_range::changes(&window),
            _ => resets(&window),
        })
    }
}

/// How often a counter begins again; one of another kind is another one.
fn resets(window: &Window<'_>) -> f64 {
    let (mut count, mut before) = (0.0, None);
    for (_, now) in window.iter() {
        let resets = match (&before, &now) {
            (None, _) => false,
            (Some(SampleValue::Float(before)), SampleValue::Float(now)) => now < before,
            (Some(SampleValue::Histogram(before)), SampleValue::Histogram(now)) => {
                now.is_reset_since(before)
            }
            _ => true,
        };
        count += f64::from(resets);
        before = Some(now);
    }
    count
}

/// Notes what came of adding or subtracting; `None` where nothing came of it.
fn taken(
    combined: Result<Combined, Incompatible>,
    computing: Computing,
    notes: &mut RangeNotes,
) -> Option<()> {
    match combined {
        Ok(combined) => {
            if combined.bounds_reconciled {
                notes.reconciled = Some(computing);
            }
            Some(())
        }
        Err(Incompatible) => {
            notes.mixed_schemas = true;
            None
        }
    }
}
