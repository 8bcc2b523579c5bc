//! Pushes to Loki's API in the forms in which senders write them, and what becomes of bad ones.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use crate::harness::Running;
use crate::query::path;
use crate::wire::{Entry, entry, now_ms, push, snappy};

const PUSH: &str = "/loki/api/v1/push";

/// A push as Go's senders write it: the hash is there, too.
fn protobuf(labels: &str, entries: Vec<Entry>) -> Vec<u8> {
    push(labels, entries, 0x1234_5678_9abc_def0)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Lines of a tenant with all their labels, the oldest first.
fn stored(running: &Running, tenant: &str) -> Vec<(Value, String)> {
    let query = path(
        "/loki/api/v1/query_range",
        &[
            ("query", "{service_name=~\".+\"}"),
            ("direction", "forward"),
            ("limit", "1000"),
            ("start", &(now_ms() / 1000 - 3600 * 24 * 20).to_string()),
            ("end", &(now_ms() / 1000 + 600).to_string()),
        ],
    );
    let answer = running.get(&query).tenant(tenant).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let mut found = Vec::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            let time: i64 = value[0].as_str().unwrap().parse().unwrap();
            let line = value[1].as_str().unwrap().to_owned();
            found.push((time, stream["stream"].clone(), line));
        }
    }
    found.sort_by_key(|(time, ..)| *time);
    let told = found.into_iter();
    told.map(|(_, labels, line)| (labels, line)).collect()
}

/// Sends a body with these headers and expects it to be stored as one line with `labels`.
fn accepted(name: &str, headers: &[(&str, &str)], body: &[u8], line: &str, labels: Value) {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let mut request = running.post(PUSH);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.tenant("t").raw_body(body.to_vec()).send();
    assert_eq!((answer.status, answer.text()), (204, ""), "{name}");
    assert_eq!(stored(&running, "t"), [(labels, line.to_owned())], "{name}");
    running.stop();
}

#[test]
fn alloy() {
    let labels = r#"{filename="/var/log/a.log", job="varlogs"}"#;
    let entries = vec![entry(now_ms(), "level=warn x", &[("trace_id", "7")])];
    accepted(
        "Alloy",
        &[
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("User-Agent", "Alloy/v1.10.0 (linux; docker)"),
        ],
        &snappy(&protobuf(labels, entries)),
        "level=warn x",
        json!({
            "filename": "/var/log/a.log", "job": "varlogs", "service_name": "varlogs",
            "detected_level": "warn", "trace_id": "7",
        }),
    );
}

#[test]
fn promtail() {
    let labels = r#"{app="shop",pod="shop-0"}"#;
    accepted(
        "Promtail",
        &[
            ("Content-Type", "application/x-protobuf"),
            ("User-Agent", "promtail/3.5.0"),
        ],
        &snappy(&protobuf(labels, vec![entry(now_ms(), "hello", &[])])),
        "hello",
        json!({
            "app": "shop", "pod": "shop-0", "service_name": "shop", "detected_level": "unknown",
        }),
    );
}

#[test]
fn vector_with_snappy() {
    let labels = r#"{source="vector"}"#;
    let entries = vec![entry(
        now_ms(),
        r#"{"level":"error","n":1}"#,
        &[("host", "h")],
    )];
    accepted(
        "Vector",
        &[
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("User-Agent", "Vector/0.58.0 (x86_64-unknown-linux-gnu)"),
        ],
        &snappy(&protobuf(labels, entries)),
        r#"{"level":"error","n":1}"#,
        json!({
            "source": "vector", "service_name": "unknown_service", "detected_level": "error",
            "host": "h",
        }),
    );
}

#[test]
fn vector_with_json() {
    // Its values always have a third element, and events are sent by stream.
    let body = format!(
        r#"{{"streams":[{{"stream":{{"source":"vector"}},"values":[["{}000000","hello",{{}}]]}}]}}"#,
        now_ms()
    );
    let labels = json!({
        "source": "vector", "service_name": "unknown_service", "detected_level": "unknown",
    });
    let zstd = zstd::encode_all(body.as_bytes(), 3).unwrap();
    for (encoding, body) in [
        (None, body.clone().into_bytes()),
        (Some("gzip"), gzip(body.as_bytes())),
        (Some("deflate"), zlib(body.as_bytes())),
        (Some("zstd"), zstd),
    ] {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(encoding.map(|encoding| ("Content-Encoding", encoding)));
        accepted("Vector", &headers, &body, "hello", labels.clone());
    }
}

#[test]
fn vector_asks_whether_somebody_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    assert_eq!(running.get("/ready").send().status, 200);
    running.stop();
}

#[test]
fn fluent_bit() {
    // Records become lines of JSON with slashes as they are; keys come in the order of the record.
    let line = r#"{"log":"GET /a/b \"x\"","stream":"stderr"}"#;
    let body = json!({ "streams": [{
        "stream": { "job": "fluent-bit" },
        "values": [[format!("{}000000", now_ms()), line]],
    }] });
    let labels = json!({
        "job": "fluent-bit", "service_name": "fluent-bit", "detected_level": "unknown",
    });
    let body = body.to_string().into_bytes();
    let headers = [
        ("User-Agent", "Fluent-Bit"),
        ("Content-Type", "application/json"),
    ];
    accepted("Fluent Bit", &headers, &body, line, labels.clone());
    let zipped = [headers[0], headers[1], ("Content-Encoding", "gzip")];
    accepted("Fluent Bit", &zipped, &gzip(&body), line, labels);
    let body = json!({ "streams": [{
        "stream": { "job": "fluent-bit" },
        "values": [[format!("{}000000", now_ms()), "x", { "pod": "p", "level": "warn" }]],
    }] });
    let labels = json!({
        "job": "fluent-bit", "service_name": "fluent-bit", "detected_level": "warn", "pod": "p",
        "level": "warn",
    });
    let body = body.to_string().into_bytes();
    accepted("Fluent Bit", &headers, &body, "x", labels);
}

#[test]
fn the_collector_s_old_exporter_and_others() {
    let body = snappy(&protobuf(
        r#"{exporter="OTLP"}"#,
        vec![entry(now_ms(), "x", &[])],
    ));
    let labels = json!({
        "exporter": "OTLP", "service_name": "unknown_service", "detected_level": "unknown",
    });
    for headers in [
        &[("Content-Type", "application/x-protobuf")][..],
        // Without any type it is protobuf.
        &[],
        &[
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", ""),
        ],
    ] {
        accepted("an exporter", headers, &body, "x", labels.clone());
    }
    let outer = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "gzip"),
    ];
    accepted("gzip around snappy", &outer, &gzip(&body), "x", labels);
    let typed = [("Content-Type", "application/json; charset=utf-8")];
    let body = format!(
        r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[["{}000000","x"]]}}]}}"#,
        now_ms()
    );
    let labels = json!({
        "a": "b", "service_name": "unknown_service", "detected_level": "unknown",
    });
    accepted("a script", &typed, body.as_bytes(), "x", labels);
}

fn refused(running: &Running, body: &Value) -> (u16, String, Option<String>) {
    let answer = running
        .post(PUSH)
        .tenant("t")
        .body("application/json", body.to_string())
        .send();
    let later = answer.header("retry-after").map(str::to_owned);
    (answer.status, answer.text().to_owned(), later)
}

#[test]
fn a_push_with_some_bad_entries_stores_the_good_ones_and_says_what_it_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.limits.log_line_bytes_max = 20;
        config.logs.reject_old = true;
    });
    let now = now_ms();
    let ns = |ms: i64| format!("{ms}000000");
    let body = json!({ "streams": [
        { "stream": { "app": "a" }, "values": [
            [ns(now), "good"],
            [ns(now), "far too long to be a good line"],
            [ns(now - 8 * 24 * 3_600_000), "too old"],
            [ns(now + 20 * 60_000), "too new"],
        ] },
        { "stream": {}, "values": [[ns(now), "of no stream"]] },
        { "stream": { "app": "b" }, "values": [[ns(now + 1), "good too"]] },
    ] });
    let (status, text, _) = refused(&running, &body);
    assert_eq!(status, 400);
    let stream = r#"{app="a", service_name="a"}"#;
    for told in [
        format!(
            "max entry size '20' bytes exceeded for stream '{stream}' while adding an entry with \
             length '30' bytes"
        ),
        format!("entry for stream '{stream}' has timestamp too old: "),
        format!("entry for stream '{stream}' has timestamp too new: "),
        "error at least one label pair is required per stream".to_owned(),
    ] {
        assert!(text.contains(&told), "{text}");
    }
    let lines: Vec<String> = stored(&running, "t")
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    assert_eq!(lines, ["good", "good too"]);
    running.stop();
}

#[test]
fn what_comes_too_fast_may_come_again_later() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.logs.rate_bytes = 1;
        config.logs.burst_bytes = 10;
        config.logs.stream_rate_bytes = 1;
        config.logs.stream_burst_bytes = 5;
    });
    let of = |lines: &[&str]| {
        let value = |line: &&str| json!([format!("{}000000", now_ms()), line]);
        let values: Vec<Value> = lines.iter().map(value).collect();
        json!({ "streams": [{ "stream": { "app": "a" }, "values": values }] })
    };
    let (status, text, later) = refused(&running, &of(&["12345678901"]));
    assert_eq!((status, later.as_deref()), (429, Some("1")));
    assert_eq!(
        text,
        "ingestion rate limit exceeded for user t (limit: 1 bytes/sec) while attempting to ingest \
         '1' lines totaling '11' bytes, reduce log volume or contact your Loki administrator to see \
         if the limit can be increased\n"
    );
    let (status, text, later) = refused(&running, &of(&["1234", "5678"]));
    assert_eq!((status, later.as_deref()), (429, Some("1")));
    assert!(
        text.contains("Per stream rate limit exceeded (limit: 1B/sec) while attempting to ingest")
            && text.contains("total ignored: 1 out of 2 for stream"),
        "{text}"
    );
    assert_eq!(stored(&running, "t").len(), 1);
    running.stop();
}

#[test]
fn nothing_that_is_wrong_with_the_data_makes_fluent_bit_try_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.body_bytes_max = 1000;
        config.memory_budget_bytes = 1 << 20;
    });
    let large = "x".repeat(2000);
    for (kind, encoding, body) in [
        ("application/json", None, &b"{"[..]),
        ("application/json", None, br#"{"streams":[]}"#),
        (
            "application/json",
            None,
            br#"{"streams":[{"stream":{"a":"b"},"values":[["x","y"]]}]}"#,
        ),
        ("application/json", None, large.as_bytes()),
        ("application/json", Some("gzip"), b"no gzip"),
        ("application/json", Some("br"), b"{}"),
        ("application/x-protobuf", None, b"no snappy"),
    ] {
        let mut request = running.post(PUSH).header("Content-Type", kind);
        if let Some(encoding) = encoding {
            request = request.header("Content-Encoding", encoding);
        }
        let answer = request.raw_body(body.to_vec()).send();
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    let answer = running
        .post(PUSH)
        .header("Content-Encoding", "br")
        .body("application/json", "{}")
        .send();
    assert_eq!(answer.text(), "Content-Encoding \"br\" not supported\n");
    running.stop();
}

#[test]
fn limits_hold_for_one_tenant_only() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        let mut own = config.clone();
        own.limits.log_line_bytes_max = 4;
        own.logs.truncate_lines = true;
        own.logs.enforced_labels = vec!["team".to_owned()];
        config.overrides.insert("t".to_owned(), own);
    });
    let of = |labels: Value| {
        json!({ "streams": [{
            "stream": labels, "values": [[format!("{}000000", now_ms()), "abcdef"]],
        }] })
    };
    let (status, text, _) = refused(&running, &of(json!({ "app": "a" })));
    assert_eq!(status, 400);
    assert_eq!(
        text,
        "missing required labels 'team' for user 't' for stream '{app=\"a\", service_name=\"a\"}' \
         (policy: '')\n"
    );
    let (status, _, _) = refused(&running, &of(json!({ "app": "a", "team": "x" })));
    assert_eq!(status, 204);
    assert_eq!(stored(&running, "t")[0].1, "abcd");
    let other = running.post(PUSH).tenant("other");
    let other = other.body("application/json", of(json!({ "app": "a" })).to_string());
    assert_eq!(other.send().status, 204);
    assert_eq!(stored(&running, "other")[0].1, "abcdef");
    running.stop();
}

#[test]
fn over_grpc_too() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let push = |method: &str, message: &[u8]| {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0], &length[..], message].concat();
        let path = format!("/logproto.Pusher/{method}");
        let answer = running.post(&path).body("application/grpc", body).send();
        let code = answer.header("grpc-status").map(str::to_owned);
        (answer.status, code)
    };
    let of = |labels: &str| protobuf(labels, vec![entry(now_ms(), labels, &[])]);
    assert_eq!(push("Push", &of("{app=\"a\"}")), (200, None));
    assert_eq!(push("Push", &of("{}")), (200, Some("3".to_owned())));
    assert_eq!(push("Push", &[0x0a, 9]), (200, Some("3".to_owned())));
    assert_eq!(push("Pull", &[]), (200, Some("12".to_owned())));
    assert_eq!(stored(&running, "anonymous")[0].1, "{app=\"a\"}");
    running.stop();
}
