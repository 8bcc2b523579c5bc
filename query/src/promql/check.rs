//! The type check: which expressions may stand where. Called by the parser.

use trine_storage::{MatchOp, Matcher};

use super::ast::{Aggregate, Binary, Expr, ExprKind, Selector, ValueType};
use super::error::Fault;
use super::functions::{Action, Function, Optional};
use crate::text::{Span, quote};
use crate::vector::{AggregateOp, Cardinality, Comparison, METRIC_NAME, MatchLabels};

type Checked = Result<(), Fault>;

/// Checks an expression and all below it, the innermost first.
pub(super) fn check(expr: &Expr) -> Checked {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => Ok(()),
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
            check_selector(selector, expr.span)
        }
        ExprKind::Subquery(subquery) => {
            check(&subquery.expr)?;
            match subquery.expr.value_type() {
                ValueType::InstantVector => Ok(()),
                other => Err(Fault::new(
                    expr.span,
                    format!(
                        "subquery is only allowed on instant vector, got {} instead",
                        type_id(other)
                    ),
                )),
            }
        }
        ExprKind::Aggregate(aggregate) => check_aggregate(aggregate),
        ExprKind::Binary(binary) => {
            check(&binary.lhs)?;
            check(&binary.rhs)?;
            check_binary(binary, expr.span)
        }
        ExprKind::Unary { expr: inner, .. } => {
            check(inner)?;
            match inner.value_type() {
                ValueType::Scalar | ValueType::InstantVector => Ok(()),
                other => Err(Fault::new(
                    expr.span,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant \
                         vector, got {}",
                        quote(other.name())
                    ),
                )),
            }
        }
        ExprKind::Call {
            function,
            arguments,
        } => check_call(function, arguments, expr.span),
        ExprKind::Paren(inner) => check(inner),
    }
}

/// The short type name, which only one text uses.
fn type_id(of: ValueType) -> &'static str {
    match of {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::InstantVector => "vector",
        ValueType::RangeVector => "matrix",
    }
}

fn expect_type(expr: &Expr, wanted: ValueType, place: &str) -> Checked {
    check(expr)?;
    let got = expr.value_type();
    if got == wanted {
        return Ok(());
    }
    let (wanted, got) = (wanted.name(), got.name());
    Err(Fault::new(
        expr.span,
        format!("expected type {wanted} in {place}, got {got}"),
    ))
}

fn check_selector(selector: &Selector, span: Span) -> Checked {
    let names = || {
        let exact = |m: &&Matcher| m.name() == METRIC_NAME && m.op() == MatchOp::Equal;
        selector.matchers.iter().filter(exact)
    };
    // The name before the braces is the last matcher.
    if let Some(name) = &selector.name
        && let Some(other) = selector
            .matchers
            .iter()
            .rev()
            .skip(1)
            .find(|m| m.name() == METRIC_NAME)
    {
        return Err(twice(span, name, other.value()));
    }
    if let (Some(first), Some(second)) = (names().next(), names().nth(1)) {
        return Err(twice(span, first.value(), second.value()));
    }
    if selector.matchers.iter().all(Matcher::matches_empty) {
        let message = "vector selector must contain at least one non-empty matcher";
        return Err(Fault::new(span, message));
    }
    Ok(())
}

fn twice(span: Span, first: &str, second: &str) -> Fault {
    let (first, second) = (quote(first), quote(second));
    Fault::new(
        span,
        format!("metric name must not be set twice: {first} or {second}"),
    )
}

fn check_aggregate(aggregate: &Aggregate) -> Checked {
    expect_type(
        &aggregate.expr,
        ValueType::InstantVector,
        "aggregation expression",
    )?;
    let Some(parameter) = &aggregate.parameter else {
        return Ok(());
    };
    let wanted = match aggregate.op {
        AggregateOp::CountValues => ValueType::String,
        _ => ValueType::Scalar,
    };
    expect_type(parameter, wanted, "aggregation parameter")
}

fn check_call(function: &Function, arguments: &[Expr], span: Span) -> Checked {
    let most = function.arguments.len();
    let fault = |bound: &str, count: usize| {
        let (name, got) = (quote(function.name), arguments.len());
        let text = format!("expected {bound}{count} argument(s) in call to {name}, got {got}");
        Err(Fault::new(span, text))
    };
    match function.optional {
        Optional::No if arguments.len() != most => return fault("", most),
        Optional::Last | Optional::Any if arguments.len() + 1 < most => {
            return fault("at least ", most - 1);
        }
        Optional::UpTo(_) if arguments.len() + 1 < most => return fault("at least ", most - 1),
        Optional::Last if arguments.len() > most => return fault("at most ", most),
        Optional::UpTo(more) if arguments.len() + 1 > most + more => {
            return fault("at most ", most + more - 1);
        }
        _ => {}
    }
    let place = format!("call to function {}", quote(function.name));
    for (at, argument) in arguments.iter().enumerate() {
        if at == 1 && matches!(function.action, Action::Info) {
            check_label_selector(argument)?;
            continue;
        }
        if let Some(wanted) = function.arguments.get(at).or(function.arguments.last()) {
            expect_type(argument, *wanted, &place)?;
        }
    }
    Ok(())
}

/// The second argument of `info` names labels only, and may be empty.
fn check_label_selector(argument: &Expr) -> Checked {
    match &argument.kind {
        ExprKind::Selector(selector) if selector.name.is_none() => Ok(()),
        ExprKind::Selector(_) => Err(Fault::new(
            argument.span,
            "expected label selectors only, got vector selector instead",
        )),
        _ => Err(Fault::new(argument.span, "expected label selectors only")),
    }
}

fn check_binary(binary: &Binary, span: Span) -> Checked {
    use ValueType::{InstantVector, Scalar};
    let (op, op_span) = (binary.op, binary.op_span);
    let types = (binary.lhs.value_type(), binary.rhs.value_type());
    if binary.comparison == Comparison::Bool && !op.is_comparison() {
        let message = "bool modifier can only be used on comparison operators";
        return Err(Fault::new(op_span, message));
    }
    if op.is_comparison() && binary.comparison == Comparison::Filter && types == (Scalar, Scalar) {
        return Err(Fault::new(
            op_span,
            "comparisons between scalars must use BOOL modifier",
        ));
    }
    if let Some(matching) = &binary.matching
        && let MatchLabels::On(names) = &matching.labels
        && let Some(both) = names.iter().find(|name| matching.include.contains(name))
    {
        let label = quote(both);
        let message = format!("label {label} must not occur in ON and GROUP clause at once");
        return Err(Fault::new(op_span, message));
    }
    for (operand, of) in [(&binary.lhs, types.0), (&binary.rhs, types.1)] {
        if !matches!(of, Scalar | InstantVector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(Fault::new(operand.span, message));
        }
    }
    if types == (InstantVector, InstantVector) {
        let filled = binary.matching.as_ref().is_some_and(|m| !m.fill.is_none());
        if op.is_set() && filled {
            let message = "filling in missing series not allowed for set operators";
            return Err(Fault::new(span, message));
        }
        let one_sided = binary.matching.as_ref().is_some_and(|matching| {
            matches!(
                matching.cardinality,
                Cardinality::ManyToOne | Cardinality::OneToMany
            )
        });
        if op.is_set() && one_sided {
            let op = quote(&op.to_string());
            return Err(Fault::new(
                span,
                format!("no grouping allowed for {op} operation"),
            ));
        }
    } else if op.is_set() {
        let op = quote(&op.to_string());
        let message = format!("set operator {op} not allowed in binary scalar expression");
        return Err(Fault::new(span, message));
    }
    Ok(())
}

/// Takes the matching away where an operand is not a vector. Called as soon as both operands are
/// known; the types are checked later.
pub(super) fn settle_matching(binary: &mut Binary, span: Span) -> Checked {
    let vectors = [&binary.lhs, &binary.rhs]
        .iter()
        .all(|operand| operand.value_type() == ValueType::InstantVector);
    if vectors {
        return Ok(());
    }
    let Some(matching) = binary.matching.take() else {
        return Ok(());
    };
    let message = if !matching.labels.names().is_empty() {
        "vector matching only allowed between instant vectors"
    } else if !matching.fill.is_none() {
        "filling in missing series only allowed between instant vectors"
    } else {
        return Ok(());
    };
    check(&binary.lhs)?;
    check(&binary.rhs)?;
    check_binary(binary, span)?;
    Err(Fault::new(span, message))
}
