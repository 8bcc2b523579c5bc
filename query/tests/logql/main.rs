//! Runs LogQL's conformance cases where the environment variable `TRINE_CONFORMANCE` (or
//! `../shared/conformance` beside the workspace) has them: every list of every YAML file of the
//! folder `logql`, and the queries of dashboards.

#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]
#![expect(clippy::disallowed_methods, reason = "reads files, which have no Fs")]

#[path = "../cases/cases.rs"]
mod cases;
mod dashboards;
mod generate;
mod memory;
mod metric;
mod own;
mod parse;
mod pipeline;
#[path = "../cases/scripts.rs"]
mod scripts;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cases::{conformance, files, listed, say};
use serde_json::Value;
use serde_saphyr::NonFiniteFloatPolicy;

/// Checks a case; the error says what is wrong with it.
type Check = fn(&Value) -> Result<(), String>;

/// The check that a list's cases need; `None` for a list that nobody knows.
fn check_of(list: &str, case: &Value) -> Option<Check> {
    Some(match list {
        "cases" if case.get("group").is_some() => pipeline::case,
        "cases" => parse::case,
        "level_cases" => pipeline::level,
        "lexer_cases" => parse::lexer,
        "duration_cases" => parse::duration,
        "label_set_cases" => parse::label_set,
        "queries" => parse::query,
        "scenarios" => metric::scenario,
        _ => return None,
    })
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
    listed(include_str!("../../testdata/logql_known_failures.txt"))
}

#[test]
fn conformance_cases() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
    };
    let mut known = known_failures();
    let (mut passed, mut cases, mut wrong) = (0, 0, String::new());
    for path in files(&folder.join("logql"), "yaml") {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let document = yaml(&std::fs::read_to_string(&path).unwrap());
        for (list, found) in document.as_object().into_iter().flatten() {
            let Some(tally) = run(list, found.as_array().map_or(&[], Vec::as_slice)) else {
                continue;
            };
            let good = tally.cases - tally.failures.len();
            say(&format!(
                "logql {stem} {list}: {good} of {} passed",
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
    say(&format!("logql: {passed} of {cases} passed"));
    for place in known {
        writeln!(
            wrong,
            "{place} passes now (or is no case): take it off the list"
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
