//! `anchored` and `smoothed` over series that have histograms. Called by `extended`.

use std::sync::Arc;

use crate::promql::annotation::Computing;
use crate::promql::ast::Extended;
use crate::promql::eval::histogram_range::RangeNotes;
use crate::promql::eval::selector::{Raw, Sample};
use crate::promql::functions::RangeOp;
use crate::promql::source::SampleValue;
use crate::vector::Histogram;
use crate::vector::histogram::{Combined, Incompatible, ResetHint};

/// The samples of a series, those of both kinds in order of time.
pub(super) struct Timeline {
    samples: Vec<Sample>,
    notes: RangeNotes,
}

/// What there is at a step.
pub(super) enum Found {
    /// Only floats take part, which have their own way.
    Floats,
    /// This, or nothing.
    Value(Option<SampleValue>),
}

/// The range of a step, and the times between which samples may take part in it.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    pub(super) oldest: i64,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) newest: i64,
}

type At<'s> = (i64, &'s Arc<Histogram>);

impl Timeline {
    pub(super) fn of(raw: &Raw) -> Self {
        let floats = raw.timestamps.iter().zip(&raw.values);
        let floats = floats.map(|(time, value)| (*time, SampleValue::Float(*value)));
        let mut samples: Vec<Sample> = floats.collect();
        if let Some(all) = &raw.histograms {
            let others = all.timestamps.iter().zip(&all.values);
            samples.extend(
                others.map(|(time, value)| (*time, SampleValue::Histogram(Arc::clone(value)))),
            );
            samples.sort_by_key(|(time, _)| *time);
        }
        Self {
            samples,
            notes: RangeNotes::default(),
        }
    }

    pub(super) fn notes(&self) -> RangeNotes {
        self.notes
    }

    /// What happened from the start to the end of a range.
    pub(super) fn change(&mut self, extended: Extended, op: RangeOp, reach: Reach) -> Found {
        let samples = between(&self.samples, reach.oldest, reach.newest);
        let inside = samples.partition_point(|(time, _)| *time <= reach.start);
        let past = samples.partition_point(|(time, _)| *time < reach.end);
        let Some(newest) = samples.len().checked_sub(1) else {
            return Found::Value(None);
        };
        let first = inside.saturating_sub(1);
        let last = match extended {
            Extended::Smoothed => past.min(newest),
            Extended::Anchored => newest,
        };
        let used = samples.get(first..=last).unwrap_or_default();
        let ([(first_time, _), ..], [.., (last_time, _)]) = (used, used) else {
            return Found::Value(None);
        };
        if *last_time <= reach.start || *first_time > reach.end {
            return Found::Value(None);
        }
        if matches!(op, RangeOp::Changes | RangeOp::Resets) {
            let counts = |two: &&[Sample]| match two {
                [(_, before), (_, now)] => differs(op, before, now),
                _ => false,
            };
            let count = used.windows(2).filter(counts).count();
            return Found::Value(Some(SampleValue::Float(count as f64)));
        }
        let histograms = match histograms(used) {
            Kinds::Floats => return Found::Floats,
            Kinds::Histograms(histograms) => histograms,
            Kinds::Mixed => {
                self.notes.mixed_kinds = true;
                return Found::Value(None);
            }
        };
        let change = of_histograms(extended, op, &histograms, reach, &mut self.notes);
        Found::Value(change.map(|change| SampleValue::Histogram(Arc::new(change))))
    }

    /// The value at a time: that of a sample, or between two, or the last one before.
    pub(super) fn at(&mut self, time: i64, (oldest, newest): (i64, i64)) -> Found {
        let samples = between(&self.samples, oldest, newest);
        let histograms = match histograms(samples) {
            Kinds::Floats => return Found::Floats,
            Kinds::Histograms(histograms) => histograms,
            Kinds::Mixed => {
                self.notes.mixed_kinds = true;
                return Found::Value(None);
            }
        };
        let after = histograms.partition_point(|(t, _)| *t <= time);
        let before = after.checked_sub(1).and_then(|at| histograms.get(at));
        let value = match (before, histograms.get(after)) {
            (Some(before), Some(next)) if before.0 < time => {
                let resets = !next.1.is_gauge() && next.1.is_reset_since(before.1);
                line(*before, *next, time, resets, &mut self.notes).map(Arc::new)
            }
            (before, _) => before.map(|(_, histogram)| Arc::clone(histogram)),
        };
        Found::Value(value.map(SampleValue::Histogram))
    }
}

/// The samples in `(oldest, newest]`.
fn between(samples: &[Sample], oldest: i64, newest: i64) -> &[Sample] {
    let low = samples.partition_point(|(time, _)| *time <= oldest);
    let high = samples.partition_point(|(time, _)| *time <= newest);
    samples.get(low..high).unwrap_or_default()
}

enum Kinds<'s> {
    Floats,
    Histograms(Vec<At<'s>>),
    Mixed,
}

fn histograms(samples: &[Sample]) -> Kinds<'_> {
    let histograms = samples.iter().filter_map(|(time, value)| match value {
        SampleValue::Histogram(histogram) => Some((*time, histogram)),
        SampleValue::Float(_) => None,
    });
    let histograms: Vec<At<'_>> = histograms.collect();
    match histograms.len() {
        0 => Kinds::Floats,
        some if some == samples.len() => Kinds::Histograms(histograms),
        _ => Kinds::Mixed,
    }
}

/// Whether a sample is a change, or a reset, after the one before. One of another kind is both.
fn differs(op: RangeOp, before: &SampleValue, now: &SampleValue) -> bool {
    match (before, now) {
        (SampleValue::Float(before), SampleValue::Float(now)) if op == RangeOp::Resets => {
            now < before
        }
        (SampleValue::Float(before), SampleValue::Float(now)) => {
            before != now && !(before.is_nan() && now.is_nan())
        }
        (SampleValue::Histogram(before), SampleValue::Histogram(now)) if op == RangeOp::Resets => {
            now.is_reset_since(before)
        }
        (SampleValue::Histogram(before), SampleValue::Histogram(now)) => !before.same_bits(now),
        _ => true,
    }
}

/// What histograms changed by, of which the first may lie before the range and the last behind it.
fn of_histograms(
    extended: Extended,
    op: RangeOp,
    samples: &[At<'_>],
    reach: Reach,
    notes: &mut RangeNotes,
) -> Option<Histogram> {
    let (first, last) = (samples.first()?, samples.last()?);
    let is_counter = op != RangeOp::Delta;
    if is_counter {
        notes.not_a_counter |= samples.iter().any(|(_, histogram)| histogram.is_gauge());
    } else {
        notes.not_a_gauge |= !first.1.is_gauge() || !last.1.is_gauge();
    }
    let custom = |(_, histogram): &At<'_>| histogram.has_custom_bounds();
    if samples.iter().any(|sample| custom(sample) != custom(first)) {
        notes.mixed_schemas = true;
        return None;
    }
    let smoothed = extended == Extended::Smoothed;
    let (cut_left, cut_right) = (
        smoothed && first.0 < reach.start,
        smoothed && last.0 > reach.end,
    );
    let segments: Vec<(At<'_>, At<'_>, bool)> = samples
        .windows(2)
        .filter_map(|two| match two {
            [before, now] => {
                let resets = is_counter && now.1.is_reset_since(before.1);
                Some((*before, *now, resets))
            }
            _ => None,
        })
        .collect();
    let left = match segments.first() {
        Some((before, now, resets)) if cut_left => {
            line(*before, *now, reach.start, *resets, notes)?
        }
        _ => Histogram::clone(first.1),
    };
    let mut change = match segments.last() {
        Some((before, now, resets)) if cut_right => line(*before, *now, reach.end, *resets, notes)?,
        _ => Histogram::clone(last.1),
    };
    taken(change.subtract(&left), Computing::Subtraction, notes)?;
    // Where the first segment was cut, its reset lies before what is left of it.
    for (before, _, resets) in segments.iter().skip(usize::from(cut_left)) {
        if *resets {
            taken(change.add(before.1), Computing::Addition, notes)?;
        }
    }
    if op == RangeOp::Rate {
        change.divide(reach.end.saturating_sub(reach.start) as f64 / 1000.0);
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    Some(change)
}

/// The histogram at `time` on the line between two. A counter that was reset between them began at
/// zero.
fn line(
    (t0, before): At<'_>,
    (t1, after): At<'_>,
    time: i64,
    resets: bool,
    notes: &mut RangeNotes,
) -> Option<Histogram> {
    if before.has_custom_bounds() != after.has_custom_bounds() {
        notes.mixed_schemas = true;
        return None;
    }
    let part = time.saturating_sub(t0) as f64 / t1.saturating_sub(t0) as f64;
    let mut value = Histogram::clone(after);
    if resets {
        value.scale(part);
        return Some(value);
    }
    taken(value.subtract(before), Computing::Subtraction, notes)?;
    value.scale(part);
    taken(value.add(before), Computing::Addition, notes)?;
    value.reset_hint = before.reset_hint;
    Some(value)
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
