//! `kill -9` while all three signals come in: what was acknowledged is there after a restart, once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::client::request;
use crate::process::Process;
use crate::query::path;
use crate::wire::{now_ms, push_request, series, snappy, write_request};

/// Each request carries this many samples, lines or spans.
const ROWS: u64 = 20;

/// What one sender was told. Rows are numbered from 0 without a gap.
#[derive(Default)]
struct Told {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// The row after the last acknowledged one.
    last: AtomicU64,
}

/// Sends batch after batch until the server is gone.
fn send(
    address: SocketAddr,
    told: &Told,
    stop: &AtomicBool,
    to: &str,
    ok: u16,
    body: impl Fn(u64) -> Vec<u8>,
) {
    while !stop.load(Ordering::SeqCst) {
        let first = told.sent.fetch_add(ROWS, Ordering::SeqCst);
        let post = request(address, "POST", to).body("application/x-protobuf", body(first));
        match post.try_send() {
            Some(answer) if answer.status == ok => {
                told.acknowledged.fetch_add(ROWS, Ordering::SeqCst);
                told.last.store(first + ROWS, Ordering::SeqCst);
            }
            _ => return,
        }
    }
}

fn samples(first: u64, now: i64) -> Vec<u8> {
    let samples: Vec<(i64, f64)> = (first..first + ROWS)
        .map(|row| (now - 600_000 + row as i64, row as f64))
        .collect();
    snappy(&write_request(vec![series(
        &[("__name__", "killed")],
        &samples,
    )]))
}

fn lines(first: u64, now: i64) -> Vec<u8> {
    let lines: Vec<String> = (first..first + ROWS)
        .map(|row| format!("row {row}"))
        .collect();
    let entries: Vec<(i64, &str)> = lines.iter().map(|line| (now, line.as_str())).collect();
    snappy(&push_request(r#"{app="killed"}"#, &entries))
}

fn spans(first: u64, now: i64) -> Vec<u8> {
    let span = |row: u64| Span {
        trace_id: [&[7; 8][..], &(row + 1).to_be_bytes()].concat(),
        span_id: (row + 1).to_be_bytes().to_vec(),
        name: "killed".into(),
        start_time_unix_nano: now as u64 * 1_000_000,
        end_time_unix_nano: now as u64 * 1_000_000 + 1,
        ..Span::default()
    };
    let scope = ScopeSpans {
        spans: (first..first + ROWS).map(span).collect(),
        ..Default::default()
    };
    let resource = ResourceSpans {
        scope_spans: vec![scope],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource],
    }
    .encode_to_vec()
}

/// One number out of an instant query.
fn count(process: &Process, api: &str, query: &str) -> u64 {
    let answer = process.get(&path(api, &[("query", query)])).send().json();
    let value = answer["data"]["result"][0]["value"][1].as_str();
    value.unwrap_or("0").parse().unwrap()
}

fn check(what: &str, found: u64, told: &Told) {
    let acknowledged = told.acknowledged.load(Ordering::SeqCst);
    let sent = told.sent.load(Ordering::SeqCst);
    assert!(
        acknowledged > 0,
        "{what}: nothing was acknowledged before the kill"
    );
    assert!(
        found >= acknowledged,
        "{what}: {acknowledged} were acknowledged, {found} are there"
    );
    assert!(found <= sent, "{what}: {sent} were sent, {found} are there");
}

#[test]
fn what_was_acknowledged_survives_a_kill_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path());
    let now = now_ms();
    let (metrics, logs, traces) = (Told::default(), Told::default(), Told::default());
    for _ in 0..3 {
        let address = process.address;
        let stop = AtomicBool::new(false);
        // Rows go on where the kill cut them off: a batch that was not acknowledged is not sent
        // again, so that nothing could be counted twice for that reason.
        process = std::thread::scope(|scope| {
            let stop = &stop;
            let (metrics, logs, traces) = (&metrics, &logs, &traces);
            let started =
                [metrics, logs, traces].map(|told| told.acknowledged.load(Ordering::SeqCst));
            scope.spawn(move || {
                send(address, metrics, stop, "/api/v1/write", 204, |row| {
                    samples(row, now)
                });
            });
            scope.spawn(move || {
                send(address, logs, stop, "/loki/api/v1/push", 204, |row| {
                    lines(row, now)
                });
            });
            scope.spawn(move || {
                send(address, traces, stop, "/v1/traces", 200, |row| {
                    spans(row, now)
                });
            });
            for _ in 0..3_000 {
                let far = [metrics, logs, traces]
                    .iter()
                    .zip(started)
                    .all(|(told, started)| {
                        told.acknowledged.load(Ordering::SeqCst) >= started + 10 * ROWS
                    });
                if far {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let process = process.kill_and_restart();
            stop.store(true, Ordering::SeqCst);
            process
        });
        let found = count(&process, "/api/v1/query", "count_over_time(killed[1h])");
        check("samples", found, &metrics);
        let query = r#"count_over_time({app="killed"}[1h])"#;
        check("lines", count(&process, "/loki/api/v1/query", query), &logs);
        let search = [("q", r#"{ name = "killed" }"#), ("limit", "200000")];
        let found = process.get(&path("/api/search", &search)).send().json();
        check(
            "spans",
            found["traces"].as_array().unwrap().len() as u64,
            &traces,
        );
        // By id too, the last one that was acknowledged.
        let last = traces.last.load(Ordering::SeqCst);
        let id = format!("/api/traces/0707070707070707{last:016x}");
        assert_eq!(process.get(&id).send().status, 200, "{id}");
    }
}

#[test]
fn a_term_signal_stops_in_order_and_a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let second = process.second();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    let body = samples(0, now_ms());
    let post = request(process.address, "POST", "/api/v1/write");
    assert_eq!(post.body("application/x-protobuf", body).send().status, 204);
    assert_eq!(process.terminate(), Some(0));
    let process = Process::start(dir.path());
    assert_eq!(
        count(&process, "/api/v1/query", "count_over_time(killed[1h])"),
        ROWS
    );
    assert!(
        process.anonymous_kb() < 40_000,
        "{} kB idle",
        process.anonymous_kb()
    );
}
