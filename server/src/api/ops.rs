//! Probes, build information and the server's own metrics. `routes` mounts these handlers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use crate::app::App;
use crate::observe::{self, registry};

const TEXT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// `/ready` of Loki, Tempo and Mimir. Listeners open after everything else, so who asks is served.
pub async fn ready() -> impl IntoResponse {
    ([TEXT], "ready\n")
}

/// `/-/ready` of Prometheus.
pub async fn prometheus_ready() -> impl IntoResponse {
    ([TEXT], "Prometheus Server is Ready.\n")
}

/// `/-/healthy` of Prometheus.
pub async fn prometheus_healthy() -> impl IntoResponse {
    ([TEXT], "Prometheus Server is Healthy.\n")
}

/// `/api/echo` of Tempo.
pub async fn echo() -> impl IntoResponse {
    ([TEXT], "echo")
}

/// `/metrics`.
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, kind)],
        registry::text(&observe::gather(&app)),
    )
}

/// The versions whose APIs are spoken: clients compare them before they use newer calls.
fn build(version: &str) -> serde_json::Value {
    serde_json::json!({
        "version": version,
        "revision": concat!("trine-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    })
}

/// `/api/v1/status/buildinfo` of Prometheus.
pub async fn prometheus_build() -> impl IntoResponse {
    let body = serde_json::json!({ "status": "success", "data": build("3.5.0") });
    ([JSON], body.to_string())
}

/// `/loki/api/v1/status/buildinfo`.
pub async fn loki_build() -> impl IntoResponse {
    ([JSON], build("3.6.0").to_string())
}

/// `/api/status/buildinfo` of Tempo.
pub async fn tempo_build() -> impl IntoResponse {
    ([JSON], build("3.0.0").to_string())
}

/// `/`, for the human who opens it in a browser.
pub async fn home() -> impl IntoResponse {
    let text = concat!(
        "Trine ",
        env!("CARGO_PKG_VERSION"),
        ": metrics, logs and traces in one place.\n\
         This port answers the APIs of Prometheus, Loki and Tempo and takes OTLP, remote write \
         and Loki pushes.\nMetrics of the server itself: /metrics\n"
    );
    ([TEXT], text)
}
