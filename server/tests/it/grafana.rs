//! What Grafana asks of a Prometheus data source from the moment that it is opened, against the real
//! binary: each answer has the shape that its parser reads. `examples/grafana-start-up/run.sh` shows
//! the same calls.

use serde_json::{Value, json};

use crate::client::{Response, request};
use crate::process::Process;
use crate::query::path;

const FORM: &str = "application/x-www-form-urlencoded";

/// Whether `value` looks like `shape`: `"<string>"` and `"<number>"` stand for any such value,
/// `"<any>"` for any at all, `["<each>", shape]` for a list of any length, objects have exactly the same keys.
fn fits(shape: &Value, value: &Value) -> bool {
    match (shape, value) {
        (Value::String(kind), _) if kind == "<string>" => value.is_string(),
        (Value::String(kind), _) if kind == "<number>" => value.is_number(),
        (Value::String(kind), _) if kind == "<any>" => true,
        (Value::String(kind), _) if kind == "<labels>" => value
            .as_object()
            .is_some_and(|labels| labels.values().all(Value::is_string)),
        (Value::Array(shapes), Value::Array(values)) => match shapes.as_slice() {
            [Value::String(each), shape] if each == "<each>" => {
                values.iter().all(|value| fits(shape, value))
            }
            shapes => {
                shapes.len() == values.len() && shapes.iter().zip(values).all(|(s, v)| fits(s, v))
            }
        },
        (Value::Object(shapes), Value::Object(values)) => {
            shapes.keys().eq(values.keys())
                && shapes.iter().all(|(key, shape)| fits(shape, &values[key]))
        }
        (shape, value) => shape == value,
    }
}

#[test]
fn shapes_can_differ() {
    let shape = json!({ "a": ["<each>", "<number>"], "b": ["<string>", 1] });
    for (value, expect) in [
        (json!({ "a": [], "b": ["x", 1] }), true),
        (json!({ "a": [1, 2.5], "b": ["x", 1] }), true),
        (json!({ "a": ["1"], "b": ["x", 1] }), false),
        (json!({ "a": null, "b": ["x", 1] }), false),
        (json!({ "a": [], "b": ["x", 2] }), false),
        (json!({ "a": [], "b": ["x"] }), false),
        (json!({ "a": [] }), false),
        (json!({ "a": [], "b": ["x", 1], "c": 0 }), false),
    ] {
        assert_eq!(fits(&shape, &value), expect, "{value}");
    }
}

/// Shows a call with its answer, which has the shape.
pub(crate) fn shaped(call: &str, response: &Response, shape: &Value) -> Value {
    println!("{call}");
    println!("  {} {}", response.status, response.text());
    assert_eq!(response.status, 200, "{call}: {}", response.text());
    let answer = response.json();
    assert!(fits(shape, &answer), "{call}: {answer} is no {shape}");
    answer
}

/// One call, as Grafana's backend sends it.
struct Call {
    why: &'static str,
    method: &'static str,
    path: String,
    form: String,
    shape: Value,
}

fn call(
    why: &'static str,
    method: &'static str,
    base: &str,
    params: &[(&str, &str)],
    shape: Value,
) -> Call {
    let whole = path(base, params);
    let (path, form) = match method {
        "GET" => (whole, String::new()),
        _ => (base.to_owned(), whole[base.len() + 1..].to_owned()),
    };
    Call {
        why,
        method,
        path,
        form,
        shape,
    }
}

fn calls(now_ms: i64) -> Vec<Call> {
    let now = now_ms / 1000;
    let (start, end) = ((now - 900).to_string(), now.to_string());
    let (start_ms, end_ms) = ((now_ms - 900_000).to_string(), now_ms.to_string());
    let success = |data: Value| json!({ "status": "success", "data": data });
    let names = || success(json!(["<each>", "<string>"]));
    let vector = json!({
        "resultType": "vector",
        "result": ["<each>", { "metric": "<labels>", "value": ["<number>", "<string>"] }],
    });
    let matrix = json!({
        "resultType": "matrix",
        "result": ["<each>", {
            "metric": "<labels>",
            "values": ["<each>", ["<number>", "<string>"]],
        }],
    });
    let exemplars = json!(["<each>", {
        "seriesLabels": "<labels>",
        "exemplars": ["<each>", {
            "labels": "<labels>", "value": "<string>", "timestamp": "<number>",
        }],
    }]);
    let range = [("start", start.as_str()), ("end", end.as_str())];
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        more.iter().copied().chain(range).collect()
    };
    let limited = with(&[("limit", "40000")]);
    let searched = with(&[("limit", "1000"), ("match[]", "{__name__=~\".*up.*\"}")]);
    let stats = json!({
        "timings": {
            "evalTotalTime": "<number>", "execQueueTime": "<number>", "execTotalTime": "<number>",
            "innerEvalTime": "<number>", "queryPreparationTime": "<number>",
            "resultSortTime": "<number>",
        },
        "samples": {
            "peakSamples": "<number>", "samplesRead": "<number>",
            "totalQueryableSamples": "<number>",
        },
    });
    vec![
        call(
            "save and test",
            "POST",
            "/api/v1/query",
            &[("query", "1+1"), ("time", "4")],
            success(json!({ "resultType": "scalar", "result": [4, "2"] })),
        ),
        call(
            "which product it is",
            "GET",
            "/api/v1/status/buildinfo",
            &[],
            success(json!({
                "version": "<string>", "revision": "<string>", "branch": "<string>",
                "buildUser": "<string>", "buildDate": "<string>", "goVersion": "<string>",
            })),
        ),
        call(
            "opened",
            "GET",
            "/api/v1/rules",
            &[],
            success(json!({ "groups": [] })),
        ),
        call(
            "are there exemplars",
            "POST",
            "/api/v1/query_exemplars",
            &[("query", "test"), ("start", &start_ms), ("end", &end_ms)],
            success(json!([])),
        ),
        call(
            "metric list",
            "GET",
            "/api/v1/label/__name__/values",
            &limited,
            names(),
        ),
        call(
            "typed",
            "GET",
            "/api/v1/label/__name__/values",
            &searched,
            names(),
        ),
        call("label names", "POST", "/api/v1/labels", &limited, names()),
        call(
            "a label with a dot",
            "GET",
            "/api/v1/label/U__http_2e_status/values",
            &limited,
            names(),
        ),
        call(
            "types and help",
            "GET",
            "/api/v1/metadata",
            &[("limit", "40000")],
            success(json!({})),
        ),
        call(
            "series, for old versions",
            "POST",
            "/api/v1/series",
            &with(&[("match[]", "{__name__!=\"\"}"), ("limit", "40000")]),
            success(json!(["<each>", "<labels>"])),
        ),
        call(
            "instant",
            "POST",
            "/api/v1/query",
            &[("query", "up"), ("time", &end)],
            success(vector),
        ),
        call(
            "range",
            "POST",
            "/api/v1/query_range",
            &with(&[
                ("query", "rate(trine_http_requests_total[1m0s])"),
                ("step", "15"),
            ]),
            success(matrix),
        ),
        call(
            "with statistics",
            "POST",
            "/api/v1/query",
            &[("query", "vector(1)"), ("time", "7"), ("stats", "all")],
            success(json!({
                "resultType": "vector",
                "result": [{ "metric": {}, "value": [7, "1"] }],
                "stats": stats,
            })),
        ),
        call(
            "exemplars of a panel",
            "POST",
            "/api/v1/query_exemplars",
            &with(&[("query", "up")]),
            success(exemplars),
        ),
        call(
            "alert list",
            "GET",
            "/api/v1/alerts",
            &[],
            success(json!({ "alerts": [] })),
        ),
    ]
}

fn send(process: &Process, call: &Call) -> Response {
    let request = request(process.address, call.method, &call.path)
        .header("User-Agent", "Grafana/13.3.0")
        .header("X-Grafana-Org-Id", "1")
        .header("Accept-Encoding", "identity")
        .tenant("trine");
    match call.method {
        "GET" => request.send(),
        _ => request.body(FORM, call.form.clone()).send(),
    }
}

#[test]
fn the_start_up_of_a_data_source() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    for call in calls(crate::wire::now_ms()) {
        let response = send(&process, &call);
        let told = format!("{}: {} {} {}", call.why, call.method, call.path, call.form);
        shaped(&told, &response, &call.shape);
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    assert_eq!(process.terminate(), Some(0));
}
