//! Probes, build information and the server's own metrics. `routes` mounts these handlers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::config::MetricsApi;
use crate::observe::{self, registry};
use crate::refusal::RETRY_AFTER;

const TEXT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// `/ready` of Loki, Tempo and Mimir. Listeners open after everything else, so who asks is served;
/// only a server that waits for another one to leave its bucket is not ready. What is wrong with the
/// bucket follows.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    readiness(&app, |text| text)
}

/// `/-/ready` of Prometheus.
pub async fn prometheus_ready(State(app): State<Arc<App>>) -> Response {
    readiness(&app, |text| {
        text.replacen("ready\n", "Prometheus Server is Ready.\n", 1)
    })
}

fn readiness(app: &App, words: impl FnOnce(String) -> String) -> Response {
    let storage = app.tenants.storage();
    let (is_ready, text) = storage.map_or_else(|| (true, "ready\n".to_owned()), |s| s.readiness());
    if is_ready {
        ([TEXT], words(text)).into_response()
    } else {
        let retry = [(header::RETRY_AFTER, RETRY_AFTER.as_secs().to_string())];
        (StatusCode::SERVICE_UNAVAILABLE, [TEXT], retry, text).into_response()
    }
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

/// The version of Prometheus whose API is spoken.
const PROMETHEUS: &str = "3.14.0";

/// The version of Loki whose API is spoken.
pub(in crate::api) const LOKI: &str = "3.6.0";

/// The version of Mimir whose API is spoken.
const MIMIR: &str = "3.0.0";

/// `/api/v1/status/buildinfo` of Prometheus, or of Mimir. Features that are texts make Grafana take
/// the server for Mimir, which has rules that can be edited if they say so.
pub async fn prometheus_build(State(app): State<Arc<App>>) -> impl IntoResponse {
    let data = match app.config.metrics_api {
        MetricsApi::Prometheus => build(PROMETHEUS),
        MetricsApi::Mimir => serde_json::json!({
            "application": "Grafana Mimir",
            "version": MIMIR,
            "revision": concat!("trine-", env!("CARGO_PKG_VERSION")),
            "branch": "",
            "goVersion": "",
            "features": {
                "ruler_config_api": "false",
                "alertmanager_config_api": "false",
                "query_sharding": "false",
            },
        }),
    };
    let body = serde_json::json!({ "status": "success", "data": data });
    ([JSON], body.to_string())
}

/// `/version` of Prometheus.
pub async fn version() -> impl IntoResponse {
    ([JSON], build(PROMETHEUS).to_string())
}

/// `/-/reload` of Prometheus. Nothing is read again while the server runs, and that is said rather
/// than that it was done.
pub async fn reload(_: Arc<App>) -> Response {
    let why = "failed to reload config: the configuration is read at the start only; restart the \
               server\n";
    (StatusCode::INTERNAL_SERVER_ERROR, [TEXT], why).into_response()
}

/// `/flush` of Loki and Tempo, `/ingester/flush` of Mimir: of all tenants, since it is for the operator.
/// Answers when what was in memory is in blocks, and these are in the bucket where there is one.
pub async fn flush(State(app): State<Arc<App>>) -> Response {
    if !app.config.enable_admin_api {
        let why = "admin APIs disabled\n";
        return (StatusCode::FORBIDDEN, [TEXT], why).into_response();
    }
    let work = Arc::clone(&app);
    let done = app.appends.run(move || Ok(work.tenants.flush()?)).await;
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => (refusal.status(), [TEXT], refusal.text + "\n").into_response(),
    }
}

/// `/-/quit` of Prometheus.
pub async fn quit(app: Arc<App>) -> Response {
    app.quit.send_replace(true);
    ([TEXT], "Requesting termination... Goodbye!").into_response()
}

/// `/loki/api/v1/status/buildinfo`.
pub async fn loki_build() -> impl IntoResponse {
    ([JSON], build(LOKI).to_string())
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
         This port answers the APIs of Prometheus, Loki, Tempo and Jaeger and takes OTLP, remote write \
         and Loki pushes.\nMetrics of the server itself: /metrics\n"
    );
    ([TEXT], text)
}
