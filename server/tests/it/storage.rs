//! A server over a bucket: who writes, who waits, who only reads, and what probes are told. The bucket
//! is a directory.

use std::path::Path;
use std::time::{Duration, Instant};

use trine_server::observe::log_lines::LogLines;
use trine_server::{Config, Server};

use crate::client::Response;
use crate::harness::Running;
use crate::wire::{now_ms, series, snappy, write_request};

/// A server on `dir` over the bucket.
fn start(bucket: &Path, dir: &Path, name: &str) -> Running {
    Running::start(dir, |config| over(config, bucket, name))
}

fn reader(bucket: &Path, dir: &Path) -> Running {
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

/// Waits until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The names of all objects.
fn objects(bucket: &Path) -> Vec<String> {
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
            "/loki/api/v1/delete?query={a=\"b\"}&start=1",
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
