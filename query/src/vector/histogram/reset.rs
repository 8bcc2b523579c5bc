//! Whether a counter began anew between two histograms.

use std::borrow::Cow;

use super::align::common_bounds;
use super::{Histogram, ResetHint};

impl Histogram {
    /// Whether the counter was reset between `before` and this one: it is said so, or some count
    /// fell, or the buckets became finer.
    pub fn is_reset_since(&self, before: &Self) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < before.count || self.has_custom_bounds() != before.has_custom_bounds() {
            return true;
        }
        if self.has_custom_bounds() {
            return self.custom_buckets_fell(before);
        }
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return true;
        }
        let mut before = Cow::Borrowed(before);
        if before.zero_threshold < self.zero_threshold {
            before.to_mut().widen_zero_bucket(self.zero_threshold);
            // A filled bucket was cut.
            if before.zero_threshold != self.zero_threshold {
                return true;
            }
        }
        if before.schema != self.schema {
            before.to_mut().coarsen(self.schema);
        }
        self.zero_count < before.zero_count
            || self.positive.falls_below(&before.positive)
            || self.negative.falls_below(&before.negative)
    }

    fn custom_buckets_fell(&self, before: &Self) -> bool {
        if self.same_bounds(before) {
            return self.positive.falls_below(&before.positive);
        }
        let common = common_bounds(&self.custom_values, &before.custom_values);
        let (mut now, mut before) = (self.clone(), before.clone());
        now.rebound(&common);
        before.rebound(&common);
        now.positive.falls_below(&before.positive)
    }
}
