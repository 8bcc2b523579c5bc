//! The logs of the tenants of a request as LogQL reads them, also when there are none.

use trine_logstore::{LogStore, Snapshot};
use trine_query::logql::source::{Batches, Request, Source};
use trine_storage::{Error, Labels, Matcher, TimeRange};

use super::several::Several;
use crate::api::prometheus::federation;
use crate::api::prometheus::run::Asked;

/// What the tenants of the request hold at this moment, as one.
///
/// # Errors
/// Those of opening their engines.
pub(super) fn of(asked: &Asked) -> Result<Box<dyn Source>, Error> {
    let view = |store: Option<LogStore>| -> Box<dyn Source> {
        match store {
            Some(store) => Box::new(store.snapshot()),
            None => Box::new(Nothing),
        }
    };
    if let [(_, tenant)] = asked.tenants.as_slice() {
        let store = tenant.as_ref().map(|tenant| tenant.read_logs());
        return Ok(view(store.transpose()?.flatten()));
    }
    let members = stores(asked)?.into_iter();
    let members = members.map(|(id, store)| (id, view(Some(store)))).collect();
    Ok(Box::new(Several::new(members)))
}

/// The stores of the tenants of the request that have one, with their tenants' ids.
///
/// # Errors
/// Those of opening them.
pub(super) fn stores(asked: &Asked) -> Result<Vec<(String, LogStore)>, Error> {
    let mut stores = Vec::new();
    for (id, tenant) in &asked.tenants {
        if let Some(tenant) = tenant
            && let Some(store) = tenant.read_logs()?
        {
            stores.push((id.as_str().to_owned(), store));
        }
    }
    Ok(stores)
}

/// Views of those stores that `matchers` choose, with what is left of the matchers.
///
/// # Errors
/// As [`stores`].
pub(super) fn chosen(
    asked: &Asked,
    matchers: &[Matcher],
) -> Result<Vec<(Snapshot, Vec<Matcher>)>, Error> {
    let stores = stores(asked)?;
    if asked.tenants.len() == 1 {
        let all = stores.into_iter();
        return Ok(all
            .map(|(_, store)| (store.snapshot(), matchers.to_vec()))
            .collect());
    }
    let chosen = stores.into_iter().filter_map(|(id, store)| {
        let left = federation::chosen(matchers, &id)?;
        Some((store.snapshot(), left))
    });
    Ok(chosen.collect())
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
