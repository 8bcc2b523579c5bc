//! What is learned of data while it comes, beside storing it. `ingest` feeds it, `api` reads it, and
//! `rounds` stores what becomes metrics.

mod attributes;
pub mod generator;
pub mod patterns;
#[cfg(test)]
mod requests;
mod resources;
pub mod rounds;
mod series;
mod service_graphs;
mod span_metrics;
