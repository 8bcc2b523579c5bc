//! `COMPAT.md` held against the code: every row has what it says, everything that is there has its
//! row.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use trine_query::promql::functions;

use super::super::run::harness::Harness;
use super::super::status::{OPERATORS, SYNTAX, call, operation};
use crate::routes;

const PAGE: &str = include_str!("../../../../../COMPAT.md");

/// The rows of the table under a heading: the name of each, without its quotes, and its other cells.
fn rows(heading: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let (_, section) = PAGE.split_once(&format!("\n{heading}\n")).expect(heading);
    let lines = section.lines().take_while(|line| !line.starts_with('#'));
    let rows: Vec<_> = lines.filter_map(row).collect();
    assert!(!rows.is_empty(), "{heading}");
    let names: BTreeSet<&str> = rows.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), rows.len(), "{heading}: a name is there twice");
    rows
}

fn row(line: &'static str) -> Option<(&'static str, Vec<&'static str>)> {
    let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
    let cells: Vec<&str> = rest.split('|').map(str::trim).collect();
    Some((name, cells))
}

/// Whether a row says that the thing is there.
fn is_there(name: &str, state: &str) -> bool {
    assert!(
        matches!(state, "full" | "partial" | "no"),
        "{name}: {state:?} is no state"
    );
    state != "no"
}

/// Expects the table to have just the names of `queries`, and those that it says are there to be
/// evaluated, the others to be refused.
async fn check(heading: &str, queries: impl IntoIterator<Item = (&str, String)>) {
    let harness = super::filled();
    let told = rows(heading);
    let queries: Vec<(&str, String)> = queries.into_iter().collect();
    let names: BTreeSet<&str> = told.iter().map(|(name, _)| *name).collect();
    let code: BTreeSet<&str> = queries.iter().map(|(name, _)| *name).collect();
    let difference: Vec<_> = names.symmetric_difference(&code).collect();
    assert!(
        difference.is_empty(),
        "{heading}: in one of table and code only: {difference:?}"
    );
    for (name, cells) in told {
        let (_, query) = queries.iter().find(|(n, _)| *n == name).unwrap();
        // Two steps, so that what asks for their distance has one; over series that exist.
        let query = query
            .replace("a[", "up[")
            .replace("(a)", "(up)")
            .replace(", a)", ", up)");
        let query = utf8_percent_encode(&query, NON_ALPHANUMERIC).to_string();
        let form = format!("query={query}&start=1700000010&end=1700000020&step=10");
        let answer = harness.post("/api/v1/query_range", &form).await;
        let expect = if is_there(name, cells[0]) { 200 } else { 400 };
        assert_eq!(answer.status, expect, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_language() {
    let all = functions::all().iter();
    check(
        "### Functions",
        all.map(|function| (function.name, call(function))),
    )
    .await;
    let operators = OPERATORS.iter().map(|op| (*op, operation(op)));
    check("### Operators and aggregations", operators).await;
    let parts = SYNTAX
        .iter()
        .map(|(name, query)| (*name, (*query).to_owned()));
    check("### Syntax", parts).await;
}

/// Headings of routes, and under which prefix they are there as well.
const ROUTES: [(&str, Option<&str>); 6] = [
    ("## Routes of Prometheus and Mimir", Some("/prometheus")),
    ("## Routes for writing", None),
    ("## Routes of Loki", Some("/loki")),
    ("## Routes of Tempo", Some("/tempo")),
    ("## Routes of Jaeger", Some("/jaeger")),
    ("## Routes of the server", None),
];

#[test]
fn every_route_has_a_row() {
    let mut told = BTreeSet::new();
    for (heading, prefix) in ROUTES {
        for (path, cells) in rows(heading) {
            if is_there(path, cells[1]) {
                told.insert(path.to_owned());
                told.extend(prefix.map(|prefix| format!("{prefix}{path}")));
            }
        }
    }
    let routes = routes::all();
    let code: BTreeSet<String> = routes.paths().iter().cloned().collect();
    let difference: Vec<_> = told.symmetric_difference(&code).collect();
    assert!(
        difference.is_empty(),
        "in one of table and code only: {difference:?}"
    );
}

#[tokio::test]
async fn every_row_has_a_route_with_its_methods() {
    let harness = Harness::new(|_, _| routes::all(), |_| {});
    for (heading, _) in ROUTES {
        for (path, cells) in rows(heading) {
            let concrete = path
                .replace("{name}", "x")
                .replace("{*name}", "x")
                .replace("{id}", "x");
            for method in cells[0].split(' ') {
                let request = Request::builder().method(method).uri(&concrete);
                let answer = harness.send(request.body(Body::empty()).unwrap()).await;
                // What is not routed has no text; `/api/v1/label/...` would match other names.
                let refused =
                    answer.status == 405 || answer.status == 404 && answer.body.is_empty();
                assert_eq!(
                    !refused,
                    is_there(path, cells[1]),
                    "{method} {path}: {}",
                    answer.status
                );
            }
        }
    }
}
