//! What parses, what is refused and in which words, and how queries are printed.

use serde_json::Value;
use trine_query::logql::ast::{Expr, LabelFilter, StageKind};
use trine_query::logql::{ParseError, parse, parse_selector};

use super::{same, text};

/// Checks a case of `parse_cases`.
pub(super) fn case(case: &Value) -> Result<(), String> {
    let query = text(case, "query");
    let parsed = parsed(case).map_err(|error| error.to_string());
    let problem = |what: &str| Err(format!("{query}\n      {what}"));
    let expr = match (parsed, case["valid"].as_bool().unwrap_or(true)) {
        (Ok(_), false) => return problem("is refused by Loki"),
        (Err(error), true) => return problem(&error),
        (Err(error), false) => {
            if let Some(expected) = case["error"].as_str() {
                same(query, &error, expected)?;
            }
            let part = text(case, "error_contains");
            if !error.contains(part) {
                return problem(&format!("{error} lacks {part}"));
            }
            return Ok(());
        }
        (Ok(expr), true) => expr,
    };
    let printed = expr.to_string();
    if let Some(expected) = case["canonical"].as_str() {
        same(query, &printed, expected)?;
    }
    match parse(&printed) {
        Ok(again) => same(query, &again.to_string(), &printed)?,
        // Selectors that are too broad for a query are fine where only selectors are asked for.
        Err(_) if case.get("api").is_some() => {}
        Err(error) => return problem(&format!("prints as {printed}: {error}")),
    }
    Ok(())
}

/// Reads the query of a case with the entry point that it names.
fn parsed(case: &Value) -> Result<Expr, ParseError> {
    let query = text(case, "query");
    match text(case, "api") {
        "matchers_only" => parse_selector(query).and_then(|_| parse(query)),
        _ => parse(query),
    }
}

/// Checks the names of the tokens of a text.
pub(super) fn lexer(_case: &Value) -> Result<(), String> {
    Err("the names of tokens are not shown".to_owned())
}

/// Checks a duration as it is compared with a label.
pub(super) fn duration(case: &Value) -> Result<(), String> {
    let query = format!("{{a=\"b\"}} | c > {}", text(case, "input"));
    let expr = parse(&query).map_err(|error| error.to_string())?;
    if let Expr::Log(log) = &expr
        && let [stage] = log.stages.as_slice()
        && let StageKind::LabelFilter(LabelFilter::Duration(filter)) = &stage.kind
    {
        let expected = case["nanoseconds"].to_string();
        return same(&query, &filter.value.to_string(), &expected);
    }
    Err(format!("{query} has no duration"))
}

/// Checks a set of labels as clients push it.
pub(super) fn label_set(_case: &Value) -> Result<(), String> {
    Err("there is no reader of label sets".to_owned())
}

/// Checks that a query of a benchmark's set parses.
pub(super) fn query(case: &Value) -> Result<(), String> {
    let query = text(case, "query");
    let filled = query
        .replace("${SELECTOR}", "{app=\"api\"}")
        .replace("${RANGE}", "5m")
        .replace("${LABEL_NAME}", "app")
        .replace("${LABEL_VALUE}", "api");
    let parsed = parse(&filled).map_err(|error| format!("{query}\n      {error}"))?;
    match (text(case, "kind"), parsed) {
        ("metric", Expr::Log(_)) | ("log", Expr::Metric(_)) => {
            Err(format!("{query}\n      is of the other kind"))
        }
        _ => Ok(()),
    }
}
