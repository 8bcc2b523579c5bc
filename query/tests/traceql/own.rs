//! Our own cases of the language, in `query/testdata/traceql/language`: a line is a query, indented
//! lines below it are what is expected.
//!
//! - `print.txt`: the canonical form, or nothing where it is the query itself;
//! - `refuse.txt`: the text of the error;
//! - `lenient.txt`: the query that a request for tags takes from what is typed so far.

use trine_query::traceql::{parse, tag_query};

use super::scripts::{self, Case, same};
use super::trees;

fn check(file: &str, least: usize, check: impl Fn(&Case) -> Result<(), String>) {
    scripts::check(&format!("traceql/language/{file}"), least, check);
}

#[test]
fn queries_print_in_canonical_form() {
    check("print.txt", 180, |case| {
        let query = parse(&case.query).map_err(|error| error.to_string())?;
        let expected = match case.body.as_str() {
            "" => &case.query,
            body => body,
        };
        same(&query.to_string(), expected)?;
        let again = parse(expected).map_err(|error| error.to_string())?;
        same(&again.to_string(), expected)?;
        let (again, query) = (trees::of_query(&again), trees::of_query(&query));
        same(&again.to_string(), &query.to_string())
    });
}

#[test]
fn queries_are_refused_in_these_words() {
    check("refuse.txt", 180, |case| match parse(&case.query) {
        Ok(query) => Err(format!("is read as {query}")),
        Err(error) => same(&error.to_string(), &case.body),
    });
}

#[test]
fn half_typed_queries_are_completed() {
    check("lenient.txt", 30, |case| {
        let query = tag_query(&case.query);
        same(&query.to_string(), &case.body)?;
        let again = parse(&case.body).map_err(|error| error.to_string())?;
        same(&again.to_string(), &case.body)
    });
}
