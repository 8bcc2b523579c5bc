//! Functions over windows of floats that share work from step to step: all steps of a series in one
//! loop. `call` tries this first; whatever is not here is computed window by window.

use super::rate::{Extrapolation, Resets};
use super::selector::{Edges, Places, Raw};
use crate::promql::functions::RangeOp;
use crate::vector::ABSENT;
use crate::vector::kahan::increment;

/// A series that falls more often than once in so many samples is no counter, whatever it is called.
const FALLS_MANY: usize = 16;
/// Samples whose falls are added up together: fewer than a window mostly holds.
const BLOCK: usize = 16;
/// Samples that must lie in a piece of a window, or cutting windows into pieces saves nothing.
const PIECE_SAMPLES_MIN: usize = 4;

/// The values of `op` at all places for a series of floats without start timestamps; `None` when
/// there is no quick way.
pub(super) fn slide(op: RangeOp, raw: &Raw, places: Places, range_ms: i64) -> Option<Vec<f64>> {
    if raw.histograms.is_some() || raw.start_timestamps.is_some() || places.fixed() {
        return None;
    }
    match op {
        RangeOp::Rate | RangeOp::Increase | RangeOp::Delta => {
            Some(changes(op, raw, places, range_ms))
        }
        RangeOp::Sum | RangeOp::Avg => sums(op, raw, places, range_ms),
        _ => None,
    }
}

fn changes(op: RangeOp, raw: &Raw, places: Places, range_ms: i64) -> Vec<f64> {
    let (times, values) = (raw.timestamps.as_slice(), raw.values.as_slice());
    let is_counter = op != RangeOp::Delta;
    let mut falls = match is_counter {
        true => Falls::of(values),
        false => Falls::None,
    };
    let (mut edges, mut shape) = (Edges::default(), Extrapolation::default());
    let at_step = |step: usize| {
        let end_ms = places.at(step);
        let rows = edges.move_to(times, end_ms.saturating_sub(range_ms), end_ms);
        let (times, window) = (times.get(rows.clone()), values.get(rows.clone()));
        let (Some([first_time, .., last_time]), Some([first, .., last])) = (times, window) else {
            return ABSENT;
        };
        let change = last - first + falls.between(values, rows.start, rows.end - 1);
        let start = is_counter.then_some((*first, change));
        let ends = (*first_time, *last_time);
        change * shape.factor(op, (end_ms, range_ms), (ends, rows.len()), start)
    };
    (0..places.count).map(at_step).collect()
}

/// What a counter lost where it began again.
enum Falls {
    None,
    /// In order of time, so that few are added exactly as they come.
    Few(Resets),
    /// For each sample what was lost in its block up to there, and after it.
    Many(Vec<(f64, f64)>),
}

impl Falls {
    fn of(values: &[f64]) -> Self {
        let pairs = values.iter().zip(values.get(1..).unwrap_or_default());
        let count = pairs.filter(|(before, now)| now < before).count();
        if count == 0 {
            return Self::None;
        }
        if count * FALLS_MANY > values.len() {
            let first = std::iter::once((0.0, 0.0));
            let rest = lost(values).map(|lost| (lost, 0.0));
            let mut sums: Vec<(f64, f64)> = first.chain(rest).collect();
            let mut all = 0.0;
            for block in sums.chunks_mut(BLOCK) {
                let mut after = 0.0;
                for (lost, sum) in block.iter_mut().rev() {
                    *sum = after;
                    after += *lost;
                }
                let mut before = 0.0;
                for (lost, _) in block {
                    before += *lost;
                    *lost = before;
                }
                all += before;
            }
            if f64::is_finite(all) {
                return Self::Many(sums);
            }
        }
        Self::Few(Resets::of(values, &[], None))
    }

    /// What was lost after the sample `first` of `values` and up to `last`.
    #[inline]
    fn between(&mut self, values: &[f64], first: usize, last: usize) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Few(resets) => {
                let inside = resets.between(first, last).iter();
                inside.fold(0.0, |sum, (_, before)| sum + before)
            }
            Self::Many(sums) => {
                let at = |place: usize| sums.get(place).copied().unwrap_or_default();
                let (from, to) = (first / BLOCK, last / BLOCK);
                if from == to {
                    // Nothing is taken away from a sum: of a large one little would be left.
                    let inside = values.get(first..=last).unwrap_or_default();
                    return lost(inside).fold(0.0, |sum, lost| sum + lost);
                }
                let whole = |block: usize| at(block * BLOCK + BLOCK - 1).0;
                (from + 1..to).fold(at(first).1, |sum, block| sum + whole(block)) + at(last).0
            }
        }
    }
}

/// What each sample but the first lost against the one before.
fn lost(values: &[f64]) -> impl Iterator<Item = f64> + '_ {
    let pairs = values.iter().zip(values.get(1..).unwrap_or_default());
    pairs.map(|(before, now)| if now < before { *before } else { 0.0 })
}

/// Sums and means: windows are cut into pieces that they share, and each piece is added up once.
fn sums(op: RangeOp, raw: &Raw, places: Places, range_ms: i64) -> Option<Vec<f64>> {
    let stride = places.stride();
    let piece = greatest_common_divisor(stride, range_ms);
    let (in_window, in_stride) = (range_ms / piece, stride / piece);
    let steps = i64::try_from(places.count.checked_sub(1)?).ok()?;
    let pieces = steps.checked_mul(in_stride)?.checked_add(in_window)?;
    let pieces = usize::try_from(pieces).ok()?;
    if in_window < 2 || pieces.checked_mul(PIECE_SAMPLES_MIN)? > raw.values.len() {
        return None;
    }
    // Sum, its compensation and the number of the samples of each piece.
    let mut added: Vec<(f64, f64, usize)> = Vec::with_capacity(pieces);
    let open = places.at(0).checked_sub(range_ms)?;
    let mut rows = 0;
    for number in 1..=i64::try_from(pieces).ok()? {
        let end_ms = open.checked_add(number.checked_mul(piece)?)?;
        let (mut sum, mut compensation, from) = (0.0, 0.0, rows);
        if number == 1 {
            rows = raw.timestamps.partition_point(|time| *time <= open);
        }
        let from = from.max(rows);
        while raw.timestamps.get(rows).is_some_and(|time| *time <= end_ms) {
            let value = raw.values.get(rows).copied().unwrap_or(0.0);
            (sum, compensation) = increment(value, sum, compensation);
            rows += 1;
        }
        if !sum.is_finite() {
            // What is not finite has an order of its own.
            return None;
        }
        added.push((sum, compensation, rows - from));
    }
    let (in_window, in_stride) = (
        usize::try_from(in_window).ok()?,
        usize::try_from(in_stride).ok()?,
    );
    let mut out = Vec::with_capacity(places.count);
    for step in 0..places.count {
        let first = step * in_stride;
        let window = added.get(first..first + in_window)?;
        let (mut sum, mut compensation, mut count) = (0.0, 0.0, 0);
        for (of_piece, left, samples) in window {
            (sum, compensation) = increment(*of_piece, sum, compensation);
            compensation += left;
            count += samples;
        }
        if !f64::is_finite(sum) {
            return None;
        }
        out.push(match (count, op) {
            (0, _) => ABSENT,
            (_, RangeOp::Avg) => sum / count as f64 + compensation / count as f64,
            _ => sum + compensation,
        });
    }
    Some(out)
}

/// At least 1.
fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.max(0), b.max(0));
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trine_storage::Labels;

    use super::super::range_functions::{self, Context};
    use super::*;
    use crate::promql::source::{Samples, Series, Values};
    use crate::vector::is_absent;

    fn raw(rows: &[(i64, f64)]) -> Raw {
        let (timestamps, values) = rows.iter().copied().unzip();
        Raw::new(Series {
            labels: Labels::empty(),
            samples: Samples::new(timestamps, Values::Floats(values)),
        })
    }

    /// Window by window.
    fn plain(op: RangeOp, raw: &Raw, places: Places, range_ms: i64) -> Vec<f64> {
        let mut context = Context::new(op, raw);
        raw.windows(places, range_ms)
            .map(|window| range_functions::apply(op, &window, [0.0; 2], 0, &mut context))
            .collect()
    }

    fn near(a: f64, b: f64, scale: f64) -> bool {
        a.to_bits() == b.to_bits()
            || (a.is_nan() && b.is_nan() && is_absent(a) == is_absent(b))
            || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(scale)
    }

    proptest! {
        #[test]
        fn sliding_is_the_same_as_window_by_window(
            gaps in prop::collection::vec((1i64..40, prop_oneof![
                8 => (0u32..1000).prop_map(f64::from),
                1 => Just(1e300),
                1 => Just(f64::NAN),
                1 => Just(f64::NEG_INFINITY),
            ]), 0..200),
            rising in any::<bool>(),
            first in 0i64..200,
            stride in 1i64..200,
            range_ms in 1i64..400,
            count in 1usize..40,
        ) {
            let (mut time, mut total) = (0, 0.0);
            let rows: Vec<(i64, f64)> = gaps
                .into_iter()
                .map(|(gap, value)| {
                    time += gap;
                    total += value;
                    (time, if rising { total } else { value })
                })
                .collect();
            let raw = raw(&rows);
            let places = Places::new(first, stride, count);
            for op in [RangeOp::Rate, RangeOp::Increase, RangeOp::Delta, RangeOp::Sum, RangeOp::Avg] {
                let Some(got) = slide(op, &raw, places, range_ms) else {
                    continue;
                };
                let expect = plain(op, &raw, places, range_ms);
                prop_assert_eq!(got.len(), expect.len());
                // Of numbers far apart the order of additions decides what is left.
                let finite = rows.iter().map(|row| row.1.abs()).filter(|x| x.is_finite());
                let scale = finite.fold(1.0, f64::max) * 1000.0;
                for (got, expect) in got.iter().zip(&expect) {
                    prop_assert!(near(*got, *expect, scale), "{:?}: {} and {}", op, got, expect);
                }
            }
        }
    }

    #[test]
    fn pieces_are_used_where_they_save_something() {
        let rows: Vec<(i64, f64)> = (0..1000).map(|n| (n * 15, f64::from(n as i32))).collect();
        let raw = raw(&rows);
        let places = Places::new(3600, 300, 30);
        let quick = |op, range_ms| slide(op, &raw, places, range_ms).is_some();
        assert!(quick(RangeOp::Avg, 3600));
        assert!(quick(RangeOp::Sum, 900));
        assert!(!quick(RangeOp::Sum, 301), "pieces of a millisecond");
        assert!(!quick(RangeOp::Sum, 300), "windows share nothing");
        assert!(!quick(RangeOp::Max, 3600));
    }
}
