//! LogQL: selectors, line filters, parsers and label filters over log lines, and metrics of them.
//!
//! [`parse`] makes the tree ([`ast`]), which prints back in canonical form; [`Engine`] evaluates
//! it over a [`source::Source`]. The metric half computes on [`crate::vector`].

pub mod ast;
mod engine;
mod error;
mod lexer;
#[cfg(feature = "logstore")]
pub mod logstore;
mod order;
mod parser;
mod pipeline;
mod prettifier;
mod printer;
pub mod source;
mod template;
mod units;

pub use engine::{
    Engine, Entry, LogRows, LogStream, Point, QueryResult, QueryValue, RangeQuery, Sample, Series,
    Stages, Stats, StreamEntry, TooManySeries,
};
pub use error::{ParseError, QueryError};
pub use lexer::tokens;
pub use parser::{NESTING_MAX, OPERATORS_MAX, QUERY_BYTES_MAX, parse, parse_bytes, parse_selector};

#[cfg(test)]
mod tests;
