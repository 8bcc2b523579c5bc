//! Following logs over a WebSocket: what comes, what ends it, and what it may cost.

use std::time::Duration;

use serde_json::json;

use crate::harness::Running;
use crate::query::path;
use crate::websocket::{Frame, Socket, open};
use crate::wire::{now_ms, push_request, snappy};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(15);

fn push(running: &Running, tenant: &str, labels: &str, lines: &[(i64, &str)]) {
    let body = snappy(&push_request(labels, lines));
    let push = running
        .post("/loki/api/v1/push")
        .tenant(tenant)
        .body("application/x-protobuf", body);
    assert_eq!(push.send().status, 204);
}

fn tail(running: &Running, query: &str, more: &[(&str, &str)], headers: &[(&str, &str)]) -> Socket {
    let params: Vec<_> = [("query", query)].iter().chain(more).copied().collect();
    let path = path("/loki/api/v1/tail", &params);
    open(running.address, &path, headers).unwrap()
}

/// The lines of frames until there are `count`.
fn lines(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let Frame::Text(text) = socket.read(PATIENCE) else {
            panic!("{found:?} and no more")
        };
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        for stream in frame["streams"].as_array().unwrap() {
            let values = stream["values"].as_array().unwrap();
            found.extend(
                values
                    .iter()
                    .map(|value| value[1].as_str().unwrap().to_owned()),
            );
        }
    }
    found
}

#[test]
fn what_is_there_comes_first_and_then_what_is_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let api = r#"{app="api"}"#;
    push(
        &running,
        "a",
        api,
        &[(now - 3000, "old keep"), (now - 2000, "older drop")],
    );
    push(&running, "a", api, &[(now - 1000, "last keep")]);
    // Grafana proxies the browser's request: `Origin` is its own.
    let headers = [("X-Scope-OrgID", "a"), ("Origin", "http://grafana.example")];
    let query = r#"{app="api"} |= "keep" | logfmt"#;
    let mut all = tail(&running, query, &[], &headers);
    assert_eq!(lines(&mut all, 2), ["old keep", "last keep"]);
    let mut newest = tail(&running, query, &[("limit", "1")], &headers);
    assert_eq!(lines(&mut newest, 1), ["last keep"]);
    push(&running, "a", r#"{app="db"}"#, &[(now, "other keep")]);
    push(
        &running,
        "a",
        api,
        &[(now, "new drop"), (now + 1, "new keep k=v")],
    );
    assert_eq!(lines(&mut newest, 1), ["new keep k=v"]);
    let Frame::Text(text) = all.read(PATIENCE) else {
        panic!()
    };
    let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
    let time = format!("{}000000", now + 1);
    let labels = json!({
        "app": "api", "service_name": "api", "detected_level": "unknown", "k": "v",
    });
    let stream = json!({ "stream": labels, "values": [[time, "new keep k=v"]] });
    assert_eq!(frame, json!({ "streams": [stream] }));
    running.stop();
}

#[test]
fn labels_come_by_category_to_who_asks_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let flags = ("X-Loki-Response-Encoding-Flags", "categorize-labels");
    let mut socket = tail(&running, r#"{app="api"} | logfmt"#, &[], &[flags]);
    // There is no such tenant yet; it is followed when it comes.
    push(&running, "", r#"{app="api"}"#, &[(now_ms(), "k=v")]);
    let Frame::Text(text) = socket.read(PATIENCE) else {
        panic!()
    };
    let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(frame["encodingFlags"], json!(["categorize-labels"]));
    let stream = &frame["streams"][0];
    assert_eq!(
        stream["stream"],
        json!({ "app": "api", "service_name": "api" })
    );
    let categories = json!({
        "structuredMetadata": { "detected_level": "unknown" }, "parsed": { "k": "v" },
    });
    assert_eq!(stream["values"][0][2], categories);
    running.stop();
}

#[test]
fn several_tenants_are_followed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    push(&running, "a", r#"{app="x"}"#, &[(now_ms() - 1000, "of a")]);
    push(&running, "b", r#"{app="x"}"#, &[(now_ms() - 500, "of b")]);
    let mut socket = tail(&running, r#"{app="x"}"#, &[], &[("X-Scope-OrgID", "a|b")]);
    let mut found = lines(&mut socket, 2);
    found.sort();
    assert_eq!(found, ["of a", "of b"]);
    push(&running, "b", r#"{app="x"}"#, &[(now_ms(), "new of b")]);
    let Frame::Text(text) = socket.read(PATIENCE) else {
        panic!()
    };
    assert!(text.contains(r#""__tenant_id__":"b""#), "{text}");
    running.stop();
}

#[test]
fn what_cannot_be_followed_is_refused_before_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    for (params, told) in [
        (&[("query", "{app=")][..], "parse error"),
        (
            &[("query", "rate({app=\"a\"}[1m])")],
            "only log selector is supported",
        ),
        (
            &[("query", "{app=\"a\"}"), ("delay_for", "6")],
            "delay_for can't be greater than 5",
        ),
        (
            &[("query", "{app=\"a\"}"), ("limit", "0")],
            "limit must be a positive value",
        ),
    ] {
        for base in ["/loki/api/v1/tail", "/api/prom/tail"] {
            let path = path(base, params);
            let Err((status, text)) = open(running.address, &path, &[]) else {
                panic!("{params:?}")
            };
            assert_eq!(status, 400);
            assert!(text.contains(told), "{text}");
        }
    }
    let plain = path("/loki/api/v1/tail", &[("query", "{app=\"a\"}")]);
    assert_eq!(running.get(&plain).send().status, 400);
    running.stop();
}

#[test]
fn followers_are_counted_by_tenant_and_stay_as_long_as_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.logs.tails_max = 2;
        config.logs.tail_duration_max = Duration::from_secs(3);
    });
    let query = r#"{app="api"}"#;
    let mut first = tail(&running, query, &[], &[]);
    let mut second = tail(&running, query, &[], &[]);
    assert_eq!(second.read(Duration::from_millis(300)), Frame::Silence);
    let text = "max concurrent tail requests limit exceeded, count > limit (3 > 2)";
    let mut third = tail(&running, query, &[], &[]);
    assert_eq!(third.read(PATIENCE), Frame::Close(1011, text.to_owned()));
    let mut other = tail(&running, query, &[], &[("X-Scope-OrgID", "other")]);
    assert_eq!(other.read(Duration::from_millis(300)), Frame::Silence);
    let text = "reached tail max duration limit";
    assert_eq!(first.read(PATIENCE), Frame::Close(1011, text.to_owned()));
    running.stop();
}

#[test]
fn who_goes_away_gives_the_place_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| config.logs.tails_max = 1);
    let query = r#"{app="api"}"#;
    let first = tail(&running, query, &[], &[]);
    drop(first);
    // The server sees it when it reads or pings.
    for _ in 0..100 {
        let mut next = tail(&running, query, &[], &[]);
        if next.read(Duration::from_millis(300)) == Frame::Silence {
            return running.stop();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the place is still taken");
}

#[test]
fn what_a_slow_client_misses_is_told_and_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let mut socket = tail(&running, r#"{app="api"}"#, &[], &[]);
    push(&running, "", r#"{app="api"}"#, &[(now_ms(), "first")]);
    assert_eq!(lines(&mut socket, 1), ["first"]);
    // More in one push than waits for a client.
    let now = now_ms();
    let many: Vec<(i64, String)> = (0..12_000).map(|i| (now + i / 10, i.to_string())).collect();
    let many: Vec<(i64, &str)> = many.iter().map(|(at, line)| (*at, line.as_str())).collect();
    push(&running, "", r#"{app="api"}"#, &many);
    let mut seen = 0;
    loop {
        let Frame::Text(text) = socket.read(PATIENCE) else {
            panic!("{seen}")
        };
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        let streams = frame["streams"].as_array().unwrap();
        let of_frame = streams
            .iter()
            .map(|stream| stream["values"].as_array().unwrap().len());
        let of_frame: usize = of_frame.sum();
        assert!(of_frame <= 100, "{of_frame}");
        seen += of_frame;
        if let Some(dropped) = frame.get("dropped_entries") {
            let labels = json!({ "app": "api", "service_name": "api" });
            assert_eq!(dropped[0]["labels"], labels);
            assert_eq!(dropped.as_array().unwrap().len(), 1000);
            let time: i64 = dropped[0]["timestamp"].as_str().unwrap().parse().unwrap();
            assert_eq!(time, (now + 1000) * 1_000_000);
            break;
        }
    }
    assert_eq!(seen, 10_000);
    push(&running, "", r#"{app="api"}"#, &[(now_ms(), "after")]);
    assert_eq!(lines(&mut socket, 1), ["after"]);
    running.stop();
}

#[test]
fn a_server_that_goes_says_nothing_so_that_clients_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    push(&running, "", r#"{app="api"}"#, &[(now_ms(), "x")]);
    let mut socket = tail(&running, r#"{app="api"}"#, &[], &[]);
    assert_eq!(lines(&mut socket, 1), ["x"]);
    running.stop();
    assert_eq!(socket.read(PATIENCE), Frame::Gone);
}
