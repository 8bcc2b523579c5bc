//! Our own cases of the language, in `query/testdata/logql/language`: a line is a query, indented
//! lines below it are what is expected.
//!
//! - `print.txt`: the canonical form, or nothing where it is the query itself;
//! - `refuse.txt`: the text of the error;
//! - `layout.txt`: behind the longest line allowed, the query as `format_query` lays it out.

use trine_query::logql::parse;

use super::scripts::{self, Case, same};

fn check(file: &str, least: usize, check: impl Fn(&Case) -> Result<(), String>) {
    scripts::check(&format!("logql/language/{file}"), least, check);
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
