//! Errors of PromQL: of the text, and of the evaluation.

use std::fmt;

use crate::budget::BudgetError;
use crate::text::{Position, Span};
use crate::vector::VectorError;

/// A text is not a PromQL query. Prints as `line:column: parse error: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where in the text.
    pub span: Span,
    /// Line and column of its first byte.
    pub position: Position,
    /// What is wrong.
    pub message: String,
}

impl SyntaxError {
    pub(super) fn new(text: &str, fault: Fault) -> Self {
        let position = fault.span.position_in(text);
        Self {
            span: fault.span,
            position,
            message: fault.message,
        }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: parse error: {}", self.position, self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// A [`SyntaxError`] before its line and column are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) span: Span,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }
}

/// Why a query has no result. Each variant is one answer of the HTTP API.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum QueryError {
    /// The request makes no sense for this expression (bad data).
    Invalid(String),
    /// The evaluation failed on the data it met (execution).
    Execution(String),
    /// The query was stopped: too much data, too long, or cancelled.
    Budget(BudgetError),
    /// The store failed.
    Source(trine_storage::Error),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) | Self::Execution(text) => f.write_str(text),
            Self::Budget(error) => error.fmt(f),
            Self::Source(error) => write!(f, "expanding series: {error}"),
        }
    }
}

impl std::error::Error for QueryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid(_) | Self::Execution(_) => None,
            Self::Budget(error) => Some(error),
            Self::Source(error) => Some(error),
        }
    }
}

impl From<BudgetError> for QueryError {
    fn from(error: BudgetError) -> Self {
        Self::Budget(error)
    }
}

impl From<trine_storage::Error> for QueryError {
    fn from(error: trine_storage::Error) -> Self {
        Self::Source(error)
    }
}

impl From<VectorError> for QueryError {
    fn from(error: VectorError) -> Self {
        Self::Execution(error.to_string())
    }
}
