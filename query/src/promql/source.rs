//! What the engine asks of a store of metrics. Implemented by the adapters of the stores.

mod memory;

use std::ops::ControlFlow;
use std::sync::Arc;

use trine_storage::{Error, Labels, Matcher, TimeRange};

use crate::vector::{Histogram, is_absent};

pub use memory::Memory;

/// A read view of a store. All its answers belong to one point in time.
pub trait Source: Send + Sync {
    /// The series that match, in label order, each with its samples in time order. More samples
    /// than asked for are allowed, other series are not.
    ///
    /// # Errors
    /// What the store reports; while iterating too.
    fn select(&self, request: &SelectRequest) -> Result<SeriesIter, Error>;

    /// The same series, each once, in no particular order: in batches that several threads may read
    /// at the same time. Unless a source does better, they come from [`Source::select`].
    ///
    /// # Errors
    /// What the store reports; from the batches too.
    fn batches(&self, request: &SelectRequest) -> Result<Box<dyn Batches>, Error> {
        Ok(Box::new(OneByOne(self.select(request)?)))
    }

    /// The names of the labels of the series that match and have samples in `range`, sorted; at
    /// most `limit` of them.
    ///
    /// # Errors
    /// What the store reports.
    fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error>;

    /// The values of the label `name` of those series, sorted; at most `limit` of them.
    ///
    /// # Errors
    /// What the store reports.
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error>;

    /// The label sets of those series, in label order; at most `limit` of them.
    ///
    /// # Errors
    /// What the store reports.
    fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<Labels>, Error>;
}

/// Which samples of which series are wanted.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// All of them must hold.
    pub matchers: Vec<Matcher>,
    /// In milliseconds since 1970.
    pub range: TimeRange,
    /// What the samples are for. A store may ignore it.
    pub hints: Hints,
}

/// What samples are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    /// The distance between two steps of the query, 0 for an instant query.
    pub step_ms: i64,
    /// The length of the range selector, 0 for an instant selector.
    pub range_ms: i64,
    /// The function over the range selector.
    pub function: Option<&'static str>,
}

/// Series one after the other.
pub type SeriesIter = Box<dyn Iterator<Item = Result<Series, Error>> + Send>;

/// Series a few at a time.
pub trait Batches: Send {
    /// The next series, `series_max` at most; `None` when there are no more.
    ///
    /// # Errors
    /// What the store reports.
    fn next_batch(&mut self, series_max: usize) -> Result<Option<Batch>, Error>;
}

/// Reads some series: lends them to its argument one after the other until that breaks off. Their
/// columns may be used again for the next one, so whoever keeps them takes them out.
pub type Batch = Box<dyn FnOnce(&mut Lend<'_>) -> Result<(), Error> + Send>;

/// What a [`Batch`] lends its series to.
pub type Lend<'l> = dyn FnMut(&mut Series) -> ControlFlow<()> + 'l;

/// The most series of [`OneByOne`] in a batch: they are decoded already.
const ONE_BY_ONE_MAX: usize = 64;

/// Series that come one after the other, as batches.
struct OneByOne(SeriesIter);

impl Batches for OneByOne {
    fn next_batch(&mut self, series_max: usize) -> Result<Option<Batch>, Error> {
        let some = self.0.by_ref().take(series_max.clamp(1, ONE_BY_ONE_MAX));
        let mut series = some.collect::<Result<Vec<Series>, Error>>()?;
        if series.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(move |each| {
            for one in &mut series {
                if each(one).is_break() {
                    break;
                }
            }
            Ok(())
        })))
    }
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels, the metric's name among them.
    pub labels: Labels,
    /// Its samples.
    pub samples: Samples,
}

/// The samples of one series as columns of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Milliseconds since 1970, strictly rising.
    pub timestamps: Vec<i64>,
    /// When the counter of each sample began, milliseconds since 1970, 0 where that is not known.
    /// `None` when it is not known of any.
    pub start_timestamps: Option<Vec<i64>>,
    /// The values.
    pub values: Values,
}

impl Samples {
    /// Samples of which nothing is known but when and what.
    pub fn new(timestamps: Vec<i64>, values: Values) -> Self {
        Self {
            timestamps,
            start_timestamps: None,
            values,
        }
    }
}

/// The value of one sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

impl SampleValue {
    /// Whether it marks the end of a series.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Float(value) => is_absent(*value),
            Self::Histogram(histogram) => histogram.is_stale(),
        }
    }

    /// The float, if it is one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Histogram(_) => None,
        }
    }
}

/// The values of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floats; a stale marker is the NaN with the bits `0x7ff0000000000002`.
    Floats(Vec<f64>),
    /// Native histograms, equal neighbours perhaps in one allocation; a stale marker has that NaN
    /// for a sum.
    Histograms(Vec<Arc<Histogram>>),
    /// Both.
    Mixed(Vec<SampleValue>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Histograms(values) => values.len(),
            Self::Mixed(values) => values.len(),
        }
    }

    /// The value of row `at`.
    pub fn get(&self, at: usize) -> Option<SampleValue> {
        match self {
            Self::Floats(values) => values.get(at).copied().map(SampleValue::Float),
            Self::Histograms(values) => values.get(at).cloned().map(SampleValue::Histogram),
            Self::Mixed(values) => values.get(at).cloned(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<SampleValue>> for Values {
    /// A column of the narrowest kind.
    fn from(values: Vec<SampleValue>) -> Self {
        let floats: Option<Vec<f64>> = values.iter().map(SampleValue::as_float).collect();
        if let Some(floats) = floats {
            return Self::Floats(floats);
        }
        let histograms = values.iter().map(|value| match value {
            SampleValue::Histogram(histogram) => Some(Arc::clone(histogram)),
            SampleValue::Float(_) => None,
        });
        match histograms.collect::<Option<Vec<_>>>() {
            Some(histograms) => Self::Histograms(histograms),
            None => Self::Mixed(values),
        }
    }
}
