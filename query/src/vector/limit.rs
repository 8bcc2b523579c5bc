//! Some of the series of a group: the first k, or a share of them by the hash of their labels.
//! Called by the aggregations.

use std::collections::BinaryHeap;

use trine_storage::Labels;

use super::StepSeries;

/// The series that a group keeps.
#[derive(Debug)]
pub(super) struct Limited {
    /// For `limitk` the series that each step keeps, the last one in label order on top.
    kept: Vec<BinaryHeap<(Labels, usize)>>,
    series: Vec<StepSeries>,
}

impl Limited {
    pub(super) fn new(steps: usize) -> Self {
        Self {
            kept: vec![BinaryHeap::new(); steps],
            series: Vec::new(),
        }
    }

    /// Keeps the series at the steps at which it is one of the first `ranks` in label order, in
    /// whatever order series come. Returns how many values are held now that were not.
    pub(super) fn first(&mut self, series: &StepSeries, ranks: &[usize]) -> u64 {
        let number = self.series.len();
        let (mut kept, mut evicted) = (std::mem::take(&mut self.kept), Vec::new());
        let grown = self.keep(series, |_, step| {
            let (Some(kept), Some(rank)) = (kept.get_mut(step), ranks.get(step)) else {
                return false;
            };
            if kept.len() < *rank {
                kept.push((series.labels.clone(), number));
                return true;
            }
            let Some(mut last) = kept.peek_mut().filter(|last| last.0 > series.labels) else {
                return false;
            };
            evicted.push((last.1, step));
            *last = (series.labels.clone(), number);
            true
        });
        self.kept = kept;
        for (number, step) in evicted {
            if let Some(series) = self.series.get_mut(number) {
                series.clear(step);
            }
        }
        grown
    }

    /// Keeps the values of the series at the steps at which `wanted(hash of its labels, step)`.
    /// Returns how many values are held now that were not.
    pub(super) fn keep(
        &mut self,
        series: &StepSeries,
        mut wanted: impl FnMut(u64, usize) -> bool,
    ) -> u64 {
        let hash = hash(&series.labels);
        let mut kept = series.clone();
        for step in 0..kept.values.len() {
            if series.has(step) && !wanted(hash, step) {
                kept.clear(step);
            }
        }
        if !kept.has_values() {
            return 0;
        }
        let grown = (kept.values.len() + kept.histogram_bytes() / 16) as u64;
        self.series.push(kept);
        grown
    }

    pub(super) fn into_series(mut self) -> Vec<StepSeries> {
        self.series.retain(StepSeries::has_values);
        self.series
    }
}

/// Whether a series with this hash belongs to a share of all series: the lower part of the hashes
/// for a positive share, the upper one for a negative, so that `r` and `r - 1` complement each
/// other.
pub(super) fn share_holds(hash: u64, share: f64) -> bool {
    let place = hash as f64 / 2f64.powi(64);
    let share = share.clamp(-1.0, 1.0);
    if share >= 0.0 {
        place < share
    } else {
        place >= 1.0 + share
    }
}

/// FNV-1a over names and values, then mixed so that the high bits depend on every byte.
fn hash(labels: &Labels) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash = (hash ^ 0xff).wrapping_mul(0x0000_0100_0000_01b3);
    };
    for (name, value) in labels {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::{Limited, hash, share_holds};
    use crate::vector::{ABSENT, StepSeries};
    use trine_storage::Labels;

    #[test]
    fn the_first_in_label_order_are_kept_in_whatever_order_they_come() {
        let series = |name: &str, values: [f64; 2]| {
            StepSeries::new(Labels::from_pairs([("a", name)]).unwrap(), values.to_vec())
        };
        let mut all = [
            series("1", [ABSENT, 1.0]),
            series("2", [2.0, 2.0]),
            series("3", [3.0, 3.0]),
        ];
        for _ in 0..2 {
            let mut limited = Limited::new(2);
            for one in &all {
                limited.first(one, &[1, 1]);
            }
            let mut kept = limited.into_series();
            kept.sort_by(|a, b| a.labels.cmp(&b.labels));
            let kept: Vec<String> = kept.iter().map(|s| s.labels.to_string()).collect();
            assert_eq!(kept, ["{a=\"1\"}", "{a=\"2\"}"]);
            all.reverse();
        }
    }

    #[test]
    fn a_share_and_its_complement_are_all() {
        let mut inside = 0;
        for number in 0..1000 {
            let labels = Labels::from_pairs([("a", number.to_string().as_str())]).unwrap();
            let hash = hash(&labels);
            assert!(share_holds(hash, 0.3) != share_holds(hash, -0.7));
            assert!(share_holds(hash, 1.0) && share_holds(hash, -1.0) && share_holds(hash, 7.0));
            assert!(!share_holds(hash, 0.0));
            inside += usize::from(share_holds(hash, 0.3));
        }
        assert!((250..350).contains(&inside), "{inside}");
    }
}
