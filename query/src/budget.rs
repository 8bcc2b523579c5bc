//! What one query may use: bounds on samples, bytes, series and time, and a flag that stops it.
//! Called by the engines of all three languages, once per batch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use trine_storage::clock::Clock;

/// Bounds of one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Samples (or log lines, or spans) held in memory at one time. Default: 50 million.
    pub samples_max: u64,
    /// Bytes of what was read that are held in memory at one time. Default: 2 GiB.
    pub bytes_max: u64,
    /// Series read by the whole query. Default: 10 million.
    pub series_max: u64,
    /// Steps of a range query. Default: 11 000. (The steps of subqueries count as samples.)
    pub steps_max: usize,
    /// From the start of the query to its end. Default: two minutes.
    pub wall_time: Duration,
    /// Threads that a LogQL or TraceQL query works on at a time, if as many cores are free.
    /// Default: 16.
    pub threads_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            samples_max: 50_000_000,
            bytes_max: 2 << 30,
            series_max: 10_000_000,
            steps_max: 11_000,
            wall_time: Duration::from_secs(120),
            threads_max: 16,
        }
    }
}

/// A flag that stops a query from outside. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the query at its next batch.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for a source that asks it while it counts.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Whether it was set.
    pub fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a query was stopped. The texts are Prometheus'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetError {
    /// [`Limits::samples_max`] was reached.
    Samples,
    /// [`Limits::bytes_max`] was reached; the bound is given.
    Bytes(u64),
    /// [`Limits::series_max`] was reached; the bound is given.
    Series(u64),
    /// [`Limits::wall_time`] is over.
    TimedOut,
    /// [`Cancel::cancel`] was called.
    Canceled,
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Samples => f.write_str(
                "query processing would load too many samples into memory in query execution",
            ),
            Self::Bytes(max) => write!(
                f,
                "query processing would load more than {max} bytes into memory in query execution"
            ),
            Self::Series(max) => {
                write!(
                    f,
                    "query processing would read more than {max} series in query execution"
                )
            }
            Self::TimedOut => f.write_str("query timed out in query execution"),
            Self::Canceled => f.write_str("query was canceled in query execution"),
        }
    }
}

impl std::error::Error for BudgetError {}

/// What a query used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Samples read from the source.
    pub samples_read: u64,
    /// The most samples that were held at one time.
    pub samples_peak: u64,
    /// The most bytes that were held at one time.
    pub bytes_peak: u64,
    /// Series read from the source.
    pub series_read: u64,
}

/// The running account of one query against its [`Limits`]. Shared by reference; every method may
/// be called from several threads.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    cancel: Cancel,
    clock: Arc<dyn Clock>,
    started_ns: u64,
    samples: Gauge,
    bytes: Gauge,
    samples_read: AtomicU64,
    series_read: AtomicU64,
}

impl Budget {
    /// Opens the account; the wall time begins now.
    pub fn new(limits: Limits, cancel: Cancel, clock: Arc<dyn Clock>) -> Self {
        let started_ns = clock.monotonic_ns();
        Self {
            limits,
            cancel,
            clock,
            started_ns,
            samples: Gauge::default(),
            bytes: Gauge::default(),
            samples_read: AtomicU64::new(0),
            series_read: AtomicU64::new(0),
        }
    }

    /// Asks whether the query may go on. Call it once per batch or series.
    ///
    /// # Errors
    /// [`BudgetError::Canceled`] and [`BudgetError::TimedOut`].
    pub fn check(&self) -> Result<(), BudgetError> {
        if self.cancel.is_canceled() {
            return Err(BudgetError::Canceled);
        }
        let spent = self.clock.monotonic_ns().saturating_sub(self.started_ns);
        if u128::from(spent) > self.limits.wall_time.as_nanos() {
            return Err(BudgetError::TimedOut);
        }
        Ok(())
    }

    /// What stops the query from outside.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a series with `samples` samples that was read from the source. It does not hold
    /// them: see [`Budget::hold_samples`].
    ///
    /// # Errors
    /// [`BudgetError::Series`], and what [`Budget::check`] gives.
    pub fn read_series(&self, samples: u64) -> Result<(), BudgetError> {
        self.samples_read.fetch_add(samples, Ordering::Relaxed);
        if self.series_read.fetch_add(1, Ordering::Relaxed) >= self.limits.series_max {
            return Err(BudgetError::Series(self.limits.series_max));
        }
        self.check()
    }

    /// Counts `count` samples into memory.
    ///
    /// # Errors
    /// [`BudgetError::Samples`] when more than the bound would be held.
    pub fn hold_samples(&self, count: u64) -> Result<(), BudgetError> {
        if self.samples.add(count) > self.limits.samples_max {
            return Err(BudgetError::Samples);
        }
        Ok(())
    }

    /// Counts `count` samples out of memory again.
    pub fn release_samples(&self, count: u64) {
        self.samples.sub(count);
    }

    /// Counts `count` bytes into memory.
    ///
    /// # Errors
    /// [`BudgetError::Bytes`] when more than the bound would be held.
    pub fn hold_bytes(&self, count: u64) -> Result<(), BudgetError> {
        if self.bytes.add(count) > self.limits.bytes_max {
            return Err(BudgetError::Bytes(self.limits.bytes_max));
        }
        Ok(())
    }

    /// Counts `count` bytes out of memory again.
    pub fn release_bytes(&self, count: u64) {
        self.bytes.sub(count);
    }

    /// What was used so far.
    pub fn cost(&self) -> Cost {
        Cost {
            samples_read: self.samples_read.load(Ordering::Relaxed),
            samples_peak: self.samples.peak.load(Ordering::Relaxed),
            bytes_peak: self.bytes.peak.load(Ordering::Relaxed),
            series_read: self.series_read.load(Ordering::Relaxed),
        }
    }
}

/// A level and the highest it has been.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    fn add(&self, count: u64) -> u64 {
        let now = self
            .now
            .fetch_add(count, Ordering::Relaxed)
            .saturating_add(count);
        self.peak.fetch_max(now, Ordering::Relaxed);
        now
    }

    fn sub(&self, count: u64) {
        self.now.fetch_sub(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use trine_storage::clock::ManualClock;

    use super::*;

    fn budget(limits: Limits) -> (Budget, Arc<ManualClock>, Cancel) {
        let (clock, cancel) = (Arc::new(ManualClock::new(5)), Cancel::new());
        (
            Budget::new(limits, cancel.clone(), clock.clone()),
            clock,
            cancel,
        )
    }

    #[test]
    fn held_samples_stop_at_the_bound_and_can_be_given_back() {
        let (budget, ..) = budget(Limits {
            samples_max: 10,
            ..Limits::default()
        });
        assert_eq!(budget.hold_samples(10), Ok(()));
        budget.release_samples(4);
        assert_eq!(budget.hold_samples(4), Ok(()));
        assert_eq!(budget.hold_samples(1), Err(BudgetError::Samples));
        assert_eq!(budget.cost().samples_peak, 11);
    }

    #[test]
    fn bytes_and_series_stop_at_their_bounds() {
        let limits = Limits {
            bytes_max: 8,
            series_max: 2,
            ..Limits::default()
        };
        let (budget, ..) = budget(limits);
        assert_eq!(budget.hold_bytes(8), Ok(()));
        assert_eq!(budget.hold_bytes(1), Err(BudgetError::Bytes(8)));
        assert_eq!(budget.read_series(3), Ok(()));
        assert_eq!(budget.read_series(4), Ok(()));
        assert_eq!(budget.read_series(5), Err(BudgetError::Series(2)));
        assert_eq!(budget.cost().samples_read, 12);
    }

    #[test]
    fn time_and_the_flag_stop_a_query() {
        let (budget, clock, cancel) = budget(Limits {
            wall_time: Duration::from_secs(1),
            ..Limits::default()
        });
        clock.advance(Duration::from_secs(1));
        assert_eq!(budget.check(), Ok(()), "exactly at the bound");
        clock.advance(Duration::from_nanos(1));
        assert_eq!(budget.check(), Err(BudgetError::TimedOut));
        cancel.cancel();
        assert_eq!(budget.check(), Err(BudgetError::Canceled));
        assert_eq!(
            BudgetError::Canceled.to_string(),
            "query was canceled in query execution"
        );
    }
}
