//! Handlers without a socket: a server's state over a directory of its own, and routes that are
//! called directly.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use tower::Service as _;
use trine_storage::clock::SystemClock;
use trine_storage::fs::{Fs as _, RealFs};
use trine_storage::shared::Shared;

use crate::app::App;
use crate::config::Config;
use crate::observe::Observer;
use crate::observe::log_lines::LogLines;
use crate::routes::Routes;
use crate::tenants::{Tenant, TenantId, Tenants};

/// A server's state and some of its routes.
pub(in crate::api) struct Harness {
    pub(in crate::api) app: Arc<App>,
    routes: Router,
    dir: tempfile::TempDir,
}

/// What a handler answered.
#[derive(Debug)]
pub(in crate::api) struct Answer {
    pub(in crate::api) status: u16,
    pub(in crate::api) headers: HeaderMap,
    pub(in crate::api) body: Vec<u8>,
}

impl Answer {
    pub(in crate::api) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Status and body in one, for tables.
    pub(in crate::api) fn told(&self) -> (u16, &str) {
        (self.status, self.text())
    }
}

impl Harness {
    /// The routes that `mount` adds, under no prefix.
    pub(in crate::api) fn new(
        mount: impl FnOnce(Routes, &str) -> Routes,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            data_dir: dir.path().to_owned(),
            ..Config::default()
        };
        change(&mut config);
        let clock = Arc::new(SystemClock::new());
        let shared = Shared::without_workers();
        let lock = trine_storage::fs::claim(&RealFs, &config.data_dir).unwrap();
        let tenants = Tenants::open(
            &config,
            Arc::new(RealFs),
            Arc::<SystemClock>::clone(&clock),
            shared,
            lock,
            None,
        )
        .unwrap();
        let observer = Observer::new(LogLines::default(), String::new(), 0);
        let app = Arc::new(App::new(config, clock, tenants, observer));
        let routes = mount(Routes::default(), "").into_router();
        let routes = routes.with_state(Arc::clone(&app));
        Self { app, routes, dir }
    }

    /// The tenant of requests that name none.
    pub(in crate::api) fn tenant(&self) -> Arc<Tenant> {
        self.app
            .tenants
            .get_or_create(&TenantId::anonymous())
            .unwrap()
    }

    /// The directories of tenants.
    pub(in crate::api) fn tenants(&self) -> usize {
        RealFs.list(&self.dir.path().join("tenants")).unwrap().len()
    }

    pub(in crate::api) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(in crate::api) async fn post(&self, path: &str, form: &str) -> Answer {
        let kind = "application/x-www-form-urlencoded";
        let request = Request::post(path).header("content-type", kind);
        self.send(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }

    pub(in crate::api) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.routes.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let status = parts.status.as_u16();
        Answer {
            status,
            headers: parts.headers,
            body: body.to_vec(),
        }
    }
}
