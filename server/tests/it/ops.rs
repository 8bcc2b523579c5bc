//! Probes, unknown paths, tenants, self-observation.

use trine_storage::{Matcher, TimeRange};

use crate::harness::Running;

#[test]
fn probes_and_unknown_paths() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    for (path, status, body) in [
        ("/ready", 200, "ready\n"),
        ("/-/ready", 200, "Prometheus Server is Ready.\n"),
        ("/-/healthy", 200, "Prometheus Server is Healthy.\n"),
        ("/api/echo", 200, "echo"),
        ("/tempo/api/echo", 200, "echo"),
        ("/nonsense", 404, "404 page not found\n"),
        ("/api/v1/nonsense", 404, "404 page not found\n"),
    ] {
        let response = running.get(path).send();
        assert_eq!((response.status, response.text()), (status, body), "{path}");
    }
    for path in [
        "/api/v1/write",
        "/api/v1/push",
        "/api/prom/push",
        "/prometheus/api/v1/write",
        "/loki/api/v1/push",
        "/v1/traces",
        "/otlp/v1/logs",
        "/api/v1/otlp/v1/metrics",
    ] {
        assert_eq!(running.get(path).send().status, 200, "{path}");
    }
    for path in [
        "/api/v1/status/buildinfo",
        "/loki/api/v1/status/buildinfo",
        "/api/status/buildinfo",
    ] {
        let body = running.get(path).send().json();
        let data = body.get("data").unwrap_or(&body);
        assert!(
            data["version"].as_str().unwrap().contains('.'),
            "{path}: {body}"
        );
        assert!(
            data.get("features").is_none(),
            "a map of features means Mimir to Grafana"
        );
    }
    assert_eq!(
        running
            .get("/nonsense")
            .header("Origin", "http://x")
            .send()
            .status,
        404
    );
    let cors = running.get("/ready").header("Origin", "http://x").send();
    assert_eq!(cors.header("access-control-allow-origin"), Some("*"));
    running.stop();
}

#[test]
fn own_metrics_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    running.get("/ready").send();
    let response = running.get("/metrics").send();
    assert_eq!(response.status, 200);
    let text = response.text();
    for expect in [
        "\nup 1\n",
        "# TYPE trine_http_requests_total counter\n",
        "trine_http_requests_total{method=\"GET\",route=\"/ready\",status=\"200\"} 1\n",
        "trine_stored_total{signal=\"metrics\"} 0\n",
    ] {
        assert!(text.contains(expect), "{text}");
    }
    let packed = running
        .get("/metrics")
        .header("Accept-Encoding", "gzip, zstd")
        .send();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    running.stop();
}

#[test]
fn the_first_start_has_data_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| config.self_observe = true);
    let app = running.server().app();
    let tenant = app
        .tenants
        .get(&trine_server::tenants::TenantId::own())
        .unwrap();
    let metrics = tenant.open_metrics().unwrap().snapshot();
    let up = [
        Matcher::equal("__name__", "up"),
        Matcher::equal("job", "trine"),
    ];
    assert_eq!(metrics.series(&up, TimeRange::ALL, None).unwrap().len(), 1);
    let logs = tenant.open_logs().unwrap().snapshot();
    let own = [Matcher::equal("job", "trine")];
    assert_eq!(logs.streams(&own, TimeRange::ALL).unwrap().len(), 1);
    assert!(tenant.open_traces().unwrap().stats().live_spans >= 1);
    running.stop();
}
