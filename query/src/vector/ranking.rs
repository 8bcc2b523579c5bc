//! Order among values: ranks for `topk` and `bottomk`, quantiles.

use std::cmp::Ordering;

use trine_storage::Labels;

/// Which end of the order is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Top,
    Bottom,
}

impl End {
    /// `Less` when `a` comes before `b` in the result. NaN comes last at both ends.
    pub(super) fn compare(self, a: f64, b: f64) -> Ordering {
        match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let ascending = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                if self == Self::Top {
                    ascending.reverse()
                } else {
                    ascending
                }
            }
        }
    }
}

/// A candidate at one step. The greatest one in its order is the first to be pushed out of a heap.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) value: f64,
    pub(super) labels: Labels,
    /// Whether the name is to be dropped from the labels later.
    pub(super) drop_name: bool,
    pub(super) end: End,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_value = self.end.compare(self.value, other.value);
        by_value.then_with(|| self.labels.cmp(&other.labels))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// The `q`-quantile of `values` (which it reorders): linear between ranks, NaN sorts first, below 0
/// it is -Inf, above 1 +Inf; NaN without values or for a NaN `q`.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let order = |a: &f64, b: &f64| match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
    };
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor().max(0.0) as usize).min(last);
    let weight = rank - rank.floor();
    let (_, at, above) = values.select_nth_unstable_by(lower, order);
    let at = *at;
    let next = above.iter().copied().min_by(order).unwrap_or(at);
    at * (1.0 - weight) + next * weight
}
