//! The TraceQL of real dashboards: every query parses, and every search runs without error.

use std::fmt::Write as _;

use serde_json::json;
use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::{Engine, SearchOptions, parse};
use trine_storage::TimeRange;

use super::cases::{conformance, files, say, substituted};
use super::memory::Memory;
use super::spans::Span;
use super::text;

/// A trace of a slow server span with an erroneous client span below it.
pub(super) fn trace() -> Vec<Span> {
    let root = json!({
        "id": "01", "start_ns": 1, "duration_ns": 2_000_000_000_i64,
        "nested_set": {"left": 1, "right": 4, "parent": -1},
        "attributes": {"name": {"string": "GET /"}, "kind": {"kind": "server"},
            "status": {"status": "ok"}, "resource.service.name": {"string": "shop"},
            "rootName": {"string": "GET /"}, "rootServiceName": {"string": "shop"}},
    });
    let child = json!({
        "id": "02", "start_ns": 2, "duration_ns": 1_000_000_000_i64,
        "nested_set": {"left": 2, "right": 3, "parent": 1},
        "attributes": {"name": {"string": "pay"}, "kind": {"kind": "client"},
            "status": {"status": "error"}, "resource.service.name": {"string": "shop"},
            "event.exception.type": {"string": "Timeout"}, "span.tries": {"int_array": [1, 2]}},
    });
    Span::list(&json!([root, child]))
}

#[test]
fn queries_of_dashboards() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
    };
    let source = Memory {
        traces: vec![trace()],
    };
    let engine = Engine::new(Limits::default());
    let options = SearchOptions {
        limit: 10,
        spans_per_span_set: 3,
    };
    let (mut parsed, mut total, mut wrong) = (0, 0, String::new());
    for path in files(&folder.join("dashboards"), "json") {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let document: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let queries = document["queries"].as_array();
        let of_tempo = |query: &&serde_json::Value| query["datasource"] == "tempo";
        for (number, query) in queries.into_iter().flatten().filter(of_tempo).enumerate() {
            let query = substituted(text(query, "expr"));
            total += 1;
            let read = match parse(&query) {
                Ok(read) => read,
                Err(error) => {
                    writeln!(wrong, "{file}:{number}: {error}\n    {query}").unwrap();
                    continue;
                }
            };
            parsed += 1;
            if read.search().is_none() {
                continue;
            }
            let range = TimeRange::ALL;
            if let Err(error) = engine.search(&source, &read, range, &options, &Cancel::new()) {
                writeln!(wrong, "{file}:{number}: {error}\n    {query}").unwrap();
            }
        }
    }
    say(&format!(
        "traceql dashboards queries: {parsed} of {total} passed"
    ));
    assert!(wrong.is_empty(), "\n{wrong}");
}
