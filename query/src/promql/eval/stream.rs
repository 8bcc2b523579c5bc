//! Instant vectors as streams of series, and the account of those that must be held.

use super::Evaluation;
use crate::budget::{Budget, BudgetError};
use crate::promql::error::QueryError;
use crate::vector::{StepSeries, drop_name, merge_equal_labels};

/// The bytes of histograms that count as one sample.
pub(super) const HISTOGRAM_BYTES_PER_SAMPLE: usize = 16;

/// Series that are computed when they are asked for.
pub(super) type SeriesStream<'q> = Box<dyn Iterator<Item = Result<StepSeries, QueryError>> + 'q>;

/// An instant vector over all steps.
pub(super) struct Vector<'q> {
    pub(super) series: SeriesStream<'q>,
    /// All series have the same metric name, or none: without the name they still differ.
    pub(super) one_name: bool,
}

/// Samples that are held, until this goes.
#[derive(Debug)]
pub(super) struct Held<'q> {
    budget: &'q Budget,
    samples: u64,
    /// Theirs, and those of labels.
    bytes: u64,
}

/// A vector of which all series are in memory.
pub(super) struct Collected<'q> {
    series: Vec<StepSeries>,
    one_name: bool,
    held: Held<'q>,
}

impl<'q> Vector<'q> {
    /// The vector without series.
    pub(super) fn empty() -> Self {
        Self {
            series: Box::new(std::iter::empty()),
            one_name: true,
        }
    }

    /// Series that nothing holds an account of.
    pub(super) fn of(series: Vec<StepSeries>) -> Self {
        Self {
            series: Box::new(series.into_iter().map(Ok)),
            one_name: true,
        }
    }

    /// Changes each series.
    pub(super) fn map(self, mut change: impl FnMut(StepSeries) -> StepSeries + 'q) -> Self {
        let series = self.series.map(move |series| series.map(&mut change));
        Self {
            series: Box::new(series),
            one_name: self.one_name,
        }
    }

    /// Changes each value; histograms are left out.
    pub(super) fn map_values(self, change: impl Fn(f64) -> f64 + 'q) -> Self {
        self.map(move |mut series| {
            series.histograms = None;
            for value in &mut series.values {
                if !crate::vector::is_absent(*value) {
                    *value = change(*value);
                }
            }
            series
        })
    }

    /// Says of each series that its name is to be dropped at the end of the query.
    fn drop_names_later(self) -> Self {
        self.map(|mut series| {
            series.drop_name = true;
            series
        })
    }

    /// Takes the metric's name away. Where names may differ, this needs all series: what is equal
    /// without the name becomes one series.
    fn drop_names_now(self, budget: &'q Budget) -> Result<Self, QueryError> {
        if self.one_name {
            return Ok(self.map(StepSeries::without_name));
        }
        let mut all = self.collect(budget)?;
        for series in &mut all.series {
            series.labels = drop_name(&series.labels);
        }
        all.one_name = true;
        Ok(all.merged()?.into_vector())
    }

    /// Computes all series.
    pub(super) fn collect(self, budget: &'q Budget) -> Result<Collected<'q>, QueryError> {
        let one_name = self.one_name;
        let (mut series, mut held) = (Vec::new(), Held::new(budget));
        for one in self.series {
            let one = one?;
            held.add(one.values.len())?;
            if one.histograms.is_some() {
                held.add_histograms(one.histogram_bytes())?;
            }
            held.add_bytes(one.labels.heap_bytes())?;
            budget.check()?;
            series.push(one);
        }
        Ok(Collected {
            series,
            one_name,
            held,
        })
    }
}

impl<'q> Evaluation<'q> {
    /// The vector of another metric: without names, or with names that go at the end of the query.
    pub(super) fn without_names(&'q self, vector: Vector<'q>) -> Result<Vector<'q>, QueryError> {
        if self.options.delayed_name_removal {
            Ok(vector.drop_names_later())
        } else {
            vector.drop_names_now(self.budget)
        }
    }
}

impl<'q> Collected<'q> {
    /// Takes the names away that operations left for later. What is equal then becomes one series.
    pub(super) fn settle_names(mut self) -> Result<Self, QueryError> {
        if !self.series.iter().any(|series| series.drop_name) {
            return Ok(self);
        }
        for series in &mut self.series {
            if std::mem::take(&mut series.drop_name) {
                series.labels = drop_name(&series.labels);
            }
        }
        self.merged()
    }

    /// Series that were made of what `held` accounts for.
    pub(super) fn new(series: Vec<StepSeries>, one_name: bool, held: Held<'q>) -> Self {
        Self {
            series,
            one_name,
            held,
        }
    }

    /// Makes one series of those with equal labels.
    pub(super) fn merged(self) -> Result<Self, QueryError> {
        Ok(Self {
            series: merge_equal_labels(self.series)?,
            ..self
        })
    }

    pub(super) fn one_name(&self) -> bool {
        self.one_name
    }

    /// The series, with the account of them.
    pub(super) fn into_parts(self) -> (Vec<StepSeries>, Held<'q>) {
        (self.series, self.held)
    }

    /// The series; from here on nothing accounts for them.
    pub(super) fn into_series(self) -> Vec<StepSeries> {
        self.series
    }

    /// A stream of the series. They count as held until its end.
    pub(super) fn into_vector(self) -> Vector<'q> {
        let Self {
            series,
            one_name,
            held,
        } = self;
        let series = series.into_iter().map(move |series| {
            let _until_the_end = &held;
            Ok(series)
        });
        Vector {
            series: Box::new(series),
            one_name,
        }
    }
}

impl<'q> Held<'q> {
    pub(super) fn new(budget: &'q Budget) -> Self {
        Self {
            budget,
            samples: 0,
            bytes: 0,
        }
    }

    pub(super) fn add(&mut self, samples: usize) -> Result<(), BudgetError> {
        let samples = u64::try_from(samples).unwrap_or(u64::MAX);
        self.grow_to(self.samples.saturating_add(samples))
    }

    pub(super) fn add_bytes(&mut self, bytes: usize) -> Result<(), BudgetError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.budget.hold_bytes(bytes)
    }

    /// Histograms count as a sample each 16 bytes, as in Prometheus.
    pub(super) fn add_histograms(&mut self, bytes: usize) -> Result<(), BudgetError> {
        let samples = u64::try_from(bytes / HISTOGRAM_BYTES_PER_SAMPLE).unwrap_or(u64::MAX);
        self.samples = self.samples.saturating_add(samples);
        self.budget.hold_samples(samples)?;
        self.add_bytes(bytes)
    }

    /// Makes the account say `samples`, unless it says more already.
    pub(super) fn grow_to(&mut self, samples: u64) -> Result<(), BudgetError> {
        let more = samples.saturating_sub(self.samples);
        self.samples += more;
        self.budget.hold_samples(more)?;
        let bytes = more.saturating_mul(size_of::<f64>() as u64);
        self.bytes = self.bytes.saturating_add(bytes);
        self.budget.hold_bytes(bytes)
    }

    /// Puts another account into this one.
    pub(super) fn join(mut self, mut other: Self) -> Self {
        self.samples += std::mem::take(&mut other.samples);
        self.bytes += std::mem::take(&mut other.bytes);
        self
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.release_samples(self.samples);
        self.budget.release_bytes(self.bytes);
    }
}
