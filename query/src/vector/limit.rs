//! Some of the series of a group: the first k, or a share of them by the hash of their labels.
//! Called by the aggregations.

use trine_storage::Labels;

use super::StepSeries;

/// The series that a group keeps.
#[derive(Debug)]
pub(super) struct Limited {
    /// How many series have a value at each step.
    counts: Vec<usize>,
    series: Vec<StepSeries>,
}

impl Limited {
    pub(super) fn new(steps: usize) -> Self {
        Self {
            counts: vec![0; steps],
            series: Vec::new(),
        }
    }

    /// Keeps the series at the steps that have less than `ranks` say. Returns how many values are
    /// held now that were not.
    pub(super) fn first(&mut self, series: &StepSeries, ranks: &[usize]) -> u64 {
        let mut counts = std::mem::take(&mut self.counts);
        let grown = self.keep(series, |_, step| {
            match (counts.get_mut(step), ranks.get(step)) {
                (Some(count), Some(rank)) if *count < *rank => {
                    *count += 1;
                    true
                }
                _ => false,
            }
        });
        self.counts = counts;
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

    pub(super) fn into_series(self) -> Vec<StepSeries> {
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
    use super::{hash, share_holds};
    use trine_storage::Labels;

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
