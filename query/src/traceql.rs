//! TraceQL: parse a query, search a source of spans.
//!
//! In reading order: [`ast`] is the tree, `lexer`, `parser`, `printer` and `validate` lead to it and
//! back, `lenient` reads what is still being typed, [`source`] is what a store of spans has to offer,
//! `lower` says what the store may skip and when it can count, `value` and `field` evaluate
//! expressions over columns, `spanset` combines sets of spans, `engine` runs a search, `metrics` makes
//! series over time.
//!
//! ```
//! let query = trine_query::traceql::parse(r#"{ span.http.status_code >= 500 } | count() > 2"#)?;
//! assert_eq!(query.to_string(), "{ span.http.status_code >= 500 }|(count()) > 2");
//! # Ok::<(), trine_query::traceql::ParseError>(())
//! ```

pub mod ast;
mod engine;
mod error;
mod field;
mod lenient;
mod lexer;
mod lower;
mod metrics;
mod parser;
mod printer;
pub mod source;
mod spanset;
#[cfg(feature = "tracestore")]
mod tracestore;
mod validate;
pub mod value;

pub use engine::{
    Engine, SearchOptions, SearchResult, ServiceStats, SpanResult, SpanSet, TraceSummary,
};
pub use error::{ParseError, QueryError};
pub use lenient::{
    CONDITION_GROUPS_MAX, FilterError, completed, parse_filter, parse_lenient, tag_filter,
    tag_query,
};
pub use lexer::{QUERY_BYTES_MAX, tokens};
pub use lower::{exact, filter, of_expression};
pub use metrics::{
    EXEMPLARS_DEFAULT, EXEMPLARS_MAX, Exemplar, MetricSeries, MetricsOptions, MetricsResult,
    default_step,
};
pub use parser::{NESTING_MAX, OPERATORS_MAX, parse, parse_attribute, parse_unchecked};

#[cfg(test)]
mod tests;
