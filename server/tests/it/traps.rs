//! What clients of Prometheus trip over: ways to ask that must work, and answers that must not change.

use serde_json::json;

use crate::client::request;
use crate::harness::Running;
use crate::query::path;
use crate::wire::{now_ms, series, snappy, write_request};

const FORM: &str = "application/x-www-form-urlencoded";

/// A server with `up`, a name and a label with dots, and a hundred series of one metric.
fn filled(dir: &std::path::Path) -> Running {
    let running = Running::start(dir, |config| config.http_prefix = Some("/trine".to_owned()));
    let now = now_ms();
    let mut all = vec![
        series(&[("__name__", "up"), ("job", "api")], &[(now - 1000, 1.0)]),
        series(
            &[("__name__", "http.server.duration"), ("http.route", "/a")],
            &[(now - 1000, 2.0)],
        ),
    ];
    for number in 0..100 {
        let id = format!("{number:03}");
        all.push(series(
            &[("__name__", "many"), ("id", &id)],
            &[(now - 1000, 1.0)],
        ));
    }
    let body = snappy(&write_request(all));
    let write = running
        .post("/api/v1/write")
        .body("application/x-protobuf", body);
    assert_eq!(write.send().status, 204);
    running
}

#[test]
fn queries_as_clients_write_them() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    for (query, series) in [
        ("SUM BY (job) (up)", 1),
        ("sum by () (many)", 1),
        ("sum by (id,) (many)", 100),
        ("up{job=\"api\",} # a remark", 1),
        ("up AND ON (job) up OR many", 101),
        ("vector(.9)", 1),
        ("last_over_time(up[1m0s])", 1),
        ("last_over_time(up[3600s])", 1),
        ("last_over_time(up[1h0m0s])", 1),
        ("{\"http.server.duration\", __ignore_usage__=\"\"}", 1),
        ("sum by (\"http.route\") ({\"http.server.duration\"})", 1),
        ("{\"http.server.duration\", \"http.route\"=~\".+\"}", 1),
        (
            "group by (__name__) ({__name__!=\"\"}) unless (group by (__name__) ({__name__!=\"\"} offset 1h))",
            3,
        ),
    ] {
        let asked = path("/api/v1/query", &[("query", query)]);
        let answer = running.get(&asked).send();
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let found = answer.json()["data"]["result"].as_array().unwrap().len();
        assert_eq!(found, series, "{query}");
        // The same with everything in the URL of a POST without a body.
        assert_eq!(running.post(&asked).send().status, 200, "{query}");
    }
    running.stop();
}

#[test]
fn posts_are_never_sent_back_as_gets() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    for prefix in ["", "/prometheus", "/trine", "/trine/prometheus"] {
        for (name, form) in [
            ("query", "query=up"),
            ("query_range", "query=up&start=1&end=2&step=1"),
            (
                "query_exemplars",
                "query=up&start=1700000000000&end=1700000001000",
            ),
            ("labels", "match[]=up"),
            ("series", "match[]=up"),
            ("format_query", "query=up"),
            ("parse_query", "query=up"),
            ("metadata", "limit=1"),
        ] {
            let path = format!("{prefix}/api/v1/{name}?start=1&end=4000000000");
            let answer = running.post(&path).body(FORM, form).send();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(answer.json()["status"], "success", "{path}");
        }
    }
    running.stop();
}

#[test]
fn limits_are_warnings_and_names_may_be_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let warned = json!(["results truncated due to limit"]);
    for (path, count, warns) in [
        ("/api/v1/label/id/values?limit=7", 7, true),
        ("/api/v1/label/id/values?limit=100", 100, false),
        ("/api/v1/label/id/values?limit=0", 100, false),
        ("/api/v1/series?match[]=many&limit=1", 1, true),
        ("/api/v1/labels?limit=1", 1, true),
        ("/api/v1/label/U__http_2e_route/values", 1, false),
        ("/api/v1/label/http.route/values", 1, false),
    ] {
        let answer = running.get(path).send().json();
        assert_eq!(answer["data"].as_array().unwrap().len(), count, "{path}");
        assert_eq!(
            answer.get("warnings") == Some(&warned),
            warns,
            "{path}: {answer}"
        );
    }
    running.stop();
}

#[test]
fn answers_are_packed_as_their_readers_can_unpack() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    for (accepted, expect) in [
        ("gzip", Some("gzip")),
        ("gzip, deflate, br, zstd, snappy", Some("gzip")),
        ("deflate", Some("deflate")),
        ("zstd, snappy, br", None),
        ("identity", None),
    ] {
        let request = running.get("/api/v1/series?match[]=many");
        let answer = request.header("Accept-Encoding", accepted).send();
        assert_eq!(answer.header("content-encoding"), expect, "{accepted}");
        assert_eq!(answer.status, 200);
    }
    running.stop();
}

#[test]
fn options_and_methods() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let options = request(running.address, "OPTIONS", "/api/v1/query")
        .header("Origin", "http://x")
        .header("Access-Control-Request-Method", "POST")
        .send();
    assert_eq!(options.status, 204);
    assert_eq!(options.header("access-control-allow-origin"), Some("*"));
    assert!(
        options
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    for (method, path, status, text) in [
        ("GET", "/-/reload", 405, "Only POST or PUT requests allowed"),
        ("POST", "/-/reload", 403, "Lifecycle API is not enabled."),
        ("PUT", "/-/quit", 403, "Lifecycle API is not enabled."),
        ("GET", "/-/healthy", 200, "Prometheus Server is Healthy.\n"),
        ("HEAD", "/-/ready", 200, ""),
        ("DELETE", "/api/v1/query", 405, "Method Not Allowed\n"),
    ] {
        let answer = request(running.address, method, path).send();
        assert_eq!(
            (answer.status, answer.text()),
            (status, text),
            "{method} {path}"
        );
    }
    let version = running.get("/version").send().json();
    assert!(
        version["version"].as_str().unwrap().starts_with("3."),
        "{version}"
    );
    running.stop();
}

#[test]
fn a_request_may_end_the_server_where_that_is_switched_on() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| config.enable_lifecycle = true);
    let mut asked = running.server().app().quit.subscribe();
    let reload = running.post("/-/reload").send();
    assert_eq!(reload.status, 500);
    assert!(reload.text().starts_with("failed to reload config: "));
    assert!(!*asked.borrow_and_update());
    let quit = running.post("/-/quit").send();
    assert_eq!(
        (quit.status, quit.text()),
        (200, "Requesting termination... Goodbye!")
    );
    assert!(*asked.borrow_and_update());
    running.stop();
}
