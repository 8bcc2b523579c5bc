//! What can be wrong with a TraceQL query, in Tempo's words.

use std::fmt;

use crate::budget::BudgetError;
use crate::text::Span;

/// A query that is not TraceQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Where.
    pub span: Span,
    /// The whole text for clients, with line and column where it has them.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}

/// A query that could not be answered.
#[derive(Debug, Clone)]
pub enum QueryError {
    /// The query asks for something that is not evaluated yet.
    Unsupported(String),
    /// The stages of the query cannot follow one another like this.
    Execution(String),
    /// The query used more than it may.
    Budget(BudgetError),
    /// The store could not be read.
    Source(trine_storage::Error),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(what) => write!(f, "{what} is not supported yet"),
            Self::Execution(what) => f.write_str(what),
            Self::Budget(error) => error.fmt(f),
            Self::Source(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for QueryError {}

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
