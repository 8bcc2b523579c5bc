//! PromQL: lexer, parser with positions, printer, and an engine that asks a [`Source`] for series
//! and evaluates one series over all steps at a time.
//!
//! ```
//! use trine_query::promql;
//!
//! let query = promql::parse("sum by (job) (rate(http_requests_total[5m]))")?;
//! assert_eq!(query.to_string(), "sum by (job) (rate(http_requests_total[5m]))");
//! let error = promql::parse("sum(").unwrap_err();
//! assert_eq!(error.to_string(), "1:5: parse error: unclosed left parenthesis");
//! # Ok::<(), promql::SyntaxError>(())
//! ```

mod annotation;
pub mod ast;
mod check;
mod error;
pub mod eval;
pub mod functions;
mod lexer;
mod parser;
mod prettifier;
mod printer;
pub mod source;
#[cfg(feature = "tsdb")]
pub mod tsdb;

pub use ast::{Expr, Query, ValueType};
pub use error::{QueryError, SyntaxError};
pub use eval::{Engine, Options, QueryResult, Value, VectorSample};
pub use parser::{
    HistogramDescription, ParseOptions, Sequence, SeriesDescription, SeriesValue, parse,
    parse_selector, parse_series, parse_with,
};
pub use source::{Hints, SampleValue, Samples, SelectRequest, Series, SeriesIter, Source, Values};
