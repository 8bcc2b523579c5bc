//! Scripts of our own cases: a line is a query, indented lines below it are what is expected.
//!
//! Empty lines and lines that begin with `//` are none. The word `\n` in a query, between blanks,
//! stands for a line feed.

use std::fmt::Write as _;
use std::path::Path;

/// A query with the lines below it, and where it stands.
pub(crate) struct Case {
    pub(crate) line: usize,
    pub(crate) query: String,
    pub(crate) body: String,
}

/// The cases of a file of `query/testdata`.
pub(crate) fn cases(file: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
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

/// Checks every case of a file, of which there must be some.
pub(crate) fn check(file: &str, least: usize, check: impl Fn(&Case) -> Result<(), String>) {
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

/// Asserts that two texts are the same.
pub(crate) fn same(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("found\n{found}\nexpected\n{expected}"))
}
