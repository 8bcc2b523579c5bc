//! Functions over windows in which there are histograms, or floats and histograms. Called by `call`
//! for the series that have some.

use std::sync::Arc;

use super::range_functions::{self, Context};
use super::selector::Window;
use crate::promql::functions::RangeOp;
use crate::promql::source::SampleValue;

/// The value of `op` for a window. Functions that know floats only look past the histograms.
pub(super) fn apply(
    op: RangeOp,
    window: &Window<'_>,
    parameter: f64,
    now_ms: i64,
    context: &mut Context,
) -> Option<SampleValue> {
    if window.histograms.values.is_empty() {
        let value = range_functions::apply(op, window, parameter, now_ms, context);
        return Some(SampleValue::Float(value));
    }
    match op {
        RangeOp::Count => Some(SampleValue::Float(window.len() as f64)),
        RangeOp::Present => Some(SampleValue::Float(1.0)),
        RangeOp::Last => pick(
            (window.timestamps.last(), window.values.last()),
            (
                window.histograms.timestamps.last(),
                window.histograms.values.last(),
            ),
            |float, histogram| float > histogram,
        ),
        RangeOp::First => pick(
            (window.timestamps.first(), window.values.first()),
            (
                window.histograms.timestamps.first(),
                window.histograms.values.first(),
            ),
            |float, histogram| float < histogram,
        ),
        RangeOp::Min
        | RangeOp::Max
        | RangeOp::Stddev
        | RangeOp::Stdvar
        | RangeOp::Quantile
        | RangeOp::Deriv
        | RangeOp::PredictLinear => {
            let value = range_functions::apply(op, window, parameter, now_ms, context);
            Some(SampleValue::Float(value))
        }
        RangeOp::Rate
        | RangeOp::Increase
        | RangeOp::Delta
        | RangeOp::Irate
        | RangeOp::Idelta
        | RangeOp::Sum
        | RangeOp::Avg
        | RangeOp::Changes
        | RangeOp::Resets => None,
    }
}

type Found<'w, T> = (Option<&'w i64>, Option<&'w T>);

/// The one of two samples that `prefers` the float's time, where there are both.
fn pick(
    (float_time, float): Found<'_, f64>,
    (time, histogram): Found<'_, Arc<crate::vector::Histogram>>,
    prefers: impl Fn(i64, i64) -> bool,
) -> Option<SampleValue> {
    let takes_float = match (float_time, time) {
        (Some(float), Some(histogram)) => prefers(*float, *histogram),
        (float, _) => float.is_some(),
    };
    if takes_float {
        float.copied().map(SampleValue::Float)
    } else {
        histogram.cloned().map(SampleValue::Histogram)
    }
}
