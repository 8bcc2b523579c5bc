//! Series computed from the samples of a selector, several batches at the same time. `selector` and
//! `call` use it for whatever is computed from one series alone.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::selector::Raw;
use super::stream::Held;
use crate::budget::Budget;
use crate::promql::error::QueryError;
use crate::promql::source::{Batch, Batches, Series};
use crate::threads;
use crate::vector::StepSeries;

/// Series of the first batch: most selectors find few.
const FIRST_BATCH: usize = 16;
/// How much larger the batches of a wave are than those of the wave before.
const GROWTH: usize = 4;
/// The most series in a batch.
const BATCH_SERIES_MAX: usize = 1024;
/// Values that the results of one batch may hold, if they are not one series..
const BATCH_VALUES_MAX: usize = 1 << 19;
/// .. and at most one in this many of those that the whole query may hold.
const BATCH_SHARE: u64 = 64;
/// A batch whose results hold fewer values than this does not occupy a thread..
const THREAD_VALUES_MIN: usize = 1 << 14;
/// .. unless so many series were computed before it that there may be many more.
const THREAD_SERIES_MIN: usize = 1 << 14;

/// An iterator over `compute` of each series that a selector finds, where that is something; the
/// series come in no particular order.
pub(super) struct Waves<'q, F> {
    budget: &'q Budget,
    batches: Box<dyn Batches>,
    compute: F,
    /// Values a series.
    steps: usize,
    /// The most series in a batch.
    size_max: usize,
    /// Series in each batch of the next wave.
    size: usize,
    /// Series that there were so far.
    computed: usize,
    ready: VecDeque<Ready<'q>>,
    done: bool,
}

/// What is made of the samples of a series, if anything.
pub(super) type Computed = Result<Option<StepSeries>, QueryError>;

/// A series that waits to be asked for, and the account of it.
type Ready<'q> = (StepSeries, Held<'q>);

impl<'q, F> Waves<'q, F>
where
    F: Fn(&mut Raw) -> Computed + Send + Sync,
{
    pub(super) fn new(
        budget: &'q Budget,
        batches: Box<dyn Batches>,
        steps: usize,
        compute: F,
    ) -> Self {
        let share = budget.limits().samples_max / BATCH_SHARE;
        let values_max = BATCH_VALUES_MAX.min(usize::try_from(share).unwrap_or(usize::MAX));
        let size_max = (values_max / steps.max(1)).clamp(1, BATCH_SERIES_MAX);
        Self {
            budget,
            batches,
            compute,
            steps,
            size_max,
            size: FIRST_BATCH.min(size_max),
            computed: 0,
            ready: VecDeque::new(),
            done: false,
        }
    }

    /// Computes the next series; none are ready then only when there are no more.
    fn wave(&mut self) -> Result<(), QueryError> {
        while self.ready.is_empty() && !self.done {
            let values = self.size.saturating_mul(self.steps);
            let threaded = self.computed >= THREAD_SERIES_MIN || values >= THREAD_VALUES_MIN;
            let permits = threads::Permits::take(if threaded { usize::MAX } else { 0 });
            let mut batches = Vec::new();
            while batches.len() <= permits.count() && !self.done {
                match self.batches.next_batch(self.size)? {
                    Some(batch) => batches.push(batch),
                    None => self.done = true,
                }
            }
            let (budget, compute) = (self.budget, &self.compute);
            let job = |batch| move || computed(budget, compute, batch);
            let jobs = batches.into_iter().map(job);
            for computed in threads::all(jobs.collect(), &permits) {
                let computed = computed?;
                self.computed = self.computed.saturating_add(computed.len());
                self.ready.extend(computed);
            }
            self.size = self.size.saturating_mul(GROWTH).min(self.size_max);
        }
        Ok(())
    }
}

/// What `compute` makes of the series of a batch.
fn computed<'q, F>(
    budget: &'q Budget,
    compute: &F,
    batch: Batch,
) -> Result<Vec<Ready<'q>>, QueryError>
where
    F: Fn(&mut Raw) -> Computed,
{
    let mut computed = Vec::new();
    let mut reading = Held::new(budget);
    let mut one = |series: &mut Series| -> Result<(), QueryError> {
        let mut raw = Raw::take(series);
        budget.read_series(raw.len() as u64)?;
        // One series is decoded at a time, so the longest one is what is held.
        reading.grow_to(raw.len() as u64 + raw.histogram_samples())?;
        if let Some(result) = compute(&mut raw)? {
            let mut held = Held::new(budget);
            held.add(result.values.len())?;
            computed.push((result, held));
        }
        raw.give_back(series);
        Ok(())
    };
    let mut failed = Ok(());
    batch(&mut |series| {
        failed = one(series);
        match &failed {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    failed.map(|()| computed)
}

impl<F> Iterator for Waves<'_, F>
where
    F: Fn(&mut Raw) -> Computed + Send + Sync,
{
    type Item = Result<StepSeries, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.wave() {
            self.done = true;
            return Some(Err(error));
        }
        let (series, _held_until_here) = self.ready.pop_front()?;
        Some(Ok(series))
    }
}
