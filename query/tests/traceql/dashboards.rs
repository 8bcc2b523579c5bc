//! The TraceQL of real dashboards: every query parses.

use std::fmt::Write as _;

use trine_query::traceql::parse;

use super::cases::{conformance, files, say, substituted};
use super::text;

#[test]
fn queries_of_dashboards() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
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
            match parse(&query) {
                Ok(_) => parsed += 1,
                Err(error) => writeln!(wrong, "{file}:{number}: {error}\n    {query}").unwrap(),
            }
        }
    }
    say(&format!(
        "traceql dashboards queries: {parsed} of {total} passed"
    ));
    assert!(wrong.is_empty(), "\n{wrong}");
}
