//! The metrics of the tenants of a request as PromQL reads them, also when there are none.

use trine_query::promql::{SelectRequest, SeriesIter, Source};
use trine_storage::{Error, Labels, Matcher, TimeRange};
use trine_tsdb::Tsdb;

use super::federation::Federation;
use super::run::Asked;

/// What the tenants of the request hold at this moment, as one.
///
/// # Errors
/// Those of opening their engines.
pub(super) fn of(asked: &Asked) -> Result<Box<dyn Source>, Error> {
    if let [(_, tenant)] = asked.tenants.as_slice() {
        let engine = tenant.as_ref().map(|tenant| tenant.read_metrics());
        return Ok(view(engine.transpose()?.flatten()));
    }
    let mut members = Vec::new();
    for (id, tenant) in &asked.tenants {
        let engine = tenant.as_ref().map(|tenant| tenant.read_metrics());
        let view = view(engine.transpose()?.flatten());
        members.push((id.as_str().to_owned(), view));
    }
    Ok(Box::new(Federation::new(members)))
}

/// The stores of the tenants of the request that have one, with their tenants' ids.
///
/// # Errors
/// Those of opening them.
pub(super) fn stores(asked: &Asked) -> Result<Vec<(String, Tsdb)>, Error> {
    let mut stores = Vec::new();
    for (id, tenant) in &asked.tenants {
        if let Some(tenant) = tenant
            && let Some(store) = tenant.read_metrics()?
        {
            stores.push((id.as_str().to_owned(), store));
        }
    }
    Ok(stores)
}

fn view(engine: Option<Tsdb>) -> Box<dyn Source> {
    match engine {
        Some(engine) => Box::new(engine.snapshot()),
        None => Box::new(Nothing),
    }
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
