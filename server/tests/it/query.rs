//! What was written comes out of the query APIs, on every prefix; what does not exist is empty.

use serde_json::json;

use crate::harness::Running;
use crate::wire::{now_ms, push_request, series, snappy, write_request};

/// A query string with its values escaped.
pub(crate) fn path(base: &str, params: &[(&str, &str)]) -> String {
    let escape =
        |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    let pairs: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    format!("{base}?{}", pairs.join("&"))
}

#[test]
fn metrics_come_out_of_promql() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms() / 1000 * 1000;
    let up = series(
        &[("__name__", "up"), ("job", "api")],
        &[(now - 1000, 0.0), (now, 1.0)],
    );
    let body = snappy(&write_request(vec![up]));
    assert_eq!(
        running
            .post("/api/v1/write")
            .body("application/x-protobuf", body)
            .send()
            .status,
        204
    );

    let at = (now / 1000).to_string();
    let expect =
        json!([{ "metric": { "__name__": "up", "job": "api" }, "value": [now / 1000, "1"] }]);
    for prefix in ["", "/prometheus"] {
        let base = format!("{prefix}/api/v1/query");
        let query = path(&base, &[("query", "up"), ("time", &at)]);
        let answer = running.get(&query).send().json();
        assert_eq!(answer["data"]["result"], expect, "{answer}");
        let form = format!("query=up&time={at}");
        let kind = "application/x-www-form-urlencoded";
        let answer = running.post(&base).body(kind, form).send().json();
        assert_eq!(answer["data"]["result"], expect, "a form: {answer}");
    }
    let start = (now / 1000 - 1).to_string();
    let query = [
        ("query", "up"),
        ("start", &start),
        ("end", &at),
        ("step", "1"),
    ];
    let answer = running
        .get(&path("/api/v1/query_range", &query))
        .send()
        .json();
    let values = &answer["data"]["result"][0]["values"];
    assert_eq!(
        *values,
        json!([[now / 1000 - 1, "0"], [now / 1000, "1"]]),
        "{answer}"
    );
    let answer = running.get("/api/v1/label/job/values").send().json();
    assert_eq!(answer, json!({ "status": "success", "data": ["api"] }));
    let answer = running
        .get("/api/v1/series?match[]=up")
        .tenant("other")
        .send()
        .json();
    assert_eq!(answer["data"], json!([]), "another tenant has nothing");
    let answer = running.get("/api/v1/query?query=sum(").send();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["errorType"], "bad_data");
    running.stop();
}

#[test]
fn logs_come_out_of_logql() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let body = snappy(&push_request(
        "{app=\"api\"}",
        &[(now - 1, "GET /a 200"), (now, "err b")],
    ));
    let push = running
        .post("/loki/api/v1/push")
        .body("application/x-protobuf", body);
    assert_eq!(push.send().status, 204);

    let newest = format!("{now}000000");
    for prefix in ["", "/loki"] {
        let base = format!("{prefix}/loki/api/v1/query_range");
        let query = path(&base, &[("query", "{app=\"api\"} |= \"err\"")]);
        let flags = "categorize-labels";
        let request = running
            .get(&query)
            .header("X-Loki-Response-Encoding-Flags", flags);
        let answer = request.send().json();
        let expect = json!([{
            "stream": { "app": "api", "service_name": "api" },
            "values": [[newest, "err b", { "structuredMetadata": { "detected_level": "error" } }]],
        }]);
        assert_eq!(answer["data"]["result"], expect, "{answer}");
        assert_eq!(answer["data"]["encodingFlags"], json!([flags]));
    }
    let query = path(
        "/loki/api/v1/query",
        &[("query", "sum(count_over_time({app=\"api\"}[1m]))")],
    );
    let answer = running.get(&query).send().json();
    assert_eq!(answer["data"]["result"][0]["value"][1], "2", "{answer}");
    let answer = running.get("/loki/api/v1/label/app/values").send().json();
    assert_eq!(answer["data"], json!(["api"]));
    let answer = running
        .get(&path("/loki/api/v1/query_range", &[("query", "{")]))
        .send();
    assert_eq!(answer.status, 400);
    assert!(answer.text().starts_with("parse error"), "{answer:?}");
    running.stop();
}

#[test]
fn grafanas_health_checks_pass_on_an_empty_server_and_create_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let kind = "application/x-www-form-urlencoded";
    let answer = running
        .post("/api/v1/query")
        .body(kind, "query=1%2B1&time=4")
        .send()
        .json();
    assert_eq!(
        answer["data"],
        json!({ "resultType": "scalar", "result": [4, "2"] })
    );
    let query = [
        ("query", "vector(1)+vector(1)"),
        ("direction", "backward"),
        ("time", "4000000000"),
    ];
    let answer = running
        .get(&path("/loki/api/v1/query", &query))
        .tenant("new")
        .send()
        .json();
    assert_eq!(answer["data"]["result"][0]["value"][1], "2", "{answer}");
    let exemplars = "/api/v1/query_exemplars?query=test&start=1700000000000&end=1700000001000";
    assert_eq!(running.get(exemplars).send().json()["data"], json!([]));
    assert_eq!(
        running.get("/api/v1/metadata").send().json()["data"],
        json!({})
    );
    assert_eq!(
        running.get("/api/v1/rules").send().json()["data"]["groups"],
        json!([])
    );
    assert_eq!(running.get("/api/echo").send().text(), "echo");
    let tenants = dir.path().join("tenants");
    assert_eq!(
        tenants.read_dir().unwrap().count(),
        0,
        "reading creates no tenant"
    );
    running.stop();
}
