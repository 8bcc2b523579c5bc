//! Deleting series and copying the store, for those who may. The routes of `prometheus` lead here,
//! and ask first whether it is switched on.

use trine_tsdb::Tsdb;

use super::answer::{self, Failure};
use super::json::{self, Object};
use super::pieces::Reply;
use super::request;
use super::run::Asked;

/// The answer when it is not switched on.
pub(super) fn disabled() -> Failure {
    Failure::switched_off("admin APIs disabled")
}

/// `delete_series`: of all selectors, between `start` and `end`.
pub(super) fn delete_series(asked: &Asked) -> Result<Reply, Failure> {
    if asked.params.all("match[]").next().is_none() {
        return Err(Failure::bad("no match[] parameter provided"));
    }
    asked.app.tenants.may_write()?;
    let range = request::window(&asked.params)?;
    let selectors = request::selectors(&asked.params);
    let selectors = selectors.map_err(|why| request::invalid("match[]", &why))?;
    if let Some(store) = store(asked)? {
        for matchers in &selectors {
            store.delete(matchers, range)?;
        }
    }
    Ok(Reply::Whole(String::new()))
}

/// `clean_tombstones`: deleted samples leave the files.
pub(super) fn clean_tombstones(asked: &Asked) -> Result<Reply, Failure> {
    asked.app.tenants.may_write()?;
    if let Some(store) = store(asked)? {
        store.compact()?;
    }
    Ok(Reply::Whole(String::new()))
}

/// `snapshot`: a copy under the data directory, in `snapshots`, that a server can be started on.
/// What is in memory is in it whatever `skip_head` says.
pub(super) fn snapshot(asked: &Asked) -> Result<Reply, Failure> {
    request::truth(&asked.params, "skip_head")?;
    let Some(store) = store(asked)? else {
        return Err(Failure::not_found("there are no metrics to copy"));
    };
    let now = jiff::Timestamp::from_nanosecond(asked.app.clock.now_ns().into());
    let now = now.map_err(|error| Failure::bad(error.to_string()))?;
    let name = format!(
        "{}-{:016x}",
        now.strftime("%Y%m%dT%H%M%SZ"),
        asked.app.clock.monotonic_ns()
    );
    let id = asked.tenants.first().map_or("", |(id, _)| id.as_str());
    let root = asked.app.config.data_dir.join("snapshots").join(&name);
    store.backup(root.join("tenants").join(id).join("metrics"))?;
    let text = answer::success(&[], &[], |out| {
        let mut object = Object::begin(out);
        json::string(object.key("name"), &name);
        object.end();
    });
    Ok(text.into())
}

fn store(asked: &Asked) -> Result<Option<Tsdb>, Failure> {
    let store = asked.tenant.as_ref().map(|tenant| tenant.read_metrics());
    Ok(store.transpose()?.flatten())
}
