//! A server over a bucket: who writes, who waits, who only reads, and what probes are told. The bucket
//! is a directory.

#![expect(
    clippy::disallowed_methods,
    reason = "a bucket that goes away and comes back is a directory that does"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use trine_server::observe::log_lines::LogLines;
use trine_server::{Config, Server};

use crate::client::{Response, request};
use crate::harness::Running;
use crate::process::Process;
use crate::query::path;
use crate::wire::{now_ms, push_request, series, snappy, write_request};

pub(crate) const SIGNALS: [&str; 3] = ["metrics", "logs", "traces"];

/// A server on `dir` over the bucket.
pub(crate) fn start(bucket: &Path, dir: &Path, name: &str) -> Running {
    Running::start(dir, |config| over(config, bucket, name))
}

pub(crate) fn reader(bucket: &Path, dir: &Path) -> Running {
    Running::start(dir, |config| {
        over(config, bucket, "reader");
        config.storage.read_only = true;
    })
}

fn over(config: &mut Config, bucket: &Path, name: &str) {
    config.storage.url = Some(format!("file://{}", bucket.display()));
    config.storage.instance_name = Some(name.to_owned());
    config.storage.follow_interval = Duration::from_millis(200);
    config.enable_admin_api = true;
}

fn write(running: &Running, name: &str) -> Response {
    let rows = vec![series(&[("__name__", name)], &[(now_ms(), 1.0)])];
    let body = snappy(&write_request(rows));
    let post = running.post("/api/v1/write");
    post.body("application/x-protobuf", body).send()
}

/// Writes a sample, a line and a span, all of this number.
pub(crate) fn write_row(address: SocketAddr, row: u64) {
    write_row_at(address, row, now_ms());
}

/// As [`write_row`], at this time, milliseconds since 1970.
pub(crate) fn write_row_at(address: SocketAddr, row: u64, now: i64) {
    let labels = [("__name__", "x"), ("row", &row.to_string())];
    let body = snappy(&write_request(vec![series(&labels, &[(now, 1.0)])]));
    let post = request(address, "POST", "/api/v1/write").body("application/x-protobuf", body);
    let answer = post.send();
    assert_eq!(answer.status, 204, "{answer:?}");
    let line = format!("row {row}");
    let body = snappy(&push_request(r#"{app="x"}"#, &[(now, &line)]));
    let post = request(address, "POST", "/loki/api/v1/push").body("application/x-protobuf", body);
    let answer = post.send();
    assert_eq!(answer.status, 204, "{answer:?}");
    let nanoseconds = u64::try_from(now).unwrap() * 1_000_000;
    let span = Span {
        trace_id: [&[7; 8][..], &row.to_be_bytes()].concat(),
        span_id: row.to_be_bytes().to_vec(),
        name: "x".into(),
        start_time_unix_nano: nanoseconds,
        end_time_unix_nano: nanoseconds + 1,
        ..Span::default()
    };
    let scope = ScopeSpans {
        spans: vec![span],
        ..ScopeSpans::default()
    };
    let resource = ResourceSpans {
        scope_spans: vec![scope],
        ..ResourceSpans::default()
    };
    let body = ExportTraceServiceRequest {
        resource_spans: vec![resource],
    };
    let post = request(address, "POST", "/v1/traces");
    let answer = post
        .body("application/x-protobuf", body.encode_to_vec())
        .send();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Which rows of the last hour are answered, by the samples, by the lines and by the spans.
pub(crate) fn rows(address: SocketAddr) -> [Vec<u64>; 3] {
    rows_of(address, 1)
}

/// As [`rows`], of so many hours.
pub(crate) fn rows_of(address: SocketAddr, hours: i64) -> [Vec<u64>; 3] {
    [
        samples_of(address, hours),
        lines_of(address, hours),
        spans_of(address, hours),
    ]
}

fn samples_of(address: SocketAddr, hours: i64) -> Vec<u64> {
    let query = format!("last_over_time(x[{hours}h])");
    let url = path("/api/v1/query", &[("query", &query)]);
    let answer = request(address, "GET", &url).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let found = answer["data"]["result"].as_array().unwrap();
    let number = |one: &serde_json::Value| one["metric"]["row"].as_str().unwrap().parse().unwrap();
    let mut samples: Vec<u64> = found.iter().map(number).collect();
    samples.sort_unstable();
    samples
}

fn lines_of(address: SocketAddr, hours: i64) -> Vec<u64> {
    let since = format!("{hours}h");
    let query = [
        ("query", r#"{app="x"}"#),
        ("limit", "1000"),
        ("since", &since),
    ];
    let url = path("/loki/api/v1/query_range", &query);
    let answer = request(address, "GET", &url).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let streams = answer["data"]["result"].as_array().unwrap();
    let lines = streams.iter().flat_map(|s| s["values"].as_array().unwrap());
    let number = |line: &serde_json::Value| {
        let text = line[1].as_str().unwrap();
        text.strip_prefix("row ").unwrap().parse().unwrap()
    };
    let mut lines: Vec<u64> = lines.map(number).collect();
    lines.sort_unstable();
    lines
}

fn spans_of(address: SocketAddr, hours: i64) -> Vec<u64> {
    let now = now_ms() / 1000;
    let (start, end) = ((now - hours * 3_600).to_string(), (now + 60).to_string());
    let query = [
        ("q", r#"{ name = "x" }"#),
        ("limit", "1000"),
        ("start", &start),
        ("end", &end),
    ];
    let url = path("/api/search", &query);
    let answer = request(address, "GET", &url).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let traces = answer["traces"].as_array().unwrap();
    let number = |trace: &serde_json::Value| {
        let id = trace["traceID"].as_str().unwrap();
        u64::from_str_radix(id.get(id.len() - 16..).unwrap_or(id), 16).unwrap()
    };
    let mut spans: Vec<u64> = traces.iter().map(number).collect();
    spans.sort_unstable();
    spans
}

pub(crate) fn all(rows: &[u64]) -> [Vec<u64>; 3] {
    [rows.to_vec(), rows.to_vec(), rows.to_vec()]
}

pub(crate) fn ship(running: &Running) {
    let answer = running.post("/flush").send();
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1_500 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}");
}

/// The names of all objects.
pub(crate) fn objects(bucket: &Path) -> Vec<String> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(bucket, bucket, &mut found);
    found.sort();
    found
}

#[test]
fn the_second_server_waits_until_the_first_has_gone() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, a, b) = (
        root.path().join("bucket"),
        root.path().join("a"),
        root.path().join("b"),
    );
    let first = start(&bucket, &a, "host-a");
    let ready = first.get("/ready").send();
    assert_eq!((ready.status, ready.text()), (200, "ready\n"));
    assert_eq!(write(&first, "x").status, 204);
    let second = start(&bucket, &b, "host-b");
    let told = format!(
        "not ready: file://{} is written to by host-a; takes over when its lease has run out\n",
        bucket.display()
    );
    for path in ["/ready", "/loki/ready", "/tempo/ready", "/-/ready"] {
        let ready = second.get(path).send();
        assert_eq!((ready.status, ready.text()), (503, &*told), "{path}");
        assert_eq!(ready.header("retry-after"), Some("1"), "{path}");
    }
    assert_eq!(second.get("/-/healthy").send().status, 200);
    let refused = write(&second, "x");
    assert_eq!(refused.status, 503);
    assert!(
        refused.text().contains("is written to by host-a"),
        "{refused:?}"
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    let metrics = second.get("/metrics").send();
    for line in ["trine_storage_lease_held 0\n", "trine_storage_epoch 0\n"] {
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
    first.stop();
    until("the second takes over", || {
        second.get("/ready").send().status == 200
    });
    assert_eq!(write(&second, "x").status, 204);
    let metrics = second.get("/metrics").send();
    for line in [
        "trine_storage_lease_held 1\n",
        "trine_storage_epoch 2\n",
        "trine_storage_errors_total{verb=\"put\"} 0\n",
        "# TYPE trine_storage_cache_bytes gauge\n",
    ] {
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
    // A restart on the same directory, after a crash, gets its lease at once.
    drop(second);
    let again = start(&bucket, &b, "host-b");
    assert_eq!(
        again.get("/-/ready").send().text(),
        "Prometheus Server is Ready.\n"
    );
    assert_eq!(write(&again, "x").status, 204);
    again.stop();
}

#[test]
fn who_only_reads_says_so_and_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, a, b) = (
        root.path().join("bucket"),
        root.path().join("a"),
        root.path().join("b"),
    );
    start(&bucket, &a, "host-a").stop();
    let before = objects(&bucket);
    let running = reader(&bucket, &b);
    assert_eq!(running.get("/ready").send().text(), "ready\n");
    let told = format!(
        "this server is read-only (--read-only); file://{} is written to by host-a",
        bucket.display()
    );
    let refused = write(&running, "x");
    assert_eq!((refused.status, refused.text().trim()), (403, &*told));
    assert_eq!(refused.header("retry-after"), None);
    for (path, kind, body) in [
        (
            "/loki/api/v1/push",
            "application/json",
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","x"]]}]}"#,
        ),
        (
            "/v1/logs",
            "application/json",
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#,
        ),
        (
            "/v1/metrics",
            "application/json",
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1","asInt":"1"}]}}]}]}]}"#,
        ),
        (
            "/v1/traces",
            "application/json",
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101","spanId":"0101010101010101","name":"x"}]}]}]}"#,
        ),
        (
            "/api/v2/spans",
            "application/json",
            r#"[{"traceId":"1","id":"2","timestamp":1}]"#,
        ),
        (
            "/api/v1/admin/tsdb/delete_series?match[]=x",
            "text/plain",
            "",
        ),
        ("/api/v1/admin/tsdb/clean_tombstones", "text/plain", ""),
        (
            "/loki/api/v1/delete?query=%7Ba%3D%22b%22%7D&start=1",
            "text/plain",
            "",
        ),
    ] {
        let answer = running.post(path).body(kind, body).send();
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert!(
            String::from_utf8_lossy(&answer.body).contains("is read-only"),
            "{path}: {answer:?}"
        );
    }
    let tail = path("/loki/api/v1/tail", &[("query", r#"{app="x"}"#)]);
    for tail in [tail.as_str(), "/api/prom/tail?query=%7Ba%3D%22b%22%7D"] {
        let answer = running.get(tail).send();
        assert_eq!(answer.status, 501, "{answer:?}");
        assert!(answer.text().contains("cannot be followed"), "{answer:?}");
    }
    // Queries of what nobody wrote are answered as ever.
    let answer = running.get("/api/v1/query?query=x").send();
    assert_eq!(answer.status, 200);
    running.stop();
    assert_eq!(objects(&bucket), before);
}

#[test]
fn a_bucket_that_is_no_good_ends_the_start() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let mut file = std::fs::File::create(root.path().join("file")).unwrap();
    std::io::Write::write_all(&mut file, b"x").unwrap();
    let in_the_way = format!("file://{}", root.path().join("file").display());
    for (url, expect) in [
        (in_the_way.as_str(), "cannot create "),
        ("nonsense://x/y", "the scheme is unknown"),
        (
            "s3://key:secret@bucket/x",
            "it has more than a bucket and a prefix",
        ),
    ] {
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            data_dir: dir.clone(),
            storage: trine_server::config::Storage {
                url: Some(url.to_owned()),
                ..Default::default()
            },
            ..Config::default()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = runtime.block_on(Server::start(config, LogLines::default()));
        let error = error.err().unwrap();
        assert!(error.contains(expect), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn what_was_shipped_is_answered_when_the_directory_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, dir) = (root.path().join("bucket"), root.path().join("a"));
    let first = start(&bucket, &dir, "host-a");
    write_row(first.address, 1);
    write_row(first.address, 2);
    ship(&first);
    write_row(first.address, 3);
    assert_eq!(rows(first.address), all(&[1, 2, 3]));
    let metrics = first.get("/metrics").send();
    let line = "trine_storage_unshipped_blocks{signal=\"logs\",tenant=\"anonymous\"} 0\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    // It ends without a word, and its disk with it.
    drop(first);
    std::fs::remove_dir_all(&dir).unwrap();
    let second = start(&bucket, &dir, "host-b");
    assert_eq!(second.get("/ready").send().status, 503, "the lease lasts");
    assert_eq!(rows(second.address), all(&[1, 2]));
    // By id, too.
    let id = "/api/traces/07070707070707070000000000000002";
    assert_eq!(second.get(id).send().status, 200);
    second.stop();
}

#[test]
fn who_only_reads_follows_who_writes() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, a, b) = (
        root.path().join("bucket"),
        root.path().join("a"),
        root.path().join("b"),
    );
    let writer = start(&bucket, &a, "host-a");
    let reader = reader(&bucket, &b);
    assert_eq!(rows(reader.address), all(&[]));
    for row in 1..4 {
        write_row(writer.address, row);
        ship(&writer);
        let until_now: Vec<u64> = (1..=row).collect();
        until("the reader follows", || {
            rows(reader.address) == all(&until_now)
        });
    }
    // What is deleted there is gone here.
    let now = now_ms() / 1000;
    let url = path(
        "/loki/api/v1/delete",
        &[
            ("query", r#"{app="x"} |= "row 2""#),
            ("start", &(now - 600).to_string()),
            ("end", &now.to_string()),
        ],
    );
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(writer.post(&url).send().status, 204);
    until("the reader follows the delete", || {
        rows(reader.address) == [vec![1, 2, 3], vec![1, 3], vec![1, 2, 3]]
    });
    assert_eq!(rows(writer.address), rows(reader.address));
    // It answers from what it has while the bucket is away.
    let away = root.path().join("away");
    std::fs::rename(&bucket, &away).unwrap();
    assert_eq!(
        rows(reader.address),
        [vec![1, 2, 3], vec![1, 3], vec![1, 2, 3]]
    );
    std::fs::rename(&away, &bucket).unwrap();
    reader.stop();
    writer.stop();
}

#[test]
fn the_next_writer_goes_on_where_the_last_one_shipped() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, a, b) = (
        root.path().join("bucket"),
        root.path().join("a"),
        root.path().join("b"),
    );
    let first = start(&bucket, &a, "host-a");
    let second = start(&bucket, &b, "host-b");
    write_row(first.address, 1);
    ship(&first);
    write_row(first.address, 2);
    until("the second follows", || rows(second.address) == all(&[1]));
    first.stop();
    until("the second takes over", || {
        second.get("/ready").send().status == 200
    });
    write_row(second.address, 3);
    ship(&second);
    assert_eq!(rows(second.address), all(&[1, 3]));
    // What the first had not shipped is on its disk, and is shipped when it writes again.
    let first = start(&bucket, &a, "host-a");
    assert_eq!(first.get("/ready").send().status, 503);
    assert_eq!(rows(first.address), all(&[1, 2, 3]));
    assert_eq!(first.post("/flush").send().status, 503);
    second.stop();
    until("the first takes over", || {
        first.get("/ready").send().status == 200
    });
    ship(&first);
    first.stop();
    let reader = reader(&bucket, &root.path().join("c"));
    assert_eq!(rows(reader.address), all(&[1, 2, 3]));
    reader.stop();
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_is_shipped_unasked() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, dir) = (root.path().join("bucket"), root.path().join("a"));
    let url = format!("file://{}", bucket.display());
    let flags = [
        "--storage",
        &url,
        "--web.enable-admin-api",
        "--self-observe=false",
    ];
    let process = Process::start_with(&dir, &flags);
    write_row(process.address, 1);
    let flushed = request(process.address, "POST", "/flush").send();
    assert_eq!(flushed.status, 204, "{flushed:?}");
    write_row(process.address, 2);
    // The same directory has its lease at once.
    let process = process.kill_and_restart();
    let ready = process.get("/ready").send();
    assert_eq!((ready.status, ready.text()), (200, "ready\n"));
    // Nobody has asked for the tenant since; it is there to be shipped.
    until("the disk is opened", || {
        let metrics = process.get("/metrics").send();
        metrics
            .text()
            .contains("trine_memory_rows{signal=\"logs\",tenant=\"anonymous\"}")
    });
    assert_eq!(rows(process.address), all(&[1, 2]));
    assert_eq!(process.terminate(), Some(0));
    let reader = reader(&bucket, &root.path().join("b"));
    assert_eq!(rows(reader.address), all(&[1]));
    reader.stop();
}

#[test]
fn a_bucket_that_is_away_stops_no_write_and_is_caught_up_with() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, a) = (root.path().join("bucket"), root.path().join("a"));
    let running = start(&bucket, &a, "host-a");
    write_row(running.address, 1);
    ship(&running);
    take_away(&bucket);
    write_row(running.address, 2);
    let answer = running.post("/flush").send();
    assert_eq!(answer.status, 503, "{answer:?}");
    write_row(running.address, 3);
    assert_eq!(rows(running.address), all(&[1, 2, 3]));
    until("probes are told", || {
        let ready = running.get("/ready").send();
        assert_eq!(ready.status, 200);
        let lines = ready.text().strip_prefix("ready\n").unwrap();
        lines.starts_with("storage: ") && lines.contains(" fails since ")
    });
    let told = running.get("/-/ready").send();
    assert!(
        told.text()
            .starts_with("Prometheus Server is Ready.\nstorage: "),
        "{told:?}"
    );
    // A delete would have to be known to all; it is refused and leaves nothing behind.
    let delete = running
        .post("/api/v1/admin/tsdb/delete_series?match[]=x")
        .send();
    assert_eq!(delete.status, 503, "{delete:?}");
    assert_eq!(rows(running.address), all(&[1, 2, 3]));
    bring_back(&bucket);
    ship(&running);
    until("it is over", || {
        running.get("/ready").send().text() == "ready\n"
    });
    running.stop();
    let reader = reader(&bucket, &root.path().join("c"));
    assert_eq!(rows(reader.address), all(&[1, 2, 3]));
    reader.stop();
}

#[test]
fn a_server_starts_without_its_bucket_on_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let bucket = at("bucket");
    let running = start(&bucket, &at("a"), "host-a");
    write_row(running.address, 1);
    ship(&running);
    write_row(running.address, 2);
    running.stop();
    // It has seen what is in the bucket, and opened none of it.
    reader(&bucket, &at("b")).stop();
    take_away(&bucket);
    let running = start(&bucket, &at("a"), "host-a");
    assert_eq!(rows(running.address), all(&[1, 2]));
    let ready = running.get("/ready").send();
    assert_eq!(ready.status, 503);
    let said = ready.text();
    assert!(
        said.starts_with("not ready: file://") && said.contains(" fails since "),
        "{said}"
    );
    assert!(
        said.contains("; answers from what is on its disk, takes writes once the bucket answers"),
        "{said}"
    );
    let refused = write(&running, "x");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(
        refused
            .text()
            .contains("has not answered since this server started"),
        "{refused:?}"
    );
    // What is not here is not told to be nowhere.
    let ignorant = reader(&bucket, &at("b"));
    let url = path("/api/v1/query", &[("query", "x")]);
    let answer = ignorant.get(&url).send();
    assert_eq!(answer.status, 503, "{answer:?}");
    // Whoever never saw the bucket does not begin without it.
    let mut config = Config {
        data_dir: at("c"),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ..Config::default()
    };
    over(&mut config, &bucket, "host-c");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(Server::start(config, LogLines::default()));
    let error = error.err().unwrap();
    assert!(error.contains("the store does not answer"), "{error}");
    bring_back(&bucket);
    until("it takes writes", || {
        running.get("/ready").send().text() == "ready\n"
    });
    write_row(running.address, 3);
    ship(&running);
    until("readers follow", || {
        ignorant.get(&url).send().status == 200 && rows(ignorant.address) == all(&[1, 2, 3])
    });
    ignorant.stop();
    running.stop();
}

/// Puts a file where the bucket's directory was: nothing can be read or written.
fn take_away(bucket: &Path) {
    std::fs::rename(bucket, bucket.with_extension("away")).unwrap();
    drop(std::fs::File::create(bucket).unwrap());
}

fn bring_back(bucket: &Path) {
    std::fs::remove_file(bucket).unwrap();
    std::fs::rename(bucket.with_extension("away"), bucket).unwrap();
}

#[test]
fn a_writer_whose_directory_was_empty_says_how_far_the_history_goes() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, dir) = (root.path().join("bucket"), root.path().join("a"));
    let first = start(&bucket, &dir, "host-a");
    write_row(first.address, 1);
    ship(&first);
    write_row(first.address, 2);
    first.stop();
    std::fs::remove_dir_all(&dir).unwrap();
    // Who only reads has lost nothing.
    let reader = reader(&bucket, &root.path().join("b"));
    assert_eq!(rows(reader.address), all(&[1]));
    assert_eq!(reader.get("/ready").send().text(), "ready\n");
    reader.stop();
    let second = start(&bucket, &dir, "host-a");
    until("it says how far the history goes", || {
        let ready = second.get("/ready").send();
        assert_eq!(ready.status, 200, "{ready:?}");
        ready.text().lines().count() == 4
    });
    let ready = second.get("/ready").send();
    for signal in ["metrics", "logs", "traces"] {
        let line = format!("storage: the {signal} of tenant anonymous were taken over from ");
        assert!(ready.text().contains(&line), "{ready:?}");
    }
    assert!(
        ready.text().contains("the newest shipped row is from 20"),
        "{ready:?}"
    );
    assert_eq!(rows(second.address), all(&[1]));
    second.stop();
    let third = start(&bucket, &dir, "host-a");
    assert_eq!(rows(third.address), all(&[1]));
    assert_eq!(third.get("/ready").send().text(), "ready\n");
    third.stop();
}
