//! What Logs Drilldown asks from the moment that it is opened until a service is looked at, against
//! the real binary: each answer has the shape that its parsers read. `cargo test -- --nocapture` shows
//! the calls with their answers.

use serde_json::{Value, json};

use crate::client::{Response, request};
use crate::grafana::shaped;
use crate::process::Process;
use crate::query::path;
use crate::wire::{now_ms, push_request, snappy};

/// One call of the app.
struct Call {
    why: &'static str,
    path: String,
    /// Whether it is a query and not a call for something to choose from.
    is_query: bool,
    shape: Value,
}

fn push(process: &Process, labels: &str, lines: &[(i64, String)]) {
    let lines: Vec<(i64, &str)> = lines
        .iter()
        .map(|(at, line)| (*at, line.as_str()))
        .collect();
    let body = snappy(&push_request(labels, &lines));
    let push = request(process.address, "POST", "/loki/api/v1/push");
    let push = push.body("application/x-protobuf", body).send();
    assert_eq!(push.status, 204, "{}", push.text());
}

/// A service that logs in logfmt and one that logs in JSON.
fn fill(process: &Process, now: i64) {
    let lines = |of: fn(i64) -> String| -> Vec<(i64, String)> {
        (0..60).map(|i| (now - i * 1000, of(i))).collect()
    };
    push(
        process,
        r#"{service_name="shop", cluster="eu", pod="shop-0"}"#,
        &lines(|i| format!("level=info msg=\"order {i} placed\" duration={i}ms size=12KB")),
    );
    push(
        process,
        r#"{service_name="api", cluster="eu", pod="api-0"}"#,
        &lines(|i| {
            format!(
                r#"{{"level":"error","http":{{"status":{}}},"took":1.5}}"#,
                500 + i % 3
            )
        }),
    );
}

/// A time as the app writes it for calls for something to choose from.
fn iso(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap();
    format!("{time:.3}")
}

fn calls(now: i64) -> Vec<Call> {
    let (start, end) = (iso(now - 900_000), iso(now + 60_000));
    let nanos = |ms: i64| format!("{ms}000000");
    let (start_ns, end_ns) = (nanos(now - 900_000), nanos(now + 60_000));
    let resource = |why, name: &str, more: &[(&str, &str)], in_nanos: bool, shape| {
        let (start, end) = match in_nanos {
            true => (&start_ns, &end_ns),
            false => (&start, &end),
        };
        let mut params = vec![("start", start.as_str()), ("end", end.as_str())];
        params.extend(more);
        Call {
            why,
            path: path(&format!("/loki/api/v1/{name}"), &params),
            is_query: false,
            shape,
        }
    };
    let query = |why, expr: &str, shape| Call {
        why,
        path: path(
            "/loki/api/v1/query_range",
            &[
                ("query", expr),
                ("start", &start_ns),
                ("end", &end_ns),
                ("step", "15000ms"),
                ("direction", "backward"),
                ("limit", "1000"),
            ],
        ),
        is_query: true,
        shape,
    };
    let volume = |names: Value| {
        let sample = json!({ "metric": names, "value": ["<number>", "<string>"] });
        json!({ "resultType": "vector", "result": ["<each>", sample], "stats": "<any>" })
    };
    let success = |data: Value| json!({ "status": "success", "data": data });
    let names = || success(json!(["<each>", "<string>"]));
    let series = json!({ "metric": "<labels>", "values": ["<each>", ["<number>", "<string>"]] });
    let matrix = || {
        success(json!({
            "resultType": "matrix", "encodingFlags": ["categorize-labels"],
            "result": ["<each>", series], "stats": "<any>",
        }))
    };
    let lines = || {
        success(json!({
            "resultType": "streams", "encodingFlags": ["categorize-labels"],
            "result": ["<each>", {
                "stream": "<labels>", "values": ["<each>", ["<string>", "<string>", "<any>"]],
            }],
            "stats": "<any>",
        }))
    };
    let detected_labels = || json!({ "detectedLabels": ["<each>", { "label": "<string>", "cardinality": "<number>" }] });
    let patterns = success(json!(["<each>", {
        "pattern": "<string>", "level": "<string>", "samples": ["<each>", ["<number>", "<number>"]],
    }]));
    let limits = json!({
        "limits": "<any>", "pattern_ingester_enabled": true, "version": "<string>",
    });
    let values = json!({ "values": ["<each>", "<string>"], "limit": "<number>" });
    let shop = "{service_name=`shop`}";
    let parsed = "{service_name=`shop`} | json | logfmt | drop __error__, __error_details__";
    vec![
        resource("what may be asked", "drilldown-limits", &[], false, limits),
        resource(
            "landing page",
            "index/volume",
            &[("query", "{service_name=~\".+\"}"), ("limit", "5000")],
            false,
            success(volume(json!({ "service_name": "<string>" }))),
        ),
        resource(
            "a service is typed",
            "index/volume",
            &[
                ("query", "{service_name=~\"(?i).*sho.*\"}"),
                ("limit", "5000"),
            ],
            false,
            success(volume(json!({ "service_name": "shop" }))),
        ),
        resource(
            "tabs",
            "detected_labels",
            &[("query", "")],
            false,
            detected_labels(),
        ),
        resource("labels", "labels", &[], false, names()),
        resource("values", "label/service_name/values", &[], true, names()),
        query(
            "volume of a service",
            "sum by (detected_level) (count_over_time({service_name=`shop`} | drop __error__ [15s]))",
            matrix(),
        ),
        query("lines of a service", shop, lines()),
        resource(
            "labels tab",
            "detected_labels",
            &[("query", shop)],
            false,
            detected_labels(),
        ),
        resource(
            "fields tab",
            "detected_fields",
            &[("query", parsed)],
            false,
            json!("<any>"),
        ),
        resource(
            "values of a field",
            "detected_field/duration/values",
            &[("query", shop)],
            true,
            values,
        ),
        resource(
            "patterns tab",
            "patterns",
            &[("query", shop), ("step", "15s")],
            false,
            patterns,
        ),
        query("logs tab", parsed, lines()),
        query(
            "levels",
            "sum(count_over_time({service_name=`shop` }      | detected_level != \"\" | json | logfmt \
             | drop __error__, __error_details__  [15s])) by (detected_level)",
            matrix(),
        ),
        query(
            "a field",
            "avg_over_time({service_name=`shop`} | json | logfmt | drop __error__, __error_details__ \
             | duration!=\"\" | unwrap duration(duration) | __error__=\"\" [15s]) by ()",
            matrix(),
        ),
        query(
            "a search",
            "{service_name=`shop`} |~ `(?i)PLACED` | detected_level=`info`",
            lines(),
        ),
        query(
            "context of a line",
            "{cluster=\"eu\", pod=\"shop-0\", service_name=\"shop\"}",
            lines(),
        ),
    ]
}

fn send(process: &Process, call: &Call) -> Response {
    let mut request = request(process.address, "GET", &call.path)
        .header("User-Agent", "Grafana/13.3.0")
        .header("Accept-Encoding", "identity")
        .header("X-Query-Tags", "Source=grafana-lokiexplore-app");
    if call.is_query {
        request = request.header("X-Loki-Response-Encoding-Flags", "categorize-labels");
    }
    request.send()
}

#[test]
fn the_start_of_logs_drilldown() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let now = now_ms();
    fill(&process, now);
    for call in calls(now) {
        let response = send(&process, &call);
        let told = format!("{}: GET {}", call.why, call.path);
        let answer = shaped(&told, &response, &call.shape);
        let kind = response.header("content-type").unwrap();
        assert!(kind.starts_with("application/json"), "{kind}");
        let result = answer.pointer("/data/result").or(answer.pointer("/data"));
        let empty = result.and_then(Value::as_array).is_some_and(Vec::is_empty);
        assert!(!empty, "{}: nothing was found", call.why);
    }
    the_facts(&process, now);
    assert_eq!(process.terminate(), Some(0));
}

/// What the answers say, not only how.
fn the_facts(process: &Process, now: i64) {
    let range = [("start", iso(now - 900_000)), ("end", iso(now + 60_000))];
    let ask = |name: &str, query: &str| {
        let mut params: Vec<(&str, &str)> = range
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        params.push(("query", query));
        process
            .get(&path(&format!("/loki/api/v1/{name}"), &params))
            .send()
            .json()
    };
    let labels = ask("detected_labels", "{service_name=\"shop\"}");
    let expect = json!([
        { "label": "cluster", "cardinality": 1 }, { "label": "pod", "cardinality": 1 },
        { "label": "service_name", "cardinality": 1 },
    ]);
    assert_eq!(labels["detectedLabels"], expect);
    let fields = ask("detected_fields", "{service_name=\"shop\"}");
    let field = |name: &str, kind: &str, cardinality: u32, parsers: Value| json!({ "label": name, "type": kind, "cardinality": cardinality, "parsers": parsers });
    let expect = json!([
        field("detected_level", "string", 1, Value::Null),
        field("duration", "duration", 60, json!(["logfmt"])),
        field("level", "string", 1, json!(["logfmt"])),
        field("msg", "string", 60, json!(["logfmt"])),
        field("size", "bytes", 1, json!(["logfmt"])),
    ]);
    assert_eq!(fields["fields"], expect);
    assert_eq!(fields["limit"], 1000);
    let fields = ask("detected_fields", "{service_name=\"api\"}");
    let status = fields["fields"].as_array().unwrap().iter();
    let status = status
        .clone()
        .find(|field| field["label"] == "http_status")
        .unwrap();
    let expect = json!({
        "label": "http_status", "type": "int", "cardinality": 3, "parsers": ["json"],
        "jsonPath": ["http", "status"],
    });
    assert_eq!(*status, expect);
    let values = ask(
        "detected_field/http_status/values",
        "{service_name=\"api\"}",
    );
    assert_eq!(values["values"], json!(["500", "501", "502"]));
    let patterns = ask("patterns", "{service_name=\"shop\"}");
    let patterns = patterns["data"].as_array().unwrap();
    assert_eq!(patterns.len(), 1, "{patterns:?}");
    let expect = "level=info msg=\"order <_> placed\" duration=<_> size=<_>";
    assert_eq!(patterns[0]["pattern"], expect);
    assert_eq!(patterns[0]["level"], "info");
    let samples = patterns[0]["samples"].as_array().unwrap().iter();
    assert_eq!(
        samples
            .map(|sample| sample[1].as_u64().unwrap())
            .sum::<u64>(),
        60
    );
}
