//! What is learned of data while it comes, beside storing it. `ingest` feeds it, `api` reads it.

pub mod patterns;
