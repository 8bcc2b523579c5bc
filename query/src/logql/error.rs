//! The errors of LogQL, in the words that its clients know.

use std::fmt;

use crate::text::Span;

/// A query that is not LogQL. `Display` is the whole text that clients show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// The bytes of the query that it is about.
    pub span: Span,
    /// Line and column (in characters, from 1) when the text names them. The line is 0 where Loki
    /// does not know it; both are in an empty query.
    pub position: Option<(usize, usize)>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) if (line, column) != (0, 0) => {
                write!(
                    f,
                    "parse error at line {line}, col {column}: {}",
                    self.message
                )
            }
            _ => write!(f, "parse error : {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}

/// Why a query has no answer.
#[derive(Debug, Clone)]
pub enum QueryError {
    /// The query is not LogQL, or a stage of it makes no sense.
    Parse(ParseError),
    /// The query is LogQL, but this version cannot evaluate it yet; the text names what.
    Unsupported(String),
    /// The query asks for what cannot be: the caller must change it.
    Invalid(String),
    /// A limit was reached; the text names it.
    Limit(String),
    /// The query was cancelled.
    Cancelled,
    /// The store failed.
    Source(trine_storage::Error),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => fmt::Display::fmt(error, f),
            Self::Unsupported(text) | Self::Invalid(text) | Self::Limit(text) => f.write_str(text),
            Self::Cancelled => f.write_str("the query was cancelled"),
            Self::Source(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for QueryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Parse(error) => Some(error),
            Self::Source(error) => Some(error),
            Self::Unsupported(_) | Self::Invalid(_) | Self::Limit(_) | Self::Cancelled => None,
        }
    }
}

impl From<ParseError> for QueryError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

impl From<trine_storage::Error> for QueryError {
    fn from(error: trine_storage::Error) -> Self {
        Self::Source(error)
    }
}
