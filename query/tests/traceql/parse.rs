//! What parses, what is refused and in which words, how queries are printed, and the trees they
//! become.

use serde_json::Value;
use trine_query::traceql::{parse, parse_attribute};

use super::trees::{self, Tree};
use super::{same, text};

/// Checks a query that must be read.
pub(super) fn valid(case: &Value) -> Result<(), String> {
    let query = case.as_str().unwrap();
    printed_twice(query)
}

/// Checks a query that is no TraceQL.
pub(super) fn parse_fails(case: &Value) -> Result<(), String> {
    let query = case.as_str().unwrap();
    let error = refused(query)?;
    match error.starts_with("parse error") {
        true => Ok(()),
        false => Err(format!("{query}\n      is refused too late: {error}")),
    }
}

/// Checks a query that makes no sense.
pub(super) fn validate_fails(case: &Value) -> Result<(), String> {
    let query = case.as_str().unwrap();
    let error = refused(query)?;
    match error.starts_with("parse error") {
        true => Err(format!("{query}\n      is refused too early: {error}")),
        false => Ok(()),
    }
}

fn refused(query: &str) -> Result<String, String> {
    match parse(query) {
        Ok(read) => Err(format!("{query}\n      is read as {read}")),
        Err(error) => Ok(error.to_string()),
    }
}

fn printed_twice(query: &str) -> Result<(), String> {
    let problem = |error| format!("{query}\n      {error}");
    let read = parse(query).map_err(problem)?;
    let printed = read.to_string();
    let again =
        parse(&printed).map_err(|error| format!("{query}\n      prints as {printed}: {error}"))?;
    same(query, &again.to_string(), &printed)?;
    same(
        query,
        &trees::of_query(&again).to_string(),
        &trees::of_query(&read).to_string(),
    )
}

/// Checks a case of `parse_cases`.
pub(super) fn case(case: &Value) -> Result<(), String> {
    let query = text(case, "query");
    let is_valid = case["valid"].as_bool().unwrap();
    match text(case, "kind") {
        "" if is_valid => {
            printed_twice(query)?;
            let read = parse(query).map_err(|error| error.to_string())?;
            if let Some(expected) = case["canonical"].as_str() {
                same(query, &read.to_string(), expected)?;
            }
            if let Some(expected) = case["ast"].as_str() {
                let expected = Tree::read(expected).normal();
                same(
                    query,
                    &trees::of_query(&read).normal().to_string(),
                    &expected.to_string(),
                )?;
            }
            Ok(())
        }
        "identifier" if is_valid => {
            let read = parse_attribute(query).map_err(|error| format!("{query}\n      {error}"))?;
            let expected = Tree::read(text(case, "ast"));
            same(
                query,
                &trees::of_attribute(&read).to_string(),
                &expected.to_string(),
            )
        }
        "identifier" => match parse_attribute(query) {
            Ok(read) => Err(format!("{query}\n      is read as {read}")),
            Err(_) => Ok(()),
        },
        "" => {
            let found = refused(query)?;
            let error = &case["error"];
            match error["message"].as_str() {
                Some(message) if !found.ends_with(message) => same(query, &found, message),
                _ => Ok(()),
            }
        }
        kind => Err(format!("{query}\n      is of the kind {kind}")),
    }
}

/// Checks the names of the words of a text.
pub(super) fn tokens_of(case: &Value) -> Result<(), String> {
    Err(format!("{}\n      has no words", text(case, "text")))
}

/// Checks a duration.
pub(super) fn duration(case: &Value) -> Result<(), String> {
    Err(format!("{}\n      has no words", text(case, "text")))
}
