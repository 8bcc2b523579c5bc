//! Other forms of a query that must give the same answer.

use trine_query::promql::ast::{At, Expr, ExprKind};
use trine_query::promql::parse;

/// Functions whose value depends on the time of the evaluation itself.
const OF_THE_TIME: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// The query with `@ time_ms` on every selector and subquery that has none; `None` where that
/// would be another query.
pub(super) fn fixed_at(query: &str, time_ms: i64) -> Result<Option<String>, String> {
    let mut parsed = parse(query).map_err(|error| error.to_string())?;
    if asks_for_time(&parsed.expr) {
        return Ok(None);
    }
    fix(&mut parsed.expr, time_ms, Bare::Fixed);
    Ok(Some(parsed.to_string()))
}

/// The times at which a query that is fixed at `time_ms` is evaluated.
pub(super) fn other_times(time_ms: i64) -> Vec<i64> {
    if time_ms == 0 {
        return vec![-1000, 0, 1000];
    }
    vec![-10 * time_ms, 0, time_ms / 5, time_ms, 10 * time_ms]
}

/// Whether a query asks for its own start, end, range or step, which a range query changes.
pub(super) fn asks_for_steps(query: &str) -> bool {
    ["start()", "end()", "range()", "step()"]
        .iter()
        .any(|word| query.to_lowercase().contains(word))
}

fn asks_for_time(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_)
        | ExprKind::String(_)
        | ExprKind::Selector(_)
        | ExprKind::Range { .. } => false,
        ExprKind::Subquery(subquery) => asks_for_time(&subquery.expr),
        ExprKind::Aggregate(aggregate) => {
            aggregate.parameter.as_deref().is_some_and(asks_for_time)
                || asks_for_time(&aggregate.expr)
        }
        ExprKind::Binary(binary) => asks_for_time(&binary.lhs) || asks_for_time(&binary.rhs),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => asks_for_time(expr),
        ExprKind::Call {
            function,
            arguments,
        } => OF_THE_TIME.contains(&function.name) || arguments.iter().any(asks_for_time),
    }
}

/// Whether selectors without a time get one: not those of a subquery, which are evaluated at its
/// steps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Fixed,
    Kept,
}

fn fix(expr: &mut Expr, time_ms: i64, bare: Bare) {
    let fill = |at: &mut Option<At>| match at {
        Some(At::Time(_)) => {}
        Some(At::Start | At::End) => *at = Some(At::Time(time_ms)),
        None if bare == Bare::Fixed => *at = Some(At::Time(time_ms)),
        None => {}
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
            fill(&mut selector.modifiers.at);
        }
        ExprKind::Subquery(subquery) => {
            fill(&mut subquery.modifiers.at);
            fix(&mut subquery.expr, time_ms, Bare::Kept);
        }
        ExprKind::Aggregate(aggregate) => {
            if let Some(parameter) = aggregate.parameter.as_deref_mut() {
                fix(parameter, time_ms, bare);
            }
            fix(&mut aggregate.expr, time_ms, bare);
        }
        ExprKind::Binary(binary) => {
            fix(&mut binary.lhs, time_ms, bare);
            fix(&mut binary.rhs, time_ms, bare);
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => fix(expr, time_ms, bare),
        ExprKind::Call { arguments, .. } => {
            for argument in arguments {
                fix(argument, time_ms, bare);
            }
        }
    }
}
