//! A tenant's logs as LogQL reads them, also when there are none.

use trine_query::logql::source::{Batches, Request, Source};
use trine_storage::{Error, Labels, Matcher, TimeRange};

use crate::api::prometheus::run::Asked;

/// What the tenant of the request holds at this moment.
///
/// # Errors
/// Those of opening its engine.
pub(super) fn of(asked: &Asked) -> Result<Box<dyn Source>, Error> {
    let engine = match &asked.tenant {
        Some(tenant) => tenant.read_logs()?,
        None => None,
    };
    Ok(match engine {
        Some(engine) => Box::new(engine.snapshot()),
        None => Box::new(Nothing),
    })
}

/// The logs of a tenant that has none. `vector(1)` has a value there too.
#[derive(Debug)]
struct Nothing;

impl Source for Nothing {
    fn scan(&self, _: &Request) -> Result<Batches, Error> {
        Ok(Box::new(std::iter::empty()))
    }

    fn streams(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, Error> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}
