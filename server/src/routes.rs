//! Which path is answered by whom. Every listener serves this one router; each family of APIs is
//! also there under a prefix of its own, since data-source URLs are free-form.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{Any as AnyOrigin, CorsLayer};

use crate::api::{loki, ops, prometheus, tempo};
use crate::app::App;
use crate::ingest::grpc::Services;
use crate::ingest::http;
use crate::ingest::otlp_http::export;
use crate::observe::request_spans;

type Routes = Router<Arc<App>>;

/// All routes over one server's state.
pub fn router(app: Arc<App>) -> Router {
    let mut routes = Router::new();
    routes = ops_routes(routes);
    routes = write_routes(routes);
    for prefix in ["", "/prometheus"] {
        routes = prometheus::mount(routes, prefix);
    }
    for prefix in ["", "/loki"] {
        routes = loki::mount(routes, prefix);
    }
    for prefix in ["", "/tempo"] {
        routes = tempo::mount(routes, prefix);
    }
    routes = grpc_routes(routes, &app);
    let cors = CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_headers(AnyOrigin);
    routes
        .fallback(not_found)
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            request_spans::observe,
        ))
        .layer(CompressionLayer::new())
        .layer(cors)
        .with_state(app)
}

fn ops_routes(routes: Routes) -> Routes {
    routes
        .route("/", get(ops::home))
        .route("/ready", get(ops::ready))
        .route("/-/ready", get(ops::prometheus_ready))
        .route("/-/healthy", get(ops::prometheus_healthy))
        .route("/metrics", get(ops::metrics))
        .route("/prometheus/-/ready", get(ops::prometheus_ready))
        .route("/prometheus/-/healthy", get(ops::prometheus_healthy))
        .route("/loki/ready", get(ops::ready))
        .route("/tempo/ready", get(ops::ready))
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
    routes
}

fn grpc_routes(routes: Routes, app: &Arc<App>) -> Routes {
    let services = Services::new(Arc::clone(app));
    routes
        .route_service(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/{method}",
            services.metrics(),
        )
        .route_service(
            "/opentelemetry.proto.collector.logs.v1.LogsService/{method}",
            services.logs(),
        )
        .route_service(
            "/opentelemetry.proto.collector.trace.v1.TraceService/{method}",
            services.traces(),
        )
}

async fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
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
