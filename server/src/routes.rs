//! Which path is answered by whom. Every listener serves this one router; each family of APIs is
//! also there under a prefix of its own, since data-source URLs are free-form.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::{Any as AnyOrigin, CorsLayer};

use crate::api::{jaeger, loki, ops, prometheus, signals, tempo};
use crate::app::App;
use crate::ingest::grpc;
use crate::ingest::http;
use crate::ingest::otlp_http::export;
use crate::ingest::span_http;
use crate::observe::query_cost::{self, Meter};
use crate::observe::request_spans;

/// Queries over gRPC.
const TEMPO_GRPC: &str = "/tempopb.StreamingQuerier/{method}";
const JAEGER_GRPC: &str = "/jaeger.api_v3.QueryService/{method}";
const GRPC_APIS: [(&str, &str); 2] = [(TEMPO_GRPC, "tempo"), (JAEGER_GRPC, "jaeger")];

/// Routes in the making, with a list of their paths.
#[derive(Debug, Default)]
pub struct Routes {
    router: Router<Arc<App>>,
    paths: Vec<String>,
    /// The API that paths are added for, and those of the paths.
    api: &'static str,
    apis: HashMap<String, &'static str>,
}

impl Routes {
    /// Adds a path.
    #[must_use]
    pub fn route(mut self, path: &str, handler: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(path, handler);
        self.paths.push(path.to_owned());
        self.apis.insert(path.to_owned(), self.api);
        self
    }

    /// The routes, to which those of `api` are added from now on.
    #[must_use]
    fn of(mut self, api: &'static str) -> Self {
        self.api = api;
        self
    }

    /// The paths, as they were added; `{name}` stands for a part that varies.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// The router for them.
    pub fn into_router(self) -> Router<Arc<App>> {
        self.router
    }
}

/// The routes of all APIs over HTTP (not those of gRPC).
pub fn all() -> Routes {
    let mut routes = Routes::default();
    routes = ops_routes(routes.of("ops"));
    routes = write_routes(routes.of("write"));
    routes = routes.of("prometheus");
    for prefix in ["", "/prometheus"] {
        routes = prometheus::mount(routes, prefix);
    }
    routes = routes.of("loki");
    for prefix in ["", "/loki"] {
        routes = loki::mount(routes, prefix);
    }
    routes = routes.of("tempo");
    for prefix in ["", "/tempo"] {
        routes = tempo::mount(routes, prefix);
    }
    routes = routes.of("jaeger");
    for prefix in ["", "/jaeger"] {
        routes = jaeger::mount(routes, prefix);
    }
    signals::mount(routes.of("signals"), "")
}

/// All routes over one server's state.
pub fn router(app: Arc<App>) -> Router {
    let routes = all();
    let mut apis = routes.apis.clone();
    let mut routes = routes.into_router();
    if let Some(prefix) = &app.config.http_prefix {
        routes = routes.nest(prefix, all().into_router());
    }
    let cors = CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_headers(AnyOrigin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::OPTIONS])
        .expose_headers([header::DATE]);
    let mut routes = grpc_routes(routes, &app)
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked));
    if app.tenants.storage().is_some() {
        apis.extend(GRPC_APIS.map(|(path, api)| (path.to_owned(), api)));
        let meter = Meter::new(&app, apis);
        routes = routes.layer(middleware::from_fn_with_state(meter, query_cost::meter));
    }
    routes
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            request_spans::observe,
        ))
        .layer(compression())
        .layer(cors)
        .layer(middleware::from_fn(options_are_empty))
        .with_state(app)
}

/// Compression of answers, as fast as it can be: large answers are numbers as text, which shrink to a
/// tenth at any level, and their time is the client's. Remote read has a compression of its own, and
/// its clients expect no other.
fn compression() -> CompressionLayer<impl Predicate> {
    let own = NotForContentType::const_new("application/x-streamed-protobuf");
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(DefaultPredicate::new().and(own))
}

/// Prometheus answers `OPTIONS` with nothing, and says so.
async fn options_are_empty(request: Request, next: Next) -> Response {
    let is_options = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if is_options && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
}

fn ops_routes(mut routes: Routes) -> Routes {
    for prefix in ["", "/prometheus"] {
        let path = |name: &str| format!("{prefix}{name}");
        routes = routes
            .route(&path("/-/ready"), get(ops::prometheus_ready))
            .route(&path("/-/healthy"), get(ops::prometheus_healthy))
            .route(&path("/-/reload"), lifecycle(ops::reload))
            .route(&path("/-/quit"), lifecycle(ops::quit))
            .route(&path("/version"), get(ops::version));
    }
    for path in ["/flush", "/loki/flush", "/tempo/flush", "/ingester/flush"] {
        routes = routes.route(path, post(ops::flush));
    }
    routes
        .route("/", get(ops::home))
        .route("/ready", get(ops::ready))
        .route("/metrics", get(ops::metrics))
        .route("/loki/ready", get(ops::ready))
        .route("/tempo/ready", get(ops::ready))
}

/// What only `POST` and `PUT` may do, and only where it is switched on.
fn lifecycle<F>(act: fn(Arc<App>) -> F) -> MethodRouter<Arc<App>>
where
    F: Future<Output = Response> + Send + 'static,
{
    any(async move |State(app): State<Arc<App>>, method: Method| {
        if !matches!(method, Method::POST | Method::PUT) {
            let told = "Only POST or PUT requests allowed";
            return text(StatusCode::METHOD_NOT_ALLOWED, told);
        }
        if !app.config.enable_lifecycle {
            return text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.");
        }
        act(app).await
    })
}

/// A write path also answers `GET`, which some senders ask first.
fn write(handler: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    handler.get(http::present)
}

fn write_routes(mut routes: Routes) -> Routes {
    for path in ["/api/v1/write", "/api/v1/push", "/prometheus/api/v1/write"] {
        routes = routes.route(path, write(post(http::remote_write)));
    }
    routes = routes
        .route("/api/prom/push", write(post(http::prom_push)))
        .route("/loki/api/v1/push", write(post(http::loki_push)))
        .route("/loki/loki/api/v1/push", write(post(http::loki_push)));
    for path in ["/v1/metrics", "/otlp/v1/metrics", "/api/v1/otlp/v1/metrics"] {
        routes = routes.route(path, write(post(export::<ExportMetricsServiceRequest>)));
    }
    for path in ["/v1/logs", "/otlp/v1/logs"] {
        routes = routes.route(path, write(post(export::<ExportLogsServiceRequest>)));
    }
    for path in ["/v1/traces", "/otlp/v1/traces"] {
        routes = routes.route(path, write(post(export::<ExportTraceServiceRequest>)));
    }
    // `GET` of these is a question about spans, not whether somebody is there.
    routes
        .route("/api/traces", post(span_http::jaeger))
        .route("/api/v2/spans", post(span_http::zipkin))
}

fn grpc_routes(routes: Router<Arc<App>>, app: &Arc<App>) -> Router<Arc<App>> {
    let logs = grpc::Logs::new(Arc::clone(app));
    routes
        .route(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/{method}",
            any(grpc::metrics),
        )
        .route(
            "/opentelemetry.proto.collector.trace.v1.TraceService/{method}",
            any(grpc::traces),
        )
        .route("/logproto.Pusher/{method}", any(grpc::pusher))
        .route(TEMPO_GRPC, any(tempo::streaming::serve))
        .route(JAEGER_GRPC, any(jaeger::grpc::serve))
        .route_service(
            "/opentelemetry.proto.collector.logs.v1.LogsService/{method}",
            logs.service(),
        )
}

async fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

async fn not_allowed() -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

/// A panic is a defect of this program and the end of one request, not of the server. The panic
/// hook has written where it was.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "a defect stopped this request; see the log\n",
    )
}

fn text(status: StatusCode, body: &'static str) -> Response {
    let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    (status, [kind], Body::from(body)).into_response()
}
