//! What parses, what is refused and in which words, how queries are printed, and the trees they
//! become.

use serde_json::Value;
use trine_query::traceql::ast::Static;
use trine_query::traceql::{
    FilterError, completed, parse, parse_attribute, parse_filter, parse_lenient, parse_unchecked,
    tag_query, tokens,
};

use super::trees::{self, Tree};
use super::{same, text};

/// Checks a query that must be read.
pub(super) fn valid(case: &Value) -> Result<(), String> {
    let query = case.as_str().unwrap();
    parse(query).map_err(|error| format!("{query}\n      {error}"))?;
    printed_twice(query)
}

/// Checks a query that Tempo reads and does not answer. We do, but for what is about parents.
pub(super) fn unsupported(case: &Value) -> Result<(), String> {
    let query = case.as_str().unwrap();
    if !query.contains("parent") {
        return valid(case);
    }
    printed_twice(query)?;
    same(query, &refused(query)?, "parent not yet supported")
}

/// Checks a query that is no TraceQL.
pub(super) fn parse_fails(case: &Value) -> Result<(), String> {
    let query = case.as_str().unwrap();
    match parse_unchecked(query) {
        Ok(read) => Err(format!("{query}\n      is read as {read}")),
        Err(error) if error.message.starts_with("parse error") => Ok(()),
        Err(error) => Err(format!("{query}\n      has no place: {error}")),
    }
}

/// Checks a query that makes no sense.
pub(super) fn validate_fails(case: &Value) -> Result<(), String> {
    let query = case.as_str().unwrap();
    printed_twice(query)?;
    let error = refused(query)?;
    match error == "parent not yet supported" {
        true => Err(format!("{query}\n      is only unsupported")),
        false => Ok(()),
    }
}

fn refused(query: &str) -> Result<String, String> {
    match parse(query) {
        Ok(read) => Err(format!("{query}\n      is read as {read}")),
        Err(error) => Ok(error.to_string()),
    }
}

/// Checks that the printed query is the same query.
fn printed_twice(query: &str) -> Result<(), String> {
    let read = parse_unchecked(query).map_err(|error| format!("{query}\n      {error}"))?;
    let printed = read.to_string();
    let again = parse_unchecked(&printed)
        .map_err(|error| format!("{query}\n      prints as {printed}: {error}"))?;
    same(query, &again.to_string(), &printed)?;
    let (again, read) = (trees::of_query(&again), trees::of_query(&read));
    same(query, &again.to_string(), &read.to_string())
}

/// Checks a case of `parse_cases`.
pub(super) fn case(case: &Value) -> Result<(), String> {
    let query = text(case, "query");
    let is_valid = case["valid"].as_bool().unwrap();
    match text(case, "kind") {
        "" if is_valid => {
            printed_twice(query)?;
            let read = parse_unchecked(query).map_err(|error| error.to_string())?;
            if let Some(expected) = case["canonical"].as_str() {
                same(query, &read.to_string(), expected)?;
            }
            if let Some(expected) = case["noop"].as_bool() {
                let found = read.chooses_nothing();
                same(query, &found.to_string(), &expected.to_string())?;
            }
            if let Some(expected) = case["needs_full_trace"].as_bool() {
                let found = read.needs_whole_traces();
                same(query, &found.to_string(), &expected.to_string())?;
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
            let Err(found) = parse_unchecked(query) else {
                return Err(format!("{query}\n      is read"));
            };
            let error = &case["error"];
            let Some(message) = error["message"].as_str() else {
                return Ok(());
            };
            // Where Tempo gives its words back, they have no line, and their columns mean nothing.
            let (line, column) = (&error["line"], &error["col"]);
            let expected = match line.as_u64() {
                Some(1..) => format!("parse error at line {line}, col {column}: {message}"),
                _ => message.to_owned(),
            };
            match found.message.ends_with(&expected) {
                true => Ok(()),
                false => same(query, &found.message, &expected),
            }
        }
        kind => of_kind(kind, case),
    }
}

/// Checks a case that another entry point than [`parse`] reads.
fn of_kind(kind: &str, case: &Value) -> Result<(), String> {
    let query = text(case, "query");
    let is_valid = case["valid"].as_bool().unwrap();
    let canonical = text(case, "canonical");
    match (kind, is_valid) {
        ("lenient", true) => {
            let read = parse_lenient(query).map_err(|error| format!("{query}\n      {error}"))?;
            same(query, &read.to_string(), canonical)
        }
        ("lenient", false) => match parse_lenient(query) {
            Ok(read) => Err(format!("{query}\n      is read as {read}")),
            Err(_) => Ok(()),
        },
        ("lenient-token-cleanup", true) => {
            let found = completed(query).map_err(|error| error.to_string())?;
            same(query, &found, text(case, "cleaned"))
        }
        // The case writes any query with the same canonical form.
        ("autocomplete-canonical", true) => {
            let expected = tag_query(canonical).to_string();
            same(query, &tag_query(query).to_string(), &expected)
        }
        ("single-filter", _) => {
            let class = match parse_filter(query) {
                Ok(_) => "",
                Err(FilterError::Query(_)) => "parse-or-validate",
                Err(FilterError::Shape) => "unsupported-query",
                Err(FilterError::Intrinsic(_)) => "unsupported-intrinsic",
            };
            same(query, class, text(case, "error_class"))
        }
        _ => Err(format!("{query}\n      is of the kind {kind}")),
    }
}

/// Checks the names of the words of a text.
pub(super) fn tokens_of(case: &Value) -> Result<(), String> {
    let expected = case["tokens"].as_array().into_iter().flatten();
    let expected: Vec<&str> = expected.filter_map(Value::as_str).collect();
    let found = tokens(text(case, "text"));
    same(text(case, "text"), &found.join(" "), &expected.join(" "))
}

/// Checks a duration.
pub(super) fn duration(case: &Value) -> Result<(), String> {
    let query = format!("{{}} with(a={})", text(case, "text"));
    let read = parse(&query).map_err(|error| error.to_string())?;
    match read.hint("a") {
        Some(Static::Duration(found)) => same(&query, &found.to_string(), &case["ns"].to_string()),
        found => Err(format!("{query}\n      holds {found:?}")),
    }
}
