//! The handlers of Jaeger's API, over spans that came in as their senders send them.

use axum::body::Body;
use axum::http::Request;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use serde_json::{Value as Json, json};
use trine_storage::fs::{Fs as _, RealFs};

use super::*;
use crate::api::prometheus::run::harness::{Answer as Told, Harness};
use crate::ingest::jaeger_thrift::tests::encode;
use crate::proto::thrift::Protocol;
use crate::routes;

/// A file of the traces of others in `TRINE_DATA` (or `../shared/data` beside the workspace), where it
/// is.
pub(super) fn data(name: &str) -> Option<Json> {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").into();
    let dir = std::env::var_os("TRINE_DATA").unwrap_or_else(beside);
    let path = std::path::Path::new(&dir).join("traces").join(name);
    let file = RealFs.open(&path).ok()?;
    let whole = 0..file.len();
    let bytes = file.read(std::slice::from_ref(&whole)).unwrap().remove(0);
    Some(serde_json::from_slice(&bytes).unwrap())
}

pub(super) fn of_otlp_json(json: &Json) -> Vec<ResourceSpans> {
    let read: TracesData = serde_json::from_value(json.clone()).unwrap();
    read.resource_spans
}

/// A server with all routes.
pub(super) fn server() -> Harness {
    Harness::new(|_, _| routes::all(), |_| {})
}

async fn send(harness: &Harness, path: &str, kind: &str, body: impl Into<Body>) -> Told {
    let request = Request::post(path).header("content-type", kind);
    harness.send(request.body(body.into()).unwrap()).await
}

pub(super) async fn send_otlp(harness: &Harness, spans: &Json) {
    let told = send(harness, "/v1/traces", "application/json", spans.to_string()).await;
    assert_eq!(told.told(), (200, "{}"));
}

async fn send_zipkin(harness: &Harness, spans: &Json) {
    let told = send(
        harness,
        "/api/v2/spans",
        "application/json",
        spans.to_string(),
    )
    .await;
    assert_eq!(told.told(), (202, ""));
}

async fn send_thrift(harness: &Harness, batch: &Json) {
    let body = encode(batch, Protocol::Binary);
    let told = send(harness, "/api/traces", "application/x-thrift", body).await;
    assert_eq!(told.told(), (202, ""));
}

pub(super) async fn get(harness: &Harness, path: &str) -> Json {
    let told = harness.get(path).await;
    assert_eq!(told.status, 200, "{path}: {}", told.text());
    assert_eq!(told.headers["content-type"], "application/json");
    serde_json::from_slice(&told.body).unwrap()
}

/// A span in the JSON of OTLP.
fn span(trace: u8, id: u8, parent: u8, kind: u8, start_s: u64, name: &str) -> Json {
    let parent = match parent {
        0 => String::new(),
        parent => format!("{parent:016x}"),
    };
    json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"), "parentSpanId": parent,
        "kind": kind, "name": name,
        "startTimeUnixNano": (start_s * 1_000_000_000).to_string(),
        "endTimeUnixNano": (start_s * 1_000_000_000 + 5_000_000).to_string(),
    })
}

fn of_service(service: &str, spans: &[Json]) -> Json {
    json!({
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": spans}],
    })
}

/// Two traces of three services, and a span of no service.
async fn filled() -> Harness {
    fill(server()).await
}

async fn fill(harness: Harness) -> Harness {
    let spans = json!({"resourceSpans": [
        of_service("front", &[span(1, 1, 0, 2, 100, "GET /"), span(1, 2, 1, 3, 101, "call"),
            span(2, 1, 0, 2, 200, "GET /")]),
        of_service("back", &[span(1, 3, 2, 2, 102, "work"), span(1, 4, 3, 0, 103, "inner"),
            span(2, 3, 1, 2, 201, "work")]),
        of_service("back", &[span(3, 9, 7, 2, 300, "lost")]),
        {"scopeSpans": [{"spans": [span(4, 1, 0, 1, 400, "nameless")]}]},
    ]});
    send_otlp(&harness, &spans).await;
    harness
}

fn ids(answer: &Json) -> Vec<&str> {
    let traces = answer["data"].as_array().unwrap();
    traces
        .iter()
        .map(|trace| trace["traceID"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn services_and_operations() {
    let harness = filled().await;
    for (path, expect) in [
        ("services", json!(["back", "front", "missing-service-name"])),
        ("services/back/operations", json!(["inner", "lost", "work"])),
        ("services/none/operations", json!([])),
        (
            "services/missing-service-name/operations",
            json!(["nameless"]),
        ),
        (
            "operations?service=front",
            json!([
                {"name": "GET /", "spanKind": "server"}, {"name": "call", "spanKind": "client"},
            ]),
        ),
        (
            "operations?service=back&spanKind=server",
            json!([
                {"name": "lost", "spanKind": "server"}, {"name": "work", "spanKind": "server"},
            ]),
        ),
        (
            "operations?service=back&spanKind=unspecified",
            json!([{"name": "inner", "spanKind": ""}]),
        ),
        ("operations?service=back&spanKind=x", json!([])),
    ] {
        for prefix in ["", "/jaeger"] {
            let answer = get(&harness, &format!("{prefix}/api/{path}")).await;
            let total = expect.as_array().unwrap().len();
            let envelope =
                json!({"data": expect, "total": total, "limit": 0, "offset": 0, "errors": null});
            assert_eq!(answer, envelope, "{path}");
        }
    }
    let empty = server();
    let none = json!({"data": [], "total": 0, "limit": 0, "offset": 0, "errors": null});
    assert_eq!(get(&empty, "/api/services").await, none);
    assert_eq!(get(&empty, "/api/traces?service=a").await, none);
    assert_eq!(empty.tenants(), 0, "reading creates nothing");
}

#[tokio::test]
async fn a_service_has_so_many_operations_and_no_more() {
    for (max, expect) in [(3, 3), (2, 2), (1, 1)] {
        let harness = Harness::new(|_, _| routes::all(), |config| config.query_series_max = max);
        let answer = get(&fill(harness).await, "/api/services/back/operations").await;
        assert_eq!(answer["total"], expect, "{answer}");
    }
}

#[tokio::test]
async fn searches() {
    let harness = filled().await;
    let all = "start=0&end=1000000000";
    let first = "0000000000000001";
    let second = "0000000000000002";
    for (query, expect) in [
        ("service=front", vec![second, first]),
        ("service=front&limit=1", vec![second]),
        ("service=back&operation=inner", vec![first]),
        ("service=front&operation=inner", vec![]),
        (
            "service=front&minDuration=5ms&maxDuration=5ms",
            vec![second, first],
        ),
        ("service=front&minDuration=5001us", vec![]),
        ("service=front&tag=span.kind:client", vec![first]),
        ("service=missing-service-name", vec!["0000000000000004"]),
        ("traceID=2&traceID=01", vec![second, first]),
    ] {
        let answer = get(&harness, &format!("/api/traces?{all}&{query}")).await;
        assert_eq!(ids(&answer), expect, "{query}");
    }
    // The span must begin in the range, whatever of its trace lies there.
    for (query, expect) in [
        ("start=101000000&end=102000000&service=front", vec![first]),
        ("start=101500000&end=102000000&service=front", vec![]),
        ("start=101500000&end=102000000&service=back", vec![first]),
        ("start=102000001&end=102999999&service=back", vec![]),
    ] {
        let answer = get(&harness, &format!("/api/traces?{query}")).await;
        assert_eq!(ids(&answer), expect, "{query}");
    }
    let answer = get(&harness, "/api/traces?traceID=1&traceID=77").await;
    assert_eq!(ids(&answer), [first]);
    let expect = json!([{"msg": "trace not found", "traceID": "0000000000000077"}]);
    assert_eq!(answer["errors"], expect);
}

#[tokio::test]
async fn an_answer_has_so_many_spans_and_no_more() {
    let harness = filled().await;
    let search = search::Search {
        service: Some("front".to_owned()),
        operation: None,
        tags: Vec::new(),
        range: trine_storage::TimeRange::ALL,
        min_ns: None,
        max_ns: None,
        limit: 10,
    };
    // The newest trace has two spans, the other one four.
    for (max, expect) in [
        (6, (2, false)),
        (5, (1, true)),
        (2, (1, true)),
        (1, (1, true)),
    ] {
        let (app, search) = (Arc::clone(&harness.app), search.clone());
        let request = Request::get("/").body(Body::empty()).unwrap();
        let found = run::run(app, request, move |asked| source::find(asked, &search, max));
        let found = found.await.unwrap();
        assert_eq!((found.traces.len(), found.is_cut), expect, "{max}");
    }
    let told = too_large(1);
    assert!(
        told.contains("more than 1000000 spans: only the newest 1 traces"),
        "{told}"
    );
}

#[tokio::test]
async fn refusals_are_in_the_envelope() {
    let harness = filled().await;
    for (path, status, why) in [
        ("traces", 400, "parameter 'service' is required"),
        ("operations", 400, "parameter 'service' is required"),
        ("traces/99", 404, "trace not found"),
        (
            "traces/xyz",
            400,
            "strconv.ParseUint: parsing \"xyz\": invalid syntax",
        ),
        (
            "traces/1?raw=2",
            400,
            "unable to parse param 'raw': strconv.ParseBool: parsing \"2\": invalid syntax",
        ),
        (
            "dependencies?endTs=x",
            400,
            "unable to parse param 'endTs': strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "metrics/latencies?service=a&quantile=0.95",
            501,
            "metrics querying is currently disabled",
        ),
        (
            "metrics/minstep",
            501,
            "metrics querying is currently disabled",
        ),
    ] {
        let told = harness.get(&format!("/jaeger/api/{path}")).await;
        let expect = json!({"data": null, "total": 0, "limit": 0, "offset": 0,
            "errors": [{"code": status, "msg": why}]});
        assert_eq!(told.status, status, "{path}");
        let read: Json = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(read, expect, "{path}");
    }
}

#[tokio::test]
async fn one_trace() {
    let harness = filled().await;
    let answer = get(
        &harness,
        "/jaeger/api/traces/000000000000000001?start=1&end=2",
    )
    .await;
    assert_eq!(answer["data"][0]["spans"].as_array().unwrap().len(), 4);
    assert_eq!(answer["errors"], Json::Null);
    let pretty = harness
        .get("/jaeger/api/traces/1?prettyPrint=true&raw=true")
        .await;
    assert!(
        pretty.text().starts_with("{\n    \"data\": [\n        {\n"),
        "{}",
        pretty.text()
    );
    let read: Json = serde_json::from_slice(&pretty.body).unwrap();
    assert_eq!(read, answer);
    // At the root the path is Tempo's, but on Jaeger's port.
    let told = harness.get("/api/traces/99").await;
    assert_eq!(told.told(), (404, "trace not found"));
    for (uri, port, expect) in [
        (
            "/api/traces/1?raw=true",
            PORT,
            Some("/jaeger/api/traces/1?raw=true"),
        ),
        (
            "http://h:16686/api/traces/1",
            PORT,
            Some("http://h:16686/jaeger/api/traces/1"),
        ),
        ("/api/traces/1", 3200, None),
        ("/api/traces?service=a", PORT, None),
        ("/api/v2/traces/1", PORT, None),
        ("/jaeger/api/traces/1", PORT, None),
    ] {
        let moved = address(&uri.parse().unwrap(), port);
        assert_eq!(
            moved,
            expect.map(|uri| uri.parse().unwrap()),
            "{uri} {port}"
        );
    }
}

#[tokio::test]
async fn who_calls_whom() {
    let harness = filled().await;
    let link = |parent: &str, child: &str, calls: u64| json!({"parent": parent, "child": child, "callCount": calls});
    let (inner, front, deep) = (
        link("back", "back", 1),
        link("front", "front", 1),
        link("front", "back", 2),
    );
    for (query, expect) in [
        (
            "endTs=1000000&lookback=1000000",
            json!([inner, deep, front]),
        ),
        (
            "endTs=1000000&lookback=1000000&service=front",
            json!([deep, front]),
        ),
        (
            "endTs=102000&lookback=1000",
            json!([link("front", "back", 1), front]),
        ),
        ("endTs=101999&lookback=1000", json!([front])),
        ("endTs=99999&lookback=1000", json!([])),
        ("", json!([])),
    ] {
        let answer = get(&harness, &format!("/api/dependencies?{query}")).await;
        let envelope = json!({"data": expect, "total": 0, "limit": 0, "offset": 0, "errors": null});
        assert_eq!(answer, envelope, "{query}");
    }
}

/// Spans as Zipkin's clients make them: client and server of a call share an id.
#[tokio::test]
async fn spans_that_share_an_id() {
    let harness = server();
    let span = |id: u8, parent: u8, kind: &str, service: &str, us: u64| {
        let mut span = json!({
            "traceId": "1", "id": format!("{id:x}"), "timestamp": us, "duration": 10, "name": "n",
            "localEndpoint": {"serviceName": service}, "shared": kind == "SERVER",
        });
        let more = [
            ("kind", kind.to_owned()),
            ("parentId", format!("{parent:x}")),
        ];
        for (name, value) in more
            .into_iter()
            .filter(|(_, value)| !value.is_empty() && value != "0")
        {
            span[name] = value.into();
        }
        span
    };
    let spans = json!([
        span(1, 0, "CLIENT", "a", 1000),
        span(1, 0, "SERVER", "b", 1001),
        span(2, 1, "CLIENT", "b", 1002),
        span(2, 1, "SERVER", "c", 1003),
        span(3, 2, "", "c", 1004),
    ]);
    send_zipkin(&harness, &spans).await;
    let answer = get(&harness, "/api/dependencies?endTs=10&lookback=10").await;
    let expect = json!([
        {"parent": "a", "child": "b", "callCount": 1}, {"parent": "b", "child": "b", "callCount": 1},
        {"parent": "b", "child": "c", "callCount": 1}, {"parent": "c", "child": "c", "callCount": 1},
    ]);
    assert_eq!(answer["data"], expect);
    let told = |answer: &Json| {
        let spans = answer["data"][0]["spans"].as_array().unwrap().clone();
        let short = |id: &Json| id.as_str().map(|id| id.trim_start_matches('0').to_owned());
        let mut told: Vec<_> = spans
            .iter()
            .map(|span| {
                let parent = &span["references"][0]["spanID"];
                (
                    span["startTime"].as_u64(),
                    short(&span["spanID"]),
                    short(parent),
                )
            })
            .collect();
        told.sort();
        told.into_iter()
            .map(|(_, id, parent)| format!("{}<{}", id.unwrap(), parent.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let shown = get(&harness, "/jaeger/api/traces/1").await;
    let told_shown = told(&shown);
    assert_eq!(told_shown[0], "1<");
    assert!(told_shown[1].ends_with("<1") && !told_shown[1].starts_with("1<"));
    let raw = get(&harness, "/jaeger/api/traces/1?raw=true").await;
    assert_eq!(told(&raw), ["1<", "1<", "2<1", "2<1", "3<2"]);
}

/// The searches that every store of Jaeger must answer.
#[tokio::test]
async fn jaegers_own_searches() {
    let Some(queries) = data("jaeger-integration/queries.json") else {
        return;
    };
    let harness = server();
    let id_of = |name: &str| {
        let trace = data(&format!("jaeger-integration/traces/{name}.json")).unwrap();
        let id = &trace["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"];
        (trace.clone(), id.as_str().unwrap().to_owned())
    };
    let dir = std::env::var_os("TRINE_DATA")
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").into());
    let dir = std::path::Path::new(&dir).join("traces/jaeger-integration/traces");
    let mut traces = 0;
    for entry in RealFs.list(&dir).unwrap() {
        let name = &entry.name;
        send_otlp(&harness, &id_of(name.strip_suffix(".json").unwrap()).0).await;
        traces += 1;
    }
    assert_eq!(traces, 32);
    let mut passed = 0;
    let queries = queries.as_array().unwrap();
    for query in queries {
        let asked = &query["Query"];
        let micros = |name: &str| {
            let time: jiff::Timestamp = asked[name].as_str().unwrap().parse().unwrap();
            time.as_microsecond()
        };
        let tags: Json = match asked["Tags"].as_object() {
            None => json!({}),
            Some(tags) => tags
                .iter()
                .map(|(key, value)| {
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    (key.clone(), Json::from(text))
                })
                .collect(),
        };
        let escaped = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let text = |name: &str| escaped(asked[name].as_str().unwrap());
        let tags = escaped(&tags.to_string());
        let limit = &asked["NumTraces"];
        let durations = |min: &str, max: &str| {
            let one = |param: &str, name: &str| match asked[name].as_u64().unwrap() {
                0 => String::new(),
                ns => format!("&{param}={ns}ns"),
            };
            one(min, "DurationMin") + &one(max, "DurationMax")
        };
        let expect = query["ExpectedFixtures"].as_array().unwrap();
        let mut expect: Vec<String> = expect
            .iter()
            .map(|name| id_of(name.as_str().unwrap()).1)
            .collect();
        expect.sort();
        let old = format!(
            "/api/traces?service={}&operation={}&start={}&end={}&limit={limit}&tags={tags}{}",
            text("ServiceName"),
            text("OperationName"),
            micros("StartTimeMin"),
            micros("StartTimeMax"),
            durations("minDuration", "maxDuration"),
        );
        let answer = get(&harness, &old).await;
        let mut found: Vec<String> = ids(&answer).iter().map(|id| format!("{id:0>32}")).collect();
        found.sort();
        assert_eq!(found, expect, "{}: {old}", query["Caption"]);
        let new = format!(
            "/api/v3/trace-summaries?query.service_name={}&query.operationName={}\
             &query.startTimeMin={}&query.start_time_max={}&query.searchDepth={limit}\
             &query.attributes={tags}{}",
            text("ServiceName"),
            text("OperationName"),
            text("StartTimeMin"),
            text("StartTimeMax"),
            durations("query.durationMin", "query.duration_max"),
        );
        let answer = get(&harness, &new).await;
        let summaries = answer["summaries"].as_array().unwrap();
        let mut found: Vec<&str> = summaries
            .iter()
            .map(|summary| summary["traceId"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expect, "{}: {new}", query["Caption"]);
        passed += 1;
    }
    eprintln!("jaeger searches: {passed} of {} passed", queries.len());
    assert_eq!(passed, 25);
}

/// A span of Jaeger's model as the UI reads it, with OpenTelemetry's names; tags in no order.
fn expected(span: &Json) -> Json {
    let kinds = [
        ("STRING", "string"),
        ("INT64", "int64"),
        ("BOOL", "bool"),
        ("FLOAT64", "float64"),
        ("BINARY", "binary"),
    ];
    let tag = |tag: &Json| {
        let kind = kinds
            .iter()
            .find(|(name, _)| tag["vType"] == *name)
            .unwrap()
            .1;
        let value = tag
            .as_object()
            .unwrap()
            .iter()
            .find(|(name, _)| name.starts_with('v') && *name != "vType");
        let mut value = value.unwrap().1.clone();
        let key = match tag["key"].as_str().unwrap() {
            "hostname" => "host.name",
            "jaeger.version" => {
                value = format!("Jaeger-{}", value.as_str().unwrap()).into();
                "opencensus.exporterversion"
            }
            key => key,
        };
        json!({"key": key, "type": kind, "value": value})
    };
    let tags = |tags: &Json| {
        let tags = tags.as_array().map_or(&[][..], Vec::as_slice);
        sorted(tags.iter().map(tag).collect())
    };
    let logs = span["logs"].as_array().map_or(&[][..], Vec::as_slice);
    let logs: Vec<Json> = logs.iter().map(|log| tags(&log["fields"])).collect();
    json!({
        "spanID": span["spanId"], "operationName": span["operationName"],
        "references": span["references"], "duration": span["duration"],
        "tags": tags(&span["tags"]), "logs": logs,
        "process": {"serviceName": span["process"]["serviceName"], "tags": tags(&span["process"]["tags"])},
    })
}

fn sorted(mut tags: Vec<Json>) -> Json {
    tags.sort_by_key(|tag| tag["key"].as_str().unwrap().to_owned());
    tags.into()
}

/// A span of an answer in the same form.
fn shown(span: &Json, processes: &Json) -> Json {
    let base64 = |id: &Json, digits: usize| {
        let id = format!("{:0>digits$}", id.as_str().unwrap());
        let bytes: Vec<u8> = (0..digits)
            .step_by(2)
            .map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap())
            .collect();
        crate::ingest::otlp_value::base64(&bytes)
    };
    let tags = |tags: &Json| sorted(tags.as_array().unwrap().clone());
    let references = span["references"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reference| {
            json!({"refType": reference["refType"], "traceId": base64(&reference["traceID"], 32),
            "spanId": base64(&reference["spanID"], 16)})
        });
    let process = &processes[span["processID"].as_str().unwrap()];
    let logs = span["logs"].as_array().unwrap();
    assert!(logs.iter().all(|log| log["timestamp"] == span["startTime"]));
    json!({
        "spanID": base64(&span["spanID"], 16), "operationName": span["operationName"],
        "references": references.collect::<Vec<_>>(),
        "duration": format!("{}000ns", span["duration"]),
        "tags": tags(&span["tags"]),
        "logs": logs.iter().map(|log| tags(&log["fields"])).collect::<Vec<_>>(),
        "process": {"serviceName": process["serviceName"], "tags": tags(&process["tags"])},
    })
}

#[tokio::test]
async fn batches_of_thrift_come_back_as_jaegers_model() {
    for number in ["01", "02"] {
        let Some(batch) = data(&format!("jaeger-thrift-json/thrift_batch_{number}.json")) else {
            return;
        };
        let model = data(&format!("jaeger-thrift-json/domain_{number}.json")).unwrap();
        let harness = server();
        send_thrift(&harness, &batch).await;
        let answer = get(&harness, "/jaeger/api/traces/52969a8955571a3f").await;
        let trace = &answer["data"][0];
        assert_eq!(trace["traceID"], "52969a8955571a3f");
        let by_id = |mut spans: Vec<Json>| {
            spans.sort_by_key(|span| span["spanID"].to_string());
            spans
        };
        let spans = trace["spans"].as_array().unwrap();
        assert!(
            spans
                .iter()
                .all(|span| span["startTime"] == 1_485_467_191_639_875_u64)
        );
        let found = spans
            .iter()
            .map(|span| shown(span, &trace["processes"]))
            .collect();
        let expect = model["spans"]
            .as_array()
            .unwrap()
            .iter()
            .map(expected)
            .collect();
        assert_eq!(by_id(found), by_id(expect), "{number}");
    }
}

#[tokio::test]
async fn otlp_is_transformed() {
    let Some(spans) = data("jaeger-ui-json/otlp2jaeger-in.json") else {
        return;
    };
    let harness = server();
    let told = send(
        &harness,
        "/api/transform",
        "application/json",
        spans.to_string(),
    )
    .await;
    assert_eq!(told.status, 200);
    let read: Json = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(Some(read), data("jaeger-ui-json/otlp2jaeger-out.json"));
    let told = send(&harness, "/jaeger/api/transform", "application/json", "{").await;
    assert_eq!(told.status, 400);
    assert!(
        told.text().contains("cannot unmarshal OTLP : "),
        "{}",
        told.text()
    );
}

#[test]
fn spans_go_to_their_traces() {
    let spans = json!({"resourceSpans": [
        of_service("a", &[span(1, 1, 0, 0, 1, "a"), span(2, 1, 0, 0, 1, "b"), span(1, 2, 0, 0, 1, "c")]),
        of_service("b", &[span(2, 2, 0, 0, 1, "d")]),
    ]});
    let traces = by_trace(of_otlp_json(&spans));
    assert_eq!(traces.len(), 2);
    let counts = |trace: &Spans| {
        trace
            .iter()
            .map(|of| of.scope_spans[0].spans.len())
            .collect()
    };
    let counts: Vec<Vec<usize>> = traces.iter().map(counts).collect();
    assert_eq!(counts, [vec![2], vec![1, 1]]);
}

#[tokio::test]
async fn senders_hear_what_is_wrong() {
    let harness = server();
    let thrift = "application/x-thrift";
    let none = encode(
        &json!({"process": {"serviceName": "a"}, "spans": [{"operationName": "x"}]}),
        Protocol::Binary,
    );
    for (path, kind, body, status, why) in [
        (
            "/api/traces",
            "application/json",
            vec![],
            400,
            "Unsupported content type: application/json\n",
        ),
        (
            "/api/traces",
            thrift,
            vec![1],
            400,
            "Unable to process request body: the message holds a value of no type (1)\n",
        ),
        (
            "/api/traces",
            "application/vnd.apache.thrift.binary; charset=x",
            vec![0],
            202,
            "",
        ),
        (
            "/api/traces",
            "application/vnd.apache.thrift.compact",
            vec![0],
            202,
            "",
        ),
        (
            "/api/v2/spans",
            "application/json",
            b"{}".to_vec(),
            400,
            "cannot read the spans: invalid type: map, expected a list of spans at line 1 column 0\n",
        ),
        (
            "/api/v2/spans",
            "application/x-protobuf",
            vec![],
            415,
            "spans of Zipkin are read as application/json, not as application/x-protobuf\n",
        ),
        ("/api/v2/spans", "", b"[]".to_vec(), 202, ""),
    ] {
        let told = send(&harness, path, kind, body).await;
        assert_eq!(told.told(), (status, why), "{path} {kind}");
    }
    let told = send(&harness, "/api/traces", thrift, none).await;
    assert_eq!(
        told.status, 400,
        "a span without ids is refused by the store"
    );
    assert_eq!(harness.tenants(), 1);
}
