//! What the engine asks of a store of metrics. Implemented by the adapters of the stores.

use trine_storage::{Error, Labels, Matcher, TimeRange};

/// A read view of a store. All its answers belong to one point in time.
pub trait Source: Send + Sync {
    /// The series that match, in label order, each with its samples in time order. More samples
    /// than asked for are allowed, other series are not.
    ///
    /// # Errors
    /// What the store reports; while iterating too.
    fn select(&self, request: &SelectRequest) -> Result<SeriesIter, Error>;

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
    /// The values.
    pub values: Values,
}

/// The values of a series.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Values {
    /// Floats; a stale marker is the NaN with the bits `0x7ff0000000000002`.
    Floats(Vec<f64>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
pub(super) mod memory;
