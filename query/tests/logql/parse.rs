//! What parses, what is refused and in which words, and how queries are printed.

use serde_json::Value;
use trine_query::logql::ast::{Expr, LabelFilter, StageKind};
use trine_query::logql::{QueryError, parse, parse_bytes, parse_selector, tokens};
use trine_storage::Labels;

use super::dashboards::{Outcome, run};
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
    if let Some(expected) = case["pretty"].as_str() {
        let line_max = case["pretty_max_line"].as_u64().unwrap_or(100) as usize;
        let pretty = expr.pretty_within(line_max);
        same(query, &pretty, expected)?;
        let again = parse(&pretty).map_err(|error| error.to_string())?;
        same("printed twice", &again.pretty_within(line_max), &pretty)?;
    }
    if let (Some(expected), Expr::Log(log)) = (case["has_filter"].as_bool(), &expr)
        && log.has_filter() != expected
    {
        return problem(&format!("has filters: {expected}"));
    }
    if let (Some(expected), Expr::Log(log)) = (case["reordered_stages"].as_str(), &expr) {
        let stages = log.filters_first();
        let stages: Vec<String> = stages.iter().map(ToString::to_string).collect();
        same(query, &stages.join(" "), expected)?;
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
fn parsed(case: &Value) -> Result<Expr, QueryError> {
    let query = match case["query_base64"].as_str() {
        Some(encoded) => base64(encoded),
        None => text(case, "query").as_bytes().to_owned(),
    };
    let expr = parse_bytes(&query)?;
    match (text(case, "api"), &expr) {
        ("matchers_only", _) => drop(parse_selector(text(case, "query"))?),
        ("sample_expr", Expr::Log(_)) | ("log_selector", Expr::Metric(_)) => {
            return Err(QueryError::Invalid("is of the other kind".to_owned()));
        }
        _ => {}
    }
    Ok(expr)
}

/// The bytes that are written in base64.
fn base64(encoded: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for byte in encoded.trim_end_matches('=').bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == byte).unwrap();
        (bits, held) = ((bits << 6) | digit as u32, held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

/// Checks the names of the tokens of a text.
pub(super) fn lexer(case: &Value) -> Result<(), String> {
    let input = text(case, "input");
    let names: Vec<String> = tokens(input).map(|(name, _)| name).collect();
    let expected = case["tokens"].as_array().into_iter().flatten();
    let expected: Vec<&str> = expected.filter_map(Value::as_str).collect();
    same(input, &names.join(" "), &expected.join(" "))
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
pub(super) fn label_set(case: &Value) -> Result<(), String> {
    let input = text(case, "input");
    let matchers = parse_selector(input).map_err(|error| error.to_string())?;
    let pairs = matchers.iter().map(|m| (m.name(), m.value()));
    let labels = Labels::from_pairs(pairs).map_err(|error| error.to_string())?;
    let expected = case["labels"].as_object().into_iter().flatten();
    let expected = expected.map(|(name, value)| (name, value.as_str().unwrap_or("")));
    let expected = Labels::from_pairs(expected).map_err(|error| error.to_string())?;
    same(input, &labels.to_string(), &expected.to_string())
}

/// Checks that a query of a benchmark's set parses and runs.
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
        (_, expr) => match run(&expr) {
            Outcome::Error(error) => Err(format!("{query}\n      {error}")),
            _ => Ok(()),
        },
    }
}
