//! How every reading handler of `prometheus`, `loki` and `tempo` runs: the parameters are read, the
//! tenant is found, the work is done on the bounded pool of queries, and it stops when the client
//! goes away.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::HeaderMap;
use trine_query::budget::{Cancel, Limits};

use crate::app::App;
use crate::params::Params;
use crate::refusal::Refusal;
use crate::tenants::{Tenant, TenantId};

/// What a client asks, of whose data.
#[derive(Debug)]
pub(in crate::api) struct Asked {
    /// The state of the server.
    pub(in crate::api) app: Arc<App>,
    /// The tenant, the first of several; `None` when nothing was ever written for it. Reading
    /// creates none.
    pub(in crate::api) tenant: Option<Arc<Tenant>>,
    /// All tenants that the request names, in order.
    pub(in crate::api) tenants: Vec<(TenantId, Option<Arc<Tenant>>)>,
    /// When the request came, by the monotonic clock.
    pub(in crate::api) arrived_ns: u64,
    /// The headers of the request.
    pub(in crate::api) headers: HeaderMap,
    /// The parameters of its URL and form.
    pub(in crate::api) params: Params,
    /// Set when nobody waits for the answer any more.
    pub(in crate::api) cancel: Cancel,
}

impl Asked {
    fn new(app: Arc<App>, ids: Vec<TenantId>, headers: HeaderMap, params: Params) -> Self {
        let find = |id: TenantId| {
            let tenant = app.tenants.get(&id);
            (id, tenant)
        };
        let tenants: Vec<_> = ids.into_iter().map(find).collect();
        Self {
            arrived_ns: app.clock.monotonic_ns(),
            tenant: tenants.first().and_then(|(_, tenant)| tenant.clone()),
            tenants,
            headers,
            params,
            cancel: Cancel::new(),
            app,
        }
    }

    /// What one query may use.
    pub(in crate::api) fn limits(&self) -> Limits {
        let config = &self.app.config;
        Limits {
            samples_max: config.query_samples_max as u64,
            wall_time: config.query_timeout,
            ..Limits::default()
        }
    }
}

/// Reads a request about one tenant and runs `work` for it on a thread that may block.
///
/// # Errors
/// Those of `work`, and refusals of the request or the pool.
pub(in crate::api) async fn run<T, E>(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Refusal> + Send + 'static,
{
    let id = TenantId::of(request.headers())?;
    run_of(app, vec![id], request, work).await
}

/// As [`run`], of a request that may name several tenants.
///
/// # Errors
/// As [`run`].
pub(in crate::api) async fn run_of_several<T, E>(
    app: Arc<App>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Refusal> + Send + 'static,
{
    let ids = TenantId::all_of(request.headers())?;
    run_of(app, ids, request, work).await
}

async fn run_of<T, E>(
    app: Arc<App>,
    ids: Vec<TenantId>,
    request: Request,
    work: impl FnOnce(&Asked) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Refusal> + Send + 'static,
{
    let arrived_ns = app.clock.monotonic_ns();
    let (parts, body) = request.into_parts();
    let params = Params::read(&parts.method, &parts.headers, parts.uri.query(), body).await?;
    let mut asked = Asked::new(app, ids, parts.headers, params);
    asked.arrived_ns = arrived_ns;
    let _guard = CancelOnDrop(asked.cancel.clone());
    let pool = asked.app.queries.clone();
    pool.run(move || Ok(work(&asked))).await?
}

/// Work that somebody else waits for, about the tenants that `headers` name: what runs it, and what
/// stops it when it is dropped.
///
/// # Errors
/// Refusals of the headers, and, of the future, as [`run`].
pub(in crate::api) fn detached(
    app: Arc<App>,
    headers: HeaderMap,
    work: impl FnOnce(&Asked) -> Result<(), Refusal> + Send + 'static,
) -> Result<(impl Future<Output = Result<(), Refusal>>, CancelOnDrop), Refusal> {
    let ids = TenantId::all_of(&headers)?;
    let pool = app.queries.clone();
    let asked = Asked::new(app, ids, headers, Params::default());
    let guard = CancelOnDrop(asked.cancel.clone());
    Ok((pool.run(move || work(&asked)), guard))
}

/// The future of a handler is dropped when its client hangs up; the thread that works for it learns
/// of it here.
#[derive(Debug)]
pub(in crate::api) struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
pub(in crate::api) mod harness;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use axum::body::Body;
    use axum::http::Request;

    use super::{harness::Harness, run};
    use crate::refusal::Refusal;

    #[tokio::test]
    async fn a_client_that_hangs_up_stops_its_query() {
        let harness = Harness::new(|routes, _| routes, |_| {});
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (stopped, has_stopped) = mpsc::channel();
        let request = Request::get("/").body(Body::empty()).unwrap();
        let handler = run(harness.app, request, move |asked| {
            started.send(asked.cancel.is_canceled()).unwrap();
            // Bounded, so that a defect is a failure and not a test without end.
            let mut turns = 0..10_000_000;
            while !asked.cancel.is_canceled() && turns.next().is_some() {
                std::thread::yield_now();
            }
            stopped.send(asked.cancel.is_canceled()).unwrap();
            Ok::<(), Refusal>(())
        });
        tokio::select! {
            _ = handler => panic!("nothing stops the query but the client"),
            canceled = has_started => assert_eq!(canceled, Ok(false)),
        }
        assert_eq!(has_stopped.recv(), Ok(true));
    }

    #[tokio::test]
    async fn a_refused_tenant_is_the_answer() {
        let harness = Harness::new(|routes, _| routes, |_| {});
        let request = Request::get("/")
            .header("X-Scope-OrgID", "a/b")
            .body(Body::empty());
        let answer = run(harness.app, request.unwrap(), |_| Ok::<(), Refusal>(())).await;
        assert!(answer.unwrap_err().text.contains("unsupported character"));
    }
}
