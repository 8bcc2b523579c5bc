//! The newer API over spans that came in as OTLP.

use serde_json::{Value as Json, json};

use crate::api::jaeger::tests::{data, get, send_otlp, server};

/// The spans of Jaeger's own snapshots: a server's span that failed, at no time.
fn foobar() -> Json {
    json!({"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [{
        "traceId": "00000000000000000000000000000001", "spanId": "0000000000000002",
        "name": "foobar", "kind": 2, "status": {"code": 2},
    }]}]}]})
}

const TIMES: &str =
    "query.startTimeMin=1970-01-01T00:00:00Z&query.startTimeMax=2000-01-01T00:00:00%2B01:00";

#[tokio::test]
async fn answers_are_those_of_jaegers_snapshots() {
    let harness = server();
    send_otlp(&harness, &foobar()).await;
    for (path, file) in [
        ("traces/1".to_owned(), "GetTrace"),
        (format!("traces?{TIMES}"), "FindTraces"),
        (format!("traces?{TIMES}&query.attributes={{\"error\":\"true\"}}"), "FindTraces"),
        ("traces?query.start_time_min=1970-01-01T00:00:00+00:00&query.start_time_max=1970-01-01T00:00:01.5Z".to_owned(), "FindTraces"),
    ] {
        let path = path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        for prefix in ["", "/jaeger"] {
            let answer = get(&harness, &format!("{prefix}/api/v3/{path}")).await;
            if let Some(expect) = data(&format!("jaeger-api-v3/{file}.json")) {
                assert_eq!(answer, expect, "{path}");
            }
        }
    }
    let harness = server();
    let span = |id: u8, start_s: u64, end_s: u64, name: &str, parent: &str, code: u8| {
        json!({
            "traceId": format!("{:032x}", 1), "spanId": format!("{id:016x}"), "name": name,
            "kind": 2, "parentSpanId": parent, "status": {"code": code},
            "startTimeUnixNano": (start_s * 1_000_000_000).to_string(),
            "endTimeUnixNano": (end_s * 1_000_000_000).to_string(),
        })
    };
    let service = |name: &str| json!([{"key": "service.name", "value": {"stringValue": name}}]);
    let spans = [
        span(1, 1000, 1001, "HTTP GET /", "", 0),
        span(2, 1000, 1001, "x", "0000000000000001", 2),
    ];
    let request = json!({"resourceSpans": [
        {"resource": {"attributes": service("frontend")}, "scopeSpans": [{"spans": spans}]},
        {"resource": {"attributes": service("foo")}, "scopeSpans": [{"spans": [{
            "traceId": format!("{:032x}", 2), "spanId": format!("{:016x}", 1), "name": "get_users",
            "startTimeUnixNano": "5000", "endTimeUnixNano": "6000",
        }]}]},
    ]});
    send_otlp(&harness, &request).await;
    let path = format!("/api/v3/trace-summaries?{TIMES}&query.serviceName=frontend");
    let answer = get(&harness, &path).await;
    if let Some(expect) = data("jaeger-api-v3/FindTraceSummaries.json") {
        assert_eq!(answer, expect);
    }
    assert_eq!(
        get(&harness, "/api/v3/services").await,
        json!({"services": ["foo", "frontend"]})
    );
    let operations = |path: &'static str| get(&harness, path);
    let users = json!({"operations": [{"name": "get_users", "spanKind": "internal"}]});
    assert_eq!(operations("/api/v3/operations?service=foo").await, users);
    let of_servers = operations("/api/v3/operations?service=frontend&spanKind=server").await;
    assert_eq!(
        of_servers,
        operations("/api/v3/operations?service=frontend&span_kind=server").await
    );
    assert_eq!(of_servers["operations"][0]["name"], "HTTP GET /");
    let calls = "/api/v3/dependencies?startTime=1970-01-01T00:00:00Z&end_time=2000-01-01T00:00:00Z";
    let expect =
        json!({"dependencies": [{"parent": "frontend", "child": "frontend", "callCount": "1"}]});
    assert_eq!(get(&harness, calls).await, expect);
}

#[tokio::test]
async fn refusals_are_json() {
    let harness = server();
    let bad_time =
        "parsing time \"x\" as \"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"x\"";
    for (path, status, why) in [
        ("traces/1".to_owned(), 404, "No traces found".to_owned()),
        (format!("traces?{TIMES}"), 404, "No traces found".to_owned()),
        ("traces/x".to_owned(), 400, "malformed parameter trace_id: strconv.ParseUint: parsing \"x\": invalid syntax".to_owned()),
        ("traces/1?start_time=x".to_owned(), 400, format!("malformed parameter start_time: {bad_time}")),
        ("traces".to_owned(), 400, "query.startTimeMin and query.startTimeMax are required".to_owned()),
        ("traces?query.startTimeMin=x".to_owned(), 400, format!("malformed parameter query.startTimeMin: {bad_time}")),
        (format!("traces?{TIMES}&query.num_traces=-1"), 400, "malformed parameter query.num_traces: strconv.ParseUint: parsing \"-1\": invalid syntax".to_owned()),
        (format!("traces?{TIMES}&query.duration_min=1"), 400, "malformed parameter query.duration_min: time: missing unit in duration \"1\"".to_owned()),
        (format!("traces?{TIMES}&query.rawTraces=x"), 400, "malformed parameter query.rawTraces: strconv.ParseBool: parsing \"x\": invalid syntax".to_owned()),
        (format!("traces?{TIMES}&query.filter=x"), 400, "malformed parameter query.filter: filters are not supported here; use query.attributes".to_owned()),
        ("dependencies".to_owned(), 400, "startTime and endTime are required".to_owned()),
        ("dependencies?startTime=1970-01-01T00:00:00Z&endTime=1970-01-01T00:00:00Z".to_owned(), 400, "endTime must be after startTime".to_owned()),
    ] {
        let told = harness.get(&format!("/api/v3/{path}")).await;
        let read: Json = serde_json::from_slice(&told.body).unwrap();
        let expect = json!({"error": {"httpCode": status, "message": why}});
        assert_eq!((told.status, read), (status, expect), "{path}");
        assert_eq!(told.headers["content-type"], "application/json");
    }
    let none = get(&harness, &format!("/api/v3/trace-summaries?{TIMES}")).await;
    assert_eq!(none, json!({"summaries": []}));
}
