//! What parses and still makes no sense: types that cannot meet, patterns that are none.

use trine_storage::regex::{Dot, LabelRegex};

use super::ast::{
    Attribute, FieldExpr, Intrinsic, Metrics, MetricsArgument, MetricsExpr, MetricsFunction,
    MetricsTerm, Op, Pipeline, Query, Root, ScalarExpr, SecondStage, SpansetExpr, Stage, Static,
};
use super::error::ParseError;
use crate::text::Span;

/// What is known of a value before it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    /// An attribute: decided when it is there.
    Any,
    Nil,
    Bool,
    Number,
    Str,
    Status,
    Kind,
}

/// Refuses queries that no span could answer.
pub(super) fn check(query: &Query) -> Result<(), ParseError> {
    match &query.root {
        Root::Search(found) => pipeline(found),
        Root::Metrics(found) => metrics_expr(found),
    }
}

fn pipeline(pipeline: &Pipeline) -> Result<(), ParseError> {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => spanset(expr)?,
            Stage::Filter { lhs, rhs, .. } => {
                let (left, right) = (scalar(lhs)?, scalar(rhs)?);
                if left != right && left != Type::Any && right != Type::Any {
                    let text = stage.to_string();
                    let what = format!("binary operations must operate on the same type: {text}");
                    return Err(error(lhs.span(), what));
                }
            }
            Stage::By(expr) => {
                field(expr)?;
                if !references_span(expr) {
                    let what =
                        format!("grouping field expressions must reference the span: by({expr})");
                    return Err(error(expr.span(), what));
                }
            }
            Stage::Coalesce => {}
            Stage::Select(attributes) => {
                for (attribute, span) in attributes {
                    supported(attribute, *span)?;
                }
            }
        }
    }
    Ok(())
}

/// How many labels the series of a function over time may have. Histograms take one of them for
/// their buckets.
const GROUPINGS_MAX: usize = 5;

fn metrics_expr(expr: &MetricsExpr) -> Result<(), ParseError> {
    let function = match &expr.term {
        MetricsTerm::Function(spans, stage) => {
            pipeline(spans)?;
            metrics(stage)?;
            Some(stage.function)
        }
        MetricsTerm::Scalar(..) => None,
        MetricsTerm::Binary { lhs, rhs, .. } => {
            for side in [lhs, rhs] {
                metrics_expr(side)?;
                if let MetricsTerm::Function(_, stage) = &side.term
                    && stage.function == MetricsFunction::Compare
                {
                    let what = format!("compare() takes part in no arithmetic: {expr}");
                    return Err(error(stage.span, what));
                }
            }
            None
        }
    };
    for second in &expr.then {
        match second {
            SecondStage::Top(count, span) | SecondStage::Bottom(count, span) if *count <= 0 => {
                return Err(error(
                    *span,
                    format!("limit must be greater than 0: {second}"),
                ));
            }
            SecondStage::Top(_, span)
            | SecondStage::Bottom(_, span)
            | SecondStage::Compare(_, _, span)
                if function == Some(MetricsFunction::Compare) =>
            {
                let what = format!("compare() takes no second stage: {second}");
                return Err(error(*span, what));
            }
            _ => {}
        }
    }
    Ok(())
}

fn metrics(stage: &Metrics) -> Result<(), ParseError> {
    for argument in &stage.arguments {
        match argument {
            MetricsArgument::Attribute(attribute, span) => supported(attribute, *span)?,
            MetricsArgument::Filter(filter) => spanset(filter)?,
            MetricsArgument::Literal(value, span) => {
                let quantile = match value {
                    Static::Float(number) => (0.0..=1.0).contains(number),
                    Static::Int(number) => (0..=1).contains(number),
                    _ => false,
                };
                if stage.function == MetricsFunction::QuantileOverTime && !quantile {
                    let what = format!("quantile must be between 0 and 1: {value}");
                    return Err(error(*span, what));
                }
            }
        }
    }
    for (attribute, span) in &stage.by {
        supported(attribute, *span)?;
    }
    if stage.function == MetricsFunction::Compare {
        compared(stage)?;
    }
    let own = match stage.function {
        MetricsFunction::QuantileOverTime | MetricsFunction::HistogramOverTime => 1,
        _ => 0,
    };
    let count = stage.by.len();
    if count + own > GROUPINGS_MAX {
        let what = format!("metrics group by {count} values not yet supported");
        return Err(error(stage.span, what));
    }
    Ok(())
}

/// The number of values and the times of `compare`.
fn compared(stage: &Metrics) -> Result<(), ParseError> {
    let what = match stage.numbers()[..] {
        [top, ..] if top <= 0 => "compare() top number of values must be integer greater than 0",
        [_, 0, 0] => return Ok(()),
        [_, start, end] if start <= 0 || end <= 0 => {
            "compare() timestamps must be positive integer unix nanoseconds"
        }
        [_, start, end] if end <= start => {
            "compare() end timestamp must be greater than start timestamp"
        }
        _ => return Ok(()),
    };
    Err(error(stage.span, what.to_owned()))
}

fn error(span: Span, message: String) -> ParseError {
    ParseError { span, message }
}

fn spanset(expr: &SpansetExpr) -> Result<(), ParseError> {
    match expr {
        SpansetExpr::Filter(None, _) => Ok(()),
        SpansetExpr::Filter(Some(inner), span) => match field(inner)? {
            Type::Bool | Type::Any => Ok(()),
            _ => {
                let what =
                    format!("span filter field expressions must resolve to a boolean: {expr}");
                Err(error(*span, what))
            }
        },
        SpansetExpr::Binary { lhs, rhs, .. } => {
            spanset(lhs)?;
            spanset(rhs)
        }
        SpansetExpr::Pipeline(inner) => pipeline(inner),
    }
}

fn scalar(expr: &ScalarExpr) -> Result<Type, ParseError> {
    match expr {
        ScalarExpr::Static(value, _) => Ok(type_of(value)),
        ScalarExpr::Aggregate { field: None, .. } => Ok(Type::Number),
        ScalarExpr::Aggregate {
            field: Some(inner),
            span,
            ..
        } => {
            let found = field(inner)?;
            if !matches!(found, Type::Number | Type::Any) {
                let what =
                    format!("aggregate field expressions must resolve to a number type: {expr}");
                return Err(error(*span, what));
            }
            if !references_span(inner) {
                let what = format!("aggregate field expressions must reference the span: {expr}");
                return Err(error(*span, what));
            }
            Ok(Type::Number)
        }
        ScalarExpr::Binary { lhs, rhs, .. } => {
            for side in [lhs, rhs] {
                if scalar(side)? != Type::Number {
                    let what = format!("illegal operation for the given types: {expr}");
                    return Err(error(side.span(), what));
                }
            }
            Ok(Type::Number)
        }
        ScalarExpr::Of(inner, aggregate, _) => {
            pipeline(inner)?;
            scalar(aggregate)
        }
    }
}

fn references_span(expr: &FieldExpr) -> bool {
    let mut found = false;
    expr.attributes(&mut |_| found = true);
    found
}

fn type_of(value: &Static) -> Type {
    match value {
        Static::Nil => Type::Nil,
        Static::Bool(_) => Type::Bool,
        Static::Int(_) | Static::Float(_) | Static::Duration(_) => Type::Number,
        Static::Str(_) => Type::Str,
        Static::Status(_) => Type::Status,
        Static::Kind(_) => Type::Kind,
    }
}

fn supported(attribute: &Attribute, span: Span) -> Result<(), ParseError> {
    match attribute {
        Attribute::Named { parent: true, .. } | Attribute::Intrinsic(Intrinsic::Parent) => {
            Err(error(span, "parent not yet supported".to_owned()))
        }
        _ => Ok(()),
    }
}

fn attribute_type(attribute: &Attribute) -> Type {
    let Attribute::Intrinsic(intrinsic) = attribute else {
        return Type::Any;
    };
    use Intrinsic::{
        ChildCount, Duration, EventTimeSinceStart, InstrumentationName, InstrumentationVersion,
        Kind, NestedSetLeft, NestedSetParent, NestedSetRight, Parent, Status, TraceDuration,
    };
    match intrinsic {
        Duration | ChildCount | NestedSetLeft | NestedSetRight | NestedSetParent
        | TraceDuration | EventTimeSinceStart => Type::Number,
        Status => Type::Status,
        Kind => Type::Kind,
        InstrumentationName | InstrumentationVersion => Type::Any,
        Parent => Type::Nil,
        _ => Type::Str,
    }
}

fn field(expr: &FieldExpr) -> Result<Type, ParseError> {
    match expr {
        FieldExpr::Static(value, _) => Ok(type_of(value)),
        FieldExpr::Attribute(attribute, span) => {
            supported(attribute, *span)?;
            Ok(attribute_type(attribute))
        }
        FieldExpr::Not(inner, span) => match field(inner)? {
            Type::Bool | Type::Any => Ok(Type::Bool),
            _ => Err(error(
                *span,
                format!("illegal operation for the given type: {expr}"),
            )),
        },
        FieldExpr::Negate(inner, span) => match field(inner)? {
            Type::Number | Type::Any => Ok(Type::Number),
            _ => Err(error(
                *span,
                format!("illegal operation for the given type: {expr}"),
            )),
        },
        FieldExpr::Binary { op, lhs, rhs, span } => binary(*op, lhs, rhs, *span, expr),
    }
}

fn binary(
    op: Op,
    lhs: &FieldExpr,
    rhs: &FieldExpr,
    span: Span,
    whole: &FieldExpr,
) -> Result<Type, ParseError> {
    let (left, right) = (field(lhs)?, field(rhs)?);
    if left == Type::Nil || right == Type::Nil {
        let other = if left == Type::Nil { rhs } else { lhs };
        return nil(op, other, span, whole);
    }
    if left != right && left != Type::Any && right != Type::Any {
        let what = format!("binary operations must operate on the same type: {whole}");
        return Err(error(span, what));
    }
    let known = if left == Type::Any { right } else { left };
    let legal = match known {
        Type::Any | Type::Nil => true,
        Type::Bool => matches!(op, Op::And | Op::Or | Op::Equal | Op::NotEqual),
        Type::Number => !matches!(op, Op::And | Op::Or | Op::Match | Op::NotMatch),
        Type::Str => op.is_comparison(),
        Type::Status | Type::Kind => matches!(op, Op::Equal | Op::NotEqual),
    };
    if !legal {
        return Err(error(
            span,
            format!("illegal operation for the given types: {whole}"),
        ));
    }
    if matches!(op, Op::Match | Op::NotMatch) {
        let FieldExpr::Static(Static::Str(pattern), at) = rhs else {
            let what = format!("the right side of {op} must be a string: {whole}");
            return Err(error(span, what));
        };
        LabelRegex::with_dot(pattern, Dot::NotNewline)
            .map_err(|e| error(*at, format!("invalid regex: {e}: {whole}")))?;
    }
    Ok(if op.is_arithmetic() {
        Type::Number
    } else {
        Type::Bool
    })
}

/// `x = nil` and `x != nil` ask whether an attribute is there.
fn nil(op: Op, other: &FieldExpr, span: Span, whole: &FieldExpr) -> Result<Type, ParseError> {
    if !matches!(op, Op::Equal | Op::NotEqual) {
        return Err(error(
            span,
            format!("illegal operation for the given types: {whole}"),
        ));
    }
    match other {
        FieldExpr::Attribute(Attribute::Intrinsic(_), _) if op == Op::Equal => {
            let what = format!("intrinsics are never nil: {whole}");
            Err(error(span, what))
        }
        FieldExpr::Attribute(Attribute::Named { scope, key, .. }, _)
            if *scope == Some(super::source::Scope::Resource)
                && &**key == "service.name"
                && op == Op::Equal =>
        {
            Err(error(
                span,
                format!("resource.service.name is never nil: {whole}"),
            ))
        }
        _ => Ok(Type::Bool),
    }
}
