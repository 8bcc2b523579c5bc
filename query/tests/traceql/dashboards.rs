//! The TraceQL of real dashboards: every query parses, runs and finds something.

use std::fmt::Write as _;

use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::{Engine, MetricSeries, SearchOptions, parse};
use trine_storage::TimeRange;

use super::cases::{conformance, files, say, substituted};
use super::metrics::{self, ask};
use super::series::Script;
use super::text;

#[test]
fn queries_of_dashboards() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
    };
    let script = include_str!("../../testdata/traceql/dashboards.spans");
    let source = Script::read(script).store.snapshot();
    const SECOND: i64 = 1_000_000_000;
    let times = (1_700_000_000 * SECOND, 1_700_000_060 * SECOND, 60 * SECOND);
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
            let found = if read.search().is_some() {
                let (range, cancel) = (TimeRange::ALL, Cancel::new());
                let found = engine.search(&source, &read, range, &options, &cancel);
                found
                    .map(|found| found.traces.len())
                    .map_err(|error| error.to_string())
            } else {
                let found = ask(&source, &query, &metrics::options(times, false));
                let has_value =
                    |series: &MetricSeries| series.samples.iter().any(|(_, value)| *value > 0.0);
                found.map(|found| found.iter().filter(|one| has_value(one)).count())
            };
            match found {
                Ok(1..) => {}
                Ok(_) => writeln!(wrong, "{file}:{number}: finds nothing\n    {query}").unwrap(),
                Err(error) => writeln!(wrong, "{file}:{number}: {error}\n    {query}").unwrap(),
            }
        }
    }
    say(&format!(
        "traceql dashboards queries: {parsed} of {total} passed"
    ));
    assert!(wrong.is_empty(), "\n{wrong}");
}
