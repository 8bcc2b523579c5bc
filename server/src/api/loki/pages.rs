//! What a server with a ruler and with limits tells of them: no rules, the limits of a tenant.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer;
use crate::api::prometheus::json::{self, Object};
use crate::api::prometheus::run::Asked;
use crate::app::App;
use crate::config::limits_of_logs;
use crate::tenants::TenantId;

fn yaml(status: StatusCode, text: impl Into<Body>) -> Response {
    let kind = HeaderValue::from_static("application/yaml");
    (status, [(header::CONTENT_TYPE, kind)], text.into()).into_response()
}

/// All groups of rules, by namespace.
pub(super) async fn rules() -> Response {
    yaml(StatusCode::OK, "{}\n")
}

/// The groups of one namespace.
pub(super) async fn rules_of_namespace() -> Response {
    plain(StatusCode::NOT_FOUND, "no rule groups found\n")
}

/// One group. In these words Grafana hears that rules cannot be written here.
pub(super) async fn rule_group() -> Response {
    plain(
        StatusCode::NOT_FOUND,
        "GetRuleGroup unsupported in rule local store\n",
    )
}

/// A number that rises when answers that somebody keeps are no longer true. Nothing is kept here.
pub(super) async fn generation_number() -> Response {
    answer::respond_strictly("\"\"".to_owned())
}

/// The settings of the server.
pub(super) async fn config_page(State(app): State<Arc<App>>) -> Response {
    yaml(StatusCode::OK, app.config.yaml())
}

/// The parts of a server of Loki that answer here.
pub(super) async fn services() -> Response {
    let names = "distributor => Running\ningester => Running\nquerier => Running\n";
    plain(StatusCode::OK, names)
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(header::CONTENT_TYPE, kind)], text).into_response()
}

/// The rules as Prometheus' API lists them.
pub(super) async fn prometheus_rules() -> Response {
    nothing("groups")
}

/// The alerts as Prometheus' API lists them.
pub(super) async fn prometheus_alerts() -> Response {
    nothing("alerts")
}

fn nothing(what: &str) -> Response {
    answer::respond_strictly(format!(
        r#"{{"status":"success","data":{{"{what}":[]}},"errorType":"","error":""}}"#
    ))
}

/// The limits of the tenant that asks, as a page of YAML.
pub(super) fn limits(asked: &Asked) -> String {
    let mut out = String::new();
    for (name, value) in limits_of_logs(config(asked)) {
        json::display(&mut out, format_args!("{name}: {value}\n"));
    }
    out
}

/// The same as a response.
pub(super) fn limits_page(text: String) -> Response {
    yaml(StatusCode::OK, text)
}

/// What Logs Drilldown wants to know of the server.
pub(super) fn drilldown_limits(asked: &Asked) -> String {
    let config = config(asked);
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    let mut limits = Object::begin(object.key("limits"));
    for (name, value) in limits_of_logs(config) {
        limits.raw(name, value);
    }
    limits.end();
    object.raw("pattern_ingester_enabled", config.logs.patterns);
    object.text("version", crate::api::ops::LOKI);
    object.end();
    out
}

fn config(asked: &Asked) -> &crate::config::Config {
    let first = asked.tenants.first();
    let id = first.map_or("", |(id, _): &(TenantId, _)| id.as_str());
    asked.app.config.of(id)
}
