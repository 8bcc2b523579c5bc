//! One series over all steps of a query, and sets of them that are unique by their labels. What
//! every operator takes and gives.

use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::Labels;

use super::{ABSENT, Histogram, VectorError, drop_name, is_absent};

/// A column of histograms, one entry a step.
pub type Histograms = Vec<Option<Arc<Histogram>>>;

/// One series over all steps of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSeries {
    /// The labels of the series.
    pub labels: Labels,
    /// The metric's name, type and unit are to be taken from `labels` at the end of the query.
    pub drop_name: bool,
    /// One value a step, [`ABSENT`] where there is none or a histogram.
    pub values: Vec<f64>,
    /// One entry a step; `None` where no step has a histogram, so that floats cost nothing.
    pub histograms: Option<Histograms>,
}

impl StepSeries {
    /// The series `labels` with these values.
    pub fn new(labels: Labels, values: Vec<f64>) -> Self {
        Self {
            labels,
            drop_name: false,
            values,
            histograms: None,
        }
    }

    /// The series `labels` with values and histograms, of which no step has both.
    pub fn with_histograms(labels: Labels, values: Vec<f64>, histograms: Histograms) -> Self {
        let some = histograms.iter().any(Option::is_some);
        Self {
            histograms: some.then_some(histograms),
            ..Self::new(labels, values)
        }
    }

    /// A series without any value.
    pub fn absent(labels: Labels, steps: usize) -> Self {
        Self::new(labels, vec![ABSENT; steps])
    }

    /// Whether there is a value or a histogram at some step.
    pub fn has_values(&self) -> bool {
        self.values.iter().any(|value| !is_absent(*value))
            || self
                .histograms
                .as_ref()
                .is_some_and(|column| column.iter().any(Option::is_some))
    }

    /// Whether there is a value or a histogram at `step`.
    #[inline]
    pub fn has(&self, step: usize) -> bool {
        self.values
            .get(step)
            .is_some_and(|value| !is_absent(*value))
            || self.histogram(step).is_some()
    }

    /// The histogram at `step`.
    #[inline]
    pub fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?.get(step)?.as_ref()
    }

    /// Takes away what stands at `step`.
    #[inline]
    pub fn clear(&mut self, step: usize) {
        if let Some(value) = self.values.get_mut(step) {
            *value = ABSENT;
        }
        if let Some(entry) = self.histograms.as_mut().and_then(|all| all.get_mut(step)) {
            *entry = None;
        }
    }

    /// Takes over what `other` has at `step`; nothing may be there.
    #[cfg(feature = "promql")]
    pub(crate) fn copy_step(&mut self, other: &Self, step: usize) {
        if let (Some(to), Some(from)) = (self.values.get_mut(step), other.values.get(step)) {
            *to = *from;
        }
        if let Some(histogram) = other.histogram(step) {
            let steps = self.values.len();
            let column = self.histograms.get_or_insert_with(|| vec![None; steps]);
            if let Some(entry) = column.get_mut(step) {
                *entry = Some(Arc::clone(histogram));
            }
        }
    }

    /// Marks each step with a value or a histogram in `steps`.
    pub fn mark_present(&self, steps: &mut [bool]) {
        for (here, value) in steps.iter_mut().zip(&self.values) {
            *here |= !is_absent(*value);
        }
        for (here, histogram) in steps.iter_mut().zip(self.histograms.iter().flatten()) {
            *here |= histogram.is_some();
        }
    }

    /// The series without the metric's name, type and unit.
    #[must_use]
    pub fn without_name(mut self) -> Self {
        self.labels = drop_name(&self.labels);
        self
    }

    /// The series without its histograms.
    #[must_use]
    pub fn without_histograms(mut self) -> Self {
        self.histograms = None;
        self
    }

    /// Bytes of the histograms, shared ones counted at each step.
    pub fn histogram_bytes(&self) -> usize {
        let all = self.histograms.iter().flatten().flatten();
        all.map(|histogram| histogram.heap_bytes()).sum()
    }

    /// Takes over what `other` has at its steps.
    fn merge(&mut self, other: Self) -> Result<(), VectorError> {
        self.drop_name |= other.drop_name;
        if self.histograms.is_some() || other.histograms.is_some() {
            return self.merge_histograms(other);
        }
        for (old, new) in self.values.iter_mut().zip(other.values) {
            if is_absent(new) {
                continue;
            }
            if !is_absent(*old) {
                return Err(VectorError::DuplicateLabels);
            }
            *old = new;
        }
        Ok(())
    }

    fn merge_histograms(&mut self, other: Self) -> Result<(), VectorError> {
        let steps = self.values.len();
        if (0..steps).any(|step| self.has(step) && other.has(step)) {
            return Err(VectorError::DuplicateLabels);
        }
        for (old, new) in self.values.iter_mut().zip(other.values) {
            if !is_absent(new) {
                *old = new;
            }
        }
        let Some(column) = other.histograms else {
            return Ok(());
        };
        let mine = self.histograms.get_or_insert_with(|| vec![None; steps]);
        for (old, new) in mine.iter_mut().zip(column) {
            if new.is_some() {
                *old = new;
            }
        }
        Ok(())
    }
}

/// Makes label sets unique: series with equal labels become one where no step has a value in both.
/// The order of first appearance is kept.
///
/// # Errors
/// [`VectorError::DuplicateLabels`] when two have a value at the same step.
pub fn merge_equal_labels(series: Vec<StepSeries>) -> Result<Vec<StepSeries>, VectorError> {
    let mut merged = Merged::with_capacity(series.len());
    for one in series {
        merged.push(one)?;
    }
    Ok(merged.into_series())
}

/// Series by unique labels, built one after the other.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    series: Vec<StepSeries>,
    by_labels: HashMap<Labels, usize>,
}

impl Merged {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            series: Vec::with_capacity(capacity),
            by_labels: HashMap::with_capacity(capacity),
        }
    }

    pub(crate) fn push(&mut self, new: StepSeries) -> Result<(), VectorError> {
        let next = self.series.len();
        let at = *self.by_labels.entry(new.labels.clone()).or_insert(next);
        match self.series.get_mut(at) {
            Some(old) => old.merge(new),
            None => {
                self.series.push(new);
                Ok(())
            }
        }
    }

    pub(crate) fn into_series(self) -> Vec<StepSeries> {
        self.series
    }
}
