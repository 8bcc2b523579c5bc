//! The LogQL of real dashboards: every query parses, and runs without error over entries that have
//! what it looks for.

use std::fmt::Write as _;
use std::path::Path;

use trine_logstore::{Durability, LogStore};
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::ast::Expr;
use trine_query::logql::source::Direction;
use trine_query::logql::{Engine, QueryError, QueryValue, RangeQuery, parse};
use trine_storage::clock::{Clock as _, SystemClock};

use super::cases::{conformance, files, say, substituted};
use super::generate::entries_for;
use super::text;

/// A query of a file.
pub(super) struct Found {
    /// `file:number`
    pub(super) place: String,
    /// The query with values for variables.
    pub(super) query: String,
}

/// The LogQL of all files of a folder.
pub(super) fn queries(folder: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for path in files(folder, "json") {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let document: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let queries = document["queries"].as_array();
        let of_loki = |query: &&serde_json::Value| query["datasource"] == "loki";
        for (number, query) in queries.into_iter().flatten().filter(of_loki).enumerate() {
            found.push(Found {
                place: format!("{file}:{number}"),
                query: substituted(text(query, "expr")),
            });
        }
    }
    found
}

/// What running a query showed.
pub(super) enum Outcome {
    Something,
    Nothing,
    Unsupported(String),
    Error(String),
}

const SECOND: i64 = 1_000_000_000;

/// Runs a query over a store that has what it looks for.
pub(super) fn run(expr: &Expr) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    let now = SystemClock::new().now_ns() / (60 * SECOND) * 60 * SECOND;
    let mut appender = store.appender();
    for (i, entry) in entries_for(expr).iter().enumerate() {
        for minute in 0..5 {
            let at = now - (minute * 60 + 15) * SECOND - i as i64;
            appender.append(&entry.stream, at, entry.line.as_bytes(), &entry.metadata);
        }
    }
    let committed = appender.commit(Durability::Buffered).unwrap();
    committed.wait().unwrap();
    let engine = Engine::new(Limits::default());
    let range = RangeQuery {
        start_ns: now - 300 * SECOND,
        end_ns: now,
        step_ns: 60 * SECOND,
        direction: Direction::Backward,
        limit: 100,
        interval_ns: 0,
    };
    let snapshot = store.snapshot();
    match engine.range(&snapshot, expr, range, &Cancel::new()) {
        Ok(result) => {
            let something = match result.value {
                QueryValue::Streams(rows) => !rows.entries.is_empty(),
                QueryValue::Matrix(series) => !series.is_empty(),
                QueryValue::Vector(samples) => !samples.is_empty(),
                QueryValue::Scalar(_) => true,
            };
            if something {
                Outcome::Something
            } else {
                Outcome::Nothing
            }
        }
        Err(QueryError::Unsupported(what)) => Outcome::Unsupported(what),
        Err(error) => Outcome::Error(error.to_string()),
    }
}

#[test]
fn queries_of_dashboards() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
    };
    let queries = queries(&folder.join("dashboards"));
    let (mut parsed, mut ran, mut found) = (0, 0, 0);
    let (mut wrong, mut empty) = (String::new(), String::new());
    for Found { place, query } in &queries {
        let expr = match parse(query) {
            Ok(expr) => expr,
            Err(error) => {
                writeln!(wrong, "{place}: {error}\n    {query}").unwrap();
                continue;
            }
        };
        parsed += 1;
        match run(&expr) {
            Outcome::Something => (ran, found) = (ran + 1, found + 1),
            Outcome::Nothing => {
                ran += 1;
                writeln!(empty, "{place} finds nothing: {query}").unwrap();
            }
            Outcome::Unsupported(what) => writeln!(empty, "{place}: {what}").unwrap(),
            Outcome::Error(error) => {
                writeln!(wrong, "{place} {error}\n    {query}").unwrap();
            }
        }
    }
    let total = queries.len();
    say(&format!(
        "logql dashboards queries: {parsed} of {total} passed"
    ));
    say(&format!(
        "logql dashboards: {parsed} of {total} parse, {ran} run, {found} find something"
    ));
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(
        found * 10 >= total * 9,
        "less than nine in ten find something\n{empty}"
    );
}
