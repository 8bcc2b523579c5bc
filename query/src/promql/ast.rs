//! The syntax tree of PromQL. Built by the parser, checked, printed and evaluated by its
//! neighbours. Every node knows where it stands in the text.

use std::sync::Arc;

use trine_storage::Matcher;

use super::functions::Function;
use crate::text::Span;
use crate::vector::{AggregateOp, BinaryOp, Comparison, Grouping, Matching};

/// A query: its text and what it says. Prints in the canonical form.
#[derive(Debug, Clone)]
pub struct Query {
    /// What was written; positions refer to it.
    pub text: Arc<str>,
    /// The expression.
    pub expr: Expr,
}

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number a step.
    Scalar,
    /// A constant text.
    String,
    /// One value a series and step.
    InstantVector,
    /// Many samples a series and step.
    RangeVector,
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Debug, Clone)]
pub enum ExprKind {
    /// A number.
    Number(Number),
    /// A string.
    String(StringLiteral),
    /// An instant vector selector.
    Selector(Selector),
    /// A range vector selector, `selector[range]`.
    Range {
        /// Which series; its modifiers are those of the whole.
        selector: Selector,
        /// The length of the range, in milliseconds.
        range_ms: i64,
        /// What `range_ms` is computed from at run time, where it is no constant.
        range_expr: Option<Box<DurationExpr>>,
    },
    /// `expr[range:step]`
    Subquery(Subquery),
    /// `sum by (l) (expr)`
    Aggregate(Aggregate),
    /// `lhs op rhs`
    Binary(Box<Binary>),
    /// `-expr` or `+expr`
    Unary {
        /// The sign.
        sign: Sign,
        /// What follows it.
        expr: Box<Expr>,
    },
    /// `function(arguments)`
    Call {
        /// The function.
        function: &'static Function,
        /// Its arguments; optional ones may be missing.
        arguments: Vec<Expr>,
    },
    /// `(expr)`
    Paren(Box<Expr>),
}

/// A string literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// What it denotes; U+FFFD stands for what is not UTF-8.
    pub text: String,
    /// What it denotes where that is not UTF-8, as escapes such as `\xff` may make it.
    pub bytes: Option<Vec<u8>>,
}

/// A number literal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// Its value; seconds if it was written as a duration.
    pub value: f64,
    /// How it was written.
    pub form: NumberForm,
}

/// How a number was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberForm {
    /// `300`
    Plain,
    /// `5m`
    Duration,
}

/// A sign before an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// Which series, and when.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The metric's name where it was written before the braces.
    pub name: Option<String>,
    /// All matchers, that of `name` (the last one) included.
    pub matchers: Vec<Matcher>,
    /// When.
    pub modifiers: Modifiers,
}

/// `offset`, `@`, `anchored` and `smoothed`.
#[derive(Debug, Clone, Default)]
pub struct Modifiers {
    /// Milliseconds to look back, or forward if negative.
    pub offset_ms: Option<i64>,
    /// What `offset_ms` is computed from at run time, where it is no constant.
    pub offset_expr: Option<Box<DurationExpr>>,
    /// The time that replaces the evaluation time.
    pub at: Option<At>,
    /// Which samples beyond the borders of a range take part.
    pub extended: Option<Extended>,
}

/// How a selector reaches beyond its borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// `anchored`: the value at the start of the range is that of the sample before it.
    Anchored,
    /// `smoothed`: the values at both borders are interpolated.
    Smoothed,
}

impl Extended {
    /// The word in the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// A duration that is computed when the query is evaluated.
#[derive(Debug, Clone)]
pub struct DurationExpr {
    /// What it is.
    pub kind: DurationKind,
    /// Whether parentheses stand around it.
    pub wrapped: bool,
    /// Where it stands.
    pub span: Span,
}

/// What a duration expression is.
#[derive(Debug, Clone)]
pub enum DurationKind {
    /// A number of seconds, or a duration.
    Number(Number),
    /// `step()`: the distance of the query's steps.
    Step,
    /// `range()`: from the query's first step to its last.
    Range,
    /// `-expr`
    Negative(Box<DurationExpr>),
    /// `lhs op rhs`, where `op` is an arithmetic operator.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Its left operand.
        lhs: Box<DurationExpr>,
        /// Its right operand.
        rhs: Box<DurationExpr>,
    },
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
}

/// What follows `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since 1970.
    Time(i64),
    /// The start of the query.
    Start,
    /// The end of the query.
    End,
}

/// An instant vector expression, evaluated at many steps.
#[derive(Debug, Clone)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// The length of the range, in milliseconds.
    pub range_ms: i64,
    /// What `range_ms` is computed from at run time, where it is no constant.
    pub range_expr: Option<Box<DurationExpr>>,
    /// The distance of its steps, in milliseconds; `None` for the default.
    pub step_ms: Option<i64>,
    /// What `step_ms` is computed from at run time, where it is no constant.
    pub step_expr: Option<Box<DurationExpr>>,
    /// When.
    pub modifiers: Modifiers,
}

/// An aggregation.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The groups.
    pub grouping: Grouping,
    /// What stands before the vector, for operators that have it.
    pub parameter: Option<Box<Expr>>,
    /// The vector.
    pub expr: Box<Expr>,
}

/// A binary operator with its operands.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Where the operator stands.
    pub op_span: Span,
    /// Whether `bool` was written.
    pub comparison: Comparison,
    /// How two vectors are matched; `None` when an operand is a scalar.
    pub matching: Option<Matching>,
    /// The left operand.
    pub lhs: Box<Expr>,
    /// The right operand.
    pub rhs: Box<Expr>,
}

impl Expr {
    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::InstantVector,
            ExprKind::Range { .. } | ExprKind::Subquery(_) => ValueType::RangeVector,
            ExprKind::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::InstantVector,
            },
            ExprKind::Call { function, .. } => function.returns,
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => expr.value_type(),
        }
    }

    /// The expression without the parentheses around it.
    pub fn unwrapped(&self) -> &Self {
        match &self.kind {
            ExprKind::Paren(inner) => inner.unwrapped(),
            _ => self,
        }
    }
}

impl ValueType {
    /// The name that error texts use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::InstantVector => "instant vector",
            Self::RangeVector => "range vector",
        }
    }
}
