//! A tenant's metrics as PromQL reads them, also when there are none.

use trine_query::promql::{SelectRequest, SeriesIter, Source};
use trine_storage::{Error, Labels, Matcher, TimeRange};

use super::run::Asked;

/// What the tenant of the request holds at this moment.
///
/// # Errors
/// Those of opening its engine.
pub(super) fn of(asked: &Asked) -> Result<Box<dyn Source>, Error> {
    let engine = match &asked.tenant {
        Some(tenant) => tenant.read_metrics()?,
        None => None,
    };
    Ok(match engine {
        Some(engine) => Box::new(engine.snapshot()),
        None => Box::new(Nothing),
    })
}

/// The metrics of a tenant that has none. `vector(1)` has a value there too.
#[derive(Debug)]
struct Nothing;

impl Source for Nothing {
    fn select(&self, _: &SelectRequest) -> Result<SeriesIter, Error> {
        Ok(Box::new(std::iter::empty()))
    }

    fn label_names(
        &self,
        _: &[Matcher],
        _: TimeRange,
        _: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Matcher],
        _: TimeRange,
        _: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn series(&self, _: &[Matcher], _: TimeRange, _: Option<usize>) -> Result<Vec<Labels>, Error> {
        Ok(Vec::new())
    }
}
