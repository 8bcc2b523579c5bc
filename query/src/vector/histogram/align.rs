//! Brings two histograms into one form, so that an index means the same bucket in both. Called
//! before they are added or compared.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Cell, Distribution, Histogram, Incompatible};

impl<T: Cell> Distribution<T> {
    /// Makes this one as coarse as `other` where it must, and gives `other` as coarse as this one;
    /// and whether custom bounds had to be given up for that.
    ///
    /// # Errors
    /// When one has custom bounds and the other has not.
    pub(super) fn align<'o>(
        &mut self,
        other: &'o Histogram,
    ) -> Result<(Cow<'o, Histogram>, bool), Incompatible> {
        if self.has_custom_bounds() != other.has_custom_bounds() {
            return Err(Incompatible);
        }
        let mut other = Cow::Borrowed(other);
        if self.has_custom_bounds() {
            if self.same_bounds(&other) {
                return Ok((other, false));
            }
            let common = common_bounds(&self.custom_values, &other.custom_values);
            self.rebound(&common);
            other.to_mut().rebound(&common);
            return Ok((other, true));
        }
        // A threshold that cuts a filled bucket grows to its end, and may then be the wider one.
        while self.zero_threshold < other.zero_threshold {
            self.widen_zero_bucket(other.zero_threshold);
            if self.zero_threshold > other.zero_threshold {
                other.to_mut().widen_zero_bucket(self.zero_threshold);
            }
        }
        while other.zero_threshold < self.zero_threshold {
            other.to_mut().widen_zero_bucket(self.zero_threshold);
            if other.zero_threshold > self.zero_threshold {
                self.widen_zero_bucket(other.zero_threshold);
            }
        }
        if self.schema > other.schema {
            self.coarsen(other.schema);
        } else if other.schema > self.schema {
            other.to_mut().coarsen(self.schema);
        }
        Ok((other, false))
    }

    /// Merges buckets until the exponential schema is `schema`, which must not be finer.
    pub(super) fn coarsen(&mut self, schema: i8) {
        let shift = (i32::from(self.schema) - i32::from(schema)).clamp(0, 31);
        if shift > 0 {
            let to = |index: i32| (index.saturating_sub(1) >> shift) + 1;
            self.positive = self.positive.reindexed(to);
            self.negative = self.negative.reindexed(to);
        }
        self.schema = schema;
    }

    /// Puts the buckets up to `threshold` from zero into the zero bucket. Where the threshold cuts
    /// a filled bucket, it becomes that bucket's bound.
    pub(super) fn widen_zero_bucket(&mut self, threshold: f64) {
        let mut threshold = threshold;
        // Both sides have the same bounds, so that of all buckets that can be cut there are two.
        for (index, count) in self.positive.iter().chain(self.negative.iter()) {
            let (lower, upper) = (self.bound(index.saturating_sub(1)), self.bound(index));
            if lower < threshold && threshold < upper && count.value() != 0.0 {
                threshold = upper;
            }
        }
        let inside = |index: &i32| self.bound(index.saturating_sub(1)) < threshold;
        let last = |side: &super::Runs<T>| {
            let indices = side.iter().map(|(index, _)| index);
            indices.take_while(|index| inside(index)).last()
        };
        let (above, below) = (last(&self.positive), last(&self.negative));
        if let Some(last) = above {
            let counts = self.positive.split_below(last);
            counts.for_each(|count| self.zero_count.merge(count));
        }
        if let Some(last) = below {
            let counts = self.negative.split_below(last);
            counts.for_each(|count| self.zero_count.merge(count));
        }
        self.zero_threshold = threshold;
    }

    /// Gives up custom bounds that `bounds` does not have; all of `bounds` must be among them.
    pub(super) fn rebound(&mut self, bounds: &Arc<[f64]>) {
        let to = |index: i32| {
            let place = usize::try_from(index).ok();
            let place = match place.and_then(|at| self.custom_values.get(at)) {
                Some(bound) => bounds.partition_point(|kept| kept < bound),
                None => bounds.len(),
            };
            i32::try_from(place).unwrap_or(i32::MAX)
        };
        self.positive = self.positive.reindexed(to);
        self.custom_values = Arc::clone(bounds);
    }
}

/// The bounds that both have.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let mut b = b.iter().copied().peekable();
    let in_both = |bound: &f64| {
        while b.next_if(|other| other < bound).is_some() {}
        b.peek() == Some(bound)
    };
    a.iter().copied().filter(in_both).collect()
}
