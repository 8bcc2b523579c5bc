//! The queries of a log server's users, through the engine of LogQL over a store in a directory:
//! medians and processor time. `logstore_search fill DIR CORPUS` makes the store.
//! `cargo run --release -p trine-benches --example logql_queries -- DIR [THREADS] [NAME]`
//!
//! THREADS is how many cores queries may take (1 stands for a busy machine; without it, all); with
//! NAME, only queries that have it in theirs.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures with the real clock and ends at the first error"
)]

use std::time::{Duration, Instant};

use trine_benches::process::{cpu_seconds, memory};
use trine_logstore::{Config, LogStore};
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::source::Direction;
use trine_query::logql::{Engine, QueryValue, RangeQuery, parse};
use trine_storage::shared::Shared;

const SECOND: i64 = 1_000_000_000;
const HOURS: i64 = 6 * 3600 * SECOND;
/// The last instant of the lines.
const END_NS: i64 = 1_763_700_000_000_000_000;
/// No query is run more often, nor for longer once it was run three times.
const TIMES_MAX: usize = 15;
const SPENT_MAX: Duration = Duration::from_secs(3);

/// Name, limit of lines, query.
const QUERIES: &[(&str, usize, &str)] = &[
    (
        "needle_rare",
        1000,
        r#"{job="bench"} |= "needle-7f3a9c51e2""#,
    ),
    (
        "needle_absent",
        1000,
        r#"{job="bench"} |= "no-such-text-0000""#,
    ),
    (
        "regex_1app",
        1000,
        r#"{app="gateway"} |~ "status=50[34] .*user=u777 ""#,
    ),
    (
        "regex_all_rare",
        1000,
        r#"{job="bench"} |~ "needle-[0-9a-f]{10}""#,
    ),
    (
        "common_limit100",
        100,
        r#"{app="api"} |= "request completed""#,
    ),
    ("tail_limit100", 100, r#"{app="gateway", level="error"}"#),
    (
        "json_filter",
        1000,
        r#"{app="api"} | json | status=503 | duration_ms>3500"#,
    ),
    (
        "logfmt_filter",
        1000,
        r#"{app="gateway"} | logfmt | status=503 | duration>3500ms"#,
    ),
    (
        "json_user",
        1000,
        r#"{app="api"} |= "u4242" | json | user_id="u4242""#,
    ),
    (
        "json_equality",
        1000,
        r#"{app="api"} | json | user_id="u4242""#,
    ),
    (
        "logfmt_equality",
        1000,
        r#"{app="gateway"} | logfmt | user="u4242""#,
    ),
    (
        "count_by_level",
        0,
        r#"sum by (level) (count_over_time({job="bench"}[5m]))"#,
    ),
    (
        "rate_error_by_app",
        0,
        r#"sum by (app) (rate({job="bench"} |= "error" [5m]))"#,
    ),
    (
        "bytes_by_app",
        0,
        r#"sum by (app) (bytes_over_time({job="bench"}[5m]))"#,
    ),
    (
        "topk_path_json",
        0,
        r#"topk(5, sum by (path) (count_over_time({app="api"} | json [5m])))"#,
    ),
    (
        "quantile_json",
        0,
        r#"quantile_over_time(0.99, {app="api"} | json | unwrap duration_ms [5m]) by (path)"#,
    ),
    (
        "quantile_logfmt",
        0,
        r#"quantile_over_time(0.99, {app="gateway"} | logfmt | unwrap duration(duration) [5m]) by (upstream)"#,
    ),
    (
        "drilldown_json",
        0,
        r#"sum by (detected_level) (count_over_time({app="api"} | json | logfmt | drop __error__, __error_details__ [5m]))"#,
    ),
    (
        "drilldown_logfmt",
        0,
        r#"sum by (detected_level) (count_over_time({app="gateway"} | json | logfmt | drop __error__, __error_details__ [5m]))"#,
    ),
    (
        "drilldown_filtered",
        0,
        r#"sum by (detected_level) (count_over_time({app="api"} | detected_level != "" | json | logfmt | drop __error__, __error_details__ | status="503" [5m]))"#,
    ),
    ("count_streams", 0, r#"count_over_time({app="api"}[5m])"#),
    (
        "avg_unwrap",
        0,
        r#"sum by (path) (avg_over_time({app="api"} | json | unwrap duration_ms [5m]))"#,
    ),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a directory");
    let cores: usize = arguments.next().map_or(usize::MAX, |n| n.parse().unwrap());
    let only = arguments.next().unwrap_or_default();
    let config = Config {
        retention: None,
        ..Config::default()
    };
    let store = LogStore::builder(&dir)
        .config(config)
        .shared(Shared::without_workers())
        .open()
        .unwrap();
    let limits = Limits {
        threads_max: cores,
        ..Limits::default()
    };
    let engine = Engine::new(limits);
    for (name, limit, text) in QUERIES {
        if !name.contains(&only) {
            continue;
        }
        let query = parse(text).unwrap();
        let range = RangeQuery {
            start_ns: END_NS - HOURS,
            end_ns: END_NS,
            step_ns: 300 * SECOND,
            direction: Direction::Backward,
            limit: *limit,
            interval_ns: 0,
        };
        let run = || engine.range(&store.snapshot(), &query, range, &Cancel::new());
        let result = match run() {
            Ok(result) => result,
            Err(error) => {
                println!("{name:<20} {error}");
                continue;
            }
        };
        let (found, sum) = match &result.value {
            QueryValue::Streams(rows) => (rows.entries.len(), 0.0),
            QueryValue::Matrix(series) => {
                let points = series.iter().flat_map(|series| &series.points);
                (series.len(), points.map(|point| point.value).sum::<f64>())
            }
            QueryValue::Vector(_) | QueryValue::Scalar(_) => (0, 0.0),
        };
        let (mut walls, begun) = (Vec::new(), Instant::now());
        let cpu = cpu_seconds();
        while walls.len() < 3 || (walls.len() < TIMES_MAX && begun.elapsed() < SPENT_MAX) {
            let begun = Instant::now();
            run().unwrap();
            walls.push(begun.elapsed());
        }
        let cpu = (cpu_seconds() - cpu) / walls.len() as f64;
        walls.sort();
        println!(
            "{name:<20} {:>9.2} ms {cpu:>8.4} CPU-s  found {found} sum {sum:.3} lines {} of {}",
            walls[walls.len() / 2].as_secs_f64() * 1e3,
            result.stats.lines_passed,
            result.stats.lines_processed,
        );
    }
    println!("RssAnon {} MiB", memory("RssAnon") >> 10);
}
