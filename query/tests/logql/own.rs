//! Our own cases of the language, in `query/testdata/logql/language`: a line is a query, indented
//! lines below it are what is expected.
//!
//! - `print.txt`: the canonical form, or nothing where it is the query itself;
//! - `refuse.txt`: the text of the error;
//! - `layout.txt`: behind the longest line allowed, the query as `format_query` lays it out.
//!
//! The words `\n` and `\r` in a query stand for these characters where no string has them.

use std::fmt::Write as _;
use std::path::Path;

use trine_query::logql::parse;

/// A query with the lines below it, and where it stands.
struct Case {
    line: usize,
    query: String,
    body: String,
}

fn cases(file: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/logql/language");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        match (line.strip_prefix("  "), cases.last_mut()) {
            (Some(body), Some(case)) => {
                if !case.body.is_empty() {
                    case.body.push('\n');
                }
                case.body.push_str(body);
            }
            _ => cases.push(Case {
                line: i + 1,
                query: line.replace(" \\n ", "\n"),
                body: String::new(),
            }),
        }
    }
    cases
}

fn check(file: &str, least: usize, check: impl Fn(&Case) -> Result<(), String>) {
    let cases = cases(file);
    let mut wrong = String::new();
    for case in &cases {
        if let Err(problem) = check(case) {
            writeln!(wrong, "{file}:{}: {}\n{problem}", case.line, case.query).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(cases.len() >= least, "{file} has only {}", cases.len());
}

fn same(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("found\n{found}\nexpected\n{expected}"))
}

#[test]
fn queries_print_in_canonical_form() {
    check("print.txt", 60, |case| {
        let expr = parse(&case.query).map_err(|error| error.to_string())?;
        let expected = match case.body.as_str() {
            "" => &case.query,
            body => body,
        };
        same(&expr.to_string(), expected)?;
        let again = parse(expected).map_err(|error| error.to_string())?;
        same(&again.to_string(), expected)
    });
}

#[test]
fn queries_are_refused_in_these_words() {
    check("refuse.txt", 120, |case| match parse(&case.query) {
        Ok(expr) => Err(format!("is read as {expr}")),
        Err(error) => same(&error.to_string(), &case.body),
    });
}

#[test]
fn queries_are_laid_out() {
    check("layout.txt", 20, |case| {
        let (line_max, query) = case.query.split_once(' ').unwrap();
        let line_max = line_max.parse().unwrap();
        let expr = parse(query).map_err(|error| error.to_string())?;
        let pretty = expr.pretty_within(line_max);
        same(&pretty, &case.body)?;
        let again = parse(&pretty).map_err(|error| error.to_string())?;
        same(&again.to_string(), &expr.to_string())?;
        same(&again.pretty_within(line_max), &pretty)
    });
}
