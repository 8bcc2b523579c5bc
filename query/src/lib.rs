//! PromQL, LogQL and TraceQL over small source traits.
//!
//! Each language is a hand-written lexer, parser and printer with a position on every node, and an
//! engine that asks a `Source` for columns. It is not: a store, a server, an HTTP API.
//!
//! In reading order: [`text`] (durations, strings and numbers as the originals write them),
//! [`budget`] (what one query may use), [`vector`] (operators and aggregations over the steps of a
//! query, shared by the languages), then the languages. With the feature of an engine the language
//! module also holds the adapter that implements its source trait for that engine's snapshot.

pub mod budget;
#[cfg(any(feature = "promql", feature = "logql"))]
mod date;
#[cfg(feature = "logql")]
pub mod logql;
#[cfg(feature = "promql")]
pub mod promql;
pub mod text;
mod threads;
#[cfg(feature = "traceql")]
pub mod traceql;
pub mod vector;
