//! A client that goes away takes its query with it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::Running;
use crate::query::path;
use crate::wire::{now_ms, push_request, series, snappy, write_request};

/// Series and samples: together minutes of work for the query below.
const SERIES: usize = 100;
const SAMPLES: i64 = 3_600;

/// Pushes of logs, and lines of each.
const LOG_PUSHES: i64 = 2;
const LOG_LINES: i64 = 20_000;

#[test]
fn a_client_that_hangs_up_frees_its_place() {
    let dir = tempfile::tempdir().unwrap();
    // One query at a time: the second waits until the first is gone.
    let running = Running::start(dir.path(), |config| config.queries_max = 1);
    let end = now_ms() / 1000;
    let times = end - SAMPLES..end;
    let samples: Vec<(i64, f64)> = times.map(|t| (t * 1000, (t % 97) as f64)).collect();
    let of = |number: usize| {
        let job = number.to_string();
        series(&[("__name__", "up"), ("job", &job)], &samples)
    };
    let body = snappy(&write_request((0..SERIES).map(of).collect()));
    let write = running
        .post("/api/v1/write")
        .body("application/x-protobuf", body);
    assert_eq!(write.send().status, 204);

    let heavy = path(
        "/api/v1/query_range",
        &[
            ("query", "quantile_over_time(0.9, up[1h])"),
            ("start", &(end - 3_600).to_string()),
            ("end", &end.to_string()),
            ("step", "1"),
        ],
    );
    hang_up(&running, &heavy);
    running.stop();
}

/// Asks and hangs up; another query then gets the place that there is.
fn hang_up(running: &Running, heavy: &str) {
    let mut client = TcpStream::connect(running.address).unwrap();
    let request = format!("GET {heavy} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    // Long enough for it to have its place, far too short for its answer.
    client
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let nothing = client.read(&mut [0; 1]);
    assert!(
        nothing.is_err(),
        "the query was not heavy enough: {nothing:?}"
    );
    let waiting = running.get("/api/v1/query?query=1&time=1");
    drop(client);
    // The test's client waits for half a minute, which the query would not.
    assert_eq!(waiting.send().status, 200);
}

#[test]
fn so_does_a_client_that_reads_logs() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| config.queries_max = 1);
    let now = now_ms();
    for part in 0..LOG_PUSHES {
        let lines: Vec<(i64, String)> = (0..LOG_LINES)
            .map(|i| {
                (
                    now - 3_600_000 + i * 180 + part,
                    format!("k={i} trace={part:08x}"),
                )
            })
            .collect();
        let lines: Vec<(i64, &str)> = lines
            .iter()
            .map(|(at, line)| (*at, line.as_str()))
            .collect();
        let push = running.post("/loki/api/v1/push");
        let body = snappy(&push_request("{app=\"a\"}", &lines));
        let push = push.body("application/x-protobuf", body).send();
        assert_eq!(push.status, 204);
    }
    let window = "quantile_over_time(0.9, {app=\"a\"} | logfmt | unwrap k [1h])";
    let parsed = "sum by (x) (rate({app=\"a\"} | logfmt | regexp \"(?P<x>[0-9a-f]+)$\" [1m]))";
    for part in [window, parsed] {
        let query = vec![part; 100].join(" + ");
        let heavy = path(
            "/loki/api/v1/query_range",
            &[
                ("query", query.as_str()),
                ("start", &(now / 1000 - 3_600).to_string()),
                ("end", &(now / 1000).to_string()),
                ("step", "1"),
            ],
        );
        hang_up(&running, &heavy);
    }
    running.stop();
}
