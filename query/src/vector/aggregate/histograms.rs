//! The histograms of a group under aggregation. Called by the aggregator beside it for series that
//! have some; groups of floats know nothing of this.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::AggregateOp;
use crate::vector::histogram::{Combined, Incompatible, RunningMean, RunningSum};
use crate::vector::{ABSENT, Histogram, Histograms, StepSeries, is_absent};

/// The bytes that count as one held sample.
const BYTES_PER_SAMPLE: usize = 16;

/// What is worth knowing of an aggregation over histograms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AggregateNotes {
    /// The operator takes no histograms, and there were some.
    pub ignored: bool,
    /// A group had floats and histograms at one step, and gave nothing there.
    pub mixed_with_floats: bool,
    /// Metrics of which a group had exponential and custom buckets at one step, and gave nothing
    /// there.
    pub mixed_schemas: BTreeSet<String>,
    /// Custom bounds were given up, since not all histograms of a group had them.
    pub bounds_reconciled: bool,
    /// A group had histograms that were counter resets and such that were none.
    pub resets_collide: bool,
}

/// The histograms of one group: one entry a step.
#[derive(Debug, Default)]
pub(super) struct Column(Vec<Entry>);

#[derive(Debug, Clone, Default)]
enum Entry {
    #[default]
    Nothing,
    Sum(Box<RunningSum>),
    Mean(Box<RunningMean>),
    /// Histograms that cannot be added.
    Incompatible,
}

impl Column {
    /// Adds the histograms of `series` up. Returns how many more samples that holds.
    pub(super) fn push(
        &mut self,
        op: AggregateOp,
        series: &StepSeries,
        notes: &mut AggregateNotes,
    ) -> u64 {
        let mut grown = 0;
        let column = series.histograms.as_deref().unwrap_or_default();
        if self.0.len() < column.len() {
            self.0.resize(column.len(), Entry::Nothing);
        }
        for (entry, histogram) in self.0.iter_mut().zip(column) {
            let Some(histogram) = histogram else { continue };
            let is_new = matches!(entry, Entry::Nothing);
            match entry.add(op, histogram) {
                Ok(combined) => notes.bounds_reconciled |= combined.bounds_reconciled,
                Err(Incompatible) => {
                    let name = series.labels.get(crate::vector::METRIC_NAME);
                    notes.mixed_schemas.insert(name.unwrap_or("").to_owned());
                    *entry = Entry::Incompatible;
                }
            }
            if is_new {
                grown += entry.heap_bytes();
            }
        }
        (grown / BYTES_PER_SAMPLE) as u64
    }

    /// The sums or means. At steps with floats there is nothing, and the float goes too.
    pub(super) fn finish(self, values: &mut [f64], notes: &mut AggregateNotes) -> Histograms {
        let entries = self.0.into_iter().chain(std::iter::repeat(Entry::Nothing));
        let finished = entries.zip(values).map(|(entry, float)| {
            if matches!(entry, Entry::Nothing) {
                return None;
            }
            if !is_absent(*float) {
                notes.mixed_with_floats = true;
                *float = ABSENT;
                return None;
            }
            let (value, collide) = match entry {
                Entry::Sum(sum) => (sum.value(), sum.resets_collide()),
                Entry::Mean(mean) => (mean.value(), mean.resets_collide()),
                Entry::Nothing | Entry::Incompatible => return None,
            };
            notes.resets_collide |= collide;
            Some(Arc::new(value))
        });
        finished.collect()
    }
}

impl Entry {
    fn add(&mut self, op: AggregateOp, next: &Histogram) -> Result<Combined, Incompatible> {
        match self {
            Self::Nothing if op == AggregateOp::Avg => {
                *self = Self::Mean(Box::new(RunningMean::new(next)));
            }
            Self::Nothing => *self = Self::Sum(Box::new(RunningSum::new(next))),
            Self::Sum(sum) => return sum.add(next),
            Self::Mean(mean) => return mean.add(next),
            Self::Incompatible => {}
        }
        Ok(Combined::default())
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Sum(sum) => sum.heap_bytes(),
            Self::Mean(mean) => mean.heap_bytes(),
            Self::Nothing | Self::Incompatible => 0,
        }
    }
}
