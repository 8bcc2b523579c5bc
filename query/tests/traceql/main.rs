//! Runs TraceQL's conformance cases where the environment variable `TRINE_CONFORMANCE` (or
//! `../shared/conformance` beside the workspace) has them: every list of every YAML file of the
//! folder `traceql`, and the queries of dashboards.

#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]
#![expect(clippy::disallowed_methods, reason = "reads files, which have no Fs")]

#[path = "../cases/cases.rs"]
mod cases;
mod compat;
mod dashboards;
mod eval;
mod memory;
mod metrics;
mod own;
mod parse;
mod relations;
#[path = "../cases/scripts.rs"]
mod scripts;
mod search;
mod searches;
mod series;
mod spans;
mod trees;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cases::{conformance, files, listed, say};
use serde_json::{Map, Value};
use serde_saphyr::NonFiniteFloatPolicy;

/// Checks a case; the error says what is wrong with it.
type Check = fn(&Value) -> Result<(), String>;

/// The check that a list's cases need; `None` for a list that nobody knows. Lists of one name in
/// several files are told apart by what their cases have.
fn check_of(list: &str, case: &Value) -> Option<Check> {
    let has = |field: &str| case.get(field).is_some();
    match list {
        "cases" if has("valid") => Some(parse::case),
        "cases" if has("input") => eval::check_of(list),
        "cases" if has("matches") || has("contains_span") => search::check_of(list),
        "cases" if has("series") => metrics::check_of(list),
        "valid" => Some(parse::valid),
        "unsupported" => Some(parse::unsupported),
        "parse_fails" => Some(parse::parse_fails),
        "validate_fails" => Some(parse::validate_fails),
        "tokens" => Some(parse::tokens_of),
        "durations" => Some(parse::duration),
        "binary_ops" | "equality" => eval::check_of(list),
        "groups" => relations::check_of(list),
        "tag_values" | "tag_names" => search::check_of(list),
        "tables" => metrics::check_of(list),
        _ => None,
    }
}

/// The cases of a list: of groups those of each group, which take the group's `spans` along; of
/// named tables `{"table": name, "rows": [...]}` for each.
fn cases_of(list: &Value) -> Vec<Value> {
    if let Some(tables) = list.as_object() {
        let table = |(name, rows): (&String, &Value)| {
            let fields = [("table", Value::from(name.clone())), ("rows", rows.clone())];
            Value::Object(
                fields
                    .map(|(name, value)| (name.to_owned(), value))
                    .into_iter()
                    .collect(),
            )
        };
        return tables.iter().map(table).collect();
    }
    let mut cases = Vec::new();
    for found in list.as_array().into_iter().flatten() {
        let Some(inner) = found.get("cases").and_then(Value::as_array) else {
            cases.push(found.clone());
            continue;
        };
        for case in inner {
            let mut fields: Map<String, Value> = case.as_object().unwrap().clone();
            fields.insert("spans".to_owned(), found["spans"].clone());
            cases.push(Value::Object(fields));
        }
    }
    cases
}

/// Asserts that two texts are the same.
fn same(what: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{what}\n      found    {found}\n      expected {expected}"
    ))
}

/// The text of a field; empty where it is missing.
fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or("")
}

/// What became of a list.
#[derive(Default)]
struct Tally {
    cases: usize,
    /// Number (from 1) and reason of those that failed.
    failures: Vec<(usize, String)>,
}

fn run(list: &str, cases: &[Value]) -> Option<Tally> {
    let mut tally = Tally::default();
    for (i, case) in cases.iter().enumerate() {
        let check = check_of(list, case)?;
        tally.cases += 1;
        if let Err(reason) = check(case) {
            tally.failures.push((i + 1, reason));
        }
    }
    Some(tally)
}

fn yaml(text: &str) -> Value {
    let options = serde_saphyr::options! {
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_str_with_options(text, options).unwrap_or_else(|error| panic!("{error}"))
}

/// The cases that are known to fail.
fn known_failures() -> BTreeSet<String> {
    listed(include_str!("../../testdata/traceql_known_failures.txt"))
}

#[test]
fn conformance_cases() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
    };
    let mut known = known_failures();
    let (mut passed, mut cases, mut wrong) = (0, 0, String::new());
    for path in files(&folder.join("traceql"), "yaml") {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let document = yaml(&std::fs::read_to_string(&path).unwrap());
        for (list, found) in document.as_object().into_iter().flatten() {
            let found = cases_of(found);
            if found.is_empty() {
                continue;
            }
            let Some(tally) = run(list, &found) else {
                continue;
            };
            let good = tally.cases - tally.failures.len();
            say(&format!(
                "traceql {stem} {list}: {good} of {} passed",
                tally.cases
            ));
            (passed, cases) = (passed + good, cases + tally.cases);
            for (number, reason) in tally.failures {
                let place = format!("{stem}:{list}:{number}");
                if !known.remove(&place) {
                    writeln!(wrong, "{place}: {reason}").unwrap();
                }
            }
        }
    }
    say(&format!("traceql: {passed} of {cases} passed"));
    for place in known {
        writeln!(
            wrong,
            "{place} passes now (or is no case): take it off the list"
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
